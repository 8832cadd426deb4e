"""Functions with a meaning: ``basis`` guarantees what the functions of BasisVAEClusterer do."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from trajectory.basisvae.cases import quick, same_partition, toy, two_groups

from skdevae.datasets import make_basis_toy

FINE = np.linspace(-6, 6, 2001)


def is_rising(curve):
    return (np.diff(curve) >= -1e-9).all() and curve[-1] > curve[0]


def is_peaked(curve):
    peak = curve.argmax()
    return (np.diff(curve[: peak + 1]) >= -1e-9).all() and (np.diff(curve[peak:]) <= 1e-9).all()


MEANINGS = {
    "increasing": is_rising,
    "decreasing": lambda curve: is_rising(-curve),
    "transient": is_peaked,
    "dip": lambda curve: is_peaked(-curve),
    "flat": lambda curve: np.ptp(curve) < 1e-9,
    "free": lambda curve: True,
}


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ({"basis": "increasing", "n_clusters": 2}, ["increasing"] * 2),
        ({"basis": ("transient", "increasing"), "n_clusters": 3}, ["transient"] * 2 + ["increasing"]),
        ({"basis": ["increasing", "decreasing", "transient", "dip", "flat", "free"], "n_clusters": 6}, list(MEANINGS)),
        ({"basis": np.array(["transient", "dip"]), "n_clusters": 3}, ["transient", "transient", "dip"]),
        ({"basis": "transient", "n_clusters": 2, "translation_invariant": True}, ["transient"] * 2),
        ({"basis": ("decreasing", "free"), "n_clusters": 2, "inference": "amortized"}, ["decreasing", "free"]),
        ({"basis": ("increasing", "dip"), "n_clusters": 2, "integrator": "gauss-legendre"}, ["increasing", "dip"]),
    ],
    ids=lambda value: "" if isinstance(value, list) else "-".join(np.atleast_1d(value["basis"])),
)
def test_functions_keep_their_meaning(parameters, names):
    model = quick(**parameters, max_epochs=3).fit(two_groups().data)
    # an axis can be reversed only together with what rises and falls
    shown = [name.split(" ")[0] for name in model.cluster_names_[:-1]]
    if {"increasing", "decreasing"} <= set(names) and shown != names:
        names = [{"increasing": "decreasing", "decreasing": "increasing"}.get(name, name) for name in names]
    assert model.cluster_names_.tolist() == [*(f"{name} {number}" for number, name in enumerate(names)), "flat"]
    for name, curve in zip(names, model.basis_functions(FINE).T, strict=True):
        assert MEANINGS[name](curve), name
    # scales are positive: features do what their function does
    for name, curve in zip(model.cluster_names_[model.labels_], model.trajectories(FINE).T, strict=True):
        assert MEANINGS[name.split(" ")[0]](curve)


def test_functions_with_a_meaning_are_given_to_features_that_have_it():
    truth = toy()
    basis = ("increasing", "decreasing", "transient")
    model = quick(n_clusters=9, basis=basis).fit(truth.data, orientation=truth.times)
    assert same_partition(truth.labels, model.labels_)
    names = np.array([name.split(" ")[0] for name in model.cluster_names_[model.labels_]])
    wanted = np.array(truth.shape_names)[truth.shape_labels]
    assert_array_equal(names, wanted)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize(("group", "direction"), [("up", "increasing"), ("down", "decreasing")])
def test_one_direction_alone_decides_which_end_of_the_axis_is_up(group, direction):
    # Early and late features tell transients from what rises or falls.
    truth = make_basis_toy(150, 4, groups=(group, "early", "late"), random_state=0)
    for sign in (1, -1):
        model = quick(n_clusters=4, basis=(direction, "transient")).fit(truth.data[:, ::sign])
        labels = model.labels_[::sign]
        assert same_partition(truth.labels, labels)
        names = [name.split(" ")[0] for name in model.cluster_names_[labels]]
        assert names == [direction] * 4 + ["transient"] * 8
