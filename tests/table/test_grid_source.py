"""Chunks of rows for sums over a grid: as long as a cache is large, no shorter than pays, and no longer than memory."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from skdevae.table.grid_source import GridSource
from skdevae.table.source import RowSource

N = 500
MODEL = SimpleNamespace(adjusted=lambda rows: rows)


@pytest.mark.parametrize("n_points, longest", [(1, N), (1000, 2**18 // 1000), (6000, 64), (10**6, 2)])
def test_arrays_beside_a_grid_stay_in_the_cache(n_points, longest):
    table = np.random.default_rng(0).normal(size=(N, 3))
    source = RowSource(table, None, None, torch.zeros((), dtype=torch.float64))
    chunks = list(GridSource(source, MODEL).chunks(n_points))
    assert max(len(rows) for _, rows in chunks) == longest
    again = torch.cat([rows.values for _, rows in chunks])
    np.testing.assert_array_equal(again.numpy(), table)
