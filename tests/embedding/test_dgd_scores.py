"""DGDEmbedder: likelihoods of samples, expected values and simulated samples, for every kind of table."""

import numpy as np
import pytest
import scipy.sparse as sp
from embedding.dgd_cases import (
    COUNTS,
    LIKELIHOODS,
    blobs,
    copy_of,
    counts,
    fitted,
    holey,
    log_evidence,
    log_likelihood,
    log_sizes_of,
    quick,
    table_for,
)
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from scipy.stats import poisson

from skdevae.table.units import Units


def nonlinear(likelihood, n_components, n_clusters, n_draws=2**13):
    model = fitted(likelihood, n_components, activation="tanh", n_clusters=n_clusters, max_epochs=20)
    return copy_of(model, n_importance_samples=n_draws)


def some_rows(likelihood):
    rows = table_for(likelihood)[::30].copy()
    if likelihood == "gaussian":
        rows[:2] = holey()[:60:30]
    return rows


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize("likelihood", ["gaussian", "nb", "bernoulli"])
@pytest.mark.parametrize("n_components", [1, 2])
def test_score_is_the_integral_over_the_latent(n_components, likelihood):
    model, rows = nonlinear(likelihood, n_components, 1), some_rows(likelihood)
    expected = [log_evidence(model, row, 1001 if n_components == 1 else 61)[0] for row in rows]
    assert_allclose(model.score_samples(rows), expected, rtol=0, atol=0.02)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("likelihood", ["gaussian", "nb", "bernoulli"])
@pytest.mark.parametrize("n_components", [1, 2])
def test_scores_and_probabilities_are_integrals_over_all_components(n_components, likelihood):
    model, rows = nonlinear(likelihood, n_components, 3), some_rows(likelihood)
    for row, score, shares in zip(rows, model.score_samples(rows), model.predict_proba(rows), strict=True):
        evidence, of_components = log_evidence(model, row, 1001 if n_components == 1 else 61)
        assert score == pytest.approx(evidence, abs=0.02)
        assert_allclose(shares, np.exp(of_components - evidence), rtol=0, atol=0.01)


def test_probabilities_are_as_often_right_as_they_say():
    model = quick(2, n_clusters=3, max_epochs=60).fit(blobs()[0] / [1, 1, 1, 4, 4, 4])
    drawn = [model.sample(200, random_state=k, cluster=k) for k in range(model.n_clusters_)]
    table, truth = np.vstack(drawn), np.repeat(np.arange(len(drawn)), 200)
    log_shares = np.log(model.predict_proba(table)) - np.log(model.weights_)  # as many of each component as of others
    shares = np.exp(log_shares - logsumexp(log_shares, axis=1, keepdims=True))
    claimed, right = shares.max(1), shares.argmax(1) == truth
    error = np.sqrt((claimed * (1 - claimed)).mean() / len(table))
    assert abs(right.mean() - claimed.mean()) < 3 * error + 0.005


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize(
    ("likelihood", "representation"),
    [*((name, "map") for name in LIKELIHOODS), ("gaussian", "variational"), ("zinb", "variational")],
)
def test_the_bound_is_below_the_score(likelihood, representation):
    model, table = fitted(likelihood, representation=representation), holey(likelihood)[::3]
    score, elbo, scores = model.score(table), model.elbo(table), model.score_samples(table)
    assert_allclose(score, scores.mean(), rtol=1e-12)
    assert np.isfinite(scores).all()
    assert score - 5 < elbo <= score + 1e-2
    # A point is no integral over the latent: what was seen of it is not paid for. Zeros and ones say so little
    # that the highest mode can be that of the narrowest component instead.
    assert likelihood == "bernoulli" or model.conditional_log_likelihood(table) > score


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize("likelihood", ["gaussian", "poisson", "nb", "bernoulli"])
def test_conditional_likelihood_is_that_at_the_representations(likelihood):
    model, rows = fitted(likelihood), table_for(likelihood)[::4]
    expected = log_likelihood(model, rows, model.transform(rows)).diagonal().mean()
    assert_allclose(model.conditional_log_likelihood(rows), expected, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:.* samples .* lie beyond the range")  # as the ends of an integral do
def test_a_gap_is_an_integral_over_the_entry():
    model = nonlinear("gaussian", 2, 3, n_draws=1024)
    table = blobs()[0][::50].copy()
    for row in table:
        copies = np.tile(row, (150, 1))
        grid = np.linspace(blobs()[0][:, 2].min() - 10, blobs()[0][:, 2].max() + 10, 150)
        copies[:, 2] = grid
        integral = logsumexp(model.score_samples(copies)) + np.log(grid[1] - grid[0])
        row[2] = np.nan
        assert_allclose(model.score_samples(row[None]), integral, rtol=0, atol=0.02)


# ---- units ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("parameters", [{}, {"hidden_layer_sizes": ()}, {"representation": "variational"}], ids=str)
def test_units_do_not_matter(parameters):
    table, generator = holey(), np.random.default_rng(1)
    factor = 10 ** generator.uniform(-2, 2, 6) * [1, -1, 1, -1, 1, 1]
    changed = factor * table + generator.normal(0, 10, 6) * factor
    whole = {"batch_size": 120, "max_epochs": 30, **parameters}
    ours, theirs = quick(**whole).fit(table), quick(**whole).fit(changed)
    assert_array_equal(theirs.labels_, ours.labels_)
    in_other_units = ours.score_samples(table) - ~np.isnan(table) @ np.log(np.abs(factor))
    # reversed columns are other columns to a network that starts from the same weights
    assert_allclose(theirs.score_samples(changed).mean(), in_other_units.mean(), rtol=0, atol=0.2)
    shifted = factor**2 * table + 5
    theirs = quick(**whole).fit(shifted)
    in_other_units = ours.score_samples(table) - ~np.isnan(table) @ np.log(factor**2)
    assert_array_equal(theirs.labels_, ours.labels_)
    assert_allclose(theirs.score_samples(shifted).mean(), in_other_units.mean(), rtol=0, atol=0.02)
    assert_allclose(theirs.noise_scale_, ours.noise_scale_ * factor**2, rtol=0.05)


def test_a_fitted_models_units_are_the_tables():
    """The same module in other units: exactly the same likelihoods, but for the factor."""
    model, factor = fitted(), 10 ** np.random.default_rng(1).uniform(-2, 2, 6)
    other, units = copy_of(model), model._reader_.units
    other._reader_ = type(other._reader_)(Units(factor * units.center + 3, factor * units.scale))
    scores = model.score_samples(holey()) - ~np.isnan(holey()) @ np.log(factor)
    assert_allclose(other.score_samples(factor * holey() + 3), scores, rtol=1e-8)
    assert_allclose(other.transform(factor * holey() + 3), model.transform(holey()), rtol=0, atol=1e-6)


# ---- likelihoods ----------------------------------------------------------------------------------------------------


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_every_likelihood_fits_and_samples_in_its_support(likelihood):
    model, table = fitted(likelihood, max_epochs=20), table_for(likelihood)
    score = model.score(table)
    assert np.isfinite(score)
    # better than features that know nothing of each other
    one = quick(1, likelihood=likelihood, n_clusters=1, max_epochs=1, learning_rate=1e-6).fit(table)
    assert score > one.score(table) + 0.1
    drawn = model.sample(2000, random_state=0)
    assert drawn.shape == (2000, 6)
    assert_array_equal(model.sample(2000, random_state=0), drawn)
    assert (model.sample(2000, random_state=1) != drawn).any()
    if likelihood == "gaussian":
        assert_allclose(drawn.mean(0), table.mean(0), rtol=0, atol=0.3 * table.std(0).max())
        return
    assert_array_equal(drawn, np.round(drawn))
    assert drawn.min() == 0
    if likelihood == "bernoulli":
        assert drawn.max() == 1
        assert_allclose(drawn.mean(0), table.mean(0), rtol=0, atol=0.15)
    else:
        assert_allclose(drawn.sum(1).mean(), table.sum(1).mean(), rtol=0.3)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("likelihood", [*COUNTS, "bernoulli"])
def test_sparse_tables_say_the_same(likelihood):
    model, table = fitted(likelihood), table_for(likelihood)[::2]
    sparse = sp.csr_array(table)
    for method in ("transform", "predict_proba", "score_samples"):
        assert_allclose(getattr(model, method)(sparse), getattr(model, method)(table), rtol=1e-6, atol=1e-6)
    assert_allclose(model.elbo(sparse), model.elbo(table), rtol=1e-8)


@pytest.mark.parametrize("likelihood", ["nb", "bernoulli"])
def test_a_fit_to_a_sparse_table_is_that_to_the_dense_one(likelihood):
    sparse, dense = quick(likelihood=likelihood).fit(sp.csr_array(table_for(likelihood))), fitted(likelihood)
    assert_array_equal(sparse.labels_, dense.labels_)
    assert_allclose(sparse.history_[:, "train_loss"], dense.history_[:, "train_loss"], rtol=1e-6)
    assert_allclose(sparse.embedding_, dense.embedding_, rtol=0, atol=1e-6)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_expected_values_are_in_the_tables_units(likelihood):
    model, table = fitted(likelihood, max_epochs=20), table_for(likelihood)
    z = model.embedding_
    expected = model.inverse_transform(z)
    assert expected.shape == table.shape
    assert_array_equal(expected, model.trajectories(z))
    if likelihood in COUNTS:  # of samples of median size
        table = table / np.exp(log_sizes_of(table))[:, None]
        assert_allclose(expected.sum(1), np.exp(np.median(np.log(counts().sum(1)))), rtol=0.15)
    errors = [((table - guess) ** 2).sum() for guess in (expected, table.mean(0))]
    assert errors[0] < 0.9 * errors[1]
    step = 1e-5
    slopes = [(model.trajectories(z[:5] + move) - expected[:5]) / step for move in step * np.eye(2)]
    assert_allclose(model.derivatives(z[:5]), np.stack(slopes, -1), rtol=1e-3, atol=1e-3 * table.std())
    with pytest.raises(ValueError, match="3 columns, but the latent has 2"):
        model.inverse_transform(np.ones((2, 3)))


@pytest.mark.parametrize(
    ("rule", "given"),
    [(None, None), ("sum", np.random.default_rng(2).uniform(0.2, 5, 120)), (lambda table: table.sum(1) ** 0.5, None)],
    ids=["none", "given", "function"],
)
def test_sizes_of_samples_have_their_part_in_their_likelihoods(rule, given):
    model = quick(likelihood="poisson", size_factors=rule, max_epochs=2).fit(counts(), size_factors=given)
    sizes = rule(counts()) if callable(rule) else given
    log_sizes = np.zeros(120) if sizes is None else np.log(sizes) - np.median(np.log(sizes))
    means = np.exp(log_sizes)[:, None] * model.inverse_transform(model.embedding_)
    expected = poisson.logpmf(counts(), means).sum(1).mean()
    assert_allclose(model.conditional_log_likelihood(counts(), size_factors=given), expected, rtol=1e-6)


def test_a_sample_without_counts_is_named_by_its_row():
    table = counts().copy()
    table[[17, 90]] = 0
    with pytest.raises(ValueError, match=r"2 rows have no counts.*the first is row 17\)"):
        quick(likelihood="nb").fit(table)
    sizes = np.ones(120)
    sizes[31] = 0
    with pytest.raises(ValueError, match=r"the first is row 31\)"):
        quick(likelihood="nb").fit(table, size_factors=sizes)


# ---- simulation -----------------------------------------------------------------------------------------------------


def test_a_cluster_can_be_sampled():
    model = fitted(max_epochs=60)
    for k in range(3):
        drawn = model.sample(100, cluster=k, random_state=k)
        assert (model.predict(drawn) == k).mean() > 0.9
        center = blobs()[0][model.labels_ == k].mean(0)
        assert_allclose(drawn.mean(0), center, rtol=0, atol=1.5)
    drawn = model.sample(1000, random_state=0)
    assert_allclose(np.bincount(model.predict(drawn), minlength=3) / 1000, model.weights_, rtol=0, atol=0.1)
    z = model.sample_latent(1000, random_state=0)
    noise = (drawn - model.inverse_transform(z)) / model.noise_scale_
    assert_allclose(noise.std(0), 1, rtol=5 / np.sqrt(2000))
    with pytest.raises(ValueError, match="cluster=3, but the mixture has components 0 to 2"):
        model.sample(2, cluster=3)
    for wrong in ({"cluster": -1}, {"cluster": 0.5}, {"n_samples": 0}):
        (name,) = wrong
        with pytest.raises(ValueError, match=name):
            model.sample(**wrong)
