"""Feature table: what a fitted axis says of each feature, one row a feature."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike

from .._base.estimator import LatentEstimator
from .._base.replicates import Replicates
from .._sklearn import Interval, Options, validate_params
from .._typing import CovariatesLike, RandomState
from ..inference.explained import explained_deviance, moments_along
from ..metrics._pipelines import given_facts
from ..nn.models import GenerativeModel
from ..table.columns import Columns
from ..table.weighted_rows import checked_weights
from ..trajectory._basisdevae import BasisDeVAEClusterer
from ..trajectory._feature_clusterer import FeatureClusterer
from ._association import association_test
from ._bootstrap import replicates_of
from ._courses import Courses
from ._event_order import interval
from ._events import EVENTS, Floats
from ._input import reach
from ._positions import positions_of, query_of

#: names of the events as columns
_NAMES = {event: event.replace("_", " ") for event in EVENTS}


@validate_params(
    {
        "threshold": [Interval(Real, 0, 1, closed="both")],
        "n_bootstrap": [Options(Integral, {0}), Interval(Integral, 2, None, closed="left")],
        "replicates": [None, Replicates],
        "confidence_level": [Interval(Real, 0, 1, closed="neither")],
        "tests": ["boolean"],
        "random_state": ["random_state"],
        "n_jobs": [None, Integral],
    },
    prefer_skip_nested_validation=True,
)
def feature_table(
    estimator: Any,
    X: Any,
    *,
    threshold: float = 0.8,
    n_bootstrap: int = 0,
    replicates: Replicates | None = None,
    confidence_level: float = 0.95,
    tests: bool = False,
    random_state: RandomState = None,
    n_jobs: int | None = None,
    axis: ArrayLike | None = None,
    axis_sd: ArrayLike | None = None,
    size_factors: ArrayLike | None = None,
    covariates: CovariatesLike = None,
    sample_weight: ArrayLike | None = None,
) -> pd.DataFrame:
    """Describe how each feature changes along the axis: one row a feature.

    Curves are judged where samples are. The 1 % of them that lie outermost at each end are left out, or ten samples
    where these are more, up to 5 %: they are too few to tell where a curve ends. The axis is known only up to a
    monotone map, so every event has a position on the axis and, beside it, a quantile: the share of the samples that
    come before it. Between studies, quantiles compare where their samples do.

    Parameters
    ----------
    estimator : estimator
        A fitted estimator with one latent component, a Pipeline that ends in one, or a search over one.
    X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
        Samples in rows, in the user's units.
    threshold : float, default=0.8
        Least probability of a behaviour or cluster to be named. Features below are ``"uncertain"``.
    n_bootstrap : int, default=0
        Number of replicates of the fit, by :func:`bootstrap`, that add intervals to the table. 0 makes none. X is then
        the table that the estimator was fitted to, and what is said of its samples is what ``fit`` was told.
    replicates : Replicates, default=None
        Replicates that :func:`bootstrap` has made from X, instead of new ones.
    confidence_level : float, default=0.95
        Share of the replicates within the intervals.
    tests : bool, default=False
        Whether to add what :func:`association_test` says of each feature, with its defaults.
    random_state : int, RandomState instance or None, default=None
        Source of the weights of replicates, and of the permutations of tests.
    n_jobs : int, default=None
        Number of fits that run at the same time, for tests, and for replicates that are fitted one by one. None means
        1, unless a ``joblib.parallel_config`` context says otherwise; -1 means one for each processor.
    axis : array-like of shape (n_samples,), default=None
        Known positions of the samples, as for ``fit``, for a model that was fitted with an axis. NaN where they are not
        known. None places samples by their entries alone.
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
    table : DataFrame
        With the names of the modelled features as index, and as columns:

        ``behaviour`` or ``cluster``, ``probability``
            The most probable behaviour (of :class:`~skdevae.BasisDeVAEClusterer`) or cluster (of
            :class:`~skdevae.BasisVAEClusterer`), and its probability. Other estimators have none. A feature that had
            one value in training is ``"constant"``, one without any is ``"unobserved"``: all else is NaN there.
        ``direction``
            ``"up"``, ``"down"``, ``"up then down"``, ``"down then up"``, or ``"none"`` for a curve that does not
            change. A curve turns if it leaves the range between its start and its end by more than a tenth of its whole
            range.
        ``onset``, ``half change``, ``end``
            Where on the latent the curve has made 10 %, 50 % and 90 % of its change: from its start to its end or, if
            it turns, to its value farthest from the start. The end of a curve that falls back is where it has made 90 %
            of that way back. NaN for a curve that does not change. Positions are those of the latent, also where the
            axis was given: ``estimator.axis_map_.to_axis`` has them in its units.
        ``peak``
            Where a curve that turns is farthest outside the range between its start and its end. NaN for others.
        ``onset (quantile)``, ``half change (quantile)``, ``peak (quantile)``, ``end (quantile)``
            The same as shares of the samples, from 0 to 1.
        ``change``
            Signed change from the start to the extreme, in the user's units, for a sample of median size and average
            covariates. Where steps of the pipeline mix columns or have no ``inverse_transform``, units are those of
            the model's input.
        ``change (sds)``
            The same in standard deviations of a single measurement around its expected value. For measurements that is
            the noise. For counts and zeros and ones, it is the square root of the mean of the variances at the start
            and at the extreme.
        ``explained variance`` or, for counts and zeros and ones, ``explained deviance``
            Share of the column's variance that its curve explains. Each entry is predicted from the position that the
            *other* columns give to the sample, for a column of noise would explain itself. (In tables of more than 20
            columns, one of 20 groups is left out at a time; in large ones, one of 5.) Curves have seen the rows that
            they were fitted to. For other rows the share is a fair one; it is negative where a constant does better.
            It is what remains beyond sizes and covariates.
        ``change lower``, ``change upper``, ``half change (quantile) lower``, ...
            Intervals of the change and of the quantiles of events, if there are replicates: quantiles over these, each
            with curves, positions and shares of the samples of its own. A replicate in which a feature has
            no such event does not count; the interval is NaN where it is so in more than half of them.
        ``statistic``, ``p value``, ``q value``
            Of :func:`association_test`, with ``tests=True``.

    Raises
    ------
    ValueError
        If the estimator does not end in a fitted model of this package, or has more than one latent component; if all
        samples lie at one position; or if both ``n_bootstrap`` and ``replicates`` are given, or replicates of other
        samples. See also :func:`bootstrap` and :func:`association_test`.

    See Also
    --------
    association_test : Whether a feature changes at all.
    bootstrap : Replicates that serve several tables.
    skdevae.BasisDeVAEClusterer.feature_labels : The names of behaviours alone.
    skdevae.display.TrajectoryDisplay : Draws the curves.

    Notes
    -----
    All is said of the curve of the most probable behaviour, also where that is uncertain.

    Intervals show how much of an answer is chance. They do not show what all replicates have in common with the fit,
    such as a curve that ends too high. In simulated tables (``benchmarks/feature_table.py``) intervals of 90 % hold the
    true half change in 50 to 100 % of cases, and the true change in 45 to 95 %: least for bumps that noise hides.

    Examples
    --------
    >>> import pandas as pd
    >>> from skdevae import BasisDeVAEClusterer
    >>> from skdevae.datasets import make_progression
    >>> from skdevae.inspection import feature_table
    >>> progression = make_progression(200, n_increasing=2, n_decreasing=2, n_transient=1, random_state=1)
    >>> X = pd.DataFrame(progression.data, columns=["a", "b", "c", "d", "e"])
    >>> clusterer = BasisDeVAEClusterer(max_epochs=30, random_state=0).fit(X)
    >>> table = feature_table(clusterer, X)
    >>> table["direction"].tolist()
    ['up then down', 'up', 'up', 'down', 'down']
    >>> table[["behaviour", "half change (quantile)"]].shape
    (5, 2)
    """
    if n_bootstrap > 0 and replicates is not None:
        raise ValueError(
            f"n_bootstrap={n_bootstrap} asks for replicates, and others are given: leave out one of the two."
        )
    reached = reach(estimator, X)
    model, weights = reached.model, checked_weights(sample_weight, reached.table)
    facts = given_facts(size_factors=size_factors, covariates=covariates)
    query = query_of(reached, weights, axis, axis_sd, **facts)
    positions = positions_of(model, query)
    if np.ptp(positions) == 0:
        raise ValueError(
            f"All {len(positions)} samples of X lie at one position of the axis, along which nothing can change: give "
            "the table that the estimator was fitted to. If this is that table, the fit has found no axis."
        )
    courses, columns = Courses.of(reached, positions, weights), query.table.reader.columns
    found = {
        **_labels(model, columns, threshold),
        "direction": courses.directions,
        **{name: courses.events(event) for event, name in _NAMES.items()},
        **_amounts(courses),
        "change (sds)": np.sign(courses.change) * _sds(query.inference.model, columns, courses),
        _measure(model): columns.spread(explained_deviance(query.inference.model, query.source).cpu().numpy(), np.nan),
    }
    facts |= {"random_state": random_state, "n_jobs": n_jobs, "sample_weight": sample_weight}
    facts |= {"axis": axis, "axis_sd": axis_sd}
    if n_bootstrap > 0:
        replicates = replicates_of(reached, n_bootstrap, **facts)
    if replicates is not None:
        found |= _intervals(map(_amounts, Courses.of_replicates(reached, replicates)), confidence_level)
    table = pd.DataFrame(found, index=reached.names)
    return table.join(_tests(estimator, X, **facts)) if tests else table


def _amounts(courses: Courses) -> dict[str, Floats]:
    """What does not depend on how the axis is measured, by the name of the column; (D,) each."""
    quantiles = {f"{name} (quantile)": courses.quantiles(event) for event, name in _NAMES.items()}
    return {**quantiles, "change": courses.change}


def _intervals(replicated: Iterable[dict[str, Floats]], confidence_level: float) -> dict[str, Floats]:
    """Ends of the central intervals over replicates, by the name of the column; (D,) each."""
    rows = list(replicated)
    found: dict[str, Floats] = {}
    for name in rows[0]:
        ends = interval(np.stack([row[name] for row in rows]), confidence_level)
        found |= {f"{name} {end}": values for end, values in zip(("lower", "upper"), ends, strict=True)}
    return found


def _labels(model: LatentEstimator, columns: Columns, threshold: float) -> dict[str, np.ndarray]:
    """The label of each feature and its probability, by the name of the column; nothing where features have none."""
    if not isinstance(model, FeatureClusterer):
        return {}
    names, probability = model.feature_labels(threshold), model.responsibilities_.max(1)
    names[columns.left_out], probability[columns.left_out] = "constant", np.nan
    names[columns.unobserved] = "unobserved"
    return {"behaviour" if isinstance(model, BasisDeVAEClusterer) else "cluster": names, "probability": probability}


def _sds(model: GenerativeModel, columns: Columns, courses: Courses) -> Floats:
    """How far each feature's start and extreme are apart, in standard deviations of an entry: (D,)."""
    points = torch.from_numpy(courses.at[:, None]).to(next(model.parameters()))
    mean, variance = (columns.spread(part.cpu().numpy(), np.nan) for part in moments_along(model, points))
    of_features = np.arange(mean.shape[1])
    start, extreme = (0, of_features), (courses.extremes, of_features)
    return np.asarray(np.abs(mean[extreme] - mean[start]) / np.sqrt((variance[start] + variance[extreme]) / 2))


def _tests(estimator: Any, X: Any, **arguments: Any) -> pd.DataFrame:
    """What association tests say of each feature, but for the effect size, which is much like the explained share."""
    found = association_test(estimator, X, **arguments)
    return found.drop(columns="effect_size").rename(columns=lambda name: name.replace("_", " "))


def _measure(model: LatentEstimator) -> str:
    """What the explained share is a share of."""
    return "explained variance" if model._config_["likelihood"]["name"] == "gaussian" else "explained deviance"
