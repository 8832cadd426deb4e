"""TrajectoryDisplay: the curves of features along the latent axis, one panel for each cluster."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from .._typing import CovariatesLike
from ..metrics._feature_names import input_names, modelled_names, output_names
from ..metrics._pipelines import given_facts, split_at_clusterer
from ._curve_names import representatives, spread_apart
from ._layout import arrange_panels, import_matplotlib
from ._palette import SAMPLE_COLOR, UNNAMED_COLOR, curve_style
from ._plotted_units import PlottedUnits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: size of the names of curves, in points
_NAME_SIZE = 8.5
#: distance between names, as a multiple of their size
_NAME_GAP = 1.35
#: quantiles of the samples' positions at which the importance of features is computed
_TYPICAL_POSITIONS = 50
#: positions through which a curve is drawn by default
_CURVE_POINTS = 200
#: quantiles of the observations between which the vertical axis reaches at least
_SHOWN = (0.005, 0.995)


class TrajectoryDisplay:
    """Every feature's curve along the latent axis, one panel for each cluster of features.

    Use :meth:`from_estimator` to make one. Behind the curves are the observations, as light points; each sample is
    drawn at its posterior mean. In each panel a few representative curves are highlighted and named. Clusters without
    features have no panel.

    All features share one vertical axis, so each is drawn in units of its own spread over the samples of X. Continuous
    features are drawn as ``(x - mean) / sd``, and counts as ``(log1p(x) - mean of log1p(x)) / sd of log1p(x)``. Curves
    are brought to the same units. (The curve of a count is log1p of its expected value, which is above the mean of its
    log1p.) Binary features are drawn as they are, and their curves are probabilities. Observations are drawn as if all
    samples had the median size and average covariates, as the estimator's ``adjust`` makes them.

    Parameters
    ----------
    z : ndarray of shape (n_points,)
        Positions on the axis at which the curves are evaluated, ascending.
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
        Standard deviation of each feature's curve over the samples, in plotted units. In choosing the curves to name,
        features with a larger one count for more.
    value_label : str, default="standardised value (sd)"
        What the vertical axis shows.

    Attributes
    ----------
    figure_ : matplotlib.figure.Figure
        Figure that holds the panels.
    axes_ : ndarray of matplotlib.axes.Axes of shape (n_panels,)
        The panels, in the order of `cluster_names`.
    ax_ : ndarray of matplotlib.axes.Axes
        The same as `axes_`, under the name that displays of scikit-learn use.
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
        size_factors: ArrayLike | None = None,
        covariates: CovariatesLike = None,
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
        """Draw the curves of a fitted feature clusterer over the samples of X.

        Parameters
        ----------
        estimator : feature clusterer, Pipeline or search
            A fitted :class:`~skdevae.BasisDeVAEClusterer`, or a Pipeline or search that ends in one. In a Pipeline, X
            goes through the steps before the clusterer, and the features are those that reach it.
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            What `estimator` takes. It may be another table than the one that `estimator` was fitted on.
        size_factors, covariates : array-like of shape (n_samples, ...), default=None
            Of the rows of X, for an estimator that was fitted with those of its rows.
        features : str, int or sequence of them, default=None
            Names or positions of the features to draw. None means all.
        z : array-like of shape (n_points,), default=None
            Positions on the axis at which to evaluate the curves. None means 200 over the range of the samples of X.
        max_features_per_panel : int, default=50
            Draw at most this many features of a cluster: those whose curves vary most.
        max_samples : int, default=1000
            Draw at most this many samples, evenly spaced in rank along the axis.
        max_labels : int, default=4
            Name at most this many features of each panel, chosen such that every curve is close to a named one.
        n_cols : int, default=3
            Most panels side by side, if `ax` is None or one Axes.
        ax : matplotlib Axes or array of Axes, default=None
            One Axes for each panel, or a single one whose place the panels take. None makes a figure.
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
            If `estimator` holds no feature clusterer with a one-dimensional latent, if one of `features` does not
            exist, or if `ax` does not have one Axes for each panel.
        """
        import_matplotlib("pyplot", "TrajectoryDisplay")  # if it is missing, say so before the work
        check_is_fitted(estimator)
        clusterer, table, names = _reach_clusterer(estimator, X)
        facts = given_facts(size_factors=size_factors, covariates=covariates)
        latents = np.asarray(clusterer.transform(table, **facts), dtype=np.float64)
        if latents.shape[1] != 1:
            raise ValueError(
                f"TrajectoryDisplay draws curves along one latent dimension, but {type(clusterer).__name__} has "
                f"{latents.shape[1]}."
            )
        positions = latents[:, 0]
        labels = np.asarray(clusterer.labels_)
        if hasattr(clusterer, "adjust"):
            table = clusterer.adjust(table, **facts)
        units = PlottedUnits(table, getattr(clusterer, "likelihood", "gaussian"))
        selected = _selected_columns(features, names)
        selected = selected[labels[selected] >= 0]  # of the others nothing was learned that could be drawn
        if len(selected) == 0:
            raise ValueError("None of the features varied in the training table, so there are no curves to draw.")

        # A feature is as important as its curve varies over the samples. Some quantiles represent the samples.
        typical = np.quantile(positions, (np.arange(_TYPICAL_POSITIONS) + 0.5) / _TYPICAL_POSITIONS)
        importances = units.curves(np.asarray(clusterer.trajectories(typical))[:, selected], selected).std(0)
        kept = _most_important(labels[selected], importances, max_features_per_panel)
        drawn = selected[kept]

        points = _curve_positions(positions) if z is None else _given_positions(z)
        rows = _spread_rows(positions, max_samples)
        display = cls(
            z=points,
            trajectories=units.curves(np.asarray(clusterer.trajectories(points))[:, drawn], drawn),
            positions=positions[rows],
            observations=units.observations(rows, drawn),
            feature_names=[names[column] for column in drawn],
            clusters=labels[drawn],
            cluster_names=[str(name) for name in clusterer.cluster_names_],
            cluster_sizes=np.bincount(labels[labels >= 0], minlength=len(clusterer.cluster_names_)),
            importances=importances[kept],
            value_label=units.label,
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
            One Axes for each panel, or a single one whose place the panels take. None makes a figure.
        max_labels : int, default=4
            Name at most this many features of each panel, chosen such that every curve is close to a named one.
        n_cols : int, default=3
            Most panels side by side, if `ax` is None or one Axes.
        line_kw : dict, default=None
            Passed to :meth:`matplotlib.axes.Axes.plot` for every curve.
        observation_kw : dict, default=None
            Passed to :meth:`matplotlib.axes.Axes.scatter`.

        Returns
        -------
        display : TrajectoryDisplay
            This display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `ax` does not have one Axes for each panel.
        """
        import_matplotlib("pyplot", "TrajectoryDisplay")
        shown = np.unique(self.clusters)
        self.axes_ = self.ax_ = arrange_panels(ax, len(shown), n_cols)
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
        """Range of the vertical axis, the same in all panels: all curves, and all but the most extreme observations."""
        low, high = self.trajectories.min(), self.trajectories.max()
        known = self.observations[~np.isnan(self.observations)]
        if len(known):
            outer = np.quantile(known, _SHOWN)
            low, high = min(low, outer[0]), max(high, outer[1])
        margin = 0.04 * (high - low) or 1.0
        return float(low - margin), float(high + margin)

    def _draw_observations(self, axes: Axes, members: NDArray[np.integer], keywords: dict[str, Any]) -> Any:
        values = self.observations[:, members]
        where = np.broadcast_to(self.positions[:, None], values.shape)
        known = ~np.isnan(values)
        style = {"s": 5, "color": SAMPLE_COLOR, "linewidths": 0, "zorder": 1, "rasterized": True}
        # With thousands of points on top of each other, only transparent ones show where most of them are.
        style["alpha"] = float(np.clip(3000 / max(known.sum(), 1), 0.15, 0.8))
        return axes.scatter(where[known], values[known], **{**style, **keywords})

    def _draw_curves(self, axes: Axes, members: NDArray[np.integer], max_labels: int, keywords: dict[str, Any]) -> None:
        curves = self.trajectories[:, members]
        chosen = representatives(curves, self.importances[members], max_labels)
        named = members[chosen[np.argsort(-curves[-1, chosen], kind="stable")]]  # colours from top to bottom
        styles = {feature: curve_style(rank) for rank, feature in enumerate(named)}
        for feature in members:
            if feature in styles:
                color, line_style = styles[feature]
                style = {"color": color, "linestyle": line_style, "linewidth": 2.0, "zorder": 3}
            else:
                style = {"color": UNNAMED_COLOR, "linewidth": 0.8, "zorder": 2}
            (self.lines_[feature],) = axes.plot(
                self.z,
                self.trajectories[:, feature],
                **{"label": self.feature_names[feature], **style, **keywords},
            )
        self._name_curves(axes, named)

    def _name_curves(self, axes: Axes, named: NDArray[np.integer]) -> None:
        """Write names beside the right ends of curves, as close to them as the height of the text allows."""
        bottom, top = axes.get_ylim()
        panel_height = axes.get_window_extent().height / axes.figure.dpi * 72
        ends = np.clip((self.trajectories[-1, named] - bottom) / (top - bottom), 0, 1)
        heights = spread_apart(ends, gap=_NAME_GAP * _NAME_SIZE / panel_height)
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
                    "relpos": (0, 0.5),  # to the left edge of the name; to its middle, lines would cross other names
                },
                annotation_clip=False,
                color=color,
                fontsize=_NAME_SIZE,
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


def _reach_clusterer(estimator: Any, X: Any) -> tuple[Any, Any, list[str]]:
    """The clusterer, the table that reaches it through the steps before it, and names of the columns that it models."""
    if not hasattr(X, "shape"):
        X = np.asarray(X)
    steps, clusterer = split_at_clusterer(estimator)
    names = input_names(estimator, X)
    for _, step in steps:
        X = step.transform(X)
        names = output_names(step, names, X.shape[1])
    # The clusterer's own names, if it was fitted on a data frame, are more certain than those worked out here.
    return clusterer, X, modelled_names(clusterer, list(getattr(clusterer, "feature_names_in_", names)))


def _selected_columns(features: str | int | Iterable[str | int] | None, names: list[str]) -> NDArray[np.integer]:
    """Positions of the features that are asked for, each once, in the order of the table."""
    if features is None:
        return np.arange(len(names))
    wanted = [features] if isinstance(features, str | int | np.integer) else list(features)
    columns = set()
    for feature in wanted:
        if isinstance(feature, str):
            if feature not in names:
                raise ValueError(f"features asks for {feature!r}, which is not a feature of the clusterer.")
            columns.add(names.index(feature))
        elif -len(names) <= feature < len(names):
            columns.add(int(feature) % len(names))
        else:
            raise ValueError(f"features asks for column {feature}, but the clusterer has {len(names)} features.")
    if not columns:
        raise ValueError("features is empty: name at least one feature, or give None for all.")
    return np.array(sorted(columns))


def _most_important(
    labels: NDArray[np.integer], importances: NDArray[np.float64], max_features: int
) -> NDArray[np.bool_]:
    """Which features to draw: in each cluster at most so many, those whose importance is largest."""
    kept = np.zeros(len(labels), dtype=bool)
    for cluster in np.unique(labels):
        members = np.nonzero(labels == cluster)[0]
        kept[members[np.argsort(-importances[members], kind="stable")[:max_features]]] = True
    return kept


def _curve_positions(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = positions.min(), positions.max()
    if high - low < 1e-6:  # a single sample has no range
        low, high = low - 1, high + 1
    return np.linspace(low, high, _CURVE_POINTS)


def _given_positions(z: ArrayLike) -> NDArray[np.float64]:
    points = np.sort(check_array(z, ensure_2d=False, dtype=np.float64, input_name="z").ravel())
    if points[0] == points[-1]:
        raise ValueError("z has a single position: give at least two different positions to draw a curve through.")
    return points


def _spread_rows(positions: NDArray[np.float64], max_samples: int) -> NDArray[np.integer]:
    """Rows of at most ``max_samples`` samples, evenly spaced in rank along the axis."""
    rows: NDArray[np.integer] = np.argsort(positions, kind="stable")
    if len(rows) > max_samples:
        rows = rows[np.linspace(0, len(rows) - 1, max_samples).round().astype(int)]
    return rows
