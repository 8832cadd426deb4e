"""
=====================================================
Cells without labels: how many clusters, which batch?
=====================================================

Cells come without labels, and often in batches. Two models embed and cluster them. ``DGDEmbedder`` (Schuster and Krogh,
2023) has no encoder: for every cell it searches for the representation that makes the cell's counts most probable, and
it learns a Gaussian mixture over the representations at the same time. ``VampVAE`` has an encoder, and its prior is a
mixture, too. Both get the batch as a covariate, so that the embedding need not say it.

The table is simulated, so that clusters can be compared with the true ones.
The figures need umap-learn: ``pip install "skdevae[umap]"``.
"""

# %%
# Cells in two batches
# --------------------
# 400 cells, 120 genes, five clusters with between 10 and 30 % of the cells. Cells differ in depth, and two factors that
# have nothing to do with clusters act on all genes. The second batch has half as many cells as the first, and other
# levels of all genes.

import pandas as pd

from skdevae.datasets import make_cell_clusters

cells = make_cell_clusters(
    400, 120, weights=[0.3, 0.25, 0.2, 0.15, 0.1], effect_sd=1.5, n_batches=2, batch_sd=0.4, random_state=0
)  # fmt: skip
X, truth = cells.data, cells.target
batch = pd.Series(cells.batch, name="batch").map({0: "first", 1: "second"})

# %%
# Eight components for five clusters
# ----------------------------------
# The number of clusters is seldom known, so the model is offered eight components. It starts from the best of several
# mixtures of principal components, and leaves out components that do not improve the fit enough for their number of
# parameters.

from sklearn.metrics import adjusted_rand_score

from skdevae import DGDEmbedder

settings = {"n_components": 5, "n_clusters": 8, "likelihood": "nb", "max_epochs": 40, "random_state": 0}
dgd = DGDEmbedder(**settings).fit(X, covariates=batch)
print(f"clusters found: {dgd.n_clusters_}, Rand index {adjusted_rand_score(truth, dgd.labels_):.2f}")

# %%
# In the published method, representations start at zero and the means of the components at random. At first nothing
# distinguishes the components then, and the fit does not find the clusters.

published = DGDEmbedder(latent_init="zero", mixture_init="softball", may_be_empty=False, **settings)
published.fit(X, covariates=batch)
print(f"published start: Rand index {adjusted_rand_score(truth, published.labels_):.2f}")

# %%
# Cells in the colours of their true clusters, over draws from the mixture in grey. UMAP brings both to two dimensions.

import matplotlib.pyplot as plt

from skdevae.display import LatentDisplay

figure, axes = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
for ax, (name, model) in zip(axes, {"start by search": dgd, "published start": published}.items(), strict=True):
    draws = model.sample_latent(400, random_state=0)
    LatentDisplay.from_latents(
        model.embedding_, prior=draws, labels=truth, random_state=0, ax=ax, legend=ax is axes[-1]
    )  # fmt: skip
    ax.set_title(name)

# %%
# With and without the batch
# --------------------------
# ``VampVAE`` once without the batch and once with it. Cells in the colours of their batches, by principal components of
# the embedding: where the batch is not given, it splits the clusters.

from skdevae import VampVAE

vamp_settings = {"n_components": 5, "n_clusters": 5, "likelihood": "nb", "max_epochs": 40, "random_state": 0}
not_given = VampVAE(**vamp_settings).fit(X)
given = VampVAE(**vamp_settings).fit(X, covariates=batch)

figure, axes = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
LatentDisplay.from_estimator(not_given, X, labels=batch, reducer="pca", random_state=0, ax=axes[0], legend=False)
LatentDisplay.from_estimator(given, X, covariates=batch, labels=batch, reducer="pca", random_state=0, ax=axes[1])
axes[0].set_title("batch not given")
axes[1].set_title("batch given")

# %%
# Clusters compared with the true ones (1: the same, 0: what chance gives), and how well the embedding keeps clusters
# and batches apart (silhouette; that of batches should be near 0).

from sklearn.metrics import silhouette_score

embeddings = {
    "VampVAE, batch not given": (not_given.transform(X), not_given.predict(X)),
    "VampVAE, batch given": (given.transform(X, covariates=batch), given.predict(X, covariates=batch)),
    "DGDEmbedder, batch given": (dgd.embedding_, dgd.labels_),
}
table = {
    name: {
        "Rand index": adjusted_rand_score(truth, found),
        "silhouette of clusters": silhouette_score(Z, truth),
        "of batches": silhouette_score(Z, batch),
    }
    for name, (Z, found) in embeddings.items()
}
print(pd.DataFrame(table).T.to_string(float_format="{:.2f}".format))

plt.show()
