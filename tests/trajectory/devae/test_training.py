"""How DeVAETransformer is trained: randomness, history, early stopping, interruptions."""

import numpy as np
import pytest
from by_hand import assert_same_bits
from numpy.testing import assert_allclose, assert_array_equal
from skorch.callbacks import Callback
from trajectory.devae.cases import QUICK_WAYS, WAYS, fitted, progression, quick, table_for

from skdevae.training.interrupts import FitInterrupted


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize(("likelihood", "way"), [*(("gaussian", way) for way in WAYS), ("nb", "exact")])
def test_same_seed_same_bits(likelihood, way):
    table = table_for(likelihood)
    ours, theirs = fitted(likelihood, way), quick(likelihood=likelihood, **WAYS[way]).fit(table)
    assert_array_equal(theirs.transform(table), ours.transform(table))
    assert_same_bits(theirs, ours, table[:8])
    assert_array_equal(theirs.sample(5, random_state=1), ours.sample(5, random_state=1))


@pytest.mark.parametrize("way", QUICK_WAYS)
def test_another_seed_is_another_fit(way):
    table = progression().data
    other = quick(random_state=1, max_epochs=3, **WAYS[way]).fit(table)
    same = quick(random_state=0, max_epochs=3, **WAYS[way]).fit(table)
    assert (other.transform(table) != same.transform(table)).any()


@pytest.mark.parametrize("way", WAYS)
def test_history_has_every_term_of_the_loss(way):
    model = fitted(way=way)
    assert model.n_iter_ == len(model.history_) == 10
    row = model.history_[-1]
    terms = {name: row[f"train_{name}"] for name in ("reconstruction", "latent", "clusters", "parameters")}
    assert terms["clusters"] == 0
    assert terms["latent"] > 0
    expected = terms["reconstruction"] + terms["latent"] + terms["parameters"] / 80
    assert_allclose(row["train_loss"], expected, rtol=1e-4)
    assert "valid_loss" not in row


@pytest.mark.filterwarnings("ignore:early_stopping=True, but training went on")  # so few epochs may not do
@pytest.mark.parametrize("way", QUICK_WAYS)
def test_early_stopping_watches_rows_that_it_does_not_train_on(way):
    table = progression().data
    model = quick(early_stopping=True, validation_fraction=0.3, max_epochs=30, n_iter_no_change=2, **WAYS[way])
    model.fit(table)
    assert np.isfinite(model.history_[:, "valid_loss"]).all()
    assert model.n_iter_ <= 30
    assert np.isfinite(model.score(table[:8]))


@pytest.mark.parametrize("way", QUICK_WAYS)
def test_more_starts_never_lower_the_bound(way):
    several = quick(n_init=2, **WAYS[way]).fit(progression().data)
    assert several.lower_bound_ >= fitted(way=way).lower_bound_


class Interruption(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_batch_end(self, net, training, **kwargs):
        if training and len(net.history) > self.epoch:
            raise KeyboardInterrupt


class KeyboardAt(Callback):
    """The keyboard itself, not a callback that asks to stop: raised while a batch is being worked on."""

    def __init__(self, monkeypatch, epoch):
        self.monkeypatch, self.epoch = monkeypatch, epoch

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) > self.epoch:

            def stopped(*args, **kwargs):
                raise KeyboardInterrupt

            self.monkeypatch.setattr(net, "train_step", stopped)


@pytest.mark.parametrize("way", QUICK_WAYS)
def test_an_interrupted_fit_keeps_what_it_has_learned(way, monkeypatch):
    table = progression().data
    model = quick(callbacks=[KeyboardAt(monkeypatch, 4)], **WAYS[way])
    with pytest.raises(FitInterrupted, match="interrupted after 4 epochs"):
        model.fit(table)
    assert model.n_iter_ == len(model.history_) == 4
    assert np.isfinite(model.score(table[:5]))
    assert np.isfinite(model.lower_bound_)
    assert model.transform(table).shape == (80, model.n_components)


@pytest.mark.parametrize("way", QUICK_WAYS)
def test_a_callback_that_stops_a_fit_does_not_interrupt_it(way):
    # skorch's own way to end training: no warning, which would be an error here
    model = quick(callbacks=[Interruption(4)], **WAYS[way]).fit(progression().data)
    assert model.n_iter_ == len(model.history_) <= 5
    assert np.isfinite(model.transform(progression().data)).all()
