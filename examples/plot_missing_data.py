"""
=============================================
Missing entries: left out, and then predicted
=============================================

Tables of patients have gaps. Filling them with averages before the analysis pulls samples towards the middle of the
axis, and the more so the more they miss. Here a missing entry stays NaN and drops out of the likelihood. A sample is
placed by what was measured of it, with an uncertainty that says how much that is. In return, the axis predicts what was
not measured.

The table is simulated, so that positions and predictions can be compared with the truth.
"""

# %%
# A table with gaps
# -----------------
# 400 patients at hidden stages of a disease, and 12 markers that rise or fall. Every patient misses another share of
# them, from none to most.

import numpy as np

from skdevae.datasets import make_progression

disease = make_progression(
    400, n_transient=0, n_increasing=6, n_decreasing=6, noise=0.25, as_frame=True, random_state=0
)  # fmt: skip
random = np.random.default_rng(0)
share = random.uniform(0, 0.85, 400)
is_hidden = random.random(disease.data.shape) < share[:, None]
is_hidden[is_hidden.all(axis=1), 0] = False  # of every patient at least one marker is known
X = disease.data.mask(is_hidden)
print(f"missing: {is_hidden.mean():.0%} of the entries; {is_hidden.any(axis=1).mean():.0%} of the patients miss some")

# %%
# Fitted with the gaps, and after they are filled
# -----------------------------------------------
# The pipeline fills gaps with the column's average, as is often done. The third model sees the table without gaps,
# which nobody has: it is what could be reached.

from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline

from skdevae import BasisDeVAEClusterer

settings = {"max_epochs": 80, "random_state": 0}
model = BasisDeVAEClusterer(**settings).fit(X, orientation=disease.times)
complete = BasisDeVAEClusterer(**settings).fit(disease.data, orientation=disease.times)
filled = make_pipeline(SimpleImputer().set_output(transform="pandas"), BasisDeVAEClusterer(**settings))
filled.fit(X, basisdevaeclusterer__orientation=disease.times)
complete.fit(disease.data, orientation=disease.times)

# %%
# Positions
# ---------
# Patients in thirds, by how much is missing of them. Rank correlation of their positions with their true stages:

import pandas as pd
from scipy.stats import spearmanr

positions = {
    "gaps left out": model.transform(X)[:, 0],
    "gaps filled with averages": filled.transform(X)[:, 0],
    "no gaps": complete.transform(disease.data)[:, 0],
}
missing = is_hidden.mean(axis=1)
third = pd.qcut(missing, 3, labels=["few missing", "some missing", "most missing"])
table = {
    name: {part: spearmanr(position[third == part], disease.times[third == part])[0] for part in third.categories}
    for name, position in positions.items()
}
print(pd.DataFrame(table).T.to_string(float_format="{:.2f}".format))

# %%
# In the filled table, the more of a patient is missing, the closer to the middle of the axis the patient stands (yellow
# points). ``posterior`` says how sure each position is. Its standard deviation grows with what is missing. Filled
# entries look like measurements, so the filled table hides that.

import matplotlib.pyplot as plt

figure, axes = plt.subplots(1, 3, figsize=(10, 3.5), layout="constrained")
for (name, position), ax in zip(list(positions.items())[:2], axes, strict=False):
    points = ax.scatter(disease.times, position, c=missing, s=12, cmap="viridis", vmin=0, vmax=1)
    ax.set_title(name, fontsize=10, loc="left")
    ax.set_xlabel("true stage")
    ax.set_ylabel("position on the axis")
figure.colorbar(points, ax=axes[1], label="share that is missing")
axes[2].scatter(missing, model.posterior(X).sd, s=12, color="#0072B2", alpha=0.6, linewidth=0, label="gaps left out")
sd = filled[-1].posterior(filled[:-1].transform(X)).sd
axes[2].scatter(missing, sd, s=12, color="#C44E00", alpha=0.6, linewidth=0, label="filled")
axes[2].set_title("how sure positions are said to be", fontsize=10, loc="left")
axes[2].set_xlabel("share that is missing")
axes[2].set_ylabel("posterior sd of the position")
axes[2].legend(frameon=False)
for ax in axes:
    ax.spines[["top", "right"]].set_visible(False)

# %%
# Predicted entries
# -----------------
# ``inverse_transform`` gives the expected value of every entry at a position. So positions from the measured entries
# predict the others. They are compared with the true values of what was hidden, beside the column's average and the
# average of the ten nearest patients (scikit-learn's ``KNNImputer``). The noise of the markers has an sd of 0.25: no
# prediction can come below that.

from sklearn.impute import KNNImputer

predictions = {
    "the axis": model.inverse_transform(model.transform(X)),
    "neighbours": KNNImputer(n_neighbors=10).fit_transform(X),
    "averages": SimpleImputer().fit_transform(X),
}
truth = disease.data.to_numpy()
for name, predicted in predictions.items():
    print(f"{name:10} root mean squared error {np.sqrt(np.mean((predicted - truth)[is_hidden] ** 2)):.2f}")

# %%
# Where this is not enough
# ------------------------
# A gap is left out as if chance had made it. If an entry is missing *because* of its value, as where the sickest
# patients cannot do a test, what is left is a biased sample of that marker, and no method that looks at the table alone
# can tell.

plt.show()
