"""Events: where along the axis a curve sets in, is half-way through its change, peaks and comes to an end.

The axis is known only up to a monotone map, so a position also has a second form that does not depend on the map: the
share of the samples that come before it.
"""

from __future__ import annotations

from numbers import Real
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats: TypeAlias = NDArray[np.float64]

#: shares of its change that a curve has made where an event happens
SHARES = {"onset": 0.1, "half_change": 0.5, "end": 0.9}
#: names of the events; any share between 0 and 1 is one, too
EVENTS = ("onset", "half_change", "peak", "end")

#: Least and largest share of the samples beyond each end of the part of the axis on which curves are judged, and how
#: many samples these should be. With fewer, it is their noise that decides where the curves end.
_BEYOND, _SAMPLES_BEYOND = (0.01, 0.05), 10
#: range of a curve, relative to its values, that may be rounding alone
_NO_CHANGE = 1e-10
#: distance of two positions, relative to the range of all, that may be rounding alone
_SAME_POSITION = 1e-10
#: Share of its range by which a curve turns at least. As at the onset, a tenth counts as a change.
_LEAST_TURN = SHARES["onset"]


def span(positions: ArrayLike, weights: ArrayLike | None = None) -> tuple[float, float]:
    """The part of the axis where samples are: ten of them lie beyond each end, but 1 % at least and 5 % at most.

    Parameters
    ----------
    positions : array-like of shape (n_samples,)
        Position of each sample on the axis.
    weights : array-like of shape (n_samples,), default=None
        How many samples each one stands for.

    Returns
    -------
    low, high : float
        Ends of that part.
    """
    distinct, before = _distribution(positions, weights)
    share = np.clip(_SAMPLES_BEYOND / len(distinct), *_BEYOND)  # a copy of a sample says nothing new
    low, high = np.interp([share, 1 - share], before, distinct)
    return float(low), float(high)


def evaluation_grid(positions: ArrayLike, weights: ArrayLike | None = None, n: int = 400) -> Floats:
    """Points at which curves are read: ``n`` of them, evenly spaced over the :func:`span` of the samples."""
    return np.linspace(*span(positions, weights), n)


def as_quantiles(at: ArrayLike, positions: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Share of the samples that come before a position.

    Parameters
    ----------
    at : array-like of any shape
        Positions on the axis. NaN stays NaN.
    positions : array-like of shape (n_samples,)
        Position of each sample on the axis.
    weights : array-like of shape (n_samples,), default=None
        How many samples each one stands for.

    Returns
    -------
    shares : ndarray of the shape of ``at``
        Shares between 0 and 1. At a sample's own position half of it counts; between samples shares are interpolated.
    """
    distinct, before = _distribution(positions, weights)
    at = np.asarray(at, dtype=np.float64)
    # Where all samples are at one position, NumPy would place NaN there, too.
    return np.where(np.isnan(at), np.nan, np.interp(at, distinct, before, left=0.0, right=1.0))


def event_positions(curves: ArrayLike, at: ArrayLike, event: str | float) -> Floats:
    """Where on the axis an event of each curve happens.

    A curve changes from its start, at the first point, to its extreme. A curve turns if it leaves the range between its
    start and its end by more than a tenth of its whole range. Its extreme is the value farthest from the start. The
    extreme of other curves is their end.

    Parameters
    ----------
    curves : array-like of shape (n_points, n_features)
        Values of the curves.
    at : array-like of shape (n_points,)
        Points of the axis at which the curves are given, in ascending order.
    event : {"onset", "half_change", "peak", "end"} or float
        A number between 0 and 1 is the first position at which the curve has made this share of its change.
        ``"onset"`` is 0.1, ``"half_change"`` is 0.5. ``"peak"`` is the turn of a curve that turns: the point farthest
        outside the range between its start and its end. ``"end"`` is 0.9; for a curve that falls back from its extreme,
        it is the first position at which 0.9 of that way back is made.

    Returns
    -------
    positions : ndarray of shape (n_features,)
        Positions on the axis, interpolated between points. NaN for a curve that does not change, and the peak of a
        curve that does not turn.
    """
    curves, at = np.asarray(curves, dtype=np.float64), np.asarray(at, dtype=np.float64)
    checked = check_event(event)
    if checked == "peak":
        turns, turn = turning_points(curves)
        return np.where(turns & changes(curves), at[turn], np.nan)
    extreme = extremes(curves)
    share = SHARES[checked] if isinstance(checked, str) else checked
    found = _first_position(curves, at, np.zeros_like(extreme), extreme, share)
    if checked == "end":
        falls_back = extreme < len(at) - 1
        back = _first_position(curves, at, extreme, np.full_like(extreme, len(at) - 1), share)
        found = np.where(falls_back, back, found)
    return np.where(changes(curves), found, np.nan)


def check_event(event: str | float) -> str | float:
    """The event, if it is one."""
    is_share = isinstance(event, Real) and not isinstance(event, bool) and 0 < float(event) < 1
    if not is_share and event not in EVENTS:
        raise ValueError(
            f"event must be one of {', '.join(map(repr, EVENTS))}, or a share of the change between 0 and 1; "
            f"got {event!r}."
        )
    return float(event) if is_share else event


def changes(curves: Floats) -> NDArray[np.bool_]:
    """Whether each curve (n_points, n_features) is more than a constant."""
    with np.errstate(invalid="ignore"):
        found: NDArray[np.bool_] = np.ptp(curves, 0) > _NO_CHANGE * np.abs(curves).max(0)
    return found


def turning_points(curves: Floats) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Whether each curve (n_points, n_features) turns, and where it is farthest outside the range between its ends."""
    ends = curves[[0, -1]]
    outside = np.maximum(curves - ends.max(0), ends.min(0) - curves)
    return outside.max(0) > _LEAST_TURN * np.ptp(curves, 0), outside.argmax(0)


def extremes(curves: Floats) -> NDArray[np.intp]:
    """Point at which each curve (n_points, n_features) is farthest from its start; the last if it does not turn."""
    turns, _ = turning_points(curves)
    return np.where(turns, np.abs(curves - curves[0]).argmax(0), len(curves) - 1)


def _first_position(
    curves: Floats, at: Floats, start: NDArray[np.intp], stop: NDArray[np.intp], share: float
) -> Floats:
    """First position from ``start`` on at which a curve has made a share of its way to its value at ``stop``.

    ``start`` and ``stop`` (n_features,) are numbers of points. NaN where the two values are equal.
    """
    columns = np.arange(curves.shape[1])
    first, way = curves[start, columns], curves[stop, columns] - curves[start, columns]
    with np.errstate(invalid="ignore", divide="ignore"):
        made = (curves - first) / way  # (P, D)
    reached = (made >= share) & (np.arange(len(at))[:, None] > start)
    after = reached.argmax(0)
    before = np.maximum(after - 1, 0)
    low, high = made[before, columns], made[after, columns]
    with np.errstate(invalid="ignore", divide="ignore"):
        found = at[before] + (share - low) / (high - low) * (at[after] - at[before])
    return np.where(reached.any(0), found, np.nan)


def _distribution(positions: ArrayLike, weights: ArrayLike | None) -> tuple[Floats, Floats]:
    """Distinct positions of samples, and the share of the samples before each: half of those at the position count."""
    positions = np.asarray(positions, dtype=np.float64).ravel()
    mass = np.ones_like(positions) if weights is None else np.asarray(weights, dtype=np.float64).ravel()
    sorted_, where = np.unique(positions[mass > 0], return_inverse=True)
    # Copies of a row may differ by rounding: a product of matrices rounds by where a row stands.
    is_new = np.diff(sorted_, prepend=-np.inf) > _SAME_POSITION * np.ptp(sorted_)
    distinct = sorted_[is_new]
    held = np.bincount((is_new.cumsum() - 1)[where], weights=mass[mass > 0])
    return distinct, (held.cumsum() - held / 2) / held.sum()
