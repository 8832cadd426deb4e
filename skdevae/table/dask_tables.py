"""Dask tables: what of Dask's counts as a table, and the chunks that it consists of.

Dask is imported only where a table of its own comes along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pandas as pd
import scipy.sparse as sp

from .._optional import import_optional

#: name of the error that Dask raises where several workers have died over one task
_DEAD_WORKERS = "KilledWorker"
#: setting of Dask's: bytes of a graph from which on a warning says that it is large. Curves of many features are, too.
_LARGE_GRAPH = "distributed.admin.large-graph-warning-threshold"


def is_dask(X: Any) -> bool:
    """Whether an object is a collection of Dask: an array, a data frame or series, or a delayed value."""
    return type(X).__module__.partition(".")[0] == "dask" and hasattr(X, "__dask_graph__")


def is_dask_table(X: Any) -> bool:
    """Whether an object is a table of Dask: an array, a data frame, or a list of delayed chunks."""
    if isinstance(X, (list, tuple)):
        return len(X) > 0 and all(is_dask(chunk) for chunk in X)
    return is_dask(X)


def require_dask(module: str = "dask") -> ModuleType:
    """Import a module of Dask, or say which extra installs it."""
    return import_optional(module, extra="dask", purpose="Tables of Dask are read with dask")


def known_here(facts: dict[str, Any]) -> dict[str, Any]:
    """A user's facts about rows, computed where they are collections of Dask: they take one number a row."""
    return {name: fact.compute() if is_dask(fact) else fact for name, fact in facts.items()}


class ChunkShape(NamedTuple):
    """What a chunk turned out to be: its shape, the type of its entries, and how many are stored if it is sparse."""

    shape: tuple[int, ...]
    dtype: np.dtype
    n_stored: int | None


@dataclass(frozen=True)
class DaskChunks:
    """The chunks of a table of Dask, of which none is in this process.

    Attributes
    ----------
    chunks : list of Delayed
        Each an array, a sparse matrix or a data frame when it is computed.
    n_rows : list of int, or None
        Rows of each chunk, where they are known beforehand.
    names : Index or None
        Names of the columns of a data frame.
    """

    chunks: list[Any]
    n_rows: list[int] | None = None
    names: pd.Index | None = None

    @classmethod
    def of(cls, X: Any) -> DaskChunks:
        """Those of a user's table; a ValueError where it is no table of rows."""
        if isinstance(X, (list, tuple)):
            return cls([_delayed(chunk, number) for number, chunk in enumerate(X)])
        kind = type(X).__module__.split(".")[1]
        if kind == "dataframe" and hasattr(X, "columns"):
            return cls(list(X.to_delayed()), names=X.columns)
        if kind == "array":
            return cls._of_array(X)
        raise ValueError(
            f"X is a {type(X).__name__} of Dask, which is no table. Pass a dask.array of two dimensions, a "
            "dask.dataframe, or a list of delayed chunks, each some rows of the table."
        )

    @classmethod
    def _of_array(cls, X: Any) -> DaskChunks:
        if X.ndim != 2:
            raise ValueError(
                f"Expected 2D array, got {X.ndim}D array instead: X has shape {X.shape}. Reshape your data with "
                "X.reshape(-1, 1) if it has a single feature, or X.reshape(1, -1) if it is a single sample."
            )
        by_rows, by_columns = X.chunks
        if len(by_columns) > 1:
            raise ValueError(
                f"X is cut into {len(by_columns)} chunks of columns (the first has {by_columns[0]} of {X.shape[1]}), "
                "but every chunk has to hold whole rows: X.rechunk({1: -1})."
            )
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
        wide = [shape for shape in shapes if len(shape.shape) == 2]
        for number, shape in enumerate(shapes):
            if len(shape.shape) != 2:
                raise ValueError(
                    f"chunk {number} of X has shape {shape.shape}. A chunk is some rows of the table: an array of two "
                    "dimensions, a sparse matrix or a data frame."
                )
            if shape.shape[1] != wide[0].shape[1]:
                raise ValueError(
                    f"chunk {number} of X has {shape.shape[1]} columns, but chunk 0 has {wide[0].shape[1]}."
                )
            if self.n_rows is not None and shape.shape[0] != self.n_rows[number]:
                raise ValueError(
                    f"chunk {number} of X should have {self.n_rows[number]} rows by X.chunks, but has "
                    f"{shape.shape[0]}. Call X.compute_chunk_sizes()."
                )
            if (shape.n_stored is None) != (wide[0].n_stored is None):
                kinds = ("dense", "sparse") if shape.n_stored is None else ("sparse", "dense")
                raise ValueError(f"chunk {number} of X is {kinds[0]}, but chunk 0 is {kinds[1]}.")
        return shapes

    def computed(self, values: Sequence[Any]) -> list[Any]:
        """Delayed values that rest on the chunks, computed; a ValueError that names a chunk which cannot be."""
        dask = require_dask()
        try:
            with dask.config.set({_LARGE_GRAPH: "1 GiB"}):
                return list(dask.compute(*values))
        except Exception as error:
            self._blame(error)

    def _blame(self, error: Exception) -> NoReturn:
        """Raise an error of Dask's with the chunk that it comes from; as it is, where it comes from none."""
        if type(error).__name__ == _DEAD_WORKERS:
            raise RuntimeError(
                "Workers of Dask have died again and again over the same rows of X, most likely for want of memory. "
                f"Give them more, or cut X into smaller chunks. ({error})"
            ) from error
        dask = require_dask()
        for number, chunk in enumerate(self.chunks):
            try:
                dask.compute(dask.delayed(_shape_of)(chunk))
            except Exception as reason:
                raise ValueError(
                    f"chunk {number} of X cannot be computed: {type(reason).__name__}: {reason}"
                ) from reason
        raise error


def _delayed(chunk: Any, number: int) -> Any:
    """A delayed chunk as it is; a ValueError where it is a collection of another kind."""
    if type(chunk).__module__.split(".")[1] != "delayed":
        raise ValueError(
            f"chunk {number} of X is a {type(chunk).__name__} of Dask. A list of chunks holds delayed ones, as those of "
            "dask.delayed. Join arrays by dask.array.concatenate, and data frames by dask.dataframe.concat."
        )
    return chunk


def _shape_of(chunk: Any) -> ChunkShape:
    if isinstance(chunk, pd.DataFrame):
        return ChunkShape(chunk.shape, common_dtype(chunk.dtypes), None)
    if sp.issparse(chunk):
        return ChunkShape(chunk.shape, np.dtype(chunk.dtype), int(chunk.nnz))
    array = np.asarray(chunk)
    return ChunkShape(array.shape, array.dtype, None)


def common_dtype(dtypes: Any) -> np.dtype:
    """Single precision where all columns of a data frame have it, else double: other numbers become double."""
    is_single = all(getattr(dtype, "numpy_dtype", dtype) == np.float32 for dtype in dtypes)
    return np.dtype(np.float32 if is_single else np.float64)
