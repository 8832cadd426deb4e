"""Plotted units: the units in which features of any kind share one vertical axis."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.utils import check_array
from sklearn.utils.sparsefuncs import mean_variance_axis

#: likelihoods of counts
_COUNTS = ("poisson", "nb", "zinb")
#: spread of a column, relative to its mean, that may be rounding alone
_ROUNDING = 1e-10


class PlottedUnits:
    """Turn entries of a table, and curves in the table's units, into plotted units.

    Continuous features are standardised, counts are standardised after log1p, binary features stay as they are.

    Parameters
    ----------
    X : array-like or sparse array of shape (n_samples, n_features)
        The table, whose columns set the units. NaN is a missing entry.
    likelihood : str
        Name of the likelihood of the features. Any that is not named here is treated as that of continuous features.

    Attributes
    ----------
    label : str
        What the vertical axis shows.
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
            self.label = "log1p of the count, standardised (sd)" if self._takes_log else "standardised value (sd)"

    def curves(self, values: NDArray[np.float64], columns: NDArray[np.integer]) -> NDArray[np.float64]:
        """Curves of some columns, (n_points, n_columns), from the table's units to plotted units."""
        return self._standardized(np.log1p(values) if self._takes_log else values, columns)

    def observations(self, rows: NDArray[np.integer], columns: NDArray[np.integer]) -> NDArray[np.float64]:
        """Entries of some rows and columns of the table, in plotted units."""
        values = self._table[:, columns][rows]
        return self._standardized(values.toarray() if sp.issparse(values) else values, columns)

    def _standardized(self, values: NDArray[np.float64], columns: NDArray[np.integer]) -> NDArray[np.float64]:
        standardized: NDArray[np.float64] = (values - self._center[columns]) / self._spread[columns]
        return standardized


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
