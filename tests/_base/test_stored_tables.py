"""Estimators on stored tables: exact models give what they give in memory, and no estimator reads all rows at once."""

import functools
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from agreement import assert_agree
from table.stored_cases import LAYOUTS, Sliced, plain, small_pieces

from skdevae import (
    BasisDeVAEClusterer,
    BasisVAEClusterer,
    DeVAETransformer,
    DGDEmbedder,
    VAETransformer,
    VampVAE,
)
from skdevae.datasets import make_progression, make_progression_counts
from skdevae.table import components, sorted_columns

pytestmark = pytest.mark.filterwarnings("ignore:early_stopping=True, but training went on")  # fits are short

__all__ = ["small_pieces"]

N = 90
COUNTS = make_progression_counts(N, 12, density=0.4, random_state=0).data.toarray().astype(np.float64)
VALUES = make_progression(N, n_transient=4, n_increasing=4, n_decreasing=4, random_state=0).data
EXACT = {
    "BasisDeVAE, nb": (BasisDeVAEClusterer, {"likelihood": "nb", "size_factors": "sum", "n_clusters": 2}, COUNTS),
    "BasisDeVAE, poisson": (BasisDeVAEClusterer, {"likelihood": "poisson", "behaviors": "increasing"}, COUNTS),
    "BasisVAE": (BasisVAEClusterer, {"n_clusters": 2}, VALUES),
    "DeVAE": (DeVAETransformer, {"early_stopping": True}, VALUES),
}
SAMPLED = {
    "VAE": (VAETransformer, {"n_importance_samples": 8}, VALUES),
    "VampVAE": (VampVAE, {"likelihood": "nb", "n_components": 2, "n_importance_samples": 8}, COUNTS),
    "DGD": (
        DGDEmbedder,
        {"likelihood": "nb", "n_components": 2, "n_clusters": 2, "n_init": 1, "n_importance_samples": 8},
        COUNTS,
    ),
}


def fitted(name, X, **changes):
    estimator, options, _ = {**EXACT, **SAMPLED}[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator(max_epochs=2, random_state=0, **{**options, **changes}).fit(X)


@functools.cache
def fitted_in_memory(name):
    return fitted(name, EXACT[name][2])


@pytest.mark.slow(keep=1)
@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("layout", ["h5py", "CSR in zarr"])
@pytest.mark.parametrize("name", EXACT)
def test_exact_models_give_what_they_give_in_memory(name, layout, tmp_path):
    table = EXACT[name][2]
    if "CSR" in layout and table is VALUES:
        pytest.skip("measurements are dense")
    on_disk = LAYOUTS[layout](table, tmp_path)
    expected, found = fitted_in_memory(name), fitted(name, on_disk)
    assert found.lower_bound_ == pytest.approx(expected.lower_bound_, rel=1e-5)
    for method in ("transform", "score_samples"):
        assert_agree(getattr(found, method)(on_disk), getattr(expected, method)(table), computed_in=np.float32)
        assert_agree(getattr(expected, method)(on_disk), getattr(expected, method)(table))
    if hasattr(expected, "labels_"):
        np.testing.assert_array_equal(found.labels_, expected.labels_)
        np.testing.assert_array_equal(found.predict_features(on_disk), expected.predict_features(table))
    posteriors = expected.posterior(on_disk), expected.posterior(table)
    assert_agree(posteriors[0].sd, posteriors[1].sd)
    assert_agree(plain(expected.adjust(on_disk)), expected.adjust(table))


@pytest.mark.parametrize("name", SAMPLED)
def test_other_models_answer_as_in_memory(name, tmp_path):
    table = SAMPLED[name][2]
    on_disk, model = Sliced(table), fitted(name, table)
    assert_agree(model.transform(on_disk), model.transform(table))
    assert_agree(model.score_samples(on_disk), model.score_samples(table))
    if name != "DGD":  # which fits rows in another order
        assert_agree(fitted(name, on_disk).transform(table), model.transform(table), computed_in=np.float32)


@pytest.mark.slow(keep=1)
@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("name", [*EXACT, *SAMPLED])
def test_no_more_than_a_few_rows_are_read_at_once(name, monkeypatch):
    monkeypatch.setattr(components, "_SAMPLED_ENTRIES", 600)
    monkeypatch.setattr(sorted_columns, "LARGE_TABLE", 0)
    table = {**EXACT, **SAMPLED}[name][2]
    sliced = Sliced(sp.csr_array(table) if table is COUNTS else table)
    monkeypatch.setattr("skdevae.table.storage._FIRST_ROWS", 10)
    model = fitted(name, sliced)
    model.transform(sliced)
    model.score_samples(sliced)
    assert max(sliced.reads) <= 12
    assert sum(sliced.reads) > 10 * N


def test_facts_of_rows_go_with_stored_tables():
    random = np.random.default_rng(0)
    sizes, batch = random.lognormal(0, 0.3, N), random.choice(["a", "b"], N)
    with_batch = np.column_stack([batch == "a", COUNTS])
    model = BasisDeVAEClusterer(
        likelihood="poisson", covariates={0: "categorical"}, orientation=1, max_epochs=2, random_state=0
    )
    kept = {"sample_weight": random.choice([0.0, 1.0], N), "size_factors": sizes}
    expected = model.fit(with_batch, **kept).transform(with_batch, size_factors=sizes)
    found = model.fit(Sliced(with_batch), **kept).transform(Sliced(with_batch), size_factors=sizes)
    assert_agree(found, expected)


def test_a_rule_for_sizes_sees_the_table_as_it_was_given(tmp_path):
    dataset = LAYOUTS["h5py"](COUNTS, tmp_path)
    seen = []

    def sizes(X):
        seen.append(X)
        return X[:].sum(1)

    VampVAE(2, likelihood="nb", size_factors=sizes, max_epochs=1, random_state=0).fit(dataset)
    assert all(X is dataset for X in seen)


def test_streams_take_stored_tables():
    model = BasisDeVAEClusterer(likelihood="poisson", max_epochs=2, random_state=0)
    in_memory = [model.partial_fit(X).transform(COUNTS[:9]) for X in (COUNTS[:50], COUNTS[50:])][1]
    model = BasisDeVAEClusterer(likelihood="poisson", max_epochs=2, random_state=0)
    found = [model.partial_fit(Sliced(X)).transform(COUNTS[:9]) for X in (COUNTS[:50], COUNTS[50:])][1]
    assert_agree(found, in_memory, computed_in=np.float32)


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_backed_tables_of_anndata(suffix, tmp_path):
    anndata = pytest.importorskip("anndata", reason="reads tables of anndata where that is installed")
    path = tmp_path / f"cells.{suffix}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with anndata.settings.override(allow_write_nullable_strings=True):
            cells = anndata.AnnData(sp.csr_matrix(COUNTS.astype(np.float32)))
            cells.write_h5ad(path) if suffix == "h5ad" else cells.write_zarr(path)
        if suffix == "h5ad":
            backed = anndata.read_h5ad(path, backed="r").X
        else:
            import zarr

            backed = anndata.io.sparse_dataset(zarr.open_group(path, mode="r")["X"])
    table, name = sp.csr_array(COUNTS.astype(np.float32)), "BasisDeVAE, poisson"
    assert_agree(fitted(name, backed).transform(backed), fitted(name, table).transform(table))
