"""
===============================================================
Blood, pressure and breath: an axis of ageing, whatever the sex
===============================================================

Blood tests, blood pressure and lung function change over a life. They also differ between men and women, and in such a
table the strongest axis may say who is a woman rather than who is old. Here sex is a covariate: the model knows it, and
the axis need not say it. The axis is found without ages, which are only used to orient it and to judge it. Then tests
are put into the order in which they change.
"""

# %%
# The table
# ---------
# 800 adults of NHANES 2007-2010, a survey of the population of the United States, if the file lies beside the project.
# Elsewhere people are made up, whose tests change with age and differ between men and women. Some entries are missing:
# most of all the breathing test (FEV1), which not everyone is asked to do.

from pathlib import Path

import numpy as np
import pandas as pd

tests = [
    "albumin", "bun", "creatinine", "hba1c", "uric_acid", "rbc", "rdw", "pulse_pressure", "waist", "fev1_ml",
]  # fmt: skip
places = [folder / "shared" / "data" / "nhanes_biomarkers.csv.gz" for folder in Path.cwd().parents]
found = [path for path in places if path.exists()]
if found:
    people = pd.read_csv(found[0]).sample(800, random_state=0, ignore_index=True)
    people["sex"] = people["sex"].map({1: "man", 2: "woman"})
else:
    random = np.random.default_rng(0)
    people = pd.DataFrame({"age": random.uniform(20, 80, 800), "sex": random.choice(["man", "woman"], 800)})
    ageing = people["age"].to_numpy() + random.normal(0, 8, 800)
    middle, effect, of_sex = random.uniform(35, 75, 10), random.choice([-1, 1], 10), random.normal(0, 0.6, 10)
    is_woman = (people["sex"] == "woman").to_numpy()
    expected = 2 * effect / (1 + np.exp(-0.12 * (ageing[:, None] - middle))) + of_sex * is_woman[:, None]
    people[tests] = 10 + expected + random.normal(0, 0.8, expected.shape)
    people.loc[random.random(800) < 0.2, "fev1_ml"] = np.nan

age, X = people["age"], people[["sex", *tests]]
print(f"{len(X)} people, {len(tests)} tests, {'measured' if found else 'made up'}")
print(f"missing: {X.isna().mean().mean():.1%} of all entries, {X['fev1_ml'].isna().mean():.1%} of FEV1")

# %%
# With and without the covariate
# ------------------------------
# ``covariates`` names the column that conditions. What it adds to each test is part of the model, and
# ``orientation`` points the axis towards older people. Missing entries stay NaN and drop out of the likelihood.

from skdevae import BasisDeVAEClusterer

settings = {"n_grid_points": 65, "max_epochs": 80, "random_state": 0}  # half of the defaults, to save time
given_sex = BasisDeVAEClusterer(covariates=["sex"], **settings).fit(X, orientation=age)
without = BasisDeVAEClusterer(**settings).fit(X[tests], orientation=age)
positions = {"sex not given": without.transform(X[tests])[:, 0], "sex given": given_sex.transform(X)[:, 0]}

# %%
# On an axis that is not told of sex, men and women stand in different places. The number that compares them is the
# probability that a woman drawn at random stands farther along than a man; it is 0.5 if sex plays no part.

import matplotlib.pyplot as plt
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

colors = {"woman": "#C44E00", "man": "#0072B2"}
figure, axes = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained")
for (name, position), ax in zip(positions.items(), axes, strict=True):
    for sex, color in colors.items():
        inside = X["sex"] == sex
        ax.scatter(age[inside], position[inside], s=6, color=color, alpha=0.35, linewidth=0)
        decades = pd.Series(position[inside]).groupby((age[inside].to_numpy() // 10).clip(max=7) * 10 + 5).median()
        ax.plot(decades.index, decades, color=color, linewidth=2.5, marker="o", label=sex)
    ax.set_title(
        f"{name}: Spearman with age {spearmanr(position, age)[0]:.2f}\n"
        f"P(woman farther than man) {roc_auc_score(X['sex'] == 'woman', position):.2f}",
        loc="left",
        fontsize=10,
    )
    ax.set_xlabel("age (years), which no model has fitted")
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set_ylabel("position on the latent axis")
axes[0].legend(title="medians by decade", frameon=False, fontsize=8, title_fontsize=8)

# %%
# What sex adds
# -------------
# Effects are in the units of each test: what a woman has more than a man at the same place of the axis. Standard errors
# account for curves and positions that are estimated as well.

effects = pd.DataFrame(
    {
        "effect": given_sex.covariate_effects_.iloc[:, 0],
        "standard error": given_sex.covariate_standard_errors_.iloc[:, 0],
    }
)
print(given_sex.covariate_effects_.columns[0])
largest = (effects["effect"] / effects["standard error"]).abs().nlargest(6).index
print(effects.loc[largest].to_string(float_format="{:.3g}".format))

# %%
# What the tests do along the axis
# --------------------------------
# Changes are those of a person of average sex, in the units of each test.

from skdevae.inspection import bootstrap, event_order, feature_table

replicates = bootstrap(given_sex, X, n_bootstrap=15, random_state=0)
table = feature_table(given_sex, X, replicates=replicates)
columns = ["behaviour", "probability", "direction", "change", "change lower", "change upper", "explained variance"]
print(table[columns].to_string(float_format="{:.3g}".format))

# %%
# Curves of the six tests that the axis explains best, each in its own units, with those who were measured.

from skdevae.display import EventOrderDisplay, TrajectoryDisplay

best = table["explained variance"].nlargest(6).index
TrajectoryDisplay.from_estimator(
    given_sex, X, features=list(best), panels="feature", axis_label="latent axis, towards older people"
)

# %%
# In which order
# --------------
# Left: the share of the people who stand before the place where a test has made half of its change, with intervals of
# 95 %. Right: the probability of each rank. Long intervals are an answer, too: of tests that change slowly over the
# whole axis, one cannot say when they change.

order = event_order(given_sex, X, replicates=replicates)
changing = [name for name in order.order if table.loc[name, "explained variance"] > 0.05]
EventOrderDisplay.from_event_order(order, features=changing)

# %%
# An order along an axis compares people of one time, and does not follow anyone. Where it matters that the survey has
# drawn some people with a higher probability than others, their weights go to ``fit(X, sample_weight=...)``.

plt.show()
