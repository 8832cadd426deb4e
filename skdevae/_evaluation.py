"""What a trained module says about rows: posteriors, likelihoods, evidence. Float64, chunk by chunk, nothing random.

Likelihoods are in the model's units; :func:`log_units` leads to the user's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from .nn.importance import importance_log_evidence, normal_draws
from .nn.inference import GridLadder, LatentPosterior, latent_posterior
from .nn.latent_grid import GridStatistics, LatentGrid, log_joint, summarize, total
from .nn.likelihoods import LinearTables
from .nn.models import AmortizedModel, GenerativeModel, standard_normal_divergence
from .nn.rows import DenseRows
from .training.rows import RowSource, SparseRows

#: nodes along each axis of the Gauss-Hermite rule for expectations under an encoder's Gaussian, and the most axes
_HERMITE_NODES, _MOST_HERMITE_COMPONENTS = 9, 2
#: quasi-random draws for such expectations in more dimensions; more than the latent has
_ELBO_DRAWS = 256
#: points of the grid on which columns are judged, by number of dimensions
_COLUMN_POINTS = {1: 513, 2: 65}
#: grid points, by number of dimensions, that chunks of rows leave room for
_POSTERIOR_WIDTH = {1: 1025, 2: 129**2}


@torch.no_grad()
def exact_posterior(
    model: GenerativeModel,
    source: RowSource,
    tables: Callable[[Tensor], LinearTables],
    credible_level: float = 0.95,
) -> LatentPosterior:
    """Posterior of every row's latent under the coefficients that ``tables`` gives at points z (P, Q)."""
    ladder = GridLadder(tables, model.z_max, model.n_components, source.like)
    posterior = LatentPosterior.empty(len(source), model.n_components, source.like)
    for index, rows in source.chunks(width=_POSTERIOR_WIDTH[model.n_components]):
        posterior.put_(index, latent_posterior(rows, ladder, credible_level))
    return posterior


@torch.no_grad()
def predictive_log_evidence(model: GenerativeModel, source: RowSource, n_draws: int) -> Tensor:
    """log p(x) of every row under the predictive curves, integrated over the latent: (N,).

    On grids, or by importance sampling where an encoder was trained for more components than one, and for rows whose
    posterior is too narrow for any grid of two dimensions.
    """
    if isinstance(model, AmortizedModel) and model.n_components > 1:
        return _sampled_log_evidence(model, source, encoder_posterior(model, source)[0], n_draws)
    posterior = exact_posterior(model, source, model.predictive_tables)
    evidence = _with_constants(model, source, posterior.log_evidence)
    narrow = (posterior.resolved == 0).nonzero()[:, 0]
    if model.n_components > 1 and len(narrow):
        rows = source.take(narrow.cpu().numpy())
        evidence[narrow] = _sampled_log_evidence(model, rows, posterior.mean[narrow], n_draws)
    return evidence


@torch.no_grad()
def averaged_log_evidence(model: GenerativeModel, source: RowSource) -> Tensor:
    """log of the integral over z of exp(E_q(w) log p(x | z, w)) p(z), for every row: (N,). On grids."""
    posterior = exact_posterior(model, source, model.averaged_tables_at)
    return _with_constants(model, source, posterior.log_evidence)


def _with_constants(model: GenerativeModel, source: RowSource, evidence: Tensor) -> Tensor:
    for index, rows in source.chunks():
        evidence[index] += model.likelihood.row_constant(rows)
    return evidence


def _sampled_log_evidence(model: GenerativeModel, source: RowSource, start: Tensor, n_draws: int) -> Tensor:
    """log p(x) of every row by importance sampling around the mode found from ``start`` (N, Q): (N,)."""
    draws = normal_draws(n_draws, model.n_components).to(source.like)
    values = torch.empty(len(source)).to(source.like)
    for index, rows in _narrow_chunks(model, source):
        values[index] = importance_log_evidence(model, rows.dense(), start[index], draws)
    return values


@torch.no_grad()
def conditional_log_likelihood(model: GenerativeModel, source: RowSource, positions: Tensor) -> Tensor:
    """log p(x | z) of every row at a given z (N, Q), under the predictive curves: (N,)."""
    values = torch.empty(len(source)).to(source.like)
    for index, rows in _narrow_chunks(model, source):
        tables = model.predictive_tables(positions[index])
        values[index] = model.likelihood.row_log_likelihood(rows.dense(), tables)
    return values


@torch.no_grad()
def encoder_posterior(model: AmortizedModel, source: RowSource) -> tuple[Tensor, Tensor]:
    """Mean and sd of the encoder's q(z | x), (N, Q) each; the prior's for rows without any observed entry."""
    mean, sd = (torch.empty(len(source), model.n_components).to(source.like) for _ in range(2))
    for index, rows in source.chunks(width=source.n_features):
        mean[index], log_sd = model.posterior(rows.dense())
        sd[index] = log_sd.exp()
        if rows.observed is not None:
            empty = rows.observed.sum(1, keepdim=True) == 0
            mean[index], sd[index] = torch.where(empty, 0.0, mean[index]), torch.where(empty, 1.0, sd[index])
    return mean, sd


@torch.no_grad()
def amortized_elbo(model: AmortizedModel, source: RowSource) -> Tensor:
    """ELBO of every row with the encoder's q(z | x) and q(w): (N,)."""
    nodes, weights = (t.to(source.like) for t in _standard_normal_rule(model.n_components))
    mean, sd = encoder_posterior(model, source)
    values = -standard_normal_divergence(mean, sd.log())
    for index, rows in _narrow_chunks(model, source):
        dense = rows.dense()
        for node, weight in zip(nodes, weights, strict=True):
            values[index] += weight * model.log_likelihood(dense, mean[index] + sd[index] * node)
    return values


def _standard_normal_rule(n_components: int) -> tuple[Tensor, Tensor]:
    """Nodes (S, Q) and weights (S,) for expectations under a standard normal: Gauss-Hermite, or quasi-random.

    Either has the mean 0 and the covariance I exactly: expectations of quadratic functions are right.
    """
    if n_components > _MOST_HERMITE_COMPONENTS:
        half = normal_draws(_ELBO_DRAWS // 2, n_components)
        draws = torch.cat([half, -half])
        factor = torch.linalg.cholesky(draws.T @ draws / len(draws))
        return torch.linalg.solve_triangular(factor, draws.T, upper=False).T, torch.full((len(draws),), 1 / len(draws))
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(_HERMITE_NODES))
    weights = weights / math.sqrt(2 * math.pi)
    grid = torch.cartesian_prod(*[nodes] * n_components).view(-1, n_components)
    return grid, torch.cartesian_prod(*[weights] * n_components).view(-1, n_components).prod(1)


@torch.no_grad()
def column_evidence(model: GenerativeModel, source: RowSource) -> Tensor:
    """Evidence of each column for each candidate, given the latents that all columns imply: (D, K).

    As in the fit: log-likelihood under the candidate's curve plus the log prior of the parameters that the curve takes.
    Latents of more dimensions than a grid can have are taken to be at the encoder's means.
    """
    if isinstance(model, AmortizedModel) and model.n_components not in _COLUMN_POINTS:
        return (_evidence_at(model, source, encoder_posterior(model, source)[0]) + model.candidate_log_prior()).T
    grid = LatentGrid.standard_normal(_COLUMN_POINTS[model.n_components], model.z_max, model.n_components)
    grid = grid.to(source.like)
    tables = model.predictive_tables(grid.points)
    statistics = total(
        summarize(rows, log_joint(rows, tables, grid).softmax(1), grid.log_mass, tables.positive is not None)
        for _, rows in source.chunks(width=len(grid.points))
    )
    return (model.expected_log_likelihood(statistics, grid.points) + model.candidate_log_prior()).T


def _evidence_at(model: GenerativeModel, source: RowSource, positions: Tensor) -> Tensor:
    """Log-likelihood of each column under each candidate, for given latents (N, Q) of the rows: (K, D)."""
    evidence = torch.zeros_like(model.assignment.responsibilities.T)
    for index, rows in _narrow_chunks(model, source):
        dense, z = rows.dense(), positions[index]
        at_rows = GridStatistics(
            dense.values,
            (dense.values > 0).to(dense.values) if model.likelihood.has_positive_term else None,
            torch.ones_like(dense.values) if dense.observed is None else dense.observed,
            torch.zeros(()),
            len(dense),
        )
        evidence += model.expected_log_likelihood(at_rows, z)
    return evidence


def _narrow_chunks(model: GenerativeModel, source: RowSource) -> Iterator[tuple[slice, DenseRows | SparseRows]]:
    """Chunks few enough in rows for an array of (rows, candidates, features)."""
    return source.chunks(width=model.entries_per_point)


def log_units(source: RowSource) -> np.ndarray | float:
    """Log of the factor from the user's units to the model's, summed over each row's observed entries: (N,).

    Log densities in the user's units are those in the model's units minus this.
    """
    if source.scale is None:
        return 0.0
    logs = np.log(source.scale)
    return np.concatenate([~np.isnan(source.table[index]) @ logs for index, _ in source.chunks()])
