"""Other cells: genes are found by name, and everything that the fit was told is looked for again."""

import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scverse.cases import COUNTS, ESTIMATORS, anndata, cells_in_clusters, progression, quick

from skdevae import DeVAETransformer, VampVAE, scverse


@pytest.fixture(scope="module")
def clusterer():
    return scverse.fit(quick(), progression())


def shuffled(adata, seed=0):
    """The same cells with genes in another order, and one gene more."""
    order = np.random.default_rng(seed).permutation(adata.n_vars)
    other = anndata.AnnData(np.c_[adata.X[:, order], np.ones(adata.n_obs)], obs=adata.obs)
    other.var_names = [*adata.var_names[order], "another gene"]
    return other


def test_genes_are_found_by_name(clusterer):
    adata = progression()
    expected = scverse.transform(clusterer, adata)
    other = shuffled(adata)
    np.testing.assert_array_equal(scverse.transform(clusterer, other), expected)
    np.testing.assert_array_equal(other.obsm["X_basisdevae"], expected)
    np.testing.assert_array_equal(other.obs["basisdevae_position"], expected[:, 0])
    assert list(other.var) == []
    assert "basisdevae" not in other.uns


@pytest.mark.parametrize("key", ESTIMATORS)
def test_cells_of_the_fit_get_the_same_answers(key):
    adata = cells_in_clusters()
    estimator = scverse.fit(ESTIMATORS[key], adata)
    copy = anndata.AnnData(adata.X, obs=adata.obs[[]], var=adata.var[[]])
    scverse.transform(estimator, copy)
    tolerance = 0.2 if key == "dgd" else 1e-6  # a representation is found anew by another optimiser than in the fit
    np.testing.assert_allclose(copy.obsm[f"X_{key}"], adata.obsm[f"X_{key}"], atol=tolerance)
    assert set(copy.obs) == {name for name in adata.obs if name.startswith(f"{key}_")}


def test_missing_genes_are_named(clusterer):
    adata = progression()[:, [0, 2, 3, 5, 6, 7]].copy()
    with pytest.raises(
        ValueError, match=r"adata lacks 2 of the 8 genes that the BasisDeVAEClusterer.*'gene1', 'gene4'"
    ):
        scverse.transform(clusterer, adata)
    adata.var_names = [f"ENSG0{number}" for number in range(adata.n_vars)]
    with pytest.raises(ValueError, match=r"none of the 8 genes.*'ENSG00', .*'gene0', .*two kinds"):
        scverse.transform(clusterer, adata)


def test_missing_genes_can_be_left_open(clusterer):
    adata = progression()
    whole = scverse.transform(clusterer, adata)
    some = scverse.transform(clusterer, adata[:, [0, 2, 3, 5, 6, 7]].copy(), allow_missing_genes=True)
    holes = adata.to_df()
    holes[["gene1", "gene4"]] = np.nan
    np.testing.assert_allclose(some, clusterer.transform(holes))
    assert np.corrcoef(some[:, 0], whole[:, 0])[0, 1] > 0.9
    assert not np.array_equal(some, whole)


def test_missing_genes_of_sparse_counts_can_be_left_open():
    adata = cells_in_clusters()
    devae = scverse.fit(DeVAETransformer(max_epochs=4, **COUNTS), adata)
    some = scverse.transform(devae, adata[:, 5:].copy(), allow_missing_genes=True)
    holes = adata.to_df()
    holes.iloc[:, :5] = np.nan
    np.testing.assert_allclose(some, devae.transform(holes))


def test_facts_of_the_fit_are_looked_for_again():
    adata = cells_in_clusters()
    adata.layers["counts"] = adata.X.copy()
    vamp = VampVAE(max_epochs=3, n_components=2, **COUNTS)
    scverse.fit(vamp, adata, layer="counts", batch_key="batch", size_factor_key="depth", key_added="z")
    other = adata[:20].copy()
    other.X = sp.csr_matrix(other.shape)  # nobody looks at it
    del other.obsm["X_z"]
    np.testing.assert_allclose(scverse.transform(vamp, other), adata.obsm["X_z"][:20], atol=1e-6)
    loaded = pickle.loads(pickle.dumps(vamp))
    np.testing.assert_allclose(scverse.transform(loaded, other), adata.obsm["X_z"][:20], atol=1e-6)
    other.obs["lane"] = other.obs["batch"]
    del other.obs["batch"]
    with pytest.raises(ValueError, match="batch_key='batch' is no column"):
        scverse.transform(vamp, other)
    np.testing.assert_allclose(scverse.transform(vamp, other, batch_key="lane"), adata.obsm["X_z"][:20], atol=1e-6)
    other.obs["batch"] = 7
    with pytest.raises(ValueError, match="levels that the training table did not have"):
        scverse.transform(vamp, other)
    del other.layers["counts"]
    with pytest.raises(ValueError, match="layer='counts' is no layer"):
        scverse.transform(vamp, other)


def test_covariates_may_have_other_names_than_at_fit():
    adata = cells_in_clusters()
    adata.obs["age"] = np.arange(adata.n_obs) % 4
    adata.obs["site"] = pd.Categorical(np.where(np.arange(adata.n_obs) % 3, "a", "b"))
    devae = DeVAETransformer(max_epochs=3, unknown_covariate="average", **COUNTS)
    scverse.fit(devae, adata, batch_key="batch", covariate_keys=["age", "site"])
    expected = adata.obsm["X_devae"].copy()
    other = adata.copy()
    other.obs = other.obs.rename(columns={"batch": "lane", "age": "years", "site": "place"})
    keys = {"batch_key": "lane", "covariate_keys": ["years", "place"]}
    np.testing.assert_allclose(scverse.transform(devae, other, **keys), expected)
    other.obs = other.obs.rename(columns={"years": "age"})
    for covariate_keys in (["age", "place"], ["place", "age"]):
        found = scverse.transform(devae, other, batch_key="lane", covariate_keys=covariate_keys)
        np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(scverse.transform(devae, adata, covariate_keys=["site", "age"]), expected)
    with pytest.raises(ValueError, match=r"fitted with batch_key='batch' and covariate_keys=\['age', 'site'\]"):
        scverse.transform(devae, other, batch_key="lane", covariate_keys=["age"])


def test_estimators_that_were_fitted_to_data_frames():
    adata = progression()
    expected = quick().fit(adata.to_df()).transform(adata.to_df())
    np.testing.assert_allclose(scverse.transform(quick().fit(adata.to_df()), shuffled(adata)), expected)
    with pytest.raises(ValueError, match="fitted to a table without names"):
        scverse.transform(quick().fit(adata.X), adata)


def test_a_fit_by_other_ways_forgets_the_places():
    adata = cells_in_clusters()
    devae = scverse.fit(DeVAETransformer(max_epochs=2, **COUNTS), adata, batch_key="batch", key_added="other")
    devae.fit(adata.to_df())
    assert scverse.transform(devae, adata[:5].copy()).shape == (5, 1)


def opened(adata, path):
    """The same cells, backed by a file."""
    with anndata.settings.override(allow_write_nullable_strings=True):
        adata.write_h5ad(path)
    return anndata.read_h5ad(path, backed="r")


@pytest.mark.parametrize("is_sparse", [True, False])
def test_backed_files_are_read_in_chunks(is_sparse, tmp_path, monkeypatch):
    adata = cells_in_clusters()
    adata.var["highly_variable"] = np.arange(adata.n_vars) % 3 > 0
    if not is_sparse:
        adata.X = adata.X.toarray()
    vamp = VampVAE(max_epochs=3, n_components=2, n_clusters=2, batch_size=32, **COUNTS)
    backed = opened(adata, tmp_path / "cells.h5ad")
    scverse.fit(vamp, adata, batch_key="batch")
    monkeypatch.setattr("skdevae.table.stored._PIECE_ENTRIES", 300)
    monkeypatch.setattr(type(backed), "to_memory", None)
    np.testing.assert_allclose(scverse.transform(vamp, backed), adata.obsm["X_vamp"], atol=1e-6)
    along = DeVAETransformer(max_epochs=3, **COUNTS)
    scverse.fit(along, backed)
    assert along.feature_names_in_.tolist() == adata.var_names[adata.var["highly_variable"]].tolist()
    scverse.fit(DeVAETransformer(max_epochs=3, **COUNTS), adata)
    np.testing.assert_allclose(backed.obsm["X_devae"], adata.obsm["X_devae"], atol=1e-3)
    np.testing.assert_allclose(backed.var["devae_change"], adata.var["devae_change"], rtol=1e-2, atol=1e-2)
    with pytest.raises(ValueError, match=r"pass adata\.to_memory\(\)"):
        scverse.transform(vamp, opened(adata[:, 5:], tmp_path / "some.h5ad"), allow_missing_genes=True)
