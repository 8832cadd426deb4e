"""Stability: whether intervals of positions hold what they promise, with and without what is not known of the curves.

    python benchmarks/stability.py                                   # both parts
    python benchmarks/stability.py --parts refits --tables cancer_150 --replicates 20
    python benchmarks/stability.py --parts truth --tables progression --seeds 5

Parts:

refits      Fits are repeated from the start for samples with the weights of a Bayesian bootstrap. How many of the
            positions that they give lie within 95 % intervals: of the fit given its curves; with replicates side by
            side, which have the same weights; and with other refits, half as many, as replicates. Beside them: spread
            of side-by-side replicates relative to that of refits, as the median over samples of the ratio of sds, and
            nats per sample that they gain over the refits with the same weights (median, and worst).
truth       Simulated tables, where the position of each sample is known as a quantile of its population: the share of
            true quantiles within 95 % intervals. Ends of intervals become quantiles by the ranks of the samples'
            positions or, "by prior", by the latent's standard normal distribution. Of cohorts, diseased
            subjects count: healthy ones have no position of their own.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd
from common import print_table, set_threads, shared_data
from scipy.stats import norm
from sklearn.datasets import load_breast_cancer

from skdevae import BasisDeVAEClusterer
from skdevae.datasets import make_progression
from skdevae.inspection import bootstrap

PARTS = ("refits", "truth")
REAL = ("cancer", "cancer_150", "ixi")
SIMULATED = ("progression", "cohort", "cohort_transient")
MARKERS = 12
#: sd of the noise of progressions, whose curves have a range of about 1
NOISE = 0.3


def real_tables(names: list[str], n_seeds: int) -> Iterator[tuple[str, np.ndarray]]:
    cancer = load_breast_cancer().data
    if "cancer" in names:
        yield "cancer", cancer
    if "cancer_150" in names:
        for seed in range(n_seeds):
            yield f"cancer_150, sample {seed}", cancer[np.random.RandomState(seed).permutation(len(cancer))[:150]]
    if "ixi" in names:
        yield "ixi", pd.read_csv(shared_data("ixi_thickness.csv.gz")).iloc[:, :70].to_numpy(dtype=float)


def share_within(lower: np.ndarray, upper: np.ndarray, values: np.ndarray) -> float:
    return float(((values >= lower) & (values <= upper)).mean())


def against_refits(args: argparse.Namespace) -> Iterator[dict]:
    for name, X in real_tables(args.tables, args.seeds):
        model = BasisDeVAEClusterer(random_state=0).fit(X)
        side, refits = (
            bootstrap(model, X, n_bootstrap=args.replicates, random_state=0, method=method)
            for method in ("side_by_side", "refit")
        )
        others = bootstrap(model, X, n_bootstrap=args.replicates // 2, random_state=1, method="refit")
        intervals = {
            "curves known": model.posterior(X),
            "side by side": model.posterior(X, include="curves", replicates=side),
            "other refits": model.posterior(X, include="curves", replicates=others),
        }
        shares = {
            key: share_within(found.lower[:, 0], found.upper[:, 0], refits.positions)
            for key, found in intervals.items()
        }
        nats = np.array(
            [
                [np.average(one.score_samples(X), weights=w) for one, w in zip(made, side.weights, strict=True)]
                for made in (side, refits)
            ]
        )
        gain = nats[0] - nats[1]
        ratio = np.median(side.positions.std(0) / refits.positions.std(0))
        yield {"table": name, **shares, "sd ratio": ratio, "gain": np.median(gain), "worst gain": gain.min()}


def cohort(n_subjects: int, seed: int, has_transients: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Measurements (N, 12), the population quantile of each subject (NaN for healthy ones), and who is diseased."""
    random = np.random.default_rng([n_subjects, seed])
    events = random.permutation(np.arange(1, MARKERS + 1)) + random.uniform(-0.3, 0.3, MARKERS)
    strength, sd = random.uniform(1.2, 4, MARKERS), random.uniform(0.5, 3, MARKERS)
    sign, steepness = random.choice([-1, 1], MARKERS), random.uniform(0.8, 3, MARKERS)
    is_diseased = np.arange(n_subjects) >= n_subjects // 2
    stage = random.uniform(0, MARKERS + 1, n_subjects)
    progress = 1 / (1 + np.exp(-steepness * (stage[:, None] - events)))
    if has_transients:
        goes = 1 / (1 + np.exp(-steepness * (stage[:, None] - events - 4)))
        progress = np.where(np.arange(MARKERS) % 3 == 0, progress * (1 - goes), progress)
    noise = sd * random.standard_normal((n_subjects, MARKERS))
    quantile = np.where(is_diseased, 0.5 + 0.5 * stage / (MARKERS + 1), np.nan)
    return noise + is_diseased[:, None] * sign * strength * sd * progress, quantile, is_diseased


def simulated(name: str, n_samples: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A table, true quantiles (NaN where there are none), and what rises along the axis."""
    if name != "progression":
        X, quantile, is_diseased = cohort(n_samples, seed, name == "cohort_transient")
        return X, quantile, is_diseased.astype(float)
    made = make_progression(n_samples, n_transient=4, n_increasing=4, n_decreasing=4, noise=NOISE, random_state=seed)
    return made.data, (made.times + 3) / 6, made.times


def against_truth(args: argparse.Namespace) -> Iterator[dict]:
    for name in [name for name in SIMULATED if name in args.tables]:
        for n_samples in args.samples:
            rows = [coverage_of_truth(name, n_samples, seed, args.replicates) for seed in range(args.seeds)]
            yield {"table": name, "samples": n_samples, **pd.DataFrame(rows).mean().to_dict()}


def coverage_of_truth(name: str, n_samples: int, seed: int, n_replicates: int) -> dict[str, float]:
    X, truth, direction = simulated(name, n_samples, seed)
    model = BasisDeVAEClusterer(random_state=0).fit(X, orientation=direction)
    replicates = bootstrap(model, X, n_bootstrap=n_replicates, random_state=seed)
    found = {
        "curves known": model.posterior(X),
        "side by side": model.posterior(X, include="curves", replicates=replicates),
    }
    known, positions = ~np.isnan(truth), model.transform(X)[:, 0]
    row = {}
    for key, posterior in found.items():
        lower, upper = posterior.lower[known, 0], posterior.upper[known, 0]
        by_ranks = share_before(lower, positions), share_before(upper, positions)
        row[key] = share_within(*by_ranks, truth[known])
        row[f"{key}, by prior"] = share_within(norm.cdf(lower), norm.cdf(upper), truth[known])
        row[f"{key}, width"] = float(np.mean(by_ranks[1] - by_ranks[0]))
    return row


def share_before(at: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Share of the samples that come before a position, interpolated between samples."""
    return np.interp(at, np.sort(positions), (np.arange(len(positions)) + 0.5) / len(positions), left=0, right=1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--tables", nargs="+", choices=REAL + SIMULATED, default=REAL + SIMULATED)
    parser.add_argument("--replicates", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", nargs="+", type=int, default=[150, 500])
    args = parser.parse_args()
    set_threads(1)
    warnings.simplefilter("ignore")
    if "refits" in args.parts:
        print_table(list(against_refits(args)))
    if "truth" in args.parts:
        print_table(list(against_truth(args)))
