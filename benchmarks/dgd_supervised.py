"""Components with given classes: DGDEmbedder(supervised=True) beside logistic regression on principal components.

    python benchmarks/dgd_supervised.py [--sets mixology pbmc4k bladder paul15] [--seeds 3] [--mixture-init gmm]

The splits of `embeddings.py`. Printed: adjusted Rand index of the training samples' most probable components with their
classes, and accuracy on held-out samples, of which no class is shown; once more with nine tenths of the training
classes hidden (-1). Beside them the accuracy of scikit-learn's LogisticRegression on 20 standardised principal
components of log1p of normalised counts.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from common import print_table, set_threads
from embeddings import load
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skdevae import DGDEmbedder


def normalized(X) -> np.ndarray:
    """log1p of counts brought to a total of 1000."""
    X = X.toarray()
    return np.log1p(1000 * X / X.sum(1, keepdims=True))


def hidden(classes: np.ndarray, share: float, seed: int) -> np.ndarray:
    """The classes with a share of them, one of each kept, replaced by -1."""
    random = np.random.RandomState(seed)
    shown = random.rand(len(classes)) >= share
    for kind in np.unique(classes):
        shown[random.choice(np.nonzero(classes == kind)[0])] = True
    return np.where(shown, classes, -1)


def measure(name: str, seed: int, mixture_init: str | None) -> dict:
    """One seed of all methods."""
    split = load(name)
    kinds, train = np.unique(split.labels, return_inverse=True)
    test = np.searchsorted(kinds, split.test_labels)
    model = DGDEmbedder(
        n_clusters=len(kinds), likelihood="nb", supervised=True, mixture_init=mixture_init, random_state=seed
    )
    partly = hidden(train, 0.9, seed)
    row: dict = {"seed": seed}
    for label, y in (("", train), (", 10 % shown", partly)):
        model.fit(split.train, y)
        row[f"train ARI{label}"] = adjusted_rand_score(train, model.labels_)
        row[f"accuracy{label}"] = np.mean(model.predict(split.test) == test)
        shown = y >= 0
        regression = make_pipeline(
            FunctionTransformer(normalized, accept_sparse=True),
            PCA(20, random_state=seed),
            StandardScaler(),
            LogisticRegression(max_iter=2000),
        ).fit(split.train[shown], y[shown])
        row[f"PCA + logistic{label}"] = regression.score(split.test, test)
    return row


def main() -> None:
    """Parse arguments, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=["mixology", "pbmc4k", "bladder", "paul15"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--mixture-init", default=None, choices=["gmm", "kmeans", "softball"])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    rows = []
    for name in arguments.sets:
        fits = pd.DataFrame([measure(name, s, arguments.mixture_init) for s in range(arguments.seeds)]).drop(
            columns="seed"
        )
        rows.append({"set": name, **fits.mean().round(3)})
        print(rows[-1], flush=True)
    print_table(rows)


if __name__ == "__main__":
    main()
