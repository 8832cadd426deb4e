"""Measures of an embedding agree with known cases, and with their laws."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group
from sklearn.decomposition import PCA

from skdevae.metrics import (
    active_units,
    latent_covariance,
    mean_absolute_correlation,
    n_principal_components,
    unit_activity,
)

MEASURES = (unit_activity, active_units, latent_covariance, mean_absolute_correlation, n_principal_components)


def latent_of(n_samples=80, n_units=5, seed=0, rank=None):
    """Correlated latent units, of unequal spread and away from zero; with a rank, linearly dependent ones."""
    random = np.random.default_rng(seed)
    factors = random.standard_normal((n_samples, rank or n_units))
    mixing = random.standard_normal((factors.shape[1], n_units)) * np.geomspace(3, 0.3, factors.shape[1])[:, None]
    return factors @ mixing + random.standard_normal(n_units)


def test_activity_is_the_variance_of_each_unit():
    Z = latent_of()
    np.testing.assert_allclose(unit_activity(Z), np.diag(latent_covariance(Z)))
    np.testing.assert_allclose(latent_covariance(Z), np.cov(Z, rowvar=False, bias=True))
    # of the samples as they are: seen twice, they say the same
    np.testing.assert_allclose(latent_covariance(np.vstack([Z, Z])), latent_covariance(Z))


def test_active_units_are_those_above_the_threshold():
    sds = np.array([0.0, 0.05, 0.099, 0.101, 1.0])
    Z = 7 + sds * np.resize([-1.0, 1.0], (10, 1))
    assert active_units(Z) == 2
    assert [active_units(Z, threshold=t) for t in (0, 0.0025 + 1e-9, 0.02, 1.1)] == [4, 3, 1, 0]
    # strictly above
    assert active_units([[-1.0], [1.0]], threshold=1.0) == 0
    assert isinstance(active_units(Z), int)


@settings(max_examples=25)
@given(n_units=st.integers(1, 6), rank=st.integers(1, 6), seed=st.integers(0, 2**31))
def test_invariances(n_units, rank, seed):
    Z = latent_of(30, n_units, seed, min(rank, n_units))
    random = np.random.default_rng(seed)
    samples, units = random.permutation(30), random.permutation(n_units)
    for measure in (active_units, mean_absolute_correlation, n_principal_components):
        value = measure(Z)
        assert measure(Z[samples]) == pytest.approx(value)
        assert measure(Z[:, units]) == pytest.approx(value)
        assert measure(Z + 5) == pytest.approx(value)
        assert measure(-Z) == pytest.approx(value)
    np.testing.assert_allclose(latent_covariance(Z[samples][:, units]), latent_covariance(Z)[np.ix_(units, units)])
    factors = random.choice([-1, 1], n_units) * random.lognormal(0, 3, n_units)
    np.testing.assert_allclose(unit_activity(Z * factors), factors**2 * unit_activity(Z))
    assert mean_absolute_correlation(Z * factors) == pytest.approx(mean_absolute_correlation(Z))


@settings(max_examples=25)
@given(n_units=st.integers(2, 6), seed=st.integers(0, 2**31), share=st.floats(0.3, 0.99))
def test_principal_components_do_not_depend_on_rotation_or_scale(n_units, seed, share):
    Z = latent_of(30, n_units, seed)
    rotation = ortho_group.rvs(n_units, random_state=seed)
    expected = n_principal_components(Z, explained_variance=share)
    assert n_principal_components(1e-3 * Z @ rotation, explained_variance=share) == expected
    assert expected == PCA(n_components=share, svd_solver="full").fit(Z).n_components_


def test_principal_components_of_known_variances():
    # 4 : 3 : 2 : 1 along the axes
    Z = np.vstack([np.eye(4), -np.eye(4)]) * np.sqrt([4, 3, 2, 1])
    shares = [0.3, 0.4, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0]
    assert [n_principal_components(Z, explained_variance=s) for s in shares] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert n_principal_components(Z) == 4
    assert isinstance(n_principal_components(Z), int)


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_all_of_the_variance_takes_as_many_components_as_the_rank(rank):
    assert n_principal_components(latent_of(rank=rank), explained_variance=1.0) == rank
    # fewer samples than units
    assert n_principal_components(latent_of(4, 20), explained_variance=1.0) == 3


def test_mean_absolute_correlation_of_known_cases():
    Z = latent_of()
    off_diagonal = np.abs(np.corrcoef(Z, rowvar=False))[~np.eye(5, dtype=bool)]
    assert mean_absolute_correlation(Z) == pytest.approx(off_diagonal.mean())
    assert mean_absolute_correlation(Z[:, [0, 0]] * [1, -2] + 3) == pytest.approx(1)
    assert mean_absolute_correlation(PCA().fit_transform(Z)) == pytest.approx(0, abs=1e-12)
    assert mean_absolute_correlation(Z[:, :1]) == 0.0
    # of two units that move together, with one that does not move: one pair of three
    still = np.full(80, 0.1)
    assert mean_absolute_correlation(np.column_stack([Z[:, 0], still, 2 * Z[:, 0]])) == pytest.approx(1 / 3)
    assert mean_absolute_correlation(Z[:, [0, 0]] * [1e-200, 1e200]) == pytest.approx(1)


@pytest.mark.parametrize("size", [0.0, 0.1, 1e6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_units_that_vary_by_rounding_alone_count_as_constant(size, dtype):
    Z = np.full((50, 3), size, dtype=dtype)
    Z[::2] = np.nextafter(Z[::2], dtype(2 * size))
    assert n_principal_components(Z) == active_units(Z) == mean_absolute_correlation(Z) == 0
    # nor do they beside one that does vary, however small that is in comparison
    Z[:, 1] = latent_of(50, 1)[:, 0]
    assert n_principal_components(Z, explained_variance=1.0) == 1
    assert mean_absolute_correlation(Z) == 0


@pytest.mark.parametrize("measure", MEASURES)
def test_what_arrays_are_taken(measure):
    Z = latent_of(20, 3)
    np.testing.assert_allclose(measure(pd.DataFrame(Z)), measure(Z))
    np.testing.assert_array_equal(measure(Z.tolist()), measure(Z))
    before = Z.copy()
    measure(Z)
    np.testing.assert_array_equal(Z, before)
    assert np.all(measure(Z[:1]) == 0)  # one sample
    for wrong, message in ((Z[0], "Expected 2D array"), (np.where(Z > 1, np.nan, Z), "Input Z contains NaN")):
        with pytest.raises(ValueError, match=message):
            measure(wrong)


def test_options_out_of_range():
    for threshold in (-0.1, np.nan):
        with pytest.raises(ValueError, match=r"threshold=.* not negative, such as 0\.01"):
            active_units(latent_of(), threshold=threshold)
    for share in (0, -0.5, 1.01, 95, np.nan):
        with pytest.raises(ValueError, match=r"explained_variance=.* not a share .* such as 0\.95"):
            n_principal_components(latent_of(), explained_variance=share)
