"""Constraints on the parameters of generators, in scikit-learn's terms."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, TypeVar

from .._sklearn import Interval, validate_params

Function = TypeVar("Function", bound=Callable[..., Any])

#: a number of samples or features, of which there must be some
COUNT = Interval(Integral, 1, None, closed="left")
#: a number of samples or features, of which there may be none
COUNT_OR_NONE = Interval(Integral, 0, None, closed="left")
#: a standard deviation or a range
SPREAD = Interval(Real, 0, None, closed="left")


def checked_parameters(**constraints: list[Any]) -> Callable[[Function], Function]:
    """Decorator of a generator: it checks the parameters before anything is drawn."""
    return validate_params(constraints, prefer_skip_nested_validation=True)
