"""Quasi-Newton searches side by side: many functions of the same form, each minimised over its own position."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

#: pairs of steps and gradient differences that a row's search remembers
_MEMORY = 8
#: share of the fall that a straight line predicts which a step must bring
_SUFFICIENT = 1e-4
#: how often one step may be shortened
_SHORTENINGS = 12
#: fall (nats) that a step must promise, or else the search has arrived, where no tolerance is given
_PROMISE = 1e-4
#: share of the rows of a batch that are still searched for, below which the others are left out of it
_CROWDED = 0.8
#: times the rounding of one value by which a sum over many entries may err
_NOISE = 8
#: Falls that a search may promise without becoming the lowest of its rivals by them: see :class:`_Race`. In halves, as
#: promises are twice the fall that a quadratic function would have.
_HOPE = 8.0


class Objective(Protocol):
    """A function of each row's own position."""

    def __call__(self, position: Tensor, /) -> tuple[Tensor, Tensor]:
        """Values (B,) and gradients (B, Q) at positions (B, Q)."""
        ...

    def take(self, index: Tensor, /) -> Objective:
        """The function of some of the rows: of numbers, or as a mask."""
        ...


class Search(NamedTuple):
    """Where the searches ended (B, Q), the values there (B,), and which of them had arrived (B,)."""

    position: Tensor
    value: Tensor
    converged: Tensor


class _State(NamedTuple):
    """Where searches are (B, Q), with values (B,) and gradients (B, Q) there, and what they know of the curvature.

    ``covariance`` are inverses of rough Hessians, (B, Q, Q) or their diagonals (B, Q), and ``scale`` (B,) what the
    searches have found these to be off by. ``history`` (B, M, 2, Q) are the last steps and differences of gradients.
    """

    position: Tensor
    value: Tensor
    gradient: Tensor
    covariance: Tensor
    scale: Tensor
    history: Tensor
    arrived: Tensor

    @classmethod
    def starting(cls, objective: Objective, start: Tensor, covariance: Tensor) -> _State:
        """Searches that know nothing as yet."""
        scale = torch.ones_like(start[:, 0])
        history = start.new_zeros(len(start), _MEMORY, 2, start.shape[1])
        return cls(start, *objective(start), covariance, scale, history, torch.zeros_like(scale, dtype=torch.bool))

    def going_on(self, objective: Objective, dtype: torch.dtype) -> _State:
        """The same searches on the same function in another precision."""
        there = _State(*(part.to(dtype) if part.is_floating_point() else part for part in self))
        value, gradient = objective(there.position)
        return there._replace(value=value, gradient=gradient)

    def take(self, index: Tensor) -> _State:
        """Some of the searches."""
        return _State(*(part[index] for part in self))

    def put_(self, index: Tensor, others: _State) -> None:
        """Replace some of the searches."""
        for part, theirs in zip(self, others, strict=True):
            part[index] = theirs

    def after(self, moved: Tensor, position: Tensor, value: Tensor, gradient: Tensor, under_way: Tensor) -> _State:
        """The searches after a step, from which those under way learn about the curvature."""
        gradient = torch.where(moved[:, None], gradient, self.gradient)
        step, difference = position - self.position, gradient - self.gradient
        longer = torch.cat([self.history[:, 1:], torch.stack([step, difference], 1)[:, None]], 1)
        history = torch.where(under_way[:, None, None, None], longer, self.history)
        curvature = (step * difference).sum(1)
        expected = (difference * _apply(self.covariance, difference)).sum(1)
        ratio = curvature / expected.clamp(min=torch.finfo(step.dtype).tiny)
        scale = torch.where(curvature > 0, ratio, self.scale)
        return self._replace(position=position, value=value, gradient=gradient, scale=scale, history=history)

    def directions(self) -> tuple[Tensor, Tensor]:
        """Where to go (B, Q), and twice the fall that a quadratic function would have there (B,)."""
        direction = -_inverse_hessian_product(self.gradient, self.history, self.covariance, self.scale)
        promise = -(self.gradient * direction).sum(1)
        # A kink, or rounding, can have spoiled what is remembered of the curvature.
        lost = promise <= 0
        direction = torch.where(lost[:, None], -_apply(self.covariance, self.gradient), direction)
        return direction, torch.where(lost, -(self.gradient * direction).sum(1), promise)


def minimize_rows(
    objective: Objective,
    start: Tensor,
    covariance: Tensor,
    max_steps: int,
    tolerance: float | None = None,
    *,
    rivals: Tensor | None = None,
    rough: Objective | None = None,
) -> Search:
    """Minimise a function of each row's position from ``start`` (B, Q) by L-BFGS.

    The searches share nothing but the batches in which they are evaluated: each has its own curvature, step length and
    end, where a step promises a fall of less than ``tolerance``. ``covariance`` are inverses of rough Hessians,
    (B, Q, Q) or their diagonals (B, Q), which each search scales to what it meets. Values may be of a higher precision
    than positions and gradients.

    Of searches with equal numbers in ``rivals`` (B,), only that which ends lowest is wanted. A search that is above
    another one by several times the fall that its next step promises is given up. Its value is infinite then.

    ``rough`` is the same function in single precision. Searches go as far as that leads, and end on ``objective``.
    """
    tolerance = _PROMISE if tolerance is None else tolerance
    race = _Race(rivals, start)
    if rough is None:
        ended = _descend(objective, _State.starting(objective, start, covariance), max_steps, tolerance, race)
        return Search(ended.position, race.values(ended.value), ended.arrived)
    single = _State.starting(rough, start.float(), covariance.float())
    single = _descend(rough, single, max_steps, tolerance, race)
    left = race.wanted.nonzero()[:, 0]
    objective, race = objective.take(left), _Race(None if rivals is None else rivals[left], start[left])
    last = _descend(objective, single.take(left).going_on(objective, start.dtype), max_steps, tolerance, race)
    value = torch.full((len(start),), torch.inf).to(last.value).index_copy(0, left, race.values(last.value))
    arrived = torch.zeros_like(single.arrived).index_copy(0, left, last.arrived)
    return Search(single.position.to(start).index_copy(0, left, last.position), value, arrived)


class _Race:
    """Which of several searches for one thing are still wanted: those that may end lower than all others.

    ``rivals`` (B,) are numbers of what the searches are for; None where each is for something of its own.
    """

    def __init__(self, rivals: Tensor | None, start: Tensor):
        self._rivals = rivals
        self._values = torch.full((len(start),), torch.inf, dtype=torch.float64, device=start.device)
        self.wanted = torch.ones(len(start), dtype=torch.bool, device=start.device)

    def give_up_(self, numbers: Tensor, value: Tensor, promise: Tensor) -> Tensor:
        """Which of the searches of some numbers (J,) are no longer wanted, with values and promises (J,)."""
        if self._rivals is None:
            return torch.zeros_like(promise, dtype=torch.bool)
        self._values[numbers] = value.double().nan_to_num(nan=torch.inf)
        lowest = torch.full((1 + int(self._rivals.max()),), torch.inf).to(self._values)
        lowest = lowest.scatter_reduce(0, self._rivals, self._values, "amin")[self._rivals[numbers]]
        hopeless = value - _HOPE * promise - _NOISE * _rounding(value) > lowest
        self.wanted[numbers[hopeless]] = False
        return hopeless

    def values(self, value: Tensor) -> Tensor:
        """Values (B,), infinite for the searches that were given up."""
        return torch.where(self.wanted, value, torch.inf)


def _descend(objective: Objective, state: _State, max_steps: int, tolerance: float, race: _Race) -> _State:
    """Go on with searches until each has arrived, has been given up, or finds no way down."""
    whole = _State(*(part.clone() for part in state))
    numbers = torch.arange(len(state.value), device=state.value.device)
    under_way = torch.ones_like(state.arrived)
    has_arrived = state.arrived
    for n_steps in range(max_steps):
        direction, promise = state.directions()
        if n_steps:
            under_way = under_way & ~race.give_up_(numbers, state.value, promise)
        else:
            # Searches that go on from a lower precision have mostly arrived.
            at_once = has_arrived & _promises_little(promise, state.value, tolerance)
            state, under_way = state._replace(arrived=at_once), ~at_once
        if not under_way.any():
            break
        if under_way.double().mean() < _CROWDED:
            whole.put_(numbers, state)
            objective, state, numbers = objective.take(under_way), state.take(under_way), numbers[under_way]
            direction, promise = direction[under_way], promise[under_way]
            under_way = under_way[under_way]
        moved, position, value, gradient = _line_search(objective, state, direction, promise, under_way)
        arrived = under_way & _promises_little(promise, state.value, tolerance)
        state = state.after(moved, position, value, gradient, under_way)._replace(arrived=state.arrived | arrived)
        under_way = under_way & moved & ~arrived
    whole.put_(numbers, state)
    return whole


def _promises_little(promise: Tensor, value: Tensor, tolerance: float) -> Tensor:
    """Which searches have arrived: the fall that the next step promises is within the tolerance, or rounding."""
    return 0.5 * promise < _rounding(value).clamp(min=tolerance)


def _rounding(value: Tensor) -> Tensor:
    """By how much the nearest numbers of its precision differ from a value."""
    return torch.finfo(value.dtype).eps * value.abs()


def _line_search(
    objective: Objective, state: _State, direction: Tensor, promise: Tensor, under_way: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Which rows moved, and the positions, values and gradients then: each step is shortened until it leads down."""
    z, f = state.position, state.value
    length = torch.ones_like(promise)
    value, slope = objective(z + direction)
    moved = under_way & _leads_down(state, value, slope, direction, promise, length)
    pending = (under_way & ~moved).nonzero()[:, 0]
    for _ in range(_SHORTENINGS):
        if not len(pending):
            break
        # Where the parabola through what is known has its minimum.
        excess = (value[pending] - f[pending]).to(length) + length[pending] * promise[pending]
        shorter = 0.5 * promise[pending] * length[pending] ** 2 / excess.clamp(min=torch.finfo(excess.dtype).tiny)
        shorter = shorter.nan_to_num(nan=0.0)  # no parabola leads to where the function has no value
        length[pending] = torch.maximum(torch.minimum(shorter, 0.5 * length[pending]), 0.1 * length[pending])
        trial = z[pending] + length[pending, None] * direction[pending]
        value[pending], slope[pending] = objective.take(pending)(trial)
        these = state.take(pending)
        good = _leads_down(these, value[pending], slope[pending], direction[pending], promise[pending], length[pending])
        moved[pending[good]] = True
        pending = pending[~good]
    position = torch.where(moved[:, None], z + length[:, None] * direction, z)
    return moved, position, torch.where(moved, value, f), slope


def _leads_down(
    state: _State, value: Tensor, gradient: Tensor, direction: Tensor, promise: Tensor, length: Tensor
) -> Tensor:
    """Which steps of a length (B,) lead down, given values and gradients at their ends (B,).

    Where rounding hides the fall of the value, the slope tells (Hager and Zhang, 2005).
    """
    falls = value <= state.value - _SUFFICIENT * length * promise
    is_level = value <= state.value + _NOISE * _rounding(state.value)
    return falls | (is_level & ((gradient * direction).sum(1) <= (1 - 2 * _SUFFICIENT) * promise))


def _apply(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Products with matrices (B, Q, Q), or with diagonal ones (B, Q): (B, Q)."""
    return matrices * vectors if matrices.ndim == 2 else torch.einsum("bpq,bq->bp", matrices, vectors)


def _inverse_hessian_product(gradient: Tensor, history: Tensor, covariance: Tensor, scale: Tensor) -> Tensor:
    """The two-loop recursion (Nocedal, 1980), row by row; pairs without positive curvature are passed over."""
    r, weights = gradient, []
    steps, differences = history.unbind(2)  # (B, M, Q)
    curvature = (steps * differences).sum(2)
    shares = torch.where(curvature > 0, 1 / curvature.clamp(min=torch.finfo(r.dtype).tiny), 0.0)
    pairs = [m for m in range(history.shape[1]) if shares[:, m].any()]
    for m in reversed(pairs):
        weight = shares[:, m] * (steps[:, m] * r).sum(1)
        r = r - weight[:, None] * differences[:, m]
        weights.append(weight)
    r = scale[:, None] * _apply(covariance, r)
    for m, weight in zip(pairs, reversed(weights), strict=True):
        r = r + (weight - shares[:, m] * (differences[:, m] * r).sum(1))[:, None] * steps[:, m]
    return r
