"""Settings of the process: no result depends on them, and they are as they were when a method returns."""

import inspect
import pickle
import threading
from contextlib import ExitStack, contextmanager
from functools import cache

import numpy as np
import pytest
import sklearn
import torch
from faults.estimators import ESTIMATORS, WINE
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA

from skdevae import VAETransformer
from skdevae._base.own_settings import UnderOwnSettings, own_settings
from skdevae._sklearn import available_if
from skdevae.display import LatentDisplay

TABLE = WINE[::3, :6]


@contextmanager
def set_and_put_back(setter, value, usual):
    setter(value)
    try:
        yield
    finally:
        setter(usual)


SETTINGS = {
    "double precision": lambda: set_and_put_back(torch.set_default_dtype, torch.float64, torch.float32),
    "half precision": lambda: set_and_put_back(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "another device": lambda: set_and_put_back(torch.set_default_device, "meta", None),
    "device context": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "deterministic": lambda: set_and_put_back(torch.use_deterministic_algorithms, True, False),
    "anomalies": lambda: torch.autograd.set_detect_anomaly(True),
    "errors raise": lambda: np.errstate(all="raise"),
    "data frames": lambda: sklearn.config_context(transform_output="pandas"),
    "routing": lambda: sklearn.config_context(enable_metadata_routing=True),
}
#: each setting is in one of these, so that few fits try all of them
COMBINATIONS = [
    ("double precision", "no gradients", "autocast", "another device", "errors raise", "deterministic", "data frames"),
    ("half precision", "inference mode", "device context", "anomalies", "routing"),
]


@contextmanager
def all_of(settings):
    with ExitStack() as stack:
        for setting in settings:
            stack.enter_context(SETTINGS[setting]())
        yield


def state_of_the_process():
    return {
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "inference mode": torch.is_inference_mode_enabled(),
        "gradients": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "numpy": np.geterr(),
        "scikit-learn": sklearn.get_config(),
        "random": torch.random.get_rng_state().tolist(),
    }


def answers(name):
    model = ESTIMATORS[name](max_epochs=1, n_init=1).fit(TABLE)
    z = np.zeros((2, len(model.get_feature_names_out())))
    posterior = model.posterior(TABLE)
    labels = getattr(model, "predict_features", None) or getattr(model, "predict", None)
    return {
        "transform": model.transform(TABLE),
        "mean": posterior.mean,
        "upper": posterior.upper,
        "score": model.score_samples(TABLE),
        "elbo": model.elbo(TABLE),
        "conditional": model.conditional_log_likelihood(TABLE),
        "curves": model.trajectories(z),
        "slopes": model.derivatives(z),
        "inverse": model.inverse_transform(z),
        "sample": model.sample(2, random_state=0),
        "latents": model.sample_latent(2, random_state=0),
        "denoise": model.denoise(TABLE) if hasattr(model, "denoise") else 0,
        "predict": labels(TABLE) if labels else 0,
        "loaded": pickle.loads(pickle.dumps(model)).transform(TABLE),
    }


@cache
def usual(name):
    return answers(name)


def assert_nothing_changes(name, *settings):
    expected = usual(name)
    with all_of(settings):
        before = state_of_the_process()
        found = answers(name)
        assert state_of_the_process() == before
    for answer, value in expected.items():
        assert_array_equal(found[answer], value, err_msg=answer)


@pytest.mark.slow(keep=1)
@pytest.mark.filterwarnings("ignore:Anomaly Detection:UserWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # of one epoch
@pytest.mark.parametrize("settings", COMBINATIONS, ids=["first", "second"])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_no_result_depends_on_the_settings_of_the_process(name, settings):
    assert_nothing_changes(name, *settings)


def test_an_error_puts_settings_back():
    with torch.no_grad(), np.errstate(all="raise"):
        before = state_of_the_process()
        with pytest.raises(ValueError, match="n_components"):
            VAETransformer(-1).fit(TABLE)
        assert state_of_the_process() == before


def test_threads_that_overlap_put_the_default_dtype_back_once():
    inside, leave = threading.Event(), threading.Event()

    def stay():
        with own_settings():
            inside.set()
            leave.wait(10)

    with SETTINGS["double precision"]():
        thread = threading.Thread(target=stay)
        thread.start()
        inside.wait(10)
        with own_settings():
            assert torch.get_default_dtype() == torch.float32
        assert torch.get_default_dtype() == torch.float32  # the other thread still computes
        leave.set()
        thread.join()
        assert torch.get_default_dtype() == torch.float64


@pytest.mark.parametrize("estimator", ["BasisDeVAE", "BasisVAE", "DeVAE", "VAE", "VampVAE", "DGD"])
def test_every_class_of_an_estimator_is_under_own_settings(estimator):
    ours = [kind for kind in type(ESTIMATORS[estimator]()).__mro__ if kind.__module__.startswith("skdevae.")]
    with_methods = [kind for kind in ours if any(not name.startswith("_") for name in vars(kind))]
    assert [kind for kind in with_methods if not issubclass(kind, UnderOwnSettings)] == []


def test_methods_keep_their_signature_their_check_and_their_kind():
    class Thing(UnderOwnSettings):
        is_open = False

        def double(self, x: int, *, dtype: str = "none") -> bool:
            """Whether gradients are on."""
            return torch.is_grad_enabled()

        @available_if(lambda self: self.is_open)
        def maybe(self):
            """Whether gradients are on."""
            return torch.is_grad_enabled()

        @property
        def gradients(self):
            """Whether gradients are on."""
            return torch.is_grad_enabled()

        def _private(self):
            return torch.is_grad_enabled()

    thing = Thing()
    assert str(inspect.signature(Thing.double)) == "(self, x: int, *, dtype: str = 'none') -> bool"
    assert {inspect.getdoc(vars(Thing)[name]) for name in ("double", "maybe", "gradients")} == {
        "Whether gradients are on."
    }
    assert not hasattr(thing, "maybe")
    thing.is_open = True
    with torch.no_grad():
        assert (thing.double(1), thing.maybe(), thing.gradients, thing._private()) == (True, True, True, False)


class FromArrays(BaseEstimator):
    """A reducer that, as UMAP does, starts from principal components and expects an array."""

    def fit_transform(self, X):
        return PCA(2).fit_transform(X).astype(np.float32, order="C")


def test_a_reduction_for_a_figure_is_one_of_arrays():
    model = VAETransformer(3, max_epochs=1, random_state=0).fit(TABLE)
    expected = LatentDisplay.from_estimator(model, TABLE, reducer=FromArrays(), random_state=0)
    with SETTINGS["data frames"]():
        display = LatentDisplay.from_estimator(model, TABLE, reducer=FromArrays(), random_state=0)
    assert_array_equal(display.latents, expected.latents)
