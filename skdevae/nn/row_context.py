"""Row context: what a row of a table carries beside its entries.

One more fact about a row is one more field here, and the code that uses it. Whatever hands rows on (tables, sources,
batches, subsets) takes all fields along without knowing them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

A = TypeVar("A", np.ndarray, Tensor)


@dataclass(frozen=True)
class RowContext(Generic[A]):
    """Facts about B rows, each an array with B as its first dimension, or None where the rows have no such fact.

    The arrays are NumPy's in tables, and tensors where rows have reached a model.

    Attributes
    ----------
    weight : (B,)
        How often a row counts.
    log_size : (B,)
        Log size factor: the log of what the row's expected counts are multiplied by.
    covariates : (B, C)
        Columns of the design of what conditions the row: numbers in sds, and a column for each level of a category but
        the first.
    component : (B,), integers
        Number of the mixture component that a row is known to belong to; -1 where that is not known.
    axis, axis_sd : (B,)
        What is known beforehand of a row's position along the first axis: it has a normal prior with this mean and
        standard deviation, and is exactly known where the latter is 0. NaN where nothing is known.
    """

    weight: A | None = None
    log_size: A | None = None
    covariates: A | None = None
    component: A | None = None
    axis: A | None = None
    axis_sd: A | None = None

    def map(self, change: Callable[[A], Any]) -> RowContext:
        """The context with each of its arrays changed in the same way."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return RowContext(**{name: None if value is None else change(value) for name, value in values})

    def take(self, index: Any) -> RowContext[A]:
        """The context of some of the rows: a slice, a mask or numbers."""
        return self.map(lambda values: values[index])

    def repeat(self: RowContext[Tensor], n: int) -> RowContext[Tensor]:
        """The context of n copies of all rows, one copy after another."""
        return self.map(lambda values: values.repeat(n, *[1] * (values.ndim - 1)))

    def tensors(self: RowContext[np.ndarray], like: Tensor) -> RowContext[Tensor]:
        """The arrays as tensors on a device; numbers that are not whole take the dtype of ``like``."""

        def converted(values: np.ndarray) -> Tensor:
            tensor = torch.from_numpy(values)
            return tensor.to(like) if tensor.is_floating_point() else tensor.to(like.device)

        return self.map(converted)

    def replaced(self, **changes: A | None) -> RowContext[A]:
        """The context with some of its fields replaced."""
        return replace(self, **changes)


#: the context of rows that carry nothing beside their entries
EMPTY: RowContext = RowContext()
