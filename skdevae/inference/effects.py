"""Uncertainty of covariate effects: how well effects are known beside curves and latents that are not known either.

Let an entry of row i tell ``v_id`` (Fisher's information) of its curve, and let c_i be the row's design. Two things are
uncertain together with the effects B_d of every feature.

- *The curve.* It takes up what of c goes along with the latent. So what counts of c is its difference from the mean
  in bins along the latent (a partial regression): ``A_d = sum_i v_id c_i c_i^T``.
- *The latents.* A row may move along the axis, and curves change with it by their slopes ``f_d'``. If z_i is integrated
  out with all effects in view (a Schur complement, with the prior's precision 1), then
  ``sum_i (c_i c_i^T) (u_i u_i^T)`` is lost, where ``u_id = v_id f_d' / (1 + sum_d v_id f_d'^2)^(1/2)``. Above all, this
  is the information about a move of all rows of a level together, which effects can undo in every feature at once.

Rows of known positions do not move, and others of which something is known beforehand have that precision in place of
1, averaged over the rows in a bin.

With u in bins, what is lost has a low rank. So the inverse is one of small matrices (Woodbury), for any number of
features.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from ..nn.binned_columns import N_BINS, bins_of
from ..nn.covariate_effects import CovariateEffects
from ..nn.latent_grid import LatentGrid, log_joint, prior_variances
from ..nn.models import GenerativeModel
from ..nn.rows import Rows
from ..table.grid_source import GridSource, in_strata_of
from ..table.source import RowSource
from .slopes import slopes

#: bins along each of two axes
_BINS_2D = 6
#: share of the information that is kept at the least, where rounding would leave none
_LEAST_SHARE = 1e-6
#: least number of rows that sums are divided by, and least prior variance of a latent that moves along another axis
_LEAST_MASS, _LEAST_VARIANCE = 1e-300, 1e-6


@torch.no_grad()
def effect_covariances(
    model: GenerativeModel, effects: CovariateEffects, source: RowSource, grid: LatentGrid
) -> Tensor:
    """Posterior covariances of the effects of a design on each feature, for rows of a training table: (D, C, C)."""
    bins = _bins(grid)
    with in_strata_of(model, source):
        sums = _SumsInBins(model, effects, source, grid, bins)
    ridge = torch.diag(1 / effects.variance).to(bins)
    information = sums.partial_information()  # as if latents were known: (bins, D, C, C)
    covariance = torch.linalg.inv(information.sum(0) + ridge)
    rates = slopes(model.predictive_curves, sums.latents)
    lost = _what_latents_take(information, sums.spread_of_designs(), rates, sums.prior_precisions())  # (D, C, R)
    carried = covariance @ lost
    shares = torch.einsum("dcr,dcs->rs", lost, carried)  # symmetric, with eigenvalues from 0 to 1
    left = torch.eye(len(shares)).to(shares) * (1 + _LEAST_SHARE) - shares
    return covariance + carried @ torch.linalg.inv(left) @ carried.mT


def _what_latents_take(information: Tensor, spread: Tensor, rates: Tensor, precisions: Tensor) -> Tensor:
    """A factor (D, C, R) of the information that is lost.

    ``information`` (bins, D, C, C) is the partial one, ``spread`` (bins, C, C) are cross-products of centred designs of
    rows that may move, ``rates`` (bins, D, Q) are the slopes of the curves, and ``precisions`` (bins, Q) are those of
    the rows' priors. Where levels differ in what their entries tell, a row
    counts as the level that tells least: no more is lost than there was.
    """
    values, vectors = torch.linalg.eigh(spread)
    values = values.clamp(min=0)
    roots = vectors * values.sqrt()[:, None]  # (bins, C, C)
    is_there = values > _LEAST_SHARE * values.amax(1, keepdim=True)
    inverse = vectors * torch.where(is_there, values, torch.inf).rsqrt()[:, None]
    relative = torch.einsum("bcj,bdce,bek->bdjk", inverse, information, inverse)
    # Directions in which designs do not differ tell nothing, and must not be taken for the least.
    aside = torch.diag_embed(torch.where(is_there, 0.0, relative.abs().amax((1, 2, 3))[:, None] + 1))
    told = torch.linalg.eigvalsh(relative + aside[:, None])[..., 0].clamp(min=0)  # v of a row: (bins, D)
    told = torch.where(is_there.any(1)[:, None], told, 0.0)
    weighted = told[..., None] * rates
    precision = torch.einsum("bdp,bdq->bpq", weighted, rates) + torch.diag_embed(precisions)
    # u = weighted @ precision^(-1/2)
    u = torch.linalg.solve_triangular(torch.linalg.cholesky(precision).mT, weighted, upper=True, left=False)
    return torch.einsum("bdq,bcj->dcbqj", u, roots).flatten(2)


class _SumsInBins:
    """Sums over rows, in bins along the latent.

    Attributes
    ----------
    rows : Tensor of shape (bins,)
        Number of rows that may move along some axis.
    latents : Tensor of shape (bins, Q)
        Their mean latents.
    entries : Tensor of shape (bins, D)
        What the rows' entries tell of their curves.
    """

    def __init__(
        self, model: GenerativeModel, effects: CovariateEffects, source: RowSource, grid: LatentGrid, bins: Tensor
    ):
        curves, tables = model.predictive_curves(grid.points), model.predictive_tables(grid.points)
        n_bins, (n_covariates, n_features) = len(bins), effects.values.shape
        mass = curves.new_zeros(len(grid.points))
        self.entries = curves.new_zeros(n_bins, n_features)
        self._squares = curves.new_zeros(n_covariates, n_covariates, n_bins, n_features)
        self._by_entry = curves.new_zeros(n_covariates, n_bins, n_features)
        self._by_row = curves.new_zeros(n_bins, n_covariates)
        self._squares_by_row = curves.new_zeros(n_bins, n_covariates, n_covariates)
        self._variances = curves.new_zeros(n_bins, model.n_components)
        self.rows = curves.new_zeros(n_bins)
        for _, rows in GridSource(source, model).chunks(width=max(len(grid.points), 2 * n_features)):
            design, weight = effects.centered(cast(Tensor, rows.context.covariates)), rows.context.weight
            q = log_joint(rows, tables, grid).softmax(1)
            counted = q if weight is None else q * weight[:, None]
            in_bins = counted @ bins.T  # (B, bins)
            told = _information(model, rows, q @ curves, q @ grid.points)
            self.entries += in_bins.T @ told
            for number, column in enumerate(design.T):
                by_column = in_bins * column[:, None]
                self._by_entry[number] += by_column.T @ told
                for other, another in enumerate(design.T):
                    self._squares[number, other] += (by_column * another[:, None]).T @ told
            mass += counted.sum(0)
            variances = prior_variances(rows, grid)  # (B, Q)
            moving = in_bins * (variances > 0).any(1)[:, None]
            self._by_row += moving.T @ design
            self._squares_by_row += torch.einsum("bn,bc,be->nce", moving, design, design)
            self._variances += moving.T @ variances
            self.rows += moving.sum(0)
        self.latents = (bins @ (mass[:, None] * grid.points)) / (bins @ mass)[:, None].clamp(min=_LEAST_MASS)

    def partial_information(self) -> Tensor:
        """Information of the rows in each bin about effects, beside curves of any shape: (bins, D, C, C)."""
        means = self._by_entry / self.entries.clamp(min=torch.finfo(self.entries.dtype).tiny)
        return (self._squares - torch.einsum("cbd,ebd->cebd", means, self._by_entry)).permute(2, 3, 0, 1)

    def spread_of_designs(self) -> Tensor:
        """Cross-products of designs, centred in each bin: (bins, C, C)."""
        means = self._by_row / self.rows[:, None].clamp(min=_LEAST_MASS)
        return self._squares_by_row - torch.einsum("nc,ne->nce", means, self._by_row)

    def prior_precisions(self) -> Tensor:
        """Precisions of the priors of latents, averaged over the rows that may move: (bins, Q)."""
        variances = self._variances / self.rows[:, None].clamp(min=_LEAST_MASS)
        return 1 / variances.clamp(min=_LEAST_VARIANCE)


def _information(model: GenerativeModel, rows: Rows, mean: Tensor, latent: Tensor) -> Tensor:
    """What entries of rows tell of their curves, which stand at ``mean`` (B, D), at latents (B, Q): (B, D)."""
    likelihood, curves = model.in_context(mean, rows.context)
    information = likelihood.information(curves, latent)
    return information if rows.observed is None else information * rows.observed


def _bins(grid: LatentGrid) -> Tensor:
    """The share of every grid point in bins of equal mass under the prior: (bins, P)."""
    mass = grid.log_mass.exp()
    if grid.n_components == 1:
        return bins_of(mass, N_BINS)
    by_axis = grid.unravel(mass[None])[0]
    return torch.kron(*(bins_of(by_axis.sum(1 - axis), _BINS_2D) for axis in range(2)))
