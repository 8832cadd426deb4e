"""DGD parameters: what a fit reads of a DGDEmbedder, as one object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any

from torch import nn

from ..nn.likelihoods import LIKELIHOODS
from ..nn.regularized_mixture import Softball
from ..table.validation import check_layer_sizes
from ..training.settings import plain

#: how many times the decoder's learning rate those of representations and mixture are, where they are None
_FASTER = 10


@dataclass(frozen=True)
class LearningRates:
    """Starting rates of Adam for the decoder, the representations and the mixture, and its decay rates for all."""

    decoder: float
    latent: float
    mixture: float
    betas: tuple[float, float]


@dataclass(frozen=True)
class DGDParameters:
    """Parameters of the estimator, under its own names."""

    n_components: int
    n_clusters: int | None
    representation: str
    supervised: bool
    likelihood: str
    latent_init: str
    mixture_init: str | None
    covariance_type: str
    may_be_empty: bool
    dirichlet_alpha: float
    softball_scale: float
    softball_sharpness: float
    prior_weight: str | float
    refit_mixture: bool
    decoder: nn.Module | None
    hidden_layer_sizes: Sequence[int]
    activation: str
    weight_decay: float
    learning_rate: float
    latent_learning_rate: float | None
    mixture_learning_rate: float | None
    betas: Sequence[float]
    latent_tol: float
    n_init: int
    n_importance_samples: int

    @classmethod
    def of(cls, estimator: Any) -> DGDParameters:
        """The parameters of an estimator as they are now."""
        return cls(**{field.name: plain(getattr(estimator, field.name)) for field in fields(cls)})

    def check(self) -> None:
        """Raise if parameters contradict each other."""
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

    @property
    def variational(self) -> bool:
        """Whether representations are Gaussians, not points."""
        return self.representation == "variational"

    @property
    def has_log_link(self) -> bool:
        """Whether X holds counts whose logs are modelled."""
        return LIKELIHOODS[self.likelihood].has_log_link

    @property
    def softball(self) -> Softball:
        """Prior of the means, in the published units."""
        return Softball(self.n_components, self.softball_scale, self.softball_sharpness)

    @property
    def rates(self) -> LearningRates:
        """Learning rates, those that are None settled."""
        faster = _FASTER * self.learning_rate
        return LearningRates(
            decoder=self.learning_rate,
            latent=self.latent_learning_rate or faster,
            mixture=self.mixture_learning_rate or faster,
            betas=(float(self.betas[0]), float(self.betas[1])),
        )
