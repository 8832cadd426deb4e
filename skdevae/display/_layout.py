"""Layout: where the panels and the legend of a figure go."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .._optional import import_optional

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

Corner: TypeAlias = Literal["upper right", "upper left", "lower right", "lower left"]

#: widths of one column and of two in a journal, in inches: 89 mm and 183 mm
ONE_COLUMN, TWO_COLUMNS = 3.5, 7.2
#: sizes of the names of axes, and of the smallest text that can be read in print, in points
TEXT, SMALL_TEXT = 8.0, 7.0
#: height of a panel as a share of the width that it has with all that belongs to it, and what its text takes in inches
_PANEL_HEIGHT, _TEXT_HEIGHT = 0.5, 0.6
#: how far a legend in a corner reaches, as shares of the width and height of the Axes
_CORNER = (0.4, 0.3)
#: share of a figure's width that its legend may take before the figure is widened
_LEGEND_SHARE = 0.2


def import_matplotlib(part: str, display: str) -> Any:
    """A module of matplotlib, such as "pyplot", or an error that says which display needs matplotlib."""
    return import_optional(f"matplotlib.{part}", extra="plot", purpose=f"{display} draws with matplotlib")


def arrange_panels(ax: Any, n_panels: int, n_cols: int, display: str, height: float | None = None) -> NDArray[Any]:
    """One Axes for each panel, (n_panels,): those given, parts of the one that is given, or those of a new figure.

    A new figure is as wide as one column of a journal, or as two; each of its panels is ``height`` inches high.
    """
    plt = import_matplotlib("pyplot", display)
    if ax is not None and not isinstance(ax, plt.Axes):
        given = np.array(ax, dtype=object).ravel()
        if len(given) != n_panels or not all(isinstance(axes, plt.Axes) for axes in given):
            raise ValueError(
                f"ax is not {n_panels} matplotlib Axes, but {display} has {n_panels} panels to draw: give one for each."
            )
        return given
    if ax is not None and n_panels == 1:
        return np.array([ax], dtype=object)
    n_cols = min(n_cols, n_panels)
    n_rows = math.ceil(n_panels / n_cols)
    if ax is None:
        width = ONE_COLUMN if n_cols == 1 else TWO_COLUMNS
        if height is None:
            height = _PANEL_HEIGHT * width / n_cols + _TEXT_HEIGHT
        figure = plt.figure(figsize=(width, n_rows * height), layout="constrained")
        places = figure.add_gridspec(n_rows, n_cols)
    else:
        place = ax.get_subplotspec()
        if place is None:
            raise ValueError(
                f"ax is not part of a grid, so it cannot be divided into panels: give {n_panels} Axes, one for each."
            )
        figure, places = ax.figure, place.subgridspec(n_rows, n_cols)
        ax.set_axis_off()
    return np.array([figure.add_subplot(places[panel]) for panel in range(n_panels)], dtype=object)


def is_outermost(axes: Axes, others: Iterable[Axes], side: Literal["left", "bottom"]) -> bool:
    """Whether none of the others stands on one side of the Axes in the same grid."""
    place = axes.get_subplotspec()
    for other in others:
        neighbour = other.get_subplotspec()
        if place is None or neighbour is None or neighbour.get_gridspec() is not place.get_gridspec():
            continue
        if side == "left":
            beside = neighbour.rowspan == place.rowspan and neighbour.colspan.start < place.colspan.start
        else:
            beside = neighbour.colspan == place.colspan and neighbour.rowspan.start > place.rowspan.start
        if beside:
            return False
    return True


def lay_out(figure: Figure) -> None:
    """Give Axes the places that they will have when the figure is drawn."""
    whole = figure.canvas.figure  # Axes may lie in a part of it, which has no layout of its own
    engine = whole.get_layout_engine()
    if engine is not None:
        engine.execute(whole)


def emptiest_corner(axes: Axes, points: NDArray[np.float64]) -> Corner:
    """The corner of Axes in which a legend hides the fewest points."""
    corners: dict[Corner, tuple[int, int]] = {
        "upper right": (1, 1),
        "upper left": (0, 1),
        "lower right": (1, 0),
        "lower left": (0, 0),
    }
    axes.get_xlim(), axes.get_ylim()  # only asking for the limits makes them follow what was drawn
    places = axes.transAxes.inverted().transform(axes.transData.transform(points))
    return min(corners, key=lambda name: (np.abs(places - corners[name]) < _CORNER).all(1).sum())


def widen_figure_for(legend: Legend, figure: Figure) -> None:
    """Widen the figure by what a legend beside its only Axes takes beyond its share."""
    width, height = figure.get_size_inches()
    beyond = legend.get_window_extent().width / figure.dpi - _LEGEND_SHARE * width
    if beyond > 0:
        figure.set_size_inches(width + beyond, height)


def leave_room(axes: Axes, width: float) -> None:
    """Narrow the Axes by what stands to its right, ``width`` points wide, as a colour bar does.

    A figure with a layout does so by itself.
    """
    if axes.figure.get_layout_engine() is not None:
        return
    panel = 72 * axes.get_window_extent().width / axes.figure.dpi
    share = min(1.03 * width / panel + 0.02, 0.6)
    place = axes.get_subplotspec()
    if place is None:
        box = axes.get_position()
        axes.set_position((box.x0, box.y0, box.width * (1 - share), box.height))
    else:
        axes.set_subplotspec(place.subgridspec(1, 2, width_ratios=[1 - share, share], wspace=0)[0])
