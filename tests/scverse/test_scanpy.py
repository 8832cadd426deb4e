"""scanpy itself goes on from what was written: neighbours, UMAP and Leiden, as from its own principal components."""

import warnings

import pytest
import scipy.sparse as sp
from sklearn.metrics import adjusted_rand_score

from skdevae import VampVAE, scverse
from skdevae.datasets import make_cell_clusters

anndata = pytest.importorskip("anndata", reason="needs anndata, from the extra of that name")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the libraries that scanpy imports
    scanpy = pytest.importorskip("scanpy", reason="needs scanpy")


@pytest.mark.filterwarnings("default")  # warnings of scanpy's own are no business of these tests
def test_scanpy_goes_on_from_the_embedding():
    pytest.importorskip("leidenalg", reason="needs leidenalg, for Leiden")
    cells = make_cell_clusters(300, 100, weights=[1, 1, 1], random_state=0)
    adata = anndata.AnnData(sp.csr_matrix(cells.data.astype("float32")))
    vamp = VampVAE(n_components=4, n_clusters=3, likelihood="nb", max_epochs=40, random_state=0)
    scverse.fit(vamp, adata)
    scanpy.pp.neighbors(adata, use_rep="X_vamp", random_state=0)
    scanpy.tl.umap(adata, random_state=0, maxiter=50)
    scanpy.tl.leiden(adata, resolution=0.3, flavor="igraph", n_iterations=2, directed=False)
    assert adata.obsm["X_umap"].shape == (300, 2)
    assert adjusted_rand_score(adata.obs["leiden"], cells.target) > 0.9
    assert adjusted_rand_score(adata.obs["vamp_cluster"], cells.target) > 0.9
    scanpy.tl.rank_genes_groups(adata, "vamp_cluster")
    assert set(adata.uns["rank_genes_groups"]["names"].dtype.names) == {"0", "1", "2"}
