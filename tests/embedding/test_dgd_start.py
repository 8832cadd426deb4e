"""Where a deep generative decoder starts: representations, and the mixture that goes with them."""

import warnings

import numpy as np
import pytest
import torch
from embedding.mixture_cases import SIZES, clusters
from numpy.testing import assert_allclose, assert_array_equal

from skdevae import DGDEmbedder
from skdevae.embedding._dgd_parameters import DGDParameters
from skdevae.embedding._dgd_start import (
    column_moments,
    find_start,
    fitted_start,
    mixture_of,
    padded,
    regressed,
    softball_start,
    standard_normal_start,
    supervised_mixture,
)
from skdevae.embedding._mixture_search import kmeans_mixture
from skdevae.nn.regularized_mixture import Softball
from skdevae.nn.row_context import RowContext
from skdevae.table.components import principal_projection
from skdevae.table.source import RowSource

FLOAT64 = torch.zeros((), dtype=torch.float64)


def source_of(X, weights=None, **carried):
    return RowSource(X, None, None, FLOAT64, RowContext(weight=weights, **carried))


# ---- mixtures -------------------------------------------------------------------------------------------------------


def test_a_fitted_start_is_in_units_of_its_components():
    Z, _ = clusters()
    for unit in (1.0, 1e-4, 300.0):
        start = fitted_start(
            unit * Z, mixture_of("gmm", unit * Z, np.ones(len(Z)), 4, n_init=1, may_be_empty=False, seed=0)
        )
        assert start.weights @ start.variances.mean(1) == pytest.approx(1)
        assert start.radius == pytest.approx(max(5 * 4, np.linalg.norm(start.means, axis=1).max()))
        if unit == 1:
            expected = start
        assert_allclose(start.representations, expected.representations, rtol=1e-5)
        assert_allclose(start.means, expected.means, atol=1e-4)


@pytest.mark.parametrize("how", ["gmm", "kmeans"])
def test_a_start_has_a_width_where_nothing_is_known(how):
    for Z in (np.zeros((9, 2)), np.column_stack([clusters()[0][:, 0], np.zeros(sum(SIZES))])):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            start = fitted_start(Z, mixture_of(how, Z, np.ones(len(Z)), 3, n_init=1, may_be_empty=False, seed=0))
        assert (start.variances > 0).all()
        assert np.isfinite(start.representations).all()
        assert start.radius > 0


def test_a_standard_normal_start_has_sd_one_along_its_widest_axis():
    Z, _ = clusters()
    Z = Z - Z.mean(0)
    start = standard_normal_start(Z, np.ones(len(Z)))
    sds = start.representations.std(0)
    assert sds.max() == pytest.approx(1)
    assert_allclose(sds / sds.max(), Z.std(0) / Z.std(0).max())
    assert_array_equal(start.means, np.zeros((1, 3)))
    assert_array_equal(start.variances, np.ones((1, 3)))
    assert_array_equal(standard_normal_start(np.zeros((4, 3)), np.ones(4)).representations, np.zeros((4, 3)))


@pytest.mark.parametrize("n_clusters", [3, 40])
def test_a_softball_start_draws_its_means(n_clusters):
    Z, softball = clusters()[0], Softball(3, 2.0, 5.0)
    weights = np.random.default_rng(1).uniform(0.5, 2, len(Z))
    start = softball_start(Z, weights, n_clusters, softball, 7)
    expected = softball.draw(n_clusters, torch.Generator().manual_seed(7)).double().numpy()
    assert_array_equal(start.means, expected)
    assert_allclose(np.sqrt(start.variances), 0.2 * 2.0 / n_clusters)
    assert_allclose(start.weights, 1 / n_clusters)
    # as far from the centre as the ball's surface, on average
    assert np.sqrt(np.average((start.representations**2).sum(1), weights=weights)) == pytest.approx(2.0)
    assert np.isfinite(softball_start(np.zeros_like(Z), weights, 3, softball, 7).representations).all()


@pytest.mark.parametrize("n_free", [0, 2])
def test_classes_have_components_of_their_own(n_free):
    Z, labels = clusters()
    weights = np.random.default_rng(1).uniform(0.5, 2, len(Z))
    classes = np.where(labels < 2, labels, -1)
    free = kmeans_mixture(Z[classes < 0], weights[classes < 0], n_free, n_init=5, seed=0) if n_free else None
    found = supervised_mixture(Z, weights, classes, free)
    assert found.n_components == 2 + n_free
    for k in range(2):
        own = classes == k
        assert_allclose(found.means[k], np.average(Z[own], axis=0, weights=weights[own]))
        assert_array_equal(found.responsibilities[own], np.eye(2 + n_free)[classes[own]])
    used = classes >= 0 if free is None else np.ones(len(Z), dtype=bool)
    assert_allclose(found.weights[:2], [weights[classes == k].sum() / weights[used].sum() for k in range(2)])
    if free is not None:
        assert_allclose(found.means[2:], free.means)
        assert_array_equal(found.responsibilities[classes < 0, 2:], free.responsibilities)
    else:
        assert not found.responsibilities[classes < 0].any()


def test_starts_without_a_search_take_weights_for_repetitions():
    Z, softball = clusters()[0][:50], Softball(3, 2.0, 5.0)
    counts = np.random.default_rng(0).integers(1, 4, len(Z))
    for start in (
        lambda z, w: standard_normal_start(z, w),
        lambda z, w: softball_start(z, w, 3, softball, 7),
    ):
        repeated = start(np.repeat(Z, counts, axis=0), np.ones(counts.sum())).representations
        assert_allclose(np.repeat(start(Z, counts).representations, counts, axis=0), repeated)


# ---- the whole start ------------------------------------------------------------------------------------------------


def parameters(n_components=2, **changes):
    settings = {"n_clusters": 4, "n_init": 2, "may_be_empty": False}
    return DGDParameters.of(DGDEmbedder(n_components, **{**settings, **changes}))


def assert_same_start(one, other):
    for name in ("representations", "weights", "means", "variances", "radius"):
        assert_array_equal(getattr(one, name), getattr(other, name))


def test_principal_components_come_with_their_projection():
    Z, _ = clusters()
    source = source_of(Z)
    start = find_start(source, parameters(), 0)
    scores = start.projection(source)
    # in another unit
    assert np.ptp(scores / start.representations) < 1e-6 * abs(scores / start.representations).max()
    assert find_start(source, parameters(latent_init="zero"), 0).projection is None
    assert not find_start(source, parameters(latent_init="zero"), 0).representations.any()
    assert find_start(source, parameters(5), 0).representations.shape == (sum(SIZES), 5)


def test_a_start_has_as_many_components_as_clusters_and_classes_ask_for():
    Z, labels = clusters()
    component = np.where(labels < 2, labels, -1)
    for known, n_clusters, expected in (
        (None, 4, 4),
        (None, None, 1),
        (component, 4, 4),
        (component, 1, 2),  # one for each class at the least
        (np.minimum(labels, 1), 4, 2),  # no sample for others
    ):
        for how in ("gmm", "kmeans", "softball"):
            start = find_start(source_of(Z, component=known), parameters(n_clusters=n_clusters, mixture_init=how), 0)
            assert len(start.weights) == expected


def test_the_default_is_narrow_components_where_a_mixture_has_nothing_to_be_fitted_to():
    Z, labels = clusters()
    some = np.where(labels < 2, labels, -1)
    for known, latent_init, expected in (
        (None, "pca", "gmm"),
        (None, "zero", "softball"),
        (labels, "pca", "softball"),
        (some, "pca", "gmm"),
    ):
        source = source_of(Z, component=known)
        given = parameters(latent_init=latent_init, mixture_init=expected)
        assert_same_start(find_start(source, parameters(latent_init=latent_init), 3), find_start(source, given, 3))


# ---- projections and columns ----------------------------------------------------------------------------------------


def test_a_regressed_projection_is_the_closest_for_the_weights():
    generator = np.random.default_rng(0)
    X, weights = generator.normal(size=(40, 5)) * np.linspace(3, 0.3, 5) + 1, generator.integers(0, 5, 40).astype(float)
    target = np.random.default_rng(1).normal(size=(40, 2))
    source = source_of(X, weights)
    projection = principal_projection(source, False, 3)
    residuals = target - regressed(projection, source, target)(source)
    assert_allclose(weights @ residuals, 0, atol=1e-9)
    assert_allclose((weights[:, None] * projection(source_of(X))).T @ residuals, 0, atol=1e-9)
    of_the_model = projection(source_of(X))[:, :2] * [2.0, -3.0] + 1
    assert_allclose(regressed(projection, source, of_the_model)(source), of_the_model)


def test_missing_components_are_zeros():
    assert_array_equal(padded(np.ones((3, 2)), 4), [[1, 1, 0, 0]] * 3)
    assert_array_equal(padded(np.ones((3, 2)), 2), np.ones((3, 2)))


def test_moments_of_columns_are_those_of_repeated_rows():
    generator = np.random.default_rng(0)
    X, weights = generator.normal(3, 2, (50, 4)), generator.integers(1, 4, 50)
    X = np.where(generator.random(X.shape) < 0.2, np.nan, X)
    often = np.repeat(X, weights, axis=0)
    mean, variance = column_moments(source_of(X, weights.astype(float)))
    assert_allclose(mean, np.nanmean(often, 0), rtol=1e-12)
    assert_allclose(variance, np.nanvar(often, 0), rtol=1e-10)
    # of counts divided by their sizes
    counts, log_size = generator.poisson(5.0, (50, 4)).astype(float), generator.normal(size=50)
    mean, variance = column_moments(source_of(counts, log_size=log_size))
    assert_allclose(mean, (counts / np.exp(log_size)[:, None]).mean(0), rtol=1e-12)
    assert_allclose(variance, (counts / np.exp(log_size)[:, None]).var(0), rtol=1e-10)
