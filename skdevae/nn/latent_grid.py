"""A latent on a grid of few dimensions: exact posteriors and evidence of samples by logsumexp."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from .integrals import symmetric_grid
from .likelihoods import LinearTables
from .rows import Rows


@dataclass(frozen=True)
class LatentGrid:
    """Points of a latent and the log of the mass that a standard normal prior gives to each.

    ``points`` (P, Q) are all combinations of the equally spaced coordinates ``axis`` (n,), the last one fastest: P is n
    to the power Q. ``log_mass`` is (P,).
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

    def unravel(self, values: Tensor) -> Tensor:
        """Values (B, P) at the points, with one dimension for each axis: (B, n, ..., n)."""
        return values.view(len(values), *[len(self.axis)] * self.n_components)


def standard_normal_log_density(z: Tensor) -> Tensor:
    """log N(z | 0, I), summed over the last dimension."""
    return (-0.5 * z**2 - 0.5 * math.log(2 * math.pi)).sum(-1)


@dataclass(frozen=True)
class GridStatistics:
    """All that the curves need to know of the data, given q(z): sums over samples at every grid point.

    ``weighted`` (P, D) sums x, ``positive`` (P, D) sums 1[x > 0] (None where the likelihood does not ask), ``mass``
    (P, D), or (P, 1) without missing entries, sums the observed samples. ``divergence`` is the summed KL(q(z) || p(z))
    and ``n_rows`` the number of samples.
    """

    weighted: Tensor
    positive: Tensor | None
    mass: Tensor
    divergence: Tensor
    n_rows: int

    def __add__(self, other: GridStatistics) -> GridStatistics:
        return GridStatistics(
            self.weighted + other.weighted,
            None if self.positive is None or other.positive is None else self.positive + other.positive,
            self.mass + other.mass,
            self.divergence + other.divergence,
            self.n_rows + other.n_rows,
        )

    def smoothed(self) -> tuple[Tensor, Tensor, Tensor]:
        """Where samples are: a mask of the points (P,), the mass there (R,) and the mean of every feature (R, D).

        R of the points have samples; the mass is averaged over features.
        """
        mass = self.mass.mean(1)
        present = mass > 1e-6 * mass.sum()
        return present, mass[present], self.weighted[present] / self.mass[present].clamp(min=1e-6)

    def at(self, points: slice) -> GridStatistics:
        """The part that belongs to some of the points."""
        return GridStatistics(
            self.weighted[points],
            None if self.positive is None else self.positive[points],
            self.mass[points],
            self.divergence,
            self.n_rows,
        )

    def expected_log_likelihood(self, tables: LinearTables) -> Tensor:
        """Expectation under q(z), summed over samples, of the z-dependent log-likelihood: (K, D) from (P, K, D)."""
        total = (tables.zero * self.mass[:, None] + tables.slope * self.weighted[:, None]).sum(0)
        if tables.positive is not None and self.positive is not None:
            total = total + (tables.positive * self.positive[:, None]).sum(0)
        return total


def total(parts: Iterator[GridStatistics]) -> GridStatistics:
    """Statistics of all rows from those of some rows at a time."""
    return reduce(operator.add, parts)


def log_joint(rows: Rows, tables: LinearTables, grid: LatentGrid, beta: float = 1.0) -> Tensor:
    """``log p(x | z_g) / beta + log p(z_g) dz`` up to the constants of x: (B, P). A beta other than 1 tempers it."""
    return rows.log_likelihood(tables) / beta + grid.log_mass


def summarize(rows: Rows, q: Tensor, log_mass: Tensor, with_positive: bool) -> GridStatistics:
    """Statistics of rows whose latents are distributed as q (B, P) over points of given prior log mass (P,)."""
    weighted, positive, mass = rows.expectations(q, with_positive)
    divergence = torch.special.xlogy(q, q).sum() - (q @ log_mass).sum()
    return GridStatistics(weighted, positive, mass, divergence, len(rows))


def bumps_around(centers: Tensor, points: Tensor, width: float) -> Tensor:
    """A q(z) over points (P, Q) for every sample that is a Gaussian bump around a given position (B, Q): (B, P)."""
    return torch.softmax(-0.5 * ((centers[:, None] - points) / width).square().sum(-1), 1)
