"""The most probable component is what draws say, whether or not it takes draws to tell."""

import numpy as np
import pytest
import torch
from inference.random_models import random_model, random_table, source_of

from skdevae.inference import LaplaceInference

N, K, Q = 60, 3, 2


def _inference(spread, k=K):
    model = random_model("mixture", "gaussian", n_components=Q, hidden=(4,), n_mixture_components=k)
    with torch.no_grad():
        model.mixture.means.mul_(spread)
    return LaplaceInference(model, 512)


@pytest.mark.parametrize("spread", [0.5, 1.0, 6.0])
def test_labels_are_those_of_all_draws(spread):
    source = source_of(random_table("gaussian", N, missing=0.3))
    labels, is_open = _inference(spread).labels(source)
    shares = _inference(spread).responsibilities(source, warns=False)
    assert torch.equal(labels, shares.argmax(1))
    # Of the others, the first leads by more than draws err.
    first, second = shares.topk(2, dim=1).values[~is_open].T
    assert (first - second > 0.1).all()
    assert (~is_open).any()


def test_rows_of_a_known_component_are_judged_by_their_entries():
    table = random_table("gaussian", N)
    known = source_of(table, component=np.zeros(N, dtype=int))
    for mine, theirs in zip(_inference(1.0).labels(known), _inference(1.0).labels(source_of(table)), strict=True):
        assert torch.equal(mine, theirs)


def test_one_component_has_all_rows():
    labels, is_open = _inference(1.0, k=1).labels(source_of(random_table("gaussian", N)))
    assert not labels.any()
    assert not is_open.any()


def test_a_row_without_entries_belongs_to_the_largest_component():
    """Not to the one whose density is highest somewhere."""
    inference = _inference(6.0)
    mixture = inference.model.mixture
    weights, sds = torch.tensor([0.2, 0.5, 0.3]).double(), torch.full((K, Q), 1.0).double()
    sds[2] = 0.1
    mixture.set_(weights, mixture.means.clone(), sds)
    table = random_table("gaussian", 5)
    table[3] = np.nan
    labels, is_open = LaplaceInference(inference.model, 512).labels(source_of(table))
    assert labels[3] == 1
    assert not is_open[3]
