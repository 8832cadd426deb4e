"""Every commit runs some cases of slow tests, and the same ones on every machine."""

import random
import subprocess
import sys

import pytest
from slow_cases import kept_cases

CASES = [f"test_a_law[{likelihood}-{size}]" for likelihood in ("gaussian", "poisson", "nb") for size in range(5)]
TABLE = """
import pytest

@pytest.mark.slow(keep=2)
@pytest.mark.parametrize("case", range(5))
def test_some_cases_are_kept(case): pass

@pytest.mark.slow
def test_none_is_kept(): pass

def test_not_slow(): pass
"""


@pytest.mark.parametrize("keep", [0, 1, 4, len(CASES), len(CASES) + 1])
def test_as_many_are_kept_as_are_asked_for_whatever_their_order(keep):
    kept = kept_cases(CASES, keep)
    assert len(kept) == min(keep, len(CASES))
    assert kept <= set(CASES)
    assert kept == kept_cases(random.Random(0).sample(CASES, len(CASES)), keep)


def test_a_new_case_takes_the_place_of_one_other_at_most():
    before, after = kept_cases(CASES, 4), kept_cases([*CASES, "test_a_law[bernoulli-0]"], 4)
    assert len(before & after) >= 3


@pytest.mark.slow(keep=1)  # each starts a process
@pytest.mark.parametrize(
    ("arguments", "setting", "expected"),
    [
        ([""], "0", "3 passed, 4 deselected"),
        ([""], "1", "7 passed"),
        (["::test_some_cases_are_kept"], "0", "5 passed"),
        (["::test_none_is_kept"], "0", "1 passed"),
    ],
    ids=["some", "all", "a test that is named", "one of which no case is kept"],
)
def test_pytest_runs_them(tmp_path, pytestconfig, monkeypatch, arguments, setting, expected):
    monkeypatch.setenv("SKDEVAE_TEST_SLOW", setting)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    tests = pytestconfig.rootpath / "tests"
    (tmp_path / "conftest.py").write_text((tests / "conftest.py").read_text(), encoding="utf-8")
    (tmp_path / "test_table.py").write_text(TABLE, encoding="utf-8")
    settings = ["-q", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", f"--override-ini=pythonpath={tests}"]
    settings += ["-c", str(pytestconfig.rootpath / "pyproject.toml")]
    paths = [f"{tmp_path / 'test_table.py'}{argument}" for argument in arguments]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *settings, *paths], capture_output=True, text=True, check=False
    )
    assert expected in done.stdout, done.stdout + done.stderr
