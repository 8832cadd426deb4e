"""Curves of levels: the restricted likelihood ratio, its distribution, and what deviations are expected."""

import numpy as np
import pytest
import torch
from scipy import stats

from skdevae.nn.level_curves import (
    LevelDifferences,
    LevelMoments,
    chi_squares_above_zero,
    deviation_kernel,
    hats,
)

KNOTS = torch.linspace(-1.8, 1.8, 7, dtype=torch.float64)


def rows(n=60, n_levels=3, seed=0):
    """Positions along the axis, which differ by level; levels; and a design with the first one for reference."""
    rng = np.random.default_rng(seed)
    level = np.arange(n) % n_levels
    z = rng.normal(size=n) + 0.5 * (level - 1)
    return torch.from_numpy(z), torch.from_numpy(level), torch.from_numpy(np.eye(n_levels)[level][:, 1:])


def differences(y, z, level, design, weights=None, counts=None, knots=KNOTS):
    columns = torch.cat([hats(z, knots), design], 1)
    weights = torch.ones(len(y), 1, dtype=y.dtype) if weights is None else weights
    counts = torch.ones(len(y), dtype=y.dtype) if counts is None else counts
    n_levels = int(level.max()) + 1
    return LevelDifferences(LevelMoments.of_rows(columns, weights, weights * y, level, n_levels, counts), knots)


def restricted_log_likelihood(y, X, covariance):
    """Of y (N,) ~ N(X b, s^2 covariance), with b integrated out and s at its maximum, up to a constant."""
    inverse = np.linalg.inv(covariance)
    gram = X.T @ inverse @ X
    residual = y - X @ np.linalg.solve(gram, X.T @ inverse @ y)
    degrees = len(y) - X.shape[1]
    logdets = np.linalg.slogdet(covariance)[1] + np.linalg.slogdet(gram)[1]
    return -0.5 * (logdets + degrees * np.log(residual @ inverse @ residual))


def deviations_of_rows(z, level, n_levels):
    """Covariance (N, N) of deviations of amplitude 1 at rows: piecewise linear between the knots."""
    values, vectors = torch.linalg.eigh(deviation_kernel(KNOTS, KNOTS))
    kept = values > 0.005 * values.sum()
    at_knots = (vectors[:, kept] * values[kept]) @ vectors[:, kept].T
    at_rows = hats(z, KNOTS)
    return (at_rows @ at_knots @ at_rows.T) * (level[:, None] == level)


@pytest.mark.parametrize("n_levels", [2, 3])
def test_the_statistic_is_a_ratio_of_restricted_likelihoods(n_levels):
    z, level, design = rows(n_levels=n_levels)
    y = torch.from_numpy(np.random.default_rng(1).normal(size=(60, 4)))
    found = differences(y, z, level, design)
    X = torch.cat([hats(z, KNOTS), design], 1).numpy()
    covariance = deviations_of_rows(z, level, n_levels).numpy()
    for d in range(4):
        with_deviations = np.eye(60) + found.amplitude.item() * covariance
        one, other = (restricted_log_likelihood(y[:, d].numpy(), X, v) for v in (with_deviations, np.eye(60)))
        assert found.statistic[d].item() == pytest.approx(2 * (one - other), abs=1e-8)


@pytest.mark.parametrize("unequal", [False, True])
def test_p_values_are_uniform_where_curves_differ_by_constants(unequal):
    rng = np.random.default_rng(2)
    z, level, design = rows(90, 3, seed=3)
    sd = torch.from_numpy(rng.uniform(0.3, 2, size=(90, 1)) if unequal else np.full((90, 1), 0.7))
    common = hats(z, KNOTS) @ torch.from_numpy(rng.normal(size=(7, 2000))) + design @ torch.ones(2, 2000).double()
    y = common + sd * torch.from_numpy(rng.normal(size=(90, 2000)))
    p_values = differences(y, z, level, design, sd**-2).p_value.numpy()
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3
    for bound in (0.05, 0.01):
        assert stats.binomtest((p_values < bound).sum(), 2000, bound).pvalue > 1e-3


def test_tails_of_quotients_of_chi_squares():
    for degrees in (1, 2, 5):
        for bound in (0.5, 3, 20, 500):
            weights = torch.tensor([[1 / degrees, -bound / 50]], dtype=torch.float64)
            found = chi_squares_above_zero(weights, torch.tensor([[degrees, 50.0]], dtype=torch.float64)).item()
            assert found == pytest.approx(stats.f.sf(bound, degrees, 50), rel=0.2 / degrees, abs=0)


def test_sums_that_are_never_above_zero_and_always():
    degrees = torch.ones(2, 2, dtype=torch.float64)
    weights = torch.tensor([[-1.0, -0.5], [1.0, 0.5]], dtype=torch.float64)
    assert chi_squares_above_zero(weights, degrees).tolist() == [0, 1]


def test_which_level_is_the_reference_does_not_matter():
    z, level, design = rows()
    y = torch.from_numpy(np.random.default_rng(4).normal(size=(60, 3))) + (level == 1)[:, None] * z[:, None]
    order = torch.tensor([2, 0, 1])  # number of each level after another comes first
    other_level = order[level]
    other_design = torch.eye(3, dtype=torch.float64)[other_level][:, 1:]
    one, other = differences(y, z, level, design), differences(y, z, other_level, other_design)
    torch.testing.assert_close(one.statistic, other.statistic)
    torch.testing.assert_close(one.p_value, other.p_value)
    at = deviation_kernel(KNOTS, KNOTS)
    first, second = (found.deviations(slice(0, 2)) @ at for found in (one, other))
    torch.testing.assert_close(first, second[:, order], atol=1e-6, rtol=1e-5)


def test_a_row_of_weight_two_is_two_rows():
    z, level, design = rows()
    y = torch.from_numpy(np.random.default_rng(5).normal(size=(60, 3)))
    counts = torch.arange(60) % 2 + 1
    again = torch.arange(60).repeat_interleave(counts)
    weighted = differences(y, z, level, design, counts=counts.double())
    repeated = differences(y[again], z[again], level[again], design[again])
    torch.testing.assert_close(weighted.statistic, repeated.statistic)
    torch.testing.assert_close(weighted.deviations(slice(0, 2)), repeated.deviations(slice(0, 2)))


def test_deviations_of_levels_are_found_where_noise_is_small():
    z, level, design = rows(600, 2)
    z = 2 * torch.tanh(z)
    own = torch.stack([torch.sin(2 * z), -torch.sin(2 * z)], 1).gather(1, level[:, None])
    noise = 0.05 * torch.from_numpy(np.random.default_rng(6).normal(size=(600, 1)))
    knots = torch.linspace(-2, 2, 20, dtype=torch.float64)
    found = differences(z[:, None] ** 2 + design + own + noise, z, level, design, knots=knots)
    points = torch.linspace(-1.5, 1.5, 20, dtype=torch.float64)
    first, second = (deviation_kernel(points, knots) @ found.deviations(slice(0, 1))[0].T).T
    assert found.p_value.item() < 1e-20
    # Between the levels there is a constant, which is not part of deviations.
    difference = first - second - (first - second).mean()
    truth = 2 * torch.sin(2 * points)
    assert (difference - truth).abs().max() < 0.15


def test_entries_without_variance_are_no_evidence():
    z, level, design = rows()
    found = differences(torch.zeros(60, 1, dtype=torch.float64), z, level, design)
    assert found.p_value.item() == 1
    assert torch.isfinite(found.statistic).all()
