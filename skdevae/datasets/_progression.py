"""Simulated data sets with known truth: features that behave along a hidden axis, cells in clusters."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import bisect
from sklearn.utils import Bunch, check_random_state

from .._sklearn import Interval, StrOptions, validate_params

_LABEL_NAMES = ("increasing", "decreasing", "transient")
_INCREASING, _DECREASING, _TRANSIENT = range(3)

_WINDOWS = {"all": (-np.inf, np.inf), "low": (-np.inf, 1.0), "high": (-1.0, np.inf)}

#: Groups of features of the BasisVAE toy table: their shape and by how much it is shifted.
_BASIS_GROUPS = {
    "early": (_TRANSIENT, 1.5),
    "middle": (_TRANSIENT, 0.0),
    "late": (_TRANSIENT, -1.5),
    "up": (_INCREASING, 0.0),
    "down": (_DECREASING, 0.0),
}

#: Entries of the count matrix that are held densely at one time: 8 MiB for each float64 intermediate.
_BLOCK_SIZE = 2**20

#: Largest typical count. Above it float32 would soon stop holding whole numbers exactly (it does up to 2**24).
_LARGEST_MEAN = 1e5

_PROGRESSION_DESCR = """\
Simulated progression
---------------------
Each feature is a smooth curve of a hidden time, drawn uniformly between -3 and 3, plus Gaussian noise. Transient
features are translated and scaled Gaussian bumps; increasing and decreasing features are translated and scaled softplus
functions. Section 5.1 of Danks, D. and Yau, C. (2021), "BasisDeVAE: Interpretable Simultaneous Dimensionality Reduction
and Feature-Level Clustering with Derivative-Based Variational Autoencoders", ICML.
"""

_BASIS_DESCR = """\
Toy table of BasisVAE
---------------------
Each feature is a scaled and shifted copy of one of three curves of a hidden time, drawn uniformly between -3 and 3: a
Gaussian bump, a softplus function or its mirror image, plus Gaussian noise. The features of a group differ in scale,
and by small shifts if these are asked for. After Section 5.1 of Märtens, K. and Yau, C. (2020), "BasisVAE:
Translation-invariant feature-level clustering with Variational Autoencoders", AISTATS.
"""

_COUNTS_DESCR = """\
Simulated progression seen through sparse counts
------------------------------------------------
Negative-binomial counts, as of RNA molecules in single cells. The log mean of each feature rises linearly, falls
linearly, or has a bump along a hidden time that is standard normal.
"""


def _spread(low: float, high: float, n_values: int, random: np.random.RandomState) -> NDArray[np.float64]:
    """Evenly spaced values from low to high in random order; a single value lies midway."""
    if n_values == 1:
        return np.array([(low + high) / 2])
    return random.permutation(np.linspace(low, high, n_values))


def _transient_curves(times: NDArray[np.float64], n_curves: int, random: np.random.RandomState) -> NDArray[np.float64]:
    """Gaussian bumps of unit width: (n, n_curves)."""
    peaks = _spread(-1.5, 1.5, n_curves, random)
    heights = _spread(0.4, 1.6, n_curves, random)
    return heights * np.exp(-0.5 * (times[:, None] - peaks) ** 2)


def _increasing_curves(times: NDArray[np.float64], n_curves: int, random: np.random.RandomState) -> NDArray[np.float64]:
    """Softplus functions, translated and scaled: (n, n_curves)."""
    shifts = _spread(-1.5, 1.5, n_curves, random)
    scales = _spread(0.4, 1.6, n_curves, random)
    return scales * 0.4 * np.logaddexp(0, times[:, None] + shifts)


def _numbered_names(stem: str, n_names: int) -> list[str]:
    """Names that sort in the order of their numbers: stem_00, stem_01, ..."""
    n_digits = max(2, len(str(n_names - 1)))
    return [f"{stem}_{number:0{n_digits}d}" for number in range(n_names)]


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "n_transient": [Interval(Integral, 0, None, closed="left")],
        "n_increasing": [Interval(Integral, 0, None, closed="left")],
        "n_decreasing": [Interval(Integral, 0, None, closed="left")],
        "noise": [Interval(Real, 0, None, closed="left")],
        "window": [StrOptions(set(_WINDOWS))],
        "as_frame": ["boolean"],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_progression(
    n_samples: int = 500,
    *,
    n_transient: int = 30,
    n_increasing: int = 10,
    n_decreasing: int = 10,
    noise: float = 0.1,
    window: Literal["all", "low", "high"] = "all",
    as_frame: bool = False,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Generate features that rise, fall, or come and go along a hidden time.

    This is the synthetic experiment of BasisDeVAE [1]_. Times `t` are uniform on [-3, 3]. With `A`, `c`, `a` and `s`
    evenly spaced over the features of one kind, each in a random order of its own:

    - a transient feature is ``A * exp(-(t - c)**2 / 2)``, `A` in [0.4, 1.6] and `c` in [-1.5, 1.5];
    - an increasing feature is ``a * 0.4 * log(1 + exp(t + s))``, `a` in [0.4, 1.6] and `s` in [-1.5, 1.5];
    - a decreasing feature is the same with a minus sign.

    Parameters
    ----------
    n_samples : int, default=500
        Number of samples before `window` is applied.

    n_transient : int, default=30
        Number of features with a single peak.

    n_increasing : int, default=10
        Number of features that rise everywhere.

    n_decreasing : int, default=10
        Number of features that fall everywhere.

    noise : float, default=0.1
        Standard deviation of the Gaussian noise, in the units of the features. The same `random_state` with another
        `noise` gives the same noise, rescaled.

    window : {"all", "low", "high"}, default="all"
        Which part of the progression was observed: "low" keeps the samples with ``t < 1`` and "high" those with
        ``t > -1``. Both keep rows of the data that "all" gives for the same `random_state`, so that the rows with
        ``-1 < t < 1`` are in all three.

    as_frame : bool, default=False
        Whether `data` is a :class:`pandas.DataFrame` with the names of the features.

    random_state : int, RandomState instance or None, default=None
        Seed of the times, the order of the features' parameters and the noise. Pass an int for the same data from
        every call.

    Returns
    -------
    progression : :class:`~sklearn.utils.Bunch`
        A dictionary-like object with attributes:

        data : ndarray or DataFrame of shape (n_samples, n_features)
            The noisy features; transient ones first, then increasing, then decreasing.
        labels : ndarray of shape (n_features,)
            The behaviour of each feature, as an index into `label_names`.
        label_names : tuple of str
            ``("increasing", "decreasing", "transient")``.
        times : ndarray of shape (n_samples,)
            The hidden time of each sample.
        feature_names : list of str
            Names such as "transient_00".
        curves : ndarray of shape (n_samples, n_features)
            The features without noise.
        DESCR : str
            A description of the data.

    Raises
    ------
    ValueError
        If a parameter is out of its range, if there are no features at all, or if no sample falls into `window`.

    See Also
    --------
    make_basis_toy : Groups of features with a common curve, up to scale.
    make_progression_counts : The same idea at single-cell scale, as sparse counts.

    References
    ----------
    .. [1] Danks, D. and Yau, C. (2021). "BasisDeVAE: Interpretable Simultaneous Dimensionality Reduction and
       Feature-Level Clustering with Derivative-Based Variational Autoencoders". ICML. Section 5.1.

    Examples
    --------
    >>> from skdevae.datasets import make_progression
    >>> progression = make_progression(random_state=0)
    >>> progression.data.shape
    (500, 50)
    >>> progression.feature_names[30]
    'increasing_00'
    >>> progression.label_names[progression.labels[30]]
    'increasing'
    >>> low = make_progression(window="low", random_state=0)
    >>> bool(low.times.max() < 1)
    True
    """
    n_features = n_transient + n_increasing + n_decreasing
    if n_features == 0:
        raise ValueError(
            "make_progression was asked for no features: at least one of n_transient, n_increasing and n_decreasing "
            "must be positive."
        )
    random = check_random_state(random_state)
    times = random.uniform(-3, 3, size=n_samples)
    curves = np.hstack(
        [
            _transient_curves(times, n_transient, random),
            _increasing_curves(times, n_increasing, random),
            -_increasing_curves(times, n_decreasing, random),
        ]
    )
    data: Any = curves + noise * random.standard_normal(curves.shape)

    # Cut only after everything is drawn, so that all windows share their rows.
    earliest, latest = _WINDOWS[window]
    inside = (times > earliest) & (times < latest)
    if not inside.any():
        raise ValueError(
            f"None of the {n_samples} samples that make_progression drew lies in window={window!r}: raise n_samples."
        )
    data, curves, times = data[inside], curves[inside], times[inside]

    feature_names = [
        *_numbered_names("transient", n_transient),
        *_numbered_names("increasing", n_increasing),
        *_numbered_names("decreasing", n_decreasing),
    ]
    if as_frame:
        data = pd.DataFrame(data, columns=feature_names)
    return Bunch(
        data=data,
        labels=np.repeat([_TRANSIENT, _INCREASING, _DECREASING], [n_transient, n_increasing, n_decreasing]),
        label_names=_LABEL_NAMES,
        times=times,
        feature_names=feature_names,
        curves=curves,
        DESCR=_PROGRESSION_DESCR,
    )


def _log_mean_curves(labels: NDArray[np.int64], random: np.random.RandomState) -> dict[str, NDArray[np.float64]]:
    """Parameters of every feature's log mean, up to an offset that all share: (D,) each."""
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
    """Share of non-zero counts that is expected: one minus the negative-binomial probability of zero."""
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


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "n_features": [Interval(Integral, 1, None, closed="left")],
        "density": [Interval(Real, 0, 1, closed="neither")],
        "dispersion": [Interval(Real, 0, None, closed="neither")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
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
    ``mean + mean**2 / dispersion``. The matrix is built from blocks of rows, so that memory stays close to that of the
    non-zero counts: 8509 samples of 5216 features are drawn in seconds.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of samples (cells).

    n_features : int, default=500
        Number of features (genes).

    density : float, default=0.11
        Expected share of non-zero counts, between 0 and 1. Sets the level of all features; the share in the data is
        close to it.

    dispersion : float, default=2.0
        Inverse overdispersion of the counts: they become Poisson as it grows.

    random_state : int, RandomState instance or None, default=None
        Seed of all that is drawn. Pass an int for the same data from every call.

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
    Clustering with Derivative-Based Variational Autoencoders". ICML. The simulation stands in for the single-cell
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
    labels = random.permutation(np.arange(n_features) % len(_LABEL_NAMES))
    curves = _log_mean_curves(labels, random)

    # Features are in random order, so the first few thousand stand for all of them.
    typical_times = np.quantile(times, (np.arange(64) + 0.5) / 64)
    sample = _log_means(typical_times, curves, slice(4096))
    offset = _offset_for_density(sample, density, dispersion)

    n_rows = max(1, _BLOCK_SIZE // n_features)
    blocks = []
    for start in range(0, n_samples, n_rows):
        means = np.exp(offset + _log_means(times[start : start + n_rows], curves))
        counts = random.negative_binomial(dispersion, dispersion / (dispersion + means))
        blocks.append(sparse.csr_array(counts.astype(np.float32)))
    return Bunch(
        data=sparse.vstack(blocks, format="csr"),
        labels=labels,
        label_names=_LABEL_NAMES,
        times=times,
        dispersion=dispersion,
        DESCR=_COUNTS_DESCR,
    )


def _basis_curve(shape: int, times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Curve of a shape without scale and shift, at any times."""
    if shape == _TRANSIENT:
        return np.exp(-0.5 * times**2)
    return 0.4 * np.logaddexp(0, times if shape == _INCREASING else -times)


def _check_basis_toy(groups: Sequence[str], scale_range: Sequence[float]) -> None:
    known = f"Choose from {', '.join(repr(name) for name in _BASIS_GROUPS)}, each at most once"
    if isinstance(groups, str):
        raise ValueError(
            f"The 'groups' parameter of make_basis_toy is the string {groups!r}: give a sequence of names, such as "
            f"groups=('middle',). {known}."
        )
    if len(groups) == 0:
        raise ValueError(f"The 'groups' parameter of make_basis_toy is empty: name at least one group. {known}.")
    unknown = [name for name in groups if name not in tuple(_BASIS_GROUPS)]
    if unknown:
        raise ValueError(f"The 'groups' parameter of make_basis_toy has unknown names, {unknown}. {known}.")
    repeated = [name for name in _BASIS_GROUPS if list(groups).count(name) > 1]
    if repeated:
        raise ValueError(
            f"The 'groups' parameter of make_basis_toy repeats {repeated}. {known}; for larger groups raise "
            "n_features_per_group."
        )
    are_numbers = len(scale_range) == 2 and all(isinstance(scale, Real) for scale in scale_range)
    if not (are_numbers and 0 < scale_range[0] <= scale_range[1] < np.inf):
        raise ValueError(
            "The 'scale_range' parameter of make_basis_toy must be two finite numbers (low, high) with "
            f"0 < low <= high, such as (0.5, 1.5). Got {scale_range!r} instead."
        )


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "n_features_per_group": [Interval(Integral, 1, None, closed="left")],
        "groups": [Sequence],
        "shift_range": [Interval(Real, 0, None, closed="left")],
        "scale_range": [Sequence],
        "noise": [Interval(Real, 0, None, closed="left")],
        "as_frame": ["boolean"],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_basis_toy(
    n_samples: int = 500,
    n_features_per_group: int = 10,
    *,
    groups: Sequence[str] = ("early", "middle", "late", "up", "down"),
    shift_range: float = 0.0,
    scale_range: Sequence[float] = (0.5, 1.5),
    noise: float = 0.2,
    as_frame: bool = False,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Generate groups of features that are scaled and shifted copies of a few basis functions.

    This is the toy table of BasisVAE [1]_. Times `z` are uniform between -3 and 3, and a feature without its noise is
    ``scale * f(z + shift)``. Its group gives the basis function `f` and where that lies:

    ======== ========== =================================== ===============
    group    shape      `f`                                 group's shift
    ======== ========== =================================== ===============
    "early"  transient  ``exp(-z**2 / 2)``                  1.5
    "middle" transient  ``exp(-z**2 / 2)``                  0
    "late"   transient  ``exp(-z**2 / 2)``                  -1.5
    "up"     increasing ``0.4 * log(1 + exp(z))``           0
    "down"   decreasing ``0.4 * log(1 + exp(-z))``          0
    ======== ========== =================================== ===============

    A transient with shift `s` peaks at ``z = -s``: early ones at -1.5, late ones at 1.5. Features of one group are the
    same up to scale, so that a scale-invariant clustering should find the groups (`labels`); one that is
    translation-invariant too should find the shapes (`shape_labels`).

    Parameters
    ----------
    n_samples : int, default=500
        Number of samples.

    n_features_per_group : int, default=10
        Number of features in each group.

    groups : sequence of str, default=("early", "middle", "late", "up", "down")
        Names of the groups, each at most once, in the order of their columns. The columns of a group are the same
        for the same `random_state` whichever other groups there are.

    shift_range : float, default=0.0
        Within a group, shifts are evenly spaced over ``[-shift_range, shift_range]`` around the group's own shift, in
        random order. A wide range turns one group into a continuum that no small number of fixed curves describes.

    scale_range : sequence of two floats, default=(0.5, 1.5)
        Scales are drawn uniformly between these two positive numbers.

    noise : float, default=0.2
        Standard deviation of the Gaussian noise, in the units of the features. The same `random_state` with another
        `noise` gives the same noise, rescaled.

    as_frame : bool, default=False
        Whether `data` is a :class:`pandas.DataFrame` with the names of the features.

    random_state : int, RandomState instance or None, default=None
        Seed of the times, the scales, the order of the shifts and the noise. Pass an int for the same data from every
        call.

    Returns
    -------
    toy : :class:`~sklearn.utils.Bunch`
        A dictionary-like object with attributes:

        data : ndarray or DataFrame of shape (n_samples, n_features)
            The noisy features, group by group.
        labels : ndarray of shape (n_features,)
            The group of each feature, as an index into `label_names`.
        label_names : tuple of str
            The `groups` that were given.
        shape_labels : ndarray of shape (n_features,)
            The shape of each feature, as an index into `shape_names`.
        shape_names : tuple of str
            ``("increasing", "decreasing", "transient")``, whether or not the data has all of them.
        scales : ndarray of shape (n_features,)
            The factor of each feature.
        shifts : ndarray of shape (n_features,)
            What is added to `times` before the basis function of each feature, the group's own shift included.
        times : ndarray of shape (n_samples,)
            The hidden time `z` of each sample.
        feature_names : list of str
            Names such as "early_00".
        curves : ndarray of shape (n_samples, n_features)
            The features without noise.
        DESCR : str
            A description of the data.

    Raises
    ------
    ValueError
        If a parameter is out of its range, if `groups` is empty or has unknown or repeated names, or if `scale_range`
        is not a pair of positive numbers in ascending order.

    See Also
    --------
    make_progression : Features of three shapes, every one with a shift of its own.

    Notes
    -----
    Times and basis functions are those of the authors' published script, which has scales evenly spaced from 0.4 to 1.6
    and no group "down".

    References
    ----------
    .. [1] Märtens, K. and Yau, C. (2020). "BasisVAE: Translation-invariant feature-level clustering with Variational
       Autoencoders". AISTATS. Section 5.1.

    Examples
    --------
    The five groups of the paper's Figure 1:

    >>> from skdevae.datasets import make_basis_toy
    >>> toy = make_basis_toy(random_state=0)
    >>> toy.data.shape
    (500, 50)
    >>> toy.feature_names[20], toy.label_names[toy.labels[20]], toy.shape_names[toy.shape_labels[20]]
    ('late_00', 'late', 'transient')
    >>> float(toy.shifts[20])
    -1.5

    Its Figure 5, one shape at a range of shifts:

    >>> shifted = make_basis_toy(groups=("middle",), n_features_per_group=30, shift_range=1.5, random_state=0)
    >>> float(shifted.shifts.min()), float(shifted.shifts.max())
    (-1.5, 1.5)
    """
    _check_basis_toy(groups, scale_range)
    low, high = scale_range
    random = check_random_state(random_state)
    times = random.uniform(-3, 3, size=n_samples)
    # Each group has a generator of its own, so that it does not depend on the other groups.
    seeds = dict(zip(_BASIS_GROUPS, random.randint(np.iinfo(np.int32).max, size=len(_BASIS_GROUPS)), strict=True))

    all_scales, all_shifts, all_curves, all_noise = [], [], [], []
    for name in groups:
        shape, group_shift = _BASIS_GROUPS[name]
        group_random = np.random.RandomState(seeds[name])
        scales = group_random.uniform(low, high, size=n_features_per_group)
        shifts = group_shift + _spread(-shift_range, shift_range, n_features_per_group, group_random)
        all_scales.append(scales)
        all_shifts.append(shifts)
        all_curves.append(scales * _basis_curve(shape, times[:, None] + shifts))
        all_noise.append(group_random.standard_normal((n_samples, n_features_per_group)))
    curves = np.hstack(all_curves)
    data: Any = curves + noise * np.hstack(all_noise)

    feature_names = [feature for name in groups for feature in _numbered_names(name, n_features_per_group)]
    if as_frame:
        data = pd.DataFrame(data, columns=feature_names)
    return Bunch(
        data=data,
        labels=np.repeat(np.arange(len(groups)), n_features_per_group),
        label_names=tuple(groups),
        shape_labels=np.repeat([_BASIS_GROUPS[name][0] for name in groups], n_features_per_group),
        shape_names=_LABEL_NAMES,
        scales=np.concatenate(all_scales),
        shifts=np.concatenate(all_shifts),
        times=times,
        feature_names=feature_names,
        curves=curves,
        DESCR=_BASIS_DESCR,
    )
