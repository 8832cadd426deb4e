"""Modes: the highest points of many rows' posteriors, by quasi-Newton searches side by side in one batch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..nn.models import GenerativeModel
from ..nn.priors import GaussianMixture
from ..nn.representations import component_log_density
from ..nn.rows import DenseRows
from .quasi_newton import Search, minimize_rows
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
