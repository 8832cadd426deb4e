"""Run a benchmark and keep what it printed, with the circumstances, in benchmarks/results.

    python benchmarks/record.py labels.py --parts sigmoids
    python benchmarks/record.py --name labels_counts labels.py --parts counts

``make benchmark-page`` writes docs/benchmarks.md from these files and from the docstrings of the benchmarks.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import resource
import runpy
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path

import common
import numpy as np

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PACKAGES = ("skdevae", "torch", "scikit-learn", "numpy")


class Transcript(io.TextIOBase):
    """Standard output, and a list of what was printed there: texts and tables in their order."""

    def __init__(self, screen) -> None:
        self.screen = screen
        self.printed: list[dict] = []
        self._text: list[str] = []

    def write(self, text: str) -> int:
        self._text.append(text)
        return self.screen.write(text)

    def flush(self) -> None:
        self.screen.flush()

    def end_text(self) -> None:
        text = "".join(self._text).strip("\n")
        self._text.clear()
        if text:
            self.printed.append({"text": text})

    def add_table(self, rows: Sequence[dict]) -> None:
        self.end_text()
        columns = list(dict.fromkeys(name for row in rows for name in row))
        cells = [[plain(row.get(name)) for name in columns] for row in rows]
        self.printed.append({"table": {"columns": columns, "rows": cells}})
        print_table(rows)
        self._text.clear()  # the table as text


print_table = common.print_table


def plain(value: object) -> object:
    """A value as JSON has it."""
    if isinstance(value, np.generic):
        value = value.item()
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=HERE, capture_output=True, text=True, check=True).stdout.strip()


def cpu_seconds() -> float:
    """CPU-seconds of this process and of the processes that it waited for."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def circumstances() -> dict:
    return {
        "date": date.today().isoformat(),
        "revision": git("rev-parse", "--short", "HEAD"),
        "uncommitted changes": bool(
            git("status", "--porcelain", "--untracked-files=no", "--", "../skdevae", ".", ":(exclude)results")
        ),
        "processor": processor(),
        "cores": os.cpu_count(),
        "load before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def recorded(script: Path, arguments: Sequence[str]) -> dict:
    """One run of a benchmark."""
    record = {"command": shlex.join(["python", f"benchmarks/{script.name}", *arguments])} | circumstances()
    transcript = Transcript(sys.stdout)
    common.print_table = transcript.add_table  # benchmarks import it from there
    before, cpu_before = time.perf_counter(), cpu_seconds()
    sys.stdout, sys.argv = transcript, [str(script), *arguments]
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
    finally:
        sys.stdout, common.print_table = transcript.screen, print_table
    transcript.end_text()
    spent = {"wall-s": round(time.perf_counter() - before, 1), "CPU-s": round(cpu_seconds() - cpu_before, 1)}
    return record | spent | {"printed": transcript.printed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", help="name of the file of results (default: the benchmark's)")
    parser.add_argument("script", help="a file of this folder")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="what the benchmark gets")
    options = parser.parse_args()
    script = HERE / Path(options.script).name
    record = recorded(script, options.arguments)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{options.name or script.stem}.json"
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"\nkept in benchmarks/results/{path.name}")


if __name__ == "__main__":
    main()
