"""Ctrl-C, as a signal: what was learned is kept, or the estimator is as it was; nothing else can happen."""

import contextlib
import signal
import threading

import numpy as np
import pytest
from faults.estimators import ESTIMATORS, WINE
from numpy.testing import assert_array_equal
from sklearn.exceptions import NotFittedError
from skorch.callbacks import Callback

from skdevae.training.interrupts import FitInterrupted, Interrupts, interrupts_of_this_fit

EVENTS = ["on_epoch_begin", "on_batch_begin", "on_batch_end", "on_epoch_end"]


class ControlC(Callback):
    """Presses Ctrl-C, once or several times, in the given event of an epoch (counted from 1)."""

    def __init__(self, event, epoch, times=1):
        self.epoch, self.times = epoch, times
        setattr(self, event, self._press)

    def _press(self, net, **kwargs):
        while self.times and len(net.history) == self.epoch:
            self.times -= 1
            signal.raise_signal(signal.SIGINT)


def state_of(model):
    return dict(vars(model)), model.transform(WINE), model.score_samples(WINE)


def assert_as_it_was(model, state):
    attributes, latents, scores = state
    assert vars(model).keys() == attributes.keys()
    assert all(vars(model)[name] is value for name, value in attributes.items())
    assert_array_equal(model.transform(WINE), latents)
    assert_array_equal(model.score_samples(WINE), scores)


@contextlib.contextmanager
def raises_with_nothing_kept():
    with pytest.raises(KeyboardInterrupt) as interruption:
        yield
    assert not isinstance(interruption.value, FitInterrupted)


@pytest.fixture(autouse=True)
def handler_is_back():
    before = signal.getsignal(signal.SIGINT)
    yield
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize(
    ("name", "event"), [*((name, "on_epoch_begin") for name in ESTIMATORS), *(("DGD", event) for event in EVENTS[1:])]
)
def test_an_interrupt_in_a_callback_is_no_callbacks_stop(name, event):
    model = ESTIMATORS[name](callbacks=[ControlC(event, epoch=3)])
    n_epochs = 3 if event == "on_epoch_end" else 2
    with pytest.raises(FitInterrupted, match=f"interrupted after {n_epochs} epochs") as interruption:
        model.fit(WINE)
    assert interruption.value.estimator is model
    assert model.n_iter_ == len(model.history_) == n_epochs
    assert np.isfinite(model.score(WINE))


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("name", ["DeVAE", "DGD"])
def test_the_next_fit_knows_nothing_of_an_interrupt(name):
    model = ESTIMATORS[name](callbacks=[ControlC("on_epoch_end", epoch=2)])
    with pytest.raises(FitInterrupted):
        model.fit(WINE)
    again = model.set_params(callbacks=None).fit(WINE)
    assert_array_equal(again.transform(WINE), ESTIMATORS[name]().fit(WINE).transform(WINE))


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize(("name", "event"), [*zip(["BasisDeVAE", "VampVAE", "DGD", "DeVAE"], EVENTS, strict=True)])
def test_before_an_epoch_has_ended_an_interrupt_leaves_the_estimator_as_it_was(name, event):
    model = ESTIMATORS[name](callbacks=[ControlC(event, epoch=1)])
    with raises_with_nothing_kept():
        model.fit(WINE)
    with pytest.raises(NotFittedError):
        model.transform(WINE)
    model.set_params(callbacks=None).fit(WINE)
    state = state_of(model)
    model.set_params(callbacks=[ControlC(event, epoch=1)])
    with raises_with_nothing_kept():
        model.fit(3 * WINE[:, :5])
    attributes = state[0] | {"callbacks": model.callbacks}
    assert_as_it_was(model, (attributes, *state[1:]))


@pytest.mark.parametrize("name", ["BasisDeVAE", "DGD"])
def test_a_second_interrupt_gives_the_fit_up(name):
    model = ESTIMATORS[name](callbacks=[ControlC("on_batch_end", epoch=3, times=2)])
    with raises_with_nothing_kept():
        model.fit(WINE)
    assert not hasattr(model, "module_")


class Deaf(Callback):
    """Presses Ctrl-C twice and swallows what comes of it."""

    def on_batch_begin(self, net, **kwargs):
        if len(net.history) == 2:
            for _ in range(2):
                with contextlib.suppress(KeyboardInterrupt):
                    signal.raise_signal(signal.SIGINT)


def test_an_interrupt_that_a_callback_swallows_is_not_lost():
    model = ESTIMATORS["DeVAE"](callbacks=[Deaf()])
    with raises_with_nothing_kept():
        model.fit(WINE)
    assert not hasattr(model, "module_")


def test_a_second_start_is_trained_for_an_epoch_at_least():
    starts = []

    class AtTheSecondStart(Callback):
        def on_train_begin(self, net, **kwargs):
            starts.append(net)
            if len(starts) == 2:
                signal.raise_signal(signal.SIGINT)

    model = ESTIMATORS["DeVAE"](n_init=4, inference="amortized", callbacks=[AtTheSecondStart()])
    with pytest.raises(FitInterrupted):
        model.fit(WINE)
    assert len(starts) == 2
    assert model.n_iter_ >= 1
    assert model.lower_bound_ >= ESTIMATORS["DeVAE"](inference="amortized").fit(WINE).lower_bound_


def test_a_programs_own_handler_is_asked_first():
    asked = []
    before = signal.signal(signal.SIGINT, lambda *_: asked.append(1))
    try:
        model = ESTIMATORS["DeVAE"](callbacks=[ControlC("on_batch_end", epoch=2)]).fit(WINE)
        assert asked == [1]
        assert model.n_iter_ == 4
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("action", [signal.SIG_IGN, signal.SIG_DFL])
def test_what_the_system_does_with_the_signal_stays(action):
    before = signal.signal(signal.SIGINT, action)
    try:
        with Interrupts():
            assert signal.getsignal(signal.SIGINT) == action
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_handle_nothing():
    seen = []

    def fit():
        with Interrupts() as interrupts:
            seen.append((signal.getsignal(signal.SIGINT), interrupts_of_this_fit() is interrupts))

    thread = threading.Thread(target=fit)
    thread.start()
    thread.join()
    assert seen == [(signal.getsignal(signal.SIGINT), True)]
    assert interrupts_of_this_fit() is not interrupts_of_this_fit()
