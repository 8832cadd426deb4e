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
    joint_on_a_grid,
    model_of_many_modes,
    random_model,
    random_table,
    rows_of,
    source_of,
)
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from skdevae.inference.gaussian import GaussianApproximation
from skdevae.inference.importance import (
    ImportanceSampler,
    WeightedDraws,
    sampled_log_evidence,
    sampled_responsibilities,
)
from skdevae.nn.latent_grid import LatentGrid

DECODERS = ["neural", "additive"]
D = 5


def _evidence(model, table, n_draws=2048, start=0.0):
    start = torch.full((len(table), model.n_components), start, dtype=torch.float64)
    return ImportanceSampler(model, n_draws)(rows_of(table), start).log_evidence


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
    found = ImportanceSampler(model, n_draws)(rows_of(table), start, prior if encoded else None).log_evidence
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-8)


@pytest.mark.slow(keep=6)
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


def test_evidence_of_few_draws_is_a_lower_bound_on_average(monkeypatch):
    # On average over scramblings of the quasi-random points, and so is p(x) itself no more than it is.
    model, table = random_model("exact", "poisson"), random_table("poisson", n=20)
    expected = _quadrature(model, table)

    def differences(n_draws):
        found = []
        for seed in range(20):
            monkeypatch.setattr("skdevae.inference.importance.uniform_draws", scrambled(seed))
            found.append(_evidence(model, table, n_draws) - expected)
        return torch.stack(found)

    few, more = differences(8), differences(64)
    assert few.mean() < 0
    assert few.exp().mean() < 1
    assert -0.005 < more.mean() < 0.001
    assert more.square().mean() < 0.1 * few.square().mean()


def scrambled(seed):
    """Like ``uniform_draws``, with another scrambling."""

    def uniform_draws(n_draws, n_dimensions):
        return torch.quasirandom.SobolEngine(n_dimensions, scramble=True, seed=seed).draw(n_draws, dtype=torch.float64)

    return uniform_draws


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


def test_rows_that_take_different_numbers_of_draws_do_not_know_of_each_other():
    model = random_model("exact", "poisson", n_components=5)
    source = source_of(drawn_table(model, 12))
    together = sampled_log_evidence(model, source, None, 512)
    alone = torch.cat([sampled_log_evidence(model, source.take(np.array([row])), None, 512) for row in range(12)])
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
    monkeypatch.setattr("skdevae.table.source._CHUNK_ENTRIES", 7 * 128 * model.n_components)
    assert len(list(source.chunks(width=128 * model.n_components))) == 3
    assert_agree(sampled_log_evidence(model, source, mean, 64, sd), expected)


# ---- posteriors of several modes ------------------------------------------------------------------------------------


def _without_information(means, variances, weights):
    """A model of one component whose data say nothing, under a prior of given components."""
    model = random_model("mixture", hidden=(), n_components=1, n_mixture_components=len(means), spread=0.1)
    model.decoder.loadings.zero_()
    model.mixture.set_(*(torch.tensor(values, dtype=torch.float64) for values in (weights, means, variances)))
    return model


@pytest.mark.parametrize(
    ("means", "variances"),
    [
        ([[-4.0], [4.0]], [[0.25], [0.25]]),  # two hills far from each other
        ([[0.0], [0.0]], [[1e-4], [4.0]]),  # a hill on top of a much wider one
        ([[0.0], [30.0]], [[1.0], [1e-4]]),
    ],
)
@pytest.mark.parametrize("weight", [0.5, 0.05])
def test_evidence_is_that_of_all_of_the_prior(means, variances, weight):
    model = _without_information(means, variances, [weight, 1 - weight])
    rows, at_zero = rows_of(drawn_table(model, 5)), torch.zeros(5, 1, dtype=torch.float64)
    expected = model.predictive_log_prob(rows, at_zero)
    for start in (0.0, means[0][0], means[1][0]):
        found = ImportanceSampler(model, 512)(rows, at_zero + start)
        np.testing.assert_allclose(found.log_evidence, expected, atol=0.02)
        responsibilities = (found.shares[..., None] * model.latent_prior().responsibilities(found.z)).sum(0)
        np.testing.assert_allclose(responsibilities, [[weight, 1 - weight]] * 5, atol=0.02)


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
def test_evidence_and_responsibilities_are_integrals_where_posteriors_have_several_modes(likelihood):
    model = model_of_many_modes(likelihood)
    table = drawn_table(model, 60)
    joint, points = joint_on_a_grid(model, table)
    expected = joint.logsumexp(1)
    np.testing.assert_allclose(joint_on_a_grid(model, table, 101)[0].logsumexp(1), expected, atol=1e-4)
    difference = (sampled_log_evidence(model, source_of(table), None, 500) - expected).abs()
    assert difference.mean() < 0.01
    assert difference.max() < 0.1
    shares = torch.exp(joint - expected[:, None]) @ model.latent_prior().responsibilities(points)
    found = sampled_responsibilities(model, source_of(table), None, 500)
    np.testing.assert_allclose(found, shares, atol=0.025)
    assert (found - shares).square().mean().sqrt() < 0.006
    np.testing.assert_allclose(found.sum(1), 1)


@pytest.mark.parametrize("missing", [0.0, 0.5])
def test_responsibilities_of_a_linear_model_are_bayes_rule(missing):
    model = random_model("mixture", hidden=(), n_mixture_components=3)
    table = random_table("gaussian", missing=missing)
    table[2] = np.nan
    level, loadings, noise = gaussian_marginal(model)
    log_weights, means, log_sds = (part.numpy() for part in model.latent_prior())
    joint = np.tile(log_weights, (len(table), 1))
    for row, seen in enumerate(~np.isnan(table)):
        for k in range(3 if seen.any() else 0):
            center = level + loadings @ means[k]
            covariance = loadings @ np.diag(np.exp(2 * log_sds[k])) @ loadings.T + np.diag(noise)
            joint[row, k] += multivariate_normal.logpdf(table[row, seen], center[seen], covariance[np.ix_(seen, seen)])
    expected = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
    # whichever component the rows are said to belong to
    for context in ({}, {"component": np.arange(len(table)) % 3}):
        found = sampled_responsibilities(model, source_of(table, **context), None, 2048)
        np.testing.assert_allclose(found, expected, atol=5e-3)


# ---- how far draws can be trusted -----------------------------------------------------------------------------------


def test_effective_draws_are_those_that_err_as_much():
    z, known = torch.zeros(512, 3, 1), torch.zeros(512, 3, dtype=torch.float64)
    weights = torch.zeros(512, 3, dtype=torch.float64)
    weights[1:, 1] = -torch.inf  # one draw has all the weight
    weights[256:, 2] = -torch.inf  # half of the draws have it
    drawn = WeightedDraws(z, weights, known, torch.full((3,), 512.0).to(weights))
    torch.testing.assert_close(drawn.effective_share, torch.tensor([1, 1 / 512, 0.5], dtype=torch.float64))
    # weights that vary as they must under a Gaussian posterior leave nothing to chance
    torch.testing.assert_close(drawn._replace(log_known=weights).effective_share, torch.ones(3, dtype=torch.float64))


def test_few_effective_draws_are_warned_of(monkeypatch):
    model, table = random_model("exact", "poisson"), random_table("poisson", n=6)
    share = ImportanceSampler(model, 64)(rows_of(table)).effective_share
    poor = np.sort(share)[1].item()
    monkeypatch.setattr("skdevae.inference.importance._POOR_SHARE", poor + 1e-9)
    with pytest.warns(UserWarning, match=f"2 of 6 samples .the first is row {int((share <= poor).nonzero()[0])}.*"):
        sampled_log_evidence(model, source_of(table), None, 64)


def test_proposals_are_refitted_where_they_fit_badly(monkeypatch):
    model = model_of_many_modes("poisson")
    table = drawn_table(model, 60)
    expected = joint_on_a_grid(model, table)[0].logsumexp(1)
    again = ImportanceSampler(model, 500)(rows_of(table))
    monkeypatch.setattr("skdevae.inference.importance._REFITS", 0)
    once = ImportanceSampler(model, 500)(rows_of(table))
    assert (again.effective_share >= once.effective_share - 1e-9).all()
    worse = once.effective_share < 0.6
    assert worse.sum() > 10
    errors = [(drawn.log_evidence - expected)[worse].square().mean() for drawn in (again, once)]
    assert errors[0] < 0.2 * errors[1]


def test_few_draws_are_taken_for_an_evidence_where_they_are_enough():
    # a linear model has Gaussian posteriors, and one with a few hidden units none that a Gaussian is far from
    linear = random_model("exact", hidden=(), n_components=5)
    curved = random_model("exact", "nb", n_components=5, spread=0.3)
    table = random_table("gaussian")
    assert (ImportanceSampler(linear, 512, only_evidence=True)(rows_of(table)).n_draws == 128).all()
    assert (ImportanceSampler(linear, 512)(rows_of(table)).n_draws == 512).all()
    table = drawn_table(curved, 60)
    expected = _evidence(curved, table, 2**14)
    few = ImportanceSampler(curved, 512, only_evidence=True)(rows_of(table))
    all_of_them = ImportanceSampler(curved, 512)(rows_of(table))
    assert few.n_draws.mean() < 300
    errors = [(drawn.log_evidence - expected).square().mean().sqrt() for drawn in (few, all_of_them)]
    assert errors[0] < 0.006
    assert errors[1] < 0.006


def test_an_evidence_from_few_draws_is_unbiased(monkeypatch):
    # how many are taken depends on the draws themselves, so this is no matter of course
    model = random_model("exact", "nb", n_components=5, spread=0.5)
    table = drawn_table(model, 40)
    expected, found = _evidence(model, table, 2**14), []
    for seed in range(10):
        monkeypatch.setattr("skdevae.inference.importance.uniform_draws", scrambled(seed))
        found.append(sampled_log_evidence(model, source_of(table), None, 256) - expected)
    differences = torch.stack(found)
    assert differences.square().mean().sqrt() < 0.02
    assert abs(differences.exp().mean() - 1) < 0.002


def test_draws_that_a_row_has_not_taken_count_for_nothing():
    model = random_model("exact", "poisson", n_components=5)
    table = drawn_table(model, 30)
    drawn = ImportanceSampler(model, 512, only_evidence=True)(rows_of(table))
    assert len(drawn.n_draws.unique()) > 1
    for row, n in enumerate(drawn.n_draws.long()):
        taken = drawn.log_weights[:, row].isfinite()
        assert taken.sum() == n
        alone = WeightedDraws(*(field[taken][:, row : row + 1] for field in drawn[:3]), drawn.n_draws[row : row + 1])
        assert_agree(alone.log_evidence, drawn.log_evidence[row : row + 1])
        assert_agree(alone.effective_share, drawn.effective_share[row : row + 1])
        assert_agree(drawn.shares[~taken, row], torch.zeros(int((~taken).sum())))
