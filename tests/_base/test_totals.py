"""The warning where an axis of counts is how many counts there are."""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp

from skdevae import DeVAETransformer

RANDOM = np.random.default_rng(0)
DEPTHS = np.exp(RANDOM.normal(size=150))
#: no biology at all: the same shares in every sample
DEEP = RANDOM.poisson(8 * DEPTHS[:, None] * np.ones(12)).astype(float)
Z = RANDOM.normal(size=150)
#: half of the features rise, half fall
BALANCED = RANDOM.poisson(np.exp(2 + Z[:, None] * np.repeat([0.6, -0.6], 6))).astype(float)


def fit(table, **facts):
    return DeVAETransformer(likelihood="poisson", max_epochs=20, random_state=0).fit(table, **facts)


@pytest.mark.parametrize("stored", [np.asarray, sp.csr_array], ids=["dense", "sparse"])
def test_an_axis_of_totals_is_told(stored):
    with pytest.warns(UserWarning, match=r"orders samples by their total counts \(rank correlation (0\.9\d+|1\.000)\)"):
        fit(stored(DEEP))


@pytest.mark.filterwarnings("ignore:No axis was found")
def test_nothing_is_told_where_sizes_are_given_or_totals_decide_nothing():
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="The axis orders")
        fit(DEEP, size_factors=DEPTHS)
        fit(DEEP, size_factors=np.ones(150))
        fit(BALANCED)


def test_samples_of_weight_zero_have_no_say():
    table, weight = np.concatenate([BALANCED, DEEP]), np.repeat([1.0, 0.0], 150)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="The axis orders")
        fit(table, sample_weight=weight)
