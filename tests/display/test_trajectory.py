"""Figures show what the estimator says: one panel a cluster, its trajectories, and the table behind them."""

import importlib
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import skdevae
from skdevae import BasisDeVAEClusterer, DeVAETransformer, VAETransformer, display
from skdevae.datasets import make_progression, make_progression_counts
from skdevae.display import TrajectoryDisplay
from skdevae.display._curve_names import representatives, spread_apart
from skdevae.inspection import bootstrap

plt = pytest.importorskip("matplotlib.pyplot")

from matplotlib.axes import Axes  # noqa: E402  # the line above skips all of this where there is no matplotlib
from matplotlib.colors import to_rgb  # noqa: E402
from matplotlib.text import Text  # noqa: E402


class RobustOnly(TransformerMixin, BaseEstimator):
    """A step that cannot be undone."""

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return np.clip(X, -5, 10)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    progression = make_progression(80, n_transient=5, n_increasing=4, n_decreasing=3, as_frame=True, random_state=0)
    return 3 + 2 * progression.data


@pytest.fixture(scope="module")
def clusterer(table) -> BasisDeVAEClusterer:
    return BasisDeVAEClusterer(max_epochs=60, random_state=0).fit(table)


@pytest.fixture(scope="module")
def of_all_features(clusterer, table) -> TrajectoryDisplay:
    return TrajectoryDisplay.from_estimator(clusterer, table)


def shown_features(panel: Axes) -> set[str]:
    return {line.get_label() for line in panel.lines}


# ---- what is drawn --------------------------------------------------------------------------------------------------


def test_one_panel_for_each_cluster_that_has_features(clusterer, table, of_all_features):
    drawn = of_all_features
    sizes = np.bincount(clusterer.labels_, minlength=len(clusterer.cluster_names_))
    assert [panel.get_title(loc="left") for panel in drawn.axes_] == [
        f"{name} ({size} feature{'' if size == 1 else 's'})"
        for name, size in zip(clusterer.cluster_names_, sizes, strict=True)
        if size
    ]
    for panel, cluster in zip(drawn.axes_, np.unique(clusterer.labels_), strict=True):
        assert shown_features(panel) == set(table.columns[clusterer.labels_ == cluster])


def test_empty_clusters_have_no_panel(table):
    rising = table.filter(like="increasing")
    clusterer = BasisDeVAEClusterer(behaviors=["decreasing", "increasing"], max_epochs=25, random_state=0).fit(rising)
    assert set(clusterer.labels_) == {1}
    drawn = TrajectoryDisplay.from_estimator(clusterer, rising)
    assert [panel.get_title(loc="left") for panel in drawn.axes_] == ["increasing (4 features)"]


def test_curves_are_the_trajectories_in_sds_of_the_table(clusterer, table):
    z = np.linspace(-1, 1, 7)
    drawn = TrajectoryDisplay.from_estimator(clusterer, table, z=z)
    expected = (clusterer.trajectories(z) - table.to_numpy().mean(0)) / table.to_numpy().std(0)
    for name, line in zip(drawn.feature_names, drawn.lines_, strict=True):
        np.testing.assert_allclose(line.get_xdata(), z)
        np.testing.assert_allclose(line.get_ydata(), expected[:, table.columns.get_loc(name)], rtol=1e-9, atol=1e-9)


def test_observations_stand_at_their_posterior_means(clusterer, table):
    drawn = TrajectoryDisplay.from_estimator(clusterer, table, features=["transient_00"])
    x, y = drawn.observations_["transient_00"].get_offsets().data.T
    order = np.argsort(x)
    positions = clusterer.transform(table)[:, 0]
    values = table["transient_00"].to_numpy()
    np.testing.assert_allclose(x[order], np.sort(positions))
    np.testing.assert_allclose(y[order], ((values - values.mean()) / values.std())[np.argsort(positions)])


def test_curves_end_where_samples_do(clusterer, table, of_all_features):
    drawn = of_all_features
    positions = clusterer.transform(table)[:, 0]
    sample = 1 / len(positions)
    for beyond in (positions < drawn.z[0], positions > drawn.z[-1]):
        assert abs(beyond.mean() - 0.05) <= sample  # of so few samples, one in twenty stands by itself at either end
    assert drawn.axes_[0].get_xlim() == (drawn.z[0], drawn.z[-1])


def test_bars_count_the_samples_between_the_ends_of_curves(clusterer, table, of_all_features):
    positions = clusterer.transform(table)[:, 0]
    assert len(of_all_features.samples_) == len(of_all_features.axes_)
    for panel, bars in zip(of_all_features.axes_, of_all_features.samples_, strict=True):
        heights, edges, _ = bars.get_data()
        counts, _ = np.histogram(positions, edges)
        np.testing.assert_allclose(heights / heights.max(), counts / counts.max())
        # They stand below all that is drawn of the features.
        bottom, top = panel.get_ylim()
        lowest = min(line.get_ydata().min() for line in panel.lines)
        assert bottom + heights.max() * (top - bottom) < lowest
    without = TrajectoryDisplay.from_estimator(clusterer, table, show_samples=False)
    assert without.samples_ == []
    assert not any(panel.patches for panel in without.axes_)


def test_only_panels_of_one_feature_show_observations_unless_told_otherwise(clusterer, table, of_all_features):
    assert of_all_features.observations_ == {}
    few = TrajectoryDisplay.from_estimator(
        clusterer, table, features=["transient_00", "increasing_00", "increasing_01"]
    )
    assert set(few.observations_) == {"transient_00"}
    every = TrajectoryDisplay.from_estimator(clusterer, table, panels="feature", show_observations=False)
    assert every.observations_ == {}


def test_observations_have_the_colour_of_their_curve(clusterer, table):
    drawn = TrajectoryDisplay.from_estimator(clusterer, table, show_observations=True)
    for name, points in drawn.observations_.items():
        line = drawn.lines_[drawn.feature_names.index(name)]
        np.testing.assert_array_equal(points.get_facecolor()[:, :3], [to_rgb(line.get_color())])


def test_named_curves_have_colours_of_their_own(of_all_features):
    for panel in of_all_features.axes_:
        named = [line for line in panel.lines if line.get_label() in of_all_features.labels_]
        assert len({line.get_color() for line in named}) == len(named) == min(len(panel.lines), 4)


@pytest.mark.parametrize("share_y", [False, True])
def test_the_range_of_values(clusterer, table, share_y):
    drawn = TrajectoryDisplay.from_estimator(clusterer, table, share_y=share_y)
    limits = [panel.get_ylim() for panel in drawn.axes_]
    assert len(set(limits)) == (1 if share_y else len(limits))
    for panel, (low, high) in zip(drawn.axes_, limits, strict=True):
        assert all(low < line.get_ydata().min() and line.get_ydata().max() < high for line in panel.lines)


def test_what_hardly_changes_is_not_blown_up():
    """The range of values is that of the samples, not that of a curve that is as good as flat."""
    z, rng = np.linspace(-1, 1, 30), np.random.default_rng(0)
    drawn = TrajectoryDisplay.from_predictions(
        z, 1e-3 * z[:, None], positions=rng.uniform(-1, 1, 200), observations=rng.normal(size=(200, 1))
    )
    low, high = drawn.axes_[0].get_ylim()
    assert low < -1.5
    assert high > 1.5


def test_missing_entries_are_not_drawn(clusterer, table):
    gaps = table.mask(np.random.default_rng(0).random(table.shape) < 0.3)
    drawn = TrajectoryDisplay.from_estimator(clusterer, gaps, show_observations=True, max_labels=5)
    assert set(drawn.observations_) == set(table.columns)
    for name, points in drawn.observations_.items():
        assert len(points.get_offsets()) == gaps[name].notna().sum()
    assert all(np.isfinite(line.get_ydata()).all() for line in drawn.lines_)


def test_a_single_sample_can_be_drawn(clusterer, table):
    drawn = TrajectoryDisplay.from_estimator(clusterer, table.iloc[:1])
    assert all(np.isfinite(line.get_xydata()).all() for line in drawn.lines_)


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    return make_progression_counts(60, 9, density=0.5, random_state=0).data.toarray()


@pytest.fixture(scope="module")
def count_clusterer(counts) -> BasisDeVAEClusterer:
    return BasisDeVAEClusterer(likelihood="poisson", max_epochs=5, random_state=0).fit(counts)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
def test_counts_are_drawn_on_a_log_scale(counts, count_clusterer, form):
    clusterer = count_clusterer
    z = np.linspace(-1, 1, 5)
    drawn = TrajectoryDisplay.from_estimator(clusterer, form(counts), z=z)
    logs = np.log1p(counts.astype(float))
    expected = (np.log1p(clusterer.trajectories(z)) - logs.mean(0)) / logs.std(0)
    columns = [int(name.removeprefix("x")) for name in drawn.feature_names]
    np.testing.assert_allclose(np.column_stack([line.get_ydata() for line in drawn.lines_]), expected[:, columns])
    rows = np.argsort(clusterer.transform(counts)[:, 0], kind="stable")
    np.testing.assert_allclose(drawn.observations, ((logs - logs.mean(0)) / logs.std(0))[rows][:, columns], atol=1e-12)
    assert "log1p" in drawn.axes_[0].get_ylabel()


def test_binary_features_are_drawn_as_probabilities(table):
    binary = (table > table.median()).astype(float)
    clusterer = BasisDeVAEClusterer(likelihood="bernoulli", max_epochs=5, random_state=0).fit(binary)
    drawn = TrajectoryDisplay.from_estimator(clusterer, binary)
    assert all(((0 <= line.get_ydata()) & (line.get_ydata() <= 1)).all() for line in drawn.lines_)
    assert set(np.unique(drawn.observations)) == {0, 1}


# ---- which features -------------------------------------------------------------------------------------------------


def test_features_by_name_and_position(clusterer, table):
    drawn = TrajectoryDisplay.from_estimator(clusterer, table, features=[-1, table.columns[0], 0])
    assert drawn.feature_names == [table.columns[-1], table.columns[0]]
    alone = TrajectoryDisplay.from_estimator(clusterer, table, features=table.columns[0])
    assert alone.feature_names == [table.columns[0]]


def test_a_panel_for_each_feature_in_the_order_asked_for(clusterer, table):
    asked = ["transient_03", "decreasing_01", "increasing_00"]
    drawn = TrajectoryDisplay.from_estimator(clusterer, table, features=asked, panels="feature")
    assert [panel.get_title(loc="left") for panel in drawn.axes_] == asked
    for name, panel in zip(asked, drawn.axes_, strict=True):
        assert shown_features(panel) == {name}
    assert drawn.labels_ == {}


@pytest.mark.parametrize(
    "features, message", [(["no_such"], "'no_such'"), ([99], "column 99"), ([], "features is empty")]
)
def test_features_that_are_not_there(clusterer, table, features, message):
    with pytest.raises(ValueError, match=message):
        TrajectoryDisplay.from_estimator(clusterer, table, features=features)


def test_limits_on_features_samples_and_names(clusterer, table):
    drawn = TrajectoryDisplay.from_estimator(clusterer, table, max_features_per_panel=1, max_samples=11, max_labels=1)
    sizes = np.bincount(clusterer.labels_)
    assert len(drawn.feature_names) == len(sizes) == 3
    for panel, size in zip(drawn.axes_, sizes, strict=True):
        assert f"(1 of {size} features)" in panel.get_title(loc="left")
    assert drawn.observations.shape == (11, len(drawn.feature_names))
    assert len(drawn.labels_) == len(drawn.axes_)
    # The samples kept are spread over the whole axis.
    positions = clusterer.transform(table)
    assert (drawn.positions.min(), drawn.positions.max()) == (positions.min(), positions.max())


def test_features_that_the_axis_explains_are_kept_first(table):
    rng = np.random.default_rng(0)
    noisy = table.assign(**{f"noise_{column}": rng.normal(size=len(table)) for column in range(4)})
    clusterer = BasisDeVAEClusterer(3, max_epochs=25, random_state=0).fit(noisy)  # nowhere else to put the noise
    drawn = TrajectoryDisplay.from_estimator(clusterer, noisy, max_features_per_panel=3)
    assert not any(name.startswith("noise") for name in drawn.feature_names)


def test_representatives_cover_different_curves():
    z = np.linspace(-1, 1, 5)[:, None]
    curves = np.hstack([z + offset for offset in (0, 0.01, 0.02, 5, 5.01, 5.02)])
    chosen = representatives(curves, np.ones(6), 2)
    assert sorted(position // 3 for position in chosen) == [0, 1]


@pytest.mark.parametrize("ends", [[0.5, 0.5, 0.5], [1.0, 0.99, 0.2], [0.0], [], [0.03, 0.02, 0.01, 0.0]])
def test_names_keep_their_distance_and_stay_inside(ends):
    heights = spread_apart(np.array(ends), gap=0.1)
    assert (np.diff(heights) <= -0.1 + 1e-12).all()
    assert ((heights >= -1e-12) & (heights <= 1 + 1e-12)).all()


def test_names_do_not_overlap(clusterer, table):
    drawn = TrajectoryDisplay.from_estimator(clusterer, table, max_labels=5)
    drawn.figure_.draw_without_rendering()
    for panel in drawn.axes_:
        # of the text alone: an Annotation's own extent has the line to its curve in it
        boxes = sorted((Text.get_window_extent(name) for name in panel.texts), key=lambda box: box.y0)
        assert all(below.y1 <= above.y0 + 1 for below, above in pairwise(boxes))


# ---- in which units -------------------------------------------------------------------------------------------------


def test_features_in_panels_of_their_own_have_the_units_of_the_table(clusterer, table):
    z = np.linspace(-1, 1, 7)
    names = ["decreasing_00", "transient_01"]
    drawn = TrajectoryDisplay.from_estimator(clusterer, table, z=z, features=names, panels="feature")
    columns = [table.columns.get_loc(name) for name in names]
    np.testing.assert_allclose(drawn.trajectories, clusterer.trajectories(z)[:, columns])
    rows = np.argsort(clusterer.transform(table)[:, 0], kind="stable")
    np.testing.assert_array_equal(drawn.observations, table[names].to_numpy()[rows])


@pytest.mark.parametrize("step", [StandardScaler(), FunctionTransformer(np.log1p, np.expm1)])
def test_a_pipeline_is_undone(table, step):
    positive = table - table.min().min()
    pipeline = make_pipeline(step, BasisDeVAEClusterer(max_epochs=1, random_state=0)).fit(positive)
    drawn = TrajectoryDisplay.from_estimator(pipeline, positive, units="user")
    inner = pipeline[-1].trajectories(drawn.z)
    np.testing.assert_allclose(drawn.trajectories, pipeline[0].inverse_transform(inner))
    rows = np.argsort(pipeline.transform(positive)[:, 0], kind="stable")
    np.testing.assert_allclose(drawn.observations, positive.to_numpy()[rows], atol=1e-12)


def test_steps_that_cannot_be_undone(table):
    pipeline = make_pipeline(FunctionTransformer(np.asarray), RobustOnly(), BasisDeVAEClusterer(max_epochs=1))
    pipeline.fit(table)
    with pytest.raises(ValueError, match="units='user' needs steps"):
        TrajectoryDisplay.from_estimator(pipeline, table, units="user")
    drawn = TrajectoryDisplay.from_estimator(pipeline, table, panels="feature", features=[0])
    np.testing.assert_allclose(drawn.trajectories[:, 0], pipeline[-1].trajectories(drawn.z)[:, 0])


def test_counts_can_be_drawn_as_counts(counts, count_clusterer):
    drawn = TrajectoryDisplay.from_estimator(count_clusterer, sp.csr_array(counts), units="user")
    np.testing.assert_allclose(drawn.trajectories, count_clusterer.trajectories(drawn.z))
    rows = np.argsort(count_clusterer.transform(counts)[:, 0], kind="stable")
    np.testing.assert_array_equal(drawn.observations, counts[rows])
    assert drawn.axes_[0].get_ylabel() == "count"


def test_values_are_called_what_the_user_calls_them(clusterer, table):
    names = ["transient_00", "transient_01", "transient_02"]
    unit = {"transient_00": "mg/dL", "transient_02": "mm"}
    drawn = TrajectoryDisplay.from_estimator(clusterer, table, features=names, panels="feature", value_label=unit)
    assert [panel.get_ylabel() for panel in drawn.axes_] == ["mg/dL", "value", "mm"]
    common = TrajectoryDisplay.from_estimator(clusterer, table, features=names, panels="feature", value_label="mm")
    assert [panel.get_ylabel() for panel in common.axes_] == ["mm", "", ""]  # neighbours share it
    with pytest.raises(ValueError, match="value_label names 'height'"):
        TrajectoryDisplay.from_estimator(clusterer, table, value_label={"height": "m"})


# ---- which axes -----------------------------------------------------------------------------------------------------


def test_figures_are_as_wide_as_columns_of_a_journal(clusterer, table, of_all_features):
    """89 mm and 183 mm."""
    alone = TrajectoryDisplay.from_estimator(clusterer, table, features=[0])
    assert alone.figure_.get_figwidth() * 25.4 == pytest.approx(89, abs=1)
    assert of_all_features.figure_.get_figwidth() * 25.4 == pytest.approx(183, abs=1)


LONG = [f"a very long name of a biomarker that was measured in {column} units" for column in range(12)]


@pytest.fixture(scope="module")
def longer(table) -> BasisDeVAEClusterer:
    return BasisDeVAEClusterer(max_epochs=1, orientation=0, random_state=0).fit(table.set_axis(LONG, axis=1))


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("layout", [None, "constrained"])
def test_names_fit_between_neighbours(longer, table, layout):
    figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.5), layout=layout)
    drawn = TrajectoryDisplay.from_estimator(longer, table.set_axis(LONG, axis=1), ax=axes[: len(set(longer.labels_))])
    figure.draw_without_rendering()
    for panel, right in zip(drawn.axes_, [*axes[1:], None], strict=False):
        edge = figure.bbox.x1 if right is None else right.get_tightbbox().x0
        assert panel.texts
        assert all("…" in name.get_text() and Text.get_window_extent(name).x1 <= edge + 1 for name in panel.texts)
        assert panel.get_window_extent().width > figure.bbox.width / 3 * 0.3


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("panels, n_cols", [("cluster", None), ("feature", 5)])
def test_nothing_is_cut_off_at_the_edge(longer, table, panels, n_cols):
    drawn = TrajectoryDisplay.from_estimator(longer, table.set_axis(LONG, axis=1), panels=panels, n_cols=n_cols)
    drawn.figure_.draw_without_rendering()
    box = drawn.figure_.get_tightbbox()
    width, height = drawn.figure_.get_size_inches()
    assert min(box.x0, box.y0) >= 0
    assert box.x1 <= width + 0.01
    assert box.y1 <= height + 0.01
    for panel, other in pairwise(drawn.axes_):
        if panel.get_position().y0 == other.get_position().y0:
            assert panel.get_tightbbox().x1 <= other.get_tightbbox().x0 + 1


def test_given_axes_are_drawn_on(clusterer, table):
    figure, axes = plt.subplots(2, 2)
    drawn = TrajectoryDisplay.from_estimator(clusterer, table, ax=axes.ravel()[:3])
    assert drawn.figure_ is figure
    assert list(drawn.axes_) == list(drawn.ax_) == list(axes.ravel()[:3])
    assert not axes[1, 1].lines


def test_one_axes_is_divided(clusterer, table):
    figure, (left, right) = plt.subplots(1, 2)
    drawn = TrajectoryDisplay.from_estimator(clusterer, table, ax=left)
    assert len(drawn.axes_) == 3
    assert all(panel.figure is figure and panel.get_position().x1 <= right.get_position().x0 for panel in drawn.axes_)
    alone = TrajectoryDisplay.from_estimator(clusterer, table, features=[0], ax=right)
    assert list(alone.axes_) == [right]


def test_a_part_of_a_figure_is_drawn_on(clusterer, table):
    figure = plt.figure(layout="constrained")
    upper, lower = figure.subfigures(2)
    drawn = TrajectoryDisplay.from_estimator(clusterer, table, ax=upper.subplots())
    assert len(drawn.axes_) == 3
    other = TrajectoryDisplay.from_estimator(clusterer, table, features=[0], ax=lower.subplots())
    figure.canvas.draw()
    assert min(panel.get_window_extent().y0 for panel in drawn.axes_) > other.axes_[0].get_window_extent().y1


def test_axes_that_do_not_fit(clusterer, table):
    figure, axes = plt.subplots(1, 2)
    with pytest.raises(ValueError, match="ax is not 3 matplotlib Axes, but TrajectoryDisplay has 3 panels"):
        TrajectoryDisplay.from_estimator(clusterer, table, ax=axes)
    with pytest.raises(ValueError, match="not part of a grid"):
        TrajectoryDisplay.from_estimator(clusterer, table, ax=figure.add_axes((0, 0, 1, 1)))


def test_plot_draws_again_and_passes_keywords_on(clusterer, table):
    drawn = TrajectoryDisplay.from_estimator(clusterer, table)
    first = drawn.figure_
    assert drawn.plot(line_kw={"linestyle": ":"}, observation_kw={"s": 1}, show_observations=True) is drawn
    assert drawn.figure_ is not first
    assert all(line.get_linestyle() == ":" for line in drawn.lines_)
    assert all((points.get_sizes() == 1).all() for points in drawn.observations_.values())


# ---- what the axis is called ----------------------------------------------------------------------------------------


def horizontal_label(estimator, table) -> str:
    return TrajectoryDisplay.from_estimator(estimator, table, features=[0]).axes_[0].get_xlabel()


@pytest.mark.parametrize("feature", ["increasing_01", -1])
def test_the_axis_is_called_after_the_feature_that_says_which_end_is_up(table, feature):
    oriented = BasisDeVAEClusterer(orientation=feature, max_epochs=1, random_state=0).fit(table)
    name = feature if isinstance(feature, str) else table.columns[feature]
    assert horizontal_label(oriented, table) == f"low → high {name}"


def test_an_axis_against_the_wish_says_so(table):
    rising = table.filter(like="increasing")
    with pytest.warns(UserWarning, match="runs against orientation"):
        model = DeVAETransformer(monotonic_cst="increasing", orientation="falling", max_epochs=5, random_state=0).fit(
            rising.assign(falling=-rising.mean(axis=1))
        )
    drawn = horizontal_label(model, rising.assign(falling=-rising.mean(axis=1)))
    assert drawn == "high → low falling"


def test_other_axes_are_called_what_they_are(clusterer, table):
    assert horizontal_label(clusterer, table) == "position on the latent axis"


@pytest.fixture(scope="module")
def ages(table) -> pd.Series:
    """Ages in another order than the rows, and of another scale than the latent."""
    order = table.filter(like="increasing").mean(axis=1).argsort().argsort()
    return pd.Series(40 + 10 * np.sort(np.random.default_rng(0).normal(size=len(table)))[order], name="age (years)")


@pytest.fixture(scope="module")
def along_age(table, ages) -> BasisDeVAEClusterer:
    return BasisDeVAEClusterer(max_epochs=5, random_state=0).fit(table, axis=ages)


def test_a_given_axis_is_drawn_in_its_own_units(along_age, table, ages):
    drawn = TrajectoryDisplay.from_estimator(along_age, table, features=["transient_00"], units="user", axis=ages)
    panel = drawn.axes_[0]
    assert panel.get_xlabel() == "age (years)"
    assert ages.min() < drawn.z[0] < drawn.z[-1] < ages.max()
    exact = along_age.trajectories(along_age.axis_map_.to_latent(drawn.z))[:, table.columns.get_loc("transient_00")]
    middle = (drawn.z > ages.quantile(0.1)) & (drawn.z < ages.quantile(0.9))
    np.testing.assert_allclose(panel.lines[0].get_ydata()[middle], exact[middle], atol=0.1 * np.ptp(exact))
    x, y = drawn.observations_["transient_00"].get_offsets().data.T
    order = np.argsort(ages)
    np.testing.assert_allclose(x, ages.iloc[order], atol=0.02)
    np.testing.assert_array_equal(y, table["transient_00"].iloc[order])


def test_stages_are_drawn_where_the_model_has_them(table, ages):
    stages = np.digitize(ages, np.quantile(ages, [0.2, 0.5, 0.6, 0.8]))
    model = BasisDeVAEClusterer(max_epochs=1, random_state=0).fit(table, axis=stages)
    drawn = TrajectoryDisplay.from_estimator(model, table, axis=stages, z=np.unique(stages), units="user")
    np.testing.assert_allclose(drawn.trajectories, model.trajectories(model.axis_map_.to_latent(drawn.z)))


def test_curves_along_a_given_axis_have_no_steps(along_age, table):
    """The map of ranks has a step at every sample: it turns up and down all the time."""
    points = np.linspace(along_age.axis_map_.axis[5], along_age.axis_map_.axis[-5], 400)
    drawn = TrajectoryDisplay.from_estimator(along_age, table, features=["increasing_00"], z=points, units="user")
    bends = np.diff(drawn.trajectories[:, 0], 2)
    exact = np.diff(
        along_age.trajectories(along_age.axis_map_.to_latent(points))[:, table.columns.get_loc("increasing_00")], 2
    )
    assert np.abs(bends).sum() < 0.5 * np.abs(exact).sum()


def test_samples_without_a_known_position_are_placed_by_their_entries(along_age, table):
    drawn = TrajectoryDisplay.from_estimator(along_age, table)
    placed = along_age.axis_map_.to_axis(along_age.transform(table)[:, 0])
    np.testing.assert_allclose(drawn.positions, np.sort(placed))
    assert drawn.axes_[-1].get_xlabel() == "position on the given axis"
    named = TrajectoryDisplay.from_estimator(along_age, table, axis_label="age (years)")
    assert named.axes_[-1].get_xlabel() == "age (years)"


def test_replicates_along_a_given_axis_are_compared_at_equal_positions(along_age, table, ages):
    same = OtherScales(along_age, along_age.transform(table), [SAME, (np.exp, np.positive)])
    drawn = TrajectoryDisplay.from_estimator(along_age, table, axis=ages, replicates=same)
    np.testing.assert_allclose(drawn.lower, drawn.trajectories)
    np.testing.assert_allclose(drawn.upper, drawn.trajectories)


def test_known_positions_are_of_no_use_along_an_axis_that_was_found(clusterer, table, ages):
    with pytest.raises(ValueError, match="fitted without one"):
        TrajectoryDisplay.from_estimator(clusterer, table, axis=ages)


# ---- from which estimators ------------------------------------------------------------------------------------------


def test_pipelines_hand_on_table_and_names(table):
    steps = ColumnTransformer(
        [("log", FunctionTransformer(np.log1p, feature_names_out="one-to-one"), [table.columns[-1]])],
        remainder="passthrough",
        verbose_feature_names_out=False,
    )
    pipeline = make_pipeline(steps, StandardScaler(), BasisDeVAEClusterer(max_epochs=5, random_state=0))
    positive = table - table.min().min()
    pipeline.fit(positive)
    drawn = TrajectoryDisplay.from_estimator(pipeline, positive)
    inner = pipeline[:-1].transform(positive)
    alone = TrajectoryDisplay.from_estimator(pipeline[-1], inner)
    names = [table.columns[-1], *table.columns[:-1]]  # the transformed column comes first
    assert drawn.feature_names == [names[int(name.removeprefix("x"))] for name in alone.feature_names]
    np.testing.assert_array_equal(drawn.trajectories, alone.trajectories)
    np.testing.assert_array_equal(drawn.observations, alone.observations)


def test_a_step_without_names_keeps_those_of_its_columns(table):
    pipeline = make_pipeline(FunctionTransformer(np.asarray), BasisDeVAEClusterer(max_epochs=2, random_state=0)).fit(
        table
    )
    assert set(TrajectoryDisplay.from_estimator(pipeline, table).feature_names) == set(table.columns)


def test_a_pipeline_of_the_clusterer_alone(clusterer, table):
    drawn = TrajectoryDisplay.from_estimator(Pipeline([("model", clusterer)]), table)
    assert set(drawn.feature_names) == set(table.columns)


def test_a_search_is_drawn_by_its_best_estimator(table):
    found = GridSearchCV(BasisDeVAEClusterer(max_epochs=2, random_state=0), {"alpha": [0.1]}, cv=2).fit(table)
    drawn = TrajectoryDisplay.from_estimator(found, table)
    alone = TrajectoryDisplay.from_estimator(found.best_estimator_, table)
    np.testing.assert_array_equal(drawn.trajectories, alone.trajectories)


def test_columns_of_arrays_are_numbered(table):
    clusterer = BasisDeVAEClusterer(max_epochs=2, random_state=0).fit(table.to_numpy())
    drawn = TrajectoryDisplay.from_estimator(clusterer, table.to_numpy(), features=[2])
    assert drawn.feature_names == ["x2"]


def test_estimators_that_cannot_be_drawn(table):
    with pytest.raises(NotFittedError):
        TrajectoryDisplay.from_estimator(BasisDeVAEClusterer(), table)
    with pytest.raises(ValueError, match="Expected a fitted estimator"):
        TrajectoryDisplay.from_estimator(StandardScaler().fit(table), table)


def test_features_without_clusters_are_grouped_by_their_constraints(table):
    signs = [1 if name.startswith("increasing") else -1 if name.startswith("decreasing") else 0 for name in table]
    model = DeVAETransformer(monotonic_cst=signs, max_epochs=3, random_state=0).fit(table)
    drawn = TrajectoryDisplay.from_estimator(model, table)
    titles = [panel.get_title(loc="left") for panel in drawn.axes_]
    assert titles == ["increasing (4 features)", "decreasing (3 features)", "free (5 features)"]
    for panel, sign in zip(drawn.axes_, (1, -1, 0), strict=True):
        assert shown_features(panel) == set(table.columns[np.equal(signs, sign)])


def test_features_without_any_group_share_a_panel(table):
    model = VAETransformer(1, max_epochs=1, random_state=0).fit(table)
    drawn = TrajectoryDisplay.from_estimator(model, table)
    assert [panel.get_title(loc="left") for panel in drawn.axes_] == ["12 features"]
    np.testing.assert_array_equal(drawn.clusters, 0)


def test_latents_of_two_components_have_no_curves_along_one(table):
    with pytest.raises(ValueError, match="2 components"):
        TrajectoryDisplay.from_estimator(VAETransformer(2, max_epochs=1, random_state=0).fit(table), table)


def test_one_position_is_no_curve(clusterer, table):
    with pytest.raises(ValueError, match="two different positions"):
        TrajectoryDisplay.from_estimator(clusterer, table, z=[1.0])


# ---- without matplotlib ---------------------------------------------------------------------------------------------


def test_without_matplotlib_the_package_loads_and_the_error_names_the_extra(clusterer, table, monkeypatch):
    monkeypatch.setattr(skdevae, "display", display)  # to be put back after the import below
    for name in list(sys.modules):
        if name.partition(".")[0] == "matplotlib":
            monkeypatch.setitem(sys.modules, name, None)
        elif name.startswith("skdevae.display"):
            monkeypatch.delitem(sys.modules, name)
    again = importlib.import_module("skdevae.display")
    assert again is not display
    with pytest.raises(ImportError, match=r'TrajectoryDisplay draws with matplotlib: pip install "skdevae\[plot\]"'):
        again.TrajectoryDisplay.from_estimator(clusterer, table)


def test_observations_are_comparable_with_curves_where_samples_differ_in_size(counts):
    sizes = np.exp(np.random.default_rng(0).normal(0, 1, len(counts)))
    median = np.exp(np.median(np.log(sizes)))
    clusterer = BasisDeVAEClusterer(likelihood="poisson", max_epochs=5, random_state=0).fit(counts, size_factors=sizes)
    drawn = TrajectoryDisplay.from_estimator(clusterer, counts, size_factors=sizes)
    logs = np.log1p(counts * (median / sizes)[:, None])
    rows = np.argsort(clusterer.transform(counts, size_factors=sizes)[:, 0], kind="stable")
    columns = [int(name.removeprefix("x")) for name in drawn.feature_names]
    np.testing.assert_allclose(drawn.observations, ((logs - logs.mean(0)) / logs.std(0))[rows][:, columns], atol=1e-4)
    with pytest.raises(ValueError, match="size_factors"):
        TrajectoryDisplay.from_estimator(clusterer, counts)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("form", ["frame", "array"])
def test_columns_that_condition_have_no_curve(table, form):
    sex = np.resize([0.0, 1.0], len(table))
    rows = table.copy()
    rows.insert(1, "sex", sex)
    rows.iloc[:, 0] += 5 * sex
    X = rows if form == "frame" else rows.to_numpy()
    clusterer = BasisDeVAEClusterer(max_epochs=5, covariates=[1], random_state=0).fit(X)
    drawn = TrajectoryDisplay.from_estimator(clusterer, X)
    names = list(rows.columns) if form == "frame" else [f"x{column}" for column in range(rows.shape[1])]
    names.pop(1)
    assert drawn.feature_names == names
    assert list(drawn.clusters) == list(clusterer.labels_)
    # both sexes are drawn as if they were average
    adjusted = clusterer.adjust(X)[:, 0]
    assert abs(adjusted[sex == 1].mean() - adjusted[sex == 0].mean()) < 1
    order = np.argsort(clusterer.transform(X)[:, 0], kind="stable")
    expected = (adjusted - adjusted.mean()) / adjusted.std()
    np.testing.assert_allclose(drawn.observations[:, 0], expected[order], atol=1e-8)


# ---- bands ----------------------------------------------------------------------------------------------------------


class OtherScales:
    """Replicates whose axes have other scales, and whose curves lie higher by constants."""

    def __init__(self, model, latents, warps, heights=None):
        self.model, self.warps = model, warps
        self.positions = np.stack([warp(latents[:, 0]) for warp, _ in warps])
        self.weights = np.ones_like(self.positions)
        self.heights = np.zeros(len(warps)) if heights is None else heights

    def __len__(self):
        return len(self.warps)

    def trajectories(self, z):
        assert len(z) == len(self)
        return np.stack(
            [
                self.model.trajectories(back(at)) + height
                for (_, back), at, height in zip(self.warps, z, self.heights, strict=True)
            ]
        )


SAME = (np.positive, np.positive)


def test_a_band_knows_replicates_by_the_samples_and_not_by_the_scale_of_their_axes(clusterer, table):
    warps = [(lambda z: 3 * z + 1, lambda z: (z - 1) / 3), (np.exp, np.log), (np.arctan, np.tan)]
    same = OtherScales(clusterer, clusterer.transform(table), warps)
    drawn = TrajectoryDisplay.from_estimator(clusterer, table, replicates=same)
    assert set(drawn.bands_) == set(drawn.labels_)
    for edge in (drawn.lower, drawn.upper):
        np.testing.assert_allclose(edge, drawn.trajectories, atol=0.05)


def test_a_band_has_the_quantiles_of_replicates(clusterer, table):
    heights, level = np.random.default_rng(0).normal(size=9), 0.6
    replicates = OtherScales(clusterer, clusterer.transform(table), [SAME] * 9, heights)
    drawn = TrajectoryDisplay.from_estimator(
        clusterer, table, features=["transient_00"], units="user", replicates=replicates, confidence_level=level
    )
    curve = clusterer.trajectories(drawn.z)[:, [table.columns.get_loc("transient_00")]]
    np.testing.assert_allclose(drawn.lower, curve + np.quantile(heights, (1 - level) / 2), atol=1e-6)
    np.testing.assert_allclose(drawn.upper, curve + np.quantile(heights, (1 + level) / 2), atol=1e-6)
    low, high = drawn.axes_[0].get_ylim()
    assert low < drawn.lower.min()
    assert high > drawn.upper.max()


def test_replicates_of_another_table_are_refused(clusterer, table):
    replicates = OtherScales(clusterer, clusterer.transform(table), [SAME])
    with pytest.raises(ValueError, match="resampling 80 samples, but X has 79"):
        TrajectoryDisplay.from_estimator(clusterer, table[1:], replicates=replicates)


def test_a_band_of_bootstrap_replicates_lies_around_the_curve(clusterer, table):
    replicates = bootstrap(clusterer, table, n_bootstrap=5, random_state=0)
    drawn = TrajectoryDisplay.from_estimator(clusterer, table, replicates=replicates)
    middle = np.abs(drawn.z) < 1
    inside = (drawn.lower <= drawn.trajectories) & (drawn.trajectories <= drawn.upper)
    assert inside[middle].mean() > 0.8
    assert (drawn.upper > drawn.lower).all()


def test_weighted_samples_are_drawn_as_often_as_they_count(clusterer, table):
    rng = np.random.default_rng(0)
    weight = rng.integers(0, 4, len(table))
    weighted = TrajectoryDisplay.from_estimator(clusterer, table, sample_weight=weight)
    repeated = TrajectoryDisplay.from_estimator(clusterer, table.loc[table.index.repeat(weight)])
    np.testing.assert_allclose(weighted.z, repeated.z)
    np.testing.assert_allclose(
        np.quantile(weighted.positions, [0.2, 0.5, 0.8]), np.quantile(repeated.positions, [0.2, 0.5, 0.8]), atol=0.1
    )
    assert not np.isin(weighted.positions, clusterer.transform(table[weight == 0])).any()


def test_no_replicates_no_band(of_all_features):
    assert of_all_features.bands_ == {}
    assert of_all_features.lower is of_all_features.upper is None


# ---- from arrays ----------------------------------------------------------------------------------------------------


def test_arrays_are_drawn_as_they_are(clusterer, table):
    positions = clusterer.transform(table)[:, 0]
    z = np.linspace(-1.5, 1.5, 30)
    curves = pd.DataFrame(clusterer.trajectories(z), columns=table.columns)
    drawn = TrajectoryDisplay.from_predictions(
        z,
        curves,
        positions=positions,
        observations=table,
        lower=curves - 1,
        upper=curves + 1,
        clusters=list(clusterer.cluster_names_[clusterer.labels_]),
        axis_label="age (years)",
        value_label="mm",
        show_observations=True,
    )
    assert drawn.feature_names == list(table.columns)
    assert {panel.get_ylabel() for panel in drawn.axes_} <= {"mm", ""}
    assert drawn.axes_[-1].get_xlabel() == "age (years)"
    for name, line in zip(table.columns, drawn.lines_, strict=True):
        np.testing.assert_array_equal(line.get_xydata(), np.column_stack([z, curves[name]]))
    for name, points in drawn.observations_.items():
        np.testing.assert_array_equal(points.get_offsets(), np.column_stack([positions, table[name]]))
    assert set(drawn.bands_) == set(drawn.labels_)


def test_curves_alone_can_be_drawn():
    z = np.linspace(0, 1, 5)
    drawn = TrajectoryDisplay.from_predictions(z, np.column_stack([z, z**2]))
    assert drawn.feature_names == ["x0", "x1"]
    assert [panel.get_title(loc="left") for panel in drawn.axes_] == ["2 features"]


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"z": [0.0, 1.0]}, r"trajectories has shape \(3, 2\), but z has 2 positions"),
        ({"z": [0.0, 2.0, 1.0]}, "z must have at least two positions, each above the one before"),
        ({"lower": np.zeros((3, 1))}, r"lower has shape \(3, 1\).*must have shape \(3, 2\)"),
        ({"observations": np.zeros((3, 2))}, "observations has shape .* positions has 4 samples"),
        ({"feature_names": ["a"]}, "feature_names has shape"),
        ({"clusters": ["a"]}, "clusters has shape"),
        ({"panels": "sample"}, "panels"),
    ],
)
def test_arrays_that_do_not_fit_each_other(changed, message):
    given = {"z": [0.0, 1.0, 2.0], "trajectories": np.zeros((3, 2)), "positions": np.zeros(4)}
    with pytest.raises(ValueError, match=message):
        TrajectoryDisplay.from_predictions(**{**given, **changed})
