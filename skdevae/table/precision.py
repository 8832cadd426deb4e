"""Precision: whether a table of counts can be fitted in single precision."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch

from .stored import row_blocks
from .table import Values

#: rows of a table that are looked at together
_ROWS = 4096
#: nats by which rounding may change the log-likelihood of a row, at most, in training
_TOLERATED_NATS = 0.1


def training_dtype(X: Values, counts: bool) -> torch.dtype:
    """The dtype in which models are trained on a table.

    The log-likelihood of a row of counts is what is left of terms as large as x log x, which cancel. Where their
    rounding in single precision could be seen, double precision is used, at the cost of time.
    """
    if not counts:
        return torch.float32
    rounding = 0.5 * np.finfo(np.float32).eps * _largest_terms(X)
    return torch.float64 if rounding > _TOLERATED_NATS else torch.float32


def _largest_terms(X: Values) -> float:
    """The largest sum of x log(1 + x) over the observed entries of a row."""
    return max(_largest_of_block(block) for _, block in row_blocks(X, _ROWS))


def _largest_of_block(block: np.ndarray | sp.csr_array) -> float:
    if isinstance(block, np.ndarray):
        block = np.asarray(block, dtype=np.float64)
        return float(np.nansum(block * np.log1p(block), axis=1).max())
    data = block.data.astype(np.float64)
    terms = sp.csr_array((data * np.log1p(data), block.indices, block.indptr), shape=block.shape)
    return float(terms.sum(axis=1).max())
