"""DGDEmbedder with classes: each has a component, samples without a class may have others."""

import numpy as np
import pytest
from embedding.dgd_cases import (
    assert_same_bits,
    blobs,
    fitted,
    fitted_to_classes,
    overlapping,
    quick,
)
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score


@pytest.mark.parametrize(
    ("representation", "names"), [("map", ["oak", "ash", "elm"]), ("variational", [7, 3, 5])], ids=str
)
def test_classes_have_components(representation, names):
    table, truth = blobs()
    y = np.array(names)[truth]
    model = quick(supervised=True, n_clusters=8, representation=representation, max_epochs=40).fit(table, y)
    assert_array_equal(model.classes_, np.unique(y))
    assert model.n_clusters_ == 3
    assert adjusted_rand_score(y, model.labels_) > 0.99
    assert_array_equal(model.classes_[model.labels_], y)
    assert_array_equal(model.classes_[model.predict(table)], y)
    for k, name in enumerate(model.classes_):
        own = model.embedding_[y == name].mean(0)
        assert_allclose(own, model.means_[k], rtol=0, atol=0.5 * np.sqrt(model.covariances_[k]).max())
    assert_array_equal(quick(supervised=True, n_clusters=8, max_epochs=2).fit_predict(table, y.tolist()), model.labels_)


def test_a_known_class_is_worth_as_much_as_its_component():
    """Of a linear gaussian model, a sample's mode under its class's component is in closed form."""
    table, y = overlapping()
    y[:20] = -1
    model = quick(supervised=True, hidden_layer_sizes=(), n_clusters=2).fit(table, y)
    center, noise = model.trajectories(np.zeros((1, 2)))[0], model.noise_scale_
    loadings = model.trajectories(np.eye(2)) - center
    information = loadings / noise**2 @ loadings.T
    expected = [
        np.linalg.solve(
            information + np.diag(1 / model.covariances_[k]),
            loadings @ ((row - center) / noise**2) + model.means_[k] / model.covariances_[k],
        )
        for row, k in zip(table[20:], y[20:], strict=True)
    ]
    assert_allclose(model.embedding_[20:], expected, rtol=0, atol=0.02)
    assert_allclose(model.embedding_[:20], model.transform(table[:20]), rtol=0, atol=1e-8)
    assert np.abs(model.embedding_[20:] - model.transform(table[20:])).max() > 0.1
    assert_array_equal(model.labels_[20:], y[20:])
    assert_array_equal(model.labels_[:20], model.predict(table[:20]))


def test_classes_help_where_the_table_does_not():
    table, y = overlapping()
    known = quick(supervised=True, n_clusters=2).fit(table, y)
    assert adjusted_rand_score(y, known.labels_) > adjusted_rand_score(y, quick(n_clusters=2).fit_predict(table))


def test_samples_without_a_class_can_have_components_of_their_own():
    table, truth = blobs()
    y = np.where(truth == 1, -1, truth)
    y[::7] = -1
    model = quick(supervised=True, n_clusters=3, max_epochs=40).fit(table, y)
    assert model.classes_.tolist() == [0, 2]
    without = quick(supervised=True, n_clusters=2, max_epochs=40).fit(table, y)
    assert adjusted_rand_score(truth, without.labels_) < 0.99
    known = y >= 0
    assert_array_equal(model.classes_[model.labels_[known]], y[known])
    # as many as there are to be had, where there are samples for them
    assert quick(supervised=True, n_clusters=5, max_epochs=2).fit(table, truth).n_clusters_ == 3
    novel = quick(supervised=True, n_clusters=3, max_epochs=40).fit(table, np.where(truth == 1, -1, truth))
    assert novel.n_clusters_ == 3
    assert_array_equal(np.array([0, 2, 1])[novel.labels_], truth)


@pytest.mark.parametrize("mixture_init", ["gmm", "kmeans", "softball"])
def test_every_start_serves_classes(mixture_init):
    model = fitted_to_classes(mixture_init=mixture_init, max_epochs=40)
    assert adjusted_rand_score(blobs()[1], model.labels_) > 0.99


@pytest.mark.parametrize(("given", "same"), [({}, "gmm"), ({"latent_init": "zero"}, "softball")])
def test_what_the_mixture_starts_from_if_nothing_is_said(given, same):
    table, y = blobs()
    assert_same_bits(fitted(**given), quick(**given, mixture_init=same).fit(table))
    if not given:
        supervised = quick(supervised=True, max_epochs=3)
        assert_same_bits(
            clone(supervised).fit(table, y), clone(supervised).set_params(mixture_init="softball").fit(table, y)
        )
        y = np.where(np.arange(len(y)) % 3, y, -1)
        assert_same_bits(
            clone(supervised).fit(table, y), clone(supervised).set_params(mixture_init="gmm").fit(table, y)
        )


def test_known_classes_count_where_weights_do_not():
    table, y = blobs()
    y = y.copy()
    y[0] = (y[0] + 1) % 3
    weight = np.ones(len(y))
    weight[0] = 0
    given = {"supervised": True, "max_epochs": 40}
    small = quick(**given).fit(table, y, sample_weight=np.where(weight, 1, 1e-9))
    assert_allclose(quick(**given).fit(table, y, sample_weight=weight).embedding_[0], small.embedding_[0], atol=0.1)


# ---- what y may be --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "y", "message"),
    [
        ({}, None, "supervised=True needs y"),
        ({}, np.full(120, -1), "y does not name the class of any sample"),
        ({}, np.zeros(7), r"y has shape \(7,\), but X has 120 rows"),
        ({}, np.zeros((120, 2)), r"y has shape \(120, 2\)"),
        ({"n_clusters": None}, np.zeros(120), "n_clusters=None.*number of classes"),
    ],
    ids=["none", "unknown", "short", "wide", "no mixture"],
)
def test_classes_are_validated(parameters, y, message):
    with pytest.raises(ValueError, match=message):
        quick(supervised=True, **parameters).fit(blobs()[0], y)


@pytest.mark.parametrize("unknown", [-1, None, np.nan])
def test_classes_can_be_unknown_in_a_column_of_objects(unknown):
    table, y = blobs()
    hidden = np.arange(len(y)) % 3 == 0
    numbers = quick(supervised=True, max_epochs=2).fit(table, np.where(hidden, -1, y))
    names = np.array(["a", "b", "c"], dtype=object)[y] if unknown != -1 else y.astype(object)
    objects = quick(supervised=True, max_epochs=2).fit(
        table, np.where(hidden, np.array([unknown], dtype=object), names)
    )
    assert len(objects.classes_) == 3
    assert_array_equal(objects.embedding_, numbers.embedding_)


def test_classes_are_kinds():
    table, y = blobs()
    with pytest.raises(ValueError, match="continuous"):
        quick(supervised=True).fit(table, np.linspace(0, 1, len(y)))
    names = [["a", "b", "c"][k] if row % 3 else -1 for row, k in enumerate(y)]  # numpy would make text of the -1
    assert list(quick(supervised=True, max_epochs=1).fit(table, names).classes_) == ["a", "b", "c"]
    with pytest.raises(ValueError, match="cannot be sorted"):
        quick(supervised=True).fit(table, [name if row % 2 else 7 for row, name in enumerate(names)])


def test_y_plays_no_part_without_supervision():
    table, y = blobs()
    model = quick().fit(table, y)
    assert_same_bits(model, fitted())
    assert not hasattr(model, "classes_")
    again = quick(supervised=True, max_epochs=2).fit(table, y).set_params(supervised=False).fit(table)
    assert not hasattr(again, "classes_")
