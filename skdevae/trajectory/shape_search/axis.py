"""The axis of a shape search: positions of the samples along a curve through a table of standardised columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...inference.behaviors import sums_without
from ...nn.latent_grid import (
    GridStatistics,
    LatentGrid,
    all_positions_are_known,
    log_joint,
    log_prior,
    summarize,
)
from ...nn.linear_tables import LinearTables
from ...nn.rows import Rows
from ...table.column_summary import summarize_columns
from ...table.components import normal_scores
from ...table.source import RowSource
from .grid import Array, ShapeGrid
from .shapes import free_curves, residual_variances

# The axis is annealed. Wide smoothing along z and a weak likelihood first put the samples in order as a whole; only
# then may curves bend.
#: rounds of annealed EM
_AXIS_ROUNDS = 60
#: rounds at the end of which annealing is over
_COOLING_ROUNDS = 42
#: width of the smoothing kernel in the first round, in prior sds
_WIDE = 1.0
#: width of the smoothing kernel after annealing, in prior sds
_NARROW = 0.05
#: least power of the likelihood in the first round; it is 1 after annealing
_COLD = 0.05
#: To what share of its length annealing may shrink an axis. What has shrunk to nothing grows again out of rounding.
_LEAST_LENGTH = 3e-3
#: rounds of plain EM that follow, from samples spread evenly over the prior
_POLISHING_ROUNDS = 10
#: sd of the samples' posteriors around their first guesses, in prior sds
_STARTING_WIDTH = 0.3
#: sd of the samples' posteriors where they have been spread over the prior, in prior sds
_SPREAD_WIDTH = 0.15
#: first residual variance, in units of a column's variance
_AXIS_VARIANCE = 0.5
#: residual variance that the curves on an axis start from, in units of a column's variance
_CURVE_VARIANCE = 0.3
#: rounds in which these curves and residual variances are fitted
_CURVE_ROUNDS = 3


@dataclass(frozen=True)
class AxisSums:
    """Results of an E-step: sums over the samples, weighted by their posteriors q(z) on the grid.

    Attributes
    ----------
    mass : ndarray of shape (P, D), or (P, 1) without missing entries
        Sums of q(z) over the samples in which a feature is observed.
    weighted : ndarray of shape (P, D)
        Sums of q(z) x.
    means : ndarray of shape (N,)
        Posterior mean of each sample.
    divergence : float
        Sum over samples of KL(q(z) || p(z)).
    """

    mass: Array
    weighted: Array
    means: Array
    divergence: float


class GaussianAxis:
    """E-steps of a table of standardised columns along a grid, read in chunks of rows.

    Parameters
    ----------
    source : RowSource
        The table. Sums over rows are computed with its dtype and on its device.
    grid : ShapeGrid
        Its points, with the mass of a standard normal prior, are those of the latent.

    Attributes
    ----------
    latent : LatentGrid
        The points of the latent, as tensors.
    sum_of_squares : ndarray of shape (D,)
        That of every column.
    weights : ndarray of shape (N,)
        How often each row counts.
    is_given : bool
        Whether something is known beforehand of the rows' positions.
    positions_are_known : bool
        Whether all of them are exactly known, so that E-steps change nothing.
    """

    def __init__(self, source: RowSource, grid: ShapeGrid):
        self.grid = grid
        self._source = source
        self.latent = LatentGrid.standard_normal(len(grid.points), float(grid.points[-1])).to(source.like)
        summary = summarize_columns(source.to(torch.float64), counts=False)
        self.sum_of_squares = summary.sum_of_squares.cpu().numpy()
        self.weights = source.weights
        self._n_observed = summary.n_observed.cpu().numpy()
        self.is_given = source.context.axis is not None
        self.positions_are_known = all_positions_are_known(source.context, self.latent)
        self._found: AxisSums | None = None

    def sums(self, curves: Array, noise_variances: Array, power: float = 1.0) -> AxisSums:
        """The E-step for curves (P, D) and noise variances (D,), with the likelihood raised to a power."""
        if self._found is None or not self.positions_are_known:
            self._found = self._sums(self._joint(curves, noise_variances, power))
        return self._found

    def sums_around(self, positions: Array, width: float) -> AxisSums:
        """Sums for posteriors that are Gaussians of a given sd around given positions (N,)."""
        centers = torch.from_numpy(positions).to(self._source.like)
        points = self.latent.points[:, 0]
        chunks = self._source.chunks(len(points))
        return self._sums((rows, -0.5 * ((centers[index, None] - points) / width) ** 2) for index, rows in chunks)

    def sums_without(self, groups: list[Tensor], curves: Array, noise_variances: Array) -> list[GridStatistics]:
        """Sums of each group of columns, with posteriors that these columns have no part in."""
        tables, located = self.tables(curves, noise_variances), self._joint(curves, noise_variances)
        return [sums for sums, _ in sums_without(groups, located, tables, self.latent)]

    def posterior(self, curves: Array, noise_variances: Array) -> np.ndarray:
        """q(z) of every row, (N, P), in the source's dtype."""
        return np.concatenate([joint.softmax(1).cpu().numpy() for _, joint in self._joint(curves, noise_variances)])

    def log_evidence(self, sums: AxisSums, curves: Array, noise_variances: Array) -> float:
        """The table's log-likelihood for curves (P, D) and noise variances (D,), of which ``sums`` are the E-step."""
        squares = self.sum_of_squares - 2 * (curves * sums.weighted).sum(0) + (curves**2 * sums.mass).sum(0)
        normalizers = self._n_observed * np.log(2 * np.pi * noise_variances)
        return float(-0.5 * (squares / noise_variances + normalizers).sum()) - sums.divergence

    def residual_variances(self, sums: AxisSums, curves: Array) -> Array:
        """Noise variances (D,) around curves (P, D)."""
        return residual_variances(sums.mass, sums.weighted, self.sum_of_squares, curves)

    def tables(self, curves: Array, noise_variances: Array) -> LinearTables:
        """Coefficients of the log-likelihood at curves (P, D) with noise variances (D,): (P, D)."""
        slope = curves / noise_variances
        zero = -0.5 * curves * slope
        like = self._source.like
        return LinearTables(torch.from_numpy(zero).to(like), torch.from_numpy(slope).to(like), None)

    def _joint(self, curves: Array, noise_variances: Array, power: float = 1.0) -> Iterator[tuple[Rows, Tensor]]:
        """Chunks of rows, each with power * log p(x | z) + log p(z) up to constants of x: (B, P)."""
        tables = self.tables(curves, noise_variances)
        for _, rows in self._source.chunks(len(self.latent.points)):
            yield rows, log_joint(rows, tables, self.latent, temperature=1 / power)

    def _sums(self, chunks: Iterable[tuple[Rows, Tensor]]) -> AxisSums:
        n_points, n_features = len(self.latent.points), self._source.n_features
        mass, weighted, divergence = np.zeros((n_points, 1)), np.zeros((n_points, n_features)), 0.0
        means = []
        for rows, joint in chunks:
            q = joint.softmax(1)
            here = summarize(rows, q, log_prior(rows, self.latent), with_positive=False)
            mass = mass + here.mass.cpu().numpy()  # grows to (P, D) at the first chunk with missing entries
            weighted += here.weighted.cpu().numpy()
            means.append((q @ self.latent.points).cpu().numpy())
            divergence += float(here.divergence)
        return AxisSums(mass, weighted, np.concatenate(means)[:, 0].astype(np.float64), divergence)


def find_axis(axis: GaussianAxis, positions: Array) -> AxisSums:
    """Find an axis with a free curve for every feature, from a first guess (N,) of the samples' positions.

    Where something is known of the positions, the guess is one of the axis as it is. Otherwise samples are put in order
    first.
    """
    noise_variances = np.full(len(axis.sum_of_squares), _AXIS_VARIANCE)
    if not axis.is_given:
        positions, noise_variances = _in_order(axis, positions, noise_variances)
    sums = axis.sums_around(positions, _SPREAD_WIDTH)
    for _ in range(_POLISHING_ROUNDS):
        curves = free_curves(axis.grid, sums.mass, sums.weighted, noise_variances)
        noise_variances = axis.residual_variances(sums, curves)
        sums = axis.sums(curves, noise_variances)
    return sums


def _in_order(axis: GaussianAxis, positions: Array, noise_variances: Array) -> tuple[Array, Array]:
    """Positions (N,) of the samples, spread evenly over the prior, and noise variances (D,), from first guesses.

    This is a self-organising map. Curves are smoothed along z by a kernel that narrows, while the power of the
    likelihood rises to 1.
    """
    grid = axis.grid
    sums = axis.sums_around(positions, _STARTING_WIDTH)
    first_power = _first_power(_explained(axis, sums))
    for round_ in range(_AXIS_ROUNDS):
        progress = min(1.0, round_ / _COOLING_ROUNDS)
        width = _WIDE * (_NARROW / _WIDE) ** progress
        kernel = np.exp(-0.5 * (np.subtract.outer(grid.points, grid.points) / width) ** 2)
        kernel /= kernel.sum(0)
        curves = free_curves(grid, kernel @ sums.mass + 1e-9, kernel @ sums.weighted, noise_variances)
        noise_variances = axis.residual_variances(sums, curves)
        sums = axis.sums(curves, noise_variances, first_power ** (1 - progress))
    return normal_scores(sums.means, axis.weights), noise_variances


def _explained(axis: GaussianAxis, sums: AxisSums) -> float:
    """Variance that curves along an axis explain, in columns: the sum of R squared over columns.

    Along the first principal component it is the largest eigenvalue of the correlation matrix.
    """
    curves, noise_variances = fit_curves(axis, sums)
    variances = axis.residual_variances(sums, np.zeros_like(curves))
    return float(np.maximum(1 - noise_variances / variances, 0).sum())


def _first_power(explained: float) -> float:
    """Power of the likelihood in the first round: the least one under which an axis does not dissolve.

    If all samples are near 0, an axis grows in a round by the power times the variance that it explains, and a kernel
    of width w takes a factor of 1 + w^2 off that.
    """
    progress = np.arange(_COOLING_ROUNDS) / _COOLING_ROUNDS
    widths = _WIDE * (_NARROW / _WIDE) ** progress
    for first in np.geomspace(_COLD, 1, 30):
        growth = np.log(first ** (1 - progress) * max(explained, np.finfo(float).tiny) / (1 + widths**2))
        if np.cumsum(growth).min() >= np.log(_LEAST_LENGTH):
            return float(first)
    return 1.0


def fit_curves(axis: GaussianAxis, sums: AxisSums) -> tuple[Array, Array]:
    """A free curve for every feature, (P, D), and the noise variances around them, (D,), given an E-step."""
    noise_variances = np.full(sums.weighted.shape[1], _CURVE_VARIANCE)
    for _ in range(_CURVE_ROUNDS):
        curves = free_curves(axis.grid, sums.mass, sums.weighted, noise_variances)
        noise_variances = axis.residual_variances(sums, curves)
    return curves, noise_variances
