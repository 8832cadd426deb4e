"""The flat cluster: columns that have nothing to do with the axis end up there, and change nothing for the others."""

from functools import cache

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import v_measure_score
from trajectory.basisvae.cases import assert_consistent, counts, quick, same_partition, toy

from skdevae.datasets import make_basis_toy

N_CONSTANT = 2
#: number of columns of noise beside each toy table, its number of samples, features a group, and seed
CASES = ((5, 200, 5, 20), (10, 200, 5, 21), (10, 200, 5, 24), (10, 400, 6, 22), (10, 400, 6, 23))


def with_flat_columns(table, n_noise, seed):
    """The table, and then columns of noise in various units and constant ones."""
    generator = np.random.default_rng((seed, 7))
    noise = generator.uniform(0.1, 10, n_noise) * generator.standard_normal((len(table), n_noise))
    return np.hstack([table, noise, np.full((len(table), N_CONSTANT), 3.0)])


@cache
def fitted_with(n_noise, n_samples, n_features_per_group, seed, translation_invariant):
    """A model of the toy table with flat columns (None: without any), and the toy."""
    truth = make_basis_toy(n_samples, n_features_per_group, random_state=seed)
    table = truth.data if n_noise is None else with_flat_columns(truth.data, n_noise, seed)
    model = quick(n_clusters=10, translation_invariant=translation_invariant, max_epochs=20).fit(table)
    return model, truth, table


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("translation_invariant", [False, True], ids=["scaled", "shifted"])
@pytest.mark.parametrize(("n_noise", "n_samples", "n_features_per_group", "seed"), CASES)
def test_flat_columns_keep_the_clusters_of_the_others(
    n_noise, n_samples, n_features_per_group, seed, translation_invariant
):
    case = n_samples, n_features_per_group, seed, translation_invariant
    alone, truth, _ = fitted_with(None, *case)
    assert (alone.labels_ < alone.n_clusters).all()
    wanted = truth.shape_labels if translation_invariant else truth.labels
    n_real = len(wanted)
    model, _, table = fitted_with(n_noise, *case)
    assert_consistent(model, table)
    assert same_partition(alone.labels_, model.labels_[:n_real])
    assert_allclose(v_measure_score(wanted, model.labels_[:n_real]), v_measure_score(wanted, alone.labels_))
    assert model.n_clusters_effective_ == alone.n_clusters_effective_
    assert (model.responsibilities_[-N_CONSTANT:, -1] > 0.9).all()


@pytest.mark.slow
@pytest.mark.parametrize("translation_invariant", [False, True], ids=["scaled", "shifted"])
def test_noise_is_flat(translation_invariant):
    """In a few of a hundred columns of 200 entries chance looks like a curve, in fewer of longer columns."""
    for n_samples, share in ((200, 0.9), (400, 0.95)):
        cases = [case for case in CASES if case[1] == n_samples]
        models = [(case[0], fitted_with(*case, translation_invariant)[0]) for case in cases]
        noise = [model.responsibilities_[-N_CONSTANT - n_noise : -N_CONSTANT, -1] for n_noise, model in models]
        assert (np.concatenate(noise) > 0.5).mean() >= share


def test_what_a_flat_feature_is():
    model, truth, table = fitted_with(5, 200, 5, 20, True)
    is_flat = model.labels_ == model.n_clusters
    assert_array_equal(np.flatnonzero(is_flat), np.arange(25, 32))
    assert (model.feature_labels(0.5)[is_flat] == "flat").all()
    assert_array_equal(model.scales_[is_flat], 0)
    assert_array_equal(model.shifts_[is_flat], 0)
    # its curve is its mean, on the axis and far from it
    curves = model.trajectories(np.linspace(-20, 20, 101))[:, is_flat]
    assert_allclose(curves, np.broadcast_to(model.levels_[is_flat], curves.shape))
    assert_allclose(model.levels_[is_flat], table[:, is_flat].mean(0), atol=0.1 * table[:, is_flat].std(0).max())
    assert_array_equal(model.derivatives(np.linspace(-3, 3, 5))[:, is_flat], 0)
    # held-out rows say so too
    other = make_basis_toy(200, 5, random_state=20).data[:100]
    assert_array_equal(model.predict_features(with_flat_columns(other, 5, 99))[30:], model.n_clusters)
    assert truth.data.shape[1] == 25


def test_flat_columns_beside_functions_with_a_meaning():
    table = with_flat_columns(toy().data, 5, 3)
    model = quick(n_clusters=9, basis=("increasing", "decreasing", "transient")).fit(table)
    assert_consistent(model, table)
    assert (model.responsibilities_[20:, -1] > 0.5).all()
    assert same_partition(toy().labels, model.labels_[:20])
    assert model.basis_functions([0.0, 1.0]).shape == (2, 9)


def test_without_scales_a_flat_feature_still_has_its_own_level():
    generator = np.random.default_rng(0)
    z = generator.standard_normal(150)
    curves = np.repeat(np.stack([np.tanh(2 * z), -np.tanh(2 * z), np.zeros(150)], axis=1), 4, axis=1)
    curves[:, 8:] += [-2.0, -0.5, 0.7, 3.0]
    model = quick(n_clusters=4, scale_invariant=False).fit(curves + 0.4 * generator.standard_normal((150, 12)))
    assert same_partition(np.repeat([0, 1], 4), model.labels_[:8])
    assert_array_equal(model.labels_[8:], 4)
    assert_allclose(model.levels_[8:], [-2.0, -0.5, 0.7, 3.0], atol=0.15)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("assignment", ["collapsed", "noncollapsed", "fixed"])
def test_an_encoder_has_a_flat_cluster(assignment):
    table = with_flat_columns(toy().data, 5, 3)
    model = quick(inference="amortized", assignment=assignment, max_epochs=20).fit(table)
    assert_consistent(model, table)
    assert (model.labels_[20:] == model.n_clusters).all()
    assert (model.labels_[:20] < model.n_clusters).all()


def test_flat_columns_of_counts():
    generator = np.random.default_rng(5)
    table = np.hstack([counts("nb"), generator.negative_binomial(5, 0.6, (150, 5)), np.ones((150, 1))])
    model = quick(n_clusters=5, likelihood="nb", max_epochs=20).fit(table)
    assert_consistent(model, table)
    assert same_partition(np.repeat([0, 1, 2], 4), model.labels_[:12])
    assert_array_equal(model.labels_[12:], 5)


def test_noise_alone_has_no_axis():
    table = np.random.default_rng(0).standard_normal((200, 12))
    with pytest.warns(ConvergenceWarning, match="No axis was found"):
        model = quick(n_clusters=4, max_epochs=20).fit(table)
    assert_array_equal(model.labels_, 4)
    assert model.n_clusters_effective_ == 0
