"""BasisDeVAEClusterer from outside: what mathematics, scikit-learn and the documentation promise its users."""

import itertools
import random
import warnings
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import cache

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import simpson
from scipy.special import expit, logsumexp
from scipy.stats import bernoulli, nbinom, norm, poisson
from sklearn.base import clone
from sklearn.decomposition import FactorAnalysis
from sklearn.exceptions import NotFittedError
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdevae import BasisDeVAEClusterer
from skdevae.datasets import make_progression, make_progression_counts

COUNT_LIKELIHOODS = ("poisson", "nb", "zinb", "bernoulli")
LIKELIHOODS = ("gaussian", *COUNT_LIKELIHOODS)
INFERENCES = ("exact", "amortized")


def quick(**parameters):
    """An estimator for laws that hold however long it trains."""
    return BasisDeVAEClusterer(**{"max_epochs": 20, "random_state": 0, **parameters})


@cache
def progression(n_samples=150, n_transient=6, n_increasing=4, n_decreasing=4, seed=0):
    return make_progression(
        n_samples, n_transient=n_transient, n_increasing=n_increasing, n_decreasing=n_decreasing, random_state=seed
    )


@cache
def papers_progression():
    return make_progression(random_state=0)


@cache
def progression_counts(n_features=20):
    return make_progression_counts(150, n_features, density=0.5, random_state=0)


def counts(likelihood="nb", n_features=20):
    table = progression_counts(n_features).data.toarray().astype(np.float64)
    return np.minimum(table, 1) if likelihood == "bernoulli" else table


def table_for(likelihood):
    return progression().data if likelihood == "gaussian" else counts(likelihood)


def hidden_times(likelihood):
    return progression().times if likelihood == "gaussian" else progression_counts().times


@cache
def fitted(likelihood="gaussian", inference="exact"):
    """Shared between tests, which must not change it."""
    return quick(likelihood=likelihood, inference=inference).fit(table_for(likelihood))


@cache
def fitted_well(inference="exact"):
    return BasisDeVAEClusterer(inference=inference, random_state=0).fit(progression().data)


@cache
def fitted_to_the_papers_simulation(seed=0):
    return BasisDeVAEClusterer(random_state=seed).fit(papers_progression().data)


def with_holes(table, share=0.2, seed=0):
    holes = np.random.default_rng(seed).random(table.shape) < share
    return np.where(holes, np.nan, table)


def probability_of_dropout(model, z):
    level, slope = model.module_.likelihood.dropout.numpy().astype(np.float64)
    return expit(level + slope * z[:, None])


def log_density(model, likelihood, table, z):
    """log p(x_ij | z_g) of every entry by scipy, (N, G, D), from what the model says in public; missing entries: 0."""
    curves, x = model.trajectories(z), np.nan_to_num(table)[:, None]
    match likelihood:
        case "gaussian":
            entries = norm.logpdf(x, curves, model.noise_scale_)
        case "poisson":
            entries = poisson.logpmf(x, curves)
        case "bernoulli":
            entries = bernoulli.logpmf(x, curves)
        case "nb":
            entries = nbinom.logpmf(x, model.dispersion_, model.dispersion_ / (model.dispersion_ + curves))
        case "zinb":
            dropped = probability_of_dropout(model, z)
            mean = curves / (1 - dropped)
            kept = np.log1p(-dropped) + nbinom.logpmf(
                x, model.dispersion_, model.dispersion_ / (model.dispersion_ + mean)
            )
            entries = np.where(x == 0, np.logaddexp(np.log(dropped), kept), kept)
    return np.where(np.isnan(table)[:, None], 0, entries)


def quadrature(model, likelihood, table):
    """log of the integral of p(x | z) p(z) of every row, by brute force."""
    z = np.linspace(-8, 8, 4001)
    joint = log_density(model, likelihood, table, z).sum(2) + norm.logpdf(z)
    highest = joint.max(1)
    return highest + np.log(simpson(np.exp(joint - highest[:, None]), x=z))


# ---- what it is for ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_the_papers_simulation_is_recovered(seed):
    truth, model = papers_progression(), fitted_to_the_papers_simulation(seed)
    assert adjusted_rand_score(truth.labels, model.labels_) == 1
    assert abs(np.corrcoef(model.transform(truth.data)[:, 0], truth.times)[0, 1]) > 0.95


def test_an_encoder_recovers_the_papers_simulation():
    truth = papers_progression()
    model = BasisDeVAEClusterer(inference="amortized", max_epochs=60, random_state=0).fit(truth.data)
    assert adjusted_rand_score(truth.labels, model.labels_) >= 0.9


@pytest.mark.parametrize(
    ("assignment", "integrator"), [("noncollapsed", "grid"), ("fixed", "grid"), ("collapsed", "gauss-legendre")]
)
def test_every_assignment_and_integrator_recovers_the_truth(assignment, integrator):
    truth = papers_progression()
    model = BasisDeVAEClusterer(assignment=assignment, integrator=integrator, random_state=0).fit(truth.data)
    assert adjusted_rand_score(truth.labels, model.labels_) >= 0.9


def test_the_truth_is_recovered_from_sparse_counts():
    truth = make_progression_counts(300, 60, density=0.5, random_state=0)
    model = BasisDeVAEClusterer(likelihood="nb", random_state=0).fit(truth.data)
    assert adjusted_rand_score(truth.labels, model.labels_) >= 0.9
    assert abs(np.corrcoef(model.transform(truth.data)[:, 0], truth.times)[0, 1]) > 0.95


@pytest.mark.parametrize("inference", INFERENCES)
def test_held_out_rows_confirm_the_labels(inference):
    truth = papers_progression()
    model = BasisDeVAEClusterer(inference=inference, max_epochs=60, random_state=0).fit(truth.data[::2])
    agreement = adjusted_rand_score(model.labels_, model.predict(truth.data[1::2]))
    assert agreement >= 0.9


def test_seeds_agree_on_well_separated_data():
    table = papers_progression().data
    one, other = (fitted_to_the_papers_simulation(seed) for seed in (0, 1))
    assert_array_equal(one.labels_, other.labels_)
    assert np.corrcoef(one.transform(table)[:, 0], other.transform(table)[:, 0])[0, 1] > 0.999
    assert_allclose(one.score(table), other.score(table), atol=0.1)


# ---- the mathematics of the score -----------------------------------------------------------------------------------


@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_score_is_the_integral_over_the_latent(likelihood, inference):
    model, rows = fitted(likelihood, inference), table_for(likelihood)[:12]
    assert_allclose(model.score_samples(rows), quadrature(model, likelihood, rows), rtol=0, atol=1e-4)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_missing_entries_are_integrated_out(likelihood):
    model, rows = fitted(likelihood), with_holes(table_for(likelihood)[:12])
    assert_allclose(model.score_samples(rows), quadrature(model, likelihood, rows), rtol=0, atol=1e-4)


def test_a_narrow_posterior_is_integrated_as_exactly_as_a_wide_one():
    # 300 features: posterior sds far below the spacing of the grid that the fit used
    table = make_progression(60, n_transient=0, n_increasing=150, n_decreasing=150, random_state=0).data
    model = quick(behaviors=("increasing", "decreasing")).fit(table)
    assert model.posterior(table).sd.max() < 0.05
    for row, mean in zip(table[:5], model.transform(table[:5])[:, 0], strict=True):
        z = np.linspace(mean - 1, mean + 1, 4001)
        joint = log_density(model, "gaussian", row[None], z)[0].sum(1) + norm.logpdf(z)
        by_hand = logsumexp(joint) + np.log(z[1] - z[0])
        assert_allclose(model.score_samples(row[None]), by_hand, rtol=0, atol=1e-4)


def test_score_is_a_normalised_density():
    # every table of five zeros and ones
    binary = np.array(list(itertools.product([0.0, 1.0], repeat=5)))
    model = quick(likelihood="bernoulli").fit(counts("bernoulli", n_features=5))
    assert_allclose(np.exp(model.score_samples(binary)).sum(), 1, atol=1e-4)

    x = np.linspace(-8, 8, 4001)[:, None]
    model = quick(behaviors="increasing").fit(np.random.default_rng(0).standard_normal((100, 1)))
    assert_allclose(simpson(np.exp(model.score_samples(x)), x=x[:, 0]), 1, atol=1e-4)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_linear_model_scores_as_factor_analysis_does(seed):
    # Without hidden units a free curve is quadratic, and a strong prior on the quadratic part leaves a line.
    generator = np.random.default_rng(seed)
    n, d = 1000, 8
    latent, loadings, noise = generator.standard_normal(n), generator.standard_normal(d), generator.uniform(0.3, 1, d)
    table = generator.normal(size=d) + np.outer(latent, loadings) + noise * generator.standard_normal((n, d))
    model = BasisDeVAEClusterer(
        behaviors="free", hidden_layer_sizes=(), weight_decay=1e5, tol=1e-5, random_state=0
    ).fit(table)
    reference = FactorAnalysis(1, tol=1e-8, max_iter=5000).fit(table)
    assert_allclose(model.score(table), reference.score(table), rtol=0, atol=2e-3)
    assert_allclose(model.noise_scale_, np.sqrt(reference.noise_variance_), rtol=0.05)
    slopes = np.diff(model.trajectories([-0.5, 0.5]), axis=0)[0]
    assert abs(np.corrcoef(slopes, reference.components_[0])[0, 1]) > 0.9999


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_an_encoders_elbo_is_below_the_score(likelihood):
    model, table = fitted(likelihood, "amortized"), table_for(likelihood)
    # the elbo averages over q(w), the score takes the most probable behaviour: not a bound to the last digit
    assert model.elbo(table) <= model.score(table) + 1e-2


def test_the_optimal_elbo_is_the_score_where_clusters_are_certain():
    table = progression().data
    model = quick(behaviors="free").fit(table)
    assert_allclose(model.elbo(table), model.score(table), rtol=1e-10)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("inference", INFERENCES)
def test_lower_bound_is_the_elbo_less_what_the_model_costs(inference, likelihood):
    model, table = fitted(likelihood, inference), table_for(likelihood)
    with torch.no_grad():
        cost = float(model.module_.assignment.divergence() - model.module_.log_prior())
    assert cost > 0
    assert_allclose(model.lower_bound_, model.elbo(table) - cost / len(table), rtol=0, atol=5e-3)


@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_conditional_log_likelihood_is_taken_at_the_posterior_mean(likelihood, inference):
    model, rows = fitted(likelihood, inference), with_holes(table_for(likelihood)[:12])
    at_mean = [
        log_density(model, likelihood, row[None], z)[0, 0].sum()
        for row, z in zip(rows, model.transform(rows), strict=True)
    ]
    assert_allclose(model.conditional_log_likelihood(rows), np.mean(at_mean), rtol=1e-6)


def test_score_is_the_mean_of_score_samples():
    model, table = fitted(), progression().data
    scores = model.score_samples(table)
    assert scores.shape == (len(table),)
    assert model.score(table) == scores.mean()


# ---- units, orders, batches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("inference", INFERENCES)
def test_units_do_not_matter(inference):
    table = with_holes(progression().data, share=0.05)
    generator = np.random.default_rng(0)
    factor = 10 ** generator.uniform(-4, 4, table.shape[1])
    shift = generator.normal(0, 100, table.shape[1]) * factor
    ours = quick(inference=inference).fit(table)
    theirs = quick(inference=inference).fit(factor * table + shift)
    assert_array_equal(theirs.labels_, ours.labels_)
    assert_allclose(theirs.transform(factor * table + shift), ours.transform(table), atol=1e-4)
    in_other_units = ours.score_samples(table) - ~np.isnan(table) @ np.log(factor)
    assert_allclose(theirs.score_samples(factor * table + shift), in_other_units, rtol=0, atol=1e-3)
    assert_allclose(theirs.noise_scale_, factor * ours.noise_scale_, rtol=1e-4)
    points = [-1.0, 0.0, 2.0]
    assert_allclose((theirs.trajectories(points) - shift) / factor, ours.trajectories(points), atol=1e-3)
    log_units = (~np.isnan(table) @ np.log(factor)).mean()
    assert_allclose(theirs.lower_bound_, ours.lower_bound_ - log_units, rtol=0, atol=1e-3)


def test_a_negative_factor_turns_behaviours_upside_down():
    table = papers_progression().data
    sign = np.where(np.arange(table.shape[1]) % 2, -1.0, 1.0)
    behaviors = ("increasing", "decreasing", "transient", "dip")
    ours = BasisDeVAEClusterer(behaviors=behaviors, random_state=0).fit(table)
    theirs = BasisDeVAEClusterer(behaviors=behaviors, random_state=0).fit(sign * table)
    same_axis = np.corrcoef(ours.transform(table)[:, 0], theirs.transform(sign * table)[:, 0])[0, 1]
    assert abs(same_axis) > 0.999
    upside_down = np.array([1, 0, 3, 2]) if same_axis > 0 else np.array([0, 1, 3, 2])
    same_way_up = np.array([0, 1, 2, 3]) if same_axis > 0 else np.array([1, 0, 2, 3])
    expected = np.where(sign < 0, upside_down[ours.labels_], same_way_up[ours.labels_])
    assert adjusted_rand_score(expected, theirs.labels_) >= 0.9
    assert np.mean(expected == theirs.labels_) >= 0.95


def test_permuted_columns_have_permuted_labels():
    # up to the starting weights, which are drawn column by column
    table = papers_progression().data
    order = np.random.default_rng(0).permutation(table.shape[1])
    ours = fitted_to_the_papers_simulation()
    theirs = BasisDeVAEClusterer(random_state=0).fit(table[:, order])
    assert_array_equal(theirs.labels_, ours.labels_[order])
    assert_allclose(theirs.score(table[:, order]), ours.score(table), atol=0.1)
    assert_allclose(theirs.noise_scale_, ours.noise_scale_[order], rtol=0.1)


@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_permuted_rows_are_the_same_model(likelihood):
    table = table_for(likelihood)
    order = np.random.default_rng(0).permutation(len(table))
    ours, theirs = fitted(likelihood), quick(likelihood=likelihood).fit(table[order])
    assert_array_equal(theirs.labels_, ours.labels_)
    assert_allclose(theirs.transform(table), ours.transform(table), atol=1e-2)
    assert_allclose(theirs.score(table), ours.score(table), atol=1e-3)


@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_rows_are_judged_one_by_one(likelihood, inference):
    model, table = fitted(likelihood, inference), with_holes(table_for(likelihood)[:40], share=0.1)
    together = model.transform(table)
    assert_allclose(np.vstack([model.transform(table[i : i + 1]) for i in range(8)]), together[:8], atol=1e-10)
    assert_allclose(np.vstack([model.transform(batch) for batch in np.array_split(table, 3)]), together, atol=1e-10)
    order = np.random.default_rng(0).permutation(len(table))
    assert_allclose(model.transform(table[order]), together[order], atol=1e-10)
    scores = np.concatenate([model.score_samples(batch) for batch in np.array_split(table, 3)])
    assert_allclose(scores, model.score_samples(table), rtol=1e-12)


@pytest.mark.parametrize("inference", INFERENCES)
def test_columns_are_judged_on_sums_over_rows(inference):
    model, table = fitted(inference=inference), progression().data
    probabilities = model.predict_proba(table)
    assert probabilities.shape == (table.shape[1], 3)
    assert_allclose(probabilities.sum(1), 1)
    assert_array_equal(model.predict(table), probabilities.argmax(1))
    order = np.random.default_rng(0).permutation(len(table))
    assert_allclose(model.predict_proba(table[order]), probabilities, atol=1e-8)
    # every row twice is the same opinion, only firmer
    assert_array_equal(model.predict(np.vstack([table, table])), model.predict(table))


def test_labels_of_the_training_table_are_confirmed_by_it():
    model, table = fitted_well(), progression().data
    assert np.mean(model.predict(table) == model.labels_) >= 0.9


# ---- the axis -----------------------------------------------------------------------------------------------------


def mirrored(labels):
    """Labels on the reversed axis, for increasing, decreasing and transient."""
    return np.array([1, 0, 2])[labels]


@pytest.mark.parametrize("inference", INFERENCES)
def test_orientation_by_a_variable_reverses_the_axis(inference):
    truth = papers_progression()
    model = BasisDeVAEClusterer(
        inference=inference, random_state=0, max_epochs=60 if inference == "amortized" else None
    )
    up = clone(model).fit(truth.data, orientation=truth.times)
    down = clone(model).fit(truth.data, orientation=-truth.times)
    z_up, z_down = (fit.transform(truth.data)[:, 0] for fit in (up, down))
    assert np.corrcoef(z_up, truth.times)[0, 1] > 0.9
    assert np.corrcoef(z_down, -truth.times)[0, 1] > 0.9
    if inference == "exact":
        assert_array_equal(up.labels_, truth_positions(truth))
        assert_array_equal(down.labels_, mirrored(up.labels_))
        assert_allclose(z_down, -z_up, atol=0.2)
        assert_allclose(down.score(truth.data), up.score(truth.data), atol=0.3)


def truth_positions(truth):
    """The simulation's labels as positions in the default behaviours."""
    names = np.array(["increasing", "decreasing", "transient"])
    return np.array([np.flatnonzero(names == truth.label_names[label])[0] for label in truth.labels])


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("inference", INFERENCES)
def test_mirroring_a_fitted_model_changes_the_sign_of_the_axis_alone(inference, likelihood):
    ours, table = fitted(likelihood, inference), table_for(likelihood)
    theirs = deepcopy(ours)
    theirs.module_.mirror_(0)
    assert_allclose(theirs.transform(table), -ours.transform(table), atol=1e-10)
    assert_allclose(theirs.score_samples(table), ours.score_samples(table), rtol=1e-10)
    points = np.linspace(-5, 5, 21)
    assert_allclose(theirs.trajectories(-points), ours.trajectories(points), rtol=1e-8, atol=1e-8)
    assert_array_equal(theirs.module_.labels.numpy(), mirrored(ours.labels_))


@pytest.mark.parametrize("column", ["increasing_00", "decreasing_03"])
def test_orientation_by_a_feature_makes_it_rise(column):
    truth = make_progression(100, n_transient=4, n_increasing=4, n_decreasing=4, as_frame=True, random_state=0)
    position = truth.data.columns.get_loc(column)
    models = [
        quick(max_epochs=40, orientation=column).fit(truth.data),
        quick(max_epochs=40, orientation=position).fit(truth.data),
        quick(max_epochs=40, orientation=position - truth.data.shape[1]).fit(truth.data.to_numpy()),
        quick(max_epochs=40).fit(truth.data, orientation=truth.data[column]),
        # what fit is given goes before the parameter
        quick(max_epochs=40, orientation="transient_00").fit(truth.data, orientation=truth.data[column].to_numpy()),
    ]
    assert np.corrcoef(models[0].transform(truth.data)[:, 0], truth.data[column])[0, 1] > 0.5
    for model in models[1:]:
        values = truth.data if hasattr(model, "feature_names_in_") else truth.data.to_numpy()
        assert_array_equal(model.transform(values), models[0].transform(truth.data))


@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_by_default_correlations_with_the_axis_have_a_positive_sum(likelihood, inference):
    table = table_for(likelihood)
    latent = quick(likelihood=likelihood, inference=inference).fit(table).transform(table)
    assert np.corrcoef(latent, table, rowvar=False)[0, 1:].sum() >= -1e-6


@pytest.mark.parametrize(("behavior", "sign"), [("decreasing", 1), ("increasing", -1)])
def test_one_direction_alone_decides_which_end_of_the_axis_is_up(behavior, sign):
    # The two tables have one covariance matrix: whichever way its first component points, one fit must turn it round.
    truth = progression(n_transient=0, n_increasing=0, n_decreasing=8)
    table = sign * truth.data
    model = quick(behaviors=behavior).fit(table)
    assert (-sign * np.diff(model.trajectories([-2, 2]), axis=0) > 0).all()
    assert np.corrcoef(model.transform(table)[:, 0], truth.times)[0, 1] > 0.9


def test_an_axis_that_cannot_be_reversed_warns():
    truth = progression(n_transient=0, n_increasing=0, n_decreasing=8)
    with pytest.warns(UserWarning, match="runs against orientation: .* does not allow the fitted axis to be reversed"):
        quick(behaviors="decreasing").fit(truth.data, orientation=-truth.times)


def test_missing_values_of_the_orientation_do_not_count():
    truth = progression()
    stage = np.where(np.arange(len(truth.times)) % 3, np.nan, truth.times)
    model = quick().fit(truth.data, orientation=stage)
    assert np.corrcoef(model.transform(truth.data)[:, 0], truth.times)[0, 1] > 0.5


# ---- posteriors, curves, samples --------------------------------------------------------------------------------


def test_credible_intervals_cover_as_often_as_they_say():
    model, generator = fitted_well(), np.random.default_rng(0)
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


def test_an_exact_posterior_is_bayes_rule():
    model, rows = fitted("nb"), counts("nb")[:6]
    z = np.linspace(-8, 8, 4001)
    joint = np.exp(log_density(model, "nb", rows, z).sum(2) + norm.logpdf(z) - quadrature(model, "nb", rows)[:, None])
    mean = simpson(joint * z, x=z)
    posterior = model.posterior(rows, credible_level=0.8)
    assert_allclose(posterior.mean[:, 0], mean, atol=1e-4)
    assert_allclose(posterior.sd[:, 0], np.sqrt(simpson(joint * (z - mean[:, None]) ** 2, x=z)), atol=1e-4)
    for row, (lower, upper) in enumerate(zip(posterior.lower[:, 0], posterior.upper[:, 0], strict=True)):
        assert_allclose(simpson(joint[row, z < lower], x=z[z < lower]), 0.1, atol=0.01)
        assert_allclose(simpson(joint[row, z > upper], x=z[z > upper]), 0.1, atol=0.01)


@pytest.mark.parametrize("inference", INFERENCES)
def test_trajectories_behave_as_their_labels_say(inference):
    model = fitted(inference=inference)
    z = np.linspace(-6, 6, 601)
    steps = np.diff(model.trajectories(z), axis=0)
    names = model.cluster_names_[model.labels_]
    assert (steps[:, names == "increasing"] > 0).all()
    assert (steps[:, names == "decreasing"] < 0).all()
    for column in np.flatnonzero(names == "transient"):
        rising = steps[:, column] >= 0
        peak = np.clip(model.peaks_[column], z[0], z[-1])
        assert_array_equal(rising[z[1:] < peak], True)
        assert_array_equal(rising[z[:-1] > peak] & (steps[z[:-1] > peak, column] != 0), False)
    assert_array_equal(np.isnan(model.peaks_), names != "transient")


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_samples_have_the_moments_of_the_model(likelihood):
    model, n = fitted(likelihood), 20_000
    drawn = model.sample(n, random_state=0)
    z = np.linspace(-7, 7, 2001)
    weight = norm.pdf(z) * (z[1] - z[0])
    curves = model.trajectories(z)
    mean = weight @ curves
    assert drawn.shape == (n, model.n_features_in_)
    match likelihood:
        case "gaussian":
            conditional = np.broadcast_to(model.noise_scale_**2, curves.shape)
        case "poisson":
            conditional = curves
        case "bernoulli":
            conditional = curves * (1 - curves)
        case "nb":
            conditional = curves + curves**2 / model.dispersion_
        case "zinb":
            dropped = probability_of_dropout(model, z)
            kept = curves / (1 - dropped)
            conditional = (1 - dropped) * (kept + kept**2 / model.dispersion_ + dropped * kept**2)
    variance = weight @ conditional + weight @ (curves - mean) ** 2
    assert (np.abs(drawn.mean(0) - mean) < 5 * np.sqrt(variance / n)).all()
    # the fourth moment of counts is large: the error of the variance is estimated from the draws
    error = np.std((drawn - mean) ** 2, axis=0) / np.sqrt(n)
    assert (np.abs(drawn.var(0) - variance) < 5 * error).all()
    if likelihood != "gaussian":
        assert_array_equal(drawn, np.round(drawn))
        assert drawn.min() == 0


def test_sampling_is_reproducible():
    model = fitted()
    assert_array_equal(model.sample(5, random_state=3), model.sample(5, random_state=3))
    assert_array_equal(
        model.sample(5, random_state=np.random.RandomState(3)), model.sample(5, random_state=np.random.RandomState(3))
    )
    assert (model.sample(5, random_state=3) != model.sample(5, random_state=4)).any()
    assert model.sample().shape == (1, model.n_features_in_)


@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_inverse_transform_reads_the_trajectories(likelihood, inference):
    model, table = fitted(likelihood, inference), table_for(likelihood)
    latent = model.transform(table)
    expected = model.inverse_transform(latent)
    assert expected.shape == table.shape
    assert_array_equal(expected, model.trajectories(latent))
    assert_array_equal(expected, model.trajectories(latent[:, 0]))
    # the latent explains something: better than the columns' means
    assert ((table - expected) ** 2).mean() < table.var(0).mean()


def test_the_latent_has_one_column():
    with pytest.raises(ValueError, match="2 columns"):
        fitted().inverse_transform(np.zeros((3, 2)))


def test_parameters_set_after_fit_are_for_the_next_fit():
    table = progression().data
    model = deepcopy(fitted()).set_params(z_max=1.0)
    assert_array_equal(model.score_samples(table), fitted().score_samples(table))
    assert_array_equal(model.transform(table), fitted().transform(table))


# ---- which behaviours -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ({}, ["increasing", "decreasing", "transient"]),
        ({"n_clusters": 1}, ["increasing"]),
        ({"n_clusters": 6}, ["increasing", "decreasing", "transient", "dip", "flat", "free"]),
        ({"behaviors": ("flat", "free")}, ["flat", "free"]),
        ({"behaviors": ["dip", "increasing"], "n_clusters": 2}, ["dip", "increasing"]),
        ({"behaviors": "free"}, ["free"]),
        ({"behaviors": np.array(["transient", "dip"])}, ["transient", "dip"]),
    ],
)
def test_behaviors_are_chosen_by_number_or_by_name(parameters, names):
    table = progression().data
    model = quick(max_epochs=3, **parameters).fit(table)
    d, k = table.shape[1], len(names)
    assert model.cluster_names_.tolist() == names
    assert model.responsibilities_.shape == (d, k)
    assert_allclose(model.responsibilities_.sum(1), 1, rtol=1e-6)
    assert_array_equal(model.labels_, model.responsibilities_.argmax(1))
    assert_allclose(model.cluster_weights_.sum(), 1)
    assert model.predict_proba(table).shape == (d, k)
    assert model.lower_bound_ < model.score(table) + 1e-6 or k > 1


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_clusters": 7}, "n_clusters=7.*6 behaviours"),
        ({"n_clusters": 2, "behaviors": ("flat", "free", "dip")}, "n_clusters=2 disagrees"),
        ({"behaviors": ("increasing", "sideways")}, "sideways.*increasing, decreasing"),
        ({"behaviors": "up"}, "up"),
        ({"behaviors": ("flat", "flat")}, "twice"),
        ({"behaviors": ()}, "choose one or more"),
        ({"n_clusters": 0}, "n_clusters"),
    ],
)
def test_behaviors_that_cannot_be_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        quick(**parameters).fit(progression().data)


def test_every_behaviour_is_found_where_it_is_the_truth():
    generator = np.random.default_rng(0)
    z = generator.standard_normal(400)
    shapes = {
        # not one that levels off: a transient whose fall lies beyond the data describes that as well
        "increasing": lambda z: 0.7 * z + 0.5 * np.tanh(2 * z),
        "decreasing": lambda z: -z,
        "transient": lambda z: 2 * np.exp(-2 * (z - 0.3) ** 2),
        "dip": lambda z: -2 * np.exp(-2 * (z + 0.3) ** 2),
        "flat": np.zeros_like,
    }
    names = np.repeat(list(shapes), 5)
    table = np.stack([shapes[name](z) for name in names], 1) + 0.3 * generator.standard_normal((len(z), len(names)))
    model = BasisDeVAEClusterer(n_clusters=5, random_state=0).fit(table, orientation=z)
    assert np.mean(model.cluster_names_[model.labels_] == names) >= 0.9


# ---- inside scikit-learn ----------------------------------------------------------------------------------------


def test_fit_predict_and_fit_transform_are_fit_and_then():
    table = progression().data
    assert_array_equal(quick().fit_predict(table), fitted().labels_)
    assert_array_equal(quick().fit_transform(table), fitted().transform(table))
    times = progression().times
    assert_array_equal(quick().fit_predict(table, orientation=-times), quick().fit(table, orientation=-times).labels_)


def test_a_grid_search_finds_the_behaviours_that_are_there():
    truth = papers_progression()
    search = GridSearchCV(quick(), {"n_clusters": [1, 3], "alpha": [0.1, 1.0]}, cv=2, error_score="raise").fit(
        truth.data
    )
    assert search.best_params_["n_clusters"] == 3
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert_allclose(search.score(truth.data), search.best_estimator_.score(truth.data))


def test_orientation_passes_through_pipelines_and_searches():
    truth = progression()
    pipeline = make_pipeline(StandardScaler(), quick())
    pipeline.fit(truth.data, basisdevaeclusterer__orientation=-truth.times)
    assert np.corrcoef(pipeline.transform(truth.data)[:, 0], truth.times)[0, 1] < -0.5
    search = GridSearchCV(quick(), {"alpha": [0.1, 1.0]}, cv=2, error_score="raise")
    search.fit(truth.data, orientation=-truth.times)
    assert np.corrcoef(search.transform(truth.data)[:, 0], truth.times)[0, 1] < -0.5


def test_scaling_before_changes_nothing_but_the_units():
    table = progression().data * 7 + 3
    pipeline = make_pipeline(StandardScaler(), quick()).fit(table)
    alone = quick().fit(table)
    assert_array_equal(pipeline[-1].labels_, alone.labels_)
    assert_array_equal(pipeline.predict(table), alone.predict(table))
    assert_allclose(pipeline.transform(table), alone.transform(table), atol=1e-4)
    assert_allclose(pipeline.score(table), alone.score(table) + np.log(pipeline[0].scale_).sum(), atol=1e-3)
    assert pipeline.get_feature_names_out().tolist() == ["basisdevaeclusterer0"]


def test_names_of_columns_survive():
    table = progression().data
    names = progression().feature_names
    frames = {"pandas": pd.DataFrame(table, columns=names), "polars": pl.DataFrame(table, schema=names)}
    for library, frame in frames.items():
        model = quick().set_output(transform=library).fit(frame)
        assert model.feature_names_in_.tolist() == names
        latent = model.transform(frame)
        assert isinstance(latent, type(frame))
        assert list(latent.columns) == ["basisdevaeclusterer0"]
        assert_allclose(latent.to_numpy(), fitted().transform(table), atol=1e-10)
        assert_array_equal(model.labels_, fitted().labels_)


def test_the_index_of_a_data_frame_survives():
    frame = pd.DataFrame(progression().data, index=[f"patient {i}" for i in range(150)]).add_prefix("feature ")
    latent = quick(max_epochs=3).set_output(transform="pandas").fit_transform(frame)
    assert latent.index.equals(frame.index)


def test_numbers_of_any_kind_are_numbers():
    holes = with_holes(progression().data)
    nullable = pd.DataFrame(holes).astype("Float64").convert_dtypes()
    assert nullable.isna().to_numpy().any()
    nullable.columns = nullable.columns.astype(str)
    assert_allclose(quick(max_epochs=3).fit_transform(nullable), quick(max_epochs=3).fit_transform(holes), atol=1e-8)
    binary = counts("bernoulli")
    expected = fitted("bernoulli").transform(binary)
    for kind in (bool, np.int8, np.float32):
        assert_allclose(fitted("bernoulli").transform(binary.astype(kind)), expected, atol=1e-6)
        assert_allclose(fitted("bernoulli").transform(sp.csr_array(binary.astype(kind))), expected, atol=1e-6)
    assert_allclose(fitted("bernoulli").transform(binary.tolist()), expected)


@pytest.mark.parametrize("inference", INFERENCES)
def test_float32_in_float32_out(inference):
    table = progression().data.astype(np.float32)
    model = quick(inference=inference).fit(table)
    posterior = model.posterior(table)
    assert model.transform(table).dtype == posterior.mean.dtype == posterior.upper.dtype == np.float32
    assert model.inverse_transform(model.transform(table)).dtype == np.float32
    assert model.transform(table.astype(np.float64)).dtype == np.float64
    assert_array_equal(model.labels_, fitted(inference=inference).labels_)
    assert_allclose(model.score(table), fitted(inference=inference).score(table), atol=0.01)


def test_parameters_are_validated():
    for parameters in (
        {"likelihood": "normal"},
        {"inference": "mcmc"},
        {"assignment": "soft"},
        {"integrator": "euler"},
        {"alpha": 0},
        {"alpha": -1.0},
        {"max_epochs": 0},
        {"learning_rate": 0.0},
        {"validation_fraction": 1.0},
        {"n_init": 0},
        {"activation": "sigmoid"},
        {"n_knots": 2},
        {"callbacks": "progress"},
    ):
        (name,) = parameters
        with pytest.raises(ValueError, match=name):
            quick(**parameters).fit(progression().data)
    with pytest.raises(ValueError, match="credible_level"):
        fitted().posterior(progression().data, credible_level=1)
    with pytest.raises(ValueError, match="n_samples"):
        fitted().sample(0)


# ---- how tables are stored --------------------------------------------------------------------------------------


def non_canonical(table):
    """CSR with explicit zeros, unsorted columns, and every entry in two halves where that is a whole number."""
    rows, columns = np.nonzero(np.ones_like(table))
    values = table[rows, columns]
    first = np.floor(values / 2)
    order = np.argsort(np.concatenate([rows, rows]), kind="stable")
    pointer = np.concatenate([[0], np.cumsum(np.full(len(table), 2 * table.shape[1]))])
    entries = np.concatenate([first, values - first])[order]
    matrix = sp.csr_array((entries, np.concatenate([columns, columns])[order], pointer), shape=table.shape)
    assert not matrix.has_canonical_format
    return matrix


STORED = {
    "csr_matrix": sp.csr_matrix,
    "integers": lambda table: sp.csr_array(table.astype(np.int64)),
    "csc": sp.csc_array,
    "non-canonical": non_canonical,
}


@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize("likelihood", COUNT_LIKELIHOODS)
def test_sparse_tables_are_tables(likelihood, inference):
    table = counts(likelihood)
    dense, sparse = fitted(likelihood, inference), quick(likelihood=likelihood, inference=inference)
    sparse.fit(sp.csr_array(table))
    assert_array_equal(sparse.labels_, dense.labels_)
    assert_allclose(sparse.score(table), dense.score(table), atol=1e-3)
    # One model, the table stored either way: no training in between, so nothing but the order of sums may differ.
    stored = sp.csr_array(table)
    assert_allclose(dense.transform(stored), dense.transform(table), atol=1e-8)
    assert_allclose(dense.score_samples(stored), dense.score_samples(table), rtol=1e-10)
    assert_allclose(dense.predict_proba(stored), dense.predict_proba(table), atol=1e-8)
    assert_allclose(dense.elbo(stored), dense.elbo(table), rtol=1e-10)
    assert_allclose(dense.conditional_log_likelihood(stored), dense.conditional_log_likelihood(table), rtol=1e-8)
    posterior, other = dense.posterior(stored), dense.posterior(table)
    assert_allclose(posterior.lower, other.lower, atol=1e-8)


@pytest.mark.parametrize("stored", STORED)
def test_every_sparse_format_gives_the_same_bits(stored):
    table = counts("nb")
    canonical, other = sp.csr_array(table), STORED[stored](table)
    before = other.copy()
    model = quick(likelihood="nb", max_epochs=5).fit(canonical)
    again = quick(likelihood="nb", max_epochs=5).fit(other)
    assert_array_equal(again.transform(canonical), model.transform(canonical))
    assert_array_equal(model.transform(other), model.transform(canonical))
    assert_array_equal(model.score_samples(other), model.score_samples(canonical))
    for name in ("data", "indices", "indptr"):
        assert_array_equal(getattr(other, name), getattr(before, name))


def test_orientation_by_a_column_of_a_sparse_table():
    table = counts("nb")
    dense = quick(likelihood="nb", orientation=2).fit(table)
    sparse = quick(likelihood="nb", orientation=2).fit(sp.csr_array(table))
    assert_array_equal(sparse.labels_, dense.labels_)
    assert np.corrcoef(sparse.transform(table)[:, 0], dense.transform(table)[:, 0])[0, 1] > 0.999


@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_a_memory_map_is_a_table(likelihood, tmp_path):
    table = table_for(likelihood)
    joblib.dump(table, tmp_path / "table.joblib")
    mapped = joblib.load(tmp_path / "table.joblib", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    model = quick(likelihood=likelihood).fit(mapped)
    assert_array_equal(model.transform(mapped), fitted(likelihood).transform(table))


def test_the_order_of_memory_does_not_matter():
    table = progression().data
    model = quick().fit(np.asfortranarray(table))
    assert_allclose(model.transform(np.asfortranarray(table)), fitted().transform(table), atol=1e-8)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_tables_are_left_alone(likelihood):
    table = with_holes(table_for(likelihood))
    before = table.copy()
    model = quick(likelihood=likelihood, max_epochs=3).fit(table)
    model.transform(table)
    model.predict(table)
    assert_array_equal(table, before)


# ---- missing entries, degenerate tables ---------------------------------------------------------------------------


@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_a_row_without_data_has_the_prior(likelihood, inference):
    model, rows = fitted(likelihood, inference), table_for(likelihood)[:4].copy()
    full = rows.copy()
    rows[2] = np.nan
    with pytest.warns(UserWarning, match=r"1 rows.*row 2"):
        posterior = model.posterior(rows)
    assert_allclose(posterior.mean[2], 0, atol=1e-6)
    assert_allclose(posterior.sd[2], 1, atol=1e-3)
    assert_allclose([posterior.lower[2, 0], posterior.upper[2, 0]], norm.ppf([0.025, 0.975]), atol=1e-2)
    with pytest.warns(UserWarning, match="row 2"):
        scores = model.score_samples(rows)
    assert_allclose(scores[2], 0, atol=1e-4)
    # its neighbours do not notice
    others = [0, 1, 3]
    assert_allclose(posterior.mean[others], model.transform(full)[others], atol=1e-10)
    assert_allclose(scores[others], model.score_samples(full)[others], rtol=1e-10)


@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_missing_entries_cost_little_of_the_order(likelihood, inference):
    table, times = table_for(likelihood), hidden_times(likelihood)
    model = quick(likelihood=likelihood, inference=inference).fit(with_holes(table))
    assert np.isfinite(model.lower_bound_)
    from_holes, from_all = (
        abs(np.corrcoef(fit.transform(table)[:, 0], times)[0, 1]) for fit in (model, fitted(likelihood, inference))
    )
    assert from_holes > from_all - 0.1


def test_missing_entries_can_first_appear_after_fit():
    table = progression().data
    for inference in INFERENCES:
        latent = fitted(inference=inference).transform(with_holes(table))
        assert np.isfinite(latent).all()


def test_constant_columns_keep_scores_finite():
    table = progression().data.copy()
    table[:, 3], table[:, 7] = 0.0, 1e6
    model = quick().fit(table)
    assert np.isfinite(model.score_samples(table)).all()
    assert np.isfinite(model.lower_bound_)
    assert_allclose(model.trajectories([0.0])[0, [3, 7]], [0, 1e6], atol=1e-1, rtol=1e-2)
    assert (model.noise_scale_ > 0).all()


def test_duplicated_columns_keep_scores_finite():
    column = np.random.default_rng(0).standard_normal((100, 1))
    table = np.repeat(column, 4, axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that they are duplicates is said; see below
        model = quick(max_epochs=60).fit(table)
        assert np.isfinite(model.score_samples(table)).all()
    # each of the columns has at least the floor of noise, 1 % of its sd
    assert (model.noise_scale_ >= 0.01 * column.std() * (1 - 1e-6)).all()


def test_fewer_samples_than_features_and_few_features():
    generator = np.random.default_rng(0)
    for shape in ((2, 5), (5, 30), (30, 1), (30, 2)):
        table = generator.standard_normal(shape)
        model = quick(max_epochs=10).fit(table)
        assert np.isfinite(model.score(table))
        assert model.transform(table).shape == (shape[0], 1)


def test_columns_of_zeros_among_counts():
    table = counts("nb").copy()
    table[:, 4] = 0
    for likelihood in ("poisson", "nb", "zinb"):
        model = quick(likelihood=likelihood).fit(table)
        assert np.isfinite(model.score(table))
        assert model.trajectories([0.0])[0, 4] < 0.1


# ---- errors -------------------------------------------------------------------------------------------------------


def replaced(table, row, column, value):
    table = table.astype(np.float64, copy=True)
    table[row, column] = value
    return table


@pytest.mark.parametrize(
    ("likelihood", "value", "message"),
    [
        *((likelihood, -1.0, "Negative values in data") for likelihood in COUNT_LIKELIHOODS),
        *((likelihood, 0.5, "Fractional") for likelihood in COUNT_LIKELIHOODS),
        ("bernoulli", 2.0, "above 1"),
    ],
)
def test_what_is_no_count_is_refused_and_found(likelihood, value, message):
    names = [f"gene {i}" for i in range(20)]
    table = replaced(counts(likelihood), 5, 7, value)
    model = quick(likelihood=likelihood)
    for stored in (table, sp.csr_array(table)):
        with pytest.raises(ValueError, match=f"{message}.*column 7"):
            model.fit(stored)
        with pytest.raises(ValueError, match=f"{message}.*column 7"):
            fitted(likelihood).transform(stored)
    with pytest.raises(ValueError, match=f"{message}.*column 'gene 7'"):
        model.fit(pd.DataFrame(table, columns=names))


def test_columns_and_rows_without_data_are_named_at_fit():
    frame = pd.DataFrame(progression().data, columns=progression().feature_names)
    empty_column = frame.assign(increasing_01=np.nan)
    with pytest.raises(ValueError, match=r"'increasing_01'.*every entry is NaN"):
        quick().fit(empty_column)
    with pytest.raises(ValueError, match=r"column 7: every entry is NaN"):
        quick().fit(empty_column.to_numpy())
    empty_row = frame.copy()
    empty_row.iloc[11] = np.nan
    with pytest.raises(ValueError, match=r"1 rows.*row 11"):
        quick().fit(empty_row)


def test_tables_that_are_none():
    table = progression().data
    with pytest.raises(ValueError, match="could not convert string"):
        quick().fit(np.array([["a", "b"], ["c", "d"]], dtype=object))
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        quick().fit(table[:1])
    with pytest.raises(ValueError, match="infinity"):
        quick().fit(replaced(table, 0, 0, np.inf))
    with pytest.raises(ValueError, match="Expected 2D array"):
        quick().fit(table[:, 0])
    with pytest.raises(TypeError, match="Sparse data was passed"):
        quick().fit(sp.csr_array(table))
    holes = sp.csr_array(replaced(counts("nb"), 3, 3, np.nan))
    with pytest.raises(ValueError, match="sparse X must not contain NaN"):
        quick(likelihood="nb").fit(holes)
    with pytest.raises(ValueError, match="sparse X must not contain NaN"):
        fitted("nb").transform(holes)


@pytest.mark.parametrize("method", ["transform", "posterior", "predict", "predict_proba", "score", "elbo"])
def test_columns_must_be_those_of_fit(method):
    table = progression().data
    with pytest.raises(ValueError, match=r"13 features.*expecting 14"):
        getattr(fitted(), method)(table[:, 1:])


def test_names_of_columns_must_be_those_of_fit():
    frame = pd.DataFrame(progression().data, columns=progression().feature_names)
    model = quick(max_epochs=3).fit(frame)
    with pytest.raises(ValueError, match="feature names should match"):
        model.transform(frame.iloc[:, ::-1])


@pytest.mark.parametrize(
    ("method", "argument"),
    [
        *((name, progression().data) for name in ("transform", "posterior", "predict", "predict_proba")),
        *((name, progression().data) for name in ("score", "score_samples", "elbo", "conditional_log_likelihood")),
        ("trajectories", [0.0]),
        ("inverse_transform", [[0.0]]),
        ("sample", 3),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_nothing_works_before_fit(method, argument):
    with pytest.raises(NotFittedError):
        getattr(quick(), method)(argument)


def test_orientations_that_cannot_be_are_refused():
    table = progression().data
    frame = pd.DataFrame(table, columns=progression().feature_names)
    with pytest.raises(ValueError, match=r"'age'.*not among the columns"):
        quick(orientation="age").fit(frame)
    with pytest.raises(ValueError, match=r"'age'.*no column names"):
        quick(orientation="age").fit(table)
    for column in (14, -15):
        with pytest.raises(ValueError, match=f"orientation={column} is no column"):
            quick(orientation=column).fit(table)
    with pytest.raises(ValueError, match=r"149.*150 samples"):
        quick().fit(table, orientation=progression().times[1:])


# ---- randomness ---------------------------------------------------------------------------------------------------


def assert_same_bits(one, other, table):
    assert_array_equal(one.transform(table), other.transform(table))
    assert_array_equal(one.score_samples(table), other.score_samples(table))
    assert_array_equal(one.responsibilities_, other.responsibilities_)
    assert one.lower_bound_ == other.lower_bound_
    assert one.history_[:, "train_loss"] == other.history_[:, "train_loss"]


@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_same_seed_same_bits(likelihood, inference):
    table = table_for(likelihood)
    assert_same_bits(quick(likelihood=likelihood, inference=inference).fit(table), fitted(likelihood, inference), table)


def test_refitting_forgets_the_last_fit():
    table = progression().data
    model = quick().fit(counts(n_features=14))
    assert_same_bits(model.fit(table), fitted(), table)


@pytest.mark.parametrize("inference", INFERENCES)
def test_fits_in_threads_equal_fits_in_sequence(inference):
    table = progression().data
    estimators = [quick(inference=inference, random_state=seed) for seed in range(3)]
    in_sequence = [clone(estimator).fit(table) for estimator in estimators]
    with ThreadPoolExecutor(3) as pool:
        at_once = list(pool.map(lambda estimator: clone(estimator).fit(table), estimators))
    for one, other in zip(in_sequence, at_once, strict=True):
        assert_same_bits(one, other, table)


@pytest.mark.parametrize("inference", INFERENCES)
def test_global_generators_are_left_alone(inference):
    table = progression().data
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    model = quick(inference=inference, n_init=2, early_stopping=True).fit(table)
    model.transform(table)
    model.score(table)
    model.elbo(table)
    model.predict(table)
    model.sample(3, random_state=0)
    model.trajectories([0.0])
    after = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert_array_equal(before[1][1], after[1][1])
    assert before[1][2:] == after[1][2:]
    assert before[2] == after[2]


def test_global_generators_are_not_read():
    table = progression().data
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    one = quick().fit(table)
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    assert_same_bits(quick().fit(table), one, table)


def test_a_random_state_is_used_up_as_scikit_learn_does():
    table = progression().data
    state = np.random.RandomState(0)
    one, other = (quick(random_state=state).fit(table) for _ in range(2))
    assert (one.transform(table) != other.transform(table)).any()


@pytest.mark.parametrize("inference", INFERENCES)
def test_more_starts_never_lower_the_bound(inference):
    table = progression().data
    one = fitted(inference=inference)
    several = quick(inference=inference, n_init=3).fit(table)
    assert several.lower_bound_ >= one.lower_bound_


@pytest.mark.parametrize("sizes", [(-3,), (0,), (8, 2.5), ("a",)])
def test_hidden_layers_have_positive_widths(sizes):
    with pytest.raises(ValueError, match="hidden_layer_sizes"):
        BasisDeVAEClusterer(hidden_layer_sizes=sizes).fit(progression().data)


def test_trajectories_take_one_position_a_row():
    with pytest.raises(ValueError, match=r"z has shape \(3, 2\), but positions on this latent need shape"):
        fitted().trajectories(np.zeros((3, 2)))
    assert_array_equal(fitted().trajectories(0.5), fitted().trajectories([[0.5]]))
