"""Ctrl-C at random times, in a process of its own: what was learned is kept, or nothing has happened."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no timer that signals")
def test_an_interrupt_at_any_time_leaves_a_model_whole():
    command = [sys.executable, "-m", "faults.trials", "--trials", "3", "DeVAE"]
    subprocess.run(command, check=True, timeout=600, cwd=Path(__file__).resolve().parents[1])
