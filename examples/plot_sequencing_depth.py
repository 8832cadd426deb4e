"""
=========================================================
Cells that grow: sizes that come with the rows of a table
=========================================================

A cell's counts depend on how deeply it was sequenced. Left out, depth bends the axis, and all genes seem to come and
go. The usual remedy takes each cell's total count for its size. But if cells make more RNA as they develop, totals grow
along the process, and relative to them, genes that do not change seem to fall. Spike-ins, of which every cell got the
same amount, measure depth alone. Such sizes belong to the rows of one table, as classes or weights do: they are passed
to ``fit`` and to all methods that take rows, and scikit-learn's metadata routing slices them in searches and
cross-validation.

The table is simulated: 300 cells, 36 genes. Twelve genes rise, six fall, and eighteen do not change.

Run it as it is; there is nothing to download::

    python examples/plot_sequencing_depth.py
    python examples/plot_sequencing_depth.py --output figures/mine.png
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import sklearn
from scipy.stats import spearmanr
from sklearn.model_selection import GridSearchCV
from sklearn.utils import Bunch

from skdevae import BasisDeVAEClusterer

MARKER = "rising 0"
COLORS = {"increasing": "#C44E00", "decreasing": "#0072B2", "flat": "#8A939C"}
N_CELLS, N_EPOCHS = 300, 60

# %%
# 1. Growing cells, and how often the spike-ins of each were read
# ---------------------------------------------------------------


def load_cells(random_state: int = 0) -> Bunch:
    """Counts of cells at times between 0 and 1, with reads of spike-ins and the true behaviour of every gene."""
    random = np.random.default_rng(random_state)
    behaviors = np.repeat(["increasing", "decreasing", "flat"], [12, 6, 18])
    time, depth = random.uniform(0, 1, N_CELLS), np.exp(random.normal(0, 0.6, N_CELLS))
    steepness, middle = random.uniform(6, 12, 36), random.uniform(0.25, 0.75, 36)
    share = 1 / (1 + np.exp(-steepness * (time[:, None] - middle)))
    share = np.select([behaviors == "increasing", behaviors == "decreasing"], [share, 1 - share], 0.5)
    level = np.exp(random.normal(1, 0.8, 36)) * np.where(behaviors == "increasing", 3, 1)
    means = depth[:, None] * level * (0.15 + 1.7 * share)
    names = [f"{kind} {i}" for kind, n in (("rising", 12), ("falling", 6), ("steady", 18)) for i in range(n)]
    counts = pd.DataFrame(random.poisson(random.gamma(3, means / 3)), columns=names)
    return Bunch(data=counts, spike_ins=random.poisson(200 * depth), time=time, depth=depth, behaviors=behaviors)


# %%
# 2. The same model with three ideas of a cell's size
# ---------------------------------------------------
# A rule for sizes, which holds for any table, is a parameter. Sizes of the cells at hand are an argument.


def fit_models(cells: Bunch) -> dict[str, tuple[BasisDeVAEClusterer, dict[str, Any]]]:
    """Fitted models by name, each with what it asks of the rows of the table."""
    settings = {"likelihood": "nb", "orientation": MARKER, "max_epochs": N_EPOCHS, "random_state": 0}
    given = {"size_factors": cells.spike_ins}
    return {
        "no sizes": (BasisDeVAEClusterer(**settings).fit(cells.data), {}),
        "total counts": (BasisDeVAEClusterer(**settings, size_factors="sum").fit(cells.data), {}),
        "spike-ins": (BasisDeVAEClusterer(**settings).fit(cells.data, **given), given),
    }


def judge(models: dict[str, tuple[BasisDeVAEClusterer, dict[str, Any]]], cells: Bunch) -> pd.DataFrame:
    rows = {}
    for name, (model, facts) in models.items():
        position = model.transform(cells.data, **facts)[:, 0]
        found = model.feature_labels(threshold=0.5)
        rows[name] = {
            "correlation with time": spearmanr(position, cells.time)[0],
            "with depth": spearmanr(position, cells.depth)[0],
            "behaviours found": f"{(found == cells.behaviors).sum()} of {len(found)}",
        }
    return pd.DataFrame(rows).T


# %%
# 3. A search in which every fold gets the sizes of its cells
# -----------------------------------------------------------
# The estimator says in which methods it asks for size factors; the search slices them with the rows.


def search(cells: Bunch) -> pd.Series:
    """Held-out log-likelihood of two distributions of counts, in nats per cell and given its size."""
    settings = {"orientation": MARKER, "max_epochs": N_EPOCHS, "random_state": 0}
    with sklearn.config_context(enable_metadata_routing=True):
        model = BasisDeVAEClusterer(**settings).set_fit_request(size_factors=True).set_score_request(size_factors=True)
        searched = GridSearchCV(model, {"likelihood": ["poisson", "nb"]}, cv=2, refit=False)
        found = searched.fit(cells.data, size_factors=cells.spike_ins).cv_results_
    return pd.Series(found["mean_test_score"], [parameters["likelihood"] for parameters in found["params"]])


# %%
# 4. Look at it
# -------------
# Every gene's expected count in a cell of median size, relative to its own mean, in the colour of its true behaviour.


def draw(models: dict[str, tuple[BasisDeVAEClusterer, dict[str, Any]]], cells: Bunch, output: Path) -> None:
    figure, axes = plt.subplots(1, len(models), figsize=(11, 3.8), sharey=True, layout="constrained")
    for (name, (model, facts)), ax in zip(models.items(), axes, strict=True):
        position = model.transform(cells.data, **facts)[:, 0]
        z = np.linspace(*np.quantile(position, [0.02, 0.98]), 100)
        curves = np.log2(model.trajectories(z) / model.trajectories(position).mean(0))
        for behavior, color in COLORS.items():
            lines = ax.plot(z, curves[:, cells.behaviors == behavior], color=color, linewidth=1.2)
            lines[0].set_label(behavior)
        ax.set_title(name)
        ax.set_xlabel("position on the latent axis")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("expected count, relative to its mean (log2)")
    axes[-1].legend(title="truly", frameon=False)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=150)
    plt.close(figure)
    print(f"\nFigure: {output}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("figures/sequencing_depth.png"))
    options = parser.parse_args(arguments)
    cells = load_cells()
    models = fit_models(cells)
    print(judge(models, cells).to_string(float_format="{:.2f}".format))
    print("\nHeld-out log-likelihood, in nats per cell given its spike-ins")
    print(search(cells).round(2).to_string())
    draw(models, cells, options.output)


if __name__ == "__main__":
    main()
