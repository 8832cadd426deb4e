"""Evidence of samples by importance sampling, for latents of more dimensions than a grid can have.

The proposal of each sample is the Gaussian that fits its own posterior (Laplace's approximation, from Gauss-Newton
steps), so a linear gaussian decoder's evidence comes out exactly. A posterior of several modes is seen from one of
them, and its evidence comes out too low. The draws are the same quasi-random points for every sample: nothing depends
on a seed, or on which samples come together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.functional import jvp

from .latent_grid import standard_normal_log_density
from .models import GenerativeModel, sized
from .priors import GaussianMixture
from .rows import DenseRows

#: Gauss-Newton steps, how often one may be halved, and the gain (nats) below which they end
_MAX_STEPS, _HALVINGS, _GAIN = 50, 8, 1e-10
#: entries of a (draws, rows, features) array
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
        precision = torch.linalg.cholesky(_precision(model, part, here, prior))
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
    covariance = torch.cholesky_inverse(torch.linalg.cholesky(_precision(model, rows, z, prior)))
    return GaussianApproximation(z, torch.linalg.cholesky(covariance))


def _gradient(model: GenerativeModel, rows: DenseRows, z: Tensor, prior: GaussianMixture) -> Tensor:
    with torch.enable_grad():
        position = z.detach().requires_grad_()
        return torch.autograd.grad(log_joint_at(model, rows, position[None], prior).sum(), position)[0]


def _precision(model: GenerativeModel, rows: DenseRows, z: Tensor, prior: GaussianMixture) -> Tensor:
    """Prior precision plus the information that each row has about its z: (B, Q, Q)."""
    gradients = slopes(model.predictive_curves, z)
    information = model.likelihood.information(sized(model.predictive_curves(z), rows.log_size), z)
    if rows.observed is not None:
        information = information * rows.observed
    return prior.precision(z) + torch.einsum("bdp,bd,bdq->bpq", gradients, information, gradients)


def slopes(function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Derivatives of a function from (P, Q) to (P, D), row by row, with respect to each component of z: (P, D, Q)."""
    directions = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    return torch.stack([jvp(function, z, along.expand_as(z).contiguous())[1] for along in directions], -1)


def importance_log_evidence(model: GenerativeModel, rows: DenseRows, start: Tensor, draws: Tensor) -> Tensor:
    """log of the mean importance weight of each row, a lower bound of log p(x) on average: (B,).

    ``start`` (B, Q) is where modes are looked for from, ``draws`` (S, Q) are standard normal.
    """
    prior = model.latent_prior()
    proposal = laplace(model, rows, start, prior)
    log_density_at_draws = standard_normal_log_density(draws)  # (S,)
    log_volume = proposal.factor.diagonal(dim1=1, dim2=2).log().sum(1)  # (B,)
    n_at_once = max(1, _DRAWN_ENTRIES // (len(rows) * model.entries_per_point))
    log_weights = []
    for part, log_density in zip(draws.split(n_at_once), log_density_at_draws.split(n_at_once), strict=True):
        z = proposal.mode + torch.einsum("bpq,sq->sbp", proposal.factor, part)
        log_weights.append(log_joint_at(model, rows, z, prior) - log_density[:, None] + log_volume)
    return torch.logsumexp(torch.cat(log_weights), 0) - math.log(len(draws))
