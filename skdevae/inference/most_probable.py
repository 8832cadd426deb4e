"""The most probable component of every row: draws tell it only where it is not clear without them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..nn.models import GenerativeModel
from ..nn.priors import GaussianMixture
from ..nn.rows import DenseRows
from ..table.source import RowSource
from .base import without_entries
from .draws import standard_normal_points
from .gaussian import GaussianApproximation, covariance_factor_at
from .importance import ImportanceSampler, WeightedDraws
from .modes import SEARCHED_ROWS, Hills, ModeFinder

#: how near to its end, in nats, a search may stop that is to tell hills apart
_ROUGHLY = 0.1
#: nats below a row's highest hill from which on a hill holds next to nothing of its posterior
_NEGLIGIBLE = 10.0
#: share that a component has on every hill of a row that clearly belongs to it
_CLEAR_SHARE = 0.9
#: points on a hill at which components are compared
_POINTS = 64
#: draws for each row that is not clear, of which all are taken only where these do not tell
_FEW_DRAWS = 64
#: standard errors by which the most probable component must lead
_ERRORS = 3


@torch.no_grad()
def most_probable_components(
    model: GenerativeModel, source: RowSource, mean: Tensor | None, n_draws: int
) -> tuple[Tensor, Tensor]:
    """The component with the highest p(k | x) of every row, and which rows are not clear without draws: (N,) both.

    A row is clear where one component has nearly all of p(k | z) wherever the row's posterior has mass. Arguments are
    those of :func:`~skdevae.inference.importance.sampled_responsibilities`.
    """
    source = replace(source, context=source.context.replaced(component=None))
    prior = model.latent_prior()
    labels = torch.zeros(len(source), dtype=torch.long, device=source.like.device)
    is_clear, is_empty = torch.ones_like(labels, dtype=torch.bool), torch.zeros_like(labels, dtype=torch.bool)
    if len(prior.log_weights) == 1:
        return labels, torch.zeros_like(labels, dtype=torch.bool)
    find = ModeFinder(model, _ROUGHLY)
    for index, chunk in source.chunks(width=model.entries_per_point, most_rows=SEARCHED_ROWS):
        rows = chunk.dense()
        hills = find.hills(rows, None if mean is None else mean[index])
        labels[index], is_clear[index] = _clear_components(model, prior, rows, hills)
        is_empty[index] = without_entries(rows, source.like)
    labels[is_empty] = prior.log_weights.argmax()
    is_open = ~is_clear & ~is_empty
    for n in (_FEW_DRAWS, n_draws) if n_draws > _FEW_DRAWS else (n_draws,):
        left = is_open.nonzero()[:, 0]
        if not len(left):
            break
        sampler = ImportanceSampler(model, n)
        for index, _, drawn in sampler.over(
            source.take(left.cpu().numpy()), None if mean is None else mean[left], warns=False
        ):
            labels[left[index]], still_open = _judged(drawn, prior)
            if n < n_draws:
                is_open[left[index]] = still_open
    return labels, is_open


def _judged(drawn: WeightedDraws, prior: GaussianMixture) -> tuple[Tensor, Tensor]:
    """The most probable component of each row by its draws, and whether other draws may say another: (B,) both."""
    of_draws = prior.responsibilities(drawn.z)  # (S, B, K)
    first, second = torch.einsum("sb,sbk->bk", drawn.shares, of_draws).topk(2, dim=1).indices.T
    rows = torch.arange(len(first), device=first.device)
    lead = of_draws[:, rows, first] - of_draws[:, rows, second]  # (S, B)
    mean = (drawn.shares * lead).sum(0)
    error = (drawn.shares * (lead - mean)).square().sum(0).sqrt()
    # What no draw has met may have a share of one effective draw.
    error = error + 1 / (drawn.n_draws * drawn.effective_share)
    return first, ~(mean > _ERRORS * error)


def _clear_components(
    model: GenerativeModel, prior: GaussianMixture, rows: DenseRows, hills: Hills
) -> tuple[Tensor, Tensor]:
    """The component that the highest hill of each row belongs to, and whether all its hills clearly do: (B,) both."""
    position, height = hills.padded(len(rows))  # highest first
    counts = height > height[:, :1] - _NEGLIGIBLE
    counts[:, 0] = True
    # The width of the highest hill has to do for the others.
    factor = covariance_factor_at(model, rows, position[:, 0], prior)
    noise = standard_normal_points(_POINTS, model.n_components).to(position)
    shares = torch.stack(
        [prior.responsibilities(GaussianApproximation(mode, factor).at(noise)).mean(0) for mode in position.unbind(1)],
        1,
    )  # (B, M, K)
    label = shares[:, 0].argmax(1)
    of_label = shares.gather(2, label[:, None, None].expand(-1, shares.shape[1], 1))[..., 0]
    return label, ((of_label >= _CLEAR_SHARE) | ~counts).all(1)
