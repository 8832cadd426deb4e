"""Sums of a stream: what exact inference needs to know of rows that are no longer there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..inference.base import share_a_grid
from ..inference.behaviors import SumsWithoutOwnHelp
from ..nn.latent_grid import GridStatistics, LatentGrid
from ..nn.models import ExactModel
from ..table.column_summary import ColumnSums
from ..table.source import RowSource
from .batches import expected_statistics

#: dtype and device that sums are kept in
_AT_REST = torch.zeros((), dtype=torch.float64)


@dataclass(frozen=True)
class StreamSums:
    """Sums over the rows of a stream, from which curves, noise and clusters are fitted. Double precision, on the CPU.

    Attributes
    ----------
    statistics : GridStatistics
        Sums under q(z).
    columns : ColumnSums
        Sums by column.
    judged : SumsWithoutOwnHelp or None
        What behaviours are judged by; None where they are not judged.
    varying : Tensor of shape (D,)
        Which columns have had two different values.
    constants : float
        What is added to the log densities of all rows together, for the user's units.
    """

    statistics: GridStatistics
    columns: ColumnSums
    judged: SumsWithoutOwnHelp | None
    varying: Tensor
    constants: float

    @property
    def n_rows(self) -> float:
        """How many rows they are sums of, each counted as often as it counts by now."""
        return self.statistics.n_rows

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        module: ExactModel,
        source: RowSource,
        grid: LatentGrid,
        row_constants: np.ndarray | float,
        others: StreamSums | None = None,
    ) -> StreamSums:
        """The sums of some rows under the present module; where there are others, in a form that adds to them."""
        judged = None
        if module.judges_behaviors and share_a_grid(module, source):
            groups = None if others is None or others.judged is None else others.judged.groups
            judged = SumsWithoutOwnHelp.of(module, source, grid, groups).to(_AT_REST)
        edges = None if others is None else others.columns.size_edges
        return cls(
            expected_statistics(module, source, grid).to(_AT_REST),
            ColumnSums.of(source, module.likelihood.counts, edges),
            judged,
            torch.from_numpy(source.varying_columns()),
            float(np.sum(source.weights * row_constants)),
        )

    def __add__(self, other: StreamSums) -> StreamSums:
        """The sums over the rows of both."""
        return StreamSums(
            self.statistics + other.statistics,
            self.columns + other.columns,
            None if self.judged is None or other.judged is None else self.judged + other.judged,
            self.varying | other.varying,
            self.constants + other.constants,
        )

    def times(self, factor: float) -> StreamSums:
        """The sums where every row counts ``factor`` times."""
        return StreamSums(
            self.statistics.times(factor),
            self.columns.times(factor),
            None if self.judged is None else self.judged.times(factor),
            self.varying,
            factor * self.constants,
        )

    def plain(self) -> dict[str, Any]:
        """The sums as plain values and arrays."""
        judged = self.judged
        return {
            "statistics": _plain_statistics(self.statistics),
            "columns": self.columns.plain(),
            "judged": None
            if judged is None
            else {
                "groups": [group.numpy() for group in judged.groups],
                "parts": [(_plain_statistics(sums), mass.numpy()) for sums, mass in judged.parts],
                "squares": judged.squares.numpy(),
                "has_missing": judged.has_missing,
            },
            "varying": self.varying.numpy(),
            "constants": self.constants,
        }

    @classmethod
    def restored(cls, plain: dict[str, Any]) -> StreamSums:
        """The sums of which :meth:`plain` has made plain values."""
        judged = plain["judged"]
        if judged is not None:
            judged = SumsWithoutOwnHelp(
                [_tensor(group) for group in judged["groups"]],
                [(_restored_statistics(sums), _tensor(mass)) for sums, mass in judged["parts"]],
                _tensor(judged["squares"]),
                judged["has_missing"],
            )
        return cls(
            _restored_statistics(plain["statistics"]),
            ColumnSums.restored(plain["columns"]),
            judged,
            _tensor(plain["varying"]),
            plain["constants"],
        )


def _plain_statistics(statistics: GridStatistics) -> dict[str, Any]:
    return {
        "weighted": statistics.weighted.numpy(),
        "positive": None if statistics.positive is None else statistics.positive.numpy(),
        "mass": statistics.mass.numpy(),
        "divergence": float(statistics.divergence),
        "n_rows": float(statistics.n_rows),
    }


def _restored_statistics(plain: dict[str, Any]) -> GridStatistics:
    return GridStatistics(
        _tensor(plain["weighted"]),
        None if plain["positive"] is None else _tensor(plain["positive"]),
        _tensor(plain["mass"]),
        torch.tensor(plain["divergence"], dtype=torch.float64),
        plain["n_rows"],
    )


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array))
