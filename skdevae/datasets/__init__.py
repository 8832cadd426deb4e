"""Simulated data sets with known truth: features that behave along a hidden time, and cells in clusters."""

from ._basis_toy import make_basis_toy
from ._cell_clusters import make_cell_clusters
from ._progression import make_progression
from ._progression_counts import make_progression_counts

__all__ = ["make_basis_toy", "make_cell_clusters", "make_progression", "make_progression_counts"]
