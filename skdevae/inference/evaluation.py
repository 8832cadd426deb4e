"""What a trained module says about rows: posteriors, likelihoods, evidence. Float64, chunk by chunk, nothing random.

Likelihoods are in the model's units; :func:`log_units` leads to the user's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor

from ..nn.latent_grid import GridStatistics, LatentGrid, log_joint, summarize, total
from ..nn.likelihoods import LinearTables
from ..nn.models import AmortizedModel, GenerativeModel
from ..nn.priors import GaussianMixture, StandardNormal
from ..nn.rows import DenseRows
from ..table.source import RowSource, SparseRows
from .grid import GridLadder, LatentPosterior, latent_posterior
from .importance import GaussianApproximation, importance_log_evidence, normal_draws

#: nodes along each axis of the Gauss-Hermite rule for expectations under an encoder's Gaussian, and the most axes
_HERMITE_NODES, _MOST_HERMITE_COMPONENTS = 9, 2
#: quasi-random draws for such expectations in more dimensions, and for responsibilities of a prior's components
_ELBO_DRAWS, _RESPONSIBILITY_DRAWS = 256, 64
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


def integrates_on_grid(model: AmortizedModel, source: RowSource) -> bool:
    """Whether an amortised model's latent can be integrated exactly all the same.

    On a grid that is shared by all rows: of one dimension, with a standard normal prior, and without size factors,
    which make the likelihood at a grid point another one for every row.
    """
    return model.n_components == 1 and isinstance(model.prior, StandardNormal) and source.log_size is None


@torch.no_grad()
def predictive_log_evidence(model: GenerativeModel, source: RowSource, n_draws: int) -> Tensor:
    """log p(x) of every row under the predictive curves, integrated over the latent: (N,).

    On grids, or by importance sampling where an encoder was trained for more components than one, and for rows whose
    posterior is too narrow for any grid of two dimensions.
    """
    if isinstance(model, AmortizedModel) and not integrates_on_grid(model, source):
        encoded = encoder_posterior(model, source)
        sd = encoded.sd if model.posterior_family.is_gaussian else None
        return _sampled_log_evidence(model, source, encoded.mean, n_draws, sd)
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


def _sampled_log_evidence(
    model: GenerativeModel, source: RowSource, mean: Tensor, n_draws: int, sd: Tensor | None = None
) -> Tensor:
    """log p(x) of every row by importance sampling: (N,).

    Modes are looked for from ``mean`` (N, Q). Where q(z | x) is Gaussian, with ``sd`` (N, Q), it is a proposal as well.
    """
    draws = normal_draws(n_draws, model.n_components).to(source.like)
    values = torch.empty(len(source)).to(source.like)
    # Laplace's approximation takes the derivatives of every curve by every component.
    for index, rows in source.chunks(width=model.entries_per_point * model.n_components):
        encoded = None if sd is None else GaussianApproximation(mean[index], torch.diag_embed(sd[index]))
        values[index] = importance_log_evidence(model, rows.dense(), mean[index], draws, encoded)
    return values


@torch.no_grad()
def conditional_log_likelihood(model: GenerativeModel, source: RowSource, positions: Tensor) -> Tensor:
    """log p(x | z) of every row at a given z (N, Q), under the predictive curves: (N,)."""
    values = torch.empty(len(source)).to(source.like)
    for index, rows in _narrow_chunks(model, source):
        tables = model.predictive_tables(positions[index], rows.log_size)
        values[index] = model.likelihood.row_log_likelihood(rows.dense(), tables)
    return values


class EncodedPosterior(NamedTuple):
    """Mean, sd and ends of a central credible interval of the encoder's q(z | x), each (N, Q)."""

    mean: Tensor
    sd: Tensor
    lower: Tensor
    upper: Tensor


@torch.no_grad()
def encoder_posterior(model: AmortizedModel, source: RowSource, credible_level: float = 0.95) -> EncodedPosterior:
    """What the encoder (and the flow behind it) says of every row; the prior for rows without any observed entry."""
    fields = EncodedPosterior(*(torch.empty(len(source), model.n_components).to(source.like) for _ in range(4)))
    of_the_prior = _gaussian_fields(*_moments(model.latent_prior()), credible_level)
    nodes = None if model.posterior_family.is_gaussian else _nodes(model, source, _ELBO_DRAWS)
    for index, rows in source.chunks(width=max(source.n_features, 0 if nodes is None else nodes.numel())):
        encoding = model.encoder(rows.dense())
        if nodes is None:
            encoded = _gaussian_fields(encoding.mean, encoding.log_sd.exp(), credible_level)
        else:
            encoded = _drawn_fields(model.posterior_family.draw(encoding, nodes)[0], credible_level)
        for field, value, empty in zip(fields, encoded, of_the_prior, strict=True):
            field[index] = torch.where(without_entries(rows, source.like)[:, None], empty, value)
    return fields


def _gaussian_fields(mean: Tensor, sd: Tensor, credible_level: float) -> EncodedPosterior:
    half_width = norm.ppf(0.5 + 0.5 * credible_level) * sd
    return EncodedPosterior(mean, sd, mean - half_width, mean + half_width)


def _drawn_fields(z: Tensor, credible_level: float) -> EncodedPosterior:
    """From draws (S, B, Q)."""
    tail = 0.5 - 0.5 * credible_level
    levels = torch.tensor([tail, 1 - tail], dtype=z.dtype, device=z.device)
    return EncodedPosterior(z.mean(0), z.std(0, correction=0), *torch.quantile(z, levels, dim=0))


def _moments(mixture: GaussianMixture) -> tuple[Tensor, Tensor]:
    """Mean and sd of a mixture, (Q,) each."""
    weights = mixture.log_weights.exp()
    mean = weights @ mixture.means
    return mean, (weights @ (torch.exp(2 * mixture.log_sds) + (mixture.means - mean) ** 2)).sqrt()


def without_entries(rows: DenseRows | SparseRows, like: Tensor) -> Tensor:
    """Which rows have no observed entry: (B,)."""
    if rows.observed is None:
        return torch.zeros(len(rows), dtype=torch.bool, device=like.device)
    return rows.observed.sum(1) == 0


def _nodes(model: AmortizedModel, source: RowSource, n_draws: int) -> Tensor:
    """Noise (S, 1, Q), of equal weight, for expectations under every row's posterior."""
    return standard_normal_points(n_draws, model.n_components)[:, None].to(source.like)


@torch.no_grad()
def amortized_elbo(model: AmortizedModel, source: RowSource, n_draws: int = _ELBO_DRAWS) -> Tensor:
    """ELBO of every row with the encoder's q(z | x) and q(w), by quadrature or ``n_draws`` quasi-random draws: (N,).

    Of an autoencoder, log p(x | z) at the encoder's z.
    """
    nodes, weights = (t.to(source.like) for t in _standard_normal_rule(model.n_components, n_draws))
    prior = model.latent_prior()
    values = torch.zeros(len(source)).to(source.like)
    for index, rows in _narrow_chunks(model, source):
        dense = rows.dense()
        encoding = model.encoder(dense)
        if not model.variational:
            values[index] = model.log_likelihood(dense, encoding.mean)
            continue
        for node, weight in zip(nodes, weights, strict=True):
            z, log_q = model.posterior_family.draw(encoding, node.expand_as(encoding.mean))
            latent = model.divergence(encoding, z, log_q, prior)
            values[index] += weight * (model.log_likelihood(dense, z) - latent)
        values[index] = torch.where(without_entries(rows, source.like), 0.0, values[index])
    return values


@torch.no_grad()
def prior_responsibilities(model: AmortizedModel, source: RowSource) -> Tensor:
    """Posterior probability of every component of the prior, ``E_q(z | x) p(k | z)``: (N, K)."""
    prior = model.latent_prior()
    nodes = _nodes(model, source, _RESPONSIBILITY_DRAWS)
    values = torch.empty(len(source), len(prior.log_weights)).to(source.like)
    for index, rows in source.chunks(width=max(source.n_features, len(nodes) * values.shape[1])):
        z, _ = model.posterior_family.draw(model.encoder(rows.dense()), nodes)
        of_the_draws = prior.responsibilities(z).mean(0)
        values[index] = torch.where(without_entries(rows, source.like)[:, None], prior.log_weights.exp(), of_the_draws)
    return values


def _standard_normal_rule(n_components: int, n_draws: int) -> tuple[Tensor, Tensor]:
    """Nodes (S, Q) and weights (S,) for expectations under a standard normal: Gauss-Hermite, or quasi-random.

    Either has the mean 0 and the covariance I exactly: expectations of quadratic functions are right.
    """
    if n_components > _MOST_HERMITE_COMPONENTS:
        points = standard_normal_points(n_draws, n_components)
        return points, torch.full((len(points),), 1 / len(points))
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(_HERMITE_NODES))
    weights = weights / math.sqrt(2 * math.pi)
    grid = torch.cartesian_prod(*[nodes] * n_components).view(-1, n_components)
    return grid, torch.cartesian_prod(*[weights] * n_components).view(-1, n_components).prod(1)


def standard_normal_points(n_draws: int, n_components: int) -> Tensor:
    """Quasi-random points of equal weight, about ``n_draws`` and more than twice as many as components: (S, Q)."""
    half = normal_draws(max(n_draws, 4 * n_components) // 2, n_components)
    draws = torch.cat([half, -half])
    factor = torch.linalg.cholesky(draws.T @ draws / len(draws))
    return torch.linalg.solve_triangular(factor, draws.T, upper=False).T


@torch.no_grad()
def column_evidence(model: GenerativeModel, source: RowSource) -> Tensor:
    """Evidence of each column for each candidate, given the latents that all columns imply: (D, K).

    As in the fit: log-likelihood under the candidate's curve plus the log prior of the parameters that the curve takes.
    Latents of more dimensions than a grid can have are taken to be at the encoder's means.
    """
    if isinstance(model, AmortizedModel) and model.n_components not in _COLUMN_POINTS:
        return (_evidence_at(model, source, encoder_posterior(model, source).mean) + model.candidate_log_prior()).T
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
