"""Scorers take facts of rows, and ask for them where scikit-learn passes them on."""

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.feature_selection import VarianceThreshold
from sklearn.metrics import adjusted_rand_score, silhouette_score
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.pipeline import make_pipeline

from skdevae import BasisDeVAEClusterer, VAETransformer
from skdevae.metrics import (
    RequestingScorer,
    active_units,
    active_units_scorer,
    feature_clustering_scorer,
    latent_correlation_scorer,
    latent_divergence,
    mean_absolute_correlation,
    n_principal_components,
    neg_n_principal_components_scorer,
    neg_reconstruction_loss_scorer,
    requesting_scorer,
    silhouette_scorer,
)

SIZES = np.exp(np.random.default_rng(0).normal(0, 0.7, 40))
Y = np.arange(40) % 2
X = np.random.default_rng(1).poisson(SIZES[:, None] * (4 + 8 * Y[:, None] * (np.arange(6) < 3))).astype(float)
SPLIT = KFold(2)
OF_EMBEDDINGS = {
    "active": (active_units_scorer, lambda Z, y: active_units(Z)),
    "components": (neg_n_principal_components_scorer, lambda Z, y: -n_principal_components(Z)),
    "correlation": (latent_correlation_scorer, lambda Z, y: mean_absolute_correlation(Z)),
    "silhouette": (silhouette_scorer, silhouette_score),
}


def vae():
    return VAETransformer(2, likelihood="nb", hidden_layer_sizes=(4,), max_epochs=3, random_state=0)


@pytest.fixture(scope="module")
def fitted():
    return vae().fit(X, size_factors=SIZES)


@pytest.fixture
def routed():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def test_facts_reach_the_estimator(fitted):
    Z = fitted.transform(X, size_factors=SIZES)
    for scorer, measure in OF_EMBEDDINGS.values():
        assert_allclose(scorer(fitted, X, Y, size_factors=SIZES), measure(Z, Y))
        with pytest.raises(ValueError, match="pass those of the rows of this X, too"):
            scorer(fitted, X, Y)
    expected = fitted.conditional_log_likelihood(X, size_factors=SIZES)
    assert_allclose(neg_reconstruction_loss_scorer(fitted, X, size_factors=SIZES), expected)
    posterior = fitted.posterior(X, size_factors=SIZES)
    by_hand = (0.5 * (posterior.mean**2 + posterior.sd**2 - 1) - np.log(posterior.sd)).mean(0)
    assert_allclose(latent_divergence(fitted, X, size_factors=SIZES), by_hand, rtol=1e-8)


@pytest.mark.parametrize("scored", ["alone", "in a pipeline"])
def test_cross_validation_slices_what_scorers_ask_for(scored, routed):
    estimator = vae().set_fit_request(size_factors=True).set_transform_request(size_factors=True)
    if scored == "in a pipeline":
        estimator = make_pipeline(VarianceThreshold(), estimator)
    scoring = {name: requesting_scorer(scorer, "size_factors") for name, (scorer, _) in OF_EMBEDDINGS.items()}
    found = cross_validate(
        estimator, X, Y, scoring=scoring, params={"size_factors": SIZES}, cv=SPLIT, error_score="raise"
    )
    for fold, (train, test) in enumerate(SPLIT.split(X)):
        model = clone(estimator).fit(X[train], size_factors=SIZES[train])
        Z = model.transform(X[test], size_factors=SIZES[test])
        for name, (_, measure) in OF_EMBEDDINGS.items():
            assert_allclose(found[f"test_{name}"][fold], measure(Z, Y[test]), rtol=1e-8)


def test_searches_choose_by_what_scorers_ask_for(routed):
    truth = [0, 0, 0, 1, 1, 1]
    scorer = requesting_scorer(feature_clustering_scorer(truth), "size_factors")
    estimator = BasisDeVAEClusterer(likelihood="poisson", max_epochs=2, n_knots=5, n_grid_points=9, random_state=0)
    estimator = estimator.set_fit_request(size_factors=True).set_score_request(size_factors=True)
    search = GridSearchCV(estimator, {"max_epochs": [2]}, scoring=scorer, cv=SPLIT, error_score="raise")
    search.fit(X, size_factors=SIZES)
    for fold, (train, test) in enumerate(SPLIT.split(X)):
        model = clone(estimator).fit(X[train], size_factors=SIZES[train])
        expected = feature_clustering_scorer(truth)(model, X[test], size_factors=SIZES[test])
        assert_allclose(search.cv_results_[f"split{fold}_test_score"], expected)


def test_a_requesting_scorer_is_the_scorer_inside(fitted):
    scorer = requesting_scorer(silhouette_scorer, "size_factors")
    assert repr(scorer) == "RequestingScorer(silhouette_scorer, 'size_factors')"
    loaded = pickle.loads(pickle.dumps(scorer))
    assert isinstance(loaded, RequestingScorer)
    assert loaded(fitted, X, Y, size_factors=SIZES) == silhouette_scorer(fitted, X, Y, size_factors=SIZES)


@pytest.mark.filterwarnings("ignore:No axis was found")
def test_columns_that_condition_have_no_cluster():
    truth = {"a": 0, "b": 0, "d": 1, "e": 1, "f": 1}
    frame = pd.DataFrame(X, columns=list("abcdef")).assign(c=np.resize(["x", "y"], 40))
    estimator = BasisDeVAEClusterer(likelihood="poisson", covariates=["c"], max_epochs=2, random_state=0).fit(frame)
    expected = adjusted_rand_score(list(truth.values()), estimator.predict_features(frame))
    assert_allclose(feature_clustering_scorer(truth)(estimator, frame), expected)
    in_order = [0, 0, None, 1, 1, 1]  # a label for each column of X
    assert_allclose(feature_clustering_scorer(in_order)(estimator, frame), expected)
