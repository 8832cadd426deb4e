"""Binned columns: from sums on a grid of the latent to what they say about curves in a few bins of equal mass."""

from __future__ import annotations

import torch
from torch import Tensor

from .latent_grid import GridStatistics
from .likelihoods import LinearLikelihood
from .smooth_curves import BinnedColumns, posterior_mean
from .strata import repeated_over_strata, spread_over_strata, summed_over_strata

#: bins of equal mass along the axis
N_BINS = 20
#: Newton steps towards the most probable curves of likelihoods that are not Gaussian, and the largest change in one
_NEWTON_STEPS, _LARGEST_STEP = 3, 2.0
#: least information in a bin, as a share of the most that a bin of the same feature has: it keeps steps finite
_LEAST_INFORMATION = 1e-6
#: least mass of a bin and least noise variance of an entry of a standardised column: they keep quotients finite
_LEAST_MASS, _LEAST_VARIANCE = 1e-12, 1e-8


def bins_of(mass: Tensor, n_bins: int = N_BINS) -> Tensor:
    """The share of every grid point's mass (P,) that falls into each of B bins of equal mass: (B, P)."""
    upper = mass.cumsum(0) / mass.sum()
    lower = torch.cat([upper.new_zeros(1), upper[:-1]])
    edges = torch.linspace(0, 1, n_bins + 1, dtype=mass.dtype, device=mass.device)
    overlap = torch.minimum(edges[1:, None], upper) - torch.maximum(edges[:-1, None], lower)
    return overlap.clamp(min=0) / (upper - lower).clamp(min=torch.finfo(mass.dtype).tiny)


def in_bins(statistics: GridStatistics, mass: Tensor, points: Tensor) -> tuple[GridStatistics, Tensor]:
    """Sums in bins of equal mass, and the mean latent (B, Q) in each, for grid points (P, Q) of a mass (P,).

    Sums (L P, D) in L strata become sums (L B, D).
    """
    bins = bins_of(mass)
    n_strata = len(statistics.weighted) // len(mass)
    latents = (bins @ (mass[:, None] * points)) / (bins @ mass)[:, None]
    return binned(statistics, torch.block_diag(*[bins] * n_strata)), latents


def binned(statistics: GridStatistics, bins: Tensor) -> GridStatistics:
    """Sums over the bins' shares (B, P) of the grid points."""
    return GridStatistics(
        bins @ statistics.weighted,
        None if statistics.positive is None else bins @ statistics.positive,
        bins @ statistics.mass,
        statistics.divergence,
        statistics.n_rows,
    )


def bin_columns(
    statistics: GridStatistics,
    z: Tensor,
    likelihood: LinearLikelihood,
    sum_of_squares: Tensor,
    offsets: Tensor | None = None,
) -> BinnedColumns:
    """Columns from sums in bins, whose mean latents are z (B,).

    ``sum_of_squares`` (D,) counts where noise is free. Sums may be those of strata with ``offsets`` (L, D).
    """
    if likelihood.has_free_noise:
        return _measured_columns(statistics, z, sum_of_squares)
    return _working_columns(statistics, z, likelihood, offsets)


def _measured_columns(statistics: GridStatistics, z: Tensor, sum_of_squares: Tensor) -> BinnedColumns:
    mass = statistics.mass.clamp(min=_LEAST_MASS)
    mean = statistics.weighted / mass
    spread = (sum_of_squares - (mass * mean**2).sum(0)).clamp(min=0)
    n_entries = mass.sum(0)
    return BinnedColumns(z, mass, mean, spread + _LEAST_VARIANCE * n_entries, n_entries)


def _working_columns(
    statistics: GridStatistics, z: Tensor, likelihood: LinearLikelihood, offsets: Tensor | None
) -> BinnedColumns:
    """Working responses at each feature's most probable smooth curve, as generalised linear models have them.

    The log-likelihood is replaced by its expansion to second order, with the expected information: Laplace's
    approximation.
    """
    in_strata, latents = statistics.mass.clamp(min=_LEAST_MASS), repeated_over_strata(z[:, None], offsets)
    weighted, mass = (summed_over_strata(part, offsets) for part in (statistics.weighted, in_strata))
    n_entries = mass.sum(0).expand(weighted.shape[1])
    overall = weighted.sum(0) / mass.sum(0)
    # Half-way from a flat curve to the means of the bins: steps from there are few.
    curves = likelihood.unlink(0.5 * (weighted / mass + overall))
    for step in range(_NEWTON_STEPS):
        at = spread_over_strata(curves, offsets)
        information = summed_over_strata(in_strata * likelihood.information(at, latents), offsets)
        information = torch.maximum(information, _LEAST_INFORMATION * information.amax(0)).clamp(min=_LEAST_MASS)
        score = summed_over_strata(_score(statistics, at, latents, likelihood), offsets)
        response = curves + score / information
        columns = BinnedColumns(z, information, response, None, n_entries)
        if step < _NEWTON_STEPS - 1:
            curves = curves + (posterior_mean(columns) - curves).clamp(-_LARGEST_STEP, _LARGEST_STEP)
    return columns


def _score(statistics: GridStatistics, curves: Tensor, latents: Tensor, likelihood: LinearLikelihood) -> Tensor:
    """Derivative of the expected log-likelihood in every curve value: (B, D)."""
    with torch.enable_grad():
        at = curves.detach()[:, None].requires_grad_(True)
        total = statistics.expected_log_likelihood(likelihood.tables(at, latents)).sum()
        (score,) = torch.autograd.grad(total, at)
    return score[:, 0]
