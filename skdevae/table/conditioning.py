"""Conditioning columns: which columns of a user's table condition the others, and a table without them.

A column that conditions (sex, site, batch, age) says something about a row, and is not modelled. It may hold text, so
it leaves the table before that becomes an array of numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from .._sklearn import take_rows_or_columns
from .._typing import ColumnChoice, CovariatesLike
from .distributed import DistributedTable
from .passes import columns_in_memory
from .stored import StoredTable

#: what a mapping may declare a covariate to be
KINDS = ("categorical", "numeric")


@dataclass(frozen=True)
class ConditioningColumns:
    """The columns of a user's table that condition, by position.

    Attributes
    ----------
    positions : ndarray of shape (C,)
        In the order in which they were chosen.
    n_columns : int
        Number of columns of the whole table.
    names : list of C str
        Their names; ``x3`` is column 3 of a table without names.
    kinds : dict
        ``"categorical"`` or ``"numeric"``, by name, for those that were declared to be so.
    """

    positions: np.ndarray
    n_columns: int
    names: list[str]
    kinds: dict[str, str] = field(default_factory=dict)

    @classmethod
    def chosen(cls, X: Any, covariates: ColumnChoice) -> ConditioningColumns | None:
        """Those that a user has chosen from a training table; None where there are none.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (N, D)
            As the user gives it.
        covariates : sequence, mapping, bool mask, callable or None
            Names or positions of columns. A mapping also says of each what it is: ``"categorical"`` or ``"numeric"``. A
            callable gets the table and gives any of the others.
        """
        if covariates is None:
            return None
        X = _as_table(X)
        labels = getattr(X, "columns", None)
        choice = covariates(without_rows(X)) if callable(covariates) else covariates
        keys = _keys(choice, X.shape[1])
        positions = [_position(key, labels, X.shape[1]) for key in keys]
        if not positions:
            return None
        names = [f"x{position}" if labels is None else str(labels[position]) for position in positions]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"covariates={choice!r} names column {repeated[0]!r} twice.")
        if len(positions) == X.shape[1]:
            raise ValueError(
                f"covariates are all {X.shape[1]} columns of X, which leaves no column to model. Choose fewer."
            )
        kinds = _declared(choice, names) if isinstance(choice, Mapping) else {}
        return cls(np.array(positions), X.shape[1], names, kinds)

    @property
    def modelled(self) -> np.ndarray:
        """Positions of the other columns, which are modelled: (D,)."""
        return np.setdiff1d(np.arange(self.n_columns), self.positions)

    def split(self, X: Any) -> tuple[Any, pd.DataFrame]:
        """A table (N, D + C), as the user gives it, without the conditioning columns; and these: (N, C)."""
        X = _as_table(X)
        if X.shape[1] != self.n_columns:
            raise ValueError(
                f"X has {X.shape[1]} columns, but the model was fitted to {self.n_columns}, covariates included."
            )
        if isinstance(X, DistributedTable) and X.dtypes is not None:
            modelled, conditioning = X.split(self.modelled, self.positions)
            return modelled, _as_frame(conditioning, self.names)
        if isinstance(X, StoredTable):
            return X.of_columns(self.modelled), _as_frame(columns_in_memory(X, self.positions), self.names)
        conditioning = take_rows_or_columns(X, self.positions, axis=1)
        return take_rows_or_columns(X, self.modelled, axis=1), _as_frame(conditioning, self.names)


def covariate_table(
    of_columns: pd.DataFrame | None, given: CovariatesLike, n_rows: int, names: Sequence[str] | None = None
) -> pd.DataFrame | None:
    """The covariates of N rows: columns of their table, and what a method was given beside it; None if there are none.

    Parameters
    ----------
    of_columns : DataFrame of shape (N, C), optional
        From :meth:`ConditioningColumns.split`.
    given : DataFrame, Series, array-like of shape (N, C) or (N,), mapping or None
        A mapping gives a value, or N values, for each name. A one-dimensional array of whole numbers holds labels.
    n_rows : int
    names : sequence of str, optional
        Names of the columns of arrays, where they are known from training.
    """
    if given is None:
        return of_columns
    beside = _given_frame(given, n_rows, names)
    if beside.shape[1] == 0:
        raise ValueError("covariates has no column: give one at least, or leave covariates out.")
    if len(beside) != n_rows:
        raise ValueError(f"covariates has {len(beside)} rows, but there are {n_rows} samples.")
    if of_columns is None:
        return beside
    both = sorted(set(of_columns.columns) & set(beside.columns))
    if both:
        raise ValueError(f"Covariate {both[0]!r} is both a column of X and given as an argument. Give it once.")
    return pd.concat([of_columns, beside], axis=1)


def _given_frame(given: Any, n_rows: int, names: Sequence[str] | None) -> pd.DataFrame:
    if isinstance(given, Mapping):
        # Values belong to rows by their order, so that the index of a Series plays no part.
        columns = {name: values.array if isinstance(values, pd.Series) else values for name, values in given.items()}
        try:
            return pd.DataFrame(columns, index=range(n_rows))
        except ValueError as error:
            raise ValueError(
                f"covariates={given!r}: give one value, or one for each of {n_rows} samples, by name."
            ) from error
    if isinstance(given, pd.Series):
        return _as_frame(given.to_frame(), names if given.name is None else [str(given.name)])
    if sp.issparse(given):
        raise TypeError("covariates are a sparse array. Pass a data frame or a dense array.")
    if hasattr(given, "columns"):
        return _as_frame(given, [str(name) for name in _names_of(given)])
    values = np.asarray(given) if hasattr(given, "__array__") else np.array(given, dtype=object)
    if values.ndim not in (1, 2):
        raise ValueError(f"covariates has shape {values.shape}: give one row for each sample.")
    is_labels = values.ndim == 1
    frame = _as_frame(values[:, None] if is_labels else values, names)
    is_whole = is_labels and pd.api.types.is_integer_dtype(frame.dtypes.iloc[0])
    return frame.astype("category") if is_whole else frame


def _names_of(frame: Any) -> Sequence[Any]:
    """Names of a data frame's columns, of any library: a table of Arrow has the columns themselves as `columns`."""
    return getattr(frame, "column_names", frame.columns)


def _as_frame(columns: Any, names: Sequence[str] | None) -> pd.DataFrame:
    """A data frame of columns (N, C) of any kind, with an index that counts from 0; each column keeps its dtype."""
    if isinstance(columns, pd.DataFrame):
        frame = columns.reset_index(drop=True)
    elif hasattr(columns, "columns"):  # a data frame of another library
        frame = pd.DataFrame({str(name): np.asarray(columns[name]) for name in _names_of(columns)})
    elif sp.issparse(columns):
        frame = pd.DataFrame(columns.toarray())
    else:
        values = np.asarray(columns)
        frame = pd.DataFrame(values)
        if values.dtype == object:  # as which all columns come where some hold text
            frame = frame.infer_objects()
    if names is None or len(names) != frame.shape[1]:
        names = [f"covariate {position}" for position in range(frame.shape[1])]
    repeated = sorted({name for name in names if list(names).count(name) > 1})
    if repeated:
        raise ValueError(f"Several covariates are named {repeated[0]!r}. Give each a name of its own.")
    return frame.set_axis(list(names), axis=1)


def _as_table(X: Any) -> Any:
    """A table that has a shape and whose columns can be taken."""
    if not hasattr(X, "shape"):
        X = np.array(X, dtype=object)
    if len(X.shape) != 2:
        raise ValueError(f"X has shape {tuple(X.shape)}, but covariates are columns of a table of two dimensions.")
    return X.tocsr() if sp.issparse(X) else X


def without_rows(X: Any) -> Any:
    """A table whose columns are as they are: of a stored one with names a data frame of pandas, without rows."""
    return X.without_rows() if isinstance(X, StoredTable) else X


def _keys(choice: Any, n_columns: int) -> list[Any]:
    """Names or positions of columns, one each."""
    if isinstance(choice, str | Integral) and not isinstance(choice, bool):
        return [choice]
    try:
        keys = list(choice)
    except TypeError as error:
        raise ValueError(f"covariates={choice!r}: name columns of X, or give their positions.") from error
    if keys and all(isinstance(key, bool | np.bool_) for key in keys):
        if len(keys) != n_columns:
            raise ValueError(f"covariates is a mask of {len(keys)} columns, but X has {n_columns}.")
        return [int(position) for position in np.nonzero(keys)[0]]
    return keys


def _position(key: Any, labels: Any, n_columns: int) -> int:
    if isinstance(key, Integral) and not isinstance(key, bool | np.bool_):
        position = int(key)
        if not -n_columns <= position < n_columns:
            raise ValueError(f"covariates names column {position}, but X has {n_columns} columns.")
        return position % n_columns
    if labels is None:
        raise ValueError(
            f"covariates names column {key!r}, but X is no data frame. Give positions, or make X a data frame."
        )
    found = [position for position, label in enumerate(labels) if label == key]
    if not found:
        raise ValueError(f"covariates names column {key!r}, which X does not have.")
    return found[0]


def _declared(choice: Mapping, names: list[str]) -> dict[str, str]:
    for key, kind in choice.items():
        if kind not in KINDS:
            raise ValueError(f"covariates declares column {key!r} to be {kind!r}: choose 'categorical' or 'numeric'.")
    return dict(zip(names, choice.values(), strict=True))
