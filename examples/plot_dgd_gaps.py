"""
==================================================
Clusters and completed tables from data with gaps
==================================================

Tables of measurements have gaps, and what embeds samples usually wants them filled first: by means, by neighbours, by
another model. A deep generative decoder (Schuster and Krogh, 2023) has no encoder that would need an input in every
column. It looks for the representation under which what *was* measured is most probable; what was not plays no part.
Afterwards the decoder says what should have been there.

The table: 1797 handwritten digits of scikit-learn, 64 pixels each, on or off, of which two fifths are hidden at random.
The labels are for looking at the result only.

Run it as it is; there is nothing to download::

    python examples/plot_dgd_gaps.py
    python examples/plot_dgd_gaps.py --output figures/mine.png
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from skdevae import DGDEmbedder

N_CLUSTERS, HIDDEN_SHARE = 10, 0.4

# %%
# 1. A table with gaps
# --------------------


def load_table() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels, the same with two fifths of them NaN, and which digit each row is."""
    pixels, digit = load_digits(return_X_y=True)
    complete = (pixels >= 8).astype(np.float64)
    hidden = np.random.RandomState(0).rand(*complete.shape) < HIDDEN_SHARE
    return complete, np.where(hidden, np.nan, complete), digit


# %%
# 2. One fit, gaps and all
# ------------------------
# Ten components of the mixture are ten clusters. Missing pixels drop out of the likelihood.


def fit_model(X: np.ndarray) -> DGDEmbedder:
    return DGDEmbedder(n_components=10, n_clusters=N_CLUSTERS, likelihood="bernoulli", random_state=0).fit(X)


# %%
# 3. What was hidden
# ------------------
# The decoder's expectation for every hidden pixel, against what scikit-learn's imputers put there, and the clusters
# against a Gaussian mixture on principal components of the imputed table.


def judge(model: DGDEmbedder, complete: np.ndarray, X: np.ndarray, digit: np.ndarray) -> pd.DataFrame:
    hidden = np.isnan(X)
    rows = {
        "DGDEmbedder, no imputation": {
            "RMSE of hidden pixels": rmse(model.inverse_transform(model.embedding_), complete, hidden),
            "Rand index of clusters": adjusted_rand_score(digit, model.labels_),
        }
    }
    for name, imputer in {"column means": SimpleImputer(), "10 nearest neighbours": KNNImputer(n_neighbors=10)}.items():
        filled = imputer.fit_transform(X)
        mixture = GaussianMixture(N_CLUSTERS, covariance_type="diag", n_init=5, random_state=0)
        clusters = mixture.fit_predict(PCA(10, random_state=0).fit_transform(filled))
        rows[f"{name}, PCA, GaussianMixture"] = {
            "RMSE of hidden pixels": rmse(filled, complete, hidden),
            "Rand index of clusters": adjusted_rand_score(digit, clusters),
        }
    return pd.DataFrame(rows).T


def rmse(expected: np.ndarray, truth: np.ndarray, where: np.ndarray) -> float:
    return float(np.sqrt(np.mean((expected - truth)[where] ** 2)))


# %%
# 4. Look at some
# ---------------
# Above, what the model saw, hidden pixels in red; below, what it expects; last, what was there.


def draw(model: DGDEmbedder, complete: np.ndarray, X: np.ndarray, digit: np.ndarray, output: Path) -> None:
    shown = [int(np.nonzero(digit == number)[0][7]) for number in range(10)]
    expected = model.inverse_transform(model.embedding_[shown])
    colors = plt.get_cmap("gray_r").with_extremes(bad="#d9534f")
    figure, axes = plt.subplots(3, len(shown), figsize=(10, 3.4), layout="constrained")
    for row, (name, images) in enumerate({"seen": X[shown], "expected": expected, "truth": complete[shown]}.items()):
        for ax, image in zip(axes[row], images, strict=True):
            ax.imshow(np.ma.masked_invalid(image.reshape(8, 8)), cmap=colors, vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
        axes[row, 0].set_ylabel(name)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=150)
    plt.close(figure)
    print(f"\nFigure: {output}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("figures/dgd_gaps.png"))
    options = parser.parse_args(arguments)
    complete, X, digit = load_table()
    model = fit_model(X)
    print(f"{np.isnan(X).mean():.0%} of {X.shape[0]} x {X.shape[1]} pixels hidden, {model.n_clusters_} clusters\n")
    print(judge(model, complete, X, digit).round(3).to_string())
    draw(model, complete, X, digit, options.output)


if __name__ == "__main__":
    main()
