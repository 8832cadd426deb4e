"""Tables 1 and 2 of the VAMP paper on our data: AE, VAE, VAE-IAF and VAE-Vamp, beside PCA + k-means.

    python benchmarks/embeddings.py [--sets mixology pbmc4k bladder paul15 mnist] [--seeds 3] [--components 10]

Counts are modelled as negative binomials given each cell's total, images (pixels above one half) as Bernoulli. 10
latents unless told otherwise, one hidden layer of 128, batches of 128, the defaults of VampVAE otherwise. The first
90 % of RandomState(0).permutation are trained on, the rest is held out; seeds are of the fits.

Columns: reconstruction loss -log p(x | z) and importance-weighted log p(x) of held-out samples (nats per sample; 500
draws), active units, principal components for 95 % of latent variance, silhouette by label (at most 3000 training
samples), adjusted Rand index with the labels of k-means on the training latents and (Vamp) of `predict` with
`n_clusters`, seconds per epoch.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp
from common import print_table, set_threads, shared_data
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score, silhouette_score

from skdevae import VampVAE
from skdevae.metrics import active_units, n_principal_components

MODELS: dict[str, dict] = {
    "AE": {"variational": False},
    "VAE": {"prior": "normal"},
    "VAE-IAF": {"prior": "normal", "posterior_family": "iaf"},
    "VAE-Vamp": {"prior": "vamp"},
}
#: held-out nats per cell, and ARI, of scVI 1.4.2 on the same splits, as measured elsewhere (../shared/data/README.md)
SCVI = {"mixology": (-1918.9, 1.0), "pbmc4k": (-634.8, 0.776), "bladder": (-493.6, 0.501), "paul15": (-449.2, 0.419)}


@dataclass(frozen=True)
class Split:
    """Training and held-out rows of a table with labels."""

    train: sp.csr_array
    test: sp.csr_array
    labels: np.ndarray  # of the training rows
    test_labels: np.ndarray
    likelihood: str


def load(name: str) -> Split:
    """One of the five data sets."""
    file = {
        "mixology": "mixology_celseq2_5cl.npz",
        "pbmc4k": "pbmc4k_2000.npz",
        "bladder": "mouse_bladder_2003.npz",
        "paul15": "paul15_240genes.npz",
        "mnist": "mnist_t10k.npz",
    }[name]
    data = np.load(shared_data(file), allow_pickle=False)
    X = data["X"]
    labels = data[next(key for key in ("cell_line", "cell_type", "y") if key in data.files)]
    if name == "mixology":  # droplets of two cells belong to no line
        single = data["demuxlet"] == "SNG"
        X, labels = X[single], labels[single]
    if name == "mnist":
        X = X.reshape(len(X), -1) > 127
    order = np.random.RandomState(0).permutation(len(X))
    cut = int(0.9 * len(X))
    table = sp.csr_array(X[order].astype(np.float32))
    likelihood = "bernoulli" if name == "mnist" else "nb"
    return Split(table[:cut], table[cut:], labels[order[:cut]], labels[order[cut:]], likelihood)


def silhouette(Z: np.ndarray, labels: np.ndarray) -> float:
    """Average silhouette width, of at most 3000 samples."""
    return silhouette_score(Z, labels, sample_size=min(len(Z), 3000), random_state=0)


def rand_index(Z: np.ndarray, labels: np.ndarray, n_init: int = 10, random_state: int = 0) -> float:
    """Of k-means with the true number of clusters."""
    found = KMeans(len(np.unique(labels)), n_init=n_init, random_state=random_state).fit_predict(Z)
    return adjusted_rand_score(labels, found)


def log_normalized(counts: sp.csr_array) -> np.ndarray:
    """log1p of counts brought to the rows' median total."""
    X = counts.toarray()
    size = X.sum(1, keepdims=True)
    return np.log1p(X * (np.median(size) / size))


def principal_scores(split: Split, n_components: int = 20) -> np.ndarray:
    """Principal components of log1p of the training rows' normalised counts (of pixels)."""
    X = log_normalized(split.train) if split.likelihood == "nb" else split.train.toarray()
    return PCA(n_components, random_state=0).fit_transform(X)


def pca(split: Split) -> dict:
    """The plain baseline: 20 principal components."""
    Z = principal_scores(split)
    return {"silhouette": silhouette(Z, split.labels), "ARI k-means": rand_index(Z, split.labels)}


def measure(split: Split, options: dict, seed: int) -> dict:
    """Fit one model and judge its embedding."""
    model = VampVAE(likelihood=split.likelihood, random_state=seed, **options)
    model.fit(split.train)
    Z = model.transform(split.train)
    row = {
        "reconstruction": -model.conditional_log_likelihood(split.test),
        "log p(x)": model.score(split.test) if model.variational else np.nan,
        "active": active_units(Z),
        "PCs 95 %": n_principal_components(Z),
        "silhouette": silhouette(Z, split.labels),
        "ARI k-means": rand_index(Z, split.labels),
        "s/epoch": np.median(model.history_[:, "dur"]),
        "epochs": model.n_iter_,
    }
    if model.prior == "vamp" and model.variational:
        model.set_params(n_clusters=len(np.unique(split.labels)))
        row["ARI predict"] = adjusted_rand_score(split.labels, model.predict(split.train))
    return row


def main() -> None:
    """Parse arguments, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=["mixology", "pbmc4k", "bladder", "paul15", "mnist"])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--components", type=int, default=10)
    parser.add_argument("--max-epochs", type=int, default=None)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    for name in arguments.sets:
        split = load(name)
        print(f"\n{name}: {split.train.shape[0]} x {split.train.shape[1]}, {split.test.shape[0]} held out", flush=True)
        rows = []
        for model in arguments.models:
            options = {**MODELS[model], "n_components": arguments.components, "max_epochs": arguments.max_epochs}
            fits = pd.DataFrame([measure(split, options, seed) for seed in range(arguments.seeds)])
            rows.append({"model": model, **fits.mean().round(3), "sd of log p(x)": fits["log p(x)"].std().round(1)})
            print(pd.DataFrame(rows[-1:]).to_string(index=False), flush=True)
        rows.append({"model": "PCA(20)", **pd.Series(pca(split)).round(3)})
        if name in SCVI:
            rows.append({"model": "scVI 1.4.2 *", "log p(x)": SCVI[name][0], "ARI k-means": SCVI[name][1]})
        print_table(rows)
    print("\n* measured elsewhere: nb, 10 latents, 128 hidden units, 100 epochs, 500 draws, given library size")


if __name__ == "__main__":
    main()
