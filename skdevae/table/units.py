"""The units in which tables of measurements are modelled."""

from __future__ import annotations

import numpy as np
from sklearn.utils import gen_batches

#: rows of a table that are looked at together
_ROWS = 4096
#: sd of a column, relative to its values, that is rounding
_ROUNDING = 1e-10


def standardization(X: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd of every column over its observed entries, (D,) each, for rows (N, D) with weights (N,).

    A constant column has no spread to be measured in; its own size keeps its units out of the fit.
    """
    origin = _first_observed(X)
    n, total, squares = (np.zeros_like(origin) for _ in range(3))
    for index in gen_batches(len(X), _ROWS):
        block = np.asarray(X[index], dtype=np.float64) - origin
        w = np.ones(len(block)) if weights is None else weights[index]
        observed = np.isfinite(block)
        block = np.where(observed, block, 0)
        n, total, squares = n + w @ observed, total + w @ block, squares + w @ block**2
    mean = total / n
    sd = np.sqrt(np.maximum(squares / n - mean**2, 0))
    constant = sd <= _ROUNDING * np.maximum(np.abs(origin + mean), np.finfo(float).tiny)
    center = origin + mean
    return center, np.where(constant, np.where(center == 0, 1.0, np.abs(center)), sd)


def _first_observed(X: np.ndarray) -> np.ndarray:
    """The first entry of every column that is not missing, (D,): near enough to its values to lose no digits."""
    first = np.array(X[0], dtype=np.float64)
    for index in gen_batches(len(X), _ROWS):
        missing = np.isnan(first)
        if not missing.any():
            break
        block = np.asarray(X[index][:, missing], dtype=np.float64)
        first[missing] = block[np.argmax(~np.isnan(block), axis=0), np.arange(block.shape[1])]
    return np.nan_to_num(first)
