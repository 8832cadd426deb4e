"""Nothing wrong in silence: what spoils a table, and what fits make of it.

    python benchmarks/robustness.py [--parts all] [--seeds 2]

Parts, each a table:

outliers   |Spearman| of the axis with the truth, over the samples without an error: one row in other units, and 1 % of
           the entries wrong. Six estimators, `a tanh` curves of 12 and 24 columns, 300 samples.
deep_cells the same for negative binomial counts, and one cell of another depth.
far_tables how often ordinary tables lose a row or an entry: draws of seven distributions, and tables that come with
           scikit-learn.
rounding   twelve sums of shares in single precision beside informative columns: the axis, and DGD's clusters.
later      columns at a detection limit in training that vary later: how far samples move, and what the score does.
silent     what a held-out 3 costs in a column of counts without any event in training, after 20, 100 and 300 epochs.
units      columns in units from 1e-300 to 1e300: the axis, and the score after the change of units.
clusters   clusters that DGD counts, from few samples to many, beside those that BIC counts on the same scores.
coverage   95 % intervals of linear VAEs where entries are missing: how much of the exact posterior they hold.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from common import print_table, set_threads
from scipy.stats import norm, spearmanr
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler

from skdevae import (
    BasisDeVAEClusterer,
    BasisVAEClusterer,
    DeVAETransformer,
    DGDEmbedder,
    VAETransformer,
    VampVAE,
)
from skdevae.table.outliers import find_outliers

ESTIMATORS: dict[str, Callable[..., Any]] = {
    "BasisDeVAE": lambda **more: BasisDeVAEClusterer(random_state=0, **more),
    "BasisVAE": lambda **more: BasisVAEClusterer(random_state=0, **more),
    "DeVAE": lambda **more: DeVAETransformer(random_state=0, **more),
    "VAE": lambda **more: VAETransformer(1, random_state=0, **({"max_epochs": 100} | more)),
    "VampVAE": lambda **more: VampVAE(1, random_state=0, **({"max_epochs": 100} | more)),
    "DGD": lambda **more: DGDEmbedder(1, n_clusters=3, random_state=0, **({"max_epochs": 60} | more)),
}
N, BAD_ROW = 300, 17
AXES = ("BasisDeVAE", "BasisVAE", "DeVAE")


def measurements(n_features: int, seed: int, n: int = N) -> tuple[np.ndarray, np.ndarray]:
    """A table of saturating curves with noise, and the truth: (N, D) and (N,)."""
    random = np.random.default_rng(seed)
    z = random.standard_normal(n)
    scale = random.choice([-1, 1], n_features) * random.uniform(0.5, 2, n_features)
    curves = np.tanh(z[:, None] * random.uniform(0.5, 2, n_features) + random.normal(0, 0.5, n_features))
    return scale * curves + 0.3 * random.standard_normal((n, n_features)), z


def cells(n_features: int, seed: int, n: int = N) -> tuple[np.ndarray, np.ndarray]:
    """Negative binomial counts along such curves, and the truth."""
    random = np.random.default_rng(seed)
    z = random.standard_normal(n)
    change = random.choice([-1, 1], n_features) * random.uniform(0.5, 1.5, n_features)
    log_mean = random.normal(1.5, 1, n_features) + change * np.tanh(z[:, None] * random.uniform(0.5, 2, n_features))
    return random.negative_binomial(3, 3 / (3 + np.exp(log_mean))).astype(float), z


def agreement(make: Callable[[], Any], X: np.ndarray, z: np.ndarray, right: np.ndarray) -> str:
    """|Spearman| of the first latent with the truth, over the rows that are right."""
    latents = make().fit(X).transform(X)[:, 0]
    return f"{abs(spearmanr(latents[right], z[right])[0]):.3f}"


def in_other_units(X: np.ndarray, factor: float) -> np.ndarray:
    X = X.copy()
    X[BAD_ROW] *= factor
    return X


# ---- parts ----------------------------------------------------------------------------------------------------------


def part_outliers(n_seeds: int) -> list[dict]:
    rows = []
    for name, make in ESTIMATORS.items():
        for seed in range(n_seeds):
            X, z = measurements((12, 24)[seed % 2], seed)
            wrong = np.random.default_rng(9).random(X.shape) < 0.01
            others, clean = np.arange(N) != BAD_ROW, ~wrong.any(1)
            row = {"estimator": name, "D": X.shape[1], "clean": agreement(make, X, z, others)}
            for factor in (10, 30, 100, 1e6):
                row[f"row x {factor:g}"] = agreement(make, in_other_units(X, factor), z, others)
            for what, values in (("x 10", 10 * X), ("x 100", 100 * X), ("= 999", np.full_like(X, 999.0))):
                row[f"1 % {what}"] = agreement(make, np.where(wrong, values, X), z, clean)
            rows.append(row)
    return rows


def part_deep_cells(n_seeds: int) -> list[dict]:
    rows = []
    for name in AXES:
        for seed in range(n_seeds):
            X, z = cells(16, seed)
            make = partial(ESTIMATORS[name], likelihood="nb")
            wrong = np.random.default_rng(9).random(X.shape) < 0.01
            others, clean = np.arange(N) != BAD_ROW, ~wrong.any(1)
            row = {"estimator": name, "seed": seed, "clean": agreement(make, X, z, others)}
            for factor in (30, 1000):
                row[f"cell x {factor}"] = agreement(make, in_other_units(X, factor), z, others)
            for what, values in (("x 100", 100 * X), ("= 1e6", np.full_like(X, 1e6))):
                row[f"1 % {what}"] = agreement(make, np.where(wrong, values, X), z, clean)
            rows.append(row)
    return rows


def part_far_tables(n_seeds: int) -> list[dict]:
    draws: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
        "normal": lambda random, shape: random.normal(size=shape),
        "uniform": lambda random, shape: random.uniform(size=shape),
        "exponential": lambda random, shape: random.exponential(size=shape),
        "lognormal(1)": lambda random, shape: random.lognormal(size=shape),
        "t(4)": lambda random, shape: random.standard_t(4, size=shape),
        "beta(.2, .2)": lambda random, shape: random.beta(0.2, 0.2, size=shape),
        "1 % at 8 sd": lambda random, shape: random.normal(size=shape) + 8 * (random.random(shape) < 0.01),
    }
    rows = []
    for name, draw in draws.items():
        for n in (50, 300, 3000):
            found = [find_outliers(draw(np.random.default_rng(seed), (n, 10)), counts=False) for seed in range(50)]
            rows.append(
                {
                    "table": name,
                    "rows": n,
                    "tables that lose a row": np.mean([len(one.rows) > 0 for one in found]),
                    "share of entries": f"{np.mean([one.entries for one in found]) / (10 * n):.1e}",
                }
            )
    for load in (load_iris, load_wine, load_breast_cancer, load_diabetes, load_digits):
        found = find_outliers(load().data, counts=False)
        name = load.__name__.removeprefix("load_")
        share = f"{found.entries / load().data.size:.1e}"
        counted = {"tables that lose a row": len(found.rows), "share of entries": share}
        rows.append({"table": name, "rows": len(load().data), **counted})
    return rows


def part_rounding(n_seeds: int) -> list[dict]:
    rows = []
    for seed in range(n_seeds):
        random = np.random.default_rng(seed)
        shares = random.dirichlet(np.ones(30), (12, N)).astype(np.float32)
        sums = shares.sum(-1).T.astype(np.float64)
        X, z = measurements(12, seed)
        both, everyone = np.hstack([X, sums]), np.ones(N, dtype=bool)
        for name in AXES:
            without, with_sums = (agreement(ESTIMATORS[name], table, z, everyone) for table in (X, both))
            rows.append({"estimator": name, "seed": seed, "without the sums": without, "with them": with_sums})
        blobs = random.normal(size=(N, 12)) + 4 * random.normal(size=(4, 12))[random.integers(4, size=N)]
        found = [
            DGDEmbedder(2, n_clusters=10, max_epochs=60, random_state=0).fit(table).n_clusters_
            for table in (blobs, np.hstack([blobs, sums]))
        ]
        counted = {"without the sums": found[0], "with them": found[1]}
        rows.append({"estimator": "DGD, 4 clusters", "seed": seed, **counted})
    return rows


def part_later(n_seeds: int) -> list[dict]:
    rows = []
    for name, make in ESTIMATORS.items():
        X, _ = measurements(12, 0)
        limit, later = (np.hstack([X, np.full((N, 2), value)]) for value in (1e-3, 0.5))
        model = make().fit(limit)
        then, now = model.transform(limit), model.transform(later)
        rows.append(
            {
                "estimator": name,
                "largest move (sd of z)": f"{np.abs((now - then) / then.std(0)).max():.1e}",
                "score before": f"{model.score(limit):.2f}",
                "score after": f"{model.score(later):.2f}",
            }
        )
    return rows


def part_silent(n_seeds: int) -> list[dict]:
    X = np.column_stack([cells(12, 0)[0], np.zeros(N)])
    event = X.copy()
    event[:, -1] = 3
    rows = []
    for name, make in ESTIMATORS.items():
        sizes = {"size_factors": None} if "size_factors" in make().get_params() else {}
        row: dict[str, Any] = {"estimator": name}
        for n_epochs in (20, 100, 300):
            model = make(likelihood="nb", max_epochs=n_epochs, **sizes).fit(X)
            row[f"nats, {n_epochs} epochs"] = f"{model.score(X) - model.score(event):.2f}"
        row["largest move of z"] = f"{np.abs(model.transform(event) - model.transform(X)).max():.1e}"
        rows.append(row)
    return rows


def part_units(n_seeds: int) -> list[dict]:
    X, z = measurements(12, 0)
    everyone = np.ones(N, dtype=bool)
    rows = []
    for name in AXES:
        expected = ESTIMATORS[name]().fit(X).score(X)
        for scale in (1e-300, 1e-170, 1e155, 1e300):
            model = ESTIMATORS[name]().fit(scale * X)
            latents = model.transform(scale * X)[:, 0]
            rows.append(
                {
                    "estimator": name,
                    "unit": f"{scale:g}",
                    "|Spearman|": f"{abs(spearmanr(latents[everyone], z)[0]):.3f}",
                    "change of score": f"{model.score(scale * X) + 12 * np.log(scale) - expected:+.1e}",
                }
            )
    return rows


def part_clusters(n_seeds: int) -> list[dict]:
    clouds = {
        "three clouds": (np.array([[0, 0], [6, 0], [0, 6]]), (1 / 3, 1 / 3, 1 / 3)),
        "one Gaussian": (np.zeros((1, 2)), (1.0,)),
        "a rare one of 1 %": (np.array([[0, 0], [6, 0], [0, 7]]), (0.59, 0.4, 0.01)),
    }
    rows = []
    for name, (centers, shares) in clouds.items():
        for n in (1500, 4500, 40_000):
            random = np.random.default_rng(n)
            X = centers[random.choice(len(centers), n, p=shares)] + random.normal(size=(n, 2))
            X = X @ random.normal(size=(2, 6)) + 0.1 * random.normal(size=(n, 6))
            found = DGDEmbedder(2, n_clusters=10, max_epochs=10, random_state=0).fit(X).n_clusters_
            scores = PCA(2).fit_transform(StandardScaler().fit_transform(X))
            bic = [GaussianMixture(k, random_state=0).fit(scores).bic(scores) for k in range(1, 7)]
            rows.append({"table": name, "rows": n, "DGD": found, "BIC": 1 + int(np.argmin(bic))})
    return rows


def part_coverage(n_seeds: int) -> list[dict]:
    rows = []
    for seed in range(n_seeds):
        random = np.random.default_rng(seed)
        loadings = random.normal(size=(2, 12))
        X = random.normal(size=(1000, 2)) @ loadings + 0.5 * random.normal(size=(1000, 12))
        for share in (0.0, 0.2):
            table = np.where(random.random(X.shape) < share, np.nan, X)
            model = VAETransformer(2, decoder="linear", random_state=0).fit(table[~np.isnan(table).all(1)])
            row: dict[str, Any] = {"seed": seed, "missing in training": share}
            for n_missing in (0, 6, 10):
                gaps = np.argsort(random.random((300, 12)), axis=1) < n_missing
                asked = np.where(gaps, np.nan, X[:300])
                row[f"{n_missing} of 12 missing"] = f"{_held(model, asked):.3f}"
            rows.append(row)
    return rows


def _held(model: Any, X: np.ndarray) -> float:
    """Mass of the exact posterior of a linear Gaussian model in 95 % intervals, averaged over rows and latents."""
    slopes = model.derivatives(np.zeros((1, 2)))[0]  # (D, Q)
    offset = model.trajectories(np.zeros((1, 2)))[0]
    precision = model.noise_scale_**-2
    intervals = model.posterior(X, credible_level=0.95)
    held = []
    for row, lower, upper in zip(X, intervals.lower, intervals.upper, strict=True):
        seen = ~np.isnan(row)
        weighted = slopes[seen].T * precision[seen]
        covariance = np.linalg.inv(np.eye(2) + weighted @ slopes[seen])
        exact = norm(covariance @ (weighted @ (row - offset)[seen]), np.sqrt(np.diag(covariance)))
        held.append(exact.cdf(upper) - exact.cdf(lower))
    return float(np.mean(held))


PARTS = {name.removeprefix("part_"): part for name, part in list(globals().items()) if name.startswith("part_")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=[*PARTS, "all"], default=["all"])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    warnings.simplefilter("ignore")  # that something is set aside is what these tables are about
    for name, part in PARTS.items():
        if name in arguments.parts or "all" in arguments.parts:
            begin = time.process_time()
            rows = part(arguments.seeds)
            print(f"\n{name} ({time.process_time() - begin:.0f} CPU-s)")
            print_table(rows)


if __name__ == "__main__":
    main()
