"""Fits that two processes share equal those of one process with batches of twice the size."""

import os
import pickle
import subprocess
import sys
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from embedding import data_parallel_cases as cases
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from skdevae import DGDEmbedder, VAETransformer, VampVAE
from skdevae.table.source import RowSource
from skdevae.training.data_parallel import ConnectedProcesses

#: Largest difference of losses and scores, in nats per sample, and of latents and weights. Sums of float32 numbers
#: depend on the order of their terms, and Adam carries that on from step to step.
TOLERANCE = 5e-5


@pytest.fixture(scope="module")
def shared(request, tmp_path_factory):
    """What both processes have found of the cases that are tested, and how their program ended."""
    tested = [item.callspec.params for item in request.session.items if "shared" in getattr(item, "fixturenames", ())
              and hasattr(item, "callspec")]  # fmt: skip
    names = sorted({parameters["name"] for parameters in tested if "name" in parameters})
    folder = tmp_path_factory.mktemp("shared")
    with h5py.File(folder / "table.h5", "w") as file:
        file["X"] = cases.counts(cases.CASES["stored"][1])
    launch = ["torch.distributed.run", "--standalone", f"--nproc-per-node={cases.N_PROCESSES}"]
    command = [sys.executable, "-m", *launch, cases.__file__, str(folder), *names]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    paths = [folder / f"found_{rank}.pickle" for rank in range(cases.N_PROCESSES)]
    if not all(path.exists() for path in paths):
        pytest.fail(ended.stderr, pytrace=False)
    return SimpleNamespace(folder=folder, found=[pickle.loads(path.read_bytes()) for path in paths], ended=ended)


def assert_same(one, other, tolerance):
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, dict):
            assert_same(value, other[name], tolerance)
        else:
            # curves of counts go into the thousands, where the absolute tolerance is finer than float32
            assert_allclose(value, other[name], rtol=1e-6, atol=tolerance, err_msg=name)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("name", cases.CASES)
def test_both_processes_end_with_the_same_estimator(name, shared):
    assert_same(*(found[name] for found in shared.found), tolerance=0)


@pytest.mark.slow(keep=3)
@pytest.mark.filterwarnings("ignore:.* lie beyond the range of the training samples")
@pytest.mark.parametrize("name", [name for name in cases.CASES if name not in cases.RANDOM])
def test_two_processes_find_what_one_finds_with_batches_of_twice_the_size(name, shared):
    model = clone(cases.CASES[name][0])
    model.set_params(data_parallel=False, batch_size=cases.N_PROCESSES * model.batch_size)
    table, facts = cases.table_of(name, shared.folder)
    expected = cases.answers(model.fit(table, **facts), name)
    assert_same(shared.found[0][name], expected, TOLERANCE)


def test_an_interrupt_of_one_process_ends_training_in_both(shared):
    for found in shared.found:
        n_iter, message = found["interrupted"]
        assert n_iter == 3
        assert "interrupted after 3 epochs" in message


@pytest.mark.parametrize(
    "case, message", [("not finite", "stopped being finite"), ("other tables", "same table in every process")]
)
def test_errors_are_those_of_all_processes(case, message, shared):
    for found in shared.found:
        assert found[case] is not None
        assert message in found[case]


def test_an_error_in_one_process_ends_the_program(shared):
    assert shared.ended.returncode != 0
    assert cases.REASON in shared.ended.stderr


@pytest.mark.parametrize("n_processes", [2, 3, 5])
def test_shares_of_a_batch_are_the_batch(n_processes):
    """Each row is in one share, with its place in the batch, and weighted shares have the batch's mean."""
    accelerators = [SimpleNamespace(num_processes=n_processes, process_index=rank) for rank in range(n_processes)]
    processes = [ConnectedProcesses(accelerator) for accelerator in accelerators]
    order = torch.randperm(23, generator=torch.Generator().manual_seed(0))
    values = torch.arange(23.0, dtype=torch.float64) ** 2
    owned = [np.arange(23)[process.owned(23)] for process in processes]
    assert_array_equal(np.concatenate(owned), np.arange(23))
    for batch in order.split(4):  # the last one has three rows
        for is_owned in (False, True):
            shares = [p.owned_share(batch, 23) if is_owned else p.even_share(batch) for p in processes]
            counted = [share for share in shares if share.weight > 0]
            places = torch.cat([torch.arange(len(batch))[share.places] for share in counted])
            assert_array_equal(places.sort().values, np.arange(len(batch)))
            assert_array_equal(torch.cat([share.rows for share in counted]), batch[places])
            assert all(len(share.rows) == len(torch.arange(len(batch))[share.places]) >= 1 for share in shares)
            mean = sum(share.weight * values[share.rows].mean() for share in shares) / n_processes
            assert_allclose(mean, values[batch].mean())
            if is_owned:
                assert all(np.isin(share.rows, own).all() for share, own in zip(shares, owned, strict=True))


def test_there_is_a_row_for_every_process():
    processes = ConnectedProcesses(SimpleNamespace(num_processes=4, process_index=0))
    with pytest.raises(ValueError, match="shares 3 different rows among 4 processes"):
        processes.check_same_table(RowSource(np.eye(3), None, None, torch.zeros(())))


# ---- one process ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [VampVAE, VAETransformer, DGDEmbedder])
def test_one_process_that_shares_with_nobody_is_the_ordinary_fit(family):
    table = cases.measurements(60)
    shared = cases.network(family, max_epochs=2).fit(table)
    alone = clone(shared).set_params(data_parallel=False).fit(table)
    for one, other in zip(shared.module_.parameters(), alone.module_.parameters(), strict=True):
        assert_array_equal(one, other)
    assert_array_equal(shared.transform(table), alone.transform(table))


def test_a_missing_accelerate_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ImportError, match=r'shares batches.*pip install "skdevae\[accelerate\]"'):
        cases.network(VampVAE).fit(cases.measurements(20))


def test_processes_that_accelerate_has_not_connected_are_an_error(monkeypatch):
    cases.network(VampVAE, max_epochs=1).fit(cases.measurements(20))  # connects accelerate, as it is here
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ValueError, match="3 processes were started"):
        cases.network(VampVAE).fit(cases.measurements(20))
