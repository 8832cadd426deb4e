"""The search for shapes: an axis first, then too many functions of it, then fewer while the evidence rises.

Columns are gaussian and standardised. Every decision compares log posteriors in which functions are integrated over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from ._axis import normal_scores
from ._shapes import (
    Array,
    ClusterPrior,
    Labels,
    ShapeFit,
    ShapeGrid,
    Shapes,
    appraise,
    evidence_table,
    free_curves,
    place_features,
    refine,
    residual_variances,
    working_response,
)
from .nn.latent_grid import LatentGrid, log_joint
from .nn.likelihoods import LinearTables
from .nn.rows import Rows
from .training.rows import RowSource, summarize_columns

#: The axis is annealed: in the first so many rounds, smoothing along z narrows from wide to narrow (in prior sds) while
#: the likelihood's power rises from cold to 1. Wide smoothing puts samples in order as a whole before curves bend.
_AXIS_ROUNDS, _COOLING_ROUNDS = 60, 42
_WIDE, _NARROW, _COLD = 1.0, 0.05, 0.05
#: rounds of plain EM at the end, from samples spread evenly over the prior again
_POLISHING_ROUNDS = 10
#: widths, in prior sds, of samples' posteriors where their places are taken from elsewhere: at the start and at the end
_STARTING_WIDTH, _SPREAD_WIDTH = 0.3, 0.15
#: residual variance, in units of a column's, to start from; and from free curves, with the rounds that they get
_AXIS_VARIANCE, _CURVE_VARIANCE, _CURVE_ROUNDS = 0.5, 0.3, 3
#: mass at either end of the data outside of which a feature's own curve says nothing
_TAIL = 0.005
#: most features whose curves are candidates for a function: at first, and for that of two merged clusters
_MOST_SEEDS, _MOST_MERGED_SEEDS = 200, 50
#: rounds of refinement of the first functions, after a cluster is dropped, and after two are merged
_FIRST_ROUNDS, _DROP_ROUNDS, _MERGE_ROUNDS = 3, 2, 4
#: clusters that are tried for dropping, cheapest first, and mergers that get E-steps of their own, with how many
_DROP_TRIALS, _MERGE_TRIALS, _EXPECTATION_ROUNDS, _HELD_ROUNDS = 5, 6, 10, 7
#: among more clusters than that, only so many of the closest pairs are tried for merging
_FEW_CLUSTERS, _CLOSEST_PAIRS = 12, 30


@dataclass(frozen=True)
class AxisSums:
    """What an E-step says: ``mass`` (P, D), or (P, 1) without missing entries, and ``weighted`` (P, D) sum 1 and x.

    ``means`` (N,) are the samples' posterior means; ``log_normalizer`` sums what the posteriors were divided by.
    """

    mass: Array
    weighted: Array
    means: Array
    log_normalizer: float


class GaussianAxis:
    """E-steps of a table of standardised columns along a grid, read in chunks of rows.

    Parameters
    ----------
    source : RowSource
        The table; its dtype and device do the work.
    grid : ShapeGrid
        Its points, with standard normal prior mass, are those of the latent.
    """

    def __init__(self, source: RowSource, grid: ShapeGrid):
        self.grid = grid
        self._source = source
        self._latent = LatentGrid.standard_normal(len(grid.points), float(grid.points[-1])).to(source.like)
        summary = summarize_columns(source.to(torch.float64), counts=False)
        self._sum_of_squares = summary.sum_of_squares.cpu().numpy()
        self._n_observed = summary.n_observed.cpu().numpy()

    def sums(self, curves: Array, noise_variances: Array, beta: float = 1.0) -> AxisSums:
        """The E-step under curves (P, D) and noise (D,); ``beta`` is the likelihood's power."""
        return self._sums(self._joint(curves, noise_variances, beta))

    def sums_around(self, positions: Array, width: float) -> AxisSums:
        """Sums where posteriors are bumps around given positions (N,)."""
        centers = torch.from_numpy(positions).to(self._source.like)
        points = self._latent.points[:, 0]
        chunks = self._source.chunks(len(points))
        return self._sums((rows, -0.5 * ((centers[index, None] - points) / width) ** 2) for index, rows in chunks)

    def posterior(self, curves: Array, noise_variances: Array) -> np.ndarray:
        """q(z) of every row: (N, P), in the source's dtype."""
        return np.concatenate([joint.softmax(1).cpu().numpy() for _, joint in self._joint(curves, noise_variances)])

    def log_constant(self, noise_variances: Array) -> float:
        """What the log-likelihood of the table has beside :attr:`AxisSums.log_normalizer`."""
        normalizers = self._n_observed * np.log(2 * np.pi * noise_variances)
        return float(-0.5 * (self._sum_of_squares / noise_variances + normalizers).sum())

    def residual_variances(self, sums: AxisSums, curves: Array) -> Array:
        """Noise variances (D,) around curves (P, D)."""
        return residual_variances(sums.mass, sums.weighted, self._sum_of_squares, curves)

    def _joint(self, curves: Array, noise_variances: Array, beta: float = 1.0) -> Iterator[tuple[Rows, Tensor]]:
        """Chunks of rows with beta log p(x | z) + log p(z), up to the constants of x: (B, P)."""
        slope = curves / noise_variances
        zero = -0.5 * curves * slope
        like = self._source.like
        tables = LinearTables(torch.from_numpy(zero).to(like), torch.from_numpy(slope).to(like), None)
        for _, rows in self._source.chunks(len(self._latent.points)):
            yield rows, log_joint(rows, tables, self._latent, 1 / beta)

    def _sums(self, chunks: Iterable[tuple[Rows, Tensor]]) -> AxisSums:
        n_points, n_features = len(self._latent.points), self._source.n_features
        mass, weighted, log_normalizer = np.zeros((n_points, 1)), np.zeros((n_points, n_features)), 0.0
        means = []
        for rows, joint in chunks:
            normalizer = joint.logsumexp(1, keepdim=True)
            q = (joint - normalizer).exp()
            weighted_here, _, mass_here = rows.expectations(q, with_positive=False)
            mass = mass + mass_here.cpu().numpy()  # grows to (P, D) at the first chunk with missing entries
            weighted += weighted_here.cpu().numpy()
            means.append((q @ self._latent.points).cpu().numpy())
            log_normalizer += float(normalizer.double().sum())
        return AxisSums(mass, weighted, np.concatenate(means)[:, 0].astype(np.float64), log_normalizer)


def find_axis(axis: GaussianAxis, positions: Array) -> AxisSums:
    """An annealed axis with a free curve for every feature, from a first guess (N,) of the samples' positions.

    A self-organising map: curves are smoothed along z by a kernel that narrows while samples are let go of.
    """
    grid = axis.grid
    sums = axis.sums_around(positions, _STARTING_WIDTH)
    noise_variances = np.full(sums.weighted.shape[1], _AXIS_VARIANCE)
    for round_ in range(_AXIS_ROUNDS):
        progress = min(1.0, round_ / _COOLING_ROUNDS)
        width = _WIDE * (_NARROW / _WIDE) ** progress
        kernel = np.exp(-0.5 * (np.subtract.outer(grid.points, grid.points) / width) ** 2)
        kernel /= kernel.sum(0)
        curves = free_curves(grid, kernel @ sums.mass + 1e-9, kernel @ sums.weighted, noise_variances)
        noise_variances = axis.residual_variances(sums, curves)
        sums = axis.sums(curves, noise_variances, _COLD ** (1 - progress))
    sums = axis.sums_around(normal_scores(sums.means), _SPREAD_WIDTH)
    for _ in range(_POLISHING_ROUNDS):
        curves = free_curves(grid, sums.mass, sums.weighted, noise_variances)
        noise_variances = axis.residual_variances(sums, curves)
        sums = axis.sums(curves, noise_variances)
    return sums


@dataclass(frozen=True)
class SearchResult:
    """Shapes of the features, posteriors q(z) of the samples (N, P), residual variances (D,)."""

    shapes: Shapes
    posterior: np.ndarray
    noise_variances: Array


@dataclass(frozen=True)
class _State:
    """A place in the search that has had its E-step: ``objective`` is the log posterior, z and functions integrated."""

    fit: ShapeFit
    noise_variances: Array
    sums: AxisSums
    objective: float


def search_shapes(
    source: RowSource,
    positions: Array,
    *,
    grid: ShapeGrid,
    n_clusters: int,
    alpha: float,
    seed: int,
    moves: bool = True,
) -> SearchResult:
    """Find shapes, at most ``n_clusters`` of them, and how every feature follows one.

    Parameters
    ----------
    source : RowSource
        A table of standardised columns, NaN where entries are missing.
    positions : ndarray of shape (n_samples,)
        A first guess of the latent.
    grid : ShapeGrid
        Where curves live; with or without shifts and scales.
    n_clusters, alpha : int, float
        Of the :class:`~skdevae._shapes.ClusterPrior`.
    seed : int
        Of the choice of candidate features in large tables; small ones leave nothing to chance.
    moves : bool
        Whether clusters are dropped and merged. If not, all functions that the search starts from are returned, some
        perhaps without features.
    """
    axis, prior = GaussianAxis(source, grid), ClusterPrior(n_clusters, alpha)
    sums = find_axis(axis, positions)
    noise_variances = np.full(source.n_features, _CURVE_VARIANCE)
    for _ in range(_CURVE_ROUNDS):
        curves = free_curves(grid, sums.mass, sums.weighted, noise_variances)
        noise_variances = axis.residual_variances(sums, curves)
    information, response = working_response(sums.mass, sums.weighted, noise_variances)
    candidates = curves[:, _some(np.arange(source.n_features), _MOST_SEEDS, seed)]
    functions = seed_functions(grid, candidates, sums.mass, information, response, n_clusters)
    if not moves:
        table, shifts = evidence_table(grid, functions, information, response)
        labels = table.argmax(1)
        shifts = shifts[np.arange(len(labels)), labels]
        shapes = place_features(grid, functions, labels, shifts, information, response)
        return SearchResult(shapes, axis.posterior(curves, noise_variances), noise_variances)
    fit = refine(grid, functions, None, information, response, prior, n_rounds=_FIRST_ROUNDS)
    fit = drop_clusters(grid, fit, information, response, prior)
    state = merge_clusters(axis, prior, _expect(axis, prior, fit, noise_variances), seed)
    posterior = axis.posterior(state.fit.shapes.curves(grid), state.noise_variances)
    return SearchResult(state.fit.shapes, posterior, state.noise_variances)


def _some(features: Labels, most: int, seed: int) -> Labels:
    """These features, or that many of them at random."""
    if len(features) <= most:
        return features
    return np.random.default_rng(seed).choice(features, most, replace=False)


def seed_functions(
    grid: ShapeGrid, candidates: Array, mass: Array, information: Array, response: Array, n_functions: int
) -> Array:
    """Functions (C, T) that together serve all features best, among features' own curves (P, M): facility location.

    Greedy. Functions go on flat outside of the data and have, where scales and levels are free, mean 0 and variance 1.
    """
    density = mass.mean(1) / mass.mean(1).sum()
    first, last = np.searchsorted(np.cumsum(density), [_TAIL, 1 - _TAIL])
    beyond = (first + grid.pad, len(grid.points) - 1 - last + grid.pad)
    functions = np.pad(candidates[first : last + 1], (beyond, (0, 0)), mode="edge").T
    if grid.scale_bounds is not None:
        on_points = slice(grid.pad, grid.pad + len(grid.points))
        functions = functions - (functions[:, on_points] @ density)[:, None]
        functions /= np.sqrt(functions[:, on_points] ** 2 @ density + 1e-12)[:, None]
    evidence, _ = evidence_table(grid, functions, information, response)
    chosen: list[int] = []
    best = np.zeros(len(evidence))  # that of no function at all
    for _ in range(min(n_functions, len(functions))):
        gain = np.maximum(evidence, best[:, None]).sum(0)
        gain[chosen] = -np.inf
        chosen.append(int(gain.argmax()))
        best = np.maximum(best, evidence[:, chosen[-1]])
    return functions[chosen]


def drop_clusters(grid: ShapeGrid, fit: ShapeFit, information: Array, response: Array, prior: ClusterPrior) -> ShapeFit:
    """Remove clusters one by one, q(z) held, while the log posterior rises."""
    while fit.shapes.n_clusters > 1:
        shapes = fit.shapes
        table, _ = evidence_table(grid, shapes.functions, information, response)
        without = [np.delete(table, k, axis=1) for k in range(shapes.n_clusters)]
        losses = table.max(1).sum() - np.array([others.max(1).sum() for others in without]) - fit.occam_costs
        trials = []
        for k in np.argsort(losses)[:_DROP_TRIALS]:
            labels = np.where(shapes.labels == k, without[k].argmax(1), shapes.labels - (shapes.labels > k))
            functions = np.delete(shapes.functions, k, axis=0)
            trials.append(refine(grid, functions, labels, information, response, prior, n_rounds=_DROP_ROUNDS))
        best = max(trials, key=_objective)
        if best.objective <= fit.objective:
            break
        fit = best
    return fit


def _objective(trial: ShapeFit | _State) -> float:
    return trial.objective


def _expect(axis: GaussianAxis, prior: ClusterPrior, fit: ShapeFit, noise_variances: Array) -> _State:
    """Some rounds of EM, in the last of which features may change clusters."""
    grid = axis.grid
    for round_ in range(_EXPECTATION_ROUNDS):
        curves = fit.shapes.curves(grid)
        sums = axis.sums(curves, noise_variances)
        noise_variances = axis.residual_variances(sums, curves)
        information, response = working_response(sums.mass, sums.weighted, noise_variances)
        # The axis first adapts to the clusters as they are: that all features are judged anew is the costly part.
        held = round_ < _HELD_ROUNDS
        functions, labels = fit.shapes.functions, fit.shapes.labels
        fit = refine(grid, functions, labels, information, response, prior, n_rounds=1, hold_labels=held)
    curves = fit.shapes.curves(grid)
    noise_variances = axis.residual_variances(sums, curves)
    sums = axis.sums(curves, noise_variances)
    log_evidence = sums.log_normalizer + axis.log_constant(noise_variances)
    return _State(fit, noise_variances, sums, log_evidence + fit.log_prior)


def merge_clusters(axis: GaussianAxis, prior: ClusterPrior, state: _State, seed: int) -> _State:
    """Merge pairs of clusters while the log posterior rises, judged after E-steps of each proposal's own.

    Features of one shape at several shifts need these: curves and axis have to adapt to each other once they share it.
    """
    while state.fit.shapes.n_clusters > 1:
        proposals = sorted(_mergers(axis.grid, prior, state, seed), key=_objective, reverse=True)
        best = state
        for fit in proposals[:_MERGE_TRIALS]:
            noise_variances = axis.residual_variances(state.sums, fit.shapes.curves(axis.grid))
            best = max(best, _expect(axis, prior, fit, noise_variances), key=_objective)
        if best is state:
            break
        state = best
    return state


def _mergers(grid: ShapeGrid, prior: ClusterPrior, state: _State, seed: int) -> Iterator[ShapeFit]:
    """Fits in which two clusters have become one; q(z) and all other clusters are held."""
    shapes, mass = state.fit.shapes, state.sums.mass
    information, response = working_response(mass, state.sums.weighted, state.noise_variances)
    curves = shapes.curves(grid)
    table, _ = evidence_table(grid, shapes.functions, information, response)
    for kept, lost in _pairs_to_merge(table, shapes.labels):
        members = np.flatnonzero((shapes.labels == kept) | (shapes.labels == lost))
        its_information, its_response = information[:, members], response[:, members]
        # Neither one's function: a medoid lies in the middle of what shifts have to reach.
        candidates = curves[:, _some(members, _MOST_MERGED_SEEDS, seed)]
        medoid = seed_functions(grid, candidates, mass, its_information, its_response, 1)
        alone = np.zeros(len(members), dtype=np.intp)
        merged = refine(
            grid, medoid, alone, its_information, its_response, prior, n_rounds=_MERGE_ROUNDS, hold_labels=True
        )
        functions, costs, labels = shapes.functions.copy(), state.fit.occam_costs.copy(), shapes.labels.copy()
        functions[kept], costs[kept], labels[members] = merged.shapes.functions[0], merged.occam_costs[0], kept
        placed = Shapes(
            np.delete(functions, lost, axis=0),
            labels - (labels > lost),
            *(
                _replaced(getattr(shapes, name), members, getattr(merged.shapes, name))
                for name in ("shifts", "scales", "levels")
            ),
        )
        yield appraise(grid, placed, np.delete(costs, lost), information, response, prior)


def _replaced(values: Array, index: Labels, new: Array) -> Array:
    values = values.copy()
    values[index] = new
    return values


def _pairs_to_merge(table: Array, labels: Labels) -> list[tuple[int, int]]:
    """Pairs of clusters worth merging: all of a few, else the closest.

    Two are as close as the evidence (D, C) is that the features of one keep under the function of the other.
    """
    n_clusters = table.shape[1]
    pairs = list(combinations(range(n_clusters), 2))
    if n_clusters <= _FEW_CLUSTERS:
        return pairs
    lost = table[np.arange(len(labels)), labels][:, None] - table
    losses = np.stack([lost[labels == k].sum(0) for k in range(n_clusters)])
    order = np.argsort([min(losses[a, b], losses[b, a]) for a, b in pairs], kind="stable")
    return [pairs[i] for i in order[:_CLOSEST_PAIRS]]
