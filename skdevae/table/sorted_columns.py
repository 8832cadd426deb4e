"""Sorted columns: the values of every column of a table in order, in which gaps can be looked for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.utils import gen_batches

from .extremes import Extremes
from .gaps import FEW, MOST, Sorted, count_edge, edges, in_order
from .passes import mapped
from .stored import StoredTable, row_blocks

#: entries of a block of columns
BLOCK_ENTRIES = 8_000_000
#: entries above which only columns are looked at in which a sample of rows leaves room for outliers
LARGE_TABLE = 2_000_000
#: rows of that sample, and its entries where it is of a stored table
_SAMPLED_ROWS, _SAMPLED_ENTRIES = 2000, 16_000_000


def sorted_columns(
    X: np.ndarray | sp.csr_array,
    counts: bool,
    kept: np.ndarray,
    counted: np.ndarray,
    weights: np.ndarray,
    everywhere: bool = False,
) -> Iterator[tuple[int, Sorted]]:
    """Number of each column, and its observed values in order; of a sparse one, all zeros as one value.

    Columns of a large table that leave no room for outliers are left out, unless all are asked for.
    """
    weights = weights[counted]
    if not isinstance(X, np.ndarray):
        by_column = X.tocsc() if len(counted) == X.shape[0] else X[counted].tocsc()
        total = weights.sum()
        for column in kept:
            entries = slice(by_column.indptr[column], by_column.indptr[column + 1])
            values, w = in_order(by_column.data[entries].astype(np.float64), weights[by_column.indices[entries]])
            of_zeros = total - w.sum()
            if of_zeros > 0:
                values, w = np.append(0.0, values), np.append(of_zeros, w)
            yield column, Sorted(values, w)
        return
    if X.size > LARGE_TABLE and not everywhere:
        kept = kept[_leaves_room(X, kept, counted, counts, weights)]
    width = max(1, BLOCK_ENTRIES // len(counted))
    for index in gen_batches(len(kept), width):
        columns = kept[index]
        block = np.concatenate([X[rows][:, columns] for rows in _row_blocks(X, counted)]).astype(np.float64, copy=False)
        for column, values in zip(columns, block.T, strict=True):
            observed = ~np.isnan(values)
            yield column, in_order(values[observed], weights[observed])


def _row_blocks(X: np.ndarray, counted: np.ndarray) -> Iterator[np.ndarray | slice]:
    step = max(1, BLOCK_ENTRIES // X.shape[1])
    for index in gen_batches(len(counted), step):
        yield index if len(counted) == len(X) else counted[index]


def _leaves_room(X: np.ndarray, kept: np.ndarray, counted: np.ndarray, counts: bool, weights: np.ndarray) -> np.ndarray:
    """In which columns an entry is so far from what a sample of rows holds that it might be an outlier: (D',).

    ``weights`` are those of the rows that are ``counted``.
    """
    sample = np.asarray(X[counted[_sampled(len(counted), weights, _SAMPLED_ROWS)]][:, kept], dtype=np.float64)
    extremes = Extremes.of((X[rows][:, kept] for rows in _row_blocks(X, counted)), len(kept))
    lowest, highest = extremes.lowest, extremes.highest
    if counts:
        sample, highest, lowest = np.log1p(sample), np.log1p(highest), np.zeros_like(lowest)
    low, high = np.nanquantile(sample, [1.5 * MOST, 1 - 1.5 * MOST], axis=0)
    return (highest - high > 0.5 * (high - low)) | (low - lowest > 0.5 * (high - low))


def _sampled(n_rows: int, weights: np.ndarray, most: int) -> np.ndarray:
    """Positions of rows with weights (N,), one for every so much weight: roughly ``most``."""
    below = np.cumsum(weights) - weights
    every = max(1, n_rows // most) * weights.mean()
    return np.nonzero(np.diff(np.floor(below / every), prepend=-1) > 0)[0]


def columns_of_stored(
    X: StoredTable, counts: bool, kept: np.ndarray, counted: np.ndarray, weights: np.ndarray
) -> Iterator[tuple[int, Sorted]]:
    """As :func:`sorted_columns`, from a sample of rows and one pass that looks for values beyond the sample's.

    Beyond are values farther out than all of the sample, or than the first gap in it: a gap that the sample does not
    have, the whole column does not have either.
    """
    most = max(1, min(_SAMPLED_ROWS, _SAMPLED_ENTRIES // X.shape[1]))
    sampled = counted[_sampled(len(counted), weights[counted], most)]
    equal = np.full(len(sampled), weights.sum() / len(sampled))
    sample = dict(sorted_columns(X[sampled], counts, kept, np.arange(len(sampled)), equal, everywhere=True))
    few = max(1.0, FEW * weights.sum())
    ends = np.full((2, X.shape[1]), np.nan)
    ends[:, kept] = np.transpose([_ends_of_sample(sample[column], counts, few) for column in kept])
    parts = [part for _, part in mapped(X, partial(_observed_and_beyond, ends), weights)]
    n_observed, entries = np.sum([n for n, _ in parts], axis=0), pd.concat([beyond for _, beyond in parts])
    by_column = dict(iter(entries[entries["weight"] > 0].groupby("column")))
    for column in kept:
        inner, outer = sample[column], by_column.get(column, entries[:0])
        is_inner = (inner.values >= ends[0, column]) & (inner.values <= ends[1, column])
        share = (n_observed[column] - outer["weight"].sum()) / max(inner.weights[is_inner].sum(), np.finfo(float).tiny)
        yield (
            column,
            in_order(
                np.append(inner.values[is_inner], outer["value"]),
                np.append(share * inner.weights[is_inner], outer["weight"]),
            ),
        )


def _observed_and_beyond(ends: np.ndarray, X: Any, weights: np.ndarray) -> tuple[np.ndarray, pd.DataFrame]:
    """Weight of the observed entries of every column (D,), and the entries beyond its ends (2, D) with weights."""
    n_observed, found = np.zeros(X.shape[1]), []
    for index, block in row_blocks(X, max(1, BLOCK_ENTRIES // X.shape[1])):
        w = weights[index]
        n_observed += w.sum() if sp.issparse(block) else w @ ~np.isnan(block)
        row, column, values = entries_beyond(block, *ends)
        found.append(pd.DataFrame({"column": column, "value": values, "weight": w[row]}))
    return n_observed, pd.concat(found)


def _ends_of_sample(column: Sorted, counts: bool, few: float) -> tuple[float, float]:
    """Least and largest of the values of a sample that go on without a gap. All is beyond where it has no values."""
    if len(column.values) == 0:
        return np.inf, -np.inf
    lower, upper = (-np.inf, count_edge(column, few)) if counts else edges(column, few)[:2]
    least = column.values[0] if np.isneginf(lower) and not counts else lower
    return least, column.values[-1] if np.isposinf(upper) else upper


def entries_beyond(
    block: np.ndarray | sp.csr_array, lower: np.ndarray, upper: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, column and value of the entries of some rows that are beyond their columns' edges (D,): (n,) each.

    Sparse rows hold counts, of which only large ones are.
    """
    if isinstance(block, np.ndarray):
        row, column = np.nonzero((block < lower) | (block > upper))
        return row, column, block[row, column].astype(np.float64)
    is_beyond = block.data > upper[block.indices]
    row = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
    return row[is_beyond], block.indices[is_beyond], block.data[is_beyond].astype(np.float64)
