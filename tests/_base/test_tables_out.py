"""Curves, expected rows and posteriors are data frames where ``transform`` gives them, and hold the same numbers."""

import pickle
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdevae import BasisDeVAEClusterer, DeVAETransformer, DGDEmbedder, VAETransformer

pl = pytest.importorskip("polars")

Z = np.array([-1.0, 0.5, 2.0])
PAIRS = np.array([[-1.0, 0.5], [2.0, 0.0]])


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    random = np.random.default_rng(0)
    values = random.normal(size=(40, 1)) * [1.0, -1.0, 0.5, 2.0] + 0.5 * random.normal(size=(40, 4))
    return pd.DataFrame(values, columns=list("abcd"), index=[f"patient {i}" for i in range(40)])


def quick(estimator=BasisDeVAEClusterer, *args, **parameters):
    if estimator is BasisDeVAEClusterer and not args:
        args = (3,)  # without flat ones: so short a fit may find no axis
    return estimator(*args, max_epochs=3, random_state=0, **parameters)


@pytest.fixture(scope="module")
def arrays(table):
    return quick().fit(table)


@pytest.fixture(scope="module")
def frames(table):
    return quick().set_output(transform="pandas").fit(table)


@pytest.mark.parametrize("method", ["trajectories", "derivatives"])
def test_curves_have_the_features_as_columns_and_positions_as_index(method, arrays, frames, table):
    found = getattr(frames, method)(z=Z)
    assert list(found.columns) == list(table.columns)
    assert found.index.name == "z"
    np.testing.assert_array_equal(found.index, Z)
    np.testing.assert_array_equal(found, getattr(arrays, method)(Z))


def test_expected_rows_have_the_index_of_the_latents(arrays, frames, table):
    expected = frames.inverse_transform(frames.transform(table))
    assert list(expected.columns) == list(table.columns)
    assert expected.index.equals(table.index)
    np.testing.assert_array_equal(expected, arrays.inverse_transform(arrays.transform(table)))


def test_posteriors_have_the_index_of_the_table(arrays, frames, table):
    found, expected = frames.posterior(table), arrays.posterior(table)
    for name in ("mean", "sd", "lower", "upper"):
        frame = getattr(found, name)
        assert frame.index.equals(table.index)
        assert list(frame.columns) == list(frames.get_feature_names_out())
        np.testing.assert_array_equal(frame, getattr(expected, name))
    pd.testing.assert_frame_equal(pd.DataFrame(found), pd.DataFrame(expected))


def test_an_estimator_without_set_output_gives_arrays(arrays, table):
    for answer in (arrays.trajectories(Z), arrays.inverse_transform(Z[:, None]), arrays.posterior(table).mean):
        assert type(answer) is np.ndarray


def test_the_setting_of_the_process_is_followed_too(arrays, table):
    with config_context(transform_output="pandas"):
        assert isinstance(arrays.trajectories(Z), pd.DataFrame)
        assert isinstance(arrays.posterior(table).sd, pd.DataFrame)
        assert isinstance(arrays.inverse_transform(Z[:, None]), pd.DataFrame)
        arrays_after_all = quick().set_output(transform="default").fit(table)
        assert type(arrays_after_all.trajectories(Z)) is np.ndarray


def test_polars(arrays, table):
    model = quick().set_output(transform="polars").fit(pl.DataFrame(table))
    curves, posterior = model.trajectories(Z), model.posterior(pl.DataFrame(table))
    assert isinstance(curves, pl.DataFrame)
    assert curves.columns == list(table.columns)
    np.testing.assert_array_equal(curves.to_numpy(), arrays.trajectories(Z))
    assert isinstance(posterior.upper, pl.DataFrame)
    np.testing.assert_array_equal(pd.DataFrame(posterior)["upper"], arrays.posterior(table).upper[:, 0])


def test_columns_without_names_and_columns_that_condition(table):
    unnamed = quick().set_output(transform="pandas").fit(table.to_numpy())
    assert list(unnamed.trajectories(Z).columns) == ["x0", "x1", "x2", "x3"]
    conditioned = quick(covariates="b").set_output(transform="pandas").fit(table)
    assert list(conditioned.trajectories(Z).columns) == ["a", "c", "d"]
    numbered = quick(covariates=1).set_output(transform="pandas").fit(table.to_numpy())
    assert list(numbered.inverse_transform(Z[:, None]).columns) == ["x0", "x2", "x3"]


def test_several_components(table):
    model = quick(VAETransformer, 2).set_output(transform="pandas").fit(table)
    curves, rates = model.trajectories(PAIRS), model.derivatives(PAIRS)
    assert curves.index.names == ["z0", "z1"]
    np.testing.assert_array_equal(curves.index.to_frame(), PAIRS)
    assert rates.shape == (2, 4, 2)  # no table, so an array
    posterior = model.posterior(table)
    of_components = [f"{name}_{q}" for name in ("mean", "sd", "lower", "upper") for q in range(2)]
    assert list(pd.DataFrame(posterior).columns) == [*of_components, "beyond_training"]
    np.testing.assert_array_equal(pd.DataFrame(posterior)["lower_1"], posterior.lower.iloc[:, 1])


SMALL = {"n_clusters": 2, "n_init": 1, "hidden_layer_sizes": (4,)}


@pytest.mark.parametrize("estimator, parameters", [(DeVAETransformer, {}), (DGDEmbedder, SMALL)])
def test_a_posterior_is_a_table(estimator, parameters, table):
    model = quick(estimator, 1, **parameters).fit(table)
    posterior = model.posterior(table)
    found = pd.DataFrame(posterior)
    assert list(found.columns) == ["mean", "sd", "lower", "upper", "beyond_training"]
    assert found.index.equals(table.index)
    np.testing.assert_array_equal(found["sd"], posterior.sd[:, 0])
    assert found["beyond_training"].dtype == bool
    pd.testing.assert_frame_equal(pd.DataFrame(pickle.loads(pickle.dumps(posterior))), found)


def test_rows_of_an_array_are_numbered(table):
    model = quick().fit(table.to_numpy())
    assert list(pd.DataFrame(model.posterior(table.to_numpy()[:5])).index) == list(range(5))


def test_an_autoencoder_still_has_no_posterior(table):
    model = quick(VAETransformer, variational=False).fit(table)
    assert not hasattr(model, "posterior")


def test_a_pipeline_goes_back_through_data_frames(table):
    pipeline = make_pipeline(StandardScaler(), quick()).set_output(transform="pandas").fit(table)
    plain = make_pipeline(StandardScaler(), quick()).fit(table)
    back = pipeline.inverse_transform(pipeline.transform(table))
    np.testing.assert_array_equal(back, plain.inverse_transform(plain.transform(table)))


def test_a_library_that_is_missing_is_named(arrays, monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    with config_context(transform_output="polars"), pytest.raises(ImportError, match="requires polars"):
        arrays.trajectories(Z)
