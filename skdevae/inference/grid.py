"""Inference on grids: the exact posterior of a latent of one or two dimensions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor

from ..nn.linear_tables import LinearTables
from ..nn.models import GenerativeModel
from ..table.grid_source import GridSource
from ..table.source import RowSource
from .base import Inference, Placement, PosteriorFields, equals_share_a_grid, rows_without_entries
from .grid_ladder import latent_posterior
from .importance import sampled_log_evidence
from .latent_posterior import LatentPosterior
from .lattice import AveragingLattice, Lattice


class GridInference(Inference):
    """The latent is integrated on grids that all rows share, to a stated accuracy.

    The likelihood has to be linear in the data, and in the rows' size factors where there are any. The prior is the
    standard normal. Posteriors too narrow for any grid of two dimensions have their evidence sampled.
    """

    def posterior(self, source: RowSource, credible_level: float = 0.95) -> PosteriorFields:
        exact = self.grid_posterior(source, credible_level)
        return PosteriorFields(exact.mean, exact.sd, exact.lower, exact.upper)

    def log_evidence(self, source: RowSource) -> Tensor:
        return self.placed_log_evidence(source)[0]

    def placed(self, source: RowSource) -> Placement:
        return placement_on_grid(self.model, source, self.grid_posterior(source))

    def placed_posterior(self, source: RowSource, credible_level: float = 0.95) -> tuple[PosteriorFields, Placement]:
        exact = self.grid_posterior(source, credible_level)
        fields = PosteriorFields(exact.mean, exact.sd, exact.lower, exact.upper)
        return fields, placement_on_grid(self.model, source, exact)

    @torch.no_grad()
    def placed_log_evidence(self, source: RowSource) -> tuple[Tensor, Placement]:
        model, posterior = self.model, self.grid_posterior(source)
        placement = placement_on_grid(model, source, posterior)
        evidence = placement.log_likelihood
        narrow = ((posterior.resolved == 0) & (posterior.beyond < 0.5)).nonzero()[:, 0]
        if model.n_components > 1 and len(narrow):
            rows, evidence = source.take(narrow.cpu().numpy()), evidence.clone()
            evidence[narrow] = sampled_log_evidence(model, rows, posterior.mean[narrow], self.n_draws)
        return evidence, placement

    @torch.no_grad()
    def bound(self, source: RowSource) -> Tensor:
        """log of the integral over z of ``exp(E_q(w) log p(x | z, w)) p(z)``, for every row: (N,)."""
        posterior = exact_posterior(self.model, source, self.model.averaged_tables_at)
        return _with_constants(self.model, source, posterior.log_evidence)

    def grid_posterior(self, source: RowSource, credible_level: float | None = None) -> LatentPosterior:
        return exact_posterior(self.model, source, self.model.predictive_tables, credible_level)


def placement_on_grid(model: GenerativeModel, source: RowSource, posterior: LatentPosterior) -> Placement:
    """Where rows lie by their posteriors on a grid, with log p(x) by the sums over it."""
    return Placement(posterior.mean, _with_constants(model, source, posterior.log_evidence))


@torch.no_grad()
def _with_constants(model: GenerativeModel, source: RowSource, evidence: Tensor) -> Tensor:
    return evidence + source.gathered(partial(_row_constants, model))


def _row_constants(model: GenerativeModel, source: RowSource) -> Tensor:
    return torch.cat([model.likelihood.row_constant(rows) for _, rows in GridSource(source, model).chunks()])


@torch.no_grad()
def exact_posterior(
    model: GenerativeModel,
    source: RowSource,
    tables: Callable[[Tensor], LinearTables],
    credible_level: float | None = None,
) -> LatentPosterior:
    """Posterior of every row's latent under the coefficients that ``tables`` gives at points z (P, Q).

    Without a ``credible_level`` it has no intervals.
    """
    if source.is_distributed:
        posterior = LatentPosterior.empty(len(source), model.n_components, source.like)
        for index, found in source.mapped(
            partial(exact_posterior, model, tables=tables, credible_level=credible_level)
        ):
            posterior.put_(index, found)
        return posterior
    if not equals_share_a_grid(model, source):  # strata come one after another, however many there are
        raise ValueError(
            "A grid of the latent serves all rows together: it needs a likelihood that is linear in the data, and in "
            "the size factors of rows that have some."
        )
    if model.has_strata and model.strata is None and source.context.covariates is not None:
        return _posterior_by_strata(model, source, tables, credible_level)
    lattice = Lattice(tables, model.z_max, model.n_components, source.n_features, source.like)
    return _posterior_on(lattice, model, source, credible_level)


@torch.no_grad()
def averaged_posterior(
    model: GenerativeModel,
    source: RowSource,
    tables: Callable[[Tensor], LinearTables],
    n_models: int,
    credible_level: float = 0.95,
) -> PosteriorFields:
    """The average of R models' posteriors of every row's latent, which is one axis.

    ``tables`` gives the coefficients of all models at points z (P, 1): (R P, D), model by model. They are of the form
    of ``model``, whose curves covariates do not change.
    """
    lattice = AveragingLattice(tables, n_models, model.z_max, source.n_features, source.like)
    found = _posterior_on(lattice, model, source, credible_level)
    return PosteriorFields(found.mean, found.sd, found.lower, found.upper)


def _posterior_on(
    lattice: Lattice, model: GenerativeModel, source: RowSource, credible_level: float | None
) -> LatentPosterior:
    posterior = LatentPosterior.empty(len(source), model.n_components, source.like)
    for index, part in source.parts():
        posterior.put_(index, latent_posterior(GridSource(part, model), lattice, credible_level))
    empty = rows_without_entries(source).nonzero()[:, 0]
    posterior.put_(empty, LatentPosterior.of_the_prior(len(empty), model.n_components, source.like, credible_level))
    return posterior


def _posterior_by_strata(
    model: GenerativeModel, source: RowSource, tables: Callable[[Tensor], LinearTables], credible_level: float | None
) -> LatentPosterior:
    """The posterior of rows whose coefficients depend on their covariates: one stratum after another."""
    posterior = LatentPosterior.empty(len(source), model.n_components, source.like)
    designs, stratum = np.unique(cast(np.ndarray, source.context.covariates), axis=0, return_inverse=True)
    for number, design in enumerate(designs):
        members = np.nonzero(stratum.ravel() == number)[0]
        with model.in_strata(torch.from_numpy(design[None]).to(source.like)):
            found = exact_posterior(model, source.take(members), tables, credible_level)
        posterior.put_(torch.from_numpy(members).to(source.like.device), found)
    return posterior
