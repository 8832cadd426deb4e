"""The heat map shows the table, sorted as it says, and the co-clustering matrix in the same order."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdevae import BasisDeVAEClusterer, DeVAETransformer
from skdevae.datasets import make_progression
from skdevae.display import FeatureClusterDisplay
from skdevae.inspection import feature_table
from skdevae.metrics import coclustering_matrix

plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    progression = make_progression(70, n_transient=3, n_increasing=4, n_decreasing=3, as_frame=True, random_state=0)
    return 3 + 2 * progression.data


@pytest.fixture(scope="module")
def pipeline(table):
    clusterer = BasisDeVAEClusterer(n_grid_points=33, max_epochs=15, random_state=0)
    return make_pipeline(StandardScaler().set_output(transform="pandas"), clusterer).fit(table)


def standardized(table: pd.DataFrame) -> pd.DataFrame:
    return (table - table.mean()) / table.std(ddof=0)


# ---- of an estimator -------------------------------------------------------------------------------------------------


def test_rows_are_features_by_cluster_and_place_and_columns_are_samples_in_order(pipeline, table):
    display = FeatureClusterDisplay.from_estimator(pipeline, table)
    labels = dict(zip(table.columns, pipeline[-1].labels_, strict=True))
    assert list(display.clusters) == sorted(labels.values())
    assert [labels[name] for name in display.feature_names] == list(display.clusters)
    described = feature_table(pipeline, table).loc[display.feature_names]
    places = described["peak (quantile)"].fillna(described["half change (quantile)"])
    np.testing.assert_allclose(display.places, places)
    np.testing.assert_allclose(display.places_.get_offsets()[:, 0], places)
    for cluster in np.unique(display.clusters):
        assert (np.diff(display.places[display.clusters == cluster]) >= 0).all()
    order = np.argsort(pipeline.transform(table)[:, 0])
    np.testing.assert_allclose(display.heatmap_.get_array(), standardized(table)[display.feature_names].iloc[order].T)
    assert [tick.get_text() for tick in display.axes_[0].get_yticklabels()] == display.feature_names


def test_the_matrix_is_that_of_the_fit_in_the_same_order(pipeline, table):
    display = FeatureClusterDisplay.from_estimator(pipeline, table, kind="both")
    order = [table.columns.get_loc(name) for name in display.feature_names]
    expected = coclustering_matrix(pipeline[-1])[np.ix_(order, order)]
    np.testing.assert_allclose(display.coclustering_.get_array(), expected)
    assert len(display.axes_) == 2
    alone = FeatureClusterDisplay.from_estimator(pipeline, table, kind="coclustering")
    assert alone.heatmap_ is None
    np.testing.assert_allclose(alone.coclustering_.get_array(), expected)


def test_a_matrix_over_replicates_is_found_by_its_names(pipeline, table):
    matrix = pd.DataFrame(np.random.default_rng(0).random((10, 10)), index=table.columns, columns=table.columns)
    shuffled = matrix.sample(frac=1, random_state=0).sample(frac=1, axis=1, random_state=1)
    display = FeatureClusterDisplay.from_estimator(pipeline, table, coclustering=shuffled, kind="coclustering")
    expected = matrix.loc[display.feature_names, display.feature_names]
    np.testing.assert_array_equal(display.coclustering_.get_array(), expected)
    with pytest.raises(ValueError, match="no row and column 'increasing_00'"):
        FeatureClusterDisplay.from_estimator(pipeline, table, coclustering=matrix.drop(columns="increasing_00"))


def test_data_frames_out_change_nothing(pipeline, table):
    expected = FeatureClusterDisplay.from_estimator(pipeline, table)
    framed = make_pipeline(*(step for _, step in pipeline.steps)).set_output(transform="pandas")
    display = FeatureClusterDisplay.from_estimator(framed, table)
    pipeline.set_output(transform="default")
    np.testing.assert_array_equal(display.values, expected.values)
    assert display.feature_names == expected.feature_names


def test_samples_are_in_the_order_of_an_axis_that_is_given(table):
    times = np.random.default_rng(0).permutation(70)
    model = BasisDeVAEClusterer(n_grid_points=33, max_epochs=5, random_state=0).fit(table, axis=times)
    display = FeatureClusterDisplay.from_estimator(model, table, axis=times)
    order = np.argsort(times)
    np.testing.assert_allclose(display.heatmap_.get_array(), standardized(table)[display.feature_names].iloc[order].T)
    assert display.axes_[0].get_xlabel() == "position on the given axis\n(share of the samples)"
    described = feature_table(model, table, axis=times).loc[display.feature_names]
    places = described["peak (quantile)"].fillna(described["half change (quantile)"])
    np.testing.assert_allclose(display.places, places)


def test_estimators_without_clusters_are_named(table):
    with pytest.raises(ValueError, match="DeVAETransformer does not cluster features"):
        FeatureClusterDisplay.from_estimator(DeVAETransformer(max_epochs=2, random_state=0).fit(table), table)
    with pytest.raises(ValueError, match="last step is PCA"):
        FeatureClusterDisplay.from_estimator(PCA(1).fit(table), table)


# ---- of arrays -------------------------------------------------------------------------------------------------------

POSITIONS = np.array([2.0, 0.0, 1.0, 3.0])
COUNTS = np.array([[0, 1, 5], [2, 0, 5], [4, 3, 5], [1, 1, 5]])


def test_features_without_a_cluster_are_left_out_and_places_that_are_nowhere_go_last():
    X = np.random.default_rng(0).normal(size=(4, 5))
    display = FeatureClusterDisplay.from_predictions(
        X, POSITIONS, [1, 0, 1, -1, 1], places=[0.9, 0.5, np.nan, 0.1, 0.2], feature_names=list("abcde")
    )
    assert display.feature_names == ["b", "e", "a", "c"]
    assert display.cluster_names == ["cluster 0", "cluster 1"]
    np.testing.assert_array_equal(display.coclustering, [[1, 0, 0, 0], [0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1]])


@pytest.mark.parametrize("counts", [COUNTS, sp.csr_array(COUNTS)])
def test_counts_are_drawn_by_their_logarithm(counts):
    display = FeatureClusterDisplay.from_predictions(counts, POSITIONS, [0, 0, 0], likelihood="poisson")
    expected = np.log1p(COUNTS[[1, 2, 0, 3], :2])
    np.testing.assert_allclose(display.values[:2].T, (expected - expected.mean(0)) / expected.std(0))
    np.testing.assert_allclose(display.values[2], 0)
    assert display.value_label.startswith("log1p of the count")


def test_probabilities_have_a_scale_from_none_to_all():
    display = FeatureClusterDisplay.from_predictions(COUNTS > 1, POSITIONS, [0, 0, 0], likelihood="bernoulli")
    assert display.heatmap_.get_clim() == (0, 1)
    np.testing.assert_array_equal(display.values.T, COUNTS[[1, 2, 0, 3]] > 1)


def test_many_samples_are_averaged_over_neighbours_and_missing_entries_are_grey():
    X = np.random.default_rng(0).normal(size=(60, 3))
    X[np.random.default_rng(1).random(X.shape) < 0.2] = np.nan
    X[:6, 1] = np.nan
    display = FeatureClusterDisplay.from_predictions(X, np.arange(60), [0, 0, 0], max_columns=10)
    scaled = (X - np.nanmean(X, 0)) / np.nanstd(X, 0)
    groups = scaled.reshape(10, 6, 3)
    means = np.array([[group[~np.isnan(group)].mean() if (~np.isnan(group)).any() else np.nan
                       for group in part.T] for part in groups])  # fmt: skip
    np.testing.assert_allclose(display.values.T, means)
    drawn = display.heatmap_.get_array()
    np.testing.assert_array_equal(drawn.mask, np.isnan(display.values))
    assert np.isnan(display.values).sum() >= 1
    uneven = FeatureClusterDisplay.from_predictions(X, np.arange(60), [0, 0, 0], max_columns=7)
    assert uneven.values.shape == (3, 7)


def test_names_are_written_where_they_fit():
    def rows_named(n_features, ax=None):
        display = FeatureClusterDisplay.from_predictions(
            np.random.default_rng(0).normal(size=(5, n_features)), np.arange(5), np.zeros(n_features, int), ax=ax
        )
        return len(display.axes_[0].get_yticklabels()), display.axes_[0].get_ylabel()

    assert rows_named(40) == (40, "")
    assert rows_named(300) == (0, "300 features")
    assert rows_named(40, plt.figure(figsize=(3, 2)).add_subplot()) == (0, "40 features")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"positions": [1, 2]}, r"positions has shape \(2,\), but X has 4 samples"),
        ({"labels": [0, 1]}, r"labels has shape \(2,\), but X has 3 features"),
        ({"feature_names": ["a"]}, r"feature_names has shape \(1,\)"),
        ({"labels": [-1, -1, -1]}, "No feature has a cluster"),
        ({"labels": [0, 1, 2], "cluster_names": ["a", "b"]}, "2 names, but labels go up to 2"),
        ({"coclustering": np.eye(2)}, r"coclustering has shape \(2, 2\), but there are 3 features"),
        ({"kind": "tree"}, "kind must be one of 'heatmap', 'coclustering', 'both'; got 'tree'"),
        ({"kind": "both", "ax": [0]}, "ax is not 2 matplotlib Axes"),
        ({"max_columns": 0}, "at least one column"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    given = {"positions": POSITIONS, "labels": [0, 0, 1], **change}
    with pytest.raises(ValueError, match=message):
        FeatureClusterDisplay.from_predictions(COUNTS.astype(float), **given)


def test_a_matrix_that_is_not_there():
    display = FeatureClusterDisplay(
        values=np.zeros((1, 2)), feature_names=["a"], clusters=np.array([0]), cluster_names=["b"]
    )
    with pytest.raises(ValueError, match="no co-clustering matrix"):
        display.plot(kind="both")
    assert display.plot().places_ is None
