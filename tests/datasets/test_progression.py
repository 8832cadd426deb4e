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
