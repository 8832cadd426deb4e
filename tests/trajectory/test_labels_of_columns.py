"""Labels of columns: under names that say so, and the older names until they end."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags

from skdevae import BasisDeVAEClusterer, BasisVAEClusterer
from skdevae.datasets import make_progression

X = make_progression(60, n_transient=0, n_increasing=3, n_decreasing=3, random_state=0).data
ESTIMATORS = {
    "BasisDeVAE": BasisDeVAEClusterer(n_clusters=2, max_epochs=3, n_knots=5, n_grid_points=9, random_state=0),
    "BasisVAE": BasisVAEClusterer(2, max_epochs=3, n_grid_points=9, random_state=0),
}

pytestmark = pytest.mark.parametrize("name", ESTIMATORS)


def fitted(name):
    return ESTIMATORS[name].fit(X)


def test_labels_are_the_most_probable_clusters_of_columns(name):
    model = fitted(name)
    probabilities = model.predict_features_proba(X[:40])
    assert probabilities.shape == model.responsibilities_.shape
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert_array_equal(model.predict_features(X[:40]), probabilities.argmax(1))


def test_older_names_give_the_same_and_say_what_to_write(name):
    model = fitted(name)
    newer = {"predict": "predict_features", "predict_proba": "predict_features_proba"}
    for older, now in newer.items():
        message = rf"{older} of .* labels the columns.*Write {now}\(X\).*ends in"
        with pytest.warns(FutureWarning, match=message) as caught:
            answer = getattr(model, older)(X)
        assert caught[0].filename == __file__
        assert_array_equal(answer, getattr(model, now)(X))
    with pytest.warns(FutureWarning, match=r"Write fit\(X\)\.labels_"):
        labels = ESTIMATORS[name].fit_predict(X)
    assert_array_equal(labels, model.labels_)


@pytest.mark.slow(keep=4)
@pytest.mark.parametrize("method", ["predict", "predict_proba"])
@pytest.mark.parametrize("wrapped", [lambda model: model, lambda model: make_pipeline(StandardScaler(), model)])
def test_cross_val_predict_is_told_that_these_are_columns(name, method, wrapped):
    """It joined labels of columns as if they were those of rows: an IndexError, or nonsense where columns are many."""
    newer = {"predict": "predict_features", "predict_proba": "predict_features_proba"}[method]
    with pytest.raises(ValueError, match=rf"{method} of .* labels the columns of X.*{newer}.*scorer"):
        cross_val_predict(wrapped(ESTIMATORS[name]), X, cv=2, method=method)


def test_cross_val_predict_does_not_mind_what_an_estimator_of_a_users_own_does_inside(name):
    class ByFirstCluster(BaseEstimator):
        def fit(self, X, y=None):
            model = clone(ESTIMATORS[name]).fit(X)
            with pytest.warns(FutureWarning, match="labels the columns"):
                self.chosen_ = model.predict(X) == model.labels_[0]
            return self

        def predict(self, X):
            return X[:, self.chosen_].mean(1)

    assert cross_val_predict(ByFirstCluster(), X, cv=2).shape == (60,)


def test_scikit_learn_does_not_take_them_for_clusterers_of_samples(name):
    assert get_tags(ESTIMATORS[name]).estimator_type is None
