"""Simulated counts of the size of the paper's single-cell experiment (Table 3): one whole exact fit, to convergence.

    python benchmarks/single_cell.py [--likelihood nb] [--amortized-epoch]

8509 cells x 5216 genes as CSR, 11 % non-zero. With --amortized-epoch also one epoch of the published inference
(encoder, Gauss-Legendre quadrature, batch size 128), in the same process, after the peak memory of the fit is printed.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from common import peak_memory_gib, seconds, set_threads
from integrators import amortized_model
from scipy.sparse import csr_array
from scipy.stats import spearmanr
from sklearn.metrics import adjusted_rand_score

from skdevae import BasisDeVAEClusterer
from skdevae.datasets import make_progression_counts
from skdevae.table.source import RowSource
from skdevae.training.batches import ShuffledRows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--likelihood", choices=["poisson", "nb", "zinb"], default="nb")
    parser.add_argument("--cells", type=int, default=8509)
    parser.add_argument("--genes", type=int, default=5216)
    parser.add_argument("--amortized-epoch", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    simulated = make_progression_counts(arguments.cells, arguments.genes, random_state=0)
    counts = simulated.data
    density = counts.nnz / np.prod(counts.shape)
    n_cells, n_genes = counts.shape
    print(f"{n_cells} x {n_genes}, {density:.1%} non-zero; peak memory so far {peak_memory_gib():.2f} GiB")

    model = BasisDeVAEClusterer(likelihood=arguments.likelihood, random_state=0)
    elapsed = seconds(lambda: model.fit(counts))
    print(
        f"exact, {arguments.likelihood}: whole fit {elapsed:.1f} s ({model.n_iter_} passes), "
        f"peak memory {peak_memory_gib():.2f} GiB"
    )
    losses = np.array(model.history_[:, "train_loss"])
    print("loss per cell by epoch:", np.round(losses[:: max(1, len(losses) // 8)], 2), f"last {losses[-1]:.2f}")
    axis = model.transform(counts)[:, 0]
    print(
        f"abs Spearman of z with the true latent {abs(spearmanr(axis, simulated.times)[0]):.4f}, "
        f"ARI of the genes' behaviours {adjusted_rand_score(simulated.labels, model.labels_):.3f}"
    )
    print(f"score takes {seconds(lambda: model.score(counts)):.1f} s")

    if arguments.amortized_epoch:
        elapsed = amortized_epoch(counts, arguments.likelihood)
        print(f"amortised, Gauss-Legendre, batch size 128: one epoch {elapsed:.1f} s")


def amortized_epoch(counts: csr_array, likelihood: str) -> float:
    """Seconds of one training epoch of the published inference."""
    model = amortized_model("gauss-legendre", counts.shape[1], likelihood)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    source = RowSource(counts, None, None, torch.zeros(()))
    batches = ShuffledRows(source, 1, 128, torch.Generator().manual_seed(0))

    def epoch() -> None:
        for batch in batches:
            optimizer.zero_grad()
            model(*batch.arguments).total.backward()
            optimizer.step()

    return seconds(epoch)


if __name__ == "__main__":
    main()
