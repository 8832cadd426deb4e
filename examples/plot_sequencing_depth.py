"""
=========================================================
Cells that grow: sizes that come with the rows of a table
=========================================================

A cell's counts depend on how deeply it was sequenced. Left out, depth bends the axis, and all genes seem to come and
go. The usual remedy takes each cell's total count for its size. But if cells make more RNA as they develop, totals grow
along the process, and relative to them, genes that do not change seem to fall. Spike-ins, of which every cell got the
same amount, measure depth alone.

Such sizes belong to the rows of one table, as classes or weights do. They are passed to ``fit`` and to all methods that
take rows, and scikit-learn's metadata routing slices them in searches and cross-validation.
"""

# %%
# Growing cells
# -------------
# 300 simulated cells at times between 0 and 1, which no model sees. Of 36 genes twelve rise, six fall, and eighteen do
# not change. ``spike_ins`` is how often the spike-ins of each cell were read.

import numpy as np
import pandas as pd

N_CELLS = 300

random = np.random.default_rng(0)
truth = np.repeat(["increasing", "decreasing", "flat"], [12, 6, 18])
time, depth = random.uniform(0, 1, N_CELLS), np.exp(random.normal(0, 0.6, N_CELLS))
steepness, middle = random.uniform(6, 12, 36), random.uniform(0.25, 0.75, 36)
rising = 1 / (1 + np.exp(-steepness * (time[:, None] - middle)))
share = np.select([truth == "increasing", truth == "decreasing"], [rising, 1 - rising], 0.5)
level = np.exp(random.normal(1, 0.8, 36)) * np.where(truth == "increasing", 3, 1)
means = depth[:, None] * level * (0.15 + 1.7 * share)
names = [f"{kind} {i}" for kind, n in (("rising", 12), ("falling", 6), ("steady", 18)) for i in range(n)]
counts = pd.DataFrame(random.poisson(random.gamma(3, means / 3)), columns=names)
spike_ins = random.poisson(200 * depth)

# %%
# One model, three ideas of a cell's size
# ---------------------------------------
# A rule for sizes, which holds for any table, is a parameter: ``size_factors="sum"``. Sizes of the cells at hand are an
# argument of ``fit`` and of whatever else takes these cells.

from skdevae import BasisDeVAEClusterer

settings = {"likelihood": "nb", "orientation": "rising 0", "max_epochs": 60, "random_state": 0}
given = {"size_factors": spike_ins}
models = {
    "no sizes": (BasisDeVAEClusterer(**settings).fit(counts), {}),
    "total counts": (BasisDeVAEClusterer(**settings, size_factors="sum").fit(counts), {}),
    "spike-ins": (BasisDeVAEClusterer(**settings).fit(counts, **given), given),
}

# %%
# Positions should follow the time of a cell and say nothing of its depth. Genes should do what they truly do.

from scipy.stats import spearmanr

rows = {}
for name, (model, facts) in models.items():
    position = model.transform(counts, **facts)[:, 0]
    found = model.feature_labels(threshold=0.5)
    rows[name] = {
        "correlation with time": f"{spearmanr(position, time)[0]:.2f}",
        "with depth": f"{spearmanr(position, depth)[0]:.2f}",
        "behaviours found": f"{(found == truth).sum()} of {len(truth)}",
    }
print(pd.DataFrame(rows).T.to_string())

# %%
# What each idea makes of the genes
# ---------------------------------
# Every gene's expected count in a cell of median size, relative to its own mean, in the colour of what it truly does.
# With total counts all steady genes seem to fall.

import matplotlib.pyplot as plt

colors = {"increasing": "#C44E00", "decreasing": "#0072B2", "flat": "#8A939C"}
figure, axes = plt.subplots(1, 3, figsize=(9, 3.4), sharey=True, layout="constrained")
for (name, (model, facts)), ax in zip(models.items(), axes, strict=True):
    position = model.transform(counts, **facts)[:, 0]
    z = np.linspace(*np.quantile(position, [0.02, 0.98]), 100)
    curves = np.log2(model.trajectories(z) / model.trajectories(position).mean(0))
    for behaviour, color in colors.items():
        lines = ax.plot(z, curves[:, truth == behaviour], color=color, linewidth=1.2)
        lines[0].set_label(behaviour)
    ax.set_title(name)
    ax.set_xlabel("position on the latent axis")
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set_ylabel("expected count,\nrelative to its mean (log2)")
axes[0].set_ylim(bottom=-4.8)
axes[-1].legend(title="truly", loc="lower center", ncols=3, frameon=False, fontsize=8, handlelength=1, columnspacing=1)

# %%
# Sizes in a search
# -----------------
# The estimator says in which methods it asks for size factors, and the search slices them with the rows. Here it
# compares two distributions of counts, by the log-likelihood of cells that were held out (nats per cell, given its
# spike-ins).

import sklearn
from sklearn.model_selection import GridSearchCV

with sklearn.config_context(enable_metadata_routing=True):
    model = BasisDeVAEClusterer(**settings).set_fit_request(size_factors=True).set_score_request(size_factors=True)
    search = GridSearchCV(model, {"likelihood": ["poisson", "nb"]}, cv=2, refit=False)
    search.fit(counts, size_factors=spike_ins)
results = pd.DataFrame(search.cv_results_)
print(results[["param_likelihood", "mean_test_score"]].round(1).to_string(index=False))

plt.show()
