"""Answers: what a fitted model says of a table, from latents and likelihoods to rows made comparable."""

from __future__ import annotations

from numbers import Real
from operator import attrgetter, methodcaller
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import gen_batches
from torch import Tensor

from .._sklearn import Interval, available_if, validate_params
from .._typing import CovariatesLike, TableLike
from .._warnings import warn_user
from ..inference import Inference, Placement, TrainingRange, warn_of_rows_beyond
from ..nn.likelihoods import LIKELIHOODS
from ..nn.row_context import EMPTY
from ..table.source import RowSource
from ..table.stored import is_sparse
from ..table.table import Table, Values
from ..table.validation import rows_without_entries
from ..table.weighted_rows import checked_weights
from .adjusting import adjusted
from .lazy_answers import answers_by_rows, averages_rows, fits_before
from .posterior import Posterior
from .simulation import SimulationMixin, float64_like, require_density

#: rows whose expected values are held at a time
_ROWS = 1024


class Query(NamedTuple):
    """A user's table together with what answers questions about it."""

    table: Table
    source: RowSource
    inference: Inference


def in_finite_nats(table: Table, values: Tensor) -> np.ndarray:
    """Log densities of the rows (N,) in the model's units, in the user's; a ValueError where one is no number."""
    nats = table.in_user_nats(values)
    lost = np.nonzero(~np.isfinite(nats))[0]
    if len(lost):
        raise ValueError(
            f"The likelihood of {len(lost)} samples (the first is row {lost[0]}) is beyond what floating-point numbers "
            "hold: they lie too far from all that the model was fitted to. Look for wrong units or errors in these "
            "rows, or leave them out."
        )
    return nats


class AnswersMixin(SimulationMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """Base of all estimators: what a fitted model answers about a table.

    Answers are in float64, and independent of how rows are batched.
    """

    # Fitted state that answers read.
    #: what the module was built from: plain values
    _config_: dict[str, Any]
    #: what the training rows were like, with a margin
    _training_range_: TrainingRange

    def _inference(self) -> Inference:
        raise NotImplementedError

    def _read(self, X: TableLike, size_factors: ArrayLike | None = None, covariates: CovariatesLike = None) -> Table:
        raise NotImplementedError

    def _feature_names(self) -> np.ndarray | None:
        raise NotImplementedError

    def _for_inference(
        self, X: TableLike, size_factors: ArrayLike | None = None, covariates: CovariatesLike = None
    ) -> Query:
        table = self._read(X, size_factors, covariates)
        if not is_sparse(table.values):
            empty = rows_without_entries(table.values)
            if len(empty):
                warn_user(
                    f"{len(empty)} rows have no observed entry (the first is row {empty[0]}): their latent is the "
                    "prior's."
                )
            self._reader_.units.check_reach(table.values, self._feature_names())
        inference = self._inference()
        return Query(table, table.source(float64_like(inference.model)), inference)

    @answers_by_rows(n_columns=attrgetter("_n_features_out"), names=methodcaller("get_feature_names_out"))
    def transform(
        self, X: TableLike, *, size_factors: ArrayLike | None = None, covariates: CovariatesLike = None
    ) -> np.ndarray:
        """Posterior mean of the latent.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`fit`; a row without any observed entry gets the prior's mean, with a warning.
        size_factors, covariates
            As for :meth:`fit`, of the rows of X.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components)
            In units of a standard normal prior's standard deviation; other priors have units of their own. A table of
            Dask has a lazy answer: an array of Dask in the same blocks of rows, or a data frame by :meth:`set_output`.

        Warns
        -----
        UserWarning
            With the count and the first of rows beyond the range of the training samples: their latents lie farther
            out than both these samples' and ``z_max``, or the model describes them worse than any of these samples. A
            margin, which the training samples set, lets rows like these pass.

        Examples
        --------
        >>> import numpy as np
        >>> from skdevae import DeVAETransformer
        >>> from skdevae.datasets import make_progression
        >>> progression = make_progression(60, random_state=0)
        >>> model = DeVAETransformer(max_epochs=5, random_state=0).fit(progression.data)
        >>> Z = model.transform(progression.data)
        >>> Z.shape
        (60, 1)
        >>> bool(abs(np.corrcoef(Z[:, 0], progression.times)[0, 1]) > 0.9)  # the time that X does not name
        True
        """
        table, source, inference = self._for_inference(X, size_factors, covariates)
        placement = inference.placed(source)
        self._beyond_training(inference, source, placement)
        return table.in_user_dtype(placement.position)

    def _beyond_training(self, inference: Inference, source: RowSource, placement: Placement) -> np.ndarray:
        """Which rows lie beyond the training range, (N,) of booleans; with a warning where there are any."""
        beyond = self._training_range_.beyond(inference.model, source, placement)
        warn_of_rows_beyond(beyond)
        return beyond

    @fits_before("transform")
    def fit_transform(self, X: TableLike, y: Any = None, **facts: Any) -> np.ndarray:
        """Fit the model, and return the latents of the samples.

        Parameters
        ----------
        X, y
            As for :meth:`fit`.
        **facts
            Passed on to :meth:`fit`, and those that :meth:`transform` takes to that.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components)
            As :meth:`transform` gives them.

        Examples
        --------
        >>> from skdevae import DeVAETransformer
        >>> from skdevae.datasets import make_progression
        >>> X = make_progression(60, as_frame=True, random_state=0).data
        >>> model = DeVAETransformer(max_epochs=5, random_state=0).set_output(transform="pandas")
        >>> list(model.fit_transform(X))
        ['devaetransformer0']
        """
        of_rows = {name: facts[name] for name in ("size_factors", "covariates") if name in facts}
        return cast(Any, self).fit(X, y, **facts).transform(X, **of_rows)

    @available_if(require_density)
    @validate_params({"credible_level": [Interval(Real, 0, 1, closed="neither")]}, prefer_skip_nested_validation=True)
    def posterior(
        self,
        X: TableLike,
        *,
        size_factors: ArrayLike | None = None,
        covariates: CovariatesLike = None,
        credible_level: float = 0.95,
    ) -> Posterior:
        """Posterior of the latent: mean, standard deviation and central credible interval of every sample.

        It is conditional on the fitted curves: it takes them for the true ones.

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
            With ``mean``, ``sd``, ``lower`` and ``upper``, each of shape (n_samples, n_components), and
            ``beyond_training``, which marks the rows that :meth:`transform` warns of. ``pd.DataFrame(posterior)`` is
            a table of them all, with the index of X. Exact for ``inference="exact"``, and for models with an encoder
            that have one component, a standard normal prior and, but for ``"poisson"`` and for ``"nb"`` along an axis,
            no size factors. For other models with an encoder, it is the encoder's Gaussian, or what flows make of it,
            where a sample is complete. An encoder knows little of samples with missing entries, or far from all others:
            theirs is estimated from weighted draws, as in :meth:`score_samples`.

        Examples
        --------
        >>> import pandas as pd
        >>> from skdevae import VAETransformer
        >>> from skdevae.datasets import make_progression
        >>> X = make_progression(60, random_state=0).data
        >>> model = VAETransformer(n_components=1, max_epochs=5, random_state=0).fit(X)
        >>> posterior = model.posterior(X, credible_level=0.9)
        >>> bool(((posterior.lower < posterior.mean) & (posterior.mean < posterior.upper)).all())
        True
        >>> pd.DataFrame(posterior).shape
        (60, 5)
        """
        table, source, inference = self._for_inference(X, size_factors, covariates)
        fields, placement = inference.placed_posterior(source, credible_level)
        beyond = self._beyond_training(inference, source, placement)
        mean, sd, lower, upper = (table.in_user_dtype(field) for field in fields)
        return Posterior(mean, sd, lower, upper, beyond)

    @available_if(require_density)
    @answers_by_rows(dtype=np.float64)
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
            log p(x) in nats, in the units of X. Where the model has size factors, it is that of the counts given the
            size factors: it compares with models of the same size factors alone, and with ``"sum"``, whose size factors
            know of the counts, it does not add up to one over all x.
            With exact inference it is an integral on a grid, accurate to 1e-4. So it is for models with an encoder and
            one component, if they have a standard normal prior, and rows share a grid: with size factors they do with
            ``"poisson"``, and with ``"nb"`` along an axis. Otherwise, and for posteriors too narrow for a grid of two
            dimensions, it is estimated from quasi-random draws around each sample's posterior mode, always the same
            ones. The estimate is a lower bound on average: too low by some hundredths of a nat where posteriors have
            several modes, as under mixture priors. Where features choose between curves, each follows its most probable
            one. A table of Dask has a lazy answer.

        Examples
        --------
        >>> import numpy as np
        >>> from skdevae import DeVAETransformer
        >>> from skdevae.datasets import make_progression
        >>> X = make_progression(60, random_state=0).data
        >>> model = DeVAETransformer(max_epochs=5, random_state=0).fit(X)
        >>> gaps = X.copy()
        >>> gaps[0, :25] = np.nan
        >>> bool(np.isfinite(model.score_samples(gaps)).all())  # the likelihood of what is there
        True
        >>> bool(np.isclose(model.score_samples(X).mean(), model.score(X)))
        True
        """
        table, source, inference = self._for_inference(X, size_factors, covariates)
        values, placement = inference.placed_log_evidence(source)
        nats = in_finite_nats(table, values)
        self._beyond_training(inference, source, placement)
        return nats

    @available_if(require_density)
    @averages_rows
    def score(
        self,
        X: TableLike,
        y: Any = None,
        *,
        sample_weight: ArrayLike | None = None,
        size_factors: ArrayLike | None = None,
        covariates: CovariatesLike = None,
    ) -> float:
        """Mean of :meth:`score_samples`: held-out log-likelihood in nats per sample.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`.
        y : ignored
            Present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each sample counts in the mean. None means once.
        size_factors, covariates
            As for :meth:`fit`, of the rows of X.

        Returns
        -------
        score : float
            Higher is better, among models that are given the same size factors, if any. Of a table of Dask it is
            computed at once, block by block; and so are :meth:`elbo` and :meth:`conditional_log_likelihood`.

        Examples
        --------
        >>> from skdevae import DeVAETransformer, VAETransformer
        >>> from skdevae.datasets import make_progression
        >>> X = make_progression(100, random_state=0).data
        >>> curved = DeVAETransformer(max_epochs=20, random_state=0).fit(X[:60])
        >>> straight = VAETransformer(n_components=1, hidden_layer_sizes=(), max_epochs=20, random_state=0).fit(X[:60])
        >>> curved.score(X[60:]) > straight.score(X[60:])  # in nats per sample, on samples that neither has seen
        True
        """
        values = self.score_samples(X, size_factors=size_factors, covariates=covariates)
        return float(np.average(values, weights=checked_weights(sample_weight, values)))

    @available_if(require_density)
    @averages_rows
    def elbo(self, X: TableLike, *, size_factors: ArrayLike | None = None, covariates: CovariatesLike = None) -> float:
        """Evidence lower bound of the data, in nats per sample, without the divergence of the feature clusters.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`.
        size_factors, covariates
            As for :meth:`fit`, of the rows of X.

        Returns
        -------
        elbo : float
            Mean of ``E_q(z) E_q(w) log p(x | z, w) - KL(q(z | x) || p(z))``, with q(z | x) the encoder's for
            ``inference="amortized"`` and the optimal one for ``inference="exact"``.

        Examples
        --------
        >>> from skdevae import VAETransformer
        >>> from skdevae.datasets import make_progression
        >>> X = make_progression(60, random_state=0).data
        >>> model = VAETransformer(n_components=1, max_epochs=5, random_state=0).fit(X)
        >>> model.elbo(X) < model.score(X)  # a bound from below
        True
        """
        table, source, inference = self._for_inference(X, size_factors, covariates)
        return float(in_finite_nats(table, inference.bound(source)).mean())

    @averages_rows
    def conditional_log_likelihood(
        self, X: TableLike, *, size_factors: ArrayLike | None = None, covariates: CovariatesLike = None
    ) -> float:
        """log p(x | z) at the posterior mean of z, in nats per sample: the BasisDeVAE paper's predictive likelihood.

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
        >>> from skdevae import DeVAETransformer
        >>> from skdevae.datasets import make_progression
        >>> X = make_progression(60, random_state=0).data
        >>> model = DeVAETransformer(max_epochs=5, random_state=0).fit(X)
        >>> model.conditional_log_likelihood(X) > model.score(X)  # the positions were read off the same X
        True
        """
        table, source, inference = self._for_inference(X, size_factors, covariates)
        values = inference.conditional_log_likelihood(source, inference.mean(source))
        return float(in_finite_nats(table, values).mean())

    @answers_by_rows(n_columns=lambda estimator: len(estimator.modelled_columns_), may_be_sparse=True)
    def adjust(
        self, X: TableLike, *, size_factors: ArrayLike | None = None, covariates: CovariatesLike = None
    ) -> Values:
        """The table as if all samples had the median size and average covariates.

        Rows are then comparable with each other and with :meth:`trajectories`.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`.
        size_factors, covariates
            As for :meth:`fit`, of the rows of X.

        Returns
        -------
        X_adjusted : ndarray or sparse array of shape (n_samples, n_modelled)
            Without the columns that condition. Two values are expected at the latent of each sample: one for its own
            size and covariates, one for a median size and average covariates. Counts are multiplied by the ratio of
            the second to the first, and to measurements their difference is added. Zeros and ones
            (``likelihood="bernoulli"``) stay as they are, and so does all else of a model without sizes and covariates.
            A table of Dask has a lazy answer.

        Examples
        --------
        >>> import numpy as np
        >>> from skdevae import DeVAETransformer
        >>> from skdevae.datasets import make_progression_counts
        >>> X = make_progression_counts(60, random_state=0).data
        >>> model = DeVAETransformer(likelihood="poisson", size_factors="sum", max_epochs=5, random_state=0).fit(X)
        >>> adjusted = model.adjust(X)
        >>> adjusted.shape == X.shape
        True
        >>> spread = [np.std(np.log(table.sum(axis=1))) for table in (X, adjusted)]
        >>> bool(spread[1] < spread[0])  # total counts are more alike
        True
        """
        table, source, inference = self._for_inference(X, size_factors, covariates)
        context, likelihood = table.context, LIKELIHOODS[self._config_["likelihood"]["name"]]
        is_binary = likelihood.counts and not likelihood.has_log_link
        if is_binary or (context.log_size is None and context.covariates is None):
            return table.values[:].copy()
        model, positions = inference.model, inference.mean(source)
        expected = (
            (rows, *(self._expected(model, positions[rows], other) for other in (context.take(rows), EMPTY)))
            for rows in gen_batches(len(table), _ROWS)
        )
        return adjusted(table.values, expected, likelihood.counts)
