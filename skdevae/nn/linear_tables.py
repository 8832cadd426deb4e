"""Linear tables: the coefficients of a log-likelihood that is linear in the data.

For one entry x of a feature, such a log-likelihood is

    log p(x | z) = zero(z) + x slope(z) + 1[x > 0] positive(z) + constant(x)

with ``zero`` collecting everything that does not depend on x.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
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

    def at(self, points: slice | int | tuple[slice | int, ...]) -> LinearTables:
        """The coefficients at some of the points, or of one stratum, or at some places along several dimensions."""
        return self._map(lambda table: table[points])

    def unflatten(self, sizes: Sequence[int]) -> LinearTables:
        """The first dimension as several."""
        return self._map(lambda table: table.unflatten(0, sizes))

    def flatten(self) -> LinearTables:
        """The first two dimensions as one."""
        return self._map(lambda table: table.flatten(0, 1))

    def detach(self) -> LinearTables:
        """The coefficients without the way that gradients would go back."""
        return self._map(Tensor.detach)

    def _map(self, change: Callable[[Tensor], Tensor]) -> LinearTables:
        positive = None if self.positive is None else change(self.positive)
        return LinearTables(change(self.zero), change(self.slope), positive)


def concatenate(parts: Sequence[LinearTables], n_strata: int = 1) -> LinearTables:
    """Coefficients at one set of points after another, within each stratum."""
    if len(parts) == 1:
        return parts[0]
    if n_strata > 1:
        by_stratum = [part.unflatten((n_strata, -1)) for part in parts]
        return concatenate([part.at(number) for number in range(n_strata) for part in by_stratum])
    zero, slope = torch.cat([part.zero for part in parts]), torch.cat([part.slope for part in parts])
    positive = [part.positive for part in parts if part.positive is not None]
    return LinearTables(zero, slope, torch.cat(positive) if positive else None)


def from_blocks(n_features: int, blocks: Sequence[slice], of_block: Callable[[slice], LinearTables]) -> LinearTables:
    """Coefficients of all features, from those of one block of them after another: no two blocks are held at once."""
    first = of_block(blocks[0])
    if len(blocks) == 1:
        return first
    whole = first._map(lambda table: table.new_empty(*table.shape[:-1], n_features))
    for block, part in zip(blocks, chain([first], map(of_block, blocks[1:])), strict=True):
        for table, values in zip(whole, part, strict=True):
            if table is not None and values is not None:
                table[..., block] = values
    return whole
