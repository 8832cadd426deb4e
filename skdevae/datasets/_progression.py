"""Progression: features that rise, fall, or come and go along a hidden time, with Gaussian noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import Bunch, check_random_state

from .._sklearn import StrOptions
from ._curve_shapes import draw_curves, shapes_in_turn, shown_behaviors
from ._parameters import COUNT, COUNT_OR_NONE, SPREAD, checked_parameters
from ._shapes import (
    BEHAVIOR_NAMES,
    DECREASING,
    DIP,
    FLAT,
    INCREASING,
    SHAPE_NAMES,
    TRANSIENT,
    numbered_names,
    spread_evenly,
)

#: open interval of the times that each window keeps
_WINDOWS = {"all": (-np.inf, np.inf), "low": (-np.inf, 1.0), "high": (-1.0, np.inf)}

#: names of the paper's curves, by the kind of the feature
_PAPER_SHAPES = {TRANSIENT: "bump", INCREASING: "softplus", DECREASING: "softplus", DIP: "bump", FLAT: "flat"}

_DESCR = """\
Simulated progression
---------------------
Each feature is a smooth curve of a hidden time, drawn uniformly between -3 and 3, plus Gaussian noise. Transient
features are translated and scaled Gaussian bumps; increasing and decreasing features are translated and scaled softplus
functions. Section 5.1 of Danks, D. and Yau, C. (2021), "BasisDeVAE: Interpretable Simultaneous Dimensionality Reduction
and Feature-Level Clustering with Derivative-Based Variational Autoencoders", ICML.

Two kinds of feature are not in the paper: dips, which are bumps upside down, and flat features, which are noise alone.
With the parameter `shapes`, rises and bumps of other forms take the place of the paper's, each of range 1.
"""


@checked_parameters(
    n_samples=[COUNT],
    n_transient=[COUNT_OR_NONE],
    n_increasing=[COUNT_OR_NONE],
    n_decreasing=[COUNT_OR_NONE],
    n_dip=[COUNT_OR_NONE],
    n_flat=[COUNT_OR_NONE],
    shapes=[Sequence, None],
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
    n_dip: int = 0,
    n_flat: int = 0,
    shapes: Literal["mixed"] | Sequence[str] | None = None,
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

    More is there on request: dips, which are transient curves with a minus sign, features that do not change at all,
    and curves of many other `shapes`.

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

    n_dip : int, default=0
        Number of features with a single trough.

    n_flat : int, default=0
        Number of features that are noise around zero.

    shapes : {"mixed"}, sequence of str or None, default=None
        Shapes of the curves. None stands for the curves of the paper, "mixed" for all shapes in the table of the notes.
        The features of each kind take turns through the shapes that are named: increasing and decreasing ones through
        the rises, transient ones and dips through the bumps. Each of these curves has a range of exactly 1 over all
        times that were drawn, and parameters that are drawn for it alone.

    noise : float, default=0.1
        Standard deviation of the Gaussian noise, in the units of the features. The same `random_state` with another
        `noise` gives the same noise, rescaled. If `shapes` is given, a feature that is not flat has the range 1 and the
        noise is one over its ratio of signal to noise.

    window : {"all", "low", "high"}, default="all"
        Which part of the progression was observed: "low" keeps the samples with ``t < 1`` and "high" those with
        ``t > -1``. Both are rows of the data that "all" gives for the same `random_state`, so the rows with
        ``-1 < t < 1`` are in all three.

    as_frame : bool, default=False
        Whether `data` is a :class:`pandas.DataFrame` with the names of the features.

    random_state : int, RandomState instance or None, default=None
        Seed of the times, the parameters of the features' curves and the noise. Pass an int for the same data from
        every call.

    Returns
    -------
    progression : :class:`~sklearn.utils.Bunch`
        A dictionary-like object with attributes:

        data : ndarray or DataFrame of shape (n_samples, n_features)
            The noisy features; transient ones first, then increasing, decreasing, dips and flat ones.
        labels : ndarray of shape (n_features,)
            The behaviour that each feature was drawn with, as an index into `label_names`.
        observed_labels : ndarray of shape (n_features,)
            The behaviour that the curve of each feature shows over `times`, as an index into `label_names`. See the
            notes.
        label_names : tuple of str
            ``("increasing", "decreasing", "transient")``, and ``("increasing", "decreasing", "transient", "dip",
            "flat")`` if `n_dip`, `n_flat` or `shapes` is given. All five are there too where the samples in `window`
            are too few, or too close together, for the curves to change.
        shape_names : list of str
            The shape of each feature: a name from `shapes`, or "softplus" and "bump" for the curves of the paper. Flat
            features have the shape "flat".
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
        If a parameter is out of its range, if there are no features at all, if `shapes` has unknown names or none for
        a kind of feature that was asked for, if there are too few samples for the shapes to be seen, or if no sample
        falls into `window`.

    See Also
    --------
    make_basis_toy : Groups of features that share a curve up to scale.
    make_progression_counts : The same idea at single-cell scale, as sparse counts.

    Notes
    -----
    **Shapes.** With the time rescaled to `u` between 0 and 1, the shapes other than the paper's are:

    ============= ==========================================================================
    rises
    "linear"      ``u``
    "softplus"    ``log(1 + exp(k * (u - c)))``, `k` in [4, 15], `c` in [0.2, 0.8]
    "sigmoid"     ``1 / (1 + exp(-k * (u - c)))``, `k` in [5, 40], `c` in [0.1, 0.9]
    "saturating"  ``1 - exp(-k * u)``, `k` in [2, 8]
    "logarithmic" ``log(1 + k * u)``, `log(k)` in [1.6, 3.9]
    "step"        a sigmoid with `k` = 300, `c` in [0.15, 0.85]
    "two_step"    two sigmoids with `k` in [20, 50], one early and one late, as a weighted mean
    bumps
    "narrow"      Gaussian, standard deviation in [0.05, 0.1], peak in [0.2, 0.8]
    "wide"        Gaussian, standard deviation in [0.12, 0.25], peak in [0.3, 0.7]
    "skewed"      Gaussian, standard deviation in [0.05, 0.12] on one side and in [0.2, 0.35] on the other
    "flat_topped" product of a rising and a falling sigmoid that are 0.2 to 0.5 apart
    "near_end"    Gaussian near the first or the last time: only 20 to 50 % of the height lies between the peak and the
                  2 % of times that are nearest to that end
    ============= ==========================================================================

    Parameters are uniform on these intervals. A rise ``f(u)`` is turned by 180 degrees with a probability of one half:
    ``-f(1 - u)`` rises too, and bends the other way. A curve is drawn anew until it shows its own behaviour, by the
    rule below, at the times that were drawn.

    **What is observed.** A window may hold no more than one side of a bump, and nobody could tell such a feature from
    one that rises or falls everywhere. What can be found there is `observed_labels` and not `labels`. They are read
    off `curves` at `times`. A curve shows a behaviour if it breaks that behaviour's rule by less than 2 % of its range
    in the window:

    - "increasing" is broken by its greatest fall from any time to any later one, "decreasing" by its greatest rise;
    - "transient" is broken by the greatest fall before its turn or the greatest rise after it, whichever is larger. Its
      turn is where this is smallest. For "dip", falls and rises change places;
    - a curve without any range (less than 1e-9) is "flat".

    If a curve shows several behaviours, increasing or decreasing goes before transient and dip, and then the one that
    is broken less is taken. If it shows none, as a window may have it, the one that is broken least is taken.

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

    A late bump whose peak is outside of the window is seen to rise only:

    >>> late = low.curves[:, :30].argmax(axis=0) == low.times.argmax()
    >>> {low.label_names[label] for label in low.labels[:30][late]}
    {'transient'}
    >>> {low.label_names[label] for label in low.observed_labels[:30][late]}
    {'increasing'}

    Curves of many shapes, with dips and features that do not change:

    >>> mixed = make_progression(shapes="mixed", n_dip=10, n_flat=5, random_state=0)
    >>> mixed.shape_names[:5]
    ['narrow', 'wide', 'skewed', 'flat_topped', 'near_end']
    >>> mixed.feature_names[50], mixed.label_names[mixed.labels[50]], mixed.shape_names[50]
    ('dip_00', 'dip', 'narrow')
    >>> float(mixed.curves[:, 50].max() - mixed.curves[:, 50].min())
    1.0
    """
    counts = {TRANSIENT: n_transient, INCREASING: n_increasing, DECREASING: n_decreasing, DIP: n_dip, FLAT: n_flat}
    labels = np.repeat(list(counts), list(counts.values()))
    if len(labels) == 0:
        raise ValueError(
            "make_progression was asked for no features: at least one of n_transient, n_increasing, n_decreasing, "
            "n_dip and n_flat must be positive."
        )
    shape_names = [_PAPER_SHAPES[label] for label in labels] if shapes is None else shapes_in_turn(shapes, labels)
    random = check_random_state(random_state)
    times = random.uniform(-3, 3, size=n_samples)
    curves = _paper_curves(times, counts, random) if shapes is None else draw_curves(times, labels, shape_names, random)
    data: Any = curves + noise * random.standard_normal(curves.shape)

    # The window is cut only after everything is drawn, so that all windows share their rows.
    earliest, latest = _WINDOWS[window]
    inside = (times > earliest) & (times < latest)
    if not inside.any():
        raise ValueError(
            f"None of the {n_samples} samples that make_progression drew lies in window={window!r}: raise n_samples."
        )
    data, curves, times = data[inside], curves[inside], times[inside]

    observed_labels = shown_behaviors(curves[np.argsort(times)])
    # Over one sample, or over two at almost the same time, the paper's curves are flat, which is not one of the three.
    only_three = shapes is None and max(labels.max(), observed_labels.max()) < len(SHAPE_NAMES)

    feature_names = [name for label, n in counts.items() for name in numbered_names(BEHAVIOR_NAMES[label], n)]
    if as_frame:
        data = pd.DataFrame(data, columns=feature_names)
    return Bunch(
        data=data,
        labels=labels,
        observed_labels=observed_labels,
        label_names=SHAPE_NAMES if only_three else BEHAVIOR_NAMES,
        shape_names=shape_names,
        times=times,
        feature_names=feature_names,
        curves=curves,
        DESCR=_DESCR,
    )


def _paper_curves(
    times: NDArray[np.float64], counts: dict[int, int], random: np.random.RandomState
) -> NDArray[np.float64]:
    """Curves of the paper, kind by kind, with dips and flat ones after them: (n, n_features)."""
    return np.hstack(
        [
            _transient_curves(times, counts[TRANSIENT], random),
            _increasing_curves(times, counts[INCREASING], random),
            -_increasing_curves(times, counts[DECREASING], random),
            # What is not in the paper is drawn last, so that without it the data are those of the paper's curves alone.
            -_transient_curves(times, counts[DIP], random),
            np.zeros((len(times), counts[FLAT])),
        ]
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
