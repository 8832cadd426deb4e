"""Shapes of curves: which behaviour's rule a curve keeps, over the range in which there are samples.

A curve is given by its values at B bins along the axis, which come first: (B, ...). It breaks a rule by the greatest
change in the wrong direction: a rise is broken by the greatest fall anywhere, a single peak by the greatest fall before
it or rise after it. A curve shows a behaviour if it breaks the behaviour's rule by less than a share ``margin`` of its
own range. Of several behaviours that it shows it has the simplest, and of two that are as simple, the one it breaks
less.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

#: behaviours that are defined by a rule, the simpler one first; those of the second line are the first ones' negatives
_UPWARDS = ("increasing", "transient")
_DOWNWARDS = ("decreasing", "dip")
#: what the negative of a curve shows that shows one of them
_NEGATIVES = dict(zip(_UPWARDS + _DOWNWARDS, _DOWNWARDS + _UPWARDS, strict=True))


def greatest_fall(curves: Tensor) -> Tensor:
    """The greatest fall from an earlier to a later bin, up to every bin: as ``curves`` (B, ...)."""
    highest, falls = curves[0].clone(), torch.empty_like(curves)
    falls[0] = 0
    for previous, fall, value in zip(falls[:-1], falls[1:], curves[1:], strict=True):
        torch.maximum(highest, value, out=highest)
        torch.sub(highest, value, out=fall)
        torch.maximum(previous, fall, out=fall)
    return falls


def _around_the_best_peak(curves: Tensor, falls: Tensor) -> Tensor:
    """The greatest fall before a peak or rise after it, at the bin where it is least: (...), for curves (B, ...).

    ``falls`` (B, ...) are the greatest falls up to every bin.
    """
    highest, rise, broken = curves[-1].clone(), torch.zeros_like(curves[-1]), falls[-1].clone()
    change = torch.empty_like(rise)
    for value, fall in zip(reversed(curves[:-1].unbind()), reversed(falls[:-1].unbind()), strict=True):
        torch.maximum(highest, value, out=highest)
        torch.sub(highest, value, out=change)
        torch.maximum(rise, change, out=rise)
        torch.minimum(broken, torch.maximum(rise, fall, out=change), out=broken)
    return broken


def broken_rules(curves: Tensor, behaviors: Sequence[str]) -> dict[str, Tensor]:
    """By how much curves (B, ...) break the rule of each of the behaviours that have one: (...) by name."""
    broken: dict[str, Tensor] = {}
    for sign, monotone, peaked in ((1, *_UPWARDS), (-1, *_DOWNWARDS)):
        if monotone not in behaviors and peaked not in behaviors:
            continue
        signed = curves if sign > 0 else -curves
        falls = greatest_fall(signed)
        broken[monotone] = falls[-1]
        if peaked in behaviors:
            broken[peaked] = _around_the_best_peak(signed, falls)
    return {name: by for name, by in broken.items() if name in behaviors}


def shapes_of(curves: Tensor, behaviors: Sequence[str], margin: float) -> Tensor:
    """The behaviour that every curve (B, ...) shows: its position among ``behaviors``, or -1 for none: (...)."""
    return _simplest(broken_rules(curves, behaviors), _tolerance(curves, margin), behaviors)


def shapes_of_both_signs(curves: Tensor, behaviors: Sequence[str], margin: float) -> tuple[Tensor, Tensor]:
    """:func:`shapes_of` the curves, and of their negatives, for less than it would cost to ask for each."""
    broken = broken_rules(curves, [*_NEGATIVES])
    of_negatives = {name: broken[negative] for name, negative in _NEGATIVES.items()}
    tolerance = _tolerance(curves, margin)
    return _simplest(broken, tolerance, behaviors), _simplest(of_negatives, tolerance, behaviors)


def _tolerance(curves: Tensor, margin: float) -> Tensor:
    """By how much curves (B, ...) may break a rule: (...)."""
    return margin * (curves.amax(0) - curves.amin(0))


def _simplest(broken: dict[str, Tensor], tolerance: Tensor, behaviors: Sequence[str]) -> Tensor:
    """The simplest behaviour whose rule a curve breaks by less than its tolerance: see :func:`shapes_of`."""
    shape = torch.full_like(tolerance, -1, dtype=torch.int8)
    for group in zip(_UPWARDS, _DOWNWARDS, strict=True):
        least, shown = tolerance, torch.full_like(shape, -1)
        for name in group:
            if name in broken and name in behaviors:
                better = broken[name] < least
                least = torch.where(better, broken[name], least)
                shown = torch.where(better, behaviors.index(name), shown)
        shape = torch.where(shape < 0, shown, shape)
    return shape
