"""Which end of the axis is up, and what reversing it changes."""

from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
from agreement import assert_agree
from by_hand import LIKELIHOODS
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from trajectory.basisdevae.cases import (
    INFERENCES,
    fitted,
    mirrored,
    progression,
    quick,
    simulation,
    table_for,
    thorough,
    truth_positions,
)

from skdevae.datasets import make_progression


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("inference", INFERENCES)
def test_orientation_by_a_variable_reverses_the_axis(inference):
    truth = simulation() if inference == "exact" else progression()
    estimator = thorough(inference=inference)
    up, down = (clone(estimator).fit(truth.data, orientation=sign * truth.times) for sign in (1, -1))
    z_up, z_down = (fit.transform(truth.data)[:, 0] for fit in (up, down))
    assert np.corrcoef(z_up, truth.times)[0, 1] > 0.9
    assert np.corrcoef(z_down, -truth.times)[0, 1] > 0.9
    if inference == "exact":
        assert_array_equal(up.labels_, truth_positions(truth))
        assert_array_equal(down.labels_, mirrored(up.labels_))
        assert_allclose(z_down, -z_up, atol=0.2)
        assert_allclose(down.score(truth.data), up.score(truth.data), atol=0.3)


@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_mirroring_a_fitted_model_changes_the_sign_of_the_axis_alone(likelihood, inference):
    ours, table = fitted(likelihood, inference), table_for(likelihood)
    theirs = deepcopy(ours)
    theirs.module_.mirror_(0)
    assert_agree(theirs.transform(table), -ours.transform(table))
    assert_agree(theirs.score_samples(table), ours.score_samples(table))
    points = np.linspace(-5, 5, 21)
    assert_agree(theirs.trajectories(-points), ours.trajectories(points))
    assert_array_equal(theirs.module_.labels.numpy(), mirrored(ours.labels_))


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("column", ["increasing_00", "decreasing_02"])
def test_orientation_by_a_feature_makes_it_rise(column):
    truth = make_progression(80, n_transient=3, n_increasing=3, n_decreasing=3, as_frame=True, random_state=0)
    latent = quick(orientation=column).fit_transform(truth.data)
    assert np.corrcoef(latent[:, 0], truth.data[column])[0, 1] > 0.5


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("column", ["increasing_00", "decreasing_02"])
def test_a_feature_can_be_named_in_several_ways(column):
    truth = make_progression(80, n_transient=3, n_increasing=3, n_decreasing=3, as_frame=True, random_state=0)
    frame, position = truth.data, truth.data.columns.get_loc(column)
    latent = quick(max_epochs=3, orientation=column).fit_transform(frame)
    ways = [
        quick(max_epochs=3, orientation=position).fit(frame),
        quick(max_epochs=3).fit(frame, orientation=frame[column]),
        # what fit is given goes before the parameter
        quick(max_epochs=3, orientation="transient_00").fit(frame, orientation=frame[column].to_numpy()),
    ]
    for model in ways:
        assert_array_equal(model.transform(frame), latent)
    from_the_end = quick(max_epochs=3, orientation=position - frame.shape[1]).fit_transform(frame.to_numpy())
    assert_agree(from_the_end, latent, computed_in=np.float32)


@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_by_default_correlations_with_the_axis_have_a_positive_sum(likelihood, inference):
    table = table_for(likelihood)
    latent = fitted(likelihood, inference).transform(table)
    assert np.corrcoef(latent, table, rowvar=False)[0, 1:].sum() >= -1e-6


@pytest.mark.parametrize(("behavior", "sign"), [("decreasing", 1), ("increasing", -1)])
def test_one_direction_alone_decides_which_end_of_the_axis_is_up(behavior, sign):
    # The two tables have one covariance matrix: whichever way its first component points, one fit must turn it round.
    truth = progression(n_transient=0, n_increasing=0, n_decreasing=8)
    table = sign * truth.data
    model = quick(behaviors=behavior).fit(table)
    assert (-sign * np.diff(model.trajectories([-2, 2]), axis=0) > 0).all()
    assert np.corrcoef(model.transform(table)[:, 0], truth.times)[0, 1] > 0.9


def test_an_axis_that_cannot_be_reversed_warns():
    truth = progression(n_transient=0, n_increasing=0, n_decreasing=8)
    with pytest.warns(UserWarning, match="runs against orientation: .* does not allow the fitted axis to be reversed"):
        quick(behaviors="decreasing").fit(truth.data, orientation=-truth.times)


def test_missing_values_of_the_orientation_do_not_count():
    truth = progression()
    stage = np.where(np.arange(len(truth.times)) % 3, np.nan, truth.times)
    model = quick().fit(truth.data, orientation=stage)
    assert np.corrcoef(model.transform(truth.data)[:, 0], truth.times)[0, 1] > 0.5


def test_orientations_that_cannot_be_are_refused():
    table = progression().data
    frame = pd.DataFrame(table, columns=progression().feature_names)
    with pytest.raises(ValueError, match=r"'age'.*not among the columns"):
        quick(orientation="age").fit(frame)
    with pytest.raises(ValueError, match=r"'age'.*no column names.*set_output"):
        quick(orientation="age").fit(table)
    with pytest.raises(ValueError, match=r"orientation has no number in row 0, but 'ill'.*cat\.codes"):
        quick().fit(table, orientation=pd.Series(["ill", "well"] * (len(table) // 2)))
    with pytest.raises(TypeError, match=r"orientation='age' is a name, and orientation takes the values.*X\['age'\]"):
        quick().fit(frame, orientation="age")
    for column in (10, -11):
        with pytest.raises(ValueError, match=f"orientation={column} is no column"):
            quick(orientation=column).fit(table)
    with pytest.raises(ValueError, match=r"99.*100 samples"):
        quick().fit(table, orientation=progression().times[1:])
