"""DGDEmbedder: neither the order of samples nor their repetition matters, and seeds alone decide."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
import torch
from agreement import assert_agree
from embedding.dgd_cases import (
    assert_same_bits,
    assert_same_fit,
    assert_same_model,
    blobs,
    fitted,
    fitted_to_gaps,
    holey,
    quick,
    table_for,
    wrapped,
)
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("dense", {}),
        ("dense", {"representation": "variational", "mixture_init": "kmeans"}),
        ("dense", {"latent_init": "zero", "mixture_init": "softball"}),
        ("frame", {}),
        ("gaps", {}),
        ("sparse", {"likelihood": "nb"}),
        ("gaps", {"likelihood": "nb"}),
    ],
)
def test_the_order_of_samples_does_not_matter(kind, parameters):
    likelihood = parameters.get("likelihood", "gaussian")
    table = holey(likelihood) if kind == "gaps" else table_for(likelihood)
    order = np.random.default_rng(0).permutation(len(table))
    one = quick(max_epochs=3, **parameters).fit(wrapped(kind, table))
    other = quick(max_epochs=3, **parameters).fit(wrapped(kind, table[order]))
    assert_same_fit(one, other, order)


def test_the_order_of_samples_with_sizes_does_not_matter():
    table, sizes = table_for("poisson"), np.random.default_rng(3).uniform(0.2, 5, 120)
    order = np.random.default_rng(0).permutation(120)
    model = quick(likelihood="poisson", max_epochs=3)
    one = clone(model).fit(table, size_factors=sizes)
    other = clone(model).fit(table[order], size_factors=sizes[order])
    assert_same_fit(one, other, order)


def test_the_order_of_samples_with_classes_and_weights_does_not_matter():
    table, y = blobs()
    order, weights = np.random.default_rng(0).permutation(len(table)), np.random.default_rng(1).integers(1, 4, 120)
    y = np.where(np.arange(120) % 3 == 0, -1, y)
    model = quick(supervised=True, max_epochs=3)
    one = clone(model).fit(table, y, sample_weight=weights)
    other = clone(model).fit(table[order], y[order], sample_weight=weights[order])
    assert_same_fit(one, other, order)


def test_the_order_of_samples_without_weight_does_not_matter():
    table, weights = blobs()[0], np.random.default_rng(1).integers(0, 3, 120)
    one = quick(max_epochs=3).fit(table, sample_weight=weights)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(120)
        other = quick(max_epochs=3).fit(table[order], sample_weight=weights[order])
        assert_same_fit(one, other, order)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize(
    ("likelihood", "parameters"),
    [("gaussian", {}), ("gaussian", {"representation": "variational"}), ("nb", {}), ("nb", {"size_factors": None})],
)
def test_weights_are_repetitions(likelihood, parameters):
    def model():
        return quick(likelihood=likelihood, max_epochs=3, **parameters)

    table, weights = holey(likelihood), np.random.default_rng(0).integers(0, 4, 120)
    weighted = model().fit(table, sample_weight=weights)
    repeated = model().fit(np.repeat(table, weights, axis=0))
    assert_same_fit(weighted, repeated, np.repeat(np.arange(120), weights))
    assert_agree(weighted.score_samples(table), repeated.score_samples(table), computed_in=np.float32)
    # samples without weight are new ones to the model
    without = weights == 0
    removed = model().fit(table[~without], sample_weight=weights[~without])
    assert_same_fit(weighted, removed, ~without)
    assert_allclose(weighted.embedding_[without], weighted.transform(table[without]), rtol=0, atol=1e-8)
    assert_array_equal(weighted.labels_[without], weighted.predict(table[without]))


def test_equal_samples_have_equal_representations():
    table = np.vstack([blobs()[0], blobs()[0][:20]])
    model = quick(max_epochs=3).fit(table)
    assert_array_equal(model.embedding_[120:], model.embedding_[:20])
    # and zeros have no sign
    table = np.where(np.arange(6) == 0, 0.0, blobs()[0])
    table[5, 0] = 1.0
    assert_same_bits(quick(max_epochs=2).fit(table), quick(max_epochs=2).fit(np.where(table == 0, -0.0, table)))


def test_gaps_have_no_sign():
    # NaN that came from 0 / 0, or through a minus, is no other NaN
    table = np.vstack([holey(), holey()[:10]])
    other = np.where(np.isnan(table), -np.nan, table)
    other[120:] = table[120:]
    assert_same_bits(quick(max_epochs=2).fit(table), quick(max_epochs=2).fit(other))


def test_weights_of_one_are_no_weights_and_others_are():
    table = blobs()[0]
    assert_same_bits(fitted(), quick().fit(table, sample_weight=np.ones(120)), table[:5])
    heavy = quick().fit(table, sample_weight=np.where(blobs()[1] == 2, 5.0, 1.0))
    assert heavy.labels_[blobs()[1] == 2].max() == 0  # 20 samples that count as 100 are the largest cluster


@pytest.mark.parametrize("weights", [np.zeros(120), -np.ones(120), np.ones(7)], ids=["zero", "negative", "few"])
def test_weights_are_validated(weights):
    with pytest.raises(ValueError, match=r"[Ss]ample.weight|[Nn]egative"):
        quick().fit(blobs()[0], sample_weight=weights)


def test_a_column_that_only_samples_without_weight_have_teaches_nothing():
    table, weights = blobs()[0].copy(), np.arange(120) >= 5
    table[5:, 2] = np.nan
    with pytest.warns(UserWarning, match="column 2: no entry is observed"):
        without = quick().fit(table[5:])
    with pytest.warns(UserWarning, match="column 2: no entry is observed"):
        with_them = quick().fit(table, sample_weight=weights.astype(float))
    assert_agree(with_them.transform(table), without.transform(table))


# ---- seeds ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("parameters", [{}, {"representation": "variational"}, {"mixture_init": "softball"}], ids=str)
def test_same_seed_same_bits(parameters):
    table, torch_state = holey(), torch.get_rng_state()
    numpy_state = np.random.get_state()  # noqa: NPY002 - it is the global state that has to stay as it is
    one = fitted_to_gaps(**parameters)
    torch.manual_seed(7)
    assert_same_bits(one, quick(**parameters).fit(table), table[:20])
    torch.set_rng_state(torch_state)
    other = quick(random_state=1, **parameters).fit(table)
    assert (other.embedding_ != one.embedding_).any()
    one.sample(3, random_state=0)
    one.score_samples(table[:5])
    one.elbo(table[:5])
    assert_array_equal(torch.get_rng_state(), torch_state)
    for ours, theirs in zip(np.random.get_state(), numpy_state, strict=True):  # noqa: NPY002 - as above
        assert_array_equal(ours, theirs)


@cache
def seeded(seed):
    return quick(random_state=seed, max_epochs=3).fit(blobs()[0])


def test_fits_in_threads_do_not_mix():
    seeds = (0, 1, 2, 3)
    alone = [seeded(seed) for seed in seeds]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(seeded.__wrapped__, seeds))
    for one, other in zip(alone, together, strict=True):
        assert_same_bits(one, other)


# ---- classes and the order of samples --------------------------------------------------------------------------------


def test_classes_that_only_samples_without_weight_have_are_removed():
    table, y = blobs()
    removed = quick(supervised=True, max_epochs=3).fit(table[y != 1], y[y != 1])
    weighted = quick(supervised=True, max_epochs=3).fit(table, y, sample_weight=y != 1)
    assert_array_equal(weighted.classes_, removed.classes_)
    assert_same_model(removed, weighted)
    with pytest.raises(ValueError, match="y does not name the class of any sample"):
        quick(supervised=True).fit(table, np.where(y == 1, -1, y), sample_weight=y == 1)
