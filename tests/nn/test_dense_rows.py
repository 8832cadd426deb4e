"""Some of the rows, by their entries or by the tensor of all, are the same rows."""

import pytest
import torch

from skdevae.nn.row_context import RowContext
from skdevae.nn.rows import DenseRows, weighted_sums

B, D = 7, 5
INDICES = {
    "numbers": torch.tensor([6, 0, 0, 3]),
    "mask": torch.arange(B) % 3 == 1,
    "slice": slice(2, 6),
    "beyond": slice(5, 99),
    "none": torch.zeros(0, dtype=torch.long),
    "empty slice": slice(3, 3),
}


def _pair():
    generator = torch.Generator().manual_seed(0)
    values = torch.poisson(torch.full((B, D), 0.6, dtype=torch.float64), generator=generator)
    values[3] = 0
    context = RowContext(log_size=torch.arange(B, dtype=torch.float64), component=torch.arange(B))
    dense = DenseRows(values, None, context)
    return dense, DenseRows.of_entries(dense.nonzero(), (B, D), context)


def _assert_same(one, other):
    assert len(one) == len(other)
    for mine, theirs in zip(one.nonzero(), other.nonzero(), strict=True):
        assert torch.equal(mine, theirs)
    assert torch.equal(one.values, other.values)
    assert torch.equal(one.context.log_size, other.context.log_size)
    assert torch.equal(one.context.component, other.context.component)


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
def test_entries_of_some_rows_are_those_of_their_tensor(index):
    dense, sparse = _pair()
    _assert_same(sparse.take(index), dense.take(index))
    twice = torch.tensor([3, 1, 5, 1])
    _assert_same(sparse.take(twice).take(slice(1, 3)), dense.take(twice).take(slice(1, 3)))


def test_another_precision_has_the_same_counts():
    for rows in _pair():
        single = rows.to(torch.float32)
        assert single.values.dtype == single.context.log_size.dtype == torch.float32
        assert single.context.component.dtype == torch.long
        _assert_same(single.to(torch.float64), rows)


@pytest.mark.parametrize("n_points", [2, 9])
def test_sums_weighted_by_points_are_matrix_products(n_points):
    generator = torch.Generator().manual_seed(0)
    q = torch.rand(B, n_points, generator=generator, dtype=torch.float64)
    values = torch.randn(B, D, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(weighted_sums(q, values), torch.einsum("bp,bd->pd", q, values))
