"""Observation models, in a form that is linear in the data.

Every likelihood here can be written, for one entry x of a feature whose curve stands at some value at z, as

    log p(x | z) = zero(z) + x slope(z) + 1[x > 0] positive(z) + constant(x)

with ``zero`` collecting everything that does not depend on x. Three consequences carry the package: sums over features
are matrix products with the data (sparse ones where the data are sparse), a mixture over K behaviours can be averaged
into the three tables before the product, and the terms in ``constant`` (log-gamma functions of counts) are never
computed K times or once per grid point.

Tables are (..., D) with whatever leading dimensions the curves have: (P, K, D) for grid points and behaviours, (P, D).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

from .layers import inverse_softplus, scale_gradient
from .rows import DenseRows, Rows


class LinearTables(NamedTuple):
    """The z-dependent coefficients of a log-likelihood; ``positive`` is None where a likelihood has no such term."""

    zero: Tensor
    slope: Tensor
    positive: Tensor | None

    def average(self, weights: Tensor) -> LinearTables:
        """Expectation over behaviours: from (P, K, D) with weights (K, D) to (P, D)."""
        return LinearTables(*(None if t is None else (t * weights).sum(-2) for t in self))


@dataclass(frozen=True)
class ColumnSummary:
    """What the constants of a log-likelihood need to know of a table, summed over its rows.

    ``n_observed`` and ``sum_of_squares`` are (D,); the distinct non-zero counts of each column are listed as triples
    (``column``, ``value``, ``multiplicity``), which for real counts are few.
    """

    n_observed: Tensor
    sum_of_squares: Tensor
    column: Tensor
    value: Tensor
    multiplicity: Tensor


class Likelihood(nn.Module):
    """An observation model for D features; subclasses fill in the hooks."""

    #: whether data are non-negative whole numbers
    counts = False
    #: whether rows may be scipy.sparse: zeros must cost nothing
    sparse = False

    def tables(self, curves: Tensor, z: Tensor, weights: Tensor | None = None) -> LinearTables:
        """Coefficients at curves (P, K, D) and z (P,).

        ``weights`` (K, D), where given, scale the gradient that each behaviour sends to the feature's own parameters
        (dispersion, ...), so that behaviours that a feature does not follow do not pull at them.
        """
        raise NotImplementedError

    def entry_constant(self, x: Tensor, column: Tensor) -> Tensor:
        """``constant(x) - constant(0)`` for single entries x of the given columns."""
        raise NotImplementedError

    def column_constant(self, summary: ColumnSummary) -> Tensor:
        """``constant`` summed over the rows of a table: (D,)."""
        entries = summary.multiplicity * self.entry_constant(summary.value, summary.column)
        return torch.zeros_like(summary.n_observed).index_add(0, summary.column, entries)

    def row_constant(self, rows: Rows) -> Tensor:
        """``constant`` summed over the features of every row: (B,)."""
        row, column, value = rows.nonzero()
        entries = self.entry_constant(value, column)
        return torch.zeros(len(rows), dtype=entries.dtype, device=entries.device).index_add(0, row, entries)

    def row_log_likelihood(self, rows: DenseRows, tables: LinearTables) -> Tensor:
        """Log-likelihood of every row under coefficients of its own, (B, D): (B,)."""
        zero = tables.zero if rows.observed is None else tables.zero * rows.observed
        total = (zero + rows.values * tables.slope).sum(1)
        if tables.positive is not None:
            total = total + torch.where(rows.values > 0, tables.positive, 0.0).sum(1)
        return total + self.row_constant(rows)

    def mean(self, curves: Tensor, z: Tensor) -> Tensor:
        """Expected value of the features where their curves stand at ``curves`` (P, D)."""
        raise NotImplementedError

    def sample(self, curves: Tensor, z: Tensor, generator: torch.Generator) -> Tensor:
        """One draw for each entry of ``curves`` (P, D)."""
        raise NotImplementedError

    def unlink(self, mean: Tensor) -> Tensor:
        """The curve under which the expected value is ``mean``, kept away from the ends of the range."""
        raise NotImplementedError

    def initialize_(self, mean: Tensor, variance: Tensor) -> None:
        """Start from every feature's mean and variance, (D,)."""

    def log_prior(self) -> Tensor:
        """Log prior of the parameters, up to a constant: a scalar."""
        return torch.zeros(())

    def mirror_(self) -> None:
        """Become the same model on the reversed latent axis."""

    def _own(self, parameter: Tensor, weights: Tensor | None) -> Tensor:
        return parameter if weights is None else scale_gradient(parameter.expand_as(weights), weights)


class Gaussian(Likelihood):
    """x ~ N(curve, sd^2), one sd a feature, in standardised units with a floor under sd.

    Without a floor, a feature that a curve passes through exactly sends the likelihood to infinity.
    """

    def __init__(self, n_features: int, *, floor: float):
        super().__init__()
        self.floor = floor
        self.raw_scale = nn.Parameter(torch.zeros(n_features))

    @property
    def scale(self) -> Tensor:
        """Standard deviations, (D,)."""
        return self.floor + softplus(self.raw_scale)

    def tables(self, curves: Tensor, z: Tensor, weights: Tensor | None = None) -> LinearTables:
        precision = self._own(self.scale, weights) ** -2
        slope = curves * precision
        return LinearTables(-0.5 * curves * slope, slope, None)

    def entry_constant(self, x: Tensor, column: Tensor) -> Tensor:
        return -0.5 * (x / self.scale[column]) ** 2

    def column_constant(self, summary: ColumnSummary) -> Tensor:
        return -0.5 * summary.sum_of_squares * self.scale**-2 - summary.n_observed * self._log_normalizer()

    def row_constant(self, rows: Rows) -> Tensor:
        squares, normalizer = super().row_constant(rows), self._log_normalizer()
        if rows.observed is None:
            return squares - normalizer.sum()
        return squares - rows.observed @ normalizer

    def _log_normalizer(self) -> Tensor:
        return self.scale.log() + 0.5 * math.log(2 * math.pi)

    def mean(self, curves: Tensor, z: Tensor) -> Tensor:
        return curves

    def sample(self, curves: Tensor, z: Tensor, generator: torch.Generator) -> Tensor:
        return curves + self.scale * torch.randn(curves.shape, generator=generator, dtype=curves.dtype)

    def unlink(self, mean: Tensor) -> Tensor:
        return mean

    def initialize_(self, mean: Tensor, variance: Tensor) -> None:
        with torch.no_grad():
            self.raw_scale.copy_(inverse_softplus((0.7 * variance.sqrt() - self.floor).clamp(min=1e-3)))


class Bernoulli(Likelihood):
    """x ~ Bernoulli(sigmoid(curve))."""

    counts = sparse = True

    def __init__(self, n_features: int):
        super().__init__()

    def tables(self, curves: Tensor, z: Tensor, weights: Tensor | None = None) -> LinearTables:
        return LinearTables(-softplus(curves), curves, None)

    def entry_constant(self, x: Tensor, column: Tensor) -> Tensor:
        return torch.zeros_like(x)

    def mean(self, curves: Tensor, z: Tensor) -> Tensor:
        return torch.sigmoid(curves)

    def sample(self, curves: Tensor, z: Tensor, generator: torch.Generator) -> Tensor:
        return torch.bernoulli(torch.sigmoid(curves), generator=generator)

    def unlink(self, mean: Tensor) -> Tensor:
        return torch.logit(mean, eps=0.01)


class Poisson(Likelihood):
    """x ~ Poisson(exp(curve))."""

    counts = sparse = True

    def __init__(self, n_features: int):
        super().__init__()

    def tables(self, curves: Tensor, z: Tensor, weights: Tensor | None = None) -> LinearTables:
        return LinearTables(-curves.exp(), curves, None)

    def entry_constant(self, x: Tensor, column: Tensor) -> Tensor:
        return -torch.lgamma(x + 1)

    def mean(self, curves: Tensor, z: Tensor) -> Tensor:
        return curves.exp()

    def sample(self, curves: Tensor, z: Tensor, generator: torch.Generator) -> Tensor:
        return torch.poisson(self.mean(curves, z), generator=generator)

    def unlink(self, mean: Tensor) -> Tensor:
        return (mean + 1e-3).log()


class NegativeBinomial(Likelihood):
    """x ~ NB with mean exp(curve) and variance mean + mean^2 / dispersion; one dispersion a feature."""

    counts = sparse = True

    def __init__(self, n_features: int):
        super().__init__()
        self.log_dispersion = nn.Parameter(torch.zeros(n_features))

    @property
    def dispersion(self) -> Tensor:
        """Inverse-overdispersion theta, (D,): the Poisson limit is at infinity."""
        return self.log_dispersion.exp()

    def tables(self, curves: Tensor, z: Tensor, weights: Tensor | None = None) -> LinearTables:
        log_dispersion = self._own(self.log_dispersion, weights)
        excess = softplus(curves - log_dispersion)  # log(1 + mean / dispersion)
        return LinearTables(-log_dispersion.exp() * excess, curves - log_dispersion - excess, None)

    def entry_constant(self, x: Tensor, column: Tensor) -> Tensor:
        dispersion = self.dispersion
        at_zero = torch.lgamma(dispersion)
        return torch.lgamma(x + dispersion[column]) - at_zero[column] - torch.lgamma(x + 1)

    def mean(self, curves: Tensor, z: Tensor) -> Tensor:
        return curves.exp()

    def sample(self, curves: Tensor, z: Tensor, generator: torch.Generator) -> Tensor:
        dispersion = self.dispersion.expand_as(curves)
        rate = torch._standard_gamma(dispersion, generator=generator) * curves.exp() / dispersion
        return torch.poisson(rate, generator=generator)

    def unlink(self, mean: Tensor) -> Tensor:
        return (mean + 1e-3).log()

    def initialize_(self, mean: Tensor, variance: Tensor) -> None:
        dispersion = (mean**2 / (variance - mean).clamp(min=1e-3)).clamp(0.1, 100)
        with torch.no_grad():
            self.log_dispersion.copy_(dispersion.log())

    def log_prior(self) -> Tensor:
        # Weak: where counts are Poisson the likelihood is flat in the dispersion, which would drift to infinity.
        return -0.5 * ((self.log_dispersion - 1) / 3).square().sum()


class ZeroInflatedNegativeBinomial(NegativeBinomial):
    """NB, replaced by a zero with probability sigmoid(a + b z); a and b for each feature."""

    def __init__(self, n_features: int):
        super().__init__(n_features)
        self.dropout = nn.Parameter(torch.stack([torch.full((n_features,), -2.0), torch.zeros(n_features)]))

    def _dropout_logits(self, z: Tensor, weights: Tensor | None) -> Tensor:
        """(P, D), or (P, K, D) with weights."""
        level, slope = (self._own(parameter, weights) for parameter in self.dropout)
        return level + slope * z.view(-1, *[1] * level.ndim)

    def tables(self, curves: Tensor, z: Tensor, weights: Tensor | None = None) -> LinearTables:
        nb = super().tables(curves, z, weights)
        logits = self._dropout_logits(z, weights)
        if weights is None and curves.ndim == 3:
            logits = logits[:, None]
        log_kept = logsigmoid(-logits)
        zero = torch.logaddexp(logsigmoid(logits), log_kept + nb.zero)
        return LinearTables(zero, nb.slope, log_kept + nb.zero - zero)

    def mean(self, curves: Tensor, z: Tensor) -> Tensor:
        return curves.exp() * torch.sigmoid(-self._dropout_logits(z, None))

    def sample(self, curves: Tensor, z: Tensor, generator: torch.Generator) -> Tensor:
        kept = torch.bernoulli(torch.sigmoid(-self._dropout_logits(z, None)), generator=generator)
        return kept * super().sample(curves, z, generator)

    def mirror_(self) -> None:
        with torch.no_grad():
            self.dropout[1].neg_()

    def log_prior(self) -> Tensor:
        level, slope = self.dropout
        return super().log_prior() - 0.5 * ((level + 2) / 2).square().sum() - 0.5 * slope.square().sum()


#: name -> likelihood
LIKELIHOODS: dict[str, type[Likelihood]] = {
    "gaussian": Gaussian,
    "poisson": Poisson,
    "nb": NegativeBinomial,
    "zinb": ZeroInflatedNegativeBinomial,
    "bernoulli": Bernoulli,
}
