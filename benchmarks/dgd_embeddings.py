"""DGDEmbedder on five data sets with labels, beside mixtures and k-means on principal components.

    python benchmarks/dgd_embeddings.py [--sets mixology pbmc4k bladder paul15 mnist] [--seeds 3]

The splits, likelihoods and principal components of `embeddings.py`, whose table has VampVAE on the same rows. As many
components as labels, 20 latents, defaults otherwise. Columns: adjusted Rand index of the training labels with
`labels_`, and with k-means on the representations; of held-out samples the importance-weighted log p(x) (500 draws),
log p(x | z) at the representations, and the root mean squared error of expected values; components left; seconds.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from common import print_table, seconds, set_threads
from embeddings import SCVI, Split, load, principal_scores, rand_index
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from skdevae import DGDEmbedder

MODELS: dict[str, dict] = {"DGD": {}, "VAD": {"representation": "variational"}}


def expected(model: DGDEmbedder, X) -> np.ndarray:
    """Expected values of held-out samples at their representations, in their own size."""
    Z = model.transform(X)
    mean = model.inverse_transform(Z)
    if model.likelihood == "nb":
        total = np.asarray(X.sum(1)).ravel()
        mean = mean * (total / mean.sum(1))[:, None]
    return mean


def measure(split: Split, options: dict, seed: int) -> dict:
    """Fit one model and judge it."""
    n_labels = len(np.unique(split.labels))
    model = DGDEmbedder(n_clusters=n_labels, likelihood=split.likelihood, random_state=seed, **options)
    took = seconds(lambda: model.fit(split.train))
    error = split.test.toarray() - expected(model, split.test)
    return {
        "ARI labels_": adjusted_rand_score(split.labels, model.labels_),
        "ARI k-means": rand_index(model.embedding_, split.labels),
        "log p(x)": model.score(split.test),
        "log p(x | z)": model.conditional_log_likelihood(split.test),
        "RMSE": np.sqrt(np.mean(error**2)),
        "left": model.n_clusters_,
        "epochs": model.n_iter_,
        "seconds": took,
    }


def baselines(split: Split, seed: int) -> dict[str, float]:
    """Adjusted Rand index on 20 principal components."""
    Z, n_labels = principal_scores(split), len(np.unique(split.labels))
    found = {
        f"PCA + GMM, {kind}": adjusted_rand_score(
            split.labels,
            GaussianMixture(n_labels, covariance_type=kind, n_init=10, random_state=seed).fit_predict(Z),
        )
        for kind in ("diag", "full")
    }
    return {**found, "PCA + k-means": rand_index(Z, split.labels, random_state=seed)}


def main() -> None:
    """Parse arguments, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=["mixology", "pbmc4k", "bladder", "paul15", "mnist"])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    for name in arguments.sets:
        split = load(name)
        print(f"\n{name}: {split.train.shape[0]} x {split.train.shape[1]}, {split.test.shape[0]} held out", flush=True)
        rows = []
        for model in arguments.models:
            fits = pd.DataFrame([measure(split, MODELS[model], seed) for seed in range(arguments.seeds)])
            rows.append({"model": model, **fits.mean().round(3)})
            print(pd.DataFrame(rows[-1:]).to_string(index=False), flush=True)
        plain = pd.DataFrame([baselines(split, seed) for seed in range(arguments.seeds)]).mean()
        rows += [{"model": method, "ARI labels_": round(value, 3)} for method, value in plain.items()]
        if name in SCVI:
            rows.append({"model": "scVI 1.4.2 *", "log p(x)": SCVI[name][0], "ARI k-means": SCVI[name][1]})
        print_table(rows)
    print("\n* measured elsewhere: nb, 10 latents, 128 hidden units, 100 epochs, 500 draws, given library size")


if __name__ == "__main__":
    main()
