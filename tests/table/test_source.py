"""Rows of a table, dense, sparse or memory-mapped: one interface, the same numbers."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from skdevae.nn.linear_tables import LinearTables
from skdevae.table import source as rows_module
from skdevae.table.column_summary import summarize_columns
from skdevae.table.source import RowSource

N, D, P = 23, 6, 5
FLOAT64 = torch.zeros((), dtype=torch.float64)
STORED = {
    "dense": np.asarray,
    "integers": lambda x: x.astype(np.int64),
    "float32": lambda x: x.astype(np.float32),
    "csr_array": sp.csr_array,
    "csr_matrix": sp.csr_matrix,
    "csr of integers": lambda x: sp.csr_array(x.astype(np.int32)),
}


def _source(table, center=None, scale=None, like=FLOAT64):
    return RowSource(table, center, scale, like)


def _counts(seed=0, n=N):
    return np.random.default_rng(seed).negative_binomial(0.5, 0.2, size=(n, D)).astype(float)


def _tables(seed=1, with_positive=True):
    generator = torch.Generator().manual_seed(seed)
    zero, slope, positive = torch.randn(3, P, D, generator=generator, dtype=torch.float64)
    return LinearTables(zero, slope, positive if with_positive else None)


def _q(n=N, seed=2):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, P, generator=generator, dtype=torch.float64).softmax(1)


def _log_likelihood_by_loops(table, tables):
    total = np.zeros((len(table), P))
    for i, j in zip(*np.nonzero(~np.isnan(table)), strict=True):
        total[i] += tables.zero[:, j].numpy() + table[i, j] * tables.slope[:, j].numpy()
        if tables.positive is not None and table[i, j] > 0:
            total[i] += tables.positive[:, j].numpy()
    return total


@pytest.mark.parametrize("with_positive", [False, True])
@pytest.mark.parametrize("stored", STORED)
def test_every_storage_has_the_same_log_likelihood(stored, with_positive):
    table, tables = _counts(), _tables(with_positive=with_positive)
    rows = _source(STORED[stored](table)).rows(slice(None))
    assert len(rows) == N
    np.testing.assert_allclose(rows.log_likelihood(tables).numpy(), _log_likelihood_by_loops(table, tables), atol=1e-9)


@pytest.mark.parametrize("with_positive", [False, True])
@pytest.mark.parametrize("stored", STORED)
def test_every_storage_has_the_same_expectations(stored, with_positive):
    table, q = _counts(), _q()
    weighted, positive, mass = _source(STORED[stored](table)).rows(slice(None)).expectations(q, with_positive)
    np.testing.assert_allclose(weighted.numpy(), q.T.numpy() @ table, atol=1e-10)
    np.testing.assert_allclose(mass.expand(P, D).numpy(), q.T.numpy() @ np.ones((N, D)), atol=1e-10)
    assert (positive is not None) == with_positive
    if with_positive:
        np.testing.assert_allclose(positive.numpy(), q.T.numpy() @ (table > 0), atol=1e-10)


@pytest.mark.parametrize("stored", STORED)
def test_every_storage_lists_the_same_entries(stored):
    table = _counts()
    rows = _source(STORED[stored](table)).rows(slice(3, 17))
    row, column, value = (t.numpy() for t in rows.nonzero())
    again = np.zeros((14, D))
    again[row, column] = value
    np.testing.assert_array_equal(again, table[3:17])
    assert len(value) == np.count_nonzero(table[3:17])
    np.testing.assert_array_equal(rows.dense().values.numpy(), table[3:17])
    assert rows.dense().observed is None


@pytest.mark.parametrize("stored", STORED)
def test_rows_are_taken_by_their_positions(stored):
    table, index = _counts(), np.array([5, 0, 17, 5])
    source = _source(STORED[stored](table))
    np.testing.assert_array_equal(source.rows(index).dense().values.numpy(), table[index])
    np.testing.assert_array_equal(source.take(index).rows(slice(None)).dense().values.numpy(), table[index])
    taken = source.rows(slice(None)).take(torch.from_numpy(index))
    np.testing.assert_array_equal(taken.dense().values.numpy(), table[index])
    assert (len(source), source.n_features, len(source.take(index))) == (N, D, 4)
    assert source.is_sparse == stored.startswith("csr")


@pytest.mark.parametrize("stored", STORED)
def test_columns_that_are_not_read_are_as_if_they_were_not_there(stored):
    """With bounds and effects of covariates on those that are, and however rows and columns are taken."""
    table, columns = _counts(), np.array([1, 2, 5])
    random = np.random.default_rng(5)
    facts = {
        "bounds": (np.zeros(3), np.array([2.0, np.inf, 4.0])),
        "effects": random.normal(0, 0.5, (2, 3)),
        "design": random.integers(0, 2, (N, 2)).astype(float),
    }
    expected = RowSource(table[:, columns], None, None, FLOAT64, **facts)
    source = RowSource(STORED[stored](table), None, None, FLOAT64, columns=columns, **facts)
    assert source.n_features == 3
    np.testing.assert_array_equal(source.varying_columns(), expected.varying_columns())
    tables = _tables().of_columns(torch.from_numpy(columns))
    some, number = torch.tensor([7, 2]), torch.tensor([2, 0])
    both = [each.rows(slice(None)) for each in (source, expected)]
    for change, of_tables in (
        (lambda rows: rows, tables),
        (lambda rows: rows.take(some), tables),
        (lambda rows: rows.of_columns(number), tables.of_columns(number)),
    ):
        ours, theirs = map(change, both)
        torch.testing.assert_close(ours.log_likelihood(of_tables), theirs.log_likelihood(of_tables))
        q = _q(len(ours))
        for found, wanted in zip(ours.expectations(q, True), theirs.expectations(q, True), strict=True):
            torch.testing.assert_close(found, wanted)
        torch.testing.assert_close(ours.dense().values, theirs.dense().values)


@pytest.mark.parametrize("stored", STORED)
def test_chunks_cover_all_rows_in_order(stored):
    table = _counts()
    source = _source(STORED[stored](table))
    width = rows_module._CHUNK_ENTRIES // 4  # room for four rows at a time
    chunks = list(source.chunks(width))
    assert len(chunks) > 1
    assert all(len(rows) <= 4 for _, rows in chunks)
    positions = np.concatenate([np.arange(N)[index] for index, _ in chunks])
    np.testing.assert_array_equal(positions, np.arange(N))
    again = np.vstack([rows.dense().values.numpy() for _, rows in chunks])
    np.testing.assert_array_equal(again, table)


def test_rows_of_a_small_table_in_memory_are_made_once():
    source = _source(_counts())
    [(index, rows)], [(_, again)] = source.chunks(), source.chunks()
    assert rows is again
    torch.testing.assert_close(rows.values, source.rows(index).values)


def test_chunks_of_measurements_with_gaps_are_their_rows():
    source = _source(_measurements())
    chunks = list(source.chunks(rows_module._CHUNK_ENTRIES // 4))
    assert len(chunks) > 1
    for index, rows in chunks:
        expected = source.rows(index)
        assert torch.equal(rows.values, expected.values)
        observed = torch.ones_like(rows.values) if expected.observed is None else expected.observed
        assert torch.equal(rows.observed, observed)


def test_chunks_make_progress_however_wide_the_grid():
    chunks = list(_source(_counts()).chunks(10 * rows_module._CHUNK_ENTRIES))
    assert [len(rows) for _, rows in chunks] == [1] * N


def test_sums_over_chunks_are_sums_over_rows():
    table, tables, q = _counts(), _tables(), _q()
    source = _source(sp.csr_array(table))
    chunks = list(source.chunks(rows_module._CHUNK_ENTRIES // 4))
    scores = torch.cat([rows.log_likelihood(tables) for _, rows in chunks])
    torch.testing.assert_close(scores, source.rows(slice(None)).log_likelihood(tables))
    weighted = sum(rows.expectations(q[index], False)[0] for index, rows in chunks)
    torch.testing.assert_close(weighted, source.rows(slice(None)).expectations(q, False)[0])


def _measurements():
    generator = np.random.default_rng(3)
    table = generator.normal(size=(N, D)) * [1, 10, 0.1, 3, 1, 50] + [0, 100, -5, 2, 1, 0]
    table[generator.random((N, D)) < 0.2] = np.nan
    return table


def test_entries_are_standardized_and_missing_ones_dropped():
    table = _measurements()
    center, scale = np.nanmean(table, 0), np.nanstd(table, 0)
    standardized, observed = (table - center) / scale, ~np.isnan(table)
    original = table.copy()
    rows = _source(table, center, scale).rows(slice(None))
    np.testing.assert_array_equal(table, original)  # the user's table is read, not written
    np.testing.assert_allclose(rows.values.numpy(), np.where(observed, standardized, 0), atol=1e-12)
    np.testing.assert_array_equal(rows.observed.numpy(), observed)
    tables, q = _tables(with_positive=False), _q()
    expected = _log_likelihood_by_loops(standardized, tables)
    np.testing.assert_allclose(rows.log_likelihood(tables).numpy(), expected, atol=1e-9)
    weighted, _, mass = rows.expectations(q, False)
    np.testing.assert_allclose(weighted.numpy(), q.T.numpy() @ np.where(observed, standardized, 0), atol=1e-10)
    np.testing.assert_allclose(mass.numpy(), q.T.numpy() @ observed, atol=1e-10)
    summary = summarize_columns(_source(table, center, scale), counts=False)
    np.testing.assert_array_equal(summary.n_observed.numpy(), observed.sum(0))
    # standardised columns: their squares sum to the number of their entries
    np.testing.assert_allclose(summary.sum_of_squares.numpy(), observed.sum(0))
    taken = _source(table, center, scale).take(np.array([4, 1])).rows(slice(None))
    torch.testing.assert_close(taken.values, rows.values[[4, 1]])
    torch.testing.assert_close(taken.observed, rows.observed[[4, 1]])
    torch.testing.assert_close(rows.take(torch.tensor([4, 1])).observed, rows.observed[[4, 1]])


def test_far_from_zero_standardization_keeps_its_digits():
    # float32 tables are standardised in float64: 1e6 + noise has few digits to lose
    table = (1e6 + np.random.default_rng(4).normal(size=(N, D))).astype(np.float32)
    center = table.astype(np.float64).mean(0)
    values = _source(table, center, np.ones(D), torch.zeros((), dtype=torch.float32)).rows(slice(None)).values
    assert values.dtype == torch.float32
    np.testing.assert_allclose(values.numpy(), table.astype(np.float64) - center, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("stored", STORED)
def test_rows_come_in_the_dtype_asked_for(stored, dtype):
    like = torch.zeros((), dtype=dtype)
    rows = _source(STORED[stored](_counts()), like=like).rows(slice(0, 4))
    tables = LinearTables(*(t.to(dtype) for t in _tables()))
    weighted, positive, mass = rows.expectations(_q(4).to(dtype), True)
    results = [rows.log_likelihood(tables), weighted, positive, mass, rows.dense().values, rows.nonzero()[2]]
    assert {result.dtype for result in results} == {dtype}


@pytest.mark.parametrize("stored", ["dense", "csr_array"])
def test_a_source_can_be_read_in_another_precision(stored):
    table = _counts()
    source = _source(STORED[stored](table), like=torch.zeros((), dtype=torch.float32)).to(torch.float64)
    values = source.rows(slice(None)).dense().values
    assert values.dtype == torch.float64
    np.testing.assert_array_equal(values.numpy(), table)


def test_memory_mapped_tables_read_like_those_in_memory(tmp_path):
    table = _measurements()
    mapped = np.memmap(tmp_path / "table", dtype=np.float64, mode="w+", shape=table.shape)
    mapped[:] = table
    mapped.flush()
    mapped = np.memmap(tmp_path / "table", dtype=np.float64, mode="r", shape=table.shape)
    center, scale = np.nanmean(table, 0), np.nanstd(table, 0)
    width = rows_module._CHUNK_ENTRIES // 4
    in_memory, on_disk = (list(_source(t, center, scale).chunks(width)) for t in (table, mapped))
    for (_, one), (_, other) in zip(in_memory, on_disk, strict=True):
        assert torch.equal(one.values, other.values)
        assert (one.observed is None) == (other.observed is None)
        if one.observed is not None:
            assert torch.equal(one.observed, other.observed)
    one, other = (summarize_columns(_source(t, center, scale), counts=False) for t in (table, mapped))
    assert torch.equal(one.sum_of_squares, other.sum_of_squares)
    assert torch.equal(one.n_observed, other.n_observed)


@pytest.mark.parametrize("rows_at_a_time", [3, 1000])
@pytest.mark.parametrize("stored", STORED)
def test_summary_lists_every_distinct_count_with_its_multiplicity(stored, rows_at_a_time, monkeypatch):
    monkeypatch.setattr(rows_module, "_CHUNK_ENTRIES", rows_at_a_time)
    monkeypatch.setattr(rows_module, "_DENSE_ENTRIES", rows_at_a_time * D)
    table = _counts()
    source = _source(STORED[stored](table))
    assert len(list(source.chunks())) == -(-N // rows_at_a_time)
    summary = summarize_columns(source, counts=True)
    listed = {
        (j, x): times
        for j, x, times in zip(
            summary.column.tolist(), summary.value.tolist(), summary.multiplicity.tolist(), strict=True
        )
    }
    expected = {}
    for j in range(D):
        values, times = np.unique(table[:, j], return_counts=True)
        expected |= {(j, x): n for x, n in zip(values.tolist(), times.tolist(), strict=True) if x != 0}
    assert listed == expected
    assert len(listed) == len(summary.column)  # every pair once, whichever chunks it was in
    np.testing.assert_allclose(summary.sum_of_squares.numpy(), (table**2).sum(0))
    np.testing.assert_array_equal(summary.n_observed.numpy(), np.full(D, N))
    assert summary.column.dtype == torch.int64
    assert summary.value.dtype == summary.multiplicity.dtype == torch.float64


def test_summary_of_counts_with_missing_entries():
    table = _counts()
    table[np.random.default_rng(5).random((N, D)) < 0.3] = np.nan
    summary = summarize_columns(_source(table), counts=True)
    np.testing.assert_array_equal(summary.n_observed.numpy(), (~np.isnan(table)).sum(0))
    for j in range(D):
        values, times = np.unique(table[~np.isnan(table[:, j]) & (table[:, j] != 0), j], return_counts=True)
        np.testing.assert_array_equal(summary.value[summary.column == j].numpy(), values)
        np.testing.assert_array_equal(summary.multiplicity[summary.column == j].numpy(), times)


@pytest.mark.parametrize("table", [np.zeros((4, 3)), sp.csr_array((4, 3))], ids=["dense", "csr"])
def test_summary_of_nothing_but_zeros(table):
    summary = summarize_columns(_source(table), counts=True)
    assert len(summary.value) == len(summary.column) == len(summary.multiplicity) == 0
    np.testing.assert_array_equal(summary.n_observed.numpy(), [4, 4, 4])
    np.testing.assert_array_equal(summary.sum_of_squares.numpy(), [0, 0, 0])
