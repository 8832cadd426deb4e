"""Fits on tables of Dask: what comes out is what a fit in one process gives, wherever rows are and whatever happens."""

import os
import signal
import sys

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from distributed import Client, LocalCluster
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from skorch.callbacks import Callback

from skdevae import BasisDeVAEClusterer, BasisVAEClusterer, DeVAETransformer, VAETransformer, VampVAE
from skdevae.datasets import make_progression, make_progression_counts
from skdevae.inspection import association_test, feature_table
from skdevae.training.interrupts import FitInterrupted

#: largest difference from one process, of a curve as a share of its range, and of a score in nats
SAME = 1e-6

RNG = np.random.default_rng(0)
TABLE = make_progression(150, n_transient=3, n_increasing=3, n_decreasing=3, noise=0.3, random_state=0).data
GAPS = np.where(RNG.random(TABLE.shape) < 0.1, np.nan, TABLE)
COUNTS = make_progression_counts(150, 9, density=0.7, random_state=1).data.toarray()
COUNTS = COUNTS[COUNTS.sum(1) > 0].astype(float)
WEIGHTS = RNG.integers(0, 3, len(TABLE)).astype(float)
SITES = pd.DataFrame({"site": RNG.choice(["a", "b"], len(TABLE)), "age": RNG.normal(size=len(TABLE))})
BATCHES = pd.DataFrame({"batch": RNG.choice(["a", "b"], len(COUNTS))})
FRAME = pd.concat([pd.DataFrame(GAPS).add_prefix("f"), SITES[["site"]]], axis=1)


def in_chunks(X, size=40):
    if sp.issparse(X):
        return [dask.delayed(X[start : start + size]) for start in range(0, X.shape[0], size)]
    if isinstance(X, pd.DataFrame):
        return dd.from_pandas(X, npartitions=3)
    return da.from_array(X, chunks=(size, -1))


def axis(**options):
    return BasisDeVAEClusterer(random_state=0, max_epochs=25, **options)


CASES = {
    "measurements": (axis(), TABLE, {}),
    "missing entries": (axis(), GAPS, {}),
    "single precision": (DeVAETransformer(random_state=0, max_epochs=25), GAPS.astype(np.float32), {}),
    "names and a column that conditions": (axis(covariates=["site"]), FRAME, {}),
    "weights": (axis(), GAPS, {"sample_weight": WEIGHTS}),
    "weights of Dask": (axis(), TABLE, {"sample_weight": da.from_array(WEIGHTS, chunks=60)}),
    "covariates": (axis(), TABLE, {"covariates": SITES}),
    "covariates of sparse counts": (axis(likelihood="nb"), sp.csr_array(COUNTS), {"covariates": BATCHES}),
    "size factors": (axis(likelihood="nb", size_factors="sum"), sp.csr_array(COUNTS), {}),
    "Poisson": (axis(likelihood="poisson"), COUNTS.astype(int), {}),
    "zeros and ones": (axis(likelihood="bernoulli"), (COUNTS > 1).astype(float), {}),
    "early stopping": (axis(early_stopping=True), TABLE, {}),
    "a given axis": (axis(), TABLE, {"axis": TABLE[:, 0]}),
    "several starts": (axis(n_init=2), TABLE, {}),
    "copies of rows": (axis(), np.concatenate([TABLE, TABLE[:30]]), {}),
    "outliers": (axis(), np.where(np.arange(150)[:, None] == 77, 1e3, TABLE), {}),
    "two components": (DeVAETransformer(n_components=2, n_grid_points=15, random_state=0, max_epochs=6), TABLE, {}),
    "clusters that share a function": (BasisVAEClusterer(n_clusters=3, random_state=0, max_epochs=40), TABLE, {}),
}


@pytest.mark.slow(keep=1)
@pytest.mark.filterwarnings("ignore:.*iterations|.*epochs:sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:Training does without")
@pytest.mark.filterwarnings("ignore:.*samples .*lie beyond the range")
@pytest.mark.parametrize("case", CASES)
def test_fits_are_those_of_one_process(case):
    model, X, facts = CASES[case]
    with dask.config.set(scheduler="threads", num_workers=2):
        there = clone(model).fit(in_chunks(X), **facts)
    here = clone(model).fit(X, **facts)
    # The level of a flat candidate reaches its optimum, where its gradient is rounding, and Adam makes steps of that.
    tolerance = 1e-3 if isinstance(model, BasisVAEClusterer) else SAME
    assert_same(there, here, tolerance)
    covariates = {name: facts[name] for name in ("covariates",) if name in facts}
    scores = (model.score_samples(X, **covariates) for model in (there, here))
    assert_allclose(*scores, atol=tolerance, rtol=1e-9)
    assert_allclose(there.transform(X, **covariates), here.transform(X, **covariates), atol=tolerance)
    assert there.n_features_in_ == here.n_features_in_
    assert_array_equal(getattr(there, "feature_names_in_", None), getattr(here, "feature_names_in_", None))


def assert_same(there, here, tolerance=SAME):
    z = np.linspace(-2, 2, 9) if here.module_.n_components == 1 else np.zeros((1, 2))
    expected = here.trajectories(z)
    reach = np.maximum(np.ptp(expected, axis=0), 0.1)  # a flat curve has no range
    assert np.nanmax(np.abs(there.trajectories(z) - expected) / reach) < tolerance
    assert there.lower_bound_ == pytest.approx(here.lower_bound_, abs=tolerance)
    if hasattr(here, "labels_"):
        assert_array_equal(there.labels_, here.labels_)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("size", [7, 50, 150])
def test_chunk_sizes_and_the_order_of_chunks_do_not_matter(size):
    here = axis().fit(GAPS)
    chunks = [dask.delayed(GAPS[start : start + size]) for start in range(0, len(GAPS), size)]
    order = np.random.default_rng(size).permutation(len(chunks))
    empty = dask.delayed(GAPS[:0])
    with dask.config.set(scheduler="synchronous"):
        assert_same(axis().fit([empty, *(chunks[number] for number in order), empty]), here)


@pytest.mark.parametrize(
    "model",
    [
        VAETransformer(n_components=2, max_epochs=3, random_state=0),
        VampVAE(n_components=2, max_epochs=3, random_state=0),
    ],
    ids=lambda model: type(model).__name__,
)
def test_embeddings_read_chunks_as_they_go(model):
    with dask.config.set(scheduler="synchronous"):
        there = clone(model).fit(in_chunks(TABLE))
    here = clone(model).fit(TABLE)
    assert_allclose(there.transform(TABLE), here.transform(TABLE), atol=1e-4)  # single precision


@pytest.mark.slow
def test_a_stream_takes_tables_of_dask():
    with dask.config.set(scheduler="synchronous"):
        there = axis().partial_fit(in_chunks(TABLE)).partial_fit(in_chunks(TABLE[:60], 25))
    here = axis().partial_fit(TABLE).partial_fit(TABLE[:60])
    assert_same(there, here)


# ---- on a cluster ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client():
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster) as client:
        yield client


class At(Callback):
    """Do something when an epoch ends."""

    def __init__(self, epoch, action):
        self.epoch, self.action = epoch, action

    def on_epoch_end(self, net, **_):
        if len(net.history) == self.epoch:
            self.action()


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing(client):
    def kill():
        os.kill(min(client.run(os.getpid).values()), signal.SIGKILL)

    model = axis().set_params(max_epochs=12)
    there = clone(model).set_params(callbacks=[At(5, kill)])
    there.fit(in_chunks(GAPS, 60).persist(), sample_weight=WEIGHTS)  # which are on the workers, too
    assert_same(there, model.fit(GAPS, sample_weight=WEIGHTS))
    client.wait_for_workers(1, timeout=60)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there are no process groups to signal")
def test_ctrl_c_in_a_terminal_ends_training_and_keeps_what_was_learned(client):
    def interrupt():
        workers = list(client.run(os.getpid).values())
        for process in [*workers, os.getpid()]:  # as a terminal does to all that it has started
            os.kill(process, signal.SIGINT)

    table = in_chunks(GAPS).persist()
    model = clone(axis()).set_params(callbacks=[At(7, interrupt)])
    with pytest.raises(FitInterrupted, match="interrupted after 7 epochs"):
        model.fit(table)
    assert model.n_iter_ == 7
    assert np.isfinite(model.score_samples(table).compute()).all()


def test_a_chunk_that_fails_on_a_worker_is_named(client):
    def fails():
        raise OSError("disk gone")

    broken = da.concatenate([da.ones((5, 3)), da.from_delayed(dask.delayed(fails)(), (5, 3), dtype=float)])
    with pytest.raises(ValueError, match="chunk 1 of X cannot be computed: OSError: disk gone"):
        axis().fit(broken)


# ---- what fitted models are asked -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_tables_of_a_fitted_model_are_those_of_one_process():
    model, X = axis().fit(TABLE), in_chunks(TABLE)
    with dask.config.set(scheduler="synchronous"):
        there = feature_table(model, X, n_bootstrap=2, random_state=0)
    pd.testing.assert_frame_equal(there, feature_table(model, TABLE, n_bootstrap=2, random_state=0), rtol=1e-4)


def test_a_test_that_needs_all_of_the_table_says_so():
    with dask.config.set(scheduler="synchronous"), pytest.raises(TypeError, match=r"in memory. .* X.compute\(\)"):
        association_test(axis().fit(TABLE), in_chunks(TABLE), n_permutations=19)
