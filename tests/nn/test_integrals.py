"""Integrals from zero: laws of the grid rule and of Gauss-Legendre quadrature."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from skdevae.nn.integrals import GaussLegendreRule, GridRule, symmetric_grid

laws = settings(max_examples=20)


def _decimals(lowest, highest):
    """Numbers with five decimals: between denormal numbers quad fails."""
    return st.floats(lowest, highest).map(lambda number: round(number, 5))


def _double(values):
    return torch.as_tensor(np.asarray(values), dtype=torch.float64)


def _quad_of_interpolant(knots, values, z, power):
    """Integral from 0 to z of s^power f(s), f linear between knots and constant beyond, one smooth piece at a time."""
    edges = np.unique(np.concatenate([knots[(knots > min(0, z)) & (knots < max(0, z))], [0.0, z]]))
    pieces = (quad(lambda s: s**power * np.interp(s, knots, values), left, right)[0] for left, right in pairwise(edges))
    return np.sign(z) * sum(pieces)


@st.composite
def functions_on_knots(draw):
    """Equally spaced knots, with zero anywhere among them or outside, and values of a function at them."""
    n_knots = draw(st.integers(2, 12))
    first = draw(_decimals(-5, 1))
    knots = np.linspace(first, first + draw(_decimals(0.5, 8)), n_knots)
    values = draw(st.lists(st.floats(-5, 5), min_size=n_knots, max_size=n_knots))
    return knots, np.array(values)


@laws
@given(functions_on_knots(), st.data())
def test_grid_rule_integrates_its_interpolant_exactly(function, data):
    knots, values = function
    width = knots[-1] - knots[0]
    anywhere = data.draw(_decimals(knots[0] - width, knots[-1] + width), label="anywhere, the outside included")
    z = [anywhere, data.draw(st.sampled_from(list(knots))), knots[0] - 0.3 * width, knots[-1] + 0.3 * width, 0.0]
    rule = GridRule(_double(knots), _double(z))
    for power, result in ((0, rule.integral(_double(values)[:, None])), (1, rule.moment(_double(values)[:, None]))):
        expected = [_quad_of_interpolant(knots, values, upper, power) for upper in z]
        np.testing.assert_allclose(result[:, 0].numpy(), expected, rtol=1e-9, atol=1e-9)


@laws
@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(-4, 4), st.integers(3, 40))
def test_grid_rule_is_exact_for_linear_functions(level, slope, z, n_points):
    knots = symmetric_grid(n_points, 4.0)
    rule = GridRule(knots, _double([z]))
    values = (level + slope * knots)[:, None]
    assert rule.integral(values).item() == pytest.approx(level * z + slope * z**2 / 2, abs=1e-11)
    assert rule.moment(values).item() == pytest.approx(level * z**2 / 2 + slope * z**3 / 3, abs=1e-11)


@laws
@given(functions_on_knots(), st.floats(-15, 15))
def test_gradient_of_the_grid_rule_is_the_integrand(function, z):
    knots, values = function
    upper = _double([z]).requires_grad_()
    rule = GridRule(_double(knots), upper)
    column = _double(values)[:, None]
    (of_integral,) = torch.autograd.grad(rule.integral(column).sum(), upper, retain_graph=True)
    (of_moment,) = torch.autograd.grad(rule.moment(column).sum(), upper)
    at_z = np.interp(z, knots, values)
    assert of_integral.item() == pytest.approx(at_z, abs=1e-9)
    assert of_moment.item() == pytest.approx(z * at_z, abs=1e-9)


def test_columns_are_integrated_separately():
    knots, z = symmetric_grid(9, 2.0), torch.linspace(-3, 3, 7, dtype=torch.float64)
    values = torch.stack([knots.cos(), knots.exp(), torch.ones_like(knots)], 1)
    rule = GridRule(knots, z)
    for column in range(3):
        torch.testing.assert_close(rule.integral(values)[:, column], rule.integral(values[:, [column]])[:, 0])
    torch.testing.assert_close(rule.integral(values)[:, 2], z)
    torch.testing.assert_close(rule.moment(values)[:, 2], z**2 / 2)


@pytest.mark.parametrize("rule", [lambda z: GridRule(symmetric_grid(9, 2.0), z), lambda z: GaussLegendreRule(5, z)])
def test_offsets_are_added(rule):
    rule = rule(torch.linspace(-3, 3, 7, dtype=torch.float64))
    values = torch.stack([rule.nodes.cos(), rule.nodes.exp()], 1)
    for offset in (2.5, _double([1.0, -4.0]), torch.arange(14, dtype=torch.float64).view(7, 2)):
        torch.testing.assert_close(rule.integral(values, offset=offset), rule.integral(values) + offset)
        torch.testing.assert_close(rule.moment(values, offset=offset), rule.moment(values) + offset)


def _many_limits(knots, seed):
    """10^4 sorted limits: beyond both ends, close to the knots, and runs of adjacent floats."""
    generator = torch.Generator().manual_seed(seed)
    reach = 1.5 * knots[-1]
    spread = reach * (2 * torch.rand(9_000, generator=generator, dtype=torch.float64) - 1)
    jitter = torch.rand(2, len(knots), generator=generator, dtype=torch.float64)
    crowded = torch.cat([knots, knots - 1e-8 * jitter[0], knots + 1e-8 * jitter[1]])
    neighbors = [crowded]
    while len(neighbors) * len(crowded) < 1_000:
        neighbors.append(torch.nextafter(neighbors[-1], reach))
    return torch.cat([spread, *neighbors]).sort().values


@pytest.mark.parametrize("n_knots", [3, 16, 61])
def test_weights_of_the_grid_rule_never_fall(n_knots):
    # This makes monotone curves monotone in floating point too, so it has no tolerance. A product with the identity
    # gives the weights without rounding.
    knots = symmetric_grid(n_knots, 4.5)
    weights = GridRule(knots, _many_limits(knots, seed=n_knots)).integral(torch.eye(len(knots), dtype=torch.float64))
    assert weights.diff(dim=0).min() >= 0
    # and the weight of each knot does rise, by the area of its hat function
    torch.testing.assert_close(weights[-1, 1:-1] - weights[0, 1:-1], (knots[1] - knots[0]).expand(len(knots) - 2))


@pytest.mark.parametrize("spread", [1.0, 3.0, 30.0])
@pytest.mark.parametrize("seed", range(3))
def test_integral_of_a_nonnegative_function_never_falls(seed, spread):
    knots = symmetric_grid(61, 4.5)
    generator = torch.Generator().manual_seed(seed)
    values = (spread * torch.randn(61, 4, generator=generator, dtype=torch.float64)).clamp(min=0)
    integral = GridRule(knots, _many_limits(knots, seed)).integral(values)
    # The weights never fall (above). A matrix product may add the terms of two rows in different orders, which changes
    # a few units in the last place.
    rounding = 8 * torch.finfo(torch.float64).eps * integral.abs().amax(0)
    assert (integral.diff(dim=0) >= -rounding).all()
    assert (integral[-1] > integral[0]).all()


@pytest.mark.parametrize("order", [1, 2, 5, 15])
def test_gauss_legendre_is_exact_for_polynomials(order):
    z = _double([-1.7, -0.4, 0.0, 0.9, 1.3])
    rule = GaussLegendreRule(order, z)
    degrees = torch.arange(2 * order, dtype=torch.float64)  # 0 ... 2n - 1
    monomials = rule.nodes[:, None] ** degrees
    torch.testing.assert_close(rule.integral(monomials), z[:, None] ** (degrees + 1) / (degrees + 1))
    lower = degrees[:-1]  # the moment takes one degree
    torch.testing.assert_close(rule.moment(monomials[:, :-1]), z[:, None] ** (lower + 2) / (lower + 2))


def test_gauss_legendre_of_order_n_is_not_exact_beyond():
    # The bound of the test above is sharp: a rule of higher order would be exact here.
    rule = GaussLegendreRule(3, _double([1.5]))
    assert abs(rule.integral(rule.nodes[:, None] ** 6).item() - 1.5**7 / 7) > 1e-3


@laws
@given(st.floats(-5, 5))
def test_gauss_legendre_nodes_lie_between_zero_and_the_limit(z):
    rule = GaussLegendreRule(15, _double([z]))
    assert ((rule.nodes * np.sign(z) >= 0) & (rule.nodes.abs() <= abs(z))).all()


def test_gradient_of_gauss_legendre_is_the_integrand():
    z = torch.linspace(-2, 2, 9, dtype=torch.float64).requires_grad_()
    rule = GaussLegendreRule(15, z)
    (gradient,) = torch.autograd.grad(rule.integral(rule.nodes[:, None].sin().exp()).sum(), z)
    torch.testing.assert_close(gradient, z.detach().sin().exp())


def test_the_rules_agree_as_knots_grow():
    def smooth(s):
        return torch.stack([(1.3 * s).sin() + 0.5, torch.nn.functional.softplus(2 * s), (-(s**2)).exp()], 1)

    z = torch.linspace(-3, 3, 31, dtype=torch.float64)
    quadrature = GaussLegendreRule(25, z)
    integral, moment = quadrature.integral(smooth(quadrature.nodes)), quadrature.moment(smooth(quadrature.nodes))
    errors = []
    for n_knots in (25, 49, 97, 193):
        knots = symmetric_grid(n_knots, 4.0)
        rule = GridRule(knots, z)
        errors.append(
            [
                (rule.integral(smooth(knots)) - integral).abs().max().item(),
                (rule.moment(smooth(knots)) - moment).abs().max().item(),
            ]
        )
    errors = np.array(errors)
    assert (errors[-1] < 1e-3).all()
    # linear interpolation is of second order: with half the spacing, a quarter of the error
    np.testing.assert_allclose(errors[:-1] / errors[1:], 4, rtol=0.15)


@laws
@given(st.integers(2, 60), st.floats(0.1, 10))
def test_symmetric_grid(n_points, z_max):
    grid = symmetric_grid(n_points, z_max)
    assert len(grid) == n_points + (n_points + 1) % 2  # the next odd number
    assert grid[[0, len(grid) // 2, -1]].tolist() == [-z_max, 0, z_max]
    assert torch.equal(grid, -grid.flip(0))
    torch.testing.assert_close(grid.diff(), torch.full_like(grid.diff(), 2 * z_max / (len(grid) - 1)))
