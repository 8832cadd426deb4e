"""
===========================================================
Tumours on one axis, and how each measurement behaves on it
===========================================================

Fine-needle aspirates of 569 breast tumours were photographed, and 30 measurements of their cell nuclei were taken.
There may be an axis from harmless to dangerous in these columns. This example looks for it without knowing any
diagnosis. The same fit says which measurements rise along the axis, which fall, and which come and go. The diagnoses
are only used afterwards, to see whether the axis has anything to do with them.

The script also takes a table of your own. All its numeric columns become features. A second argument names a column
with two values, which the axis is compared with::

    python examples/plot_tumour_biomarkers.py
    python examples/plot_tumour_biomarkers.py table.csv diagnosis
"""

# %%
# The table
# ---------
# A data frame of measurements and, for later, a diagnosis for each row.

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer

if len(sys.argv) > 1:
    name, table = Path(sys.argv[1]).stem, pd.read_csv(sys.argv[1])
    if len(sys.argv) > 2 and sys.argv[2] not in table:
        sys.exit(f"{sys.argv[1]} has no column {sys.argv[2]!r}; it has {', '.join(map(repr, table.columns))}.")
    labels = table.pop(sys.argv[2]) if len(sys.argv) > 2 else None
    if labels is not None and labels.nunique() != 2:
        sys.exit(f"The column to compare with needs two values, but {sys.argv[2]!r} has {labels.nunique()}.")
    features = table.select_dtypes("number").dropna(how="all")
    if features.shape[1] < 3:
        sys.exit(f"{sys.argv[1]} has {features.shape[1]} numeric columns; an axis needs at least 3.")
    labels = None if labels is None else labels[features.index]
else:
    tumours = load_breast_cancer(as_frame=True)
    name, features = "tumour_biomarkers", tumours.data
    labels = tumours.target.map({0: "malignant", 1: "benign"})

print(f"{features.shape[0]} samples, {features.shape[1]} features")

# %%
# The fit
# -------
# BasisDeVAE standardises columns by itself. The scaler changes nothing for it, but with it the curves are in standard
# deviations, and log-likelihoods can be compared with those of other models.

from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdevae import BasisDeVAEClusterer

model = make_pipeline(StandardScaler(), BasisDeVAEClusterer(random_state=0)).fit(features)
position = model.transform(features)[:, 0]

# %%
# Where the samples are, and what the features do
# -----------------------------------------------
# Above: positions of the samples, in the colours of a diagnosis that the model has not seen. Below: the expected value
# of every feature along the axis, in one panel for each behaviour. Grey bars show where the samples are.

from skdevae.display import TrajectoryDisplay

clusterer = model[-1]
behaviours, sizes = np.unique(clusterer.labels_[clusterer.labels_ >= 0], return_counts=True)

figure = plt.figure(figsize=(8, 5.8), layout="constrained")
axes = figure.subplot_mosaic([["samples"] * len(behaviours), [*behaviours]], height_ratios=[1, 1.35])

ax = axes["samples"]
groups = [("all samples", position)]
if labels is not None:
    groups = [(str(value), position[labels == value]) for value in labels.dropna().unique()]
    groups.sort(key=lambda group: group[1].mean())
bins = np.linspace(position.min(), position.max(), 40)
for (group, values), color, hatch in zip(groups, ("#34009C", "#C4530B"), ("", "////"), strict=False):
    ax.hist(
        values,
        bins,
        histtype="stepfilled",
        facecolor=color + "59",
        edgecolor=color,
        hatch=hatch,
        linewidth=1.5,
        label=f"{group} ({len(values)})",
    )
ax.legend(frameon=False, fontsize=8)
ax.set_xlabel("position on the latent axis", fontsize=8)
ax.set_ylabel("samples", fontsize=8)
ax.tick_params(labelsize=7)
ax.spines[["top", "right"]].set_visible(False)

TrajectoryDisplay.from_estimator(model, features, ax=[axes[k] for k in behaviours], max_labels=5)

verbs = {"increasing": "rise", "decreasing": "fall", "transient": "come and go", "flat": "stay"}
counts = ", ".join(f"{n} {verbs[clusterer.cluster_names_[k]]}" for k, n in zip(behaviours, sizes, strict=True))
figure.suptitle(
    f"{len(features)} samples on one axis: of {sizes.sum()} features {counts}", fontsize=10, x=0.01, ha="left"
)

output = Path("figures") / f"{name}.png"
output.parent.mkdir(exist_ok=True)
figure.savefig(output, dpi=150)
print(f"Figure: {output}")

# %%
# Which feature does what, and where
# ----------------------------------
# ``feature_table`` has one row for each feature: its behaviour and how probable that is, the share of the samples that
# come before half of its change, the change itself (in standard deviations of the noise), and the share of the
# feature's variance that its curve explains.

from skdevae.inspection import feature_table

columns = ["behaviour", "probability", "half change (quantile)", "change (sds)", "explained variance"]
table = feature_table(model, features)[columns].sort_values(["behaviour", "half change (quantile)"])
print(table.to_string(float_format="{:.2f}".format))

# %%
# Does the axis know of the diagnosis?
# ------------------------------------
# The area under the ROC curve is the probability that a malignant tumour stands farther along the axis than a benign
# one. The first principal component is asked the same.

from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score


def separation(values, labels):
    """Area under the ROC curve, in the better direction; rows without a label do not count."""
    known = labels.notna().to_numpy()
    area = roc_auc_score(labels[known] == labels[known].iloc[0], values[known])
    return max(area, 1 - area)


if labels is not None:
    print(f"the axis: {separation(position, labels):.3f}")
    if features.notna().all(axis=None):
        component = make_pipeline(StandardScaler(), PCA(1)).fit_transform(features)[:, 0]
        print(f"first principal component: {separation(component, labels):.3f}")

# %%
# Does it describe samples that it has not seen?
# ----------------------------------------------
# Factor analysis with one factor is the same model with straight lines in the place of curves. Both are fitted to
# four fifths of the samples, and judged by the log-likelihood of the others, in nats per sample. So the difference is
# what curves, and their behaviours, are worth. Factor analysis takes no missing entries, so a table with gaps is not
# compared.

from sklearn.decomposition import FactorAnalysis
from sklearn.model_selection import ShuffleSplit, cross_val_score

if features.notna().all(axis=None):
    splits = ShuffleSplit(3, test_size=0.2, random_state=0)
    models = {
        "BasisDeVAEClusterer": model,
        "FactorAnalysis(1)": make_pipeline(StandardScaler(), FactorAnalysis(1)),
    }
    scores = pd.DataFrame({name: cross_val_score(model, features, cv=splits) for name, model in models.items()})
    print("log-likelihood of held-out samples, in three splits")
    print(scores.T.to_string(float_format="{:.2f}".format, header=False))

# %%
# The figure shows what the difference is about: many measurements hardly change among benign tumours and climb from
# there on, which a straight line cannot follow. :doc:`plot_choosing_clusters` shows how to choose the number of
# behaviours, and :doc:`plot_event_order` how sure an order of changes is.

plt.show()
