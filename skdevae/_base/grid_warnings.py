"""Warnings of grids that were too coarse, or too short, for the samples of a fit."""

from __future__ import annotations

from sklearn.exceptions import ConvergenceWarning

from .._warnings import warn_user
from ..inference import LatentPosterior
from ..table.source import RowSource

#: share of samples above which a fit warns
_TOLERATED_SHARE = 0.05


def warn_of_grid(posterior: LatentPosterior, source: RowSource, z_max: float) -> None:
    """Warn if more than a few of the rows lie beyond the grid, or have posteriors too narrow for it."""
    beyond = float(source.mean((posterior.beyond > 0.5).double()))
    unresolved = float(source.mean((~posterior.resolved.bool()).double()))
    if beyond > _TOLERATED_SHARE:
        warn_user(
            f"{beyond:.0%} of the samples lie beyond z_max={z_max}, where curves go on as straight lines. Increase "
            "z_max.",
            ConvergenceWarning,
        )
    if unresolved > _TOLERATED_SHARE:
        warn_user(
            f"{unresolved:.0%} of the samples have posteriors narrower than the finest grid: their positions are "
            "rough. Look for duplicated columns; a gaussian likelihood may need a larger noise_floor, two "
            "components inference='amortized'.",
            ConvergenceWarning,
        )
