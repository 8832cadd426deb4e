"""Slopes: derivatives of curves with respect to the latent."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def slopes(function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Derivatives of a function from (P, Q) to (P, D), row by row, with respect to each component of z: (P, D, Q)."""
    with torch.enable_grad():
        at = z.detach().requires_grad_()
        values = function(at)
        # What goes back is linear in what comes in. Its own derivative is what goes forward.
        weights = torch.zeros_like(values, requires_grad=True)
        (back,) = torch.autograd.grad(values, at, weights, create_graph=True, allow_unused=True)
    if back is None or not back.requires_grad:
        return values.new_zeros(*values.shape, z.shape[1])
    directions = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    forward = [
        torch.autograd.grad(back, weights, along.expand_as(z), retain_graph=True, allow_unused=True)[0]
        for along in directions
    ]
    return torch.stack([torch.zeros_like(values) if part is None else part for part in forward], -1).detach()
