"""Pseudo-inputs: the rows that a prior with components of its own starts from, on the encoder's scale."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.utils import check_random_state
from torch import Tensor

from ..nn.rows import DenseRows
from ..table.source import RowSource

#: rows for each centre that k-means is given
_ROWS_PER_CENTER = 20
#: steps of k-means: centres need to be spread, not optimal
_STEPS = 10
#: most entries of the rows that are looked at, unless one row for each centre has more: they are held as a dense array
_MOST_ENTRIES = 20_000_000

#: from rows to what the encoder sees of them
Inputs = Callable[[DenseRows], Tensor]


def starting_inputs(source: RowSource, inputs: Inputs, n: int, how: str, seed: int) -> Tensor:
    """``n`` rows on the scale to which ``inputs`` brings rows, (n, D): see :data:`STARTS`."""
    return STARTS[how](source, inputs, n, check_random_state(seed))


def _of_the_data(source: RowSource, inputs: Inputs, n: int, random: np.random.RandomState) -> Tensor:
    index = np.sort(random.permutation(len(source))[:n])
    return torch.cat([inputs(rows.dense()) for _, rows in source.take(index).chunks(width=source.n_features)])


def _some_rows(source: RowSource, inputs: Inputs, n: int, random: np.random.RandomState) -> Tensor:
    wanted = min(n * _ROWS_PER_CENTER, max(n, _MOST_ENTRIES // source.n_features))
    return _of_the_data(source, inputs, min(len(source), wanted), random)


def _centers(source: RowSource, inputs: Inputs, n: int, random: np.random.RandomState) -> Tensor:
    rows = _some_rows(source, inputs, n, random)
    distinct = torch.unique(rows, dim=0)
    if len(distinct) <= n:
        return distinct[torch.arange(n) % len(distinct)]
    search = KMeans(n, init="random", n_init=1, max_iter=_STEPS, random_state=random)
    return torch.from_numpy(search.fit(rows.cpu().numpy()).cluster_centers_).to(rows)


def _noise(source: RowSource, inputs: Inputs, n: int, random: np.random.RandomState) -> Tensor:
    rows = _some_rows(source, inputs, n, random)
    noise = torch.from_numpy(random.standard_normal((n, source.n_features))).to(rows)
    return rows.mean(0) + rows.std(0, correction=0) * noise


#: how -> rows: k-means centres, random rows, or noise with each column's mean and standard deviation
STARTS = {"kmeans": _centers, "data": _of_the_data, "random": _noise}
