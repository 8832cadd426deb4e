"""Gaussian likelihood: measurements, with one noise sd for each feature."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ..layers import inverse_softplus
from ..linear_tables import LinearTables
from ..rows import Rows
from .linear import ColumnSummary, LinearLikelihood

#: share of a column's sd that is taken for noise at the start
_STARTING_SHARE = 0.7
#: least excess of the starting sd over the floor
_LEAST_EXCESS = 1e-3


class Gaussian(LinearLikelihood):
    """x ~ N(curve, sd^2), one sd for each feature, in standardised units and with a floor under it.

    Without a floor, a feature that a curve passes through exactly would send the likelihood to infinity.
    """

    has_free_noise = True

    def __init__(self, n_features: int, *, floor: float):
        super().__init__()
        self.floor = floor
        self.raw_scale = nn.Parameter(torch.zeros(n_features))

    @classmethod
    def options(cls, *, noise_floor: float, n_components: int) -> dict[str, Any]:
        return {"floor": float(noise_floor)}

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

    def entry_constant(self, x: Tensor, *own: Tensor) -> Tensor:
        (scale,) = own
        return -0.5 * (x / scale) ** 2

    def constant_at_zero(self) -> Tensor:
        return -self._log_normalizer()

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

    def variance(self, curves: Tensor, z: Tensor) -> Tensor:
        return self.scale.square().expand_as(curves)

    def sample(self, curves: Tensor, z: Tensor, generator: torch.Generator) -> Tensor:
        return curves + self.scale * torch.randn(curves.shape, generator=generator, dtype=curves.dtype)

    def unlink(self, mean: Tensor) -> Tensor:
        return mean

    def initialize_(self, mean: Tensor, variance: Tensor) -> None:
        with torch.no_grad():
            excess = (_STARTING_SHARE * variance.sqrt() - self.floor).clamp(min=_LEAST_EXCESS)
            self.raw_scale.copy_(inverse_softplus(excess))

    def reported(self, units: Tensor) -> dict[str, Tensor]:
        return {"noise_scale_": self.scale.double() * units}
