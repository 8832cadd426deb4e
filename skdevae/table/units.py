"""Units: the centre and the scale of every column in which a table of measurements is modelled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.utils import gen_batches

#: rows of a table that are looked at together
_ROWS = 4096
#: sd of a column, relative to its values, that is taken for rounding
_ROUNDING = 1e-10


@dataclass(frozen=True)
class Units:
    """A centre and a scale for each column, (D,) each; or None for tables that are modelled as they are, as counts are.

    A value in the model's units is ``(x - center) / scale``.
    """

    center: np.ndarray | None = None
    scale: np.ndarray | None = None

    @classmethod
    def of_table(cls, X: np.ndarray, weights: np.ndarray | None = None) -> Units:
        """The mean and the sd of every column over its observed entries."""
        return cls(*standardization(X, weights))

    def pooled(self) -> Units:
        """One centre and one scale for all columns, so that columns that are equal stay equal."""
        if self.center is None or self.scale is None:
            return self
        center = self.center.mean()
        spread = np.sqrt(np.mean(self.scale**2 + (self.center - center) ** 2))
        return Units(np.full_like(self.center, center), np.full_like(self.scale, spread))

    @property
    def sizes(self) -> np.ndarray | float:
        """What a difference of one in the model's units is in the user's: (D,), or 1 for all."""
        return 1.0 if self.scale is None else self.scale

    def to_user(self, values: np.ndarray) -> np.ndarray:
        """Values (..., D) in the model's units, in the user's."""
        return values if self.center is None else self.center + self.sizes * values

    def log_volumes(self, X: np.ndarray) -> np.ndarray | float:
        """Log of the factor from the user's units to the model's, summed over each row's observed entries: (N,).

        A log density in the user's units is the one in the model's units, minus this.
        """
        if self.scale is None:
            return 0.0
        logs = np.log(self.scale)
        return np.concatenate([~np.isnan(X[index]) @ logs for index in gen_batches(len(X), _ROWS)])


def standardization(X: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd of every column over its observed entries, (D,) each, for rows (N, D) with weights (N,).

    A constant column has no spread to be measured in. It is measured in units of its own size.
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
