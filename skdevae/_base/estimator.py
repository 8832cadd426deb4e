"""What a fitted estimator answers: latents, likelihoods, expected and simulated tables; and how it is stored."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data
from skorch.history import History
from torch import Tensor

from .._sklearn import Interval, StrOptions, validate_params
from ..inference.evaluation import (
    amortized_elbo,
    averaged_log_evidence,
    conditional_log_likelihood,
    encoder_posterior,
    exact_posterior,
    log_units,
    predictive_log_evidence,
)
from ..inference.importance import slopes
from ..nn.layers import ACTIVATIONS
from ..nn.likelihoods import LIKELIHOODS, Gaussian, NegativeBinomial
from ..nn.models import AmortizedModel, GenerativeModel, build_model, sized
from ..table.source import RowSource
from ..table.units import standardization
from ..table.validation import check_counts
from ..training.seeds import generator_from, spawn_seeds


@dataclass(frozen=True)
class Posterior:
    """What the data say about the latent of each sample.

    Attributes
    ----------
    mean, sd : ndarray of shape (n_samples, n_components)
        Posterior mean and standard deviation, in units of a standard normal prior's sd; other priors have their own.
    lower, upper : ndarray of shape (n_samples, n_components)
        Ends of the central credible interval.
    """

    mean: np.ndarray
    sd: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


def has_density(estimator: Any) -> bool:
    """Whether an estimator has a distribution of latents, and so a likelihood of X: not so a plain autoencoder."""
    module = getattr(estimator, "module_", None)
    fitted = module.variational if isinstance(module, AmortizedModel) else True
    if (module is None and not getattr(estimator, "variational", True)) or not fitted:
        raise AttributeError(
            "An autoencoder (variational=False) has no distribution of latents and so no likelihood of X: "
            "conditional_log_likelihood says how well it reconstructs X. The rest needs variational=True."
        )
    return True


class FittedModel(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """The methods that need no more than a trained module, ``module_``, and the units that it works in."""

    module_: GenerativeModel
    device: str
    #: of the module: what it was built from; means and sds of the columns where it works in those units; Q
    _config: dict[str, Any]
    _center: np.ndarray | None
    _scale: np.ndarray | None
    _n_features_out: int
    n_iter_: int

    _parameter_constraints: ClassVar[dict] = {
        "likelihood": [StrOptions(set(LIKELIHOODS))],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
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

    #: draws for scores of amortised models with several components; a parameter where there are such models
    n_importance_samples = 500

    # ---- data ---------------------------------------------------------------------------------------------------

    def _is_count_model(self) -> bool:
        return LIKELIHOODS[self.likelihood].counts

    def _validate(self, X: Any, reset: bool) -> np.ndarray | sp.csr_array:
        # Parameters set after a fit are for the next one.
        likelihood = self.likelihood if reset else self._config["likelihood"]["name"]
        counts = LIKELIHOODS[likelihood].counts
        X = validate_data(
            self,
            X,
            reset=reset,
            accept_sparse="csr" if counts else False,
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan",
            ensure_min_samples=2 if reset else 1,
        )
        if sp.issparse(X):
            X = sp.csr_array(X)
            if np.isnan(X.data).any():
                raise ValueError("A sparse X must not contain NaN: pass tables with missing entries as dense arrays.")
            if not X.has_canonical_format or (X.data == 0).any():
                X = X.copy()
                X.sum_duplicates()
                X.eliminate_zeros()
        if counts:
            check_counts(X, likelihood, getattr(self, "feature_names_in_", None))
        return X

    def _source(self, X: np.ndarray | sp.csr_array, like: Tensor) -> RowSource:
        return RowSource(X, self._center, self._scale, like, self._log_sizes(X))

    def _set_units(self, X: np.ndarray | sp.csr_array, weights: np.ndarray | None = None) -> None:
        """Gaussian tables are modelled in units of each column's sd; counts as they are."""
        self._center, self._scale = (None, None) if self._is_count_model() else standardization(X, weights)

    def _log_sizes(self, X: np.ndarray | sp.csr_array) -> np.ndarray | None:
        """Log size factors of the rows, relative to the training table's median, for models that have any: (N,)."""
        return None

    def _device(self) -> torch.device:
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return torch.device(self.device)

    def _warn_of_interruption(self) -> None:
        warnings.warn(
            f"fit was interrupted after {self.n_iter_} epochs; what was learned until then is kept.",
            ConvergenceWarning,
            stacklevel=4,  # past fit and the wrapper that validates its parameters
        )

    def _likelihood_config(self) -> dict[str, Any]:
        """Name (in ``LIKELIHOODS``) and constructor arguments of the likelihood."""
        config: dict[str, Any] = {"name": self.likelihood}
        if self.likelihood == "gaussian":
            config["floor"] = float(self.noise_floor)
        if self.likelihood == "zinb":
            config["n_components"] = int(self.n_components)
        return config

    def _store_results(self) -> None:
        """Set the fitted attributes that are read off ``module_``."""
        likelihood = self.module_.likelihood
        if isinstance(likelihood, Gaussian):
            self.noise_scale_ = likelihood.scale.double().cpu().numpy() * self._scale
        if isinstance(likelihood, NegativeBinomial):
            self.dispersion_ = likelihood.dispersion.double().cpu().numpy()

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        counts = self.likelihood in LIKELIHOODS and self._is_count_model()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = counts
        tags.input_tags.positive_only = counts
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    # ---- inference, in float64 and independent of how rows are batched --------------------------------------------

    def _float64_module(self) -> GenerativeModel:
        return copy.deepcopy(self.module_).double().eval()

    def _for_inference(self, X: Any) -> tuple[GenerativeModel, RowSource, np.dtype]:
        check_is_fitted(self, "module_")
        X = self._validate(X, reset=False)
        if not sp.issparse(X):
            empty = np.nonzero(np.isnan(X).all(1))[0]
            if len(empty):
                warnings.warn(
                    f"{len(empty)} rows have no observed entry (the first is row {empty[0]}): their latent is the "
                    "prior's.",
                    UserWarning,
                    stacklevel=3,
                )
        module = self._float64_module()
        return module, self._source(X, self._float64_like()), X.dtype

    def _float64_like(self) -> Tensor:
        return torch.zeros((), dtype=torch.float64, device=next(self.module_.buffers()).device)

    def _posterior_mean(self, module: GenerativeModel, source: RowSource) -> Tensor:
        if isinstance(module, AmortizedModel):
            return encoder_posterior(module, source).mean
        return exact_posterior(module, source, module.predictive_tables).mean

    def _posterior_fields(
        self, module: GenerativeModel, source: RowSource, credible_level: float
    ) -> tuple[Tensor, ...]:
        """Mean, sd and ends of the credible interval, (N, Q) each."""
        if isinstance(module, AmortizedModel):
            return encoder_posterior(module, source, credible_level)
        exact = exact_posterior(module, source, module.predictive_tables, credible_level)
        return exact.mean, exact.sd, exact.lower, exact.upper

    def _log_evidence(self, module: GenerativeModel, source: RowSource) -> Tensor:
        return predictive_log_evidence(module, source, self.n_importance_samples)

    def _evidence_bound(self, module: GenerativeModel, source: RowSource) -> Tensor:
        if isinstance(module, AmortizedModel):
            return amortized_elbo(module, source)
        return averaged_log_evidence(module, source)

    def transform(self, X):
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
        module, source, dtype = self._for_inference(X)
        return self._posterior_mean(module, source).cpu().numpy().astype(dtype, copy=False)

    @available_if(has_density)
    @validate_params({"credible_level": [Interval(Real, 0, 1, closed="neither")]}, prefer_skip_nested_validation=True)
    def posterior(self, X, *, credible_level=0.95):
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
            ``inference="exact"``, for amortised models the encoder's Gaussian, or what flows make of it.
        """
        module, source, dtype = self._for_inference(X)
        fields = self._posterior_fields(module, source, credible_level)
        return Posterior(*(field.cpu().numpy().astype(dtype, copy=False) for field in fields))

    @available_if(has_density)
    def score_samples(self, X):
        """Log-likelihood of every sample, integrated over the latent.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`. Missing entries are integrated out.

        Returns
        -------
        log_likelihood : ndarray of shape (n_samples,)
            log p(x) in nats, in the units of X, and of counts given their size factors where the model has any. With
            exact inference, and for amortised models of one component with a standard normal prior and no size
            factors, it is an integral on a grid, accurate to 1e-4. Otherwise (and for posteriors too narrow for a grid
            of two dimensions) it is estimated from quasi-random draws, always the same ones, around each sample's
            posterior mode: a lower bound on average, too low by some hundredths of a nat where posteriors have several
            modes, as under mixture priors. Where features choose between curves, each follows its most
            probable one.
        """
        module, source, _ = self._for_inference(X)
        return self._in_user_nats(self._log_evidence(module, source), source)

    @available_if(has_density)
    def score(self, X, y=None):
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
            Higher is better.
        """
        return float(self.score_samples(X).mean())

    @available_if(has_density)
    def elbo(self, X):
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
        module, source, _ = self._for_inference(X)
        return float(self._in_user_nats(self._evidence_bound(module, source), source).mean())

    def conditional_log_likelihood(self, X):
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
        module, source, _ = self._for_inference(X)
        values = conditional_log_likelihood(module, source, self._posterior_mean(module, source))
        return float(self._in_user_nats(values, source).mean())

    # ---- from the latent to the table ---------------------------------------------------------------------------

    def trajectories(self, z):
        """Expected value of every feature along the latent.

        Parameters
        ----------
        z : array-like of shape (n_points,) or (n_points, n_components)
            Positions, in units of the prior's standard deviation.

        Returns
        -------
        curves : ndarray of shape (n_points, n_features)
            In the units of the training table.
        """
        module, positions = self._at_positions(z)
        with torch.no_grad():
            mean = module.likelihood.mean(module.predictive_curves(positions), positions)
        return self._in_user_units(mean.cpu().numpy())

    def derivatives(self, z):
        """Rate of change of the expected value of every feature along the latent.

        Parameters
        ----------
        z : array-like of shape (n_points,) or (n_points, n_components)
            Positions, in units of the prior's standard deviation.

        Returns
        -------
        rates : ndarray of shape (n_points, n_features) or (n_points, n_features, n_components)
            In the units of the training table per prior standard deviation; the last axis is there where the latent
            has more than one component.
        """
        module, positions = self._at_positions(z)
        with torch.no_grad():
            rates = slopes(lambda z: module.likelihood.mean(module.predictive_curves(z), z), positions)
        in_user_units = rates.cpu().numpy() * (1.0 if self._scale is None else self._scale[:, None])
        return in_user_units[:, :, 0] if self._n_features_out == 1 else in_user_units

    def _at_positions(self, z: Any) -> tuple[GenerativeModel, Tensor]:
        check_is_fitted(self)
        points = check_array(np.atleast_1d(z), ensure_2d=False, dtype=np.float64, input_name="z")
        if points.ndim == 1 and self._n_features_out == 1:
            points = points[:, None]
        if points.ndim != 2 or points.shape[1] != self._n_features_out:
            raise ValueError(
                f"z has shape {points.shape}, but positions on this latent need shape (n_points, "
                f"{self._n_features_out})."
            )
        return self._float64_module(), torch.from_numpy(points).to(self._float64_like())

    def inverse_transform(self, Z):
        """Expected value of every feature for samples at given latents.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components)
            Latents, as :meth:`transform` returns them.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            In the units of the training table.
        """
        check_is_fitted(self)
        Z = check_array(Z, dtype=[np.float64, np.float32], input_name="Z")
        if Z.shape[1] != self._n_features_out:
            raise ValueError(f"Z has {Z.shape[1]} columns, but the latent has {self._n_features_out}.")
        return self.trajectories(Z).astype(Z.dtype, copy=False)

    @available_if(has_density)
    @validate_params(
        {"n_samples": [Interval(Integral, 1, None, closed="left")], "random_state": ["random_state"]},
        prefer_skip_nested_validation=True,
    )
    def sample(self, n_samples=1, random_state=None):
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
            In the units of the training table.
        """
        module, generator = self._for_sampling(random_state)
        z, _ = module.latent_prior().draw(n_samples, generator)
        with torch.no_grad():
            drawn = module.likelihood.sample(self._drawn_curves(module, z, generator), z, generator)
        return self._in_user_units(drawn.numpy())

    @available_if(has_density)
    @validate_params(
        {"n_samples": [Interval(Integral, 1, None, closed="left")], "random_state": ["random_state"]},
        prefer_skip_nested_validation=True,
    )
    def sample_latent(self, n_samples=1, random_state=None):
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
        return module.latent_prior().draw(n_samples, generator)[0].numpy()

    def _for_sampling(self, random_state: Any) -> tuple[GenerativeModel, torch.Generator]:
        check_is_fitted(self)
        return self._float64_module().cpu(), generator_from(spawn_seeds(random_state, 1)[0])

    def _drawn_curves(self, module: GenerativeModel, z: Tensor, generator: torch.Generator) -> Tensor:
        """Curves (P, D) of simulated samples with latents z (P, Q)."""
        return module.predictive_curves(z)

    @staticmethod
    def _in_user_nats(values: Tensor, source: RowSource) -> np.ndarray:
        return values.cpu().numpy() - log_units(source)

    def _in_user_units(self, values: np.ndarray) -> np.ndarray:
        return values if self._scale is None else self._center + self._scale * values

    # ---- persistence: plain arrays, so that files are small, free of devices, and safe to load --------------------

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__().copy()
        if "module_" in state:
            weights = state.pop("module_").state_dict()
            state["_weights"] = {name: tensor.cpu().numpy() for name, tensor in weights.items()}
            state["history_"] = _plain_history(state["history_"])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = state.copy()
        if "_weights" in state:
            module = build_model(state["_config"], torch.Generator())
            weights = {name: torch.from_numpy(np.array(array)) for name, array in state.pop("_weights").items()}
            module.load_state_dict(weights)
            state["module_"] = module.eval().requires_grad_(False)
            state["history_"] = History(state["history_"])
        super().__setstate__(state)


class DenoisingModel(FittedModel):
    """``predict`` of estimators whose prediction is the table itself."""

    def predict(self, X):
        """The table as the model expects it, given each sample's latent: X without its noise, and without gaps.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`.

        Returns
        -------
        X_expected : ndarray of shape (n_samples, n_features)
            Expected value of every entry at the posterior mean of its sample's latent (and its size factor, where there
            are any), in the units of X.
        """
        module, source, dtype = self._for_inference(X)
        z = self._posterior_mean(module, source)
        log_size = None if source.log_size is None else torch.from_numpy(source.log_size).to(source.like)
        with torch.no_grad():
            mean = module.likelihood.mean(sized(module.predictive_curves(z), log_size), z)
        return self._in_user_units(mean.cpu().numpy()).astype(dtype, copy=False)


def _plain_history(history: History) -> list[dict[str, Any]]:
    """The history without its per-batch records, as built-in types."""
    plain = {bool: bool, np.bool_: bool, int: int, np.int64: int}
    return [
        {name: plain.get(type(value), float)(value) for name, value in row.items() if name != "batches"}
        for row in history
    ]
