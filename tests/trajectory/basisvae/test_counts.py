"""BasisVAEClusterer and counts: clusters of log means, sparse tables."""

import numpy as np
import pytest
import scipy.sparse as sp
from agreement import assert_agree
from by_hand import COUNT_LIKELIHOODS
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import adjusted_rand_score
from trajectory.basisvae.cases import COUNT_LABELS, assert_consistent, counts, fitted_counts, quick, same_partition


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("likelihood", COUNT_LIKELIHOODS)
def test_counts(likelihood):
    table, model = counts(likelihood), fitted_counts(likelihood)
    assert_consistent(model, table)
    # 150 zeros and ones say little of a feature
    assert adjusted_rand_score(COUNT_LABELS, model.labels_) >= (0.3 if likelihood == "bernoulli" else 1)
    assert_array_equal(model.predict_features(table), model.labels_)
    assert (model.trajectories(np.linspace(-6, 6, 201)) > 0).all()
    assert_allclose(model.inverse_transform(model.transform(table)).mean(0), table.mean(0), rtol=0.25)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("likelihood", ["nb", "bernoulli"])
def test_fits_to_sparse_tables_are_fits_to_tables(likelihood):
    table, dense = counts(likelihood), fitted_counts(likelihood)
    sparse = quick(n_clusters=5, likelihood=likelihood, max_epochs=10).fit(sp.csr_array(table))
    assert_array_equal(sparse.labels_, dense.labels_)
    assert_allclose(sparse.score(table), dense.score(table), atol=1e-3)
    assert_allclose(sparse.scales_, dense.scales_, rtol=1e-2)


@pytest.mark.parametrize("likelihood", COUNT_LIKELIHOODS)
def test_a_fitted_model_reads_sparse_tables_as_tables(likelihood):
    table, dense = counts(likelihood), fitted_counts(likelihood)
    stored = sp.csr_array(table)
    assert_agree(dense.score_samples(stored), dense.score_samples(table))
    assert_agree(dense.predict_features_proba(stored), dense.predict_features_proba(table))


def test_counts_by_an_encoder():
    model = quick(n_clusters=5, likelihood="nb", inference="amortized").fit(sp.csr_array(counts("nb")))
    assert_consistent(model, counts("nb"))
    assert same_partition(COUNT_LABELS, model.labels_)
