"""
=================================================
How the prior shapes the latent of an autoencoder
=================================================

A variational autoencoder pulls all samples towards its prior. A standard normal prior is one cloud, so it pushes groups
of samples together that should stay apart. The VampPrior (Tomczak and Welling, AISTATS 2018) is a mixture of the
encoder's own posteriors, so it lies where the data lie. Here both are used on the same table of handwritten digits. The
labels are only used to look at the result.

The figure needs umap-learn: ``pip install "skdevae[umap]"``.
"""

# %%
# The table
# ---------
# The 1797 handwritten digits of scikit-learn, with 64 pixels in 17 shades of grey. Pixels in the darker half count as
# on. A tenth of the digits is held out.

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

pixels, digit = load_digits(return_X_y=True)
X = (pixels >= 8).astype(np.float32)
X_train, X_test, digit_train, digit_test = train_test_split(X, digit, test_size=0.1, random_state=0)

# %%
# Two models that differ in their prior
# -------------------------------------
# Same network, same seed, same number of steps.

from skdevae import VampVAE

settings = {"n_components": 10, "likelihood": "bernoulli", "max_epochs": 60, "random_state": 0}
models = {
    "standard normal prior": VampVAE(prior="normal", **settings).fit(X_train),
    "VampPrior": VampVAE(prior="vamp", **settings).fit(X_train),
}

# %%
# What the eye says
# -----------------
# 600 digits in colour over draws from the prior in grey. UMAP brings both to two dimensions. Under the normal prior,
# much of the grey is where there are no digits: samples drawn there do not look like digits. Draws from the VampPrior
# are where the digits are.

import matplotlib.pyplot as plt

from skdevae.display import LatentDisplay

figure, axes = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
for (name, model), ax in zip(models.items(), axes, strict=True):
    LatentDisplay.from_estimator(
        model,
        X_train[:600],
        labels=digit_train[:600],
        n_prior_samples=600,
        random_state=0,
        ax=ax,
        legend=ax is axes[-1],
    )
    ax.set_title(name)

# %%
# What draws look like
# --------------------
# ``sample`` draws from the prior and decodes: these are ten draws from each model. Grey is the probability of a pixel.

figure, axes = plt.subplots(2, 10, figsize=(9, 2.3), layout="constrained")
for (name, model), row in zip(models.items(), axes, strict=True):
    drawn = model.inverse_transform(model.sample_latent(10, random_state=0))
    for picture, ax in zip(drawn, row, strict=True):
        ax.imshow(picture.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        ax.set_axis_off()
    row[0].set_title(name, loc="left", fontsize=10)

# %%
# What the measures say
# ---------------------
# The log-likelihood of held-out digits (nats per digit) says which model describes their distribution better. The other
# measures are of the embedding of the training digits: how many latent units are in use, how many principal components
# explain 95 % of its variance, and how well the ten digits are kept apart.

import pandas as pd
from sklearn.metrics import adjusted_rand_score, silhouette_score

from skdevae.metrics import active_units, n_principal_components

rows = {}
for name, model in models.items():
    Z = model.transform(X_train)
    rows[name] = {
        "log-likelihood of held-out digits": model.score(X_test),
        "active units": active_units(Z),
        "components for 95 % of variance": n_principal_components(Z),
        "silhouette": silhouette_score(Z, digit_train),
    }
print(pd.DataFrame(rows).to_string(float_format="{:.2f}".format))

# %%
# The components of the VampPrior can be merged into clusters. Ten of them are compared with the ten digits, of which
# the model has seen no label: 1 would be the same grouping, and 0 what chance gives.

clusters = models["VampPrior"].set_params(n_clusters=10).predict(X_train)
print(f"adjusted Rand index of clusters and digits: {adjusted_rand_score(digit_train, clusters):.2f}")

plt.show()
