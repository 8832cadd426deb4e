"""Ctrl-C inside of what fits many models: it ends the whole of it, and the fit that it came in keeps its state."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults.estimators import ESTIMATORS, WINE
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import Callback

from skdevae.inspection import bootstrap
from skdevae.training.interrupts import FitInterrupted


class InTheFit(Callback):
    """Presses Ctrl-C in the third epoch of one of all fits that are made of copies of it, counted from 1."""

    begun = 0

    def __init__(self, number):
        self.number = number

    def on_train_begin(self, net, **kwargs):
        type(self).begun += 1

    def on_epoch_begin(self, net, **kwargs):
        if self.begun == self.number and len(net.history) == 3:
            signal.raise_signal(signal.SIGINT)


@pytest.fixture(autouse=True)
def nothing_has_begun():
    InTheFit.begun = 0


def search(model):
    return GridSearchCV(model, {"alpha": [0.5, 1.0, 2.0]}, cv=2).fit(WINE)


WAYS = {
    "a search": search,
    "a cross-validation": lambda model: cross_val_score(model, WINE, cv=5),
    "a loop": lambda model: [model.fit(WINE) for _ in range(5)],
}


@pytest.mark.slow(keep=1)
@pytest.mark.filterwarnings("ignore:.* lie beyond the range", "ignore:Scoring failed")
@pytest.mark.parametrize("way", WAYS)
def test_control_c_ends_all_fits_that_were_to_come(way):
    model = ESTIMATORS["BasisDeVAE"](callbacks=[InTheFit(2)])
    with pytest.raises(KeyboardInterrupt, match="interrupted after 2 epochs") as interruption:
        WAYS[way](model)
    assert InTheFit.begun == 2
    assert interruption.value.estimator.n_iter_ == 2


def test_control_c_ends_the_refits_of_a_bootstrap():
    model = ESTIMATORS["BasisDeVAE"]().fit(WINE).set_params(callbacks=[InTheFit(3)])
    with pytest.raises(FitInterrupted):
        bootstrap(model, WINE, n_bootstrap=6, method="refit", random_state=0)
    assert InTheFit.begun == 3


def test_the_last_step_of_a_pipeline_keeps_its_state():
    pipeline = make_pipeline(StandardScaler(), ESTIMATORS["DeVAE"](callbacks=[InTheFit(1)]))
    with pytest.raises(FitInterrupted):
        pipeline.fit(WINE)
    check_is_fitted(pipeline[-1])
    assert pipeline.transform(WINE).shape == (len(WINE), 1)


SEARCH = """
import sys
from faults.estimators import ESTIMATORS, WINE
from sklearn.model_selection import GridSearchCV
model = ESTIMATORS["BasisDeVAE"](max_epochs=2000, tol=0.0)
print("begins", flush=True)
try:
    GridSearchCV(model, {"alpha": [0.5 + i for i in range(50)]}, cv=5, n_jobs=2).fit(WINE)
except KeyboardInterrupt:
    print("stopped", flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there are no process groups to signal")
def test_control_c_in_a_terminal_ends_a_search_of_several_processes():
    """A terminal signals all that it has started, workers included."""
    folder = Path(__file__).resolve().parents[1]
    program = subprocess.Popen(
        [sys.executable, "-c", SEARCH], stdout=subprocess.PIPE, text=True, cwd=folder, start_new_session=True
    )
    try:
        assert program.stdout.readline() == "begins\n"
        time.sleep(5)
        os.killpg(program.pid, signal.SIGINT)
        assert program.communicate(timeout=200)[0] == "stopped\n"
    finally:
        if program.poll() is None:
            os.killpg(program.pid, signal.SIGKILL)
            program.wait()
