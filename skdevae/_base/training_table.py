"""Training tables: the samples that a fit is given, and the distinct rows that it sees of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from sklearn.utils import check_random_state

from .._typing import SizeFactors
from ..nn.row_context import RowContext
from ..table.columns import Columns
from ..table.covariates import Covariates
from ..table.given_axis import AxisMap, GivenAxis
from ..table.outliers import NO_OUTLIERS, Outliers
from ..table.size_factors import count_means, given_sizes, log_size_factors
from ..table.table import Table, TableReader, Values
from ..table.weighted_rows import WeightedRows

#: fewest samples that are trained on: a fit without early stopping needs as many
_LEAST_TRAINING_ROWS = 2


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
    design : ndarray of shape (N, C) or None
        That of the samples' covariates.
    rows : WeightedRows
        The distinct rows that the fit reads, and which samples are copies of each.
    table : Table
        The distinct rows, with their weights, known components, sizes and covariates as their context.
    outliers : Outliers
        What the fit sets aside.
    axis_map : AxisMap or None
        From given positions of the samples to the latent.
    """

    samples: Values
    component: np.ndarray | None
    size_factors: SizeFactors
    design: np.ndarray | None
    rows: WeightedRows
    table: Table
    outliers: Outliers
    axis_map: AxisMap | None = None

    @classmethod
    def learn(
        cls,
        X: Values,
        rows: WeightedRows,
        *,
        likelihood: str,
        columns: Columns,
        outliers: Outliers,
        size_factors: SizeFactors,
        sizes: np.ndarray | None,
        covariates: Covariates | None = None,
        design: np.ndarray | None = None,
        component: np.ndarray | None = None,
        axis: GivenAxis | None = None,
        pooled_units: bool = False,
    ) -> TrainingTable:
        """The training table of samples (N, D), and with it the reader that it has taught.

        Parameters
        ----------
        X : ndarray or CSR array of shape (N, D)
            Validated.
        rows : WeightedRows
            The distinct rows that the fit reads: those of outliers are not among them.
        likelihood, columns, outliers, pooled_units
            See :meth:`TableReader.learn`. Outliers have their numbers in X.
        size_factors : "sum", None, array-like or callable
            Those of the samples.
        sizes : ndarray of shape (N,) or None
            See :func:`own_sizes`.
        covariates : Covariates, optional
        design : ndarray of shape (N, C), optional
            That of the samples' covariates.
        component : ndarray of shape (N,), default=None
            The mixture component that each sample is known to belong to, -1 where that is not known.
        axis : GivenAxis, optional
            Positions that are given with the samples.
        """
        of_rows = size_factors
        if sizes is not None:
            values = rows.of(sizes)
            # A function is a rule, which holds for any table.
            of_rows = (lambda _: values) if callable(size_factors) else values
        context = RowContext(component=component, covariates=design).map(rows.of).replaced(weight=rows.counts)
        axis_map = None
        if axis is not None:
            given = GivenAxis(rows.of(axis.position), rows.of(axis.sd))
            axis_map, mean, sd = given.on_latent(rows.weights)
            if axis_map is not None:
                context = context.replaced(axis=mean, axis_sd=sd)
        table = TableReader.learn(
            rows.of(X),
            likelihood,
            pooled_units=pooled_units,
            columns=columns,
            outliers=replace(outliers, rows=NO_OUTLIERS.rows),
            size_factors=of_rows,
            covariates=covariates,
            context=context,
        )
        return cls(X, component, size_factors, design, rows, table, outliers, axis_map)

    def read_otherwise(self) -> np.ndarray:
        """Numbers of the samples that the fit did not read, for want of weight, or not as they are."""
        without_weight = self.rows.inverse < 0
        return np.nonzero(without_weight | self.outliers.have_entries(self.samples))[0]

    def as_they_are(self, index: np.ndarray) -> Table:
        """The table of some of the samples."""
        context = RowContext(component=self.component, covariates=self.design)
        everything = self.table.reader.read(self.samples, size_factors=self.size_factors, context=context)
        return everything.take(index)

    def spread(self, of_rows: np.ndarray, answer: Callable[[Table], np.ndarray]) -> np.ndarray:
        """Values (U, ...) of the rows as those of the samples: (N, ...).

        ``answer`` gives the values of a table of samples that the fit did not read as they are.
        """
        values = self.rows.spread(of_rows)
        otherwise = self.read_otherwise()
        if len(otherwise):
            values[otherwise] = answer(self.as_they_are(otherwise))
        return values


def own_sizes(X: Values, size_factors: SizeFactors) -> np.ndarray | None:
    """Sizes of samples (N,) that do not follow from a row alone: those given, or of a function. None for the others.

    Raises if a sample has no size, and names it by its number in X.
    """
    if size_factors is None:
        return None
    sizes = None if isinstance(size_factors, str) else given_sizes(X, size_factors)
    log_size_factors(X, size_factors if sizes is None else sizes, count_means(X))
    return sizes


def held_out_rows(weights: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Which rows, of weights (N,), are held out for early stopping: (N,) of booleans. A share of the weights is."""
    order = check_random_state(seed).permutation(len(weights))
    n_held_out = 1 + int(np.searchsorted(np.cumsum(weights[order]), share * weights.sum()))
    if len(weights) - n_held_out < _LEAST_TRAINING_ROWS:
        raise ValueError(
            f"early_stopping=True holds out {n_held_out} of {len(weights)} samples (validation_fraction={share}), but "
            f"has to leave {_LEAST_TRAINING_ROWS} to train on at least. Give more samples, or set early_stopping=False."
        )
    held_out = np.zeros(len(weights), dtype=bool)
    held_out[order[:n_held_out]] = True
    return held_out
