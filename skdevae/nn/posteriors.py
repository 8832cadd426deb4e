"""Families of variational posteriors: what is made of the Gaussian that an encoder gives to a row."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from .layers import drawn_from

#: numbers of an encoder that tell every layer of a flow about the row, and width of the flow's networks
_N_CONTEXT, _FLOW_WIDTH = 32, 64
#: share of their usual size with which the last layers of a flow's networks start: nearly the identity
_STARTING_SHARE = 0.1


class Encoding(NamedTuple):
    """What an encoder says of rows: mean and log sd (B, Q), and context (B, C) for a flow, where one follows."""

    mean: Tensor
    log_sd: Tensor
    context: Tensor | None


class GaussianPosterior(nn.Module):
    """q(z | x) is the encoder's Gaussian itself."""

    #: numbers that it wants of the encoder beside mean and log sd
    n_context = 0
    #: whether q(z | x) is Gaussian
    is_gaussian = True

    def __init__(self, n_components: int, *, generator: torch.Generator):
        super().__init__()

    def draw(self, encoding: Encoding, noise: Tensor) -> tuple[Tensor, Tensor]:
        """z (..., B, Q) for standard normal noise of that shape, and log q(z | x), (..., B)."""
        z = encoding.mean + encoding.log_sd.exp() * noise
        log_q = (-0.5 * noise**2 - encoding.log_sd - 0.5 * math.log(2 * math.pi)).sum(-1)
        return z, log_q

    def mirror_(self, component: int) -> None:
        """Reverse one latent axis, in place, the encoder being reversed as well."""


class InverseAutoregressivePosterior(GaussianPosterior):
    """The encoder's Gaussian, carried on by autoregressive flows in alternating order (Kingma et al., 2016).

    Each flow is called in the direction in which one pass of its network gives all components of z and the Jacobian.
    """

    n_context = _N_CONTEXT
    is_gaussian = False

    def __init__(self, n_components: int, *, n_flows: int, generator: torch.Generator):
        super().__init__(n_components, generator=generator)
        flows = import_zuko().flows
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
        # A reversed axis is reversed once more before the flows, which know it as it was when they were trained.
        z = self.signs * z
        for flow in self.flows:
            z, log_jacobian = flow(encoding.context).call_and_ladj(z)
            log_q = log_q - log_jacobian
        return self.signs * z, log_q

    def mirror_(self, component: int) -> None:
        self.signs[component].neg_()


def import_zuko() -> Any:
    """The library of the flows, or an error that says how to install it."""
    try:
        import zuko
    except ImportError as error:
        raise ImportError(
            "Inverse autoregressive flows need zuko: pip install 'skdevae[flows]', or choose a normal posterior."
        ) from error
    return zuko


#: name -> family
POSTERIORS: dict[str, type[GaussianPosterior]] = {"normal": GaussianPosterior, "iaf": InverseAutoregressivePosterior}
