"""Stored tables: rows of what lies on disk are those of the same table in memory, however they are asked for."""

import h5py
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from table.stored_cases import LAYOUTS, Sliced, csr_group, plain, small_pieces

from skdevae.table import components, sorted_columns
from skdevae.table import stored as stored_module
from skdevae.table.components import principal_projection
from skdevae.table.outliers import find_outliers
from skdevae.table.source import RowSource
from skdevae.table.stored import StoredTable, row_blocks
from skdevae.table.validation import as_plain_table, check_stored
from skdevae.table.weighted_rows import weighted_rows

__all__ = ["small_pieces"]

LIKE = torch.zeros((), dtype=torch.float64)


def counts(n=43, d=7, seed=0):
    return np.random.default_rng(seed).negative_binomial(0.6, 0.3, size=(n, d)).astype(float)


def stored(table, layout, folder):
    return checked(LAYOUTS[layout](table, folder))


def checked(table, likelihood="nb", counts=True):
    table = as_plain_table(table)
    check_stored(table, likelihood, counts=counts, least_rows=1, names=None)
    return table


# ---- rows -----------------------------------------------------------------------------------------------------------


def test_masked_entries_are_missing():
    values = np.arange(12).reshape(4, 3)
    masked = np.ma.masked_where(values == 7, values)  # slices of a variable of netCDF4 are such arrays
    table = checked(Sliced(masked), "gaussian", counts=False)
    np.testing.assert_array_equal(table[:], np.where(values == 7, np.nan, values))


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_are_those_of_the_table_in_memory(layout, tmp_path):
    table, random = counts(), np.random.default_rng(1)
    on_disk = stored(table, layout, tmp_path)
    assert on_disk.shape == table.shape
    assert on_disk.dtype == np.float64
    assert on_disk.n_stored == (np.count_nonzero(table) if on_disk.is_sparse else table.size)
    some = random.choice(len(table), 30)
    for index in (slice(None), slice(3, 40), slice(5, 5), slice(8, 9), some, np.sort(some), some % 2 == 0, some[:0]):
        if isinstance(index, np.ndarray) and index.dtype == bool:
            index = np.resize(index, len(table))
        np.testing.assert_array_equal(plain(on_disk[index]), table[index])
        view, part = on_disk.take(index), table[index]
        assert view.shape == part.shape
        np.testing.assert_array_equal(plain(view[:]), part)
        np.testing.assert_array_equal(plain(view.of_columns(np.array([4, 1]))[::2]), part[::2, [4, 1]])
        last = np.arange(len(part[1:4]))[-1:]
        np.testing.assert_array_equal(plain(view.take(slice(1, 4)).take(last)[:]), part[1:4][last])
    blocks = [(index, plain(block)) for index, block in row_blocks(on_disk, 1)]
    np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), table)
    assert all(len(block) == index.stop - index.start for index, block in blocks)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_done_to_rows_does_not_change_the_table(layout, tmp_path):
    table = counts()
    source = RowSource(stored(table, layout, tmp_path), None, None, LIKE).in_memory()
    on_disk = RowSource(stored(table, layout, tmp_path), None, None, LIKE)
    halved = on_disk.less(np.log(2.0) * np.ones((1, table.shape[1])), np.ones((len(table), 1)))
    for rows in (slice(0, 8), np.arange(8), slice(None)):
        np.testing.assert_allclose(halved.rows(rows).dense().values, table[rows] / 2)
        np.testing.assert_array_equal(on_disk.rows(rows).dense().values, source.rows(rows).dense().values)


@pytest.mark.usefixtures("small_pieces")
def test_sparse_rows_come_in_canonical_form(tmp_path):
    table = sp.csr_array(([1.0, 2, 0, 3, 4], [2, 0, 1, 1, 1], [0, 2, 3, 5]), shape=(3, 3))
    on_disk = checked(csr_group(h5py.File(tmp_path / "x.h5", "w"), table))
    rows = on_disk[:]
    assert rows.has_canonical_format
    assert rows.nnz == on_disk.n_stored == 3
    np.testing.assert_array_equal(rows.toarray(), [[2, 0, 1], [0, 0, 0], [0, 7, 0]])


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("is_sparse", [False, True])
def test_an_epoch_in_random_order_reads_each_piece_a_few_times(is_sparse, monkeypatch):
    monkeypatch.setattr(stored_module, "_MOST_READS", 3)
    table = counts(400)
    sliced = Sliced(sp.csr_array(table) if is_sparse else table)
    source = RowSource(checked(sliced), None, None, LIKE)
    order = source.shuffled(torch.Generator().manual_seed(0)).numpy()
    sliced.reads.clear()
    for batch in np.array_split(order, 40):
        np.testing.assert_array_equal(source.rows(batch).dense().values, table[batch])
    assert sum(sliced.reads) < 3.5 * len(table)
    assert max(sliced.reads) < 40
    np.testing.assert_array_equal(np.sort(order), np.arange(len(table)))
    assert (order != source.shuffled(torch.Generator().manual_seed(1)).numpy()).any()


def test_a_table_that_can_be_held_is_shuffled_as_one_in_memory():
    table = counts(60)
    orders = [
        RowSource(values, None, None, LIKE).shuffled(torch.Generator().manual_seed(3))
        for values in (table, checked(Sliced(table)))
    ]
    assert torch.equal(*orders)


def test_floats_that_are_memory_mapped_are_read_in_place(tmp_path):
    mapped = np.memmap(tmp_path / "table", dtype=np.float32, mode="w+", shape=(20, 3))
    assert as_plain_table(mapped) is mapped


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("layout", ["h5py", "CSR in zarr"])
@pytest.mark.parametrize(("value", "message"), [(-1.0, "Negative"), (0.5, "Fractional"), (np.inf, "infinity")])
def test_errors_name_the_row_of_the_whole_table(layout, value, message, tmp_path):
    table = counts()
    table[31, 4] = value
    with pytest.raises(ValueError, match=rf"{message}.* 1 entries, in column 4 .*row 31"):
        stored(table, layout, tmp_path)


@pytest.mark.usefixtures("small_pieces")
def test_nan_is_found_in_sparse_tables(tmp_path):
    table = counts()
    table[31, 4] = np.nan
    with pytest.raises(ValueError, match=r"NaN.*row 31, column 4"):
        stored(table, "CSR in h5py", tmp_path)


def test_tables_by_columns_are_refused(tmp_path):
    group = csr_group(h5py.File(tmp_path / "x.h5", "w"), sp.csc_array(counts()))
    group.attrs["encoding-type"] = "csc_matrix"
    with pytest.raises(ValueError, match=r"by columns \(CSC\).*tocsr"):
        as_plain_table(group)


def test_tables_that_are_no_numbers_or_do_not_suit_are_refused(tmp_path):
    with pytest.raises(TypeError, match="Pass a table of numbers"):
        as_plain_table(Sliced(np.array([["a", "b"]])))
    with pytest.raises(ValueError, match="Complex"):
        as_plain_table(Sliced(1j * counts()))
    with pytest.raises(TypeError, match="needs dense data"):
        checked(Sliced(sp.csr_array(counts())), "gaussian", counts=False)
    with pytest.raises(ValueError, match="0 sample"):
        checked(Sliced(counts()[:0]))
    broken = csr_group(h5py.File(tmp_path / "x.h5", "w"), sp.csr_array(counts()))
    broken.attrs["shape"] = [50, 7]
    with pytest.raises(ValueError, match="50 rows, but its indptr has 44"):
        as_plain_table(broken)
    with pytest.raises(TypeError, match=r"in memory: X\[:\]"):
        np.asarray(StoredTable.of(Sliced(counts())))


# ---- what is learned of the whole table -----------------------------------------------------------------------------


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("layout", ["h5py", "CSR in zarr"])
def test_copies_are_found_and_rows_stay_in_order(layout, tmp_path):
    table, random = counts(20), np.random.default_rng(2)
    table = table[random.choice(20, 43)]
    weight = random.choice([0.0, 1.0, 2.5], 43)
    in_memory, found = (weighted_rows(X, weight) for X in (table, stored(table, layout, tmp_path)))
    assert (np.diff(found.index) > 0).all()
    order = np.argsort(in_memory.index)
    np.testing.assert_array_equal(found.index, in_memory.index[order])
    np.testing.assert_array_equal(found.weights, in_memory.weights[order])
    np.testing.assert_array_equal(found.inverse >= 0, weight > 0)
    np.testing.assert_array_equal(
        found.index[found.inverse[weight > 0]], in_memory.index[in_memory.inverse[weight > 0]]
    )
    np.testing.assert_array_equal(plain(found.of(stored(table, layout, tmp_path))[:]), table[found.index])


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("kind", ["measurements", "dense counts", "sparse counts"])
def test_outliers_of_a_large_table_are_those_that_are_found_in_memory(kind, monkeypatch):
    random, is_count = np.random.default_rng(0), kind != "measurements"
    table = random.poisson(3.0, (3000, 5)).astype(float) if is_count else random.standard_normal((3000, 5))
    table[random.choice(3000, 4), 1] = [4000.0, 4100, 3900, 4200] if is_count else [90.0, 91, -80, 5]
    table[7] = 20_000.0
    if kind == "measurements":
        table[random.random(table.shape) < 0.1] = np.nan
    weight = random.choice([0.0, 1.0, 2.0], 3000)
    weight[7] = 1.0
    values = sp.csr_array(table) if kind == "sparse counts" else table
    in_memory = find_outliers(values, is_count, weights=weight)
    monkeypatch.setattr(sorted_columns, "LARGE_TABLE", 0)
    monkeypatch.setattr(sorted_columns, "_SAMPLED_ROWS", 200)
    on_disk = checked(Sliced(values), "nb" if is_count else "gaussian", counts=is_count)
    found = find_outliers(on_disk, is_count, weights=weight)
    np.testing.assert_array_equal(found.rows, in_memory.rows)
    assert found.entries == in_memory.entries > 0
    for edges, expected in zip(found.bounds, in_memory.bounds, strict=True):
        np.testing.assert_array_equal(edges, expected)
    np.testing.assert_array_equal(found.have_entries(on_disk), in_memory.have_entries(values))


@pytest.mark.usefixtures("small_pieces")
def test_components_of_a_large_table_agree_with_those_in_memory(monkeypatch):
    random = np.random.default_rng(0)
    latents = random.standard_normal((2000, 2)) * [1.0, 0.6]
    latents = latents[latents[:, 0].argsort()]  # a piece is like no other
    table = random.poisson(np.exp(0.5 * latents @ random.standard_normal((2, 80)))).astype(float)
    sources = [RowSource(X, None, None, LIKE) for X in (table, checked(Sliced(sp.csr_array(table))))]
    monkeypatch.setattr(components, "_SAMPLED_ENTRIES", 20_000)
    exact, found = (principal_projection(source, True, 2)(source) for source in sources)
    assert np.abs(np.diag(np.corrcoef(exact.T, found.T)[:2, 2:])).min() > 0.9999
    np.testing.assert_allclose(found.var(0), exact.var(0), rtol=1e-3)
