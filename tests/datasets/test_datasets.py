from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import sparse
from scipy.optimize import curve_fit
from scipy.stats import kstest
from sklearn.utils import check_random_state

from skdevae import datasets
from skdevae.datasets import make_basis_toy, make_cell_clusters, make_progression, make_progression_counts


def curves_of(progression, label_name):
    """Noise-free curves of one kind in the order of time."""
    label = progression.label_names.index(label_name)
    return progression.curves[np.argsort(progression.times)][:, progression.labels == label]


@pytest.mark.parametrize("seed", range(5))
def test_curves_behave_as_labelled(seed):
    progression = make_progression(random_state=seed)
    assert (np.diff(curves_of(progression, "increasing"), axis=0) > 0).all()
    assert (np.diff(curves_of(progression, "decreasing"), axis=0) < 0).all()
    falls = np.diff(curves_of(progression, "transient"), axis=0) < 0
    assert falls[-1].all()
    assert not falls[0].any()
    assert (np.diff(falls.astype(int), axis=0) >= 0).all()


def test_transients_are_the_published_bumps():
    progression = make_progression(random_state=0)
    times = np.sort(progression.times)

    def bump(t, height, peak, width):
        return height * np.exp(-0.5 * ((t - peak) / width) ** 2)

    fits = [curve_fit(bump, times, curve, p0=(1.0, 0.0, 1.0))[0] for curve in curves_of(progression, "transient").T]
    heights, peaks, widths = np.array(fits).T
    np.testing.assert_allclose(np.sort(heights), np.linspace(0.4, 1.6, 30), rtol=1e-5)
    np.testing.assert_allclose(np.sort(peaks), np.linspace(-1.5, 1.5, 30), atol=1e-5)
    np.testing.assert_allclose(widths, 1, rtol=1e-5)


@pytest.mark.parametrize(("label_name", "sign"), [("increasing", 1), ("decreasing", -1)])
def test_monotone_features_are_the_published_softplus_functions(label_name, sign):
    progression = make_progression(random_state=0)
    times = np.sort(progression.times)

    def softplus(t, scale, shift):
        return sign * scale * 0.4 * np.log1p(np.exp(t + shift))

    fits = [curve_fit(softplus, times, curve, p0=(1.0, 0.0))[0] for curve in curves_of(progression, label_name).T]
    scales, shifts = np.array(fits).T
    np.testing.assert_allclose(np.sort(scales), np.linspace(0.4, 1.6, 10), rtol=1e-5)
    np.testing.assert_allclose(np.sort(shifts), np.linspace(-1.5, 1.5, 10), atol=1e-5)


def test_parameters_of_a_feature_are_paired_at_random():
    peaks_first = [
        curves_of(make_progression(2000, random_state=seed), "transient").argmax(0).argsort() for seed in (0, 1)
    ]
    assert (peaks_first[0] != peaks_first[1]).any()
    progression = make_progression(random_state=0)
    increasing, decreasing = curves_of(progression, "increasing"), curves_of(progression, "decreasing")
    assert not np.allclose(increasing, -decreasing)


@pytest.mark.parametrize("noise", [0.1, 1.0])
def test_noise_has_the_given_standard_deviation(noise):
    progression = make_progression(2000, noise=noise, random_state=0)
    residuals = progression.data - progression.curves
    # The standard error of a standard deviation of n values is sd / sqrt(2 n).
    assert residuals.std() == pytest.approx(noise, rel=5 / np.sqrt(2 * residuals.size))
    assert abs(residuals.mean()) < 5 * noise / np.sqrt(residuals.size)


def test_noise_only_scales_the_residuals():
    one, none = (make_progression(random_state=3, noise=noise) for noise in (1.0, 0.0))
    half = make_progression(random_state=3, noise=0.5)
    np.testing.assert_array_equal(none.data, none.curves)
    np.testing.assert_array_equal(half.curves, one.curves)
    np.testing.assert_allclose(half.data - half.curves, 0.5 * (one.data - one.curves), atol=1e-12)


@pytest.mark.parametrize(("window", "inside"), [("low", lambda t: t < 1), ("high", lambda t: t > -1)])
def test_windows_keep_rows_of_the_full_data(window, inside):
    full = make_progression(random_state=7)
    part = make_progression(random_state=7, window=window)
    kept = inside(full.times)
    assert 0 < kept.sum() < 500
    for field in ("data", "curves", "times"):
        np.testing.assert_array_equal(part[field], full[field][kept])
    np.testing.assert_array_equal(part.labels, full.labels)


def test_times_are_uniform_between_minus_three_and_three():
    times = make_progression(5000, random_state=0).times
    assert times.min() > -3
    assert times.max() < 3
    share, _ = np.histogram(times, bins=6, range=(-3, 3))
    assert np.abs(share / 5000 - 1 / 6).max() < 5 * np.sqrt(1 / 6 * 5 / 6 / 5000)


def test_labels_and_names_describe_the_columns():
    progression = make_progression(20, n_transient=3, n_increasing=2, n_decreasing=1, random_state=0)
    assert progression.feature_names == [
        "transient_00",
        "transient_01",
        "transient_02",
        "increasing_00",
        "increasing_01",
        "decreasing_00",
    ]
    named = [progression.label_names[label] for label in progression.labels]
    assert named == [name.split("_")[0] for name in progression.feature_names]
    assert progression.label_names == ("increasing", "decreasing", "transient")
    assert "BasisDeVAE" in progression.DESCR


def test_names_sort_in_the_order_of_the_columns():
    names = make_progression(5, n_transient=120, n_increasing=0, n_decreasing=0, random_state=0).feature_names
    assert names == sorted(names)


def test_as_frame_changes_the_form_only():
    frame = make_progression(random_state=0, window="low", as_frame=True)
    array = make_progression(random_state=0, window="low")
    assert list(frame.data.columns) == array.feature_names
    np.testing.assert_array_equal(frame.data.to_numpy(), array.data)


def test_a_single_feature_lies_midway():
    progression = make_progression(20_000, n_transient=1, n_increasing=0, n_decreasing=0, random_state=0)
    peak = progression.curves[:, 0].argmax()
    assert progression.times[peak] == pytest.approx(0, abs=1e-2)
    assert progression.curves[peak, 0] == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("make", [make_basis_toy, make_cell_clusters, make_progression, make_progression_counts])
def test_same_seed_same_data_and_the_global_state_is_left_alone(make):
    global_state = check_random_state(None)
    before = global_state.get_state()[1].copy()
    first, again, other = make(random_state=5), make(random_state=check_random_state(5)), make(random_state=6)
    np.testing.assert_array_equal(global_state.get_state()[1], before)
    dense = [bunch.data.toarray() if sparse.issparse(bunch.data) else bunch.data for bunch in (first, again, other)]
    np.testing.assert_array_equal(dense[0], dense[1])
    assert (dense[0] != dense[2]).any()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_samples": 0}, "'n_samples' parameter of make_progression"),
        ({"noise": -0.1}, "'noise' parameter of make_progression"),
        ({"window": "middle"}, "'window' parameter of make_progression"),
        ({"n_transient": -1}, "'n_transient' parameter of make_progression"),
        ({"n_transient": 0, "n_increasing": 0, "n_decreasing": 0}, "asked for no features"),
        ({"n_samples": 1, "window": "high", "random_state": 5}, "None of the 1 samples .* window='high'"),
    ],
)
def test_bad_parameters_of_progression(parameters, message):
    with pytest.raises(ValueError, match=message):
        make_progression(**parameters)


# ------------------------------------------------------------------------------------------------------------- counts


@pytest.mark.parametrize(("density", "dispersion"), [(0.02, 2.0), (0.11, 2.0), (0.11, 0.3), (0.6, 10.0)])
def test_density_is_near_the_target(density, dispersion):
    data = make_progression_counts(1000, 600, density=density, dispersion=dispersion, random_state=0).data
    assert data.nnz / (1000 * 600) == pytest.approx(density, rel=0.05)


def test_counts_are_a_clean_csr_array_of_whole_numbers():
    progression = make_progression_counts(random_state=0)
    assert isinstance(progression.data, sparse.csr_array)
    assert progression.data.shape == (1000, 500)
    assert progression.data.dtype == np.float32
    assert progression.data.has_canonical_format
    assert (progression.data.data >= 1).all()
    np.testing.assert_array_equal(progression.data.data, np.floor(progression.data.data))
    assert progression.dispersion == 2.0


@pytest.mark.parametrize("n_features", [1, 2, 3, 100])
def test_behaviours_are_balanced(n_features):
    labels = make_progression_counts(10, n_features, random_state=0).labels
    numbers = np.bincount(labels, minlength=3)
    assert numbers.sum() == n_features
    assert np.ptp(numbers) <= 1


def test_counts_follow_time_as_labelled():
    progression = make_progression_counts(4000, 90, density=0.9, dispersion=50.0, random_state=0)
    in_time = progression.data.toarray()[np.argsort(progression.times)]
    stages = np.log(in_time.reshape(40, 100, 90).mean(1) + 1e-3)
    label_of = {name: label for label, name in enumerate(progression.label_names)}
    increasing, decreasing, transient = (
        stages[:, progression.labels == label_of[name]] for name in ("increasing", "decreasing", "transient")
    )
    assert (increasing[-1] > increasing[20]).all()
    assert (increasing[20] > increasing[0]).all()
    assert (decreasing[-1] < decreasing[20]).all()
    assert (decreasing[20] < decreasing[0]).all()
    assert (transient.max(0) > np.maximum(transient[0], transient[-1]) + 0.3).all()


@pytest.mark.parametrize("dispersion", [0.5, 2.0])
def test_counts_have_the_given_dispersion(dispersion):
    progression = make_progression_counts(6000, 60, density=0.5, dispersion=dispersion, random_state=0)
    in_time = progression.data.toarray()[np.argsort(progression.times)].astype(float)
    # Neighbours in time are two independent draws with almost the same mean.
    first, second = in_time[0::2], in_time[1::2]
    variance = ((first - second) ** 2 / 2).mean(0)
    mean, square_of_mean = in_time.mean(0), (first * second).mean(0)
    frequent = mean > 1
    overdispersion = np.median((variance - mean)[frequent] / square_of_mean[frequent])
    assert overdispersion == pytest.approx(1 / dispersion, rel=0.15)


def test_counts_do_not_depend_on_the_block_size(monkeypatch):
    whole = make_progression_counts(100, 30, random_state=0).data
    monkeypatch.setattr(datasets, "_BLOCK_SIZE", 7 * 30)
    assert (whole != make_progression_counts(100, 30, random_state=0).data).nnz == 0


def test_memory_is_that_of_the_nonzero_counts(monkeypatch):
    monkeypatch.setattr(datasets, "_BLOCK_SIZE", 2**15)
    make_progression_counts(10, 10, random_state=0)
    tracemalloc.start()
    data = make_progression_counts(2000, 1500, density=0.05, random_state=0).data
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert data.nnz > 0
    assert peak < 2000 * 1500 * 4


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_features": 0}, "'n_features' parameter of make_progression_counts"),
        ({"density": 0.0}, "'density' parameter of make_progression_counts"),
        ({"density": 1.0}, "'density' parameter of make_progression_counts"),
        ({"dispersion": 0.0}, "'dispersion' parameter of make_progression_counts"),
        ({"density": 0.999, "dispersion": 0.1}, r"cannot reach density=0\.999 with dispersion=0\.1.*Lower density"),
    ],
)
def test_bad_parameters_of_counts(parameters, message):
    with pytest.raises(ValueError, match=message):
        make_progression_counts(**parameters)


# ----------------------------------------------------------------------------------------------------------- basis toy

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


# ---- cells in clusters ----------------------------------------------------------------------------------------------


def test_clusters_of_cells_have_the_shares_that_are_asked_for():
    cells = make_cell_clusters(20_000, 20, weights=[6, 3, 1], random_state=0)
    assert_allclose(np.bincount(cells.target) / 20_000, [0.6, 0.3, 0.1], atol=0.015)
    assert cells.expected.shape == (3, 20)
    assert_allclose(cells.expected.sum(1), 1)


def test_counts_of_cells_have_the_mean_and_the_dispersion_of_their_cluster():
    cells = make_cell_clusters(20_000, 30, weights=[1, 1], nuisance_sd=0, random_state=0)
    X = cells.data.toarray().astype(float)
    assert np.median(X.sum(1)) == pytest.approx(1500, rel=0.03)
    for k, shares in enumerate(cells.expected):
        part = X[cells.target == k]
        assert_allclose(part.mean(0) / part.mean(0).sum(), shares, rtol=0.1)
        # Var x = E m + E m^2 / dispersion + Var m, for means m that differ by log-normal depths
        mean, spread = part.mean(0), np.exp(0.4**2)
        variance = mean + mean**2 * (spread / cells.dispersion + spread - 1)
        assert_allclose(part.var(0), variance, rtol=0.35)


def test_clusters_of_cells_differ_in_their_markers_alone():
    alike = make_cell_clusters(50, 40, n_markers=0, random_state=0).expected
    assert_allclose(alike, alike[:1].repeat(6, axis=0))
    log_shares = np.log(make_cell_clusters(50, 400, n_markers=10, random_state=0).expected)
    for k in range(1, 6):
        difference = log_shares[k] - log_shares[0]  # but for markers of one of the two, that of the normalisers
        n_markers = (~np.isclose(difference, np.median(difference), atol=1e-6)).sum()
        assert 10 <= n_markers <= 20


def test_a_nuisance_spreads_cells_of_one_cluster():
    quiet, loud = (make_cell_clusters(2000, 50, weights=[1], nuisance_sd=sd, random_state=0) for sd in (0, 0.5))
    shares = [np.asarray((c.data / c.data.sum(1)[:, None]).todense()) for c in (quiet, loud)]
    assert np.median(shares[1].var(0) / shares[0].var(0)) > 1.2


@pytest.mark.parametrize("weights", [[-1, 2], [0, 0], [np.nan, 1], [[1, 1]]])
def test_weights_of_clusters_are_checked(weights):
    with pytest.raises(ValueError, match="weights="):
        make_cell_clusters(10, 5, weights=weights)
