"""Features of make_progression are the published curves plus noise, and windows are cut from one table."""

import numpy as np
import pytest
from scipy.optimize import curve_fit

from skdevae.datasets import make_progression


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


@pytest.mark.parametrize("seed", [0, 11])
def test_the_published_curves_are_drawn_in_the_same_order_as_ever(seed):
    """Bit for bit: what was computed from a seed can be computed again, whatever else can be asked for now."""
    random = np.random.RandomState(seed)
    times = random.uniform(-3, 3, size=200)
    blocks = []
    for kind, n in (("transient", 6), ("increasing", 5), ("decreasing", 4)):
        shifts = random.permutation(np.linspace(-1.5, 1.5, n))
        scales = random.permutation(np.linspace(0.4, 1.6, n))
        if kind == "transient":
            blocks.append(scales * np.exp(-0.5 * (times[:, None] - shifts) ** 2))
        else:
            rises = scales * 0.4 * np.logaddexp(0, times[:, None] + shifts)
            blocks.append(rises if kind == "increasing" else -rises)
    curves = np.hstack(blocks)
    data = curves + 0.3 * random.standard_normal(curves.shape)

    progression = make_progression(200, n_transient=6, n_increasing=5, n_decreasing=4, noise=0.3, random_state=seed)
    np.testing.assert_array_equal(progression.times, times)
    np.testing.assert_array_equal(progression.curves, curves)
    np.testing.assert_array_equal(progression.data, data)


def test_dips_are_bumps_upside_down_and_come_after_the_published_curves():
    progression = make_progression(n_dip=8, n_flat=3, random_state=0)
    np.testing.assert_array_equal(progression.curves[:, :50], make_progression(random_state=0).curves)
    times = np.sort(progression.times)

    def dip(t, depth, trough):
        return -depth * np.exp(-0.5 * (t - trough) ** 2)

    fits = [curve_fit(dip, times, curve, p0=(1.0, 0.0))[0] for curve in curves_of(progression, "dip").T]
    depths, troughs = np.array(fits).T
    np.testing.assert_allclose(np.sort(depths), np.linspace(0.4, 1.6, 8), rtol=1e-5)
    np.testing.assert_allclose(np.sort(troughs), np.linspace(-1.5, 1.5, 8), atol=1e-5)


@pytest.mark.parametrize("shapes", [None, "mixed"])
def test_flat_features_are_noise_alone(shapes):
    progression = make_progression(2000, n_flat=3, shapes=shapes, noise=0.5, random_state=0)
    flat = progression.labels == progression.label_names.index("flat")
    assert flat.sum() == 3
    assert (progression.curves[:, flat] == 0).all()
    values = np.asarray(progression.data)[:, flat]
    np.testing.assert_allclose(values.std(axis=0), 0.5, rtol=5 / np.sqrt(2 * 2000))


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


def test_bumps_that_a_window_cuts_are_observed_as_what_is_left_of_them():
    full = make_progression(5000, n_increasing=3, n_decreasing=3, n_dip=30, random_state=2)
    peaks = full.times[np.abs(full.curves).argmax(axis=0)]
    bumps, dips = (full.labels == full.label_names.index(name) for name in ("transient", "dip"))
    rest = ~bumps & ~dips
    # A bump of unit width has lost exp(-0.3**2 / 2), some 4 %, of its height 0.3 from its peak.
    cases = [
        ("low", peaks > 1, peaks < 0.7, "increasing", "decreasing"),
        ("high", peaks < -1, peaks > -0.7, "decreasing", "increasing"),
    ]
    for window, cut, whole, side_of_bump, side_of_dip in cases:
        part = make_progression(5000, n_increasing=3, n_decreasing=3, n_dip=30, window=window, random_state=2)
        observed = np.array(part.label_names)[part.observed_labels]
        assert set(observed[bumps & cut]) == {side_of_bump}
        assert set(observed[dips & cut]) == {side_of_dip}
        assert set(observed[bumps & whole]) == {"transient"}
        assert set(observed[dips & whole]) == {"dip"}
        np.testing.assert_array_equal(part.observed_labels[rest], part.labels[rest])
        np.testing.assert_array_equal(part.labels, full.labels)


@pytest.mark.parametrize("seed", range(3))
def test_without_a_window_features_are_observed_as_what_they_are(seed):
    progression = make_progression(200, n_dip=7, n_flat=2, random_state=seed)
    np.testing.assert_array_equal(progression.observed_labels, progression.labels)


@pytest.mark.parametrize(
    ("parameters", "n_names"),
    [
        ({}, 3),
        ({"window": "low"}, 3),
        ({"window": "high"}, 3),
        ({"n_dip": 1}, 5),
        ({"n_flat": 1}, 5),
        ({"shapes": "mixed"}, 5),
        ({"n_samples": 1}, 5),  # nothing changes over a single sample
    ],
)
def test_there_is_a_name_for_every_label(parameters, n_names):
    progression = make_progression(random_state=0, **parameters)
    names = progression.label_names
    assert names == ("increasing", "decreasing", "transient", "dip", "flat")[:n_names]
    assert progression.observed_labels.shape == progression.labels.shape
    for labels in (progression.labels, progression.observed_labels):
        assert set(labels) <= set(range(n_names))
    if parameters == {"n_samples": 1}:
        assert {names[label] for label in progression.observed_labels} == {"flat"}


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
    assert progression.shape_names == ["bump"] * 3 + ["softplus"] * 3
    assert "BasisDeVAE" in progression.DESCR


@pytest.mark.parametrize("shapes", [None, ("narrow", "step")])
def test_dips_and_flat_features_are_the_last_columns(shapes):
    numbers = {"n_transient": 1, "n_increasing": 1, "n_decreasing": 1, "n_dip": 2, "n_flat": 1}
    progression = make_progression(100, **numbers, shapes=shapes, as_frame=True, random_state=0)
    names = ["transient_00", "increasing_00", "decreasing_00", "dip_00", "dip_01", "flat_00"]
    assert progression.feature_names == list(progression.data.columns) == names
    assert [progression.label_names[label] for label in progression.labels] == [name.split("_")[0] for name in names]
    bump, rise = ("bump", "softplus") if shapes is None else shapes
    assert progression.shape_names == [bump, rise, rise, bump, bump, "flat"]


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


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_samples": 0}, "'n_samples' parameter of make_progression"),
        ({"noise": -0.1}, "'noise' parameter of make_progression"),
        ({"window": "middle"}, "'window' parameter of make_progression"),
        ({"n_transient": -1}, "'n_transient' parameter of make_progression"),
        ({"n_dip": -1}, "'n_dip' parameter of make_progression"),
        ({"n_flat": 0.5}, "'n_flat' parameter of make_progression"),
        ({"shapes": 3}, "'shapes' parameter of make_progression"),
        ({"shapes": "wide"}, r"'shapes' parameter of make_progression is the string 'wide': .*shapes=\('linear'"),
        (
            {"shapes": ("wide", "peak", 1)},
            r"'shapes' parameter .* unknown names, \['peak', 1\]\. .*'two_step', 'narrow'",
        ),
        (
            {"shapes": ("linear",)},
            "'shapes' parameter .* no shape for n_transient=30: .* 'wide', .* or set n_transient=0",
        ),
        ({"shapes": ("wide",), "n_increasing": 0}, "'shapes' parameter .* n_decreasing=10: .* 'linear', 'softplus'"),
        ({"shapes": ("step",), "n_transient": 0, "n_dip": 2}, "'shapes' parameter .* no shape for n_dip=2"),
        ({"shapes": [], "n_transient": 0}, "'shapes' parameter .* no shape for n_increasing=10"),
        ({"shapes": "mixed", "n_samples": 2}, "'narrow' is seen to be 'transient' at the n_samples=2 times"),
        ({"shapes": ("linear",), "n_transient": 0, "n_samples": 1}, "raise n_samples"),
        ({"n_transient": 0, "n_increasing": 0, "n_decreasing": 0}, "asked for no features: .* n_dip and n_flat"),
        ({"n_samples": 1, "window": "high", "random_state": 5}, "None of the 1 samples .* window='high'"),
    ],
)
def test_bad_parameters_of_progression(parameters, message):
    with pytest.raises(ValueError, match=message):
        make_progression(**parameters)
