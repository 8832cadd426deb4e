"""The loss is drawn as the fit has recorded it, and the end of its schedule where it was."""

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdevae import DeVAETransformer, DGDEmbedder
from skdevae.datasets import make_progression
from skdevae.display import LossDisplay

pytestmark = pytest.mark.filterwarnings("ignore:early_stopping=True, but training went on")  # fits are short

plt = pytest.importorskip("matplotlib.pyplot")

X = make_progression(60, n_transient=2, n_increasing=3, n_decreasing=2, random_state=0).data


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def fitted(**parameters):
    return DeVAETransformer(random_state=0, **{"max_epochs": 20, **parameters}).fit(X)


def test_the_curve_is_the_training_loss_of_the_last_step():
    pipeline = make_pipeline(StandardScaler(), DeVAETransformer(max_epochs=6, random_state=0)).fit(X)
    display = LossDisplay.from_estimator(pipeline)
    np.testing.assert_array_equal(display.lines_["training"].get_ydata(), pipeline[-1].history_[:, "train_loss"])
    assert list(display.lines_["training"].get_xdata()) == [1, 2, 3, 4, 5, 6]
    assert list(display.lines_) == ["training"]
    assert display.ax_.figure is display.figure_


@pytest.mark.parametrize("inference, name", [("exact", "annealing"), ("amortized", "warm-up")])
def test_the_schedule_ends_where_the_loss_becomes_that_of_the_model(inference, name):
    model = fitted(inference=inference, early_stopping=True)
    display = LossDisplay.from_estimator(model)
    record = {"exact": "temperature", "amortized": "divergence_weight"}[inference]
    at_full = [value == 1 for value in model.history_[:, record]]
    assert display.schedule == name
    assert 0 < display.n_scheduled < model.n_iter_
    assert at_full == [False] * display.n_scheduled + [True] * (model.n_iter_ - display.n_scheduled)
    assert display.schedule_.get_extents().x1 == pytest.approx(
        display.ax_.transData.transform((display.n_scheduled + 0.5, 0))[0]
    )
    np.testing.assert_array_equal(display.lines_["held-out"].get_ydata(), model.history_[:, "valid_loss"])
    low, high = display.ax_.get_ylim()
    later = display.losses.to_numpy()[display.n_scheduled :]
    assert low < later.min() < later.max() < high


def test_a_fit_without_a_schedule_and_a_history_that_knows_of_none():
    model = DGDEmbedder(2, n_clusters=2, max_epochs=3, n_init=1, hidden_layer_sizes=(4,), random_state=0).fit(X)
    assert LossDisplay.from_estimator(model).schedule_ is None
    older = [{"train_loss": 3.0}, {"train_loss": 2.0}]  # of a file that an earlier version has saved
    for history in (older, pd.DataFrame(older)):
        display = LossDisplay.from_history(history)
        assert (display.schedule, display.schedule_) == ("", None)
        assert list(display.losses["training"]) == [3.0, 2.0]


def test_training_that_ended_within_its_schedule_shows_all_of_it():
    display = LossDisplay.from_history([{"train_loss": loss, "temperature": 9.0} for loss in (5.0, 4.0, 3.0)])
    assert display.n_scheduled == 3
    low, high = display.ax_.get_ylim()
    assert low < 3 < 5 < high


def test_axes_and_styles_that_are_given_are_used():
    axes = plt.figure().add_subplot()
    display = LossDisplay.from_history([{"train_loss": 1.0}], ax=axes, line_kw={"linewidth": 3})
    assert display.ax_ is axes
    assert display.lines_["training"].get_linewidth() == 3


def test_what_cannot_be_drawn():
    with pytest.raises(NotFittedError):
        LossDisplay.from_estimator(DeVAETransformer())
    with pytest.raises(ValueError, match="PCA has no history_"):
        LossDisplay.from_estimator(PCA(1).fit(X))
    with pytest.raises(ValueError, match="no epoch with a train_loss"):
        LossDisplay.from_history([])
    with pytest.raises(ValueError, match="ax is not 1 matplotlib Axes"):
        LossDisplay.from_history([{"train_loss": 1.0}], ax=[plt.gca(), plt.gca()])
