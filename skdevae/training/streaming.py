"""Streams: sums of the data from tables that come one after another, and the steps that follow each of them.

Exact inference needs nothing of the rows but sums. So sums of earlier rows can stand for these rows when others come:
stepwise expectation maximisation (Liang and Klein 2009, Cappé and Moulines 2009). Sums of earlier rows were made with
earlier curves, so these rows count less and less: see :func:`kept_share`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from skorch.callbacks import Callback
from skorch.history import History
from torch import Tensor

from ..inference.behaviors import evidence_of_sums
from ..nn.latent_grid import GridStatistics, LatentGrid
from ..nn.models import ExactModel
from .batches import ModuleInputs
from .behaviors import settle_by_evidence_
from .effects import effects_by_strata_
from .fitting import TrainingOptions, train
from .interrupts import interrupts_of_this_fit
from .stream_sums import StreamSums

#: gradient steps that follow each update of the sums
N_STEPS = 50
#: Growth of a stream after which behaviours are judged anew. A judgement of many features costs more than the steps
_GROWTH = 0.1
#: what the learning rate is divided by where steps have made the bound worse, and how often that is tried
_SMALLER, _TRIES = 4.0, 3


def kept_share(n_before: float, n_new: float) -> float:
    """What sums of ``n_before`` earlier rows are multiplied by when ``n_new`` others come.

    It is the square root of n_before / (n_before + n_new). So the n-th of N rows counts as much as the square root of
    n / N, whatever the sizes of the chunks. For chunks of equal size the step size of stepwise EM is about 1.5 / t
    after t chunks. It falls fast enough for sums to settle: they are worth nine tenths of as many rows that all count
    once. And sums that the first curves have made fade faster than they would in a plain mean.
    """
    return float(np.sqrt(n_before / (n_before + n_new)))


@dataclass(frozen=True)
class Stream:
    """What is known of the rows of a stream after some tables. It never changes: each table makes another one.

    Attributes
    ----------
    sums : StreamSums
        Those that the present curves were fitted to.
    n_behind : float
        How many rows these are sums of, or their weight, whatever they count for by now.
    n_judged : float
        How many rows these were when behaviours were last judged.
    n_updates : int
        How often curves were fitted to sums.
    grid_size, z_max
        Points of the grid along one axis, and where it ends.
    of_pass : StreamSums or None
        Those of a pass that has not ended, in which curves stay as they are; None outside of a pass.
    """

    sums: StreamSums
    n_behind: float
    n_judged: float
    n_updates: int
    grid_size: int
    z_max: float
    of_pass: StreamSums | None = None

    @classmethod
    def opened(cls, sums: StreamSums, grid: LatentGrid, *, in_pass: bool) -> Stream:
        """The stream after its first table, which curves were fitted to."""
        ends = float(grid.axis[-1])
        return cls(sums, sums.n_rows, sums.n_rows, 1, len(grid.axis), ends, sums if in_pass else None)

    @property
    def is_to_be_judged(self) -> bool:
        """Whether enough rows have come since behaviours were last judged."""
        return self.n_behind > (1 + _GROWTH) * self.n_judged

    def judged(self) -> Stream:
        """The stream after a judgement."""
        return replace(self, n_judged=self.n_behind)

    def grid(self, n_components: int, like: Tensor) -> LatentGrid:
        """The grid that sums are made on."""
        return LatentGrid.standard_normal(self.grid_size, self.z_max, n_components).to(like)

    def held(self, new: StreamSums) -> Stream:
        """The stream after a table of a pass that goes on."""
        return replace(self, of_pass=new if self.of_pass is None else self.of_pass + new)

    def after_pass(self, new: StreamSums) -> Stream:
        """The stream after the last table of a pass, whose sums take the place of all former ones."""
        sums = new if self.of_pass is None else self.of_pass + new
        return replace(self, sums=sums, n_behind=sums.n_rows, n_judged=0.0, n_updates=self.n_updates + 1, of_pass=None)

    def after(self, new: StreamSums) -> Stream:
        """The stream after one more table, beside which earlier rows count less."""
        sums = self.sums.times(kept_share(self.n_behind, new.n_rows)) + new
        return replace(self, sums=sums, n_behind=self.n_behind + new.n_rows, n_updates=self.n_updates + 1)

    def plain(self) -> dict[str, Any]:
        """The stream as plain values and arrays."""
        of_pass = None if self.of_pass is None else self.of_pass.plain()
        return {**vars(self), "sums": self.sums.plain(), "of_pass": of_pass}

    @classmethod
    def restored(cls, plain: dict[str, Any]) -> Stream:
        """The stream of which :meth:`plain` has made plain values."""
        of_pass = None if plain["of_pass"] is None else StreamSums.restored(plain["of_pass"])
        return cls(**{**plain, "sums": StreamSums.restored(plain["sums"]), "of_pass": of_pass})


class FixedSums:
    """Batches for steps on sums that stay as they are: the same batch as often as an epoch has steps."""

    def __init__(self, inputs: ModuleInputs, n_steps: int):
        self._inputs, self._n_steps = inputs, n_steps

    def __iter__(self) -> Iterator[ModuleInputs]:
        return iter([self._inputs] * self._n_steps)


def step_(
    module: ExactModel,
    sums: StreamSums,
    grid: LatentGrid,
    options: TrainingOptions,
    callbacks: Sequence[Callback],
    *,
    judges: bool = True,
) -> tuple[History, float]:
    """Fit q(w) and the curves to sums, in place: the history of the steps, and the bound in nats a row.

    Where behaviours are judged apart from the curves, q(w) stays as it is unless it ``judges``.

    The steps never make the bound of the sums worse. Where they would, they are taken again with smaller ones, and at
    last not at all.
    """
    module.n_samples = sums.n_rows
    with _in_strata_of(module, sums, grid):
        return _step_in_strata(module, sums, grid, options, callbacks, judges)


@torch.no_grad()
def bound_of(module: ExactModel, sums: StreamSums, grid: LatentGrid) -> float:
    """The bound of rows, in nats a row, from sums that the module itself has made."""
    with _in_strata_of(module, sums, grid):
        return -float(module(sums.statistics.to(grid.points), sums.columns.summary(grid.points), grid).total)


def _in_strata_of(module: ExactModel, sums: StreamSums, grid: LatentGrid) -> AbstractContextManager[None]:
    return module.in_strata(None if sums.strata is None else sums.strata.to(grid.points))


def _step_in_strata(
    module: ExactModel,
    sums: StreamSums,
    grid: LatentGrid,
    options: TrainingOptions,
    callbacks: Sequence[Callback],
    judges: bool,
) -> tuple[History, float]:
    statistics, summary = sums.statistics.to(grid.points), sums.columns.summary(grid.points)
    if sums.judged is None or judges:
        _settle_clusters_(module, sums, statistics, grid)
    inputs = ModuleInputs((statistics, summary, grid), round(sums.n_rows))

    def loss() -> float:
        with torch.no_grad():
            return float(module(*inputs.arguments).total)

    before, start = loss(), {name: values.clone() for name, values in module.state_dict().items()}
    for _ in range(_TRIES):
        batches = FixedSums(inputs, options.steps_per_epoch)
        result = train(module, batches, None, options, (), callbacks)
        if loss() <= before or interrupts_of_this_fit().noted:
            break
        module.load_state_dict(start)
        options = replace(options, learning_rate=options.learning_rate / _SMALLER)
    if sums.judged is None:  # judged clusters hardly depend on the fitted curves
        with torch.no_grad():
            module.update_clusters_(statistics, grid)
    _update_effects_(module, sums, statistics, grid)
    return result.history, -loss()


@torch.no_grad()
def _update_effects_(module: ExactModel, sums: StreamSums, statistics: GridStatistics, grid: LatentGrid) -> None:
    effects = module.effects
    if effects is not None and module.has_strata:
        effects_by_strata_(module, effects, statistics, grid)
    elif effects is not None and sums.effects is not None:
        effects.update_(sums.effects.at(effects.values.to(sums.effects.response)))


@torch.no_grad()
def _settle_clusters_(module: ExactModel, sums: StreamSums, statistics: GridStatistics, grid: LatentGrid) -> None:
    if sums.judged is None:
        module.update_clusters_(statistics, grid)
        return
    judged, varying = sums.judged.to(grid.points.double()), sums.varying.to(grid.points.device)
    settle_by_evidence_(module, evidence_of_sums(module, judged, grid, varying), varying)
