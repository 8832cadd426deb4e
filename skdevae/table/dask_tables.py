"""Dask tables: what of Dask's counts as a table, and the chunks that it consists of.

Dask is imported only where a table of its own comes along.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pandas as pd
import scipy.sparse as sp

from .._optional import import_optional
from .stored import without_mask

#: name of the error that Dask raises where several workers have died over one task
_DEAD_WORKERS = "KilledWorker"
#: libraries whose errors are about a cluster, and not about a chunk
_OF_THE_CLUSTER = ("asyncio", "concurrent", "distributed")
#: of clusters: bytes of a graph from which on a warning says that it is large. Curves of many features are, too.
_SETTINGS = {"distributed.admin.large-graph-warning-threshold": "1 GiB"}


def is_dask(X: Any) -> bool:
    """Whether an object is a collection of Dask: an array, a data frame or series, or a delayed value."""
    return type(X).__module__.partition(".")[0] == "dask" and hasattr(X, "__dask_graph__")


def is_dask_table(X: Any) -> bool:
    """Whether an object is meant as a table of Dask: an array, a data frame, or a list with delayed chunks."""
    if isinstance(X, (list, tuple)):
        return any(is_dask(chunk) for chunk in X)
    return is_dask(X)


def require_dask(module: str = "dask") -> ModuleType:
    """Import a module of Dask, or say which extra installs it."""
    return import_optional(module, extra="dask", purpose="Tables of Dask are read with dask")


def check_whole_rows(X: Any, name: str = "X") -> None:
    """Raise unless an array of Dask has two dimensions and every chunk of it holds whole rows."""
    if X.ndim != 2:
        raise ValueError(
            f"Expected 2D array, got {X.ndim}D array instead: {name} has shape {X.shape}. Reshape your data with "
            f"{name}.reshape(-1, 1) if it has a single feature, or {name}.reshape(1, -1) if it is a single sample."
        )
    by_columns = X.chunks[1]
    if len(by_columns) > 1:
        raise ValueError(
            f"{name} is cut into {len(by_columns)} chunks of columns (the first has {by_columns[0]} of {X.shape[1]}), "
            f"but every chunk has to hold whole rows: {name}.rechunk({{1: -1}})."
        )


def known_here(facts: dict[str, Any]) -> dict[str, Any]:
    """A user's facts about rows, computed where they are collections of Dask: they take one number a row."""
    return {name: fact.compute() if is_dask(fact) else fact for name, fact in facts.items()}


class ChunkShape(NamedTuple):
    """What a chunk turned out to be.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
        Of the entries; of a data frame, what they become.
    n_stored : int or None
        Number of stored entries, of a sparse chunk.
    dtypes : Series or None
        Types of the columns by name, of a data frame.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    n_stored: int | None = None
    dtypes: pd.Series | None = None

    @property
    def kind(self) -> str:
        """What messages call it."""
        if self.dtypes is not None:
            return "a data frame"
        return "a dense array" if self.n_stored is None else "sparse"


@dataclass(frozen=True)
class DaskChunks:
    """The chunks of a table of Dask, of which none is in this process.

    Attributes
    ----------
    chunks : list of Delayed
        Each an array, a sparse matrix or a data frame when it is computed.
    n_rows : list of int, or None
        Rows of each chunk, where they are known beforehand.
    """

    chunks: list[Any]
    n_rows: list[int] | None = None

    @classmethod
    def of(cls, X: Any) -> DaskChunks:
        """Those of a user's table; a ValueError where it is no table of rows."""
        if isinstance(X, (list, tuple)):
            return cls([_delayed(chunk, number) for number, chunk in enumerate(X)])
        kind = type(X).__module__.split(".")[1]
        if kind == "dataframe" and hasattr(X, "columns"):
            return cls(list(X.to_delayed()))
        if kind == "array":
            return cls._of_array(X)
        raise ValueError(
            f"X is a {type(X).__name__} of Dask, which is no table. Pass a dask.array of two dimensions, a "
            "dask.dataframe, or a list of delayed chunks, each some rows of the table."
        )

    @classmethod
    def _of_array(cls, X: Any) -> DaskChunks:
        check_whole_rows(X)
        by_rows, _ = X.chunks
        unknown = [number for number, size in enumerate(by_rows) if np.isnan(size)]
        if unknown:
            raise ValueError(
                f"{len(unknown)} of {len(by_rows)} chunks of X have an unknown number of rows (the first is chunk "
                f"{unknown[0]}). Call X.compute_chunk_sizes() before, or drop rows before the array is made."
            )
        return cls(list(X.to_delayed()[:, 0]), list(by_rows))

    def __len__(self) -> int:
        return len(self.chunks)

    def shapes(self) -> list[ChunkShape]:
        """What the chunks turn out to be: each is computed once. A ValueError where they make no table."""
        delayed = require_dask().delayed
        shapes: list[ChunkShape] = self.computed([delayed(_shape_of, pure=True)(chunk) for chunk in self.chunks])
        first = shapes[0]
        for number, shape in enumerate(shapes):
            if len(shape.shape) != 2:
                raise ValueError(
                    f"chunk {number} of X has shape {shape.shape}. A chunk is some rows of the table: an array of two "
                    "dimensions, a sparse matrix or a data frame."
                )
            if shape.shape[1] != first.shape[1]:
                raise ValueError(f"chunk {number} of X has {shape.shape[1]} columns, but chunk 0 has {first.shape[1]}.")
            if self.n_rows is not None and shape.shape[0] != self.n_rows[number]:
                raise ValueError(
                    f"chunk {number} of X should have {self.n_rows[number]} rows by X.chunks, but has "
                    f"{shape.shape[0]}. Call X.compute_chunk_sizes()."
                )
            if shape.kind != first.kind:
                raise ValueError(f"chunk {number} of X is {shape.kind}, but chunk 0 is {first.kind}.")
            if (
                shape.dtypes is not None
                and first.dtypes is not None
                and list(shape.dtypes.index) != list(first.dtypes.index)
            ):
                raise ValueError(
                    f"chunk {number} of X has other columns than chunk 0, or has them in another order: "
                    f"{list(shape.dtypes.index)[:5]} and {list(first.dtypes.index)[:5]}."
                )
        return shapes

    @staticmethod
    def persisted(values: Sequence[Any]) -> list[Any]:
        """Delayed values that stay where they are computed."""
        with _own_settings():
            return list(require_dask().persist(*values))

    def computed(self, values: Sequence[Any]) -> list[Any]:
        """Delayed values that rest on the chunks, computed; a ValueError that names a chunk which cannot be."""
        try:
            with _own_settings():
                return list(require_dask().compute(*values))
        except Exception as error:
            self._blame(error)

    def _blame(self, error: Exception) -> NoReturn:
        """Raise an error of Dask's with the chunk that it comes from; as it is, where it comes from none."""
        if type(error).__module__.partition(".")[0] in _OF_THE_CLUSTER and type(error).__name__ != _DEAD_WORKERS:
            raise RuntimeError(
                f"Dask has given up on X ({type(error).__name__}: {error}). Does the cluster still run? Rows that were "
                "scattered to workers are lost with these: make them by tasks, as dask.array.from_delayed does."
            ) from error
        if type(error).__name__ == _DEAD_WORKERS:
            raise RuntimeError(
                "Workers of Dask have died again and again over the same rows of X, most likely for want of memory. "
                f"Give them more, or cut X into smaller chunks. ({error})"
            ) from error
        dask = require_dask()
        try:
            dask.compute(dask.delayed(abs)(1))
        except Exception as reason:
            raise RuntimeError(
                f"Dask can compute nothing at present ({type(reason).__name__}: {reason}). Is its client closed, or "
                "asynchronous?"
            ) from reason
        for number, chunk in enumerate(self.chunks):
            try:
                dask.compute(dask.delayed(_shape_of)(chunk))
            except Exception as reason:
                raise ValueError(
                    f"chunk {number} of X cannot be computed: {type(reason).__name__}: {reason}"
                ) from reason
        raise error


def _own_settings() -> AbstractContextManager:
    return require_dask().config.set(_SETTINGS if "distributed" in sys.modules else {})


def shield_workers() -> None:
    """Let workers on this machine that belong to this process ignore Ctrl-C, if there are any.

    A terminal sends it to all of them. It is meant for the fit, which ends in its own time and still needs them.
    """
    client = sys.modules["distributed"].default_client() if _has_client() else None
    if client is None or not hasattr(os, "getpgid"):
        return

    class IgnoredInterrupts(require_dask("distributed").WorkerPlugin):  # type: ignore[misc]
        name, idempotent = "skdevae-ignored-interrupts", True

        def __init__(self, group: int, own: int):
            self.group, self.own = group, own

        def setup(self, worker: Any) -> None:
            is_main = threading.current_thread() is threading.main_thread()
            if is_main and os.getpid() != self.own and os.getpgid(0) == self.group:
                signal.signal(signal.SIGINT, signal.SIG_IGN)

    client.register_plugin(IgnoredInterrupts(os.getpgid(0), os.getpid()))


def _has_client() -> bool:
    try:
        return "distributed" in sys.modules and sys.modules["distributed"].default_client() is not None
    except ValueError:  # no client was made, or the last one is closed
        return False


def _delayed(chunk: Any, number: int) -> Any:
    """A delayed chunk as it is; a ValueError where it is something else."""
    if not is_dask(chunk):
        raise ValueError(
            f"chunk {number} of X is in memory (a {type(chunk).__name__}), but others are of Dask. Pass all of them as "
            "delayed ones, as of dask.delayed."
        )
    if type(chunk).__module__.split(".")[1] != "delayed":
        raise ValueError(
            f"chunk {number} of X is a {type(chunk).__name__} of Dask. A list of chunks holds delayed ones, as of "
            "dask.delayed. Join arrays by dask.array.concatenate, and data frames by dask.dataframe.concat."
        )
    return chunk


def _shape_of(chunk: Any) -> ChunkShape:
    if isinstance(chunk, pd.DataFrame):
        return ChunkShape(chunk.shape, common_dtype(chunk.dtypes), dtypes=chunk.dtypes)
    if sp.issparse(chunk):
        return ChunkShape(chunk.shape, np.dtype(chunk.dtype), int(chunk.nnz))
    array = np.asarray(without_mask(chunk))
    return ChunkShape(array.shape, array.dtype)


def common_dtype(dtypes: Any) -> np.dtype:
    """Single precision where all columns of a data frame have it, else double: other numbers become double."""
    is_single = all(getattr(dtype, "numpy_dtype", dtype) == np.float32 for dtype in dtypes)
    return np.dtype(np.float32 if is_single else np.float64)
