"""
===============================================
Four ways to go wrong, and how each is noticed
===============================================

A model with one latent axis always gives an axis. This example makes four tables on which that axis is not what one
hopes for: a loop, a measurement that is there many times, counts of unequal depth, and too few samples. For each of
them there is a figure that shows the damage, a check that a user can make without the truth, and what to do.

All tables are simulated, so the truth is known.
"""

# %%
# A loop is cut open
# ------------------
# Some processes come back to where they began: the cell cycle, a day, a year. Here every sample has an angle, and every
# column is a wave of that angle. An axis has two ends and a loop has none, so the model has to cut the loop somewhere.

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from sklearn.decomposition import PCA

from skdevae import BasisDeVAEClusterer

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"

random = np.random.default_rng(0)
angle = random.uniform(0, 360, 400)
phase = np.linspace(0, 360, 24, endpoint=False)
waves = np.cos(np.deg2rad(angle[:, None] - phase)) + random.normal(0, 0.3, (400, 24))

on_loop = BasisDeVAEClusterer(behaviors=["transient", "dip", "free"], max_epochs=60, random_state=0).fit(waves)
position = on_loop.transform(waves)[:, 0]
plane = PCA(2, random_state=0).fit_transform(waves)

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
left.scatter(angle, position, s=10, color=BLUE)
left.set(xlabel="true angle, degrees", ylabel="position on the axis", title="one jump: the cut")
left.set_xticks([0, 90, 180, 270, 360])
drawn = right.scatter(*plane.T, c=position, s=10, cmap="viridis")
right.set(
    xlabel="first principal component", ylabel="second principal component", title="neighbours with far positions"
)
right.set_aspect("equal")
figure.colorbar(drawn, label="position on the axis")
plt.show()

# %%
# Along the axis the order of the samples is right, but for the cut. Where the cut lies is chance. Behaviours are then
# statements about a place of the cut: with another one, a column that comes and goes falls and rises again.
#
# **The check.** On a path that leads somewhere, the two ends of the axis differ most. On a loop, they are alike. So
# compare the expected values at the ends with those in the middle.

ends = np.quantile(position, [0.02, 0.5, 0.98])
start, middle, end = on_loop.trajectories(ends)
print(f"distance between the ends:           {np.linalg.norm(end - start):.1f}")
print(f"distance from the start to the middle: {np.linalg.norm(middle - start):.1f}")

# %%
# **What to do.** Give the axis, if it is known: ``fit(X, axis=t)``. Or take two components of a ``DeVAETransformer`` or
# a ``VAETransformer``, in which a loop stays a loop, and read the angle off them.
#
# One measurement that is there many times
# ----------------------------------------
# The likelihood takes columns as independent, given the position. Ten columns follow a progression. One more column,
# which has nothing to do with it, is in the table several times with small changes: a value and its rounded form, the
# same substance from two assays. Each copy counts as new evidence.

random = np.random.default_rng(1)
progression = random.normal(size=300)
markers = np.tanh(1.5 * (progression[:, None] - np.linspace(-1, 1, 10))) + random.normal(0, 0.5, (300, 10))
nuisance = random.normal(size=300)
copies = nuisance[:, None] + random.normal(0, 0.05, (300, 10))

rows = []
for n_copies in [0, 2, 4, 6, 10]:
    table = np.hstack([markers, copies[:, :n_copies]])
    model = BasisDeVAEClusterer(behaviors=["increasing", "decreasing"], max_epochs=40, random_state=0).fit(table)
    posterior = model.posterior(table)
    rows.append(
        {
            "copies": n_copies,
            "progression": abs(spearmanr(posterior.mean[:, 0], progression)[0]),
            "copied column": abs(spearmanr(posterior.mean[:, 0], nuisance)[0]),
            "mean sd of positions": posterior.sd.mean(),
        }
    )
counted = pd.DataFrame(rows).set_index("copies")

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
left.plot(counted.index, counted["progression"], "o-", color=BLUE, label="with the progression")
left.plot(counted.index, counted["copied column"], "s--", color=ORANGE, label="with the copied column")
left.set(
    xlabel="copies of one column", ylabel="absolute rank correlation", title="what the axis is", ylim=(-0.05, 1.05)
)
left.legend(loc="center left", fontsize="small")
right.plot(counted.index, counted["mean sd of positions"], "o-", color=BLUE)
right.set(xlabel="copies of one column", ylabel="mean posterior sd", title="how sure positions seem", ylim=(0, None))
plt.show()

# %%
# Up to four copies, the ten columns win. With six copies, the copies win, and the axis is the copied column. It is then
# far too sure of itself: the posterior sd falls as if the copies were independent measurements.
#
# **The check.** Look at correlations between columns that are near 1 or -1 before a fit.

table = pd.DataFrame(np.hstack([markers, copies[:, :4]]), columns=[f"marker {j}" for j in range(10)] + list("abcd"))
correlation = table.corr().abs().to_numpy()
i, j = np.nonzero(np.triu(correlation > 0.95, 1))
print("nearly the same:", [f"{table.columns[a]} = {table.columns[b]}" for a, b in zip(i, j, strict=True)])

# %%
# **What to do.** Keep one column of each group, or take the mean of the group. ``noise_floor`` limits how sure the
# model can be of one column. A larger value lowers the weight of copies, but does not remove it.
#
# The axis is the total count
# ---------------------------
# Cells differ in how many molecules of them were read, by a factor of ten and more. That is the largest difference
# between rows of a table of counts. Without size factors it becomes the axis.

random = np.random.default_rng(2)
time = random.uniform(-1.5, 1.5, 300)
depth = np.exp(random.normal(0, 0.8, 300))
direction = np.repeat([1, -1, 0], [14, 14, 12])
mean = 8 * depth[:, None] * np.exp(0.3 * direction * time[:, None])
counts = random.poisson(mean)

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    raw = BasisDeVAEClusterer(likelihood="nb", max_epochs=60, random_state=0).fit(counts)
sized = BasisDeVAEClusterer(likelihood="nb", size_factors="sum", max_epochs=60, random_state=0).fit(counts)

figure, axes = plt.subplots(2, 2, figsize=(9, 6.4), layout="constrained", sharex="col")
for row, (title, model, color) in zip(
    axes, [("no size factors", raw, ORANGE), ('size_factors="sum"', sized, BLUE)], strict=True
):
    found = model.transform(counts)[:, 0]
    row[0].scatter(counts.sum(1), found, s=10, color=color)
    row[0].set(xscale="log", ylabel="position on the axis", title=title)
    row[1].scatter(time, found, s=10, color=color)
    row[1].set(title=title)
axes[1, 0].set_xlabel("total count of the cell")
axes[1, 1].set_xlabel("true time")
plt.show()

# %%
# **The check.** The fit warns. Another sign is that nearly all columns have the same behaviour.

print(*(str(warning.message) for warning in caught), sep="\n")
for title, model in (("no size factors", raw), ("with size factors", sized)):
    names, numbers = np.unique(model.cluster_names_[model.labels_], return_counts=True)
    print(f"{title}: {dict(zip(names.tolist(), numbers.tolist(), strict=True))}")

# %%
# **What to do.** ``size_factors="sum"``, or sizes that were measured: ``fit(X, size_factors=s)``.
#
# Too few samples
# ---------------
# Thirty-six columns, of which 24 depend on a time, with a range of one noise sd. With 320 samples the axis follows the
# true time. With 20 or 40 it follows whatever the columns have in common by chance. Labels are judged *given the axis*,
# so their probabilities do not know that the axis is wrong.


def weak_table(n, seed):
    """Columns that rise, fall, or do nothing along a time."""
    random = np.random.default_rng(seed)
    time = random.uniform(-1, 1, n)
    curves = time[:, None] * np.repeat([0.5, -0.5, 0.0], 12)
    return curves + random.normal(0, 1, (n, 36)), time, np.repeat(["increasing", "decreasing", "flat"], 12)


rows = []
for n in [20, 40, 80, 160, 320]:
    for seed in range(3):
        table, time, truth = weak_table(n, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some of these tables have no axis at all, and the fit says so
            model = BasisDeVAEClusterer(orientation=0, max_epochs=40, random_state=0).fit(table)
        found = model.transform(table)[:, 0]
        labels = model.cluster_names_[model.labels_]
        rows.append(
            {
                "n": n,
                "correlation": abs(spearmanr(found, time)[0]) if np.ptp(found) else 0.0,
                "right": np.mean(labels == truth),
                "said": model.responsibilities_.max(1).mean(),
            }
        )
small = pd.DataFrame(rows)
means = small.groupby("n").mean()

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
left.scatter(small["n"], small["correlation"], s=22, color=BLUE, label="one table")
left.plot(means.index, means["correlation"], color=BLUE, label="mean")
left.set(xscale="log", xlabel="samples", ylabel="rank correlation with the truth", title="the axis", ylim=(0, 1.02))
left.legend(loc="lower right")
right.plot(means.index, means["said"], "s--", color=ORANGE, label="mean probability of the label")
right.plot(means.index, means["right"], "o-", color=GREEN, label="share of labels that are right")
right.set(xscale="log", xlabel="samples", title="the labels", ylim=(0, 1.02))
right.legend(loc="lower right")
for panel in (left, right):
    panel.set_xticks([20, 40, 80, 160, 320], ["20", "40", "80", "160", "320"])
    panel.minorticks_off()
plt.show()

# %%
# **The check.** Fit two halves of the samples, and let both place all samples. If the two axes disagree, there is no
# axis to interpret.


def agreement_of_halves(table):
    """Rank correlation between the axes of two halves of the samples."""
    axes = []
    for half in (slice(0, None, 2), slice(1, None, 2)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = BasisDeVAEClusterer(max_epochs=40, random_state=0).fit(table[half])
            axes.append(model.transform(table)[:, 0])
    return abs(spearmanr(*axes)[0])


for n in (40, 320):
    print(
        f"{n} samples: the axes of two halves have a rank correlation of {agreement_of_halves(weak_table(n, 0)[0]):.2f}"
    )

# %%
# **What to do.** Fewer and better columns, and more samples. :func:`skdevae.inspection.stability` makes this check with
# resampled samples, and gives intervals. ``association_test`` has p-values that do not rest on the quality of the axis.
