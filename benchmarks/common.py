"""What the benchmarks share: data, threads, timing, peak memory and tables."""

from __future__ import annotations

import os
import resource
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import torch

T = TypeVar("T")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def set_threads(n: int) -> None:
    """Use n threads and say so."""
    torch.set_num_threads(n)
    load = os.getloadavg()[0]
    print(f"{n} thread(s) of {os.cpu_count()} cores, load before the start {load:.1f}")


def shared_data(name: str) -> Path:
    """Path of a file of ../shared/data."""
    path = SHARED_DATA / name
    if not path.exists():
        raise SystemExit(f"This benchmark reads ../shared/data/{name}, which is not part of the repository.")
    return path


def seconds(run: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def timed(call: Callable[[], T]) -> tuple[T, float]:
    """What a call returns, and the CPU-seconds that it took."""
    begin = time.process_time()
    return call(), time.process_time() - begin


def median_seconds(run: Callable[[], object], repeats: int) -> float:
    """Median of several calls, after one that is not counted."""
    run()
    return statistics.median(seconds(run) for _ in range(repeats))


def peak_memory_gib() -> float:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def random_splits(n_samples: int, n_splits: int, share: float = 0.8) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Random partitions into training and test rows, seeded by their number."""
    for seed in range(n_splits):
        order = np.random.RandomState(seed).permutation(n_samples)
        cut = int(share * n_samples)
        yield order[:cut], order[cut:]


def print_table(rows: Sequence[dict]) -> None:
    """Rows as aligned text."""
    with pd.option_context("display.width", 160, "display.max_columns", 20):
        print(pd.DataFrame(rows).to_string(index=False))
