"""How a fit goes: what it logs, what it listens to, when it stops, and what happens when it must."""

import itertools
import signal
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn
import torch
from agreement import assert_agree
from numpy.testing import assert_allclose, assert_array_equal
from skorch.callbacks import Callback, EarlyStopping, PassthroughScoring
from skorch.history import History
from threadpoolctl import threadpool_info, threadpool_limits

from skdevae import BasisDeVAEClusterer
from skdevae.datasets import make_progression, make_progression_counts
from skdevae.nn.models import AmortizedModel, ExactModel
from skdevae.table import source as rows_module
from skdevae.training.interrupts import FitInterrupted
from skdevae.training.net import LatentVariableNet

pytestmark = pytest.mark.filterwarnings("ignore:early_stopping=True, but training went on")  # fits are short

INFERENCES = ("exact", "amortized")
TERMS = ("reconstruction", "latent", "clusters", "parameters")
TABLE = make_progression(80, n_transient=4, n_increasing=4, n_decreasing=4, random_state=0).data
#: exact inference takes two steps an epoch; so does amortised inference with these batches
STEPS, BATCH = 2, 40


def quick(**parameters):
    return BasisDeVAEClusterer(**{"max_epochs": 20, "batch_size": BATCH, "random_state": 0, **parameters})


class Recorder(Callback):
    """Notes what a function finds in the net when an event comes."""

    def __init__(self, event, look):
        self.event = event
        self.look = look
        self.seen = []
        setattr(self, event, self._note)

    def _note(self, net, *args, **kwargs):
        self.seen.append(self.look(net))


class StopAt(Callback):
    """Ends training in skorch's way: a callback raises KeyboardInterrupt."""

    def __init__(self, epoch, event="on_epoch_end"):
        self.epoch = epoch
        self.event = event
        setattr(self, event, self._stop)

    def _stop(self, net, *args, **kwargs):
        if len(net.history) == self.epoch:
            raise KeyboardInterrupt


def press_control_c(monkeypatch, step):
    """The keyboard interrupts the given training step, counted over all starts, from 1."""
    count, original = itertools.count(1), LatentVariableNet.train_step_single

    def train_step_single(self, *args, **kwargs):
        if next(count) == step:
            signal.raise_signal(signal.SIGINT)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(LatentVariableNet, "train_step_single", train_step_single)


# ---- the loss and its history -----------------------------------------------------------------------------------


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize("weights", [{}, {"beta": 0.5, "gamma": 3.0}], ids=["unweighted", "weighted"])
def test_the_history_has_every_term_and_their_total(inference, weights):
    beta, gamma = weights.get("beta", 1.0), weights.get("gamma", 1.0)
    warm_up = Recorder("on_epoch_end", lambda net: getattr(net.module_, "divergence_weight", 1.0))
    model = quick(inference=inference, callbacks=[warm_up], **weights).fit(TABLE)
    history = {term: np.array(model.history_[:, f"train_{term}"]) for term in TERMS}
    share = np.array(warm_up.seen)
    total = (
        history["reconstruction"]
        + beta * share * history["latent"]
        + (gamma * share * history["clusters"] + history["parameters"]) / len(TABLE)
    )
    assert len(model.history_) == model.n_iter_ == 20
    assert_allclose(model.history_[:, "train_loss"], total, rtol=1e-5, atol=1e-5)
    assert (history["latent"] >= 0).all()
    assert (history["clusters"] >= -1e-4).all()


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("inference", INFERENCES)
def test_training_lowers_the_loss(inference):
    losses = quick(inference=inference, kl_warmup=0, max_epochs=40).fit(TABLE).history_[:, "train_loss"]
    assert losses[-1] < losses[20] < losses[0]


def test_batches_count_each_sample_once():
    # 80 rows in batches of 32, 32 and 16: terms of an epoch are means over samples, not over batches
    sizes = Recorder("on_epoch_end", lambda net: net.history[-1, "batches", :, "train_batch_size"])
    quick(inference="amortized", batch_size=32, max_epochs=2, callbacks=[sizes]).fit(TABLE)
    assert sizes.seen == [[32, 32, 16]] * 2


def test_early_stopping_trains_on_the_rows_it_does_not_hold_out():
    sizes = Recorder("on_epoch_end", lambda net: sum(net.history[-1, "batches", :, "train_batch_size"]))
    model = quick(
        inference="amortized", early_stopping=True, validation_fraction=0.25, max_epochs=2, callbacks=[sizes]
    ).fit(TABLE)
    assert sizes.seen == [60, 60]
    assert model.module_.n_samples == 60


# ---- callbacks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inference", INFERENCES)
def test_callbacks_hear_of_every_step(inference):
    events = ["on_train_begin", "on_epoch_begin", "on_batch_begin", "on_batch_end", "on_epoch_end", "on_train_end"]
    listeners = [Recorder(event, lambda net: len(net.history)) for event in events]
    quick(inference=inference, max_epochs=3, callbacks=listeners, n_init=2).fit(TABLE)
    heard = {listener.event: len(listener.seen) for listener in listeners}
    n_fits = heard["on_train_begin"]  # in exact inference, starts that are not worth one have none
    assert n_fits == 2 or (n_fits == 1 and inference == "exact")
    assert heard == {
        "on_train_begin": n_fits,
        "on_epoch_begin": 3 * n_fits,
        "on_batch_begin": 3 * n_fits * STEPS,
        "on_batch_end": 3 * n_fits * STEPS,
        "on_epoch_end": 3 * n_fits,
        "on_train_end": n_fits,
    }


def test_terms_are_averaged_as_skorch_averages_losses():
    weighted = PassthroughScoring("train_reconstruction", lower_is_better=None, on_train=True)
    history = quick(inference="amortized", batch_size=30, early_stopping=True, max_epochs=2).fit(TABLE).history_
    for epoch, mean in enumerate(history[:, "train_reconstruction"]):
        assert mean == pytest.approx(weighted.get_avg_score(History(history[: epoch + 1])), rel=1e-12)


@pytest.mark.usefixtures("one_run_a_start")
def test_callbacks_may_have_names_and_see_the_terms():
    listener = Recorder("on_epoch_end", lambda net: {term: net.history[-1, f"train_{term}"] for term in TERMS})
    model = quick(max_epochs=3, callbacks=(("mine", listener),)).fit(TABLE)
    for term in TERMS:
        assert [row[term] for row in listener.seen] == model.history_[:, f"train_{term}"]


def test_a_listener_changes_nothing():
    listener = Recorder("on_batch_end", lambda net: None)
    one, other = (quick(max_epochs=5, callbacks=callbacks).fit(TABLE) for callbacks in (None, [listener]))
    assert_array_equal(one.transform(TABLE), other.transform(TABLE))


def test_verbose_draws_a_progress_bar(capsys):
    quick(max_epochs=3, verbose=1).fit(TABLE)
    shown = capsys.readouterr()
    assert "3/3" in shown.err
    assert "loss=" in shown.err
    assert shown.out == ""


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_silence_is_the_default(inference, early_stopping, capsys):
    quick(inference=inference, early_stopping=early_stopping, n_iter_no_change=1, tol=1e3).fit(TABLE)
    shown = capsys.readouterr()
    assert shown.err == shown.out == ""


# ---- schedules --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kl_warmup", "expected"),
    [
        (0.0, [1.0] * 10),
        (0.5, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0, 1.0, 1.0]),
        (0.2, [0.0, 0.5] + [1.0] * 8),
    ],
)
def test_the_divergences_grow_linearly(kl_warmup, expected):
    listener = Recorder("on_batch_begin", lambda net: net.module_.divergence_weight)
    model = quick(inference="amortized", kl_warmup=kl_warmup, max_epochs=10, callbacks=[listener]).fit(TABLE)
    assert_allclose(listener.seen, np.repeat(expected, STEPS))
    assert model.module_.divergence_weight == 1


def test_clusters_are_undecided_until_the_warm_up_is_over():
    listener = Recorder("on_epoch_end", lambda net: net.module_.assignment.responsibilities.detach().numpy().copy())
    quick(inference="amortized", kl_warmup=0.5, max_epochs=10, callbacks=[listener]).fit(TABLE)
    assert_allclose(np.array(listener.seen[:5]), 1 / 4, atol=1e-6)
    assert (np.array(listener.seen[6:]).max(2) > 1 / 4 + 1e-3).all()


@pytest.mark.parametrize(
    "parameters", [{"callbacks": [StopAt(8)], "kl_warmup": 0.5}, {"kl_warmup": 1.0}], ids=["stopped", "never over"]
)
def test_a_fit_that_ends_within_its_warm_up_has_chosen_clusters(parameters):
    model = quick(inference="amortized", **parameters).fit(TABLE)
    assert (model.responsibilities_.max(1) > 1 / 3 + 1e-3).all()
    assert len(np.unique(model.labels_)) > 1
    assert model.module_.divergence_weight == 1


def test_annealing_ends_at_temperature_one():
    listener = Recorder("on_epoch_end", lambda net: (net.module_.latent_temperature, net.module_.cluster_temperature))
    model = quick(callbacks=[listener]).fit(TABLE)
    temperatures = np.array(listener.seen)
    assert (temperatures[0] > 1).all()
    assert (np.diff(temperatures, axis=0) <= 0).all()
    assert_allclose(temperatures[10:], 1)
    assert model.module_.latent_temperature == model.module_.cluster_temperature == 1


def test_an_annealed_fit_that_is_stopped_early_ends_at_temperature_one():
    model = quick(callbacks=[StopAt(2)]).fit(TABLE)
    assert model.n_iter_ == 2
    assert model.module_.latent_temperature == model.module_.cluster_temperature == 1


# ---- when it stops ------------------------------------------------------------------------------------------------


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("inference", INFERENCES)
def test_a_fit_that_stands_still_is_over(inference):
    # Anything less than a million nats is standing still: it stops as soon as the schedules are through.
    model = quick(inference=inference, tol=1e6, n_iter_no_change=3, kl_warmup=0.5, max_epochs=40).fit(TABLE)
    # Exact inference lets features be flat only three quarters through, and looks at the loss from there.
    assert model.n_iter_ == {"exact": 30, "amortized": 20}[inference] + 3 + 1
    assert quick(inference=inference, tol=0, n_iter_no_change=3).fit(TABLE).n_iter_ == 20


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("inference", INFERENCES)
def test_early_stopping_keeps_the_best_epoch(inference):
    # A decoder's hidden layers are the same before and after the axis is reversed: a fingerprint of the epoch.
    listener = Recorder("on_epoch_end", lambda net: net.module_.decoder.hidden[0].weight.detach().numpy().copy())
    model = quick(
        inference=inference,
        early_stopping=True,
        validation_fraction=0.3,
        n_iter_no_change=2,
        tol=0.0,
        kl_warmup=0.1,
        max_epochs=80,
        learning_rate=0.15,  # restless, so that the best epoch is not the last
        callbacks=[listener],
    ).fit(TABLE)
    blind = 60 if inference == "exact" else 8
    losses = np.array(model.history_[:, "valid_loss"])
    assert len(losses) == model.n_iter_ < 80
    best = blind + losses[blind:].argmin()
    assert best == len(losses) - 1 - 2
    assert_array_equal(model.module_.decoder.hidden[0].weight.numpy(), listener.seen[best].astype(np.float32))
    assert (model.module_.decoder.hidden[0].weight.numpy() != listener.seen[-1]).any()


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_early_stopping_holds_out_rows_of_any_table(likelihood, inference):
    counts = make_progression_counts(80, 12, density=0.5, random_state=0).data
    table = TABLE if likelihood == "gaussian" else sp.csr_array(counts)
    model = quick(likelihood=likelihood, inference=inference, early_stopping=True).fit(table)
    assert np.isfinite(model.history_[:, "valid_loss"]).all()
    assert np.isfinite(model.score(table))


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize(("n_samples", "validation_fraction"), [(2, 0.1), (2, 0.9), (5, 0.9), (10, 0.85)])
def test_early_stopping_says_how_many_rows_it_needs(n_samples, validation_fraction):
    estimator = quick(early_stopping=True, validation_fraction=validation_fraction)
    with pytest.raises(ValueError, match=rf"holds out \d+ of {n_samples} samples .* leave 2 to train on at least"):
        estimator.fit(TABLE[:n_samples])
    assert np.isfinite(estimator.set_params(validation_fraction=0.1).fit(TABLE[:10]).score(TABLE[:10]))


def test_early_stopping_and_orientation_go_together():
    stage = make_progression(80, n_transient=4, n_increasing=4, n_decreasing=4, random_state=0).times
    for sign in (1, -1):
        latent = quick(early_stopping=True).fit(TABLE, orientation=sign * stage).transform(TABLE)[:, 0]
        assert np.corrcoef(latent, sign * stage)[0, 1] > 0.5


def test_a_column_observed_in_held_out_rows_alone_does_not_end_the_fit():
    table = TABLE.copy()
    table[:, 0] = np.nan
    table[5, 0] = 1.0
    told = []
    for seed in range(4):
        model = quick(early_stopping=True, validation_fraction=0.5, random_state=seed, max_epochs=3)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(table)
        # Nothing is learned of the column from rows that are held out, and the user is told.
        told.append(any("column 0: no entry is observed in training" in str(warning.message) for warning in caught))
        assert np.isnan(model.trajectories([0.0])[0, 0]) == told[-1]
        assert np.isfinite(model.score(table))
    assert set(told) == {True, False}


def test_the_best_held_out_rows_are_those_of_the_seed():
    one, other, third = (quick(early_stopping=True, random_state=seed).fit(TABLE) for seed in (0, 0, 1))
    assert one.history_[:, "valid_loss"] == other.history_[:, "valid_loss"]
    assert one.history_[0, "valid_loss"] != third.history_[0, "valid_loss"]


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize("event", ["on_epoch_begin", "on_batch_end", "on_epoch_end"])
def test_a_callback_may_stop_a_fit_without_being_taken_for_the_keyboard(event, inference):
    model = quick(inference=inference, callbacks=[StopAt(5, event)]).fit(TABLE)  # a warning would be an error
    assert model.n_iter_ == (5 if event == "on_epoch_end" else 4)  # epochs that were finished
    assert np.isfinite(model.score(TABLE))


def test_skorchs_own_early_stopping_is_a_callback_like_any_other():
    stop = EarlyStopping("train_loss", patience=2, threshold=1e9, threshold_mode="abs", sink=lambda *_: None)
    assert quick(callbacks=[stop]).fit(TABLE).n_iter_ == 3


# ---- when it must -------------------------------------------------------------------------------------------------


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize("step", [STEPS + 1, 7, 2 * 20])
def test_control_c_keeps_what_was_learned(inference, step, monkeypatch):
    whole = quick(inference=inference).fit(TABLE)
    press_control_c(monkeypatch, step)
    model = quick(inference=inference)
    with pytest.raises(FitInterrupted, match=r"interrupted after \d+ epochs") as interruption:
        model.fit(TABLE)
    assert interruption.value.estimator is model
    assert model.n_iter_ <= 1 + step / STEPS
    # every epoch that was finished went as it would have gone
    n_whole = (step - 1) // STEPS
    finished = [row["train_loss"] for row in model.history_[:n_whole]]
    assert finished == whole.history_[:n_whole, "train_loss"] if n_whole else finished == []
    assert np.isfinite(model.score(TABLE))
    assert np.isfinite(model.lower_bound_)
    assert model.transform(TABLE).shape == (80, 1)
    assert model.predict_features(TABLE).shape == (12,)
    assert model.sample(2, random_state=0).shape == (2, 12)


def test_control_c_ends_restarts_and_keeps_the_best(monkeypatch):
    first = quick(n_init=1, inference="amortized").fit(TABLE)
    press_control_c(monkeypatch, 20 * STEPS + 3)  # in the second epoch of the second start
    trained = Recorder("on_train_begin", lambda net: None)
    model = quick(n_init=4, inference="amortized", callbacks=[trained])
    with pytest.raises(FitInterrupted):
        model.fit(TABLE)
    assert len(trained.seen) == 2
    assert model.lower_bound_ >= first.lower_bound_


def test_control_c_with_a_progress_bar_closes_it(monkeypatch, capsys):
    press_control_c(monkeypatch, 5)
    with pytest.raises(FitInterrupted):
        quick(verbose=1).fit(TABLE)
    assert "2/20" in capsys.readouterr().err


def test_an_interruption_is_forgotten_by_the_next_fit(monkeypatch):
    model = quick()
    press_control_c(monkeypatch, 3)
    with pytest.raises(FitInterrupted):
        model.fit(TABLE)
    monkeypatch.undo()
    assert_array_equal(model.fit(TABLE).transform(TABLE), quick().fit(TABLE).transform(TABLE))


@pytest.mark.parametrize(("inference", "module"), [("exact", ExactModel), ("amortized", AmortizedModel)])
@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_is_named(inference, module, term, bad, monkeypatch):
    count, original = itertools.count(1), module.forward

    def forward(self, *args):
        terms = original(self, *args)
        if next(count) == 2 * STEPS + 1:  # the first step of the third epoch
            object.__setattr__(terms, term, getattr(terms, term) + bad)
        return terms

    monkeypatch.setattr(module, "forward", forward)
    with pytest.raises(ValueError, match=rf"stopped being finite in epoch 3: {term}\. Try a smaller learning_rate"):
        quick(inference=inference, kl_warmup=0).fit(TABLE)


@pytest.mark.parametrize("inference", INFERENCES)
def test_steps_that_are_too_large_are_an_error_and_not_a_result(inference):
    with pytest.raises(ValueError, match=r"stopped being finite in epoch \d+: .*learning_rate|too large"):
        quick(inference=inference, learning_rate=1e30).fit(TABLE)


def test_a_failed_fit_leaves_no_fitted_estimator(monkeypatch):
    model = quick(learning_rate=1e30)
    with pytest.raises(ValueError, match="learning_rate"):
        model.fit(TABLE)
    assert not hasattr(model, "module_")


# ---- what must not matter -----------------------------------------------------------------------------------------


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
@pytest.mark.parametrize("missing", [False, True])
def test_chunks_of_rows_do_not_matter(likelihood, inference, missing, monkeypatch):
    counts = make_progression_counts(80, 12, density=0.5, random_state=0).data.toarray().astype(np.float64)
    table = TABLE if likelihood == "gaussian" else counts
    if missing:
        table = np.where(np.random.default_rng(0).random(table.shape) < 0.1, np.nan, table)
    whole = quick(likelihood=likelihood, inference=inference, max_epochs=6).fit(table)
    monkeypatch.setattr(rows_module, "_CHUNK_ENTRIES", 129 * 21)
    monkeypatch.setattr(rows_module, "_DENSE_ENTRIES", 12 * 21)
    sizes = [len(rows) for _, rows in whole._reader_.read(table).source(torch.zeros(())).chunks(129)]
    assert max(sizes) <= 21
    in_chunks = quick(likelihood=likelihood, inference=inference, max_epochs=6).fit(table)
    assert_array_equal(in_chunks.labels_, whole.labels_)
    assert_allclose(in_chunks.transform(table), whole.transform(table), atol=1e-3)
    assert_allclose(in_chunks.score(table), whole.score(table), rtol=0, atol=1e-5 * abs(whole.score(table)) + 1e-5)
    # one and the same model: the numbers of inference are those of whole tables
    monkeypatch.undo()
    unchunked = in_chunks.score_samples(table), in_chunks.predict_features_proba(table), in_chunks.elbo(table)
    monkeypatch.setattr(rows_module, "_CHUNK_ENTRIES", 129 * 21)
    assert_agree(in_chunks.score_samples(table), unchunked[0])
    assert_agree(in_chunks.predict_features_proba(table), unchunked[1])
    assert_agree(in_chunks.elbo(table), unchunked[2])


def test_metadata_routing_does_not_matter():
    plain = quick(max_epochs=3).fit(TABLE)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = quick(max_epochs=3).fit(TABLE)
    assert_array_equal(routed.transform(TABLE), plain.transform(TABLE))


def test_gradients_switched_off_elsewhere_do_not_matter():
    plain = quick(max_epochs=3).fit(TABLE)
    with torch.no_grad():
        assert_array_equal(quick(max_epochs=3).fit(TABLE).transform(TABLE), plain.transform(TABLE))


def test_a_fit_does_not_change_torchs_settings():
    before = torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype()
    quick(max_epochs=2).fit(TABLE)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(quick(max_epochs=2).fit, TABLE).result()
    assert (torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype()) == before


class Meet(Callback):
    """Says that training has begun, and waits for something else before it goes on."""

    def __init__(self, begun, awaited):
        self.begun = begun
        self.awaited = awaited

    def on_train_begin(self, net, **kwargs):
        self.begun.set()
        assert self.awaited.wait(60)


def test_fits_that_overlap_leave_the_process_its_threads():
    def threads_of_blas():
        return {pool["filepath"]: pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    def in_a_thread(function):
        # one that ends: threadpoolctl lets a thread that has set limits keep others from doing so while it lives
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(function).result()

    first_begun, second_begun, first_over = (threading.Event() for _ in range(3))
    first = quick(max_epochs=2, callbacks=[Meet(first_begun, second_begun)])
    second = quick(max_epochs=2, callbacks=[Meet(second_begun, first_over)])
    limits = in_a_thread(lambda: threadpool_limits(2, user_api="blas"))
    try:
        before = threads_of_blas()
        with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
            fits = [one.submit(first.fit, TABLE)]
            assert first_begun.wait(60)
            fits.append(other.submit(second.fit, TABLE))
            fits[0].result()
            first_over.set()
            fits[1].result()
        assert threads_of_blas() == before
    finally:
        in_a_thread(limits.restore_original_limits)
