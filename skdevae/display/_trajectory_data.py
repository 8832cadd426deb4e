"""Trajectory data: what a figure of trajectories asks of a fitted estimator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array

from ..inspection._input import Reached
from ._plotted_units import PlottedUnits, ScaledUnits, UserUnits

#: what numbers of ``monotonic_cst_`` mean, in the order in which their panels stand
_DIRECTIONS = {1: "increasing", -1: "decreasing", 0: "free"}


class Groups(NamedTuple):
    """The group of each feature (D,) as a position in ``names``, -1 where nothing was learned of it."""

    labels: NDArray[np.integer]
    names: list[str]

    @property
    def sizes(self) -> NDArray[np.integer]:
        """How many features each group has."""
        return np.bincount(self.labels[self.labels >= 0], minlength=len(self.names))


def feature_groups(model: Any, n_features: int) -> Groups:
    """Features that belong together: clusters, those that are constrained alike, or all."""
    if hasattr(model, "cluster_names_"):
        return Groups(np.asarray(model.labels_), [str(name) for name in model.cluster_names_])
    if hasattr(model, "monotonic_cst_"):
        signs = list(_DIRECTIONS)
        return Groups(np.array([signs.index(sign) for sign in model.monotonic_cst_]), list(_DIRECTIONS.values()))
    return Groups(np.zeros(n_features, dtype=int), [""])


def plotted_units(
    reached: Reached, facts: dict[str, Any], units: Literal["scaled", "user"] | None, one_a_panel: bool
) -> PlottedUnits:
    """Units in which a table that has reached a model is drawn, without what sizes and covariates do to its rows."""
    if units is None:
        units = "user" if one_a_panel else "scaled"
    elif units == "user" and not reached.is_reversible:
        raise ValueError(
            "units='user' needs steps before the estimator that keep columns apart and have an inverse_transform: draw "
            "units='scaled', or give the Pipeline steps that can be undone."
        )
    model, table = reached.model, reached.table
    if hasattr(model, "adjust"):
        table = model.adjust(table, **facts)
    likelihood = getattr(model, "likelihood", "gaussian")
    if units == "user":
        return UserUnits(table, likelihood, reached.in_user_units)
    return ScaledUnits(table, likelihood)


def value_labels(given: str | Mapping[str, str] | None, otherwise: str, names: Sequence[str]) -> list[str]:
    """What the vertical axis shows of each feature."""
    if given is None or isinstance(given, str):
        return [given or otherwise] * len(names)
    unknown = [name for name in given if name not in names]
    if unknown:
        raise ValueError(f"value_label names {unknown[0]!r}, which is not a feature that is drawn.")
    return [given.get(name, otherwise) for name in names]


def selected_columns(features: str | int | Iterable[str | int] | None, names: list[str]) -> NDArray[np.integer]:
    """Positions of the features that are asked for, each once, in the order in which they are asked for."""
    if features is None:
        return np.arange(len(names))
    wanted = [features] if isinstance(features, str | int | np.integer) else list(features)
    columns = []
    for feature in wanted:
        if isinstance(feature, str):
            if feature not in names:
                raise ValueError(f"features asks for {feature!r}, which is not a feature of the estimator.")
            columns.append(names.index(feature))
        elif -len(names) <= feature < len(names):
            columns.append(int(feature) % len(names))
        else:
            raise ValueError(f"features asks for column {feature}, but the estimator has {len(names)} features.")
    if not columns:
        raise ValueError("features is empty: name at least one feature, or give None for all.")
    return np.array(list(dict.fromkeys(columns)))


def most_important(
    labels: NDArray[np.integer], importances: NDArray[np.float64], max_features: int
) -> NDArray[np.bool_]:
    """Which features to draw: of each group at most so many, those whose importance is largest."""
    kept = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.nonzero(labels == label)[0]
        kept[members[np.argsort(-importances[members], kind="stable")[:max_features]]] = True
    return kept


def given_curves(
    z: ArrayLike,
    trajectories: Any,
    positions: ArrayLike | None,
    observations: ArrayLike | None,
    bands: Mapping[str, ArrayLike | None],
    feature_names: Sequence[str] | None,
    clusters: Sequence[str] | None,
) -> dict[str, Any]:
    """Arrays that a user gives, checked against each other, by the names under which a display holds them."""
    points = check_array(z, ensure_2d=False, dtype=np.float64, input_name="z").ravel()
    if len(points) < 2 or not (np.diff(points) > 0).all():
        raise ValueError("z must have at least two positions, each above the one before.")
    curves = check_array(trajectories, dtype=np.float64, input_name="trajectories")
    n_features = curves.shape[1]
    known = np.empty(0)
    if positions is not None:
        known = check_array(positions, ensure_2d=False, dtype=np.float64, input_name="positions").ravel()
    values = np.full((len(known), n_features), np.nan)
    if observations is not None:
        values = check_array(
            observations,
            dtype=np.float64,
            ensure_all_finite="allow-nan",
            ensure_min_samples=0,
            input_name="observations",
        )
    edges = {
        name: None if edge is None else check_array(edge, dtype=np.float64, input_name=name)
        for name, edge in bands.items()
    }
    if feature_names is None:
        feature_names = getattr(trajectories, "columns", [f"x{column}" for column in range(n_features)])
    cluster_of = [""] * n_features if clusters is None else [str(cluster) for cluster in clusters]
    of_curves = f"trajectories has {n_features} features at {curves.shape[0]} positions"
    _check_shape("trajectories", curves.shape, (len(points), n_features), f"z has {len(points)} positions")
    for name, edge in edges.items():
        if edge is not None:
            _check_shape(name, edge.shape, curves.shape, of_curves)
    of_samples = f"positions has {len(known)} samples, and {of_curves}"
    _check_shape("observations", values.shape, (len(known), n_features), of_samples)
    _check_shape("feature_names", (len(feature_names),), (n_features,), of_curves)
    _check_shape("clusters", (len(cluster_of),), (n_features,), of_curves)
    cluster_names = list(dict.fromkeys(cluster_of))
    labels = np.array([cluster_names.index(cluster) for cluster in cluster_of])
    return {
        "z": points,
        "trajectories": curves,
        "positions": known,
        "observations": values,
        "feature_names": [str(name) for name in feature_names],
        "clusters": labels,
        "cluster_names": cluster_names,
        "cluster_sizes": np.bincount(labels),
        "importances": curves.std(0),
        **edges,
    }


def _check_shape(name: str, shape: tuple[int, ...], expected: tuple[int, ...], why: str) -> None:
    if shape != expected:
        raise ValueError(f"{name} has shape {shape}, but {why}: it must have shape {expected}.")
