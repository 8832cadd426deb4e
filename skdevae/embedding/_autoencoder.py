"""VariationalAutoencoder: an encoder, a neural decoder, and a choice of priors and posteriors between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from .._base.defaults import TrainingDefaults
from .._base.fitting import LatentVariableModel
from .._base.simulation import require_density
from .._base.starts import Start
from .._sklearn import Interval, StrOptions
from .._typing import ColumnChoice, SizeRule, UnknownCovariate
from .._warnings import warn_user
from ..nn.layers import NORMALIZATIONS
from ..nn.likelihoods import LIKELIHOODS
from ..nn.models import AmortizedModel
from ..nn.posteriors import POSTERIORS
from ..nn.priors import PRIORS, VampPrior
from ..table.regression import effects_on
from ..table.source import RowSource
from ..table.validation import check_layer_sizes
from ..training.settings import FitSettings
from ..training.threads import products_gain
from ._prior_mixture import PriorMixture
from ._pseudo_inputs import STARTS, starting_inputs

#: most pseudo-inputs, where ``n_pseudo_inputs`` is None
_PSEUDO_INPUTS = 500
#: samples for each pseudo-input, where ``n_pseudo_inputs`` is None: with fewer, the prior learns the samples by heart
_SAMPLES_PER_PSEUDO_INPUT = 10

Decoder = Literal["mlp", "linear"]
Prior = Literal["normal", "mixture", "vamp"]
PseudoInputInit = Literal["kmeans", "data", "random"]
PosteriorFamily = Literal["normal", "iaf"]
Normalization = Literal["batch", "layer"] | None
LearningRateDecay = Literal["cosine", "plateau"]


@dataclass(frozen=True)
class AutoencoderDefaults(TrainingDefaults):
    """Defaults of a family of autoencoders: those of training, and the hidden layers of a perceptron as decoder."""

    hidden_layer_sizes: tuple[int, ...] = (64,)


class VariationalAutoencoder(LatentVariableModel):
    """Base of the estimators with an encoder and a neural decoder. Subclasses differ in their defaults."""

    n_components: int
    decoder: Decoder
    prior: Prior
    n_pseudo_inputs: int | None
    pseudo_input_init: PseudoInputInit
    learn_pseudo_inputs: bool
    n_mixture_components: int
    learn_mixture_weights: bool
    posterior_family: PosteriorFamily
    n_flows: int
    variational: bool
    size_factors: SizeRule
    covariates: ColumnChoice
    unknown_covariate: UnknownCovariate
    normalization: Normalization
    dropout: float
    linear_skip: bool

    _training_defaults: ClassVar[AutoencoderDefaults] = AutoencoderDefaults()

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
        **LatentVariableModel._size_factor_constraints,
        **LatentVariableModel._covariate_constraints,
        "hidden_layer_sizes": [None, "array-like"],
        "normalization": [None, StrOptions(set(NORMALIZATIONS))],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "linear_skip": ["boolean"],
        "learning_rate_decay": [StrOptions({"cosine", "plateau"})],
        "n_importance_samples": [Interval(Integral, 1, None, closed="left")],
        "data_parallel": ["boolean"],
    }

    def _settings(self) -> FitSettings:
        return replace(super()._settings(), inference="amortized")

    def _gains_from_threads(self, source: RowSource) -> bool:
        # The layers next to the features have the most weights.
        encoder = check_layer_sizes("encoder_hidden_layer_sizes", self.encoder_hidden_layer_sizes)[:1]
        decoder = self._decoder_config(source.n_features)["hidden_layer_sizes"][-1:]
        batch = min(int(self.batch_size), len(source))
        return super()._gains_from_threads(source) or products_gain(
            batch, source.n_features, max([1, *encoder, *decoder])
        )

    # ---- the module -------------------------------------------------------------------------------------------------

    def _decoder_config(self, n_features: int) -> dict[str, Any]:
        return {
            "name": "neural",
            "n_components": int(self.n_components),
            "hidden_layer_sizes": self._decoder_layers(),
            "activation": self.activation,
            "normalized": self._reader_.has_totals,
            "average_covariates": self._reader_.average_design,
            **self._encoder_options(),
        }

    def _decoder_layers(self) -> tuple[int, ...]:
        sizes = self.hidden_layer_sizes
        if sizes is None:
            sizes = () if self.decoder == "linear" else self._training_defaults.hidden_layer_sizes
        if self.decoder == "linear" and len(sizes):
            raise ValueError(
                f"hidden_layer_sizes={self.hidden_layer_sizes!r}, but decoder='linear' has no hidden layers: leave "
                "hidden_layer_sizes out, or choose decoder='mlp'."
            )
        return check_layer_sizes("hidden_layer_sizes", sizes)

    def _encoder_options(self) -> dict[str, Any]:
        return {
            "normalization": self.normalization,
            "dropout": float(self.dropout),
            "linear_skip": self._starts_at_components(),
        }

    def _latent_config(self, n_rows: int) -> dict[str, Any]:
        if not self.variational:  # an autoencoder has no distribution of latents
            return {**super()._latent_config(n_rows), "variational": False}
        if self.prior == "vamp" and self.posterior_family != "normal":
            raise ValueError(
                f"prior='vamp' with posterior_family={self.posterior_family!r}: the density of a mixture of flows "
                "needs each of them inverted at every latent. Choose prior='mixture', or posterior_family='normal'."
            )
        posterior: dict[str, Any] = {"name": self.posterior_family}
        if self.posterior_family == "iaf":
            posterior["n_flows"] = int(self.n_flows)
        return {"prior": self._prior_config(n_rows), "posterior_family": posterior, "variational": True}

    def _prior_config(self, n_rows: int) -> dict[str, Any]:
        if self.prior == "normal":
            return {"name": "normal"}
        config: dict[str, Any] = {"name": self.prior, "learn_weights": bool(self.learn_mixture_weights)}
        if self.prior == "mixture":
            return {**config, "n_mixture_components": min(int(self.n_mixture_components), n_rows)}
        config["learn_pseudo_inputs"] = bool(self.learn_pseudo_inputs)
        return {**config, "n_mixture_components": self._settled_pseudo_inputs(n_rows)}

    def _settled_pseudo_inputs(self, n_rows: int) -> int:
        if self.n_pseudo_inputs is None:
            return int(np.clip(n_rows // _SAMPLES_PER_PSEUDO_INPUT, 1, _PSEUDO_INPUTS))
        if self.n_pseudo_inputs > n_rows:
            warn_user(
                f"n_pseudo_inputs={self.n_pseudo_inputs}, but there are {n_rows} samples to train on: the prior has "
                "as many pseudo-inputs."
            )
        return min(int(self.n_pseudo_inputs), n_rows)

    # ---- the start --------------------------------------------------------------------------------------------------

    def _starting_inputs(self, module: AmortizedModel, source: RowSource, seed: int) -> Tensor | None:
        n = module.prior.n_starting_inputs
        if n == 0:
            return None
        how = self.pseudo_input_init if isinstance(module.prior, VampPrior) else "kmeans"
        inputs = module.encoder.adjusted_inputs(effects_on(source, module.encoder.inputs))
        return starting_inputs(source, inputs, n, how, seed)

    def _starting_points(self, source: RowSource, start: Tensor, seed: int) -> Tensor:
        if self._starts_at_components():
            return super()._starting_points(source, start, seed)
        # Without linear maps the decoder starts constant, at the columns' means. One point says that.
        return torch.zeros_like(start[:1])

    def _starts(self, source: RowSource, reference: np.ndarray | None, seeds: list[int]) -> Iterator[Start]:
        if self._starts_at_components():
            return super()._starts(source, reference, seeds)
        # All weights are random, so principal components have no place to start from.
        return (Start(seed, np.zeros((len(source), self._settings().n_components))) for seed in seeds)

    def _starts_at_components(self) -> bool:
        """Whether encoder and decoder have linear maps that start at principal components."""
        return bool(self.linear_skip) or self.decoder == "linear"

    # ---- the fitted prior -------------------------------------------------------------------------------------------

    @property
    def prior_mixture_(self) -> PriorMixture:
        """Components of the prior.

        It has ``weights`` of shape (K,), ``means`` and ``sds`` of shape (K, n_components).

        Examples
        --------
        >>> from skdevae import VampVAE
        >>> from skdevae.datasets import make_cell_clusters
        >>> cells = make_cell_clusters(60, 20, random_state=0)
        >>> vamp = VampVAE(2, n_pseudo_inputs=4, n_clusters=2, likelihood="poisson", max_epochs=5, random_state=0)
        >>> prior = vamp.fit(cells.data).prior_mixture_
        >>> prior.means.shape  # four components of the prior, two dimensions of the latent
        (4, 2)
        """
        check_is_fitted(self, "module_")
        require_density(self)
        return PriorMixture.of(self._float64_module().latent_prior())

    @property
    def mixture_weights_(self) -> np.ndarray:
        """Weights of the prior's components.

        Examples
        --------
        >>> from skdevae import VampVAE
        >>> from skdevae.datasets import make_cell_clusters
        >>> cells = make_cell_clusters(60, 20, random_state=0)
        >>> vamp = VampVAE(2, n_pseudo_inputs=4, n_clusters=2, likelihood="poisson", max_epochs=5, random_state=0)
        >>> weights = vamp.fit(cells.data).mixture_weights_
        >>> weights.shape, bool(abs(weights.sum() - 1) < 1e-6)
        ((4,), True)
        """
        return self.prior_mixture_.weights

    @property
    def pseudo_inputs_(self) -> np.ndarray:
        """Pseudo-inputs in the units of X.

        They are those of ``prior="vamp"``; for counts, those of a sample of median size. Their covariates are average.
        They are parameters of the model and not data, so counts are fractional and can be a little below zero.

        Examples
        --------
        >>> from skdevae import VampVAE
        >>> from skdevae.datasets import make_cell_clusters
        >>> cells = make_cell_clusters(60, 20, random_state=0)
        >>> vamp = VampVAE(2, n_pseudo_inputs=4, n_clusters=2, likelihood="poisson", max_epochs=5, random_state=0)
        >>> vamp.fit(cells.data).pseudo_inputs_.shape  # as many rows as the prior has components, in the units of X
        (4, 20)
        """
        check_is_fitted(self, "module_")
        require_density(self)
        prior = cast(AmortizedModel, self.module_).prior
        if not isinstance(prior, VampPrior):
            raise AttributeError("Only a model with prior='vamp' has pseudo-inputs.")
        inputs = prior.pseudo_inputs.double().cpu().numpy()
        counts = LIKELIHOODS[self._config_["likelihood"]["name"]].counts
        return self._reader_.to_user(np.expm1(inputs) if counts else inputs)
