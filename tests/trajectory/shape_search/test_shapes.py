"""Closed forms of scaled and shifted functions, against brute force and dense linear algebra."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize

from skdevae.trajectory.shape_search.grid import ShapeGrid
from skdevae.trajectory.shape_search.shapes import (
    ClusterPrior,
    Shapes,
    evidence_table,
    fit_function,
    free_curves,
    place_features,
    refine,
    residual_variances,
    standardize_function,
    working_response,
)

BOUNDS = (0.25, 1.75)


def small_grid(max_shift=1.5, scale_bounds=BOUNDS):
    return ShapeGrid.build(33, 4.0, max_shift=max_shift, scale_bounds=scale_bounds)


def random_problem(grid, n_features=5, seed=0):
    """Information and response that say something everywhere, and two functions."""
    random = np.random.default_rng(seed)
    information = random.uniform(0.5, 3, (len(grid.points), n_features))
    functions = np.stack([np.exp(-0.5 * grid.knots**2), np.tanh(grid.knots)])
    centres = random.uniform(-1, 1, n_features)
    response = np.exp(-0.5 * (grid.points[:, None] - centres) ** 2) + random.normal(0, 0.3, information.shape)
    return functions, information, response


def dense(band):
    """A symmetric matrix from its upper banded form."""
    upper = np.diag(band[1, 1:], 1) + np.diag(band[0, 2:], 2)
    return upper + upper.T + np.diag(band[2])


def brute_force_evidence(grid, f, information, response, shift):
    """Best log posterior of scale and level of one feature, beside that of a constant (None: of zero)."""
    baseline = 0.0
    if grid.scale_bounds is not None:
        baseline = np.average(response, weights=information)

    def loss(scale_level):
        scale, level = scale_level
        curve = level + scale * f
        return 0.5 * (information * (response - curve) ** 2).sum() + grid.scale_rate * scale

    if grid.scale_bounds is None:
        best = loss((1.0, 0.0))
    else:
        best = minimize(loss, (1.0, 0.0), bounds=[grid.scale_bounds, (None, None)], tol=1e-12).fun
    return 0.5 * (information * (response - baseline) ** 2).sum() - best - 0.5 * shift**2


@pytest.mark.parametrize("scale_bounds", [BOUNDS, None])
def test_evidence_is_the_maximum_over_scale_and_level(scale_bounds):
    grid = small_grid(0, scale_bounds)
    functions, information, response = random_problem(grid)
    table, shifts = evidence_table(grid, functions, information, response)
    assert_array_equal(shifts, 0)
    for j, k in np.ndindex(table.shape):
        f = functions[k, grid.pad : -grid.pad]
        assert_allclose(table[j, k], brute_force_evidence(grid, f, information[:, j], response[:, j], 0), atol=1e-6)


@pytest.mark.parametrize("scale_bounds", [BOUNDS, None])
def test_evidence_is_the_maximum_over_shifts(scale_bounds):
    grid = small_grid(1.5, scale_bounds)
    functions, information, response = random_problem(grid)
    table, shifts = evidence_table(grid, functions, information, response)
    assert (np.abs(shifts) <= 1.5).all()
    for j, k in np.ndindex(table.shape):
        at_shifts = [
            brute_force_evidence(
                grid, np.interp(grid.points + s, grid.knots, functions[k]), information[:, j], response[:, j], s
            )
            for s in grid.coarse_shifts
        ]
        # Between two coarse shifts a parabola may rise above both, by little.
        assert -1e-6 < table[j, k] - max(at_shifts) < 0.5
        assert abs(shifts[j, k] - grid.coarse_shifts[np.argmax(at_shifts)]) <= 0.5 * grid.spacing + 1e-12


def test_shifts_between_grid_points_are_found():
    grid = ShapeGrid.build(129, 4.5, max_shift=1.5, scale_bounds=BOUNDS)
    true = np.linspace(-1.4, 1.4, 15)
    response = 0.3 + np.exp(-0.5 * (grid.points[:, None] + true) ** 2)
    information = np.full_like(response, 1000.0)
    functions = np.exp(-0.5 * grid.knots**2)[None]
    _, shifts = evidence_table(grid, functions, information, response)
    assert_allclose(shifts[:, 0], true, atol=0.01)
    shapes = place_features(grid, functions, np.zeros(15, dtype=int), shifts[:, 0], information, response)
    assert_allclose(shapes.scales, 1, atol=0.01)
    assert_allclose(shapes.curves(grid), response, atol=0.01)


def test_shifted_functions_are_linear_between_knots():
    grid = small_grid()
    functions, _, _ = random_problem(grid)
    labels, shifts = np.array([0, 1, 1, 0, 1]), np.array([-1.5, -0.31, 0, 0.77, 1.5])
    expected = [np.interp(grid.points + s, grid.knots, functions[k]) for k, s in zip(labels, shifts, strict=True)]
    assert_allclose(grid.shifted(functions, labels, shifts), np.transpose(expected), atol=1e-12)


def members():
    grid = small_grid()
    _, information, response = random_problem(grid)
    shifts, scales = np.array([-1.5, -0.3, 0.0, 0.4, 1.5]), np.array([0.3, 0.8, 1.0, 1.2, 1.7])
    levels = np.array([0.1, -0.2, 0.0, 0.3, 0.5])
    return grid, shifts, scales, levels, information, response


def test_a_function_minimises_penalised_least_squares():
    grid, shifts, scales, levels, information, response = members()
    prior, labels = dense(grid.function_prior), np.zeros(5, dtype=int)

    def loss(f):
        curves = Shapes(f[None], labels, shifts, scales, levels).curves(grid)
        return 0.5 * (information * (response - curves) ** 2).sum() + 0.5 * f @ prior @ f

    f, _ = fit_function(grid, shifts, scales, levels, information, response)
    steps = 1e-3 * np.eye(len(f))
    gradient = [(loss(f + step) - loss(f - step)) / 2e-3 for step in steps]
    assert_allclose(gradient, 0, atol=1e-6)


def test_the_occam_cost_is_what_integrating_over_the_function_costs():
    grid, shifts, scales, levels, information, response = members()
    f, cost = fit_function(grid, shifts, scales, levels, information, response)
    labels, n = np.zeros(5, dtype=int), len(f)
    design = np.stack(
        [(scales * grid.shifted(unit[None], labels, shifts)).ravel() for unit in np.eye(n)], axis=1
    )  # (P M, T)
    precision, target = information.ravel(), (response - levels).ravel()
    covariance = np.diag(1 / precision) + design @ np.linalg.solve(dense(grid.function_prior), design.T)
    log_marginal = -0.5 * (target @ np.linalg.solve(covariance, target) + np.linalg.slogdet(covariance)[1])
    at_optimum = -0.5 * (precision * (target - design @ f) ** 2).sum() + 0.5 * np.log(precision).sum()
    assert_allclose(at_optimum - cost, log_marginal, rtol=1e-8)


def test_standardized_functions_centre_shifts_and_scales_within_range():
    grid = small_grid()
    f = np.exp(-0.5 * grid.knots**2)
    moved = standardize_function(grid, f, np.array([0.25, 0.75]), np.array([0.5, 0.5]))
    inside = np.abs(grid.knots) < 3
    assert_allclose(moved[inside], 0.5 / np.sqrt(0.25 * 1.75) * np.interp(grid.knots + 0.5, grid.knots, f)[inside])
    # Centring must not take a feature out of range.
    spread = standardize_function(grid, f, np.array([-1.5, 1.5, 1.5]), np.full(3, np.sqrt(0.25 * 1.75)))
    assert_allclose(spread, f)


def test_functions_stay_as_they_are_without_shifts_and_scales():
    grid = small_grid(0, None)
    f = np.tanh(grid.knots)
    assert_allclose(standardize_function(grid, f, np.zeros(3), np.ones(3)), f, atol=1e-12)


def test_one_mass_for_all_features_or_one_for_each():
    grid, random = small_grid(), np.random.default_rng(0)
    mass, weighted = random.uniform(0, 5, (33, 1)), random.normal(size=(33, 4))
    variances, squares = random.uniform(0.1, 1, 4), np.full(4, 50.0)
    by_feature = np.repeat(mass, 4, axis=1)
    curves = free_curves(grid, mass, weighted, variances)
    assert_allclose(free_curves(grid, by_feature, weighted, variances), curves)
    assert_allclose(
        residual_variances(by_feature, weighted, squares, curves), residual_variances(mass, weighted, squares, curves)
    )
    for one, each in zip(
        working_response(mass, weighted, variances), working_response(by_feature, weighted, variances), strict=True
    ):
        assert_allclose(one, each)
    expected = np.linalg.solve(
        dense(grid.curve_prior) + np.diag(mass[:, 0] / variances[2]), weighted[:, 2] / variances[2]
    )
    assert_allclose(curves[:, 2], expected)


def test_residual_variances_are_those_of_the_rows():
    random = np.random.default_rng(0)
    X, q, curves = random.normal(size=(40, 3)), random.dirichlet(np.ones(7), 40), random.normal(size=(7, 3))
    observed = random.uniform(size=X.shape) < 0.8
    X = np.where(observed, X, 0)
    squares = (observed * X**2).sum(0)
    expected = (q[:, :, None] * observed[:, None] * (X[:, None] - curves) ** 2).sum((0, 1)) / observed.sum(0)
    assert_allclose(residual_variances(q.T @ observed, q.T @ X, squares, curves), expected)


def test_label_probabilities_are_those_of_an_urn():
    labels, prior = np.array([0, 0, 1, 0, 2, 1]), ClusterPrior(5, 0.3)
    urn = 0.0
    for j, k in enumerate(labels):
        urn += np.log(((labels[:j] == k).sum() + 0.3) / (j + 5 * 0.3))
    assert_allclose(prior.log_probability(labels), urn)


def test_undecided_features_join_the_larger_cluster():
    evidence = np.array([[9.0, 0.0], [9.0, 0.0], [0.0, 9.0], [1.0, 1.1]])
    assert_array_equal(ClusterPrior(2, 0.1).assign(evidence, np.array([0, 0, 1, 1])), [0, 0, 1, 0])


@pytest.mark.parametrize("scale_bounds", [BOUNDS, None])
def test_refinement_finds_the_labels_and_forgets_empty_clusters(scale_bounds):
    grid = small_grid(0, scale_bounds)
    functions = np.stack([np.exp(-0.5 * grid.knots**2), np.tanh(grid.knots), 50 * np.cos(9 * grid.knots)])
    truth, random = np.repeat([0, 1], 4), np.random.default_rng(0)
    curves = functions[truth][:, grid.pad : -grid.pad].T
    information = np.full(curves.shape, 50.0)
    response = curves + 0.05 * random.normal(size=curves.shape)
    prior = ClusterPrior(5, 0.1)
    fit = refine(grid, functions, None, information, response, prior, n_rounds=2)
    assert fit.shapes.n_clusters == 2
    assert_array_equal(fit.shapes.labels, truth)
    assert fit.occam_costs.shape == (2,)
    assert_allclose(fit.shapes.curves(grid), curves, atol=0.1)
    held = refine(
        grid, functions[:1], np.zeros(8, dtype=int), information, response, prior, n_rounds=2, hold_labels=True
    )
    assert_array_equal(held.shapes.labels, 0)
    assert held.objective < fit.objective


@pytest.mark.parametrize("n_clusters", [1, 2, 5])
def test_features_choose_clusters_in_whatever_order_they_stand(n_clusters):
    generator = np.random.default_rng(0)
    prior = ClusterPrior(n_clusters, 0.1)
    for _ in range(20):
        evidence = generator.normal(size=(30, n_clusters))
        labels = generator.integers(n_clusters, size=30)
        order = generator.permutation(30)
        assert_array_equal(prior.assign(evidence[order], labels[order]), prior.assign(evidence, labels)[order])
