"""An axis that is given: curves along positions that are known, exactly, with an error, or for some of the samples."""

import pickle
from functools import cache

import numpy as np
import pandas as pd
import pytest
import sklearn
from agreement import assert_agree
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm, rankdata, spearmanr
from sklearn.base import clone
from sklearn.linear_model import PoissonRegressor
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdevae import BasisDeVAEClusterer, BasisVAEClusterer, DeVAETransformer, VAETransformer
from skdevae.datasets import make_progression

_QUICK = {"n_knots": 17, "n_grid_points": 33, "max_epochs": 15, "random_state": 0}
ESTIMATORS = {
    "BasisDeVAE": BasisDeVAEClusterer(**_QUICK),
    "BasisVAE": BasisVAEClusterer(4, hidden_layer_sizes=(8,), **_QUICK),
    "DeVAE": DeVAETransformer(**_QUICK),
}
#: warnings about models that have been trained for a few epochs
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore:.* lie beyond the")
each_estimator = pytest.mark.parametrize("name", ESTIMATORS)


@cache
def progression():
    return make_progression(80, n_transient=3, n_increasing=3, n_decreasing=3, random_state=0)


def table():
    """Samples, and where they are on the axis."""
    return progression().data, progression().times


@cache
def fitted(name):
    """Shared between tests, which must not change it."""
    X, t = table()
    return clone(ESTIMATORS[name]).fit(X, axis=t)


def curves(model):
    return model.inverse_transform(np.linspace(-2, 2, 9)[:, None])


# ---- what is found along it ------------------------------------------------------------------------------------------


def test_behaviours_and_curves_are_those_along_the_axis():
    """With an axis that the table itself would not suggest: of 12 columns, nine have nothing to do with it."""
    random = np.random.default_rng(0)
    z = norm.ppf((np.arange(300) + 0.5) / 300)
    signal = np.column_stack([np.tanh(2 * z), -z, np.exp(-2 * z**2)])
    factor = np.resize([1, -1], 300) * np.abs(random.standard_normal(300))  # which two neighbours never share
    other = np.outer(factor, random.normal(size=9))
    X = np.column_stack([signal, other]) + 0.1 * random.standard_normal((300, 12))
    model = BasisDeVAEClusterer(
        behaviors=["increasing", "decreasing", "transient", "flat"], max_epochs=60, random_state=0
    )
    model.fit(X, axis=z)
    assert model.feature_labels().tolist() == ["increasing", "decreasing", "transient", *["flat"] * 9]
    at = np.quantile(z, [0.05, 0.3, 0.5, 0.7, 0.95])
    expected = np.column_stack([np.tanh(2 * at), -at, np.exp(-2 * at**2)])
    found = model.inverse_transform(model.axis_map_.to_latent(at)[:, None])[:, :3]
    assert_allclose(found, expected, atol=0.1)


def test_curves_are_those_of_a_direct_regression():
    """Without hidden layers derivatives are straight lines, and curves are parabolas of the normal scores."""
    X, t = table()
    straight = {"hidden_layer_sizes": (), "weight_precision": 0}
    model = DeVAETransformer(**straight, learning_rate=0.2, max_epochs=60, tol=0, random_state=0)
    model.fit(X, axis=t)
    z = model.axis_map_.to_latent(t)
    expected = np.polynomial.polynomial.polyval(z, np.polynomial.polynomial.polyfit(z, X, 2)).T
    assert_allclose(model.inverse_transform(z[:, None]), expected, atol=0.01 * X.std())


def test_effects_of_covariates_are_those_of_a_direct_regression():
    """And so are their standard errors: where positions are known, nothing is lost to them."""
    random = np.random.default_rng(0)
    z, group, sizes = norm.ppf((np.arange(400) + 0.5) / 400), np.resize([0, 1, 1], 400), random.uniform(0.5, 2, 400)
    random.shuffle(z)
    curves = 1.5 + np.outer(z, [0.5, -0.3, 0.0]) + np.outer(group, [0.4, 0.0, -0.2])
    X = random.poisson(sizes[:, None] * np.exp(curves))
    model = DeVAETransformer(likelihood="poisson", hidden_layer_sizes=(), weight_precision=0, random_state=0)
    model.fit(X, axis=z, covariates=pd.Series(group).astype("category").rename("group"), size_factors=sizes)
    design = np.column_stack([z, z**2, group])
    for column, found, error in zip(
        X.T, model.covariate_effects_.to_numpy()[:, 0], model.covariate_standard_errors_.to_numpy()[:, 0], strict=True
    ):
        regression = PoissonRegressor(alpha=0, tol=1e-8, solver="newton-cholesky")
        regression.fit(design, column / sizes, sample_weight=sizes)
        full = np.column_stack([np.ones(400), design])
        information = full.T @ ((sizes * regression.predict(design))[:, None] * full)
        expected = np.sqrt(np.linalg.inv(information)[3, 3])
        assert_allclose(found, regression.coef_[2], atol=0.2 * expected)
        assert_allclose(error, expected, rtol=0.05)


@pytest.mark.slow(keep=1)
@each_estimator
def test_the_axis_has_the_direction_that_is_given(name):
    X, t = table()
    falls = clone(ESTIMATORS[name]).fit(X, axis=-t)
    assert spearmanr(fitted(name).transform(X)[:, 0], t)[0] > 0.9
    assert spearmanr(falls.transform(X)[:, 0], t)[0] < -0.9


@each_estimator
def test_only_the_order_of_positions_counts(name):
    X, t = table()
    other = clone(ESTIMATORS[name]).fit(X, axis=np.exp(3 * t) + 7)
    assert_array_equal(curves(other), curves(fitted(name)))
    assert_agree(other.axis_map_.to_axis(fitted(name).axis_map_.to_latent(t)), np.exp(3 * t) + 7)


def test_the_map_is_to_normal_scores():
    _, t = table()
    latent = fitted("DeVAE").axis_map_
    assert_allclose(latent.to_latent(t), norm.ppf((rankdata(t) - 0.5) / len(t)), atol=1e-12)
    for beyond in (t.min() - 3, t.max() + 3):
        assert_allclose(latent.to_axis(latent.to_latent(beyond)), beyond, rtol=1e-12)
    assert fitted("DeVAE").axis_is_given_


def test_stages_share_a_place():
    X, t = table()
    stage = np.floor(4 * rankdata(t) / (len(t) + 1))
    model = BasisDeVAEClusterer(max_epochs=60, random_state=0).fit(X, axis=stage)
    means = np.stack([X[stage == number].mean(0) for number in range(4)])
    places = model.axis_map_.to_latent([0, 1, 2, 3])
    assert_allclose(places, norm.ppf([1 / 8, 3 / 8, 5 / 8, 7 / 8]), atol=1e-12)
    assert_allclose(model.inverse_transform(places[:, None]), means, atol=0.25 * X.std())


def test_one_start_is_all_there_is():
    X, t = table()
    assert_array_equal(curves(clone(ESTIMATORS["DeVAE"]).set_params(n_init=3).fit(X, axis=t)), curves(fitted("DeVAE")))


def test_what_is_seen_of_rows_is_their_entries():
    """Curves that a fit has found place rows as those of any other fit would."""
    X, t = table()
    model = fitted("DeVAE")
    assert_agree(model.transform(X[::-1])[::-1], model.transform(X))
    assert np.abs(model.transform(X)[:, 0] - model.axis_map_.to_latent(t)).max() > 0.01


# ---- rows, copies and weights ----------------------------------------------------------------------------------------


@pytest.mark.slow(keep=1)
@each_estimator
def test_weights_are_copies(name):
    X, t = table()
    weights = np.arange(len(X)) % 3
    repeated = np.repeat(np.arange(len(X)), weights)[::-1]
    weighted = clone(ESTIMATORS[name]).fit(X, axis=t, sample_weight=weights)
    copied = clone(ESTIMATORS[name]).fit(X[repeated], axis=t[repeated])
    assert_array_equal(curves(weighted), curves(copied))
    assert_agree(weighted.axis_map_.latent, copied.axis_map_.latent)


def test_equal_samples_at_different_positions_are_two():
    X, t = table()
    X = np.round(X[: len(X) // 2])
    twice = DeVAETransformer(**_QUICK).fit(np.concatenate([X, X]), axis=t)
    assert len(twice.axis_map_.axis) == len(np.unique(t))


def test_order_of_rows_does_not_count():
    X, t = table()
    order = np.random.default_rng(0).permutation(len(X))
    other = clone(ESTIMATORS["DeVAE"]).fit(X[order], axis=t[order])
    assert_agree(curves(other), curves(fitted("DeVAE")), computed_in=np.float32)


# ---- positions with an error, and of some samples only ---------------------------------------------------------------


@pytest.mark.slow(keep=1)
@each_estimator
def test_without_a_known_position_the_axis_is_found(name):
    X, _ = table()
    with pytest.warns(UserWarning, match="axis has no known value"):
        unknown = clone(ESTIMATORS[name]).fit(X, axis=np.full(len(X), np.nan))
    assert not unknown.axis_is_given_
    with pytest.raises(AttributeError, match="without axis"):
        unknown.axis_map_  # noqa: B018
    assert_array_equal(curves(unknown), curves(clone(ESTIMATORS[name]).fit(X)))


def test_a_small_error_is_none():
    X, t = table()
    close = clone(ESTIMATORS["DeVAE"]).fit(X, axis=t, axis_sd=1e-4 * t.std())
    assert_agree(curves(close), curves(fitted("DeVAE")), computed_in=np.float32)


def test_a_large_error_leaves_the_axis_to_be_found():
    X, t = table()
    plain = DeVAETransformer(max_epochs=60, random_state=0).fit(X, orientation=t)
    unsure = DeVAETransformer(max_epochs=60, random_state=0).fit(X, axis=t, axis_sd=0.95 * t.std())
    assert_allclose(unsure.lower_bound_, plain.lower_bound_, atol=0.5)
    assert spearmanr(unsure.transform(X)[:, 0], plain.transform(X)[:, 0])[0] > 0.99
    with pytest.warns(UserWarning, match="axis_sd is as large as the spread of axis"):
        unknown = clone(ESTIMATORS["DeVAE"]).fit(X, axis=t, axis_sd=1e3 * t.std())
    assert_array_equal(curves(unknown), curves(clone(ESTIMATORS["DeVAE"]).fit(X)))


def test_noisy_positions_are_corrected_by_what_samples_are_like():
    X, t = table()
    sd = 0.7 * t.std()
    noisy = t + sd * np.random.default_rng(0).standard_normal(len(t))
    told = DeVAETransformer(max_epochs=60, random_state=0).fit(X, axis=noisy, axis_sd=sd)
    taken_as_known = DeVAETransformer(max_epochs=60, random_state=0).fit(X, axis=noisy)
    assert told.noise_scale_.mean() < 0.8 * taken_as_known.noise_scale_.mean()
    assert told.lower_bound_ > taken_as_known.lower_bound_
    assert spearmanr(told.transform(X)[:, 0], t)[0] > spearmanr(noisy, t)[0]


def test_a_few_known_positions_orient_the_others():
    X, t = table()
    some = np.where(np.arange(len(t)) % 10 == 0, -t, np.nan)
    model = DeVAETransformer(max_epochs=60, random_state=0).fit(X, axis=some)
    assert model.axis_is_given_
    assert spearmanr(model.transform(X)[:, 0], t)[0] < -0.95


def test_a_second_component_describes_what_the_axis_leaves():
    random = np.random.default_rng(0)
    z = random.standard_normal((200, 2))
    X = z @ random.normal(size=(2, 6)) + 0.2 * random.standard_normal((200, 6))
    model = DeVAETransformer(2, n_grid_points=17, max_epochs=40, random_state=0).fit(X, axis=z[:, 0])
    found = model.transform(X)
    assert spearmanr(found[:, 0], z[:, 0])[0] > 0.9
    assert abs(spearmanr(found[:, 1], z[:, 1])[0]) > 0.9


# ---- through scikit-learn --------------------------------------------------------------------------------------------


def test_searches_and_pipelines_pass_it_on():
    X, t = table()
    split = KFold(2)
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = clone(ESTIMATORS["DeVAE"]).set_fit_request(axis=True)
        search = GridSearchCV(estimator, {"max_epochs": [15]}, cv=split, error_score="raise").fit(X, axis=t)
        steps = make_pipeline(StandardScaler(), clone(estimator)).fit(X, axis=t)
    by_hand = [clone(ESTIMATORS["DeVAE"]).fit(X[a], axis=t[a]).score(X[b]) for a, b in split.split(X)]
    assert_allclose(search.cv_results_["mean_test_score"], np.mean(by_hand), rtol=1e-8)
    assert_allclose(steps.transform(X), fitted("DeVAE").transform(X), atol=1e-3)


@each_estimator
def test_files_keep_it(name):
    model = fitted(name)
    restored = pickle.loads(pickle.dumps(model))
    assert restored.axis_is_given_
    assert_array_equal(restored.axis_map_.latent, model.axis_map_.latent)
    assert_array_equal(curves(restored), curves(model))


def test_series_and_columns_are_taken():
    X, t = table()
    model = clone(ESTIMATORS["DeVAE"]).fit(X, axis=pd.Series(t, name="age"), axis_sd=np.zeros(len(t)))
    assert_array_equal(curves(model), curves(fitted("DeVAE")))


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "facts, complaint",
    [
        ({"axis": [0.0, 1.0]}, "axis has 2 values, but X has 80 samples"),
        ({"axis": {3: np.inf}}, "axis is inf in row 3"),
        ({"axis": {}, "axis_sd": {5: -1.0}}, "axis_sd is -1.0 in row 5"),
        ({"axis": {}, "axis_sd": {5: np.nan}}, "axis_sd is nan in row 5"),
        ({"axis": {}, "axis_sd": -0.5}, "axis_sd is -0.5 in row 0"),
        ({"axis": {}, "axis_sd": [1.0]}, "axis_sd has 1 values"),
        ({"axis_sd": 1.0}, "axis_sd is given without axis"),
        ({"axis": [2.5] * 80}, "axis has no value but 2.5"),
        ({"axis": {}, "orientation": np.arange(80)}, "axis and orientation are both given"),
        ({"axis": [1.0] * 7 + ["old"] * 73}, "axis has no number in row 7, but 'old'"),
        ({"axis": {}, "axis_sd": ["old"] * 80}, "axis_sd has no number in row 0, but 'old'"),
    ],
)
def test_errors_say_what_is_wrong(facts, complaint):
    X, t = table()

    def filled(name, value):
        if not isinstance(value, dict):
            return value
        changed = t.copy() if name == "axis" else np.zeros(len(t))
        changed[list(value)] = list(value.values())
        return changed

    with pytest.raises((TypeError, ValueError), match=complaint):
        DeVAETransformer(max_epochs=1).fit(X, **{name: filled(name, value) for name, value in facts.items()})


def test_contradictions_are_errors():
    X, t = table()
    with pytest.raises(ValueError, match="axis and orientation"):
        BasisDeVAEClusterer(orientation=0).fit(X, axis=t)
    with pytest.raises(ValueError, match="needs inference='exact'"):
        BasisDeVAEClusterer(inference="amortized").fit(X, axis=t)
    with pytest.raises(ValueError, match="needs inference='exact'"):
        DeVAETransformer(3).fit(X, axis=t)
    with pytest.raises(TypeError, match="axis"):
        VAETransformer().fit(X, axis=t)


def test_two_positions_are_few():
    X, t = table()
    with pytest.warns(UserWarning, match="axis has 2 different values"):
        DeVAETransformer(**_QUICK).fit(X, axis=t > np.median(t))
