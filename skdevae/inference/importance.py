"""Importance sampling: the evidence of rows whose latent no grid can hold, and expectations under their posteriors.

Each row has proposals of its own: a Gaussian for every hill of its posterior in the proportions of the masses that they
seem to have, wider ones at the same places, the prior, and in models with an encoder the encoder's posterior. A hill's
Gaussian is Laplace's approximation, improved by a step of Gaussian variational inference. Draws from all of them are
weighted against their mixture (the balance heuristic), so that no weight is large where any proposal reaches.

The *effective number of draws*, ``(sum w)^2 / sum w^2`` for weights w, says how well the proposals fit. A row for whose
evidence few draws do as well as all of them would with :data:`_GOOD_SHARE` of them effective takes few. One that has
fewer effective draws takes twice as many. Where that is not enough, the Gaussians are fitted to the weighted draws, and
others are drawn, if that helps. Where less than a tenth of a row's draws are effective at the end, a warning says so.

All rows share the same quasi-random points, so that nothing depends on a seed, or on which rows come together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from .._warnings import warn_user
from ..nn.models import GenerativeModel
from ..nn.rows import DenseRows
from ..table.source import RowSource
from .base import without_entries
from .draws import mixture_points, normal_quantiles, power_of_two, uniform_draws
from .gaussian import GaussianApproximation, averaged, covariance_factor_at, log_joint_at
from .modes import Hills, ModeFinder
from .proposals import Gaussians

#: how many times as wide as the hills' Gaussians the wider proposals are
_WIDENED = 1.5
#: shares of the draws from the wider proposals, the prior and the encoder; the hills' Gaussians get the rest
_WIDER_SHARE, _PRIOR_SHARE, _ENCODER_SHARE = 1 / 2, 1 / 16, 1 / 4
#: power of the masses of modes in whose proportions draws are taken: below one, since the masses are rough
_MASS_POWER = 0.5
#: fewest draws: enough for every proposal to have some
_FEWEST_DRAWS = 4
#: fewest draws that tell how well the proposals fit, and the share of the wanted draws that is taken first
_FIRST_DRAWS, _FIRST_SHARE = 64, 1 / 4
#: fewest components of a latent with which fewer draws can do as well: with less, errors of quasi-random points fall
#: much faster with their number than weights tell
_LEAST_COMPONENTS = 5
#: how often proposals are refitted at the most, and the share of the weights' variance that must be left then at most
_REFITS, _GAIN = 3, 1 / 2
#: share of effective draws with which the wanted number of draws is enough
_GOOD_SHARE = 0.8
#: share of effective draws below which there is a warning
_POOR_SHARE = 0.1
#: fall (nats) promised by a step below which a search for a hill has ended: its Gaussian finds the middle itself
_ARRIVED = 0.1
#: height (nats) by which there must be a valley between two ends of searches, or else they are on one hill
_VALLEY = 1e-3
#: rows that are drawn for together
_DRAWN_ROWS = 256
#: entries of a (draws, rows, features) array, few enough for a processor's cache
_DRAWN_ENTRIES = 400_000


class WeightedDraws(NamedTuple):
    """Draws z (S, B, Q) of the latents of some rows, and the logs of their importance weights (S, B).

    ``log_known`` (S, B) are the logs of the weights that the draws would have if the posterior were the mixture of
    Gaussians at its hills, with evidence 1. Their mean is known to be 1. ``n_draws`` (B,) says how many draws there are
    of each row: the others have no weight.
    """

    z: Tensor
    log_weights: Tensor
    log_known: Tensor
    n_draws: Tensor

    @property
    def log_evidence(self) -> Tensor:
        """log p(x): the mean weight, in units of the mean of the known weights. (B,).

        So the evidence of a linear gaussian decoder is exact from a few draws.
        """
        return self.log_weights.logsumexp(0) - self.log_known.logsumexp(0)

    @property
    def shares(self) -> Tensor:
        """Weights that add up to one for each row: (S, B)."""
        return torch.softmax(self.log_weights, 0)

    @property
    def variance(self) -> Tensor:
        """Variance of the weights about their known ones, in units of their mean: (B,)."""
        surprises = self.n_draws * (self.shares - torch.softmax(self.log_known, 0))
        return surprises.square().sum(0) / self.n_draws

    @property
    def effective_share(self) -> Tensor:
        """The effective number of draws of each row, as a share of their number: (B,).

        It is the number of independent draws, with weights that vary by their mean, that would err as much.
        """
        return 1 / (1 + self.variance)

    def take(self, rows: Tensor) -> WeightedDraws:
        """Those of some rows."""
        return WeightedDraws(*(field[..., rows, :] if field.ndim == 3 else field[..., rows] for field in self))

    def with_more(self, rows: Tensor, others: WeightedDraws) -> WeightedDraws:
        """These draws, and others of some rows."""
        longer = self._padded(len(self.z) + len(others.z))
        for field, value in zip(longer[:3], others[:3], strict=True):
            field[len(self.z) :, rows] = value
        longer.n_draws[rows] += others.n_draws
        return longer

    def with_others(self, rows: Tensor, others: WeightedDraws) -> WeightedDraws:
        """These draws, but others instead of those of some rows."""
        n = max(len(self.z), len(others.z))
        changed, others = self._padded(n), others._padded(n)
        for field, value in zip(changed[:3], others[:3], strict=True):
            field[:, rows] = value
        changed.n_draws[rows] = others.n_draws
        return changed

    def _padded(self, n: int) -> WeightedDraws:
        """A copy with room for n draws. The further ones have no weight, and lie where others are."""
        n_more = n - len(self.z)
        nothing = torch.full_like(self.log_weights[:1], -torch.inf).expand(n_more, -1)
        z = torch.cat([self.z, self.z[:1].expand(n_more, -1, -1)])
        log_weights, log_known = (torch.cat([field, nothing]) for field in (self.log_weights, self.log_known))
        return WeightedDraws(z, log_weights, log_known, self.n_draws.clone())


class _Case(NamedTuple):
    """Rows, the Gaussians of their hills with shares that add up to one, and what an encoder takes for posteriors."""

    rows: DenseRows
    gaussians: Gaussians
    encoded: GaussianApproximation | None

    def take(self, rows: Tensor) -> _Case:
        """Some of the rows."""
        encoded = None if self.encoded is None else GaussianApproximation(*(field[rows] for field in self.encoded))
        return _Case(self.rows.take(rows), self.gaussians.take(rows), encoded)


class ImportanceSampler:
    """Draws from the posteriors of rows under a trained model.

    Parameters
    ----------
    model : GenerativeModel
        In evaluation mode.
    n_draws : int
        Draws for each row. It is rounded up to a power of two.
    only_evidence : bool, default=False
        Whether nothing but the evidence is asked for. Then rows take fewer draws where these are enough.
    """

    def __init__(self, model: GenerativeModel, n_draws: int, *, only_evidence: bool = False):
        self.model = model
        self.prior = model.latent_prior()
        self._find = ModeFinder(model, _ARRIVED)
        self._n_draws = n = power_of_two(max(n_draws, _FEWEST_DRAWS))
        self._n_trial = min(n, max(_FIRST_DRAWS, int(_FIRST_SHARE * n)))
        self._saves = only_evidence and model.n_components >= _LEAST_COMPONENTS
        points = uniform_draws(2 * n * (1 + _REFITS), 1 + model.n_components)
        self._rounds = points.to(self.prior.means).split(2 * n)

    def __call__(
        self, rows: DenseRows, predicted: Tensor | None = None, encoded: GaussianApproximation | None = None
    ) -> WeightedDraws:
        """Weighted draws for each row.

        ``predicted`` (B, Q) is one place more that modes are looked for from, and ``encoded`` is what an encoder takes
        for the posterior.
        """
        case = _Case(rows, self._at_hills(rows, self._find.hills(rows, predicted)), encoded)
        first = self._rounds[0][: self._n_trial if self._saves else self._n_draws]
        drawn = self._enough(case, self._draw(case, first), self._rounds[0])
        # With two Gaussians for every hill, one can become the posterior's tails.
        halves = case.gaussians.shared(math.log(0.5))
        case = case._replace(gaussians=Gaussians.joined([halves, halves.widened(_WIDENED)]))
        number = torch.arange(len(rows), device=drawn.z.device)
        for points in self._rounds[1:]:
            poor = drawn.variance[number] > self._tolerated_variance(len(points))
            if not poor.any():
                break
            number, case = number[poor], case.take(poor)
            before = drawn.take(number)
            case = case._replace(gaussians=case.gaussians.refitted(before.z, before.shares))
            after = self._draw(case, points[: self._n_trial])
            better = after.variance < _GAIN * before.variance
            if not better.any():
                break
            number, case, before = number[better], case.take(better), before.take(better)
            after = self._enough(case, after.take(better), points)
            better = after.variance < before.variance
            number, case = number[better], case.take(better)
            drawn = drawn.with_others(number, after.take(better))
        return drawn

    def _enough(self, case: _Case, drawn: WeightedDraws, points: Tensor) -> WeightedDraws:
        """First draws of some rows, and others where these are too few. They are doubled, for only so many balance."""
        while (n := len(drawn.z)) < len(points):
            again = drawn.variance > self._tolerated_variance(n)
            if not again.any():
                break
            drawn = drawn.with_more(again, self._draw(case.take(again), points[n : 2 * n]))
        return drawn

    def _tolerated_variance(self, n: int) -> float:
        """Variance of weights with which n draws err as much as the wanted number does at :data:`_GOOD_SHARE`.

        Errors of quasi-random points fall with 1 / n at the fewest components for which draws are saved, and nearly
        with its root, as those of independent draws do, at many. Further draws count as independent ones. No variance
        is tolerated with fewer draws where none are saved.
        """
        share = n / self._n_draws
        if share >= 1:
            return (1 / _GOOD_SHARE - 1) * share
        power = 1 + _LEAST_COMPONENTS / self.model.n_components
        return (1 / _GOOD_SHARE - 1) * share**power if self._saves else 0.0

    def over(
        self, source: RowSource, predicted: Tensor | None = None, sd: Tensor | None = None, *, warns: bool = True
    ) -> Iterator[tuple[slice, DenseRows, WeightedDraws]]:
        """Weighted draws for all rows of a source, chunk by chunk.

        ``sd`` (N, Q), where given, is that of an encoder's posterior around ``predicted``. The prior is that of all
        rows, whatever component they are known to belong to. At the end there is a warning (``warns``) if a row has too
        few effective draws.
        """
        model, shares = self.model, []
        source = replace(source, context=source.context.replaced(component=None))
        width = max(model.entries_per_point, 2 * self._n_draws * model.n_components)
        for index, chunk in source.chunks(width=width, most_rows=_DRAWN_ROWS):
            rows, start = chunk.dense(), None if predicted is None else predicted[index]
            encoded = None
            if start is not None and sd is not None:
                encoded = GaussianApproximation(start, torch.diag_embed(sd[index]))
            drawn = self(rows, start, encoded)
            shares.append(drawn.effective_share)
            yield index, rows, drawn
        if warns and shares:
            _warn_of_few(torch.cat(shares), self._n_draws)

    def _at_hills(self, rows: DenseRows, hills: Hills) -> Gaussians:
        """A Gaussian for every hill of each row, with the hills' masses for shares."""
        position, is_hill = self._distinct(rows, hills)
        row, rank = is_hill.nonzero(as_tuple=True)
        gaussians = Gaussians.none(len(rows), is_hill.shape[1], self.model.n_components, like=position)
        there, top = rows.take(row), position[row, rank]
        of_laplace = GaussianApproximation(top, covariance_factor_at(self.model, there, top, self.prior))
        found = averaged(self.model, there, of_laplace, self.prior)
        gaussians.mode[row, rank], gaussians.factor[row, rank] = found
        heights = log_joint_at(self.model, there, found.mode[None], self.prior)[0]
        gaussians.log_shares[row, rank] = heights + gaussians.log_volumes[row, rank]
        return gaussians.normalized()

    def _distinct(self, rows: DenseRows, hills: Hills) -> tuple[Tensor, Tensor]:
        """Positions of the hills of each row, (B, M, Q), and which of them there are, (B, M).

        Two searches have ended on one hill where there is no valley half-way between them.
        """
        position, height = hills.padded(len(rows))
        is_hill = height.isfinite()
        is_hill[:, 0] = True
        for lower in range(1, height.shape[1]):  # hills come highest first
            half_way = 0.5 * (position[:, :lower] + position[:, lower, None])  # (B, lower, Q)
            between = log_joint_at(self.model, rows, half_way.transpose(0, 1), self.prior).T
            is_joined = between > height[:, lower, None] - _VALLEY
            is_hill[:, lower] &= ~(is_joined & is_hill[:, :lower]).any(1)
        order = (~is_hill).long().argsort(dim=1, stable=True)[:, : int(is_hill.sum(1).max())]
        return position.gather(1, order[..., None].expand(-1, -1, position.shape[2])), is_hill.gather(1, order)

    def _draw(self, case: _Case, points: Tensor) -> WeightedDraws:
        """Weighted draws for uniform points (S, 1 + Q): the first number chooses the proposal."""
        model, prior = self.model, self.prior
        rows, gaussians, encoded = case
        proposals = _proposals(gaussians, encoded)
        noise, choice = normal_quantiles(points[:, 1:]), points[:, :1]
        ends = proposals.log_shares.exp().cumsum(1)  # (B, G)
        number = (choice[:, None] >= ends).sum(2)  # (S, B)
        # What is left of the choice, beyond all Gaussians, chooses a component of the prior.
        left = ((choice - (1 - _PRIOR_SHARE)) / _PRIOR_SHARE).clamp(0, 1)
        of_the_prior = mixture_points(prior, torch.cat([left, points[:, 1:]], 1))
        z = torch.where((number < ends.shape[1])[..., None], proposals.at(noise, number), of_the_prior[:, None])
        log_weights, log_known = [], []
        constant = model.row_constant(rows)
        for part in z.split(max(1, _DRAWN_ENTRIES // (len(rows) * model.entries_per_point))):
            log_prior = prior.log_density(part)
            log_density = torch.logaddexp(
                proposals.log_densities(part).logsumexp(2), log_prior + math.log(_PRIOR_SHARE)
            )
            log_likelihood = model.predictive_log_prob(rows, part, with_constant=False) + constant
            log_weights.append(log_likelihood + log_prior - log_density)
            log_known.append(gaussians.log_densities(part).logsumexp(2) - log_density)
        n_draws = torch.full((len(rows),), len(z)).to(z)
        return WeightedDraws(z, torch.cat(log_weights), torch.cat(log_known), n_draws)


def _proposals(gaussians: Gaussians, encoded: GaussianApproximation | None) -> Gaussians:
    """All proposals of each row but the prior, with shares that leave room for it."""
    rest = 1 - _WIDER_SHARE - _PRIOR_SHARE
    wider = gaussians.widened(_WIDENED).shared(math.log(_WIDER_SHARE), _MASS_POWER)
    if encoded is None:
        return Gaussians.joined([gaussians.shared(math.log(rest), _MASS_POWER), wider])
    mode, factor = (field[:, None] for field in encoded)
    of_the_encoder = Gaussians(torch.full_like(mode[..., 0], math.log(_ENCODER_SHARE)), mode, factor)
    narrow = gaussians.shared(math.log(rest - _ENCODER_SHARE), _MASS_POWER)
    return Gaussians.joined([narrow, wider, of_the_encoder])


@torch.no_grad()
def sampled_log_evidence(
    model: GenerativeModel, source: RowSource, mean: Tensor | None, n_draws: int, sd: Tensor | None = None
) -> Tensor:
    """log p(x) of every row by importance sampling: (N,).

    Modes are looked for from ``mean`` (N, Q) too, where given. Where q(z | x) is Gaussian, with ``sd`` (N, Q), it is a
    proposal as well. ``n_draws`` is rounded up to a power of two.
    """
    values = torch.empty(len(source)).to(source.like)
    for index, rows, drawn in ImportanceSampler(model, n_draws, only_evidence=True).over(source, mean, sd):
        values[index] = torch.where(without_entries(rows, source.like), 0.0, drawn.log_evidence)
    return values


@torch.no_grad()
def sampled_responsibilities(
    model: GenerativeModel,
    source: RowSource,
    mean: Tensor | None,
    n_draws: int,
    sd: Tensor | None = None,
    *,
    warns: bool = True,
) -> Tensor:
    """p(k | x) of every row and every component of the prior: (N, K).

    Arguments are those of :func:`sampled_log_evidence`, and whether rows that are hard to draw for are warned of.
    """
    prior = model.latent_prior()
    values = torch.ones(len(source), len(prior.log_weights)).to(source.like)
    if values.shape[1] == 1:
        return values
    sampler = ImportanceSampler(model, n_draws)
    for index, rows, drawn in sampler.over(source, mean, sd, warns=warns):
        of_the_draws = torch.einsum("sb,sbk->bk", drawn.shares, prior.responsibilities(drawn.z))
        values[index] = torch.where(without_entries(rows, source.like)[:, None], prior.log_weights.exp(), of_the_draws)
    return values


def _warn_of_few(effective_shares: Tensor, n_draws: int) -> None:
    """Warn where importance weights leave too few effective draws."""
    poor = (~(effective_shares >= _POOR_SHARE)).nonzero()[:, 0]
    if len(poor):
        warn_user(
            f"The posteriors of {len(poor)} of {len(effective_shares)} samples (the first is row {int(poor[0])}) are "
            f"hard to draw from: of {n_draws} draws, fewer than a tenth are effective. Their likelihoods and "
            "probabilities are rough, and likelihoods are probably too low: a larger n_importance_samples makes them "
            "more accurate."
        )
