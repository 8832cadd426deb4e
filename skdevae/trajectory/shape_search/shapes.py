"""Shapes: features as scaled and shifted copies of a few functions of the latent, fitted in closed form.

A feature of cluster k has the curve ``level + scale * f_k(z + shift)``. Given q(z), the data enter through two arrays
of shape (P, D): the information I and the working response R. The log-likelihood of curves mu is then
``-1/2 sum I (R - mu)^2`` up to a constant. Scales have a Gamma(1, 1) prior, shifts a standard normal prior, levels a
flat prior, and functions a Gaussian prior that favours smooth ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from .grid import Array, Labels, ShapeGrid, factorized, log_det, solve_banded

#: smallest residual variance; without it, a feature that its curve follows exactly would outweigh all others
_LEAST_VARIANCE = 1e-3
#: residual variance of a column without an entry: that of a standardised column
_UNKNOWN_VARIANCE = 1.0
#: least mass at a point, so that points and columns without an entry do not divide by zero
_LEAST_MASS = 1e-12
#: smallest squared norm of a function under a feature's information, so that flat functions do not divide by zero
_LEAST_SQUARES = 1e-9
#: Weight of the functions' Occam costs, chosen by experiment. With weight 1, the search sometimes left two clusters of
#: one shape in resampled tables. The costs hold for a given q(z); they leave out that q(z) adapts to every function.
_OCCAM_WEIGHT = 1.25
#: passes over the features, each of which moves to its best cluster given the labels of the others
_ASSIGNMENT_SWEEPS = 3


@dataclass(frozen=True)
class Shapes:
    """Functions, and how every feature follows one of them.

    Attributes
    ----------
    functions : ndarray of shape (C, T)
        Values at the knots of a grid.
    labels : ndarray of shape (D,)
        The function that each feature follows.
    shifts, scales, levels : ndarray of shape (D,)
        How each feature is a copy of its function. Shifts are in units of z.
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
    """Prior of labels. Weights of clusters have a symmetric Dirichlet(``alpha``) prior and are integrated out."""

    n_clusters: int
    alpha: float

    def log_probability(self, labels: Labels) -> float:
        """log p(labels)."""
        sizes = np.unique(labels, return_counts=True)[1]
        total = self.n_clusters * self.alpha
        by_cluster = gammaln(sizes + self.alpha) - gammaln(self.alpha)
        return float(by_cluster.sum() + gammaln(total) - gammaln(len(labels) + total))

    def assign(self, evidence: Array, labels: Labels) -> Labels:
        """Update labels one by one: to the greatest evidence (D, C) plus log prior given the other labels.

        The features of the clearest evidence come first, so that the order of columns does not matter.
        """
        labels = labels.copy()
        ranked = np.sort(evidence, axis=1)
        clearest_first = np.argsort(ranked[:, -2] - ranked[:, -1]) if evidence.shape[1] > 1 else range(len(labels))
        sizes = np.bincount(labels, minlength=evidence.shape[1]).astype(np.float64)
        for _ in range(_ASSIGNMENT_SWEEPS):
            for j in clearest_first:
                sizes[labels[j]] -= 1
                labels[j] = (evidence[j] + np.log(sizes + self.alpha)).argmax()
                sizes[labels[j]] += 1
        return labels


@dataclass(frozen=True)
class ShapeFit:
    """Shapes and their log posterior given q(z).

    Attributes
    ----------
    shapes : Shapes
    occam_costs : ndarray of shape (C,)
        What integrating out each function takes off the log posterior.
    log_prior : float
        Log prior of labels, scales and shifts, less the Occam costs.
    objective : float
        ``log_prior`` plus the log-likelihood, up to a constant of information and response.
    """

    shapes: Shapes
    occam_costs: Array
    log_prior: float
    objective: float


def free_curves(grid: ShapeGrid, mass: Array, weighted: Array, noise_variances: Array) -> Array:
    """One smooth curve for every feature, (P, D), from the sums of an E-step and noise variances (D,)."""
    curves = np.empty_like(weighted)
    information = np.broadcast_to(mass / noise_variances, weighted.shape)
    for j, variance in enumerate(noise_variances):
        precision = grid.curve_prior.copy()
        precision[2] += information[:, j]
        curves[:, j] = solve_banded(factorized(precision), weighted[:, j] / variance)
    return curves


def residual_variances(mass: Array, weighted: Array, sum_of_squares: Array, curves: Array) -> Array:
    """Noise variance of every feature around its curve, (D,). ``sum_of_squares`` (D,) is that of the data."""
    squares = sum_of_squares - 2 * (weighted * curves).sum(0) + (mass * curves**2).sum(0)
    n_observed = np.broadcast_to(mass.sum(0), squares.shape)
    variances = np.full(squares.shape, _UNKNOWN_VARIANCE)
    np.divide(squares, n_observed, out=variances, where=n_observed > 0)
    return np.maximum(variances, _LEAST_VARIANCE)


def working_response(mass: Array, weighted: Array, noise_variances: Array) -> tuple[Array, Array]:
    """Information and working response of Gaussian features, (P, D) each, from the sums of an E-step."""
    mass = np.maximum(mass, _LEAST_MASS)
    return mass / noise_variances, weighted / mass


def evidence_table(grid: ShapeGrid, functions: Array, information: Array, response: Array) -> tuple[Array, Array]:
    """Evidence of every feature under every function, and the shift at which it is greatest: (D, C) each.

    The evidence is the log posterior of the feature, maximised over shift, scale and level. Functions are taken one at
    a time, so that no array is larger than (D, number of shifts).
    """
    columns = [_evidence_under(grid, function, information, response) for function in functions]
    return np.column_stack([e for e, _ in columns]), np.column_stack([shift for _, shift in columns])


def _evidence_under(grid: ShapeGrid, function: Array, information: Array, response: Array) -> tuple[Array, Array]:
    """Evidence and best shift, (D,) each, of features with information (P, D) under one function (T,)."""
    windows = np.lib.stride_tricks.sliding_window_view(function, len(grid.points))
    shifted = windows[grid.pad - grid.n_shift_steps : grid.pad + grid.n_shift_steps + 1].T  # (P, S)
    products = (information * response).T @ shifted
    squares = information.T @ shifted**2
    if grid.scale_bounds is not None:  # levels are free: products and squares are taken around means
        total, means = information.sum(0)[:, None], information.T @ shifted
        products -= means * ((information * response).sum(0)[:, None] / total)
        squares -= means**2 / total
    squares = np.maximum(squares, _LEAST_SQUARES)
    scales = grid.best_scales(squares, products)
    evidence = scales * (products - grid.scale_rate) - 0.5 * scales**2 * squares - 0.5 * grid.coarse_shifts**2
    return _peaks(evidence, grid)


def _peaks(evidence: Array, grid: ShapeGrid) -> tuple[Array, Array]:
    """Greatest evidence of each feature, and its shift, from evidence (D, S) at coarse shifts.

    Between coarse shifts, the maximum is that of a parabola through the best shift and its two neighbours.
    """
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
    """Give every feature the best scale and level for its function and shift."""
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
    """The function (T,) that M features follow, and its Occam cost.

    The function is fitted by penalised weighted least squares. The cost is what integrating out the function takes off
    the log-likelihood at the optimum, by Laplace's approximation, which is exact here. Shifts, scales and levels are
    (M,), information and response (P, M).
    """
    left, fraction = grid.knots_under(shifts)
    precision, n_knots = grid.function_prior.copy(), grid.function_prior.shape[1]
    weights, moments = scales**2 * information, scales * information * (response - levels)
    precision[2] += _sums_at(left, (1 - fraction) ** 2 * weights, n_knots)
    precision[2] += _sums_at(left + 1, fraction**2 * weights, n_knots)
    precision[1] += _sums_at(left + 1, fraction * (1 - fraction) * weights, n_knots)
    linear = _sums_at(left, (1 - fraction) * moments, n_knots) + _sums_at(left + 1, fraction * moments, n_knots)
    factor = factorized(precision)
    function = solve_banded(factor, linear)
    cost = 0.5 * (log_det(factor) - grid.function_log_det + _quadratic_form(grid.function_prior, function))
    return function, cost


def _quadratic_form(band: Array, f: Array) -> float:
    """``f' Q f`` for Q in upper banded form (3, T)."""
    return float(band[2] @ f**2 + 2 * (band[1, 1:] @ (f[1:] * f[:-1]) + band[0, 2:] @ (f[2:] * f[:-2])))


def _sums_at(index: NDArray[np.intp], values: Array, n_knots: int) -> Array:
    """Sums of the values that share an index: (n_knots,)."""
    return np.bincount(index.ravel(), values.ravel(), minlength=n_knots).astype(np.float64, copy=False)


def standardize_function(grid: ShapeGrid, function: Array, shifts: Array, scales: Array) -> Array:
    """Move and rescale a function (T,) so that shifts have mean 0 and scales lie in the middle of their range.

    The data determine shifts and scales only relative to the function. Without this step they could drift to an end of
    their range, where no more features could follow. The mean of the shifts may differ from 0 where a feature's shift
    would leave its range otherwise.
    """
    lowest, highest = shifts.max() - grid.max_shift, shifts.min() + grid.max_shift
    centre = min(max(float(shifts.mean()), min(lowest, highest)), max(lowest, highest))
    moved = np.interp(grid.knots + centre, grid.knots, function)
    if grid.scale_bounds is None:
        return moved
    middle = math.sqrt(math.prod(grid.scale_bounds))
    return moved * (math.exp(np.log(scales).mean()) / middle)


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
    """Update labels, shifts, scales, levels and functions (C, T) in turn. Clusters without features are removed.

    If ``labels`` is None, features start with the functions of greatest evidence, whatever the sizes of the clusters.
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
    """Add up the log posterior of shapes whose functions have known Occam costs (C,)."""
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
    """Update shifts, scales, levels and, unless held, labels. Functions without features are removed."""
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
    """Fit and standardise the functions (C, T), and give their Occam costs (C,)."""
    functions, costs = np.empty_like(shapes.functions), np.empty(shapes.n_clusters)
    for k in range(shapes.n_clusters):
        members = np.flatnonzero(shapes.labels == k)
        shifts, scales = shapes.shifts[members], shapes.scales[members]
        function, costs[k] = fit_function(
            grid, shifts, scales, shapes.levels[members], information[:, members], response[:, members]
        )
        functions[k] = standardize_function(grid, function, shifts, scales)
    return functions, costs
