"""Curves and samples of a fitted BasisDeVAEClusterer, and the behaviours that it chooses between."""

from copy import deepcopy

import numpy as np
import pytest
from by_hand import LIKELIHOODS, conditional_variance
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm
from trajectory.basisdevae.cases import INFERENCES, fitted, progression, quick, table_for


@pytest.mark.parametrize("inference", INFERENCES)
def test_trajectories_behave_as_their_labels_say(inference):
    model = fitted(inference=inference)
    z = np.linspace(-6, 6, 601)
    steps = np.diff(model.trajectories(z), axis=0)
    names = model.cluster_names_[model.labels_]
    assert (steps[:, names == "increasing"] > 0).all()
    assert (steps[:, names == "decreasing"] < 0).all()
    for column in np.flatnonzero(names == "transient"):
        rising = steps[:, column] >= 0
        peak = np.clip(model.peaks_[column], z[0], z[-1])
        assert_array_equal(rising[z[1:] < peak], True)
        assert_array_equal(rising[z[:-1] > peak] & (steps[z[:-1] > peak, column] != 0), False)
    assert_array_equal(np.isnan(model.peaks_), names != "transient")


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_samples_have_the_moments_of_the_model(likelihood):
    # Curves of a shorter fit rise so steeply beyond the samples that the variance is that of positions never drawn.
    model, n = quick(likelihood=likelihood, max_epochs=100).fit(table_for(likelihood)), 5000
    drawn = model.sample(n, random_state=0)
    z = np.linspace(-7, 7, 2001)
    weight = norm.pdf(z) * (z[1] - z[0])
    curves = model.trajectories(z)
    mean = weight @ curves
    assert drawn.shape == (n, model.n_features_in_)
    variance = weight @ conditional_variance(model, z) + weight @ (curves - mean) ** 2
    assert (np.abs(drawn.mean(0) - mean) < 5 * np.sqrt(variance / n)).all()
    # The fourth moment of counts is large, so the error of the variance is estimated from the draws. Their own mean,
    # around which `var` takes squares, is off by 5 standard errors at the most.
    error = np.std((drawn - mean) ** 2, axis=0) / np.sqrt(n)
    assert (np.abs(drawn.var(0) - variance) < 5 * error + 25 * variance / n).all()
    if likelihood != "gaussian":
        assert_array_equal(drawn, np.round(drawn))
        assert drawn.min() == 0


def test_sampling_is_reproducible():
    model = fitted()
    assert_array_equal(model.sample(5, random_state=3), model.sample(5, random_state=3))
    assert_array_equal(
        model.sample(5, random_state=np.random.RandomState(3)), model.sample(5, random_state=np.random.RandomState(3))
    )
    assert (model.sample(5, random_state=3) != model.sample(5, random_state=4)).any()
    assert model.sample().shape == (1, model.n_features_in_)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_inverse_transform_reads_the_trajectories(likelihood, inference):
    model, table = fitted(likelihood, inference), table_for(likelihood)
    latent = model.transform(table)
    expected = model.inverse_transform(latent)
    assert expected.shape == table.shape
    assert_array_equal(expected, model.trajectories(latent))
    assert_array_equal(expected, model.trajectories(latent[:, 0]))
    # the latent explains something: better than the columns' means
    assert ((table - expected) ** 2).mean() < table.var(0).mean()


def test_positions_have_one_component():
    with pytest.raises(ValueError, match="2 columns"):
        fitted().inverse_transform(np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"z has shape \(3, 2\), but positions on this latent need shape"):
        fitted().trajectories(np.zeros((3, 2)))
    assert_array_equal(fitted().trajectories(0.5), fitted().trajectories([[0.5]]))


def test_parameters_set_after_fit_are_for_the_next_fit():
    table = progression().data
    model = deepcopy(fitted()).set_params(z_max=1.0)
    assert_array_equal(model.score_samples(table), fitted().score_samples(table))
    assert_array_equal(model.transform(table), fitted().transform(table))


@pytest.mark.slow(keep=3)
@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ({}, ["increasing", "decreasing", "transient", "flat"]),
        ({"n_clusters": 1}, ["increasing"]),
        ({"n_clusters": 6}, ["increasing", "decreasing", "transient", "flat", "dip", "free"]),
        ({"behaviors": ("flat", "free")}, ["flat", "free"]),
        ({"behaviors": ["dip", "increasing"], "n_clusters": 2}, ["dip", "increasing"]),
        ({"behaviors": "free"}, ["free"]),
        ({"behaviors": np.array(["transient", "dip"])}, ["transient", "dip"]),
    ],
)
def test_behaviors_are_chosen_by_number_or_by_name(parameters, names):
    table = progression().data
    model = quick(max_epochs=3, **parameters).fit(table)
    d, k = table.shape[1], len(names)
    assert model.cluster_names_.tolist() == names
    assert model.responsibilities_.shape == (d, k)
    assert_allclose(model.responsibilities_.sum(1), 1, rtol=1e-6)
    assert_array_equal(model.labels_, model.responsibilities_.argmax(1))
    assert_allclose(model.cluster_weights_.sum(), 1)
    assert model.predict_features_proba(table).shape == (d, k)
    assert model.lower_bound_ < model.score(table) + 1e-6 or k > 1


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_clusters": 7}, "n_clusters=7.*6 behaviours"),
        ({"n_clusters": 2, "behaviors": ("flat", "free", "dip")}, "n_clusters=2 disagrees"),
        ({"behaviors": ("increasing", "sideways")}, "sideways.*increasing, decreasing"),
        ({"behaviors": "up"}, "up"),
        ({"behaviors": ("flat", "flat")}, "twice"),
        ({"behaviors": ()}, "choose one or more"),
        ({"n_clusters": 0}, "n_clusters"),
    ],
)
def test_behaviors_that_cannot_be_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        quick(**parameters).fit(progression().data)
