"""Slopes: derivatives of curves with respect to the latent."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.functional import jvp


def slopes(function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Derivatives of a function from (P, Q) to (P, D), row by row, with respect to each component of z: (P, D, Q)."""
    directions = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    return torch.stack([jvp(function, z, along.expand_as(z).contiguous())[1] for along in directions], -1)
