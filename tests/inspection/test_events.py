"""Events of curves: closed forms, and what must not matter."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import expit, logit
from scipy.stats import rankdata

from skdevae.inspection._events import EVENTS, as_quantiles, evaluation_grid, event_positions, span

AT = np.linspace(-3, 3, 2401)
BUMP = np.exp(-(AT**2) / 2)
#: where a bump has made a share of its rise from -3 to 0
RISEN = {share: -np.sqrt(-2 * np.log(BUMP[0] + share * (1 - BUMP[0]))) for share in (0.1, 0.25, 0.5, 0.9)}


def positions(*curves, at=AT):
    """Every event of some curves: (events, curves)."""
    return np.array([event_positions(np.stack(curves, axis=1), at, event) for event in EVENTS])


def test_a_straight_line_has_made_a_share_of_its_change_at_that_share_of_the_way():
    assert_allclose(positions(AT, -AT), [[-2.4, -2.4], [0, 0], [np.nan, np.nan], [2.4, 2.4]], atol=1e-12)
    assert_allclose(event_positions(AT[:, None], AT, 0.25), -1.5)


def test_a_sigmoid_between_its_ends():
    low, high = expit([2 * AT[0], 2 * AT[-1]])
    expected = [logit(low + share * (high - low)) / 2 for share in (0.1, 0.5, 0.9)]
    assert_allclose(positions(expit(2 * AT))[[0, 1, 3], 0], expected, atol=1e-5)


def test_a_saturated_curve_does_not_turn():
    found = positions(expit(30 * AT), 1 - expit(30 * AT) + 1e-15 * np.cos(50 * AT))
    assert_allclose(found[1], 0, atol=1e-6)
    assert np.isnan(found[2]).all()
    assert_allclose(found[3], logit(0.9) / 30, atol=1e-4)


@pytest.mark.parametrize("overshoot, turns", [(0.08, False), (0.13, True)])
def test_a_curve_that_falls_back_by_less_than_a_tenth_does_not_turn(overshoot, turns):
    curve = np.where(AT < 2, (3 + AT) / 5, 1 - overshoot * (AT - 2))
    onset, half, peak, end = positions(curve)[:, 0]
    change = 1 if turns else 1 - overshoot
    assert_allclose([onset, half], [-3 + 0.5 * change, -3 + 2.5 * change], atol=1e-12)
    assert_allclose([peak, end], [2, 2.9] if turns else [np.nan, -3 + 4.5 * change], atol=1e-12)


def test_a_bump_rises_peaks_and_falls():
    onset, half, peak, end = positions(BUMP)[:, 0]
    assert_allclose([onset, half, peak, end], [RISEN[0.1], RISEN[0.5], 0, -RISEN[0.1]], atol=1e-5)
    assert_allclose(event_positions(BUMP[:, None], AT, 0.25), RISEN[0.25], atol=1e-5)


def test_a_bump_that_ends_far_below_its_start_is_a_fall_that_has_a_peak():
    curve = np.where(AT < -2, 3 + AT, 1 - 0.8 * (AT + 2))  # from 0 up to 1 at -2, then down to -3 at 3
    onset, half, peak, end = positions(curve)[:, 0]
    assert_allclose([onset, half, peak, end], [-2 + 1.3 / 0.8, -2 + 2.5 / 0.8, -2, -2 + 3.7 / 0.8], atol=1e-12)


def test_curves_that_do_not_change_have_no_events():
    assert np.isnan(positions(np.full_like(AT, 7.0), np.full_like(AT, np.nan), 1e6 + 1e-6 * BUMP * 1e-5)).all()


@pytest.mark.parametrize("slope", [2.5, -1e-3])
def test_units_do_not_matter(slope):
    curves = (AT, expit(AT - 1), BUMP, np.exp(-((AT + 1) ** 2)), np.cos(2 * AT))
    changed = [3 + slope * curve for curve in curves]
    assert_allclose(positions(*changed), positions(*curves), atol=1e-9)


def test_reversing_the_axis_exchanges_onset_and_end():
    curves = np.stack([AT**3, expit(AT - 1), -np.exp(AT)], axis=1)
    there, back = positions(*curves.T), positions(*curves[::-1].T, at=-AT[::-1])
    assert_allclose(back[[3, 1, 0]], -there[[0, 1, 3]], atol=1e-12)
    assert_allclose(positions(BUMP[::-1], at=-AT[::-1])[2], 0, atol=1e-12)


def test_events_of_one_curve_are_in_order():
    curves = [AT, expit(3 * AT), BUMP, -BUMP, np.exp(-((AT - 1) ** 2))]
    onset, half, peak, end = positions(*curves)
    assert (onset < half).all()
    assert (half < end).all()
    assert (half < peak)[2:].all()
    assert (peak < end)[2:].all()


def test_stretching_the_axis_moves_events_along():
    """Quantiles of samples do not depend on how the axis is measured."""
    z, samples = np.linspace(-2, 2, 4001), np.random.default_rng(0).normal(size=200)
    curves = np.stack([expit(3 * z), np.exp(-(z**2))], axis=1)
    for event in EVENTS:
        plain = as_quantiles(event_positions(curves, z, event), samples)
        stretched = as_quantiles(event_positions(curves, np.sinh(z), event), np.sinh(samples))
        assert_allclose(stretched, plain, atol=2e-5)


def test_quantiles_are_shares_of_the_samples():
    samples = np.random.default_rng(1).permutation(np.arange(10.0))
    assert_allclose(as_quantiles([-1, 2, 3, np.nan], np.full(4, 2.0)), [0, 0.5, 1, np.nan])
    assert_allclose(as_quantiles([-1, 0, 0.5, 4.5, 9, 10, np.nan], samples), [0, 0.05, 0.1, 0.5, 0.95, 1, np.nan])
    assert_allclose(as_quantiles([1.0], [0, 1, 1, 1, 2]), 0.5)


def test_quantiles_of_samples_at_their_own_positions_are_mid_ranks():
    samples = np.random.default_rng(2).integers(0, 20, size=100)
    assert_allclose(as_quantiles(samples, samples), (rankdata(samples) - 0.5) / 100)


def test_reversing_the_axis_reverses_quantiles():
    samples = np.random.default_rng(3).normal(size=50)
    at = np.linspace(-4, 4, 33)
    assert_allclose(as_quantiles(-at, -samples), 1 - as_quantiles(at, samples))
    assert_allclose(span(-samples), np.negative(span(samples))[::-1])


def test_weights_are_copies():
    rng = np.random.default_rng(4)
    samples, weights, at = rng.normal(size=30), rng.integers(0, 4, size=30), np.linspace(-2, 2, 9)
    copies = np.repeat(samples, weights)
    assert_allclose(as_quantiles(at, samples, 0.3 * weights), as_quantiles(at, copies))
    assert_allclose(span(samples, 0.3 * weights), span(copies))


@pytest.mark.parametrize("n, share", [(5000, 0.01), (500, 0.02), (50, 0.05)])
def test_curves_are_judged_where_nearly_all_samples_are(n, share):
    samples = np.random.default_rng(5).normal(size=n)
    assert_allclose(span(samples), np.quantile(samples, [share, 1 - share], method="hazen"))
    grid = evaluation_grid(np.append(samples, 1e6), n=11)
    assert grid.shape == (11,)
    assert_allclose(np.diff(grid), (grid[-1] - grid[0]) / 10)
    assert grid[-1] < 3


@pytest.mark.parametrize("event", ["start", 0, 1.0, -0.5, True, None, np.nan, "0.5"])
def test_what_is_no_event_is_refused(event):
    with pytest.raises(ValueError, match="event must be one of 'onset', 'half_change', 'peak', 'end', or a share"):
        event_positions(AT[:, None], AT, event)


def test_copies_that_differ_by_rounding_are_copies():
    samples = np.random.default_rng(0).normal(size=300)
    rounded = samples + 1e-15 * np.random.default_rng(1).normal(size=300)
    assert_allclose(span(np.r_[samples, rounded]), span(np.r_[samples, samples]), rtol=1e-12)
