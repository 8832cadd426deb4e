"""A likelihood of one's own, in twenty lines: it needs ``log_prob``, and no form that is linear in the data."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from skdevae import BasisDeVAEClusterer, DeVAETransformer, DGDEmbedder, VAETransformer, VampVAE
from skdevae.nn.likelihoods import LIKELIHOODS, Likelihood

DF = 4.0


class StudentT(Likelihood):
    """x - curve follows a Student-t distribution with 4 degrees of freedom and one scale for each feature."""

    def __init__(self, n_features):
        super().__init__()
        self.log_scale = nn.Parameter(torch.full((n_features,), -0.5))

    def log_prob(self, x, curves, z):
        return torch.distributions.StudentT(DF, curves, self.log_scale.exp()).log_prob(x)

    def information(self, curves, z):
        return ((DF + 1) / (DF + 3) * torch.exp(-2 * self.log_scale)).expand_as(curves)

    def mean(self, curves, z):
        return curves

    def sample(self, curves, z, generator):
        chi2 = 2 * torch._standard_gamma(torch.full_like(curves, DF / 2), generator=generator)
        noise = torch.randn(curves.shape, generator=generator, dtype=curves.dtype)
        return curves + self.log_scale.exp() * noise * (DF / chi2).sqrt()

    def unlink(self, mean):
        return mean


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(LIKELIHOODS, "student_t", StudentT)


@pytest.fixture(scope="module")
def table():
    """One factor, noise with heavy tails."""
    random = np.random.default_rng(0)
    loadings = np.array([1.5, -1.0, 2.0, 0.5, -1.5])
    return random.standard_normal((300, 1)) * loadings + 0.4 * random.standard_t(DF, (300, 5))


def table_scale(model):
    """The user's units of a column in which the model works: (D,)."""
    return model._reader_.units.scale


def marginal_by_quadrature(model, rows):
    """log p(x) of rows under a fitted model of one component, by the trapezoidal rule and scipy's density."""
    z = np.linspace(-8, 8, 4001)
    scale = model.module_.likelihood.log_scale.double().exp().numpy() * table_scale(model)
    curves = model.trajectories(z)
    log_prob = stats.t.logpdf(rows[:, None], DF, curves, scale)
    log_joint = np.where(np.isnan(rows)[:, None], 0.0, log_prob).sum(-1)
    return np.logaddexp.reduce(log_joint + stats.norm.logpdf(z), axis=1) + np.log(z[1] - z[0])


AMORTISED = {
    "VAE": lambda **more: VAETransformer(1, decoder="linear", likelihood="student_t", random_state=0, **more),
    "VampVAE": lambda **more: VampVAE(2, likelihood="student_t", random_state=0, **more),
    "DeVAE": lambda **more: DeVAETransformer(likelihood="student_t", random_state=0, **more),
    "BasisDeVAE": lambda **more: BasisDeVAEClusterer(
        2, likelihood="student_t", inference="amortized", random_state=0, **more
    ),
    "DGD": lambda **more: DGDEmbedder(
        1, n_clusters=None, hidden_layer_sizes=(), likelihood="student_t", random_state=0, **more
    ),
}


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("name", AMORTISED)
def test_models_with_an_encoder_and_models_without_one_take_it(name, table):
    model = AMORTISED[name](max_epochs=10).fit(table)
    assert np.isfinite(model.score_samples(table)).all()
    assert np.isfinite(model.elbo(table))
    assert model.transform(table).shape[0] == len(table)
    assert np.isfinite(model.sample(10, random_state=0)).all()
    if hasattr(model, "predict_features_proba"):
        np.testing.assert_allclose(model.predict_features_proba(table).sum(1), 1, rtol=1e-6)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("name", ["VAE", "DGD"])
def test_its_evidence_is_that_of_quadrature(name, table):
    model = AMORTISED[name](max_epochs=30).fit(table)
    rows = table[:40].copy()
    rows[3, 2] = rows[7, 0] = np.nan
    np.testing.assert_allclose(model.score_samples(rows), marginal_by_quadrature(model, rows), atol=0.05)
    assert model.elbo(rows) <= model.score(rows) + 1e-3


def test_heavy_tails_are_worth_something(table):
    """On data with heavy tails it beats the gaussian likelihood on rows held out."""
    ours = AMORTISED["VAE"](max_epochs=200).fit(table[:200])
    theirs = VAETransformer(1, decoder="linear", max_epochs=200, random_state=0).fit(table[:200])
    assert ours.score(table[200:]) > theirs.score(table[200:]) + 0.1


@pytest.mark.parametrize(
    "estimator",
    [
        DeVAETransformer(inference="exact", likelihood="student_t"),
        BasisDeVAEClusterer(likelihood="student_t"),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_exact_inference_says_that_it_cannot_have_it(estimator, table):
    with pytest.raises(ValueError, match=r"likelihood='student_t' is not\. Choose inference='amortized'"):
        estimator.fit(table)


def test_an_unknown_likelihood_is_refused_by_name(table):
    with pytest.raises(ValueError, match="student_t"):
        VAETransformer(likelihood="students_t").fit(table)
