"""Covariates: columns of numbers that keep the training table's scales and levels, whatever holds the values."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skdevae.table.covariates import Covariates


def people(n_rows=60, seed=0):
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": random.normal(50, 9, n_rows),
            "site": random.choice(["york", "bath", "ely"], n_rows),
            "visits": random.integers(1, 9, n_rows),
            "smokes": random.random(n_rows) < 0.4,
        }
    )


def test_the_design_is_that_of_scikit_learns_encoders():
    table = people()
    covariates, design = Covariates.learn(table)
    numeric = StandardScaler().fit_transform(table[["age", "visits"]])
    categorical = OneHotEncoder(drop="first", sparse_output=False).fit_transform(table[["site", "smokes"]])
    assert covariates.columns == ["age", "site[ely]", "site[york]", "visits", "smokes[True]"]
    expected = np.column_stack([numeric[:, 0], categorical[:, :2], numeric[:, 1], categorical[:, 2]])
    assert_allclose(design, expected, atol=1e-12)
    assert_allclose(covariates.average, expected.mean(0), atol=1e-12)
    assert_allclose(covariates.design(table[::-1]), design[::-1])


def test_weights_are_repetitions():
    table = people()
    times = np.random.default_rng(1).integers(0, 4, len(table))
    weighted, design = Covariates.learn(table, times.astype(float))
    repeated, repeated_design = Covariates.learn(table.loc[table.index.repeat(times)])
    assert_allclose(np.repeat(design, times, axis=0), repeated_design, atol=1e-12)
    assert_allclose(weighted.average, repeated.average, atol=1e-12)


def test_levels_of_rows_without_weight_are_not_known():
    table = pd.DataFrame({"site": ["a", "b", "c", "a"]})
    covariates, design = Covariates.learn(table, np.array([1.0, 1.0, 0.0, 1.0]))
    assert covariates.columns == ["site[b]"]
    assert_allclose(design[:, 0], [0, 1, 1 / 3, 0])


def test_a_category_dtype_orders_levels_and_may_name_some_that_do_not_occur():
    sizes = pd.Categorical(["large", "small", "small", "huge"], ["small", "large", "vast", "huge"])
    covariates, design = Covariates.learn(pd.DataFrame({"size": sizes}))
    assert covariates.columns == ["size[large]", "size[huge]"]
    assert_array_equal(design, [[1, 0], [0, 0], [0, 0], [0, 1]])


def test_numbers_are_categories_where_that_is_declared():
    table = pd.DataFrame({"site": [3.0, 1.0, 2.0, 3.0], "code": pd.Categorical([1, 2, 2, 4])})
    covariates, design = Covariates.learn(table, kinds={"site": "categorical", "code": "numeric"})
    assert covariates.columns == ["site[2]", "site[3]", "code"]
    assert_allclose(design[:, 2], StandardScaler().fit_transform([[1], [2], [2], [4]])[:, 0])


def test_bins_are_levels():
    ages = pd.cut([20, 30, 40, 50], [0, 25, 45, 99])
    covariates, _ = Covariates.learn(pd.DataFrame({"age": ages}))
    assert covariates.columns == ["age[(25, 45]]", "age[(45, 99]]"]


EQUAL_VALUES = {
    "whole numbers": ([1, 2, 1, 3], [1.0, 2.0, 1.0, 3.0]),
    "text": (["u", "v", "u", "w"], pd.array(["u", "v", "u", "w"], dtype="string")),
    "text of NumPy": (["u", "v", "u", "w"], np.array(["u", "v", "u", "w"])),
    "other categories": (pd.Categorical(["u", "v", "u", "w"]), pd.Categorical(list("uvuw"), list("zwvu"))),
    "truth": ([True, False, True, True], pd.array([True, False, True, True], dtype="boolean")),
    "truth as numbers": ([True, False, True, True], [1, 0, 1, 1]),
    "nullable numbers": ([1, 2, 1, 3], pd.array([1, 2, 1, 3], dtype="Int64")),
    "objects": ([1, 2, 1, 3], np.array([1, 2, 1, 3], dtype=object)),
}


@pytest.mark.parametrize("values, later", EQUAL_VALUES.values(), ids=EQUAL_VALUES)
@pytest.mark.parametrize("kind", [None, "categorical"])
def test_values_are_compared_whatever_holds_them(values, later, kind):
    covariates, design = Covariates.learn(pd.DataFrame({"c": values}), kinds={"c": kind} if kind else {})
    assert_allclose(covariates.design(pd.DataFrame({"c": later})), design)


def test_a_table_of_one_row_is_read_as_in_any_other():
    table = people()
    covariates, design = Covariates.learn(table)
    for row in range(5):
        assert_allclose(covariates.design(table.iloc[[row]]), design[[row]])


def test_other_columns_and_their_order_do_not_matter():
    table = people()
    covariates, design = Covariates.learn(table)
    assert_allclose(covariates.design(table.assign(more=1)[["more", "smokes", "visits", "age", "site"]]), design)


def test_units_of_numbers_do_not_matter():
    table = people()
    _, design = Covariates.learn(table)
    for scale in (1e-200, 1e200):
        _, rescaled = Covariates.learn(table.assign(age=table["age"] * scale))
        assert_allclose(rescaled, design, rtol=1e-6)


def test_they_are_plain_values_in_files():
    covariates, design = Covariates.learn(people())
    plain = covariates.plain()
    json.dumps([{name: np.asarray(value).tolist() for name, value in part.items()} for part in plain])
    restored = Covariates.of_plain(pickle.loads(pickle.dumps(plain)))
    assert restored.columns == covariates.columns
    assert_array_equal(restored.design(people()), design)


# ---- what is not known ----------------------------------------------------------------------------------------------


def test_unknown_levels_are_named():
    covariates, _ = Covariates.learn(people())
    later = people()
    later.loc[[4, 9, 11], "site"] = ["rome", "oslo", "rome"]
    with pytest.raises(ValueError, match=r"'site' has levels .*: 'rome', 'oslo', in 3 rows \(the first is row 4\)"):
        covariates.design(later)


def test_what_is_not_known_is_average_where_that_is_asked_for():
    table = people()
    covariates, design = Covariates.learn(table)
    later = table.astype({"smokes": object})
    later.loc[4, "site"] = "rome"
    later.loc[5, ["site", "age", "smokes"]] = None
    expected = design.copy()
    expected[4, 1:3] = design[:, 1:3].mean(0)
    expected[5, [0, 1, 2, 4]] = design[:, [0, 1, 2, 4]].mean(0)
    assert_allclose(covariates.design(later, unknown="average"), expected, atol=1e-12)


def test_a_covariate_that_is_not_given_is_named_or_average():
    table = people()
    covariates, design = Covariates.learn(table)
    with pytest.raises(ValueError, match="not given: 'site', 'smokes'"):
        covariates.design(table[["age", "visits"]])
    expected = design.copy()
    expected[:, [1, 2, 4]] = design[:, [1, 2, 4]].mean(0)
    assert_allclose(covariates.design(table[["age", "visits"]], absent="average"), expected)
    with pytest.raises(ValueError, match="levels"):
        covariates.design(pd.DataFrame({"site": ["rome"]}), absent="average")


@pytest.mark.parametrize("name", ["age", "site", "smokes"])
def test_missing_values_are_named(name):
    holey = people().astype({"smokes": object})
    holey.loc[[2, 5], name] = None
    with pytest.raises(ValueError, match=rf"'{name}' has no value in 2 rows \(the first is row 2\)"):
        Covariates.learn(holey)
    covariates, _ = Covariates.learn(people())
    with pytest.raises(ValueError, match=rf"'{name}' has no value in 2 rows \(the first is row 2\)"):
        covariates.design(holey)


def test_numbers_are_finite():
    table = people()
    covariates, _ = Covariates.learn(table)
    table.loc[3, "age"] = np.inf
    for read in (Covariates.learn, covariates.design):
        with pytest.raises(ValueError, match=r"'age' is infinite in 1 rows \(the first is row 3\)"):
            read(table)


def test_text_is_no_number():
    covariates, _ = Covariates.learn(people())
    with pytest.raises(ValueError, match="'age' is numeric, but holds"):
        covariates.design(people().assign(age="old"))


@pytest.mark.parametrize("values", [pd.date_range("2020", periods=4), pd.timedelta_range("1D", periods=4)])
def test_dates_are_no_covariates(values):
    with pytest.raises(ValueError, match="'when' holds dates or times"):
        Covariates.learn(pd.DataFrame({"when": values}))


# ---- what cannot be told apart ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("constant", [[5, 5, 5, 5], [0.1, 0.1, 0.1, 0.1], list("aaaa")])
def test_constant_covariates_have_no_column(constant):
    table = pd.DataFrame({"site": constant, "age": [1.0, 2.0, 4.0, 8.0]})
    with pytest.warns(UserWarning, match="one value in training: 'site'"):
        covariates, design = Covariates.learn(table)
    assert covariates.columns == ["age"]
    assert_allclose(covariates.design(table), design)


def test_identifiers_are_no_covariates():
    table = pd.DataFrame({"id": list("abcde"), "age": [1.0, 2.0, 4.0, 8.0, 9.0]})
    with pytest.raises(ValueError, match=r"'id' has a level of its own for each of the 5 rows.*identifier"):
        Covariates.learn(table)
    with pytest.raises(ValueError, match="for each of the 4 rows"):
        Covariates.learn(table.replace({"id": {"e": "d"}}), weights=np.array([1.0, 1, 1, 1, 0]))
    assert len(Covariates.learn(table.replace({"id": {"e": "d"}}))[0].columns) == 4


def test_batches_of_one_site_each_are_named():
    table = pd.DataFrame({"site": list("aabbcc"), "batch": [1, 1, 2, 2, 3, 3], "age": [1, 5, 2, 4, 9, 0]})
    with pytest.raises(ValueError, match=r"'batch\[2\]' is a linear combination of 'site\[b\]'\. Leave one"):
        Covariates.learn(table, kinds={"batch": "categorical"})


def test_a_finer_covariate_determines_a_coarser_one():
    table = pd.DataFrame({"batch": list("abcdabcd"), "site": list("uuvvuuvv")})
    with pytest.raises(ValueError, match=r"'site\[v\]' is a linear combination of 'batch\[c\]', 'batch\[d\]'"):
        Covariates.learn(table)


def test_a_number_in_other_units_is_named():
    table = people()
    table["months"] = 12 * table["age"] + 3
    with pytest.raises(ValueError, match="'months' cannot be told from those of 'age'"):
        Covariates.learn(table)


def test_covariates_that_nearly_agree_are_taken():
    table = people(200)
    table["again"] = table["age"] + 1e-2 * np.random.default_rng(2).standard_normal(200)
    covariates, _ = Covariates.learn(table)
    assert "again" in covariates.columns


def test_rows_without_weight_do_not_tell_covariates_apart():
    table = pd.DataFrame({"site": list("aabba"), "batch": list("uuvvv")})
    Covariates.learn(table)
    with pytest.raises(ValueError, match="'batch' cannot be told from those of 'site'"):
        Covariates.learn(table, np.array([1.0, 1.0, 1.0, 1.0, 0.0]))


def test_values_that_are_no_labels_are_named():
    with pytest.raises(ValueError, match="Covariate 'batch' holds values that are no labels"):
        Covariates.learn(pd.DataFrame({"batch": [["x"], ["y", "z"], ["x"]]}))
