"""Palette: the colours, line styles and markers of all figures.

With any common form of colour blindness the colours can be told from each other and from the greys. Tests simulate it.
"""

from __future__ import annotations

#: Colours of curves, and of text about them: dark enough to be read on white. Of all such sets of six with a grey they
#: were chosen to be as far apart as possible for the eyes that tell them apart worst.
CURVE_COLORS = ("#34009C", "#C4530B", "#046A63", "#9844FF", "#651A0F", "#180C1B")
#: Styles of curves in the same order, so that print without colour is read as well.
LINE_STYLES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)), (0, (8, 2)), (0, (3, 1, 1, 1, 1, 1)))
#: grey of curves that are not named
UNNAMED_COLOR = "#9AA1A8"
#: grey of bars and points that stand for samples in general
SAMPLE_COLOR = "#BFC5CB"

#: colours of categories of samples
CATEGORY_COLORS = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#882255", "#CC79A7", "#000000", "#9600F0", "#6B4A00",
)  # fmt: skip
#: markers of categories: the first ten categories have the first marker, the next ten the second, and so on
CATEGORY_MARKERS = ("o", "^", "s", "P", "X")
#: grey of the draws from the prior
PRIOR_COLOR = "#BFC5CB"
#: grey of samples without a label
UNLABELLED_COLOR = "#6E757C"


def category_style(code: int) -> tuple[str, str]:
    """Colour and marker of a category."""
    n_colors = len(CATEGORY_COLORS)
    return CATEGORY_COLORS[code % n_colors], CATEGORY_MARKERS[code // n_colors]


def curve_style(rank: int) -> tuple[str, object]:
    """Colour and line style of a named curve."""
    return CURVE_COLORS[rank % len(CURVE_COLORS)], LINE_STYLES[rank % len(LINE_STYLES)]
