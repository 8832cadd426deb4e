"""
============================================
What the prior of an autoencoder lets be seen
============================================

A variational autoencoder pulls all samples towards its prior. A standard normal prior is one cloud, and data that come
in kinds do not fit in there without being pushed together. The VampPrior (Tomczak and Welling, AISTATS 2018) is a
mixture of the encoder's own posteriors, and lies where the data lie. Here both see the same table: 1797 handwritten
digits of scikit-learn, 64 pixels each, on or off. The labels are for looking at the result only.

Run it as it is; there is nothing to download::

    python examples/plot_vamp_prior.py
    python examples/plot_vamp_prior.py --output figures/mine.png
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score, silhouette_score
from sklearn.model_selection import train_test_split

from skdevae import VampVAE
from skdevae.display import LatentDisplay
from skdevae.metrics import active_units, n_principal_components

# %%
# 1. The table
# ------------
# Pixels have 17 shades of grey; those in the darker half count as ink. A tenth of the digits is held out.


def load_table() -> tuple[pd.DataFrame, pd.Series]:
    digits = load_digits(as_frame=True)
    return (digits.data >= 8).astype(np.float32), digits.target.rename("digit")


# %%
# 2. Two models that differ in their prior
# ----------------------------------------
# Same network, same seed, same number of steps.


def fit_models(X: pd.DataFrame) -> dict[str, VampVAE]:
    priors = {"standard normal prior": "normal", "VampPrior": "vamp"}
    return {
        name: VampVAE(n_components=10, likelihood="bernoulli", prior=prior, random_state=0).fit(X)
        for name, prior in priors.items()
    }


# %%
# 3. What the measures say
# ------------------------
# The log-likelihood of held-out digits says which model is the better distribution. The rest looks at the embedding of
# the training digits: latent units in use, principal components that hold 95 % of its variance, and whether digits of a
# kind are together. Components of the VampPrior, merged into ten clusters, name digits without having seen a label.


def judge(models: dict[str, VampVAE], X: pd.DataFrame, X_test: pd.DataFrame, digit: pd.Series) -> pd.DataFrame:
    rows = {}
    for name, model in models.items():
        Z = model.transform(X)
        rows[name] = {
            "held-out log p(x)": model.score(X_test),
            "active units": active_units(Z),
            "components for 95 %": n_principal_components(Z),
            "silhouette": silhouette_score(Z, digit),
        }
        if model.prior == "vamp":
            clusters = model.set_params(n_clusters=digit.nunique()).predict(X)
            rows[name]["Rand index of predict"] = adjusted_rand_score(digit, clusters)
    return pd.DataFrame(rows)


# %%
# 4. What the eye says
# --------------------
# Draws from the prior in grey, digits over them, all brought to two dimensions by UMAP. Under the normal prior much of
# the grey is where no digit is: samples from there look like nothing. The VampPrior's draws are where the digits are.


def draw(models: dict[str, VampVAE], X: pd.DataFrame, digit: pd.Series, output: Path) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    for (name, model), ax in zip(models.items(), axes, strict=True):
        display = LatentDisplay.from_estimator(model, X, labels=digit, random_state=0, ax=ax, legend=ax is axes[-1])
        display.ax_.set_title(name)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=150)
    plt.close(figure)
    print(f"\nFigure: {output}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("figures/vamp_prior.png"))
    options = parser.parse_args(arguments)
    X, digit = load_table()
    X_train, X_test, digit_train, _ = train_test_split(X, digit, test_size=0.1, random_state=0)
    models = fit_models(X_train)
    print(judge(models, X_train, X_test, digit_train).round(2).to_string(na_rep=""))
    draw(models, X_train, digit_train, options.output)


if __name__ == "__main__":
    main()
