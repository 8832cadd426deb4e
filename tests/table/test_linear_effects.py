"""Linear effects of covariates: what a start takes away from a table."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from agreement import assert_agree
from sklearn.linear_model import LinearRegression, PoissonRegressor

from skdevae.nn.row_context import RowContext
from skdevae.table.linear_effects import without_linear_effects
from skdevae.table.source import RowSource

FLOAT64 = torch.zeros((), dtype=torch.float64)
N, D = 300, 4


def design(random, numeric=False):
    levels = np.eye(3)[random.integers(3, size=N)][:, 1:]
    return np.column_stack([levels, random.normal(size=N)]) if numeric else levels


def values(source):
    return np.concatenate([rows.dense().values.numpy() for _, rows in source.chunks()])


@pytest.mark.parametrize("weighted", [False, True])
def test_measurements_are_residuals_of_a_regression_with_their_means_left(weighted):
    random = np.random.default_rng(0)
    c = design(random, numeric=True)
    table = c @ random.normal(size=(3, D)) + random.normal(size=(N, D)) + 5
    weight = random.integers(0, 3, N).astype(float) if weighted else None
    source = RowSource(table, np.zeros(D), np.ones(D), FLOAT64, RowContext(weight=weight, covariates=c))
    fitted = LinearRegression().fit(c, table, sample_weight=weight)
    average = np.average(c, axis=0, weights=weight)
    assert_agree(values(without_linear_effects(source, False)), table - (c - average) @ fitted.coef_.T)


def test_columns_with_gaps_are_regressed_where_they_are_observed():
    random = np.random.default_rng(1)
    c = design(random)
    table = c @ random.normal(size=(2, D)) + random.normal(size=(N, D))
    table[random.random(table.shape) < 0.4] = np.nan
    source = RowSource(table, np.zeros(D), np.ones(D), FLOAT64, RowContext(covariates=c))
    ours = values(without_linear_effects(source, False))
    for column in range(D):
        there = ~np.isnan(table[:, column])
        fitted = LinearRegression().fit(c[there], table[there, column])
        expected = table[there, column] - (c[there] - c.mean(0)) @ fitted.coef_
        assert_agree(ours[there, column], expected)
        assert (ours[~there, column] == 0).all()


@pytest.mark.parametrize("stored", [np.asarray, sp.csr_array], ids=["dense", "sparse"])
def test_counts_are_divided_by_the_effects_of_a_poisson_regression(stored):
    random = np.random.default_rng(2)
    c, sizes = design(random), np.exp(random.normal(size=N))
    table = random.poisson(20 * sizes[:, None] * np.exp(c @ random.normal(size=(2, D)))).astype(float)
    source = RowSource(stored(table), None, None, FLOAT64, RowContext(log_size=np.log(sizes), covariates=c))
    ours = values(without_linear_effects(source, True))
    for column in range(D):
        fitted = PoissonRegressor(alpha=0, tol=1e-10).fit(c, table[:, column] / sizes, sample_weight=sizes)
        expected = table[:, column] * np.exp(-(c - c.mean(0)) @ fitted.coef_)
        np.testing.assert_allclose(ours[:, column], expected, rtol=2e-3)  # a weak prior holds effects
    normalized = values(without_linear_effects(source, True).normalized())
    assert_agree(normalized, ours / sizes[:, None])


def test_some_rows_and_some_columns_lose_their_part():
    random = np.random.default_rng(3)
    c = design(random, numeric=True)
    table = random.poisson(5, (N, D)).astype(float)
    less = without_linear_effects(RowSource(sp.csr_array(table), None, None, FLOAT64, RowContext(covariates=c)), True)
    index, columns = np.array([7, 3, 250]), np.array([2, 0])
    assert_agree(values(less.take(index)), values(less)[index])
    assert_agree(values(less.of_columns(columns)), values(less)[:, columns])


def test_a_level_without_counts_and_many_numbers_stay_finite():
    random = np.random.default_rng(4)
    c = np.column_stack([np.arange(N) < 5, random.normal(size=N)]).astype(float)
    table = random.poisson(5, (N, D)).astype(float)
    table[:5, 0] = 0
    less = without_linear_effects(RowSource(table, None, None, FLOAT64, RowContext(covariates=c)), True)
    assert np.isfinite(values(less)).all()


def test_without_covariates_nothing_is_taken_away():
    source = RowSource(np.ones((3, 2)), None, None, FLOAT64)
    assert without_linear_effects(source, True) is source
