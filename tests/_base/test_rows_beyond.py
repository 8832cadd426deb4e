"""Rows of which a fitted model has no idea: counted and named where users ask about them, and flagged."""

import pickle
import warnings
from functools import cache

import numpy as np
import pytest

from skdevae import BasisDeVAEClusterer, BasisVAEClusterer, DeVAETransformer, DGDEmbedder, VAETransformer, VampVAE

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore:The posteriors of .* are hard to draw from"
)

_QUICK = {"hidden_layer_sizes": (4,), "max_epochs": 40, "random_state": 0}
_ENCODER = {**_QUICK, "encoder_hidden_layer_sizes": (8,), "n_importance_samples": 32}
ESTIMATORS = {
    "BasisDeVAE": BasisDeVAEClusterer(**_QUICK),
    "BasisDeVAE, amortized": BasisDeVAEClusterer(inference="amortized", **_QUICK),
    "BasisVAE": BasisVAEClusterer(2, **_QUICK),
    "DeVAE": DeVAETransformer(**_QUICK),
    "VAE": VAETransformer(2, **_ENCODER),
    "VampVAE": VampVAE(2, **_ENCODER, n_pseudo_inputs=4),
    "DGD": DGDEmbedder(2, **_QUICK, n_clusters=2, n_init=1, n_importance_samples=32),
}
METHODS = ("transform", "posterior", "score_samples")
#: rows of new_rows() that are not like the training rows
STRANGE = [3, 5, 8]


def drawn(n, seed, units=1.0):
    """Measurements that follow one variable, in units (6,)."""
    loadings, generator = np.random.default_rng(0).normal(size=(1, 6)), np.random.default_rng(seed)
    table = np.tanh(generator.normal(size=(n, 1)) @ loadings) + 0.3 * generator.normal(size=(n, 6))
    return (10 + table) * units


def new_rows():
    table = drawn(12, 2)
    table[3] *= 50
    table[5, 2] *= 2.54
    table[8] = drawn(1, 3, units=np.full(6, 1.8)) + 32
    return table


@cache
def fitted(name):
    """Shared between tests, which must not change it."""
    return ESTIMATORS[name].fit(drawn(80, 1))


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_they_are_counted_and_named_and_flagged(name):
    model, table = fitted(name), new_rows()
    for method in METHODS:
        with pytest.warns(UserWarning, match=r"^3 samples \(the first is row 3\) lie beyond the range"):
            result = getattr(model, method)(table)
        if method == "posterior":
            assert result.beyond_training.dtype == bool
            np.testing.assert_array_equal(np.nonzero(result.beyond_training)[0], STRANGE)


@pytest.mark.filterwarnings("ignore:.* lie beyond the range")
@pytest.mark.parametrize("name", ESTIMATORS)
def test_files_know_them(name):
    model, table = fitted(name), new_rows()
    restored = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(restored.posterior(table).beyond_training, model.posterior(table).beyond_training)


@pytest.mark.parametrize("name", ["DeVAE", "VAE", "DGD"])
def test_of_files_that_do_not_know_them_only_latents_are_judged(name):
    model = fitted(name)
    state = {key: value for key, value in model.__getstate__().items() if key != "_training_range_"}
    older = object.__new__(type(model))
    older.__setstate__(state)
    posterior = older.posterior(drawn(12, 2))
    assert not posterior.beyond_training.any()
    assert older._training_range_.farthest == (np.inf if name == "DGD" else 4.5)


@pytest.mark.parametrize("name", ["DeVAE", "VampVAE", "DGD"])
def test_it_is_asked_of_every_row_alone(name):
    model, table = fitted(name), new_rows()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        together = model.posterior(table).beyond_training
        alone = [model.posterior(row[None]).beyond_training[0] for row in table]
    np.testing.assert_array_equal(together, alone)


def test_rows_that_training_does_without_are_beyond():
    table = drawn(60, 1)
    table[7] *= 50
    with pytest.warns(UserWarning, match=r"Training does without .*row 7"):
        model = DeVAETransformer(**_QUICK).fit(table)
    with pytest.warns(UserWarning, match=r"^1 samples \(the first is row 7\) lie beyond"):
        model.transform(table)


def test_units_change_nothing():
    units = 10 ** np.random.default_rng(4).uniform(-3, 3, 6)
    model = DeVAETransformer(**_QUICK).fit(drawn(60, 1) * units)
    with pytest.warns(UserWarning, match=r"^3 samples"):
        posterior = model.posterior(new_rows() * units)
    np.testing.assert_array_equal(np.nonzero(posterior.beyond_training)[0], STRANGE)
