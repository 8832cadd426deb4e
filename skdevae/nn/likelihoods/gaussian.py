"""Gaussian likelihood: measurements, with one noise sd for each feature."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ..latent_grid import GridStatistics
from ..layers import OwnGradient, inverse_softplus
from ..linear_tables import ALL_COLUMNS, LinearTables
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

    def expected_sums(
        self,
        statistics: GridStatistics,
        curves: Tensor,
        z: Tensor,
        weights: Tensor | None = None,
        columns: slice = ALL_COLUMNS,
    ) -> Tensor:
        (scale,) = self.own_of_columns(weights, columns)
        sums: Tensor = _SumsOfSquares.apply(curves, statistics.weighted, statistics.mass)
        return sums * scale**-2

    def information(self, curves: Tensor, z: Tensor) -> Tensor:
        return (self.scale**-2).expand_as(curves)

    def entry_constant(self, x: Tensor, *own: Tensor) -> Tensor:
        (scale,) = own
        return -0.5 * (x / scale) ** 2

    def constant_at_zero(self) -> Tensor:
        return -_log_normalizer(self.scale)

    def column_constant(self, summary: ColumnSummary) -> Tensor:
        scale = self.scale
        return -0.5 * summary.sum_of_squares * scale**-2 - summary.n_observed * _log_normalizer(scale)

    def row_constant(self, rows: Rows) -> Tensor:
        squares, normalizer = super().row_constant(rows), _log_normalizer(self.scale)
        if rows.observed is None:
            return squares - normalizer.sum()
        return squares - rows.observed @ normalizer

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


def _log_normalizer(scale: Tensor) -> Tensor:
    return scale.log() + 0.5 * math.log(2 * math.pi)


class _SumsOfSquares(OwnGradient):
    """``sum over p of (x c - m c^2 / 2)`` for curves c (P, K, D), sums x (P, D) and masses m (P, D) or (P, 1): (K, D).

    Autograd by itself would take a pass over an array of the curves' size for every product.
    """

    @staticmethod
    def forward(curves: Tensor, weighted: Tensor, mass: Tensor) -> Tensor:
        return (torch.addcmul(weighted[:, None], mass[:, None], curves, value=-0.5) * curves).sum(0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        curves, weighted, mass = ctx.saved_tensors
        of_curves = gradient * torch.addcmul(weighted[:, None], mass[:, None], curves, value=-1)
        of_weighted = (gradient * curves).sum(1) if ctx.needs_input_grad[1] else None
        of_mass = (
            (-0.5 * gradient * curves.square()).sum(1).sum_to_size(mass.shape) if ctx.needs_input_grad[2] else None
        )
        return of_curves, of_weighted, of_mass
