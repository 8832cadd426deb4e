"""Interactions: which curves differ between the levels of a covariate, and how."""

import pickle
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from skdevae import BasisVAEClusterer, DeVAETransformer
from skdevae.inference.level_curves import compare_levels
from skdevae.nn.level_curves import deviation_kernel
from skdevae.training.exact import grid_of

N_FEATURES = 24
#: features whose curves differ, and the others
CROSSING, FLAT = 12, 13
DIFFERENT = [CROSSING, FLAT]
ALIKE = np.setdiff1d(np.arange(N_FEATURES), DIFFERENT)


@cache
def table(n_samples=240, *, differ=False, shift=0.7, seed=0, counts=False):
    """Curves of several shapes, which levels shift by constants, for samples whose levels lie apart on the axis."""
    rng = np.random.default_rng(seed)
    site = np.arange(n_samples) % 2
    z = rng.normal(size=n_samples) + shift * (site - 0.5)
    z = (z - z.mean()) / z.std()
    centers = np.linspace(-1, 1, N_FEATURES)
    curves = np.tanh(1.5 * (z[:, None] - centers)) * (-1) ** np.arange(N_FEATURES)
    curves[:, 3::4] = np.exp(-2 * (z[:, None] - centers[3::4]) ** 2)
    if differ:
        curves[site == 1, CROSSING] *= -1
        curves[site == 1, FLAT] = 0
    curves += site[:, None] * rng.normal(size=N_FEATURES) * 0.5
    X = rng.poisson(np.exp(1 + curves)) if counts else curves + 0.4 * rng.normal(size=curves.shape)
    return X.astype(float), np.array(["a", "b"])[site], z


def quick(estimator=DeVAETransformer, **parameters):
    return estimator(
        **{"interactions": "curves", "max_epochs": 60, "n_grid_points": 65, "random_state": 0, **parameters}
    )


@cache
def fitted(likelihood="gaussian", *, differ=True):
    X, site, z = table(differ=differ, counts=likelihood != "gaussian")
    n_epochs = 60 if likelihood == "gaussian" else 200  # curves of counts take longer to part
    return quick(likelihood=likelihood, max_epochs=n_epochs).fit(X, covariates=site, orientation=z)


@cache
def without_interactions():
    X, site, z = table(differ=True)
    return quick(interactions=None).fit(X, covariates=site, orientation=z)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
def test_p_values_are_uniform_where_levels_differ_by_constants(likelihood):
    p_values = fitted(likelihood, differ=False).interaction_tests_.p_value
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert (fitted(likelihood, differ=False).interaction_tests_.adjusted_p_value > 0.05).all()


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
def test_curves_that_differ_are_found(likelihood):
    tests = fitted(likelihood).interaction_tests_
    assert (tests.adjusted_p_value.iloc[DIFFERENT] < 1e-4).all()
    others = tests.p_value.iloc[ALIKE]
    assert stats.kstest(others, "uniform").pvalue > 0.001
    np.testing.assert_allclose(tests.adjusted_p_value, stats.false_discovery_control(tests.p_value))


def test_trajectories_of_a_level_are_its_own_curves():
    X, site, _ = table(differ=True)
    model = fitted()
    z = model.transform(X, covariates=site)[:, 0]
    for level in "ab":
        own = site == level
        of_level = model.trajectories(z[own], covariates={"covariate 0": level})
        common = without_interactions().trajectories(z[own], covariates={"covariate 0": level})
        left, without = (((X[own] - curves) ** 2).mean(0) for curves in (of_level, common))
        assert left[CROSSING] < 0.5 * without[CROSSING]
        assert left[FLAT] < 0.8 * without[FLAT]
        np.testing.assert_allclose(left[ALIKE], without[ALIKE], rtol=0.15)
        in_rows = model.inverse_transform(z[own][:, None], covariates=site[own])
        np.testing.assert_allclose(in_rows, of_level)


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
def test_derivatives_of_a_level_are_slopes_of_its_trajectories(likelihood):
    model, points, step = fitted(likelihood), np.linspace(-1.4, 1.5, 9), 1e-5
    of_level = {"covariates": {"covariate 0": "b"}}
    rise = model.trajectories(points + step, **of_level) - model.trajectories(points - step, **of_level)
    np.testing.assert_allclose(model.derivatives(points, **of_level), rise / (2 * step), rtol=1e-5, atol=1e-6)


def test_levels_that_differing_curves_have_parted_are_named():
    """Where half of the curves run the other way, the axis leads through one level after the other."""
    X, site, z = table(shift=0)
    other = np.where((site == "b")[:, None] & (np.arange(N_FEATURES) < N_FEATURES // 2), -X, X)
    model = quick()
    with pytest.warns(UserWarning, match=r"^Samples of 'a' and 'b' lie apart on the axis .*differ by 0\.[6-9]"):
        model.fit(other, covariates=site)
    assert abs(stats.spearmanr(model.transform(other, covariates=site)[:, 0], z).statistic) < 0.5
    model.fit(other, covariates=site, axis=z)  # where samples are is known, so nothing has parted them
    found = model.interaction_tests_["adjusted_p_value"].to_numpy() < 0.05
    assert found[: N_FEATURES // 2].mean() > 0.9
    assert found[N_FEATURES // 2 :].mean() < 0.2


def test_the_distance_of_levels_is_that_of_their_places():
    X, site, z = table(shift=2)
    model = quick(max_epochs=20).fit(X, covariates=site, axis=z)
    apart = model._level_curves_["apart"]
    expected = stats.ks_2samp(z[site == "a"], z[site == "b"]).statistic
    np.testing.assert_allclose(apart, [[0, expected], [expected, 0]], atol=0.06)


def test_nothing_else_depends_on_interactions():
    X, site, _ = table(differ=True)
    model, plain = fitted(), without_interactions()
    np.testing.assert_array_equal(model.transform(X, covariates=site), plain.transform(X, covariates=site))
    np.testing.assert_array_equal(model.score_samples(X, covariates=site), plain.score_samples(X, covariates=site))
    np.testing.assert_array_equal(model.trajectories([-1, 0, 1]), plain.trajectories([-1, 0, 1]))
    assert not hasattr(plain, "interaction_tests_")


def test_an_axis_that_points_the_other_way():
    X, site, _ = table(differ=True)
    model = pickle.loads(pickle.dumps(fitted()))
    _, source, inference = model._for_inference(X, None, site)
    grid, columns = grid_of(source, model._settings()), slice(0, 1)
    one = compare_levels(inference.model, source, grid, columns)
    inference.model.mirror_(0)
    other = compare_levels(inference.model, source, grid, columns)
    torch.testing.assert_close(one.statistic, other.statistic, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(one.p_value, other.p_value, rtol=1e-5, atol=1e-5)
    points = torch.linspace(-1, 1, 5, dtype=torch.float64)
    ahead = deviation_kernel(points, one.knots) @ one.deviations
    torch.testing.assert_close(deviation_kernel(-points, other.knots) @ other.deviations, ahead, rtol=1e-3, atol=1e-4)


def test_files_keep_what_was_found():
    model = fitted()
    again = pickle.loads(pickle.dumps(model))
    pd.testing.assert_frame_equal(again.interaction_tests_, model.interaction_tests_)
    level = {"covariate 0": "a"}
    np.testing.assert_array_equal(
        again.trajectories([0.5], covariates=level), model.trajectories([0.5], covariates=level)
    )


@pytest.mark.slow
def test_weights_gaps_sizes_and_other_covariates():
    X, site, _ = table(480, differ=True, counts=True)
    rng = np.random.default_rng(0)
    sizes = np.exp(0.5 * rng.normal(size=len(X)))
    X = rng.poisson(X * sizes[:, None]).astype(float)
    X[rng.random(X.shape) < 0.1] = np.nan
    frame = pd.DataFrame(X, columns=[f"gene {d}" for d in range(N_FEATURES)])
    frame["age"], frame["site"] = np.round(rng.normal(size=len(X))), site
    model = quick(likelihood="nb", covariates=["age", "site"], interactions="site")
    weight = rng.integers(1, 3, size=len(X))
    model.fit(frame, size_factors=sizes, sample_weight=weight)
    assert list(model.interaction_tests_.index) == list(frame.columns[:N_FEATURES])
    assert (model.interaction_tests_.adjusted_p_value.iloc[DIFFERENT] < 0.01).all()
    again = np.repeat(np.arange(len(X)), weight)
    repeated = quick(**model.get_params()).fit(frame.iloc[again], size_factors=sizes[again])
    np.testing.assert_allclose(repeated.interaction_tests_.statistic, model.interaction_tests_.statistic, rtol=1e-3)


def test_columns_of_which_nothing_is_learned_have_no_test():
    X, site, _ = table(differ=True)
    with_constant = np.column_stack([X[:, :5], np.ones(len(X))])
    tests = quick(BasisVAEClusterer, max_epochs=5).fit(with_constant, covariates=site).interaction_tests_
    assert tests.iloc[-1].isna().all()
    assert tests.iloc[:-1].notna().all(axis=None)


@pytest.mark.parametrize(
    ("parameters", "covariates", "message"),
    [
        ({}, None, "There is none. Pass covariates"),
        ({}, {"age": np.arange(240.0)}, "There is none. Pass covariates"),
        ({}, {"sex": ["f", "m"] * 120, "site": ["a", "a", "b", "b"] * 60}, "'sex', 'site'. Name one of them"),
        ({"interactions": "age"}, {"age": np.arange(240.0)}, "'age': 'categorical'"),
        ({"inference": "amortized"}, {"site": ["a", "b"] * 120}, "exact inference"),
        ({"n_components": 2}, {"site": ["a", "b"] * 120}, "one component"),
    ],
)
def test_what_cannot_be_compared(parameters, covariates, message):
    with pytest.raises(ValueError, match=message):
        quick(**parameters).fit(table()[0], covariates=covariates)
