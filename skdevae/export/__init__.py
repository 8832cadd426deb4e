"""Export: fitted models for places where torch and scikit-learn are not installed."""

from ._to_numpy import to_numpy

__all__ = ["to_numpy"]
