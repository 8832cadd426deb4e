"""Validation: checks of user input that scikit-learn does not have.

Every error says what is wrong, where, and what to do.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from .distributed import DistributedTable, stored_table_of
from .passes import gathered
from .refused import check_is_table, sparse_complaint
from .stored import StoredTable, is_sparse, row_blocks, without_mask

#: whole numbers above it are not exact in double precision
_LARGEST_COUNT = 2.0**53
#: entries of a dense table that are looked at together
_ENTRIES = 2_000_000
#: kinds of NumPy's dtypes that hold numbers
_NUMBERS = "biuf"


def column_label(feature_names: Any, column: int) -> str:
    """How an error message calls a column."""
    if feature_names is None:
        return f"column {column}"
    name = feature_names[column]
    return f"column {str(name)!r}" if isinstance(name, str) else f"column {name}"


def first_columns(feature_names: np.ndarray | None, columns: np.ndarray) -> str:
    """How messages call some columns."""
    shown = ", ".join(column_label(feature_names, int(column)) for column in columns[:3])
    return f"{shown} and {len(columns) - 3} more" if len(columns) > 3 else shown


def routing_advice(fact: str) -> str:
    """How a fact of rows comes through what calls an estimator's methods for the user."""
    return (
        "Searches, cross-validation and pipelines pass them on where scikit-learn's metadata routing is on, "
        "sklearn.set_config(enable_metadata_routing=True), and the estimator asks for them, as by "
        f"set_fit_request({fact}=True) and set_score_request({fact}=True)."
    )


def as_plain_table(X: Any) -> Any:
    """A user's table in a form that scikit-learn takes for what it says, or an error that says what is wrong with it.

    A tensor becomes an array, masked entries become NaN, and sparse columns filled with something else than zero become
    dense. A table that is not in memory becomes a :class:`StoredTable`. Dates, times and complex numbers are errors:
    NumPy would take dates for numbers without a word.
    """
    check_is_table(X)
    stored = X if isinstance(X, StoredTable) else stored_table_of(X)
    if stored is not None:
        return _of_numbers(stored)
    if isinstance(X, torch.Tensor):
        return _array_of_tensor(X)
    if isinstance(X, np.ma.MaskedArray):
        X = without_mask(X)
    if isinstance(X, pd.DataFrame):
        _check_names(X.columns)
        sparse = [dtype for dtype in X.dtypes if isinstance(dtype, pd.SparseDtype)]
        if len(sparse) == X.shape[1] and any(dtype.fill_value != 0 for dtype in sparse):
            X = X.sparse.to_dense()
    if isinstance(X, np.ndarray):
        check_real("X", X.dtype)
    elif hasattr(X, "__array__") and hasattr(X, "columns") and hasattr(X, "dtypes"):
        for column, dtype in enumerate(X.dtypes):
            check_real(f"{column_label(X.columns, column)} of X", dtype)
    return X


def _of_numbers(stored: StoredTable) -> StoredTable:
    if isinstance(stored, DistributedTable) and stored.columns is not None:
        _check_names(stored.columns)
    check_real("X", stored.stored_dtype)
    if stored.stored_dtype.kind not in _NUMBERS:
        raise TypeError(f"X holds entries of type {stored.stored_dtype}. Pass a table of numbers.")
    return stored


def _array_of_tensor(X: torch.Tensor) -> np.ndarray:
    if X.layout != torch.strided or X.is_meta:
        raise TypeError(f"X is a tensor that NumPy cannot read ({X.layout}, {X.device}): pass an array of its values.")
    values = X.detach().cpu()
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy()


def _check_names(names: pd.Index) -> None:
    """Raise where a data frame has no columns, or several of one name."""
    if len(names) == 0:
        raise ValueError("Found array with 0 feature(s): X is a data frame without columns, and needs at least one.")
    repeated = names[names.duplicated()].unique()
    if len(repeated):
        others = f", and {len(repeated) - 1} other names occur more than once" if len(repeated) > 1 else ""
        raise ValueError(f"X has several columns named {repeated.tolist()[0]!r}{others}. Give each a name of its own.")


def check_real(name: str, dtype: Any) -> None:
    """Raise if a dtype of NumPy, pandas or polars is one of dates, times, durations or complex numbers."""
    kind, is_temporal = getattr(dtype, "kind", ""), getattr(dtype, "is_temporal", None)
    if kind in ("m", "M") or (callable(is_temporal) and is_temporal()):
        raise ValueError(f"{name} holds dates or times ({dtype}). Pass numbers, such as days since the first date.")
    if kind == "c":
        raise ValueError(f"Complex data not supported: {name} holds complex numbers ({dtype}).")


@contextmanager
def named_entries(values: Any, name: str = "X") -> Iterator[None]:
    """Around scikit-learn's checks of a user's values: where these are no numbers, the error says where and what.

    The errors that scikit-learn and other libraries let out then name neither columns nor rows.
    """
    try:
        yield
    except Exception as error:  # of scikit-learn, or of the library that the values are from
        _raise_if_unreadable(values, name, error)
        raise


def _raise_if_unreadable(values: Any, name: str, error: Exception) -> None:
    is_numeric = isinstance(values, np.ndarray) and values.dtype.kind in "fiubc"
    if sp.issparse(values) or is_numeric or _holds_numbers(values):
        return
    entries = _as_objects(values)
    if entries.ndim == 2:
        columns = (j for j in range(entries.shape[1]) if not _holds_numbers(entries[:, j].tolist(), ndim=1))
        column = next(columns, None)
        if column is not None:
            row = next(i for i, entry in enumerate(entries[:, column]) if not _holds_numbers([entry], ndim=1))
            message = (
                f"{column_label(getattr(values, 'columns', None), column)} of {name} has no number in row {row}, but "
                f"{reprlib.repr(entries[row, column])}. Encode the column as numbers, with NaN where an entry is "
                "missing, or leave it out."
            )
            # Text is a wrong value. What is neither text nor a number is of a wrong type, as Python itself says.
            raise TypeError(f"{message} ({error})") if isinstance(error, TypeError) else ValueError(message)
    lengths = {len(row) for row in values if isinstance(row, Sized)} if isinstance(values, Sequence) else set()
    if len(lengths) > 1:
        raise ValueError(f"The rows of {name} have different lengths, from {min(lengths)} to {max(lengths)}.")
    if isinstance(values, str) and name != "X":
        raise TypeError(
            f"{name}={values!r} is a name, and {name} takes the values themselves: with a data frame, X[{values!r}]."
        )
    if entries.ndim == 1 and len(entries) and name != "X":
        row = next((i for i, entry in enumerate(entries) if not _holds_numbers([entry], ndim=1)), -1)
        if row >= 0:
            raise ValueError(
                f"{name} has no number in row {row}, but {reprlib.repr(entries[row])}. Encode it as numbers, with NaN "
                "where a value is missing; a pandas category has numbers in cat.codes."
            )
    raise TypeError(
        f"{name}={reprlib.repr(values)} cannot be read as numbers. Pass an array or a data frame"
        f"{' or, for counts, a sparse array' if name == 'X' else ''}."
    )


def _holds_numbers(values: Any, ndim: int | None = None) -> bool:
    """Whether floats can hold values, in an array of so many dimensions where that is given."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except Exception:  # of whatever library the values are from
        return False
    return ndim is None or array.ndim == ndim


def _as_objects(X: Any) -> np.ndarray:
    try:
        return np.asarray(X, dtype=object)
    except Exception:  # of whatever library the table is from
        return np.empty(0, dtype=object)


def check_not_infinite(X: np.ndarray | sp.csr_array, feature_names: np.ndarray | None, first_row: int = 0) -> None:
    """Raise if an entry is infinite, or was too large for the floats that it has become.

    ``first_row`` is the number of the first row in a table of which these rows are a part.
    """
    found = _entries_that(np.isinf, X)
    if found is not None:
        rows, columns = found
        raise ValueError(
            f"Input X contains infinity or a value too large for {X.dtype}: {len(rows)} entries, in "
            f"{first_columns(feature_names, np.unique(columns))} (the first in row {first_row + rows.min()}). Write "
            "NaN where an entry is missing."
        )


def _entries_that(
    is_meant: Callable[[np.ndarray], np.ndarray], X: np.ndarray | sp.csr_array
) -> tuple[np.ndarray, np.ndarray] | None:
    """Rows and columns of the entries of which something is true; None where it is of none."""
    if sp.issparse(X):
        meant = is_meant(np.asarray(X.data))
        entries = sp.coo_array(X)
        return (entries.row[meant], entries.col[meant]) if meant.any() else None
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for index, block in row_blocks(X, max(1, _ENTRIES // max(1, X.shape[1]))):
        meant = is_meant(block)
        if meant.any():
            rows, columns = np.nonzero(meant)
            found.append((index.start + rows, columns))
    return (np.concatenate([r for r, _ in found]), np.concatenate([c for _, c in found])) if found else None


def first_numbers(what: str, numbers: np.ndarray) -> str:
    """How messages call some rows: "1 row (row 7)", "5 rows (rows 1, 2, 3 and 2 more)"."""
    shown = ", ".join(str(number) for number in numbers[:3])
    more = f" and {len(numbers) - 3} more" if len(numbers) > 3 else ""
    plural = "s" if len(numbers) > 1 else ""
    return f"{len(numbers)} {what}{plural} ({what}{plural} {shown}{more})"


def check_counts(
    X: np.ndarray | sp.csr_array, likelihood: str, feature_names: np.ndarray | None, first_row: int = 0
) -> None:
    """Raise unless all entries are non-negative whole numbers (0 or 1 for bernoulli); NaN passes.

    ``first_row`` is the number of the first row in a table of which these rows are a part.
    """
    complaints: list[tuple[Callable[[np.ndarray], np.ndarray], str]] = [
        (lambda x: x < 0, f"Negative values in data passed to a model with likelihood={likelihood!r}"),
        (
            lambda x: (x != np.floor(x)) & ~np.isnan(x),
            f"Fractional values where {likelihood!r} needs raw counts",
        ),
        (lambda x: x > _LARGEST_COUNT, "Counts above 2**53, which double precision does not hold exactly"),
    ]
    if likelihood == "bernoulli":
        complaints.append((lambda x: x > 1, "Values above 1 where likelihood='bernoulli' needs zeros and ones"))
    for is_bad, complaint in complaints:
        found = _entries_that(is_bad, X)
        if found is not None:
            rows, columns = found
            raise ValueError(
                f"{complaint}: {len(rows)} entries, in {first_columns(feature_names, np.unique(columns))} (the first "
                f"in row {first_row + rows.min()}). Use likelihood='gaussian' for measurements and for transformed "
                "counts."
            )


def check_stored(X: StoredTable, likelihood: str, *, counts: bool, least_rows: int, names: np.ndarray | None) -> None:
    """Read a stored table once, and raise where a model of a likelihood, of counts or not, cannot read it.

    Errors tell how many entries are wrong of the first rows that have such entries.
    """
    if X.shape[0] < least_rows or X.shape[1] < 1:
        what, n, least = ("sample", X.shape[0], least_rows) if X.shape[1] else ("feature", 0, 1)
        raise ValueError(f"Found array with {n} {what}(s) (shape={X.shape}) while a minimum of {least} is required.")
    if X.is_sparse and not counts:
        raise TypeError(
            f"{sparse_complaint(likelihood)} Otherwise store the table as a dense array, or read it into memory if a "
            "dense array of it fits there."
        )

    dtypes = X.dtypes if isinstance(X, DistributedTable) else None
    for column, dtype in enumerate([] if dtypes is None else dtypes):
        check_real(f"{column_label(names, column)} of X", dtype)
        if not pd.api.types.is_numeric_dtype(dtype):
            raise ValueError(
                f"{column_label(names, column)} of X holds no numbers, but {dtype}. Encode the column as numbers, with "
                "NaN where an entry is missing, leave it out, or name it in covariates=... if it conditions the others."
            )
    for number, dtypes in X.other_dtypes() if isinstance(X, DistributedTable) else ():
        for column, dtype in enumerate(dtypes):
            check_real(f"{column_label(names, column)} of X in chunk {number}", dtype)

    def check(block: Any, first_row: int) -> None:
        check_not_infinite(block, names, first_row)
        if counts:
            check_counts(block, likelihood, names, first_row)

    X.check(check)


def rows_without_entries(X: Any) -> np.ndarray:
    """Numbers of the rows of a table, stored or not, that have no observed entry."""
    if is_sparse(X):
        return np.empty(0, dtype=np.int64)
    return np.nonzero(gathered(X, _are_without_entries))[0]


def _are_without_entries(X: Any) -> np.ndarray:
    step = max(1, _ENTRIES // X.shape[1])
    return np.concatenate([np.isnan(block).all(1) for _, block in row_blocks(X, step)])


def check_rows(X: Any, weights: np.ndarray) -> None:
    """Raise if a row of a dense table has no observed entry at all, unless its weight is zero."""
    rows = rows_without_entries(X)
    rows = rows[weights[rows] > 0]
    if len(rows):
        raise ValueError(
            f"{len(rows)} rows have no observed entry (the first is row {rows[0]}). Drop them before fit; "
            "transform and posterior accept them and answer with the prior. Rows are counted from 0, whatever an index "
            "says."
        )


def check_single_precision(parameters: Mapping[str, Any]) -> None:
    """Raise unless single precision, in which models are trained, holds all parameters that are real numbers."""
    least, most = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
    for name, value in parameters.items():
        is_finite_real = isinstance(value, Real) and not isinstance(value, Integral) and math.isfinite(value)
        if is_finite_real and value != 0 and not least <= abs(float(value)) <= most:
            raise ValueError(
                f"{name}={value!r}, but models are trained in single precision, which holds numbers from "
                f"{least:.1e} to {most:.1e}."
            )


def check_layer_sizes(name: str, sizes: Sequence[int]) -> tuple[int, ...]:
    """Widths of hidden layers as integers; raise unless all are positive whole numbers."""
    widths = tuple(sizes)
    if any(not isinstance(width, Integral) or width < 1 for width in widths):
        raise ValueError(f"{name}={sizes!r}: give the width of each hidden layer as a positive integer.")
    return tuple(int(width) for width in widths)


def resolve_behaviors(
    n_clusters: int | None, behaviors: Sequence[str] | str | None, known: Sequence[str]
) -> tuple[str, ...]:
    """The behaviours to fit: those named, or the first ``n_clusters`` known ones (four unless said otherwise)."""
    if behaviors is None:
        n = 4 if n_clusters is None else n_clusters
        if n > len(known):
            raise ValueError(
                f"n_clusters={n}, but there are {len(known)} behaviours to choose from: {', '.join(known)}."
            )
        return tuple(known[:n])
    chosen = (behaviors,) if isinstance(behaviors, str) else tuple(behaviors)
    unknown = [name for name in chosen if not isinstance(name, str) or name not in known]
    if unknown or not chosen:
        raise ValueError(f"behaviors={behaviors!r}: choose one or more of {', '.join(known)}.")
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"behaviors={behaviors!r} names a behaviour twice.")
    if n_clusters is not None and n_clusters != len(chosen):
        raise ValueError(
            f"n_clusters={n_clusters} disagrees with the {len(chosen)} behaviors {chosen!r}. Give one of the two."
        )
    return chosen


def resolve_basis(basis: Sequence[str] | str | None, n_clusters: int, known: Sequence[str]) -> tuple[str, ...] | None:
    """A behaviour for each of K functions, those named in turn, equal ones next to each other; None stays None."""
    if basis is None:
        return None
    chosen = (basis,) if isinstance(basis, str) else tuple(basis)
    if not chosen or any(not isinstance(name, str) or name not in known for name in chosen):
        raise ValueError(f"basis={basis!r}: choose one or more of {', '.join(known)}.")
    chosen = tuple(str(name) for name in chosen)  # NumPy's strings among them
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"basis={basis!r} names a behaviour twice.")
    if len(chosen) > n_clusters:
        raise ValueError(f"basis={basis!r} names {len(chosen)} behaviours for n_clusters={n_clusters} functions.")
    return tuple(name for position, name in enumerate(chosen) for _ in range(position, n_clusters, len(chosen)))


def check_scale_bounds(bounds: Sequence[float]) -> tuple[float, float]:
    """Least and largest scale; raise unless they are two positive numbers in ascending order."""
    pair = tuple(bounds)
    if len(pair) != 2 or not all(isinstance(bound, Real) for bound in pair) or not 0 < pair[0] < pair[1] < math.inf:
        raise ValueError(f"scale_bounds={bounds!r}: give the least and the largest scale, 0 < least < largest.")
    return float(pair[0]), float(pair[1])
