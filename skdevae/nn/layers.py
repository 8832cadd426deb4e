"""Layers: linear maps, dropout and normalisation whose randomness comes from an explicit generator.

None of them draws from torch's global generator.
"""

from __future__ import annotations

import inspect
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

T = TypeVar("T")

#: held by the thread that draws from torch's global generator, which all threads share
_GLOBAL_GENERATOR = threading.RLock()

#: name -> activation
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "softplus": nn.Softplus,
    "elu": nn.ELU,
    "gelu": nn.GELU,
}


class Linear(nn.Linear):
    """A linear layer that starts with weights uniform on (-scale, scale) and a bias of zero.

    Parameters
    ----------
    n_in, n_out : int
    generator : torch.Generator
        Source of the starting weights.
    scale : float, default=None
        None stands for 1 / sqrt(n_in).
    """

    def __init__(self, n_in: int, n_out: int, generator: torch.Generator, *, scale: float | None = None):
        super().__init__(n_in, n_out)
        bound = 1 / math.sqrt(n_in) if scale is None else scale
        with torch.no_grad():
            self.weight.uniform_(-bound, bound, generator=generator)
            self.bias.zero_()

    def reset_parameters(self) -> None:
        """Draw nothing. torch calls this when a layer is made, and its own version draws from the global generator."""


class BatchShare(NamedTuple):
    """The rows of a batch that this process computes on, where several share the batch.

    Attributes
    ----------
    n_rows : int
        Number of rows of the whole batch.
    places : Tensor or slice
        Where the rows of the share are in the batch.
    weight : float
        How much a mean over the share counts in the mean over the batch, which is a mean over processes.
    mean : callable
        The mean of a tensor over processes. Gradients go back through it.
    """

    n_rows: int
    places: Tensor | slice
    weight: float
    mean: Callable[[Tensor], Tensor]


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation that treats a batch of one row as after training: one row has no variance of its own.

    Means and variances are those of the whole batch, where processes share it. (torch's own layer for that,
    SyncBatchNorm, does not run on a CPU.)
    """

    #: set by :func:`sharing_batch`
    share: BatchShare | None = None

    def forward(self, x: Tensor) -> Tensor:
        share = self.share
        if self.training and (len(x) if share is None else share.n_rows) == 1:
            return batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return self._normalized(x, share) if self.training and share is not None else super().forward(x)

    def _normalized(self, x: Tensor, share: BatchShare) -> Tensor:
        mean = share.mean(share.weight * x.mean(0))
        variance = share.mean(share.weight * (x - mean).square().mean(0))
        unbiased = variance.detach() * (share.n_rows / (share.n_rows - 1))
        for running, found in ((self.running_mean, mean.detach()), (self.running_var, unbiased)):
            cast(Tensor, running).lerp_(found, cast(float, self.momentum))
        cast(Tensor, self.num_batches_tracked).add_(1)
        return (x - mean) * torch.rsqrt(variance + self.eps) * self.weight + self.bias


class Dropout(nn.Module):
    """Dropout that draws from a generator of ours. It does nothing outside of :func:`noise_from`.

    Parameters
    ----------
    rate : float
        Share of the units that are dropped.
    """

    #: set by :func:`noise_from`
    generator: torch.Generator | None = None
    #: set by :func:`sharing_batch`
    share: BatchShare | None = None

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.generator is None:
            return x
        # Drawn for the whole batch, so that every process's generator goes on from the same place.
        n_rows, places = (len(x), slice(None)) if self.share is None else self.share[:2]
        kept = torch.rand(n_rows, *x.shape[1:], generator=self.generator)[places] >= self.rate
        return x * (kept.to(x) / (1 - self.rate))


@contextmanager
def noise_from(module: nn.Module, generator: torch.Generator) -> Iterator[None]:
    """Let the dropout layers of a module draw from a generator (on the CPU) within the context."""
    layers = [layer for layer in module.modules() if isinstance(layer, Dropout)]
    for layer in layers:
        layer.generator = generator
    try:
        yield
    finally:
        for layer in layers:
            layer.generator = None


@contextmanager
def sharing_batch(module: nn.Module, share: BatchShare) -> Iterator[None]:
    """Let the layers of a module that compare or draw rows know, within the context, which rows of a batch they see."""
    layers = [layer for layer in module.modules() if isinstance(layer, BatchNorm | Dropout)]
    for layer in layers:
        layer.share = share
    try:
        yield
    finally:
        for layer in layers:
            layer.share = None


@contextmanager
def without_batch_effects(module: nn.Module) -> Iterator[None]:
    """Let batch normalisation and dropout work as they do after training, within the context.

    This is for inputs that are not data. They do not enter the statistics of a batch and do not depend on them.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, BatchNorm | Dropout) and layer.training]
    for layer in layers:
        layer.training = False
    try:
        yield
    finally:
        for layer in layers:
            layer.training = True


#: added to variances of hidden units, as in models of single cells: more than their smallest variances
_BATCH_NORM_EPS = 1e-3

#: name -> normalisation layer of a given width
NORMALIZATIONS: dict[str, Callable[[int], nn.Module]] = {
    "batch": lambda width: BatchNorm(width, eps=_BATCH_NORM_EPS),
    "layer": nn.LayerNorm,
}


@contextmanager
def global_draws_from(seed: int) -> Iterator[None]:
    """Seed torch's global generator within the context, and restore its state afterwards.

    All threads share that generator, so they wait for each other here.
    """
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def drawn_from(generator: torch.Generator, build: Callable[[], T]) -> T:
    """The result of ``build``, with torch's global generator seeded from ours while it runs."""
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
    """Hidden layers, and the width of the last one.

    Parameters
    ----------
    n_in : int
        Width of the input. It is also the width that is returned where there are no hidden layers.
    hidden_layer_sizes : sequence of int
        Widths of the hidden layers.
    activation : str
        Name from :data:`ACTIVATIONS`. It follows each linear map.
    generator : torch.Generator
        Source of the starting weights.
    normalization : str or None
        Name from :data:`NORMALIZATIONS`. It follows each activation.
    dropout : float
        Share of the units that are dropped, last in each layer.
    """
    layers: list[nn.Module] = []
    for width in hidden_layer_sizes:
        layers += [Linear(n_in, width, generator), ACTIVATIONS[activation]()]
        if normalization is not None:
            layers.append(NORMALIZATIONS[normalization](width))
        if dropout:
            layers.append(Dropout(dropout))
        n_in = width
    return nn.Sequential(*layers), n_in


class CovariatesBeside(nn.Module):
    """Puts covariates of rows beside what a network takes, as differences from average ones.

    Parameters
    ----------
    average : sequence of float
        Training average of each of C columns of the covariates' design.
    """

    def __init__(self, average: Sequence[float]):
        super().__init__()
        # Plain numbers: they are part of the configuration, and no change of the module's dtype rounds them.
        self.average = tuple(average)

    def __len__(self) -> int:
        return len(self.average)

    def forward(self, values: Tensor, covariates: Tensor | None) -> Tensor:
        """Values (B, M) with covariates (B, C), of which None stands for average ones: (B, M + C)."""
        if not len(self):
            return values
        if covariates is None:
            return torch.cat([values, values.new_zeros(len(values), len(self))], 1)
        return torch.cat([values, covariates - covariates.new_tensor(self.average)], 1)


#: scale of the half-Cauchy prior on the size of a group of weights
_TYPICAL_SIZE = 0.63


def weights_log_prior(squared_norm: Tensor, precision: float | None) -> Tensor:
    """Log prior density of groups of weights, given the sum of squares of each, up to a constant: as ``squared_norm``.

    The weights of a group are Gaussian with mean 0 and a common precision. Where the precision is None, the size of the
    group, the root of its sum of squares, has a half-Cauchy prior (Gelman, 2006). Small groups are held as by a
    precision of 5. Large ones, as steep curves need them, cost next to nothing more for being larger.
    """
    if precision is not None:
        return -0.5 * precision * squared_norm
    return -torch.log1p(squared_norm / _TYPICAL_SIZE**2)


class OwnGradient(torch.autograd.Function):
    """Base of functions whose gradient is written out, and which :func:`torch.func.vmap` can map.

    In every call torch asks for the signature of ``forward``. Finding it takes as long as several operations on a small
    array, so it is found once.
    """

    generate_vmap_rule = True

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        vars(cls)["forward"].__func__.__signature__ = inspect.signature(cls.forward)


class _SquaredNorms(OwnGradient):
    """Sums of squares along the last dimension. Autograd by itself would take several passes over what may be large."""

    @staticmethod
    def forward(weights: Tensor) -> Tensor:
        return torch.linalg.vector_norm(weights, dim=-1).square()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (weights,) = ctx.saved_tensors
        return (2 * gradient[..., None]) * weights


def squared_norms(weights: Tensor) -> Tensor:
    """Sums of squares of groups of weights (..., M): (...)."""
    norms: Tensor = _SquaredNorms.apply(weights)
    return norms


def inverse_softplus(y: Tensor) -> Tensor:
    """The x with softplus(x) = y, for y > 0."""
    return y + torch.log(-torch.expm1(-y))


class _ScaleGradient(OwnGradient):
    """The identity, whose gradient is multiplied by a factor."""

    @staticmethod
    def forward(x: Tensor, scale: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (scale,) = ctx.saved_tensors
        return gradient * scale, None


def scale_gradient(x: Tensor, scale: Tensor) -> Tensor:
    """x itself, whose gradient is multiplied by ``scale`` on its way back."""
    scaled: Tensor = _ScaleGradient.apply(x, scale)
    return scaled
