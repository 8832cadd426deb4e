"""Strategies: which way of inference suits which kind of model."""

from __future__ import annotations

from ..nn.models import AmortizedModel, ExactModel, GenerativeModel, MixtureModel
from .base import Inference
from .encoder import EncoderInference
from .grid import GridInference
from .laplace import LaplaceInference

#: kind of model -> its strategy
_STRATEGIES: dict[type[GenerativeModel], type[Inference]] = {
    ExactModel: GridInference,
    AmortizedModel: EncoderInference,
    MixtureModel: LaplaceInference,
}


def inference_for(model: GenerativeModel, n_draws: int) -> Inference:
    """The strategy for a trained model: the one place that looks at which kind of model it is.

    ``n_draws`` is how many draws an integral may take for each row where it is sampled.
    """
    for kind, strategy in _STRATEGIES.items():
        if isinstance(model, kind):
            return strategy(model, n_draws)
    raise TypeError(f"There is no way of inference for {type(model).__name__}.")
