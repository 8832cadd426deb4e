"""Rows: some rows of a table, in the one form that the models ask for."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from .exposure import Exposure, mass_of, weighted_zero
from .linear_tables import LinearTables
from .row_context import EMPTY, RowContext


class Rows(Protocol):
    """Some rows of a table, dense or sparse, as this package's models use them."""

    #: mask of the entries that are there, (B, D) of 0 and 1; None where all are
    observed: Tensor | None
    #: what the rows carry beside their entries
    context: RowContext[Tensor]
    #: what their expected counts are multiplied by; None where nothing is
    exposure: Exposure | None

    def __len__(self) -> int: ...

    def log_likelihood(self, tables: LinearTables) -> Tensor:
        """``E zero + x slope + 1[x > 0] positive`` summed over observed features, for tables (P, D): (B, P).

        E is the exposure, 1 where rows have none.
        """
        ...

    def expectations(self, q: Tensor, with_positive: bool) -> tuple[Tensor, Tensor | None, Tensor]:
        """Sums over rows of x, 1[x > 0] and the exposures of observed entries, weighted by q (B, P).

        Each is (P, D); that of the exposures is (P, 1) where it is the same for all features.
        """
        ...

    def take(self, index: Tensor) -> Rows:
        """A subset of these rows."""
        ...

    def of_columns(self, columns: Tensor) -> Rows:
        """These rows with some of their columns."""
        ...

    def dense(self) -> DenseRows:
        """These rows as a dense tensor."""
        ...

    def nonzero(self) -> tuple[Tensor, Tensor, Tensor]:
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
    exposure : Exposure, default=None
        What expected counts are multiplied by.
    """

    def __init__(
        self,
        values: Tensor,
        observed: Tensor | None,
        context: RowContext[Tensor] = EMPTY,
        entries: tuple[Tensor, Tensor, Tensor] | None = None,
        exposure: Exposure | None = None,
    ):
        self.values = values
        self.observed = observed
        self.context = context
        self.exposure = exposure
        self._entries = entries

    def __len__(self) -> int:
        return len(self.values)

    def log_likelihood(self, tables: LinearTables) -> Tensor:
        """See :class:`Rows`."""
        total = self.values @ tables.slope.T
        total += weighted_zero(tables.zero, self.observed, self.exposure)
        if tables.positive is not None:
            total += self._positive() @ tables.positive.T
        return total

    def expectations(self, q: Tensor, with_positive: bool) -> tuple[Tensor, Tensor | None, Tensor]:
        """See :class:`Rows`."""
        mass = mass_of(q, self.observed, self.exposure)
        return q.T @ self.values, q.T @ self._positive() if with_positive else None, mass

    def exposed(self, exposure: Exposure) -> DenseRows:
        """The same rows with an exposure."""
        return DenseRows(self.values, self.observed, self.context, self._entries, exposure)

    def take(self, index: Any) -> DenseRows:
        """See :class:`Rows`."""
        observed = None if self.observed is None else self.observed[index]
        exposure = None if self.exposure is None else self.exposure.take(index)
        return DenseRows(self.values[index], observed, self.context.take(index), exposure=exposure)

    def of_columns(self, columns: Tensor) -> DenseRows:
        """See :class:`Rows`."""
        observed = None if self.observed is None else self.observed[:, columns]
        exposure = None if self.exposure is None else self.exposure.of_columns(columns)
        return DenseRows(self.values[:, columns], observed, self.context, exposure=exposure)

    def dense(self) -> DenseRows:
        """See :class:`Rows`."""
        return self

    def nonzero(self) -> tuple[Tensor, Tensor, Tensor]:
        """See :class:`Rows`."""
        if self._entries is not None:
            return self._entries
        row, column = self.values.nonzero(as_tuple=True)
        return row, column, self.values[row, column]

    def _positive(self) -> Tensor:
        return (self.values > 0).to(self.values.dtype)
