"""MixtureModel: the deep generative decoder, with a learned mixture and no encoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..layers import weights_log_prior
from ..neural_decoders import ConditionalDecoder
from ..priors import GaussianMixture
from ..regularized_mixture import RegularizedMixture
from ..rows import DenseRows
from .base import GenerativeModel


class MixtureModel(GenerativeModel):
    """z follows a learned Gaussian mixture, and nothing but the decoder is a network.

    Parameters
    ----------
    *args, **options
        See :class:`GenerativeModel`. ``weight_precision`` is that of the prior on all of the decoder's weights.
    mixture : RegularizedMixture
    prior_weight : float
        Factor on the log prior of the mixture's parameters.
    """

    def __init__(self, *args: Any, mixture: RegularizedMixture, prior_weight: float, **options: Any):
        super().__init__(*args, **options)
        self.mixture = mixture
        self.prior_weight = prior_weight

    def latent_prior(self) -> GaussianMixture:
        return self.mixture.mixture()

    def log_prior(self) -> Tensor:
        """log p(theta) and the weighted log p(phi), up to a constant: a scalar."""
        # Effects of covariates have a prior of their own.
        held = (w for name, w in self.decoder.named_parameters() if w.ndim > 1 and name != "effects")
        squares = [w.square().sum() for w in held]
        total = torch.stack(squares).sum() if squares else torch.zeros(())
        of_the_decoder = weights_log_prior(total, self.weight_precision)
        if isinstance(self.decoder, ConditionalDecoder):
            of_the_decoder = of_the_decoder + self.decoder.effects_log_prior().sum()
        return of_the_decoder + self.likelihood.log_prior() + self.prior_weight * self.mixture.log_prior()

    def log_likelihood(self, rows: DenseRows, z: Tensor, with_constant: bool = True) -> Tensor:
        """log p(x | z) of every row at its own z (B, Q), or what of it depends on z: (B,)."""
        phi = self.assignment.responsibilities.T
        likelihood, curves = self.candidates_in_context(self.curves(z, rows.context), rows.context)
        return likelihood.expected_row_log_prob(rows, curves, z, phi, with_constant)
