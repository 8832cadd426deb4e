"""Which end of each axis of DeVAETransformer is up, and what reversing one changes."""

from copy import deepcopy

import numpy as np
import pytest
from agreement import assert_agree
from numpy.testing import assert_allclose, assert_array_equal
from trajectory.devae.cases import CASES, EXACT, QUICK_WAYS, WAYS, fitted, frame, progression, quick, signs, table_for


@pytest.mark.parametrize("way", QUICK_WAYS)
def test_a_free_axis_follows_a_variable(way):
    truth = progression()
    for target in (truth.times, -truth.times):
        latent = quick(max_epochs=8, **WAYS[way]).fit(truth.data, orientation=target).transform(truth.data)
        assert np.corrcoef(latent[:, 0], target)[0, 1] > 0


@pytest.mark.parametrize("way", EXACT)
def test_a_free_axis_follows_a_feature(way):
    truth, column = progression(), int(np.flatnonzero(signs() < 0)[0])
    latent = quick(orientation=column, **WAYS[way]).fit_transform(truth.data)
    assert np.corrcoef(latent[:, 0], truth.data[:, column])[0, 1] > 0
    by_name = quick(orientation=truth.feature_names[column], **WAYS[way]).fit_transform(frame())
    assert_allclose(by_name, latent, atol=1e-4)


@pytest.mark.parametrize("way", WAYS)
def test_by_default_correlations_with_a_free_axis_have_a_positive_sum(way):
    table = progression().data
    for X, model in ((table, fitted(way=way)), (-table, quick(max_epochs=8, **WAYS[way]).fit(-table))):
        latent = model.transform(X)
        q = latent.shape[1]
        correlations = np.corrcoef(latent, X, rowvar=False)[:q, q:]
        assert (correlations.sum(1) >= -1e-6).all()


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize("way", ["exact", "amortized"])
@pytest.mark.parametrize("direction", [1, -1])
def test_a_constrained_axis_points_as_the_constraints_say(direction, way):
    truth = progression()
    # one constrained feature is enough
    only = np.where(np.arange(8) == np.flatnonzero(signs() > 0)[0], 1, 0)
    for constraint in (signs(), only):
        latent = quick(monotonic_cst=direction * constraint, **WAYS[way]).fit_transform(truth.data)
        assert np.corrcoef(latent[:, 0], direction * truth.times)[0, 1] > 0.9


def test_a_constrained_axis_that_runs_against_orientation_warns():
    truth = progression()
    with pytest.warns(UserWarning, match="runs against orientation"):
        model = quick(monotonic_cst=signs()).fit(truth.data, orientation=-truth.times)
    # and is the axis that it would have been
    assert_array_equal(model.transform(truth.data), quick(monotonic_cst=signs()).fit_transform(truth.data))
    column = int(np.flatnonzero(signs() < 0)[0])
    with pytest.warns(UserWarning, match="runs against orientation"):
        quick(monotonic_cst=signs(), orientation=column).fit(truth.data)
    # one that agrees does not warn, which would be an error here
    quick(monotonic_cst=signs()).fit(truth.data, orientation=truth.times)


@pytest.mark.slow(keep=3)
@pytest.mark.parametrize(("likelihood", "way"), CASES)
def test_mirroring_changes_the_sign_of_one_axis_alone(likelihood, way):
    ours, rows = fitted(likelihood, way), table_for(likelihood)[:6]
    theirs, component = deepcopy(ours), ours.n_components - 1
    theirs.module_.mirror_(component)
    flip = np.where(np.arange(ours.n_components) == component, -1, 1)
    assert_agree(theirs.transform(rows), flip * ours.transform(rows))
    z = np.random.default_rng(0).normal(0, 2, (20, ours.n_components))
    assert_agree(theirs.trajectories(flip * z), ours.trajectories(z))
    assert_allclose(theirs.elbo(rows), ours.elbo(rows), rtol=1e-8 if way in EXACT else 1e-2)
