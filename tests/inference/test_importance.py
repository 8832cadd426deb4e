"""Importance sampling: exact where the posterior is Gaussian, close where it is not, the same for every batch."""

import math

import numpy as np
import pytest
import torch
from agreement import assert_agree
from inference.random_models import (
    FLOAT64,
    LIKELIHOODS,
    drawn_table,
    gaussian_marginal,
    random_model,
    random_table,
    rows_of,
    source_of,
)
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from skdevae.inference.draws import normal_draws
from skdevae.inference.gaussian import GaussianApproximation
from skdevae.inference.importance import importance_log_evidence, sampled_log_evidence
from skdevae.nn.latent_grid import LatentGrid

DECODERS = ["neural", "additive"]
D = 5


def _evidence(model, table, n_draws=2048, start=0.0):
    start = torch.full((len(table), model.n_components), start, dtype=torch.float64)
    return importance_log_evidence(model, rows_of(table), start, normal_draws(n_draws, model.n_components))


def _quadrature(model, table):
    """log p(x) by a sum over a fine grid."""
    rows, grid = rows_of(table), LatentGrid.standard_normal(113, 7.0, model.n_components)
    joint = model.likelihood.pair_log_prob(rows, model.predictive_curves(grid.points), grid.points) + grid.log_mass
    return (joint + model.likelihood.row_constant(rows)[:, None]).logsumexp(1)


@pytest.mark.parametrize("missing", [0.0, 0.4])
@pytest.mark.parametrize("n_components", [1, 2, 3])
@pytest.mark.parametrize("n_draws", [8, 512])
@pytest.mark.parametrize("encoded", [False, True])
def test_a_linear_models_evidence_is_the_gaussian_density(n_draws, n_components, missing, encoded):
    # every weight is the evidence times the share of the exact proposal: few draws are enough
    model = random_model("exact", hidden=(), n_components=n_components)
    table = random_table("gaussian", missing=missing)
    level, loadings, noise = gaussian_marginal(model)
    covariance = loadings @ loadings.T + np.diag(noise)
    expected = [
        multivariate_normal.logpdf(row[seen], level[seen], covariance[np.ix_(seen, seen)])
        for row, seen in zip(table, ~np.isnan(table), strict=True)
    ]
    start = torch.zeros(len(table), n_components, dtype=torch.float64)
    prior = GaussianApproximation(start, torch.eye(n_components, dtype=torch.float64).expand(len(table), -1, -1))
    draws = normal_draws(n_draws, n_components)
    found = importance_log_evidence(model, rows_of(table), start, draws, prior if encoded else None)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-8)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("n_components", [1, 2])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_evidence_is_the_integral_over_the_latent(likelihood, n_components, decoder):
    # But for a few rows, whose posterior has a second mode that no draw from around the first one finds.
    model = random_model("exact", likelihood, decoder=decoder, n_components=n_components, spread=0.4)
    table = drawn_table(model, 20, missing=0.2)
    difference = (_evidence(model, table, 4096) - _quadrature(model, table)).abs()
    assert difference.median() < 2e-3
    assert difference.quantile(0.8) < 0.02


def test_evidence_of_few_draws_is_a_lower_bound_on_average():
    model, table = random_model("exact", "poisson"), random_table("poisson", n=100)
    difference = _evidence(model, table, 2) - _quadrature(model, table)
    assert difference.mean() < 0
    more = _evidence(model, table, 64) - _quadrature(model, table)
    assert more.mean().abs() < difference.mean().abs()


def test_evidence_is_that_of_every_table_together():
    # all 2^5 rows of zeros and ones: their probabilities add up to one
    table = np.array([[(i >> column) & 1 for column in range(D)] for i in range(2**D)], dtype=float)
    for n_components in (1, 2, 3):
        evidence = _evidence(random_model("exact", "bernoulli", n_components=n_components), table, 4096).numpy()
        assert math.exp(logsumexp(evidence)) == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_row_without_entries_has_evidence_one(likelihood):
    table = np.full((2, D), np.nan)
    np.testing.assert_allclose(_evidence(random_model("exact", likelihood), table, 8).numpy(), 0, atol=1e-12)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_evidence_hardly_depends_on_where_the_mode_is_looked_for(likelihood):
    model, table = random_model("exact", likelihood, hidden=()), random_table(likelihood)
    torch.testing.assert_close(_evidence(model, table, start=1.5), _evidence(model, table), atol=1e-3, rtol=0)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_rows_do_not_know_of_each_other(likelihood):
    model, table = random_model("exact", likelihood), random_table(likelihood, n=6, missing=0.1)
    together = _evidence(model, table, 64)
    alone = torch.cat([_evidence(model, table[i : i + 1], 64) for i in range(len(table))])
    assert_agree(alone, together)


def test_how_many_draws_are_taken_at_once_does_not_matter(monkeypatch):
    model, table = random_model("exact", "nb"), random_table("nb")
    expected = _evidence(model, table, 128)
    monkeypatch.setattr("skdevae.inference.importance._DRAWN_ENTRIES", 3 * table.size)
    assert_agree(_evidence(model, table, 128), expected)


# ---- tables ---------------------------------------------------------------------------------------------------------


def test_numbers_of_draws_are_rounded_up_to_powers_of_two():
    model, table = random_model("exact", "nb"), random_table("nb", 3)
    mean = torch.zeros(len(table), 2, dtype=torch.float64)
    values = {n: sampled_log_evidence(model, source_of(table), mean, n, 1 + mean) for n in (1, 4, 5, 8, 400, 512)}
    assert all(value.isfinite().all() for value in values.values())
    for few, many in ((1, 4), (5, 8), (400, 512)):
        assert torch.equal(values[few], values[many])
    assert not torch.equal(values[4], values[8])


@pytest.mark.parametrize("with_sd", [False, True])
def test_tables_are_sampled_chunk_by_chunk(with_sd, monkeypatch):
    model, sizes = random_model("exact", "nb"), np.random.default_rng(0).normal(size=20)
    source = source_of(random_table("nb", 20, missing=0.1), log_size=sizes)
    mean = 0.1 * torch.ones(20, 2).to(FLOAT64)
    sd = torch.linspace(0.5, 2, 40).view(20, 2).to(FLOAT64) if with_sd else None
    expected = sampled_log_evidence(model, source, mean, 64, sd)
    monkeypatch.setattr("skdevae.table.source._CHUNK_ENTRIES", 7 * model.entries_per_point * model.n_components)
    assert len(list(source.chunks(width=model.entries_per_point * model.n_components))) == 3
    assert_agree(sampled_log_evidence(model, source, mean, 64, sd), expected)


def test_a_second_mode_is_seen_where_the_encoder_reaches_it():
    # the data tell nothing, and the prior has two bumps far from each other
    model = random_model("mixture", hidden=(), n_components=1, n_mixture_components=2, spread=0.1)
    model.decoder.loadings.zero_()
    halves, means = torch.full((2,), 0.5, dtype=torch.float64), torch.tensor([[-4.0], [4.0]], dtype=torch.float64)
    model.mixture.set_(halves, means, torch.full((2, 1), 0.25, dtype=torch.float64))
    rows, at_zero, draws = rows_of(drawn_table(model, 5)), torch.zeros(5, 1, dtype=torch.float64), normal_draws(512, 1)
    expected = model.predictive_log_prob(rows, at_zero)
    # from the mode on the right alone half of the mass is missed
    one_sided = importance_log_evidence(model, rows, at_zero + 4, draws)
    np.testing.assert_allclose(one_sided, expected - math.log(2), atol=0.05)
    broad = GaussianApproximation(at_zero, torch.full((5, 1, 1), 4.0, dtype=torch.float64))
    np.testing.assert_allclose(importance_log_evidence(model, rows, at_zero + 4, draws, broad), expected, atol=0.05)
