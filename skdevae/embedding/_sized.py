"""What estimators with size factors share."""

from __future__ import annotations

from typing import Any, ClassVar

import joblib
import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from .._base.estimator import FittedModel
from .._sklearn import StrOptions
from ..nn.likelihoods import LIKELIHOODS
from ..nn.models import GenerativeModel, sized
from ..table.size_factors import count_means, log_size_factors, weighted_median


class SizeFactorModel(FittedModel):
    """Estimators with a parameter ``size_factors``: what a sample's expected counts are multiplied by."""

    likelihood: str
    size_factors: Any
    #: log of the size that counts as 1: the training table's median; None for a model without size factors
    _log_size_unit: float | None
    #: mean and sd of the training table's log size factors, and mean of each of its columns
    _log_size_moments: tuple[float, float]
    _count_means: np.ndarray
    #: an array of size factors, and a hash of the table whose they are
    _given_for: tuple[Any, str] | None

    _size_factor_constraints: ClassVar[dict] = {
        "size_factors": [None, StrOptions({"sum"}), "array-like", callable],
    }

    def _set_units(
        self, X: np.ndarray | sp.csr_array, weights: np.ndarray | None = None, sizes: np.ndarray | None = None
    ) -> None:
        """As everywhere; ``sizes`` (N,) are size factors of the rows of X, instead of what the parameter says."""
        super()._set_units(X, weights)
        self._log_size_unit = None
        if self._has_no_sizes():
            return
        self._count_means = count_means(X, weights)
        self._remember_whose_sizes(X)
        log_sizes = log_size_factors(X, self.size_factors if sizes is None else sizes, self._count_means)
        self._log_size_unit = weighted_median(log_sizes, weights)
        mean = np.average(log_sizes, weights=weights)
        sd = np.sqrt(np.average((log_sizes - mean) ** 2, weights=weights))
        self._log_size_moments = float(mean - self._log_size_unit), float(sd)

    def _has_no_sizes(self) -> bool:
        """Whether a fit has no size factors; raises if some are given that the likelihood has no use for."""
        if self.size_factors is None:
            return True
        if LIKELIHOODS[self.likelihood].has_log_link:
            return False
        if isinstance(self.size_factors, str):  # "sum": of counts, where there are any
            return True
        raise ValueError(
            f"size_factors are given, but likelihood={self.likelihood!r} has no counts for them to multiply. Leave "
            "them out, or choose 'poisson', 'nb' or 'zinb'."
        )

    def _has_totals_for_sizes(self) -> bool:
        """Whether a sample's total is known, so that a decoder has only shares to give."""
        return self._log_size_unit is not None and isinstance(self.size_factors, str)

    def _remember_whose_sizes(self, X: np.ndarray | sp.csr_array) -> None:
        """Size factors given as an array are those of this table and of no other."""
        self._given_for = None
        if not self._has_no_sizes() and not isinstance(self.size_factors, str) and not callable(self.size_factors):
            self._given_for = self.size_factors, joblib.hash(X)

    def _log_sizes(self, X: np.ndarray | sp.csr_array) -> np.ndarray | None:
        if self._log_size_unit is None:
            return None
        if self.size_factors is None:
            raise ValueError(
                "The model was fitted with size factors: set_params(size_factors=...) those of the rows of this X, or "
                "'sum'."
            )
        if self._given_for is not None:
            sizes, table = self._given_for
            if self.size_factors is sizes and joblib.hash(X) != table:
                raise ValueError(
                    "size_factors are still those of the training table's rows, and this X is another table: "
                    "set_params(size_factors=...) those of its rows."
                )
        return self._relative_log_sizes(X, None)

    def _relative_log_sizes(self, X: np.ndarray | sp.csr_array, sizes: np.ndarray | None) -> np.ndarray | None:
        """Log of the rows' size factors, in units of the training table's median; of ``sizes`` (N,) if given."""
        if self._log_size_unit is None:
            return None
        factors = self.size_factors if sizes is None else sizes
        return log_size_factors(X, factors, self._count_means) - self._log_size_unit

    def _drawn_curves(self, module: GenerativeModel, z: Tensor, generator: torch.Generator) -> Tensor:
        curves = super()._drawn_curves(module, z, generator)
        if self._log_size_unit is None:
            return curves
        mean, sd = self._log_size_moments
        return sized(curves, mean + sd * torch.randn(len(z), generator=generator, dtype=z.dtype))
