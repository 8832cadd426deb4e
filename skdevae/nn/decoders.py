"""Decoders: from a latent to curves, one for every feature and each of its candidates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, softplus

from .behaviors import BEHAVIORS, Behavior, can_be_reversed, weighted_plane
from .integrals import GaussLegendreRule, GridRule, IntegrationRule, symmetric_grid
from .layers import Linear, inverse_softplus, multilayer_perceptron, weights_log_prior
from .linear_tables import ALL_COLUMNS

#: nodes of the quadrature between 0 and each z (BasisDeVAE, section 3)
GAUSS_LEGENDRE_ORDER = 15

#: logarithms to base 2 of the least and largest steepness with which hidden units bend at the start, per prior sd
_LOG_STEEPNESS = (-1, 2)

#: arrays with one entry for each point and knot that setting up a grid rule takes
_ARRAYS_OF_A_GRID_RULE = 16


class Decoder(nn.Module):
    """Curves of D features over a latent of Q components, with K candidate curves for each feature.

    A subclass defines :meth:`forward`, :meth:`initialize_`, :meth:`log_prior` and :meth:`mirror_`. The other hooks have
    defaults for decoders with one candidate.
    """

    @property
    def nodes_per_point(self) -> int:
        """How many evaluations of a network one point of a curve takes."""
        return 1

    @property
    def weights_per_point(self) -> int:
        """How many weights of an integration rule one point takes, intermediate results included."""
        return 1

    def prepare(self, z: Tensor) -> Any:
        """All that curves at z (P, Q) need and that does not depend on parameters: the argument of :meth:`forward`."""
        return z

    def forward(self, points: Any, sharing: Tensor | None = None, columns: slice = ALL_COLUMNS) -> Tensor:
        """Curves of some features at prepared points: (P, K, d), on the scale on which the likelihood takes them.

        Some parameters belong to curves of several features. ``sharing`` (K, d), where given, is what the gradient that
        a candidate of a feature sends to them is multiplied by. Parameters of one candidate of one feature always get
        their whole gradient.
        """
        raise NotImplementedError

    def select(self, points: Any, labels: Tensor, columns: slice = ALL_COLUMNS) -> Tensor:
        """Curves of one candidate for each of some features, with numbers ``labels`` (d,): (P, d)."""
        curves: Tensor = self(points, columns=columns)
        return curves[:, labels, torch.arange(len(labels), device=labels.device)]

    def initialize_(self, target: Tensor, mass: Tensor, z: Tensor) -> None:
        """Start near rough curves ``target`` (P, D) at ``z`` (P, Q), whose points have the weights ``mass`` (P,)."""
        raise NotImplementedError

    def log_prior(self, weight_precision: float | None) -> Tensor:
        """Log prior of the parameters of each (candidate, feature), up to a constant: (K, D).

        ``weight_precision`` is the precision of the Gaussian prior on output weights, in nats for the whole table.
        """
        raise NotImplementedError

    def shared_log_prior(self, weight_precision: float | None) -> Tensor:
        """Log prior of the parameters that features share, up to a constant: a scalar.

        ``weight_precision`` is as in :meth:`log_prior`.
        """
        return torch.zeros(())

    @property
    def names(self) -> list[str]:
        """Names of the K candidates. An empty name stands for a candidate without a meaning of its own."""
        return [""]

    @property
    def n_shape_parameters(self) -> Tensor:
        """Number of shape parameters of each candidate, as Schwarz's criterion counts them: (K,).

        Zeros where candidates do not compete, or are equally flexible.
        """
        return torch.zeros(1)

    def peaks(self) -> Tensor | None:
        """Where along the axis each candidate of a feature has its maximum, NaN for candidates that have none: (K, D).

        None where no candidate is known to have one.
        """
        return None

    @property
    def can_mirror(self) -> bool:
        """Whether every curve that the decoder can take is still possible on a reversed axis."""
        return True

    def mirror_(self, component: int) -> list[int]:
        """Reverse one latent axis, in place.

        Candidates may change places. The result says, for each position, which candidate stands there now: its
        position before.
        """
        raise NotImplementedError


def spread_first_layer_(hidden: nn.Sequential, generator: torch.Generator, width: float = 1.0) -> None:
    """Let the hidden units of a network of z bend at different places: within about ``width`` prior sds of 0.

    The network's outputs then have local shape from the start.
    """
    if len(hidden):
        layer = cast(nn.Linear, hidden[0])
        with torch.no_grad():
            layer.weight.normal_(0, 1, generator=generator)
            layer.bias.normal_(0, width, generator=generator)


def spread_along_axis_(hidden: nn.Sequential, generator: torch.Generator, width: float) -> None:
    """The same for a network of one coordinate, some of whose units bend sharply and some gently.

    Steps and slow drifts then are both within reach of a few gradient steps.
    """
    if len(hidden):
        layer = cast(nn.Linear, hidden[0])
        n_units = len(layer.bias)
        with torch.no_grad():
            steepness = torch.logspace(*_LOG_STEEPNESS, n_units, base=2.0)
            sign = 1 - 2 * torch.randint(2, (n_units,), generator=generator)
            place = width * torch.randn(n_units, generator=generator)
            layer.weight.copy_((sign * steepness)[:, None])
            layer.bias.copy_(-sign * steepness * place)


class AxisNetwork(nn.Module):
    """Hidden layers over one coordinate, and the rule by which functions of them are integrated along it.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int
        Widths of the hidden layers. Without any, the only activation is the coordinate itself.
    activation : str
        Name from :data:`~skdevae.nn.layers.ACTIVATIONS`.
    integrator : {"grid", "gauss-legendre"}
    n_knots : int
        Number of knots at which ``integrator="grid"`` evaluates the network.
    z_max : float
        The knots lie between -z_max and z_max.
    generator : torch.Generator
        Source of the starting weights.
    """

    def __init__(
        self,
        *,
        hidden_layer_sizes: Sequence[int],
        activation: str,
        integrator: str,
        n_knots: int,
        z_max: float,
        generator: torch.Generator,
    ):
        super().__init__()
        self.integrator = integrator
        self.hidden, self.n_hidden = multilayer_perceptron(1, hidden_layer_sizes, activation, generator)
        spread_along_axis_(self.hidden, generator, z_max / 4.5)
        self.knots = nn.Buffer(symmetric_grid(n_knots, z_max).float())
        self.direction = nn.Buffer(torch.ones(()))

    @property
    def nodes_per_point(self) -> int:
        """How many evaluations of the network one integral takes, beside those that all integrals share."""
        return 1 if self.integrator == "grid" else GAUSS_LEGENDRE_ORDER

    @property
    def weights_per_point(self) -> int:
        """How many entries setting up :meth:`rule` takes for each point."""
        return _ARRAYS_OF_A_GRID_RULE * len(self.knots) if self.integrator == "grid" else GAUSS_LEGENDRE_ORDER

    def rule(self, z: Tensor) -> IntegrationRule:
        """The integration rule for upper limits z (P,)."""
        return GridRule(self.knots, z) if self.integrator == "grid" else GaussLegendreRule(GAUSS_LEGENDRE_ORDER, z)

    def activations(self, rule: IntegrationRule) -> Tensor:
        """Activations of the last hidden layer at the rule's nodes: (nodes, H)."""
        activations: Tensor = self.hidden(self.direction * rule.nodes[:, None])
        return activations


class BehaviorNetwork(AxisNetwork):
    """A network of one coordinate, and behaviours that make curves from its hidden activations.

    Parameters
    ----------
    sizes : sequence of (str, int)
        Name of each behaviour, from :data:`~skdevae.nn.behaviors.BEHAVIORS`, and its number of curves.
    generator : torch.Generator
        Source of the starting weights.
    **network
        See :class:`AxisNetwork`.
    """

    def __init__(self, sizes: Sequence[tuple[str, int]], *, generator: torch.Generator, **network: Any):
        super().__init__(generator=generator, **network)
        self.slots = nn.ModuleList(BEHAVIORS[name](size, self.n_hidden, generator) for name, size in sizes)

    @property
    def behaviors(self) -> list[Behavior]:
        """The behaviours, in their order."""
        return [cast(Behavior, slot) for slot in self.slots]

    def behavior_curves(self, rule: IntegrationRule, columns: slice = ALL_COLUMNS) -> list[Tensor]:
        """Curves of each behaviour, or some of them, at the rule's limits: (P, size) each."""
        hidden = self.activations(rule)
        return [behavior.curves_of(columns, hidden, rule) for behavior in self.behaviors]

    def mirror_behaviors_(self) -> None:
        """Reverse the axis, in place. What was increasing is called decreasing afterwards."""
        self.direction.neg_()
        for behavior in self.behaviors:
            behavior.mirror_()


class DerivativeDecoder(BehaviorNetwork, Decoder):
    """Curves of D features over one axis, with K behaviours as candidates (BasisDeVAE, section 4).

    All behaviours share one stack of hidden layers.

    Parameters
    ----------
    n_features : int
    behaviors : sequence of str
        Names from :data:`~skdevae.nn.behaviors.BEHAVIORS`.
    generator : torch.Generator
        Source of the starting weights.
    **network
        See :class:`AxisNetwork`.
    """

    def __init__(self, n_features: int, behaviors: Sequence[str], *, generator: torch.Generator, **network: Any):
        super().__init__([(name, n_features) for name in behaviors], generator=generator, **network)
        self.n_features = n_features

    def prepare(self, z: Tensor) -> IntegrationRule:
        return self.rule(z[:, 0])

    def forward(self, points: IntegrationRule, sharing: Tensor | None = None, columns: slice = ALL_COLUMNS) -> Tensor:
        # Only the hidden layers are shared. They learn from every candidate, whatever ``sharing`` says.
        return torch.stack(self.behavior_curves(points, columns), 1)

    def initialize_(self, target: Tensor, mass: Tensor, z: Tensor) -> None:
        for behavior in self.behaviors:
            behavior.initialize_(target, mass, z[:, 0])

    def log_prior(self, weight_precision: float | None) -> Tensor:
        return torch.stack([behavior.log_prior(weight_precision) for behavior in self.behaviors])

    @property
    def names(self) -> list[str]:
        return [behavior.name for behavior in self.behaviors]

    @property
    def n_shape_parameters(self) -> Tensor:
        return torch.tensor([behavior.n_shape_parameters for behavior in self.behaviors])

    def peaks(self) -> Tensor | None:
        none = torch.full((self.n_features,), torch.nan).to(self.knots)
        found = [behavior.peaks() for behavior in self.behaviors]
        return torch.stack([none if peaks is None else peaks for peaks in found])

    @property
    def can_mirror(self) -> bool:
        return can_be_reversed(self.names)

    def mirror_(self, component: int) -> list[int]:
        names = self.names
        self.mirror_behaviors_()
        order = [self.names.index(name) for name in names]
        self.slots = nn.ModuleList(self.slots[position] for position in order)
        return order


def some_outputs(head: nn.Linear, hidden: Tensor, columns: slice, level: Tensor | None = None) -> Tensor:
    """Some of the outputs of a linear layer, (n, d), for its inputs (n, H); ``level`` (d,) is added to them."""
    # The gradient of a slice is copied into zeros.
    weight, bias = (head.weight, head.bias) if columns == ALL_COLUMNS else (head.weight[columns], head.bias[columns])
    return linear(hidden, weight, bias if level is None else bias + level)


def _constrained(rate: Tensor, signs: Tensor) -> Tensor:
    """Derivatives with the signs (d,) of their features, (nodes, d), from a network's outputs."""
    if not signs.any():
        return rate
    signed = signs * softplus(rate)
    return signed if signs.all() else torch.where(signs == 0, rate, signed)


class AdditiveDerivativeDecoder(Decoder):
    """x0 plus one integral for each latent component, from 0, of a network's outputs (BasisDeVAE, equations 8 to 10).

    Every feature has one curve. Its derivatives along all components are positive where its sign is +1, and negative
    where its sign is -1. A sign of 0 leaves them free.

    Parameters
    ----------
    n_features, n_components : int
    signs : sequence of int
        -1, 0 or 1 for each feature.
    generator : torch.Generator
        Source of the starting weights.
    **network
        See :class:`AxisNetwork`. There is one such network for each component.
    """

    def __init__(
        self,
        n_features: int,
        n_components: int,
        *,
        signs: Sequence[int],
        generator: torch.Generator,
        **network: Any,
    ):
        super().__init__()
        self.axes, self.heads = nn.ModuleList(), nn.ModuleList()
        for _ in range(n_components):
            axis = AxisNetwork(generator=generator, **network)
            self.axes.append(axis)
            self.heads.append(Linear(axis.n_hidden, n_features, generator, scale=0.03))
        self.start = nn.Parameter(torch.zeros(n_features))
        self.signs = nn.Buffer(torch.tensor(signs, dtype=torch.float32))

    @property
    def components(self) -> list[tuple[AxisNetwork, nn.Linear]]:
        """The network and the output layer of each latent component."""
        pairs = zip(self.axes, self.heads, strict=True)
        return [(cast(AxisNetwork, axis), cast(nn.Linear, head)) for axis, head in pairs]

    @property
    def nodes_per_point(self) -> int:
        return self.components[0][0].nodes_per_point

    @property
    def weights_per_point(self) -> int:
        return self.components[0][0].weights_per_point

    def prepare(self, z: Tensor) -> list[tuple[IntegrationRule, Tensor | tuple[int, ...] | None]]:
        """For each component an integration rule, and for each point its place among the rule's limits.

        Points of a grid share few coordinates. So where z is fixed the limits are its distinct coordinates. Where the
        points are all combinations of these, as on a whole grid, the place is a shape with one dimension for each
        component, of which one is the limits'. Where z has a gradient, or one component, the limits are those of the
        points, and the places are None.
        """
        if z.shape[1] == 1 or z.requires_grad:
            return [
                (axis.rule(coordinate), None)
                for (axis, _), coordinate in zip(self.components, z.unbind(1), strict=True)
            ]
        found = [torch.unique(coordinate, return_inverse=True) for coordinate in z.unbind(1)]
        limits, places = [coordinate for coordinate, _ in found], [place for _, place in found]
        if len(z) == math.prod(map(len, limits)) and torch.equal(z, torch.cartesian_prod(*limits)):
            along = range(len(limits))
            places = [tuple(len(limits[i]) if i == component else 1 for i in along) for component in along]
        rules = [axis.rule(coordinate) for (axis, _), coordinate in zip(self.components, limits, strict=True)]
        return list(zip(rules, places, strict=True))

    def forward(
        self,
        points: list[tuple[IntegrationRule, Tensor | tuple[int, ...] | None]],
        sharing: Tensor | None = None,
        columns: slice = ALL_COLUMNS,
    ) -> Tensor:
        curves, signs = None, self.signs[columns]
        for (axis, head), (rule, place) in zip(self.components, points, strict=True):
            rate = _constrained(some_outputs(head, axis.activations(rule), columns), signs)
            along = rule.integral(rate) if curves is not None else rule.integral(rate, offset=self.start[columns])
            if isinstance(place, tuple):
                along = along.view(*place, -1)
            elif place is not None:
                along = along[place]
            curves = along if curves is None else curves + along
        return cast(Tensor, curves).flatten(0, -2)[:, None]

    def select(
        self,
        points: list[tuple[IntegrationRule, Tensor | tuple[int, ...] | None]],
        labels: Tensor,
        columns: slice = ALL_COLUMNS,
    ) -> Tensor:
        curves: Tensor = self(points, columns=columns)
        return curves[:, 0]  # the only candidate, without a copy

    def initialize_(self, target: Tensor, mass: Tensor, z: Tensor) -> None:
        level, slopes = weighted_plane(target, mass, z)
        with torch.no_grad():
            self.start.copy_(level)
            for (_, head), slope in zip(self.components, slopes, strict=True):
                constrained = inverse_softplus((self.signs * slope).clamp(min=0.05))
                head.bias.copy_(torch.where(self.signs == 0, slope, constrained))

    def log_prior(self, weight_precision: float | None) -> Tensor:
        priors = [weights_log_prior(head.weight.square().sum(1), weight_precision) for _, head in self.components]
        return torch.stack(priors).sum(0)[None]

    @property
    def can_mirror(self) -> bool:
        return not self.signs.any()

    def mirror_(self, component: int) -> list[int]:
        # d/dz g(-z) = -f(-z). With every sign 0, f is the network's output itself.
        axis, head = self.components[component]
        with torch.no_grad():
            axis.direction.neg_()
            head.weight.neg_()
            head.bias.neg_()
        return [0]
