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
totals, and features in their level and dispersion. If there are several batches, each shifts all features, in part by
amounts of its own for each cluster.
"""


@checked_parameters(
    n_samples=[COUNT],
    n_features=[COUNT],
    weights=["array-like"],
    n_markers=[COUNT_OR_NONE],
    effect_sd=[SPREAD],
    nuisance_sd=[SPREAD],
    n_batches=[COUNT],
    batch_sd=[SPREAD],
    interaction=[SPREAD],
    composition_sd=[SPREAD],
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
    n_batches: int = 1,
    batch_sd: float = 0.3,
    interaction: float = 0.5,
    composition_sd: float = 0.0,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Generate sparse counts of cells in clusters of unequal size.

    Counts are negative binomial with variance ``mean + mean**2 / dispersion``. Totals of cells are log-normal (median
    1500, log sd 0.4), dispersions of features are log-normal (median 2, log sd 0.5), and log levels of features are
    standard normal. Each cluster adds normal effects to the log means of features that are chosen at random. Two
    nuisance factors, standard normal over cells, act on all features with normal loadings. Batches add normal effects
    to the log means of all features. The second batch is half as large as the first, the third a third, and so on.

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

    n_batches : int, default=1
        Number of batches. With one, there are no effects of batches.

    batch_sd : float, default=0.3
        Standard deviation of a batch's effects on log means.

    interaction : float, default=0.5
        Standard deviation of what a batch adds to the log means of one cluster alone, as a multiple of `batch_sd`. With
        0, a batch has the same effects on all clusters.

    composition_sd : float, default=0.0
        How much batches differ in their clusters: standard deviation of the log odds that a cell of a cluster is in a
        batch, beside the size of the batch. With 0, cluster and batch are independent. `weights` hold for all batches
        together.

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
        batch : ndarray of shape (n_samples,)
            The batch of each sample.
        expected : ndarray of shape (n_clusters, n_features)
            Share of each feature in the counts of a cluster, without nuisance and batches.
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
    batches = _drawn_batches(labels, len(shares), n_batches, composition_sd, random)
    batch_effects = _drawn_effects(n_batches, (len(shares), n_features), batch_sd, interaction, random)

    def draw(rows: slice) -> NDArray[np.int64]:
        logits = levels + effects[labels[rows]] + factors[rows] @ loadings
        logits += batch_effects[batches[rows], labels[rows]]
        means = depths[rows, None] * _softmax(logits)
        counts: NDArray[np.int64] = random.poisson(random.gamma(dispersion, means / dispersion))
        return counts

    return Bunch(
        data=stack_counts(n_samples, n_features, draw),
        target=labels,
        batch=batches,
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


def _drawn_batches(
    labels: NDArray[np.int64], n_clusters: int, n_batches: int, composition_sd: float, random: np.random.RandomState
) -> NDArray[np.int64]:
    """The batch of each sample, for its cluster: (N,)."""
    batches = np.zeros(len(labels), dtype=np.int64)
    if n_batches == 1:  # draws nothing
        return batches
    logits = composition_sd * random.standard_normal((n_clusters, n_batches)) - np.log(np.arange(1, n_batches + 1))
    for label, shares in enumerate(_softmax(logits)):
        members = labels == label
        batches[members] = random.choice(n_batches, members.sum(), p=shares)
    return batches


def _drawn_effects(
    n_batches: int, shape: tuple[int, int], sd: float, interaction: float, random: np.random.RandomState
) -> NDArray[np.float64]:
    """Effects of each batch on the log means of clusters and features: (n_batches, n_clusters, n_features)."""
    if n_batches == 1:  # draws nothing
        return np.zeros((1, *shape))
    common = random.standard_normal((n_batches, 1, shape[1]))
    return sd * (common + interaction * random.standard_normal((n_batches, *shape)))


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
    return shares
