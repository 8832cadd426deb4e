"""Clusters of features: scoring them against known labels, and agreement between several clusterings."""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import sklearn.metrics
from numpy.typing import ArrayLike, NDArray

from ._steps import flat_steps

#: The functions of :mod:`sklearn.metrics` that compare two labelings of the same items by one number.
_METRICS = (
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

_SEPARATOR = "__"

Metric = Callable[[Any, Any], float]


# ------------------------------------------------------------------------------------------------------------- truth


def _without_unknown(truth: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
    """Leave out features whose label is missing: None, NaN or pandas.NA."""
    return {name: label for name, label in truth.items() if not pd.isna(label)}


def _read_truth(truth: Any) -> dict[Hashable, Any] | list[Any]:
    """Copy the truth: by feature name where it has names, else in the order of the columns."""
    if isinstance(truth, Mapping):
        return _without_unknown(truth)
    if isinstance(truth, pd.Series):
        if not truth.index.is_unique:
            twice = truth.index[truth.index.duplicated()][0]
            raise ValueError(f"truth has more than one label for feature {twice!r}: give every feature one label.")
        return _without_unknown(truth.to_dict())
    # As objects, because NumPy would spell a missing label among strings "nan".
    labels = np.asarray(truth, dtype=object)
    if labels.ndim != 1:
        raise ValueError(
            "truth must be a mapping from feature name to label, a pandas Series indexed by feature name, or a "
            f"one-dimensional array of labels in the order of the columns; got {type(truth).__name__} of shape "
            f"{labels.shape}."
        )
    return list(labels.tolist())


def _truth_by_name(truth: dict[Hashable, Any] | list[Any], names: Sequence[str]) -> Mapping[Hashable, Any]:
    """Key the truth by feature name, for data whose columns have these names."""
    if isinstance(truth, dict):
        return truth
    if len(truth) != len(names):
        raise ValueError(
            f"truth has {len(truth)} labels but the data given to the scorer have {len(names)} columns: give one label "
            "per column, or a mapping from feature name to label."
        )
    return _without_unknown(dict(zip(names, truth, strict=True)))


def _resolve_metric(metric: str | Metric) -> Metric:
    """Find the function that a metric is."""
    if callable(metric):
        return metric
    if metric in _METRICS:
        function: Metric = getattr(sklearn.metrics, metric)
        return function
    raise ValueError(
        f"metric={metric!r} is not known: pass a callable(labels_true, labels_pred) or one of {', '.join(_METRICS)}."
    )


# -------------------------------------------------------------------------------------- from the data to the clusterer


def _is_feature_clusterer(estimator: Any) -> bool:
    return hasattr(estimator, "predict") and hasattr(estimator, "responsibilities_")


def _split_at_clusterer(estimator: Any) -> tuple[list[tuple[str, Any]], Any]:
    """Find the fitted feature clusterer and the steps before it."""
    steps: list[tuple[str, Any]] = []
    for name, step in flat_steps(type(estimator).__name__, estimator):
        if _is_feature_clusterer(step):
            return steps, step
        steps.append((name, step))
    raise ValueError(
        f"Found no fitted feature clusterer in {type(estimator).__name__}. It must be the estimator itself, a step of "
        "a Pipeline, or the best estimator of a search with refit=True; and it must have predict and "
        "responsibilities_, as a fitted BasisDeVAEClusterer has."
    )


# ------------------------------------------------------------------------------------------------------ feature names


def _column_names(X: Any) -> list[str] | None:
    """Names of a data frame's columns, under scikit-learn's rule that only strings are names."""
    columns = list(getattr(X, "columns", ()))
    return columns if columns and all(isinstance(column, str) for column in columns) else None


def _input_names(estimator: Any, X: Any) -> list[str]:
    names = _column_names(X)
    if names is None and hasattr(estimator, "feature_names_in_"):
        names = list(estimator.feature_names_in_)
    if names is None or len(names) != X.shape[1]:
        names = [f"x{column}" for column in range(X.shape[1])]
    return names


def _without_prefix(name: str, known: Container[Hashable]) -> str:
    """Drop prefixes ("scale__height") as far as that leads to a known name; else leave the name alone."""
    candidate = name
    while candidate not in known:
        if _SEPARATOR not in candidate:
            return name
        candidate = candidate.split(_SEPARATOR, 1)[1]
    return candidate


def _output_names(
    step_name: str, step: Any, names: list[str], transformed: Any, truth: Mapping[Hashable, Any]
) -> list[str]:
    """Name the columns that a step puts out after the original features whose names it took in."""
    # A step that was fitted on an array may have made up names ("x0") that later steps know the columns by.
    own_names = list(getattr(step, "feature_names_in_", names))
    if hasattr(step, "get_feature_names_out"):
        outputs = list(step.get_feature_names_out(own_names))
    else:
        outputs = _column_names(transformed) or []
    if len(outputs) != transformed.shape[1]:
        raise ValueError(
            f"Cannot tell which features the columns after step {step_name!r} ({type(step).__name__}) are, because it "
            "has no get_feature_names_out for them. Give it one (FunctionTransformer has it with "
            "feature_names_out='one-to-one'), or fit the pipeline on a DataFrame and let the step put one out."
        )
    followed = dict(zip(own_names, names, strict=True))
    known = {*own_names, *truth}
    return [followed.get(name, name) for name in (_without_prefix(output, known) for output in outputs)]


def _truth_key(name: str, truth: Mapping[Hashable, Any], columns: Container[str]) -> str:
    """Find the name under which the truth may hold a feature, without taking one column of the data for another."""
    key = _without_prefix(name, truth)
    return name if key in columns else key


def _first_few(names: Sequence[Any]) -> str:
    return ", ".join(repr(name) for name in names[:3]) + (", ..." if len(names) > 3 else "")


class FeatureClusteringScorer:
    """Scorer that compares the clusters of features with their known labels.

    Use :func:`feature_clustering_scorer` to build one.

    Called as ``scorer(estimator, X, y=None)``, it looks for a fitted feature clusterer (an estimator with `predict` and
    `responsibilities_`, such as ``BasisDeVAEClusterer``) in the estimator: directly, or inside nested pipelines,
    searches (their `best_estimator_`) and frozen estimators. It transforms `X` by the steps before the clusterer,
    follows the feature names through them, and compares ``clusterer.predict(X_transformed)``, which labels the columns
    from the rows of `X` alone, with the truth. Cross-validation with it therefore scores what held-out rows say.

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

    def __init__(self, truth: Any, metric: str | Metric = "adjusted_rand_score") -> None:
        _resolve_metric(metric)
        self._truth = _read_truth(truth)
        self._metric = metric

    def __repr__(self) -> str:
        metric = repr(self._metric) if isinstance(self._metric, str) else getattr(self._metric, "__name__", "callable")
        return f"{type(self).__name__}({len(self._truth)} features, metric={metric})"

    def __call__(self, estimator: Any, X: Any, y: Any = None) -> float:
        """Score the fitted estimator's clusters of the columns of X.

        Parameters
        ----------
        estimator : estimator
            A fitted feature clusterer, or a pipeline or search that holds one.

        X : array-like of shape (n_samples, n_features)
            The rows to judge the features by, in the form that `estimator` takes.

        y : None
            Ignored; the truth is about features and is held by the scorer.

        Returns
        -------
        score : float
            The value of the metric on the features with a known label that reach the clusterer.
        """
        steps, clusterer = _split_at_clusterer(estimator)
        if not hasattr(X, "shape"):
            X = np.asarray(X)
        columns = _input_names(estimator, X)
        truth = _truth_by_name(self._truth, columns)
        names = columns
        for step_name, step in steps:
            transformed = step.transform(X)
            names = _output_names(step_name, step, names, transformed, truth)
            X = transformed
        labels = np.asarray(clusterer.predict(X))
        if labels.shape != (len(names),):
            raise ValueError(
                f"{type(clusterer).__name__}.predict gave labels of shape {labels.shape} for {len(names)} columns: a "
                "feature clusterer must label every column."
            )
        keys = [_truth_key(name, truth, columns) for name in names]
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

    The labels of features cannot be passed as `y`, which has an entry per sample. The scorer holds them instead, keyed
    by name, so that they survive steps that drop or reorder features and splits of the rows. Pass it as `scoring` to
    :class:`~sklearn.model_selection.GridSearchCV` or :func:`~sklearn.model_selection.cross_val_score`.

    Parameters
    ----------
    truth : mapping, Series or array-like of shape (n_features,)
        The known label of each feature: a mapping from feature name to label, a :class:`pandas.Series` indexed by
        feature name, or the labels in the order of the columns given to the outermost estimator. Columns without names
        are called "x0", "x1", ... as everywhere in scikit-learn. Features without a label (not there, None, NaN or
        pandas.NA) are left out of the score, as are those that an earlier step drops.

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
    Prefixes that :class:`~sklearn.compose.ColumnTransformer` and :class:`~sklearn.pipeline.FeatureUnion` add
    ("scale__height") are dropped where `truth` does not know the full name. A feature that reaches the clusterer more
    than once counts as often.

    A search inside a pipeline scores the data that reach it. To keep the names of the features on the way there, let
    the steps before it put out data frames: ``set_output(transform="pandas")``.

    References
    ----------
    Danks, D. and Yau, C. (2021). "BasisDeVAE: Interpretable Simultaneous Dimensionality Reduction and Feature-Level
    Clustering with Derivative-Based Variational Autoencoders". ICML. Table 1 reports adjusted Rand indices of features.

    Examples
    --------
    Here a toy clusterer stands in for ``BasisDeVAEClusterer``: it separates the features that go with the first from
    those that go against it.

    >>> import numpy as np
    >>> from sklearn.base import BaseEstimator
    >>> from skdevae.datasets import make_progression
    >>> from skdevae.metrics import feature_clustering_scorer
    >>> class SignClusterer(BaseEstimator):
    ...     def fit(self, X, y=None):
    ...         self.labels_ = self.predict(X)
    ...         self.responsibilities_ = np.eye(2)[self.labels_]
    ...         return self
    ...     def predict(self, X):
    ...         return (np.corrcoef(X, rowvar=False)[0] < 0).astype(int)
    >>> progression = make_progression(n_transient=0, random_state=0)
    >>> scorer = feature_clustering_scorer(dict(zip(progression.feature_names, progression.labels)))
    >>> frame = make_progression(n_transient=0, as_frame=True, random_state=0).data
    >>> scorer(SignClusterer().fit(frame), frame)
    1.0
    """
    return FeatureClusteringScorer(truth, metric)


# ---------------------------------------------------------------------------------------------------------- agreement


def _one_hot(labels: NDArray[Any]) -> NDArray[np.float64]:
    """Certain responsibilities: (D, number of distinct labels)."""
    if labels.dtype.kind == "f":
        raise ValueError(
            "coclustering_matrix was given a one-dimensional array of floats as labels. Labels must be integers or "
            "strings; give responsibilities as an array of shape (n_features, n_clusters)."
        )
    distinct, codes = np.unique(labels, return_inverse=True)
    return np.eye(len(distinct))[codes]


def _check_responsibilities(responsibilities: NDArray[Any]) -> NDArray[np.float64]:
    responsibilities = responsibilities.astype(np.float64)
    # Single precision rounds the sum of a row by about 1e-7 times the number of clusters.
    if not (np.all(responsibilities >= 0) and np.allclose(responsibilities.sum(axis=1), 1, atol=1e-4)):
        raise ValueError(
            "Responsibilities must be probabilities: rows of non-negative numbers that sum to 1, a row per feature. "
            f"Got an array of shape {responsibilities.shape} that are not. Labelings of several restarts belong in a "
            "list of one-dimensional arrays."
        )
    return responsibilities


def _memberships(clustering: Any) -> NDArray[np.float64]:
    """Probability of each feature to be in each cluster, (D, K), from whatever form a clustering has."""
    values = np.asarray(getattr(clustering, "responsibilities_", clustering))
    if values.ndim == 1 and values.dtype.kind != "O":
        return _one_hot(values)
    if values.ndim == 2:
        return _check_responsibilities(values)
    raise ValueError(
        "A clustering must be a fitted feature clusterer, labels of shape (n_features,) or responsibilities of shape "
        f"(n_features, n_clusters); got {type(clustering).__name__} with {values.ndim} dimensions."
    )


def _each_membership(clusterings: Sequence[Any]) -> Iterator[NDArray[np.float64]]:
    n_features = None
    for number, clustering in enumerate(clusterings):
        memberships = _memberships(clustering)
        if n_features is not None and len(memberships) != n_features:
            raise ValueError(
                f"Clustering {number} is of {len(memberships)} features but those before it are of {n_features}: all "
                "must be of the same features in the same order."
            )
        n_features = len(memberships)
        yield memberships


def coclustering_matrix(responsibilities: Any) -> NDArray[np.float64]:
    """Probability that two features are in the same cluster.

    Unlike the labels themselves, these probabilities do not depend on how clusters are numbered, so they can be
    averaged over restarts: pairs that every restart puts together are near 1, pairs that only some do are in between.

    Parameters
    ----------
    responsibilities : array of shape (n_features, n_clusters), estimator, or list or tuple of clusterings
        One clustering: the probability of each feature to be in each cluster, or a fitted feature clusterer, whose
        `responsibilities_` are used, or labels of shape (n_features,). Or several of them in a list or tuple, such as
        one per restart: all of the same features in the same order; numbers of clusters may differ.

    Returns
    -------
    matrix : ndarray of shape (n_features, n_features)
        Symmetric, float64, between 0 and 1, with ones on the diagonal: the sum over clusters of the product of two
        features' responsibilities, averaged over clusterings.

    Raises
    ------
    ValueError
        If a clustering has none of these forms, if responsibilities are not probabilities, if the clusterings differ
        in their number of features, or if there are none.

    References
    ----------
    Danks, D. and Yau, C. (2021). "BasisDeVAE: Interpretable Simultaneous Dimensionality Reduction and Feature-Level
    Clustering with Derivative-Based Variational Autoencoders". ICML. The responsibilities are its q(w).

    Examples
    --------
    >>> import numpy as np
    >>> from skdevae.metrics import coclustering_matrix
    >>> coclustering_matrix(np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]))
    array([[1. , 0.5, 0. ],
           [0.5, 1. , 0.5],
           [0. , 0.5, 1. ]])

    Two restarts agree about the first two features, however they number the clusters:

    >>> coclustering_matrix([np.array([0, 0, 1]), np.array([1, 1, 1])])
    array([[1. , 1. , 0.5],
           [1. , 1. , 0.5],
           [0.5, 0.5, 1. ]])
    """
    clusterings = responsibilities if isinstance(responsibilities, list | tuple) else [responsibilities]
    if not clusterings:
        raise ValueError("coclustering_matrix was given no clusterings: give at least one.")
    # Summed one by one, because a matrix of thousands of features takes hundreds of megabytes.
    total: Any = 0.0
    for memberships in _each_membership(clusterings):
        total = total + memberships @ memberships.T
    matrix: NDArray[np.float64] = np.minimum(total / len(clusterings), 1.0)
    np.fill_diagonal(matrix, 1.0)
    return matrix
