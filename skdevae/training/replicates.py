"""Replicates: one fit repeated with other weights of its rows, all of them side by side.

A replicate maximises what the fit maximises, with the rows counted by weights of its own. It starts where the fit
ended, so it stays on the fit's hill, and its axis points the same way. All replicates share one pass over the table:
coefficients of R models on a grid of P points are those of one model on R P points, and so are sums of the data.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from ..inference.base import PosteriorFields
from ..inference.grid import averaged_posterior
from ..inference.quasi_newton import minimize_rows
from ..nn.cluster_prior import ClusterAssignment, OnlyCandidate
from ..nn.latent_grid import GridStatistics, LatentGrid, joints_side_by_side, log_joint, total, without_traces
from ..nn.likelihoods import ColumnSummary
from ..nn.linear_tables import LinearTables
from ..nn.models import ExactModel
from ..nn.stacked import StackedModels
from ..table.column_summary import summarize_columns
from ..table.grid_source import GridSource
from ..table.source import RowSource
from .batches import expected_statistics
from .behaviors import judge_of

#: fall in nats, of the whole table, that a further step must promise: parameters are known to about half a nat
_TOLERANCE = 0.05
#: steps of a replicate at the most
_MAX_STEPS = 200
#: numbers that the searches of replicates side by side may remember: 400 MB in single precision
_REMEMBERED = 100_000_000
#: arrays of parameters that a search holds at a time
_ARRAYS = 24
#: draws from which the information on each parameter is estimated
_INFORMATION_DRAWS = 32
#: least information on a parameter, as a share of that on a typical one
_LEAST_INFORMATION = 1e-3
#: share of the rows whose posteriors may be narrower than the spacing of the grid
_NARROWEST = 0.05


@dataclass(frozen=True)
class FittedReplicates:
    """Models that were fitted side by side.

    Attributes
    ----------
    models : StackedModels
    parameters : Tensor of shape (R, Q)
    logits : Tensor of shape (R, D, K), or None
        Those of q(w), where it was found anew for every replicate.
    grid : LatentGrid
        What latents were integrated on.
    converged : Tensor of shape (R,)
        Whether no further step promised anything.
    """

    models: StackedModels
    parameters: Tensor
    logits: Tensor | None
    grid: LatentGrid
    converged: Tensor

    def __len__(self) -> int:
        return len(self.parameters)

    def model(self, number: int) -> ExactModel:
        """One of the models."""
        return self.models.model(self.parameters[number], None if self.logits is None else self.logits[number])

    @torch.no_grad()
    def located(self, source: RowSource) -> Iterator[tuple[slice, Tensor]]:
        """For a few rows at a time their slice, and q(z) under every replicate: (B, R, P)."""
        tables = self.models.tables(ExactModel.predictive_tables, self.parameters, self.grid.points, self.logits)
        for index, rows in GridSource(source, self.models.form).chunks(len(self) * len(self.grid.points)):
            yield index, joints_side_by_side(rows, tables, self.grid, self.models.form.beta)[0].softmax(2)

    def positions(self, source: RowSource) -> np.ndarray:
        """Posterior mean of every row's latent under every replicate: (R, N)."""
        z = self.grid.points[:, 0]
        return torch.cat([q @ z for _, q in self.located(source)]).T.double().cpu().numpy()

    def posterior(self, source: RowSource, credible_level: float) -> PosteriorFields:
        """The average of the replicates' q(z | x), of rows in double precision."""
        models, parameters = self.models.double(), self.parameters.double()
        logits = None if self.logits is None else self.logits.double()

        def tables(points: Tensor) -> LinearTables:
            return models.tables(ExactModel.predictive_tables, parameters, points, logits)

        return averaged_posterior(models.form, source, tables, len(self), credible_level)


def fit_replicates(
    module: ExactModel, source: RowSource, weights: np.ndarray, n_points: int, *, judge: bool
) -> FittedReplicates:
    """Fit a model again for each of R sets of weights (R, N) of the rows of a source, which are all positive.

    Parameters
    ----------
    module : ExactModel
        One axis, without effects of covariates.
    source : RowSource
    weights : ndarray of shape (R, N)
    n_points : int
        Points of the grid that the fit had. Fewer do where posteriors are wide.
    judge : bool
        Whether every replicate finds out anew which candidate each feature follows. Otherwise q(w) is that of the fit.
    """
    models = StackedModels(module)
    grid = _grid_for(module, source, n_points)
    variances = _rough_variances(models, source, grid)
    at_once = max(1, _REMEMBERED // (_ARRAYS * len(models.start)))
    parts = [
        _fit_together(models, source, weights[first : first + at_once], grid, variances, judge)
        for first in range(0, len(weights), at_once)
    ]
    logits = [part.logits for part in parts if part.logits is not None]
    return FittedReplicates(
        models,
        torch.cat([part.parameters for part in parts]),
        torch.cat(logits) if logits else None,
        grid,
        torch.cat([part.converged for part in parts]),
    )


def _grid_for(module: ExactModel, source: RowSource, n_points: int) -> LatentGrid:
    """The coarsest grid whose spacing resolves the posteriors of nearly all rows."""
    finest = LatentGrid.standard_normal(n_points, module.z_max).to(source.like)
    with torch.no_grad():
        tables, z = module.averaged_tables_at(finest.points), finest.points
        sds = []
        for _, rows in GridSource(source, module).chunks(len(z)):
            q = log_joint(rows, tables, finest).softmax(1)
            mean = q @ z
            sds.append((q @ z.square() - mean.square()).clamp(min=0).sqrt())
    narrow = float(np.quantile(torch.cat(sds).cpu().numpy(), _NARROWEST))
    needed = math.ceil(2 * module.z_max / max(narrow, 1e-6)) + 1
    return LatentGrid.standard_normal(min(n_points, needed), module.z_max).to(source.like)


def _fit_together(
    models: StackedModels,
    source: RowSource,
    weights: np.ndarray,
    grid: LatentGrid,
    variances: Tensor,
    judge: bool,
) -> FittedReplicates:
    """Replicates whose searches fit into memory together; ``variances`` (Q,) are rough ones of parameters."""
    evidence = NegativeEvidence.of_replicates(models, source, weights, grid)
    start = models.start.expand(len(weights), -1).contiguous()
    covariance = variances.expand_as(start)
    found = minimize_rows(evidence, start, covariance, _MAX_STEPS, _TOLERANCE)
    if judge and not isinstance(models.form.assignment, OnlyCandidate):
        evidence = replace(evidence, logits=_judged(models, found.position, source, weights, grid))
        found = minimize_rows(evidence, found.position, covariance, _MAX_STEPS, _TOLERANCE)
    return FittedReplicates(models, found.position, evidence.logits, grid, found.converged)


def _rough_variances(models: StackedModels, source: RowSource, grid: LatentGrid) -> Tensor:
    """The diagonal of a rough inverse Hessian at the fit, (Q,).

    There the gradient is nearly zero, and what rows weighted by draws of variance one make of it has the variance of
    the Fisher information. The draws are always the same, so no replicate depends on the others. Parameters of which
    the table says next to nothing must not take steps without end.
    """
    draws = np.random.default_rng(0).standard_exponential((_INFORMATION_DRAWS, len(source)))
    weights = draws * source.weights * (source.total_weight / (draws @ source.weights))[:, None]
    evidence = NegativeEvidence.of_replicates(models, source, weights, grid)
    _, gradients = evidence(models.start.expand(len(weights), -1).contiguous())
    information = gradients.square().mean(0)
    return 1 / (information + _LEAST_INFORMATION * information.mean())


@torch.no_grad()
def _judged(
    models: StackedModels, parameters: Tensor, source: RowSource, weights: np.ndarray, grid: LatentGrid
) -> Tensor:
    """Logits of q(w) for every replicate, (R, D, K), found as in a fit."""
    logits = []
    for own, weight in zip(parameters, weights, strict=True):
        model = models.model(own)
        weighted = _reweighted(source, weight)
        judge = judge_of(model, weighted, grid)
        if judge is not None:
            judge()
        else:
            model.update_clusters_(expected_statistics(model, weighted, grid), grid)
        logits.append(cast(ClusterAssignment, model.assignment).logits.detach())
    return torch.stack(logits)


def _reweighted(source: RowSource, weight: np.ndarray) -> RowSource:
    return replace(source, context=source.context.replaced(weight=weight))


@dataclass(frozen=True)
class NegativeEvidence:
    """What every replicate minimises: minus its bound given q(w), (R,), as a function of its parameters (R, Q).

    The latent is integrated out, so the bound is the log evidence but for q(w).

    Attributes
    ----------
    models : StackedModels
    rows : RowSource
    weights : Tensor of shape (N, R)
    summaries : ColumnSummary or None
        What constants of the likelihood need to know, with R as the first dimension of all fields but ``column`` and
        ``value``. None where constants do not depend on parameters.
    grid : LatentGrid
    logits : Tensor of shape (R, D, K), or None
        Those of q(w). None takes those of the fit.
    """

    models: StackedModels
    rows: RowSource
    weights: Tensor
    summaries: ColumnSummary | None
    grid: LatentGrid
    logits: Tensor | None = None

    @classmethod
    def of_replicates(
        cls, models: StackedModels, source: RowSource, weights: np.ndarray, grid: LatentGrid
    ) -> NegativeEvidence:
        """The function for weights (R, N)."""
        likelihood = models.form.linear_likelihood
        summaries = None
        if likelihood.own_parameters():
            each = [summarize_columns(_reweighted(source, weight), likelihood.counts) for weight in weights]
            summaries = _stacked(each)
        by_row = torch.from_numpy(np.ascontiguousarray(weights.T)).to(source.like)
        return cls(models, source, by_row, summaries, grid)

    def take(self, index: Tensor) -> NegativeEvidence:
        """The function of some of the replicates."""
        summaries = None if self.summaries is None else _of_replicates(self.summaries, index)
        logits = None if self.logits is None else self.logits[index]
        return replace(self, weights=self.weights[:, index], summaries=summaries, logits=logits)

    def __call__(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Values (R,), in double precision, and gradients (R, Q).

        By Fisher's identity the gradient of the log evidence is that of the expected log-likelihood at the present
        q(z).
        """
        with torch.enable_grad():
            position = parameters.detach().requires_grad_()
            tables = self.models.tables(ExactModel.averaged_tables_at, position, self.grid.points, self.logits)
            evidence, expected = self._expectation(tables)
            others = self._constants_and_priors(position.double())
            (gradient,) = torch.autograd.grad(-(expected + others.sum()), position)
        return -(evidence + others.detach()), gradient

    def _expectation(self, tables: LinearTables) -> tuple[Tensor, Tensor]:
        """Log evidence of the rows (R,), and their expected log-likelihood as a function of tables (R P, D)."""
        n_replicates, beta = self.weights.shape[1], self.models.form.beta
        evidence = torch.zeros(n_replicates, dtype=torch.float64, device=self.weights.device)
        parts = []
        with torch.no_grad():
            fixed = tables.detach()
            for index, rows in GridSource(self.rows, self.models.form).chunks(n_replicates * len(self.grid.points)):
                weights = self.weights[index]  # (B, R)
                joint, at_known = joints_side_by_side(rows, fixed, self.grid, beta)
                highest = joint.amax(2, keepdim=True)
                shares = joint.sub_(highest).exp_()
                totals = shares.sum(2)
                own = highest[..., 0].double() + totals.log().double()
                q = without_traces(shares.div_(totals[..., None]))
                if at_known is not None:
                    own += (q * at_known).sum(2).double()
                evidence += beta * (weights * own).sum(0)
                counted = q.mul_(weights[..., None]).flatten(1)  # (B, R P)
                weighted, positive, mass = rows.expectations(counted, tables.positive is not None)
                parts.append(GridStatistics(weighted, positive, mass, torch.zeros(()), len(rows)))
        sums = total(iter(parts))
        expected = sums.mass * tables.zero + sums.weighted * tables.slope
        if tables.positive is not None and sums.positive is not None:
            expected = expected + sums.positive * tables.positive
        return evidence, expected.sum()

    def _constants_and_priors(self, parameters: Tensor) -> Tensor:
        """Log prior, and what the likelihood's constants add up to: (R,)."""
        priors = self.models.ask(lambda model: model.log_prior(), parameters, logits=self.logits)
        if self.summaries is None:
            return priors
        column, value = self.summaries.column, self.summaries.value

        def of_one(model: ExactModel, *own: Tensor) -> Tensor:
            n_observed, squares, multiplicity, *log_size = own
            summary = ColumnSummary(n_observed, squares, column, value, multiplicity, *log_size)
            return model.linear_likelihood.column_constant(summary).sum()

        fields = (self.summaries.n_observed, self.summaries.sum_of_squares, self.summaries.multiplicity)
        sizes = () if self.summaries.log_size is None else (self.summaries.log_size,)
        constants = self.models.ask(of_one, parameters, *(field.double() for field in (*fields, *sizes)))
        return priors + constants


def _stacked(summaries: Sequence[ColumnSummary]) -> ColumnSummary:
    """Summaries of one table under R sets of weights, with R as the first dimension of all that depends on these."""
    first = summaries[0]
    return ColumnSummary(
        torch.stack([summary.n_observed for summary in summaries]),
        torch.stack([summary.sum_of_squares for summary in summaries]),
        first.column,
        first.value,
        torch.stack([summary.multiplicity for summary in summaries]),
        None if first.log_size is None else torch.stack([cast(Tensor, summary.log_size) for summary in summaries]),
    )


def _of_replicates(summaries: ColumnSummary, index: Tensor) -> ColumnSummary:
    return replace(
        summaries,
        n_observed=summaries.n_observed[index],
        sum_of_squares=summaries.sum_of_squares[index],
        multiplicity=summaries.multiplicity[index],
        log_size=None if summaries.log_size is None else summaries.log_size[index],
    )
