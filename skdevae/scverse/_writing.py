"""Writing: what a fitted model says of cells and genes, as columns of an AnnData."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import ClusterMixin

from .._base.estimator import LatentEstimator
from .._base.fitting import LatentVariableModel
from .._version import __version__
from ..inspection._courses import Courses
from ..inspection._input import reach
from ..inspection._positions import positions_of, query_of
from ..trajectory._basisdevae import BasisDeVAEClusterer
from ..trajectory._feature_clusterer import FeatureClusterer

#: what is written of cells, after the key
_OF_CELLS = ("position", "sd", "lower", "upper", "beyond_training", "axis", "cluster", "cluster_probability")
#: what is written of genes, after the key
_OF_GENES = (
    *("used", "behaviour", "cluster", "probability", "direction", "change", "order"),
    *("half_change", "half_change_quantile", "half_change_axis", "peak", "peak_quantile", "peak_axis"),
)


def write_cells(
    adata: Any, key: str, estimator: Any, table: Any, facts: dict[str, Any], *, was_fitted: bool
) -> np.ndarray:
    """Write latents, positions and clusters of the cells in a table; what comes back are the latents.

    Where the estimator ``was_fitted`` to this table, it may have kept them.
    """
    columns: dict[str, Any] = {}
    if _has_axis(estimator) and hasattr(estimator, "posterior"):
        posterior = estimator.posterior(table, **facts)
        latents = np.asarray(posterior.mean)
        names = {"position": "mean", "sd": "sd", "lower": "lower", "upper": "upper"}
        columns |= {name: np.asarray(getattr(posterior, field))[:, 0] for name, field in names.items()}
        columns["beyond_training"] = np.asarray(posterior.beyond_training)
        if getattr(estimator, "axis_is_given_", False):
            columns["axis"] = estimator.axis_map_.to_axis(columns["position"])
    elif was_fitted and "embedding_" in estimator._of_training_rows:
        latents = estimator.embedding_
    else:
        latents = np.asarray(estimator.transform(table, **facts))
    if _clusters_cells(estimator):
        probabilities = np.asarray(estimator.predict_proba(table, **facts))
        labels = estimator.labels_ if was_fitted else probabilities.argmax(1)
        columns["cluster"] = _as_categories(labels, probabilities.shape[1])
        columns["cluster_probability"] = probabilities[np.arange(len(labels)), labels]
    adata.obsm[f"X_{key}"] = latents
    _replace(adata.obs, key, _OF_CELLS, columns)
    return latents


def write_genes(adata: Any, key: str, estimator: Any, genes: list[str], table: Any, facts: dict[str, Any]) -> None:
    """Write which genes are modelled, and what they do along the axis if there is one."""
    columns: dict[str, Any] = {"used": adata.var_names.isin(genes)}
    found: dict[str, Any] = {}
    if isinstance(estimator, FeatureClusterer):
        probabilities = np.where(estimator.labels_ < 0, np.nan, estimator.responsibilities_.max(1))
        label = "behaviour" if isinstance(estimator, BasisDeVAEClusterer) else "cluster"
        found |= {label: pd.Categorical(estimator.feature_labels()), "probability": probabilities}
    if _has_axis(estimator):
        found |= _along_the_axis(estimator, table, facts)
    for name, values in found.items():
        columns[name] = pd.Series(values, index=genes).reindex(adata.var_names).array
    _replace(adata.var, key, _OF_GENES, columns)


def write_fit(adata: Any, key: str, estimator: Any, places: dict[str, Any]) -> None:
    """Write what was fitted, how, and to what."""
    parameters = {name: _storable(value) for name, value in estimator.get_params(deep=False).items()}
    told = {name: _storable(value) for name, value in places.items() if name != "key" and value not in (None, ())}
    adata.uns[key] = {
        "estimator": type(estimator).__name__,
        "version": __version__,
        "params": parameters,
        "n_iter": int(estimator.n_iter_),
        **told,
    }


def _has_axis(estimator: LatentEstimator) -> bool:
    return isinstance(estimator, LatentVariableModel) and estimator.module_.n_components == 1


def _clusters_cells(estimator: Any) -> bool:
    """Whether cells have clusters. Those of a VampPrior whose components are not merged are too many."""
    if isinstance(estimator, FeatureClusterer) or not isinstance(estimator, ClusterMixin):
        return False
    return hasattr(estimator, "predict_proba") and getattr(estimator, "n_clusters", None) is not None


def _along_the_axis(estimator: Any, table: Any, facts: dict[str, Any]) -> dict[str, Any]:
    """What genes do along the axis, by the name of the column; (D,) each."""
    reached = reach(estimator, table)
    of_cells = {name: values for name, values in facts.items() if name not in ("axis", "sample_weight")}
    query = query_of(reached, facts["sample_weight"], facts["axis"], None, **of_cells)
    courses = Courses.of(reached, positions_of(reached.model, query), facts["sample_weight"])
    found: dict[str, Any] = {"direction": pd.Categorical(courses.directions), "change": courses.change}
    for event in ("half_change", "peak"):
        places = courses.events(event)
        found |= {event: places, f"{event}_quantile": courses.quantiles(event)}
        if getattr(estimator, "axis_is_given_", False):
            known, of_axis = ~np.isnan(places), np.full(len(places), np.nan)
            of_axis[known] = estimator.axis_map_.to_axis(places[known])
            found[f"{event}_axis"] = of_axis
    found["order"] = pd.Series(found["half_change"]).rank(method="first").to_numpy()
    return found


def _as_categories(labels: np.ndarray, n_clusters: int) -> pd.Categorical:
    """Clusters as scanpy has them: categories that are strings, in the order of their numbers; those that occur."""
    occur = np.isin(np.arange(n_clusters), labels)
    return pd.Categorical(np.asarray(labels).astype(str), categories=np.arange(n_clusters)[occur].astype(str))


def _replace(frame: pd.DataFrame, key: str, names: tuple[str, ...], columns: dict[str, Any]) -> None:
    """Replace all columns that a fit writes under a key by new ones."""
    for name in names:
        if f"{key}_{name}" in frame and name not in columns:
            del frame[f"{key}_{name}"]
    for name, values in columns.items():
        frame[f"{key}_{name}"] = values


def _storable(value: Any) -> Any:
    """A parameter as a file of AnnData holds it: numbers, booleans and strings, and lists of strings; else as text."""
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple) and value and all(isinstance(entry, str) for entry in value):
        return list(value)
    return repr(value)
