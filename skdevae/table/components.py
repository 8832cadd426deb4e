"""Principal components of any kind of table, and the positions of samples that a fit starts from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from scipy.linalg import eigh
from scipy.sparse.linalg import LinearOperator, eigsh
from scipy.stats import norm
from sklearn.cluster import KMeans
from sklearn.utils import check_random_state
from torch import Tensor

from ..nn.latent_grid import counted
from .column_summary import summarize_columns
from .passes import added
from .regression import Regression, regression_on_covariates
from .size_factors import weighted_median
from .source import DenseRows, RowSource, SparseRows

#: components, beside those that a fit starts from, that restarts draw their starting axes from
_MORE_COMPONENTS = 2
#: landmarks, and samples that each should stand for
_MOST_LANDMARKS, _SAMPLES_PER_LANDMARK = 256, 4
#: Entries of the rows, at equal distances, in which the components of a stored table are looked for first. Each step of
#: that search is a pass over them. Of so many entries, logs of counts are held from one pass to the next.
_SAMPLED_ENTRIES = 8_000_000
#: directions, beside the components that are wanted, that are then carried through passes over the whole table
_MORE_DIRECTIONS = 8
#: up to so many features the covariance matrix is formed and decomposed directly
_DIRECT_FEATURES = 64


class _NormalizedTable:
    """The table as principal components should see it: standardised, or log1p of size-normalised counts.

    Missing entries stand at their columns' means. Covariances are those of what covariates of rows leave unexplained.
    """

    def __init__(
        self,
        source: RowSource,
        counts: bool,
        size: float | None = None,
        mean: np.ndarray | None = None,
    ):
        self._source = source
        self._counts = counts
        self._weights = source.weights
        self._held: list[tuple[slice, Any]] | None = None
        #: total that counts are brought to
        self.size = size if size is not None else self._median_size() if counts else 1.0
        #: of every column, over its observed entries: (D,)
        self.mean = mean if mean is not None else self._mean()

    def _median_size(self) -> float:
        sizes = self._source.gathered(_row_sums)
        return weighted_median(sizes[sizes > 0], self._weights[sizes > 0]) if (sizes > 0).any() else 1.0

    def _mean(self) -> np.ndarray:
        total, n = self._source.summed(partial(_sums, self._counts, self.size), add=added)
        # Early stopping may hold out every row in which a column is observed.
        return total / np.maximum(n, np.finfo(float).tiny)

    def sums(self) -> tuple[Any, np.ndarray]:
        """Sum of every column, and the weight of its observed entries: (D,) each."""
        total, n = 0.0, np.zeros(self._source.n_features)
        for index, block, observed in self._blocks():
            w = self._weights[index]
            total = total + block.T @ w
            n += w.sum() if observed is None else w @ observed
        return total, n

    def blocks(self) -> Iterator[np.ndarray | sp.csr_array]:
        """Chunks of rows with their normalised values."""
        return (block for _, block in self._filled_blocks())

    def _filled_blocks(self) -> Iterable[tuple[slice, Any]]:
        if self._held is not None:
            return self._held
        return ((i, block if seen is None else np.where(seen, block, self.mean)) for i, block, seen in self._blocks())

    def _blocks(self) -> Iterator[tuple[slice, Any, np.ndarray | None]]:
        """Numbers of some rows, their normalised values, and which of these are observed."""
        for index, rows in self._source.chunks():
            values = _values(rows)
            observed = None if rows.observed is None else rows.observed.cpu().numpy() > 0
            yield index, (self._normalize(values) if self._counts else values), observed

    def _normalize(self, counts: Any) -> Any:
        size = np.asarray(counts.sum(1)).ravel()
        factor = self.size / np.where(size > 0, size, 1)
        if sp.issparse(counts):
            values = np.log1p(counts.data * np.repeat(factor, np.diff(counts.indptr)))
            return sp.csr_array((values, counts.indices, counts.indptr), shape=counts.shape)
        return np.log1p(counts * factor[:, None])

    def held(self) -> _NormalizedTable:
        """The same with its rows held in memory, for tables of which these can be, and what is slow to make of them."""
        if self._source.is_distributed and self._source.n_stored > _SAMPLED_ENTRIES:
            return self  # its passes run on workers
        source = self._source.in_memory() if self._source.is_stored else self._source
        held = _NormalizedTable(source, self._counts, self.size, self.mean)
        if self._counts and source.n_stored <= _SAMPLED_ENTRIES:
            held._held = list(held._filled_blocks())
        return held

    def times(self, directions: np.ndarray) -> np.ndarray:
        """Rows times directions (D, C): (N, C)."""
        if self._source.is_distributed:
            return self._source.gathered(self._asking(partial(_NormalizedTable.times, directions=directions)))
        return np.concatenate([block @ directions for block in self.blocks()])

    def covariance_times(self, directions: np.ndarray) -> np.ndarray:
        """Centred cross-products, divided by N, times directions (D,) or (D, C)."""
        total = self._summed(partial(_NormalizedTable._products_times, directions=directions))
        explained = np.multiply.outer(self.mean, self.mean @ directions)
        if self.regression is not None:
            effects, covariance = self.regression.effects, self.regression.covariance
            explained = explained + effects.T @ (covariance @ (effects @ directions))
        return total / self._weights.sum() - explained

    def _products_times(self, directions: np.ndarray) -> np.ndarray:
        """Cross-products of the columns times directions (D,) or (D, C)."""
        weights = self._weights
        return sum(block.T @ ((block @ directions).T * weights[index]).T for index, block in self._filled_blocks())

    def _products_with(self, numbers: np.ndarray) -> np.ndarray:
        """Sums of the products of every column with numbers (N, C) of the rows: (D, C)."""
        return sum(block.T @ numbers[index] for index, block in self._filled_blocks())

    def _summed(self, function: Callable, *by_row: Any) -> Any:
        """The sum over parts of the rows of what a function gives of their normalised tables."""
        if self._source.is_distributed:
            return self._source.summed(self._asking(function), *by_row)
        return function(self, *by_row)

    def _asking(self, function: Callable) -> Callable:
        """A function of a normalised table as one of a source of some of its rows."""
        return partial(_of_normalized, self._counts, self.size, self.mean, function)

    @cached_property
    def regression(self) -> Regression | None:
        """That of every column on the rows' covariates."""
        return regression_on_covariates(self._source, partial(self._summed, _NormalizedTable._products_with))


def _of_normalized(
    counts: bool, size: float, mean: np.ndarray, function: Callable, source: RowSource, *by_row: Any
) -> Any:
    return function(_NormalizedTable(source, counts, size, mean), *by_row)


def _sums(counts: bool, size: float, source: RowSource) -> tuple[Any, np.ndarray]:
    return _NormalizedTable(source, counts, size, np.empty(0)).sums()


def _row_sums(source: RowSource) -> np.ndarray:
    return np.concatenate([np.asarray(_values(rows).sum(1)).ravel() for _, rows in source.chunks()])


def _values(rows: DenseRows | SparseRows) -> np.ndarray | sp.csr_array:
    return rows.values if isinstance(rows, SparseRows) else rows.values.cpu().numpy()


def normalized_counts(source: RowSource) -> np.ndarray:
    """log1p of size-normalised counts, as a dense float32 array: for tables of which that can be held."""
    blocks: Iterator[Any] = _NormalizedTable(source, counts=True).blocks()
    return np.concatenate([np.asarray(b.toarray() if sp.issparse(b) else b, dtype=np.float32) for b in blocks])


@dataclass(frozen=True)
class Projection:
    """A linear map from rows, as they are or as log1p of counts brought to ``size``, to C numbers each.

    Attributes
    ----------
    directions : ndarray of shape (D, C)
    offset : ndarray of shape (C,)
    mean : ndarray of shape (D,)
        What stands for missing entries.
    size : float
        Total that counts are brought to.
    counts : bool
    effects : ndarray of shape (E, C) or None
        What rows' covariates, E columns of their design, add to their numbers: it is taken off.
    """

    directions: np.ndarray
    offset: np.ndarray
    mean: np.ndarray
    size: float
    counts: bool
    effects: np.ndarray | None = None

    def __call__(self, source: RowSource) -> np.ndarray:
        """Of every row: (N, C)."""
        table = _NormalizedTable(source, self.counts, size=self.size, mean=self.mean)
        numbers = table.times(self.directions) + self.offset
        return numbers if self.effects is None else numbers - source.context.covariates @ self.effects

    def then(self, slopes: np.ndarray, offset: np.ndarray) -> Projection:
        """The map followed by another: slopes (C, E) and offset (E,)."""
        effects = None if self.effects is None else self.effects @ slopes
        directions = self.directions @ slopes
        return replace(self, directions=directions, offset=self.offset @ slopes + offset, effects=effects)


def principal_projection(source: RowSource, counts: bool, n_components: int) -> Projection:
    """The map to the leading principal components of weighted rows, largest first; at most one for each column.

    The components are those of what the rows' covariates leave unexplained, if there are any.
    """
    table = _NormalizedTable(source, counts)
    n_components = min(n_components, source.n_features)
    # A distributed table is read as a table in memory is, so that a fit ends at the same curves.
    is_sampled = source.is_stored and not source.is_distributed
    share = source.n_stored / _SAMPLED_ENTRIES if is_sampled else 1.0
    if share <= 1:
        directions = _leading_directions(table.held(), n_components)
    else:
        n_wanted = min(n_components + _MORE_DIRECTIONS, source.n_features)
        some = source.take(np.arange(0, len(source), math.ceil(share)))
        sample = _NormalizedTable(some, counts, size=table.size).held()
        directions = _polished(table, _leading_directions(sample, n_wanted))[:, :n_components]
    projection = Projection(directions, -table.mean @ directions, table.mean, table.size, counts)
    if table.regression is None:
        return projection
    effects = table.regression.effects @ directions
    return replace(projection, effects=effects, offset=projection.offset + table.regression.average @ effects)


def _leading_directions(table: _NormalizedTable, n: int) -> np.ndarray:
    """The directions of the leading principal components, largest first: (D, n). Zeros if all rows are equal."""
    n_features = len(table.mean)
    if n_features <= max(_DIRECT_FEATURES, 4 * n):
        covariance = table.covariance_times(np.eye(n_features))
        _, vectors = eigh(covariance, subset_by_index=[n_features - n, n_features - 1])
        return vectors[:, ::-1]
    operator = LinearOperator((n_features, n_features), matvec=table.covariance_times, dtype=np.float64)
    start = np.random.RandomState(0).standard_normal(n_features)
    if not table.covariance_times(start).any():  # a table of copies of one row
        return np.zeros((n_features, n))
    values, vectors = eigsh(operator, k=n, v0=start, tol=1e-4)
    return vectors[:, np.argsort(values)[::-1]]


def _polished(table: _NormalizedTable, directions: np.ndarray) -> np.ndarray:
    """Directions (D, C) that those of a sample become in two passes over a table, largest variance first.

    The first pass is a step of subspace iteration, and the second finds the variances in the subspace.
    """
    basis, _ = np.linalg.qr(table.covariance_times(directions))
    covariance = basis.T @ table.covariance_times(basis)
    _, rotation = np.linalg.eigh(0.5 * (covariance + covariance.T))
    return basis @ rotation[:, ::-1]


def principal_components(source: RowSource, counts: bool, n_components: int) -> np.ndarray:
    """Scores of the leading principal components, largest first: (N, C), C a few more than the latent has."""
    return principal_projection(source, counts, n_components + _MORE_COMPONENTS)(source)


def ranks(values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """The weight of all values (N,) that are smaller, and half of that of all equal ones, the value itself included.

    Weights (N,) say how often each value counts. With weights of one this is the rank, less a half.
    """
    weights = np.ones(len(values)) if weights is None else weights
    _, which = np.unique(values, return_inverse=True)
    of_values = np.bincount(which, weights)
    return (np.cumsum(of_values) - 0.5 * of_values)[which]


def normal_scores(values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Values (N,), each counted as often as its weight (N,) says, as the standard normal quantiles of their ranks."""
    return norm.ppf(ranks(values, weights) / (len(values) if weights is None else weights.sum()))


def starting_positions(
    scores: np.ndarray, n_components: int, restart: int, seed: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """A first guess of every sample's latent, (N, Q): leading components, or for restarts random mixtures of them.

    ``weights`` (N,) say how often each sample counts.
    """
    mixture = np.eye(scores.shape[1], n_components)
    if restart > 0:
        mixture = check_random_state(seed).standard_normal(mixture.shape)
    # A table with fewer columns than the latent has components leaves some of them to be found from noise.
    mixed = scores @ mixture
    return np.column_stack([normal_scores(column, weights) for column in mixed.T])


def landmarks(positions: np.ndarray, seed: int, weights: np.ndarray | None = None) -> np.ndarray:
    """Places where samples are dense, (P, Q), for positions (N, Q) of more dimensions than a grid can have.

    ``weights`` (N,) say how often each sample counts.
    """
    n_distinct = len(np.unique(positions, axis=0))
    n_landmarks = min(_MOST_LANDMARKS, max(1, n_distinct // _SAMPLES_PER_LANDMARK))
    search = KMeans(n_landmarks, n_init=1, max_iter=20, random_state=seed)
    return search.fit(positions, sample_weight=weights).cluster_centers_


def projection_onto(
    source: RowSource, positions: Tensor, inputs: Callable[[DenseRows], Tensor]
) -> tuple[Tensor, Tensor]:
    """A linear map from ``inputs(rows)`` to positions (N, Q): weights (D, Q) along the covariances, offsets (Q,).

    It has the positions' mean and a standard deviation of 1 over the table. Rows count as often as their weights say.
    """
    center = source.mean(positions)
    centered = positions - center

    def blocks() -> Iterator[tuple[slice, DenseRows]]:
        for index, rows in source.chunks(width=source.n_features):
            yield index, rows.dense()

    weights = torch.stack([counted(rows, inputs(rows)).T @ centered[index] for index, rows in blocks()]).sum(0)
    projected = torch.cat([inputs(rows) @ weights for _, rows in blocks()])
    middle, sd = source.moments(projected)
    scale = sd.clamp(min=1e-12)
    return weights / scale, center - middle / scale


def correlations(source: RowSource, positions: np.ndarray) -> np.ndarray:
    """Pearson correlations of every feature with axes of positions (N, Q) of the rows, over observed entries: (Q, D).

    Rows count as often as their weights say.
    """
    z, weight = torch.from_numpy(positions).double(), torch.from_numpy(source.weights)[:, None]
    powers = torch.cat([weight, weight * z, weight * z**2], 1).to(source.like.device)
    weighted, mass = source.to(torch.float64).summed(_weighted_sums, powers, add=added)
    n_axes = z.shape[1]
    x, xz, _ = weighted.split([1, n_axes, n_axes])
    n, z1, z2 = mass.split([1, n_axes, n_axes])
    sum_of_squares = summarize_columns(source, counts=False).sum_of_squares.double()
    n = n.clamp(min=torch.finfo(n.dtype).tiny)
    covariance = xz - x * z1 / n
    variance = (sum_of_squares - x**2 / n).clamp(min=0) * (z2 - z1**2 / n).clamp(min=0)
    correlation = torch.where(variance > 0, covariance / variance.clamp(min=1e-300).sqrt(), 0.0)
    return correlation.clamp(-1, 1).cpu().numpy()


def _weighted_sums(source: RowSource, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over rows of the entries of every column, and of what is observed of them, with weights (N, P): (P, D)."""
    sums = [rows.expectations(weights[index], with_positive=False) for index, rows in source.chunks()]
    return torch.stack([weighted for weighted, _, _ in sums]).sum(0), torch.stack([mass for _, _, mass in sums]).sum(0)
