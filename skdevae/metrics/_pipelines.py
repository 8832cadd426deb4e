"""Pipelines: the estimators inside of pipelines and searches, and the data that reach them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline


def flat_steps(estimator: Any, name: str | None = None) -> Iterator[tuple[str, Any]]:
    """List the steps that the data go through, with their names; nested pipelines are taken apart."""
    estimator = _unwrapped(estimator)
    if isinstance(estimator, Pipeline):
        for step_name, step in estimator.steps:
            yield from flat_steps(step, step_name)
    elif estimator is not None and not isinstance(estimator, str):  # "passthrough"
        yield name or type(estimator).__name__, estimator


def given_facts(**facts: Any) -> dict[str, Any]:
    """Those facts of rows that a user gives, for estimators that may know of no others."""
    return {name: values for name, values in facts.items() if values is not None}


def _unwrapped(estimator: Any) -> Any:
    """The estimator inside of searches and frozen estimators, which pass the data on unchanged."""
    if isinstance(estimator, FrozenEstimator):
        return _unwrapped(estimator.estimator)
    if hasattr(estimator, "best_estimator_"):
        return _unwrapped(estimator.best_estimator_)
    return estimator


def last_step(estimator: Any) -> Any:
    """The last step of a pipeline or search; an estimator by itself is its own last step."""
    return [step for _, step in flat_steps(estimator)][-1]


def split_at_clusterer(estimator: Any) -> tuple[list[tuple[str, Any]], Any]:
    """The steps before the fitted feature clusterer, and the clusterer."""
    earlier, clusterer = _split_at(estimator, _is_feature_clusterer)
    if clusterer is None:
        raise ValueError(
            f"Found no fitted feature clusterer in {type(estimator).__name__}. It must be the estimator itself, a step "
            "of a Pipeline, or the best estimator of a search with refit=True; and it must have predict_features (or, "
            "if it is your own, predict) and responsibilities_, as a fitted BasisDeVAEClusterer has."
        )
    return earlier, clusterer


def model_and_input(estimator: Any, X: Any, method: str) -> tuple[Any, Any]:
    """The first step that has a method, and X as the steps before it transform it."""
    earlier, model = _split_at(estimator, lambda step: hasattr(step, method))
    if model is None:
        raise ValueError(
            f"Found no fitted estimator with {method} in {type(estimator).__name__}. It must be the estimator itself, "
            "a step of a Pipeline, or the best estimator of a search with refit=True; and it must be a generative "
            "model, such as VAETransformer."
        )
    for _, step in earlier:
        X = step.transform(X)
    return model, X


def labelling_method(clusterer: Any) -> str:
    """Name of the method that labels columns: ``predict_features``, or ``predict`` of estimators without it."""
    return "predict_features" if hasattr(clusterer, "predict_features") else "predict"


def _is_feature_clusterer(estimator: Any) -> bool:
    return hasattr(estimator, labelling_method(estimator)) and hasattr(estimator, "responsibilities_")


def _split_at(estimator: Any, is_wanted: Callable[[Any], bool]) -> tuple[list[tuple[str, Any]], Any]:
    """The steps before the first one that is wanted, and that one; None if no step is."""
    earlier: list[tuple[str, Any]] = []
    for name, step in flat_steps(estimator):
        if is_wanted(step):
            return earlier, step
        earlier.append((name, step))
    return earlier, None
