"""Settings of the process that no result depends on: every public method runs under settings of its own.

A program may compute in double precision by default, in half precision where torch thinks fit, without gradients, on
another device, with numpy errors that raise. All of that is for the program's own tensors. It is put aside while a
method runs, and is as it was when the method returns.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FunctionType
from typing import Any

import numpy as np
import sklearn
import torch

from .._sklearn import inside_available_if
from ..training.threads import threads_after_a_fork

#: kinds of devices on which torch may have been told to compute in half precision
_AUTOCAST_DEVICES = ("cpu", "cuda")
#: methods without a public name that compute, too
_SPECIAL_METHODS = ("__getstate__", "__setstate__")


class _SinglePrecision:
    """torch's default dtype, as a context in which it is float32.

    It belongs to the whole process. The first thread to enter sets it, and the last one to leave sets it back.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.n_inside = 0
        self.outside = torch.float32

    def __enter__(self) -> None:
        with self.lock:
            if self.n_inside == 0:
                self.outside = torch.get_default_dtype()
                torch.set_default_dtype(torch.float32)
            self.n_inside += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.n_inside -= 1
            if self.n_inside == 0:
                torch.set_default_dtype(self.outside)


_single_precision = _SinglePrecision()


def _start_anew() -> None:
    """In a forked child, no other thread is left that could release the lock or leave."""
    _single_precision.lock, _single_precision.n_inside = threading.Lock(), 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


@contextmanager
def own_settings() -> Iterator[None]:
    """Settings under which everything is computed; those of the process are put back at the end."""
    with ExitStack() as settings:
        settings.enter_context(_single_precision)
        settings.enter_context(torch.inference_mode(False))
        settings.enter_context(torch.enable_grad())
        if torch.get_default_device().type != "cpu":  # such a context slows every call of torch, so there is a reason
            settings.enter_context(torch.device("cpu"))
        for device in _AUTOCAST_DEVICES:
            if torch.is_autocast_enabled(device):
                settings.enter_context(torch.autocast(device, enabled=False))
        settings.enter_context(np.errstate(all="warn", under="ignore"))
        settings.enter_context(sklearn.config_context(transform_output="default", array_api_dispatch=False))
        settings.enter_context(threads_after_a_fork())
        yield


def under_own_settings(function: Callable) -> Callable:
    """A function that runs under settings of its own."""

    @functools.wraps(function)
    def method(*args: Any, **kwargs: Any) -> Any:
        with own_settings():
            return function(*args, **kwargs)

    return method


class UnderOwnSettings:
    """Base of classes, mixins too, whose public methods and properties run under settings of their own."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        for name, attribute in list(vars(cls).items()):
            if not name.startswith("_") or name in _SPECIAL_METHODS:
                setattr(cls, name, _guarded(attribute))
        super().__init_subclass__(**kwargs)


def _guarded(attribute: Any) -> Any:
    if isinstance(attribute, FunctionType):
        return under_own_settings(attribute)
    if isinstance(attribute, property) and attribute.fget is not None:
        return property(under_own_settings(attribute.fget), attribute.fset, attribute.fdel, attribute.__doc__)
    return inside_available_if(attribute, under_own_settings)
