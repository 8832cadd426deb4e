"""Quantiles of distributions over the points of a grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

#: nodes and weights of the quadrature within a cell
_NODES, _WEIGHTS = (0.5 + 0.5 * np.polynomial.legendre.leggauss(4)[0]), 0.5 * np.polynomial.legendre.leggauss(4)[1]
#: steps of the search for a quantile within a cell
_STEPS = 12
#: largest and least log density that a cubic between points may claim
_LARGEST_EXPONENT = 100.0


def quantiles(q: Tensor, levels: Sequence[float]) -> Tensor:
    """Quantiles of each row's distribution q (B, n) over the points 0, 1, ..., n - 1: (B, L) for L levels.

    Between points, the log density is a cubic that has the values there, and central differences as slopes. Where a
    posterior is Gaussian, that is the log density itself.
    """
    log_density = q.clamp(min=torch.finfo(q.dtype).tiny).log()
    inner = 0.5 * (log_density[:, 2:] - log_density[:, :-2])
    rise = log_density.diff(dim=1)  # (B, n - 1)
    slope = torch.cat([rise[:, :1], inner, rise[:, -1:]], 1)
    coefficients = torch.stack([log_density[:, :-1], slope[:, :-1], rise, slope[:, 1:]], -1)  # (B, n - 1, 4)
    mass = _mass_within(coefficients, torch.ones_like(rise))
    cumulative = mass.cumsum(1)
    target = torch.stack([level * cumulative[:, -1] for level in levels], 1)  # (B, L)
    cell = torch.searchsorted(cumulative, target).clamp(max=q.shape[1] - 2)
    before = (cumulative - mass).gather(1, cell)
    cubic = coefficients.gather(1, cell[..., None].expand(-1, -1, 4))
    below, above = torch.zeros_like(target), torch.ones_like(target)
    share = torch.full_like(target, 0.5)
    for _ in range(_STEPS):
        excess = before + _mass_within(cubic, share) - target
        below, above = torch.where(excess < 0, share, below), torch.where(excess < 0, above, share)
        newton = share - excess / _density(cubic, share)
        share = torch.where((newton >= below) & (newton <= above), newton, 0.5 * (below + above))
    return cell + share


def _mass_within(coefficients: Tensor, share: Tensor) -> Tensor:
    """Integral of a density over the first ``share`` of cells whose length is one: (B, C).

    ``coefficients`` (B, C, 4) of its log are the value and the slope on the left, the rise, and the slope on the right.
    """
    values = [weight * _density(coefficients, node * share) for node, weight in zip(_NODES, _WEIGHTS, strict=True)]
    return share * torch.stack(values).sum(0)


def _density(coefficients: Tensor, t: Tensor) -> Tensor:
    """The density whose log is a cubic, at places t in cells whose length is one: (B, C)."""
    value, left, rise, right = coefficients.unbind(-1)
    cubic = value + t * (left + t * (3 * rise - 2 * left - right + t * (left + right - 2 * rise)))
    return cubic.clamp(-_LARGEST_EXPONENT, _LARGEST_EXPONENT).exp()
