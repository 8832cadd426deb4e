"""Association tests: a feature is tested along an axis that it has had no part in."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from agreement import assert_agree
from scipy.stats import false_discovery_control
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdevae import BasisDeVAEClusterer, BasisVAEClusterer, DeVAETransformer, VAETransformer
from skdevae.datasets import make_progression
from skdevae.inspection import _association, association_test

N = 60
SHORT = {"max_epochs": 2, "random_state": 0}


def devae(**options):
    return DeVAETransformer(**SHORT, **options)


def progression(likelihood="gaussian", n=N):
    """Three features that rise, two that fall, and one of noise."""
    random = np.random.default_rng(0)
    values = make_progression(n, n_transient=0, n_increasing=3, n_decreasing=2, random_state=0).data
    values = np.column_stack([values, random.normal(size=n)])
    values = (values - values.mean(0)) / values.std(0)
    if likelihood in ("poisson", "nb"):
        return random.poisson(4 * np.exp(0.7 * values)).astype(float)
    return (values > 0).astype(float) if likelihood == "bernoulli" else values


@pytest.fixture
def places_seen(monkeypatch):
    """Where rows lie in each test, beside which features are tested."""
    seen = []

    def noted(values, places, conditions, n_permutations, seed):
        seen.append((values, places, conditions))
        return original(values, places, conditions, n_permutations, seed)

    original = _association.permutation_test
    monkeypatch.setattr(_association, "permutation_test", noted)
    return seen


CASES = [
    (BasisDeVAEClusterer, "gaussian", {}),
    (BasisVAEClusterer, "gaussian", {"n_clusters": 2}),
    (DeVAETransformer, "gaussian", {"monotonic_cst": [1, 1, 1, -1, -1, 0], "inference": "amortized"}),
    (DeVAETransformer, "nb", {"size_factors": "sum"}),
    (DeVAETransformer, "bernoulli", {"orientation": 0}),
]


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("estimator, likelihood, options", CASES)
@pytest.mark.filterwarnings("ignore")
def test_features_have_no_say_in_where_they_are_tested(estimator, likelihood, options, places_seen):
    """So that any order of their values is as good as any other, if they are independent of the other features."""
    X = progression(likelihood)
    model = estimator(likelihood=likelihood, **SHORT, **options).fit(X)
    group, changed = np.array([1, 3]), X.copy()
    changed[:, group] = np.random.default_rng(1).permutation(X[:, group])
    for table in (X, changed):
        rows = _association._Rows(table, table, np.ones(N), {})
        result, _ = _association._tested_without(model, rows, group, 9, 0)
        assert ((result.p_value > 0) & (result.p_value <= 1)).all()
    (values, places, conditions), (other_values, *others) = places_seen
    assert (values != other_values).any()
    np.testing.assert_array_equal(places, others[0])
    np.testing.assert_array_equal(conditions.size, others[1].size)


@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_what_changes_is_told_from_noise(likelihood):
    X = progression(likelihood, n=120)
    model = devae(likelihood=likelihood).fit(X)
    tests = association_test(model, X, n_groups=2, n_permutations=199, random_state=0)
    assert (tests["p_value"][:5] == 1 / 200).all()
    assert (tests["effect_size"][:5] > 0.05).all()
    assert tests["p_value"].iloc[5] > 0.02
    assert abs(tests["effect_size"].iloc[5]) < 0.1
    assert_agree(tests["q_value"], false_discovery_control(tests["p_value"]))
    assert "other features" in tests.attrs["null"]


def test_groups_depend_neither_on_order_nor_on_units():
    random = np.random.default_rng(0)
    X = random.gamma(random.uniform(0.3, 3, 11), size=(40, 11))
    X[random.random(X.shape) < 0.1] = np.nan
    groups = [set(group) for group in _association._groups(X, 3)]
    order = random.permutation(11)
    assert [{order[column] for column in group} for group in _association._groups(X[:, order], 3)] == groups
    assert [set(group) for group in _association._groups(5 - 1e4 * X, 3)] == groups
    assert sorted(column for group in groups for column in group) == list(range(11))
    assert [len(group) for group in _association._groups(X, 50)] == [1] * 11


def test_units_do_not_matter():
    X = progression()
    tests = association_test(devae().fit(X), X, n_groups=2, n_permutations=9, random_state=0)
    scaled = X * 2.0 ** np.arange(-3, 3)
    again = association_test(devae().fit(scaled), scaled, n_groups=2, n_permutations=9, random_state=0)
    pd.testing.assert_frame_equal(tests, again)


def test_order_and_names_of_columns_do_not_matter():
    X = pd.DataFrame(progression(), columns=list("abcdef"))
    model, t = devae().fit(X), np.arange(N)
    tests = association_test(model, X, axis=t, n_permutations=49, random_state=0)
    shuffled = X[list("fbdace")]
    again = association_test(devae().fit(shuffled), shuffled, axis=t, n_permutations=49, random_state=0)
    pd.testing.assert_frame_equal(again.loc[list("abcdef")], tests)


def test_a_pipeline_is_its_model_on_the_table_that_reaches_it():
    X = pd.DataFrame(progression(), columns=list("abcdef"))
    pipeline = make_pipeline(StandardScaler(), devae()).fit(X)
    tests = association_test(pipeline, X, n_groups=2, n_permutations=9, random_state=0)
    scaled = pipeline[:1].transform(X)
    again = association_test(pipeline[-1], scaled, n_groups=2, n_permutations=9, random_state=0)
    assert list(tests.index) == list("abcdef")
    np.testing.assert_array_equal(tests, again)


def test_sparse_counts_are_dense_ones():
    X, model = progression("nb"), devae(likelihood="nb", size_factors="sum")
    options = {"n_groups": 2, "n_permutations": 9, "random_state": 0}
    dense = association_test(model.fit(X), X, **options)
    assert_agree(dense, association_test(model, sp.csr_array(X), **options), computed_in=np.float32)


def test_columns_are_left_out_of_tables_of_any_kind():
    X = progression("nb")
    expected = X.copy()
    expected[:, [1, 4]] = 0
    for table in (X, X.astype(int), sp.csr_array(X), sp.coo_matrix(X), pd.DataFrame(X), X.astype(object)):
        blanked = _association._blanked(table, np.array([1, 4]), 0.0)
        np.testing.assert_array_equal(blanked.toarray() if sp.issparse(blanked) else np.asarray(blanked), expected)
    frame = pd.DataFrame.sparse.from_spmatrix(sp.csr_matrix(X))
    blanked = _association._blanked(frame, np.array([1, 4]), 0.0)
    np.testing.assert_array_equal(blanked.sparse.to_dense(), expected)
    assert frame.sparse.to_dense().equals(pd.DataFrame(X))


def test_what_covariates_explain_is_no_change_along_the_axis():
    """Two batches lie apart on the axis of the others, and a feature differs between them alone."""
    random = np.random.default_rng(0)
    batch = np.repeat(["a", "b"], 50)
    shift = (batch == "b") * 1.5
    z = random.normal(size=100) + shift
    X = np.column_stack([z[:, None] + 0.3 * random.normal(size=(100, 4)), 2 * shift + random.normal(size=100)])
    X = pd.DataFrame(X, columns=list("abcde"))
    options = {"n_groups": 2, "n_permutations": 99, "random_state": 0}
    without = association_test(devae().fit(X), X, **options)
    given = association_test(devae().fit(X, covariates=batch), X, covariates=batch, **options)
    assert without.loc["e", "p_value"] == 0.01
    assert given.loc["e", "p_value"] > 0.05
    assert (given.loc[list("abcd"), "p_value"] == 0.01).all()
    as_column = X.assign(batch=batch)
    by_name = association_test(devae(covariates="batch").fit(as_column), as_column, **options)
    pd.testing.assert_frame_equal(by_name, given)


def test_sizes_of_samples_are_no_change_along_the_axis():
    """Counts that follow the size of samples alone, on an axis that size has a part in."""
    random = np.random.default_rng(0)
    size = random.lognormal(0, 0.7, 120)
    z = np.log(size) + random.normal(size=120)
    X = random.poisson(5 * size[:, None] * np.exp(np.column_stack([0.5 * z, 0.4 * z, -0.5 * z, *0 * z[:, None].T])))
    model, options = devae(likelihood="poisson"), {"n_groups": 2, "n_permutations": 99, "random_state": 0}
    tests = [
        association_test(model.fit(X, size_factors=given), X, size_factors=given, **options) for given in (None, size)
    ]
    assert tests[0]["p_value"].iloc[3] == 0.01
    assert tests[1]["p_value"].iloc[3] > 0.02
    assert (tests[1]["p_value"][:3] == 0.01).all()


def test_rows_without_weight_are_as_if_absent():
    X, weight = progression(), np.r_[np.ones(40), np.zeros(20)]
    model = devae().fit(X, sample_weight=weight)
    tests = association_test(model, X, sample_weight=weight, n_groups=2, n_permutations=9, random_state=0)
    alone = association_test(model, X[:40], n_groups=2, n_permutations=9, random_state=0)
    assert_agree(tests["statistic"], alone["statistic"])


def test_features_that_do_not_vary_and_rows_that_nothing_places():
    X = progression()
    X[:, 1] = 3.0
    X[5, :5] = np.nan
    X[6, 0] = np.nan
    model = devae().fit(X)
    tests = association_test(model, X, n_groups=6, n_permutations=9, random_state=0)
    assert tests.isna().to_numpy().all(1).tolist() == [False, True, False, False, False, False]


def test_without_an_axis_features_are_tested_along_a_principal_component():
    X = np.random.default_rng(0).normal(size=(80, 4))
    with pytest.warns(UserWarning, match="No axis"):
        model = BasisDeVAEClusterer(random_state=0, max_epochs=4).fit(X)
    with pytest.warns(UserWarning, match="2 of 2 fits.*principal component"):
        tests = association_test(model, X, n_groups=2, n_permutations=19, random_state=0)
    assert tests["p_value"].nunique() > 1


def test_in_sample_tests_make_much_of_noise():
    X = np.random.default_rng(0).normal(size=(80, 5))
    model = devae().fit(X)
    options = {"n_permutations": 49, "random_state": 0}
    dipped = association_test(model, X, method="in_sample", **options)
    assert dipped["p_value"].median() < 0.05
    assert association_test(model, X, n_groups=2, **options)["p_value"].median() > 0.1
    assert "expected by chance" in dipped.attrs["null"]


def test_given_positions_fit_nothing(monkeypatch):
    X, random = progression(), np.random.default_rng(0)
    t = 10 * X[:, 0] + random.normal(size=N)
    model = devae().fit(X, axis=t)
    monkeypatch.setattr(DeVAETransformer, "fit", None)
    tests = association_test(model, X, axis=t, n_permutations=49, random_state=0)
    assert tests["p_value"].iloc[0] == 1 / 50
    assert "given positions" in tests.attrs["null"]
    assert_agree(tests, association_test(model, X, axis=np.exp(t / 9), n_permutations=49, random_state=0))
    unknown = np.where(np.arange(N) < 20, np.nan, t)
    known = association_test(model, X[20:], axis=t[20:], n_permutations=49, random_state=0)
    half = association_test(model, X, axis=unknown, axis_sd=np.where(np.isnan(unknown), np.nan, 0), random_state=0)
    assert_agree(half["statistic"], known["statistic"])
    wrong = np.where(np.arange(N) < 20, 100 * random.normal(size=N), t)
    believed, doubted = (
        association_test(model, X, axis=wrong, axis_sd=np.where(wrong == t, 1.0, sd), n_permutations=9)
        for sd in (1.0, 1000.0)
    )
    assert doubted["statistic"].iloc[0] > believed["statistic"].iloc[0]


def test_results_repeat_and_do_not_depend_on_jobs():
    X = progression()
    model = devae().fit(X)
    once = association_test(model, X, n_groups=2, n_permutations=19, random_state=0)
    pd.testing.assert_frame_equal(
        once, association_test(model, X, n_groups=2, n_permutations=19, random_state=0, n_jobs=1)
    )
    assert not once.equals(association_test(model, X, n_groups=2, n_permutations=19, random_state=1))


def test_what_cannot_be_tested_is_named():
    X = progression()
    model = devae().fit(X)
    with pytest.raises(ValueError, match=r"3.*60 samples"):
        association_test(model, X, axis=[1, 2, 3])
    with pytest.raises(ValueError, match="two different positions"):
        association_test(model, X, axis=np.ones(N))
    with pytest.raises(ValueError, match=r"axis_sd is -1\.0 in row 2"):
        association_test(model, X, axis=np.arange(N), axis_sd=np.where(np.arange(N) == 2, -1, 1))
    with pytest.raises(ValueError, match="models one feature"):
        association_test(devae().fit(X[:, :1]), X[:, :1])
    with pytest.raises(ValueError, match="n_groups"):
        association_test(model, X, n_groups=1)
    with pytest.raises(ValueError, match="2 components"):
        association_test(VAETransformer(2, **SHORT).fit(X), X)
    with pytest.raises(ValueError, match="pass axis="):
        association_test(devae().fit(X, axis=np.arange(N)), X)
