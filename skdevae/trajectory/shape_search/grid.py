"""The grid of a shape search: points of z, knots of the functions, and priors that make functions smooth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.linalg import LinAlgError
from scipy.linalg.lapack import dpbtrf, dpbtrs

Array: TypeAlias = NDArray[np.float64]
Labels: TypeAlias = NDArray[np.intp]

# The prior of a function f of z, for columns of unit variance, is Gaussian. It has three terms.
#: prior variance of the integral of f''^2
_CURVATURE_VARIANCE = 30.0
#: prior variance of the integral of f'^2
_SLOPE_VARIANCE = 3.0
#: prior variance of f at every knot; this term is weak, and makes the prior proper
_SIZE_VARIANCE = 100.0


@dataclass(frozen=True)
class ShapeGrid:
    """Points and knots of z, the ranges of shifts and scales, and the priors of functions.

    Attributes
    ----------
    points : ndarray of shape (P,)
        Equally spaced values of z, symmetric around 0.
    spacing : float
        Distance between neighbouring points.
    max_shift : float
        Largest size of a shift.
    n_shift_steps : int
        The search tries shifts of up to so many whole grid steps to either side. 0 means no shifts.
    pad : int
        Number of knots of a function beyond each end of the points.
    scale_bounds : (low, high) or None
        Range of scales. None: scales are 1 and levels are 0.
    curve_prior : ndarray of shape (3, P)
        Prior precision of a free curve at the points, as the upper band of a matrix.
    function_prior : ndarray of shape (3, T)
        Prior precision of a function at the knots, as the upper band of a matrix.
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
        """A grid from -z_max to z_max of ``n_points`` points, or one more if that is an even number."""
        half = np.linspace(0, z_max, n_points // 2 + 1)
        points = np.concatenate([-half[:0:-1], half])
        spacing = float(half[1])
        n_shift_steps = _whole_steps(max_shift, spacing)
        pad = n_shift_steps + 2  # room for the fraction of a step in a shift, and for rounding
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
            function_log_det=log_det(factorized(function_prior)),
        )

    def with_shifts_up_to(self, max_shift: float) -> ShapeGrid:
        """The same points and knots with a smaller range of shifts."""
        return replace(self, max_shift=max_shift, n_shift_steps=_whole_steps(max_shift, self.spacing))

    @property
    def knots(self) -> Array:
        """Values of z at which functions are known: (T,)."""
        steps = np.arange(self.function_prior.shape[1], dtype=np.float64) - self.pad
        return self.points[0] + self.spacing * steps

    @property
    def coarse_shifts(self) -> Array:
        """The shifts by whole grid steps: (S,), an odd number of them."""
        return self.spacing * np.arange(-self.n_shift_steps, self.n_shift_steps + 1, dtype=np.float64)

    @property
    def scale_rate(self) -> float:
        """Rate of the exponential prior of scales, Gamma(1, 1); 0 where scales are fixed."""
        return 0.0 if self.scale_bounds is None else 1.0

    def best_scales(self, squares: Array, products: Array) -> Array:
        """The scales that maximise the evidence of features under functions.

        ``squares`` are the squared norms of the functions, ``products`` their inner products with the responses.
        """
        if self.scale_bounds is None:
            return np.ones_like(squares)
        return np.clip((products - self.scale_rate) / squares, *self.scale_bounds)

    def knots_under(self, shifts: Array) -> tuple[NDArray[np.intp], Array]:
        """Where shifted points fall between the knots.

        Returns the knot at or left of every shifted point, (P, M), and the distance from it as a share of the spacing,
        in [0, 1): (M,).
        """
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
    """Upper band (3, n) of the precision whose quadratic form penalises curvature, slope and size of a function."""
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


def factorized(matrix: Array) -> Array:
    """Cholesky factor of a positive definite matrix, both in upper banded form.

    The search asks for thousands of small ones. LAPACK is called directly, because the checks of
    :func:`scipy.linalg.cholesky_banded` take several times as long as what they check.
    """
    factor, info = dpbtrf(matrix)
    if info:
        raise LinAlgError(f"The leading minor of order {info} is not positive definite.")
    return factor


def solve_banded(factor: Array, values: Array) -> Array:
    """Solution (T,) of the linear equations whose matrix has a factor from :func:`factorized`."""
    return dpbtrs(factor, values)[0]


def log_det(factor: Array) -> float:
    """Log determinant of the matrix whose upper Cholesky factor is given in banded form."""
    return float(2 * np.log(factor[-1]).sum())
