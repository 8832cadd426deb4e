"""What tests take for the same is neither too little nor too much."""

import numpy as np
import pytest
import torch
from agreement import TOLERANCE, assert_agree

BASE = np.array([[1000.0, -3.0], [0.0, np.nan]])


def moved(by: float) -> np.ndarray:
    """The base with one small entry moved by so much of the largest."""
    other = BASE.copy()
    other[1, 0] += by * 1000
    return other


@pytest.mark.parametrize("dtype", [np.float64, np.float32, "float32", np.dtype(np.float64)])
def test_differences_are_judged_by_the_largest_entry(dtype):
    tolerance = TOLERANCE[np.dtype(dtype)]
    assert_agree(moved(0.9 * tolerance), BASE, computed_in=dtype)
    with pytest.raises(AssertionError):
        assert_agree(moved(1.1 * tolerance), BASE, computed_in=dtype)


def test_rounding_is_that_of_float64_unless_told_otherwise():
    with pytest.raises(AssertionError):
        assert_agree(moved(1e-6), BASE)
    assert TOLERANCE[np.dtype(np.float64)] < TOLERANCE[np.dtype(np.float32)]


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_tolerances_are_wider_than_rounding_and_far_from_anything_else(dtype):
    assert 100 * np.finfo(dtype).eps < TOLERANCE[dtype] < 1e-3


@pytest.mark.parametrize(
    "actual, expected",
    [
        (np.nan, np.nan),
        ([np.inf, -np.inf, 1.0], [np.inf, -np.inf, 1.0]),
        ([np.nan, 1.0], [np.nan, 1.0 + 1e-12]),
        ([], []),
        (torch.ones(3, dtype=torch.float32), np.ones(3)),
        (2, np.float32(2)),
        ([True, False], [1, 0]),
    ],
)
def test_equal_numbers_agree(actual, expected):
    assert_agree(actual, expected)


@pytest.mark.parametrize(
    "actual, expected",
    [
        (np.nan, 1.0),
        (1.0, np.nan),
        ([np.inf, 1.0], [1.0, 1.0]),
        ([1.0, 1.0], [np.inf, 1.0]),
        (np.inf, -np.inf),
        ([1.0, 1.0], 1.0),  # no broadcasting
        ([[1.0], [1.0]], [1.0, 1.0]),
        ([0.0, 1e-6], [0.0, 0.0]),
        ([0.0, 0.0], [0.0, 1e-12]),  # small numbers have small rounding
    ],
)
def test_other_numbers_do_not_agree(actual, expected):
    with pytest.raises(AssertionError):
        assert_agree(actual, expected)


def test_errors_say_what_was_compared():
    with pytest.raises(AssertionError, match="latents of the second fit"):
        assert_agree([1.0], [2.0], err_msg="latents of the second fit")
    with pytest.raises(AssertionError, match="latents of the second fit"):
        assert_agree([1.0], [1.0, 2.0], err_msg="latents of the second fit")
