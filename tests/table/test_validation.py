"""What users pass as tables: read for what it says, or refused with the name of what is wrong."""

from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
import torch

from skdevae import DeVAETransformer

TABLE = np.random.default_rng(0).poisson(3, (12, 3)).astype(float)
NAMES = ["age", "dose", "weight"]


def model(**parameters):
    return DeVAETransformer(
        n_grid_points=9, n_knots=5, hidden_layer_sizes=(3,), max_epochs=2, random_state=0, **parameters
    )


def frame(**columns):
    return pd.DataFrame(TABLE, columns=NAMES).assign(**columns)


EXPECTED = {likelihood: model(likelihood=likelihood).fit_transform(TABLE) for likelihood in ("gaussian", "nb")}


@pytest.mark.slow(keep=11)
@pytest.mark.parametrize("likelihood", EXPECTED)
@pytest.mark.parametrize(
    "same",
    [
        torch.from_numpy(TABLE),
        torch.from_numpy(TABLE).requires_grad_(),
        torch.from_numpy(TABLE).bfloat16(),
        np.ma.masked_array(TABLE, np.zeros(TABLE.shape, bool)),
        pd.DataFrame(TABLE, columns=NAMES).astype(pd.SparseDtype(float, np.nan)),
        pd.DataFrame(TABLE, columns=NAMES).astype(pd.SparseDtype(float, 3)),
        frame(dose=pd.Categorical(TABLE[:, 1])),
        pd.DataFrame(TABLE, columns=NAMES).astype("Int64"),
        pl.DataFrame(TABLE, schema=NAMES),
        TABLE.astype(np.float16),
        TABLE.astype(np.longdouble),
        [[Decimal(int(x)) for x in row] for row in TABLE],
    ],
    ids=lambda same: type(same).__name__,
)
def test_the_same_numbers_in_another_container_are_the_same_table(likelihood, same):
    got = model(likelihood=likelihood).fit_transform(same)
    # a table of single precision gives latents of single precision
    np.testing.assert_allclose(got, EXPECTED[likelihood].astype(got.dtype), rtol=0, atol=1e-6)


def test_masked_entries_are_missing_whatever_lies_beneath():
    gaps = np.zeros(TABLE.shape, bool)
    gaps[1, 2] = gaps[5, 0] = True
    expected = model().fit_transform(np.where(gaps, np.nan, TABLE))
    for beneath in (TABLE, np.where(gaps, -999, TABLE).astype(int)):
        np.testing.assert_array_equal(model().fit_transform(np.ma.masked_array(beneath, gaps)), expected)


@pytest.mark.parametrize(
    "dose",
    ["high", pd.Period("2020-01", "M"), pd.NA, pd.Interval(0, 1), (1.0, 2.0), 10**400],
    ids=lambda dose: type(dose).__name__,
)
def test_an_entry_that_is_no_number_is_named_with_its_column_and_row(dose):
    odd = frame(dose=pd.Series([1.0, 2.0, dose, *[3.0] * 9], dtype=object))
    for table, column in ((odd, "'dose'"), (odd.to_numpy(object), "1"), (odd.to_numpy(object).tolist(), "1")):
        with pytest.raises((TypeError, ValueError), match=f"column {column} of X has no number in row 2, but "):
            model().fit(table)
    fitted = model().fit(frame())
    with pytest.raises((TypeError, ValueError), match="column 'dose' of X has no number in row 2, but "):
        fitted.transform(odd)


DAY = np.datetime64("2020-01-01")


@pytest.mark.parametrize(
    "dates, named",
    [
        (np.full((12, 3), DAY), "X"),
        (np.full((12, 3), DAY - DAY), "X"),
        (frame(dose=pd.Timestamp(DAY)), "column 'dose' of X"),
        (frame(dose=pd.Timestamp(DAY, tz="UTC")), "column 'dose' of X"),
        (frame(dose=pd.Timedelta(1, "D")), "column 'dose' of X"),
        (pl.DataFrame(TABLE, schema=NAMES).with_columns(pl.date(2020, 1, 1).alias("dose")), "column 'dose' of X"),
        (pl.DataFrame({name: np.full(12, DAY) for name in NAMES}), "column 'age' of X"),
    ],
)
def test_dates_are_not_taken_for_numbers(dates, named):
    with pytest.raises(ValueError, match=f"{named} holds dates or times"):
        model().fit(dates)


@pytest.mark.parametrize(
    "odd, message",
    [
        (frame().set_axis(["dose", "dose", "age"], axis=1), "several columns named 'dose'"),
        (frame().set_axis([1, 1, 1], axis=1), "several columns named 1"),
        (pd.DataFrame(index=range(12)), "without columns"),
        (np.zeros((12, 0)), r"0 feature\(s\)"),
        (np.zeros((0, 3)), r"0 sample\(s\)"),
        ([*TABLE.tolist(), [1.0]], "different lengths, from 1 to 3"),
    ],
)
def test_what_is_no_table_is_said(odd, message):
    with pytest.raises(ValueError, match=message):
        model().fit(odd)


@pytest.mark.parametrize(
    "odd", [{"a": [1.0]}, iter(TABLE), pl.LazyFrame(TABLE), torch.from_numpy(TABLE).to_sparse(), object()],
    ids=lambda odd: type(odd).__name__,
)  # fmt: skip
def test_what_no_table_can_be_read_from_is_a_type_error(odd):
    with pytest.raises(TypeError, match=r"^X"):
        model().fit(odd)


@pytest.mark.parametrize("dtype", [np.float64, np.longdouble])
def test_infinite_entries_are_named(dtype):
    odd = TABLE.astype(dtype)
    odd[4, 1] = np.inf if dtype == np.float64 else np.longdouble("1e400")
    for table, column in ((odd, "1"), (pd.DataFrame(odd, columns=NAMES), "'dose'")):
        with pytest.raises(ValueError, match=f"infinity.*1 entries, in column {column} .*row 4"):
            model().fit(table)
    with pytest.raises(ValueError, match=r"infinity.*1 entries, in column 1 .*row 4"):
        model(likelihood="nb").fit(sp.csr_array(odd))


def test_counts_that_floats_hold_only_roughly_are_refused():
    whole = TABLE.astype(np.int64)
    whole[3, 2] = 2**53
    model(likelihood="nb")._validate(whole, reset=True)
    whole[3, 2] += 2
    for table in (whole, sp.csr_array(whole)):
        with pytest.raises(ValueError, match=r"Counts above 2\*\*53.* column 2"):
            model(likelihood="nb").fit(table)


@pytest.mark.parametrize("values", ["a", [[1], [2, 3]], [1j], [10**400], {"a": 1}], ids=str)
def test_positions_that_are_no_numbers_are_named(values):
    fitted = model().fit(TABLE)
    for name, method in {"z": fitted.trajectories, "Z": fitted.inverse_transform}.items():
        with pytest.raises((ValueError, TypeError), match=rf"\b{name}\b|Complex data|Expected 2D array"):
            method(values)
    with pytest.raises((ValueError, TypeError), match=r"orientation|Complex data"):
        model().fit(TABLE, orientation=values)


def test_complex_columns_are_named():
    with pytest.raises(ValueError, match="Complex data not supported: X holds"):
        model().fit(TABLE + 1j)
    with pytest.raises(ValueError, match="Complex data not supported: column 'dose' of X holds"):
        model().fit(frame(dose=1j))
