"""Stored tables: a table that is not in memory, of which some rows at a time are read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from .canonical import canonical_counts
from .storage import Storage, storage_of

#: entries of a piece: the rows that are read from storage together
_PIECE_ENTRIES = 1_000_000
#: Most of such entries for whose rows storage is asked at once because it keeps them together. Where it keeps even more
#: together, each piece reads a part of it.
_MOST_TOGETHER = 16_000_000
#: entries that may be held of pieces that were read
_HELD_ENTRIES = 8_000_000
#: How often a piece is read, at the most, in an epoch in random order: rows that are held together are a share of so
#: many times more pieces than can be held. With fewer, batches of a table in some order are too much alike.
_MOST_READS = 8


class StoredTable:
    """A table outside of memory, as an array (N, D) or a CSR array of which some rows can be taken.

    It has the dtype and the entries that the same table has after validation where it is in memory: floats, NaN for
    missing entries, and CSR arrays in canonical format. Rows are read in pieces, a few of which are held.

    Parameters
    ----------
    pieces : Pieces
        The whole table.
    rows : slice or ndarray of shape (N,)
        Numbers of the rows that this table has.
    columns : ndarray of shape (D,), default=None
        Numbers of the columns that it has; None for all.
    """

    ndim = 2
    #: names of the columns, until these are known to the model that reads the table
    names: list[str] | None = None

    def __init__(self, pieces: Pieces, rows: slice | np.ndarray, columns: np.ndarray | None = None):
        self._pieces, self._rows, self._columns = pieces, rows, columns

    @classmethod
    def of(cls, X: Any) -> StoredTable | None:
        """The stored table of a user's; None where it is in memory."""
        storage = storage_of(X)
        return None if storage is None else cls(Pieces(storage), slice(0, storage.shape[0]))

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        rows, whole = self._rows, self._pieces.storage.shape
        n_rows = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
        return n_rows, whole[1] if self._columns is None else len(self._columns)

    @property
    def dtype(self) -> np.dtype:
        """Of the rows as they are read: float32 where they are stored so, else float64."""
        return self._pieces.dtype

    @property
    def stored_dtype(self) -> np.dtype:
        """Of the entries as they are stored."""
        return self._pieces.storage.dtype

    @property
    def is_sparse(self) -> bool:
        """Whether rows come as CSR arrays."""
        return self._pieces.storage.is_sparse

    @property
    def source(self) -> Any:
        """What the user has given."""
        return self._pieces.storage.source

    @property
    def n_stored(self) -> int:
        """Entries that a pass over the table touches."""
        if not self.is_sparse:
            return self.shape[0] * self.shape[1]
        return int(self._pieces.row_lengths[self._rows].sum())

    @property
    def part_rows(self) -> int:
        """Rows of which all may be held in memory together."""
        return self._pieces.n_rows * self._pieces.n_held

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("X is a stored table, and this reads all of it at once. Pass it as an array in memory: X[:].")

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray | sp.csr_array:
        """Some rows: those of a slice, a mask or numbers."""
        rows = self._numbers(index)
        block = self._pieces.between(rows.start, rows.stop) if isinstance(rows, slice) else self._pieces.at(rows)
        return block if self._columns is None else block[:, self._columns]

    def take(self, index: slice | np.ndarray) -> StoredTable:
        """The stored table of some of the rows. Nothing is read."""
        return type(self)(self._pieces, self._numbers(index), self._columns)

    def of_columns(self, columns: np.ndarray) -> StoredTable:
        """The stored table of some of the columns. Nothing is read."""
        return type(self)(self._pieces, self._rows, columns if self._columns is None else self._columns[columns])

    def with_names(self, names: list[str]) -> StoredTable:
        """The same table, whose columns have names."""
        table = type(self)(self._pieces, self._rows, self._columns)
        table.names = names
        return table

    def without_rows(self) -> Any:
        """A data frame of the same columns, where these have names; else the table."""
        return self if self.names is None else pd.DataFrame(columns=self.names, dtype=self.dtype)

    def blocks(self) -> Iterator[tuple[slice, Any]]:
        """All rows in order, a piece at a time: the numbers of the rows, and what they hold."""
        step = self._pieces.n_rows
        for start in range(0, len(self), step):
            index = slice(start, min(start + step, len(self)))
            yield index, self[index]

    def shuffled(self, order: np.ndarray, generator: torch.Generator) -> np.ndarray:
        """An order (N,) of the rows, which is random, as one in which rows can be read at random.

        Rows are put into groups that can be held, each of a share of the rows of many random pieces. They are in random
        order within their group. The order stays as it is where all pieces can be held.
        """
        pieces = self._pieces
        if len(pieces) <= pieces.n_held or pieces.storage.has_free_rows:
            return order
        pieces.deal_out(generator)
        rows = np.arange(self._rows.start, self._rows.stop) if isinstance(self._rows, slice) else self._rows
        return order[np.argsort(pieces.group[rows[order]], kind="stable")]

    def check(self, check: Callable[[Any, int], None]) -> None:
        """Read the whole table once, and let a function look at every piece and at the number of its first row."""
        self._pieces.check(check)

    def _numbers(self, index: slice | np.ndarray) -> slice | np.ndarray:
        """Numbers, in the whole table, of rows of this one."""
        if isinstance(index, slice) and isinstance(self._rows, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return slice(self._rows.start + start, self._rows.start + max(start, stop))
        rows = np.arange(self._rows.start, self._rows.stop) if isinstance(self._rows, slice) else self._rows
        return rows[index]


class Pieces:
    """The pieces of a whole table: runs of rows that are read together, of which some are held.

    Parameters
    ----------
    storage : Storage
    """

    def __init__(self, storage: Storage):
        self.storage = storage
        self.dtype = storage.dtype if storage.dtype in (np.float32, np.float64) else np.dtype(np.float64)
        per_row = max(1.0, storage.n_per_row)
        together = storage.n_together if storage.n_together * per_row <= _MOST_TOGETHER else 1
        #: rows of a piece: whole numbers of runs that are stored together
        self.n_rows = together * max(1, int(_PIECE_ENTRIES / (per_row * together)))
        #: most pieces that are held
        self.n_held = max(2, int(_HELD_ENTRIES / (per_row * self.n_rows)))
        #: stored entries of each row of a sparse table, (N,): known once it is checked
        self.row_lengths = np.zeros(storage.shape[0] if storage.is_sparse else 0, dtype=np.int32)
        #: whether rows are stored as validation leaves them
        self.is_canonical = False
        self._held: OrderedDict[int, Any] = OrderedDict()
        #: number of the group that each row was dealt out to, (N,)
        self.group = np.empty(0, dtype=np.int64)
        self._held_group: tuple[int, np.ndarray, Any] | None = None

    def __len__(self) -> int:
        return -(-self.storage.shape[0] // self.n_rows)

    def check(self, check: Callable[[Any, int], None]) -> None:
        """See :meth:`StoredTable.check`."""
        is_canonical = True
        for number in range(len(self)):
            start, stop = self._ends(number)
            lengths, canonical = looked_at(self._as_floats(self.storage.read(start, stop)), check, start)
            is_canonical &= canonical
            if lengths is not None:
                self.row_lengths[start:stop] = lengths
        self.is_canonical = is_canonical

    def between(self, start: int, stop: int) -> Any:
        """Rows from one number to another."""
        if start >= stop:
            return self._as_read(0, 0)
        parts = []
        for number in range(start // self.n_rows, (stop - 1) // self.n_rows + 1):
            first, last = self._ends(number)
            piece = self._piece(number, n_held=1)
            begin, end = max(start, first) - first, min(stop, last) - first
            parts.append(piece if end - begin == last - first else piece[begin:end])
        block = _stacked(parts)
        # Whoever has asked may change what it gets, as it may change the rows of a CSR array in memory.
        return block.copy() if len(parts) == 1 and self.storage.is_sparse else block

    def deal_out(self, generator: torch.Generator) -> None:
        """Deal all rows out to groups that can be held: each group has a random share of the rows of some pieces."""
        n_shares = min(_MOST_READS, -(-len(self) // self.n_held))
        n_sets = -(-len(self) // (self.n_held * n_shares))
        set_of_piece = torch.randperm(len(self), generator=generator).numpy() % n_sets
        n_rows = self.storage.shape[0]
        share = torch.randint(n_shares, (n_rows,), generator=generator).numpy()
        turn = torch.randperm(n_sets * n_shares, generator=generator).numpy()
        self.group = turn[set_of_piece[np.arange(n_rows) // self.n_rows] * n_shares + share]
        self._held_group = None

    def at(self, rows: np.ndarray) -> Any:
        """Rows of some numbers, in any order."""
        if len(rows) == 0:
            return self._as_read(0, 0)
        if self.storage.has_free_rows:
            return self._as_floats(self.storage.source[rows])
        if len(self.group):
            group_of = self.group[rows]
            if len(np.unique(group_of)) <= 2:  # as in a batch of an epoch in random order
                held = -1 if self._held_group is None else self._held_group[0]
                return _gathered(group_of, lambda number: number == held, lambda g, i: self._of_group(g, rows[i]))

        def of_piece(number: int, members: np.ndarray) -> Any:
            return self._piece(number, self.n_held)[rows[members] - number * self.n_rows]

        return _gathered(rows // self.n_rows, self._held.__contains__, of_piece)

    def _of_group(self, number: int, rows: np.ndarray) -> Any:
        """Rows of a group, which is held until rows of another are asked for."""
        if self._held_group is None or self._held_group[0] != number:
            self._held_group = None
            members = np.nonzero(self.group == number)[0]
            piece_of = members // self.n_rows
            numbers, starts = np.unique(piece_of, return_index=True)
            parts = [
                self._piece(piece, n_held=1)[own - piece * self.n_rows]
                for piece, own in zip(numbers.tolist(), np.split(members, starts[1:]), strict=True)
            ]
            self._held_group = number, members, _stacked(parts)
        _, members, block = self._held_group
        return block[np.searchsorted(members, rows)]

    def _ends(self, number: int) -> tuple[int, int]:
        return number * self.n_rows, min((number + 1) * self.n_rows, self.storage.shape[0])

    def _piece(self, number: int, n_held: int) -> Any:
        """A piece, and hold it beside those that were asked for last."""
        piece = self._held.pop(number, None)
        while len(self._held) >= n_held:
            self._held.popitem(last=False)
        self._held[number] = self._as_read(*self._ends(number)) if piece is None else piece
        return self._held[number]

    def _as_read(self, start: int, stop: int) -> Any:
        """Rows from one number to another, as validation leaves them."""
        block = self._as_floats(self.storage.read(start, stop))
        return canonical_counts(block) if self.storage.is_sparse and not self.is_canonical else block

    def _as_floats(self, block: Any) -> Any:
        return as_floats(block, self.dtype)


def looked_at(rows: Any, check: Callable[[Any, int], None], first_row: int) -> tuple[np.ndarray | None, bool]:
    """Let a function look at rows as validation leaves them, and at the number of the first of them.

    What comes back is how many entries each row has stored, of sparse ones, and whether they were in canonical format.
    """
    if not sp.issparse(rows):
        check(rows, first_row)
        return None, True
    block = canonical_counts(rows, first_row)
    check(block, first_row)
    return np.diff(block.indptr), bool(rows.has_canonical_format) and block.nnz == rows.nnz


def as_floats(block: Any, dtype: np.dtype) -> Any:
    """Some rows as they are stored, as floats."""
    if sp.issparse(block):
        return sp.csr_array(block, dtype=dtype)
    return np.asarray(without_mask(block), dtype=dtype, order="C")


def without_mask(block: Any) -> Any:
    """An array whose masked entries are NaN. What else is masked, or is no masked array, stays as it is."""
    if isinstance(block, np.ma.MaskedArray) and block.dtype.kind in "fiub":
        return np.ma.filled(block.astype(np.promote_types(block.dtype, np.float32)), np.nan)
    return block


def _gathered(holder: np.ndarray, is_held: Callable[[int], bool], of_holder: Callable[[int, np.ndarray], Any]) -> Any:
    """Rows (B,) from what holds them: ``of_holder`` gives those of one holder, in their order, by positions in (B,)."""
    order = np.argsort(holder, kind="stable")
    numbers, starts = np.unique(holder[order], return_index=True)
    members = dict(zip(numbers.tolist(), np.split(order, starts[1:]), strict=True))
    # What is held comes first: what is read takes its place.
    in_turn = sorted(members, key=lambda number: not is_held(number))
    block = _stacked([of_holder(number, members[number]) for number in in_turn])
    found = np.concatenate([members[number] for number in in_turn])
    return block if (np.diff(found) == 1).all() else block[np.argsort(found)]


def is_sparse(X: Any) -> bool:
    """Whether the rows of a table, stored or not, come as sparse arrays."""
    return X.is_sparse if isinstance(X, StoredTable) else bool(sp.issparse(X))


def some_rows(X: Any, index: Any) -> Any:
    """Some rows of a table (N, ...), stored or not. Of a stored one nothing is read."""
    return X.take(index) if isinstance(X, StoredTable) else X[index]


def row_blocks(X: Any, n_rows: int) -> Iterator[tuple[slice, Any]]:
    """All rows of a table in order, so many at a time, with their numbers; of a stored one, a piece at a time."""
    if isinstance(X, StoredTable):
        yield from X.blocks()
        return
    for start in range(0, X.shape[0], n_rows):
        index = slice(start, min(start + n_rows, X.shape[0]))
        yield index, X[index]


def _stacked(parts: list[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    return sp.vstack(parts, format="csr") if sp.issparse(parts[0]) else np.concatenate(parts)
