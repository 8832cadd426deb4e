"""Basis toy: groups of features that are scaled and shifted copies of a few curves of a hidden time."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import Bunch, check_random_state

from ._parameters import COUNT, SPREAD, checked_parameters
from ._shapes import DECREASING, INCREASING, SHAPE_NAMES, TRANSIENT, numbered_names, spread_evenly

#: shape of each group of features, and by how much it is shifted
_GROUPS = {
    "early": (TRANSIENT, 1.5),
    "middle": (TRANSIENT, 0.0),
    "late": (TRANSIENT, -1.5),
    "up": (INCREASING, 0.0),
    "down": (DECREASING, 0.0),
}

_DESCR = """\
Toy table of BasisVAE
---------------------
Each feature is a scaled and shifted copy of one of three curves of a hidden time, drawn uniformly between -3 and 3: a
Gaussian bump, a softplus function or its mirror image, plus Gaussian noise. The features of a group differ in scale,
and by small shifts if these are asked for. After Section 5.1 of Märtens, K. and Yau, C. (2020), "BasisVAE:
Translation-invariant feature-level clustering with Variational Autoencoders", AISTATS.
"""


@checked_parameters(
    n_samples=[COUNT],
    n_features_per_group=[COUNT],
    groups=[Sequence],
    shift_range=[SPREAD],
    scale_range=[Sequence],
    noise=[SPREAD],
    as_frame=["boolean"],
    random_state=["random_state"],
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
    ``scale * f(z + shift)``. Its group decides the basis function `f` and where it lies:

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
    same up to scale, so a scale-invariant clustering should find the groups (`labels`). A clustering that is also
    translation-invariant should find the shapes (`shape_labels`).

    Parameters
    ----------
    n_samples : int, default=500
        Number of samples.

    n_features_per_group : int, default=10
        Number of features in each group.

    groups : sequence of str, default=("early", "middle", "late", "up", "down")
        Names of the groups, each at most once, in the order of their columns. With the same `random_state`, the columns
        of a group do not depend on which other groups there are.

    shift_range : float, default=0.0
        Within a group, shifts are evenly spaced over ``[-shift_range, shift_range]`` around the group's own shift, in
        random order. If the range is wide, a group is a continuum that no small number of fixed curves describes.

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
            ``("increasing", "decreasing", "transient")``, even if the data do not have all of them.
        scales : ndarray of shape (n_features,)
            The factor of each feature.
        shifts : ndarray of shape (n_features,)
            What is added to `times` before the basis function of each feature is applied. The group's own shift is
            part of it.
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
    make_progression : Features of three shapes, each feature with a shift of its own.

    Notes
    -----
    Times and basis functions are those of the authors' published script. The script spaces scales evenly from 0.4 to
    1.6 and has no group "down".

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
    _check_groups_and_scales(groups, scale_range)
    low, high = scale_range
    random = check_random_state(random_state)
    times = random.uniform(-3, 3, size=n_samples)
    # Each group has its own random numbers, so that it does not depend on the other groups.
    seeds = dict(zip(_GROUPS, random.randint(np.iinfo(np.int32).max, size=len(_GROUPS)), strict=True))

    all_scales, all_shifts, all_curves, all_noise = [], [], [], []
    for name in groups:
        shape, group_shift = _GROUPS[name]
        group_random = np.random.RandomState(seeds[name])
        scales = group_random.uniform(low, high, size=n_features_per_group)
        shifts = group_shift + spread_evenly(-shift_range, shift_range, n_features_per_group, group_random)
        all_scales.append(scales)
        all_shifts.append(shifts)
        all_curves.append(scales * _basis_curve(shape, times[:, None] + shifts))
        all_noise.append(group_random.standard_normal((n_samples, n_features_per_group)))
    curves = np.hstack(all_curves)
    data: Any = curves + noise * np.hstack(all_noise)

    feature_names = [feature for name in groups for feature in numbered_names(name, n_features_per_group)]
    if as_frame:
        data = pd.DataFrame(data, columns=feature_names)
    return Bunch(
        data=data,
        labels=np.repeat(np.arange(len(groups)), n_features_per_group),
        label_names=tuple(groups),
        shape_labels=np.repeat([_GROUPS[name][0] for name in groups], n_features_per_group),
        shape_names=SHAPE_NAMES,
        scales=np.concatenate(all_scales),
        shifts=np.concatenate(all_shifts),
        times=times,
        feature_names=feature_names,
        curves=curves,
        DESCR=_DESCR,
    )


def _basis_curve(shape: int, times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Curve of a shape without scale and shift, at any times."""
    if shape == TRANSIENT:
        return np.exp(-0.5 * times**2)
    return 0.4 * np.logaddexp(0, times if shape == INCREASING else -times)


def _check_groups_and_scales(groups: Sequence[str], scale_range: Sequence[float]) -> None:
    known = f"Choose from {', '.join(repr(name) for name in _GROUPS)}, each at most once"
    if isinstance(groups, str):
        raise ValueError(
            f"The 'groups' parameter of make_basis_toy is the string {groups!r}: give a sequence of names, such as "
            f"groups=('middle',). {known}."
        )
    if len(groups) == 0:
        raise ValueError(f"The 'groups' parameter of make_basis_toy is empty: name at least one group. {known}.")
    unknown = [name for name in groups if name not in tuple(_GROUPS)]
    if unknown:
        raise ValueError(f"The 'groups' parameter of make_basis_toy has unknown names, {unknown}. {known}.")
    repeated = [name for name in _GROUPS if list(groups).count(name) > 1]
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
