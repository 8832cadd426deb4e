"""Size factors: what the expected counts of a sample are multiplied by, its sequencing depth above all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike

from .._typing import SizeFactors
from .._warnings import warn_user
from ..nn.likelihoods import LIKELIHOODS
from .passes import added, gathered, summed
from .stored import StoredTable, is_sparse, row_blocks
from .validation import routing_advice

#: rows of a table that are looked at together
_ROWS = 4096
#: Log size of a row whose size is its total, of no counts. Every count is then zero for sure, and the row says nothing.
LOG_SIZE_OF_NOTHING = -200.0
#: Ratio to the median beyond which a size is an error: so far from 1, squares of what is left of counts overflow in
#: single precision, and no two samples were ever measured that differ so much.
_LARGEST_RATIO = 1e12
#: kinds of NumPy's dtypes that hold numbers, or objects that may be some
_NUMBERS = "biufO"
#: share of a sum of weights that is rounding
_ROUNDING = 1e-12


@dataclass(frozen=True)
class SizeScale:
    """What the training table says about size factors.

    Attributes
    ----------
    log_unit : float
        Log of the size that counts as 1: the median of the training table.
    log_mean, log_sd : float
        Mean and sd of the training table's log size factors, in that unit.
    count_means : ndarray of shape (D,)
        Mean of each column, by which the total of a row with missing entries is extrapolated.
    is_total : bool
        Whether a row's size factor is its own total.
    is_given : bool
        Whether sizes were given with the training table's rows, and not by a rule that holds for any table.
    """

    log_unit: float
    log_mean: float
    log_sd: float
    count_means: np.ndarray
    is_total: bool
    is_given: bool

    @classmethod
    def learn(
        cls,
        X: np.ndarray | sp.csr_array,
        size_factors: SizeFactors,
        weights: np.ndarray | None = None,
    ) -> tuple[SizeScale, np.ndarray]:
        """The scale of a training table whose rows have weights (N,), and its rows' log size factors on it: (N,)."""
        means = count_means(X, weights)
        logs = log_size_factors(X, size_factors, means)
        unit = weighted_median(logs, weights)
        mean = np.average(logs, weights=weights)
        sd = np.sqrt(np.average((logs - mean) ** 2, weights=weights))
        is_total = isinstance(size_factors, str)
        return cls(unit, float(mean - unit), float(sd), means, is_total, _are_given(size_factors)), logs - unit

    def log_sizes(self, X: np.ndarray | sp.csr_array, size_factors: SizeFactors) -> np.ndarray:
        """Log size factors of a table's rows on the training table's scale: (N,).

        A row without any count, whose size would be its total, says nothing. It gets ``LOG_SIZE_OF_NOTHING``, with a
        warning.
        """
        if self.is_given and not _are_given(size_factors):
            raise ValueError(
                "The model was fitted with size factors of its rows, fit(X, size_factors=...): pass those of the rows "
                f"of this X, too, as size_factors=... of the method that you call. {routing_advice('size_factors')}"
            )
        if not self.is_given and _are_given(size_factors):
            raise ValueError(
                "The model was fitted with a rule for size factors, its parameter size_factors: it holds for this X as "
                "well. Leave size_factors=... out, or fit the model with fit(X, size_factors=...)."
            )
        if size_factors is None:
            raise ValueError(
                "The model was fitted with size factors: set_params(size_factors=...) to the rule that gives them."
            )
        if not isinstance(size_factors, str):
            return log_size_factors(X, size_factors, self.count_means) - self.log_unit
        totals = _totals(X, self.count_means)
        nothing = np.nonzero(totals == 0)[0]
        if len(nothing):
            warn_user(
                f"{len(nothing)} rows have no counts (the first is row {nothing[0]}): their size factor is 0, and "
                "their latent is the prior's."
            )
        return np.where(totals > 0, np.log(np.where(totals > 0, totals, 1)) - self.log_unit, LOG_SIZE_OF_NOTHING)

    def of_latents(self, size_factors: ArrayLike, Z: np.ndarray) -> np.ndarray:
        """Log size factors on the training table's scale, (N,), that are given for latents Z (N, Q)."""
        if not _are_given(size_factors):
            raise ValueError("size_factors must be numbers here, one for each latent: there are no counts to sum.")
        return log_size_factors(Z, size_factors, self.count_means) - self.log_unit


def settled_size_factors(rule: SizeFactors, given: ArrayLike | None, likelihood: str, owner: str) -> SizeFactors:
    """The size factors of a table's rows, given with them or by the rule that an estimator has; None without any.

    Raises if either stands in the place of the other. ``owner`` is the estimator's name.
    """
    if given is not None and not _are_given(given):
        raise ValueError(
            f"size_factors={given!r} is no number for each row of X. A rule that holds for any table is a parameter: "
            f"{owner}(size_factors=...)."
        )
    if given is None and _are_given(rule):
        raise ValueError(
            f"size_factors of {owner} is an array, which belongs to the rows of one table. Pass it with these: fit"
            "(X, size_factors=...), transform(X, size_factors=...) and so on. The parameter is a rule that holds for "
            "any table: 'sum', a function of X, or None."
        )
    size_factors = rule if given is None else given
    return size_factors if takes_size_factors(size_factors, likelihood) else None


def check_without_sizes(size_factors: SizeFactors) -> None:
    """Raise if rows come with size factors, to a model that has been fitted without."""
    if _are_given(size_factors):
        raise ValueError(
            "size_factors are given, but the model was fitted without any: leave them out, or fit the model with "
            "fit(X, size_factors=...)."
        )


def _are_given(size_factors: SizeFactors) -> bool:
    """Whether size factors are those of some rows, and not a rule."""
    return not (size_factors is None or isinstance(size_factors, str) or callable(size_factors))


def takes_size_factors(size_factors: SizeFactors, likelihood: str) -> bool:
    """Whether a fit has size factors; raise if some are given that the likelihood has no use for."""
    if size_factors is None:
        return False
    if LIKELIHOODS[likelihood].has_log_link:
        return True
    if isinstance(size_factors, str):  # "sum": of counts, where there are any
        return False
    raise ValueError(
        f"size_factors are given, but likelihood={likelihood!r} has no counts for them to multiply. Leave them out, or "
        "choose 'poisson', 'nb' or 'zinb'."
    )


def log_size_factors(X: np.ndarray | sp.csr_array, size_factors: SizeFactors, count_means: np.ndarray) -> np.ndarray:
    """Log of every row's size factor, (N,): of its total (``"sum"``), of those given, or of what a function gives.

    ``count_means`` (D,) are the columns' means, by which the total of a row with missing entries is extrapolated.
    """
    if isinstance(size_factors, str):
        sizes = _totals(X, count_means)
        where = "have no counts: their size factor would be 0"
        remedy = "Drop them, or choose size_factors=None"
    else:
        sizes = given_sizes(X, size_factors)
        where = "have no positive number among size_factors"
        remedy = "Drop them"
    without = np.nonzero(~(sizes > 0) | ~np.isfinite(sizes))[0]
    if len(without):
        raise ValueError(f"{len(without)} rows {where} (the first is row {without[0]}). {remedy}.")
    logs = np.log(sizes)
    apart = np.nonzero(np.abs(logs - np.median(logs)) > np.log(_LARGEST_RATIO))[0]
    if len(apart):
        row = apart[0]
        raise ValueError(
            f"{len(apart)} rows have size factors that are more than {_LARGEST_RATIO:g} times larger or smaller than "
            f"the median of {np.median(sizes):g}: row {row} has {sizes[row]:g}. Look for errors in them."
        )
    return logs


def count_means(X: np.ndarray | sp.csr_array, weights: np.ndarray | None = None) -> np.ndarray:
    """Mean of every column over its observed entries, for rows with weights (N,): (D,)."""
    total, n = summed(X, _column_sums, np.ones(X.shape[0]) if weights is None else weights, add=added)
    return total / n


def _column_sums(X: Any, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray | float]:
    """Sum of every column, and the weight of its observed entries, for rows with weights (N,): (D,) each."""
    if is_sparse(X):
        blocks = row_blocks(X, X.shape[0])
        sums = [np.asarray(block.T @ weights[i], dtype=np.float64).ravel() for i, block in blocks]
        return np.sum(sums, axis=0), weights.sum()
    total, n = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    for index, block in row_blocks(X, _ROWS):
        block = np.asarray(block, dtype=np.float64)
        total += weights[index] @ np.nan_to_num(block)
        n += weights[index] @ ~np.isnan(block)
    return total, n


def weighted_median(values: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Median of values (N,), each repeated as often as its weight (N,) says."""
    if weights is None:
        return float(np.median(values))
    order = np.argsort(values, kind="stable")
    ranks = np.cumsum(weights[order])
    # Where exactly half of the weight lies below, the median is halfway to the next value.
    middle = np.searchsorted(ranks, 0.5 * ranks[-1] * np.array([1 - _ROUNDING, 1 + _ROUNDING]))
    return float(values[order[np.minimum(middle, len(values) - 1)]].mean())


def _totals(X: np.ndarray | sp.csr_array, count_means: np.ndarray) -> np.ndarray:
    return gathered(X, partial(_totals_of_rows, count_means))


def _totals_of_rows(count_means: np.ndarray, X: Any) -> np.ndarray:
    return np.concatenate([_block_totals(block, count_means) for _, block in row_blocks(X, _ROWS)])


def _block_totals(block: np.ndarray | sp.csr_array, count_means: np.ndarray) -> np.ndarray:
    if sp.issparse(block):
        return np.asarray(block.sum(1), dtype=np.float64).ravel()
    observed_share = ~np.isnan(block) @ count_means / max(count_means.sum(), np.finfo(float).tiny)
    # A row without any observed entry has the prior for its posterior, whatever its size.
    empty = observed_share == 0
    totals = np.nansum(block, 1, dtype=np.float64) / np.where(empty, 1, observed_share)
    return np.where(np.isnan(block).all(1), count_means.sum(), totals)


def given_sizes(
    X: np.ndarray | sp.csr_array, size_factors: ArrayLike | Callable[[Any], ArrayLike] | None
) -> np.ndarray:
    """Size factors of the rows (N,) as given, or as a function gives them; raise unless there is a number for each."""
    of_table = X.source if isinstance(X, StoredTable) else X
    values = size_factors(of_table) if callable(size_factors) else size_factors
    try:
        given = np.asarray(values)
        if given.dtype.kind not in _NUMBERS:  # complex numbers, dates and texts would be made into some
            raise TypeError(f"{given.dtype} is no type of real numbers")
        sizes = given.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError("size_factors must be numbers, one for each row of X.") from error
    if sizes.shape != (X.shape[0],):
        raise ValueError(
            f"size_factors has shape {sizes.shape}, but X has {X.shape[0]} rows: give one number for each row."
        )
    return sizes
