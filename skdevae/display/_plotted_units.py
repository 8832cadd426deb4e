"""Plotted units: the units in which a figure shows features, and what they are called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.utils import check_array
from sklearn.utils.sparsefuncs import mean_variance_axis

#: likelihoods of counts
_COUNTS = ("poisson", "nb", "zinb")
#: spread of a column, relative to its mean, that may be rounding alone
_ROUNDING = 1e-10


class PlottedUnits(Protocol):
    """Turn entries of a table, and curves on the table's scale, into the units of a figure."""

    #: what the vertical axis shows
    label: str

    def curves(self, values: NDArray[np.float64], columns: NDArray[np.integer]) -> NDArray[np.float64]:
        """Some columns (P, C) of the curves of all features (P, D), in plotted units."""
        ...

    def observations(self, rows: NDArray[np.integer], columns: NDArray[np.integer]) -> NDArray[np.float64]:
        """Some rows and columns (R, C) of the table, in plotted units."""
        ...


class ScaledUnits:
    """Units that features of any kind share.

    Continuous features are standardised, counts are standardised after log1p, binary features stay as they are.

    Parameters
    ----------
    X : array-like or sparse array of shape (n_samples, n_features)
        The table, whose columns set the units. NaN is a missing entry.
    likelihood : str
        Name of the likelihood of the features. Any that is not named here is treated as that of continuous features.
    """

    def __init__(self, X: Any, likelihood: str) -> None:
        self._takes_log = likelihood in _COUNTS
        table = check_array(X, accept_sparse="csc", dtype=np.float64, ensure_all_finite="allow-nan")
        if self._takes_log:
            table = table.log1p() if sp.issparse(table) else np.log1p(table)
        self._table = table
        self._center, self._spread = np.zeros(table.shape[1]), np.ones(table.shape[1])
        if likelihood == "bernoulli":
            self.label = "probability"
        else:
            self._center, self._spread = _moments(table)
            self.label = "log1p of the count (sd)" if self._takes_log else "standardised value (sd)"

    def curves(self, values: NDArray[np.float64], columns: NDArray[np.integer]) -> NDArray[np.float64]:
        """Some columns (P, C) of the curves of all features (P, D), in plotted units."""
        chosen = values[:, columns]
        return self._standardized(np.log1p(chosen) if self._takes_log else chosen, columns)

    def observations(self, rows: NDArray[np.integer], columns: NDArray[np.integer]) -> NDArray[np.float64]:
        """Some rows and columns (R, C) of the table, in plotted units."""
        return self._standardized(_dense(self._table[:, columns][rows]), columns)

    def _standardized(self, values: NDArray[np.float64], columns: NDArray[np.integer]) -> NDArray[np.float64]:
        standardized: NDArray[np.float64] = (values - self._center[columns]) / self._spread[columns]
        return standardized


class UserUnits:
    """The units of the user's table, such as mg/dL.

    Parameters
    ----------
    X : array-like or sparse array of shape (n_samples, n_features)
        The table on the scale on which the model sees it. NaN is a missing entry.
    likelihood : str
        Name of the likelihood of the features.
    to_user : callable
        Takes an array (n_rows, n_features) from the scale of the model to that of the user.
    """

    def __init__(self, X: Any, likelihood: str, to_user: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> None:
        self._table = check_array(X, accept_sparse="csr", dtype=np.float64, ensure_all_finite="allow-nan")
        self._to_user = to_user
        self.label = "probability" if likelihood == "bernoulli" else "count" if likelihood in _COUNTS else "value"

    def curves(self, values: NDArray[np.float64], columns: NDArray[np.integer]) -> NDArray[np.float64]:
        """Some columns (P, C) of the curves of all features (P, D), in the user's units."""
        return self._to_user(values)[:, columns]

    def observations(self, rows: NDArray[np.integer], columns: NDArray[np.integer]) -> NDArray[np.float64]:
        """Some rows and columns (R, C) of the table, in the user's units."""
        return self._to_user(_dense(self._table[rows]))[:, columns]


def _dense(values: Any) -> NDArray[np.float64]:
    return np.asarray(values.toarray() if sp.issparse(values) else values, dtype=np.float64)


def _moments(table: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and sd of each column's observed entries: 0 and 1 if there are none, sd 1 if they are all equal."""
    if sp.issparse(table):
        mean, variance = mean_variance_axis(table, axis=0)
    else:
        n = np.maximum((~np.isnan(table)).sum(0), 1)
        mean = np.nansum(table, 0) / n
        variance = np.nansum((table - mean) ** 2, 0) / n
    sd = np.sqrt(variance)
    return mean, np.where(sd > _ROUNDING * np.abs(mean), sd, 1.0)
