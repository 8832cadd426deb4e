"""Skorch's loop against a bare loop of PyTorch on the same module and batches: CPU-seconds of epochs taken in turn.

    python benchmarks/training_loop.py [--epochs 6]

VampVAE's module on the PBMC counts (../shared/data), one thread. The bare loop does what a step needs and no more:
batches, loss, gradients, Adam.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from common import print_table, set_threads, shared_data
from scipy.sparse import csr_array

from skdevae import VampVAE
from skdevae.nn.models import build_model
from skdevae.table.table import TableReader
from skdevae.training.batches import ShuffledRows
from skdevae.training.net import LatentVariableNet


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=6)
    arguments = parser.parse_args()
    set_threads(1)
    X = csr_array(np.load(shared_data("pbmc4k_2000.npz"))["X"].astype(np.float32))
    estimator = VampVAE(likelihood="nb")
    values, _ = estimator._validate(X, reset=True)
    table = TableReader.learn(values, "nb", size_factors=estimator.size_factors)
    estimator._reader_, source = table.reader, table.source(torch.zeros(()))
    config = estimator._module_config(source, has_missing=False)
    modules = [build_model(config, torch.Generator().manual_seed(0)) for _ in range(2)]
    batches = [ShuffledRows(source, 10, 128, torch.Generator().manual_seed(0)) for _ in range(2)]
    for module in modules:
        inputs = estimator._starting_inputs(module, source, 0)
        assert inputs is not None
        module.initialize_prior_(inputs)
    net = LatentVariableNet(
        modules[0],
        batches_train=batches[0],
        optimizer=torch.optim.Adam,
        optimizer__fused=True,
        max_epochs=1,
        device=None,
        callbacks__print_log=None,
        warm_start=True,
        lr=1e-3,
    )
    optimizer = torch.optim.Adam(modules[1].parameters(), lr=1e-3, fused=True)

    def bare() -> None:
        modules[1].train()
        for batch in batches[1]:
            optimizer.zero_grad()
            modules[1](*batch.arguments).total.backward()
            optimizer.step()

    times: dict[str, list[float]] = {"skorch": [], "bare": []}
    for epoch in range(arguments.epochs + 1):
        for name, run in (("skorch", lambda: net.fit(None)), ("bare", bare)):
            begin = time.process_time()
            run()
            if epoch:  # the first warms up
                times[name].append(time.process_time() - begin)
    skorch, plain = (float(np.median(found)) for found in times.values())
    print_table([{"skorch, CPU s an epoch": skorch, "bare loop": plain, "ratio": skorch / plain}])


if __name__ == "__main__":
    main()
