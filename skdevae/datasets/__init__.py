"""Simulated data sets with known truth: features that behave along a hidden axis, cells in clusters."""

from ._cell_clusters import make_cell_clusters
from ._progression import make_basis_toy, make_progression, make_progression_counts

__all__ = ["make_basis_toy", "make_cell_clusters", "make_progression", "make_progression_counts"]
