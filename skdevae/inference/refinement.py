"""Refinement: whether a window holds and resolves a row's posterior, and which window may do better."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import NamedTuple

import torch
from torch import Tensor

from .lattice import ENTRIES_AT_ONCE, Lattice, Windows, along, sorted_by_columns

#: nats by which an integral may be off
_TOLERANCE = 1e-4
#: nats of rounding above which a density is blurred: its shape cannot be told any more
_BLURRED = 1e-2
#: most points of a window of a blurred density: there is not much to see
_MOST_BLURRED_POINTS = 2**13
#: most posterior mass that may lie on the ends of a window
_MASS_AT_ENDS = 1e-7
#: nats below the highest point at which a density does not count
_NEGLIGIBLE = 20.0
#: the same for places that decide how fine a grid has to be
_MINOR = 10.0
#: how many spacings the sd of the narrowest mode should have, so that a window resolves it, by number of dimensions
_SPACINGS_PER_SD = {1: 1.1, 2: 1.5}
#: most halvings of the spacing in one step, by number of dimensions
_HALVINGS = {1: 5, 2: 3}
#: most doublings of the spacing in one step
_DOUBLINGS = 32
#: spacings are doubled down to this level: coordinates there are about as large as they can be squared
_LEAST_LEVEL = -500
#: largest coordinate, in spacings: floating-point numbers have no finer grid so far out
_LARGEST_INDEX = 2**45


@dataclass(frozen=True)
class Mass:
    """Where each row's posterior mass lies in its window.

    Attributes
    ----------
    density : Tensor of shape (B, n, ...)
        Relative to that of the highest point.
    log_evidence : Tensor of shape (B,)
        log of the sum over the window.
    marginals : list of Tensor of shape (B, n)
        Distribution of each component over the coordinates along its axis.
    mean, variance : Tensor of shape (B, Q)
        By component; the mean relative to the window's center.
    """

    density: Tensor
    log_evidence: Tensor
    marginals: list[Tensor]
    mean: Tensor
    variance: Tensor

    @classmethod
    def of(cls, joint: Tensor, windows: Windows) -> Mass:
        """That of log densities (B, n, ...) at the points of windows."""
        top = joint.flatten(1).amax(1)
        top = torch.where(top.isfinite(), top, 0.0)  # no point has any mass where all curves overflow
        density = (joint - along(top[:, None], 0, windows.n_components)).exp_()
        total, mean, marginals = _moments(density, windows, 1)
        squares = [marginal @ (z**2) for marginal, z in zip(marginals, windows.axes, strict=True)]
        variance = (torch.stack(squares, 1) - mean**2).clamp(min=0)
        return cls(density, total.log() + top, marginals, mean, variance)

    def at(self, index: Tensor) -> Mass:
        """That of some rows, in their order."""
        if len(index) == len(self.density):
            return self
        marginals = [marginal[index] for marginal in self.marginals]
        return Mass(self.density[index], self.log_evidence[index], marginals, self.mean[index], self.variance[index])

    def where(self, marks: list[Tensor]) -> Tensor:
        """Mass at the points one of whose coordinates is marked, in a mask (B, n) for each axis: (B,)."""
        found = torch.zeros_like(self.log_evidence)
        index = torch.stack([marked.any(1) for marked in marks]).any(0).nonzero()[:, 0]
        if len(index):
            total = self.density[index].flatten(1).sum(1)
            marked = reduce(or_, (along(marked[index], axis, len(marks)) for axis, marked in enumerate(marks)))
            found[index] = ((self.density[index] * marked).flatten(1).sum(1) / total).nan_to_num(nan=0.0)
        return found

    def at_ends(self) -> Tensor:
        """Whether there is mass at the first and at the last point along each axis: (B, Q, 2)."""
        return torch.stack([marginal[:, [0, -1]] for marginal in self.marginals], 1) > _MASS_AT_ENDS


def _moments(density: Tensor, windows: Windows, stride: int) -> tuple[Tensor, Tensor, list[Tensor]]:
    """From every so-manieth point along each axis: the sum (B,), the mean (B, Q), and marginal distributions (B, n)."""
    n_components = windows.n_components
    some = density[:, *[slice(None, None, stride)] * n_components]
    sums = [_summed_over_others(some, axis) for axis in range(n_components)]
    total = sums[0].sum(1)
    marginals = [(values / total[:, None]).nan_to_num(nan=0.0) for values in sums]
    axes = [z[::stride] for z in windows.axes]
    mean = torch.stack([marginal @ z for marginal, z in zip(marginals, axes, strict=True)], 1)
    return total * stride**n_components, mean, marginals


def _summed_over_others(values: Tensor, axis: int) -> Tensor:
    """Values (B, n, ...) summed over all axes but one: (B, n)."""
    others = [other + 1 for other in range(values.ndim - 1) if other != axis]
    return values.sum(others) if others else values


def error_of(joint: Tensor, mass: Mass, windows: Windows) -> Tensor:
    """A bound on the error of each row's integral, in nats: (B,).

    It has two parts. One is what fewer points tell. Where a posterior is smooth, the error falls faster from spacing to
    spacing the smaller the spacing is. So it is taken to fall by as much as before, but to a third at the most. The
    other is that of kinks in the log density, as curves have that are made of pieces between knots.
    """
    variance = mass.variance.clamp(min=torch.finfo(joint.dtype).eps * windows.spacing**2)
    estimates = []
    for stride in (1, 2, 4):
        total, mean, _ = _moments(mass.density, windows, stride)
        estimates.append((total.log(), mean))
    fine, coarse = (
        _difference(estimates[i], estimates[i + 1], 2**i * windows.spacing / (math.pi * variance)) for i in (0, 1)
    )
    falls_to = torch.where(coarse > 0, fine / coarse.clamp(max=1), 0.0).clamp(max=1 / 3)
    kinks = _error_of_kinks(joint, mass.marginals[0]) if windows.n_components == 1 else _error_of_bends(mass.marginals)
    return torch.maximum(fine * falls_to, kinks).nan_to_num(nan=math.inf)


def _error_of_kinks(joint: Tensor, q: Tensor) -> Tensor:
    """How far a trapezoidal sum is off at most where the log density (B, n) has kinks, in nats: (B,).

    By the formula of Euler and Maclaurin, a jump of the slope at a point of mass q costs q / 12 times the jump times
    the spacing. That product is what it adds to the second difference there, and half of what it adds to the fourth.
    """
    inner = q[:, 2:-2]
    jumps = torch.where(inner > 0, 0.5 * joint.diff(n=4, dim=1).abs(), 0.0)
    return (inner * jumps / 12).sum(1)


def _error_of_bends(marginals: list[Tensor]) -> Tensor:
    """How far sums over two dimensions are off where curves along an axis are bent anew at each knot, in nats: (B,).

    The curves of two components are sums of integrals along the axes, whose integrands are straight between knots. So
    the second derivative of the log marginal along an axis (B, n) jumps at knots. With q the mass of a point, h the
    spacing, J the jump and B the third Bernoulli polynomial of a knot's place between points, such a jump costs
    ``q h^2 J B / 6``. Places are random, so costs add up as squares do, and B^2 is 1 / 840 on average. The squares of
    the fourth differences of the log marginal around a knot add up to two thirds of ``(h^2 J)^2``.
    """
    total = torch.zeros_like(marginals[0][:, 0])
    for q in marginals:
        log_q = q.clamp(min=torch.finfo(q.dtype).tiny).log()
        total += (q[:, 2:-2] * log_q.diff(n=4, dim=1)).square().sum(1)
    return (total / (36 * 840 * 2 / 3)).sqrt()


def _difference(fine: tuple[Tensor, Tensor], coarse: tuple[Tensor, Tensor], unit: Tensor) -> Tensor:
    """How far two estimates of the log evidence (B,) and of the mean (B, Q) are apart, in nats: (B,).

    The error of the evidence swings with the posterior's place between points, as a cosine does: it is zero at some
    places by accident. There the error of the mean, which swings as the sine, is at its largest. Multiplied by
    ``unit``, the finer spacing over ``pi sd^2`` (B, Q), it swings by as much.
    """
    apart = torch.maximum((fine[0] - coarse[0]).abs(), ((fine[1] - coarse[1]).abs() * unit).amax(1))
    return apart.nan_to_num(nan=math.inf)  # the fewer points may have no mass


def is_resolved(joint: Tensor, mass: Mass, windows: Windows) -> tuple[Tensor, Tensor]:
    """Whether each row's window holds and resolves its posterior, and whether rounding blurs its density: (B,) each."""
    rounding = torch.finfo(joint.dtype).eps * joint.flatten(1).amax(1).abs()
    is_blurred = rounding >= _BLURRED
    resolved = (error_of(joint, mass, windows) < _TOLERANCE + rounding) & ~is_blurred
    return resolved & ~mass.at_ends().flatten(1).any(1), is_blurred


class Targets(NamedTuple):
    """The windows that rows go on to: levels, first points and numbers of points along each axis, (B, Q) each."""

    levels: Tensor
    low: Tensor
    length: Tensor

    @classmethod
    def around_zero(cls, n_rows: int, lattice: Lattice) -> Targets:
        """The grid around zero, for each of some rows."""
        zeros = torch.zeros(n_rows, lattice.n_components, dtype=torch.int64, device=lattice.like.device)
        return cls(zeros, zeros + lattice.first_of_whole, zeros + lattice.whole_shape[0])

    def at(self, index: Tensor) -> Targets:
        """Those of some rows."""
        return Targets(*(values[index] for values in self))

    @staticmethod
    def concatenate(parts: list[Targets]) -> Targets:
        """Those of some rows after those of others."""
        return Targets(*(torch.cat(values) for values in zip(*parts, strict=True)))

    def batches(self, lattice: Lattice, numbers: Tensor) -> Iterator[list[tuple[Windows, Tensor]]]:
        """Windows on one lattice, few enough to be looked at together, by shape; with those of the rows' numbers (B,).

        Rows come in the order of their windows' places, so that neighbours are together.
        """
        is_whole = (self.length == lattice.whole_shape[0]).all(1)  # such grids have tiles of their own
        order = sorted_by_columns(torch.cat([self.levels, is_whole[:, None], self.low], 1))
        sizes = (lattice.n_models * self.length.prod(1)).clamp(min=lattice.n_features)[order]
        part = ((sizes.cumsum(0) - 1) // ENTRIES_AT_ONCE)[:, None]
        kind = torch.cat([self.levels[order], is_whole[order, None], part], 1)
        _, counts = torch.unique_consecutive(kind, dim=0, return_counts=True)
        for index in order.split(counts.tolist()):
            levels = tuple(self.levels[index[0]].tolist())
            shapes, number = torch.unique(self.length[index], dim=0, return_inverse=True)
            members = [index[number == position] for position in range(len(shapes))]
            yield [
                (lattice.windows(levels, self.low[some], tuple(shape)), numbers[some])
                for some, shape in zip(members, shapes.tolist(), strict=True)
            ]


def next_windows(
    joint: Tensor, at_ends: Tensor, is_blurred: Tensor, windows: Windows, lattice: Lattice
) -> tuple[Targets, Tensor]:
    """Where rows go on to that a window does not hold or not resolve, and whether there is such a window, (B,).

    ``joint`` (B, n, ...) are log densities. ``at_ends`` (B, Q, 2) says which ends have mass, and ``is_blurred`` (B,)
    where rounding hides a density's shape.
    """
    held = ~at_ends.flatten(1).any(1)
    now, shape = torch.tensor([windows.levels, windows.shape], device=held.device)
    levels, low, length = now.repeat(len(held), 1), windows.low.clone(), shape.repeat(len(held), 1)
    if windows.shape == lattice.whole_shape:
        levels = torch.maximum(2 * now - 1, now - _DOUBLINGS).clamp(min=_LEAST_LEVEL).repeat(len(held), 1)
    else:
        low -= shape * at_ends[..., 0]
        length += shape * at_ends.sum(2)
    exists = torch.full_like(held, min(windows.levels) > _LEAST_LEVEL)
    finer, exists[held] = _finer(joint[held], windows.at(held), lattice)
    for values, those in zip((levels, low, length), finer, strict=True):
        values[held] = those
    # A finer window of a blurred density that looks at no less shows nothing new.
    is_shorter = (torch.exp2((now - levels).double()) * (length - 1) < shape - 1).any(1)
    exists &= ~is_blurred | is_shorter | ~held
    most_points = torch.where(is_blurred, min(_MOST_BLURRED_POINTS, lattice.most_points), lattice.most_points)
    is_fine = (torch.maximum(low.abs(), (low + length).abs()) < _LARGEST_INDEX).all(1)
    return Targets(levels, low, length), exists & is_fine & (length.double().prod(1) <= most_points)


def _finer(joint: Tensor, windows: Windows, lattice: Lattice) -> tuple[Targets, Tensor]:
    """Windows of finer spacing around what counts of each row's density (B, n, ...), and whether anything does, (B,).

    A mode may lie between points. Where a point is higher than its neighbours along an axis, a parabola through the
    three says how high the mode on that line is, and how narrow. It is the density itself where that is Gaussian.
    """
    n_components = windows.n_components
    peaks = [_peaks(joint, axis) for axis in range(n_components)]
    height = joint.clone()
    for peak in peaks:
        height[peak.point] = torch.maximum(height[peak.point], peak.height)
    highest = height.flatten(1).amax(1)
    counts = height > along((highest - _NEGLIGIBLE)[:, None], 0, n_components)
    exists = counts.flatten(1).any(1)
    first, last, needed = [], [], []
    for axis, peak in enumerate(peaks):
        peak = peak.at(counts[peak.point])
        matters = height[peak.point] > highest[peak.row] - _MINOR
        narrowest = torch.full_like(highest, math.inf).scatter_reduce(0, peak.row[matters], peak.sd[matters], "amin")
        needed.append(torch.log2(_SPACINGS_PER_SD[n_components] / narrowest).ceil())
        low, high = _reach(height, counts.index_put(peak.point, torch.zeros_like(matters)), highest - _NEGLIGIBLE, axis)
        reach = (math.sqrt(2 * _NEGLIGIBLE) * peak.sd).clamp(max=1)
        low = low.scatter_reduce(0, peak.row, peak.place - reach, "amin")
        high = high.scatter_reduce(0, peak.row, peak.place + reach, "amax")
        first.append(torch.where(exists, low, 0.0) + windows.low[:, axis])
        last.append(torch.where(exists, high, 0.0) + windows.low[:, axis])
    low, high = torch.stack(first, 1), torch.stack(last, 1)
    halvings = _within_room(torch.stack(needed, 1), torch.log2(lattice.most_points / (high - low).clamp(min=1).prod(1)))
    scale, tile = torch.exp2(halvings), lattice.tile
    low, high = (scale * low / tile).floor(), (scale * high / tile).ceil()
    length = tile * _rounded_up(high - low)
    now = torch.tensor(windows.levels, device=joint.device)
    return Targets(now + halvings.long(), (tile * low).long(), length.long()), exists


def _reach(height: Tensor, counts: Tensor, level: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Where along an axis densities (B, n, ...) fall to levels (B,), on both sides of marked points: (B,) each.

    Places are in spacings. Between points, the density on the highest line along the axis is taken to be straight.
    """
    others = [other + 1 for other in range(height.ndim - 1) if other != axis]
    marked = height.masked_fill(~counts, -math.inf)
    profile, marked = (values.amax(others) if others else values for values in (height, marked))  # (B, n)
    place = torch.arange(profile.shape[1], device=height.device).to(height)
    ends = []
    for side, extreme in ((1, torch.amin), (-1, torch.amax)):
        before = profile.roll(side, 1)
        share = ((marked - level[:, None]) / (marked - before)).nan_to_num(nan=1.0)
        # A neighbour that is higher says nothing.
        share = torch.where(before < marked, share, 1.0).clamp(0, 1)
        ends.append(extreme(torch.where(marked > -math.inf, place - side * share, side * math.inf), 1))
    return ends[0], ends[1]


def _rounded_up(n: Tensor) -> Tensor:
    """The next number of the form 2^k or 3 * 2^k, so that windows have few shapes."""
    power = torch.exp2(torch.log2(n.clamp(min=1)).floor())
    return torch.where(n <= power, power, torch.where(n <= 1.5 * power, (1.5 * power).ceil(), 2 * power))


def _within_room(needed: Tensor, room: Tensor) -> Tensor:
    """How often to halve the spacing along each axis, (B, Q), where it should be halved as often as ``needed``.

    Points may double as often as ``room`` (B,) says. All spacings are halved where none seems to need it, for a window
    that is asked for is finer.
    """
    n_components = needed.shape[1]
    needed = needed.clamp(0, _HALVINGS[n_components])
    of_others = needed.sum(1, keepdim=True) - needed
    halvings = torch.minimum(needed, torch.maximum(room[:, None] / n_components, room[:, None] - of_others).floor())
    halvings = halvings.clamp(min=0)
    return torch.where(halvings.any(1, keepdim=True), halvings, 1.0)


class _Peaks(NamedTuple):
    """Parabolas through points and their neighbours along one axis, where a point is higher than these.

    ``row`` (M,) says whose they are, and ``point`` which of (B, n, ...) values it is. ``place`` (M,) is
    where along the axis the peak is and ``sd`` (M,) how wide, both in spacings; ``height`` (M,) is the value there.
    """

    row: Tensor
    point: tuple[Tensor, ...]
    place: Tensor
    height: Tensor
    sd: Tensor

    def at(self, index: Tensor) -> _Peaks:
        """Some of them."""
        return _Peaks(
            self.row[index],
            tuple(part[index] for part in self.point),
            self.place[index],
            self.height[index],
            self.sd[index],
        )


def _peaks(density: Tensor, axis: int) -> _Peaks:
    n = density.shape[axis + 1]
    before, here, after = (density.narrow(axis + 1, start, n - 2) for start in range(3))
    index = ((here >= before) & (here >= after)).nonzero(as_tuple=True)
    before, here, after = before[index], here[index], after[index]
    curvature = 2 * here - before - after
    kept = (curvature > 0) & curvature.isfinite()
    before, here, after, curvature = before[kept], here[kept], after[kept], curvature[kept]
    index = tuple(part[kept] + (1 if dimension == axis + 1 else 0) for dimension, part in enumerate(index))
    slope = 0.5 * (after - before)
    offset = slope / curvature
    return _Peaks(index[0], index, index[axis + 1].to(density) + offset, here + 0.5 * slope * offset, curvature**-0.5)
