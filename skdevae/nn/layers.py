"""Layers that draw their starting weights from an explicit generator, never from torch's global state."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

T = TypeVar("T")

#: torch's global generator is one for all threads
_GLOBAL_GENERATOR = threading.RLock()

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


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation that takes a batch of one row for what it is: too few for statistics of its own."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) == 1:
            return batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


class Dropout(nn.Module):
    """Dropout that draws from a generator lent to it by :func:`noise_from`, and does nothing without one."""

    generator: torch.Generator | None = None

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.generator is None:
            return x
        kept = torch.rand(x.shape, generator=self.generator) >= self.rate
        return x * (kept.to(x) / (1 - self.rate))


@contextmanager
def noise_from(module: nn.Module, generator: torch.Generator) -> Iterator[None]:
    """Let the dropout layers of a module draw from a generator (on the CPU) for as long as the context lasts."""
    layers = [layer for layer in module.modules() if isinstance(layer, Dropout)]
    for layer in layers:
        layer.generator = generator
    try:
        yield
    finally:
        for layer in layers:
            layer.generator = None


@contextmanager
def without_batch_effects(module: nn.Module) -> Iterator[None]:
    """Let normalisation and dropout layers work as they do after training, whatever the module does.

    For inputs that are not data: they neither enter the statistics of a batch nor depend on them.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, BatchNorm | Dropout) and layer.training]
    for layer in layers:
        layer.training = False
    try:
        yield
    finally:
        for layer in layers:
            layer.training = True


NORMALIZATIONS: dict[str, Callable[[int], nn.Module]] = {
    # Of single-cell models: a little more than the smallest variances of hidden units.
    "batch": lambda width: BatchNorm(width, eps=1e-3),
    "layer": nn.LayerNorm,
}


@contextmanager
def global_draws_from(seed: int) -> Iterator[None]:
    """Let what draws from torch's global generator draw from a seed of ours; its state is put back after.

    The generator is one for all threads: they wait for each other.
    """
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        yield


def drawn_from(generator: torch.Generator, build: Callable[[], T]) -> T:
    """What ``build`` makes when torch's global generator starts from a seed of ours."""
    with global_draws_from(int(torch.randint(2**31, (), generator=generator))):
        return build()


def multilayer_perceptron(
    n_in: int,
    hidden_layer_sizes: Sequence[int],
    activation: str,
    generator: torch.Generator,
    *,
    normalization: str | None = None,
    dropout: float = 0.0,
) -> tuple[nn.Sequential, int]:
    """Hidden layers, each with its activation, normalisation and dropout, and the width that the last one hands on."""
    layers: list[nn.Module] = []
    for width in hidden_layer_sizes:
        layers += [linear(n_in, width, generator), ACTIVATIONS[activation]()]
        if normalization is not None:
            layers.append(NORMALIZATIONS[normalization](width))
        if dropout:
            layers.append(Dropout(dropout))
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
