"""Lacking columns: what to do where a later table has other columns than the training table.

scikit-learn says which names differ. A model that takes missing entries can go on without a column, and the message
says how. It does not do so by itself: a misspelt name would then become a column that nobody measured.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd

from .stored import is_sparse

#: how a data frame of pandas gets columns that it lacks
_WITH_GAPS = "X.reindex(columns=model.feature_names_in_)"
#: the same of another library
_OTHER_FRAME = "a data frame with columns model.feature_names_in_, in this order, and missing entries where X has none"


@contextmanager
def explained_columns(X: Any, names: np.ndarray | None, n_columns: int, covariates: Collection[str]) -> Iterator[None]:
    """Around scikit-learn's checks of the columns of X: an error that they raise also says what to do.

    Parameters
    ----------
    X : table
        As the user gives it.
    names : ndarray of shape (n_columns,) or None
        Names of the columns of the training table, where they had some.
    n_columns : int
        Their number.
    covariates : collection of str
        Those of the names that condition and are not modelled.
    """
    try:
        yield
    except ValueError as error:
        own = getattr(X, "columns", None)
        if names is not None and own is not None:
            advice = _advice_by_name(X, [str(name) for name in own], names, covariates)
        else:
            advice = _advice_by_number(X, names, n_columns)
        if not advice:
            raise
        raise ValueError(f"{str(error).rstrip()}\n{advice}") from None


def _advice_by_name(X: Any, own: list[str], names: np.ndarray, covariates: Collection[str]) -> str:
    lacking = [str(name) for name in names if name not in set(own)]
    conditioning = [name for name in lacking if name in covariates]
    modelled = [name for name in lacking if name not in covariates]
    others = [name for name in own if name not in set(names)]
    if own == names.tolist():
        return ""
    if not lacking and not others:
        return "X[model.feature_names_in_] has the columns in the order of the fit."
    said = []
    if modelled:
        how = _WITH_GAPS if isinstance(X, pd.DataFrame) else _OTHER_FRAME
        said.append(
            f"X lacks {first_names(modelled)} of {len(names)} columns. If X has them under other names, rename these. "
            f"If they were not measured, pass {how}: their entries are then missing, and the other columns place the "
            "samples."
        )
    if others:
        how = "" if modelled else ": X[model.feature_names_in_]"
        said.append(f"The model was not fitted to {first_names(others)}: leave out what it does not know{how}.")
    if conditioning:
        said.append(
            f"X lacks {first_names(conditioning)} of the covariates. A covariate has to be known for every sample: add "
            "its values. With set_params(unknown_covariate='average') they may be missing, and the samples count as "
            "average ones."
        )
    return " ".join(said)


def _advice_by_number(X: Any, names: np.ndarray | None, n_columns: int) -> str:
    shape = getattr(X, "shape", None)
    found = shape[1] if shape is not None and len(shape) == 2 else None
    if found is None or found == n_columns:
        return ""
    if found > n_columns:
        return f"Leave out the {found - n_columns} columns that were not in the table of the fit."
    where = "np.insert(X, position, np.nan, axis=1) puts one in"
    if is_sparse(X):
        where = "make X dense for that (a sparse table has zeros where nothing is stored)"
    named = (
        "or pass a data frame with the names of the fit" if names is not None else "or fit to data frames with names"
    )
    return (
        f"X lacks {n_columns - found} of {n_columns} columns, and without names nobody can say which. Give those that "
        f"were not measured a column of NaN in their place: {where}; {named}."
    )


def first_names(names: Sequence[str]) -> str:
    """How messages call some names."""
    shown = ", ".join(repr(str(name)) for name in names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
