"""What is inside of pipelines and searches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline


def unwrap(estimator: Any) -> Any:
    """Look inside searches and frozen estimators, which hand on the data unchanged."""
    if isinstance(estimator, FrozenEstimator):
        return unwrap(estimator.estimator)
    if hasattr(estimator, "best_estimator_"):
        return unwrap(estimator.best_estimator_)
    return estimator


def flat_steps(name: str, estimator: Any) -> Iterator[tuple[str, Any]]:
    """List the steps that the data go through, those of nested pipelines included."""
    estimator = unwrap(estimator)
    if isinstance(estimator, Pipeline):
        for step_name, step in estimator.steps:
            yield from flat_steps(step_name, step)
    elif estimator is not None and not isinstance(estimator, str):
        yield name, estimator
