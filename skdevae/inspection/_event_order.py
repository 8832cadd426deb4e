"""Event order: in which order features change along the axis, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from .._base.answers import Query
from .._base.replicates import Replicates
from .._sklearn import Interval, Options, validate_params
from .._typing import CovariatesLike, RandomState
from ..inference.base import share_a_grid
from ..inference.curve_draws import drawn_curves
from ..metrics._pipelines import given_facts
from ..table.weighted_rows import checked_weights
from ..training.seeds import generator_from, spawn_seeds
from ._bootstrap import replicates_of
from ._courses import Courses
from ._events import Floats, as_quantiles, check_event, event_positions
from ._input import Reached, reach
from ._positions import positions_of, query_of

#: share of the replicates in which an event happens, at the least, for an interval of its position
_LEAST_SHARE = 0.5
#: draws of every curve in a preview
_PREVIEW_DRAWS = 200
#: decimals of places, as shares of the samples, that are compared
_DECIMALS = 9


@dataclass(frozen=True)
class EventOrder:
    """The order in which an event happens to features, with what replicates say of it.

    Parameters
    ----------
    positions : DataFrame
        One row for each feature, by name. ``estimate``, ``lower`` and ``upper`` are the share of the samples that come
        before the event, by the fit, and its interval over replicates. ``rank``, ``rank_lower`` and ``rank_upper`` are
        the same for its place in the order, from 1. NaN where a feature has no such event, or without replicates.
    probability_before : DataFrame
        Probability that the event of the feature in the row comes before that of the feature in the column: the share
        of the replicates in which it does, where both have it. Ties count half. NaN on the diagonal.
    replicates : DataFrame
        The share of the samples before the event in every replicate (rows), for every feature (columns).
    order : list of str
        Names of the features that have the event, the first one first: by the share of the other features that they
        come before, on average over replicates.
    event : str or float
        Which event it is.
    confidence_level : float
        Share of the replicates within the intervals.

    Examples
    --------
    >>> from skdevae import DeVAETransformer
    >>> from skdevae.datasets import make_progression
    >>> from skdevae.inspection import event_order
    >>> X = make_progression(40, n_transient=0, n_increasing=4, n_decreasing=2, as_frame=True, random_state=0).data
    >>> model = DeVAETransformer(n_grid_points=33, max_epochs=60, random_state=0).fit(X)
    >>> found = event_order(model, X, event="half_change", n_bootstrap=5, random_state=0)
    >>> len(found.order)  # features that have the event, the first one first
    6
    >>> list(found.positions)
    ['estimate', 'lower', 'upper', 'rank', 'rank_lower', 'rank_upper']
    >>> found.probability_before.shape
    (6, 6)
    """

    positions: pd.DataFrame
    probability_before: pd.DataFrame
    replicates: pd.DataFrame
    order: list[str]
    event: str | float
    confidence_level: float

    def __repr__(self) -> str:
        first = ", ".join(self.order[:3]) + (", ..." if len(self.order) > 3 else "")
        return (
            f"<EventOrder of {self.event} in {len(self.order)} of {len(self.positions)} features over "
            f"{len(self.replicates)} replicates: {first}>"
        )


@validate_params(
    {
        "n_bootstrap": [Options(Integral, {0}), Interval(Integral, 2, None, closed="left")],
        "replicates": [None, Replicates],
        "confidence_level": [Interval(Real, 0, 1, closed="neither")],
        "random_state": ["random_state"],
        "n_jobs": [None, Integral],
    },
    prefer_skip_nested_validation=True,
)
def event_order(
    estimator: Any,
    X: Any,
    *,
    event: Literal["onset", "half_change", "peak", "end"] | float = "half_change",
    n_bootstrap: int = 200,
    replicates: Replicates | None = None,
    groups: ArrayLike | None = None,
    confidence_level: float = 0.95,
    random_state: RandomState = None,
    n_jobs: int | None = None,
    axis: ArrayLike | None = None,
    axis_sd: ArrayLike | None = None,
    size_factors: ArrayLike | None = None,
    covariates: CovariatesLike = None,
    sample_weight: ArrayLike | None = None,
) -> EventOrder:
    """Find the order in which features change along the axis, with intervals.

    Which end of the axis comes first is not in the data: fit with ``orientation``, or the order may be reversed.

    The axis is known only up to a monotone map, so positions are shares of the samples that come before an event. Those
    of a replicate are shares of its own samples, by its own curves. So intervals account for what is not known of the
    curves, of the samples' positions, and of the population.

    Parameters
    ----------
    estimator : estimator
        A fitted trajectory estimator with one component, a Pipeline that ends in one, or a search over one.
    X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
        The table that it was fitted to, in the user's units.
    event : {"onset", "half_change", "peak", "end"} or float, default="half_change"
        The event, as in :func:`feature_table`: where a feature has made 10 %, 50 % or 90 % of its change (to its turn,
        if it turns), or where it turns. A number between 0 and 1 is another share of the change.
    n_bootstrap : int, default=200
        Number of replicates. 0 gives a preview that costs next to nothing: in place of replicates there are draws from
        the posterior of the curves, with the samples where the fit has placed them. Its intervals leave out what is not
        known of the samples' positions and of the population, and so are too short.
    replicates : Replicates, default=None
        Replicates that :func:`bootstrap` has made of this estimator and X. None makes them.
    groups : array-like of shape (n_samples,), default=None
        The subject, or another unit, that each sample belongs to. All samples of a group are resampled together. None
        resamples samples one by one.
    confidence_level : float, default=0.95
        Share of the replicates within the intervals.
    random_state : int, RandomState instance or None, default=None
        Source of the weights of replicates.
    n_jobs : int or None, default=None
        Processes that replicates are shared among where they are fitted one by one: see :func:`bootstrap`.
    axis : array-like of shape (n_samples,), default=None
        Known positions of the samples, as for ``fit``, for a model that was fitted with an axis.
    axis_sd : float or array-like of shape (n_samples,), default=None
        Standard deviation of the error of ``axis``, in its units. None means that it is exact.
    size_factors : array-like of shape (n_samples,), default=None
        Sizes of the samples, for a model that was fitted with sizes.
    covariates : array-like, Series or DataFrame of shape (n_samples,) or (n_samples, n_covariates), default=None
        Covariates of the samples, for a model that was fitted with covariates.
    sample_weight : array-like of shape (n_samples,), default=None
        How often each sample counts; None means once.

    Returns
    -------
    order : EventOrder
        With ``positions``, ``probability_before``, ``replicates`` and ``order``.

    Raises
    ------
    ValueError
        If there is no such event, if the latent is not one axis, or if replicates were made from another table.

    See Also
    --------
    bootstrap : Makes replicates that serve several tables.
    feature_table : One row a feature, with all events.
    skdevae.display.EventOrderDisplay : Draws the order.

    Examples
    --------
    >>> import numpy as np
    >>> from skdevae import DeVAETransformer
    >>> from skdevae.inspection import event_order
    >>> rng = np.random.default_rng(0)
    >>> stage = rng.uniform(0, 1, 100)
    >>> curves = 1 / (1 + np.exp(-12 * (stage[:, None] - [0.3, 0.5, 0.7])))
    >>> X = curves + 0.1 * rng.standard_normal((100, 3))
    >>> model = DeVAETransformer(max_epochs=60, random_state=0).fit(X, orientation=stage)
    >>> found = event_order(model, X, n_bootstrap=20, random_state=0)
    >>> found.order
    ['x0', 'x1', 'x2']
    >>> bool(found.probability_before.loc["x0", "x2"] > 0.9)
    True
    """
    checked = check_event(event)
    reached = reach(estimator, X)
    weights = checked_weights(sample_weight, reached.table)
    facts = given_facts(size_factors=size_factors, covariates=covariates)
    query = query_of(reached, weights, axis, axis_sd, **facts)
    positions = positions_of(reached.model, query)
    estimate = Courses.of(reached, positions, weights).quantiles(checked)
    if replicates is None and n_bootstrap == 0:
        drawn = previewed_quantiles(reached, query, positions, checked, random_state)
        return summarized(estimate, drawn, reached.names, checked, confidence_level)
    if replicates is None:
        known = given_facts(axis=axis, axis_sd=axis_sd, sample_weight=sample_weight)
        replicates = replicates_of(
            reached, n_bootstrap, groups=groups, random_state=random_state, n_jobs=n_jobs, **facts, **known
        )
    drawn = np.stack([courses.quantiles(checked) for courses in Courses.of_replicates(reached, replicates)])
    return summarized(estimate, drawn, reached.names, checked, confidence_level)


def previewed_quantiles(
    reached: Reached, query: Query, positions: Floats, event: str | float, random_state: RandomState
) -> Floats:
    """Share of the samples, where the fit has placed them (N,), before the event in draws of the curves: (R, D)."""
    model, reader = query.inference.model, reached.model._reader_
    if not share_a_grid(model, query.source):
        raise ValueError(
            f"{type(reached.model).__name__} has no preview (n_bootstrap=0) of the order: its rows share no grid. "
            "Choose n_bootstrap=200."
        )
    generator = generator_from(spawn_seeds(random_state, 1)[0])
    z, drawn = drawn_curves(model, query.source, _PREVIEW_DRAWS, generator)
    at = z.cpu().numpy()
    found = np.empty((len(drawn), len(reached.names)))
    for number, curves in enumerate(model.likelihood.mean(drawn, z[:, None])):
        values = reached.in_user_units(reader.to_user(curves.cpu().numpy()))
        found[number] = as_quantiles(event_positions(values, at, event), positions, query.table.context.weight)
    found[:, reader.columns.left_out] = np.nan
    return found


def summarized(
    estimate: Floats, drawn: Floats, names: list[str], event: str | float, confidence_level: float
) -> EventOrder:
    """The order of events at estimated places (D,), shares of the samples, with those in R replicates (R, D)."""
    happens = ~np.isnan(estimate)
    drawn = np.where(happens, drawn, np.nan)
    # Features that share a curve change at the same place, but for rounding: they are ties.
    compared, compared_draws = estimate.round(_DECIMALS), drawn.round(_DECIMALS)
    before = probability_before(compared_draws)
    ranks = np.asarray(rankdata(compared_draws, axis=1, nan_policy="omit"))
    lower, upper = interval(drawn, confidence_level)
    rank_lower, rank_upper = interval(ranks, confidence_level, outwards=True)
    positions = pd.DataFrame(
        {
            "estimate": estimate,
            "lower": lower,
            "upper": upper,
            "rank": rankdata(compared, nan_policy="omit"),
            "rank_lower": rank_lower,
            "rank_upper": rank_upper,
        },
        index=names,
    )
    # Where replicates cannot tell two features apart, the fit does.
    order = np.lexsort([compared, -np.nansum(before, axis=1)])
    return EventOrder(
        positions,
        pd.DataFrame(before, names, names),
        pd.DataFrame(drawn, columns=names),
        [names[feature] for feature in order if happens[feature]],
        event,
        confidence_level,
    )


def probability_before(drawn: Floats) -> Floats:
    """Share of the replicates (R, D) in which one feature's event comes before another's, where both have it: (D, D).

    Ties count half. NaN on the diagonal, and where no replicate has both.
    """
    n_features = drawn.shape[1]
    before = np.full((n_features, n_features), np.nan)
    for feature in range(n_features):
        both = ~np.isnan(drawn) & ~np.isnan(drawn[:, [feature]])  # (R, D)
        later = (drawn > drawn[:, [feature]]) + 0.5 * (drawn == drawn[:, [feature]])
        np.divide(later.sum(0), both.sum(0), out=before[feature], where=both.any(0))
        before[feature, feature] = np.nan
    return before


def interval(drawn: Floats, confidence_level: float, *, outwards: bool = False) -> tuple[Floats, Floats]:
    """Ends (D,) of the central interval over replicates (R, D); NaN where fewer than half of them have a value.

    ``outwards`` takes the next value that occurs, for ranks.
    """
    values = pd.DataFrame(drawn)
    is_common = values.notna().mean() >= _LEAST_SHARE
    rounding = ("lower", "higher") if outwards else ("linear", "linear")
    lower, upper = (
        values.quantile(share, interpolation=how).where(is_common).to_numpy()
        for share, how in zip(((1 - confidence_level) / 2, (1 + confidence_level) / 2), rounding, strict=True)
    )
    return lower, upper
