"""Poisson likelihood: counts whose variance is their mean."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..linear_tables import LinearTables
from .counts import CountLikelihood

#: added to a mean before its log is taken, so that a feature without counts has a curve to start from
LEAST_MEAN = 1e-3
#: where expected counts end: whole numbers above it are not exact in double precision
LARGEST_MEAN = 2.0**53


def bounded_log_mean(curves: Tensor) -> Tensor:
    """Logs of expected counts, (..., D), from curves that may rise beyond the numbers that a computer has."""
    return curves.clamp(max=math.log(LARGEST_MEAN))


def draw_counts(rate: Tensor, generator: torch.Generator) -> Tensor:
    """A Poisson draw for every rate; rates above :data:`LARGEST_MEAN` count as that."""
    return torch.poisson(rate.clamp(max=LARGEST_MEAN), generator=generator)


class Poisson(CountLikelihood):
    """x ~ Poisson(exp(curve))."""

    has_log_link = True
    is_linear_in_size = True

    def log_zero(self, curves: Tensor, z: Tensor, *own: Tensor) -> Tensor:
        return -bounded_log_mean(curves).exp()

    def coefficients(self, curves: Tensor, z: Tensor, *own: Tensor) -> LinearTables:
        log_mean = bounded_log_mean(curves)
        return LinearTables(-log_mean.exp(), log_mean, None)

    def information(self, curves: Tensor, z: Tensor) -> Tensor:
        return self.mean(curves, z)

    def entry_constant(self, x: Tensor, *own: Tensor) -> Tensor:
        return -torch.lgamma(x + 1)

    def sized_constant(self, x: Tensor, log_size: Tensor, *own: Tensor) -> Tensor:
        return self.entry_constant(x) + x * log_size

    def mean(self, curves: Tensor, z: Tensor) -> Tensor:
        return bounded_log_mean(curves).exp()

    def variance(self, curves: Tensor, z: Tensor) -> Tensor:
        return self.mean(curves, z)

    def sample(self, curves: Tensor, z: Tensor, generator: torch.Generator) -> Tensor:
        return draw_counts(self.mean(curves, z), generator)

    def unlink(self, mean: Tensor) -> Tensor:
        return (mean + LEAST_MEAN).log()
