"""Simulated counts of cells that belong to clusters of unequal size. Public name in :mod:`skdevae.datasets`."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np
from scipy import sparse
from sklearn.utils import Bunch, check_random_state, gen_batches

from .._sklearn import Interval, validate_params

#: Entries of the count matrix that are held densely at one time.
_BLOCK_SIZE = 2**20
#: Median total of a cell, and sd of its log.
_DEPTH, _DEPTH_SD = 1500.0, 0.4
#: Number of factors that are no clusters.
_N_NUISANCE = 2
#: Median dispersion of a feature, and sd of its log.
_DISPERSION, _DISPERSION_SD = 2.0, 0.5

_DESCR = """\
Simulated cells in clusters
---------------------------
Negative-binomial counts, as of RNA molecules in single cells. Each cluster differs from the others in the log means of
some of the features; two factors that have nothing to do with the clusters shift all of them a little; cells differ in
their totals and features in their level and dispersion.
"""


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "n_features": [Interval(Integral, 1, None, closed="left")],
        "weights": ["array-like"],
        "n_markers": [Interval(Integral, 0, None, closed="left")],
        "effect_sd": [Interval(Real, 0, None, closed="left")],
        "nuisance_sd": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
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

    Totals of cells are log-normal with median 1500 and log sd 0.4, dispersions of features log-normal with median 2 and
    log sd 0.5 (variance = mean + mean^2 / dispersion), and log levels of features standard normal. In each cluster a
    random choice of features has normal effects on their log means. Two standard normal factors of the cells, with
    normal loadings on all features, are a nuisance.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of samples (cells).

    n_features : int, default=500
        Number of features (genes).

    weights : sequence of float, default=(0.30, 0.25, 0.20, 0.10, 0.10, 0.05)
        Probability of each cluster, in any unit.

    n_markers : int, default=50
        Features that a cluster has effects on, drawn anew for each; at most all.

    effect_sd : float, default=1.0
        Standard deviation of these effects on log means.

    nuisance_sd : float, default=0.15
        Standard deviation of the loadings of the nuisance factors.

    random_state : int, RandomState instance or None, default=None
        Seed of all that is drawn. Pass an int for the same data from every call.

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

    blocks = []
    for index in gen_batches(n_samples, max(1, _BLOCK_SIZE // n_features)):
        logits = levels + effects[labels[index]] + factors[index] @ loadings
        means = depths[index, None] * _softmax(logits)
        counts = random.poisson(random.gamma(dispersion, means / dispersion))
        blocks.append(sparse.csr_array(counts.astype(np.float32)))
    return Bunch(
        data=sparse.vstack(blocks, format="csr"),
        target=labels,
        expected=_softmax(levels + effects),
        dispersion=dispersion,
        DESCR=_DESCR,
    )


def _checked_weights(weights: Sequence[float]) -> np.ndarray:
    shares = np.asarray(weights, dtype=np.float64)
    if shares.ndim != 1 or not np.isfinite(shares).all() or (shares < 0).any() or shares.sum() <= 0:
        raise ValueError(f"weights={weights!r}: give a probability for each cluster, none of them negative.")
    return shares / shares.sum()


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)
