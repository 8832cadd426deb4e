"""Gaussian approximations: exact for linear models, at the top of the posterior and as curved as it is for others."""

import numpy as np
import pytest
import torch
from agreement import assert_agree
from inference.random_models import (
    LIKELIHOODS,
    drawn_table,
    gaussian_marginal,
    random_model,
    random_table,
    rows_of,
)
from scipy.stats import multivariate_normal

from skdevae.inference.gaussian import (
    GaussianApproximation,
    averaged,
    covariance_factor,
    covariance_factor_at,
    laplace,
    log_joint_at,
    precision_at,
)
from skdevae.inference.slopes import slopes

DECODERS = ["neural", "additive"]


# ---- slopes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_slopes_are_central_differences(n_components, decoder):
    model = random_model("exact", "nb", decoder=decoder, n_components=n_components)
    z = torch.randn(6, n_components, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rates = slopes(model.predictive_curves, z)
    assert rates.shape == (6, 5, n_components)
    for component in range(n_components):
        step = 1e-5 * torch.eye(n_components, dtype=torch.float64)[component]
        difference = (model.predictive_curves(z + step) - model.predictive_curves(z - step)) / 2e-5
        torch.testing.assert_close(rates[..., component], difference, atol=1e-7, rtol=1e-6)


# ---- Gaussians ------------------------------------------------------------------------------------------------------


def test_gaussians_have_the_density_that_scipy_gives():
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(4, 3, 3, generator=generator, dtype=torch.float64).tril()
    factor.diagonal(dim1=1, dim2=2).exp_()
    mode = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    gaussian = GaussianApproximation(mode, factor)
    noise = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    z = gaussian.at(noise)
    assert z.shape == (7, 4, 3)
    for b in range(4):
        np.testing.assert_allclose(z[:, b], mode[b] + noise @ factor[b].T)
        expected = multivariate_normal.logpdf(z[:, b], mode[b], factor[b] @ factor[b].T)
        np.testing.assert_allclose(gaussian.log_density(z)[:, b], expected, atol=1e-9)


@pytest.mark.parametrize("q", [1, 2, 7])
@pytest.mark.parametrize("condition", [1.0, 1e8, 1e20, 1e60])
def test_factors_of_covariances_are_there_however_uneven_precisions_are(q, condition):
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(20, q, q, generator=generator, dtype=torch.float64))[0]
    precision = basis @ torch.diag(torch.logspace(0, np.log10(condition), q, dtype=torch.float64)) @ basis.mT
    precision = 0.5 * (precision + precision.mT)
    factor = covariance_factor(precision)
    assert factor.isfinite().all()
    assert torch.equal(factor, factor.tril())
    assert (factor.diagonal(dim1=1, dim2=2) > 0).all()
    if condition <= 1e8:
        torch.testing.assert_close(factor @ factor.mT, torch.linalg.inv(precision), atol=1e-6, rtol=1e-6)


# ---- Laplace's approximation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [0.0, 0.4])
@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_a_linear_models_posterior_is_found_exactly(n_components, missing):
    model = random_model("exact", hidden=(), n_components=n_components)
    table = random_table("gaussian", missing=missing)
    level, loadings, noise = gaussian_marginal(model)
    for start in (0.0, 30.0):
        found = laplace(model, rows_of(table), torch.full((len(table), n_components), start, dtype=torch.float64))
        for row, mode, factor in zip(table, found.mode.numpy(), found.factor.numpy(), strict=True):
            seen = ~np.isnan(row)
            scaled = loadings[seen].T / noise[seen]
            covariance = np.linalg.inv(np.eye(n_components) + scaled @ loadings[seen])
            np.testing.assert_allclose(factor @ factor.T, covariance, atol=1e-10)
            np.testing.assert_allclose(mode, covariance @ scaled @ (row - level)[seen], atol=1e-6)


@pytest.mark.slow(keep=3)
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_modes_are_higher_than_their_neighbours(likelihood, decoder):
    model, table = random_model("exact", likelihood, decoder=decoder), random_table(likelihood, missing=0.2)
    rows = rows_of(table)
    mode, factor = laplace(model, rows, torch.zeros(len(table), 2, dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    away = torch.randn(200, len(table), 2, generator=generator, dtype=torch.float64)
    highest = log_joint_at(model, rows, mode[None])
    # With excess zeros the information is a little too large, and steps that are too short end close to the mode.
    tolerance = 1e-4 if likelihood == "zinb" else 1e-8
    for distance in (1e-3, 1e-2, 0.1):
        neighbours = mode + distance * torch.einsum("bpq,sbq->sbp", factor, away)
        assert (log_joint_at(model, rows, neighbours) <= highest + tolerance).all()
    assert (factor.diagonal(dim1=1, dim2=2) > 0).all()
    assert (factor.triu(1) == 0).all()


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson", "nb", "bernoulli"])
def test_curvature_of_a_linear_predictor_is_the_information(likelihood):
    # Where curves are planes, expected information is what the joint's second derivative is on average over x, and for
    # canonical links (all but nb's) for every x.
    model = random_model("exact", likelihood, hidden=())
    if likelihood == "nb":
        model.likelihood.log_dispersion.fill_(25.0)  # Poisson, nearly
    rows = rows_of(random_table(likelihood))
    mode, factor = laplace(model, rows, torch.zeros(8, 2, dtype=torch.float64))
    covariance = factor @ factor.mT
    for row in range(8):
        one = rows.take(torch.tensor([row]))

        def log_joint(z, one=one):  # by entries: sums over features have first derivatives only
            entries = model.predictive_entries(one.values, one.context, z[None])
            return entries.sum() + model.latent_prior().log_density(z[None])[0]

        torch.testing.assert_close(log_joint(mode[row]), log_joint_at(model, one, mode[row][None, None])[0, 0])
        hessian = torch.autograd.functional.hessian(log_joint, mode[row])
        torch.testing.assert_close(torch.linalg.inv(-hessian), covariance[row], atol=1e-6, rtol=1e-6)


def test_size_factors_are_part_of_the_joint_density_and_of_its_curvature():
    log_size = np.log([0.1, 1.0, 7.0])
    model, table = random_model("exact", "poisson", hidden=()), random_table("poisson", 3)
    rows, z = rows_of(table, log_size=log_size), torch.full((3, 2), 0.3, dtype=torch.float64)
    level = model.decoder.level.clone()
    for row in range(3):
        one = rows.take(torch.tensor([row]))
        model.decoder.level.copy_(level + log_size[row])  # the same, by way of the decoder
        plain = rows_of(table[row : row + 1])
        expected = log_joint_at(model, plain, z[None, :1]), precision_at(model, plain, z[:1], model.latent_prior())
        model.decoder.level.copy_(level)
        torch.testing.assert_close(log_joint_at(model, one, z[None, :1]), expected[0])
        torch.testing.assert_close(precision_at(model, one, z[:1], model.latent_prior()), expected[1])
    positions = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    together = log_joint_at(model, rows, positions)
    for s in range(4):
        torch.testing.assert_close(together[s], log_joint_at(model, rows, positions[s : s + 1])[0])


@pytest.mark.parametrize("component", [0, 1])
def test_log_joint_is_the_likelihood_times_the_prior(component):
    model, table = random_model("exact"), random_table("gaussian", missing=0.3)
    level = model.predictive_curves(torch.zeros(1, 2, dtype=torch.float64))
    z = torch.zeros(3, len(table), 2, dtype=torch.float64)
    z[1, :, component] = 1.3
    z[2] = -0.4
    joint = log_joint_at(model, rows_of(table), z)
    assert level.shape == (1, 5)
    for s in range(3):
        for i in range(len(table)):
            seen = ~np.isnan(table[i])
            curve = model.predictive_curves(z[s, i][None])[0].numpy()[seen]
            noise = np.diag(model.likelihood.scale.numpy()[seen] ** 2)
            expected = multivariate_normal.logpdf(table[i, seen], curve, noise)
            expected += multivariate_normal.logpdf(z[s, i].numpy(), np.zeros(2), np.eye(2))
            assert joint[s, i].item() == pytest.approx(expected, abs=1e-10)


# ---- averages over Gaussians ----------------------------------------------------------------------------------------


def _some_gaussians(model, table, generator):
    """Gaussians that are not far from the posteriors of rows."""
    found = laplace(model, rows_of(table), torch.zeros(len(table), model.n_components, dtype=torch.float64))
    noise = torch.randn(found.mode.shape, generator=generator, dtype=torch.float64)
    mode = found.mode + 0.2 * torch.einsum("bpq,bq->bp", found.factor, noise)
    return GaussianApproximation(mode, 1.2 * found.factor)


@pytest.mark.parametrize("missing", [0.0, 0.4])
@pytest.mark.parametrize("n_components", [1, 2, 5])
def test_averages_of_a_linear_model_lead_to_its_posterior_at_once(n_components, missing):
    model = random_model("exact", hidden=(), n_components=n_components)
    table, prior = random_table("gaussian", missing=missing), model.latent_prior()
    expected = laplace(model, rows_of(table), torch.zeros(len(table), n_components, dtype=torch.float64))
    start = _some_gaussians(model, table, torch.Generator().manual_seed(0))
    found = averaged(model, rows_of(table), start, prior)
    torch.testing.assert_close(found.mode, expected.mode, atol=1e-9, rtol=0)
    torch.testing.assert_close(found.factor @ found.factor.mT, expected.factor @ expected.factor.mT, atol=1e-9, rtol=0)


@pytest.mark.parametrize("likelihood", ["nb", "bernoulli"])
def test_averages_have_the_slopes_and_curvatures_of_a_fine_quadrature(likelihood):
    # a step with Stein's lemma: precision -E[H], mode mu - E[H]^-1 E[g]; here by Gauss-Hermite and autograd's Hessians
    model = random_model("exact", likelihood, n_components=1, spread=0.3)
    table, prior = drawn_table(model, 6), model.latent_prior()
    gaussian = laplace(model, rows_of(table), torch.zeros(6, 1, dtype=torch.float64))
    found = averaged(model, rows_of(table), gaussian, prior)
    nodes, weights = np.polynomial.hermite_e.hermegauss(30)
    for row in range(len(table)):
        one, mode, sd = rows_of(table[row : row + 1]), gaussian.mode[row, 0], gaussian.factor[row, 0, 0]

        def log_joint(z, one=one):
            return log_joint_at(model, one, z.view(1, 1, 1), prior).sum()

        slope, curvature = 0.0, 0.0
        for node, weight in zip(nodes, weights / weights.sum(), strict=True):
            z = (mode + sd * node).detach().requires_grad_()
            value = torch.autograd.grad(log_joint(z), z)[0]
            slope += weight * value
            curvature -= weight * node * value / sd
        assert found.factor[row, 0, 0] == pytest.approx(float(curvature**-0.5), rel=0.02)
        assert found.mode[row, 0] == pytest.approx(float(mode + slope / curvature), abs=0.02 * float(sd))


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_how_many_curvatures_are_taken_at_once_does_not_matter(missing, monkeypatch):
    model = random_model("exact", "nb", n_components=2)
    rows, z = rows_of(random_table("nb", missing=missing)), torch.zeros(8, 2, dtype=torch.float64)
    together = covariance_factor_at(model, rows, z, model.latent_prior())
    monkeypatch.setattr("skdevae.inference.gaussian._SLOPE_ENTRIES", 1)
    assert_agree(covariance_factor_at(model, rows, z, model.latent_prior()), together)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_averages_that_overflow_leave_a_gaussian_as_it_is():
    model = random_model("exact", "poisson", n_components=2)
    table = random_table("poisson", n=3)
    far = GaussianApproximation(torch.full((3, 2), 1e6).double(), 1e8 * torch.eye(2).double().expand(3, 2, 2))
    found = averaged(model, rows_of(table), far, model.latent_prior())
    assert found.mode.isfinite().all()
    assert found.factor.isfinite().all()
