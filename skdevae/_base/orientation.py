"""Orientation: which end of an axis is up. z and -z fit alike, so a rule or the user has to say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import check_array

from .._warnings import warn_user
from ..table.components import correlations, ranks
from ..table.passes import columns_in_memory
from ..table.source import RowSource
from ..table.validation import named_entries
from ..table.weighted_rows import WeightedRows


def orientation_reference(
    X: Any,
    feature: str | int | None,
    per_sample: Any,
    feature_names: np.ndarray | None,
    weights: np.ndarray | None = None,
) -> np.ndarray | None:
    """The variable that should rise along the first axis, (N,): one given by sample, or a column of X; or None.

    NaN stands for values that are not known, and for those of samples whose weight (N,) is zero. A variable that has
    fewer than two different values tells nothing, so there is none then, and a warning says so.
    """
    if per_sample is not None:
        with named_entries(per_sample, "orientation"):
            reference = check_array(per_sample, ensure_2d=False, ensure_all_finite="allow-nan", dtype=np.float64)
        if reference.shape != (X.shape[0],):
            raise ValueError(
                f"orientation has shape {reference.shape}, but X has {X.shape[0]} samples: give one value a sample."
            )
    elif feature is not None:
        column = _column_index(feature, X.shape[1], feature_names)
        reference = columns_in_memory(X, np.array([column]))[:, 0]
    else:
        return None
    if weights is not None:
        reference = np.where(weights > 0, reference, np.nan)
    if _tells_nothing(reference):
        known = reference[~np.isnan(reference)]
        name = "orientation" if per_sample is not None else f"orientation={feature!r}"
        what = "has no known value" if len(known) == 0 else f"has no value but {known[0]:g}"
        warn_user(
            f"{name} {what}, so it cannot say which end of the axis is up. The axis points as it does without "
            "orientation. Give a variable with two different values at least, NaN where it is not known."
        )
        return None
    return reference


def reference_of_rows(reference: np.ndarray, weights: np.ndarray, rows: WeightedRows) -> np.ndarray:
    """A variable (N,) of samples with weights (N,) as one of distinct rows: the mean rank of each row's samples."""
    known = ~np.isnan(reference) & (rows.inverse >= 0)
    which, w = rows.inverse[known], weights[known]
    n_rows = len(rows.index)
    totals = np.bincount(which, w * ranks(reference[known], w), minlength=n_rows)
    counts = np.bincount(which, w, minlength=n_rows)
    return np.where(counts > 0, totals / np.where(counts > 0, counts, 1), np.nan)


def _tells_nothing(reference: np.ndarray) -> bool:
    """Whether a variable (N,) has fewer than two different values, so that no direction can be told from it."""
    return len(np.unique(reference[~np.isnan(reference)])) < 2


def _column_index(feature: str | int, n_features: int, feature_names: np.ndarray | None) -> int:
    if isinstance(feature, str):
        if feature_names is None or feature not in feature_names:
            where = (
                "X has no column names. In a pipeline, steps hand names on after set_output(transform='pandas'). Or "
                "give the number of the column"
                if feature_names is None
                else "it is not among the columns of X"
            )
            raise ValueError(f"orientation={feature!r} names a feature, but {where}.")
        return int(np.nonzero(feature_names == feature)[0][0])
    if not -n_features <= feature < n_features:
        raise ValueError(f"orientation={feature} is no column of X, which has {n_features} features.")
    return int(feature)


def direction_of(behaviors: Sequence[str]) -> int:
    """Whether features should rise (1) or fall (-1) where nothing else is asked. They fall if they cannot rise."""
    return -1 if "decreasing" in behaviors and "increasing" not in behaviors else 1


def axis_signs(
    source: RowSource, positions: np.ndarray, reference: np.ndarray | None, directions: int | np.ndarray
) -> np.ndarray:
    """For each axis of positions (N, Q), 1 if it points as asked and -1 if it should be reversed: (Q,).

    The first axis should rise with the reference: its covariance with the ranks of the values that are known should not
    be negative. Without a reference, where these are less than two different values, and for other axes, a rule
    decides: the sum over features of their correlations with the axis, each times its preferred direction (one for all,
    or (D,)), should not be negative. Rows count as often as their weights say.
    """
    agreement = (directions * correlations(source, positions)).sum(1)
    if reference is not None and not _tells_nothing(reference):
        known = ~np.isnan(reference)
        # Ranks have no unit, and a single wrong value does not outweigh all others.
        position, weight = positions[known, 0], source.weights[known]
        agreement[0] = (position - np.average(position, weights=weight)) @ (weight * ranks(reference[known], weight))
    return np.where(agreement < 0, -1, 1)
