"""LatentEstimator: what every fitted model answers, from latents and likelihoods to simulated tables."""

from __future__ import annotations

import copy
import inspect
from abc import abstractmethod
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data
from skorch.history import History
from torch import Tensor

from .._sklearn import Interval, StrOptions, available_if, check_parameters, validate_params
from .._typing import Activation, Callbacks, RandomState, SizeFactors, TableLike
from .._warnings import warn_user
from ..inference import Inference, inference_for, slopes
from ..nn.layers import ACTIVATIONS
from ..nn.likelihoods import LIKELIHOODS
from ..nn.models import GenerativeModel, in_context
from ..nn.priors import GaussianMixture
from ..table.columns import Columns, find_columns
from ..table.outliers import NO_OUTLIERS, Outliers, find_outliers
from ..table.size_factors import takes_size_factors
from ..table.source import RowSource
from ..table.table import Table, TableReader, Values
from ..table.validation import (
    as_plain_table,
    canonical_counts,
    check_counts,
    check_not_infinite,
    check_single_precision,
    named_entries,
)
from ..training.interrupts import Interrupts
from ..training.net import ADVICE
from ..training.seeds import generator_from, spawn_seeds
from ..training.settings import FitSettings
from .own_settings import UnderOwnSettings
from .persistence import restored, stored
from .posterior import Posterior

SAMPLING_CONSTRAINTS = {
    "n_samples": [Interval(Integral, 1, None, closed="left")],
    "random_state": ["random_state"],
}


class Query(NamedTuple):
    """A user's table together with what answers questions about it."""

    table: Table
    source: RowSource
    inference: Inference


def require_density(estimator: Any) -> bool:
    """True where an estimator has a distribution of latents, and so a likelihood of X; else an AttributeError.

    A plain autoencoder has none.
    """
    module = getattr(estimator, "module_", None)
    variational = getattr(estimator, "variational", True) if module is None else module.variational
    if not variational:
        raise AttributeError(
            "An autoencoder (variational=False) has no distribution of latents and so no likelihood of X: "
            "conditional_log_likelihood says how well it reconstructs X. The rest needs variational=True."
        )
    return True


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


def is_fitted_state(name: str) -> bool:
    """Whether an attribute is what a fit has found: its name, private or not, ends with an underscore."""
    return name.endswith("_") and not name.endswith("__")


def _require_finite(values: np.ndarray, positions: Tensor | np.ndarray, columns: Columns) -> np.ndarray:
    """Values (P, D, ...) at positions (P, Q) of the latent; a ValueError that names the first position without a value.

    Columns that were never observed have none anywhere.
    """
    observed = np.delete(values, columns.unobserved, axis=1)
    finite = np.isfinite(observed).reshape(len(values), -1).all(1)
    if not finite.all():
        first = int(np.argmin(finite))
        where = ", ".join(f"{coordinate:g}" for coordinate in positions[first].tolist())
        raise ValueError(
            f"At {np.count_nonzero(~finite)} of {len(finite)} positions the fitted curves leave the range of "
            f"{values.dtype} numbers; the first is row {first}, z=({where}). Latents are in standard deviations of the "
            "prior: ask for positions nearer to those of the data."
        )
    return values


def _float64_like(module: GenerativeModel) -> Tensor:
    """A tensor with the dtype of all inference, on the module's device."""
    return torch.zeros((), dtype=torch.float64, device=next(module.parameters()).device)


class LatentEstimator(UnderOwnSettings, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Base of all estimators: a fit that is whole or not there at all, and the answers of a fitted model.

    Subclasses fill in :meth:`_fit`, which works on an estimator without fitted state, and may set attributes as it goes
    along. Whatever ends with an underscore, private or not, is fitted state: it is taken over at the end of a fit, all
    at once. A fit that fails leaves the last one as it was.
    """

    # Parameters that every estimator has.
    likelihood: str
    activation: Activation
    noise_floor: float
    batch_size: int
    max_epochs: int | None
    n_iter_no_change: int
    tol: float
    n_init: int
    device: str
    random_state: RandomState
    verbose: int
    callbacks: Callbacks

    # Fitted state that every estimator has.
    module_: GenerativeModel
    history_: History
    n_iter_: int
    n_features_in_: int
    #: what the module was built from: plain values
    _config_: dict[str, Any]
    #: how tables are read
    _reader_: TableReader

    _parameter_constraints: ClassVar[dict] = {
        "likelihood": [StrOptions(LIKELIHOODS.keys())],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "noise_floor": [Interval(Real, 0, 1, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [None, Interval(Integral, 1, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "callbacks": [None, list, tuple],
    }
    #: what parameters that a saved file does not know stood for when it was saved, where that is not their default
    _parameters_of_older_files: ClassVar[dict[str, Any]] = {}
    #: Whether expected values follow the curves alone, so that a feature behaves as its curve does. Otherwise a
    #: likelihood may depend on the latent by other ways, as by excess zeros.
    _features_follow_curves: ClassVar[bool] = False
    #: parameters that a fitted model reads, where the estimator has them: they may have been set since the fit
    _parameters_of_answers: ClassVar[frozenset[str]] = frozenset({"n_importance_samples", "latent_tol", "size_factors"})
    #: constraints of estimators with size factors
    _size_factor_constraints: ClassVar[dict] = {
        "size_factors": [None, StrOptions({"sum"}), "array-like", callable],
    }

    # ---- a fit: whole, or not at all --------------------------------------------------------------------------------

    @abstractmethod
    def _fit(self, *table: Any, **facts: Any) -> None:
        """Fit this estimator, which has no fitted state, to a table and facts about its rows, and set all of it."""

    def _fit_afresh(self, X: TableLike, **facts: Any) -> Self:
        """Fit a copy of this estimator that has only its parameters, and take over what that has found."""
        trial = object.__new__(type(self))
        own = {name: value for name, value in vars(self).items() if not is_fitted_state(name)}
        trial.__dict__ = dict(own)
        check_single_precision(self.get_params(deep=False))
        with Interrupts() as interrupts:
            try:
                trial._fit(X, **facts)
            except (np.linalg.LinAlgError, torch.linalg.LinAlgError) as error:
                raise ValueError(f"Training ended with a model that nothing can be computed from. {ADVICE}") from error
        interrupts.raise_if_abandoned()
        trial._check_result()
        if interrupts.noted:
            trial._warn_of_interruption()
        found = {name: value for name, value in vars(trial).items() if is_fitted_state(name)}
        self.__dict__ = own | found
        return self

    def _check_result(self) -> None:
        """Raise where a number that a fit has found is not finite."""
        for name, value in vars(self).items():
            if is_fitted_state(name) and isinstance(value, float) and not np.isfinite(value):
                raise ValueError(f"The fit ended with {name}={value}. {ADVICE}")

    def _settings(self) -> FitSettings:
        return FitSettings.of(self)

    def _warn_of_interruption(self) -> None:
        warn_user(
            f"fit was interrupted after {self.n_iter_} epochs; what was learned until then is kept.",
            ConvergenceWarning,
        )

    def _likelihood_config(self) -> dict[str, Any]:
        """Name (in ``LIKELIHOODS``) and constructor arguments of the likelihood."""
        n_components = 0 if self._features_follow_curves else self._settings().n_components
        options = LIKELIHOODS[self.likelihood].options(noise_floor=self.noise_floor, n_components=n_components)
        return {"name": self.likelihood, **options}

    def _store_results(self) -> None:
        """Set the fitted attributes that are read off ``module_``."""
        device, columns = next(self.module_.parameters()).device, self._reader_.columns
        sizes = self._reader_.units.sizes
        units = torch.as_tensor(sizes if np.isscalar(sizes) else columns.of(sizes), dtype=torch.float64, device=device)
        for name, values in self.module_.likelihood.reported(units).items():
            setattr(self, name, columns.spread(values.cpu().numpy(), np.nan))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        counts = isinstance(self.likelihood, str) and self.likelihood in LIKELIHOODS and self._is_count_model()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = counts
        tags.input_tags.positive_only = counts
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @property
    def _n_features_out(self) -> int:
        return self.module_.n_components

    # ---- tables -----------------------------------------------------------------------------------------------------

    def _is_count_model(self) -> bool:
        return LIKELIHOODS[self.likelihood].counts

    def _validate(self, X: TableLike, reset: bool) -> Values:
        # Parameters set after a fit are for the next one.
        likelihood = self.likelihood if reset else self._config_["likelihood"]["name"]
        counts = LIKELIHOODS[likelihood].counts
        X = as_plain_table(X)
        with named_entries(X), np.errstate(over="ignore"):  # what overflows is infinite, and found below
            X = validate_data(
                self,
                X,
                reset=reset,
                accept_sparse="csr" if counts else False,
                dtype=[np.float64, np.float32],
                ensure_all_finite=False,
                ensure_min_samples=2 if reset else 1,
            )
        check_not_infinite(X, self._feature_names())
        if sp.issparse(X):
            X = canonical_counts(X)
        if counts:
            check_counts(X, likelihood, self._feature_names())
        return X

    def _feature_names(self) -> np.ndarray | None:
        return getattr(self, "feature_names_in_", None)

    def _look_over(
        self,
        X: Values,
        size_factors: SizeFactors,
        weights: np.ndarray | None = None,
        held_out: np.ndarray | None = None,
    ) -> tuple[Columns, Outliers]:
        """Which columns of a training table have something to teach, and what training sets aside; with warnings.

        Rows (N,) that are held out teach nothing: a count column with events in these alone would be fitted a rate
        that falls with every epoch.
        """
        names = self._feature_names()
        columns = find_columns(X, self.likelihood, weights if held_out is None else (~held_out).astype(float), names)
        if columns.kind == "binary" or takes_size_factors(size_factors, self.likelihood):
            return columns, NO_OUTLIERS  # rows that differ in size are not comparable as they are
        outliers = find_outliers(X, columns.kind == "counts", columns.kept, weights)
        outliers.warn(names)
        return columns, outliers

    def _pools_units(self) -> bool:
        """Whether all columns of measurements have one unit."""
        return False

    # ---- inference, in float64 and independent of how rows are batched ----------------------------------------------

    def _float64_module(self) -> GenerativeModel:
        return copy.deepcopy(self.module_).double().eval()

    def _inference(self) -> Inference:
        """How latents and likelihoods are inferred, with a float64 copy of the module."""
        return inference_for(self._float64_module(), self._settings().n_importance_samples)

    def _for_inference(self, X: TableLike) -> Query:
        check_is_fitted(self, "module_")
        own = self._parameter_constraints
        constraints = {name: own[name] for name in self._parameters_of_answers & own.keys()}
        check_parameters(constraints, self.get_params(deep=False), type(self).__name__)
        X = self._validate(X, reset=False)
        if not sp.issparse(X):
            empty = np.nonzero(np.isnan(X).all(1))[0]
            if len(empty):
                warn_user(
                    f"{len(empty)} rows have no observed entry (the first is row {empty[0]}): their latent is the "
                    "prior's."
                )
            self._reader_.units.check_reach(X, self._feature_names())
        inference = self._inference()
        table = self._reader_.read(X, size_factors=self._settings().size_factors)
        return Query(table, table.source(_float64_like(inference.model)), inference)

    def transform(self, X: TableLike) -> np.ndarray:
        """Posterior mean of the latent.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`fit`; a row without any observed entry gets the prior's mean, with a warning.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components)
            In units of a standard normal prior's standard deviation; other priors have units of their own.
        """
        table, source, inference = self._for_inference(X)
        return table.in_user_dtype(inference.mean(source))

    @available_if(require_density)
    @validate_params({"credible_level": [Interval(Real, 0, 1, closed="neither")]}, prefer_skip_nested_validation=True)
    def posterior(self, X: TableLike, *, credible_level: float = 0.95) -> Posterior:
        """Posterior of the latent: mean, standard deviation and central credible interval of every sample.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`.
        credible_level : float, default=0.95
            Posterior probability of the interval from ``lower`` to ``upper``.

        Returns
        -------
        posterior : Posterior
            With ``mean``, ``sd``, ``lower`` and ``upper``, each of shape (n_samples, n_components). Exact for
            ``inference="exact"``, and for models with an encoder that have one component, a standard normal prior and
            no size factors. For other models with an encoder, it is the encoder's Gaussian, or what flows make of it,
            where a sample is complete. An encoder knows little of samples with missing entries, or far from all others:
            theirs is estimated from weighted draws, as in :meth:`score_samples`.
        """
        table, source, inference = self._for_inference(X)
        return Posterior(*(table.in_user_dtype(field) for field in inference.posterior(source, credible_level)))

    @available_if(require_density)
    def score_samples(self, X: TableLike) -> np.ndarray:
        """Log-likelihood of every sample, integrated over the latent.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`. Missing entries are integrated out.

        Returns
        -------
        log_likelihood : ndarray of shape (n_samples,)
            log p(x) in nats, in the units of X. Where the model has size factors, it is that of the counts given the
            size factors: it compares with models of the same size factors alone, and with ``"sum"``, whose size factors
            know of the counts, it does not add up to one over all x.
            With exact inference it is an integral on a grid, accurate to 1e-4. So it is for models with an encoder and
            one component, if they have a standard normal prior and no size factors. Otherwise, and for posteriors too
            narrow for a grid of two dimensions, it is estimated from quasi-random draws around each sample's posterior
            mode, always the same ones. The estimate is a lower bound on average: too low by some hundredths of a nat
            where posteriors have several modes, as under mixture priors. Where features choose between curves, each
            follows its most probable one.
        """
        table, source, inference = self._for_inference(X)
        return in_finite_nats(table, inference.log_evidence(source))

    @available_if(require_density)
    def score(self, X: TableLike, y: Any = None) -> float:
        """Mean of :meth:`score_samples`: held-out log-likelihood in nats per sample.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`.
        y : ignored
            Present for API consistency.

        Returns
        -------
        score : float
            Higher is better, among models that are given the same size factors, if any.
        """
        return float(self.score_samples(X).mean())

    @available_if(require_density)
    def elbo(self, X: TableLike) -> float:
        """Evidence lower bound of the data, in nats per sample, without the divergence of the feature clusters.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`.

        Returns
        -------
        elbo : float
            Mean of ``E_q(z) E_q(w) log p(x | z, w) - KL(q(z | x) || p(z))``, with q(z | x) the encoder's for
            ``inference="amortized"`` and the optimal one for ``inference="exact"``.
        """
        table, source, inference = self._for_inference(X)
        return float(in_finite_nats(table, inference.bound(source)).mean())

    def conditional_log_likelihood(self, X: TableLike) -> float:
        """log p(x | z) at the posterior mean of z, in nats per sample: the BasisDeVAE paper's predictive likelihood.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`.

        Returns
        -------
        log_likelihood : float
            Not a likelihood of held-out data: z has seen them. Use :meth:`score` to compare models.
        """
        table, source, inference = self._for_inference(X)
        values = inference.conditional_log_likelihood(source, inference.mean(source))
        return float(in_finite_nats(table, values).mean())

    # ---- from the latent to the table -------------------------------------------------------------------------------

    def trajectories(self, z: ArrayLike) -> np.ndarray:
        """Expected value of every feature along the latent.

        Parameters
        ----------
        z : array-like of shape (n_points,) or (n_points, n_components)
            Positions, in units of the prior's standard deviation.

        Returns
        -------
        curves : ndarray of shape (n_points, n_features)
            In the units of the training table. Expected counts end at 2**53, about 9e15, far from the data.

        Raises
        ------
        ValueError
            If z is so far out that an expected value is not a finite number.
        """
        module, positions = self._at_positions(z)
        with torch.no_grad():
            mean = module.likelihood.mean(module.predictive_curves(positions), positions)
        with np.errstate(over="ignore"):
            return _require_finite(self._reader_.to_user(mean.cpu().numpy()), positions, self._reader_.columns)

    def derivatives(self, z: ArrayLike) -> np.ndarray:
        """Rate of change of the expected value of every feature along the latent.

        Parameters
        ----------
        z : array-like of shape (n_points,) or (n_points, n_components)
            Positions, in units of the prior's standard deviation.

        Returns
        -------
        rates : ndarray of shape (n_points, n_features) or (n_points, n_features, n_components)
            In the units of the training table per prior standard deviation. The last axis is there where the latent has
            more than one component. Expected counts end at 2**53: there, their rate of change is 0.

        Raises
        ------
        ValueError
            If z is so far out that a rate is not a finite number.
        """
        module, positions = self._at_positions(z)
        with torch.no_grad():
            rates = slopes(lambda z: module.likelihood.mean(module.predictive_curves(z), z), positions)
        by_column = self._reader_.columns.spread_rates(rates.cpu().numpy(), axis=1)
        with np.errstate(over="ignore"):
            in_user_units = by_column * np.reshape(self._reader_.units.sizes, (-1, 1))
        _require_finite(in_user_units, positions, self._reader_.columns)
        return in_user_units[:, :, 0] if module.n_components == 1 else in_user_units

    def _at_positions(self, z: ArrayLike) -> tuple[GenerativeModel, Tensor]:
        check_is_fitted(self, "module_")
        n_components = self._n_features_out
        with named_entries(z, "z"):
            points = check_array(np.atleast_1d(z), ensure_2d=False, dtype=np.float64, input_name="z", copy=True)
        if points.ndim == 1 and n_components == 1:
            points = points[:, None]
        if points.ndim != 2 or points.shape[1] != n_components:
            raise ValueError(
                f"z has shape {points.shape}, but positions on this latent need shape (n_points, {n_components})."
            )
        module = self._float64_module()
        return module, torch.from_numpy(points).to(_float64_like(module))

    def inverse_transform(self, Z: ArrayLike) -> np.ndarray:
        """Expected value of every feature for samples at given latents.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components)
            Latents, as :meth:`transform` returns them.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            In the units of the training table. Expected counts end at 2**53, about 9e15, far from the data.

        Raises
        ------
        ValueError
            If a latent is so far out that an expected value is not a finite number, in the precision of Z.
        """
        check_is_fitted(self, "module_")
        with named_entries(Z, "Z"):
            latents: np.ndarray = check_array(Z, dtype=[np.float64, np.float32], input_name="Z")
        if latents.shape[1] != self._n_features_out:
            raise ValueError(f"Z has {latents.shape[1]} columns, but the latent has {self._n_features_out}.")
        expected = self.trajectories(latents)
        with np.errstate(over="ignore"):
            return _require_finite(expected.astype(latents.dtype, copy=False), latents, self._reader_.columns)

    @available_if(require_density)
    @validate_params(SAMPLING_CONSTRAINTS, prefer_skip_nested_validation=True)
    def sample(self, n_samples: int = 1, random_state: RandomState = None) -> np.ndarray:
        """Draw samples from the fitted model: the latent from its prior, then the features.

        Parameters
        ----------
        n_samples : int, default=1
            Number of samples.
        random_state : int, RandomState instance or None, default=None
            Source of the draws; the same seed gives the same samples.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            In the units of the training table. Expected counts end at 2**53, about 9e15, far from the data.
        """
        module, generator = self._for_sampling(random_state)
        return self._simulated(module, module.latent_prior(), int(n_samples), generator)

    @available_if(require_density)
    @validate_params(SAMPLING_CONSTRAINTS, prefer_skip_nested_validation=True)
    def sample_latent(self, n_samples: int = 1, random_state: RandomState = None) -> np.ndarray:
        """Draw latents from the prior.

        Parameters
        ----------
        n_samples : int, default=1
            Number of draws.
        random_state : int, RandomState instance or None, default=None
            Source of the draws; :meth:`sample` with the same seed has the same latents.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components)
            Latents, as :meth:`transform` returns them for data.
        """
        module, generator = self._for_sampling(random_state)
        return module.latent_prior().draw(int(n_samples), generator)[0].numpy()

    def _for_sampling(self, random_state: RandomState) -> tuple[GenerativeModel, torch.Generator]:
        check_is_fitted(self, "module_")
        return self._float64_module().cpu(), generator_from(spawn_seeds(random_state, 1)[0])

    def _simulated(
        self, module: GenerativeModel, prior: GaussianMixture, n_samples: int, generator: torch.Generator
    ) -> np.ndarray:
        """Rows in the user's units whose latents come from a prior."""
        z, _ = prior.draw(n_samples, generator)
        with torch.no_grad():
            curves = module.predictive_curves(z)
            context = self._reader_.drawn_context(n_samples, generator, z.dtype)
            drawn = module.likelihood.sample(in_context(curves, context), z, generator)
        return self._reader_.complete_sample(drawn.numpy(), context, generator)

    # ---- persistence ------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        return stored(super().__getstate__())

    def __setstate__(self, state: dict[str, Any]) -> None:
        parameters = inspect.signature(type(self).__init__).parameters
        defaults = {name: known.default for name, known in parameters.items() if known.default is not known.empty}
        settled = {**defaults, **self._parameters_of_older_files, **state}
        super().__setstate__(restored(settled, type(self).__name__))
