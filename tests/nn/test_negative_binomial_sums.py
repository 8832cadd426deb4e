"""Sums of negative-binomial log-probabilities in few passes: they are those of the linear form, gradients included."""

import numpy as np
import pytest
import torch
from agreement import assert_agree
from scipy import stats

from skdevae.nn.likelihoods import LIKELIHOODS
from skdevae.nn.likelihoods.linear import LinearLikelihood
from skdevae.nn.likelihoods.negative_binomial_sums import count_constants
from skdevae.nn.rows import DenseRows

B, D = 7, 5


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def normal(generator, *shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("draws", [(), (3,), (2, 3)])
@pytest.mark.parametrize("is_sized", [False, True])
@pytest.mark.parametrize("has_gaps", [False, True])
def test_sums_and_their_gradients_are_those_of_the_linear_form(generator, draws, is_sized, has_gaps):
    likelihood = LIKELIHOODS["nb"](D, scales_dispersion=True).double()
    with torch.no_grad():
        likelihood.log_dispersion.copy_(normal(generator, D))
    x = torch.poisson(normal(generator, B, D).exp(), generator=generator)
    x[0], x[1, 1] = 0, 300
    observed = (normal(generator, B, D) > -0.5).double() if has_gaps else None
    rows = DenseRows(x if observed is None else x * observed, observed)
    sized = likelihood.of_size(normal(generator, B)) if is_sized else likelihood
    # far out too, and in a layout that is not that of the shape
    curves = (4 * normal(generator, *draws, D, B)).transpose(-1, -2).requires_grad_()
    factors = normal(generator, *draws, B)
    found = []
    for sums in (sized.row_log_prob, LinearLikelihood.row_log_prob.__get__(sized)):
        values = sums(rows, curves, torch.zeros(B, 1))
        variables = [curves, likelihood.log_dispersion]
        found.append([values, *torch.autograd.grad((values * factors).sum(), variables, retain_graph=True)])
    for ours, theirs in zip(*found, strict=True):
        assert_agree(ours.detach(), theirs.detach())


@pytest.mark.parametrize("has_gaps", [False, True])
def test_sums_are_finite_where_means_are_beyond_all_numbers(generator, has_gaps):
    likelihood = LIKELIHOODS["nb"](D).double().requires_grad_(False)
    x = torch.poisson(normal(generator, B, D).exp(), generator=generator)
    observed = (normal(generator, B, D) > -0.5).double() if has_gaps else None
    rows = DenseRows(x if observed is None else x * observed, observed)
    curves, z = 4 * normal(generator, B, D), torch.zeros(B, 1)
    curves[0], curves[1, 2] = 1e3, 5e4  # whose exponentials overflow
    expected = LinearLikelihood.row_log_prob(likelihood, rows, curves, z)
    assert expected.isfinite().all()
    assert_agree(likelihood.row_log_prob(rows, curves, z), expected)
    assert_agree(likelihood.row_log_prob(rows, curves.clone().requires_grad_(), z).detach(), expected)


def test_constants_of_counts_are_scipys(generator):
    log_dispersion = torch.tensor([-3.0, 0.0, 2.0, 9.0], dtype=torch.float64)
    column = torch.arange(400) % 4
    # small ones, which are looked up; large ones; what is no whole number; and zeros that are stored
    count = torch.poisson(torch.full((400,), 3.0, dtype=torch.float64), generator=generator)
    count[:8], count[8:12], count[12:16] = 1000, 2.5, 0
    theta = log_dispersion.exp()[column].numpy()
    x = count.numpy()
    expected = stats.nbinom.logpmf(np.round(x), theta, 0.5) - (theta + np.round(x)) * np.log(0.5)
    whole = x == np.round(x)
    found = count_constants(column, count, log_dispersion)
    assert_agree(found[whole], expected[whole])
    # one at a time there are too few for a table, whatever they are
    alone = [count_constants(column[[i]], count[[i]], log_dispersion) for i in range(400)]
    assert_agree(found, torch.cat(alone))
