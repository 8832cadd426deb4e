"""Proposals: the Gaussians that rows' latents are drawn from, several for each row."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..nn.latent_grid import standard_normal_log_density
from .gaussian import cholesky_factor

#: least share of the draws' weight that a Gaussian is refitted to
_LEAST_SHARE = 1e-9


class Gaussians(NamedTuple):
    """Of each row, G Gaussians N(mode, factor factor^T) with log shares (B, G).

    Modes are (B, G, Q), and factors lower triangular (B, G, Q, Q). A row that has fewer gives the others no share.
    """

    log_shares: Tensor
    mode: Tensor
    factor: Tensor

    @classmethod
    def none(cls, n_rows: int, n_gaussians: int, n_components: int, like: Tensor) -> Gaussians:
        """Room for Gaussians that have no share as yet."""
        log_shares = torch.full((n_rows, n_gaussians), -torch.inf).to(like)
        factor = torch.eye(n_components).to(like).repeat(n_rows, n_gaussians, 1, 1)
        return cls(log_shares, torch.zeros(n_rows, n_gaussians, n_components).to(like), factor)

    @classmethod
    def joined(cls, parts: list[Gaussians]) -> Gaussians:
        """All Gaussians of each row."""
        return cls(*(torch.cat(fields, 1) for fields in zip(*parts, strict=True)))

    def take(self, rows: Tensor) -> Gaussians:
        """Those of some rows."""
        return Gaussians(*(field[rows] for field in self))

    def normalized(self) -> Gaussians:
        """The same with shares that add up to one."""
        return self._replace(log_shares=torch.log_softmax(self.log_shares, 1))

    def shared(self, log_share: float, power: float = 1.0) -> Gaussians:
        """The same with shares that add up to ``exp(log_share)``, made more equal by a power below one."""
        return self._replace(log_shares=torch.log_softmax(power * self.log_shares, 1) + log_share)

    def widened(self, by: float) -> Gaussians:
        """The same with standard deviations that are so many times as large."""
        return self._replace(factor=by * self.factor)

    def at(self, noise: Tensor, number: Tensor) -> Tensor:
        """Points (S, B, Q) of each row for standard normal noise (S, Q), from Gaussians of given numbers (S, B)."""
        z = torch.zeros(*number.shape, noise.shape[1]).to(noise)
        for g in range(self.mode.shape[1]):
            here = self.mode[:, g] + torch.einsum("bpq,sq->sbp", self.factor[:, g], noise)
            z = torch.where((number == g)[..., None], here, z)
        return z

    def log_densities(self, z: Tensor) -> Tensor:
        """Log density of every Gaussian at positions z (S, B, Q), times its share: (S, B, G)."""
        away = (z[:, :, None] - self.mode).permute(1, 2, 3, 0)
        whitened = torch.linalg.solve_triangular(self.factor, away, upper=False)
        return standard_normal_log_density(whitened.permute(3, 0, 1, 2)) + self.log_shares - self.log_volumes

    @property
    def log_volumes(self) -> Tensor:
        """Sums of the logs of the factors' diagonals: (B, G)."""
        return self.factor.diagonal(dim1=2, dim2=3).log().sum(2)

    def refitted(self, z: Tensor, weights: Tensor) -> Gaussians:
        """Gaussians that are nearer to the weighted draws z (S, B, Q), whose weights (S, B) add up to one for each row.

        It is one step of expectation maximisation. Each Gaussian is as it was before in so far as there are too few
        draws, by weight, for its covariance.
        """
        of_each = weights[..., None] * torch.softmax(self.log_densities(z), 2)  # (S, B, G)
        total = of_each.sum(0).clamp(min=_LEAST_SHARE)
        of_each = of_each / total
        mean = torch.einsum("sbg,sbq->bgq", of_each, z)
        away = z[:, :, None] - mean
        covariance = torch.einsum("sbg,sbgp,sbgq->bgpq", of_each, away, away)
        n_draws = 1 / of_each.square().sum(0).clamp(min=_LEAST_SHARE)
        trust = (n_draws / (n_draws + z.shape[-1] + 1))[..., None]
        mode = self.mode + trust * (mean - self.mode)
        spread = self.factor @ self.factor.mT
        spread = spread + trust[..., None] * (covariance - spread)
        log_shares = torch.where(self.log_shares.isfinite(), total.log(), self.log_shares)
        return Gaussians(log_shares, mode, cholesky_factor(spread))
