"""Features as scaled and shifted copies of a few functions of one latent: the pieces that have a closed form.

A feature of label k has the curve ``level + scale * f_k(z + shift)``. All that the data say about curves mu (P, D),
given q(z), is an information I and a working response R, (P, D) each: the log-likelihood is, up to a constant,
``-1/2 sum I (R - mu)^2``. Scales have a Gamma(1, 1) prior, shifts a standard normal one, levels a flat one, and
functions a Gaussian one that asks for smoothness.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve_banded, cholesky_banded, solveh_banded
from scipy.special import gammaln

from .grid import Array, Labels, ShapeGrid, log_det

#: least residual variance; a feature that its curve follows exactly would otherwise outweigh all the others
_LEAST_VARIANCE = 1e-3
#: least squared norm that a function may have under a feature's information: keeps flat functions out of denominators
_LEAST_SQUARES = 1e-9
#: Weight of the functions' Laplace costs, from measuring: with 1, clusters of one shape were sometimes kept apart in
#: resampled tables. (The costs are those at a given q(z), and leave out that q(z) adapts to every function.)
_OCCAM_WEIGHT = 1.25
#: passes over the features in which each moves to its best cluster given the others' labels
_ASSIGNMENT_SWEEPS = 3


@dataclass(frozen=True)
class Shapes:
    """Which function every feature follows, and how: functions (C, T) on a grid's knots, the others (D,).

    ``shifts`` are in units of z. Every function has at least one feature.
    """

    functions: Array
    labels: Labels
    shifts: Array
    scales: Array
    levels: Array

    @property
    def n_clusters(self) -> int:
        """C."""
        return len(self.functions)

    def curves(self, grid: ShapeGrid) -> Array:
        """The features' curves: (P, D)."""
        return self.levels + self.scales * grid.shifted(self.functions, self.labels, self.shifts)


@dataclass(frozen=True)
class ClusterPrior:
    """Labels drawn from weights that have a symmetric Dirichlet(``alpha``) prior and are integrated out."""

    n_clusters: int
    alpha: float

    def log_probability(self, labels: Labels) -> float:
        """log p(labels)."""
        sizes = np.unique(labels, return_counts=True)[1]
        total = self.n_clusters * self.alpha
        by_cluster = gammaln(sizes + self.alpha) - gammaln(self.alpha)
        return float(by_cluster.sum() + gammaln(total) - gammaln(len(labels) + total))

    def assign(self, evidence: Array, labels: Labels) -> Labels:
        """Labels that, one feature after another, maximise evidence (D, C) and the prior given the other labels."""
        labels = labels.copy()
        sizes = np.bincount(labels, minlength=evidence.shape[1]).astype(np.float64)
        for _ in range(_ASSIGNMENT_SWEEPS):
            for j, of_feature in enumerate(evidence):
                sizes[labels[j]] -= 1
                labels[j] = (of_feature + np.log(sizes + self.alpha)).argmax()
                sizes[labels[j]] += 1
        return labels


@dataclass(frozen=True)
class ShapeFit:
    """Shapes with what they cost: ``occam_costs`` (C,) of the functions, and terms of the log posterior.

    ``log_prior`` is that of labels, scales, shifts and functions, the latter integrated over; ``objective`` adds the
    log-likelihood given q(z), up to a constant of information and response.
    """

    shapes: Shapes
    occam_costs: Array
    log_prior: float
    objective: float


def free_curves(grid: ShapeGrid, mass: Array, weighted: Array, noise_variances: Array) -> Array:
    """One smooth curve for every feature, (P, D), given sums of mass (P, D) or (P, 1) and of the data (P, D)."""
    curves = np.empty_like(weighted)
    information = np.broadcast_to(mass / noise_variances, weighted.shape)
    for j, variance in enumerate(noise_variances):
        precision = grid.curve_prior.copy()
        precision[2] += information[:, j]
        curves[:, j] = solveh_banded(precision, weighted[:, j] / variance)
    return curves


def residual_variances(mass: Array, weighted: Array, sum_of_squares: Array, curves: Array) -> Array:
    """Noise variance of every feature around its curve: (D,). Arguments as for :func:`free_curves`."""
    squares = sum_of_squares - 2 * (weighted * curves).sum(0) + (mass * curves**2).sum(0)
    return np.maximum(squares / mass.sum(0), _LEAST_VARIANCE)


def working_response(mass: Array, weighted: Array, noise_variances: Array) -> tuple[Array, Array]:
    """Information and working response of Gaussian features, (P, D) each. Arguments as for :func:`free_curves`."""
    return np.maximum(mass, 0) / noise_variances, weighted / np.maximum(mass, 1e-12)


def evidence_table(grid: ShapeGrid, functions: Array, information: Array, response: Array) -> tuple[Array, Array]:
    """Evidence of every feature under every function, and the shift that gives it: (D, C) each.

    The maximum over shift, scale and level. One function at a time: no array is larger than (D, number of shifts).
    """
    columns = [_evidence_under(grid, function, information, response) for function in functions]
    return np.column_stack([e for e, _ in columns]), np.column_stack([shift for _, shift in columns])


def _evidence_under(grid: ShapeGrid, function: Array, information: Array, response: Array) -> tuple[Array, Array]:
    """Evidence and best shift, (D,) each, of features with information (P, D) under one function (T,)."""
    windows = np.lib.stride_tricks.sliding_window_view(function, len(grid.points))
    shifted = windows[grid.pad - grid.n_shift_steps : grid.pad + grid.n_shift_steps + 1].T  # (P, S)
    products = (information * response).T @ shifted
    squares = information.T @ shifted**2
    if grid.scale_bounds is not None:  # with a free level, only what varies counts
        total, means = information.sum(0)[:, None], information.T @ shifted
        products -= means * ((information * response).sum(0)[:, None] / total)
        squares -= means**2 / total
    squares = np.maximum(squares, _LEAST_SQUARES)
    scales = grid.best_scales(squares, products)
    evidence = scales * (products - grid.scale_rate) - 0.5 * scales**2 * squares - 0.5 * grid.coarse_shifts**2
    return _peaks(evidence, grid)


def _peaks(evidence: Array, grid: ShapeGrid) -> tuple[Array, Array]:
    """Height and place of each row's maximum, from evidence (D, S) at coarse shifts and a parabola through the best."""
    n_shifts = evidence.shape[1]
    if n_shifts == 1:
        return evidence[:, 0], np.zeros(len(evidence))
    rows, best = np.arange(len(evidence)), evidence.argmax(1)
    inner = np.clip(best, 1, n_shifts - 2)
    left, middle, right = (evidence[rows, inner + step] for step in (-1, 0, 1))
    slope, curvature = 0.5 * (right - left), np.maximum(2 * middle - left - right, 1e-9)
    is_inner = best == inner
    step = np.where(is_inner, np.clip(slope / curvature, -0.5, 0.5), best - inner)
    height = np.where(is_inner, middle + 0.5 * step * slope, evidence[rows, best])
    return height, grid.coarse_shifts[inner] + step * grid.spacing


def place_features(
    grid: ShapeGrid, functions: Array, labels: Labels, shifts: Array, information: Array, response: Array
) -> Shapes:
    """Shapes with the best scale and level of every feature, given its function and shift."""
    shifted = grid.shifted(functions, labels, shifts)
    if grid.scale_bounds is None:
        return Shapes(functions, labels, shifts, np.ones(len(labels)), np.zeros(len(labels)))
    total = information.sum(0)
    mean, response_mean = (information * shifted).sum(0) / total, (information * response).sum(0) / total
    centred = shifted - mean
    squares = np.maximum((information * centred**2).sum(0), _LEAST_SQUARES)
    products = (information * centred * (response - response_mean)).sum(0)
    scales = grid.best_scales(squares, products)
    return Shapes(functions, labels, shifts, scales, response_mean - scales * mean)


def fit_function(
    grid: ShapeGrid, shifts: Array, scales: Array, levels: Array, information: Array, response: Array
) -> tuple[Array, float]:
    """The function (T,) that M features (shifts, ... (M,), information (P, M)) follow, and its Occam cost.

    It is penalised weighted least squares. The cost is what integrating over the function takes off the log-likelihood
    at its optimum: Laplace's approximation, exact here.
    """
    left, fraction = grid.knots_under(shifts)
    precision, n_knots = grid.function_prior.copy(), grid.function_prior.shape[1]
    weights, moments = scales**2 * information, scales * information * (response - levels)
    precision[2] += _sums_at(left, (1 - fraction) ** 2 * weights, n_knots)
    precision[2] += _sums_at(left + 1, fraction**2 * weights, n_knots)
    precision[1] += _sums_at(left + 1, fraction * (1 - fraction) * weights, n_knots)
    linear = _sums_at(left, (1 - fraction) * moments, n_knots) + _sums_at(left + 1, fraction * moments, n_knots)
    factor = cholesky_banded(precision)
    function = cho_solve_banded((factor, False), linear)
    cost = 0.5 * (log_det(factor) - grid.function_log_det + _quadratic_form(grid.function_prior, function))
    return function, cost


def _quadratic_form(band: Array, f: Array) -> float:
    """``f' Q f`` for Q in upper banded form (3, T)."""
    return float(band[2] @ f**2 + 2 * (band[1, 1:] @ (f[1:] * f[:-1]) + band[0, 2:] @ (f[2:] * f[:-2])))


def _sums_at(index: NDArray[np.intp], values: Array, n_knots: int) -> Array:
    """Sums of the values that share an index: (n_knots,)."""
    return np.bincount(index.ravel(), values.ravel(), minlength=n_knots).astype(np.float64)


def standardize_function(grid: ShapeGrid, function: Array, shifts: Array, scales: Array) -> Array:
    """The function (T,) relative to which its features' shifts have mean 0 and scales lie in the middle of their range.

    Shifts and scales are known relative to the function only, and a function at the end of their range could not be
    followed by features beyond it. Where that would push a feature out of range, the shifts' mean gives way.
    """
    lowest, highest = shifts.max() - grid.max_shift, shifts.min() + grid.max_shift
    centre = np.clip(shifts.mean(), min(lowest, highest), max(lowest, highest))
    moved = np.interp(grid.knots + centre, grid.knots, function)
    if grid.scale_bounds is None:
        return moved
    middle = np.sqrt(np.prod(grid.scale_bounds))
    return moved * np.exp(np.log(scales).mean()) / middle


def refine(
    grid: ShapeGrid,
    functions: Array,
    labels: Labels | None,
    information: Array,
    response: Array,
    prior: ClusterPrior,
    *,
    n_rounds: int,
    hold_labels: bool = False,
) -> ShapeFit:
    """Update labels, shifts, scales, levels and functions (C, T) in turn; clusters without features vanish.

    ``labels`` None starts from the function of greatest evidence, whatever the clusters' sizes.
    """
    for _ in range(n_rounds):
        shapes = _follow(grid, functions, labels, information, response, prior, hold_labels)
        functions, _ = _update_functions(grid, shapes, information, response)
        labels = shapes.labels
    shapes = _follow(grid, functions, labels, information, response, prior, hold_labels)
    costs = _OCCAM_WEIGHT * _update_functions(grid, shapes, information, response)[1]
    return appraise(grid, shapes, costs, information, response, prior)


def appraise(
    grid: ShapeGrid, shapes: Shapes, occam_costs: Array, information: Array, response: Array, prior: ClusterPrior
) -> ShapeFit:
    """The log posterior of shapes whose functions have known Occam costs (C,)."""
    log_prior = prior.log_probability(shapes.labels) - float(occam_costs.sum())
    log_prior -= float(grid.scale_rate * shapes.scales.sum() + 0.5 * (shapes.shifts**2).sum())
    curves = shapes.curves(grid)
    log_likelihood = float((information * curves * (response - 0.5 * curves)).sum())
    return ShapeFit(shapes, occam_costs, log_prior, log_likelihood + log_prior)


def _follow(
    grid: ShapeGrid,
    functions: Array,
    labels: Labels | None,
    information: Array,
    response: Array,
    prior: ClusterPrior,
    hold_labels: bool,
) -> Shapes:
    """Labels (unless held), shifts, scales and levels of all features; functions that no feature follows vanish."""
    if labels is not None and hold_labels:
        shifts = np.empty(len(labels))
        for k, function in enumerate(functions):
            members = labels == k
            shifts[members] = _evidence_under(grid, function, information[:, members], response[:, members])[1]
    else:
        table, all_shifts = evidence_table(grid, functions, information, response)
        labels = table.argmax(1) if labels is None else prior.assign(table, labels)
        shifts = all_shifts[np.arange(len(labels)), labels]
    alive, labels = np.unique(labels, return_inverse=True)
    return place_features(grid, functions[alive], labels, shifts, information, response)


def _update_functions(grid: ShapeGrid, shapes: Shapes, information: Array, response: Array) -> tuple[Array, Array]:
    """New functions (C, T) from their features, standardised, and the functions' Occam costs (C,)."""
    functions, costs = np.empty_like(shapes.functions), np.empty(shapes.n_clusters)
    for k in range(shapes.n_clusters):
        members = np.flatnonzero(shapes.labels == k)
        shifts, scales = shapes.shifts[members], shapes.scales[members]
        function, costs[k] = fit_function(
            grid, shifts, scales, shapes.levels[members], information[:, members], response[:, members]
        )
        functions[k] = standardize_function(grid, function, shifts, scales)
    return functions, costs
