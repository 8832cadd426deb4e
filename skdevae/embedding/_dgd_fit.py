"""The fit of a deep generative decoder: a start, training, and what settles the result.

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
from torch import Tensor, nn

from ..inference import Placement, TrainingRange
from ..inference.laplace import LaplaceInference, Modes
from ..inference.slopes import slopes
from ..nn.layers import global_draws_from
from ..nn.models import MixtureModel, build_model
from ..nn.neural_decoders import ConditionalDecoder
from ..nn.representations import RepresentationLearning, Representations
from ..table.linear_effects import effects_on_curves
from ..table.source import RowSource
from ..table.validation import check_layer_sizes
from ..training.batches import RowsWithRepresentations
from ..training.data_parallel import ALONE, Processes
from ..training.fitting import TrainingResult, raise_unless_finite, train_representations
from ..training.progress import announce
from ..training.seeds import generator_from
from ..training.settings import FitSettings
from ._dgd_mixture import component_sizes, keep_components_, refit_mixture_, round_
from ._dgd_parameters import DGDParameters
from ._dgd_start import Start, column_moments, find_start, regressed

#: passes over the table that a fit takes at least, where ``max_epochs`` is None
_EPOCHS = 200
#: gradient steps that a fit takes at least, where ``max_epochs`` is None
_LEAST_STEPS = 2000


@dataclass(frozen=True)
class DecoderFit:
    """The result of a fit.

    Attributes
    ----------
    module : MixtureModel
        In evaluation mode.
    config : dict
        What :func:`~skdevae.nn.models.build_model` would build it from.
    inference : LaplaceInference
        With a float64 copy of the module. Its projection predicts representations, if they started at principal
        components.
    modes : Modes
        Final representations of the training rows.
    labels : ndarray of shape (n_rows,)
        Their most probable components.
    training_range : TrainingRange
        What they were like, with a margin.
    history : skorch.history.History
    ran_out : bool
        Whether the epochs were over before the rule that ends training was met.
    """

    module: MixtureModel
    config: dict[str, Any]
    inference: LaplaceInference
    modes: Modes
    labels: np.ndarray
    training_range: TrainingRange
    history: History
    ran_out: bool


def fit_decoder(
    source: RowSource,
    parameters: DGDParameters,
    settings: FitSettings,
    *,
    likelihood: dict[str, Any],
    has_totals: bool,
    average_covariates: list[float],
    seeds: list[int],
    processes: Processes,
) -> DecoderFit:
    """Fit a decoder, a mixture and representations to the rows of a source.

    ``likelihood`` is the configuration of the likelihood. ``has_totals`` says that size factors are the totals of rows,
    so that the decoder gives shares. ``average_covariates`` are those of the training table, one for each column of the
    design. ``seeds`` are three: of the start, of the decoder's weights, and of training.

    Each of several processes trains the representations of its own rows. After training all have those of all rows, for
    whatever comes then depends on all of them.
    """
    announce("start: principal components, and a mixture on them")
    start = find_start(source, parameters, seeds[0])
    config = module_config(source, start, parameters, likelihood, has_totals, average_covariates)
    model = start_model(config, source, start, seeds[1])
    if parameters.decoder is not None:
        check_user_decoder(model)
    positions = torch.from_numpy(start.representations).to(source.like)
    own = positions[processes.owned(len(source))]
    learned = Representations.around(own, model.latent_prior(), parameters.variational)
    result = train(model, learned, source, parameters, settings, seeds[2], processes)
    learned = learned.map(lambda values: processes.gathered(values, len(source)))
    raise_unless_finite(learned)
    model = model.float()
    source = source.to(torch.float64)
    projection = start.projection
    if projection is not None:
        projection = regressed(projection, source, learned.means.double().cpu().numpy())
    inference = LaplaceInference(
        copy.deepcopy(model).double(), parameters.n_importance_samples, projection, float(parameters.latent_tol)
    )
    modes, labels = settle(
        inference,
        learned,
        source,
        refits=parameters.refit_mixture,
        may_be_empty=parameters.may_be_empty,
        processes=processes,
    )
    model.mixture = copy.deepcopy(inference.model.mixture).float()
    config["mixture"]["n_mixture_components"] = len(model.mixture.means)
    placement = Placement(modes.position, modes.log_joint)
    training_range = TrainingRange.learn(inference.model, source, placement)
    return DecoderFit(model, config, inference, modes, labels, training_range, result.history, result.ran_out)


# ---- the module -----------------------------------------------------------------------------------------------------


def module_config(
    source: RowSource,
    start: Start,
    parameters: DGDParameters,
    likelihood: dict[str, Any],
    has_totals: bool,
    average_covariates: list[float],
) -> dict[str, Any]:
    """All that :func:`~skdevae.nn.models.build_model` asks for: plain values, but for a decoder of the user's."""
    n_samples = float(source.weights.sum())
    prior_weight = n_samples if parameters.prior_weight == "n_samples" else parameters.prior_weight
    return {
        "n_samples": n_samples,
        "n_features": source.n_features,
        "n_components": int(parameters.n_components),
        "decoder": {
            **_decoder_config(parameters, has_totals, source),
            "average_covariates": average_covariates,
        },
        "likelihood": likelihood,
        "assignment": None,
        "mixture": {
            "n_mixture_components": len(start.weights),
            "covariance_type": parameters.covariance_type,
            "dirichlet_alpha": float(parameters.dirichlet_alpha),
            "softball_scale": float(start.radius),
            "softball_sharpness": float(parameters.softball_sharpness),
            "learned": parameters.n_clusters is not None,
        },
        "prior_weight": float(prior_weight),
        "weight_precision": n_samples * float(parameters.weight_decay),
        "z_max": math.inf,
        "beta": 1.0,
        "gamma": 1.0,
    }


def _decoder_config(parameters: DGDParameters, has_totals: bool, source: RowSource) -> dict[str, Any]:
    if parameters.decoder is not None:
        columns = None if source.columns is None else source.columns.tolist()
        return {
            "name": "module",
            "module": _copied(parameters.decoder),
            "n_outputs": int(source.table.shape[1]),
            "columns": columns,
        }
    return {
        "name": "neural",
        "n_components": int(parameters.n_components),
        "hidden_layer_sizes": check_layer_sizes("hidden_layer_sizes", parameters.hidden_layer_sizes),
        "activation": parameters.activation,
        "normalized": has_totals,
        "linear_skip": False,
    }


def _copied(decoder: nn.Module) -> nn.Module:
    """The user's decoder as it is now, whatever becomes of it later."""
    try:
        return copy.deepcopy(decoder)
    except Exception as error:
        raise ValueError(
            f"decoder cannot be copied, so neither a fit nor a saved model could keep it: {error}. Leave out of the "
            "module what copy.deepcopy does not take."
        ) from error


def start_model(config: dict[str, Any], source: RowSource, start: Start, seed: int) -> MixtureModel:
    """A new model with its mixture at the start, and with curves that follow covariates alone."""
    model = cast(MixtureModel, build_model(config, generator_from(seed))).to(source.like)
    components = (start.weights, start.means, start.variances)
    model.mixture.set_(*(torch.from_numpy(part).to(source.like) for part in components))
    mean, variance = (part.to(source.like) for part in column_moments(source))
    origin = mean.new_zeros(1, model.n_components)
    model.decoder.initialize_(model.likelihood.unlink(mean)[None], mean.new_ones(1), origin)
    cast(ConditionalDecoder, model.decoder).initialize_effects_(effects_on_curves(source, model.likelihood))
    model.likelihood.initialize_(mean, variance)
    return model


def check_user_decoder(model: MixtureModel) -> None:
    """Raise unless a decoder of the user's has finite values for every feature, of each latent alone.

    It is asked in single precision, in which most training is, and in double precision, in which all that follows is.
    """
    checked = copy.deepcopy(model).eval()
    for dtype in (torch.float32, torch.float64):
        like = next(checked.to(dtype).mixture.parameters())
        with torch.no_grad():
            _check_curves(checked, torch.eye(2, model.n_components, dtype=dtype, device=like.device))


def _check_curves(model: MixtureModel, latents: Tensor) -> None:
    """Raise unless a model's decoder takes latents (2, Q) of their dtype."""
    try:
        curves, first = model.predictive_curves(latents), model.predictive_curves(latents[:1])
        slopes(model.predictive_curves, latents)
    except ValueError:  # one of ours, with its own explanation
        raise
    except Exception as error:
        raise ValueError(
            f"decoder failed on latents of shape (n, {latents.shape[1]}) and dtype {latents.dtype}, which it must take "
            f"with n_components={latents.shape[1]}. Training is in single precision, and what follows in double: "
            f"{error}"
        ) from error
    if not torch.isfinite(curves).all():
        raise ValueError(f"decoder returned values that are not finite for the latents {latents.tolist()}.")
    if not torch.allclose(curves[:1], first, rtol=1e-3, atol=1e-3):
        raise ValueError(
            "decoder returned other values for a latent alone than with another one. In evaluation mode, "
            "decoder.eval(), it must be a function of each latent alone, and draw nothing."
        )


# ---- training -------------------------------------------------------------------------------------------------------


def train(
    model: MixtureModel,
    representations: Representations,
    source: RowSource,
    parameters: DGDParameters,
    settings: FitSettings,
    seed: int,
    processes: Processes = ALONE,
) -> TrainingResult:
    """Train a started model and the representations of this process's rows of a source, in place."""
    batch_size = settings.batch_size * processes.size
    generator = generator_from(seed)
    batches = RowsWithRepresentations(source, representations, batch_size, generator, processes)
    steps, rates = math.ceil(len(source) / batch_size), parameters.rates
    options = settings.options(
        settings.max_epochs or max(_EPOCHS, math.ceil(_LEAST_STEPS / steps)),
        steps,
        learning_rate=rates.decoder,
        betas=rates.betas,
        annealed_share=0.0,
    )
    learning = RepresentationLearning(model)
    # Layers of the user's decoder may draw, as dropout does, from torch's global generator.
    with nullcontext() if parameters.decoder is None else global_draws_from(seed + processes.rank):
        result = train_representations(
            learning,
            representations,
            batches,
            options,
            rates.latent,
            rates.mixture,
            settings.callbacks or (),
            processes,
        )
    for trained in (learning, representations):
        trained.eval().requires_grad_(False)
    return result


# ---- what follows training ------------------------------------------------------------------------------------------


def settle(
    inference: LaplaceInference,
    learned: Representations,
    source: RowSource,
    *,
    refits: bool,
    may_be_empty: bool,
    processes: Processes = ALONE,
) -> tuple[Modes, np.ndarray]:
    """Settle the mixture of a trained model, in place; the final representations and labels of its training rows.

    The model, that of ``inference``, and the rows of the source are in float64. In the end, components are in the order
    of their sizes, unless they belong to classes.
    """
    mixture, has_classes = inference.model.mixture, source.context.component is not None
    drops_components = may_be_empty and not has_classes
    if refits and mixture.learned:
        announce("fitting the mixture again")
        _refit(inference, learned, source, drops_components, processes)
    has_order = mixture.learned and not has_classes
    announce("representations and clusters of the samples")
    if has_order:
        sizes = component_sizes(inference.model, learned.means.double(), source.weights)
        keep_components_(mixture, _in_order(sizes, drops_components))
    labels, is_open = labels_of(inference, source, processes)
    open_rows = np.nonzero(is_open)[0]
    # Labels depend a little on the order of the components. Rows that went back and forth with it would have no end.
    for _ in range(len(mixture.means) if has_order else 0):
        sizes = np.bincount(labels, source.weights, minlength=len(mixture.means))
        kept = _in_order(sizes, drops_components)
        if np.array_equal(kept, np.arange(len(sizes))):
            break
        keep_components_(mixture, kept)
        rank = np.zeros(len(sizes), dtype=labels.dtype)
        rank[kept] = np.arange(len(kept))
        labels = rank[labels]
        if len(open_rows):
            labels[open_rows] = labels_of(inference, source.take(open_rows))[0]
    return processes.by_rows(inference.modes, source), labels


def labels_of(
    inference: LaplaceInference, source: RowSource, processes: Processes = ALONE
) -> tuple[np.ndarray, np.ndarray]:
    """The most probable component of every row, its own where it is known to belong to one; and which rows are open.

    Both are (N,). Of open rows, other draws may say another component.
    """
    labels, is_open = (found.cpu().numpy() for found in processes.by_rows(inference.labels, source))
    known = source.context.component
    return (labels if known is None else np.where(known < 0, labels, known)), is_open


def _in_order(sizes: np.ndarray, drops_components: bool) -> np.ndarray:
    """Numbers of components of given sizes (K,), largest first; without those that are empty if they are dropped."""
    in_order = np.argsort(-sizes, kind="stable")
    return in_order[: np.count_nonzero(sizes)] if drops_components else in_order


def _refit(
    inference: LaplaceInference,
    learned: Representations,
    source: RowSource,
    drops_components: bool,
    processes: Processes,
) -> None:
    """Fit the mixture to what is known of the learned representations, and drop components that are empty then."""
    model, mean = inference.model, learned.means.double()
    while True:
        variance = learned.variances.double()
        if not variance.any():
            variance = processes.by_rows(inference.variances, source, mean)
        refit_mixture_(model, mean, variance, source)
        used = component_sizes(model, mean, source.weights) > 0
        round_(model.mixture)
        if used.all() or not drops_components:
            return
        keep_components_(model.mixture, np.nonzero(used)[0])
