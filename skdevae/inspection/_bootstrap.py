"""Bootstrap: a fit repeated on resampled samples."""

from __future__ import annotations

from numbers import Integral
from typing import Literal, cast

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state

from .._base.replicates import Replicates, bootstrap_weights, refits, side_by_side, why_not_side_by_side
from .._sklearn import Interval, StrOptions, validate_params
from .._typing import CovariatesLike, RandomState, TableLike
from ..metrics._pipelines import given_facts
from ._input import Reached, reach
from ._positions import query_of


@validate_params(
    {
        "n_bootstrap": [Interval(Integral, 2, None, closed="left")],
        "method": [StrOptions({"auto", "side_by_side", "refit"})],
        "judge": ["boolean"],
        "random_state": ["random_state"],
        "n_jobs": [None, Integral],
    },
    prefer_skip_nested_validation=True,
)
def bootstrap(
    estimator: object,
    X: TableLike,
    *,
    n_bootstrap: int = 200,
    groups: ArrayLike | None = None,
    judge: bool = False,
    method: Literal["auto", "side_by_side", "refit"] = "auto",
    random_state: RandomState = None,
    n_jobs: int | None = None,
    sample_weight: ArrayLike | None = None,
    size_factors: ArrayLike | None = None,
    covariates: CovariatesLike = None,
    axis: ArrayLike | None = None,
    axis_sd: ArrayLike | None = None,
) -> Replicates:
    """Repeat a fit on resampled samples, to see how much of it is chance.

    It is the Bayesian bootstrap (Rubin, 1981): in every replicate each sample counts by an exponential weight, so none
    is left out. Replicates serve several tables: :func:`event_order`, :func:`feature_table` and :func:`stability` take
    them as ``replicates``.

    Parameters
    ----------
    estimator : estimator
        A fitted trajectory estimator with one component, or a fitted Pipeline or search that ends in one. The steps
        before it stay as they are.
    X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
        The table that it was fitted to, in the user's units.
    n_bootstrap : int, default=200
        Number of replicates.
    groups : array-like of shape (n_samples,), default=None
        The subject, or another unit, that each sample belongs to. All samples of a group are resampled together. None
        resamples samples one by one.
    judge : bool, default=False
        Whether every replicate finds out anew which cluster each feature belongs to. It takes longer. With
        ``method="refit"`` it is always so.
    method : {"auto", "side_by_side", "refit"}, default="auto"
        ``"side_by_side"`` starts all replicates where the fit ended, and fits them together. Each stays on the hill of
        the likelihood that the fit is on. It needs exact inference and no covariates. ``"refit"`` fits each from the
        start, as the estimator's ``fit`` does. ``"auto"`` is the first where it is possible.
    random_state : int, RandomState instance or None, default=None
        Source of the weights.
    n_jobs : int or None, default=None
        Processes that ``"refit"`` is shared among, as in joblib. Fits side by side are one computation.
    sample_weight : array-like of shape (n_samples,), default=None
        The weights of the fit, if it had any. The drawn weights are multiplied by these.
    size_factors : array-like of shape (n_samples,), default=None
        Sizes of the samples, as for the estimator's ``fit``.
    covariates : array-like, Series, DataFrame or dict, default=None
        Covariates of the samples, as for the estimator's ``fit``.
    axis : array-like of shape (n_samples,), default=None
        The positions that were given to the fit, if any were. All replicates are fitted along the same positions.
    axis_sd : float or array-like of shape (n_samples,), default=None
        Standard deviation of the error of ``axis``, as for the estimator's ``fit``.

    Returns
    -------
    replicates : Replicates
        A sequence of fitted estimators. ``weights`` and ``positions``, both of shape (n_bootstrap, n_samples), are the
        weights and the posterior means of the latents. ``trajectories(z)`` gives the curves of all replicates.

    Raises
    ------
    ValueError
        If ``method="side_by_side"`` is not possible, if groups do not fit X, if the latent is not one axis, or if the
        fit was given an axis and none is given here.

    References
    ----------
    Rubin, D. B. (1981). The Bayesian bootstrap. The Annals of Statistics 9, 130-134.

    Examples
    --------
    >>> from skdevae import BasisDeVAEClusterer
    >>> from skdevae.datasets import make_progression
    >>> from skdevae.inspection import bootstrap
    >>> X = make_progression(60, n_transient=0, n_increasing=4, n_decreasing=4, random_state=0).data
    >>> model = BasisDeVAEClusterer(max_epochs=50, random_state=0).fit(X)
    >>> replicates = bootstrap(model, X, n_bootstrap=5, random_state=0)
    >>> replicates
    <5 replicates of BasisDeVAEClusterer>
    >>> replicates.trajectories([-1.0, 0.0, 1.0]).shape
    (5, 3, 8)
    """
    facts = given_facts(size_factors=size_factors, covariates=covariates)
    reached = reach(estimator, X)
    return replicates_of(
        reached,
        n_bootstrap,
        groups=groups,
        judge=judge,
        method=method,
        random_state=random_state,
        n_jobs=n_jobs,
        sample_weight=sample_weight,
        axis=axis,
        axis_sd=axis_sd,
        **facts,
    )


def replicates_of(
    reached: Reached,
    n_bootstrap: int,
    *,
    groups: ArrayLike | None = None,
    judge: bool = False,
    method: str = "auto",
    random_state: RandomState = None,
    n_jobs: int | None = None,
    sample_weight: ArrayLike | None = None,
    axis: ArrayLike | None = None,
    axis_sd: ArrayLike | None = None,
    **facts: object,
) -> Replicates:
    """Replicates of a model that was reached; the other arguments are those of :func:`bootstrap`."""
    model, n_samples = reached.model, reached.table.shape[0]
    if axis is None and getattr(model, "axis_is_given_", False):
        raise ValueError(
            "The estimator was fitted along a given axis, and so are its replicates: pass axis=..., the positions that "
            "were given to the fit."
        )
    table = query_of(reached, sample_weight, axis, axis_sd, **facts).table
    of_fit = cast(np.ndarray, table.context.weight)
    random = check_random_state(random_state)
    weights = bootstrap_weights(n_samples, n_bootstrap, random, sample_weight=of_fit, groups=groups)
    hindrance = why_not_side_by_side(model)
    if method == "side_by_side" and hindrance is not None:
        raise ValueError(
            f"Replicates of this {type(model).__name__} cannot be fitted side by side, because {hindrance}. "
            "Choose method='refit'."
        )
    if method == "refit" or hindrance is not None:
        if table.context.axis is not None:
            facts |= given_facts(axis=axis, axis_sd=axis_sd)
        return refits(model, reached.table, weights, n_jobs, **facts)
    return side_by_side(model, table, weights, judge=judge)


def check_samples(replicates: Replicates, n_samples: int) -> None:
    """Raise a ValueError unless tables of so many samples were resampled."""
    n_resampled = replicates.positions.shape[1]
    if n_resampled != n_samples:
        raise ValueError(
            f"replicates were made by resampling {n_resampled} samples, but X has {n_samples}: give the table that "
            "they were made from."
        )
