"""Evidence of samples by importance sampling, for latents of more dimensions than a grid can have.

Draws for each sample come in equal parts from the Gaussian that fits its own posterior at its mode (Laplace's
approximation, from Gauss-Newton steps), from a wider one there, and from what the encoder, if there is one, takes for
its posterior; weights are against the mixture of all (the balance heuristic), so that none of them is large where any
proposal reaches. The first proposal's share serves as a control variate, which makes the evidence of a linear gaussian
decoder exact. A mode that no proposal reaches is not seen, and the evidence comes out too low. The draws are the
same quasi-random points for every sample: nothing depends on a seed, or on which samples come together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.functional import jvp

from ..nn.latent_grid import standard_normal_log_density
from ..nn.models import GenerativeModel, sized
from ..nn.priors import GaussianMixture
from ..nn.rows import DenseRows

#: Gauss-Newton steps, how often one may be halved, and the gain (nats) below which they end
_MAX_STEPS, _HALVINGS, _GAIN = 50, 8, 1e-10
#: how many times as wide as Laplace's approximation the second proposal is
_WIDENED = 1.5
#: least share of the mean weight that its control variate may leave
_LEAST_SHARE = 0.1
#: entries of a (draws, rows, features) array, few enough for a processor's cache
_DRAWN_ENTRIES = 1_000_000


class GaussianApproximation(NamedTuple):
    """N(mode, factor factor^T) for each row: (B, Q) and lower triangular (B, Q, Q)."""

    mode: Tensor
    factor: Tensor


def normal_draws(n_draws: int, n_components: int) -> Tensor:
    """Standard normal points of low discrepancy, always the same: (S, Q). Float64."""
    uniform = torch.quasirandom.SobolEngine(n_components, scramble=True, seed=0).draw(n_draws, dtype=torch.float64)
    return torch.special.ndtri(uniform.clamp(1e-12, 1 - 1e-12))


def log_joint_at(model: GenerativeModel, rows: DenseRows, z: Tensor, prior: GaussianMixture | None = None) -> Tensor:
    """log p(x, z) under the predictive curves, for rows at some positions each (S, B, Q): (S, B).

    ``prior`` is the model's, for callers that ask more than once.
    """
    if prior is None:
        prior = model.latent_prior()
    log_size = None if rows.log_size is None else rows.log_size.repeat(len(z))
    tables = model.predictive_tables(z.flatten(0, 1), log_size).unflatten(z.shape[:2])
    return model.likelihood.row_log_likelihood(rows, tables) + prior.log_density(z)


def laplace(
    model: GenerativeModel, rows: DenseRows, start: Tensor, prior: GaussianMixture | None = None
) -> GaussianApproximation:
    """The mode of each row's posterior, looked for from ``start`` (B, Q), and the curvature there.

    Every Gauss-Newton step is halved until the joint density does not fall, row by row.
    """
    if prior is None:
        prior = model.latent_prior()
    z = start.clone()
    moving = torch.arange(len(rows), device=start.device)  # rows that have not arrived; others are not looked at again
    for _ in range(_MAX_STEPS):
        part, here = rows.take(moving), z[moving]
        value = before = log_joint_at(model, part, here[None], prior)[0]
        gradient = _gradient(model, part, here, prior)
        precision = torch.linalg.cholesky(precision_at(model, part, here, prior))
        step = torch.cholesky_solve(gradient[..., None], precision)[..., 0]
        for _ in range(_HALVINGS):
            proposed = log_joint_at(model, part, (here + step)[None], prior)[0]
            better = proposed > value
            here, value = torch.where(better[:, None], here + step, here), torch.where(better, proposed, value)
            step = torch.where(better[:, None], torch.zeros_like(step), 0.5 * step)
            if not step.any():
                break
        z[moving] = here
        moving = moving[value - before >= _GAIN]
        if not len(moving):
            break
    return GaussianApproximation(z, torch.linalg.cholesky(covariance_at(model, rows, z, prior)))


def _gradient(model: GenerativeModel, rows: DenseRows, z: Tensor, prior: GaussianMixture) -> Tensor:
    with torch.enable_grad():
        position = z.detach().requires_grad_()
        return torch.autograd.grad(log_joint_at(model, rows, position[None], prior).sum(), position)[0]


def precision_at(model: GenerativeModel, rows: DenseRows, z: Tensor, prior: GaussianMixture) -> Tensor:
    """Curvature of ``-log p(z | x)`` near z (B, Q): the prior's precision and each row's information: (B, Q, Q)."""
    gradients = slopes(model.predictive_curves, z)
    information = model.likelihood.information(sized(model.predictive_curves(z), rows.log_size), z)
    if rows.observed is not None:
        information = information * rows.observed
    return prior.precision(z) + torch.einsum("bdp,bd,bdq->bpq", gradients, information, gradients)


def covariance_at(model: GenerativeModel, rows: DenseRows, z: Tensor, prior: GaussianMixture) -> Tensor:
    """Inverse of :func:`precision_at`: (B, Q, Q)."""
    return torch.cholesky_inverse(torch.linalg.cholesky(precision_at(model, rows, z, prior)))


def slopes(function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Derivatives of a function from (P, Q) to (P, D), row by row, with respect to each component of z: (P, D, Q)."""
    directions = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    return torch.stack([jvp(function, z, along.expand_as(z).contiguous())[1] for along in directions], -1)


def importance_log_evidence(
    model: GenerativeModel,
    rows: DenseRows,
    start: Tensor,
    draws: Tensor,
    encoded: GaussianApproximation | None = None,
) -> Tensor:
    """log of the mean importance weight of each row, on average a little below log p(x): (B,).

    ``start`` (B, Q) is where modes are looked for from, ``draws`` (S, Q) are standard normal, and ``encoded`` is what
    an encoder takes for the posterior.
    """
    prior = model.latent_prior()
    at_mode = laplace(model, rows, start, prior)
    proposals = [at_mode, GaussianApproximation(at_mode.mode, _WIDENED * at_mode.factor)]
    if encoded is not None:
        proposals.append(encoded)
    z = torch.cat(
        [
            proposal.mode + torch.einsum("bpq,sq->sbp", proposal.factor, part)
            for proposal, part in zip(proposals, draws.tensor_split(len(proposals)), strict=True)
        ]
    )  # (S, B, Q)
    shares = torch.tensor([len(part) for part in draws.tensor_split(len(proposals))]).to(z) / len(draws)
    n_at_once = max(1, _DRAWN_ENTRIES // (len(rows) * model.entries_per_point))
    log_weights, log_shares = [], []
    for part in z.split(n_at_once):
        densities = torch.stack([_log_density(proposal, part) for proposal in proposals], -1)
        log_density = torch.logsumexp(densities + shares.log(), -1)
        log_weights.append(log_joint_at(model, rows, part, prior) - log_density)
        log_shares.append(densities[..., 0] - log_density)
    evidence = _log_mean(torch.cat(log_weights), torch.cat(log_shares).exp())
    return evidence if rows.observed is None else torch.where(rows.observed.any(1), evidence, 0.0)


def _log_mean(log_weights: Tensor, control: Tensor) -> Tensor:
    """log of the mean weight (S, B) of each row, with a control variate (S, B) whose mean is known to be one: (B,).

    Where weights are proportional to it, as those of a Gaussian posterior are to the density of its own approximation,
    the mean is exact from a few draws.
    """
    largest = log_weights.amax(0)
    weights = torch.exp(log_weights - largest)
    mean, deviation = weights.mean(0), control - control.mean(0)
    slope = (weights * deviation).sum(0) / deviation.square().sum(0).clamp(min=torch.finfo(weights.dtype).tiny)
    controlled = mean - slope * (control.mean(0) - 1)
    # An estimate that the correction has all but used up is none.
    return torch.where(controlled > _LEAST_SHARE * mean, controlled, mean).log() + largest


def _log_density(proposal: GaussianApproximation, z: Tensor) -> Tensor:
    """log density of a Gaussian for each row at positions z (S, B, Q): (S, B)."""
    whitened = torch.linalg.solve_triangular(proposal.factor, (z - proposal.mode).permute(1, 2, 0), upper=False)
    log_volume = proposal.factor.diagonal(dim1=1, dim2=2).log().sum(1)  # (B,)
    return standard_normal_log_density(whitened.permute(2, 0, 1)) - log_volume
