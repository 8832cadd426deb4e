"""What the benchmarks of Dask share: a cluster on this machine, tables in chunks, and counters of passes and bytes."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import dask
import dask.array as da
import numpy as np
import scipy.sparse as sp
import torch
from distributed import Client, LocalCluster

from skdevae.table.distributed import DistributedTable

#: name of the function that is an E-step
E_STEP = "_expected_statistics"


@contextlib.contextmanager
def cluster(n_workers: int = 2) -> Iterator[Client]:
    """A client of workers of one thread each, in processes of their own, with everything imported."""
    options: dict[str, Any] = {"dashboard_address": ":0", "silence_logs": logging.CRITICAL}
    with LocalCluster(n_workers=n_workers, threads_per_worker=1, **options) as local, Client(local) as client:
        client.wait_for_workers(n_workers)
        client.run(_import_everything)
        yield client


def _import_everything() -> None:
    import skdevae.table.source
    import skdevae.training.exact  # noqa: F401


def in_chunks(X: np.ndarray | sp.csr_array, rows: int | Sequence[int]) -> da.Array:
    """A table in chunks of a number of rows, or of one number for each, held by the workers."""
    sizes = [rows] * (X.shape[0] // rows) + [X.shape[0] % rows] if isinstance(rows, int) else list(rows)
    sizes = [size for size in sizes if size]
    ends = np.cumsum(sizes)
    meta = sp.csr_array((0, X.shape[1]), dtype=X.dtype) if sp.issparse(X) else np.empty((0, 0), dtype=X.dtype)
    blocks = [
        da.from_delayed(dask.delayed(X[end - size : end]), (size, X.shape[1]), dtype=X.dtype, meta=meta)
        for size, end in zip(sizes, ends, strict=True)
    ]
    return da.concatenate(blocks).persist()


def cpu_seconds(client: Client | None) -> float:
    """CPU-seconds so far of this process, in which client and scheduler run, and of the workers."""
    of_workers = [] if client is None else client.run(time.process_time).values()
    return time.process_time() + sum(of_workers)


class Passes:
    """Counts the questions that a table of Dask is asked, as a context.

    Attributes
    ----------
    taken : list of (str, float)
        Name of the function that was asked about the rows, and seconds until the answer was there.
    """

    def __init__(self) -> None:
        self.taken: list[tuple[str, float]] = []

    def __enter__(self) -> Passes:
        self._before = {name: getattr(DistributedTable, name) for name in ("summed", "mapped", "check")}
        for name, method in self._before.items():
            setattr(DistributedTable, name, self._counted(method))
        return self

    def __exit__(self, *_: object) -> None:
        for name, method in self._before.items():
            setattr(DistributedTable, name, method)

    def _counted(self, method: Any) -> Any:
        def counted(table: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            answer = method(table, function, *args, **kwargs)
            self.taken.append((_name_of(function), time.perf_counter() - begin))
            return answer

        return counted

    @property
    def of_e_steps(self) -> list[float]:
        """Seconds of each E-step."""
        return [spent for name, spent in self.taken if name == E_STEP]

    @property
    def of_others(self) -> list[float]:
        """Seconds of every other pass."""
        return [spent for name, spent in self.taken if name != E_STEP]


def _name_of(function: Any) -> str:
    """The name of a function of rows, out of what it is wrapped in."""
    while isinstance(function, partial):
        function = function.args[1] if function.func.__name__ == "_of_source_of_part" else function.func
    return function.__name__


class Traffic:
    """Counts every byte that client, scheduler and workers write to their connections.

    What reaches the disk or the pipes of processes is not counted, and heartbeats are.
    """

    def __init__(self, client: Client):
        self._client = client
        _count_bytes()
        client.run(_count_bytes)

    def sent(self) -> tuple[int, int]:
        """Bytes so far: of client and scheduler, and of all workers."""
        of_workers = sum(self._client.run(_bytes_sent).values())
        return _bytes_sent(), of_workers


def _count_bytes() -> None:
    from distributed.comm.tcp import TCP

    if hasattr(TCP, "skdevae_bytes"):
        return
    TCP.skdevae_bytes = 0
    write = TCP.write

    async def counted(self: Any, *args: Any, **kwargs: Any) -> int:
        n_bytes = await write(self, *args, **kwargs)
        TCP.skdevae_bytes += n_bytes
        return n_bytes

    TCP.write = counted


def _bytes_sent() -> int:
    from distributed.comm.tcp import TCP

    return TCP.skdevae_bytes


def one_thread() -> None:
    """Let this process compute with as many threads as each worker."""
    torch.set_num_threads(1)
