"""Exact training: one start of a model whose latent is integrated on a grid, by expectation maximisation."""

from __future__ import annotations

import math

import torch

from ..nn.latent_grid import LatentGrid
from ..nn.likelihoods import ColumnSummary
from ..nn.models import ExactModel
from ..table.source import RowSource, summarize_columns
from .batches import ExpectationSteps, expected_statistics
from .callbacks import Annealing
from .fitting import Fit, train
from .settings import FitSettings, TrainingDefaults

#: most components for which the latent is integrated on a grid
MAX_EXACT_COMPONENTS = 2
#: points of the grid along one axis, of a small and of a large table
_GRID_POINTS = {False: 129, True: 65}
#: points of the grid along each of two axes
_GRID_POINTS_2D = 49
#: gradient steps that follow each pass over a small and over a large table
_STEPS = {False: 2, True: 4}
#: passes over a large table, where nothing is said
_EPOCHS_OF_LARGE_TABLES = 50
#: Adam's decay rates: with so few steps, its memory of squared gradients is short
_BETAS = (0.9, 0.99)


def grid_of(source: RowSource, settings: FitSettings) -> LatentGrid:
    """The grid that a fit integrates the latent on."""
    default = _GRID_POINTS_2D if settings.n_components > 1 else _GRID_POINTS[source.is_large]
    n_points = settings.n_grid_points or default
    return LatentGrid.standard_normal(n_points, settings.z_max, settings.n_components).to(source.like)


def fit_exact(
    module: ExactModel,
    source: RowSource,
    validation: RowSource | None,
    summary: ColumnSummary,
    settings: FitSettings,
    defaults: TrainingDefaults,
) -> Fit:
    """Train a module that has been started, on the rows of a source; ``validation`` has the rows of early stopping."""
    grid = grid_of(source, settings)
    steps = _STEPS[source.is_large]
    max_epochs = settings.max_epochs or (_EPOCHS_OF_LARGE_TABLES if source.is_large else defaults.exact_epochs)
    options = settings.options(
        max_epochs,
        steps,
        learning_rate=defaults.exact_learning_rate,
        betas=_BETAS,
        annealed_share=defaults.annealed_share,
    )
    batches = ExpectationSteps(source, module, summary, grid, n_gradient_steps=steps, updates_clusters=True)
    batches_valid = None
    if validation is not None:
        held_out = summarize_columns(validation, module.likelihood.counts)
        batches_valid = ExpectationSteps(validation, module, held_out, grid, n_gradient_steps=1, updates_clusters=False)
    annealing = Annealing(len(source), source.n_features, math.ceil(defaults.annealed_share * max_epochs))
    result = train(module, batches, batches_valid, options, annealing, settings.callbacks or ())
    with torch.no_grad():
        module.latent_temperature = module.cluster_temperature = 1.0
        module.update_clusters_(expected_statistics(module, source, grid), grid)
        terms = module(expected_statistics(module, source, grid), summary, grid)
    return Fit(module, result.history, -float(terms.total), result.interrupted)
