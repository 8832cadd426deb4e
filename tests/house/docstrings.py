"""Sections of numpydoc docstrings: which names they document, as what, and how."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import dataclass
from typing import Any

_HEADING = re.compile(r"^(?P<title>[A-Z][A-Za-z ]+)\n-+\n", flags=re.MULTILINE)
_ENTRY = re.compile(r"^(?P<names>\*{0,2}\w[\w, *]*?)(?: : (?P<kind>.*))?\n(?P<text>(?:(?:[ ]+.*)?\n)*)", re.MULTILINE)
_DEFAULT = re.compile(r"^(?P<kind>.*?), default=(?P<default>.+)$")

#: stands for "the docstring names no default"
NOTHING = object()


@dataclass(frozen=True)
class Entry:
    """What a docstring says of one name."""

    kind: str  # what stands behind the colon, without the default
    default: Any  # its value; NOTHING where none is named
    text: str  # the description, on one line

    @property
    def sentences(self) -> list[str]:
        return re.split(r"(?<=[.?])\s+(?=[^a-z])", self.text)


def sections(documented: Any) -> dict[str, str]:
    """Text of every section by its title; the summary has none."""
    parts = _HEADING.split(f"{inspect.getdoc(documented) or ''}\n")
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def entries(documented: Any, title: str) -> dict[str, Entry]:
    """Names that a section documents. Those that share a description ("means_, sds_ : ndarray") have an entry each."""
    found = {}
    for match in _ENTRY.finditer(sections(documented).get(title, "")):
        with_default = _DEFAULT.match(match["kind"] or "")
        kind, default = match["kind"] or "", NOTHING
        if with_default:
            kind, default = with_default["kind"], ast.literal_eval(with_default["default"])
        for name in match["names"].split(","):
            found[name.strip(" *")] = Entry(kind, default, " ".join(match["text"].split()))
    return found
