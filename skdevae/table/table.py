"""Table: a user's table as the models see it, and the way back to the user's units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from torch import Tensor

from .._typing import CovariatesLike, SizeFactors, UnknownCovariate
from ..nn.likelihoods import LIKELIHOODS
from ..nn.row_context import EMPTY, RowContext
from .columns import EVERY_COLUMN, Columns, find_columns
from .conditioning import covariate_table
from .covariates import Covariates
from .outliers import NO_OUTLIERS, Outliers
from .passes import summed
from .size_factors import SizeScale, check_without_sizes
from .source import RowSource
from .stored import StoredTable, is_sparse, row_blocks, some_rows
from .units import Bounds, Units

#: a validated table: dense with NaN for missing entries, or a CSR array of counts; in memory, or stored
Values: TypeAlias = np.ndarray | sp.csr_array | StoredTable


#: rows of a table that are looked at together
_ROWS = 4096


@dataclass(frozen=True)
class TableReader:
    """How tables are read: learned from the training table, and applied to it and to every later one.

    Attributes
    ----------
    units : Units
        In which the columns are modelled.
    sizes : SizeScale or None
        The scale of size factors; None for a model without any.
    columns : Columns
        Those that models see.
    covariates : Covariates or None
        What conditions rows; None for a model without any.
    """

    units: Units
    sizes: SizeScale | None = None
    columns: Columns = EVERY_COLUMN
    covariates: Covariates | None = None

    @classmethod
    def learn(
        cls,
        X: Values,
        likelihood: str,
        *,
        pooled_units: bool = False,
        columns: Columns | None = None,
        outliers: Outliers = NO_OUTLIERS,
        size_factors: SizeFactors = None,
        covariates: Covariates | None = None,
        context: RowContext[np.ndarray] = EMPTY,
    ) -> Table:
        """The training table, with the reader that it has taught.

        Parameters
        ----------
        X : ndarray or CSR array of shape (N, D)
            Validated.
        likelihood : str
            Name of the observation model.
        pooled_units : bool, default=False
            Whether all columns of measurements are modelled in one unit.
        columns : Columns, optional
            Those that models see, where they are known already.
        outliers : Outliers
            What training sets aside. Units are those of the other rows.
        size_factors : "sum", array of shape (N,), callable or None
            Those of the rows of X. None where the likelihood has no use for them.
        covariates : Covariates, optional
            Those of the rows, whose design is in ``context``.
        context : RowContext of arrays
            What else the rows carry.
        """
        sizes = log_sizes = None
        if size_factors is not None:
            sizes, log_sizes = SizeScale.learn(X, size_factors, context.weight)
        if columns is None:
            columns = find_columns(X, likelihood, context.weight)
        units = Units()
        if not LIKELIHOODS[likelihood].counts:
            units = _units(X, columns, outliers, context.weight, pooled_units)
        reader = cls(units, sizes, columns, covariates)
        return Table(X, reader, context.replaced(log_size=log_sizes), outliers.bounds)

    @property
    def has_totals(self) -> bool:
        """Whether a row's size factor is its own total, so that a decoder has only shares to give."""
        return self.sizes is not None and self.sizes.is_total

    @property
    def n_covariates(self) -> int:
        """Columns of the design of covariates."""
        return 0 if self.covariates is None else len(self.covariates.columns)

    @property
    def average_design(self) -> list[float]:
        """The training average of each column of the design of covariates."""
        return [] if self.covariates is None else self.covariates.average.tolist()

    def design(
        self,
        of_columns: pd.DataFrame | None,
        given: CovariatesLike,
        n_rows: int,
        *,
        unknown: UnknownCovariate = "error",
        absent: UnknownCovariate | None = None,
    ) -> np.ndarray | None:
        """The design (N, C) of covariates, of which some are columns of a table and others are given beside it.

        See :meth:`~skdevae.table.covariates.Covariates.design`.
        """
        if self.covariates is None:
            if given is not None:
                raise ValueError(
                    "covariates are given, but the model was fitted without any: leave them out, or fit the model with "
                    "fit(X, covariates=...)."
                )
            return None
        n_columns = 0 if of_columns is None else of_columns.shape[1]
        table = covariate_table(of_columns, given, n_rows, self.covariates.names[n_columns:])
        if table is None:
            table = pd.DataFrame(index=range(n_rows))
        design = self.covariates.design(table, unknown=unknown, absent=absent)
        return design if self.n_covariates else None

    def read(self, X: Values, *, size_factors: SizeFactors = None, context: RowContext[np.ndarray] = EMPTY) -> Table:
        """Another table, on the training table's scales."""
        if self.sizes is None:
            check_without_sizes(size_factors)
            return Table(X, self, context)
        return Table(X, self, context.replaced(log_size=self.sizes.log_sizes(X, size_factors)))

    def to_user(self, values: np.ndarray, log_sizes: np.ndarray | None = None) -> np.ndarray:
        """Expected values (..., D') in the model's units, of rows with log sizes (N,), in the user's: (..., D)."""
        if self.units.center is not None:
            return self.units.to_user(self.columns.spread(values, 0.0))
        if log_sizes is None or self.columns.levels is None:
            return self.columns.spread_levels(values)
        return self.columns.spread(values, np.exp(log_sizes)[:, None] * self.columns.levels)

    def curves_to_user(self, values: np.ndarray) -> np.ndarray:
        """Values (..., D') on the scale of curves, in the user's units: (..., D)."""
        if self.units.center is not None:
            return self.to_user(values)
        return values if self.columns.levels is None else self.columns.spread(values, self.columns.curves)

    def complete_sample(self, drawn: np.ndarray, context: RowContext[Tensor], generator: torch.Generator) -> np.ndarray:
        """Simulated rows (N, D') of a model in the user's units, together with the columns that models do not see."""
        if self.columns.kept is None:
            return self.to_user(drawn)
        seed = int(torch.randint(np.iinfo(np.int32).max, (), generator=generator))
        log_sizes = None if context.log_size is None else context.log_size.numpy()
        completed = self.to_user(drawn)
        completed[:, self.columns.left_out] = self.columns.draw(len(drawn), log_sizes, np.random.default_rng(seed))
        return completed

    def drawn_context(
        self, n: int, generator: torch.Generator, dtype: torch.dtype, design: np.ndarray | None = None
    ) -> RowContext[Tensor]:
        """The context of n simulated rows with a design (n, C) of covariates.

        Size factors are log-normal, with the training table's moments.
        """
        covariates = None if design is None else torch.from_numpy(design).to(dtype)
        if self.sizes is None:
            return RowContext(covariates=covariates)
        noise = torch.randn(n, generator=generator, dtype=dtype)
        return RowContext(log_size=self.sizes.log_mean + self.sizes.log_sd * noise, covariates=covariates)


@dataclass(frozen=True)
class Table:
    """A validated table, how it is read, and what its rows carry. Built once for each call of an estimator's method.

    Attributes
    ----------
    values : ndarray or CSR array of shape (N, D)
        In the user's units.
    reader : TableReader
    context : RowContext of arrays
    bounds : pair of ndarrays of shape (D,), or None
        Least and largest value with which models read each column; None where they read all values as they are.
    """

    values: Values
    reader: TableReader
    context: RowContext[np.ndarray] = EMPTY
    bounds: Bounds | None = None

    def __len__(self) -> int:
        return self.values.shape[0]

    @property
    def has_missing(self) -> bool:
        """Whether an entry is missing of those that models see."""
        if is_sparse(self.values):
            return False
        return bool(self.reader.columns.of(summed(self.values, _have_missing)).any())

    def take(self, index: Any) -> Table:
        """Some of the rows."""
        return replace(self, values=some_rows(self.values, index), context=self.context.take(index))

    def source(self, like: Tensor) -> RowSource:
        """The rows in the model's units, with the dtype and on the device of a tensor."""
        units, columns = self.reader.units, self.reader.columns
        center, scale = (None if part is None else columns.of(part) for part in (units.center, units.scale))
        bounds = None if self.bounds is None else (columns.of(self.bounds[0]), columns.of(self.bounds[1]))
        return RowSource(self.values, center, scale, like, self.context, columns=columns.kept, bounds=bounds)

    def in_user_nats(self, values: Tensor) -> np.ndarray:
        """Log densities of the rows (N,) in the model's units, in the user's."""
        return values.cpu().numpy() + self.row_constants()

    def row_constants(self) -> np.ndarray | float:
        """What is added to each row's log density in the model's units, (N,) or one number.

        It is the volume of the units, and the log probability of what models do not see.
        """
        of_others = self.reader.columns.log_prob(self.values, self.context.log_size)
        return of_others - self.reader.units.log_volumes(self.values)

    def in_user_units(self, values: Tensor) -> np.ndarray:
        """Values (N, D') in the model's units, in the user's units and the table's dtype: (N, D)."""
        return self.reader.to_user(values.cpu().numpy(), self.context.log_size).astype(self.values.dtype, copy=False)

    def in_user_dtype(self, values: Tensor) -> np.ndarray:
        """Numbers without units, as an array of the table's dtype."""
        return values.cpu().numpy().astype(self.values.dtype, copy=False)


def _have_missing(X: Values) -> np.ndarray:
    """Which columns have missing entries, (D,) of booleans."""
    missing = np.zeros(X.shape[1], dtype=bool)
    for _, block in row_blocks(X, _ROWS):
        missing |= np.isnan(block).any(0)
    return missing


def _units(X: Any, columns: Columns, outliers: Outliers, weights: np.ndarray | None, pooled: bool) -> Units:
    """The units of a table of measurements: those of the rows and columns that training uses."""
    weights = np.ones(X.shape[0]) if weights is None else weights.copy()
    weights[outliers.rows] = 0
    units = Units.of_table(X, weights, outliers.bounds)
    if pooled:
        units = units.pooled(columns.kept)
    return units if columns.levels is None else units.with_constants(columns.left_out, columns.levels[columns.left_out])
