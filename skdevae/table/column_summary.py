"""Column summaries: sums of a table by column, and its distinct counts, of which real tables have few."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..nn.likelihoods import ColumnSummary
from .source import RowSource

#: Groups of rows by size. Where a constant of counts is summed, each stands for its rows by two sizes, which have the
#: mean and the variance of their log sizes. The constant is smooth in these, so a few groups do.
_SIZE_GROUPS = 4

#: distinct counts that are listed chunk by chunk before they are put together
_LISTED_ENTRIES = 500_000
#: variance of log sizes below which they differ by rounding
_ROUNDING = 1e-12
#: what the listed counts are told apart by
_KEYS = ["column", "value", "group"]


@dataclass(frozen=True)
class ColumnSums:
    """Sums of a table by column, in a form in which those of several tables add up.

    Attributes
    ----------
    n_observed, sum_of_squares : ndarray of shape (D,)
        Number of observed entries, and sum of their squares, of entries divided by their rows' size factors.
    entries : DataFrame
        The distinct counts of each column and group of rows of like size, with their ``multiplicity`` and, where rows
        have sizes, the sums of their log sizes and of the squares of these. Empty where counts were not asked for.
    size_edges : ndarray or None
        Log sizes that part the groups; None where rows have no sizes.
    """

    n_observed: np.ndarray
    sum_of_squares: np.ndarray
    entries: pd.DataFrame
    size_edges: np.ndarray | None = None

    @classmethod
    def of(cls, source: RowSource, counts: bool, size_edges: np.ndarray | None = None) -> ColumnSums:
        """Those of the rows of a source.

        ``counts`` asks for the distinct counts. Rows of like size are those between quartiles, or between
        ``size_edges``.
        """
        log_size = source.context.log_size
        if log_size is not None and size_edges is None:
            size_edges = np.quantile(log_size, np.arange(1, _SIZE_GROUPS) / _SIZE_GROUPS)
        return source.summed(partial(cls._of_rows, counts, size_edges))

    @classmethod
    def _of_rows(cls, counts: bool, size_edges: np.ndarray | None, source: RowSource) -> ColumnSums:
        n_observed = np.zeros(source.n_features)
        sum_of_squares = np.zeros(source.n_features)
        weights, log_size = source.weights, source.context.log_size
        listed: list[pd.DataFrame] = []
        for index, rows in source.chunks():
            row, column, value = (part.cpu().numpy() for part in rows.nonzero())
            weight, x = weights[index], value.astype(np.float64)
            of_entries = weight[row]
            normalized = x if log_size is None else x * np.exp(-log_size[index][row])
            n_observed += weight.sum() if rows.observed is None else weight @ rows.observed.cpu().numpy()
            sum_of_squares += np.bincount(column, weights=of_entries * normalized**2, minlength=source.n_features)
            if counts:
                entries = pd.DataFrame({"column": column, "value": x, "group": 0, "multiplicity": of_entries})
                if log_size is not None and size_edges is not None:
                    group = np.searchsorted(size_edges, log_size[index])
                    entries["group"] = np.where(x > 1, group[row], 0)
                    entries["log_size"] = of_entries * log_size[index][row]
                    entries["square"] = of_entries * log_size[index][row] ** 2
                listed.append(entries.groupby(_KEYS, as_index=False).sum())
                if sum(map(len, listed[1:])) > max(len(listed[0]), _LISTED_ENTRIES):
                    listed = [_together(listed)]
        return cls(n_observed, sum_of_squares, _together(listed), size_edges)

    def __add__(self, other: ColumnSums) -> ColumnSums:
        """The sums of two tables of the same columns, with the same groups of sizes."""
        return ColumnSums(
            self.n_observed + other.n_observed,
            self.sum_of_squares + other.sum_of_squares,
            _together([self.entries, other.entries]),
            self.size_edges,
        )

    def times(self, factor: float) -> ColumnSums:
        """The sums where every row counts ``factor`` times."""
        sums = self.entries.columns.difference(_KEYS)
        entries = self.entries.assign(**{name: factor * self.entries[name] for name in sums})
        return replace(
            self,
            n_observed=factor * self.n_observed,
            sum_of_squares=factor * self.sum_of_squares,
            entries=entries,
        )

    def plain(self) -> dict[str, Any]:
        """The sums as plain values and arrays."""
        return {**vars(self), "entries": {name: values.to_numpy(copy=True) for name, values in self.entries.items()}}

    @classmethod
    def restored(cls, plain: dict[str, Any]) -> ColumnSums:
        """The sums of which :meth:`plain` has made plain values."""
        return cls(**{**plain, "entries": pd.DataFrame(plain["entries"])})

    def summary(self, like: torch.Tensor) -> ColumnSummary:
        """What a likelihood reads of them, with the dtype and on the device of a tensor."""
        entries = _with_two_sizes(self.entries[self.entries["multiplicity"] > 0])

        def tensor(values: np.ndarray | pd.Series) -> torch.Tensor:
            return torch.from_numpy(np.array(values, dtype=np.float64)).to(like)

        return ColumnSummary(
            n_observed=tensor(self.n_observed),
            sum_of_squares=tensor(self.sum_of_squares),
            column=torch.from_numpy(entries["column"].to_numpy(np.int64, copy=True)).to(like.device),
            value=tensor(entries["value"]),
            multiplicity=tensor(entries["multiplicity"]),
            log_size=tensor(entries["log_size"]) if "log_size" in entries else None,
        )


def summarize_columns(source: RowSource, counts: bool) -> ColumnSummary:
    """What a likelihood needs to know of a table beside the sums under q(z).

    Sums by column are those of entries divided by their rows' size factors, where there are any. ``counts`` asks for
    the distinct counts, as they are, with the sizes of the rows that have them.
    """
    return ColumnSums.of(source, counts).summary(source.like)


def _together(listed: list[pd.DataFrame]) -> pd.DataFrame:
    """Lists of counts as one, in which each count of a column and group of sizes stands once."""
    if not listed:
        return pd.DataFrame(columns=[*_KEYS, "multiplicity"], dtype=np.float64)
    return pd.concat(listed).groupby(_KEYS, as_index=False).sum()


def _with_two_sizes(entries: pd.DataFrame) -> pd.DataFrame:
    """Each group of entries as two, of sizes around their mean. Groups of one size, and counts of 1, stay one."""
    if "log_size" not in entries:
        return entries
    mean = entries["log_size"] / entries["multiplicity"]
    variance = entries["square"] / entries["multiplicity"] - mean**2
    # Of a count of 1 the constant is linear in the log size.
    sd = np.sqrt(variance.clip(lower=0)).where((entries["value"] > 1) & (variance > _ROUNDING), 0.0)
    spreads = sd > 0
    halved = entries["multiplicity"].where(~spreads, 0.5 * entries["multiplicity"])
    lower = entries.assign(log_size=mean - sd, multiplicity=halved)
    return pd.concat([lower, lower.assign(log_size=mean + sd)[spreads]])
