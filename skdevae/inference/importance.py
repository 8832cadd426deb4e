"""Importance sampling: the evidence of rows whose latent no grid can hold.

Each row has proposals of its own: the Gaussian at its posterior's mode (Laplace's approximation, from Gauss-Newton
steps), a wider one there and, in models with an encoder, the encoder's posterior. Draws from all of them are weighted
against their mixture (the balance heuristic), so that no weight is large where any proposal reaches. The first proposal
also serves as a control variate, which makes the evidence of a linear gaussian decoder exact. A mode that no proposal
reaches is not seen, and the evidence then comes out too low.

All rows share the same quasi-random points, so that nothing depends on a seed, or on which rows come together. Each
proposal gets a balanced set of them: the wider one half of all draws, the others what is left in equal parts. That
division was measured to err less than equal parts do (by a fifth to a half where there is an encoder).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..nn.models import GenerativeModel
from ..nn.rows import DenseRows
from ..table.source import RowSource
from .draws import normal_draws
from .gaussian import GaussianApproximation, laplace, log_joint_at

#: how many times as wide as Laplace's approximation the second proposal is
_WIDENED = 1.5
#: fewest draws: one for each proposal, in the parts in which they are divided
_FEWEST_DRAWS = 4
#: least share of the mean weight that its control variate may leave
_LEAST_SHARE = 0.1
#: entries of a (draws, rows, features) array, few enough for a processor's cache
_DRAWN_ENTRIES = 1_000_000


@torch.no_grad()
def sampled_log_evidence(
    model: GenerativeModel, source: RowSource, mean: Tensor, n_draws: int, sd: Tensor | None = None
) -> Tensor:
    """log p(x) of every row by importance sampling: (N,).

    Modes are looked for from ``mean`` (N, Q). Where q(z | x) is Gaussian, with ``sd`` (N, Q), it is a proposal as well.
    ``n_draws`` is rounded up to a power of two.
    """
    draws = normal_draws(max(n_draws, _FEWEST_DRAWS), model.n_components).to(source.like)
    values = torch.empty(len(source)).to(source.like)
    # Laplace's approximation takes the derivatives of every curve by every component.
    for index, rows in source.chunks(width=model.entries_per_point * model.n_components):
        encoded = None if sd is None else GaussianApproximation(mean[index], torch.diag_embed(sd[index]))
        values[index] = importance_log_evidence(model, rows.dense(), mean[index], draws, encoded)
    return values


def importance_log_evidence(
    model: GenerativeModel,
    rows: DenseRows,
    start: Tensor,
    draws: Tensor,
    encoded: GaussianApproximation | None = None,
) -> Tensor:
    """log of the mean importance weight of each row, on average a little below log p(x): (B,).

    ``start`` (B, Q) is where modes are looked for from, ``draws`` (S, Q) are standard normal, and ``encoded`` is what
    an encoder takes for the posterior.
    """
    prior = model.latent_prior()
    at_mode = laplace(model, rows, start, prior)
    wider = GaussianApproximation(at_mode.mode, _WIDENED * at_mode.factor)
    for_wider, for_others = draws.tensor_split(2)
    if encoded is None:
        proposals, parts = [at_mode, wider], [for_others, for_wider]
    else:
        for_mode, for_encoded = for_others.tensor_split(2)
        proposals, parts = [at_mode, wider, encoded], [for_mode, for_wider, for_encoded]
    z = torch.cat([proposal.at(part) for proposal, part in zip(proposals, parts, strict=True)])  # (S, B, Q)
    shares = torch.tensor([len(part) for part in parts]).to(z) / len(draws)
    n_at_once = max(1, _DRAWN_ENTRIES // (len(rows) * model.entries_per_point))
    log_weights, log_controls = [], []
    for positions in z.split(n_at_once):
        densities = torch.stack([proposal.log_density(positions) for proposal in proposals], -1)
        log_density = torch.logsumexp(densities + shares.log(), -1)
        log_weights.append(log_joint_at(model, rows, positions, prior) - log_density)
        log_controls.append(densities[..., 0] - log_density)
    evidence = _log_mean(torch.cat(log_weights), torch.cat(log_controls).exp())
    return evidence if rows.observed is None else torch.where(rows.observed.any(1), evidence, 0.0)


def _log_mean(log_weights: Tensor, control: Tensor) -> Tensor:
    """log of the mean weight (S, B) of each row, with a control variate (S, B) whose mean is known to be one: (B,).

    Where weights are proportional to it, as those of a Gaussian posterior are to the density of its own approximation,
    the mean is exact from a few draws.
    """
    largest = log_weights.amax(0)
    weights = torch.exp(log_weights - largest)
    mean, deviation = weights.mean(0), control - control.mean(0)
    slope = (weights * deviation).sum(0) / deviation.square().sum(0).clamp(min=torch.finfo(weights.dtype).tiny)
    controlled = mean - slope * (control.mean(0) - 1)
    # An estimate that the correction has all but used up is none.
    return torch.where(controlled > _LEAST_SHARE * mean, controlled, mean).log() + largest
