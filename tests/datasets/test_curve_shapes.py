"""Curves of make_progression follow their formulas, show what they were drawn as, and are judged by the rule alone."""

from itertools import combinations

import numpy as np
import pytest
from scipy.optimize import least_squares

from skdevae.datasets import make_progression
from skdevae.datasets._curve_shapes import BUMPS, RISES, shown_behaviors
from skdevae.datasets._shapes import BEHAVIOR_NAMES

NUMBERS = {"n_transient": 10, "n_increasing": 14, "n_decreasing": 14, "n_dip": 10, "n_flat": 2}


def shown(*curves):
    """Names of the behaviours that curves show, each given in the order of time."""
    return [BEHAVIOR_NAMES[label] for label in shown_behaviors(np.array(curves, dtype=float).T)]


def of_shape(name, n_features, n_samples=200, seed=0, **parameters):
    """Features of one shape, rises or bumps, in the order of time: positions between 0 and 1, and curves."""
    kind = "n_increasing" if name in RISES else "n_transient"
    numbers = {"n_transient": 0, "n_increasing": 0, "n_decreasing": 0, kind: n_features} | parameters
    progression = make_progression(n_samples, **numbers, shapes=[name], random_state=seed)
    in_order = np.argsort(progression.times)
    return (progression.times[in_order] + 3) / 6, progression.curves[in_order]


# ---- the behaviour that a curve shows --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("curve", "behavior"),
    [
        ([0, 1, 2, 3], "increasing"),
        ([0, 0, 0, 1], "increasing"),
        ([3, 2, 2, -5], "decreasing"),
        ([0, 1, 0], "transient"),
        ([0, 5, 5, 4], "transient"),
        ([1, 0, 1], "dip"),
        ([0, -7, -1], "dip"),
        ([4, 4, 4], "flat"),
        ([1, 1 + 1e-10, 1], "flat"),
        ([2], "flat"),
        # Falls of 1.99 % and 2.01 % of the range, at the end and on the way.
        ([0, 100, 98.01], "increasing"),
        ([0, 100, 97.99], "transient"),
        ([0, 50, 48.01, 100], "increasing"),
        ([100, 0, 1.99], "decreasing"),
        ([100, 0, 2.01], "dip"),
        ([0, 50, 48.01, 100, 0], "transient"),
        # The margin is a share of the range: the same falls in a curve of a tenth of the range.
        ([0, 10, 8.01], "transient"),
        # Monotone goes first: as a transient this curve is not broken at all.
        ([0, 0.5, 1, 0.99], "increasing"),
        # Small falls add up where nothing rises between them.
        ([0, 50, 49, 48, 47, 100, 0], "transient"),
        ([0, 50, 49, 48, 47, 100], "increasing"),
        # No rule holds: the transient is broken by the rise of 3 alone, the dip by the rise of 10.
        ([0, 10, 2, 5, 0], "transient"),
        ([0, -10, -2, -5, 0], "dip"),
    ],
)
def test_behaviors_of_curves_made_by_hand(curve, behavior):
    assert shown(curve) == [behavior]


def by_brute_force(curve):
    """The behaviour of a curve of whole numbers, with all pairs of times and all turns, and in whole numbers."""

    def fall(values):
        return max((first - second for first, second in combinations(values, 2)), default=0)

    def rise(values):
        return max((second - first for first, second in combinations(values, 2)), default=0)

    extent = max(curve) - min(curve)
    if extent == 0:
        return "flat", None
    turns = range(len(curve))
    broken = {
        "increasing": max(0, fall(curve)),
        "decreasing": max(0, rise(curve)),
        "transient": min(max(0, fall(curve[: m + 1]), rise(curve[m:])) for m in turns),
        "dip": min(max(0, rise(curve[: m + 1]), fall(curve[m:])) for m in turns),
    }
    holds = [name for name in broken if 50 * broken[name] < extent]
    candidates = [name for name in ("increasing", "decreasing") if name in holds] or holds or list(broken)
    return min(candidates, key=broken.__getitem__), bool(holds)


def test_behaviors_agree_with_brute_force():
    random = np.random.RandomState(0)
    seen = set()
    for n_times in (1, 2, 3, 4, 6, 9):
        curves = [random.randint(0, 3, size=n_times) for _ in range(60)]
        curves += [random.randint(0, 200, size=n_times) for _ in range(60)]
        # Long ways with small steps back, which are within the margin and beyond it.
        for behavior in ([1], [-1], [1, -1], [-1, 1]):
            signs = np.repeat(behavior, -(-n_times // len(behavior)))[:n_times]
            for _ in range(60):
                steps = signs * random.randint(0, 100, size=n_times)
                curves.append(np.cumsum(steps) + random.randint(0, 9, size=n_times))
        expected = [by_brute_force([int(value) for value in curve]) for curve in curves]
        assert shown(*curves) == [name for name, _ in expected]
        seen |= set(expected)
    # Every behaviour occurred as one that is shown, and turns also as the ones that are broken least.
    assert {(name, True) for name in BEHAVIOR_NAMES[:4]} | {("flat", None)} < seen
    assert {("transient", False), ("dip", False)} < seen


# ---- the shapes ------------------------------------------------------------------------------------------------------


def logistic(x):
    return 0.5 * (1 + np.tanh(x / 2))


def bump(u, peak, sd):
    return np.exp(-((u - peak) ** 2) / (2 * sd**2))


#: formula of each shape, and the intervals of its parameters
FORMULAS = {
    "linear": (lambda u: u, []),
    "softplus": (lambda u, k, c: np.log(1 + np.exp(k * (u - c))), [(4, 15), (0.2, 0.8)]),
    "sigmoid": (lambda u, k, c: 1 / (1 + np.exp(-k * (u - c))), [(5, 40), (0.1, 0.9)]),
    "saturating": (lambda u, k: 1 - np.exp(-k * u), [(2, 8)]),
    "logarithmic": (lambda u, log_k: np.log(1 + np.exp(log_k) * u), [(1.6, 3.9)]),
    "step": (lambda u, c: logistic(300 * (u - c)), [(0.15, 0.85)]),
    "two_step": (
        lambda u, k, m, c, d, w: w * logistic(k * (u - c)) + (1 - w) * logistic(m * (u - d)),
        [(20, 50), (20, 50), (0.15, 0.4), (0.6, 0.85), (0.3, 0.7)],
    ),
    "narrow": (bump, [(0.2, 0.8), (0.05, 0.1)]),
    "wide": (bump, [(0.3, 0.7), (0.12, 0.25)]),
    "skewed": (
        lambda u, c, narrow, wide: np.where(u < c, bump(u, c, narrow), bump(u, c, wide)),
        [(0.35, 0.65), (0.05, 0.12), (0.2, 0.35)],
    ),
    "flat_topped": (
        lambda u, k, m, c, w: logistic(k * (u - c + w / 2)) * logistic(-m * (u - c - w / 2)),
        [(20, 60), (20, 60), (0.4, 0.6), (0.2, 0.5)],
    ),
    "near_end": (bump, [(0, 1), (0.12, 0.3)]),
}


def from_zero_to_one(values):
    return (values - values.min()) / np.ptp(values)


def best_fit(name, u, curve, turned):
    """Parameters within their intervals with which a formula is closest to a curve, and its greatest distance."""
    formula, intervals = FORMULAS[name]

    def model(parameters):
        values = -formula(1 - u, *parameters) if turned and name in RISES else formula(u, *parameters)
        if turned and name in BUMPS:  # a bump as it looks from the other end
            values = formula(1 - u, *parameters)
        return from_zero_to_one(values)

    if not intervals:
        return [], np.abs(model([]) - curve).max()
    low, high = np.array(intervals, dtype=float).T
    random = np.random.RandomState(0)
    best, smallest = None, np.inf
    for start in (low + (high - low) * random.uniform(0.02, 0.98, size=len(low)) for _ in range(60)):
        fit = least_squares(lambda p: model(p) - curve, start, bounds=(low, high), x_scale=high - low, xtol=1e-12)
        distance = np.abs(fit.fun).max()
        if distance < smallest:
            best, smallest = fit.x, distance
        if smallest < 1e-5:
            break
    return best, smallest


def test_every_shape_has_a_formula_here():
    assert set(FORMULAS) == set(RISES) | set(BUMPS)


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize("name", FORMULAS)
def test_curves_follow_their_formulas(name):
    u, curves = of_shape(name, 4)
    found = []
    for curve in curves.T:
        parameters, distance = min(
            (best_fit(name, u, curve, turned) for turned in (False, True)), key=lambda fit: fit[1]
        )
        assert distance < 1e-5
        found.append(parameters)
    # Each parameter is drawn for each curve, and apart from the other parameters.
    intervals = FORMULAS[name][1]
    places = [(values - low) / (high - low) for values, (low, high) in zip(np.transpose(found), intervals, strict=True)]
    assert all(np.ptp(values) > 0.1 for values in places)
    assert all(np.abs(one - other).max() > 0.1 for one, other in combinations(places, 2))


@pytest.mark.parametrize("seed", range(3))
def test_near_an_end_a_bump_loses_a_fifth_to_a_half_of_its_height(seed):
    u, curves = of_shape("near_end", 6, seed=seed)
    assert {bool(late) for late in curves.argmax(axis=0) > 100} == {False, True}
    for curve in curves.T:
        (peak, sd), distance = best_fit("near_end", u, curve, turned=False)
        assert distance < 1e-5
        end = np.quantile(u, 0.98 if peak > 0.5 else 0.02)
        assert 0.5 - 1e-3 < bump(end, peak, sd) < 0.8 + 1e-3


def test_skewed_bumps_are_steep_on_either_side():
    u, curves = of_shape("skewed", 20)
    upper = [u[curve > 0.6] for curve in curves.T]
    peaks = u[curves.argmax(axis=0)]
    is_steep_first = [peak - high[0] < high[-1] - peak for peak, high in zip(peaks, upper, strict=True)]
    assert set(is_steep_first) == {False, True}


@pytest.mark.parametrize("name", ["saturating", "logarithmic"])
def test_half_of_the_rises_are_turned(name):
    u, curves = of_shape(name, 200)
    # Before it is turned, such a curve is above the straight line.
    n_turned = (curves.mean(axis=0) < from_zero_to_one(u).mean()).sum()
    assert abs(n_turned - 100) < 5 * np.sqrt(200 / 4)


@pytest.mark.parametrize("name", RISES)
def test_rises_are_monotone_at_all_times(name):
    _, curves = of_shape(name, 15, n_decreasing=15, seed=3)
    # Where a curve is level, its values may differ by rounding.
    assert (np.diff(curves[:, :15], axis=0) > -1e-12).all()
    assert (np.diff(curves[:, 15:], axis=0) < 1e-12).all()


@pytest.mark.parametrize("name", BUMPS)
def test_bumps_turn_once(name):
    _, curves = of_shape(name, 15, n_dip=15, seed=3)
    for bump_, dip in zip(curves[:, :15].T, curves[:, 15:].T, strict=True):
        for curve in (bump_, -dip):
            peak = curve.argmax()
            assert (np.diff(curve[: peak + 1]) > -1e-12).all()
            assert (np.diff(curve[peak:]) < 1e-12).all()
            # Both sides are visible: 2 % of the range.
            assert max(curve[0], curve[-1]) < curve.max() - 0.02


# ---- tables of many shapes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_samples", [60, 150, 500])
@pytest.mark.parametrize("seed", range(5))
def test_features_are_observed_as_they_were_drawn_and_have_range_one(n_samples, seed):
    progression = make_progression(n_samples, **NUMBERS, shapes="mixed", random_state=seed)
    assert set(progression.labels) == set(range(5))
    np.testing.assert_array_equal(progression.observed_labels, progression.labels)
    ranges = progression.curves.max(axis=0) - progression.curves.min(axis=0)
    np.testing.assert_array_equal(ranges, np.where(progression.labels == 4, 0.0, 1.0))


@pytest.mark.parametrize("window", ["low", "high"])
def test_windows_cut_rows_and_judge_what_is_left(window):
    full = make_progression(300, **NUMBERS, shapes="mixed", random_state=1)
    part = make_progression(300, **NUMBERS, shapes="mixed", random_state=1, window=window)
    kept = full.times < 1 if window == "low" else full.times > -1
    for field in ("data", "curves", "times"):
        np.testing.assert_array_equal(part[field], full[field][kept])
    np.testing.assert_array_equal(part.labels, full.labels)
    assert part.shape_names == full.shape_names
    np.testing.assert_array_equal(part.observed_labels, shown_behaviors(part.curves[np.argsort(part.times)]))
    assert (part.observed_labels != part.labels).any()


def test_a_step_outside_of_the_window_is_not_observed():
    parameters = {"n_transient": 0, "n_increasing": 20, "n_decreasing": 20, "shapes": ["step"], "random_state": 0}
    full, part = make_progression(**parameters), make_progression(**parameters, window="low")
    # Where a step of height 1 is half done. At a distance of 0.6 it is exp(-300 / 6 * 0.6), some 1e-13, from level.
    steps = full.times[np.abs(np.abs(full.curves - full.curves.min(axis=0)) - 0.5).argmin(axis=0)]
    before, after = steps < 0.8, steps > 1.6
    assert before.any()
    assert after.any()
    np.testing.assert_array_equal(part.observed_labels[before], part.labels[before])
    assert {part.label_names[label] for label in part.observed_labels[after]} == {"flat"}


def test_features_of_a_kind_take_turns():
    numbers = {"n_transient": 3, "n_increasing": 5, "n_decreasing": 2, "n_dip": 1, "n_flat": 1}
    named = make_progression(100, **numbers, shapes=("wide", "step", "narrow", "linear"), random_state=0)
    assert named.shape_names == [
        *("wide", "narrow", "wide"),
        *("step", "linear", "step", "linear", "step"),
        *("step", "linear"),
        "wide",
        "flat",
    ]
    # The straight line tells that a curve has the shape of its name.
    u = from_zero_to_one(named.times)
    is_line = [min(np.abs(curve - u).max(), np.abs(curve + u).max()) < 1e-9 for curve in named.curves.T]
    assert is_line == [name == "linear" for name in named.shape_names]


def test_mixed_stands_for_all_shapes():
    progression = make_progression(200, n_transient=5, n_increasing=7, n_decreasing=7, shapes="mixed", random_state=0)
    assert progression.shape_names == [*BUMPS, *RISES, *RISES]
    again = make_progression(
        200, n_transient=5, n_increasing=7, n_decreasing=7, shapes=[*RISES, *BUMPS], random_state=0
    )
    np.testing.assert_array_equal(progression.data, again.data)


def test_same_seed_same_curves():
    first, again, other = (
        make_progression(100, **NUMBERS, shapes="mixed", random_state=seed) for seed in (5, np.random.RandomState(5), 6)
    )
    np.testing.assert_array_equal(first.data, again.data)
    assert (first.curves != other.curves).any(axis=0)[first.labels < 4].all()


def test_noise_only_scales_the_residuals():
    none, some = (make_progression(4000, shapes="mixed", noise=noise, n_dip=2, random_state=0) for noise in (0.0, 0.5))
    np.testing.assert_array_equal(none.data, none.curves)
    np.testing.assert_array_equal(some.curves, none.curves)
    residuals = some.data - some.curves
    assert residuals.std() == pytest.approx(0.5, rel=5 / np.sqrt(2 * residuals.size))
