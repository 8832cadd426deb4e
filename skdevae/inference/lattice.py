"""Lattice: log densities of rows at points of a lattice of the latent, on windows of each row's own.

A lattice has equally spaced points along each axis, zero among them. Its levels say how often the spacing along each
axis has been halved. Rows whose windows overlap need the same points. So a lattice is cut into tiles. Each is evaluated
once, for all rows of whose windows it is a part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..nn.linear_tables import LinearTables
from ..nn.rows import Rows

#: intervals of the grid around zero along each axis, on either side, by number of dimensions
_HALF = {1: 64, 2: 32}
#: points of a tile along each axis, by number of dimensions; the most that the tiles of a grid around zero have
_TILE, _MOST_OF_WHOLE = {1: 16, 2: 8}, {1: 64, 2: 16}
#: entries of a (points, features) table that a window may have, and its most points
_TABLE_ENTRIES, _MOST_POINTS = 50_000_000, 2**18
#: entries of such a table that is made at once, and of a (rows, points) array
ENTRIES_AT_ONCE = 2_000_000
#: entries of such tables that are kept for the next rows
_KEPT_ENTRIES = 8_000_000


@dataclass(frozen=True)
class Windows:
    """Windows of one shape on one lattice, one for each of B rows.

    Attributes
    ----------
    levels : tuple of int
        How often the lattice's spacing has been halved along each axis.
    spacing : Tensor of shape (Q,)
    low : Tensor of shape (B, Q), integers
        First point along each axis, in spacings.
    shape : tuple of int
        Points along each axis.
    """

    levels: tuple[int, ...]
    spacing: Tensor
    low: Tensor
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.low)

    @property
    def n_components(self) -> int:
        """Q, the number of dimensions."""
        return len(self.shape)

    @cached_property
    def axes(self) -> list[Tensor]:
        """Coordinates along each axis, relative to the windows' centers: (n,) each."""
        return [h * (_places(n, h) - 0.5 * (n - 1)) for h, n in zip(self.spacing, self.shape, strict=True)]

    @cached_property
    def center(self) -> Tensor:
        """Centers of the windows, (B, Q)."""
        half = 0.5 * (torch.tensor(self.shape, device=self.low.device) - 1)
        return self.spacing * (self.low.to(self.spacing) + half)

    def coordinates(self) -> list[Tensor]:
        """Coordinates along each axis: (B, n) each."""
        return [
            h * (low[:, None].to(h) + _places(n, h))
            for h, low, n in zip(self.spacing, self.low.unbind(1), self.shape, strict=True)
        ]

    def log_prior_mass(self) -> list[Tensor]:
        """Log of the standard normal prior's density times the spacing along each axis: (B, n) each."""
        constants = self.spacing.log() - 0.5 * math.log(2 * math.pi)
        return [constant - 0.5 * z**2 for constant, z in zip(constants, self.coordinates(), strict=True)]

    def tiles(self, side: int) -> Tensor:
        """First points of the tiles of ``side`` points along each axis that windows consist of: (B, T, Q)."""
        firsts = [torch.arange(0, n, side, device=self.low.device) for n in self.shape]
        return self.low[:, None] + torch.cartesian_prod(*firsts).view(-1, self.n_components)

    def at(self, index: slice | Tensor) -> Windows:
        """Those of some of the rows."""
        return Windows(self.levels, self.spacing, self.low[index], self.shape)


def _places(n: int, like: Tensor) -> Tensor:
    return torch.arange(n, device=like.device).to(like)


def along(values: Tensor, axis: int, n_components: int) -> Tensor:
    """Values (B, n) along one axis of windows, such that they broadcast with values at all points: (B, 1, n, 1)."""
    return values.view(len(values), *[values.shape[1] if other == axis else 1 for other in range(n_components)])


class Lattice:
    """Log densities at the points of a lattice of the latent, whose spacing may be halved and doubled.

    Parameters
    ----------
    tables : callable
        From points (P, Q) to the likelihood's coefficients (P, D).
    z_max : float
        Where the model's curves end; the grid around zero reaches a third further.
    n_components : int
        Dimensions Q of the latent, one or two.
    n_features : int
        D.
    like : Tensor
        dtype and device.
    """

    #: number of models R that the densities are averages over
    n_models = 1

    def __init__(
        self,
        tables: Callable[[Tensor], LinearTables],
        z_max: float,
        n_components: int,
        n_features: int,
        like: Tensor,
    ):
        self.z_max = z_max
        self.n_components = n_components
        self.n_features = n_features
        self.like = like
        self._tables = tables
        #: the last tiles, by levels, side and first points, and their coefficients
        self._kept: tuple[tuple[tuple[int, ...], int, list[list[int]]], list[LinearTables]] | None = None

    # ---- windows ----------------------------------------------------------------------------------------------------

    @property
    def whole_shape(self) -> tuple[int, ...]:
        """Points along each axis of the grids around zero. No other window has this shape."""
        return (2 * _HALF[self.n_components] + 1,) * self.n_components

    @property
    def tile(self) -> int:
        """Windows begin and end at multiples of as many spacings."""
        return _TILE[self.n_components]

    @property
    def most_points(self) -> float:
        """How many points a window may have."""
        return min(_TABLE_ENTRIES / (self.n_models * self.n_features), _MOST_POINTS)

    @property
    def first_of_whole(self) -> int:
        """First point of the grids around zero along each axis, in spacings."""
        return -_HALF[self.n_components]

    def windows(self, levels: tuple[int, ...], low: Tensor, shape: tuple[int, ...]) -> Windows:
        """Windows that begin at ``low`` (B, Q), in spacings."""
        widest = 4 / 3 * self.z_max / _HALF[self.n_components]
        spacing = torch.tensor([math.ldexp(widest, -level) for level in levels], dtype=torch.float64)
        return Windows(levels, spacing.to(self.like), low, shape)

    # ---- densities --------------------------------------------------------------------------------------------------

    def log_joints(self, windows: list[Windows], rows: Rows) -> list[Tensor]:
        """log p(x | z) + log of the prior's mass at the points of each row's window: (B, n, ...) for each shape.

        The rows are those of one shape after those of another. All are on one lattice. The constants of x are left out.
        """
        side, n_components = self._side_of_tiles(windows[0].shape), self.n_components
        places = [some.tiles(side) for some in windows]
        row = torch.arange(len(rows), device=self.like.device)
        row = row.repeat_interleave(torch.cat([torch.full_like(some[:, 0, 0], some.shape[1]) for some in places]))
        place = torch.cat([some.flatten(0, 1) for some in places])  # of each pair of a row and a tile
        order = sorted_by_columns(place)
        tiles, sizes = torch.unique_consecutive(place[order], dim=0, return_counts=True)
        found = self.like.new_empty(len(place), self.n_models, side**n_components)
        pairs = zip(row[order].split(sizes.tolist()), order.split(sizes.tolist()), strict=True)
        for tables, (members, pair) in zip(self._tables_of(windows[0], tiles, side), pairs, strict=True):
            some = rows if len(members) == len(rows) else rows.take(members)
            found[pair] = some.log_likelihood(tables).view(len(members), self.n_models, -1)
        parts = found.split([some.shape[0] * some.shape[1] for some in places])
        return [self._combined(self._joined(part, side, some), some) for part, some in zip(parts, windows, strict=True)]

    def _joined(self, by_tile: Tensor, side: int, windows: Windows) -> Tensor:
        """Values (B T, R, p) at the p points of the tiles of B windows as those of the windows: (B, R, n, ...)."""
        axes, counts = range(self.n_components), [n // side for n in windows.shape]
        values = by_tile.view(len(windows), *counts, self.n_models, *[side] * self.n_components)
        order = [position for axis in axes for position in (1 + axis, 2 + self.n_components + axis)]
        return values.permute(0, 1 + self.n_components, *order).reshape(len(windows), self.n_models, *windows.shape)

    def _combined(self, log_likelihood: Tensor, windows: Windows) -> Tensor:
        """From log p(x | z) under each model (B, R, n, ...) to :meth:`log_joints`; may use the same memory."""
        return _with_prior_(log_likelihood[:, 0], windows)

    def _side_of_tiles(self, shape: tuple[int, ...]) -> int:
        """Points along each axis of the tiles that windows of a shape are made of."""
        if shape != self.whole_shape:
            return self.tile
        most = _MOST_OF_WHOLE[self.n_components]
        return next(side for side in range(min(most, shape[0]), 0, -1) if shape[0] % side == 0)

    def _tables_of(self, windows: Windows, tiles: Tensor, side: int) -> Iterable[LinearTables]:
        """Coefficients at the points of tiles whose first points are (U, Q): (R P, D) for each tile, in their order.

        They are kept for the next rows, which may need the same ones, where there is room.
        """
        name = windows.levels, side, tiles.tolist()
        if self._kept is not None and self._kept[0] == name:
            return self._kept[1]
        made = self._made(windows, tiles, side)
        if len(tiles) * self._entries_of_a_tile(side) > _KEPT_ENTRIES:
            return made
        self._kept = name, list(made)
        return self._kept[1]

    def _made(self, windows: Windows, tiles: Tensor, side: int) -> Iterator[LinearTables]:
        """The same, computed for as many tiles at once as there is room for."""
        places = torch.cartesian_prod(*[torch.arange(side)] * self.n_components).view(-1, self.n_components)
        for some in tiles.split(max(1, ENTRIES_AT_ONCE // self._entries_of_a_tile(side))):
            points = (some[:, None] + places.to(some)).flatten(0, 1)
            tables = self._tables(windows.spacing * points.to(self.like))
            by_tile = tables.unflatten((self.n_models, len(some), -1))
            yield from (by_tile.at((slice(None), number)).flatten() for number in range(len(some)))

    def _entries_of_a_tile(self, side: int) -> int:
        return self.n_models * side**self.n_components * self.n_features


def sorted_by_columns(values: Tensor) -> Tensor:
    """The order (B,) in which rows of integers (B, Q) are sorted by the first column, then by the next."""
    order = torch.arange(len(values), device=values.device)
    for column in reversed(values.unbind(1)):
        order = order[column[order].argsort(stable=True)]
    return order


class AveragingLattice(Lattice):
    """A lattice for the posterior averaged over R models: what is known of a latent where the curves are uncertain.

    Parameters
    ----------
    tables : callable
        From points (P, 1) to the coefficients of all models (R P, D), model by model.
    n_models : int
        R.
    z_max, n_features, like
        As for :class:`Lattice`, of each model.
    """

    def __init__(
        self, tables: Callable[[Tensor], LinearTables], n_models: int, z_max: float, n_features: int, like: Tensor
    ):
        super().__init__(tables, z_max, 1, n_features, like)
        self.n_models = n_models

    def _combined(self, log_likelihood: Tensor, windows: Windows) -> Tensor:
        """log of the average of the models' q(z | x) at all points, (B, n)."""
        by_model = [_with_prior_(values, windows) for values in log_likelihood.unbind(1)]
        # No mass is where all curves overflow.
        shares = torch.stack([values.softmax(1).nan_to_num_(nan=0.0) for values in by_model])
        return shares.mean(0).log()


def _with_prior_(log_likelihood: Tensor, windows: Windows) -> Tensor:
    """Add the log of the prior's mass to log-likelihoods (B, n, ...) at the points of windows, in place."""
    for axis, log_mass in enumerate(windows.log_prior_mass()):
        log_likelihood += along(log_mass, axis, windows.n_components)
    # A curve that overflows is one that no data follow.
    return log_likelihood.nan_to_num_(nan=-math.inf, posinf=-math.inf, neginf=-math.inf)
