"""How a deep generative decoder is fitted: start, training, refit of the mixture, final representations."""

from __future__ import annotations

import math
import warnings
from contextlib import nullcontext
from dataclasses import asdict, replace
from numbers import Integral, Real
from typing import Any, ClassVar, cast

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from scipy.stats import norm
from sklearn.base import ClusterMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from .._sklearn import Interval, StrOptions, check_sample_weight, fit_context
from ..inference.importance import slopes
from ..inference.representation import (
    Modes,
    laplace_bound,
    laplace_variances,
    posterior_modes,
    refit_mixture_,
    sampled_log_evidence,
)
from ..nn.layers import global_draws_from
from ..nn.likelihoods import LIKELIHOODS
from ..nn.models import GenerativeModel, MixtureModel, build_model
from ..nn.regularized_mixture import COVARIANCE_TYPES, Softball
from ..nn.representations import RepresentationLearning, Representations
from ..table.components import Projection, principal_projection
from ..table.size_factors import count_means, given_sizes, log_size_factors
from ..table.source import RowSource
from ..table.validation import check_layer_sizes, check_missing
from ..table.weighted_rows import WeightedRows, weighted_rows
from ..training.batches import NumberedRows
from ..training.fitting import TrainingOptions, train_representations
from ..training.seeds import generator_from, spawn_seeds
from ..training.threads import fitting_threads, products_gain
from ._dgd_start import (
    Start,
    column_moments,
    fitted_start,
    mixture_of,
    padded,
    regressed,
    softball_start,
    standard_normal_start,
    supervised_mixture,
)
from ._mixture_search import FoundMixture
from ._prior_mixture import PriorMixture
from ._sized import SizeFactorModel

#: passes over the table, and gradient steps, that a fit takes at least where ``max_epochs`` is None
_EPOCHS, _LEAST_STEPS = 200, 2000
#: how many times the decoder's learning rate the representations' and the mixture's are, where nothing is said
_FASTER = 10
#: share of samples above which searches that did not arrive are worth a warning
_TOLERATED_SHARE = 0.05


class DecoderModel(ClusterMixin, SizeFactorModel):
    """Base of estimators without an encoder, whose samples' latents are found by optimisation.

    A fit sees its table as a set of distinct rows with weights, in an order of their own: it cannot depend on the order
    of samples, and a weight of two is a sample twice.
    """

    module_: MixtureModel
    #: fields of the linear map that predicts representations, where they started from principal components
    _projection: dict[str, Any] | None
    #: of the distinct training rows, as training has left them
    _learned: Representations

    _parameter_constraints: ClassVar[dict] = {
        **SizeFactorModel._parameter_constraints,
        **SizeFactorModel._size_factor_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "n_clusters": [None, Interval(Integral, 1, None, closed="left")],
        "representation": [StrOptions({"map", "variational"})],
        "supervised": ["boolean"],
        "latent_init": [StrOptions({"pca", "zero"})],
        "mixture_init": [None, StrOptions({"gmm", "kmeans", "softball"})],
        "covariance_type": [StrOptions(set(COVARIANCE_TYPES))],
        "may_be_empty": ["boolean"],
        "dirichlet_alpha": [Interval(Real, 1, None, closed="left")],
        "softball_scale": [Interval(Real, 0, None, closed="neither")],
        "softball_sharpness": [Interval(Real, 0, None, closed="neither")],
        "prior_weight": [StrOptions({"n_samples"}), Interval(Real, 0, None, closed="left")],
        "refit_mixture": ["boolean"],
        "decoder": [None, nn.Module],
        "hidden_layer_sizes": ["array-like"],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "latent_learning_rate": [None, Interval(Real, 0, None, closed="neither")],
        "mixture_learning_rate": [None, Interval(Real, 0, None, closed="neither")],
        "betas": ["array-like"],
        "latent_tol": [Interval(Real, 0, None, closed="neither")],
        "n_importance_samples": [Interval(Integral, 1, None, closed="left")],
    }

    # ---- fitting ------------------------------------------------------------------------------------------------

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : array-like, DataFrame or (for count likelihoods) sparse array of shape (n_samples, n_features)
            Samples in rows. NaN marks a missing entry of a dense table.
        y : array-like of shape (n_samples,), default=None
            Classes, with ``supervised=True``; otherwise it plays no part.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each sample counts. None: once.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X does not suit the likelihood, if a column or row has no observed entry, if parameters contradict each
            other, if ``supervised`` has no class to learn from, or if the loss stops being finite.
        """
        self._check_parameters()
        self.__dict__.pop("module_", None)  # lest a fit that fails leave the last one's in new units
        X = self._validate(X, reset=True)
        sample_weight = _checked_weights(sample_weight, X)
        if not sp.issparse(X):
            names = getattr(self, "feature_names_in_", None)
            check_missing(X, names)
            if not sample_weight.all():  # a column may be there in samples without weight alone
                check_missing(X[sample_weight > 0], names)
        classes = self._known_classes(y, sample_weight)
        sizes = self._sizes_of_rows(X)
        # Neither order nor repetition of samples can matter to what sees a set of rows with weights.
        rows = weighted_rows(X, sample_weight, classes, sizes)
        table = X[rows.index]
        classes_of_rows = None if classes is None else classes[rows.index]
        source = self._training_source(X, table, rows, None if sizes is None else sizes[rows.index])
        seeds = spawn_seeds(self.random_state, 3)
        with fitting_threads(self._gains_from_threads(source)):
            start = self._start(source, rows.weights, classes_of_rows, seeds[0])
            interrupted = self._train(source, rows.weights, classes_of_rows, start, seeds[1:])
            in_float64 = source.to(torch.float64)
            modes = self._settle(in_float64, rows, classes_of_rows)
            self._store_results()
            self._store_samples(X, in_float64, rows, modes, classes)
            del self._learned  # embedding_ has taken its place
        if interrupted:
            self._warn_of_interruption()
        return self

    def _store_samples(
        self, X: Any, source: RowSource, rows: WeightedRows, modes: Modes, classes: np.ndarray | None
    ) -> None:
        """Set the attributes that have a row for each sample, or are means over them."""
        model = self._float64_module()
        of_the_model = float(model.log_prior()) / rows.weights.sum()
        mean = np.average(self._in_user_nats(modes.log_joint, source), weights=rows.weights)
        self.log_posterior_ = float(mean) + of_the_model
        embedding = rows.spread(modes.position.cpu().numpy())
        without_weight = rows.inverse < 0
        if without_weight.any():
            others = self._source(X, source.like).take(np.nonzero(without_weight)[0])
            of_others = None if classes is None else classes[without_weight]
            embedding[without_weight] = self._modes_of(model, others, of_others).position.cpu().numpy()
        shares = model.latent_prior().responsibilities(torch.from_numpy(embedding).to(source.like))
        self.embedding_ = embedding.astype(X.dtype, copy=False)
        self.labels_ = shares.argmax(1).cpu().numpy()

    def _check_parameters(self) -> None:
        if self.latent_init == "zero" and self.mixture_init in ("gmm", "kmeans") and self.n_clusters is not None:
            raise ValueError(
                f"mixture_init={self.mixture_init!r} fits a mixture to the representations, but with "
                "latent_init='zero' all of them are the same. Choose latent_init='pca', or mixture_init='softball'."
            )
        if self.supervised and self.n_clusters is None:
            raise ValueError(
                "supervised=True gives each class a component, but n_clusters=None is a single standard normal. Set "
                "n_clusters to the number of classes."
            )
        check_layer_sizes("hidden_layer_sizes", self.hidden_layer_sizes)
        betas = tuple(self.betas)
        if len(betas) != 2 or not all(isinstance(beta, Real) and 0 <= float(beta) < 1 for beta in betas):
            raise ValueError(f"betas={self.betas!r}: give Adam's two decay rates, each at least 0 and below 1.")

    def _known_classes(self, y: Any, sample_weight: np.ndarray) -> np.ndarray | None:
        """Component that each sample's class has, -1 where y does not say: (N,); None unless ``supervised``."""
        self.__dict__.pop("classes_", None)
        if not self.supervised:
            return None
        if y is None:
            raise ValueError("supervised=True needs y: the class of every sample, -1 where it is not known.")
        if np.shape(y) != sample_weight.shape:
            raise ValueError(
                f"y has shape {np.shape(y)}, but X has {len(sample_weight)} rows: give one class for each."
            )
        # In an array, numpy would have made text of a -1 among names.
        labels = pd.Series(y if hasattr(y, "dtype") else np.array(y, dtype=object)).infer_objects()
        known = np.array(labels.notna() & (labels != -1))
        labels = labels.to_numpy()
        if not (known & (sample_weight > 0)).any():
            raise ValueError("supervised=True, but y says of no sample (with a weight) what its class is.")
        check_classification_targets(labels[known].astype(str) if labels.dtype == object else labels[known])
        try:
            self.classes_ = np.unique(labels[known & (sample_weight > 0)])
        except TypeError as error:
            raise ValueError("y has classes of kinds that cannot be sorted, numbers and names say.") from error
        known[known] = np.isin(labels[known], self.classes_)
        classes = np.full(len(labels), -1)
        classes[known] = np.searchsorted(self.classes_, labels[known])
        return classes

    def _sizes_of_rows(self, X: np.ndarray | sp.csr_array) -> np.ndarray | None:
        """Size factors (N,) where they are given, or what a function of X gives; None where X itself has them."""
        if self._has_no_sizes():
            return None
        sizes = None if isinstance(self.size_factors, str) else given_sizes(X, self.size_factors)
        log_size_factors(
            X, self.size_factors if sizes is None else sizes, count_means(X)
        )  # raises where a row has none
        return sizes

    def _training_source(
        self, X: Any, table: np.ndarray | sp.csr_array, rows: WeightedRows, sizes: np.ndarray | None
    ) -> RowSource:
        self._set_units(table, rows.weights, sizes)
        self._remember_whose_sizes(X)
        like = torch.zeros((), dtype=torch.float32, device=self._device())
        return RowSource(table, self._center, self._scale, like, self._relative_log_sizes(table, sizes))

    def _gains_from_threads(self, source: RowSource) -> bool:
        width = 1 if self.decoder is not None else [1, *self.hidden_layer_sizes][-1]
        return source.is_large or products_gain(min(self.batch_size, len(source)), source.n_features, width)

    def _start(self, source: RowSource, weights: np.ndarray, classes: np.ndarray | None, seed: int) -> Start:
        Z = np.zeros((len(source), self.n_components))
        self._projection = None
        if self.latent_init == "pca":
            projection = principal_projection(source, self._has_log_link(), self.n_components, weights)
            self._projection = asdict(projection)
            Z = padded(projection(source), self.n_components)
        if self.n_clusters is None:
            return standard_normal_start(Z, weights)
        n_free = self.n_clusters if classes is None else self._n_free(classes)
        how = self._settled_mixture_init(classes)
        if how == "softball":
            n_clusters = n_free if classes is None else len(self.classes_) + n_free
            softball = Softball(self.n_components, self.softball_scale, self.softball_sharpness)
            return softball_start(Z, weights, n_clusters, softball, seed)
        if classes is None:
            found = self._mixture_of(how, Z, weights, n_free, seed)
        else:
            unknown = classes < 0
            free = self._mixture_of(how, Z[unknown], weights[unknown], n_free, seed) if n_free else None
            found = supervised_mixture(Z, weights, classes, free)
        start = fitted_start(Z, found)
        return replace(start, radius=self.softball_scale * start.radius)

    def _has_log_link(self) -> bool:
        return LIKELIHOODS[self.likelihood].has_log_link

    def _settled_mixture_init(self, classes: np.ndarray | None) -> str:
        if self.mixture_init is not None:
            return self.mixture_init
        # Narrow components at random keep classes apart that overlap in the data. Nothing draws samples of unknown
        # class to the right one of them, however.
        all_known = classes is not None and bool((classes >= 0).all())
        return "softball" if all_known or self.latent_init == "zero" else "gmm"

    def _mixture_of(self, how: str, Z: np.ndarray, weights: np.ndarray, n_clusters: int, seed: int) -> FoundMixture:
        return mixture_of(
            how,
            Z,
            weights,
            n_clusters,
            n_init=self.n_init,
            may_be_empty=self.may_be_empty,
            seed=seed,
        )

    def _n_free(self, classes: np.ndarray) -> int:
        """Number of components for samples without a class."""
        return max(0, self.n_clusters - len(self.classes_)) if (classes < 0).any() else 0

    def _train(
        self, source: RowSource, weights: np.ndarray, classes: np.ndarray | None, start: Start, seeds: list[int]
    ) -> bool:
        """Train from a start, keep the model and the representations of the rows, and say if the keyboard ended it."""
        model = self._started(source, weights, start, seeds[0])
        variational = self.representation == "variational"
        representations = torch.from_numpy(start.representations).to(source.like)
        learning = RepresentationLearning(
            model,
            Representations.around(representations, model.latent_prior(), variational),
            torch.from_numpy(weights).to(source.like),
            None if classes is None else torch.from_numpy(classes).to(source.like.device),
        )
        noise_components = self.n_components if variational else None
        batches = NumberedRows(source, self.batch_size, generator_from(seeds[1]), noise_components)
        # Layers of a user's decoder may draw, as dropout does, from torch's global generator.
        with nullcontext() if self.decoder is None else global_draws_from(seeds[1]):
            result = train_representations(
                learning,
                batches,
                self._training_options(math.ceil(len(source) / self.batch_size)),
                self.latent_learning_rate or _FASTER * self.learning_rate,
                self.mixture_learning_rate or _FASTER * self.learning_rate,
                self.callbacks or (),
            )
        self.module_ = model.eval().requires_grad_(False)
        self.history_, self.n_iter_ = result.history, len(result.history)
        self._n_features_out = int(self.n_components)
        self._learned = learning.representations.requires_grad_(False)
        return result.interrupted

    def _started(self, source: RowSource, weights: np.ndarray, start: Start, seed: int) -> MixtureModel:
        """A fresh model with its mixture at the start, and curves at the columns' means."""
        self._config = self._module_config(weights.sum(), source.n_features, start)
        model = cast(MixtureModel, build_model(self._config, generator_from(seed))).to(source.like.device)
        components = (start.weights, start.means, start.variances)
        model.mixture.set_(*(torch.from_numpy(part).to(source.like) for part in components))
        mean, variance = (part.to(source.like) for part in column_moments(source, weights))
        origin = mean.new_zeros(1, self.n_components)
        model.decoder.initialize_(model.likelihood.unlink(mean)[None], mean.new_ones(1), origin)
        model.likelihood.initialize_(mean, variance)
        if self.decoder is not None:
            _check_decoder(model, origin)
        return model

    def _training_options(self, steps_per_epoch: int) -> TrainingOptions:
        return TrainingOptions(
            max_epochs=self.max_epochs or max(_EPOCHS, math.ceil(_LEAST_STEPS / steps_per_epoch)),
            steps_per_epoch=steps_per_epoch,
            learning_rate=self.learning_rate,
            betas=tuple(self.betas),
            annealed_epochs=0,
            tol=self.tol,
            patience=self.n_iter_no_change,
            early_stopping=False,
            decay="cosine",
            verbose=self.verbose,
        )

    def _module_config(self, n_samples: float, n_features: int, start: Start) -> dict[str, Any]:
        return {
            "n_samples": float(n_samples),
            "n_features": n_features,
            "n_components": int(self.n_components),
            "decoder": self._decoder_config(),
            "likelihood": self._likelihood_config(),
            "assignment": None,
            "mixture": {
                "n_mixture_components": len(start.weights),
                "covariance_type": self.covariance_type,
                "dirichlet_alpha": float(self.dirichlet_alpha),
                "softball_scale": float(start.radius),
                "softball_sharpness": float(self.softball_sharpness),
                "learned": self.n_clusters is not None,
            },
            "prior_weight": float(n_samples if self.prior_weight == "n_samples" else self.prior_weight),
            "weight_decay": float(self.weight_decay),
            "z_max": math.inf,
            "beta": 1.0,
            "gamma": 1.0,
        }

    def _decoder_config(self) -> dict[str, Any]:
        if self.decoder is not None:
            return {"name": "module", "module": self.decoder}
        return {
            "name": "neural",
            "n_components": int(self.n_components),
            "hidden_layer_sizes": check_layer_sizes("hidden_layer_sizes", self.hidden_layer_sizes),
            "activation": self.activation,
            "normalized": self._has_totals_for_sizes(),
            "linear_skip": False,
        }

    def _settle(self, source: RowSource, rows: WeightedRows, classes: np.ndarray | None) -> Modes:
        """Refit the mixture, put its components in order, and find the distinct rows' final representations."""
        if self._projection is not None:
            learned = self._learned.means.double().cpu().numpy()
            self._projection = asdict(regressed(Projection(**self._projection), source, rows.weights, learned))
        if self.refit_mixture and self.module_.mixture.learned:
            self._refit(source, rows.weights, classes)
        while True:
            model = self._float64_module()
            modes = self._modes_of(model, source, classes)
            if classes is not None or not model.mixture.learned:
                break
            n = self._samples_of_components(model, modes.position, rows.weights)
            in_order = np.argsort(-n, kind="stable")
            if n.all() or not self.may_be_empty:
                self._keep_components(in_order)
                break
            self._keep_components(in_order[: np.count_nonzero(n)])
        self._warn_unless_converged(modes)
        return modes

    def _refit(self, source: RowSource, weights: np.ndarray, classes: np.ndarray | None) -> None:
        """Settle the mixture on what is known of the learned representations, and drop components left empty."""
        mean = self._learned.means.double()
        while True:
            model = self._float64_module()
            variance = self._learned.variances.double()
            if not variance.any():
                variance = laplace_variances(model, source, mean)
            refit_mixture_(model, mean, variance, weights, classes)
            self.module_.mixture.load_state_dict(model.mixture.state_dict())
            used = self._samples_of_components(model, mean, weights) > 0
            if used.all() or classes is not None or not self.may_be_empty:
                return
            self._keep_components(np.nonzero(used)[0])

    @staticmethod
    def _samples_of_components(model: MixtureModel, positions: Tensor, weights: np.ndarray) -> np.ndarray:
        """Total weight of the samples that each component is the most probable one of: (K,)."""
        shares = model.latent_prior().responsibilities(positions)
        return np.bincount(shares.argmax(1).cpu().numpy(), weights, minlength=shares.shape[1])

    def _keep_components(self, components: np.ndarray) -> None:
        self.module_.mixture.keep_(torch.from_numpy(components).to(self.module_.mixture.means.device))
        self._config["mixture"]["n_mixture_components"] = len(components)

    def _warn_unless_converged(self, modes: Modes) -> None:
        share = float((~modes.converged).double().mean())
        if share > _TOLERATED_SHARE:
            warnings.warn(
                f"The search for a representation did not converge for {share:.0%} of the samples: theirs are rough. A "
                "smooth activation, or a larger weight_decay, makes it easier.",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _store_results(self) -> None:
        super()._store_results()
        mixture = self.prior_mixture_
        self.weights_, self.means_, self.covariances_ = mixture.weights, mixture.means, mixture.sds**2
        self.n_clusters_ = len(self.weights_)

    @property
    def prior_mixture_(self) -> PriorMixture:
        """The mixture's components."""
        check_is_fitted(self, "module_")
        return PriorMixture.of(self._float64_module().cpu().latent_prior())

    # ---- inference: representations, and what is integrated around them -------------------------------------------

    def _float64_module(self) -> MixtureModel:
        return cast(MixtureModel, super()._float64_module())

    def _modes(self, module: GenerativeModel, source: RowSource) -> Modes:
        modes = self._modes_of(cast(MixtureModel, module), source)
        self._warn_unless_converged(modes)
        return modes

    def _modes_of(self, model: MixtureModel, source: RowSource, classes: np.ndarray | None = None) -> Modes:
        projection = None if self._projection is None else Projection(**self._projection)
        return posterior_modes(model, source, projection, classes, float(self.latent_tol))

    def _posterior_mean(self, module: GenerativeModel, source: RowSource) -> Tensor:
        return self._modes(module, source).position

    def _posterior_fields(
        self, module: GenerativeModel, source: RowSource, credible_level: float
    ) -> tuple[Tensor, ...]:
        mode = self._posterior_mean(module, source)
        sd = laplace_variances(cast(MixtureModel, module), source, mode).sqrt()
        half_width = norm.ppf(0.5 + 0.5 * credible_level) * sd
        return mode, sd, mode - half_width, mode + half_width

    def _log_evidence(self, module: GenerativeModel, source: RowSource) -> Tensor:
        modes = self._posterior_mean(module, source)
        return sampled_log_evidence(cast(MixtureModel, module), source, modes, self.n_importance_samples)

    def _evidence_bound(self, module: GenerativeModel, source: RowSource) -> Tensor:
        modes = self._posterior_mean(module, source)
        return laplace_bound(cast(MixtureModel, module), source, modes, self.n_importance_samples)


@torch.no_grad()
def _check_decoder(model: MixtureModel, origin: Tensor) -> None:
    """Raise unless a user's decoder takes latents (1, Q) and has a value for every feature."""
    training = model.training
    try:
        slopes(model.eval().predictive_curves, origin)
    except ValueError:  # of ours, which says all there is to say
        raise
    except Exception as error:
        raise ValueError(
            f"decoder failed on latents of shape (n, {origin.shape[1]}), which it has to take with "
            f"n_components={origin.shape[1]}: {error}"
        ) from error
    finally:
        model.train(training)


def _checked_weights(sample_weight: Any, X: Any) -> np.ndarray:
    """Weights (N,), ones where there are none."""
    weights = check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    if not (weights > 0).any():
        raise ValueError("sample_weight is zero for every sample: there is nothing to fit.")
    return weights
