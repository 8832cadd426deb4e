"""Co-clustering: how probable it is that two features are in the same cluster, in one clustering or over several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: by how much the responsibilities of a feature may miss a sum of 1: float32 rounds it by about 1e-7 for each cluster
_SUM_TOLERANCE = 1e-4


def coclustering_matrix(responsibilities: Any) -> NDArray[np.float64]:
    """Probability that two features are in the same cluster.

    These probabilities do not depend on how clusters are numbered, as labels do, so they can be averaged over restarts.
    Pairs of features that every restart puts together are then near 1, and pairs that only some put together are in
    between.

    Parameters
    ----------
    responsibilities : array of shape (n_features, n_clusters), estimator, or list or tuple of clusterings
        One clustering, in one of three forms: the probability of each feature to be in each cluster; a fitted feature
        clusterer, whose `responsibilities_` are used; or labels of shape (n_features,). Or several clusterings in a
        list or tuple, such as one for each restart. They must be of the same features in the same order, and may have
        different numbers of clusters.

    Returns
    -------
    matrix : ndarray of shape (n_features, n_features)
        Symmetric, float64, between 0 and 1, with ones on the diagonal. It is the sum over clusters of the product of
        two features' responsibilities, averaged over clusterings.

    Raises
    ------
    ValueError
        If a clustering has none of these forms, if responsibilities are not probabilities, if the clusterings differ
        in their number of features, or if there are none.

    References
    ----------
    Danks, D. and Yau, C. (2021). "BasisDeVAE: Interpretable Simultaneous Dimensionality Reduction and Feature-Level
    Clustering with Derivative-Based Variational Autoencoders". ICML. The responsibilities are its q(w).

    Examples
    --------
    >>> import numpy as np
    >>> from skdevae.metrics import coclustering_matrix
    >>> coclustering_matrix(np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]))
    array([[1. , 0.5, 0. ],
           [0.5, 1. , 0.5],
           [0. , 0.5, 1. ]])

    Two restarts agree about the first two features, however they number the clusters:

    >>> coclustering_matrix([np.array([0, 0, 1]), np.array([1, 1, 1])])
    array([[1. , 1. , 0.5],
           [1. , 1. , 0.5],
           [0.5, 0.5, 1. ]])
    """
    clusterings = responsibilities if isinstance(responsibilities, list | tuple) else [responsibilities]
    if not clusterings:
        raise ValueError("coclustering_matrix was given no clusterings: give at least one.")
    # Added up one by one, because the matrix of thousands of features takes hundreds of megabytes.
    total: Any = 0.0
    for memberships in _each_membership(clusterings):
        total = total + memberships @ memberships.T
    matrix: NDArray[np.float64] = np.minimum(total / len(clusterings), 1.0)
    np.fill_diagonal(matrix, 1.0)
    return matrix


def _each_membership(clusterings: Sequence[Any]) -> Iterator[NDArray[np.float64]]:
    n_features = None
    for number, clustering in enumerate(clusterings):
        memberships = _memberships(clustering)
        if n_features is not None and len(memberships) != n_features:
            raise ValueError(
                f"Clustering {number} is of {len(memberships)} features but those before it are of {n_features}: all "
                "must be of the same features in the same order."
            )
        n_features = len(memberships)
        yield memberships


def _memberships(clustering: Any) -> NDArray[np.float64]:
    """Probability of each feature to be in each cluster, (D, K), from any form of a clustering."""
    values = np.asarray(getattr(clustering, "responsibilities_", clustering))
    if values.ndim == 1 and values.dtype.kind != "O":
        return _one_hot(values)
    if values.ndim == 2:
        return _checked_responsibilities(values)
    raise ValueError(
        "A clustering must be a fitted feature clusterer, labels of shape (n_features,) or responsibilities of shape "
        f"(n_features, n_clusters); got {type(clustering).__name__} with {values.ndim} dimensions."
    )


def _one_hot(labels: NDArray[Any]) -> NDArray[np.float64]:
    """Responsibilities that are certain: (D, number of distinct labels)."""
    if labels.dtype.kind == "f":
        raise ValueError(
            "coclustering_matrix was given a one-dimensional array of floats as labels. Labels must be integers or "
            "strings; give responsibilities as an array of shape (n_features, n_clusters)."
        )
    distinct, codes = np.unique(labels, return_inverse=True)
    return np.eye(len(distinct))[codes]


def _checked_responsibilities(values: NDArray[Any]) -> NDArray[np.float64]:
    responsibilities: NDArray[np.float64] = values.astype(np.float64)
    sums = responsibilities.sum(axis=1)
    if not (np.all(responsibilities >= 0) and np.allclose(sums, 1, atol=_SUM_TOLERANCE)):
        raise ValueError(
            "Responsibilities must be probabilities: non-negative numbers that sum to 1 in each row, one row for each "
            f"feature. The array of shape {responsibilities.shape} that was given is not. If its rows are the labels "
            "of several restarts, give them as a list of one-dimensional arrays."
        )
    return responsibilities
