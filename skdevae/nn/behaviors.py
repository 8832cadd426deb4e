"""Behaviours: families of curves over a one-dimensional latent, each defined by its derivative.

All behaviours share the hidden layers of one network of the latent. From their activations, and from parameters of its
own for each feature, a behaviour makes one curve for each feature. A new behaviour is a class with the hooks of
:class:`Behavior` and a line in :data:`BEHAVIORS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import softplus

from .integrals import IntegrationRule
from .layers import Linear, inverse_softplus, weights_log_prior
from .linear_tables import ALL_COLUMNS


class Behavior(nn.Module):
    """One family of curves, with one member for each of D features."""

    #: number of parameters of its shape, level and height left out, as Schwarz's criterion counts them
    n_shape_parameters: int

    @property
    def name(self) -> str:
        """The behaviour's name in :data:`BEHAVIORS`."""
        raise NotImplementedError

    def peaks(self) -> Tensor | None:
        """Where each curve has a maximum that is worth reporting, (D,); None where curves have none."""
        return None

    def curve(self, hidden: Tensor, rule: IntegrationRule) -> Tensor:
        """Every feature's curve at ``rule.z``, (P, D), from the hidden activations (nodes, H) at ``rule.nodes``."""
        raise NotImplementedError

    def forward(self, hidden: Tensor, rule: IntegrationRule) -> Tensor:
        """:meth:`curve`, as a module is called."""
        return self.curve(hidden, rule)

    def curves_of(self, columns: slice, hidden: Tensor, rule: IntegrationRule) -> Tensor:
        """:meth:`curve` of some features alone, (P, d). Every parameter has one entry or row for each feature."""
        if columns == ALL_COLUMNS:
            return self.curve(hidden, rule)
        own = {name: parameter[columns] for name, parameter in self.named_parameters()}
        curves: Tensor = functional_call(self, own, (hidden, rule))
        return curves

    def initialize_(self, target: Tensor, mass: Tensor, z: Tensor) -> None:
        """Start near rough curves ``target`` (P, D) at ``z`` (P,), whose points have the weights ``mass`` (P,)."""
        raise NotImplementedError

    def log_prior(self, weight_precision: float | None) -> Tensor:
        """Log prior density of each feature's parameters, up to a constant: (D,).

        ``weight_precision`` is the precision of the Gaussian prior on output weights, in nats for the whole table.
        """
        raise NotImplementedError

    def mirror_(self) -> None:
        """Reverse the axis of every curve, in place. The caller reverses the hidden activations."""


def weighted_plane(target: Tensor, mass: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted least squares of every column of ``target`` (P, D) on z (P, Q).

    Returns the levels (D,) at z = 0 and the slopes (Q, D). ``mass`` (P,) are the weights.
    """
    weight = (mass / mass.sum())[:, None]
    center, level = (weight * z).sum(0), (weight * target).sum(0)
    spread = z - center
    # A direction in which the points do not differ gets no slope.
    slopes = torch.linalg.pinv(spread.T @ (weight * spread), hermitian=True) @ (spread.T @ (weight * (target - level)))
    return level - center @ slopes, slopes


def _smoothness(head: nn.Linear, precision: float | None) -> Tensor:
    """Log prior density of each feature's output weights, up to a constant: (D,)."""
    return weights_log_prior(torch.linalg.vecdot(head.weight, head.weight), precision)


class Monotone(Behavior):
    """x0 + sign * integral of a positive function, which rises everywhere or falls everywhere (BasisDeVAE, section 4).

    Parameters
    ----------
    n_features, n_hidden : int
        D, and the width H of the last hidden layer.
    generator : torch.Generator
        Source of the starting weights.
    sign : {+1, -1}
        +1 for curves that rise.
    """

    n_shape_parameters = 1

    def __init__(self, n_features: int, n_hidden: int, generator: torch.Generator, *, sign: int):
        super().__init__()
        self.sign = nn.Buffer(torch.tensor(float(sign)))
        self.head = Linear(n_hidden, n_features, generator, scale=0.03)
        self.start = nn.Parameter(torch.zeros(n_features))

    @property
    def name(self) -> str:
        return "increasing" if self.sign > 0 else "decreasing"

    def curve(self, hidden: Tensor, rule: IntegrationRule) -> Tensor:
        return rule.integral(self.sign * softplus(self.head(hidden)), offset=self.start)

    def initialize_(self, target: Tensor, mass: Tensor, z: Tensor) -> None:
        level, (slope,) = weighted_plane(target, mass, z[:, None])
        with torch.no_grad():
            self.start.copy_(level)
            self.head.bias.copy_(inverse_softplus((self.sign * slope).clamp(min=0.05)))

    def log_prior(self, weight_precision: float | None) -> Tensor:
        return _smoothness(self.head, weight_precision)

    def mirror_(self) -> None:
        self.sign.neg_()


class Bump(Behavior):
    """b + sign * A exp(-h(z)^2), which has one stationary point, at z = t0 (BasisDeVAE, section 4 and appendix A).

    h(z) = (z - t0) softplus(c + integral_0^z (s - t0) f(s) ds) with f > 0. It increases everywhere, and h(t0) = 0. As
    in the paper, t0 has a standard normal prior and A has a Gamma(1, 1) prior. The paper has b = 0. Biomarkers do not
    fall to zero, so here b is learned.

    Parameters
    ----------
    n_features, n_hidden : int
        D, and the width H of the last hidden layer.
    generator : torch.Generator
        Source of the starting weights.
    sign : {+1, -1}
        +1 for a maximum at t0, -1 for a minimum.
    """

    n_shape_parameters = 2

    def __init__(self, n_features: int, n_hidden: int, generator: torch.Generator, *, sign: int):
        super().__init__()
        self.sign = sign
        self.head = Linear(n_hidden, n_features, generator, scale=0.03)
        self.peak = nn.Parameter(torch.zeros(n_features))
        self.steepness = nn.Parameter(torch.zeros(n_features))
        self.raw_height = nn.Parameter(torch.zeros(n_features))
        self.base = nn.Parameter(torch.zeros(n_features))

    @property
    def name(self) -> str:
        return "transient" if self.sign > 0 else "dip"

    def peaks(self) -> Tensor | None:
        return self.peak if self.sign > 0 else None

    @property
    def height(self) -> Tensor:
        """A, (D,): positive."""
        return softplus(self.raw_height)

    def curve(self, hidden: Tensor, rule: IntegrationRule) -> Tensor:
        rate = softplus(self.head(hidden))
        widening = rule.integral(-self.peak * rate, offset=rule.moment(rate, offset=self.steepness))
        h = (rule.z[:, None] - self.peak) * softplus(widening)
        return torch.addcmul(self.base, torch.exp((h * h).neg_()), self.sign * self.height)

    def initialize_(self, target: Tensor, mass: Tensor, z: Tensor) -> None:
        weight = (mass / mass.sum())[:, None]
        level = (weight * target).sum(0)
        spread = (weight * (target - level) ** 2).sum(0).sqrt()
        # The extremum starts where the feature is high, or low for a dip.
        pull = torch.softmax(self.sign * 2 * (target - level) / spread.clamp(min=1e-6) + weight.log(), 0)
        with torch.no_grad():
            self.peak.copy_(pull.T @ z)
            self.raw_height.copy_(inverse_softplus((2 * spread).clamp(min=0.05)))
            self.base.copy_(level - self.sign * 0.5 * self.height)
            self.head.bias.fill_(inverse_softplus(torch.tensor(0.3)))

    def log_prior(self, weight_precision: float | None) -> Tensor:
        return _smoothness(self.head, weight_precision) - 0.5 * self.peak**2 - self.height

    def mirror_(self) -> None:
        with torch.no_grad():
            self.peak.neg_()


class Flat(Behavior):
    """A constant: the feature does not depend on the latent."""

    name = "flat"
    n_shape_parameters = 0

    def __init__(self, n_features: int, n_hidden: int, generator: torch.Generator):
        super().__init__()
        self.level = nn.Parameter(torch.zeros(n_features))

    def curve(self, hidden: Tensor, rule: IntegrationRule) -> Tensor:
        return self.level.expand(len(rule.z), -1)

    def initialize_(self, target: Tensor, mass: Tensor, z: Tensor) -> None:
        with torch.no_grad():
            self.level.copy_(mass @ target / mass.sum())

    def log_prior(self, weight_precision: float | None) -> Tensor:
        return torch.zeros_like(self.level)


class Free(Behavior):
    """x0 + integral of a function of either sign, which can be any smooth curve."""

    name = "free"
    n_shape_parameters = 2

    def __init__(self, n_features: int, n_hidden: int, generator: torch.Generator):
        super().__init__()
        self.head = Linear(n_hidden, n_features, generator, scale=0.03)
        self.start = nn.Parameter(torch.zeros(n_features))

    def curve(self, hidden: Tensor, rule: IntegrationRule) -> Tensor:
        return rule.integral(self.head(hidden), offset=self.start)

    def initialize_(self, target: Tensor, mass: Tensor, z: Tensor) -> None:
        level, (slope,) = weighted_plane(target, mass, z[:, None])
        with torch.no_grad():
            self.start.copy_(level)
            self.head.bias.copy_(slope)

    def log_prior(self, weight_precision: float | None) -> Tensor:
        return _smoothness(self.head, weight_precision)

    def mirror_(self) -> None:
        # d/dz g(-z) = -f(-z): the caller turns f(z) into f(-z), and the sign changes here.
        with torch.no_grad():
            self.head.weight.neg_()
            self.head.bias.neg_()


#: name -> behaviour, in the order in which ``n_clusters`` takes them
BEHAVIORS: dict[str, Callable[[int, int, torch.Generator], Behavior]] = {
    "increasing": partial(Monotone, sign=+1),
    "decreasing": partial(Monotone, sign=-1),
    "transient": partial(Bump, sign=+1),
    "flat": Flat,
    "dip": partial(Bump, sign=-1),
    "free": Free,
}


def can_be_reversed(names: Sequence[str]) -> bool:
    """Whether the same behaviours describe the reversed axis: both monotone ones are among them, or neither is."""
    return ("increasing" in names) == ("decreasing" in names)
