"""Adjusting: a table without the part that sizes and covariates of its rows have in it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import scipy.sparse as sp

from ..table.stored import is_sparse
from ..table.table import Values


def adjusted(values: Values, expected: Iterable[tuple[slice, np.ndarray, np.ndarray]], is_count: bool) -> Values:
    """Entries (N, D) as if other values had been expected.

    ``expected`` gives some rows at a time, what was expected of their entries (B, D), and what is expected otherwise.
    """
    blocks = [_adjusted(values[rows], own, other, is_count) for rows, own, other in expected]
    return sp.vstack(blocks, format="csr") if is_sparse(values) else np.concatenate(blocks)


def _adjusted(values: Values, own: np.ndarray, other: np.ndarray, is_count: bool) -> Values:
    if not is_count:
        return np.asarray(values + (other - own), dtype=values.dtype)
    ratio = np.asarray(other / own, dtype=values.dtype)
    return sp.csr_array(values).multiply(ratio).tocsr() if sp.issparse(values) else values * ratio
