"""Layers that draw their starting weights from an explicit generator, never from torch's global state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "softplus": nn.Softplus,
    "elu": nn.ELU,
    "gelu": nn.GELU,
}


def linear(n_in: int, n_out: int, generator: torch.Generator, *, scale: float | None = None) -> nn.Linear:
    """A linear layer with weights uniform on (-scale, scale), by default 1 / sqrt(n_in), and bias zero."""
    layer = nn.utils.skip_init(nn.Linear, n_in, n_out)
    bound = 1 / math.sqrt(n_in) if scale is None else scale
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.zero_()
    return layer


def multilayer_perceptron(
    n_in: int, hidden_layer_sizes: Sequence[int], activation: str, generator: torch.Generator
) -> tuple[nn.Sequential, int]:
    """Hidden layers with their activations, and the width that the last one hands on."""
    layers: list[nn.Module] = []
    for width in hidden_layer_sizes:
        layers += [linear(n_in, width, generator), ACTIVATIONS[activation]()]
        n_in = width
    return nn.Sequential(*layers), n_in


def inverse_softplus(y: Tensor) -> Tensor:
    """The x with softplus(x) = y, for y > 0."""
    return y + torch.log(-torch.expm1(-y))


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(scale)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (scale,) = ctx.saved_tensors
        return gradient * scale, None


def scale_gradient(x: Tensor, scale: Tensor) -> Tensor:
    """x itself going forward; its gradient times ``scale`` going back."""
    return _ScaleGradient.apply(x, scale)
