"""What every test finds set up: few threads, no display, no clock, and a way to the shared data."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

os.environ["MPLBACKEND"] = "Agg"  # before anything imports matplotlib

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

# No test asserts time, and hypothesis would: 200 ms an example, and a limit on drawing them.
settings.register_profile("skdevae", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("skdevae")


def pytest_sessionstart() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Where a file of ``../shared/data`` lies: ``shared_data("gunpoint.npz")``.

    Those data sets have licences of their own and stay outside the repository. A test without its data is skipped,
    except where CI is set: there it fails.
    """

    def path(name: str) -> Path:
        found = SHARED_DATA / name
        if not found.exists():
            if os.environ.get("CI"):
                pytest.fail(f"CI is set, and ../shared/data/{name} is missing")
            pytest.skip("needs ../shared/data, which is not part of the repository")
        return found

    return path
