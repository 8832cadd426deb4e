"""Counts of make_progression_counts have the density, dispersion and behaviour that are asked for."""

import tracemalloc

import numpy as np
import pytest
from scipy import sparse

from skdevae.datasets import _sparse_counts, make_progression_counts


@pytest.mark.parametrize(("density", "dispersion"), [(0.02, 2.0), (0.11, 2.0), (0.11, 0.3), (0.6, 10.0)])
def test_density_is_near_the_target(density, dispersion):
    data = make_progression_counts(1000, 600, density=density, dispersion=dispersion, random_state=0).data
    assert data.nnz / (1000 * 600) == pytest.approx(density, rel=0.05)


def test_counts_are_a_clean_csr_array_of_whole_numbers():
    progression = make_progression_counts(random_state=0)
    assert isinstance(progression.data, sparse.csr_array)
    assert progression.data.shape == (1000, 500)
    assert progression.data.dtype == np.float32
    assert progression.data.has_canonical_format
    assert (progression.data.data >= 1).all()
    np.testing.assert_array_equal(progression.data.data, np.floor(progression.data.data))
    assert progression.dispersion == 2.0


@pytest.mark.parametrize("n_features", [1, 2, 3, 100])
def test_behaviours_are_balanced(n_features):
    labels = make_progression_counts(10, n_features, random_state=0).labels
    numbers = np.bincount(labels, minlength=3)
    assert numbers.sum() == n_features
    assert np.ptp(numbers) <= 1


def test_counts_follow_time_as_labelled():
    progression = make_progression_counts(4000, 90, density=0.9, dispersion=50.0, random_state=0)
    in_time = progression.data.toarray()[np.argsort(progression.times)]
    stages = np.log(in_time.reshape(40, 100, 90).mean(1) + 1e-3)
    label_of = {name: label for label, name in enumerate(progression.label_names)}
    increasing, decreasing, transient = (
        stages[:, progression.labels == label_of[name]] for name in ("increasing", "decreasing", "transient")
    )
    assert (increasing[-1] > increasing[20]).all()
    assert (increasing[20] > increasing[0]).all()
    assert (decreasing[-1] < decreasing[20]).all()
    assert (decreasing[20] < decreasing[0]).all()
    assert (transient.max(0) > np.maximum(transient[0], transient[-1]) + 0.3).all()


@pytest.mark.parametrize("dispersion", [0.5, 2.0])
def test_counts_have_the_given_dispersion(dispersion):
    progression = make_progression_counts(6000, 60, density=0.5, dispersion=dispersion, random_state=0)
    in_time = progression.data.toarray()[np.argsort(progression.times)].astype(float)
    # Neighbours in time are two independent draws with almost the same mean.
    first, second = in_time[0::2], in_time[1::2]
    variance = ((first - second) ** 2 / 2).mean(0)
    mean, square_of_mean = in_time.mean(0), (first * second).mean(0)
    frequent = mean > 1
    overdispersion = np.median((variance - mean)[frequent] / square_of_mean[frequent])
    assert overdispersion == pytest.approx(1 / dispersion, rel=0.15)


def test_counts_do_not_depend_on_the_block_size(monkeypatch):
    whole = make_progression_counts(100, 30, random_state=0).data
    monkeypatch.setattr(_sparse_counts, "_BLOCK_SIZE", 7 * 30)
    assert (whole != make_progression_counts(100, 30, random_state=0).data).nnz == 0


def test_memory_is_that_of_the_nonzero_counts(monkeypatch):
    monkeypatch.setattr(_sparse_counts, "_BLOCK_SIZE", 2**15)
    make_progression_counts(10, 10, random_state=0)
    tracemalloc.start()
    data = make_progression_counts(2000, 1500, density=0.05, random_state=0).data
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert data.nnz > 0
    assert peak < 2000 * 1500 * 4


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_features": 0}, "'n_features' parameter of make_progression_counts"),
        ({"density": 0.0}, "'density' parameter of make_progression_counts"),
        ({"density": 1.0}, "'density' parameter of make_progression_counts"),
        ({"dispersion": 0.0}, "'dispersion' parameter of make_progression_counts"),
        ({"density": 0.999, "dispersion": 0.1}, r"cannot reach density=0\.999 with dispersion=0\.1.*Lower density"),
    ],
)
def test_bad_parameters_of_counts(parameters, message):
    with pytest.raises(ValueError, match=message):
        make_progression_counts(**parameters)
