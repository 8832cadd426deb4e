"""Evidence of columns: how well each candidate curve describes a feature, for features that choose between curves."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from ..nn.latent_grid import (
    GridStatistics,
    LatentGrid,
    counted,
    distribution_and_log,
    log_joint,
    log_prior,
    summarize,
    total,
)
from ..nn.likelihoods import Likelihood, LinearLikelihood
from ..nn.models import GenerativeModel
from ..nn.rows import DenseRows, Rows
from ..table.grid_source import GridSource, in_strata_of
from ..table.source import RowSource
from .base import narrow_chunks, share_a_grid
from .strategies import inference_for

#: points of the grid on which columns are judged along each axis, by number of dimensions
_COLUMN_POINTS = {1: 513, 2: 65}


@torch.no_grad()
def column_evidence(model: GenerativeModel, source: RowSource) -> Tensor:
    """Evidence of each column for each candidate, given the latents that all columns imply: (D, K).

    As in the fit, it is the log-likelihood under the candidate's curve plus the log prior of the parameters that the
    curve takes. The latents are integrated on a grid. Where no grid can serve all rows (latents of more dimensions,
    likelihoods that are not linear in the data, rows with size factors), they are taken to be at the posterior means.
    """
    has_grid = model.n_components in _COLUMN_POINTS and share_a_grid(model, source)
    evidence = _evidence_on_grid(model, source) if has_grid else _evidence_at_means(model, source)
    return (evidence + model.candidate_log_prior()).T


def _evidence_on_grid(model: GenerativeModel, source: RowSource) -> Tensor:
    """Log-likelihood of each column under each candidate, with the latents integrated: (K, D)."""
    grid = LatentGrid.standard_normal(_COLUMN_POINTS[model.n_components], model.z_max, model.n_components)
    grid = grid.to(source.like)
    with in_strata_of(model, source):
        tables = model.predictive_tables(grid.points)
        with_positive = tables.positive is not None

        def summarized(rows: Rows) -> GridStatistics:
            q, log_q = distribution_and_log(log_joint(rows, tables, grid))
            return summarize(rows, q, log_prior(rows, grid), with_positive, log_q)

        statistics = total(summarized(rows) for _, rows in GridSource(source, model).chunks(width=len(grid.points)))
        return model.expected_log_likelihood(statistics, grid.points)


def _evidence_at_means(model: GenerativeModel, source: RowSource) -> Tensor:
    """Log-likelihood of each column under each candidate, with the latents at the posterior means: (K, D)."""
    positions = inference_for(model, n_draws=1).mean(source)
    evidence = torch.zeros_like(model.assignment.responsibilities.T)
    for index, rows in narrow_chunks(model, source):
        z, dense = positions[index], rows.dense()
        likelihood, curves = model.candidates_in_context(model.curves(z, dense.context), dense.context)
        evidence += _summed_over_rows(likelihood, dense, curves, z)
    return evidence


def _summed_over_rows(likelihood: Likelihood, rows: DenseRows, candidates: Tensor, z: Tensor) -> Tensor:
    """Log-likelihood of each column under candidates (B, K, D) at the rows' own z (B, Q): (K, D)."""
    if not likelihood.is_linear:
        log_prob = likelihood.log_prob(rows.values[:, None], candidates, z[:, None, None, :])
        if rows.observed is not None:
            log_prob = torch.where(rows.observed[:, None] > 0, log_prob, 0.0)
        return counted(rows, log_prob).sum(0)
    linear = cast(LinearLikelihood, likelihood)
    at_rows = GridStatistics(
        counted(rows, rows.values),
        counted(rows, (rows.values > 0).to(rows.values)) if likelihood.has_positive_term else None,
        counted(rows, torch.ones_like(rows.values) if rows.observed is None else rows.observed),
        torch.zeros(()),
        len(rows),
    )
    own = (parameter if parameter.ndim == 1 else parameter[:, None] for parameter in linear.own_parameters())
    return at_rows.expected_log_likelihood(linear.coefficients(candidates, z[:, None, None, :], *own))
