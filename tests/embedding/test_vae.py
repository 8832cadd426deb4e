"""VAETransformer from outside: factor analysis where it is linear, bounds where it is not."""

import itertools
from contextlib import nullcontext
from copy import copy
from functools import cache

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm
from sklearn.decomposition import FactorAnalysis
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

from skdevae import VAETransformer
from skdevae.datasets import make_progression_counts
from skdevae.training.interrupts import FitInterrupted

COUNT_LIKELIHOODS = ("poisson", "nb", "zinb", "bernoulli")
LIKELIHOODS = ("gaussian", *COUNT_LIKELIHOODS)
DECODERS = ("mlp", "linear")
#: dimensions of the latent
DIMENSIONS = (1, 2, 3)
#: every likelihood on a line and in a plane; what is more, for one of each kind
MODELS = [*itertools.product(LIKELIHOODS, (1, 2)), ("gaussian", 3), ("nb", 3)]
#: the same with decoders: the linear one for some of them
DECODED = [(*model, "mlp") for model in MODELS]
DECODED += [("gaussian", 1, "linear"), ("gaussian", 2, "linear"), ("gaussian", 3, "linear"), ("zinb", 2, "linear")]


def quick(n_components=2, **parameters):
    """An estimator for laws that hold however long it trains."""
    return VAETransformer(
        n_components, **{"max_epochs": 10, "n_importance_samples": 64, "random_state": 0, **parameters}
    )


@cache
def factors(n_components=2, n_samples=400, n_features=8, seed=0):
    """A table from a factor model."""
    generator = np.random.default_rng(seed)
    latent = generator.standard_normal((n_samples, n_components))
    loadings = generator.normal(size=(n_components, n_features))
    noise = generator.uniform(0.5, 1, n_features) * generator.standard_normal((n_samples, n_features))
    return generator.normal(0, 3, n_features) + latent @ loadings + noise


@cache
def counts(likelihood="nb"):
    table = make_progression_counts(120, 8, density=0.5, random_state=0).data.toarray().astype(np.float64)
    return np.minimum(table, 1) if likelihood == "bernoulli" else table


def table_for(likelihood):
    return factors(n_samples=120) if likelihood == "gaussian" else counts(likelihood)


@cache
def fitted(likelihood="gaussian", n_components=2, decoder="mlp"):
    """Shared between tests, which must not change it."""
    return quick(n_components, likelihood=likelihood, decoder=decoder).fit(table_for(likelihood))


@cache
def factor_analysis(n_components):
    """Trained by default, but for a shorter time, and for the floor of noise, which factor analysis has not."""
    trained = {"noise_floor": 0.01, "batch_size": 100, "max_epochs": 150}
    return VAETransformer(n_components, decoder="linear", random_state=0, **trained).fit(factors(n_components))


def encoded(model, table):
    """Means and sds (N, Q) that the encoder gives to rows of a table."""
    source = model._reader_.read(table).source(torch.zeros((), dtype=torch.float64))
    encoding = model._float64_module().encoder(source.rows(slice(None)).dense())
    return encoding.mean.numpy(), encoding.log_sd.exp().numpy()


def with_holes(table, share=0.2, seed=0):
    holes = np.random.default_rng(seed).random(table.shape) < share
    return np.where(holes, np.nan, table)


def gaussian_model(model):
    """Mean (D,), loadings (D, Q) and noise variances (D,), in the units of X, that a linear decoder's weights say."""
    module = model._float64_module()
    level, loadings = (t.detach().numpy() for t in (module.decoder.level, module.decoder.loadings))
    units = model._reader_.units
    variance = (units.scale * module.likelihood.scale.detach().numpy()) ** 2
    return units.to_user(level), (units.scale * loadings).T, variance


def marginal_log_density(model, table):
    """log N(x | b, W W^T + Psi) of the entries that are there, (N,)."""
    level, loadings, variance = gaussian_model(model)
    covariance = loadings @ loadings.T + np.diag(variance)
    return np.array(
        [
            multivariate_normal.logpdf(row[seen], level[seen], covariance[np.ix_(seen, seen)])
            for row, seen in zip(table, ~np.isnan(table), strict=True)
        ]
    )


# ---- factor analysis ----------------------------------------------------------------


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("n_components", [1, 2])
def test_a_linear_model_is_factor_analysis(n_components):
    table, model = factors(n_components), factor_analysis(n_components)
    reference = FactorAnalysis(n_components, tol=1e-8, max_iter=5000).fit(table)
    score = model.score(table)
    assert_allclose(score, reference.score(table), rtol=0, atol=0.01)
    assert_allclose(model.noise_scale_, np.sqrt(reference.noise_variance_), rtol=0.15)
    _, loadings, variance = gaussian_model(model)
    assert_allclose(
        loadings @ loadings.T + np.diag(variance),
        reference.get_covariance(),
        atol=0.05 * np.diag(reference.get_covariance()).max(),
    )
    # a Gaussian with independent components is enough, once the axes are turned to the posterior's own
    assert score - 2e-3 <= model.elbo(table) <= score + 1e-6


@pytest.mark.parametrize("n_components", [1, 2])
def test_a_fitted_encoder_is_bayes_rule(n_components):
    table, model = factors(n_components), factor_analysis(n_components)
    level, loadings, variance = gaussian_model(model)
    covariance = np.linalg.inv(np.eye(n_components) + loadings.T @ (loadings / variance[:, None]))
    expected_mean = (table - level) / variance @ loadings @ covariance
    expected_sd = np.tile(np.sqrt(np.diag(covariance)), (len(table), 1))
    mean, sd = encoded(model, table)
    assert_allclose(mean, expected_mean, atol=0.15)
    assert_allclose(sd, expected_sd, rtol=0.1)
    posterior = model.posterior(table, credible_level=0.9)
    is_exact = n_components == 1
    assert_allclose(posterior.mean, expected_mean if is_exact else mean, rtol=0, atol=1e-4 if is_exact else 1e-12)
    assert_allclose(posterior.sd, expected_sd if is_exact else sd, rtol=1e-3 if is_exact else 1e-12)
    half_width = norm.ppf(0.95) * posterior.sd
    tolerance = {"rtol": 0, "atol": 1e-3 * posterior.sd.min()} if is_exact else {"rtol": 1e-10}
    assert_allclose(posterior.lower, posterior.mean - half_width, **tolerance)
    assert_allclose(posterior.upper, posterior.mean + half_width, **tolerance)


@pytest.mark.parametrize("holes", [0.0, 0.3])
@pytest.mark.parametrize("n_components", DIMENSIONS)
def test_score_of_a_linear_model_is_the_gaussian_density(n_components, holes):
    model, table = fitted("gaussian", n_components, "linear"), with_holes(table_for("gaussian")[:50], holes)
    # on a grid in one dimension; exact by importance sampling, whose proposal is the posterior, in more
    atol = 1e-4 if n_components == 1 else 1e-8
    assert_allclose(model.score_samples(table), marginal_log_density(model, table), rtol=0, atol=atol)


@pytest.mark.filterwarnings("ignore:1 samples .* lie beyond the range")
@pytest.mark.parametrize("distance", [8, 15, -15])
@pytest.mark.parametrize("n_components", DIMENSIONS)
def test_samples_far_outside_are_scored_too(n_components, distance):
    model = fitted("gaussian", n_components, "linear")
    level, loadings, _ = gaussian_model(model)
    row = (level + distance * loadings[:, 0])[None]
    expectation = pytest.warns(UserWarning, match="the first is row 0") if abs(distance) > 10 else nullcontext()
    with expectation:
        scores = model.score_samples(row)
    assert_allclose(scores, marginal_log_density(model, row), rtol=0, atol=1e-4)


@pytest.mark.parametrize("n_components", DIMENSIONS)
def test_trajectories_and_derivatives_of_a_linear_model_are_a_plane(n_components):
    model = fitted("gaussian", n_components, "linear")
    level, loadings, _ = gaussian_model(model)
    z = np.random.default_rng(0).normal(0, 5, (20, n_components))
    assert_allclose(model.trajectories(z), level + z @ loadings.T, rtol=1e-10, atol=1e-10)
    rates = model.derivatives(z).reshape(20, 8, n_components)
    assert_allclose(rates, np.broadcast_to(loadings, rates.shape), rtol=1e-10)


@pytest.mark.parametrize("n_components", DIMENSIONS)
def test_elbo_of_a_linear_model_in_closed_form(n_components):
    """E_q log p(x | z) - KL for q = N(m, diag s^2): squares of residuals have s^2 times squared loadings."""
    model, table = fitted("gaussian", n_components, "linear"), with_holes(table_for("gaussian"))
    level, loadings, variance = gaussian_model(model)
    mean, sd = encoded(model, table)
    square = (table - level - mean @ loadings.T) ** 2 + sd**2 @ loadings.T**2
    expected = np.where(np.isnan(table), 0, -0.5 * square / variance - 0.5 * np.log(2 * np.pi * variance)).sum(1)
    divergence = (0.5 * (mean**2 + sd**2 - 1) - np.log(sd)).sum(1)
    assert_allclose(model.elbo(table), (expected - divergence).mean(), rtol=0, atol=1e-8 if n_components == 1 else 5e-3)
    # and the likelihood at the posterior's mean, without its spread
    residual = table - level - model.transform(table) @ loadings.T
    at_mean = np.where(np.isnan(table), 0, norm.logpdf(residual, 0, np.sqrt(variance))).sum(1).mean()
    assert_allclose(model.conditional_log_likelihood(table), at_mean, rtol=1e-8)


def test_a_perceptron_without_hidden_layers_is_linear():
    table = table_for("gaussian")
    model = quick(decoder="mlp", hidden_layer_sizes=()).fit(table)
    z = model.transform(table)
    assert_array_equal(z, fitted(decoder="linear").transform(table))
    assert_array_equal(model.score_samples(table), fitted(decoder="linear").score_samples(table))
    assert_array_equal(quick(decoder="linear", hidden_layer_sizes=()).fit_transform(table), z)
    assert (fitted().transform(table) != z).any()


@pytest.mark.parametrize("sizes", [(3,), [8, 8], (64,)])
def test_a_linear_decoder_has_no_hidden_layers(sizes):
    with pytest.raises(ValueError, match=r"hidden_layer_sizes=.*decoder='linear' has no hidden layers"):
        quick(decoder="linear", hidden_layer_sizes=sizes).fit(table_for("gaussian"))


def test_a_perceptron_describes_what_a_plane_does_not():
    generator = np.random.default_rng(0)
    z = generator.standard_normal(300)
    table = np.column_stack([z, z**2, np.sin(2 * z), z]) + 0.2 * generator.standard_normal((300, 4))
    mlp, linear = (quick(1, decoder=decoder, max_epochs=60, weight_precision=1.0).fit(table) for decoder in DECODERS)
    assert mlp.score(table) > linear.score(table) + 0.5


# ---- bounds and scores ----------------------------------------------------------------


@pytest.mark.slow(keep=4)
@pytest.mark.parametrize(("likelihood", "n_components", "decoder"), DECODED)
def test_the_bound_is_below_the_score(likelihood, n_components, decoder):
    model, table = fitted(likelihood, n_components, decoder), table_for(likelihood)[:30]
    score, scores = model.score(table), model.score_samples(table)
    assert scores.shape == (30,)
    assert np.isfinite(scores).all()
    assert score == scores.mean()
    assert model.elbo(table) <= score + 1e-3


@pytest.mark.slow(keep=4)
@pytest.mark.parametrize(("likelihood", "n_components"), MODELS)
def test_what_a_fit_maximises_is_the_bound_less_what_weights_cost(likelihood, n_components):
    model, table = fitted(likelihood, n_components), table_for(likelihood)
    with torch.no_grad():
        cost = -float(model.module_.log_prior())
    assert_allclose(model.lower_bound_, model.elbo(table) - cost / len(table), rtol=0, atol=0.02)


@pytest.mark.parametrize("n_components", [1, 2])
@pytest.mark.parametrize("likelihood", ["gaussian", "poisson", "bernoulli"])
def test_score_is_the_integral_over_the_latent(likelihood, n_components):
    model, rows = copy(fitted(likelihood, n_components)), with_holes(table_for(likelihood)[:15], 0.1)
    model.set_params(n_importance_samples=2048)
    axis = np.linspace(-7, 7, 141)
    points = np.stack(np.meshgrid(*[axis] * n_components, indexing="ij"), -1).reshape(-1, n_components)
    log_mass = norm.logpdf(points).sum(1) + n_components * np.log(axis[1] - axis[0])
    curves = model.trajectories(points)
    with torch.no_grad():
        _, source, inference = model._for_inference(rows)
        tables, dense = inference.model.predictive_tables(torch.from_numpy(points)), source.rows(slice(None)).dense()
        joint = dense.log_likelihood(tables) + inference.model.likelihood.row_constant(dense)[:, None]
    joint = joint.numpy()
    if likelihood == "gaussian":
        observed = ~np.isnan(rows)
        joint = np.stack(
            [
                norm.logpdf(row[seen], curves[:, seen], model.noise_scale_[seen]).sum(1)
                for row, seen in zip(rows, observed, strict=True)
            ]
        )
    expected = logsumexp(joint + log_mass, axis=1)
    difference = np.abs(model.score_samples(rows) - expected)
    assert np.median(difference) < (1e-4 if n_components == 1 else 0.01)
    assert difference.max() < (1e-3 if n_components == 1 else 0.3)


def test_more_draws_are_closer_to_the_score():
    table, model = counts("nb")[:60], copy(fitted("nb"))
    scores = [model.set_params(n_importance_samples=n).score(table) for n in (1, 50, 1000)]
    assert abs(scores[1] - scores[2]) < 0.05
    assert scores[0] < scores[2]


@pytest.mark.parametrize("n_components", DIMENSIONS)
@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_a_row_without_data_has_the_prior(likelihood, n_components):
    model, rows = fitted(likelihood, n_components), table_for(likelihood)[:4].copy()
    rows[2] = np.nan
    with pytest.warns(UserWarning, match="row 2"):
        posterior = model.posterior(rows)
    assert_array_equal(posterior.mean[2], 0)
    assert_array_equal(posterior.sd[2], 1)
    with pytest.warns(UserWarning, match="row 2"):
        assert_allclose(model.score_samples(rows)[2], 0, atol=1e-4 if n_components == 1 else 1e-6)


@pytest.mark.filterwarnings("ignore:The posteriors of 1 of 1 samples", "ignore:1 samples .* lie beyond the range")
@pytest.mark.parametrize("likelihood", COUNT_LIKELIHOODS)
def test_rows_of_absurd_counts_have_a_finite_score(likelihood):
    value = 1.0 if likelihood == "bernoulli" else 1e5
    for n_components in (1, 2):
        model = fitted(likelihood, n_components)
        rows = np.full((1, 8), value)
        assert np.isfinite(model.score_samples(rows)).all()


# ---- from the latent to the table ----------------------------------------------------------------


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("n_components", DIMENSIONS)
def test_predictions_are_inverse_transforms_and_fill_gaps(n_components):
    truth, table = table_for("gaussian"), with_holes(table_for("gaussian"))
    model = quick(n_components, max_epochs=60).fit(table)
    expected, z = model.predict(table), model.transform(table)
    assert_array_equal(expected, model.inverse_transform(z))
    assert_array_equal(expected, model.trajectories(z))
    assert np.isfinite(expected).all()
    gaps = np.isnan(table)
    assert ((expected - truth)[gaps] ** 2).mean() < 0.9 * ((truth - truth.mean(0))[gaps] ** 2).mean()


@pytest.mark.parametrize("n_components", DIMENSIONS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_derivatives_are_differences_of_trajectories(likelihood, n_components):
    model = fitted(likelihood, n_components)
    z = np.random.default_rng(0).uniform(-3, 3, (20, n_components))
    rates = model.derivatives(z).reshape(20, 8, n_components)
    for component in range(n_components):
        step = 1e-5 * np.eye(n_components)[component]
        differences = (model.trajectories(z + step) - model.trajectories(z - step)) / 2e-5
        assert_allclose(rates[:, :, component], differences, rtol=1e-4, atol=1e-6)


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize(("likelihood", "n_components"), MODELS)
def test_samples_have_the_moments_of_the_model_and_of_the_table(likelihood, n_components):
    table = table_for(likelihood)
    model, n = quick(n_components, likelihood=likelihood, max_epochs=60).fit(table), 5000
    drawn = model.sample(n, random_state=0)
    assert drawn.shape == (n, 8)
    expected = model.trajectories(np.random.default_rng(0).standard_normal((n, n_components)))
    error = (drawn.std(0) + expected.std(0)) / np.sqrt(n)
    assert (np.abs(drawn.mean(0) - expected.mean(0)) < 6 * error).all()
    if likelihood != "poisson":  # the table is not
        assert np.median(np.abs(drawn.mean(0) - table.mean(0)) / table.std(0)) < 0.2
        assert (drawn.std(0) / table.std(0) > 0.6).all()
    if likelihood != "gaussian":
        assert_array_equal(drawn, np.round(drawn))
        assert drawn.min() == 0
    assert_array_equal(model.sample(3, random_state=1), model.sample(3, random_state=1))


def test_samples_of_a_linear_model_have_its_covariance():
    model, n = fitted(decoder="linear"), 50_000
    level, loadings, variance = gaussian_model(model)
    covariance = loadings @ loadings.T + np.diag(variance)
    drawn = model.sample(n, random_state=0)
    error = np.sqrt((covariance**2 + np.outer(np.diag(covariance), np.diag(covariance))) / n)
    assert (np.abs(np.cov(drawn.T) - covariance) < 5 * error).all()
    assert (np.abs(drawn.mean(0) - level) < 5 * np.sqrt(np.diag(covariance) / n)).all()


# ---- units, orders, batches ----------------------------------------------------------------


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize(("n_components", "decoder"), [(1, "mlp"), (2, "mlp"), (2, "linear"), (3, "linear")])
def test_units_do_not_matter(n_components, decoder):
    table = with_holes(table_for("gaussian"), 0.05)
    generator = np.random.default_rng(0)
    factor = 10 ** generator.uniform(-3, 3, 8) * generator.choice([1.0, 1.0], 8)
    shift = generator.normal(0, 10, 8) * factor
    ours, theirs = (quick(n_components, decoder=decoder).fit(rows) for rows in (table, factor * table + shift))
    assert_allclose(theirs.transform(factor * table + shift), ours.transform(table), atol=1e-3)
    in_other_units = ours.score_samples(table) - ~np.isnan(table) @ np.log(factor)
    assert_allclose(theirs.score_samples(factor * table + shift), in_other_units, rtol=0, atol=0.02)
    assert_allclose(theirs.noise_scale_, factor * ours.noise_scale_, rtol=1e-3)


def test_a_negative_factor_turns_curves_upside_down():
    table, sign = table_for("gaussian"), np.resize([1.0, -1.0], 8)
    ours, theirs = (quick(decoder="linear", max_epochs=60).fit(rows) for rows in (table, sign * table))
    assert_allclose(theirs.score(sign * table), ours.score(table), atol=0.1)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("decoder", DECODERS)
def test_permuted_columns_have_permuted_curves(decoder):
    table, order = factors(1, n_samples=120), np.random.default_rng(0).permutation(8)
    ours, theirs = (quick(1, decoder=decoder, max_epochs=120).fit(rows) for rows in (table, table[:, order]))
    assert_allclose(theirs.score(table[:, order]), ours.score(table), atol=0.05)
    points = np.linspace(-2, 2, 9)
    assert_allclose(theirs.trajectories(points), ours.trajectories(points)[:, order], atol=0.3)


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize(("likelihood", "n_components", "decoder"), DECODED)
def test_rows_are_judged_one_by_one(likelihood, n_components, decoder):
    model, table = fitted(likelihood, n_components, decoder), with_holes(table_for(likelihood)[:3], share=0.1)
    together, scores = model.transform(table), model.score_samples(table)
    for batches in (np.array_split(table, 2), table[:, None]):
        assert_allclose(np.vstack([model.transform(batch) for batch in batches]), together, atol=1e-10)
        assert_allclose(np.concatenate([model.score_samples(batch) for batch in batches]), scores, rtol=1e-8)
    assert_allclose(model.transform(table[::-1]), together[::-1], atol=1e-10)
    assert_allclose(model.score_samples(table[::-1]), scores[::-1], rtol=1e-8)


# ---- the axes ----------------------------------------------------------------


@pytest.mark.parametrize("n_components", [1, 2])
def test_the_first_axis_follows_what_it_is_told(n_components):
    table = table_for("gaussian")
    target = table @ np.linspace(-1, 1, 8)
    for variable in (target, -target):
        latent = quick(n_components, max_epochs=5).fit(table, orientation=variable).transform(table)
        assert np.corrcoef(latent[:, 0], variable)[0, 1] > 0
    for column in (0, 5):
        latent = quick(n_components, max_epochs=5, orientation=column).fit(table).transform(table)
        assert np.corrcoef(latent[:, 0], table[:, column])[0, 1] > 0
    for rows in (table, -table):
        latent = quick(n_components, max_epochs=5).fit(rows).transform(rows)
        correlations = np.corrcoef(latent, rows, rowvar=False)[:n_components, n_components:]
        assert (correlations.sum(1) >= -1e-6).all()


# ---- randomness, training ----------------------------------------------------------------


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_same_seed_same_bits(likelihood, decoder):
    table, ours = table_for(likelihood), fitted(likelihood, decoder=decoder)
    theirs = quick(likelihood=likelihood, decoder=decoder).fit(table)
    assert_array_equal(theirs.transform(table), ours.transform(table))
    assert_array_equal(theirs.score_samples(table), ours.score_samples(table))
    assert theirs.lower_bound_ == ours.lower_bound_
    assert theirs.history_[:, "train_loss"] == ours.history_[:, "train_loss"]
    other = quick(likelihood=likelihood, decoder=decoder, random_state=1).fit(table)
    assert (other.transform(table[:20]) != ours.transform(table[:20])).any()


def test_history_has_every_term_of_the_loss():
    model = quick(kl_warmup=0.0, beta=1.5).fit(table_for("gaussian"))
    assert model.n_iter_ == len(model.history_) == 10
    for row in model.history_:
        assert row["train_clusters"] == 0
        assert row["train_latent"] > 0
        expected = row["train_reconstruction"] + 1.5 * row["train_latent"] + row["train_parameters"] / 120
        assert_allclose(row["train_loss"], expected, rtol=1e-4)


def test_warm_up_leaves_the_divergence_out_at_first():
    model = quick(kl_warmup=0.5, max_epochs=10).fit(table_for("gaussian"))
    row = model.history_[0]
    assert_allclose(row["train_loss"], row["train_reconstruction"] + row["train_parameters"] / 120, rtol=1e-4)


def test_epochs_by_default_make_enough_steps():
    # nothing is trained: the first epoch's callback ends the fit
    class Stop(Callback):
        def on_epoch_begin(self, net, **kwargs):
            self.max_epochs = net.max_epochs
            raise KeyboardInterrupt

    for n_samples, batch_size, expected in ((120, 128, 4000), (400, 128, 1000), (400, 10, 200), (400, 400, 4000)):
        stop = Stop()
        quick(max_epochs=None, batch_size=batch_size, callbacks=[stop]).fit(factors(n_samples=n_samples))
        assert stop.max_epochs == expected


def test_early_stopping_watches_rows_that_it_does_not_train_on():
    table = table_for("gaussian")
    model = quick(early_stopping=True, validation_fraction=0.3, max_epochs=200, n_iter_no_change=2, tol=0.05).fit(table)
    assert np.isfinite(model.history_[:, "valid_loss"]).all()
    assert model.n_iter_ < 200
    assert np.isfinite(model.score(table))
    assert "valid_loss" not in fitted().history_[-1]


def test_more_starts_never_lower_the_bound():
    assert quick(n_init=3).fit(table_for("gaussian")).lower_bound_ >= fitted().lower_bound_


class KeyboardAt(Callback):
    """The keyboard itself, not a callback that asks to stop: raised while a batch is being worked on."""

    def __init__(self, monkeypatch, epoch):
        self.monkeypatch, self.epoch = monkeypatch, epoch

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) > self.epoch:

            def stopped(*args, **kwargs):
                raise KeyboardInterrupt

            self.monkeypatch.setattr(net, "train_step", stopped)


@pytest.mark.parametrize(("n_components", "n_init"), [(1, 1), (2, 3), (3, 1)])
def test_an_interrupted_fit_keeps_what_it_has_learned(n_components, n_init, monkeypatch):
    table = table_for("gaussian")[:60]
    model = quick(n_components, n_init=n_init, callbacks=[KeyboardAt(monkeypatch, 4)])
    with pytest.raises(FitInterrupted, match="interrupted after 4 epochs"):
        model.fit(table)
    assert model.n_iter_ == len(model.history_) == 4
    assert np.isfinite(model.score(table))
    assert np.isfinite(model.lower_bound_)
    assert model.transform(table).shape == (60, n_components)


# ---- inside scikit-learn ----------------------------------------------------------------


@pytest.mark.parametrize("n_components", [1, 3])
def test_names_of_latents_and_frames(n_components):
    table = pd.DataFrame(table_for("gaussian"), index=[f"row {i}" for i in range(120)]).add_prefix("feature ")
    model = quick(n_components, max_epochs=3).set_output(transform="pandas").fit(table)
    names = [f"vaetransformer{component}" for component in range(n_components)]
    assert model.get_feature_names_out().tolist() == names
    latent = model.transform(table)
    assert latent.columns.tolist() == names
    assert latent.index.equals(table.index)
    again = quick(orientation="feature 3", max_epochs=1).fit(table)
    assert again.feature_names_in_.tolist() == table.columns.tolist()


def test_in_a_pipeline_and_a_grid_search():
    table = factors(n_samples=120) * 7 + 3
    pipeline, alone = make_pipeline(StandardScaler(), quick()).fit(table), quick().fit(table)
    assert_allclose(pipeline.transform(table), alone.transform(table), atol=1e-3)
    assert_allclose(pipeline.score(table), alone.score(table) + np.log(pipeline[0].scale_).sum(), atol=1e-3)
    search = GridSearchCV(quick(max_epochs=60), {"n_components": [1, 2]}, cv=2, error_score="raise").fit(table)
    assert search.best_params_ == {"n_components": 2}
    assert search.transform(table).shape == (120, 2)


def test_float32_in_float32_out():
    table = table_for("gaussian").astype(np.float32)
    model = quick(max_epochs=2).fit(table)
    assert model.transform(table).dtype == model.predict(table).dtype == np.float32
    assert model.posterior(table).upper.dtype == np.float32


@pytest.mark.parametrize(
    "parameters",
    [
        {"n_components": 0},
        {"decoder": "cnn"},
        {"prior": "vmf"},
        {"posterior_family": "vmf"},
        {"hidden_layer_sizes": (0,)},
        {"encoder_hidden_layer_sizes": (-1,)},
        {"n_importance_samples": 0},
    ],
    ids=str,
)
def test_parameters_are_validated(parameters):
    (name,) = parameters
    with pytest.raises(ValueError, match=name):
        VAETransformer(**parameters).fit(table_for("gaussian"))


# ---- counts ----------------------------------------------------------------


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize(("likelihood", "n_components"), [model for model in MODELS if model[0] != "gaussian"])
def test_sparse_tables_are_tables(likelihood, n_components):
    table, model = counts(likelihood), fitted(likelihood, n_components)
    again = quick(n_components, likelihood=likelihood).fit(sp.csr_array(table))
    assert_allclose(again.lower_bound_, model.lower_bound_, atol=0.01)
    rows = table[:20]
    stored = sp.csr_array(rows)
    assert_allclose(again.transform(rows), model.transform(rows), atol=0.05)
    assert_allclose(model.transform(stored), model.transform(rows), atol=1e-8)
    assert_allclose(model.score_samples(stored), model.score_samples(rows), rtol=1e-9)
    assert_allclose(model.elbo(stored), model.elbo(rows), rtol=1e-10)
    assert_allclose(model.conditional_log_likelihood(stored), model.conditional_log_likelihood(rows), rtol=1e-8)
    assert_allclose(model.predict(stored), model.predict(rows), rtol=1e-6)
