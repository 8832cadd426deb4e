"""Tables and fitted models that tests of BasisVAEClusterer share. They must not change what they are given."""

from functools import cache

import numpy as np
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit
from sklearn.metrics import adjusted_rand_score

from skdevae import BasisVAEClusterer
from skdevae.datasets import make_basis_toy


def quick(**parameters):
    """An estimator for laws that hold however long it trains: its clusters are found before it does."""
    return BasisVAEClusterer(**{"n_clusters": 7, "max_epochs": 5, "random_state": 0, **parameters})


@cache
def toy(n_samples=120, n_features_per_group=4, **parameters):
    """Five groups of features."""
    return make_basis_toy(n_samples, n_features_per_group, **{"random_state": 0, **parameters})


@cache
def two_groups():
    """The quickest table that has clusters."""
    return make_basis_toy(120, 4, groups=("early", "late"), random_state=0)


@cache
def fitted():
    """To the toy table."""
    return quick().fit(toy().data)


@cache
def nearly_noise_free():
    return make_basis_toy(150, 8, groups=("middle", "up"), shift_range=1, noise=0.01, random_state=0)


@cache
def fitted_to_shifted_copies():
    truth = nearly_noise_free()
    model = quick(n_clusters=4, translation_invariant=True, max_epochs=20)
    return model.fit(truth.data, orientation=truth.times)


@cache
def counts(likelihood="nb"):
    """Three groups of four features, on the scale of the link."""
    truth = make_basis_toy(150, 4, groups=("early", "late", "up"), scale_range=(0.8, 1.2), noise=0, random_state=0)
    curves = truth.data / truth.data.std(0)
    generator = np.random.default_rng(0)
    match likelihood:
        case "bernoulli":
            return generator.binomial(1, expit(3 * (curves - curves.mean(0)))).astype(np.float64)
        case "poisson":
            return generator.poisson(np.exp(0.5 + curves)).astype(np.float64)
        case _:
            return generator.negative_binomial(5, 5 / (5 + np.exp(0.5 + curves))).astype(np.float64)


COUNT_LABELS = np.repeat([0, 1, 2], 4)


@cache
def fitted_counts(likelihood):
    return quick(n_clusters=5, likelihood=likelihood, max_epochs=10).fit(counts(likelihood))


def model_and_table(likelihood):
    return (fitted(), toy().data) if likelihood == "gaussian" else (fitted_counts(likelihood), counts(likelihood))


@cache
def two_axes():
    """Three features that follow each of two independent axes, in each of two shapes, and their four labels."""
    generator = np.random.default_rng(0)
    z = generator.standard_normal((150, 2))
    curves = [np.tanh(2 * z[:, 0]), z[:, 1], np.exp(-(z[:, 0] ** 2)), np.exp(-(z[:, 1] ** 2))]
    table = np.repeat(np.stack(curves, 1), 3, axis=1) * generator.uniform(0.5, 1.5, 12)
    table /= table.std(0)
    return table + 0.3 * generator.standard_normal(table.shape), np.repeat(np.arange(4), 3)


def same_partition(one, other):
    return adjusted_rand_score(one, other) == 1


def assert_consistent(model, table):
    """Assert what the attributes say of each other."""
    d, k = table.shape[1], model.n_clusters + 1
    is_flat = model.labels_ == model.n_clusters
    assert model.responsibilities_.shape == (d, k)
    assert_allclose(model.responsibilities_.sum(1), 1, rtol=1e-6)
    assert_array_equal(model.labels_, model.responsibilities_.argmax(1))
    assert model.n_clusters_effective_ == len(np.unique(model.labels_[~is_flat])) <= model.n_clusters
    assert model.cluster_weights_.shape == model.cluster_names_.shape == (k,)
    assert_allclose(model.cluster_weights_.sum(), 1)
    dense = table.toarray() if sp.issparse(table) else np.asarray(table)
    # The others teach nothing. Counts that are always the same, but not 0, do.
    varies = np.nanmax(dense, 0) > (np.nanmin(dense, 0) if model.likelihood in ("gaussian", "bernoulli") else 0)
    learned = (model.responsibilities_[varies].sum(0) + model.alpha) / (varies.sum() + model.alpha * k)
    assert_allclose(model.cluster_weights_, np.full(k, 1 / k) if model.assignment == "fixed" else learned)
    assert model.scales_.shape == model.shifts_.shape == model.levels_.shape == (d,)
    assert model.cluster_names_[-1] == "flat"
    assert_array_equal(model.scales_ > 0, ~is_flat)
    assert_array_equal(model.shifts_[is_flat], 0)
    assert np.isfinite(model.score(table))
