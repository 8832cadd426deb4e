"""A table is adjusted to samples of median size and average covariates, at each sample's own latent."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

from skdevae import BasisDeVAEClusterer, DeVAETransformer, DGDEmbedder, VAETransformer, VampVAE

SIZES = np.exp(np.random.default_rng(0).normal(0, 1, 41))
RATIO = SIZES[:, None] / np.median(SIZES)
COUNTS = np.random.default_rng(1).poisson(5 * RATIO * np.ones(6)).astype(float)
_QUICK = {"hidden_layer_sizes": (4,), "max_epochs": 2, "random_state": 0}
ESTIMATORS = {
    "exact": DeVAETransformer(**_QUICK, n_knots=5, n_grid_points=9),
    "VAE": VAETransformer(2, **_QUICK),
    "VampVAE": VampVAE(2, **_QUICK),
    "DGD": DGDEmbedder(2, **_QUICK, n_clusters=2, n_init=1),
}

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore:No axis was found")


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("stored", [np.asarray, sp.csr_array], ids=["dense", "sparse"])
def test_counts_are_divided_by_their_sizes(name, stored):
    model = ESTIMATORS[name].set_params(likelihood="nb").fit(COUNTS, size_factors=SIZES)
    adjusted = model.adjust(stored(COUNTS), size_factors=SIZES)
    assert sp.issparse(adjusted) == (stored is sp.csr_array)
    assert_allclose(adjusted.toarray() if sp.issparse(adjusted) else adjusted, COUNTS / RATIO, rtol=1e-10)


def test_with_totals_for_sizes_all_totals_become_the_median():
    model = VampVAE(2, **_QUICK, likelihood="poisson").fit(COUNTS)
    rows = np.vstack([COUNTS[:5], np.zeros(6)])
    with pytest.warns(UserWarning, match="no counts"):
        totals = model.adjust(rows).sum(1)
    assert_allclose(totals[:5], np.exp(np.median(np.log(COUNTS.sum(1)))), rtol=1e-10)
    assert totals[5] == 0


def test_gaps_and_columns_that_models_do_not_see():
    X = np.where(np.random.default_rng(2).random(COUNTS.shape) < 0.1, np.nan, COUNTS)
    X[:, 3] = 0  # a column without events has no curve
    model = VAETransformer(1, **_QUICK, likelihood="nb").fit(X, size_factors=SIZES)
    rows = np.where(np.arange(6) == 3, 2.0, X)
    assert_allclose(model.adjust(rows, size_factors=SIZES), rows / RATIO, rtol=1e-10)


@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_covariates_are_taken_out_where_the_sample_is(likelihood):
    batch = np.resize(["a", "b", "c"], 41)
    model = VAETransformer(2, **{**_QUICK, "max_epochs": 20}, likelihood=likelihood).fit(COUNTS, covariates=batch)
    Z = model.transform(COUNTS, covariates=batch)
    own, typical = model.inverse_transform(Z, covariates=batch), model.inverse_transform(Z)
    expected = COUNTS * typical / own if likelihood == "nb" else COUNTS + typical - own
    assert np.abs(expected - COUNTS).max() > 0.1
    assert_allclose(model.adjust(COUNTS, covariates=batch), expected, rtol=1e-6, atol=1e-6)


def test_columns_that_condition_are_left_out():
    table = np.column_stack([COUNTS, np.arange(41) % 2])
    model = VAETransformer(1, **_QUICK, likelihood="nb", covariates=[6]).fit(table)
    assert model.adjust(table).shape == COUNTS.shape
    assert_array_equal(model.modelled_columns_, np.arange(6))
    model = VAETransformer(1, **_QUICK, covariates=[-1, 1]).fit(table)
    assert_array_equal(model.modelled_columns_, [0, 2, 3, 4, 5])
    assert_array_equal(VAETransformer(1, **_QUICK).fit(table).modelled_columns_, np.arange(7))
    assert not hasattr(VAETransformer(), "modelled_columns_")


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson", "bernoulli"])
def test_what_carries_nothing_stays_as_it_is(likelihood):
    X = np.minimum(COUNTS, 1) if likelihood == "bernoulli" else COUNTS
    X[:, 0] = np.arange(41) % 2  # not a constant
    before = X.copy()
    adjusted = BasisDeVAEClusterer(likelihood=likelihood, max_epochs=2, random_state=0).fit(X).adjust(X)
    assert_array_equal(adjusted, X)
    adjusted[:] = -1
    assert_array_equal(X, before)
