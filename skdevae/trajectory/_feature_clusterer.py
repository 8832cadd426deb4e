"""What the estimators that cluster features have in common."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from scipy.special import softmax
from sklearn.utils.validation import check_is_fitted

from .._base.fitting import LatentVariableModel
from .._sklearn import Interval, StrOptions
from ..inference.evaluation import column_evidence
from ..metrics import coclustering_matrix
from ..nn.cluster_prior import ASSIGNMENTS


class FeatureClusterer(LatentVariableModel):
    """Base of estimators in which every feature chooses between K candidate curves."""

    _parameter_constraints: ClassVar[dict] = {
        **LatentVariableModel._parameter_constraints,
        **LatentVariableModel._grid_constraints,
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "assignment": [StrOptions(set(ASSIGNMENTS))],
        "gamma": [Interval(Real, 0, None, closed="neither")],
    }

    def _n_clusters(self) -> int:
        """K."""
        raise NotImplementedError

    def _assignment_config(self) -> dict[str, Any]:
        return {"name": self.assignment, "n_clusters": self._n_clusters(), "alpha": float(self.alpha)}

    def _store_results(self) -> None:
        super()._store_results()
        module = self.module_
        self.responsibilities_ = module.assignment.responsibilities.double().cpu().numpy()
        self.labels_ = module.labels.cpu().numpy()
        n_features, n_clusters = self.responsibilities_.shape
        self.cluster_weights_ = (self.responsibilities_.sum(0) + self.alpha) / (n_features + self.alpha * n_clusters)

    # ---- columns --------------------------------------------------------------------------------------------------

    def predict_proba(self, X):
        """Probability of each cluster for every column of X, from X's own evidence.

        The curves, and what they imply for the latents of the rows of X, are those of the fit; how well each curve of a
        column describes that column is judged on X. On held-out rows this measures how well the clusters generalise.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`.

        Returns
        -------
        probabilities : ndarray of shape (n_features, n_clusters)
            One row for every *column* of X; columns in the order of the clusters.
        """
        module, source, _ = self._for_inference(X)
        evidence = column_evidence(module, source).cpu().numpy()
        return softmax(evidence + np.log(self.cluster_weights_), axis=1)

    def predict(self, X):
        """Most probable cluster of every column of X, from X's own evidence.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`.

        Returns
        -------
        labels : ndarray of shape (n_features,)
            Numbers of the clusters, one for every *column* of X.
        """
        return self.predict_proba(X).argmax(1)

    def coclustering_matrix(self):
        """Probability that two features belong to the same cluster.

        Returns
        -------
        probabilities : ndarray of shape (n_features, n_features)
            ``responsibilities_ @ responsibilities_.T`` off the diagonal, and 1 on it.
        """
        check_is_fitted(self)
        return coclustering_matrix(self.responsibilities_)

    def fit_predict(self, X, y=None, **fit_params):
        """Fit, and return the labels of the columns of X.

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
        return self.fit(X, y, **fit_params).labels_
