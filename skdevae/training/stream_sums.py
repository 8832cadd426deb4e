"""Sums of a stream: what exact inference needs to know of rows that are no longer there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..inference.base import share_a_grid
from ..inference.behaviors import SumsWithoutOwnHelp
from ..nn.covariate_effects import EffectSums, OffsetSums
from ..nn.latent_grid import GridStatistics, LatentGrid
from ..nn.models import ExactModel
from ..table.column_summary import ColumnSums
from ..table.grid_source import designs_of
from ..table.source import RowSource
from .batches import expected_statistics
from .effects import residual_sums, squares_less_effects

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
    effects : EffectSums or None
        What effects of covariates on measurements are found from; None where there are none.
    strata : Tensor of shape (L, C), or None
        Designs of the strata that other sums are those of; None where there are none.
    """

    statistics: GridStatistics
    columns: ColumnSums
    judged: SumsWithoutOwnHelp | None
    varying: Tensor
    constants: float
    effects: EffectSums | None = None
    strata: Tensor | None = None

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
        strata, effects = strata_of(module, source, others), None
        edges = None if others is None else others.columns.size_edges
        columns = ColumnSums.of(source, module.likelihood.counts, edges)
        if module.effects is not None and not module.has_strata:
            squares = squares_less_effects(module, source)
            columns = replace(columns, sum_of_squares=squares.cpu().numpy().astype(np.float64))
            found = residual_sums(module, module.effects, source, grid)
            assert found is not None  # a table of a stream has rows
            effects = EffectSums.of(_at_rest(found), module.effects.values.to(_AT_REST))
        with module.in_strata(None if strata is None else strata.to(source.like)):
            judged = None
            if module.judges_behaviors and share_a_grid(module, source):
                groups = None if others is None or others.judged is None else others.judged.groups
                judged = SumsWithoutOwnHelp.of(module, source, grid, groups).to(_AT_REST)
            statistics = expected_statistics(module, source, grid).to(_AT_REST)
        constants = float(np.sum(source.weights * row_constants))
        varying = torch.from_numpy(source.varying_columns())
        return cls(statistics, columns, judged, varying, constants, effects, strata)

    def __add__(self, other: StreamSums) -> StreamSums:
        """The sums over the rows of both."""
        strata = _all_strata(self.strata, other.strata)
        one, two = self._in_strata(strata), other._in_strata(strata)
        return StreamSums(
            one.statistics + two.statistics,
            self.columns + other.columns,
            None if one.judged is None or two.judged is None else one.judged + two.judged,
            self.varying | other.varying,
            self.constants + other.constants,
            None if self.effects is None or other.effects is None else self.effects + other.effects,
            strata,
        )

    def _in_strata(self, strata: Tensor | None) -> StreamSums:
        """The same sums in more strata, of designs (L, C)."""
        if strata is None or self.strata is None or len(strata) == len(self.strata):
            return self
        numbers = (self.strata[:, None] == strata).all(2).to(torch.uint8).argmax(1)
        judged = None if self.judged is None else self.judged.among_strata(numbers, len(strata))
        return replace(self, statistics=self.statistics.among_strata(numbers, len(strata)), judged=judged)

    def times(self, factor: float) -> StreamSums:
        """The sums where every row counts ``factor`` times."""
        return StreamSums(
            self.statistics.times(factor),
            self.columns.times(factor),
            None if self.judged is None else self.judged.times(factor),
            self.varying,
            factor * self.constants,
            None if self.effects is None else self.effects.times(factor),
            self.strata,
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
            "effects": None
            if self.effects is None
            else (self.effects.response.numpy(), self.effects.information.numpy()),
            "strata": None if self.strata is None else self.strata.numpy(),
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
            None if plain["effects"] is None else EffectSums(*map(_tensor, plain["effects"])),
            None if plain["strata"] is None else _tensor(plain["strata"]),
        )


def strata_of(module: ExactModel, source: RowSource, others: StreamSums | None = None) -> Tensor | None:
    """Designs (L, C) of the strata of some rows and those of other sums; None where a model has no strata."""
    designs = designs_of(source) if module.has_strata else None
    own = None if designs is None else torch.from_numpy(designs)
    return _all_strata(own, None if others is None else others.strata)


def _all_strata(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """The designs of both, each once."""
    if one is None or other is None:
        return other if one is None else one
    return torch.cat([one, other]).unique(dim=0)


def _at_rest(sums: OffsetSums) -> OffsetSums:
    return OffsetSums(sums.score.to(_AT_REST), sums.information.to(_AT_REST))


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
