"""Batches of simulated cells: clusters and batches in latents, with covariates and without.

    python benchmarks/batches.py [--seeds 3] [--samples 1000] [--features 500] [--interaction 0.5] [--composition 0]

Cells in six clusters of unequal size (`make_cell_clusters`), as one batch and as two. The second batch shifts the log
means of all features (sd .3), in part by amounts of its own for each cluster (`--interaction`, a multiple of that sd).
With `--composition` batches differ in their clusters as well. Printed for each table and method: the adjusted Rand
index of six k-means clusters of the latents and of the model's own clusters (of VampVAE merged into six; as many as
DGDEmbedder finds, of ten), the mean silhouette of the latents by cluster and by batch, and the mean of the silhouettes
by batch within each cluster. Beside them, 20 principal components of log1p of normalised counts, "given the batch" less
the mean of each batch.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from common import print_table, set_threads
from embeddings import log_normalized, rand_index
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score, silhouette_score
from sklearn.utils import Bunch

from skdevae import DGDEmbedder, VampVAE
from skdevae.datasets import make_cell_clusters

N_CLUSTERS = 6
#: what is drawn, and whether the model is given the batch
CASES = {"one batch": (1, False), "two batches": (2, False), "two batches, given": (2, True)}


def principal_components(cells: Bunch, given: bool) -> np.ndarray:
    """Scores, of the table less the mean of each batch where the batch is given."""
    table = log_normalized(cells.data)
    if given:
        for batch in np.unique(cells.batch):
            table[cells.batch == batch] -= table[cells.batch == batch].mean(0)
    return PCA(20, random_state=0).fit_transform(table)


def measures(cells: Bunch, Z: np.ndarray, labels: np.ndarray | None) -> dict:
    """How latents (N, Q) agree with clusters and batches."""
    row = {
        "ARI, k-means": rand_index(Z, cells.target),
        "ARI, own": np.nan if labels is None else adjusted_rand_score(cells.target, labels),
        "silhouette": silhouette_score(Z, cells.target),
    }
    if cells.batch.any():
        members = [cells.target == cluster for cluster in range(N_CLUSTERS)]
        within = [silhouette_score(Z[these], cells.batch[these]) for these in members]
        row |= {"by batch": silhouette_score(Z, cells.batch), "within": float(np.mean(within))}
    return row


def measure(seed: int, options: argparse.Namespace) -> list[dict]:
    """All cases and methods for one seed."""
    rows = []
    for case, (n_batches, given) in CASES.items():
        cells = make_cell_clusters(
            options.samples,
            options.features,
            n_markers=options.features // 10,
            n_batches=n_batches,
            interaction=options.interaction,
            composition_sd=options.composition,
            random_state=seed,
        )
        batch = {"batch": [f"batch {number}" for number in cells.batch]} if given else None
        rows.append({"case": case, "method": "PCA", **measures(cells, principal_components(cells, given), None)})
        for model in (VampVAE(n_clusters=N_CLUSTERS), DGDEmbedder()):
            model.set_params(likelihood="nb", random_state=seed).fit(cells.data, covariates=batch)
            Z = model.transform(cells.data, covariates=batch)
            rows.append({"case": case, "method": type(model).__name__, **measures(cells, Z, model.labels_)})
        print(pd.DataFrame(rows[-3:]).round(3).to_string(index=False, header=len(rows) == 3), flush=True)
    return [{"seed": seed, **row} for row in rows]


def main() -> None:
    """Parse arguments, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--features", type=int, default=500)
    parser.add_argument("--interaction", type=float, default=0.5)
    parser.add_argument("--composition", type=float, default=0.0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    set_threads(options.threads)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    rows = pd.DataFrame([row for seed in seeds for row in measure(seed, options)])
    means = rows.drop(columns="seed").groupby(["case", "method"], sort=False).mean().round(3).reset_index()
    print_table(means.to_dict("records"))


if __name__ == "__main__":
    main()
