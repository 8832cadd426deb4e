"""Stability: which clusters, behaviours and positions of a fit other samples of the same kind would give again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.stats import entropy

from .._base.replicates import Replicates, check_estimator
from .._sklearn import Interval, validate_params
from .._typing import CovariatesLike, RandomState
from ..metrics import coclustering_matrix
from ..metrics._pipelines import given_facts
from ..table.weighted_rows import checked_weights
from ..trajectory._basisdevae import BasisDeVAEClusterer
from ..trajectory._feature_clusterer import FeatureClusterer
from ._bootstrap import check_samples, replicates_of
from ._event_order import interval
from ._events import Floats, as_quantiles
from ._input import Reached, reach
from ._positions import positions_of, query_of


@dataclass(frozen=True)
class Stability:
    """What remains of a fit where its samples are resampled; use :func:`stability` to find out.

    Parameters
    ----------
    samples : DataFrame of n_samples rows
        Where each sample lies, with the index of X.

        ``position``, ``quantile``
            Of the fit: the posterior mean on the axis, and the share of the samples that come before it.
        ``position sd``, ``position lower``, ``position upper``, ``quantile sd``, ``quantile lower``, ``quantile upper``
            Standard deviation and central interval of the same over replicates, each with its own curves and its own
            shares of the samples. How widely a sample's posterior is spread given the curves is not in them:
            ``posterior(X, include="curves")`` adds up both.
    features : DataFrame of n_features rows, or None
        How sure the cluster of each feature is, with the names of the features as index.

        ``behaviour`` or ``cluster``
            Of the fit: the most probable behaviour (of :class:`~skdevae.BasisDeVAEClusterer`) or cluster (of
            :class:`~skdevae.BasisVAEClusterer`). A feature that had one value in training is ``"constant"``, one
            without any is ``"unobserved"``: all else is NaN there.
        ``share``
            Share of the replicates in which the feature has the same.
        ``next behaviour`` or ``next cluster``, ``next share``
            The most frequent other one, and its share. NaN where no replicate has another.
        ``entropy``
            Of the shares of all behaviours or clusters, in nats: 0 where all replicates agree.
    coclustering : DataFrame of shape (n_features, n_features), or None
        Probability that two features are in one cluster, averaged over replicates.
    coclustering_of_fit : DataFrame of shape (n_features, n_features), or None
        The same by the fit alone.
    replicates : Replicates
        The replicates, for other tables.

    Notes
    -----
    Estimators without clusters of features, such as :class:`~skdevae.DeVAETransformer`, have a table of samples alone;
    the others are None.

    Examples
    --------
    >>> from skdevae import DeVAETransformer
    >>> from skdevae.datasets import make_progression
    >>> from skdevae.inspection import stability
    >>> X = make_progression(40, n_transient=0, n_increasing=4, n_decreasing=2, as_frame=True, random_state=0).data
    >>> model = DeVAETransformer(n_grid_points=33, max_epochs=20, random_state=0).fit(X)
    >>> found = stability(model, X, n_bootstrap=4, random_state=0)
    >>> found
    <Stability of 40 samples over 4 replicates>
    >>> list(found.samples)[:2]
    ['position', 'position sd']
    """

    samples: pd.DataFrame
    features: pd.DataFrame | None
    coclustering: pd.DataFrame | None
    coclustering_of_fit: pd.DataFrame | None
    replicates: Replicates

    def __repr__(self) -> str:
        n_features = "" if self.features is None else f" and {len(self.features)} features"
        return f"<Stability of {len(self.samples)} samples{n_features} over {len(self.replicates)} replicates>"


@validate_params(
    {
        "n_bootstrap": [Interval(Integral, 2, None, closed="left")],
        "replicates": [None, Replicates],
        "confidence_level": [Interval(Real, 0, 1, closed="neither")],
        "random_state": ["random_state"],
        "n_jobs": [None, Integral],
    },
    prefer_skip_nested_validation=True,
)
def stability(
    estimator: Any,
    X: Any,
    *,
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
) -> Stability:
    """How stable clusters of features and positions of samples are, over replicates of a fit.

    One fit says how probable each cluster is given its own axis and curves. Other samples of the same kind would have
    given others. Replicates, by :func:`bootstrap`, show how far that goes.

    Parameters
    ----------
    estimator : estimator
        A fitted estimator with one latent component, a Pipeline that ends in one, or a search over one.
    X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
        The table that it was fitted to, in the user's units.
    n_bootstrap : int, default=200
        Number of replicates, if none are given.
    replicates : Replicates, default=None
        Replicates that :func:`bootstrap` has made from X, instead of new ones; with ``judge=True`` where features have
        clusters.
    groups : array-like of shape (n_samples,), default=None
        The subject, or another unit, that each sample belongs to. All samples of a group are resampled together. None
        resamples samples one by one.
    confidence_level : float, default=0.95
        Share of the replicates within the intervals.
    random_state : int, RandomState instance or None, default=None
        Source of the weights of replicates.
    n_jobs : int, default=None
        Number of replicates that are fitted at the same time, where they are fitted one by one. None means 1, unless a
        ``joblib.parallel_config`` context says otherwise; -1 means one for each processor.
    axis : array-like of shape (n_samples,), default=None
        Known positions of the samples, as for ``fit``, for a model that was fitted with an axis. NaN where they are not
        known.
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
    stability : Stability
        With the data frames ``samples``, ``features``, ``coclustering`` and ``coclustering_of_fit``.

    Raises
    ------
    ValueError
        If the estimator does not end in a fitted model of this package, or has more than one latent component; if
        replicates are of another estimator or table, or keep the clusters of the fit; or if groups are given beside
        replicates, which have been made already.

    See Also
    --------
    bootstrap : Replicates that serve several tables.
    skdevae.BasisDeVAEClusterer.posterior : Positions of any samples, with what is not known of the curves.
    skdevae.display.FeatureClusterDisplay : Draws the co-clustering matrix.

    Notes
    -----
    Replicates that are made here start where the fit ended, if they can. They show what other samples would change on
    this hill of the likelihood. A small table of many columns may have several hills: ``replicates=bootstrap(...,
    method="refit")`` looks for them anew every time, which takes as long as so many fits.

    Replicates of :class:`~skdevae.BasisVAEClusterer` number clusters in an order of their own. They are matched with
    those of the fit so that as many features as possible are in the same.

    Examples
    --------
    >>> from skdevae import BasisDeVAEClusterer
    >>> from skdevae.datasets import make_progression
    >>> from skdevae.inspection import stability
    >>> X = make_progression(60, n_transient=0, n_increasing=3, n_decreasing=3, random_state=0).data
    >>> clusterer = BasisDeVAEClusterer(max_epochs=20, random_state=0).fit(X)
    >>> found = stability(clusterer, X, n_bootstrap=4, random_state=0)
    >>> found
    <Stability of 60 samples and 6 features over 4 replicates>
    >>> found.features["share"].shape
    (6,)
    >>> found.coclustering.shape
    (6, 6)
    """
    reached = reach(estimator, X)
    weights = checked_weights(sample_weight, reached.table)
    facts = given_facts(size_factors=size_factors, covariates=covariates)
    model = reached.model
    is_clusterer = isinstance(model, FeatureClusterer)
    if replicates is None:
        replicates = replicates_of(
            reached,
            n_bootstrap,
            groups=groups,
            judge=is_clusterer,
            random_state=random_state,
            n_jobs=n_jobs,
            sample_weight=sample_weight,
            axis=axis,
            axis_sd=axis_sd,
            **facts,
        )
    else:
        _check_replicates(reached, replicates, is_clusterer, groups)
    positions = positions_of(model, query_of(reached, weights, axis, axis_sd, **facts))
    samples = _samples(positions, weights, replicates, confidence_level)
    samples.index = X.index if isinstance(X, pd.DataFrame) else samples.index
    if not isinstance(model, FeatureClusterer):
        return Stability(samples, None, None, None, replicates)
    memberships = [_renumbered(model, replicate.responsibilities_) for replicate in replicates]
    of_replicates, of_fit = (
        pd.DataFrame(matrix, index=reached.names, columns=reached.names)
        for matrix in (coclustering_matrix(memberships), model.coclustering_matrix())
    )
    features = _features(model, [found.argmax(1) for found in memberships]).set_axis(reached.names)
    return Stability(samples, features, of_replicates, of_fit, replicates)


def _check_replicates(reached: Reached, replicates: Replicates, is_clusterer: bool, groups: ArrayLike | None) -> None:
    check_estimator(replicates, reached.model)
    check_samples(replicates, reached.table.shape[0])
    if is_clusterer and not replicates.is_judged:
        raise ValueError(
            "All replicates have the clusters of the fit, so nothing can be said of how stable these are. Make "
            "replicates that find clusters of their own, with bootstrap(..., judge=True)."
        )
    if groups is not None:
        raise ValueError("groups say how replicates are made, and these are made: pass groups to bootstrap.")


def _samples(positions: Floats, weights: Floats, replicates: Replicates, confidence_level: float) -> pd.DataFrame:
    """Positions (N,) of a fit, as they are and as quantiles of the samples, with what replicates make of them."""
    of_replicates = [
        as_quantiles(own, own, own_weights)
        for own, own_weights in zip(replicates.positions, replicates.weights, strict=True)
    ]
    kinds = {
        "position": (positions, replicates.positions),
        "quantile": (as_quantiles(positions, positions, weights), np.stack(of_replicates)),
    }
    found: dict[str, Floats] = {}
    for name, (of_fit, values) in kinds.items():  # (N,), (R, N)
        lower, upper = interval(values, confidence_level)
        found |= {name: of_fit, f"{name} sd": values.std(0), f"{name} lower": lower, f"{name} upper": upper}
    return pd.DataFrame(found)


def _renumbered(model: FeatureClusterer, responsibilities: Floats) -> Floats:
    """Responsibilities (D, K) of a replicate, with its clusters in the order of those of the fit.

    Each cluster is matched with the one that it shares most features with. Behaviours, and the flat cluster, are what
    they are under every number.
    """
    if isinstance(model, BasisDeVAEClusterer):
        return responsibilities
    flat = model.module_.flat_candidate
    free = [number for number in range(responsibilities.shape[1]) if number != flat]
    shared = model.responsibilities_[:, free].T @ responsibilities[:, free]
    _, partner = linear_sum_assignment(shared, maximize=True)
    order = np.arange(responsibilities.shape[1])
    order[free] = np.array(free)[partner]
    return responsibilities[:, order]


def _features(model: FeatureClusterer, labels: Sequence[NDArray[np.integer]]) -> pd.DataFrame:
    """How often each feature has the cluster of the fit, and others, among labels (D,) of replicates."""
    kind = "behaviour" if isinstance(model, BasisDeVAEClusterer) else "cluster"
    names = np.array([str(name) for name in model.cluster_names_], dtype=object)
    shares = np.mean([np.eye(len(names))[of_one] for of_one in labels], axis=0)  # (D, K)
    own, others = np.maximum(model.labels_, 0)[:, None], shares.copy()
    np.put_along_axis(others, own, 0.0, axis=1)
    next_share = others.max(1)
    found = pd.DataFrame(
        {
            "share": np.take_along_axis(shares, own, axis=1)[:, 0],
            f"next {kind}": np.where(next_share > 0, names[others.argmax(1)], np.nan),
            "next share": np.where(next_share > 0, next_share, np.nan),
            "entropy": entropy(shares, axis=1),
        }
    )
    of_fit, columns = model.feature_labels(threshold=0.0), model._reader_.columns
    of_fit[columns.left_out], of_fit[columns.unobserved] = "constant", "unobserved"
    found.iloc[columns.left_out] = np.nan
    found.insert(0, kind, of_fit)
    return found
