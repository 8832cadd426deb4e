"""Curves of levels: whether and how each feature's curve differs between the levels of a category, along a fitted axis.

Four things would make differences where there are none.

- *A feature's own noise*, if it bends the axis. So a feature is judged with q(z) from which its group of columns is
  left out, as behaviours are.
- *Levels whose samples lie elsewhere on the axis.* The standard normal prior draws the latents of all rows to the same
  place, so a curve looks shifted in a level that lies to one side. Here each level has a prior of its own, that its
  rows suggest.
- *Other features that do differ*, and move the samples of a level along the axis. So rows are placed once more by the
  curves that were found for their level.
- *Uncertain latents.* Given the other columns, the mean of an entry is that of the curve over q(z), and not the curve
  at any one place. So the columns of the regression are functions of z, averaged over q(z).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from ..nn.binned_columns import N_BINS, bins_of
from ..nn.latent_grid import LatentGrid, beside_known_positions, counted, log_prior
from ..nn.level_curves import LevelDifferences, LevelMoments, deviation_kernel, hats
from ..nn.models import GenerativeModel
from ..nn.rows import DenseRows, Rows
from ..table.grid_source import in_strata_of
from ..table.source import RowSource
from .behaviors import groups_of

#: expectation-maximisation steps from the standard normal prior to that of each level
_PRIOR_STEPS = 3
#: Newton steps towards common curves, where the log-likelihood is not quadratic, and the largest change in one
_NEWTON_STEPS, _LARGEST_STEP = 2, 2.0
#: times that rows are placed by the curves of their levels, and these found again
_REFINEMENTS = 1
#: fewest rows for each knot of the common curve
_ROWS_PER_KNOT = 8
#: share of the distance of two points of the grid within which knots are taken for one
_SAME_KNOT = 1e-3


@dataclass(frozen=True)
class LevelCurves:
    """What is found of D features and L levels.

    Attributes
    ----------
    statistic, p_value : Tensor of shape (D,)
    knots : Tensor of shape (J,)
    deviations : Tensor of shape (L, J, D)
        What the curve of each level adds to the common curve and its constant: weights of
        :func:`~skdevae.nn.level_curves.deviation_kernel`.
    apart : Tensor of shape (L, L)
        The largest distance of the cumulative distributions of two levels along the axis (Kolmogorov and Smirnov's): 0
        where they are the same, 1 where one level ends before the other begins.
    """

    statistic: Tensor
    p_value: Tensor
    knots: Tensor
    deviations: Tensor
    apart: Tensor


@torch.no_grad()
def compare_levels(model: GenerativeModel, source: RowSource, grid: LatentGrid, columns: slice) -> LevelCurves:
    """Compare the curves of all features between the levels of a category, for rows of a training table.

    ``columns`` of the rows' design say of which level a row is: one column for each level but the first.
    """
    with in_strata_of(model, source):
        return _Comparison(model, source, grid, columns).found()


class _Comparison:
    def __init__(self, model: GenerativeModel, source: RowSource, grid: LatentGrid, columns: slice):
        self._model, self._source, self._grid, self._columns = model, source, grid, columns
        self._n_levels = columns.stop - columns.start + 1
        self._curves = model.predictive_curves(grid.points)  # (P, D)
        self._tables = [model.tables_of_curves(self._curves, grid.points)] * self._n_levels
        self._groups = groups_of(self._tables[0], source, grid)
        self._log_priors = grid.log_mass.expand(self._n_levels, -1)  # of every level, (L, P)
        self._knots = _knots(grid, self._learn_priors())
        self._hats = hats(grid.points[:, 0], self._knots)  # (P, J)
        self._steps = self._curves.new_zeros(source.n_features, len(self._knots) + self._n_covariates)

    def found(self) -> LevelCurves:
        found = self._compared()
        for _ in range(_REFINEMENTS):
            self._follow(found)
            found = self._compared()
        return found

    def _compared(self) -> LevelCurves:
        """The levels' curves, given q(z) as it is."""
        if not self._model.linear_likelihood.has_free_noise:
            for _ in range(_NEWTON_STEPS):
                parts = [LevelDifferences(part, self._knots).null_step for part in self._moments()]
                self._steps = self._steps + self._in_order(parts).clamp(-_LARGEST_STEP, _LARGEST_STEP)
        differences = [LevelDifferences(part, self._knots) for part in self._moments()]
        cumulative = self._log_priors.exp().cumsum(1)  # (L, P)
        return LevelCurves(
            self._in_order([part.statistic for part in differences]),
            self._in_order([part.p_value for part in differences]),
            self._knots,
            self._in_order([part.deviations(self._columns) for part in differences]).permute(1, 2, 0),
            (cumulative[:, None] - cumulative).abs().amax(-1),
        )

    def _follow(self, found: LevelCurves) -> None:
        """Let rows lie where the curves of their own level place them."""
        points, knots = self._grid.points, self._knots
        functions = deviation_kernel(points[:, 0].clamp(knots[0], knots[-1]), knots)  # (P, J)
        self._tables = [
            self._model.tables_of_curves(self._curves + functions @ weights, points) for weights in found.deviations
        ]
        self._learn_priors()

    def _in_order(self, parts: list[Tensor]) -> Tensor:
        """What was found for one group of columns after another, in the order of the columns."""
        return torch.cat(parts)[torch.cat(self._groups).argsort()]

    @property
    def _n_covariates(self) -> int:
        return cast(Tensor, self._source.context.covariates).shape[1]

    def _chunks(self) -> Iterator[tuple[DenseRows, Rows, Tensor]]:
        """Rows as they are, as the grid sees them, and their levels (B,)."""
        n_points = len(self._grid.points)
        width = max(n_points, len(self._groups) * N_BINS, (N_BINS + self._n_covariates) ** 2, self._source.n_features)
        for _, rows in self._source.chunks(2 * width):
            design = cast(Tensor, rows.context.covariates)[:, self._columns]
            level = (design @ torch.arange(1, self._n_levels).to(design)).long()
            yield rows.dense(), self._model.adjusted(rows), level

    def _learn_priors(self) -> Tensor:
        """Let each level have a prior that suits its rows; the mass of all rows at the points, (P,)."""
        for _ in range(_PRIOR_STEPS):
            mass = torch.zeros_like(self._log_priors)
            for _, rows, level in self._chunks():
                q = self._log_joint(rows, level).softmax(1)
                mass.index_add_(0, level, counted(rows, q))
            least = torch.finfo(mass.dtype).tiny
            self._log_priors = (mass / mass.sum(1, keepdim=True).clamp(min=least)).clamp(min=least).log()
        return mass.sum(0)

    def _log_joint(self, rows: Rows, level: Tensor) -> Tensor:
        """The log-likelihood of rows with the prior of their level, or with one of their own: (B, P)."""
        return self._log_likelihood(rows, level) + log_prior(rows, self._grid, self._log_priors[level])

    def _log_likelihood(self, rows: Rows, level: Tensor, columns: Tensor | None = None) -> Tensor:
        """Log-likelihood of rows at the points, by the curves of their level, in some columns or in all: (B, P)."""
        total = self._curves.new_empty(len(rows), len(self._curves))
        for number, tables in enumerate(self._tables):
            index = (level == number).nonzero()[:, 0]
            if len(index):
                own = rows.take(index)
                if columns is not None:
                    own, tables = own.of_columns(columns), tables.of_columns(columns)
                total[index] = own.log_likelihood(tables)
        return beside_known_positions(total, rows, self._grid)

    def _moments(self) -> list[LevelMoments]:
        """Sums for each group of columns."""
        found: list[LevelMoments] = []
        for dense, rows, level in self._chunks():
            design = cast(Tensor, dense.context.covariates)
            curves, columns = torch.empty_like(dense.values), []
            for group, q in zip(self._groups, self._located(rows, level), strict=True):
                columns.append(torch.cat([q @ self._hats, design], 1))  # (B, J + C)
                curves[:, group] = q @ self._curves[:, group] + columns[-1] @ self._steps[group].T
            weights, scores = working_scores(self._model, dense, curves)
            counts = counted(rows, torch.ones_like(curves[:, 0]))
            here = [
                LevelMoments.of_rows(of_group, weights[:, group], scores[:, group], level, self._n_levels, counts)
                for of_group, group in zip(columns, self._groups, strict=True)
            ]
            found = [one + more for one, more in zip(found, here, strict=True)] if found else here
        return found

    def _located(self, rows: Rows, level: Tensor) -> Iterator[Tensor]:
        """For each group of columns, q(z) (B, P) of rows that these columns have no part in."""
        joint = self._log_joint(rows, level)
        for group in self._groups:
            yield (joint - self._log_likelihood(rows, level, group)).softmax(1)


def working_scores(model: GenerativeModel, rows: DenseRows, curves: Tensor) -> tuple[Tensor, Tensor]:
    """Information of entries of rows about their curves, and their scores, at curves (B, D): (B, D) each."""
    likelihood, at = model.in_context(curves, rows.context)
    nowhere = curves.new_zeros(len(curves), model.n_components)  # features follow their curves alone
    with torch.enable_grad():
        at = at.detach().requires_grad_(True)
        total = likelihood.row_log_prob(rows, at, nowhere, with_constant=False).sum()
        (scores,) = torch.autograd.grad(total, at)
    information = likelihood.information(at.detach(), nowhere)
    return information if rows.observed is None else information * rows.observed, scores


def _knots(grid: LatentGrid, mass: Tensor) -> Tensor:
    """Where common curves bend: at the mean latents in bins of equal mass (P,), and at the ends of the rows: (J,)."""
    n_rows, z = float(mass.sum()), grid.points[:, 0]
    bins = bins_of(mass, max(1, min(N_BINS, int(n_rows) // _ROWS_PER_KNOT)))
    means = (bins @ (mass * z)) / (bins @ mass)
    below = (mass.cumsum(0) / n_rows).clamp(max=1)
    half = 0.5 / n_rows  # of a row lies beyond either end
    ends = torch.stack([z[below >= half][0], z[below >= 1 - half][0]])
    knots = torch.cat([means, ends]).sort().values
    spacing = grid.axis[1] - grid.axis[0]
    distinct = torch.ones_like(knots, dtype=torch.bool)
    distinct[1:] = knots.diff() > _SAME_KNOT * spacing
    return knots[distinct]
