"""About tables of Dask, methods answer lazily, and with the numbers that they give in memory."""

import copy
import pickle
import sys
from functools import cache

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import sklearn
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skdevae import BasisDeVAEClusterer, BasisVAEClusterer, DeVAETransformer, DGDEmbedder, VAETransformer, VampVAE

dask = pytest.importorskip("dask", reason="answers about tables of Dask")
da = pytest.importorskip("dask.array", reason="answers about tables of Dask")
dd = pytest.importorskip("dask.dataframe", reason="answers about tables of Dask")

N, COLUMNS = 14, list("abcd")
QUICK = {"likelihood": "nb", "hidden_layer_sizes": (4,), "max_epochs": 1, "random_state": 0}
ENCODER = {**QUICK, "encoder_hidden_layer_sizes": (4,), "n_importance_samples": 4}
AXIS = {**QUICK, "n_knots": 5, "n_grid_points": 9}
ESTIMATORS = {
    "BasisDeVAE": BasisDeVAEClusterer(**AXIS, leveling_off="turn"),
    "BasisVAE": BasisVAEClusterer(2, **AXIS),
    "DeVAE": DeVAETransformer(**{**AXIS, "likelihood": "gaussian"}),
    "VAE": VAETransformer(2, **ENCODER),
    "VampVAE": VampVAE(2, **ENCODER, n_clusters=2, n_pseudo_inputs=4),
    "DGD": DGDEmbedder(2, **QUICK, n_clusters=2, n_init=1, n_importance_samples=4),
}
AVERAGES = ("score", "elbo", "conditional_log_likelihood")

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning",
    "ignore:.* lie beyond the range",
    "ignore:.*no observed entry",
    "ignore:X does not have valid feature names",
)
each_estimator = pytest.mark.parametrize("name", ESTIMATORS)


@pytest.fixture(autouse=True)
def _in_this_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


@cache
def table():
    random = np.random.default_rng(0)
    means = np.exp(1.5 + np.outer(random.normal(size=N), random.normal(size=len(COLUMNS))))
    return pd.DataFrame(random.poisson(means).astype(float), columns=COLUMNS, index=[f"s{i:02}" for i in range(N)])


@cache
def fitted(name):
    """Shared between tests, which must not change it."""
    return clone(ESTIMATORS[name]).fit(table())


def methods_of(name):
    """Methods of an estimator that answer row by row."""
    predictions = {"DeVAE": ["predict"], "VAE": ["predict"]}
    predictions |= {clusterer: ["predict", "predict_proba"] for clusterer in ("VampVAE", "DGD")}
    return ["transform", "score_samples", "adjust", *predictions.get(name, [])]


def chunked(values):
    """An array in blocks of 6, 0 and 8 rows."""
    return da.from_array(values, chunks=((6, 0, 8), values.shape[1]))


def partitioned(values=None):
    return dd.from_pandas(table() if values is None else values, npartitions=2)


def no_block(block):
    raise OSError("the disk is gone")


def raising(X):
    """The same table, of which no block can be computed."""
    map_blocks = X.map_partitions if hasattr(X, "divisions") else X.map_blocks
    return map_blocks(no_block, meta=X._meta)


def dense(answer):
    return answer.toarray() if sp.issparse(answer) else np.asarray(answer)


def assert_is_as_announced(lazy, found):
    """What was known before an array was computed is right."""
    assert isinstance(lazy, da.Array)
    assert type(lazy._meta) is type(found)
    assert lazy.dtype == found.dtype
    assert lazy.ndim == found.ndim
    assert all(np.isnan(known) or known == size for known, size in zip(lazy.shape, found.shape, strict=True))
    assert lazy.chunks[1:] == tuple((size,) for size in found.shape[1:])


@pytest.mark.slow(keep=3)
@pytest.mark.parametrize("layout", ["array", "data frame", "sparse array"])
@each_estimator
def test_rows_have_the_answers_that_they_have_in_memory(name, layout):
    if layout == "sparse array" and name == "DeVAE":
        pytest.skip("measurements are dense")
    model, values = fitted(name), table()
    if layout == "data frame":
        X, lengths = partitioned(), (np.nan, np.nan)
    else:
        values = values.to_numpy(np.float32)
        X, lengths = chunked(values), (6, 0, 8)
    if layout == "sparse array":
        X, values = X.map_blocks(sp.csr_array), sp.csr_array(values)
    some = {"sparse array": ["transform", "adjust"], "data frame": ["transform", "score_samples"]}
    for method in some.get(layout, methods_of(name)):
        lazy, expected = getattr(model, method)(X), getattr(model, method)(values)
        found = lazy.compute()
        assert_is_as_announced(lazy, found)
        np.testing.assert_array_equal(lazy.chunks[0], lengths)
        assert found.dtype == expected.dtype
        assert_allclose(dense(found), dense(expected), rtol=1e-9, atol=1e-9)


@pytest.mark.slow(keep=2)
@each_estimator
def test_averages_are_those_in_memory(name):
    model, values = fitted(name), table().to_numpy()
    X, weights = chunked(values), np.resize([0.5, 0.0, 2.0], N)
    weights[:6] = 0  # of a whole block
    for method in AVERAGES:
        assert getattr(model, method)(X) == pytest.approx(getattr(model, method)(values), rel=1e-9)
    expected = model.score(values, sample_weight=weights)
    given = weights if name in ("DeVAE", "VAE") else da.from_array(weights, chunks=5)
    assert model.score(X, sample_weight=given) == pytest.approx(expected, rel=1e-9)


@each_estimator
def test_expected_rows_of_latents_are_those_in_memory(name):
    Z = np.linspace(-1, 1, 4 * fitted(name)._n_features_out, dtype=np.float32).reshape(4, -1)
    lazy = fitted(name).inverse_transform(da.from_array(Z, chunks=(3, -1)))
    found = lazy.compute()
    assert_is_as_announced(lazy, found)
    assert_allclose(found, fitted(name).inverse_transform(Z), rtol=1e-6)


@each_estimator
def test_set_output_gives_data_frames_of_dask(name):
    model, X = copy.deepcopy(fitted(name)).set_output(transform="pandas"), partitioned()
    expected, lazy = model.transform(X.compute()), model.transform(X)  # Dask has text of a dtype of its own
    assert isinstance(lazy, dd.DataFrame)
    assert lazy.divisions == X.divisions
    assert list(lazy.columns) == list(model.get_feature_names_out())
    pd.testing.assert_frame_equal(lazy._meta, expected.iloc[:0])
    pd.testing.assert_frame_equal(lazy.compute(), expected)
    of_array = model.transform(chunked(table().to_numpy()))
    pd.testing.assert_frame_equal(of_array.compute(), expected.reset_index(drop=True))
    back = model.inverse_transform(lazy)
    pd.testing.assert_frame_equal(back.compute(), model.inverse_transform(expected))
    assert list(back.columns) == COLUMNS
    assert isinstance(model.score_samples(X), da.Array)


def test_the_global_configuration_is_followed():
    model, X = fitted("DeVAE"), partitioned()
    with sklearn.config_context(transform_output="pandas"):
        lazy = model.transform(X)
    assert isinstance(lazy.compute(), pd.DataFrame)
    lazy = model.transform(X)
    with sklearn.config_context(transform_output="pandas"):  # what was asked for before stays an array
        assert isinstance(lazy.compute(), np.ndarray)
    message = r"polars, which Dask has none of: choose set_output\(transform='pandas'\)"
    with sklearn.config_context(transform_output="polars"), pytest.raises(ValueError, match=message):
        model.transform(X)


@each_estimator
def test_nothing_is_computed_before_it_is_asked_for(name):
    for X in map(raising, (chunked(table().to_numpy()), partitioned())):
        for method in methods_of(name):
            lazy = getattr(fitted(name), method)(X)
            with pytest.raises(OSError, match="the disk is gone"):
                lazy.compute()
        for method in AVERAGES:
            with pytest.raises(OSError, match="the disk is gone"):
                getattr(fitted(name), method)(X)


@each_estimator
def test_a_graph_has_one_estimator_and_the_same_keys_each_time(name):
    model, X = fitted(name), chunked(table().to_numpy())
    lazy = model.transform(X)
    asked = [key for key in dict(lazy.dask) if type(model).__name__ in str(key)]
    assert len(asked) == 1
    assert sum(lazy.name in str(key) for key in dict(lazy.dask)) == X.numblocks[0]
    assert model.transform(X).name == lazy.name
    assert model.transform(partitioned()).name == model.transform(partitioned()).name
    assert model.transform(X + 0).name != lazy.name
    assert model.score_samples(X).name != lazy.name
    assert dask.base.tokenize(model) != dask.base.tokenize(clone(model))


def test_another_fit_has_other_keys_and_changes_no_answer_that_was_asked_for():
    model, X = clone(ESTIMATORS["DeVAE"]).fit(table()), partitioned()
    assert dask.base.tokenize(model) == dask.base.tokenize(clone(model).fit(table()))
    assert dask.base.tokenize(model) == dask.base.tokenize(pickle.loads(pickle.dumps(model)))
    expected, lazy = model.transform(table()), model.transform(X)
    model.fit(table() ** 2)
    assert model.transform(X).name != lazy.name
    assert_allclose(lazy.compute(), expected)


def test_what_a_fit_says_of_training_rows_stays_at_home():
    model, without = fitted("DGD"), copy.deepcopy(fitted("DGD"))
    without.embedding_ = without.labels_ = None
    assert without.predict(partitioned()).name == model.predict(partitioned()).name
    assert model.embedding_ is not None


# ---- facts of rows --------------------------------------------------------------------------------------------------


@cache
def facts():
    random = np.random.default_rng(1)
    covariates = pd.DataFrame({"batch": np.resize(["x", "y", "y"], N), "age": random.normal(size=N)}, table().index)
    return {"size_factors": random.lognormal(0, 0.3, N), "covariates": covariates}


@cache
def fitted_with_facts(name):
    return clone(ESTIMATORS[name]).fit(table(), **facts())


#: the same facts in other forms
FORMS = {
    "in memory": lambda sizes, covariates: (sizes, covariates),
    "lists": lambda sizes, covariates: (list(sizes), {"batch": covariates["batch"].tolist(), "age": covariates["age"]}),
    "arrays of Dask": lambda sizes, covariates: (
        da.from_array(sizes, chunks=3),
        da.from_array(covariates.to_numpy(object), chunks=(4, 1)),
    ),
    "as many blocks": lambda sizes, covariates: (
        dd.from_delayed([dask.delayed(pd.Series)(sizes[rows]) for rows in (slice(6), slice(0), slice(6, N))]),
        dd.from_delayed([dask.delayed(covariates.iloc[rows]) for rows in (slice(6), slice(0), slice(6, N))]),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_facts_are_those_of_the_rows_of_a_block(form):
    model, values = fitted_with_facts("BasisDeVAE"), table().to_numpy()
    sizes, covariates = FORMS[form](*facts().values())
    lazy = model.score_samples(chunked(values), size_factors=sizes, covariates=covariates)
    assert_allclose(lazy.compute(), model.score_samples(values, **facts()), rtol=1e-9)
    again = model.score_samples(chunked(values), size_factors=sizes, covariates=covariates)
    assert lazy.name == again.name


def test_facts_of_data_frames_are_those_of_their_partitions():
    model, X = fitted_with_facts("DGD"), partitioned()
    sizes, covariates = pd.Series(facts()["size_factors"], table().index), partitioned(facts()["covariates"])
    expected = model.transform(table(), **facts())
    for of_dask in (partitioned(sizes), da.from_array(sizes.to_numpy(), chunks=7)):
        found = model.transform(X, size_factors=of_dask, covariates=covariates)
        assert_allclose(found.compute(), expected, rtol=1e-9)
    of_all = {"batch": "y", "age": 0.0}
    found = model.transform(X, size_factors=partitioned(sizes), covariates=of_all)
    assert_allclose(found.compute(), model.transform(table(), size_factors=sizes, covariates=of_all), rtol=1e-9)
    expected = model.score(table(), sample_weight=sizes, **facts())
    found = model.score(X, sample_weight=partitioned(sizes), size_factors=partitioned(sizes), covariates=covariates)
    assert found == pytest.approx(expected, rel=1e-9)


def test_columns_of_a_block_condition_it():
    with_batch = table().assign(batch=np.resize(["x", "y"], N))
    model = VAETransformer(1, **ENCODER, covariates="batch").fit(with_batch)
    for values in (with_batch, with_batch.astype({"batch": "category"})):
        lazy = model.predict(partitioned(values))
        assert_allclose(lazy.compute(), model.predict(values), rtol=1e-9)
        assert lazy.shape[1] == len(COLUMNS)


def test_a_rule_for_sizes_is_asked_about_blocks():
    asked = []

    def sizes(X):
        asked.append(X.shape[0])
        return X.sum(1) + 1

    model, values = VAETransformer(1, **ENCODER, size_factors=sizes).fit(table().to_numpy()), table().to_numpy()
    asked.clear()
    lazy = model.transform(chunked(values))
    assert asked == []
    assert_allclose(lazy.compute(), model.transform(values), rtol=1e-9)
    assert sorted(asked) == [6, 8, N]


# ---- blocks of all kinds --------------------------------------------------------------------------------------------


def test_entries_may_be_missing_and_lengths_unknown():
    values = table().to_numpy().copy()
    values[::3, 1] = np.nan
    values[9] = np.nan
    model, X = fitted("DeVAE"), chunked(values)
    X._chunks = ((np.nan,) * X.numblocks[0], X.chunks[1])
    for method in methods_of("DeVAE"):
        lazy = getattr(model, method)(X)
        assert np.isnan(lazy.shape[0])
        assert_allclose(lazy.compute(), getattr(model, method)(values), rtol=1e-9)
    assert model.score(X) == pytest.approx(model.score(values), rel=1e-9)


@pytest.mark.parametrize("dtype", ["Int64", "float32", "int8", "Float64", object])
def test_dtypes_of_pandas_are_read_as_in_memory(dtype):
    values = table().astype(dtype)
    lazy, expected = fitted("DeVAE").transform(partitioned(values)), fitted("DeVAE").transform(values)
    found = lazy.compute()
    assert lazy.dtype == expected.dtype == found.dtype
    assert_allclose(found, expected, rtol=1e-9)


def test_tables_without_rows_have_empty_answers():
    model, nothing = fitted("DGD"), da.empty((0, len(COLUMNS)))
    assert model.transform(nothing).compute().shape == (0, 2)
    assert model.predict(nothing).compute().dtype == model.predict(table()).dtype
    with pytest.raises(ValueError, match=r"Found array with 0 sample\(s\)"):
        model.score(nothing)
    with sklearn.config_context(transform_output="pandas"):
        frame = model.transform(partitioned()[partitioned()["a"] < 0])
    assert frame.compute().shape == (0, 2)
    assert list(frame.compute().columns) == list(frame.columns)


# ---- what is wrong --------------------------------------------------------------------------------------------------

ARRAY, FRAME = chunked(table().to_numpy()), partitioned()
WRONG_TABLES = {
    "columns in chunks": (ARRAY.rechunk((6, 3)), ValueError, r"into 2 chunks of columns.*X\.rechunk\(\{1: -1\}\)"),
    "too few columns": (ARRAY[:, :3], ValueError, "X has 3 features, but DeVAETransformer is expecting 4"),
    "one dimension": (ARRAY[:, 0], ValueError, "Expected 2D array, got 1D array"),
    "a series": (FRAME["a"], ValueError, "Expected 2D array, got 1D array"),
    "columns in another order": (FRAME[list("dcba")], ValueError, "must be in the same order"),
    "a column is missing": (FRAME[list("abc")], ValueError, "yet now missing:\n- d"),
    "another column": (FRAME.rename(columns={"a": "A"}), ValueError, "unseen at fit time:\n- A"),
    "sparse measurements": (ARRAY.map_blocks(sp.csr_array), TypeError, "Sparse data was passed"),
    "dates": (FRAME.assign(d=pd.Timestamp(0)), ValueError, "column 'd' of X holds dates"),
    "complex numbers": (ARRAY * 1j, ValueError, "Complex data not supported"),
}


@pytest.mark.parametrize("kind", WRONG_TABLES)
def test_what_is_wrong_with_a_table_is_said_before_it_is_computed(kind):
    X, error, message = WRONG_TABLES[kind]
    for method in ("transform", "score"):
        with pytest.raises(error, match=message):
            getattr(fitted("DeVAE"), method)(raising(X))


@pytest.mark.parametrize("X", [dask.delayed(np.ones)((3, 4)), [dask.delayed(np.ones)((3, 4))]])
def test_delayed_chunks_are_to_become_a_table(X):
    with pytest.raises(TypeError, match=r"whose shape nobody knows.*dask\.array\.from_delayed"):
        fitted("DeVAE").transform(X)


WRONG_FACTS = {
    "too few": (ARRAY, {"size_factors": np.ones(3)}, "size_factors has 3 rows, but X has 14"),
    "too few in Dask": (ARRAY, {"size_factors": da.ones(3)}, "size_factors has 3 rows, but X has 14"),
    "none": (ARRAY, {}, "pass those of the rows of this X, too"),
    "a rule": (ARRAY, {"size_factors": "sum"}, "is no number for each row"),
    "in memory": (FRAME, {"size_factors": np.ones(N)}, "size_factors is in memory.*series or data frame of Dask"),
    "lengths unknown": (ARRAY[ARRAY[:, 0] > 0], {"size_factors": np.ones(N)}, r"call X\.compute_chunk_sizes\(\)"),
    "other partitions": (FRAME, {"size_factors": FRAME["a"].repartition(npartitions=1)}, "has 1 blocks .* X has 2"),
    "other divisions": (FRAME, {"size_factors": partitioned(table()["a"].iloc[:9])}, "not known to hold the same rows"),
    "of none": (ARRAY, {"size_factors": np.ones(N), "covariates": np.ones(N)}, "fitted without any"),
}


@cache
def fitted_with_sizes():
    return clone(ESTIMATORS["BasisVAE"]).fit(table(), size_factors=np.ones(N))


@pytest.mark.parametrize("kind", WRONG_FACTS)
def test_what_is_wrong_with_facts_is_said_before_a_table_is_computed(kind):
    X, given, message = WRONG_FACTS[kind]
    with pytest.raises(ValueError, match=message):
        fitted_with_sizes().transform(raising(X), **given)


def test_weights_that_count_nothing_are_an_error():
    with pytest.raises(ValueError, match=r"zero"):
        fitted("DeVAE").score(ARRAY, sample_weight=np.zeros(N))
    with pytest.raises(ValueError, match=r"block 0 of X .*: Negative values in data"):
        fitted("DeVAE").score(ARRAY[:6], sample_weight=-np.ones(6))


def test_an_estimator_without_a_fit_says_so():
    with pytest.raises(NotFittedError):
        DeVAETransformer().transform(ARRAY)


def test_an_error_says_in_which_block_it_was():
    faulty = table().to_numpy().copy()
    faulty[7, 2] = np.inf
    message = r"^block 2 of X \(rows 6 to 13, of which the first is row 0 here\): .*infinity.*the first in row 1"
    with pytest.raises(ValueError, match=message):
        fitted("DeVAE").transform(chunked(faulty)).compute()
    with pytest.raises(ValueError, match=r"^partition 1 of X \(its first row is row 0 here\): .*infinity"):
        fitted("DeVAE").score(partitioned(pd.DataFrame(faulty, table().index, COLUMNS)))


def test_an_error_names_latents_as_latents():
    Z = da.from_array(np.array([[0.0], [np.nan]]), chunks=1)
    with pytest.raises(ValueError, match=r"^block 1 of Z \(rows 1 to 1, .*contains NaN"):
        fitted("DeVAE").inverse_transform(Z).compute()
    with pytest.raises(ValueError, match="Z has 3 columns, but the latent has 1"):
        fitted("DeVAE").inverse_transform(da.zeros((2, 3)))


def test_a_warning_says_in_which_block_it_was():
    with_gaps = table().to_numpy().copy()
    with_gaps[7] = np.nan
    lazy = fitted("DeVAE").score_samples(chunked(with_gaps))
    with pytest.warns(
        UserWarning, match=r"^block 2 of X \(rows 6 to 13.*: 1 rows have no observed .* row 1\)"
    ) as found:
        lazy.compute()
    assert __file__ in {warning.filename for warning in found}


@pytest.mark.parametrize("name", ["BasisVAE", "DGD"])
def test_posteriors_and_labels_of_columns_are_found_at_once(name):
    X = partitioned()
    for form in ("default", "pandas"):
        with sklearn.config_context(transform_output=form):
            found, expected = fitted(name).posterior(X), fitted(name).posterior(X.compute())
        pd.testing.assert_frame_equal(pd.DataFrame(found), pd.DataFrame(expected))
    if name == "BasisVAE":
        np.testing.assert_array_equal(fitted(name).predict_features(X), fitted(name).predict_features(table()))


def test_fit_transform_answers_as_transform_does():
    X, model = partitioned(), clone(ESTIMATORS["DeVAE"]).set_output(transform="pandas")
    lazy = model.fit_transform(X, y=None)
    pd.testing.assert_frame_equal(lazy.compute(), model.transform(X.compute()))
    with pytest.raises(TypeError, match="whose shape nobody knows"):
        model.fit_transform(list(X.to_delayed()))


def test_without_dask_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask.base", None)
    with pytest.raises(ImportError, match=r'pip install "skdevae\[dask\]"'):
        fitted("DeVAE").transform(ARRAY)
