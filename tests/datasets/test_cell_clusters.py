"""Counts of make_cell_clusters have the moments of the cluster that each cell belongs to."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skdevae.datasets import make_cell_clusters


def test_clusters_of_cells_have_the_shares_that_are_asked_for():
    cells = make_cell_clusters(20_000, 20, weights=[6, 3, 1], random_state=0)
    assert_allclose(np.bincount(cells.target) / 20_000, [0.6, 0.3, 0.1], atol=0.015)
    assert cells.expected.shape == (3, 20)
    assert_allclose(cells.expected.sum(1), 1)


def test_counts_of_cells_have_the_mean_and_the_dispersion_of_their_cluster():
    cells = make_cell_clusters(20_000, 30, weights=[1, 1], nuisance_sd=0, random_state=0)
    X = cells.data.toarray().astype(float)
    assert np.median(X.sum(1)) == pytest.approx(1500, rel=0.03)
    for k, shares in enumerate(cells.expected):
        part = X[cells.target == k]
        assert_allclose(part.mean(0) / part.mean(0).sum(), shares, rtol=0.1)
        # Var x = E m + E m^2 / dispersion + Var m, for means m that differ by log-normal depths
        mean, spread = part.mean(0), np.exp(0.4**2)
        variance = mean + mean**2 * (spread / cells.dispersion + spread - 1)
        assert_allclose(part.var(0), variance, rtol=0.35)


def test_clusters_of_cells_differ_in_their_markers_alone():
    alike = make_cell_clusters(50, 40, n_markers=0, random_state=0).expected
    assert_allclose(alike, alike[:1].repeat(6, axis=0))
    log_shares = np.log(make_cell_clusters(50, 400, n_markers=10, random_state=0).expected)
    for k in range(1, 6):
        difference = log_shares[k] - log_shares[0]  # but for markers of one of the two, that of the normalisers
        n_markers = (~np.isclose(difference, np.median(difference), atol=1e-6)).sum()
        assert 10 <= n_markers <= 20


def test_a_nuisance_spreads_cells_of_one_cluster():
    quiet, loud = (make_cell_clusters(2000, 50, weights=[1], nuisance_sd=sd, random_state=0) for sd in (0, 0.5))
    shares = [np.asarray((c.data / c.data.sum(1)[:, None]).todense()) for c in (quiet, loud)]
    assert np.median(shares[1].var(0) / shares[0].var(0)) > 1.2


@pytest.mark.parametrize("weights", [[-1, 2], [0, 0], [np.nan, 1], [[1, 1]]])
def test_weights_of_clusters_are_checked(weights):
    with pytest.raises(ValueError, match="weights="):
        make_cell_clusters(10, 5, weights=weights)


# ---- batches ---------------------------------------------------------------------------------------------------------


def log_shares(cells, cluster, batch):
    """Log shares of features in the counts of one cluster in one batch, up to a constant."""
    counts = cells.data[(cells.target == cluster) & (cells.batch == batch)].sum(0)
    logs = np.log(np.asarray(counts, dtype=float).ravel())
    return logs - logs.mean()


@pytest.mark.parametrize("parameter", ["batch_sd", "interaction", "composition_sd"])
def test_one_batch_is_what_there_is_without_batches(parameter):
    plain = make_cell_clusters(60, 20, random_state=0)
    one = make_cell_clusters(60, 20, n_batches=1, **{parameter: 2.0}, random_state=0)
    assert (plain.data != one.data).nnz == 0
    assert_array_equal(one.batch, np.zeros(60))


def test_batches_leave_clusters_and_their_profiles_alone():
    plain, batches = (make_cell_clusters(500, 20, n_batches=n, random_state=0) for n in (1, 3))
    assert_array_equal(batches.target, plain.target)
    assert_array_equal(batches.expected, plain.expected)


def test_batches_have_unequal_sizes_that_do_not_depend_on_the_cluster():
    cells = make_cell_clusters(30_000, 2, weights=[1, 2], n_batches=3, random_state=0)
    for cluster in range(2):
        assert_allclose(
            np.bincount(cells.batch[cells.target == cluster], minlength=3)[:2] / (cells.target == cluster).sum(),
            [6 / 11, 3 / 11],
            atol=0.015,
        )


def test_compositions_of_batches_can_differ():
    weights = [3, 2, 1]
    cells = make_cell_clusters(30_000, 2, weights=weights, n_batches=2, composition_sd=1.0, random_state=1)
    assert_allclose(np.bincount(cells.target) / 30_000, np.divide(weights, 6), atol=0.015)
    assert np.ptp([cells.batch[cells.target == cluster].mean() for cluster in range(3)]) > 0.1


def test_effects_of_batches_have_the_sizes_that_are_asked_for():
    def differences(interaction):
        cells = make_cell_clusters(
            4000, 300, weights=[1, 1], nuisance_sd=0, n_batches=2, batch_sd=0.5, interaction=interaction, random_state=2
        )
        return np.array([log_shares(cells, cluster, 1) - log_shares(cells, cluster, 0) for cluster in range(2)])

    # A batch differs from another by two effects, which clusters share but for their interactions.
    assert_allclose(differences(0.0).std(1), 0.5 * np.sqrt(2), rtol=0.15)
    assert np.corrcoef(differences(0.0))[0, 1] > 0.98
    assert_allclose(differences(1.0).std(1), 0.5 * 2, rtol=0.15)
    assert np.corrcoef(differences(1.0))[0, 1] == pytest.approx(0.5, abs=0.15)
