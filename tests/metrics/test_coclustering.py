"""Probabilities that features share a cluster, from one clustering or from several restarts."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skdevae.metrics import coclustering_matrix


@st.composite
def responsibility_arrays(draw):
    n_features, n_clusters = draw(st.integers(1, 8)), draw(st.integers(1, 5))
    seed, concentration = draw(st.integers(0, 2**31)), draw(st.sampled_from([0.1, 1.0, 10.0]))
    return np.random.default_rng(seed).dirichlet(np.full(n_clusters, concentration), size=n_features)


@settings(max_examples=50)
@given(responsibility_arrays())
def test_coclustering_is_a_matrix_of_probabilities(responsibilities):
    matrix = coclustering_matrix(responsibilities)
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_array_equal(np.diag(matrix), 1)
    assert matrix.min() >= 0
    assert matrix.max() <= 1
    relabelled = coclustering_matrix(responsibilities[:, ::-1])
    np.testing.assert_allclose(relabelled, matrix, atol=1e-12)
    np.testing.assert_allclose(coclustering_matrix(responsibilities[::-1]), matrix[::-1, ::-1], atol=1e-12)
    np.testing.assert_allclose(coclustering_matrix([responsibilities, responsibilities]), matrix, atol=1e-12)


def test_coclustering_is_the_chance_of_drawing_the_same_cluster():
    random = np.random.default_rng(0)
    responsibilities = random.dirichlet(np.ones(3), size=2)
    draws = [random.choice(3, size=20_000, p=row) for row in responsibilities]
    assert coclustering_matrix(responsibilities)[0, 1] == pytest.approx((draws[0] == draws[1]).mean(), abs=0.02)


def test_labels_are_certain_responsibilities():
    labels = np.array([2, 0, 2, 1])
    np.testing.assert_array_equal(coclustering_matrix(labels), labels[:, None] == labels)
    named = np.array(["c", "a", "c", "b"])
    np.testing.assert_array_equal(coclustering_matrix(named), labels[:, None] == labels)


def test_restarts_are_averaged_in_any_form():
    labels = np.array([0, 0, 1, 1, 0, 1])
    clusterer = SimpleNamespace(responsibilities_=np.eye(2)[labels])
    np.testing.assert_array_equal(coclustering_matrix(clusterer), coclustering_matrix(labels))
    mixed = coclustering_matrix([clusterer, labels, clusterer.responsibilities_.astype(np.float32), list(range(6))])
    np.testing.assert_allclose(mixed, (3 * coclustering_matrix(labels) + np.eye(6)) / 4)


@pytest.mark.parametrize(
    ("clusterings", "message"),
    [
        ([], "no clusterings"),
        (np.array([[0.5, 0.2]]), "must be probabilities"),
        (np.array([[1.5, -0.5]]), "must be probabilities"),
        (np.array([[np.nan, 1.0]]), "must be probabilities"),
        (np.array([[0, 1, 2], [0, 0, 1]]), "several restarts, give them as a list"),
        ([[0.9, 0.1], [0.2, 0.8]], "array of floats as labels"),
        ([np.array([0, 1]), np.array([0, 1, 1])], "Clustering 1 is of 3 features but those before it are of 2"),
        ([0, 1, 1], "must be a fitted feature clusterer"),
        (SimpleNamespace(labels_=[0, 1]), "must be a fitted feature clusterer"),
    ],
)
def test_coclustering_errors(clusterings, message):
    with pytest.raises(ValueError, match=message):
        coclustering_matrix(clusterings)
