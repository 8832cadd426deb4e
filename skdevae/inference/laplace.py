"""Laplace's approximation: inference without an encoder, around the mode of each row's posterior."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from .._warnings import warn_user
from ..nn.models import MixtureModel
from ..table.components import Projection
from ..table.source import RowSource
from .base import Inference, Placement, PosteriorFields, without_entries
from .draws import standard_normal_points
from .gaussian import GaussianApproximation, covariance_at, covariance_factor_at, log_joint_at
from .importance import sampled_log_evidence, sampled_responsibilities
from .modes import SEARCHED_ROWS, ModeFinder
from .most_probable import most_probable_components

#: share of rows above which searches that did not arrive are worth a warning
_TOLERATED_SHARE = 0.05


class Modes(NamedTuple):
    """Modes of p(z | x) of rows (N, Q), ``log p(x, z)`` there (N,), and which searches arrived (N,)."""

    position: Tensor
    log_joint: Tensor
    converged: Tensor


class LaplaceInference(Inference):
    """A row lies at the mode of its posterior, and the posterior is the Gaussian that fits there.

    Parameters
    ----------
    model : MixtureModel
        In evaluation mode.
    n_draws : int
        Draws for each row where an integral is sampled. It is rounded up to a power of two.
    projection : Projection or None
        A linear prediction of the modes, which searches may start from.
    tolerance : float or None
        How near to the mode, in nats, a search may end.
    """

    model: MixtureModel

    def __init__(
        self,
        model: MixtureModel,
        n_draws: int,
        projection: Projection | None = None,
        tolerance: float | None = None,
    ):
        super().__init__(model, n_draws)
        self.projection = projection
        self.tolerance = tolerance

    @torch.no_grad()
    def modes(self, source: RowSource) -> Modes:
        """The mode of ``log p(x | z) + log p(z)`` of every row.

        Where ``source.context.component`` says which component a row belongs to, p(z) is that component.
        """
        model = self.model
        find = ModeFinder(model, self.tolerance)
        position = torch.empty(len(source), model.n_components).to(source.like)
        log_joint = torch.empty(len(source)).to(source.like)
        converged = torch.empty(len(source), dtype=torch.bool)
        for index, rows in source.chunks(width=model.entries_per_point, most_rows=SEARCHED_ROWS):
            found = find(rows.dense(), self._predicted(source.take(index)))
            position[index], log_joint[index], converged[index] = found.position, -found.value, found.converged
        return Modes(position, log_joint, converged)

    @torch.no_grad()
    def variances(self, source: RowSource, positions: Tensor) -> Tensor:
        """Variances of Laplace's approximation at given positions of the rows, their modes say (N, Q): (N, Q)."""
        prior, variances = self.model.latent_prior(), torch.empty_like(positions)
        for index, rows in source.chunks(width=self._width):
            covariance = covariance_at(self.model, rows.dense(), positions[index], prior)
            variances[index] = covariance.diagonal(dim1=1, dim2=2)
        return variances

    def posterior(self, source: RowSource, credible_level: float = 0.95) -> PosteriorFields:
        return self.placed_posterior(source, credible_level)[0]

    def mean(self, source: RowSource) -> Tensor:
        """The mode of every row's posterior, which stands for its mean: (N, Q)."""
        return self.placed(source).position

    def placed(self, source: RowSource) -> Placement:
        """The mode of every row's posterior, and log p(x, z) there."""
        modes = self.modes(source)
        warn_unless_converged(modes)
        return Placement(modes.position, modes.log_joint)

    def placed_posterior(self, source: RowSource, credible_level: float = 0.95) -> tuple[PosteriorFields, Placement]:
        placement = self.placed(source)
        sd = self.variances(source, placement.position).sqrt()
        return PosteriorFields.gaussian(placement.position, sd, credible_level), placement

    def log_evidence(self, source: RowSource) -> Tensor:
        return sampled_log_evidence(self.model, source, self._predicted(source), self.n_draws)

    def responsibilities(self, source: RowSource, *, warns: bool = True) -> Tensor:
        """Posterior probability p(k | x) of every component of the prior: (N, K).

        Rows that are hard to draw for are warned of, by their numbers, unless ``warns`` is false.
        """
        return sampled_responsibilities(self.model, source, self._predicted(source), self.n_draws, warns=warns)

    def labels(self, source: RowSource) -> tuple[Tensor, Tensor]:
        """The most probable component of every row, and of which rows other draws may say another: (N,) both."""
        return most_probable_components(self.model, source, self._predicted(source), self.n_draws)

    def _predicted(self, source: RowSource) -> Tensor | None:
        """A linear prediction of the modes, (N, Q)."""
        return None if self.projection is None else torch.from_numpy(self.projection(source)).to(source.like)

    @torch.no_grad()
    def bound(self, source: RowSource) -> Tensor:
        """``E_q[log p(x, z) - log q(z)]`` of every row, with Laplace's approximation as q: (N,)."""
        model, mode = self.model, self.mean(source)
        draws, prior = standard_normal_points(self.n_draws, model.n_components).to(source.like), model.latent_prior()
        factors = self._factors(source, mode)
        entropy = factors.diagonal(dim1=1, dim2=2).log().sum(1) + 0.5 * mode.shape[1] * math.log(2 * math.pi * math.e)
        values = torch.empty(len(source)).to(source.like)
        for index, rows in source.chunks(width=model.entries_per_point * len(draws)):
            z = GaussianApproximation(mode[index], factors[index]).at(draws)
            bound = log_joint_at(model, rows.dense(), z, prior).mean(0) + entropy[index]
            values[index] = torch.where(without_entries(rows, source.like), 0.0, bound)
        return values

    def _factors(self, source: RowSource, mode: Tensor) -> Tensor:
        """Cholesky factors of the covariance that Laplace's approximation has at each row's mode (N, Q): (N, Q, Q)."""
        prior = self.model.latent_prior()
        factors = torch.empty(*mode.shape, mode.shape[1]).to(mode)
        for index, rows in source.chunks(width=self._width):
            factors[index] = covariance_factor_at(self.model, rows.dense(), mode[index], prior)
        return factors

    @property
    def _width(self) -> int:
        """Entries of a row's derivatives of every curve by every component."""
        return self.model.entries_per_point * self.model.n_components


def warn_unless_converged(modes: Modes) -> None:
    """Warn where the searches of more than a few rows ended before they had arrived at a mode."""
    share = float((~modes.converged).double().mean())
    if share > _TOLERATED_SHARE:
        warn_user(
            f"The search for a representation did not converge for {share:.0%} of the samples: theirs are rough. A "
            "smooth activation, or a larger weight_decay, makes it easier.",
            ConvergenceWarning,
        )
