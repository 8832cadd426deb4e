"""Positions: where the rows of a table lie on the axis of a fitted model, by their entries and by what is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._base.answers import Query
from .._base.estimator import LatentEstimator
from ..inference.explained import positions_on_grid
from ..table.given_axis import GivenAxis
from ..table.row_labels import check_row_labels
from ..table.weighted_rows import checked_weights
from ._events import Floats
from ._input import Reached


def query_of(
    reached: Reached,
    sample_weight: ArrayLike | None,
    axis: ArrayLike | None,
    axis_sd: ArrayLike | None,
    **facts: Any,
) -> Query:
    """What answers questions about a table, of rows with weights (N,) and positions that are known beforehand."""
    check_row_labels(reached.table, sample_weight=sample_weight, axis=axis, axis_sd=axis_sd)
    weights = checked_weights(sample_weight, reached.table)
    query = reached.model._for_inference(reached.table, **facts)
    mean, sd = _given_axis(reached.model, axis, axis_sd, weights)
    table = replace(query.table, context=query.table.context.replaced(weight=weights, axis=mean, axis_sd=sd))
    return query._replace(table=table, source=table.source(query.source.like))


def positions_of(model: LatentEstimator, query: Query) -> Floats:
    """Where rows lie on the axis (N,): by known positions as far as there are any, else as in ``transform``."""
    placement = query.inference.placed(query.source)
    model._beyond_training(query.inference, query.source, placement)
    positions, known = placement.position[:, 0].cpu().numpy(), query.table.context.axis
    if known is None:
        return positions
    by_both = positions_on_grid(query.inference.model, query.source).cpu().numpy()
    return np.where(np.isnan(known), positions, by_both)


def _given_axis(
    model: LatentEstimator, axis: ArrayLike | None, axis_sd: ArrayLike | None, weights: Floats
) -> tuple[Floats | None, Floats | None]:
    """Means and sds (N,) of the samples' latents by known positions, NaN where nothing is known; None without any."""
    given = GivenAxis.checked(axis, axis_sd, weights)
    if given is None:
        return None, None
    if not getattr(model, "axis_is_given_", False):
        raise ValueError(
            f"axis is given, but {type(model).__name__} was fitted without one: leave it out, or fit the model with "
            "fit(X, axis=...)."
        )
    return given.by(model.axis_map_)
