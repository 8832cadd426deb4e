"""Write docs/benchmarks.md from benchmarks/results/*.json and from the docstrings of the benchmarks.

No figure of that page is typed by hand. ``--check`` writes nothing and fails where the page is not what it would write.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"

HELPERS = ("common.py", "dask_cluster.py", "record.py")

HEAD = """\
<!-- Written by tools/benchmark_page.py (make benchmark-page) from benchmarks/results. Do not edit. -->

# Benchmarks

Every figure here was printed by the command above it. `python benchmarks/record.py labels.py` runs a benchmark and
keeps what it printed, and `make benchmark-page` writes this page. The words are those of the benchmarks' own
docstrings. Seconds vary from run to run by a third and more; ratios less. Benchmarks that read `../shared/data` say so
and stop where it is missing.
"""


def docstring(script: Path) -> str:
    """What a benchmark says of itself."""
    return ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""


def as_markdown(text: str) -> str:
    """A docstring's paragraphs. Indented ones are commands, and what is aligned by spaces stays aligned."""
    paragraphs = []
    for paragraph in re.split(r"\n\s*\n", text.strip("\n")):
        if all(line.startswith("    ") for line in paragraph.splitlines()):
            commands = "\n".join(line.removeprefix("    ") for line in paragraph.splitlines())
            paragraphs.append(f"```sh\n{commands}\n```")
        elif re.search(r"\S {2,}\S", paragraph):
            paragraphs.append(f"```text\n{paragraph}\n```")
        else:
            paragraphs.append(paragraph.replace("``", "`"))
    return "\n\n".join(paragraphs)


def cell(value: object) -> str:
    """A value in a table: four digits."""
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("|", "\\|").replace("\n", " ")


def as_table(table: dict) -> str:
    """A recorded table in Markdown."""
    rows = [table["columns"], ["---"] * len(table["columns"]), *table["rows"]]
    return "\n".join("| " + " | ".join(map(cell, row)) + " |" for row in rows)


def as_section(record: dict) -> str:
    """One run: the command, when and where it ran, and what it printed."""
    changes = " with changes that were not committed" if record["uncommitted changes"] else ""
    machine = f"{record['processor']}, {record['cores']} cores, load before {record['load before']}"
    versions = f"Python {record['python']}, torch {record['torch']}, scikit-learn {record['scikit-learn']}"
    spent = f"{record['wall-s']} s" + (f", {record['CPU-s']} CPU-s" if "CPU-s" in record else "")
    note = f" {record['note']}" if "note" in record else ""
    where = f"{record['date']}, revision {record['revision']}{changes}; {machine}; {versions}; {spent}.{note}"
    printed = [
        as_table(item["table"]) if "table" in item else f"```text\n{item['text']}\n```" for item in record["printed"]
    ]
    return "\n\n".join([f"```sh\n{record['command']}\n```", where, *printed])


def page(root: Path = ROOT) -> str:
    """The page's text."""
    records: dict[str, list[dict]] = {}
    for path in sorted((root / "benchmarks" / "results").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        records.setdefault(record["command"].split()[1], []).append(record)
    sections = []
    for script, runs in records.items():
        title, _, rest = docstring(root / script).partition("\n")
        commands = {f"    {run['command']}" for run in runs}
        words = "\n".join(line for line in rest.splitlines() if line not in commands)  # each run has its command
        target = f"(benchmark-{Path(script).stem.replace('_', '-')})="  # by which other pages link here
        heading = f"{target}\n## {title.rstrip('.')}"
        sections.append("\n\n".join([heading, as_markdown(words), *map(as_section, runs)]))
    waiting = [
        f"- `{script.name}`: {docstring(script).splitlines()[0]}"
        for script in sorted((root / "benchmarks").glob("*.py"))
        if f"benchmarks/{script.name}" not in records and script.name not in HELPERS
    ]
    if waiting:
        sections.append("## Not recorded yet\n\n" + "\n".join(waiting))
    return "\n\n".join([HEAD.rstrip("\n"), *sections]) + "\n"


def main() -> None:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    if not parser.parse_args().check:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page():
        sys.exit("docs/benchmarks.md is not what benchmarks/results say: run `make benchmark-page`")


if __name__ == "__main__":
    main()
