"""Inference on grids: the exact posterior of a latent of one or two dimensions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..nn.linear_tables import LinearTables
from ..nn.models import GenerativeModel
from ..table.source import RowSource
from .base import Inference, PosteriorFields, share_a_grid, warn_of_far_rows, without_entries
from .grid_ladder import GridLadder, LatentPosterior, latent_posterior
from .importance import sampled_log_evidence


class GridInference(Inference):
    """The latent is integrated on grids that all rows share, to a stated accuracy.

    The likelihood has to be linear in the data, and in the rows' size factors where there are any. The prior is the
    standard normal. Posteriors too narrow for any grid of two dimensions have their evidence sampled.
    """

    def posterior(self, source: RowSource, credible_level: float = 0.95) -> PosteriorFields:
        exact = self.grid_posterior(source, credible_level)
        warn_of_far_rows(self.model, exact.mean)
        return PosteriorFields(exact.mean, exact.sd, exact.lower, exact.upper)

    @torch.no_grad()
    def log_evidence(self, source: RowSource) -> Tensor:
        model, posterior = self.model, self.grid_posterior(source)
        warn_of_far_rows(model, posterior.mean)
        evidence = self._with_constants(source, posterior.log_evidence)
        narrow = ((posterior.resolved == 0) & (posterior.beyond < 0.5)).nonzero()[:, 0]
        if model.n_components > 1 and len(narrow):
            rows = source.take(narrow.cpu().numpy())
            evidence[narrow] = sampled_log_evidence(model, rows, posterior.mean[narrow], self.n_draws)
        return evidence

    @torch.no_grad()
    def bound(self, source: RowSource) -> Tensor:
        """log of the integral over z of ``exp(E_q(w) log p(x | z, w)) p(z)``, for every row: (N,)."""
        posterior = exact_posterior(self.model, source, self.model.averaged_tables_at)
        return self._with_constants(source, posterior.log_evidence)

    def grid_posterior(self, source: RowSource, credible_level: float = 0.95) -> LatentPosterior:
        return exact_posterior(self.model, source, self.model.predictive_tables, credible_level)

    def _with_constants(self, source: RowSource, evidence: Tensor) -> Tensor:
        for index, rows in source.on_grid(self.model).chunks():
            evidence[index] += self.model.likelihood.row_constant(rows)
        return evidence


@torch.no_grad()
def exact_posterior(
    model: GenerativeModel,
    source: RowSource,
    tables: Callable[[Tensor], LinearTables],
    credible_level: float = 0.95,
) -> LatentPosterior:
    """Posterior of every row's latent under the coefficients that ``tables`` gives at points z (P, Q)."""
    if not share_a_grid(model, source):
        raise ValueError(
            "A grid of the latent serves all rows together: it needs a likelihood that is linear in the data, and in "
            "the size factors of rows that have some."
        )
    ladder = GridLadder(tables, model.z_max, model.n_components, source.n_features, source.like)
    posterior = latent_posterior(source.on_grid(model), ladder, credible_level)
    for index, rows in source.chunks():
        empty = without_entries(rows, source.like).nonzero()[:, 0]
        of_the_prior = LatentPosterior.of_the_prior(len(empty), model.n_components, source.like, credible_level)
        posterior.put_(index.start + empty, of_the_prior)
    return posterior
