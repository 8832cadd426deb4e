"""The prior of a group of weights: a Gaussian, or a Gaussian whose precision is not known."""

import numpy as np
import pytest
import torch
from agreement import assert_agree
from scipy import integrate, optimize, stats

from skdevae.nn.layers import weights_log_prior

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


def test_small_weights_are_held_by_a_precision_of_20():
    weight = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(weights_log_prior(weight**2, None), weight, create_graph=True)
    (curvature,) = torch.autograd.grad(slope, weight)
    assert slope.item() == 0
    assert curvature.item() == pytest.approx(-20)


def test_large_weights_are_held_less_and_less_but_always_held():
    log_prior = weights_log_prior(NORMS**2, None)
    assert log_prior[0] == 0
    assert (log_prior.diff() < 0).all()
    assert (log_prior > weights_log_prior(NORMS**2, 20.0))[1:].all()
    # the precision that would hold a weight as firmly: the slope in half the square
    squares = (NORMS**2).requires_grad_()
    (slope,) = torch.autograd.grad(weights_log_prior(squares, None).sum(), squares)
    precision = -2 * slope
    assert precision[0].item() == pytest.approx(20)
    assert (precision.diff() < 0).all()
    assert (precision > 0).all()
    # a polynomial tail: the slope in the log of the norm tends to a constant, where a Gaussian's has no limit
    far = weights_log_prior(torch.tensor([1e6, 1e8, 1e10, 1e12], dtype=torch.float64), None).diff()
    assert_agree(far, far[-1:].expand(3), computed_in=np.float32)


@pytest.mark.parametrize("n_weights", [1, 6])
def test_it_is_a_gaussian_whose_precision_is_integrated_out(n_weights):
    """A Gamma prior on the precision, fixed by the curvature at zero and by one value, reproduces all other values."""
    squares = torch.tensor([0.0, 0.03, 0.1, 0.4, 1.0, 2.5, 5.0], dtype=torch.float64)
    found = weights_log_prior(squares, None)
    # Under Gamma(shape, rate) and d weights, the mean precision at zero is (shape + d / 2) / rate = 20.
    exponent = optimize.brentq(lambda e: e * np.log1p(squares[-1].item() * 10 / e) + found[-1].item(), 1, 100)
    prior = stats.gamma(exponent - n_weights / 2, scale=20 / exponent)

    def density(square):
        return integrate.quad(lambda p: prior.pdf(p) * p ** (n_weights / 2) * np.exp(-0.5 * p * square), 0, 100)[0]

    expected = np.log([density(square) for square in squares.tolist()])
    assert_agree(found, expected - expected[0], computed_in=np.float32)


def test_groups_have_a_prior_each():
    squares = torch.rand(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for precision in (None, 2.0):
        found = weights_log_prior(squares, precision)
        assert found.shape == (3, 5)
        assert torch.equal(found[1, 2], weights_log_prior(squares[1, 2], precision))
