"""Exact inference of a one-dimensional latent, to a stated accuracy, for a fitted model and new rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from .latent_grid import LatentGrid, log_joint
from .likelihoods import LinearTables
from .rows import Rows

#: the coarsest grid, and how often its spacing may be halved where a posterior is narrower than that
_COARSE_POINTS, _REFINEMENTS = 129, 5
#: how far, in nats, the evidence from every second point may be from that of all points; the latter is then far closer
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class LatentPosterior:
    """What the data say about each sample's latent; every field is (B,).

    ``log_evidence`` is log p(x) without the constants of x; ``resolved`` is 1 where a grid was fine enough, else 0,
    ``beyond`` how much posterior mass lies where the curves are continued as straight lines.
    """

    log_evidence: Tensor
    mean: Tensor
    sd: Tensor
    lower: Tensor
    upper: Tensor
    resolved: Tensor
    beyond: Tensor

    @staticmethod
    def empty(n_rows: int, like: Tensor) -> LatentPosterior:
        """Room for ``n_rows`` samples."""
        new = [torch.empty(n_rows, dtype=like.dtype, device=like.device) for _ in fields(LatentPosterior)]
        return LatentPosterior(*new)

    def put_(self, index: Tensor | slice, other: LatentPosterior) -> None:
        """Write the fields of some rows."""
        for field in fields(self):
            getattr(self, field.name)[index] = getattr(other, field.name)


class GridLadder:
    """Ever finer grids with the model's coefficients on each, computed when first asked for.

    Parameters
    ----------
    tables : callable
        From grid points (P,) to the likelihood's coefficients (P, D).
    z_max : float
        Where the model's knots end; the grids reach a third further.
    like : Tensor
        dtype and device.
    """

    def __init__(self, tables: Callable[[Tensor], LinearTables], z_max: float, like: Tensor):
        self.z_max = z_max
        self._tables = tables
        self._like = like
        self._steps: list[tuple[LatentGrid, LinearTables]] = []

    def __getitem__(self, step: int) -> tuple[LatentGrid, LinearTables]:
        while len(self._steps) <= step:
            n_points = (_COARSE_POINTS - 1) * 2 ** len(self._steps) + 1
            grid = LatentGrid.standard_normal(n_points, 4 / 3 * self.z_max).to(self._like)
            self._steps.append((grid, self._tables(grid.points)))
        return self._steps[step]


def latent_posterior(rows: Rows, ladder: GridLadder, credible_level: float = 0.95) -> LatentPosterior:
    """Posterior and evidence of every row, each on the coarsest grid that resolves it.

    The trapezoidal rule converges faster than any power of the spacing once the spacing is below the posterior's sd. A
    row's integral is accepted where the estimate from every second point agrees, otherwise the row goes on to a grid
    of half the spacing; rows are judged one by one, so results do not depend on which rows come together.
    """
    posterior = LatentPosterior.empty(len(rows), ladder[0][0].points)
    pending = torch.arange(len(rows), device=posterior.mean.device)
    for step in range(_REFINEMENTS + 1):
        grid, tables = ladder[step]
        joint = log_joint(rows.take(pending), tables, grid)
        evidence = torch.logsumexp(joint, 1)
        every_second = torch.logsumexp(joint[:, ::2], 1) + torch.log(torch.tensor(2.0))
        resolved = (evidence - every_second).abs() < _TOLERANCE
        done = resolved | (step == _REFINEMENTS)
        summary = _summarize(joint[done], evidence[done], resolved[done], grid, ladder.z_max, credible_level)
        posterior.put_(pending[done], summary)
        pending = pending[~done]
        if len(pending) == 0:
            break
    return posterior


def _summarize(
    joint: Tensor, evidence: Tensor, resolved: Tensor, grid: LatentGrid, z_max: float, credible_level: float
) -> LatentPosterior:
    q = torch.exp(joint - evidence[:, None])
    z = grid.points
    mean = q @ z
    sd = (q @ z**2 - mean**2).clamp(min=0).sqrt()
    tail = 0.5 * (1 - credible_level)
    lower, upper = (_quantile(q, z, level) for level in (tail, 1 - tail))
    beyond = q[:, z.abs() > z_max].sum(1)
    return LatentPosterior(evidence, mean, sd, lower, upper, resolved.to(q), beyond)


def _quantile(q: Tensor, z: Tensor, level: float) -> Tensor:
    """Quantile of each row's distribution: its cumulative mass is taken as linear between points."""
    cumulative = q.cumsum(1) - 0.5 * q
    target = torch.full((len(q), 1), level, dtype=q.dtype, device=q.device)
    right = torch.searchsorted(cumulative, target).clamp(1, len(z) - 1)
    below, above = (cumulative.gather(1, right + shift) for shift in (-1, 0))
    share = ((target - below) / (above - below).clamp(min=torch.finfo(q.dtype).tiny)).clamp(0, 1)
    return (z[right - 1] + share * (z[right] - z[right - 1])).squeeze(1)
