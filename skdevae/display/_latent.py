"""The latent as a map: samples where the model places them, over draws from its prior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted

from ..metrics._steps import flat_steps

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Told apart from each other and from the greys below with every common form of colour blindness (a test simulates it).
_COLORS = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#882255", "#CC79A7", "#000000", "#9600F0", "#6B4A00",
)  # fmt: skip
#: More categories than colours go round the colours again with the next marker.
_MARKERS = ("o", "^", "s", "P", "X")
_PRIOR_COLOR = "#BFC5CB"
_UNLABELLED_COLOR = "#6E757C"
_OUTLINE_COLOR = "#333333"

#: Whole numbers with at most so many different values are taken for codes of categories.
_MAX_CODES = 12
#: What UMAP looks at by default; fewer where there are not so many points.
_UMAP_NEIGHBORS = 15
_LEGEND_ROWS = 16


class LatentDisplay:
    """Samples where the model places them in its latent, coloured by label, over draws from its prior in grey.

    Use :meth:`from_estimator` to make one, or :meth:`from_latents` from latents that are there already. Where grey
    lies bare the prior expects samples that X does not have; where samples lie beside the grey the model would hardly
    ever generate their like. Each sample stands at its posterior mean, and posterior means spread less than the prior
    even in a model that is right: expect samples to lie a little inside the grey.

    Two latent components are drawn as they are. One component is drawn as two densities, of the prior and of the
    samples, above the samples themselves, which lie in one lane for each category. More than two are reduced to two,
    samples and draws together.

    Parameters
    ----------
    latents : ndarray of shape (n_samples, n_axes)
        Positions of the samples, on one axis or two.
    prior : ndarray of shape (n_prior_samples, n_axes), default=None
        Positions of the draws from the prior.
    labels : array-like of shape (n_samples,), default=None
        A category or a number for every sample; the name of a Series becomes the legend's title. Numbers are
        categories if they are whole and at most 12 are different, otherwise there is a colour bar. None and NaN mean
        unlabelled.
    axis_names : sequence of str of length n_axes, default=None
        What the axes show. None means "latent 0" and "latent 1".

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Axes with the figure.
    figure_ : matplotlib.figure.Figure
        Figure that holds them.
    samples_ : matplotlib.collections.PathCollection
        The samples with a label, or all if there are no labels. They are drawn in an order that is mixed and always
        the same, so that no category lies on all others because its rows come last.
    unlabelled_ : matplotlib.collections.PathCollection or None
        The samples without a label.
    prior_ : matplotlib.collections.PathCollection, matplotlib.patches.StepPatch or None
        The draws from the prior; a histogram where there is one axis.
    density_ : matplotlib.patches.StepPatch or None
        Outline of the histogram of all samples, where there is one axis.
    legend_ : matplotlib.legend.Legend or None
        What the colours of categories, the prior and unlabelled samples are.
    colorbar_ : matplotlib.colorbar.Colorbar or None
        What the colours of numbers are.

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
            Fitted. Its ``transform`` places the samples; the draws come from its ``sample_latent``, or from that of
            the last step.
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            What `estimator` takes. Need not be what it was fitted on.
        labels : array-like of shape (n_samples,), default=None
            A category or a number for every row of X, in the order of the rows; None and NaN mean unlabelled. See
            :class:`LatentDisplay` for which numbers are categories.
        n_prior_samples : int, default=None
            Number of draws from the prior; 0 leaves the prior out. None means as many as X has samples, but at least
            500 and at most 2000.
        reducer : {"auto", "pca"} or transformer, default="auto"
            Makes two axes of more than two components: "auto" is UMAP (or PCA of fewer than four points), "pca" is
            :class:`~sklearn.decomposition.PCA`; of a transformer a clone is fitted. It sees samples and draws
            together. Not used for one or two components.
        random_state : int, RandomState instance or None, default=None
            Source of the draws and of UMAP's layout. An int gives the same figure every time.
        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure.
        legend : bool, default=True
            Whether to say what the colours mean. One of several panels with the same labels may do that for all.
        sample_kw : dict, default=None
            Passed to :meth:`matplotlib.axes.Axes.scatter` for the samples.
        prior_kw : dict, default=None
            Passed to :meth:`matplotlib.axes.Axes.scatter` for the draws, or to
            :meth:`~matplotlib.axes.Axes.stairs` where there is one component.

        Returns
        -------
        display : LatentDisplay
            Drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `estimator` cannot draw from its prior, if `labels` does not fit X, if `reducer` is none of the above or
            puts out anything but two columns, or if `ax` is not one Axes.
        """
        _import_pyplot()  # before the work, not after it
        check_is_fitted(estimator)
        _check_reducer(reducer)
        model = _last_step(estimator)
        placed = estimator.transform(X)
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
            Source of UMAP's layout.
        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure.
        legend : bool, default=True
            Whether to say what the colours mean.
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
            If matplotlib is not installed.
        ValueError
            If `prior`, `labels` or `component_names` do not fit Z, if `reducer` is none of the above or puts out
            anything but two columns, or if `ax` is not one Axes.
        """
        _import_pyplot()
        _check_reducer(reducer)
        _check_axes(ax)
        names = _component_names(None, Z) if component_names is None else list(component_names)
        latents = check_array(Z, dtype=np.float64, input_name="Z")
        _read_labels(labels, len(latents))  # complains before the reduction, which takes long
        if len(names) != latents.shape[1]:
            raise ValueError(f"component_names has {len(names)} names, but Z has {latents.shape[1]} columns.")
        draws = np.empty((0, latents.shape[1]))
        if prior is not None:
            draws = check_array(prior, dtype=np.float64, input_name="prior", ensure_min_samples=0)
            if draws.shape[1] != latents.shape[1]:
                raise ValueError(
                    f"prior has {draws.shape[1]} columns, but Z has {latents.shape[1]}: both need the components of "
                    "one latent."
                )
        points, names = _at_most_two_axes(np.vstack([latents, draws]), names, reducer, random_state)
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
            Whether to say what the colours mean.
        sample_kw : dict, default=None
            As for :meth:`from_estimator`.
        prior_kw : dict, default=None
            As for :meth:`from_estimator`.

        Returns
        -------
        display : LatentDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `labels` has not one label for each of `latents`, or if `ax` is not one Axes.
        """
        plt = _import_pyplot()
        _check_axes(ax)
        labels = _read_labels(self.labels, len(self.latents))
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

    def _draw_densities(self, labels: _Labels, keywords: dict[str, Any]) -> NDArray[np.float64]:
        """Draw what one axis has above its samples, and say where the samples go beneath it."""
        values = self.latents[:, 0]
        edges = _bin_edges(values if self.prior is None else np.concatenate([values, self.prior[:, 0]]))
        heights, _ = np.histogram(values, edges, density=True)
        top = heights.max()
        self.prior_ = None
        if self.prior is not None:
            expected, _ = np.histogram(self.prior[:, 0], edges, density=True)
            top = max(top, expected.max())
            style = {"fill": True, "color": _PRIOR_COLOR, "zorder": 1}
            self.prior_ = self.ax_.stairs(expected, edges, **{**style, **keywords})
        self.density_ = self.ax_.stairs(heights, edges, color=_OUTLINE_COLOR, linewidth=1.2, zorder=2)
        self.ax_.axhline(0, color=_OUTLINE_COLOR, linewidth=0.8, zorder=2)
        self.ax_.set_yticks([])  # a density's height says nothing that its shape does not
        self.ax_.set_ylabel("density", loc="top", fontsize=9)
        return np.column_stack([values, top * _heights_in_lanes(labels)])

    def _draw_samples(self, at: NDArray[np.float64], labels: _Labels, keywords: dict[str, Any]) -> None:
        labelled = ~np.isnan(labels.values)
        rows = np.random.RandomState(0).permutation(len(at))
        rows = rows[labelled[rows]]
        values = labels.values[rows]
        size = float(np.clip(9000 / len(at), 8, 28))
        style: dict[str, Any] = {"s": size, "linewidths": 0.3, "edgecolors": "white", "alpha": 0.9, "rasterized": True}
        if labels.categories is None:
            style |= {"c": values, "cmap": "viridis"}
        elif {"c", "color"}.isdisjoint(keywords):
            style["c"] = [_style_of(int(code))[0] for code in values]
        self.samples_: Any = self.ax_.scatter(*at[rows].T, **{**style, "zorder": 4, **keywords})
        if labels.categories is not None and len(labels.categories) > len(_COLORS):
            # One collection draws the categories mixed; one for each would draw the last on top of all others.
            self.samples_.set_paths([_marker_path(_style_of(int(code))[1]) for code in values])
        self.unlabelled_: Any = None
        if not labelled.all():
            # Rings, since a grey dot might be of the prior.
            self.unlabelled_ = self.ax_.scatter(
                at[~labelled, 0],
                at[~labelled, 1],
                s=size,
                facecolors="none",
                edgecolors=_UNLABELLED_COLOR,
                linewidths=0.9,
                zorder=3,
                rasterized=True,
            )

    def _explain_colors(self, labels: _Labels) -> None:
        handles = _legend_handles(labels, self.samples_, self.unlabelled_, self.prior_, self.density_)
        if labels.categories is None:
            self._add_colorbar(labels.title)
        if labels.categories is None or self.labels is None:
            # Short, and the same in every figure: it may lie inside, where the least is hidden by it.
            corner = _emptiest_corner(self.ax_, self._occupied())
            if handles:
                self.legend_ = self.ax_.legend(handles=handles, loc=corner, fontsize=8.5, handlelength=1.4)
            return
        self.legend_ = self.ax_.legend(
            handles=handles,
            title=labels.title or None,
            loc="upper left",
            bbox_to_anchor=(1.01, 1.0),
            borderaxespad=0,
            frameon=False,
            fontsize=8.5,
            title_fontsize=9,
            alignment="left",
            ncols=math.ceil(len(handles) / _LEGEND_ROWS),
            columnspacing=1.0,
            handlelength=1.4,
            handletextpad=0.5,
        )
        _make_room_for(self.legend_, self.ax_)

    def _add_colorbar(self, title: str) -> None:
        from matplotlib.cm import ScalarMappable

        # Of its own mappable: the samples' transparency would pale the bar.
        solid = ScalarMappable(self.samples_.norm, self.samples_.cmap)
        solid.set_array(self.samples_.get_array())
        self.colorbar_ = self.figure_.colorbar(solid, ax=self.ax_)
        self.colorbar_.set_label(title, fontsize=9)
        self.colorbar_.ax.tick_params(labelsize=8.5)
        self.colorbar_.outline.set_visible(False)

    def _occupied(self) -> NDArray[np.float64]:
        """Places of what a legend should not lie on."""
        places = [np.asarray(points.get_offsets()) for points in (self.samples_, self.unlabelled_) if points]
        if self.density_ is None:
            return np.vstack([*places, *([] if self.prior is None else [self.prior])])
        for stairs in filter(None, (self.prior_, self.density_)):
            heights, edges, _ = stairs.get_data()
            places.append(np.column_stack([(edges[:-1] + edges[1:]) / 2, heights]))
        return np.vstack(places)


# ---- from the estimator to its latents ------------------------------------------------------------------------------


def _last_step(estimator: Any) -> Any:
    """The model inside of pipelines and searches."""
    return [step for _, step in flat_steps(type(estimator).__name__, estimator)][-1]


def _prior_draws(model: Any, n_wanted: int | None, n_samples: int, random_state: Any) -> Any:
    if n_wanted is None:
        n_wanted = int(np.clip(n_samples, 500, 2000))
    if n_wanted < 0:
        raise ValueError(f"n_prior_samples is {n_wanted}: give 0 to leave the prior out, or a positive number.")
    if n_wanted == 0:
        return None
    if not hasattr(model, "sample_latent"):
        raise ValueError(
            f"{type(model).__name__} has no sample_latent to draw from a prior with: give n_prior_samples=0 to draw "
            "the samples alone, or an estimator (or a Pipeline that ends in one) that has it."
        )
    return model.sample_latent(n_wanted, random_state=random_state)


def _component_names(model: Any, Z: Any) -> list[str]:
    if hasattr(model, "get_feature_names_out"):
        return [str(name) for name in model.get_feature_names_out()]
    if hasattr(Z, "columns"):
        return [str(name) for name in Z.columns]
    return _numbered(np.shape(Z)[1]) if np.ndim(Z) == 2 else []


def _numbered(n_components: int) -> list[str]:
    return [f"latent {component}" for component in range(n_components)]


# ---- at most two axes -----------------------------------------------------------------------------------------------


def _check_reducer(reducer: Any) -> None:
    is_transformer = hasattr(reducer, "fit_transform") and not isinstance(reducer, type)
    if not is_transformer and not (isinstance(reducer, str) and reducer in ("auto", "pca")):
        raise ValueError(
            f"reducer is {reducer!r}, but has to be 'auto' (UMAP), 'pca', or an instance with fit_transform."
        )


def _at_most_two_axes(
    points: NDArray[np.float64], names: list[str], reducer: Any, random_state: Any
) -> tuple[NDArray[np.float64], list[str]]:
    if points.shape[1] <= 2:
        return points, names
    if len(points) == 1:
        raise ValueError(
            f"One sample without a prior cannot be reduced from {points.shape[1]} components to two axes: give more "
            "samples, or draws from the prior."
        )
    fitted = _new_reducer(reducer, len(points), random_state)
    reduced = np.asarray(fitted.fit_transform(points), dtype=np.float64)
    if reduced.shape != (len(points), 2):
        raise ValueError(
            f"reducer ({type(fitted).__name__}) made an array of shape {reduced.shape} of {len(points)} points, but "
            "two columns are drawn: set its number of components to 2."
        )
    return reduced, [f"{type(fitted).__name__} {axis}" for axis in (1, 2)]


def _new_reducer(reducer: Any, n_points: int, random_state: Any) -> Any:
    if not isinstance(reducer, str):
        return clone(reducer)
    if reducer == "pca" or n_points < 4:  # too few for a graph of neighbours
        return PCA(n_components=2, svd_solver="full")
    from umap import UMAP  # seconds of compilation, for those who need it

    return UMAP(
        n_components=2,
        n_neighbors=min(_UMAP_NEIGHBORS, n_points - 1),
        # A prior and samples that do not meet make a graph in pieces, on which the default, spectral start fails over
        # to another with warnings. Principal components place such pieces, and place them as they lie in the latent.
        init="pca",
        n_jobs=1,
        # Never None: UMAP would then compile another version of itself that runs on all cores.
        random_state=check_random_state(random_state),
    )


# ---- labels and colours ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Labels:
    """One value for every sample: its position in `categories`, or a number where that is None; NaN is unlabelled."""

    values: NDArray[np.float64]
    categories: list[str] | None
    title: str = ""


def _read_labels(labels: Any, n_samples: int) -> _Labels:
    if labels is None:
        return _Labels(np.zeros(n_samples), ["samples"])
    if np.shape(labels) != (n_samples,):
        raise ValueError(
            f"labels has shape {np.shape(labels)}, but there are {n_samples} samples: give one label for each, of "
            f"shape ({n_samples},), with None or NaN for unlabelled ones."
        )
    name = getattr(labels, "name", None)
    title = "" if name is None else str(name)
    column = pd.Series(labels).reset_index(drop=True).infer_objects()
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
        numbers = np.where(np.isfinite(numbers), numbers, np.nan)  # no colour bar reaches infinity
        different = np.unique(numbers[~np.isnan(numbers)])
        if len(different) > _MAX_CODES or (different % 1 != 0).any():
            return _Labels(numbers, None, title)
        column = pd.Series(numbers).astype("Int64")  # 1 and not 1.0 in the legend, also beside NaN
    coded = pd.Categorical(column).remove_unused_categories()
    limit = len(_COLORS) * len(_MARKERS)
    if len(coded.categories) > limit:
        raise ValueError(
            f"labels has {len(coded.categories)} different values, and a figure can tell at most {limit} apart: give "
            "coarser labels, or numbers for a colour bar."
        )
    codes = np.where(coded.codes < 0, np.nan, coded.codes)
    return _Labels(codes, [str(category) for category in coded.categories], title)


def _style_of(code: int) -> tuple[str, str]:
    """Colour and marker of a category."""
    return _COLORS[code % len(_COLORS)], _MARKERS[code // len(_COLORS)]


# ---- one axis -------------------------------------------------------------------------------------------------------


def _bin_edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = values.min(), values.max()
    if high - low < 1e-6:  # equal values have no range
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, int(np.clip(2 * len(values) ** (1 / 3), 10, 60)) + 1)


def _heights_in_lanes(labels: _Labels) -> NDArray[np.float64]:
    """Heights below 0 at which samples lie in lanes, one a category, as shares of the height above 0."""
    lanes = np.zeros(len(labels.values), dtype=int)
    if labels.categories is not None:
        lanes = np.nan_to_num(labels.values, nan=len(labels.categories)).astype(int)
    depth = min(0.2, 0.6 / (lanes.max() + 1))
    # Multiples of the golden ratio spread points over a lane evenly, and without a seed.
    inside = 0.1 + 0.7 * (np.arange(len(lanes)) * (math.sqrt(5) - 1) / 2 % 1)
    return -0.02 - depth * (lanes + inside)


# ---- matplotlib -----------------------------------------------------------------------------------------------------


def _import_pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError('LatentDisplay draws with matplotlib: pip install "skdevae[plot]"') from error
    return plt


def _check_axes(ax: Any) -> None:
    from matplotlib.axes import Axes

    if ax is not None and not isinstance(ax, Axes):
        raise ValueError(f"ax is a {type(ax).__name__}, but LatentDisplay draws on one matplotlib Axes.")


def _scatter_prior(axes: Axes, prior: NDArray[np.float64] | None, keywords: dict[str, Any]) -> Any:
    if prior is None:
        return None
    size = float(np.clip(6000 / len(prior), 5, 16))
    style: dict[str, Any] = {"s": size, "color": _PRIOR_COLOR, "linewidths": 0, "zorder": 1, "rasterized": True}
    return axes.scatter(*prior.T, **{**style, **keywords})


def _marker_path(marker: str) -> Any:
    from matplotlib.markers import MarkerStyle

    style = MarkerStyle(marker)
    return style.get_path().transformed(style.get_transform())


def _legend_handles(labels: _Labels, samples: Any, unlabelled: Any, prior: Any, density: Any) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    def dot(label: str, color: Any, marker: str = "o", **keywords: Any) -> Line2D:
        return Line2D([], [], linestyle="", markersize=5.5, label=label, color=color, marker=marker, **keywords)

    handles: list[Any] = []
    if labels.categories is not None:
        drawn = samples.get_facecolor()
        for code, category in enumerate(labels.categories):
            color, marker = _style_of(code)
            # One colour for all samples: there is one category, or the caller chose a colour.
            handles.append(dot(category, drawn[0] if len(drawn) == 1 else color, marker, markeredgewidth=0))
    if unlabelled is not None:
        handles.append(dot("unlabelled", _UNLABELLED_COLOR, markerfacecolor="none"))
    if density is not None:
        handles.append(Line2D([], [], color=_OUTLINE_COLOR, linewidth=1.2, label="all samples"))
        if prior is not None:
            handles.append(Patch(color=prior.get_facecolor(), label="prior"))
    elif prior is not None:
        handles.append(dot("prior", prior.get_facecolor()[0]))
    return handles


def _emptiest_corner(axes: Axes, points: NDArray[np.float64]) -> Any:
    corners = {"upper right": (1, 1), "upper left": (0, 1), "lower right": (1, 0), "lower left": (0, 0)}
    axes.get_xlim(), axes.get_ylim()  # limits follow what was drawn only when asked for
    places = axes.transAxes.inverted().transform(axes.transData.transform(points))
    return min(corners, key=lambda name: (np.abs(places - corners[name]) < (0.4, 0.3)).all(1).sum())


def _make_room_for(legend: Any, axes: Axes) -> None:
    """Narrow the Axes by a legend at its right, as a colour bar does, unless the figure's layout sees to it."""
    if axes.figure.get_layout_engine() is not None:
        return
    share = min(1.03 * legend.get_window_extent().width / axes.get_window_extent().width + 0.02, 0.6)
    place = axes.get_subplotspec()
    if place is None:
        box = axes.get_position()
        axes.set_position((box.x0, box.y0, box.width * (1 - share), box.height))
    else:
        axes.set_subplotspec(place.subgridspec(1, 2, width_ratios=[1 - share, share], wspace=0)[0])
