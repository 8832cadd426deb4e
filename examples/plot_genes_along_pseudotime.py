"""
================================================
Groups of genes along a pseudotime that you have
================================================

Many tools give every cell a pseudotime. What is left to ask is what genes do along it: which rise, which fall, which
are switched on for a while, and when. ``fit(X, axis=pseudotime)`` takes the pseudotime for the axis, and all else goes
on as on an axis that is found. Counts go in as they are.
"""

# %%
# Counts and a pseudotime
# -----------------------
# Blood progenitors of the mouse on their way to red blood cells (Paul et al. 2015; pseudotime by slingshot), if the
# file lies beside this project: the 40 genes that vary most between cells. Elsewhere 40 genes are simulated, which
# rise, fall, or come and go along a hidden time, and the pseudotime is this time with errors. The genes are numbered
# then.

from pathlib import Path

import numpy as np
import pandas as pd

from skdevae.datasets import make_progression_counts

places = [folder / "shared" / "data" / "paul15_240genes.npz" for folder in Path.cwd().parents]
found = [path for path in places if path.exists()]
if found:
    with np.load(found[0], allow_pickle=False) as paul:
        erythroid = np.flatnonzero(paul["lineage_weight"][:, 1] > 0.5)
        cells = np.random.default_rng(0).permutation(erythroid)[:600]
        counts = pd.DataFrame(paul["X"][cells].astype(float), columns=paul["genes"])
        pseudotime = pd.Series(paul["pseudotime"][cells, 1].astype(float), name="pseudotime")
    shares = counts.div(counts.sum(axis=1), axis=0)
    counts = counts[np.log1p(1000 * shares).var().nlargest(40).index]
else:
    simulated = make_progression_counts(600, 40, density=0.6, random_state=0)
    counts = pd.DataFrame(simulated.data.toarray(), columns=[f"gene {number}" for number in range(40)])
    noise = np.random.default_rng(0).normal(0, 0.2, 600)
    pseudotime = pd.Series(simulated.times + noise, name="pseudotime")
print(f"{counts.shape[0]} cells, {counts.shape[1]} genes, {'measured' if found else 'simulated'}")

# %%
# Two fits along the same axis
# ----------------------------
# ``BasisDeVAEClusterer`` names what every gene does. ``BasisVAEClusterer`` groups genes that are multiples of one
# common curve, however many curves that takes (``n_clusters`` is the most that it may use). Both take the sizes of the
# cells into account, here their total counts.

from skdevae import BasisDeVAEClusterer, BasisVAEClusterer

settings = {"likelihood": "nb", "size_factors": "sum", "max_epochs": 60, "random_state": 0}
behaviours = BasisDeVAEClusterer(**settings).fit(counts, axis=pseudotime)
groups = BasisVAEClusterer(n_clusters=8, **settings).fit(counts, axis=pseudotime)

# %%
# What genes do
# -------------
# Genes whose counts the pseudotime explains best, in the order in which they have made half of their change. The model
# has a latent of its own, a monotone map of the pseudotime. ``axis_map_`` leads back to pseudotimes.

from skdevae.inspection import feature_table

table = feature_table(behaviours, counts, axis=pseudotime)
best = table.loc[table["explained deviance"].nlargest(15).index].sort_values("half change")
best["pseudotime"] = behaviours.axis_map_.to_axis(best["half change"])
columns = ["behaviour", "probability", "direction", "pseudotime", "explained deviance"]
print(best[columns].to_string(float_format="{:.2f}".format))
print(table["behaviour"].value_counts().to_string())

# %%
# Curves in one panel for each behaviour, along the pseudotime in its own units.

import matplotlib.pyplot as plt

from skdevae.display import FeatureClusterDisplay, TrajectoryDisplay

TrajectoryDisplay.from_estimator(behaviours, counts, axis=pseudotime, max_labels=5)

# %%
# Groups of genes
# ---------------
# The heat map shows the table sorted: cells by pseudotime, genes by group.

FeatureClusterDisplay.from_estimator(groups, counts, axis=pseudotime)

# %%
# The number of groups was found. Groups cut finer than behaviours do, because genes that change early and genes that
# change late are no multiples of one curve.

behaviour = pd.Series(behaviours.feature_labels(threshold=0), name="behaviour")
group = pd.Series(groups.labels_, name="group")
print(pd.crosstab(behaviour, group).to_string())

# %%
# A pseudotime was itself computed from counts, and from those of the same genes. So it is no surprise that genes change
# along it, and p-values that take it as given are too small. :func:`skdevae.inspection.association_test` with an axis
# that was measured, such as age or time after treatment, has no such problem.

plt.show()
