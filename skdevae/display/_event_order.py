"""EventOrderDisplay: in which order features change along the axis, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from ..inspection import event_order
from ._heat_map import SHARES, add_color_bar, arrange_kind, check_kind, draw_matrix, name_rows
from ._layout import SMALL_TEXT, TEXT, import_matplotlib
from ._palette import CURVE_COLORS, UNNAMED_COLOR

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Event: TypeAlias = Literal["onset", "half_change", "peak", "end"] | float
Kind: TypeAlias = Literal["positions", "positional_variance", "both"]

_KINDS = ("positions", "positional_variance", "both")


class EventOrderDisplay:
    """The order in which features change along the axis: positions with intervals, and the positional variance diagram.

    Use :meth:`from_estimator` to make one, or :meth:`from_event_order` if you have the order already. Features stand in
    their most probable order, the first one at the top. Positions are shares of the samples that come before the event.
    In the positional variance diagram, colours say how probable it is that a feature is the first, the second, and so
    on, over the replicates. Features that are equally early in a replicate share the ranks that they take up together.

    Parameters
    ----------
    positions : DataFrame
        One row for each feature, in the order in which they are drawn, with the columns ``estimate``, ``lower`` and
        ``upper``. NaN is not drawn: the feature has no such event.
    rank_probability : DataFrame or None, default=None
        Probability of each rank (columns 1, 2, ...) for each feature, in the same order.
    event : str or float, default="half_change"
        Which event it is.
    n_without : int, default=0
        How many features have no such event, and are not drawn.

    Attributes
    ----------
    axes_ : ndarray of matplotlib.axes.Axes of shape (n_panels,)
        The panels: positions, the positional variance diagram, or both in this order.
    ax_ : ndarray of matplotlib.axes.Axes
        The same as `axes_`, under the name that displays of scikit-learn use.
    figure_ : matplotlib.figure.Figure
        Figure that holds them.
    points_ : matplotlib.lines.Line2D or None
        The estimates.
    intervals_ : matplotlib.collections.LineCollection or None
        Their intervals.
    heatmap_ : matplotlib.image.AxesImage or None
        The positional variance diagram.

    References
    ----------
    Fonteijn, H. M. et al. (2012). "An event-based model for disease progression and its application in familial
    Alzheimer's disease and Huntington's disease". NeuroImage. It introduces the positional variance diagram.

    Examples
    --------
    >>> from skdevae import DeVAETransformer
    >>> from skdevae.datasets import make_progression
    >>> from skdevae.display import EventOrderDisplay
    >>> X = make_progression(40, n_transient=0, n_increasing=4, n_decreasing=2, as_frame=True, random_state=0).data
    >>> model = DeVAETransformer(n_grid_points=33, random_state=0).fit(X)
    >>> display = EventOrderDisplay.from_estimator(model, X, n_bootstrap=5, random_state=0)
    >>> display.rank_probability.shape
    (6, 6)
    """

    def __init__(
        self,
        *,
        positions: pd.DataFrame,
        rank_probability: pd.DataFrame | None = None,
        event: str | float = "half_change",
        n_without: int = 0,
    ) -> None:
        self.positions = positions
        self.rank_probability = rank_probability
        self.event = event
        self.n_without = n_without

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        event: Event = "half_change",
        kind: Kind = "both",
        features: Sequence[str] | None = None,
        ax: Any = None,
        point_kw: dict[str, Any] | None = None,
        heatmap_kw: dict[str, Any] | None = None,
        **options: Any,
    ) -> EventOrderDisplay:
        """Find the order of events along the axis of a fitted estimator, and draw it.

        Parameters
        ----------
        estimator : estimator, Pipeline or search
            Fitted, with one latent component. In a Pipeline, the features are those that reach the last step.
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            The table that `estimator` was fitted on.
        event : {"onset", "half_change", "peak", "end"} or float, default="half_change"
            As for :func:`skdevae.inspection.event_order`.
        kind : {"positions", "positional_variance", "both"}, default="both"
            As for :meth:`from_event_order`.
        features : sequence of str, default=None
            As for :meth:`from_event_order`.
        ax : matplotlib Axes or array of Axes, default=None
            As for :meth:`from_event_order`.
        point_kw : dict, default=None
            As for :meth:`from_event_order`.
        heatmap_kw : dict, default=None
            As for :meth:`from_event_order`.
        **options
            Passed on to :func:`skdevae.inspection.event_order`: what it takes beside these, such as ``n_bootstrap``,
            ``replicates`` or ``covariates``.

        Returns
        -------
        display : EventOrderDisplay
            Drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `estimator` has no axis, or as for :meth:`from_event_order`.

        Examples
        --------
        >>> from skdevae import DeVAETransformer
        >>> from skdevae.datasets import make_progression
        >>> from skdevae.display import EventOrderDisplay
        >>> X = make_progression(40, n_transient=0, n_increasing=4, n_decreasing=2, as_frame=True, random_state=0).data
        >>> model = DeVAETransformer(n_grid_points=33, max_epochs=60, random_state=0).fit(X)
        >>> display = EventOrderDisplay.from_estimator(model, X, event="onset", n_bootstrap=5, random_state=0)
        >>> display.axes_.shape  # intervals, and probabilities of ranks
        (2,)
        """
        import_matplotlib("pyplot", "EventOrderDisplay")  # if it is missing, say so before the work
        order = event_order(estimator, X, event=event, **options)
        return cls.from_event_order(
            order, kind=kind, features=features, ax=ax, point_kw=point_kw, heatmap_kw=heatmap_kw
        )

    @classmethod
    def from_event_order(
        cls,
        order: Any,
        *,
        kind: Kind = "both",
        features: Sequence[str] | None = None,
        ax: Any = None,
        point_kw: dict[str, Any] | None = None,
        heatmap_kw: dict[str, Any] | None = None,
    ) -> EventOrderDisplay:
        """Draw the order of events.

        Parameters
        ----------
        order : EventOrder
            What :func:`skdevae.inspection.event_order` returns.
        kind : {"positions", "positional_variance", "both"}, default="both"
            What to draw.
        features : sequence of str, default=None
            Names of the features to draw. None means all that have the event. Ranks are those among all features.
        ax : matplotlib Axes or array of Axes, default=None
            Where to draw: one Axes, or two if `kind` is "both", or a single one whose place both take. None makes a
            figure as wide as one column of a journal, or as two.
        point_kw : dict, default=None
            Passed to :meth:`matplotlib.axes.Axes.errorbar` for the positions.
        heatmap_kw : dict, default=None
            Passed to :meth:`matplotlib.axes.Axes.imshow` for the positional variance diagram.

        Returns
        -------
        display : EventOrderDisplay
            Drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `kind` is none of the above, if a feature is not there, or if `ax` does not have as many Axes as there
            are panels.

        Examples
        --------
        >>> from skdevae import DeVAETransformer
        >>> from skdevae.datasets import make_progression
        >>> from skdevae.display import EventOrderDisplay
        >>> from skdevae.inspection import event_order
        >>> X = make_progression(40, n_transient=0, n_increasing=4, n_decreasing=2, as_frame=True, random_state=0).data
        >>> model = DeVAETransformer(n_grid_points=33, max_epochs=60, random_state=0).fit(X)
        >>> order = event_order(model, X, n_bootstrap=5, random_state=0)
        >>> display = EventOrderDisplay.from_event_order(order, kind="positions", features=order.order[:3])
        >>> display.axes_.shape
        (1,)
        """
        positions = order.positions[["estimate", "lower", "upper"]]
        last = [name for name in positions.index if name not in set(order.order)]
        if features is not None:
            unknown = [name for name in features if name not in positions.index]
            if unknown or not len(features):
                asked = ", ".join(map(repr, unknown)) or "nothing"
                raise ValueError(f"features asks for {asked}: give names of features.")
        names = [name for name in [*order.order, *last] if name in set(order.order if features is None else features)]
        if not names:
            raise ValueError(f"No feature has the event {order.event!r}, so there is no order to draw.")
        display = cls(
            positions=positions.loc[names],
            rank_probability=rank_probability(order.replicates).loc[names],
            event=order.event,
            n_without=0 if features is not None else len(last),
        )
        return display.plot(ax=ax, kind=kind, point_kw=point_kw, heatmap_kw=heatmap_kw)

    def plot(
        self,
        ax: Any = None,
        *,
        kind: Kind = "both",
        point_kw: dict[str, Any] | None = None,
        heatmap_kw: dict[str, Any] | None = None,
    ) -> EventOrderDisplay:
        """Draw the panels.

        Parameters
        ----------
        ax : matplotlib Axes or array of Axes, default=None
            As for :meth:`from_event_order`.
        kind : {"positions", "positional_variance", "both"}, default="both"
            As for :meth:`from_event_order`.
        point_kw : dict, default=None
            As for :meth:`from_event_order`.
        heatmap_kw : dict, default=None
            As for :meth:`from_event_order`.

        Returns
        -------
        display : EventOrderDisplay
            This display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `kind` is none of the above, if there are no probabilities of ranks to draw, or if `ax` does not have as
            many Axes as there are panels.

        Examples
        --------
        >>> from skdevae import DeVAETransformer
        >>> from skdevae.datasets import make_progression
        >>> from skdevae.display import EventOrderDisplay
        >>> X = make_progression(40, n_transient=0, n_increasing=4, n_decreasing=2, as_frame=True, random_state=0).data
        >>> model = DeVAETransformer(n_grid_points=33, max_epochs=60, random_state=0).fit(X)
        >>> display = EventOrderDisplay.from_estimator(model, X, n_bootstrap=5, random_state=0)
        >>> display.plot(kind="positions").axes_.shape  # the same numbers, drawn again
        (1,)
        """
        check_kind(kind, _KINDS)
        if kind != "positions" and self.rank_probability is None:
            raise ValueError(f"There are no probabilities of ranks, which kind={kind!r} asks for.")
        import_matplotlib("pyplot", "EventOrderDisplay")
        self.axes_ = self.ax_ = arrange_kind(ax, kind, len(self.positions), "EventOrderDisplay")
        self.figure_: Any = self.axes_[0].figure
        self.points_: Any = None
        self.intervals_: Any = None
        self.heatmap_: Any = None
        if kind != "positional_variance":
            self._draw_positions(self.axes_[0], point_kw or {})
        if kind != "positions":
            self._draw_ranks(self.axes_[-1], heatmap_kw or {}, named=kind == "positional_variance")
        return self

    def _draw_positions(self, axes: Axes, keywords: dict[str, Any]) -> None:
        rows = np.arange(len(self.positions))
        estimate, lower, upper = (self.positions[name].to_numpy(float) for name in ("estimate", "lower", "upper"))
        axes.hlines(rows, 0, 1, color=UNNAMED_COLOR, linewidth=0.3, zorder=1)
        style: dict[str, Any] = {
            "fmt": "o", "markersize": 3.5, "color": CURVE_COLORS[0], "elinewidth": 1.2, "capsize": 0, "zorder": 3,
        }  # fmt: skip
        # An estimate may lie outside of the interval of its replicates, which has no length on that side then.
        bars = np.maximum([estimate - lower, upper - estimate], 0)
        drawn = axes.errorbar(estimate, rows, xerr=bars, **{**style, **keywords})
        self.points_, self.intervals_ = drawn.lines[0], drawn.lines[2][0]
        axes.set(xlim=(0, 1), ylim=(len(rows) - 0.5, -0.5))
        without = f"\n{self.n_without} feature{'s' * (self.n_without > 1)} without" if self.n_without else ""
        axes.set_xlabel(f"{_title(self.event)} (share of the samples){without}", fontsize=TEXT)
        axes.tick_params(labelsize=SMALL_TEXT)
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        self._name(axes)

    def _draw_ranks(self, axes: Axes, keywords: dict[str, Any], named: bool) -> None:
        assert self.rank_probability is not None
        n_ranks = self.rank_probability.shape[1]
        extent = {"extent": (0.5, n_ranks + 0.5, len(self.positions) - 0.5, -0.5)}
        values = self.rank_probability.to_numpy(float)
        self.heatmap_ = draw_matrix(axes, values, (0.0, float(values.max()) or 1.0), SHARES, {**extent, **keywords})
        axes.set_xlabel("rank", fontsize=TEXT)
        axes.xaxis.set_major_locator(import_matplotlib("ticker", "EventOrderDisplay").MaxNLocator(integer=True))
        if named:
            self._name(axes)
        else:  # the rows are those of the positions beside it
            axes.set_yticks([])
        add_color_bar(self.heatmap_, axes, "probability of the rank")

    def _name(self, axes: Axes) -> None:
        """Write the names of the features, in grey where they have no such event."""
        name_rows(axes, [str(name) for name in self.positions.index])
        for label, estimate in zip(axes.get_yticklabels(), self.positions["estimate"], strict=False):
            if np.isnan(estimate):
                label.set_color(UNNAMED_COLOR)


def rank_probability(replicates: pd.DataFrame) -> pd.DataFrame:
    """Probability of each rank for each feature, over replicates of their positions.

    Parameters
    ----------
    replicates : DataFrame of shape (n_replicates, n_features)
        Positions of the features. NaN is that of a feature without the event, which then has no rank.

    Returns
    -------
    probability : DataFrame of shape (n_features, n_features)
        Rows are features, and columns ranks from 1. A row adds up to the share of the replicates in which the feature
        has the event.
    """
    positions = replicates.to_numpy(float)
    ranks = np.arange(1, positions.shape[1] + 1)
    first, last = (
        rankdata(positions, method=method, axis=1, nan_policy="omit")[:, :, None] for method in ("min", "max")
    )
    found: NDArray[np.float64] = np.zeros((len(ranks), len(ranks)))
    for low, high in zip(first, last, strict=True):  # one by one: all together take as much memory as replicates
        found += ((low <= ranks) & (ranks <= high)) / np.where(np.isnan(low), 1.0, high - low + 1)
    return pd.DataFrame(found / len(positions), index=replicates.columns, columns=ranks)


def _title(event: str | float) -> str:
    return event.replace("_", " ") if isinstance(event, str) else f"{100 * event:g} % of the change"
