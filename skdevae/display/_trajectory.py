"""TrajectoryDisplay: the curves of features along the latent axis, one panel for each cluster."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from sklearn.isotonic import isotonic_regression
from sklearn.utils import check_array
from sklearn.utils.sparsefuncs import mean_variance_axis
from sklearn.utils.validation import check_is_fitted

from ..metrics._feature_clustering import _input_names, _split_at_clusterer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Told apart with every common form of colour blindness, and dark enough for text on white.
_COLORS = ("#0072B2", "#C44E00", "#007D5A", "#A03C86", "#6B5B00", "#333333")
_UNNAMED_COLOR = "#8A939C"
_OBSERVATION_COLOR = "#B9C0C7"

#: What the vertical axis shows for each likelihood; "gaussian" is where all others are that are not named.
_VALUE_LABELS = {
    "gaussian": "standardised value (sd)",
    "poisson": "log1p of the count, standardised (sd)",
    "nb": "log1p of the count, standardised (sd)",
    "zinb": "log1p of the count, standardised (sd)",
    "bernoulli": "probability",
}


class TrajectoryDisplay:
    """Every feature's curve along the latent axis, one panel for each cluster of features.

    Use :meth:`from_estimator` to make one. The observations lie behind the curves as light points, each sample at its
    posterior mean. A few representative features of each panel stand out and are named beside their curves; clusters
    without features have no panel.

    Features share one vertical axis, so they are drawn in units of their own spread over the X given: ``(x - mean) /
    sd`` for continuous features and ``(log1p(x) - mean of log1p(x)) / sd of log1p(x)`` for counts, curves and
    observations alike. (The curve of a count is log1p of its expected value, which lies above the mean of its log1p.)
    Binary features are drawn as they are, and their curves are probabilities.

    Parameters
    ----------
    z : ndarray of shape (n_points,)
        Positions on the axis that the curves are drawn through, ascending.
    trajectories : ndarray of shape (n_points, n_features)
        The curves, in plotted units.
    positions : ndarray of shape (n_samples,)
        Posterior means of the samples drawn.
    observations : ndarray of shape (n_samples, n_features)
        Their values in plotted units; NaN is not drawn.
    feature_names : sequence of str, of length n_features
        Names of the features drawn.
    clusters : ndarray of int of shape (n_features,)
        Cluster of each feature drawn, as a position in `cluster_names`.
    cluster_names : sequence of str
        Names of all clusters.
    cluster_sizes : ndarray of int, one for each of `cluster_names`
        How many features each cluster has, drawn or not.
    importances : ndarray of shape (n_features,)
        Share of each feature's spread that its curve explains; features with more of it represent a panel sooner.
    value_label : str, default="standardised value (sd)"
        What the vertical axis shows.

    Attributes
    ----------
    figure_ : matplotlib.figure.Figure
        Figure that holds the panels.
    axes_ : ndarray of matplotlib.axes.Axes of shape (n_panels,)
        The panels, in the order of `cluster_names`.
    ax_ : ndarray of matplotlib.axes.Axes
        The same as `axes_`.
    lines_ : ndarray of matplotlib.lines.Line2D of shape (n_features,)
        Each feature's curve, in the order of `feature_names`.
    observations_ : ndarray of matplotlib.collections.PathCollection of shape (n_panels,)
        The observations of each panel.
    labels_ : dict of str to matplotlib.text.Annotation
        The names beside the curves, by feature.

    See Also
    --------
    skdevae.BasisDeVAEClusterer : The estimator whose curves these are.

    Examples
    --------
    >>> from skdevae import BasisDeVAEClusterer
    >>> from skdevae.datasets import make_progression
    >>> from skdevae.display import TrajectoryDisplay
    >>> X = make_progression(n_samples=100, random_state=0).data
    >>> clusterer = BasisDeVAEClusterer(max_epochs=20, random_state=0).fit(X)
    >>> display = TrajectoryDisplay.from_estimator(clusterer, X, features=[0, 30, 40])
    >>> [panel.get_title(loc="left") for panel in display.axes_]
    ['increasing (1 of 10 features)', 'decreasing (1 of 10 features)', 'transient (1 of 30 features)']
    >>> display.lines_[0].get_xydata().shape
    (200, 2)
    """

    def __init__(
        self,
        *,
        z: NDArray[np.float64],
        trajectories: NDArray[np.float64],
        positions: NDArray[np.float64],
        observations: NDArray[np.float64],
        feature_names: Iterable[str],
        clusters: NDArray[np.integer],
        cluster_names: Iterable[str],
        cluster_sizes: NDArray[np.integer],
        importances: NDArray[np.float64],
        value_label: str = "standardised value (sd)",
    ) -> None:
        self.z = z
        self.trajectories = trajectories
        self.positions = positions
        self.observations = observations
        self.feature_names = list(feature_names)
        self.clusters = clusters
        self.cluster_names = list(cluster_names)
        self.cluster_sizes = cluster_sizes
        self.importances = importances
        self.value_label = value_label

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        features: str | int | Iterable[str | int] | None = None,
        z: ArrayLike | None = None,
        max_features_per_panel: int = 50,
        max_samples: int = 1000,
        max_labels: int = 4,
        n_cols: int = 3,
        ax: Any = None,
        line_kw: dict[str, Any] | None = None,
        observation_kw: dict[str, Any] | None = None,
    ) -> TrajectoryDisplay:
        """Draw the curves of a fitted feature clusterer behind which lie the samples of X.

        Parameters
        ----------
        estimator : feature clusterer, Pipeline or search
            A fitted :class:`~skdevae.BasisDeVAEClusterer`, or a Pipeline or search that ends in one: X then goes
            through the steps before it, and the features are those that reach the clusterer.
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            What `estimator` takes. Need not be what it was fitted on.
        features : str, int or sequence of them, default=None
            Names or positions of the features to draw. None means all.
        z : array-like of shape (n_points,), default=None
            Positions on the axis to draw the curves through. None means 200 over the range of the samples of X.
        max_features_per_panel : int, default=50
            Draw at most this many features of a cluster: those whose curves explain most of their spread.
        max_samples : int, default=1000
            Draw at most this many samples, evenly spread in rank along the axis.
        max_labels : int, default=4
            Name at most this many features of each panel: those whose curves lie closest to all the panel's curves.
        n_cols : int, default=3
            Panels side by side, where `ax` is None or one Axes.
        ax : matplotlib Axes or array of Axes, default=None
            One Axes for each panel, or one whose place they take. None makes a figure.
        line_kw : dict, default=None
            Passed to :meth:`matplotlib.axes.Axes.plot` for every curve.
        observation_kw : dict, default=None
            Passed to :meth:`matplotlib.axes.Axes.scatter`.

        Returns
        -------
        display : TrajectoryDisplay
            Drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `estimator` holds no feature clusterer with a one-dimensional latent, if `features` names one that is
            not there, or if `ax` has not one Axes for each panel.
        """
        _import_pyplot()  # before the work, not after it
        check_is_fitted(estimator)
        clusterer, table, names = _reach_clusterer(estimator, X)
        latents = np.asarray(clusterer.transform(table), dtype=np.float64)
        if latents.shape[1] != 1:
            raise ValueError(
                f"TrajectoryDisplay draws curves along one latent dimension, but {type(clusterer).__name__} has "
                f"{latents.shape[1]}."
            )
        positions = latents[:, 0]
        labels = np.asarray(clusterer.labels_)
        likelihood = getattr(clusterer, "likelihood", "gaussian")
        scale = _PlottedScale(table, likelihood)
        selected = _selected_columns(features, names)

        # Quantiles of the positions stand for the samples: what a curve explains needs no more.
        typical = np.quantile(positions, (np.arange(50) + 0.5) / 50)
        importances = scale.apply(clusterer.trajectories(typical)[:, selected], selected).std(0)
        kept = np.zeros(len(selected), dtype=bool)
        for cluster in np.unique(labels[selected]):
            members = np.nonzero(labels[selected] == cluster)[0]
            kept[members[np.argsort(-importances[members], kind="stable")[:max_features_per_panel]]] = True
        drawn = selected[kept]

        points = _curve_positions(positions) if z is None else _given_positions(z)
        rows = _spread_rows(positions, max_samples)
        display = cls(
            z=points,
            trajectories=scale.apply(clusterer.trajectories(points)[:, drawn], drawn),
            positions=positions[rows],
            observations=scale.observations(rows, drawn),
            feature_names=[names[column] for column in drawn],
            clusters=labels[drawn],
            cluster_names=[str(name) for name in clusterer.cluster_names_],
            cluster_sizes=np.bincount(labels, minlength=len(clusterer.cluster_names_)),
            importances=importances[kept],
            value_label=_VALUE_LABELS.get(likelihood, _VALUE_LABELS["gaussian"]),
        )
        return display.plot(ax=ax, max_labels=max_labels, n_cols=n_cols, line_kw=line_kw, observation_kw=observation_kw)

    def plot(
        self,
        *,
        ax: Any = None,
        max_labels: int = 4,
        n_cols: int = 3,
        line_kw: dict[str, Any] | None = None,
        observation_kw: dict[str, Any] | None = None,
    ) -> TrajectoryDisplay:
        """Draw the panels.

        Parameters
        ----------
        ax : matplotlib Axes or array of Axes, default=None
            One Axes for each panel, or one whose place they take. None makes a figure.
        max_labels : int, default=4
            Name at most this many features of each panel: those whose curves lie closest to all the panel's curves.
        n_cols : int, default=3
            Panels side by side, where `ax` is None or one Axes.
        line_kw : dict, default=None
            Passed to :meth:`matplotlib.axes.Axes.plot` for every curve.
        observation_kw : dict, default=None
            Passed to :meth:`matplotlib.axes.Axes.scatter`.

        Returns
        -------
        display : TrajectoryDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `ax` has not one Axes for each panel.
        """
        _import_pyplot()
        shown = np.unique(self.clusters)
        self.axes_ = self.ax_ = _panels(ax, len(shown), n_cols)
        self.figure_: Figure = self.axes_[0].figure
        self.lines_ = np.empty(len(self.feature_names), dtype=object)
        self.observations_ = np.empty(len(shown), dtype=object)
        self.labels_: dict[str, Any] = {}
        limits = self._value_limits()
        for panel, cluster in enumerate(shown):
            axes, members = self.axes_[panel], np.nonzero(self.clusters == cluster)[0]
            axes.set(xlim=(self.z[0], self.z[-1]), ylim=limits)
            self.observations_[panel] = self._draw_observations(axes, members, observation_kw or {})
            self._draw_curves(axes, members, max_labels, line_kw or {})
            self._dress(axes, cluster, len(members), first=panel == 0)
        return self

    def _value_limits(self) -> tuple[float, float]:
        """Range of the vertical axis, the same for all panels: every curve, and all but the outlying observations."""
        low, high = self.trajectories.min(), self.trajectories.max()
        known = self.observations[~np.isnan(self.observations)]
        if len(known):
            outer = np.quantile(known, [0.005, 0.995])
            low, high = min(low, outer[0]), max(high, outer[1])
        margin = 0.04 * (high - low) or 1.0
        return float(low - margin), float(high + margin)

    def _draw_observations(self, axes: Axes, members: NDArray[np.integer], keywords: dict[str, Any]) -> Any:
        values = self.observations[:, members]
        where = np.broadcast_to(self.positions[:, None], values.shape)
        known = ~np.isnan(values)
        style = {"s": 5, "color": _OBSERVATION_COLOR, "linewidths": 0, "zorder": 1, "rasterized": True}
        # Few points may be plain; where thousands lie on each other only thinner ink shows where most of them are.
        style["alpha"] = float(np.clip(3000 / max(known.sum(), 1), 0.15, 0.8))
        return axes.scatter(where[known], values[known], **{**style, **keywords})

    def _draw_curves(self, axes: Axes, members: NDArray[np.integer], max_labels: int, keywords: dict[str, Any]) -> None:
        curves = self.trajectories[:, members]
        chosen = _representatives(curves, self.importances[members], max_labels)
        named = members[chosen[np.argsort(-curves[-1, chosen], kind="stable")]]  # colours from top to bottom
        colors = {feature: _COLORS[rank % len(_COLORS)] for rank, feature in enumerate(named)}
        for feature in members:
            if feature in colors:
                style = {"color": colors[feature], "linewidth": 2.0, "zorder": 3}
            else:
                style = {"color": _UNNAMED_COLOR, "linewidth": 0.8, "zorder": 2}
            (self.lines_[feature],) = axes.plot(
                self.z,
                self.trajectories[:, feature],
                **{"label": self.feature_names[feature], **style, **keywords},
            )
        self._name_curves(axes, named)

    def _name_curves(self, axes: Axes, named: NDArray[np.integer]) -> None:
        """Write names beside the right ends of curves, as near to them as the height of the text allows."""
        size = 8.5
        bottom, top = axes.get_ylim()
        panel_height = axes.get_window_extent().height / axes.figure.dpi * 72
        ends = np.clip((self.trajectories[-1, named] - bottom) / (top - bottom), 0, 1)
        heights = _spread_apart(ends, gap=1.35 * size / panel_height)
        for feature, end, height in zip(named, ends, heights, strict=True):
            color = self.lines_[feature].get_color()
            self.labels_[self.feature_names[feature]] = axes.annotate(
                self.feature_names[feature],
                xy=(1.0, end),
                xytext=(1.035, height),
                xycoords="axes fraction",
                textcoords="axes fraction",
                arrowprops={
                    "arrowstyle": "-",
                    "color": color,
                    "linewidth": 0.8,
                    "shrinkA": 1,
                    "shrinkB": 0,
                    "relpos": (0, 0.5),  # meets the text at its left edge; aiming at its middle would cross the next
                },
                annotation_clip=False,
                color=color,
                fontsize=size,
                va="center",
            )

    def _dress(self, axes: Axes, cluster: int, n_drawn: int, first: bool) -> None:
        size = int(self.cluster_sizes[cluster])
        count = f"{size}" if n_drawn == size else f"{n_drawn} of {size}"
        unit = "feature" if size == 1 else "features"
        axes.set_title(f"{self.cluster_names[cluster]} ({count} {unit})", loc="left", fontsize=11)
        axes.set_xlabel("position on the latent axis", fontsize=9)
        place = axes.get_subplotspec()
        if first or place is None or place.is_first_col():
            axes.set_ylabel(self.value_label, fontsize=9)
        axes.tick_params(labelsize=8.5)
        axes.spines[["top", "right"]].set_visible(False)


# ---- from the estimator to the clusterer's own table ----------------------------------------------------------------


def _reach_clusterer(estimator: Any, X: Any) -> tuple[Any, Any, list[str]]:
    """The clusterer, the table that reaches it through the steps before it, and that table's column names."""
    steps, clusterer = _split_at_clusterer(estimator)
    names = _input_names(estimator, X)
    for _, step in steps:
        X = step.transform(X)
        names = _names_after(step, names, X.shape[1])
    # What the clusterer itself was told outranks what was worked out on the way.
    return clusterer, X, list(getattr(clusterer, "feature_names_in_", names))


def _names_after(step: Any, names: list[str], n_outputs: int) -> list[str]:
    if hasattr(step, "get_feature_names_out"):
        # A step that was fitted on a DataFrame knows its columns and accepts no other names.
        known = hasattr(step, "feature_names_in_")
        return [str(name) for name in step.get_feature_names_out(None if known else names)]
    # No names to be had: a step that keeps the number of columns is taken to keep the columns.
    return names if len(names) == n_outputs else [f"x{column}" for column in range(n_outputs)]


def _selected_columns(features: str | int | Iterable[str | int] | None, names: list[str]) -> NDArray[np.integer]:
    """Positions of the features asked for, each once, in the order of the table."""
    if features is None:
        return np.arange(len(names))
    wanted = [features] if isinstance(features, str | int | np.integer) else list(features)
    columns = set()
    for feature in wanted:
        if isinstance(feature, str):
            if feature not in names:
                raise ValueError(f"features asks for {feature!r}, which is none of the clusterer's features.")
            columns.add(names.index(feature))
        elif -len(names) <= feature < len(names):
            columns.add(int(feature) % len(names))
        else:
            raise ValueError(f"features asks for column {feature}, but the clusterer has {len(names)} features.")
    if not columns:
        raise ValueError("features is empty: name at least one feature, or give None for all.")
    return np.array(sorted(columns))


# ---- plotted units --------------------------------------------------------------------------------------------------


class _PlottedScale:
    """From the clusterer's units to those in which features share a vertical axis."""

    def __init__(self, X: Any, likelihood: str) -> None:
        self.takes_log = likelihood in ("poisson", "nb", "zinb")
        table = check_array(X, accept_sparse="csc", dtype=np.float64, ensure_all_finite="allow-nan")
        if self.takes_log:
            table = table.log1p() if sp.issparse(table) else np.log1p(table)
        self.table = table
        self.center, self.spread = np.zeros(table.shape[1]), np.ones(table.shape[1])
        if likelihood != "bernoulli":
            self.center, self.spread = _moments(table)

    def apply(self, values: NDArray[np.float64], columns: NDArray[np.integer]) -> NDArray[np.float64]:
        """Values in the clusterer's units, as plotted."""
        return self._standardized(np.log1p(values) if self.takes_log else values, columns)

    def observations(self, rows: NDArray[np.integer], columns: NDArray[np.integer]) -> NDArray[np.float64]:
        """Entries of the table, as plotted."""
        values = self.table[:, columns][rows]
        return self._standardized(values.toarray() if sp.issparse(values) else values, columns)

    def _standardized(self, values: NDArray[np.float64], columns: NDArray[np.integer]) -> NDArray[np.float64]:
        return (values - self.center[columns]) / self.spread[columns]


def _moments(table: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and sd of each column's observed entries; 0 and 1 where there are none, sd 1 where they are all equal."""
    if sp.issparse(table):
        mean, variance = mean_variance_axis(table, axis=0)
    else:
        n = np.maximum((~np.isnan(table)).sum(0), 1)
        mean = np.nansum(table, 0) / n
        variance = np.nansum((table - mean) ** 2, 0) / n
    sd = np.sqrt(variance)
    return mean, np.where(sd > 1e-10 * np.abs(mean), sd, 1.0)


def _curve_positions(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = positions.min(), positions.max()
    if high - low < 1e-6:  # a single sample has no range
        low, high = low - 1, high + 1
    return np.linspace(low, high, 200)


def _given_positions(z: ArrayLike) -> NDArray[np.float64]:
    points = np.sort(check_array(z, ensure_2d=False, dtype=np.float64, input_name="z").ravel())
    if points[0] == points[-1]:
        raise ValueError("z needs at least two different positions to draw a curve through.")
    return points


def _spread_rows(positions: NDArray[np.float64], max_samples: int) -> NDArray[np.integer]:
    """Rows of at most so many samples, evenly spaced in rank along the axis."""
    order = np.argsort(positions, kind="stable")
    if len(order) <= max_samples:
        return order
    return order[np.linspace(0, len(order) - 1, max_samples).round().astype(int)]


# ---- what is named, and where ---------------------------------------------------------------------------------------


def _representatives(
    curves: NDArray[np.float64], importances: NDArray[np.float64], n_wanted: int
) -> NDArray[np.integer]:
    """Curves such that every curve is close to one of them, chosen one after another: positions of at most n_wanted."""
    if n_wanted >= curves.shape[1]:
        return np.arange(curves.shape[1])
    distances = cdist(curves.T, curves.T)
    nearest = np.full(curves.shape[1], np.inf)
    chosen: list[int] = []
    while len(chosen) < n_wanted:
        remaining = importances @ np.minimum(nearest[:, None], distances)
        remaining[chosen] = np.inf
        chosen.append(int(remaining.argmin()))
        nearest = np.minimum(nearest, distances[:, chosen[-1]])
    return np.array(chosen, dtype=int)


def _spread_apart(heights: NDArray[np.float64], gap: float) -> NDArray[np.float64]:
    """The closest heights between 0 and 1 (in least squares) that lie `gap` apart, in the order of descent given."""
    if not len(heights):
        return heights
    gap = min(gap, 1 / max(len(heights) - 1, 1))
    steps = gap * np.arange(len(heights))
    return isotonic_regression(heights + steps, y_min=steps[-1], y_max=1.0, increasing=False) - steps


# ---- matplotlib -----------------------------------------------------------------------------------------------------


def _import_pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError('TrajectoryDisplay draws with matplotlib: pip install "skdevae[plot]"') from error
    return plt


def _panels(ax: Any, n_panels: int, n_cols: int) -> NDArray[Any]:
    """One Axes for each panel: (n_panels,)."""
    plt = _import_pyplot()
    from matplotlib.axes import Axes

    if ax is not None and not isinstance(ax, Axes):
        given = np.asarray(ax, dtype=object).ravel()
        if len(given) != n_panels:
            raise ValueError(f"ax has {len(given)} Axes, but there are {n_panels} clusters to draw: give one for each.")
        return given
    if ax is not None and n_panels == 1:
        return np.array([ax], dtype=object)
    n_cols = min(n_cols, n_panels)
    n_rows = math.ceil(n_panels / n_cols)
    if ax is None:
        figure = plt.figure(figsize=(4.6 * n_cols, 3.6 * n_rows), layout="constrained")
        places = figure.add_gridspec(n_rows, n_cols)
    else:
        place = ax.get_subplotspec()
        if place is None:
            raise ValueError(f"ax is not part of a grid that could be divided: give {n_panels} Axes, one a cluster.")
        figure, places = ax.figure, place.subgridspec(n_rows, n_cols)
        ax.set_axis_off()
    return np.array([figure.add_subplot(places[panel]) for panel in range(n_panels)], dtype=object)
