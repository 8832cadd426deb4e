"""Feature tables: what they say follows from what the estimator says in public, in the user's units."""

import copy
from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from by_hand import conditional_variance
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skdevae import BasisDeVAEClusterer, BasisVAEClusterer, DeVAETransformer
from skdevae.datasets import make_progression
from skdevae.inspection import association_test, bootstrap, feature_table
from skdevae.inspection._events import EVENTS, as_quantiles, evaluation_grid, event_positions

BEHAVIORS = ("increasing", "decreasing", "transient", "flat")
NAMES = [f"marker {number}" for number in range(7)]
QUANTILES = [f"{event.replace('_', ' ')} (quantile)" for event in EVENTS]


@pytest.fixture(scope="module")
def X():  # noqa: N802
    shapes = {"n_increasing": 2, "n_decreasing": 1, "n_transient": 2, "n_flat": 2}
    return pd.DataFrame(50 + 10 * make_progression(80, **shapes, random_state=2).data, columns=NAMES)


def clusterer(**parameters):
    return BasisDeVAEClusterer(**{"behaviors": BEHAVIORS, "max_epochs": 30, "random_state": 0, **parameters})


@pytest.fixture(scope="module")
def fitted(X):
    return clusterer().fit(X)


@pytest.fixture(scope="module")
def table(fitted, X):
    return feature_table(fitted, X)


@pytest.fixture(scope="module")
def counts():
    generator = np.random.default_rng(0)
    z = generator.normal(size=(80, 1))
    return generator.poisson(np.exp(1 + np.tanh(z * [1, 2, -1, 1.5] - [1, 0, -0.5, 0.5]))).astype(float)


def test_events_are_those_of_the_curves_where_samples_are(table, fitted, X):
    positions = fitted.transform(X)[:, 0]
    at = evaluation_grid(positions)
    for event in EVENTS:
        found = event_positions(fitted.trajectories(at), at, event)
        name = event.replace("_", " ")
        assert_allclose(table[name], found, atol=1e-9)
        assert_allclose(table[f"{name} (quantile)"], as_quantiles(found, positions), atol=1e-9)


def test_change_is_counted_in_the_users_units_and_in_sds_of_the_noise(table, fitted, X):
    at = evaluation_grid(fitted.transform(X)[:, 0])
    curves = fitted.trajectories(at)
    farthest = np.abs(curves - curves[0]).max(0)  # for these curves
    assert_allclose(table["change"].abs(), farthest)
    assert_allclose(table["change (sds)"], table["change"] / fitted.noise_scale_)


def test_behaviours_directions_and_events_agree(table, fitted, X):
    names = feature_table(fitted, X, threshold=0)["behaviour"]
    assert names.tolist() == ["transient", "decreasing", "increasing", "increasing", "decreasing", "flat", "flat"]
    directions = {"increasing": "up", "decreasing": "down", "transient": "up then down", "flat": "none"}
    assert table["direction"].tolist() == [directions[name] for name in names]
    assert_array_equal(table["peak"].notna(), names == "transient")
    for event in ("onset", "half change", "end (quantile)"):
        assert_array_equal(table[event].notna(), names != "flat")
    assert_array_equal(table["change"] == 0, names == "flat")
    assert table.index.tolist() == NAMES


def test_features_below_the_threshold_are_uncertain(table, fitted, X):
    probability = table["probability"]
    assert_allclose(probability, fitted.responsibilities_.max(1))
    strict = feature_table(fitted, X, threshold=probability.median())
    assert_array_equal(strict["behaviour"] == "uncertain", probability < probability.median())
    pd.testing.assert_frame_equal(strict.drop(columns="behaviour"), table.drop(columns="behaviour"))
    with pytest.raises(ValueError, match="threshold"):
        feature_table(fitted, X, threshold=1.5)


def test_a_pipeline_has_amounts_in_the_users_units(table, X):
    scaled = feature_table(make_pipeline(StandardScaler(), clusterer()).fit(X), X)
    words = ["behaviour", "direction"]
    pd.testing.assert_frame_equal(scaled[words], table[words])
    assert_allclose(scaled.drop(columns=words), table.drop(columns=words).to_numpy(float), rtol=1e-3, atol=1e-3)


def test_a_scale_that_is_turned_round_turns_directions_and_nothing_else(fitted, X):
    turned = make_pipeline(FunctionTransformer(np.negative, np.negative), fitted)
    table, other = feature_table(fitted, X), feature_table(turned, -X)
    opposite = {"up": "down", "down": "up", "up then down": "down then up", "none": "none"}
    assert other["direction"].tolist() == [opposite[word] for word in table["direction"]]
    assert_allclose(other["change"], -table["change"])
    assert_allclose(other["change (sds)"], -table["change (sds)"])
    same = ["half change", *QUANTILES, "explained variance"]
    assert_allclose(other[same], table[same])


def test_an_axis_that_is_turned_round_exchanges_onset_and_end(fitted, table, X):
    turned = deepcopy(fitted)
    turned.module_.mirror_(0)
    other, one = (found.iloc[1:5] for found in (feature_table(turned, X), table))  # monotone ones
    assert_allclose(other["change"], -one["change"], rtol=1e-6)
    for there, back in (("onset", "end"), ("half change", "half change"), ("end", "onset")):
        assert_allclose(other[back], -one[there], atol=1e-6)
        assert_allclose(other[f"{back} (quantile)"], 1 - one[f"{there} (quantile)"], atol=1e-6)


def test_features_that_follow_the_axis_are_explained(table):
    explained = table["explained variance"]
    assert (explained[:5] > 0.5).all()
    assert_allclose(explained[5:], 0, atol=0.01)


def test_weights_are_copies(fitted, X):
    weights = np.random.default_rng(0).integers(0, 3, len(X))
    weighted = feature_table(fitted, X, sample_weight=weights)
    copies = feature_table(fitted, X.loc[X.index.repeat(weights)])
    words = ["behaviour", "direction"]
    assert_allclose(weighted.drop(columns=words).astype(float), copies.drop(columns=words).astype(float), rtol=1e-6)


@pytest.mark.filterwarnings("ignore:column")
def test_columns_that_taught_nothing_say_so(X):
    more = X.assign(constant=1.0, unobserved=np.nan)
    for model in (clusterer(), clusterer(behaviors=("increasing", "decreasing"))):
        found = feature_table(model.set_params(max_epochs=2).fit(more), more).tail(2)
        assert found["behaviour"].tolist() == ["constant", "unobserved"]
        assert found.drop(columns="behaviour").isna().all(axis=None)


def test_holes_are_left_out(fitted, X):
    holes = X.mask(np.random.default_rng(1).random(X.shape) < 0.2)
    assert feature_table(fitted, holes)["explained variance"][:5].between(0.4, 1).all()


def test_other_estimators_have_other_labels(X):
    assert "cluster" in feature_table(BasisVAEClusterer(2, max_epochs=2, random_state=0).fit(X), X)
    plain = feature_table(DeVAETransformer(max_epochs=2, random_state=0).fit(X), X)
    assert plain.columns[0] == "direction"


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("likelihood", ["poisson", "nb", "zinb", "bernoulli"])
def test_changes_of_counts_are_in_sds_of_an_entry(likelihood, counts):
    values = (counts > np.median(counts, 0)).astype(float) if likelihood == "bernoulli" else counts
    model = BasisDeVAEClusterer(likelihood=likelihood, max_epochs=15, random_state=0).fit(values)
    found = feature_table(model, sp.csr_array(values))
    at = evaluation_grid(model.transform(values)[:, 0])
    curves, variances = model.trajectories(at), conditional_variance(model, at)
    extreme = [
        np.argmin(np.abs(curve - curve[0] - change)) for curve, change in zip(curves.T, found["change"], strict=True)
    ]
    pooled = [(variance[0] + variance[at_most]) / 2 for variance, at_most in zip(variances.T, extreme, strict=True)]
    assert_allclose(found["change (sds)"], found["change"] / np.sqrt(pooled), rtol=1e-6)
    assert found["explained deviance"].between(-0.2, 1).all()
    dense = feature_table(model, values)
    pd.testing.assert_frame_equal(found, dense)
    assert found.index.tolist() == ["x0", "x1", "x2", "x3"]


def test_sizes_and_covariates_are_passed_on(counts):
    sizes, batch = np.random.default_rng(2).uniform(0.5, 2, len(counts)), np.resize(["a", "b"], len(counts))
    facts = {"size_factors": sizes, "covariates": batch}
    model = BasisDeVAEClusterer(likelihood="nb", max_epochs=5, random_state=0).fit(counts, **facts)
    found = feature_table(model, counts, **facts)
    at = evaluation_grid(model.transform(counts, **facts)[:, 0])
    assert_allclose(found["half change"], event_positions(model.trajectories(at), at, "half_change"))
    with pytest.raises(ValueError, match="covariates"):
        feature_table(model, counts, size_factors=sizes)


def test_data_frames_out_change_nothing(fitted, table, X):
    framed = copy.copy(fitted).set_output(transform="pandas")
    pd.testing.assert_frame_equal(feature_table(framed, X), table)


@pytest.fixture(scope="module")
def replicates(fitted, X):
    return bootstrap(fitted, X, n_bootstrap=4, random_state=0)


AMOUNTS = [*QUANTILES, "change"]


def test_intervals_are_quantiles_over_replicates(fitted, X, table, replicates):
    found = feature_table(fitted, X, replicates=replicates, confidence_level=0.5)
    pd.testing.assert_frame_equal(found[table.columns], table)
    alone = [
        feature_table(model, X, sample_weight=weights)
        for model, weights in zip(replicates, replicates.weights, strict=True)
    ]
    for name in AMOUNTS:
        values = np.array([each[name] for each in alone])
        often = (~np.isnan(values)).mean(0) >= 0.5
        expected = np.full((2, len(NAMES)), np.nan)
        expected[:, often] = np.nanquantile(values[:, often], [0.25, 0.75], axis=0)
        assert_allclose(found[[f"{name} lower", f"{name} upper"]].T, expected, rtol=2e-3, atol=2e-3)


def test_replicates_are_made_on_request(fitted, X, replicates):
    made = feature_table(fitted, X, n_bootstrap=4, random_state=0)
    pd.testing.assert_frame_equal(made, feature_table(fitted, X, replicates=replicates))
    with pytest.raises(ValueError, match="leave out one"):
        feature_table(fitted, X, n_bootstrap=4, replicates=replicates)
    with pytest.raises(ValueError, match="n_bootstrap"):
        feature_table(fitted, X, n_bootstrap=1)
    with pytest.raises(ValueError, match="80 samples, but X has 3"):
        feature_table(fitted, X[:3], replicates=replicates)


def test_intervals_of_a_pipeline_are_in_the_users_units(fitted, X, replicates):
    turned = make_pipeline(FunctionTransformer(np.negative, np.negative), fitted)
    one, other = (feature_table(model, X * sign, replicates=replicates) for model, sign in ((fitted, 1), (turned, -1)))
    assert_allclose(other["change lower"], -one["change upper"])
    assert_allclose(other["half change (quantile) lower"], one["half change (quantile) lower"])


def test_tests_are_those_of_association(X):
    few = X[NAMES[1:4]]
    model = DeVAETransformer(max_epochs=2, random_state=0).fit(few)
    tested, tests = feature_table(model, few, tests=True, random_state=0), association_test(model, few, random_state=0)
    plain = feature_table(model, few)
    pd.testing.assert_frame_equal(tested[plain.columns], plain)
    for column in ("statistic", "p_value", "q_value"):
        assert_array_equal(tested[column.replace("_", " ")], tests[column])


def test_two_components_are_no_axis(X):
    with pytest.raises(ValueError, match="n_components=1"):
        feature_table(DeVAETransformer(2, max_epochs=1, random_state=0).fit(X), X)


def test_given_positions_are_where_samples_are():
    random = np.random.default_rng(3)
    t = random.uniform(20, 80, 90)
    curves = np.stack([np.exp(-(((t - 50) / 8) ** 2)), (t - 50) / 60, 1 / (1 + np.exp((t - 60) / 4))], 1)
    noisy = pd.DataFrame(curves + 0.15 * random.normal(size=curves.shape), columns=["peak", "rise", "fall"])
    model = clusterer(max_epochs=10).fit(noisy, axis=t)
    found = feature_table(model, noisy, axis=t)
    assert found["direction"].tolist() == ["up then down", "up", "down"]
    positions = model.axis_map_.to_latent(t)
    at = evaluation_grid(positions)
    half = event_positions(model.trajectories(at), at, "half_change")
    assert_allclose(found["half change"], half)
    assert_allclose(found["half change (quantile)"], as_quantiles(half, positions))
    residuals = noisy - model.trajectories(positions)
    shares = 1 - (residuals**2).sum() / ((noisy - noisy.mean()) ** 2).sum()
    assert_allclose(found["explained variance"], shares, atol=0.01)
    assert (feature_table(model, noisy)["explained variance"] < shares).all()

    unknown = np.where(random.random(90) < 0.5, np.nan, t)
    partly = feature_table(model, noisy, axis=unknown, axis_sd=5)
    assert_allclose(partly["half change (quantile)"], found["half change (quantile)"], atol=0.15)
    everything = feature_table(model, noisy, axis=t, axis_sd=1e6)
    pd.testing.assert_frame_equal(everything, feature_table(model, noisy))


def test_positions_are_given_to_models_that_know_an_axis(fitted, X):
    with pytest.raises(ValueError, match="fitted without one"):
        feature_table(fitted, X, axis=np.arange(len(X)))


def test_one_sample_shows_no_change(fitted, X):
    with pytest.raises(ValueError, match="one position"):
        feature_table(fitted, X[:1])


def test_names_of_columns_can_be_printed_by_latex(table):
    assert not set("".join(table.columns)) & set("_%&#$^{}~\\")
