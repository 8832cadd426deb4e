"""Constraints of DeVAETransformer: how they are given, and that curves obey them everywhere."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingRegressor
from trajectory.devae.cases import CASES, WAYS, fitted, frame, progression, quick, signs, table_for


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [
        (None, np.zeros(8)),
        ("increasing", np.ones(8)),
        ("decreasing", -np.ones(8)),
        ([1, -1, 0, 0, 0, 0, 0, 1], [1, -1, 0, 0, 0, 0, 0, 1]),
        (np.tile([-1, 0], 4), np.tile([-1, 0], 4)),
    ],
    ids=str,
)
def test_constraints_go_by_position(constraint, expected):
    model = quick(monotonic_cst=constraint, max_epochs=2).fit(progression().data)
    assert_array_equal(model.monotonic_cst_, expected)
    assert model.get_params()["monotonic_cst"] is constraint


def test_constraints_go_by_name():
    names = progression().feature_names
    model = quick(monotonic_cst={names[3]: 1, names[0]: -1, names[5]: 0}, max_epochs=2).fit(frame())
    assert_array_equal(model.monotonic_cst_, [-1, 0, 0, 1, 0, 0, 0, 0])
    # of frames with other orders of columns, too
    other = clone(model).fit(frame()[names[::-1]])
    assert_array_equal(other.monotonic_cst_, model.monotonic_cst_[::-1])


@pytest.mark.parametrize(
    ("constraint", "table"),
    [
        ([1, -1], progression().data),
        ([2] + [0] * 7, progression().data),
        ([[1] * 8], progression().data),
        ({"increasing_00": 1}, progression().data),
        ({"age": 1}, frame()),
        ({"increasing_00": 3}, frame()),
    ],
    ids=["length", "value", "shape", "no names", "unknown name", "value by name"],
)
def test_constraints_that_cannot_be_are_refused_as_scikit_learn_does(constraint, table):
    with pytest.raises(ValueError, match="monotonic_cst") as ours:
        quick(monotonic_cst=constraint).fit(table)
    with pytest.raises(ValueError, match="monotonic_cst") as theirs:
        HistGradientBoostingRegressor(monotonic_cst=constraint, max_iter=1).fit(table, progression().times)
    assert str(ours.value) == str(theirs.value).replace("HistGradientBoostingRegressor", "DeVAETransformer")


def test_a_direction_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"monotonic_cst.*'decreasing'"):
        quick(monotonic_cst="upwards").fit(progression().data)


def test_constraints_mean_what_they_mean_to_scikit_learn():
    """With the time as the only feature, boosted trees of each column rise where the model's curve must."""
    truth = progression()
    model = quick(monotonic_cst=signs()).fit(truth.data)
    steps = np.diff(model.trajectories(np.linspace(-3, 3, 50)), axis=0)
    for column in np.flatnonzero(signs()):
        trees = HistGradientBoostingRegressor(monotonic_cst=[signs()[column]], max_iter=5)
        predicted = trees.fit(truth.times[:, None], truth.data[:, column]).predict(np.sort(truth.times)[:, None])
        assert np.sign(predicted[-1] - predicted[0]) == signs()[column]
        assert_array_equal(np.sign(steps[:, column]), signs()[column])


@pytest.mark.parametrize(
    ("likelihood", "way"), [*(("gaussian", way) for way in WAYS), ("nb", "exact, two components"), ("nb", "amortized")]
)
def test_fitted_curves_obey(likelihood, way):
    # whatever the data say: the same constraint for features that rise and features that fall
    table = table_for(likelihood)
    constraint = np.resize([1, -1, 0, -1, 1], table.shape[1])
    model = quick(likelihood=likelihood, monotonic_cst=constraint, **WAYS[way]).fit(table)
    n_components = model.n_components
    for component in range(n_components):
        for others in (-1.0, 2.0):
            z = np.full((601, n_components), others)
            z[:, component] = np.linspace(-9, 9, 601)
            steps = np.diff(model.trajectories(z), axis=0)
            assert (steps * constraint >= 0)[:, constraint != 0].all()
            rates = model.derivatives(z).reshape(601, table.shape[1], n_components)
            assert (constraint[:, None] * rates > 0)[:, constraint != 0].all()


def test_quadrature_obeys_where_the_data_are():
    model = quick(monotonic_cst=signs(), integrator="gauss-legendre").fit(progression().data)
    steps = np.diff(model.trajectories(np.linspace(-4, 4, 401)), axis=0)
    assert (steps * signs() >= 0).all()
    exact = quick(monotonic_cst=signs()).fit(progression().data)
    assert_allclose(model.score(progression().data), exact.score(progression().data), atol=0.1)


def test_constraints_cost_likelihood_where_they_are_wrong():
    table = progression().data
    free, right, wrong = (
        quick(max_epochs=60, monotonic_cst=constraint).fit(table).score(table)
        for constraint in (None, signs(), "increasing")
    )
    assert right > wrong + 1
    assert free > wrong + 1
    assert_allclose(right, free, atol=1)


@pytest.mark.parametrize(("likelihood", "way"), CASES)
def test_derivatives_are_differences_of_trajectories(likelihood, way):
    model = fitted(likelihood, way)
    q = model.n_components
    z = np.random.default_rng(0).uniform(-6, 6, (20, q))
    rates = model.derivatives(z)
    assert rates.shape == ((20, model.n_features_in_) if q == 1 else (20, model.n_features_in_, q))
    for component in range(q):
        step = 1e-5 * np.eye(q)[component]
        differences = (model.trajectories(z + step) - model.trajectories(z - step)) / 2e-5
        one = rates.reshape(20, -1, q)[:, :, component]
        assert_allclose(one, differences, rtol=1e-4, atol=1e-6 * (1 + np.abs(model.trajectories(z)).max()))


@pytest.mark.parametrize("way", ["exact, two components", "amortized, three components"])
def test_expected_values_add_up_over_components(way):
    model = fitted(way=way)
    q = model.n_components
    z = np.random.default_rng(0).normal(0, 2, (30, q))
    at_zero = model.trajectories(np.zeros((1, q)))
    alone = sum(model.trajectories(z * unit) - at_zero for unit in np.eye(q))
    assert_allclose(model.trajectories(z) - at_zero, alone, atol=1e-10)
