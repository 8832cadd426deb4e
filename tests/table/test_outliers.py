"""What training sets aside: rows and entries that are far from all others."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal

from skdevae.table.outliers import find_outliers


def measurements(n=300, d=12, seed=0):
    random = np.random.default_rng(seed)
    z = random.normal(size=(n, 1))
    return random.normal(3, 2, d) + np.tanh(z * random.uniform(0.5, 2, d)) + 0.3 * random.normal(size=(n, d))


def counts(n=300, d=12, seed=0):
    random = np.random.default_rng(seed)
    return random.negative_binomial(3, 3 / (3 + random.lognormal(1, 1, d)), (n, d)).astype(float)


def scaled(X, row, factor):
    X = X.copy()
    X[row] *= factor
    return X


@pytest.mark.parametrize("factor", [10, 100, 1e6, 1e200])
def test_a_row_in_other_units_is_set_aside(factor):
    found = find_outliers(scaled(measurements(), 17, factor), counts=False)
    assert_array_equal(found.rows, [17])
    assert found.entries == 0


@pytest.mark.parametrize("factor", [1000, 1e6, 1e12])
def test_a_cell_of_another_depth_is_set_aside(factor):
    X = scaled(counts(), 17, factor)
    for stored in (X, sp.csr_array(X)):
        assert_array_equal(find_outliers(stored, counts=True).rows, [17])


@pytest.mark.parametrize("n", [50, 300])
@pytest.mark.parametrize("draw", ["normal", "uniform", "exponential", "standard_t"])
def test_nothing_is_far_from_the_others_in_ordinary_tables(draw, n):
    random = np.random.default_rng(1)
    arguments = (8,) if draw == "standard_t" else ()
    for _ in range(10):
        found = find_outliers(getattr(random, draw)(*arguments, size=(n, 5)), counts=False)
        assert len(found.rows) == 0
        assert found.entries <= 1


@pytest.mark.parametrize("wrong", [lambda x: 100 * x, lambda x: np.full_like(x, 999.0), lambda x: -1e9 + x])
def test_entries_in_error_are_read_at_the_edge_of_the_others(wrong):
    X = measurements()
    error = np.random.default_rng(2).random(X.shape) < 0.01
    Y = np.where(error, wrong(X), X)
    found = find_outliers(Y, counts=False)
    assert len(found.rows) == 0
    assert found.entries >= 0.8 * error.sum()
    lowest, highest = found.bounds
    right = np.where(error, np.nan, X)
    assert (np.clip(right, lowest, highest) == right)[~error].all()
    reach = np.nanmax(right, 0) - np.nanmin(right, 0)
    clipped = np.clip(Y, lowest, highest)
    assert (np.abs(clipped - right[~error].mean()).max(0) < 12 * reach).all()


def test_a_group_that_is_not_tiny_is_a_population():
    X = measurements()
    X[:15, :4] += 10  # 5 % of the rows, about two ranges away
    found = find_outliers(X, counts=False)
    assert len(found.rows) == 0
    assert found.entries == 0


def test_a_peak_that_few_samples_show_is_a_signal():
    z = np.random.default_rng(0).normal(size=(1000, 1))
    peak = 20 * np.exp(-0.5 * ((z - 1.5) / 0.1) ** 2)
    X = np.hstack([peak, measurements(1000)]) + 0.1 * np.random.default_rng(1).normal(size=(1000, 13))
    found = find_outliers(X, counts=False)
    assert len(found.rows) == 0
    assert found.entries == 0


def test_shifted_and_rescaled_columns_have_the_same_outliers():
    X = measurements()
    X[[3, 50], [1, 4]] = 100
    slope, offset = np.random.default_rng(0).uniform(-5, 5, (2, X.shape[1]))
    ours, theirs = find_outliers(X, counts=False), find_outliers(offset + slope * X, counts=False)
    assert ours.entries == theirs.entries == 2
    assert_array_equal(ours.rows, theirs.rows)


def test_the_order_of_rows_does_not_matter():
    X = measurements()
    X[[3, 50], [1, 4]] = 100
    order = np.random.default_rng(0).permutation(len(X))
    ours, theirs = find_outliers(X, counts=False), find_outliers(X[order], counts=False)
    assert_array_equal(ours.bounds, theirs.bounds)


@pytest.mark.parametrize("wrong", [lambda x: 1000 * (x + 1), lambda x: np.full_like(x, 1e9)])
def test_counts_in_error(wrong):
    X = counts()
    error = np.random.default_rng(2).random(X.shape) < 0.005
    Y = np.where(error, wrong(X), X)
    dense, sparse = find_outliers(Y, counts=True), find_outliers(sp.csr_array(Y), counts=True)
    assert dense.entries == sparse.entries >= 0.7 * error.sum()
    assert_array_equal(dense.bounds[1], sparse.bounds[1])
    assert_array_equal(dense.rows, sparse.rows)
    assert (dense.bounds[1] >= X.max(0) / 10).all()


def test_a_gene_of_few_events_keeps_them():
    X = counts()
    X[:, 0] = 0
    X[[5, 9, 40], 0] = 1, 2, 9
    assert find_outliers(X, counts=True).entries == 0


def test_entries_that_are_missing_and_rows_without_weight_do_not_count():
    X = scaled(measurements(), 17, 1000)
    X[np.random.default_rng(0).random(X.shape) < 0.2] = np.nan
    assert_array_equal(find_outliers(X, counts=False).rows, [17])
    found = find_outliers(X, counts=False, weights=(np.arange(len(X)) != 17) * 1.0)
    assert len(found.rows) == 0
    assert found.entries == 0


def test_large_tables_are_searched_in_blocks(monkeypatch):
    X = measurements()
    X[[3, 50], [1, 4]] = 100
    Y = scaled(X, 17, 1000)
    whole = find_outliers(Y, counts=False)
    monkeypatch.setattr("skdevae.table.sorted_columns.BLOCK_ENTRIES", 1000)
    monkeypatch.setattr("skdevae.table.sorted_columns.LARGE_TABLE", 0)
    monkeypatch.setattr("skdevae.table.sorted_columns._SAMPLED_ROWS", 100)
    parts = find_outliers(Y, counts=False)
    assert_array_equal(parts.rows, whole.rows)
    assert parts.entries == whole.entries == 2


def test_warnings_name_rows_and_columns():
    X = scaled(measurements(), 17, 1000)
    X[3, 1] = 1e5
    found = find_outliers(X, counts=False)
    with pytest.warns(UserWarning, match="farther from all other") as warned:
        found.warn(np.array([f"marker {j}" for j in range(12)]))
    messages = [str(one.message) for one in warned]
    assert "1 row (row 17)" in messages[0]
    assert "'marker 1'" in messages[1]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", ["dense", "counts", "sparse counts"])
def test_weights_are_repetitions(kind, seed):
    random = np.random.default_rng(seed)
    X = (measurements if kind == "dense" else counts)(60, 6, seed)
    X[random.random(X.shape) < 0.02] *= 1e5
    X[random.integers(60)] *= 1e4
    if kind != "sparse counts":
        X[random.random(X.shape) < 0.05] = np.nan
    weights = random.integers(0, 6, 60).astype(float)
    often = np.repeat(np.arange(60), weights.astype(int))
    stored, repeated = (sp.csr_array(X), sp.csr_array(X[often])) if kind == "sparse counts" else (X, X[often])
    ours = find_outliers(stored, kind != "dense", weights=weights)
    theirs = find_outliers(repeated, kind != "dense")
    assert_array_equal(np.nonzero(np.isin(often, ours.rows))[0], theirs.rows)
    assert (ours.bounds is None) == (theirs.bounds is None)
    if ours.bounds is not None:
        assert_array_equal(ours.bounds, theirs.bounds)
    # a value that counts as often as a tenth of all is no accident, however rare rows with it are
    heavy = np.where(np.isin(np.arange(60), ours.rows), 20.0, weights)
    assert len(find_outliers(stored, kind != "dense", weights=heavy).rows) == 0
