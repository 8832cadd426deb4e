"""The axis on which shapes are searched for: samples along a curve through a table of standardised columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...nn.latent_grid import LatentGrid, log_joint
from ...nn.likelihoods import LinearTables
from ...nn.rows import Rows
from ...table.components import normal_scores
from ...table.source import RowSource, summarize_columns
from .grid import Array, ShapeGrid
from .shapes import free_curves, residual_variances

#: The axis is annealed: in the first so many rounds, smoothing along z narrows from wide to narrow (in prior sds) while
#: the likelihood's power rises from cold to 1. Wide smoothing puts samples in order as a whole before curves bend.
_AXIS_ROUNDS, _COOLING_ROUNDS = 60, 42
_WIDE, _NARROW, _COLD = 1.0, 0.05, 0.05
#: rounds of plain EM at the end, from samples spread evenly over the prior again
_POLISHING_ROUNDS = 10
#: widths, in prior sds, of samples' posteriors where their places are taken from elsewhere: at the start and at the end
_STARTING_WIDTH, _SPREAD_WIDTH = 0.3, 0.15
#: residual variance, in units of a column's, to start from
_AXIS_VARIANCE = 0.5


@dataclass(frozen=True)
class AxisSums:
    """What an E-step says: ``mass`` (P, D), or (P, 1) without missing entries, and ``weighted`` (P, D) sum 1 and x.

    ``means`` (N,) are the samples' posterior means; ``log_normalizer`` sums what the posteriors were divided by.
    """

    mass: Array
    weighted: Array
    means: Array
    log_normalizer: float


class GaussianAxis:
    """E-steps of a table of standardised columns along a grid, read in chunks of rows.

    Parameters
    ----------
    source : RowSource
        The table; its dtype and device do the work.
    grid : ShapeGrid
        Its points, with standard normal prior mass, are those of the latent.
    """

    def __init__(self, source: RowSource, grid: ShapeGrid):
        self.grid = grid
        self._source = source
        self._latent = LatentGrid.standard_normal(len(grid.points), float(grid.points[-1])).to(source.like)
        summary = summarize_columns(source.to(torch.float64), counts=False)
        self._sum_of_squares = summary.sum_of_squares.cpu().numpy()
        self._n_observed = summary.n_observed.cpu().numpy()

    def sums(self, curves: Array, noise_variances: Array, beta: float = 1.0) -> AxisSums:
        """The E-step under curves (P, D) and noise (D,); ``beta`` is the likelihood's power."""
        return self._sums(self._joint(curves, noise_variances, beta))

    def sums_around(self, positions: Array, width: float) -> AxisSums:
        """Sums where posteriors are bumps around given positions (N,)."""
        centers = torch.from_numpy(positions).to(self._source.like)
        points = self._latent.points[:, 0]
        chunks = self._source.chunks(len(points))
        return self._sums((rows, -0.5 * ((centers[index, None] - points) / width) ** 2) for index, rows in chunks)

    def posterior(self, curves: Array, noise_variances: Array) -> np.ndarray:
        """q(z) of every row: (N, P), in the source's dtype."""
        return np.concatenate([joint.softmax(1).cpu().numpy() for _, joint in self._joint(curves, noise_variances)])

    def log_constant(self, noise_variances: Array) -> float:
        """What the log-likelihood of the table has beside :attr:`AxisSums.log_normalizer`."""
        normalizers = self._n_observed * np.log(2 * np.pi * noise_variances)
        return float(-0.5 * (self._sum_of_squares / noise_variances + normalizers).sum())

    def residual_variances(self, sums: AxisSums, curves: Array) -> Array:
        """Noise variances (D,) around curves (P, D)."""
        return residual_variances(sums.mass, sums.weighted, self._sum_of_squares, curves)

    def _joint(self, curves: Array, noise_variances: Array, beta: float = 1.0) -> Iterator[tuple[Rows, Tensor]]:
        """Chunks of rows with beta log p(x | z) + log p(z), up to the constants of x: (B, P)."""
        slope = curves / noise_variances
        zero = -0.5 * curves * slope
        like = self._source.like
        tables = LinearTables(torch.from_numpy(zero).to(like), torch.from_numpy(slope).to(like), None)
        for _, rows in self._source.chunks(len(self._latent.points)):
            yield rows, log_joint(rows, tables, self._latent, 1 / beta)

    def _sums(self, chunks: Iterable[tuple[Rows, Tensor]]) -> AxisSums:
        n_points, n_features = len(self._latent.points), self._source.n_features
        mass, weighted, log_normalizer = np.zeros((n_points, 1)), np.zeros((n_points, n_features)), 0.0
        means = []
        for rows, joint in chunks:
            normalizer = joint.logsumexp(1, keepdim=True)
            q = (joint - normalizer).exp()
            weighted_here, _, mass_here = rows.expectations(q, with_positive=False)
            mass = mass + mass_here.cpu().numpy()  # grows to (P, D) at the first chunk with missing entries
            weighted += weighted_here.cpu().numpy()
            means.append((q @ self._latent.points).cpu().numpy())
            log_normalizer += float(normalizer.double().sum())
        return AxisSums(mass, weighted, np.concatenate(means)[:, 0].astype(np.float64), log_normalizer)


def find_axis(axis: GaussianAxis, positions: Array) -> AxisSums:
    """An annealed axis with a free curve for every feature, from a first guess (N,) of the samples' positions.

    A self-organising map: curves are smoothed along z by a kernel that narrows while samples are let go of.
    """
    grid = axis.grid
    sums = axis.sums_around(positions, _STARTING_WIDTH)
    noise_variances = np.full(sums.weighted.shape[1], _AXIS_VARIANCE)
    for round_ in range(_AXIS_ROUNDS):
        progress = min(1.0, round_ / _COOLING_ROUNDS)
        width = _WIDE * (_NARROW / _WIDE) ** progress
        kernel = np.exp(-0.5 * (np.subtract.outer(grid.points, grid.points) / width) ** 2)
        kernel /= kernel.sum(0)
        curves = free_curves(grid, kernel @ sums.mass + 1e-9, kernel @ sums.weighted, noise_variances)
        noise_variances = axis.residual_variances(sums, curves)
        sums = axis.sums(curves, noise_variances, _COLD ** (1 - progress))
    sums = axis.sums_around(normal_scores(sums.means), _SPREAD_WIDTH)
    for _ in range(_POLISHING_ROUNDS):
        curves = free_curves(grid, sums.mass, sums.weighted, noise_variances)
        noise_variances = axis.residual_variances(sums, curves)
        sums = axis.sums(curves, noise_variances)
    return sums
