"""Quasi-Newton searches side by side: many functions of the same form, each minimised over its own position."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

#: pairs of steps and gradient differences that a row's search remembers
_MEMORY = 8
#: share of the fall that a straight line predicts which a step must bring
_SUFFICIENT = 1e-4
#: how often one step may be shortened
_SHORTENINGS = 12
#: fall (nats) that a step must promise, or else the search has arrived, where no tolerance is given
_PROMISE = 1e-4
#: share of the rows of a batch that are still searched for, below which the others are left out of it
_CROWDED = 0.6


class Objective(Protocol):
    """A function of each row's own position."""

    def __call__(self, position: Tensor, /) -> tuple[Tensor, Tensor]:
        """Values (B,) and gradients (B, Q) at positions (B, Q)."""
        ...

    def take(self, index: Tensor, /) -> Objective:
        """The function of some of the rows: of numbers, or as a mask."""
        ...


class Search(NamedTuple):
    """Where the searches ended (B, Q), the values there (B,), and which of them had arrived (B,)."""

    position: Tensor
    value: Tensor
    converged: Tensor


def minimize_rows(
    objective: Objective, start: Tensor, covariance: Tensor, max_steps: int, tolerance: float | None = None
) -> Search:
    """Minimise a function of each row's position from ``start`` (B, Q) by L-BFGS.

    The searches share nothing but the batches in which they are evaluated: each has its own curvature, step length and
    end, where a step promises a fall of less than ``tolerance``. ``covariance`` are inverses of rough Hessians,
    (B, Q, Q) or their diagonals (B, Q), which each search scales to what it meets. Values may be of a higher precision
    than positions and gradients.
    """
    tolerance = _PROMISE if tolerance is None else tolerance
    arrived = torch.zeros(len(start), dtype=torch.bool, device=start.device)
    rows = torch.arange(len(start), device=start.device)
    z, (f, gradient) = start, objective(start)
    found = Search(start.clone(), torch.empty_like(f), arrived)
    scale, under_way = torch.ones_like(z[:, 0]), torch.ones_like(f, dtype=torch.bool)
    history = z.new_zeros(0, 2, *z.shape)  # (M, 2, B, Q): steps, gradient differences
    for _ in range(max_steps):
        direction, promise = _direction(gradient, history, covariance, scale)
        moved, z_new, f_new, gradient_new = _line_search(objective, z, f, direction, promise, under_way)
        arrived = under_way & (0.5 * promise < tolerance)
        ended = arrived | (under_way & ~moved)
        step, difference = z_new - z, gradient_new - gradient
        z, f, gradient = z_new, f_new, torch.where(moved[:, None], gradient_new, gradient)
        history = torch.cat([history, torch.stack([step, difference])[None]])[-_MEMORY:]
        curvature = (step * difference).sum(1)
        expected = (difference * _apply(covariance, difference)).sum(1)
        scale = torch.where(curvature > 0, curvature / expected.clamp(min=torch.finfo(z.dtype).tiny), scale)
        for field, news in zip(found, (z, f, arrived), strict=True):
            field[rows[under_way]] = news[under_way].to(field)
        under_way = under_way & ~ended
        if not under_way.any():
            break
        if under_way.double().mean() < _CROWDED:  # taking some of the rows costs about as much as a step with them
            rows, z, f, gradient, scale = (part[under_way] for part in (rows, z, f, gradient, scale))
            objective = objective.take(under_way)
            history, covariance = history[:, :, under_way], covariance[under_way]
            under_way = under_way[under_way]
    return found


def _direction(gradient: Tensor, history: Tensor, covariance: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Where to go (B, Q), and twice the fall that a quadratic function would have there (B,)."""
    direction = -_inverse_hessian_product(gradient, history, covariance, scale)
    promise = -(gradient * direction).sum(1)
    # A kink, or rounding, can have spoiled what is remembered of the curvature.
    lost = promise <= 0
    direction = torch.where(lost[:, None], -_apply(covariance, gradient), direction)
    return direction, torch.where(lost, -(gradient * direction).sum(1), promise)


def _line_search(
    objective: Objective, z: Tensor, f: Tensor, direction: Tensor, promise: Tensor, under_way: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Which rows moved, and the positions, values and gradients then: each step is shortened until it leads down."""
    length = torch.ones_like(promise)
    value, slope = objective(z + direction)
    moved = under_way & (value <= f - _SUFFICIENT * promise)
    pending = (under_way & ~moved).nonzero()[:, 0]
    for _ in range(_SHORTENINGS):
        if not len(pending):
            break
        # Where the parabola through what is known has its minimum.
        excess = (value[pending] - f[pending]).to(length) + length[pending] * promise[pending]
        shorter = 0.5 * promise[pending] * length[pending] ** 2 / excess.clamp(min=torch.finfo(excess.dtype).tiny)
        shorter = shorter.nan_to_num(nan=0.0)  # no parabola leads to where the function has no value
        length[pending] = torch.maximum(torch.minimum(shorter, 0.5 * length[pending]), 0.1 * length[pending])
        trial = z[pending] + length[pending, None] * direction[pending]
        value[pending], slope[pending] = objective.take(pending)(trial)
        good = value[pending] <= f[pending] - _SUFFICIENT * length[pending] * promise[pending]
        moved[pending[good]] = True
        pending = pending[~good]
    position = torch.where(moved[:, None], z + length[:, None] * direction, z)
    return moved, position, torch.where(moved, value, f), slope


def _apply(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Products with matrices (B, Q, Q), or with diagonal ones (B, Q): (B, Q)."""
    return matrices * vectors if matrices.ndim == 2 else torch.einsum("bpq,bq->bp", matrices, vectors)


def _inverse_hessian_product(gradient: Tensor, history: Tensor, covariance: Tensor, scale: Tensor) -> Tensor:
    """The two-loop recursion (Nocedal, 1980), row by row; pairs without positive curvature are passed over."""
    r, weights = gradient, []
    for step, difference in reversed(history.unbind(0)) if len(history) else ():
        curvature = (step * difference).sum(1)
        share = torch.where(curvature > 0, 1 / curvature.clamp(min=torch.finfo(r.dtype).tiny), 0.0)
        weight = share * (step * r).sum(1)
        r = r - weight[:, None] * difference
        weights.append((weight, share))
    r = scale[:, None] * _apply(covariance, r)
    for (step, difference), (weight, share) in zip(history.unbind(0), reversed(weights), strict=True):
        r = r + (weight - share * (difference * r).sum(1))[:, None] * step
    return r
