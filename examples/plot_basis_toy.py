"""
========================================
Fifty columns, five groups, three shapes
========================================

Two columns can be more than correlated: one may be a multiple of the other, or follow the same course earlier. This
example uses the toy table of the BasisVAE paper (Märtens and Yau, AISTATS 2020, Figure 1), for which the truth is
known. It has fifty features of a hidden time, in five groups of scaled copies. Three of the groups are the same hump at
different times. So the number of clusters depends on what counts as a copy, which is for the user to say.
"""

# %%
# The table
# ---------
# 500 samples, each at a hidden time. The features are early, middle and late humps, rises and falls, ten of each. The
# rows are in random order, so the last fifth of them can be held out.

from skdevae.datasets import make_basis_toy

toy = make_basis_toy(500, as_frame=True, random_state=0)
X, X_test, times = toy.data[:400], toy.data[400:], toy.times[:400]

# %%
# Copies by scale
# ---------------
# ``n_clusters=20`` is an upper bound: functions that are not needed end up without features. The model sees no groups
# and no times, except that ``orientation`` decides which end of the axis is late.

from skdevae import BasisVAEClusterer

scaled = BasisVAEClusterer(n_clusters=20, random_state=0).fit(X, orientation=times)
print(f"clusters found: {scaled.n_clusters_effective_}")

# %%
# Left: the table as it comes. Middle: the same table, with rows in the order of their positions, and columns of a
# cluster side by side. Right: the fitted curves, in the colours of the clusters.

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap

colors = {"down": "#555555", "early": "#0072B2", "middle": "#C44E00", "late": "#8A3C8F", "up": "#2A8A57"}


def kinds_of(labels, truth, names):
    """The true kind of most features of each cluster."""
    return {cluster: names[np.bincount(truth[labels == cluster]).argmax()] for cluster in np.unique(labels)}


def draw_curves(ax, model, kinds, colors, z):
    for cluster, kind in sorted(kinds.items(), key=lambda item: list(colors).index(item[1])):
        lines = ax.plot(z, model.trajectories(z)[:, model.labels_ == cluster], color=colors[kind], linewidth=1.1)
        lines[0].set_label(kind)
    ax.set_xlabel("position z (sd)")
    ax.set_ylabel("expected value")
    ax.set_ylim(top=1.22 * ax.get_ylim()[1])
    ax.legend(
        loc="upper center", ncols=3, frameon=False, fontsize=9, handlelength=0.8, columnspacing=0.8, borderaxespad=0
    )
    ax.spines[["top", "right"]].set_visible(False)


kinds = kinds_of(scaled.labels_, toy.labels, toy.label_names)
position = scaled.transform(X)[:, 0]
z = np.linspace(*np.quantile(position, [0.01, 0.99]), 200)
as_it_comes = np.random.default_rng(0).permutation(50)
highest = scaled.trajectories(z).argmax(0)
clusters = sorted(kinds, key=lambda cluster: highest[scaled.labels_ == cluster].mean())
by_cluster = np.concatenate([np.flatnonzero(scaled.labels_ == cluster) for cluster in clusters])
values = ((X - X.mean()) / X.std()).to_numpy()

figure, axes = plt.subplot_mosaic(
    [["strip before", "strip after", "curves"], ["before", "after", "curves"]],
    figsize=(11, 4.2),
    height_ratios=[1, 14],
    width_ratios=[1, 1.1, 1.2],
    layout="constrained",
)
for name, columns, rows in (("before", as_it_comes, np.arange(400)), ("after", by_cluster, np.argsort(-position))):
    strip, ax = axes[f"strip {name}"], axes[name]
    strip.imshow(
        [[list(kinds).index(label) for label in scaled.labels_[columns]]],
        cmap=ListedColormap([colors[kind] for kind in kinds.values()]),
        interpolation="nearest",
        aspect="auto",
    )
    strip.set_axis_off()
    image = ax.imshow(values[np.ix_(rows, columns)], aspect="auto", cmap="RdBu_r", vmin=-2.5, vmax=2.5)
    ax.set(xticks=[], yticks=[])
axes["strip before"].set_title("as it comes", loc="left")
axes["before"].set_xlabel("50 features")
axes["before"].set_ylabel("400 samples")
axes["strip after"].set_title("sorted", loc="left")
axes["after"].set_xlabel("features, by cluster")
axes["after"].set_ylabel("samples, by position   \N{RIGHTWARDS ARROW}")
figure.colorbar(image, ax=axes["after"], label="standardised value", extend="both", pad=0.02, aspect=30)
draw_curves(axes["curves"], scaled, kinds, colors, z)
axes["curves"].set_title(f"copies by scale: {len(kinds)} clusters", loc="left")

# %%
# Copies by scale and shift
# -------------------------
# With ``translation_invariant=True`` a feature may also follow its function earlier or later. Then the three humps are
# one shape.

shifted = BasisVAEClusterer(n_clusters=20, translation_invariant=True, random_state=0).fit(X, orientation=times)
print(f"clusters found: {shifted.n_clusters_effective_}")

# %%
# A feature is ``levels_ + scales_ * f(z + shifts_)``. A function f that is twice as high fits equally well with scales
# that are half as large, and a function that lies elsewhere fits with other shifts. So scales and shifts compare
# features of the same cluster, and no others.
#
# Left: the curves. Middle: the same, each feature minus its level, divided by its scale and moved by its shift, so that
# curves of a cluster lie on one another. Right: the shifts of humps that the model found, against the true ones.

shapes = kinds_of(shifted.labels_, toy.shape_labels, toy.shape_names)
shape_colors = {"decreasing": colors["down"], "transient": "#C44E00", "increasing": colors["up"]}

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
draw_curves(left, shifted, shapes, shape_colors, z)
left.set_title(f"by scale and shift: {len(shapes)} clusters", loc="left")
aligned = (shifted.trajectories(z) - shifted.levels_) / shifted.scales_
for feature, label in enumerate(shifted.labels_):
    color = shape_colors[shapes[label]]
    middle.plot(z + shifted.shifts_[feature], aligned[:, feature], color=color, linewidth=1.1, alpha=0.5)
middle.set_xlabel("z + shift of the feature")
middle.set_ylabel("(value \N{MINUS SIGN} level) / scale")
middle.set_title("laid on one another", loc="left")
humps = toy.shape_labels == toy.shape_names.index("transient")
right.scatter(toy.shifts[humps], shifted.shifts_[humps], color=shape_colors["transient"], alpha=0.5, linewidth=0)
right.set_xlabel("true shift (units of time)")
right.set_ylabel("shift found (units of z)")
right.set_title("shifts of the humps", loc="left")
for ax in (middle, right):
    ax.spines[["top", "right"]].set_visible(False)

# %%
# Beside plainer models
# ---------------------
# The V-measure is 1 if the clusters are the true ones. There are two truths: five groups and three shapes. k-means, on
# standardised columns, has to be told the number of clusters, and knows of no shifts.

import pandas as pd
from sklearn.cluster import KMeans
from sklearn.metrics import v_measure_score

labels = {"BasisVAE, scale": scaled.labels_, "BasisVAE, scale + shift": shifted.labels_}
for n_clusters in (5, 3):
    k_means = KMeans(n_clusters, n_init=10, random_state=0)
    labels[f"k-means, told {n_clusters}"] = k_means.fit_predict(values.T)
table = {
    name: {"V, groups": v_measure_score(toy.labels, found), "V, shapes": v_measure_score(toy.shape_labels, found)}
    for name, found in labels.items()
}
print(pd.DataFrame(table).T.to_string(float_format="{:.2f}".format))

# %%
# Do the curves describe samples that the model has not seen? Factor analysis has a straight line for each feature. The
# log-likelihood is that of the held-out samples, in nats per sample.

from sklearn.decomposition import FactorAnalysis

scores = {
    "BasisVAE, scale": scaled.score(X_test),
    "BasisVAE, scale + shift": shifted.score(X_test),
    "FactorAnalysis(1)": FactorAnalysis(1).fit(X).score(X_test),
}
print(pd.Series(scores).to_string(float_format="{:.2f}".format))

# %%
# Clusters with names
# -------------------
# With ``basis``, each function is made to rise, to fall, or to come and go, and the names of the clusters say which:
# ``BasisVAEClusterer(n_clusters=20, basis=("increasing", "decreasing", "transient"))``.

plt.show()
