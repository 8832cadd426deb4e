"""Sums of negative-binomial log-probabilities over the features of rows, in few passes over the curves.

Most counts are zeros. A zero needs ``log p(0)`` alone, and all other terms are evaluated where there is a count. The
gradient has a formula of its own, and what it needs is made on the way forward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

from ..rows import DenseRows


def row_sums(rows: DenseRows, curves: Tensor, log_dispersion: Tensor) -> Tensor:
    """``zero + x slope`` summed over the observed features of every row, for curves (..., B, D): (..., B).

    ``log_dispersion`` is (D,), or (B, D) where it goes with the rows. There are first derivatives with respect to it
    and to the curves, and no second ones.
    """
    row, column, count = rows.nonzero()
    number = row * curves.shape[-1] + column
    sums: Tensor = _RowSums.apply(curves, log_dispersion, rows.observed, row, number, count)
    return sums


class _RowSums(torch.autograd.Function):
    """``-theta softplus(r) + x logsigmoid(r)`` summed over features, where r is the log of mean / theta.

    ``row`` (M,) are the rows of the counts (M,), and ``number`` (M,) their places in a flattened (B, D) array.
    """

    @staticmethod
    def forward(
        ctx: Any,
        curves: Tensor,
        log_dispersion: Tensor,
        observed: Tensor | None,
        row: Tensor,
        number: Tensor,
        count: Tensor,
    ) -> Tensor:
        needs_curves, needs_dispersion = ctx.needs_input_grad[:2]
        n_rows, n_features = curves.shape[-2:]
        several = curves.reshape(-1, n_rows, n_features).contiguous()  # (S, B, D)
        theta = log_dispersion.exp()
        theta = theta if observed is None else theta * observed  # (D,) or (B, D)
        ratio = several - log_dispersion
        flat = ratio.view(len(several), -1)  # (S, B D)
        at_counts = flat.index_select(1, number)  # (S, M)
        # In its two steps, softplus takes two thirds of the time. They overflow where means are beyond all tables.
        softened = (torch.exp(ratio) if needs_curves or needs_dispersion else ratio.exp_()).log1p_()
        sums = _weighted_sums(softened, theta)
        if not sums.isfinite().all():
            softened = softplus(several - log_dispersion)
            sums = _weighted_sums(softened, theta)
        sums.index_add_(1, row, -count * softplus(-at_counts))
        if needs_curves or needs_dispersion:
            by_curves = ratio.sigmoid_().mul_(-theta)
            flat.scatter_add_(1, number.expand(len(flat), -1), count * torch.sigmoid(-at_counts))
            ctx.save_for_backward(theta, by_curves, softened if needs_dispersion else None)
        ctx.shape = curves.shape
        return sums.view(curves.shape[:-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        theta, by_curves, softened = ctx.saved_tensors
        weights = gradient.reshape(by_curves.shape[:2])  # (S, B)
        of_curves = of_dispersion = None
        if ctx.needs_input_grad[0]:
            of_curves = (weights[..., None] * by_curves).view(ctx.shape)
        if softened is not None:
            if theta.ndim == 1:
                flat = weights.flatten()
                of_dispersion = -theta * (flat @ softened.flatten(0, 1)) - flat @ by_curves.flatten(0, 1)
            else:
                of_dispersion = -(weights[..., None] * (theta * softened + by_curves)).sum(0)
        return of_curves, of_dispersion, None, None, None, None


def _weighted_sums(softened: Tensor, theta: Tensor) -> Tensor:
    """``-theta softened`` (S, B, D) summed over features, for theta (D,) or (B, D): (S, B)."""
    return -(softened @ theta if theta.ndim == 1 else torch.linalg.vecdot(softened, theta))


def count_constants(column: Tensor, count: Tensor, log_dispersion: Tensor) -> Tensor:
    """``log Gamma(x + theta) - log Gamma(theta) - log x!`` of counts (M,) in columns (M,): (M,).

    Log dispersions are (D,). The ratio of the gammas is ``theta (theta + 1) ... (theta + x - 1)``. For small counts, as
    most are, it is made once for every column and looked up. All is computed in double precision: of large counts, the
    difference is a small part of each term.
    """
    dispersion = log_dispersion.double().exp()
    n_features = len(dispersion)
    largest = min(len(count) // n_features, int(count.max())) if len(count) else 0
    if largest < 2:
        return log_ratio_of_gammas(count.double(), dispersion[column]).to(count)
    steps = torch.arange(1, largest + 1, dtype=dispersion.dtype, device=count.device)[:, None]
    factors = ((dispersion + (steps - 1)) / steps).log()
    table = torch.ones(largest, largest).to(factors).tril() @ factors  # (largest, D): sums over those before
    whole = count.long()
    other = ((whole != count) | (whole < 1) | (whole > largest)).nonzero()[:, 0]
    place = (whole.clamp_(1, largest) - 1).mul_(n_features).add_(column)
    constants = table.to(count).view(-1).index_select(0, place)
    theirs = log_ratio_of_gammas(count[other].double(), dispersion[column[other]])
    return constants.index_put((other,), theirs.to(count))


def log_ratio_of_gammas(count: Tensor, dispersion: Tensor) -> Tensor:
    """``log Gamma(x + theta) - log Gamma(theta) - log x!`` of counts and dispersions of one shape."""
    return torch.lgamma(count + dispersion) - torch.lgamma(dispersion) - torch.lgamma(count + 1)
