"""A warning where a fit has found no axis."""

from __future__ import annotations

from sklearn.exceptions import ConvergenceWarning

from .._warnings import warn_user


def warn_without_axis(advice: str) -> None:
    """Say that no axis was found, and what a user may do: a sentence after a blank, or nothing."""
    warn_user(
        "No axis was found: no column varies with another by more than chance explains, so every sample has the same "
        "position. Are the columns independent noise? Scores and predictions are those of independent "
        f"columns.{advice}",
        ConvergenceWarning,
    )
