"""Latent posterior: what the data say about the latent of each row."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from scipy.special import ndtri
from torch import Tensor


@dataclass(frozen=True)
class LatentPosterior:
    """What the data say about each row's latent.

    ``mean``, ``sd``, ``lower`` and ``upper`` are (B, Q), by component. The others are (B,): ``log_evidence`` is
    log p(x) without the constants of x; ``resolved`` is 1 where a grid was fine and long enough, else 0; ``beyond`` is
    how much posterior mass lies beyond ``z_max``. ``lower`` and ``upper`` are NaN where no interval is asked for.
    """

    log_evidence: Tensor
    mean: Tensor
    sd: Tensor
    lower: Tensor
    upper: Tensor
    resolved: Tensor
    beyond: Tensor

    @staticmethod
    def empty(n_rows: int, n_components: int, like: Tensor) -> LatentPosterior:
        """Room for ``n_rows`` rows."""
        by_component = {"mean", "sd", "lower", "upper"}
        return LatentPosterior(
            *(
                like.new_empty((n_rows, n_components) if field.name in by_component else (n_rows,))
                for field in fields(LatentPosterior)
            )
        )

    @staticmethod
    def of_the_prior(n_rows: int, n_components: int, like: Tensor, credible_level: float | None) -> LatentPosterior:
        """The posterior of rows that say nothing: the standard normal prior."""
        zeros, none = like.new_zeros(n_rows, n_components), like.new_zeros(n_rows)
        half_width = zeros + (math.nan if credible_level is None else float(ndtri(0.5 + 0.5 * credible_level)))
        return LatentPosterior(none, zeros, zeros + 1, -half_width, half_width, none + 1, none)

    def put_(self, index: Tensor | slice, other: LatentPosterior) -> None:
        """Write the fields of some rows."""
        for field in fields(self):
            getattr(self, field.name)[index] = getattr(other, field.name)
