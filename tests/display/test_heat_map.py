"""Colours of heat maps can be read by colour-blind eyes: lightness goes one way, and the two ends differ."""

import numpy as np
import pytest
from display.color_vision import VISION, ciede2000, lab_seen

from skdevae.display._heat_map import AROUND_A_MIDDLE, SHARES

matplotlib = pytest.importorskip("matplotlib")


def seen(colors: str, vision: str) -> np.ndarray:
    return lab_seen(matplotlib.colormaps[colors](np.linspace(0, 1, 41))[:, :3], vision)


@pytest.mark.parametrize("vision", VISION)
def test_shares_grow_darker(vision):
    assert (np.diff(seen(SHARES, vision)[:, 0]) < -0.3).all()


@pytest.mark.parametrize("vision", VISION)
def test_values_grow_darker_away_from_the_middle_and_the_two_sides_differ(vision):
    found = seen(AROUND_A_MIDDLE, vision)
    assert (np.diff(found[:21, 0]) > 0).all()
    assert (np.diff(found[20:, 0]) < 0).all()
    assert (ciede2000(found[:17], found[::-1][:17]) > 10).all()  # the innermost fifth is nearly white on both sides
