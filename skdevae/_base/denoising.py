"""Denoising: ``predict`` of estimators whose prediction is the table itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from .._typing import CovariatesLike, TableLike
from .lazy_answers import LazyAnswersMixin, answers_by_rows

if TYPE_CHECKING:
    from .estimator import LatentEstimator


class DenoisingMixin(LazyAnswersMixin):
    """Adds a ``predict`` that gives the table without its noise."""

    @answers_by_rows(n_columns=lambda estimator: len(estimator.modelled_columns_))
    def predict(  # type: ignore[misc]  # a mixin of such estimators
        self: LatentEstimator, X: TableLike, *, size_factors: ArrayLike | None = None, covariates: CovariatesLike = None
    ) -> np.ndarray:
        """The table as the model expects it, given each sample's latent: X without its noise, and without gaps.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`.
        size_factors, covariates
            As for :meth:`fit`, of the rows of X.

        Returns
        -------
        X_expected : ndarray of shape (n_samples, n_features)
            Expected value of every entry at the posterior mean of its sample's latent (and its size factor, where there
            are any), in the units of X. A table of Dask has a lazy answer.

        Examples
        --------
        >>> import numpy as np
        >>> from skdevae import DeVAETransformer
        >>> from skdevae.datasets import make_progression
        >>> progression = make_progression(60, random_state=0)
        >>> X, gap = progression.data.copy(), progression.data[0, 0]
        >>> X[0, 0] = np.nan
        >>> model = DeVAETransformer(max_epochs=20, random_state=0).fit(X)
        >>> by_model, by_mean = model.predict(X)[0, 0], np.nanmean(X[:, 0])
        >>> bool(abs(by_model - gap) < abs(by_mean - gap))  # the better guess
        True
        """
        table, source, inference = self._for_inference(X, size_factors, covariates)
        return table.in_user_units(inference.expected_table(source, inference.mean(source)))
