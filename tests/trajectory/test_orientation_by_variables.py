"""Which end of an axis is up: by a variable that says so, or by the rule."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from trajectory.basisdevae.cases import progression, quick

from skdevae._base.orientation import axis_signs, orientation_reference
from skdevae.table.source import RowSource

FLOAT64 = torch.zeros((), dtype=torch.float64)
generator = np.random.default_rng(0)
POSITIONS = generator.normal(size=(60, 2))
#: the first axis runs against its columns, the second with them
TABLE = np.column_stack([POSITIONS @ [[-1.0, -1.0], [0.0, 0.3]], POSITIONS[:, 1:]]) + generator.normal(size=(60, 3))
SOURCE = RowSource(TABLE, None, None, FLOAT64)

#: variables that tell no direction, and what the warning says of each
UNTOLD = {
    "constant": (np.full(60, 7.0), "has no value but 7"),
    "one known value": (np.r_[3.0, np.full(59, np.nan)], "has no value but 3"),
    "one value where it is known": (np.where(np.arange(60) % 2, 4.5, np.nan), "has no value but 4.5"),
    "unknown": (np.full(60, np.nan), "has no known value"),
}


def test_the_rule_lets_correlations_with_every_axis_add_up_to_zero_or_more():
    signs = axis_signs(SOURCE, POSITIONS, None, 1)
    assert_array_equal(signs, [-1, 1])
    for axis in (signs * POSITIONS).T:
        assert sum(np.corrcoef(axis, column)[0, 1] for column in TABLE.T) > 0
    assert_array_equal(axis_signs(SOURCE, -POSITIONS, None, 1), -signs)


@pytest.mark.parametrize("case", UNTOLD)
def test_a_variable_that_tells_nothing_leaves_the_direction_to_the_rule(case):
    reference, what = UNTOLD[case]
    assert_array_equal(axis_signs(SOURCE, POSITIONS, reference, 1), axis_signs(SOURCE, POSITIONS, None, 1))
    with pytest.warns(UserWarning, match=f"^orientation {what}, so it cannot say which end of the axis is up"):
        assert orientation_reference(TABLE, None, reference, None) is None


def test_a_column_that_tells_nothing_is_named():
    table = np.column_stack([TABLE, np.full(60, 0.25)])
    names = np.array(["a", "b", "c", "d"], dtype=object)
    for feature, name in ((3, "3"), (-1, "-1"), ("d", "'d'")):
        with pytest.warns(UserWarning, match=f"^orientation={name} has no value but 0.25"):
            assert orientation_reference(table, feature, None, names) is None


def test_two_values_are_enough():
    reference = np.full(60, np.nan)
    low, high = POSITIONS[:, 0].argmin(), POSITIONS[:, 0].argmax()
    for sign in (1, -1):
        reference[[low, high]] = 0.0, sign * 1e-12
        told = orientation_reference(TABLE, None, reference, None)
        assert axis_signs(SOURCE, POSITIONS, told, 1)[0] == sign


@pytest.mark.parametrize("unit", ["as given", "huge", "tiny", "curved", "one wrong value"])
def test_only_the_order_of_the_values_counts(unit):
    reference = POSITIONS[:, 0] + generator.normal(size=60)
    values = {
        "as given": reference,
        "huge": 1e307 * reference,
        "tiny": 1e-300 * reference,
        "curved": np.exp(3 * reference),
        "one wrong value": np.where(POSITIONS[:, 0] == POSITIONS[:, 0].min(), 1e12, reference),
    }[unit]
    for sign in (1, -1):
        assert axis_signs(SOURCE, POSITIONS, sign * values, 1)[0] == sign
    # other axes keep to the rule
    assert axis_signs(SOURCE, POSITIONS, values, 1)[1] == axis_signs(SOURCE, POSITIONS, None, 1)[1]


def test_a_fit_points_by_the_rule_where_orientation_tells_nothing():
    table = progression().data
    expected = quick(max_epochs=3).fit_transform(table)
    for orientation in (np.ones(len(table)), np.r_[1.0, np.full(len(table) - 1, np.nan)]):
        with pytest.warns(UserWarning, match="cannot say which end of the axis is up"):
            latent = quick(max_epochs=3).fit(table, orientation=orientation).transform(table)
        assert_array_equal(latent, expected)
