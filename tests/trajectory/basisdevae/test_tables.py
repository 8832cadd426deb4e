"""Tables that BasisDeVAEClusterer takes or refuses: sparse, memory-mapped, with gaps, degenerate."""

import warnings
from functools import partial

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from agreement import assert_agree
from by_hand import COUNT_LIKELIHOODS, LIKELIHOODS, with_holes
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm
from trajectory.basisdevae.cases import (
    INFERENCES,
    counts,
    fitted,
    hidden_times,
    progression,
    quick,
    replaced,
    table_for,
)

# ---- how tables are stored --------------------------------------------------------------------------------------


def non_canonical(table):
    """CSR with explicit zeros, unsorted columns, and every entry in two halves where that is a whole number."""
    rows, columns = np.nonzero(np.ones_like(table))
    values = table[rows, columns]
    first = np.floor(values / 2)
    order = np.argsort(np.concatenate([rows, rows]), kind="stable")
    pointer = np.concatenate([[0], np.cumsum(np.full(len(table), 2 * table.shape[1]))])
    entries = np.concatenate([first, values - first])[order]
    matrix = sp.csr_array((entries, np.concatenate([columns, columns])[order], pointer), shape=table.shape)
    assert not matrix.has_canonical_format
    return matrix


STORED = {
    "csr_matrix": sp.csr_matrix,
    "integers": lambda table: sp.csr_array(table.astype(np.int64)),
    "csc": sp.csc_array,
    "non-canonical": non_canonical,
}


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize(
    ("likelihood", "inference"), [*((likelihood, "exact") for likelihood in COUNT_LIKELIHOODS), ("nb", "amortized")]
)
def test_fits_to_sparse_tables_are_fits_to_tables(likelihood, inference):
    table, dense = counts(likelihood), fitted(likelihood, inference)
    sparse = quick(likelihood=likelihood, inference=inference).fit(sp.csr_array(table))
    assert_array_equal(sparse.labels_, dense.labels_)
    assert_allclose(sparse.score(table), dense.score(table), atol=1e-3)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize("likelihood", COUNT_LIKELIHOODS)
def test_a_fitted_model_reads_sparse_tables_as_tables(likelihood, inference):
    table, dense = counts(likelihood), fitted(likelihood, inference)
    stored = sp.csr_array(table)
    assert_agree(dense.transform(stored), dense.transform(table))
    assert_agree(dense.score_samples(stored), dense.score_samples(table))
    assert_agree(dense.predict_features_proba(stored), dense.predict_features_proba(table))
    assert_agree(dense.elbo(stored), dense.elbo(table))
    assert_agree(dense.conditional_log_likelihood(stored), dense.conditional_log_likelihood(table))
    assert_agree(dense.posterior(stored).lower, dense.posterior(table).lower)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("stored", STORED)
def test_every_sparse_format_is_the_same_table(stored):
    table = counts("nb")
    canonical, other = sp.csr_array(table), STORED[stored](table)
    before = other.copy()
    model = quick(likelihood="nb", max_epochs=5).fit(canonical)
    again = quick(likelihood="nb", max_epochs=5).fit(other)
    assert_array_equal(again.transform(canonical), model.transform(canonical))
    assert_array_equal(model.transform(other), model.transform(canonical))
    assert_array_equal(model.score_samples(other), model.score_samples(canonical))
    for name in ("data", "indices", "indptr"):
        assert_array_equal(getattr(other, name), getattr(before, name))


def test_orientation_by_a_column_of_a_sparse_table():
    table = counts("nb")
    dense = quick(likelihood="nb", orientation=2).fit(table)
    sparse = quick(likelihood="nb", orientation=2).fit(sp.csr_array(table))
    assert_array_equal(sparse.labels_, dense.labels_)
    assert np.corrcoef(sparse.transform(table)[:, 0], dense.transform(table)[:, 0])[0, 1] > 0.999


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_a_memory_map_is_a_table(likelihood, tmp_path):
    table = table_for(likelihood)
    joblib.dump(table, tmp_path / "table.joblib")
    mapped = joblib.load(tmp_path / "table.joblib", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    model = quick(likelihood=likelihood).fit(mapped)
    assert_array_equal(model.transform(mapped), fitted(likelihood).transform(table))


def test_the_order_of_memory_does_not_matter():
    table = progression().data
    model = quick().fit(np.asfortranarray(table))
    assert_agree(model.transform(np.asfortranarray(table)), fitted().transform(table), computed_in=np.float32)


@pytest.mark.slow(keep=1)
@pytest.mark.filterwarnings("ignore:No axis was found")
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_tables_are_left_alone(likelihood):
    table = with_holes(table_for(likelihood))
    before = table.copy()
    model = quick(likelihood=likelihood, max_epochs=3).fit(table)
    model.transform(table)
    model.predict_features(table)
    assert_array_equal(table, before)


# ---- missing entries, degenerate tables ---------------------------------------------------------------------------


@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_a_row_without_data_has_the_prior(likelihood, inference):
    model, rows = fitted(likelihood, inference), table_for(likelihood)[:4].copy()
    full = rows.copy()
    rows[2] = np.nan
    with pytest.warns(UserWarning, match=r"1 rows.*row 2"):
        posterior = model.posterior(rows)
    assert_allclose(posterior.mean[2], 0, atol=1e-6)
    assert_allclose(posterior.sd[2], 1, atol=1e-3)
    assert_allclose([posterior.lower[2, 0], posterior.upper[2, 0]], norm.ppf([0.025, 0.975]), atol=1e-2)
    with pytest.warns(UserWarning, match="row 2"):
        scores = model.score_samples(rows)
    assert_allclose(scores[2], 0, atol=1e-4)
    # its neighbours do not notice
    others = [0, 1, 3]
    assert_agree(posterior.mean[others], model.transform(full)[others])
    assert_agree(scores[others], model.score_samples(full)[others])


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_missing_entries_cost_little_of_the_order(likelihood, inference):
    # The axis of so few binary features is too faint for anything but chance: no feature may be flat.
    table, times = table_for(likelihood), hidden_times(likelihood)
    fit = partial(quick, n_clusters=3, likelihood=likelihood, inference=inference, max_epochs=60)
    with_missing, complete = fit().fit(with_holes(table)), fit().fit(table)
    assert np.isfinite(with_missing.lower_bound_)
    from_holes, from_all = (
        abs(np.corrcoef(model.transform(table)[:, 0], times)[0, 1]) for model in (with_missing, complete)
    )
    assert from_holes > from_all - 0.1


@pytest.mark.parametrize("inference", INFERENCES)
def test_missing_entries_can_first_appear_after_fit(inference):
    assert np.isfinite(fitted(inference=inference).transform(with_holes(progression().data))).all()


def test_constant_columns_keep_scores_finite():
    table = progression().data.copy()
    table[:, 3], table[:, 7] = 0.0, 1e6
    model = quick(max_epochs=20).fit(table)
    assert np.isfinite(model.score_samples(table)).all()
    assert np.isfinite(model.lower_bound_)
    assert_allclose(model.trajectories([0.0])[0, [3, 7]], [0, 1e6], atol=1e-1, rtol=1e-2)
    others = np.setdiff1d(np.arange(table.shape[1]), [3, 7])
    assert (model.noise_scale_[others] > 0).all()
    assert np.isnan(model.noise_scale_[[3, 7]]).all()  # nothing was learned of it


def test_duplicated_columns_keep_scores_finite():
    column = np.random.default_rng(0).standard_normal((100, 1))
    table = np.repeat(column, 4, axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that they are duplicates is said; see below
        model = quick(max_epochs=40).fit(table)
        assert np.isfinite(model.score_samples(table)).all()
    # each of the columns has at least the floor of noise, 1 % of its sd
    assert (model.noise_scale_ >= 0.01 * column.std() * (1 - 1e-6)).all()


@pytest.mark.filterwarnings("ignore:No axis was found")
@pytest.mark.parametrize("shape", [(2, 5), (5, 30), (30, 1), (30, 2)])
def test_fewer_samples_than_features_and_few_features(shape):
    table = np.random.default_rng(0).standard_normal(shape)
    model = quick(max_epochs=10).fit(table)
    assert np.isfinite(model.score(table))
    assert model.transform(table).shape == (shape[0], 1)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("likelihood", ["poisson", "nb", "zinb"])
def test_columns_of_zeros_among_counts(likelihood):
    table = counts("nb").copy()
    table[:, 4] = 0
    model = quick(likelihood=likelihood).fit(table)
    assert np.isfinite(model.score(table))
    assert model.trajectories([0.0])[0, 4] < 0.1


# ---- tables that are refused --------------------------------------------------------------------------------------


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize(
    ("likelihood", "value", "message"),
    [
        *((likelihood, -1.0, "Negative values in data") for likelihood in COUNT_LIKELIHOODS),
        *((likelihood, 0.5, "Fractional") for likelihood in COUNT_LIKELIHOODS),
        ("bernoulli", 2.0, "above 1"),
    ],
)
def test_what_is_no_count_is_refused_and_found(likelihood, value, message):
    table = replaced(counts(likelihood), 5, 7, value)
    model = quick(likelihood=likelihood)
    for stored in (table, sp.csr_array(table)):
        with pytest.raises(ValueError, match=f"{message}.*column 7"):
            model.fit(stored)
        with pytest.raises(ValueError, match=f"{message}.*column 7"):
            fitted(likelihood).transform(stored)
    with pytest.raises(ValueError, match=f"{message}.*column 'gene 7'"):
        model.fit(pd.DataFrame(table).add_prefix("gene "))


def test_rows_and_columns_without_data_are_named_at_fit():
    frame = pd.DataFrame(progression().data, columns=progression().feature_names)
    empty_column = frame.assign(increasing_01=np.nan)
    position = frame.columns.get_loc("increasing_01")
    with pytest.warns(UserWarning, match=r"'increasing_01': no entry is observed"):
        quick(max_epochs=2).fit(empty_column)
    with pytest.warns(UserWarning, match=rf"column {position}: no entry is observed"):
        quick(max_epochs=2).fit(empty_column.to_numpy())
    empty_row = frame.copy()
    empty_row.iloc[11] = np.nan
    with pytest.raises(ValueError, match=r"1 rows.*row 11"):
        quick().fit(empty_row)


def test_tables_that_are_none():
    table = progression().data
    with pytest.raises(ValueError, match="column 0 of X has no number in row 0, but 'a'"):
        quick().fit(np.array([["a", "b"], ["c", "d"]], dtype=object))
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        quick().fit(table[:1])
    with pytest.raises(ValueError, match="infinity"):
        quick().fit(replaced(table, 0, 0, np.inf))
    with pytest.raises(ValueError, match="Expected 2D array"):
        quick().fit(table[:, 0])
    with pytest.raises(TypeError, match="Sparse data was passed"):
        quick().fit(sp.csr_array(table))
    holes = sp.csr_array(replaced(counts("nb"), 3, 3, np.nan))
    with pytest.raises(ValueError, match="sparse X must not contain NaN"):
        quick(likelihood="nb").fit(holes)
    with pytest.raises(ValueError, match="sparse X must not contain NaN"):
        fitted("nb").transform(holes)


@pytest.mark.parametrize(
    "method", ["transform", "posterior", "predict_features", "predict_features_proba", "score", "elbo"]
)
def test_columns_must_be_those_of_fit(method):
    table = progression().data
    with pytest.raises(ValueError, match=r"9 features.*expecting 10"):
        getattr(fitted(), method)(table[:, 1:])
