"""Benchmarks have from each other what they import: nobody runs them all."""

import ast
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
TREES = {path.stem: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.py"))}


def _names(tree):
    """What a module has at its top level."""
    names = set()
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names.update(part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name))
    return names


@pytest.mark.parametrize("benchmark", TREES)
def test_what_benchmarks_import_from_each_other_is_there(benchmark):
    for node in ast.walk(TREES[benchmark]):
        if isinstance(node, ast.ImportFrom) and node.module in TREES:
            assert {alias.name for alias in node.names} <= _names(TREES[node.module])
