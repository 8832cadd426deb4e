"""Encoders: from a row of the table to a Gaussian over the latent."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .layers import linear, multilayer_perceptron


class GaussianEncoder(nn.Module):
    """q(z | x) = N(mean(x), diag(sd(x)^2)): a multilayer perceptron beside a linear map.

    The linear map starts as the projection that the fit starts from (principal components), so the encoder places the
    samples sensibly before it has learned anything.

    Parameters
    ----------
    n_features, n_components : int
    hidden_layer_sizes, activation
        The perceptron.
    counts : bool
        Whether rows are counts, which enter as log(1 + x).
    sees_mask : bool
        Whether the mask of observed entries enters beside the values (missing ones are zeros).
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
        counts: bool,
        sees_mask: bool,
        generator: torch.Generator,
    ):
        super().__init__()
        self.counts, self.sees_mask = counts, sees_mask
        n_inputs = 2 * n_features if sees_mask else n_features
        self.perceptron, n_hidden = multilayer_perceptron(n_inputs, hidden_layer_sizes, activation, generator)
        self.head = linear(n_hidden, 2 * n_components, generator, scale=1e-3)
        self.projection = nn.Parameter(torch.zeros(n_features, n_components))

    def inputs(self, values: Tensor) -> Tensor:
        """Values on the scale on which the encoder sees them: (B, D)."""
        return torch.log1p(values) if self.counts else values

    def forward(self, values: Tensor, observed: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and log sd of z, both (B, Q), for values (B, D)."""
        seen = self.inputs(values)
        projected = seen @ self.projection
        if self.sees_mask:
            seen = torch.cat([seen, torch.ones_like(seen) if observed is None else observed], 1)
        mean, log_sd = self.head(self.perceptron(seen)).chunk(2, dim=1)
        return mean + projected, log_sd

    def initialize_(self, projection: Tensor, offset: Tensor, log_sd: float) -> None:
        """Start from ``mean = inputs @ projection + offset``, with projection (D, Q), and a constant sd."""
        with torch.no_grad():
            self.projection.copy_(projection)
            self.head.bias[: len(offset)] = offset
            self.head.bias[len(offset) :] = log_sd

    def mirror_(self, component: int) -> None:
        """Reverse one latent axis, in place."""
        with torch.no_grad():
            self.projection[:, component].neg_()
            self.head.weight[component].neg_()
            self.head.bias[component].neg_()
