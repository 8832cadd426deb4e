"""Heats: short runs of many starts side by side, which tell the starts that are worth a whole fit from the others.

Starts end on hills of different heights, and which of them is the highest shows early. So all starts run for a share of
the epochs over which a fit is annealed, on a coarser grid, and cool down within them. Then the best of them run on.
They are one batch: coefficients of R models on a grid of P points are those of one model on R P points, so an epoch of
all of them costs little more than one of a fit.

A heat only chooses. What it has found is not kept: a start that was chosen is fitted from its beginning, as it would be
alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from typing import cast

import torch
from torch import Tensor

from ..nn.cluster_prior import ClusterAssignment, OnlyCandidate
from ..nn.latent_grid import (
    GridStatistics,
    LatentGrid,
    counted,
    joints_side_by_side,
    log_prior,
    n_counted,
    total,
)
from ..nn.likelihoods import ColumnSummary
from ..nn.models import ExactModel
from ..nn.stacked import StackedModels
from ..table.grid_source import GridSource
from ..table.source import RowSource
from .callbacks import cluster_temperature, cosine_decay
from .exact import exact_options, grid_of, starting_temperature
from .fitting import TrainingOptions
from .settings import FitSettings, TrainingDefaults

#: share of a fit's annealed epochs that a heat takes, and share of these in which nothing is annealed any more
_SHARE, _COOL_SHARE = 0.5, 0.1
#: share of the starts that run on
_FINALISTS = 0.25
#: how many of a grid's points stand for one of a heat's
_POINTS_FOR_ONE = 4


def worth_fitting(
    modules: Sequence[ExactModel],
    source: RowSource,
    summary: ColumnSummary,
    settings: FitSettings,
    defaults: TrainingDefaults,
) -> list[int]:
    """Numbers of the started models of one form that are worth a whole fit: the first one, and the winner of the heats.

    With the first one among them, more starts never lower the bound. Where the winner's lead is no progress by ``tol``,
    the first one is alone. The models stay as they are.
    """
    fine = grid_of(source, settings)
    options = exact_options(source, fine, settings, defaults)
    hottest = torch.tensor([starting_temperature(module, source, fine) for module in modules]).to(source.like)
    coarse = fine.coarser(_POINTS_FOR_ONE ** (1 / fine.n_components))
    heat = _Heat(modules, source, summary, coarse)
    n_epochs = max(1, math.ceil(_SHARE * options.annealed_epochs))
    heat.run(n_epochs, options, hottest)
    best = heat.bounds().argsort(descending=True, stable=True)[: math.ceil(_FINALISTS * len(modules))]
    # In ascending order, the first start comes first.
    running = torch.cat([best, best.new_zeros(1)]).unique()
    if len(running) == 1:
        return [0]
    heat, n_epochs = heat.take(running), max(1, n_epochs // 2)
    heat.run(n_epochs, options)
    bounds = heat.bounds()
    winner = int(bounds.argmax())
    has_lead = bool(bounds[winner] > bounds[0] + n_epochs * settings.tol)
    return [0, int(running[winner])] if has_lead else [0]


def _fields(sums: GridStatistics) -> tuple[Tensor, ...]:
    """Sums of R models, which have R as their first dimension, as :func:`_of_one` takes those of one of them."""
    present = (sums.weighted, sums.mass, sums.divergence)
    return present if sums.positive is None else (*present, sums.positive)


def _of_one(n_rows: float, weighted: Tensor, mass: Tensor, divergence: Tensor, *positive: Tensor) -> GridStatistics:
    """The sums of one of the models."""
    return GridStatistics(weighted, positive[0] if positive else None, mass, divergence, n_rows)


class _Heat:
    """R models of one form, with parameters (R, Q) and q(w) of their own, and the rows that they are fitted to."""

    def __init__(self, modules: Sequence[ExactModel], source: RowSource, summary: ColumnSummary, grid: LatentGrid):
        self._models = StackedModels(modules[0])
        self._source, self._summary, self._grid = source, summary, grid
        self.parameters = torch.stack([self._models.vector_of(module) for module in modules]).requires_grad_()
        assignments = [module.assignment for module in modules]
        self._logits = (
            None
            if isinstance(assignments[0], OnlyCandidate)
            else torch.stack([cast(ClusterAssignment, assignment).logits.detach() for assignment in assignments])
        )

    def take(self, index: Tensor) -> _Heat:
        """Some of the models, as they are now."""
        some = copy(self)
        some.parameters = self.parameters.detach()[index].requires_grad_()
        some._logits = None if self._logits is None else self._logits[index]
        return some

    def run(self, n_epochs: int, options: TrainingOptions, hottest: Tensor | None = None) -> None:
        """Train all models for some epochs, in most of which they cool down from temperatures (R,), where given."""
        optimizer = torch.optim.Adam([self.parameters], lr=options.learning_rate, betas=options.betas, fused=True)
        n_hot = 0 if hottest is None else math.floor((1 - _COOL_SHARE) * n_epochs)
        for epoch in range(n_epochs):
            remaining = max(0.0, 1 - epoch / n_hot) if n_hot else 0.0
            # From where a fit begins to where its annealing ends, and on from there.
            progress = 0.5 if hottest is None else 0.5 * epoch / n_epochs
            optimizer.param_groups[0]["lr"] = options.learning_rate * cosine_decay(progress)
            sums = self._expectation(1.0 if hottest is None else hottest[:, None] ** remaining)
            self._lean(sums, cluster_temperature(remaining, self._source.total_weight))
            for _ in range(options.steps_per_epoch):
                optimizer.zero_grad()
                self._losses(sums).sum().backward()
                optimizer.step()

    @torch.no_grad()
    def bounds(self) -> Tensor:
        """In nats per sample: (R,). A model whose numbers have been lost comes last."""
        return -self._losses(self._expectation(1.0)).nan_to_num(nan=torch.inf)

    @torch.no_grad()
    def _expectation(self, temperature: float | Tensor) -> GridStatistics:
        """The E-step of every model, at one temperature or at one each (R, 1): sums with R as their first dimension."""
        grid, form, n_models = self._grid, self._models.form, len(self.parameters)
        tables = self._models.tables(ExactModel.averaged_tables_at, self.parameters, grid.points, self._logits)
        shape = (n_models, len(grid.points), -1)
        parts = []
        for _, rows in GridSource(self._source, form).chunks(n_models * len(grid.points)):
            q = joints_side_by_side(rows, tables, grid, form.beta * temperature)[0].softmax(2)
            counts, prior = counted(rows, q), log_prior(rows, grid)
            weighted, positive, mass = rows.expectations(counts.flatten(1), tables.positive is not None)
            divergence = (torch.special.xlogy(counts, q) - counts * prior).sum((0, 2))
            of_each = None if positive is None else positive.view(shape)
            parts.append(GridStatistics(weighted.view(shape), of_each, mass.view(shape), divergence, n_counted(rows)))
        return total(parts)

    @torch.no_grad()
    def _lean(self, sums: GridStatistics, temperature: float) -> None:
        """Let q(w) of every model follow what its curves say, as it does while a fit is annealed."""
        if self._logits is None:
            return

        def evidence(model: ExactModel, *fields: Tensor) -> Tensor:
            statistics = _of_one(sums.n_rows, *fields)
            candidates = model.expected_log_likelihood(statistics, self._grid.points) + model.candidate_log_prior()
            return model.without_flat(candidates.T / temperature)

        logits = self._models.ask(evidence, self.parameters, *_fields(sums), logits=self._logits)
        self._logits = logits - logits.amax(2, keepdim=True)

    def _losses(self, sums: GridStatistics) -> Tensor:
        """What every model minimises, in nats per sample: (R,)."""

        def loss(model: ExactModel, *fields: Tensor) -> Tensor:
            terms = model(_of_one(sums.n_rows, *fields), self._summary, self._grid)
            return terms.total

        return self._models.ask(loss, self.parameters, *_fields(sums), logits=self._logits)
