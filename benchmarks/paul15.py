"""Erythroid differentiation (Paul et al. 2015): held-out log-likelihood per cell and the axis against pseudotime.

    python benchmarks/paul15.py

Raw counts of 240 genes in the 1244 cells with erythroid lineage weight above 0.5, no size factors; the first 90 % of
RandomState(0).permutation train. The published amortised model (nb) reached -507.5 nats per cell after 300 epochs.
"""

from __future__ import annotations

import argparse

import numpy as np
from common import print_table, seconds, set_threads, shared_data
from scipy.sparse import csr_array
from scipy.stats import spearmanr

from skdevae import BasisDeVAEClusterer


def load() -> tuple[csr_array, np.ndarray]:
    """Counts of the erythroid cells and their slingshot pseudotimes."""
    data = np.load(shared_data("paul15_240genes.npz"), allow_pickle=False)
    erythroid = data["lineage_weight"][:, 1] > 0.5
    return csr_array(data["X"][erythroid].astype(np.float32)), data["pseudotime"][erythroid, 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    set_threads(parser.parse_args().threads)
    counts, pseudotime = load()
    order = np.random.RandomState(0).permutation(counts.shape[0])
    train, test = np.split(order, [int(0.9 * len(order))])
    library = np.asarray(counts.sum(1)).ravel()
    rows = []
    for likelihood in ("nb", "zinb", "poisson"):
        model = BasisDeVAEClusterer(likelihood=likelihood, random_state=0)
        elapsed = seconds(lambda model=model: model.fit(counts[train]))
        axis = model.transform(counts)[:, 0]
        rows.append(
            {
                "likelihood": likelihood,
                "held-out nats per cell": round(model.score(counts[test]), 2),
                "train": round(model.score(counts[train]), 2),
                "abs Spearman with pseudotime, all cells": abs(spearmanr(axis, pseudotime)[0]).round(3),
                "training cells": abs(spearmanr(axis[train], pseudotime[train])[0]).round(3),
                "with total count": abs(spearmanr(axis, library)[0]).round(3),
                "s": round(elapsed, 1),
            }
        )
    print_table(rows)


if __name__ == "__main__":
    main()
