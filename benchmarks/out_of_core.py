"""Tables that are not in memory: a table of counts is written to disk in chunks, and models are fitted to it there.

    python benchmarks/out_of_core.py [--rows 130000] [--estimators basisdevae vamp dgd] [--threads 2] [--path DIR]
    python benchmarks/out_of_core.py --scaling [--rows 8509] [--features 5216]

The table has 2000 negative binomial counts a row, 5 % of them above zero, in AnnData's layout of a CSR matrix (zarr, or
HDF5 with ``--format hdf5``). Rows have log-normal sizes, and features rise, fall or come and go along a hidden time. So
it is known what should be found. Each step runs in a process of its own:

basisdevae  the whole fit, exact, nb with size factors; then transform and score of all rows. The rank correlation of
            positions with the hidden time, and the share of features with the right behaviour, show what was found.
vamp, dgd   one epoch of VampVAE and of DGDEmbedder, and what comes before it. What follows training is not run.

A pass is an epoch of training. Peak memory is the largest resident set of the process, and the same less what it was
when all modules were imported. ``--scaling`` takes the fit and the answers with the given number of rows and with ten
times as many, and prints how time per pass and memory grow.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import pickle
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from common import peak_memory_gib, print_table, set_threads
from scipy.sparse import csr_array
from scipy.stats import spearmanr
from skorch.callbacks import Callback

from skdevae import BasisDeVAEClusterer, DGDEmbedder, VampVAE
from skdevae.datasets._progression_counts import _log_mean_curves, _log_means, _offset_for_density
from skdevae.datasets._shapes import SHAPE_NAMES

DENSITY, DISPERSION, LOG_SIZE_SD = 0.05, 2.0, 0.4
#: rows that are drawn at a time, and entries of a chunk on disk
DRAWN_ROWS, CHUNK = 2000, 1_000_000


# ---- the table ------------------------------------------------------------------------------------------------------


class Writer:
    """Appends rows to a CSR matrix on disk, in AnnData's layout."""

    def __init__(self, path: Path, n_rows: int, n_features: int, layout: str):
        if layout == "zarr":
            import zarr

            self.group = zarr.open_group(path, mode="w")
            make = self.group.create_array
            options: dict[str, Any] = {}
        else:
            import h5py

            self.group = h5py.File(path, "w")
            make = self.group.create_dataset
            options = {"maxshape": (None,), "compression": "lzf"}
        for name, dtype in {"data": "float32", "indices": "int32"}.items():
            make(name, shape=(0,), dtype=dtype, chunks=(CHUNK,), **options)
        make("indptr", shape=(n_rows + 1,), dtype="int64")
        self.group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
        self.group.attrs["shape"] = [n_rows, n_features]
        self.n_rows = self.n_entries = 0

    def append(self, rows: csr_array) -> None:
        end = self.n_entries + rows.nnz
        for name, values in {"data": rows.data, "indices": rows.indices}.items():
            self.group[name].resize((end,))
            self.group[name][self.n_entries : end] = values
        self.group["indptr"][self.n_rows : self.n_rows + rows.shape[0] + 1] = self.n_entries + rows.indptr
        self.n_rows, self.n_entries = self.n_rows + rows.shape[0], end


def opened(path: Path) -> Any:
    """The stored table."""
    if path.is_dir():
        import zarr

        return zarr.open_group(path, mode="r")
    import h5py

    return h5py.File(path, "r")


def write(path: Path, n_rows: int, n_features: int, layout: str) -> dict:
    """Draw a table, some rows at a time, and write it; the truth goes into a file beside it."""
    begin = time.perf_counter()
    fixed, random = np.random.RandomState(0), np.random.default_rng(0)
    times = fixed.standard_normal(n_rows)
    labels = fixed.permutation(np.arange(n_features) % len(SHAPE_NAMES))
    curves = _log_mean_curves(labels, fixed)
    log_sizes = LOG_SIZE_SD * fixed.standard_normal(n_rows)
    typical = np.quantile(times, (np.arange(64) + 0.5) / 64)
    offset = _offset_for_density(_log_means(typical, curves), DENSITY, DISPERSION)
    writer = Writer(path, n_rows, n_features, layout)
    for start in range(0, n_rows, DRAWN_ROWS):
        rows = slice(start, min(start + DRAWN_ROWS, n_rows))
        means = np.exp(offset + log_sizes[rows, None] + _log_means(times[rows], curves)).astype(np.float32)
        rates = means * random.standard_gamma(DISPERSION, size=means.shape, dtype=np.float32) / DISPERSION
        writer.append(csr_array(random.poisson(rates).astype(np.float32)))
    np.savez(str(path) + ".truth.npz", times=times, labels=labels)
    return {"entries": writer.n_entries, "s": time.perf_counter() - begin}


# ---- steps, each in a process of its own ----------------------------------------------------------------------------


class EpochEndedError(Exception):
    """The first epoch has ended."""


class FirstEpoch(Callback):
    """Notes when training begins, and ends it after the first epoch."""

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.began = time.perf_counter()

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        self.seconds = time.perf_counter() - self.began
        raise EpochEndedError


def fit(path: Path, X: Any) -> dict:
    model = BasisDeVAEClusterer(likelihood="nb", size_factors="sum", random_state=0)
    begin = time.perf_counter()
    model.fit(X)
    spent = time.perf_counter() - begin
    truth = np.load(str(path) + ".truth.npz")
    Path(str(path) + ".fit").write_bytes(pickle.dumps(model))
    found, directions = model.cluster_names_[model.labels_], ("increasing", "decreasing")
    # Time may run either way along the axis.
    right = max(
        float((found == np.array([*names, "transient"])[truth["labels"]]).mean())
        for names in (directions, directions[::-1])
    )
    return {"s": spent, "passes": model.n_iter_, "s/pass": float(np.median(model.history_[:, "dur"])), "right": right}


def transform(path: Path, X: Any) -> dict:
    model = pickle.loads(Path(str(path) + ".fit").read_bytes())
    begin = time.perf_counter()
    positions = model.transform(X)[:, 0]
    correlation = spearmanr(positions, np.load(str(path) + ".truth.npz")["times"]).statistic
    return {"s": time.perf_counter() - begin, "rank correlation": abs(float(correlation))}


def score(path: Path, X: Any) -> dict:
    model = pickle.loads(Path(str(path) + ".fit").read_bytes())
    begin = time.perf_counter()
    nats = model.score(X)
    return {"s": time.perf_counter() - begin, "nats": nats}


def one_epoch(model: Any, X: Any) -> dict:
    timer = FirstEpoch()
    begin = time.perf_counter()
    with contextlib.suppress(EpochEndedError):
        model.set_params(callbacks=[timer]).fit(X)
    return {"s": time.perf_counter() - begin, "before": timer.began - begin, "passes": 1, "s/pass": timer.seconds}


def vamp(path: Path, X: Any) -> dict:
    return one_epoch(VampVAE(likelihood="nb", random_state=0), X)


def dgd(path: Path, X: Any) -> dict:
    return one_epoch(DGDEmbedder(likelihood="nb", random_state=0), X)


STEPS = {"fit": fit, "transform": transform, "score": score, "vamp": vamp, "dgd": dgd}
OF_ESTIMATORS = {"basisdevae": ["fit", "transform", "score"], "vamp": ["vamp"], "dgd": ["dgd"]}


def run_step(step: str, path: Path, threads: int) -> None:
    """Run one step here, and print what it has found as JSON in the last line."""
    set_threads(threads)
    warnings.simplefilter("ignore")
    imported = peak_memory_gib()
    found = STEPS[step](path, opened(path))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    memory = {"GiB": peak_memory_gib(), "GiB more": peak_memory_gib() - imported}
    print(json.dumps({**found, "CPU-s": usage.ru_utime + usage.ru_stime, **memory}))


def in_process(arguments: list[str]) -> dict:
    """What a process of its own prints in its last line."""
    done = subprocess.run([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measured(path: Path, steps: list[str], options: argparse.Namespace, n_rows: int) -> list[dict]:
    size = ["--rows", str(n_rows), "--features", str(options.features), "--format", options.format]
    if not Path(str(path) + ".truth.npz").exists():
        written = in_process(["--write", str(path), *size])
        print(f"{n_rows} x {options.features}: {written['entries'] / 1e6:.0f} M entries in {written['s']:.0f} s")
    rows = []
    for step in steps:
        found = in_process(["--step", step, "--path", str(path), "--threads", str(options.threads)])
        rows.append({"rows": n_rows, "step": step, **found})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=130_000)
    parser.add_argument("--features", type=int, default=2000)
    parser.add_argument("--estimators", nargs="+", choices=list(OF_ESTIMATORS), default=list(OF_ESTIMATORS))
    parser.add_argument("--format", choices=["zarr", "hdf5"], default="zarr")
    parser.add_argument("--path", type=Path, help="where tables and fits are kept; else in a temporary folder")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scaling", action="store_true")
    parser.add_argument("--step", choices=list(STEPS), help=argparse.SUPPRESS)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write is not None:
        print(json.dumps(write(options.write, options.rows, options.features, options.format)))
        return
    if options.step is not None:
        run_step(options.step, options.path, options.threads)
        return
    steps = [step for name in options.estimators for step in OF_ESTIMATORS[name]]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) if options.path is None else options.path
        home.mkdir(parents=True, exist_ok=True)
        sizes = [options.rows, 10 * options.rows] if options.scaling else [options.rows]
        paths = {n: home / f"{n}x{options.features}.{'zarr' if options.format == 'zarr' else 'h5'}" for n in sizes}
        rows = [row for n, path in paths.items() for row in measured(path, steps, options, n)]
    print()
    print_table([{name: round(v, 3) if isinstance(v, float) else v for name, v in row.items()} for row in rows])
    if options.scaling:
        few, many = rows[: len(steps)], rows[len(steps) :]
        print_table(
            [
                {
                    "step": one["step"],
                    "time per pass": round(ten.get("s/pass", ten["s"]) / one.get("s/pass", one["s"]), 2),
                    "GiB": round(ten["GiB"] / one["GiB"], 2),
                }
                for one, ten in zip(few, many, strict=True)
            ]
        )


if __name__ == "__main__":
    main()
