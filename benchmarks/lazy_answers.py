"""Lazy answers about Dask tables beside the same answers in memory: what a block costs, and that the numbers agree.

    python benchmarks/lazy_answers.py [--rows 8000] [--features 50] [--blocks 8000 4000 1000 250] [--workers 0]

Models are fitted to 500 rows in memory, and asked about all of them: as one array, and as a dask.array in blocks of so
many rows, one after another in this thread, or by ``--workers`` processes of a local cluster. The table has the
CPU-seconds of this process, their ratio to those in memory, milliseconds by which a block is dearer, and the largest
difference of any answer. Seconds of a cluster are wall-clock, its start not among them. At the end: how long it takes
to ask, for a table of 10 000 blocks of which none is computed.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from typing import Any

import dask
import dask.array as da
import numpy as np
from common import print_table, seconds, set_threads, timed

from skdevae import BasisDeVAEClusterer, DGDEmbedder, VampVAE
from skdevae.datasets import make_progression

N_TRAINING = 500
ASKED = {
    "BasisDeVAEClusterer": (BasisDeVAEClusterer(max_epochs=20, random_state=0), ["transform", "score_samples"]),
    "VampVAE": (VampVAE(2, max_epochs=5, random_state=0), ["transform", "predict"]),
    "DGDEmbedder": (DGDEmbedder(2, max_epochs=5, n_init=1, random_state=0), ["transform"]),
}


def compared(name: str, method: str, answer: Callable[[Any], Any], X: np.ndarray, sizes: list[int]) -> list[dict]:
    """A row of the table for each size of blocks."""
    answer(X[:10])  # what is made once
    expected, in_memory = timed(lambda: answer(X))
    rows = []
    for size in sizes:
        lazy = answer(da.from_array(X, chunks=(size, -1)))
        found, taken = timed(lazy.compute)
        rows.append(
            {
                "model": name,
                "method": method,
                "rows a block": size,
                "in memory, CPU-s": round(in_memory, 3),
                "lazy, CPU-s": round(taken, 3),
                "ratio": round(taken / in_memory, 2),
                "ms more a block": round(1000 * (taken - in_memory) / lazy.numblocks[0], 1),
                "largest difference": np.abs(found - expected).max(),
            }
        )
    return rows


def on_cluster(models: dict, X: np.ndarray, size: int, n_workers: int) -> list[dict]:
    """Wall-clock seconds of answers by workers, beside those in memory."""
    from dask.distributed import Client, LocalCluster

    rows = []
    with LocalCluster(n_workers=n_workers, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster):
        table = da.from_array(X, chunks=(size, -1)).persist()
        for name, (model, methods) in models.items():
            for method in methods:
                answer = getattr(model, method)
                answer(table[:size]).compute()  # workers import what they need
                in_memory = seconds(lambda answer=answer: answer(X))
                by_workers = seconds(answer(table).compute)
                rows.append({"model": name, "method": method, "in memory, s": in_memory, "workers, s": by_workers})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8000)
    parser.add_argument("--features", type=int, default=50)
    parser.add_argument("--blocks", type=int, nargs="+", default=[8000, 4000, 1000, 250])
    parser.add_argument("--workers", type=int, default=0)
    options = parser.parse_args()
    set_threads(1)
    warnings.simplefilter("ignore")  # models that were trained for some epochs only
    n_each, rest = divmod(options.features, 3)
    X = make_progression(
        options.rows, n_transient=n_each, n_increasing=n_each, n_decreasing=n_each + rest, random_state=0
    ).data
    models = {name: (model.fit(X[:N_TRAINING]), methods) for name, (model, methods) in ASKED.items()}
    with dask.config.set(scheduler="synchronous"):
        da.zeros(1).compute()  # Dask imports its scheduler
        print_table(
            [
                row
                for name, (model, methods) in models.items()
                for method in methods
                for row in compared(name, method, getattr(model, method), X, options.blocks)
            ]
        )
    many = da.zeros((10_000_000, options.features), chunks=(1000, -1))
    asking = timed(lambda: models["VampVAE"][0].transform(many))[1]
    print(f"to ask about {many.numblocks[0]} blocks: {asking:.3f} CPU-s")
    if options.workers:
        print_table(on_cluster(models, X, options.blocks[-1], options.workers))


if __name__ == "__main__":
    main()
