"""Inference by an encoder: its posterior, and the evidence from draws around it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..nn.models import AmortizedModel
from ..nn.posteriors import Encoding
from ..nn.priors import GaussianMixture, StandardNormal
from ..nn.rows import DenseRows
from ..table.source import RowSource
from .base import (
    Inference,
    Placement,
    PosteriorFields,
    equals_share_a_grid,
    has_many_strata,
    narrow_chunks,
    without_entries,
)
from .draws import standard_normal_points, standard_normal_rule
from .grid import GridInference
from .importance import ImportanceSampler, sampled_log_evidence
from .latent_posterior import LatentPosterior

#: quasi-random draws for expectations under each row's posterior
_POSTERIOR_DRAWS = 256
#: the same for probabilities of a prior's components
_RESPONSIBILITY_DRAWS = 64
#: draws of all rows together for the mean of their bounds: its error is 0.01 where that of one draw is 1 nat
_MEAN_DRAWS = 10_000
#: entries of an array of draws, rows and components, few enough for a processor's cache
_CACHED_ENTRIES = 250_000


class EncoderInference(Inference):
    """An encoder, and the flow behind it if there is one, say where a row lies, where no grid can.

    Posterior and evidence are integrated on a grid where one grid can serve many rows. That takes a latent of one
    dimension with a standard normal prior, a likelihood that is linear in the data, few different covariates in
    training, and no size factors (unless it is linear in these too: see
    :func:`~skdevae.inference.base.equals_share_a_grid`), which make the likelihood at a grid point another one for
    every row. Otherwise the evidence is sampled, with the encoder's Gaussian as one of the proposals,
    and the posterior is the encoder's. Of rows that an encoder knows little of, since entries are missing or they lie
    far out, the posterior is sampled too. The bound is always the encoder's.

    Of a plain autoencoder only the mean and the likelihoods given it mean anything.
    """

    model: AmortizedModel

    def __init__(self, model: AmortizedModel, n_draws: int):
        super().__init__(model, n_draws)
        self._on_grid = GridInference(model, n_draws)

    def integrates_on_grid(self, source: RowSource) -> bool:
        """Whether the latent can be integrated on a grid."""
        model = self.model
        has_normal_prior = model.variational and isinstance(model.prior, StandardNormal)
        if model.n_components > 1 or not has_normal_prior or not equals_share_a_grid(model, source):
            return False
        # The training rows decide for all tables: a row's answer must not depend on which rows come along.
        many = has_many_strata(source) if model.many_strata is None else model.many_strata
        return not (model.has_strata and many)

    def posterior(self, source: RowSource, credible_level: float = 0.95) -> PosteriorFields:
        if self.integrates_on_grid(source):
            return self._on_grid.posterior(source, credible_level)
        encoded = self.encoded_posterior(source, credible_level)
        if not self.model.variational:
            return encoded
        numbers = self._strangers(source, encoded).nonzero()[:, 0]
        if len(numbers):
            some = source.take(numbers.cpu().numpy())
            sampled = self._sampled_posterior(some, PosteriorFields(*(f[numbers] for f in encoded)), credible_level)
            for field, value in zip(encoded, sampled, strict=True):
                field[numbers] = value
        return encoded

    def placed(self, source: RowSource) -> Placement:
        return self._on_grid.placed(source) if self.integrates_on_grid(source) else super().placed(source)

    def placed_posterior(self, source: RowSource, credible_level: float = 0.95) -> tuple[PosteriorFields, Placement]:
        if self.integrates_on_grid(source):
            return self._on_grid.placed_posterior(source, credible_level)
        return super().placed_posterior(source, credible_level)

    def placed_log_evidence(self, source: RowSource) -> tuple[Tensor, Placement]:
        if self.integrates_on_grid(source):
            return self._on_grid.placed_log_evidence(source)
        return super().placed_log_evidence(source)

    @torch.no_grad()
    def encoded_posterior(self, source: RowSource, credible_level: float = 0.95) -> PosteriorFields:
        """Moments and quantiles of the encoder's posterior; the prior's for rows without any observed entry."""
        model = self.model
        fields = PosteriorFields(*(torch.empty(len(source), model.n_components).to(source.like) for _ in range(4)))
        of_the_prior = PosteriorFields.gaussian(*model.latent_prior().moments(), credible_level)
        nodes = None if model.posterior_family.is_gaussian else self._nodes(source, _POSTERIOR_DRAWS)
        for index, rows in source.chunks(width=max(source.n_features, 0 if nodes is None else nodes.numel())):
            encoding = model.encoder(rows.dense())
            if nodes is None:
                encoded = PosteriorFields.gaussian(encoding.mean, encoding.log_sd.exp(), credible_level)
            else:
                encoded = _drawn_fields(model.posterior_family.draw(encoding, nodes)[0], credible_level)
            for field, value, empty in zip(fields, encoded, of_the_prior, strict=True):
                field[index] = torch.where(without_entries(rows, source.like)[:, None], empty, value)
        return fields

    @torch.no_grad()
    def _strangers(self, source: RowSource, encoded: PosteriorFields) -> Tensor:
        """Rows unlike those that an encoder has learned from: with some missing entries, or far out. (N,)."""
        center, sd = self.model.latent_prior().moments()
        strange = ((encoded.mean - center).abs() > self.model.z_max * sd).any(1)
        for index, rows in () if source.is_sparse else source.chunks():
            if rows.observed is not None:
                n_observed = rows.observed.sum(1)
                strange[index] |= n_observed < source.n_features
                strange[index] &= n_observed > 0
        return strange

    @torch.no_grad()
    def _sampled_posterior(self, source: RowSource, encoded: PosteriorFields, credible_level: float) -> PosteriorFields:
        """Moments and quantiles from weighted draws, with the encoder's posterior as one of the proposals."""
        fields = PosteriorFields(*(torch.empty_like(field) for field in encoded))
        sd = encoded.sd if self.model.posterior_family.is_gaussian else None
        sampler = ImportanceSampler(self.model, max(self.n_draws, _POSTERIOR_DRAWS))
        for index, _, drawn in sampler.over(source, encoded.mean, sd):
            for field, value in zip(fields, _weighted_fields(drawn.z, drawn.shares, credible_level), strict=True):
                field[index] = value
        return fields

    @torch.no_grad()
    def log_evidence(self, source: RowSource) -> Tensor:
        if self.integrates_on_grid(source):
            return self._on_grid.log_evidence(source)
        encoded = self.encoded_posterior(source)
        sd = encoded.sd if self.model.posterior_family.is_gaussian else None
        return sampled_log_evidence(self.model, source, encoded.mean, self.n_draws, sd)

    def bound(self, source: RowSource) -> Tensor:
        return amortized_elbo(self.model, source)

    def grid_posterior(self, source: RowSource) -> LatentPosterior | None:
        """The exact posterior, not the encoder's, where the latent can be integrated on a grid; else None."""
        return self._on_grid.grid_posterior(source) if self.integrates_on_grid(source) else None

    @torch.no_grad()
    def prior_responsibilities(self, source: RowSource) -> Tensor:
        """Posterior probability of every component of the prior, ``E_q(z | x) p(k | z)``: (N, K)."""
        prior = self.model.latent_prior()
        nodes = self._nodes(source, _RESPONSIBILITY_DRAWS)
        values = torch.empty(len(source), len(prior.log_weights)).to(source.like)
        for index, rows in source.chunks(width=max(source.n_features, len(nodes) * values.shape[1])):
            z, _ = self.model.posterior_family.draw(self.model.encoder(rows.dense()), nodes)
            n_at_once = max(1, _CACHED_ENTRIES // values[index].numel())
            of_the_draws = sum(prior.responsibilities(part).sum(0) for part in z.split(n_at_once)) / len(z)
            is_empty = without_entries(rows, source.like)[:, None]
            values[index] = torch.where(is_empty, prior.log_weights.exp(), of_the_draws)
        return values

    def _nodes(self, source: RowSource, n_draws: int) -> Tensor:
        """Noise (S, 1, Q), of equal weight, for expectations under every row's posterior."""
        return standard_normal_points(n_draws, self.model.n_components)[:, None].to(source.like)


@torch.no_grad()
def amortized_elbo(model: AmortizedModel, source: RowSource, n_draws: int = _POSTERIOR_DRAWS) -> Tensor:
    """Evidence lower bound of every row with the encoder's q(z | x) and q(w): (N,).

    Expectations over z are quadratures in one or two dimensions. In more, they are means over ``n_draws`` quasi-random
    draws, rounded up to a power of two. For a plain autoencoder the value is log p(x | z) at the encoder's z.
    """
    nodes, weights = (t.to(source.like) for t in standard_normal_rule(n_draws, model.n_components))
    prior = model.latent_prior()
    values = torch.zeros(len(source)).to(source.like)
    for index, rows in narrow_chunks(model, source):
        dense = rows.dense()
        encoding = model.encoder(dense)
        if not model.variational:
            values[index] = model.log_likelihood(dense, encoding.mean)
            continue
        values[index] = model.row_constant(dense)
        for node, weight in zip(nodes, weights, strict=True):
            values[index] += weight * _at_noise(model, prior, dense, encoding, node.expand_as(encoding.mean))
        values[index] = torch.where(without_entries(rows, source.like), 0.0, values[index])
    return values


def _at_noise(
    model: AmortizedModel, prior: GaussianMixture, rows: DenseRows, encoding: Encoding, noise: Tensor
) -> Tensor:
    """What rows add to their bounds, but for their constants, at draws made from noise (B, Q): (B,)."""
    z, log_q = model.posterior_family.draw(encoding, noise)
    return model.log_likelihood(rows, z, with_constant=False) - model.divergence(encoding, z, log_q, prior)


@torch.no_grad()
def mean_elbo(model: AmortizedModel, source: RowSource) -> Tensor:
    """Mean of :func:`amortized_elbo` over the rows of a source, by weight: a scalar.

    Of a table with many rows it takes a few draws of each, in pairs around the mean. They are other ones for every row,
    so that their errors average out.
    """
    n_draws = 2 * math.ceil(_MEAN_DRAWS / (2 * max(1, len(source))))
    if not model.variational or n_draws >= len(standard_normal_rule(_POSTERIOR_DRAWS, model.n_components)[0]):
        return source.mean(amortized_elbo(model, source))
    generator, prior = torch.Generator().manual_seed(0), model.latent_prior()
    values = torch.empty(len(source)).to(source.like)
    for index, rows in narrow_chunks(model, source):
        dense = rows.dense()
        encoding = model.encoder(dense)
        value = torch.zeros_like(values[index])
        for _ in range(n_draws // 2):
            # In double precision, whatever that of the model is: the same draws on every device.
            noise = torch.randn(encoding.mean.shape, dtype=torch.float64, generator=generator).to(source.like)
            value += sum(_at_noise(model, prior, dense, encoding, sign * noise) for sign in (1, -1))
        value = value / n_draws + model.row_constant(dense)
        values[index] = torch.where(without_entries(rows, source.like), 0.0, value)
    return source.mean(values)


def _drawn_fields(z: Tensor, credible_level: float) -> PosteriorFields:
    """From draws (S, B, Q)."""
    tail = 0.5 - 0.5 * credible_level
    levels = torch.tensor([tail, 1 - tail], dtype=z.dtype, device=z.device)
    return PosteriorFields(z.mean(0), z.std(0, correction=0), *torch.quantile(z, levels, dim=0))


def _weighted_fields(z: Tensor, shares: Tensor, credible_level: float) -> PosteriorFields:
    """From draws z (S, B, Q) with weights (S, B) that add up to one for each row."""
    weights = shares[..., None]
    mean = (weights * z).sum(0)
    sd = (weights * (z - mean) ** 2).sum(0).sqrt()
    ordered, order = z.sort(0)
    of_each = weights.expand_as(z).gather(0, order)
    # Each draw stands for mass on both of its sides.
    cumulative = (of_each.cumsum(0) - 0.5 * of_each).movedim(0, -1).contiguous()  # (B, Q, S)
    ends = []
    for level in (0.5 - 0.5 * credible_level, 0.5 + 0.5 * credible_level):
        target = torch.full_like(cumulative[..., :1], level)
        right = torch.searchsorted(cumulative, target).clamp(1, len(z) - 1)
        below, above = (cumulative.gather(2, right + shift) for shift in (-1, 0))
        share = ((target - below) / (above - below).clamp(min=torch.finfo(z.dtype).tiny)).clamp(0, 1)
        left_end, right_end = (ordered.movedim(0, -1).gather(2, right + shift) for shift in (-1, 0))
        ends.append((left_end + share * (right_end - left_end))[..., 0])
    return PosteriorFields(mean, sd, *ends)
