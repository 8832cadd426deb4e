"""Outliers: rows and entries of a training table that are farther from all others than the others are from each other.

A sample in other units, a misplaced decimal point or a code for "missing" would rule a fit, for likelihoods look at
squares. So training does without rows of that kind, and puts single entries at the edge of the others. Only training
does: what a fitted model says of a row is what follows from the row as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp

from .._warnings import warn_user
from .gaps import FEW, LEAST_VALUES, count_edge, edges, in_order
from .passes import added, gathered, summed
from .sorted_columns import BLOCK_ENTRIES, LARGE_TABLE, columns_of_stored, entries_beyond, sorted_columns
from .stored import StoredTable, row_blocks
from .units import Bounds
from .validation import first_columns, first_numbers


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
        return gathered(X, partial(_n_beyond_by_row, *self.bounds)) > 0

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
    X: np.ndarray | sp.csr_array | StoredTable,
    counts: bool,
    kept: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> Outliers:
    """Rows and entries of a training table that are far from all others.

    Of a large stored table, values in the middle of a column are those of a sample of rows, and those farther out are
    all of them.

    Parameters
    ----------
    X : ndarray, CSR array or StoredTable of shape (N, D)
    counts : bool
        Whether values are counts. They are compared on the scale of log(1 + x), and only large ones are set aside.
    kept : ndarray of shape (D',), optional
        Numbers of the columns that vary.
    weights : ndarray of shape (N,), optional
        How often each row counts; None means once.
    """
    if isinstance(X, StoredTable) and X.n_stored <= LARGE_TABLE:
        X = X[:]
    weights = np.ones(X.shape[0]) if weights is None else weights
    counted = np.nonzero(weights > 0)[0]
    kept = np.arange(X.shape[1]) if kept is None else kept
    total = float(weights.sum())
    if total < LEAST_VALUES:
        return NO_OUTLIERS
    few = max(1.0, FEW * total)
    lower, upper = np.full(X.shape[1], -np.inf), np.full(X.shape[1], np.inf)
    core = np.full((2, X.shape[1]), np.nan)
    find = columns_of_stored if isinstance(X, StoredTable) else sorted_columns
    for column, values in find(X, counts, kept, counted, weights):  # type: ignore[arg-type]
        if counts:
            upper[column] = count_edge(values, few)
        else:
            lower[column], upper[column], core[:, column] = edges(values, few)
    strangeness = _log_depth(X, kept, weights) if counts else _typical_distance(X, kept, core)
    rows = _far_rows(strangeness, counted, weights)
    bounded = np.isfinite(lower) | np.isfinite(upper)
    if not bounded.any():
        return Outliers(rows)
    entries = _n_beyond(X, lower, upper, np.setdiff1d(counted, rows))
    return Outliers(rows, (lower, upper) if entries else None, entries)


def _n_beyond(X: Any, lower: np.ndarray, upper: np.ndarray, rows: np.ndarray) -> int:
    """Number of entries of some rows that are beyond their columns' edges."""
    return int(gathered(X, partial(_n_beyond_by_row, lower, upper))[rows].sum())


def _n_beyond_by_row(lower: np.ndarray, upper: np.ndarray, X: Any) -> np.ndarray:
    """Number of entries of each row that are beyond their columns' edges (D,): (N,)."""
    blocks = row_blocks(X, max(1, BLOCK_ENTRIES // X.shape[1]))
    return np.concatenate(
        [np.bincount(entries_beyond(block, lower, upper)[0], minlength=block.shape[0]) for _, block in blocks]
    )


# ---- rows -----------------------------------------------------------------------------------------------------------


def _typical_distance(X: np.ndarray | StoredTable, kept: np.ndarray, core: np.ndarray) -> np.ndarray:
    """How far each row is from the middle of a column, in the column's spread: the median over its entries, (N,)."""
    usable = kept[~np.isnan(core[0, kept])]
    if len(usable) == 0:
        return np.full(len(X), np.nan)
    low, high = core[:, usable]
    middle, spread = 0.5 * low + 0.5 * high, 0.5 * high - 0.5 * low
    return gathered(X, partial(_median_distances, usable, middle, spread))


def _median_distances(columns: np.ndarray, middle: np.ndarray, spread: np.ndarray, X: Any) -> np.ndarray:
    """Median over some columns of each row's distance from their middles, in their spreads: (N,)."""
    distance = np.full(len(X), np.nan)
    for index, block in row_blocks(X, max(1, BLOCK_ENTRIES // X.shape[1])):
        with np.errstate(over="ignore"):
            distances = np.abs((np.asarray(block[:, columns], dtype=np.float64) - middle) / spread)
        some = ~np.isnan(distances).all(1)
        distance[index.start : index.stop][some] = np.nanmedian(distances[some], axis=1)
    return distance


def _log_depth(X: np.ndarray | sp.csr_array, kept: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """How much larger each row's counts are than those of other (weighted) rows, on the log scale: (N,).

    It is the mean over the counts above zero of the log of each, less the mean log of those in its column.
    """
    total, n = summed(X, partial(_sums_of_logs, kept), weights, add=added)
    return gathered(X, partial(_mean_log_ratios, kept, total / np.where(n > 0, n, 1)))


def _sums_of_logs(columns: np.ndarray, X: Any, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the logs of counts above zero, and of their weights, of some columns: (C,) each."""
    total, n = np.zeros(len(columns)), np.zeros(len(columns))
    for index, row, column, logs in _logs_by_block(X, columns):
        w = weights[index][row]
        total += np.bincount(column, w * logs, minlength=len(columns))
        n += np.bincount(column, w, minlength=len(columns))
    return total, n


def _mean_log_ratios(columns: np.ndarray, typical: np.ndarray, X: Any) -> np.ndarray:
    """Mean of each row's log counts above zero, less what is typical of their columns (C,): (N,)."""
    depth = np.full(X.shape[0], np.nan)
    for index, row, column, logs in _logs_by_block(X, columns):
        n_rows = index.stop - index.start
        n_counts = np.bincount(row, minlength=n_rows)
        sums = np.bincount(row, logs - typical[column], minlength=n_rows)
        depth[index] = np.where(n_counts > 0, sums / np.maximum(n_counts, 1), np.nan)
    return depth


def _logs_by_block(X: Any, columns: np.ndarray) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
    """Numbers of some rows; row, column and log of their counts above zero in some columns."""
    for index, block in row_blocks(X, max(1, BLOCK_ENTRIES // X.shape[1])):
        yield (index, *_logs_above_zero(block[:, columns]))


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
    _, edge, _ = edges(in_order(np.minimum(values, np.finfo(float).max), weights[known]), few=0)
    return known[values > edge]
