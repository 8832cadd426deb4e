"""Amortised training: one start of a model with an encoder, by reparameterised gradients of minibatches."""

from __future__ import annotations

import math

import torch
from skorch.callbacks import Callback
from torch import Tensor

from ..inference import column_evidence, mean_elbo
from ..nn.layers import noise_from
from ..nn.models import AmortizedModel
from ..table.components import projection_onto
from ..table.regression import effects_on
from ..table.source import RowSource
from .batches import RowsInOrder, ShuffledRows
from .behaviors import judge_of
from .callbacks import DivergenceWarmUp, Judgement
from .data_parallel import ALONE, Processes
from .exact import grid_of
from .fitting import Fit, train
from .progress import announce
from .seeds import generator_from
from .settings import FitSettings, TrainingDefaults

#: log of the posterior sd that the encoder starts from
_STARTING_LOG_SD = -1.0
#: share of the epochs after which behaviours are judged, and held: the rest fits the curves of those that were found
_JUDGED_SHARE = 0.6
#: Adam's decay rates
_BETAS = (0.9, 0.999)


def fit_amortized(
    module: AmortizedModel,
    source: RowSource,
    validation: RowSource | None,
    start: Tensor,
    starting_inputs: Tensor | None,
    seed: int,
    settings: FitSettings,
    defaults: TrainingDefaults,
    processes: Processes = ALONE,
) -> Fit:
    """Train a module whose decoder has been started, on the rows of a source.

    Parameters
    ----------
    module : AmortizedModel
    source, validation : RowSource
        Training rows, and those of early stopping, if any.
    start : Tensor of shape (N, Q)
        First guess of the latent of every row, which the encoder's linear map starts from.
    starting_inputs : Tensor of shape (K, D) or None
        Rows, on the encoder's scale, that a prior with components of its own starts from.
    seed : int
        Of batches and noise.
    settings, defaults
        How long and how fast.
    processes : Processes
        Those that share the batches out among them.
    """
    encoder = module.encoder
    effects = effects_on(source, encoder.inputs)
    if encoder.projection is not None:
        weights, offset = projection_onto(source, start, encoder.adjusted_inputs(effects))
        encoder.initialize_(weights, offset, _STARTING_LOG_SD)
    if effects is not None:
        encoder.initialize_covariates_(effects)
    if starting_inputs is not None:
        module.initialize_prior_(starting_inputs)
    batch_size = settings.batch_size * processes.size
    steps = math.ceil(len(source) / batch_size)
    max_epochs = settings.max_epochs or max(defaults.amortized_epochs, math.ceil(defaults.least_steps / steps))
    options = settings.options(
        max_epochs,
        steps,
        learning_rate=defaults.amortized_learning_rate,
        betas=_BETAS,
        annealed_share=settings.kl_warmup,
    )
    generator = generator_from(seed)
    batches = ShuffledRows(source, settings.n_components, batch_size, generator, processes.share_of(source))
    batches_valid = None
    if validation is not None:
        batches_valid = RowsInOrder(validation, settings.n_components, batch_size, seed, processes.even_share)
    warm_up = DivergenceWarmUp(settings.kl_warmup, max_epochs)
    schedules: list[Callback] = [warm_up]
    judge = judge_of(module, source, grid_of(source, settings)) if module.judges_behaviors else None
    if judge is not None:
        judged = math.ceil(max(settings.kl_warmup, _JUDGED_SHARE) * max_epochs)
        schedules.append(Judgement(judge, judged, judged))
    with noise_from(module, generator):
        result = train(module, batches, batches_valid, options, schedules, settings.callbacks or (), processes)
    module.eval()
    module.divergence_weight = 1.0
    if judge is not None:
        announce("judging how features behave")
        judge()
    elif module.assignment.is_held:  # training ended before warm-up did
        module.assignment.update_(column_evidence(module, source), settings.gamma)
    bound = _bound(module, source, settings.gamma)
    return Fit(module, result.history, bound, result.interrupted, result.ran_out)


def _bound(module: AmortizedModel, source: RowSource, gamma: float) -> float:
    """The bound of the training table, in nats per sample."""
    with torch.no_grad():
        of_the_model = module.log_prior() - gamma * module.assignment.divergence()
    return float(mean_elbo(module, source) + of_the_model / source.total_weight)
