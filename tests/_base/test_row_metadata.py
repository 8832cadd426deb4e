"""Facts of rows are arguments of the methods that take rows, so scikit-learn's metadata routing slices them."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.feature_selection import VarianceThreshold
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.pipeline import make_pipeline

from skdevae import BasisDeVAEClusterer, BasisVAEClusterer, DeVAETransformer, DGDEmbedder, VAETransformer, VampVAE

_QUICK = {"likelihood": "nb", "hidden_layer_sizes": (4,), "max_epochs": 2, "random_state": 0}
_ENCODER = {**_QUICK, "encoder_hidden_layer_sizes": (4,)}
_AXIS = {**_QUICK, "n_knots": 5, "n_grid_points": 9}
ESTIMATORS = {
    "BasisDeVAE": BasisDeVAEClusterer(**_AXIS, leveling_off="turn"),
    "BasisVAE": BasisVAEClusterer(2, **_AXIS),
    "DeVAE": DeVAETransformer(**_AXIS),
    "DeVAE, amortised": DeVAETransformer(**_ENCODER, inference="amortized", n_knots=5, n_importance_samples=8),
    "VAE": VAETransformer(1, **_ENCODER, n_importance_samples=8),
    "VampVAE": VampVAE(2, **_ENCODER, n_clusters=2, n_pseudo_inputs=4, n_importance_samples=8),
    "DGD": DGDEmbedder(2, **_QUICK, n_clusters=2, n_init=1, n_importance_samples=8),
}
#: estimators that cluster samples
CLUSTERERS_OF_SAMPLES = ("VampVAE", "DGD")
SPLIT = KFold(2)

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore:.* lie beyond the range"),
    pytest.mark.parametrize("name", ESTIMATORS),
]


@pytest.fixture
def routed():
    """scikit-learn passes facts of rows on."""
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@cache
def table():
    """Counts, how deeply each row was read, and a variable that a regression may predict."""
    generator = np.random.default_rng(0)
    z, sizes = generator.standard_normal(30), np.exp(generator.normal(0, 0.7, 30))
    means = sizes[:, None] * np.exp(2 + np.outer(z, generator.normal(size=5)))
    return generator.poisson(means).astype(float), sizes, z


def requesting(name, *methods, estimator=None):
    """An estimator that asks for size factors in some methods."""
    estimator = clone(ESTIMATORS[name] if estimator is None else estimator)
    for method in methods:
        getattr(estimator, f"set_{method}_request")(size_factors=True)
    return estimator


@cache
def fitted(name):
    """Shared between tests, which must not change it."""
    X, sizes, _ = table()
    return clone(ESTIMATORS[name]).fit(X, size_factors=sizes)


def training_latents(name):
    """What ``fit_transform`` gives: of a DGD its embedding, which equal rows share."""
    X, sizes, _ = table()
    return fitted(name).embedding_ if name == "DGD" else fitted(name).transform(X, size_factors=sizes)


def facts_of(rows):
    """All facts of some rows of the table."""
    sizes, covariates = table()[1], pd.DataFrame({"batch": np.resize(["a", "b"], 30)}).iloc[rows]
    return {"size_factors": sizes[rows], "covariates": covariates, "sample_weight": np.resize([0.5, 1, 2], 30)[rows]}


def requesting_all(name):
    estimator = clone(ESTIMATORS[name])
    for method in ("fit", "score"):
        getattr(estimator, f"set_{method}_request")(**dict.fromkeys(facts_of(slice(None)), True))
    return estimator


@cache
def scores_by_hand(name):
    """Of the test rows of each fold."""
    X, scores = table()[0], []
    for train, test in SPLIT.split(X):
        facts = facts_of(test)
        weights = facts.pop("sample_weight")
        model = clone(ESTIMATORS[name]).fit(X[train], **facts_of(train))
        scores.append(np.average(model.score_samples(X[test], **facts), weights=weights))
    return scores


@pytest.mark.slow(keep=1)
def test_cross_validation_slices_them(name, routed):
    X, facts = table()[0], facts_of(slice(None))
    found = cross_validate(requesting_all(name), X, params=facts, cv=SPLIT, error_score="raise")
    assert_allclose(found["test_score"], scores_by_hand(name), rtol=1e-8)


@pytest.mark.slow(keep=1)
def test_searches_slice_them(name, routed):
    X, facts = table()[0], facts_of(slice(None))
    search = GridSearchCV(requesting_all(name), {"max_epochs": [2]}, cv=SPLIT, error_score="raise").fit(X, **facts)
    assert_allclose(search.cv_results_["mean_test_score"], np.mean(scores_by_hand(name)), rtol=1e-8)
    assert_allclose(search.score(X, **facts), search.best_estimator_.score(X, **facts), rtol=1e-8)


@pytest.mark.slow(keep=3)
def test_a_pipeline_passes_them_to_its_last_step(name, routed):
    X, sizes, _ = table()
    of_rows = ["transform", "score"] + (["predict"] if not hasattr(ESTIMATORS[name], "predict_features") else [])
    estimator = requesting(name, "fit", *of_rows)
    steps, expected = make_pipeline(VarianceThreshold(), estimator).fit(X, size_factors=sizes), fitted(name)
    for method in of_rows:
        ours, theirs = (getattr(model, method)(X, size_factors=sizes) for model in (expected, steps))
        assert_allclose(theirs, ours, rtol=1e-8, atol=1e-8)


def test_a_pipeline_passes_them_to_a_step_before_others(name, routed):
    X, sizes, y = table()
    steps = make_pipeline(requesting(name, "fit", "transform"), LinearRegression()).fit(X, y, size_factors=sizes)
    expected = LinearRegression().fit(training_latents(name), y).predict(fitted(name).transform(X, size_factors=sizes))
    assert_allclose(steps.predict(X, size_factors=sizes), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.slow(keep=3)
def test_fit_transform_is_fit_and_transform(name, routed):
    X, sizes, _ = table()
    assert_array_equal(clone(ESTIMATORS[name]).fit_transform(X, size_factors=sizes), training_latents(name))
    steps = make_pipeline(requesting(name, "fit", "transform"))
    assert_array_equal(steps.fit_transform(X, size_factors=sizes), training_latents(name))


def test_fit_predict_gives_labels(name, routed):
    if name not in CLUSTERERS_OF_SAMPLES:
        return
    X, sizes, _ = table()
    assert_array_equal(clone(ESTIMATORS[name]).fit_predict(X, size_factors=sizes), fitted(name).labels_)
    estimator = requesting(name, "fit", "predict")
    assert_array_equal(make_pipeline(estimator).fit_predict(X, size_factors=sizes), fitted(name).labels_)


def test_scikit_learn_says_where_nobody_has_asked_for_them(name, routed):
    X, sizes, _ = table()
    with pytest.raises(UnsetMetadataPassedError, match=r"size_factors.*set_fit_request"):
        cross_validate(clone(ESTIMATORS[name]), X, params={"size_factors": sizes}, cv=2, error_score="raise")


def test_without_routing_the_error_says_to_turn_it_on(name):
    """Without it, scikit-learn passes on to ``fit`` alone."""
    X, sizes, _ = table()
    with pytest.raises(ValueError, match=r"metadata routing.*sklearn\.set_config\(enable_metadata_routing=True\)"):
        cross_validate(clone(ESTIMATORS[name]), X, params={"size_factors": sizes}, cv=2, error_score="raise")


def test_a_fit_without_sizes_is_asked_without_them(name):
    X, sizes, _ = table()
    model = clone(ESTIMATORS[name]).fit(X)
    model.transform(X)
    with pytest.raises(ValueError, match=r"fitted (without any|with a rule).*[Ll]eave .*fit\(X, size_factors="):
        model.transform(X, size_factors=sizes)


def test_every_method_that_takes_rows_asks_for_the_sizes_of_a_fit_that_had_them(name):
    X, sizes, _ = table()
    methods = ("transform", "posterior", "score_samples", "score", "elbo", "conditional_log_likelihood")
    labelling = ("predict", "predict_proba")
    if hasattr(ESTIMATORS[name], "predict_features"):
        labelling = ("predict_features", "predict_features_proba")
    for method in (*methods, *labelling):
        answer = getattr(fitted(name), method, None)
        if answer is None:
            continue
        answer(X, size_factors=sizes)
        with pytest.raises(ValueError, match=r"fit\(X, size_factors=\.\.\.\): pass those of the rows of this X, too"):
            answer(X)
