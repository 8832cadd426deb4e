"""Regression: what the covariates of a table's rows explain of numbers that the rows have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..nn.rows import DenseRows
from .source import RowSource

#: eigenvalue of the covariances of covariates, relative to the largest, below which rows do not tell effects apart
_INDISTINCT = 1e-10


@dataclass(frozen=True)
class Regression:
    """Least squares of M numbers of each row on the C columns of its covariates' design.

    Attributes
    ----------
    effects : ndarray of shape (C, M)
        Slopes.
    average : ndarray of shape (C,)
        Of the design, by weight.
    covariance : ndarray of shape (C, C)
        Of the design, by weight.
    """

    effects: np.ndarray
    average: np.ndarray
    covariance: np.ndarray


def regression_on_covariates(source: RowSource, products_with: Callable[[np.ndarray], np.ndarray]) -> Regression | None:
    """The regression of M numbers that rows have; None without covariates.

    ``products_with`` gives the sums of their products with other numbers (N, C) of the rows, (M, C). Rows count as
    often as their weights say.
    """
    design = source.context.covariates
    if design is None:
        return None
    shares = source.weights / source.weights.sum()
    average = shares @ design
    weighted = shares[:, None] * (design - average)
    covariance = weighted.T @ (design - average)
    products = products_with(weighted).T
    # Some of the rows, as those that early stopping leaves, may not tell all effects apart: these are then the least.
    return Regression(np.linalg.pinv(covariance, _INDISTINCT, hermitian=True) @ products, average, covariance)


def effects_on(source: RowSource, values: Callable[[DenseRows], Tensor]) -> Tensor | None:
    """What covariates explain of values (B, M) that rows have: effects (C, M); None where rows have no covariates."""
    regression = regression_on_covariates(source, lambda numbers: source.summed(partial(_products, values), numbers))
    return None if regression is None else torch.from_numpy(regression.effects).to(source.like)


def _products(values: Callable[[DenseRows], Tensor], source: RowSource, numbers: np.ndarray) -> np.ndarray:
    chunks = ((index, rows.dense()) for index, rows in source.chunks(width=source.n_features))
    return sum(values(rows).cpu().numpy().T @ numbers[index] for index, rows in chunks)
