"""Evidence of behaviours: how probable a feature's data are if its curve behaves in a given way.

Families of curves are not compared: one that bends more easily would win, or lose, for no good reason. Every feature
has the same smooth prior (:mod:`~skdevae.nn.smooth_curves`), and a behaviour is a *region* of its curves: those that
keep the behaviour's rule (:mod:`~skdevae.nn.curve_shapes`). Its prior is the smooth prior restricted to that region. So
for every node h of the smooth prior, exactly,

    p(data | behaviour, h) = p(data | h) P(region | data, h) / P(region | h),

a Gaussian evidence, the share of draws of a Gaussian posterior that lie in the region, and the share of draws of the
prior that do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .curve_shapes import shapes_of, shapes_of_both_signs
from .smooth_curves import LENGTHS, SmoothCurves, kernel, root

#: draws of each curve's posterior, and of the prior
_DRAWS, _PRIOR_DRAWS = 200, 20_000
#: nats below a feature's best node at which a region without a single draw is put: all that so few draws can exclude
_EXCLUDED = math.log(_DRAWS) + 4
#: nodes whose evidence is this many nats below the best one's are left out
_NEGLIGIBLE = 5.0
#: prior draws that a region must hold for its share to be counted; rarer regions are extrapolated
_COUNTED = 40
#: entries of an array of draws: those of a few fit into a processor's cache
_DRAW_ENTRIES = 400_000


def behavior_evidence(curves: SmoothCurves, behaviors: Sequence[str], margin: float, misfit: Tensor) -> Tensor:
    """Log evidence of every behaviour for each of D features, against a flat curve: (D, K).

    Parameters
    ----------
    curves : SmoothCurves
        What the data say about the features' curves.
    behaviors : sequence of str
        Names of the K behaviours.
    margin : float
        Share of its own range by which a curve may break a behaviour's rule.
    misfit : Tensor of shape (D, K)
        Nats by which the best curve of a behaviour describes the feature less well than the best of any that is not
        flat. It decides between regions that no draw of the posterior has hit.
    """
    columns = curves.columns
    # To three decimals, so that the shares of one table are counted once.
    z = tuple(round(latent, 3) for latent in columns.z.tolist())
    log_prior = log_prior_shares(z, tuple(behaviors), margin).to(columns.response)
    joint = curves.log_joint  # (L, S, D)
    best = joint.flatten(0, 1).amax(0)  # (D,)
    evidence = torch.full((len(best), len(behaviors)), -torch.inf).to(best)
    for nodes in _judged_together(joint > best - _NEGLIGIBLE, max(1, _DRAW_ENTRIES // (_DRAWS * len(columns.z)))):
        draws = torch.cat([_posterior_draws(curves, *node) for node in nodes], 1)
        shares = _shares(shapes_of(draws, behaviors, margin), behaviors)
        for (length, share, part), own in zip(nodes, shares.split([len(part) for _, _, part in nodes]), strict=True):
            term = joint[length, share, part, None] + own.log() - log_prior[length]
            evidence[part] = torch.logaddexp(evidence[part], term)
    evidence = torch.maximum(evidence, best[:, None] - _EXCLUDED - misfit)
    if "flat" in behaviors:
        evidence[:, behaviors.index("flat")] = 0
    return evidence


def _judged_together(chosen: Tensor, at_most: int) -> Iterator[list[tuple[int, int, Tensor]]]:
    """Nodes (length, share) and some features for which they are ``chosen`` (L, S, D), ``at_most`` so many at once.

    Few features have many nodes between them, each of a feature or two.
    """
    together: list[tuple[int, int, Tensor]] = []
    for length, share in chosen.any(2).nonzero().tolist():
        for part in chosen[length, share].nonzero()[:, 0].split(at_most):
            if together and sum(len(others) for _, _, others in together) + len(part) > at_most:
                yield together
                together = []
            together.append((length, share, part))
    if together:
        yield together


def _posterior_draws(curves: SmoothCurves, length: int, share: int, features: Tensor) -> Tensor:
    """Draws of the curves of some features under a node, in single precision: (B, d, R)."""
    # Single precision is enough to see which rules a curve keeps, and twice as fast.
    mean, spread = (moment.float() for moment in curves.moments(length, share, features))
    draws = _standard_draws(_DRAWS, mean.shape[1]).to(mean)  # (R, B)
    around = spread.transpose(0, 1) @ draws.T  # (B, d, R) or, of one spread for all features, (B, 1, R)
    return mean.T[:, :, None] + around


def _shares(shapes: Tensor, behaviors: Sequence[str]) -> Tensor:
    """The share of the draws (..., R) in each behaviour's region: (..., K). What none of the others has is free."""
    if "free" in behaviors:
        shapes = torch.where(shapes < 0, behaviors.index("free"), shapes)
    return torch.stack([(shapes == k).sum(-1) for k in range(len(behaviors))], -1) / shapes.shape[-1]


def in_region(curves: Tensor, behavior: str, margin: float) -> Tensor:
    """Which curves (B, R) lie in a behaviour's region: (R,) of booleans. A flat or free curve may be any."""
    if behavior in ("flat", "free"):
        return torch.ones(curves.shape[1], dtype=torch.bool, device=curves.device)
    return shapes_of(curves, (behavior,), margin) == 0


@lru_cache
def _standard_draws(n_draws: int, n_bins: int) -> Tensor:
    """Standard normal draws and their negatives: (R, B). The same ones serve all features: nothing is random."""
    half = torch.randn(n_draws // 2, n_bins, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.cat([half, -half])


@lru_cache(maxsize=32)
def log_prior_shares(z: tuple[float, ...], behaviors: tuple[str, ...], margin: float) -> Tensor:
    """Log of the share of prior curves in each behaviour's region, for every length: (L, K).

    Draws come with their negatives, so that rising and falling regions are as large as each other. A region too rare to
    be counted is extrapolated: the log of its share is about linear in the number of independent stretches of a curve.
    """
    points = torch.tensor(z, dtype=torch.float64)
    half = _standard_draws(_PRIOR_DRAWS, len(z))[: _PRIOR_DRAWS // 2].float()
    counts = []
    for length in LENGTHS:
        curves = root(kernel(points, length)).float() @ half.T  # (B, R)
        shapes = torch.cat(shapes_of_both_signs(curves, behaviors, margin))
        counts.append(_shares(shapes, behaviors) * _PRIOR_DRAWS + 0.5)
    shares = (torch.stack(counts) / _PRIOR_DRAWS).log()
    for k, name in enumerate(behaviors):
        if name not in ("flat", "free"):
            shares[:, k] = _extrapolated(shares[:, k])
    return shares


def _extrapolated(log_shares: Tensor) -> Tensor:
    """Log shares (L,) for rising lengths, those of rare regions extended by a straight line in 1 / length."""
    counted = (log_shares > math.log(_COUNTED / _PRIOR_DRAWS)).numpy()
    if counted.all() or counted.sum() < 2:
        return log_shares
    inverse, first = 1 / np.array(LENGTHS), np.nonzero(counted)[0][:3]
    line = np.polyfit(inverse[first], log_shares.numpy()[first], 1)
    return torch.where(torch.from_numpy(counted), log_shares, torch.from_numpy(np.polyval(line, inverse)))
