"""Predictions, samples and tables of DeVAETransformer: gaps that are filled, counts, sparse tables."""

import numpy as np
import pytest
import scipy.sparse as sp
from agreement import assert_agree
from by_hand import with_holes
from numpy.testing import assert_allclose, assert_array_equal
from trajectory.devae.cases import CASES, COUNT_CASES, EXACT, WAYS, counts, fitted, progression, quick, table_for


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("way", WAYS)
def test_predictions_are_inverse_transforms_and_fill_gaps(way):
    model, table = fitted(way=way), with_holes(progression().data)
    expected = model.predict(table)
    assert_agree(expected, model.inverse_transform(model.transform(table)))
    assert_agree(expected, model.trajectories(model.transform(table)))
    assert np.isfinite(expected).all()
    if way in EXACT:
        gaps, truth = np.isnan(table), progression().data
        error = ((expected - truth)[gaps] ** 2).mean()
        assert error < 0.7 * ((truth - truth.mean(0))[gaps] ** 2).mean()


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize(("likelihood", "way"), COUNT_CASES)
def test_fits_to_sparse_tables_are_fits_to_tables(likelihood, way):
    sparse = quick(likelihood=likelihood, **WAYS[way]).fit(sp.csr_array(counts(likelihood)))
    assert_allclose(sparse.lower_bound_, fitted(likelihood, way).lower_bound_, atol=0.02)


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize(("likelihood", "way"), COUNT_CASES)
def test_a_fitted_model_reads_sparse_tables_as_tables(likelihood, way):
    table, model = counts(likelihood), fitted(likelihood, way)
    stored = sp.csr_array(table)
    assert_agree(model.transform(stored), model.transform(table))
    assert_agree(model.score_samples(stored[:3]), model.score_samples(table[:3]))
    assert_agree(model.elbo(stored), model.elbo(table))
    assert_agree(model.conditional_log_likelihood(stored), model.conditional_log_likelihood(table))
    assert_agree(model.predict(stored), model.predict(table))


@pytest.mark.parametrize(("likelihood", "way"), CASES)
def test_samples_have_the_moments_of_the_model(likelihood, way):
    model, n = fitted(likelihood, way), 5000
    drawn = model.sample(n, random_state=0)
    assert drawn.shape == (n, model.n_features_in_)
    error = drawn.std(0) / np.sqrt(n)
    expected = model.trajectories(np.random.default_rng(0).standard_normal((n, model.n_components)))
    assert (np.abs(drawn.mean(0) - expected.mean(0)) < 6 * (error + expected.std(0) / np.sqrt(n))).all()
    if likelihood != "gaussian":
        assert_array_equal(drawn, np.round(drawn))
        assert drawn.min() == 0


# not of "poisson", which the table is not
MOMENTS = [
    *(("gaussian", way) for way in WAYS if "three" not in way),
    *((likelihood, "exact") for likelihood in ("nb", "zinb", "bernoulli")),
]


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize(("likelihood", "way"), MOMENTS)
def test_samples_have_the_moments_of_the_table(likelihood, way):
    table = table_for(likelihood)
    drawn = quick(likelihood=likelihood, **{**WAYS[way], "max_epochs": 60}).fit(table).sample(5000, random_state=0)
    assert (np.abs(drawn.mean(0) - table.mean(0)) < 0.5 * table.std(0)).all()
    assert np.median(np.abs(drawn.mean(0) - table.mean(0)) / table.std(0)) < 0.2
    assert (drawn.std(0) / table.std(0) > 0.6).all()
