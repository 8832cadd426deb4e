"""The search for shapes: an axis first, then too many functions of it, then fewer while the evidence rises.

Columns are gaussian and standardised. Every decision compares log posteriors in which functions are integrated over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ...table.source import RowSource
from .axis import AxisSums, GaussianAxis, find_axis
from .grid import Array, Labels, ShapeGrid
from .shapes import (
    ClusterPrior,
    ShapeFit,
    Shapes,
    appraise,
    evidence_table,
    free_curves,
    place_features,
    refine,
    working_response,
)

#: residual variance, in units of a column's, that free curves start from, and the rounds that they get
_CURVE_VARIANCE, _CURVE_ROUNDS = 0.3, 3
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
class SearchResult:
    """Shapes of the features, posteriors q(z) of the samples (N, P), residual variances (D,).

    ``occam_cost`` is what all functions together cost; 0 where no moves were made.
    """

    shapes: Shapes
    posterior: np.ndarray
    noise_variances: Array
    occam_cost: float


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
        Of the :class:`~skdevae.trajectory.shape_search.shapes.ClusterPrior`.
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
        return SearchResult(shapes, axis.posterior(curves, noise_variances), noise_variances, 0.0)
    fit = refine(grid, functions, None, information, response, prior, n_rounds=_FIRST_ROUNDS)
    fit = drop_clusters(grid, fit, information, response, prior)
    state = merge_clusters(axis, prior, _expect(axis, prior, fit, noise_variances), seed)
    posterior = axis.posterior(state.fit.shapes.curves(grid), state.noise_variances)
    return SearchResult(state.fit.shapes, posterior, state.noise_variances, float(state.fit.occam_costs.sum()))


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
