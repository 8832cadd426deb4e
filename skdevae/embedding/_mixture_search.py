"""Mixture search: a Gaussian mixture of representations, by restarts, split-and-merge moves and Schwarz's criterion.

EM from k-means centres often ends in a poor optimum if clusters differ in size: it splits a large cluster in two and
joins two small ones. The moves correct that. If each component had variances of its own, EM would fit some to the tails
of a cluster. So all components share their variances during the search. But then a cluster that is wider than the
others looks like several of them. So components are merged in the end, with variances of their own, where Schwarz's
criterion prefers fewer of these.

All functions take weights of the samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp
from sklearn.cluster import KMeans

#: most EM steps of a trial
_TRIAL_STEPS = 30
#: most EM steps of a mixture that is kept
_STEPS = 200
#: gain of an EM step, in nats per sample, below which EM ends
_GAIN = 1e-5
#: most samples that a search looks at: of a larger table, samples at equal distances
_MOST_SAMPLES = 5000
#: weight, in samples, with which the pooled variance enters the variances of each component
_PSEUDO_SAMPLES = 1.0
#: least variance within components, relative to that between them
_LEAST_SHARE = 1e-6
#: variance along an axis, relative to that of the widest axis, that is taken for rounding
_NO_SPREAD = 1e-10
#: most rounds of moves
_ROUNDS = 20
#: pairs of components that may merge in one round
_MERGERS = 6
#: components that may split in one round
_SPLITS = 8


@dataclass(frozen=True)
class FoundMixture:
    """Weights (K,), means and variances (K, Q) of a mixture, and responsibilities (N, K).

    The log-likelihood, in nats, is that of all samples together. Responsibilities and log-likelihood are those of
    components that share their pooled variances, or of components with variances of their own.
    """

    weights: np.ndarray
    means: np.ndarray
    variances: np.ndarray
    responsibilities: np.ndarray
    log_likelihood: float
    shares_variances: bool = True

    @property
    def n_components(self) -> int:
        """K."""
        return len(self.weights)


class Moments(NamedTuple):
    """Weights (K,), means and variances (K, Q) of components, and their pooled variances (Q,)."""

    weights: np.ndarray
    means: np.ndarray
    variances: np.ndarray
    pooled: np.ndarray


def moments(Z: np.ndarray, weights: np.ndarray, responsibilities: np.ndarray) -> Moments:
    """Moments of samples (N, Q) within each component, for responsibilities (N, K)."""
    shares = responsibilities * weights[:, None]
    n = shares.sum(0)
    means = shares.T @ Z / np.maximum(n, np.finfo(float).tiny)[:, None]
    squares = np.maximum(shares.T @ Z**2 - n[:, None] * means**2, 0)  # about the means
    center = n @ means / n.sum()
    between = n @ (means - center) ** 2
    pooled = np.maximum(squares.sum(0), _LEAST_SHARE * between) / n.sum()
    variances = (squares + _PSEUDO_SAMPLES * pooled) / (n + _PSEUDO_SAMPLES)[:, None]
    return Moments(n / n.sum(), means, variances, pooled)


def expectation_maximization(
    Z: np.ndarray,
    weights: np.ndarray,
    responsibilities: np.ndarray,
    max_steps: int = _STEPS,
    *,
    shares_variances: bool = True,
) -> FoundMixture:
    """EM for samples (N, Q) that starts from responsibilities (N, K)."""
    before = -np.inf
    for _ in range(max_steps):
        found = moments(Z, weights, responsibilities)
        log_joint = _log_joint(Z, found, shares_variances)
        log_density = logsumexp(log_joint, 1)
        responsibilities = np.exp(log_joint - log_density[:, None])
        value = float(weights @ log_density)
        if value - before < _GAIN * weights.sum():
            break
        before = value
    return FoundMixture(found.weights, found.means, found.variances, responsibilities, value, shares_variances)


def _log_joint(Z: np.ndarray, components: Moments, shares_variances: bool) -> np.ndarray:
    """``log w_k + log N(z | mean_k, variances)`` with the pooled variances, or those of each component: (N, K)."""
    unit = np.sqrt(components.pooled)
    scaled, means = Z / unit, components.means / unit
    variances = np.ones_like(means) if shares_variances else components.variances / components.pooled
    squares = scaled**2 @ (1 / variances).T - 2 * scaled @ (means / variances).T + (means**2 / variances).sum(1)
    log_weights = np.log(np.maximum(components.weights, np.finfo(float).tiny))
    return log_weights - 0.5 * (np.log(2 * np.pi * variances).sum(1) + np.log(unit**2).sum() + squares)


def search_mixture(
    Z: np.ndarray, weights: np.ndarray, n_clusters: int, *, n_init: int, may_be_empty: bool, seed: int
) -> FoundMixture:
    """The best mixture of ``n_clusters`` components, or of fewer if they may be empty.

    A component is kept if it raises the log-likelihood by more than half of log n for each of its parameters (Schwarz's
    criterion, 1978), where n is the total weight of the samples that the search looks at. This has to hold if
    components share their variances. It also has to hold if each has its own, unless the criterion prefers components
    that share them. Axes without spread are left out of the search.
    """
    spread = np.average(Z**2, axis=0, weights=weights) - np.average(Z, axis=0, weights=weights) ** 2
    used = spread > _NO_SPREAD * spread.max()
    n_clusters = min(n_clusters, len(np.unique(Z[:, used], axis=0)))
    if not used.any():
        found = expectation_maximization(Z[:, :0], weights, np.ones((len(Z), 1)))
    else:
        found = _searched(Z[:, used], weights, n_clusters, n_init, may_be_empty, seed)
    w, means, variances, _ = moments(Z, weights, found.responsibilities)
    return replace(found, weights=w, means=means, variances=variances)


def _searched(
    Z: np.ndarray, weights: np.ndarray, n_clusters: int, n_init: int, may_be_empty: bool, seed: int
) -> FoundMixture:
    """Restarts, moves and reductions. If there are many samples, the search uses some, and EM then uses all."""
    n_looked_at = min(len(Z), _MOST_SAMPLES)
    part = np.arange(n_looked_at) * len(Z) // n_looked_at
    # Weights are not scaled up to stand for the samples left out: chance gains would grow with them.
    sample = Z[part], weights[part]
    n_clusters = min(n_clusters, len(np.unique(Z[part], axis=0)))
    starts = [
        expectation_maximization(*sample, start, _TRIAL_STEPS) for start in _starts(*sample, n_clusters, n_init, seed)
    ]
    found = _improved(*sample, max(starts, key=lambda mixture: mixture.log_likelihood), seed)
    if may_be_empty:
        found = _merged(*sample, _reduced(*sample, found, seed))
    if len(Z) <= _MOST_SAMPLES:
        return found
    log_joint = _log_joint(Z, moments(*sample, found.responsibilities), found.shares_variances)
    responsibilities = np.exp(log_joint - logsumexp(log_joint, 1)[:, None])
    return expectation_maximization(Z, weights, responsibilities, shares_variances=found.shares_variances)


def kmeans_mixture(Z: np.ndarray, weights: np.ndarray, n_clusters: int, *, n_init: int, seed: int) -> FoundMixture:
    """The mixture whose components are the clusters of k-means."""
    n_clusters = min(n_clusters, len(np.unique(Z, axis=0)))
    search = KMeans(n_clusters, n_init=n_init, random_state=seed).fit(Z, sample_weight=weights)
    responsibilities = np.eye(n_clusters)[search.labels_]
    w, means, variances, _ = moments(Z, weights, responsibilities)
    return FoundMixture(w, means, variances, responsibilities, np.nan)


def _starts(Z: np.ndarray, weights: np.ndarray, n_clusters: int, n_init: int, seed: int) -> Iterator[np.ndarray]:
    """Responsibilities (N, K): those of k-means, and those of single steps of k-means from random centres."""
    for start in range(n_init):
        max_iter = 100 if start == 0 else 1
        search = KMeans(n_clusters, n_init=1, max_iter=max_iter, random_state=(seed + start) % 2**31)
        yield np.eye(n_clusters)[search.fit_predict(Z, sample_weight=weights)]


def _improved(Z: np.ndarray, weights: np.ndarray, mixture: FoundMixture, seed: int) -> FoundMixture:
    """The mixture after moves that raise its likelihood: two components merge, a third splits (Ueda et al., 2000)."""
    mixture = expectation_maximization(Z, weights, mixture.responsibilities)
    for _ in range(_ROUNDS):
        trials = (
            expectation_maximization(Z, weights, start, _TRIAL_STEPS) for start in _moves(Z, weights, mixture, seed)
        )
        best = max(trials, key=lambda trial: trial.log_likelihood, default=mixture)
        if best.log_likelihood - mixture.log_likelihood < max(1.0, _GAIN * weights.sum()):
            break
        mixture = expectation_maximization(Z, weights, best.responsibilities)
    return mixture


def _moves(Z: np.ndarray, weights: np.ndarray, mixture: FoundMixture, seed: int) -> Iterator[np.ndarray]:
    """Responsibilities (N, K) after each of the moves that are most likely to help."""
    r = mixture.responsibilities
    halves = {k: _halves(Z, weights * r[:, k], seed) for k in np.argsort(-mixture.weights)[:_SPLITS]}
    for i, j in _nearest_pairs(mixture)[:_MERGERS]:
        for k, half in halves.items():
            if k in (i, j):
                continue
            start = r.copy()
            start[:, i] += r[:, j]
            start[:, j], start[:, k] = r[:, k] * half, r[:, k] * ~half
            yield start


def _halves(Z: np.ndarray, weights: np.ndarray, seed: int) -> np.ndarray:
    """One of the two parts that k-means finds in weighted samples, as a mask (N,)."""
    # Samples of other components have tiny weights, as small as e^-100. For k-means they would still be points.
    within = weights > 1e-6 * weights.max()
    half = np.zeros(len(Z), dtype=bool)
    if len(np.unique(Z[within], axis=0)) > 1:
        search = KMeans(2, n_init=3, random_state=seed % 2**31)
        half[within] = search.fit_predict(Z[within], sample_weight=weights[within]) == 1
    return half


def _nearest_pairs(mixture: FoundMixture) -> list[tuple[int, int]]:
    """Pairs of components by the distance between their means, in units of their sds."""

    def distance(pair: tuple[int, int]) -> float:
        i, j = pair
        difference = mixture.means[i] - mixture.means[j]
        return float((difference**2 / (mixture.variances[i] + mixture.variances[j])).sum())

    return sorted(combinations(range(mixture.n_components), 2), key=distance)


def _reduced(Z: np.ndarray, weights: np.ndarray, mixture: FoundMixture, seed: int) -> FoundMixture:
    """The mixture without the components that Schwarz's criterion does not support."""
    cost = _cost(Z, weights)
    while mixture.n_components > 1:
        best = _best_merger(Z, weights, mixture)
        fewer = _improved(Z, weights, best, seed) if best.log_likelihood > mixture.log_likelihood - 2 * cost else best
        if fewer.log_likelihood < mixture.log_likelihood - cost:
            break
        mixture = fewer
    return mixture


def _merged(Z: np.ndarray, weights: np.ndarray, shared: FoundMixture) -> FoundMixture:
    """Fewer components, with variances of their own, if Schwarz's criterion prefers them to those that share them."""
    cost = _cost(Z, weights)
    mixture = expectation_maximization(Z, weights, shared.responsibilities, shares_variances=False)
    while mixture.n_components > 1:
        fewer = _best_merger(Z, weights, mixture)
        fewer = expectation_maximization(Z, weights, fewer.responsibilities, shares_variances=False)
        if fewer.log_likelihood < mixture.log_likelihood - cost:
            break
        mixture = fewer
    # Components that share their variances save all but one set of Q.
    saved = 0.5 * Z.shape[1] * (shared.n_components - 1) * np.log(max(weights.sum(), 2))
    difference = cost * (shared.n_components - mixture.n_components) - saved
    is_better = mixture.log_likelihood + difference > shared.log_likelihood
    return mixture if is_better and mixture.n_components < shared.n_components else shared


def _cost(Z: np.ndarray, weights: np.ndarray) -> float:
    """What a component has to raise the log-likelihood by, in nats."""
    # As many parameters as a component of the model has: there each has variances of its own.
    return float(0.5 * (2 * Z.shape[1] + 1) * np.log(max(weights.sum(), 2)))


def _best_merger(Z: np.ndarray, weights: np.ndarray, mixture: FoundMixture) -> FoundMixture:
    """The best mixture in which two components have become one."""
    trials = []
    for i, j in _nearest_pairs(mixture)[:_MERGERS]:
        merged = np.delete(mixture.responsibilities, j, axis=1)
        merged[:, i] += mixture.responsibilities[:, j]
        trials.append(
            expectation_maximization(Z, weights, merged, _TRIAL_STEPS, shares_variances=mixture.shares_variances)
        )
    return max(trials, key=lambda trial: trial.log_likelihood)
