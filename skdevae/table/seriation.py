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
#: rows that stand for all, if there are more: in a graph, the others are placed beside their nearest
_MOST_ROWS = 2000
#: fewest rows of which a path is sought
_FEWEST_ROWS = 40
#: nearest neighbours that a row is placed by if it is not in the graph
_NEIGHBORS_OF_OTHERS = 5


def evenly_spaced(n_rows: int) -> np.ndarray:
    """Numbers of some rows at equal distances that stand for all, or of all of them."""
    return np.linspace(0, n_rows - 1, min(n_rows, _MOST_ROWS)).round().astype(int)


def path_through(scores: np.ndarray) -> np.ndarray | None:
    """Where rows with principal components ``scores`` (N, C) lie along a path: (N,), which end first is left to chance.

    None where there are too few rows, or where nearest neighbours do not connect all of them. The order is that of the
    Fiedler vector, the second eigenvector of the Laplacian of the graph of nearest neighbours (Atkins, Boman and
    Hendrickson, 1998).
    """
    _, first = np.unique(scores, axis=0, return_index=True)  # copies of a row would be each other's neighbours
    rows = first[np.argsort(scores[first, 0], kind="stable")]
    rows = rows[evenly_spaced(len(rows))]
    if len(rows) < _FEWEST_ROWS or scores.shape[1] < 2:
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
    return KNeighborsRegressor(_NEIGHBORS_OF_OTHERS, weights="distance").fit(scores[rows], place).predict(scores)
