"""
=====================================================
A search over two parameters with Optuna, and pruning
=====================================================

How many behaviours, and how strongly should features be drawn into the same one? ``GridSearchCV`` tries every pair of
values. Optuna chooses the next pair by those that it has seen, and gives up on a pair whose first folds are poor. What
is compared is the log-likelihood of samples that the fit has not seen.

It needs the package optuna, and says so where that is missing::

    python examples/plot_optuna_search.py
"""

# %%
# 1. A table of which the answer is known
# ---------------------------------------
#
# Of sixteen features six rise, five fall and five come and go along a hidden time.

import importlib.util
import sys

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import KFold

from skdevae import BasisDeVAEClusterer
from skdevae.datasets import make_progression

if importlib.util.find_spec("optuna") is None:
    print("This example needs optuna: pip install optuna")
    sys.exit()

import optuna

table = make_progression(150, n_increasing=6, n_decreasing=5, n_transient=5, noise=0.2, random_state=0)

# %%
# 2. What a trial is
# ------------------
#
# One fit for each fold. After each, the mean until then is reported, and Optuna may give the trial up there. The first
# behaviours are rising and falling, the third is coming and going, the fourth is being flat and the fifth is a dip.


def objective(trial):
    """Held-out log-likelihood, in nats per sample, of one choice of parameters."""
    parameters = {
        "n_clusters": trial.suggest_int("n_clusters", 1, 5),
        "alpha": trial.suggest_float("alpha", 0.05, 20, log=True),
    }
    scores = []
    for fold, (seen, held_out) in enumerate(KFold(3, shuffle=True, random_state=0).split(table.data)):
        model = BasisDeVAEClusterer(max_epochs=20, random_state=0, **parameters).fit(table.data[seen])
        scores.append(model.score(table.data[held_out]))
        trial.report(np.mean(scores), fold)
        if trial.should_prune():
            raise optuna.TrialPruned
    return np.mean(scores)


# %%
# 3. The search
# -------------
#
# Seeds of the sampler and of the fits make the search the same each time.

optuna.logging.set_verbosity(optuna.logging.WARNING)
study = optuna.create_study(
    direction="maximize",
    sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=6),
    pruner=optuna.pruners.PercentilePruner(75, n_startup_trials=4),
)
study.optimize(objective, n_trials=12)
finished = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
print(f"{len(study.trials)} trials, of which {len(study.trials) - len(finished)} were given up early")
print("best:", study.best_params, f"{study.best_value:.2f} nats per sample")
for number in sorted({trial.params["n_clusters"] for trial in finished}):
    highest = max(trial.value for trial in finished if trial.params["n_clusters"] == number)
    print(f"{number} behaviours: {highest:.2f}")

# %%
# 4. The best of them, fitted to all samples
# ------------------------------------------

best = BasisDeVAEClusterer(max_epochs=20, random_state=0, **study.best_params).fit(table.data)
for cluster, name in enumerate(best.cluster_names_):
    print(f"{name:11} {np.sum(best.labels_ == cluster)} features")

# %%
# 5. The figure
# -------------
#
# On the left, a line is a trial: the mean over folds until then. Trials with one behaviour cannot describe features
# that fall, and end with the first fold. On the right, where trials were. ``alpha`` hardly matters, for 150 samples say
# clearly which behaviour they have. Optuna takes the highest score, however close the next ones are.
# Here three behaviours are as good to a tenth of a nat, and no feature takes the others: a reader is better served by
# three.

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
colors = dict(zip(range(1, 6), plt.get_cmap("viridis")(np.linspace(0, 0.95, 5)), strict=True))
for trial in study.trials:
    number, alpha = trial.params["n_clusters"], trial.params["alpha"]
    marker, size = ("o", 60) if trial in finished else ("X", 70)
    folds = sorted(trial.intermediate_values)
    means = [trial.intermediate_values[fold] for fold in folds]
    left.plot(np.add(folds, 1), means, color=colors[number], alpha=0.8)
    left.scatter(folds[-1] + 1, means[-1], s=size, marker=marker, color=colors[number], zorder=3)
    right.scatter(alpha, number, s=1.5 * size, marker=marker, color=colors[number], zorder=3)
best_place = study.best_params["alpha"], study.best_params["n_clusters"]
right.scatter(*best_place, s=260, facecolors="none", edgecolors="#d55e00")
left.set(xlabel="folds", ylabel="held-out nats per sample", title="Trials, fold by fold", xticks=[1, 2, 3])
right.set(xlabel="alpha", ylabel="n_clusters", title="Where they were", xscale="log", yticks=range(1, 6))
right.scatter([], [], marker="o", color="0.4", label="finished")
right.scatter([], [], marker="X", color="0.4", label="given up early")
right.scatter([], [], s=120, facecolors="none", edgecolors="#d55e00", label="best")
right.legend(loc="lower left", bbox_to_anchor=(0.0, 0.22))
for number, color in colors.items():
    left.plot([], [], color=color, label=f"{number} behaviour" + "s" * (number > 1))
left.legend(loc="lower right")
plt.show()
