"""The search for shapes: known partitions are found, and what should not matter does not."""

import numpy as np
import pytest
import torch
from agreement import assert_agree
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import spearmanr
from sklearn.metrics import v_measure_score

from skdevae.datasets import make_basis_toy
from skdevae.table import source as rows_module
from skdevae.table.components import normal_scores
from skdevae.table.source import RowSource
from skdevae.trajectory.shape_search import search as search_module
from skdevae.trajectory.shape_search.axis import GaussianAxis, find_axis
from skdevae.trajectory.shape_search.grid import ShapeGrid
from skdevae.trajectory.shape_search.search import search_shapes

BOUNDS = (0.25, 1.75)


def make_source(X):
    return RowSource(X, np.nanmean(X, 0), np.nanstd(X, 0), torch.zeros((), dtype=torch.float64))


def first_scores(X):
    """Normal scores of the first principal component, missing entries filled with their column's mean."""
    standardized = np.nan_to_num((X - np.nanmean(X, 0)) / np.nanstd(X, 0))
    return normal_scores(np.linalg.svd(standardized, full_matrices=False)[0][:, 0])


def make_grid(max_shift=0.0, scale_bounds=BOUNDS, n_points=129):
    return ShapeGrid.build(n_points, 4.5, max_shift=max_shift, scale_bounds=scale_bounds)


def search(X, positions=None, n_clusters=8, seed=0, **grid):
    positions = first_scores(X) if positions is None else positions
    return search_shapes(make_source(X), positions, grid=make_grid(**grid), n_clusters=n_clusters, alpha=0.1, seed=seed)


def small_toy(seed=0, noise=0.1):
    return make_basis_toy(150, 4, groups=("early", "middle", "up", "down"), noise=noise, random_state=seed)


def test_the_published_toy(shared_data):
    with np.load(shared_data("basisvae_toy.npz")) as file:
        X, blocks = file["X"][::2].astype(np.float64), file["block"]
    result = search(X)
    assert result.shapes.n_clusters == 4
    assert v_measure_score(blocks, result.shapes.labels) == pytest.approx(1)
    assert result.posterior.shape == (250, 129)
    assert_allclose(result.posterior.sum(1), 1)
    X[np.random.default_rng(0).uniform(size=X.shape) < 0.1] = np.nan
    assert v_measure_score(blocks, search(X).shapes.labels) == pytest.approx(1)


def test_a_continuum_of_shifts_is_one_shape():
    toy = make_basis_toy(
        200, 20, groups=("middle",), shift_range=1.5, noise=0.1, scale_range=(0.5, 1.5), random_state=0
    )
    shapes = search(toy.data, max_shift=1.5, n_points=65).shapes
    assert shapes.n_clusters == 1
    assert abs(spearmanr(shapes.shifts, toy.shifts)[0]) > 0.99


def test_groups_differ_by_shape_and_place():
    toy = small_toy()
    result = search(toy.data)
    assert v_measure_score(toy.labels, result.shapes.labels) == pytest.approx(1)
    noise = np.sqrt(result.noise_variances) * toy.data.std(0)
    assert np.median(noise) == pytest.approx(0.1, rel=0.1)


def test_permuted_features_have_permuted_labels():
    toy, order = small_toy(), np.random.default_rng(0).permutation(16)
    labels, permuted = search(toy.data).shapes.labels, search(toy.data[:, order]).shapes.labels
    assert v_measure_score(labels[order], permuted) == pytest.approx(1)


def test_a_reversed_axis_has_opposite_shifts():
    toy = make_basis_toy(150, 4, groups=("middle", "up"), shift_range=1.0, noise=0.1, random_state=0)
    scores = first_scores(toy.data)
    one, other = (search(toy.data, sign * scores, max_shift=1.5, n_points=65) for sign in (1, -1))
    assert_array_equal(one.shapes.labels, other.shapes.labels)
    assert_allclose(one.shapes.shifts, -other.shapes.shifts, atol=0.01)
    assert_allclose(one.posterior, other.posterior[:, ::-1], atol=0.01)


def test_the_axis_does_not_depend_on_the_order_of_rows_nor_on_chunks(monkeypatch):
    toy, order = small_toy(), np.random.default_rng(0).permutation(150)
    toy.data[::7, 3] = np.nan  # in some chunks alone
    scores, grid = first_scores(toy.data), make_grid()
    reference = find_axis(GaussianAxis(make_source(toy.data), grid), scores)
    permuted = find_axis(GaussianAxis(make_source(toy.data[order]), grid), scores[order])
    assert_agree(permuted.means, reference.means[order])
    monkeypatch.setattr(rows_module, "_CHUNK_ENTRIES", 3 * 129)
    chunked = find_axis(GaussianAxis(make_source(toy.data), grid), scores)
    assert_agree(chunked.means, reference.means)
    assert abs(spearmanr(reference.means, toy.times)[0]) > 0.97


def test_the_objective_has_the_log_likelihood_of_observed_entries():
    X = small_toy().data[:30, :6].copy()
    X[::4, 2] = np.nan
    source, grid, random = make_source(X), make_grid(n_points=17), np.random.default_rng(0)
    curves, variances = random.normal(size=(17, 6)), random.uniform(0.2, 1, 6)
    axis = GaussianAxis(source, grid)
    z, standardized = grid.points, (X - source.center) / source.scale
    density = -0.5 * (standardized[:, None] - curves) ** 2 / variances - 0.5 * np.log(2 * np.pi * variances)
    joint = np.nansum(density, 2) - 0.5 * z**2 - 0.5 * np.log(2 * np.pi) + np.log(grid.spacing)
    expected = np.logaddexp.reduce(joint, axis=1).sum()
    assert_allclose(axis.log_evidence(axis.sums(curves, variances), curves, variances), expected)


def three_shapes(z):
    return np.repeat(np.stack([np.tanh(z), -np.tanh(z), np.exp(-2 * z**2)], axis=1), 6, axis=1)


def shifted_bumps(z):
    return np.exp(-0.5 * (z[:, None] + np.linspace(-1.4, 1.4, 20)) ** 2)


@pytest.mark.parametrize(
    "max_shift, curves_at, truth",
    [
        (0.0, three_shapes, np.repeat([0, 1, 2], 6)),
        (1.5, shifted_bumps, np.zeros(20)),
    ],
)
def test_without_scales_and_levels(max_shift, curves_at, truth):
    random = np.random.default_rng(0)
    curves = curves_at(random.normal(size=200))
    X = curves + 0.1 * random.normal(size=curves.shape)
    # One unit for all: a column's own mean and sd would be levels and scales.
    source = RowSource(X, np.full(X.shape[1], X.mean()), np.full(X.shape[1], X.std()), make_source(X).like)
    grid = make_grid(max_shift, scale_bounds=None)
    shapes = search_shapes(source, first_scores(X), grid=grid, n_clusters=8, alpha=0.1, seed=0).shapes
    assert v_measure_score(truth, shapes.labels) == pytest.approx(1)
    assert_array_equal(shapes.scales, 1)
    assert_array_equal(shapes.levels, 0)
    if max_shift > 0:
        assert abs(spearmanr(shapes.shifts, np.arange(20))[0]) > 0.99


@pytest.mark.parametrize("n_clusters", [1, 2, 3])
def test_never_more_clusters_than_allowed(n_clusters):
    result = search(small_toy().data, n_clusters=n_clusters, n_points=65)
    assert 1 <= result.shapes.n_clusters <= n_clusters
    assert_array_equal(np.unique(result.shapes.labels), np.arange(result.shapes.n_clusters))
    assert np.isfinite(result.posterior).all()


def test_few_features_many_clusters():
    result = search(small_toy().data[:, :2], n_clusters=20, n_points=65)
    assert result.shapes.n_clusters <= 2


def test_random_candidates_depend_on_the_seed_alone(monkeypatch):
    toy = small_toy()
    monkeypatch.setattr(search_module, "_MOST_SEEDS", 15)
    monkeypatch.setattr(search_module, "_MOST_MERGED_SEEDS", 3)
    one, again = (search(toy.data, seed=3) for _ in range(2))
    assert_array_equal(one.shapes.functions, again.shapes.functions)
    assert v_measure_score(toy.labels, one.shapes.labels) == pytest.approx(1)


def test_close_pairs_are_those_that_share_most_evidence(monkeypatch):
    labels = np.repeat(np.arange(4), 2)
    table = -10.0 * np.abs(np.subtract.outer(labels, np.array([0, 1, 5, 7]) / 1.0))
    table[np.arange(8), labels] = 0
    assert len(search_module._pairs_to_merge(table, labels)) == 6
    monkeypatch.setattr(search_module, "_FEW_CLUSTERS", 3)
    monkeypatch.setattr(search_module, "_CLOSEST_PAIRS", 1)
    assert search_module._pairs_to_merge(table, labels) == [(0, 1)]


@pytest.mark.parametrize("n_columns", [4, 12])
@pytest.mark.parametrize("noise", [0.5, 1.5])
def test_a_weak_axis_does_not_dissolve_and_grow_again_out_of_rounding(n_columns, noise):
    generator = np.random.default_rng(0)
    z = generator.normal(size=200)
    X = np.tanh(z[:, None]) * np.resize([1.0, -1.0], n_columns) + noise * generator.normal(size=(200, n_columns))
    standardized = torch.zeros((), dtype=torch.float32)
    found = []
    for seed in range(3):
        order = generator.permutation(200) if seed else np.arange(200)
        rows = RowSource(X[order], X.mean(0), X.std(0), standardized)
        means = find_axis(GaussianAxis(rows, make_grid()), first_scores(X[order])).means
        found.append(means[np.argsort(order)] * np.sign(spearmanr(means, X[order, 0])[0]))
    for means in found[1:]:
        assert_allclose(means, found[0], atol=0.02)
    score = np.abs(spearmanr(first_scores(X), z)[0])
    assert np.abs(spearmanr(found[0], z)[0]) > score - 0.1
