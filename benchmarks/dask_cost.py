"""What a fit on a cluster costs: a model of one pass, its constants measured here, and 100 million cells on 64 workers.

    OMP_NUM_THREADS=1 python benchmarks/dask_cost.py [--rows 1e8] [--features 2000] [--density 0.07] [--workers 64]

Measured on this machine: how fast one thread computes an E-step of sparse counts and of measurements; seconds of the
steps that follow it on the client; what Dask takes for a pass and for each task; and for each row of the table, memory
and CPU-seconds of the client. Computed from these: seconds, bytes and memory of the table that is asked for.
``benchmarks/dask_fit.py`` compares the bytes of :class:`EStep` with what a cluster sends.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import print_table, timed

#: bytes of a number in the sums and the coefficients
DOUBLE = 8
#: sums that Dask adds up in one task, and bytes of a chunk
TOGETHER, CHUNK_BYTES = 8, 100e6
#: bytes a second between two machines: 10 Gbit/s
NETWORK = 1.25e9
#: features of the table that is measured; points of the grid, epochs, and gradient steps of a large table
WIDTH, LARGE_GRID, LARGE_EPOCHS, STEPS = 2000, 65, 50, 4
#: E-steps that last as long as all passes before and after training: 17.2 s of 0.376 s, dask_fit.py's fit of counts
OTHER_PASSES = 46


@dataclass(frozen=True)
class EStep:
    """What one E-step on a cluster computes, reads and sends.

    Attributes
    ----------
    n_rows, n_features, n_stored : float
        Of the table; entries that are stored are all of a dense one.
    n_points : int
        Of the grid.
    has_gaps, has_positive : bool
        Whether entries are missing, and whether the likelihood asks which entries are above zero.
    module_bytes : float
        Of the model's parameters.
    row_bytes : float
        What travels with each row once: its size factor, its weight.
    n_chunks, n_workers : int
    """

    n_rows: float
    n_features: int
    n_stored: float
    n_points: int
    has_gaps: bool
    has_positive: bool
    module_bytes: float
    row_bytes: float
    n_chunks: int
    n_workers: int

    @classmethod
    def of(cls, module: Any, source: Any, grid: Any, n_chunks: int, n_workers: int) -> EStep:
        """Of a model, a source of rows and a grid."""
        has_gaps = not source.is_sparse and bool(np.isnan(source.table[: min(len(source), 200)]).any())
        return cls(
            len(source),
            source.n_features,
            source.n_stored,
            len(grid.points),
            has_gaps,
            module.likelihood.has_positive_term,
            sum(values.nbytes for values in module.state_dict().values()),
            sum(values.nbytes for values in vars(source.context).values() if values is not None) / len(source),
            n_chunks,
            n_workers,
        )

    @property
    def flops(self) -> float:
        """Multiplications and additions of two products of matrices, one for the posteriors and one for the sums.

        Each comes once more for the entries that are there, where some are missing, and for those above zero.
        """
        return 2 * 2 * (1 + self.has_gaps + self.has_positive) * self.n_stored * self.n_points

    @property
    def question(self) -> float:
        """Bytes of what is asked: two or three coefficients for every point and feature, and the model."""
        return DOUBLE * self.n_points * self.n_features * (2 + self.has_positive) + self.module_bytes

    @property
    def answer(self) -> float:
        """Bytes of the sums of one chunk: of entries, of those above zero, and of rows, by feature where some miss."""
        of_features = self.n_features * (1 + self.has_gaps + self.has_positive)
        return DOUBLE * self.n_points * (of_features + (not self.has_gaps))

    @property
    def n_sums(self) -> int:
        """Tasks that add up."""
        n, total = self.n_chunks, 0
        while n > 1:
            n = math.ceil(n / TOGETHER)
            total += n
        return total

    @property
    def sent_by_client_and_scheduler(self) -> float:
        """The question, from client to scheduler to a worker; the sum that comes back."""
        return 2 * self.question + self.answer

    @property
    def sent_with_rows(self) -> float:
        """What goes with rows, from client to scheduler to workers, in the first pass."""
        return 2 * self.n_rows * self.row_bytes

    @property
    def sent_by_workers(self) -> float:
        """The question from worker to worker, sums to where they are added up, and the last one to the scheduler."""
        n_added = self.n_chunks + self.n_sums - 1 if self.n_chunks > 1 else 0
        elsewhere = 1 - max(1 / self.n_workers, 1 / TOGETHER)
        return (self.n_workers - 1) * self.question + elsewhere * n_added * self.answer + self.answer


# ---- what is measured -----------------------------------------------------------------------------------------------


def measured(n_features: int) -> dict[str, float]:
    """Constants of this machine."""
    from dask_cluster import cluster

    from skdevae import BasisDeVAEClusterer
    from skdevae.datasets import make_progression_counts
    from skdevae.table.column_summary import summarize_columns
    from skdevae.training.batches import expected_statistics
    from skdevae.training.exact import grid_of

    X = make_progression_counts(3000, n_features, density=0.07, random_state=0).data
    found: dict[str, float] = {}
    for kind, table, options in (
        ("sparse", X, {"likelihood": "nb", "size_factors": "sum"}),
        ("dense", np.log1p(X[:1000].toarray()), {}),
    ):
        model = BasisDeVAEClusterer(max_epochs=1, random_state=0, n_grid_points=LARGE_GRID, **options).fit(table)
        sizes = model.size_factors if options else None
        like = torch.zeros((), dtype=torch.float64)
        source = model._reader_.read(model._validate(table, reset=False)[0], size_factors=sizes).source(like)
        module, grid = deepcopy(model.module_).double().requires_grad_(), grid_of(source, model._settings())
        step = EStep.of(module, source, grid, 1, 1)
        with torch.no_grad():
            statistics = expected_statistics(module, source, grid)
            spent = [timed(lambda m=module, s=source, g=grid: expected_statistics(m, s, g))[1] for _ in range(5)]
        found[f"{kind}: Gflop/s of an E-step"] = step.flops / np.median(spent) / 1e9
        if kind == "sparse":
            found |= m_step(module, statistics, summarize_columns(source, counts=True), grid)
            found["MB of the model"] = step.module_bytes / 1e6
    with cluster() as client:
        found |= overhead(client)
    few, many = (of_client(n_rows) for n_rows in (200_000, 800_000))
    more = many["rows"] - few["rows"]
    found["client: bytes a row"] = (many["peak"] - few["peak"]) / more
    found["client: CPU-s a million rows"] = (many["CPU-s"] - few["CPU-s"]) / more * 1e6
    return found


def m_step(module: Any, statistics: Any, summary: Any, grid: Any) -> dict[str, float]:
    """CPU-seconds of what follows an E-step of a large table."""
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-4, fused=True)

    def steps() -> None:
        with torch.no_grad():
            module.update_clusters_(statistics, grid)
        for _ in range(STEPS):
            optimizer.zero_grad()
            module(statistics, summary, grid).total.backward()
            optimizer.step()

    steps()
    return {"M-step: CPU-s": float(np.median([timed(steps)[1] for _ in range(3)]))}


def overhead(client: Any) -> dict[str, float]:
    """Seconds that Dask takes for a pass of which the question is nothing, and for each of its tasks."""
    from dask_cluster import in_chunks

    from skdevae.table.distributed import DistributedTable

    seconds = {}
    for n_chunks in (8, 264):
        table = DistributedTable.of_dask(in_chunks(np.ones((n_chunks, 2)), 1))
        table.check(_nothing_wrong)
        spent = []
        for _ in range(8):
            begin = time.perf_counter()
            table.summed(len)
            spent.append(time.perf_counter() - begin)
        seconds[n_chunks] = min(spent)
    a_task = (seconds[264] - seconds[8]) / (264 - 8)
    return {"Dask: ms a pass": 1e3 * (seconds[8] - 8 * a_task), "Dask: ms a chunk": 1e3 * a_task}


def _nothing_wrong(rows: Any, first_row: int) -> None:
    pass


def of_client(n_rows: int) -> dict[str, float]:
    """Peak memory and CPU-seconds of the process of client and scheduler, in a fit of two epochs of four columns."""
    command = [sys.executable, __file__, "--client-of", str(n_rows)]
    output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path.cwd()).stdout
    return json.loads(output.splitlines()[-1])


def fit_as_client(n_rows: int) -> None:
    """See :func:`of_client`."""
    import dask.array as da
    from dask_cluster import cluster

    from skdevae import DeVAETransformer

    torch.set_num_threads(1)
    with cluster() as client:
        random = da.random.default_rng(0)
        latent = random.normal(size=(n_rows, 1), chunks=(n_rows // 8, 1))
        X = (latent + random.normal(size=(n_rows, 4), chunks=(n_rows // 8, 4))).persist()
        client.run(int)
        begin = time.process_time()
        DeVAETransformer(max_epochs=2, random_state=0).fit(X)
        spent = time.process_time() - begin
    print(json.dumps({"rows": n_rows, "peak": peak_bytes(), "CPU-s": spent}))


def peak_bytes() -> int:
    """Peak resident memory of this process. What getrusage says begins with the peak of the process that started it."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


# ---- what is computed -----------------------------------------------------------------------------------------------


def extrapolated(step: EStep, found: dict[str, float], bytes_an_entry: float) -> list[dict[str, Any]]:
    """One pass and one fit of a large sparse table."""
    compute = step.flops / step.n_workers / found["sparse: Gflop/s of an E-step"] / 1e9
    scheduler = (found["Dask: ms a pass"] + step.n_chunks * found["Dask: ms a chunk"]) / 1e3
    with_question = (2 + math.log2(step.n_workers)) * step.question / NETWORK
    answers = (step.sent_by_workers / step.n_workers + 2 * step.answer) / NETWORK
    m_step = found["M-step: CPU-s"] * step.n_features / WIDTH
    a_pass = compute + scheduler + with_question + answers + m_step
    stored = step.n_stored * bytes_an_entry
    return [
        {"what": "entries of the table, billions", "value": step.n_stored / 1e9},
        {"what": "the table, GB", "value": stored / 1e9},
        {"what": "of which each worker holds, GB", "value": stored / step.n_workers / 1e9},
        {"what": "chunks", "value": step.n_chunks},
        {"what": "an E-step: Tflop", "value": step.flops / 1e12},
        {"what": "   computing, s", "value": compute},
        {"what": "   Dask's scheduling, s", "value": scheduler},
        {"what": "   coefficients to the workers, GB", "value": (step.n_workers + 1) * step.question / 1e9},
        {"what": "      s", "value": with_question},
        {"what": "   sums of chunks, GB", "value": (step.n_chunks + step.n_sums) * step.answer / 1e9},
        {"what": "      s", "value": answers},
        {"what": "M-step on the client, s", "value": m_step},
        {"what": "a pass, s", "value": a_pass},
        {"what": "size factors to the workers, once, GB", "value": step.sent_with_rows / 1e9},
        {"what": "      s", "value": step.sent_with_rows / NETWORK},
        {"what": f"{LARGE_EPOCHS} passes, min", "value": LARGE_EPOCHS * a_pass / 60},
        {"what": "a fit, min", "value": (LARGE_EPOCHS + OTHER_PASSES) * a_pass / 60},
        {"what": "client: memory, GB", "value": step.n_rows * found["client: bytes a row"] / 1e9},
        {
            "what": "client: CPU before and after, min",
            "value": step.n_rows / 1e6 * found["client: CPU-s a million rows"] / 60,
        },
    ]


def main() -> None:
    """Parse arguments, measure, compute, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=float, default=1e8)
    parser.add_argument("--features", type=int, default=2000)
    parser.add_argument("--density", type=float, default=0.07)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--client-of", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.client_of:
        fit_as_client(arguments.client_of)
        return
    torch.set_num_threads(1)
    found = measured(WIDTH)
    print("measured")
    print_table([{"what": name, "value": f"{value:.4g}"} for name, value in found.items()])
    n_stored = arguments.rows * arguments.features * arguments.density
    bytes_an_entry = 4 + 4  # single precision and the number of the column
    step = EStep(
        arguments.rows,
        arguments.features,
        n_stored,
        LARGE_GRID,
        has_gaps=False,
        has_positive=False,
        module_bytes=found["MB of the model"] * 1e6 * arguments.features / WIDTH,
        row_bytes=DOUBLE,
        n_chunks=max(arguments.workers, math.ceil(n_stored * bytes_an_entry / CHUNK_BYTES)),
        n_workers=arguments.workers,
    )
    print("\ncomputed")
    rows = extrapolated(step, found, bytes_an_entry)
    print_table([{"what": row["what"], "value": f"{row['value']:.4g}"} for row in rows])


if __name__ == "__main__":
    main()
