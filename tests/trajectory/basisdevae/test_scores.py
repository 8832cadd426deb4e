"""Scores, bounds and posteriors of BasisDeVAEClusterer: what the integrals over the latent are."""

import itertools

import numpy as np
import pytest
import torch
from agreement import assert_agree
from by_hand import LIKELIHOODS, lattice, log_density, log_evidence, log_likelihood_at_means, with_holes
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import simpson
from scipy.special import logsumexp
from scipy.stats import norm
from trajectory.basisdevae.cases import (
    INFERENCES,
    counts,
    fitted,
    progression,
    quick,
    table_for,
    thorough,
)

from skdevae.datasets import make_progression


@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_score_is_the_integral_over_the_latent(likelihood, inference):
    model, rows = fitted(likelihood, inference), table_for(likelihood)[:6]
    assert_allclose(model.score_samples(rows), log_evidence(model, rows), rtol=0, atol=1e-4)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_missing_entries_are_integrated_out(likelihood):
    model, rows = fitted(likelihood), with_holes(table_for(likelihood)[:6])
    assert_allclose(model.score_samples(rows), log_evidence(model, rows), rtol=0, atol=1e-4)


def test_a_narrow_posterior_is_integrated_as_exactly_as_a_wide_one():
    # 300 features: posterior sds far below the spacing of the grid that the fit used
    table = make_progression(60, n_transient=0, n_increasing=150, n_decreasing=150, random_state=0).data
    model = quick(behaviors=("increasing", "decreasing"), max_epochs=60).fit(table)
    assert model.posterior(table).sd.max() < 0.05
    for row, mean in zip(table[:5], model.transform(table[:5])[:, 0], strict=True):
        z = np.linspace(mean - 1, mean + 1, 2001)
        joint = log_density(model, row[None], z)[0] + norm.logpdf(z)
        by_hand = logsumexp(joint) + np.log(z[1] - z[0])
        assert_allclose(model.score_samples(row[None]), by_hand, rtol=0, atol=1e-4)


@pytest.mark.filterwarnings("ignore:No axis was found")
@pytest.mark.filterwarnings("ignore:.* lie beyond the range")  # a grid of all that there may be
def test_score_is_a_normalised_density():
    # every table of five zeros and ones
    binary = np.array(list(itertools.product([0.0, 1.0], repeat=5)))
    model = quick(behaviors=("increasing", "decreasing"), likelihood="bernoulli").fit(counts("bernoulli", n_features=5))
    assert_allclose(np.exp(model.score_samples(binary)).sum(), 1, atol=1e-4)

    x = np.linspace(-8, 8, 1001)[:, None]
    model = quick(behaviors="increasing").fit(np.random.default_rng(0).standard_normal((100, 1)))
    assert_allclose(simpson(np.exp(model.score_samples(x)), x=x[:, 0]), 1, atol=1e-4)


def test_score_is_the_mean_of_score_samples():
    model, table = fitted(), progression().data
    scores = model.score_samples(table)
    assert scores.shape == (len(table),)
    assert model.score(table) == scores.mean()


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_bounds_are_in_order(likelihood, inference):
    # Long enough for every sample to lie on the grid of the fit.
    table = table_for(likelihood)
    model = quick(n_clusters=3, likelihood=likelihood, inference=inference, max_epochs=40).fit(table)
    elbo = model.elbo(table)
    if inference == "amortized":
        # the elbo averages over q(w), the score takes the most probable behaviour: not a bound to the last digit
        assert elbo <= model.score(table) + 1e-2
    with torch.no_grad():
        cost = float(model.module_.assignment.divergence() - model.module_.log_prior())
    assert cost > 0
    assert_allclose(model.lower_bound_, elbo - cost / len(table), rtol=0, atol=5e-3)


def test_the_optimal_elbo_is_the_score_where_clusters_are_certain():
    table = progression().data
    model = quick(behaviors="free").fit(table)
    assert_agree(model.elbo(table), model.score(table))


@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_conditional_log_likelihood_is_taken_at_the_posterior_mean(likelihood, inference):
    model, rows = fitted(likelihood, inference), with_holes(table_for(likelihood)[:8])
    assert_allclose(model.conditional_log_likelihood(rows), log_likelihood_at_means(model, rows), rtol=1e-6)


def test_an_exact_posterior_is_bayes_rule():
    model, rows = fitted("nb"), counts("nb")[:6]
    points, log_mass = lattice(n_points=4001)
    z = points[:, 0]
    joint = log_density(model, rows, z) + log_mass
    q = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
    mean = q @ z
    posterior = model.posterior(rows, credible_level=0.8)
    assert_allclose(posterior.mean[:, 0], mean, atol=1e-4)
    assert_allclose(posterior.sd[:, 0], np.sqrt(q @ z**2 - mean**2), atol=1e-4)
    for row, (lower, upper) in enumerate(zip(posterior.lower[:, 0], posterior.upper[:, 0], strict=True)):
        assert_allclose([q[row, z < lower].sum(), q[row, z > upper].sum()], 0.1, atol=0.01)


def test_credible_intervals_cover_as_often_as_they_say():
    model, generator = thorough().fit(progression().data[:, ::3]), np.random.default_rng(0)
    z = generator.standard_normal(2000)
    curves = model.trajectories(z)
    table = curves + model.noise_scale_ * generator.standard_normal(curves.shape)
    for level in (0.5, 0.9):
        posterior = model.posterior(table, credible_level=level)
        covered = np.mean((posterior.lower[:, 0] <= z) & (z <= posterior.upper[:, 0]))
        assert abs(covered - level) < 4 * np.sqrt(level * (1 - level) / len(z))
    standardized = (z - posterior.mean[:, 0]) / posterior.sd[:, 0]
    assert abs(standardized.mean()) < 4 / np.sqrt(len(z))
    assert abs((standardized**2).mean() - 1) < 4 * np.sqrt(3 / len(z))


@pytest.mark.parametrize("inference", INFERENCES)
def test_posteriors_are_consistent(inference):
    model, table = fitted(inference=inference), progression().data
    narrow, wide = (model.posterior(table, credible_level=level) for level in (0.5, 0.99))
    assert_array_equal(narrow.mean, model.transform(table))
    assert narrow.mean.shape == narrow.sd.shape == narrow.lower.shape == narrow.upper.shape == (len(table), 1)
    assert (narrow.sd > 0).all()
    for lower, upper in itertools.pairwise([wide.lower, narrow.lower, narrow.upper, wide.upper]):
        assert (lower < upper).all()
