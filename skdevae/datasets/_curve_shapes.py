"""Curve shapes: rises and bumps of many forms along a hidden time, and which behaviour a curve shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from ._shapes import BEHAVIOR_NAMES, DECREASING, DIP, FLAT, INCREASING, TRANSIENT

Array: TypeAlias = NDArray[np.float64]
Random: TypeAlias = np.random.RandomState
#: values of a curve with parameters drawn at random, at positions between 0 and 1
Shape: TypeAlias = Callable[[Array, Random], Array]

#: share of its range by which a curve may break the rule of a behaviour that it shows
_MARGIN = 0.02
#: a curve whose range is smaller does not change: what is left are rounding errors
_NO_RANGE = 1e-9
#: how often a curve is drawn anew before the times are held to be too few for it
_MAX_TRIES = 100


# ---- the behaviour that a curve shows --------------------------------------------------------------------------------


def shown_behaviors(curves: Array) -> NDArray[np.intp]:
    """The behaviour that each column shows, its rows in the order of time, as an index into `BEHAVIOR_NAMES`.

    A curve shows a behaviour if it breaks the behaviour's rule by less than 2 % of its range. Increasing or decreasing
    goes before transient and dip, then the smaller break decides. It also decides where a curve shows none.
    """
    ranges = np.ptp(curves, axis=0)
    breaks = _breaks(curves)
    monotone = breaks[[INCREASING, DECREASING]]
    shows_monotone = (monotone < _MARGIN * ranges).any(axis=0)
    labels = np.where(shows_monotone, monotone.argmin(axis=0), breaks.argmin(axis=0))
    return np.where(ranges < _NO_RANGE, FLAT, labels)


def _breaks(curves: Array) -> Array:
    """By how much curves break the rules of increasing, decreasing, transient and dip, in this order: (4, n_curves)."""
    falls_before, rises_before = _greatest_falls(curves), _greatest_falls(-curves)
    # What falls in one direction of time rises in the other.
    rises_after, falls_after = _greatest_falls(curves[::-1])[::-1], _greatest_falls(-curves[::-1])[::-1]
    transient = np.maximum(falls_before, rises_after).min(axis=0)
    dip = np.maximum(rises_before, falls_after).min(axis=0)
    return np.stack([falls_before[-1], rises_before[-1], transient, dip])


def _greatest_falls(curves: Array) -> Array:
    """The greatest fall from any row to a later one, among the rows up to each."""
    return np.maximum.accumulate(np.maximum.accumulate(curves) - curves)


# ---- rises -----------------------------------------------------------------------------------------------------------


def _linear(u: Array, random: Random) -> Array:
    return u


def _softplus(u: Array, random: Random) -> Array:
    steepness, bend = random.uniform(4, 15), random.uniform(0.2, 0.8)
    return np.logaddexp(0, steepness * (u - bend))


def _sigmoid(u: Array, random: Random) -> Array:
    steepness, centre = random.uniform(5, 40), random.uniform(0.1, 0.9)
    return expit(steepness * (u - centre))


def _saturating(u: Array, random: Random) -> Array:
    return -np.expm1(-random.uniform(2, 8) * u)


def _logarithmic(u: Array, random: Random) -> Array:
    return np.log1p(np.exp(random.uniform(1.6, 3.9)) * u)


def _step(u: Array, random: Random) -> Array:
    return expit(300 * (u - random.uniform(0.15, 0.85)))


def _two_step(u: Array, random: Random) -> Array:
    steepness = random.uniform(20, 50, size=2)
    early, late = random.uniform(0.15, 0.4), random.uniform(0.6, 0.85)
    weight = random.uniform(0.3, 0.7)
    return weight * expit(steepness[0] * (u - early)) + (1 - weight) * expit(steepness[1] * (u - late))


# ---- bumps -----------------------------------------------------------------------------------------------------------


def _narrow(u: Array, random: Random) -> Array:
    return _gaussian(u, random.uniform(0.2, 0.8), random.uniform(0.05, 0.1))


def _wide(u: Array, random: Random) -> Array:
    return _gaussian(u, random.uniform(0.3, 0.7), random.uniform(0.12, 0.25))


def _skewed(u: Array, random: Random) -> Array:
    peak = random.uniform(0.35, 0.65)
    before, after = random.permutation([random.uniform(0.05, 0.12), random.uniform(0.2, 0.35)])
    return _gaussian(u, peak, np.where(u < peak, before, after))


def _flat_topped(u: Array, random: Random) -> Array:
    steepness = random.uniform(20, 60, size=2)
    centre, width = random.uniform(0.4, 0.6), random.uniform(0.2, 0.5)
    rise = expit(steepness[0] * (u - (centre - width / 2)))
    fall = expit(-steepness[1] * (u - (centre + width / 2)))
    return rise * fall


def _near_end(u: Array, random: Random) -> Array:
    sd, lost = random.uniform(0.12, 0.3), random.uniform(0.2, 0.5)
    # Where a Gaussian bump has lost this share of its height. Quantiles of the times and not their extremes: the loss
    # has to be visible in more samples than one.
    distance = sd * np.sqrt(-2 * np.log1p(-lost))
    is_late = random.uniform() < 0.5
    peak = np.quantile(u, 0.98) - distance if is_late else np.quantile(u, 0.02) + distance
    return _gaussian(u, peak, sd)


def _gaussian(u: Array, peak: float, sd: float | Array) -> Array:
    return np.exp(-0.5 * ((u - peak) / sd) ** 2)


RISES: dict[str, Shape] = {
    "linear": _linear,
    "softplus": _softplus,
    "sigmoid": _sigmoid,
    "saturating": _saturating,
    "logarithmic": _logarithmic,
    "step": _step,
    "two_step": _two_step,
}
BUMPS: dict[str, Shape] = {
    "narrow": _narrow,
    "wide": _wide,
    "skewed": _skewed,
    "flat_topped": _flat_topped,
    "near_end": _near_end,
}
SHAPES = RISES | BUMPS

#: what the curves of each kind are made of, and with which sign
_MADE_OF = {TRANSIENT: (BUMPS, 1), INCREASING: (RISES, 1), DECREASING: (RISES, -1), DIP: (BUMPS, -1)}


# ---- curves of given shapes ------------------------------------------------------------------------------------------


def shapes_in_turn(shapes: str | Sequence[str], labels: NDArray[np.integer]) -> list[str]:
    """The shape of each feature: features with the same label take turns through the shapes that suit it."""
    named = _known_shapes(shapes)
    found = np.full(len(labels), "flat", dtype=object)
    for label, (suitable, _) in _MADE_OF.items():
        members = np.flatnonzero(labels == label)
        in_turn = [name for name in named if name in suitable]
        if len(members) and not in_turn:
            count = f"n_{BEHAVIOR_NAMES[label]}"
            raise ValueError(
                f"The 'shapes' parameter of make_progression has no shape for {count}={len(members)}: name at least "
                f"one of {_listed(suitable)}, or set {count}=0."
            )
        for turn, member in enumerate(members):
            found[member] = in_turn[turn % len(in_turn)]
    return list(found)


def _known_shapes(shapes: str | Sequence[str]) -> list[str]:
    """The names that `shapes` stands for; an error if there are others among them."""
    if isinstance(shapes, str):
        if shapes == "mixed":
            return list(SHAPES)
        raise ValueError(
            f"The 'shapes' parameter of make_progression is the string {shapes!r}: give 'mixed', or a sequence of "
            f"names, such as shapes=('linear', 'wide'). Choose from {_listed(SHAPES)}."
        )
    unknown = [name for name in shapes if name not in tuple(SHAPES)]
    if unknown:
        raise ValueError(
            f"The 'shapes' parameter of make_progression has unknown names, {unknown}. Choose from {_listed(SHAPES)}."
        )
    return list(shapes)


def _listed(shapes: dict[str, Shape]) -> str:
    return ", ".join(repr(name) for name in shapes)


def draw_curves(times: Array, labels: NDArray[np.integer], shape_names: Sequence[str], random: Random) -> Array:
    """Curves of the given labels and shapes at times between -3 and 3: (n, n_features)."""
    positions = (times + 3) / 6
    curves = np.zeros((len(times), len(labels)))
    for column, (label, shape) in enumerate(zip(labels, shape_names, strict=True)):
        if label != FLAT:
            curves[:, column] = _draw_curve(positions, label, shape, random)
    return curves


def _draw_curve(positions: Array, label: int, shape: str, random: Random) -> Array:
    """Curve of range 1 that shows the behaviour of its label at these positions: (n,)."""
    suitable, sign = _MADE_OF[label]
    in_order = np.argsort(positions)
    for _ in range(_MAX_TRIES):
        curve = _raw_curve(positions, suitable[shape], shape in RISES, random)
        extent = np.ptp(curve)
        if extent < _NO_RANGE:
            continue
        # From 0 to 1: the range of curves that are only divided would be 1 up to rounding.
        curve = sign * ((curve - curve.min()) / extent)
        if shown_behaviors(curve[in_order, None]).item() == label:
            return curve
    raise ValueError(
        f"None of {_MAX_TRIES} curves of shape {shape!r} is seen to be {BEHAVIOR_NAMES[label]!r} at the "
        f"n_samples={len(positions)} times that make_progression drew: raise n_samples."
    )


def _raw_curve(positions: Array, shape: Shape, may_turn: bool, random: Random) -> Array:
    """Rise or bump as its formula has it; every second rise, on average, is turned by 180 degrees."""
    if may_turn and random.uniform() < 0.5:
        return -shape(1 - positions, random)
    return shape(positions, random)
