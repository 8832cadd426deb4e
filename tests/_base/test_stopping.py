"""A rule that ends training: where it was asked for and is not met, a warning says so, and nowhere else."""

import inspect
import warnings

import pytest
from faults.estimators import WINE
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback

import skdevae
from skdevae import BasisDeVAEClusterer, DGDEmbedder, VAETransformer
from skdevae.training.settings import FitSettings

SHORT = {"max_epochs": 6, "n_iter_no_change": 3, "random_state": 0}
ESTIMATORS = [getattr(skdevae, name) for name in skdevae.__all__ if inspect.isclass(getattr(skdevae, name))]


class Stop(Callback):
    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 6:
            raise KeyboardInterrupt  # how skorch's callbacks end a fit


def of_stopping(fit):
    """What a fit says of a rule that was not met."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit()
    said = [note for note in caught if "Increase max_epochs" in str(note.message)]
    assert all(note.category is ConvergenceWarning and note.filename == __file__ for note in said)
    return [str(note.message) for note in said]


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("estimator", [BasisDeVAEClusterer, VAETransformer, DGDEmbedder])
def test_a_tolerance_that_is_not_reached_is_named(estimator):
    [message] = of_stopping(lambda: estimator(**SHORT, tol=1e-9).fit(WINE))
    assert "tol=1e-09 was not reached" in message
    assert "last of its 6 epochs" in message


def test_the_change_that_is_named_is_that_of_the_last_epochs():
    model = VAETransformer(2, **SHORT, tol=1e-9)
    [message] = of_stopping(lambda: model.fit(WINE))
    losses = model.history_[-4:, "train_loss"]
    largest = max(abs(one - other) for one, other in zip(losses[1:], losses, strict=False))
    assert f"up to {largest:.2g} nats" in message


@pytest.mark.parametrize("estimator", [BasisDeVAEClusterer, VAETransformer])
def test_early_stopping_that_does_not_stop_is_named(estimator):
    [message] = of_stopping(lambda: estimator(**SHORT, early_stopping=True, tol=0.0).fit(WINE))
    assert message.startswith("early_stopping=True, but training went on to the last of its 6 epochs")


@pytest.mark.parametrize(
    "parameters",
    [
        {},  # the default, which is no promise
        {"tol": 0.0},  # asks for all epochs
        {"tol": 1e6},  # is met
        {"tol": 1e6, "early_stopping": True},
        {"tol": 1e-9, "n_iter_no_change": 6},  # waits for longer than there are epochs
        {"tol": 1e-9, "callbacks": [Stop()], "max_epochs": 7},  # ended by the user's own rule
    ],
    ids=["default", "all epochs", "met", "met on held-out rows", "long patience", "a callback's rule"],
)
def test_nothing_is_said_where_no_rule_was_counted_on_or_it_was_met(parameters):
    assert of_stopping(lambda: VAETransformer(2, **(SHORT | parameters)).fit(WINE)) == []


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_default_is_that_of_all_estimators(estimator):
    """It tells whether a tolerance was asked for."""
    assert inspect.signature(estimator).parameters["tol"].default == FitSettings.tol
