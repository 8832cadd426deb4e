"""Totals: a warning where an axis of counts is how many counts there are."""

from __future__ import annotations

import numpy as np
from scipy.stats import binom, rankdata

from .._warnings import warn_user
from ..table.passes import joined
from ..table.source import RowSource, SparseRows

#: rank correlation with the totals above which an axis is the totals
_THE_TOTALS = 0.95
#: probability that so many columns go along with the totals by chance, below which it is no chance
_CHANCE = 1e-3


def warn_if_totals_decide(source: RowSource, positions: np.ndarray) -> None:
    """Warn where samples of counts, taken to be of one size, lie along an axis (N,) in the order of their totals.

    One column of large counts can decide the totals. So there is a warning only where nearly all columns go that way.
    """
    weights = source.weights
    centered = weights * (positions - np.average(positions, weights=weights))
    found = source.mapped(_totals_and_products, centered)
    totals = joined([(index, part) for index, (part, _) in found], len(source))
    covariances = sum(part for _, (_, part) in found)
    if np.ptp(totals[weights > 0]) == 0 or np.ptp(positions[weights > 0]) == 0:
        return
    n_together = max(np.count_nonzero(covariances > 0), np.count_nonzero(covariances < 0))
    correlation = _correlation(rankdata(totals), rankdata(positions), weights)
    if abs(correlation) > _THE_TOTALS and binom.sf(n_together - 1, source.n_features, 0.5) < _CHANCE:
        warn_user(
            f"The axis orders samples by their total counts (rank correlation {abs(correlation):.3f}). If totals are "
            "how deep samples were sequenced, or how long they were watched, it says nothing else: fit with "
            "size_factors='sum', or pass sizes, fit(X, size_factors=...). If totals mean what you look for, "
            "size_factors of ones say so."
        )


def _totals_and_products(source: RowSource, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Totals of the counts of rows (N,), and sums of the products of every column with numbers (N,): (D,)."""
    totals, products = np.empty(len(source)), np.zeros(source.n_features)
    for index, rows in source.chunks():
        counts = rows.values if isinstance(rows, SparseRows) else rows.values.cpu().numpy()
        totals[index] = np.asarray(counts.sum(1)).ravel()
        products += counts.T @ numbers[index]
    return totals, products


def _correlation(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
    x, y = (values - np.average(values, weights=weights) for values in (x, y))
    return float((weights * x * y).sum() / np.sqrt((weights * x**2).sum() * (weights * y**2).sum()))
