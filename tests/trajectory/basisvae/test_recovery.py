"""What BasisVAEClusterer is for: clusters, scales and shifts are found where they are known."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import spearmanr
from sklearn.decomposition import FactorAnalysis
from trajectory.basisvae.cases import (
    fitted_to_shifted_copies,
    nearly_noise_free,
    quick,
    same_partition,
    toy,
)

from skdevae import BasisVAEClusterer
from skdevae.datasets import make_basis_toy


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize(
    ("n_samples", "n_features_per_group", "n_clusters", "seed", "translation_invariant"),
    [
        (500, 10, 20, 0, False),  # the paper's table, with the default number of functions
        (200, 5, 8, 1, False),
        (200, 5, 8, 0, True),
    ],
)
def test_the_toy_tables_clusters_are_found(n_samples, n_features_per_group, n_clusters, seed, translation_invariant):
    truth = make_basis_toy(n_samples, n_features_per_group, random_state=seed)
    model = quick(n_clusters=n_clusters, translation_invariant=translation_invariant).fit(truth.data)
    assert same_partition(truth.shape_labels if translation_invariant else truth.labels, model.labels_)
    assert model.n_clusters_effective_ == (3 if translation_invariant else 5)
    assert abs(spearmanr(model.transform(truth.data)[:, 0], truth.times)[0]) > 0.97


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("translation_invariant", [False, True], ids=["scaled", "shifted"])
def test_the_authors_toy_table(shared_data, translation_invariant):
    stored = np.load(shared_data("basisvae_toy.npz"), allow_pickle=False)
    wanted = stored["block"] == 3 if translation_invariant else stored["block"]
    model = quick(n_clusters=10, translation_invariant=translation_invariant).fit(stored["X"][::2])
    assert model.n_clusters_effective_ == (2 if translation_invariant else 4)
    assert same_partition(wanted, model.labels_)


def test_scales_are_the_true_ones():
    truth = toy(noise=0.01)
    model = quick(max_epochs=20).fit(truth.data)
    assert same_partition(truth.labels, model.labels_)
    for label in range(5):
        members = truth.labels == label
        assert np.corrcoef(model.scales_[members], truth.scales[members])[0, 1] > 0.999
        # in proportion: a line through the origin
        ratios = model.scales_[members] / truth.scales[members]
        assert_allclose(ratios, ratios.mean(), rtol=0.02)
    assert_array_equal(model.shifts_, 0)


def test_shifts_and_scales_are_the_true_ones():
    truth, model = nearly_noise_free(), fitted_to_shifted_copies()
    assert same_partition(truth.shape_labels, model.labels_)
    for label in np.unique(truth.labels):
        members = truth.labels == label
        # the axis points as the times do, so shifts have the same sign
        assert spearmanr(model.shifts_[members], truth.shifts[members])[0] > 0.99
        assert np.corrcoef(model.shifts_[members], truth.shifts[members])[0, 1] > 0.99
    members = truth.labels == truth.label_names.index("middle")
    assert np.corrcoef(model.scales_[members], truth.scales[members])[0, 1] > 0.99
    z = model.transform(truth.data)[:, 0]
    per_time = np.polyfit(truth.times, z, 1)[0]
    assert_allclose(np.polyfit(truth.shifts[members], model.shifts_[members], 1)[0], per_time, rtol=0.15)


def test_straight_functions_are_factor_analysis():
    generator = np.random.default_rng(1)
    n, d = 500, 8
    loadings = generator.choice([-1, 1], d) * generator.uniform(0.5, 2, d)
    noise = generator.uniform(0.3, 1, d)
    table = np.outer(generator.standard_normal(n), loadings) + noise * generator.standard_normal((n, d)) + 3
    reference = FactorAnalysis(1, tol=1e-8, max_iter=5000).fit(table)
    model = BasisVAEClusterer(
        n_clusters=4, hidden_layer_sizes=(), weight_precision=0, scale_bounds=(0.02, 3), tol=1e-5, random_state=0
    ).fit(table)
    assert same_partition(loadings > 0, model.labels_)
    assert_allclose(model.score(table), reference.score(table), rtol=0, atol=2e-3)
    assert_allclose(model.noise_scale_, np.sqrt(reference.noise_variance_), rtol=0.02)
    slopes = model.scales_ * np.diff(model.basis_functions([0.0, 1.0]), axis=0)[0, model.labels_]
    sign = np.sign(slopes @ reference.components_[0])
    assert_allclose(slopes, sign * reference.components_[0], rtol=0.02)


def test_an_encoder_recovers_the_clusters():
    truth = toy()
    model = quick(inference="amortized", max_epochs=30).fit(truth.data)
    assert same_partition(truth.labels, model.labels_)
    assert abs(spearmanr(model.transform(truth.data)[:, 0], truth.times)[0]) > 0.9
    assert model.elbo(truth.data) <= model.score(truth.data)


def test_held_out_rows_confirm_the_labels():
    truth = toy(n_samples=240)
    model = quick().fit(truth.data[::2])
    held_out = truth.data[1::2]
    assert same_partition(truth.labels, model.labels_)
    assert_array_equal(model.predict_features(held_out), model.labels_)
    probabilities = model.predict_features_proba(held_out)
    assert probabilities.shape == (20, 8)
    assert_allclose(probabilities.sum(1), 1)
    assert_array_equal(probabilities.argmax(1), model.labels_)
