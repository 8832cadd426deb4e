"""Colours of figures are told apart by all eyes, and names in them are read on white."""

import itertools

import numpy as np
import pytest
from display.color_vision import VISION, ciede2000, contrast_with_white, lab_seen

from skdevae.display._palette import (
    CATEGORY_COLORS,
    CATEGORY_MARKERS,
    CURVE_COLORS,
    LINE_STYLES,
    PRIOR_COLOR,
    UNLABELLED_COLOR,
    UNNAMED_COLOR,
    category_style,
    curve_style,
)


def rgb(color: str) -> np.ndarray:
    return np.array([int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)])


def cie1976(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one - other))


def least_distance(colors, vision: str, difference=ciede2000) -> float:
    labs = [lab_seen(rgb(color), vision) for color in colors]
    return min(float(difference(*pair)) for pair in itertools.combinations(labs, 2))


@pytest.mark.parametrize(
    "one, other, difference",
    [  # of the table in Sharma, Wu and Dalal (2005)
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.5, 0), (50, 0, -2.5), 4.3065),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((50, 0, 0), (50, -1, 2), 2.3669),
        ((2.0776, 0.0795, -1.135), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_differences_of_colours_are_those_that_were_published(one, other, difference):
    assert ciede2000(one, other) == pytest.approx(difference, abs=1e-4)
    assert ciede2000(other, one) == pytest.approx(difference, abs=1e-4)


def test_the_simulation_sees_what_colour_blind_eyes_do_not():
    """Two colours of an older palette, which full vision tells apart at once."""
    pair = ("#C44E00", "#6B5B00")
    assert least_distance(pair, "full") > 20 > 5 > least_distance(pair, "protanopia")


@pytest.mark.parametrize("vision", VISION)
def test_curves_are_told_apart_from_each_other_and_from_those_without_a_name(vision):
    assert least_distance([*CURVE_COLORS, UNNAMED_COLOR], vision) > 23


@pytest.mark.parametrize("vision", VISION)
def test_categories_are_told_apart_from_each_other_and_from_greys(vision):
    """About 2 of these differences can just be noticed."""
    assert least_distance([*CATEGORY_COLORS, PRIOR_COLOR, UNLABELLED_COLOR, "#FFFFFF"], vision, cie1976) > 14


def test_names_in_the_colours_of_curves_are_read_on_white():
    assert min(contrast_with_white(rgb(color)) for color in CURVE_COLORS) >= 4.5


def test_no_two_of_so_many_curves_or_categories_look_alike():
    n_colors = len(CURVE_COLORS)
    assert len(set(LINE_STYLES)) == n_colors  # told apart without colour, too
    assert [curve_style(rank) for rank in range(n_colors)] == list(zip(CURVE_COLORS, LINE_STYLES, strict=True))
    n_categories = len(CATEGORY_COLORS) * len(CATEGORY_MARKERS)
    assert len({category_style(code) for code in range(n_categories)}) == n_categories
