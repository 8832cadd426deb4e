"""Clusters of simulated cells: DGDEmbedder, its published start, and a mixture on principal components.

    python benchmarks/dgd_clusters.py [--seeds 10]

1000 cells x 500 genes in six clusters of weights .30 .25 .20 .10 .10 .05 (`make_cell_clusters`). Printed for each seed:
the adjusted Rand index of `labels_` with the truth for six components and for twelve (and how many of these are left,
`n_clusters_`), of the published start (representations at zero, means drawn from the softball prior), and of scikit-
learn's GaussianMixture (10 starts) and k-means (10 starts) on 20 principal components of log1p of normalised counts.
"""

from __future__ import annotations

import argparse

import pandas as pd
from common import print_table, seconds, set_threads
from embeddings import log_normalized
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from skdevae import DGDEmbedder
from skdevae.datasets import make_cell_clusters

N_CLUSTERS = 6


def measure(seed: int) -> dict:
    """One table, all methods."""
    cells = make_cell_clusters(random_state=seed)
    truth = cells.target
    model = DGDEmbedder(n_clusters=N_CLUSTERS, likelihood="nb", random_state=seed)
    took = seconds(lambda: model.fit(cells.data))
    doubled = DGDEmbedder(n_clusters=2 * N_CLUSTERS, likelihood="nb", random_state=seed).fit(cells.data)
    published = DGDEmbedder(
        n_clusters=N_CLUSTERS,
        likelihood="nb",
        latent_init="zero",
        mixture_init="softball",
        weight_decay=1e-4,
        activation="relu",
        may_be_empty=False,
        random_state=seed,
    ).fit(cells.data)
    Z = PCA(20, random_state=0).fit_transform(log_normalized(cells.data))
    mixture = GaussianMixture(N_CLUSTERS, covariance_type="diag", n_init=10, random_state=seed)
    return {
        "seed": seed,
        "DGD": adjusted_rand_score(truth, model.labels_),
        "DGD, K = 12": adjusted_rand_score(truth, doubled.labels_),
        "of 12 left": doubled.n_clusters_,
        "published start": adjusted_rand_score(truth, published.labels_),
        "PCA + GMM": adjusted_rand_score(truth, mixture.fit_predict(Z)),
        "PCA + k-means": adjusted_rand_score(truth, KMeans(N_CLUSTERS, n_init=10, random_state=seed).fit_predict(Z)),
        "seconds": took,
    }


def main() -> None:
    """Parse arguments, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    rows = []
    for seed in range(arguments.seeds):
        rows.append(measure(seed))
        print({name: round(float(value), 3) for name, value in rows[-1].items()}, flush=True)
    means = pd.DataFrame(rows).drop(columns="seed").mean()
    print_table([*pd.DataFrame(rows).round(3).to_dict("records"), {"seed": "mean", **means.round(3)}])


if __name__ == "__main__":
    main()
