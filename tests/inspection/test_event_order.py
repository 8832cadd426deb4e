"""The order of events: ranks and pairs by brute force, invariances, and what is said where there is no event."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdevae import BasisDeVAEClusterer, DeVAETransformer
from skdevae.inspection import bootstrap, event_order
from skdevae.inspection._event_order import interval, probability_before, summarized
from skdevae.inspection._events import evaluation_grid, event_positions

PLACES = np.array([0.2, 0.35, 0.5, 0.65, 0.8])
NAMES = ["a", "b", "c", "d", "e"]
LEVEL = 0.9


def _course(stage, places=PLACES):
    return 1 / (1 + np.exp(-15 * (stage[:, None] - places)))


def _table(n=120, seed=0, noise=0.15, *, places=PLACES):
    """Features that make half of their change where a share of the samples is behind them, and the samples' places."""
    random = np.random.default_rng(seed)
    stage = random.permutation((np.arange(n) + 0.5) / n)
    sign = np.resize([1, -1], len(places))
    curves = sign * _course(stage, places)
    X = pd.DataFrame(curves + noise * random.standard_normal(curves.shape), columns=NAMES[: len(places)])
    return X, stage


@pytest.fixture(scope="module")
def fitted():
    X, stage = _table()
    model = BasisDeVAEClusterer(max_epochs=40, random_state=0).fit(X, orientation=stage)
    return X, stage, model, bootstrap(model, X, n_bootstrap=20, random_state=0)


# ---- from draws to tables -------------------------------------------------------------------------------------------


def test_pairs_are_counted_one_by_one():
    drawn = np.random.default_rng(0).integers(0, 4, (25, 4)).astype(float)
    drawn[3:9, 1] = np.nan
    found = probability_before(drawn)
    for a in range(4):
        for b in range(4):
            pairs = [(x[a], x[b]) for x in drawn if not np.isnan(x[[a, b]]).any()]
            expected = np.mean([1.0 * (x < y) + 0.5 * (x == y) for x, y in pairs])
            assert np.isnan(found[a, b]) if a == b else found[a, b] == pytest.approx(expected)


def test_pairs_add_up_to_one():
    before = probability_before(np.random.default_rng(1).normal(size=(40, 6)))
    off = ~np.eye(6, dtype=bool)
    np.testing.assert_allclose((before + before.T)[off], 1)


def test_intervals_are_quantiles_and_those_of_ranks_are_ranks():
    drawn = np.random.default_rng(0).normal(size=(101, 3))
    lower, upper = interval(drawn, 0.8)
    np.testing.assert_allclose([lower, upper], np.quantile(drawn, [0.1, 0.9], axis=0))
    ranks = np.random.default_rng(0).integers(1, 6, (50, 3)).astype(float)
    lower, upper = interval(ranks, 0.9, outwards=True)
    assert set(np.concatenate([lower, upper])) <= set(range(1, 6))
    inside = (lower <= ranks) & (ranks <= upper)
    assert (inside.mean(0) >= 0.9).all()


def test_an_event_that_is_rare_among_replicates_has_no_interval():
    drawn = np.array([[0.1, np.nan], [0.2, np.nan], [0.3, 0.5], [0.4, np.nan]])
    lower, _ = interval(drawn, 0.9)
    assert np.isnan(lower[1])
    assert not np.isnan(lower[0])


def test_features_that_share_a_curve_are_ties():
    """Places that differ by rounding, as those of columns in one cluster do, have no order."""
    random = np.random.default_rng(0)
    estimate, drawn = np.array([0.2, 0.6, 0.6, 0.6]), np.repeat(random.uniform(0.5, 0.7, (40, 1)), 4, axis=1)
    drawn[:, 0] = 0.2
    rounding = 1e-16 * random.integers(-3, 4, (41, 4))
    found = summarized(estimate + rounding[0], drawn + rounding[1:], list("abcd"), "half_change", 0.9)
    assert found.positions["rank"].tolist() == [1, 3, 3, 3]
    assert found.positions["rank_lower"].tolist() == [1, 3, 3, 3]
    shared = found.probability_before.loc[list("bcd"), list("bcd")].to_numpy()
    assert (shared[~np.eye(3, dtype=bool)] == 0.5).all()
    assert repr(found) == "<EventOrder of half_change in 4 of 4 features over 40 replicates: a, b, c, ...>"


def test_features_without_the_event_have_no_place():
    drawn = np.array([[0.1, 0.9, 0.5], [0.2, 0.8, 0.5]])
    order = summarized(np.array([0.1, 0.9, np.nan]), drawn, ["a", "b", "c"], "peak", 0.9)
    assert order.order == ["a", "b"]
    assert order.positions.loc["c"].isna().all()
    assert order.positions["rank"].tolist()[:2] == [1, 2]
    assert order.probability_before.loc["c"].isna().all()


# ---- of a fit -------------------------------------------------------------------------------------------------------


def test_the_order_is_that_of_the_curves(fitted):
    X, stage, model, replicates = fitted
    found = event_order(model, X, replicates=replicates, confidence_level=LEVEL)
    assert found.order == NAMES
    at = evaluation_grid(stage)  # where the outermost samples are left out, early and late changes are not whole
    places = event_positions(_course(at), at, "half_change")
    np.testing.assert_allclose(found.positions["estimate"], places, atol=0.06)
    assert (found.positions["lower"] <= found.positions["estimate"] + 1e-9).all()
    assert (found.probability_before.to_numpy()[np.triu_indices(5, 1)] > 0.9).all()
    assert found.replicates.shape == (20, 5)


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say():
    """Several tables of features that lie close together; a loose bound, for the cases are few."""
    inside = []
    for seed in range(3):
        X, stage = _table(80, seed, noise=0.4, places=np.array([0.35, 0.45, 0.5, 0.55, 0.65]))
        model = DeVAETransformer(max_epochs=60, random_state=0).fit(X, orientation=stage)
        found = event_order(model, X, n_bootstrap=20, random_state=seed, confidence_level=LEVEL).positions
        inside += ((found["rank_lower"] <= np.arange(1, 6)) & (np.arange(1, 6) <= found["rank_upper"])).tolist()
    assert np.mean(inside) >= 0.7


def test_units_do_not_matter(fitted):
    X, stage, _, _ = fitted
    scaled = X * [2.0, 100.0, 0.01, 1.0, 5.0] + [0, 3, 1, -9, 1000]
    pipeline = make_pipeline(StandardScaler(), DeVAETransformer(max_epochs=30, random_state=0))
    orders = [
        event_order(pipeline.fit(table, devaetransformer__orientation=stage), table, n_bootstrap=2, random_state=0)
        for table in (X, scaled)
    ]
    np.testing.assert_allclose(orders[0].positions["estimate"], orders[1].positions["estimate"], atol=0.02)


def test_a_reversed_axis_reverses_the_order(fitted):
    X, stage, model, replicates = fitted
    forwards = event_order(model, X, replicates=replicates).positions["estimate"]
    reversed_model = BasisDeVAEClusterer(max_epochs=40, random_state=0).fit(X, orientation=-stage)
    backwards = event_order(reversed_model, X, n_bootstrap=2, random_state=0).positions["estimate"]
    assert kendalltau(forwards, backwards)[0] == pytest.approx(-1)


def test_replicates_of_another_table_are_refused(fitted):
    X, _, model, replicates = fitted
    with pytest.raises(ValueError, match=r"resampling 120 samples, but X has 100"):
        event_order(model, X.iloc[:100], replicates=replicates)


def test_a_list_of_fits_is_no_set_of_replicates(fitted):
    X, _, model, _ = fitted
    with pytest.raises(ValueError, match="'replicates' parameter of event_order"):
        event_order(model, X, replicates=[model])


@pytest.mark.parametrize("event", ["middle", 0.0, 1.5, True])
def test_what_is_no_event_is_refused(fitted, event):
    X, _, model, replicates = fitted
    with pytest.raises(ValueError, match="half_change"):
        event_order(model, X, event=event, replicates=replicates)


def test_shares_of_the_change_come_in_their_order(fitted):
    X, _, model, replicates = fitted
    places = [
        event_order(model, X, event=event, replicates=replicates).positions["estimate"]
        for event in ("onset", 0.25, "half_change", 0.75, "end")
    ]
    assert (np.diff(places, axis=0) > 0).all()


def test_along_a_given_axis_places_are_shares_of_its_samples(fitted):
    X, stage, _, _ = fitted
    model = DeVAETransformer(max_epochs=60, random_state=0).fit(X, axis=stage)
    found = event_order(model, X, axis=stage, n_bootstrap=2, random_state=0)
    np.testing.assert_allclose(found.positions["estimate"], PLACES, atol=0.08)


def test_a_preview_is_shorter_than_replicates_and_says_much_the_same(fitted):
    X, _, model, replicates = fitted
    preview = event_order(model, X, n_bootstrap=0, random_state=0)
    full = event_order(model, X, replicates=replicates)
    assert preview.order == full.order
    pd.testing.assert_series_equal(preview.positions["estimate"], full.positions["estimate"])
    middle = preview.replicates.median()
    np.testing.assert_allclose(middle, PLACES, atol=0.08)
    again = event_order(model, X, n_bootstrap=0, random_state=0)
    pd.testing.assert_frame_equal(preview.replicates, again.replicates)
