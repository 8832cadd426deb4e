"""Posterior families: distributions q(z | x) made from the Gaussian that an encoder gives to a row."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from .._optional import import_optional
from .layers import drawn_from

#: number C of an encoder's outputs that are the context of a flow: all that its networks see of the row
_N_CONTEXT = 32

#: width of the hidden layers of a flow's networks
_FLOW_WIDTH = 64

#: factor on the usual starting weights of their last layers: a flow starts near the identity
_STARTING_SHARE = 0.1


class Encoding(NamedTuple):
    """An encoder's outputs for rows: mean and log sd (B, Q), and the context (B, C) of a flow, or None."""

    mean: Tensor
    log_sd: Tensor
    context: Tensor | None


class GaussianPosterior(nn.Module):
    """The encoder's Gaussian itself. It is the base class of the other families.

    Parameters
    ----------
    n_components : int
    generator : torch.Generator
        Source of the starting weights, which only subclasses have.
    """

    #: number of outputs that it takes from the encoder, mean and log sd left out
    n_context: int = 0
    #: whether q(z | x) is Gaussian
    is_gaussian: bool = True

    def __init__(self, n_components: int, *, generator: torch.Generator):
        super().__init__()

    def draw(self, encoding: Encoding, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Draws z (..., B, Q) made from standard normal noise of that shape, and their log q(z | x), (..., B)."""
        z = encoding.mean + encoding.log_sd.exp() * noise
        log_q = (-0.5 * noise**2 - encoding.log_sd - 0.5 * math.log(2 * math.pi)).sum(-1)
        return z, log_q

    def mirror_(self, component: int) -> None:
        """Reverse one latent axis, in place. The caller reverses the encoder."""


class InverseAutoregressivePosterior(GaussianPosterior):
    """The encoder's Gaussian, transformed by inverse autoregressive flows (Kingma et al., 2016).

    The order of components alternates from flow to flow. A draw passes each flow's network once, which gives all
    components of z and the Jacobian.

    Parameters
    ----------
    n_components, n_flows : int
    generator : torch.Generator
        Source of the starting weights.
    """

    n_context = _N_CONTEXT
    is_gaussian = False

    def __init__(self, n_components: int, *, n_flows: int, generator: torch.Generator):
        super().__init__(n_components, generator=generator)
        flows: Any = import_optional("zuko", extra="flows", purpose="Inverse autoregressive flows need zuko").flows
        ascending = torch.arange(n_components)

        def layers() -> list[nn.Module]:
            return [
                flows.MaskedAutoregressiveTransform(
                    n_components,
                    _N_CONTEXT,
                    order=ascending if position % 2 == 0 else ascending.flip(0),
                    hidden_features=(_FLOW_WIDTH, _FLOW_WIDTH),
                    activation=nn.Tanh,
                )
                for position in range(n_flows)
            ]

        self.flows = nn.ModuleList(drawn_from(generator, layers))
        with torch.no_grad():
            for flow in self.flows:
                for parameter in cast(nn.Sequential, flow.hyper)[-1].parameters():
                    parameter.mul_(_STARTING_SHARE)
        self.signs = nn.Buffer(torch.ones(n_components))

    def draw(self, encoding: Encoding, noise: Tensor) -> tuple[Tensor, Tensor]:
        z, log_q = super().draw(encoding, noise)
        # The flows were trained before any axis was reversed: the signs turn z back for them.
        z = self.signs * z
        for flow in self.flows:
            z, log_jacobian = flow(encoding.context).call_and_ladj(z)
            log_q = log_q - log_jacobian
        return self.signs * z, log_q

    def mirror_(self, component: int) -> None:
        self.signs[component].neg_()


#: name -> family
POSTERIORS: dict[str, type[GaussianPosterior]] = {"normal": GaussianPosterior, "iaf": InverseAutoregressivePosterior}
