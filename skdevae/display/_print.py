"""Print: the sizes that figures have in a journal."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._layout import import_matplotlib

#: widths of one column and of two, in inches (89 mm and 183 mm)
ONE_COLUMN, TWO_COLUMNS = 89 / 25.4, 183 / 25.4
#: sizes of titles and names of axes, and of the smallest text, in points
TEXT, SMALL_TEXT = 8.0, 7.0


def print_panels(
    ax: Any, n_panels: int, n_cols: int, size: tuple[float, float], display: Any, what: str
) -> NDArray[Any]:
    """One Axes for each panel, (n_panels,): those given, or those of a new figure.

    A panel of a new figure is ``size`` (width, height) inches large, but the figure is no wider than a page.
    """
    plt = import_matplotlib("pyplot", type(display).__name__)
    if ax is None:
        n_cols = min(n_cols, n_panels)
        n_rows = math.ceil(n_panels / n_cols)
        width = min(size[0] * n_cols, TWO_COLUMNS)
        figure, axes = plt.subplots(
            n_rows, n_cols, figsize=(width, size[1] * n_rows), squeeze=False, layout="constrained"
        )
        for spare in axes.ravel()[n_panels:]:
            figure.delaxes(spare)
        panels: NDArray[Any] = axes.ravel()[:n_panels]
        return panels
    given = np.array(ax, dtype=object).ravel()
    if len(given) != n_panels or not all(isinstance(axes, plt.Axes) for axes in given):
        raise ValueError(
            f"ax is not {n_panels} matplotlib Axes: {type(display).__name__} draws on one for each {what}."
        )
    return given
