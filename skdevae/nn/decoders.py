"""Decoders: from the latent to one curve for every feature and behaviour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from .behaviors import BEHAVIORS, Behavior
from .integrals import GaussLegendreRule, GridRule, IntegrationRule, symmetric_grid
from .layers import multilayer_perceptron

GAUSS_LEGENDRE_ORDER = 15  # BasisDeVAE, section 3


class DerivativeDecoder(nn.Module):
    """Curves of K behaviours for D features, from one hidden layer stack that all of them share.

    Parameters
    ----------
    n_features : int
    behaviors : sequence of str
        Names from :data:`~skdevae.nn.behaviors.BEHAVIORS`.
    hidden_layer_sizes, activation
        The shared network of z; empty makes every derivative a function of z alone, without hidden units.
    integrator : {"grid", "gauss-legendre"}
    n_knots, z_max
        Knots on which ``integrator="grid"`` evaluates the derivatives.
    generator : torch.Generator
        Source of the starting weights.
    """

    def __init__(
        self,
        n_features: int,
        behaviors: Sequence[str],
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
        self.hidden, n_hidden = multilayer_perceptron(1, hidden_layer_sizes, activation, generator)
        self._spread_first_layer_(z_max, generator)
        self.slots = nn.ModuleList(BEHAVIORS[name](n_features, n_hidden, generator) for name in behaviors)
        self.knots = nn.Buffer(symmetric_grid(n_knots, z_max).float())
        self.direction = nn.Buffer(torch.ones(()))

    def _spread_first_layer_(self, z_max: float, generator: torch.Generator) -> None:
        # Units that turn at different places along the axis, where data lie, give the derivatives local shape.
        if len(self.hidden):
            layer = cast(nn.Linear, self.hidden[0])
            with torch.no_grad():
                layer.weight.normal_(0, 1, generator=generator)
                layer.bias.normal_(0, z_max / 4.5, generator=generator)

    def rule(self, z: Tensor) -> IntegrationRule:
        """The integration rule for upper limits z (P,)."""
        if self.integrator == "grid":
            return GridRule(self.knots, z)
        return GaussLegendreRule(GAUSS_LEGENDRE_ORDER, z)

    def forward(self, rule: IntegrationRule) -> Tensor:
        """Curves at ``rule.z``: (P, K, D), in the units of the likelihood's predictor."""
        hidden = self.hidden(self.direction * rule.nodes[:, None])  # (Q, H)
        return torch.stack([behavior.curve(hidden, rule) for behavior in self.behaviors], 1)

    def initialize_(self, target: Tensor, mass: Tensor, z: Tensor) -> None:
        """Start every behaviour near ``target`` (P, D), a rough curve at ``z`` (P,) seen with weights ``mass`` (P,)."""
        for behavior in self.behaviors:
            behavior.initialize_(target, mass, z)

    def log_prior(self, weight_decay: float) -> Tensor:
        """Log prior of the parameters of each (behaviour, feature): (K, D)."""
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
        """Of every behaviour, (K,)."""
        return torch.tensor([behavior.n_shape_parameters for behavior in self.behaviors])

    @property
    def can_mirror(self) -> bool:
        """Whether reversing the axis maps the set of behaviours onto itself."""
        return ("increasing" in self.names) == ("decreasing" in self.names)

    def mirror_(self) -> list[int]:
        """Reverse the axis, in place; for each behaviour afterwards, the position of the one that it was before."""
        names = self.names
        self.direction.neg_()
        for behavior in self.behaviors:
            behavior.mirror_()
        order = [self.names.index(name) for name in names]
        self.slots = nn.ModuleList(self.slots[position] for position in order)
        return order
