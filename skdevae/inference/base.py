"""Inference: the questions that every trained model answers about rows, however it finds the answers.

A strategy is an object of a subclass of :class:`Inference`. Which one suits a model is decided once, by
:func:`~skdevae.inference.strategies.inference_for`. All of them work chunk by chunk, in the precision of the model
(float64 for whatever a user sees), and draw nothing at random: a row has the same answers whatever rows come with it.
Log-likelihoods are in the model's units.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

import torch
from scipy.stats import norm
from torch import Tensor

from ..nn.models import GenerativeModel
from ..nn.rows import DenseRows, Rows
from ..nn.strata import MOST_STRATA
from ..table.grid_source import designs_of
from ..table.size_factors import LOG_SIZE_OF_NOTHING
from ..table.source import RowSource, SparseRows
from .latent_posterior import LatentPosterior

#: bisections of a search for a quantile: the last interval is as small as rounding
_BISECTIONS = 60


class PosteriorFields(NamedTuple):
    """Mean, standard deviation and ends of the central credible interval of q(z | x): (N, Q) each."""

    mean: Tensor
    sd: Tensor
    lower: Tensor
    upper: Tensor

    @classmethod
    def gaussian(cls, mean: Tensor, sd: Tensor, credible_level: float) -> PosteriorFields:
        """The fields of Gaussians with independent components."""
        half_width = norm.ppf(0.5 + 0.5 * credible_level) * sd
        return cls(mean, sd, mean - half_width, mean + half_width)

    @classmethod
    def average(cls, means: Tensor, sds: Tensor, credible_level: float) -> PosteriorFields:
        """The fields of the average of R Gaussians with independent components, (R, N, Q) each."""
        sd = (sds.square().mean(0) + means.var(0, correction=0)).sqrt()
        ends = (_average_quantile(means, sds, 0.5 + 0.5 * sign * credible_level) for sign in (-1, 1))
        return cls(means.mean(0), sd, *ends)


def _average_quantile(means: Tensor, sds: Tensor, level: float) -> Tensor:
    """A quantile of the average of R Gaussians (R, N, Q): (N, Q). It is between their own quantiles of that level."""
    own = means + norm.ppf(level) * sds
    low, high = own.amin(0), own.amax(0)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        is_below = torch.special.ndtr((middle - means) / sds).mean(0) < level
        low, high = torch.where(is_below, middle, low), torch.where(is_below, high, middle)
    return 0.5 * (low + high)


class Placement(NamedTuple):
    """Where rows lie on the latent (N, Q), and how well a model describes them (N,).

    The latter is a log-likelihood, of whichever kind a strategy has at hand where it looks for latents. So it compares
    with that of other rows that the same strategy has placed, and with nothing else.
    """

    position: Tensor
    log_likelihood: Tensor


class Inference(ABC):
    """How the posterior q(z | x) and the evidence log p(x) of a trained model are found.

    Parameters
    ----------
    model : GenerativeModel
        In evaluation mode.
    n_draws : int
        Draws for each row where an integral is sampled. It is rounded up to a power of two.
    """

    def __init__(self, model: GenerativeModel, n_draws: int):
        self.model = model
        self.n_draws = n_draws

    @abstractmethod
    def posterior(self, source: RowSource, credible_level: float = 0.95) -> PosteriorFields:
        """What is known of the latent of every row; the prior for rows without any observed entry."""

    def mean(self, source: RowSource) -> Tensor:
        """Where every row is placed on the latent: (N, Q)."""
        return self.posterior(source).mean

    def placed(self, source: RowSource) -> Placement:
        """What :meth:`mean` says of every row, and log p(x | z) there or what else is at hand."""
        mean = self.mean(source)
        return Placement(mean, self.conditional_log_likelihood(source, mean))

    def placed_posterior(self, source: RowSource, credible_level: float = 0.95) -> tuple[PosteriorFields, Placement]:
        """What :meth:`posterior` and :meth:`placed` say."""
        fields = self.posterior(source, credible_level)
        return fields, Placement(fields.mean, self.conditional_log_likelihood(source, fields.mean))

    def placed_log_evidence(self, source: RowSource) -> tuple[Tensor, Placement]:
        """What :meth:`log_evidence` and :meth:`placed` say."""
        return self.log_evidence(source), self.placed(source)

    @abstractmethod
    def log_evidence(self, source: RowSource) -> Tensor:
        """log p(x) of every row, with each feature on its most probable curve: (N,)."""

    @abstractmethod
    def bound(self, source: RowSource) -> Tensor:
        """The evidence lower bound of every row, averaged over q(w) where features choose between curves: (N,)."""

    def grid_posterior(self, source: RowSource) -> LatentPosterior | None:
        """The posterior on a grid, where one grid can serve all rows; else None."""
        return None

    @torch.no_grad()
    def conditional_log_likelihood(self, source: RowSource, positions: Tensor) -> Tensor:
        """log p(x | z) of every row at a given z (N, Q), with each feature on its most probable curve: (N,)."""
        values = torch.empty(len(source)).to(source.like)
        for index, rows in narrow_chunks(self.model, source):
            values[index] = self.model.predictive_log_prob(rows.dense(), positions[index])
        return values

    @torch.no_grad()
    def expected_table(self, source: RowSource, positions: Tensor) -> Tensor:
        """Expected value of every entry of rows with given latents (N, Q): (N, D)."""
        return self.model.predictive_mean(source.context.tensors(source.like), positions)


def equals_share_a_grid(model: GenerativeModel, source: RowSource) -> bool:
    """Whether one grid can serve rows of equal covariates.

    The likelihood at its points is linear in the data and in size factors.
    """
    likelihood = model.likelihood
    takes_sizes = source.context.log_size is None or likelihood.is_linear_in_size
    return likelihood.is_linear and takes_sizes and not model.is_conditional


def share_a_grid(model: GenerativeModel, source: RowSource) -> bool:
    """Whether one grid can serve all rows.

    It serves rows of equal covariates, and the likelihood is the same for all covariates, or for many rows each.
    """
    return equals_share_a_grid(model, source) and not (model.has_strata and has_many_strata(source))


def has_many_strata(source: RowSource) -> bool:
    """Whether rows have more different covariates than coefficients on one grid can be held of."""
    designs = designs_of(source)
    return designs is not None and len(designs) > MOST_STRATA


def narrow_chunks(model: GenerativeModel, source: RowSource) -> Iterator[tuple[slice, DenseRows | SparseRows]]:
    """Chunks few enough in rows for an array of (rows, candidates, features)."""
    return source.chunks(width=model.entries_per_point)


def rows_without_entries(source: RowSource) -> Tensor:
    """Which rows of a source say nothing, as in :func:`without_entries`: (N,)."""
    empty = torch.zeros(len(source), dtype=torch.bool, device=source.like.device)
    log_size = source.context.log_size
    if log_size is not None:
        empty |= torch.from_numpy(log_size <= LOG_SIZE_OF_NOTHING).to(empty.device)
    if not source.is_sparse:  # in which nothing is missing, so that no row need be read
        empty |= source.gathered(_without_entries)
    return empty


def _without_entries(source: RowSource) -> Tensor:
    return torch.cat([without_entries(rows, source.like) for _, rows in source.chunks()])


def without_entries(rows: Rows, like: Tensor) -> Tensor:
    """Which rows say nothing: they have no observed entry, or no counts where a row's size is its total: (B,)."""
    log_size = rows.context.log_size
    nothing = torch.zeros(len(rows), dtype=torch.bool, device=like.device)
    if log_size is not None:
        nothing |= log_size <= LOG_SIZE_OF_NOTHING
    return nothing if rows.observed is None else nothing | (rows.observed.sum(1) == 0)
