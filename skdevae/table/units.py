"""Units: the centre and the scale of every column in which a table of measurements is modelled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np

from .extremes import Extremes
from .passes import added, gathered, summed
from .stored import StoredTable, row_blocks
from .validation import column_label

#: least and largest value that every column is read with: (D,) each
Bounds: TypeAlias = tuple[np.ndarray, np.ndarray]

#: rows of a table that are looked at together
_ROWS = 4096
#: most standard deviations that an entry may be from its column's mean: the squares of larger ones are no numbers
_REACH = 1e100
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
    def of_table(
        cls, X: np.ndarray | StoredTable, weights: np.ndarray | None = None, bounds: Bounds | None = None
    ) -> Units:
        """The mean and the sd of every column over its observed entries, which are first put within bounds."""
        return cls(*standardization(X, weights, bounds))

    def pooled(self, kept: np.ndarray | None = None) -> Units:
        """One centre and one scale, of the columns with numbers ``kept``, for all, so that equal columns stay equal."""
        if self.center is None or self.scale is None:
            return self
        centers, scales = (part if kept is None else part[kept] for part in (self.center, self.scale))
        center = centers.mean()
        spread = np.sqrt(np.mean(scales**2 + (centers - center) ** 2))
        return Units(np.full_like(self.center, center), np.full_like(self.scale, spread))

    def with_constants(self, columns: np.ndarray, levels: np.ndarray) -> Units:
        """The units where columns of some numbers (C,) are taken as constant at levels (C,): their unit is one."""
        if self.center is None or self.scale is None:
            return self
        center, scale = self.center.copy(), self.scale.copy()
        center[columns], scale[columns] = levels, 1.0
        return Units(center, scale)

    @property
    def sizes(self) -> np.ndarray | float:
        """What a difference of one in the model's units is in the user's: (D,), or 1 for all."""
        return 1.0 if self.scale is None else self.scale

    def to_user(self, values: np.ndarray) -> np.ndarray:
        """Values (..., D) in the model's units, in the user's."""
        return values if self.center is None else self.center + self.sizes * values

    def check_reach(self, X: np.ndarray | StoredTable, feature_names: np.ndarray | None) -> None:
        """Raise if an entry is so far from its column's training values that no density can be computed."""
        if self.center is None or self.scale is None:
            return
        for index, block in row_blocks(X, _ROWS):
            with np.errstate(over="ignore", invalid="ignore"):
                beyond = np.abs((np.asarray(block, dtype=np.float64) - self.center) / self.scale) > _REACH
            if beyond.any():
                row, column = np.argwhere(beyond)[0]
                raise ValueError(
                    f"{column_label(feature_names, int(column))}, row {index.start + row}: {block[row, column]:.4g} "
                    f"is more than {_REACH:g} standard deviations from the training values. Look for errors, or write "
                    "NaN where an entry is unknown."
                )

    def log_volumes(self, X: np.ndarray | StoredTable) -> np.ndarray | float:
        """Log of the factor from the user's units to the model's, summed over each row's observed entries: (N,).

        A log density in the user's units is the one in the model's units, minus this.
        """
        if self.scale is None:
            return 0.0
        return gathered(X, partial(_sums_over_observed, np.log(self.scale)))


def _sums_over_observed(values: np.ndarray, X: np.ndarray | StoredTable) -> np.ndarray:
    """Sums of values (D,) over each row's observed entries: (N,)."""
    return np.concatenate([~np.isnan(block) @ values for _, block in row_blocks(X, _ROWS)])


def standardization(
    X: np.ndarray | StoredTable, weights: np.ndarray | None = None, bounds: Bounds | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd of every column over its observed entries, (D,) each, for rows (N, D) with weights (N,).

    Every column is first put on the scale of its own range, so that no square is too large or too small for a number.
    A constant column has no spread to be measured in. It is measured in units of its own size. So is one without any
    entry, in units of one.
    """
    origin, reach = _range(X, weights, bounds)
    n, total, squares = summed(X, partial(_sums_of_powers, bounds, origin, reach), weights, add=added)
    n = np.where(n > 0, n, 1)
    mean = total / n
    sd = reach * np.sqrt(np.maximum(squares / n - mean**2, 0))
    center = origin + reach * mean
    constant = sd <= _ROUNDING * np.maximum(np.abs(center), np.finfo(float).tiny)
    return center, np.where(constant, np.where(center == 0, 1.0, np.abs(center)), sd)


def _sums_of_powers(
    bounds: Bounds | None,
    origin: np.ndarray,
    reach: np.ndarray,
    X: np.ndarray | StoredTable,
    weights: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weight of the observed entries, their sums and sums of squares, from an origin in units of a reach: (D,) each."""
    n, total, squares = (np.zeros_like(origin) for _ in range(3))
    for block, w in _blocks(X, weights, bounds):
        with np.errstate(over="ignore", invalid="ignore"):
            block = (block - origin) / reach
        observed = np.isfinite(block)
        block = np.where(observed, block, 0)
        n, total, squares = n + w @ observed, total + w @ block, squares + w @ block**2
    return n, total, squares


def _range(
    X: np.ndarray | StoredTable, weights: np.ndarray | None, bounds: Bounds | None
) -> tuple[np.ndarray, np.ndarray]:
    """The middle of every column and half of its range, (D,) each: 1 where there is none."""
    extremes = summed(X, partial(_extremes, bounds), weights)
    known = extremes.n_observed > 0
    lowest, highest = (np.where(known, extreme, 0) for extreme in (extremes.lowest, extremes.highest))
    reach = 0.5 * highest - 0.5 * lowest
    return 0.5 * highest + 0.5 * lowest, np.where(reach > 0, reach, 1.0)


def _extremes(bounds: Bounds | None, X: np.ndarray | StoredTable, weights: np.ndarray | None) -> Extremes:
    return Extremes.of((block[w > 0] for block, w in _blocks(X, weights, bounds)), X.shape[1])


def _blocks(
    X: np.ndarray | StoredTable, weights: np.ndarray | None, bounds: Bounds | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows in double precision and within bounds, with their weights, a few at a time."""
    for index, block in row_blocks(X, _ROWS):
        block = np.asarray(block, dtype=np.float64)
        if bounds is not None:
            block = np.clip(block, *bounds)
        yield block, np.ones(len(block)) if weights is None else weights[index]
