"""Trajectory panel: how the curves of some features, the values behind them and their names are drawn on one Axes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._curve_names import spread_apart
from ._fitted_text import shortened, text_width, wrapped
from ._layout import SMALL_TEXT, TEXT, import_matplotlib, leave_room
from ._palette import SAMPLE_COLOR, UNNAMED_COLOR, curve_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: most intervals between the ticks of an axis
_MOST_TICKS = 5
#: distance between names, as a multiple of their size
_NAME_GAP = 1.35
#: most of a panel's width that names beside it take
_NAME_SHARE = 0.45
#: where the line from a curve to its name ends, as a share of the panel's width
_NAME_START = 1.05
#: quantiles of the observations between which the vertical axis reaches at least, if they are drawn and if they are not
_SHOWN, _HIDDEN = (0.005, 0.995), (0.05, 0.95)
#: height of the histogram of samples, and of all that is kept free for it, as shares of the panel's height
_BARS, _BARS_ROOM = 0.08, 0.1
#: most bars of that histogram
_MOST_BARS = 40
#: points that a panel shows at their darkest
_DARK_POINTS = 400


@dataclass(frozen=True)
class Curves:
    """Curves (P, D) at positions z (P,), observations (N, D) of samples at positions (N,), and bands (P, D) or None."""

    z: NDArray[np.float64]
    values: NDArray[np.float64]
    positions: NDArray[np.float64]
    observations: NDArray[np.float64]
    lower: NDArray[np.float64] | None
    upper: NDArray[np.float64] | None
    names: Sequence[str]

    def limits(self, members: NDArray[np.integer], with_observations: bool) -> tuple[float, float]:
        """Range of the vertical axis for some features: curves, bands, and all but the most extreme observations.

        Observations count where they are not drawn, too. A range of the curves alone would make much of any change.
        """
        shown = [curves[:, members] for curves in (self.values, self.lower, self.upper) if curves is not None]
        low, high = min(curves.min() for curves in shown), max(curves.max() for curves in shown)
        for column in members:
            known = self.observations[:, column]
            known = known[~np.isnan(known)]
            if len(known):
                outer = np.quantile(known, _SHOWN if with_observations else _HIDDEN)
                low, high = min(low, outer[0]), max(high, outer[1])
        return float(low), float(high)


def set_limits(axes: Axes, z: NDArray[np.float64], limits: tuple[float, float], has_histogram: bool) -> None:
    """Fit the axes to values between limits, with room for the histogram of samples below them."""
    low, high = limits
    margin = 0.04 * (high - low) or 1.0
    low, high = low - margin, high + margin
    if has_histogram:
        low -= (high - low) * _BARS_ROOM / (1 - _BARS_ROOM)
    axes.set(xlim=(z[0], z[-1]), ylim=(low, high))


def draw_histogram(axes: Axes, z: NDArray[np.float64], positions: NDArray[np.float64]) -> Any:
    """Draw where on the axis samples are, as bars along the lower edge of the panel; None if there are no samples."""
    within = positions[(positions >= z[0]) & (positions <= z[-1])]
    if len(within) == 0:
        return None
    n_bars = int(np.clip(2 * len(within) ** (1 / 3), 5, _MOST_BARS))
    counts, edges = np.histogram(within, n_bars, (z[0], z[-1]))
    return axes.stairs(
        _BARS * counts / counts.max(),
        edges,
        fill=True,
        color=SAMPLE_COLOR,
        zorder=0,
        transform=axes.get_xaxis_transform(),
    )


def draw_observations(
    axes: Axes, curves: Curves, features: NDArray[np.integer], keywords: dict[str, Any]
) -> dict[int, Any]:
    """Draw the observations of some features, each in the colour of its curve."""
    n_known = sum((~np.isnan(curves.observations[:, feature])).sum() for feature in features)
    style = {"s": 3.5, "linewidths": 0, "zorder": 1, "rasterized": True}
    # With thousands of points on top of each other, only transparent ones show where most of them are.
    style["alpha"] = float(np.clip(_DARK_POINTS * 0.45 / max(n_known, 1), 0.12, 0.45))
    drawn = {}
    for rank, feature in enumerate(features):
        known = ~np.isnan(curves.observations[:, feature])
        color, _ = curve_style(rank)
        drawn[feature] = axes.scatter(
            curves.positions[known], curves.observations[known, feature], **{**style, "color": color, **keywords}
        )
    return drawn


def draw_bands(axes: Axes, curves: Curves, features: NDArray[np.integer]) -> dict[int, Any]:
    """Draw the bands of some features, each in the colour of its curve."""
    if curves.lower is None or curves.upper is None:
        return {}
    return {
        feature: axes.fill_between(
            curves.z, curves.lower[:, feature], curves.upper[:, feature],
            color=curve_style(rank)[0], alpha=0.2, linewidth=0, zorder=2,
        )
        for rank, feature in enumerate(features)
    }  # fmt: skip


def draw_curves(
    axes: Axes, curves: Curves, members: NDArray[np.integer], named: NDArray[np.integer], keywords: dict[str, Any]
) -> Iterator[tuple[int, Any]]:
    """Draw the curves of the members, those with a name in colour; go through them with their lines."""
    ranks = {feature: rank for rank, feature in enumerate(named)}
    for feature in members:
        style: dict[str, Any] = {"color": UNNAMED_COLOR, "linewidth": 0.6, "zorder": 3}
        if feature in ranks:
            color, line_style = curve_style(ranks[feature])
            style = {"color": color, "linestyle": line_style, "linewidth": 1.4, "zorder": 4}
        label = {"label": curves.names[feature]}
        (line,) = axes.plot(curves.z, curves.values[:, feature], **{**label, **style, **keywords})
        yield feature, line


def name_curves(axes: Axes, curves: Curves, lines: dict[int, Any]) -> dict[str, Any]:
    """Write names beside the right ends of lines, as close to them as the height of the text allows."""
    if not lines:
        return {}
    bottom, top = axes.get_ylim()
    panel = axes.get_window_extent()
    width, height = (72 * pixels / axes.figure.dpi for pixels in (panel.width, panel.height))
    features = list(lines)
    ends = np.clip((curves.values[-1, features] - bottom) / (top - bottom), 0, 1)
    order = np.argsort(-ends, kind="stable")
    features, ends = [features[position] for position in order], ends[order]
    heights = spread_apart(ends, gap=_NAME_GAP * SMALL_TEXT / height)
    names = [shortened(curves.names[feature], _NAME_SHARE * width, SMALL_TEXT) for feature in features]
    leave_room(axes, (_NAME_START - 1) * width + max(text_width(name, SMALL_TEXT) for name in names))
    colors = [lines[feature].get_color() for feature in features]
    leaders = [[(1, end), (_NAME_START - 0.01, place)] for end, place in zip(ends, heights, strict=True)]
    outside: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False}
    collections = import_matplotlib("collections", "TrajectoryDisplay")
    axes.add_collection(collections.LineCollection(leaders, colors=colors, linewidths=0.6, **outside), autolim=False)
    return {
        curves.names[feature]: axes.text(
            _NAME_START, place, name, color=color, fontsize=SMALL_TEXT, va="center", **outside
        )
        for feature, name, color, place in zip(features, names, colors, heights, strict=True)
    }


def dress(axes: Axes, axis_label: str | None, value_label: str | None) -> None:
    """Give a panel its ticks and the names of its axes; None leaves one to a neighbour."""
    axes.set_xlabel(axis_label or "", fontsize=TEXT)
    axes.set_ylabel(value_label or "", fontsize=TEXT)
    axes.tick_params(labelsize=SMALL_TEXT)
    axes.locator_params(nbins=_MOST_TICKS)
    axes.spines[["top", "right"]].set_visible(False)


def add_title(axes: Axes, title: str) -> None:
    """Give a panel its title; break or shorten this and the names of the axes where the panel's side is shorter."""
    # Only a layout makes room for a second line.
    fitted = shortened if axes.figure.get_layout_engine() is None else wrapped
    width, height = (72 * side / axes.figure.dpi for side in axes.get_window_extent().size)
    beside = max((text_width(name.get_text(), SMALL_TEXT) for name in axes.texts), default=0.0)
    axes.set_title(fitted(title, width + beside, TEXT), loc="left", fontsize=TEXT)
    axes.set_xlabel(fitted(axes.get_xlabel(), width, TEXT))
    axes.set_ylabel(fitted(axes.get_ylabel(), height, TEXT))
