"""Without an optional library, errors name the extra that installs it."""

import sys

import pytest

from skdevae._optional import import_optional

ADVICE = 'Maps draw with ink: pip install "skdevae[ink]".'


def imported(module: str):
    return import_optional(module, extra="ink", purpose="Maps draw with ink")


def test_a_module_that_is_there_is_imported():
    assert imported("json.decoder") is sys.modules["json.decoder"]


@pytest.mark.parametrize("module", ["no_such_library", "no_such_library.part", "json.no_such_part"])
def test_a_missing_module_is_blamed_on_the_extra(module):
    with pytest.raises(ImportError) as raised:
        imported(module)
    assert str(raised.value) == ADVICE
    assert isinstance(raised.value.__cause__, ModuleNotFoundError)


@pytest.mark.parametrize("fault, reason", [("import no_such_part", "No module named 'no_such_part'"),
                                           ("raise ImportError('too old')", "too old")])  # fmt: skip
def test_a_module_that_fails_to_load_says_why(fault, reason, tmp_path, monkeypatch):
    (tmp_path / "ink_that_is_broken.py").write_text(fault)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError) as raised:
        imported("ink_that_is_broken")
    assert str(raised.value) == f"{ADVICE} (Importing ink_that_is_broken failed: {reason})"


def test_other_errors_are_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "ink_with_a_bug.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ZeroDivisionError):
        imported("ink_with_a_bug")
