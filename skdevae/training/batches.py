"""Batch iterators in skorch's sense: what one epoch feeds to the module."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..nn.cluster_prior import EPOCH_STEPS
from ..nn.latent_grid import (
    GridStatistics,
    LatentGrid,
    all_positions_are_known,
    bumps_around,
    standard_normal_log_density,
    summarize,
    total,
    where_rows_are,
)
from ..nn.likelihoods import ColumnSummary
from ..nn.linear_tables import LinearTables
from ..nn.models import ExactModel
from ..nn.representations import Representations
from ..table.grid_source import GridSource
from ..table.source import RowSource
from .data_parallel import ALONE, Processes, Share
from .effects import effects_by_residuals_, effects_by_strata_, summary_less_effects
from .seeds import generator_from
from .threads import mapped_in_threads


@dataclass(frozen=True)
class ModuleInputs:
    """Arguments of one call of the module, and how many samples they stand for.

    Where processes share a batch, the arguments are those of a share, and the samples are those of the whole batch.
    """

    arguments: tuple
    n_rows: int
    share: Share | None = None

    def __len__(self) -> int:
        return self.n_rows


class ShuffledRows:
    """Minibatches of rows in random order, each with the noise of its reparameterised samples.

    Slices of the table, not single rows collated: an epoch costs little more than a hand-written loop.

    ``batch_size`` is that of all processes together, and ``share_of`` gives the part that this one has.
    """

    def __init__(
        self,
        source: RowSource,
        n_components: int,
        batch_size: int,
        generator: torch.Generator,
        share_of: Callable[[Tensor], Share] = ALONE.even_share,
    ):
        self._source = source.with_relative_weights()
        self._n_components = n_components
        self._batch_size = batch_size
        self._generator = generator
        self._share_of = share_of

    def __iter__(self) -> Iterator[ModuleInputs]:
        order = self._source.shuffled(self._generator)
        indices = order.split(self._batch_size)
        return _batches(self._source, indices, self._n_components, self._generator, self._share_of)


class RowsWithRepresentations:
    """Minibatches of rows in random order with their representations, and with noise where these are Gaussians.

    The representations are those of the rows that belong to this process. ``batch_size`` is that of all processes
    together.
    """

    def __init__(
        self,
        source: RowSource,
        representations: Representations,
        batch_size: int,
        generator: torch.Generator,
        processes: Processes = ALONE,
    ):
        self._source = source.with_relative_weights()
        self._representations = representations
        self._batch_size = batch_size
        self._generator = generator
        self._processes = processes
        self._first = processes.owned(len(source)).start

    def __iter__(self) -> Iterator[ModuleInputs]:
        order = self._source.shuffled(self._generator)
        # Of nearly the same size, so that no row counts for more in its step than others.
        like, is_gaussian = self._source.like, self._representations.log_sds is not None
        for batch in order.tensor_split(math.ceil(len(order) / self._batch_size)):
            share = self._processes.owned_share(batch, len(order))
            rows = self._source.rows(share.rows.numpy()).dense()
            noise = None
            if is_gaussian:
                shape = len(batch), self._representations.means.shape[1]
                noise = torch.randn(shape, generator=self._generator)[share.places].to(like)
            of_rows = self._representations.of_rows((share.rows - self._first).to(like.device))
            yield ModuleInputs((rows, *of_rows, noise), len(batch), share)


class RowsInOrder:
    """Minibatches for validation: the same ones with the same noise in every epoch, so that losses can be compared."""

    def __init__(
        self,
        source: RowSource,
        n_components: int,
        batch_size: int,
        seed: int,
        share_of: Callable[[Tensor], Share] = ALONE.even_share,
    ):
        self._source = source.with_relative_weights()
        self._n_components = n_components
        self._batch_size = batch_size
        self._seed = seed
        self._share_of = share_of

    def __iter__(self) -> Iterator[ModuleInputs]:
        indices, generator = torch.arange(len(self._source)).split(self._batch_size), generator_from(self._seed)
        return _batches(self._source, indices, self._n_components, generator, self._share_of)


def _batches(
    source: RowSource,
    batches: Iterable[Tensor],
    n_components: int,
    generator: torch.Generator,
    share_of: Callable[[Tensor], Share],
) -> Iterator[ModuleInputs]:
    for batch in batches:
        share = share_of(batch)
        rows = source.rows(share.rows.numpy()).dense()
        # That of the whole batch, so that every process's generator goes on from the same place.
        noise = torch.randn(len(batch), n_components, generator=generator)[share.places].to(source.like)
        yield ModuleInputs((rows, noise), len(batch), share)


class ExpectationSteps:
    """Variational EM as an iterator: the E-step is making the batch, the M-step is the gradient steps taken on it.

    Every epoch reads all rows once, finds the optimal q(z) of each and sums the data under it, sets q(w) to its optimum
    given those sums (and the effects of covariates, if there are any), and yields them ``n_gradient_steps`` times. What
    the module sees does not depend on the chunks in which rows are read. Where the positions of all rows are known, the
    sums stay as they are, and rows are read once.
    """

    def __init__(
        self,
        source: RowSource,
        module: ExactModel,
        summary: ColumnSummary,
        grid: LatentGrid,
        *,
        n_gradient_steps: int,
        updates: bool,
    ):
        self._source = source
        self._module = module
        self._summary = summary
        self._grid = grid
        self._n_gradient_steps = n_gradient_steps
        self._updates = updates
        changes_rows = module.effects is not None and not module.has_strata
        self._stays = all_positions_are_known(source.context, grid) and not changes_rows
        self._found: tuple[GridStatistics, LatentGrid] | None = None

    def __iter__(self) -> Iterator[ModuleInputs]:
        module, effects = self._module, self._module.effects
        with torch.no_grad():
            if effects is not None and self._updates and not module.has_strata:
                effects_by_residuals_(module, effects, self._source, self._grid)
            statistics, grid = self._expectation()
            if self._updates:
                module.update_clusters_(statistics, grid, EPOCH_STEPS)
            if effects is not None and self._updates and module.has_strata:
                effects_by_strata_(module, effects, statistics, grid)
            summary = summary_less_effects(self._summary, module, self._source)
        inputs = ModuleInputs((statistics, summary, grid), len(self._source))
        for _ in range(self._n_gradient_steps):
            yield inputs

    def _expectation(self) -> tuple[GridStatistics, LatentGrid]:
        """The E-step, and the points that have rows; or what it was before where it cannot have changed."""
        if not self._stays:
            return expected_statistics(self._module, self._source, self._grid), self._grid
        if self._found is None:
            self._found = where_rows_are(expected_statistics(self._module, self._source, self._grid), self._grid)
        return self._found


def expected_statistics(module: ExactModel, source: RowSource, grid: LatentGrid) -> GridStatistics:
    """The E-step over a whole table, wherever its rows are."""
    return source.summed(partial(_expected_statistics, module, module.tables_on(grid), grid))


def _expected_statistics(
    module: ExactModel, tables: LinearTables, grid: LatentGrid, source: RowSource
) -> GridStatistics:
    chunks = (rows for _, rows in GridSource(source, module).chunks(len(grid.points)))
    return total(mapped_in_threads(lambda rows: module.expected_statistics(rows, tables, grid), chunks))


def starting_statistics(
    source: RowSource, positions: Tensor, width: float, points: Tensor, with_positive: bool
) -> GridStatistics:
    """Sums of the data when every sample's latent is a Gaussian bump around a first guess (N, Q) of its place.

    The bumps live on points (P, Q).
    """
    return source.summed(partial(_starting_statistics, width, points, with_positive), positions)


def _starting_statistics(
    width: float, points: Tensor, with_positive: bool, source: RowSource, positions: Tensor
) -> GridStatistics:
    log_mass = standard_normal_log_density(points)
    return total(
        summarize(rows, bumps_around(positions[index], points, width), log_mass, with_positive)
        for index, rows in source.chunks(points.numel())
    )
