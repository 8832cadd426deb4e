"""Translation-invariant BasisVAE at the size of its paper's single-cell experiment: memory and seconds of exact passes.

    python benchmarks/many_clusters.py [--epochs 2]

8509 cells x 7000 genes as CSR, K = 50 (section 5.3). The published code evaluates an array of batch x genes x clusters
x hidden units: 128 x 7000 x 50 x 64 numbers of 4 bytes are 10.7 GiB. Here the 50 functions are evaluated on a table of
their own, and read at every grid point plus shift.
"""

from __future__ import annotations

import argparse

import numpy as np
from common import peak_memory_gib, seconds, set_threads

from skdevae import BasisVAEClusterer
from skdevae.datasets import make_progression_counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=8509)
    parser.add_argument("--genes", type=int, default=7000)
    parser.add_argument("--clusters", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--likelihood", choices=["poisson", "nb", "zinb"], default="zinb")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    counts = make_progression_counts(arguments.cells, arguments.genes, random_state=0).data
    print(f"{counts.shape[0]} x {counts.shape[1]}; peak memory so far {peak_memory_gib():.2f} GiB")
    model = BasisVAEClusterer(
        arguments.clusters,
        translation_invariant=True,
        likelihood=arguments.likelihood,
        max_epochs=arguments.epochs,
        random_state=0,
    )
    elapsed = seconds(lambda: model.fit(counts))
    passes = np.array(model.history_[:, "dur"])
    print(
        f"K = {arguments.clusters}, {arguments.likelihood}: {np.median(passes):.1f} s a pass with its gradient steps, "
        f"{elapsed:.1f} s for {model.n_iter_} passes with the search and the final posteriors, "
        f"{model.n_clusters_effective_} clusters in use, peak memory {peak_memory_gib():.2f} GiB"
    )


if __name__ == "__main__":
    main()
