"""A table is read once a call, in units that the training table has taught, and results go back to the user's units."""

import copy

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from numpy.testing import assert_allclose, assert_array_equal

from skdevae import BasisDeVAEClusterer, DGDEmbedder, VampVAE
from skdevae.nn.row_context import RowContext
from skdevae.table import size_factors as size_factors_module
from skdevae.table import table as table_module
from skdevae.table.size_factors import takes_size_factors
from skdevae.table.table import TableReader
from skdevae.table.units import Units

FLOAT64 = torch.zeros((), dtype=torch.float64)


def _measurements():
    random = np.random.default_rng(0)
    table = random.normal(3, [1, 10, 0.01, 5], (40, 4))
    table[random.random(table.shape) < 0.1] = np.nan
    return table


def _counts(n=60, d=5, seed=0):
    random = np.random.default_rng(seed)
    return random.negative_binomial(3, 0.2, (n, d)).astype(float) + 1


# ---- units --------------------------------------------------------------------------------------------------------


def test_the_models_units_are_standardised_and_lead_back():
    X = _measurements()
    table = TableReader.learn(X, "gaussian")
    rows = table.source(FLOAT64).rows(slice(None))
    values = np.where(rows.observed.numpy() > 0, rows.values.numpy(), np.nan)
    assert_allclose(np.nanmean(values, 0), 0, atol=1e-12)
    assert_allclose(np.nanstd(values, 0), 1, rtol=1e-12)
    assert_allclose(table.in_user_units(torch.from_numpy(values)), X, rtol=1e-12)
    assert table.has_missing


def test_log_densities_change_by_the_volume_of_the_units():
    """A Gaussian density in the model's units, and the same in the user's."""
    X = _measurements()
    table = TableReader.learn(X, "gaussian")
    units = table.reader.units
    standardised = (X - units.center) / units.scale
    in_model_units = np.nansum(-0.5 * standardised**2 - 0.5 * np.log(2 * np.pi), axis=1)
    in_user_units = np.nansum(-0.5 * standardised**2 - 0.5 * np.log(2 * np.pi) - np.log(units.scale), axis=1)
    assert_allclose(table.in_user_nats(torch.from_numpy(in_model_units)), in_user_units, rtol=1e-12)


def test_pooled_units_are_the_mean_and_the_sd_of_all_entries_together():
    X = np.random.default_rng(0).normal([0, 5, -3], [1, 2, 3], (1000, 3))
    pooled = Units.of_table(X).pooled()
    assert_allclose(pooled.center, X.mean())
    assert_allclose(pooled.scale, X.std())
    assert Units().pooled() == Units()


def test_counts_are_modelled_as_they_are():
    table = TableReader.learn(sp.csr_array(_counts()), "nb")
    assert_array_equal(table.source(FLOAT64).rows(slice(3)).dense().values.numpy(), _counts()[:3])
    assert_array_equal(table.in_user_nats(torch.arange(3.0)), np.arange(3.0))
    assert not table.has_missing


# ---- size factors ---------------------------------------------------------------------------------------------------


def test_the_training_tables_median_size_counts_as_one():
    table = TableReader.learn(_counts(), "nb", size_factors="sum")
    totals = _counts().sum(1)
    assert_allclose(table.context.log_size, np.log(totals / np.median(totals)), atol=1e-12)
    others = 3 * _counts(seed=1)
    read = table.reader.read(others, size_factors="sum")
    assert_allclose(read.context.log_size, np.log(others.sum(1) / np.median(totals)), atol=1e-12)
    assert table.reader.has_totals
    assert not TableReader.learn(_counts(), "nb", size_factors=totals).reader.has_totals


def test_weights_are_repetitions_to_the_scale_of_sizes():
    X, weights = _counts(), np.random.default_rng(0).integers(1, 4, 60).astype(float)
    ours = TableReader.learn(X, "nb", size_factors="sum", context=RowContext(weight=weights)).reader.sizes
    theirs = TableReader.learn(np.repeat(X, weights.astype(int), 0), "nb", size_factors="sum").reader.sizes
    assert_allclose([ours.log_unit, ours.log_mean, ours.log_sd], [theirs.log_unit, theirs.log_mean, theirs.log_sd])
    assert_allclose(ours.count_means, theirs.count_means)


def test_simulated_rows_have_sizes_with_the_training_tables_moments():
    reader = TableReader.learn(_counts(400), "nb", size_factors="sum").reader
    drawn = reader.drawn_context(20_000, torch.Generator().manual_seed(0), torch.float64).log_size.numpy()
    assert_allclose([drawn.mean(), drawn.std()], [reader.sizes.log_mean, reader.sizes.log_sd], atol=0.01)
    without = TableReader.learn(_counts(), "nb").reader
    assert without.drawn_context(3, torch.Generator(), torch.float64).log_size is None


@pytest.mark.parametrize(
    ("size_factors", "likelihood", "expected"),
    [(None, "nb", False), ("sum", "nb", True), ("sum", "gaussian", False), ("sum", "bernoulli", False)],
)
def test_size_factors_are_for_counts(size_factors, likelihood, expected):
    assert takes_size_factors(size_factors, likelihood) == expected
    with pytest.raises(ValueError, match="no counts for them to multiply"):
        takes_size_factors(np.ones(3), "gaussian")


def test_a_subset_takes_its_context_along():
    context = RowContext(weight=np.arange(60.0), component=np.arange(60))
    table = TableReader.learn(_counts(), "nb", size_factors="sum", context=context).take(slice(5, 9))
    assert len(table) == 4
    assert_array_equal(table.context.weight, np.arange(5.0, 9.0))
    rows = table.source(FLOAT64).rows(np.array([2, 0]))
    assert_array_equal(rows.context.component.numpy(), [7, 5])
    assert rows.context.component.dtype == torch.int64
    assert rows.context.log_size.shape == (2,)


# ---- nothing is done twice ------------------------------------------------------------------------------------------

QUICK = {"likelihood": "nb", "max_epochs": 2, "n_importance_samples": 16, "random_state": 0}
SIZED = {
    "VampVAE": lambda **more: VampVAE(2, **QUICK, **more),
    "DGD": lambda **more: DGDEmbedder(2, n_clusters=2, n_init=1, hidden_layer_sizes=(8,), **QUICK, **more),
}


def _counted(monkeypatch, module, name):
    """How often a function is called from now on, as a list that grows."""
    calls, original = [], getattr(module, name)

    def counted(*arguments, **options):
        calls.append(name)
        return original(*arguments, **options)

    monkeypatch.setattr(module, name, counted)
    return calls


@pytest.mark.parametrize("name", SIZED)
def test_a_fit_asks_once_for_the_size_factors(name, monkeypatch):
    calls = []

    def sizes(X):
        calls.append(X.shape)
        return X.sum(1)

    model = SIZED[name](size_factors=sizes).fit(_counts())
    assert calls == [(60, 5)]
    evaluations = _counted(monkeypatch, size_factors_module, "log_size_factors")
    model.fit(_counts())
    assert len(evaluations) == 1  # of a DGD: of its distinct rows, after all rows have been checked
    evaluations.clear()
    model.score(_counts())
    assert len(evaluations) == 1


@pytest.mark.slow(keep=4)
@pytest.mark.filterwarnings("ignore:No axis was found")
@pytest.mark.parametrize("name", [*SIZED, "BasisDeVAE"])
@pytest.mark.parametrize("method", ["transform", "score_samples", "predict_proba", "elbo"])
def test_a_call_copies_the_module_once(name, method, monkeypatch):
    make = {**SIZED, "BasisDeVAE": lambda: BasisDeVAEClusterer(likelihood="nb", max_epochs=2, random_state=0)}[name]
    model = make().fit(_counts())
    copies, original = [], copy.deepcopy

    def counted(value, *memo):
        if isinstance(value, torch.nn.Module) and not memo:
            copies.append(type(value).__name__)
        return original(value, *memo)

    monkeypatch.setattr(copy, "deepcopy", counted)
    if method == "predict_proba" and name == "BasisDeVAE":
        method = "predict_features_proba"
    getattr(model, method)(_counts())
    assert len(copies) == 1


def test_a_call_builds_one_table(monkeypatch):
    model = SIZED["VampVAE"]().fit(_counts())
    built = _counted(monkeypatch, table_module, "Table")
    model.posterior(_counts())
    assert len(built) == 1
