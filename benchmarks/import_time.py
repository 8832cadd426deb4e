"""What importing this package costs beside the libraries that it stands on: CPU-seconds and wall, in new processes.

    python benchmarks/import_time.py [--repeats 5]

Each line is a process of its own, which imports what stands left of it in turn. ``import skdevae`` alone imports next
to nothing: names are imported when they are first asked for.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

from common import print_table

#: what is imported, in turn; the last is what a line is about
LINES = (
    ("skdevae",),
    ("torch",),
    ("torch", "sklearn.base"),
    ("torch", "sklearn.base", "skorch", "sklearn.cluster", "skdevae.trajectory._basisdevae"),
    ("torch", "sklearn.base", "skdevae.trajectory._basisdevae"),
    ("torch", "skdevae.trajectory._basisdevae"),
    ("torch", "sklearn.base", "skdevae.trajectory._basisdevae", "skdevae.embedding._vamp"),
    ("torch", "sklearn.base", "skdevae.trajectory._basisdevae", "skdevae.inspection"),
    ("torch", "sklearn.base", "skdevae.trajectory._basisdevae", "skdevae.metrics"),
)

SCRIPT = """
import json, sys, time
from importlib import import_module
for name in sys.argv[1:]:
    cpu, wall = time.process_time(), time.perf_counter()
    import_module(name)
    last = time.process_time() - cpu, time.perf_counter() - wall
print(json.dumps(last))
"""


def measured(names: tuple[str, ...]) -> list[float]:
    """CPU-seconds and seconds that the last of some imports takes."""
    run = subprocess.run([sys.executable, "-c", SCRIPT, *names], check=True, capture_output=True, text=True)
    return json.loads(run.stdout)


def main() -> None:
    """Print the median of each line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    rounds = [[measured(names) for names in LINES] for _ in range(repeats + 1)][1:]  # the first one writes bytecode
    rows = []
    for number, names in enumerate(LINES):
        cpu, wall = (statistics.median(line[number][i] for line in rounds) for i in (0, 1))
        rows.append(
            {"import": names[-1], "after": ", ".join(names[:-1]), "CPU-s": f"{cpu:.2f}", "wall s": f"{wall:.2f}"}
        )
    print_table(rows)


if __name__ == "__main__":
    main()
