"""Gaussian approximations: the mode of each row's posterior, and the curvature of the log joint density there."""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..nn.latent_grid import standard_normal_log_density
from ..nn.models import GenerativeModel
from ..nn.priors import GaussianMixture
from ..nn.rows import DenseRows
from .draws import cubature_points
from .slopes import slopes

#: Gauss-Newton steps at the most
_MAX_STEPS = 50
#: how often one step may be halved
_HALVINGS = 8
#: gain of a step (nats) below which a row has arrived
_GAIN = 1e-10
#: gain of a step (nats) below which the next one takes the same curvature, which costs more than all the rest
_NEAR = 0.1
#: most by which an averaged Gaussian's variances differ from those of the Gaussian that it is averaged over
_MOST_CHANGE = 4.0
#: entries of an array of derivatives of all curves by all components, few enough for a processor's cache
_SLOPE_ENTRIES = 400_000
#: how often a diagonal is raised, ten times as much each time, from rounding to its own size
_RAISES = 17


class GaussianApproximation(NamedTuple):
    """N(mode, factor factor^T) for each row: (B, Q) and lower triangular (B, Q, Q)."""

    mode: Tensor
    factor: Tensor

    def at(self, noise: Tensor) -> Tensor:
        """Each row's points for standard normal noise (S, Q) that all rows share: (S, B, Q)."""
        return self.mode + torch.einsum("bpq,sq->sbp", self.factor, noise)

    def log_density(self, z: Tensor) -> Tensor:
        """Log density of each row's Gaussian at positions z (S, B, Q): (S, B)."""
        whitened = torch.linalg.solve_triangular(self.factor, (z - self.mode).permute(1, 2, 0), upper=False)
        log_volume = self.factor.diagonal(dim1=1, dim2=2).log().sum(1)  # (B,)
        return standard_normal_log_density(whitened.permute(2, 0, 1)) - log_volume


def log_joint_at(model: GenerativeModel, rows: DenseRows, z: Tensor, prior: GaussianMixture | None = None) -> Tensor:
    """log p(x, z) under the predictive curves, for rows at some positions each (S, B, Q): (S, B).

    ``prior`` is the model's, for callers that ask more than once.
    """
    if prior is None:
        prior = model.latent_prior()
    return model.predictive_log_prob(rows, z) + prior.log_density(z)


def laplace(
    model: GenerativeModel, rows: DenseRows, start: Tensor, prior: GaussianMixture | None = None
) -> GaussianApproximation:
    """The mode of each row's posterior, looked for from ``start`` (B, Q), and the curvature there.

    Every Gauss-Newton step is halved until the joint density does not fall, row by row.
    """
    if prior is None:
        prior = model.latent_prior()
    z, factors = start.clone(), torch.empty(*start.shape, start.shape[1]).to(start)
    moving = torch.arange(len(rows), device=start.device)  # rows that have not arrived; others are not looked at again
    far = torch.ones(len(moving), dtype=torch.bool, device=start.device)
    for _ in range(_MAX_STEPS):
        part, here = rows.take(moving), z[moving]
        value = before = log_joint_at(model, part, here[None], prior)[0]
        gradient = _gradient(model, part, here, prior)
        if far.any():
            factors[moving[far]] = covariance_factor_at(model, part.take(far), here[far], prior)
        factor = factors[moving]
        step = torch.einsum("bpr,bqr,bq->bp", factor, factor, gradient)
        for _ in range(_HALVINGS):
            proposed = log_joint_at(model, part, (here + step)[None], prior)[0]
            better = proposed > value
            here, value = torch.where(better[:, None], here + step, here), torch.where(better, proposed, value)
            step = torch.where(better[:, None], torch.zeros_like(step), 0.5 * step)
            if not step.any():
                break
        z[moving] = here
        gain = value - before
        far, moving = (part[gain >= _GAIN] for part in (gain >= _NEAR, moving))
        if not len(moving):
            break
    return GaussianApproximation(z, covariance_factor_at(model, rows, z, prior))


def averaged(
    model: GenerativeModel, rows: DenseRows, gaussian: GaussianApproximation, prior: GaussianMixture
) -> GaussianApproximation:
    """The Gaussians whose log densities have the slope and curvature that log p(x, z) has on average under others.

    It is one step towards the Gaussian that is nearest to the posterior (Opper and Archambeau, 2009), where Laplace's
    approximation sees no more than the mode. Averages are over points at some distance (:func:`cubature_points`).
    Variances change by a factor of :data:`_MOST_CHANGE` at the most, and modes by one standard deviation.
    """
    points = cubature_points(gaussian.mode.shape[1]).to(gaussian.mode)
    slopes_there = torch.stack([_gradient(model, rows, z, prior) for z in gaussian.at(points)])
    # In units of the Gaussian, whose own curvature is I, and slope -z.
    slopes_there = torch.einsum("bpq,sbp->sbq", gaussian.factor, slopes_there)
    slope = slopes_there.mean(0)
    # By Stein's lemma, the mean curvature is the covariance of slopes and positions.
    curvature = -torch.einsum("sbp,sq->bpq", slopes_there, points) / len(points)
    known = curvature.isfinite().all(2).all(1) & slope.isfinite().all(1)  # far out, log links overflow
    identity = torch.eye(len(points[0])).to(curvature)
    curvature = torch.where(known[:, None, None], 0.5 * (curvature + curvature.mT), identity)
    values, vectors = torch.linalg.eigh(curvature)
    values = values.clamp(1 / _MOST_CHANGE, _MOST_CHANGE)[:, None]
    covariance = (vectors / values) @ vectors.mT
    step = torch.einsum("bpq,bq->bp", covariance, torch.where(known[:, None], slope, 0.0)).clamp(-1, 1)
    mode = gaussian.mode + torch.einsum("bpq,bq->bp", gaussian.factor, step)
    return GaussianApproximation(mode, gaussian.factor @ cholesky_factor(covariance))


def _gradient(model: GenerativeModel, rows: DenseRows, z: Tensor, prior: GaussianMixture) -> Tensor:
    """Slopes of log p(x, z) at z (B, Q): (B, Q)."""
    with torch.enable_grad():
        position = z.detach().requires_grad_()
        log_joint = model.predictive_log_prob(rows, position, with_constant=False) + prior.log_density(position)
        return torch.autograd.grad(log_joint.sum(), position)[0]


def precision_at(model: GenerativeModel, rows: DenseRows, z: Tensor, prior: GaussianMixture) -> Tensor:
    """Curvature of ``-log p(z | x)`` near z (B, Q): the prior's precision and each row's information: (B, Q, Q)."""
    curves_at = partial(model.predictive_curves, context=rows.context)
    gradients = slopes(curves_at, z)
    likelihood, curves = model.in_context(curves_at(z), rows.context)
    information = likelihood.information(curves, z)
    # Far out a log link overflows, and a search may look there.
    information = information.clamp(max=math.sqrt(torch.finfo(z.dtype).max))
    if rows.observed is not None:
        information = information * rows.observed
    return prior.precision(z) + information_matrix(gradients, information)


def information_matrix(gradients: Tensor, information: Tensor) -> Tensor:
    """Information (B, D) about curves, as information about z by the curves' derivatives (B, D, Q): (B, Q, Q)."""
    rooted = information.sqrt()[..., None] * gradients
    return rooted.mT @ rooted


def cholesky_factor(matrices: Tensor) -> Tensor:
    """Lower triangular factors of positive definite matrices (..., Q, Q).

    A row far out may tell so much of one direction that rounding leaves nothing of the others. Then the diagonal is
    raised by as little as makes the matrix positive definite again.
    """
    identity = torch.eye(matrices.shape[-1]).to(matrices)
    raised = torch.finfo(matrices.dtype).eps * matrices.diagonal(dim1=-2, dim2=-1).amax(-1)
    factors, failed = torch.linalg.cholesky_ex(matrices)
    for _ in range(_RAISES):
        if not failed.any():
            break
        matrices = matrices + torch.where(failed > 0, raised, 0.0)[..., None, None] * identity
        raised = 10 * raised
        factors, failed = torch.linalg.cholesky_ex(matrices)
    return factors


def covariance_factor(precision: Tensor) -> Tensor:
    """Lower triangular F with ``F F^T`` the inverse of positive definite matrices (B, Q, Q): (B, Q, Q)."""
    # With rows and columns in reverse order, Cholesky's factor is upper triangular, and its inverse is what is wanted.
    upper = cholesky_factor(precision.flip(1, 2)).flip(1, 2)
    identity = torch.eye(precision.shape[-1]).to(precision)
    return torch.linalg.solve_triangular(upper, identity.expand_as(upper), upper=True).mT


def covariance_factor_at(model: GenerativeModel, rows: DenseRows, z: Tensor, prior: GaussianMixture) -> Tensor:
    """:func:`covariance_factor` of :func:`precision_at`, for a few rows at a time: (B, Q, Q)."""
    at_once = max(1, _SLOPE_ENTRIES // (model.n_components * model.entries_per_point))
    if len(z) <= at_once:
        return covariance_factor(precision_at(model, rows, z, prior))
    parts = torch.arange(len(z), device=z.device).split(at_once)
    return torch.cat([covariance_factor(precision_at(model, rows.take(part), z[part], prior)) for part in parts])


def covariance_at(model: GenerativeModel, rows: DenseRows, z: Tensor, prior: GaussianMixture) -> Tensor:
    """Inverse of :func:`precision_at`: (B, Q, Q)."""
    factor = covariance_factor_at(model, rows, z, prior)
    return factor @ factor.mT
