"""Tables and fitted models that tests of BasisDeVAEClusterer share. They must not change what they are given."""

from functools import cache

import numpy as np
from sklearn.metrics import adjusted_rand_score

from skdevae import BasisDeVAEClusterer
from skdevae.datasets import make_progression, make_progression_counts

INFERENCES = ("exact", "amortized")


def quick(**parameters):
    """An estimator for laws that hold however long it trains."""
    return BasisDeVAEClusterer(**{"max_epochs": 12, "random_state": 0, **parameters})


@cache
def progression(n_samples=100, n_transient=4, n_increasing=3, n_decreasing=3, seed=0):
    """A small table for laws."""
    return make_progression(
        n_samples, n_transient=n_transient, n_increasing=n_increasing, n_decreasing=n_decreasing, random_state=seed
    )


@cache
def simulation():
    """The paper's simulation, with fewer samples and features: a table of which the truth can be recovered."""
    return make_progression(200, n_transient=12, n_increasing=6, n_decreasing=6, random_state=0)


@cache
def progression_counts(n_features=12):
    return make_progression_counts(100, n_features, density=0.5, random_state=0)


@cache
def counts(likelihood="nb", n_features=12):
    table = progression_counts(n_features).data.toarray().astype(np.float64)
    return np.minimum(table, 1) if likelihood == "bernoulli" else table


def table_for(likelihood):
    return progression().data if likelihood == "gaussian" else counts(likelihood)


def hidden_times(likelihood):
    return progression().times if likelihood == "gaussian" else progression_counts().times


@cache
def fitted(likelihood="gaussian", inference="exact"):
    """To the small table of a likelihood."""
    return quick(likelihood=likelihood, inference=inference).fit(table_for(likelihood))


def thorough(**parameters):
    """An estimator that finds the truth of :func:`simulation`."""
    return BasisDeVAEClusterer(**{"max_epochs": 40, "random_state": 0, **parameters})


@cache
def fitted_to_the_simulation(seed=0):
    return thorough(random_state=seed).fit(simulation().data)


def truth_positions(truth):
    """The simulation's labels as positions in the default behaviours."""
    names = np.array(["increasing", "decreasing", "transient"])
    return np.array([np.flatnonzero(names == truth.label_names[label])[0] for label in truth.labels])


def mirrored(labels):
    """Labels on the reversed axis, for increasing, decreasing, transient and flat."""
    return np.array([1, 0, 2, 3])[labels]


def agreement(labels, others):
    return adjusted_rand_score(labels, others)


def replaced(table, row, column, value):
    table = table.astype(np.float64, copy=True)
    table[row, column] = value
    return table
