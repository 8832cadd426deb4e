"""DeVAETransformer inside scikit-learn: pipelines, searches, data frames, dtypes, parameters."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from trajectory.devae.cases import EXACT, WAYS, fitted, frame, progression, quick, signs


@pytest.mark.parametrize("way", EXACT)
def test_names_of_latents_and_frames(way):
    model = quick(max_epochs=3, **WAYS[way]).set_output(transform="pandas").fit(frame())
    names = [f"devaetransformer{component}" for component in range(model.n_components)]
    assert model.get_feature_names_out().tolist() == names
    latent = model.transform(frame())
    assert isinstance(latent, pd.DataFrame)
    assert latent.columns.tolist() == names
    assert latent.index.equals(frame().index)
    assert model.feature_names_in_.tolist() == list(progression().feature_names)


def test_in_a_pipeline():
    table = progression().data * 7 + 3
    pipeline = make_pipeline(StandardScaler(), quick(monotonic_cst=signs())).fit(table)
    alone = quick(monotonic_cst=signs()).fit(table)
    assert_allclose(pipeline.transform(table), alone.transform(table), atol=1e-3)
    assert_allclose(pipeline.score(table), alone.score(table) + np.log(pipeline[0].scale_).sum(), atol=1e-3)


def test_a_grid_search_finds_the_number_of_components():
    generator = np.random.default_rng(0)
    z = generator.standard_normal((150, 2))
    table = z @ generator.normal(size=(2, 8)) + 0.3 * generator.standard_normal((150, 8))
    estimator = quick(max_epochs=40, n_grid_points=33)
    search = GridSearchCV(estimator, {"n_components": [1, 2]}, cv=2, error_score="raise").fit(table)
    assert search.best_params_ == {"n_components": 2}
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.transform(table).shape == (150, 2)


@pytest.mark.parametrize("way", EXACT)
def test_float32_in_float32_out(way):
    table = progression().data.astype(np.float32)
    model = quick(max_epochs=3, **WAYS[way]).fit(table)
    assert model.transform(table).dtype == model.predict(table).dtype == np.float32
    assert model.posterior(table).upper.dtype == np.float32


@pytest.mark.parametrize(
    "parameters",
    [{"n_components": 0}, {"inference": "mcmc"}, {"integrator": "euler"}, {"n_importance_samples": 0}, {"n_knots": 2}],
    ids=str,
)
def test_parameters_are_validated(parameters):
    (name,) = parameters
    with pytest.raises(ValueError, match=name):
        quick(**parameters).fit(progression().data)


def test_positions_have_a_column_for_each_component():
    model = fitted(way="exact, two components")
    with pytest.raises(
        ValueError, match=r"z has shape \(3,\), but positions on this latent need shape \(n_points, 2\)"
    ):
        model.trajectories([0.0, 1.0, 2.0])
    with pytest.raises(ValueError, match="3 columns, but the latent has 2"):
        model.inverse_transform(np.zeros((4, 3)))
