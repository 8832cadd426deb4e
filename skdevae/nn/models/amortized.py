"""AmortizedModel: an encoder says where on the latent a row lies."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..encoders import GaussianEncoder
from ..latent_grid import counted
from ..layers import without_batch_effects
from ..losses import LossTerms
from ..posteriors import Encoding, GaussianPosterior
from ..priors import GaussianMixture, Prior, StandardNormal
from ..rows import DenseRows
from .base import GenerativeModel


class AmortizedModel(GenerativeModel):
    """The model as published: an encoder for q(z | x), reparameterised samples, gradient steps on q(w).

    Parameters
    ----------
    *args, **options
        See :class:`GenerativeModel`.
    encoder : GaussianEncoder
    posterior_family : GaussianPosterior
        What becomes of the encoder's Gaussian.
    prior : Prior
        p(z).
    variational : bool
        Whether z is drawn from q(z | x) and its divergence from p(z) counts. Else z is the encoder's mean: a plain
        autoencoder.
    many_strata : bool, optional
        Whether training rows had more different covariates than a grid can serve. None where that is not known.

    Attributes
    ----------
    divergence_weight : float
        Factor on beta and gamma in training: the KL warm-up raises it from 0 to 1. In evaluation mode it is 1.
    """

    amortized = True

    def __init__(
        self,
        *args: Any,
        encoder: GaussianEncoder,
        posterior_family: GaussianPosterior,
        prior: Prior,
        variational: bool,
        many_strata: bool | None = None,
        **options: Any,
    ):
        super().__init__(*args, **options)
        self.many_strata = many_strata
        self.encoder = encoder
        self.posterior_family = posterior_family
        self.prior = prior
        self.variational = variational
        self.divergence_weight = 1.0

    def mirror_(self, component: int) -> None:
        super().mirror_(component)
        for part in (self.encoder, self.posterior_family, self.prior):
            part.mirror_(component)

    @property
    def leaves_parameters_out(self) -> bool:
        return super().leaves_parameters_out or self.prior.leaves_parameters_out

    def latent_prior(self) -> GaussianMixture:
        return self.prior.mixture(self._encode_inputs)

    def _encode_inputs(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log sds (K, Q) for inputs (K, D) that are not data, with average covariates."""
        with without_batch_effects(self.encoder):
            encoding = self.encoder.encode(inputs)
        return encoding.mean, encoding.log_sd

    def initialize_prior_(self, inputs: Tensor) -> None:
        """Start the prior from rows (K, D), on the encoder's scale, that stand for the data."""
        self.prior.initialize_(inputs, self._encode_inputs)

    @property
    def has_closed_divergence(self) -> bool:
        """Whether KL(q(z | x) || p(z)) has a formula."""
        return self.posterior_family.is_gaussian and isinstance(self.prior, StandardNormal)

    def log_likelihood(self, rows: DenseRows, z: Tensor, with_constant: bool = True) -> Tensor:
        """``E_q(w) log p(x | z, w)`` of every row at its own z (B, Q), or what of it depends on z: (B,)."""
        phi = self.assignment.responsibilities.T
        likelihood, curves = self.candidates_in_context(self.curves(z, rows.context), rows.context)
        return likelihood.expected_row_log_prob(rows, curves, z, phi, with_constant)

    def divergence(self, encoding: Encoding, z: Tensor, log_q: Tensor, prior: GaussianMixture) -> Tensor:
        """KL(q(z | x) || p(z)) of every row, or its estimate from one z (B, Q) each with log q (B,): (B,)."""
        if self.has_closed_divergence:
            return standard_normal_divergence(encoding.mean, encoding.log_sd)
        return log_q - prior.log_density(z)

    def forward(self, rows: DenseRows, noise: Tensor) -> LossTerms:
        """The objective on a batch, with z drawn through standard normal ``noise`` (B, Q).

        The rows' weights are relative to their mean over the table.
        """
        encoding = self.encoder(rows)
        if self.variational:
            z, log_q = self.posterior_family.draw(encoding, noise)
            latent = counted(rows, self.divergence(encoding, z, log_q, self.latent_prior())).mean()
        else:
            z, latent = encoding.mean, torch.zeros_like(encoding.mean[0, 0])
        weight = self.divergence_weight if self.training else 1.0
        return LossTerms(
            reconstruction=-counted(rows, self.log_likelihood(rows, z)).mean(),
            latent=latent,
            clusters=self.assignment.divergence(),
            parameters=-self.log_prior(),
            n_samples=self.n_samples,
            beta=self.beta * weight,
            gamma=self.gamma * weight,
        )


def standard_normal_divergence(mean: Tensor, log_sd: Tensor) -> Tensor:
    """KL(N(mean, sd^2) || N(0, 1)) summed over components: (B,) from (B, Q)."""
    return (0.5 * (mean**2 + torch.exp(2 * log_sd) - 1) - log_sd).sum(1)
