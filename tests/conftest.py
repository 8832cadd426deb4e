"""What every test finds set up: few threads, no display, no clock, and a way to the shared data.

Environment variables:

``SKDEVAE_TEST_THREADS``
    Threads of torch, 1 where it is not set. ``make portability`` sets 2 as well.
``SKDEVAE_REQUIRE_SHARED``
    Where it is 1, a test that finds no ``../shared/data`` fails instead of being skipped. ``.ci/run`` sets it.
``SKDEVAE_TEST_SLOW``
    Where it is 1, all cases of tests that are marked slow are run, as in ``make test-all``. Else a few of them are.
"""

from __future__ import annotations  # pytest.TerminalReporter is newer than the lowest pytest

import os
import signal
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from slow_cases import kept_cases
from threadpoolctl import threadpool_info

try:
    import resource
except ImportError:  # Windows has none
    resource = None

os.environ["MPLBACKEND"] = "Agg"  # before anything imports matplotlib

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
THREADS = int(os.environ.get("SKDEVAE_TEST_THREADS", "1"))

# No test asserts time, and hypothesis would: 200 ms an example, and a limit on drawing them.
settings.register_profile("skdevae", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("skdevae")


@pytest.fixture
def one_run_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits make one run for each start: none begins once more along a path that bends."""
    monkeypatch.setattr("skdevae._base.fitting.has_order_of", lambda *_: True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is slow: all but ``keep`` of the cases of a test with ``@pytest.mark.slow(keep=...)``.

    Whoever names a test (``tests/nn/test_models.py::test_...``) wants all of its cases.
    """
    if os.environ.get("SKDEVAE_TEST_SLOW") == "1" or any("::" in argument for argument in config.args):
        return
    cases: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("slow"):
            cases[item.nodeid.partition("[")[0]].append(item)
    left_out = set()
    for tests in cases.values():
        keep = tests[0].get_closest_marker("slow").kwargs.get("keep", 0)
        kept = kept_cases([test.name for test in tests], keep)
        left_out.update(test for test in tests if test.name not in kept)
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = [item for item in items if item not in left_out]


def pytest_sessionstart() -> None:
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in the background of a shell; some tests send Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(THREADS)


def pytest_report_header() -> str:
    """Which kernels compute: what to compare first where a test passes on one machine and fails on another."""
    blas = [f"{pool['internal_api']} {pool.get('architecture', '')}".strip() for pool in threadpool_info()]
    capability = torch.backends.cpu.get_cpu_capability()
    return f"kernels: {', '.join(sorted(set(blas)))}; torch {capability}, threads {torch.get_num_threads()}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what the fuzzer did, and the processor time that the tests took.

    Workers of pytest-xdist have ended by now, and their time is counted.
    """
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, text in report.user_properties:
                if name == "fuzz":
                    terminalreporter.write_line(f"fuzz: {text}")
    if resource is None or hasattr(config, "workerinput"):
        return
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    user, system = sum(part.ru_utime for part in usage), sum(part.ru_stime for part in usage)
    terminalreporter.write_line(f"CPU-seconds: {user + system:.0f} (user {user:.0f}, system {system:.0f}), all workers")


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Where a file of ``../shared/data`` lies: ``shared_data("gunpoint.npz")``.

    Those data sets have licences of their own and stay outside the repository, so a test without its data is skipped.
    """

    def path(name: str) -> Path:
        found = SHARED_DATA / name
        if not found.exists():
            if os.environ.get("SKDEVAE_REQUIRE_SHARED") == "1":
                pytest.fail(f"SKDEVAE_REQUIRE_SHARED is 1, and ../shared/data/{name} is missing")
            pytest.skip(f"needs ../shared/data/{name}, which is not part of the repository")
        return found

    return path
