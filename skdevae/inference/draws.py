"""Draws: quasi-random points for expectations and integrals over a latent, always the same ones.

They are Sobol points, scrambled once and for all. Only sets of 2^m of them are balanced, so every number of draws is
rounded up to a power of two.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..nn.priors import GaussianMixture

#: how far from 0 and 1 uniform points are kept, of which normal quantiles are taken
_MARGIN = 1e-12
#: most dimensions of a latent for which expectations under a Gaussian are taken on a Gauss-Hermite grid
_MOST_HERMITE_COMPONENTS = 2
#: nodes of that grid along each axis
_HERMITE_NODES = 9


def power_of_two(n: int) -> int:
    """The smallest power of two that is not below n."""
    return 1 << (n - 1).bit_length()


def uniform_draws(n_draws: int, n_dimensions: int) -> Tensor:
    """Points of low discrepancy between 0 and 1, ``n_draws`` rounded up to a power of two: (S, M). Float64."""
    engine = torch.quasirandom.SobolEngine(n_dimensions, scramble=True, seed=0)
    return engine.draw(power_of_two(n_draws), dtype=torch.float64)


def normal_draws(n_draws: int, n_components: int) -> Tensor:
    """Standard normal points of low discrepancy, ``n_draws`` rounded up to a power of two: (S, Q). Float64."""
    return normal_quantiles(uniform_draws(n_draws, n_components))


def mixture_points(mixture: GaussianMixture, uniform: Tensor) -> Tensor:
    """Points (S, Q) of a mixture of Gaussians for uniform points (S, 1 + Q).

    Their first number chooses the component.
    """
    ends = mixture.log_weights.exp().cumsum(0)
    component = torch.searchsorted(ends, uniform[:, 0].contiguous()).clamp(max=len(ends) - 1)
    return mixture.means[component] + mixture.log_sds[component].exp() * normal_quantiles(uniform[:, 1:])


def normal_quantiles(uniform: Tensor) -> Tensor:
    """Standard normal quantiles of numbers between 0 and 1, whose ends are kept away from."""
    return torch.special.ndtri(uniform.clamp(_MARGIN, 1 - _MARGIN))


def standard_normal_points(n_draws: int, n_components: int) -> Tensor:
    """Quasi-random points of equal weight, with mean 0 and covariance I: (S, Q). Float64.

    Their number is ``n_draws`` rounded up to a power of two, and more than twice that of the components.
    """
    half = normal_draws((max(n_draws, 4 * n_components) + 1) // 2, n_components)
    draws = torch.cat([half, -half])
    factor = torch.linalg.cholesky(draws.T @ draws / len(draws))
    return torch.linalg.solve_triangular(factor, draws.T, upper=False).T


def cubature_points(n_components: int) -> Tensor:
    """The 2 Q points of equal weight under which cubic polynomials have their standard normal means: (2 Q, Q).

    They lie on the axes (McNamee and Stenger, 1967). Float64.
    """
    half = math.sqrt(n_components) * torch.eye(n_components, dtype=torch.float64)
    return torch.cat([half, -half])


def standard_normal_rule(n_draws: int, n_components: int) -> tuple[Tensor, Tensor]:
    """Nodes (S, Q) and weights (S,) for expectations under a standard normal. Float64.

    In one or two dimensions they are Gauss-Hermite's, in more :func:`standard_normal_points`. Either way the mean is 0
    and the covariance I, so that expectations of quadratic functions are right.
    """
    if n_components > _MOST_HERMITE_COMPONENTS:
        points = standard_normal_points(n_draws, n_components)
        return points, torch.full((len(points),), 1 / len(points), dtype=torch.float64)
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(_HERMITE_NODES))
    weights = weights / math.sqrt(2 * math.pi)
    grid = torch.cartesian_prod(*[nodes] * n_components).view(-1, n_components)
    return grid, torch.cartesian_prod(*[weights] * n_components).view(-1, n_components).prod(1)
