"""Negative-binomial likelihoods: counts more variable than Poisson's, with or without excess zeros."""

from __future__ import annotations

from copy import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

from ..linear_tables import LinearTables
from ..rows import DenseRows, Rows
from .counts import CountLikelihood
from .negative_binomial_sums import count_constants, log_ratio_of_gammas, row_sums
from .poisson import LEAST_MEAN, bounded_log_mean, draw_counts

#: least and largest dispersion that a feature starts with
_STARTING_DISPERSION = (0.1, 100)
#: least excess of the variance over the mean that the starting dispersion is worked out from
_LEAST_EXCESS = 1e-3
#: mean and sd of the prior on log dispersions
_LOG_DISPERSION_PRIOR = (1, 3)
#: mean and sd of the prior on the logit of an excess zero, where z is 0; the logit starts at the mean
_INFLATION_PRIOR = (-2, 2)


class NegativeBinomial(CountLikelihood):
    """x ~ NB with mean exp(curve) and variance mean + mean^2 / dispersion; one dispersion for each feature.

    With ``scales_dispersion``, rows of size s have s times the dispersion. Where the mean of size 1 is m, the variance
    is ``s (m + m^2 / dispersion)``: a row is like the sum of s independent rows of size 1. The probability of success
    is free of s, so the log-likelihood is linear in x and s. Without it, all rows have the same dispersion.
    """

    has_log_link = True
    has_dispersion = True

    def __init__(self, n_features: int, *, scales_dispersion: bool = False):
        super().__init__(n_features)
        self.scales_dispersion = scales_dispersion
        self.log_dispersion = nn.Parameter(torch.zeros(n_features))

    @property
    def dispersion(self) -> Tensor:
        """Inverse overdispersion theta, (D,): the Poisson limit is at infinity."""
        return self.log_dispersion.exp()

    @property
    def is_linear_in_size(self) -> bool:  # type: ignore[override]  # the scaled one does
        return self.scales_dispersion

    def own_parameters(self) -> tuple[Tensor, ...]:
        return (self.log_dispersion,)

    def own_of_size(self, own: tuple[Tensor, ...], log_size: Tensor) -> tuple[Tensor, ...]:
        return (own[0] + log_size, *own[1:]) if self.scales_dispersion else own

    def of_size(self, log_size: Tensor) -> NegativeBinomial:
        if not self.scales_dispersion:
            return self
        sized = copy(self)  # of its parameters, all but one are shared
        sized._parameters = {k: v for k, v in self._parameters.items() if k != "log_dispersion"}
        sized.log_dispersion = self.log_dispersion + log_size[:, None]  # type: ignore[assignment]  # no parameter
        return sized

    def log_zero(self, curves: Tensor, z: Tensor, *own: Tensor) -> Tensor:
        (log_dispersion,) = own
        # Signs are moved to the small operands, here and below: each pass over the curves counts, going back too.
        return -log_dispersion.exp() * softplus(curves + (-log_dispersion))

    def coefficients(self, curves: Tensor, z: Tensor, *own: Tensor) -> LinearTables:
        (log_dispersion,) = own
        ratio = curves - log_dispersion  # log(mean / dispersion)
        # The slope, log(mean / (mean + dispersion)), is next to nothing where means are large: a difference loses it.
        return LinearTables(-log_dispersion.exp() * softplus(ratio), logsigmoid(ratio), None)

    def information(self, curves: Tensor, z: Tensor) -> Tensor:
        return self.dispersion * torch.sigmoid(curves - self.log_dispersion)

    def entry_constant(self, x: Tensor, *own: Tensor) -> Tensor:
        # In double precision: of large counts, the difference is a small part of each term.
        return log_ratio_of_gammas(x.double(), own[0].double().exp()).to(x)

    def row_log_prob(self, rows: DenseRows, curves: Tensor, z: Tensor, with_constant: bool = True) -> Tensor:
        if self.has_positive_term:
            return super().row_log_prob(rows, curves, z, with_constant)
        total = row_sums(rows, curves, self.log_dispersion)
        return total + self.row_constant(rows) if with_constant else total

    def expected_row_log_prob(
        self, rows: DenseRows, curves: Tensor, z: Tensor, phi: Tensor, with_constant: bool = True
    ) -> Tensor:
        if len(phi) == 1 and not self.has_positive_term:
            return self.row_log_prob(rows, curves.squeeze(1), z, with_constant)
        return super().expected_row_log_prob(rows, curves, z, phi, with_constant)

    def row_constant(self, rows: Rows) -> Tensor:
        if rows.size is not None or self.log_dispersion.ndim > 1:  # dispersions that go with the rows
            return super().row_constant(rows)
        row, column, count = rows.nonzero()
        constants = count_constants(column, count, self.log_dispersion)
        return constants.new_zeros(len(rows)).index_add(0, row, constants)

    def mean(self, curves: Tensor, z: Tensor) -> Tensor:
        return bounded_log_mean(curves).exp()

    def variance(self, curves: Tensor, z: Tensor) -> Tensor:
        mean = bounded_log_mean(curves).exp()
        return mean + mean.square() / self.dispersion

    def sample(self, curves: Tensor, z: Tensor, generator: torch.Generator) -> Tensor:
        dispersion = self.dispersion.expand_as(curves)
        relative_rate = torch._standard_gamma(dispersion, generator=generator) / dispersion
        return draw_counts(relative_rate * bounded_log_mean(curves).exp(), generator)

    def unlink(self, mean: Tensor) -> Tensor:
        return (mean + LEAST_MEAN).log()

    def initialize_(self, mean: Tensor, variance: Tensor) -> None:
        dispersion = (mean**2 / (variance - mean).clamp(min=_LEAST_EXCESS)).clamp(*_STARTING_DISPERSION)
        with torch.no_grad():
            self.log_dispersion.copy_(dispersion.log())

    def log_prior(self) -> Tensor:
        # Weak: where counts are Poisson the likelihood is flat in the dispersion, which would drift to infinity.
        mean, sd = _LOG_DISPERSION_PRIOR
        return -0.5 * ((self.log_dispersion - mean) / sd).square().sum()

    def reported(self, units: Tensor) -> dict[str, Tensor]:
        return {"dispersion_": self.dispersion.double()}


class ZeroInflatedNegativeBinomial(NegativeBinomial):
    """NB, replaced by a zero with probability sigmoid(a + b z); a and b for each feature, b for each component of z.

    ``inflation_logits`` (1 + Q, D) holds a in its first row, and b in the others. With ``n_components=0`` it has no
    other rows: the probability is the same at every z, and the mean rises and falls as the curve does.
    """

    has_positive_term = True
    is_linear_in_size = False  # a zero may be in excess, which no size changes

    def __init__(self, n_features: int, n_components: int = 1, *, scales_dispersion: bool = False):
        super().__init__(n_features, scales_dispersion=scales_dispersion)
        self.sees_latent = n_components > 0
        self.inflation_logits = nn.Parameter(torch.zeros(1 + n_components, n_features))
        with torch.no_grad():
            self.inflation_logits[0] = _INFLATION_PRIOR[0]

    @classmethod
    def options(cls, *, noise_floor: float, n_components: int) -> dict[str, Any]:
        return {"n_components": int(n_components)}

    def own_parameters(self) -> tuple[Tensor, ...]:
        return (self.log_dispersion, *self.inflation_logits)

    @staticmethod
    def _inflate(nb_zero: Tensor, logits: Tensor) -> Tensor:
        """log(pi + (1 - pi) exp(nb_zero)) for pi = sigmoid(logits)."""
        return logsigmoid(logits) + softplus(nb_zero + (-logits))

    def log_zero(self, curves: Tensor, z: Tensor, *own: Tensor) -> Tensor:
        log_dispersion, *inflation = own
        return self._inflate(super().log_zero(curves, z, log_dispersion), self._logits(z, *inflation))

    def coefficients(self, curves: Tensor, z: Tensor, *own: Tensor) -> LinearTables:
        log_dispersion, *inflation = own
        nb = super().coefficients(curves, z, log_dispersion)
        logits = self._logits(z, *inflation)
        zero = self._inflate(nb.zero, logits)
        return LinearTables(zero, nb.slope, logsigmoid(-logits) + nb.zero - zero)

    @staticmethod
    def _logits(z: Tensor, level: Tensor, *slopes: Tensor) -> Tensor:
        """Logits of an excess zero."""
        for component, slope in enumerate(slopes):
            level = level + slope * z[..., component]
        return level

    def _kept(self, z: Tensor) -> Tensor:
        """Probability that an entry is not an excess zero, (P, D), for z (P, Q)."""
        level, slopes = self.inflation_logits[0], self.inflation_logits[1:]
        # Where there are no slopes, the product is over nothing: zeros of the right shape.
        return torch.sigmoid(-(level + z[..., : len(slopes)] @ slopes))

    def information(self, curves: Tensor, z: Tensor) -> Tensor:
        # That of an NB entry, times the probability of one. It is a little too much: nobody can tell for certain which
        # zeros are excess zeros.
        return super().information(curves, z) * self._kept(z)

    def mean(self, curves: Tensor, z: Tensor) -> Tensor:
        return super().mean(curves, z) * self._kept(z)

    def variance(self, curves: Tensor, z: Tensor) -> Tensor:
        kept, mean = self._kept(z), super().mean(curves, z)
        return kept * (super().variance(curves, z) + (1 - kept) * mean.square())

    def sample(self, curves: Tensor, z: Tensor, generator: torch.Generator) -> Tensor:
        return torch.bernoulli(self._kept(z), generator=generator) * super().sample(curves, z, generator)

    def unlink(self, mean: Tensor) -> Tensor:
        # The curve alone cannot say how much of a mean the excess zeros have taken: it is corrected by their share at
        # the origin of the axis.
        return super().unlink(mean * (1 + self.inflation_logits[0].exp()))

    def mirror_(self, component: int) -> None:
        if self.sees_latent:
            with torch.no_grad():
                self.inflation_logits[1 + component].neg_()

    def log_prior(self) -> Tensor:
        level, slopes = self.inflation_logits[0], self.inflation_logits[1:]
        mean, sd = _INFLATION_PRIOR
        return super().log_prior() - 0.5 * ((level - mean) / sd).square().sum() - 0.5 * slopes.square().sum()
