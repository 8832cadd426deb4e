"""A table as a weighted set of rows: what a fit sees if neither order nor repetition of its samples is to matter."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

#: bytes of a digest
_DIGEST_SIZE = 16


@dataclass(frozen=True)
class WeightedRows:
    """The distinct rows of a table, in an order that depends on what they hold alone.

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

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Values (U, ...) of the distinct rows as those of the table: (N, ...)."""
        return values[self.inverse]


def weighted_rows(X: np.ndarray | sp.csr_array, sample_weight: np.ndarray, *more: np.ndarray | None) -> WeightedRows:
    """The distinct rows of X (N, D) with positive weights (N,).

    ``more`` are arrays (N,) of what else must be alike in rows that are taken for copies of each other.
    """
    known = [np.asarray(array) for array in more if array is not None]
    digests = np.array([_digest(X, row, known) for row in range(X.shape[0])], dtype=f"S{_DIGEST_SIZE * 2}")
    counted = np.nonzero(sample_weight > 0)[0]
    _, first, position = np.unique(digests[counted], return_index=True, return_inverse=True)
    inverse = np.full(X.shape[0], -1)
    inverse[counted] = position.ravel()
    return WeightedRows(counted[first], np.bincount(position.ravel(), sample_weight[counted]), inverse)


def _digest(X: Any, row: int, more: list[np.ndarray]) -> str:
    digest = hashlib.blake2b(digest_size=_DIGEST_SIZE)
    if sp.issparse(X):
        part = slice(X.indptr[row], X.indptr[row + 1])
        columns, values = X.indices[part], X.data[part]
    else:
        (columns,) = np.nonzero(X[row])
        values = X[row, columns]
    # A table has one kind of gap, whatever the sign of its NaN.
    values = np.where(np.isnan(values), np.nan, values)
    digest.update(columns.astype(np.int64).tobytes())
    digest.update(values.astype(np.float64).tobytes())
    for array in more:
        digest.update(array[row].tobytes())
    return digest.hexdigest()
