"""Fits of tables on a Dask cluster against the same fits in one process.

    OMP_NUM_THREADS=1 python benchmarks/dask_fit.py [--parts fits chunks killed interrupted search] [--scale 1.0]
    OMP_NUM_THREADS=1 python benchmarks/dask_fit.py --scale 0.1 --epochs 10    # a try, in half a minute

The cluster has two workers of one thread each, processes on this machine. Client and scheduler are one more process.

fits         20 000 x 500 counts (nb, sparse chunks) and 5000 x 50 measurements of which 5 % are missing, in eight
             chunks. CPU is that of all processes. Other passes are those of the start, of judging features, and of
             placing the rows at the end. The second table is one E-step of the fitted model, asked ten times: medians
             of seconds, and means of the bytes that processes wrote to connections. "Computed" are the bytes that
             dask_cost.py predicts.
chunks       12 000 x 12 measurements in chunks of 100, 1000 and 10 000 rows, in uneven ones, and with its chunks in
             random order.
killed       A worker is killed (SIGKILL) in the twentieth epoch.
interrupted  Ctrl-C (SIGINT) reaches the client and, as in a terminal, its workers in the twentieth epoch.
search       GridSearchCV over 3 x 3 settings and three folds through joblib's backend "dask".

Differences are the largest of any curve, relative to its range; of the score of the table, in nats a row; and of any
row's score, relative to its size. Those above 1e-6, of searches above 1e-9, make the exit status 1. ``--scale``
multiplies numbers of rows, and ``--epochs`` ends fits early.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import joblib
import numpy as np
import torch
from common import print_table
from dask_cluster import Passes, Traffic, cluster, cpu_seconds, in_chunks, one_thread
from dask_cost import EStep
from distributed import Client
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback

from skdevae import BasisDeVAEClusterer
from skdevae.datasets import make_progression, make_progression_counts
from skdevae.training.batches import expected_statistics
from skdevae.training.exact import grid_of

#: epoch in which a worker is killed, or a fit interrupted
EPOCH = 20
#: largest differences that pass: of fits, and of searches
TOLERANCE, OF_SEARCHES = 1e-6, 1e-9
PASSES = 10


def measurements(n_rows: int, n_features: int, gaps: float = 0.0) -> np.ndarray:
    """Features that rise, fall or come and go, of which a share of the entries is missing."""
    third = n_features // 3
    numbers = {"n_transient": n_features - 2 * third, "n_increasing": third, "n_decreasing": third}
    X = make_progression(n_rows, **numbers, random_state=0).data
    X[np.random.default_rng(0).random(X.shape) < gaps] = np.nan
    return X


def differences(found: Any, expected: Any, X: Any) -> dict[str, Any]:
    """How far two fits are apart, and what their features are called."""
    z = np.linspace(-2.5, 2.5, 101)
    curves = [model.trajectories(z) for model in (found, expected)]
    of_range = np.abs(curves[0] - curves[1]).max(0) / np.maximum(np.ptp(curves[1], axis=0), 1e-12)
    rows = [model.score_samples(X) for model in (found, expected)]
    return {
        "curves": float(of_range[np.ptp(curves[1], axis=0) > 0].max(initial=0)),
        "score": float(abs(rows[0].mean() - rows[1].mean())),
        "rows' scores": float((np.abs(rows[0] - rows[1]) / np.abs(rows[1]).clip(1)).max()),
        "labels": "equal" if (found.labels_ == expected.labels_).all() else "DIFFERENT",
    }


def is_close(row: dict[str, Any]) -> bool:
    return max(row["curves"], row["score"], row["rows' scores"]) <= TOLERANCE and row["labels"] == "equal"


def taken(call: Callable[[], Any], client: Client | None) -> tuple[Any, float, float]:
    """What a call returns, its seconds, and the CPU-seconds of all processes."""
    begin, begun = time.perf_counter(), cpu_seconds(client)
    answer = call()
    return answer, time.perf_counter() - begin, cpu_seconds(client) - begun


# ---- fits -----------------------------------------------------------------------------------------------------------


def fits(client: Client, scale: float, epochs: int | None) -> bool:
    cases = {
        "counts": (
            make_progression_counts(int(20_000 * scale), 500, random_state=0).data,
            BasisDeVAEClusterer(likelihood="nb", size_factors="sum", max_epochs=epochs, random_state=0),
        ),
        "measurements": (
            measurements(int(5000 * scale), 50, gaps=0.05),
            BasisDeVAEClusterer(max_epochs=epochs, random_state=0),
        ),
    }
    compared, passes = [], []
    traffic = Traffic(client)
    for name, (X, model) in cases.items():
        on_dask = in_chunks(X, -(-X.shape[0] // 8))
        with Passes() as counted:
            before = sum(traffic.sent())
            found, wall, cpu = taken(lambda model=model, X=on_dask: clone(model).fit(X), client)
            moved = sum(traffic.sent()) - before
        expected, wall_here, cpu_here = taken(lambda model=model, X=X: clone(model).fit(X), None)
        shape = f"{X.shape[0]} x {X.shape[1]} {name}"
        compared.append(
            {
                "table": shape,
                **differences(found, expected, X),
                "s": wall,
                "one process": wall_here,
                "CPU-s": cpu,
                "one process ": cpu_here,
                "moved, MB": moved / 1e6,
                "E-steps": len(counted.of_e_steps),
                "s a pass": float(np.median(counted.of_e_steps)),
                "other passes": len(counted.of_others),
                "s together": sum(counted.of_others),
            }
        )
        passes.append({"table": shape, **one_pass(client, traffic, found, X, on_dask)})
    print_wide(compared)
    print()
    print_wide(passes)
    return all(is_close(row) for row in compared)


def one_pass(client: Client, traffic: Traffic, model: BasisDeVAEClusterer, X: Any, on_dask: Any) -> dict[str, Any]:
    """Seconds and bytes of an E-step of a fitted model, and what the cost model says."""
    source, module, grid = e_step_of(model, on_dask)
    before, times = traffic.sent(), repeated(lambda: expected_statistics(module, source, grid), client)
    out, back = ((b - a) / (PASSES + 1) / 1e6 for a, b in zip(before, traffic.sent(), strict=True))
    step = EStep.of(module, source, grid, n_chunks=8, n_workers=2)
    here, _, _ = e_step_of(model, X)
    with torch.no_grad():
        times_here = repeated(lambda: expected_statistics(module, here, grid), None)
    return {
        "s a pass": times[0],
        "one process": times_here[0],
        "CPU-s": times[1],
        "   of client and scheduler": times[2],
        "one process ": times_here[1],
        "client and scheduler sent, MB": out,
        "   computed": step.sent_by_client_and_scheduler / 1e6,
        "workers sent, MB": back,
        "   computed ": step.sent_by_workers / 1e6,
        "question, MB": step.question / 1e6,
        "sums of a chunk, MB": step.answer / 1e6,
    }


def repeated(call: Callable[[], Any], client: Client | None) -> tuple[float, float, float]:
    """Median seconds of a call, and CPU-seconds of all processes and of this one."""
    call()
    seconds, begun, begun_here = [], cpu_seconds(client), time.process_time()
    for _ in range(PASSES):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    here, cpu = time.process_time() - begun_here, cpu_seconds(client) - begun
    return float(np.median(seconds)), cpu / PASSES, here / PASSES


def e_step_of(model: BasisDeVAEClusterer, X: Any) -> tuple[Any, Any, Any]:
    """Source, module and grid with which a fitted model's E-step is one of the fit's."""
    values, _ = model._validate(X, reset=False)
    source = model._reader_.read(values, size_factors=model.size_factors).source(torch.zeros((), dtype=torch.float64))
    return source, deepcopy(model.module_).double(), grid_of(source, model._settings())


# ---- chunks ---------------------------------------------------------------------------------------------------------


def chunks(client: Client, scale: float, epochs: int | None) -> bool:
    X = measurements(int(12_000 * scale), 12)
    n_rows, model = len(X), BasisDeVAEClusterer(max_epochs=epochs, random_state=0)
    expected, wall, _ = taken(lambda: clone(model).fit(X), None)
    rows: list[dict[str, Any]] = [{"chunks": "one process", "s": wall}]
    uneven = [1, n_rows // 2, 7, n_rows // 5]
    for name, sizes in {
        "of 100 rows": 100,
        "of 1000": 1000,
        "of 10 000": 10_000,
        "uneven": [*uneven, n_rows - sum(uneven)],
    }.items():
        found, wall, _ = taken(lambda sizes=sizes: clone(model).fit(in_chunks(X, sizes)), None)
        rows.append({"chunks": name, "s": wall, **differences(found, expected, X)})
    parts = np.array_split(np.arange(n_rows), 12)
    order = np.concatenate([parts[number] for number in np.random.default_rng(0).permutation(12)])
    found, wall, _ = taken(lambda: clone(model).fit(in_chunks(X[order], n_rows // 12)), None)
    rows.append({"chunks": "of 1000, in random order", "s": wall, **differences(found, expected, X)})
    print_table(rows)
    return all(is_close(row) for row in rows[1:])


# ---- killed and interrupted -----------------------------------------------------------------------------------------


class InEpoch(Callback):
    """Does something at the beginning of an epoch."""

    def __init__(self, epoch: int, act: Callable[[], None]):
        self.epoch, self.act = epoch, act

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        if len(net.history) == self.epoch:
            self.act()


def killed(client: Client, scale: float, epochs: int | None) -> bool:
    X, victim = measurements(int(5000 * scale), 50, gaps=0.05), min(client.run(os.getpid).values())
    epoch = min(EPOCH, epochs or EPOCH)
    callback = InEpoch(epoch, lambda: os.kill(victim, signal.SIGKILL))
    model = BasisDeVAEClusterer(max_epochs=epochs, random_state=0)
    expected, here, _ = taken(lambda: clone(model).fit(X), None)
    on_dask = in_chunks(X, -(-len(X) // 8))
    found, wall, _ = taken(lambda: clone(model).set_params(callbacks=[callback]).fit(on_dask), None)
    assert victim not in client.run(os.getpid).values(), "no worker has died"
    row = {
        "killed": f"1 of 2 workers, epoch {epoch}",
        **differences(found, expected, X),
        "s": wall,
        "one process": here,
    }
    print_table([row])
    return is_close(row)


def interrupted(client: Client, scale: float, epochs: int | None) -> bool:
    X, pids = measurements(int(5000 * scale), 50, gaps=0.05), list(client.run(os.getpid).values())
    epoch = min(EPOCH, epochs or EPOCH)

    def interrupt() -> None:
        for pid in [*pids, os.getpid()]:
            os.kill(pid, signal.SIGINT)

    model = BasisDeVAEClusterer(random_state=0, callbacks=[InEpoch(epoch, interrupt)])
    said = ""
    try:
        model.fit(in_chunks(X, -(-len(X) // 8)))
    except KeyboardInterrupt as interruption:
        said = str(interruption)
    print(f"interrupted in epoch {epoch}: {model.n_iter_} epochs kept, score {model.score(X):.4f}")
    print(f"KeyboardInterrupt: {said}")
    alive = sorted(client.run(os.getpid).values()) == sorted(pids)
    print(f"the same workers are there: {alive}")
    return model.n_iter_ in (epoch, epoch - 1) and "interrupted" in said and alive


# ---- search ---------------------------------------------------------------------------------------------------------


def search(client: Client, scale: float, epochs: int | None) -> bool:
    X = measurements(int(600 * scale) + 60, 12)
    grid = {"weight_precision": [1.0, 5.0, 20.0], "hidden_layer_sizes": [(8,), (16,), (32,)]}
    model = BasisDeVAEClusterer(max_epochs=epochs or 60, random_state=0)

    def searched(backend: str) -> Any:
        with joblib.parallel_config(backend=backend):
            return GridSearchCV(model, grid, cv=3).fit(X)

    expected, here, cpu_here = taken(lambda: searched("sequential"), None)
    found, wall, cpu = taken(lambda: searched("dask"), client)
    scores = [name for name in expected.cv_results_ if "test_score" in name]
    furthest = max(float(np.abs(found.cv_results_[name] - expected.cv_results_[name]).max()) for name in scores)
    same = found.best_params_ == expected.best_params_
    print_table(
        [
            {
                "candidates x folds": "9 x 3",
                "cv_results_": furthest,
                "best": "equal" if same else "DIFFERENT",
                "s": wall,
                "one process": here,
                "CPU-s": cpu,
                "one process ": cpu_here,
            }
        ]
    )
    return furthest <= OF_SEARCHES and same


PARTS = {"fits": fits, "chunks": chunks, "killed": killed, "interrupted": interrupted, "search": search}


def print_wide(rows: list[dict[str, Any]]) -> None:
    """A table with a line for each of its columns."""
    names = [name for name in rows[0] if name != "table"]
    print_table([{"": name, **{row["table"]: show(row[name]) for row in rows}} for name in names])


def show(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Parse arguments, run the parts, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--epochs", type=int)
    arguments = parser.parse_args()
    one_thread()
    failed = []
    for name in arguments.parts:
        print(f"\n{name}", flush=True)
        with cluster() as client:
            if not PARTS[name](client, arguments.scale, arguments.epochs):
                failed.append(name)
    if failed:
        sys.exit(f"not as in one process: {', '.join(failed)}")


if __name__ == "__main__":
    main()
