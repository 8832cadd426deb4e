"""Draws of curves: what the data leave open about each feature's curve, given where the other features place rows."""

from __future__ import annotations

import torch
from torch import Tensor

from ..nn.behavior_evidence import in_region
from ..nn.latent_grid import LatentGrid
from ..nn.models import GenerativeModel
from ..nn.smooth_curves import BinnedColumns, SmoothCurves
from ..table.grid_source import in_strata_of
from ..table.source import RowSource
from .behaviors import columns_without_their_own_help

#: draws of a curve for each that is asked for, of which those are kept that behave as the feature does
_CANDIDATES = 8
#: points of the grid on which rows are placed
_POINTS = 129


@torch.no_grad()
def drawn_curves(
    model: GenerativeModel, source: RowSource, n_draws: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The fitted curves, with draws of what the data leave open about them.

    How far a draw is from the fitted curve follows from the smooth prior that behaviours are judged with. Its own mean
    is not what draws lie around: where other features place rows with an error, the mean is flatter than the curve.
    Draws are restricted to the region of the feature's most probable behaviour, where it has one that has a region.

    Returns
    -------
    z : Tensor of shape (B,)
        Bins of equal mass along the axis, by their mean latent.
    curves : Tensor of shape (R, B, D)
        On the scale of curves.
    """
    grid = LatentGrid.standard_normal(_POINTS, model.z_max).to(source.like)
    with in_strata_of(model, source):
        columns = columns_without_their_own_help(model, source, grid)
    regions = _regions(model)
    fitted = model.predictive_curves(columns.z[:, None].to(next(model.parameters()))).to(columns.z)  # (B, D)
    parts = [
        _drawn(some, fitted[:, block], regions[block], model.margin or 0.0, n_draws, generator)
        for block, some in columns.blocks()
    ]
    return columns.z, torch.cat(parts, 2)


def _regions(model: GenerativeModel) -> list[str]:
    """The behaviour of every feature, or an empty name where candidates are no behaviours."""
    names = model.decoder.names if model.judges_behaviors else [""] * len(model.decoder.names)
    return [names[label] for label in model.labels.tolist()]


def _drawn(
    columns: BinnedColumns,
    fitted: Tensor,
    behaviors: list[str],
    margin: float,
    n_draws: int,
    generator: torch.Generator,
) -> Tensor:
    """Draws around fitted curves (B, d) of a block of features, whose behaviours are named: (R, B, d)."""
    curves = SmoothCurves(columns)
    _, n_shares, n_features = curves.log_joint.shape
    weights = curves.log_joint.flatten(0, 1).softmax(0).T  # (d, L S)
    n_candidates = _CANDIDATES * n_draws
    nodes = torch.multinomial(weights.cpu(), n_candidates, replacement=True, generator=generator).to(weights.device)
    noise = torch.randn(n_candidates, len(columns.z), generator=generator, dtype=torch.float64).to(columns.response)
    drawn = torch.empty(n_features, n_candidates, len(columns.z)).to(columns.response)
    for node in nodes.unique().tolist():
        features = (nodes == node).any(1).nonzero()[:, 0]
        length, share = divmod(node, n_shares)
        _, spread = curves.moments(length, share, features)
        for place, feature in enumerate(features.tolist()):
            chosen = nodes[feature] == node
            drawn[feature, chosen] = fitted[:, feature] + noise[chosen] @ spread[place]
    kept = [_kept(of_feature, name, margin, n_draws) for of_feature, name in zip(drawn, behaviors, strict=True)]
    return torch.stack(kept, 2)


def _kept(candidates: Tensor, behavior: str, margin: float, n_draws: int) -> Tensor:
    """As many of the candidates (M, B) as are asked for, of those that show a behaviour, or of all if none does."""
    inside = in_region(candidates.T, behavior, margin).nonzero()[:, 0] if behavior else torch.arange(len(candidates))
    if not len(inside):
        inside = torch.arange(len(candidates))
    return candidates[inside[torch.arange(n_draws) % len(inside)]]
