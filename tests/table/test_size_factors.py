"""Size factors from outside: what they may be, what they leave alone, and what counts are likely given them."""

import re
from functools import cache, partial

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from scipy.stats import nbinom, norm, poisson
from sklearn.model_selection import GridSearchCV

from skdevae import VAETransformer, VampVAE
from skdevae.table.size_factors import count_means, log_size_factors

LOG_LINKS = ("poisson", "nb", "zinb")


def quick(n_components=2, **parameters):
    """An estimator for laws that hold however long it trains."""
    settings = {"likelihood": "nb", "hidden_layer_sizes": (16,), "encoder_hidden_layer_sizes": (16,), "max_epochs": 8}
    return VampVAE(
        n_components, **{**settings, "kl_warmup": 0.0, "n_importance_samples": 200, "random_state": 0, **parameters}
    )


@cache
def counts(n_samples=100, n_features=7, seed=0):
    """Counts of three groups of samples, and of depths that differ by a factor of fifty."""
    generator = np.random.default_rng(seed)
    shares = generator.dirichlet(np.ones(n_features), 3)[generator.integers(3, size=n_samples)]
    depths = 60 * np.exp(generator.normal(0, 0.8, n_samples))
    table = generator.negative_binomial(4, 4 / (4 + depths[:, None] * shares)).astype(np.float64)
    table[table.sum(1) == 0, 0] = 1
    return table


@cache
def holey():
    generator = np.random.default_rng(1)
    return np.where(generator.random(counts().shape) < 0.15, np.nan, counts())


def extrapolated(table):
    """Totals divided by the share of all of ``holey``'s counts that the columns have in which a row is observed."""
    means = np.nanmean(holey(), 0)
    return np.array([row[~np.isnan(row)].sum() * means.sum() / means[~np.isnan(row)].sum() for row in table])


def depths():
    """Sizes that are not the rows' totals."""
    return np.random.default_rng(2).uniform(0.2, 5, len(counts()))


def totals(table):
    return table.sum(1)


@cache
def fitted(likelihood="nb", n_components=2):
    """Shared between tests, which must not change it."""
    return quick(n_components, likelihood=likelihood).fit(counts())


def copy_of(model, **parameters):
    """The same fitted model with other parameters."""
    again = type(model)()
    again.__setstate__(model.__getstate__())
    return again.set_params(**parameters)


def assert_same_fit(one, other, table, tolerance=1e-8, sizes=(None, None)):
    """Of two models, each asked with the sizes of the rows where it was fitted with some."""
    tolerance = {"rtol": tolerance, "atol": tolerance}
    of_one, of_other = ({"size_factors": given} for given in sizes)
    assert_allclose(other.transform(table, **of_other), one.transform(table, **of_one), **tolerance)
    assert_allclose(other.score_samples(table, **of_other), one.score_samples(table, **of_one), **tolerance)
    assert_allclose(other.lower_bound_, one.lower_bound_, **tolerance)
    assert_allclose(other.trajectories(np.eye(2)), one.trajectories(np.eye(2)), **tolerance)


# ---- what they may be ----------------------------------------------------------------


def test_sizes_are_the_same_however_they_are_given():
    by_function, sizes = quick(size_factors=totals).fit(counts()), totals(counts())
    for given in (sizes, list(sizes), pd.Series(sizes, index=np.arange(len(sizes))[::-1]), sizes.astype(np.float32)):
        assert_same_fit(by_function, quick().fit(counts(), size_factors=given), counts(), sizes=(None, given))
    assert_allclose(copy_of(fitted(), size_factors=totals).score_samples(counts()), fitted().score_samples(counts()))
    # and are another thing than no sizes, or other ones
    for other, given in (
        (quick(size_factors=None).fit(counts()), None),
        (quick().fit(counts(), size_factors=depths()), depths()),
    ):
        scores = other.score_samples(counts(), size_factors=given)
        assert np.abs(scores - fitted().score_samples(counts())).max() > 0.1


def test_multiplying_by_one_is_no_size_factor():
    ones = np.ones(len(counts()))
    without = quick(size_factors=None).fit(counts())
    assert_same_fit(without, quick().fit(counts(), size_factors=ones), counts(), 1e-3, (None, ones))


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("likelihood", ["poisson", "nb", "zinb"])
def test_given_sizes_leave_totals_to_be_learned_and_the_sum_settles_them(likelihood):
    generator = np.random.default_rng(0)
    table = generator.poisson(np.repeat([4.0, 12.0], 100)[:, None], (200, 10)).astype(float)
    settings = {"likelihood": likelihood, "max_epochs": 150, "learning_rate": 0.01}
    ones = np.ones(200)
    by_ones = quick(1, **settings).fit(table, size_factors=ones)
    expected = by_ones.inverse_transform(by_ones.transform(table, size_factors=ones)).sum(1)
    assert_allclose([expected[:100].mean(), expected[100:].mean()], [40, 120], rtol=0.1)
    by_sum = quick(1, **settings).fit(table)
    size = table.sum(1)
    expected = by_sum.inverse_transform(by_sum.transform(table)).sum(1)
    tolerance = 0.06 if likelihood == "zinb" else 0.03  # which has to learn that zeros are not in excess
    assert_allclose(expected, np.median(size), rtol=tolerance)
    # a denoised table has every row's own size
    denoised = VAETransformer(1, size_factors="sum", random_state=0, **settings).fit(table).predict(table)
    assert_allclose(denoised.sum(1), size, rtol=tolerance)


def test_their_unit_does_not_matter():
    ours = quick().fit(counts(), size_factors=depths())
    for unit in (1e-4, 3.7, 1e6):
        theirs = quick().fit(counts(), size_factors=unit * depths())
        assert_same_fit(ours, theirs, counts(), 5e-3, (depths(), unit * depths()))
    # of all rows that come later as well: it is the training table's
    tenfold = ours.transform(counts(), size_factors=10 * depths())
    assert_allclose(theirs.transform(counts(), size_factors=1e7 * depths()), tenfold, atol=5e-3)
    assert np.abs(tenfold - ours.transform(counts(), size_factors=depths())).max() > 0.01


@pytest.mark.parametrize("n_components", [1, 2])
def test_sparse_tables_have_the_same(n_components):
    stored, model = sp.csr_array(counts()), fitted("nb", n_components)
    again = quick(n_components).fit(stored)
    assert_allclose(again.lower_bound_, model.lower_bound_, atol=0.01)
    assert_allclose(again.transform(stored), model.transform(counts()), atol=0.05)
    assert_allclose(model.transform(stored), model.transform(counts()), atol=1e-10)
    assert_allclose(model.score_samples(stored), model.score_samples(counts()), rtol=1e-10)
    assert_allclose(model.predict_proba(stored), model.predict_proba(counts()), atol=1e-10)
    assert_array_equal(copy_of(model, size_factors=totals).transform(stored), model.transform(stored))


def test_totals_of_rows_with_gaps_are_extrapolated():
    ours = quick().fit(holey())
    sizes = np.exp(log_size_factors(holey(), "sum", count_means(holey())))
    assert_allclose(sizes, extrapolated(holey()), rtol=1e-10)
    # of other tables by what the training table has had
    others = holey()[:10].copy()
    others[:, 2] = np.nan
    by_hand = copy_of(ours, size_factors=lambda rows: extrapolated(rows))
    assert_allclose(by_hand.score_samples(others), ours.score_samples(others), rtol=1e-10)
    # with nothing missing nothing is extrapolated
    assert_allclose(extrapolated(counts()), totals(counts()))


def test_a_row_with_nothing_but_gaps_has_the_prior():
    rows = counts()[:3].copy()
    rows[1] = np.nan
    prior = fitted().prior_mixture_
    with pytest.warns(UserWarning, match="row 1"):
        assert_allclose(fitted().transform(rows)[1], prior.weights @ prior.means, atol=1e-10)
    with pytest.warns(UserWarning, match="row 1"):
        assert_allclose(fitted().predict_proba(rows)[1], prior.weights, atol=1e-10)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_the_sum_is_for_counts_only(likelihood):
    table = counts() if likelihood == "gaussian" else np.minimum(counts(), 1)
    ours, theirs = (quick(likelihood=likelihood, size_factors=sizes).fit(table) for sizes in ("sum", None))
    assert_same_fit(ours, theirs, table)
    message = f"likelihood='{likelihood}' has no counts"
    with pytest.raises(ValueError, match=message):
        quick(likelihood=likelihood, size_factors=totals).fit(table)
    for method in (quick(likelihood=likelihood).fit, ours.transform):
        with pytest.raises(ValueError, match=message):
            method(table, size_factors=depths())


# ---- what is refused ----------------------------------------------------------------


@pytest.mark.parametrize("stored", [np.asarray, sp.csr_array], ids=["dense", "sparse"])
def test_a_row_without_counts_has_no_sum(stored):
    table = counts().copy()
    table[[5, 8]] = 0
    message = r"^2 rows have no counts.*the first is row 5.*Drop them, or choose size_factors=None\.$"
    with pytest.raises(ValueError, match=message):
        quick().fit(stored(table))
    for method in ("transform", "score_samples", "predict", "elbo"):
        with pytest.warns(UserWarning, match=r"^2 rows have no counts.*the first is row 5.*latent is the prior's"):
            assert np.isfinite(getattr(fitted(), method)(stored(table))).all()
    quick(size_factors=None, max_epochs=2).fit(stored(table)).score(stored(table))


@cache
def fitted_with_sizes():
    """Shared between tests, which must not change it."""
    return quick().fit(counts(), size_factors=depths())


def with_sizes_of_rows(sizes):
    """Calls of methods with sizes of the rows of ``counts``, and of a model whose rule gives them."""
    yield lambda: quick().fit(counts(), size_factors=sizes)
    yield lambda: fitted_with_sizes().transform(counts(), size_factors=sizes)
    yield lambda: quick(size_factors=lambda X: sizes).fit(counts())
    yield lambda: copy_of(fitted(), size_factors=lambda X: sizes).transform(counts())


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_sizes_of_rows_are_positive_numbers(value):
    sizes = depths()
    sizes[[7, 9, 11]] = value
    for call in with_sizes_of_rows(sizes):
        with pytest.raises(ValueError, match=r"^3 rows have no positive number among size_factors .*row 7"):
            call()


@pytest.mark.parametrize("value", [1e-20, 1e300])
def test_a_size_beyond_measure_is_an_error(value):
    sizes = depths()
    sizes[[7, 9]] = value
    for call in with_sizes_of_rows(sizes):
        with pytest.raises(ValueError, match=f"^2 rows have size factors .*: row 7 has {re.escape(f'{value:g}')}"):
            call()
    sizes[[7, 9]] = np.clip(value, 1e-6, 1e6)
    assert np.isfinite(quick().fit(counts(), size_factors=sizes).score(counts(), size_factors=sizes))


@pytest.mark.parametrize("sizes", [np.ones(99), np.ones(101), np.ones((100, 1)), np.ones((100, 7))], ids=np.shape)
def test_there_is_one_size_a_row(sizes):
    for call in with_sizes_of_rows(sizes):
        with pytest.raises(ValueError, match=r"size_factors has shape .* but X has 100 rows"):
            call()


def test_an_array_belongs_to_the_methods():
    message = "^size_factors of VampVAE is an array, which belongs to the rows of one table. Pass it with these: fit"
    with pytest.raises(ValueError, match=message):
        quick(size_factors=depths()).fit(counts())
    with pytest.raises(ValueError, match=message):
        copy_of(fitted(), size_factors=depths()).transform(counts())


@pytest.mark.parametrize("rule", ["sum", "a", totals], ids=["sum", "text", "function"])
def test_a_rule_belongs_to_the_constructor(rule):
    message = r"is no number for each row of X.*VampVAE\(size_factors=\.\.\.\)"
    for method in (quick(size_factors=None).fit, fitted().transform, fitted_with_sizes().transform):
        with pytest.raises(ValueError, match=message):
            method(counts(), size_factors=rule)


def test_other_rows_need_sizes_of_their_own():
    model, rows = copy_of(fitted_with_sizes()), counts()[:10]
    with pytest.raises(ValueError, match=r"fit\(X, size_factors=\.\.\.\): pass those of the rows of this X, too"):
        model.transform(rows)
    for rule in (None, "sum", totals):  # which is for the next fit
        with pytest.raises(ValueError, match="pass those of the rows of this X, too"):
            copy_of(model, size_factors=rule).transform(rows)
    all_rows = model.transform(counts(), size_factors=depths())
    assert_allclose(model.transform(rows, size_factors=depths()[:10]), all_rows[:10], atol=1e-10)


def test_a_rule_holds_for_other_rows():
    rows, sizes = counts()[:10], totals(counts()[:10])
    with pytest.raises(ValueError, match=r"fitted with a rule for size factors.*Leave size_factors=\.\.\. out"):
        fitted().transform(rows, size_factors=sizes)
    with pytest.raises(ValueError, match=r"fitted with size factors.*set_params\(size_factors=\.\.\.\) to the rule"):
        copy_of(fitted(), size_factors=None).transform(rows)


def test_a_model_without_sizes_has_no_use_for_them():
    without = quick(size_factors=None).fit(counts())
    assert_array_equal(copy_of(without, size_factors="sum").transform(counts()), without.transform(counts()))
    with pytest.raises(ValueError, match="are given, but the model was fitted without any: leave them out"):
        without.transform(counts(), size_factors=depths())


def test_sizes_given_in_any_method_are_those_of_its_rows():
    """Sizes by a rule, and the same ones given, are one model."""
    by_rule, given = quick(size_factors=totals).fit(counts()), quick().fit(counts(), size_factors=totals(counts()))
    rows, tolerance = counts(seed=3)[:12], {"rtol": 1e-8, "atol": 1e-8}
    sizes = {"size_factors": totals(rows)}
    for method in ("transform", "score_samples", "score", "elbo", "conditional_log_likelihood", "predict_proba"):
        assert_allclose(getattr(given, method)(rows, **sizes), getattr(by_rule, method)(rows), **tolerance)
    assert_array_equal(given.predict(rows, **sizes), by_rule.predict(rows))
    ours, theirs = by_rule.posterior(rows), given.posterior(rows, **sizes)
    assert_allclose([theirs.lower, theirs.upper], [ours.lower, ours.upper], **tolerance)


def test_searches_choose_between_rules():
    sums = partial(np.sum, axis=1)
    search = GridSearchCV(quick(max_epochs=2), {"size_factors": [sums, None, totals]}, cv=2, error_score="raise")
    results = search.fit(counts()).cv_results_["mean_test_score"]
    assert results[0] == results[2] != results[1]


# ---- rows ----------------------------------------------------------------


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("likelihood", LOG_LINKS)
def test_rows_are_judged_one_by_one(likelihood):
    model, rows = fitted(likelihood), counts()[:8]
    together, scores = model.transform(rows), model.score_samples(rows)
    assert_allclose(np.vstack([model.transform(row[None]) for row in rows]), together, atol=1e-10)
    assert_allclose(np.concatenate([model.score_samples(row[None]) for row in rows]), scores, rtol=1e-8)
    assert_allclose(model.score_samples(rows[::-1]), scores[::-1], rtol=1e-8)
    by_hand = copy_of(model, size_factors=totals)
    assert_allclose(by_hand.score_samples(rows[::-1]), scores[::-1], rtol=1e-8)


def test_rows_that_are_held_out_take_their_sizes_along():
    stopped = {"early_stopping": True, "validation_fraction": 0.3, "max_epochs": 4}
    ours = quick(size_factors=totals, **stopped).fit(counts())
    theirs = quick(**stopped).fit(counts(), size_factors=totals(counts()))
    assert_same_fit(ours, theirs, counts(), sizes=(None, totals(counts())))
    assert_allclose(theirs.history_[:, "valid_loss"], ours.history_[:, "valid_loss"], rtol=1e-6)


@pytest.mark.filterwarnings("ignore:.*lie beyond the range of the training samples")  # ten times the counts do
@pytest.mark.parametrize("likelihood", LOG_LINKS)
def test_proportional_rows_have_the_same_latent(likelihood):
    """The encoder sees counts divided by their sum, of which only the likelihood is another one."""
    model, rows = fitted(likelihood), counts()[:10]
    for factor in (2, 10):
        ours, theirs = model.posterior(rows), model.posterior(factor * rows)
        assert_allclose(theirs.mean, ours.mean, atol=1e-10)
        assert_allclose(theirs.sd, ours.sd, rtol=1e-10)
        assert_allclose(model.predict_proba(factor * rows), model.predict_proba(rows), atol=1e-10)
        assert (model.score_samples(factor * rows) < model.score_samples(rows)).all()
    without = quick(likelihood=likelihood, size_factors=None).fit(counts())
    assert np.abs(without.transform(2 * rows) - without.transform(rows)).max() > 0.01


# ---- likelihoods ----------------------------------------------------------------


@pytest.mark.parametrize("likelihood", ["poisson", "nb"])
def test_expected_counts_are_shares_of_a_whole(likelihood):
    sums = (
        quick(likelihood=likelihood).fit(counts()).trajectories(np.random.default_rng(0).normal(0, 3, (20, 2))).sum(1)
    )
    assert_allclose(sums, sums[0], rtol=1e-6)
    assert_allclose(sums, np.median(totals(counts())), rtol=0.02)  # a sample of median size


def log_densities(model, rows, sizes, z):
    """log p(x | z) of rows at points z (P, Q), by scipy: (N, P)."""
    means = sizes[:, None, None] * model.trajectories(z)
    if model.likelihood == "poisson":
        entries = poisson.logpmf(rows[:, None], means)
    else:
        theta = model.dispersion_
        entries = nbinom.logpmf(rows[:, None], theta, theta / (theta + means))
    return np.where(np.isnan(rows)[:, None], 0, entries).sum(-1)


def log_prior(model, z):
    prior = model.prior_mixture_
    components = norm.logpdf(z[:, None], prior.means, prior.sds).sum(-1)
    return logsumexp(components + np.log(prior.weights), axis=1)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("estimator", [VampVAE, VAETransformer])
@pytest.mark.parametrize("likelihood", ["poisson", "nb"])
def test_scores_are_given_the_size(likelihood, estimator):
    """With one component, against the sum over a fine grid."""
    model = estimator(1, likelihood=likelihood, size_factors="sum", max_epochs=8, random_state=0).fit(holey())
    model.set_params(n_importance_samples=20_000)
    rows = np.vstack([holey()[:6], 3 * holey()[6:9]])
    z = np.linspace(-12, 12, 1601)[:, None]
    sizes = extrapolated(rows) / np.exp(np.median(np.log(extrapolated(holey()))))
    joint = log_densities(model, rows, sizes, z) + log_prior(model, z)
    expected = logsumexp(joint, axis=1) + np.log(z[1, 0] - z[0, 0])
    difference = np.abs(model.score_samples(rows) - expected)
    assert np.median(difference) < 1e-3
    assert difference.max() < 0.01
    # and at the posterior's mean
    at_mean = np.diagonal(log_densities(model, rows, sizes, model.transform(rows))).mean()
    assert_allclose(model.conditional_log_likelihood(rows), at_mean, rtol=1e-6)


def test_samples_have_sizes_like_the_training_table():
    drawn = np.log(np.maximum(totals(fitted("poisson").sample(4000, random_state=0)), 0.5))
    seen = np.log(totals(counts()))
    assert_allclose(drawn.mean(), seen.mean(), atol=0.1)
    assert_allclose(drawn.std(), seen.std(), rtol=0.15)
    without = quick(likelihood="poisson", size_factors=None).fit(counts())
    assert np.log(np.maximum(totals(without.sample(4000, random_state=0)), 0.5)).std() < 0.8 * seen.std()


@pytest.mark.parametrize("size_factors", [lambda X: "many", lambda X: [None] * len(X), lambda X: 2.0])
def test_what_a_function_gives_is_checked_like_an_array(size_factors):
    with pytest.raises(ValueError, match="size_factors"):
        quick(size_factors=size_factors).fit(counts())
