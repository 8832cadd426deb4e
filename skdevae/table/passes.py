"""Passes: functions of a table's rows, evaluated wherever the rows are.

Of a table in memory, or of one on disk that this process reads, a function is given the whole table. Of a distributed
table, it is given the rows of one chunk after another, on the workers that hold them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import numpy as np
import scipy.sparse as sp
import torch

from .distributed import DistributedTable
from .stored import row_blocks

T = TypeVar("T")


def mapped(X: Any, function: Callable[..., T], *by_row: Any) -> list[tuple[Any, T]]:
    """What a function gives of parts of a table (N, D), with the numbers of each part's rows, a slice or an array.

    ``by_row`` are arrays or tensors (N, ...), or None, of which the function is given those of its rows.
    """
    if isinstance(X, DistributedTable):
        return X.mapped(function, of_rows(by_row))
    return [(slice(0, X.shape[0]), function(X, *by_row))]


def summed(X: Any, function: Callable[..., T], *by_row: Any, add: Callable[[T, T], T] = operator.add) -> T:
    """The sum over parts of a table of what a function gives: see :func:`mapped`."""
    if isinstance(X, DistributedTable):
        return X.summed(function, of_rows(by_row), add=add)
    return function(X, *by_row)


def gathered(X: Any, function: Callable[..., np.ndarray], *by_row: Any) -> np.ndarray:
    """An array (N, ...) of what a function gives for the rows of each part: see :func:`mapped`."""
    return joined(mapped(X, function, *by_row), X.shape[0])


def columns_in_memory(X: Any, columns: np.ndarray) -> np.ndarray:
    """Some columns of a table, wherever it is, as an array in double precision: (N, C)."""
    return gathered(X, partial(_some_columns, columns))


def _some_columns(columns: np.ndarray, X: Any) -> np.ndarray:
    blocks = (block[:, columns] for _, block in row_blocks(X, X.shape[0]))
    dense = (np.asarray(block.toarray() if sp.issparse(block) else block, dtype=np.float64) for block in blocks)
    return np.concatenate(list(dense))


def joined(parts: list[tuple[Any, T]], n_rows: int) -> T:
    """Arrays or tensors of parts of N rows as one (N, ...)."""
    if len(parts) == 1:
        return parts[0][1]
    first: Any = parts[0][1]
    whole: Any
    if isinstance(first, torch.Tensor):
        whole = first.new_empty((n_rows, *first.shape[1:]))
    else:
        whole = np.empty((n_rows, *first.shape[1:]), dtype=first.dtype)
    for index, part in parts:
        whole[index] = part
    return whole


def added(one: tuple, other: tuple) -> tuple:
    """Tuples of sums, added one by one."""
    return tuple(a + b for a, b in zip(one, other, strict=True))


def of_rows(by_row: tuple) -> Callable[[Any], tuple]:
    """From the numbers of some rows to what arrays (N, ...), or None, have of them."""
    return lambda index: tuple(None if values is None else values[index] for values in by_row)
