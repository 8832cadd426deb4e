"""Outliers: rows and entries of a training table that are farther from all others than the others are from each other.

A sample in other units, a misplaced decimal point or a code for "missing" would rule a fit, for likelihoods look at
squares. So training does without rows of that kind, and puts single entries at the edge of the others. Only training
does: what a fitted model says of a row is what follows from the row as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from .._warnings import warn_user
from .gaps import FEW, LEAST_VALUES, count_edge, edges, in_order
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
        found = np.zeros(X.shape[0], dtype=bool)
        if self.bounds is not None:
            for index, block in row_blocks(X, max(1, BLOCK_ENTRIES // X.shape[1])):
                found[index.start + entries_beyond(block, *self.bounds)[0]] = True
        return found

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
    are_meant = np.zeros(X.shape[0], dtype=bool)
    are_meant[rows] = True
    blocks = row_blocks(X, max(1, BLOCK_ENTRIES // X.shape[1]))
    return sum(int(are_meant[index][entries_beyond(block, lower, upper)[0]].sum()) for index, block in blocks)


# ---- rows -----------------------------------------------------------------------------------------------------------


def _typical_distance(X: np.ndarray | StoredTable, kept: np.ndarray, core: np.ndarray) -> np.ndarray:
    """How far each row is from the middle of a column, in the column's spread: the median over its entries, (N,)."""
    usable = kept[~np.isnan(core[0, kept])]
    distance = np.full(len(X), np.nan)
    if len(usable) == 0:
        return distance
    low, high = core[:, usable]
    middle, spread = 0.5 * low + 0.5 * high, 0.5 * high - 0.5 * low
    for index, block in row_blocks(X, max(1, BLOCK_ENTRIES // X.shape[1])):
        with np.errstate(over="ignore"):
            distances = np.abs((np.asarray(block[:, usable], dtype=np.float64) - middle) / spread)
        some = ~np.isnan(distances).all(1)
        distance[index.start : index.stop][some] = np.nanmedian(distances[some], axis=1)
    return distance


def _log_depth(X: np.ndarray | sp.csr_array, kept: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """How much larger each row's counts are than those of other (weighted) rows, on the log scale: (N,).

    It is the mean over the counts above zero of the log of each, less the mean log of those in its column.
    """

    def entries() -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
        for index, block in row_blocks(X, max(1, BLOCK_ENTRIES // X.shape[1])):
            yield (index, *_logs_above_zero(block[:, kept]))

    total, n = np.zeros(len(kept)), np.zeros(len(kept))
    for index, row, column, logs in entries():
        w = weights[index][row]
        total += np.bincount(column, w * logs, minlength=len(kept))
        n += np.bincount(column, w, minlength=len(kept))
    typical = total / np.where(n > 0, n, 1)
    depth = np.full(X.shape[0], np.nan)
    for index, row, column, logs in entries():
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
    _, edge, _ = edges(in_order(np.minimum(values, np.finfo(float).max), weights[known]), few=0)
    return known[values > edge]
