"""Strata: rows of a table in groups of equal covariates, whose curves differ by an offset of their own.

Where a link is not linear, rows with other covariates have other coefficients at the same place on the axis. Rows of
one stratum share them. So coefficients and sums are those of every stratum at every point, one stratum after another:
(L P, D) for L strata and P points, and everything that is computed from sums goes on as without covariates.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .linear_tables import LinearTables
from .rows import DenseRows, Rows

#: Strata at the most that have their coefficients on one grid together. More are too many to hold.
MOST_STRATA = 64


def spread_over_strata(curves: Tensor, offsets: Tensor | None) -> Tensor:
    """Curves (P, ..., D) with the offsets (L, D) of every stratum: (L P, ..., D), one stratum after another."""
    if offsets is None:
        return curves
    by_stratum = offsets.view(len(offsets), *[1] * (curves.ndim - 1), -1)
    return (curves + by_stratum).flatten(0, 1)


def repeated_over_strata(values: Tensor, offsets: Tensor | None) -> Tensor:
    """Values (P, ...) once for every stratum: (L P, ...)."""
    return values if offsets is None else values.repeat(len(offsets), *[1] * (values.ndim - 1))


def summed_over_strata(values: Tensor, offsets: Tensor | None) -> Tensor:
    """Sums (L P, ...) of every stratum, added up: (P, ...)."""
    return values if offsets is None else values.unflatten(0, (len(offsets), -1)).sum(0)


def among_strata(values: Tensor, numbers: Tensor, n_strata: int) -> Tensor:
    """Sums (L P, ...) of strata as those of more strata, of which they have the numbers (L,); zeros for the others."""
    by_stratum = values.unflatten(0, (len(numbers), -1))
    spread = values.new_zeros(n_strata, *by_stratum.shape[1:])
    spread[numbers] = by_stratum
    return spread.flatten(0, 1)


class StratifiedRows:
    """Rows that belong to L strata each. Coefficients and sums are those of all strata, (L P, D).

    Parameters
    ----------
    rows : Rows
    stratum : Tensor of shape (B,)
        Number of each row's stratum.
    n_strata : int
        L.
    """

    def __init__(self, rows: Rows, stratum: Tensor, n_strata: int):
        self._rows, self._stratum, self._n_strata = rows, stratum, n_strata
        self.observed, self.context, self.size = rows.observed, rows.context, rows.size

    def __len__(self) -> int:
        return len(self._rows)

    def _members(self) -> list[Tensor]:
        """Numbers of the rows of each stratum."""
        return [(self._stratum == number).nonzero()[:, 0] for number in range(self._n_strata)]

    def log_likelihood(self, tables: LinearTables) -> Tensor:
        """The rows' log-likelihood at every point, under the coefficients (L P, D) of their own stratum: (B, P)."""
        n_points = len(tables.slope) // self._n_strata
        total = tables.slope.new_empty(len(self), n_points)
        for number, index in enumerate(self._members()):
            if len(index):
                own = tables.at(slice(number * n_points, (number + 1) * n_points))
                total[index] = self._rows.take(index).log_likelihood(own)
        return total

    def expectations(self, q: Tensor, with_positive: bool) -> tuple[Tensor, Tensor | None, Tensor]:
        """Sums over the rows of each stratum, weighted by q (B, P): (L P, D), one stratum after another."""
        parts = [self._rows.take(index).expectations(q[index], with_positive) for index in self._members()]
        weighted, positive, mass = zip(*parts, strict=True)
        width = max(part.shape[1] for part in mass)  # a stratum without gaps has one column for all features
        return (
            torch.cat(weighted),
            torch.cat([part for part in positive if part is not None]) if with_positive else None,
            torch.cat([part.expand(-1, width) for part in mass]),
        )

    def take(self, index: Tensor) -> StratifiedRows:
        """See :class:`~skdevae.nn.rows.Rows`."""
        return StratifiedRows(self._rows.take(index), self._stratum[index], self._n_strata)

    def sized(self, size: Tensor | None) -> StratifiedRows:
        """See :class:`~skdevae.nn.rows.Rows`."""
        return StratifiedRows(self._rows.sized(size), self._stratum, self._n_strata)

    def of_columns(self, columns: Tensor) -> StratifiedRows:
        """See :class:`~skdevae.nn.rows.Rows`."""
        return StratifiedRows(self._rows.of_columns(columns), self._stratum, self._n_strata)

    def dense(self) -> DenseRows:
        """See :class:`~skdevae.nn.rows.Rows`. They are no longer in strata."""
        return self._rows.dense()

    def nonzero(self) -> tuple[Tensor, Tensor, Tensor]:
        """See :class:`~skdevae.nn.rows.Rows`."""
        return self._rows.nonzero()
