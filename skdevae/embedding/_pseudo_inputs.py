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
    if source.context.weight is None:
        index = random.permutation(len(source))[:n]
    else:
        shares = source.weights / source.total_weight
        index = random.choice(len(source), min(n, len(source)), replace=False, p=shares)
    return _seen(source.take(np.sort(index)), inputs)


def _some_rows(source: RowSource, n: int, random: np.random.RandomState) -> RowSource:
    wanted = min(n * _ROWS_PER_CENTER, max(n, _MOST_ENTRIES // source.n_features))
    return source.take(np.sort(random.permutation(len(source))[:wanted]))


def _seen(source: RowSource, inputs: Inputs) -> Tensor:
    return torch.cat([inputs(rows.dense()) for _, rows in source.chunks(width=source.n_features)])


def _centers(source: RowSource, inputs: Inputs, n: int, random: np.random.RandomState) -> Tensor:
    some = _some_rows(source, n, random)
    rows = _seen(some, inputs)
    distinct = torch.unique(rows, dim=0)
    if len(distinct) <= n:
        return distinct[torch.arange(n) % len(distinct)]
    search = KMeans(n, init="random", n_init=1, max_iter=_STEPS, random_state=random)
    search.fit(rows.cpu().numpy(), sample_weight=some.context.weight)
    return torch.from_numpy(search.cluster_centers_).to(rows)


def _noise(source: RowSource, inputs: Inputs, n: int, random: np.random.RandomState) -> Tensor:
    some = _some_rows(source, n, random)
    rows = _seen(some, inputs)
    noise = torch.from_numpy(random.standard_normal((n, rows.shape[1]))).to(rows)
    mean, sd = some.moments(rows)
    return mean + sd * noise


#: how -> rows: k-means centres, random rows, or noise with each column's mean and standard deviation
STARTS = {"kmeans": _centers, "data": _of_the_data, "random": _noise}
