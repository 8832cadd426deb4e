"""Exact posteriors of two components: CPU-seconds, peak memory, and how right they are.

    python benchmarks/two_axes.py [--rows 500] [--features 50]

A DeVAETransformer of two components is fitted and asked for all that it knows, on one thread. References are sums over
lattices whose spacing is a fifth of the narrowest sd, for some of the rows. The last lines are of rows that lie far
out, whose windows are long. How much memory they take is asked of Linux, and NaN elsewhere.
"""

from __future__ import annotations

import argparse
import math
import warnings
from pathlib import Path
from unittest.mock import patch

import numpy as np
from common import peak_memory_gib, print_table, set_threads, timed

from skdevae import DeVAETransformer
from skdevae.inference import refinement
from skdevae.inference.grid import exact_posterior

#: rows of which references are made, and rows that are moved far out
REFERENCES, FAR_ROWS = 100, 200


def tables(n_rows: int, n_features: int) -> dict[str, tuple[str, np.ndarray]]:
    """Likelihoods and tables: one with narrow posteriors, one with broad ones, counts, and one with holes."""
    generator = np.random.default_rng(0)
    z, loadings = generator.standard_normal((n_rows, 2)), generator.normal(size=(2, n_features))
    noise, drive = generator.normal(size=(n_rows, n_features)), z @ loadings
    counts = generator.poisson(np.exp(np.clip(0.5 * drive + 1, -5, 5)) * generator.gamma(3, 1 / 3, drive.shape))
    bent = np.tanh(drive) + 0.3 * noise
    holes = np.where(generator.random(drive.shape) < 0.3, np.nan, bent)
    return {
        "bent": ("gaussian", bent),
        "narrow": ("gaussian", np.tanh(drive) + 0.05 * noise),
        "noise alone": ("gaussian", noise),
        "holes": ("gaussian", holes),
        "counts": ("nb", counts.astype(float)),
    }


def peak_mib() -> float:
    """Peak resident memory since it was last forgotten, in MiB."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), math.nan)


def fresh_peak_mib() -> float:
    """Forget the peak of the resident memory; it is what is resident now, in MiB."""
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")
    return peak_mib()


def errors(model: DeVAETransformer, table: np.ndarray) -> dict[str, float]:
    """Largest errors of the evidence, in nats, and of means, in sds, with the share of rows that are resolved."""
    _, source, inference = model._for_inference(table[:REFERENCES])
    tables_at = inference.model.predictive_tables
    found = exact_posterior(inference.model, source, tables_at)
    with patch.dict(refinement._SPACINGS_PER_SD, {2: 5.0}), patch.dict(refinement._HALVINGS, {2: 6}):
        reference = exact_posterior(inference.model, source, tables_at)
    known = (reference.resolved * found.resolved) > 0
    by_evidence, by_mean = (
        (found.log_evidence - reference.log_evidence).abs(),
        ((found.mean - reference.mean) / reference.sd).abs().amax(1),
    )
    return {
        "nats off": float(by_evidence[known].max()),
        "sds off": float(by_mean[known].max()),
        "resolved": float(found.resolved.mean()),
    }


def main() -> None:
    """Print one line for each table, and one for rows that lie far out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--features", type=int, default=50)
    options = parser.parse_args()
    set_threads(1)
    warnings.simplefilter("ignore")
    lines, far = [], []
    for name, (likelihood, table) in tables(options.rows, options.features).items():
        model = DeVAETransformer(n_components=2, likelihood=likelihood, random_state=0)
        if not lines:
            DeVAETransformer(n_components=2, max_epochs=1).fit(table)  # what torch imports for its optimisers
        line = {"table": name, "fit": timed(lambda: model.fit(table))[1]}  # noqa: B023
        for method in ("transform", "score", "posterior"):
            line[method] = timed(lambda: getattr(model, method)(table))[1]  # noqa: B023
        lines.append(line | {"MiB": 1024 * peak_memory_gib()} | errors(model, table))
        for factor in (10.0, 1000.0):
            moved = np.round(factor * table[:FAR_ROWS])
            before = fresh_peak_mib()
            seconds = timed(lambda: model.score_samples(moved))[1]  # noqa: B023
            far.append({"table": name, "times": factor, "score": seconds, "MiB more": peak_mib() - before})
    print(f"{options.rows} x {options.features}: CPU-seconds, peak memory so far, largest errors")
    print_table([{k: v if isinstance(v, str) else float(f"{v:.3g}") for k, v in line.items()} for line in lines])
    print(f"\n{FAR_ROWS} rows times a factor: CPU-seconds, and MiB of memory beside what was resident")
    print_table([{k: v if isinstance(v, str) else float(f"{v:.3g}") for k, v in line.items()} for line in far])


if __name__ == "__main__":
    main()
