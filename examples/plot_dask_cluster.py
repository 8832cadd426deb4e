"""
=========================================================
A table on a cluster: chunks that never leave the workers
=========================================================

Cells come in chunks, as files do that were written one after another. Workers of Dask read a chunk each, keep it, and
evaluate what the fit asks about its cells. Only sums come back, so the size of the table does not matter to this
process, and the result is that of a fit in one process.

This needs the extra ``dask``: ``pip install "skdevae[dask]"``.
"""

# %%
# A cluster
# ---------
# Two workers within this process stand for a cluster, so that the example starts at once. A client of any other cluster
# of Dask is used in the same way.

from distributed import Client, LocalCluster

cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0")
client = Client(cluster)

# %%
# A table of chunks
# -----------------
# Six chunks of 300 cells. Of 24 genes eight rise along a hidden time, eight fall, and eight come and go. Here a chunk
# is drawn, elsewhere it is read from a file. If a worker dies, another one reads its chunks again, and a fit goes on.

import dask
import dask.array as da
import numpy as np

N_CHUNKS, N_CELLS, N_GENES = 6, 300, 24
truth = np.repeat(["increasing", "decreasing", "transient"], N_GENES // 3)


def read_chunk(number):
    """Hidden times and counts of some cells, in one array."""
    genes, cells = np.random.default_rng(0), np.random.default_rng([1, number])
    time, depth = cells.uniform(-2, 2, (N_CELLS, 1)), np.exp(cells.normal(0, 0.4, (N_CELLS, 1)))
    middle, slope = genes.uniform(-1, 1, N_GENES), genes.uniform(1.5, 3, N_GENES)
    rising = 1 / (1 + np.exp(-slope * (time - middle)))
    passing = np.exp(-((time - middle) ** 2) / 0.8)
    share = np.select([truth == "increasing", truth == "decreasing"], [rising, 1 - rising], passing)
    means = depth * np.exp(genes.normal(1.5, 0.7, N_GENES)) * (0.1 + share)
    return np.hstack([time, cells.poisson(cells.gamma(4, means / 4))])


read = dask.delayed(read_chunk)
shape = (N_CELLS, 1 + N_GENES)
table = da.concatenate([da.from_delayed(read(number), shape, dtype=float) for number in range(N_CHUNKS)])

# %%
# ``persist`` makes the workers keep what they have read. Without it, every pass of the fit would read the chunks again.

counts, time = dask.persist(table[:, 1:], table[:, 0])
print(counts)

# %%
# A fit, and answers in chunks
# ----------------------------
# ``fit`` waits until the model is there. What the fitted model says of the cells is lazy: chunks again, which the
# workers compute when they are asked to.

from skdevae import BasisDeVAEClusterer

model = BasisDeVAEClusterer(likelihood="nb", size_factors="sum", max_epochs=40, random_state=0).fit(counts)
lazy = model.transform(counts)
print(f"positions: {lazy.npartitions} chunks of {lazy.chunks[0][0]} cells, not computed yet")

# %%
# Positions are compared with the hidden time, and behaviours with the true ones. Nothing says which way time runs along
# the axis, so rises and falls may be exchanged.

from scipy.stats import spearmanr

position, time = dask.compute(lazy[:, 0], time)
found = model.feature_labels(threshold=0.5)
if spearmanr(position, time)[0] < 0:
    found = np.select([found == "increasing", found == "decreasing"], ["decreasing", "increasing"], found)
print(f"rank correlation of positions with the hidden time: {abs(spearmanr(position, time)[0]):.3f}")
print(f"genes with the right behaviour: {(found == truth).sum()} of {N_GENES}")

# %%
# The result
# ----------
# Left: expected counts of all genes along the axis, relative to their means, in the colours of the behaviours that were
# found. Right: cells of all chunks lie on one axis.

import matplotlib.pyplot as plt

colors = {"increasing": "#C44E00", "decreasing": "#0072B2", "transient": "#2A8A57"}
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
z = np.linspace(*np.quantile(position, [0.01, 0.99]), 100)
curves = np.log2(model.trajectories(z) / model.trajectories(position).mean(0))
names = model.feature_labels(threshold=0)
for name, color in colors.items():
    lines = left.plot(z, curves[:, names == name], color=color, linewidth=1.2)
    if lines:
        lines[0].set_label(name)
left.set_xlabel("position on the latent axis")
left.set_ylabel("expected count,\nrelative to its mean (log2)")
left.set_ylim(top=curves.max() + 1.2)
left.legend(loc="upper center", ncols=3, frameon=False, fontsize=9, handlelength=1, columnspacing=1)

chunk = np.repeat(np.arange(1, N_CHUNKS + 1), N_CELLS)
order = np.random.default_rng(0).permutation(len(position))
points = right.scatter(position[order], time[order], c=chunk[order], s=6, cmap=plt.get_cmap("viridis", N_CHUNKS))
points.set_clim(0.5, N_CHUNKS + 0.5)
figure.colorbar(points, ax=right, label="chunk", ticks=range(1, N_CHUNKS + 1))
right.set_xlabel("position on the latent axis")
right.set_ylabel("hidden time")
for ax in (left, right):
    ax.spines[["top", "right"]].set_visible(False)

# %%
# A search on the same workers
# ----------------------------
# scikit-learn hands fits to joblib, and joblib hands them to Dask. Each fit runs on one worker, on cells in memory.
# Here the search compares two distributions of counts on the cells of one chunk, by the log-likelihood of cells that
# were held out (nats per cell).

import joblib
import pandas as pd
from sklearn.model_selection import GridSearchCV

cells = counts[:N_CELLS].compute()
search = GridSearchCV(
    BasisDeVAEClusterer(size_factors="sum", max_epochs=20, random_state=0),
    {"likelihood": ["poisson", "nb"]},
    cv=2,
    refit=False,
)
with joblib.parallel_config(backend="dask"):
    search.fit(cells)
results = pd.DataFrame(search.cv_results_)
print(results[["param_likelihood", "mean_test_score"]].round(1).to_string(index=False))

# %%
# At the end, the client and the cluster are closed.

client.close()
cluster.close()

plt.show()
