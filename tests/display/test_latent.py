"""Maps of the latent show what the estimator says: samples at their posterior means, over its own prior's draws."""

import itertools
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state

from skdevae import VAETransformer, display
from skdevae.display import LatentDisplay
from skdevae.display._labels import in_natural_order
from skdevae.display._palette import CATEGORY_COLORS

plt = pytest.importorskip("matplotlib.pyplot")

from matplotlib.colors import to_rgb, to_rgba  # noqa: E402  # the line above skips all of this without matplotlib
from matplotlib.figure import Figure  # noqa: E402


class FirstColumns(TransformerMixin, BaseEstimator):
    """A latent that is easy to foresee: the first columns of the table; the prior is normal around 3."""

    def __init__(self, n_components=2):
        self.n_components = n_components

    def fit(self, X, y=None):
        self.n_features_in_ = np.shape(X)[1]
        return self

    def transform(self, X):
        return np.asarray(X)[:, : self.n_components]

    def score(self, X, y=None):
        return float(self.n_components)

    def sample_latent(self, n_samples=1, random_state=None):
        return 3 + check_random_state(random_state).normal(size=(n_samples, self.n_components))

    def get_feature_names_out(self, input_features=None):
        return np.array([f"firstcolumns{component}" for component in range(self.n_components)], dtype=object)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module", name="X")
def table() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(40, 5))


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return np.array(["b", "a", "c", "a"] * 10)


def model(X, n_components=2) -> FirstColumns:
    return FirstColumns(n_components).fit(X)


def positions(points) -> np.ndarray:
    return np.asarray(points.get_offsets())


def color_at(drawn: LatentDisplay) -> dict:
    """Colour of every labelled sample, by its place."""
    drawn.figure_.draw_without_rendering()  # numbers become colours only then
    return dict(zip(map(tuple, positions(drawn.samples_)), map(tuple, drawn.samples_.get_facecolor()), strict=True))


def entries(drawn: LatentDisplay) -> list[str]:
    return [entry.get_text() for entry in drawn.legend_.get_texts()]


def in_rows(points: np.ndarray) -> np.ndarray:
    return points[np.lexsort(points.T)]


# ---- what is drawn --------------------------------------------------------------------------------------------------


def test_samples_stand_where_transform_places_them(X, labels):
    drawn = LatentDisplay.from_estimator(model(X), X, labels=labels)
    np.testing.assert_array_equal(drawn.latents, X[:, :2])
    np.testing.assert_array_equal(in_rows(positions(drawn.samples_)), in_rows(X[:, :2]))
    assert (drawn.ax_.get_xlabel(), drawn.ax_.get_ylabel()) == ("latent 0", "latent 1")


def test_the_prior_is_that_of_the_estimator_and_lies_beneath(X, labels):
    gaps = pd.Series(labels).where(np.arange(40) > 4)
    drawn = LatentDisplay.from_estimator(model(X), X, labels=gaps, n_prior_samples=70, random_state=3)
    np.testing.assert_array_equal(positions(drawn.prior_), model(X).sample_latent(70, random_state=3))
    assert drawn.prior_.get_zorder() < drawn.unlabelled_.get_zorder() < drawn.samples_.get_zorder()


@pytest.mark.parametrize("n_rows, expected", [(1, 500), (40, 500), (600, 600), (2001, 2000)])
def test_there_are_about_as_many_draws_as_samples(X, n_rows, expected):
    many = np.resize(X, (n_rows, 5))
    assert LatentDisplay.from_estimator(model(X), many).prior.shape == (expected, 2)


def test_the_prior_can_be_left_out(X):
    drawn = LatentDisplay.from_estimator(PCA(2).fit(X), X, n_prior_samples=0)  # which has no prior
    assert drawn.prior is None
    assert drawn.prior_ is None
    assert entries(drawn) == ["samples"]


def test_names_are_those_of_the_estimator_the_frame_or_the_caller(X):
    assert LatentDisplay.from_estimator(model(X, 1), X).ax_.get_xlabel() == "latent 0"
    assert LatentDisplay.from_estimator(PCA(2).fit(X), X, n_prior_samples=0).axis_names == ["pca0", "pca1"]
    frame = pd.DataFrame(np.eye(3, 2), columns=["pace", "mood"])
    assert LatentDisplay.from_latents(frame).axis_names == ["pace", "mood"]
    assert LatentDisplay.from_latents(frame.to_numpy()).axis_names == ["latent 0", "latent 1"]
    assert LatentDisplay.from_latents(frame, component_names=["u", "v"]).axis_names == ["u", "v"]
    assert LatentDisplay(latents=np.eye(3, 2)).plot().ax_.get_ylabel() == "latent 1"


# ---- colours --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["categories", "numbers"])
def test_colours_follow_labels_under_permutation(X, labels, kind):
    values = labels if kind == "categories" else np.arange(40) ** 1.1
    order = np.random.default_rng(1).permutation(len(X))
    drawn = color_at(LatentDisplay.from_latents(X[:, :2], labels=values))
    assert drawn == color_at(LatentDisplay.from_latents(X[order, :2], labels=values[order]))
    assert len(set(drawn.values())) == len(set(values))


def test_samples_have_the_colour_that_the_legend_gives_their_label(X, labels):
    drawn = LatentDisplay.from_latents(X[:, :2], prior=X[:, 2:4], labels=pd.Series(labels, name="arm", index=X[:, 0]))
    assert entries(drawn) == ["a", "b", "c", "prior"]
    assert drawn.legend_.get_title().get_text() == "arm"
    named = {handle.get_label(): to_rgb(handle.get_color()) for handle in drawn.legend_.legend_handles}
    colors = color_at(drawn)
    for sample, label in zip(X, labels, strict=True):
        assert colors[tuple(sample[:2])][:3] == named[label]
    np.testing.assert_array_equal(drawn.prior_.get_facecolor(), [to_rgba(named["prior"])])


def test_categories_beyond_the_colours_have_other_markers(X):
    n_colors = len(CATEGORY_COLORS)
    labels = np.arange(40).astype(str)
    drawn = LatentDisplay.from_latents(X[:, :2], labels=labels)
    assert len(drawn.legend_.legend_handles) == 40
    looks = {(handle.get_color(), handle.get_marker()) for handle in drawn.legend_.legend_handles}
    assert len(looks) == 40
    where = {tuple(place): number for number, place in enumerate(X[:, :2])}
    rank = {label: int(label) for label in labels}
    shapes: dict = {}
    for place, path in zip(positions(drawn.samples_), drawn.samples_.get_paths(), strict=True):
        lap = rank[labels[where[tuple(place)]]] // n_colors
        assert shapes.setdefault(lap, path.vertices.tobytes()) == path.vertices.tobytes()
    assert len(set(shapes.values())) == 4


@pytest.mark.parametrize(
    "labels, expected",
    [
        (["x", None, "y", "x"], ["x", "y"]),
        (np.array(["x", np.nan, "y", "x"], dtype=object), ["x", "y"]),
        ([2.0, np.nan, 1.0, 2.0], ["1", "2"]),
        (pd.array([2, None, 1, 2], dtype="Int64"), ["1", "2"]),
        ([True, None, False, True], ["False", "True"]),
        (pd.Categorical(["low", None, "high", "low"], categories=["low", "mid", "high"]), ["low", "high"]),
        ([None] * 4, []),
        ([np.nan] * 4, []),
    ],
)
def test_unlabelled_samples_are_grey_rings(labels, expected):
    Z = np.arange(8.0).reshape(4, 2)
    drawn = LatentDisplay.from_latents(Z, labels=labels)
    assert entries(drawn) == [*expected, "unlabelled"]
    missing = pd.isna(pd.Series(labels)).to_numpy()
    np.testing.assert_array_equal(positions(drawn.unlabelled_), Z[missing])
    np.testing.assert_array_equal(in_rows(positions(drawn.samples_)), Z[~missing])
    assert not len(drawn.unlabelled_.get_facecolor())


def test_numbers_have_a_colour_bar(X):
    numbers = pd.Series(X[:, 3], name="age").where(X[:, 0] > -1)
    drawn = LatentDisplay.from_latents(X[:, :2], prior=X[:, 2:4], labels=numbers)
    assert drawn.colorbar_.ax.get_ylabel() == "age"
    assert drawn.colorbar_.mappable.get_clim() == (numbers.min(), numbers.max())
    assert entries(drawn) == ["unlabelled", "prior"]
    assert len(positions(drawn.unlabelled_)) == numbers.isna().sum()


@pytest.mark.parametrize("numbers, is_categorical", [(np.arange(40) % 12, True), (np.arange(40) % 13, False)])
def test_few_whole_numbers_are_categories(X, numbers, is_categorical):
    drawn = LatentDisplay.from_latents(X[:, :2], labels=numbers)
    assert (drawn.colorbar_ is None) == is_categorical


# ---- one component --------------------------------------------------------------------------------------------------


def test_one_component_is_two_densities_above_the_samples(X, labels):
    drawn = LatentDisplay.from_estimator(model(X, 1), X, labels=labels, random_state=0)
    for stairs, values in [(drawn.prior_, drawn.prior), (drawn.density_, X[:, :1])]:
        heights, edges, _ = stairs.get_data()
        counts, _ = np.histogram(values, edges)
        np.testing.assert_allclose(heights * np.diff(edges), counts / len(values))
        assert counts.sum() == len(values)
    assert drawn.prior_.get_zorder() < drawn.density_.get_zorder()
    np.testing.assert_array_equal(np.sort(positions(drawn.samples_)[:, 0]), np.sort(X[:, 0]))
    assert (positions(drawn.samples_)[:, 1] < 0).all()
    assert entries(drawn) == ["a", "b", "c", "all samples", "prior"]


def test_categories_of_one_component_lie_in_lanes(X, labels):
    drawn = LatentDisplay.from_latents(X[:, :1], labels=pd.Series(labels).where(labels != "b"))
    height = dict(positions(drawn.samples_))
    lanes = [[height[x] for x, label in zip(X[:, 0], labels, strict=True) if label == name] for name in "ac"]
    lanes.append(list(positions(drawn.unlabelled_)[:, 1]))
    assert all(min(above) > max(below) for above, below in itertools.pairwise(lanes))


@pytest.mark.parametrize("n_rows", [1, 5])
def test_equal_positions_on_one_axis_can_be_drawn(n_rows):
    drawn = LatentDisplay.from_latents(np.full((n_rows, 1), 2.0))
    drawn.figure_.draw_without_rendering()
    assert drawn.prior_ is None


# ---- more than two components ---------------------------------------------------------------------------------------


@pytest.fixture
def plain_umap(monkeypatch):
    """UMAP as plain Python, unless it has been imported before: compiling it takes far longer than these few points."""
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    n_threads = torch.get_num_threads()
    yield pytest.importorskip("umap")
    assert torch.get_num_threads() == n_threads  # numba sets the number of OpenMP's threads, which torch's is


@pytest.mark.slow
def test_umap_places_samples_and_prior_together_and_the_same_every_time(X, labels, plain_umap):
    X, labels = X[:10], labels[:10]
    wide = model(X, 3)
    first, again = (
        LatentDisplay.from_estimator(wide, X, labels=labels, n_prior_samples=6, random_state=0) for _ in range(2)
    )
    assert first.axis_names == ["UMAP 1", "UMAP 2"]
    assert (len(first.latents), len(first.prior)) == (10, 6)
    np.testing.assert_array_equal(first.latents, again.latents)
    np.testing.assert_array_equal(first.prior, again.prior)
    np.testing.assert_array_equal(in_rows(positions(first.samples_)), in_rows(first.latents))
    # Fewer points than the neighbours that UMAP looks at by default, and a prior far from all samples.
    few = LatentDisplay.from_latents(X[:3, :3], prior=X[3:5, :3] + 100, random_state=0)
    assert np.isfinite(few.latents).all()
    # The prior (around 3 in every component) is nowhere near the middle of the samples.
    assert np.linalg.norm(first.latents.mean(0) - first.prior.mean(0)) > 1


def test_pca_keeps_what_two_axes_can_of_all_distances(X):
    drawn = LatentDisplay.from_latents(X[:30], prior=X[30:], reducer="pca")
    assert drawn.axis_names == ["PCA 1", "PCA 2"]
    both = np.vstack([drawn.latents, drawn.prior])
    _, singular, _ = np.linalg.svd(X - X.mean(0))
    np.testing.assert_allclose(np.linalg.svd(both)[1], singular[:2])


def test_a_transformer_is_cloned_and_fitted_on_samples_and_draws(X):
    reducer = FirstColumns(2)
    drawn = LatentDisplay.from_latents(X[:30], prior=X[30:], reducer=reducer)
    np.testing.assert_array_equal(drawn.latents, X[:30, :2])
    np.testing.assert_array_equal(drawn.prior, X[30:, :2])
    assert drawn.axis_names == ["FirstColumns 1", "FirstColumns 2"]
    assert not hasattr(reducer, "n_features_in_")


def test_two_components_are_not_reduced(X):
    drawn = LatentDisplay.from_latents(X[:, :2], reducer="pca")
    np.testing.assert_array_equal(drawn.latents, X[:, :2])


def test_few_points_are_reduced_by_pca(X):
    assert LatentDisplay.from_latents(X[:3]).axis_names == ["PCA 1", "PCA 2"]


# ---- which axes -----------------------------------------------------------------------------------------------------


def test_given_axes_are_drawn_on(X):
    figure, (left, right) = plt.subplots(1, 2)
    drawn = LatentDisplay.from_latents(X[:, :2], ax=right)
    assert drawn.ax_ is right
    assert drawn.figure_ is figure
    assert not left.collections
    assert drawn.plot(ax=left) is drawn
    assert drawn.ax_ is left
    assert drawn.plot().figure_ is not figure


@pytest.mark.parametrize("layout", [None, "constrained", "tight"])
@pytest.mark.parametrize("n_components", [1, 2])
def test_neighbours_do_not_overlap(X, labels, layout, n_components):
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout=layout)
    drawn = [LatentDisplay.from_latents(X[:, :n_components], prior=X[:, 2:][:, :n_components], labels=labels, ax=ax)
             for ax in axes]  # fmt: skip
    figure.draw_without_rendering()
    legends = [panel.legend_.get_window_extent() for panel in drawn]
    assert all(legend.x0 >= panel.ax_.get_window_extent().x1 for legend, panel in zip(legends, drawn, strict=True))
    assert legends[0].x1 < axes[1].get_tightbbox().x0
    assert legends[1].x1 <= figure.bbox.x1


LONG = [f"haematopoietic progenitor cell of the bone marrow, cluster {number % 12}" for number in range(40)]


def test_a_figure_grows_with_a_long_legend_and_the_map_stays_wide(X, labels):
    short, long = (LatentDisplay.from_latents(X[:, :2], labels=names) for names in (labels, LONG))
    for drawn in (short, long):
        drawn.figure_.draw_without_rendering()
    assert long.ax_.get_window_extent().width > 0.8 * short.ax_.get_window_extent().width
    assert long.legend_.get_window_extent().x1 <= long.figure_.bbox.x1
    assert entries(long) == in_natural_order(set(LONG))


def test_long_entries_are_cut_where_others_share_the_figure(X):
    _, axes = plt.subplots(1, 2, figsize=(7.2, 3))
    before = axes[0].get_window_extent().width
    drawn = LatentDisplay.from_latents(X[:, :2], labels=pd.Series(LONG, name=LONG[0]), ax=axes[0])
    assert drawn.ax_.get_window_extent().width > before / 2
    assert drawn.legend_.get_window_extent().x1 < axes[1].get_tightbbox().x0
    assert len(set(entries(drawn))) == 12
    assert all("…" in entry for entry in entries(drawn))


def test_axes_outside_a_grid_make_room_too(X, labels):
    figure = Figure()
    ax = figure.add_axes((0.1, 0.1, 0.8, 0.8))
    legend = LatentDisplay.from_latents(X[:, :2], labels=labels, ax=ax).legend_
    assert legend.get_window_extent().x1 <= figure.bbox.x0 + 0.91 * figure.bbox.width


@pytest.mark.parametrize("corner", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_a_legend_inside_lies_where_nothing_is(corner):
    others = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
    others.remove(corner)
    # Far along the diagonal, and for the last corner only a point that keeps the limits the same.
    Z = np.array([[scale * x, scale * y] for x, y in others for scale in (0.8, 0.9, 1.0)])
    drawn = LatentDisplay.from_latents(Z)
    drawn.figure_.draw_without_rendering()
    box, axes = drawn.legend_.get_window_extent(), drawn.ax_.get_window_extent()
    assert ((box.x0 + box.x1 > axes.x0 + axes.x1), (box.y0 + box.y1 > axes.y0 + axes.y1)) == (
        corner[0] > 0,
        corner[1] > 0,
    )


def test_legends_can_be_left_to_a_neighbour(X, labels):
    for values in (labels, X[:, 3]):
        drawn = LatentDisplay.from_latents(X[:, :2], labels=values, legend=False)
        assert drawn.legend_ is None
        assert drawn.colorbar_ is None
        assert len(drawn.figure_.axes) == 1


def test_keywords_are_passed_on(X, labels):
    drawn = LatentDisplay.from_latents(X[:, :2], prior=X[:, 2:4], sample_kw={"color": "red"}, prior_kw={"s": 3})
    assert (drawn.prior_.get_sizes() == 3).all()
    assert set(map(tuple, drawn.samples_.get_facecolor()[:, :3])) == {to_rgb("red")}
    assert to_rgb(drawn.legend_.legend_handles[0].get_color()[:3]) == to_rgb("red")
    numbers = LatentDisplay.from_latents(X[:, :2], labels=X[:, 3], sample_kw={"cmap": "magma"})
    assert numbers.colorbar_.cmap.name == "magma"
    one = LatentDisplay.from_latents(X[:, :1], prior=X[:, 1:2], prior_kw={"color": "red"})
    assert one.prior_.get_facecolor()[:3] == to_rgb("red")


# ---- from which estimators ------------------------------------------------------------------------------------------


def test_pipelines_and_searches_draw_from_their_last_step(X, labels):
    pipeline = make_pipeline(StandardScaler(), FirstColumns()).fit(X)
    search = GridSearchCV(pipeline, {"firstcolumns__n_components": [1, 2]}, cv=2).fit(X)
    outer = make_pipeline(StandardScaler(), pipeline).fit(X)
    for estimator in (pipeline, search, outer):
        drawn = LatentDisplay.from_estimator(estimator, X, labels=labels, random_state=0)
        np.testing.assert_array_equal(drawn.latents, estimator.transform(X))
        np.testing.assert_array_equal(drawn.prior, model(X).sample_latent(500, random_state=0))
        assert drawn.axis_names == ["latent 0", "latent 1"]


def test_frames_as_output_are_drawn_like_arrays(X):
    pipeline = make_pipeline(StandardScaler(), FirstColumns()).fit(X)
    expected = pipeline.transform(X)
    drawn = LatentDisplay.from_estimator(pipeline.set_output(transform="pandas"), X)
    np.testing.assert_array_equal(drawn.latents, expected)


# ---- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keywords, message",
    [
        ({"labels": ["a"] * 39}, r"labels has shape \(39,\), but there are 40 samples"),
        ({"labels": np.zeros((40, 1))}, r"labels has shape \(40, 1\).*of shape \(40,\)"),
        ({"reducer": "tsne"}, "reducer is 'tsne'"),
        ({"reducer": PCA}, "an instance with fit_transform"),
        ({"reducer": None}, "reducer is None"),
        ({"n_prior_samples": -1}, "n_prior_samples is -1"),
        ({"ax": "left"}, "ax is a str"),
    ],
)
def test_what_does_not_fit_is_named(X, keywords, message):
    with pytest.raises(ValueError, match=message):
        LatentDisplay.from_estimator(model(X), X, **keywords)


@pytest.mark.parametrize(
    "keywords, message",
    [
        ({"prior": np.zeros((3, 2))}, "prior has 2 columns, but Z has 5"),
        ({"prior": np.full((3, 5), np.nan)}, "prior contains NaN"),
        ({"component_names": ["a"]}, "component_names has 1 names, but Z has 5 columns"),
        ({"reducer": PCA(3)}, r"PCA.*made an array of shape \(40, 3\).*components to 2"),
    ],
)
def test_latents_that_do_not_fit_are_named(X, keywords, message):
    with pytest.raises(ValueError, match=message):
        LatentDisplay.from_latents(X, **keywords)


def test_more_categories_than_can_be_told_apart(X):
    with pytest.raises(ValueError, match="labels has 60 different values, but a figure can show at most 50 categories"):
        LatentDisplay.from_latents(np.resize(X, (60, 2)), labels=np.arange(60).astype(str))


def test_one_point_cannot_be_reduced(X):
    with pytest.raises(ValueError, match="One sample without a prior"):
        LatentDisplay.from_latents(X[:1])


def test_estimators_that_cannot_be_drawn(X):
    with pytest.raises(NotFittedError):
        LatentDisplay.from_estimator(make_pipeline(StandardScaler(), FirstColumns()), X)
    with pytest.raises(ValueError, match=r"PCA has no sample_latent.*n_prior_samples=0"):
        LatentDisplay.from_estimator(make_pipeline(StandardScaler(), PCA(2)).fit(X), X)


# ---- what is imported when ------------------------------------------------------------------------------------------


def test_without_matplotlib_the_error_names_the_extra(X, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r'LatentDisplay draws with matplotlib: pip install "skdevae\[plot\]"'):
        LatentDisplay.from_estimator(model(X), X)


def test_without_umap_the_error_names_the_extra_and_the_way_around(X, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ImportError, match=r"""umap-learn.*reducer='pca' without it: pip install "skdevae\[umap\]\""""):
        LatentDisplay.from_estimator(model(X, 3), X)
    assert LatentDisplay.from_estimator(model(X, 3), X, reducer="pca").axis_names == ["PCA 1", "PCA 2"]
    assert LatentDisplay.from_estimator(model(X, 2), X).axis_names == ["latent 0", "latent 1"]


def test_it_lives_beside_the_other_display():
    assert "LatentDisplay" in display.__all__
    assert display.LatentDisplay is LatentDisplay


def test_facts_of_rows_reach_the_estimator():
    X = np.random.default_rng(0).poisson(4, (30, 4)).astype(float)
    sizes = np.random.default_rng(1).uniform(0.5, 2, 30)
    vae = VAETransformer(2, likelihood="poisson", max_epochs=2, random_state=0).fit(X, size_factors=sizes)
    drawn = LatentDisplay.from_estimator(vae, X, size_factors=sizes)
    np.testing.assert_array_equal(drawn.latents, vae.transform(X, size_factors=sizes))
