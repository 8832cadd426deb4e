"""From a configuration of plain values to a model, and so from a saved file to one."""

from __future__ import annotations

from typing import Any

import torch

from ..cluster_prior import ASSIGNMENTS, OnlyCandidate
from ..copies import BasisDecoder
from ..covariate_effects import CovariateEffects
from ..decoders import AdditiveDerivativeDecoder, Decoder, DerivativeDecoder
from ..encoders import GaussianEncoder
from ..likelihoods import LIKELIHOODS
from ..neural_decoders import ModuleDecoder, NeuralDecoder
from ..posteriors import POSTERIORS
from ..priors import PRIORS
from ..regularized_mixture import RegularizedMixture
from .amortized import AmortizedModel
from .base import GenerativeModel
from .exact import ExactModel
from .mixture import MixtureModel

#: name -> decoder
DECODERS: dict[str, type[Decoder]] = {
    "derivative": DerivativeDecoder,
    "additive": AdditiveDerivativeDecoder,
    "neural": NeuralDecoder,
    "basis": BasisDecoder,
    "module": ModuleDecoder,
}


def build_model(config: dict[str, Any], generator: torch.Generator) -> GenerativeModel:
    """The model that a configuration of plain values describes, with weights drawn from the generator.

    ``config["decoder"]``, ``["likelihood"]`` and ``["assignment"]`` are dicts of a ``name`` and constructor arguments.
    ``["average_covariates"]`` are those of covariates that have additive effects, if there are any.
    An assignment of None stands for one candidate, an encoder of None for exact inference. Of an amortised model,
    ``["prior"]`` and ``["posterior_family"]`` are such dicts too. A ``config["mixture"]``, arguments of a
    :class:`RegularizedMixture`, makes it a :class:`MixtureModel`.
    """
    n_features, n_components = config["n_features"], config["n_components"]
    decoder = _named(DECODERS, config["decoder"], n_features, generator=generator)
    likelihood = _named(LIKELIHOODS, config["likelihood"], n_features)
    assignment = (
        OnlyCandidate(n_features)
        if config["assignment"] is None
        else _named(ASSIGNMENTS, config["assignment"], n_features)
    )
    parts = (config["n_samples"], n_components, decoder, likelihood, assignment)
    weights = {name: config[name] for name in ("z_max", "weight_precision", "beta", "gamma")}
    weights["margin"] = config.get("margin")
    if config.get("average_covariates"):
        weights["effects"] = CovariateEffects(n_features, config["average_covariates"])
    if "mixture" in config:
        mixture = RegularizedMixture(n_components=n_components, **config["mixture"])
        return MixtureModel(*parts, mixture=mixture, prior_weight=config["prior_weight"], **weights)
    if config["encoder"] is None:
        return ExactModel(*parts, **weights)
    posterior_family = _named(POSTERIORS, config["posterior_family"], n_components, generator=generator)
    encoder = GaussianEncoder(
        n_features, n_components, n_context=posterior_family.n_context, generator=generator, **config["encoder"]
    )
    return AmortizedModel(
        *parts,
        encoder=encoder,
        posterior_family=posterior_family,
        prior=_named(PRIORS, config["prior"], n_features, n_components),
        variational=config["variational"],
        many_strata=config.get("many_strata"),  # older files do not know
        **weights,
    )


def _named(registry: dict[str, Any], config: dict[str, Any], *sizes: int, **more: Any) -> Any:
    arguments = {name: value for name, value in config.items() if name != "name"}
    return registry[config["name"]](*sizes, **arguments, **more)
