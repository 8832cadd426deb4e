"""Exact training: one start of a model whose latent is integrated on a grid, by expectation maximisation."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace

import torch
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback

from .._warnings import warn_user
from ..nn.binned_columns import N_BINS, in_bins
from ..nn.latent_grid import GridStatistics, LatentGrid, all_positions_are_known
from ..nn.likelihoods import ColumnSummary
from ..nn.models import ExactModel
from ..nn.strata import repeated_over_strata, summed_over_strata
from ..table.column_summary import summarize_columns
from ..table.grid_source import in_strata_of
from ..table.source import RowSource
from .batches import ExpectationSteps, expected_statistics
from .behaviors import judge_of
from .callbacks import Annealing, Judgement, KeptAxis
from .effects import summary_less_effects
from .fitting import Fit, TrainingOptions, train
from .net import ADVICE
from .progress import announce
from .settings import FitSettings, TrainingDefaults

#: most components for which the latent is integrated on a grid
MAX_EXACT_COMPONENTS = 2
#: points of the grid along one axis, of a small and of a large table
_GRID_POINTS = {False: 129, True: 65}
#: points of the grid along each of two axes
_GRID_POINTS_2D = 49
#: gradient steps that follow each pass over a small and over a large table
_STEPS = {False: 2, True: 4}
#: passes over a large table, where nothing is said
_EPOCHS_OF_LARGE_TABLES = 50
#: most that the likelihood is divided by when q(z) starts, and nats that the start must explain of each row after that
_HOTTEST, _LEAST_EXPLAINED = 20.0, 2.0
#: share of the epochs in which not all features may be flat
_KEPT_SHARE = 0.1
#: nats that a row must tell of its latent, on average, for the fit to have found an axis
_LEAST_INFORMATION = 0.01
#: Adam's decay rates: with so few steps, its memory of squared gradients is short
BETAS = (0.9, 0.99)


def grid_of(source: RowSource, settings: FitSettings) -> LatentGrid:
    """The grid that a fit integrates the latent on."""
    default = _GRID_POINTS_2D if settings.n_components > 1 else _GRID_POINTS[source.is_large]
    n_points = settings.n_grid_points or default
    return LatentGrid.standard_normal(n_points, settings.z_max, settings.n_components).to(source.like)


def exact_options(
    source: RowSource,
    grid: LatentGrid,
    settings: FitSettings,
    defaults: TrainingDefaults,
    follows_path: bool = False,
) -> TrainingOptions:
    """How long and how fast a start, which may follow a path, is trained on the rows of a source."""
    are_known = all_positions_are_known(source.context, grid)
    rate = defaults.path_learning_rate if follows_path else defaults.exact_learning_rate
    return settings.options(
        settings.max_epochs or (_EPOCHS_OF_LARGE_TABLES if source.is_large else defaults.exact_epochs),
        _STEPS[source.is_large],
        learning_rate=defaults.known_learning_rate if are_known else rate,
        betas=BETAS,
        # There is nothing to anneal where no position depends on the curves.
        annealed_share=0.0 if are_known else defaults.annealed_share,
    )


def fit_exact(
    module: ExactModel,
    source: RowSource,
    validation: RowSource | None,
    summary: ColumnSummary,
    settings: FitSettings,
    defaults: TrainingDefaults,
    follows_path: bool = False,
) -> Fit:
    """Train a module that has been started, on the rows of a source; ``validation`` has the rows of early stopping."""
    grid = grid_of(source, settings)
    options = exact_options(source, grid, settings, defaults, follows_path)
    n_steps = options.steps_per_epoch
    batches = ExpectationSteps(source, module, summary, grid, n_gradient_steps=n_steps, updates=True)
    batches_valid = None
    if validation is not None:
        held_out = summarize_columns(validation, module.likelihood.counts)
        batches_valid = ExpectationSteps(validation, module, held_out, grid, n_gradient_steps=1, updates=False)
    with in_strata_of(module, source, *([] if validation is None else [validation])):
        hottest = starting_temperature(module, source, grid) if options.annealed_epochs else 1.0
        fresh = deepcopy(module.state_dict())
        # The user's own learning rate may be too large for training to get anywhere. Curves that have settled are no
        # measure for that: heat takes them apart again.
        is_asked = settings.learning_rate is not None and not follows_path
        before = _bound(module, source, summary, grid)[0] if is_asked else -math.inf
        fit = _train(module, batches, batches_valid, source, summary, grid, hottest, options, settings)
        if not fit.has_axis and hottest > 1 and not fit.interrupted:
            # Heat may have dissolved what little there is.
            announce("once more, without annealing")
            module.load_state_dict(fresh)
            fit = _train(module, batches, batches_valid, source, summary, grid, 1.0, options, settings)
        if fit.lower_bound < before and not fit.interrupted:
            _complain_of_steps(fit.lower_bound, before, settings.learning_rate)
        return fit


def settle_(
    module: ExactModel, sums: GridStatistics, summary: ColumnSummary, grid: LatentGrid, options: TrainingOptions
) -> None:
    """Let the curves of a module that has been started follow rows that stay at first guesses, which have sums.

    It takes as many steps as the training that follows, with its options.
    """
    optimizer = torch.optim.Adam(module.parameters(), lr=options.learning_rate, betas=options.betas, fused=True)
    for _ in range(options.max_epochs * options.steps_per_epoch):
        optimizer.zero_grad()
        module(sums, summary, grid).total.backward()
        optimizer.step()


def _complain_of_steps(after: float, before: float, learning_rate: float | None) -> None:
    """Say that training has made a model worse: it raises where single precision, in which models are kept, is left."""
    message = (
        f"Training ended at a bound of {after:.4g} nats a sample, below the {before:.4g} that it began with: steps of "
        f"learning_rate={learning_rate} are too large for so many epochs. {ADVICE}"
    )
    if abs(after) > torch.finfo(torch.float32).max:
        raise ValueError(message)
    warn_user(message, ConvergenceWarning)


@torch.no_grad()
def _bound(
    module: ExactModel, source: RowSource, summary: ColumnSummary, grid: LatentGrid
) -> tuple[float, GridStatistics]:
    """The bound of a module on the rows of a source, in nats a row, and the sums that it is made of."""
    statistics = expected_statistics(module, source, grid)
    return -float(module(statistics, summary_less_effects(summary, module, source), grid).total), statistics


def _train(
    module: ExactModel,
    batches: ExpectationSteps,
    batches_valid: ExpectationSteps | None,
    source: RowSource,
    summary: ColumnSummary,
    grid: LatentGrid,
    hottest: float,
    options: TrainingOptions,
    settings: FitSettings,
) -> Fit:
    """One run from a fresh module, whose q(z) starts at a temperature."""
    module.is_judged = False
    judge = judge_of(module, source, grid)
    schedules: list[Callback] = [Annealing(source.total_weight, hottest, options.annealed_epochs)]
    if judge is not None and not source.is_large:
        last = (options.annealed_epochs + options.max_epochs) // 2
        if all_positions_are_known(source.context, grid):
            last = 0  # what is known of the rows does not grow
        schedules.append(Judgement(judge, options.annealed_epochs, last))
        # Until the last judgement, neither convergence nor early stopping is judged.
        options = replace(options, annealed_epochs=last)
    elif judge is None and module.flat_candidate is not None and not options.annealed_epochs:
        schedules.append(KeptAxis(math.ceil(_KEPT_SHARE * options.max_epochs)))
    # A judgement of a large table costs as much as several of its epochs. One, at the end, has to do: an axis that
    # rests on so much does not need to know which features are flat.
    result = train(module, batches, batches_valid, options, schedules, settings.callbacks or ())
    with torch.no_grad():
        module.latent_temperature = module.cluster_temperature = 1.0
        module.keeps_an_axis = False
        if judge is not None:
            announce("judging how features behave")
            judge()
        else:
            module.update_clusters_(expected_statistics(module, source, grid), grid)
        bound, statistics = _bound(module, source, summary, grid)
        is_given = source.context.axis is not None
        has_axis = is_given or float(statistics.divergence) / statistics.n_rows > _LEAST_INFORMATION
    return Fit(module, result.history, bound, result.interrupted, result.ran_out, has_axis)


@torch.no_grad()
def starting_temperature(module: ExactModel, source: RowSource, grid: LatentGrid) -> float:
    """What the likelihood may be divided by at the start, so that the axis does not dissolve.

    The more nats of each row the first guess of the (first) axis explains, the more heat it stands.
    """
    statistics = expected_statistics(module, source, grid)
    offsets = module.stratum_offsets
    sums, latents = in_bins(statistics, summed_over_strata(statistics.mass.mean(1), offsets), grid.points)
    latents = repeated_over_strata(latents, offsets)
    likelihood, means = module.linear_likelihood, sums.mean()
    # Of each stratum, if there are any: what covariates explain is not the axis.
    by_stratum = [part.unflatten(0, (-1, N_BINS)) for part in (sums.weighted, sums.mass)]
    weighted, mass = (part.sum(1, keepdim=True) for part in by_stratum)
    everywhere = (weighted / mass.clamp(min=1e-12)).expand(-1, N_BINS, -1).flatten(0, 1)
    curves = torch.stack([likelihood.unlink(means), likelihood.unlink(everywhere)], 1)  # (B, 2, D)
    by_bin, by_column = sums.expected_log_likelihood(likelihood.tables(curves, latents)).sum(1)
    explained = float(by_bin - by_column) / statistics.n_rows
    return min(_HOTTEST, max(1.0, explained / _LEAST_EXPLAINED))
