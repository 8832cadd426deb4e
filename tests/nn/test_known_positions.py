"""Rows of which something is known beforehand: their prior on a grid, and what their entries can still say."""

import math

import numpy as np
import pytest
import torch
from agreement import assert_agree
from scipy.special import logsumexp
from scipy.stats import entropy, norm

from skdevae.nn.latent_grid import (
    LatentGrid,
    all_positions_are_known,
    log_joint,
    log_likelihood,
    log_prior,
    prior_variances,
    summarize,
    where_rows_are,
)
from skdevae.nn.linear_tables import LinearTables
from skdevae.nn.row_context import RowContext
from skdevae.nn.rows import DenseRows

N, D = 6, 4
#: exactly known between points, beyond the ends and at a point; known with an error; not known
MEAN = [0.123, 9.0, 0.0, 0.4, -2.0, math.nan]
SD = [0.0, 0.0, 0.0, 0.5, 0.2, math.nan]


def case(n_components, mean=MEAN, sd=SD, n_points=25):
    generator = torch.Generator().manual_seed(0)
    grid = LatentGrid.standard_normal(n_points, 4.0, n_components)
    context = RowContext(axis=torch.tensor(mean, dtype=torch.float64), axis_sd=torch.tensor(sd, dtype=torch.float64))
    rows = DenseRows(torch.randn(N, D, generator=generator).double(), None, context)
    zero, slope = (torch.randn(len(grid.points), D, generator=generator).double() for _ in range(2))
    return grid, rows, LinearTables(zero, slope, None)


def test_priors_of_rows_are_distributions_around_what_is_known():
    grid, rows, _ = case(1)
    mass = log_prior(rows, grid).exp().numpy()
    assert_agree(mass[:5].sum(1), np.ones(5))
    assert_agree(mass[:3] @ grid.axis.numpy(), [0.123, 4.0, 0.0])
    assert [(row > 1e-12).sum() for row in mass[:3]] == [2, 1, 1]
    for number in (3, 4):
        expected = norm.pdf(grid.axis.numpy(), MEAN[number], SD[number])
        assert_agree(mass[number], expected / expected.sum())
    assert_agree(mass[5], grid.log_mass.exp())


def test_rows_without_positions_share_the_prior_of_the_grid():
    grid, rows, tables = case(1)
    plain = DenseRows(rows.values, None)
    assert log_prior(plain, grid) is grid.log_mass
    assert_agree(log_joint(plain, tables, grid), rows.values @ tables.slope.T + tables.zero.sum(1) + grid.log_mass)
    assert not all_positions_are_known(plain.context, grid)


@pytest.mark.parametrize("n_components", [1, 2])
def test_posteriors_are_those_of_the_rows_own_prior(n_components):
    grid, rows, tables = case(n_components)
    q = log_joint(rows, tables, grid).softmax(1).unflatten(1, (25, -1))
    told = (rows.values @ tables.slope.T + tables.zero.sum(1)).unflatten(1, (25, -1)).numpy()
    across = grid.log_mass.unflatten(0, (25, -1)).logsumexp(0).numpy() if n_components == 2 else np.zeros(1)
    for number in range(N):
        own = np.log(np.maximum(1 - np.abs(np.clip(MEAN[number], -4, 4) - grid.axis.numpy()) / grid.spacing, 1e-300))
        if SD[number] == 0:
            # The first coordinate is known. Of the others, entries say what they say at that place.
            expected = own[:, None] + np.exp(own) @ told[number] + across
        else:
            prior = norm.logpdf(grid.axis.numpy(), MEAN[number], SD[number])
            if math.isnan(SD[number]):
                prior = norm.logpdf(grid.axis.numpy())
            expected = told[number] + prior[:, None] + across
        assert_agree(q[number], np.exp(expected - logsumexp(expected)))


def test_what_is_known_loses_nothing_in_the_bound():
    grid, rows, tables = case(1)
    prior, q = log_prior(rows, grid), log_joint(rows, tables, grid).softmax(1)
    own = [entropy(q[i], prior[i].exp()) for i in (3, 4)]
    own.append(entropy(q[5], grid.log_mass.exp()) - float(grid.log_mass.logsumexp(0)))
    assert_agree(summarize(rows, q, prior, with_positive=False).divergence, sum(own))


def test_a_small_error_is_none():
    grid, known, tables = case(1, sd=[0.0] * N, mean=[0.1] * N)
    _, close, _ = case(1, sd=[0.4 * grid.spacing] * N, mean=[0.1] * N)
    assert all_positions_are_known(close.context, grid)
    assert_agree(log_joint(close, tables, grid), log_joint(known, tables, grid))
    assert not all_positions_are_known(known.context, case(2)[0])


def test_columns_of_known_rows_can_be_taken_away():
    """As where columns are judged without their own help: a known position does not move."""
    grid, rows, tables = case(1)
    some = torch.tensor([0, 2])
    own = log_likelihood(rows.of_columns(some), tables.of_columns(some), grid)
    left = (log_joint(rows, tables, grid) - own).softmax(1)
    others = torch.tensor([1, 3])
    assert_agree(left, log_joint(rows.of_columns(others), tables.of_columns(others), grid).softmax(1))


def test_points_without_rows_add_nothing():
    grid, rows, tables = case(1, sd=[0.0] * N, mean=np.linspace(-1, 1, N).tolist())
    sums = summarize(rows, log_joint(rows, tables, grid).softmax(1), log_prior(rows, grid), with_positive=False)
    fewer, points = where_rows_are(sums, grid)
    assert len(points.points) == len(fewer.mass) < len(grid.points)
    at = torch.tensor([int((grid.points == point).all(1).nonzero()) for point in points.points])
    candidates = LinearTables(tables.zero[:, None], tables.slope[:, None], None)
    of_fewer = LinearTables(tables.zero[at, None], tables.slope[at, None], None)
    assert_agree(fewer.expected_log_likelihood(of_fewer), sums.expected_log_likelihood(candidates))


def test_variances_beforehand():
    grid, rows, _ = case(2)
    expected = [[0, 1], [0, 1], [0, 1], [0.25, 1], [0.04, 1], [1, 1]]
    assert_agree(prior_variances(rows, grid), expected)
