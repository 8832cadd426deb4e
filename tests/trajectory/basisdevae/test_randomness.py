"""Randomness of BasisDeVAEClusterer: the same table, seed, machine and number of threads give the same bits."""

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from by_hand import assert_same_bits
from numpy.testing import assert_array_equal
from sklearn.base import clone
from trajectory.basisdevae.cases import INFERENCES, counts, fitted, progression, quick, table_for


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_same_seed_same_bits(likelihood, inference):
    table = table_for(likelihood)
    assert_same_bits(quick(likelihood=likelihood, inference=inference).fit(table), fitted(likelihood, inference), table)


def test_refitting_forgets_the_last_fit():
    table = progression().data
    model = quick(max_epochs=3).fit(counts(n_features=10)).set_params(max_epochs=12)
    assert_same_bits(model.fit(table), fitted(), table)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("inference", INFERENCES)
def test_fits_in_threads_equal_fits_in_sequence(inference):
    table = progression().data
    estimators = [quick(inference=inference, random_state=seed) for seed in (0, 1)]
    in_sequence = [fitted(inference=inference), clone(estimators[1]).fit(table)]
    with ThreadPoolExecutor(2) as pool:
        at_once = list(pool.map(lambda estimator: clone(estimator).fit(table), estimators))
    for one, other in zip(in_sequence, at_once, strict=True):
        assert_same_bits(one, other, table)


@pytest.mark.parametrize("inference", INFERENCES)
def test_global_generators_are_left_alone(inference):
    table = progression().data
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    model = quick(inference=inference, n_init=2, early_stopping=True, max_epochs=5).fit(table)
    model.transform(table)
    model.score(table)
    model.elbo(table)
    model.predict_features(table)
    model.sample(3, random_state=0)
    model.trajectories([0.0])
    after = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert_array_equal(before[1][1], after[1][1])
    assert before[1][2:] == after[1][2:]
    assert before[2] == after[2]


def test_global_generators_are_not_read():
    table = progression().data
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    one = quick().fit(table)
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    assert_same_bits(quick().fit(table), one, table)


def test_a_random_state_is_used_up_as_scikit_learn_does():
    table = progression().data
    state = np.random.RandomState(0)
    one, other = (quick(random_state=state, max_epochs=5).fit(table) for _ in range(2))
    assert (one.transform(table) != other.transform(table)).any()


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("inference", INFERENCES)
def test_more_starts_never_lower_the_bound(inference):
    several = quick(inference=inference, n_init=2).fit(progression().data)
    assert several.lower_bound_ >= fitted(inference=inference).lower_bound_
