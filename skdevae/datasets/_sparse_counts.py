"""Sparse counts: a matrix of simulated counts that is never held densely as a whole."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils import gen_batches

#: entries of the matrix that are held densely at one time: 8 MiB for each float64 intermediate
_BLOCK_SIZE = 2**20


def stack_counts(n_samples: int, n_features: int, draw: Callable[[slice], NDArray[np.number]]) -> sparse.csr_array:
    """Stack counts that are drawn for one block of samples after another.

    Parameters
    ----------
    n_samples : int
        Number of rows.

    n_features : int
        Number of columns.

    draw : callable
        Draws the counts of the samples in a slice: an array of shape (samples in the slice, n_features).

    Returns
    -------
    counts : csr_array of shape (n_samples, n_features), float32
        All counts.
    """
    blocks = [
        sparse.csr_array(draw(rows).astype(np.float32))
        for rows in gen_batches(n_samples, max(1, _BLOCK_SIZE // n_features))
    ]
    return sparse.vstack(blocks, format="csr")
