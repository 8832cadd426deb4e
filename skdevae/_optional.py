"""Optional extras: libraries that are imported only when they are needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def import_optional(module: str, *, extra: str, purpose: str) -> Any:
    """A module of an optional extra, or an ImportError that says what needs it and how to install it.

    ``purpose`` begins the message: "Inverse autoregressive flows need zuko".
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f'{purpose}: pip install "skdevae[{extra}]".') from error
