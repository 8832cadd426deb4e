"""Held-out exact log-likelihood on real biomarker tables, beside FactorAnalysis(1).

    python benchmarks/held_out.py [--splits 10]

IXI: 70 cortical thicknesses of 556 subjects. NHANES: 27 biomarkers of 7757 adults without missing entries (so that
FactorAnalysis, which takes none, sees the same rows), and of all 10721 for our model alone. Random 80/20 splits; both
models see columns standardised on the training rows, nats are per sample in those units.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from common import print_table, random_splits, seconds, set_threads, shared_data
from scipy.stats import spearmanr
from sklearn.decomposition import FactorAnalysis
from sklearn.preprocessing import StandardScaler

from skdevae import BasisDeVAEClusterer

NOT_BIOMARKERS = ["age", "sex", "cycle", "died", "followup_months"]


def load_tables() -> dict[str, tuple[pd.DataFrame, pd.Series]]:
    """Tables with the age of each subject, which no model sees."""
    ixi = pd.read_csv(shared_data("ixi_thickness.csv.gz"))
    nhanes = pd.read_csv(shared_data("nhanes_biomarkers.csv.gz"))
    complete = nhanes.dropna(subset=nhanes.columns.difference(NOT_BIOMARKERS))
    thickness = ixi.filter(regex="_thickness$")
    return {
        "IXI thickness": (thickness, ixi["age"]),
        "NHANES complete rows": (complete.drop(columns=NOT_BIOMARKERS), complete["age"]),
        "NHANES all rows": (nhanes.drop(columns=NOT_BIOMARKERS), nhanes["age"]),
    }


def compare(table: pd.DataFrame, age: pd.Series, n_splits: int) -> dict:
    """Gains over FactorAnalysis(1) on every split."""
    has_missing = table.isna().to_numpy().any()
    ours, theirs, times, rho = [], [], [], []
    for train, test in random_splits(len(table), n_splits):
        scaler = StandardScaler().fit(table.iloc[train])
        X, X_test = scaler.transform(table.iloc[train]), scaler.transform(table.iloc[test])
        model = BasisDeVAEClusterer(random_state=0)
        times.append(seconds(lambda model=model, X=X: model.fit(X)))
        ours.append(model.score(X_test))
        theirs.append(np.nan if has_missing else FactorAnalysis(1).fit(X).score(X_test))
        rho.append(abs(spearmanr(model.transform(X_test)[:, 0], age.iloc[test])[0]))
    gain = np.subtract(ours, theirs)
    return {
        "BasisDeVAE": np.mean(ours).round(2),
        "FactorAnalysis(1)": np.mean(theirs).round(2),
        "mean gain": gain.mean().round(2),
        "least gain": gain.min().round(2),
        "splits above": f"{(gain > 0).sum()}/{n_splits}" if not has_missing else "-",
        "abs Spearman of z with age": np.mean(rho).round(2),
        "median s": np.median(times).round(1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    rows = []
    for name, (table, age) in load_tables().items():
        n_splits = arguments.splits if not table.isna().to_numpy().any() else 1
        rows.append({"table": name, "n": len(table), **compare(table, age, n_splits)})
    print_table(rows)


if __name__ == "__main__":
    main()
