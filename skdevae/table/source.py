"""Row sources: one interface to the rows of a table, whether it is dense, sparse or memory-mapped.

A :class:`RowSource` hands out some rows at a time, as :class:`DenseRows` or :class:`SparseRows`. Nothing else in the
package knows how the table is stored. No source holds a second copy of a large table, or a dense one of a sparse table.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, TypeVar, cast

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.utils import gen_batches
from torch import Tensor

from ..nn.linear_tables import LinearTables
from ..nn.row_context import EMPTY, RowContext
from ..nn.rows import DenseRows, mass_of, weighted_zero
from .distributed import DistributedTable, Placed
from .extremes import Extremes
from .passes import joined, of_rows
from .stored import StoredTable, is_sparse, some_rows
from .units import Bounds

T = TypeVar("T")

#: entries of a (rows, grid points) array that one chunk may hold: 16 MiB in float64
_CHUNK_ENTRIES = 2_000_000
#: entries of a densified or rescaled chunk of rows, and stored ones of a sparse chunk
_DENSE_ENTRIES = 2_000_000
#: stored entries above which a table counts as large
_LARGE_TABLE = 2_000_000


class SparseRows:
    """Rows of counts as a scipy CSR matrix; the products are scipy's.

    Parameters
    ----------
    values : CSR array of shape (B, M)
    like : Tensor
        Its dtype and device are what results come in.
    context : RowContext
        What the rows carry beside their entries.
    size : Tensor of shape (B,), default=None
        See :class:`~skdevae.nn.rows.Rows`.
    columns : ndarray of shape (D,), default=None
        Numbers of the columns of ``values`` that are read; None reads all. Products treat the others as zeros: that
        costs less than a copy of the entries without them.
    """

    def __init__(
        self,
        values: sp.csr_array,
        like: Tensor,
        context: RowContext[Tensor] = EMPTY,
        size: Tensor | None = None,
        columns: np.ndarray | None = None,
    ):
        self._stored = values
        self._columns = columns
        self.observed: Tensor | None = None
        self.context = context
        self.size = size
        self._like = like

    def __len__(self) -> int:
        return self._stored.shape[0]

    @property
    def values(self) -> sp.csr_array:
        """The entries of the columns that are read, (B, D)."""
        return self._stored if self._columns is None else self._stored[:, self._columns]

    def log_likelihood(self, tables: LinearTables) -> Tensor:
        """See :class:`~skdevae.nn.rows.Rows`."""
        total = self._tensor(self._stored @ self._by_column(tables.slope))
        total += weighted_zero(tables.zero, None, self.size)
        if tables.positive is not None:
            total += self._tensor(self._positive() @ self._by_column(tables.positive))
        return total

    def expectations(self, q: Tensor, with_positive: bool) -> tuple[Tensor, Tensor | None, Tensor]:
        """See :class:`~skdevae.nn.rows.Rows`."""
        weights = self._array(q)
        weighted = self._sums(self._stored, weights)
        positive = self._sums(self._positive(), weights) if with_positive else None
        return weighted, positive, mass_of(q, None, self.size)

    def take(self, index: Tensor) -> SparseRows:
        """See :class:`~skdevae.nn.rows.Rows`."""
        size = None if self.size is None else self.size[index]
        some = self._stored[index.cpu().numpy()]
        return SparseRows(some, self._like, self.context.take(index), size, self._columns)

    def sized(self, size: Tensor | None) -> SparseRows:
        """See :class:`~skdevae.nn.rows.Rows`."""
        return SparseRows(self._stored, self._like, self.context, size, self._columns)

    def of_columns(self, columns: Tensor) -> SparseRows:
        """See :class:`~skdevae.nn.rows.Rows`."""
        numbers = columns.cpu().numpy()
        numbers = numbers if self._columns is None else self._columns[numbers]
        return SparseRows(self._stored[:, numbers], self._like, self.context, self.size)

    def dense(self) -> DenseRows:
        """These rows as a dense tensor."""
        n_read = self._stored.shape[1] if self._columns is None else len(self._columns)
        return DenseRows.of_entries(self.nonzero(), (len(self), n_read), self.context, self.size)

    def nonzero(self) -> tuple[Tensor, Tensor, Tensor]:
        """See :class:`~skdevae.nn.rows.Rows`."""
        entries = self.values.tocoo()
        row, column = (torch.from_numpy(i.astype(np.int64)).to(self._like.device) for i in (entries.row, entries.col))
        return row, column, self._tensor(entries.data)

    def _positive(self) -> sp.csr_array:
        stored = self._stored
        return sp.csr_array((np.ones_like(stored.data), stored.indices, stored.indptr), shape=stored.shape)

    def _by_column(self, table: Tensor) -> np.ndarray:
        """Coefficients (P, D) with a row for every stored column, zeros for those that are not read: (M, P)."""
        if self._columns is None:
            return self._array(table.T)
        padded = np.zeros((self._stored.shape[1], len(table)), dtype=self._stored.dtype)
        padded[self._columns] = table.T.cpu().numpy()
        return padded

    def _sums(self, entries: sp.csr_array, weights: np.ndarray) -> Tensor:
        """Sums over rows of the entries that are read, with weights (B, P): (P, D)."""
        sums = entries.T @ weights
        return self._tensor((sums if self._columns is None else sums[self._columns]).T)

    def _array(self, tensor: Tensor) -> np.ndarray:
        return np.ascontiguousarray(tensor.cpu().numpy(), dtype=self._stored.dtype)

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._like)


@dataclass(frozen=True)
class RowSource:
    """A table read by rows, in the model's units.

    Parameters
    ----------
    table : ndarray (a memory map included), CSR array or StoredTable of shape (n_samples, n_features)
        NaN marks missing entries, in dense tables.
    center, scale : ndarray of shape (n_features,), or None
        What a dense table's entries are standardised with as they are read.
    like : Tensor
        Its dtype and device are what rows come in.
    context : RowContext of arrays
        What rows carry beside their entries.
    divides_sizes : bool, default=False
        Whether rows come divided by their size factors.
    columns : ndarray of shape (n_features,), default=None
        Numbers of the columns of the table that are read; None reads all.
    bounds : pair of ndarrays of shape (n_features,), default=None
        Least and largest value with which each column is read, on the scale of the table.
    effects : ndarray of shape (C, n_features), default=None
        Effects of covariates that are taken away from rows as they are read: subtracted from measurements, and divided
        out of counts on a log scale.
    design : ndarray of shape (N, C), default=None
        What effects are multiplied by.
    """

    table: np.ndarray | sp.csr_array | StoredTable
    center: np.ndarray | None
    scale: np.ndarray | None
    like: Tensor
    context: RowContext[np.ndarray] = EMPTY
    divides_sizes: bool = False
    columns: np.ndarray | None = None
    bounds: Bounds | None = None
    effects: np.ndarray | None = None
    design: np.ndarray | None = None

    def __len__(self) -> int:
        return self.table.shape[0]

    @property
    def n_features(self) -> int:
        """Columns that are read."""
        return self.table.shape[1] if self.columns is None else len(self.columns)

    @property
    def weights(self) -> np.ndarray:
        """How often each row counts, (N,): once where nothing else is said."""
        return np.ones(len(self)) if self.context.weight is None else self.context.weight

    @property
    def total_weight(self) -> float:
        """How many rows there are, each counted as often as its weight says."""
        return float(len(self) if self.context.weight is None else self.context.weight.sum())

    def mean(self, values: Tensor) -> Tensor:
        """Mean of values (N, ...) of the rows, each counted as often as its weight says: (...)."""
        if self.context.weight is None:
            return values.mean(0)
        weight = torch.from_numpy(self.context.weight).to(values)
        return torch.tensordot(weight, values, 1) / weight.sum()

    def moments(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of values (N, ...) of the rows, by weight: (...) each."""
        mean = self.mean(values)
        if self.context.weight is None:
            return mean, values.std(0, correction=0)
        return mean, self.mean((values - mean).square()).sqrt()

    def with_relative_weights(self) -> RowSource:
        """The source with weights of mean one, so that a batch's plain mean is on average the mean over all rows."""
        if self.context.weight is None:
            return self
        return replace(self, context=self.context.replaced(weight=self.weights * (len(self) / self.total_weight)))

    @property
    def n_stored(self) -> int:
        """Entries that a pass over the table touches."""
        if isinstance(self.table, StoredTable):
            return self.table.n_stored
        return int(np.size(self.table.data if sp.issparse(self.table) else self.table))

    @property
    def is_stored(self) -> bool:
        """Whether rows are read from outside of memory, so that it is costly to read them in any order but theirs."""
        return isinstance(self.table, StoredTable)

    @property
    def is_large(self) -> bool:
        """Whether reading the table, not moving the curves, is what an epoch of exact inference costs."""
        return self.n_stored > _LARGE_TABLE

    @property
    def is_sparse(self) -> bool:
        """Whether rows come as :class:`SparseRows`."""
        return is_sparse(self.table)

    def rows(self, index: slice | np.ndarray) -> DenseRows | SparseRows:
        """Some rows."""
        carried, factor = self.context.take(index), None
        if self.divides_sizes and carried.log_size is not None:
            factor = np.exp(-carried.log_size)
            carried = carried.replaced(log_size=None)
        context = carried.tensors(self.like)
        if self.is_sparse:
            dtype = np.float32 if self.like.dtype == torch.float32 else np.float64
            values = sp.csr_array(self._read(index), dtype=dtype)
            if factor is not None:
                values.data *= np.repeat(factor, np.diff(values.indptr)).astype(dtype)
            if self.effects is not None and self.design is not None:
                values.data *= _shares_left(values, self.design[index], self._over_columns(self.effects, 0.0)).astype(
                    dtype
                )
            return SparseRows(values, self.like, context, columns=self.columns)
        block = np.array(self._read(index), dtype=np.float64, order="C")
        if self.center is not None and self.scale is not None:
            block -= self.center
            block /= self.scale
        if factor is not None:
            block *= factor[:, None]
        if self.effects is not None and self.design is not None:
            offsets = self.design[index] @ self.effects
            block = block - offsets if self.center is not None else block * np.exp(-offsets)
        missing = np.isnan(block)
        observed = None
        if missing.any():
            block[missing] = 0
            observed = torch.from_numpy(~missing).to(self.like)
        return DenseRows(torch.from_numpy(block).to(self.like), observed, context)

    @cached_property
    def _every_row(self) -> DenseRows | SparseRows:
        """All rows of a small table, which every epoch reads: made once."""
        return self.rows(slice(0, len(self)))

    def _read(self, index: slice | np.ndarray) -> np.ndarray | sp.csr_array:
        """Some rows, on the scale of the table. Sparse ones have all of its columns, read or not."""
        block = self.table[index]
        if isinstance(block, np.ndarray):
            block = block if self.columns is None else block[:, self.columns]
            return block if self.bounds is None else np.clip(block, *self.bounds)
        if self.bounds is None:
            return block
        highest = self._over_columns(self.bounds[1], np.inf)
        data = np.minimum(block.data, highest[block.indices])
        return sp.csr_array((data, block.indices, block.indptr), shape=block.shape)

    def _over_columns(self, values: np.ndarray, others: float) -> np.ndarray:
        """Values (..., D) of the columns that are read as those of all columns of the table, with one of the others."""
        if self.columns is None:
            return values
        whole = np.full((*values.shape[:-1], self.table.shape[1]), others)
        whole[..., self.columns] = values
        return whole

    def varying_columns(self) -> np.ndarray:
        """Which columns have two different values, at least: (D,) of booleans."""
        vary = self.summed(RowSource._extremes).vary
        return vary if self.columns is None or not self.is_sparse else vary[self.columns]

    def _extremes(self) -> Extremes:
        indices = gen_batches(len(self), max(1, _DENSE_ENTRIES // self.n_features))
        n_read = self.table.shape[1] if self.is_sparse else self.n_features
        return Extremes.of((self._read(index) for index in indices), n_read)

    def to(self, dtype: torch.dtype) -> RowSource:
        """The same source with rows of another dtype."""
        return replace(self, like=self.like.to(dtype))

    def take(self, index: np.ndarray | slice) -> RowSource:
        """The source of a subset of the rows."""
        design = None if self.design is None else self.design[index]
        return replace(self, table=some_rows(self.table, index), context=self.context.take(index), design=design)

    @property
    def is_distributed(self) -> bool:
        """Whether functions of rows are evaluated on the workers of a cluster. Their devices are processors."""
        return isinstance(self.table, DistributedTable) and self.like.device.type == "cpu"

    def mapped(self, function: Callable[..., T], *by_row: Any) -> list[tuple[Any, T]]:
        """What a function gives of sources of parts of the rows, with the numbers of each part's rows.

        Rows that are distributed stay where they are, and the function is sent to them. Of others there is one part.

        Parameters
        ----------
        function : callable
            Of a source, and what ``by_row`` has of its rows. Gradients are off.
        *by_row : arrays or tensors (N, ...), or None
        """
        if self.is_distributed:
            return cast(DistributedTable, self.table).mapped(self._of_part(function), of_rows(by_row), self._placed)
        with torch.no_grad():
            return [(slice(0, len(self)), function(self, *by_row))]

    def summed(self, function: Callable[..., T], *by_row: Any, add: Callable[[T, T], T] = operator.add) -> T:
        """The sum over parts of the rows of what a function gives: see :meth:`mapped`."""
        if self.is_distributed:
            return cast(DistributedTable, self.table).summed(
                self._of_part(function), of_rows(by_row), self._placed, add
            )
        with torch.no_grad():
            return function(self, *by_row)

    def gathered(self, function: Callable[..., T], *by_row: Any) -> T:
        """An array or a tensor (N, ...) of what a function gives of the rows of each part: see :meth:`mapped`."""
        return joined(self.mapped(function, *by_row), len(self))

    def _of_part(self, function: Callable[..., T]) -> Callable[..., T]:
        """A function of rows in memory, their context and what else there is of them, from one of a source of rows."""
        bare = replace(self, table=np.empty((0, 0)), context=EMPTY, design=None)
        return partial(_of_source_of_part, bare, function)

    @cached_property
    def _placed(self) -> Placed:
        """What rows carry beside their entries, with the rows on the workers: passes over them do not send it again."""

        def carried(index: Any) -> tuple:
            return self.context.take(index), None if self.design is None else self.design[index]

        return cast(DistributedTable, self.table).placed(carried)

    def in_memory(self) -> RowSource:
        """The source with its table held in memory: for tables of which that can be held."""
        return replace(self, table=self.table[:]) if self.is_stored else self

    def parts(self) -> Iterator[tuple[slice, RowSource]]:
        """The rows in order, as sources that can be read in any order: the whole table, or parts of a stored one."""
        if not isinstance(self.table, StoredTable):
            yield slice(0, len(self)), self
            return
        for index in gen_batches(len(self), self.table.part_rows):
            yield index, self.take(index).in_memory()

    def shuffled(self, generator: torch.Generator) -> Tensor:
        """Numbers of all rows in random order; of a stored table, as far as it can be read in such an order."""
        order = torch.randperm(len(self), generator=generator)
        if not isinstance(self.table, StoredTable):
            return order
        return torch.from_numpy(self.table.shuffled(order.numpy(), generator))

    def of_columns(self, columns: np.ndarray) -> RowSource:
        """The source of some of the columns."""
        center, scale = (None if part is None else part[columns] for part in (self.center, self.scale))
        bounds = None if self.bounds is None else (self.bounds[0][columns], self.bounds[1][columns])
        effects = None if self.effects is None else self.effects[:, columns]
        read = columns if self.columns is None else self.columns[columns]
        return replace(self, center=center, scale=scale, columns=read, bounds=bounds, effects=effects)

    def normalized(self) -> RowSource:
        """The source with its counts divided by their size factors, as they are read."""
        return replace(self, divides_sizes=True)

    def less(self, effects: np.ndarray, design: np.ndarray) -> RowSource:
        """The source less effects (C, D) of a design (N, C) of its rows."""
        return replace(self, effects=effects, design=design)

    def chunks(self, width: int = 0, most_rows: int | None = None) -> Iterator[tuple[slice, DenseRows | SparseRows]]:
        """All rows in order, in chunks that keep memory bounded beside arrays of shape (rows, width)."""
        n_rows = _CHUNK_ENTRIES // max(width, 1)
        per_row = self.n_stored / max(1, len(self)) if self.is_sparse else self.n_features
        n_rows = min(n_rows, int(_DENSE_ENTRIES / max(1, per_row)))
        step = max(1, n_rows if most_rows is None else min(n_rows, most_rows))
        is_kept = len(self) > 0 and not self.is_large and not self.is_stored
        if is_kept and len(self) <= step:
            yield slice(0, len(self)), self._every_row
            return
        is_kept = is_kept and not self.is_sparse
        for start in range(0, len(self), step):
            index = slice(start, min(start + step, len(self)))
            yield index, cast(DenseRows, self._every_row).take(index) if is_kept else self.rows(index)


def _of_source_of_part(
    bare: RowSource,
    function: Callable[..., T],
    table: Any,
    context: RowContext[np.ndarray],
    design: np.ndarray | None,
    *by_row: Any,
) -> T:
    return function(replace(bare, table=table, context=context, design=design), *by_row)


def _shares_left(counts: sp.csr_array, design: np.ndarray, effects: np.ndarray) -> np.ndarray:
    """What is left of each stored count when the effects (C, D) of its row's design (B, C) are divided out."""
    patterns, pattern = np.unique(design, axis=0, return_inverse=True)
    shares = np.exp(-patterns @ effects)
    return shares[np.repeat(pattern.ravel(), np.diff(counts.indptr)), counts.indices]
