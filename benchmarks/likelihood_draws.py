"""Likelihoods of models with an encoder from 500 draws: cost and error, and what each saving does to both.

    python benchmarks/likelihood_draws.py [--rows 40] [--reference 16384]

Errors are those of ``score_samples`` against as many draws as ``--reference`` says, on samples that no model was
fitted to. All variants score the same samples of the same fitted models, in turn on one thread:

- *as it is*: averaged Gaussians as proposals, and each sample takes the draws that it needs;
- *all draws*: every sample takes 500 draws at the least;
- *Laplace*: the same with Laplace's approximation as proposals.

``mean weight`` is the mean of exp(error) over samples: 1 where estimates of p(x) are unbiased.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from common import print_table, random_splits, set_threads, shared_data, timed
from scipy.sparse import csr_array
from sklearn.datasets import load_digits, load_wine

from skdevae import VampVAE
from skdevae.inference import importance

TABLES = {
    "pbmc4k": (lambda: csr_array(np.load(shared_data("pbmc4k_2000.npz"))["X"].astype(np.float32)), 10, "nb", 10),
    "paul15": (lambda: np.load(shared_data("paul15_240genes.npz"))["X"].astype(float), 10, "nb", 20),
    "paul15, 2": (lambda: np.load(shared_data("paul15_240genes.npz"))["X"].astype(float), 2, "nb", 20),
    "digits": (lambda: load_digits().data, 10, "gaussian", 60),
    "wine": (lambda: load_wine().data, 5, "gaussian", 100),
}


@contextmanager
def variant(name: str) -> Iterator[None]:
    """While it lasts, draws are taken as a variant takes them."""
    averaged, least = importance.averaged, importance._LEAST_COMPONENTS
    if name != "as it is":
        importance._LEAST_COMPONENTS = np.inf
    if name == "Laplace":
        importance.averaged = lambda model, rows, gaussian, prior: gaussian
    yield
    importance.averaged, importance._LEAST_COMPONENTS = averaged, least


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--reference", type=int, default=16384)
    parser.add_argument("--tables", nargs="+", choices=list(TABLES), default=list(TABLES))
    arguments = parser.parse_args()
    set_threads(1)
    results = []
    for table in arguments.tables:
        read, n_components, likelihood, n_epochs = TABLES[table]
        X = read()
        train, test = next(iter(random_splits(X.shape[0], 1)))
        model = VampVAE(n_components, likelihood=likelihood, max_epochs=n_epochs, random_state=0).fit(X[train])
        rows = X[test[: arguments.rows]]
        with variant("all draws"):
            reference = model.set_params(n_importance_samples=arguments.reference).score_samples(rows)
        model.set_params(n_importance_samples=500)
        for name in ("as it is", "all draws", "Laplace"):
            with variant(name):
                scores, seconds = timed(lambda model=model, rows=rows: model.score_samples(rows))
            error = scores - reference
            results.append(
                {
                    "table": table,
                    "components": n_components,
                    "draws": name,
                    "CPU ms a sample": 1e3 * seconds / len(error),
                    "rms error": np.sqrt(np.mean(error**2)),
                    "median error": np.median(np.abs(error)),
                    "mean weight": np.exp(error).mean(),
                }
            )
    print_table(results)


if __name__ == "__main__":
    main()
