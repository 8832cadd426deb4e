"""Tables and fitted models that tests of DeVAETransformer share. They must not change what they are given."""

from functools import cache

import numpy as np
import pandas as pd
from by_hand import LIKELIHOODS

from skdevae import DeVAETransformer
from skdevae.datasets import make_progression, make_progression_counts

#: a name for each way to infer that the laws are tried on
WAYS = {
    "exact": {},
    "exact, two components": {"n_components": 2, "n_grid_points": 33},
    "amortized": {"inference": "amortized"},
    "amortized, three components": {"n_components": 3, "n_importance_samples": 50},
}
EXACT = ("exact", "exact, two components")
#: those whose fits are quick: for laws about fits
QUICK_WAYS = (*EXACT, "amortized")
#: every likelihood, and every way with the likelihoods that differ most there
CASES = [
    *((likelihood, "exact") for likelihood in LIKELIHOODS),
    *((likelihood, "exact, two components") for likelihood in ("gaussian", "zinb")),
    *((likelihood, "amortized") for likelihood in ("gaussian", "nb", "bernoulli")),
    ("gaussian", "amortized, three components"),
]
COUNT_CASES = [case for case in CASES if case[0] != "gaussian"]


def quick(**parameters):
    """An estimator for laws that hold however long it trains."""
    return DeVAETransformer(**{"max_epochs": 10, "random_state": 0, **parameters})


@cache
def progression():
    """Three features that rise and three that fall, after two that come and go."""
    return make_progression(80, n_transient=2, n_increasing=3, n_decreasing=3, random_state=0)


def frame():
    return pd.DataFrame(progression().data, columns=progression().feature_names)


@cache
def signs():
    names = np.array(progression().label_names)[progression().labels]
    return np.select([names == "increasing", names == "decreasing"], [1, -1], 0)


@cache
def counts(likelihood="nb", n_features=6):
    table = make_progression_counts(80, n_features, density=0.5, random_state=0).data.toarray().astype(np.float64)
    return np.minimum(table, 1) if likelihood == "bernoulli" else table


def table_for(likelihood):
    return progression().data if likelihood == "gaussian" else counts(likelihood)


@cache
def fitted(likelihood="gaussian", way="exact"):
    return quick(likelihood=likelihood, **WAYS[way]).fit(table_for(likelihood))


@cache
def two_monotone_components(likelihood):
    """A model of two components along which every feature rises, or falls, so that posteriors have one mode."""
    table = table_for(likelihood)
    constraint = np.resize([1, -1], table.shape[1])
    return quick(n_components=2, n_grid_points=33, likelihood=likelihood, monotonic_cst=constraint, max_epochs=40).fit(
        table
    )
