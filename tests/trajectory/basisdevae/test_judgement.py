"""Behaviours as answers: are they true, does the axis survive them, and do they say when they are not sure?"""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax
from scipy.stats import spearmanr
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import adjusted_rand_score
from skorch.callbacks import Callback
from trajectory.basisdevae.cases import INFERENCES, progression, quick, thorough

from skdevae import BasisDeVAEClusterer, DeVAETransformer
from skdevae.datasets import make_progression
from skdevae.inference.behaviors import evidence_of_behaviors
from skdevae.nn.latent_grid import LatentGrid
from skdevae.training import exact as exact_training


class StopAt(Callback):
    """Ends a fit after some epochs, in skorch's way."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise KeyboardInterrupt


SIX = ("increasing", "decreasing", "transient", "flat", "dip", "free")


def sigmoids(steepness, noise, n_samples=200, seed=0):
    """Twelve columns that rise or fall to a plateau, the hidden times, and what they do."""
    random = np.random.default_rng(seed)
    times, sign = random.normal(size=n_samples), np.where(np.arange(12) % 2, 1, -1)
    curves = sign * np.tanh(steepness * (times[:, None] - 0.7 * random.normal(size=12)))
    names = np.where(sign > 0, "increasing", "decreasing")
    return curves + noise * random.normal(size=curves.shape), times, names


# ---- the truth ------------------------------------------------------------------------------------------------------


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize("steepness", [1.5, 4])
def test_a_rise_to_a_plateau_is_a_rise(steepness, inference):
    table, times, names = sigmoids(steepness, 0.3)
    model = BasisDeVAEClusterer(inference=inference, max_epochs=60, random_state=0).fit(table, orientation=times)
    assert_array_equal(model.feature_labels(), names)
    assert_array_equal(model.cluster_names_[model.predict_features(table)], names)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("seed", [101, 102])
def test_labels_of_every_shape_are_right_where_they_are_sure(seed):
    truth = make_progression(
        300, n_transient=12, n_increasing=7, n_decreasing=7, n_dip=5, n_flat=6, shapes="mixed", noise=0.25,
        random_state=seed,
    )  # fmt: skip
    model = BasisDeVAEClusterer(5, random_state=0).fit(truth.data, orientation=truth.times)
    names = np.array(truth.label_names, dtype=object)[truth.observed_labels]
    sure = model.responsibilities_.max(1) > 0.9
    assert sure.mean() > 0.6
    assert np.mean(model.feature_labels(0)[sure] == names[sure]) > 0.94
    assert np.mean(model.feature_labels(0) == names) > 0.85


def test_probabilities_on_the_training_table_are_those_of_the_fit():
    truth = make_progression(
        200, n_transient=6, n_increasing=3, n_decreasing=3, n_flat=3, shapes="mixed", random_state=3
    )
    model = BasisDeVAEClusterer(random_state=0).fit(truth.data)
    # The prior of clusters is another: here their mean weights, there what the other features do.
    assert np.abs(model.predict_features_proba(truth.data) - model.responsibilities_).mean() < 0.05
    sure = model.responsibilities_.max(1) > 0.9
    assert_array_equal(model.predict_features(truth.data)[sure], model.labels_[sure])


def test_extrapolation_is_another_question():
    window = make_progression(300, n_transient=12, n_increasing=5, n_decreasing=5, window="low", random_state=0)
    within, beyond = (
        BasisDeVAEClusterer(3, leveling_off=leveling_off, random_state=0).fit(window.data, orientation=window.times)
        for leveling_off in ("plateau", "turn")
    )
    assert adjusted_rand_score(window.labels, beyond.labels_) > adjusted_rand_score(window.labels, within.labels_)
    in_window, families = (
        np.array(window.label_names, dtype=object)[labels] for labels in (window.observed_labels, window.labels)
    )
    rise_and_level_off = (in_window == "increasing") & (families == "transient")
    assert rise_and_level_off.any()
    assert (within.feature_labels(0)[rise_and_level_off] == "increasing").all()


def test_a_larger_margin_finds_fewer_turns():
    window = make_progression(300, n_transient=12, n_increasing=4, n_decreasing=4, window="low", random_state=1)
    turns = [
        (thorough(margin=margin).fit(window.data).feature_labels(0) == "transient").sum()
        for margin in (0.03, 0.15, 0.6)
    ]
    assert turns[0] >= turns[1] >= turns[2]
    assert turns[0] > turns[2]


@pytest.mark.parametrize("margin", [0, 1, -0.1, "wide"])
def test_margins_that_make_no_sense_are_refused(margin):
    with pytest.raises(ValueError, match="margin"):
        quick(margin=margin).fit(progression().data)


# ---- how sure -------------------------------------------------------------------------------------------------------


def test_features_below_the_threshold_are_uncertain():
    model = thorough().fit(progression().data)
    names = model.cluster_names_[model.labels_]
    assert_array_equal(model.feature_labels(0), names)
    for threshold in (0.5, 0.99, 1.0):
        expected = np.where(model.responsibilities_.max(1) >= threshold, names, "uncertain")
        assert_array_equal(model.feature_labels(threshold), expected)
    with pytest.raises(ValueError, match=r"threshold=1\.2"):
        model.feature_labels(1.2)
    with pytest.raises(NotFittedError):
        quick().feature_labels()


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("leveling_off", ["plateau", "turn"])
def test_peaks_lie_among_the_samples(leveling_off):
    window = make_progression(200, window="low", random_state=2)
    model = thorough(n_clusters=3, leveling_off=leveling_off).fit(window.data)
    positions, transient = model.transform(window.data), model.cluster_names_[model.labels_] == "transient"
    found = ~np.isnan(model.peaks_)
    assert found.any()
    assert not found[~transient].any()
    assert (model.peaks_[found] >= positions.min()).all()
    assert (model.peaks_[found] <= positions.max()).all()
    if leveling_off == "turn":  # where some peaks are beyond
        assert not found[transient].all()


def test_an_axis_that_is_reversed_reverses_the_positions():
    table = progression().data
    model = quick().fit(table)
    before = model.transform(table)
    assert_allclose(model._latent_range_, [before.min(0), before.max(0)], atol=0.01)
    source = model._reader_.read(table).source(torch.zeros(()))
    # Up is where the samples that are now last on the axis stand first.
    after = model._orient(source, before, -before[:, 0])
    assert_array_equal(after, -before)
    assert_allclose(model.transform(table), after, atol=1e-6)


@pytest.mark.parametrize("gamma", [1.0, 7.0])
def test_evidence_counts_as_gamma_says(gamma):
    table = progression().data
    model = quick(gamma=gamma, assignment="fixed").fit(table)
    _, source, inference = model._for_inference(table)
    grid = LatentGrid.standard_normal(129, model.z_max).to(source.like)
    varying = torch.ones(table.shape[1], dtype=torch.bool)
    evidence = evidence_of_behaviors(inference.model, source, grid, varying).numpy()
    assert_allclose(model.predict_features_proba(table), softmax(evidence / gamma, axis=1), atol=1e-6)
    assert_allclose(model.responsibilities_, softmax(evidence / gamma, axis=1), atol=0.02)


def test_an_encoder_is_trained_on_for_the_behaviours_that_were_found():
    seen = []

    class Record(Callback):
        def on_epoch_end(self, net, **kwargs):
            seen.append((net.module_.is_judged, net.module_.assignment.logits.detach().numpy().copy()))

    quick(inference="amortized", max_epochs=20, callbacks=[Record()]).fit(progression().data)
    judged, logits = zip(*seen, strict=True)
    assert_array_equal(judged, np.arange(20) >= 12)
    assert_array_equal(logits[12:], np.broadcast_to(logits[12], (8, *logits[12].shape)))
    assert (logits[8] != logits[10]).any()


# ---- nothing to find ------------------------------------------------------------------------------------------------


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("shape", [(100, 12), (300, 30)])
def test_noise_has_no_axis_and_says_so(shape):
    noise = np.random.default_rng(0).normal(size=shape)
    with pytest.warns(ConvergenceWarning, match=r"No axis was found.*leave 'flat' out"):
        model = BasisDeVAEClusterer(random_state=0).fit(noise)
    assert (model.feature_labels() == "flat").all()
    assert_allclose(model.transform(noise), 0, atol=0.05)


def test_constant_columns_are_flat_and_change_nothing_else():
    table = progression().data
    alone = thorough().fit(table)
    both = thorough().fit(np.hstack([table, np.full((len(table), 40), 3.0)]))
    d = table.shape[1]
    assert_array_equal(both.cluster_names_[both.labels_[d:]], "flat")
    assert_allclose(both.responsibilities_[d:].max(1), 1)
    assert_array_equal(both.labels_[:d], alone.labels_)
    # Up to the starting weights, which are drawn for all columns together.
    assert_allclose(both.responsibilities_[:d], alone.responsibilities_, atol=0.1)


def test_noise_beside_signal_is_flat_and_the_axis_stays():
    table, times, names = sigmoids(2, 0.5, seed=5)
    noise = np.random.default_rng(6).normal(size=(len(table), 12))
    model = BasisDeVAEClusterer(random_state=0).fit(np.hstack([table, noise]), orientation=times)
    assert_array_equal(model.feature_labels(0)[:12], names)
    assert np.mean(model.feature_labels(0.8)[12:] == "flat") > 0.7
    assert spearmanr(model.transform(np.hstack([table, noise]))[:, 0], times)[0] > 0.97


def test_a_fit_that_heat_has_dissolved_is_run_again_without(monkeypatch):
    # So hot that rows say nothing, and nothing is left from which the axis could grow again.
    monkeypatch.setattr(exact_training, "starting_temperature", lambda *_: math.inf)
    table, times = progression().data, progression().times
    model = thorough().fit(table)
    assert abs(spearmanr(model.transform(table)[:, 0], times)[0]) > 0.95


def test_heat_depends_on_what_the_start_explains(monkeypatch):
    heats = []
    true_heat = exact_training.starting_temperature

    def recorded(*arguments):
        heats.append(true_heat(*arguments))
        return heats[-1]

    monkeypatch.setattr(exact_training, "starting_temperature", recorded)
    for noise in (0.1, 1.0, 5.0):
        table, _, _ = sigmoids(1, noise)
        quick(n_clusters=3, max_epochs=2).fit(table)
    assert heats[0] > heats[1] >= heats[2] >= 1


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("assignment", ["collapsed", "noncollapsed", "fixed"])
def test_noise_is_flat_whatever_becomes_of_the_weights(assignment):
    table, times, names = sigmoids(2, 0.4, seed=8)
    noise = np.random.default_rng(9).normal(size=(len(table), 10))
    model = thorough(assignment=assignment).fit(np.hstack([table, noise]), orientation=times)
    assert_array_equal(model.feature_labels(0)[:12], names)
    assert np.mean(model.feature_labels(0)[12:] == "flat") >= 0.8


def test_rows_that_do_not_vary_say_nothing_of_behaviours():
    table = progression().data
    model = thorough().fit(table)
    assert_allclose(model.predict_features_proba(table[:1]), np.tile(model.cluster_weights_, (table.shape[1], 1)))


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize(
    "parameters", [{"z_max": 1.0}, {"n_grid_points": 5}, {"margin": 0.6}, {"leveling_off": "turn"}]
)
def test_parameters_set_after_a_fit_are_for_the_next_one(parameters):
    model = quick().fit(progression().data)
    before = model.predict_features_proba(progression().data)
    assert_array_equal(model.set_params(**parameters).predict_features_proba(progression().data), before)


# ---- fits that nest -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_more_behaviours_are_never_worse():
    truth = make_progression(
        200, n_transient=5, n_increasing=4, n_decreasing=4, n_flat=3, shapes="mixed", random_state=7
    )
    bounds = [
        BasisDeVAEClusterer(behaviors=SIX[:n], max_epochs=75, random_state=0).fit(truth.data).lower_bound_
        for n in range(2, len(SIX) + 1)
    ]
    assert np.diff(bounds).min() > -0.1


def test_a_fit_that_is_stopped_before_the_first_judgement_is_judged_at_its_end():
    model = thorough(callbacks=[StopAt(4)]).fit(progression().data)
    assert model.n_iter_ == 4
    assert model.module_.is_judged
    assert np.isfinite(model.responsibilities_).all()


# ---- smoothness is learned ------------------------------------------------------------------------------------------


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize(
    "constructor",
    [lambda **more: DeVAETransformer(**more), lambda **more: BasisDeVAEClusterer(2, **more)],
    ids=["DeVAE", "BasisDeVAE"],
)
def test_steep_curves_are_within_reach(constructor):
    table, _, _ = sigmoids(4, 0.2, n_samples=400)
    train, test = table[:200], table[200:]
    learned, fixed = (constructor(weight_precision=w, random_state=0).fit(train).score(test) for w in (None, 20.0))
    assert learned > fixed + 0.1
