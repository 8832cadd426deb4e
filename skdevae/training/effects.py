"""Covariate effects in exact training: updated in closed form, once an epoch, between gradient steps."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ..nn.covariate_effects import CovariateEffects, OffsetSums
from ..nn.latent_grid import GridStatistics, LatentGrid, counted
from ..nn.likelihoods import ColumnSummary
from ..nn.linear_tables import LinearTables
from ..nn.models import ExactModel
from ..nn.rows import Rows
from ..nn.strata import repeated_over_strata, spread_over_strata
from ..table.grid_source import GridSource
from ..table.source import RowSource


def effects_by_residuals_(module: ExactModel, effects: CovariateEffects, source: RowSource, grid: LatentGrid) -> None:
    """Update effects on measurements, given the q(z) that present parameters imply: a regression of what is left."""
    sums = residual_sums(module, effects, source, grid)
    if sums is not None:
        effects.update_(sums)


def residual_sums(
    module: ExactModel, effects: CovariateEffects, source: RowSource, grid: LatentGrid
) -> OffsetSums | None:
    """What the rows of a table say of effects on measurements; None where there are no rows."""
    if len(source) == 0:
        return None
    return source.summed(partial(_residual_sums_of_source, module, effects, module.tables_on(grid), grid))


def _residual_sums_of_source(
    module: ExactModel, effects: CovariateEffects, tables: LinearTables, grid: LatentGrid, source: RowSource
) -> OffsetSums:
    variance = module.linear_likelihood.own_parameters()[0].square()  # (D,)
    sums = None
    for _, rows in GridSource(source, module).chunks(max(len(grid.points), 2 * source.n_features)):
        part = _residual_sums(rows, effects, tables, variance, module.located(rows, tables, grid))
        sums = part if sums is None else sums + part
    assert sums is not None  # there are rows
    return sums


def _residual_sums(
    rows: Rows, effects: CovariateEffects, tables: LinearTables, variance: Tensor, q: Tensor
) -> OffsetSums:
    dense, covariates = rows.dense(), rows.context.covariates
    assert covariates is not None  # a model with effects has rows with covariates
    residual = dense.values / variance - q @ tables.slope
    told = (1 / variance).expand(len(dense), -1)
    if dense.observed is not None:
        residual, told = residual * dense.observed, told * dense.observed
    return OffsetSums.of_groups(effects.centered(covariates), counted(rows, residual), counted(rows, told))


def effects_by_strata_(
    module: ExactModel, effects: CovariateEffects, statistics: GridStatistics, grid: LatentGrid
) -> None:
    """Update effects on other data from the sums of every stratum: a Newton step."""
    strata, phi = module.strata, module.assignment.responsibilities.T
    assert strata is not None  # sums are those of strata
    with torch.enable_grad():
        offsets = effects.offsets(strata).detach().requires_grad_()
        candidates = module.expected_log_likelihood(statistics, grid.points, offsets=offsets)
        (first,) = torch.autograd.grad((phi * candidates).sum(), offsets)
    curves = spread_over_strata(module.predictive_curves(grid.points), offsets.detach())
    told = statistics.mass * module.likelihood.information(curves, repeated_over_strata(grid.points, offsets))
    second = told.unflatten(0, (len(strata), -1)).sum(1)
    effects.update_(OffsetSums.of_groups(effects.centered(strata), first, second))


def summary_less_effects(summary: ColumnSummary, module: ExactModel, source: RowSource) -> ColumnSummary:
    """The summary of a table of measurements less the present effects of covariates; others stay as they are."""
    if module.effects is None or module.has_strata:
        return summary
    return replace(summary, sum_of_squares=squares_less_effects(module, source).to(summary.sum_of_squares))


def squares_less_effects(module: ExactModel, source: RowSource) -> Tensor:
    """Sums of squares (D,) of measurements less the present effects of covariates."""
    return source.summed(partial(_squares_less_effects, module))


def _squares_less_effects(module: ExactModel, source: RowSource) -> Tensor:
    squares = torch.zeros(source.n_features).to(source.like)
    for _, rows in GridSource(source, module).chunks(2 * source.n_features):
        squares += counted(rows, rows.dense().values.square()).sum(0)
    return squares
