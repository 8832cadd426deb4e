"""Precision: in which models are trained on a table."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch

from .passes import summed
from .stored import row_blocks
from .table import Values

#: rows of a table that are looked at together
_ROWS = 4096
#: nats by which rounding may change the log-likelihood of a row, at most, in training
_TOLERATED_NATS = 0.1


def training_dtype(X: Values, counts: bool, *, on_grid: bool = False) -> torch.dtype:
    """The dtype in which models are trained on a table.

    Models whose latent is on a grid are trained in double precision. A fit is hundreds of steps, of which each starts
    where the last has ended, so rounding grows: from 1e-7 to 5e-4 of a curve in single precision, and from 1e-16 to
    1e-11 in double precision. Then nobody sees how a table is cut into chunks, in which order its rows come, or how
    many machines have added them up. It costs a tenth of the time on small tables, and almost half on large ones.

    With an encoder minibatches differ by more than rounding, and single precision does. But the log-likelihood of a row
    of counts is what is left of terms as large as x log x, which cancel. Where their rounding in single precision could
    be seen, double precision is used, at the cost of time.
    """
    if on_grid:
        return torch.float64
    if not counts:
        return torch.float32
    rounding = 0.5 * np.finfo(np.float32).eps * _largest_terms(X)
    return torch.float64 if rounding > _TOLERATED_NATS else torch.float32


def _largest_terms(X: Values) -> float:
    """The largest sum of x log(1 + x) over the observed entries of a row."""
    return summed(X, _largest_of_rows, add=max)


def _largest_of_rows(X: Values) -> float:
    return max(_largest_of_block(block) for _, block in row_blocks(X, _ROWS))


def _largest_of_block(block: np.ndarray | sp.csr_array) -> float:
    if isinstance(block, np.ndarray):
        block = np.asarray(block, dtype=np.float64)
        return float(np.nansum(block * np.log1p(block), axis=1).max())
    data = block.data.astype(np.float64)
    terms = sp.csr_array((data * np.log1p(data), block.indices, block.indptr), shape=block.shape)
    return float(terms.sum(axis=1).max())
