"""Grid ladder: the posterior of a latent of one or two dimensions, on ever finer and longer grids.

Each row is integrated to a stated accuracy, on the coarsest and shortest grid that gives it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor

from ..nn.latent_grid import LatentGrid, log_joint
from ..nn.linear_tables import LinearTables
from ..nn.rows import Rows

#: points of the coarsest grid along each axis, by number of dimensions
_COARSE_POINTS = {1: 129, 2: 65}
#: how often the spacing may be halved where a posterior is narrower than that, by number of dimensions
_REFINEMENTS = {1: 5, 2: 3}
#: entries of one (points, features) table, beyond which a grid of two dimensions is not refined
_TABLE_ENTRIES = 30_000_000
#: How far, in nats, estimates from every second point may be from those of all points. Where the spacing is below a
#: posterior's sd, halving it takes the error to about its fourth power, so the latter is right to far less than 1e-4.
_TOLERANCE = 1e-2
#: most posterior mass that may lie on the ends of a grid
_MASS_AT_ENDS = 1e-7
#: how often a grid may be doubled in length to get there
_EXTENSIONS = 3
#: nodes of the quadrature within a cell, and halvings of a cell, for quantiles
_GAUSS_NODES, _BISECTIONS = 4, 40
#: largest log density between points that a cubic may claim, relative to the mass at points
_LARGEST_EXPONENT = 50.0


@dataclass(frozen=True)
class LatentPosterior:
    """What the data say about each row's latent.

    ``mean``, ``sd``, ``lower`` and ``upper`` are (B, Q), by component. The others are (B,): ``log_evidence`` is
    log p(x) without the constants of x; ``resolved`` is 1 where a grid was fine enough, else 0; ``beyond`` is how much
    posterior mass lies beyond ``z_max``.
    """

    log_evidence: Tensor
    mean: Tensor
    sd: Tensor
    lower: Tensor
    upper: Tensor
    resolved: Tensor
    beyond: Tensor

    @staticmethod
    def empty(n_rows: int, n_components: int, like: Tensor) -> LatentPosterior:
        """Room for ``n_rows`` rows."""
        by_component = {"mean", "sd", "lower", "upper"}
        return LatentPosterior(
            *(
                like.new_empty((n_rows, n_components) if field.name in by_component else (n_rows,))
                for field in fields(LatentPosterior)
            )
        )

    @staticmethod
    def of_the_prior(n_rows: int, n_components: int, like: Tensor, credible_level: float) -> LatentPosterior:
        """The posterior of rows that say nothing: the standard normal prior."""
        zeros, none = like.new_zeros(n_rows, n_components), like.new_zeros(n_rows)
        half_width = zeros + float(norm.ppf(0.5 + 0.5 * credible_level))
        return LatentPosterior(none, zeros, zeros + 1, -half_width, half_width, none + 1, none)

    def put_(self, index: Tensor | slice, other: LatentPosterior) -> None:
        """Write the fields of some rows."""
        for field in fields(self):
            getattr(self, field.name)[index] = getattr(other, field.name)


class GridLadder:
    """Ever finer grids with the model's coefficients on each, computed when first asked for.

    Parameters
    ----------
    tables : callable
        From grid points (P, Q) to the likelihood's coefficients (P, D).
    z_max : float
        Where the model's curves end; the grids reach a third further.
    n_components : int
        Dimensions Q of the latent, one or two.
    like : Tensor
        dtype and device.
    n_extensions : int
        How often the grids' length has been doubled.
    """

    def __init__(
        self,
        tables: Callable[[Tensor], LinearTables],
        z_max: float,
        n_components: int,
        like: Tensor,
        n_extensions: int = 0,
    ):
        self.z_max = z_max
        self.n_components = n_components
        self._tables = tables
        self._like = like
        self._n_extensions = n_extensions
        self._steps: list[tuple[LatentGrid, LinearTables]] = []
        self._extended: GridLadder | None = None

    def __getitem__(self, step: int) -> tuple[LatentGrid, LinearTables]:
        while len(self._steps) <= step:
            n_intervals = (_COARSE_POINTS[self.n_components] - 1) * 2 ** (len(self._steps) + self._n_extensions)
            reach = 4 / 3 * self.z_max * 2**self._n_extensions
            grid = LatentGrid.standard_normal(n_intervals + 1, reach, self.n_components).to(self._like)
            self._steps.append((grid, self._tables(grid.points)))
        return self._steps[step]

    def is_last(self, step: int) -> bool:
        """Whether there is no finer grid than this one."""
        return step == _REFINEMENTS[self.n_components] or self._is_full(step)

    def extended(self) -> GridLadder | None:
        """The ladder of grids of twice the length, for rows that lie beyond these; None where there is no more."""
        if self._n_extensions == _EXTENSIONS or self._is_full(0):
            return None
        if self._extended is None:
            self._extended = GridLadder(self._tables, self.z_max, self.n_components, self._like, self._n_extensions + 1)
        return self._extended

    def _is_full(self, step: int) -> bool:
        """Whether a grid of two dimensions with twice the points along each axis would take too much memory."""
        return self.n_components > 1 and 4 * self[step][1].slope.numel() > _TABLE_ENTRIES


def latent_posterior(rows: Rows, ladder: GridLadder, credible_level: float = 0.95) -> LatentPosterior:
    """Posterior and evidence of every row, each on the coarsest grid that resolves it and the shortest that holds it.

    The trapezoidal rule converges faster than any power of the spacing once the spacing is below the posterior's sd. A
    row's integral is accepted where the estimate from every second point agrees, otherwise the row goes on to a grid
    of half the spacing. Rows are judged one by one, so results do not depend on which rows come together.
    """
    posterior = LatentPosterior.empty(len(rows), ladder.n_components, ladder[0][0].points)
    at_ends = torch.zeros_like(posterior.beyond)
    pending = torch.arange(len(rows), device=at_ends.device)
    step = 0
    while len(pending):
        grid, tables = ladder[step]
        joint = log_joint(rows.take(pending), tables, grid)
        evidence = torch.logsumexp(joint, 1)
        resolved = _error(joint, evidence, grid) < _TOLERANCE
        done = resolved | ladder.is_last(step)
        q = torch.exp(joint[done] - evidence[done, None])
        summary = _summarize(q, evidence[done], resolved[done], grid, ladder.z_max, credible_level)
        posterior.put_(pending[done], summary)
        at_ends[pending[done]] = q[:, (grid.points.abs() == grid.axis[-1]).any(1)].sum(1)
        pending = pending[~done]
        step += 1
    outside = at_ends > _MASS_AT_ENDS
    longer = ladder.extended() if outside.any() else None
    if longer is not None:
        posterior.put_(outside, latent_posterior(rows.take(outside.nonzero()[:, 0]), longer, credible_level))
    return posterior


def _error(joint: Tensor, evidence: Tensor, grid: LatentGrid) -> Tensor:
    """How far estimates from every second point are from those of all points, in nats: (B,).

    The error of the evidence swings with the posterior's place between points, as a cosine does: it is zero at some
    places by accident. There the error of the mean, which swings as the sine, is at its largest. In units of
    ``pi sd^2 / spacing`` the two swing by as much.
    """
    every_second = (slice(None), *[slice(None, None, 2)] * grid.n_components)
    coarse_joint = grid.unravel(joint)[every_second].flatten(1)
    coarse_evidence = torch.logsumexp(coarse_joint, 1)
    coarse_points = grid.points.view(*[len(grid.axis)] * grid.n_components, -1)[every_second[1:]].flatten(0, -2)
    q, coarse_q = torch.exp(joint - evidence[:, None]), torch.exp(coarse_joint - coarse_evidence[:, None])
    mean = q @ grid.points
    variance = (q @ grid.points**2 - mean**2).clamp(min=torch.finfo(q.dtype).tiny)
    of_the_mean = (coarse_q @ coarse_points - mean).abs() * (grid.axis[1] - grid.axis[0]) / (math.pi * variance)
    of_the_evidence = (coarse_evidence + grid.n_components * math.log(2) - evidence).abs()
    return torch.maximum(of_the_evidence, of_the_mean.amax(1))


def _summarize(
    q: Tensor, evidence: Tensor, resolved: Tensor, grid: LatentGrid, z_max: float, credible_level: float
) -> LatentPosterior:
    mean = q @ grid.points
    sd = (q @ grid.points**2 - mean**2).clamp(min=0).sqrt()
    tail = 0.5 * (1 - credible_level)
    marginals = [_marginal(grid.unravel(q), component) for component in range(grid.n_components)]
    ends = [_quantiles(marginal, grid.axis, (tail, 1 - tail)) for marginal in marginals]
    lower, upper = (torch.stack(by_component, 1) for by_component in zip(*ends, strict=True))
    beyond = q[:, (grid.points.abs() > z_max).any(1)].sum(1)
    return LatentPosterior(evidence, mean, sd, lower, upper, resolved.to(q), beyond)


def _marginal(q: Tensor, component: int) -> Tensor:
    """Distribution of one component, (B, n), from that of all, (B, n, ..., n)."""
    others = [axis for axis in range(1, q.ndim) if axis != component + 1]
    return q.sum(others) if others else q


def _quantiles(q: Tensor, z: Tensor, levels: Sequence[float]) -> list[Tensor]:
    """Quantiles of each row's distribution q (B, n) over equally spaced points z (n,): (B,) for each level.

    Between points, the log density is a cubic that has the values there, and central differences as slopes. Where a
    posterior is Gaussian, that is the log density itself.
    """
    log_density = q.clamp(min=torch.finfo(q.dtype).tiny).log()
    inner = 0.5 * (log_density[:, 2:] - log_density[:, :-2])
    rise = log_density.diff(dim=1)  # (B, n - 1)
    slope = torch.cat([rise[:, :1], inner, rise[:, -1:]], 1)
    coefficients = torch.stack([log_density[:, :-1], slope[:, :-1], rise, slope[:, 1:]], -1)  # (B, n - 1, 4)
    mass = _mass_within(coefficients, torch.ones_like(rise))
    cumulative = mass.cumsum(1)
    found = []
    for level in levels:
        target = level * cumulative[:, -1:]
        cell = torch.searchsorted(cumulative, target).clamp(max=len(z) - 2)
        before = (cumulative - mass).gather(1, cell)
        cubic = coefficients.gather(1, cell[..., None].expand(-1, -1, 4))
        below, above = torch.zeros_like(target), torch.ones_like(target)
        for _ in range(_BISECTIONS):
            middle = 0.5 * (below + above)
            is_short = before + _mass_within(cubic, middle) < target
            below, above = torch.where(is_short, middle, below), torch.where(is_short, above, middle)
        found.append((z[cell] + 0.5 * (below + above) * (z[1] - z[0])).squeeze(1))
    return found


def _mass_within(coefficients: Tensor, share: Tensor) -> Tensor:
    """Integral of a density over the first ``share`` of cells whose length is one: (B, C).

    ``coefficients`` (B, C, 4) of its log are the value and the slope on the left, the rise, and the slope on the right.
    """
    value, left, rise, right = coefficients.unbind(-1)
    nodes, weights = np.polynomial.legendre.leggauss(_GAUSS_NODES)
    total = torch.zeros_like(share)
    for node, weight in zip(0.5 + 0.5 * nodes, 0.5 * weights, strict=True):
        t = node * share
        cubic = value + t * (left + t * (3 * rise - 2 * left - right + t * (left + right - 2 * rise)))
        total += weight * share * cubic.clamp(max=_LARGEST_EXPONENT).exp()
    return total
