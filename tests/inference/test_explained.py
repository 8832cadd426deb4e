"""Explained deviance: against brute force, and a column of noise explains nothing of itself."""

import numpy as np
import pytest
import torch
from inference.random_models import FLOAT64, random_model, source_of
from numpy.testing import assert_allclose
from scipy.optimize import minimize_scalar

from skdevae.inference.explained import explained_deviance, moments_along
from skdevae.nn.covariate_effects import CovariateEffects
from skdevae.nn.latent_grid import LatentGrid

NAMES = ("increasing", "decreasing", "transient")
LIKELIHOODS = ("gaussian", "poisson", "nb", "zinb", "bernoulli")
D, N = 4, 25


def _model(likelihood, seed=0):
    model = random_model("exact", likelihood, n_features=D, n_components=1, behaviors=NAMES, seed=seed, spread=0.8)
    if likelihood == "zinb":  # features follow their curves alone
        with torch.no_grad():
            model.likelihood.inflation_logits[1:] = 0
    return model


def _table(model, context, missing=0.0, seed=1):
    """A table that a model itself has drawn for rows with a context, with holes."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(N, 1, generator=generator, dtype=torch.float64)
    likelihood, curves = model.in_context(model.predictive_curves(z), context)
    table = likelihood.sample(curves, z, generator).numpy()
    return np.where(np.random.default_rng(seed).random(table.shape) < missing, np.nan, table.astype(float))


def _entries(model, source, curves):
    """Log-likelihood of every entry at curves (N, D) before a context is added, NaN where there is none: (N, D)."""
    rows = source.rows(slice(None)).dense()
    likelihood, at = model.in_context(torch.as_tensor(curves), rows.context)
    entries = likelihood.log_prob(rows.values, at, torch.zeros(N, 1, 1).to(at)).numpy()
    return entries if rows.observed is None else np.where(rows.observed.numpy() > 0, entries, np.nan)


def _by_brute_force(model, source, best):
    """One column after another is left out, one row and one point of a grid after another is looked at."""
    weight = np.ones(N) if source.context.weight is None else source.context.weight
    grid = LatentGrid.standard_normal(513, model.z_max).to(FLOAT64)
    curves = model.predictive_curves(grid.points).numpy()
    at_points = np.stack([_entries(model, source, np.tile(curve, (N, 1))) for curve in curves], axis=1)  # (N, P, D)
    shares = []
    for column in range(D):
        others = np.nansum(np.delete(at_points, column, axis=2), axis=2) + grid.log_mass.numpy()
        q = np.exp(others - others.max(1, keepdims=True))
        predicted = (q / q.sum(1, keepdims=True)) @ curves

        def total(curve, column=column):
            return np.nansum(weight * _entries(model, source, curve)[:, column])

        constant = minimize_scalar(lambda level: -total(np.full((N, D), level)), bracket=(-1.0, 1.0), tol=1e-12)
        saturated = np.nansum(weight * np.where(np.isnan(at_points[:, 0, column]), np.nan, best[:, column]))
        shares.append((total(predicted) + constant.fun) / (saturated + constant.fun))
    return np.array(shares)


def _context(model, *, sizes, covariates):
    generator = np.random.default_rng(2)
    found = {}
    if sizes:
        found["log_size"] = generator.normal(0, 0.5, N)
    if covariates:
        model.effects = CovariateEffects(D, [0.0, 0.0]).double()
        model.effects.values = torch.nn.Parameter(
            torch.from_numpy(generator.normal(0, 0.5, (2, D))), requires_grad=False
        )
        found["covariates"] = generator.integers(0, 2, (N, 2)).astype(float)
    return found


CASES = [(likelihood, carried) for likelihood in LIKELIHOODS for carried in ("nothing", "covariates")]
CASES += [("poisson", "sizes"), ("nb", "sizes"), ("gaussian", "weights"), ("nb", "weights")]


@pytest.mark.slow(keep=4)
@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize("likelihood, carried", CASES)
def test_it_is_that_of_brute_force(likelihood, missing, carried):
    model = _model(likelihood)
    if likelihood == "nb":
        model.likelihood.scales_dispersion = True
    context = _context(model, sizes=carried == "sizes", covariates=carried == "covariates")
    table = _table(model, source_of(np.zeros((N, D)), **context).context.tensors(FLOAT64), missing)
    if carried == "weights":
        context["weight"] = np.random.default_rng(3).integers(1, 4, N).astype(float)
    source = source_of(table, **context)
    rows = source.rows(slice(None)).dense()
    own = model.likelihood_of(rows.context)
    best = own.saturated_log_prob(rows.values, torch.zeros(N, 1, 1).to(rows.values)).numpy()
    assert_allclose(
        explained_deviance(model, source).numpy(), _by_brute_force(model, source, best), rtol=2e-4, atol=2e-4
    )


def test_of_measurements_it_is_the_share_of_the_variance():
    """One column knows the position as well as exactly. The other's residuals from its curve are then known."""
    generator = np.random.default_rng(4)
    model = random_model("exact", "gaussian", n_features=2, n_components=1, behaviors=("increasing",))
    z = generator.uniform(-2, 2, 400)
    curves = model.predictive_curves(torch.from_numpy(z)[:, None]).numpy()
    with torch.no_grad():
        model.likelihood.raw_scale[:] = torch.tensor([-30.0, 1.0])  # at its floor, and above
    model.likelihood.floor = 1e-2
    table = curves + generator.normal(size=curves.shape) * model.likelihood.scale.numpy()
    found = explained_deviance(model, source_of(table)).numpy()
    residual = np.mean((table[:, 1] - curves[:, 1]) ** 2)
    assert_allclose(found[1], 1 - residual / table[:, 1].var(), atol=1e-3)


def test_a_column_of_noise_explains_nothing_of_itself():
    model = _model("gaussian")
    with torch.no_grad():
        model.likelihood.raw_scale[:] = -30  # a noise sd of 0.1: each column would pull all rows to where it is right
    noise = np.random.default_rng(5).normal(size=(N, D))
    assert (explained_deviance(model, source_of(noise)) < 0.3).all()


def test_a_column_of_one_value_has_no_deviance_to_explain():
    for likelihood in ("gaussian", "poisson", "bernoulli"):
        model = _model(likelihood)
        table = _table(model, source_of(np.zeros((N, D))).context)
        table[:, 1] = 0
        assert_allclose(np.isnan(explained_deviance(model, source_of(table)).numpy()), [False, True, False, False])


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_moments_are_those_of_draws(likelihood):
    model = _model(likelihood)
    z = torch.tensor([[0.5]]).double()
    generator = torch.Generator().manual_seed(6)
    draws = model.likelihood.sample(model.predictive_curves(z).expand(50_000, -1), z.expand(50_000, -1), generator)
    mean, variance = moments_along(model, z)
    error = 5 * (draws.var(0) / 50_000).sqrt()
    assert ((draws.mean(0) - mean[0]).abs() < error).all()
    spread = (draws - mean).square()
    assert ((spread.mean(0) - variance[0]).abs() < 5 * spread.std(0) / 50_000**0.5).all()
