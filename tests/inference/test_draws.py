"""Quasi-random draws: standard normal, balanced, always the same."""

import math
import warnings

import numpy as np
import pytest
import torch

from skdevae.inference.draws import (
    cubature_points,
    normal_draws,
    power_of_two,
    standard_normal_points,
    standard_normal_rule,
)


def test_powers_of_two_are_not_below_and_not_twice_as_large():
    for n in range(1, 300):
        found = power_of_two(n)
        assert n <= found < 2 * n
        assert math.log2(found).is_integer()


@pytest.mark.parametrize("n_components", [1, 2, 5])
def test_draws_are_standard_normal_and_always_the_same(n_components):
    before = torch.get_rng_state()
    draws = normal_draws(4096, n_components)
    assert torch.equal(torch.get_rng_state(), before)
    assert draws.shape == (4096, n_components)
    assert draws.dtype == torch.float64
    assert draws.isfinite().all()
    assert torch.equal(normal_draws(4096, n_components), draws)
    # of low discrepancy: moments are far closer than those of random draws, which err by 1 / 64
    np.testing.assert_allclose(draws.mean(0).numpy(), 0, atol=3e-3)
    np.testing.assert_allclose(np.cov(draws.T.numpy()), np.eye(n_components), atol=1e-2)
    assert len(draws[:, 0].unique()) == 4096


@pytest.mark.parametrize("n_draws", [1, 3, 64, 100])
@pytest.mark.parametrize("n_components", [1, 3])
def test_draws_are_balanced_whatever_number_is_asked_for(n_draws, n_components):
    # one in each of as many intervals of equal probability
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draws = normal_draws(n_draws, n_components)
    n = len(draws)
    assert n == power_of_two(n_draws)
    for column in torch.special.ndtr(draws).T:
        assert torch.equal((column * n).floor().long().sort().values, torch.arange(n))
    # and so are the parts of them that proposals of importance sampling get
    for part in draws.tensor_split(2):
        for column in torch.special.ndtr(part).T:
            assert len((column * len(part)).floor().unique()) == len(part)


@pytest.mark.parametrize("n_draws", [1, 60, 256])
@pytest.mark.parametrize("n_components", [1, 2, 3, 40])
def test_points_have_mean_zero_and_unit_covariance(n_draws, n_components):
    points = standard_normal_points(n_draws, n_components)
    assert len(points) == max(power_of_two(n_draws), power_of_two(4 * n_components))
    np.testing.assert_allclose(points.mean(0).numpy(), 0, atol=1e-12)
    np.testing.assert_allclose((points.T @ points / len(points)).numpy(), np.eye(n_components), atol=1e-12)


@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_rules_are_exact_for_quadratic_functions(n_components):
    nodes, weights = standard_normal_rule(32, n_components)
    assert weights.sum().item() == pytest.approx(1)
    np.testing.assert_allclose((weights @ nodes).numpy(), 0, atol=1e-12)
    np.testing.assert_allclose((nodes.T * weights @ nodes).numpy(), np.eye(n_components), atol=1e-12)
    if n_components < 3:  # Gauss-Hermite is right for higher powers too
        assert (weights @ nodes[:, 0] ** 6).item() == pytest.approx(15)


@pytest.mark.parametrize("n_components", [1, 3, 10])
def test_cubature_is_exact_for_cubic_polynomials(n_components):
    points = cubature_points(n_components)
    assert points.shape == (2 * n_components, n_components)
    np.testing.assert_allclose(points.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(points.T @ points / len(points), np.eye(n_components), atol=1e-12)
    np.testing.assert_allclose(torch.einsum("sp,sq,sr->pqr", points, points, points), 0, atol=1e-12)
