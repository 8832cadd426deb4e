"""Progression in counts: sparse counts of features that rise, fall, or come and go along a hidden time."""

from __future__ import annotations

from numbers import Real

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import bisect
from sklearn.utils import Bunch, check_random_state

from .._sklearn import Interval
from ._parameters import COUNT, checked_parameters
from ._shapes import SHAPE_NAMES
from ._sparse_counts import stack_counts

#: Largest mean that a feature may have. Counts exceed their mean, and float32 holds whole numbers only up to 2**24.
_LARGEST_MEAN = 1e5
#: quantiles of the times at which the expected density is computed
_TYPICAL_TIMES = 64
#: most features for which it is computed
_TYPICAL_FEATURES = 4096

_DESCR = """\
Simulated progression seen through sparse counts
------------------------------------------------
Negative-binomial counts, as of RNA molecules in single cells. The log mean of each feature rises linearly, falls
linearly, or has a bump along a hidden time that is standard normal.
"""


@checked_parameters(
    n_samples=[COUNT],
    n_features=[COUNT],
    density=[Interval(Real, 0, 1, closed="neither")],
    dispersion=[Interval(Real, 0, None, closed="neither")],
    random_state=["random_state"],
)
def make_progression_counts(
    n_samples: int = 1000,
    n_features: int = 500,
    *,
    density: float = 0.11,
    dispersion: float = 2.0,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Generate sparse counts of features that rise, fall, or come and go along a hidden time.

    Times are standard normal. The log mean of a feature rises or falls linearly in time, or has a Gaussian bump; a
    third of the features behave each way, in random order. Counts are negative binomial with variance
    ``mean + mean**2 / dispersion``. The matrix is built block by block, so that memory stays close to that of the
    non-zero counts: 8509 samples of 5216 features are drawn in seconds.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of samples (cells).

    n_features : int, default=500
        Number of features (genes).

    density : float, default=0.11
        Expected share of non-zero counts, between 0 and 1. It sets the level of all features. The share in the data is
        close to it.

    dispersion : float, default=2.0
        Inverse overdispersion of the counts. The larger it is, the closer they are to Poisson counts.

    random_state : int, RandomState instance or None, default=None
        Seed of everything that is drawn. Pass an int for the same data from every call.

    Returns
    -------
    progression : :class:`~sklearn.utils.Bunch`
        A dictionary-like object with attributes:

        data : csr_array of shape (n_samples, n_features), float32
            The counts.
        labels : ndarray of shape (n_features,)
            The behaviour of each feature, as an index into `label_names`.
        label_names : tuple of str
            ``("increasing", "decreasing", "transient")``.
        times : ndarray of shape (n_samples,)
            The hidden time of each sample.
        dispersion : float
            The `dispersion` that was given.
        DESCR : str
            A description of the data.

    Raises
    ------
    ValueError
        If a parameter is out of its range, or if `density` cannot be reached without enormous counts.

    See Also
    --------
    make_progression : Dense features with Gaussian noise.

    References
    ----------
    Danks, D. and Yau, C. (2021). "BasisDeVAE: Interpretable Simultaneous Dimensionality Reduction and Feature-Level
    Clustering with Derivative-Based Variational Autoencoders". ICML. The simulation resembles the single-cell
    experiment of that paper.

    Examples
    --------
    >>> from skdevae.datasets import make_progression_counts
    >>> progression = make_progression_counts(200, 90, density=0.2, random_state=0)
    >>> progression.data.shape, str(progression.data.dtype)
    ((200, 90), 'float32')
    >>> bool(0.15 < progression.data.nnz / (200 * 90) < 0.25)
    True
    >>> [int((progression.labels == label).sum()) for label in range(3)]
    [30, 30, 30]
    """
    random = check_random_state(random_state)
    times = random.standard_normal(n_samples)
    labels = random.permutation(np.arange(n_features) % len(SHAPE_NAMES))
    curves = _log_mean_curves(labels, random)

    # Features are in random order, so the first few thousand represent all of them.
    typical_times = np.quantile(times, (np.arange(_TYPICAL_TIMES) + 0.5) / _TYPICAL_TIMES)
    typical = _log_means(typical_times, curves, slice(_TYPICAL_FEATURES))
    offset = _offset_for_density(typical, density, dispersion)

    def draw(rows: slice) -> NDArray[np.int64]:
        means = np.exp(offset + _log_means(times[rows], curves))
        counts: NDArray[np.int64] = random.negative_binomial(dispersion, dispersion / (dispersion + means))
        return counts

    return Bunch(
        data=stack_counts(n_samples, n_features, draw),
        labels=labels,
        label_names=SHAPE_NAMES,
        times=times,
        dispersion=dispersion,
        DESCR=_DESCR,
    )


def _log_mean_curves(labels: NDArray[np.int64], random: np.random.RandomState) -> dict[str, NDArray[np.float64]]:
    """Parameters of every feature's log mean, without the offset that all share: (D,) each."""
    n_features = len(labels)
    sign = np.array([1.0, -1.0, 0.0])[labels]
    return {
        "level": random.normal(scale=1.5, size=n_features),
        "slope": sign * random.uniform(0.5, 1.2, size=n_features),
        "height": (sign == 0) * random.uniform(1.5, 3.0, size=n_features),
        "peak": random.uniform(-1, 1, size=n_features),
        "width": random.uniform(0.4, 0.8, size=n_features),
    }


def _log_means(
    times: NDArray[np.float64], curves: dict[str, NDArray[np.float64]], features: slice = slice(None)
) -> NDArray[np.float64]:
    """Log mean of each sample and feature without the shared offset: (n, D)."""
    level, slope, height, peak, width = (
        curves[name][features] for name in ("level", "slope", "height", "peak", "width")
    )
    time = times[:, None]
    return level + slope * time + height * np.exp(-0.5 * ((time - peak) / width) ** 2)


def _expected_density(log_means: NDArray[np.float64], dispersion: float) -> float:
    """Expected share of non-zero counts: one minus the negative-binomial probability of zero."""
    return float(-np.expm1(-dispersion * np.log1p(np.exp(log_means) / dispersion)).mean())


def _offset_for_density(log_means: NDArray[np.float64], density: float, dispersion: float) -> float:
    """Solve for the constant that, added to every log mean, gives the wanted share of non-zero counts."""

    def excess(offset: float) -> float:
        return _expected_density(log_means + offset, dispersion) - density

    # The expected density is at most the mean count, so this lower end is always below the target.
    lowest = np.log(density) - log_means.max() - 1.0
    highest = np.log(_LARGEST_MEAN) - log_means.max()
    if excess(highest) < 0:
        raise ValueError(
            f"make_progression_counts cannot reach density={density} with dispersion={dispersion}: so many counts "
            f"would be non-zero only if the largest means exceeded {_LARGEST_MEAN:.0e}. Lower density or raise "
            "dispersion."
        )
    return float(bisect(excess, lowest, highest, xtol=1e-4))
