"""Courses: how the curves of features run from one end of the samples to the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from .._base.replicates import Replicates
from . import _events
from ._bootstrap import check_samples
from ._events import Floats
from ._input import Reached

#: what a curve does, by whether it turns and whether it rises (to its turn, or to its end)
_DIRECTIONS = {(False, True): "up", (False, False): "down", (True, True): "up then down", (True, False): "down then up"}


@dataclass(frozen=True)
class Courses:
    """The curves of D features, at points between the first and the last of the samples.

    Attributes
    ----------
    at : ndarray of shape (P,)
        Points of the axis.
    curves : ndarray of shape (P, D)
        In the user's units. NaN for columns that models do not see.
    positions : ndarray of shape (N,)
        Of the samples on the axis.
    weights : ndarray of shape (N,) or None
        How many samples each one stands for.
    """

    at: Floats
    curves: Floats
    positions: Floats
    weights: Floats | None

    @classmethod
    def of(cls, reached: Reached, positions: Floats, weights: Floats | None) -> Self:
        """The curves of a model that samples with these positions and weights (N,) were placed by."""
        at = _events.evaluation_grid(positions, weights)
        # A copy: what is in a data frame cannot be written to.
        curves = reached.in_user_units(np.array(reached.model.trajectories(at)))
        curves[:, reached.model._reader_.columns.left_out] = np.nan
        return cls(at, curves, positions, weights)

    @classmethod
    def of_replicates(cls, reached: Reached, replicates: Replicates) -> Iterator[Self]:
        """The curves of each replicate of a model, where it places the samples, with its own weights of these."""
        check_samples(replicates, reached.table.shape[0])
        samples = list(zip(replicates.positions, replicates.weights, strict=True))
        points = np.stack([_events.evaluation_grid(positions, weights) for positions, weights in samples])
        left_out = reached.model._reader_.columns.left_out
        for at, values, own in zip(points, replicates.trajectories(points), samples, strict=True):
            curves = reached.in_user_units(values)
            curves[:, left_out] = np.nan
            yield cls(at, curves, *own)

    def events(self, event: str | float) -> Floats:
        """Where on the axis an event of each feature happens: (D,)."""
        return _events.event_positions(self.curves, self.at, event)

    def quantiles(self, event: str | float) -> Floats:
        """Share of the samples that come before an event of each feature: (D,)."""
        return _events.as_quantiles(self.events(event), self.positions, self.weights)

    @property
    def extremes(self) -> np.ndarray:
        """Numbers of the points at which the features are farthest from their start: (D,)."""
        return _events.extremes(self.curves)

    @property
    def change(self) -> Floats:
        """Signed change of each feature from its start to its extreme: (D,)."""
        return self.curves[self.extremes, np.arange(self.curves.shape[1])] - self.curves[0]

    @property
    def directions(self) -> np.ndarray:
        """What each feature does, in words; NaN for columns that models do not see: (D,)."""
        turns, turn = _events.turning_points(self.curves)
        last = np.where(turns, turn, len(self.at) - 1)
        rises = self.curves[last, np.arange(len(last))] > self.curves[0]
        words = np.array([_DIRECTIONS[pair] for pair in zip(turns.tolist(), rises.tolist(), strict=True)], dtype=object)
        words[~_events.changes(self.curves)] = "none"
        words[np.isnan(self.curves[0])] = np.nan
        return words
