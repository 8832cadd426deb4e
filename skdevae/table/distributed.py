"""Distributed tables: rows that stay on the workers of a Dask cluster, where functions of them are evaluated.

What a fit asks of a table is either a sum over its rows or something for each of them. A distributed table sends the
question to the chunks and brings back the answers. Sums are added up on the workers, a few at a time, so that what
travels does not grow with the number of rows.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import Any, TypeVar, cast

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from .canonical import canonical_counts
from .dask_tables import ChunkShape, DaskChunks, common_dtype, is_dask_table, require_dask, shield_workers
from .stored import Pieces, StoredTable, as_floats, looked_at, without_mask

T = TypeVar("T")


def _nothing(_: Any) -> tuple:
    """No arguments beside the rows."""
    return ()


#: sums that are added up together on a worker
_TOGETHER = 8


class DaskStorage:
    """The chunks of a table of Dask, as :class:`~skdevae.table.storage.Storage`.

    Parameters
    ----------
    source : object
        As the user has given it.
    chunks : DaskChunks
    shapes : list of ChunkShape
        What the chunks turned out to be.
    columns : ndarray, optional
        Positions of the columns of data frames that the table has; None for all.
    """

    has_free_rows = False

    def __init__(self, source: Any, chunks: DaskChunks, shapes: list[ChunkShape], columns: np.ndarray | None = None):
        self.source, self.chunks, self._shapes, self.columns = source, chunks, shapes, columns
        rows = [shape.shape[0] for shape in shapes]
        #: number of the first row of each chunk, and the number of rows at the end
        self.starts = np.concatenate([[0], np.cumsum(rows)])
        n_columns = shapes[0].shape[1] if columns is None else len(columns)
        self.shape = (int(self.starts[-1]), int(n_columns))
        #: numbers of the chunks that say how the table is: those with rows, for empty ones may be of any type
        self._telling = [number for number, shape in enumerate(shapes) if shape.shape[0]] or [0]
        self.dtype = _dtype_of_all({shapes[number].dtype for number in self._telling})
        self.is_sparse = shapes[0].n_stored is not None
        self.n_together = max(1, *rows)
        stored = sum(shape.n_stored or 0 for shape in shapes)
        self.n_per_row = stored / max(1, self.shape[0]) if self.is_sparse else float(n_columns)

    @classmethod
    def of(cls, X: Any) -> DaskStorage:
        """How a user's table of Dask is read."""
        chunks = DaskChunks.of(X)
        return cls(X, chunks, chunks.shapes())

    def of_columns(self, columns: np.ndarray) -> DaskStorage:
        """The same of some of the columns."""
        shapes = self._shapes
        if self.dtypes is not None:
            types = [cast(pd.Series, shape.dtypes).iloc[columns] for shape in shapes]
            shapes = [shape._replace(dtype=common_dtype(of)) for shape, of in zip(shapes, types, strict=True)]
        return DaskStorage(self.source, self.chunks, shapes, columns)

    @property
    def dtypes(self) -> pd.Series | None:
        """Types of the columns by name, where chunks are data frames."""
        return self._dtypes_in(self._telling[0])

    def other_dtypes(self) -> Iterator[tuple[int, pd.Series]]:
        """Number of every chunk whose columns have other types than :attr:`dtypes`, and these types."""
        for number in [] if self.dtypes is None else self._telling:
            found = cast(pd.Series, self._dtypes_in(number))
            if not found.equals(self.dtypes):
                yield number, found

    def _dtypes_in(self, number: int) -> pd.Series | None:
        dtypes = self._shapes[number].dtypes
        return dtypes if dtypes is None or self.columns is None else dtypes.iloc[self.columns]

    def frame_of(self, columns: np.ndarray) -> pd.DataFrame:
        """Some columns of data frames, in memory and as they are."""
        take = require_dask().delayed(pd.DataFrame.take)
        chunks = [self.chunks.chunks[number] for number in self._telling]
        return pd.concat(self.chunks.computed([take(chunk, columns, axis=1) for chunk in chunks]))

    def read(self, start: int, stop: int) -> Any:
        """See :class:`~skdevae.table.storage.Storage`."""
        delayed = require_dask().delayed
        wanted = [
            delayed(some_rows_of_chunk)(self.chunks.chunks[number], rows, self.columns)
            for number, _, rows in self.between(start, stop)
        ]
        blocks = self.chunks.computed(wanted)
        if len(blocks) == 1:
            return blocks[0]
        return sp.vstack(blocks, format="csr") if self.is_sparse else np.concatenate(blocks)

    def between(self, start: int, stop: int) -> Iterator[tuple[int, slice, slice]]:
        """Number of every chunk with rows between two; where they stand among these, and in the chunk."""
        for number, (first, end) in enumerate(pairwise(self.starts.tolist())):
            begin, last = max(start, first), min(stop, end)
            if begin < last:
                yield number, slice(begin - start, last - start), slice(begin - first, last - first)


class DistributedTable(StoredTable):
    """A stored table whose rows are on workers. See :class:`~skdevae.table.stored.StoredTable`."""

    @classmethod
    def of_dask(cls, X: Any) -> DistributedTable:
        """The table of a user's collection of Dask."""
        shield_workers()
        storage = DaskStorage.of(X)
        return cls(Pieces(storage), slice(0, storage.shape[0]))

    @property
    def _storage(self) -> DaskStorage:
        return cast(DaskStorage, self._pieces.storage)

    @property
    def dtypes(self) -> pd.Series | None:
        """Types of the columns by name, where chunks are data frames."""
        return self._storage.dtypes

    def other_dtypes(self) -> Iterator[tuple[int, pd.Series]]:
        """See :class:`DaskStorage`."""
        return self._storage.other_dtypes()

    @property
    def columns(self) -> pd.Index | None:
        """Names of the columns, where chunks are data frames."""
        return None if self.dtypes is None else self.dtypes.index

    def without_rows(self) -> pd.DataFrame | DistributedTable:
        """A data frame of the same columns, where chunks are data frames; else the table."""
        return self if self.dtypes is None else pd.DataFrame({}, columns=self.columns).astype(dict(self.dtypes))

    def split(self, columns: np.ndarray, others: np.ndarray) -> tuple[DistributedTable, pd.DataFrame]:
        """The table of some columns of data frames; and others, in memory and as they are, for they may hold text."""
        storage = self._storage.of_columns(columns)
        return DistributedTable(Pieces(storage), slice(0, storage.shape[0])), self._storage.frame_of(others)

    def check(self, check: Callable[[Any, int], None]) -> None:
        """See :class:`~skdevae.table.stored.StoredTable`. Rows are looked at where they are."""
        is_canonical = True
        for index, outcome in self._outcomes(looked_at, lambda index: (check, index.start), is_checked=False):
            if isinstance(outcome, _Failure):
                number = int(np.searchsorted(self._storage.starts, index.start, side="right")) - 1
                raise outcome.of_chunk(f"chunk {number} of X (rows {index.start} to {index.stop - 1})")
            lengths, canonical = outcome
            is_canonical &= canonical
            if lengths is not None:
                self._pieces.row_lengths[index] = lengths
        self._pieces.is_canonical = is_canonical

    def placed(self, of_rows: Callable[[Any], tuple]) -> Placed:
        """What functions of rows are given beside them, sent to the workers to stay there: for more than one pass.

        ``of_rows`` gives it for the numbers of some rows.
        """
        delayed = require_dask().delayed
        facts = [
            delayed(_Facts(of_rows(of_table), of_chunk), traverse=False)
            for _, of_table, of_chunk in self._rows_by_chunk()
        ]
        return Placed(self._storage.chunks.persisted(facts))

    def mapped(
        self, function: Callable[..., T], of_rows: Callable[[Any], tuple] = _nothing, placed: Placed | None = None
    ) -> list[tuple[Any, T]]:
        """A function of the rows of every chunk, evaluated where they are: the rows' numbers, and what it gives.

        Parameters
        ----------
        function : callable
            Of rows in memory, and what else it is given. It is sent to the workers.
        of_rows : callable
            From the numbers of some rows, a slice or an array, to what else the function is given.
        placed : Placed, optional
            What it is given before that.
        """
        return [(index, _unless_failed(outcome)) for index, outcome in self._outcomes(function, of_rows, placed)]

    def summed(
        self,
        function: Callable[..., T],
        of_rows: Callable[[Any], tuple] = _nothing,
        placed: Placed | None = None,
        add: Callable[[T, T], T] = operator.add,
    ) -> T:
        """The sum of what a function gives of the rows of every chunk, added up on the workers."""
        add_up = require_dask().delayed(_sum_of, pure=False)
        sums = [task for _, task in self._tasks(function, of_rows, placed)]
        while len(sums) > 1:
            sums = [add_up(add, sums[i : i + _TOGETHER]) for i in range(0, len(sums), _TOGETHER)]
        [total] = self._storage.chunks.computed(sums)
        return _unless_failed(total)

    def _outcomes(
        self, function: Callable, of_rows: Callable[[Any], tuple], placed: Placed | None = None, **options: bool
    ) -> list[tuple[Any, Any]]:
        tasks = self._tasks(function, of_rows, placed, **options)
        found = self._storage.chunks.computed([task for _, task in tasks])
        return [(index, outcome) for (index, _), outcome in zip(tasks, found, strict=True)]

    def _tasks(
        self, function: Callable, of_rows: Callable[[Any], tuple], placed: Placed | None, *, is_checked: bool = True
    ) -> list[tuple[Any, Any]]:
        """For every chunk of which the table has rows: their numbers in it, and the task that evaluates a function."""
        delayed, storage = require_dask().delayed, self._storage
        reading = _Reading(self.dtype, storage.columns, self._columns, is_checked and not self._pieces.is_canonical)
        # One node of the graph: it is sent once, and not once for every chunk.
        question, answer = delayed(_Question(function, reading), traverse=False), delayed(_answer, pure=False)
        tasks = []
        for position, (number, of_table, of_chunk) in enumerate(self._rows_by_chunk()):
            own = _Facts(of_rows(of_table), of_chunk)
            facts = (own,) if placed is None else (placed.facts[position], own)
            tasks.append((of_table, answer(question, storage.chunks.chunks[number], *facts)))
        return tasks

    def _rows_by_chunk(self) -> Iterator[tuple[int, Any, Any]]:
        """Number of every chunk of which the table has rows; their numbers in the table, and in the chunk."""
        starts, rows = self._storage.starts, self._rows
        if isinstance(rows, slice):
            yield from self._storage.between(rows.start, rows.stop)
            return
        holder = np.searchsorted(starts, rows, side="right") - 1
        order = np.argsort(holder, kind="stable")
        numbers, first = np.unique(holder[order], return_index=True)
        for number, members in zip(numbers.tolist(), np.split(order, first[1:]), strict=True):
            yield number, members, rows[members] - starts[number]


def stored_table_of(X: Any) -> StoredTable | None:
    """A user's table that is not in memory, as rows of it are read; None where it is."""
    return DistributedTable.of_dask(X) if is_dask_table(X) else StoredTable.of(X)


class _Question:
    """What is asked of every chunk. No tuple and no dataclass, which Dask would take apart."""

    def __init__(self, function: Callable, reading: _Reading):
        self.function, self.reading = function, reading


class _Facts:
    """What a function is given of some rows of a chunk beside them, and which rows they are."""

    def __init__(self, arguments: tuple, rows: Any):
        # Pickle would take all of the tensor along that one is a part of.
        self.arguments = tuple(part.clone() if isinstance(part, torch.Tensor) else part for part in arguments)
        self.rows = rows


@dataclass(frozen=True)
class Placed:
    """What functions of rows are given beside them, on the workers: one future for each chunk."""

    facts: list[Any]


@dataclass(frozen=True)
class _Reading:
    """How the rows of a chunk are read: as validation leaves them."""

    dtype: np.dtype
    of_frame: np.ndarray | None
    columns: np.ndarray | None
    makes_canonical: bool

    def __call__(self, chunk: Any, rows: Any) -> Any:
        block = as_floats(some_rows_of_chunk(chunk, rows, self.of_frame), self.dtype)
        if sp.issparse(block) and self.makes_canonical:
            block = canonical_counts(block)
        return block if self.columns is None else block[:, self.columns]


class _Failure:
    """An error in a function that was evaluated on a worker. What Dask itself raises comes from a chunk."""

    def __init__(self, error: Exception):
        self.error = error

    def of_chunk(self, where: str) -> Exception:
        """The error with the chunk in its message."""
        return type(self.error)(f"{where}: {self.error}") if type(self.error) in (ValueError, TypeError) else self.error


def _answer(question: _Question, chunk: Any, *facts: _Facts) -> Any:
    """What a function gives of the rows of a chunk. It runs on a worker."""
    try:
        function = deepcopy(question.function)  # where workers are threads, they share it, and models remember things
        with torch.no_grad():
            arguments = (argument for some in facts for argument in some.arguments)
            return function(question.reading(chunk, facts[0].rows), *arguments)
    except Exception as error:
        return _Failure(error)


def _sum_of(add: Callable[[T, T], T], parts: list[T | _Failure]) -> T | _Failure:
    failed = [part for part in parts if isinstance(part, _Failure)]
    return failed[0] if failed else reduce(add, cast(list[T], parts))


def _unless_failed(outcome: T | _Failure) -> T:
    if isinstance(outcome, _Failure):
        raise outcome.error
    return outcome


def some_rows_of_chunk(chunk: Any, rows: Any, columns: np.ndarray | None) -> Any:
    """Some rows of a chunk; of a data frame as an array of numbers, of some columns or all."""
    if isinstance(chunk, pd.DataFrame):
        frame = chunk.iloc[rows] if columns is None else chunk.iloc[rows, columns]
        return frame.to_numpy(dtype=common_dtype(frame.dtypes), na_value=np.nan)
    block = sp.csr_array(chunk)[rows] if sp.issparse(chunk) else np.asarray(without_mask(chunk))[rows]
    return block if columns is None else block[:, columns]


def _dtype_of_all(dtypes: set[np.dtype]) -> np.dtype:
    """The dtype that can hold entries of several; a ValueError where there is none."""
    try:
        return np.result_type(*dtypes)
    except TypeError:
        names = ", ".join(sorted(map(str, dtypes)))
        raise ValueError(f"X has chunks of types that do not go together: {names}. Pass a table of numbers.") from None
