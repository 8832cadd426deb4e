"""Flat columns: those that have nothing to do with the axis of a shape search, and must not take part in it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...inference.behaviors import column_groups
from ...nn.binned_columns import bin_columns, in_bins
from ...nn.latent_grid import GridStatistics, LatentGrid, log_prior, summarize, total
from ...nn.likelihoods import Gaussian
from ...nn.smooth_curves import SmoothCurves
from ...table.column_summary import summarize_columns
from ...table.source import RowSource
from .axis import GaussianAxis, find_axis, fit_curves
from .grid import Array

#: groups of columns that are left out of the axis in turn
_GROUPS = 20
#: least mass at a grid point, so that columns without an entry do not divide by zero
_LEAST_MASS = 1e-12


def evidence_on_others_axis(axis: GaussianAxis, positions: Array) -> Array:
    """Log evidence of a smooth curve against a constant for every column, on an axis without the column's help: (D,).

    The axis is found from a first guess (N,) of the samples' positions, with free curves for all columns. With its own
    help a column of noise would follow an axis that it has itself bent. So columns are left out of q(z), a group at a
    time.
    """
    curves, noise_variances = fit_curves(axis, find_axis(axis, positions))
    n_groups = 1 if axis.positions_are_known else _GROUPS  # known positions have had no help
    groups = column_groups(axis.tables(curves, noise_variances), n_groups)
    evidence = torch.empty(curves.shape[1], dtype=torch.float64)
    for group, statistics in zip(groups, axis.sums_without(groups, curves, noise_variances), strict=True):
        squares = torch.from_numpy(axis.sum_of_squares)[group.cpu()].to(statistics.weighted.device)
        evidence[group.cpu()] = _curve_evidence(statistics, axis.latent.points, squares).cpu()
    return evidence.numpy()


def evidence_under(source: RowSource, posterior: np.ndarray, latent: LatentGrid) -> Array:
    """Log evidence of a smooth curve against a constant for columns that had no part in q(z), (N, P): (D,)."""
    q = torch.from_numpy(posterior).to(source.like)
    latent, chunks = latent.to(source.like), source.chunks(width=q.shape[1])
    statistics = total(
        summarize(rows, q[index], log_prior(rows, latent), with_positive=False) for index, rows in chunks
    )
    squares = summarize_columns(source.to(torch.float64), counts=False).sum_of_squares
    return _curve_evidence(statistics, latent.points, squares).cpu().numpy()


def _curve_evidence(statistics: GridStatistics, points: Tensor, sum_of_squares: Tensor) -> Tensor:
    """Log evidence of a smooth curve, averaged over its lengths and amplitudes, against a constant: (D,).

    ``sum_of_squares`` (D,) is that of the standardised columns, whose entries count as Gaussian.
    """
    sums = statistics.double()
    sums = GridStatistics(sums.weighted, None, sums.mass.clamp(min=_LEAST_MASS), sums.divergence, sums.n_rows)
    binned, latents = in_bins(sums, sums.mass.mean(1), points.double())
    gaussian = Gaussian(len(sum_of_squares), floor=0.0)
    curves = SmoothCurves(bin_columns(binned, latents[:, 0], gaussian, sum_of_squares))
    return curves.log_joint.flatten(0, 1).logsumexp(0)
