"""Explained deviance: how much of a column its curve explains, where the other columns place the rows."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..nn.latent_grid import LatentGrid, counted, log_joint, log_likelihood
from ..nn.models import GenerativeModel
from ..nn.rows import DenseRows
from ..table.grid_source import GridSource, in_strata_of
from ..table.source import RowSource
from .base import narrow_chunks, share_a_grid
from .behaviors import groups_of
from .level_curves import working_scores
from .strategies import inference_for

#: points of the grid on which rows are placed
_POINTS = 513
#: Nats of a whole column that are taken for none: constants are searched for until a step would gain no more.
_NO_NATS = 1e-3
#: steps of that search at the most
_MOST_STEPS = 20


@torch.no_grad()
def explained_deviance(model: GenerativeModel, source: RowSource) -> Tensor:
    """Share of each column's deviance that its curve explains, beyond what rows carry beside their entries: (D,).

    An entry's deviance is twice the log-likelihood that is lost to the curve which suits that entry best. For
    measurements it is the squared residual, and the share is that of the variance. Each entry is predicted at the
    posterior mean of its curve, where the other columns place its row: without them, a column of noise would explain
    itself. It is compared with the best constant curve. A column of one value has no deviance to explain, and gets NaN.

    Groups of columns are left out in turn. Where no grid can serve all rows, none are: see
    :func:`~skdevae.inference.base.share_a_grid`.
    """
    saturated = fitted = torch.zeros(source.n_features).to(source.like)
    for rows, curves, z in _predictions(model, source):
        likelihood, curves = model.in_context(curves, rows.context)
        saturated = saturated + _sums(rows, likelihood.saturated_log_prob(rows.values, z[:, None]))
        fitted = fitted + _sums(rows, likelihood.log_prob(rows.values, curves, z[:, None]))
    constant = _log_likelihood_of_constants(model, source)
    return torch.where(saturated - constant > _NO_NATS, (fitted - constant) / (saturated - constant), torch.nan)


@torch.no_grad()
def positions_on_grid(model: GenerativeModel, source: RowSource) -> Tensor:
    """Posterior means (N,) of the latents of rows on one axis, by their given positions and their entries.

    One grid serves all rows, so this is for rows with given positions. Other strategies know of none.
    """
    grid = LatentGrid.standard_normal(_POINTS, model.z_max).to(source.like)
    with in_strata_of(model, source):
        tables = model.predictive_tables(grid.points)
        chunks = GridSource(source, model).chunks(len(grid.points))
        return torch.cat([log_joint(rows, tables, grid).softmax(1) @ grid.points[:, 0] for _, rows in chunks])


@torch.no_grad()
def moments_along(model: GenerativeModel, z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of an entry of each column, at positions z (P, Q), for average rows: (P, D) each."""
    curves = model.predictive_curves(z)
    return model.likelihood.mean(curves, z), model.likelihood.variance(curves, z)


def _predictions(model: GenerativeModel, source: RowSource) -> Iterator[tuple[DenseRows, Tensor, Tensor]]:
    """Rows, a few at a time, with the posterior means of their curves (B, D) and of their latents (B, Q)."""
    if model.n_components == 1 and share_a_grid(model, source):
        yield from _from_other_columns(model, source)
        return
    positions = inference_for(model, n_draws=1).mean(source)
    for index, rows in narrow_chunks(model, source):
        yield rows.dense(), model.predictive_curves(positions[index], rows.context), positions[index]


def _from_other_columns(model: GenerativeModel, source: RowSource) -> Iterator[tuple[DenseRows, Tensor, Tensor]]:
    grid = LatentGrid.standard_normal(_POINTS, model.z_max).to(source.like)
    with in_strata_of(model, source):
        tables = model.predictive_tables(grid.points)
        at_points = model.predictive_curves(grid.points)  # (P, D)
        groups = groups_of(tables, source, grid)
        for _, rows in source.chunks(max(2 * len(grid.points), source.n_features)):
            on_grid = model.adjusted(rows)
            joint, curves = (
                log_joint(on_grid, tables, grid),
                rows.dense().values.new_empty(len(rows), len(model.labels)),
            )
            for group in groups:
                own = on_grid.of_columns(group)
                q = (joint - log_likelihood(own, tables.of_columns(group), grid)).softmax(1)
                curves[:, group] = q @ at_points[:, group]
            yield rows.dense(), curves, joint.softmax(1) @ grid.points


def _log_likelihood_of_constants(model: GenerativeModel, source: RowSource) -> Tensor:
    """Log-likelihood of every column under the constant curve that suits it best: (D,)."""
    nowhere = torch.zeros(1, 1, model.n_components).to(source.like)
    level = model.likelihood.unlink(_means(source))
    for _ in range(_MOST_STEPS):
        total, information, scores = (torch.zeros_like(level) for _ in range(3))
        for _, rows in source.chunks(2 * source.n_features):
            dense = rows.dense()
            curves = level.expand_as(dense.values)
            likelihood, at = model.in_context(curves, dense.context)
            total += _sums(dense, likelihood.log_prob(dense.values, at, nowhere))
            of_entries, slopes = working_scores(model, dense, curves)
            information += counted(dense, of_entries).sum(0)
            scores += counted(dense, slopes).sum(0)
        step = torch.where(information > 0, scores / information, 0.0)
        if (step * scores).max() < _NO_NATS:
            break
        level = level + step.clamp(-1, 1)
    return total


def _means(source: RowSource) -> Tensor:
    """Mean of every column, (D,)."""
    total = n = torch.zeros(source.n_features).to(source.like)
    for _, rows in source.chunks(source.n_features):
        dense = rows.dense()
        observed = torch.ones_like(dense.values) if dense.observed is None else dense.observed
        total, n = total + counted(dense, dense.values).sum(0), n + counted(dense, observed).sum(0)
    return total / n.clamp(min=torch.finfo(n.dtype).tiny)


def _sums(rows: DenseRows, entries: Tensor) -> Tensor:
    """Entries (B, D) of rows that are observed, summed over the rows: (D,)."""
    return counted(rows, entries if rows.observed is None else torch.where(rows.observed > 0, entries, 0.0)).sum(0)
