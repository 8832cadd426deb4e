"""What an inspection starts from: models inside of pipelines, and tables as they reach these."""

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.feature_selection import VarianceThreshold
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skdevae import DeVAETransformer, VAETransformer
from skdevae.datasets import make_progression
from skdevae.inspection._input import reach


@pytest.fixture(scope="module")
def table():
    values = 100 + 20 * make_progression(40, n_transient=1, n_increasing=2, n_decreasing=2, random_state=0).data
    return pd.DataFrame(values, columns=[f"marker {i}" for i in range(5)])


def devae():
    return DeVAETransformer(max_epochs=2, random_state=0)


def test_curves_of_a_pipeline_return_to_the_users_units(table):
    pipeline = make_pipeline(StandardScaler(), devae()).fit(table)
    reached = reach(pipeline, table)
    np.testing.assert_allclose(reached.in_user_units(reached.table), table.to_numpy())
    assert reached.names == list(table.columns)
    assert reached.is_reversible


def test_a_bare_estimator_has_the_users_units(table):
    reached = reach(devae().fit(table), table)
    assert reached.table is table
    np.testing.assert_array_equal(reached.in_user_units(table.to_numpy()), table.to_numpy())


def test_steps_that_cannot_be_reversed_leave_values_as_they_are(table):
    without_inverse = make_pipeline(StandardScaler(), _OneWay())
    reached = reach(make_pipeline(without_inverse, devae()).fit(table), table)
    assert not reached.is_reversible
    np.testing.assert_array_equal(reached.in_user_units(reached.table), reached.table)


def test_columns_that_a_step_leaves_out_do_not_come_back(table):
    pipeline = make_pipeline(StandardScaler(), VarianceThreshold(), devae())
    constant = table.assign(always=7.0)[["marker 0", "always", *table.columns[1:]]]
    reached = reach(pipeline.fit(constant), constant)
    np.testing.assert_allclose(reached.in_user_units(reached.table), table.to_numpy())
    assert reached.names == list(table.columns)


@pytest.mark.parametrize("imputer", [SimpleImputer(), KNNImputer()])
def test_imputers_leave_nothing_to_undo(table, imputer):
    gaps = table.mask(np.random.default_rng(0).random(table.shape) < 0.1)
    reached = reach(make_pipeline(imputer, StandardScaler(), devae()).fit(gaps), gaps)
    assert reached.is_reversible
    assert reached.names == list(table.columns)
    known = gaps.notna().to_numpy()
    np.testing.assert_allclose(reached.in_user_units(np.asarray(reached.table))[known], table.to_numpy()[known])


def test_columns_that_an_imputer_leaves_out_are_not_undone(table):
    empty = table.assign(never=np.nan)
    with pytest.warns(UserWarning, match="without any observed values"):
        reached = reach(make_pipeline(SimpleImputer(), devae()).fit(empty), empty)
    assert not reached.is_reversible
    assert reached.names == list(table.columns)


def test_columns_that_condition_do_not_come_back(table):
    model = DeVAETransformer(max_epochs=2, covariates=[2], random_state=0)
    reached = reach(make_pipeline(StandardScaler(), model).fit(table.to_numpy()), table.to_numpy())
    others = [0, 1, 3, 4]
    np.testing.assert_allclose(reached.in_user_units(reached.table[:, others]), table.to_numpy()[:, others])


def test_steps_that_mix_columns_leave_values_as_they_are(table):
    reached = reach(make_pipeline(PCA(), devae()).fit(table), table)
    assert not reached.is_reversible
    np.testing.assert_array_equal(reached.in_user_units(reached.table), reached.table)


class _OneWay(FunctionTransformer):
    inverse_transform = property()  # hasattr says no


def test_what_is_no_model_is_named(table):
    with pytest.raises(ValueError, match="last step is PCA"):
        reach(make_pipeline(StandardScaler(), PCA(1)).fit(table), table)


@pytest.mark.parametrize("as_frame", [False, True])
def test_a_table_of_other_columns_is_refused(table, as_frame):
    X = table if as_frame else table.to_numpy()
    with pytest.raises(ValueError, match="X has 3 features, but DeVAETransformer is expecting 5 features"):
        reach(devae().fit(X), table.iloc[:, :3] if as_frame else X[:, :3])


def test_two_components_are_no_axis(table):
    plane = VAETransformer(2, max_epochs=2, random_state=0).fit(table)
    with pytest.raises(ValueError, match=r"2 components.*BasisDeVAEClusterer"):
        reach(plane, table)
    assert reach(plane, table, needs_axis=False).model is plane


def test_columns_that_condition_are_not_among_the_names(table):
    model = DeVAETransformer(max_epochs=2, covariates="marker 2", random_state=0).fit(table)
    assert "marker 2" not in reach(model, table).names
