"""The rule that every call is held to: a right answer, or a refusal in the user's words.

A refusal is a ValueError, a TypeError or a NotFittedError that this package or scikit-learn has raised on purpose. What
comes out of a library by accident is not, whatever its type. And no call may change the caller's data, or the settings
and random states of the process.
"""

from __future__ import annotations

import dis
import os
import random
import re
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import scipy.sparse as sp
import sklearn
import torch
from sklearn.base import BaseEstimator

import skdevae

_PACKAGE = Path(skdevae.__file__).parent
_TESTS = Path(__file__).parents[1]
#: seconds after which a call counts as one that never ends; a fit of the fuzzer takes a tenth of one
_MOST_SECONDS = 60
#: attributes about columns that have NaN for a curve without a peak, and for a column that training leaves out
_MAY_BE_NAN = ("peaks_", "noise_scale_", "dispersion_")
#: words of libraries that a user need not know
_FOREIGN_WORDS = re.compile(r"\b([Tt]ensors?|broadcast\w*|aten|mat1|ufunc|casting)\b")


@dataclass(frozen=True)
class Finding:
    """A way to break the rule, and where: findings that are equal are counted as one."""

    kind: str
    where: str
    message: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What makes it distinct."""
        return self.kind, self.where


class TakesTooLong(BaseException):
    """A call does not end. It is no Exception, so that nothing handles it on the way."""


@contextmanager
def limited_time() -> Iterator[None]:
    """Raise in a call that does not end, where the system has alarms."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_: Any) -> None:
        raise TakesTooLong(f"not done after {_MOST_SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, _MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# ---- what must stay as it was ----------------------------------------------------------------------------------------


def contents(value: Any) -> Any:
    """What a user's object holds, as plain values that can be compared."""
    if isinstance(value, np.ndarray):
        raw = repr(value.tolist()) if value.dtype.hasobject else value.tobytes()
        return str(value.dtype), value.shape, value.strides, value.flags.writeable, raw
    if sp.issparse(value):
        coo = value.tocoo()  # for some formats a view, for others a copy; either way what the table holds
        stored = [contents(getattr(value, name)) for name in ("data", "indices", "indptr") if hasattr(value, name)]
        return value.format, value.shape, contents(coo.data), contents(coo.row), contents(coo.col), stored
    if isinstance(value, torch.Tensor):
        values = value.detach().to_dense() if value.is_sparse else value.detach()
        return value.requires_grad, value.grad is None, repr(values.tolist()) if values.device.type == "cpu" else None
    if isinstance(value, pd.DataFrame):
        return (
            repr(value.columns.tolist()),
            repr(value.index.tolist()),
            value.dtypes.tolist(),
            repr(value.values.tolist()),
        )
    if isinstance(value, pl.DataFrame):
        return repr(value.schema), repr(value.rows())
    if isinstance(value, np.random.RandomState):
        return None  # whose purpose is to be advanced
    return repr(value) if isinstance(value, (list, tuple, dict, pd.Series)) else None


def process_state(with_numpy_seed: bool) -> dict[str, Any]:
    """Settings and random states of the process. NumPy's global one may be used where ``random_state`` is None."""
    numpy_seed = np.random.get_state()  # noqa: NPY002
    return {
        "NumPy's random state": repr(numpy_seed) if with_numpy_seed else None,
        "torch's random state": torch.get_rng_state().numpy().tobytes(),
        "Python's random state": hash(random.getstate()),
        "torch's dtype": torch.get_default_dtype(),
        "torch's gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "torch's threads": torch.get_num_threads(),
        "torch's determinism": torch.are_deterministic_algorithms_enabled(),
        "NumPy's errors": np.geterr(),
        "NumPy's printing": repr(np.get_printoptions()),
        "scikit-learn's configuration": sklearn.get_config(),
        # torch names its cache when a part of it is first imported
        "environment": {name: value for name, value in os.environ.items() if not name.startswith("TORCH")},
        "Ctrl-C": signal.getsignal(signal.SIGINT),
        "working directory": Path.cwd(),
    }


# ---- refusals --------------------------------------------------------------------------------------------------------


def place_of(error: BaseException) -> str:
    """The innermost line of this package that an error passed."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(_PACKAGE)
    ]
    if not frames:
        return "outside of the package"
    path = Path(frames[-1].filename).relative_to(_PACKAGE).as_posix()
    return f"{path} ({frames[-1].name}, line {frames[-1].lineno})"


def is_refusal(error: BaseException) -> bool:
    """Whether an error was raised on purpose, by a ``raise`` of this package or of scikit-learn, in plain words."""
    if not isinstance(error, (ValueError, TypeError, ImportError)) or not str(error).strip():
        return False
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    if step is None:
        return False
    owner = str(step.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
    raised = dis.opname[step.tb_frame.f_code.co_code[step.tb_lasti]] in ("RAISE_VARARGS", "RERAISE")
    plain = owner == "skdevae" or (owner == "sklearn" and not _FOREIGN_WORDS.search(str(error)))
    return raised and plain


# ---- answers ---------------------------------------------------------------------------------------------------------


def numbers_of(answer: Any) -> list[np.ndarray]:
    """All arrays of numbers in an answer."""
    if isinstance(answer, (np.ndarray, np.generic, float, int)):
        values = np.asarray(answer)
        return [values] if values.dtype.kind in "fciub" else []
    if isinstance(answer, tuple):
        return [values for part in answer for values in numbers_of(part)]
    if isinstance(answer, BaseEstimator):
        found = {name: part for name, part in vars(answer).items() if name.endswith("_") and name not in _MAY_BE_NAN}
        return [values for part in found.values() for values in numbers_of(part)]
    return []


def complaints_about(
    method: str, answer: Any, shape: tuple[int | None, ...] | None, may_be_unknown: bool
) -> Iterator[str]:
    """What is wrong with an answer that should have a shape (None where any length will do), and may have NaN."""
    arrays = numbers_of(answer)
    if any(not (np.isfinite(values) | (may_be_unknown & np.isnan(values))).all() for values in arrays):
        yield "not finite"
    if shape is not None and any(
        len(values.shape) != len(shape)
        or any(wanted not in (None, n) for n, wanted in zip(values.shape, shape, strict=True))
        for values in arrays
    ):
        yield "wrong shape"
    of_clusters = method in ("predict_proba", "predict_features_proba")
    if of_clusters and not all(np.allclose(values.sum(1), 1) for values in arrays):
        yield "probabilities do not add up to one"
    if method == "posterior" and not ((answer.sd >= 0).all() and (answer.lower <= answer.upper).all()):
        yield "an interval without width"


def complaints_about_warnings(caught: list[warnings.WarningMessage]) -> Iterator[Finding]:
    """Warnings that were not meant for the user, or that point at a line that is not the user's."""
    for warning in caught:
        file = Path(warning.filename)
        where = f"{'/'.join(file.parts[-3:])}:{warning.lineno}"
        name = warning.category.__name__
        if not issubclass(warning.category, UserWarning | FutureWarning):
            yield Finding(f"a raw {name}", where, str(warning.message))
        elif (
            not file.is_relative_to(_TESTS)
            and warning.filename != "<string>"
            and "feature names" not in str(warning.message)
        ):
            yield Finding(f"a {name} that points at a library", where, str(warning.message))


def watched(call: Callable[[], Any], belongings: list[Any], with_numpy_seed: bool) -> tuple[Any, list[Finding], bool]:
    """The answer of a call, what it did against the rule, and whether it refused."""
    before, state = [contents(value) for value in belongings], process_state(with_numpy_seed)
    findings, answer, refused = [], None, False
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with limited_time():
                answer = call()
        except (Exception, TakesTooLong) as error:
            refused = True
            if not is_refusal(error):
                findings.append(Finding(type(error).__name__, place_of(error), str(error)))
    findings += complaints_about_warnings(caught)
    after = process_state(with_numpy_seed)
    findings += [Finding("the process has changed", name) for name in state if state[name] != after[name]]
    if [contents(value) for value in belongings] != before:
        findings.append(Finding("the caller's data have changed", type(belongings[0]).__name__))
    return answer, findings, refused
