"""Tables out: what a fitted model answers, in the container that ``set_output`` asks for."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from .._sklearn import container_adapter, inside_available_if
from ..table.dask_blocks import index_of
from .own_settings import UnderOwnSettings
from .posterior import Posterior


class TablesOutMixin(UnderOwnSettings):
    """Base of estimators whose curves, expected rows and posteriors are data frames where ``transform`` gives them.

    scikit-learn's ``set_output`` changes what ``transform`` returns. Here, the methods in `_CONTAINERS` follow it. They
    are wrapped outside of what puts the settings of the process aside, for one of these is the container.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, contain in _CONTAINERS.items():
            if name in vars(cls):
                method = vars(cls)[name]
                wrap = functools.partial(_contained, contain=contain)
                setattr(cls, name, wrap(method) if callable(method) else inside_available_if(method, wrap))


def modelled_names_of(estimator: Any) -> list[str]:
    """Names of the columns that an estimator models: those that it was fitted with, or x0, x1, ..."""
    names = estimator._feature_names()
    return [f"x{column}" for column in estimator.modelled_columns_] if names is None else [str(name) for name in names]


def _contained(method: Callable, contain: Callable) -> Callable:
    """A method whose answer is put into the container that its estimator was told to use."""
    first = list(inspect.signature(method).parameters)[1]

    @functools.wraps(method)
    def answer(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = method(self, *args, **kwargs)
        return contain(self, container_adapter(self), found, args[0] if args else kwargs[first])

    return answer


def _curves(estimator: Any, adapter: Any, values: np.ndarray, z: Any) -> Any:
    """Curves (P, D) with their positions as index; rates of change along several components stay an array."""
    if adapter is None or values.ndim > 2:
        return values
    positions = np.asarray(z, dtype=np.float64).reshape(len(values), -1)
    if positions.shape[1] == 1:
        index: pd.Index = pd.Index(positions[:, 0], name="z")
    else:
        index = pd.MultiIndex.from_arrays(positions.T, names=[f"z{q}" for q in range(positions.shape[1])])
    return adapter.create_container(values, pd.DataFrame(index=index), modelled_names_of(estimator))


def _rows(estimator: Any, adapter: Any, values: np.ndarray, Z: Any) -> Any:
    """Expected rows (N, D) with the index of Z."""
    return values if adapter is None else adapter.create_container(values, Z, modelled_names_of(estimator))


def _posterior(estimator: Any, adapter: Any, posterior: Posterior, X: Any) -> Posterior:
    """The posterior with the index of X, and with one data frame for each array of shape (N, Q)."""
    index = index_of(X)
    if adapter is None:
        return posterior if index is None else replace(posterior, index=index)
    rows = X if index is None else pd.DataFrame(index=index)
    components = estimator.get_feature_names_out()
    frames = {
        name: adapter.create_container(getattr(posterior, name), rows, components)
        for name in ("mean", "sd", "lower", "upper")
    }
    return replace(posterior, index=index, **frames)


#: methods whose answers follow ``set_output``, and how each is put into a container
_CONTAINERS: dict[str, Callable] = {
    "trajectories": _curves,
    "derivatives": _curves,
    "inverse_transform": _rows,
    "posterior": _posterior,
}
