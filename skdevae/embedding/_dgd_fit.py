"""The fit of a deep generative decoder: training from a start, and what follows to make it an answer.

After training, the mixture is fitted again, empty components are dropped, the others are put in order, and the final
representations of the training samples are found.
"""

from __future__ import annotations

import copy
import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from skorch.history import History
from torch import Tensor

from ..inference.laplace import LaplaceInference, Modes
from ..inference.slopes import slopes
from ..nn.layers import global_draws_from
from ..nn.models import MixtureModel, build_model
from ..nn.representations import RepresentationLearning, Representations
from ..table.components import Projection
from ..table.source import RowSource
from ..training.batches import NumberedRows
from ..training.fitting import train_representations
from ..training.seeds import generator_from
from ..training.settings import FitSettings
from ._dgd_mixture import component_sizes, keep_components_, refit_mixture_, round_
from ._dgd_start import Start, column_moments, regressed

#: passes over the table that a fit takes at least, where ``max_epochs`` is None
_EPOCHS = 200
#: gradient steps that a fit takes at least, where ``max_epochs`` is None
_LEAST_STEPS = 2000


@dataclass(frozen=True)
class LearningRates:
    """Starting rates of Adam for the decoder, the representations and the mixture, and its decay rates for all."""

    decoder: float
    latent: float
    mixture: float
    betas: tuple[float, float]


@dataclass(frozen=True)
class TrainedDecoder:
    """What training leaves: the module, in evaluation mode, the representations, and how training went."""

    module: MixtureModel
    representations: Representations
    history: History
    interrupted: bool


@dataclass(frozen=True)
class SettledDecoder:
    """The end of a fit.

    Attributes
    ----------
    module : MixtureModel
        With its final mixture.
    inference : LaplaceInference
        With a float64 copy of the module. Its projection predicts representations, if they started at principal
        components.
    modes : Modes
        Final representations of the training rows.
    """

    module: MixtureModel
    inference: LaplaceInference
    modes: Modes


# ---- training -------------------------------------------------------------------------------------------------------


def start_model(config: dict[str, Any], source: RowSource, start: Start, seed: int) -> MixtureModel:
    """A new model with its mixture at the start, and with curves that are constant at the columns' means."""
    model = cast(MixtureModel, build_model(config, generator_from(seed))).to(source.like.device)
    components = (start.weights, start.means, start.variances)
    model.mixture.set_(*(torch.from_numpy(part).to(source.like) for part in components))
    mean, variance = (part.to(source.like) for part in column_moments(source))
    origin = mean.new_zeros(1, model.n_components)
    model.decoder.initialize_(model.likelihood.unlink(mean)[None], mean.new_ones(1), origin)
    model.likelihood.initialize_(mean, variance)
    return model


@torch.no_grad()
def check_user_decoder(model: MixtureModel, like: Tensor) -> None:
    """Raise unless a user's decoder takes latents and has a value for every feature."""
    training, n_components = model.training, model.n_components
    try:
        slopes(model.eval().predictive_curves, like.new_zeros(1, n_components))
    except ValueError:  # one of ours, with its own explanation
        raise
    except Exception as error:
        raise ValueError(
            f"decoder failed on latents of shape (n, {n_components}), which it must take with "
            f"n_components={n_components}: {error}"
        ) from error
    finally:
        model.train(training)


def train_decoder(
    model: MixtureModel,
    source: RowSource,
    start: Start,
    *,
    variational: bool,
    rates: LearningRates,
    settings: FitSettings,
    draws_globally: bool,
    seed: int,
) -> TrainedDecoder:
    """Train decoder, mixture and the representations of all rows of a source.

    ``variational`` representations are Gaussians. A decoder that ``draws_globally``, as the dropout of a user's network
    does, gets its draws from torch's global generator, which is seeded for the time.
    """
    positions = torch.from_numpy(start.representations).to(source.like)
    learning = RepresentationLearning(model, Representations.around(positions, model.latent_prior(), variational))
    noise_components = model.n_components if variational else None
    batches = NumberedRows(source, settings.batch_size, generator_from(seed), noise_components)
    steps = math.ceil(len(source) / settings.batch_size)
    options = settings.options(
        settings.max_epochs or max(_EPOCHS, math.ceil(_LEAST_STEPS / steps)),
        steps,
        learning_rate=rates.decoder,
        betas=rates.betas,
        annealed_share=0.0,
    )
    with global_draws_from(seed) if draws_globally else nullcontext():
        result = train_representations(
            learning, batches, options, rates.latent, rates.mixture, settings.callbacks or ()
        )
    return TrainedDecoder(
        model.eval().requires_grad_(False),
        learning.representations.requires_grad_(False),
        result.history,
        result.interrupted,
    )


# ---- settling -------------------------------------------------------------------------------------------------------


def settle(
    trained: TrainedDecoder,
    source: RowSource,
    projection: Projection | None,
    *,
    refits_mixture: bool,
    may_be_empty: bool,
    n_draws: int,
    tolerance: float,
) -> SettledDecoder:
    """Settle the mixture of a trained decoder, and find the final representations of its training rows.

    ``source`` gives them in float64. ``projection`` is the one that the representations started from, and ``tolerance``
    how near to a mode, in nats, a search may end.
    """
    learned = trained.representations
    if projection is not None:
        projection = regressed(projection, source, learned.means.double().cpu().numpy())
    model = copy.deepcopy(trained.module).double()
    inference = LaplaceInference(model, n_draws, projection, tolerance)
    drops_components = may_be_empty and source.context.component is None
    if refits_mixture and model.mixture.learned:
        _refit(inference, learned, source, drops_components)
    modes = _final_modes(inference, source, drops_components)
    trained.module.mixture = copy.deepcopy(model.mixture).float()
    return SettledDecoder(trained.module, inference, modes)


def _refit(inference: LaplaceInference, learned: Representations, source: RowSource, drops_components: bool) -> None:
    """Fit the mixture to what is known of the learned representations, and drop components that are empty then."""
    model, mean = inference.model, learned.means.double()
    while True:
        variance = learned.variances.double()
        if not variance.any():
            variance = inference.variances(source, mean)
        refit_mixture_(model, mean, variance, source)
        used = component_sizes(model, mean, source.weights) > 0
        round_(model.mixture)
        if used.all() or not drops_components:
            return
        keep_components_(model.mixture, np.nonzero(used)[0])


def _final_modes(inference: LaplaceInference, source: RowSource, drops_components: bool) -> Modes:
    """The modes of all rows, found again whenever components are dropped that no row belongs to.

    In the end, components are in the order of their sizes, unless they belong to classes.
    """
    model = inference.model
    while True:
        modes = inference.modes(source)
        if source.context.component is not None or not model.mixture.learned:
            return modes
        sizes = component_sizes(model, modes.position, source.weights)
        in_order = np.argsort(-sizes, kind="stable")
        if sizes.all() or not drops_components:
            keep_components_(model.mixture, in_order)
            return modes
        keep_components_(model.mixture, in_order[: np.count_nonzero(sizes)])
