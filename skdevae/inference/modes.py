"""Modes: the highest points of many rows' posteriors, by quasi-Newton searches side by side in one batch."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..nn.models import GenerativeModel
from ..nn.priors import GaussianMixture
from ..nn.representations import component_log_density
from ..nn.rows import DenseRows
from .slopes import slopes
from .starts import StartingPoints

#: steps of a search at the most
_MAX_STEPS = 200
#: nats by which two ends of searches on one hill may differ by rounding
_ROUNDING = 1e-6
#: searches for the modes of one row at the most, beside that from a prediction
_MOST_SEARCHES = 4
#: entries of an array of derivatives of all curves
_SLOPE_ENTRIES = 16_000_000
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

    def __call__(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Values (B,) and gradients (B, Q) at positions (B, Q)."""
        ...

    def take(self, index: Tensor) -> Objective:
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
    end, where a step promises a fall of less than ``tolerance``. ``covariance`` (B, Q, Q) are inverses of rough
    Hessians, which each search scales to what it meets.
    """
    tolerance = _PROMISE if tolerance is None else tolerance
    arrived = torch.zeros(len(start), dtype=torch.bool, device=start.device)
    found = Search(start.clone(), torch.empty_like(start[:, 0]), arrived)
    rows = torch.arange(len(start), device=start.device)
    z, (f, gradient) = start, objective(start)
    scale, under_way = torch.ones_like(f), torch.ones_like(f, dtype=torch.bool)
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
    length = torch.ones_like(f)
    value, slope = objective(z + direction)
    moved = under_way & (value <= f - _SUFFICIENT * promise)
    pending = (under_way & ~moved).nonzero()[:, 0]
    for _ in range(_SHORTENINGS):
        if not len(pending):
            break
        # Where the parabola through what is known has its minimum.
        excess = value[pending] - f[pending] + length[pending] * promise[pending]
        shorter = 0.5 * promise[pending] * length[pending] ** 2 / excess.clamp(min=torch.finfo(f.dtype).tiny)
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
    return torch.einsum("bpq,bq->bp", matrices, vectors)


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


class Hills(NamedTuple):
    """Searches of some rows, from several starts each: the rows' numbers (J,), in order, and where searches ended."""

    row: Tensor
    position: Tensor
    value: Tensor
    converged: Tensor

    def best(self, n_rows: int) -> Search:
        """The lowest end of the searches of every row.

        Of ends that differ by rounding it is that of the first start, so that rounding does not choose between them.
        """
        value = self.value.nan_to_num(nan=torch.inf)
        lowest = torch.full((n_rows,), torch.inf).to(value).scatter_reduce(0, self.row, value, "amin")
        is_lowest = value <= lowest[self.row] + _ROUNDING
        first = is_lowest.nonzero()[:, 0]
        first = first[torch.searchsorted(self.row[first], torch.arange(n_rows, device=self.row.device))]
        return Search(self.position[first], self.value[first], self.converged[first])

    def padded(self, n_rows: int) -> tuple[Tensor, Tensor]:
        """Positions (B, M, Q) and heights (B, M) of each row's ends, highest first; -inf where a row has fewer."""
        order = self._lowest_first()
        rank = torch.arange(len(order), device=order.device) - torch.searchsorted(self.row, self.row)
        n_most = int(rank.max()) + 1
        height = torch.full((n_rows, n_most), -torch.inf).to(self.value)
        position = torch.zeros(n_rows, n_most, self.position.shape[1]).to(self.position)
        height[self.row, rank] = -self.value[order].nan_to_num(nan=torch.inf)
        position[self.row, rank] = self.position[order]
        return position, height

    def _lowest_first(self) -> Tensor:
        """The order of the ends by row, and by value for each row."""
        by_value = self.value.nan_to_num(nan=torch.inf).argsort(stable=True)
        return by_value[self.row[by_value].argsort(stable=True)]


class _NegativeLogJoint:
    """``-log p(x, z)`` of some rows under the predictive curves, but for what does not depend on z."""

    def __init__(self, model: GenerativeModel, prior: GaussianMixture, rows: DenseRows):
        self._model, self._prior, self._rows = model, prior, rows

    def value(self, z: Tensor) -> Tensor:
        rows = self._rows
        likelihood, curves = self._model.in_context(self._model.predictive_curves(z, rows.context), rows.context)
        log_prob = likelihood.row_log_prob(rows, curves, z, with_constant=False)
        return -log_prob - _log_prior(self._prior, z, rows.context.component)

    def __call__(self, z: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            position = z.detach().requires_grad_()
            value = self.value(position)
            (gradient,) = torch.autograd.grad(value.sum(), position)
        return value.detach(), gradient

    def take(self, index: Tensor) -> _NegativeLogJoint:
        return _NegativeLogJoint(self._model, self._prior, self._rows.take(index))


def _log_prior(prior: GaussianMixture, z: Tensor, component: Tensor | None) -> Tensor:
    """log p(z) at z (B, Q), under the component that a row is known to belong to if it is known: (B,)."""
    return prior.log_density(z) if component is None else component_log_density(prior.log_joint(z), component)


class ModeFinder:
    """Looks for the modes of p(z | x) under a trained model, from several starts for each row.

    Parameters
    ----------
    model : GenerativeModel
        In evaluation mode, its parameters without gradients.
    tolerance : float, optional
        See :func:`minimize_rows`.
    """

    def __init__(self, model: GenerativeModel, tolerance: float | None = None):
        self._model, self._tolerance = model, tolerance
        self._prior: GaussianMixture = model.latent_prior()
        self._starts = StartingPoints(model)
        self._covariances = _rough_covariances(model, self._prior, self._starts)

    def __call__(self, rows: DenseRows, predicted: Tensor | None = None) -> Search:
        """The highest mode of every row, under its own component where ``rows.context`` says which that is.

        ``predicted`` (B, Q), where given, is one more place to start from. The values of the search are
        ``-log p(x, z)``.
        """
        return self.hills(rows, predicted).best(len(rows))

    def hills(self, rows: DenseRows, predicted: Tensor | None = None) -> Hills:
        """Where the searches of every row end, from all its starts."""
        objective = _NegativeLogJoint(self._model, self._prior, rows)
        row, point = self._starts.local_maxima(rows, _MOST_SEARCHES)
        start = self._starts.points[point]
        if predicted is not None:
            everyone = torch.arange(len(rows), device=row.device)
            first = torch.searchsorted(row.contiguous(), everyone)
            row, point, start = (
                torch.cat(parts) for parts in ((row, everyone), (point, point[first]), (start, predicted))
            )
            in_order = row.argsort(stable=True)
            row, point, start = row[in_order], point[in_order], start[in_order]
        found = minimize_rows(objective.take(row), start, self._covariances[point], _MAX_STEPS, self._tolerance)
        value = found.value - self._model.likelihood_of(rows.context).row_constant(rows)[row]
        return Hills(row, found.position, value, found.converged)


def _rough_covariances(model: GenerativeModel, prior: GaussianMixture, starts: StartingPoints) -> Tensor:
    """Inverses of the Hessians that a row of median size would have at each starting point: (P, Q, Q)."""
    n_components = starts.points.shape[1]
    hessians = prior.precision(starts.points)
    n_at_once = max(1, _SLOPE_ENTRIES // (starts.curves.shape[1] * n_components))
    for index in torch.arange(len(starts.points), device=hessians.device).split(n_at_once):
        points = starts.points[index]
        gradients = slopes(model.predictive_curves, points)
        information = model.likelihood.information(starts.curves[index], points)
        hessians[index] += torch.einsum("kdp,kd,kdq->kpq", gradients, information, gradients)
    return torch.linalg.inv(hessians)
