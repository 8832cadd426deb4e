"""Heat maps: matrices with one row for each feature, whose names stand beside the rows where they fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._curve_names import spread_apart
from ._fitted_text import shortened
from ._layout import ONE_COLUMN, SMALL_TEXT, TEXT, arrange_panels
from ._palette import SAMPLE_COLOR

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Colours of values around a middle, and of shares from none to all. With any common form of colour blindness their
#: lightness says how far a value is from the middle, or how large a share is; a test simulates it.
AROUND_A_MIDDLE, SHARES = "RdBu_r", "Blues"
#: height of a row, as a multiple of the size of the text beside it: in new figures, and the least for names to be shown
_ROW, _LEAST_ROW = 1.25, 1.05
#: height of what is above and below the rows, and the least and greatest height of a figure, in inches
_MARGINS, _HEIGHTS = 0.95, (1.9, 8.5)
#: widest that a name may be, in points
_WIDEST_NAME = 0.32 * 72 * ONE_COLUMN


def height_of_rows(n_rows: int) -> float:
    """Height, in inches, of a figure in which names fit beside all rows, as far as a page allows."""
    return float(np.clip(_MARGINS + n_rows * _ROW * SMALL_TEXT / 72, *_HEIGHTS))


def check_kind(kind: str, kinds: Sequence[str]) -> None:
    """Raise a ValueError unless a display can be of this kind."""
    if kind not in kinds:
        raise ValueError(f"kind must be one of {', '.join(map(repr, kinds))}; got {kind!r}.")


def arrange_kind(ax: Any, kind: str, n_rows: int, display: str) -> NDArray[Any]:
    """The Axes of a display of one kind, or of both side by side, with so many rows."""
    n_panels = 2 if kind == "both" else 1
    return arrange_panels(ax, n_panels, n_panels, display, height_of_rows(n_rows))


def draw_matrix(
    axes: Axes, values: NDArray[np.float64], limits: tuple[float, float], colors: str, keywords: dict[str, Any]
) -> Any:
    """An image with one row of ``values`` (n_rows, n_columns) below the other; NaN is grey."""
    style = {"cmap": colors, "vmin": limits[0], "vmax": limits[1], "aspect": "auto", "interpolation": "nearest"}
    image = axes.imshow(np.ma.masked_invalid(values), **{**style, "rasterized": True, **keywords})
    image.set_cmap(image.get_cmap().with_extremes(bad=SAMPLE_COLOR))
    axes.tick_params(labelsize=SMALL_TEXT)
    return image


def name_rows(axes: Axes, names: Sequence[str]) -> bool:
    """Write names beside rows, shortened where they are long, if they do not overlap; whether they were written."""
    fits = _row_height(axes, len(names)) >= _LEAST_ROW * SMALL_TEXT
    texts = [shortened(name, _WIDEST_NAME, SMALL_TEXT) for name in names] if fits else []
    axes.set_yticks(np.arange(len(texts)), texts)
    if not fits:
        axes.set_ylabel(f"{len(names)} features", fontsize=TEXT)
    return fits


def separate_groups(axes: Axes, sizes: Sequence[int], *, columns: bool = False) -> None:
    """Draw lines between groups of rows (and of columns) of these sizes."""
    for end in np.cumsum(sizes)[:-1]:
        axes.axhline(end - 0.5, color="black", linewidth=0.8)
        if columns:
            axes.axvline(end - 0.5, color="black", linewidth=0.8)


def name_groups(axes: Axes, names: Sequence[str], sizes: Sequence[int]) -> list[Any]:
    """Write names of groups of rows to the right of them, as close to their middles as the height of text allows."""
    n_rows = sum(sizes)
    middles = 1 - (np.cumsum(sizes) - np.asarray(sizes) / 2) / n_rows
    gap = _ROW * SMALL_TEXT / (_row_height(axes, n_rows) * n_rows)
    return [
        axes.annotate(
            name, xy=(1, height), xytext=(4, 0), xycoords="axes fraction", textcoords="offset points",
            fontsize=SMALL_TEXT, va="center", annotation_clip=False,
        )
        for name, height in zip(names, spread_apart(middles, gap), strict=True)
    ]  # fmt: skip


def add_color_bar(image: Any, axes: Axes, label: str, *, below: bool = False, extends: bool = False) -> Any:
    """A thin colour bar to the right of Axes, which leaves them their height, or below them."""
    ends = "both" if extends else "neither"
    place: dict[str, Any] = {"location": "bottom", "shrink": 0.7} if below else {"location": "right", "shrink": 0.9}
    bar = axes.figure.colorbar(image, ax=axes, aspect=25, pad=0.03, extend=ends, **place)
    bar.set_label(label, fontsize=SMALL_TEXT)
    bar.ax.tick_params(labelsize=SMALL_TEXT)
    bar.outline.set_visible(False)
    return bar


def _row_height(axes: Axes, n_rows: int) -> float:
    """Height of a row, in points."""
    return float(72 * axes.get_window_extent().height / axes.figure.dpi / max(n_rows, 1))
