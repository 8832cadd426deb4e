"""What a VampPrior costs: a training step with 500 pseudo-inputs against one with a normal prior, and epochs.

    python benchmarks/vamp_step.py [--threads 2] [--repeats 15]

Steps: B = 128, D = 2000, hidden layers of 128, simulated sparse counts; medians of alternating steps. Epochs: on the
four count sets, beside what scVI 1.4.2 took on two cores (measured elsewhere, ../shared/data/README.md).
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from common import print_table, set_threads
from embeddings import MODELS, load
from sklearn.exceptions import ConvergenceWarning

from skdevae import VampVAE
from skdevae.nn.models import build_model
from skdevae.table.table import TableReader
from skdevae.training.batches import ShuffledRows

SCVI_SECONDS = {"pbmc4k": 0.77, "mixology": 0.09, "bladder": 0.50, "paul15": 0.19}
STEPPED = {"normal": MODELS["VAE"], "iaf": MODELS["VAE-IAF"], "vamp": {"prior": "vamp", "n_pseudo_inputs": 500}}


def counts(n_samples: int, n_features: int) -> np.ndarray:
    """A table with nine zeros in ten entries, as single-cell counts have."""
    random = np.random.RandomState(0)
    return random.poisson(random.gamma(0.3, 0.4, (n_samples, n_features))).astype(np.float32) + (
        np.arange(n_features) == 0
    )


def stepper(options: dict, X: np.ndarray) -> Callable[[], float]:
    """A function that takes one gradient step and says how long it took."""
    estimator = VampVAE(likelihood="nb", **options)
    values, _ = estimator._validate(X, reset=True)
    table = TableReader.learn(values, estimator.likelihood, size_factors=estimator.size_factors)
    estimator._reader_, source = table.reader, table.source(torch.zeros(()))
    generator = torch.Generator().manual_seed(0)
    module = build_model(estimator._module_config(source, has_missing=False), generator)
    inputs = estimator._starting_inputs(module, source, 0)
    if inputs is not None:
        module.initialize_prior_(inputs)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, fused=True)
    batches = iter(())

    def step() -> float:
        nonlocal batches
        begin = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            batches = iter(ShuffledRows(source, estimator.n_components, 128, generator))
            batch = next(batches)
        optimizer.zero_grad(set_to_none=True)
        module(*batch.arguments).total.backward()
        optimizer.step()
        return time.perf_counter() - begin

    return step


def compare_steps(repeats: int) -> list[dict]:
    """Medians of steps taken in turn, so that a busy moment of the machine hits all alike."""
    X = counts(1280, 2000)
    steps = {name: stepper(options, X) for name, options in STEPPED.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(20 * repeats):
        for name, step in steps.items():
            times[name].append(step())
    medians = {name: float(np.median(seconds[20:])) for name, seconds in times.items()}
    return [
        {"prior or posterior": name, "ms a step": 1e3 * seconds, "against normal": seconds / medians["normal"]}
        for name, seconds in medians.items()
    ]


def epochs(name: str, n_epochs: int) -> dict:
    """Median seconds of an epoch in the estimator's own fit."""
    X = load(name).train
    row: dict = {"set": name, "scVI *": SCVI_SECONDS[name]}
    for model, options in (("normal", MODELS["VAE"]), ("vamp", MODELS["VAE-Vamp"])):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = VampVAE(likelihood="nb", max_epochs=n_epochs, random_state=0, **options).fit(X)
        row[model] = float(np.median(fitted.history_[1:, "dur"]))
        row[f"{model} / scVI"] = row[model] / row["scVI *"]
    return row


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--epochs", type=int, default=12)
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    print_table(compare_steps(arguments.repeats))
    print()
    print_table([epochs(name, arguments.epochs) for name in SCVI_SECONDS])
    print("* seconds per epoch on two cores, measured elsewhere")


if __name__ == "__main__":
    main()
