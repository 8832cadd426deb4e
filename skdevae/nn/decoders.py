"""Decoders: from the latent to one curve for every feature and each of its candidate behaviours."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from .behaviors import BEHAVIORS, Behavior, can_be_reversed, weighted_plane
from .integrals import GaussLegendreRule, GridRule, IntegrationRule, symmetric_grid
from .layers import inverse_softplus, linear, multilayer_perceptron

GAUSS_LEGENDRE_ORDER = 15  # BasisDeVAE, section 3


class Decoder(nn.Module):
    """Curves of D features over a latent of Q components, with K candidates for each feature.

    Subclasses define :meth:`forward` and :meth:`initialize_`; the other hooks have defaults for one candidate without
    parameters that have a prior.
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
        """Whatever of the curves at z (P, Q) does not depend on parameters: the argument of :meth:`forward`."""
        return z

    def forward(self, points: Any, sharing: Tensor | None = None) -> Tensor:
        """Curves at prepared points: (P, K, D), in the units of the likelihood's predictor.

        ``sharing`` (K, D), where given, are the shares in which candidates send gradient to parameters that curves of
        several features have in common. Parameters of one candidate of one feature always get all of theirs.
        """
        raise NotImplementedError

    def select(self, points: Any, labels: Tensor) -> Tensor:
        """The curve of one candidate for each feature, ``labels`` (D,): (P, D)."""
        return self(points)[:, labels, torch.arange(len(labels), device=labels.device)]

    def initialize_(self, target: Tensor, mass: Tensor, z: Tensor) -> None:
        """Start near ``target`` (P, D), rough curves at ``z`` (P, Q) seen with weights ``mass`` (P,)."""
        raise NotImplementedError

    def log_prior(self, weight_decay: float) -> Tensor:
        """Log prior of the parameters of each (candidate, feature), up to a constant: (K, D)."""
        raise NotImplementedError

    def shared_log_prior(self, weight_decay: float) -> Tensor:
        """Log prior of parameters that features share, up to a constant: a scalar."""
        return torch.zeros(())

    @property
    def names(self) -> list[str]:
        """What the candidates are called; empty where that has no meaning."""
        return [""]

    @property
    def n_shape_parameters(self) -> Tensor:
        """Of every candidate, as Schwarz's criterion counts them when candidates compete: (K,)."""
        return torch.zeros(1)

    @property
    def can_mirror(self) -> bool:
        """Whether every curve that the decoder can have, it can also have on the reversed axis."""
        return True

    def mirror_(self, component: int) -> list[int]:
        """Reverse an axis, in place; for each candidate afterwards, the position of the one that it was before."""
        raise NotImplementedError


def nodes_per_point(integrator: str) -> int:
    """Nodes that an integral takes beside those that all share."""
    return 1 if integrator == "grid" else GAUSS_LEGENDRE_ORDER


def weights_per_point(integrator: str, knots: Tensor) -> int:
    """Entries that setting up a rule takes for each point: several arrays with a column for every knot."""
    return 16 * len(knots) if integrator == "grid" else GAUSS_LEGENDRE_ORDER


def integration_rule(integrator: str, knots: Tensor, z: Tensor) -> IntegrationRule:
    """The rule of a given name for upper limits z (P,)."""
    if integrator == "grid":
        return GridRule(knots, z)
    return GaussLegendreRule(GAUSS_LEGENDRE_ORDER, z)


def spread_first_layer_(hidden: nn.Sequential, generator: torch.Generator, width: float = 1.0) -> None:
    """Let hidden units of a network of z turn at different places along the axis, ``width`` prior sds around 0.

    That gives its outputs local shape from the start.
    """
    if len(hidden):
        layer = cast(nn.Linear, hidden[0])
        with torch.no_grad():
            layer.weight.normal_(0, 1, generator=generator)
            layer.bias.normal_(0, width, generator=generator)


class AxisNetwork(nn.Module):
    """A network of one coordinate, whose outputs others integrate along it.

    Parameters
    ----------
    hidden_layer_sizes, activation
        Hidden layers; empty leaves the coordinate itself.
    integrator : {"grid", "gauss-legendre"}
    n_knots, z_max
        Knots on which ``integrator="grid"`` evaluates the network.
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
        spread_first_layer_(self.hidden, generator, z_max / 4.5)
        self.knots = nn.Buffer(symmetric_grid(n_knots, z_max).float())
        self.direction = nn.Buffer(torch.ones(()))

    def rule(self, z: Tensor) -> IntegrationRule:
        """The integration rule for upper limits z (P,)."""
        return integration_rule(self.integrator, self.knots, z)

    def activations(self, rule: IntegrationRule) -> Tensor:
        """Of the last hidden layer, at the rule's nodes: (nodes, H)."""
        return self.hidden(self.direction * rule.nodes[:, None])


class DerivativeDecoder(AxisNetwork, Decoder):
    """Curves of K behaviours for D features over one axis, from one hidden layer stack that all of them share.

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
        super().__init__(generator=generator, **network)
        self.slots = nn.ModuleList(BEHAVIORS[name](n_features, self.n_hidden, generator) for name in behaviors)

    @property
    def nodes_per_point(self) -> int:
        return nodes_per_point(self.integrator)

    @property
    def weights_per_point(self) -> int:
        return weights_per_point(self.integrator, self.knots)

    def prepare(self, z: Tensor) -> IntegrationRule:
        return self.rule(z[:, 0])

    def forward(self, points: IntegrationRule, sharing: Tensor | None = None) -> Tensor:
        # The hidden layers, all that behaviours share, learn from every candidate.
        hidden = self.activations(points)
        return torch.stack([behavior.curve(hidden, points) for behavior in self.behaviors], 1)

    def initialize_(self, target: Tensor, mass: Tensor, z: Tensor) -> None:
        for behavior in self.behaviors:
            behavior.initialize_(target, mass, z[:, 0])

    def log_prior(self, weight_decay: float) -> Tensor:
        return torch.stack([behavior.log_prior(weight_decay) for behavior in self.behaviors])

    @property
    def behaviors(self) -> list[Behavior]:
        """The behaviours, in the order of the clusters."""
        return [cast(Behavior, slot) for slot in self.slots]

    @property
    def names(self) -> list[str]:
        return [behavior.name for behavior in self.behaviors]

    @property
    def n_shape_parameters(self) -> Tensor:
        return torch.tensor([behavior.n_shape_parameters for behavior in self.behaviors])

    @property
    def can_mirror(self) -> bool:
        return can_be_reversed(self.names)

    def mirror_(self, component: int) -> list[int]:
        names = self.names
        self.direction.neg_()
        for behavior in self.behaviors:
            behavior.mirror_()
        order = [self.names.index(name) for name in names]
        self.slots = nn.ModuleList(self.slots[position] for position in order)
        return order


class AdditiveDerivativeDecoder(Decoder):
    """x0 + the sum over latent components of integrals from 0 of a network's outputs (BasisDeVAE, equations 8 to 10).

    One curve for every feature. The derivative of a feature with sign +1 is positive for each component, that of one
    with sign -1 negative; sign 0 leaves it free.

    Parameters
    ----------
    n_features, n_components : int
    signs : sequence of int
        -1, 0 or 1 for each feature.
    hidden_layer_sizes, activation
        A network for each component.
    integrator, n_knots, z_max, generator
        See :class:`AxisNetwork`.
    """

    def __init__(
        self,
        n_features: int,
        n_components: int,
        *,
        signs: Sequence[int],
        hidden_layer_sizes: Sequence[int],
        activation: str,
        integrator: str,
        n_knots: int,
        z_max: float,
        generator: torch.Generator,
    ):
        super().__init__()
        self.integrator = integrator
        hidden, heads = [], []
        for _ in range(n_components):
            layers, n_hidden = multilayer_perceptron(1, hidden_layer_sizes, activation, generator)
            spread_first_layer_(layers, generator, z_max / 4.5)
            hidden.append(layers)
            heads.append(linear(n_hidden, n_features, generator, scale=0.03))
        self.hidden, self.heads = nn.ModuleList(hidden), nn.ModuleList(heads)
        self.start = nn.Parameter(torch.zeros(n_features))
        self.knots = nn.Buffer(symmetric_grid(n_knots, z_max).float())
        self.directions = nn.Buffer(torch.ones(n_components))
        self.signs = nn.Buffer(torch.tensor(signs, dtype=torch.float32))

    @property
    def nodes_per_point(self) -> int:
        return nodes_per_point(self.integrator)

    @property
    def weights_per_point(self) -> int:
        return weights_per_point(self.integrator, self.knots)

    def prepare(self, z: Tensor) -> list[tuple[IntegrationRule, Tensor | None]]:
        """For each component the rule for its coordinates: distinct ones, and where to find them, where z is fixed."""
        rules: list[tuple[IntegrationRule, Tensor | None]] = []
        for coordinate in z.unbind(1):
            position = None
            if z.shape[1] > 1 and not z.requires_grad:  # the points of a grid share few coordinates
                coordinate, position = coordinate.unique(return_inverse=True)
            rules.append((integration_rule(self.integrator, self.knots, coordinate), position))
        return rules

    def forward(self, points: list[tuple[IntegrationRule, Tensor | None]], sharing: Tensor | None = None) -> Tensor:
        curves: Tensor = self.start
        for hidden, head, direction, (rule, position) in zip(
            self.hidden, self.heads, self.directions, points, strict=True
        ):
            along = rule.integral(self._constrained(head(hidden(direction * rule.nodes[:, None]))))
            curves = curves + (along if position is None else along[position])
        return curves[:, None]

    def _constrained(self, rate: Tensor) -> Tensor:
        """Derivatives with the sign of their feature, from the network's outputs: (nodes, D)."""
        if not self.signs.any():
            return rate
        signed = self.signs * softplus(rate)
        return signed if self.signs.all() else torch.where(self.signs == 0, rate, signed)

    def initialize_(self, target: Tensor, mass: Tensor, z: Tensor) -> None:
        level, slopes = weighted_plane(target, mass, z)
        with torch.no_grad():
            self.start.copy_(level)
            for head, slope in zip(self.heads, slopes, strict=True):
                constrained = inverse_softplus((self.signs * slope).clamp(min=0.05))
                cast(nn.Linear, head).bias.copy_(torch.where(self.signs == 0, slope, constrained))

    def log_prior(self, weight_decay: float) -> Tensor:
        squares = torch.stack([cast(nn.Linear, head).weight.square().sum(1) for head in self.heads]).sum(0)
        return -0.5 * weight_decay * squares[None]

    @property
    def can_mirror(self) -> bool:
        return not self.signs.any()

    def mirror_(self, component: int) -> list[int]:
        # d/dz g(-z) = -f(-z), and with every sign 0 f is the network's output itself.
        head = cast(nn.Linear, self.heads[component])
        with torch.no_grad():
            self.directions[component].neg_()
            head.weight.neg_()
            head.bias.neg_()
        return [0]


class NeuralDecoder(Decoder):
    """A plane, a multilayer perceptron, or their sum: the decoder of a linear or an ordinary VAE.

    Where there is a plane, it is where a fit starts (at principal components), and the perceptron has only the rest to
    learn.

    Parameters
    ----------
    n_features, n_components : int
    hidden_layer_sizes, activation, normalization, dropout
        The perceptron; empty for a linear decoder.
    linear_skip : bool
        Whether there is a plane; without hidden layers there always is.
    normalized : bool
        Whether curves are the log of shares that add up to one, times a total that is learned: of counts whose size
        factors are their sums.
    generator : torch.Generator
        Source of the starting weights.
    """

    def __init__(
        self,
        n_features: int,
        n_components: int,
        *,
        hidden_layer_sizes: Sequence[int],
        activation: str,
        generator: torch.Generator,
        normalization: str | None = None,
        dropout: float = 0.0,
        linear_skip: bool = True,
        normalized: bool = False,
    ):
        super().__init__()
        self.level = nn.Parameter(torch.zeros(n_features))
        self.hidden, n_hidden = multilayer_perceptron(
            n_components, hidden_layer_sizes, activation, generator, normalization=normalization, dropout=dropout
        )
        self.head = linear(n_hidden, n_features, generator, scale=0.03) if len(self.hidden) else None
        has_plane = linear_skip or self.head is None
        self.loadings = nn.Parameter(torch.zeros(n_components, n_features)) if has_plane else None
        if has_plane:
            spread_first_layer_(self.hidden, generator)
        self.log_total = nn.Parameter(torch.zeros(())) if normalized else None

    def forward(self, points: Tensor, sharing: Tensor | None = None) -> Tensor:
        curves = self.level.expand(len(points), -1)
        if self.loadings is not None:
            curves = curves + points @ self.loadings
        if self.head is not None:
            curves = curves + self.head(self.hidden(points))
        if self.log_total is not None:
            curves = torch.log_softmax(curves, -1) + self.log_total
        return curves[:, None]

    def select(self, points: Tensor, labels: Tensor) -> Tensor:
        return self(points)[:, 0]  # there is one candidate, and no need to copy it

    def initialize_(self, target: Tensor, mass: Tensor, z: Tensor) -> None:
        share = mass / mass.sum()
        with torch.no_grad():
            if self.loadings is None:
                self.level.copy_(share @ target)
            else:
                level, slopes = weighted_plane(target, mass, z)
                self.level.copy_(level)
                self.loadings.copy_(slopes)
            if self.log_total is not None:
                self.log_total.copy_((share @ target.exp().sum(1)).log())

    def log_prior(self, weight_decay: float) -> Tensor:
        if self.head is None:
            return torch.zeros_like(self.level)[None]
        return -0.5 * weight_decay * self.head.weight.square().sum(1)[None]

    def mirror_(self, component: int) -> list[int]:
        with torch.no_grad():
            if self.loadings is not None:
                self.loadings[component].neg_()
            if self.head is not None:
                cast(nn.Linear, self.hidden[0]).weight[:, component].neg_()
        return [0]


class ModuleDecoder(Decoder):
    """A network of the user's: from latents (P, Q) to D curves a point, in whatever shape.

    Parameters
    ----------
    n_features : int
    module : nn.Module
        It is copied. What it returns for a point is flattened.
    generator : torch.Generator
        Not drawn from: the module comes with its weights.
    """

    def __init__(self, n_features: int, *, module: nn.Module, generator: torch.Generator):
        super().__init__()
        self.n_features = n_features
        self.module = copy.deepcopy(module)

    def forward(self, points: Tensor, sharing: Tensor | None = None) -> Tensor:
        weight = next(self.module.parameters(), points)
        values = self.module(points.to(weight))
        if values.shape[:1] != points.shape[:1] or values[0].numel() != self.n_features:
            n_values = values[0].numel() if values.shape[:1] == points.shape[:1] else values.shape
            raise ValueError(
                f"decoder returned {n_values} values for each latent of {points.shape[1]} components, but X has "
                f"{self.n_features} features."
            )
        return values.reshape(len(points), 1, self.n_features)

    def select(self, points: Tensor, labels: Tensor) -> Tensor:
        return self(points)[:, 0]

    def initialize_(self, target: Tensor, mass: Tensor, z: Tensor) -> None:
        """It starts from the weights that it came with."""

    def log_prior(self, weight_decay: float) -> Tensor:
        return torch.zeros(1, self.n_features)

    @property
    def can_mirror(self) -> bool:
        return False
