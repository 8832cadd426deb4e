"""Integrals: of f(s) and of s f(s) from 0 to z, where f is the output of a network.

A rule evaluates f at some nodes. An integral is then a weighted sum of these values. There are two rules:

- :class:`GridRule` takes f as linear between knots, which are the same for every z. The integral of this f is exact. f
  is evaluated once at each knot, however many z there are. The weight of every knot grows with z, so the integral of a
  non-negative f does not fall anywhere, not even between knots.
- :class:`GaussLegendreRule` is the quadrature of the BasisDeVAE paper (equation 10). Every z has nodes of its own.
"""

from __future__ import annotations

from functools import cache, cached_property

import numpy as np
import torch
from torch import Tensor


def symmetric_grid(n_points: int, z_max: float) -> Tensor:
    """An odd number of equally spaced points from -z_max to z_max, zero among them. Float64."""
    half = torch.linspace(0, z_max, n_points // 2 + 1, dtype=torch.float64)
    return torch.cat([-half.flip(0)[:-1], half])


def _hat_integral(u: Tensor) -> Tensor:
    """Integral of max(0, 1 - abs(v)) from -1 to u, for u in [-1, 1]."""
    # Squares of terms that are monotone in u: so rounding cannot make the integral fall anywhere.
    return torch.where(u < 0, 0.5 * (1 + u) ** 2, 1 - 0.5 * (1 - u) ** 2)


def _hat_moment(u: Tensor) -> Tensor:
    """Integral of v max(0, 1 - abs(v)) from -1 to u, for u in [-1, 1]."""
    return 0.5 * u**2 - u.abs() ** 3 / 3 - 1 / 6


class _HatFunctions:
    """Antiderivatives at z (P,) of each knot's hat function b(s), and of s b(s), both (P, G)."""

    def __init__(self, knots: Tensor, z: Tensor):
        self._knots = knots
        self._step = (knots[-1] - knots[0]) / (len(knots) - 1)
        inside = z.clamp(knots[0], knots[-1])
        self._u = ((inside[:, None] - knots) / self._step).clamp(-1, 1)
        # Beyond the ends the function keeps its last value. There its integral is linear.
        beyond = z - inside
        self._to_first = torch.where(beyond < 0, beyond, 0.0)
        self._to_last = torch.where(beyond > 0, beyond, 0.0)

    def integral(self) -> Tensor:
        """Antiderivatives of b(s): (P, G)."""
        weights = self._step * _hat_integral(self._u)
        return weights + self._at_ends(self._to_first, self._to_last)

    def moment(self) -> Tensor:
        """Antiderivatives of s b(s): (P, G)."""
        weights = self._step * (self._knots * _hat_integral(self._u) + self._step * _hat_moment(self._u))
        return weights + self._at_ends(
            self._to_first * (self._knots[0] + 0.5 * self._to_first),
            self._to_last * (self._knots[-1] + 0.5 * self._to_last),
        )

    def _at_ends(self, first: Tensor, last: Tensor) -> Tensor:
        """What the first and the last knot's function contribute beyond the knots: (P, G)."""
        ends = torch.zeros_like(self._u)
        ends[:, 0], ends[:, -1] = first, last
        return ends


class GridRule:
    """Exact integrals of a function that is linear between knots and constant beyond them.

    Parameters
    ----------
    knots : Tensor of shape (G,)
        Equally spaced.
    z : Tensor of shape (P,)
        Upper limits of the integrals; gradients reach them.
    """

    def __init__(self, knots: Tensor, z: Tensor):
        self.nodes = knots
        self.z = z
        self._at_z, self._at_zero = _HatFunctions(knots, z), _HatFunctions(knots, knots.new_zeros(1))
        self._integral_weights = self._at_z.integral() - self._at_zero.integral()  # (P, G)

    @cached_property
    def _moment_weights(self) -> Tensor:
        """Weights of :meth:`moment`, (P, G). Only behaviours with a peak need them."""
        return self._at_z.moment() - self._at_zero.moment()

    def integral(self, values: Tensor, offset: Tensor | float = 0.0) -> Tensor:
        """``offset`` plus the integral of f from 0 to each z, (P, D), given f at the nodes, (G, D)."""
        return _add_product(offset, self._integral_weights, values)

    def moment(self, values: Tensor, offset: Tensor | float = 0.0) -> Tensor:
        """``offset`` plus the integral of s f(s) from 0 to each z, (P, D), given f at the nodes."""
        return _add_product(offset, self._moment_weights, values)


def _add_product(offset: Tensor | float, weights: Tensor, values: Tensor) -> Tensor:
    """``offset + weights @ values``."""
    if isinstance(offset, float):
        return weights @ values + offset
    return torch.addmm(offset, weights, values)  # one pass over a (P, D) array instead of two


@cache
def _legendre(order: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the quadrature on [-1, 1]: (order,) each."""
    return np.polynomial.legendre.leggauss(order)


class GaussLegendreRule:
    """Gauss-Legendre quadrature between 0 and each z (BasisDeVAE, equation 10).

    Parameters
    ----------
    order : int
        Number of nodes for each z.
    z : Tensor of shape (P,)
        Upper limits of the integrals; gradients reach them.
    """

    def __init__(self, order: int, z: Tensor):
        abscissae, weights = (torch.as_tensor(t, dtype=z.dtype, device=z.device) for t in _legendre(order))
        half = 0.5 * z[:, None]
        self.z = z
        self._nodes = half * (1 + abscissae)  # (P, order)
        self._weights = half * weights  # (P, order)
        self.nodes = self._nodes.reshape(-1)

    def _weighted_sum(self, weights: Tensor, values: Tensor) -> Tensor:
        """Sums (P, D) over each point's nodes, with weights (P, order), of values at all nodes (P * order, D)."""
        per_point = values.view(*self._nodes.shape, -1)  # (P, order, D)
        return torch.bmm(weights[:, None, :], per_point).squeeze(1)

    def integral(self, values: Tensor, offset: Tensor | float = 0.0) -> Tensor:
        """``offset`` plus the integral of f from 0 to each z, (P, D), given f at the nodes, (P * order, D)."""
        return self._weighted_sum(self._weights, values) + offset

    def moment(self, values: Tensor, offset: Tensor | float = 0.0) -> Tensor:
        """``offset`` plus the integral of s f(s) from 0 to each z, (P, D), given f at the nodes."""
        return self._weighted_sum(self._weights * self._nodes, values) + offset


#: a rule, made for some upper limits ``z``, which asks for values at its ``nodes``
IntegrationRule = GridRule | GaussLegendreRule
