"""The mixture of a deep generative decoder after training: settled, ordered, and without empty components."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from ..nn.models import MixtureModel
from ..nn.regularized_mixture import RegularizedMixture
from ..nn.representations import component_log_density
from ..table.source import RowSource

#: most steps of L-BFGS
_REFIT_STEPS = 500


def refit_mixture_(model: MixtureModel, mean: Tensor, variance: Tensor, source: RowSource) -> None:
    """Fit the mixture again, given Gaussian beliefs about the representations of rows: mean and variance (N, Q).

    It maximises the mixture's part of the objective, ``sum_i w_i log sum_k exp E[log pi_k N(z_i | mu_k, sigma_k)] +
    log p(phi)``. A row whose component is known counts with that component alone. With variances of zero this is eq. 3
    of the DGD paper. The variances keep components from shrinking onto the points.
    """
    mixture = model.mixture
    if not mixture.learned:
        return
    weights = torch.from_numpy(source.weights).to(mean)
    component = source.context.tensors(mean).component
    free = [mixture.means, mixture.logits, *([mixture.log_sds] if mixture.learns_sds else [])]
    required = [parameter.requires_grad for parameter in free]

    def negative_objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        nn.utils.vector_to_parameters(torch.from_numpy(flat).to(mean), free)
        values = component_log_density(mixture.mixture().expected_log_joint(mean, variance), component)
        objective = -(weights @ values + model.prior_weight * mixture.log_prior()) / weights.sum()
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


@torch.no_grad()
def round_(mixture: RegularizedMixture) -> None:
    """Round a float64 mixture to the single precision in which fitted models are stored."""
    for values in (*mixture.parameters(), *mixture.buffers()):
        values.copy_(values.float())


def component_sizes(model: MixtureModel, positions: Tensor, weights: np.ndarray) -> np.ndarray:
    """Total weight of the samples, at positions (N, Q), that each component is the most probable one of: (K,)."""
    shares = model.latent_prior().responsibilities(positions)
    return np.bincount(shares.argmax(1).cpu().numpy(), weights, minlength=shares.shape[1])


def keep_components_(mixture: RegularizedMixture, components: np.ndarray) -> None:
    """Keep the components with these numbers, in this order."""
    mixture.keep_(torch.from_numpy(components).to(mixture.means.device))
