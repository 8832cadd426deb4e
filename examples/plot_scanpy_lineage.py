"""
======================================
Genes along two lineages, from AnnData
======================================

Which genes change on the way from a progenitor to a mature cell, in which order, and which of them take another course
on another way? ``skdevae.scverse`` fits a model to each lineage of an AnnData and writes what genes do into ``var``,
where two lineages can be compared.

This needs ``pip install "skdevae[anndata]"``.
"""

# %%
# Cells on two ways
# -----------------
# Blood progenitors of the mouse (Paul et al. 2015), if the file lies beside this project: their counts, and for each of
# two lineages a pseudotime by slingshot and a weight that says whether a cell belongs to it. Elsewhere two lineages are
# simulated whose genes have shapes of their own.

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp

from skdevae.datasets import make_progression_counts

places = [folder / "shared" / "data" / "paul15_240genes.npz" for folder in Path.cwd().parents]
found = [path for path in places if path.exists()]
if found:
    with np.load(found[0], allow_pickle=False) as paul:
        cells = anndata.AnnData(sp.csr_matrix(paul["X"].astype(np.float32)))
        cells.var_names, cells.obs_names = paul["genes"], paul["cells"]
        cells.obsm["X_map"] = paul["embedding"]
        for number, lineage in enumerate(["myeloid", "erythroid"]):
            belongs = paul["lineage_weight"][:, number] > 0.5
            cells.obs[lineage] = np.where(belongs, paul["pseudotime"][:, number], np.nan)
else:
    made = [make_progression_counts(400, 60, density=0.6, random_state=seed) for seed in (0, 1)]
    cells = anndata.AnnData(sp.csr_matrix(sp.vstack([one.data for one in made]).astype(np.float32)))
    cells.var_names = [f"gene {number}" for number in range(cells.n_vars)]
    times, side = np.concatenate([one.times for one in made]), np.repeat([1, -1], 400)
    cells.obsm["X_map"] = np.c_[times, side * np.exp(times / 2)]
    for lineage, sign in {"myeloid": 1, "erythroid": -1}.items():
        cells.obs[lineage] = np.where(side == sign, times, np.nan)
cells.layers["counts"] = cells.X.copy()
print(f"{cells.n_obs} cells, {cells.n_vars} genes, {'measured' if found else 'simulated'}")

# %%
# The 40 genes that vary most between cells are marked, as ``sc.pp.highly_variable_genes`` marks them.

table = cells.to_df()
shares = table.div(table.sum(axis=1), axis=0)
cells.var["highly_variable"] = np.log1p(1000 * shares).var().rank(ascending=False) <= 40

# %%
# One fit for each lineage
# ------------------------
# ``axis_key`` names the column of ``obs`` with the pseudotime. Without it, the axis would be found. Expected counts are
# multiplied by the total of each cell. At most 500 cells of a lineage are taken, so that this page is quick.

from skdevae import BasisDeVAEClusterer, scverse

lineages = {}
for lineage in ("erythroid", "myeloid"):
    members = np.flatnonzero(cells.obs[lineage].notna())
    members = np.random.default_rng(0).permutation(members)[:500]
    lineages[lineage] = cells[np.sort(members)].copy()
    clusterer = BasisDeVAEClusterer(likelihood="nb", size_factors="sum", max_epochs=60, random_state=0)
    scverse.fit(clusterer, lineages[lineage], layer="counts", axis_key=lineage, key_added="trend")

# %%
# What was written of the genes, in the order in which they change. ``trend_half_change_axis`` is where a gene has made
# half of its change, in units of the pseudotime.

along = lineages["erythroid"].var
columns = ["trend_behaviour", "trend_probability", "trend_direction", "trend_half_change_axis", "trend_order"]
first = along.sort_values("trend_order").head(12)
print(first[columns].to_string(float_format="{:.2f}".format))

# %%
# Where the cells are
# -------------------
# ``trend_axis`` is the position of a cell by its counts alone, in units of the pseudotime.

import matplotlib.pyplot as plt

fig, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
for ax, (lineage, some) in zip(axes, lineages.items(), strict=True):
    ax.scatter(*cells.obsm["X_map"].T, s=4, lw=0, color="#BFC5CB")
    points = ax.scatter(*some.obsm["X_map"].T, s=9, lw=0, c=some.obs["trend_axis"], cmap="viridis")
    ax.set(title=f"{lineage} lineage", xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    fig.colorbar(points, ax=ax, label="position by counts", shrink=0.8)

# %%
# All genes in order
# ------------------
# Cells from left to right along the lineage, genes from top to bottom by when they change. Colours are logarithms of
# shares, smoothed over 25 cells, each gene on a scale of its own. Genes that do not change are
# left out.

fig, axes = plt.subplots(1, 2, figsize=(10, 8), layout="constrained")
for ax, (lineage, some) in zip(axes, lineages.items(), strict=True):
    order = some.var["trend_order"].dropna().sort_values().index
    sorted_cells = some[some.obs[lineage].argsort()].to_df("counts")
    smooth = np.log1p(1000 * sorted_cells.div(sorted_cells.sum(axis=1), axis=0))[order]
    smooth = smooth.rolling(25, center=True, min_periods=10).mean()
    scaled = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    ax.imshow(scaled.T, aspect="auto", cmap="magma", interpolation="none")
    ax.set_yticks(range(len(order)), order, fontsize=8)
    ax.set(title=f"{lineage} lineage", xticks=[], xlabel="cells by pseudotime")

# %%
# Genes that part the ways
# ------------------------
# The change of a gene, from the start of a lineage to where it is farthest from it, in counts of a cell of median size.
# Square roots make large and small counts comparable. Genes on the diagonal do the same on both ways. Those in the
# upper left and the lower right rise on one and fall on the other.

changes = pd.DataFrame({lineage: some.var["trend_change"] for lineage, some in lineages.items()}).dropna()
roots = np.sign(changes) * np.sqrt(changes.abs())
apart = (roots["erythroid"] - roots["myeloid"]).abs().nlargest(14).index

fig, ax = plt.subplots(figsize=(6.5, 6), layout="constrained")
ax.axline((0, 0), slope=1, color="#BFC5CB", lw=1)
ax.axhline(0, color="#BFC5CB", lw=0.8)
ax.axvline(0, color="#BFC5CB", lw=0.8)
ax.scatter(roots["myeloid"], roots["erythroid"], s=16, color="#34009C")
for number, gene in enumerate(roots.loc[apart].sort_values("erythroid").index):
    x, y = roots.loc[gene, ["myeloid", "erythroid"]]
    side = 1 if number % 2 else -1  # names of neighbours on different sides
    align = "left" if side > 0 else "right"
    ax.annotate(gene, (x, y), (5 * side, 0), textcoords="offset points", ha=align, va="center", fontsize=8)
ax.margins(0.12)
ax.set(xlabel="change on the myeloid lineage (signed root of counts)", ylabel="change on the erythroid lineage")
ax.spines[["top", "right"]].set_visible(False)

both = pd.concat({lineage: some.var["trend_behaviour"].astype(str) for lineage, some in lineages.items()}, axis=1)
print(both.loc[apart].to_string())

# %%
# A pseudotime was itself computed from these counts, so it is no surprise that genes change along it:
# p-values that take it as given are too small. Orders and shapes are what can be read here.

plt.show()
