"""
============================================
Clusters of blood cells, beside scanpy's own
============================================

scanpy's usual way to clusters is: normalise, take logarithms, principal components, a graph of neighbours, and Leiden's
algorithm on the graph. ``skdevae.scverse`` puts the latent of a ``VampVAE`` in the place of the principal components.
It is a model of the raw counts, so there is no normalisation to choose, and new cells can be placed and scored later.
Everything after that is scanpy's, as before.

This needs ``pip install "skdevae[anndata]" scanpy leidenalg``.
"""

# %%
# Cells
# -----
# 1000 blood cells from the public 10x Genomics data set PBMC 4k, if the file lies beside this project. Labels are graph
# clusters that its authors computed. Elsewhere the cells are simulated, in six clusters. Another 300 cells are kept for
# the end. Raw counts go into a layer, as scanpy's tutorials do it.

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp

from skdevae.datasets import make_cell_clusters

places = [folder / "shared" / "data" / "pbmc4k_2000.npz" for folder in Path.cwd().parents]
found = [path for path in places if path.exists()]
if found:
    with np.load(found[0], allow_pickle=False) as pbmc:
        counts, label = pbmc["X"].astype(np.float32), pbmc["y"]
    rows = np.random.default_rng(0).permutation(len(counts))[:1300]
    counts, label = counts[rows], label[rows]
else:
    simulated = make_cell_clusters(1300, 600, weights=[6, 5, 4, 3, 2, 1], random_state=0)
    counts, label = simulated.data.astype(np.float32), simulated.target
everything = anndata.AnnData(sp.csr_matrix(counts))
everything.var_names = [f"gene {number}" for number in range(everything.n_vars)]
everything.obs_names = [f"cell {number}" for number in range(everything.n_obs)]
everything.obs["label"] = pd.Categorical(label.astype(str))
everything.layers["counts"] = everything.X.copy()
cells, others = everything[:1000].copy(), everything[1000:].copy()
print(f"{cells.n_obs} cells, {cells.n_vars} genes, {'measured' if found else 'simulated'}")

# %%
# scanpy's way
# ------------
# ``highly_variable_genes`` marks the 500 genes that vary most. Both ways use these. Leiden finds the more clusters, the
# higher its resolution is; it is 0.4 on this page.

import scanpy as sc

sc.pp.normalize_total(cells)
sc.pp.log1p(cells)
sc.pp.highly_variable_genes(cells, n_top_genes=500)
sc.pp.pca(cells, n_comps=20, random_state=0)
leiden = {"resolution": 0.4, "flavor": "igraph", "n_iterations": 2, "directed": False, "random_state": 0}
sc.pp.neighbors(cells, use_rep="X_pca", key_added="of_pca", random_state=0)
sc.tl.leiden(cells, neighbors_key="of_pca", key_added="leiden_pca", **leiden)

# %%
# A model of the counts
# ---------------------
# The components of its prior are merged into as many clusters as there are labels. ``scverse.fit`` reads the layer,
# takes the marked genes, and writes into the AnnData. The estimator that it returns is the one that it was given.

from skdevae import VampVAE, scverse

n_labels = cells.obs["label"].nunique()
vamp = VampVAE(n_components=10, n_clusters=n_labels, likelihood="nb", max_epochs=30, random_state=0)
vamp = scverse.fit(vamp, cells, layer="counts")
print(cells.obsm["X_vamp"].shape, [name for name in cells.obs if name.startswith("vamp")])

# %%
# Neighbours and Leiden as above, from the latent.

sc.pp.neighbors(cells, use_rep="X_vamp", key_added="of_vamp", random_state=0)
sc.tl.leiden(cells, neighbors_key="of_vamp", key_added="leiden_vamp", **leiden)

# %%
# Two maps
# --------
# Both maps are UMAPs of the graphs, in the colours of the labels. The third panel has the clusters of the model's own
# prior, which need no graph.

import matplotlib.pyplot as plt

maps = {}
for way in ("pca", "vamp"):
    sc.tl.umap(cells, neighbors_key=f"of_{way}", random_state=0)
    maps[way] = cells.obsm["X_umap"]
panels = [
    ("pca", "label", "principal components, labels"),
    ("vamp", "label", "VampVAE, labels"),
    ("vamp", "vamp_cluster", "VampVAE, its own clusters"),
]
colors = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#882255", "#CC79A7", "#000000", "#9600F0", "#6B4A00"]
fig, axes = plt.subplots(1, 3, figsize=(12, 4.2), layout="constrained")
for ax, (way, column, title) in zip(axes, panels, strict=True):
    for number, category in enumerate(cells.obs[column].cat.categories):
        members = (cells.obs[column] == category).to_numpy()
        ax.scatter(*maps[way][members].T, s=5, lw=0, color=colors[number % len(colors)])
        ax.annotate(
            category,
            np.median(maps[way][members], axis=0),
            ha="center",
            va="center",
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
        )
    ax.set(title=title, xticks=[], yticks=[])
    ax.spines[:].set_color("#BFC5CB")

# %%
# Three clusterings
# -----------------
# The adjusted Rand index is 1 where two clusterings are the same, and 0 on average where one is random. Labels of the
# measured cells were themselves computed from principal components and a graph, so they favour scanpy's way. One run
# does not rank methods: seed, resolution and cells matter. On the simulated cells scanpy's way comes out ahead.

from sklearn.metrics import adjusted_rand_score

names = {
    "leiden_pca": "Leiden from principal components",
    "leiden_vamp": "Leiden from VampVAE",
    "vamp_cluster": "VampVAE, its own clusters",
}
for column, name in names.items():
    n_clusters, index = cells.obs[column].nunique(), adjusted_rand_score(cells.obs["label"], cells.obs[column])
    print(f"{name:34} {n_clusters:2} clusters, adjusted Rand index with the labels {index:.2f}")

# %%
# New cells
# ---------
# A fitted model places cells that it has never seen. Genes are found by name: their order does not matter, and others
# are left alone.

shuffled = others[:, np.random.default_rng(1).permutation(others.n_vars)].copy()
scverse.transform(vamp, shuffled)
index = adjusted_rand_score(others.obs["label"], shuffled.obs["vamp_cluster"])
print(f"{shuffled.n_obs} new cells, adjusted Rand index of their clusters with the labels {index:.2f}")

plt.show()
