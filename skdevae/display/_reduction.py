"""Reduction: latents of many components brought to the two axes of a figure."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.utils import check_random_state
from threadpoolctl import threadpool_limits

from .._optional import import_optional

#: Neighbours of each point that UMAP considers: its own default. With fewer points, all others.
_UMAP_NEIGHBORS = 15
#: fewest points of which UMAP can make a graph of neighbours
_UMAP_POINTS = 4


def check_reducer(reducer: Any) -> None:
    """Raise ValueError for anything but "auto", "pca" or an instance of a transformer."""
    is_transformer = hasattr(reducer, "fit_transform") and not isinstance(reducer, type)
    if not is_transformer and not (isinstance(reducer, str) and reducer in ("auto", "pca")):
        raise ValueError(
            f"reducer is {reducer!r}, but must be 'auto' (UMAP), 'pca', or an instance with fit_transform."
        )


def at_most_two_axes(
    points: NDArray[np.float64], names: list[str], reducer: Any, random_state: Any
) -> tuple[NDArray[np.float64], list[str]]:
    """Reduce points of more than two components to two; return the points and the names of their axes."""
    if points.shape[1] <= 2:
        return points, names
    if len(points) == 1:
        raise ValueError(
            f"One sample without a prior cannot be reduced from {points.shape[1]} components to two axes: give more "
            "samples, or draws from the prior."
        )
    fitted = _new_reducer(reducer, len(points), random_state)
    # UMAP's numba sets the number of OpenMP's threads for the whole process, and so torch's too: it is put back after.
    # A program may have asked scikit-learn's transformers for data frames; the figure needs arrays.
    with threadpool_limits(1, user_api="openmp"), config_context(transform_output="default"):
        reduced = np.asarray(fitted.fit_transform(points), dtype=np.float64)
    if reduced.shape != (len(points), 2):
        raise ValueError(
            f"reducer ({type(fitted).__name__}) made an array of shape {reduced.shape} of {len(points)} points, but "
            "two columns are drawn: set its number of components to 2."
        )
    return reduced, [f"{type(fitted).__name__} {axis}" for axis in (1, 2)]


def _new_reducer(reducer: Any, n_points: int, random_state: Any) -> Any:
    if not isinstance(reducer, str):
        return clone(reducer)
    if reducer == "pca" or n_points < _UMAP_POINTS:
        return PCA(n_components=2, svd_solver="full")
    # Imported only here, because the import alone takes seconds.
    umap = import_optional(
        "umap",
        extra="umap",
        purpose="LatentDisplay reduces more than two components with umap-learn, or with reducer='pca' without it",
    )
    return umap.UMAP(
        n_components=2,
        n_neighbors=min(_UMAP_NEIGHBORS, n_points - 1),
        # If prior and samples do not meet, the graph is in pieces. The default, spectral start fails on such a graph,
        # warns, and falls back to another. Principal components need no graph, and place the pieces as they lie in the
        # latent.
        init="pca",
        n_jobs=1,
        # Never None: UMAP would then compile a second version of itself, which runs on all cores.
        random_state=check_random_state(random_state),
    )
