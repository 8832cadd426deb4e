"""Scores of feature clusters: truth is followed by name through pipelines and searches."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import adjusted_rand_score, v_measure_score
from sklearn.model_selection import GridSearchCV, KFold, RandomizedSearchCV, cross_val_score
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler
from sklearn.utils.validation import check_is_fitted, validate_data

from skdevae.metrics import FeatureClusteringScorer, feature_clustering_scorer
from skdevae.metrics._feature_clustering_scorer import METRICS

NAMES = ["height", "weight", "speed", "strength", "age", "sleep"]
TRUTH = dict(zip(NAMES, ["up", "up", "down", "down", "up", "down"], strict=True))


class SignClusterer(TransformerMixin, BaseEstimator):
    """Separates the columns that go with the first one from those that go against it."""

    def __init__(self, upside_down=False, merge=False):
        self.upside_down = upside_down
        self.merge = merge

    def fit(self, X, y=None):
        validate_data(self, X)
        self.labels_ = self.predict(X)
        self.responsibilities_ = np.eye(2)[self.labels_]
        self.cluster_names_ = ["with", "against"]
        return self

    def predict(self, X):
        values = np.asarray(X, dtype=float)
        labels = (np.corrcoef(values, rowvar=False)[0] < 0).astype(int)
        if self.merge:
            labels[:] = 0
        return 1 - labels if self.upside_down else labels

    def transform(self, X):
        check_is_fitted(self)
        return np.asarray(X)[:, :1]


def data_of(truth, n_samples=60, seed=0):
    """Columns that rise ("up") or fall along a hidden variable, in units that differ."""
    random = np.random.default_rng(seed)
    hidden = random.standard_normal((n_samples, 1))
    signs = np.array([1.0 if label == "up" else -1.0 for label in truth])
    return (hidden * signs + 0.2 * random.standard_normal((n_samples, len(signs)))) * (1 + np.arange(len(signs)))


@pytest.fixture
def array():
    return data_of(TRUTH.values())


@pytest.fixture
def frame(array):
    return pd.DataFrame(array, columns=NAMES)


def swap_two(truth):
    """Truth that is wrong about two features, so that a score below one shows that names are followed."""
    return {**truth, "weight": truth["speed"], "speed": truth["weight"]}


# -------------------------------------------------------------------------------------------------------------- truth


def test_all_forms_of_truth_agree(frame):
    wrong = swap_two(TRUTH)
    clusterer = SignClusterer().fit(frame)
    expected = adjusted_rand_score(list(wrong.values()), clusterer.labels_)
    assert expected < 0.5
    shuffled = pd.Series(wrong).sample(frac=1, random_state=0)
    for truth in (wrong, shuffled, list(wrong.values()), np.array(list(wrong.values())), shuffled.astype("category")):
        assert feature_clustering_scorer(truth)(clusterer, frame) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(4))
def test_score_is_invariant_to_column_order(frame, seed):
    scorer = feature_clustering_scorer(swap_two(TRUTH))
    permuted = frame.sample(frac=1, axis=1, random_state=seed)
    assert scorer(SignClusterer().fit(permuted), permuted) == pytest.approx(scorer(SignClusterer().fit(frame), frame))


def test_score_is_invariant_to_label_numbers(frame):
    scorer = feature_clustering_scorer(TRUTH)
    assert scorer(SignClusterer(upside_down=True).fit(frame), frame) == 1.0


@pytest.mark.parametrize("unknown", [None, np.nan, pd.NA, "absent"])
@pytest.mark.parametrize("form", [dict, pd.Series])
def test_features_without_known_truth_are_left_out(frame, unknown, form):
    truth = {**swap_two(TRUTH), "weight": unknown, "speed": unknown}
    if isinstance(unknown, str):
        del truth["weight"], truth["speed"]
    assert feature_clustering_scorer(form(truth))(SignClusterer().fit(frame), frame) == 1.0


@pytest.mark.parametrize("unknown", [None, np.nan, pd.NA])
def test_missing_labels_in_an_array_are_left_out(array, unknown):
    truth = list(swap_two(TRUTH).values())
    truth[1] = truth[2] = unknown
    assert feature_clustering_scorer(truth)(SignClusterer().fit(array), array) == 1.0


def test_truth_may_know_features_that_the_data_lack(frame):
    assert feature_clustering_scorer({**TRUTH, "wit": "down"})(SignClusterer().fit(frame), frame) == 1.0


def test_arrays_are_keyed_by_generated_names(array):
    truth = {f"x{column}": label for column, label in enumerate(TRUTH.values())}
    assert feature_clustering_scorer(truth)(SignClusterer().fit(array), array) == 1.0
    assert feature_clustering_scorer(truth)(SignClusterer().fit(array.tolist()), array.tolist()) == 1.0


def test_later_changes_to_the_truth_do_not_reach_the_scorer(frame):
    truth = dict(TRUTH)
    scorer = feature_clustering_scorer(truth)
    truth.update(swap_two(TRUTH))
    assert scorer(SignClusterer().fit(frame), frame) == 1.0


# ------------------------------------------------------------------------------------------------------------- metric


def test_metric_by_name_and_callable(frame):
    wrong = swap_two(TRUTH)
    clusterer = SignClusterer().fit(frame)
    by_name = feature_clustering_scorer(wrong, "v_measure_score")(clusterer, frame)
    assert by_name == pytest.approx(v_measure_score(list(wrong.values()), clusterer.labels_))
    assert feature_clustering_scorer(wrong, v_measure_score)(clusterer, frame) == by_name
    n_features = feature_clustering_scorer(wrong, lambda labels_true, labels_pred: len(labels_true))
    assert n_features(clusterer, frame) == 6


def test_every_allowed_metric_is_best_for_the_truth(frame):
    clusterer, merged = SignClusterer().fit(frame), SignClusterer(merge=True).fit(frame)
    for metric in METRICS:
        scorer = feature_clustering_scorer(TRUTH, metric)
        assert scorer(clusterer, frame) >= scorer(merged, frame), metric


# -------------------------------------------------------------------------------------------------- finding, following


def prefixed():
    return ColumnTransformer([("scale", StandardScaler(), [4, 2, 0]), ("range", MinMaxScaler(), [5, 3, 1])])


PREPARATIONS = {
    "nothing": "passthrough",
    "scale": StandardScaler(),
    "drop": VarianceThreshold(3.0),
    "reorder": prefixed(),
    "reorder, frame": prefixed().set_output(transform="pandas"),
    "union": FeatureUnion([("scale", StandardScaler()), ("range", MinMaxScaler())]),
    "nested": make_pipeline(StandardScaler(), None, prefixed()),
    "frozen": FrozenEstimator(StandardScaler()),
    "drop, then frame": make_pipeline(VarianceThreshold(3.0), StandardScaler().set_output(transform="pandas")),
    "reorder, frame, drop": make_pipeline(
        prefixed(), StandardScaler().set_output(transform="pandas"), VarianceThreshold(0.1)
    ),
    "log": FunctionTransformer(np.cbrt, feature_names_out="one-to-one"),
}


@pytest.mark.parametrize("preparation", PREPARATIONS.values(), ids=PREPARATIONS)
@pytest.mark.parametrize("as_frame", [True, False])
@pytest.mark.parametrize("keyed", [True, False])
def test_names_are_followed_through_preparation(preparation, as_frame, keyed, array, frame):
    if isinstance(preparation, FrozenEstimator):
        preparation = FrozenEstimator(StandardScaler().fit(frame if as_frame else array))
    X = frame if as_frame else array
    columns = NAMES if as_frame else [f"x{column}" for column in range(6)]
    right, wrong = list(TRUTH.values()), list(swap_two(TRUTH).values())
    pipeline = Pipeline([("prepare", clone(preparation, safe=False)), ("cluster", SignClusterer())]).fit(X)
    scores = [
        feature_clustering_scorer(dict(zip(columns, truth, strict=True)) if keyed else truth)(pipeline, X)
        for truth in (right, wrong)
    ]
    assert scores[0] == 1.0
    assert scores[1] < 1.0


@pytest.mark.parametrize("as_frame", [True, False])
def test_each_name_keeps_its_own_label(as_frame, array, frame):
    """With a label of its own for each feature, what reaches the metric shows exactly which column is which."""
    X = frame if as_frame else array
    shuffle = ColumnTransformer([("a", StandardScaler(), [3, 1]), ("b", "passthrough", [2, 0])])
    pipeline = make_pipeline(VarianceThreshold(3.0), shuffle, SignClusterer()).fit(X)
    seen = []

    def remember(labels_true, labels_pred):
        seen.extend(labels_true)
        return 0.0

    feature_clustering_scorer(NAMES, remember)(pipeline, X)
    kept = np.array(NAMES)[array.var(axis=0) > 3.0]
    assert len(kept) == 5
    assert seen == list(kept[[3, 1, 2, 0]])


def test_supervised_selection_and_y(frame):
    y = frame["height"].to_numpy() > 0
    pipeline = make_pipeline(SelectKBest(k=3), SignClusterer()).fit(frame, y)
    assert feature_clustering_scorer(TRUTH)(pipeline, frame, y) == 1.0


def test_a_function_on_data_frames_needs_no_names(frame):
    pipeline = make_pipeline(FunctionTransformer(np.cbrt), SignClusterer()).fit(frame)
    assert feature_clustering_scorer(TRUTH)(pipeline, frame) == 1.0


def test_clusterer_before_other_steps(frame):
    pipeline = make_pipeline(StandardScaler(), SignClusterer(), StandardScaler()).fit(frame)
    assert feature_clustering_scorer(TRUTH)(pipeline, frame) == 1.0


def test_truth_may_be_keyed_by_full_names(frame):
    pipeline = make_pipeline(prefixed(), SignClusterer()).fit(frame)
    truth = {name: TRUTH[name.split("__")[1]] for name in pipeline[:-1].get_feature_names_out()}
    assert feature_clustering_scorer(truth)(pipeline, frame) == 1.0
    assert feature_clustering_scorer({**swap_two(TRUTH), **truth})(pipeline, frame) == 1.0


def test_columns_that_came_with_prefixes(frame):
    already = frame.add_prefix("scale__")
    assert feature_clustering_scorer(TRUTH)(SignClusterer().fit(already), already) == 1.0


def test_a_column_is_not_taken_for_another_with_a_shorter_name(frame):
    both = frame.assign(other__height=-frame["height"])
    scorer = feature_clustering_scorer(TRUTH, lambda true, pred: len(true))
    assert scorer(SignClusterer().fit(both), both) == 6


def test_searches_and_nesting(frame):
    scorer = feature_clustering_scorer(TRUTH)
    grid = {"cluster__merge": [True, False]}
    pipeline = Pipeline([("scale", StandardScaler()), ("cluster", SignClusterer())])
    search = GridSearchCV(pipeline, grid, scoring=scorer, cv=3, error_score="raise").fit(frame)
    assert search.best_params_ == {"cluster__merge": False}
    assert search.best_score_ == 1.0
    assert search.score(frame) == 1.0
    assert scorer(search, frame) == 1.0
    randomized = RandomizedSearchCV(pipeline, grid, n_iter=2, scoring={"ari": scorer}, refit="ari", cv=3)
    nested = make_pipeline(VarianceThreshold().set_output(transform="pandas"), randomized)
    np.testing.assert_array_equal(cross_val_score(nested, frame, scoring=scorer, cv=3, error_score="raise"), 1.0)


def test_search_clones_and_pickles(frame):
    scorer = feature_clustering_scorer(swap_two(TRUTH), "rand_score")
    search = clone(GridSearchCV(SignClusterer(), {"merge": [False]}, scoring=scorer, cv=3))
    restored = pickle.loads(pickle.dumps(search.fit(frame)))
    assert restored.score(frame) == search.score(frame) == scorer(search, frame) < 1.0
    assert repr(restored.scoring) == repr(scorer) == "FeatureClusteringScorer(6 features, metric='rand_score')"


def test_cross_validation_scores_held_out_rows():
    """The truth holds in the first half of the rows alone, so only the fold that holds that half out is perfect."""
    halves = [["up", "up", "down", "down"], ["up", "down", "up", "down"]]
    X = np.vstack([data_of(half, seed=seed) for seed, half in enumerate(halves)])
    scorer = feature_clustering_scorer(halves[0])
    scores = cross_val_score(SignClusterer(), X, scoring=scorer, cv=KFold(2), error_score="raise")
    assert scores[0] == 1.0
    assert scores[1] == pytest.approx(adjusted_rand_score(*halves))


# ------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("metric", ["silhouette_score", "accuracy", None, 3])
def test_unknown_metric(metric):
    with pytest.raises(ValueError, match=r"metric=.* is not known.*callable.*adjusted_rand_score.*v_measure_score"):
        feature_clustering_scorer(TRUTH, metric)


@pytest.mark.parametrize("truth", ["up", 3, np.zeros((2, 2)), pd.DataFrame({"height": [1]}), {"up", "down"}])
def test_truth_that_is_no_labeling(truth):
    with pytest.raises(ValueError, match="truth must be a mapping"):
        feature_clustering_scorer(truth)


def test_truth_with_two_labels_for_a_feature():
    with pytest.raises(ValueError, match="more than one label for feature 'height'"):
        FeatureClusteringScorer(pd.Series(["up", "down"], index=["height", "height"]))


@pytest.mark.parametrize(
    "estimator",
    [SignClusterer(), KMeans(2, n_init=1), make_pipeline(StandardScaler(), PCA(2))],
    ids=["unfitted", "samples", "pipeline"],
)
def test_no_clusterer(estimator, frame):
    if not isinstance(estimator, SignClusterer):
        estimator.fit(frame)
    with pytest.raises(ValueError, match=f"no fitted feature clusterer in {type(estimator).__name__}"):
        feature_clustering_scorer(TRUTH)(estimator, frame)


def test_search_without_refit(frame):
    scorer = feature_clustering_scorer(TRUTH)
    search = GridSearchCV(SignClusterer(), {"merge": [False]}, scoring=scorer, refit=False, cv=3).fit(frame)
    with pytest.raises(ValueError, match=r"no fitted feature clusterer in GridSearchCV.*refit=True"):
        scorer(search, frame)


def test_no_feature_matches(frame, array):
    with pytest.raises(
        ValueError, match=r"None of the features .* 'height', 'weight', 'speed', \.\.\., but truth has 'a'"
    ):
        feature_clustering_scorer({"a": 1})(SignClusterer().fit(frame), frame)
    with pytest.raises(ValueError, match="named 'pca0', 'pca1', but"):
        feature_clustering_scorer(TRUTH)(make_pipeline(PCA(2), SignClusterer()).fit(array), array)
    with pytest.raises(ValueError, match="truth has no labels"):
        feature_clustering_scorer({})(SignClusterer().fit(frame), frame)


def test_truth_of_another_length(array):
    with pytest.raises(ValueError, match="truth has 2 labels but the data given to the scorer have 6 columns"):
        feature_clustering_scorer(["up", "down"])(SignClusterer().fit(array), array)


def test_step_without_names(array):
    pipeline = make_pipeline(FunctionTransformer(np.cbrt), SignClusterer()).fit(array)
    with pytest.raises(ValueError, match=r"after step 'functiontransformer'.*feature_names_out='one-to-one'"):
        feature_clustering_scorer(list(TRUTH.values()))(pipeline, array)


def test_clusterer_that_labels_samples(array):
    class SampleClusterer(SignClusterer):
        def predict(self, X):
            return np.zeros(len(X), dtype=int)

    with pytest.raises(ValueError, match=r"SampleClusterer\.predict gave labels of shape \(60,\) for 6 columns"):
        feature_clustering_scorer(list(TRUTH.values()))(SampleClusterer().fit(array), array)
