"""DGDEmbedder inside scikit-learn: searches, pipelines, frames, dtypes, and parameters that are refused."""

import numpy as np
import pandas as pd
import pytest
from embedding.dgd_cases import blobs, quick
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import is_clusterer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdevae import DGDEmbedder


def test_it_is_a_clusterer():
    assert is_clusterer(DGDEmbedder())


@pytest.mark.slow
def test_the_number_of_clusters_can_be_searched_for():
    table, truth = blobs()
    order = np.random.default_rng(0).permutation(120)
    model = quick(may_be_empty=False, max_epochs=10)
    grid = {"n_clusters": [2, 3, 6]}
    search = GridSearchCV(model, grid, scoring="adjusted_rand_score", cv=2, error_score="raise")
    search.fit(table[order], truth[order])
    assert search.best_params_ == {"n_clusters": 3}
    assert search.best_score_ > 0.95
    model = quick(max_epochs=30)
    by_likelihood = GridSearchCV(model, {"n_components": [1, 2]}, cv=2, error_score="raise").fit(table[order])
    assert by_likelihood.best_params_ == {"n_components": 2}


def test_names_of_latents_and_frames():
    frame = pd.DataFrame(blobs()[0], index=[f"row {i}" for i in range(120)]).add_prefix("feature ")
    pipeline = make_pipeline(StandardScaler(), quick(3, max_epochs=2)).set_output(transform="pandas")
    latent = pipeline.fit_transform(frame)
    assert latent.columns.tolist() == ["dgdembedder0", "dgdembedder1", "dgdembedder2"]
    assert pipeline[-1].get_feature_names_out().tolist() == latent.columns.tolist()
    assert latent.index.equals(frame.index)
    assert_allclose(pipeline.transform(frame), latent, rtol=0, atol=1e-8)
    assert_array_equal(pipeline.predict(frame), pipeline[-1].labels_)
    assert pipeline[-1].feature_names_in_.tolist() == frame.columns.tolist()


def test_the_tables_type_is_kept():
    table = blobs()[0].astype(np.float32)
    model = quick(max_epochs=2).fit(table)
    assert model.embedding_.dtype == model.transform(table).dtype == np.float32
    wide = quick(max_epochs=2).fit(table.astype(np.float64))
    assert wide.embedding_.dtype == np.float64
    assert_array_equal(wide.embedding_.astype(np.float32), model.embedding_)


@pytest.mark.parametrize(
    "parameters",
    [
        {"n_components": 0},
        {"n_clusters": 0},
        {"n_clusters": 2.5},
        {"representation": "laplace"},
        {"supervised": "yes"},
        {"likelihood": "normal"},
        {"latent_init": "random"},
        {"mixture_init": "random"},
        {"covariance_type": "full"},
        {"may_be_empty": None},
        {"dirichlet_alpha": 0},
        {"softball_scale": -1},
        {"softball_sharpness": 0},
        {"prior_weight": "all"},
        {"prior_weight": -1.0},
        {"refit_mixture": 1.5},
        {"hidden_layer_sizes": (0,)},
        {"hidden_layer_sizes": (3.5,)},
        {"weight_decay": -1.0},
        {"learning_rate": 0},
        {"latent_learning_rate": 0},
        {"mixture_learning_rate": -1},
        {"betas": 0.5},
        {"betas": (0.5,)},
        {"betas": (0.5, 1.0)},
        {"betas": (-0.1, 0.9)},
        {"betas": ("a", "b")},
        {"latent_tol": 0},
        {"n_importance_samples": 0},
        {"size_factors": "mean"},
        {"size_factors": np.ones(120)},
    ],
    ids=str,
)
def test_parameters_are_validated(parameters):
    (name,) = parameters
    with pytest.raises(ValueError, match=name):
        quick(**parameters).fit(blobs()[0])
