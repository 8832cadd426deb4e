"""Training range: which rows lie beyond all that a model was fitted to.

A row is beyond it if its latent is, or if the model describes it worse than any training row, by a margin. The margin
has two parts, and the training sample sets both.

- *The tail.* One more row from the same source may be somewhat below the lowest of N. Beyond the ``ceil(sqrt(N))``
  lowest, the tail is taken to be exponential, with their mean excess as its scale. Among as many rows as the training
  sample has, there is then one below the limit once in a hundred times.
- *Optimism.* Curves were fitted to the training rows. So these have higher log-likelihoods than others have: on
  average, by Akaike's argument, by as many nats as there are parameters for each sample. Those of a large network do
  not all count, but no more than there are entries.

Rows compare with each other if they have the same entries and sizes. So a missing entry counts as much as an observed
one of its column has on average, and where rows have size factors, log-likelihoods are measured from those of rows of
the same size that the model itself simulates, and in their sds.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._warnings import warn_user
from ..nn.models import GenerativeModel
from ..nn.rows import DenseRows
from ..table.size_factors import LOG_SIZE_OF_NOTHING
from ..table.source import RowSource
from .base import Placement, narrow_chunks, rows_without_entries

#: how often a row as common as the training rows is taken to be beyond them, in as many rows as there were
_FALSE_ALARMS = 0.01
#: most training rows from which the level of the entries of each column is taken
_ROWS_OF_LEVELS = 1000
#: share of the samples above which it is not their errors
_MOST = 0.5
#: most training rows that are simulated in each size
_SIMULATED_ROWS = 64
#: steps of log size factors between sizes that are simulated, and how far beyond the training rows they go
_STEP_OF_SIZES, _BEYOND_SIZES = 0.5, math.log(100)


@dataclass(frozen=True)
class SimulatedSizes:
    """What log-likelihoods rows of some sizes have, if the model is right.

    Attributes
    ----------
    log_size : ndarray of shape (S,)
        Ascending.
    mean, sd : ndarray of shape (S,)
        Of the log-likelihood of simulated rows.
    """

    log_size: np.ndarray
    mean: np.ndarray
    sd: np.ndarray

    def standardized(self, log_likelihood: np.ndarray, log_size: np.ndarray) -> np.ndarray:
        """Log-likelihoods (N,) of rows with log sizes (N,), by those of simulated rows of the same size."""
        mean, sd = (np.interp(log_size, self.log_size, known) for known in (self.mean, self.sd))
        return (log_likelihood - mean) / sd


@dataclass(frozen=True)
class TrainingRange:
    """How far out training rows lay, and how badly the model described them, with a margin.

    Attributes
    ----------
    farthest : float
        Largest distance of a latent from the prior's mean, in the prior's sds, along any component.
    lowest : float
        Lowest log-likelihood, in nats, or standardised by ``sizes``.
    levels : ndarray of shape (D,), or None
        Mean log-likelihood of the observed entries of every column.
    sizes : SimulatedSizes or None
        Where rows have size factors.
    """

    farthest: float
    lowest: float = -math.inf
    levels: np.ndarray | None = None
    sizes: SimulatedSizes | None = None

    @classmethod
    def of_older_files(cls, model: GenerativeModel) -> TrainingRange:
        """What is known of a model that was saved without its range: how far out latents were looked for."""
        return cls(model.z_max)

    @classmethod
    def restored(cls, plain: dict[str, Any]) -> TrainingRange:
        """The range whose fields, and those of its fields, a file holds."""
        sizes = plain["sizes"]
        return cls(**{**plain, "sizes": None if sizes is None else SimulatedSizes(**sizes)})

    @classmethod
    def learn(cls, model: GenerativeModel, source: RowSource, placement: Placement) -> TrainingRange:
        """The range of the rows that a model was fitted to, in its precision and placed as it places them."""
        levels = _levels(model, source, placement.position)
        log_size = source.context.log_size
        sizes = None if log_size is None else _simulated_sizes(model, source, placement.position, log_size)
        described = cls(math.inf, -math.inf, levels, sizes).described(
            source, placement.log_likelihood - _optimism(model, source)
        )
        farthest = max(model.z_max, -lower_limit(-_distances(model, placement.position)))
        return cls(farthest, lower_limit(described), levels, sizes)

    def including(self, model: GenerativeModel, source: RowSource, placement: Placement, share: float) -> TrainingRange:
        """The range after another table has come, under a model that has changed. No row of it lies beyond.

        ``share`` is what the table's rows count for, of all that the model was fitted to.
        """
        levels, sizes = self.levels, self.sizes
        if levels is not None:
            levels = (1 - share) * levels + share * _levels(model, source, placement.position)
        if sizes is not None and source.context.log_size is not None:
            ends = sizes.log_size[0], sizes.log_size[-1] - _BEYOND_SIZES
            log_size = np.append(source.context.log_size, ends)
            often = np.resize(np.arange(len(source)), max(len(source), _SIMULATED_ROWS))  # one row has no spread
            sizes = _simulated_sizes(model, source.take(often), placement.position[often], log_size)
        widened = TrainingRange(math.inf, -math.inf, levels, sizes)
        described = widened.described(source, placement.log_likelihood - _optimism(model, source))
        nearness = -_distances(model, placement.position)
        lowest = _moved(self.lowest, described, share)
        farthest = max(model.z_max, -_moved(-self.farthest, nearness, share))
        return replace(widened, farthest=farthest, lowest=lowest)

    def beyond(self, model: GenerativeModel, source: RowSource, placement: Placement) -> np.ndarray:
        """Which rows lie beyond the range: (N,) of booleans. Rows without any observed entry do not."""
        described = self.described(source, placement.log_likelihood)
        # Written so that rows are beyond it whose numbers overflow.
        within = (described >= self.lowest) & (_distances(model, placement.position) <= self.farthest)
        return ~within & ~rows_without_entries(source).cpu().numpy()

    def described(self, source: RowSource, log_likelihood: Tensor) -> np.ndarray:
        """Log-likelihoods (N,) that compare with each other, whatever is missing and however large rows are."""
        values = log_likelihood.clone()
        if self.levels is not None and not source.is_sparse:
            values += source.gathered(partial(_sums_over_missing, torch.from_numpy(self.levels).to(source.like)))
        described, log_size = values.cpu().numpy(), source.context.log_size
        return described if self.sizes is None or log_size is None else self.sizes.standardized(described, log_size)


def _sums_over_missing(levels: Tensor, source: RowSource) -> Tensor:
    """Sums of values (D,) over what is missing of each row: (N,)."""
    sums = torch.zeros(len(source)).to(source.like)
    for index, rows in source.chunks():
        if rows.observed is not None:
            sums[index] = (1 - rows.observed) @ levels
    return sums


def warn_of_rows_beyond(beyond: np.ndarray) -> None:
    """Warn of rows, marked in (N,) booleans, that lie beyond the training range."""
    numbers = np.nonzero(beyond)[0]
    if len(numbers):
        warn_user(
            f"{len(numbers)} samples (the first is row {numbers[0]}) lie beyond the range of the training samples: "
            "their latents are farther out, or the model describes them worse, than any sample that it was fitted to. "
            f"Latents and likelihoods of such samples rest on how curves go on. {_advice(float(beyond.mean()))}"
        )


def _advice(share: float) -> str:
    """What to do where a share of all samples lies beyond the range."""
    if share > _MOST:
        return (
            "That is most of the samples: they are of another kind or in other units, or else the model knows its "
            "training samples by heart, and a simpler one would know more of others."
        )
    return "Look for wrong units or errors in these rows, and whether they are samples of another kind."


def lower_limit(values: np.ndarray) -> float:
    """What one more number from where N values (N,) came from is hardly ever below.

    Of N more, one is below it once in a hundred times, if the tail below the ``ceil(sqrt(N))`` lowest is exponential.
    None of the N values themselves is.
    """
    n_lowest = min(math.ceil(math.sqrt(len(values))), len(values) - 1)
    if n_lowest < 1:
        return -math.inf
    lowest = np.partition(values, n_lowest)[: n_lowest + 1]
    start = float(lowest.max())
    excess = start - float(lowest.sum() - start) / n_lowest
    # What has no spread has rounding.
    rounding = math.sqrt(np.finfo(np.float64).eps) * abs(start)
    # The mean of k exponential excesses is uncertain, so that another one is larger than m of them with probability
    # (1 + m / k)^-k.
    multiple = n_lowest * math.expm1(math.log(n_lowest / _FALSE_ALARMS) / n_lowest)
    return min(start - multiple * excess, float(lowest.min())) - rounding


def _moved(limit: float, values: np.ndarray, share: float) -> float:
    """A lower limit, moved by a share towards that of other values (N,), and as far as the lowest of them."""
    own = lower_limit(values)
    moved = (1 - share) * limit + share * own if math.isfinite(own) else limit
    return min(moved, float(values.min()))


def _optimism(model: GenerativeModel, source: RowSource) -> float:
    """Nats by which rows that curves were fitted to are described better than others."""
    return min(model.n_parameters / model.n_samples, source.n_features)


def _distances(model: GenerativeModel, position: Tensor) -> np.ndarray:
    """How far latents (N, Q) lie from the prior's mean, in its sds, along the farthest component: (N,).

    Without a distribution of latents, none is far.
    """
    if not model.variational:
        return np.zeros(len(position))
    center, sd = model.latent_prior().moments()
    return ((position - center).abs() / sd).amax(1).cpu().numpy()


@torch.no_grad()
def _levels(model: GenerativeModel, source: RowSource, position: Tensor) -> np.ndarray:
    """Mean log-likelihood of the observed entries of every column, at the rows' latents (N, Q): (D,)."""
    some = _spread_out(len(source), _ROWS_OF_LEVELS)
    source, position = source.take(some), position[some]
    total, n_observed = (torch.zeros(source.n_features).to(source.like) for _ in range(2))
    for index, chunk in narrow_chunks(model, source):
        rows = chunk.dense()
        entries = model.predictive_entries(rows.values, rows.context, position[index])
        observed = torch.ones_like(entries) if rows.observed is None else rows.observed
        total += torch.where(observed > 0, entries, 0.0).sum(0)
        n_observed += observed.sum(0)
    return (total / n_observed.clamp(min=1)).cpu().numpy()


@torch.no_grad()
def _simulated_sizes(
    model: GenerativeModel, source: RowSource, position: Tensor, log_size: np.ndarray
) -> SimulatedSizes:
    """What rows have that a model simulates at latents of the training rows (N, Q), of log sizes (N,).

    Their sizes are from the smallest of the training rows to beyond the largest.
    """
    model = copy.deepcopy(model).cpu()  # where the generator is
    some, log_size = _spread_out(len(source), _SIMULATED_ROWS), log_size[log_size > LOG_SIZE_OF_NOTHING]
    z, generator = position[some].cpu(), torch.Generator().manual_seed(0)
    carried = source.context.take(some).tensors(z)
    smallest, largest = float(log_size.min()), float(log_size.max()) + _BEYOND_SIZES
    simulated = np.linspace(smallest, largest, 2 + int((largest - smallest) / _STEP_OF_SIZES))
    moments = np.empty((len(simulated), 2))
    curves = model.predictive_curves(z, carried)
    for i, size in enumerate(simulated):
        context = carried.replaced(log_size=torch.full_like(z[:, 0], float(size)))
        likelihood, shifted = model.in_context(curves, context)
        drawn = likelihood.sample(shifted, z, generator)
        values = likelihood.row_log_prob(DenseRows(drawn, None, context), shifted, z)
        moments[i] = float(values.mean()), float(values.std(correction=0))
    return SimulatedSizes(simulated, moments[:, 0], moments[:, 1].clip(min=np.finfo(np.float64).tiny))


def _spread_out(n: int, most: int) -> np.ndarray:
    """Numbers of at most so many of n rows, at equal distances."""
    return np.arange(0, n, -(-n // most))
