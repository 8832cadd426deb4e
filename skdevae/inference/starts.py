"""Starting points: where searches for the modes of rows' posteriors begin, all over the prior."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor

from ..nn.likelihoods import Likelihood, LinearLikelihood
from ..nn.linear_tables import LinearTables
from ..nn.models import GenerativeModel
from ..nn.priors import GaussianMixture
from ..nn.row_context import RowContext
from ..nn.rows import DenseRows
from .draws import mixture_points, uniform_draws

#: points that all rows share, at the least half of them draws from the prior
_POINTS = 256
#: most neighbours that a point is compared with
_MOST_NEIGHBOURS = 16
#: steps of log size factors that rows share tables for
_ROUNDED_SIZE = 0.05
#: entries of the curves at the points, in all sizes together, of which tables are kept
_KEPT_ENTRIES = 32_000_000


class StartingPoints:
    """The means of a prior's components and draws from it: points (P, Q) that all rows share.

    Every row's posterior is compared at all of them, which costs one matrix product where the likelihood is linear in
    the data. Points that stand higher than their neighbours lie on a hill each.

    Parameters
    ----------
    model : GenerativeModel
        In evaluation mode, its parameters without gradients.
    """

    def __init__(self, model: GenerativeModel):
        self._model = model
        self._prior = prior = model.latent_prior()
        # Of very many components, as a VampPrior has, some are as good as draws.
        means = prior.means[:: -(-2 * len(prior.means) // _POINTS)]
        uniform = uniform_draws(_POINTS, 1 + model.n_components)[: _POINTS - len(means)].to(means)
        self.points = torch.cat([means, mixture_points(prior, uniform)])
        self.curves = model.predictive_curves(self.points)  # (P, D)
        self._neighbours = _nearest(self.points, prior)
        self._of_sizes: dict[float, LinearTables] = {}

    def local_maxima(self, rows: DenseRows, most: int) -> tuple[Tensor, Tensor]:
        """The highest points of each row, each higher than its neighbours: numbers of rows and of points, (J,) both.

        There are at most ``most`` of a row, and at least one. They come in the order of the rows, highest first.
        """
        log_joint = self.log_joint(rows).nan_to_num(nan=-torch.inf)
        around = log_joint[:, self._neighbours].amax(-1)  # (B, P)
        peaks = torch.where(log_joint >= around, log_joint, -torch.inf)
        highest, point = peaks.topk(min(most, peaks.shape[1]), dim=1)
        wanted = highest.isfinite()
        wanted[:, 0] = True
        row, rank = wanted.nonzero(as_tuple=True)
        return row, point[row, rank]

    def log_joint(self, rows: DenseRows) -> Tensor:
        """log p(x, z) of every row at every point, but for the row's constant: (B, P).

        Size factors in which the log-likelihood is not linear are rounded to 5 %, and covariates on which curves depend
        to the nearest level or standard deviation, so that rows share the curves at the points.
        """
        model, points, component = self._model, self.points, rows.context.component
        covariates = rows.context.covariates
        if covariates is None or not model.is_conditional:
            likelihood = self._pair_log_prob(rows, self.curves)
        else:
            likelihood = torch.empty(len(rows), len(points)).to(points)
            for these, shared in _alike(torch.round(covariates)):
                curves = model.predictive_curves(points, RowContext(covariates=shared.expand(len(points), -1)))
                likelihood[these] = self._pair_log_prob(rows.take(these), curves)
        if component is None:
            return likelihood + self._prior.log_density(points)
        joint = self._prior.log_joint(points)
        return likelihood + torch.where(component[:, None] < 0, joint.logsumexp(1), joint.T[component.clamp(min=0)])

    def _pair_log_prob(self, rows: DenseRows, curves: Tensor) -> Tensor:
        """log p(x | z) of rows at every point, whose curves (P, D) they share, but for the row's constant: (B, P)."""
        model, points, log_size = self._model, self.points, rows.context.log_size
        size = model.size_of(rows.context)
        if log_size is None:
            return model.likelihood.pair_log_prob(rows, curves, points)
        if size is not None:
            return model.likelihood.pair_log_prob(rows.sized(size), curves, points)
        likelihood = torch.empty(len(rows), len(points)).to(points)
        for these, step in _alike(torch.round(log_size / _ROUNDED_SIZE)):
            if model.likelihood.is_linear and curves is self.curves:
                likelihood[these] = rows.take(these).log_likelihood(self._tables_of_size(step))
            else:
                of_these, of_their_size = self._of_size(curves, step)
                likelihood[these] = of_these.pair_log_prob(rows.take(these), of_their_size, points)
        return likelihood

    def _of_size(self, curves: Tensor, step: Tensor) -> tuple[Likelihood, Tensor]:
        """The likelihood of rows of a rounded size, and their curves (P, D)."""
        shared = RowContext(log_size=(step * _ROUNDED_SIZE).expand(len(curves)))
        return self._model.in_context(curves, shared)

    def _tables_of_size(self, step: Tensor) -> LinearTables:
        """Coefficients at the points for rows of a rounded size, which are kept for as long as there is room."""
        tables = self._of_sizes.pop(float(step), None)
        if tables is None:
            likelihood, curves = self._of_size(self.curves, step)
            tables = cast(LinearLikelihood, likelihood).tables(curves, self.points)
        self._of_sizes[float(step)] = tables  # the last to be left out
        if len(self._of_sizes) * self.curves.numel() > _KEPT_ENTRIES:
            del self._of_sizes[next(iter(self._of_sizes))]
        return tables


def _alike(values: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Numbers of the rows that have equal values (B, ...), together with these (...)."""
    distinct, group = values.unique(dim=0, return_inverse=True)
    for number, value in enumerate(distinct):
        yield (group == number).nonzero()[:, 0], value


def _nearest(points: Tensor, prior: GaussianMixture) -> Tensor:
    """The nearest other points of each, in units of the prior's spread along each axis: (P, M)."""
    scaled = points / points.std(0).clamp(min=torch.finfo(points.dtype).tiny)
    distance = torch.cdist(scaled, scaled).fill_diagonal_(torch.inf)
    n = min(2 * points.shape[1] + 2, _MOST_NEIGHBOURS, len(points) - 1)
    return distance.topk(n, largest=False).indices
