"""scikit-learn's private names: every one that this package uses is imported here and nowhere else.

A release of scikit-learn may move or rename them. Then this file is the only one to change.
"""

from sklearn.base import _fit_context as fit_context
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from sklearn.utils.validation import _check_monotonic_cst as check_monotonic_cst
from sklearn.utils.validation import _check_sample_weight as check_sample_weight

__all__ = [
    "Interval",
    "StrOptions",
    "check_monotonic_cst",
    "check_sample_weight",
    "fit_context",
    "validate_params",
]
