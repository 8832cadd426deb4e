"""Bernoulli likelihood: zeros and ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ..linear_tables import LinearTables
from .counts import CountLikelihood

#: least distance of a probability from 0 and 1 where a curve is started at its logit
_LEAST_PROBABILITY = 0.01


class Bernoulli(CountLikelihood):
    """x ~ Bernoulli(sigmoid(curve))."""

    def log_zero(self, curves: Tensor, z: Tensor, *own: Tensor) -> Tensor:
        return -softplus(curves)

    def coefficients(self, curves: Tensor, z: Tensor, *own: Tensor) -> LinearTables:
        return LinearTables(self.log_zero(curves, z), curves, None)

    def information(self, curves: Tensor, z: Tensor) -> Tensor:
        return torch.sigmoid(curves) * torch.sigmoid(-curves)

    def entry_constant(self, x: Tensor, *own: Tensor) -> Tensor:
        return torch.zeros_like(x)

    def mean(self, curves: Tensor, z: Tensor) -> Tensor:
        return torch.sigmoid(curves)

    def variance(self, curves: Tensor, z: Tensor) -> Tensor:
        return self.information(curves, z)

    def saturated_log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        return torch.zeros_like(x)

    def sample(self, curves: Tensor, z: Tensor, generator: torch.Generator) -> Tensor:
        return torch.bernoulli(torch.sigmoid(curves), generator=generator)

    def unlink(self, mean: Tensor) -> Tensor:
        return torch.logit(mean, eps=_LEAST_PROBABILITY)
