"""Sample weights: a sample of weight w is w copies of it, in whatever a fit computes of its rows."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from skdevae import BasisDeVAEClusterer, BasisVAEClusterer, DeVAETransformer, DGDEmbedder, VAETransformer, VampVAE
from skdevae.datasets import make_progression
from skdevae.table.weighted_rows import WeightedRows

N = 40
_QUICK = {"max_epochs": 6, "random_state": 0}
_AXIS = {**_QUICK, "n_grid_points": 33, "n_knots": 17, "hidden_layer_sizes": (4,)}
_ENCODER = {**_QUICK, "hidden_layer_sizes": (4,), "encoder_hidden_layer_sizes": (4,), "n_importance_samples": 8}
MODELS = {
    "BasisDeVAE": BasisDeVAEClusterer(**_AXIS),
    "BasisDeVAE, turns": BasisDeVAEClusterer(leveling_off="turn", **_AXIS),
    "BasisVAE": BasisVAEClusterer(3, **_AXIS),
    "DeVAE": DeVAETransformer(**_AXIS),
    "DeVAE, two axes": DeVAETransformer(2, **{**_AXIS, "n_grid_points": 9}),
    "DeVAE, encoder": DeVAETransformer(inference="amortized", **{**_ENCODER, "n_knots": 9, "batch_size": 16}),
    "VAE": VAETransformer(2, early_stopping=True, batch_size=16, **_ENCODER),
    "autoencoder": VAETransformer(1, variational=False, batch_size=1000, **_ENCODER),
    "VampVAE": VampVAE(2, batch_size=16, **_ENCODER),
    "DGD": DGDEmbedder(
        2,
        n_clusters=2,
        n_init=1,
        mixture_init="kmeans",
        n_importance_samples=8,
        **{**_QUICK, "hidden_layer_sizes": (4,)},
    ),
}
#: models that draw nothing of which there would be more with more rows: exact inference, and one without a posterior
WITHOUT_NOISE = ["BasisDeVAE", "BasisDeVAE, turns", "BasisVAE", "DeVAE", "DeVAE, two axes", "autoencoder"]
LIKELIHOODS = ["gaussian", "nb"]
#: one of each way to fit
FEW = ["BasisVAE", "DeVAE", "VampVAE", "DGD"]

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def tables(likelihood, seed=0):
    """A table with gaps, integer weights, some zero, and size factors (None for measurements)."""
    generator = np.random.default_rng(seed)
    weights = generator.integers(0, 4, N)
    table = make_progression(N, random_state=seed).data[:, ::5]
    sizes = None
    if likelihood != "gaussian":
        sizes = generator.uniform(0.5, 2.0, N)
        table = generator.poisson(sizes[:, None] * np.exp(2 + table)).astype(float)
    table[generator.random(table.shape) < 0.05] = np.nan
    return table, weights, sizes


def model_for(name, likelihood):
    return clone(MODELS[name]).set_params(likelihood=likelihood)


def fitted(model, table, sizes=None, weights=None):
    of_rows = {} if sizes is None else {"size_factors": sizes}
    return clone(model).fit(table, sample_weight=weights, **of_rows)


def answers(model, table, sizes=None):
    """Latents of rows, the curves, and the fitted objective, where there are any."""
    of_rows = {} if sizes is None else {"size_factors": sizes}
    latents = model.transform(table, **of_rows)
    found = {"latents": latents, "curves": model.trajectories(latents[:5])}
    for name in ("lower_bound_", "log_posterior_", "noise_scale_", "dispersion_", "responsibilities_", "n_iter_"):
        if hasattr(model, name):
            found[name] = getattr(model, name)
    return found


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, values in one.items():
        assert_array_equal(values, other[name], err_msg=name)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("name", MODELS)
def test_weights_are_repetitions(name, likelihood):
    table, weights, sizes = tables(likelihood)
    often = np.random.default_rng(1).permutation(np.repeat(np.arange(N), weights))
    model = model_for(name, likelihood)
    weighted = fitted(model, table, sizes, weights)
    repeated = fitted(model, table[often], None if sizes is None else sizes[often])
    assert_same(answers(weighted, table, sizes), answers(repeated, table, sizes))


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("name", WITHOUT_NOISE)
def test_every_sum_over_rows_counts_weights(name, likelihood, monkeypatch):
    """The same, if copies are not found: nothing that is shared by the two fits knows of weights."""
    table, weights, sizes = tables(likelihood, seed=1)
    often = np.repeat(np.arange(N), weights)
    model = model_for(name, likelihood)
    weighted = fitted(model, table, sizes, weights)
    with monkeypatch.context() as patched:
        patched.setattr("skdevae._base.fitting.rows_of_a_fit", one_by_one)
        repeated = fitted(model, table[often], None if sizes is None else sizes[often])
    without = fitted(model, table, sizes)
    ours, theirs, others = (answers(each, table, sizes) for each in (weighted, repeated, without))
    for field, values in ours.items():
        assert_allclose(values, theirs[field], rtol=1e-4, atol=1e-4, err_msg=field)
    assert np.abs(ours["latents"] - others["latents"]).max() > 0.02


def one_by_one(X, weights, *_):
    every = np.arange(X.shape[0])
    return WeightedRows(every, np.ones(X.shape[0]), every)


@pytest.mark.parametrize("name", FEW)
def test_samples_without_weight_are_as_if_absent(name):
    table, _, sizes = tables("nb")
    weights = np.arange(N) % 3 > 0
    table[0] = np.nan  # not even their entries matter
    table[3] *= 1000
    model = model_for(name, "nb")
    weighted = fitted(model, table, sizes, weights)
    removed = fitted(model, table[weights], sizes[weights])
    assert_same(answers(weighted, table[1:], sizes[1:]), answers(removed, table[1:], sizes[1:]))


@pytest.mark.parametrize("name", FEW)
def test_weights_of_one_are_no_weights(name):
    table, _, _ = tables("gaussian")
    one, other = fitted(MODELS[name], table, weights=np.ones(N)), fitted(MODELS[name], table)
    assert_same(answers(one, table), answers(other, table))
