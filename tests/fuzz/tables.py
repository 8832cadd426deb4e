"""Tables of the fuzzer: what they hold, what is wrong with them, and what they come in.

A :class:`TableRecipe` is made of plain values, so its ``repr`` is code that makes the same table again.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import scipy.sparse as sp
import torch

try:
    import pyarrow
except ImportError:
    pyarrow = None

# ---- contents: (N, D) arrays of float64 ------------------------------------------------------------------------------


def _curves(random: np.random.Generator, n: int, d: int) -> np.ndarray:
    z, slope = random.standard_normal(n), random.standard_normal(d)
    return np.tanh(z[:, None] * slope) + 0.2 * random.standard_normal((n, d))


def _log_means(random: np.random.Generator, n: int, d: int) -> np.ndarray:
    return 1 + random.standard_normal(n)[:, None] * random.standard_normal(d)


CONTENTS: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    "curves": _curves,
    "noise": lambda random, n, d: random.standard_normal((n, d)),
    "counts": lambda random, n, d: random.poisson(np.exp(_log_means(random, n, d))).astype(float),
    "binary": lambda random, n, d: random.binomial(1, 1 / (1 + np.exp(-_log_means(random, n, d)))).astype(float),
    "sparse counts": lambda random, n, d: random.poisson(0.1, (n, d)).astype(float),
    "huge counts": lambda random, n, d: random.poisson(1e9 * random.random((n, d))).astype(float),
    "counts beyond 2**53": lambda random, n, d: np.floor(1e18 * random.random((n, d))),
    "fractional counts": lambda random, n, d: random.poisson(3, (n, d)) + 0.5,
    "negative counts": lambda random, n, d: random.poisson(3, (n, d)) - 3.0,
    "mixed scales": lambda random, n, d: _curves(random, n, d) * 10.0 ** random.uniform(-300, 300, d),
    "tiny": lambda random, n, d: 1e-300 * _curves(random, n, d),
    "huge": lambda random, n, d: 1e300 * _curves(random, n, d),
    "far from zero": lambda random, n, d: 1e10 + _curves(random, n, d),
    "zeros": lambda random, n, d: np.zeros((n, d)),
}
COUNTS = frozenset({"counts", "sparse counts"})

# ---- damage: what is done to them ------------------------------------------------------------------------------------


def _set(rows: Any, columns: Any, value: float) -> Callable[[np.ndarray], np.ndarray]:
    def damaged(X: np.ndarray) -> np.ndarray:
        X[rows, columns] = value
        return X

    return damaged


def _scattered(X: np.ndarray) -> np.ndarray:
    X[(np.arange(X.size).reshape(X.shape) * 7) % 10 < 3] = np.nan
    return X


def _outlier(X: np.ndarray) -> np.ndarray:
    X[0, 0] = 1e6 * (1 + np.abs(X[0, 0]))
    return X


DAMAGE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "a row of NaN": _set(0, slice(None), np.nan),
    "a column of NaN": _set(slice(None), 0, np.nan),
    "NaN here and there": _scattered,
    "NaN everywhere": _set(slice(None), slice(None), np.nan),
    "an infinity": _set(-1, -1, np.inf),
    "a negative infinity": _set(-1, 0, -np.inf),
    "a constant column": _set(slice(None), -1, 1.0),
    "an almost constant column": lambda X: np.hstack([X[:, :-1], 1 + 1e-9 * X[:, -1:]]),
    "a column of zeros": _set(slice(None), 0, 0.0),
    "a row of zeros": _set(-1, slice(None), 0.0),
    "columns twice": lambda X: np.hstack([X, X]),
    "a sum of columns": lambda X: np.hstack([X, X.sum(1, keepdims=True)]),
    "rows twice": lambda X: np.vstack([X, X]),
    "equal rows": lambda X: np.repeat(X[:1], len(X), axis=0),
    "an outlier": _outlier,
}
#: damage that a good table may have
HARMLESS = frozenset({"a row of zeros", "columns twice", "a sum of columns", "rows twice"})

# ---- containers: what the user passes --------------------------------------------------------------------------------


def _names(X: np.ndarray) -> list[str]:
    return [f"gene {column}" for column in range(X.shape[1])]


def _frame(X: np.ndarray, dtype: Any = None, columns: Any = None) -> pd.DataFrame:
    return pd.DataFrame(X, columns=_names(X) if columns is None else columns).astype(dtype or X.dtype)


def _finite(X: np.ndarray) -> np.ndarray:
    """Whole numbers that 64 bits hold, for containers of integers."""
    return np.clip(np.floor(np.nan_to_num(X, posinf=9e18, neginf=-9e18)), -9e18, 9e18)


def _memory_map(X: np.ndarray, mode: str) -> np.memmap:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # the map outlives the file's name
        path = Path(folder) / "table.npy"
        np.save(path, X)
        return np.load(path, mmap_mode=mode)


def _read_only(X: np.ndarray) -> np.ndarray:
    X.flags.writeable = False
    return X


def _first_column(X: np.ndarray, change: Callable[[pd.Series], Any]) -> pd.DataFrame:
    frame = _frame(X)
    if len(frame.columns):
        frame[frame.columns[0]] = change(frame[frame.columns[0]])
    return frame


def _csr(X: np.ndarray, index: type = np.int32, dtype: Any = None) -> sp.csr_array:
    table = sp.csr_array(X, dtype=dtype)
    table.indices, table.indptr = table.indices.astype(index), table.indptr.astype(index)
    return table


def _unsorted(X: np.ndarray) -> sp.csr_array:
    table = sp.csr_array(X)
    order = np.concatenate(
        [np.arange(a, b)[::-1] for a, b in zip(table.indptr, table.indptr[1:], strict=False)] or [[]]
    )
    order = order.astype(int)
    return sp.csr_array((table.data[order], table.indices[order], table.indptr), shape=table.shape)


def _duplicates(X: np.ndarray) -> sp.csr_array:
    table = sp.csr_array(X)
    data, indices = np.repeat(table.data, 2) / 2, np.repeat(table.indices, 2)
    return sp.csr_array((data, indices, 2 * table.indptr), shape=table.shape)


def _explicit_zeros(X: np.ndarray) -> sp.csr_array:
    n, d = X.shape
    return sp.csr_array((X.ravel().copy(), np.tile(np.arange(d), n), d * np.arange(n + 1)), shape=X.shape)


def _polars(X: np.ndarray, change: Callable[[pl.DataFrame], pl.DataFrame] = lambda frame: frame) -> pl.DataFrame:
    return change(pl.DataFrame({name: X[:, column].copy() for column, name in enumerate(_names(X))}))


#: what good tables come in
GOOD_CONTAINERS: dict[str, Callable[[np.ndarray], Any]] = {
    "array": lambda X: X,
    "Fortran order": np.asfortranarray,
    "negative strides": lambda X: X[::-1, ::-1].copy()[::-1, ::-1],
    "every other entry": lambda X: np.repeat(np.repeat(X, 2, 0), 2, 1)[::2, ::2],
    "big-endian": lambda X: X.astype(">f8"),
    "read-only": _read_only,
    "memory map": lambda X: _memory_map(X, "r+") if X.size else X,
    "read-only memory map": lambda X: _memory_map(X, "r") if X.size else X,
    "list": lambda X: X.tolist(),
    "tuple of arrays": tuple,
    "frame": _frame,
    "frame with numbers as names": lambda X: _frame(X, columns=range(X.shape[1])),
    "frame with an odd index": lambda X: _frame(X).set_axis([0] * len(X)),
    "nullable frame": lambda X: _frame(X, "Float64"),
    "frame of objects": lambda X: _frame(X, object),
    "polars": _polars,
    "polars with nulls": lambda X: _polars(X, lambda frame: frame.fill_nan(None)),
    "tensor": torch.from_numpy,
}
#: of counts alone
SPARSE_CONTAINERS: dict[str, Callable[[np.ndarray], Any]] = {
    **{
        name: lambda X, name=name: sp.csr_array(X).asformat(name) for name in ("csr", "csc", "coo", "lil", "dok", "bsr")
    },
    "dia": lambda X: sp.dia_array(X),
    "sparse matrix": lambda X: sp.csr_matrix(X),
    "CSR of int64 indices": lambda X: _csr(X, np.int64),
    "CSR, unsorted": _unsorted,
    "CSR with duplicates": _duplicates,
    "CSR with explicit zeros": _explicit_zeros,
    "CSR of integers": lambda X: _csr(_finite(X), dtype=np.int64),
    "sparse frame": lambda X: _frame(X, pd.SparseDtype(float, 0)),
}
#: everything else: it may be refused
ODD_CONTAINERS: dict[str, Callable[[np.ndarray], Any]] = {
    "float32": lambda X: X.astype(np.float32),
    "float16": lambda X: X.astype(np.float16),
    "long double": lambda X: X.astype(np.longdouble),
    **{name: lambda X, name=name: _finite(X).astype(name) for name in ("int8", "uint8", "int64", "uint64", "bool")},
    "objects": lambda X: X.astype(object),
    "objects with None": lambda X: np.where(np.isnan(X), None, X.astype(object)),
    "numbers as text": lambda X: X.astype(str),
    "text": lambda X: np.full(X.shape, "high"),
    "text among objects": lambda X: np.where(np.arange(X.shape[1]) == 0, "high", X.astype(object)),
    "bytes": lambda X: X.astype(bytes),
    "complex": lambda X: X.astype(complex),
    "dates": lambda X: _finite(X).astype("datetime64[s]"),
    "timedeltas": lambda X: _finite(X).astype("timedelta64[s]"),
    "records": lambda X: np.zeros(len(X), dtype=[("a", float), ("b", float)]),
    "matrix": np.asmatrix,
    "masked array": lambda X: np.ma.masked_invalid(X),
    "one dimension": lambda X: X.ravel(),
    "three dimensions": lambda X: X[None],
    "no dimension": lambda X: np.float64(1.0),
    "ragged list": lambda X: [*X.tolist(), [1.0] * (X.shape[1] + 1)],
    "list of huge integers": lambda X: [[10**400] * X.shape[1]] * len(X),
    "decimals": lambda X: [[Decimal(repr(float(x))) for x in row] for row in X],
    "generator": lambda X: (row for row in X),
    "dictionary": lambda X: {"a": [1.0, 2.0]},
    "None": lambda X: None,
    "series": lambda X: pd.Series(X.ravel()),
    "frame of integers that may be missing": lambda X: _frame(
        np.where(np.isnan(X), np.nan, np.clip(_finite(X), -(2**53), 2**53)), "Int64"
    ),
    "frame with pd.NA": lambda X: _frame(X, object).mask(np.isnan(X), pd.NA),
    "frame with text": lambda X: _first_column(X, lambda column: "high"),
    "frame with numbers as text": lambda X: _first_column(X, lambda column: column.astype(str)),
    "frame with a string column": lambda X: _first_column(X, lambda column: column.astype("string")),
    "frame with categories": lambda X: _first_column(X, lambda column: column.astype("category")),
    "frame with categories of text": lambda X: _first_column(X, lambda column: column.astype(str).astype("category")),
    "frame with dates": lambda X: _first_column(X, lambda column: pd.Timestamp("2020-01-01")),
    "frame with zoned dates": lambda X: _first_column(X, lambda column: pd.Timestamp("2020-01-01", tz="UTC")),
    "frame with periods": lambda X: _first_column(X, lambda column: pd.Period("2020-01", "M")),
    "frame with intervals": lambda X: _first_column(X, lambda column: pd.Interval(0, 1)),
    "frame with timedeltas": lambda X: _first_column(X, lambda column: pd.Timedelta(1, "D")),
    "frame with complex numbers": lambda X: _first_column(X, lambda column: column.astype(complex)),
    "frame with booleans": lambda X: _first_column(X, lambda column: (column > 0).astype("boolean")),
    "frame with lists": lambda X: _first_column(X, lambda column: [[1.0]] * len(column)),
    "frame with long doubles": lambda X: _first_column(X, lambda column: column.astype(np.longdouble)),
    "frame with huge integers": lambda X: _first_column(X, lambda column: [10**400] * len(column)),
    "frame of equal names": lambda X: _frame(X, columns=["a"] * X.shape[1]),
    "frame of mixed names": lambda X: _frame(X, columns=[*_names(X)[1:], 1][: X.shape[1]]),
    "frame of odd names": lambda X: _frame(X, columns=[" " * column + "\n\0é{}%s" for column in range(X.shape[1])]),
    "frame of tuples as names": lambda X: _frame(X, columns=pd.MultiIndex.from_product([["a"], _names(X)])),
    "frame of dates as names": lambda X: _frame(X, columns=pd.date_range("2020", periods=X.shape[1])),
    "frame in another order": lambda X: _frame(X).iloc[:, ::-1],
    "frame of other names": lambda X: _frame(X).add_prefix("other "),
    "sparse frame filled with NaN": lambda X: _frame(X, pd.SparseDtype(float, np.nan)),
    "sparse frame filled with 1": lambda X: _frame(X, pd.SparseDtype(float, 1.0)),
    "CSR of float32": lambda X: _csr(X.astype(np.float32)),
    "CSR of long doubles": lambda X: _csr(X.astype(np.longdouble)),
    "CSR of complex numbers": lambda X: _csr(X.astype(complex)),
    "CSR of booleans": lambda X: _csr(_finite(X).astype(bool)),
    "CSR of uint64": lambda X: _csr(np.abs(_finite(X)).astype(np.uint64)),
    "polars with text": lambda X: _polars(X, lambda frame: frame.with_columns(pl.lit("high").alias("gene 0"))),
    "polars with dates": lambda X: _polars(X, lambda frame: frame.with_columns(pl.date(2020, 1, 1).alias("gene 0"))),
    "polars with booleans": lambda X: _polars(X, lambda frame: frame.with_columns(pl.lit(True).alias("gene 0"))),
    "polars of decimals": lambda X: _polars(_finite(X).clip(-1e15, 1e15), lambda frame: frame.cast(pl.Decimal(30, 4))),
    "polars with categories": lambda X: _polars(X, lambda frame: frame.cast(pl.String).cast(pl.Categorical)),
    "polars of lists": lambda X: pl.DataFrame({"a": [[1.0]] * len(X), "b": [[1.0]] * len(X)}),
    "lazy polars": lambda X: _polars(X).lazy(),
    "tensor with a gradient": lambda X: torch.from_numpy(X).requires_grad_(),
    "tensor of float16": lambda X: torch.from_numpy(X).half(),
    "tensor of bfloat16": lambda X: torch.from_numpy(X).bfloat16(),
    "sparse tensor": lambda X: torch.from_numpy(X).to_sparse(),
    "tensor without numbers": lambda X: torch.from_numpy(X).to("meta"),
}
if pyarrow is not None:
    ODD_CONTAINERS |= {
        "Arrow table": lambda X: pyarrow.Table.from_pandas(_frame(X)),
        "frame of Arrow numbers": lambda X: _frame(X, "double[pyarrow]"),
    }
CONTAINERS = GOOD_CONTAINERS | SPARSE_CONTAINERS | ODD_CONTAINERS


@dataclass(frozen=True)
class TableRecipe:
    """How a table is made: N rows and D columns of some contents, damaged in some ways, in a container."""

    n: int = 12
    d: int = 4
    contents: str = "curves"
    damage: tuple[str, ...] = ()
    container: str = "array"
    factor: float = 1.0
    seed: int = 0

    def values(self) -> np.ndarray:
        """The table's values, before they come in a container."""
        with np.errstate(all="ignore"):
            X = self.factor * CONTENTS[self.contents](np.random.default_rng(self.seed), self.n, self.d)
            for name in self.damage if X.size else ():
                X = DAMAGE[name](X)
        return X

    def build(self) -> Any:
        """The table."""
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
            return CONTAINERS[self.container](self.values())

    def is_good(self, likelihood: str) -> bool:
        """Whether a model with this likelihood has to take the table."""
        sparse = self.container in SPARSE_CONTAINERS
        suits = {"gaussian": {"curves", "noise"}, "bernoulli": {"binary"}}.get(likelihood, COUNTS)
        return (
            self.contents in suits
            and self.factor == 1
            and self.n >= 5
            and self.d >= 2
            and set(self.damage) <= HARMLESS
            and (self.container in GOOD_CONTAINERS or (sparse and likelihood != "gaussian"))
        )
