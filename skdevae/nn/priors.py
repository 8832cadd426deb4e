"""Priors of a latent: standard normal, a learned Gaussian mixture, and the variational mixture of posteriors.

Whatever its parameters, a prior is a mixture of Gaussians with diagonal covariances; one component will do for the
standard normal. Models and evaluations see nothing else of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .layers import scale_gradient

#: starting log sds of a learned mixture's components, which start where k-means centres of the rows are encoded
_MIXTURE_LOG_SD = -0.5

#: pseudo-inputs that one training step sends through the encoder
_BLOCK_SIZE = 128

#: log of the least share in a mixture's density, of the largest one's, that a component is reckoned with
_LEAST_LOG_SHARE = -40.0

#: from inputs (K, D), on the encoder's own scale, to means and log sds (K, Q)
Encode = Callable[[Tensor], tuple[Tensor, Tensor]]


class GaussianMixture(NamedTuple):
    """``sum_k w_k N(z | mean_k, diag(sd_k^2))``: log w (K,), means and log sds (K, Q)."""

    log_weights: Tensor
    means: Tensor
    log_sds: Tensor

    @classmethod
    def standard_normal(cls, n_components: int, like: Tensor) -> GaussianMixture:
        """The mixture of one component N(0, I)."""
        zeros = torch.zeros(1, n_components, dtype=like.dtype, device=like.device)
        return cls(zeros[:, 0], zeros, zeros)

    def log_joint(self, z: Tensor) -> Tensor:
        """``log w_k + log N(z | mean_k, sd_k^2)`` for z (..., Q): (..., K).

        Squares are multiplied out, so that what is held is (..., K) and never (..., K, Q). Around the centre of the
        means, which leaves differences as they are and keeps what cancels small.
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
        return (z * (-0.5 * z)) @ precisions.T + z @ (means * precisions).T + constant

    def expected_log_joint(self, mean: Tensor, variance: Tensor) -> Tensor:
        """:meth:`log_joint` averaged over z with independent Gaussian components, of mean and variance (..., Q)."""
        return self.log_joint(mean) - 0.5 * variance @ torch.exp(-2 * self.log_sds).T

    def component(self, number: int) -> GaussianMixture:
        """One component, with all the weight."""
        log_weights, *rest = (part[number : number + 1] for part in self)
        return GaussianMixture(torch.zeros_like(log_weights), *rest)

    def log_density(self, z: Tensor) -> Tensor:
        """log p(z) for z (..., Q): (...)."""
        log_joint = self.log_joint(z)
        largest = log_joint.detach().amax(-1, keepdim=True)
        # Most components are so far from z that their share, and all that is multiplied with it going back, would be
        # subnormal numbers, with which processors are slow. At e^-40 nobody sees the difference.
        shares = (log_joint - largest).clamp(min=_LEAST_LOG_SHARE).exp()
        return shares.sum(-1).log() + largest[..., 0]

    def responsibilities(self, z: Tensor) -> Tensor:
        """p(k | z) for z (..., Q): (..., K)."""
        return torch.softmax(self.log_joint(z), -1)

    def precision(self, z: Tensor) -> Tensor:
        """Curvature of a quadratic that touches log p from below at z (B, Q): (B, Q, Q).

        By Jensen's inequality that is the components' precisions, weighed by their responsibilities.
        """
        return torch.diag_embed(self.responsibilities(z) @ torch.exp(-2 * self.log_sds))

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws (n, Q) and the components (n,) that they come from."""
        component = torch.multinomial(self.log_weights.exp(), n, replacement=True, generator=generator)
        noise = torch.randn(n, self.means.shape[1], generator=generator, dtype=self.means.dtype)
        return self.means[component] + self.log_sds[component].exp() * noise, component


class Prior(nn.Module):
    """p(z); subclasses say which mixture of Gaussians it is."""

    def mixture(self, encode: Encode) -> GaussianMixture:
        """The prior, given the encoder's map from inputs to Gaussians."""
        raise NotImplementedError

    def initialize_(self, inputs: Tensor, encode: Encode) -> None:
        """Start from rows (K, D), on the encoder's scale, that stand for the data."""

    @property
    def n_starting_inputs(self) -> int:
        """How many rows :meth:`initialize_` wants."""
        return 0

    def mirror_(self, component: int) -> None:
        """Reverse one latent axis, in place, the encoder being reversed as well."""


class StandardNormal(Prior):
    """p(z) = N(0, I)."""

    def __init__(self, n_features: int, n_components: int):
        super().__init__()
        self.origin = nn.Buffer(torch.zeros(n_components), persistent=False)

    def mixture(self, encode: Encode) -> GaussianMixture:
        return GaussianMixture.standard_normal(len(self.origin), self.origin)


class _Mixture(Prior):
    """A mixture of K components with weights of its own."""

    def __init__(self, n_mixture_components: int, learn_weights: bool):
        super().__init__()
        logits = torch.zeros(n_mixture_components)
        self.logits = nn.Parameter(logits) if learn_weights else nn.Buffer(logits)

    @property
    def log_weights(self) -> Tensor:
        """(K,)."""
        return torch.log_softmax(self.logits, 0)

    @property
    def n_starting_inputs(self) -> int:
        return len(self.logits)


class LearnedMixture(_Mixture):
    """Means, sds and weights of every component are parameters."""

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
    """``sum_k w_k q(z | u_k)``: the posteriors that the encoder gives to K pseudo-inputs u_k (VAMP paper, section 2).

    Pseudo-inputs are rows as the encoder sees them (standardised values, or log1p of normalised counts), and free:
    nothing keeps them from values that no row of data has.

    A training step sends one block of them through the encoder, in turn, and takes the other blocks' Gaussians as they
    were when their turn came last, a few steps ago. The block's gradient stands for that of all: it is multiplied by
    the number of blocks. That is most of what a step with many pseudo-inputs would cost, saved. In evaluation mode all
    of them are encoded.
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
        # Parameters of their own: an optimiser passes over those that a step has not used.
        self.blocks = nn.ParameterList(
            nn.Parameter(block.clone(), requires_grad=learn_pseudo_inputs)
            for block in torch.zeros(n_mixture_components, n_features).split(_BLOCK_SIZE)
        )
        self._encoded: list[tuple[Tensor, Tensor]] = []
        self._next = 0

    @property
    def pseudo_inputs(self) -> Tensor:
        """(K, D)."""
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
        """Encode all blocks anew when next training."""
        self._encoded = []

    def train(self, mode: bool = True) -> VampPrior:
        if mode != self.training:
            self._forget()
        return super().train(mode)

    def _apply(self, fn: Callable, recurse: bool = True) -> VampPrior:  # to another dtype or device
        self._forget()
        return super()._apply(fn, recurse)

    def mirror_(self, component: int) -> None:
        self._forget()

    def initialize_(self, inputs: Tensor, encode: Encode) -> None:
        self._forget()
        with torch.no_grad():
            for block, part in zip(self.blocks, inputs.split(_BLOCK_SIZE), strict=True):
                block.copy_(part)


#: name -> prior
PRIORS: dict[str, type[Prior]] = {"normal": StandardNormal, "mixture": LearnedMixture, "vamp": VampPrior}
