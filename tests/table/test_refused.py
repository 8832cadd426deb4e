"""Objects that hold a table among other things: errors say what to pass instead, whatever libraries are installed."""

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from skdevae import BasisDeVAEClusterer, DGDEmbedder, VampVAE

COUNTS = np.random.default_rng(0).poisson(1.0, (12, 5))
ESTIMATORS = [BasisDeVAEClusterer, DGDEmbedder, VampVAE]


class LooksLikeAnnData:
    """What is asked of an AnnData, without the library."""

    def __init__(self, **layers):
        self.X, self.layers, self.obsm = COUNTS, layers, {}
        self.obs, self.var = pd.DataFrame(index=range(12)), pd.DataFrame(index=range(5))
        self.shape = self.n_obs, self.n_vars = COUNTS.shape


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_anndata(estimator):
    with pytest.raises(TypeError, match=r"AnnData of 12 cells x 5 genes.* skdevae\.scverse\.fit\(estimator, adata\)"):
        estimator().fit(LooksLikeAnnData())
    with pytest.raises(TypeError, match=r"adata\.layers\['counts'\]"):
        estimator().fit_transform(LooksLikeAnnData(counts=COUNTS))


@pytest.mark.parametrize("says_so", [True, False])
def test_anndata_in_a_file(says_so, tmp_path):
    with h5py.File(tmp_path / "cells.h5ad", "w") as file:
        if says_so:
            file.attrs["encoding-type"] = "anndata"
        file["X"] = COUNTS
        for group in ("obs", "var"):
            file.create_group(group)
        with pytest.raises(TypeError, match=r"file\['X'\]\. Or open the file with anndata\.read_h5ad"):
            VampVAE().fit(file)
        file["layers/raw"] = COUNTS
        with pytest.raises(TypeError, match=r"file\['X'\] or file\['layers/raw'\]"):
            VampVAE().fit(file)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("sparse", [sp.csr_array, sp.csc_matrix, pd.DataFrame.sparse.from_spmatrix])
def test_sparse_counts_without_a_likelihood_of_counts(estimator, sparse):
    X = sparse(sp.csr_matrix(COUNTS))
    with pytest.raises(TypeError, match=r"likelihood='gaussian' is for measurements.* For counts set likelihood='nb'"):
        estimator().fit(X)


def test_what_is_advised_of_sparse_counts_works():
    model = DGDEmbedder(n_components=2, n_clusters=2, likelihood="nb", max_epochs=2, random_state=0)
    assert model.fit(sp.csr_array(COUNTS)).n_features_in_ == 5


def test_other_groups_and_tables_are_as_before(tmp_path):
    """What has only some of AnnData's names is no AnnData: a data frame with such columns is a table."""
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(12, 7)))
    frame.columns = ["X", "obs", "var", "obsm", "layers", "n_obs", "n_vars"]
    model = VampVAE(n_components=2, n_pseudo_inputs=2, max_epochs=1, random_state=0).fit(frame)
    assert list(model.feature_names_in_) == list(frame.columns)
