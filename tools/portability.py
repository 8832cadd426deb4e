"""Portability: the numerical part of the tests again, under other processors' kernels and other numbers of threads.

Which instructions a matrix product uses decides how it rounds, so a test can pass on one processor and fail on another.
The libraries that compute choose their kernels when they are loaded, and environment variables choose for them:

=======================  ===================================================================================
OPENBLAS_CORETYPE        NumPy's and SciPy's matrix products and decompositions
MKL_ENABLE_INSTRUCTIONS  torch's matrix products, exp and log (Intel's processors; others ignore it)
ATEN_CPU_CAPABILITY      torch's other functions
OMP_NUM_THREADS          threads of NumPy's products; SKDEVAE_TEST_THREADS those of torch (tests/conftest.py)
=======================  ===================================================================================

``python tools/portability.py`` runs every setting below, and ``--short`` one of them on fewer tests. What follows
``--`` goes to pytest in the place of the usual tests: ``python tools/portability.py -- tests/nn -x``. A setting that
this processor cannot run is left out, and the reason printed. An OPENBLAS_CORETYPE that is set in the environment
already stays: on some processors an OpenBLAS that chooses for itself computes wrong results.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Setting:
    """Kernels and threads to run the tests under."""

    name: str
    openblas: str
    mkl: str
    aten: str
    threads: int
    needs: str  # what torch calls the instructions that the kernels need


SETTINGS = [
    Setting("haswell, two threads", openblas="Haswell", mkl="AVX2", aten="avx2", threads=2, needs="AVX2"),
    Setting("zen", openblas="Zen", mkl="SSE4_2", aten="default", threads=1, needs="AVX2"),
    Setting("skylakex", openblas="SkylakeX", mkl="AVX512", aten="avx2", threads=1, needs="AVX512"),
]

#: the setting of ``--short``: no machine of today chooses these kernels for itself
SHORT = "zen"

#: estimators and laws; what only draws, reads files or runs the examples has no kernel to depend on
NUMERICAL = [
    *(f"tests/{folder}" for folder in ("nn", "table", "inference", "training", "_base", "trajectory", "embedding")),
    "tests/test_custom_likelihood.py",
    "tests/test_estimator_checks.py",
    "tests/test_persistence.py",
]

#: what a commit has to pass: laws, and scikit-learn's checks of every estimator
NUMERICAL_SHORT = [
    *(f"tests/{folder}" for folder in ("nn", "table", "inference")),
    "tests/test_estimator_checks.py",
]

#: instruction sets in the order in which they include each other
CAPABILITIES = ["DEFAULT", "AVX2", "AVX512"]

VARIABLES = ("OPENBLAS_CORETYPE", "MKL_ENABLE_INSTRUCTIONS", "ATEN_CPU_CAPABILITY")


def capability() -> str:
    """The best instruction set of this processor that torch knows, whatever the environment asks for."""
    plain = {name: value for name, value in os.environ.items() if name != "ATEN_CPU_CAPABILITY"}
    program = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    found = subprocess.run([sys.executable, "-c", program], env=plain, capture_output=True, text=True, check=True)
    return found.stdout.split()[-1]


def why_not(setting: Setting, best: str) -> str:
    """Why a processor with the instructions ``best`` cannot run a setting; "" where it can."""
    if best not in CAPABILITIES:
        return f"these are kernels of x86 processors, and torch calls this one {best}"
    if CAPABILITIES.index(best) < CAPABILITIES.index(setting.needs):
        return f"it needs {setting.needs}, and this processor has {best}"
    return ""


def environment(setting: Setting) -> dict[str, str]:
    """The variables that a setting changes."""
    return {
        "OPENBLAS_CORETYPE": os.environ.get("OPENBLAS_CORETYPE") or setting.openblas,
        "MKL_ENABLE_INSTRUCTIONS": setting.mkl,
        "ATEN_CPU_CAPABILITY": setting.aten,
        "OMP_NUM_THREADS": str(setting.threads),
        "SKDEVAE_TEST_THREADS": str(setting.threads),
    }


def run(setting: Setting, tests: list[str], workers: int) -> int:
    """Run the tests under one setting, and give pytest's exit status."""
    changes = environment(setting)
    print(f"\n== {setting.name}:", *(f"{name}={value}" for name, value in changes.items()), flush=True)
    plain = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    # As many processes times threads as without: processes whose threads wait for each other take ten times as long.
    processes = max(1, workers // setting.threads)
    command = [sys.executable, "-m", "pytest", "-n", str(processes), *tests]
    return subprocess.run(command, cwd=ROOT, env={**plain, **changes}, check=False).returncode


def main() -> int:
    """Run the settings, and say in the end which passed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--short", action="store_true", help=f"the setting '{SHORT}' alone, on fewer tests")
    parser.add_argument("--workers", type=int, default=2, help="processes among which the tests are shared out")
    parser.add_argument("tests", nargs="*", help="other tests, and options of pytest, after --")
    arguments = parser.parse_args()

    paths = NUMERICAL_SHORT if arguments.short else NUMERICAL
    tests = arguments.tests or [path for path in paths if (ROOT / path).exists()]
    best = capability()
    if "OPENBLAS_CORETYPE" in os.environ:
        print(f"OPENBLAS_CORETYPE={os.environ['OPENBLAS_CORETYPE']} is set in the environment, and kept")

    outcomes = {}
    for setting in [setting for setting in SETTINGS if setting.name == SHORT or not arguments.short]:
        obstacle = why_not(setting, best)
        if obstacle:
            print(f"\n== {setting.name}: left out, {obstacle}", flush=True)
            outcomes[setting.name] = f"left out, {obstacle}"
            continue
        start = time.monotonic()
        status = run(setting, tests, arguments.workers)
        outcome = "passed" if status == 0 else f"FAILED (pytest's status {status})"
        outcomes[setting.name] = f"{outcome} in {time.monotonic() - start:.0f} s"
    print("\n== portability", *(f"{name}: {outcome}" for name, outcome in outcomes.items()), sep="\n")
    return int(any("FAILED" in outcome for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
