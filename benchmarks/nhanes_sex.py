"""Sex as a covariate of biomarkers (NHANES): held-out likelihood, and what it does to features that differ by sex.

    python benchmarks/nhanes_sex.py [--rows 3000] [--splits 3]

The rows without gaps, of adults aged 20 to 80. Two fifths of a random sample of rows are held out. Compared are the
table as it is, the table less a regression of every column on sex in the training rows (the usual way; sex moves
columns by constants, so densities compare), and sex as a covariate. Printed are held-out nats per sample, the rank
correlation of the axis with age among women and men, that of sex with the axis, and how uric acid is said to go along
the axis: its rise from the 5 % to the 95 % quantile of positions, in mg/dL, within which sexes lie as they do.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
import pandas as pd
from common import print_table, set_threads, shared_data
from scipy.stats import spearmanr

from skdevae import BasisDeVAEClusterer

NOT_BIOMARKERS = ["age", "sex", "cycle", "died", "followup_months"]


def less_regression(table: pd.DataFrame, sex: pd.Series, train: np.ndarray) -> pd.DataFrame:
    """The table less the difference of the sexes' means in the training rows, for women."""
    means = table.iloc[train].groupby(sex.iloc[train]).mean()
    women = (sex == "female").to_numpy(dtype=float)
    return table - np.outer(women, means.loc["female"] - means.loc["male"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--splits", type=int, default=3)
    arguments = parser.parse_args()
    set_threads(1)
    everything = pd.read_csv(shared_data("nhanes_biomarkers.csv.gz"))
    complete = everything.dropna(subset=everything.columns.difference(NOT_BIOMARKERS))
    rows = []
    for split in range(arguments.splits):
        some = complete.sample(arguments.rows, random_state=split).reset_index(drop=True)
        age, sex = some["age"], some["sex"].map({1: "male", 2: "female"})
        # pulse_pressure is sbp less dbp
        table = some.drop(columns=[*NOT_BIOMARKERS, "pulse_pressure"])
        train, test = np.split(np.arange(len(some)), [3 * len(some) // 5])
        ways = {
            "as it is": (table, {}),
            "sex regressed out before": (less_regression(table, sex, train), {}),
            "sex a covariate": (table.assign(sex=sex), {"covariates": ["sex"]}),
        }
        for way, (X, parameters) in ways.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = BasisDeVAEClusterer(random_state=0, **parameters)
                model.fit(X.iloc[train], orientation=age.iloc[train])
                z = model.transform(X)[:, 0]
                score = model.score(X.iloc[test])
            uric_acid = list(table.columns).index("uric_acid")
            ends = model.trajectories(np.quantile(z, [0.05, 0.95]))[:, uric_acid]
            is_female = (sex == "female").to_numpy()
            rows.append(
                {
                    "split": split,
                    "sex": way,
                    "held-out nats": score,
                    "age, women": spearmanr(z[is_female], age[is_female])[0],
                    "age, men": spearmanr(z[~is_female], age[~is_female])[0],
                    "sex and axis": spearmanr(z, is_female)[0],
                    "uric acid is": model.feature_labels(0)[uric_acid],
                    "its rise": ends[1] - ends[0],
                    "women less men": (
                        f"{-model.covariate_effects_.loc['uric_acid'].iloc[0]:.2f} "
                        f"({model.covariate_standard_errors_.loc['uric_acid'].iloc[0]:.2f})"
                        if parameters
                        else ""
                    ),
                }
            )
    print_table(rows)


if __name__ == "__main__":
    main()
