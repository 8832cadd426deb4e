"""Permutation tests along an axis: their statistic, the permutations, and what these are worth."""

from itertools import permutations

import numpy as np
import pytest
from agreement import assert_agree
from scipy.stats import kstest, norm

from skdevae.inspection import _permutation
from skdevae.inspection._permutation import (
    Conditions,
    CurveTest,
    Places,
    bin_shares,
    permutation_test,
    smooth_effects,
    strata,
)
from skdevae.nn.smooth_curves import LENGTHS, SHARES


def conditions(n, n_covariates=0, unequal=False, n_strata=1, seed=0):
    random = np.random.default_rng(seed)
    size, weight = random.uniform(0.3, 3, (2, n)) if unequal else np.ones((2, n))
    return Conditions(random.normal(size=(n, n_covariates)), size, weight, random.integers(n_strata, size=n))


def places(n, seed=0, sd=0.4):
    return Places(np.random.default_rng(seed).normal(size=n), np.full(n, sd))


@pytest.mark.parametrize("n_covariates, unequal", [(0, False), (2, True)])
def test_evidence_is_the_restricted_likelihood_of_gaussian_processes(n_covariates, unequal):
    """By covariance matrices of all rows, for every node of the prior."""
    n = 25
    here, values = conditions(n, n_covariates, unequal), np.random.default_rng(5).normal(size=(n, 2))
    shares = bin_shares(places(n), here.weight)
    test = CurveTest(shares, here)
    residuals = test.residuals(values)
    found = test.evidence(residuals, np.arange(n)[None])[0]

    scale = np.sqrt(here.size * here.weight)
    level = scale[:, None] * np.column_stack([np.ones(n), here.design])
    y = np.sqrt(here.weight)[:, None] * residuals
    centring = np.eye(n) - level @ np.linalg.pinv(level)
    middles = norm.ppf((np.arange(20) + 0.5) / 20)

    def restricted(covariance):
        inverse = np.linalg.inv(covariance)
        information = level.T @ inverse @ level
        projection = inverse - inverse @ level @ np.linalg.solve(information, level.T @ inverse)
        squares = np.einsum("nd,nm,md->d", y, projection, y)
        determinants = np.linalg.slogdet(covariance)[1] + np.linalg.slogdet(information)[1]
        return -0.5 * determinants - 0.5 * (n - level.shape[1]) * np.log(squares)

    expected = np.full(2, -np.inf)
    edges = np.concatenate([[0], (np.array(SHARES)[1:] + np.array(SHARES)[:-1]) / 2, [1]])
    for length in LENGTHS:
        kernel = np.exp(-0.5 * (np.subtract.outer(middles, middles) / length) ** 2)
        curves = scale[:, None] * shares @ kernel @ shares.T * scale
        variance = np.trace(centring @ curves @ centring) / (n - level.shape[1])
        for share, prior in zip(SHARES, np.diff(edges) / len(LENGTHS), strict=True):
            evidence = restricted(np.eye(n) + share / (1 - share) / variance * curves) - restricted(np.eye(n))
            expected = np.logaddexp(expected, np.log(prior) + evidence)
    assert_agree(found, expected)


def test_orders_give_residuals_to_other_rows():
    n, random = 30, np.random.default_rng(1)
    here = conditions(n, 2, unequal=True)
    test = CurveTest(bin_shares(places(n), here.weight), here)
    residuals = test.residuals(random.normal(size=(n, 3)))
    order = random.permutation(n)
    given = np.empty_like(residuals)
    given[order] = residuals
    assert_agree(test.evidence(residuals, order[None]), test.evidence(given, np.arange(n)[None]))


def test_p_values_are_those_of_all_permutations():
    n, random = 6, np.random.default_rng(2)
    values, here = np.column_stack([np.arange(n) + random.normal(size=n), random.normal(size=n)]), conditions(n)
    where = Places(np.arange(n, dtype=float), np.full(n, 0.3))
    test = CurveTest(bin_shares(where, here.weight), here)
    every = test.evidence(test.residuals(values), np.array(list(permutations(range(n)))))
    exact = (every >= every[0] - 1e-9).mean(0)
    found = permutation_test(values, where, here, 4000, seed=0).p_value
    np.testing.assert_allclose(found, exact, atol=4 * 0.5 / np.sqrt(4000))


def test_p_values_of_noise_are_uniform():
    """For features of any distribution, with missing entries, covariates, and positions of unequal certainty."""
    n, random, found = 40, np.random.default_rng(3), []
    draws = (random.normal, random.standard_cauchy, random.exponential, lambda size: random.poisson(0.5, size) * 1.0)
    for seed in range(6):
        values = np.hstack([draw(size=(n, 25)) for draw in draws])
        values[:, ::5][random.random((n, 20)) < 0.2] = np.nan
        where = Places(random.normal(size=n), random.uniform(0.1, 1, n))
        here = conditions(n, seed=seed, n_strata=2)
        here.design.resize((n, 0))
        found.append(permutation_test(values, where, here, 99, seed).p_value)
    p_values = np.concatenate(found)
    assert kstest(p_values - random.uniform(0, 0.01, len(p_values)), "uniform").pvalue > 0.01


def test_what_numbers_explain_is_no_change_along_the_axis():
    """Features that follow a number in any smooth way, on an axis that this number makes."""
    n, random = 150, np.random.default_rng(5)
    number = random.normal(size=(n, 1))
    values = np.hstack([number**2, np.exp(number), np.tanh(2 * number)] * 30) + random.normal(size=(n, 90))
    where, unit = Places(number[:, 0] + 0.7 * random.normal(size=n), np.full(n, 0.3)), np.ones(n)
    none = np.empty((n, 0))
    alone = permutation_test(values, where, Conditions(none, unit, unit, strata(none, none)), 99, 0)
    given = Conditions(smooth_effects(number[:, 0]), unit, unit, strata(none, number))
    assert (alone.p_value <= 0.02).all()
    assert kstest(permutation_test(values, where, given, 99, 0).p_value, "uniform").pvalue > 0.01


@pytest.mark.parametrize("dispersion", [np.inf, 1.0])
def test_sizes_explain_counts(dispersion):
    """Counts of samples whose sizes decide where they lie; their noise grows with sizes in a way of its own."""
    n, random = 150, np.random.default_rng(6)
    log_size = 0.8 * random.normal(size=(n, 1))
    rates = 3 * np.exp(log_size) * np.ones((n, 100))
    if np.isfinite(dispersion):
        rates = rates * random.gamma(dispersion, 1 / dispersion, size=rates.shape)
    counts = random.poisson(rates).astype(float)
    where, unit, none = (
        Places(log_size[:, 0] + 0.5 * random.normal(size=n), np.full(n, 0.3)),
        np.ones(n),
        np.empty((n, 0)),
    )
    given = Conditions(none, np.exp(log_size[:, 0]), unit, strata(none, log_size))
    assert kstest(permutation_test(counts, where, given, 99, 0).p_value, "uniform").pvalue > 0.01
    residuals = CurveTest(bin_shares(where, unit), given).residuals(counts)
    large = log_size[:, 0] > 0
    np.testing.assert_allclose((residuals[large] ** 2).mean(), (residuals[~large] ** 2).mean(), rtol=0.1)


def test_smooth_effects_of_numbers_with_few_values():
    assert smooth_effects(np.full(20, 3.0)).shape == (20, 0)
    stage = np.repeat([0.0, 1.0, 4.0], 10)
    assert np.linalg.matrix_rank(smooth_effects(stage)) == 3


@pytest.mark.parametrize("shape", [np.tanh, lambda z: np.exp(-2 * z**2), np.sin])
def test_signals_are_found_and_measured(shape):
    n, random = 300, np.random.default_rng(4)
    z = random.normal(size=n)
    signal = (shape(z) - shape(z).mean()) / shape(z).std()
    found = permutation_test((signal + random.normal(size=n))[:, None], Places(z, 0 * z), conditions(n), 199, seed=0)
    assert found.p_value == 1 / 200
    assert found.statistic > 20
    assert abs(found.effect_size - 0.5) < 0.12


def test_rows_are_exchanged_within_strata(monkeypatch):
    stratum, rows = np.random.default_rng(0).integers(3, size=50), np.arange(5, 45)
    orders = np.concatenate(list(_permutation._orders(stratum, rows, 40, 0, 3)))
    assert orders.shape == (40, 40)
    assert (np.sort(orders, axis=1) == np.arange(40)).all()
    assert (stratum[rows][orders] == stratum[rows]).all()
    assert len(np.unique(orders, axis=0)) == 40
    monkeypatch.setattr(_permutation, "_BLOCK_ENTRIES", 1)
    np.testing.assert_array_equal(orders, np.concatenate(list(_permutation._orders(stratum, rows, 40, 0, 3))))


def test_strata_are_levels_and_similar_numbers():
    random = np.random.default_rng(0)
    levels, age = random.integers(2, size=(200, 1)).astype(float), random.normal(size=(200, 1))
    assert len(np.unique(strata(np.empty((200, 0)), np.empty((200, 0))))) == 1
    np.testing.assert_array_equal(strata(levels, np.empty((200, 0))), levels[:, 0])
    groups = strata(levels, age)
    for group in np.unique(groups):
        assert len(np.unique(levels[groups == group])) == 1
        others = (levels[:, 0] == levels[groups == group][0, 0]) & (groups != group)
        low, high = age[groups == group].min(), age[groups == group].max()
        assert not ((age[others] > low) & (age[others] < high)).any()
    assert np.bincount(groups).mean() >= 20
    np.testing.assert_array_equal(groups, strata(levels, np.exp(age)))


@pytest.mark.parametrize("sd", [0.0, 0.5])
def test_bins_hold_equal_masses(sd):
    random = np.random.default_rng(0)
    weight, mean = random.uniform(0.2, 2, 400), random.normal(size=400)
    shares = bin_shares(Places(mean, np.full(400, sd)), weight)
    assert_agree(shares.sum(1), np.ones(400))
    np.testing.assert_allclose(weight @ shares / weight.sum(), np.full(20, 1 / 20), atol=1e-3)


def test_exact_positions_count_by_their_order_and_are_the_limit_of_sure_ones():
    z = np.random.default_rng(0).permutation(100) / 10
    exact = bin_shares(Places(z, 0 * z), np.ones(100))
    assert_agree(exact, bin_shares(Places(np.exp(z), 0 * z), np.ones(100)))
    np.testing.assert_allclose(exact, bin_shares(Places(z, np.full(100, 1e-6)), np.ones(100)), atol=1e-6)


def test_positions_may_be_exact_for_some_rows():
    random = np.random.default_rng(0)
    mean, sd = random.normal(size=200), np.where(np.arange(200) % 2, 0.0, 0.5)
    shares = bin_shares(Places(mean, sd), np.ones(200))
    assert_agree(shares.sum(1), np.ones(200))
    np.testing.assert_allclose(shares[sd == 0].max(1), 1, atol=1e-6)
    assert np.median(shares[sd > 0].max(1)) < 0.3


def test_stages_share_their_part_of_the_axis():
    stage = np.repeat([0.0, 1.0, 2.0], [50, 20, 30])
    shares = bin_shares(Places(stage, 0 * stage), np.ones(100))
    assert_agree(shares[0], np.r_[np.full(10, 0.1), np.zeros(10)])
    assert_agree(shares[-1], np.r_[np.zeros(14), np.full(6, 1 / 6)])


def test_missing_entries_and_rows_without_weight_are_as_if_absent():
    n, random = 60, np.random.default_rng(6)
    values, where, here = random.normal(size=(n, 2)), places(n), conditions(n)
    gone = np.arange(n) % 3 == 0
    values[gone, 1] = np.nan
    found = permutation_test(values, where, here, 9, 0)
    kept = np.nonzero(~gone)[0]
    alone = permutation_test(values[kept], Places(where.mean[kept], where.sd[kept]), here.take(kept), 9, 0)
    assert_agree(found.statistic[1], alone.statistic[1])
    assert_agree(found.effect_size[1], alone.effect_size[1])
    weighted = Conditions(here.design, here.size, np.where(gone, 0.0, 1.0), here.stratum)
    assert_agree(permutation_test(values, where, weighted, 9, 0).statistic, alone.statistic)


def test_features_do_not_matter_to_each_other():
    values, where, here = np.random.default_rng(7).normal(size=(50, 4)), places(50), conditions(50, 1, True, 2)
    together = permutation_test(values, where, here, 49, 0)
    for column in range(4):
        alone = permutation_test(values[:, [column]], where, here, 49, 0)
        assert_agree([part[0] for part in alone], [part[column] for part in together])


def test_features_that_do_not_vary_have_no_test():
    random = np.random.default_rng(8)
    level = random.integers(2, size=(40, 1)).astype(float)
    here = Conditions(level, np.ones(40), np.ones(40), level[:, 0].astype(int))
    values = np.column_stack([np.full(40, 1e6), 3 + 2 * level, np.full(40, np.nan), random.normal(size=40)])
    found = permutation_test(values, places(40), here, 9, 0)
    assert (np.isnan(found) == [True, True, True, False]).all()
