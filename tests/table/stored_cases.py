"""Tables that lie on disk, in every layout that is read, and in pieces so small that a small table has many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.sparse as sp
import zarr

from skdevae.table import stored as stored_module


class Sliced:
    """The least that a table on disk may be: a shape, a dtype, and slices of rows. It counts what is asked of it."""

    def __init__(self, table: Any):
        self._table, self.shape, self.dtype = table, table.shape, table.dtype
        self.reads: list[int] = []

    def __getitem__(self, rows: slice) -> Any:
        assert isinstance(rows, slice)
        self.reads.append(len(range(*rows.indices(self.shape[0]))))
        return self._table[rows]


def _h5py_dense(table: np.ndarray, folder: Path) -> Any:
    return h5py.File(folder / "dense.h5", "w").create_dataset("X", data=table, chunks=(5, table.shape[1]))


def _zarr_dense(table: np.ndarray, folder: Path) -> Any:
    group = zarr.open_group(folder / "dense.zarr", mode="w")
    array = group.create_array("X", shape=table.shape, dtype=table.dtype, chunks=(5, 3))
    array[:] = table
    return array


def csr_group(group: Any, table: sp.csr_array) -> Any:
    """A CSR matrix in the layout of AnnData."""
    for name in ("data", "indices", "indptr"):
        group[name] = getattr(table, name)
    group.attrs["encoding-type"] = "csr_matrix"
    group.attrs["shape"] = list(table.shape)
    return group


def _memory_map(table: np.ndarray, folder: Path) -> Any:
    mapped = np.memmap(folder / "table", dtype=np.int32, mode="w+", shape=table.shape)
    mapped[:] = table
    return mapped


#: name -> a table (N, D) of counts in that layout
LAYOUTS = {
    "h5py": _h5py_dense,
    "zarr": _zarr_dense,
    "slices": lambda table, _: Sliced(table),
    "memory map of whole numbers": _memory_map,
    "CSR in h5py": lambda table, folder: csr_group(h5py.File(folder / "csr.h5", "w"), sp.csr_array(table)),
    "CSR in zarr": lambda table, folder: csr_group(zarr.open_group(folder / "csr.zarr", mode="w"), sp.csr_array(table)),
    "slices of CSR": lambda table, _: Sliced(sp.csr_matrix(table)),
}


@pytest.fixture
def small_pieces(monkeypatch):
    """Pieces of a few rows, of which a few are held."""
    monkeypatch.setattr(stored_module, "_PIECE_ENTRIES", 60)
    monkeypatch.setattr(stored_module, "_HELD_ENTRIES", 200)


def plain(block: Any) -> np.ndarray:
    """Rows as a dense array."""
    return block.toarray() if sp.issparse(block) else np.asarray(block)
