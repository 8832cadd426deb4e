"""Latent grids: a latent of one or two dimensions on a grid, and sums of the data at its points.

On a grid the posterior of a sample is a softmax over the points, and its evidence a logsumexp.

A row whose position along the first axis is given has a prior of its own there. If it is exactly known, the row's mass
lies on the two points around the position, in the shares that interpolate linearly, and nothing that the row holds
moves it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor
from torch.nn.functional import threshold

from .integrals import symmetric_grid
from .linear_tables import LinearTables
from .row_context import RowContext
from .rows import Rows
from .strata import among_strata

#: share of a row below which a point has nothing of it
_LEAST_SHARE = math.exp(-40)


@dataclass(frozen=True)
class LatentGrid:
    """Points of a latent, each with the log of its mass under a standard normal prior.

    Attributes
    ----------
    axis : Tensor of shape (n,)
        Equally spaced coordinates, the same along each of Q dimensions.
    points : Tensor of shape (P, Q)
        All combinations of coordinates, P = n to the power Q. The last coordinate changes fastest.
    log_mass : Tensor of shape (P,)
        Log of the prior's density times the volume of a cell.
    """

    axis: Tensor
    points: Tensor
    log_mass: Tensor

    @classmethod
    def standard_normal(cls, n_points: int, z_max: float, n_components: int = 1) -> LatentGrid:
        """A grid from -z_max to z_max along each of ``n_components`` axes. Float64."""
        axis = symmetric_grid(n_points, z_max)
        points = torch.cartesian_prod(*[axis] * n_components).view(-1, n_components)
        spacing = 2 * z_max / (len(axis) - 1)
        return cls(axis, points, standard_normal_log_density(points) + n_components * math.log(spacing))

    @property
    def n_components(self) -> int:
        """Q, the number of dimensions."""
        return self.points.shape[1]

    def to(self, like: Tensor) -> LatentGrid:
        """The same grid with the dtype and on the device of another tensor."""
        return LatentGrid(self.axis.to(like), self.points.to(like), self.log_mass.to(like))

    @property
    def spacing(self) -> float:
        """Distance of neighbouring coordinates."""
        return float(self.axis[1] - self.axis[0])

    def coarser(self, factor: float) -> LatentGrid:
        """A grid of the same extent whose points are at most ``factor`` times as far apart."""
        cells_of_half = math.ceil((len(self.axis) - 1) / 2 / factor)
        if 2 * cells_of_half + 1 >= len(self.axis):
            return self
        coarse = LatentGrid.standard_normal(2 * cells_of_half + 1, float(self.axis[-1]), self.n_components)
        return coarse.to(self.points)

    def unravel(self, values: Tensor) -> Tensor:
        """Values (B, P) at the points, with one dimension for each axis: (B, n, ..., n)."""
        return values.view(len(values), *[len(self.axis)] * self.n_components)


def standard_normal_log_density(z: Tensor) -> Tensor:
    """log N(z | 0, I), summed over the last dimension."""
    return (-0.5 * z**2 - 0.5 * math.log(2 * math.pi)).sum(-1)


@dataclass(frozen=True)
class GridStatistics:
    """Sums over samples at every grid point, weighted by q(z): all that a fit of the curves needs of the data.

    Attributes
    ----------
    weighted : Tensor of shape (P, D)
        Sums of x.
    positive : Tensor of shape (P, D) or None
        Sums of 1[x > 0]. None where the likelihood does not use them.
    mass : Tensor of shape (P, D) or (P, 1)
        Number of observed samples. (P, 1) where no entry is missing.
    divergence : scalar Tensor
        Sum of KL(q(z) || p(z)).
    n_rows : float
        Number of samples, or their total weight.
    """

    weighted: Tensor
    positive: Tensor | None
    mass: Tensor
    divergence: Tensor
    n_rows: float

    def __add__(self, other: GridStatistics) -> GridStatistics:
        return GridStatistics(
            self.weighted + other.weighted,
            None if self.positive is None or other.positive is None else self.positive + other.positive,
            self.mass + other.mass,
            self.divergence + other.divergence,
            self.n_rows + other.n_rows,
        )

    def times(self, factor: float) -> GridStatistics:
        """The sums where every sample counts ``factor`` times."""
        positive = None if self.positive is None else factor * self.positive
        return GridStatistics(
            factor * self.weighted, positive, factor * self.mass, factor * self.divergence, factor * self.n_rows
        )

    def to(self, like: Tensor) -> GridStatistics:
        """The same sums with the dtype and on the device of another tensor."""
        positive = None if self.positive is None else self.positive.to(like)
        return GridStatistics(
            self.weighted.to(like), positive, self.mass.to(like), self.divergence.to(like), self.n_rows
        )

    def among_strata(self, numbers: Tensor, n_strata: int) -> GridStatistics:
        """Sums in L strata as those of more strata, of which these have the numbers (L,)."""
        weighted, mass = (among_strata(part, numbers, n_strata) for part in (self.weighted, self.mass))
        positive = None if self.positive is None else among_strata(self.positive, numbers, n_strata)
        return GridStatistics(weighted, positive, mass, self.divergence, self.n_rows)

    def double(self) -> GridStatistics:
        """The same sums in double precision."""
        return self.to(self.weighted.double())

    def of_columns(self, columns: Tensor | slice) -> GridStatistics:
        """The sums of some features."""
        return GridStatistics(
            self.weighted[:, columns],
            None if self.positive is None else self.positive[:, columns],
            self.mass[:, columns] if self.mass.shape == self.weighted.shape else self.mass,
            self.divergence,
            self.n_rows,
        )

    def mean(self) -> Tensor:
        """Mean of every feature at every point: (P, D); 0 where no sample is."""
        return self.weighted / self.mass.clamp(min=1e-12)

    def smoothed(self) -> tuple[Tensor, Tensor, Tensor]:
        """The points that have samples, and what the samples are like there.

        Returns a mask of the points (P,), of which R are true, and for those R points the mass, averaged over features
        (R,), and the mean of every feature (R, D).
        """
        mass = self.mass.mean(1)
        present = mass > 1e-6 * mass.sum()
        return present, mass[present], self.weighted[present] / self.mass[present].clamp(min=1e-6)

    def at(self, points: slice | Tensor) -> GridStatistics:
        """The sums at some of the points. ``divergence`` and ``n_rows`` stay those of all points."""
        return GridStatistics(
            self.weighted[points],
            None if self.positive is None else self.positive[points],
            self.mass[points],
            self.divergence,
            self.n_rows,
        )

    def expected_log_likelihood(self, tables: LinearTables) -> Tensor:
        """Sum over samples of the expected log-likelihood under q(z): (K, D), given tables (P, K, D).

        Terms of the log-likelihood that do not depend on z are left out.
        """
        total = (tables.zero * self.mass[:, None] + tables.slope * self.weighted[:, None]).sum(0)
        if tables.positive is not None and self.positive is not None:
            total = total + (tables.positive * self.positive[:, None]).sum(0)
        return total


def where_rows_are(statistics: GridStatistics, grid: LatentGrid) -> tuple[GridStatistics, LatentGrid]:
    """The sums (L P, D) in L strata at those of the points (P, Q) that have rows, and the grid of these points."""
    present = statistics.mass.amax(1).unflatten(0, (-1, len(grid.points))).amax(0) > 0
    of_strata = present.repeat(len(statistics.mass) // len(present))
    return statistics.at(of_strata), LatentGrid(grid.axis, grid.points[present], grid.log_mass[present])


def total(parts: Iterable[GridStatistics]) -> GridStatistics:
    """The sums over all rows, from sums over a few rows at a time."""
    return reduce(operator.add, parts)


def side_by_side(parts: Sequence[GridStatistics], widths: Sequence[int] | None) -> GridStatistics:
    """The sums of one group of features after another's, for the same rows.

    ``widths`` are the sizes of the groups. It is None where nothing is missing. The mass is then the mean of the
    groups' masses, (P, 1).
    """
    weighted = torch.cat([part.weighted for part in parts], 1)
    positive = [part.positive for part in parts if part.positive is not None]
    if widths is None:
        mass = torch.stack([part.mass for part in parts]).mean(0)
    else:
        mass = torch.cat([part.mass.expand(-1, width) for part, width in zip(parts, widths, strict=True)], 1)
    first = parts[0]
    return GridStatistics(weighted, torch.cat(positive, 1) if positive else None, mass, first.divergence, first.n_rows)


def log_joint(rows: Rows, tables: LinearTables, grid: LatentGrid, temperature: float = 1.0) -> Tensor:
    """``log p(x | z_g) / temperature + log(p(z_g) dz)`` of every row at every grid point, (B, P).

    It lacks the term of log p(x | z) that depends on x alone, or on an exactly known position. A temperature above 1
    makes the likelihood flatter.
    """
    return torch.add(log_prior(rows, grid), log_likelihood(rows, tables, grid), alpha=1 / temperature)


def distribution(log_joint: Tensor) -> Tensor:
    """q(z) of rows, (B, P), from the log of its mass up to a constant, (B, P); without traces.

    Nearly all points have no more than those where rows say much of their latents, and their exponentials are slow.
    """
    return distribution_and_log(log_joint)[0]


def distribution_and_log(log_joint: Tensor) -> tuple[Tensor, Tensor]:
    """:func:`distribution`, and its logarithm (B, P), which is some finite number where q has no more than traces."""
    relative = (log_joint - log_joint.amax(1, keepdim=True)).clamp_(min=math.log(_LEAST_SHARE) - 1)
    q = relative.exp()
    mass = q.sum(1, keepdim=True)
    return without_traces(q.div_(mass)), relative.sub_(mass.log())


def log_likelihood(rows: Rows, tables: LinearTables, grid: LatentGrid) -> Tensor:
    """What rows say of their latents, at every grid point: (B, P). See :func:`log_joint`."""
    return beside_known_positions(rows.log_likelihood(tables), rows, grid)


def log_prior(rows: Rows, grid: LatentGrid, shared: Tensor | None = None) -> Tensor:
    """Log prior mass of rows at the grid points: (P,), or (B, P) where rows have priors of their own.

    ``shared`` (P,) or (B, P) stands for that of the grid, in rows of which nothing is known beforehand.
    """
    shared = grid.log_mass if shared is None else shared
    mean, sd = rows.context.axis, rows.context.axis_sd
    if mean is None or sd is None:
        return shared
    deviations = (mean[:, None] - grid.axis) / sd.clamp(min=torch.finfo(sd.dtype).tiny)[:, None]
    normal = (-0.5 * deviations.square()).log_softmax(1)
    along = torch.where(_exactly_known(rows.context, grid)[:, None], _interpolating(mean, grid).log(), normal)
    across = grid.points[:, 1:]
    log_mass = standard_normal_log_density(across) + across.shape[1] * math.log(grid.spacing)  # of other axes, (P,)
    own = along.repeat_interleave(len(grid.points) // len(grid.axis), 1) + log_mass
    return torch.where(mean.isnan()[:, None], shared, own)


def beside_known_positions(values: Tensor, rows: Rows, grid: LatentGrid) -> Tensor:
    """Log-likelihoods (B, P) of rows at the points; where a row's position is exactly known, those that are left.

    They are a function of the other coordinates then, and without any the same everywhere.
    """
    mean = rows.context.axis
    if mean is None:
        return values
    known = _exactly_known(rows.context, grid)[:, None]
    if grid.n_components == 1:
        return values.masked_fill(known, 0.0)
    by_coordinate = values.unflatten(1, (len(grid.axis), -1))  # of the first axis, and of the others
    left = torch.einsum("ba,bar->br", _interpolating(mean, grid), by_coordinate)
    return torch.where(known, left.repeat(1, len(grid.axis)), values)


def all_positions_are_known(context: RowContext, grid: LatentGrid) -> bool:
    """Whether q(z) of all rows follows from what is known beforehand, whatever the curves are."""
    if context.axis_sd is None or grid.n_components > 1:
        return False
    return bool((context.axis_sd <= _least_sd(grid)).all())


def prior_variances(rows: Rows, grid: LatentGrid) -> Tensor:
    """Variances of the latents of rows beforehand: (B, Q), of which that of a known position is 0."""
    variances = grid.points.new_ones(len(rows), grid.n_components)
    sd = rows.context.axis_sd
    if sd is not None:
        own = torch.where(_exactly_known(rows.context, grid), 0.0, sd.square())
        variances[:, 0] = torch.where(sd.isnan(), variances[:, 0], own)
    return variances


def _exactly_known(context: RowContext[Tensor], grid: LatentGrid) -> Tensor:
    """Which rows have positions that are known as exactly as the grid can tell: (B,) of booleans."""
    assert context.axis_sd is not None  # known positions come with it
    return context.axis_sd <= _least_sd(grid)


def _least_sd(grid: LatentGrid) -> float:
    """Standard deviation below which a normal distribution on a grid is no other than linear interpolation."""
    return 0.5 * grid.spacing


def _interpolating(positions: Tensor, grid: LatentGrid) -> Tensor:
    """The weights (B, n) of the first axis' coordinates that interpolate at positions (B,); zeros where these are NaN.

    Positions beyond the ends of the grid are at the ends.
    """
    within = positions.clamp(grid.axis[0], grid.axis[-1])
    return (1 - (within[:, None] - grid.axis).abs() / grid.spacing).clamp(min=0).nan_to_num(nan=0.0)


def joints_side_by_side(
    rows: Rows, tables: LinearTables, grid: LatentGrid, temperature: float | Tensor = 1.0
) -> tuple[Tensor, Tensor | None]:
    """:func:`log_joint` under R models at once, with coefficients (R P, D) of all of them: (B, R, P).

    They have one temperature, or one each (R, 1).

    With it comes what it lacks where positions are known, or None where none is: log p(x | z) at the points (B, R, P).
    """
    likelihood = rows.log_likelihood(tables).view(len(rows), -1, len(grid.points)) / temperature
    prior = log_prior(rows, grid)
    prior = prior if prior.ndim == 1 else prior[:, None]
    if rows.context.axis is None:
        return likelihood.add_(prior), None
    known = _exactly_known(rows.context, grid)[:, None, None]
    return likelihood.masked_fill(known, 0.0) + prior, likelihood.masked_fill(~known, 0.0)


def counted(rows: Rows, values: Tensor) -> Tensor:
    """Values (B, ...) of rows, each times its row's weight: the terms of a sum in which a row of weight w is w rows."""
    weight = rows.context.weight
    return values if weight is None else values * weight.to(values).view(-1, *[1] * (values.ndim - 1))


def n_counted(rows: Rows) -> float:
    """How many rows there are, a row of weight w being w rows."""
    weight = rows.context.weight
    return len(rows) if weight is None else float(weight.sum())


def summarize(
    rows: Rows, q: Tensor, log_mass: Tensor, with_positive: bool, log_q: Tensor | None = None
) -> GridStatistics:
    """Sums over rows whose latents have the distributions q (B, P) over points of prior log mass ``log_mass``.

    The latter is (P,), or (B, P) where rows have priors of their own. A row of weight w counts as w rows. ``log_q``
    comes with a q of :func:`distribution_and_log`: a logarithm costs as much as all else.
    """
    if log_q is None:
        q = without_traces(q)
        log_q = q.clamp(min=_LEAST_SHARE).log()  # where there are no traces, 0 times this is 0
    counts = counted(rows, q)
    weighted, positive, mass = rows.expectations(counts, with_positive)
    if log_mass.ndim == 1:
        expected = (counts @ log_mass).sum()
    else:
        expected = torch.where(counts > 0, counts * log_mass, 0.0).sum()  # no mass may be where there can be none
    divergence = torch.linalg.vecdot(counts, log_q).sum() - expected
    return GridStatistics(weighted, positive, mass, divergence, n_counted(rows))


def without_traces(q: Tensor) -> Tensor:
    """Distributions q with zeros for shares that no sum would show.

    Among them are subnormal numbers, with which processors are slow.
    """
    return threshold(q, _LEAST_SHARE, 0.0)


def bumps_around(centers: Tensor, points: Tensor, width: float) -> Tensor:
    """For each of B samples a q(z) over points (P, Q): a Gaussian of sd ``width`` around its center (B, Q): (B, P)."""
    return torch.softmax(-0.5 * ((centers[:, None] - points) / width).square().sum(-1), 1)
