"""
=============================================================
Brains on an axis along which the cortex can only get thinner
=============================================================

The cortex is a sheet two to four millimetres thick. Over adult life it thins everywhere, but at different speeds in
different regions, and not at the same time. This example places healthy people between 20 and 86 on an axis by their
cortex alone, without knowing their ages. The model is told one thing: along the axis, every region gets thinner.
Because it builds curves from their derivatives, it also says how fast each region thins, and so which regions thin
first.
"""

# %%
# The table
# ---------
# The thickness of 68 regions in 556 people (IXI, MRI), if the file lies beside this project. Averages over a hemisphere
# are left out: a column that averages all others would be the axis by itself. Elsewhere a cortex is made up: regions
# that fall along a hidden time, and an age that is this time plus noise. Ages are kept apart.

from pathlib import Path

import numpy as np
import pandas as pd

from skdevae.datasets import make_progression

places = [folder / "shared" / "data" / "ixi_thickness.csv.gz" for folder in Path.cwd().parents]
found = [path for path in places if path.exists()]
if found:
    table = pd.read_csv(found[0])
    thickness = table[[name for name in table if name.endswith("_thickness") and "MeanThickness" not in name]]
    thickness = thickness.rename(columns=lambda name: name.removesuffix("_thickness"))
    age = table["age"]
else:
    made_up = make_progression(
        400, n_transient=0, n_increasing=0, n_decreasing=40, noise=0.15, as_frame=True, random_state=0
    )
    thickness = 2.5 + 0.3 * made_up.data.rename(columns=lambda name: name.replace("decreasing_", "region "))
    age = pd.Series(52 + 8 * made_up.times + np.random.default_rng(0).normal(0, 6, len(thickness)), name="age")
print(f"{thickness.shape[0]} people, {thickness.shape[1]} regions, {'measured' if found else 'made up'}")

# %%
# The fit
# -------
# The expected thickness of a region is a constant plus the integral of something negative. So it falls everywhere,
# whatever the weights of the network are. The constraint also decides which end is which: the axis runs from thick to
# thin. Nothing needs to be standardised, and no ages go in.

from skdevae import DeVAETransformer

model = DeVAETransformer(monotonic_cst="decreasing", random_state=0).fit(thickness)
position = model.transform(thickness)[:, 0]

# %%
# The axis and age
# ----------------
# How well does the position agree with age, compared with plainer summaries of the same columns? Note that the axis
# compares people, and not years of one life: some people are born with a thicker cortex, and the axis reflects that as
# well as age.

from scipy.stats import spearmanr
from sklearn.decomposition import FactorAnalysis
from sklearn.preprocessing import StandardScaler

columns = StandardScaler().fit_transform(thickness)
summaries = {
    "DeVAE axis": position,
    "FactorAnalysis(1)": FactorAnalysis(1).fit_transform(columns)[:, 0],
    "mean of all regions": columns.mean(axis=1),
}
for name, values in summaries.items():
    print(f"{name:20} absolute Spearman correlation with age {abs(spearmanr(values, age)[0]):.3f}")

# %%
# Who goes first
# --------------
# ``event_order`` finds where along the axis each region has lost half of what it loses, as the share of the people who
# stand before that place. Replicates of the fit, with other weights of the people, show how certain that is. (Ten are
# few, to save time.)

from skdevae.inspection import bootstrap, event_order

replicates = bootstrap(model, thickness, n_bootstrap=10, method="refit", random_state=0)
order = event_order(model, thickness, replicates=replicates, confidence_level=0.9)
halfway = order.positions.loc[order.order]
print(pd.concat([halfway.head(), halfway.tail()])[["estimate", "lower", "upper"]].round(2).to_string())

# %%
# Upper left: the axis against age. Lower left: two regions, an early and a late one, with everyone's measurements, the
# curve, and the band that should hold 95 % of the people at each position. Right: all regions. The colour is how fast
# each thins, as a multiple of its own average speed. At its dot a region has lost half of what it loses. Lines are
# intervals of 90 %.

import matplotlib.pyplot as plt

z = np.linspace(*np.quantile(position, [0.025, 0.975]), 200)
figure, axes = plt.subplot_mosaic(
    [["age", "age", "order"], ["first", "last", "order"]],
    figsize=(11, 8.5),
    width_ratios=[1, 1, 1.5],
    layout="constrained",
)
axes["age"].scatter(age, position, s=14, color="#0072B2", alpha=0.45, linewidth=0)
axes["age"].set_xlabel("age (years), which the model has not seen")
axes["age"].set_ylabel("position z (sd)\nthick   \N{RIGHTWARDS ARROW}   thin")

for name, region in (("first", order.order[0]), ("last", order.order[-1])):
    ax, column = axes[name], thickness.columns.get_loc(region)
    curve, noise = model.trajectories(z)[:, column], model.noise_scale_[column]
    ax.scatter(position, thickness[region], s=6, color="#5A5A5A", alpha=0.4, linewidth=0)
    ax.fill_between(z, curve - 1.96 * noise, curve + 1.96 * noise, color="#0072B2", alpha=0.2, linewidth=0)
    ax.plot(z, curve, color="#0072B2", linewidth=2.5)
    ax.set_title(f"{name}: {region}", loc="left", fontsize=10)
    ax.set_xlabel("position z (sd)")
axes["first"].set_ylabel("thickness (mm)")
for name in ("age", "first", "last"):
    axes[name].spines[["top", "right"]].set_visible(False)

ax, rows = axes["order"], np.arange(len(order.order))
speed = -model.derivatives(z)[:, thickness.columns.get_indexer(order.order)]
image = ax.pcolormesh(z, rows, (speed / speed.mean(0)).T, cmap="PuOr_r", vmin=0, vmax=2, rasterized=True)
place = {name: np.quantile(position, halfway[name]) for name in ("estimate", "lower", "upper")}
ax.hlines(rows, place["lower"], place["upper"], color="black", linewidth=1)
ax.plot(place["estimate"], rows, "o", color="black", markersize=3.5)
ax.set_yticks(rows, order.order, fontsize=7)
ax.tick_params(axis="y", length=0)
ax.set_ylim(len(rows) - 0.5, -0.5)
ax.set_xlim(z[0], z[-1])
ax.set_xlabel("position z (sd), middle 95 % of people")
ax.set_title("who goes first", loc="left", fontsize=10)
figure.colorbar(
    image, ax=ax, location="bottom", extend="max", pad=0.01, aspect=30, label="thinning speed / its average"
)

# %%
# The model does not know which columns are the left and the right side of the same region. So whether both come out at
# the same place is a test of the order that does not use age. (A made-up cortex has no sides.)

left = [name for name in thickness if name.startswith("lh_")]
if left:
    sides = [halfway["estimate"][names].to_numpy() for names in (left, ["r" + name[1:] for name in left])]
    print(f"places of left and right regions: Spearman {spearmanr(*sides)[0]:.2f}")

# %%
# On people that it has not seen
# ------------------------------
# Two tests on a fifth of the people, which are held out. The first is their log-likelihood, compared with factor
# analysis, which is the same model with straight lines. The second hides a fifth of their entries, and ``predict`` says
# from the others what they should be. It is compared with each region's average.

from sklearn.model_selection import train_test_split

train, test = train_test_split(thickness, test_size=0.2, random_state=0)
scaler = StandardScaler().set_output(transform="pandas").fit(train)
train, test = scaler.transform(train), scaler.transform(test)
model = DeVAETransformer(monotonic_cst="decreasing", random_state=0).fit(train)
hidden = np.random.default_rng(0).random(test.shape) < 0.2
wrong = (model.predict(test.mask(hidden)) - test).to_numpy()[hidden]

print("log-likelihood, nats per person:", end=" ")
print(f"DeVAE {model.score(test):.2f}, FactorAnalysis(1) {FactorAnalysis(1).fit(train).score(test):.2f}")
print("hidden entries, root mean squared error in sds:", end=" ")
print(f"predict {np.sqrt(np.mean(wrong**2)):.2f}, average {np.sqrt(np.mean(test.to_numpy()[hidden] ** 2)):.2f}")

plt.show()
