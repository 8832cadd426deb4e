"""Column summaries: sums of a table by column, and its distinct counts, of which real tables have few."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from ..nn.likelihoods import ColumnSummary
from .source import RowSource

#: Groups of rows by size. Where a constant of counts is summed, each stands for its rows by two sizes, which have the
#: mean and the variance of their log sizes. The constant is smooth in these, so a few groups do.
_SIZE_GROUPS = 4

#: variance of log sizes below which they differ by rounding
_ROUNDING = 1e-12
#: what the listed counts are told apart by
_KEYS = ["column", "value", "group"]


def summarize_columns(source: RowSource, counts: bool) -> ColumnSummary:
    """What a likelihood needs to know of a table beside the sums under q(z).

    Sums by column are those of entries divided by their rows' size factors, where there are any. ``counts`` asks for
    the distinct counts, as they are, with the sizes of the rows that have them.
    """
    n_observed = np.zeros(source.n_features)
    sum_of_squares = np.zeros(source.n_features)
    weights, log_size = source.weights, source.context.log_size
    groups = None if log_size is None else _groups_by(log_size)
    listed = []
    for index, rows in source.chunks():
        row, column, value = (part.cpu().numpy() for part in rows.nonzero())
        weight, x = weights[index], value.astype(np.float64)
        of_entries = weight[row]
        normalized = x if log_size is None else x * np.exp(-log_size[index][row])
        n_observed += weight.sum() if rows.observed is None else weight @ rows.observed.cpu().numpy()
        sum_of_squares += np.bincount(column, weights=of_entries * normalized**2, minlength=source.n_features)
        if counts:
            entries = pd.DataFrame({"column": column, "value": x, "group": 0, "multiplicity": of_entries})
            if log_size is not None and groups is not None:
                entries["group"] = np.where(x > 1, groups[index][row], 0)
                entries["log_size"] = of_entries * log_size[index][row]
                entries["square"] = of_entries * log_size[index][row] ** 2
            listed.append(entries.groupby(_KEYS, as_index=False).sum())
    return _summary(source, n_observed, sum_of_squares, listed)


def _groups_by(log_size: np.ndarray) -> np.ndarray:
    """A number for each of some groups of rows whose log sizes (N,) are alike: (N,)."""
    ends = np.quantile(log_size, np.arange(1, _SIZE_GROUPS) / _SIZE_GROUPS)
    return np.searchsorted(ends, log_size)


def _summary(
    source: RowSource, n_observed: np.ndarray, sum_of_squares: np.ndarray, listed: list[pd.DataFrame]
) -> ColumnSummary:
    """The summary of a table from sums by column (D,) and lists of counts, one for each chunk of rows."""
    like = source.like
    none = pd.DataFrame(columns=[*_KEYS, "multiplicity"], dtype=np.float64)
    entries = pd.concat(listed).groupby(_KEYS, as_index=False).sum() if listed else none
    entries = _with_two_sizes(entries[entries["multiplicity"] > 0])

    def tensor(values: np.ndarray | pd.Series) -> torch.Tensor:
        return torch.from_numpy(np.array(values, dtype=np.float64)).to(like)

    return ColumnSummary(
        n_observed=tensor(n_observed),
        sum_of_squares=tensor(sum_of_squares),
        column=torch.from_numpy(entries["column"].to_numpy(np.int64, copy=True)).to(like.device),
        value=tensor(entries["value"]),
        multiplicity=tensor(entries["multiplicity"]),
        log_size=tensor(entries["log_size"]) if "log_size" in entries else None,
    )


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
