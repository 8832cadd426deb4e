"""Figures show what the estimator says: one panel a cluster, its trajectories, and the table behind them."""

import importlib
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import skdevae
from skdevae import BasisDeVAEClusterer, display
from skdevae.datasets import make_progression, make_progression_counts
from skdevae.display import TrajectoryDisplay
from skdevae.display._curve_names import representatives, spread_apart

plt = pytest.importorskip("matplotlib.pyplot")

from matplotlib.axes import Axes  # noqa: E402  # the line above skips all of this where there is no matplotlib
from matplotlib.text import Text  # noqa: E402


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
    x, y = drawn.observations_[0].get_offsets().data.T
    order = np.argsort(x)
    positions = clusterer.transform(table)[:, 0]
    values = table["transient_00"].to_numpy()
    np.testing.assert_allclose(x[order], np.sort(positions))
    np.testing.assert_allclose(y[order], ((values - values.mean()) / values.std())[np.argsort(positions)])


def test_curves_span_the_samples_unless_told_otherwise(clusterer, table, of_all_features):
    drawn = of_all_features
    positions = clusterer.transform(table)
    assert (drawn.z[0], drawn.z[-1]) == (positions.min(), positions.max())
    assert drawn.axes_[0].get_xlim() == (drawn.z[0], drawn.z[-1])


def test_missing_entries_are_not_drawn(clusterer, table):
    gaps = table.mask(np.random.default_rng(0).random(table.shape) < 0.3)
    drawn = TrajectoryDisplay.from_estimator(clusterer, gaps)
    n_points = sum(len(points.get_offsets()) for points in drawn.observations_)
    assert n_points == gaps.notna().to_numpy().sum()
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
    assert drawn.feature_names == [table.columns[0], table.columns[-1]]
    alone = TrajectoryDisplay.from_estimator(clusterer, table, features=table.columns[0])
    assert alone.feature_names == [table.columns[0]]


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


# ---- which axes -----------------------------------------------------------------------------------------------------


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


def test_axes_that_do_not_fit(clusterer, table):
    figure, axes = plt.subplots(1, 2)
    with pytest.raises(ValueError, match="ax has 2 Axes, but there are 3 clusters"):
        TrajectoryDisplay.from_estimator(clusterer, table, ax=axes)
    with pytest.raises(ValueError, match="not part of a grid"):
        TrajectoryDisplay.from_estimator(clusterer, table, ax=figure.add_axes((0, 0, 1, 1)))


def test_plot_draws_again_and_passes_keywords_on(clusterer, table):
    drawn = TrajectoryDisplay.from_estimator(clusterer, table)
    first = drawn.figure_
    assert drawn.plot(line_kw={"linestyle": ":"}, observation_kw={"s": 1}) is drawn
    assert drawn.figure_ is not first
    assert all(line.get_linestyle() == ":" for line in drawn.lines_)
    assert all((points.get_sizes() == 1).all() for points in drawn.observations_)


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
    with pytest.raises(ValueError, match="no fitted feature clusterer"):
        TrajectoryDisplay.from_estimator(StandardScaler().fit(table), table)


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
