"""Warnings point at the user's own line, whatever libraries stand between it and the package."""

import warnings
from importlib.machinery import ModuleSpec
from multiprocessing.pool import ThreadPool

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdevae import VampVAE

X = np.random.default_rng(0).normal(size=(12, 3))

#: source of an estimator; it runs under the name of a module of the package
ESTIMATOR = """\
from sklearn.base import BaseEstimator, TransformerMixin
from skdevae._warnings import warn_user

class Warner(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        self._settle()  # deeper in the package
        return self

    def _settle(self):
        warn_user("fit warns", RuntimeWarning)

    def transform(self, X):
        warn_user("transform warns")
        return X

    def score(self, X, y=None):
        return 0.0
"""
#: line of the estimator's source where a call enters the package
ENTRY = 7
#: source of a user's script, and the line that warnings should point at
SCRIPT = """\
def call(function, *arguments):
    return function(*arguments)
"""
LINE = 2

WRAPPERS = {
    "nothing": lambda estimator: estimator,
    "pipeline": lambda estimator: make_pipeline(StandardScaler(), estimator),
    "nested pipelines": lambda estimator: make_pipeline(make_pipeline(StandardScaler(), estimator), StandardScaler()),
    "search": lambda estimator: GridSearchCV(estimator, {}, cv=2),
    "search of a pipeline": lambda estimator: GridSearchCV(make_pipeline(StandardScaler(), estimator), {}, cv=2),
    "search in a pipeline": lambda estimator: make_pipeline(StandardScaler(), GridSearchCV(estimator, {}, cv=2)),
}


def run_source(source: str, file: str, **names) -> dict:
    """Names that a piece of source defines, run as if it stood in this file."""
    exec(compile(source, file, "exec"), names)
    return names


def warner():
    return run_source(ESTIMATOR, "warner.py", __name__="skdevae.training._warner")["Warner"]()


def warnings_of(function, *arguments, file="script.py", **names) -> set[tuple]:
    """Category, file and line of the warnings that a user's script gets when it calls a function."""
    script = run_source(SCRIPT, file, **{"__name__": "__main__", **names})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        script["call"](function, *arguments)
    return {(warning.category, warning.filename, warning.lineno) for warning in caught}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_warnings_point_at_the_users_line(wrap):
    estimator = wrap(warner())
    fitting = warnings_of(estimator.fit, X)
    assert (RuntimeWarning, "script.py", LINE) in fitting
    assert {(file, line) for _, file, line in fitting} == {("script.py", LINE)}  # folds that are transformed, too
    assert warnings_of(estimator.transform, X) == {(UserWarning, "script.py", LINE)}


@pytest.mark.parametrize("wrapper", ["nothing", "search of a pipeline"])
def test_estimators_of_the_package_warn_at_the_users_line(wrapper):
    estimator = WRAPPERS[wrapper](VampVAE(n_pseudo_inputs=50, max_epochs=1, random_state=0))
    assert warnings_of(estimator.fit, X) == {(UserWarning, "script.py", LINE)}


@pytest.mark.parametrize(
    "names",
    [
        {"file": r"C:\Users\me\sklearn\script.py"},
        {"file": "<stdin>"},
        {"file": "/venv/lib/python3.11/site-packages/cohort/_fit.py", "__name__": "cohort._fit"},
        {"file": "/src/torch_tools.py", "__name__": "torch_tools"},
        {"file": "/src/cohort/run.py", "__spec__": ModuleSpec("cohort.run", None)},  # python -m cohort.run
    ],
    ids=lambda names: names["file"],
)
def test_any_file_may_be_the_users(names):
    """Libraries are told by the names of their modules, so nothing depends on where files lie."""
    assert warnings_of(warner().fit, X, **names) == {(RuntimeWarning, names["file"], LINE)}


@pytest.mark.parametrize(
    "names",
    [
        {"__name__": "sklearn.pipeline"},
        {"__name__": "skdevae.metrics._divergence"},
        {"__name__": "concurrent.futures.thread"},
        {"__spec__": ModuleSpec("joblib.externals.loky.backend.popen_loky_posix", None)},  # its __name__ is __main__
    ],
    ids=str,
)
def test_frames_in_between_are_passed_over(names):
    between = run_source(SCRIPT, "between.py", **{"__name__": "__main__", **names})
    assert warnings_of(between["call"], warner().fit, X) == {(RuntimeWarning, "script.py", LINE)}


def test_a_stack_without_a_user_points_at_the_way_into_the_package():
    with warnings.catch_warnings(record=True) as caught, ThreadPool(1) as pool:
        warnings.simplefilter("always")
        pool.map(warner().fit, [X])
    assert [(warning.filename, warning.lineno) for warning in caught] == [("warner.py", ENTRY)]


def test_filters_know_the_users_module():
    script = run_source(SCRIPT, "script.py", __name__="cohort")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", module="cohort")
        script["call"](warner().fit, X)
        with pytest.raises(RuntimeWarning, match="fit warns"):
            run_source(SCRIPT, "other.py", __name__="other")["call"](warner().fit, X)


def test_each_place_warns_once_by_default():
    script = run_source(SCRIPT, "script.py", __name__="cohort")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(2):
            script["call"](warner().fit, X)
    assert len(caught) == 1


def test_code_without_a_module_name_is_the_users():
    assert warnings_of(warner().fit, X, __name__=None) == {(RuntimeWarning, "script.py", LINE)}
