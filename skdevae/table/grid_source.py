"""Grid sources: the rows of a table as grids of the latent see them that all rows share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from ..nn.models import GenerativeModel
from ..nn.rows import Rows
from .source import RowSource

#: entries of a chunk of counts that becomes dense on a device other than the CPU: 160 MB in float64
_ENTRIES_ON_DEVICE = 20_000_000
#: entries of a (rows, grid points) array that stays in the cache of a CPU: 2 MiB in float64. Sums over a grid go over
#: such arrays ten times.
_ENTRIES_IN_CACHE = 2**18
#: rows of a chunk below which what a chunk costs beside its arrays counts
_FEWEST_ROWS = 64


def designs_of(source: RowSource) -> np.ndarray | None:
    """The distinct designs of the rows' covariates, (L, C); None where they have none."""
    covariates = source.context.covariates
    return None if covariates is None else np.unique(covariates, axis=0)


@contextmanager
def in_strata_of(model: GenerativeModel, *sources: RowSource) -> Iterator[None]:
    """While it lasts, coefficients on grids are those of the strata of some tables' rows, where a model has any."""
    designs = [found for found in map(designs_of, sources) if found is not None]
    if not model.has_strata or not designs or model.strata is not None:
        yield
        return
    distinct = np.unique(np.concatenate(designs), axis=0)
    with model.in_strata(torch.from_numpy(distinct).to(sources[0].like)):
        yield


class GridSource:
    """Rows for which a model has the same coefficients at the same place on a grid.

    What rows carry beside their entries is part of them then: sizes weight their sums, and the effects of covariates
    are subtracted from measurements, or put rows into strata.

    On a device other than the CPU, counts that are stored sparse become dense, a chunk at a time: scipy's products are
    made on the CPU, and the device would wait for them.

    Parameters
    ----------
    source : RowSource
    model : GenerativeModel
    """

    def __init__(self, source: RowSource, model: GenerativeModel):
        self._source, self._model = source, model
        self._fills_in = source.is_sparse and source.like.device.type != "cpu"

    def __len__(self) -> int:
        return len(self._source)

    @property
    def like(self) -> Tensor:
        """See :class:`~skdevae.table.source.RowSource`."""
        return self._source.like

    @property
    def n_features(self) -> int:
        """See :class:`~skdevae.table.source.RowSource`."""
        return self._source.n_features

    def rows(self, index: slice | np.ndarray) -> Rows:
        """Some rows."""
        return self._seen(self._source.rows(index))

    def chunks(self, width: int = 0) -> Iterator[tuple[slice, Rows]]:
        """All rows in order: see :meth:`~skdevae.table.source.RowSource.chunks`."""
        most_rows = None
        if self._fills_in:
            most_rows = max(1, _ENTRIES_ON_DEVICE // self.n_features)
        elif self.like.device.type == "cpu":
            most_rows = max(_FEWEST_ROWS, _ENTRIES_IN_CACHE // max(width, 1))
        for index, rows in self._source.chunks(width, most_rows):
            yield index, self._seen(rows)

    def _seen(self, rows: Rows) -> Rows:
        return self._model.adjusted(rows.dense() if self._fills_in else rows)
