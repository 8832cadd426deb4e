"""DGDEmbedder: representations that are posterior modes, and a mixture that clusters them."""

import numpy as np
import pandas as pd
import pytest
import torch
from embedding.dgd_cases import (
    LIKELIHOODS,
    SIZES,
    blobs,
    copy_of,
    fitted,
    holey,
    log_components,
    log_likelihood,
    quick,
    table_for,
)
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score

from skdevae.inference.gaussian import log_joint_at


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_what_a_fit_keeps_is_what_it_says_of_the_training_table(likelihood):
    model, table = fitted(likelihood), table_for(likelihood)
    assert_allclose(model.transform(table), model.embedding_, rtol=0, atol=1e-8)
    assert_array_equal(model.predict(table), model.labels_)
    if likelihood == "gaussian":
        assert_array_equal(clone(model).fit_predict(table), model.labels_)
        assert_array_equal(clone(model).fit_transform(table), model.embedding_)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("parameters", [{}, {"covariance_type": "isotropic"}, {"representation": "variational"}])
def test_probabilities_are_those_of_the_mixtures_components(parameters):
    table = blobs()[0]
    model = quick(3, **parameters).fit(table)
    assert_allclose(model.weights_.sum(), 1, rtol=1e-6)
    assert model.weights_.shape == (model.n_clusters_,)
    assert model.means_.shape == model.covariances_.shape == (model.n_clusters_, 3)
    for rows in (table, holey(), table[:40] + 3):
        shares = model.predict_proba(rows)
        assert shares.shape == (len(rows), model.n_clusters_)
        assert_allclose(shares.sum(1), 1, rtol=1e-10)
        assert_array_equal(model.predict(rows), shares.argmax(1))


def test_the_mixture_can_be_had_as_other_estimators_have_their_priors():
    model = fitted()
    mixture = model.prior_mixture_
    assert_array_equal(mixture.weights, model.weights_)
    assert_array_equal(mixture.means, model.means_)
    assert_array_equal(mixture.sds**2, model.covariances_)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("likelihood", ["gaussian", "nb", "bernoulli"])
def test_labels_are_consecutive_and_come_by_size(likelihood):
    for may_be_empty in (True, False):
        model = fitted(likelihood, n_clusters=5, may_be_empty=may_be_empty)
        sizes = np.bincount(model.labels_, minlength=model.n_clusters_)
        assert (np.diff(sizes) <= 0).all()
        assert len(sizes) == model.n_clusters_ <= 5
        assert may_be_empty or model.n_clusters_ == 5
        # no component is left without samples if it may be dropped
        assert not may_be_empty or (sizes > 0).all()


@pytest.mark.parametrize("mixture_init", ["gmm", "kmeans"])
@pytest.mark.parametrize("representation", ["map", "variational"])
def test_separated_clusters_are_found(representation, mixture_init):
    model = fitted(representation=representation, mixture_init=mixture_init)
    assert adjusted_rand_score(blobs()[1], model.labels_) == 1
    assert np.bincount(model.labels_).tolist() == list(SIZES)
    assert_allclose(model.weights_, np.array(SIZES) / 120, atol=0.05)


def test_clusters_that_do_not_pay_are_left_out():
    table, truth = blobs()
    fewer, all_of_them = (quick(n_clusters=7, max_epochs=5, may_be_empty=empty).fit(table) for empty in (True, False))
    assert fewer.n_clusters_ == len(fewer.weights_) == fewer.predict_proba(table).shape[1] == 3
    assert adjusted_rand_score(truth, fewer.labels_) == 1
    assert all_of_them.n_clusters_ == len(all_of_them.weights_) == all_of_them.predict_proba(table).shape[1] == 7
    assert_allclose([fewer.weights_.sum(), all_of_them.weights_.sum()], 1, rtol=1e-6)
    # never more than samples
    assert quick(n_clusters=50, may_be_empty=False, max_epochs=2).fit(table[:10]).n_clusters_ <= 10


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
@pytest.mark.parametrize("hidden_layer_sizes", [(16,), ()])
def test_representations_are_modes(likelihood, hidden_layer_sizes):
    """Nothing near them has a higher joint density, and none of the components' means has."""
    model = fitted(likelihood, hidden_layer_sizes=hidden_layer_sizes)
    table = table_for(likelihood)[::8]
    z, sd = model.transform(table), model.posterior(table).sd
    generator = np.random.default_rng(0)
    for row, mode, width in zip(table, z, sd, strict=True):
        near = mode + width * generator.standard_normal((50, 2)) * np.geomspace(1e-3, 0.3, 50)[:, None]
        points = np.vstack([mode[None], near, model.means_])
        joint = log_likelihood(model, row[None], points)[0] + logsumexp(log_components(model, points), axis=1)
        assert joint.max() <= joint[0] + 5e-4


def test_representations_are_looked_for_to_the_tolerance_that_is_asked_for():
    model = fitted("nb")
    table = table_for("nb")
    _, source, inference = model._for_inference(table)
    rows = source.rows(slice(None)).dense()
    prior = inference.model.latent_prior()
    best = copy_of(model, latent_tol=1e-10).transform(table)

    def missing(tolerance):
        """Nats between where a search ends and the mode, the most of any sample."""
        ends = copy_of(model, latent_tol=tolerance).transform(table)
        values = [log_joint_at(inference.model, rows, torch.tensor(z)[None], prior) for z in (best, ends)]
        return float((values[0] - values[1]).max())

    rough, fine = missing(1.0), missing(1e-4)
    assert fine < 5e-4
    assert fine < rough


def test_rows_are_judged_one_by_one():
    model, rows = fitted(), holey()[:6]
    together, scores = model.transform(rows), model.score_samples(rows)
    assert_allclose(np.vstack([model.transform(row[None]) for row in rows]), together, rtol=0, atol=1e-8)
    assert_allclose(np.concatenate([model.score_samples(row[None]) for row in rows]), scores, rtol=1e-8)
    assert_allclose(model.transform(rows[::-1]), together[::-1], rtol=0, atol=1e-8)
    assert_allclose(model.predict_proba(rows[::-1]), model.predict_proba(rows)[::-1], atol=1e-8)


def test_one_component_that_is_not_learned():
    model = fitted(n_clusters=None)
    assert_array_equal(model.weights_, [1])
    assert_array_equal(model.means_, [[0, 0]])
    assert_array_equal(model.covariances_, [[1, 1]])
    assert_array_equal(model.predict_proba(holey()), np.ones((120, 1)))
    assert_array_equal(model.labels_, 0)
    assert model.n_clusters_ == 1


# ---- gaps -----------------------------------------------------------------------------------------------------------


def test_samples_with_gaps_are_where_the_rest_of_them_says():
    model, table = fitted(max_epochs=60), blobs()[0]
    rows = np.tile(table, (6, 1, 1))
    rows[np.arange(6), :, np.arange(6)] = np.nan  # one column each
    found = model.predict(rows.reshape(720, 6)).reshape(6, 120)
    assert np.isfinite(model.transform(rows.reshape(720, 6))).all()
    for labels in found:
        assert adjusted_rand_score(model.labels_, labels) > 0.8
    assert adjusted_rand_score(blobs()[1], quick(max_epochs=30).fit(holey(share=0.3)).labels_) > 0.9


def test_a_sample_without_entries_is_at_the_densest_mean():
    model, rows = fitted(), blobs()[0][:3].copy()
    complete = model.transform(rows), model.score_samples(rows)
    rows[1] = np.nan
    with pytest.warns(UserWarning, match=r"1 rows have no observed entry \(the first is row 1\)"):
        z = model.transform(rows)
    density = logsumexp(log_components(model, model.means_), axis=1)
    assert_allclose(z[1], model.means_[density.argmax()], rtol=0, atol=0.01)
    assert_allclose(z[[0, 2]], complete[0][[0, 2]], rtol=0, atol=1e-8)
    with pytest.warns(UserWarning, match="no observed entry"):
        scores = model.score_samples(rows)
    assert scores[1] == 0  # the integral of everything
    assert_allclose(scores[[0, 2]], complete[1][[0, 2]], rtol=1e-8)
    with pytest.warns(UserWarning, match="no observed entry"):
        assert model.elbo(rows[1:2]) == 0


def test_a_fit_needs_something_of_every_row_and_names_columns_without_entries():
    row, column = blobs()[0].copy(), pd.DataFrame(blobs()[0]).add_prefix("feature ")
    row[7] = np.nan
    column["feature 3"] = np.nan
    with pytest.raises(ValueError, match=r"1 rows have no observed entry \(the first is row 7\)"):
        quick().fit(row)
    with pytest.warns(UserWarning, match="column 'feature 3': no entry is observed"):
        quick().fit(column)


# ---- degenerate tables ----------------------------------------------------------------------------------------------


def test_more_components_than_columns():
    model = quick(9).fit(blobs()[0])
    assert model.embedding_.shape == (120, 9)
    assert adjusted_rand_score(blobs()[1], model.labels_) == 1


@pytest.mark.parametrize("n_clusters", [1, 10])
def test_fewer_different_rows_than_components(n_clusters):
    generator = np.random.RandomState(42)  # the table of scikit-learn's check of sample weights
    table, weights = generator.uniform(size=(15, 30)), generator.randint(1, 5, size=15)
    table = table[::2].repeat(weights[::2], axis=0)
    model = quick(20, n_clusters=n_clusters, max_epochs=2, n_importance_samples=10).fit(table)
    assert np.isfinite(model.score(table))
    assert model.covariances_.max() < 1e6 * model.embedding_.var()


def test_a_table_of_equal_rows_and_a_constant_column():
    equal = quick(max_epochs=2).fit(np.ones((10, 4)))
    assert equal.n_clusters_ == 1
    assert_array_equal(np.ptp(equal.embedding_, axis=0), 0)
    table = blobs()[0].copy()
    table[:, 4] = 7.0
    model = quick().fit(table)
    assert np.isfinite(model.score(table))
    assert_allclose(model.inverse_transform(model.embedding_)[:, 4], 7, rtol=0.05)


@pytest.mark.parametrize("width", [3, 80])
def test_a_table_of_one_row_and_its_copies_is_one_cluster(width):
    model = quick(max_epochs=2).fit(np.tile(np.arange(float(width)), (10, 1)))
    assert model.n_clusters_ == 1
    assert np.isfinite(model.embedding_).all()
