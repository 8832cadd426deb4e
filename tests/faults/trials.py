"""Ctrl-C at random times of fits: a trial, and what may come of it.

The signal is a real one, and comes wherever the fit happens to be. Run as a program, in a process of its own, for it
would interrupt whoever runs it.
"""

import argparse
import os
import signal
import time
import warnings
from collections import Counter
from contextlib import contextmanager

import numpy as np
from faults.estimators import ESTIMATORS, WINE

from skdevae.training.interrupts import FitInterrupted

FIRST, SECOND = WINE, 10 * WINE[::-1, :7] + 3


def same(model, table, expected):
    found = model.transform(table), model.score_samples(table)
    return all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


@contextmanager
def control_c_after(seconds):
    """Press Ctrl-C in this process when so many seconds have passed, unless the context has been left by then."""
    before = signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Subject:
    """An estimator under trial, with the results of fits that nothing has interrupted."""

    def __init__(self, name):
        self.make = ESTIMATORS[name]
        self.model = self.make().fit(FIRST)
        self.of_first = self.model.transform(FIRST), self.model.score_samples(FIRST)
        begin = time.perf_counter()
        fresh = self.make().fit(SECOND)
        self.seconds = time.perf_counter() - begin
        self.of_second = fresh.transform(SECOND), fresh.score_samples(SECOND)

    def trial(self, random):
        """Interrupt a fit at a random time, and say what came of it; anything but the promised is an AssertionError."""
        model = self.model
        before = dict(vars(model))
        raised, kept = False, None
        try:
            with control_c_after(self.seconds * random.uniform(1e-3, 1)):
                model.fit(SECOND)
        except FitInterrupted as interruption:
            raised, kept = True, interruption.estimator
        except KeyboardInterrupt:
            raised = True
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if kept is not None:
            assert kept is model
            assert model.n_iter_ == len(model.history_) >= 1
            assert np.isfinite(model.score_samples(SECOND)).all()
            outcome = "kept what was learned"
        elif not raised or model.n_features_in_ == SECOND.shape[1]:
            assert same(model, SECOND, self.of_second)  # an interrupt that was raised came after the fit
            outcome = "whole"
        else:
            assert vars(model).keys() == before.keys()
            assert all(vars(model)[name] is value for name, value in before.items())
            assert same(model, FIRST, self.of_first)
            outcome = "as it was"
        assert same(model.fit(SECOND), SECOND, self.of_second)
        assert same(model.fit(FIRST), FIRST, self.of_first)
        return outcome


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=30, help="of each estimator")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("names", nargs="*", help="of estimators; all where none is named")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    random = np.random.default_rng(arguments.seed)
    for name in arguments.names or ESTIMATORS:
        subject = Subject(name)
        outcomes = Counter(subject.trial(random) for _ in range(arguments.trials))
        print(f"{name}: {dict(outcomes)}", flush=True)


if __name__ == "__main__":
    main()
