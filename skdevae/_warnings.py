"""Warnings that point at the user's own line."""

from __future__ import annotations

import sys
import warnings
from functools import cache
from importlib.util import find_spec
from pathlib import Path

#: libraries that stand between a user's call and our code: wrappers of scikit-learn, training loops of skorch
_LIBRARIES_BETWEEN = ("sklearn", "skorch", "torch", "joblib", "contextlib", "functools")


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line of the first caller that is neither this package nor a library that it works with."""
    warnings.warn(message, category, stacklevel=1 + _frames_up_to_the_user())


def _frames_up_to_the_user() -> int:
    """How many frames lie between :func:`warn_user` and the user's code, the user's own included."""
    n_frames, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_inner_paths()):
        n_frames, frame = n_frames + 1, frame.f_back
    return n_frames - 1


@cache
def _inner_paths() -> tuple[str, ...]:
    """Where the files of this package and of the libraries between lie: beginnings of file names."""
    found = [find_spec(name) for name in _LIBRARIES_BETWEEN]
    origins = [Path(spec.origin) for spec in found if spec is not None and spec.origin is not None]
    folders = [f"{path.parent}/" if path.name == "__init__.py" else str(path) for path in origins]
    return (f"{Path(__file__).parent}/", *folders)
