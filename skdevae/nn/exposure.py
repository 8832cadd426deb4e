"""Exposure: what the expected counts of rows are multiplied by, in sums over rows and features that stay products.

Counts whose log-likelihood is ``E zero(z) + x slope(z)``, but for a constant of x and E, have an exposure E: that of a
row is its size factor, times the effect that its covariates have on each feature. The sums that exact inference needs
weight ``zero``, or the number of samples, by E. Rows of equal covariates share their effects, so with a few levels of
categorical covariates this costs next to nothing, and a sparse table stays sparse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Exposure:
    """What the expected counts of B rows are multiplied by: ``size[i] * effects[pattern[i]]``.

    Attributes
    ----------
    size : Tensor of shape (B,)
        Of each row.
    effects : Tensor of shape (L, D), or None
        Of each pattern of covariates on each feature; None where there are no covariates.
    pattern : Tensor of shape (B,), or None
        Number of each row's pattern.
    """

    size: Tensor
    effects: Tensor | None = None
    pattern: Tensor | None = None

    @classmethod
    def of_rows(cls, log_size: Tensor | None, covariates: Tensor, log_effects: Tensor) -> Exposure:
        """The exposure of rows with log sizes (B,) and covariates (B, C), whose log effects on features are (C, D)."""
        patterns, pattern = torch.unique(covariates, dim=0, return_inverse=True)
        size = torch.ones(len(covariates)).to(covariates) if log_size is None else log_size.exp()
        return cls(size, (patterns @ log_effects).exp(), pattern)

    def weighted(self, zero: Tensor, observed: Tensor | None) -> Tensor:
        """``zero`` (P, D) summed over the observed features of every row, each with its exposure: (B, P)."""
        if observed is not None:
            by_row = self._on_entries(observed) @ zero.T
        elif self.effects is None or self.pattern is None:
            by_row = zero.sum(1)
        else:
            by_row = (self.effects @ zero.T)[self.pattern]
        return self.size[:, None] * by_row

    def mass(self, q: Tensor, observed: Tensor | None) -> Tensor:
        """Exposures summed over rows with weights q (B, P): (P, D), or (P, 1) where all features have the same."""
        q = q * self.size[:, None]
        if observed is not None:
            return q.T @ self._on_entries(observed)
        if self.effects is None or self.pattern is None:
            return q.sum(0)[:, None]
        by_pattern = q.new_zeros(len(self.effects), q.shape[1]).index_add(0, self.pattern, q)
        return by_pattern.T @ self.effects

    def _on_entries(self, observed: Tensor) -> Tensor:
        """Effects on observed entries, without the rows' sizes, and 0 for the others: (B, D)."""
        if self.effects is None or self.pattern is None:
            return observed
        return self.effects[self.pattern] * observed

    def take(self, index: Any) -> Exposure:
        """That of some of the rows."""
        return Exposure(self.size[index], self.effects, None if self.pattern is None else self.pattern[index])

    def of_columns(self, columns: Tensor) -> Exposure:
        """That of some of the features."""
        return Exposure(self.size, None if self.effects is None else self.effects[:, columns], self.pattern)

    def log_at(self, row: Tensor, column: Tensor) -> Tensor:
        """Log exposure of single entries, (M,) as their rows and columns."""
        log_size = self.size[row].log()
        if self.effects is None or self.pattern is None:
            return log_size
        return log_size + self.effects[self.pattern[row], column].log()


def weighted_zero(zero: Tensor, observed: Tensor | None, exposure: Exposure | None) -> Tensor:
    """``zero`` (P, D) summed over the observed features of rows with or without an exposure: (B, P), or (P,)."""
    if exposure is not None:
        return exposure.weighted(zero, observed)
    return zero.sum(1) if observed is None else observed @ zero.T


def mass_of(q: Tensor, observed: Tensor | None, exposure: Exposure | None) -> Tensor:
    """The weights q (B, P) of rows summed, each as often as its exposure says: (P, D) or (P, 1)."""
    if exposure is not None:
        return exposure.mass(q, observed)
    return q.sum(0)[:, None] if observed is None else q.T @ observed
