"""FeatureClusterDisplay: the table as a heat map, samples along the axis and features by cluster and place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from .._typing import CovariatesLike
from ..inspection._courses import Courses
from ..inspection._input import reach
from ..inspection._positions import positions_of, query_of
from ..metrics import coclustering_matrix
from ..metrics._pipelines import given_facts
from ._drawn_axis import axis_label
from ._heat_map import (
    AROUND_A_MIDDLE,
    SHARES,
    add_color_bar,
    arrange_kind,
    check_kind,
    draw_matrix,
    name_groups,
    name_rows,
    separate_groups,
)
from ._layout import TEXT, import_matplotlib
from ._plotted_units import ScaledUnits

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Kind: TypeAlias = Literal["heatmap", "coclustering", "both"]

_KINDS = ("heatmap", "coclustering", "both")
#: share of the entries whose values lie within the colour bar
_SHOWN = 0.98


class FeatureClusterDisplay:
    """The table as a heat map: samples in their order along the axis, features by cluster and place.

    Use :meth:`from_estimator` to make one, or :meth:`from_predictions` if you have positions and clusters already. Each
    row is a feature. Features of one cluster stand together, and in each cluster those that change early stand above
    those that change late. A dot marks the place: the peak of a curve that turns, the half of the change of another.
    Each column is a sample, or the mean of some neighbours on the axis where there are many.

    Beside it, or instead, stands the co-clustering matrix: how probable it is that two features are in one cluster.

    Parameters
    ----------
    values : ndarray of shape (n_features, n_columns)
        Values in plotted units, samples in order along the axis; NaN is grey.
    feature_names : sequence of str of length n_features
        Names of the features, in the order of the rows.
    clusters : ndarray of int of shape (n_features,)
        Cluster of each feature, as a position in `cluster_names`.
    cluster_names : sequence of str
        Names of all clusters.
    places : ndarray of shape (n_features,), default=None
        Where each feature changes, as a share of the samples; NaN where it does not. None draws no dots.
    coclustering : ndarray of shape (n_features, n_features), default=None
        Probability that two features are in one cluster.
    value_label : str, default="standardised value (sd)"
        What the colours of the heat map mean.
    axis_label : str, default="position on the latent axis"
        What the axis is called, along which samples are in order.

    Attributes
    ----------
    axes_ : ndarray of matplotlib.axes.Axes of shape (n_panels,)
        The panels: the heat map, the co-clustering matrix, or both in this order.
    ax_ : ndarray of matplotlib.axes.Axes
        The same as `axes_`, under the name that displays of scikit-learn use.
    figure_ : matplotlib.figure.Figure
        Figure that holds them.
    heatmap_ : matplotlib.image.AxesImage or None
        The heat map.
    coclustering_ : matplotlib.image.AxesImage or None
        The co-clustering matrix.
    places_ : matplotlib.collections.PathCollection or None
        The dots on the heat map.

    See Also
    --------
    TrajectoryDisplay : Draws the curves.
    skdevae.metrics.coclustering_matrix : Computes the matrix, over several fits, too.

    Examples
    --------
    >>> from skdevae import BasisDeVAEClusterer
    >>> from skdevae.datasets import make_progression
    >>> from skdevae.display import FeatureClusterDisplay
    >>> X = make_progression(80, n_transient=2, n_increasing=3, n_decreasing=2, as_frame=True, random_state=0).data
    >>> clusterer = BasisDeVAEClusterer(n_grid_points=17, max_epochs=8, random_state=0).fit(X)
    >>> display = FeatureClusterDisplay.from_estimator(clusterer, X, kind="both")
    >>> display.heatmap_.get_array().shape
    (7, 80)
    >>> display.coclustering_.get_array().shape
    (7, 7)
    """

    def __init__(
        self,
        *,
        values: NDArray[np.float64],
        feature_names: Iterable[str],
        clusters: NDArray[np.integer],
        cluster_names: Iterable[str],
        places: NDArray[np.float64] | None = None,
        coclustering: NDArray[np.float64] | None = None,
        value_label: str = "standardised value (sd)",
        axis_label: str = "position on the latent axis",
    ) -> None:
        self.values = values
        self.feature_names = list(feature_names)
        self.clusters = clusters
        self.cluster_names = list(cluster_names)
        self.places = places
        self.coclustering = coclustering
        self.value_label = value_label
        self.axis_label = axis_label

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        axis: ArrayLike | None = None,
        axis_sd: ArrayLike | None = None,
        size_factors: ArrayLike | None = None,
        covariates: CovariatesLike = None,
        coclustering: pd.DataFrame | ArrayLike | None = None,
        kind: Kind = "heatmap",
        max_columns: int = 150,
        ax: Any = None,
        heatmap_kw: dict[str, Any] | None = None,
        coclustering_kw: dict[str, Any] | None = None,
    ) -> FeatureClusterDisplay:
        """Draw the table of a fitted feature clusterer.

        Parameters
        ----------
        estimator : feature clusterer, Pipeline or search
            A fitted :class:`~skdevae.BasisDeVAEClusterer` or :class:`~skdevae.BasisVAEClusterer`, or a Pipeline or
            search that ends in one. In a Pipeline, the table is drawn as it reaches the clusterer.
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            What `estimator` takes. It may be another table than the one that `estimator` was fitted on.
        axis : array-like of shape (n_samples,), default=None
            Known positions of the samples, as for ``fit``, for a model that was fitted with an axis. NaN where they are
            not known. None places samples by their entries alone.
        axis_sd : float or array-like of shape (n_samples,), default=None
            Standard deviation of the error of ``axis``, in its units. None means that it is exact.
        size_factors, covariates : array-like of shape (n_samples, ...), default=None
            Of the rows of X, for an estimator that was fitted with those of its rows.
        coclustering : DataFrame or array-like of shape (n_features, n_features), default=None
            Probability that two features are in one cluster, such as that over replicates, ``coclustering`` of what
            :func:`skdevae.inspection.stability` returns. Of a DataFrame, rows and columns are found by their names.
            None means that of the fit.
        kind : {"heatmap", "coclustering", "both"}, default="heatmap"
            What to draw.
        max_columns : int, default=150
            Most columns of the heat map. Of more samples, neighbours on the axis are averaged.
        ax : matplotlib Axes or array of Axes, default=None
            Where to draw: one Axes, or two if `kind` is "both", or a single one whose place both take. None makes a
            figure as wide as one column of a journal, or as two.
        heatmap_kw : dict, default=None
            Passed to :meth:`matplotlib.axes.Axes.imshow` for the heat map.
        coclustering_kw : dict, default=None
            Passed to :meth:`matplotlib.axes.Axes.imshow` for the co-clustering matrix.

        Returns
        -------
        display : FeatureClusterDisplay
            Drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `estimator` does not cluster features along one axis, if `coclustering` does not fit, if `kind` is none
            of the above, or if `ax` does not have as many Axes as there are panels.

        Examples
        --------
        >>> from skdevae import BasisDeVAEClusterer
        >>> from skdevae.datasets import make_progression
        >>> from skdevae.display import FeatureClusterDisplay
        >>> X = make_progression(80, n_transient=2, n_increasing=3, n_decreasing=2, as_frame=True, random_state=0).data
        >>> clusterer = BasisDeVAEClusterer(n_grid_points=17, max_epochs=8, random_state=0).fit(X)
        >>> display = FeatureClusterDisplay.from_estimator(clusterer, X)
        >>> display.heatmap_.get_array().shape  # a row for each feature, a column for each sample
        (7, 80)
        """
        import_matplotlib("pyplot", "FeatureClusterDisplay")
        check_is_fitted(estimator)
        reached = reach(estimator, X)
        model = reached.model
        if not (hasattr(model, "responsibilities_") and hasattr(model, "cluster_names_")):
            raise ValueError(
                f"{type(model).__name__} does not cluster features: give a fitted BasisDeVAEClusterer or "
                "BasisVAEClusterer, or a Pipeline that ends in one."
            )
        facts = given_facts(size_factors=size_factors, covariates=covariates)
        query = query_of(reached, None, axis, axis_sd, **facts)
        positions = positions_of(model, query)
        courses = Courses.of(reached, positions, None)
        peaks, halves = courses.quantiles("peak"), courses.quantiles("half_change")
        return cls.from_predictions(
            model.adjust(reached.table, **facts),
            positions,
            model.labels_,
            cluster_names=[str(name) for name in model.cluster_names_],
            feature_names=reached.names,
            places=np.where(np.isnan(peaks), halves, peaks),
            coclustering=coclustering_matrix(model.responsibilities_) if coclustering is None else coclustering,
            likelihood=model._config_["likelihood"]["name"],
            axis_label=axis_label(reached, positions, axis),
            kind=kind,
            max_columns=max_columns,
            ax=ax,
            heatmap_kw=heatmap_kw,
            coclustering_kw=coclustering_kw,
        )

    @classmethod
    def from_predictions(
        cls,
        X: Any,
        positions: ArrayLike,
        labels: ArrayLike,
        *,
        cluster_names: Sequence[str] | None = None,
        feature_names: Sequence[str] | None = None,
        places: ArrayLike | None = None,
        coclustering: pd.DataFrame | ArrayLike | None = None,
        likelihood: str = "gaussian",
        axis_label: str = "position on the latent axis",
        kind: Kind = "heatmap",
        max_columns: int = 150,
        ax: Any = None,
        heatmap_kw: dict[str, Any] | None = None,
        coclustering_kw: dict[str, Any] | None = None,
    ) -> FeatureClusterDisplay:
        """Draw a table whose samples were placed, and whose features were clustered, before.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            The table. Each feature is drawn in units of its own spread; see :class:`TrajectoryDisplay`.
        positions : array-like of shape (n_samples,)
            Position of each sample on the axis.
        labels : array-like of int of shape (n_features,)
            Number of the cluster of each feature. Features with -1 are not drawn.
        cluster_names : sequence of str, default=None
            Names of the clusters, by their numbers. None means "cluster 0" and so on.
        feature_names : sequence of str of length n_features, default=None
            None means the columns of a DataFrame, or x0, x1 and so on.
        places : array-like of shape (n_features,), default=None
            Where each feature changes, as a share of the samples. In each cluster, features are in this order. NaN goes
            last. None leaves them in the order of the table.
        coclustering : DataFrame or array-like of shape (n_features, n_features), default=None
            As for :meth:`from_estimator`. None leaves it to the labels: 1 within a cluster, and 0 between two.
        likelihood : str, default="gaussian"
            What the entries are, by the name of their likelihood: counts are drawn by their logarithm, and zeros and
            ones as they are.
        axis_label : str, default="position on the latent axis"
            What the axis is called, along which samples are in order.
        kind : {"heatmap", "coclustering", "both"}, default="heatmap"
            As for :meth:`from_estimator`.
        max_columns : int, default=150
            As for :meth:`from_estimator`.
        ax : matplotlib Axes or array of Axes, default=None
            As for :meth:`from_estimator`.
        heatmap_kw : dict, default=None
            As for :meth:`from_estimator`.
        coclustering_kw : dict, default=None
            As for :meth:`from_estimator`.

        Returns
        -------
        display : FeatureClusterDisplay
            Drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the shapes do not agree, if no feature has a cluster, if `kind` is none of the above, or if `ax` does not
            have as many Axes as there are panels.

        Examples
        --------
        >>> import numpy as np
        >>> from skdevae.display import FeatureClusterDisplay
        >>> time = np.linspace(0, 1, 40)
        >>> X = np.column_stack([time, 1 - time, time**2])
        >>> display = FeatureClusterDisplay.from_predictions(X, time, [0, 1, 0], cluster_names=["up", "down"])
        >>> display.heatmap_.get_array().shape
        (3, 40)
        """
        import_matplotlib("pyplot", "FeatureClusterDisplay")
        columns = getattr(X, "columns", None)
        table = X if hasattr(X, "shape") else np.asarray(X)
        at, clusters = np.asarray(positions, dtype=np.float64), np.asarray(labels)
        n_samples, n_features = table.shape
        names = [f"x{j}" for j in range(n_features)] if columns is None else [str(name) for name in columns]
        names = names if feature_names is None else [str(name) for name in feature_names]
        where = None if places is None else np.asarray(places, dtype=np.float64)
        _check_lengths(n_samples, positions=at)
        _check_lengths(n_features, labels=clusters, feature_names=names, places=where)
        if max_columns < 1:
            raise ValueError(f"max_columns is {max_columns}, but a heat map has at least one column.")
        # A stable sort by place, then by cluster: NaN goes last.
        order = np.lexsort((np.zeros(n_features) if where is None else where, clusters))
        order = order[clusters[order] >= 0]
        if not len(order):
            raise ValueError("No feature has a cluster (all labels are -1), so there is nothing to draw.")
        units = ScaledUnits(table, likelihood)
        values = units.observations(np.argsort(at, kind="stable"), order)
        together = _same_cluster(clusters) if coclustering is None else _matrix(coclustering, names)
        display = cls(
            values=_averaged(values, max_columns).T,
            feature_names=[names[j] for j in order],
            clusters=clusters[order],
            cluster_names=_names_of(clusters, cluster_names),
            places=None if where is None else where[order],
            coclustering=together[np.ix_(order, order)],
            value_label=units.label,
            axis_label=axis_label,
        )
        return display.plot(ax=ax, kind=kind, heatmap_kw=heatmap_kw, coclustering_kw=coclustering_kw)

    def plot(
        self,
        ax: Any = None,
        *,
        kind: Kind = "heatmap",
        heatmap_kw: dict[str, Any] | None = None,
        coclustering_kw: dict[str, Any] | None = None,
    ) -> FeatureClusterDisplay:
        """Draw the panels.

        Parameters
        ----------
        ax : matplotlib Axes or array of Axes, default=None
            As for :meth:`from_estimator`.
        kind : {"heatmap", "coclustering", "both"}, default="heatmap"
            As for :meth:`from_estimator`.
        heatmap_kw : dict, default=None
            As for :meth:`from_estimator`.
        coclustering_kw : dict, default=None
            As for :meth:`from_estimator`.

        Returns
        -------
        display : FeatureClusterDisplay
            This display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `kind` is none of the above, if there is no co-clustering matrix to draw, or if `ax` does not have as
            many Axes as there are panels.

        Examples
        --------
        >>> from skdevae import BasisDeVAEClusterer
        >>> from skdevae.datasets import make_progression
        >>> from skdevae.display import FeatureClusterDisplay
        >>> X = make_progression(80, n_transient=2, n_increasing=3, n_decreasing=2, as_frame=True, random_state=0).data
        >>> clusterer = BasisDeVAEClusterer(n_grid_points=17, max_epochs=8, random_state=0).fit(X)
        >>> display = FeatureClusterDisplay.from_estimator(clusterer, X)
        >>> display.plot(kind="coclustering").coclustering_.get_array().shape  # the same fit, another panel
        (7, 7)
        """
        check_kind(kind, _KINDS)
        if kind != "heatmap" and self.coclustering is None:
            raise ValueError(f"There is no co-clustering matrix, which kind={kind!r} asks for.")
        self.axes_ = self.ax_ = arrange_kind(ax, kind, len(self.feature_names), "FeatureClusterDisplay")
        self.figure_: Any = self.axes_[0].figure
        self.heatmap_: Any = None
        self.coclustering_: Any = None
        self.places_: Any = None
        if kind != "coclustering":
            self._draw_heatmap(self.axes_[0], heatmap_kw or {}, grouped=kind == "heatmap")
        if kind != "heatmap":
            self._draw_coclustering(self.axes_[-1], coclustering_kw or {}, named=kind == "coclustering")
        return self

    def _draw_heatmap(self, axes: Axes, keywords: dict[str, Any], grouped: bool) -> None:
        is_share = self.value_label == "probability"
        reach = 1.0 if is_share else float(np.nanquantile(np.abs(self.values), _SHOWN)) or 1.0
        limits, colors = ((0.0, 1.0), SHARES) if is_share else ((-reach, reach), AROUND_A_MIDDLE)
        n_features = len(self.feature_names)
        extent = {"extent": (0, 1, n_features - 0.5, -0.5)}
        self.heatmap_ = draw_matrix(axes, self.values, limits, colors, {**extent, **keywords})
        if self.places is not None:
            style: dict[str, Any] = {"s": 5, "color": "black", "edgecolors": "white", "linewidths": 0.4, "zorder": 3}
            self.places_ = axes.scatter(self.places, np.arange(n_features), clip_on=False, **style)
        axes.set_xlim(0, 1)
        axes.set_xlabel(f"{self.axis_label}\n(share of the samples)", fontsize=TEXT)
        name_rows(axes, self.feature_names)
        self._show_clusters(axes, named=grouped)
        add_color_bar(self.heatmap_, axes, self.value_label, below=True, extends=not is_share)

    def _draw_coclustering(self, axes: Axes, keywords: dict[str, Any], named: bool) -> None:
        assert self.coclustering is not None
        self.coclustering_ = draw_matrix(axes, self.coclustering, (0.0, 1.0), SHARES, keywords)
        axes.set_xticks([])  # the columns are the rows once more
        if named:
            name_rows(axes, self.feature_names)
        else:  # the rows are those of the heat map beside it
            axes.set_yticks([])
        self._show_clusters(axes, columns=True)
        add_color_bar(self.coclustering_, axes, "probability of the same cluster", below=True)

    def _show_clusters(self, axes: Axes, named: bool = True, columns: bool = False) -> None:
        shown, sizes = np.unique(self.clusters, return_counts=True)
        separate_groups(axes, sizes.tolist(), columns=columns)
        if named:  # of two panels, the right one has the names
            name_groups(axes, [self.cluster_names[cluster] for cluster in shown], sizes.tolist())


def _check_lengths(expected: int, **given: Any) -> None:
    for name, values in given.items():
        if values is not None and np.shape(values) != (expected,):
            what = "samples" if name == "positions" else "features"
            raise ValueError(f"{name} has shape {np.shape(values)}, but X has {expected} {what}: give one for each.")


def _names_of(clusters: NDArray[np.integer], names: Sequence[str] | None) -> list[str]:
    n_clusters = int(clusters.max()) + 1
    if names is None:
        return [f"cluster {cluster}" for cluster in range(n_clusters)]
    if len(names) < n_clusters:
        raise ValueError(f"cluster_names has {len(names)} names, but labels go up to {n_clusters - 1}.")
    return [str(name) for name in names]


def _same_cluster(clusters: NDArray[np.integer]) -> NDArray[np.float64]:
    return np.asarray(clusters[:, None] == clusters, dtype=np.float64)


def _matrix(coclustering: Any, names: Sequence[str]) -> NDArray[np.float64]:
    """Probabilities (D, D) of features in the order of the table."""
    if isinstance(coclustering, pd.DataFrame):
        missing = [name for name in names if name not in coclustering.index or name not in coclustering.columns]
        if missing:
            raise ValueError(f"coclustering has no row and column {missing[0]!r}, which is a feature of the table.")
        coclustering = coclustering.loc[names, names]
    matrix = np.asarray(coclustering, dtype=np.float64)
    if matrix.shape != (len(names), len(names)):
        raise ValueError(f"coclustering has shape {matrix.shape}, but there are {len(names)} features.")
    return matrix


def _averaged(values: NDArray[np.float64], n_groups: int) -> NDArray[np.float64]:
    """Means of at most ``n_groups`` groups of neighbouring rows (N, D), as large as each other, of what is observed."""
    if len(values) <= n_groups:
        return values
    edges = np.linspace(0, len(values), n_groups + 1).round().astype(int)
    known = ~np.isnan(values)
    sums, counts = (np.add.reduceat(part, edges[:-1], axis=0) for part in (np.where(known, values, 0.0), known * 1))
    with np.errstate(invalid="ignore"):
        return sums / counts
