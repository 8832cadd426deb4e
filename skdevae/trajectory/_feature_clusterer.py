"""FeatureClusterer: what the estimators that cluster features have in common."""

from __future__ import annotations

from abc import abstractmethod
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import softmax
from sklearn.utils.validation import check_is_fitted

from .._base.fitting import LatentVariableModel
from .._base.given_axis import GivenAxisMixin
from .._base.level_curves import LevelCurvesMixin
from .._base.partial_fit import StreamingMixin
from .._base.uncertain_curves import UncertainCurvesMixin
from .._sklearn import Interval, StrOptions, is_cross_val_predict_asking
from .._typing import Assignment, CovariatesLike, TableLike
from .._warnings import warn_user
from ..inference.columns import column_evidence
from ..metrics import coclustering_matrix
from ..nn.cluster_prior import ASSIGNMENTS
from ..nn.models import GenerativeModel
from ..table.source import RowSource


class FeatureClusterer(GivenAxisMixin, StreamingMixin, UncertainCurvesMixin):
    """Base of estimators in which every feature chooses between K candidate curves."""

    alpha: float
    assignment: Assignment
    gamma: float

    _features_follow_curves: ClassVar[bool] = True
    _scales_dispersion: ClassVar[bool] = True
    _parameter_constraints: ClassVar[dict] = {
        **LatentVariableModel._parameter_constraints,
        **LatentVariableModel._grid_constraints,
        **LatentVariableModel._size_factor_constraints,
        **LatentVariableModel._covariate_constraints,
        **LevelCurvesMixin._interaction_constraints,
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "assignment": [StrOptions(set(ASSIGNMENTS))],
        "gamma": [Interval(Real, 0, None, closed="neither")],
    }

    # ---- hooks of the base class ----------------------------------------------------------------------------------

    @abstractmethod
    def _n_clusters(self) -> int:
        """Number K of candidate curves."""

    def _assignment_config(self) -> dict[str, Any]:
        return {"name": self.assignment, "n_clusters": self._n_clusters(), "alpha": float(self.alpha)}

    def _store_results(self) -> None:
        super()._store_results()
        responsibilities = self.module_.assignment.responsibilities.double().cpu().numpy()
        n_clusters = responsibilities.shape[1]
        counts = responsibilities.sum(0) + self.alpha
        uniform = np.full(n_clusters, 1 / n_clusters)
        self.cluster_weights_ = uniform if self.assignment == "fixed" else counts / counts.sum()
        self.responsibilities_ = self._with_constants(responsibilities)
        self.labels_ = self._labels_with_constants(self.module_.labels.cpu().numpy())

    def _constant_columns(self) -> np.ndarray:
        """Numbers of the columns that are flat without a doubt: those of one value only, if features may be flat."""
        columns = self._reader_.columns
        flat = self.module_.flat_candidate
        return columns.left_out[:0] if flat is None else np.setdiff1d(columns.left_out, columns.unobserved)

    def _with_constants(self, probabilities: np.ndarray) -> np.ndarray:
        """Probabilities of clusters (D', K) of columns that the model sees, with those of the others: (D, K).

        Nothing is known of the others but the weights of the clusters, or that they are flat.
        """
        probabilities = self._reader_.columns.spread(probabilities, self.cluster_weights_[:, None], axis=0)
        constant = self._constant_columns()
        if len(constant):
            probabilities[constant] = np.eye(probabilities.shape[1])[self.module_.flat_candidate]
        return probabilities

    def _labels_with_constants(self, labels: np.ndarray) -> np.ndarray:
        """Labels (D',) of columns that the model sees, with those of the others, which are flat or -1: (D,)."""
        labels = self._reader_.columns.spread(labels, np.int64(-1))
        if self.module_.flat_candidate is not None:
            labels[self._constant_columns()] = self.module_.flat_candidate
        return labels

    def _column_evidence(self, model: GenerativeModel, source: RowSource) -> np.ndarray:
        """Evidence of each column for each cluster: (D, K)."""
        return column_evidence(model, source).cpu().numpy()

    # ---- clusters of the columns ------------------------------------------------------------------------------------

    def predict_features_proba(
        self, X: TableLike, *, size_factors: ArrayLike | None = None, covariates: CovariatesLike = None
    ) -> np.ndarray:
        """Probability of each cluster for every column of X, judged on X itself.

        The curves of the fit place the rows of X on the axis. Then every column is judged anew, as in the fit. On
        held-out rows this shows how well the clusters generalise.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`.
        size_factors, covariates
            As for :meth:`fit`, of the rows of X.

        Returns
        -------
        probabilities : ndarray of shape (n_features, n_clusters)
            One row for every *column* of X. Columns are in the order of the clusters. A column that was left out of the
            fit has the weights of the clusters.

        Examples
        --------
        >>> from skdevae import BasisDeVAEClusterer
        >>> from skdevae.datasets import make_progression
        >>> X = make_progression(80, n_transient=2, n_increasing=2, n_decreasing=2, random_state=0).data
        >>> model = BasisDeVAEClusterer(n_clusters=3, max_epochs=5, random_state=0).fit(X[:60])
        >>> model.predict_features_proba(X[60:]).shape
        (6, 3)
        """
        _, source, inference = self._for_inference(X, size_factors, covariates)
        evidence = self._column_evidence(inference.model, source)
        probabilities = softmax(evidence / inference.model.gamma + np.log(self.cluster_weights_), axis=1)
        return self._with_constants(probabilities)

    def predict_features(
        self, X: TableLike, *, size_factors: ArrayLike | None = None, covariates: CovariatesLike = None
    ) -> np.ndarray:
        """Most probable cluster of every column of X, judged on X itself.

        It is not called ``predict`` because it labels columns. Whatever calls ``predict``, as
        :func:`~sklearn.model_selection.cross_val_predict` does, expects an answer for each row. For the same reason
        scikit-learn's own :class:`~sklearn.cluster.FeatureAgglomeration` has no ``predict``. After a
        :class:`~sklearn.pipeline.Pipeline`, write ``pipeline[-1].predict_features(pipeline[:-1].transform(X))``. To
        compare labels of held-out rows with known ones, in searches too, use
        :func:`skdevae.metrics.feature_clustering_scorer`.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`.
        size_factors, covariates
            As for :meth:`fit`, of the rows of X.

        Returns
        -------
        labels : ndarray of shape (n_features,)
            Number of the cluster of every *column* of X; -1 for columns of which the fit has learned nothing.

        Examples
        --------
        >>> from skdevae import BasisDeVAEClusterer
        >>> from skdevae.datasets import make_progression
        >>> X = make_progression(80, n_transient=2, n_increasing=2, n_decreasing=2, random_state=0).data
        >>> model = BasisDeVAEClusterer(n_clusters=3, max_epochs=5, random_state=0).fit(X[:60])
        >>> model.predict_features(X[60:]).shape
        (6,)
        """
        probabilities = self.predict_features_proba(X, size_factors=size_factors, covariates=covariates)
        return self._labels_with_constants(self._reader_.columns.of(probabilities.argmax(1)))

    def feature_labels(self, threshold: float = 0.8) -> np.ndarray:
        """Name of each feature's cluster, where it is sure enough.

        Parameters
        ----------
        threshold : float, default=0.8
            Least probability of a cluster to be named.

        Returns
        -------
        names : ndarray of shape (n_features,)
            Entries of ``cluster_names_``, as strings. Features whose most probable cluster has a probability below the
            threshold are ``"uncertain"``. Features with label -1 are ``"unobserved"``, or ``"constant"`` where they had
            one value in training and no cluster is flat.

        Raises
        ------
        ValueError
            If the threshold is not between 0 and 1.

        Examples
        --------
        >>> from skdevae import BasisDeVAEClusterer
        >>> from skdevae.datasets import make_progression
        >>> X = make_progression(60, n_increasing=2, n_decreasing=2, n_transient=0, random_state=0).data
        >>> clusterer = BasisDeVAEClusterer(max_epochs=20, orientation=0, random_state=0).fit(X)
        >>> clusterer.feature_labels(threshold=0.8).tolist()
        ['increasing', 'increasing', 'decreasing', 'decreasing']
        """
        check_is_fitted(self)
        if not isinstance(threshold, Real) or not 0 <= threshold <= 1:
            raise ValueError(f"threshold={threshold!r}: give a probability, between 0 and 1.")
        names = np.array([str(name) for name in self.cluster_names_], dtype=object)[self.labels_]
        names = np.where(self.responsibilities_.max(1) >= threshold, names, "uncertain")
        names[self.labels_ < 0] = "constant"
        names[self._reader_.columns.unobserved] = "unobserved"
        return names

    def coclustering_matrix(self) -> np.ndarray:
        """Probability that two features belong to the same cluster.

        Returns
        -------
        probabilities : ndarray of shape (n_features, n_features)
            ``responsibilities_ @ responsibilities_.T`` off the diagonal, and 1 on it.

        Examples
        --------
        >>> from skdevae import BasisDeVAEClusterer
        >>> from skdevae.datasets import make_progression
        >>> X = make_progression(60, n_increasing=2, n_decreasing=2, n_transient=0, random_state=0).data
        >>> clusterer = BasisDeVAEClusterer(max_epochs=20, orientation=0, random_state=0).fit(X)
        >>> clusterer.coclustering_matrix().round().astype(int)
        array([[1, 1, 0, 0],
               [1, 1, 0, 0],
               [0, 0, 1, 1],
               [0, 0, 1, 1]])
        """
        check_is_fitted(self)
        return coclustering_matrix(self.responsibilities_)

    # ---- older names, which scikit-learn takes for labels of rows ---------------------------------------------------

    def predict(
        self, X: TableLike, *, size_factors: ArrayLike | None = None, covariates: CovariatesLike = None
    ) -> np.ndarray:
        """Older name of :meth:`predict_features`, which labels the columns of X and not its rows.

        .. deprecated:: 0.1
            It ends in version 0.2. Use :meth:`predict_features`.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`.
        size_factors, covariates
            As for :meth:`fit`, of the rows of X.

        Returns
        -------
        labels : ndarray of shape (n_features,)
            Number of the cluster of every *column* of X; -1 for columns of which the fit has learned nothing.

        Raises
        ------
        ValueError
            If :func:`~sklearn.model_selection.cross_val_predict` asks, which expects an answer for every row.
        """
        self._warn_of_older_name("predict", "predict_features(X)")
        return self.predict_features(X, size_factors=size_factors, covariates=covariates)

    def predict_proba(
        self, X: TableLike, *, size_factors: ArrayLike | None = None, covariates: CovariatesLike = None
    ) -> np.ndarray:
        """Older name of :meth:`predict_features_proba`, which judges the columns of X and not its rows.

        .. deprecated:: 0.1
            It ends in version 0.2. Use :meth:`predict_features_proba`.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`.
        size_factors, covariates
            As for :meth:`fit`, of the rows of X.

        Returns
        -------
        probabilities : ndarray of shape (n_features, n_clusters)
            One row for every *column* of X. Columns are in the order of the clusters. A column that was left out of the
            fit has the weights of the clusters.

        Raises
        ------
        ValueError
            If :func:`~sklearn.model_selection.cross_val_predict` asks, which expects an answer for every row.
        """
        self._warn_of_older_name("predict_proba", "predict_features_proba(X)")
        return self.predict_features_proba(X, size_factors=size_factors, covariates=covariates)

    def fit_predict(self, X: TableLike, y: Any = None, **fit_params: Any) -> np.ndarray:
        """Older way to write ``fit(X).labels_``, which are labels of the columns of X and not of its rows.

        .. deprecated:: 0.1
            It ends in version 0.2. Use ``fit(X).labels_``.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`fit`.
        y : ignored
            Present for API consistency.
        **fit_params
            Passed on to :meth:`fit`.

        Returns
        -------
        labels : ndarray of shape (n_features,)
            ``labels_``.
        """
        self._warn_of_older_name("fit_predict", "fit(X).labels_")
        return self.fit(X, y, **fit_params).labels_

    def _warn_of_older_name(self, older: str, newer: str) -> None:
        """Warn where an older name is called; a ValueError where scikit-learn would take columns for rows."""
        if is_cross_val_predict_asking():
            raise ValueError(
                f"cross_val_predict joins answers about the rows that each fold holds out, but {older} of "
                f"{type(self).__name__} labels the columns of X. Write a loop over the folds instead: "
                f"model.fit(X[train]).{newer.replace('(X)', '(X[test])')} for clusters of the columns, "
                "model.fit(X[train]).transform(X[test]) for positions of the rows. To score clusters of the columns, "
                "give skdevae.metrics.feature_clustering_scorer to cross_val_score."
            )
        warn_user(
            f"{older} of {type(self).__name__} labels the columns of X, where scikit-learn expects labels of its rows. "
            f"Write {newer} instead. The name {older} ends in skdevae 0.2.",
            FutureWarning,
        )
