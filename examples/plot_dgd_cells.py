"""
================================================
Clusters of cells when their number is not known
================================================

A deep generative decoder (Schuster and Krogh, 2023) has no encoder. For every cell it searches for the representation
that makes the cell's counts most probable, and it learns a Gaussian mixture over the representations at the same time.
The components of the mixture are clusters. The result depends a great deal on where the search starts, and the number
of components is seldom known. This example compares two starts on a table whose clusters are known.

The table is simulated: 1000 cells, 500 genes, six clusters with between 5 and 30 % of the cells, cells of different
depth, and two nuisance factors that have nothing to do with the clusters.

Run it as it is; there is nothing to download. The figure needs umap-learn (``pip install "skdevae[umap]"``)::

    python examples/plot_dgd_cells.py
    python examples/plot_dgd_cells.py --output figures/mine.png
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.utils import Bunch

from skdevae import DGDEmbedder
from skdevae.datasets import make_cell_clusters
from skdevae.display import LatentDisplay

N_NEW, N_COMPONENTS = 200, 12

# %%
# 1. A table, and cells that come later
# -------------------------------------


def load_tables() -> tuple[Bunch, slice, slice]:
    """All cells with their clusters; which of them to fit to; which of them come later."""
    cells = make_cell_clusters(1000 + N_NEW, random_state=0)
    return cells, slice(1000), slice(1000, None)


# %%
# 2. Twelve components for six clusters
# -------------------------------------
# By default, the mixture starts from the best of several fits to principal components. They use moves that merge two
# components and split a third, and leave out components that do not improve the fit enough for their number of
# parameters. In the published method, representations start at zero and the means of the components at random, so at
# first nothing distinguishes the components.


def fit_models(X) -> dict[str, DGDEmbedder]:
    found = DGDEmbedder(n_clusters=N_COMPONENTS, likelihood="nb", max_epochs=200, random_state=0)
    published = DGDEmbedder(
        n_clusters=N_COMPONENTS,
        likelihood="nb",
        latent_init="zero",
        mixture_init="softball",
        may_be_empty=False,
        max_epochs=200,
        random_state=0,
    )
    return {"start by search": found.fit(X), "published start": published.fit(X)}


# %%
# 3. How well the clusters are found
# ----------------------------------
# For comparison, scikit-learn's mixture is fitted to principal components of log1p of normalised counts, and is told
# that there are six clusters. Cells that come later get representations by the same optimisation, with decoder and
# mixture held fixed.


class LogNormalized(TransformerMixin, BaseEstimator):
    """log1p of counts, after scaling each cell to a total of 1000."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        X = X.toarray()
        return np.log1p(1000 * X / X.sum(1, keepdims=True))


def judge(models: dict[str, DGDEmbedder], cells: Bunch, first: slice, later: slice) -> pd.DataFrame:
    rows = {}
    for name, model in models.items():
        rows[f"DGDEmbedder, {name}"] = {
            "clusters": len(np.unique(model.labels_)),
            "Rand index": adjusted_rand_score(cells.target[first], model.labels_),
            "of later cells": adjusted_rand_score(cells.target[later], model.predict(cells.data[later])),
            "held-out log p(x)": model.score(cells.data[later]),
        }
    mixture = GaussianMixture(6, covariance_type="diag", n_init=10, random_state=0)
    plain = make_pipeline(LogNormalized(), PCA(20, random_state=0), mixture).fit(cells.data[first])
    rows["PCA, GaussianMixture(6)"] = {
        "clusters": 6,
        "Rand index": adjusted_rand_score(cells.target[first], plain.predict(cells.data[first])),
        "of later cells": adjusted_rand_score(cells.target[later], plain.predict(cells.data[later])),
    }
    return pd.DataFrame(rows).T


# %%
# 4. Look at it
# -------------
# Cells in the colours of their true clusters, over draws from the mixture in grey; UMAP brings both to two dimensions.


def draw(models: dict[str, DGDEmbedder], cells: Bunch, first: slice, output: Path) -> None:
    figure, axes = plt.subplots(1, len(models), figsize=(11, 5), layout="constrained")
    for (name, model), ax in zip(models.items(), axes, strict=True):
        display = LatentDisplay.from_estimator(
            model, cells.data[first], labels=cells.target[first], random_state=0, ax=ax, legend=ax is axes[-1]
        )
        display.ax_.set_title(name)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=150)
    plt.close(figure)
    print(f"\nFigure: {output}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("figures/dgd_cells.png"))
    options = parser.parse_args(arguments)
    cells, first, later = load_tables()
    models = fit_models(cells.data[first])
    print(judge(models, cells, first, later).round(2).to_string(na_rep=""))
    draw(models, cells, first, options.output)


if __name__ == "__main__":
    main()
