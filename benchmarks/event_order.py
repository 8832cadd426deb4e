"""The order of events: how far from the truth, how well its uncertainty is known, and what replicates cost.

Cohorts of simulated biomarkers whose order is known: half of the subjects are healthy, the others are at some stage.
Nobody is told who is diseased or in which direction a marker goes; the direction of the whole axis alone is given.

    python benchmarks/event_order.py                                 # all parts
    python benchmarks/event_order.py --parts distance --cohorts 5
    python benchmarks/event_order.py --parts coverage --cohorts 20 --subjects 150 --shapes sigmoid ramp transient
    python benchmarks/event_order.py --parts speed

Parts:

distance    normalised Kendall distance of the order to the truth (0 is right, 0.5 is chance)
coverage    share of the true ranks inside of 90 % rank intervals; Brier score and reliability of ``probability_before``
speed       CPU-seconds of 200 replicates of 500 x 12, beside a few refits from the start in the same run
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
import pandas as pd
from common import set_threads
from scipy.stats import kendalltau, rankdata
from sklearn.metrics import brier_score_loss

from skdevae import BasisDeVAEClusterer
from skdevae.inspection import bootstrap, event_order

MARKERS = 12
PARTS = ("distance", "coverage", "speed")
SHAPES = ("sigmoid", "ramp", "transient")
#: confidence level of the intervals whose coverage is measured
LEVEL = 0.9


def cohort(n_subjects: int, seed: int, shape: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Measurements (N, 12), the stage at which each marker has made half of its change, and who is diseased.

    ``"sigmoid"`` markers are logistic in the stage, ``"ramp"`` markers change linearly between two stages, and of
    ``"transient"`` ones every third comes and goes.
    """
    random = np.random.default_rng([n_subjects, seed, SHAPES.index(shape)])
    events = random.permutation(np.arange(1, MARKERS + 1)) + random.uniform(-0.3, 0.3, MARKERS)
    strength, sd = random.uniform(1.2, 4, MARKERS), random.uniform(0.5, 3, MARKERS)
    sign, level = random.choice([-1, 1], MARKERS), random.normal(0, 5, MARKERS)
    steepness = random.uniform(0.8, 3, MARKERS)
    is_diseased = np.arange(n_subjects) >= n_subjects // 2
    stage = np.where(is_diseased, random.uniform(0, MARKERS + 1, n_subjects), 0.0)[:, None]
    away = steepness * (stage - events)
    progress = np.clip(0.5 + away / 4, 0, 1) if shape == "ramp" else 1 / (1 + np.exp(-away))
    if shape == "transient":
        comes_and_goes = np.arange(MARKERS) % 3 == 0
        goes = 1 / (1 + np.exp(-steepness * (stage - events - 4)))
        progress = np.where(comes_and_goes, progress * (1 - goes), progress)
    noise = sd * random.standard_normal((n_subjects, MARKERS))
    return level + noise + is_diseased[:, None] * sign * strength * sd * progress, events, is_diseased


def fitted(X: np.ndarray, is_diseased: np.ndarray, shape: str) -> BasisDeVAEClusterer:
    # Of what comes and goes, a part dips, which is not among the default behaviours.
    behaviors = ("increasing", "decreasing", "transient", "flat", "dip") if shape == "transient" else None
    return BasisDeVAEClusterer(behaviors=behaviors, random_state=0).fit(X, orientation=is_diseased.astype(float))


def distance(estimate: np.ndarray, events: np.ndarray) -> float:
    """Normalised Kendall distance of the order of positions to that of the true events."""
    known = ~np.isnan(estimate)
    return (1 - kendalltau(estimate[known], events[known])[0]) / 2


def measure(args: argparse.Namespace, with_replicates: bool) -> pd.DataFrame:
    """One row for each cohort; with replicates also the calibration of ranks and of pairs."""
    rows, pairs = [], []
    for shape in args.shapes:
        for n_subjects in args.subjects:
            for seed in range(args.cohorts):
                X, events, is_diseased = cohort(n_subjects, seed, shape)
                model = fitted(X, is_diseased, shape)
                replicates = bootstrap(
                    model, X, n_bootstrap=args.replicates if with_replicates else 2, random_state=seed
                )
                found = event_order(model, X, replicates=replicates, confidence_level=LEVEL)
                row = {"shape": shape, "subjects": n_subjects}
                row["distance"] = distance(found.positions["estimate"].to_numpy(), events)
                if with_replicates:
                    place = [
                        found.order.index(name) if name in found.order else np.nan for name in found.positions.index
                    ]
                    row["distance of order"] = distance(np.array(place, dtype=float), events)
                    true = rankdata(events)
                    inside = (found.positions["rank_lower"] <= true) & (true <= found.positions["rank_upper"])
                    row["coverage of ranks"] = inside[found.positions["rank_lower"].notna()].mean()
                    row["width"] = (found.positions["rank_upper"] - found.positions["rank_lower"]).mean()
                    upper = np.triu_indices(MARKERS, 1)
                    predicted = found.probability_before.to_numpy()[upper]
                    outcome = (events[:, None] < events)[upper]
                    pairs.append(
                        pd.DataFrame({**{k: row[k] for k in ("shape", "subjects")}, "p": predicted, "y": outcome})
                    )
                rows.append(row)
    table = pd.DataFrame(rows).groupby(["shape", "subjects"], sort=False).mean()
    if with_replicates:
        known = pd.concat(pairs).dropna()
        scores = known.groupby(["shape", "subjects"], sort=False).apply(
            lambda group: pd.Series({"Brier": brier_score_loss(group["y"], group["p"])}), include_groups=False
        )
        table = table.join(scores)
        # Each pair once, from the side on which it is more probable than not.
        sure = np.maximum(known["p"], 1 - known["p"])
        right = np.where(known["p"] >= 0.5, known["y"], ~known["y"].astype(bool))
        bins = pd.cut(sure, [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0], include_lowest=True)
        reliability = pd.DataFrame({"bin": bins, "said": sure, "true": right.astype(float)})
        print(
            reliability.groupby("bin", observed=True).agg(
                pairs=("said", "size"), said=("said", "mean"), true=("true", "mean")
            )
        )
    return table


def speed(n_refits: int) -> pd.DataFrame:
    """CPU and wall seconds for one replicate, side by side and one after another."""
    X, _, is_diseased = cohort(500, 0, "sigmoid")
    model = fitted(X, is_diseased, "sigmoid")
    rows = []
    for method, n in (("side_by_side", 200), ("refit", n_refits)):
        cpu, wall = time.process_time(), time.perf_counter()
        replicates = bootstrap(model, X, n_bootstrap=n, random_state=0, method=method)
        event_order(model, X, replicates=replicates)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        rows.append({"method": method, "replicates": n, "CPU s": cpu, "wall s": wall, "CPU s a replicate": cpu / n})
    table = pd.DataFrame(rows).set_index("method")
    table["times faster"] = table.loc["refit", "CPU s a replicate"] / table["CPU s a replicate"]
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=SHAPES)
    parser.add_argument("--subjects", nargs="+", type=int, default=[150, 500])
    parser.add_argument("--cohorts", type=int, default=5)
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--refits", type=int, default=5)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    pd.set_option("display.width", 150, "display.max_columns", None)
    set_threads(1)
    if "distance" in args.parts:
        print(measure(args, with_replicates=False).round(3), "\n")
    if "coverage" in args.parts:
        print(measure(args, with_replicates=True).round(3), "\n")
    if "speed" in args.parts:
        print(speed(args.refits).round(2))


if __name__ == "__main__":
    main()
