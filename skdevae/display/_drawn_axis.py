"""Drawn axis: the positions along which a figure shows samples and curves, and what the axis is called."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from scipy.stats import spearmanr
from sklearn.utils import check_array

from ..inspection._events import as_quantiles, evaluation_grid
from ..inspection._input import Reached
from ..inspection._positions import positions_of, query_of

Floats = NDArray[np.float64]

#: positions through which a curve is drawn by default
_CURVE_POINTS = 200


@dataclass(frozen=True)
class DrawnAxis:
    """The axis of a fitted model as a figure shows it: a given axis in its own units, any other as the latent.

    Attributes
    ----------
    reached : Reached
        The model, and the table whose rows are drawn.
    facts : dict
        Size factors and covariates of the rows.
    latents : ndarray of shape (N,)
        Where the rows lie on the latent.
    given : AxisMap or None
        The map between a given axis and the latent.
    label : str
        What the axis is called.
    """

    reached: Reached
    facts: dict[str, Any]
    latents: Floats
    given: Any
    label: str
    positions: Floats = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "positions", self.latents if self.given is None else self.given.to_axis(self.latents))

    @classmethod
    def of(
        cls, reached: Reached, axis: ArrayLike | None, axis_sd: ArrayLike | None, facts: dict[str, Any]
    ) -> DrawnAxis:
        """The axis of a model that a table has reached, whose rows may have known positions."""
        model = reached.model
        latents = positions_of(model, query_of(reached, np.ones(reached.table.shape[0]), axis, axis_sd, **facts))
        if not getattr(model, "axis_is_given_", False):
            return cls(reached, facts, latents, None, _label(reached, latents))
        name = getattr(axis, "name", None)  # of a Series
        return cls(reached, facts, latents, model.axis_map_, str(name or "position on the given axis"))

    def points(self, z: ArrayLike | None) -> Floats:
        """Positions (P,) through which curves are drawn, ascending: those asked for, or where the samples are."""
        if z is not None:
            points = np.sort(check_array(z, ensure_2d=False, dtype=np.float64, input_name="z").ravel())
            if points[0] == points[-1]:
                raise ValueError(
                    "z has a single position: give at least two different positions to draw a curve through."
                )
            return points
        points = evaluation_grid(self.positions, n=_CURVE_POINTS)
        if points[-1] - points[0] < 1e-6:  # a single sample has no range
            return np.linspace(points[0] - 1, points[0] + 1, _CURVE_POINTS)
        return points

    def on_latent(self, points: Floats) -> Floats:
        """Where positions (P,) lie on the latent of the model."""
        return points if self.given is None else self.given.to_latent(points)

    def on_latent_of(self, replicate: Any, points: Floats) -> Floats:
        """Where positions (P,) lie on the latent of a replicate of the model.

        A given axis is the same for all replicates. Another axis has a scale of its own in each, so equal positions are
        not the same place on it. Where the same share of the samples comes before is.
        """
        if self.given is not None:
            return np.asarray(replicate.axis_map_.to_latent(points), dtype=np.float64)
        latents = np.asarray(replicate.transform(self.reached.table, **self.facts), dtype=np.float64)[:, 0]
        distinct = np.unique(latents)
        return np.interp(as_quantiles(points, self.positions), as_quantiles(distinct, latents), distinct)


def _label(reached: Reached, latents: Floats) -> str:
    """What an axis is called that was found: after the feature that says which end is up, if there is one."""
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
