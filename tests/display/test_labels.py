"""Labels are read in any form, and stand in the order in which people count."""

import numpy as np
import pandas as pd
import pytest

from skdevae.display._labels import in_natural_order, read_labels


@pytest.mark.parametrize(
    "ordered",
    [
        ["stage 1", "stage 2", "stage 10"],
        ["1", "2", "10", "a"],
        ["a", "a2b1", "a2b10", "a10"],
        ["1.2.9", "1.2.10", "1.10"],
        ["x01", "x1", "x1 late"],
        ["T", "T1", "T cell"],
        [],
    ],
)
def test_natural_order(ordered):
    shuffled = list(np.random.default_rng(0).permutation(np.array(ordered, dtype=object)))
    assert in_natural_order(shuffled) == ordered


def test_categories_stand_in_natural_order_unless_they_have_one():
    stages = [f"stage {number}" for number in (10, 2, 1, 2)]
    labels = read_labels(stages, 4)
    assert labels.categories == ["stage 1", "stage 2", "stage 10"]
    assert list(labels.values) == [2, 1, 0, 1]
    own = read_labels(pd.Categorical(stages, categories=["stage 2", "stage 10", "stage 1"], ordered=True), 4)
    assert own.categories == ["stage 2", "stage 10", "stage 1"]
    assert read_labels([10, 9, 2, 2], 4).categories == ["2", "9", "10"]
