"""scikit-learn's callbacks: the tasks that a fit consists of, alone, in searches, in other processes."""

import pickle

import numpy as np
import pytest
from faults.estimators import ESTIMATORS, WINE
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdevae import VAETransformer
from skdevae.inspection import bootstrap

pytest.importorskip("sklearn.callback", reason="scikit-learn < 1.9 has no callbacks")
NO_WARNINGS_OF_ROWS = pytest.mark.filterwarnings("ignore:.* lie beyond the range")


class Listener:
    """Notes what callbacks are told: (begin or end, names of the tasks from the outermost one on)."""

    max_propagation_depth = None

    def __init__(self, stop_at=None):
        self.told = []
        self.stop_at = stop_at

    def setup(self, estimator, context):
        self.told.append(("setup", ()))

    def teardown(self, estimator, context):
        self.told.append(("teardown", ()))

    def on_fit_task_begin(self, estimator, context):
        self.told.append(("begin", path(context)))

    def on_fit_task_end(self, estimator, context):
        self.told.append(("end", path(context)))
        return context.task_name == "epoch" and context.task_id == self.stop_at

    def tasks(self, event="end"):
        return [names for what, names in self.told if what == event]


def path(context):
    above = () if context.parent is None else path(context.parent)
    return (*above, context.task_name)


@pytest.mark.slow(keep=2)
@pytest.mark.usefixtures("one_run_a_start")
@pytest.mark.parametrize("name", ESTIMATORS)
def test_tasks_are_nested_and_all_of_them_end(name):
    listener = Listener()
    model = ESTIMATORS[name]().set_callbacks(listener).fit(WINE)
    assert listener.told[0] == ("setup", ())
    assert listener.told[-1] == ("teardown", ())
    open_tasks = []
    for event, names in listener.told[1:-1]:
        if event == "begin":
            assert names[:-1] == tuple(open_tasks)
            open_tasks.append(names[-1])
        else:
            assert names == tuple(open_tasks)
            open_tasks.pop()
    assert not open_tasks
    assert listener.tasks().count(("fit", "training", "epoch")) == model.n_iter_
    phases = [names[1] for names in listener.tasks("begin") if len(names) == 2]
    assert phases.index("training") not in (0, len(phases) - 1)


def test_starts_have_numbers():
    listener = Listener()
    VAETransformer(2, n_init=2, max_epochs=2, random_state=0).set_callbacks(listener).fit(WINE)
    assert listener.tasks().count(("fit", "start 2 of 2, training", "epoch")) == 2


def test_a_callback_may_end_training():
    listener = Listener(stop_at=1)
    model = ESTIMATORS["DGD"]().set_callbacks(listener).fit(WINE)
    assert model.n_iter_ == 2


def test_a_callback_changes_no_fit():
    for name in ("BasisDeVAE", "DGD"):
        expected = ESTIMATORS[name]().fit(WINE)
        found = ESTIMATORS[name]().set_callbacks(Listener()).fit(WINE)
        np.testing.assert_array_equal(found.transform(WINE), expected.transform(WINE))
        assert vars(found).keys() - vars(expected).keys() == {"_skl_callbacks"}


def test_a_fit_that_fails_tears_callbacks_down():
    listener = Listener()
    with pytest.raises(ValueError, match="finite"):
        VAETransformer(2, learning_rate=1e30, random_state=0).set_callbacks(listener).fit(WINE)
    assert listener.told[-1] == ("teardown", ())
    assert ("fit",) not in listener.tasks()


def test_clones_share_callbacks_and_pickles_keep_them():
    listener = Listener()
    model = ESTIMATORS["DeVAE"]().set_callbacks(listener).fit(WINE)
    assert clone(model)._skl_callbacks == [listener]
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.transform(WINE), model.transform(WINE))
    told = again._skl_callbacks[0].told
    n_told = len(told)
    again.fit(WINE)
    assert len(told) == 2 * n_told


@pytest.mark.slow(keep=1)
@NO_WARNINGS_OF_ROWS
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_search_shows_the_epochs_of_its_fits(n_jobs):
    listener = Listener()
    search = GridSearchCV(ESTIMATORS["BasisVAE"](), {"noise_floor": [0.1, 0.2]}, cv=2, n_jobs=n_jobs)
    search.set_callbacks(listener).fit(WINE)
    epochs = [names for names in listener.tasks() if names[-1] == "epoch"]
    n_fits = 5 if n_jobs == 1 else 1  # this listener tells its own process alone: of the last fit
    assert len(epochs) == 4 * n_fits
    assert all(names[-2] == "training" and len(names) > 3 for names in epochs)
    assert not hasattr(search.best_estimator_, "_skl_callbacks")
    assert pickle.loads(pickle.dumps(search.best_estimator_)).n_iter_ == 4


def test_the_last_step_of_a_pipeline_is_heard():
    listener = Listener()
    make_pipeline(StandardScaler(), ESTIMATORS["VAE"]()).set_callbacks(listener).fit(WINE)
    assert sum(names[-2:] == ("training", "epoch") for names in listener.tasks()) == 4


def test_refits_are_not_heard():
    listener = Listener()
    model = ESTIMATORS["BasisDeVAE"]().set_callbacks(listener).fit(WINE)
    n_told = len(listener.told)
    bootstrap(model, WINE, n_bootstrap=2, method="refit", random_state=0)
    assert len(listener.told) == n_told


def test_bars_of_scikit_learn_are_drawn(capsys):
    pytest.importorskip("rich", reason="scikit-learn draws its bars by rich")
    from sklearn.callback import ProgressBar

    VAETransformer(2, n_init=2, max_epochs=3, random_state=0).set_callbacks(ProgressBar()).fit(WINE)
    shown = capsys.readouterr().out
    assert "VAETransformer - fit" in shown
    assert "start 2 of 2, training" in shown
