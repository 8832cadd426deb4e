"""Feature names: what the columns of a table are called, before and after the steps of a pipeline."""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterable, Mapping
from typing import Any

#: what ColumnTransformer and FeatureUnion put between their own prefix and the name of a feature
_SEPARATOR = "__"


def input_names(estimator: Any, X: Any) -> list[str]:
    """Names of the columns of X: those of the data frame, those that the estimator was fitted on, or x0, x1, ..."""
    names = _frame_names(X)
    if names is None and hasattr(estimator, "feature_names_in_"):
        names = list(estimator.feature_names_in_)
    if names is None or len(names) != X.shape[1]:
        names = _numbered_names(X.shape[1])
    return names


def output_names(step: Any, names: list[str], n_outputs: int) -> list[str]:
    """Names of the columns after a step as the step gives them, or a best guess.

    A step that gives no names and keeps the number of columns is taken to keep the columns.
    """
    if hasattr(step, "get_feature_names_out"):
        # A step that was fitted on a data frame knows its columns and accepts no other names.
        known = hasattr(step, "feature_names_in_")
        return [str(name) for name in step.get_feature_names_out(None if known else names)]
    return names if len(names) == n_outputs else _numbered_names(n_outputs)


def modelled_names(clusterer: Any, names: list[str]) -> list[str]:
    """Those of the columns that a clusterer models, where others condition these."""
    positions = getattr(clusterer, "modelled_columns_", range(len(names)))
    return [names[position] for position in positions]


def original_names(
    step_name: str, step: Any, names: list[str], transformed: Any, truth: Iterable[Hashable]
) -> list[str]:
    """Names of the columns after a step, each the name of the original feature that the column holds.

    Prefixes that the step adds are dropped where that gives the name of a feature that went in, or one in ``truth``.
    """
    # A step that was fitted on an array may have made up names ("x0"), by which later steps know the columns.
    own_names = list(getattr(step, "feature_names_in_", names))
    if hasattr(step, "get_feature_names_out"):
        outputs = list(step.get_feature_names_out(own_names))
    else:
        outputs = _frame_names(transformed) or []
    if len(outputs) != transformed.shape[1]:
        raise ValueError(
            f"Cannot tell which features the columns after step {step_name!r} ({type(step).__name__}) are, because it "
            "has no get_feature_names_out for them. Give it one (FunctionTransformer has it with "
            "feature_names_out='one-to-one'), or fit the pipeline on a DataFrame and let the step put one out."
        )
    original = dict(zip(own_names, names, strict=True))
    known = {*own_names, *truth}
    return [original.get(name, name) for name in (without_prefix(output, known) for output in outputs)]


def without_prefix(name: str, known: Container[Hashable]) -> str:
    """Drop prefixes ("scale__height") until the rest is a known name; if it never is, keep the whole name."""
    rest = name
    while rest not in known:
        if _SEPARATOR not in rest:
            return name
        rest = rest.split(_SEPARATOR, 1)[1]
    return rest


def truth_key(name: str, truth: Mapping[Hashable, Any], columns: Container[str]) -> str:
    """The name under which the truth may hold a feature; never that of another column of the data."""
    key = without_prefix(name, truth)
    return name if key in columns else key


def _frame_names(X: Any) -> list[str] | None:
    """Names of a data frame's columns. As in scikit-learn, they count as names only if all are strings."""
    columns = list(getattr(X, "columns", ()))
    return columns if columns and all(isinstance(column, str) for column in columns) else None


def _numbered_names(n_columns: int) -> list[str]:
    return [f"x{column}" for column in range(n_columns)]
