"""Fits that processes share (data_parallel=True): seconds and bytes of a step, and whether the answers are the same.

    python benchmarks/data_parallel.py [--rows 4000] [--features 300] [--batch 128] [--epochs 8] [--processes 1 2]
        [--models vamp dgd] [--seeds 1] [--noise 0.4]

Counts of generated cells. Every fit takes the same batches: P processes take batch / P rows each. Epochs are medians,
in seconds of the clock and of all processors together. "rest" is what a fit does beside them: the start, and what
follows training. "MB / step" is what each process sends for one step, computed from the size of the network (a ring
sends 2 (P - 1) / P times its gradients), and "on lo" what the loopback device has counted during a fit. The last
columns compare with one process: the largest difference of an epoch's loss, and of the mean log-likelihood of rows that
were held out, in nats a row; and whether all processes hold the same parameters, bit by bit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from common import peak_memory_gib, print_table
from skorch.callbacks import Callback

from skdevae import DGDEmbedder, VampVAE

LOOPBACK = Path("/sys/class/net/lo/statistics/tx_bytes")


def counts(n_rows: int, n_features: int, noise: float, seed: int) -> np.ndarray:
    """Counts of eight groups of cells, of depths that differ by ``noise`` on the log scale."""
    random = np.random.default_rng(seed)
    shares = random.dirichlet(np.full(n_features, 0.3), 8)[random.integers(8, size=n_rows)]
    means = 3 * n_features * np.exp(random.normal(0, noise, (n_rows, 1))) * shares
    return random.negative_binomial(4, 4 / (4 + means)).astype(np.float32)


class EpochTimes(Callback):
    """Seconds of the clock and of this process's processor at the start and at the end of every epoch."""

    def on_train_begin(self, net, **kwargs):
        self.epochs_ = []

    def on_epoch_begin(self, net, **kwargs):
        self.begin_ = np.array([time.perf_counter(), time.process_time()])

    def on_epoch_end(self, net, **kwargs):
        self.epochs_.append(np.array([time.perf_counter(), time.process_time()]) - self.begin_)


def estimator(model: str, options: argparse.Namespace, n_processes: int, seed: int) -> VampVAE | DGDEmbedder:
    settings = {
        "likelihood": "nb",
        "max_epochs": options.epochs,
        "batch_size": options.batch // n_processes,
        "device": "cpu",
        "random_state": seed,
        "data_parallel": True,
    }
    return VampVAE(**settings) if model == "vamp" else DGDEmbedder(n_init=1, **settings)


def fit(options: argparse.Namespace, folder: Path) -> None:
    """What each process does: the fits, and a file with what they took and found."""
    rank, n_processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    warnings.simplefilter("ignore")
    found = {}
    for model in options.models:
        for seed in range(options.seeds):
            table = counts(options.rows + 500, options.features, options.noise, seed)
            times = EpochTimes()
            sent, begin = _sent(), np.array([time.perf_counter(), time.process_time()])
            fitted = estimator(model, options, n_processes, seed).set_params(callbacks=[times]).fit(table[:-500])
            whole = np.array([time.perf_counter(), time.process_time()]) - begin
            n_steps = fitted.n_iter_ * -(-options.rows // (options.batch))
            found[f"{model} {seed}"] = {
                "epoch": np.median(times.epochs_, 0).tolist(),
                "rest": (whole - np.sum(times.epochs_, 0)).tolist(),
                "bytes": (_sent() - sent) / n_steps / n_processes,
                "parameters": sum(p.numel() for p in fitted.module_.parameters()),
                "losses": [epoch["train_loss"] for epoch in fitted.history_],
                "held_out": fitted.score(table[-500:]),
                "weights": [p.double().numpy().tobytes().hex() for p in fitted.module_.parameters()],
                "peak": peak_memory_gib(),
            }
    (folder / f"{n_processes}_{rank}.json").write_text(json.dumps(found))


def _sent() -> float:
    return float(LOOPBACK.read_text()) if LOOPBACK.exists() else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--features", type=int, default=300)
    parser.add_argument("--batch", type=int, default=128, help="rows of a step, in all processes together")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--models", nargs="+", default=["vamp", "dgd"], choices=["vamp", "dgd"])
    parser.add_argument("--seeds", type=int, default=1, help="tables, and fits of each model")
    parser.add_argument("--noise", type=float, default=0.4, help="sd of the cells' log depths")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder is not None:
        fit(options, options.folder)
        return
    print(f"{options.rows} x {options.features}, {options.batch} rows a step, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        for n_processes in options.processes:
            launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n_processes}"]
            environment = {"OMP_NUM_THREADS": "1", **os.environ}
            command = [sys.executable, *launch, __file__, *sys.argv[1:], "--folder", folder]
            subprocess.run(command, check=True, env=environment)
        found = {
            n: [json.loads((Path(folder) / f"{n}_{rank}.json").read_text()) for rank in range(n)]
            for n in options.processes
        }
    rows = []
    for name in found[options.processes[0]][0]:
        one = found[options.processes[0]][0][name]
        for n_processes, of_all in found.items():
            here = [of_one[name] for of_one in of_all]
            first, epochs = here[0], np.array([each["epoch"] for each in here])
            rows.append(
                {
                    "fit": name,
                    "P": n_processes,
                    "epoch s": round(epochs[:, 0].max(), 3),
                    "ratio": round(epochs[:, 0].max() / one["epoch"][0], 2),
                    "CPU-s": round(epochs[:, 1].sum(), 3),
                    "rest s": round(max(each["rest"][0] for each in here), 2),
                    "rest CPU-s": round(sum(each["rest"][1] for each in here), 2),
                    "GiB each": round(max(each["peak"] for each in here), 2),
                    "MB / step": round(2 * (n_processes - 1) / n_processes * 4 * first["parameters"] / 1e6, 3),
                    "on lo": round(first["bytes"] / 1e6, 3),
                    "loss": f"{np.abs(np.subtract(first['losses'], one['losses'])).max():.1e}",
                    "held out": f"{abs(first['held_out'] - one['held_out']):.1e}",
                    "same": all(each["weights"] == first["weights"] for each in here),
                }
            )
    print_table(rows)


if __name__ == "__main__":
    main()
