"""Importance sampling: exact where the posterior is Gaussian, close where it is not, the same for every batch."""

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from skdevae.inference.importance import (
    importance_log_evidence,
    laplace,
    log_joint_at,
    normal_draws,
    slopes,
)
from skdevae.nn.latent_grid import LatentGrid
from skdevae.nn.models import build_model
from skdevae.table.source import RowSource

FLOAT64 = torch.zeros((), dtype=torch.float64)
D = 5
LIKELIHOODS = ["gaussian", "poisson", "nb", "zinb", "bernoulli"]
NETWORK = {"hidden_layer_sizes": (4,), "activation": "tanh"}
DECODERS = {
    "neural": NETWORK,
    "additive": {**NETWORK, "signs": (1, -1, 0, 1, 0), "integrator": "grid", "n_knots": 11, "z_max": 4.0},
}


def _model(likelihood="gaussian", decoder="neural", n_components=2, *, seed=0, spread=0.5, linear=False):
    """A float64 model whose every parameter is random."""
    own = {"gaussian": {"floor": 0.1}, "zinb": {"n_components": n_components}}.get(likelihood, {})
    network = {**DECODERS[decoder], "hidden_layer_sizes": ()} if linear else DECODERS[decoder]
    config = {
        "n_samples": 10,
        "n_features": D,
        "n_components": n_components,
        "decoder": {"name": decoder, "n_components": n_components, **network},
        "likelihood": {"name": likelihood, **own},
        "assignment": None,
        "encoder": None,
        "z_max": 4.0,
        "weight_decay": 1.0,
        "beta": 1.0,
        "gamma": 1.0,
    }
    generator = torch.Generator().manual_seed(seed)
    model = build_model(config, generator).double().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(0, spread, generator=generator)
    return model


def _table(likelihood, n=8, *, seed=1, missing=0.0):
    generator = np.random.default_rng(seed)
    match likelihood:
        case "gaussian":
            table = generator.normal(0, 1.5, (n, D))
        case "bernoulli":
            table = generator.integers(0, 2, (n, D)).astype(float)
        case _:
            table = generator.poisson(2.0, (n, D)).astype(float)
    return np.where(generator.random((n, D)) < missing, np.nan, table)


def _rows(table):
    return RowSource(table, None, None, FLOAT64).rows(slice(None)).dense()


def _evidence(model, table, n_draws=2000, start=0.0):
    start = torch.full((len(table), model.n_components), start, dtype=torch.float64)
    return importance_log_evidence(model, _rows(table), start, normal_draws(n_draws, model.n_components))


def _quadrature(model, table):
    """log p(x) by a sum over a fine grid."""
    grid = LatentGrid.standard_normal(129, 8.0, model.n_components)
    joint = _rows(table).log_likelihood(model.predictive_tables(grid.points)) + grid.log_mass
    joint = joint + model.likelihood.row_constant(_rows(table))[:, None]
    return joint.logsumexp(1)


def _gaussian_model(model):
    """Mean, loadings (D, Q) and noise variances of a linear decoder's model."""
    level, loadings = model.decoder.level, model.decoder.loadings
    return level.numpy(), loadings.numpy().T, model.likelihood.scale.numpy() ** 2


# ---- draws ----------------------------------------------------------------------------------------------------------


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


# ---- slopes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_slopes_are_central_differences(n_components, decoder):
    model = _model("nb", decoder, n_components)
    z = torch.randn(6, n_components, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rates = slopes(model.predictive_curves, z)
    assert rates.shape == (6, D, n_components)
    for component in range(n_components):
        step = 1e-5 * torch.eye(n_components, dtype=torch.float64)[component]
        difference = (model.predictive_curves(z + step) - model.predictive_curves(z - step)) / 2e-5
        torch.testing.assert_close(rates[..., component], difference, atol=1e-7, rtol=1e-6)


# ---- Laplace's approximation --------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [0.0, 0.4])
@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_a_linear_models_posterior_is_found_exactly(n_components, missing):
    model, table = _model(linear=True, n_components=n_components), _table("gaussian", missing=missing)
    level, loadings, noise = _gaussian_model(model)
    for start in (0.0, 30.0):
        found = laplace(model, _rows(table), torch.full((len(table), n_components), start, dtype=torch.float64))
        for row, mode, factor in zip(table, found.mode.numpy(), found.factor.numpy(), strict=True):
            seen = ~np.isnan(row)
            scaled = loadings[seen].T / noise[seen]
            covariance = np.linalg.inv(np.eye(n_components) + scaled @ loadings[seen])
            np.testing.assert_allclose(factor @ factor.T, covariance, atol=1e-10)
            np.testing.assert_allclose(mode, covariance @ scaled @ (row - level)[seen], atol=1e-6)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_modes_are_higher_than_their_neighbours(likelihood, decoder):
    model, table = _model(likelihood, decoder), _table(likelihood, missing=0.2)
    rows = _rows(table)
    mode, factor = laplace(model, rows, torch.zeros(len(table), 2, dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    away = torch.randn(200, len(table), 2, generator=generator, dtype=torch.float64)
    highest = log_joint_at(model, rows, mode[None])
    for distance in (1e-3, 1e-2, 0.1):
        neighbours = mode + distance * torch.einsum("bpq,sbq->sbp", factor, away)
        assert (log_joint_at(model, rows, neighbours) <= highest + 1e-8).all()
    assert (factor.diagonal(dim1=1, dim2=2) > 0).all()
    assert (factor.triu(1) == 0).all()


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson", "nb", "bernoulli"])
def test_curvature_of_a_linear_predictor_is_the_information(likelihood):
    # Where curves are planes, expected information is what the joint's second derivative is on average over x, and for
    # canonical links (all but nb's) for every x.
    model = _model(likelihood, linear=True)
    if likelihood == "nb":
        model.likelihood.log_dispersion.fill_(25.0)  # Poisson, nearly
    rows = _rows(_table(likelihood))
    mode, factor = laplace(model, rows, torch.zeros(8, 2, dtype=torch.float64))
    covariance = factor @ factor.mT
    for row in range(8):
        one = rows.take(torch.tensor([row]))
        hessian = torch.autograd.functional.hessian(
            lambda z, one=one: log_joint_at(model, one, z[None, None])[0, 0], mode[row]
        )
        torch.testing.assert_close(torch.linalg.inv(-hessian), covariance[row], atol=1e-6, rtol=1e-6)


# ---- evidence -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [0.0, 0.4])
@pytest.mark.parametrize("n_components", [1, 2, 3])
@pytest.mark.parametrize("n_draws", [7, 500])
def test_a_linear_models_evidence_is_the_gaussian_density(n_draws, n_components, missing):
    # every weight is the evidence times the share of the exact proposal: few draws are enough
    model, table = _model(linear=True, n_components=n_components), _table("gaussian", missing=missing)
    level, loadings, noise = _gaussian_model(model)
    covariance = loadings @ loadings.T + np.diag(noise)
    expected = [
        multivariate_normal.logpdf(row[seen], level[seen], covariance[np.ix_(seen, seen)])
        for row, seen in zip(table, ~np.isnan(table), strict=True)
    ]
    np.testing.assert_allclose(_evidence(model, table, n_draws).numpy(), expected, atol=1e-8)


def _sampled(model, n=40, missing=0.2):
    """A table that the model itself has drawn, with holes."""
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(n, model.n_components, generator=generator, dtype=torch.float64)
    table = model.likelihood.sample(model.predictive_curves(z), z, generator).numpy()
    return np.where(np.random.default_rng(0).random(table.shape) < missing, np.nan, table)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("n_components", [1, 2])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_evidence_is_the_integral_over_the_latent(likelihood, n_components, decoder):
    # But for a few rows, whose posterior has a second mode that no draw from around the first one finds.
    model = _model(likelihood, decoder, n_components, spread=0.4)
    table = _sampled(model)
    difference = (_evidence(model, table, 4096) - _quadrature(model, table)).abs()
    assert difference.median() < 2e-3
    assert difference.quantile(0.8) < 0.02


def test_evidence_of_few_draws_is_a_lower_bound_on_average():
    model, table = _model("poisson"), _table("poisson", n=200)
    difference = _evidence(model, table, 2) - _quadrature(model, table)
    assert difference.mean() < 0
    more = _evidence(model, table, 64) - _quadrature(model, table)
    assert more.mean().abs() < difference.mean().abs()


def test_evidence_is_that_of_every_table_together():
    # all 2^5 rows of zeros and ones: their probabilities add up to one
    table = np.array([[(i >> column) & 1 for column in range(D)] for i in range(2**D)], dtype=float)
    for n_components in (1, 2, 3):
        evidence = _evidence(_model("bernoulli", n_components=n_components), table, 4096).numpy()
        assert math.exp(logsumexp(evidence)) == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_row_without_entries_has_evidence_one(likelihood):
    table = np.full((2, D), np.nan)
    np.testing.assert_allclose(_evidence(_model(likelihood), table, 7).numpy(), 0, atol=1e-12)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_evidence_hardly_depends_on_where_the_mode_is_looked_for(likelihood):
    model, table = _model(likelihood, linear=True), _table(likelihood)
    torch.testing.assert_close(_evidence(model, table, start=1.5), _evidence(model, table), atol=1e-3, rtol=0)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_rows_do_not_know_of_each_other(likelihood):
    model, table = _model(likelihood), _table(likelihood, n=40, missing=0.1)
    together = _evidence(model, table, 100)
    alone = torch.cat([_evidence(model, table[i : i + 1], 100) for i in range(len(table))])
    torch.testing.assert_close(alone, together, atol=1e-8, rtol=0)


def test_how_many_draws_are_taken_at_once_does_not_matter(monkeypatch):
    model, table = _model("nb"), _table("nb")
    expected = _evidence(model, table, 100)
    monkeypatch.setattr("skdevae.inference.importance._DRAWN_ENTRIES", 3 * table.size)
    torch.testing.assert_close(_evidence(model, table, 100), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("component", [0, 1])
def test_log_joint_is_the_likelihood_times_the_prior(component):
    model, table = _model(), _table("gaussian", missing=0.3)
    level = model.predictive_curves(torch.zeros(1, 2, dtype=torch.float64))
    z = torch.zeros(3, len(table), 2, dtype=torch.float64)
    z[1, :, component] = 1.3
    z[2] = -0.4
    joint = log_joint_at(model, _rows(table), z)
    assert level.shape == (1, D)
    for s in range(3):
        for i in range(len(table)):
            seen = ~np.isnan(table[i])
            curve = model.predictive_curves(z[s, i][None])[0].numpy()[seen]
            noise = np.diag(model.likelihood.scale.numpy()[seen] ** 2)
            expected = multivariate_normal.logpdf(table[i, seen], curve, noise)
            expected += multivariate_normal.logpdf(z[s, i].numpy(), np.zeros(2), np.eye(2))
            assert joint[s, i].item() == pytest.approx(expected, abs=1e-10)
