"""What covariates explain is least squares, and principal components are those of the rest."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from numpy.testing import assert_allclose

from skdevae.nn.row_context import RowContext
from skdevae.table.components import principal_projection
from skdevae.table.regression import effects_on, regression_on_covariates
from skdevae.table.source import RowSource

N = 80
FLOAT64 = torch.zeros((), dtype=torch.float64)


def draw(n_features, seed=0):
    """A table whose columns depend on two covariates and two factors, the covariates, and weights of the rows."""
    random = np.random.default_rng(seed)
    covariates = np.column_stack([random.random(N) < 0.3, random.normal(size=N)]).astype(float)
    table = covariates @ random.normal(0, 3, (2, n_features)) + random.normal(0, 1, (N, n_features))
    table += random.normal(0, 1, (N, 2)) @ random.normal(0, 2, (2, n_features))
    return table, covariates, random.integers(1, 4, N).astype(float)


def source_of(table, covariates, weight=None):
    return RowSource(table, None, None, FLOAT64, RowContext(weight=weight, covariates=covariates))


def residuals(table, covariates, weight):
    """Weighted least squares, by the rows that are left."""
    columns, root = np.column_stack([np.ones(N), covariates]), np.sqrt(weight)[:, None]
    return table - columns @ np.linalg.lstsq(root * columns, root * table, rcond=None)[0]


def products_of(table):
    return lambda numbers: table.T @ numbers


def test_effects_are_least_squares():
    table, covariates, weight = draw(6)
    found = regression_on_covariates(source_of(table, covariates, weight), products_of(table))
    left = table - (covariates - found.average) @ found.effects
    left -= np.average(left, axis=0, weights=weight)
    assert_allclose(left, residuals(table, covariates, weight), atol=1e-10)
    assert_allclose(found.covariance, np.cov(covariates.T, aweights=weight, ddof=0))


def test_there_is_none_without_covariates():
    table, _, weight = draw(6)
    assert regression_on_covariates(source_of(table, None, weight), products_of(table)) is None


def test_covariates_that_some_rows_do_not_tell_apart_share_their_effect():
    table, covariates, _ = draw(6)
    twice = np.column_stack([covariates[:, 0], covariates[:, 0]])
    found = regression_on_covariates(source_of(table, twice), products_of(table))
    once = regression_on_covariates(source_of(table, covariates[:, :1]), products_of(table))
    assert_allclose(found.effects, once.effects.repeat(2, axis=0) / 2, atol=1e-9)


@pytest.mark.parametrize("n_features", [10, 90])  # by a decomposition, and by products
def test_principal_components_are_those_of_what_is_left(n_features):
    table, covariates, weight = draw(n_features)
    projection = principal_projection(source_of(table, covariates, weight), False, 3)
    left = residuals(table, covariates, weight)
    _, _, directions = np.linalg.svd(np.sqrt(weight)[:, None] * left, full_matrices=False)
    expected = left @ directions[:3].T
    scores = projection(source_of(table, covariates, weight))
    signs = np.sign((scores * expected).sum(0))
    assert_allclose(scores, signs * expected, atol=1e-4 * np.abs(expected).max())
    # The map holds for other rows, and goes on holding when another follows it.
    some = source_of(table[:7], covariates[:7])
    assert_allclose(projection(some), scores[:7])
    slopes, offset = np.random.default_rng(1).normal(size=(3, 2)), np.array([1.0, -2.0])
    assert_allclose(projection.then(slopes, offset)(some), scores[:7] @ slopes + offset)


def test_principal_components_of_sparse_counts_are_those_of_dense_ones():
    random = np.random.default_rng(2)
    covariates = np.column_stack([random.random(N) < 0.4]).astype(float)
    counts = random.poisson(3 * np.exp(covariates * random.normal(0, 1, 90)), (N, 90)).astype(float)
    dense, sparse = (source_of(kind(counts), covariates) for kind in (np.asarray, sp.csr_array))
    scores = [principal_projection(source, True, 2)(source) for source in (dense, sparse)]
    assert_allclose(*np.abs(scores), atol=1e-6)
    assert_allclose((covariates - covariates.mean(0)).T @ scores[0], 0, atol=1e-9)


def test_effects_on_values_of_rows_are_those_of_the_table():
    table, covariates, weight = draw(6)
    source = source_of(table, covariates, weight)
    found = effects_on(source, lambda rows: 2 * rows.values)
    whole = regression_on_covariates(source, products_of(2 * table))
    assert_allclose(found, whole.effects)
    assert effects_on(source_of(table, None), lambda rows: rows.values) is None
