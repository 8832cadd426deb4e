"""What a trained module says about rows: posteriors, likelihoods, evidence. Float64, chunk by chunk, nothing random.

Likelihoods are in the model's units; :func:`log_units` leads to the user's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from .nn.inference import GridLadder, LatentPosterior, latent_posterior
from .nn.latent_grid import LatentGrid, log_joint, summarize, total
from .nn.likelihoods import LinearTables
from .nn.models import AmortizedModel, FeatureClusterModel, standard_normal_divergence
from .nn.rows import DenseRows
from .training.rows import RowSource, SparseRows

#: nodes of the Gauss-Hermite rule for expectations under an encoder's Gaussian
_HERMITE_NODES = 9
#: points of the grid on which columns are judged
_COLUMN_POINTS = 513


@torch.no_grad()
def exact_posterior(
    source: RowSource,
    tables: Callable[[Tensor], LinearTables],
    z_max: float,
    credible_level: float = 0.95,
) -> LatentPosterior:
    """Posterior of every row's latent under the coefficients that ``tables`` gives at points z."""
    ladder = GridLadder(tables, z_max, source.like)
    posterior = LatentPosterior.empty(len(source), source.like)
    for index, rows in source.chunks(width=1025):
        posterior.put_(index, latent_posterior(rows, ladder, credible_level))
    return posterior


@torch.no_grad()
def log_evidence(
    model: FeatureClusterModel, source: RowSource, tables: Callable[[Tensor], LinearTables], z_max: float
) -> Tensor:
    """log p(x), integrated over the latent, of every row: (N,)."""
    evidence = exact_posterior(source, tables, z_max).log_evidence
    for index, rows in source.chunks():
        evidence[index] += model.likelihood.row_constant(rows)
    return evidence


@torch.no_grad()
def conditional_log_likelihood(model: FeatureClusterModel, source: RowSource, positions: Tensor) -> Tensor:
    """log p(x | z) of every row at a given z (N,), under the predictive curves: (N,)."""
    values = torch.empty_like(positions)
    for index, rows in _narrow_chunks(model, source):
        tables = model.predictive_tables(positions[index])
        values[index] = model.likelihood.row_log_likelihood(rows.dense(), tables)
    return values


@torch.no_grad()
def encoder_posterior(model: AmortizedModel, source: RowSource) -> tuple[Tensor, Tensor]:
    """Mean and sd of the encoder's q(z | x), (N,) each; the prior's for rows without any observed entry."""
    mean, sd = (torch.empty(len(source)).to(source.like) for _ in range(2))
    for index, rows in source.chunks(width=source.n_features):
        mean[index], log_sd = model.posterior(rows.dense())
        sd[index] = log_sd.exp()
        if rows.observed is not None:
            empty = rows.observed.sum(1) == 0
            mean[index], sd[index] = torch.where(empty, 0.0, mean[index]), torch.where(empty, 1.0, sd[index])
    return mean, sd


@torch.no_grad()
def amortized_elbo(model: AmortizedModel, source: RowSource) -> Tensor:
    """ELBO of every row with the encoder's q(z | x) and q(w), by Gauss-Hermite quadrature: (N,)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_HERMITE_NODES)
    mean, sd = encoder_posterior(model, source)
    values = torch.zeros_like(mean)
    for index, rows in _narrow_chunks(model, source):
        dense = rows.dense()
        for node, weight in zip(nodes, weights / math.sqrt(2 * math.pi), strict=True):
            values[index] += weight * model.log_likelihood(dense, mean[index] + sd[index] * node)
        values[index] -= standard_normal_divergence(mean[index], sd[index].log())
    return values


@torch.no_grad()
def column_evidence(model: FeatureClusterModel, source: RowSource, z_max: float) -> Tensor:
    """Evidence of each column for each behaviour, given the latents that all columns imply: (D, K).

    As in the fit: log-likelihood under the behaviour's curve plus the log prior of the parameters that the curve takes.
    """
    grid = LatentGrid.standard_normal(_COLUMN_POINTS, z_max).to(source.like)
    tables = model.predictive_tables(grid.points)
    statistics = total(
        summarize(rows, log_joint(rows, tables, grid).softmax(1), grid, tables.positive is not None)
        for _, rows in source.chunks(width=_COLUMN_POINTS)
    )
    all_tables = model.likelihood.tables(model.curves(grid.points), grid.points)
    return (statistics.expected_log_likelihood(all_tables) + model.slot_log_prior()).T


def _narrow_chunks(model: FeatureClusterModel, source: RowSource) -> Iterator[tuple[slice, DenseRows | SparseRows]]:
    """Chunks few enough in rows for an array of (rows, behaviours, features)."""
    return source.chunks(width=len(model.decoder.behaviors) * source.n_features)


def log_units(source: RowSource) -> np.ndarray | float:
    """Log of the factor from the user's units to the model's, summed over each row's observed entries: (N,).

    Log densities in the user's units are those in the model's units minus this.
    """
    if source.scale is None:
        return 0.0
    logs = np.log(source.scale)
    return np.concatenate([~np.isnan(source.table[index]) @ logs for index, _ in source.chunks()])
