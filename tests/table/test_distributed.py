"""Distributed tables: rows are where Dask has them, and everything else is as if they were here."""

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from numpy.testing import assert_allclose, assert_array_equal

from skdevae import DeVAETransformer
from skdevae.table import components, passes
from skdevae.table.dask_tables import is_dask, is_dask_table
from skdevae.table.distributed import DistributedTable
from skdevae.table.extremes import Extremes
from skdevae.table.source import RowSource

N, D = 61, 5
DENSE = np.random.default_rng(0).normal(size=(N, D))
COUNTS = np.random.default_rng(1).poisson(0.7, size=(N, D)).astype(float)


@pytest.fixture(autouse=True)
def in_this_process():
    with dask.config.set(scheduler="synchronous"):
        yield


def delayed_chunks(X, sizes=(20, 1, 0, 30, 10)):
    ends = np.cumsum(sizes)
    return [dask.delayed(X[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


def names(X):
    return pd.DataFrame(X).add_prefix("f")


TABLES = {
    "array": (lambda: da.from_array(DENSE, chunks=(17, -1)), DENSE),
    "single precision": (lambda: da.from_array(DENSE.astype(np.float32), chunks=(17, -1)), DENSE.astype(np.float32)),
    "whole numbers": (lambda: da.from_array(COUNTS.astype(int), chunks=(17, -1)), COUNTS),
    "frame": (lambda: dd.from_pandas(names(DENSE), npartitions=3), DENSE),
    "delayed": (lambda: delayed_chunks(DENSE), DENSE),
    "delayed frames": (lambda: delayed_chunks(names(DENSE)), DENSE),
    "delayed sparse": (lambda: delayed_chunks(sp.csr_array(COUNTS)), COUNTS),
    "masked entries": (
        lambda: delayed_chunks(np.ma.masked_where(DENSE > 1, DENSE)),
        np.where(DENSE > 1, np.nan, DENSE),
    ),
    "masked whole numbers": (
        lambda: delayed_chunks(np.ma.masked_where(COUNTS > 2, COUNTS.astype(int))),
        np.where(COUNTS > 2, np.nan, COUNTS),
    ),
    "an empty frame first": (
        lambda: [dask.delayed(pd.DataFrame(columns=names(DENSE).columns)), *delayed_chunks(names(DENSE))],
        DENSE,
    ),
}
ROWS = {
    "slice": slice(7, 40),
    "numbers in order": np.array([0, 3, 19, 20, 21, 50, 60]),
    "numbers in any order, some twice": np.array([50, 3, 3, 60, 0, 21]),
    "mask": np.arange(N) % 3 == 0,
}


def dense(block):
    return block.toarray() if sp.issparse(block) else block


@pytest.fixture(params=TABLES)
def pair(request):
    make, expected = TABLES[request.param]
    table = DistributedTable.of_dask(make())
    table.check(lambda block, first_row: None)
    return table, expected


def test_rows_are_those_of_the_chunks(pair):
    table, expected = pair
    assert table.shape == expected.shape
    assert table.dtype == expected.dtype
    assert table.is_sparse == sp.issparse(table[:2])
    assert_array_equal(dense(table[:]), expected)


@pytest.mark.parametrize("rows", ROWS)
def test_views_are_parts_of_the_table(pair, rows):
    table, expected = pair
    columns = np.array([3, 1])
    view = table.take(ROWS[rows]).of_columns(columns)
    assert_array_equal(dense(view[:]), expected[ROWS[rows]][:, columns])


@pytest.mark.parametrize("rows", ROWS)
def test_functions_of_rows_are_what_they_are_in_memory(pair, rows):
    table, expected = pair
    view, values = table.take(ROWS[rows]), expected[ROWS[rows]]
    weights = np.arange(1.0, 1 + len(values))

    def weighted_sum(block, w):
        return w @ dense(block)

    def of_rows(block, w):
        return w[:, None] * dense(block)

    assert_allclose(passes.summed(view, weighted_sum, weights), weights @ values, rtol=1e-6)
    assert_allclose(passes.gathered(view, of_rows, weights), weights[:, None] * values, rtol=1e-6)
    in_parts = passes.mapped(view, weighted_sum, weights)
    assert_allclose(sum(part for _, part in in_parts), passes.summed(values, weighted_sum, weights), rtol=1e-6)


def test_sums_of_many_chunks_are_added_in_a_tree_and_in_order():
    table = DistributedTable.of_dask(da.from_array(DENSE, chunks=(2, -1)))
    found = table.summed(lambda block: [float(block[0, 0])])  # lists add up by standing one after another
    assert found == DENSE[::2, 0].tolist()


def test_empty_chunks_do_not_change_the_types_of_columns_that_condition():
    frame = names(DENSE).assign(site=pd.Categorical(np.where(DENSE[:, 0] > 0, "a", "b")))
    table = DistributedTable.of_dask([dask.delayed(pd.DataFrame(columns=frame.columns)), *delayed_chunks(frame)])
    modelled, others = table.split(np.arange(D), np.array([D]))
    pd.testing.assert_frame_equal(others, frame[["site"]])
    assert_array_equal(modelled[:], DENSE)


def test_extremes_add_up():
    X = np.where(np.random.default_rng(2).random((N, D)) < 0.3, np.nan, DENSE)
    X[:40, 0] = np.nan  # the first part has no entry
    X[:40, 1] = X[40:, 2] = 0.5  # in one part there is one value, and in the other there are many
    parts = Extremes.of([X[:40]], D) + Extremes.of([X[40:]], D)
    assert_array_equal(parts.lowest, np.nanmin(X, axis=0))
    assert_array_equal(parts.highest, np.nanmax(X, axis=0))
    assert_array_equal(parts.n_observed, (~np.isnan(X)).sum(0))


def test_a_check_sees_every_row_once_and_knows_its_number():
    table = DistributedTable.of_dask(da.from_array(DENSE, chunks=(17, -1)))
    seen = []
    table.check(lambda block, first_row: seen.append((first_row, len(block))))
    assert sorted(seen) == [(0, 17), (17, 17), (34, 17), (51, 10)]


def test_sparse_chunks_are_put_into_canonical_form():
    twice = sp.csr_array((np.ones(3), np.array([1, 1, 0]), np.array([0, 3])), shape=(1, D))  # 2 in column 1, unsorted
    table = DistributedTable.of_dask([dask.delayed(twice), dask.delayed(sp.csr_array(COUNTS))])
    table.check(lambda block, first_row: None)
    assert_array_equal(dense(table[:1]), [[1, 2, 0, 0, 0]])
    assert table.n_stored == 2 + np.count_nonzero(COUNTS)
    [(_, rows)] = [part for part in table.mapped(lambda block: block) if part[0].start == 0]
    assert rows.has_canonical_format


def test_errors_of_a_function_are_its_own():
    table = DistributedTable.of_dask(da.from_array(DENSE, chunks=(17, -1)))

    def fails(block):
        raise LookupError("nothing there")

    with pytest.raises(LookupError, match="nothing there"):
        table.mapped(fails)
    with pytest.raises(LookupError, match="nothing there"):
        table.summed(fails)


def test_a_function_may_remember_things_though_workers_share_it():
    class Counter:
        n = 0

        def __call__(self, block):
            self.n += 1
            return self.n

    table = DistributedTable.of_dask(da.from_array(DENSE, chunks=(17, -1)))
    assert [n for _, n in table.mapped(Counter())] == [1, 1, 1, 1]


def raises():
    raise OSError("disk gone")


def odd(chunk, *, dtype=float):
    """A table whose second chunk is an odd one."""
    return da.concatenate(
        [da.from_array(DENSE, chunks=(30, -1))[:30], da.from_delayed(dask.delayed(chunk)(), (31, D), dtype=dtype)]
    )


WRONG = {
    "of unknown size": (
        lambda: (lambda X: X[X[:, 0] > 0])(da.from_array(DENSE, chunks=(17, -1))),
        r"4 of 4 chunks of X have an unknown number of rows \(the first is chunk 0\). Call X.compute_chunk_sizes",
    ),
    "columns in chunks": (
        lambda: da.from_array(DENSE, chunks=(17, 2)),
        r"3 chunks of columns .* X.rechunk\(\{1: -1\}\)",
    ),
    "a chunk that raises": (lambda: odd(raises), "chunk 1 of X cannot be computed: OSError: disk gone"),
    "a chunk with other columns": (
        lambda: odd(lambda: DENSE[30:, :2]),
        "chunk 1 of X has 2 columns, but chunk 0 has 5",
    ),
    "a chunk with other rows": (
        lambda: odd(lambda: DENSE[:4]),
        "chunk 1 of X should have 31 rows by X.chunks, but has 4",
    ),
    "infinity": (
        lambda: da.from_array(np.where(np.arange(N)[:, None] == 40, np.inf, DENSE), chunks=(17, -1)),
        r"chunk 2 of X \(rows 34 to 50\): Input X contains infinity.*the first in row 40",
    ),
    "one dimension": (lambda: da.from_array(DENSE[:, 0]), "Expected 2D array, got 1D array"),
    "no rows": (lambda: da.from_array(DENSE[:0], chunks=(1, -1)), "0 sample"),
    "a delayed table": (lambda: dask.delayed(DENSE), "no table. Pass a dask.array of two dimensions"),
    "a series": (lambda: dd.from_pandas(names(DENSE)["f0"], npartitions=2), r"chunk 0 of X has shape \(31,\)"),
    "a list of arrays": (
        lambda: [da.ones((5, 5))],
        "chunk 0 of X is a Array of Dask. A list of chunks holds delayed ones",
    ),
    "a chunk in memory": (
        lambda: [DENSE, dask.delayed(DENSE)],
        r"chunk 0 of X is in memory \(a ndarray\), but others are of Dask",
    ),
    "types of chunks": (
        lambda: [dask.delayed(DENSE), dask.delayed(np.full((2, D), "2020-02-02", dtype="datetime64[ns]"))],
        r"types that do not go together: datetime64\[ns\], float64",
    ),
    "kinds of chunks": (
        lambda: [dask.delayed(sp.csr_array(COUNTS)), dask.delayed(COUNTS)],
        "chunk 1 of X is a dense array, but chunk 0 is sparse",
    ),
    "columns in another order": (
        lambda: [dask.delayed(names(DENSE)), dask.delayed(names(DENSE)[["f1", "f0", "f2", "f3", "f4"]])],
        "chunk 1 of X has other columns than chunk 0, or has them in another order",
    ),
    "text": (
        lambda: dd.from_pandas(names(DENSE).assign(site="a"), npartitions=2),
        "column 'site' of X holds no numbers, .* name it in covariates",
    ),
    "dates": (
        lambda: dd.from_pandas(names(DENSE).assign(day=pd.Timestamp("2020-02-02")), npartitions=2),
        "column 'day' of X holds dates or times",
    ),
    "dates in one chunk": (
        lambda: [dask.delayed(names(DENSE)), dask.delayed(names(DENSE).assign(f1=pd.Timestamp("2020-02-02")))],
        "column 'f1' of X in chunk 1 holds dates or times",
    ),
    "complex numbers in one chunk": (
        lambda: [dask.delayed(names(DENSE)), dask.delayed(names(DENSE + 1j))],
        "column 'f0' of X in chunk 1 holds complex numbers",
    ),
    "columns of one name": (
        lambda: dd.from_pandas(pd.DataFrame(DENSE, columns=list("aabcd")), npartitions=2),
        "X has several columns named 'a'",
    ),
    "complex numbers": (lambda: da.from_array(DENSE + 1j, chunks=(17, -1)), "X holds complex numbers"),
}


@pytest.mark.parametrize("what", WRONG)
def test_errors_say_which_chunk_and_what_to_do(what):
    make, message = WRONG[what]
    with pytest.raises(ValueError, match=message):
        DeVAETransformer().fit(make())


def test_components_of_a_large_table_are_those_of_one_in_memory(monkeypatch):
    """Of tables on disk they are looked for in a sample of the rows, where these are large."""
    monkeypatch.setattr(components, "_SAMPLED_ENTRIES", 500)
    X = np.random.default_rng(3).normal(size=(N, 70)) * np.linspace(2, 1, 70)  # too wide to form covariances
    like = torch.zeros((), dtype=torch.float64)
    tables = (DistributedTable.of_dask(da.from_array(X, chunks=(17, -1))), X)
    there, here = (components.principal_components(RowSource(X, None, None, like), False, 2) for X in tables)
    assert_allclose(there, here, atol=1e-9)


def test_no_chunk_is_blamed_where_dask_itself_does_not_work():
    def broken(*_, **__):
        raise OSError("no connection")

    with (
        dask.config.set(scheduler=broken),
        pytest.raises(RuntimeError, match=r"Dask can compute nothing at present \(OSError: no connection\)"),
    ):
        DeVAETransformer().fit(da.from_array(DENSE, chunks=(17, -1)))


def test_what_counts_as_a_table_of_dask():
    assert is_dask_table(da.ones((2, 2)))
    assert is_dask_table([dask.delayed(DENSE)])
    assert is_dask_table([DENSE, dask.delayed(DENSE)])  # an error says what is wrong with it
    assert is_dask(dask.delayed(1))
    assert not any(map(is_dask_table, [DENSE, names(DENSE), [], [DENSE], [[1.0, 2.0]], "dask"]))
