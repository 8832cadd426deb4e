"""Mixture clusters: the many components of a prior, merged into few clusters of samples."""

from __future__ import annotations

import numpy as np
from sklearn.cluster import KMeans

#: starts of k-means
_STARTS = 10
#: its seed: the same components always make the same clusters
_SEED = 0


def merge_components(weights: np.ndarray, means: np.ndarray, n_clusters: int) -> np.ndarray:
    """Cluster of every component, (K,), for weights (K,) and means (K, Q).

    Components are merged by weighted k-means. Clusters are numbered by their total weight, largest first. If fewer
    means differ than there should be clusters, the last clusters are empty.
    """
    places, which = np.unique(means, axis=0, return_inverse=True)
    which = which.ravel()
    if len(places) <= n_clusters:
        labels = which
    else:
        search = KMeans(n_clusters, n_init=_STARTS, random_state=_SEED)
        labels = search.fit(places, sample_weight=np.bincount(which, weights)).labels_[which]
    totals = np.bincount(labels, weights=weights, minlength=n_clusters)
    rank = np.empty(n_clusters, dtype=int)
    rank[np.argsort(-totals, kind="stable")] = np.arange(n_clusters)
    return rank[labels]
