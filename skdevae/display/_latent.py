"""LatentDisplay: a map of the latent, with samples where the model places them over draws from its prior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from .._typing import CovariatesLike
from ..metrics._pipelines import given_facts, last_step
from ._fitted_text import shortened
from ._labels import Labels, read_labels
from ._layout import emptiest_corner, import_matplotlib, leave_room, widen_figure_for
from ._palette import CATEGORY_COLORS, PRIOR_COLOR, UNLABELLED_COLOR, category_style
from ._reduction import at_most_two_axes, check_reducer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: colour of the outline and the base line of densities
_OUTLINE_COLOR = "#333333"
#: most entries that one column of the legend has
_LEGEND_ROWS = 16
#: most of a panel's width that a legend takes where others share the figure
_LEGEND_WIDTH = 0.4
#: what stands beside the text of an entry, as a multiple of the text's size
_HANDLE_ROOM = 3.0
#: sizes of the legend's entries and of its title, in points
_ENTRY_SIZE, _TITLE_SIZE = 8.5, 9
#: fewest and most draws from the prior by default
_PRIOR_DRAWS = (500, 2000)
#: fewest and most bins of the densities of a latent of one component
_BINS = (10, 60)


class LatentDisplay:
    """Samples where the model places them in its latent, coloured by label, over draws from its prior in grey.

    Use :meth:`from_estimator` to make one, or :meth:`from_latents` if you have the latents already. Grey without
    samples is where the prior expects samples that X does not have. Samples without grey are samples of a kind that the
    model would hardly ever generate. Each sample is drawn at its posterior mean. Posterior means spread less than the
    prior, even if the model is right, so samples should lie a little inside the grey.

    Two latent components are drawn as they are. One component is drawn as two densities, of the prior and of the
    samples; below them are the samples themselves, each category in a lane of its own. More than two components are
    reduced to two axes, samples and draws together.

    Parameters
    ----------
    latents : ndarray of shape (n_samples, n_axes)
        Positions of the samples, on one axis or two.
    prior : ndarray of shape (n_prior_samples, n_axes), default=None
        Positions of the draws from the prior.
    labels : array-like of shape (n_samples,), default=None
        A category or a number for every sample; the name of a Series becomes the legend's title. Whole numbers with at
        most 12 different values are categories. Other numbers have a colour bar. None and NaN mean unlabelled.
    axis_names : sequence of str of length n_axes, default=None
        What the axes show. None means "latent 0" and "latent 1".

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Axes with the figure.
    figure_ : matplotlib.figure.Figure
        Figure that holds them.
    samples_ : matplotlib.collections.PathCollection
        The samples with a label, or all if there are no labels. They are drawn in a shuffled order, which is the same
        every time, so that the category whose rows come last does not cover the others.
    unlabelled_ : matplotlib.collections.PathCollection or None
        The samples without a label.
    prior_ : matplotlib.collections.PathCollection, matplotlib.patches.StepPatch or None
        The draws from the prior; a histogram if there is one axis.
    density_ : matplotlib.patches.StepPatch or None
        Outline of the histogram of all samples, if there is one axis.
    legend_ : matplotlib.legend.Legend or None
        Legend of the categories, the prior and unlabelled samples.
    colorbar_ : matplotlib.colorbar.Colorbar or None
        Colour bar of numbers.

    See Also
    --------
    TrajectoryDisplay : Every feature's curve along a latent of one component.

    Examples
    --------
    >>> import numpy as np
    >>> from skdevae.display import LatentDisplay
    >>> random = np.random.default_rng(0)
    >>> Z, prior = random.normal(size=(60, 2)), random.normal(size=(200, 2))
    >>> display = LatentDisplay.from_latents(Z, prior=prior, labels=["control"] * 20 + ["case"] * 40)
    >>> [entry.get_text() for entry in display.legend_.get_texts()]
    ['case', 'control', 'prior']
    >>> display.prior_.get_offsets().shape
    (200, 2)
    """

    def __init__(
        self,
        *,
        latents: NDArray[np.float64],
        prior: NDArray[np.float64] | None = None,
        labels: ArrayLike | None = None,
        axis_names: Sequence[str] | None = None,
    ) -> None:
        self.latents = latents
        self.prior = prior
        self.labels = labels
        self.axis_names = list(_numbered(latents.shape[1]) if axis_names is None else axis_names)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        size_factors: ArrayLike | None = None,
        covariates: CovariatesLike = None,
        labels: ArrayLike | None = None,
        n_prior_samples: int | None = None,
        reducer: Any = "auto",
        random_state: int | np.random.RandomState | None = None,
        ax: Axes | None = None,
        legend: bool = True,
        sample_kw: dict[str, Any] | None = None,
        prior_kw: dict[str, Any] | None = None,
    ) -> LatentDisplay:
        """Draw the samples of X at their posterior means over draws from the prior.

        Parameters
        ----------
        estimator : estimator, Pipeline or search
            Fitted. Its ``transform`` places the samples. The draws come from its ``sample_latent``; in a Pipeline, from
            that of the last step.
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            What `estimator` takes. It may be another table than the one that `estimator` was fitted on.
        size_factors, covariates : array-like of shape (n_samples, ...), default=None
            Of the rows of X, for an estimator that was fitted with those of its rows.
        labels : array-like of shape (n_samples,), default=None
            A category or a number for every row of X, in the order of the rows; None and NaN mean unlabelled. See
            :class:`LatentDisplay` for which numbers are categories.
        n_prior_samples : int, default=None
            Number of draws from the prior; 0 leaves the prior out. None means the number of samples, but at least 500
            and at most 2000.
        reducer : {"auto", "pca"} or transformer, default="auto"
            How more than two components are reduced to two axes. "auto" is UMAP, which needs the extra
            ``skdevae[umap]`` (PCA if there are fewer than four points), and "pca" is
            :class:`~sklearn.decomposition.PCA`. Of a transformer, a clone is fitted. Samples and draws are reduced
            together. Not used for one or two components.
        random_state : int, RandomState instance or None, default=None
            Seed of the draws and of UMAP's layout. An int gives the same figure every time.
        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure.
        legend : bool, default=True
            Whether to draw a legend or a colour bar. Of several panels with the same labels, one is enough.
        sample_kw : dict, default=None
            Passed to :meth:`matplotlib.axes.Axes.scatter` for the samples.
        prior_kw : dict, default=None
            Passed to :meth:`matplotlib.axes.Axes.scatter` for the draws, or to
            :meth:`~matplotlib.axes.Axes.stairs` if there is one component.

        Returns
        -------
        display : LatentDisplay
            Drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed, or umap-learn where UMAP is to be used.
        ValueError
            If `estimator` cannot draw from its prior, if `labels` does not fit X, if `reducer` is none of the above or
            does not give two columns, or if `ax` is not one Axes.

        Examples
        --------
        >>> from skdevae import VAETransformer
        >>> from skdevae.datasets import make_cell_clusters
        >>> from skdevae.display import LatentDisplay
        >>> cells = make_cell_clusters(60, 20, random_state=0)
        >>> model = VAETransformer(n_components=2, likelihood="poisson", max_epochs=5, random_state=0).fit(cells.data)
        >>> display = LatentDisplay.from_estimator(model, cells.data, labels=cells.target, random_state=0)
        >>> display.latents.shape
        (60, 2)
        """
        import_matplotlib("pyplot", "LatentDisplay")  # if it is missing, say so before the work
        check_is_fitted(estimator)
        check_reducer(reducer)
        model = last_step(estimator)
        placed = estimator.transform(X, **given_facts(size_factors=size_factors, covariates=covariates))
        return cls.from_latents(
            placed,
            prior=_prior_draws(model, n_prior_samples, len(placed), random_state),
            labels=labels,
            component_names=_component_names(model, placed),
            reducer=reducer,
            random_state=random_state,
            ax=ax,
            legend=legend,
            sample_kw=sample_kw,
            prior_kw=prior_kw,
        )

    @classmethod
    def from_latents(
        cls,
        Z: ArrayLike,
        *,
        prior: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        component_names: Sequence[str] | None = None,
        reducer: Any = "auto",
        random_state: int | np.random.RandomState | None = None,
        ax: Axes | None = None,
        legend: bool = True,
        sample_kw: dict[str, Any] | None = None,
        prior_kw: dict[str, Any] | None = None,
    ) -> LatentDisplay:
        """Draw latents over draws from a prior.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components)
            Latents of the samples.
        prior : array-like of shape (n_prior_samples, n_components), default=None
            Draws from the prior. None leaves the prior out.
        labels : array-like of shape (n_samples,), default=None
            As for :meth:`from_estimator`.
        component_names : sequence of str of length n_components, default=None
            Names of the columns of Z. None means those of a DataFrame, or "latent 0" and so on.
        reducer : {"auto", "pca"} or transformer, default="auto"
            As for :meth:`from_estimator`.
        random_state : int, RandomState instance or None, default=None
            Seed of UMAP's layout.
        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure.
        legend : bool, default=True
            Whether to draw a legend or a colour bar.
        sample_kw : dict, default=None
            As for :meth:`from_estimator`.
        prior_kw : dict, default=None
            As for :meth:`from_estimator`.

        Returns
        -------
        display : LatentDisplay
            Drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed, or umap-learn where UMAP is to be used.
        ValueError
            If `prior`, `labels` or `component_names` do not fit Z, if `reducer` is none of the above or does not give
            two columns, or if `ax` is not one Axes.

        Examples
        --------
        >>> import numpy as np
        >>> from skdevae.display import LatentDisplay
        >>> random = np.random.default_rng(0)
        >>> Z, prior = random.normal(size=(60, 2)), random.normal(size=(200, 2))
        >>> display = LatentDisplay.from_latents(Z, prior=prior, component_names=["first", "second"])
        >>> display.ax_.get_xlabel()
        'first'
        """
        import_matplotlib("pyplot", "LatentDisplay")
        check_reducer(reducer)
        _check_axes(ax)
        names = _component_names(None, Z) if component_names is None else list(component_names)
        latents = check_array(Z, dtype=np.float64, input_name="Z")
        read_labels(labels, len(latents))  # if they do not fit, say so before the reduction, which takes long
        if len(names) != latents.shape[1]:
            raise ValueError(f"component_names has {len(names)} names, but Z has {latents.shape[1]} columns.")
        draws = np.empty((0, latents.shape[1]))
        if prior is not None:
            draws = check_array(prior, dtype=np.float64, input_name="prior", ensure_min_samples=0)
            if draws.shape[1] != latents.shape[1]:
                raise ValueError(
                    f"prior has {draws.shape[1]} columns, but Z has {latents.shape[1]}: both must have the components "
                    "of the same latent."
                )
        points, names = at_most_two_axes(np.vstack([latents, draws]), names, reducer, random_state)
        display = cls(
            latents=points[: len(latents)],
            prior=points[len(latents) :] if len(draws) else None,
            labels=labels,
            axis_names=names,
        )
        return display.plot(ax=ax, legend=legend, sample_kw=sample_kw, prior_kw=prior_kw)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        legend: bool = True,
        sample_kw: dict[str, Any] | None = None,
        prior_kw: dict[str, Any] | None = None,
    ) -> LatentDisplay:
        """Draw the samples over the prior.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure.
        legend : bool, default=True
            Whether to draw a legend or a colour bar.
        sample_kw : dict, default=None
            As for :meth:`from_estimator`.
        prior_kw : dict, default=None
            As for :meth:`from_estimator`.

        Returns
        -------
        display : LatentDisplay
            This display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `labels` does not have one label for each of `latents`, or if `ax` is not one Axes.

        Examples
        --------
        >>> import numpy as np
        >>> from skdevae.display import LatentDisplay
        >>> random = np.random.default_rng(0)
        >>> Z, prior = random.normal(size=(60, 2)), random.normal(size=(200, 2))
        >>> display = LatentDisplay.from_latents(Z, prior=prior)
        >>> display.plot(legend=False).legend_ is None  # drawn again, without a legend
        True
        """
        plt = import_matplotlib("pyplot", "LatentDisplay")
        _check_axes(ax)
        labels = read_labels(self.labels, len(self.latents))
        self._own_figure = ax is None
        if ax is None:
            _, ax = plt.subplots(figsize=(5.2, 4.2), layout="constrained")
        self.ax_: Axes = ax
        self.figure_: Any = ax.figure
        self.density_: Any = None
        if self.latents.shape[1] == 1:
            at = self._draw_densities(labels, prior_kw or {})
        else:
            at = self.latents
            self.prior_ = _scatter_prior(ax, self.prior, prior_kw or {})
            ax.set_ylabel(self.axis_names[1], fontsize=9)
        self._draw_samples(at, labels, sample_kw or {})
        ax.set_xlabel(self.axis_names[0], fontsize=9)
        ax.tick_params(labelsize=8.5)
        ax.spines[["top", "right"]].set_visible(False)
        self.legend_: Any = None
        self.colorbar_: Any = None
        if legend:
            self._explain_colors(labels)
        return self

    def _draw_densities(self, labels: Labels, keywords: dict[str, Any]) -> NDArray[np.float64]:
        """Draw the densities of one axis; return where the samples go below them."""
        values = self.latents[:, 0]
        edges = _bin_edges(values if self.prior is None else np.concatenate([values, self.prior[:, 0]]))
        heights, _ = np.histogram(values, edges, density=True)
        top = heights.max()
        self.prior_ = None
        if self.prior is not None:
            expected, _ = np.histogram(self.prior[:, 0], edges, density=True)
            top = max(top, expected.max())
            style = {"fill": True, "color": PRIOR_COLOR, "zorder": 1}
            self.prior_ = self.ax_.stairs(expected, edges, **{**style, **keywords})
        self.density_ = self.ax_.stairs(heights, edges, color=_OUTLINE_COLOR, linewidth=1.2, zorder=2)
        self.ax_.axhline(0, color=_OUTLINE_COLOR, linewidth=0.8, zorder=2)
        self.ax_.set_yticks([])  # only the shape of a density matters here
        self.ax_.set_ylabel("density", loc="top", fontsize=9)
        return np.column_stack([values, top * _heights_in_lanes(labels)])

    def _draw_samples(self, at: NDArray[np.float64], labels: Labels, keywords: dict[str, Any]) -> None:
        labelled = ~np.isnan(labels.values)
        rows = np.random.RandomState(0).permutation(len(at))
        rows = rows[labelled[rows]]
        values = labels.values[rows]
        size = float(np.clip(9000 / len(at), 8, 28))
        style: dict[str, Any] = {"s": size, "linewidths": 0.3, "edgecolors": "white", "alpha": 0.9, "rasterized": True}
        if labels.categories is None:
            style |= {"c": values, "cmap": "viridis"}
        elif {"c", "color"}.isdisjoint(keywords):
            style["c"] = [category_style(int(code))[0] for code in values]
        self.samples_: Any = self.ax_.scatter(*at[rows].T, **{**style, "zorder": 4, **keywords})
        if labels.categories is not None and len(labels.categories) > len(CATEGORY_COLORS):
            # All categories are in one collection. With one for each, the last would cover all others.
            self.samples_.set_paths([_marker_path(category_style(int(code))[1]) for code in values])
        self.unlabelled_: Any = None
        if not labelled.all():
            # Rings, because a grey dot could be a draw from the prior.
            self.unlabelled_ = self.ax_.scatter(
                at[~labelled, 0],
                at[~labelled, 1],
                s=size,
                facecolors="none",
                edgecolors=UNLABELLED_COLOR,
                linewidths=0.9,
                zorder=3,
                rasterized=True,
            )

    def _explain_colors(self, labels: Labels) -> None:
        handles = _legend_handles(labels, self.samples_, self.unlabelled_, self.prior_, self.density_)
        if labels.categories is None:
            self._add_colorbar(labels.title)
        if labels.categories is None or self.labels is None:
            # This legend is short, so it goes inside the Axes, where it hides the fewest points.
            corner = emptiest_corner(self.ax_, self._occupied())
            if handles:
                self.legend_ = self.ax_.legend(handles=handles, loc=corner, fontsize=8.5, handlelength=1.4)
            return
        n_cols = math.ceil(len(handles) / _LEGEND_ROWS)
        title = labels.title
        if not self._own_figure:  # others share the figure, so entries are cut to what room there is
            panel = self.ax_.get_window_extent().width / self.figure_.dpi * 72
            title = shortened(title, _LEGEND_WIDTH * panel, _TITLE_SIZE)
            for handle in handles:
                room = _LEGEND_WIDTH * panel / n_cols - _HANDLE_ROOM * _ENTRY_SIZE
                handle.set_label(shortened(handle.get_label(), room, _ENTRY_SIZE))
        self.legend_ = self.ax_.legend(
            handles=handles,
            title=title or None,
            loc="upper left",
            bbox_to_anchor=(1.01, 1.0),
            borderaxespad=0,
            frameon=False,
            fontsize=_ENTRY_SIZE,
            title_fontsize=_TITLE_SIZE,
            alignment="left",
            ncols=n_cols,
            columnspacing=1.0,
            handlelength=1.4,
            handletextpad=0.5,
        )
        if self._own_figure:
            widen_figure_for(self.legend_, self.figure_)
        else:
            leave_room(self.ax_, 72 * self.legend_.get_window_extent().width / self.figure_.dpi)

    def _add_colorbar(self, title: str) -> None:
        # Not made from the samples themselves, because the bar would be as transparent as they are.
        solid = import_matplotlib("cm", "LatentDisplay").ScalarMappable(self.samples_.norm, self.samples_.cmap)
        solid.set_array(self.samples_.get_array())
        self.colorbar_ = self.figure_.colorbar(solid, ax=self.ax_)
        self.colorbar_.set_label(title, fontsize=9)
        self.colorbar_.ax.tick_params(labelsize=8.5)
        self.colorbar_.outline.set_visible(False)

    def _occupied(self) -> NDArray[np.float64]:
        """Points that a legend should not hide."""
        places = [np.asarray(points.get_offsets()) for points in (self.samples_, self.unlabelled_) if points]
        if self.density_ is None:
            return np.vstack([*places, *([] if self.prior is None else [self.prior])])
        for stairs in filter(None, (self.prior_, self.density_)):
            heights, edges, _ = stairs.get_data()
            places.append(np.column_stack([(edges[:-1] + edges[1:]) / 2, heights]))
        return np.vstack(places)


def _prior_draws(model: Any, n_wanted: int | None, n_samples: int, random_state: Any) -> Any:
    if n_wanted is None:
        n_wanted = int(np.clip(n_samples, *_PRIOR_DRAWS))
    if n_wanted < 0:
        raise ValueError(f"n_prior_samples is {n_wanted}: give 0 to leave the prior out, or a positive number.")
    if n_wanted == 0:
        return None
    if not hasattr(model, "sample_latent"):
        raise ValueError(
            f"{type(model).__name__} has no sample_latent, so nothing can be drawn from its prior: give "
            "n_prior_samples=0 to show the samples alone, or an estimator (or a Pipeline that ends in one) that has it."
        )
    return model.sample_latent(n_wanted, random_state=random_state)


def _component_names(model: Any, Z: Any) -> list[str]:
    if hasattr(model, "sample_latent"):
        return _numbered(np.shape(Z)[1])  # the names of its outputs are made of the class' name
    if hasattr(model, "get_feature_names_out"):
        return [str(name) for name in model.get_feature_names_out()]
    if hasattr(Z, "columns"):
        return [str(name) for name in Z.columns]
    return _numbered(np.shape(Z)[1]) if np.ndim(Z) == 2 else []


def _numbered(n_components: int) -> list[str]:
    return [f"latent {component}" for component in range(n_components)]


def _bin_edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = values.min(), values.max()
    if high - low < 1e-6:  # equal values have no range
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, int(np.clip(2 * len(values) ** (1 / 3), *_BINS)) + 1)


def _heights_in_lanes(labels: Labels) -> NDArray[np.float64]:
    """Heights below 0 of samples in lanes, one lane for each category, as shares of the height above 0."""
    lanes = np.zeros(len(labels.values), dtype=int)
    if labels.categories is not None:
        lanes = np.nan_to_num(labels.values, nan=len(labels.categories)).astype(int)
    depth = min(0.2, 0.6 / (lanes.max() + 1))
    # Multiples of the golden ratio spread points evenly over a lane without random numbers.
    inside = 0.1 + 0.7 * (np.arange(len(lanes)) * (math.sqrt(5) - 1) / 2 % 1)
    heights: NDArray[np.float64] = -0.02 - depth * (lanes + inside)
    return heights


def _check_axes(ax: Any) -> None:
    if ax is not None and not isinstance(ax, import_matplotlib("axes", "LatentDisplay").Axes):
        raise ValueError(f"ax is a {type(ax).__name__}, but LatentDisplay draws on one matplotlib Axes.")


def _scatter_prior(axes: Axes, prior: NDArray[np.float64] | None, keywords: dict[str, Any]) -> Any:
    if prior is None:
        return None
    size = float(np.clip(6000 / len(prior), 5, 16))
    style: dict[str, Any] = {"s": size, "color": PRIOR_COLOR, "linewidths": 0, "zorder": 1, "rasterized": True}
    return axes.scatter(*prior.T, **{**style, **keywords})


def _marker_path(marker: str) -> Any:
    style = import_matplotlib("markers", "LatentDisplay").MarkerStyle(marker)
    return style.get_path().transformed(style.get_transform())


def _legend_handles(labels: Labels, samples: Any, unlabelled: Any, prior: Any, density: Any) -> list[Any]:
    lines, patches = import_matplotlib("lines", "LatentDisplay"), import_matplotlib("patches", "LatentDisplay")

    def dot(label: str, color: Any, marker: str = "o", **keywords: Any) -> Any:
        return lines.Line2D([], [], linestyle="", markersize=5.5, label=label, color=color, marker=marker, **keywords)

    handles: list[Any] = []
    if labels.categories is not None:
        drawn = samples.get_facecolor()
        for code, category in enumerate(labels.categories):
            color, marker = category_style(code)
            # If all samples have one colour, there is one category, or the caller chose the colour.
            handles.append(dot(category, drawn[0] if len(drawn) == 1 else color, marker, markeredgewidth=0))
    if unlabelled is not None:
        handles.append(dot("unlabelled", UNLABELLED_COLOR, markerfacecolor="none"))
    if density is not None:
        handles.append(lines.Line2D([], [], color=_OUTLINE_COLOR, linewidth=1.2, label="all samples"))
        if prior is not None:
            handles.append(patches.Patch(color=prior.get_facecolor(), label="prior"))
    elif prior is not None:
        handles.append(dot("prior", prior.get_facecolor()[0]))
    return handles
