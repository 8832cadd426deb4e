"""BasisDeVAEClusterer inside scikit-learn: pipelines, searches, data frames, dtypes, parameters."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from agreement import assert_agree
from by_hand import with_holes
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from trajectory.basisdevae.cases import INFERENCES, counts, fitted, progression, quick

from skdevae import BasisDeVAEClusterer


def test_fit_transform_is_fit_and_transform():
    table = progression().data
    assert_array_equal(quick().fit_transform(table), fitted().transform(table))


def test_a_grid_search_finds_the_behaviours_that_are_there():
    table = progression().data
    search = GridSearchCV(quick(), {"n_clusters": [1, 3]}, cv=2, error_score="raise").fit(table)
    assert search.best_params_["n_clusters"] == 3
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.score(table) == search.best_estimator_.score(table)


def test_orientation_passes_through_pipelines_and_searches():
    truth = progression()
    pipeline = make_pipeline(StandardScaler(), quick())
    pipeline.fit(truth.data, basisdevaeclusterer__orientation=-truth.times)
    assert np.corrcoef(pipeline.transform(truth.data)[:, 0], truth.times)[0, 1] < -0.5
    search = GridSearchCV(quick(), {"alpha": [0.1, 1.0]}, cv=2, error_score="raise")
    search.fit(truth.data, orientation=-truth.times)
    assert np.corrcoef(search.transform(truth.data)[:, 0], truth.times)[0, 1] < -0.5


def test_scaling_before_changes_nothing_but_the_units():
    table = progression().data * 7 + 3
    pipeline = make_pipeline(StandardScaler(), quick()).fit(table)
    alone = quick().fit(table)
    assert_array_equal(pipeline[-1].labels_, alone.labels_)
    assert_array_equal(pipeline[-1].predict_features(pipeline[:-1].transform(table)), alone.predict_features(table))
    assert_allclose(pipeline.transform(table), alone.transform(table), atol=1e-4)
    assert_allclose(pipeline.score(table), alone.score(table) + np.log(pipeline[0].scale_).sum(), atol=1e-3)
    assert pipeline.get_feature_names_out().tolist() == ["basisdevaeclusterer0"]


def test_names_of_columns_survive():
    table = progression().data
    names = progression().feature_names
    frames = {"pandas": pd.DataFrame(table, columns=names), "polars": pl.DataFrame(table, schema=names)}
    for library, frame in frames.items():
        model = quick().set_output(transform=library).fit(frame)
        assert model.feature_names_in_.tolist() == names
        latent = model.transform(frame)
        assert isinstance(latent, type(frame))
        assert list(latent.columns) == ["basisdevaeclusterer0"]
        assert_agree(latent.to_numpy(), fitted().transform(table), computed_in=np.float32)
        assert_array_equal(model.labels_, fitted().labels_)


def test_names_of_columns_must_be_those_of_fit():
    frame = pd.DataFrame(progression().data, columns=progression().feature_names)
    model = quick(max_epochs=3).fit(frame)
    with pytest.raises(ValueError, match="feature names should match"):
        model.transform(frame.iloc[:, ::-1])


def test_the_index_of_a_data_frame_survives():
    frame = pd.DataFrame(progression().data, index=[f"patient {i}" for i in range(100)]).add_prefix("feature ")
    latent = quick(max_epochs=3).set_output(transform="pandas").fit_transform(frame)
    assert latent.index.equals(frame.index)


def test_numbers_of_any_kind_are_numbers():
    holes = with_holes(progression().data)
    nullable = pd.DataFrame(holes).astype("Float64").convert_dtypes()
    assert nullable.isna().to_numpy().any()
    nullable.columns = nullable.columns.astype(str)
    expected = quick(max_epochs=3).fit_transform(holes)
    assert_agree(quick(max_epochs=3).fit_transform(nullable), expected, computed_in=np.float32)
    binary = counts("bernoulli")
    expected = fitted("bernoulli").transform(binary)
    for kind in (bool, np.int8, np.float32):
        assert_allclose(fitted("bernoulli").transform(binary.astype(kind)), expected, atol=1e-6)
        assert_allclose(fitted("bernoulli").transform(sp.csr_array(binary.astype(kind))), expected, atol=1e-6)
    assert_agree(fitted("bernoulli").transform(binary.tolist()), expected)


@pytest.mark.parametrize("inference", INFERENCES)
def test_float32_in_float32_out(inference):
    table = progression().data.astype(np.float32)
    model = quick(inference=inference).fit(table)
    posterior = model.posterior(table)
    assert model.transform(table).dtype == posterior.mean.dtype == posterior.upper.dtype == np.float32
    assert model.inverse_transform(model.transform(table)).dtype == np.float32
    assert model.transform(table.astype(np.float64)).dtype == np.float64
    assert_array_equal(model.labels_, fitted(inference=inference).labels_)
    assert_allclose(model.score(table), fitted(inference=inference).score(table), atol=0.01)


@pytest.mark.parametrize(
    "parameters",
    [
        {"likelihood": "normal"},
        {"inference": "mcmc"},
        {"assignment": "soft"},
        {"integrator": "euler"},
        {"alpha": 0},
        {"alpha": -1.0},
        {"max_epochs": 0},
        {"learning_rate": 0.0},
        {"validation_fraction": 1.0},
        {"n_init": 0},
        {"activation": "sigmoid"},
        {"n_knots": 2},
        {"callbacks": "progress"},
    ],
    ids=str,
)
def test_parameters_are_validated(parameters):
    (name,) = parameters
    with pytest.raises(ValueError, match=name):
        quick(**parameters).fit(progression().data)


def test_arguments_are_validated():
    with pytest.raises(ValueError, match="credible_level"):
        fitted().posterior(progression().data, credible_level=1)
    with pytest.raises(ValueError, match="n_samples"):
        fitted().sample(0)


@pytest.mark.parametrize("sizes", [(-3,), (0,), (8, 2.5), ("a",)])
def test_hidden_layers_have_positive_widths(sizes):
    with pytest.raises(ValueError, match="hidden_layer_sizes"):
        BasisDeVAEClusterer(hidden_layer_sizes=sizes).fit(progression().data)


@pytest.mark.parametrize(
    ("method", "argument"),
    [
        *((name, progression().data) for name in ("transform", "posterior")),
        *((name, progression().data) for name in ("predict_features", "predict_features_proba")),
        *((name, progression().data) for name in ("score", "score_samples", "elbo", "conditional_log_likelihood")),
        ("trajectories", [0.0]),
        ("inverse_transform", [[0.0]]),
        ("sample", 3),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_nothing_works_before_fit(method, argument):
    with pytest.raises(NotFittedError):
        getattr(quick(), method)(argument)
