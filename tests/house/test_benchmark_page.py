"""The page of benchmarks is what the recorded results say: no figure is typed there."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tools" / "benchmark_page.py"
if not SCRIPT.exists():
    pytest.skip("only a checkout has the tools", allow_module_level=True)
spec = importlib.util.spec_from_file_location("benchmark_page", SCRIPT)
benchmark_page = importlib.util.module_from_spec(spec)
spec.loader.exec_module(benchmark_page)


def test_page_is_up_to_date():
    assert benchmark_page.page() == benchmark_page.PAGE.read_text(encoding="utf-8")


def test_records_name_benchmarks_that_exist():
    records = [
        json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "benchmarks" / "results").glob("*.json")
    ]
    assert records
    for record in records:
        assert (ROOT / record["command"].split()[1]).exists()
        assert record["printed"], f"{record['command']} printed nothing"


def test_tables_become_markdown():
    table = {
        "columns": ["case", "error"],
        "rows": [["a | b", 0.000123456], ["none", None], ["nan", float("nan")]],
    }
    assert benchmark_page.as_table(table).splitlines() == [
        "| case | error |",
        "| --- | --- |",
        "| a \\| b | 0.0001235 |",
        "| none |  |",
        "| nan |  |",
    ]


def test_commands_and_aligned_lists_stay_as_they_are_written():
    text = "First words.\n\n    python benchmarks/a.py\n\none    first\nseveral  others\n\nLast ``words``."
    assert benchmark_page.as_markdown(text).split("\n\n") == [
        "First words.",
        "```sh\npython benchmarks/a.py\n```",
        "```text\none    first\nseveral  others\n```",
        "Last `words`.",
    ]
