"""Columns: which columns of a training table have something to teach, and what is said of the others.

Nothing can be learned about how a column behaves that did not vary in training, or was never observed there. Such
columns never reach a model: they have no say in where samples are placed, nor in other columns' results.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.special import gammaln, logit, xlog1py, xlogy
from sklearn.utils import gen_batches

from .._warnings import warn_user
from ..nn.likelihoods import LIKELIHOODS
from .extremes import Extremes
from .passes import added, gathered, summed
from .stored import StoredTable, is_sparse, row_blocks
from .validation import first_columns

#: rows of a table that are looked at together
_ROWS = 4096
#: Steps of single precision within which the values of a column are taken for one value with rounding. Sums and shares
#: that were once computed in single precision keep its rounding, whatever they are stored in.
_ROUNDING_STEPS = 8
#: events that Jeffreys' prior of a rate, or of a probability, adds to those that were seen
_JEFFREYS = 0.5


@dataclass(frozen=True)
class Columns:
    """The columns that models see, and what is expected of those that they do not.

    Attributes
    ----------
    kept : ndarray of shape (D',) or None
        Numbers of the columns that models see; None where they see all.
    levels : ndarray of shape (D,) or None
        Expected value of each column that is left out; NaN where it was never observed. Without meaning for the others.
    kind : str
        ``"measurements"``, ``"counts"`` or ``"binary"``.
    """

    kept: np.ndarray | None = None
    levels: np.ndarray | None = None
    kind: str = "measurements"

    @property
    def left_out(self) -> np.ndarray:
        """Numbers of the columns that models do not see."""
        if self.kept is None or self.levels is None:
            return np.empty(0, dtype=np.int64)
        return np.setdiff1d(np.arange(len(self.levels)), self.kept)

    @property
    def unobserved(self) -> np.ndarray:
        """Numbers of the columns without any entry in training."""
        left_out = self.left_out
        return left_out if self.levels is None else left_out[np.isnan(self.levels[left_out])]

    def of(self, values: Any) -> Any:
        """Those of the values by column, along the last axis, that belong to columns that models see."""
        if self.kept is None:
            return values
        return values.of_columns(self.kept) if isinstance(values, StoredTable) else values[..., self.kept]

    def spread(self, values: np.ndarray, fill: Any, axis: int = -1) -> np.ndarray:
        """Values of the columns that models see, as those of all columns.

        ``fill`` is what stands at the others. It broadcasts against values whose last axis is that of columns.
        """
        if self.kept is None or self.levels is None:
            return values
        by_column = np.moveaxis(values, axis, -1)
        spread = np.empty((*by_column.shape[:-1], len(self.levels)), dtype=np.result_type(values, fill))
        spread[...] = fill
        spread[..., self.kept] = by_column
        return np.moveaxis(spread, -1, axis)

    def spread_levels(self, values: np.ndarray) -> np.ndarray:
        """Expected values of the columns that models see (..., D'), with the levels of the others: (..., D)."""
        return values if self.levels is None else self.spread(values, self.levels)

    def spread_rates(self, rates: np.ndarray, axis: int = -1) -> np.ndarray:
        """Rates of change of columns, together with the others': 0, or NaN for columns that were never observed."""
        return rates if self.levels is None else self.spread(rates, np.where(np.isnan(self.levels), np.nan, 0.0), axis)

    @property
    def curves(self) -> np.ndarray:
        """Levels on the scale of curves, (D,): logs of counts, logits of probabilities."""
        levels = np.empty(0) if self.levels is None else self.levels
        return {"measurements": levels, "counts": np.log(levels), "binary": logit(levels)}[self.kind]

    def log_prob(self, X: np.ndarray | sp.csr_array, log_sizes: np.ndarray | None) -> np.ndarray | float:
        """Log probability of every row's entries in the columns that are left out, given its log size: (N,) or 0.

        A column of counts without any event in training is predicted by Jeffreys' prior of its rate together with the
        rows that were seen, which is a negative binomial distribution. A binary column is predicted likewise. Columns
        of measurements have no scale that they could be measured in. They are left out of the density.
        """
        left_out = self.left_out[~np.isnan(self._levels_left_out())]
        if self.kind == "measurements" or len(left_out) == 0:
            return 0.0
        sizes = np.ones(X.shape[0]) if log_sizes is None else np.exp(log_sizes)
        return gathered(X, partial(self._log_prob_of_rows, left_out), sizes)

    def _log_prob_of_rows(self, columns: np.ndarray, X: np.ndarray | sp.csr_array, sizes: np.ndarray) -> np.ndarray:
        of_rows = [
            self._log_prob(_dense(X[index][:, columns]), self.levels[columns], sizes[index, None])  # type: ignore[index]
            for index in gen_batches(X.shape[0], _ROWS)
        ]
        return np.concatenate(of_rows)

    def _levels_left_out(self) -> np.ndarray:
        return np.empty(0) if self.levels is None else self.levels[self.left_out]

    def _log_prob(self, x: np.ndarray, levels: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        observed = ~np.isnan(x)
        x = np.where(observed, x, 0.0)
        if self.kind == "binary":
            entries = xlogy(x, levels) + xlog1py(1 - x, -levels)
        else:
            exposure = _JEFFREYS / levels
            entries = gammaln(x + _JEFFREYS) - gammaln(_JEFFREYS) - gammaln(x + 1)
            entries = entries - _JEFFREYS * np.log1p(sizes / exposure) - xlog1py(x, exposure / sizes)
        return np.where(observed, entries, 0.0).sum(1)

    def draw(self, n_rows: int, log_sizes: np.ndarray | None, random: np.random.Generator) -> np.ndarray:
        """Simulated entries of the columns that are left out: (N, C). Measurements are as they were in training."""
        levels = self._levels_left_out()
        shape = (n_rows, len(levels))
        if self.kind == "measurements":
            return np.broadcast_to(levels, shape)
        drawn, known = np.full(shape, np.nan), ~np.isnan(levels)
        if self.kind == "binary":
            drawn[:, known] = random.random((n_rows, known.sum())) < levels[known]
            return drawn
        sizes = np.ones((n_rows, 1)) if log_sizes is None else np.exp(log_sizes)[:, None]
        rates = random.standard_gamma(_JEFFREYS, (n_rows, known.sum())) * levels[known] / _JEFFREYS
        drawn[:, known] = random.poisson(rates * sizes)
        return drawn


#: of a model that sees all columns
EVERY_COLUMN = Columns()


def find_columns(
    X: np.ndarray | sp.csr_array,
    likelihood: str,
    weights: np.ndarray | None = None,
    feature_names: np.ndarray | None = None,
) -> Columns:
    """Which columns of a training table have something to teach: those with two different values at least.

    Parameters
    ----------
    X : ndarray or CSR array of shape (N, D)
    likelihood : str
        Name of the observation model. Counts that never vary do teach something, unless they are all zero.
    weights : ndarray of shape (N,), optional
        How often each row counts; None means once.
    feature_names : ndarray of shape (D,), optional
        For warnings: of columns without entries, and of columns that vary by no more than rounding.
    """
    family = LIKELIHOODS[likelihood]
    kind = "measurements" if not family.counts else "counts" if family.has_log_link else "binary"
    weights = np.ones(X.shape[0]) if weights is None else weights
    counted = np.nonzero(weights > 0)[0]
    extremes = summed(X, _extremes, weights)
    observed = extremes.n_observed > 0
    least = 0.0 if kind == "counts" else extremes.lowest
    varies = observed & (extremes.highest > least)
    if kind == "measurements":
        rounding = varies & _vary_by_rounding(X, counted, extremes, weights)
        varies &= ~rounding
        if rounding.any():
            warn_user(
                f"{first_columns(feature_names, np.nonzero(rounding)[0])}: values differ by no more than the rounding "
                "of numbers of their size in single precision, and are taken for one value. If the differences mean "
                "something, subtract the column's mean before fit."
            )
    if not observed.all():
        warn_user(
            f"{first_columns(feature_names, np.nonzero(~observed)[0])}: no entry is observed in training. Such "
            "columns are left out of the fit: what is said of them is NaN, and their label is -1."
        )
    kept = varies if varies.any() else observed
    if kept.all():
        return Columns(kind=kind)
    if not kept.any():
        raise ValueError("No entry of X is observed: there is nothing to fit.")
    levels = _levels(X, kind, extremes, weights)
    return Columns(np.nonzero(kept)[0], levels, kind)


def _levels(X: np.ndarray | sp.csr_array, kind: str, extremes: Extremes, weights: np.ndarray) -> np.ndarray:
    """Expected value of every column, if it has one value only: (D,). Of counts, in a row of size 1."""
    levels = np.full(len(extremes.lowest), np.nan)
    known = extremes.n_observed > 0
    if kind == "measurements":
        levels[known] = 0.5 * extremes.lowest[known] + 0.5 * extremes.highest[known]
        return levels
    exposure = _n_rows(X, weights)[known]
    if kind == "binary":
        levels[known] = (extremes.highest[known] * exposure + _JEFFREYS) / (exposure + 2 * _JEFFREYS)
    else:
        levels[known] = _JEFFREYS / exposure
    return levels


def _n_rows(X: np.ndarray | sp.csr_array, weights: np.ndarray) -> np.ndarray:
    """Number of rows, by weight (N,), in which each column is observed: (D,)."""
    return np.full(X.shape[1], weights.sum()) if is_sparse(X) else summed(X, _n_observed, weights)


def _n_observed(X: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return sum(weights[index] @ ~np.isnan(block) for index, block in row_blocks(X, _ROWS))


def _extremes(X: np.ndarray | sp.csr_array, weights: np.ndarray) -> Extremes:
    """Those of the rows that count."""
    return Extremes.of(_blocks(X, np.nonzero(weights > 0)[0]), X.shape[1])


def _vary_by_rounding(X: np.ndarray, counted: np.ndarray, extremes: Extremes, weights: np.ndarray) -> np.ndarray:
    """Which columns have a standard deviation that is rounding, for numbers of their size: (D,)."""
    step = np.finfo(np.float32).eps
    known = extremes.n_observed > 0
    lowest, highest = (np.where(known, extreme, 0.0) for extreme in (extremes.lowest, extremes.highest))
    largest, spread = np.maximum(np.abs(lowest), np.abs(highest)), 0.5 * highest - 0.5 * lowest
    bound = _ROUNDING_STEPS * step * largest
    # Only columns whose range is not far above can have so small a standard deviation.
    most_rows = weights.sum() / weights[counted].min()
    suspects = np.nonzero(known & (spread <= bound * np.sqrt(most_rows)))[0]
    by_rounding = np.zeros(X.shape[1], dtype=bool)
    if len(suspects) == 0:
        return by_rounding
    middle, scale = lowest[suspects], np.maximum(spread[suspects], np.finfo(float).tiny)
    n, total, squares = summed(X, partial(_sums_of_powers, suspects, middle, scale), weights, add=added)
    sd = scale * np.sqrt(np.maximum(squares / n - (total / n) ** 2, 0))
    by_rounding[suspects] = sd <= bound[suspects]
    return by_rounding


def _sums_of_powers(
    columns: np.ndarray, middle: np.ndarray, scale: np.ndarray, X: np.ndarray | sp.csr_array, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of some columns, measured from a middle in units of a scale: weight of entries, sums, sums of squares; (C,)."""
    counted = np.nonzero(weights > 0)[0]
    n, total, squares = (np.zeros(len(columns)) for _ in range(3))
    for index, block in zip(gen_batches(len(counted), _ROWS), _blocks(X, counted), strict=True):
        values, w = (block[:, columns] - middle) / scale, weights[counted[index]]
        n += w @ ~np.isnan(values)
        values = np.nan_to_num(values)
        total, squares = total + w @ values, squares + w @ values**2
    return n, total, squares


def _blocks(X: np.ndarray | sp.csr_array, counted: np.ndarray) -> Iterator[Any]:
    """The rows that count, a few at a time; dense ones in double precision."""
    everything = len(counted) == X.shape[0]
    for index in gen_batches(len(counted), _ROWS):
        block = X[index] if everything else X[counted[index]]
        yield block if sp.issparse(block) else np.asarray(block, dtype=np.float64)


def _dense(block: Any) -> np.ndarray:
    return block.toarray().astype(np.float64) if sp.issparse(block) else np.asarray(block, dtype=np.float64)
