"""
=========================================================
A table on a cluster: chunks that never leave the workers
=========================================================

Cells come in chunks, as files do that were written one after another. Workers of Dask read a chunk each, keep it, and
evaluate what the fit asks about its cells. Only sums come back, so the size of the table does not matter to this
process, and the result is that of a fit in one process. The cluster here is two processes on this machine. A client of
any other cluster of Dask is used in the same way.

What the fitted model says of the cells is lazy: chunks again, on the workers, until it is computed. In the end, the
same workers run a search over settings, a fit on each.

The table is simulated: eight chunks of 300 cells, 36 genes. Twelve genes rise along a hidden time, twelve fall, and
twelve come and go.

Run it as it is; there is nothing to download::

    python examples/plot_dask_cluster.py
    python examples/plot_dask_cluster.py --output figures/mine.png
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import dask
import dask.array as da
import joblib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from distributed import Client, LocalCluster
from scipy.stats import spearmanr
from sklearn.model_selection import GridSearchCV

from skdevae import BasisDeVAEClusterer

N_CHUNKS, N_CELLS, N_GENES, N_EPOCHS = 8, 300, 36, 60
BEHAVIORS = np.repeat(["increasing", "decreasing", "transient"], N_GENES // 3)
COLORS = {"increasing": "#C44E00", "decreasing": "#0072B2", "transient": "#2A8A57", "flat": "#8A939C"}

# %%
# 1. A table of chunks
# --------------------
# Each chunk is read by a task. So if a worker dies, another one reads its chunks again, and a fit goes on.


def read_chunk(number: int) -> np.ndarray:
    """Hidden times and counts of some cells, in one array: here they are drawn, elsewhere they are read from a file."""
    genes, cells = np.random.default_rng(0), np.random.default_rng([1, number])
    time, depth = cells.uniform(-2, 2, (N_CELLS, 1)), np.exp(cells.normal(0, 0.4, (N_CELLS, 1)))
    middle, slope = genes.uniform(-1, 1, N_GENES), genes.uniform(1.5, 3, N_GENES)
    rising = 1 / (1 + np.exp(-slope * (time - middle)))
    passing = np.exp(-((time - middle) ** 2) / 0.8)
    share = np.select([BEHAVIORS == "increasing", BEHAVIORS == "decreasing"], [rising, 1 - rising], passing)
    means = depth * np.exp(genes.normal(1.5, 0.7, N_GENES)) * (0.1 + share)
    return np.hstack([time, cells.poisson(cells.gamma(4, means / 4))])


def load_table() -> tuple[da.Array, da.Array]:
    """Counts of all cells, and their hidden times, which no model sees: chunks that the workers keep."""
    shape = (N_CELLS, 1 + N_GENES)
    read = dask.delayed(read_chunk)
    table = da.concatenate([da.from_delayed(read(number), shape, dtype=float) for number in range(N_CHUNKS)])
    # Without persist, every pass of the fit would read the chunks again.
    return dask.persist(table[:, 1:], table[:, 0])


# %%
# 2. A fit, and answers in chunks
# -------------------------------


def fit(counts: da.Array) -> BasisDeVAEClusterer:
    model = BasisDeVAEClusterer(likelihood="nb", size_factors="sum", max_epochs=N_EPOCHS, random_state=0)
    return model.fit(counts)


def report(model: BasisDeVAEClusterer, counts: da.Array, time: da.Array) -> np.ndarray:
    """Print what was found; positions of all cells (N,)."""
    lazy = model.transform(counts)
    print(f"positions: {lazy.npartitions} chunks of {lazy.chunks[0][0]} rows, {lazy.dtype}, not computed yet")
    position, time = dask.compute(lazy[:, 0], time)
    print(f"rank correlation of positions with the hidden time: {abs(spearmanr(position, time)[0]):.3f}")
    # Nothing says which way time runs along the axis.
    backwards = {"increasing": "decreasing", "decreasing": "increasing"}
    found = model.feature_labels(threshold=0.5)
    right = max((found == BEHAVIORS).sum(), (found == [backwards.get(name, name) for name in BEHAVIORS]).sum())
    print(f"genes with the right behaviour: {right} of {N_GENES}")
    return position


# %%
# 3. A search on the same workers
# -------------------------------
# scikit-learn hands fits to joblib, and joblib hands them to Dask. Each fit runs on one worker, on cells in memory.


def search(counts: da.Array) -> pd.Series:
    """Held-out log-likelihood of two distributions of counts, in nats a cell, on the cells of one chunk."""
    cells = counts[:N_CELLS].compute()
    model = BasisDeVAEClusterer(size_factors="sum", max_epochs=N_EPOCHS // 2, random_state=0)
    with joblib.parallel_config(backend="dask"):
        found = GridSearchCV(model, {"likelihood": ["poisson", "nb"]}, cv=2, refit=False).fit(cells).cv_results_
    return pd.Series(found["mean_test_score"], [parameters["likelihood"] for parameters in found["params"]])


# %%
# 4. Look at it
# -------------
# Expected counts of all genes along the axis, and where the cells of each chunk lie.


def draw(model: BasisDeVAEClusterer, position: np.ndarray, time: np.ndarray, output: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    z = np.linspace(*np.quantile(position, [0.01, 0.99]), 100)
    curves = np.log2(model.trajectories(z) / model.trajectories(position).mean(0))
    names = model.feature_labels(threshold=0.5)
    for name, color in COLORS.items():
        if (names == name).any():
            lines = left.plot(z, curves[:, names == name], color=color, linewidth=1.2)
            lines[0].set_label(name)
    left.set_xlabel("position on the latent axis")
    left.set_ylabel("expected count, relative to its mean (log2)")
    left.set_ylim(curves.min() - 1, curves.max() + 0.2)
    left.legend(title="found", loc="lower center", ncols=4, frameon=False)
    chunk = np.repeat(np.arange(N_CHUNKS), N_CELLS)
    order = np.random.default_rng(0).permutation(len(position))
    points = right.scatter(position[order], time[order], c=chunk[order], s=5, cmap=plt.get_cmap("viridis", N_CHUNKS))
    points.set_clim(-0.5, N_CHUNKS - 0.5)
    figure.colorbar(points, ax=right, label="chunk", ticks=range(N_CHUNKS))
    right.set_xlabel("position on the latent axis")
    right.set_ylabel("hidden time")
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=150)
    plt.close(figure)
    print(f"\nFigure: {output}")


def main(arguments: Sequence[str] | None = None, *, processes: bool = True) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("figures/dask_cluster.png"))
    options = parser.parse_args(arguments)
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=processes, dashboard_address=":0")
    with cluster, Client(cluster):
        counts, time = load_table()
        model = fit(counts)
        position = report(model, counts, time)
        print("\nHeld-out log-likelihood, in nats a cell")
        print(search(counts).round(2).to_string())
        draw(model, position, time.compute(), options.output)


if __name__ == "__main__":
    main()
