"""Training tables: the samples that a fit without an encoder is given, and the distinct rows that it sees of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from .._sklearn import check_sample_weight
from .._typing import SizeFactors
from ..nn.row_context import RowContext
from ..table.columns import Columns
from ..table.outliers import NO_OUTLIERS, Outliers
from ..table.size_factors import count_means, given_sizes, log_size_factors
from ..table.table import Table, TableReader, Values
from ..table.validation import named_entries
from ..table.weighted_rows import WeightedRows, weighted_rows

#: sum of weights above which double precision does not tell one sample more from none
_MOST_COPIES = 2.0**53


@dataclass(frozen=True)
class TrainingTable:
    """The samples of a fit, and their distinct rows.

    Attributes
    ----------
    samples : ndarray or CSR array of shape (N, D)
    component : ndarray of shape (N,) or None
        The mixture component that each sample is known to belong to, -1 where that is not known.
    size_factors : "sum", None, array-like or callable
        Those of the samples.
    rows : WeightedRows
        Which samples are copies of each other.
    table : Table
        The distinct rows, with their weights, known components and sizes as their context.
    outliers : Outliers
        What the fit sets aside.
    """

    samples: Values
    component: np.ndarray | None
    size_factors: SizeFactors
    rows: WeightedRows
    table: Table
    outliers: Outliers

    @classmethod
    def learn(
        cls,
        X: Values,
        weight: np.ndarray,
        component: np.ndarray | None,
        *,
        likelihood: str,
        size_factors: SizeFactors,
        columns: Columns,
        outliers: Outliers,
    ) -> TrainingTable:
        """The training table of samples (N, D) with weights (N,), and with the reader that it has taught."""
        weight = weight.copy()
        weight[outliers.rows] = 0
        sizes = None
        if size_factors is not None:
            if not isinstance(size_factors, str):
                sizes = given_sizes(X, size_factors)
            # This raises if a sample has no size, and names it by its number in X.
            log_size_factors(X, size_factors if sizes is None else sizes, count_means(X))
        rows = weighted_rows(columns.of(X), weight, component, sizes)
        distinct = X[rows.index]
        of_rows = size_factors
        if sizes is not None:
            values = sizes[rows.index]
            # A function is a rule, which holds for any table.
            of_rows = (lambda _: values) if callable(size_factors) else values
        table = TableReader.learn(
            distinct,
            likelihood,
            columns=columns,
            outliers=replace(outliers, rows=NO_OUTLIERS.rows),
            size_factors=of_rows,
            context=RowContext(weight=rows.weights, component=None if component is None else component[rows.index]),
        )
        return cls(X, component, size_factors, rows, table, outliers)

    def read_otherwise(self) -> np.ndarray:
        """Numbers of the samples that the fit did not read, for want of weight, or not as they are."""
        without_weight = self.rows.inverse < 0
        return np.nonzero(without_weight | self.outliers.have_entries(self.samples))[0]

    def as_they_are(self, index: np.ndarray) -> Table:
        """The table of some of the samples."""
        context = RowContext(component=self.component)
        everything = self.table.reader.read(self.samples, size_factors=self.size_factors, context=context)
        return everything.take(index)


def checked_weights(sample_weight: ArrayLike | None, X: Values) -> np.ndarray:
    """Weights of samples (N,), ones where there are none; raise unless a sample has one."""
    with named_entries(sample_weight, "sample_weight"):
        weights = check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    if not (weights > 0).any():
        raise ValueError("sample_weight is zero for every sample: there is nothing to fit.")
    if weights.sum() > _MOST_COPIES:
        raise ValueError(
            "sample_weight says how often each sample counts, and adds up to more than 2**53: divide all weights by "
            "one number."
        )
    return weights
