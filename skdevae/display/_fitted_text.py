"""Fitted text: names that are no wider than the room that they have."""

from __future__ import annotations

from ._layout import import_matplotlib


def text_width(text: str, size: float) -> float:
    """Width of a line of text, in points, in the font of the figure's settings."""
    font = import_matplotlib("font_manager", "a display").FontProperties(size=size)
    # In mathtext, an unfinished formula would be an error, and a name that is one is no wider than its source.
    width, _, _ = import_matplotlib("textpath", "a display").text_to_path.get_text_width_height_descent(
        text, font, ismath=False
    )
    return float(width)


def shortened(text: str, width: float, size: float) -> str:
    """Text of which the middle is left out, as far as it is wider than ``width`` (both in points).

    Names of one table often share their beginnings (``lh_``) or their ends (``_thickness``). Both are kept.
    """
    if text_width(text, size) <= width:
        return text
    for n_kept in range(len(text) - 1, 1, -1):
        n_first = (n_kept + 1) // 2
        candidate = f"{text[:n_first].rstrip()}…{text[len(text) - (n_kept - n_first) :].lstrip()}"
        if text_width(candidate, size) <= width:
            return candidate
    return f"{text[0]}…"


def wrapped(text: str, width: float, size: float) -> str:
    """Text in one line, or in two where it is wider than ``width`` (in points); lines too wide for it are shortened."""
    if text_width(text, size) <= width or " " not in text:
        return shortened(text, width, size)
    words = text.split(" ")
    breaks = [(" ".join(words[:first]), " ".join(words[first:])) for first in range(1, len(words))]
    best = min(breaks, key=lambda lines: max(text_width(line, size) for line in lines))
    return "\n".join(shortened(line, width, size) for line in best)
