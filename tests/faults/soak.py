"""A soak: fits, transforms, saves, loads, threads, forks, failures and interrupts, mixed at random for a while.

Each result has to have the bits of a fit that nothing has disturbed. ``make soak`` runs it on two cores for ten minutes
and prints what was done, what came of it, and how much the processes grew.
"""

import argparse
import contextlib
import copy
import io
import multiprocessing
import os
import pickle
import sys
import time
import traceback
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import joblib
import numpy as np
from faults.estimators import ESTIMATORS
from faults.trials import FIRST, SECOND, Subject, same
from skorch.callbacks import Callback

#: rounds after which a process has all that it needs, and share by which it may grow from then on
_WARM_ROUNDS, _LARGEST_GROWTH = 60, 0.05


class Failure(Callback):
    """Raises in the second epoch."""

    def __init__(self, error):
        self.error = error

    def on_batch_begin(self, net, **kwargs):
        if len(net.history) == 2:
            raise self.error


def interrupt(subject, random):
    return subject.trial(random)


def transform(subject, random):
    assert same(subject.model, FIRST, subject.of_first)


def save_and_load(subject, random):
    for again in (pickle.loads(pickle.dumps(subject.model)), copy.deepcopy(subject.model), _through_joblib(subject)):
        assert same(again, FIRST, subject.of_first)
    subject.model = again


def _through_joblib(subject):
    file = io.BytesIO()
    joblib.dump(subject.model, file)
    file.seek(0)
    return joblib.load(file)


def fail(subject, random):
    """A refit that a fault in a callback ends."""
    error = [MemoryError("no memory"), OSError("no disk"), ValueError("no value")][random.integers(3)]
    subject.model.set_params(callbacks=[Failure(error)])
    with contextlib.suppress(type(error)):
        subject.model.fit(SECOND)
        raise AssertionError("the fault was lost")
    subject.model.set_params(callbacks=None)
    assert same(subject.model, FIRST, subject.of_first)


def fit_in_threads(subject, random):
    with ThreadPoolExecutor(4) as pool:
        models = list(pool.map(lambda table: subject.make().fit(table), [FIRST, SECOND, FIRST, SECOND]))
    for model, table in zip(models, [FIRST, SECOND] * 2, strict=True):
        assert same(model, table, subject.of_first if table is FIRST else subject.of_second)


def fit_in_processes(subject, random):
    tables = [FIRST, SECOND]
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        models = list(pool.map(subject.make().fit, tables))
    assert same(models[0], FIRST, subject.of_first)
    assert same(models[1], SECOND, subject.of_second)


def ask_in_a_child(subject, random):
    pid = os.fork()
    if pid == 0:
        os._exit(0 if same(subject.model, FIRST, subject.of_first) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


DEEDS = [interrupt, interrupt, transform, save_and_load, fail, fit_in_threads, fit_in_processes, ask_in_a_child]


def memory():
    """MiB of this process that are in memory; 0 where the system does not say."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return 0.0


def soak(seconds, seed):
    """Do what there is to do, until the time is over, and exit with status 1 if anything went wrong."""
    warnings.simplefilter("ignore")
    end, random = time.monotonic() + seconds, np.random.default_rng(seed)
    subjects = {name: Subject(name) for name in ESTIMATORS}
    done, wrong, warm = Counter(), Counter(), 0.0
    while time.monotonic() < end:
        name, deed = random.choice(list(ESTIMATORS)), DEEDS[random.integers(len(DEEDS))]
        try:
            outcome = deed(subjects[name], random)
            done[f"{deed.__name__}: {outcome or 'the same bits'}"] += 1
        except Exception:
            wrong[f"{name}, {deed.__name__}"] += 1
            print(f"{name}, {deed.__name__}:\n{traceback.format_exc()}", flush=True)
            subjects[name] = Subject(name)
        if done.total() == _WARM_ROUNDS:
            warm = memory()
    growth = memory() / warm - 1 if warm else 0.0
    lines = [f"{count:6d} {what}" for what, count in sorted(done.items())]
    lines += [f"{count:6d} WRONG {what}" for what, count in sorted(wrong.items())]
    grown = f"grown by {growth:.1%} since round {_WARM_ROUNDS}" if warm else "too few rounds to say whether it grows"
    print(f"process {seed}, {memory():.0f} MiB, {grown}:", *lines, sep="\n")
    sys.exit(bool(wrong) or growth > _LARGEST_GROWTH)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=soak, args=(arguments.seconds, seed)) for seed in range(arguments.workers)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    sys.exit(max(worker.exitcode != 0 for worker in workers))


if __name__ == "__main__":
    main()
