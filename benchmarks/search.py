"""Many starts and searches over parameters: what `n_init=10` and GridSearchCV cost, and whether heats choose well.

    OMP_NUM_THREADS=1 python benchmarks/search.py starts [--starts 10] [--tables 500x50 mixed ...]
    OMP_NUM_THREADS=1 python benchmarks/search.py grid [--jobs 2]

``starts``: on each simulated table a fit with one start, with many, and with many starts that are all fitted, in turn.
Printed are CPU-seconds, their ratios, and the bounds above that of the one start, in nats per sample. ``grid``: 12
candidates x 5 folds of a table of 500 x 50; printed are seconds, CPU-seconds of all processes, and how many warnings
there were.
"""

from __future__ import annotations

import argparse
import resource
import time
import warnings
from unittest.mock import patch

import numpy as np
from common import print_table, set_threads, timed
from sklearn.model_selection import GridSearchCV

from skdevae import BasisDeVAEClusterer, DeVAETransformer
from skdevae.datasets import make_progression, make_progression_counts


def _progression(seed: int, n_samples: int = 500, **options) -> np.ndarray:
    return make_progression(n_samples, random_state=seed, **options).data


def _with_gaps(seed: int) -> np.ndarray:
    values = _progression(seed, noise=0.3)
    return np.where(np.random.default_rng(seed).random(values.shape) < 0.2, np.nan, values)


#: name -> table (by seed) and estimator
TABLES = {
    "500x50": (_progression, BasisDeVAEClusterer()),
    "noisy": (lambda seed: _progression(seed, noise=1.0), BasisDeVAEClusterer()),
    "mixed": (lambda seed: _progression(seed, shapes="mixed", noise=0.3), BasisDeVAEClusterer()),
    "window": (lambda seed: _progression(seed, window="low", noise=0.2), BasisDeVAEClusterer()),
    "gaps": (_with_gaps, BasisDeVAEClusterer()),
    "small": (lambda seed: _progression(seed, 60, noise=0.5), BasisDeVAEClusterer()),
    "counts": (
        lambda seed: make_progression_counts(300, 60, random_state=seed).data,
        BasisDeVAEClusterer(likelihood="nb"),
    ),
    "monotone": (lambda seed: _progression(seed, 300, noise=0.5), DeVAETransformer()),
}


def _fitted(estimator, X: np.ndarray, n_init: int, seed: int) -> tuple[float, float]:
    """CPU-seconds of a fit, and its bound."""
    model, seconds = timed(lambda: estimator.set_params(n_init=n_init, random_state=seed).fit(X))
    return seconds, model.lower_bound_


def starts(names: list[str], n_starts: int, seeds: list[int]) -> None:
    """Print what many starts cost, and what they gain."""
    rows = []
    for name in names:
        table, estimator = TABLES[name]
        for seed in seeds:
            X = table(seed)
            one, bound = _fitted(estimator, X, 1, seed)
            many, best = _fitted(estimator, X, n_starts, seed)
            with patch.object(type(estimator), "_starts_once", False):  # all starts are fitted
                every, best_of_all = _fitted(estimator, X, n_starts, seed)
            rows.append(
                {
                    "table": f"{name}, {seed}",
                    "one start, CPU-s": round(one, 2),
                    f"{n_starts} starts": round(many, 2),
                    "ratio": round(many / one, 2),
                    "all fitted": round(every / one, 2),
                    "gain, nats": round(best - bound, 4),
                    "gain of all": round(best_of_all - bound, 4),
                }
            )
            print(rows[-1], flush=True)
    print_table(rows)


def _cpu_seconds() -> float:
    """Of this process and of those that it has waited for."""
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def grid(n_jobs: int) -> None:
    """Print what a grid search costs, and the warnings that it gives."""
    X = _progression(0)
    candidates = {"alpha": [0.1, 0.5, 1.0], "weight_precision": [None, 0.01, 0.1, 1.0]}
    search = GridSearchCV(BasisDeVAEClusterer(random_state=0), candidates, cv=5, n_jobs=n_jobs)
    begin, before = time.perf_counter(), _cpu_seconds()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        search.fit(X)
    took = time.perf_counter() - begin
    if n_jobs > 1:
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(wait=True)  # the processes' seconds count once they have ended
    print(
        f"12 candidates x 5 folds, n_jobs={n_jobs}: {took:.1f} s, {_cpu_seconds() - before:.1f} CPU-s, "
        f"{len(caught)} warnings here, best score {search.best_score_:.2f} {search.best_params_}"
    )


def main() -> None:
    """Parse arguments and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["starts", "grid"])
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    set_threads(1)
    if arguments.what == "starts":
        starts(arguments.tables, arguments.starts, arguments.seeds)
    else:
        grid(arguments.jobs)


if __name__ == "__main__":
    main()
