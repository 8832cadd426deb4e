"""Which cases of a slow test every commit runs; ``make test-all`` runs all of them.

A law that costs seconds for each of many likelihoods, shapes and sizes is checked by every commit for a few of them.
Which ones is drawn by their names: a test that gets a new case keeps nearly the same ones, and no parameter is favoured
because it stands first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def kept_cases(names: Iterable[str], keep: int) -> set[str]:
    """As many of the names of cases as are to be kept."""
    return set(sorted(names, key=_lot)[:keep])


def _lot(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
