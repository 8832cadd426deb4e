"""Warnings: every warning of this package points at the line of the user's own code that led to it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType

#: this package, and what may call it on the user's behalf: wrappers, training loops and the standard library
_IN_BETWEEN = sys.stdlib_module_names | {
    "dask",
    "distributed",
    "joblib",
    "numpy",
    "pandas",
    "scipy",
    "skdevae",
    "sklearn",
    "skorch",
    "threadpoolctl",
    "torch",
    "tornado",
}
#: what warnings are about, where that is a part of what the user has passed
_subject: ContextVar[str] = ContextVar("_subject", default="")
#: where messages are kept beside, by :func:`recorded_warnings`
_record: ContextVar[list[str] | None] = ContextVar("_record", default=None)


@contextmanager
def about(subject: str) -> Iterator[None]:
    """A context in which warnings begin with what they are about."""
    token = _subject.set(f"{subject}: ")
    try:
        yield
    finally:
        _subject.reset(token)


@contextmanager
def recorded_warnings() -> Iterator[list[str]]:
    """A context that keeps the messages of the warnings that are given in it, in their order and each once."""
    messages: list[str] = []
    token = _record.set(messages)
    try:
        yield messages
    finally:
        _record.reset(token)


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the innermost line that is neither in this package nor in a library between it and the user.

    A fit that a ``Pipeline`` or a ``GridSearchCV`` starts is thus reported where the user calls the outer estimator.
    In a thread or process that runs no line of the user's, the warning points at the first line of this package.
    """
    frame, record = _frame_to_name(), _record.get()
    message = f"{_subject.get()}{message}"
    if record is not None and message not in record:
        record.append(message)
    warnings.warn_explicit(
        message,
        category,
        filename=frame.f_code.co_filename,
        lineno=frame.f_lineno,
        module=frame.f_globals.get("__name__") or "<string>",
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


def _frame_to_name() -> FrameType:
    """The frame that the warning names; to be called by :func:`warn_user` alone."""
    entry = sys._getframe(2)
    frame: FrameType | None = entry
    while frame is not None:
        library = _library_of(frame)
        if library not in _IN_BETWEEN:
            return frame
        if library == "skdevae":
            entry = frame
        frame = frame.f_back
    return entry


def _library_of(frame: FrameType) -> str:
    """The top-level module whose code a frame runs. Unlike file names, module names are alike on all systems."""
    # Under ``python -m package.module`` the module's own name is "__main__", and only its spec knows the package.
    spec = frame.f_globals.get("__spec__")
    name = frame.f_globals.get("__name__") if spec is None else spec.name
    return str(name).partition(".")[0]
