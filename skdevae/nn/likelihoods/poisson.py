"""Poisson likelihood: counts whose variance is their mean."""

from __future__ import annotations

import torch
from torch import Tensor

from ..linear_tables import LinearTables
from .counts import CountLikelihood

#: added to a mean before its log is taken, so that a feature without counts has a curve to start from
LEAST_MEAN = 1e-3


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
        return (mean + LEAST_MEAN).log()
