"""Drawn axis: the positions along which a figure shows samples and curves, and what the axis is called."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import PchipInterpolator
from scipy.stats import norm, spearmanr
from sklearn.utils import check_array

from ..inspection._bootstrap import Replicates, check_samples
from ..inspection._events import as_quantiles, evaluation_grid
from ..inspection._input import Reached
from ..inspection._positions import positions_of, query_of

Floats = NDArray[np.float64]

#: positions through which a curve is drawn by default
_CURVE_POINTS = 200
#: Fewest ranks through which the map from a given axis is drawn. Fewer positions, such as stages, are all among them.
_LEAST_RANKS = 20


@dataclass(frozen=True)
class DrawnAxis:
    """The axis of a fitted model as a figure shows it: a given axis in its own units, any other as the latent.

    Attributes
    ----------
    latents : ndarray of shape (N,)
        Where the rows of a table lie on the latent.
    weights : ndarray of shape (N,)
        How often each row counts.
    given : AxisMap or None
        The map between a given axis and the latent.
    label : str
        What the axis is called.
    """

    latents: Floats
    weights: Floats
    given: Any
    label: str
    positions: Floats = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "positions", self.latents if self.given is None else self.given.to_axis(self.latents))

    @classmethod
    def of(
        cls,
        reached: Reached,
        sample_weight: ArrayLike | None,
        axis: ArrayLike | None,
        axis_sd: ArrayLike | None,
        facts: dict[str, Any],
    ) -> DrawnAxis:
        """The axis of a model that a table has reached, whose rows may have known positions."""
        query = query_of(reached, sample_weight, axis, axis_sd, **facts)
        latents, weights = positions_of(reached.model, query), np.asarray(query.table.context.weight)
        given = reached.model.axis_map_ if getattr(reached.model, "axis_is_given_", False) else None
        return cls(latents, weights, given, axis_label(reached, latents, axis))

    def points(self, z: ArrayLike | None) -> Floats:
        """Positions (P,) through which curves are drawn, ascending: those asked for, or where the samples are."""
        if z is not None:
            points = np.sort(check_array(z, ensure_2d=False, dtype=np.float64, input_name="z").ravel())
            if points[0] == points[-1]:
                raise ValueError(
                    "z has a single position: give at least two different positions to draw a curve through."
                )
            return points
        points = evaluation_grid(self.positions, self.weights, n=_CURVE_POINTS)
        if points[-1] - points[0] < 1e-6:  # a single sample has no range
            return np.linspace(points[0] - 1, points[0] + 1, _CURVE_POINTS)
        return points

    def on_latent(self, points: Floats) -> Floats:
        """Where positions (P,) lie on the latent of the model.

        The map from a given axis is one of ranks, which has a step at every sample. Curves along it would have these
        steps, too. So it is read at some ranks, evenly spaced, and is smooth between them.
        """
        if self.given is None:
            return points
        axis, latent = self.given.axis, self.given.latent
        ranks = norm.cdf(latent)
        n_wanted = max(_LEAST_RANKS, int(2 * len(axis) ** (1 / 3)))
        wanted = np.linspace(ranks[0], ranks[-1], n_wanted)
        knots = np.unique(np.abs(ranks - wanted[:, None]).argmin(1)) if len(axis) > n_wanted else slice(None)
        smooth = PchipInterpolator(axis[knots], latent[knots])(points)
        return np.where((points < axis[0]) | (points > axis[-1]), self.given.to_latent(points), smooth)

    def on_latents_of(self, replicates: Replicates, points: Floats) -> Floats:
        """Where positions (P,) lie on the latents of replicates of the model, (R, P).

        A given axis is the same for all replicates. Another axis has a scale of its own in each, so equal positions are
        not the same place on it. Where the same share of its own samples comes before is.
        """
        check_samples(replicates, len(self.latents))
        if self.given is not None:
            return np.tile(self.on_latent(points), (len(replicates), 1))
        shares = as_quantiles(points, self.positions, self.weights)
        own = zip(replicates.positions, replicates.weights, strict=True)
        return np.stack([_at_shares(shares, latents, weights) for latents, weights in own])

    def spread_rows(self, max_samples: int) -> NDArray[np.integer]:
        """Rows of at most ``max_samples`` samples, evenly spaced in rank along the axis; heavy ones more than once."""
        order: NDArray[np.integer] = np.argsort(self.positions, kind="stable")
        n_wanted = min(max_samples, len(order))
        if self.weights.min() == self.weights.max():
            return order[np.linspace(0, len(order) - 1, n_wanted).round().astype(int)]
        before = np.cumsum(self.weights[order])
        return order[np.searchsorted(before, (np.arange(n_wanted) + 0.5) / n_wanted * before[-1])]


def _at_shares(shares: Floats, positions: Floats, weights: Floats) -> Floats:
    """Positions (P,) before which shares of the samples lie: the inverse of ``as_quantiles`` between samples."""
    distinct = np.unique(positions[weights > 0])
    return np.interp(shares, as_quantiles(distinct, positions, weights), distinct)


def axis_label(reached: Reached, latents: Floats, axis: ArrayLike | None = None) -> str:
    """What an axis is called: by the name of a given one, or after the feature that says which end is up."""
    if getattr(reached.model, "axis_is_given_", False):
        return str(getattr(axis, "name", None) or "position on the given axis")  # a Series has a name
    feature, names = getattr(reached.model, "orientation", None), reached.names
    if isinstance(feature, str) and feature in names:
        column = names.index(feature)
    elif isinstance(feature, int | np.integer) and -len(names) <= feature < len(names):
        column = int(feature)
    else:
        return "position on the latent axis"
    values = _column(reached.table, int(reached.model.modelled_columns_[column]))
    known = ~np.isnan(values)
    if len(np.unique(values[known])) < 2 or len(np.unique(latents[known])) < 2:
        return "position on the latent axis"
    # A constraint on the features may have turned the axis against the wish.
    rises = spearmanr(values[known], latents[known]).statistic >= 0
    return f"{'low → high' if rises else 'high → low'} {names[column]}"


def _column(table: Any, column: int) -> Floats:
    """A column of any kind of table, (N,), as numbers."""
    if hasattr(table, "iloc"):
        values = table.iloc[:, column]
    else:
        values = table[:, [column]].toarray() if sp.issparse(table) else np.asarray(table)[:, column]
    return np.asarray(values, dtype=np.float64).ravel()
