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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

from .layers import inverse_softplus, scale_gradient
from .rows import DenseRows, Rows

#: entries of a (rows, behaviours, features) block of float32 that stays in a processor's cache
_CACHED_ENTRIES = 500_000


class LinearTables(NamedTuple):
    """The z-dependent coefficients of a log-likelihood; ``positive`` is None where a likelihood has no such term."""

    zero: Tensor
    slope: Tensor
    positive: Tensor | None

    def average(self, weights: Tensor) -> LinearTables:
        """Expectation over candidates: from (P, K, D) with weights (K, D) to (P, D)."""
        return self._map(lambda table: (table * weights).sum(-2))

    def unflatten(self, sizes: Sequence[int]) -> LinearTables:
        """The first dimension as several."""
        return self._map(lambda table: table.unflatten(0, sizes))

    def _map(self, change: Callable[[Tensor], Tensor]) -> LinearTables:
        positive = None if self.positive is None else change(self.positive)
        return LinearTables(change(self.zero), change(self.slope), positive)


def concatenate(parts: Sequence[LinearTables]) -> LinearTables:
    """Coefficients at one set of points after another."""
    zero, slope = torch.cat([part.zero for part in parts]), torch.cat([part.slope for part in parts])
    positive = [part.positive for part in parts if part.positive is not None]
    return LinearTables(zero, slope, torch.cat(positive) if positive else None)


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

    #: whether data are non-negative whole numbers, which may come as scipy.sparse
    counts = False
    #: whether curves are logs of expected counts, to which size factors add
    has_log_link = False
    #: whether the linear form has a term in 1[x > 0]
    has_positive_term = False
    #: whether coefficients depend on z by other ways than the curves
    sees_latent = False

    def own_parameters(self) -> tuple[Tensor, ...]:
        """The feature's own parameters (noise, dispersion, ...), each (D,)."""
        return ()

    def coefficients(self, curves: Tensor, z: Tensor, *own: Tensor) -> LinearTables:
        """The linear form at some curves, given :meth:`own_parameters` and z in shapes that broadcast with them.

        z has a last dimension more than the curves, of its components.
        """
        raise NotImplementedError

    def tables(self, curves: Tensor, z: Tensor, weights: Tensor | None = None) -> LinearTables:
        """Coefficients at curves (P, K, D) or (P, D) and z (P, Q).

        ``weights`` (K, D), where given, scale the gradient that each behaviour sends to the feature's own parameters,
        so that behaviours that a feature does not follow do not pull at them.
        """
        own = self.own_parameters()
        if weights is not None:
            own = tuple(scale_gradient(parameter.expand_as(weights), weights) for parameter in own)
        return self.coefficients(curves, z.view(len(z), *[1] * (curves.ndim - 1), -1), *own)

    def information(self, curves: Tensor, z: Tensor) -> Tensor:
        """Expected information about the curve in one observation: as ``curves`` (P, D), never negative."""
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

    def row_log_likelihood(self, rows: DenseRows, tables: LinearTables, with_constant: bool = True) -> Tensor:
        """Log-likelihood of every row under coefficients of its own, (..., B, D): (..., B).

        Without :meth:`row_constant` it is a function of z that differs from it by a number for each row.
        """
        zero = tables.zero if rows.observed is None else tables.zero * rows.observed
        total = (zero + rows.values * tables.slope).sum(-1)
        if tables.positive is not None:
            total = total + torch.where(rows.values > 0, tables.positive, 0.0).sum(-1)
        return total + self.row_constant(rows) if with_constant else total

    def expected_row_log_likelihood(
        self, rows: DenseRows, curves: Tensor, z: Tensor, phi: Tensor, with_constant: bool = True
    ) -> Tensor:
        """Log-likelihood of every row at its own z (B, Q) and curves (B, K, D), averaged over phi (K, D): (B,)."""
        return self.row_log_likelihood(rows, self.tables(curves, z).average(phi), with_constant)

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

    def mirror_(self, component: int) -> None:
        """Become the same model with one latent axis reversed."""


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

    def own_parameters(self) -> tuple[Tensor, ...]:
        return (self.scale,)

    def coefficients(self, curves: Tensor, z: Tensor, *own: Tensor) -> LinearTables:
        (scale,) = own
        slope = curves * scale**-2
        return LinearTables(-0.5 * curves * slope, slope, None)

    def information(self, curves: Tensor, z: Tensor) -> Tensor:
        return (self.scale**-2).expand_as(curves)

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


class CountLikelihood(Likelihood):
    """Base of likelihoods whose data are mostly zeros: ``zero`` is log p(0 | z), and other terms belong to x > 0."""

    counts = True

    def __init__(self, n_features: int):
        super().__init__()

    def log_zero(self, curves: Tensor, z: Tensor, *own: Tensor) -> Tensor:
        """log p(0 | z); arguments as for :meth:`coefficients`."""
        raise NotImplementedError

    def expected_row_log_likelihood(
        self, rows: DenseRows, curves: Tensor, z: Tensor, phi: Tensor, with_constant: bool = True
    ) -> Tensor:
        if len(phi) == 1 and not with_constant:  # nothing then needs the list of entries that are not zero
            return self.row_log_likelihood(rows, self.tables(curves[:, 0], z), with_constant)
        # log p(0) for every entry, the rest for the few that are not zero
        own = self.own_parameters()
        total = self._expected_log_zero(rows.observed, curves, z, phi)
        row, column, value = rows.nonzero()
        at_entries = curves.transpose(0, 1)[:, row, column]  # (K, M)
        latents = z[row] if self.sees_latent else z  # a gather that most do without
        tables = self.coefficients(at_entries, latents, *(parameter[column] for parameter in own))
        beyond_zero = value * tables.slope
        if tables.positive is not None:
            beyond_zero = beyond_zero + tables.positive
        shared = beyond_zero[0] if len(phi) == 1 else (beyond_zero * phi[:, column]).sum(0)
        entries = shared + self.entry_constant(value, column) if with_constant else shared
        return total.index_add(0, row, entries)

    def _expected_log_zero(self, observed: Tensor | None, curves: Tensor, z: Tensor, phi: Tensor) -> Tensor:
        """Log probability that all observed features of each row are zero, averaged over q(w): (B,)."""
        # In blocks of rows that a processor's cache can hold from one elementwise operation to the next.
        n_rows = max(1, _CACHED_ENTRIES // phi.numel())
        masks = [None] * len(z) if observed is None else observed.split(n_rows)
        totals = []
        for part, z_part, mask in zip(curves.split(n_rows), z.split(n_rows), masks, strict=False):
            log_zero = self.log_zero(part, z_part[:, None, None, :], *self.own_parameters())
            if mask is None:
                totals.append(log_zero.flatten(1) @ phi.flatten())
            else:
                totals.append(((log_zero * phi).sum(1) * mask).sum(1))
        return torch.cat(totals)


class Bernoulli(CountLikelihood):
    """x ~ Bernoulli(sigmoid(curve))."""

    def log_zero(self, curves: Tensor, z: Tensor, *own: Tensor) -> Tensor:
        return -softplus(curves)

    def coefficients(self, curves: Tensor, z: Tensor, *own: Tensor) -> LinearTables:
        return LinearTables(self.log_zero(curves, z), curves, None)

    def information(self, curves: Tensor, z: Tensor) -> Tensor:
        return torch.sigmoid(curves) * torch.sigmoid(-curves)

    def entry_constant(self, x: Tensor, column: Tensor) -> Tensor:
        return torch.zeros_like(x)

    def mean(self, curves: Tensor, z: Tensor) -> Tensor:
        return torch.sigmoid(curves)

    def sample(self, curves: Tensor, z: Tensor, generator: torch.Generator) -> Tensor:
        return torch.bernoulli(torch.sigmoid(curves), generator=generator)

    def unlink(self, mean: Tensor) -> Tensor:
        return torch.logit(mean, eps=0.01)


class Poisson(CountLikelihood):
    """x ~ Poisson(exp(curve))."""

    has_log_link = True

    def log_zero(self, curves: Tensor, z: Tensor, *own: Tensor) -> Tensor:
        return -curves.exp()

    def coefficients(self, curves: Tensor, z: Tensor, *own: Tensor) -> LinearTables:
        return LinearTables(self.log_zero(curves, z), curves, None)

    def information(self, curves: Tensor, z: Tensor) -> Tensor:
        return curves.exp()

    def entry_constant(self, x: Tensor, column: Tensor) -> Tensor:
        return -torch.lgamma(x + 1)

    def mean(self, curves: Tensor, z: Tensor) -> Tensor:
        return curves.exp()

    def sample(self, curves: Tensor, z: Tensor, generator: torch.Generator) -> Tensor:
        return torch.poisson(self.mean(curves, z), generator=generator)

    def unlink(self, mean: Tensor) -> Tensor:
        return (mean + 1e-3).log()


class NegativeBinomial(CountLikelihood):
    """x ~ NB with mean exp(curve) and variance mean + mean^2 / dispersion; one dispersion a feature."""

    has_log_link = True

    def __init__(self, n_features: int):
        super().__init__(n_features)
        self.log_dispersion = nn.Parameter(torch.zeros(n_features))

    @property
    def dispersion(self) -> Tensor:
        """Inverse-overdispersion theta, (D,): the Poisson limit is at infinity."""
        return self.log_dispersion.exp()

    def own_parameters(self) -> tuple[Tensor, ...]:
        return (self.log_dispersion,)

    def log_zero(self, curves: Tensor, z: Tensor, *own: Tensor) -> Tensor:
        (log_dispersion,) = own
        # Signs are moved to the small operands, here and below: each pass over the curves counts, going back too.
        return -log_dispersion.exp() * softplus(curves + (-log_dispersion))

    def coefficients(self, curves: Tensor, z: Tensor, *own: Tensor) -> LinearTables:
        (log_dispersion,) = own
        ratio = curves - log_dispersion  # log(mean / dispersion)
        excess = softplus(ratio)
        return LinearTables(-log_dispersion.exp() * excess, ratio - excess, None)

    def information(self, curves: Tensor, z: Tensor) -> Tensor:
        return self.dispersion * torch.sigmoid(curves - self.log_dispersion)

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
    """NB, replaced by a zero with probability sigmoid(a + b z); a and b for each feature, b for each component of z."""

    has_positive_term = True
    sees_latent = True

    def __init__(self, n_features: int, n_components: int = 1):
        super().__init__(n_features)
        self.dropout = nn.Parameter(torch.zeros(1 + n_components, n_features))
        with torch.no_grad():
            self.dropout[0] = -2.0

    def own_parameters(self) -> tuple[Tensor, ...]:
        return (self.log_dispersion, *self.dropout)

    @staticmethod
    def _inflate(nb_zero: Tensor, logits: Tensor) -> Tensor:
        """log(pi + (1 - pi) exp(nb_zero)) for pi = sigmoid(logits)."""
        return logsigmoid(logits) + softplus(nb_zero + (-logits))

    def log_zero(self, curves: Tensor, z: Tensor, *own: Tensor) -> Tensor:
        log_dispersion, *dropout = own
        return self._inflate(super().log_zero(curves, z, log_dispersion), self._logits(z, *dropout))

    def coefficients(self, curves: Tensor, z: Tensor, *own: Tensor) -> LinearTables:
        log_dispersion, *dropout = own
        nb = super().coefficients(curves, z, log_dispersion)
        logits = self._logits(z, *dropout)
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
        return torch.sigmoid(-(self.dropout[0] + z @ self.dropout[1:]))

    def information(self, curves: Tensor, z: Tensor) -> Tensor:
        # That of the entries which are no excess zeros: a little more than which of them are can be told.
        return super().information(curves, z) * self._kept(z)

    def mean(self, curves: Tensor, z: Tensor) -> Tensor:
        return curves.exp() * self._kept(z)

    def sample(self, curves: Tensor, z: Tensor, generator: torch.Generator) -> Tensor:
        return torch.bernoulli(self._kept(z), generator=generator) * super().sample(curves, z, generator)

    def unlink(self, mean: Tensor) -> Tensor:
        # The curve alone cannot say how much of a mean dropout has taken: reckon with its share at the axis' origin.
        return super().unlink(mean * (1 + self.dropout[0].exp()))

    def mirror_(self, component: int) -> None:
        with torch.no_grad():
            self.dropout[1 + component].neg_()

    def log_prior(self) -> Tensor:
        level, slopes = self.dropout[0], self.dropout[1:]
        return super().log_prior() - 0.5 * ((level + 2) / 2).square().sum() - 0.5 * slopes.square().sum()


#: name -> likelihood
LIKELIHOODS: dict[str, type[Likelihood]] = {
    "gaussian": Gaussian,
    "poisson": Poisson,
    "nb": NegativeBinomial,
    "zinb": ZeroInflatedNegativeBinomial,
    "bernoulli": Bernoulli,
}
