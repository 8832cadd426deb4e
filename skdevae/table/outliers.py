"""Outliers: rows and entries of a training table that are farther from all others than the others are from each other.

A sample in other units, a misplaced decimal point or a code for "missing" would rule a fit, for likelihoods look at
squares. So training does without rows of that kind, and puts single entries at the edge of the others. Only training
does: what a fitted model says of a row is what follows from the row as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from sklearn.utils import gen_batches

from .._warnings import warn_user
from .extremes import Extremes
from .units import Bounds
from .validation import first_columns, first_numbers

#: Most values of a column that may be set aside, as a share: a larger group is no accident.
_MOST = 0.1
#: with fewer values than this, one that is far from the others is no surprise
_LEAST_VALUES = 20
#: How far from the others values must be to be set aside, in ranges of the others: up to a share of 1 %, and where
#: there are more of them, which may be a rare population. The tails of ordinary distributions do not reach that far.
_FEW, _RANGES_OF_FEW, _RANGES_OF_MANY = 0.01, 2.0, 3.0
#: the same for few counts, on the log scale, where no tail is long
_LOG_RANGES_OF_FEW = 1.0
#: on the log scale of counts, range that the others have at least: a gene without events elsewhere may have ten
_LEAST_LOG_RANGE = float(np.log(10.0))
#: entries of a block of columns
_BLOCK_ENTRIES = 8_000_000
#: entries above which only columns are looked at in which a sample of rows leaves room for outliers
_LARGE_TABLE = 2_000_000
#: rows of that sample
_SAMPLED_ROWS = 2000


@dataclass(frozen=True)
class Outliers:
    """What training sets aside.

    Attributes
    ----------
    rows : ndarray of shape (R,)
        Numbers of the rows that training does without.
    bounds : pair of arrays of shape (D,), or None
        Least and largest value that training reads in each column; None where all are read as they are.
    entries : int
        Number of entries beyond these bounds, in other rows.
    """

    rows: np.ndarray
    bounds: Bounds | None = None
    entries: int = 0

    def others(self, n_rows: int) -> np.ndarray:
        """Numbers of the rows that training uses."""
        return np.setdiff1d(np.arange(n_rows), self.rows)

    def have_entries(self, X: np.ndarray | sp.csr_array) -> np.ndarray:
        """Which rows of a table have entries beyond the bounds: (N,)."""
        if self.bounds is None:
            return np.zeros(X.shape[0], dtype=bool)
        lowest, highest = self.bounds
        if isinstance(X, np.ndarray):
            rows = (X[index] for index in gen_batches(len(X), max(1, _BLOCK_ENTRIES // X.shape[1])))
            return np.concatenate([((block < lowest) | (block > highest)).any(1) for block in rows])
        beyond = X.data > highest[X.indices]
        return np.asarray(sp.csr_array((beyond, X.indices, X.indptr), shape=X.shape).sum(1)).ravel() > 0

    def warn(self, feature_names: np.ndarray | None) -> None:
        """Tell the user what is set aside, and where."""
        if len(self.rows):
            warn_user(
                f"Training does without {first_numbers('row', self.rows)}: they are farther from all other rows than "
                "the others are from each other. Look for a sample in other units. Results for such rows are rough."
            )
        if self.bounds is not None and self.entries:
            columns = np.nonzero(np.isfinite(self.bounds[0]) | np.isfinite(self.bounds[1]))[0]
            warn_user(
                f"{self.entries} entries, in {first_columns(feature_names, columns)}, are farther from all others of "
                "their column than the others are from each other. Training reads them as if they were at the edge of "
                "the others. Look for errors and codes for missing values; if all is right, try logs or ranks."
            )


NO_OUTLIERS = Outliers(np.empty(0, dtype=np.int64))


def find_outliers(
    X: np.ndarray | sp.csr_array, counts: bool, kept: np.ndarray | None = None, weights: np.ndarray | None = None
) -> Outliers:
    """Rows and entries of a training table that are far from all others.

    Parameters
    ----------
    X : ndarray or CSR array of shape (N, D)
    counts : bool
        Whether values are counts. They are compared on the scale of log(1 + x), and only large ones are set aside.
    kept : ndarray of shape (D',), optional
        Numbers of the columns that vary.
    weights : ndarray of shape (N,), optional
        How often each row counts; None means once.
    """
    weights = np.ones(X.shape[0]) if weights is None else weights
    counted = np.nonzero(weights > 0)[0]
    kept = np.arange(X.shape[1]) if kept is None else kept
    total = float(weights.sum())
    if total < _LEAST_VALUES:
        return NO_OUTLIERS
    few = max(1.0, _FEW * total)
    lower, upper = np.full(X.shape[1], -np.inf), np.full(X.shape[1], np.inf)
    core = np.full((2, X.shape[1]), np.nan)
    for column, values in _sorted_columns(X, counts, kept, counted, weights):
        if counts:
            upper[column] = _count_edge(values, few)
        else:
            lower[column], upper[column], core[:, column] = _edges(values, few)
    strangeness = _log_depth(X, kept, weights) if counts else _typical_distance(X, kept, core)
    rows = _far_rows(strangeness, counted, weights)
    bounded = np.isfinite(lower) | np.isfinite(upper)
    if not bounded.any():
        return Outliers(rows)
    entries = _n_beyond(X, lower, upper, np.setdiff1d(counted, rows))
    return Outliers(rows, (lower, upper) if entries else None, entries)


# ---- one column -----------------------------------------------------------------------------------------------------


class _Sorted(NamedTuple):
    """Values in ascending order, and how often each counts: (n,) each."""

    values: np.ndarray
    weights: np.ndarray

    def core(self) -> tuple[int, int]:
        """Positions of the first and the last value of those that cannot be set aside: their middle 80 %."""
        most = int(_MOST * self.weights.sum())
        below, above = np.cumsum(self.weights), np.cumsum(self.weights[::-1])
        n = len(self.values)
        return int(np.searchsorted(below, most, "right")), n - 1 - int(np.searchsorted(above, most, "right"))


def _first_gap(
    tail: np.ndarray,
    weights: np.ndarray,
    low: float,
    few: float,
    ranges_of_few: float = _RANGES_OF_FEW,
    least_range: float = 0.0,
) -> int | None:
    """Where values stop that go on without a gap: the position in ``tail`` of the last of them; None if all go on.

    ``tail`` has the largest values in ascending order, the first of which belongs to the others for sure, and
    ``weights`` how often each counts. ``low`` is a low value of the others. Up to ``few`` values need not be as far
    away as more of them.
    """
    gaps = np.diff(tail)
    width = np.maximum(tail[:-1] - low, least_range)
    beyond = np.cumsum(weights[:0:-1])[::-1]
    needed = np.where(beyond <= few, ranges_of_few, _RANGES_OF_MANY) * width
    far = np.nonzero((gaps > needed) & (width > 0))[0]
    return int(far[0]) if len(far) else None


def _edges(column: _Sorted, few: float) -> tuple[float, float, tuple[float, float]]:
    """Least and largest of the values that are near others; and the ends of their middle 80 %."""
    values, weights = column
    if weights.sum() < _LEAST_VALUES:
        return -np.inf, np.inf, (np.nan, np.nan)
    first, last = column.core()
    # So that no difference overflows.
    scaled = values / (4 * max(abs(values[0]), abs(values[-1]), np.finfo(float).tiny))
    low, high = scaled[first], scaled[last]
    if not high > low:
        return -np.inf, np.inf, (np.nan, np.nan)
    above = _first_gap(scaled[last:], weights[last:], low, few)
    below = _first_gap(-scaled[first::-1], weights[first::-1], -high, few)
    return (
        -np.inf if below is None else float(values[first - below]),
        np.inf if above is None else float(values[last + above]),
        (float(values[first]), float(values[last])),
    )


def _count_edge(column: _Sorted, few: float) -> float:
    """Largest of the counts that are near others."""
    values, weights = column
    if weights.sum() < _LEAST_VALUES or not values[-1] > 0:
        return np.inf
    first, last = column.core()
    logs = np.log1p(values[last:])
    above = _first_gap(logs, weights[last:], np.log1p(values[first]), few, _LOG_RANGES_OF_FEW, _LEAST_LOG_RANGE)
    return np.inf if above is None else float(values[last + above])


# ---- all columns ----------------------------------------------------------------------------------------------------


def _sorted_columns(
    X: np.ndarray | sp.csr_array, counts: bool, kept: np.ndarray, counted: np.ndarray, weights: np.ndarray
) -> Iterator[tuple[int, _Sorted]]:
    """Number of each column, and its observed values in order; of a sparse one, all zeros as one value."""
    weights = weights[counted]
    if not isinstance(X, np.ndarray):
        by_column = X.tocsc() if len(counted) == X.shape[0] else X[counted].tocsc()
        total = weights.sum()
        for column in kept:
            entries = slice(by_column.indptr[column], by_column.indptr[column + 1])
            values, w = _in_order(by_column.data[entries].astype(np.float64), weights[by_column.indices[entries]])
            of_zeros = total - w.sum()
            if of_zeros > 0:
                values, w = np.append(0.0, values), np.append(of_zeros, w)
            yield column, _Sorted(values, w)
        return
    if X.size > _LARGE_TABLE:
        kept = kept[_leaves_room(X, kept, counted, counts, weights)]
    width = max(1, _BLOCK_ENTRIES // len(counted))
    for index in gen_batches(len(kept), width):
        columns = kept[index]
        block = np.concatenate([X[rows][:, columns] for rows in _row_blocks(X, counted)]).astype(np.float64, copy=False)
        for column, values in zip(columns, block.T, strict=True):
            observed = ~np.isnan(values)
            yield column, _in_order(values[observed], weights[observed])


def _in_order(values: np.ndarray, weights: np.ndarray) -> _Sorted:
    """Values (n,) in ascending order with their weights."""
    if (weights == weights[:1]).all():  # to sort is faster than to find the order
        return _Sorted(np.sort(values), weights)
    order = np.argsort(values, kind="stable")
    return _Sorted(values[order], weights[order])


def _row_blocks(X: np.ndarray, counted: np.ndarray) -> Iterator[np.ndarray | slice]:
    step = max(1, _BLOCK_ENTRIES // X.shape[1])
    for index in gen_batches(len(counted), step):
        yield index if len(counted) == len(X) else counted[index]


def _leaves_room(X: np.ndarray, kept: np.ndarray, counted: np.ndarray, counts: bool, weights: np.ndarray) -> np.ndarray:
    """In which columns an entry is so far from what a sample of rows holds that it might be an outlier: (D',).

    ``weights`` are those of the rows that are ``counted``. The sample has one row for every so much weight.
    """
    below = np.cumsum(weights) - weights
    every = max(1, len(counted) // _SAMPLED_ROWS) * weights.mean()
    sampled = np.diff(np.floor(below / every), prepend=-1) > 0
    sample = np.asarray(X[counted[sampled]][:, kept], dtype=np.float64)
    extremes = Extremes.of((X[rows][:, kept] for rows in _row_blocks(X, counted)), len(kept))
    lowest, highest = extremes.lowest, extremes.highest
    if counts:
        sample, highest, lowest = np.log1p(sample), np.log1p(highest), np.zeros_like(lowest)
    low, high = np.nanquantile(sample, [1.5 * _MOST, 1 - 1.5 * _MOST], axis=0)
    return (highest - high > 0.5 * (high - low)) | (low - lowest > 0.5 * (high - low))


def _n_beyond(X: np.ndarray | sp.csr_array, lower: np.ndarray, upper: np.ndarray, rows: np.ndarray) -> int:
    """Number of entries of some rows that are beyond their columns' edges."""
    if sp.issparse(X):
        part = X[rows]
        return int((part.data > upper[part.indices]).sum())
    bounded = np.nonzero(np.isfinite(lower) | np.isfinite(upper))[0]
    return sum(
        int(((block < lower[bounded]) | (block > upper[bounded])).sum())
        for block in (X[index][:, bounded] for index in _row_blocks(X, rows))
    )


# ---- rows -----------------------------------------------------------------------------------------------------------


def _typical_distance(X: np.ndarray, kept: np.ndarray, core: np.ndarray) -> np.ndarray:
    """How far each row is from the middle of a column, in the column's spread: the median over its entries, (N,)."""
    usable = kept[~np.isnan(core[0, kept])]
    distance = np.full(len(X), np.nan)
    if len(usable) == 0:
        return distance
    low, high = core[:, usable]
    middle, spread = 0.5 * low + 0.5 * high, 0.5 * high - 0.5 * low
    for index in gen_batches(len(X), max(1, _BLOCK_ENTRIES // X.shape[1])):
        with np.errstate(over="ignore"):
            distances = np.abs((np.asarray(X[index][:, usable], dtype=np.float64) - middle) / spread)
        some = ~np.isnan(distances).all(1)
        distance[index.start : index.stop][some] = np.nanmedian(distances[some], axis=1)
    return distance


def _log_depth(X: np.ndarray | sp.csr_array, kept: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """How much larger each row's counts are than those of other (weighted) rows, on the log scale: (N,).

    It is the mean over the counts above zero of the log of each, less the mean log of those in its column.
    """
    rows = gen_batches(X.shape[0], max(1, _BLOCK_ENTRIES // X.shape[1]))
    entries = [(index, *_logs_above_zero(X[index][:, kept])) for index in rows]
    total, n = np.zeros(len(kept)), np.zeros(len(kept))
    for index, row, column, logs in entries:
        w = weights[index][row]
        total += np.bincount(column, w * logs, minlength=len(kept))
        n += np.bincount(column, w, minlength=len(kept))
    typical = total / np.where(n > 0, n, 1)
    depth = np.full(X.shape[0], np.nan)
    for index, row, column, logs in entries:
        n_rows = index.stop - index.start
        n_counts = np.bincount(row, minlength=n_rows)
        sums = np.bincount(row, logs - typical[column], minlength=n_rows)
        depth[index] = np.where(n_counts > 0, sums / np.maximum(n_counts, 1), np.nan)
    return depth


def _logs_above_zero(block: np.ndarray | sp.csr_array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, column and log of every count above zero."""
    if isinstance(block, np.ndarray):
        row, column = np.nonzero(block > 0)
        return row, column, np.log(block[row, column].astype(np.float64))
    entries = block.tocoo()
    return entries.row, entries.col, np.log(entries.data.astype(np.float64))


def _far_rows(strangeness: np.ndarray, counted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Numbers of the rows whose strangeness (N,) is far above that of all others."""
    known = counted[~np.isnan(strangeness[counted])]
    if len(known) == 0:
        return known
    values = strangeness[known]
    # A row says as much as all its entries: none is given up unless it is far away for sure.
    _, edge, _ = _edges(_in_order(np.minimum(values, np.finfo(float).max), weights[known]), few=0)
    return known[values > edge]
