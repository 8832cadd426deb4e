"""Columns of which nothing can be learned: which they are, and what is said of them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import nbinom

from skdevae.table.columns import Columns, find_columns

LIKELIHOODS = ["gaussian", "nb", "bernoulli"]


def table(likelihood, n=60, seed=0):
    """Two columns that vary, one of zeros, one of ones."""
    random = np.random.default_rng(seed)
    varying = random.normal(size=(n, 2)) if likelihood == "gaussian" else (random.random((n, 2)) < 0.5).astype(float)
    return np.column_stack([varying[:, 0], np.zeros(n), np.ones(n), varying[:, 1]])


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_columns_of_one_value_are_left_out(likelihood):
    found = find_columns(table(likelihood), likelihood)
    # A count that is always one does say something: that it varies less than chance.
    assert_array_equal(found.kept, [0, 2, 3] if likelihood == "nb" else [0, 3])
    assert_array_equal(found.left_out, [1] if likelihood == "nb" else [1, 2])


def test_stored_as_a_sparse_table_columns_are_the_same():
    dense, sparse = (find_columns(X, "nb") for X in (table("nb"), sp.csr_array(table("nb"))))
    assert_array_equal(dense.kept, sparse.kept)
    assert_allclose(dense.levels, sparse.levels)


def test_rows_without_weight_do_not_count():
    X = table("gaussian")
    X[5, 1] = 7.0
    assert find_columns(X, "gaussian").left_out.tolist() == [2]
    assert find_columns(X, "gaussian", weights=(np.arange(60) != 5) * 1.0).left_out.tolist() == [1, 2]


@pytest.mark.parametrize("scale", [1e-290, 1.0, 1e290])
def test_units_do_not_decide_what_varies(scale):
    assert_array_equal(find_columns(scale * table("gaussian"), "gaussian").kept, [0, 3])


@pytest.mark.parametrize("summed_as", [np.float32, np.float64])
def test_sums_of_shares_in_single_precision_are_constant(summed_as):
    shares = np.random.default_rng(0).dirichlet(np.ones(30), 200).astype(np.float32)
    X = np.column_stack([shares[:, :2], shares.sum(1, dtype=summed_as)]).astype(np.float64)
    assert len(np.unique(X[:, 2])) > 1
    with pytest.warns(UserWarning, match="column 'total': values differ by no more than the rounding"):
        found = find_columns(X, "gaussian", feature_names=np.array(["a", "b", "total"]))
    assert_array_equal(found.kept, [0, 1])
    assert_allclose(found.levels[2], 1, rtol=1e-6)


def test_columns_that_vary_by_more_than_rounding_are_kept():
    random = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find_columns(1e6 + 10 * random.normal(size=(100, 2)), "gaussian").kept is None


def test_columns_without_entries_are_named():
    X = table("gaussian")
    X[:, 3] = np.nan
    with pytest.warns(UserWarning, match="column 3: no entry is observed"):
        found = find_columns(X, "gaussian")
    assert_array_equal(found.unobserved, [3])
    assert_array_equal(found.kept, [0])
    assert np.isnan(found.levels[3])


def test_a_table_of_one_row_repeated_keeps_its_columns():
    assert find_columns(np.ones((5, 3)), "gaussian").kept is None
    with pytest.warns(UserWarning, match="column 0"), pytest.raises(ValueError, match="No entry of X is observed"):
        find_columns(np.full((5, 3), np.nan), "gaussian")


def test_values_are_spread_over_all_columns():
    columns = Columns(np.array([0, 2]), np.array([np.nan, 5.0, np.nan, np.nan]))
    assert_array_equal(columns.spread_levels(np.array([[1.0, 2.0]])), [[1, 5, 2, np.nan]])
    assert_array_equal(columns.spread_rates(np.ones((3, 2, 2)), axis=1)[0], [[1, 1], [0, 0], [1, 1], [np.nan, np.nan]])
    assert_array_equal(columns.of(columns.spread(np.array([3, 4]), -1)), [3, 4])
    assert_array_equal(Columns().spread(np.arange(4), -1), np.arange(4))


# ---- the probability of what models do not see ----------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", LIKELIHOODS[1:])
def test_probabilities_of_left_out_columns_add_up_to_one(likelihood):
    columns = find_columns(table(likelihood)[:, :2], likelihood)
    values = np.arange(2.0) if likelihood == "bernoulli" else np.arange(4000.0)
    rows = np.column_stack([np.ones(len(values)), values])
    log_sizes = None if likelihood == "bernoulli" else np.full(len(values), np.log(2.5))
    assert_allclose(np.exp(columns.log_prob(rows, log_sizes)).sum(), 1, rtol=1e-6)


def test_a_count_without_events_is_predicted_by_jeffreys_prior():
    """A rate with prior rate^-1/2, after no event in 60 rows, is Gamma(1/2, 60)."""
    columns = find_columns(table("nb")[:, :2], "nb")
    rows = np.column_stack([np.ones(8), np.arange(8.0)])
    sizes = np.geomspace(0.2, 5, 8)
    expected = nbinom.logpmf(np.arange(8), 0.5, 60 / (60 + sizes))
    assert_allclose(columns.log_prob(rows, np.log(sizes)), expected)
    assert_allclose(columns.log_prob(sp.csr_array(rows), np.log(sizes)), expected)
    rows[3, 1] = np.nan
    assert columns.log_prob(rows, np.log(sizes))[3] == 0


@pytest.mark.parametrize("likelihood", LIKELIHOODS[1:])
def test_simulated_entries_have_the_expected_levels(likelihood):
    columns = find_columns(table(likelihood, n=8), likelihood)
    drawn = columns.draw(40_000, None, np.random.default_rng(0))
    assert_allclose(drawn.mean(0), columns.levels[columns.left_out], atol=0.01)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_weights_are_repetitions(likelihood):
    X, weights = table(likelihood), np.random.default_rng(1).integers(0, 4, 60).astype(float)
    X[::7, 3] = np.nan
    ours, theirs = (
        find_columns(X, likelihood, weights), find_columns(np.repeat(X, weights.astype(int), axis=0), likelihood)
    )  # fmt: skip
    assert_array_equal(ours.kept, theirs.kept)
    assert_allclose(ours.levels, theirs.levels, rtol=1e-15)


def test_rounding_is_what_weights_say_it_is():
    # one value of many is off by more than rounding; where it has next to no weight, the column does not vary
    X = np.column_stack([np.full(50, 1000.0), np.arange(50.0)])
    X[7, 0] += 0.01
    weights = np.where(np.arange(50) == 7, 1e-4, 1.0)
    assert find_columns(X, "gaussian").kept is None
    with pytest.warns(UserWarning, match="no more than the rounding"):
        assert_array_equal(find_columns(X, "gaussian", weights).kept, [1])
