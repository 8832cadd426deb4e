"""Cell clusters: sparse counts of cells that belong to clusters of unequal size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch, check_random_state

from ._parameters import COUNT, COUNT_OR_NONE, SPREAD, checked_parameters
from ._sparse_counts import stack_counts

#: median total count of a cell
_DEPTH = 1500.0
#: standard deviation of the log of the total
_DEPTH_SD = 0.4
#: number of factors that have nothing to do with the clusters
_N_NUISANCE = 2
#: median dispersion of a feature
_DISPERSION = 2.0
#: standard deviation of the log of the dispersion
_DISPERSION_SD = 0.5

_DESCR = """\
Simulated cells in clusters
---------------------------
Negative-binomial counts, as of RNA molecules in single cells. Each cluster differs from the others in the log means of
some features. Two factors that have nothing to do with the clusters shift all features a little. Cells differ in their
totals, and features in their level and dispersion.
"""


@checked_parameters(
    n_samples=[COUNT],
    n_features=[COUNT],
    weights=["array-like"],
    n_markers=[COUNT_OR_NONE],
    effect_sd=[SPREAD],
    nuisance_sd=[SPREAD],
    random_state=["random_state"],
)
def make_cell_clusters(
    n_samples: int = 1000,
    n_features: int = 500,
    *,
    weights: Sequence[float] = (0.30, 0.25, 0.20, 0.10, 0.10, 0.05),
    n_markers: int = 50,
    effect_sd: float = 1.0,
    nuisance_sd: float = 0.15,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Generate sparse counts of cells in clusters of unequal size.

    Counts are negative binomial with variance ``mean + mean**2 / dispersion``. Totals of cells are log-normal (median
    1500, log sd 0.4), dispersions of features are log-normal (median 2, log sd 0.5), and log levels of features are
    standard normal. Each cluster adds normal effects to the log means of features that are chosen at random. Two
    nuisance factors, standard normal over cells, act on all features with normal loadings.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of samples (cells).

    n_features : int, default=500
        Number of features (genes).

    weights : sequence of float, default=(0.30, 0.25, 0.20, 0.10, 0.10, 0.05)
        Relative size of each cluster. They need not sum to one.

    n_markers : int, default=50
        How many features a cluster has effects on. They are drawn anew for each cluster. If it exceeds `n_features`,
        all features are affected.

    effect_sd : float, default=1.0
        Standard deviation of a cluster's effects on log means.

    nuisance_sd : float, default=0.15
        Standard deviation of the loadings of the nuisance factors.

    random_state : int, RandomState instance or None, default=None
        Seed of everything that is drawn. Pass an int for the same data from every call.

    Returns
    -------
    cells : :class:`~sklearn.utils.Bunch`
        A dictionary-like object with attributes:

        data : csr_array of shape (n_samples, n_features), float32
            The counts.
        target : ndarray of shape (n_samples,)
            The cluster of each sample.
        expected : ndarray of shape (n_clusters, n_features)
            Share of each feature in the counts of a cluster, without the nuisance.
        dispersion : ndarray of shape (n_features,)
            Dispersion of each feature.
        DESCR : str
            A description of the data.

    Raises
    ------
    ValueError
        If a parameter is out of its range, or if `weights` are not finite, non-negative numbers with a positive sum.

    See Also
    --------
    make_progression_counts : Counts along a hidden time instead of clusters.

    Examples
    --------
    >>> from skdevae.datasets import make_cell_clusters
    >>> cells = make_cell_clusters(200, 90, random_state=0)
    >>> cells.data.shape, cells.expected.shape
    ((200, 90), (6, 90))
    """
    random = check_random_state(random_state)
    shares = _checked_weights(weights)
    labels = random.choice(len(shares), n_samples, p=shares)
    levels = random.standard_normal(n_features)
    effects = np.zeros((len(shares), n_features))
    for effect in effects:
        markers = random.choice(n_features, min(n_markers, n_features), replace=False)
        effect[markers] = effect_sd * random.standard_normal(len(markers))
    loadings = nuisance_sd * random.standard_normal((_N_NUISANCE, n_features))
    factors = random.standard_normal((n_samples, _N_NUISANCE))
    depths = _DEPTH * np.exp(_DEPTH_SD * random.standard_normal(n_samples))
    dispersion = _DISPERSION * np.exp(_DISPERSION_SD * random.standard_normal(n_features))

    def draw(rows: slice) -> NDArray[np.int64]:
        logits = levels + effects[labels[rows]] + factors[rows] @ loadings
        means = depths[rows, None] * _softmax(logits)
        counts: NDArray[np.int64] = random.poisson(random.gamma(dispersion, means / dispersion))
        return counts

    return Bunch(
        data=stack_counts(n_samples, n_features, draw),
        target=labels,
        expected=_softmax(levels + effects),
        dispersion=dispersion,
        DESCR=_DESCR,
    )


def _checked_weights(weights: Sequence[float]) -> NDArray[np.float64]:
    sizes = np.asarray(weights, dtype=np.float64)
    if sizes.ndim != 1 or not np.isfinite(sizes).all() or (sizes < 0).any() or sizes.sum() <= 0:
        raise ValueError(
            f"weights={weights!r}: give a finite number for each cluster, none of them negative and not all zero."
        )
    shares: NDArray[np.float64] = sizes / sizes.sum()
    return shares


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
    return shares
