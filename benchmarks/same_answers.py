"""Does a refactoring change what the estimators compute? A dozen fits before, the same fits after, and what differs.

    python benchmarks/same_answers.py --save before.npz        # before the change, or with PYTHONPATH=<old checkout>
    python benchmarks/same_answers.py --against before.npz     # after it

Each fit is small, and between them they reach every estimator, both ways to infer, all likelihoods but one, missing
entries, sparse counts, several starts, early stopping and every prior. What a fitted estimator answers is stored: its
attributes, and what its methods say about its training table.

The report has a line for each fit: the largest difference of any answer, relative to the largest entry of that answer;
which answers disagree, and how many are the same to the bit; whether labels are equal; and the CPU seconds of the fit
before and after. Labels have to be equal, and other answers to agree to --tolerance. That is the tolerance between
machines that CONTRIBUTING.md promises for numbers computed in float32. On one machine and with one thread, a change
that keeps the order of all operations gives zeros. The exit status is 1 if anything disagrees.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from common import print_table
from sklearn.datasets import load_wine

from skdevae import BasisDeVAEClusterer, BasisVAEClusterer, DeVAETransformer, DGDEmbedder, VAETransformer, VampVAE
from skdevae.datasets import make_basis_toy, make_cell_clusters, make_progression, make_progression_counts

#: name, table and estimator of each fit
FITS: list[tuple[str, str, Callable[[], Any]]] = [
    ("BasisDeVAE", "progression", lambda: BasisDeVAEClusterer(random_state=0)),
    ("BasisDeVAE nb", "sparse counts", lambda: BasisDeVAEClusterer(likelihood="nb", max_epochs=40, random_state=0)),
    (
        "BasisDeVAE amortised",
        "wine with gaps",
        lambda: BasisDeVAEClusterer(inference="amortized", max_epochs=20, early_stopping=True, random_state=0),
    ),
    ("BasisVAE", "toy", lambda: BasisVAEClusterer(8, max_epochs=60, random_state=0)),
    (
        "BasisVAE shifted",
        "toy",
        lambda: BasisVAEClusterer(6, translation_invariant=True, max_epochs=40, random_state=0),
    ),
    ("DeVAE", "wine with gaps", lambda: DeVAETransformer(n_init=2, random_state=0)),
    ("DeVAE 2-d zinb", "sparse counts", lambda: DeVAETransformer(2, likelihood="zinb", max_epochs=8, random_state=0)),
    ("VAE", "wine", lambda: VAETransformer(2, max_epochs=40, random_state=0)),
    ("VAE bernoulli", "binary", lambda: VAETransformer(2, likelihood="bernoulli", max_epochs=20, random_state=0)),
    ("autoencoder", "wine", lambda: VAETransformer(2, variational=False, max_epochs=20, random_state=0)),
    ("VampVAE nb", "cells", lambda: VampVAE(3, likelihood="nb", n_clusters=3, max_epochs=20, random_state=0)),
    (
        "VampVAE iaf",
        "wine",
        lambda: VampVAE(2, prior="mixture", posterior_family="iaf", max_epochs=10, random_state=0),
    ),
    ("DGD nb", "cells", lambda: DGDEmbedder(3, n_clusters=4, likelihood="nb", max_epochs=60, random_state=0)),
    (
        "DGD variational",
        "wine with gaps",
        lambda: DGDEmbedder(2, n_clusters=3, representation="variational", max_epochs=60, random_state=0),
    ),
    (
        "DGD supervised",
        "wine",
        lambda: DGDEmbedder(2, n_clusters=3, supervised=True, max_epochs=60, random_state=0),
    ),
]

ATTRIBUTES = (
    "labels_",
    "responsibilities_",
    "lower_bound_",
    "noise_scale_",
    "dispersion_",
    "peaks_",
    "scales_",
    "shifts_",
    "embedding_",
    "weights_",
    "means_",
    "covariances_",
    "log_posterior_",
    "pseudo_inputs_",
)
#: methods that are asked about the training table
METHODS = ("transform", "score_samples", "elbo", "conditional_log_likelihood", "predict", "predict_proba")
#: what estimators that cluster columns have in the place of the last two
OF_COLUMNS = {"predict": "predict_features", "predict_proba": "predict_features_proba"}
#: answers that are numbers of clusters; predict of estimators that cluster no samples gives other things
LABELS = ("labels_", "predict")


def tables() -> dict[str, Any]:
    """Small tables of every kind, and the classes of the wines."""
    random = np.random.default_rng(0)
    wine, species = load_wine(return_X_y=True)
    gaps = wine.copy()
    gaps[random.random(wine.shape) < 0.1] = np.nan
    return {
        "progression": make_progression(200, random_state=1).data,
        "toy": make_basis_toy(200, 6, random_state=1).data,
        "wine": wine,
        "wine with gaps": gaps,
        "sparse counts": make_progression_counts(200, 60, density=0.3, random_state=1).data,
        "cells": make_cell_clusters(200, 60, random_state=1).data,
        "binary": (wine > np.median(wine, axis=0)).astype(float),
        "species": species,
    }


def answers(estimator: Any, X: Any) -> dict[str, np.ndarray]:
    """What a fitted estimator says about itself, about X, and about five points of the latent."""
    found = {name: np.asarray(getattr(estimator, name)) for name in ATTRIBUTES if hasattr(estimator, name)}
    names = {name: OF_COLUMNS.get(name, name) for name in METHODS}
    names = {name: newer if hasattr(estimator, newer) else name for name, newer in names.items()}
    found |= {name: np.asarray(getattr(estimator, of)(X)) for name, of in names.items() if hasattr(estimator, of)}
    z = np.linspace(-2, 2, 5)[:, None] * np.ones(found["transform"].shape[1])
    found["trajectories"], found["derivatives"] = estimator.trajectories(z), estimator.derivatives(z)
    if hasattr(estimator, "sample"):
        found["posterior"] = np.stack([np.asarray(field) for field in vars(estimator.posterior(X)).values()])
        found["sample"] = estimator.sample(20, random_state=0)
    return found


def difference(now: np.ndarray, before: np.ndarray) -> float:
    """Largest difference relative to the largest entry; infinite where shapes or missing entries differ."""
    if now.shape != before.shape or not np.array_equal(np.isnan(now), np.isnan(before)):
        return np.inf
    scale = np.nanmax(np.abs(before), initial=0.0) or 1.0
    return float(np.nanmax(np.abs(now.astype(float) - before), initial=0.0) / scale)


def compared(now: Mapping[str, np.ndarray], before: Mapping[str, np.ndarray], tolerance: float) -> dict[str, Any]:
    """What differs between the answers of one fit."""
    both = [answer for answer in before if answer in now]
    labels = [answer for answer in both if answer in LABELS and np.issubdtype(before[answer].dtype, np.integer)]
    differences = {answer: difference(now[answer], before[answer]) for answer in both if answer not in labels}
    equal = all(np.array_equal(now[answer], before[answer]) for answer in labels)
    return {
        "same to the bit": sum(found == 0 for found in differences.values()) + equal * len(labels),
        "largest difference": max(differences.values(), default=0.0),
        "disagree": ", ".join(answer for answer, found in differences.items() if found > tolerance) or "-",
        "labels": ("equal" if equal else "DIFFERENT") if labels else "-",
        "missing": ", ".join(sorted(set(before) - set(now))) or "-",
        "new": ", ".join(sorted(set(now) - set(before))) or "-",
    }


def stored(file: str) -> dict[str, dict[str, np.ndarray]]:
    """Answers by fit and name."""
    found: dict[str, dict[str, np.ndarray]] = {}
    with np.load(file) as archive:
        for key in archive.files:
            fit, _, answer = key.partition("/")
            found.setdefault(fit, {})[answer] = archive[key]
    return found


def main() -> None:
    """Fit, store or compare, print. The exit status is 1 if anything disagrees."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--save", metavar="FILE", help="store the answers in this file")
    where.add_argument("--against", metavar="FILE", help="compare with the answers in this file")
    parser.add_argument("--only", default="", metavar="NAME", help="run the fits whose names begin with this")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest relative difference that is agreement")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data, before = tables(), stored(options.against) if options.against else {}
    found: dict[str, dict[str, np.ndarray]] = {}
    rows: list[dict[str, Any]] = []
    for name, table, make in FITS:
        if not name.startswith(options.only):
            continue
        estimator, X = make(), data[table]
        begin = time.process_time()
        estimator.fit(X, data["species"] if name == "DGD supervised" else None)
        spent = time.process_time() - begin
        found[name] = answers(estimator, X) | {"CPU seconds": np.asarray(spent)}
        row: dict[str, Any] = {"fit": name, "table": table, "answers": len(found[name]) - 1}
        if name in before:
            earlier = before[name]
            row["CPU s before"] = round(float(earlier.pop("CPU seconds", np.nan)), 2)
            row |= compared(
                {key: value for key, value in found[name].items() if key != "CPU seconds"}, earlier, options.tolerance
            )
        rows.append(row | {"CPU s": round(spent, 2)})
    print_table(rows)
    if options.save:
        np.savez(options.save, **{f"{fit}/{key}": value for fit, kept in found.items() for key, value in kept.items()})
    compared_rows = [row for row in rows if "labels" in row]
    if compared_rows:
        sys.exit(summarise(compared_rows, options.tolerance))


def summarise(rows: list[dict[str, Any]], tolerance: float) -> int:
    """Print what the comparison comes to. 1 if anything disagrees, else 0."""
    other_labels = any(row["labels"] == "DIFFERENT" for row in rows)
    apart = [
        row["fit"] for row in rows if row["disagree"] != "-" or row["labels"] == "DIFFERENT" or row["missing"] != "-"
    ]
    print(
        f"\n{len(rows)} fits, {sum(row['answers'] for row in rows)} answers, of which "
        f"{sum(row['same to the bit'] for row in rows)} the same to the bit; largest relative difference "
        f"{max(row['largest difference'] for row in rows):.1e}; labels {'DIFFERENT' if other_labels else 'equal'}"
    )
    print(
        f"fits that disagree (by more than {tolerance:g}, in labels, or answers missing): {', '.join(apart) or 'none'}"
    )
    return int(bool(apart))


if __name__ == "__main__":
    main()
