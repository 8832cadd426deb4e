"""Rows with weights are rows repeated: what a fit is shown, its units, medians, means and principal components."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import rankdata

from skdevae.nn.row_context import RowContext
from skdevae.table.column_summary import summarize_columns
from skdevae.table.components import (
    correlations,
    normal_scores,
    principal_projection,
    projection_onto,
    ranks,
)
from skdevae.table.size_factors import count_means, weighted_median
from skdevae.table.source import RowSource
from skdevae.table.units import standardization
from skdevae.table.weighted_rows import rows_of_a_fit, weighted_rows

FLOAT64 = torch.zeros((), dtype=torch.float64)
seeds = st.integers(0, 2**32 - 1)


def table(n=30, seed=0, missing=0.2):
    """Values of which some are whole rows over again."""
    generator = np.random.default_rng(seed)
    X = generator.integers(-1, 2, (n, 2)).astype(float)
    return np.where(generator.random(X.shape) < missing, np.nan, X)


def integers(n, seed, low=1):
    return np.random.default_rng(seed).integers(low, 5, n).astype(float)


# ---- distinct rows --------------------------------------------------------------------------------------------------


@given(seed=seeds)
def test_each_row_stands_once_with_the_weight_of_its_copies(seed):
    X, weights = table(seed=seed), integers(30, seed, low=0)
    rows = weighted_rows(X, weights)
    distinct = X[rows.index]
    n_distinct = len(np.unique(np.nan_to_num(X[weights > 0], nan=9), axis=0))
    assert len(np.unique(np.nan_to_num(distinct, nan=9), axis=0)) == len(distinct) == n_distinct
    for number, row in enumerate(distinct):
        copies = (np.isclose(X, row, equal_nan=True)).all(1)
        assert rows.weights[number] == weights[copies].sum()
        assert_array_equal(np.nonzero(rows.inverse == number)[0], np.nonzero(copies & (weights > 0))[0])
        assert rows.index[number] == np.nonzero(copies & (weights > 0))[0][0]
    assert_array_equal(rows.inverse == -1, weights == 0)
    assert_array_equal(rows.spread(distinct)[weights > 0], X[weights > 0])


@given(seed=seeds)
def test_neither_order_nor_repetition_can_be_seen(seed):
    X, weights = table(seed=seed), integers(30, seed)
    ours = weighted_rows(X, weights)
    order = np.random.default_rng(seed).permutation(30)
    often = np.repeat(np.arange(30), weights.astype(int))
    for chosen, w in ((order, weights[order]), (often, np.ones(len(often))), (often[::-1], np.ones(len(often)))):
        theirs = weighted_rows(X[chosen], w)
        assert_array_equal(X[chosen][theirs.index], X[ours.index])
        assert_array_equal(theirs.weights, ours.weights)
        assert_array_equal(theirs.inverse, ours.inverse[chosen])


def test_the_order_is_not_that_of_the_table():
    X = np.arange(40.0)[:, None]
    index = weighted_rows(X, np.ones(40)).index
    assert not (np.diff(index) > 0).all()
    assert not (np.diff(index) < 0).all()


def test_zeros_have_no_sign_and_tables_no_dtype():
    X = np.array([[0.0, 1.0], [-0.0, 1.0], [0.0, -1.0]])
    rows = weighted_rows(X, np.ones(3))
    assert rows.inverse[0] == rows.inverse[1] != rows.inverse[2]
    assert_array_equal(rows.weights[rows.inverse], [2, 2, 1])
    for other in (np.float32, int):
        again = weighted_rows(X.astype(other), np.ones(3))
        assert_array_equal(again.inverse, rows.inverse)
    assert_array_equal(weighted_rows(np.asfortranarray(X), np.ones(3)).inverse, rows.inverse)


def test_rows_with_gaps_in_the_same_places_are_copies():
    X = np.array([[np.nan, 1.0], [1.0, np.nan], [np.nan, 1.0], [np.nan, np.nan], [0.0, 1.0]])
    rows = weighted_rows(X, np.ones(5))
    assert rows.inverse[0] == rows.inverse[2]
    assert len(rows.index) == len(set(rows.inverse)) == 4


def test_a_gap_is_a_gap_wherever_it_comes_from():
    with np.errstate(invalid="ignore"):
        computed = np.zeros(1) / 0.0  # whose sign bit is not that of np.nan on every processor
    X = np.array([[1.0, np.nan], [1.0, computed[0]], [1.0, -np.nan], [1.0, np.copysign(np.nan, -1)]])
    assert_array_equal(weighted_rows(X, np.ones(4)).weights, [4])


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_sparse_rows_are_copies_where_dense_ones_are(dtype):
    X = np.random.default_rng(0).poisson(0.4, (60, 4)).astype(float)
    weights = integers(60, 1, low=0)
    stored = sp.csr_array(X)
    stored.indices, stored.indptr = stored.indices.astype(dtype), stored.indptr.astype(dtype)
    ours, theirs = weighted_rows(X, weights), weighted_rows(stored, weights)
    assert len(ours.index) < 50
    assert sorted(ours.index) == sorted(theirs.index)
    assert_array_equal(ours.weights[ours.inverse[weights > 0]], theirs.weights[theirs.inverse[weights > 0]])
    assert_array_equal(ours.index[ours.inverse[weights > 0]], theirs.index[theirs.inverse[weights > 0]])
    assert_array_equal(theirs.inverse == -1, weights == 0)
    order = np.random.default_rng(0).permutation(60)
    again = weighted_rows(sp.csr_array(stored[order]), weights[order])
    assert_array_equal(X[order][again.index], X[theirs.index])


def test_values_in_other_columns_are_other_sparse_rows():
    stored = sp.csr_array(np.array([[3.0, 0.0], [0.0, 3.0], [0.0, 0.0], [3.0, 3.0]]))
    assert len(weighted_rows(stored, np.ones(4)).index) == 4


def test_what_else_must_be_alike_splits_copies():
    X, weights = np.ones((6, 2)), np.array([1.0, 2, 3, 4, 5, 0])
    classes, sizes = np.array([0, 0, 1, 1, -1, -1]), np.array([1.0, 1.0, 1.0, 2.0, 1.0, 1.0])
    assert_array_equal(weighted_rows(X, weights, None, None).weights, [15])
    by_class = weighted_rows(X, weights, classes, None)
    assert sorted(by_class.weights) == [3, 5, 7]
    assert_array_equal(by_class.weights[by_class.inverse[:5]], [3, 3, 7, 7, 5])
    assert sorted(weighted_rows(X, weights, None, sizes).weights) == [4, 11]
    assert sorted(weighted_rows(X, weights, classes, sizes).weights) == [3, 3, 4, 5]


def test_values_of_distinct_rows_are_spread_in_any_shape():
    X, generator = table(), np.random.default_rng(0)
    rows = weighted_rows(X, np.ones(30))
    for shape in ((), (3,), (2, 4)):
        values = generator.normal(size=(len(rows.index), *shape))
        spread = rows.spread(values)
        assert spread.shape == (30, *shape)
        for number, position in enumerate(rows.inverse):
            assert_array_equal(spread[number], values[position])


# ---- rows of a fit --------------------------------------------------------------------------------------------------


def test_rows_that_count_once_each_stay_in_their_order(tmp_path):
    X = np.random.default_rng(0).normal(size=(30, 3))
    rows = rows_of_a_fit(X, np.ones(30))
    assert rows.counts is None
    assert_array_equal(rows.index, np.arange(30))
    assert_array_equal(rows.inverse, np.arange(30))
    stored = np.memmap(tmp_path / "table", float, "w+", shape=X.shape)
    stored[:] = X
    assert rows_of_a_fit(stored, np.ones(30)).of(stored) is stored
    weights = (np.arange(30) % 3 > 0).astype(float)
    some = rows_of_a_fit(X, weights)
    assert some.counts is None
    assert_array_equal(some.of(X), X[weights > 0])
    assert_array_equal(some.inverse[weights == 0], -1)
    assert_array_equal(some.spread(some.of(X))[weights > 0], X[weights > 0])


@pytest.mark.parametrize("by", ["weight", "copy"])
def test_rows_of_which_one_counts_more_are_those_that_repetitions_are(by):
    X, weights = np.random.default_rng(0).normal(size=(30, 3)), np.ones(30)
    if by == "weight":
        weights[4] = 2
    else:
        X = np.vstack([X, X[4]])
        weights = np.ones(31)
    rows = rows_of_a_fit(X, weights)
    expected = weighted_rows(X, weights)
    for name in ("index", "weights", "inverse"):
        assert_array_equal(getattr(rows, name), getattr(expected, name))
    assert_array_equal(rows.counts, rows.weights)


@given(seed=seeds)
def test_rows_can_be_left_out(seed):
    X, weights = table(seed=seed), integers(30, seed, low=0)
    rows = weighted_rows(X, weights)
    out = np.nonzero((weights > 0) & (np.nan_to_num(X[:, 0], nan=9) == 1))[0]  # with all of their copies
    fewer, expected = rows.without(out), weighted_rows(X, np.where(np.isin(np.arange(30), out), 0, weights))
    for name in ("index", "weights", "inverse"):
        assert_array_equal(getattr(fewer, name), getattr(expected, name))


# ---- hashes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hash_of", ["none", "few"])
def test_rows_whose_hashes_collide_are_told_apart_by_what_they_hold(monkeypatch, hash_of):
    X, weights, sizes = table(60, seed=3), integers(60, 1, low=0), np.random.default_rng(2).integers(0, 2, 60)
    order = np.random.default_rng(0).permutation(60)
    expected = [weighted_rows(form, w, s) for form, w, s in tables_of(X, weights, sizes)]
    collide = {"none": lambda bits: np.zeros_like(bits), "few": lambda bits: bits & np.uint64(1)}
    monkeypatch.setattr("skdevae.table.weighted_rows._mixed", collide[hash_of])
    for (form, w, s), whole in zip(tables_of(X, weights, sizes), expected, strict=True):
        found = weighted_rows(form, w, s)
        assert len(found.index) == len(whole.index) < len(w)
        assert sorted(found.index) == sorted(whole.index)
        # the same rows are copies of each other
        assert_array_equal(found.index[found.inverse[w > 0]], whole.index[whole.inverse[w > 0]])
        assert_array_equal(found.weights[found.inverse[w > 0]], whole.weights[whole.inverse[w > 0]])
        assert_array_equal(found.inverse == -1, w == 0)
    # and their order is still that of what they hold
    ours, theirs = weighted_rows(X, weights, sizes), weighted_rows(X[order], weights[order], sizes[order])
    assert_array_equal(X[order][theirs.index], X[ours.index])
    assert_array_equal(theirs.weights, ours.weights)
    assert_array_equal(theirs.inverse, ours.inverse[order])


def tables_of(X, weights, sizes):
    """A table, with gaps or with zeros in their places, dense and sparse."""
    zeros = np.nan_to_num(X)
    return [(form, weights, sizes) for form in (X, zeros, sp.csr_array(zeros))]


def test_dense_and_sparse_tables_have_one_order():
    X, weights = np.random.default_rng(0).poisson(0.4, (60, 4)).astype(float), integers(60, 1, low=0)
    ours, theirs = weighted_rows(X, weights), weighted_rows(sp.csr_array(X), weights)
    assert_array_equal(theirs.index, ours.index)
    assert_array_equal(theirs.inverse, ours.inverse)
    empty = weighted_rows(sp.csr_array(np.zeros((5, 3))), np.ones(5))
    assert_array_equal(empty.weights, [5])


@pytest.mark.parametrize("sparse", [False, True])
def test_chunks_make_no_difference(monkeypatch, sparse):
    X = np.random.default_rng(0).poisson(0.7, (80, 5)).astype(float)
    X[7] = 0
    stored = sp.csr_array(X) if sparse else X
    whole = weighted_rows(stored, np.ones(80))
    assert len(whole.index) < 80
    for entries in (1, 4, 33):  # less than a row among them
        monkeypatch.setattr("skdevae.table.weighted_rows._CHUNK_ENTRIES", entries)
        found = weighted_rows(stored, np.ones(80))
        assert_array_equal(found.index, whole.index)
        assert_array_equal(found.inverse, whole.inverse)


# ---- units ----------------------------------------------------------------------------------------------------------


def measurements(n=200, d=4, seed=0, missing=0.15):
    generator = np.random.default_rng(seed)
    X = generator.normal([0, 5, -300, 0.01], [1, 2, 0.5, 1e-4], (n, 4))[:, :d]
    return np.where(generator.random(X.shape) < missing, np.nan, X)


def test_units_are_mean_and_sd_of_what_is_observed(monkeypatch):
    monkeypatch.setattr("skdevae.table.units._ROWS", 37)  # several blocks
    X, weights = measurements(), integers(200, 1, low=0)
    center, scale = standardization(X)
    assert_allclose(center, np.nanmean(X, 0))
    assert_allclose(scale, np.nanstd(X, 0), rtol=1e-8)
    often = np.repeat(X, weights.astype(int), axis=0)
    for one, other in zip(standardization(X, weights), standardization(often), strict=True):
        assert_allclose(one, other, rtol=1e-8)
    for one, other in zip(standardization(X, weights), standardization(X, 0.01 * weights), strict=True):
        assert_allclose(one, other, rtol=1e-8)


@pytest.mark.parametrize("first_row", ["observed", "missing"])
@pytest.mark.parametrize("offset", [0.0, 1e4, -1e8])
def test_far_from_zero_units_keep_their_digits_whichever_row_comes_first(offset, first_row):
    X = offset + np.random.default_rng(0).normal(size=(300, 2))
    if first_row == "missing":
        X[0, 0] = np.nan
    center, scale = standardization(X)
    assert_allclose(center, np.nanmean(X - offset, 0) + offset, atol=1e-6)
    assert_allclose(scale, np.nanstd(X - offset, 0), rtol=1e-5)


@pytest.mark.parametrize("first_row", ["observed", "missing"])
@pytest.mark.parametrize("value", [0.0, 1.0, -7.3, 12345.678, 1e-6])
def test_a_constant_column_is_measured_in_its_own_size(value, first_row):
    X = np.full((50, 1), value)
    if first_row == "missing":
        X[0] = np.nan
    center, scale = standardization(X, integers(50, 0))
    assert_allclose(center, value, rtol=1e-12)
    assert_allclose(scale, abs(value) if value else 1.0, rtol=1e-12)


# ---- medians and means ----------------------------------------------------------------------------------------------


@given(seed=seeds, n=st.integers(1, 12))
def test_a_weighted_median_is_that_of_repeated_values(seed, n):
    generator = np.random.default_rng(seed)
    values, weights = generator.integers(0, 8, n).astype(float), generator.integers(0, 4, n)
    weights[generator.integers(n)] += 1
    expected = np.median(np.repeat(values, weights))
    assert weighted_median(values, weights.astype(float)) == expected
    assert weighted_median(values) == np.median(values)
    for power in (-3, 40):  # units that lose no digit
        assert weighted_median(values, weights * 2.0**power) == expected


@pytest.mark.parametrize("unit", [0.1, 1 / 3, 0.7, 123.456])
def test_medians_do_not_depend_on_the_unit_of_weights(unit):
    for n in range(1, 30):
        values = np.arange(n)[::-1].astype(float)
        assert weighted_median(values, np.full(n, unit)) == np.median(values)


@given(seed=seeds)
def test_count_means_are_those_of_repeated_rows(seed):
    generator = np.random.default_rng(seed)
    X = generator.poisson(1.0, (40, 3)).astype(float)
    weights = integers(40, seed, low=0) + np.eye(40)[0]
    often = np.repeat(np.arange(40), weights.astype(int))
    assert_allclose(count_means(X, weights), X[often].mean(0))
    assert_allclose(count_means(sp.csr_array(X), weights), X[often].mean(0))
    assert_allclose(count_means(X), X.mean(0))
    holey = np.where(generator.random(X.shape) < 0.2, np.nan, X)
    holey[0] = X[0]
    assert_allclose(count_means(holey, weights), np.nanmean(holey[often], 0))


def test_count_means_are_the_same_in_blocks(monkeypatch):
    X, weights = measurements(), integers(200, 1)
    expected = count_means(X, weights)
    monkeypatch.setattr("skdevae.table.size_factors._ROWS", 37)
    assert_allclose(count_means(X, weights), expected)


# ---- principal components -------------------------------------------------------------------------------------------

TABLES = {
    "measurements": lambda generator, d: generator.normal(size=(40, d)) * np.linspace(3, 0.3, d) + 1,
    "counts": lambda generator, d: generator.negative_binomial(1, 0.2, (40, d)).astype(float),
    "sparse": lambda generator, d: sp.csr_array(generator.negative_binomial(1, 0.2, (40, d)).astype(float)),
}


def source_of(X, weights=None):
    return RowSource(X, None, None, FLOAT64, RowContext(weight=weights))


def scores(X, counts, weights=None):
    return principal_projection(source_of(X, weights), counts, 3)(source_of(X))


@pytest.mark.parametrize("n_features", [5, 80])  # decomposed directly, and by products
@pytest.mark.parametrize("kind", TABLES)
def test_weights_are_repetitions_to_principal_components(kind, n_features):
    X, counts = TABLES[kind](np.random.default_rng(0), n_features), kind != "measurements"
    weights = integers(40, 1)
    often = np.repeat(np.arange(40), weights.astype(int))
    ours, theirs, plain = scores(X, counts, weights), scores(X[often], counts), scores(X, counts)
    assert ours.shape == (40, 3)
    for one, other in zip(ours[often].T, theirs.T, strict=True):
        assert_allclose(one * np.sign(one @ other), other, atol=0.02 * other.std())
    assert_allclose(scores(X, counts, np.ones(40)), plain)
    # and not those of the rows as they are
    assert np.abs(np.abs(plain[:, 0]) - np.abs(ours[:, 0])).max() > 0.05 * np.std(ours[:, 0])


def test_principal_components_have_weighted_mean_zero_and_the_largest_variances():
    X, weights = TABLES["measurements"](np.random.default_rng(0), 6), integers(40, 1)
    found = scores(X, False, weights)
    assert_allclose(weights @ found, 0, atol=1e-9)
    covariance = np.cov(found.T, aweights=weights, bias=True)
    largest = np.linalg.eigvalsh(np.cov(X.T, aweights=weights, bias=True))[::-1][:3]
    assert_allclose(covariance, np.diag(largest), atol=1e-9)
    assert principal_projection(source_of(X[:, :2]), False, 3)(source_of(X[:, :2])).shape == (40, 2)


@pytest.mark.parametrize("kind", TABLES)
def test_a_projection_is_of_each_row(kind):
    X, counts = TABLES[kind](np.random.default_rng(0), 5), kind != "measurements"
    weights = integers(40, 1)
    projection = principal_projection(source_of(X, weights), counts, 3)
    together = projection(source_of(X))
    for index in (np.array([7]), np.arange(40)[::-1]):
        assert_allclose(projection(source_of(X[index])), together[index], atol=1e-12)
    slopes, offset = np.random.default_rng(1).normal(size=(3, 2)), np.array([2.0, -1.0])
    assert_allclose(projection.then(slopes, offset)(source_of(X)), together @ slopes + offset)
    if counts:  # of shares, whatever the total
        assert_allclose(projection(source_of(X * 3)), together)


# ---- first guesses, and what they are compared with -----------------------------------------------------------------


@given(seed=seeds)
def test_ranks_are_those_of_repeated_values(seed):
    generator = np.random.default_rng(seed)
    values, weights = generator.integers(0, 9, 20).astype(float), integers(20, seed, low=0)
    often = np.repeat(np.arange(20), weights.astype(int))
    assert_array_equal(ranks(values, weights)[often], rankdata(values[often]) - 0.5)
    assert_array_equal(ranks(values), rankdata(values) - 0.5)
    assert_array_equal(normal_scores(values, weights)[often], normal_scores(values[often]))


@pytest.mark.parametrize("kind", TABLES)
def test_weights_are_repetitions_to_sums_and_linear_maps(kind):
    X, counts = TABLES[kind](np.random.default_rng(0), 5), kind != "measurements"
    if not counts:
        X[np.random.default_rng(1).random(X.shape) < 0.1] = np.nan
    weights, positions = integers(40, 1, low=0), np.random.default_rng(2).normal(size=(40, 2))
    often = np.repeat(np.arange(40), weights.astype(int))
    ours, theirs = source_of(X, weights), source_of(X[often])
    one, other = (summarize_columns(source, counts) for source in (ours, theirs))
    for name in ("n_observed", "sum_of_squares", "multiplicity", "column", "value"):
        assert_allclose(getattr(one, name), getattr(other, name), err_msg=name)
    assert_allclose(correlations(ours, positions), correlations(theirs, positions[often]))
    one_by_one = [correlations(ours, axis[:, None])[0] for axis in positions.T]
    assert_allclose(correlations(ours, positions), one_by_one)

    def values(rows):
        return rows.dense().values

    maps = projection_onto(ours, torch.from_numpy(positions), values)
    expected = projection_onto(theirs, torch.from_numpy(positions[often]), values)
    for found, wanted in zip(maps, expected, strict=True):
        assert_allclose(found, wanted)
    for found, wanted in zip(
        ours.moments(torch.from_numpy(positions)), theirs.moments(torch.from_numpy(positions[often])), strict=True
    ):
        assert_allclose(found, wanted)
    relative = ours.with_relative_weights()
    assert_allclose(relative.weights.mean(), 1)
    assert_allclose(relative.weights * ours.total_weight / 40, weights)
