"""Scores of searches are drawn as the search has them, and the one-standard-error rule is what its books say."""

import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.experimental import enable_halving_search_cv  # noqa: F401  # which the next line needs
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, ParameterGrid, RandomizedSearchCV, ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdevae.display import KSelectionDisplay
from skdevae.display._search_scores import one_standard_error

plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


class Clusters(TransformerMixin, BaseEstimator):
    """A model whose score is easy to foresee: a parabola in K with its top at ``alpha``, plus the mean of X."""

    def __init__(self, n_clusters=1, alpha=3.0, fails=False):
        self.n_clusters = n_clusters
        self.alpha = alpha
        self.fails = fails

    def fit(self, X, y=None):
        if self.fails:
            raise ValueError("no")
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return X[:, :1]

    def score(self, X, y=None):
        return -((len(np.atleast_1d(self.n_clusters)) if isinstance(self.n_clusters, tuple) else self.n_clusters)
                 - self.alpha) ** 2 + X.mean()  # fmt: skip


X = np.random.default_rng(0).normal(size=(60, 3))


def searched(grid, estimator=None, **options):
    return GridSearchCV(Clusters() if estimator is None else estimator, grid, **{"cv": 4, **options}).fit(X)


def drawn_means(display, scorer="score", line=""):
    return display.lines_[scorer, line].get_ydata(orig=False)


# ---- what is drawn ---------------------------------------------------------------------------------------------------


def test_means_and_standard_errors_are_those_of_the_splits():
    search = searched({"n_clusters": [4, 2, 1, 3]})
    display = KSelectionDisplay.from_cv_results(search)
    order = np.argsort([4, 2, 1, 3])
    splits = np.column_stack([search.cv_results_[f"split{i}_test_score"] for i in range(4)])[order]
    np.testing.assert_allclose(drawn_means(display), search.cv_results_["mean_test_score"][order])
    np.testing.assert_allclose(display.scores["standard_error"], scipy.stats.sem(splits, axis=1))
    assert list(display.scores["value"]) == [1, 2, 3, 4]
    assert display.axes_[0].get_xlabel() == "n_clusters"
    assert [tick.get_text() for tick in display.axes_[0].get_xticklabels()] == ["1", "2", "3", "4"]


def test_a_second_parameter_has_lines_and_steps_of_pipelines_are_looked_into():
    grid = {"clusters__n_clusters": [1, 2, 3], "clusters__alpha": [1.0, 2.5]}
    pipeline = make_pipeline(StandardScaler(), Clusters())
    pipeline.steps[-1] = ("clusters", pipeline.steps[-1][1])
    search = searched(grid, pipeline)
    display = KSelectionDisplay.from_cv_results(search)
    assert set(display.lines_) == {("score", 1.0), ("score", 2.5)}
    table = pd.DataFrame(search.cv_results_).set_index(["param_clusters__alpha", "param_clusters__n_clusters"])
    for alpha in (1.0, 2.5):
        np.testing.assert_allclose(drawn_means(display, line=alpha), table["mean_test_score"][alpha].sort_index())
    assert [entry.get_text() for entry in display.legend_.get_texts()][:2] == ["alpha 1", "alpha 2.5"]
    turned = KSelectionDisplay.from_cv_results(search, parameter="alpha")
    assert {line for _, line in turned.lines_} == {1, 2, 3}
    assert turned.axes_[0].get_xlabel() == "alpha"


def test_one_panel_for_each_scorer():
    scoring = {"plain": lambda model, X, y=None: model.score(X), "half": lambda model, X, y=None: model.score(X) / 2}
    search = searched({"n_clusters": [1, 2, 5]}, scoring=scoring, refit=False)
    display = KSelectionDisplay.from_cv_results(search)
    assert [axes.get_ylabel() for axes in display.axes_] == ["plain, held out", "half, held out"]
    np.testing.assert_allclose(drawn_means(display, "half"), drawn_means(display, "plain") / 2)
    one = KSelectionDisplay.from_cv_results(search, scorer="half")
    assert len(one.axes_) == 1
    np.testing.assert_allclose(drawn_means(one, "half"), drawn_means(display, "half"))
    with pytest.raises(ValueError, match="'other', but the search has 'plain', 'half'"):
        KSelectionDisplay.from_cv_results(search, scorer="other")


def test_results_alone_are_enough():
    search = searched({"n_clusters": [1, 2, 5]})
    expected = KSelectionDisplay.from_cv_results(search).scores
    pd.testing.assert_frame_equal(KSelectionDisplay.from_cv_results(search.cv_results_).scores, expected)
    pd.testing.assert_frame_equal(KSelectionDisplay.from_cv_results(pd.DataFrame(search.cv_results_)).scores, expected)


def test_further_parameters_are_fixed():
    grid = {"n_clusters": [1, 2], "alpha": [1.0, 2.0], "fails": [False, 0.0, ""]}
    search = searched(grid)
    with pytest.raises(ValueError, match=r"3 parameters .*such as fixed=\{'alpha': 1.0\}"):
        KSelectionDisplay.from_cv_results(searched({**grid, "fails": [False, ""]}), parameter="n_clusters")
    display = KSelectionDisplay.from_cv_results(search, fixed={"fails": ""})
    assert len(display.scores) == 4
    with pytest.raises(ValueError, match=r"alpha=7, but the search tried 1\.0, 2\.0"):
        KSelectionDisplay.from_cv_results(search, fixed={"alpha": 7})


def test_a_random_search_that_tries_a_candidate_twice():
    grids = [{"n_clusters": [2]}, {"n_clusters": [2, 3]}]
    search = RandomizedSearchCV(Clusters(), grids, n_iter=3, random_state=0, cv=3)
    display = KSelectionDisplay.from_cv_results(search.fit(X))
    assert list(display.scores["value"]) == [2, 3]


def test_lists_are_ordered_by_their_length_and_words_as_they_come():
    lists = [("a", "b"), ("a",), ("a", "b", "c")]
    display = KSelectionDisplay.from_cv_results(searched({"n_clusters": lists}))
    assert list(display.scores["value"]) == [("a",), ("a", "b"), ("a", "b", "c")]
    assert [tick.get_text() for tick in display.axes_[0].get_xticklabels()] == ["a", "a\nb", "a\nb\nc"]
    words = KSelectionDisplay.from_scores(["poisson", "nb"], [[1, 2], [3, 4]])
    assert list(words.scores["value"]) == ["poisson", "nb"]


def test_numbers_that_double_are_on_a_logarithmic_scale():
    def scale(values):
        return KSelectionDisplay.from_scores(values, np.arange(2.0 * len(values)).reshape(-1, 2)).axes_[0].get_xscale()

    assert scale([2, 4, 8, 16]) == scale([0.1, 1.0, 10.0]) == "log"
    assert scale([1, 2, 3, 4]) == scale([0, 1, 10]) == scale([5]) == "linear"


def test_bars_of_several_lines_stand_side_by_side():
    values, lines = zip(*[(k, a) for k in (1, 2, 3) for a in "xyz"], strict=True)
    display = KSelectionDisplay.from_scores(values, np.random.default_rng(0).normal(size=(9, 3)), lines=lines)
    places = np.sort(np.concatenate([line.get_xdata() for line in display.lines_.values()]))
    assert np.diff(places).min() > 0.1
    assert np.abs(places - np.repeat([1, 2, 3], 3)).max() < 0.2


# ---- the rule --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("paired", [False, True])
def test_the_rule_by_brute_force(paired):
    random = np.random.default_rng(3)
    for _ in range(50):
        scores = random.normal(size=(7, 4)) + random.normal(size=4)
        ranks = random.integers(0, 5, size=7)
        best, chosen, error = one_standard_error(scores, ranks, paired=paired)
        means = [scipy.stats.tmean(row) for row in scores]
        assert means[best] == max(means)
        assert error == pytest.approx(scipy.stats.sem(scores[best]))

        def is_near(row, best=best, scores=scores, means=means):
            spread = scipy.stats.sem(scores[best] - scores[row]) if paired else scipy.stats.sem(scores[best])
            return means[row] >= means[best] - spread

        near = [row for row in range(7) if is_near(row)]
        assert chosen in near
        assert ranks[chosen] == min(ranks[near])
        assert means[chosen] == max(means[row] for row in near if ranks[row] == ranks[chosen])


def test_splits_that_are_hard_for_all_candidates_do_not_hide_differences():
    scores = np.array([[0.0, 100, 200], [1.0, 101.1, 200.9]])
    assert one_standard_error(scores, np.arange(2))[1] == 0
    assert one_standard_error(scores, np.arange(2), paired=True)[1] == 1


def test_marks_and_level_are_those_of_the_rule():
    scores = np.array([[0.0, 0.2, 0.1], [0.9, 1.1, 1.0], [0.9, 1.2, 1.05], [0.3, 0.2, 0.1]])
    display = KSelectionDisplay.from_scores([1, 2, 3, 4], scores)
    assert (display.best_["score"].get_xdata()[0], display.chosen_["score"].get_xdata()[0]) == (3, 2)
    assert list(display.scores["is_best"]) == [False, False, True, False]
    assert list(display.scores["is_chosen"]) == [False, True, False, False]
    level = display.axes_[0].lines[-1].get_ydata(orig=False)[0]
    assert level == pytest.approx(scores[2].mean() - scipy.stats.sem(scores[2]))
    other_end = KSelectionDisplay.from_scores([1, 2, 3, 4], scores, simplest="last")
    assert other_end.chosen_["score"].get_xdata()[0] == 3


# ---- what cannot be drawn --------------------------------------------------------------------------------------------


def test_failed_fits_are_named():
    grid = [{"n_clusters": [2]}, {"n_clusters": [3], "fails": [True]}]
    with warnings.catch_warnings(action="ignore"):  # scikit-learn tells of the fits that failed
        search = searched(grid, error_score=np.nan)
    with pytest.raises(ValueError, match=r"1 of 2 candidates .*'n_clusters': 3.* on split 0, 1, 2, 3.*error_score"):
        KSelectionDisplay.from_cv_results(search, parameter="n_clusters")


@pytest.mark.parametrize(
    "search, message",
    [
        (lambda: searched({"n_clusters": [1, 2]}, cv=ShuffleSplit(1, random_state=0)), "single split.*cv="),
        (lambda: {"params": [{"n_clusters": 1}], "mean_test_score": [1.0]}, "scores of single splits"),
        (lambda: searched({"n_clusters": [1]}), "varied no parameter"),
        (lambda: Clusters(), "Clusters has no cv_results_"),
        (lambda: HalvingGridSearchCV(Clusters(), {"n_clusters": [1, 2]}, cv=2, min_resources=20).fit(X), "halving"),
    ],
)
def test_searches_that_cannot_be_drawn(search, message):
    with pytest.raises(ValueError, match=message):
        KSelectionDisplay.from_cv_results(search())


def test_parameters_that_are_not_there():
    search = searched({"n_clusters": [1, 2], "alpha": [1.0]})
    with pytest.raises(ValueError, match="'gamma': they are"):
        KSelectionDisplay.from_cv_results(search, parameter="gamma")
    with pytest.raises(ValueError, match="did not vary alpha, but 'n_clusters'"):
        KSelectionDisplay.from_cv_results(search, parameter="alpha")
    names = list(ParameterGrid({"n_clusters": [1, 2], "alpha": np.arange(9.0).tolist()}))
    with pytest.raises(ValueError, match="alpha has 9 different values"):
        KSelectionDisplay.from_scores(
            [p["n_clusters"] for p in names], np.ones((18, 2)), lines=[p["alpha"] for p in names], line_name="alpha"
        )


@pytest.mark.parametrize(
    "values, scores, options, message",
    [
        ([1, 2], np.ones((3, 2)), {}, r"shape \(3, 2\), but there are 2 candidates"),
        ([1, 2], np.ones((2, 1)), {}, "at least two splits"),
        ([1, 2], [[1, 2], [np.nan, 1]], {}, "NaN, first in row 1"),
        ([1, 2], np.ones((2, 2)), {"lines": [1]}, "2 values and 1 lines"),
        ([1, 2], np.ones((2, 2)), {"simplest": "middle"}, "simplest must be"),
        ([1, 2], np.ones((2, 2)), {"ax": "here"}, "ax is not 1 matplotlib Axes"),
    ],
)
def test_scores_that_do_not_fit(values, scores, options, message):
    with pytest.raises(ValueError, match=message):
        KSelectionDisplay.from_scores(values, scores, **options)


def test_axes_that_are_given_are_used():
    figure, axes = plt.subplots(1, 2)
    display = KSelectionDisplay.from_scores([1, 2], {"a": np.eye(2), "b": np.eye(2)}, ax=axes)
    assert display.figure_ is figure
    assert list(display.ax_) == list(axes)
