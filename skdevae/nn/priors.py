"""Priors of a latent: standard normal, learned Gaussian mixture, and variational mixture of posteriors (VampPrior).

Every prior is a mixture of Gaussians with diagonal covariances; the standard normal is a mixture of one. Models and
evaluations use a prior only through this mixture.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from .layers import scale_gradient

#: starting log sds of a learned mixture's components
_MIXTURE_LOG_SD = -0.5

#: largest number of pseudo-inputs that one training step encodes
_BLOCK_SIZE = 128

#: log of the least share in a mixture's density, relative to the largest share, that a component keeps
_LEAST_LOG_SHARE = -40.0

#: an encoder's map from inputs (K, D), on the encoder's own scale, to means and log sds (K, Q)
Encode = Callable[[Tensor], tuple[Tensor, Tensor]]


class GaussianMixture(NamedTuple):
    """A mixture ``sum_k w_k N(z | mean_k, diag(sd_k^2))`` with log weights (K,), means (K, Q) and log sds (K, Q)."""

    log_weights: Tensor
    means: Tensor
    log_sds: Tensor

    @classmethod
    def standard_normal(cls, n_components: int, like: Tensor) -> GaussianMixture:
        """The mixture of one component N(0, I), with the dtype and on the device of ``like``."""
        zeros = torch.zeros(1, n_components, dtype=like.dtype, device=like.device)
        return cls(zeros[:, 0], zeros, zeros)

    def log_joint(self, z: Tensor) -> Tensor:
        """``log w_k + log N(z | mean_k, sd_k^2)`` for z (..., Q): (..., K).

        Squares are multiplied out: this takes one array of shape (..., K), and none of shape (..., K, Q). Both z and
        the means are first measured from the centre of the means. That leaves their differences as they are, and keeps
        the terms that cancel small.
        """
        center = self.means.detach().mean(0)
        z, means = z - center, self.means - center
        precisions = torch.exp(-2 * self.log_sds)
        constant = (
            self.log_weights
            - self.log_sds.sum(1)
            - 0.5 * (means**2 * precisions).sum(1)
            - 0.5 * z.shape[-1] * math.log(2 * math.pi)
        )
        return linear(torch.cat([-0.5 * z * z, z], -1), torch.cat([precisions, means * precisions], 1), constant)

    def expected_log_joint(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Expectation of :meth:`log_joint` over z ~ N(mean, diag(variance)), both (..., Q): (..., K)."""
        return self.log_joint(mean) - 0.5 * variance @ torch.exp(-2 * self.log_sds).T

    def component(self, number: int) -> GaussianMixture:
        """The mixture of one of the components, which has all the weight."""
        log_weights, *rest = (part[number : number + 1] for part in self)
        return GaussianMixture(torch.zeros_like(log_weights), *rest)

    def log_density(self, z: Tensor) -> Tensor:
        """log p(z) for z (..., Q): (...)."""
        log_joint = self.log_joint(z)
        largest = log_joint.detach().amax(-1, keepdim=True)
        # Shares of components far from z would be subnormal numbers, and so would their gradients. Processors are slow
        # with these. A share of e^-40 is too small to be seen in the sum.
        shares = (log_joint - largest).clamp(min=_LEAST_LOG_SHARE).exp()
        return shares.sum(-1).log() + largest[..., 0]

    def responsibilities(self, z: Tensor) -> Tensor:
        """p(k | z) for z (..., Q): (..., K)."""
        return torch.softmax(self.log_joint(z), -1)

    def precision(self, z: Tensor) -> Tensor:
        """Precision matrices (B, Q, Q) of quadratics that touch log p from below at z (B, Q).

        By Jensen's inequality each is an average of the components' precisions, weighted by their responsibilities.
        """
        return torch.diag_embed(self.responsibilities(z) @ torch.exp(-2 * self.log_sds))

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and sd of every component of z, (Q,) each."""
        weights = self.log_weights.exp()
        mean = weights @ self.means
        return mean, (weights @ (torch.exp(2 * self.log_sds) + (self.means - mean) ** 2)).sqrt()

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws (n, Q), and for each the number of its component (n,)."""
        component = torch.multinomial(self.log_weights.exp(), n, replacement=True, generator=generator)
        noise = torch.randn(n, self.means.shape[1], generator=generator, dtype=self.means.dtype)
        return self.means[component] + self.log_sds[component].exp() * noise, component


class Prior(nn.Module):
    """The distribution p(z). Subclasses define which mixture of Gaussians it is."""

    def mixture(self, encode: Encode) -> GaussianMixture:
        """The prior as a mixture, given the encoder's map from inputs to Gaussians."""
        raise NotImplementedError

    def initialize_(self, inputs: Tensor, encode: Encode) -> None:
        """Start from rows (K, D), on the encoder's scale, that represent the data."""

    @property
    def n_starting_inputs(self) -> int:
        """Number K of rows that :meth:`initialize_` takes."""
        return 0

    @property
    def leaves_parameters_out(self) -> bool:
        """Whether a training step has no gradient for some of the parameters."""
        return False

    def mirror_(self, component: int) -> None:
        """Reverse one latent axis, in place. The caller reverses the encoder."""


class StandardNormal(Prior):
    """p(z) = N(0, I).

    Parameters
    ----------
    n_features, n_components : int
        D (not used) and Q.
    """

    def __init__(self, n_features: int, n_components: int):
        super().__init__()
        self.origin = nn.Buffer(torch.zeros(n_components), persistent=False)

    def mixture(self, encode: Encode) -> GaussianMixture:
        return GaussianMixture.standard_normal(len(self.origin), self.origin)


class _Mixture(Prior):
    """A mixture of K components whose weights are parameters, or equal."""

    def __init__(self, n_mixture_components: int, learn_weights: bool):
        super().__init__()
        logits = torch.zeros(n_mixture_components)
        self.logits = nn.Parameter(logits) if learn_weights else nn.Buffer(logits)

    @property
    def log_weights(self) -> Tensor:
        """Log weights of the components, (K,)."""
        return torch.log_softmax(self.logits, 0)

    @property
    def n_starting_inputs(self) -> int:
        return len(self.logits)


class LearnedMixture(_Mixture):
    """A mixture whose means, sds and, on request, weights are parameters.

    The means start at the encodings of the starting inputs.

    Parameters
    ----------
    n_features, n_components, n_mixture_components : int
        D (not used), Q and K.
    learn_weights : bool
        Whether the weights are learned. Else they are equal.
    """

    def __init__(self, n_features: int, n_components: int, *, n_mixture_components: int, learn_weights: bool):
        super().__init__(n_mixture_components, learn_weights)
        self.means = nn.Parameter(torch.zeros(n_mixture_components, n_components))
        self.log_sds = nn.Parameter(torch.full((n_mixture_components, n_components), _MIXTURE_LOG_SD))

    def mixture(self, encode: Encode) -> GaussianMixture:
        return GaussianMixture(self.log_weights, self.means, self.log_sds)

    def initialize_(self, inputs: Tensor, encode: Encode) -> None:
        with torch.no_grad():
            self.means.copy_(encode(inputs)[0])

    def mirror_(self, component: int) -> None:
        with torch.no_grad():
            self.means[:, component].neg_()


class VampPrior(_Mixture):
    """``sum_k w_k q(z | u_k)``, a mixture of the encoder's posteriors at K pseudo-inputs u_k (VAMP paper, section 2).

    Pseudo-inputs are on the encoder's scale (standardised values, or log1p of normalised counts). They are not
    constrained: they may take values that no row of data could have.

    Encoding all pseudo-inputs in every training step would cost more than the rest of the step. So a step encodes only
    one block of them; blocks take turns. The Gaussians of the other blocks are those of their last turns, a few steps
    ago. The gradient of the block is multiplied by the number of blocks, to stand for the gradient of all of them. In
    evaluation mode all pseudo-inputs are encoded together. With the same encoder, this agrees with encoding them in
    blocks up to rounding.

    Parameters
    ----------
    n_features, n_components, n_mixture_components : int
        D, Q (not used) and K.
    learn_weights : bool
        Whether the weights are learned. Else they are equal.
    learn_pseudo_inputs : bool
        Whether the pseudo-inputs are learned. Else they stay where they start.
    """

    def __init__(
        self,
        n_features: int,
        n_components: int,
        *,
        n_mixture_components: int,
        learn_weights: bool,
        learn_pseudo_inputs: bool,
    ):
        super().__init__(n_mixture_components, learn_weights)
        # One parameter for each block: an optimiser skips those without a gradient in this step.
        self.blocks = nn.ParameterList(
            nn.Parameter(block.clone(), requires_grad=learn_pseudo_inputs)
            for block in torch.split(torch.zeros(n_mixture_components, n_features), _BLOCK_SIZE)
        )
        self._encoded: list[tuple[Tensor, Tensor]] = []
        self._next = 0

    @property
    def leaves_parameters_out(self) -> bool:
        return len(self.blocks) > 1

    @property
    def pseudo_inputs(self) -> Tensor:
        """All pseudo-inputs, (K, D)."""
        return torch.cat(list(self.blocks))

    def mixture(self, encode: Encode) -> GaussianMixture:
        if not self.training or len(self.blocks) == 1:
            return GaussianMixture(self.log_weights, *encode(self.pseudo_inputs))
        if not self._encoded:
            with torch.no_grad():
                self._encoded = [encode(block) for block in self.blocks]
        turn, self._next = self._next, (self._next + 1) % len(self.blocks)
        mean, log_sd = encode(self.blocks[turn])
        self._encoded[turn] = mean.detach(), log_sd.detach()
        n_blocks = torch.tensor(float(len(self.blocks)), device=mean.device)
        blocks = [*self._encoded]
        blocks[turn] = scale_gradient(mean, n_blocks), scale_gradient(log_sd, n_blocks)
        means, log_sds = (torch.cat(parts) for parts in zip(*blocks, strict=True))
        return GaussianMixture(self.log_weights, means, log_sds)

    def _forget(self) -> None:
        """Drop the Gaussians of earlier turns: the next training step encodes all blocks."""
        self._encoded = []

    def train(self, mode: bool = True) -> VampPrior:
        if mode != self.training:
            self._forget()
        super().train(mode)
        return self

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> VampPrior:  # to another dtype or device
        self._forget()
        super()._apply(fn, recurse)
        return self

    def mirror_(self, component: int) -> None:
        self._forget()

    def initialize_(self, inputs: Tensor, encode: Encode) -> None:
        self._forget()
        with torch.no_grad():
            for block, part in zip(self.blocks, torch.split(inputs, _BLOCK_SIZE), strict=True):
                block.copy_(part)


#: name -> prior
PRIORS: dict[str, type[Prior]] = {"normal": StandardNormal, "mixture": LearnedMixture, "vamp": VampPrior}
