"""The grid on which curves and shared functions of one latent are known, and what smoothness costs there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.linalg import cholesky_banded

Array: TypeAlias = NDArray[np.float64]
Labels: TypeAlias = NDArray[np.intp]

#: Prior variances of a function of z, for columns of unit variance: of the integral of f''^2, of that of f'^2, and of f
#: at every knot. The last is weak, and there so that the prior is proper.
_CURVATURE_VARIANCE, _SLOPE_VARIANCE, _SIZE_VARIANCE = 30.0, 3.0, 100.0


@dataclass(frozen=True)
class ShapeGrid:
    """Where curves and functions live, and the priors that only depend on that.

    Attributes
    ----------
    points : ndarray of shape (P,)
        Equally spaced values of z, symmetric around 0, ``spacing`` apart.
    max_shift : float
        Largest shift. Coarse shifts are ``n_shift_steps`` grid steps to either side; 0 of them: no shifts.
    pad : int
        Knots of a function beyond each end of the points.
    scale_bounds : (low, high) or None
        Range of scales. None: scales are 1 and levels are 0.
    curve_prior, function_prior : ndarray of shape (3, P) and (3, T)
        Banded (upper) precisions of a free curve, on the points, and of a function, on the knots.
    function_log_det : float
        Log determinant of ``function_prior``.
    """

    points: Array
    spacing: float
    max_shift: float
    n_shift_steps: int
    pad: int
    scale_bounds: tuple[float, float] | None
    curve_prior: Array
    function_prior: Array
    function_log_det: float

    @classmethod
    def build(
        cls, n_points: int, z_max: float, *, max_shift: float, scale_bounds: tuple[float, float] | None
    ) -> ShapeGrid:
        """A grid from -z_max to z_max of ``n_points`` points, one more if that is even."""
        half = np.linspace(0, z_max, n_points // 2 + 1)
        points = np.concatenate([-half[:0:-1], half])
        spacing = float(half[1])
        n_shift_steps = _whole_steps(max_shift, spacing)
        pad = n_shift_steps + 2  # room for a shift's fraction of a step, and for the rounding of that
        function_prior = _smoothness_precision(len(points) + 2 * pad, spacing)
        return cls(
            points=points,
            spacing=spacing,
            max_shift=max_shift,
            n_shift_steps=n_shift_steps,
            pad=pad,
            scale_bounds=scale_bounds,
            curve_prior=_smoothness_precision(len(points), spacing),
            function_prior=function_prior,
            function_log_det=log_det(cholesky_banded(function_prior)),
        )

    def with_shifts_up_to(self, max_shift: float) -> ShapeGrid:
        """The same grid and knots for a smaller range of shifts."""
        return replace(self, max_shift=max_shift, n_shift_steps=_whole_steps(max_shift, self.spacing))

    @property
    def knots(self) -> Array:
        """Values of z at which functions are known: (T,)."""
        steps = np.arange(self.function_prior.shape[1], dtype=np.float64) - self.pad
        return self.points[0] + self.spacing * steps

    @property
    def coarse_shifts(self) -> Array:
        """The shifts of whole grid steps: (S,), an odd number."""
        return self.spacing * np.arange(-self.n_shift_steps, self.n_shift_steps + 1, dtype=np.float64)

    @property
    def scale_rate(self) -> float:
        """Rate of the exponential that scales' Gamma(1, 1) prior is: 0 where scales are fixed."""
        return 0.0 if self.scale_bounds is None else 1.0

    def best_scales(self, squares: Array, products: Array) -> Array:
        """Scales of greatest evidence: ``squares`` are those of a function, ``products`` those with a response."""
        if self.scale_bounds is None:
            return np.ones_like(squares)
        return np.clip((products - self.scale_rate) / squares, *self.scale_bounds)

    def knots_under(self, shifts: Array) -> tuple[NDArray[np.intp], Array]:
        """The knot at or left of every shifted point, (P, M), and how far from it to the next, in [0, 1): (M,)."""
        steps = shifts / self.spacing
        whole = np.floor(steps)
        left = np.arange(len(self.points))[:, None] + self.pad + whole.astype(np.intp)
        return left, steps - whole

    def shifted(self, functions: Array, labels: Labels, shifts: Array) -> Array:
        """f(z + shift), linear between knots: (P, M) from functions (C, T), labels (M,) and shifts (M,)."""
        left, fraction = self.knots_under(shifts)
        return (1 - fraction) * functions[labels, left] + fraction * functions[labels, left + 1]


def _whole_steps(distance: float, spacing: float) -> int:
    return int(distance / spacing + 1e-9)


def _smoothness_precision(n_knots: int, spacing: float) -> Array:
    """Upper band (3, n) of the precision whose quadratic form sums curvature, slope and size of a function."""
    shape = (n_knots - 2, n_knots)
    curvature = sp.diags_array([1.0, -2.0, 1.0], offsets=[0, 1, 2], shape=shape)
    slope = sp.diags_array([-1.0, 1.0], offsets=[0, 1], shape=(n_knots - 1, n_knots))
    precision = curvature.T @ curvature / (_CURVATURE_VARIANCE * spacing**3)
    precision += slope.T @ slope / (_SLOPE_VARIANCE * spacing)
    band = np.zeros((3, n_knots))
    for offset in range(3):
        band[2 - offset, offset:] = precision.diagonal(offset)
    band[2] += 1 / _SIZE_VARIANCE
    return band


def log_det(factor: Array) -> float:
    """Log determinant of a matrix with this banded upper Cholesky factor."""
    return float(2 * np.log(factor[-1]).sum())
