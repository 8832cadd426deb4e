"""Bands: how far curves vary over replicates of a fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inspection._events import as_quantiles

Floats = NDArray[np.float64]


def replicate_band(
    curves_of: Callable[[Any, Floats], Floats],
    positions_of: Callable[[Any], Floats],
    replicates: Sequence[Any],
    shares: Floats,
    level: float,
) -> tuple[Floats, Floats]:
    """Pointwise band of curves over replicates, each read where the same shares of the samples lie before.

    The axis of every replicate has a scale of its own, so equal positions are not the same place on it. Where the same
    share of the samples comes before is.

    Parameters
    ----------
    curves_of : callable
        Gives the curves (P, D) of a replicate at positions (P,) on its own axis.
    positions_of : callable
        Gives the positions (N,) of the samples on the axis of a replicate.
    replicates : sequence of estimators
        Fitted.
    shares : ndarray of shape (P,)
        Shares of the samples that come before each point of the curves.
    level : float
        Share of the replicates whose curve lies inside of the band, at each point by itself.

    Returns
    -------
    lower, upper : ndarray of shape (P, D)
        The band.
    """
    drawn = np.stack([curves_of(model, at_shares(shares, positions_of(model))) for model in replicates])  # (R, P, D)
    lower, upper = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return lower, upper


def at_shares(shares: Floats, positions: Floats) -> Floats:
    """Positions (P,) before which shares of the samples lie: the inverse of :func:`as_quantiles` between samples."""
    distinct = np.unique(positions)
    return np.interp(shares, as_quantiles(distinct, positions), distinct)
