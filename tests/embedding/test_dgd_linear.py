"""DGDEmbedder with a linear decoder: factor analysis, and a nuclear norm where representations are points."""

from functools import cache

import numpy as np
import pytest
import torch
from embedding.dgd_cases import copy_of, factors, linear
from numpy.testing import assert_allclose
from scipy.stats import multivariate_normal, norm
from sklearn.decomposition import FactorAnalysis


@cache
def factor_analysis():
    """scikit-learn's, and our model with its parameters."""
    theirs = FactorAnalysis(2, tol=1e-4, svd_method="lapack").fit(factors())
    ours = linear(max_epochs=1, n_importance_samples=128).fit(factors())
    module, units = ours.module_.double(), ours._reader_.units
    scale, center = torch.from_numpy(units.scale), torch.from_numpy(units.center)
    with torch.no_grad():
        module.decoder.loadings.copy_(torch.from_numpy(theirs.components_) / scale)
        module.decoder.level.copy_((torch.from_numpy(theirs.mean_) - center) / scale)
        beyond_floor = torch.from_numpy(theirs.noise_variance_).sqrt() / scale - module.likelihood.floor
        module.likelihood.raw_scale.copy_(beyond_floor.expm1().log())
    return theirs, ours


def test_with_its_parameters_a_linear_model_is_factor_analysis():
    theirs, ours = factor_analysis()
    table = factors()[:40] * 1.5 - 2
    assert_allclose(ours.transform(table), theirs.transform(table), rtol=0, atol=1e-6)
    assert_allclose(ours.score_samples(table), theirs.score_samples(table), rtol=0, atol=1e-6)
    covariance = np.linalg.inv(np.eye(2) + theirs.components_ / theirs.noise_variance_ @ theirs.components_.T)
    posterior = ours.posterior(table, credible_level=0.9)
    assert_allclose(posterior.mean, theirs.transform(table), rtol=0, atol=1e-6)
    assert_allclose(posterior.sd, np.tile(np.sqrt(np.diag(covariance)), (40, 1)), rtol=1e-6)
    assert_allclose(posterior.upper - posterior.mean, norm.ppf(0.95) * posterior.sd, rtol=1e-6)
    assert_allclose(posterior.mean - posterior.lower, norm.ppf(0.95) * posterior.sd, rtol=1e-6)
    z = np.random.default_rng(0).standard_normal((5, 2))
    assert_allclose(ours.inverse_transform(z), z @ theirs.components_ + theirs.mean_, rtol=1e-6)
    assert_allclose(ours.derivatives(z), np.tile(theirs.components_.T, (5, 1, 1)), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("n_draws", [50, 500])
def test_bounds_of_linear_models_are_exact_however_few_the_draws(n_draws):
    # Laplace's approximation is the posterior, so the bound is tight.
    model = copy_of(factor_analysis()[1], n_importance_samples=n_draws)
    for table in (factors(), factors()[:40] * 1.5 - 2):
        assert model.elbo(table) == pytest.approx(model.score(table), abs=1e-6)


def test_gaps_of_a_linear_model_are_marginalised():
    theirs, ours = factor_analysis()
    table = np.where(np.random.default_rng(0).random((40, 10)) < 0.3, np.nan, factors()[:40])
    covariance = theirs.get_covariance()
    for row, score, z in zip(table, ours.score_samples(table), ours.transform(table), strict=True):
        seen = ~np.isnan(row)
        expected = multivariate_normal.logpdf(row[seen], theirs.mean_[seen], covariance[np.ix_(seen, seen)])
        assert_allclose(score, expected, rtol=0, atol=1e-5)
        gain = theirs.components_[:, seen] @ np.linalg.inv(covariance[np.ix_(seen, seen)])
        # the mode, to about 1e-4 nats
        away = z - gain @ (row[seen] - theirs.mean_[seen])
        precision = np.eye(2) + theirs.components_[:, seen] / theirs.noise_variance_[seen] @ theirs.components_.T[seen]
        assert 0.5 * away @ precision @ away < 5e-4


def test_a_variational_fit_of_a_linear_model_is_factor_analysis():
    # With a short memory, Adam takes the noise of the draws for progress and stays 0.05 nats short.
    trained = {"learning_rate": 0.03, "betas": (0.9, 0.999), "batch_size": 200, "max_epochs": 200, "tol": 0.0}
    model = linear(representation="variational", **trained).fit(factors())
    reference = factor_analysis()[0].score(factors())
    assert_allclose(model.score(factors()), reference, rtol=0, atol=0.03)
    variance = factors().var(0)
    expected = factor_analysis()[0].noise_variance_
    assert_allclose(model.noise_scale_**2 / variance, expected / variance, rtol=0, atol=0.1)


def test_a_map_fit_of_a_linear_model_thresholds_singular_values():
    """With noise at its floor, decay on the loadings and a normal prior add up to a nuclear norm (Srebro, 2004)."""
    decay, generator = 0.3, np.random.default_rng(0)
    table = generator.standard_normal((100, 4)) * [3, 2, 1, 0.2] @ generator.standard_normal((4, 8))
    trained = {"noise_floor": 0.99, "weight_decay": decay, "batch_size": 100, "max_epochs": 200, "tol": 0.0}
    model = linear(4, **trained).fit(table)
    standard = (table - table.mean(0)) / table.std(0)
    left, values, right = np.linalg.svd(standard, full_matrices=False)
    noise = (model.noise_scale_ / table.std(0)).mean()
    threshold = noise**2 * np.sqrt(decay * len(table))
    assert (values < threshold).any()
    assert (values > 2 * threshold).any()
    expected = left * np.maximum(values - threshold, 0) @ right
    found = (model.inverse_transform(model.embedding_) - table.mean(0)) / table.std(0)
    assert_allclose(found, expected, rtol=0, atol=0.02)
