"""Pseudo-inputs: the rows that a prior with components of its own starts from, on the encoder's scale."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.sparse import csr_array
from sklearn.cluster import KMeans
from sklearn.random_projection import GaussianRandomProjection
from sklearn.utils import check_random_state
from torch import Tensor

from ..nn.rows import DenseRows
from ..table.source import RowSource

#: rows for each centre that k-means is given
_ROWS_PER_CENTER = 20
#: steps of k-means: centres need to be spread, not optimal
_STEPS = 10
#: random projections of rows in which centres are looked for
_PROJECTIONS = 100
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
    values = rows.cpu().numpy()
    if len({row.tobytes() for row in values}) <= n:
        distinct = torch.unique(rows, dim=0)
        return distinct[torch.arange(n) % len(distinct)]
    places = values
    if values.shape[1] > _PROJECTIONS:  # which keep distances, roughly, and make them cheap
        places = GaussianRandomProjection(_PROJECTIONS, random_state=random).fit_transform(values)
    search = KMeans(n, init="random", n_init=1, max_iter=_STEPS, random_state=random)
    label = search.fit(places, sample_weight=some.context.weight).labels_
    weight = np.ones(len(values)) if some.context.weight is None else some.context.weight
    members = csr_array((weight, (label, np.arange(len(label)))), shape=(n, len(label)), dtype=values.dtype)
    totals = members.sum(1)[:, None]
    used = totals[:, 0] > 0
    centers = members[used] @ values / totals[used]
    return torch.from_numpy(centers[np.arange(n) % len(centers)]).to(rows)


def _noise(source: RowSource, inputs: Inputs, n: int, random: np.random.RandomState) -> Tensor:
    some = _some_rows(source, n, random)
    rows = _seen(some, inputs)
    noise = torch.from_numpy(random.standard_normal((n, rows.shape[1]))).to(rows)
    mean, sd = some.moments(rows)
    return mean + sd * noise


#: how -> rows: k-means centres, random rows, or noise with each column's mean and standard deviation
STARTS = {"kmeans": _centers, "data": _of_the_data, "random": _noise}
