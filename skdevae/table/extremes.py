"""Extremes: the least and the largest entry of every column, from one pass over a table of any kind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp


@dataclass(frozen=True)
class Extremes:
    """Least and largest entry of every column and how many there are, (D,) each. Without entries: inf, -inf and 0."""

    lowest: np.ndarray
    highest: np.ndarray
    n_observed: np.ndarray

    @classmethod
    def of(cls, blocks: Iterable[np.ndarray | sp.csr_array], n_features: int) -> Extremes:
        """Those of a table that comes some rows at a time; NaN is no entry."""
        lowest, highest = np.full(n_features, np.inf), np.full(n_features, -np.inf)
        n_observed = np.zeros(n_features)
        for block in blocks:
            if isinstance(block, np.ndarray):
                least, most = (
                    np.fmin.reduce(block, axis=0, initial=np.inf),
                    np.fmax.reduce(block, axis=0, initial=-np.inf),
                )
                n_observed += (~np.isnan(block)).sum(0)
            else:
                least, most = (extreme.toarray().ravel() for extreme in (block.min(axis=0), block.max(axis=0)))
                n_observed += block.shape[0]
            lowest, highest = np.fmin(lowest, least), np.fmax(highest, most)
        return cls(lowest, highest, n_observed)

    def __add__(self, other: Extremes) -> Extremes:
        """Those of two tables of the same columns, one above the other."""
        lowest, highest = np.fmin(self.lowest, other.lowest), np.fmax(self.highest, other.highest)
        return Extremes(lowest, highest, self.n_observed + other.n_observed)

    @property
    def vary(self) -> np.ndarray:
        """Which columns have two different values, at least: (D,) of booleans."""
        return self.highest > self.lowest
