"""Does a fit need both runs: the one from the first principal component, and the one along the path of neighbours?

    python benchmarks/starts.py [--estimators BasisDeVAEClusterer DeVAETransformer] [--seeds 2]

Each table is fitted from the component alone, from the path alone (curves settle there first), and as a fit does it.
Bounds are in nats a row; "path" and "fit" say how far they are above the component's. Rank correlations are those with
the truth, where there is one axis to find. None of the tables had a part when the rule was made: groups beside an axis
draw neighbours away from it, and so do rows far away, heavy tails, branches and loops.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from common import print_table, set_threads, timed
from scipy.stats import spearmanr

import skdevae


@dataclass(frozen=True)
class Table:
    """A table, its likelihood, and where its rows are along the one axis that is to be found, if there is one."""

    name: str
    data: np.ndarray
    axis: np.ndarray | None = None
    likelihood: str = "gaussian"


def sigmoids(random: np.random.Generator, n: int, noise: float = 0.5, d: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """An axis (N,) and columns (N, D) that rise or fall along it."""
    z, center = random.normal(size=n), 0.7 * random.normal(size=d)
    steepness = random.choice([-1, 1], d) * np.exp(0.5 * random.normal(size=d))
    return z, np.tanh(steepness * (z[:, None] - center)) + noise * random.normal(size=(n, d))


def bumps(random: np.random.Generator, n: int, noise: float = 0.4, d: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """An axis (N,) and columns (N, D) that come and go along it, one after the other."""
    z = random.normal(size=n)
    return z, np.exp(-2 * (z[:, None] - np.linspace(-1.8, 1.8, d)) ** 2) + noise * random.normal(size=(n, d))


def with_groups(
    random: np.random.Generator, columns: np.ndarray, distance: float, n_columns: int, noise: float = 0.5
) -> np.ndarray:
    """Columns (N, D) and others that tell two groups of rows from each other."""
    group = random.integers(2, size=len(columns))
    return np.c_[columns, distance * group[:, None] + noise * random.normal(size=(len(columns), n_columns))]


def tables(seed: int) -> Iterator[Table]:
    """Axes with something beside them, and tables without an axis."""
    random = np.random.default_rng(seed)
    for distance in (1, 2):
        for n in (150, 400):
            z, columns = sigmoids(random, n)
            yield Table(f"{n} rows, groups {distance} apart", with_groups(random, columns, distance, 6), z)
        z, columns = bumps(random, 300)
        yield Table(f"bumps, groups {distance} apart", with_groups(random, columns, distance, 4), z)
    for n_far, shift in ((6, 6 * random.normal(size=12)), (9, 3.0)):
        z, columns = sigmoids(random, 300)
        columns[:n_far] += shift
        yield Table(f"{n_far} rows far away", columns, z)
    z, columns = sigmoids(random, 200)
    yield Table("heavy tails", columns + 0.3 * random.standard_t(2, columns.shape), z)
    z, columns = sigmoids(random, 300, d=3)
    yield Table("3 columns", columns, z)
    z, columns = sigmoids(random, 120, noise=1.0, d=150)
    yield Table("150 columns, 120 rows", columns, z)
    z, columns = sigmoids(random, 300)
    rates = np.exp(1 + 0.8 * with_groups(random, columns, 1.5, 5, noise=0.0))
    yield Table("counts, groups", random.poisson(rates), z, "poisson")
    z, columns = bumps(random, 300, noise=0.0)
    rates = np.exp(0.5 + 2 * with_groups(random, columns, 1.0, 5, noise=0.0))
    yield Table("counts, bumps, groups", random.poisson(rates), z, "poisson")
    z, columns = sigmoids(random, 300, noise=0.0)
    yield Table("yes and no", random.binomial(1, 1 / (1 + np.exp(-2 * columns))), z, "bernoulli")
    z = random.uniform(-2, 2, 400)
    spiral = np.c_[np.cos(2.5 * z), np.sin(2.5 * z)] * (z[:, None] + 3)
    yield Table("spiral", spiral @ random.normal(size=(2, 10)) + 0.4 * random.normal(size=(400, 10)), z)

    angle = random.uniform(0, 2 * np.pi, 250)
    circle = np.c_[np.cos(angle), np.sin(angle)] @ random.normal(size=(2, 12))
    yield Table("loop", circle + 0.3 * random.normal(size=circle.shape))
    branches = np.eye(3)[random.integers(3, size=300)] * np.abs(random.normal(size=(300, 1)))
    yield Table("three branches", branches @ random.normal(size=(3, 15)) + 0.3 * random.normal(size=(300, 15)))
    plane = random.normal(size=(300, 2)) @ random.normal(size=(2, 12))
    yield Table("plane", plane + 0.5 * random.normal(size=plane.shape))
    centers = 1.5 * random.normal(size=(3, 12))
    unequal = random.choice(3, p=[0.6, 0.3, 0.1], size=300)
    yield Table("three groups", centers[unequal] + random.normal(size=(300, 12)))


def from_one_start(estimator: type, along_path: bool) -> type:
    """The estimator with one run only. Along a path it fits nothing where rows have no path."""

    class FromOneStart(estimator):
        def _starts(self, *arguments: Any):
            for start in super()._starts(*arguments):
                if not along_path:
                    yield replace(start, path=None)
                elif start.path is None:
                    raise NoPathError
                else:
                    yield start.path

    return FromOneStart


class NoPathError(Exception):
    """Nearest neighbours do not connect all rows."""


def fitted(estimator: type, table: Table) -> tuple[float, float, float]:
    """Bound, rank correlation with the truth, and CPU-seconds of a fit."""
    model, cpu = timed(lambda: estimator(likelihood=table.likelihood, random_state=0).fit(table.data))
    found = model.transform(table.data)[:, 0]
    truth = np.nan if table.axis is None else abs(spearmanr(found, table.axis).statistic)
    return model.lower_bound_, truth, cpu


def row(estimator: type, table: Table) -> dict[str, object]:
    """The three fits of a table."""
    bounds, truths, cpus = {}, {}, {}
    for name, of_kind in (
        ("component", from_one_start(estimator, along_path=False)),
        ("path", from_one_start(estimator, along_path=True)),
        ("fit", estimator),
    ):
        try:
            bounds[name], truths[name], cpus[name] = fitted(of_kind, table)
        except NoPathError:
            bounds[name] = truths[name] = cpus[name] = np.nan
    return {
        "table": table.name,
        "component": bounds["component"],
        **{name: bounds[name] - bounds["component"] for name in ("path", "fit")},
        **{f"truth, {name}": value for name, value in truths.items()},
        **{f"CPU-s, {name}": round(value, 1) for name, value in cpus.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--estimators", nargs="+", default=["BasisDeVAEClusterer", "DeVAETransformer"])
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    set_threads(1)
    warnings.simplefilter("ignore")
    for name in arguments.estimators:
        rows = [row(getattr(skdevae, name), table) for seed in range(arguments.seeds) for table in tables(seed)]
        print(f"\n{name}")
        print_table([{key: round(x, 3) if isinstance(x, float) else x for key, x in found.items()} for found in rows])
        with_path = [found for found in rows if not np.isnan(found["path"])]
        gains = {kind: np.array([found[kind] for found in with_path]) for kind in ("path", "fit")}
        print(
            f"of {len(gains['path'])} tables with a path, its bound is more than .02 above the component's in "
            f"{(gains['path'] > 0.02).sum()} and more than .02 below in {(gains['path'] < -0.02).sum()}; "
            f"the fit's is below the component's in {(gains['fit'] < -1e-6).sum()} and below the path's in "
            f"{(gains['fit'] < gains['path'] - 0.02).sum()}"
        )


if __name__ == "__main__":
    main()
