"""Scores, bounds and posteriors of DeVAETransformer, on grids and by sampling."""

import itertools

import numpy as np
import pytest
import torch
from agreement import assert_agree
from by_hand import LIKELIHOODS, lattice, log_density, log_evidence, log_likelihood_at_means, with_holes
from numpy.testing import assert_allclose
from scipy.special import logsumexp
from trajectory.devae.cases import (
    CASES,
    EXACT,
    WAYS,
    counts,
    fitted,
    progression,
    quick,
    table_for,
    two_monotone_components,
)

from skdevae.inference.importance import ImportanceSampler


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize(("likelihood", "way"), [case for case in CASES if "three" not in case[1]])
def test_score_is_the_integral_over_the_latent(likelihood, way):
    model, rows = fitted(likelihood, way), with_holes(table_for(likelihood)[:4], 0.1)
    by_hand = log_evidence(model, rows, model.n_components, reach=7)
    assert_allclose(model.score_samples(rows), by_hand, rtol=0, atol=1e-3)


def test_rows_too_narrow_for_a_grid_of_two_dimensions_are_sampled(monkeypatch):
    model = two_monotone_components("gaussian")
    table = model.sample(12, random_state=0)
    exact = model.score_samples(table)
    monkeypatch.setattr("skdevae.inference.refinement._TOLERANCE", -1.0)
    monkeypatch.setattr("skdevae.inference.lattice._TABLE_ENTRIES", 0)
    assert 0 < np.median(np.abs(model.score_samples(table) - exact)) < 0.01


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_grid_of_two_dimensions_agrees_with_importance_sampling(likelihood):
    model = two_monotone_components(likelihood)
    table, source, inference = model._for_inference(model.sample(12, random_state=0))
    rows, posterior = source.rows(slice(None)).dense(), model.posterior(table.values)
    start = torch.from_numpy(posterior.mean)
    drawn = ImportanceSampler(inference.model, 4096)(rows, start)
    difference = np.abs(table.in_user_nats(drawn.log_evidence) - model.score_samples(table.values))
    assert np.median(difference) < 0.01
    assert np.quantile(difference, 0.7) < 0.02

    # Draws around every mode, and fitted to the tails, so that posteriors may be bent.
    covered = (difference < 0.02) & (drawn.effective_share.numpy() > 0.4)
    assert covered.mean() >= 0.9
    weights = drawn.shares[..., None]
    mean = (weights * drawn.z).sum(0)
    sd = ((weights * drawn.z**2).sum(0) - mean**2).sqrt()
    assert_allclose(mean.numpy()[covered], posterior.mean[covered], atol=0.03)
    assert_allclose(sd.numpy()[covered], posterior.sd[covered], rtol=0.1)


@pytest.mark.parametrize("likelihood", ["gaussian", "zinb"])
def test_an_exact_posterior_of_two_components_is_bayes_rule(likelihood):
    model, rows = fitted(likelihood, "exact, two components"), with_holes(table_for(likelihood)[:3], 0.1)
    points, log_mass = lattice(2, 281, reach=7)
    joint = log_density(model, rows, points) + log_mass
    q = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
    mean = q @ points
    posterior = model.posterior(rows, credible_level=0.8)
    assert_allclose(posterior.mean, mean, atol=1e-3)
    assert_allclose(posterior.sd, np.sqrt(q @ points**2 - mean**2), atol=2e-3)
    for component in range(2):
        for row in range(len(rows)):
            below = q[row, points[:, component] < posterior.lower[row, component]].sum()
            above = q[row, points[:, component] > posterior.upper[row, component]].sum()
            assert_allclose([below, above], 0.1, atol=0.05)


@pytest.mark.filterwarnings("ignore:.* lie beyond the range")  # a grid of all that there may be
@pytest.mark.parametrize("n_components", [1, 2])
def test_density_of_one_feature_integrates_to_one(n_components):
    table = np.random.default_rng(0).gamma(2.0, size=(100, 1))
    model = quick(n_components=n_components, monotonic_cst="increasing").fit(table)
    x = np.linspace(-6, 18, 241)
    density = np.exp(model.score_samples(x[:, None]))
    assert_allclose(density.sum() * (x[1] - x[0]), 1, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.* lie beyond the range")  # a grid of all that there may be
@pytest.mark.parametrize("n_components", [1, 2])
def test_density_of_two_features_integrates_to_one(n_components):
    generator = np.random.default_rng(0)
    z = generator.standard_normal(100)
    table = np.column_stack([z, z**2]) + 0.5 * generator.standard_normal((100, 2))
    model = quick(n_components=n_components, monotonic_cst=[1, 0], noise_floor=0.4).fit(table)
    drawn = model.sample(5000, random_state=0)
    axes = [np.linspace(low - 2, high + 2, 41) for low, high in zip(drawn.min(0), drawn.max(0), strict=True)]
    density = np.exp(model.score_samples(np.array(list(itertools.product(*axes)))))
    assert_allclose(density.sum() * (axes[0][1] - axes[0][0]) * (axes[1][1] - axes[1][0]), 1, atol=2e-3)


@pytest.mark.parametrize("way", WAYS)
def test_probabilities_of_all_binary_tables_add_up_to_one(way):
    n_features = 4 if "three" in way else 5
    binary = np.array(list(itertools.product([0.0, 1.0], repeat=n_features)))
    model = quick(likelihood="bernoulli", **WAYS[way]).fit(counts("bernoulli", n_features))
    total = np.exp(model.score_samples(binary)).sum()
    assert_allclose(total, 1, atol=1e-4 if model.n_components < 3 else 0.03)


@pytest.mark.slow(keep=5)
@pytest.mark.parametrize(("likelihood", "way"), CASES)
def test_bounds_are_in_order(likelihood, way):
    model, table = fitted(likelihood, way), table_for(likelihood)
    elbo = model.elbo(table)
    if way in EXACT:
        assert_agree(elbo, model.score(table))
    else:
        assert elbo <= model.score(table) + 0.02
    with torch.no_grad():
        cost = -float(model.module_.log_prior())
    assert cost > 0
    assert_allclose(model.lower_bound_, elbo - cost / len(table), rtol=0, atol=0.02)


@pytest.mark.parametrize(("likelihood", "way"), CASES)
def test_conditional_log_likelihood_is_taken_at_the_posterior_mean(likelihood, way):
    model, rows = fitted(likelihood, way), with_holes(table_for(likelihood)[:8])
    assert_allclose(model.conditional_log_likelihood(rows), log_likelihood_at_means(model, rows), rtol=1e-6)


@pytest.mark.parametrize(
    ("n_components", "inference", "amortized"),
    [(1, "auto", False), (2, "auto", False), (3, "auto", True), (2, "exact", False), (1, "amortized", True)],
)
def test_inference_is_exact_where_it_can_be(n_components, inference, amortized):
    model = quick(n_components=n_components, inference=inference, n_grid_points=33, max_epochs=2)
    model.fit(progression().data)
    assert model.module_.amortized is amortized
    assert model.transform(progression().data).shape == (80, n_components)


def test_exact_inference_of_three_components_is_refused():
    with pytest.raises(ValueError, match="n_components=3 needs inference='amortized'"):
        quick(n_components=3, inference="exact").fit(progression().data)
