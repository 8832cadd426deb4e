"""Conditioning columns leave a table of any kind, however they are named, and the others stay as they were."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
import torch
from numpy.testing import assert_array_equal
from sklearn.compose import make_column_selector

from skdevae.table.conditioning import ConditioningColumns, covariate_table


def frame():
    return pd.DataFrame(
        {"sex": ["f", "m", "f"], "urea": [1.0, 2.0, 3.0], "age": [30, 40, 50], "iron": [4.0, 5.0, 6.0]},
        index=[7, 8, 9],
    )


CHOICES = {
    "names": ["sex", "age"],
    "positions": [0, 2],
    "positions from the end": [0, -2],
    "positions of NumPy": np.array([0, 2]),
    "a mask": [True, False, True, False],
    "a mask of NumPy": np.array([True, False, True, False]),
    "an index": pd.Index(["sex", "age"]),
    "names and positions": ["sex", 2],
    "a mapping": {"sex": "categorical", "age": "numeric"},
    "a function": lambda X: X.columns[[0, 2]],
}


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_columns_are_chosen_in_any_way(choice):
    columns = ConditioningColumns.chosen(frame(), choice)
    rest, conditioning = columns.split(frame())
    assert columns.names == ["sex", "age"]
    assert list(rest) == ["urea", "iron"]
    assert_array_equal(rest, frame()[["urea", "iron"]])
    pd.testing.assert_frame_equal(conditioning, frame()[["sex", "age"]].reset_index(drop=True))


def test_a_selector_of_columns_chooses():
    columns = ConditioningColumns.chosen(frame(), make_column_selector(dtype_exclude=float))
    assert columns.names == ["sex", "age"]
    assert ConditioningColumns.chosen(frame(), make_column_selector(dtype_include=bool)) is None


def test_no_choice_leaves_no_columns():
    assert ConditioningColumns.chosen(frame(), None) is None
    assert ConditioningColumns.chosen(frame(), []) is None


def test_one_name_is_enough():
    assert ConditioningColumns.chosen(frame(), "age").names == ["age"]
    assert ConditioningColumns.chosen(frame(), 2).names == ["age"]


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array, sp.csc_array, sp.csr_matrix, np.ndarray.tolist])
def test_arrays_of_any_kind_are_split_by_position(kind):
    numbers = np.arange(12.0).reshape(3, 4)
    columns = ConditioningColumns.chosen(kind(numbers), {3: "categorical", 0: "numeric"})
    assert columns.kinds == {"x3": "categorical", "x0": "numeric"}
    rest, conditioning = columns.split(kind(numbers))
    assert_array_equal(rest.toarray() if sp.issparse(rest) else rest, numbers[:, [1, 2]])
    assert_array_equal(conditioning[["x3", "x0"]], numbers[:, [3, 0]])
    assert {dtype.kind for dtype in conditioning.dtypes} <= {"f", "i"}


def test_an_array_of_objects_keeps_text_and_numbers_apart():
    mixed = frame().to_numpy(dtype=object)
    rest, conditioning = ConditioningColumns.chosen(mixed, [0, 2]).split(mixed)
    assert_array_equal(rest.astype(float), frame()[["urea", "iron"]])
    assert conditioning["x2"].dtype.kind == "i"
    assert list(conditioning["x0"]) == ["f", "m", "f"]


def test_frames_of_other_libraries_are_split():
    table = pl.DataFrame({name: frame()[name].to_list() for name in frame()})
    rest, conditioning = ConditioningColumns.chosen(table, ["age", "sex"]).split(table)
    assert rest.columns == ["urea", "iron"]
    assert list(conditioning["sex"]) == ["f", "m", "f"]
    assert conditioning["age"].dtype.kind == "i"


def test_a_later_table_is_split_by_position():
    columns = ConditioningColumns.chosen(frame(), ["sex", "age"])
    rest, conditioning = columns.split(frame().to_numpy(dtype=object)[:1])
    assert_array_equal(rest.astype(float), [[1.0, 4.0]])
    assert conditioning.iloc[0].to_dict() == {"sex": "f", "age": 30}


BAD_CHOICES = [
    (["sex", "weight"], "'weight', which X does not have"),
    ([0, 4], "column 4, but X has 4 columns"),
    (["sex", 0], "'sex' twice"),
    ([True, False], "a mask of 2 columns, but X has 4"),
    (["sex", "urea", "age", "iron"], "all 4 columns"),
    ({"sex": "text"}, "'sex' to be 'text': choose"),
    (1.5, "name columns of X"),
]


@pytest.mark.parametrize("choice, complaint", BAD_CHOICES)
def test_choices_are_checked(choice, complaint):
    with pytest.raises(ValueError, match=complaint):
        ConditioningColumns.chosen(frame(), choice)


def test_names_need_a_data_frame():
    with pytest.raises(ValueError, match="no data frame"):
        ConditioningColumns.chosen(np.ones((2, 3)), ["sex"])


def test_a_later_table_has_as_many_columns():
    with pytest.raises(ValueError, match="X has 3 columns, but the model was fitted to 4"):
        ConditioningColumns.chosen(frame(), ["sex"]).split(frame().iloc[:, :3])


# ---- what a method is given beside the table -------------------------------------------------------------------------

LABELS = ["a", "b", "a"]
GIVEN = {
    "a frame": (pd.DataFrame({"batch": LABELS}, index=[3, 1, 2]), "batch"),
    "a series": (pd.Series(LABELS, name="batch"), "batch"),
    "a series without a name": (pd.Series(LABELS), "covariate 0"),
    "a list": (LABELS, "covariate 0"),
    "an array": (np.array(LABELS), "covariate 0"),
    "a column": (np.array(LABELS)[:, None], "covariate 0"),
    "a mapping": ({"batch": LABELS}, "batch"),
    "a mapping of a series": ({"batch": pd.Series(LABELS, index=[1, 0, 2])}, "batch"),
    "categories": (pd.Categorical(LABELS), "covariate 0"),
    "a polars frame": (pl.DataFrame({"batch": LABELS}), "batch"),
}


@pytest.mark.parametrize("given, name", GIVEN.values(), ids=GIVEN)
def test_covariates_are_given_in_any_way(given, name):
    table = covariate_table(None, given, 3)
    assert list(table) == [name]
    assert list(table[name]) == LABELS
    assert list(table.index) == [0, 1, 2]


def test_arrays_take_their_names_from_training():
    assert list(covariate_table(None, LABELS, 3, ["batch"])) == ["batch"]


def test_whole_numbers_in_one_dimension_are_labels():
    assert covariate_table(None, np.array([0, 1, 2]), 3)["covariate 0"].dtype == "category"
    assert covariate_table(None, [0, 1, 2], 3)["covariate 0"].dtype == "category"
    assert covariate_table(None, np.array([[0], [1], [2]]), 3)["covariate 0"].dtype.kind == "i"
    assert covariate_table(None, pd.Series([0, 1, 2]), 3)["covariate 0"].dtype.kind == "i"
    assert covariate_table(None, np.array([0.5, 1, 2]), 3)["covariate 0"].dtype.kind == "f"


def test_a_tensor_is_an_array():
    table = covariate_table(None, torch.tensor([0.5, 1.0, 2.0]), 3)
    assert table["covariate 0"].tolist() == [0.5, 1.0, 2.0]


def test_a_mapping_gives_one_value_to_all_rows():
    assert covariate_table(None, {"batch": "b", "age": [1, 2, 3]}, 3)["batch"].tolist() == ["b"] * 3


def test_columns_and_arguments_are_put_side_by_side():
    _, conditioning = ConditioningColumns.chosen(frame(), ["sex"]).split(frame())
    assert list(covariate_table(conditioning, {"batch": LABELS}, 3)) == ["sex", "batch"]
    assert covariate_table(conditioning, None, 3) is conditioning
    assert covariate_table(None, None, 3) is None
    with pytest.raises(ValueError, match="'sex' is both a column of X and given"):
        covariate_table(conditioning, {"sex": LABELS}, 3)


@pytest.mark.parametrize(
    "given, error, complaint",
    [
        (LABELS[:2], ValueError, "covariates has 2 rows, but there are 3 samples"),
        ({"batch": LABELS[:2]}, ValueError, "one for each of 3 samples"),
        (np.zeros((3, 1, 1)), ValueError, "shape"),
        ({}, ValueError, "no column"),
        (np.empty((3, 0)), ValueError, "no column"),
        (pd.DataFrame(index=range(3)), ValueError, "no column"),
        (sp.csr_array(np.eye(3)), TypeError, "sparse"),
        (pd.DataFrame(np.ones((3, 2)), columns=["a", "a"]), ValueError, "named 'a'"),
    ],
)
def test_what_is_given_is_checked(given, error, complaint):
    with pytest.raises(error, match=complaint):
        covariate_table(None, given, 3)
