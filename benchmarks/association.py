"""Does a feature change along the axis: p-values of noise, and the power to find weak changes.

    python benchmarks/association.py [--part null power] [--tables 20] [--estimator devae] [--epochs 20]

**null**: features of noise. Whole tables of independent Gaussian or Poisson columns (150 rows, 100 columns; Poisson
tables also with size factors, and a batch), and 100 columns of noise of several distributions beside 200 rows of the
breast cancer data, or of NHANES with its missing entries. Printed are the number of p-values, their Kolmogorov distance
from the uniform distribution, its critical value at 5 %, and the share of p-values below .05 and .01. Ways are

- *leave one out*: ``association_test``;
- *row folds*: five folds of rows. Curves come from a model of the other folds. The statistic is the log-likelihood of
  the feature's entries, integrated over the posterior of the row's position by its other features. Values are permuted
  within folds;
- *in sample*: ``association_test(method="in_sample")``;
- *spline on fitted positions*: an F-test of a regression spline along the fitted axis;
- *Spearman with PC1*: of all columns.

Fits are short (``--epochs``): p-values must be right however good the fit.

**power**: tables of 150 rows. Ten features change along a latent, which explains half of their variance. Of eight it
explains little: a share of their variance is a sigmoid, or a peak, along it. Two are noise. Printed is the share of the
weak features with p < .05, and that of noise. Peers are tests along the first principal component of the other columns:
Spearman's, and an F-test of a regression spline.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from common import print_table, set_threads, shared_data
from scipy.special import logsumexp
from scipy.stats import f as f_distribution
from scipy.stats import kstest, kstwo, norm, spearmanr
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.preprocessing import SplineTransformer

from skdevae import BasisDeVAEClusterer, BasisVAEClusterer, DeVAETransformer
from skdevae.inspection import association_test

ESTIMATORS = {"devae": DeVAETransformer, "basisdevae": BasisDeVAEClusterer, "basisvae": BasisVAEClusterer}
N_PERMUTATIONS = 999
N_GROUPS = N_FOLDS = 5
#: distributions of columns of noise
NOISE: list[Callable[[np.random.Generator, int], np.ndarray]] = [
    lambda random, n: random.normal(size=n),
    lambda random, n: random.lognormal(0, 1.5, n),
    lambda random, n: random.standard_t(2, n),
    lambda random, n: random.integers(2, size=n),
    lambda random, n: random.negative_binomial(1, 0.2, n),
]
NOT_BIOMARKERS = ["age", "sex", "cycle", "died", "followup_months", "pulse_pressure"]


# ---- ways to test ----------------------------------------------------------------------------------------------------


def leave_one_out(model: Any, x: np.ndarray, seed: int, facts: dict) -> np.ndarray:
    tests = association_test(model, x, n_groups=N_GROUPS, n_permutations=N_PERMUTATIONS, random_state=seed, **facts)
    return tests["p_value"].to_numpy()


def in_sample(model: Any, x: np.ndarray, seed: int, facts: dict) -> np.ndarray:
    tests = association_test(model, x, method="in_sample", n_permutations=N_PERMUTATIONS, random_state=seed, **facts)
    return tests["p_value"].to_numpy()


def row_folds(model: Any, x: np.ndarray, seed: int, facts: dict) -> np.ndarray:
    """For measurements without facts."""
    random, n = np.random.default_rng(seed), len(x)
    folds = np.array_split(random.permutation(n), N_FOLDS)
    observed, permuted = np.zeros(x.shape[1]), np.zeros((N_PERMUTATIONS, x.shape[1]))
    points = np.linspace(-4, 4, 81)
    for rows in folds:
        fitted = type(model)(**model.get_params()).fit(np.delete(x, rows, axis=0))
        curves, noise = fitted.trajectories(points[:, None]), fitted.noise_scale_
        orders = random.permuted(np.tile(np.arange(len(rows)), (N_PERMUTATIONS, 1)), axis=1)
        for column in range(x.shape[1]):
            others = x[rows].copy()
            others[:, column] = np.nan
            q = fitted.posterior(others)
            log_q = norm.logpdf(points, q.mean, np.maximum(q.sd, 0.05))  # (n, P)
            # of the entry of row j at the place of row i; a missing entry says nothing
            log_p = np.nan_to_num(norm.logpdf(x[rows, column][:, None], curves[:, column], noise[column]))
            scores = logsumexp(log_q[:, None] + log_p[None], axis=2) - logsumexp(log_q, axis=1)[:, None]
            observed[column] += scores.trace()
            permuted[:, column] += scores[np.arange(len(rows)), orders].sum(1)
    return (1 + (permuted >= observed - 1e-9).sum(0)) / (1 + N_PERMUTATIONS)


def spline_p_values(positions: np.ndarray, x: np.ndarray) -> np.ndarray:
    """F-tests of a cubic regression spline of five knots along positions (N,), for all columns."""
    basis = SplineTransformer(n_knots=5, degree=3, knots="quantile").fit_transform(positions[:, None])
    found = []
    for column in x.T:
        seen = ~np.isnan(column)
        y, design = column[seen], basis[seen]
        left = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
        rank = np.linalg.matrix_rank(design)
        total, rest = ((y - y.mean()) ** 2).sum(), (left**2).sum()
        ratio = ((total - rest) / (rank - 1)) / (rest / (len(y) - rank))
        found.append(f_distribution.sf(ratio, rank - 1, len(y) - rank))
    return np.array(found)


def spline_in_sample(model: Any, x: np.ndarray, seed: int, facts: dict) -> np.ndarray:
    return spline_p_values(model.transform(x, **facts)[:, 0], x)


def spearman_p_values(positions: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.array([spearmanr(positions, column, nan_policy="omit").pvalue for column in x.T])


def principal_component(x: np.ndarray) -> np.ndarray:
    filled = np.where(np.isnan(x), np.nanmean(x, axis=0), x)
    return PCA(1).fit_transform((filled - filled.mean(0)) / filled.std(0))[:, 0]


def spearman_with_pc1(model: Any, x: np.ndarray, seed: int, facts: dict) -> np.ndarray:
    return spearman_p_values(principal_component(x), x)


WAYS = {
    "leave one out": leave_one_out,
    "row folds": row_folds,
    "in sample": in_sample,
    "spline on fitted positions": spline_in_sample,
    "Spearman with PC1": spearman_with_pc1,
}


# ---- noise -----------------------------------------------------------------------------------------------------------


def noise_columns(random: np.random.Generator, n: int, each: int = 20) -> np.ndarray:
    return np.column_stack([draw(random, n) for draw in NOISE for _ in range(each)]).astype(float)


def gaussian_noise(random: np.random.Generator) -> tuple:
    return random.normal(size=(150, 100)), "gaussian", {}, np.arange(100)


def poisson_noise(random: np.random.Generator) -> tuple:
    return random.poisson(random.uniform(0.3, 8, 100), (150, 100)).astype(float), "poisson", {}, np.arange(100)


def poisson_noise_of_sizes(random: np.random.Generator) -> tuple:
    """Counts of samples that differ in size and in batch; both say what is expected of them."""
    size, batch = random.lognormal(0, 0.6, 150), random.integers(2, size=150)
    rates = random.uniform(0.3, 8, 100) * np.exp(0.5 * random.normal(size=(2, 100)))[batch]
    x = random.poisson(size[:, None] * rates).astype(float)
    return x, "poisson", {"size_factors": size, "covariates": np.array(list("ab"))[batch]}, np.arange(100)


def noise_in_breast_cancer(random: np.random.Generator) -> tuple:
    x = load_breast_cancer().data
    x = x[random.choice(len(x), 200, replace=False)]
    noise = noise_columns(random, len(x))
    return np.hstack([x, noise]), "gaussian", {}, np.arange(x.shape[1], x.shape[1] + noise.shape[1])


def noise_in_nhanes(random: np.random.Generator) -> tuple:
    table = pd.read_csv(shared_data("nhanes_biomarkers.csv.gz")).drop(columns=NOT_BIOMARKERS)
    x = table.to_numpy(dtype=float)[random.choice(len(table), 200, replace=False)]
    noise = noise_columns(random, len(x))
    noise[random.random(noise.shape) < 0.1] = np.nan
    return np.hstack([x, noise]), "gaussian", {}, np.arange(x.shape[1], x.shape[1] + noise.shape[1])


TABLES = {
    "gaussian": gaussian_noise,
    "poisson": poisson_noise,
    "poisson, sizes and batch": poisson_noise_of_sizes,
    "breast cancer and noise": noise_in_breast_cancer,
    "NHANES and noise": noise_in_nhanes,
}


def null(estimator: type, n_tables: int, cases: list[str], ways: list[str], epochs: int | None) -> Iterator[dict]:
    for case in cases:
        found: dict[str, list] = {way: [] for way in ways}
        for seed in range(n_tables):
            x, likelihood, facts, columns = TABLES[case](np.random.default_rng(seed))
            model = estimator(likelihood=likelihood, random_state=0, max_epochs=epochs).fit(x, **facts)
            for way in ways:
                if way != "row folds" or (likelihood == "gaussian" and not facts):
                    found[way].append(WAYS[way](model, x, seed, facts)[columns])
        for way in ways:
            if found[way]:
                yield {"table": case, "way": way, **of_uniform(np.concatenate(found[way]))}


def of_uniform(p_values: np.ndarray) -> dict:
    return {
        "p-values": len(p_values),
        "distance": round(kstest(p_values, "uniform").statistic, 3),
        "critical": round(kstwo.ppf(0.95, len(p_values)), 3),
        "p < .05": round(float(np.mean(p_values < 0.05)), 3),
        "p < .01": round(float(np.mean(p_values < 0.01)), 3),
    }


# ---- power -----------------------------------------------------------------------------------------------------------


SHAPES = {"sigmoid": lambda z: np.tanh(1.5 * z), "peak": lambda z: np.exp(-2 * z**2)}
#: shape and share of variance of weak features; each twice in a table, as the noise is
WEAK = [("sigmoid", 0.04), ("sigmoid", 0.08), ("peak", 0.05), ("peak", 0.1), ("none", 0.0)]
N_STRONG = 10


def with_weak_features(random: np.random.Generator) -> np.ndarray:
    z = random.normal(size=150)
    centers, signs = random.uniform(-1, 1, N_STRONG), random.choice([-1, 1], N_STRONG)
    strong = signs * np.tanh(1.5 * (z[:, None] - centers))
    columns = [*(strong / strong.std(0)).T]
    for shape, share in WEAK:
        for _ in range(2):
            curve = 0 * z if shape == "none" else SHAPES[shape](z - random.uniform(-0.5, 0.5))
            columns.append(np.sqrt(share / (1 - share)) * (curve - curve.mean()) / (curve.std() or 1.0))
    return np.column_stack(columns) + random.normal(size=(150, len(columns)))


def along_pc1(test: Callable) -> Callable:
    """A test of each column along the first principal component of the others."""

    def tested(model: Any, x: np.ndarray, seed: int, facts: dict) -> np.ndarray:
        columns = range(x.shape[1])
        return np.concatenate([test(principal_component(np.delete(x, c, axis=1)), x[:, [c]]) for c in columns])

    return tested


PEERS = {"spline along PC1 of others": along_pc1(spline_p_values), "Spearman, same": along_pc1(spearman_p_values)}


def power(estimator: type, n_tables: int, ways: list[str], epochs: int | None) -> Iterator[dict]:
    tests = {way: WAYS[way] for way in ways} | PEERS
    found: dict[str, list] = {way: [] for way in tests}
    for seed in range(n_tables):
        x = with_weak_features(np.random.default_rng(seed))
        model = estimator(random_state=0, max_epochs=epochs).fit(x)
        for way, test in tests.items():
            found[way].append(test(model, x, seed, {})[N_STRONG:])
    for way, p_values in found.items():
        shares = (np.stack(p_values) < 0.05).reshape(n_tables, len(WEAK), 2).mean((0, 2)).round(2)
        names = [f"{shape} {share:.0%}" if share else "noise" for shape, share in WEAK]
        yield {"way": way, **dict(zip(names, shares, strict=True))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="*", default=["null", "power"], choices=["null", "power"])
    parser.add_argument("--tables", type=int, default=20)
    parser.add_argument("--estimator", default="devae", choices=ESTIMATORS)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--cases", nargs="*", default=list(TABLES), choices=TABLES)
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=WAYS)
    arguments = parser.parse_args()
    set_threads(1)
    estimator = ESTIMATORS[arguments.estimator]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if "null" in arguments.part:
            print_table(
                list(null(estimator, arguments.tables, arguments.cases, arguments.ways, arguments.epochs or 20))
            )
        if "power" in arguments.part:
            ways = [way for way in arguments.ways if way in ("leave one out", "row folds")]
            print_table(list(power(estimator, arguments.tables, ways, arguments.epochs)))


if __name__ == "__main__":
    main()
