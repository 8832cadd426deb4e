"""Seriation: the order of rows along a curved path, which no principal component has.

The first principal component is a straight line. Where rows lie along a path that bends, as they do where features come
and go or where counts change by factors, the path's ends are folded back on that line. Fits that start there keep the
fold.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse.csgraph import connected_components
from sklearn.manifold import spectral_embedding
from sklearn.neighbors import KNeighborsRegressor, kneighbors_graph

#: nearest neighbours that a row is connected with
_NEIGHBORS = 10
#: rows of which a graph is made, if there are more: the others are placed beside their nearest
_MOST_ROWS = 2000
#: bins of rows that lie next to each other, and the fewest rows of a bin
_BINS, _FEWEST_IN_BIN = 20, 5
#: share of what the line leaves that the path has to explain
_LEAST_GAIN = 0.5


def path_through(scores: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray | None:
    """Where rows with principal components ``scores`` (N, C) lie along a path: (N,); None where the line does as well.

    The path's direction is left to chance. It explains at least half of the variance of the components that the first
    one, in bins of its order, leaves. ``weights`` (N,) say how often each row counts.

    The order is that of the Fiedler vector, the second eigenvector of the Laplacian of the graph of nearest neighbours
    (Atkins, Boman and Hendrickson, 1998).
    """
    weights = np.ones(len(scores)) if weights is None else weights
    path = _fiedler_order(scores)
    if path is None:
        return None
    by_line, by_path = (_unexplained(scores, order, weights) for order in (scores[:, 0], path))
    return path if by_path < (1 - _LEAST_GAIN) * by_line else None


def _fiedler_order(scores: np.ndarray) -> np.ndarray | None:
    """Places of rows (N,) by the Fiedler vector; None where there are too few rows, or not one connected graph."""
    _, first = np.unique(scores, axis=0, return_index=True)  # copies of a row would be each other's neighbours
    rows = first[np.argsort(scores[first, 0], kind="stable")]
    if len(rows) > _MOST_ROWS:
        rows = rows[np.linspace(0, len(rows) - 1, _MOST_ROWS).round().astype(int)]
    if len(rows) < 2 * _BINS or scores.shape[1] < 2:
        return None
    graph = kneighbors_graph(scores[rows], _NEIGHBORS)
    graph = 0.5 * (graph + graph.T)
    if connected_components(graph, directed=False, return_labels=False) > 1:
        return None
    fiedler = spectral_embedding(graph, n_components=1, drop_first=True, random_state=0)[:, 0]
    place = np.argsort(np.argsort(fiedler, kind="stable"), kind="stable") / len(rows)
    if len(rows) == len(scores):
        places = np.empty(len(scores))
        places[rows] = place
        return places
    return KNeighborsRegressor(_FEWEST_IN_BIN, weights="distance").fit(scores[rows], place).predict(scores)


def _unexplained(scores: np.ndarray, order: np.ndarray, weights: np.ndarray) -> float:
    """Variance of the scores (N, C) within bins of rows that follow each other in an order (N,)."""
    rows = np.argsort(order, kind="stable")
    n_bins = min(_BINS, max(1, len(rows) // _FEWEST_IN_BIN))
    bins = [part for part in np.array_split(rows, n_bins) if weights[part].sum() > 0]
    return sum(
        float(weights[part] @ np.square(scores[part] - np.average(scores[part], axis=0, weights=weights[part])).sum(1))
        for part in bins
    )
