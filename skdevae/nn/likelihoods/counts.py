"""CountLikelihood: the base of likelihoods of counts, most of which are zeros."""

from __future__ import annotations

import torch
from torch import Tensor

from ..rows import DenseRows
from .linear import LinearLikelihood

#: entries of a (rows, behaviours, features) block of float32 that stays in a processor's cache
_CACHED_ENTRIES = 500_000


class CountLikelihood(LinearLikelihood):
    """``zero`` is log p(0 | z), and all other terms belong to x > 0, so that they are evaluated there alone."""

    counts = True

    def __init__(self, n_features: int):
        super().__init__()

    def log_zero(self, curves: Tensor, z: Tensor, *own: Tensor) -> Tensor:
        """log p(0 | z); arguments as for :meth:`coefficients`."""
        raise NotImplementedError

    def saturated_log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        # Without unlink, which stays away from the ends. The lower the curve, the more certain is a zero.
        return torch.where(x > 0, self.log_prob(x, x.clamp(min=1).log(), z), 0.0)

    def expected_row_log_prob(
        self, rows: DenseRows, curves: Tensor, z: Tensor, phi: Tensor, with_constant: bool = True
    ) -> Tensor:
        if len(phi) == 1 and not with_constant:  # nothing then needs the list of entries that are not zero
            return self.row_log_prob(rows, curves.squeeze(1), z, with_constant)
        # log p(0) for every entry, the rest for the few that are not zero
        own = tuple(parameter if parameter.ndim == 1 else parameter[:, None] for parameter in self.own_parameters())
        total = self._expected_log_zero(rows.observed, curves, z, phi, own)
        row, column, value = rows.nonzero()
        at_entries = curves.transpose(0, 1)[:, row, column]  # (K, M)
        latents = z[row] if self.sees_latent else z  # a gather that most likelihoods do without
        own_at_entries = self._own_of(column, row)
        tables = self.coefficients(at_entries, latents, *own_at_entries)
        beyond_zero = value * tables.slope
        if tables.positive is not None:
            beyond_zero = beyond_zero + tables.positive
        shared = beyond_zero[0] if len(phi) == 1 else (beyond_zero * phi[:, column]).sum(0)
        entries = shared + self.entry_constant(value, *own_at_entries) if with_constant else shared
        return total.index_add(0, row, entries)

    def _expected_log_zero(
        self, observed: Tensor | None, curves: Tensor, z: Tensor, phi: Tensor, own: tuple[Tensor, ...]
    ) -> Tensor:
        """Log probability that all observed features of each row are zero, averaged over q(w): (B,)."""
        # In blocks of rows that a processor's cache can hold from one elementwise operation to the next.
        n_rows = max(1, _CACHED_ENTRIES // phi.numel())
        masks = [None] * len(z) if observed is None else observed.split(n_rows)
        totals = []
        start = 0
        for part, z_part, mask in zip(curves.split(n_rows), z.split(n_rows), masks, strict=False):
            these = slice(start, start + len(part))
            own_part = (parameter if parameter.ndim == 1 else parameter[these] for parameter in own)
            log_zero = self.log_zero(part, z_part[:, None, None, :], *own_part)
            start += len(part)
            if mask is None:
                totals.append(log_zero.flatten(1) @ phi.flatten())
            else:
                totals.append(((log_zero * phi).sum(1) * mask).sum(1))
        return torch.cat(totals)
