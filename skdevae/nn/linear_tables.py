"""Linear tables: the coefficients of a log-likelihood that is linear in the data.

For one entry x of a feature, such a log-likelihood is

    log p(x | z) = zero(z) + x slope(z) + 1[x > 0] positive(z) + constant(x)

with ``zero`` collecting everything that does not depend on x.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

#: where coefficients or curves can be asked for of some features: all of them
ALL_COLUMNS = slice(None)


class LinearTables(NamedTuple):
    """The coefficients that depend on z, each (..., D); ``positive`` is None where a likelihood has no such term."""

    zero: Tensor
    slope: Tensor
    positive: Tensor | None

    def average(self, weights: Tensor) -> LinearTables:
        """Expectation over candidates: from (P, K, D) with weights (K, D) to (P, D)."""
        return self._map(lambda table: (table * weights).sum(-2))

    def of_columns(self, columns: Tensor) -> LinearTables:
        """The coefficients of some features."""
        return self._map(lambda table: table[..., columns])

    def unflatten(self, sizes: Sequence[int]) -> LinearTables:
        """The first dimension as several."""
        return self._map(lambda table: table.unflatten(0, sizes))

    def _map(self, change: Callable[[Tensor], Tensor]) -> LinearTables:
        positive = None if self.positive is None else change(self.positive)
        return LinearTables(change(self.zero), change(self.slope), positive)


def concatenate(parts: Sequence[LinearTables], dimension: int) -> LinearTables:
    """Coefficients at one set of points after another (dimension 0), or of one block of features after another (-1)."""
    if len(parts) == 1:
        return parts[0]
    zero = torch.cat([part.zero for part in parts], dimension)
    slope = torch.cat([part.slope for part in parts], dimension)
    positive = [part.positive for part in parts if part.positive is not None]
    return LinearTables(zero, slope, torch.cat(positive, dimension) if positive else None)
