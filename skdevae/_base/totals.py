"""Totals: a warning where an axis of counts is how many counts there are."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from .._warnings import warn_user
from ..table.source import RowSource, SparseRows

#: rank correlation with the totals above which an axis is the totals
_THE_TOTALS = 0.95


def warn_if_totals_decide(source: RowSource, positions: np.ndarray) -> None:
    """Warn where samples of counts, taken to be of one size, lie along an axis (N,) in the order of their totals."""
    parts = (rows.values if isinstance(rows, SparseRows) else rows.values.cpu().numpy() for _, rows in source.chunks())
    totals = np.concatenate([np.asarray(part.sum(1)).ravel() for part in parts])
    weights = source.weights
    if np.ptp(totals[weights > 0]) == 0 or np.ptp(positions[weights > 0]) == 0:
        return
    correlation = _correlation(rankdata(totals), rankdata(positions), weights)
    if abs(correlation) > _THE_TOTALS:
        warn_user(
            f"The axis orders samples by their total counts (rank correlation {abs(correlation):.3f}). If totals are "
            "how deep samples were sequenced, or how long they were watched, it says nothing else: fit with "
            "size_factors='sum', or pass sizes, fit(X, size_factors=...). If totals mean what you look for, "
            "size_factors of ones say so."
        )


def _correlation(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
    x, y = (values - np.average(values, weights=weights) for values in (x, y))
    return float((weights * x * y).sum() / np.sqrt((weights * x**2).sum() * (weights * y**2).sum()))
