"""
======================================================
How many kinds of features? A search reads at a glance
======================================================

``BasisDeVAEClusterer`` sorts features by what they do along the axis. How many kinds it should tell apart (K) is a
question for samples that it has not seen. Their log-likelihood rises with K while more kinds describe the table better,
and hardly changes after that. Of values that scores cannot tell apart the simplest is the one to take: the
one-standard-error rule.
"""

# %%
# The table
# ---------
# 150 simulated samples of 15 features. Five rise, five fall, and five come and go, so three kinds are right.

from skdevae.datasets import make_progression

table = make_progression(
    150, n_transient=5, n_increasing=5, n_decreasing=5, noise=0.2, as_frame=True, random_state=0
)  # fmt: skip

# %%
# A pipeline, and a search with two scorers
# -----------------------------------------
# K kinds are the first K of increasing, decreasing, transient and flat. Beside K, the search varies ``alpha``, the
# concentration of the prior of the kinds. Everything happens in a Pipeline, so that each fold is standardised by its
# own training samples.
#
# The first scorer is the log-likelihood of held-out samples. Because the truth is known here, a second one can say how
# well features are sorted. With a table of your own you would leave it out.

from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skdevae import BasisDeVAEClusterer
from skdevae.metrics import feature_clustering_scorer

clusterer = BasisDeVAEClusterer(n_grid_points=33, max_epochs=40, random_state=0)
pipeline = Pipeline([("scale", StandardScaler()), ("clusterer", clusterer)])


def log_likelihood(pipeline, X, y=None):
    """Log-likelihood of held-out samples, in nats per sample, in the units that the pipeline's scaler gives them."""
    return pipeline.score(X)


truth = dict(zip(table.data.columns, table.labels, strict=True))
search = GridSearchCV(
    pipeline,
    {"clusterer__n_clusters": [1, 2, 3, 4], "clusterer__alpha": [0.1, 10.0]},
    scoring={"log-likelihood": log_likelihood, "adjusted Rand index": feature_clustering_scorer(truth)},
    cv=KFold(3, shuffle=True, random_state=0),
    refit=False,
)
search.fit(table.data)

# %%
# What to choose
# --------------
# ``KSelectionDisplay`` draws the mean over the folds, with its standard error, for each scorer. It marks the best
# candidate, and the simplest one within one standard error of the best.

import matplotlib.pyplot as plt

from skdevae.display import KSelectionDisplay

display = KSelectionDisplay.from_cv_results(search)

# %%
# ``scores`` is the table behind the figure. The rule compares means by the standard error of the best one. With
# ``paired=True`` it would compare differences fold by fold, which is stricter where folds differ much.

scores = display.scores.query("scorer == 'log-likelihood'")
print(scores.pivot(index="value", columns="line", values="mean").rename_axis("K", columns="alpha").round(2).to_string())
chosen = scores[scores["is_chosen"]].iloc[0]
print(f"simplest within one standard error: K={chosen['value']}, alpha={chosen['line']}")

# %%
# The features, sorted
# --------------------
# The pipeline with the chosen parameters is fitted to all samples. ``feature_labels`` names a behaviour only where its
# probability is at least 0.8; the others are uncertain.

import pandas as pd

pipeline.set_params(clusterer__n_clusters=int(chosen["value"]), clusterer__alpha=float(chosen["line"]))
pipeline.fit(table.data)
found = pd.Series(pipeline[-1].feature_labels(), name="found")
truly = pd.Series([table.label_names[label] for label in table.labels], name="truly")
print(pd.crosstab(truly, found).to_string())

plt.show()
