"""Inference by an encoder: moments of its posterior, bounds in closed form, where a grid takes the integral."""

import numpy as np
import pandas as pd
import pytest
import torch
from agreement import assert_agree
from inference.random_models import (
    FLOW,
    LEARNED_MIXTURE,
    NORMAL,
    VAMP,
    drawn_table,
    gaussian_marginal,
    random_model,
    random_table,
    source_of,
)
from scipy.stats import norm

from skdevae import DeVAETransformer
from skdevae.inference import EncoderInference, amortized_elbo, mean_elbo
from skdevae.inference.draws import normal_draws

KINDS = {"normal": (NORMAL, NORMAL), "vamp": (VAMP, NORMAL), "mixture": (LEARNED_MIXTURE, NORMAL), "flow": (VAMP, FLOW)}


def _model(likelihood="gaussian", kind="normal", n_components=2, **options):
    prior, family = KINDS[kind]
    return random_model(
        "amortized", likelihood, n_components=n_components, prior=prior, posterior_family=family, **options
    )


def _draws(model, source, n=4096):
    """Many draws (S, N, Q) from every row's posterior, and their log density (S, N)."""
    encoding = model.encoder(source.rows(slice(None)).dense())
    noise = normal_draws(n, model.n_components)[:, None].expand(-1, len(source), -1)
    return model.posterior_family.draw(encoding, noise)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_components", [1, 3])
def test_posteriors_have_the_moments_and_quantiles_of_draws(n_components, kind):
    model = _model("nb", kind, n_components, spread=0.3)
    source = source_of(random_table("nb", 6, missing=0.2))
    found = EncoderInference(model, 64).encoded_posterior(source, credible_level=0.8)
    z, _ = _draws(model, source)
    scale = z.std(0)
    assert ((found.mean - z.mean(0)).abs() < 0.03 * scale).all()
    assert ((found.sd / scale - 1).abs() < 0.1).all()
    tails = torch.tensor([0.1, 0.9], dtype=torch.float64)
    for bound, quantile in zip((found.lower, found.upper), z.quantile(tails, 0), strict=True):
        assert ((bound - quantile).abs() < 0.2 * scale).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_without_entries_has_the_priors_latent(kind):
    model, table = _model("nb", kind), random_table("nb", 5)
    table[2] = np.nan
    inference, source = EncoderInference(model, 64), source_of(table)
    found, prior = inference.posterior(source, credible_level=0.9), model.latent_prior()
    z, _ = prior.draw(100_000, torch.Generator().manual_seed(0))
    np.testing.assert_allclose(found.mean[2], z.mean(0), atol=0.02)
    np.testing.assert_allclose(found.sd[2], z.std(0), rtol=0.02)
    np.testing.assert_allclose(found.upper[2], found.mean[2] + norm.ppf(0.95) * found.sd[2])
    np.testing.assert_allclose(inference.prior_responsibilities(source)[2], prior.log_weights.exp(), atol=1e-12)
    assert inference.log_evidence(source)[2] == pytest.approx(0, abs=1e-9)
    assert inference.bound(source)[2] == 0


@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_bound_of_a_linear_gaussian_model_has_its_closed_form(n_components):
    model = _model(n_components=n_components, hidden=())
    table = random_table("gaussian", 8)
    source = source_of(table)
    encoding = model.encoder(source.rows(slice(None)).dense())
    mean, sd = encoding.mean.numpy(), encoding.log_sd.exp().numpy()
    level, loadings, noise = gaussian_marginal(model)
    residual = table - level - mean @ loadings.T
    likelihood = norm.logpdf(residual, 0, np.sqrt(noise)).sum(1) - 0.5 * (sd**2 @ (loadings.T**2 / noise).sum(1))
    divergence = 0.5 * (mean**2 + sd**2 - 1 - 2 * np.log(sd)).sum(1)
    np.testing.assert_allclose(EncoderInference(model, 64).bound(source), likelihood - divergence, atol=1e-8)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("kind", ["vamp", "flow"])
def test_bound_is_the_mean_over_draws(kind):
    model, source = _model("nb", kind, n_components=3), source_of(random_table("nb", 5))
    rows, prior = source.rows(slice(None)).dense(), model.latent_prior()
    z, log_q = _draws(model, source, 1024)
    values = torch.stack([model.log_likelihood(rows, z_s) for z_s in z]) - log_q + prior.log_density(z)
    spread = values.std(0)
    bound = EncoderInference(model, 64).bound(source)
    assert ((bound - values.mean(0)).abs() < 0.05 * spread).all()
    rough = amortized_elbo(model, source, 32)
    assert torch.equal(rough, amortized_elbo(model, source, 20))
    assert ((rough - values.mean(0)).abs() < 0.5 * spread).all()


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("kind", ["vamp", "flow"])
def test_mean_of_the_bounds_of_many_rows_needs_few_draws_of_each(kind, monkeypatch):
    model, source = _model("nb", kind, n_components=3), source_of(random_table("nb", 400, missing=0.1))
    monkeypatch.setattr("skdevae.inference.encoder._MEAN_DRAWS", 3200)
    rows, prior = source.rows(slice(None)).dense(), model.latent_prior()
    z, log_q = _draws(model, source, 256)
    values = torch.stack([model.log_likelihood(rows, z_s) for z_s in z]) - log_q + prior.log_density(z)
    found, error = mean_elbo(model, source), (values.var(0).mean() / 3200).sqrt()
    assert abs(float(found - values.mean())) < 4 * error
    assert found == mean_elbo(model, source)
    monkeypatch.setattr("skdevae.inference.encoder._MEAN_DRAWS", 10**6)
    assert_agree(mean_elbo(model, source), amortized_elbo(model, source).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_mean_of_few_draws_is_that_of_pairs_around_the_mean(kind, monkeypatch):
    """With all constants, whatever the scatter of the draws."""
    model, source = _model("nb", kind, n_components=3), source_of(random_table("nb", 50, missing=0.1))
    monkeypatch.setattr("skdevae.inference.encoder._MEAN_DRAWS", 4 * 50)
    rows, prior = source.rows(slice(None)).dense(), model.latent_prior()
    encoding, generator = model.encoder(rows), torch.Generator().manual_seed(0)
    values = []
    for _ in range(2):
        noise = torch.randn(50, 3, dtype=torch.float64, generator=generator)
        for signed in (noise, -noise):
            z, log_q = model.posterior_family.draw(encoding, signed)
            values.append(model.log_likelihood(rows, z) - model.divergence(encoding, z, log_q, prior))
    assert_agree(mean_elbo(model, source), torch.stack(values).mean())


def test_of_an_autoencoder_the_bound_is_the_likelihood_at_the_mean():
    model, source = _model("nb", variational=False), source_of(random_table("nb", 6, missing=0.2))
    inference = EncoderInference(model, 64)
    expected = inference.conditional_log_likelihood(source, inference.mean(source))
    assert_agree(inference.bound(source), expected)


@pytest.mark.parametrize("kind", ["vamp", "mixture", "flow"])
def test_responsibilities_are_averaged_over_the_posterior(kind):
    model, source = _model("nb", kind), source_of(random_table("nb", 8))
    found = EncoderInference(model, 64).prior_responsibilities(source)
    np.testing.assert_allclose(found.sum(1), 1)
    z, _ = _draws(model, source)
    np.testing.assert_allclose(found, model.latent_prior().responsibilities(z).mean(0), atol=0.02)


def test_one_component_is_integrated_on_a_grid_where_one_grid_serves_all_rows():
    table, sizes = random_table("nb", 4), np.linspace(-1, 1, 4)
    plain, sized = source_of(table), source_of(table, log_size=sizes)

    def on_grid(model, source):
        inference = EncoderInference(model, 64)
        assert inference.integrates_on_grid(source) == (inference.grid_posterior(source) is not None)
        return inference.integrates_on_grid(source)

    assert on_grid(_model("nb", n_components=1), plain)
    assert not on_grid(_model("nb", n_components=1), sized)
    assert not on_grid(_model("nb", n_components=2), plain)
    assert not on_grid(_model("nb", "vamp", n_components=1), plain)
    model = _model("nb", n_components=1)
    model.likelihood.is_linear = False
    assert not on_grid(model, plain)


def test_where_there_is_a_grid_posteriors_are_exact_and_not_the_encoders():
    model = _model(n_components=1, hidden=())
    source = source_of(drawn_table(model, 10))
    level, loadings, noise = gaussian_marginal(model)
    precision = 1 + (loadings[:, 0] ** 2 / noise).sum()
    inference = EncoderInference(model, 64)
    expected = (source.table - level) @ (loadings / noise[:, None]) / precision
    np.testing.assert_allclose(inference.grid_posterior(source).mean, expected, atol=1e-5)
    found = inference.posterior(source)
    np.testing.assert_allclose(found.mean, expected, atol=1e-5)
    np.testing.assert_allclose(found.sd, precision**-0.5, atol=1e-5)
    assert torch.equal(inference.mean(source), found.mean)
    assert (inference.encoded_posterior(source).mean - found.mean).abs().max() > 0.1


def test_a_plain_autoencoder_places_rows_where_its_encoder_does():
    model = _model(n_components=1, variational=False)
    source = source_of(random_table("gaussian", 5))
    inference = EncoderInference(model, 64)
    assert not inference.integrates_on_grid(source)
    assert torch.equal(inference.mean(source), inference.encoded_posterior(source).mean)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("kind", KINDS)
def test_results_are_the_same_in_chunks(kind, monkeypatch):
    model = _model("nb", kind, n_components=2)
    source = source_of(random_table("nb", 5, missing=0.1), log_size=np.linspace(-1, 1, 5))

    def answers():
        inference = EncoderInference(model, 64)
        asked = inference.bound, inference.log_evidence, inference.prior_responsibilities
        return [*inference.posterior(source), *(ask(source) for ask in asked)]

    expected = answers()
    monkeypatch.setattr("skdevae.table.source._CHUNK_ENTRIES", 2 * model.entries_per_point)
    for actual, value in zip(answers(), expected, strict=True):
        assert_agree(actual, value)


@pytest.mark.parametrize("n_components", [2, 3])
@pytest.mark.parametrize("n_missing", [1, 6, 10])
def test_posteriors_of_rows_with_gaps_are_bayes_rule_and_not_the_encoders(n_missing, n_components):
    model = _model(n_components=n_components, n_features=12, hidden=())
    table, generator = drawn_table(model, 20), np.random.default_rng(0)
    for row in table:
        row[generator.permutation(12)[:n_missing]] = np.nan
    found = EncoderInference(model, 512).posterior(source_of(table), credible_level=0.95)
    level, loadings, noise = gaussian_marginal(model)
    held = []
    for number, row in enumerate(table):
        seen = ~np.isnan(row)
        weights = loadings[seen] / noise[seen, None]
        covariance = np.linalg.inv(np.eye(n_components) + weights.T @ loadings[seen])
        mean, sd = covariance @ weights.T @ (row - level)[seen], np.sqrt(covariance.diagonal())
        np.testing.assert_allclose(found.mean[number], mean, atol=0.05 * sd.max())
        np.testing.assert_allclose(found.sd[number], sd, rtol=0.05)
        held.append(norm.cdf(found.upper[number], mean, sd) - norm.cdf(found.lower[number], mean, sd))
    assert 0.93 < np.mean(held) < 0.97


@pytest.mark.parametrize("kind", ["vamp", "flow"])
def test_gaps_of_other_rows_change_nothing(kind):
    model, table = _model("nb", kind), random_table("nb", 6)
    whole = EncoderInference(model, 64).posterior(source_of(table))
    table[3, :2] = np.nan
    found = EncoderInference(model, 64).posterior(source_of(table))
    others = [0, 1, 2, 4, 5]
    for field, expected in zip(found, whole, strict=True):
        assert_agree(field[others], expected[others])
        assert (field[3] != expected[3]).all()


def test_a_validation_loss_has_full_weights_throughout_the_warm_up():
    model, rows = _model(), source_of(random_table("gaussian", 6)).rows(slice(None)).dense()
    noise, expected = torch.zeros(6, 2, dtype=torch.float64), []
    for weight in (1.0, 0.1):
        model.divergence_weight = weight
        expected.append(model(rows, noise).data_part)
        assert model.train()(rows, noise).beta == weight
        model.eval()
    assert expected[0] == expected[1]


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("n_values", [3, 90])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore:.* lie beyond the range")
def test_how_a_row_is_placed_depends_on_no_other_row(n_values):
    """With a few covariates in training on a grid, with many by the encoder, whichever rows a table has."""
    random = np.random.default_rng(0)
    age, X = random.integers(n_values, size=90) + random.normal(size=1), random.poisson(3.0, (90, 4)).astype(float)
    model = DeVAETransformer(
        inference="amortized", likelihood="poisson", hidden_layer_sizes=(4,), max_epochs=1, random_state=0
    )
    model.fit(X, covariates=pd.Series(age, name="age"))
    many = pd.Series(random.normal(size=90), name="age")
    for ages in (pd.Series(age, name="age"), many):
        whole = model.posterior(X, covariates=ages)
        some = model.posterior(X[:9], covariates=ages[:9])
        np.testing.assert_allclose(some.sd, whole.sd[:9], rtol=1e-9)
        np.testing.assert_allclose(some.mean, whole.mean[:9], rtol=1e-9, atol=1e-12)
