"""Known classes: from the labels of samples to the mixture components that belong to their classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.multiclass import check_classification_targets


def known_components(y: Any, sample_weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The classes of samples with positive weights (N,), and the component that each sample is known to belong to.

    The classes (C,) are sorted. Component k belongs to class k. The components are (N,) integers, -1 where ``y`` does
    not say, or names a class that only samples without weight have.
    """
    if y is None:
        raise ValueError("supervised=True needs y: the class of every sample, -1 where it is not known.")
    try:
        shape = np.shape(y)
    except ValueError as error:  # of NumPy, about rows of different lengths
        raise ValueError("y is no list of classes: give one for each row of X.") from error
    if shape != sample_weight.shape:
        raise ValueError(f"y has shape {shape}, but X has {len(sample_weight)} rows: give one class for each.")
    labels, known = _labels(y)
    if labels.dtype.kind == "f" and np.isinf(labels).any():
        raise ValueError(f"y is infinite in row {np.argmax(np.isinf(labels))}, which is no class.")
    counted = known & (sample_weight > 0)
    if not counted.any():
        raise ValueError("supervised=True, but y does not name the class of any sample (with a weight).")
    check_classification_targets(labels[known].astype(str) if labels.dtype == object else labels[known])
    try:
        classes = np.unique(labels[counted])
    except TypeError as error:
        raise ValueError("y has classes that cannot be sorted, such as numbers among names.") from error
    components = np.full(len(labels), -1)
    known[known] = np.isin(labels[known], classes)
    components[known] = np.searchsorted(classes, labels[known])
    return classes, components


def _labels(y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,), and which of them name a class: all but -1, None and NaN."""
    # np.array(y) would turn a -1 among names into text.
    labels = pd.Series(y if hasattr(y, "dtype") else np.array(y, dtype=object)).infer_objects()
    return labels.to_numpy(), np.array(labels.notna() & (labels != -1))
