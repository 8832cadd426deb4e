"""
======================================================
How many kinds of features? A search reads at a glance
======================================================

``BasisDeVAEClusterer`` sorts features by what they do along the axis. How many kinds it should tell apart (K) is a
question for samples that it has not seen. Their log-likelihood rises with K while more kinds describe the table better,
and hardly changes after that. Of values that scores cannot tell apart the simplest is the one to take: the
one-standard-error rule.

The table is simulated: 150 samples, 15 features of which five rise, five fall, and five come and go. So three kinds are
right, and a second scorer can say how well the features are sorted on the held-out samples. Beside K, the search varies
``alpha``, the concentration of the prior of the kinds. Everything happens in a Pipeline, so that each fold is
standardised by its own training samples.

Run it as it is; there is nothing to download::

    python examples/plot_choosing_clusters.py
    python examples/plot_choosing_clusters.py --output figures/mine.png
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Bunch

from skdevae import BasisDeVAEClusterer
from skdevae.datasets import make_progression
from skdevae.display import KSelectionDisplay
from skdevae.metrics import feature_clustering_scorer

GRID = {"clusterer__n_clusters": [1, 2, 3, 4], "clusterer__alpha": [0.1, 10.0]}
N_SPLITS = 4

# %%
# 1. The table
# ------------


def load_table() -> Bunch:
    """A data frame, and the true kind of every feature in ``labels``."""
    kinds = {"n_transient": 5, "n_increasing": 5, "n_decreasing": 5}
    return make_progression(150, **kinds, noise=0.2, as_frame=True, random_state=0)


# %%
# 2. A pipeline, and a search with two scorers
# --------------------------------------------
# K kinds are the first K of increasing, decreasing, transient and flat. Without the truth, one would leave the second
# scorer out.


def make_pipeline() -> Pipeline:
    clusterer = BasisDeVAEClusterer(n_grid_points=33, max_epochs=60, random_state=0)
    return Pipeline([("scale", StandardScaler()), ("clusterer", clusterer)])


def log_likelihood(pipeline: Pipeline, X: pd.DataFrame, y: Any = None) -> float:
    """Log-likelihood of held-out samples, in nats per sample, in the units that the pipeline's scaler gives them."""
    return pipeline.score(X)


def search(table: Bunch) -> GridSearchCV:
    truth = dict(zip(table.data.columns, table.labels, strict=True))
    scoring = {"log-likelihood": log_likelihood, "adjusted Rand index": feature_clustering_scorer(truth)}
    splits = KFold(N_SPLITS, shuffle=True, random_state=0)
    searched = GridSearchCV(make_pipeline(), GRID, scoring=scoring, cv=splits, refit=False, error_score="raise")
    return searched.fit(table.data)


# %%
# 3. What to choose
# -----------------
# ``scores`` is the table behind the figure. The rule compares means by the standard error of the best one. With
# ``paired=True`` it would compare differences fold by fold, which is stricter where folds differ much.


def chosen_by(display: KSelectionDisplay, scorer: str) -> dict[str, Any]:
    """Parameters of the simplest candidate within one standard error of the best."""
    row = display.scores.query("scorer == @scorer and is_chosen").iloc[0]
    return {"clusterer__n_clusters": int(row["value"]), "clusterer__alpha": float(row["line"])}


def print_scores(display: KSelectionDisplay) -> None:
    for scorer, part in display.scores.groupby("scorer", sort=False):
        print(f"\n{scorer} on held-out samples, mean of {N_SPLITS} folds")
        print(
            part.pivot(index="value", columns="line", values="mean")
            .rename_axis("K", columns="alpha")
            .round(3)
            .to_string()
        )
        best, chosen = (part[part[name]].iloc[0] for name in ("is_best", "is_chosen"))
        print(f"best: K={best['value']}; simplest within one standard error: K={chosen['value']}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("figures/choosing_clusters.png"))
    options = parser.parse_args(arguments)
    table = load_table()
    display = KSelectionDisplay.from_cv_results(search(table))
    print_scores(display)
    chosen = make_pipeline().set_params(**chosen_by(display, "log-likelihood")).fit(table.data)
    found = pd.Series(chosen[-1].feature_labels(), table.data.columns, name="found")
    print("\nThe features, sorted by the pipeline that was chosen")
    truly = pd.Series([table.label_names[label] for label in table.labels], table.data.columns, name="truly")
    print(pd.crosstab(truly, found).to_string())
    options.output.parent.mkdir(parents=True, exist_ok=True)
    display.figure_.savefig(options.output, dpi=200)
    plt.close(display.figure_)
    print(f"\nFigure: {options.output}")


if __name__ == "__main__":
    main()
