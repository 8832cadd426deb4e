"""Progression: features that rise, fall, or come and go along a hidden time, with Gaussian noise."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import Bunch, check_random_state

from .._sklearn import StrOptions
from ._parameters import COUNT, COUNT_OR_NONE, SPREAD, checked_parameters
from ._shapes import DECREASING, INCREASING, SHAPE_NAMES, TRANSIENT, numbered_names, spread_evenly

#: open interval of the times that each window keeps
_WINDOWS = {"all": (-np.inf, np.inf), "low": (-np.inf, 1.0), "high": (-1.0, np.inf)}

_DESCR = """\
Simulated progression
---------------------
Each feature is a smooth curve of a hidden time, drawn uniformly between -3 and 3, plus Gaussian noise. Transient
features are translated and scaled Gaussian bumps; increasing and decreasing features are translated and scaled softplus
functions. Section 5.1 of Danks, D. and Yau, C. (2021), "BasisDeVAE: Interpretable Simultaneous Dimensionality Reduction
and Feature-Level Clustering with Derivative-Based Variational Autoencoders", ICML.
"""


@checked_parameters(
    n_samples=[COUNT],
    n_transient=[COUNT_OR_NONE],
    n_increasing=[COUNT_OR_NONE],
    n_decreasing=[COUNT_OR_NONE],
    noise=[SPREAD],
    window=[StrOptions(set(_WINDOWS))],
    as_frame=["boolean"],
    random_state=["random_state"],
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
        ``t > -1``. Both are rows of the data that "all" gives for the same `random_state`, so the rows with
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
    make_basis_toy : Groups of features that share a curve up to scale.
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

    # The window is cut only after everything is drawn, so that all windows share their rows.
    earliest, latest = _WINDOWS[window]
    inside = (times > earliest) & (times < latest)
    if not inside.any():
        raise ValueError(
            f"None of the {n_samples} samples that make_progression drew lies in window={window!r}: raise n_samples."
        )
    data, curves, times = data[inside], curves[inside], times[inside]

    feature_names = [
        *numbered_names("transient", n_transient),
        *numbered_names("increasing", n_increasing),
        *numbered_names("decreasing", n_decreasing),
    ]
    if as_frame:
        data = pd.DataFrame(data, columns=feature_names)
    return Bunch(
        data=data,
        labels=np.repeat([TRANSIENT, INCREASING, DECREASING], [n_transient, n_increasing, n_decreasing]),
        label_names=SHAPE_NAMES,
        times=times,
        feature_names=feature_names,
        curves=curves,
        DESCR=_DESCR,
    )


def _transient_curves(times: NDArray[np.float64], n_curves: int, random: np.random.RandomState) -> NDArray[np.float64]:
    """Gaussian bumps of unit width: (n, n_curves)."""
    peaks = spread_evenly(-1.5, 1.5, n_curves, random)
    heights = spread_evenly(0.4, 1.6, n_curves, random)
    curves: NDArray[np.float64] = heights * np.exp(-0.5 * (times[:, None] - peaks) ** 2)
    return curves


def _increasing_curves(times: NDArray[np.float64], n_curves: int, random: np.random.RandomState) -> NDArray[np.float64]:
    """Softplus functions, translated and scaled: (n, n_curves)."""
    shifts = spread_evenly(-1.5, 1.5, n_curves, random)
    scales = spread_evenly(0.4, 1.6, n_curves, random)
    curves: NDArray[np.float64] = scales * 0.4 * np.logaddexp(0, times[:, None] + shifts)
    return curves
