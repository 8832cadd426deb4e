"""Scorers of an embedding find it inside pipelines and searches, and explain what they cannot score."""

import functools
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.cluster import DBSCAN
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import silhouette_score
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdevae import VAETransformer, metrics
from skdevae.metrics import (
    active_units,
    active_units_scorer,
    latent_correlation_scorer,
    latent_divergence,
    mean_absolute_correlation,
    n_principal_components,
    neg_n_principal_components_scorer,
    neg_reconstruction_loss_scorer,
    silhouette_scorer,
)

OF_ANY_TRANSFORMER = (
    active_units_scorer,
    neg_n_principal_components_scorer,
    latent_correlation_scorer,
    silhouette_scorer,
)
SCORERS = (*OF_ANY_TRANSFORMER, neg_reconstruction_loss_scorer)


def score_by_hand(scorer, model, X, y):
    Z = model.transform(X)
    if scorer is neg_reconstruction_loss_scorer:
        return model.conditional_log_likelihood(X)
    if scorer is silhouette_scorer:
        return silhouette_score(Z, y)
    return {
        active_units_scorer: active_units(Z),
        neg_n_principal_components_scorer: -n_principal_components(Z),
        latent_correlation_scorer: mean_absolute_correlation(Z),
    }[scorer]


@pytest.fixture(scope="module")
def search(table):
    """A search that has chosen the model of the fixture ``vae`` (it has no other choice), scored by all scorers."""
    X, _ = table
    scoring = {scorer.__name__: scorer for scorer in SCORERS}
    model = VAETransformer(2, random_state=0)
    search = GridSearchCV(model, {"max_epochs": [5]}, scoring=scoring, refit="silhouette_scorer", cv=KFold(2))
    with warnings.catch_warnings():  # so short a fit knows little of other samples
        warnings.filterwarnings("ignore", message=".* lie beyond the range")
        return search.fit(X, ["a", "b", "c"] * 30)


@pytest.mark.parametrize("scorer", SCORERS)
def test_scorers_look_into_pipelines_and_searches(scorer, table, vae, scaled_vae, search):
    X, y = table
    expected = score_by_hand(scorer, vae, X, y)
    assert isinstance(scorer(vae, X, y), float)
    assert scorer(vae, X, y) == expected
    assert scorer(FrozenEstimator(vae), X, y) == expected
    assert np.isfinite(search.cv_results_[f"mean_test_{scorer.__name__}"]).all()
    assert scorer(search, X, y) == pytest.approx(expected)
    scaler, inner = scaled_vae[0], scaled_vae[1]
    # what the earlier steps make of X, not X
    expected_scaled = score_by_hand(scorer, inner, scaler.transform(X), y)
    assert scorer(scaled_vae, X, y) == expected_scaled
    assert scorer(make_pipeline(FrozenEstimator(scaler), "passthrough", make_pipeline(inner)), X, y) == expected_scaled


def test_reconstruction_is_of_the_model_wherever_it_stands(table, scaled_vae):
    X, _ = table
    followed = make_pipeline(*(FrozenEstimator(step) for _, step in scaled_vae.steps), StandardScaler()).fit(X)
    assert neg_reconstruction_loss_scorer(followed, X) == neg_reconstruction_loss_scorer(scaled_vae, X)
    assert latent_correlation_scorer(followed, X) == mean_absolute_correlation(followed.transform(X))


def test_cross_validation_of_any_transformer(table):
    X, y = table
    model = make_pipeline(StandardScaler(), PCA(3))
    scoring = {scorer.__name__: scorer for scorer in OF_ANY_TRANSFORMER}
    cv = StratifiedKFold(3)
    result = cross_validate(model, X, y, scoring=scoring, cv=cv, error_score="raise")
    train, test = next(cv.split(X, y))
    Z = clone(model).fit(X[train]).transform(X[test])
    assert result["test_silhouette_scorer"][0] == pytest.approx(silhouette_score(Z, y[test]))
    assert result["test_active_units_scorer"][0] == active_units(Z) == 3
    assert result["test_neg_n_principal_components_scorer"][0] == -n_principal_components(Z)
    assert result["test_latent_correlation_scorer"][0] == pytest.approx(mean_absolute_correlation(Z))


def test_cross_validation_of_a_generative_model(table):
    X, y = table
    model = make_pipeline(StandardScaler(), VAETransformer(n_components=2, max_epochs=2, random_state=0))
    scoring = {scorer.__name__: scorer for scorer in SCORERS}
    result = cross_validate(model, X, y, scoring=scoring, cv=StratifiedKFold(2), error_score="raise")
    assert all(np.isfinite(result[f"test_{name}"]).all() for name in scoring)
    assert np.all(result["test_active_units_scorer"] == 2)


def test_a_search_chooses_by_them(table):
    X, y = table
    search = GridSearchCV(PCA(), {"n_components": [1, 2, 4]}, cv=StratifiedKFold(2), error_score="raise")
    chosen = {scorer: clone(search).set_params(scoring=scorer).fit(X, y) for scorer in OF_ANY_TRANSFORMER[:2]}
    assert chosen[active_units_scorer].best_params_ == {"n_components": 4}
    assert chosen[neg_n_principal_components_scorer].best_params_ == {"n_components": 1}
    assert pickle.loads(pickle.dumps(chosen[active_units_scorer])).score(X) == 4


@pytest.mark.parametrize("scorer", SCORERS)
def test_scorers_are_public_and_survive_pickling(scorer):
    assert pickle.loads(pickle.dumps(scorer)) is scorer
    assert getattr(metrics, scorer.__name__) is scorer
    assert scorer.__name__ in metrics.__all__


def test_options_of_scorers(table):
    X, _ = table
    all_active = functools.partial(active_units_scorer, threshold=0)
    pca = PCA().fit(1e-3 * X)
    assert active_units_scorer(pca, 1e-3 * X) == 0
    assert all_active(pca, 1e-3 * X) == 6
    np.testing.assert_array_equal(cross_val_score(PCA(), 1e-3 * X, scoring=all_active, cv=3, error_score="raise"), 6)
    assert neg_n_principal_components_scorer(pca, X, explained_variance=1) == -6


def test_embeddings_in_data_frames_and_labels_of_any_kind(table):
    X, y = table
    pca = PCA(2).set_output(transform="pandas").fit(X)
    expected = silhouette_score(pca.transform(X), y)
    for labels in (list(y), pd.Series(y, index=np.arange(90) + 7), pd.Series(y, dtype="category"), pd.factorize(y)[0]):
        assert silhouette_scorer(pca, X, labels) == pytest.approx(expected)


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "was given no y: it needs the class of each sample"),
        (["a"] * 90, "y with 1 class, but needs two or more.*StratifiedKFold"),
        (["a", "b", None] * 30, "without the label of 30 of 90 samples: leave"),
        ([0.0, 1.0, np.nan] * 30, "without the label of 30 of 90 samples: leave"),
        (np.zeros((90, 2)), r"y of shape \(90, 2\)"),
        (["a", "b"], "inconsistent numbers of samples"),
        (np.arange(90), "Number of labels is 90"),
    ],
)
def test_labels_without_a_silhouette(labels, message, table):
    X, _ = table
    with pytest.raises(ValueError, match=message):
        silhouette_scorer(PCA(2).fit(X), X, labels)


@pytest.mark.parametrize("scorer", OF_ANY_TRANSFORMER)
def test_no_embedding(scorer, table):
    X, y = table
    unfit = GridSearchCV(PCA(), {"n_components": [2]}, scoring=active_units_scorer, refit=False, cv=2).fit(X)
    for estimator in (DBSCAN().fit(X), unfit, make_pipeline(StandardScaler(), DBSCAN()).fit(X)):
        with pytest.raises(ValueError, match=f"{type(estimator).__name__} has no transform.*ends in one.*refit=True"):
            scorer(estimator, X, y)


@pytest.mark.parametrize(
    ("score", "method"),
    [(neg_reconstruction_loss_scorer, "conditional_log_likelihood"), (latent_divergence, "posterior")],
)
def test_no_generative_model(score, method, table):
    X, y = table
    models = (
        PCA(2).fit(X),
        PCA(2),
        make_pipeline(StandardScaler(), LinearDiscriminantAnalysis()).fit(X, y),
        GridSearchCV(VAETransformer(), {"max_epochs": [2]}, refit=False),
    )
    for model in models:
        message = f"no fitted estimator with {method} in {type(model).__name__}.*Pipeline.*refit=True.*VAETransformer"
        with pytest.raises(ValueError, match=message):
            score(model, X)
    with pytest.raises(NotFittedError):
        score(VAETransformer(), X)
