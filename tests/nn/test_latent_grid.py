"""Grids of the latent: what they cover, and with how many points."""

import pytest
from agreement import assert_agree

from skdevae.nn.latent_grid import LatentGrid


@pytest.mark.parametrize("n_components", [1, 2])
@pytest.mark.parametrize("factor", [1.0, 1.3, 2.0, 4.5, 100.0])
@pytest.mark.parametrize("n_points", [3, 9, 49, 65])
def test_a_coarser_grid_has_the_same_extent_and_spacing_as_asked(n_points, factor, n_components):
    grid = LatentGrid.standard_normal(n_points, 4.0, n_components)
    coarse = grid.coarser(factor)
    assert_agree(coarse.axis[[0, -1]], grid.axis[[0, -1]])
    assert grid.spacing <= coarse.spacing * (1 + 1e-9)
    assert coarse.spacing <= factor * grid.spacing * (1 + 1e-9) or coarse is grid
    assert (coarse.points == 0).all(1).any()
    # As few points as these allow: with two less, they would be too far apart.
    fewer = len(coarse.axis) - 2
    assert fewer < 3 or 8.0 / (fewer - 1) > factor * grid.spacing * (1 - 1e-9)
    if factor == 1:
        assert coarse is grid
