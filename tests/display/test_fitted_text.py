"""Names fit the room that they have, and keep what tells them apart."""

import pytest

from skdevae.display._fitted_text import shortened, text_width, wrapped

pytest.importorskip("matplotlib")

NAMES = ("x", "worst fractal dimension", "lh_superiorfrontal_thickness", "$unfinished", "größer als 7")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("room", [25.0, 60.0, 500.0])
def test_a_name_is_no_wider_than_its_room_and_no_shorter_than_that_asks(name, room):
    fitted = shortened(name, room, size=7)
    assert text_width(fitted, 7) <= room
    if text_width(name, 7) <= room:
        assert fitted == name
    else:
        head, tail = fitted.split("…")
        assert name.startswith(head)
        assert name.endswith(tail)
        assert text_width(f"{head}mm…{tail}", 7) > room


def test_both_ends_are_kept():
    fitted = {shortened(f"{side}_superiorfrontal_{kind}", 60, 7) for side in ("lh", "rh") for kind in ("area", "mean")}
    assert len(fitted) == 4


def test_something_is_left_where_there_is_no_room():
    assert shortened("feature", 0, 7) == "f…"


def test_width_grows_with_the_size_of_the_text():
    assert text_width("feature", 14) == pytest.approx(2 * text_width("feature", 7), rel=0.02)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("room", [25.0, 60.0, 500.0])
def test_two_lines_keep_more_than_one(name, room):
    fitted = wrapped(name, room, size=7)
    assert all(text_width(line, 7) <= room for line in fitted.split("\n"))
    assert len(fitted) >= len(shortened(name, room, size=7))
    if "…" not in fitted:
        assert fitted.split() == name.split()


def test_lines_break_where_they_are_as_even_as_words_allow():
    assert wrapped("worst fractal dimension", 60, 7) == "worst fractal\ndimension"
