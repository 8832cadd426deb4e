"""
==============================================================
A pipeline in production: saved, loaded, and watched for drift
==============================================================

A laboratory places tumours on an axis of malignancy. The pipeline is fitted once, saved, and loaded where new tumours
come in, month by month. Things go wrong as they do: a column is not delivered, one tumour is entered in wrong units,
and in the end an instrument is set up anew. Each is seen in the likelihood of the rows, and the figure shows where.

There is nothing to download. It needs the package skops, for files that can be loaded safely::

    python examples/plot_pipeline_in_production.py
"""

# %%
# 1. Fit a pipeline on a data frame
# ---------------------------------
#
# Names of columns go in with the data frame, so that the pipeline knows them later.

import tempfile
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdevae import BasisDeVAEClusterer

X, _ = load_breast_cancer(as_frame=True, return_X_y=True)
X = X.filter(like="mean ").rename(columns=lambda name: name.removeprefix("mean "))
order = np.random.default_rng(0).permutation(len(X))
training, later = X.iloc[order[:269]], X.iloc[order[269:]]

pipeline = make_pipeline(StandardScaler(), BasisDeVAEClusterer(max_epochs=100, random_state=0))
pipeline.fit(training)
behaviours = pipeline[-1].cluster_names_[pipeline[-1].labels_]
print(*(f"{name:18} {behaviour}" for name, behaviour in zip(training.columns, behaviours, strict=True)), sep="\n")

# %%
# 2. Save it, with a card that says what it is for
# ------------------------------------------------
#
# A file of skops holds numbers and names of classes, and no code. Whoever loads it sees the classes first.

from skops import card, io

folder = Path(tempfile.mkdtemp())
io.dump(pipeline, folder / "tumours.skops")

model_card = card.Card(pipeline)
model_card.add(
    **{
        "Model description": "Places breast tumours on an axis by ten measurements of their cell nuclei.",
        "Model description/Intended uses & limitations": "Research, not diagnosis: no diagnosis was learned from.",
        "Model description/Evaluation": f"{pipeline.score(later):.2f} nats per tumour on {len(later)} others.",
    }
)
model_card.save(folder / "README.md")
print(sorted(file.name for file in folder.iterdir()))

# %%
# 3. Load it
# ----------
#
# Of all classes in the file, only the estimator's own is not known to skops. It is named, and nothing else is trusted.

unknown = io.get_untrusted_types(file=folder / "tumours.skops")
print(unknown)
assert unknown == ["skdevae.trajectory._basisdevae.BasisDeVAEClusterer"]
loaded = io.load(folder / "tumours.skops", trusted=unknown)
print("same positions to the bit:", np.array_equal(loaded.transform(later), pipeline.transform(later)))

# %%
# 4. New tumours, and what goes wrong with them
# ---------------------------------------------
#
# Six months of fifty tumours each. In March, concavity is not delivered. In April, a radius is entered in wrong units.
# From May on, an instrument reads texture a little too high: by two thirds of its standard deviation.

months = {
    month: later.iloc[50 * i : 50 * (i + 1)].copy()
    for i, month in enumerate(["Jan", "Feb", "Mar", "Apr", "May", "Jun"])
}
months["Mar"] = months["Mar"].drop(columns="concavity")
months["Apr"].loc[months["Apr"].index[7], "radius"] /= 10
months["May"]["texture"] += 0.67 * training["texture"].std()
months["Jun"]["texture"] += 0.67 * training["texture"].std()

# %%
# A column that is missing is written as NaN. Missing entries drop out of the likelihood, so rows are placed all the
# same. Of rows unlike all that it was fitted to, ``transform`` warns.

months = {month: table.reindex(columns=training.columns) for month, table in months.items()}
for month, table in months.items():
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        positions = loaded.transform(table)
    print(
        f"{month}: {np.isfinite(positions).sum()} of {len(table)} placed", *(str(warning.message) for warning in told)
    )

# %%
# 5. Rows unlike all others
# -------------------------
#
# A row is looked at if its likelihood is below that of 99 % of the training rows. Rows compare only if they have the
# same columns. So the limit of a month without a column is that of training rows without it.


def limit(table):
    """The likelihood that one of a hundred training rows does not reach, in the columns that a table has."""
    measured = table.columns[table.notna().any()]
    return np.quantile(loaded.score_samples(training[measured].reindex(columns=training.columns)), 0.01)


warnings.simplefilter("ignore", UserWarning)  # what it would say again of April is what follows
scores = {month: loaded.score_samples(table) - limit(table) for month, table in months.items()}
for month, score in scores.items():
    print(f"{month}: {(score < 0).sum():2d} of {len(score)} below the limit, the lowest by {-score.min():.0f} nats")

# %%
# 6. Which column it is
# ---------------------
#
# The model says what it expects of every column, given where a tumour lies. What a measurement has beyond that does not
# depend on the mix of tumours that comes in. So a month in which its median is not that of the training rows is a month
# of drift. It is in units of the column's noise; the median of fifty rows strays by about 0.2 of these by chance alone.


def residuals(table):
    """How far measurements are from what the model expects at their positions, in sds of the noise."""
    scaler, model = loaded
    scaled = scaler.transform(table)
    return (scaled - model.inverse_transform(model.transform(scaled))) / model.noise_scale_


drift = np.array([np.median(residuals(table), 0) for table in months.values()])  # NaN where nothing was measured
before = np.median(residuals(training), 0)
worst = np.unravel_index(np.nanargmax(np.abs(drift - before)), drift.shape)
where = f"{training.columns[worst[1]]} in {list(months)[worst[0]]}"
print(f"largest drift: {where}, {(drift - before)[worst]:+.1f} sds of its noise")

# %%
# 7. The figure
# -------------
#
# On the left, a point is a tumour: April's wrong entry lies far below the line. On the right, the two months of texture
# stand out, and the column that was not delivered is empty.

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), width_ratios=[1, 1.25], layout="constrained")
random = np.random.default_rng(0)
for place, score in enumerate(scores.values()):
    x = place + random.uniform(-0.25, 0.25, len(score))
    left.scatter(x, score, s=14, c=np.where(score < 0, "#d55e00", "#0072b2"), alpha=0.75, linewidths=0)
    left.hlines(np.median(score), place - 0.35, place + 0.35, color="black", lw=1.5)
left.axhline(0, color="0.4", lw=1, ls="--")
left.set_yscale("symlog", linthresh=10)
left.set_ylim(-1000, 100)
left.set_xticks(range(len(scores)), list(scores))
left.set(ylabel="log-likelihood above the limit, in nats", title="Tumours unlike all others")

shown = right.imshow((drift - before).T, cmap="RdBu_r", vmin=-1.5, vmax=1.5, aspect="auto")
right.set_facecolor("0.9")
right.set_xticks(range(len(months)), list(months))
right.set_yticks(range(training.shape[1]), training.columns)
for row, column in np.ndindex(drift.shape):
    if np.isnan(drift[row, column]):
        right.text(row, column, "not\nmeasured", ha="center", va="center", fontsize=6, color="0.35")
right.set_title("Drift of the columns")
figure.colorbar(shown, ax=right, label="median beyond what is expected, in sds of the noise")
figure.suptitle("Six months of new tumours under a saved model", fontweight="bold")
plt.show()
