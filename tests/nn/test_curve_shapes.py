"""Shapes of curves, against the rules as they are written down: every pair of bins, every turning point."""

import itertools

import numpy as np
import pytest
import torch

from skdevae.nn.curve_shapes import broken_rules, greatest_fall, shapes_of, shapes_of_both_signs

NAMES = ("increasing", "decreasing", "transient", "dip")
NEGATED = {"increasing": "decreasing", "decreasing": "increasing", "transient": "dip", "dip": "transient"}
REVERSED = {"increasing": "decreasing", "decreasing": "increasing", "transient": "transient", "dip": "dip"}
OFFERED = [
    (*NAMES, "free", "flat"),
    NAMES,
    ("flat", "dip", "transient", "decreasing", "increasing"),
    ("transient", "flat", "increasing"),
    ("dip", "decreasing"),
    ("transient", "dip"),
    ("increasing",),
    ("transient",),
    ("free", "flat"),
]
MARGINS = [0.0625, 0.25, 0.5, 0.9375]  # sums of few powers of two, so that products with whole numbers are exact


def _curves(n_bins=7, n_curves=400, seed=0):
    """Random curves of whole numbers, so that nothing is rounded and ties occur: monotone, peaked and wild ones."""
    random = np.random.default_rng(seed)
    curves = random.integers(-8, 9, (n_bins, n_curves)).astype(float)
    monotone, peaked = np.array_split(np.arange(n_curves), 4)[:2]
    curves[:, monotone] = np.sort(curves[:, monotone], axis=0)
    turn = random.integers(0, n_bins, len(peaked))
    for column, at in zip(peaked, turn, strict=True):
        curves[:at, column].sort()
        curves[at:, column] = -np.sort(-curves[at:, column])
    curves[:, ::2] += random.integers(-1, 2, (n_bins, len(range(0, n_curves, 2))))  # some break their rule a little
    curves[:, ::3] *= -1
    return torch.from_numpy(curves)


def _broken_by_brute_force(curve, name):
    if name in ("decreasing", "dip"):
        return _broken_by_brute_force([-value for value in curve], NEGATED[name])

    def fall(part):
        return max([earlier - later for earlier, later in itertools.combinations(part, 2)] + [0])

    if name == "increasing":
        return fall(curve)
    return min(max(fall(curve[: at + 1]), fall(curve[at:][::-1])) for at in range(len(curve)))


def _shape_by_brute_force(curve, behaviors, margin):
    tolerance = margin * (max(curve) - min(curve))
    for group in (NAMES[:2], NAMES[2:]):  # the simpler ones first
        broken = {name: _broken_by_brute_force(curve, name) for name in group if name in behaviors}
        shown = [name for name in group if name in broken and broken[name] < tolerance]
        if shown:
            return min(shown, key=lambda name: broken[name])
    return None


def _names(shapes, behaviors):
    return [behaviors[position] if position >= 0 else None for position in shapes.tolist()]


@pytest.mark.parametrize("n_bins", [1, 2, 3, 7])
def test_rules_are_broken_by_the_greatest_change_over_all_pairs_of_bins(n_bins):
    curves = _curves(n_bins)
    broken = broken_rules(curves, NAMES)
    assert set(broken) == set(NAMES)
    for name in NAMES:
        expected = [_broken_by_brute_force(curve, name) for curve in curves.T.tolist()]
        assert broken[name].tolist() == expected


def test_greatest_fall_is_that_up_to_every_bin():
    curves = _curves()
    expected = [
        [_broken_by_brute_force(curve[: at + 1], "increasing") for curve in curves.T.tolist()] for at in range(7)
    ]
    assert greatest_fall(curves).tolist() == expected


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("behaviors", OFFERED, ids="-".join)
def test_shapes_are_those_of_the_rules(behaviors, margin):
    curves = _curves()
    found = _names(shapes_of(curves, behaviors, margin), behaviors)
    assert found == [_shape_by_brute_force(curve, behaviors, margin) for curve in curves.T.tolist()]
    ruled = set(behaviors) & set(NAMES)
    # Whatever is offered is found somewhere. A dip need not be, where it ties with a peak in all curves that fall.
    assert set(found) >= ruled - ({"dip"} if "transient" in ruled and "increasing" not in ruled else set())
    assert set(found) <= ruled | {None}


def test_of_several_behaviors_the_simplest_is_shown():
    """A monotone curve keeps the rule of a peak at its end, and yet it is monotone."""
    curves = torch.tensor([[0.0, 1, 2, 3], [3, 2, 1, 0], [0, 2, 1.9, 3], [0, 3, 2, 0], [3, 0, 1, 3]]).T
    assert _names(shapes_of(curves, NAMES, 0.15), NAMES) == ["increasing", "decreasing", "increasing", *NAMES[2:]]
    # what is not offered is not shown, and the next simple one takes its place
    assert _names(shapes_of(curves, NAMES[2:], 0.15), NAMES[2:])[:3] == ["transient"] * 3
    assert _names(shapes_of(curves, NAMES[:2], 0.15), NAMES[:2])[3:] == [None, None]


@pytest.mark.parametrize("margin", MARGINS)
def test_the_order_of_names_does_not_matter(margin):
    curves = _curves(seed=1)
    expected = _names(shapes_of(curves, NAMES, margin), NAMES)
    for order in itertools.permutations(NAMES):
        assert _names(shapes_of(curves, order, margin), order) == expected


@pytest.mark.parametrize("behaviors", [names for names in OFFERED if len({*names} & {*NAMES[:2]}) != 1], ids="-".join)
@pytest.mark.parametrize("margin", MARGINS)
def test_reversing_the_axis_swaps_rising_and_falling(behaviors, margin):
    curves = _curves(seed=2)
    before = _names(shapes_of(curves, behaviors, margin), behaviors)
    after = _names(shapes_of(curves.flip(0), behaviors, margin), behaviors)
    assert after == [name and REVERSED[name] for name in before]


@pytest.mark.parametrize("margin", MARGINS)
def test_negation_swaps_both_pairs(margin):
    curves = _curves(seed=3)
    broken, of_negatives = broken_rules(curves, NAMES), broken_rules(-curves, NAMES)
    for name in NAMES:
        assert torch.equal(of_negatives[NEGATED[name]], broken[name])
    before, after = (_names(shapes_of(sign * curves, NAMES, margin), NAMES) for sign in (1, -1))
    tied = (broken["transient"] == broken["dip"]).tolist()  # of a peak and a dip that fit as well, a curve has a peak
    decided = [at for at in range(len(before)) if before[at] not in NAMES[2:] or not tied[at]]
    assert len(decided) > 300
    assert [after[at] for at in decided] == [before[at] and NEGATED[before[at]] for at in decided]


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("behaviors", OFFERED, ids="-".join)
def test_units_do_not_matter(behaviors, margin):
    curves = _curves(seed=4)
    scale, offset = torch.from_numpy(np.random.default_rng(0).integers(1, 9, (2, curves.shape[1])).astype(float))
    assert torch.equal(shapes_of(curves * scale - offset, behaviors, margin), shapes_of(curves, behaviors, margin))


@pytest.mark.parametrize("behaviors", OFFERED, ids="-".join)
def test_a_larger_margin_keeps_what_is_shown_or_finds_something_simpler(behaviors):
    simplicity = {**dict.fromkeys(NAMES[:2], 0), **dict.fromkeys(NAMES[2:], 1), None: 2}
    curves = _curves(seed=5)
    by_margin = [_names(shapes_of(curves, behaviors, margin), behaviors) for margin in MARGINS]
    for smaller, larger in itertools.pairwise(by_margin):
        for before, after in zip(smaller, larger, strict=True):
            assert after == before or simplicity[after] < simplicity[before]


@pytest.mark.parametrize("margin", MARGINS)
def test_a_constant_curve_shows_nothing(margin):
    assert shapes_of(torch.full((6, 3), 2.5), NAMES, margin).tolist() == [-1, -1, -1]


def test_dimensions_after_the_first_are_curves_of_their_own():
    curves = _curves(seed=6).view(7, 20, 20)
    together = shapes_of(curves, NAMES, 0.25)
    one_by_one = [[shapes_of(curve, NAMES, 0.25).item() for curve in row.T] for row in curves.unbind(1)]
    assert together.tolist() == one_by_one


@pytest.mark.parametrize("behaviors", OFFERED, ids="-".join)
def test_both_signs_are_judged_as_each_of_them(behaviors):
    curves = _curves()
    ours, of_negatives = shapes_of_both_signs(curves, behaviors, 0.25)
    assert torch.equal(ours, shapes_of(curves, behaviors, 0.25))
    assert torch.equal(of_negatives, shapes_of(-curves, behaviors, 0.25))
