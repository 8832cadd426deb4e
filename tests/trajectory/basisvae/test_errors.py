"""Parameters that BasisVAEClusterer refuses, and methods that need a fit."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from trajectory.basisvae.cases import quick, two_groups


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        *(
            ({"scale_bounds": bounds}, r"scale_bounds=.*0 < least < largest")
            for bounds in ((1.0,), (0, 1), (1, 1), (2, 1), (-1, 1), (0.5, np.inf), (np.nan, 1), (0.5, 1, 2), ("a", "b"))
        ),
        ({"scale_bounds": None}, "'scale_bounds' parameter"),
        ({"scale_bounds": 2.0}, "'scale_bounds' parameter"),
        ({"max_shift": 2.6}, "'max_shift' parameter"),
        ({"max_shift": 0}, "'max_shift' parameter"),
        ({"max_shift": -1.0}, "'max_shift' parameter"),
        ({"basis": "sideways"}, "basis='sideways'.*choose one or more of increasing, decreasing"),
        ({"basis": ("increasing", "up")}, "basis=.*choose one or more of"),
        ({"basis": ()}, "choose one or more of"),
        ({"basis": 3}, "'basis' parameter"),
        ({"basis": ("flat", "free", "flat")}, "names a behaviour twice"),
        ({"basis": ("flat", "free", "dip"), "n_clusters": 2}, "names 3 behaviours for n_clusters=2 functions"),
        ({"translation_invariant": True, "n_components": 2}, "translation_invariant=True needs n_components=1, not 2"),
        ({"basis": "increasing", "n_components": 2}, "basis='increasing' needs n_components=1, not 2"),
        pytest.param(
            {"basis": np.array(["increasing", "free"]), "n_components": 2},
            "basis=.* needs n_components=1, not 2",
        ),
        ({"n_components": 3}, "n_components=3 needs inference='amortized'"),
        ({"n_components": 0}, "'n_components' parameter"),
        ({"n_clusters": 0}, "'n_clusters' parameter"),
        ({"scale_invariant": "yes"}, "'scale_invariant' parameter"),
        ({"translation_invariant": None}, "'translation_invariant' parameter"),
    ],
)
def test_parameters_that_cannot_be_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        quick(**parameters).fit(two_groups().data)


@pytest.mark.parametrize(
    ("method", "argument"), [("basis_functions", [0.0]), ("trajectories", [0.0]), ("coclustering_matrix", None)]
)
def test_nothing_works_before_fit(method, argument):
    with pytest.raises(NotFittedError):
        getattr(quick(), method)(*([] if argument is None else [argument]))
