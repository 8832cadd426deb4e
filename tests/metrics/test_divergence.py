"""The divergence of units from their prior is that of the closed form, of Monte Carlo, and keeps its laws."""

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator
from sklearn.datasets import load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdevae import DeVAETransformer, VAETransformer, VampVAE
from skdevae.metrics import _divergence, latent_divergence


class Encoded(BaseEstimator):
    """Has the posteriors and the prior it is given, whatever X is; rows of X are looked up by number."""

    def __init__(self, mean, sd, prior=None):
        self.mean = mean
        self.sd = sd
        if prior is not None:
            self.prior_mixture_ = prior

    def posterior(self, X):
        return SimpleNamespace(mean=self.mean[X[:, 0]], sd=self.sd[X[:, 0]])


def mixture(weights, means, sds):
    return SimpleNamespace(weights=np.array(weights), means=np.array(means), sds=np.array(sds))


def density(x, mean, sd):
    """Of normal distributions; scipy's is ten times slower."""
    return np.exp(-0.5 * ((x - mean) / sd) ** 2) / (sd * np.sqrt(2 * np.pi))


def divergence_of(mean, sd, prior=None, rows=None):
    rows = np.arange(len(mean)) if rows is None else rows
    return latent_divergence(Encoded(mean, sd, prior), rows[:, None])


@pytest.fixture
def posteriors():
    random = np.random.default_rng(0)
    return random.normal(0, 1, (40, 3)), random.uniform(0.1, 1.2, (40, 3))


@pytest.fixture
def prior():
    random = np.random.default_rng(1)
    return mixture(random.dirichlet(np.ones(4)), random.normal(0, 1.5, (4, 3)), random.uniform(0.2, 1, (4, 3)))


def test_divergence_from_a_standard_normal(posteriors, vae, table):
    def closed_form(mean, sd):
        posterior = torch.distributions.Normal(torch.as_tensor(mean), torch.as_tensor(sd))
        prior = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1.0)
        return torch.distributions.kl_divergence(posterior, prior).mean(0).numpy()

    np.testing.assert_allclose(divergence_of(*posteriors), closed_form(*posteriors))
    posterior = vae.posterior(table[0])
    np.testing.assert_allclose(latent_divergence(vae, table[0]), closed_form(posterior.mean, posterior.sd))


def test_quadrature_agrees_with_the_closed_form(posteriors):
    one = mixture([1.0], [[0.0, 0.0, 0.0]], [[1.0, 1.0, 1.0]])
    twins = mixture([0.3, 0.7], np.zeros((2, 3)), np.ones((2, 3)))
    np.testing.assert_allclose(divergence_of(*posteriors, one), divergence_of(*posteriors), rtol=1e-10)
    np.testing.assert_allclose(divergence_of(*posteriors, twins), divergence_of(*posteriors), rtol=1e-10)
    # a Gaussian elsewhere is a standard normal in other units
    mean, sd = posteriors
    means, sds = np.array([[1.0, -2.0, 0.5]]), np.array([[0.5, 2.0, 1.0]])
    value = divergence_of(mean, sd, mixture([1.0], means, sds))
    np.testing.assert_allclose(value, divergence_of((mean - means) / sds, sd / sds), rtol=1e-10)


def test_divergence_from_a_mixture_by_monte_carlo(posteriors, prior):
    mean, sd = posteriors
    draws = mean + sd * np.random.default_rng(2).standard_normal((20_000, *mean.shape))
    densities = sum(w * density(draws, m, s) for w, m, s in zip(prior.weights, prior.means, prior.sds, strict=True))
    differences = (np.log(density(draws, mean, sd)) - np.log(densities)).mean(axis=1)
    error = differences.std(axis=0) / np.sqrt(len(draws))
    assert error.max() < 0.005
    np.testing.assert_array_less(np.abs(divergence_of(mean, sd, prior) - differences.mean(axis=0)), 4 * error)


def test_laws_of_the_divergence(posteriors, prior):
    mean, sd = posteriors
    value = divergence_of(mean, sd, prior)
    assert value.shape == (3,)
    assert value.min() > 0
    # none where every posterior is the prior
    collapsed = mixture([0.5, 0.5], [[1.0], [1.0]], [[0.5], [0.5]])
    assert divergence_of(np.ones((4, 1)), np.full((4, 1), 0.5), collapsed) == pytest.approx(0, abs=1e-12)
    # order of samples, of units, of components; units of measurement
    rows, units, order = np.arange(40)[::-1], [2, 0, 1], [3, 1, 0, 2]
    np.testing.assert_allclose(divergence_of(mean, sd, prior, rows), value)
    turned = mixture(prior.weights, prior.means[:, units], prior.sds[:, units])
    np.testing.assert_allclose(divergence_of(mean[:, units], sd[:, units], turned), value[units])
    shuffled = mixture(prior.weights[order], prior.means[order], prior.sds[order])
    np.testing.assert_allclose(divergence_of(mean, sd, shuffled), value)
    affine = mixture(prior.weights, 3 - 2 * prior.means, 2 * prior.sds)
    np.testing.assert_allclose(divergence_of(3 - 2 * mean, 2 * sd, affine), value)
    # components without weight are not there; float32 as engines compute in
    spare = mixture([*prior.weights, 0.0], [*prior.means, [0.0] * 3], [*prior.sds, [1.0] * 3])
    np.testing.assert_allclose(divergence_of(mean, sd, spare), value)
    single = mixture(*(part.astype(np.float32) for part in (prior.weights, prior.means, prior.sds)))
    np.testing.assert_allclose(divergence_of(mean.astype(np.float32), sd.astype(np.float32), single), value, rtol=1e-5)


def test_far_from_every_component_densities_do_not_underflow():
    apart = mixture([0.5, 0.5], [[0.0], [1.0]], [[0.1], [0.1]])
    far = divergence_of(np.full((1, 1), 100.0), np.full((1, 1), 0.1), apart)
    # there the nearer component is all that counts, with half the weight
    assert far == pytest.approx(0.5 * (99 / 0.1) ** 2 + np.log(2))


def test_chunks_bound_memory_and_leave_no_trace(monkeypatch, prior):
    random = np.random.default_rng(0)
    mean, sd = random.normal(size=(2000, 1)), random.uniform(0.2, 1, (2000, 1))
    many = mixture(np.full(50, 1 / 50), random.normal(size=(50, 1)), random.uniform(0.2, 1, (50, 1)))
    tracemalloc.start()
    value = divergence_of(mean, sd, many)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6  # one array of 2000 samples, 32 nodes, 50 components has 26 MB
    monkeypatch.setattr(_divergence, "_CHUNK_ENTRIES", 7 * 32 * 50 + 1)
    np.testing.assert_allclose(divergence_of(mean, sd, many), value)
    monkeypatch.setattr(_divergence, "_CHUNK_ENTRIES", 1)
    np.testing.assert_allclose(divergence_of(mean[:50], sd[:50], many), divergence_of(mean, sd, many, np.arange(50)))


def test_divergence_inside_pipelines(table, scaled_vae):
    X, _ = table
    scaler, inner = scaled_vae[0], scaled_vae[1]
    expected = latent_divergence(inner, scaler.transform(X))
    np.testing.assert_array_equal(latent_divergence(scaled_vae, X), expected)
    followed = make_pipeline(FrozenEstimator(scaler), FrozenEstimator(inner), StandardScaler()).fit(X)
    np.testing.assert_array_equal(latent_divergence(followed, X), expected)


def test_divergence_of_exact_inference(table):
    """Estimators without posterior_family have Gaussians beside a standard normal."""
    X, _ = table
    model = DeVAETransformer(max_epochs=3, random_state=0).fit(X)
    posterior = model.posterior(X)
    assert latent_divergence(model, X) == pytest.approx(divergence_of(posterior.mean, posterior.sd))


def test_no_divergence_of_flows():
    pytest.importorskip("zuko")
    X = load_iris().data
    model = VAETransformer(posterior_family="iaf", n_flows=1, max_epochs=1, random_state=0).fit(X)
    model.set_params(posterior_family="normal")  # for the next fit
    with pytest.raises(
        ValueError,
        match=r"VAETransformer are not Gaussian \(Inverse.*no closed form.*posterior_family='normal'.*unit_activity",
    ):
        latent_divergence(model, X)


def test_divergence_from_a_fitted_mixture_of_posteriors():
    X = load_iris().data
    model = VampVAE(2, n_pseudo_inputs=5, max_epochs=5, random_state=0).fit(X)
    posterior, prior = model.posterior(X), model.prior_mixture_
    draws = posterior.mean + posterior.sd * np.random.default_rng(0).standard_normal((1000, *posterior.mean.shape))
    log_prior = np.log(density(draws[..., None], prior.means.T, prior.sds.T) @ prior.weights)
    expected = (np.log(density(draws, posterior.mean, posterior.sd)) - log_prior).mean((0, 1))
    np.testing.assert_allclose(latent_divergence(model, X), expected, atol=0.01)


def test_no_divergence_of_points(posteriors):
    mean, sd = posteriors
    sd[3, 1] = 0
    with pytest.raises(ValueError, match=r"Encoded\.posterior gave sds that are not positive.*unit_activity"):
        divergence_of(mean, sd)
