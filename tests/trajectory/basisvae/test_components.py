"""BasisVAEClusterer with several components: functions of a plane, or of a space."""

import numpy as np
import pytest
from by_hand import log_evidence
from numpy.testing import assert_allclose, assert_array_equal
from trajectory.basisvae.cases import assert_consistent, counts, quick, two_axes


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize(("n_components", "inference"), [(2, "exact"), (2, "amortized"), (3, "amortized")])
def test_several_components(n_components, inference):
    table, labels = two_axes()
    model = quick(n_clusters=5, n_components=n_components, inference=inference, n_grid_points=33, max_epochs=15)
    model.fit(table)
    assert_consistent(model, table[:50])
    assert model.transform(table).shape == (150, n_components)
    for label in np.unique(model.labels_):
        assert len(np.unique(labels[model.labels_ == label])) == 1
    z = np.random.default_rng(1).normal(0, 2, (20, n_components))
    copies = model.levels_ + model.scales_ * model.basis_functions(z)[:, model.labels_]
    assert_allclose(model.trajectories(z), copies, rtol=1e-6, atol=1e-6)
    assert_array_equal(model.shifts_, 0)
    assert model.elbo(table[:50]) <= model.score(table[:50]) + 1e-2
    assert model.sample(3, random_state=0).shape == (3, 12)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("likelihood", ["poisson", "nb", "zinb", "bernoulli"])
@pytest.mark.parametrize("n_clusters", [4, 14])  # 14 are more than there are features
def test_counts_of_two_components(likelihood, n_clusters):
    table = counts(likelihood)[:60]
    model = quick(n_clusters=n_clusters, n_components=2, likelihood=likelihood, n_grid_points=17, max_epochs=3).fit(
        table
    )
    assert_consistent(model, table)


def test_a_score_of_two_components_is_an_integral():
    table, _ = two_axes()
    model = quick(n_clusters=5, n_components=2, n_grid_points=33, max_epochs=3).fit(table)
    assert_allclose(model.score_samples(table[:4]), log_evidence(model, table[:4], 2, 281, 7), rtol=0, atol=1e-4)
