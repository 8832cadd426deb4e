"""Are the labels true? Behaviours of features against what noiseless curves show within the data.

    python benchmarks/labels.py [--parts all] [--seeds 5]

Parts, each a table:

sigmoids   tanh(k (t - c)), rising and falling: the share of right labels. "by fitted curves" is with
           leveling_off="turn", for the first seed.
mixed      a third each monotone, transient and flat, of twelve shapes, at four ratios of range to noise in one table.
           The oracle has the same evidence and the same features, but the true times. ECE is the expected calibration
           error of the probability of the label.
single     the same with one ratio for the whole table, so that no clearer feature helps to find the axis.
counts     as mixed, for poisson, nb and bernoulli tables of the same curves on the log or logit scale.
noise      tables of pure noise, and noise columns among others: what is called anything but flat with p > 0.8.
windows    the paper's table and its windows, with leveling_off="turn" and "plateau". The truth within the window is
           what the noiseless curve shows there, at a margin of 2 % of its range and at the model's own 15 %.
held_out   gains in held-out nats over FactorAnalysis(1).
nesting    score as behaviours are added one by one.
stability  features with p > 0.9 whose label changes under 80 % subsamples.
speed      CPU-seconds of a fit against the same fit with leveling_off="turn", which judges by the fitted curves.

What was tuned was tuned on a few sigmoids, on held-out nats, on three mixed tables of other seeds than these, and on
the Poisson tables of the first 16 seeds, which counts leaves out.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from common import print_table, random_splits, set_threads, timed
from held_out import load_tables
from scipy.stats import norm, rankdata, spearmanr
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.decomposition import FactorAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.preprocessing import StandardScaler

from skdevae import BasisDeVAEClusterer, DeVAETransformer
from skdevae.datasets import make_progression, make_progression_counts
from skdevae.nn.behavior_evidence import behavior_evidence
from skdevae.nn.binned_columns import bin_columns, binned, bins_of
from skdevae.nn.curve_shapes import shapes_of
from skdevae.nn.latent_grid import LatentGrid, bumps_around, summarize
from skdevae.nn.likelihoods import LIKELIHOODS
from skdevae.nn.rows import DenseRows
from skdevae.nn.smooth_curves import SmoothCurves

BEHAVIORS = ("increasing", "decreasing", "transient", "flat")
ALL_BEHAVIORS = (*BEHAVIORS, "dip", "free")
RATIOS = (1, 2, 4, 8)
MARGIN = BasisDeVAEClusterer().margin


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Mean distance between confidence and accuracy, over five bins of confidence."""
    bins = np.digitize(confidence, [0.5, 0.7, 0.9, 0.99])
    return sum(abs((confidence - right)[bins == b].sum()) for b in np.unique(bins)) / len(right)


# ---- shapes ---------------------------------------------------------------------------------------------------------


def sigmoids(n_samples: int, steepness: float, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """24 columns, the times, and 1 for columns that rise and -1 for others."""
    random = np.random.default_rng(seed)
    t, sign = random.normal(size=n_samples), np.where(np.arange(24) % 2, 1, -1)
    curves = sign * np.tanh(steepness * (t[:, None] - 0.7 * random.normal(size=24)))
    return curves + noise * random.normal(size=curves.shape), t, sign


def part_sigmoids(n_seeds: int) -> list[dict]:
    rows = []
    for noise in (0.1, 0.3, 1.0):
        shares, by_fit, rho, spent = [], [], [], []
        for n_samples in (200, 400, 2000):
            for steepness in (1, 2, 4):
                for seed in range(n_seeds):
                    X, t, sign = sigmoids(n_samples, steepness, noise, seed)
                    model, seconds = timed(partial(BasisDeVAEClusterer(random_state=0).fit, X, orientation=t))
                    truth = np.where(sign > 0, "increasing", "decreasing")
                    shares.append(np.mean(model.feature_labels(0) == truth))
                    if seed == 0:
                        turned = BasisDeVAEClusterer(3, leveling_off="turn", random_state=0).fit(X, orientation=t)
                        by_fit.append(np.mean(turned.feature_labels(0) == truth))
                    rho.append(spearmanr(model.transform(X)[:, 0], t)[0])
                    spent.append(seconds)
        rows.append(
            {
                "noise": noise,
                "right labels": f"{np.mean(shares):.3f}",
                "least": f"{min(shares):.2f}",
                "by fitted curves": f"{np.mean(by_fit):.3f}",
                "Spearman with t": f"{np.mean(rho):.3f}",
                "CPU-s": f"{np.mean(spent):.2f}",
            }
        )
    return rows


def mixed_table(n_samples: int, ratios: tuple[int, ...], seed: int, n_each: int = 6) -> dict:
    """Curves of range 1 with noise, n_each rising, as many falling, twice as many transient and flat for each ratio."""
    parts = [
        make_progression(
            n_samples,
            n_transient=2 * n_each,
            n_increasing=n_each,
            n_decreasing=n_each,
            n_flat=2 * n_each,
            shapes="mixed",
            noise=1 / ratio,
            random_state=seed,
        )
        for ratio in ratios
    ]
    # The times are the first thing that the seed draws, so they are the same in all parts.
    random = np.random.default_rng(seed)
    curves = np.hstack([part.curves for part in parts])
    noise = np.repeat([1 / ratio for ratio in ratios], 6 * n_each)
    names = np.array(parts[0].label_names, dtype=object)
    return {
        "X": curves + noise * random.standard_normal(curves.shape),
        "curves": curves,
        "times": parts[0].times,
        "truth": np.concatenate([names[part.observed_labels] for part in parts]),
        "ratio": np.repeat(ratios, 6 * n_each),
    }


@torch.no_grad()
def oracle(X: np.ndarray, times: np.ndarray, likelihood: str = "gaussian", **parameters: float) -> np.ndarray:
    """Probabilities of the behaviours by the same evidence, with every sample at its true place: (D, K)."""
    z = torch.from_numpy(norm.ppf((rankdata(times) - 0.5) / len(times)))
    table = torch.from_numpy(StandardScaler().fit_transform(X) if likelihood == "gaussian" else X)
    grid = LatentGrid.standard_normal(513, 4.5)
    sums = summarize(DenseRows(table, None), bumps_around(z[:, None], grid.points, 0.01), grid.log_mass, False)
    mass = sums.mass[:, 0]
    bins = bins_of(mass)
    model = LIKELIHOODS[likelihood](X.shape[1], **({"floor": 0.1} if likelihood == "gaussian" else {})).double()
    for name, value in parameters.items():
        getattr(model, name).fill_(value)
    latents = (bins @ (mass * grid.points[:, 0])) / (bins @ mass)
    columns = bin_columns(binned(sums, bins), latents, model, (table**2).sum(0))
    evidence = behavior_evidence(
        SmoothCurves(columns), BEHAVIORS, MARGIN, torch.zeros(X.shape[1], len(BEHAVIORS)).double()
    )
    return evidence.softmax(1).numpy()


def judged(probabilities: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every feature the probability of its label, whether it is right, and whether it is a false alarm."""
    names = np.array(BEHAVIORS, dtype=object)[probabilities.argmax(1)]
    confidence = probabilities.max(1)
    return confidence, names == truth, (truth == "flat") & (names != "flat") & (confidence > 0.8)


def compare(tables: list[dict], likelihood: str = "gaussian", **parameters: float) -> dict:
    """Fits of some tables against the oracle, over all their features."""
    ours, ideal, rho, spent = [], [], [], []
    for table in tables:
        model = BasisDeVAEClusterer(likelihood=likelihood, random_state=0)
        _, seconds = timed(partial(model.fit, table["X"], orientation=table["times"]))
        ours.append(judged(model.responsibilities_, table["truth"]))
        ideal.append(judged(oracle(table["X"], table["times"], likelihood, **parameters), table["truth"]))
        rho.append(spearmanr(model.transform(table["X"])[:, 0], table["times"])[0])
        spent.append(seconds)
    confidence, right, alarm = (np.concatenate(part) for part in zip(*ours, strict=True))
    confidence_then, right_then, _ = (np.concatenate(part) for part in zip(*ideal, strict=True))
    flat = np.concatenate([table["truth"] == "flat" for table in tables])
    ratio = np.concatenate([table["ratio"] for table in tables])
    return {
        "accuracy": f"{right.mean():.3f}",
        "oracle": f"{right_then.mean():.3f}",
        "by ratio": " ".join(f"{r}:{right[ratio == r].mean():.2f}" for r in np.unique(ratio)),
        "ECE": f"{calibration_error(confidence, right):.3f}",
        "oracle ECE": f"{calibration_error(confidence_then, right_then):.3f}",
        "flat, p>.8 not": f"{alarm[flat].mean():.3f}",
        "Spearman": f"{np.mean(rho):.3f}",
        "CPU-s": f"{np.mean(spent):.1f}",
    }


def part_mixed(n_seeds: int) -> list[dict]:
    return [{"n": n, **compare([mixed_table(n, RATIOS, seed, 3) for seed in range(n_seeds)])} for n in (100, 400, 2000)]


def part_single(n_seeds: int) -> list[dict]:
    return [
        {"n": n, "ratio": ratio, **compare([mixed_table(n, (ratio,), seed) for seed in range(n_seeds)])}
        for n in (100, 400, 2000)
        for ratio in RATIOS
    ]


#: the first seed of tables of counts that no start was tuned on
FIRST_COUNTED = 16


def counted_table(likelihood: str, seed: int) -> dict:
    """Curves of a mixed table as logs of means around 0.3 to 10, or as logits."""
    table = mixed_table(1000, (1, 2, 4), seed, 3)
    random = np.random.default_rng(seed)
    curves = (table["curves"] - table["curves"].mean(0)) * table["ratio"]
    if likelihood == "bernoulli":
        X = (random.random(curves.shape) < 1 / (1 + np.exp(-curves))).astype(float)
    else:
        mean = np.exp(curves + random.uniform(-1.2, 2.3, curves.shape[1]))
        X = random.poisson(mean * (random.gamma(2, 0.5, curves.shape) if likelihood == "nb" else 1)).astype(float)
    return {**table, "X": X}


def part_counts(n_seeds: int) -> list[dict]:
    parameters: dict[str, dict[str, float]] = {"nb": {"log_dispersion": np.log(2)}}
    return [
        {
            "likelihood": likelihood,
            **compare(
                [counted_table(likelihood, FIRST_COUNTED + seed) for seed in range(n_seeds)],
                likelihood,
                **parameters.get(likelihood, {}),
            ),
        }
        for likelihood in ("poisson", "nb", "bernoulli")
    ]


# ---- nothing to find ------------------------------------------------------------------------------------------------


def part_noise(n_seeds: int) -> list[dict]:
    rows = []
    for n_samples, n_features in ((100, 30), (500, 50), (2000, 10)):
        alarms = []
        for seed in range(n_seeds):
            X = np.random.default_rng(seed).normal(size=(n_samples, n_features))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model = BasisDeVAEClusterer(random_state=0).fit(X)
            alarms.append(np.mean((model.labels_ != 3) & (model.responsibilities_.max(1) > 0.8)))
        rows.append({"table": f"noise, {n_samples} x {n_features}", "not flat, p > .8": f"{np.mean(alarms):.3f}"})
    for name, load in (("iris", load_iris), ("wine", load_wine), ("breast cancer", load_breast_cancer)):
        alarms, constants, changed = [], [], []
        for seed in range(n_seeds):
            X = StandardScaler().fit_transform(load().data)
            more = np.hstack([X, np.random.default_rng(seed).normal(size=(len(X), 20)), np.ones((len(X), 10))])
            model = BasisDeVAEClusterer(random_state=0).fit(more)
            alone = BasisDeVAEClusterer(random_state=0).fit(more[:, :-10])
            noise, constant = slice(X.shape[1], X.shape[1] + 20), slice(-10, None)
            sure = model.responsibilities_.max(1) > 0.8
            alarms.append(np.mean((model.labels_ != 3)[noise] & sure[noise]))
            constants.append(np.mean(model.labels_[constant] == 3))
            changed.append(np.mean(model.labels_[:-10] != alone.labels_))
        rows.append(
            {
                "table": f"{name} with 20 noise columns and 10 constant ones",
                "not flat, p > .8": f"{np.mean(alarms):.3f}",
                "constant ones flat": f"{np.mean(constants):.2f}",
                "labels that constant columns change": f"{np.mean(changed):.3f}",
            }
        )
    return rows


# ---- the paper's table ----------------------------------------------------------------------------------------------


def shown(curves: np.ndarray, times: np.ndarray, margin: float) -> np.ndarray:
    """Names of what noiseless curves show over some times."""
    in_order = torch.from_numpy(curves[np.argsort(times)])
    names = np.array([*ALL_BEHAVIORS, "none of them"], dtype=object)
    return names[shapes_of(in_order, ALL_BEHAVIORS, margin).numpy()]


def part_windows(n_seeds: int) -> list[dict]:
    rows = []
    n_seeds = max(n_seeds, 10)
    for window in ("all", "low", "high"):
        for leveling_off in ("turn", "plateau"):
            published, spent = [], []
            within: dict[float, list[float]] = {0.02: [], MARGIN: []}
            for seed in range(n_seeds):
                table = make_progression(window=window, random_state=seed)
                model = BasisDeVAEClusterer(
                    None if leveling_off == "plateau" else 3, leveling_off=leveling_off, random_state=seed
                )
                _, seconds = timed(partial(model.fit, table.data, orientation=table.times))
                published.append(adjusted_rand_score(table.labels, model.labels_))
                for margin, shares in within.items():
                    shares.append(np.mean(model.feature_labels(0) == shown(table.curves, table.times, margin)))
                spent.append(seconds)
            rows.append(
                {
                    "window": window,
                    "leveling_off": leveling_off,
                    "ARI with the paper's labels": f"{np.mean(published):.3f}",
                    **{f"right within it, at {margin:.0%}": f"{np.mean(s):.3f}" for margin, s in within.items()},
                    "CPU-s": f"{np.mean(spent):.2f}",
                }
            )
    return rows


# ---- real tables ----------------------------------------------------------------------------------------------------


def real_tables() -> dict[str, np.ndarray]:
    shared = load_tables()
    return {
        "wine": load_wine().data,
        "breast cancer": load_breast_cancer().data,
        "IXI thickness": shared["IXI thickness"][0].to_numpy(),
        "NHANES complete rows": shared["NHANES complete rows"][0].to_numpy(),
    }


def part_held_out(n_seeds: int) -> list[dict]:
    rows = []
    for name, table in real_tables().items():
        models: dict[str, Callable[[], Any]] = {
            "plateau": partial(BasisDeVAEClusterer, random_state=0),
            "with dip": partial(BasisDeVAEClusterer, 5, random_state=0),
            "turn": partial(BasisDeVAEClusterer, 3, leveling_off="turn", random_state=0),
            "DeVAETransformer": partial(DeVAETransformer, random_state=0),
            "DeVAETransformer, 20": partial(DeVAETransformer, weight_precision=20.0, random_state=0),
        }
        gains: dict[str, list[float]] = {model: [] for model in models}
        spent = dict.fromkeys(models, 0.0)
        for train, test in random_splits(len(table), 2 * n_seeds):
            scaler = StandardScaler().fit(table[train])
            X, X_test = scaler.transform(table[train]), scaler.transform(table[test])
            base = FactorAnalysis(1).fit(X).score(X_test)
            for model, construct in models.items():
                fitted, seconds = timed(partial(construct().fit, X))
                gains[model].append(fitted.score(X_test) - base)
                spent[model] += seconds / (2 * n_seeds)
        rows += [
            {
                "table": name,
                "model": model,
                "gain over FactorAnalysis(1)": f"{np.mean(gains[model]):.3f}",
                "least": f"{min(gains[model]):.3f}",
                "CPU-s": f"{spent[model]:.2f}",
            }
            for model in models
        ]
    return rows


def part_nesting(n_seeds: int) -> list[dict]:
    tables = {
        "wine": load_wine().data,
        "diabetes": load_diabetes().data,
        "NHANES, 1200 rows": real_tables()["NHANES complete rows"][:1200],
    }
    rows = []
    for name, table in tables.items():
        X = StandardScaler().fit_transform(table)
        scores, bounds = [], []
        for n in range(2, len(ALL_BEHAVIORS) + 1):
            model = BasisDeVAEClusterer(behaviors=ALL_BEHAVIORS[:n], random_state=0).fit(X)
            scores.append(model.score(X))
            bounds.append(model.lower_bound_)
        rows.append(
            {
                "table": name,
                **{ALL_BEHAVIORS[n + 1]: f"{score:.2f}" for n, score in enumerate(scores)},
                "largest fall": f"{-min(0, np.diff(scores).min()):.3f}",
                "of the bound": f"{-min(0, np.diff(bounds).min()):.3f}",
            }
        )
    return rows


def part_stability(n_seeds: int) -> list[dict]:
    rows = []
    for name, table in {**real_tables(), "iris": load_iris().data}.items():
        X = StandardScaler().fit_transform(table)
        whole = BasisDeVAEClusterer(random_state=0).fit(X)
        axis, sure = whole.transform(X)[:, 0], whole.responsibilities_.max(1) > 0.9
        changed = []
        for train, _ in random_splits(len(X), 2 * n_seeds):
            part = BasisDeVAEClusterer(random_state=0).fit(X[train], orientation=axis[train])
            changed.append(part.labels_[sure] != whole.labels_[sure])
        share = np.mean(changed, 0)
        rows.append(
            {
                "table": name,
                "features with p > .9": f"{sure.sum()} of {len(sure)}",
                "changed labels": f"{np.mean(share):.3f}",
                "features that ever change": int((share > 0).sum()),
            }
        )
    return rows


def part_speed(n_seeds: int) -> list[dict]:
    small = make_progression(random_state=0).data
    cells = make_progression_counts(8509, 5216, random_state=0)
    rows = []
    for name, X, likelihood, repeats in (("500 x 50", small, "gaussian", 3), ("8509 x 5216", cells.data, "nb", 1)):
        spent = {}
        for leveling_off in ("turn", "plateau"):
            model = BasisDeVAEClusterer(3, leveling_off=leveling_off, likelihood=likelihood, random_state=0)
            begin = time.perf_counter()
            fits = partial(lambda model, X, n: [model.fit(X) for _ in range(n)], model, X, repeats)
            spent[leveling_off] = timed(fits)[1]
            spent[f"{leveling_off}, wall"] = time.perf_counter() - begin
        rows.append(
            {
                "table": name,
                **{f"{key} s": f"{value / repeats:.1f}" for key, value in spent.items()},
                "ratio of CPU-seconds": f"{spent['plateau'] / spent['turn']:.2f}",
            }
        )
    return rows


PARTS = {name.removeprefix("part_"): part for name, part in list(globals().items()) if name.startswith("part_")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=[*PARTS, "all"], default=["all"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    for name, part in PARTS.items():
        if name in arguments.parts or "all" in arguments.parts:
            rows, seconds = timed(partial(part, arguments.seeds))
            print(f"\n{name} ({seconds:.0f} CPU-s)")
            print_table(rows)


if __name__ == "__main__":
    main()
