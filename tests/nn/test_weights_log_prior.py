"""The prior of a group of weights: a Gaussian, or a Gaussian whose precision is not known."""

import numpy as np
import pytest
import torch
from agreement import assert_agree
from scipy import integrate, stats

from skdevae.nn.layers import _TYPICAL_SIZE, weights_log_prior

NORMS = torch.linspace(0, 10, 201, dtype=torch.float64)


@pytest.mark.parametrize("precision", [0.0, 0.3, 1.0, 20.0])
def test_a_given_precision_is_that_of_a_gaussian(precision):
    weights = torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = weights_log_prior(weights.square().sum(1), precision)
    if precision == 0:
        assert (found == 0).all()
        return
    log_density = stats.norm(scale=precision**-0.5).logpdf(weights).sum(1)
    assert_agree(found - found[0], log_density - log_density[0])


def test_the_size_of_a_group_has_a_half_cauchy_prior():
    found = weights_log_prior(NORMS**2, None)
    expected = stats.halfcauchy(scale=_TYPICAL_SIZE).logpdf(NORMS)
    assert_agree(found, torch.from_numpy(expected - expected[0]))


def test_large_weights_are_held_less_and_less_but_always_held():
    log_prior = weights_log_prior(NORMS**2, None)
    assert log_prior[0] == 0
    assert (log_prior.diff() < 0).all()
    # the precision that would hold a weight as firmly: the slope in half the square
    squares = (NORMS**2).requires_grad_()
    (slope,) = torch.autograd.grad(weights_log_prior(squares, None).sum(), squares)
    precision = -2 * slope
    assert precision[0].item() == pytest.approx(2 / _TYPICAL_SIZE**2)
    assert (precision.diff() < 0).all()
    assert (precision > 0).all()


def test_a_single_weight_is_a_gaussian_whose_precision_is_integrated_out():
    """A Gamma prior of shape 1/2 on the precision makes a Cauchy distribution."""
    squares = torch.tensor([0.0, 0.03, 0.1, 0.4, 1.0, 2.5, 5.0], dtype=torch.float64)
    prior = stats.gamma(0.5, scale=2 / _TYPICAL_SIZE**2)

    def density(square):
        return integrate.quad(lambda p: prior.pdf(p) * p**0.5 * np.exp(-0.5 * p * square), 0, np.inf)[0]

    expected = torch.tensor([density(square) for square in squares.tolist()], dtype=torch.float64).log()
    assert_agree(weights_log_prior(squares, None), expected - expected[0], computed_in=np.float32)


def test_groups_have_a_prior_each():
    squares = torch.rand(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for precision in (None, 2.0):
        found = weights_log_prior(squares, precision)
        assert found.shape == (3, 5)
        assert torch.equal(found[1, 2], weights_log_prior(squares[1, 2], precision))
