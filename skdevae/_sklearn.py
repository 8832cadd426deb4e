"""scikit-learn's private names: every one that this package uses is imported here and nowhere else.

A release of scikit-learn may move or rename them. Then this file is the only one to change. Decorators are given their
types here, which scikit-learn has none of: what they decorate keeps its signature for type checkers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Self, TypeVar

from sklearn.base import _fit_context
from sklearn.model_selection import _validation
from sklearn.utils import _param_validation, metaestimators
from sklearn.utils import _safe_indexing as take_rows_or_columns
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils._set_output import _get_container_adapter
from sklearn.utils.validation import _check_monotonic_cst as check_monotonic_cst
from sklearn.utils.validation import _check_sample_weight as check_sample_weight

try:
    from sklearn.callback import CallbackSupportMixin as CallbackSupport
except ImportError:  # scikit-learn < 1.9

    class CallbackSupport:  # type: ignore[no-redef]
        """What lets an estimator take scikit-learn's callbacks, in releases that have none: nothing."""


__all__ = [
    "CallbackSupport",
    "FitTask",
    "Interval",
    "Options",
    "StrOptions",
    "available_if",
    "begin_fit",
    "check_monotonic_cst",
    "check_parameters",
    "check_sample_weight",
    "container_adapter",
    "fit_context",
    "inside_available_if",
    "is_cross_val_predict_asking",
    "take_rows_or_columns",
    "validate_params",
    "with_arrays_out",
    "without_callbacks",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Estimator = TypeVar("_Estimator", bound=Any)


def fit_context(*, prefer_skip_nested_validation: bool) -> Callable[[_Function], _Function]:
    """Decorator of ``fit``: validates the estimator's parameters first."""
    return _fit_context(prefer_skip_nested_validation=prefer_skip_nested_validation)


def check_parameters(constraints: dict[str, list[Any]], values: dict[str, Any], owner: str) -> None:
    """Raise unless the values of all parameters that have constraints keep them; the message names their owner."""
    _param_validation.validate_parameter_constraints(constraints, values, caller_name=owner)


def validate_params(
    constraints: dict[str, list[Any]], *, prefer_skip_nested_validation: bool
) -> Callable[[_Function], _Function]:
    """Decorator of functions and methods: validates their arguments first."""
    return _param_validation.validate_params(constraints, prefer_skip_nested_validation=prefer_skip_nested_validation)


def inside_available_if(attribute: Any, decorate: Callable[[Callable], Callable]) -> Any:
    """An attribute of a class, where it is a method under :func:`available_if` with that method decorated."""
    if not isinstance(attribute, type(metaestimators.available_if(bool)(bool))):
        return attribute
    return metaestimators.available_if(attribute.check)(decorate(attribute.fn))


def available_if(check: Callable[[Any], bool]) -> Callable[[_Function], _Function]:
    """Decorator of methods that an estimator has only where a check of it is true."""
    return metaestimators.available_if(check)


def is_cross_val_predict_asking() -> bool:
    """Whether a method of an estimator is called by ``cross_val_predict``, directly or through a pipeline.

    It joins the answers of folds row by row, whatever they are about, and nothing but its frame tells that it asks.
    """
    frame: FrameType | None = sys._getframe(1)
    asking = getattr(_validation, "_fit_and_predict", None)
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in ("sklearn", "skdevae"):
        if asking is not None and frame.f_code is asking.__code__:
            return True
        frame = frame.f_back
    return False


def container_adapter(estimator: Any) -> Any:
    """What makes data frames of an estimator's results, by its ``set_output`` or the global one; None for arrays."""
    return _get_container_adapter("transform", estimator)


def with_arrays_out(estimator: _Estimator) -> _Estimator:
    """The estimator itself, whose results are arrays from now on, whatever the global configuration says."""
    estimator._sklearn_output_config = {"transform": "default"}  # set_output would change the dict that copies share
    return estimator


class FitTask:
    """A task of a fit, as scikit-learn's callbacks see it: they are told when it begins and when it ends."""

    def __init__(self, context: Any, estimator: Any):
        self._context = context
        self._estimator = estimator

    def part(self, name: str, n_parts: int = 0) -> FitTask:
        """A task that belongs to this one, with as many parts of its own at the most."""
        return FitTask(self._context.subcontext(task_name=name, max_subtasks=n_parts), self._estimator)

    def begin(self, **table: Any) -> Self:
        """Tell the callbacks that it begins."""
        self._context.call_on_fit_task_begin(estimator=self._estimator, **table)
        return self

    def end(self) -> bool:
        """Tell the callbacks that it ends; whether one of them asks for no more tasks of this kind."""
        return bool(self._context.call_on_fit_task_end(estimator=self._estimator))


def begin_fit(estimator: Any, X: Any) -> FitTask | None:
    """The task of fitting an estimator to a table, begun; None where no callback of scikit-learn's listens.

    To be called within a method under :func:`fit_context`, which gives the callbacks back what they hold.
    """
    if not hasattr(estimator, "_init_callback_context"):
        return None
    # A search links its fits by the context, even of those that nobody listens to.
    context = estimator._init_callback_context(max_subtasks=None)
    return FitTask(context, estimator).begin(X=X) if getattr(estimator, "_skl_callbacks", None) else None


def without_callbacks(estimator: _Estimator) -> _Estimator:
    """The estimator itself, without callbacks of scikit-learn's: a clone has those of what it is a clone of."""
    return estimator.set_callbacks() if hasattr(estimator, "set_callbacks") else estimator
