"""Uncertain curves: posteriors of latents that know how sure curves are, as users see them."""

from __future__ import annotations

from dataclasses import replace
from numbers import Real
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from .._sklearn import Interval, StrOptions, available_if, validate_params
from .._typing import CovariatesLike, TableLike
from .fitting import LatentVariableModel
from .posterior import Posterior
from .replicates import Replicates, check_estimator
from .simulation import require_density


class UncertainCurvesMixin(LatentVariableModel):
    """Base of estimators whose posteriors may include what is not known of the curves."""

    @available_if(require_density)
    @validate_params(
        {
            "credible_level": [Interval(Real, 0, 1, closed="neither")],
            "include": [None, StrOptions({"curves"})],
            "replicates": [None, Replicates],
        },
        prefer_skip_nested_validation=True,
    )
    def posterior(
        self,
        X: TableLike,
        *,
        size_factors: ArrayLike | None = None,
        covariates: CovariatesLike = None,
        credible_level: float = 0.95,
        include: Literal["curves"] | None = None,
        replicates: Replicates | None = None,
    ) -> Posterior:
        """Posterior of the latent: mean, standard deviation and central credible interval of every sample.

        By itself it is conditional on the curves: it says how sure a sample's position is if the fitted curves are the
        true ones. They are not, and in small tables that matters as much. ``include="curves"`` takes the curves' own
        uncertainty in.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`.
        size_factors, covariates
            As for :meth:`fit`, of the rows of X.
        credible_level : float, default=0.95
            Posterior probability of the interval from ``lower`` to ``upper``.
        include : {"curves"}, default=None
            ``"curves"`` averages the posterior over ``replicates``, each of which has curves of its own. None takes the
            fitted curves for the true ones.
        replicates : Replicates, default=None
            What :func:`~skdevae.inspection.bootstrap` makes of the estimator and its training table. The rows of X may
            be others. Replicates side by side stay on the hill of the likelihood that the fit is on. A small table of
            many columns may have several hills, and a few other samples could have led to another. Only replicates of
            ``method="refit"`` know of that.

        Returns
        -------
        posterior : Posterior
            With ``mean``, ``sd``, ``lower`` and ``upper``, each of shape (n_samples, n_components), and
            ``beyond_training``, which marks the rows that :meth:`transform` warns of. ``pd.DataFrame(posterior)`` is
            a table of them all, with the index of X. Exact for ``inference="exact"``, and for
            ``inference="amortized"`` with one component and, but for ``"poisson"`` and ``"nb"``, no size factors. For
            other models with an encoder, it is the encoder's Gaussian where a sample is complete. An encoder knows
            little of samples with missing entries, or far from all others: theirs is estimated from weighted draws, as
            in :meth:`score_samples`. Averages over replicates that were refitted one by one take each replicate's
            posterior for a Gaussian.

        Raises
        ------
        ValueError
            If ``include="curves"`` comes without replicates, they without it, or they are of another estimator.

        Examples
        --------
        >>> from skdevae import DeVAETransformer
        >>> from skdevae.datasets import make_progression
        >>> from skdevae.inspection import bootstrap
        >>> made = make_progression(60, n_transient=0, n_increasing=4, n_decreasing=4, noise=0.5, random_state=0)
        >>> X = made.data
        >>> model = DeVAETransformer(max_epochs=60, random_state=0).fit(X)
        >>> replicates = bootstrap(model, X, n_bootstrap=5, random_state=0)
        >>> curves_known = model.posterior(X)
        >>> curves_uncertain = model.posterior(X, include="curves", replicates=replicates)
        >>> bool(curves_uncertain.sd.mean() > curves_known.sd.mean())
        True
        """
        self._check_replicates(include, replicates)
        posterior = super().posterior(
            X, size_factors=size_factors, covariates=covariates, credible_level=credible_level
        )
        if replicates is None:
            return posterior
        fields = replicates._averaged_posterior(X, credible_level, size_factors=size_factors, covariates=covariates)
        mean, sd, lower, upper = (field.cpu().numpy().astype(np.asarray(posterior.mean).dtype) for field in fields)
        return replace(posterior, mean=mean, sd=sd, lower=lower, upper=upper)

    def _check_replicates(self, include: str | None, replicates: Replicates | None) -> None:
        if include is not None and replicates is None:
            raise ValueError(
                'include="curves" needs replicates of the fit: pass replicates=skdevae.inspection.bootstrap(estimator, '
                "X_train), where X_train is the table that the estimator was fitted to."
            )
        if replicates is None:
            return
        if include is None:
            raise ValueError('replicates are used with include="curves" only: add it, or leave them out.')
        check_estimator(replicates, self)
