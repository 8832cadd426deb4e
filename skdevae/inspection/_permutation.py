"""Permutation tests of features along an axis: how well a smooth curve describes them, and how well it would by chance.

Rows lie on the axis with some uncertainty. What a curve f predicts for a row is its average over the places where the
row may be, so f is fitted to columns that are averaged in the same way. The axis is cut into bins of equal mass, and
only the order of positions counts: an axis is known up to a monotone map.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import norm
from sklearn.preprocessing import SplineTransformer

from ..nn.smooth_curves import LENGTHS, SHARES
from ..table.components import ranks

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.intp]

#: bins of equal mass along the axis
_N_BINS = 20
#: standard deviations around a row's mean position at which the distribution of all positions is computed
_AROUND = (-3.0, -1.5, 0.0, 1.5, 3.0)
#: most positions at which that distribution is computed
_MOST_POINTS = 1000
#: numbers that are held at a time
_BLOCK_ENTRIES = 5_000_000
#: share of a sum of squares, and of a largest value, that is rounding
_ROUNDING_SQUARED, _ROUNDING = 1e-20, 1e-9
#: rows that are exchanged with each other where numbers (sizes, ages) have to be alike, on average
_ROWS_OF_A_STRATUM = 20
#: knots of the smooth effect of one such number
_N_KNOTS = 5


class Places(NamedTuple):
    """Where N rows lie on an axis: mean positions (N,), and standard deviations (N,), zero where they are known."""

    mean: Floats
    sd: Floats


class Result(NamedTuple):
    """What is found of D features, each of shape (D,); NaN for features that do not vary."""

    statistic: Floats
    p_value: Floats
    effect_size: Floats


@dataclass(frozen=True)
class Conditions:
    """What rows are like beside their features and their places.

    Attributes
    ----------
    design : ndarray of shape (N, C)
        Functions of covariates, whose linear effects say nothing of the axis.
    size : ndarray of shape (N,)
        What expected values are multiplied by.
    weight : ndarray of shape (N,)
        How much each row counts.
    stratum : ndarray of shape (N,)
        Rows of the same number are exchanged with each other.
    """

    design: Floats
    size: Floats
    weight: Floats
    stratum: Integers

    def take(self, rows: Integers) -> Conditions:
        """The conditions of some rows."""
        return Conditions(self.design[rows], self.size[rows], self.weight[rows], self.stratum[rows])


def strata(labels: NDArray, numbers: Floats) -> Integers:
    """Groups (N,) of rows that have the same labels (N, L) and similar numbers (N, M).

    Numbers are cut into as many classes of equal size as leave some rows in each group.
    """
    n_rows = len(labels)
    found = [labels]
    if numbers.shape[1]:
        n_groups = len(np.unique(labels, axis=0)) if labels.shape[1] else 1
        wanted = (n_rows / (n_groups * _ROWS_OF_A_STRATUM)) ** (1 / numbers.shape[1])
        n_classes = max(1, int(wanted))
        found += [np.floor(ranks(column) / n_rows * n_classes)[:, None] for column in numbers.T]
    groups = np.hstack(found)
    if not groups.shape[1]:
        return np.zeros(n_rows, dtype=np.intp)
    return np.unique(groups, axis=0, return_inverse=True)[1].ravel().astype(np.intp)


def smooth_effects(number: Floats) -> Floats:
    """Columns whose sums are smooth functions of a number (N,), cubic splines; none if it does not vary."""
    knots = np.unique(np.quantile(number, np.linspace(0, 1, _N_KNOTS)))
    if len(knots) < 2:
        return np.empty((len(number), 0))
    return np.asarray(SplineTransformer(knots=knots[:, None]).fit_transform(number[:, None]))


def bin_shares(places: Places, weight: Floats) -> Floats:
    """The share of every row that lies in each of B bins, which hold equal masses of all rows: (N, B)."""
    edges = np.linspace(0, 1, _N_BINS + 1)
    if not places.sd.any():  # rows of one position are spread over the share of the axis that they make up together
        middle, half = ranks(places.mean, weight) / weight.sum(), _tied(places.mean, weight) / (2 * weight.sum())
        overlap = np.minimum(edges[1:], (middle + half)[:, None]) - np.maximum(edges[:-1], (middle - half)[:, None])
        return overlap.clip(0) / (2 * half)[:, None]
    points = np.unique((places.mean + np.multiply.outer(_AROUND, places.sd)).ravel())
    points = points[np.linspace(0, len(points) - 1, min(len(points), _MOST_POINTS)).astype(int)]
    sd = np.maximum(places.sd, _ROUNDING * np.ptp(points))
    below = sum(
        (w @ norm.cdf((points - m[:, None]) / s[:, None]) for m, s, w in _blocks(places.mean, sd, weight)),
        start=np.zeros(len(points)),
    )
    inner = np.interp(edges[1:-1], below / weight.sum(), points)
    return np.diff(norm.cdf((inner - places.mean[:, None]) / sd[:, None]), axis=1, prepend=0, append=1)


def _tied(values: Floats, weight: Floats) -> Floats:
    """Weight (N,) of all rows that have the same value."""
    _, which = np.unique(values, return_inverse=True)
    return np.asarray(np.bincount(which, weight)[which], dtype=np.float64)


def _blocks(*arrays: Floats) -> Iterator[list[Floats]]:
    step = max(1, _BLOCK_ENTRIES // _MOST_POINTS)
    for start in range(0, len(arrays[0]), step):
        yield [array[start : start + step] for array in arrays]


class CurveTest:
    """How well smooth curves along an axis describe features, against what covariates alone say of them.

    The statistic is a log evidence, in nats. A curve has a Gaussian process as its prior, whose length and share of the
    feature's variance are averaged over (see :mod:`skdevae.nn.smooth_curves`); what is not explained is taken for noise
    of an unknown variance. Rows count by their weight, and counts also by their size, as Poisson counts do.

    Parameters
    ----------
    shares : ndarray of shape (N, B)
        Of every row, in bins along the axis.
    conditions : Conditions
        Of the rows.
    """

    def __init__(self, shares: Floats, conditions: Conditions):
        self._root_size, self._root_weight = np.sqrt(conditions.size), np.sqrt(conditions.weight)
        scale = self._root_size * self._root_weight
        with_level = np.column_stack([np.ones(len(scale)), conditions.design])
        self._null = _orthonormal(scale[:, None] * with_level)[0]  # (N, C + 1)
        free = scale[:, None] * shares
        for _ in range(2):  # once more, for what rounding has left
            free = free - self._null @ (self._null.T @ free)
        self._basis, roots = _orthonormal(free, largest=scale[:, None] * shares)  # (N, k), (k, B)
        self._degrees = len(scale) - self._null.shape[1]
        self._parts = [self._decomposed(roots, length) for length in LENGTHS]

    def _decomposed(self, roots: Floats, length: float) -> tuple[Floats, Floats]:
        """Directions (k, k) of curves of one length on the basis, and what they inflate the variance by: (S, k).

        Curves of every amplitude explain a share of the feature's variance.
        """
        values, vectors = np.linalg.eigh(roots @ _kernel(length) @ roots.T)
        odds = np.array(SHARES) / (1 - np.array(SHARES))
        amplitudes = odds * (self._degrees / max(values.sum(), np.finfo(np.float64).tiny))
        return vectors, 1 + np.multiply.outer(amplitudes, values.clip(0))

    def residuals(self, values: Floats) -> Floats:
        """What covariates leave of features (N, D), in units of their noise, as far as that depends on sizes: (N, D).

        These are what rows exchange. Features that covariates explain altogether have zeros.
        """
        scaled = self._root_weight[:, None] * values / self._root_size[:, None]
        left = scaled - self._null @ (self._null.T @ scaled)
        left = left - self._null @ (self._null.T @ left)
        left[:, (left**2).sum(0) <= _ROUNDING_SQUARED * (scaled**2).sum(0)] = 0.0
        left = left / self._root_weight[:, None]
        size = self._root_size**2
        if np.ptp(size) <= _ROUNDING * size.max():
            return left
        return left / np.sqrt(_noise_of_counts(values, left**2, size))

    def evidence(self, residuals: Floats, orders: Integers) -> Floats:
        """Log evidence of a curve against none: (R, D) for residuals (N, D) that are given to rows (R, N)."""
        found: Floats = logsumexp(self._log_joint(*self._projected(residuals, orders)), axis=(0, 1))
        return found

    def explained(self, residuals: Floats) -> Floats:
        """Share of variance that the curves explain, adjusted for their degrees of freedom: (D,).

        Curves are averaged over their lengths and amplitudes, and over none, of the same prior weight.
        """
        projected, total = self._projected(residuals, np.arange(len(residuals))[None])
        joint = self._log_joint(projected, total)[:, :, 0]  # (L, S, D)
        weights = np.exp(joint - np.logaddexp(logsumexp(joint, axis=(0, 1)), 0.0))
        smoother = np.zeros((joint.shape[2], *2 * self._basis.shape[1:]))  # (D, k, k)
        for weight, (vectors, inflation) in zip(weights, self._parts, strict=True):
            shrinkage = weight.T @ (1 - 1 / inflation)  # (D, k)
            smoother += (vectors * shrinkage[:, None]) @ vectors.T
        gain = 2 * smoother - smoother @ smoother
        left = total[0] - np.einsum("di,dij,dj->d", projected[0], gain, projected[0])
        degrees = self._degrees - gain.trace(axis1=1, axis2=2)
        return np.asarray(1 - (left / degrees) / (total[0] / self._degrees))

    def _log_joint(self, projected: Floats, total: Floats) -> Floats:
        """Log prior of curves of each length and share, and their log evidence against none: (L, S, R, D)."""
        found = np.empty((len(LENGTHS), len(SHARES), *total.shape))
        for number, (vectors, inflation) in enumerate(self._parts):
            explained = (projected @ vectors) ** 2 / total[..., None]  # (R, D, k)
            left = np.log(1 - explained @ (1 - 1 / inflation).T)  # (R, D, S)
            evidence = -0.5 * np.log(inflation).sum(1) - 0.5 * self._degrees * left
            found[number] = np.moveaxis(evidence, -1, 0)
        return found + _log_node_prior()[..., None, None]

    @cached_property
    def _columns(self) -> Floats:
        """All columns that residuals are projected on, (N, C + 1 + k)."""
        return self._root_weight[:, None] * np.hstack([self._null, self._basis])

    def _projected(self, residuals: Floats, orders: Integers) -> tuple[Floats, Floats]:
        """Residuals on the curves' basis, (R, D, k), and the sums of their squares, (R, D)."""
        products = residuals.T @ self._columns[orders]  # (R, D, C + 1 + k)
        squares = (self._root_weight**2)[orders] @ residuals**2
        on_null, on_basis = np.split(products, [self._null.shape[1]], axis=2)
        return on_basis, squares - (on_null**2).sum(2)


def _noise_of_counts(values: Floats, squares: Floats, size: Floats) -> Floats:
    """What squares (N, D) of residuals of counts (N, D), divided by the rows' sizes (N,), are on average: (N, D).

    It is the rate of Poisson counts, and where counts are overdispersed a part that grows with size.
    """
    rate = values.sum(0) / size.sum()
    more = ((squares - rate) / size[:, None]).mean(0).clip(0)
    expected = rate + np.multiply.outer(size, more)
    return np.where(expected > 0, expected, 1.0)


def permutation_test(values: Floats, places: Places, conditions: Conditions, n_permutations: int, seed: int) -> Result:
    """Test features (N, D), of which entries may be missing, along an axis where rows have places.

    Rows of one stratum exchange their values. Missing entries stay where they are. All features see the same
    permutations, so what is found of one does not depend on the others.
    """
    result = Result(*(np.full(values.shape[1], np.nan) for _ in Result._fields))
    patterns, which = np.unique(~np.isnan(values), axis=1, return_inverse=True)
    for number, observed in enumerate(patterns.T):
        rows, columns = np.nonzero(observed & (conditions.weight > 0))[0], np.nonzero(which.ravel() == number)[0]
        if not len(rows):
            continue
        here = conditions.take(rows)
        shares = bin_shares(Places(places.mean[rows], places.sd[rows]), here.weight)
        test = CurveTest(shares, here)
        residuals = test.residuals(values[np.ix_(rows, columns)])
        varies = residuals.any(0)
        residuals, columns = residuals[:, varies], columns[varies]
        if not len(columns):
            continue
        observed_statistic = test.evidence(residuals, np.arange(len(rows))[None])[0]
        reached = np.zeros(len(columns))
        tolerance = _ROUNDING * (1 + np.abs(observed_statistic))
        for orders in _orders(conditions.stratum, rows, n_permutations, seed, len(columns)):
            reached += (test.evidence(residuals, orders) >= observed_statistic - tolerance).sum(0)
        result.statistic[columns] = observed_statistic
        result.p_value[columns] = (1 + reached) / (1 + n_permutations)
        result.effect_size[columns] = test.explained(residuals)
    return result


def _orders(stratum: Integers, rows: Integers, n: int, seed: int, n_features: int) -> Iterator[Integers]:
    """n permutations of some rows within strata, a block of them at a time: for each row the one it changes with."""
    random = np.random.default_rng(seed)
    per_permutation = max(len(stratum) * 2 * _N_BINS, n_features * len(LENGTHS) * len(SHARES))
    step = max(1, _BLOCK_ENTRIES // per_permutation)
    of_rows = stratum[rows]
    in_strata = np.argsort(of_rows, kind="stable")
    for start in range(0, n, step):
        keys = random.random((min(step, n - start), len(stratum)))[:, rows]
        orders = np.empty_like(keys, dtype=np.intp)
        orders[:, in_strata] = np.argsort(of_rows + keys, axis=1)
        yield orders


def _orthonormal(matrix: Floats, largest: Floats | None = None) -> tuple[Floats, Floats]:
    """An orthonormal basis (N, k) of the columns of a matrix (N, M), and what gives the matrix from it: (k, M).

    Directions are left out that are rounding beside the matrix, or beside a larger one that it was made from.
    """
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    scale = values.max() if largest is None else np.linalg.norm(largest, 2)
    kept = values > _ROUNDING * scale
    return left[:, kept], values[kept, None] * right[kept]


def _kernel(length: float) -> Floats:
    """Covariance of curves of variance 1 between the middles of the bins, (B, B)."""
    middles = norm.ppf((np.arange(_N_BINS) + 0.5) / _N_BINS)
    return np.asarray(np.exp(-0.5 * (np.subtract.outer(middles, middles) / length) ** 2))


def _log_node_prior() -> Floats:
    """Log prior of lengths and shares of variance, both uniform: (L, S)."""
    shares = np.array(SHARES)
    edges = np.concatenate([[0.0], (shares[1:] + shares[:-1]) / 2, [1.0]])
    return np.tile(np.log(np.diff(edges) / len(LENGTHS)), (len(LENGTHS), 1))
