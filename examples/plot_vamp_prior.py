"""
=================================================
How the prior shapes the latent of an autoencoder
=================================================

A variational autoencoder pulls all samples towards its prior. A standard normal prior is one cloud, so it pushes groups
of samples together that should stay apart. The VampPrior (Tomczak and Welling, AISTATS 2018) is a mixture of the
encoder's own posteriors, so it lies where the data lie. Here both are used on the same table: the 1797 handwritten
digits of scikit-learn, with 64 pixels that are on or off. The labels are only used to look at the result.

Run it as it is; there is nothing to download. The figure needs umap-learn (``pip install "skdevae[umap]"``)::

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
# Pixels have 17 shades of grey. Those in the darker half count as on. A tenth of the digits is held out.


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
# The log-likelihood of held-out digits says which model describes their distribution better. The other measures are of
# the embedding of the training digits: how many latent units are in use, how many principal components explain 95 % of
# its variance, and how well the ten digits are kept apart. For the VampPrior, the components are merged into ten
# clusters, which are compared with the digits. No label was used to find them.


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
# Digits in colour over draws from the prior in grey; UMAP brings both to two dimensions. Under the normal prior, much
# of the grey is where there are no digits: samples drawn there do not look like digits. Draws from the VampPrior are
# where the digits are.


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
