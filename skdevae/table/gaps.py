"""Gaps: values of one column that are farther from all others than the others are from each other."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: Most values of a column that may be set aside, as a share: a larger group is no accident.
MOST = 0.1
#: with fewer values than this, one that is far from the others is no surprise
LEAST_VALUES = 20
#: How far from the others values must be to be set aside, in ranges of the others: up to a share of 1 %, and where
#: there are more of them, which may be a rare population. The tails of ordinary distributions do not reach that far.
FEW, _RANGES_OF_FEW, _RANGES_OF_MANY = 0.01, 2.0, 3.0
#: the same for few counts, on the log scale, where no tail is long
_LOG_RANGES_OF_FEW = 1.0
#: on the log scale of counts, range that the others have at least: a gene without events elsewhere may have ten
_LEAST_LOG_RANGE = float(np.log(10.0))


class Sorted(NamedTuple):
    """Values in ascending order, and how often each counts: (n,) each."""

    values: np.ndarray
    weights: np.ndarray

    def core(self) -> tuple[int, int]:
        """Positions of the first and the last value of those that cannot be set aside: their middle 80 %."""
        most = int(MOST * self.weights.sum())
        below, above = np.cumsum(self.weights), np.cumsum(self.weights[::-1])
        n = len(self.values)
        return int(np.searchsorted(below, most, "right")), n - 1 - int(np.searchsorted(above, most, "right"))


def _first_gap(
    tail: np.ndarray,
    weights: np.ndarray,
    low: float,
    few: float,
    ranges_of_few: float = _RANGES_OF_FEW,
    least_range: float = 0.0,
) -> int | None:
    """Where values stop that go on without a gap: the position in ``tail`` of the last of them; None if all go on.

    ``tail`` has the largest values in ascending order, the first of which belongs to the others for sure, and
    ``weights`` how often each counts. ``low`` is a low value of the others. Up to ``few`` values need not be as far
    away as more of them.
    """
    gaps = np.diff(tail)
    width = np.maximum(tail[:-1] - low, least_range)
    beyond = np.cumsum(weights[:0:-1])[::-1]
    needed = np.where(beyond <= few, ranges_of_few, _RANGES_OF_MANY) * width
    far = np.nonzero((gaps > needed) & (width > 0))[0]
    return int(far[0]) if len(far) else None


def edges(column: Sorted, few: float) -> tuple[float, float, tuple[float, float]]:
    """Least and largest of the values that are near others; and the ends of their middle 80 %."""
    values, weights = column
    if weights.sum() < LEAST_VALUES:
        return -np.inf, np.inf, (np.nan, np.nan)
    first, last = column.core()
    # So that no difference overflows.
    scaled = values / (4 * max(abs(values[0]), abs(values[-1]), np.finfo(float).tiny))
    low, high = scaled[first], scaled[last]
    if not high > low:
        return -np.inf, np.inf, (np.nan, np.nan)
    above = _first_gap(scaled[last:], weights[last:], low, few)
    below = _first_gap(-scaled[first::-1], weights[first::-1], -high, few)
    return (
        -np.inf if below is None else float(values[first - below]),
        np.inf if above is None else float(values[last + above]),
        (float(values[first]), float(values[last])),
    )


def count_edge(column: Sorted, few: float) -> float:
    """Largest of the counts that are near others."""
    values, weights = column
    if weights.sum() < LEAST_VALUES or not values[-1] > 0:
        return np.inf
    first, last = column.core()
    logs = np.log1p(values[last:])
    above = _first_gap(logs, weights[last:], np.log1p(values[first]), few, _LOG_RANGES_OF_FEW, _LEAST_LOG_RANGE)
    return np.inf if above is None else float(values[last + above])


def in_order(values: np.ndarray, weights: np.ndarray) -> Sorted:
    """Values (n,) in ascending order with their weights."""
    if (weights == weights[:1]).all():  # to sort is faster than to find the order
        return Sorted(np.sort(values), weights)
    order = np.argsort(values, kind="stable")
    return Sorted(values[order], weights[order])
