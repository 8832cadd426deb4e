"""Blocks of Dask tables: runs of whole rows, which are one task each, and the facts of their rows.

A block is a chunk of rows of a ``dask.array``, or a partition of a ``dask.dataframe``. Nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from .dask_tables import check_whole_rows, is_dask, require_dask

#: by which Dask marks categories that it does not know yet
_UNKNOWN = "__UNKNOWN_CATEGORIES__"


@dataclass(frozen=True, eq=False)
class Block:
    """Which block of a table it is, and facts of its rows.

    Attributes
    ----------
    number : int or None
        Its place in the table; None where Dask does not say.
    first, n_rows : int or None
        Number of its first row in the table, and how many there are; None where they are not known beforehand.
    table : str
        What messages call the table.
    is_partition : bool
        Whether it is a partition of a data frame.
    facts : dict
        Facts of its rows that are in memory, by name.
    """

    number: int | None
    first: int | None = None
    n_rows: int | None = None
    table: str = "X"
    is_partition: bool = False
    facts: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        name = "partition" if self.is_partition else "block"
        which = f"a {name} of {self.table}" if self.number is None else f"{name} {self.number} of {self.table}"
        if self.first is None or not self.n_rows:
            return f"{which} (its first row is row 0 here)"
        return f"{which} (rows {self.first} to {self.first + self.n_rows - 1}, of which the first is row 0 here)"


@dataclass(frozen=True)
class RowFact:
    """A fact of the rows of a Dask table.

    Attributes
    ----------
    in_blocks : list, collection of Dask, or None
        For each block, what is in memory; or a collection with as many blocks; None for what all rows share.
    shared : object
        What all rows share.
    one_row : object
        The fact as one row might have it.
    """

    one_row: Any
    in_blocks: Any = None
    shared: Any = None


def is_frame(X: Any) -> bool:
    """Whether a collection of Dask is a data frame or a series."""
    return hasattr(type(X), "divisions")  # a delayed value has all attributes


def is_array(X: Any) -> bool:
    """Whether a collection of Dask is an array."""
    return hasattr(type(X), "numblocks")


def n_blocks(X: Any) -> int:
    """How many blocks of rows a data frame, a series or an array of Dask has."""
    return X.npartitions if is_frame(X) else X.numblocks[0]


def index_of(X: Any) -> pd.Index | None:
    """Names of the rows of a data frame, in memory or of Dask, whose index is computed; None of other tables."""
    if isinstance(X, pd.DataFrame):
        return X.index
    return X.index.compute() if is_dask(X) and is_frame(X) else None


def block_lengths(X: Any) -> tuple[int, ...] | None:
    """How many rows each block has; None where a length is not known before it is computed."""
    if is_frame(X) or any(np.isnan(length) for length in X.chunks[0]):
        return None
    return X.chunks[0]


def check_table(X: Any, name: str = "X") -> None:
    """Raise unless an object that is Dask's, or a list of such objects, is a table whose blocks are whole rows."""
    if not is_dask(X) or not (is_array(X) or is_frame(X)):
        what = f"a {type(X).__name__} of {'Dask' if is_dask(X) else 'objects of Dask'}"
        raise TypeError(
            f"{name} is {what}, whose shape nobody knows. Make a table of it, which can be answered lazily: "
            "dask.array.concatenate([dask.array.from_delayed(part, shape, dtype), ...]) or "
            "dask.dataframe.from_delayed(parts)."
        )
    if is_array(X):
        check_whole_rows(X, name)
        if np.isnan(X.shape[1]):
            raise ValueError(f"{name} has an unknown number of columns: {name}.compute_chunk_sizes() finds it.")
    elif X.ndim != 2:
        raise ValueError(
            f"Expected 2D array, got 1D array instead: {name} is a {type(X).__name__} of Dask. Pass a data frame, such "
            f"as {name}.to_frame() if it is a single feature."
        )


def one_row_of(X: Any) -> Any:
    """A row as a collection of Dask might have it, in memory: of its columns and dtypes, with a one in all entries.

    Dates, say, are no numbers, and stay what they are. A text may hold one.
    """
    if not is_frame(X):
        values = np.ones((1, *X.shape[1:]), dtype=X.dtype)
        return type(X._meta)(values) if sp.issparse(X._meta) else values
    row = X._meta_nonempty.iloc[:1]
    if row.ndim == 1:
        return _with_numbers(row)
    row = row.copy()
    for column, dtype in enumerate(row.dtypes):
        if not pd.api.types.is_numeric_dtype(dtype):
            row.isetitem(column, _with_numbers(row.iloc[:, column]))
    return row


def _with_numbers(values: pd.Series) -> pd.Series:
    """Text, objects and categories that Dask does not know yet, as the number one that they may hold."""
    dtype = values.dtype
    is_unknown = isinstance(dtype, pd.CategoricalDtype) and _UNKNOWN in dtype.categories
    if pd.api.types.is_object_dtype(dtype) or is_unknown:
        return pd.Series([1], values.index, object, values.name)
    return pd.Series(["1"], values.index, dtype, values.name) if isinstance(dtype, pd.StringDtype) else values


def blocks_of_array(X: Any, table: str, facts: Mapping[str, Sequence[Any]]) -> list[Block]:
    """The blocks of rows of an array of some name, with facts of theirs: for each name, one object for each block."""
    lengths = block_lengths(X)
    firsts = None if lengths is None else list(accumulate(lengths, initial=0))
    return [
        Block(
            number,
            first=None if firsts is None else firsts[number],
            n_rows=None if lengths is None else lengths[number],
            table=table,
            facts={name: parts[number] for name, parts in facts.items()},
        )
        for number in range(n_blocks(X))
    ]


def fact_of_rows(name: str, fact: Any, X: Any, table: str = "X") -> RowFact:
    """A fact of the rows of a Dask table, by its blocks; a ValueError where these are not known to be the same.

    ``name`` and ``table`` are what messages call the fact and the table.
    """
    if is_dask(fact):
        aligned = _aligned(name, fact, X, table)
        return RowFact(one_row_of(aligned), aligned)
    if not _has_rows(fact):
        return RowFact(fact, shared=fact)
    lengths = block_lengths(X)
    _check_length(name, fact, table, None if lengths is None else sum(lengths))
    if lengths is None:
        of_same_blocks = "a series or data frame of Dask" if is_frame(X) else "a dask.array"
        remedy = f", as columns of {table} have" if is_frame(X) else f", or call {table}.compute_chunk_sizes()"
        raise ValueError(
            f"{name} is in memory, and how many rows each block of {table} has is not known, so nothing says which "
            f"rows of {name} belong to which block. Pass {of_same_blocks} with the same blocks of rows{remedy}."
        )
    ends = list(accumulate(lengths, initial=0))
    parts = [_some_rows(fact, slice(*ends[i : i + 2])) for i in range(len(lengths))]
    return RowFact(_some_rows(fact, slice(0, 1)), parts)


def _aligned(name: str, fact: Any, X: Any, table: str) -> Any:
    """A fact that is a collection of Dask, in the blocks of a table."""
    if not (is_array(fact) or is_frame(fact)) or fact.ndim not in (1, 2):
        raise ValueError(f"{name} is a {type(fact).__name__} of Dask: pass an array, a series or a data frame.")
    if is_array(fact):
        fact = fact.rechunk({1: -1}) if fact.ndim == 2 else fact
        own, lengths = block_lengths(fact), block_lengths(X)
        if own is not None and lengths is not None:
            if sum(own) != sum(lengths):
                raise ValueError(f"{name} has {sum(own)} rows, but {table} has {sum(lengths)}: give one for each row.")
            return fact.rechunk({0: lengths})
    known = is_frame(X) and is_frame(fact) and fact.known_divisions and X.known_divisions
    if n_blocks(fact) != n_blocks(X) or (known and fact.divisions != X.divisions):
        raise ValueError(
            f"{name} has {n_blocks(fact)} blocks of rows and {table} has {n_blocks(X)}, which are not known to hold "
            f"the same rows. Take {name} from the same collection as {table}, before anything that changes its rows, "
            "or give both known divisions or chunk sizes and repartition one like the other."
        )
    if is_frame(X) and is_array(fact):
        if fact.ndim == 2:
            raise ValueError(
                f"{name} is a dask.array of two dimensions, and {table} a data frame: make it a data frame, too."
            )
        return require_dask("dask.dataframe").from_dask_array(fact)
    return fact


def _has_rows(fact: Any) -> bool:
    """Whether a fact in memory has a value for each row. What it should have is said where it is read."""
    if isinstance(fact, Mapping):
        return any(_has_rows(value) for value in fact.values())
    is_scalar = isinstance(fact, str | bytes) or getattr(fact, "ndim", 1) == 0
    return isinstance(fact, Sized) and not is_scalar and not sp.issparse(fact)


def _check_length(name: str, fact: Any, table: str, n_rows: int | None) -> None:
    for part in fact.values() if isinstance(fact, Mapping) else [fact]:
        if is_dask(part):
            raise ValueError(f"{name} holds a {type(part).__name__} of Dask: pass a data frame of Dask instead.")
        if n_rows is not None and _has_rows(part) and len(part) != n_rows:
            raise ValueError(f"{name} has {len(part)} rows, but {table} has {n_rows}: give one for each row.")


def _some_rows(fact: Any, rows: slice) -> Any:
    if isinstance(fact, Mapping):
        return {name: _some_rows(value, rows) if _has_rows(value) else value for name, value in fact.items()}
    return fact.iloc[rows] if hasattr(fact, "iloc") else fact[rows]
