"""LinearLikelihood: observation models whose log-likelihood is linear in the data.

For one entry x of a feature whose curve stands at some value at z, it is

    log p(x | z) = zero(z) + x slope(z) + 1[x > 0] positive(z) + constant(x)

with ``zero`` collecting everything that does not depend on x. Three consequences carry exact inference. Sums over
features are matrix products with the data, sparse ones where the data are sparse. A mixture over K behaviours can be
averaged into the three tables before the product. The terms in ``constant`` (log-gamma functions of counts) are
computed once, and not for every behaviour or grid point.

Tables are (..., D) with whatever leading dimensions the curves have: (P, K, D) for grid points and behaviours, (P, D).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..latent_grid import GridStatistics
from ..layers import scale_gradient
from ..linear_tables import ALL_COLUMNS, LinearTables
from ..rows import DenseRows, Rows
from .base import Likelihood


@dataclass(frozen=True)
class ColumnSummary:
    """What the constants of a log-likelihood need to know of a table, summed over its rows.

    ``n_observed`` and ``sum_of_squares`` are (D,). The distinct non-zero counts of each column, which for real counts
    are few, are listed as triples (``column``, ``value``, ``multiplicity``). Where rows have size factors, a count is
    listed once for each of some groups of rows of like size, with their mean ``log_size``.
    """

    n_observed: Tensor
    sum_of_squares: Tensor
    column: Tensor
    value: Tensor
    multiplicity: Tensor
    log_size: Tensor | None = None


class LinearLikelihood(Likelihood):
    """A likelihood given by its coefficients. Subclasses fill in the hooks."""

    is_linear = True
    #: whether entries are Gaussian around the curve itself, with a variance that is the feature's own
    has_free_noise = False

    def own_parameters(self) -> tuple[Tensor, ...]:
        """The feature's own parameters (noise, dispersion, ...), each (D,)."""
        return ()

    def coefficients(self, curves: Tensor, z: Tensor, *own: Tensor) -> LinearTables:
        """The linear form at some curves, given :meth:`own_parameters` and z in shapes that broadcast with them."""
        raise NotImplementedError

    def entry_constant(self, x: Tensor, *own: Tensor) -> Tensor:
        """``constant(x) - constant(0)`` for single entries x, given :meth:`own_parameters` of each."""
        raise NotImplementedError

    def own_of_size(self, own: tuple[Tensor, ...], log_size: Tensor) -> tuple[Tensor, ...]:
        """The feature's own parameters in rows of some log size, in shapes that broadcast."""
        return own

    def sized_constant(self, x: Tensor, log_size: Tensor, *own: Tensor) -> Tensor:
        """``constant(x, s) - constant(0, s)`` for single entries of rows of size s; ``slope`` is that of size 1."""
        return self.entry_constant(x, *self.own_of_size(own, log_size))

    def constant_at_zero(self) -> Tensor:
        """``constant(0)`` of every feature: (D,), or a scalar."""
        return torch.zeros(())

    def own_of_columns(self, weights: Tensor | None, columns: slice) -> tuple[Tensor, ...]:
        """:meth:`own_parameters` of some features, (d,) each; with the ``weights`` of :meth:`tables`, (K, d)."""
        own = self.own_parameters()
        if columns != ALL_COLUMNS:
            own = tuple(parameter[columns] for parameter in own)
        if weights is not None:
            own = tuple(scale_gradient(parameter.expand_as(weights), weights) for parameter in own)
        return own

    def tables(
        self, curves: Tensor, z: Tensor, weights: Tensor | None = None, columns: slice = ALL_COLUMNS
    ) -> LinearTables:
        """Coefficients of some features at curves (P, K, d) or (P, d) and z (P, Q).

        ``weights`` (K, d), where given, scale the gradient that each behaviour sends to the feature's own parameters.
        Behaviours that a feature does not follow then do not pull at them.
        """
        own = self.own_of_columns(weights, columns)
        return self.coefficients(curves, z.view(len(z), *[1] * (curves.ndim - 1), -1), *own)

    def expected_sums(
        self,
        statistics: GridStatistics,
        curves: Tensor,
        z: Tensor,
        weights: Tensor | None = None,
        columns: slice = ALL_COLUMNS,
    ) -> Tensor:
        """Sum over samples of the expected log-likelihood of some features, (K, d), less what no curve changes.

        ``statistics`` are their sums at curves (P, K, d) and z (P, Q); for ``weights`` see :meth:`tables`.
        """
        return statistics.expected_log_likelihood(self.tables(curves, z, weights, columns))

    # ---- the contract of every likelihood, by way of the tables -----------------------------------------------------

    def log_prob(self, x: Tensor, curves: Tensor, z: Tensor) -> Tensor:
        tables = self.coefficients(curves, z, *self.own_parameters())
        log_prob = tables.zero + x * tables.slope
        if tables.positive is not None:
            log_prob = log_prob + torch.where(x > 0, tables.positive, 0.0)
        own = (parameter.expand(x.shape) for parameter in self.own_parameters())
        return log_prob + self.entry_constant(x, *own) + self.constant_at_zero()

    def row_log_prob(self, rows: DenseRows, curves: Tensor, z: Tensor, with_constant: bool = True) -> Tensor:
        tables = self.coefficients(curves, z[..., None, :], *self.own_parameters())
        return self.row_log_prob_from(rows, tables, with_constant)

    def row_log_prob_from(self, rows: DenseRows, tables: LinearTables, with_constant: bool = True) -> Tensor:
        """Log-likelihood of every row under coefficients of its own, (..., B, D): (..., B)."""
        zero = tables.zero if rows.observed is None else tables.zero * rows.observed
        total = (zero + rows.values * tables.slope).sum(-1)
        if tables.positive is not None:
            total = total + torch.where(rows.values > 0, tables.positive, 0.0).sum(-1)
        return total + self.row_constant(rows) if with_constant else total

    def expected_row_log_prob(
        self, rows: DenseRows, curves: Tensor, z: Tensor, phi: Tensor, with_constant: bool = True
    ) -> Tensor:
        own = (parameter if parameter.ndim == 1 else parameter[:, None] for parameter in self.own_parameters())
        tables = self.coefficients(curves, z[:, None, None, :], *own)
        return self.row_log_prob_from(rows, tables.average(phi), with_constant)

    def pair_log_prob(self, rows: Rows, curves: Tensor, z: Tensor) -> Tensor:
        return rows.log_likelihood(self.tables(curves, z))

    # ---- constants --------------------------------------------------------------------------------------------------

    def column_constant(self, summary: ColumnSummary) -> Tensor:
        """``constant`` summed over the rows of a table: (D,)."""
        own = self._own_of(summary.column)
        if summary.log_size is None:
            entries = self.entry_constant(summary.value, *own)
        else:
            entries = self.sized_constant(summary.value, summary.log_size, *own)
        entries = summary.multiplicity * entries
        return torch.zeros_like(summary.n_observed).index_add(0, summary.column, entries)

    def row_constant(self, rows: Rows) -> Tensor:
        """``constant`` summed over the features of every row: (B,)."""
        row, column, value = rows.nonzero()
        own = self._own_of(column, row)
        if rows.size is None:
            entries = self.entry_constant(value, *own)
        else:
            entries = self.sized_constant(value, rows.size.log()[row], *own)
        return torch.zeros(len(rows), dtype=entries.dtype, device=entries.device).index_add(0, row, entries)

    def _own_of(self, column: Tensor, row: Tensor | None = None) -> tuple[Tensor, ...]:
        """The own parameters of single entries, (M,) each; rows count where parameters go with them."""
        return tuple(
            parameter[column] if parameter.ndim == 1 else parameter[row, column] for parameter in self.own_parameters()
        )
