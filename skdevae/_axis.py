"""Where a fit starts: samples in the order of a principal component, whatever the table is stored as."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from scipy.linalg import eigh
from scipy.sparse.linalg import LinearOperator, eigsh
from scipy.stats import norm, rankdata
from sklearn.cluster import KMeans
from sklearn.utils import check_random_state
from torch import Tensor

from ._size_factors import weighted_median
from .training.rows import DenseRows, RowSource, SparseRows, summarize_columns

#: components, beside those that a fit starts from, that restarts draw their starting axes from
_MORE_COMPONENTS = 2
#: landmarks, and samples that each should stand for
_MOST_LANDMARKS, _SAMPLES_PER_LANDMARK = 256, 4
#: up to so many features the covariance matrix is formed and decomposed directly
_DIRECT_FEATURES = 64


class _NormalizedTable:
    """The table as principal components should see it: standardised, or log1p of size-normalised counts."""

    def __init__(self, source: RowSource, counts: bool, weights: np.ndarray | None = None):
        self._source = source
        self._counts = counts
        self._weights = np.ones(len(source)) if weights is None else weights
        self._size = self._median_size() if counts else 1.0
        total = sum(block.T @ w for block, w in self._weighted_blocks())
        self.mean = total / self._weights.sum()

    def _median_size(self) -> float:
        sizes = np.concatenate([np.asarray(self._values(rows).sum(1)).ravel() for _, rows in self._source.chunks()])
        return weighted_median(sizes[sizes > 0], self._weights[sizes > 0]) if (sizes > 0).any() else 1.0

    @staticmethod
    def _values(rows: DenseRows | SparseRows) -> np.ndarray | sp.csr_array:
        return rows.values if isinstance(rows, SparseRows) else rows.values.cpu().numpy()

    def blocks(self) -> Iterator[np.ndarray | sp.csr_array]:
        """Chunks of rows with their normalised values."""
        return (block for block, _ in self._weighted_blocks())

    def _weighted_blocks(self) -> Iterator[tuple[Any, np.ndarray]]:
        for index, rows in self._source.chunks():
            values = self._values(rows)
            yield (self._normalize(values) if self._counts else values), self._weights[index]

    def _normalize(self, counts: Any) -> Any:
        size = np.asarray(counts.sum(1)).ravel()
        factor = self._size / np.where(size > 0, size, 1)
        if sp.issparse(counts):
            return sp.csr_array(sp.diags_array(factor) @ counts).log1p()
        return np.log1p(counts * factor[:, None])

    def project(self, directions: np.ndarray) -> np.ndarray:
        """Centred rows times directions (D, C): (N, C)."""
        offset = self.mean @ directions
        return np.concatenate([block @ directions - offset for block in self.blocks()])

    def covariance_times(self, directions: np.ndarray) -> np.ndarray:
        """Centred cross-products, divided by N, times directions (D,) or (D, C)."""
        total = sum(block.T @ ((block @ directions).T * w).T for block, w in self._weighted_blocks())
        return total / self._weights.sum() - np.multiply.outer(self.mean, self.mean @ directions)


def normalized_counts(source: RowSource) -> np.ndarray:
    """log1p of size-normalised counts, as a dense float32 array: for tables of which that can be held."""
    blocks: Iterator[Any] = _NormalizedTable(source, counts=True).blocks()
    return np.concatenate([np.asarray(b.toarray() if sp.issparse(b) else b, dtype=np.float32) for b in blocks])


def principal_components(
    source: RowSource, counts: bool, n_components: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """Scores of the leading principal components, largest first: (N, C), C a few more than the latent has.

    ``weights`` (N,) are those of the rows.
    """
    table = _NormalizedTable(source, counts, weights)
    n_features = source.n_features
    n_components = min(n_components + _MORE_COMPONENTS, n_features)
    if n_features <= max(_DIRECT_FEATURES, 4 * n_components):
        covariance = table.covariance_times(np.eye(n_features))
        _, vectors = eigh(covariance, subset_by_index=[n_features - n_components, n_features - 1])
    else:
        operator = LinearOperator((n_features, n_features), matvec=table.covariance_times, dtype=np.float64)
        start = np.random.RandomState(0).standard_normal(n_features)
        values, vectors = eigsh(operator, k=n_components, v0=start, tol=1e-4)
        vectors = vectors[:, np.argsort(values)]
    return table.project(vectors[:, ::-1])


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Values replaced by the standard normal quantiles of their ranks."""
    return norm.ppf((rankdata(values) - 0.5) / len(values))


def starting_positions(scores: np.ndarray, n_components: int, restart: int, seed: int) -> np.ndarray:
    """A first guess of every sample's latent, (N, Q): leading components, or for restarts random mixtures of them."""
    mixture = np.eye(scores.shape[1], n_components)
    if restart > 0:
        mixture = check_random_state(seed).standard_normal(mixture.shape)
    # A table with fewer columns than the latent has components leaves some of them to be found from noise.
    mixed = scores @ mixture
    return np.column_stack([normal_scores(column) for column in mixed.T])


def landmarks(positions: np.ndarray, seed: int) -> np.ndarray:
    """Places where samples are dense, (P, Q), for positions (N, Q) of more dimensions than a grid can have."""
    n_distinct = len(np.unique(positions, axis=0))
    n_landmarks = min(_MOST_LANDMARKS, max(1, n_distinct // _SAMPLES_PER_LANDMARK))
    return KMeans(n_landmarks, n_init=1, max_iter=20, random_state=seed).fit(positions).cluster_centers_


def projection_onto(
    source: RowSource, positions: Tensor, inputs: Callable[[DenseRows], Tensor]
) -> tuple[Tensor, Tensor]:
    """A linear map from ``inputs(rows)`` to positions (N, Q): weights (D, Q) along the covariances, offsets (Q,).

    It has the positions' mean and a standard deviation of 1 over the table.
    """
    centered = positions - positions.mean(0)

    def blocks() -> Iterator[tuple[slice, Tensor]]:
        for index, rows in source.chunks(width=source.n_features):
            yield index, inputs(rows.dense())

    weights = torch.stack([block.T @ centered[index] for index, block in blocks()]).sum(0)
    projected = torch.cat([block @ weights for _, block in blocks()])
    scale = projected.std(0, correction=0).clamp(min=1e-12)
    return weights / scale, positions.mean(0) - projected.mean(0) / scale


def correlations(source: RowSource, positions: np.ndarray) -> np.ndarray:
    """Pearson correlation of every feature with the positions of the samples, over observed entries: (D,)."""
    z = torch.from_numpy(positions).double()
    powers = torch.stack([torch.ones_like(z), z, z**2], 1).to(source.like.device)
    chunks = source.to(torch.float64).chunks()
    sums = [rows.expectations(powers[index], with_positive=False) for index, rows in chunks]
    x, xz, _ = torch.stack([weighted for weighted, _, _ in sums]).sum(0)
    n, z1, z2 = torch.stack([mass.expand_as(weighted) for weighted, _, mass in sums]).sum(0)
    sum_of_squares = summarize_columns(source, counts=False).sum_of_squares.double()
    n = n.clamp(min=1)
    covariance = xz - x * z1 / n
    variance = (sum_of_squares - x**2 / n).clamp(min=0) * (z2 - z1**2 / n).clamp(min=0)
    correlation = torch.where(variance > 0, covariance / variance.clamp(min=1e-300).sqrt(), 0.0)
    return correlation.clamp(-1, 1).cpu().numpy()
