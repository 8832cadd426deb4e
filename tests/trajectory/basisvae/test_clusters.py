"""How many clusters BasisVAEClusterer finds, with and without scales, and what their attributes say of each other."""

import itertools
from copy import deepcopy
from functools import cache

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.model_selection import GridSearchCV
from trajectory.basisvae.cases import (
    assert_consistent,
    fitted,
    fitted_to_shifted_copies,
    nearly_noise_free,
    quick,
    same_partition,
    toy,
    two_groups,
)

from skdevae.datasets import make_basis_toy
from skdevae.display import TrajectoryDisplay
from skdevae.metrics import feature_clustering_scorer

pytestmark = pytest.mark.filterwarnings("ignore:early_stopping=True, but training went on")  # fits are short


def test_attributes_agree():
    for model, table in ((fitted(), toy().data), (fitted_to_shifted_copies(), nearly_noise_free().data)):
        assert_consistent(model, table)
        low, high = model.scale_bounds
        spread = table.std(0)
        assert (low * spread * (1 - 1e-6) <= model.scales_).all()
        assert (model.scales_ <= high * spread * (1 + 1e-6)).all()
        assert (np.abs(model.shifts_) <= model.max_shift).all()
    assert fitted().cluster_names_.tolist() == [*(f"basis {k}" for k in range(7)), "flat"]


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("n_clusters", [1, 3])
def test_the_number_of_functions_is_an_upper_bound(n_clusters):
    model = quick(n_clusters=n_clusters).fit(toy().data)
    assert_consistent(model, toy().data)
    assert model.n_clusters_effective_ == n_clusters
    assert model.score(toy().data) < fitted().score(toy().data)


def test_more_functions_than_features():
    table = two_groups().data
    model = quick(n_clusters=30).fit(table)
    assert_consistent(model, table)
    assert same_partition(two_groups().labels, model.labels_)
    assert model.basis_functions([0.0, 1.0]).shape == (2, 30)


@pytest.mark.filterwarnings("ignore:No axis was found")
@pytest.mark.parametrize("shape", [(60, 1), (60, 2), (3, 6)])
def test_tiny_tables(shape):
    table = np.random.default_rng(0).standard_normal(shape)
    model = quick(n_clusters=3, max_epochs=3).fit(table)
    assert_consistent(model, table)


def test_coclustering_matrix_is_the_probability_of_a_shared_label():
    model = deepcopy(fitted())
    model.responsibilities_ = np.random.default_rng(0).dirichlet(np.ones(7), size=20)
    together = model.coclustering_matrix()
    for i, j in itertools.combinations(range(5), 2):
        by_hand = sum(model.responsibilities_[i, k] * model.responsibilities_[j, k] for k in range(7))
        assert_allclose(together[[i, j], [j, i]], by_hand)
    assert_array_equal(np.diag(together), 1)
    assert_array_equal(fitted().coclustering_matrix() > 0.5, np.equal.outer(toy().labels, toy().labels))


@cache
def equal_columns_and_doubles():
    """Three features for each of three functions, and as many that are twice as large."""
    truth = make_basis_toy(150, 3, groups=("early", "late", "up"), scale_range=(1, 1.0001), noise=0, random_state=0)
    curves = np.hstack([truth.data, 2 * truth.data])
    return curves + 0.1 * np.random.default_rng(0).standard_normal(curves.shape), np.hstack([truth.labels] * 2)


@cache
def fitted_without_scales(inference):
    return quick(n_clusters=8, scale_invariant=False, inference=inference).fit(equal_columns_and_doubles()[0])


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("inference", ["exact", "amortized"])
def test_without_scales_a_feature_is_the_function_itself(inference):
    _, shapes = equal_columns_and_doubles()
    model = fitted_without_scales(inference)
    assert same_partition(shapes + 3 * (np.arange(18) >= 9), model.labels_)
    # levels and scales are no more than the units
    assert len(np.unique(model.levels_)) == len(np.unique(model.scales_)) == 1
    z = np.linspace(-3, 3, 31)
    curves = model.trajectories(z)
    assert_allclose(curves, model.levels_ + model.scales_ * model.basis_functions(z)[:, model.labels_])
    assert_allclose(curves[:, :9], curves[:, [0] * 3 + [3] * 3 + [6] * 3])


def test_with_scales_a_feature_and_its_double_are_copies_of_one_function():
    table, shapes = equal_columns_and_doubles()
    for inference in ("exact", "amortized"):
        assert same_partition(shapes, quick(n_clusters=5, inference=inference).fit(table).labels_)


def test_without_scales_one_unit_of_the_table_does_not_matter():
    table, _ = equal_columns_and_doubles()
    ours = fitted_without_scales("exact")
    theirs = quick(n_clusters=8, scale_invariant=False).fit(100 * table - 3000)
    assert_array_equal(theirs.labels_, ours.labels_)
    assert_allclose(theirs.score(100 * table - 3000), ours.score(table) - 18 * np.log(100), rtol=0, atol=1e-3)


@pytest.mark.parametrize("assignment", ["fixed", "noncollapsed"])
def test_other_assignments_run(assignment):
    truth = two_groups()
    model = quick(n_clusters=4, assignment=assignment).fit(truth.data)
    assert_consistent(model, truth.data)
    # they make no moves, but nothing that differs is put together
    for label in np.unique(model.labels_):
        assert len(np.unique(truth.labels[model.labels_ == label])) == 1


def test_early_stopping_and_several_starts():
    truth = two_groups()
    model = quick(n_clusters=4, early_stopping=True).fit(truth.data)
    assert same_partition(truth.labels, model.labels_)
    assert "valid_loss" in model.history_[-1]
    one, several = (quick(n_clusters=4, n_init=n_init, max_epochs=3).fit(truth.data) for n_init in (1, 2))
    assert several.lower_bound_ >= one.lower_bound_


def test_a_grid_search_over_held_out_clusters():
    truth = make_basis_toy(120, 4, groups=("early", "late", "up"), random_state=0)
    search = GridSearchCV(
        quick(max_epochs=3),
        {"n_clusters": [1, 4]},
        scoring=feature_clustering_scorer(truth.labels),
        cv=2,
        error_score="raise",
    ).fit(truth.data)
    assert search.best_params_ == {"n_clusters": 4}
    one, several = search.cv_results_["mean_test_score"]
    assert one < 0.8
    assert_allclose(several, 1)


def test_the_display_has_a_panel_for_every_cluster_with_features():
    model, table = fitted(), toy().data
    display = TrajectoryDisplay.from_estimator(model, table)
    titles = [panel.get_title(loc="left") for panel in display.axes_]
    assert titles == [f"basis {label} (4 features)" for label in np.unique(model.labels_)]
    assert len(display.lines_) == table.shape[1]
