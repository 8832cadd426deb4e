"""Labels: what is known of each sample, as categories or numbers."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ._palette import CATEGORY_COLORS, CATEGORY_MARKERS

#: whole numbers are taken as categories if they have at most this many different values
_MAX_CODES = 12


@dataclass(frozen=True)
class Labels:
    """One value for each sample: a position in `categories`, or a number where that is None. NaN means unlabelled."""

    values: NDArray[np.float64]
    categories: list[str] | None
    title: str = ""


def read_labels(labels: Any, n_samples: int) -> Labels:
    """Read labels in any form that a display takes; None gives all samples the one category "samples"."""
    if labels is None:
        return Labels(np.zeros(n_samples), ["samples"])
    if np.shape(labels) != (n_samples,):
        raise ValueError(
            f"labels has shape {np.shape(labels)}, but there are {n_samples} samples: give one label for each, of "
            f"shape ({n_samples},), with None or NaN for unlabelled ones."
        )
    name = getattr(labels, "name", None)
    title = "" if name is None else str(name)
    column = pd.Series(labels).reset_index(drop=True).infer_objects()
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
        numbers = np.where(np.isfinite(numbers), numbers, np.nan)  # infinity has no place on a colour bar
        different = np.unique(numbers[~np.isnan(numbers)])
        if len(different) > _MAX_CODES or (different % 1 != 0).any():
            return Labels(numbers, None, title)
        column = pd.Series(numbers).astype("Int64")  # "1" rather than "1.0" in the legend, even if some are missing
    coded = pd.Categorical(column).remove_unused_categories()
    if not isinstance(column.dtype, pd.CategoricalDtype) and not pd.api.types.is_numeric_dtype(column):
        coded = coded.reorder_categories(in_natural_order(coded.categories))
    limit = len(CATEGORY_COLORS) * len(CATEGORY_MARKERS)
    if len(coded.categories) > limit:
        raise ValueError(
            f"labels has {len(coded.categories)} different values, but a figure can show at most {limit} categories: "
            "give coarser labels, or numbers for a colour bar."
        )
    codes = np.where(coded.codes < 0, np.nan, coded.codes)
    return Labels(codes, [str(category) for category in coded.categories], title)


def in_natural_order(names: Sequence[Hashable]) -> list[Hashable]:
    """Names in the order in which people count: "stage 2" stands before "stage 10"."""

    def key(name: Hashable) -> tuple[list[tuple[str, int]], str]:
        # The odd parts are runs of digits.
        parts = re.split(r"([0-9]+)", str(name))
        texts, numbers = parts[::2], [int(digits) for digits in parts[1::2]]
        return list(zip(texts, [*numbers, -1], strict=True)), str(name)

    return sorted(names, key=key)
