"""Table 1 of the DGD paper on small tables of images: reconstruction by DGD, VAD and VAE under one standard normal.

    python benchmarks/dgd_images.py [--sets mnist fashion] [--seeds 3]

20 latents with a fixed standard normal prior, the same decoder (hidden layers 100, 100, 100, gelu) for all, the VAE's
encoder its mirror image. `mnist_t10k` (9000 of 10000 images trained on) and `fashion_mnist_900` (810 of 900), pixels
above one half. Columns: binary cross-entropy of held-out images in nats per pixel, at representations (DGD, VAD: found
by optimisation; VAE: the encoder's mean), importance-weighted log p(x) in nats per image, Shapiro-Wilk's W of the
training latents (mean over the components, at most 500 samples), adjusted Rand index of k-means on them, seconds.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
import pandas as pd
import scipy.sparse as sp
from common import print_table, seconds, set_threads, shared_data
from embeddings import rand_index
from scipy.stats import shapiro

from skdevae import DGDEmbedder, VAETransformer

N_COMPONENTS, HIDDEN = 20, (100, 100, 100)


def load(name: str) -> tuple[sp.csr_array, sp.csr_array, np.ndarray]:
    """Training and held-out images, and the classes of the training images."""
    data = np.load(shared_data({"mnist": "mnist_t10k.npz", "fashion": "fashion_mnist_900.npz"}[name]))
    X = sp.csr_array((data["X"].reshape(len(data["X"]), -1) > 127).astype(np.float32))
    order = np.random.RandomState(0).permutation(X.shape[0])
    cut = int(0.9 * X.shape[0])
    return X[order[:cut]], X[order[cut:]], data["y"][order[:cut]]


def models(seed: int, n_samples: int) -> dict[str, DGDEmbedder | VAETransformer]:
    """The three models of the table, trained for as many epochs."""
    epochs = max(200, math.ceil(2000 / math.ceil(n_samples / 128)))
    decoder = {"likelihood": "bernoulli", "hidden_layer_sizes": HIDDEN, "activation": "gelu", "random_state": seed}
    return {
        "DGD": DGDEmbedder(N_COMPONENTS, n_clusters=None, **decoder),
        "VAD": DGDEmbedder(N_COMPONENTS, n_clusters=None, representation="variational", **decoder),
        "VAE": VAETransformer(
            N_COMPONENTS,
            decoder="mlp",
            encoder_hidden_layer_sizes=HIDDEN[::-1],
            linear_skip=False,
            learning_rate=1e-3,
            max_epochs=epochs,
            n_iter_no_change=epochs,
            **decoder,
        ),
    }


def measure(model, train, test, labels: np.ndarray) -> dict:
    """Fit one model and judge it."""
    took = seconds(lambda: model.fit(train))
    Z = model.transform(train)
    chosen = np.random.RandomState(0).permutation(len(Z))[:500]
    return {
        "BCE a pixel": -model.conditional_log_likelihood(test) / test.shape[1],
        "log p(x)": model.score(test),
        "Shapiro-Wilk": np.mean([shapiro(component).statistic for component in Z[chosen].T]),
        "ARI k-means": rand_index(Z, labels),
        "epochs": model.n_iter_,
        "seconds": took,
    }


def main() -> None:
    """Parse arguments, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=["mnist", "fashion"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    for name in arguments.sets:
        train, test, labels = load(name)
        print(f"\n{name}: {train.shape[0]} x {train.shape[1]}, {test.shape[0]} held out", flush=True)
        rows = []
        for model in models(0, len(labels)):
            seeds = range(arguments.seeds)
            fits = pd.DataFrame([measure(models(s, len(labels))[model], train, test, labels) for s in seeds])
            rows.append({"model": model, **fits.mean().round(4), "sd of BCE": round(fits["BCE a pixel"].std(), 4)})
            print(pd.DataFrame(rows[-1:]).to_string(index=False), flush=True)
        print_table(rows)


if __name__ == "__main__":
    main()
