"""Tables with columns that teach nothing, with outliers, and in extreme units: for all six estimators alike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from agreement import assert_agree
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.model_selection import GridSearchCV

from skdevae import (
    BasisDeVAEClusterer,
    BasisVAEClusterer,
    DeVAETransformer,
    DGDEmbedder,
    VAETransformer,
    VampVAE,
)

ESTIMATORS: dict[str, Callable] = {
    "BasisDeVAE": lambda **more: BasisDeVAEClusterer(max_epochs=8, random_state=0, **more),
    "BasisVAE": lambda **more: BasisVAEClusterer(3, max_epochs=4, random_state=0, **more),
    "DeVAE": lambda **more: DeVAETransformer(max_epochs=8, random_state=0, **more),
    "VAE": lambda **more: VAETransformer(max_epochs=4, random_state=0, **more),
    "VampVAE": lambda **more: VampVAE(2, max_epochs=4, random_state=0, **more),
    "DGD": lambda **more: DGDEmbedder(2, n_clusters=2, max_epochs=3, n_init=1, random_state=0, **more),
}
AT = 2  # where a column is put in
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def measurements(n=60, seed=0):
    random = np.random.default_rng(seed)
    z = random.normal(size=(n, 1))
    return np.tanh(z * [1, -1, 2, 0.5, -1.5]) + 0.2 * random.normal(size=(n, 5))


def counts(n=60, seed=0):
    return np.random.default_rng(seed).poisson(np.exp(1 + measurements(n, seed))).astype(float)


def with_column(X, values):
    return np.insert(X, AT, values, axis=1)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_constant_column_changes_nothing(name):
    X = measurements()
    without, with_it = (ESTIMATORS[name]().fit(table) for table in (X, with_column(X, 1e-3)))
    Y = with_column(X, 1e-3)
    assert_agree(with_it.transform(Y), without.transform(X))
    assert_agree(with_it.score_samples(Y), without.score_samples(X))
    assert_agree(
        with_it.lower_bound_ if hasattr(without, "lower_bound_") else with_it.log_posterior_,
        without.lower_bound_ if hasattr(without, "lower_bound_") else without.log_posterior_,
    )
    z = np.zeros((1, without.transform(X).shape[1]))
    assert_agree(np.delete(with_it.trajectories(z), AT, 1), without.trajectories(z))
    assert_allclose(with_it.trajectories(z)[0, AT], 1e-3)
    assert (with_it.derivatives(z)[0, AT] == 0).all()
    assert_allclose(with_it.sample(5)[:, AT], 1e-3)
    if hasattr(without, "labels_") and hasattr(without, "responsibilities_"):
        assert_array_equal(np.delete(with_it.labels_, AT), without.labels_)
        assert with_it.feature_labels()[AT] == "flat"
        assert_agree(np.delete(with_it.predict_features_proba(Y), AT, 0), without.predict_features_proba(X))


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_column_at_a_detection_limit_has_no_say_when_it_varies_later(name):
    X = measurements()
    model = ESTIMATORS[name]().fit(with_column(X, 1e-3))
    for values in (0.5, -1e6, np.nan):
        assert_agree(model.transform(with_column(X, values)), model.transform(with_column(X, 1e-3)))
        assert_agree(model.score_samples(with_column(X, values)), model.score_samples(with_column(X, 1e-3)))


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_column_without_entries_is_left_out(name):
    X = measurements()
    with pytest.warns(UserWarning, match="column 2: no entry is observed"):
        model = ESTIMATORS[name]().fit(with_column(X, np.nan))
    assert_agree(model.transform(with_column(X, 7.0)), ESTIMATORS[name]().fit(X).transform(X))
    assert np.isnan(model.trajectories(np.zeros((1, model.transform(X[:1, [0, 1, 2, 2, 3, 4]]).shape[1]))))[0, AT]
    if hasattr(model, "responsibilities_"):
        assert model.labels_[AT] == model.predict_features(with_column(X, 7.0))[AT] == -1
        assert model.feature_labels()[AT] == "unobserved"
        assert_allclose(model.responsibilities_[AT], model.cluster_weights_)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_silent_gene_has_no_say_and_is_scored_by_a_prior(name):
    """A held-out 3 costs the same however long a fit was, and as in the Jeffreys prior's negative binomial."""
    X = counts()
    sizes = {} if "size_factors" not in ESTIMATORS[name]().get_params() else {"size_factors": None}
    model = ESTIMATORS[name](likelihood="nb", **sizes).fit(with_column(X, 0))
    assert_agree(model.transform(with_column(X, 3)), model.transform(with_column(X, 0)))
    fall = model.score_samples(with_column(X, 0)) - model.score_samples(with_column(X, 3))
    assert_allclose(fall, 3 * np.log(61) - np.log(0.5 * 1.5 * 2.5 / 6), rtol=1e-6)
    z = np.zeros((1, model.transform(with_column(X[:1], 0)).shape[1]))
    assert_allclose(model.trajectories(z)[0, AT], 0.5 / 60)
    assert (model.sample(50, random_state=0)[:, AT] >= 0).all()


def test_searches_go_on_where_a_column_is_empty_in_a_fold():
    X = measurements(40)
    X[10:, 1] = np.nan  # observed in the first fold alone
    search = GridSearchCV(DeVAETransformer(max_epochs=3, random_state=0), {"noise_floor": [0.1, 0.2]}, cv=4)
    with pytest.warns(UserWarning, match="column 1: no entry is observed"):
        search.fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_behaviours_of_constants_are_unknown_where_none_is_flat():
    X = with_column(measurements(), 1.0)
    model = BasisDeVAEClusterer(behaviors=["increasing", "decreasing"], max_epochs=5, random_state=0).fit(X)
    assert model.labels_[AT] == -1
    assert model.feature_labels()[AT] == "constant"
    assert_allclose(model.responsibilities_[AT], model.cluster_weights_)


def test_decoders_of_a_users_own_keep_their_outputs():
    import torch

    X = with_column(measurements(), 1.0)
    decoder = torch.nn.Linear(2, 6)
    model = ESTIMATORS["DGD"](decoder=decoder).fit(X)
    assert model.trajectories(np.zeros((3, 2))).shape == (3, 6)
    assert_allclose(model.predict_proba(X).sum(1), 1)


# ---- rows and entries that are set aside ----------------------------------------------------------------------------


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_row_in_other_units_leaves_the_other_rows_where_they_are(name):
    X = measurements()
    wrong = X.copy()
    wrong[7] *= 1000
    others = np.arange(len(X)) != 7
    with pytest.warns(UserWarning, match=r"1 row \(row 7\)"):
        model = ESTIMATORS[name]().fit(wrong)
    assert_agree(model.transform(X[others]), ESTIMATORS[name]().fit(X[others]).transform(X[others]))
    if name == "DGD":
        assert model.embedding_.shape == (60, 2)
        assert_agree(model.embedding_[others], model.transform(X[others]))


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_entry_in_error_is_read_at_the_edge_of_its_column(name):
    X = measurements()
    wrong = X.copy()
    wrong[7, 3] = 1e5
    edge = np.where(wrong == 1e5, np.delete(X[:, 3], 7).max(), wrong)
    with pytest.warns(UserWarning, match="1 entries, in column 3"):
        model = ESTIMATORS[name]().fit(wrong)
    # The order in which DGD sees rows depends on what they hold.
    assert_allclose(model.transform(X), ESTIMATORS[name]().fit(edge).transform(X), atol=1e-4)
    if name == "DGD":
        with pytest.warns(UserWarning, match="1 samples .*row 7.* lie beyond the range"):
            assert_agree(model.embedding_, model.transform(wrong))


# ---- extreme units --------------------------------------------------------------------------------------------------


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("scale", [1e-300, 1e155])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_units_of_any_size_change_nothing_but_units(name, scale):
    X = measurements()
    ours, theirs = ESTIMATORS[name]().fit(scale * X), ESTIMATORS[name]().fit(X)
    # The order in which DGD sees rows depends on what they hold.
    assert_allclose(ours.transform(scale * X), theirs.transform(X), atol=2e-3 if name == "DGD" else 1e-9)
    assert_allclose(ours.score(scale * X), theirs.score(X) - 5 * np.log(scale), rtol=1e-6)


@pytest.mark.parametrize("name", ["DeVAE", "VampVAE", "DGD"])
def test_entries_that_are_too_far_away_for_a_density_are_named(name):
    X = measurements()
    model = ESTIMATORS[name]().fit(X)
    X[4, 3] = 1e200
    with pytest.raises(ValueError, match=r"column 3, row 4: 1e\+200 is more than 1e\+100 standard deviations"):
        model.transform(X)
