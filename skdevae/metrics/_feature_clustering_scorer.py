"""Feature-clustering scorer: how well the clusters of features agree with their known labels."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import sklearn.metrics
from numpy.typing import ArrayLike

from ._feature_names import input_names, modelled_names, original_names, truth_key
from ._pipelines import labelling_method, split_at_clusterer

#: the functions of :mod:`sklearn.metrics` that compare two labelings of the same items and return one number
METRICS = (
    "adjusted_mutual_info_score",
    "adjusted_rand_score",
    "completeness_score",
    "fowlkes_mallows_score",
    "homogeneity_score",
    "mutual_info_score",
    "normalized_mutual_info_score",
    "rand_score",
    "v_measure_score",
)

Metric: TypeAlias = Callable[[Any, Any], float]


class FeatureClusteringScorer:
    """Scorer that compares the clusters of features with their known labels.

    Use :func:`feature_clustering_scorer` to build one.

    Called as ``scorer(estimator, X, y=None)``, it looks for a fitted feature clusterer in the estimator. That is an
    estimator with `predict_features` and `responsibilities_`, such as ``BasisDeVAEClusterer``. It may be the estimator
    itself, or be inside nested pipelines, searches (their `best_estimator_`) and frozen estimators. The scorer
    transforms `X` by the steps before the clusterer and follows the names of the features through these steps. It then
    compares ``clusterer.predict_features(X_transformed)`` with the truth. Those labels depend on the rows of `X` alone,
    so in cross-validation the score is that of the held-out rows. An estimator without `predict_features` is asked for
    `predict`, if that labels columns.

    Parameters
    ----------
    truth : mapping, Series or array-like of shape (n_features,)
        See :func:`feature_clustering_scorer`.

    metric : str or callable, default="adjusted_rand_score"
        See :func:`feature_clustering_scorer`.

    Raises
    ------
    ValueError
        If `truth` is not a labeling of features or `metric` is not known; when called, if the estimator holds no
        fitted feature clusterer, if the features cannot be followed through its steps, or if none has a known label.

    Examples
    --------
    >>> from skdevae.metrics import FeatureClusteringScorer
    >>> FeatureClusteringScorer({"height": "grows", "weight": "grows", "speed": "falls"})
    FeatureClusteringScorer(3 features, metric='adjusted_rand_score')
    """

    def __init__(
        self, truth: Mapping[Any, Any] | ArrayLike | Sequence[Any], metric: str | Metric = "adjusted_rand_score"
    ) -> None:
        _resolve_metric(metric)
        self._truth = _read_truth(truth)
        self._metric = metric

    def __repr__(self) -> str:
        metric = repr(self._metric) if isinstance(self._metric, str) else getattr(self._metric, "__name__", "callable")
        return f"{type(self).__name__}({len(self._truth)} features, metric={metric})"

    def __call__(self, estimator: Any, X: Any, y: Any = None, **facts: Any) -> float:
        """Score the fitted estimator's clusters of the columns of X.

        Parameters
        ----------
        estimator : estimator
            A fitted feature clusterer, or a pipeline or search that holds one.

        X : array-like of shape (n_samples, n_features)
            The rows from which the clusterer labels the features, in the form that `estimator` takes.

        y : None
            Ignored; the truth is about features, and the scorer holds it.

        **facts
            What the clusterer asks of the rows of X, such as ``size_factors``: passed on to its ``predict_features``.

        Returns
        -------
        score : float
            The metric, over the features that reach the clusterer and have a known label.
        """
        steps, clusterer = split_at_clusterer(estimator)
        if not hasattr(X, "shape"):
            X = np.asarray(X)
        columns = input_names(estimator, X)
        truth = _truth_by_name(self._truth, columns)
        names = columns
        for step_name, step in steps:
            transformed = step.transform(X)
            names = original_names(step_name, step, names, transformed, truth)
            X = transformed
        names = modelled_names(clusterer, names)
        method = labelling_method(clusterer)
        labels = np.asarray(getattr(clusterer, method)(X, **facts))
        if labels.shape != (len(names),):
            raise ValueError(
                f"{type(clusterer).__name__}.{method} gave labels of shape {labels.shape} for {len(names)} columns: a "
                "feature clusterer must label every column that it models."
            )
        keys = [truth_key(name, truth, columns) for name in names]
        pairs = [(truth[key], label) for key, label in zip(keys, labels, strict=True) if key in truth]
        if not pairs:
            raise ValueError(
                f"None of the features that reach {type(clusterer).__name__} has a known label: they are named "
                f"{_first_few(names)}, but truth has {_first_few(list(truth)) or 'no labels'}. Key truth by the names "
                "of the columns ('x0', 'x1', ... if they have none), or give an array in the order of the columns."
            )
        labels_true, labels_pred = (np.asarray(values) for values in zip(*pairs, strict=True))
        return float(_resolve_metric(self._metric)(labels_true, labels_pred))


def feature_clustering_scorer(
    truth: Mapping[Any, Any] | ArrayLike | Sequence[Any], metric: str | Metric = "adjusted_rand_score"
) -> FeatureClusteringScorer:
    """Make a scorer that compares the clusters of features with their known labels.

    The labels of features cannot be passed as `y`, which has one entry for each sample. The scorer holds them instead,
    by feature name, so it still knows them when steps drop or reorder features and when the rows are split. Pass it as
    `scoring` to :class:`~sklearn.model_selection.GridSearchCV` or :func:`~sklearn.model_selection.cross_val_score`.

    Parameters
    ----------
    truth : mapping, Series or array-like of shape (n_features,)
        The known label of each feature: a mapping from feature name to label, a :class:`pandas.Series` indexed by
        feature name, or the labels in the order of the columns given to the outermost estimator. Columns without names
        are called "x0", "x1", ... as everywhere in scikit-learn. Features whose label is not given, None, NaN or
        pandas.NA do not count in the score; nor do those that an earlier step drops.

    metric : str or callable, default="adjusted_rand_score"
        ``callable(labels_true, labels_pred)``, or the name of one in :mod:`sklearn.metrics`:
        "adjusted_mutual_info_score", "adjusted_rand_score", "completeness_score", "fowlkes_mallows_score",
        "homogeneity_score", "mutual_info_score", "normalized_mutual_info_score", "rand_score" or "v_measure_score".
        Larger must be better.

    Returns
    -------
    scorer : FeatureClusteringScorer
        Callable as ``scorer(estimator, X, y=None)``.

    Raises
    ------
    ValueError
        If `truth` is not a labeling of features or `metric` is not known.

    Notes
    -----
    :class:`~sklearn.compose.ColumnTransformer` and :class:`~sklearn.pipeline.FeatureUnion` add prefixes to names
    ("scale__height"). A prefix is dropped if `truth` does not know the full name. A feature that reaches the clusterer
    several times counts as often.

    A search inside a pipeline scores the data that reach it. To keep the names of the features on the way there, let
    the steps before it put out data frames: ``set_output(transform="pandas")``.

    References
    ----------
    Danks, D. and Yau, C. (2021). "BasisDeVAE: Interpretable Simultaneous Dimensionality Reduction and Feature-Level
    Clustering with Derivative-Based Variational Autoencoders". ICML. Table 1 reports adjusted Rand indices of features.

    Examples
    --------
    A toy clusterer takes the place of ``BasisDeVAEClusterer`` here. It separates the features that are positively
    correlated with the first one from those that are negatively correlated with it.

    >>> import numpy as np
    >>> from sklearn.base import BaseEstimator
    >>> from skdevae.datasets import make_progression
    >>> from skdevae.metrics import feature_clustering_scorer
    >>> class SignClusterer(BaseEstimator):
    ...     def fit(self, X, y=None):
    ...         self.labels_ = self.predict_features(X)
    ...         self.responsibilities_ = np.eye(2)[self.labels_]
    ...         return self
    ...     def predict_features(self, X):
    ...         return (np.corrcoef(X, rowvar=False)[0] < 0).astype(int)
    >>> progression = make_progression(n_transient=0, random_state=0)
    >>> scorer = feature_clustering_scorer(dict(zip(progression.feature_names, progression.labels)))
    >>> frame = make_progression(n_transient=0, as_frame=True, random_state=0).data
    >>> scorer(SignClusterer().fit(frame), frame)
    1.0
    """
    return FeatureClusteringScorer(truth, metric)


def _resolve_metric(metric: str | Metric) -> Metric:
    """The function that a metric is or names."""
    if callable(metric):
        return metric
    if metric in METRICS:
        function: Metric = getattr(sklearn.metrics, metric)
        return function
    raise ValueError(
        f"metric={metric!r} is not known: pass a callable(labels_true, labels_pred) or one of {', '.join(METRICS)}."
    )


def _read_truth(truth: Any) -> dict[Hashable, Any] | list[Any]:
    """Copy the truth: by feature name where it has names, else in the order of the columns."""
    if isinstance(truth, Mapping):
        return _known(truth)
    if isinstance(truth, pd.Series):
        if not truth.index.is_unique:
            twice = truth.index[truth.index.duplicated()][0]
            raise ValueError(f"truth has more than one label for feature {twice!r}: give every feature one label.")
        return _known(truth.to_dict())
    # As objects: among strings, NumPy would turn a missing label into the label "nan".
    labels = np.asarray(truth, dtype=object)
    if labels.ndim != 1:
        raise ValueError(
            "truth must be a mapping from feature name to label, a pandas Series indexed by feature name, or a "
            f"one-dimensional array of labels in the order of the columns; got {type(truth).__name__} of shape "
            f"{labels.shape}."
        )
    return list(labels.tolist())


def _truth_by_name(truth: dict[Hashable, Any] | list[Any], names: Sequence[str]) -> dict[Hashable, Any]:
    """The truth by feature name, for data whose columns have these names."""
    if isinstance(truth, dict):
        return truth
    if len(truth) != len(names):
        raise ValueError(
            f"truth has {len(truth)} labels but the data given to the scorer have {len(names)} columns: give one label "
            "per column, or a mapping from feature name to label."
        )
    return _known(dict(zip(names, truth, strict=True)))


def _known(truth: Mapping[Any, Any]) -> dict[Hashable, Any]:
    """The features whose label is known: not None, NaN or pandas.NA."""
    return {name: label for name, label in truth.items() if not pd.isna(label)}


def _first_few(names: Sequence[Any]) -> str:
    return ", ".join(repr(name) for name in names[:3]) + (", ..." if len(names) > 3 else "")
