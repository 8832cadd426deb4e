"""A forked child computes, on one thread: the threads of its parent are not there."""

import os
import signal
import subprocess
import sys

import pytest

#: The parent computes with two threads. A child that waits for the parent's threads is ended, and reported, after a
#: time that no child comes near that does not wait.
SCRIPT = """
import os, signal, sys, time
import numpy as np, torch
import skdevae

torch.set_num_threads(2)
random = np.random.default_rng(0)
table = np.tanh(random.normal(size=(2000, 1)) * random.normal(size=30)) + 0.3 * random.normal(size=(2000, 30))
model = skdevae.DeVAETransformer(max_epochs=1, random_state=0).fit(table[:100])
latents = model.transform(table)

def in_a_child(compute):
    pid = os.fork()
    if pid == 0:
        try:
            compute()
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    for _ in range(2000):
        time.sleep(0.1)
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "waits without end"

def ask_and_fit():
    np.testing.assert_allclose(model.transform(table), latents, atol=1e-6)
    model.fit(table)
    assert torch.get_num_threads() == 1

def ask_and_fit_in_a_child_of_this_child():
    assert in_a_child(ask_and_fit) == 0

assert in_a_child(ask_and_fit_in_a_child_of_this_child) == 0
assert torch.get_num_threads() == 2
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_does_not_wait_for_its_parents_threads():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    environment["OMP_WAIT_POLICY"] = "passive"  # threads that spin cost a busy machine much
    run = subprocess.Popen([sys.executable, "-W", "ignore", "-c", SCRIPT], env=environment, start_new_session=True)
    try:
        assert run.wait(timeout=500) == 0
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
