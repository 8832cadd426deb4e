"""E-steps of training: while q(z) is broad, a grid of fewer points sees the same of it."""

import numpy as np
import pytest
import torch
from agreement import assert_agree
from inference.random_models import FLOAT64, random_model, random_table, source_of

from skdevae.nn.latent_grid import LatentGrid
from skdevae.table.column_summary import summarize_columns
from skdevae.training.batches import ExpectationSteps, expected_statistics


def _steps(model, source, grid):
    summary = summarize_columns(source, model.likelihood.counts)
    return ExpectationSteps(source, model, summary, grid, n_gradient_steps=1, updates=False)


def _sums(statistics, grid):
    """What a fit of smooth curves needs of sums on a grid: those of x, of z x and of z^2 x; rows; the divergence."""
    powers = torch.cat([torch.ones_like(grid.points[:, :1]), grid.points, grid.points**2], 1)  # (P, 1 + 2 Q)
    return (powers.T @ statistics.weighted).numpy(), statistics.mass.sum(0).numpy(), float(statistics.divergence)


@pytest.mark.parametrize("n_components", [1, 2])
@pytest.mark.parametrize("factor", [1.0, 1.3, 2.0, 4.5, 100.0])
@pytest.mark.parametrize("n_points", [3, 9, 49, 65])
def test_a_coarser_grid_has_the_same_extent_and_spacing_as_asked(n_points, factor, n_components):
    grid = LatentGrid.standard_normal(n_points, 4.0, n_components)
    coarse = grid.coarser(factor)
    assert_agree(coarse.axis[[0, -1]], grid.axis[[0, -1]])
    assert grid.spacing <= coarse.spacing * (1 + 1e-9)
    assert coarse.spacing <= factor * grid.spacing * (1 + 1e-9)
    assert (coarse.points == 0).all(1).any()
    # As few points as these allow: with two less, they would be too far apart.
    fewer = len(coarse.axis) - 2
    assert fewer < 3 or 8.0 / (fewer - 1) > factor * grid.spacing * (1 - 1e-9)
    if factor == 1:
        assert coarse is grid


@pytest.mark.parametrize("temperature", [1.0, 3.0, 20.0])
@pytest.mark.parametrize("likelihood", ["gaussian", "nb", "bernoulli"])
@pytest.mark.parametrize("n_components", [1, 2])
def test_a_broad_q_is_summed_on_fewer_points(likelihood, n_components, temperature):
    model = random_model("exact", likelihood, n_components=n_components, z_max=5.0, seed=1)
    source = source_of(random_table(likelihood, 12))
    fine = LatentGrid.standard_normal(33, 5.0, n_components).to(FLOAT64)
    model.latent_temperature = temperature
    (batch,) = _steps(model, source, fine)
    statistics, _, grid = batch.arguments
    assert (len(grid.points) < len(fine.points)) == (temperature > 1)
    # What the fine grid can just tell, a Gaussian whose sd is one spacing, the coarse one can when heat has widened it.
    of_likelihood = 1 / fine.spacing**2 - 1
    assert grid.spacing <= (1 + of_likelihood / temperature) ** -0.5 + 1e-9
    expected = expected_statistics(model, source, fine)
    for found, wanted in zip(_sums(statistics, grid), _sums(expected, fine), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max())


def test_a_few_grids_serve_all_temperatures():
    model = random_model("exact", n_components=1)
    source, fine = source_of(random_table("gaussian", 12)), LatentGrid.standard_normal(65, 4.0).to(FLOAT64)
    steps, grids = _steps(model, source, fine), []
    for temperature in np.geomspace(1, 20, 60):
        model.latent_temperature = temperature
        (batch,) = steps
        grids.append(batch.arguments[2])
    assert grids[0] is fine
    assert len({id(grid) for grid in grids}) < 12
    assert (np.diff([len(grid.axis) for grid in grids]) <= 0).all()


def test_rows_of_which_something_is_known_beforehand_keep_the_fine_grid():
    """What is known does not get broader by heat."""
    model = random_model("exact", n_components=1)
    axis = np.linspace(-1, 1, 12)
    source = source_of(random_table("gaussian", 12), axis=axis, axis_sd=np.full(12, 0.3))
    fine = LatentGrid.standard_normal(33, 4.0).to(FLOAT64)
    model.latent_temperature = 20.0
    (batch,) = _steps(model, source, fine)
    assert batch.arguments[2] is fine
