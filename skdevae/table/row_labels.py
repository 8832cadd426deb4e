"""Row labels: pandas' index of a table, and of what a user says of its rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


def check_row_labels(X: Any, **facts: Any) -> None:
    """Raise where facts about the rows of X have the same labels in another order.

    Facts belong to rows by their place, as everywhere in scikit-learn. Where both have labels, and these disagree, they
    come from two tables that were sorted differently, and would be mixed up in silence.
    """
    if not isinstance(X, pd.DataFrame):
        return
    for name, fact in facts.items():
        if not isinstance(fact, pd.Series | pd.DataFrame) or len(fact) != len(X) or fact.index.equals(X.index):
            continue
        if X.index.is_unique and X.index.isin(fact.index).all():
            row = int(np.argmax(X.index.to_numpy() != fact.index.to_numpy()))
            expected, found = (index[row : row + 1].tolist()[0] for index in (X.index, fact.index))
            raise ValueError(
                f"{name} has the row labels of X in another order: row {row} is {expected!r} in X and {found!r} in "
                f"{name}. Pass {name}.loc[X.index]; or {name}.to_numpy(), if rows belong "
                "together by their place."
            )
