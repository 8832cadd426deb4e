"""Grid ladder: the posterior of a latent of one or two dimensions, on grids that zoom out and in, row by row.

Each row is integrated to a stated accuracy, on a grid that is as long and as fine as its posterior needs. All grids are
windows of one lattice, whose spacing is doubled or halved. Rows that need the same window share it, and with it the
curves' values at its points. So memory is bounded, however far out a row lies and however narrow its posterior is.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor

from ..nn.latent_grid import standard_normal_log_density
from ..nn.linear_tables import LinearTables
from ..nn.rows import Rows
from ..table.grid_source import GridSource

#: intervals of the first grid along each axis, on either side of zero, by number of dimensions
_HALF = {1: 64, 2: 32}
#: windows begin and end at multiples of as many intervals, by number of dimensions, so that rows can share them
_TILE = {1: 16, 2: 4}
#: entries of a (points, features) table that a window may have
_TABLE_ENTRIES = 50_000_000
#: most points of a window
_MOST_POINTS = 2**18
#: the same where rounding blurs the density: there is not much to see
_MOST_BLURRED_POINTS = 2**13
#: entries of such a table that is made at once, and of a (rows, points) array
_ENTRIES_AT_ONCE = 2_000_000
#: entries of the tables of one window that are kept for the next rows
_KEPT_ENTRIES = 8_000_000
#: nats by which an integral may be off
_TOLERANCE = 1e-4
#: nats of rounding above which a density is blurred: its shape cannot be told any more
_BLURRED = 1e-2
#: most posterior mass that may lie on the ends of a window
_MASS_AT_ENDS = 1e-7
#: nats below the highest point at which a density does not count
_NEGLIGIBLE = 20.0
#: the same for places that decide how fine a grid has to be
_MINOR = 10.0
#: how many spacings the sd of the narrowest mode should have, so that a window resolves it
_SPACINGS_PER_SD = 1.1
#: most halvings of the spacing in one step, by number of dimensions
_HALVINGS = {1: 5, 2: 3}
#: most doublings of the spacing in one step
_DOUBLINGS = 32
#: spacings are doubled down to this level: coordinates there are about as large as they can be squared
_LEAST_LEVEL = -500
#: largest coordinate, in spacings: floating-point numbers have no finer grid so far out
_LARGEST_INDEX = 2**45
#: nodes and weights of the quadrature within a cell, for quantiles
_NODES, _WEIGHTS = (0.5 + 0.5 * np.polynomial.legendre.leggauss(4)[0]), 0.5 * np.polynomial.legendre.leggauss(4)[1]
#: steps of the search for a quantile within a cell
_QUANTILE_STEPS = 12
#: largest and least log density that a cubic between points may claim
_LARGEST_EXPONENT = 100.0


@dataclass(frozen=True)
class LatentPosterior:
    """What the data say about each row's latent.

    ``mean``, ``sd``, ``lower`` and ``upper`` are (B, Q), by component. The others are (B,): ``log_evidence`` is
    log p(x) without the constants of x; ``resolved`` is 1 where a grid was fine and long enough, else 0; ``beyond`` is
    how much posterior mass lies beyond ``z_max``. ``lower`` and ``upper`` are NaN where no interval is asked for.
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
    def of_the_prior(n_rows: int, n_components: int, like: Tensor, credible_level: float | None) -> LatentPosterior:
        """The posterior of rows that say nothing: the standard normal prior."""
        zeros, none = like.new_zeros(n_rows, n_components), like.new_zeros(n_rows)
        half_width = zeros + (math.nan if credible_level is None else float(norm.ppf(0.5 + 0.5 * credible_level)))
        return LatentPosterior(none, zeros, zeros + 1, -half_width, half_width, none + 1, none)

    def put_(self, index: Tensor | slice, other: LatentPosterior) -> None:
        """Write the fields of some rows."""
        for field in fields(self):
            getattr(self, field.name)[index] = getattr(other, field.name)

    def take(self, index: Tensor) -> LatentPosterior:
        """The fields of some rows."""
        return LatentPosterior(*(getattr(self, field.name)[index] for field in fields(self)))


class Box(NamedTuple):
    """Part of a lattice: the level of its spacing, and its first and last point along each axis, in spacings."""

    level: int
    low: tuple[int, ...]
    high: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of points along each axis."""
        return tuple(high - low + 1 for low, high in zip(self.low, self.high, strict=True))


@dataclass(frozen=True)
class Window:
    """The points of a box.

    Attributes
    ----------
    spacing : float
        The same along all axes.
    axes : list of Tensor of shape (n,)
        Coordinates along each of Q axes.
    points : Tensor of shape (P, Q)
        All combinations of coordinates. The last coordinate changes fastest.
    log_mass : Tensor of shape (P,)
        Log of the standard normal prior's density times the volume of a cell.
    """

    spacing: float
    axes: list[Tensor]
    points: Tensor
    log_mass: Tensor

    def unravel(self, values: Tensor) -> Tensor:
        """Values (B, P) at the points, with one dimension for each axis: (B, n, ...)."""
        return values.view(len(values), *map(len, self.axes))


class GridLadder:
    """A lattice of the latent with halved and doubled spacings, and the model's coefficients at its points.

    Parameters
    ----------
    tables : callable
        From points (P, Q) to the likelihood's coefficients (P, D).
    z_max : float
        Where the model's curves end; the first grid reaches a third further.
    n_components : int
        Dimensions Q of the latent, one or two.
    n_features : int
        D.
    like : Tensor
        dtype and device.
    """

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
        self._tables = tables
        self._like = like

    @property
    def entries_per_point(self) -> int:
        """How many numbers are made for every row and point of a window at once."""
        return 1

    def whole(self, level: int) -> Box:
        """The grid around zero whose spacing has been halved ``level`` times, or doubled where that is negative."""
        half = _HALF[self.n_components]
        return Box(level, (-half,) * self.n_components, (half,) * self.n_components)

    def is_whole(self, box: Box) -> bool:
        """Whether a box is one of the grids around zero."""
        return box == self.whole(box.level)

    @property
    def most_points(self) -> float:
        """How many points a window may have."""
        return min(_TABLE_ENTRIES / self.n_features, _MOST_POINTS)

    def window(self, box: Box) -> Window:
        """The points of a box."""
        spacing = math.ldexp(4 / 3 * self.z_max / _HALF[self.n_components], -box.level)
        axes = [
            spacing * torch.arange(low, high + 1, device=self._like.device).to(self._like)
            for low, high in zip(box.low, box.high, strict=True)
        ]
        points = torch.cartesian_prod(*axes).view(-1, self.n_components)
        log_mass = standard_normal_log_density(points) + self.n_components * math.log(spacing)
        return Window(spacing, axes, points, log_mass)

    def evaluated(self, window: Window) -> Callable[[Rows], Tensor]:
        """log p(x | z) + log of the prior's mass of rows at all points, (B, P), without the constants of x."""
        coefficients = self._coefficients(window)

        def log_joint(rows: Rows) -> Tensor:
            values = torch.cat([rows.log_likelihood(part) for part in coefficients()], 1) + window.log_mass
            return _without_overflow(values)

        return log_joint

    def _coefficients(self, window: Window) -> Callable[[], Iterable[LinearTables]]:
        """The coefficients at a window's points, a few points at a time.

        They are kept for the next rows where there is room for them.
        """
        parts = window.points.split(max(1, _ENTRIES_AT_ONCE // self.n_features))
        if len(window.points) * self.n_features > _KEPT_ENTRIES:
            return lambda: map(self._tables, parts)
        kept = [self._tables(part) for part in parts]
        return lambda: kept


class AveragingLadder(GridLadder):
    """A ladder for the posterior averaged over R models: what is known of a latent where the curves are uncertain.

    Parameters
    ----------
    tables : callable
        From points (P, 1) to the coefficients of all models (R P, D), model by model.
    n_models : int
        R.
    z_max, n_features, like
        As for :class:`GridLadder`, of each model.
    """

    def __init__(
        self, tables: Callable[[Tensor], LinearTables], n_models: int, z_max: float, n_features: int, like: Tensor
    ):
        super().__init__(tables, z_max, 1, n_models * n_features, like)
        self._n_models = n_models

    @property
    def entries_per_point(self) -> int:
        """See :attr:`GridLadder.entries_per_point`."""
        return self._n_models

    def evaluated(self, window: Window) -> Callable[[Rows], Tensor]:
        """log of the average of the models' q(z | x) of rows at all points, (B, P)."""
        coefficients = self._coefficients(window)

        def log_average(rows: Rows) -> Tensor:
            parts = [rows.log_likelihood(part).view(len(rows), self._n_models, -1) for part in coefficients()]
            joint = _without_overflow(torch.cat(parts, 2) + window.log_mass)
            return joint.softmax(2).nan_to_num(nan=0.0).mean(1).log()  # no mass is where all curves overflow

        return log_average


def _without_overflow(values: Tensor) -> Tensor:
    """Log densities where a curve that overflows is one that no data follow."""
    return values.nan_to_num(nan=-math.inf, posinf=-math.inf, neginf=-math.inf)


def latent_posterior(source: GridSource, ladder: GridLadder, credible_level: float | None = None) -> LatentPosterior:
    """Posterior and evidence of every row, each on a window that holds and resolves it.

    The trapezoidal rule converges faster than any power of the spacing once the spacing is below the posterior's sd. A
    row's integral is accepted where the estimate from every second point agrees. A row that lies at the ends of the
    grid around zero goes on to ever longer ones. One that its grid holds but does not resolve goes on to finer windows
    around where its posterior is. Rows are judged one by one, so results do not depend on which rows come together.
    """
    posterior = LatentPosterior.empty(len(source), ladder.n_components, source.like)
    boxes: dict[Box, Tensor | None] = {ladder.whole(0): None}
    while boxes:
        following: defaultdict[Box, list[Tensor]] = defaultdict(list)
        for box, numbers in boxes.items():
            window = ladder.window(box)
            log_joint = ladder.evaluated(window)
            for index, rows in _pieces(source, numbers, ladder.entries_per_point * len(window.points)):
                joint = log_joint(rows)
                q = joint.softmax(1).nan_to_num(nan=0.0)  # no point has any mass where all curves overflow
                ends = _at_ends(q, window)
                rounding = torch.finfo(joint.dtype).eps * joint.amax(1).abs()
                resolved = (_error(joint, q, window) < _TOLERANCE + rounding) & (rounding < _BLURRED)
                resolved &= ~ends.flatten(1).any(1)
                pending = (~resolved).nonzero()[:, 0]
                is_blurred = rounding[pending] >= _BLURRED
                targets, exists = _next_boxes(joint[pending], ends[pending], is_blurred, box, window, ladder)
                for target, these in _grouped(targets[exists], ladder.n_components):
                    following[target].append(index[pending[exists][these]])
                done = resolved.clone()
                done[pending] = ~exists
                if done.any():
                    found = _summarize(joint[done], q[done], resolved[done], window, ladder.z_max, credible_level)
                    posterior.put_(index[done], found)
        boxes = {box: torch.cat(parts) for box, parts in following.items()}
    return posterior


def _pieces(source: GridSource, numbers: Tensor | None, width: int) -> Iterator[tuple[Tensor, Rows]]:
    """The numbered rows, or all, with their numbers: few enough at a time for ``width`` entries of each."""
    device = source.like.device
    if numbers is None:
        for index, rows in source.chunks(width=width):
            yield torch.arange(index.start, index.stop, device=device), rows
        return
    for index in numbers.split(max(1, _ENTRIES_AT_ONCE // max(width, source.n_features))):
        yield index, source.rows(index.cpu().numpy())


def _at_ends(q: Tensor, window: Window) -> Tensor:
    """Whether there is mass at the first and at the last point along each axis: (B, Q, 2)."""
    by_axis = window.unravel(q)
    faces = [
        torch.stack([by_axis.select(axis + 1, end).reshape(len(q), -1).sum(1) for end in (0, -1)], 1)
        for axis in range(len(window.axes))
    ]
    return torch.stack(faces, 1) > _MASS_AT_ENDS


def _error(joint: Tensor, q: Tensor, window: Window) -> Tensor:
    """A bound on the error of each row's integral, in nats: (B,).

    It has two parts. One is what fewer points tell. Where a posterior is smooth, the error falls faster from spacing to
    spacing the smaller the spacing is. So it is taken to fall by as much as before, but to a third at the most. The
    other is that of kinks in the log density, as curves have that are straight between knots.
    """
    center = window.points.mean(0)
    mean = q @ (window.points - center)
    variance = (q @ (window.points - center) ** 2 - mean**2).clamp(min=torch.finfo(q.dtype).eps * window.spacing**2)
    estimates = [_with_every(stride, joint, window, center) for stride in (1, 2, 4)]
    fine, coarse = (
        _difference(estimates[i], estimates[i + 1], 2**i * window.spacing / (math.pi * variance)) for i in (0, 1)
    )
    falls_to = torch.where(coarse > 0, fine / coarse.clamp(max=1), 0.0).clamp(max=1 / 3)
    error = fine * falls_to
    # In two dimensions kinks are lines. They cross cells at all places, and what they cost cancels.
    if len(window.axes) == 1:
        error = torch.maximum(error, _error_of_kinks(joint, q, window))
    return error.nan_to_num(nan=math.inf)


def _error_of_kinks(joint: Tensor, q: Tensor, window: Window) -> Tensor:
    """How far a trapezoidal sum is off where the log density has kinks, in nats: (B,).

    By the formula of Euler and Maclaurin, a jump of the slope at a point of mass q costs q / 12 times the jump times
    the spacing. That product is what it adds to the second difference there, and half of what it adds to the fourth.
    """
    density, mass = window.unravel(joint), window.unravel(q)
    total = torch.zeros_like(joint[:, 0])
    for axis in range(1, density.ndim):
        inner = mass.narrow(axis, 2, mass.shape[axis] - 4)
        jumps = torch.where(inner > 0, 0.5 * density.diff(n=4, dim=axis).abs(), 0.0)
        total += (inner * jumps / 12).flatten(1).sum(1)
    return total


def _with_every(stride: int, joint: Tensor, window: Window, center: Tensor) -> tuple[Tensor, Tensor]:
    """Log evidence (B,) and posterior mean relative to a centre (B, Q), from some of the points along each axis."""
    n_components = len(window.axes)
    some = (slice(None), *[slice(None, None, stride)] * n_components)
    points = window.unravel((window.points - center).T)[some].flatten(1).T
    values = window.unravel(joint)[some].flatten(1)
    return torch.logsumexp(values, 1) + n_components * math.log(stride), values.softmax(1) @ points


def _difference(fine: tuple[Tensor, Tensor], coarse: tuple[Tensor, Tensor], unit: Tensor) -> Tensor:
    """How far two estimates of the evidence and the mean are apart, in nats: (B,).

    The error of the evidence swings with the posterior's place between points, as a cosine does: it is zero at some
    places by accident. There the error of the mean, which swings as the sine, is at its largest. Multiplied by
    ``unit``, the finer spacing over ``pi sd^2`` (B, Q), it swings by as much.
    """
    return torch.maximum((fine[0] - coarse[0]).abs(), ((fine[1] - coarse[1]).abs() * unit).amax(1))


def _next_boxes(
    joint: Tensor, ends: Tensor, is_blurred: Tensor, box: Box, window: Window, ladder: GridLadder
) -> tuple[Tensor, Tensor]:
    """Where rows go on to that a window does not hold or not resolve: boxes (B, 1 + 2 Q), and whether there are any.

    ``ends`` (B, Q, 2) are those that have mass. ``is_blurred`` (B,) says where rounding hides a density's shape.
    """
    is_long = ~ends.flatten(1).any(1)
    targets = torch.tensor([box.level, *box.low, *box.high], device=joint.device).repeat(len(joint), 1)
    low, high = targets[:, 1:].tensor_split(2, 1)
    if ladder.is_whole(box):
        targets[:, 0] = max(2 * box.level - 1, box.level - _DOUBLINGS, _LEAST_LEVEL)
    else:
        length = high - low
        targets = torch.cat([targets[:, :1], low - length * ends[..., 0], high + length * ends[..., 1]], 1)
    exists = torch.full_like(is_long, box.level > _LEAST_LEVEL)
    targets[is_long], exists[is_long] = _refined(joint[is_long], box, window, ladder)
    low, high = targets[:, 1:].tensor_split(2, 1)
    # A finer window of a blurred density that looks at no less shows nothing new.
    shape = torch.tensor(box.shape, device=joint.device) - 1
    is_shorter = (torch.exp2((box.level - targets[:, :1]).double()) * (high - low) < shape).any(1)
    exists &= ~is_blurred | is_shorter | ~is_long
    most_points = torch.where(is_blurred, min(_MOST_BLURRED_POINTS, ladder.most_points), ladder.most_points)
    is_fine = (torch.maximum(low.abs(), high.abs()) < _LARGEST_INDEX).all(1)
    return targets, exists & is_fine & ((high - low + 1).double().prod(1) <= most_points)


def _refined(joint: Tensor, box: Box, window: Window, ladder: GridLadder) -> tuple[Tensor, Tensor]:
    """Boxes (B, 1 + 2 Q) of finer spacing around what counts of each row's density, and whether anything does.

    A mode may lie between points. Where a point is higher than its neighbours along an axis, a parabola through the
    three says how high the mode on that line is, and how narrow. It is the density itself where that is Gaussian.
    """
    density, n_components = window.unravel(joint), len(window.axes)
    peaks = [_peaks(density, axis + 1) for axis in range(n_components)]
    height = torch.stack([peak.height for peak in peaks]).amax(0).flatten(1)
    below_highest = height.amax(1, keepdim=True) - height
    counts = below_highest < _NEGLIGIBLE
    first, last = [], []
    for axis, peak in enumerate(peaks):
        place = torch.arange(density.shape[axis + 1], device=joint.device).to(joint)
        place = place.view(-1, *[1] * (n_components - axis - 1)) + peak.offset
        reach = (math.sqrt(2 * _NEGLIGIBLE) * peak.sd).clamp(max=1)
        first.append(torch.where(counts, (place - reach).flatten(1), math.inf).amin(1) + box.low[axis])
        last.append(torch.where(counts, (place + reach).flatten(1), -math.inf).amax(1) + box.low[axis])
    low, high = torch.stack(first, 1), torch.stack(last, 1)
    sds = torch.stack([peak.sd for peak in peaks]).amin(0).flatten(1)
    narrowest = torch.where(below_highest < _MINOR, sds, math.inf).amin(1)
    halvings = torch.log2(_SPACINGS_PER_SD / narrowest).ceil()
    room = torch.log2(ladder.most_points / (high - low).clamp(min=1).prod(1)) / n_components
    halvings = torch.minimum(halvings, room.floor()).clamp(1, _HALVINGS[n_components])
    scale, tile = torch.exp2(halvings)[:, None], _TILE[n_components]
    low, high = tile * (scale * low / tile).floor(), tile * (scale * high / tile).ceil()
    exists = counts.any(1)
    targets = torch.cat([box.level + halvings[:, None], low, torch.maximum(high, low + tile)], 1)
    return torch.where(exists[:, None], targets, 0.0).long(), exists


class _Peaks(NamedTuple):
    """Parabolas through each point and its neighbours along one axis, where the point is higher than these.

    ``offset`` says where the peak is, relative to the point, and ``sd`` how wide, in spacings; ``height`` is the value
    there. Elsewhere the offset is zero, the height the point's own, and the sd infinite. All are (B, n, ...).
    """

    offset: Tensor
    height: Tensor
    sd: Tensor


def _peaks(density: Tensor, axis: int) -> _Peaks:
    n = density.shape[axis]
    before, here, after = (density.narrow(axis, start, n - 2) for start in range(3))
    slope, curvature = 0.5 * (after - before), 2 * here - before - after
    is_peak = (here >= before) & (here >= after) & (curvature > 0) & curvature.isfinite()
    offset, height, sd = torch.zeros_like(density), density.clone(), torch.full_like(density, math.inf)
    inner = [part.narrow(axis, 1, n - 2) for part in (offset, height, sd)]
    inner[0][is_peak] = (slope / curvature)[is_peak]
    inner[1][is_peak] += (0.5 * slope**2 / curvature)[is_peak]
    inner[2][is_peak] = curvature[is_peak] ** -0.5
    return _Peaks(offset, height, sd)


def _grouped(targets: Tensor, n_components: int) -> Iterator[tuple[Box, Tensor]]:
    """The distinct boxes among ``targets`` (B, 1 + 2 Q), and the numbers of the rows that go to each."""
    distinct, number = torch.unique(targets, dim=0, return_inverse=True)
    for position, (level, *corners) in enumerate(distinct.tolist()):
        yield (
            Box(level, tuple(corners[:n_components]), tuple(corners[n_components:])),
            (number == position).nonzero()[:, 0],
        )


def _summarize(
    joint: Tensor, q: Tensor, resolved: Tensor, window: Window, z_max: float, credible_level: float | None
) -> LatentPosterior:
    center = window.points.mean(0)
    centered = window.points - center
    mean = q @ centered
    sd = (q @ centered**2 - mean**2).clamp(min=0).sqrt()
    sd = torch.where(resolved[:, None], sd, sd.clamp(min=window.spacing))  # no more is known than which point it is
    lower = upper = torch.full_like(mean, math.nan)
    if credible_level is not None:  # quantiles cost as much as all else
        levels = 0.5 * (1 - credible_level), 0.5 * (1 + credible_level)
        marginals = [_marginal(window.unravel(q), component) for component in range(len(window.axes))]
        ends = [_quantiles(marginal, axis, levels) for marginal, axis in zip(marginals, window.axes, strict=True)]
        lower, upper = (torch.stack(by_component, 1) for by_component in zip(*ends, strict=True))
    beyond = q[:, (window.points.abs() > z_max).any(1)].sum(1)
    evidence = torch.logsumexp(joint, 1)
    return LatentPosterior(evidence, center + mean, sd, lower, upper, resolved.to(q), beyond)


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
    target = torch.stack([level * cumulative[:, -1] for level in levels], 1)  # (B, L)
    cell = torch.searchsorted(cumulative, target).clamp(max=len(z) - 2)
    before = (cumulative - mass).gather(1, cell)
    cubic = coefficients.gather(1, cell[..., None].expand(-1, -1, 4))
    below, above = torch.zeros_like(target), torch.ones_like(target)
    share = torch.full_like(target, 0.5)
    for _ in range(_QUANTILE_STEPS):
        excess = before + _mass_within(cubic, share) - target
        below, above = torch.where(excess < 0, share, below), torch.where(excess < 0, above, share)
        newton = share - excess / _density(cubic, share)
        share = torch.where((newton >= below) & (newton <= above), newton, 0.5 * (below + above))
    return list((z[cell] + share * (z[1] - z[0])).unbind(1))


def _mass_within(coefficients: Tensor, share: Tensor) -> Tensor:
    """Integral of a density over the first ``share`` of cells whose length is one: (B, C).

    ``coefficients`` (B, C, 4) of its log are the value and the slope on the left, the rise, and the slope on the right.
    """
    values = [weight * _density(coefficients, node * share) for node, weight in zip(_NODES, _WEIGHTS, strict=True)]
    return share * torch.stack(values).sum(0)


def _density(coefficients: Tensor, t: Tensor) -> Tensor:
    """The density whose log is a cubic, at places t in cells whose length is one: (B, C)."""
    value, left, rise, right = coefficients.unbind(-1)
    cubic = value + t * (left + t * (3 * rise - 2 * left - right + t * (left + right - 2 * rise)))
    return cubic.clamp(-_LARGEST_EXPONENT, _LARGEST_EXPONENT).exp()
