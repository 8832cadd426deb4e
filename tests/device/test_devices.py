"""What ``device`` promises: fits and answers on every device that is there, and files that know of none.

Tests of a GPU are skipped where there is none. ``benchmarks/gpu.py`` runs them where there is one.
"""

import os
import pickle
import subprocess
import sys
from functools import cache

import h5py
import numpy as np
import pytest
import torch
from agreement import assert_agree
from faults.estimators import ESTIMATORS, WINE
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import scale

from skdevae import BasisDeVAEClusterer
from skdevae.inspection import bootstrap
from skdevae.training.device import resolve_device

#: which torch may say of the first product in a thread of its own
pytestmark = pytest.mark.filterwarnings(
    "ignore:Attempting to run cuBLAS:UserWarning", "ignore:early_stopping=True, but training went on"
)

GPU = "cuda"
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
DEVICES = ["cpu", pytest.param(GPU, marks=needs_gpu)]
X = scale(WINE)
GAPS = np.where(np.random.RandomState(0).uniform(size=X.shape) < 0.1, np.nan, X)
COUNTS = csr_array(np.random.RandomState(0).poisson(np.exp(2 + 0.5 * X)).astype(float))
BATCH = np.resize(["a", "b", "b"], len(X))
#: name -> a table, facts of its rows, and parameters
TABLES = {
    "gaussian": (X, {}, {}),
    "gaps, weights": (GAPS, {"sample_weight": np.resize([1.0, 2.0], len(X))}, {}),
    "bernoulli, covariates": ((X > 0).astype(float), {"covariates": BATCH}, {"likelihood": "bernoulli"}),
    "nb, sizes, covariates": (COUNTS, {"covariates": BATCH}, {"likelihood": "nb", "size_factors": "sum"}),
    "zinb": (COUNTS, {}, {"likelihood": "zinb"}),
}


def device_of(model):
    return next(model.module_.parameters()).device.type


@cache
def fitted(name, device, table="gaussian"):
    values, facts, parameters = TABLES[table]
    return ESTIMATORS[name](device=device, **parameters).fit(values, **facts)


def answers(model, table="gaussian"):
    """Everything that a model says of the rows of a table, by the method's name."""
    values, facts, _ = TABLES[table]
    of_rows = {name: fact for name, fact in facts.items() if name == "covariates"}
    shares = "predict_features_proba" if hasattr(model, "predict_features_proba") else "predict_proba"
    methods = ("transform", "score_samples", shares, "denoise", "impute")
    return {name: getattr(model, name)(values, **of_rows) for name in methods if hasattr(model, name)}


def assert_same_answers(found, expected, tolerance=np.float64):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert_agree(found[name], values, computed_in=tolerance, err_msg=name)


def test_auto_is_the_gpu_where_there_is_one(monkeypatch):
    for there_is_one, device in {False: "cpu", True: "cuda"}.items():
        monkeypatch.setattr(torch.cuda, "is_available", lambda there_is_one=there_is_one: there_is_one)
        assert resolve_device("auto").type == device


@pytest.mark.slow(keep=5)
@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("device", DEVICES)
def test_a_fit_answers_on_its_device_whatever_the_parameter_becomes(name, device):
    model = pickle.loads(pickle.dumps(fitted(name, "cpu")))  # a copy whose parameter may change
    model.module_ = model.module_.to(device)
    expected = model.transform(X)
    model.set_params(device="cuda:99")
    assert device_of(model) == device
    assert_agree(model.transform(X), expected)


@needs_gpu
@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("table", TABLES)
def test_a_gpu_fits_and_answers_as_the_cpu_does(name, table):
    on_gpu = fitted(name, GPU, table)
    assert device_of(on_gpu) == GPU
    loaded = pickle.loads(pickle.dumps(on_gpu))
    assert device_of(loaded) == "cpu"
    # Searches end where a step is small enough, so they stop elsewhere where sums round otherwise.
    assert_same_answers(answers(on_gpu, table), answers(loaded, table), np.float32)
    assert np.isfinite(on_gpu.inverse_transform(on_gpu.transform(X[:3]))).all() if table == "gaussian" else True
    first = [fitted(name, device, table).history_[0]["train_loss"] for device in (GPU, "cpu")]
    np.testing.assert_allclose(*first, rtol=1e-3)


@needs_gpu
def test_what_a_gpu_has_fitted_loads_where_there_is_none(tmp_path):
    table, files = tmp_path / "table.npy", []
    np.save(table, X)
    for number, name in enumerate(ESTIMATORS):
        files.append(tmp_path / f"{number}.pickle")
        files[-1].write_bytes(pickle.dumps(fitted(name, GPU)))
    program = (
        "import pickle, sys, numpy as np, torch\n"
        "assert not torch.cuda.is_available()\n"
        "X = np.load(sys.argv[1])\n"
        "for path in sys.argv[2:]:\n"
        "    model = pickle.load(open(path, 'rb'))\n"
        "    np.save(path + '.npy', model.transform(X))\n"
    )
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, "-c", program, table, *files], check=True, env=environment)
    for name, path in zip(ESTIMATORS, files, strict=True):
        assert_agree(np.load(f"{path}.npy"), fitted(name, GPU).transform(X), computed_in=np.float32, err_msg=name)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("table", ["gaussian", "nb, sizes, covariates"])
def test_streams_go_on_on_another_device(device, table):
    values, facts, parameters = TABLES[table]
    model = BasisDeVAEClusterer(max_epochs=2, random_state=0, **parameters)
    halves = (slice(0, None, 2), slice(1, None, 2))
    models = [model, clone(model)]
    for rows, on in zip(halves, ("cpu", device), strict=True):
        facts_of_rows = {name: fact[rows] for name, fact in facts.items()}
        models[0].set_params(device=on).partial_fit(values[rows], **facts_of_rows)
        models[1].set_params(device="cpu").partial_fit(values[rows], **facts_of_rows)
    assert device_of(models[0]) == device
    assert_same_answers(answers(models[0], table), answers(models[1], table), np.float32)


@needs_gpu
@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_gpu_takes_tables_on_disk(name, tmp_path):
    with h5py.File(tmp_path / "table.h5", "w") as file:
        stored = file.create_dataset("X", data=X, chunks=(10, X.shape[1]))
        model = ESTIMATORS[name](device=GPU).fit(stored)
        assert_agree(model.transform(stored), model.transform(X), computed_in=np.float32)


@needs_gpu
@pytest.mark.filterwarnings("ignore:.*beyond the range of the training samples:UserWarning")
def test_a_search_runs_on_a_gpu():
    search = GridSearchCV(BasisDeVAEClusterer(max_epochs=2, random_state=0, device=GPU), {"n_clusters": [2, 3]}, cv=2)
    assert device_of(search.fit(X).best_estimator_) == GPU


@needs_gpu
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # models of four epochs
@pytest.mark.parametrize("method", ["side_by_side", "refit"])
def test_fits_with_other_weights_run_on_a_gpu(method):
    replicates = bootstrap(fitted("BasisDeVAE", GPU), X, n_bootstrap=3, method=method, random_state=0)
    assert np.isfinite(replicates.trajectories(np.linspace(-1, 1, 5))).all()
    assert np.isfinite(replicates[1].transform(X)).all()


@needs_gpu
@pytest.mark.parametrize("parameters", [{"n_init": 4}, {"early_stopping": True}, {"n_components": 2}])
def test_other_ways_of_training_run_on_a_gpu(parameters):
    name = "DeVAE" if "n_components" in parameters else "BasisDeVAE"
    model = ESTIMATORS[name](device=GPU, **parameters).fit(X)
    assert_agree(model.transform(X), pickle.loads(pickle.dumps(model)).transform(X), computed_in=np.float32)
