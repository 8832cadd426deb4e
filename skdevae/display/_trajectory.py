"""TrajectoryDisplay: the curves of features along the latent axis, one panel for each cluster or feature."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from .._sklearn import StrOptions, check_parameters
from .._typing import CovariatesLike
from ..inspection._bootstrap import Replicates
from ..inspection._input import reach
from ..metrics._pipelines import given_facts
from ._curve_names import representatives
from ._drawn_axis import DrawnAxis
from ._layout import arrange_panels, import_matplotlib, is_outermost, lay_out
from ._trajectory_data import (
    feature_groups,
    given_curves,
    most_important,
    plotted_units,
    selected_columns,
    value_labels,
)
from ._trajectory_panel import (
    Curves,
    add_title,
    draw_bands,
    draw_curves,
    draw_histogram,
    draw_observations,
    dress,
    name_curves,
    set_limits,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: what a panel shows
PanelsName: TypeAlias = Literal["cluster", "feature"]

#: quantiles of the samples' positions at which the importance of features is computed
_TYPICAL_POSITIONS = 50
#: most panels side by side by default
_COLUMNS = {"cluster": 2, "feature": 3}


class TrajectoryDisplay:
    """Every feature's curve along the latent axis, one panel for each cluster of features, or one for each feature.

    Use :meth:`from_estimator` to make one, or :meth:`from_predictions` if you have the curves already. Curves are drawn
    where samples are, but for the outermost 1 % to 5 % of them at either end. Bars along the lower edge of a panel show
    how many samples are where. In a panel of several features a few representative curves are named and drawn in
    colour. A panel of one feature also shows its observations, each sample at its posterior mean. Clusters without
    features have no panel.

    Features that share a panel share one vertical axis, so each is drawn in units of its own spread over the samples of
    X. Continuous features are drawn as ``(x - mean) / sd``, and counts as
    ``(log1p(x) - mean of log1p(x)) / sd of log1p(x)``. Curves are brought to the same units. (The curve of a count is
    log1p of its expected value, which is above the mean of its log1p.) Binary features are drawn as they are, and their
    curves are probabilities. With a panel for each feature, features are drawn in the units of X instead. Observations
    are drawn as if all samples had the median size and average covariates, as the estimator's ``adjust`` makes them.

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
    lower, upper : ndarray of shape (n_points, n_features), default=None
        Band around each curve, in plotted units.
    value_labels : sequence of str, of length n_features, default=None
        What the vertical axis shows of each feature. None means "value".
    axis_label : str, default="position on the latent axis"
        What the horizontal axis shows.

    Attributes
    ----------
    figure_ : matplotlib.figure.Figure
        Figure that holds the panels.
    axes_ : ndarray of matplotlib.axes.Axes of shape (n_panels,)
        The panels, in the order of `cluster_names` or `feature_names`.
    ax_ : ndarray of matplotlib.axes.Axes
        The same as `axes_`, under the name that displays of scikit-learn use.
    lines_ : ndarray of matplotlib.lines.Line2D of shape (n_features,)
        Each feature's curve, in the order of `feature_names`.
    observations_ : dict of str to matplotlib.collections.PathCollection
        The observations that are drawn, by feature.
    bands_ : dict of str to matplotlib.collections.PolyCollection
        The bands that are drawn, by feature.
    samples_ : list of matplotlib.patches.StepPatch
        The bars of each panel that show where samples are.
    labels_ : dict of str to matplotlib.text.Text
        The names beside the curves, by feature.

    See Also
    --------
    skdevae.BasisDeVAEClusterer : An estimator whose curves these are.
    LatentDisplay : Where samples are in latents of any dimension.

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

    Two features, each in a panel of its own and in its own unit:

    >>> display = TrajectoryDisplay.from_estimator(
    ...     clusterer, X, features=[0, 30], panels="feature", value_label={"x0": "mg/dL", "x30": "mm"}
    ... )
    >>> [panel.get_ylabel() for panel in display.axes_]
    ['mg/dL', 'mm']
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
        lower: NDArray[np.float64] | None = None,
        upper: NDArray[np.float64] | None = None,
        value_labels: Sequence[str] | None = None,
        axis_label: str = "position on the latent axis",
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
        self.lower = lower
        self.upper = upper
        self.value_labels = ["value"] * len(self.feature_names) if value_labels is None else list(value_labels)
        self.axis_label = axis_label

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        axis: ArrayLike | None = None,
        axis_sd: float | ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        size_factors: ArrayLike | None = None,
        covariates: CovariatesLike = None,
        features: str | int | Iterable[str | int] | None = None,
        panels: PanelsName = "cluster",
        units: Literal["scaled", "user"] | None = None,
        value_label: str | Mapping[str, str] | None = None,
        axis_label: str | None = None,
        replicates: Replicates | None = None,
        confidence_level: float = 0.9,
        z: ArrayLike | None = None,
        max_features_per_panel: int = 50,
        max_samples: int = 1000,
        show_observations: bool | None = None,
        show_samples: bool = True,
        share_y: bool = False,
        max_labels: int = 4,
        n_cols: int | None = None,
        ax: Any = None,
        line_kw: dict[str, Any] | None = None,
        observation_kw: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the curves of a fitted estimator over the samples of X.

        Parameters
        ----------
        estimator : estimator, Pipeline or search
            A fitted estimator with a latent of one component, such as :class:`~skdevae.BasisDeVAEClusterer` or
            :class:`~skdevae.DeVAETransformer`, or a Pipeline or search that ends in one. In a Pipeline, X goes through
            the steps before the estimator, and the features are those that reach it. Features of an estimator without
            clusters are put together by what they are constrained to do.
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            What `estimator` takes. It may be another table than the one that `estimator` was fitted on.
        axis : array-like of shape (n_samples,), default=None
            Known positions of the samples, as for ``fit``, for a model that was fitted with an axis. NaN where they are
            not known. None places samples by their entries alone. Such a model is drawn along the axis in its own
            units, which is called by the name of a Series.
        axis_sd : float or array-like of shape (n_samples,), default=None
            Standard deviation of the error of ``axis``, in its units. None means that it is exact.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each sample counts; None means once. It says which samples are drawn, and where curves end.
        size_factors, covariates : array-like of shape (n_samples, ...), default=None
            Of the rows of X, for an estimator that was fitted with those of its rows.
        features : str, int or sequence of them, default=None
            Names or positions of the features to draw. None means all.
        panels : {"cluster", "feature"}, default="cluster"
            What has a panel of its own.
        units : {"scaled", "user"}, default=None
            ``"user"`` draws values in the units of X: in a Pipeline, curves go back through the
            ``inverse_transform`` of the steps before the estimator. Where a step is not linear, that is not quite the
            expected value in the units of X. ``"scaled"`` draws them in units of their own spread, see
            :class:`TrajectoryDisplay`. None means "user" in panels of one feature, as far as the steps can be undone,
            and "scaled" otherwise.
        value_label : str or mapping of str to str, default=None
            What the vertical axis shows, such as "mg/dL": of all features, or by feature. None says which units are
            drawn.
        axis_label : str, default=None
            What the horizontal axis shows. None calls it after the feature of ``orientation``, if there is one.
        replicates : Replicates, default=None
            Fits to resampled rows of X, as :func:`skdevae.inspection.bootstrap` makes them. The curves that are named
            get a band that contains `confidence_level` of the replicates' curves at each position by itself. Axes that
            replicates have found are compared where the same share of the samples comes before. The band shows how
            curves vary with the samples. What all replicates share, as the shapes that curves can have, is not in it,
            so it holds the true curve less often (``benchmarks/trajectory_bands.py``). None draws no band.
        confidence_level : float, default=0.9
            Share of the replicates inside of the band.
        z : array-like of shape (n_points,), default=None
            Positions on the axis, in the units that are drawn, at which to evaluate the curves. None means 200 where
            samples of X are, but for the outermost 1 % to 5 % of them at either end.
        max_features_per_panel : int, default=50
            Draw at most this many features of a cluster: those whose curves vary most.
        max_samples : int, default=1000
            Draw at most this many samples, evenly spaced in rank along the axis.
        show_observations : bool, default=None
            Whether to draw the observations of the features that are named, each in the colour of its curve. None draws
            them in panels of one feature.
        show_samples : bool, default=True
            Whether to draw where on the axis samples are, as bars along the lower edge of each panel.
        share_y : bool, default=False
            Whether all panels have the same range of values. If not, each has its own.
        max_labels : int, default=4
            Name at most this many features of each panel, chosen such that every curve is close to a named one.
        n_cols : int, default=None
            Most panels side by side, if `ax` is None or one Axes. None means 2 for clusters and 3 for features.
        ax : matplotlib Axes or array of Axes, default=None
            One Axes for each panel, or a single one whose place the panels take. None makes a figure as wide as one
            column of a journal (89 mm) for one panel, and as two (183 mm) for several.
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
            If `estimator` holds no fitted estimator with a latent of one component, if one of `features` does not
            exist, if `units` is "user" and a step before the estimator cannot be undone, or if `ax` does not have one
            Axes for each panel.

        Examples
        --------
        >>> from skdevae import BasisDeVAEClusterer
        >>> from skdevae.datasets import make_progression
        >>> from skdevae.display import TrajectoryDisplay
        >>> X = make_progression(80, n_transient=2, n_increasing=3, n_decreasing=2, as_frame=True, random_state=0).data
        >>> clusterer = BasisDeVAEClusterer(n_grid_points=17, max_epochs=8, random_state=0).fit(X)
        >>> display = TrajectoryDisplay.from_estimator(clusterer, X, features=["increasing_00"], panels="feature")
        >>> display.axes_.shape  # one panel for each feature that was asked for
        (1,)
        """
        import_matplotlib("pyplot", "TrajectoryDisplay")  # if it is missing, say so before the work
        _check_choices(panels, units)
        check_is_fitted(estimator)
        reached = reach(estimator, X)
        model, names = reached.model, reached.names
        facts = given_facts(size_factors=size_factors, covariates=covariates)

        drawn_axis = DrawnAxis.of(reached, sample_weight, axis, axis_sd, facts)
        groups = feature_groups(model, len(names))
        selected = selected_columns(features, names)
        selected = selected[groups.labels[selected] >= 0]  # of the others nothing was learned that could be drawn
        if len(selected) == 0:
            raise ValueError("None of the features varied in the training table, so there are no curves to draw.")
        drawn_units = plotted_units(reached, facts, units, panels == "feature")

        def curves_of(latents: NDArray[np.float64], columns: NDArray[np.integer]) -> NDArray[np.float64]:
            return drawn_units.curves(np.asarray(model.trajectories(latents), dtype=np.float64), columns)

        # A feature is as important as its curve varies over the samples. Some quantiles represent the samples.
        typical = np.quantile(drawn_axis.latents, (np.arange(_TYPICAL_POSITIONS) + 0.5) / _TYPICAL_POSITIONS)
        importances = curves_of(typical, selected).std(0)
        kept = np.ones(len(selected), dtype=bool)
        if panels == "cluster":
            kept = most_important(groups.labels[selected], importances, max_features_per_panel)
        drawn = selected[kept]

        points = drawn_axis.points(z)
        rows = drawn_axis.spread_rows(max_samples)
        lower = upper = None
        if replicates is not None:
            resampled = replicates.trajectories(drawn_axis.on_latents_of(replicates, points))  # (R, P, D)
            sides = [(1 - confidence_level) / 2, (1 + confidence_level) / 2]
            lower, upper = np.quantile([drawn_units.curves(curves, drawn) for curves in resampled], sides, axis=0)
        display = cls(
            z=points,
            trajectories=curves_of(drawn_axis.on_latent(points), drawn),
            positions=drawn_axis.positions[rows],
            observations=drawn_units.observations(rows, drawn),
            feature_names=[names[column] for column in drawn],
            clusters=groups.labels[drawn],
            cluster_names=groups.names,
            cluster_sizes=groups.sizes,
            importances=importances[kept],
            lower=lower,
            upper=upper,
            value_labels=value_labels(value_label, drawn_units.label, [names[column] for column in drawn]),
            axis_label=drawn_axis.label if axis_label is None else axis_label,
        )
        return display.plot(
            panels=panels,
            show_observations=show_observations,
            show_samples=show_samples,
            share_y=share_y,
            max_labels=max_labels,
            n_cols=n_cols,
            ax=ax,
            line_kw=line_kw,
            observation_kw=observation_kw,
        )

    @classmethod
    def from_predictions(
        cls,
        z: ArrayLike,
        trajectories: ArrayLike,
        *,
        positions: ArrayLike | None = None,
        observations: ArrayLike | None = None,
        lower: ArrayLike | None = None,
        upper: ArrayLike | None = None,
        feature_names: Sequence[str] | None = None,
        clusters: Sequence[str] | None = None,
        value_label: str | Mapping[str, str] | None = None,
        axis_label: str = "position on the latent axis",
        panels: PanelsName = "cluster",
        show_observations: bool | None = None,
        show_samples: bool = True,
        share_y: bool = False,
        max_labels: int = 4,
        n_cols: int | None = None,
        ax: Any = None,
        line_kw: dict[str, Any] | None = None,
        observation_kw: dict[str, Any] | None = None,
    ) -> Self:
        """Draw curves that are known already, in the units in which they are given.

        Parameters
        ----------
        z : array-like of shape (n_points,)
            Positions on the axis, ascending.
        trajectories : array-like or DataFrame of shape (n_points, n_features)
            Curves at these positions.
        positions : array-like of shape (n_samples,), default=None
            Positions of samples. None draws none.
        observations : array-like of shape (n_samples, n_features), default=None
            Values of these samples, in the units of the curves; NaN is not drawn. None draws none.
        lower, upper : array-like of shape (n_points, n_features), default=None
            Band around each curve. None draws none.
        feature_names : sequence of str, of length n_features, default=None
            Names of the features. None means the columns of a DataFrame, or x0, x1 and so on.
        clusters : sequence of str, of length n_features, default=None
            Name of the cluster of each feature. Panels stand in the order in which the names come first. None puts all
            features into one.
        value_label : str or mapping of str to str, default=None
            What the vertical axis shows, such as "mg/dL": of all features, or by feature. None means "value".
        axis_label : str, default="position on the latent axis"
            What the horizontal axis shows.
        panels : {"cluster", "feature"}, default="cluster"
            What has a panel of its own.
        show_observations : bool, default=None
            Whether to draw the observations of the features that are named, each in the colour of its curve. None draws
            them in panels of one feature.
        show_samples : bool, default=True
            Whether to draw where on the axis samples are, as bars along the lower edge of each panel.
        share_y : bool, default=False
            Whether all panels have the same range of values. If not, each has its own.
        max_labels : int, default=4
            Name at most this many features of each panel, chosen such that every curve is close to a named one.
        n_cols : int, default=None
            Most panels side by side, if `ax` is None or one Axes. None means 2 for clusters and 3 for features.
        ax : matplotlib Axes or array of Axes, default=None
            One Axes for each panel, or a single one whose place the panels take. None makes a figure as wide as one
            column of a journal (89 mm) for one panel, and as two (183 mm) for several.
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
            If the shapes of the arrays do not fit each other, or if `ax` does not have one Axes for each panel.

        Examples
        --------
        >>> import numpy as np
        >>> from skdevae.display import TrajectoryDisplay
        >>> z = np.linspace(0, 1, 50)
        >>> curves = np.column_stack([z, 1 - z, np.sin(np.pi * z)])
        >>> display = TrajectoryDisplay.from_predictions(z, curves, clusters=["linear", "linear", "bent"])
        >>> [panel.get_title(loc="left") for panel in display.axes_]
        ['linear (2 features)', 'bent (1 feature)']
        """
        bands = {"lower": lower, "upper": upper}
        given = given_curves(z, trajectories, positions, observations, bands, feature_names, clusters)
        labels = value_labels(value_label, "value", given["feature_names"])
        display = cls(**given, value_labels=labels, axis_label=axis_label)
        return display.plot(
            panels=panels,
            show_observations=show_observations,
            show_samples=show_samples,
            share_y=share_y,
            max_labels=max_labels,
            n_cols=n_cols,
            ax=ax,
            line_kw=line_kw,
            observation_kw=observation_kw,
        )

    def plot(
        self,
        *,
        panels: PanelsName = "cluster",
        show_observations: bool | None = None,
        show_samples: bool = True,
        share_y: bool = False,
        max_labels: int = 4,
        n_cols: int | None = None,
        ax: Any = None,
        line_kw: dict[str, Any] | None = None,
        observation_kw: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the panels.

        Parameters
        ----------
        panels : {"cluster", "feature"}, default="cluster"
            What has a panel of its own.
        show_observations : bool, default=None
            Whether to draw the observations of the features that are named, each in the colour of its curve. None draws
            them in panels of one feature.
        show_samples : bool, default=True
            Whether to draw where on the axis samples are, as bars along the lower edge of each panel.
        share_y : bool, default=False
            Whether all panels have the same range of values. If not, each has its own.
        max_labels : int, default=4
            Name at most this many features of each panel, chosen such that every curve is close to a named one.
        n_cols : int, default=None
            Most panels side by side, if `ax` is None or one Axes. None means 2 for clusters and 3 for features.
        ax : matplotlib Axes or array of Axes, default=None
            One Axes for each panel, or a single one whose place the panels take. None makes a figure as wide as one
            column of a journal (89 mm) for one panel, and as two (183 mm) for several.
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

        Examples
        --------
        >>> import numpy as np
        >>> from skdevae.display import TrajectoryDisplay
        >>> z = np.linspace(0, 1, 50)
        >>> curves = np.column_stack([z, 1 - z])
        >>> display = TrajectoryDisplay.from_predictions(z, curves, clusters=["up", "down"])
        >>> display.plot(panels="feature", share_y=True).axes_.shape  # the same curves in other panels
        (2,)
        """
        import_matplotlib("pyplot", "TrajectoryDisplay")
        _check_choices(panels)
        curves = Curves(
            self.z, self.trajectories, self.positions, self.observations, self.lower, self.upper, self.feature_names
        )
        parts = self._parts(panels)
        self.axes_ = self.ax_ = arrange_panels(ax, len(parts), n_cols or _COLUMNS[panels], "TrajectoryDisplay")
        self.figure_: Figure = self.axes_[0].figure
        self.lines_ = np.empty(len(self.feature_names), dtype=object)
        self.observations_: dict[str, Any] = {}
        self.bands_: dict[str, Any] = {}
        self.samples_: list[Any] = []
        self.labels_: dict[str, Any] = {}
        shows = [len(members) == 1 if show_observations is None else show_observations for _, members in parts]
        limits = [curves.limits(members, shown) for (_, members), shown in zip(parts, shows, strict=True)]
        if share_y:
            limits = [(min(low for low, _ in limits), max(high for _, high in limits))] * len(limits)
        self._name_axes(parts)
        for axes, (_, members), own_limits, shown in zip(self.axes_, parts, limits, shows, strict=True):
            named = self._named(members, max_labels if panels == "cluster" else 1)
            set_limits(axes, self.z, own_limits, show_samples)
            if show_samples:
                self.samples_.append(draw_histogram(axes, self.z, self.positions))
            if shown:
                self.observations_ |= self._by_name(draw_observations(axes, curves, named, observation_kw or {}))
            self.bands_ |= self._by_name(draw_bands(axes, curves, named))
            for feature, line in draw_curves(axes, curves, members, named, line_kw or {}):
                self.lines_[feature] = line
            if panels == "cluster":
                self.labels_ |= name_curves(axes, curves, {feature: self.lines_[feature] for feature in named})
        lay_out(self.figure_)  # only now it is known how wide panels are
        for axes, (title, _) in zip(self.axes_, parts, strict=True):
            add_title(axes, title)
        return self

    def _name_axes(self, parts: list[tuple[str, NDArray[np.integer]]]) -> None:
        """Name the axes of panels; a name that neighbours share is written once."""
        of_panels = [
            ", ".join(dict.fromkeys(self.value_labels[feature] for feature in members)) for _, members in parts
        ]
        for axes, label in zip(self.axes_, of_panels, strict=True):
            is_lowest, is_first = (is_outermost(axes, self.axes_, side) for side in ("bottom", "left"))
            shows_value = is_first or len(set(of_panels)) > 1
            dress(axes, self.axis_label if is_lowest else None, label if shows_value else None)

    def _parts(self, panels: str) -> list[tuple[str, NDArray[np.integer]]]:
        """Title and features of each panel."""
        if panels == "feature":
            return [(name, np.array([feature])) for feature, name in enumerate(self.feature_names)]
        parts: list[tuple[str, NDArray[np.integer]]] = []
        for cluster in np.unique(self.clusters):
            members = np.nonzero(self.clusters == cluster)[0]
            size = int(self.cluster_sizes[cluster])
            count = f"{size}" if len(members) == size else f"{len(members)} of {size}"
            count += " feature" if size == 1 else " features"
            name = self.cluster_names[cluster]
            parts.append((f"{name} ({count})" if name else count, members))
        return parts

    def _named(self, members: NDArray[np.integer], n_wanted: int) -> NDArray[np.integer]:
        """The members that are named, in the order of their right ends from top to bottom."""
        values = self.trajectories[:, members]
        chosen = representatives(values, self.importances[members], n_wanted)
        return members[chosen[np.argsort(-values[-1, chosen], kind="stable")]]

    def _by_name(self, drawn: dict[int, Any]) -> dict[str, Any]:
        return {self.feature_names[feature]: artist for feature, artist in drawn.items()}


def _check_choices(panels: str, units: str | None = None) -> None:
    constraints: dict = {"panels": [StrOptions(set(_COLUMNS))], "units": [StrOptions({"scaled", "user"}), None]}
    check_parameters(constraints, {"panels": panels, "units": units}, "TrajectoryDisplay")
