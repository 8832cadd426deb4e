"""Covariate effects: Newton steps against regressions by hand, and what the prior makes of them."""

import numpy as np
import torch
from agreement import assert_agree
from scipy.optimize import minimize

from skdevae.nn.covariate_effects import CovariateEffects, OffsetSums

N, D = 200, 6


def design(random):
    return np.column_stack([random.random(N) < 0.3, random.normal(size=N)]).astype(float)


def effects_of(c):
    return CovariateEffects(D, c.mean(0).tolist()).double()


def test_one_step_from_sums_of_residuals_is_a_ridge_regression():
    random = np.random.default_rng(0)
    c = design(random)
    effects, centered = effects_of(c), c - c.mean(0)
    x, variance = random.normal(size=(N, D)), random.uniform(0.5, 2, D)
    precision = np.diag(1 / effects.variance.numpy())
    told = np.broadcast_to(1 / variance, (N, D))
    sums = OffsetSums.of_groups(*map(torch.from_numpy, (centered, x / variance, told.copy())))
    effects.update_(sums)
    for feature in range(D):
        normal = centered.T @ centered / variance[feature] + precision
        expected = np.linalg.solve(normal, centered.T @ x[:, feature] / variance[feature])
        assert_agree(effects.values[:, feature].detach(), expected)


def test_steps_end_at_the_mode_of_a_poisson_regression():
    random = np.random.default_rng(1)
    c = design(random)
    x = random.poisson(np.exp(0.5 + c @ random.normal(0, 0.7, (2, D)))).astype(float)
    effects, centered = effects_of(c), torch.from_numpy(c - c.mean(0))
    for _ in range(60):
        mean = torch.exp(0.5 + effects.offsets(torch.from_numpy(c)).detach())
        effects.update_(OffsetSums.of_groups(centered, torch.from_numpy(x) - mean, mean))
    variance = effects.variance.numpy()

    def cost(beta, feature):
        eta = 0.5 + centered.numpy() @ beta
        return np.sum(np.exp(eta) - x[:, feature] * eta) + 0.5 * np.sum(beta**2 / variance)

    for feature in range(D):
        found = minimize(cost, np.zeros(2), args=(feature,), tol=1e-12).x
        np.testing.assert_allclose(effects.values[:, feature].detach(), found, atol=1e-5)


def test_a_covariate_without_effects_is_shrunk_and_one_with_effects_is_not():
    random = np.random.default_rng(2)
    n_features = 200
    c = random.normal(size=(N, 2))
    centered = c - c.mean(0)
    true = np.stack([np.zeros(n_features), random.normal(0, 2, n_features)])
    x = centered @ true + random.normal(size=(N, n_features))
    effects = CovariateEffects(n_features, c.mean(0).tolist()).double()
    for _ in range(50):
        residual = torch.from_numpy(x - centered @ effects.values.detach().numpy())
        effects.update_(OffsetSums.of_groups(torch.from_numpy(centered), residual, torch.ones_like(residual)))
    none, many = effects.values.detach().numpy()
    plain = np.linalg.lstsq(centered, x, rcond=None)[0]
    assert none.std() < 0.8 * plain[0].std()
    np.testing.assert_allclose(effects.variance[1].sqrt(), 2, rtol=0.15)
    np.testing.assert_allclose(many, plain[1], atol=0.02)


def test_effects_count_from_average_covariates():
    effects = CovariateEffects(3, [0.25, 0.0])
    with torch.no_grad():
        effects.values.copy_(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    offsets = effects.offsets(torch.tensor([[0.25, 0.0], [1.25, 1.0]]))
    assert_agree(offsets.detach(), [[0, 0, 0], [5, 7, 9]], computed_in=np.float32)
