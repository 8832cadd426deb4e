"""ExactModel: the latent integrated on a grid, fitted by variational expectation maximisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..cluster_prior import FINAL_STEPS, OnlyCandidate
from ..latent_grid import (
    GridStatistics,
    LatentGrid,
    distribution,
    distribution_and_log,
    log_joint,
    log_prior,
    summarize,
)
from ..likelihoods import ColumnSummary
from ..linear_tables import LinearTables
from ..losses import LossTerms
from ..rows import Rows
from .base import GenerativeModel


class ExactModel(GenerativeModel):
    """The model with its latent integrated on a grid: variational EM in which only q(w) is approximate.

    The E-step (:meth:`expected_statistics`) finds the optimal q(z) of every sample and sums the data under it. The
    M-step is the loss of :meth:`forward`, a function of those sums alone. At the q(z) of the present parameters that
    loss is the negative bound, and its gradient is the gradient of the log evidence (Fisher's identity).

    Attributes
    ----------
    latent_temperature, cluster_temperature : float
        What the likelihood is divided by when q(z) and q(w) are updated; 1 but for deterministic annealing.
    keeps_an_axis : bool
        Whether an update of q(w) that makes every feature flat is refused.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.latent_temperature = self.cluster_temperature = 1.0
        self.keeps_an_axis = False
        # Updated in closed form, between gradient steps.
        self.assignment.hold_(True)
        if self.effects is not None:
            self.effects.requires_grad_(False)
        self._prepared: tuple[Tensor, Any] | None = None

    def prepared(self, z: Tensor) -> Any:
        """Points z (P, Q) as the decoder wants them, kept for as long as the points are the same tensor."""
        prepared = self._prepared
        if prepared is None or prepared[0] is not z:
            self._prepared = prepared = z, self.decoder.prepare(z)
        return prepared[1]

    def __getstate__(self) -> dict[str, Any]:
        # Models are sent to workers with every question, and what is prepared may be larger than they are.
        return {**super().__getstate__(), "_prepared": None}

    def tables_on(self, grid: LatentGrid) -> LinearTables:
        """Coefficients averaged over q(w) on a grid: (P, D)."""
        return self.averaged_tables_at(grid.points)

    def located(self, rows: Rows, tables: LinearTables, grid: LatentGrid) -> Tensor:
        """The optimal q(z) of some rows, (B, P), given coefficients averaged over q(w)."""
        return distribution(self._log_joint(rows, tables, grid))

    def expected_statistics(self, rows: Rows, tables: LinearTables, grid: LatentGrid) -> GridStatistics:
        """The E-step for some rows, given coefficients averaged over q(w)."""
        q, log_q = distribution_and_log(self._log_joint(rows, tables, grid))
        return summarize(rows, q, log_prior(rows, grid), tables.positive is not None, log_q)

    def _log_joint(self, rows: Rows, tables: LinearTables, grid: LatentGrid) -> Tensor:
        return log_joint(rows, tables, grid, self.beta * self.latent_temperature)

    def update_clusters_(self, statistics: GridStatistics, grid: LatentGrid, max_steps: int = FINAL_STEPS) -> None:
        """Set q(w) to what the fitted curves say, given q(z).

        Where behaviours are judged apart from the curves, this is a makeshift until they are: each feature leans to the
        curves that fit it, of which a flat one is none.
        """
        if isinstance(self.assignment, OnlyCandidate) or self.is_judged:
            return
        evidence = (self.expected_log_likelihood(statistics, grid.points) + self.candidate_log_prior()).T
        if self.judges_behaviors:
            self.assignment.lean_(self.without_flat(evidence / self.cluster_temperature))
        else:
            before = self.assignment.logits.detach().clone()
            self.assignment.update_(evidence / self.cluster_temperature, self.gamma, max_steps)
            flat = self.flat_candidate
            if self.keeps_an_axis and flat is not None and bool(torch.eq(self.labels, flat).all()):
                self.assignment.lean_(before)

    def forward(self, statistics: GridStatistics, summary: ColumnSummary, grid: LatentGrid) -> LossTerms:
        """The objective given q(z), with a gradient that fits *every* candidate to every feature.

        Given q(z), the K candidate curves of a feature are K separate regressions. In the bound's gradient candidate k
        has the factor phi_jk: one with phi near zero would stop learning, and an early mistake would never be revised.
        The loss has the bound's value, but in its gradient the candidates' own parameters have the factor 1. What
        candidates or features share (noise, dispersion, basis functions) keeps the bound's gradient.
        """
        phi = self.assignment.responsibilities.T  # (K, D)
        candidates = self.expected_log_likelihood(statistics, grid.points, phi)  # (K, D)
        constant = self.linear_likelihood.column_constant(summary).sum()
        return LossTerms(
            reconstruction=-(_bound_with_full_gradient(candidates, phi) + constant) / statistics.n_rows,
            latent=statistics.divergence / statistics.n_rows,
            clusters=self.assignment.divergence(),
            parameters=-_bound_with_full_gradient(self.candidate_log_prior(), phi) - self.shared_log_prior(),
            n_samples=self.n_samples,
            beta=self.beta,
            gamma=self.gamma,
        )


def _bound_with_full_gradient(candidates: Tensor, phi: Tensor) -> Tensor:
    """The value of sum(phi * candidates) with the gradient of sum(candidates)."""
    fit = candidates.sum()
    return (phi * candidates.detach()).sum() + fit - fit.detach()
