"""Features of make_basis_toy are scaled and shifted copies of three basis functions."""

import numpy as np
import pytest
from scipy.stats import kstest

from skdevae.datasets import make_basis_toy

GROUPS = ("early", "middle", "late", "up", "down")
BASIS_FUNCTIONS = {
    "transient": lambda z: np.exp(-(z**2) / 2),
    "increasing": lambda z: 0.4 * np.log1p(np.exp(z)),
    "decreasing": lambda z: 0.4 * np.log1p(np.exp(-z)),
}


@pytest.mark.parametrize("shift_range", [0.0, 0.7])
def test_features_are_scaled_and_shifted_basis_functions(shift_range):
    toy = make_basis_toy(shift_range=shift_range, noise=0, random_state=0)
    np.testing.assert_array_equal(toy.data, toy.curves)
    for j, label in enumerate(toy.shape_labels):
        function = BASIS_FUNCTIONS[toy.shape_names[label]]
        np.testing.assert_allclose(toy.data[:, j], toy.scales[j] * function(toy.times + toy.shifts[j]), rtol=1e-13)


def test_features_of_a_group_are_proportional():
    toy = make_basis_toy(random_state=1)
    basis = toy.curves / toy.scales
    for label in range(5):
        of_group = basis[:, toy.labels == label]
        np.testing.assert_allclose(of_group, of_group[:, :1].repeat(10, axis=1), rtol=1e-13)
    first_of_each = basis[:, ::10]
    assert (np.abs(np.corrcoef(first_of_each.T) - np.eye(5)) < 0.97).all()


def test_transients_peak_at_minus_their_shift():
    toy = make_basis_toy(20_000, groups=GROUPS[:3], shift_range=0.3, random_state=0)
    np.testing.assert_allclose(toy.times[toy.curves.argmax(0)], -toy.shifts, atol=0.01)
    np.testing.assert_allclose(toy.shifts.reshape(3, 10).mean(1), [1.5, 0, -1.5], atol=1e-15)


def test_down_mirrors_up():
    up, down = (make_basis_toy(groups=(group,), scale_range=(1, 1), random_state=0) for group in ("up", "down"))
    order = np.argsort(up.times)
    assert (np.diff(up.curves[order], axis=0) > 0).all()
    assert (np.diff(down.curves[order], axis=0) < 0).all()
    # log(1 + exp(z)) - log(1 + exp(-z)) = z
    np.testing.assert_allclose(up.curves - down.curves, np.tile(0.4 * up.times[:, None], 10), atol=1e-14)


def test_groups_refine_shapes():
    toy = make_basis_toy(random_state=0)
    assert toy.label_names == GROUPS
    assert toy.shape_names == ("increasing", "decreasing", "transient")
    np.testing.assert_array_equal(toy.labels, np.repeat(range(5), 10))
    assert toy.shape_labels.shape == toy.labels.shape
    shapes = {
        toy.label_names[label]: {toy.shape_names[shape] for shape in toy.shape_labels[toy.labels == label]}
        for label in range(5)
    }
    assert shapes == {
        "early": {"transient"},
        "middle": {"transient"},
        "late": {"transient"},
        "up": {"increasing"},
        "down": {"decreasing"},
    }
    assert [name.split("_")[0] for name in toy.feature_names] == [toy.label_names[label] for label in toy.labels]
    assert "BasisVAE" in toy.DESCR


@pytest.mark.parametrize("groups", [GROUPS[::-1], ("up", "early"), ["late"]])
def test_groups_choose_and_order_columns_only(groups):
    full = make_basis_toy(shift_range=0.2, random_state=3)
    part = make_basis_toy(groups=groups, shift_range=0.2, random_state=3)
    columns = [full.feature_names.index(name) for name in part.feature_names]
    assert part.label_names == tuple(groups)
    np.testing.assert_array_equal(part.times, full.times)
    for field in ("data", "curves", "scales", "shifts", "shape_labels"):
        np.testing.assert_array_equal(part[field], full[field][..., columns])
    np.testing.assert_array_equal([part.label_names[label] for label in part.labels], np.repeat(groups, 10))


def test_groups_are_drawn_independently():
    toy = make_basis_toy(shift_range=0.5, random_state=0)
    assert len(np.unique(toy.scales)) == 50
    assert len(np.unique(toy.shifts.reshape(5, 10).argsort(1), axis=0)) == 5
    residuals = toy.data - toy.curves
    assert np.abs(np.corrcoef(residuals.T) - np.eye(50)).max() < 5 / np.sqrt(500)


def test_one_shape_at_a_range_of_shifts():
    toy = make_basis_toy(groups=("middle",), n_features_per_group=30, shift_range=1.5, random_state=0)
    assert toy.data.shape == (500, 30)
    np.testing.assert_allclose(np.sort(toy.shifts), np.linspace(-1.5, 1.5, 30), atol=1e-15)
    assert (np.diff(toy.shifts) < 0).any()
    assert set(toy.labels) == {0}


def test_a_single_shift_is_that_of_the_group():
    toy = make_basis_toy(n_features_per_group=1, shift_range=1.0, random_state=0)
    np.testing.assert_array_equal(toy.shifts, [1.5, 0, -1.5, 0, 0])


@pytest.mark.parametrize("scale_range", [(0.5, 1.5), [2, 3]])
def test_scales_are_uniform_over_their_range(scale_range):
    low, high = scale_range
    scales = make_basis_toy(2, 2000, scale_range=scale_range, random_state=0).scales
    assert scales.min() >= low
    assert scales.max() < high
    share, _ = np.histogram(scales, bins=5, range=(low, high))
    assert np.abs(share / 10_000 - 0.2).max() < 5 * np.sqrt(0.2 * 0.8 / 10_000)
    np.testing.assert_array_equal(make_basis_toy(2, scale_range=(low, low), random_state=0).scales, low)


def test_times_of_the_toy_are_uniform():
    times = make_basis_toy(5000, 1, groups=("up",), random_state=0).times
    assert kstest(times, "uniform", args=(-3, 6)).pvalue > 1e-3


@pytest.mark.parametrize(
    ("changed", "kept"),
    [
        ({"noise": 1.0}, ("times", "scales", "shifts", "curves", "residuals")),
        ({"shift_range": 0.4}, ("times", "scales", "order", "residuals")),
        ({"scale_range": (1.0, 3.0)}, ("times", "shifts", "relative_scales", "residuals")),
    ],
)
def test_each_parameter_changes_its_own_part_only(changed, kept):
    def parts(**parameters):
        parameters = {"noise": 0.5, "shift_range": 0.2, "scale_range": (0.5, 1.5), **parameters}
        toy = make_basis_toy(random_state=4, **parameters)
        low, high = parameters["scale_range"]
        return toy | {
            "residuals": (toy.data - toy.curves) / parameters["noise"],
            "order": toy.shifts.reshape(5, 10).argsort(1),
            "relative_scales": (toy.scales - low) / (high - low),
        }

    before, after = parts(), parts(**changed)
    for part in kept:
        np.testing.assert_allclose(after[part], before[part], atol=1e-12)
    assert (after["data"] != before["data"]).any()


def test_noise_of_the_toy_has_the_given_standard_deviation():
    toy = make_basis_toy(2000, noise=0.3, random_state=0)
    residuals = toy.data - toy.curves
    assert residuals.std() == pytest.approx(0.3, rel=5 / np.sqrt(2 * residuals.size))
    assert abs(residuals.mean()) < 5 * 0.3 / np.sqrt(residuals.size)


def test_toy_as_frame_changes_the_form_only():
    frame, array = (make_basis_toy(random_state=0, as_frame=as_frame) for as_frame in (True, False))
    assert list(frame.data.columns) == array.feature_names
    np.testing.assert_array_equal(frame.data.to_numpy(), array.data)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_samples": 0}, "'n_samples' parameter of make_basis_toy"),
        ({"n_features_per_group": 0}, "'n_features_per_group' parameter of make_basis_toy"),
        ({"shift_range": -1.0}, "'shift_range' parameter of make_basis_toy"),
        ({"shift_range": np.inf}, "'shift_range' parameter of make_basis_toy"),
        ({"noise": -0.1}, "'noise' parameter of make_basis_toy"),
        ({"groups": {"up", "down"}}, "'groups' parameter of make_basis_toy"),
        ({"groups": "middle"}, r"is the string 'middle': give a sequence of names, such as groups=\('middle',\)"),
        ({"groups": ()}, "is empty: name at least one group. Choose from 'early', 'middle'"),
        ({"groups": ("up", "sideways")}, r"unknown names, \['sideways'\]. Choose from 'early'"),
        ({"groups": ("up", ["down"])}, r"unknown names, \[\['down'\]\]"),
        ({"groups": ("up", "down", "up")}, r"repeats \['up'\].*at most once.*raise n_features_per_group"),
        ({"scale_range": 1.0}, "'scale_range' parameter of make_basis_toy"),
        ({"scale_range": (1.0,)}, r"'scale_range'.*\(low, high\).*Got \(1.0,\)"),
        ({"scale_range": (1.5, 0.5)}, "'scale_range'.*0 < low <= high"),
        ({"scale_range": (0.0, 1.0)}, "'scale_range'.*0 < low <= high"),
        ({"scale_range": (0.5, np.inf)}, "'scale_range'.*finite"),
        ({"scale_range": (np.nan, 1.0)}, "'scale_range'.*finite"),
        ({"scale_range": ("0.5", "1.5")}, "'scale_range'.*numbers"),
    ],
)
def test_bad_parameters_of_basis_toy(parameters, message):
    with pytest.raises(ValueError, match=message):
        make_basis_toy(**parameters)
