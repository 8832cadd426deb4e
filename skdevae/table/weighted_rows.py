"""Weighted rows: a table as its distinct rows, each with the total weight of its copies.

A fit that sees a table in this form depends neither on the order of the samples nor on how often each is repeated. The
distinct rows come in the order of a hash of their content. Rows with equal hashes are compared entry by entry, so
different rows are never taken for copies of each other.

A stored table is read in its own order only. So its distinct rows come in that order, and rows are taken for copies
whose hashes and second hashes, of 64 bits each, are equal: by chance, two different rows of a billion are so once in
10^20 tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike

from .._sklearn import check_sample_weight
from .passes import gathered
from .stored import StoredTable, row_blocks, some_rows
from .validation import named_entries

#: entries of the table that are hashed, or compared, at a time
_CHUNK_ENTRIES = 250_000
#: sum of weights above which double precision does not tell one sample more from none
_MOST_COPIES = 2.0**53


@dataclass(frozen=True)
class WeightedRows:
    """The distinct rows of a table, in an order that depends on their content alone.

    Attributes
    ----------
    index : ndarray of shape (U,)
        Where in the table each distinct row stands first.
    weights : ndarray of shape (U,)
        Total weight of its copies.
    inverse : ndarray of shape (N,)
        For each row of the table, the number of the distinct row that it is a copy of; -1 for rows without weight.
    """

    index: np.ndarray
    weights: np.ndarray
    inverse: np.ndarray

    @property
    def counts(self) -> np.ndarray | None:
        """The weights, or None where each row counts once."""
        return None if (self.weights == 1).all() else self.weights

    def of(self, values: Any) -> Any:
        """Values (N, ...) of the table at its distinct rows; not copied where these are all rows, in their order."""
        is_whole = len(self.index) == len(self.inverse) and (np.diff(self.index) > 0).all()
        return values if is_whole else some_rows(values, self.index)

    def without(self, rows: np.ndarray) -> WeightedRows:
        """The distinct rows but for those of which some rows of the table (M,) are copies."""
        if len(rows) == 0:
            return self
        kept = np.ones(len(self.index), dtype=bool)
        kept[self.inverse[rows]] = False
        numbers = np.append(np.where(kept, np.cumsum(kept) - 1, -1), -1)  # the last is that of rows without weight
        return WeightedRows(self.index[kept], self.weights[kept], numbers[self.inverse])

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Values (U, ...) of the distinct rows as those of the table: (N, ...)."""
        return values[self.inverse]


def weighted_rows(
    X: np.ndarray | sp.csr_array | StoredTable, sample_weight: np.ndarray, *more: np.ndarray | None
) -> WeightedRows:
    """The distinct rows of X (N, D) with positive weights (N,).

    Two rows are copies if all their entries are equal, and what arrays ``more`` (N, ...) say of them is equal too. 0.0
    and -0.0 are equal, and so are all NaN. A CSR array, with sorted indices and without stored zeros, gives the same
    result as the dense array with its entries.
    """
    columns = np.column_stack([np.empty((X.shape[0], 0)), *(array for array in more if array is not None)])
    counted = np.nonzero(sample_weight > 0)[0]
    if isinstance(X, StoredTable):
        return _in_table_order(_of_hashes(_hashes_twice(X, columns), counted, sample_weight))
    _, first, group = np.unique(_hashes(X, columns)[counted], return_index=True, return_inverse=True)
    is_copy = first[group] != np.arange(len(counted))
    collides = np.zeros(len(counted), dtype=bool)
    collides[is_copy] = ~_are_equal(X, columns, counted[is_copy], counted[first[group[is_copy]]])
    if collides.any():
        first, group = _split_by_content(X, columns, counted, group, np.unique(group[collides]))
    inverse = np.full(X.shape[0], -1)
    inverse[counted] = group
    return WeightedRows(counted[first], np.bincount(group, sample_weight[counted]), inverse)


def rows_of_a_fit(
    X: np.ndarray | sp.csr_array | StoredTable, sample_weight: np.ndarray, *more: np.ndarray | None
) -> WeightedRows:
    """The rows that a fit reads: as in :func:`weighted_rows`, but in the table's own order where each counts once."""
    rows = weighted_rows(X, sample_weight, *more)
    return rows if rows.counts is not None else _in_table_order(rows)


def _in_table_order(rows: WeightedRows) -> WeightedRows:
    """The same rows in the order in which they first stand in the table."""
    order = np.argsort(rows.index)
    rank = np.full(len(order) + 1, -1)  # the last is that of rows without weight
    rank[order] = np.arange(len(order))
    return WeightedRows(rows.index[order], rows.weights[order], rank[rows.inverse])


def checked_weights(sample_weight: ArrayLike | None, X: Any) -> np.ndarray:
    """Weights of the samples X as floats (N,), ones where there are none; raise unless a sample has one."""
    with named_entries(sample_weight, "sample_weight"):
        weights = check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    if not (weights > 0).any():
        raise ValueError("sample_weight is zero for every sample, so that none counts: give one a positive weight.")
    if weights.sum() > _MOST_COPIES:
        raise ValueError(
            "sample_weight says how often each sample counts, and adds up to more than 2**53: divide all weights by "
            "one number."
        )
    return weights


# ---- hashes ---------------------------------------------------------------------------------------------------------


def _of_hashes(hashes: np.ndarray, counted: np.ndarray, sample_weight: np.ndarray) -> WeightedRows:
    """The distinct rows among those that count, of which copies have equal hashes (N, 2)."""
    pairs = np.ascontiguousarray(hashes[counted]).view([("first", np.uint64), ("second", np.uint64)])[:, 0]
    _, first, group = np.unique(pairs, return_index=True, return_inverse=True)
    inverse = np.full(len(hashes), -1)
    inverse[counted] = group
    return WeightedRows(counted[first], np.bincount(group, sample_weight[counted]), inverse)


def _hashes_twice(X: StoredTable, more: np.ndarray) -> np.ndarray:
    """Two hashes of every row of a stored table (N, D) and of ``more`` (N, M): (N, 2), from one pass."""
    return gathered(X, _both_hashes, more)


def _both_hashes(X: Any, more: np.ndarray) -> np.ndarray:
    hashes = np.empty((X.shape[0], 2), dtype=np.uint64)
    for rows, block in row_blocks(X, X.shape[0]):
        for number in range(2):
            hashes[rows, number] = _hashes(block, more[rows], number)
    return hashes


def _hashes(X: np.ndarray | sp.csr_array, more: np.ndarray, number: int = 0) -> np.ndarray:
    """A hash of every row of X (N, D) and of ``more`` (N, M): (N,).

    It is the sum, modulo 2^64, of hashes of the entries that are not zero, each together with its column. Another
    ``number`` gives another one.
    """
    n_rows, n_features = X.shape
    n_keys = n_features + more.shape[1]
    keys = _mixed(np.arange(number * n_keys, (number + 1) * n_keys, dtype=np.uint64))
    hashes = np.empty(n_rows, dtype=np.uint64)
    sums = _dense_sums if isinstance(X, np.ndarray) else _sparse_sums
    for rows in _chunks(_n_stored(X)):
        hashes[rows] = sums(X, rows, keys) + _entry_hashes(more[rows], keys[n_features:]).sum(1)
    return hashes


def _n_stored(X: np.ndarray | sp.csr_array) -> np.ndarray:
    """Number of entries that are stored of each row, (N,)."""
    return np.full(len(X), X.shape[1]) if isinstance(X, np.ndarray) else np.diff(X.indptr)


def _dense_sums(X: np.ndarray, rows: slice, keys: np.ndarray) -> np.ndarray:
    """The hashes of some rows of an array, (B,)."""
    return _entry_hashes(X[rows], keys[: X.shape[1]]).sum(1)


def _sparse_sums(X: sp.csr_array, rows: slice, keys: np.ndarray) -> np.ndarray:
    """The hashes of some rows of a CSR array, (B,)."""
    starts, end = X.indptr[rows].astype(np.int64), int(X.indptr[rows.stop])
    entries = slice(int(starts[0]), end)
    of_entries = _entry_hashes(X.data[entries], keys[X.indices[entries]])
    sums = np.zeros(len(starts), dtype=np.uint64)
    stored = np.diff(starts, append=end) > 0
    if stored.any():
        sums[stored] = np.add.reduceat(of_entries, starts[stored] - starts[0])
    return sums


def _entry_hashes(values: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """A hash of every entry with the key of its column, 0 for entries that are zero; as many as there are values."""
    values = _canonical(values)
    hashes = _mixed(values.view(np.uint64) ^ keys)
    hashes[values == 0] = 0
    return hashes


def _canonical(values: np.ndarray) -> np.ndarray:
    """Values in float64 with one kind of zero and one kind of NaN, so that equal entries have equal bits."""
    values = np.add(values, 0.0, dtype=np.float64)
    values[np.isnan(values)] = np.nan
    return values


def _mixed(bits: np.ndarray) -> np.ndarray:
    """Hashes of whole numbers (uint64), one each."""
    return pd.util.hash_array(bits.ravel()).reshape(bits.shape)


def _chunks(n_entries: np.ndarray) -> Iterator[slice]:
    """Rows in order, a few at a time, for the numbers of their entries (N,)."""
    ends = np.cumsum(n_entries)
    start = 0
    while start < len(ends):
        seen = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, seen + _CHUNK_ENTRIES, side="right")))
        yield slice(start, stop)
        start = stop


# ---- collisions -----------------------------------------------------------------------------------------------------


def _are_equal(X: np.ndarray | sp.csr_array, more: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Whether rows of numbers ``ours`` (B,) hold the same as those of numbers ``theirs`` (B,), pair by pair: (B,)."""
    equal = np.empty(len(ours), dtype=bool)
    equal_rows = _equal_rows if isinstance(X, np.ndarray) else _equal_sparse_rows
    for pairs in _chunks(_n_stored(X)[ours]):
        one, other = ours[pairs], theirs[pairs]
        equal[pairs] = _equal_rows(more[one], more[other]) & equal_rows(X[one], X[other])
    return equal


def _equal_rows(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.all(_equal_entries(one, other), axis=1)


def _equal_sparse_rows(one: sp.csr_array, other: sp.csr_array) -> np.ndarray:
    equal = np.diff(one.indptr) == np.diff(other.indptr)
    candidates = np.nonzero(equal)[0]
    one, other = one[candidates], other[candidates]
    differs = (one.indices != other.indices) | ~_equal_entries(one.data, other.data)
    equal[np.repeat(candidates, np.diff(one.indptr))[differs]] = False
    return equal


def _equal_entries(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one == other) | (np.isnan(one) & np.isnan(other))


def _split_by_content(
    X: np.ndarray | sp.csr_array, more: np.ndarray, counted: np.ndarray, group: np.ndarray, collided: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The groups after those with different rows in them are split, and the first row of each.

    Within a group that is split, distinct rows come in the order of the bytes of their content.
    """

    def content(row: int) -> bytes:
        values = X[[row]] if isinstance(X, np.ndarray) else X[[row]].toarray()
        return _canonical(values).tobytes() + _canonical(more[[row]]).tobytes()

    rank = np.zeros(len(group), dtype=np.int64)
    for number in collided:
        members = np.nonzero(group == number)[0]
        contents = [content(int(row)) for row in counted[members]]
        ranks = {bytes_of_row: k for k, bytes_of_row in enumerate(sorted(set(contents)))}
        rank[members] = [ranks[bytes_of_row] for bytes_of_row in contents]
    _, first, split = np.unique(np.column_stack([group, rank]), axis=0, return_index=True, return_inverse=True)
    return first, split.ravel()
