"""Modes: the highest points of many rows' posteriors, by quasi-Newton searches side by side in one batch."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor

from ..nn.models import GenerativeModel
from ..nn.priors import GaussianMixture
from ..nn.representations import component_log_density
from ..nn.rows import DenseRows
from .gaussian import information_matrix
from .quasi_newton import Search, minimize_rows
from .slopes import slopes
from .starts import StartingPoints

#: steps of a search at the most
_MAX_STEPS = 200
#: nats by which two ends of searches on one hill may differ by rounding
_ROUNDING = 1e-6
#: rows of which modes are looked for together: so many that there are enough of them for a product until the last ones
SEARCHED_ROWS = 1024
#: searches for the modes of one row at the most, beside that from a prediction
_MOST_SEARCHES = 4
#: entries of the curves at one point from which on arithmetic is most of a step, and single precision makes it faster
_WIDE = 500
#: entries of an array of curves that stays in a processor's cache
_CACHED_ENTRIES = 500_000
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
        self._at_once = max(1, _CACHED_ENTRIES // model.entries_per_point)
        self._blocks: list[_NegativeLogJoint] | None = None

    def value(self, z: Tensor) -> Tensor:
        rows = self._rows
        likelihood, curves = self._model.in_context(self._model.predictive_curves(z, rows.context), rows.context)
        log_prob = likelihood.row_log_prob(rows, curves, z, with_constant=False)
        return -log_prob - _log_prior(self._prior, z, rows.context.component)

    def __call__(self, z: Tensor) -> tuple[Tensor, Tensor]:
        if len(z) > self._at_once:
            if self._blocks is None:
                starts = range(0, len(z), self._at_once)
                self._blocks = [self.take(slice(start, start + self._at_once)) for start in starts]
            parts = [block(part) for block, part in zip(self._blocks, z.split(self._at_once), strict=True)]
            values, gradients = zip(*parts, strict=True)
            return torch.cat(values), torch.cat(gradients)
        with torch.enable_grad():
            position = z.detach().requires_grad_()
            value = self.value(position)
            (gradient,) = torch.autograd.grad(value.sum(), position)
        return value.detach(), gradient

    def take(self, index: Tensor | slice) -> _NegativeLogJoint:
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
        is_wide = model.entries_per_point >= _WIDE and self._prior.means.dtype == torch.float64
        self._rough = copy.deepcopy(model).float() if is_wide else model
        self._rough_prior: GaussianMixture = self._rough.latent_prior()
        self._starts = StartingPoints(self._rough)
        self._covariances = _rough_covariances(self._rough, self._rough_prior, self._starts).to(self._prior.means)

    def __call__(self, rows: DenseRows, predicted: Tensor | None = None) -> Search:
        """The highest mode of every row, under its own component where ``rows.context`` says which that is.

        ``predicted`` (B, Q), where given, is one more place to start from. The values of the search are
        ``-log p(x, z)``.
        """
        return self._searched(rows, predicted, races=True).best(len(rows))

    def hills(self, rows: DenseRows, predicted: Tensor | None = None) -> Hills:
        """Where the searches of every row end, from all its starts."""
        return self._searched(rows, predicted, races=False)

    def _searched(self, rows: DenseRows, predicted: Tensor | None, *, races: bool) -> Hills:
        """Where the searches of every row end; if it ``races``, only those that may end highest are followed."""
        is_rough = self._rough is not self._model
        roughly = rows.to(torch.float32) if is_rough else rows
        row, point = self._starts.local_maxima(roughly, _MOST_SEARCHES)
        start = self._starts.points[point].to(self._prior.means)
        if predicted is not None:
            everyone = torch.arange(len(rows), device=row.device)
            first = torch.searchsorted(row.contiguous(), everyone)
            row, point, start = (
                torch.cat(parts) for parts in ((row, everyone), (point, point[first]), (start, predicted))
            )
            in_order = row.argsort(stable=True)
            row, point, start = row[in_order], point[in_order], start[in_order]
        objective = _NegativeLogJoint(self._model, self._prior, rows).take(row)
        rough = _NegativeLogJoint(self._rough, self._rough_prior, roughly).take(row) if is_rough else None
        found = minimize_rows(
            objective,
            start,
            self._covariances[point],
            _MAX_STEPS,
            self._tolerance,
            rivals=row if races else None,
            rough=rough,
        )
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
        hessians[index] += information_matrix(gradients, information)
    return torch.linalg.inv(hessians.double())
