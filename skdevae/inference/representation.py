"""What a trained deep generative decoder says about rows, and how its mixture is settled. Float64, nothing random.

Likelihoods are in the model's units.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from ..nn.models import MixtureModel
from ..nn.representations import class_log_density
from ..table.components import Projection
from ..table.source import RowSource
from .evaluation import standard_normal_points, without_entries
from .importance import GaussianApproximation, covariance_at, importance_log_evidence, log_joint_at, normal_draws
from .modes import ModeFinder

#: steps of L-BFGS in which the mixture's parameters are settled
_REFIT_STEPS = 500
#: rows of which modes are looked for together: few enough for a processor's cache, enough for its products
_SEARCHED_ROWS = 256


class Modes(NamedTuple):
    """Modes of p(z | x) of rows (N, Q), ``log p(x, z)`` there (N,), and which searches arrived (N,)."""

    position: Tensor
    log_joint: Tensor
    converged: Tensor


@torch.no_grad()
def posterior_modes(
    model: MixtureModel,
    source: RowSource,
    projection: Projection | None,
    classes: np.ndarray | None = None,
    tolerance: float | None = None,
) -> Modes:
    """The representation of every row: the mode of ``log p(x | z) + log p(z)``.

    ``projection``, where there is one, predicts it; ``classes`` (N,) are the components that rows are known to belong
    to, -1 where that is not known; ``tolerance`` is how near to the mode, in nats, a search may end.
    """
    find = ModeFinder(model, tolerance)
    position = torch.empty(len(source), model.n_components).to(source.like)
    log_joint = torch.empty(len(source)).to(source.like)
    converged = torch.empty(len(source), dtype=torch.bool)
    for index, rows in source.chunks(width=_rows_as_width(model)):
        known = None if classes is None else torch.from_numpy(classes[index]).to(source.like.device)
        predicted = None
        if projection is not None:
            predicted = torch.from_numpy(projection(source.take(index))).to(source.like)
        found = find(rows.dense(), known, predicted)
        position[index], log_joint[index], converged[index] = found.position, -found.value, found.converged
    return Modes(position, log_joint, converged)


def _rows_as_width(model: MixtureModel) -> int:
    """A width for :meth:`RowSource.chunks` that makes its chunks of :data:`_SEARCHED_ROWS` rows at the most."""
    return max(2_000_000 // _SEARCHED_ROWS, model.entries_per_point)


@torch.no_grad()
def laplace_factors(model: MixtureModel, source: RowSource, modes: Tensor) -> Tensor:
    """Cholesky factors of the covariance that Laplace's approximation has at each row's mode (N, Q): (N, Q, Q)."""
    prior = model.latent_prior()
    factors = torch.empty(*modes.shape, modes.shape[1]).to(modes)
    for index, rows in source.chunks(width=model.entries_per_point * model.n_components):
        factors[index] = torch.linalg.cholesky(covariance_at(model, rows.dense(), modes[index], prior))
    return factors


@torch.no_grad()
def laplace_variances(model: MixtureModel, source: RowSource, modes: Tensor) -> Tensor:
    """Variances of Laplace's approximation at each row's mode (N, Q): (N, Q)."""
    prior, variances = model.latent_prior(), torch.empty_like(modes)
    for index, rows in source.chunks(width=model.entries_per_point * model.n_components):
        variances[index] = covariance_at(model, rows.dense(), modes[index], prior).diagonal(dim1=1, dim2=2)
    return variances


@torch.no_grad()
def sampled_log_evidence(model: MixtureModel, source: RowSource, modes: Tensor, n_draws: int) -> Tensor:
    """log p(x) of every row by importance sampling around its mode: (N,)."""
    draws = normal_draws(n_draws, model.n_components).to(source.like)
    values = torch.empty(len(source)).to(source.like)
    for index, rows in source.chunks(width=model.entries_per_point * model.n_components):
        values[index] = importance_log_evidence(model, rows.dense(), modes[index], draws)
    return values


@torch.no_grad()
def laplace_bound(model: MixtureModel, source: RowSource, modes: Tensor, n_draws: int) -> Tensor:
    """``E_q[log p(x, z) - log q(z)]`` of every row, with Laplace's approximation as q, a bound on log p(x): (N,)."""
    draws, prior = standard_normal_points(n_draws, model.n_components).to(source.like), model.latent_prior()
    factors = laplace_factors(model, source, modes)
    entropy = factors.diagonal(dim1=1, dim2=2).log().sum(1) + 0.5 * modes.shape[1] * math.log(2 * math.pi * math.e)
    values = torch.empty(len(source)).to(source.like)
    for index, rows in source.chunks(width=model.entries_per_point * len(draws)):
        q = GaussianApproximation(modes[index], factors[index])
        z = q.mode + torch.einsum("bpq,sq->sbp", q.factor, draws)
        bound = log_joint_at(model, rows.dense(), z, prior).mean(0) + entropy[index]
        values[index] = torch.where(without_entries(rows, source.like), 0.0, bound)
    return values


def refit_mixture_(
    model: MixtureModel, mean: Tensor, variance: Tensor, weights: np.ndarray, classes: np.ndarray | None
) -> None:
    """Settle the mixture, given Gaussian beliefs about the representations: mean and variance (N, Q).

    It maximises ``sum_i w_i log sum_k exp E[log pi_k N(z_i | mu_k, sigma_k)] + log p(phi)``, the mixture's part of the
    objective, each sample's component included: with beliefs of no width that is eq. 3 of the DGD paper itself. What
    is known of a sample enters by the width: without it, components would shrink onto the points.
    """
    mixture = model.mixture
    if not mixture.learned:
        return
    sample_weights = torch.from_numpy(weights).to(mean)
    known = None if classes is None else torch.from_numpy(classes).to(mean.device)
    free = [mixture.means, mixture.logits, *([mixture.log_sds] if mixture.learns_sds else [])]
    required = [parameter.requires_grad for parameter in free]

    def negative_objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        nn.utils.vector_to_parameters(torch.from_numpy(flat).to(mean), free)
        log_joint = mixture.mixture().expected_log_joint(mean, variance)
        values = log_joint.logsumexp(1) if known is None else class_log_density(log_joint, known)
        objective = -(sample_weights @ values + model.prior_weight * mixture.log_prior()) / sample_weights.sum()
        gradients = torch.autograd.grad(objective, free)
        return float(objective.detach()), torch.cat([g.flatten() for g in gradients]).cpu().numpy()

    for parameter in free:
        parameter.requires_grad_(True)
    start = nn.utils.parameters_to_vector(free).detach().cpu().numpy()
    found = minimize(negative_objective, start, jac=True, method="L-BFGS-B", options={"maxiter": _REFIT_STEPS})
    with torch.no_grad():
        nn.utils.vector_to_parameters(torch.from_numpy(found.x).to(mean), free)
    for parameter, before in zip(free, required, strict=True):
        parameter.requires_grad_(before)
