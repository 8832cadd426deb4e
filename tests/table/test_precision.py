"""Precision of training: double where single would be seen in the log-likelihoods of counts."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.stats import spearmanr
from sklearn.base import clone

from skdevae import BasisDeVAEClusterer, DGDEmbedder, VAETransformer
from skdevae.table.precision import training_dtype


@pytest.mark.parametrize("storage", [np.asarray, sp.csr_array])
def test_the_largest_row_of_counts_decides(storage):
    X = np.random.default_rng(0).poisson(5.0, size=(50, 8)).astype(float)
    assert training_dtype(storage(X), counts=True) == torch.float32
    X[17, 3] = 1e6
    assert training_dtype(storage(X), counts=True) == torch.float64


def test_missing_entries_have_no_say_and_measurements_are_trained_in_single_precision():
    X = np.full((9, 4), 1e8)
    X[:, 0] = np.nan
    assert training_dtype(X, counts=True) == torch.float64
    assert training_dtype(X, counts=False) == torch.float32
    X[:, 1:] = 1
    assert training_dtype(X, counts=True) == torch.float32


def _huge_counts(n=200, d=12, dispersion=3.0):
    rng = np.random.default_rng(0)
    z = rng.normal(size=n)
    level, height = rng.uniform(np.log(1e6), np.log(1e7), d), rng.choice([-1, 1], d) * rng.uniform(0.5, 1, d)
    mean = np.exp(level + height * np.tanh(z)[:, None])
    return rng.poisson(mean * rng.gamma(dispersion, 1 / dispersion, size=mean.shape)).astype(float), z


def test_huge_counts_are_fitted_like_others():
    """The bound is below the evidence, by what float64 inference says; dispersions and the axis are found."""
    X, z = _huge_counts()
    model = BasisDeVAEClusterer(likelihood="nb", max_epochs=80, random_state=0).fit(X)
    assert all(parameter.dtype == torch.float32 for parameter in model.module_.parameters())
    # Less the prior of parameters and the divergence of clusters: some nats for the whole table.
    assert model.lower_bound_ <= model.elbo(X) + 1e-2
    assert model.lower_bound_ == pytest.approx(model.elbo(X), abs=1)
    assert np.median(model.dispersion_) == pytest.approx(3.0, rel=0.15)
    assert abs(spearmanr(model.transform(X)[:, 0], z).statistic) > 0.9


@pytest.mark.parametrize(
    "model",
    [VAETransformer(n_components=2, max_epochs=3), DGDEmbedder(n_components=2, n_clusters=2, max_epochs=3)],
    ids=str,
)
def test_models_with_and_without_an_encoder_take_huge_counts(model):
    X, _ = _huge_counts(n=60, d=6)
    model = clone(model).set_params(likelihood="nb", random_state=0).fit(X)
    assert all(parameter.dtype == torch.float32 for parameter in model.module_.parameters())
    assert np.isfinite(model.score(X))
