"""scikit-learn's private names: every one that this package uses is imported here and nowhere else.

A release of scikit-learn may move or rename them. Then this file is the only one to change. Decorators are given their
types here, which scikit-learn has none of: what they decorate keeps its signature for type checkers.
"""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

from sklearn.base import _fit_context
from sklearn.model_selection import _validation
from sklearn.utils import _param_validation, metaestimators
from sklearn.utils import _safe_indexing as take_rows_or_columns
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils._set_output import _get_container_adapter
from sklearn.utils.validation import _check_monotonic_cst as check_monotonic_cst
from sklearn.utils.validation import _check_sample_weight as check_sample_weight

__all__ = [
    "Interval",
    "Options",
    "StrOptions",
    "available_if",
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
