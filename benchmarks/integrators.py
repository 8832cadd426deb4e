"""One gradient step of the amortised model: grid integration against the paper's Gauss-Legendre quadrature.

    python benchmarks/integrators.py

128 cells of 5216 genes, 10 % non-zero, K = 3, zero-inflated negative binomial, one thread: the setting of the paper's
Table 3. Both steps run the same encoder, likelihood and optimiser; only the integrals differ.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from common import median_seconds, peak_memory_gib, print_table, set_threads

from skdevae import BasisDeVAEClusterer
from skdevae.datasets import make_progression_counts
from skdevae.nn.models import GenerativeModel, build_model
from skdevae.table.table import Table, TableReader


def amortized_model(integrator: str, table: Table) -> GenerativeModel:
    """The estimator's default amortised module, with the paper's weights."""
    estimator = BasisDeVAEClusterer(inference="amortized", integrator=integrator, likelihood="zinb", beta=10.0)
    estimator._reader_ = table.reader
    config = estimator._module_config(table.source(torch.zeros(())), has_missing=False)
    return build_model(config, torch.Generator().manual_seed(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--features", type=int, default=5216)
    arguments = parser.parse_args()
    set_threads(1)
    counts = make_progression_counts(128, arguments.features, density=0.1, random_state=0).data
    table = TableReader.learn(counts, "zinb")
    rows = table.source(torch.zeros(())).rows(slice(None)).dense()
    noise = torch.randn(128, 1, generator=torch.Generator().manual_seed(0))

    def step_of(model: GenerativeModel, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        model(rows, noise).total.backward()
        optimizer.step()

    medians = {}
    for integrator in ("grid", "gauss-legendre"):
        model = amortized_model(integrator, table)
        optimizer = torch.optim.Adam(model.parameters(), fused=True)
        medians[integrator] = median_seconds(lambda m=model, o=optimizer: step_of(m, o), arguments.repeats)
    print_table(
        [
            {"integrator": name, "median ms a step": round(1000 * time, 1), "ratio": round(time / medians["grid"], 1)}
            for name, time in medians.items()
        ]
    )
    print(f"peak memory {peak_memory_gib():.2f} GiB; non-zero entries {np.mean(counts.toarray() > 0):.1%}")


if __name__ == "__main__":
    main()
