"""Shapes: the kinds of curve in the simulated tables, and what their generators share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: names of the three shapes; a feature's label is a position in this tuple
SHAPE_NAMES = ("increasing", "decreasing", "transient")
INCREASING, DECREASING, TRANSIENT = range(3)

#: the same with the two that only some tables have
BEHAVIOR_NAMES = (*SHAPE_NAMES, "dip", "flat")
DIP, FLAT = 3, 4


def spread_evenly(low: float, high: float, n_values: int, random: np.random.RandomState) -> NDArray[np.float64]:
    """Evenly spaced values from low to high, in random order; a single value lies midway."""
    if n_values == 1:
        return np.array([(low + high) / 2])
    return random.permutation(np.linspace(low, high, n_values))


def numbered_names(stem: str, n_names: int) -> list[str]:
    """Names that sort in the order of their numbers: stem_00, stem_01, ..."""
    n_digits = max(2, len(str(n_names - 1)))
    return [f"{stem}_{number:0{n_digits}d}" for number in range(n_names)]
