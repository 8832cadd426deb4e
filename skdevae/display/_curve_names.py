"""Curve names: which curves of a panel are named, and where their names go beside the panel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.isotonic import isotonic_regression


def representatives(
    curves: NDArray[np.float64], importances: NDArray[np.float64], n_wanted: int
) -> NDArray[np.integer]:
    """Choose at most ``n_wanted`` curves such that every curve is close to a chosen one.

    Curves are chosen one after another. Each time it is the one that most reduces the distances of all curves to the
    nearest chosen one, weighted by importance.

    Parameters
    ----------
    curves : ndarray of shape (n_points, n_curves)
        The curves.
    importances : ndarray of shape (n_curves,)
        Weight of each curve.
    n_wanted : int
        Number of curves to choose.

    Returns
    -------
    chosen : ndarray of shape (min(n_wanted, n_curves),)
        Positions of the chosen curves.
    """
    if n_wanted >= curves.shape[1]:
        return np.arange(curves.shape[1])
    distances = cdist(curves.T, curves.T)
    nearest = np.full(curves.shape[1], np.inf)
    chosen: list[int] = []
    while len(chosen) < n_wanted:
        remaining = importances @ np.minimum(nearest[:, None], distances)
        remaining[chosen] = np.inf
        chosen.append(int(remaining.argmin()))
        nearest = np.minimum(nearest, distances[:, chosen[-1]])
    return np.array(chosen, dtype=int)


def spread_apart(heights: NDArray[np.float64], gap: float) -> NDArray[np.float64]:
    """Move heights, which descend, as little as possible (in least squares) until they are ``gap`` apart.

    All stay between 0 and 1. If there is not enough room for the gap, it is made smaller.
    """
    if not len(heights):
        return heights
    gap = min(gap, 1 / max(len(heights) - 1, 1))
    steps = gap * np.arange(len(heights))
    # Heights that are ``gap`` apart become heights that do not ascend when the steps are added.
    apart: NDArray[np.float64] = (
        isotonic_regression(heights + steps, y_min=steps[-1], y_max=1.0, increasing=False) - steps
    )
    return apart
