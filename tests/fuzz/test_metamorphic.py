"""Laws that hold for any table: what must not matter, on random tables and the smallest fits.

The starting weights of most models are drawn column by column, so that another order of columns is another start: there
the law holds at the end of a long fit, in the tests of each estimator. Here it is tested where no weight is drawn.
"""

from dataclasses import replace

import numpy as np
import pytest
from agreement import assert_agree
from fuzz.estimators import SMALL, EstimatorRecipe
from fuzz.tables import GOOD_CONTAINERS, SPARSE_CONTAINERS, TableRecipe
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

ESTIMATORS = [
    *(EstimatorRecipe(name) for name in SMALL),
    EstimatorRecipe("DeVAETransformer", (("inference", "'amortized'"),)),
    EstimatorRecipe("DGDEmbedder", (("latent_init", "'zero'"),)),
]
IDS = [f"{one.name}{'-' if one.changes else ''}{'-'.join(value for _, value in one.changes)}" for one in ESTIMATORS]
for_all_estimators = pytest.mark.parametrize("estimator", ESTIMATORS, ids=IDS)
quickly = settings(max_examples=2, derandomize=True, deadline=None, database=None, phases=[Phase.generate])
random_tables = st.builds(
    TableRecipe,
    n=st.integers(8, 30),
    d=st.integers(2, 8),
    contents=st.sampled_from(("curves", "noise")),
    damage=st.sampled_from(((), ("NaN here and there",), ("a sum of columns",), ("columns twice",), ("rows twice",))),
    seed=st.integers(0, 99),
)
random_counts = st.builds(TableRecipe, n=st.integers(8, 30), d=st.integers(3, 8), contents=st.just("counts"))
no_matter_here = pytest.mark.filterwarnings("ignore:No axis", "ignore:.*lie beyond", "ignore:X has feature names")


def observed(X: np.ndarray) -> np.ndarray:
    """A table without the rows and columns that hold nothing."""
    X = X[:, ~np.isnan(X).all(0)]
    return X[~np.isnan(X).all(1)]


@pytest.mark.slow(keep=1)
@no_matter_here
@for_all_estimators
@quickly
@given(table=random_tables, seed=st.integers(0, 99))
def test_units_do_not_matter(estimator, table, seed):
    random, X = np.random.default_rng(seed), observed(table.values())
    factor = 10 ** random.uniform(-9, 9, X.shape[1])
    ours = estimator.build().fit(X)
    theirs = estimator.build().fit(factor * X)
    # Where rows are read in an order that depends on what they hold, batches depend on their units: always in
    # DGDEmbedder, and in others where a table has copies of rows.
    has_copies = len(np.unique(X, axis=0)) < len(X)
    by_content = estimator.name == "DGDEmbedder" or (has_copies and estimator.name in ("VAETransformer", "VampVAE"))
    tolerance = 0.1 if by_content else 1e-4
    volumes = ~np.isnan(X) @ np.log(factor)
    assert_allclose(theirs.score_samples(factor * X) + volumes, ours.score_samples(X), atol=tolerance, rtol=0)


@pytest.mark.slow(keep=1)
@no_matter_here
@for_all_estimators
@quickly
@given(table=random_tables)
def test_a_row_alone_is_judged_as_in_company(estimator, table):
    X = observed(table.values())
    model = estimator.build().fit(X)
    for answer in (model.transform, model.score_samples, lambda rows: model.posterior(rows).sd):
        alone = np.concatenate([answer(X[i : i + 1]) for i in range(3)])
        assert_allclose(alone, answer(X)[:3], rtol=1e-9, atol=1e-9)


@pytest.mark.slow(keep=1)
@no_matter_here
@pytest.mark.filterwarnings("ignore:.*column")
@for_all_estimators
@quickly
@given(table=random_tables, value=st.sampled_from((0.0, 5.0, -1e6, np.nan)), where=st.floats(0, 1))
def test_a_column_that_says_nothing_changes_nothing(estimator, table, value, where):
    X = observed(table.values())
    more = np.insert(X, int(where * X.shape[1]), value, axis=1)
    ours, theirs = estimator.build().fit(X), estimator.build().fit(more)
    assert_allclose(theirs.transform(more), ours.transform(X), rtol=0, atol=1e-4)
    assert_allclose(theirs.score_samples(more), ours.score_samples(X), rtol=0, atol=1e-4)


@pytest.mark.slow(keep=1)
@no_matter_here
@pytest.mark.parametrize(
    "estimator",
    [
        EstimatorRecipe("BasisVAEClusterer"),
        EstimatorRecipe("VAETransformer", (("decoder", "'linear'"), ("hidden_layer_sizes", "None"))),
    ],
    ids=lambda estimator: estimator.name,
)
@quickly
@given(table=random_tables, seed=st.integers(0, 99))
def test_the_order_of_columns_does_not_matter(estimator, table, seed):
    X = observed(table.values())
    order = np.random.default_rng(seed).permutation(X.shape[1])
    ours, theirs = estimator.build().fit(X), estimator.build().fit(X[:, order])
    assert_allclose(theirs.score_samples(X[:, order]), ours.score_samples(X), atol=0.02, rtol=0)


@no_matter_here
@quickly
@given(table=random_tables, seed=st.integers(0, 99))
def test_a_weight_is_a_number_of_copies(table, seed):
    X = observed(table.values())
    weights = np.random.default_rng(seed).integers(1, 4, len(X))
    weighted = EstimatorRecipe("DGDEmbedder").build().fit(X, sample_weight=weights)
    repeated = EstimatorRecipe("DGDEmbedder").build().fit(np.repeat(X, weights, axis=0))
    assert_agree(repeated.transform(X), weighted.transform(X))
    assert_agree(repeated.score_samples(X), weighted.score_samples(X))


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("name", ["DeVAETransformer", "VAETransformer", "DGDEmbedder"])
@no_matter_here
def test_what_a_table_comes_in_does_not_matter(name):
    table = TableRecipe(n=12, d=4, damage=("NaN here and there",))
    expected = EstimatorRecipe(name).build().fit_transform(table.values())
    for container in GOOD_CONTAINERS:
        got = EstimatorRecipe(name).build().fit_transform(replace(table, container=container).build())
        assert_allclose(got, expected, rtol=0, atol=1e-6, err_msg=container)


@pytest.mark.slow(keep=1)
@for_all_estimators
@no_matter_here
@settings(quickly, max_examples=1)
@given(counts=random_counts)
def test_what_counts_come_in_does_not_matter(estimator, counts):
    model = EstimatorRecipe(estimator.name, (*estimator.changes, ("likelihood", "'nb'"))).build().fit(counts.values())
    expected = model.transform(counts.values()), model.score_samples(counts.values())
    for container in SPARSE_CONTAINERS:
        same = replace(counts, container=container).build()
        assert_allclose(model.transform(same), expected[0], rtol=0, atol=1e-9, err_msg=container)
        assert_allclose(model.score_samples(same), expected[1], rtol=1e-9, atol=1e-9, err_msg=container)
