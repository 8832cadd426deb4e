"""AnnDatas with known truth, and estimators that are fitted to them in a moment."""

import numpy as np
import pytest
import scipy.sparse as sp

from skdevae import (
    BasisDeVAEClusterer,
    BasisVAEClusterer,
    DeVAETransformer,
    DGDEmbedder,
    VAETransformer,
    VampVAE,
)
from skdevae.datasets import make_cell_clusters, make_progression

anndata = pytest.importorskip("anndata", reason="needs anndata, from the extra of that name")

CELLS = make_cell_clusters(90, 30, weights=[2, 1], random_state=0)
COUNTS = {"likelihood": "nb", "random_state": 0}
ESTIMATORS = {
    "basisdevae": BasisDeVAEClusterer(max_epochs=4, size_factors="sum", **COUNTS),
    "basisvae": BasisVAEClusterer(max_epochs=2, n_clusters=2, **COUNTS),
    "devae": DeVAETransformer(max_epochs=4, **COUNTS),
    "dgd": DGDEmbedder(max_epochs=3, n_components=2, n_clusters=3, **COUNTS),
    "vae": VAETransformer(max_epochs=3, n_components=2, **COUNTS),
    "vamp": VampVAE(max_epochs=3, n_components=2, n_clusters=2, **COUNTS),
}


def cells_in_clusters() -> "anndata.AnnData":
    adata = anndata.AnnData(sp.csr_matrix(CELLS.data.astype(np.float32)))
    adata.var_names = [f"gene{number}" for number in range(adata.n_vars)]
    adata.obs_names = [f"cell{number}" for number in range(adata.n_obs)]
    adata.obs["batch"] = np.arange(adata.n_obs) % 2
    adata.obs["age"] = np.linspace(20, 60, adata.n_obs)
    adata.obs["depth"] = CELLS.data.sum(1) + 1.0
    return adata


def progression(n_samples=150) -> "anndata.AnnData":
    """Measurements along a hidden time, which is in ``obs``."""
    made = make_progression(n_samples, n_increasing=3, n_decreasing=3, n_transient=2, random_state=0)
    adata = anndata.AnnData(made.data)
    adata.var_names = [f"gene{number}" for number in range(adata.n_vars)]
    adata.obs["time"] = made.times
    return adata


def quick(**parameters) -> BasisDeVAEClusterer:
    return BasisDeVAEClusterer(**{"max_epochs": 15, "random_state": 0, **parameters})
