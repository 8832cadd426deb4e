"""Answers of a fitted decoder without an encoder: representations, clusters, likelihoods and simulated rows."""

from __future__ import annotations

from numbers import Integral
from operator import attrgetter
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from .._base.estimator import LatentEstimator
from .._base.lazy_answers import answers_by_rows
from .._base.posterior import Posterior
from .._base.simulation import SAMPLING_CONSTRAINTS
from .._sklearn import Interval, validate_params
from .._typing import CovariatesLike, RandomState, TableLike
from ..inference.laplace import LaplaceInference
from ..nn.models import MixtureModel
from ..table.components import Projection


class RepresentationEstimator(LatentEstimator):
    """A :class:`LatentEstimator` whose model has no encoder: the latent of a sample is the mode of its posterior."""

    n_importance_samples: int
    latent_tol: float
    n_clusters_: int
    #: fields of the linear map that predicts representations, where they started at principal components
    _projection_: dict[str, Any] | None

    def _inference(self) -> LaplaceInference:
        model = cast(MixtureModel, self._float64_module())
        projection = None if self._projection_ is None else Projection(**self._projection_)
        return LaplaceInference(model, self.n_importance_samples, projection, float(self.latent_tol))

    def transform(
        self, X: TableLike, *, size_factors: ArrayLike | None = None, covariates: CovariatesLike = None
    ) -> np.ndarray:
        """Representations of samples: the modes of their posteriors. Decoder and mixture stay as they are.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`fit`; a row without any observed entry gets the mean of the densest component, with a warning.
        size_factors, covariates
            As for :meth:`fit`, of the rows of X.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components)
            Within about ``latent_tol`` nats of the modes. Each row's search is its own, and other rows change it by
            rounding alone. With 500 features or more a search begins in single precision. Then other rows may change
            where within ``latent_tol`` nats of the mode it ends. A table of Dask has a lazy answer: an array of Dask in
            the same blocks of rows, or a data frame by :meth:`set_output`.

        Warns
        -----
        UserWarning
            With the count and the first of rows beyond the range of the training samples: the model describes them
            worse than any of these samples, at their modes. A margin, which the training samples set, lets rows like
            these pass.

        Examples
        --------
        >>> from skdevae import DGDEmbedder
        >>> from skdevae.datasets import make_cell_clusters
        >>> cells = make_cell_clusters(60, 30, weights=[2, 1], random_state=0)
        >>> dgd = DGDEmbedder(n_components=2, n_clusters=2, likelihood="nb", max_epochs=8, random_state=0)
        >>> dgd.fit(cells.data[:50]).transform(cells.data[50:]).shape
        (10, 2)
        """
        return super().transform(X, size_factors=size_factors, covariates=covariates)

    @answers_by_rows(dtype=np.intp)
    def predict(
        self, X: TableLike, *, size_factors: ArrayLike | None = None, covariates: CovariatesLike = None
    ) -> np.ndarray:
        """The most probable component of every sample.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`.
        size_factors, covariates
            As for :meth:`fit`, of the rows of X.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Positions in ``weights_``, and of classes in ``classes_``. A table of Dask has a lazy answer.

        Examples
        --------
        >>> from skdevae import DGDEmbedder
        >>> from skdevae.datasets import make_cell_clusters
        >>> cells = make_cell_clusters(60, 30, weights=[2, 1], random_state=0)
        >>> dgd = DGDEmbedder(n_components=2, n_clusters=2, likelihood="nb", max_epochs=8, random_state=0)
        >>> dgd = dgd.fit(cells.data)
        >>> bool((dgd.predict(cells.data) == dgd.labels_).all())
        True
        """
        return self.predict_proba(X, size_factors=size_factors, covariates=covariates).argmax(1)

    @answers_by_rows(n_columns=attrgetter("n_clusters_"), dtype=np.float64)
    def predict_proba(
        self, X: TableLike, *, size_factors: ArrayLike | None = None, covariates: CovariatesLike = None
    ) -> np.ndarray:
        """Probability of every component, given a sample.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`.
        size_factors, covariates
            As for :meth:`fit`, of the rows of X.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, ``n_clusters_``)
            ``p(k | x)``: ``p(k | z)`` averaged over the posterior of the latent, by the draws of :meth:`score_samples`.
            Each row adds up to one. A table of Dask has a lazy answer.

        Examples
        --------
        >>> from skdevae import DGDEmbedder
        >>> from skdevae.datasets import make_cell_clusters
        >>> cells = make_cell_clusters(60, 30, weights=[2, 1], random_state=0)
        >>> dgd = DGDEmbedder(n_components=2, n_clusters=2, likelihood="nb", max_epochs=8, random_state=0)
        >>> probabilities = dgd.fit(cells.data[:50]).predict_proba(cells.data[50:])
        >>> bool((abs(probabilities.sum(axis=1) - 1) < 1e-6).all())
        True
        """
        _, source, inference = self._for_inference(X, size_factors, covariates)
        return cast(LaplaceInference, inference).responsibilities(source).cpu().numpy()

    def posterior(
        self,
        X: TableLike,
        *,
        size_factors: ArrayLike | None = None,
        covariates: CovariatesLike = None,
        credible_level: float = 0.95,
    ) -> Posterior:
        """Laplace's approximation of the posterior: the representation, and the expected curvature there.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`.
        size_factors, covariates
            As for :meth:`fit`, of the rows of X.
        credible_level : float, default=0.95
            Posterior probability of the interval from ``lower`` to ``upper``.

        Returns
        -------
        posterior : Posterior
            With ``mean`` (the mode), ``sd``, ``lower`` and ``upper``, each of shape (n_samples, n_components), and
            ``beyond_training``, which marks the rows that :meth:`transform` warns of. Exact for a linear
            gaussian decoder and one component.

        Examples
        --------
        >>> from skdevae import DGDEmbedder
        >>> from skdevae.datasets import make_cell_clusters
        >>> cells = make_cell_clusters(60, 30, weights=[2, 1], random_state=0)
        >>> dgd = DGDEmbedder(n_components=2, n_clusters=2, likelihood="nb", max_epochs=8, random_state=0)
        >>> posterior = dgd.fit(cells.data[:50]).posterior(cells.data[50:])
        >>> posterior.mean.shape, bool((posterior.lower < posterior.upper).all())
        ((10, 2), True)
        """
        return super().posterior(X, size_factors=size_factors, covariates=covariates, credible_level=credible_level)

    # ---- likelihoods ------------------------------------------------------------------------------------------------

    def score_samples(
        self, X: TableLike, *, size_factors: ArrayLike | None = None, covariates: CovariatesLike = None
    ) -> np.ndarray:
        """Log-likelihood of every sample, integrated over the latent.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`. Missing entries are integrated out.
        size_factors, covariates
            As for :meth:`fit`, of the rows of X.

        Returns
        -------
        log_likelihood : ndarray of shape (n_samples,)
            log p(x) in nats, in the units of X. With size factors it is that of the counts given these: it compares
            with models of the same size factors alone, and with ``"sum"`` it does not add up to one over all x. It is
            estimated from quasi-random draws, always the same ones, around every mode of a sample's posterior that is
            found from several starts, and a few from the prior. Where they fit badly, others are taken. The estimate is
            exact for a linear gaussian decoder and one component; otherwise a lower bound on average, with 500 draws
            some thousandths of a nat too low. A warning tells if fewer than a tenth of a sample's draws are effective.
            A table of Dask has a lazy answer.

        Examples
        --------
        >>> from skdevae import DGDEmbedder
        >>> from skdevae.datasets import make_cell_clusters
        >>> cells = make_cell_clusters(60, 30, weights=[2, 1], random_state=0)
        >>> dgd = DGDEmbedder(n_components=2, n_clusters=2, likelihood="nb", max_epochs=8, random_state=0)
        >>> dgd.fit(cells.data[:50]).score_samples(cells.data[50:]).shape  # nats, one a sample
        (10,)
        """
        return super().score_samples(X, size_factors=size_factors, covariates=covariates)

    def elbo(self, X: TableLike, *, size_factors: ArrayLike | None = None, covariates: CovariatesLike = None) -> float:
        """Evidence lower bound with Laplace's approximation as the posterior, in nats per sample.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`.
        size_factors, covariates
            As for :meth:`fit`, of the rows of X.

        Returns
        -------
        elbo : float
            Mean of ``E_q[log p(x, z) - log q(z)]``, from quasi-random draws. The less Gaussian the posteriors, the
            farther it is below :meth:`score`.

        Examples
        --------
        >>> from skdevae import DGDEmbedder
        >>> from skdevae.datasets import make_cell_clusters
        >>> cells = make_cell_clusters(60, 30, weights=[2, 1], random_state=0)
        >>> dgd = DGDEmbedder(n_components=2, n_clusters=2, likelihood="nb", max_epochs=8, random_state=0)
        >>> dgd = dgd.fit(cells.data)
        >>> dgd.elbo(cells.data) < dgd.score(cells.data)
        True
        """
        return super().elbo(X, size_factors=size_factors, covariates=covariates)

    def conditional_log_likelihood(
        self, X: TableLike, *, size_factors: ArrayLike | None = None, covariates: CovariatesLike = None
    ) -> float:
        """log p(x | z) at the representations, in nats per sample: the negative of the DGD paper's NLL.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`.
        size_factors, covariates
            As for :meth:`fit`, of the rows of X.

        Returns
        -------
        log_likelihood : float
            Not a likelihood of held-out data: z has seen them. Use :meth:`score` to compare models.

        Examples
        --------
        >>> from skdevae import DGDEmbedder
        >>> from skdevae.datasets import make_cell_clusters
        >>> cells = make_cell_clusters(60, 30, weights=[2, 1], random_state=0)
        >>> dgd = DGDEmbedder(n_components=2, n_clusters=2, likelihood="nb", max_epochs=8, random_state=0)
        >>> dgd = dgd.fit(cells.data)
        >>> dgd.conditional_log_likelihood(cells.data) > dgd.score(cells.data)
        True
        """
        return super().conditional_log_likelihood(X, size_factors=size_factors, covariates=covariates)

    # ---- simulation -------------------------------------------------------------------------------------------------

    @validate_params(
        {**SAMPLING_CONSTRAINTS, "cluster": [None, Interval(Integral, 0, None, closed="left")]},
        prefer_skip_nested_validation=True,
    )
    def sample(
        self,
        n_samples: int = 1,
        random_state: RandomState = None,
        *,
        covariates: CovariatesLike = None,
        cluster: int | None = None,
    ) -> np.ndarray:
        """Draw samples from the fitted model: the latent from the mixture, then the features.

        Parameters
        ----------
        n_samples : int, default=1
            Number of samples.
        random_state : int, RandomState instance or None, default=None
            Source of the draws; the same seed gives the same samples.
        covariates : array-like, Series, DataFrame or dict, default=None
            Covariates of the samples, as for :meth:`inverse_transform`.
        cluster : int, default=None
            The component that all of them come from. None draws from the whole mixture.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            In the units of the training table.

        Examples
        --------
        >>> from skdevae import DGDEmbedder
        >>> from skdevae.datasets import make_cell_clusters
        >>> cells = make_cell_clusters(60, 30, weights=[2, 1], random_state=0)
        >>> dgd = DGDEmbedder(n_components=2, n_clusters=2, likelihood="nb", max_epochs=8, random_state=0)
        >>> dgd.fit(cells.data).sample(100, random_state=0).shape
        (100, 30)
        """
        module, generator = self._for_sampling(random_state)
        mixture = module.latent_prior()
        if cluster is not None:
            if cluster >= self.n_clusters_:
                raise ValueError(f"cluster={cluster}, but the mixture has components 0 to {self.n_clusters_ - 1}.")
            mixture = mixture.component(int(cluster))
        return self._simulated(module, mixture, int(n_samples), generator, covariates)
