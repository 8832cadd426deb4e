"""Dask tables: which objects of a user's are tables of Dask, without importing it."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from .._optional import import_optional


def is_dask(X: Any) -> bool:
    """Whether an object is a collection of Dask: an array, a data frame or series, or a delayed value."""
    return type(X).__module__.partition(".")[0] == "dask" and hasattr(X, "__dask_graph__")


def require_dask(module: str = "dask") -> ModuleType:
    """Import a module of Dask, or say which extra installs it."""
    return import_optional(module, extra="dask", purpose="Tables of Dask are read with dask")
