"""Rows: some rows of a table, in the one form that the models ask for."""

from __future__ import annotations

from copy import copy
from typing import Any, Protocol

import torch
from torch import Tensor

from .linear_tables import LinearTables
from .row_context import EMPTY, RowContext

#: row, column and value of each of some entries, (M,) each
Entries = tuple[Tensor, Tensor, Tensor]


class Rows(Protocol):
    """Some rows of a table, dense or sparse, as this package's models use them."""

    #: mask of the entries that are there, (B, D) of 0 and 1; None where all are
    observed: Tensor | None
    #: what the rows carry beside their entries
    context: RowContext[Tensor]
    #: What their expected counts are multiplied by, (B,), where coefficients are those of rows of size 1. None where
    #: coefficients are those of the rows themselves.
    size: Tensor | None

    def __len__(self) -> int: ...

    def log_likelihood(self, tables: LinearTables) -> Tensor:
        """``size zero + x slope + 1[x > 0] positive`` summed over observed features, for tables (P, D): (B, P).

        The size is 1 where rows have none.
        """
        ...

    def expectations(self, q: Tensor, with_positive: bool) -> tuple[Tensor, Tensor | None, Tensor]:
        """Sums over rows of x, 1[x > 0] and the sizes of observed entries, weighted by q (B, P).

        Each is (P, D); that of the sizes is (P, 1) where nothing is missing.
        """
        ...

    def take(self, index: Tensor) -> Rows:
        """A subset of these rows."""
        ...

    def sized(self, size: Tensor | None) -> Rows:
        """The same rows with sizes (B,)."""
        ...

    def of_columns(self, columns: Tensor) -> Rows:
        """These rows with some of their columns."""
        ...

    def dense(self) -> DenseRows:
        """These rows as a dense tensor."""
        ...

    def nonzero(self) -> Entries:
        """Row, column and value of every entry that is not zero."""
        ...


class DenseRows:
    """Rows as a tensor (B, D). A missing entry is a zero with ``observed`` zero too.

    Parameters
    ----------
    values : Tensor of shape (B, D)
    observed : Tensor of shape (B, D), of 0 and 1, or None
        None where no entry is missing.
    context : RowContext
        What the rows carry beside their entries.
    entries : tuple of Tensor, default=None
        What :meth:`nonzero` finds, where that is known already.
    size : Tensor of shape (B,), default=None
        See :class:`Rows`.
    """

    def __init__(
        self,
        values: Tensor,
        observed: Tensor | None,
        context: RowContext[Tensor] = EMPTY,
        entries: Entries | None = None,
        size: Tensor | None = None,
    ):
        self._values: Tensor | None = values
        self._shape = values.shape
        self.observed = observed
        self.context = context
        self.size = size
        self._entries = entries
        self._per_row: Tensor | None = None  # number of entries of each row, where that is known already
        self._is_sparse = False  # whether to hand on entries rather than the tensor of all

    @classmethod
    def of_entries(
        cls, entries: Entries, shape: tuple[int, int], context: RowContext[Tensor] = EMPTY, size: Tensor | None = None
    ) -> DenseRows:
        """Rows (B, D) that are zero but for some entries. The tensor of all is made where it is asked for."""
        rows = cls(entries[2].new_empty(0, shape[1]), None, context, entries, size)
        rows._values, rows._shape, rows._is_sparse = None, torch.Size(shape), True
        return rows

    @property
    def values(self) -> Tensor:
        """All entries, (B, D)."""
        if self._values is None:
            self._values = self.filled_in(self.nonzero()[2])
        return self._values

    def filled_in(self, values: Tensor) -> Tensor:
        """A tensor (B, D) with values (M,) at the places of :meth:`nonzero`, and zeros elsewhere."""
        row, column, _ = self.nonzero()
        n_rows, n_features = self._shape
        filled = values.new_zeros(n_rows * n_features).scatter_add_(0, row * n_features + column, values)
        return filled.view(n_rows, n_features)

    @property
    def entries(self) -> Entries | None:
        """What :meth:`nonzero` finds, where that is known already; else None."""
        return self._entries

    def __len__(self) -> int:
        return self._shape[0]

    def log_likelihood(self, tables: LinearTables) -> Tensor:
        """See :class:`Rows`."""
        total = self.values @ tables.slope.T
        total += weighted_zero(tables.zero, self.observed, self.size)
        if tables.positive is not None:
            total += self._positive() @ tables.positive.T
        return total

    def expectations(self, q: Tensor, with_positive: bool) -> tuple[Tensor, Tensor | None, Tensor]:
        """See :class:`Rows`."""
        mass = mass_of(q, self.observed, self.size)
        positive = weighted_sums(q, self._positive()) if with_positive else None
        return weighted_sums(q, self.values), positive, mass

    def sized(self, size: Tensor | None) -> DenseRows:
        """See :class:`Rows`."""
        sized = copy(self)
        sized.size = size
        return sized

    def take(self, index: Any) -> DenseRows:
        """See :class:`Rows`."""
        observed = None if self.observed is None else self.observed[index]
        size = None if self.size is None else self.size[index]
        if self._is_sparse and isinstance(index, (slice, Tensor)):
            return self._sparse_take(index, self.context.take(index), size)
        return DenseRows(self.values[index], observed, self.context.take(index), size=size)

    def to(self, dtype: torch.dtype) -> DenseRows:
        """The same rows in another precision."""
        context = self.context.map(lambda fact: fact.to(dtype) if fact.is_floating_point() else fact)
        size = None if self.size is None else self.size.to(dtype)
        entries = None if self._entries is None else (*self._entries[:2], self._entries[2].to(dtype))
        if self._is_sparse and entries is not None:
            return DenseRows.of_entries(entries, (len(self), self._shape[1]), context, size)
        observed = None if self.observed is None else self.observed.to(dtype)
        return DenseRows(self.values.to(dtype), observed, context, entries, size)

    def _sparse_take(self, index: Any, context: RowContext[Tensor], size: Tensor | None) -> DenseRows:
        """Some rows, a slice, a mask or numbers, by their entries."""
        row, column, value = self.nonzero()  # in the order of the rows
        if self._per_row is None:
            self._per_row = torch.bincount(row, minlength=len(self))
        per_row, first = self._per_row[index], (self._per_row.cumsum(0) - self._per_row)[index]
        if isinstance(index, slice) and index.step in (None, 1):
            place: Any = slice(int(first[0]), int(first[-1] + per_row[-1])) if len(per_row) else slice(0, 0)
            new_row = row[place] - range(len(self))[index].start
        else:
            new_row = torch.arange(len(per_row), device=row.device).repeat_interleave(per_row)
            shift = first - (per_row.cumsum(0) - per_row)
            place = torch.arange(len(new_row), device=row.device) + shift[new_row]
        rows = DenseRows.of_entries(
            (new_row, column[place], value[place]), (len(per_row), self._shape[1]), context, size
        )
        rows._per_row = per_row
        return rows

    def of_columns(self, columns: Tensor) -> DenseRows:
        """See :class:`Rows`."""
        observed = None if self.observed is None else self.observed[:, columns]
        return DenseRows(self.values[:, columns], observed, self.context, size=self.size)

    def dense(self) -> DenseRows:
        """See :class:`Rows`."""
        return self

    def nonzero(self) -> Entries:
        """See :class:`Rows`."""
        if self._entries is None:
            row, column = self.values.nonzero(as_tuple=True)
            self._entries = row, column, self.values[row, column]
        return self._entries

    def _positive(self) -> Tensor:
        return (self.values > 0).to(self.values.dtype)


def weighted_zero(zero: Tensor, observed: Tensor | None, size: Tensor | None) -> Tensor:
    """``zero`` (P, D) summed over the observed features of every row, times the row's size: (B, P), or (P,)."""
    total = zero.sum(1) if observed is None else observed @ zero.T
    return total if size is None else size[:, None] * total


def mass_of(q: Tensor, observed: Tensor | None, size: Tensor | None) -> Tensor:
    """The weights q (B, P) of rows times their sizes, summed over the rows in which a feature is observed.

    It is (P, D), or (P, 1) where nothing is missing.
    """
    q = q if size is None else q * size[:, None]
    return q.sum(0)[:, None] if observed is None else weighted_sums(q, observed)


def weighted_sums(q: Tensor, values: Tensor) -> Tensor:
    """Values (B, D) of rows, summed with the weights q (B, P) of each point: (P, D).

    A matrix product that reads its left factor across is slow, and slower the wider that factor is.
    """
    return (values.T @ q).T if values.shape[1] < q.shape[1] else q.T @ values
