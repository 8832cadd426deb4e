"""Table: a user's table as the models see it, and the way back to the user's units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from .._typing import SizeFactors
from ..nn.row_context import EMPTY, RowContext
from .size_factors import SizeScale, belongs_to, takes_size_factors
from .source import RowSource
from .units import Units

#: a validated table: dense with NaN for missing entries, or a CSR array of counts
Values: TypeAlias = np.ndarray | sp.csr_array


@dataclass(frozen=True)
class TableReader:
    """How tables are read: learned from the training table, and applied to it and to every later one.

    Attributes
    ----------
    units : Units
        In which the columns are modelled.
    sizes : SizeScale or None
        The scale of size factors; None for a model without any.
    """

    units: Units
    sizes: SizeScale | None = None

    @classmethod
    def learn(
        cls,
        X: Values,
        likelihood: str,
        units: Units,
        *,
        size_factors: SizeFactors = None,
        context: RowContext[np.ndarray] = EMPTY,
        given_for: tuple[Any, str] | None = None,
    ) -> Table:
        """The training table, with the reader that it has taught.

        Parameters
        ----------
        X : ndarray or CSR array of shape (N, D)
            Validated.
        likelihood : str
            Name of the observation model.
        units : Units
            In which the columns are to be modelled.
        size_factors : "sum", array of shape (N,), callable or None
            Those of the rows of X.
        context : RowContext of arrays
            What else the rows carry.
        given_for : tuple, optional
            Where rows of a user's table were put into another order: the user's size factors and the hash of the user's
            table (see :func:`~skdevae.table.size_factors.belongs_to`).
        """
        if not takes_size_factors(size_factors, likelihood):
            return Table(X, cls(units), context)
        owner = belongs_to(size_factors, X) if given_for is None else given_for
        sizes, log_sizes = SizeScale.learn(X, size_factors, context.weight, owner)
        return Table(X, cls(units, sizes), context.replaced(log_size=log_sizes))

    @property
    def has_totals(self) -> bool:
        """Whether a row's size factor is its own total, so that a decoder has only shares to give."""
        return self.sizes is not None and self.sizes.is_total

    def read(self, X: Values, *, size_factors: SizeFactors = None, context: RowContext[np.ndarray] = EMPTY) -> Table:
        """Another table, on the training table's scales."""
        if self.sizes is None:
            return Table(X, self, context)
        return Table(X, self, context.replaced(log_size=self.sizes.log_sizes(X, size_factors)))

    def drawn_context(self, n: int, generator: torch.Generator, dtype: torch.dtype) -> RowContext[Tensor]:
        """The context of n simulated rows: size factors are log-normal, with the training table's moments."""
        if self.sizes is None:
            return EMPTY
        noise = torch.randn(n, generator=generator, dtype=dtype)
        return RowContext(log_size=self.sizes.log_mean + self.sizes.log_sd * noise)


@dataclass(frozen=True)
class Table:
    """A validated table, how it is read, and what its rows carry. Built once for each call of an estimator's method.

    Attributes
    ----------
    values : ndarray or CSR array of shape (N, D)
        In the user's units.
    reader : TableReader
    context : RowContext of arrays
    """

    values: Values
    reader: TableReader
    context: RowContext[np.ndarray] = EMPTY

    def __len__(self) -> int:
        return self.values.shape[0]

    @property
    def n_features(self) -> int:
        """D."""
        return self.values.shape[1]

    @property
    def has_missing(self) -> bool:
        """Whether an entry is missing."""
        return not sp.issparse(self.values) and bool(np.isnan(self.values).any())

    def take(self, index: Any) -> Table:
        """Some of the rows."""
        return replace(self, values=self.values[index], context=self.context.take(index))

    def source(self, like: Tensor) -> RowSource:
        """The rows in the model's units, with the dtype and on the device of a tensor."""
        units = self.reader.units
        return RowSource(self.values, units.center, units.scale, like, self.context)

    def in_user_nats(self, values: Tensor) -> np.ndarray:
        """Log densities of the rows (N,) in the model's units, in the user's."""
        return values.cpu().numpy() - self.reader.units.log_volumes(self.values)

    def in_user_units(self, values: Tensor) -> np.ndarray:
        """Values (N, D) in the model's units, in the user's units and the table's dtype."""
        return self.reader.units.to_user(values.cpu().numpy()).astype(self.values.dtype, copy=False)

    def in_user_dtype(self, values: Tensor) -> np.ndarray:
        """Numbers without units, as an array of the table's dtype."""
        return values.cpu().numpy().astype(self.values.dtype, copy=False)
