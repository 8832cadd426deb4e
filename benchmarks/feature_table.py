"""Is what feature_table says of features true? Events and their intervals, changes, and explained shares.

    python benchmarks/feature_table.py [--parts all] [--tables 5] [--replicates 100]

Tables have twelve columns: sigmoids, ramps (softplus) and bumps, rising and falling, with noise. None of these shapes
is a family of curves of the model. Samples are normal along the axis. The truth is what the noiseless curves do where
the table judges curves: between quantiles of the axis that ten samples lie beyond, 1 % at least and 5 % at most.

Parts, each a table:

events     error of the half change (a quantile of the samples) and of the change (as a share of the true one), and
           how often intervals of nominally 90 % hold the truth, by shape, number of samples, and range over noise.
explained  the share of the variance that the true curve explains, what feature_table says, and what residuals from
           positions that the columns themselves have helped to find would say; for columns of signal and for as many
           columns of pure noise.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
import pandas as pd
from common import print_table, set_threads
from scipy.special import expit
from scipy.stats import norm

from skdevae import BasisDeVAEClusterer, DeVAETransformer
from skdevae.inspection import feature_table
from skdevae.inspection._events import event_positions

SHAPES = ("sigmoid", "ramp", "bump")
N_EACH = 4
KINDS = np.repeat(SHAPES, N_EACH)
LEVEL = 0.9
BEHAVIORS = ("increasing", "decreasing", "transient", "dip", "flat")


def true_curves(random: np.random.Generator):
    """A function that gives the curves of all columns at positions (N,): (N, D)."""
    center, steepness, width = (random.uniform(*ends, len(KINDS)) for ends in ((-1, 1), (1, 3), (0.4, 0.8)))
    sign = random.choice([-1, 1], len(KINDS))

    def curves(t: np.ndarray) -> np.ndarray:
        away = t[:, None] - center
        shapes = {
            "sigmoid": expit(2 * steepness * away),
            "ramp": np.logaddexp(0, 2 * steepness * away) / steepness,
            "bump": np.exp(-0.5 * (away / width) ** 2),
        }
        return sign * np.select([kind == KINDS for kind in SHAPES], [shapes[kind] for kind in SHAPES])

    return curves


def simulated(seed: int, n: int, ratio: float):
    """Positions (N,), noiseless values and noise (N, D), and the true half changes, as quantiles, and changes (D,)."""
    random = np.random.default_rng([seed, n])
    curves, t = true_curves(random), random.normal(size=n)
    beyond = np.clip(10 / n, 0.01, 0.05)
    at = np.linspace(*norm.ppf([beyond, 1 - beyond]), 4001)
    fine = curves(at)
    noise = random.normal(size=(n, len(KINDS))) * np.ptp(fine, 0) / ratio
    extreme = np.abs(fine - fine[0]).argmax(0)
    change = fine[extreme, np.arange(len(KINDS))] - fine[0]
    return t, curves(t), noise, norm.cdf(event_positions(fine, at, "half_change")), change


def events(n_tables: int, n_replicates: int) -> list[dict]:
    rows = []
    for n, ratio in ((150, 4), (500, 4), (500, 2)):
        found = []
        for seed in range(n_tables):
            t, signal, noise, half, change = simulated(seed, n, ratio)
            model = BasisDeVAEClusterer(behaviors=BEHAVIORS, random_state=0).fit(signal + noise, orientation=t)
            table = feature_table(
                model, signal + noise, n_bootstrap=n_replicates, confidence_level=LEVEL, random_state=0
            )
            lower, upper = (table[["half change (quantile) " + end, "change " + end]] for end in ("lower", "upper"))
            true = np.stack([half, change], 1)
            within = (lower.to_numpy() <= true) & (true <= upper.to_numpy())
            found.append(
                pd.DataFrame(
                    {
                        "shape": KINDS,
                        "half": table["half change (quantile)"] - half,
                        "change": table["change"] / change - 1,
                        "half within": within[:, 0],
                        "change within": within[:, 1],
                    }
                )
            )
        for shape, some in pd.concat(found).groupby("shape", sort=False):
            rows.append(
                {
                    "samples": n,
                    "range/noise": ratio,
                    "shape": shape,
                    "half change: bias": round(some["half"].mean(), 3),
                    "median error": round(some["half"].abs().median(), 3),
                    "RMSE": round((some["half"] ** 2).mean() ** 0.5, 3),
                    "coverage": round(some["half within"].mean(), 3),
                    "change: bias": round(some["change"].mean(), 3),
                    "median  error": round(some["change"].abs().median(), 3),
                    "coverage ": round(some["change within"].mean(), 3),
                }
            )
    return rows


def explained(n_tables: int, n_replicates: int) -> list[dict]:
    rows = []
    for n, ratio in ((60, 4), (300, 4), (300, 2)):
        found = []
        for seed in range(n_tables):
            _, signal, noise, *_ = simulated(seed, n, ratio)
            random = np.random.default_rng([seed, n, 1])
            X = np.hstack([signal + noise, random.normal(size=noise.shape)])
            true = np.hstack([1 - noise.var(0) / X[:, : len(KINDS)].var(0), np.zeros(len(KINDS))])
            for model in (BasisDeVAEClusterer(random_state=0), DeVAETransformer(random_state=0)):
                model.fit(X)
                fitted = model.inverse_transform(model.transform(X))
                own = 1 - ((X - fitted) ** 2).sum(0) / ((X - X.mean(0)) ** 2).sum(0)
                table = pd.DataFrame({"true": true, "feature_table": feature_table(model, X)["explained variance"]})
                table["with own help"] = own
                table["estimator"], table["columns"] = type(model).__name__, np.repeat(["signal", "noise"], len(KINDS))
                found.append(table)
        means = pd.concat(found).groupby(["estimator", "columns"], sort=False).mean().round(3).reset_index()
        rows += [{"samples": n, "range/noise": ratio, **row} for row in means.to_dict("records")]
    return rows


PARTS = {"events": events, "explained": explained}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=[*PARTS, "all"], default=["all"])
    parser.add_argument("--tables", type=int, default=5)
    parser.add_argument("--replicates", type=int, default=100)
    arguments = parser.parse_args()
    set_threads(1)
    for name, part in PARTS.items():
        if name in arguments.parts or "all" in arguments.parts:
            begin = time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                rows = part(arguments.tables, arguments.replicates)
            print(f"\n{name} ({time.process_time() - begin:.0f} CPU-s)")
            print_table(rows)


if __name__ == "__main__":
    main()
