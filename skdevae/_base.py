"""What every estimator of the package shares: validation, training, exact inference, persistence."""

from __future__ import annotations

import copy
import warnings
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from scipy.stats import norm
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from sklearn.utils.validation import check_is_fitted, validate_data
from skorch.history import History
from threadpoolctl import threadpool_limits
from torch import Tensor

from ._axis import correlations, principal_components, starting_positions
from ._evaluation import (
    amortized_elbo,
    conditional_log_likelihood,
    encoder_posterior,
    exact_posterior,
    log_evidence,
    log_units,
)
from ._validation import check_counts, check_missing
from .nn.inference import LatentPosterior
from .nn.layers import ACTIVATIONS
from .nn.likelihoods import LIKELIHOODS
from .nn.models import MODELS, AmortizedModel, FeatureClusterModel
from .training.rows import RowSource
from .training.seeds import generator_from, spawn_seeds

#: shares of samples above which a fit says that its grid was too coarse, or too short
_TOLERATED_SHARE = 0.05


@dataclass(frozen=True)
class Posterior:
    """What the data say about the latent of each sample.

    Attributes
    ----------
    mean, sd : ndarray of shape (n_samples, n_components)
        Posterior mean and standard deviation, in units of the prior's standard deviation.
    lower, upper : ndarray of shape (n_samples, n_components)
        Ends of the central credible interval.
    """

    mean: np.ndarray
    sd: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


@dataclass(frozen=True)
class Fit:
    """The result of one start: the trained module, how it got there, and its bound in nats per sample (model units)."""

    module: FeatureClusterModel
    history: History
    lower_bound: float
    interrupted: bool


class LatentVariableModel(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Base of the estimators: a generative model of rows given a latent, fitted by maximising a likelihood bound.

    Subclasses say which module they fit and how (:meth:`_module_config`, :meth:`_fit_module`) and what they read off it
    (:meth:`_store_results`). Everything that needs no more than ``predictive_tables`` and ``predictive_curves`` of the
    module stands here.
    """

    _parameter_constraints: ClassVar[dict] = {
        "likelihood": [StrOptions(set(LIKELIHOODS))],
        "inference": [StrOptions({"exact", "amortized"})],
        "hidden_layer_sizes": ["array-like"],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "beta": [Interval(Real, 0, None, closed="neither")],
        "kl_warmup": [Interval(Real, 0, 1, closed="both")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "noise_floor": [Interval(Real, 0, 1, closed="neither")],
        "learning_rate": [None, Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [None, Interval(Integral, 1, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "orientation": [None, str, Integral],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "callbacks": [None, list, tuple],
    }

    @abstractmethod
    def _module_config(self, n_samples: int, n_features: int, has_missing: bool) -> dict[str, Any]:
        """Name (``"model"``) and constructor arguments of the module: plain values, kept for persistence."""

    @abstractmethod
    def _fit_module(
        self,
        module: FeatureClusterModel,
        source: RowSource,
        validation: RowSource | None,
        positions: np.ndarray,
        seed: int,
    ) -> Fit:
        """Train a fresh module from a first guess of the latent of every row of ``source``."""

    @abstractmethod
    def _store_results(self) -> None:
        """Set the fitted attributes that are read off ``module_``."""

    @abstractmethod
    def _preferred_direction(self) -> int:
        """Sign that the sum of the features' correlations with the axis should have where nothing else is asked."""

    # ---- fitting ------------------------------------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, *, orientation=None):
        """Fit the model.

        Parameters
        ----------
        X : array-like, DataFrame or (for count likelihoods) sparse array of shape (n_samples, n_features)
            Samples in rows. NaN marks a missing entry of a dense table.
        y : ignored
            Present for API consistency.
        orientation : array-like of shape (n_samples,), default=None
            A variable, age or stage say, that should rise along the axis. It decides which end of the axis is up and
            nothing else. Overrides the parameter of the same name.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X does not suit the likelihood, if a column or row has no observed entry, if parameters contradict each
            other, or if the loss stops being finite.
        """
        X = self._validate(X, reset=True)
        if not sp.issparse(X):
            check_missing(X, getattr(self, "feature_names_in_", None))
        has_missing = not sp.issparse(X) and bool(np.isnan(X).any())
        reference = self._orientation_reference(X, orientation)
        self._set_units(X)
        table = self._source(X, torch.zeros((), dtype=torch.float32, device=self._device()))
        split_seed, *seeds = spawn_seeds(self.random_state, 1 + self.n_init)
        train_index, source, validation = self._split(table, split_seed)
        config = self._module_config(len(source), X.shape[1], has_missing)
        # Small tables gain nothing from threads, and on a busy machine threads that wait for each other cost most time.
        # OpenMP alone: its limit is the thread's own, while a BLAS library's would be the whole process's.
        with nullcontext() if table.is_large else threadpool_limits(1, user_api="openmp"):
            starts = self._starts(source, None if reference is None else reference[train_index], seeds)
            fits = self._fit_starts(starts, config, source, validation)
            best = max(fits, key=lambda fit: fit.lower_bound)
            self.lower_bound_ = best.lower_bound - float(np.mean(log_units(source)))
            self._keep(best, config, table, reference)
        if fits[-1].interrupted:
            warnings.warn(
                f"fit was interrupted after {self.n_iter_} epochs; what was learned until then is kept.",
                ConvergenceWarning,
                stacklevel=3,  # past the wrapper that validates parameters
            )
        return self

    def _starts(
        self, source: RowSource, reference: np.ndarray | None, seeds: list[int]
    ) -> Iterator[tuple[int, np.ndarray]]:
        """A seed and a first guess of every sample's latent, pointing as asked, for each start."""
        scores = principal_components(source, self._is_count_model())
        for restart, seed in enumerate(seeds):
            positions = starting_positions(scores, restart, seed)
            yield seed, self._axis_sign(source, positions, reference) * positions

    def _fit_starts(
        self,
        starts: Iterator[tuple[int, np.ndarray]],
        config: dict[str, Any],
        source: RowSource,
        validation: RowSource | None,
    ) -> list[Fit]:
        """Fits of all starts, or of those up to the one that was interrupted."""
        fits: list[Fit] = []
        for seed, positions in starts:
            module = _build_module(config, generator_from(seed)).to(source.like.device)
            fits.append(self._fit_module(module, source, validation, positions, seed))
            if fits[-1].interrupted:
                break
        return fits

    def _keep(self, best: Fit, config: dict, source: RowSource, reference: np.ndarray | None) -> None:
        self.module_ = best.module.eval().requires_grad_(False)
        self._config = config
        self.history_ = best.history
        self.n_iter_ = len(best.history)
        self._n_features_out = 1
        module = self._float64_module()
        float64_source = self._source(source.table, self._float64_like())
        exact = exact_posterior(float64_source, module.predictive_tables, module.z_max)
        self._orient(source, exact.mean.cpu().numpy(), reference)
        self._store_results()
        self._warn_about_grid(exact)

    def _split(self, table: RowSource, seed: int) -> tuple[np.ndarray, RowSource, RowSource | None]:
        """Training rows, their source, and the source of the rows held out for early stopping."""
        everything = np.arange(len(table))
        if not self.early_stopping:
            return everything, table, None
        train, held_out = (
            np.sort(part)
            for part in train_test_split(everything, test_size=self.validation_fraction, random_state=seed)
        )
        return train, table.take(train), table.take(held_out)

    def _set_units(self, X: Any) -> None:
        """Gaussian tables are modelled in units of each column's sd; counts as they are."""
        self._center = self._scale = None
        if self._is_count_model():
            return
        n, total, squares = 0, 0.0, 0.0
        origin = np.nan_to_num(np.asarray(X[0], dtype=np.float64))
        for start in range(0, len(X), 4096):
            block = np.asarray(X[start : start + 4096], dtype=np.float64) - origin
            n, total, squares = (
                n + (~np.isnan(block)).sum(0),
                total + np.nansum(block, 0),
                squares + np.nansum(block**2, 0),
            )
        mean = total / n
        sd = np.sqrt(np.maximum(squares / n - mean**2, 0))
        # A constant column has no spread to be measured in; its own size keeps its units out of the fit.
        constant = sd <= 1e-10 * np.maximum(np.abs(origin + mean), np.finfo(float).tiny)
        self._center = origin + mean
        self._scale = np.where(constant, np.where(self._center == 0, 1.0, np.abs(self._center)), sd)

    def _orientation_reference(self, X: Any, per_sample: Any) -> np.ndarray | None:
        """The variable that should rise along the axis, (N,), or None."""
        if per_sample is not None:
            reference = check_array(per_sample, ensure_2d=False, ensure_all_finite="allow-nan", dtype=np.float64)
            if reference.shape != (X.shape[0],):
                raise ValueError(
                    f"orientation has shape {reference.shape}, but X has {X.shape[0]} samples: give one value a sample."
                )
            return reference
        if self.orientation is None:
            return None
        column = self._column_index(self.orientation)
        values = X[:, [column]].toarray() if sp.issparse(X) else X[:, [column]]
        return np.asarray(values, dtype=np.float64).ravel()

    def _column_index(self, feature: str | int) -> int:
        names = getattr(self, "feature_names_in_", None)
        if isinstance(feature, str):
            if names is None or feature not in names:
                where = "X has no column names" if names is None else "it is not among the columns of X"
                raise ValueError(f"orientation={feature!r} names a feature, but {where}.")
            return int(np.nonzero(names == feature)[0][0])
        if not -self.n_features_in_ <= feature < self.n_features_in_:
            raise ValueError(f"orientation={feature} is no column of X, which has {self.n_features_in_} features.")
        return int(feature)

    def _axis_sign(self, source: RowSource, positions: np.ndarray, reference: np.ndarray | None) -> int:
        """1 if the axis points as asked, -1 if it should be reversed."""
        if reference is None:
            agreement = self._preferred_direction() * correlations(source, positions).sum()
        else:
            known = ~np.isnan(reference)
            agreement = np.cov(positions[known], reference[known])[0, 1] if known.sum() > 1 else 0.0
        return -1 if agreement < 0 else 1

    def _orient(self, source: RowSource, positions: np.ndarray, reference: np.ndarray | None) -> None:
        if self._axis_sign(source, positions, reference) > 0:
            return
        if self.module_.can_mirror:
            self.module_.mirror_()
        elif reference is not None:
            warnings.warn(
                "The axis runs against orientation: the behaviors given include only one of 'increasing' and "
                "'decreasing', so the fitted axis cannot be reversed.",
                UserWarning,
                stacklevel=4,
            )

    def _warn_about_grid(self, exact: LatentPosterior) -> None:
        beyond = float((exact.beyond > 0.5).double().mean())
        unresolved = float((~exact.resolved.bool()).double().mean())
        if beyond > _TOLERATED_SHARE:
            warnings.warn(
                f"{beyond:.0%} of the samples lie beyond z_max={self.z_max}, where curves go on as straight lines. "
                "Increase z_max.",
                ConvergenceWarning,
                stacklevel=4,
            )
        if unresolved > _TOLERATED_SHARE:
            warnings.warn(
                f"{unresolved:.0%} of the samples have posteriors narrower than the finest grid: their log-likelihoods "
                "are lower bounds. Increase noise_floor, or look for duplicated columns.",
                ConvergenceWarning,
                stacklevel=4,
            )

    # ---- data ---------------------------------------------------------------------------------------------------

    def _is_count_model(self) -> bool:
        return LIKELIHOODS[self.likelihood].counts

    def _validate(self, X: Any, reset: bool) -> np.ndarray | sp.csr_array:
        # Parameters set after a fit are for the next one.
        likelihood = self.likelihood if reset else self._config["likelihood"]
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
        return RowSource(X, self._center, self._scale, like)

    def _device(self) -> torch.device:
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return torch.device(self.device)

    # ---- inference, in float64 and independent of how rows are batched --------------------------------------------

    def _float64_module(self) -> FeatureClusterModel:
        return copy.deepcopy(self.module_).double().eval()

    def _for_inference(self, X: Any) -> tuple[FeatureClusterModel, RowSource, np.dtype]:
        check_is_fitted(self)
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

    def _gaussian_posterior(self, module: FeatureClusterModel, source: RowSource) -> tuple[Tensor, Tensor]:
        if isinstance(module, AmortizedModel):
            return encoder_posterior(module, source)
        exact = exact_posterior(source, module.predictive_tables, module.z_max)
        return exact.mean, exact.sd

    def transform(self, X):
        """Posterior mean of the latent.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`fit`; a row without any observed entry gets the prior's mean, with a warning.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components)
            In units of the prior's standard deviation.
        """
        module, source, dtype = self._for_inference(X)
        mean, _ = self._gaussian_posterior(module, source)
        return mean.cpu().numpy()[:, None].astype(dtype, copy=False)

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
            ``inference="exact"``, the encoder's Gaussian for ``inference="amortized"``.
        """
        module, source, dtype = self._for_inference(X)
        if isinstance(module, AmortizedModel):
            mean, sd = encoder_posterior(module, source)
            half_width = norm.ppf(0.5 + 0.5 * credible_level) * sd
            fields = (mean, sd, mean - half_width, mean + half_width)
        else:
            exact = exact_posterior(source, module.predictive_tables, module.z_max, credible_level)
            fields = (exact.mean, exact.sd, exact.lower, exact.upper)
        return Posterior(*(field.cpu().numpy()[:, None].astype(dtype, copy=False) for field in fields))

    def score_samples(self, X):
        """Log-likelihood of every sample, integrated over the latent.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`. Missing entries are integrated out.

        Returns
        -------
        log_likelihood : ndarray of shape (n_samples,)
            log p(x) in nats, in the units of X, accurate to 1e-4 whichever way the model was trained. Each feature
            follows its most probable behaviour, so that p is a normalised density.
        """
        module, source, _ = self._for_inference(X)
        return self._in_user_nats(log_evidence(module, source, module.predictive_tables, module.z_max), source)

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
        if isinstance(module, AmortizedModel):
            bound = amortized_elbo(module, source)
        else:
            bound = log_evidence(module, source, module.averaged_tables_at, module.z_max)
        return float(self._in_user_nats(bound, source).mean())

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
        mean, _ = self._gaussian_posterior(module, source)
        return float(self._in_user_nats(conditional_log_likelihood(module, source, mean), source).mean())

    # ---- from the latent to the table ---------------------------------------------------------------------------

    def trajectories(self, z):
        """Expected value of every feature along the axis.

        Parameters
        ----------
        z : array-like of shape (n_points,) or (n_points, 1)
            Positions on the axis, in units of the prior's standard deviation.

        Returns
        -------
        curves : ndarray of shape (n_points, n_features)
            In the units of the training table.
        """
        check_is_fitted(self)
        points = check_array(np.atleast_1d(z), ensure_2d=False, dtype=np.float64, input_name="z")
        if points.ndim == 2 and points.shape[1] != self._n_features_out:
            raise ValueError(f"z has {points.shape[1]} columns, but the latent has {self._n_features_out}.")
        points = points.reshape(-1)
        module, like = self._float64_module(), self._float64_like()
        positions = torch.from_numpy(points).to(like)
        with torch.no_grad():
            mean = module.likelihood.mean(module.predictive_curves(positions), positions)
        return self._in_user_units(mean.cpu().numpy())

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
        return self.trajectories(Z[:, 0]).astype(Z.dtype, copy=False)

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
        check_is_fitted(self)
        module = self._float64_module().cpu()
        generator = generator_from(spawn_seeds(random_state, 1)[0])
        z = torch.randn(n_samples, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            drawn = module.likelihood.sample(module.predictive_curves(z), z, generator)
        return self._in_user_units(drawn.numpy())

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
            module = _build_module(state["_config"], torch.Generator())
            weights = {name: torch.from_numpy(np.array(array)) for name, array in state.pop("_weights").items()}
            module.load_state_dict(weights)
            state["module_"] = module.eval().requires_grad_(False)
            state["history_"] = History(state["history_"])
        super().__setstate__(state)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        counts = self.likelihood in LIKELIHOODS and self._is_count_model()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = counts
        tags.input_tags.positive_only = counts
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _build_module(config: dict[str, Any], generator: torch.Generator) -> FeatureClusterModel:
    """The module that a configuration describes, with weights drawn from the generator."""
    arguments = {name: value for name, value in config.items() if name != "model"}
    return MODELS[config["model"]](**arguments, generator=generator)


def _plain_history(history: History) -> list[dict[str, Any]]:
    """The history without its per-batch records, as built-in types."""
    plain = {bool: bool, np.bool_: bool, int: int, np.int64: int}
    return [
        {name: plain.get(type(value), float)(value) for name, value in row.items() if name != "batches"}
        for row in history
    ]
