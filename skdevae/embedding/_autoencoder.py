"""What variational autoencoders share: interchangeable priors and posteriors, size factors, plain autoencoders."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any, ClassVar, cast

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from .._base.estimator import has_density
from .._base.fitting import LatentVariableModel
from .._sklearn import Interval, StrOptions
from ..nn.layers import NORMALIZATIONS
from ..nn.likelihoods import LIKELIHOODS
from ..nn.models import AmortizedModel
from ..nn.posteriors import POSTERIORS
from ..nn.priors import PRIORS, VampPrior
from ..table.source import RowSource
from ..table.validation import check_layer_sizes
from ..training.threads import products_gain
from ._prior_mixture import PriorMixture
from ._pseudo_inputs import STARTS, starting_inputs
from ._sized import SizeFactorModel

#: most pseudo-inputs, where nothing is said, and samples that there should be for each: with a pseudo-input for every
#: few samples the prior comes to be a list of them, and likelihoods of others fall
_PSEUDO_INPUTS, _SAMPLES_PER_PSEUDO_INPUT = 500, 10


class VariationalAutoencoder(SizeFactorModel, LatentVariableModel):
    """Base of the estimators with an encoder and a neural decoder; subclasses have the defaults."""

    inference = "amortized"
    #: hidden layers of the decoder, where nothing is said, by its kind
    _default_hidden_layers: ClassVar[dict[str, tuple[int, ...]]] = {"mlp": (64,), "linear": ()}

    _parameter_constraints: ClassVar[dict] = {
        **LatentVariableModel._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "decoder": [StrOptions({"mlp", "linear"})],
        "prior": [StrOptions(set(PRIORS))],
        "n_pseudo_inputs": [None, Interval(Integral, 1, None, closed="left")],
        "pseudo_input_init": [StrOptions(set(STARTS))],
        "learn_pseudo_inputs": ["boolean"],
        "n_mixture_components": [Interval(Integral, 1, None, closed="left")],
        "learn_mixture_weights": ["boolean"],
        "posterior_family": [StrOptions(set(POSTERIORS))],
        "n_flows": [Interval(Integral, 1, None, closed="left")],
        "variational": ["boolean"],
        **SizeFactorModel._size_factor_constraints,
        "hidden_layer_sizes": [None, "array-like"],
        "normalization": [None, StrOptions(set(NORMALIZATIONS))],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "linear_skip": ["boolean"],
        "learning_rate_decay": [StrOptions({"cosine", "plateau"})],
        "n_importance_samples": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_components,
        *,
        decoder,
        prior,
        n_pseudo_inputs,
        pseudo_input_init,
        learn_pseudo_inputs,
        n_mixture_components,
        learn_mixture_weights,
        posterior_family,
        n_flows,
        variational,
        likelihood,
        size_factors,
        hidden_layer_sizes,
        encoder_hidden_layer_sizes,
        activation,
        normalization,
        dropout,
        linear_skip,
        beta,
        kl_warmup,
        weight_decay,
        noise_floor,
        learning_rate,
        learning_rate_decay,
        batch_size,
        max_epochs,
        early_stopping,
        validation_fraction,
        n_iter_no_change,
        tol,
        n_init,
        n_importance_samples,
        orientation,
        device,
        random_state,
        verbose,
        callbacks,
    ):
        self.n_components = n_components
        self.decoder = decoder
        self.prior = prior
        self.n_pseudo_inputs = n_pseudo_inputs
        self.pseudo_input_init = pseudo_input_init
        self.learn_pseudo_inputs = learn_pseudo_inputs
        self.n_mixture_components = n_mixture_components
        self.learn_mixture_weights = learn_mixture_weights
        self.posterior_family = posterior_family
        self.n_flows = n_flows
        self.variational = variational
        self.likelihood = likelihood
        self.size_factors = size_factors
        self.hidden_layer_sizes = hidden_layer_sizes
        self.encoder_hidden_layer_sizes = encoder_hidden_layer_sizes
        self.activation = activation
        self.normalization = normalization
        self.dropout = dropout
        self.linear_skip = linear_skip
        self.beta = beta
        self.kl_warmup = kl_warmup
        self.weight_decay = weight_decay
        self.noise_floor = noise_floor
        self.learning_rate = learning_rate
        self.learning_rate_decay = learning_rate_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.n_init = n_init
        self.n_importance_samples = n_importance_samples
        self.orientation = orientation
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks

    def _gains_from_threads(self, table: RowSource) -> bool:
        # Layers next to the features, with the most weights.
        encoder = check_layer_sizes("encoder_hidden_layer_sizes", self.encoder_hidden_layer_sizes)[:1]
        decoder = self._decoder_config(table.n_features)["hidden_layer_sizes"][-1:]
        batch = min(int(self.batch_size), len(table))
        return super()._gains_from_threads(table) or products_gain(
            batch, table.n_features, max([1, *encoder, *decoder])
        )

    # ---- the module -----------------------------------------------------------------------------------------------

    def _decoder_config(self, n_features: int) -> dict[str, Any]:
        sizes = self.hidden_layer_sizes
        if sizes is None:
            sizes = self._default_hidden_layers[self.decoder]
        if self.decoder == "linear" and len(sizes):
            raise ValueError(
                f"hidden_layer_sizes={self.hidden_layer_sizes!r}, but decoder='linear' has no hidden layers: leave "
                "hidden_layer_sizes out, or choose decoder='mlp'."
            )
        return {
            "name": "neural",
            "n_components": int(self.n_components),
            "hidden_layer_sizes": check_layer_sizes("hidden_layer_sizes", sizes),
            "activation": self.activation,
            "normalized": self._has_totals_for_sizes(),
            **self._encoder_options(),
        }

    def _encoder_options(self) -> dict[str, Any]:
        return {
            "normalization": self.normalization,
            "dropout": float(self.dropout),
            "linear_skip": self._starts_at_components(),
        }

    def _latent_config(self, n_samples: int) -> dict[str, Any]:
        if not self.variational:  # nothing is asked of an autoencoder's latents
            return {**super()._latent_config(n_samples), "variational": False}
        if self.prior == "vamp" and self.posterior_family != "normal":
            raise ValueError(
                f"prior='vamp' with posterior_family={self.posterior_family!r}: the density of a mixture of flows "
                "needs each of them inverted at every latent. Choose prior='mixture', or posterior_family='normal'."
            )
        posterior: dict[str, Any] = {"name": self.posterior_family}
        if self.posterior_family == "iaf":
            posterior["n_flows"] = int(self.n_flows)
        return {"prior": self._prior_config(n_samples), "posterior_family": posterior, "variational": True}

    def _prior_config(self, n_samples: int) -> dict[str, Any]:
        if self.prior == "normal":
            return {"name": "normal"}
        config: dict[str, Any] = {"name": self.prior, "learn_weights": bool(self.learn_mixture_weights)}
        if self.prior == "mixture":
            return {**config, "n_mixture_components": min(int(self.n_mixture_components), n_samples)}
        config["learn_pseudo_inputs"] = bool(self.learn_pseudo_inputs)
        return {**config, "n_mixture_components": self._settled_pseudo_inputs(n_samples)}

    def _settled_pseudo_inputs(self, n_samples: int) -> int:
        if self.n_pseudo_inputs is None:
            return int(np.clip(n_samples // _SAMPLES_PER_PSEUDO_INPUT, 1, _PSEUDO_INPUTS))
        if self.n_pseudo_inputs > n_samples:
            warnings.warn(
                f"n_pseudo_inputs={self.n_pseudo_inputs}, but there are {n_samples} samples to train on: the prior has "
                "as many pseudo-inputs.",
                UserWarning,
                stacklevel=7,  # past the wrapper that validates parameters
            )
        return min(int(self.n_pseudo_inputs), n_samples)

    def _starting_inputs(self, module: AmortizedModel, source: RowSource, seed: int) -> Tensor | None:
        n = module.prior.n_starting_inputs
        if n == 0:
            return None
        how = self.pseudo_input_init if isinstance(module.prior, VampPrior) else "kmeans"
        return starting_inputs(source, module.encoder.inputs, n, how, seed)

    def _starting_points(self, source: RowSource, start: Tensor, seed: int) -> Tensor:
        if self._starts_at_components():
            return super()._starting_points(source, start, seed)
        return torch.zeros_like(start[:1])  # of a decoder that starts constant, at the columns' means

    def _learning_rate_decay(self) -> str:
        return self.learning_rate_decay

    def _starts(
        self, source: RowSource, reference: np.ndarray | None, seeds: list[int]
    ) -> Iterator[tuple[int, np.ndarray]]:
        if self._starts_at_components():
            return super()._starts(source, reference, seeds)
        # Random weights: there is nothing for principal components to start.
        return ((seed, np.zeros((len(source), self.n_components))) for seed in seeds)

    def _starts_at_components(self) -> bool:
        """Whether encoder and decoder have linear maps to start at principal components."""
        return bool(self.linear_skip) or self.decoder == "linear"

    # ---- the fitted prior ---------------------------------------------------------------------------------------

    @property
    def prior_mixture_(self) -> PriorMixture:
        """Components of the prior."""
        check_is_fitted(self, "module_")
        has_density(self)
        with torch.no_grad():
            return PriorMixture.of(self._float64_module().cpu().latent_prior())

    @property
    def mixture_weights_(self) -> np.ndarray:
        """Weights of the prior's components."""
        return self.prior_mixture_.weights

    @property
    def pseudo_inputs_(self) -> np.ndarray:
        """Pseudo-inputs in the units of X."""
        check_is_fitted(self, "module_")
        has_density(self)
        prior = cast(AmortizedModel, self.module_).prior
        if not isinstance(prior, VampPrior):
            raise AttributeError("Only a model with prior='vamp' has pseudo-inputs.")
        inputs = prior.pseudo_inputs.double().cpu().numpy()
        counts = LIKELIHOODS[self._config["likelihood"]["name"]].counts
        return np.expm1(inputs) if counts else self._in_user_units(inputs)
