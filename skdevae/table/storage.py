"""Storage: objects of a user's that hold a table outside of memory, and how some of its rows are read.

No library of storage is imported here. What counts is what an object can do: it has a shape of two dimensions, and
slices of its rows are arrays or sparse matrices; or it is a group of the arrays that a CSR matrix consists of.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp

#: rows from which a storage is asked what its rows are like
_FIRST_ROWS = 1000
#: of a group in AnnData's layout: the attribute that says what its arrays are, and the arrays of a CSR matrix
_ENCODING, _CSR, _CSC = "encoding-type", "csr_matrix", "csc_matrix"
_ARRAYS = ("data", "indices", "indptr")


class Storage(Protocol):
    """A table outside of memory.

    Attributes
    ----------
    source : object
        As the user has given it.
    shape : (N, D)
    dtype : dtype
        Of the entries as they are stored.
    is_sparse : bool
        Whether rows come as CSR arrays.
    has_free_rows : bool
        Whether rows can be taken in any order, at no more cost than in theirs.
    n_together : int
        Rows that are stored together, so that reading one costs what reading all of them does.
    n_per_row : float
        Stored entries of a row, roughly.
    """

    source: Any
    shape: tuple[int, int]
    dtype: np.dtype
    is_sparse: bool
    has_free_rows: bool
    n_together: int
    n_per_row: float

    def read(self, start: int, stop: int) -> Any:
        """Some rows in a row, as they are stored: an array or a sparse matrix."""
        ...


class SlicedStorage:
    """An object whose slices are arrays or sparse matrices, such as a dataset of h5py, or an array of zarr."""

    def __init__(self, source: Any):
        self.source = source
        self.shape = (int(source.shape[0]), int(source.shape[1]))
        first = source[: min(_FIRST_ROWS, self.shape[0])]
        self.dtype = np.dtype(first.dtype)
        self.is_sparse = sp.issparse(first)
        self.n_per_row = first.nnz / max(1, first.shape[0]) if self.is_sparse else float(self.shape[1])
        self.has_free_rows = isinstance(source, np.ndarray)
        chunks = getattr(source, "chunks", None)
        self.n_together = int(chunks[0]) if isinstance(chunks, tuple) and len(chunks) == 2 else 1

    def read(self, start: int, stop: int) -> Any:
        """See :class:`Storage`."""
        return self.source[start:stop]


class CompressedStorage:
    """The arrays of a CSR matrix, each stored for itself: a group of h5py or zarr in AnnData's layout.

    Where rows begin is held in memory: one number for each row.
    """

    is_sparse = True
    has_free_rows = False
    n_together = 1

    def __init__(self, group: Any, source: Any):
        self.source = source
        self._data, self._indices = group["data"], group["indices"]
        self._starts = np.asarray(group["indptr"][:], dtype=np.int64)
        n_rows, n_columns = (int(size) for size in group.attrs["shape"])
        if len(self._starts) != n_rows + 1:
            raise ValueError(
                f"X is a stored CSR matrix of {n_rows} rows, but its indptr has {len(self._starts)} entries instead of "
                f"{n_rows + 1}. Write the table again."
            )
        self.shape = (n_rows, n_columns)
        self.dtype = np.dtype(self._data.dtype)
        self.n_per_row = float(self._starts[-1]) / max(1, n_rows)

    def read(self, start: int, stop: int) -> sp.csr_array:
        """See :class:`Storage`."""
        starts = self._starts[start : stop + 1]
        entries = slice(int(starts[0]), int(starts[-1]))
        indices = np.asarray(self._indices[entries]).astype(np.int32, copy=False)
        return sp.csr_array(
            (np.asarray(self._data[entries]), indices, (starts - starts[0]).astype(np.int32)),
            shape=(stop - start, self.shape[1]),
        )


def storage_of(X: Any) -> Storage | None:
    """How the rows of a user's table are read from where it is stored; None where it is in memory.

    Memory-mapped arrays of floats are read in place, as arrays. Those of whole numbers would be copied as floats, and
    so they count as stored.
    """
    if isinstance(X, np.ndarray):
        is_mapped = isinstance(X, np.memmap) and X.ndim == 2 and X.dtype.kind in "iub"
        return SlicedStorage(X) if is_mapped else None
    if sp.issparse(X) or hasattr(type(X), "columns"):  # of the type: a lazy frame computes its own
        return None
    encoding = _encoding_of(X)
    if encoding == _CSC or getattr(X, "format", None) == "csc":
        raise ValueError(
            "X is stored by columns (CSC), and models read rows: that would read all of it for every few rows. Write "
            "it by rows into another file: adata = adata.to_memory(); adata.X = adata.X.tocsr(); "
            "adata.write_h5ad(...)."
        )
    if encoding == _CSR:
        return CompressedStorage(X, X)
    group = getattr(X, "group", None)
    if _encoding_of(group) == _CSR:
        return CompressedStorage(group, X)
    return SlicedStorage(X) if _has_slices(X) else None


def _encoding_of(X: Any) -> str | None:
    """What a group says that its arrays are; None of anything else."""
    attributes = getattr(X, "attrs", None)
    if attributes is None or not hasattr(attributes, "get") or not hasattr(X, "keys"):
        return None
    encoding = attributes.get(_ENCODING)
    return str(encoding) if all(name in X for name in _ARRAYS) else None


def _has_slices(X: Any) -> bool:
    """Whether an object has two dimensions, and slices of its rows are arrays or sparse matrices."""
    shape = getattr(X, "shape", None)
    if not isinstance(shape, tuple) or len(shape) != 2 or not hasattr(X, "dtype") or not hasattr(X, "__getitem__"):
        return False
    try:
        first = X[:1]
    except Exception:  # of whatever library the table is from: it is no table of rows
        return False
    return isinstance(first, np.ndarray) or sp.issparse(first)
