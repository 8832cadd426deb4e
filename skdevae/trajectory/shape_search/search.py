"""The search for clusters: which features share a function of the axis, and how many functions there are.

The search finds an axis, takes too many functions of it, and removes functions while the log posterior rises. Columns
are Gaussian and standardised. Functions are integrated out of every log posterior that is compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ...table.source import RowSource
from .axis import AxisSums, GaussianAxis, find_axis, fit_curves
from .grid import Array, Labels, ShapeGrid
from .shapes import (
    ClusterPrior,
    ShapeFit,
    Shapes,
    appraise,
    evidence_table,
    place_features,
    refine,
    working_response,
)

#: share of the samples at either end of the axis where a feature's own curve is not trusted
_TAIL = 0.005
#: largest number of features whose curves are candidates for the first functions
_MOST_SEEDS = 200
#: largest number of features whose curves are candidates for the function of two merged clusters
_MOST_MERGED_SEEDS = 50
#: rounds of refinement of the first functions
_FIRST_ROUNDS = 3
#: rounds of refinement after a cluster is dropped
_DROP_ROUNDS = 2
#: rounds of refinement after two clusters are merged
_MERGE_ROUNDS = 4
#: number of clusters that the search tries to drop, those that cost least first
_DROP_TRIALS = 5
#: number of mergers that are judged after E-steps of their own, the most promising first
_MERGE_TRIALS = 6
#: number of such E-steps
_EXPECTATION_ROUNDS = 10
#: number of the first of them in which features stay in their clusters
_HELD_ROUNDS = 7
#: up to this number of clusters, all pairs are tried for merging
_FEW_CLUSTERS = 12
#: number of pairs, the closest, that are tried if there are more clusters
_CLOSEST_PAIRS = 30


@dataclass(frozen=True)
class SearchResult:
    """What a search has found.

    Attributes
    ----------
    shapes : Shapes
        Functions, and how each feature follows one of them.
    posterior : ndarray of shape (N, P)
        q(z) of every sample on the grid.
    noise_variances : ndarray of shape (D,)
        Residual variance of every feature.
    occam_cost : float
        What integrating out all functions takes off the log posterior; 0 if no moves were made.
    """

    shapes: Shapes
    posterior: np.ndarray
    noise_variances: Array
    occam_cost: float


@dataclass(frozen=True)
class _State:
    """A clustering together with its own E-step.

    ``objective`` is the log posterior, with z and the functions integrated out.
    """

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
    """Find at most ``n_clusters`` functions, and how every feature follows one of them.

    Parameters
    ----------
    source : RowSource
        A table of standardised columns, NaN where entries are missing.
    positions : ndarray of shape (n_samples,)
        A first guess of the latent.
    grid : ShapeGrid
        Points and knots, and the ranges of shifts and scales.
    n_clusters, alpha : int, float
        Parameters of the :class:`~skdevae.trajectory.shape_search.shapes.ClusterPrior`.
    seed : int
        Seed of the choice of candidate features in tables with many features. Tables with few need no choice.
    moves : bool
        Whether to drop and merge clusters. If not, the result has all functions that the search starts from, even those
        that no feature follows.

    Returns
    -------
    SearchResult
    """
    axis, prior = GaussianAxis(source, grid), ClusterPrior(n_clusters, alpha)
    sums = find_axis(axis, positions)
    curves, noise_variances = fit_curves(axis, sums)
    information, response = working_response(sums.mass, sums.weighted, noise_variances)
    candidates = curves[:, _at_most(np.arange(source.n_features), _MOST_SEEDS, seed)]
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


def _at_most(features: Labels, most: int, seed: int) -> Labels:
    """All features given, or ``most`` of them at random if there are more."""
    if len(features) <= most:
        return features
    return np.random.default_rng(seed).choice(features, most, replace=False)


def seed_functions(
    grid: ShapeGrid, candidates: Array, mass: Array, information: Array, response: Array, n_functions: int
) -> Array:
    """Choose functions (C, T) that together describe all features best, from features' own curves (P, M).

    This is facility location, solved greedily: each step adds the function that raises the evidence most. Functions
    continue as constants outside the data. If scales and levels are free, functions have mean 0 and variance 1.
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
    best = np.zeros(len(evidence))  # evidence of features that follow no function
    for _ in range(min(n_functions, len(functions))):
        gain = np.maximum(evidence, best[:, None]).sum(0)
        gain[chosen] = -np.inf
        chosen.append(int(gain.argmax()))
        best = np.maximum(best, evidence[:, chosen[-1]])
    return functions[chosen]


def drop_clusters(grid: ShapeGrid, fit: ShapeFit, information: Array, response: Array, prior: ClusterPrior) -> ShapeFit:
    """Drop clusters one by one while the log posterior rises. q(z) stays as it is."""
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
    """Run a few rounds of EM. Features may change clusters in the last of them."""
    grid = axis.grid
    for round_ in range(_EXPECTATION_ROUNDS):
        curves = fit.shapes.curves(grid)
        sums = axis.sums(curves, noise_variances)
        noise_variances = axis.residual_variances(sums, curves)
        information, response = working_response(sums.mass, sums.weighted, noise_variances)
        # The axis first adapts to the clusters as they are. Choosing the clusters of all features anew takes most time.
        held = round_ < _HELD_ROUNDS
        functions, labels = fit.shapes.functions, fit.shapes.labels
        fit = refine(grid, functions, labels, information, response, prior, n_rounds=1, hold_labels=held)
    curves = fit.shapes.curves(grid)
    noise_variances = axis.residual_variances(sums, curves)
    sums = axis.sums(curves, noise_variances)
    return _State(fit, noise_variances, sums, axis.log_evidence(sums, curves, noise_variances) + fit.log_prior)


def merge_clusters(axis: GaussianAxis, prior: ClusterPrior, state: _State, seed: int) -> _State:
    """Merge pairs of clusters while the log posterior rises.

    A merger is judged after E-steps of its own. Clusters of one shape at different shifts need them: the axis has to
    adapt before one function fits the features of both.
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
    """Fits in which two clusters have become one. q(z) and all other clusters stay as they are."""
    shapes, mass = state.fit.shapes, state.sums.mass
    information, response = working_response(mass, state.sums.weighted, state.noise_variances)
    curves = shapes.curves(grid)
    table, _ = evidence_table(grid, shapes.functions, information, response)
    for kept, lost in _pairs_to_merge(table, shapes.labels):
        members = np.flatnonzero((shapes.labels == kept) | (shapes.labels == lost))
        its_information, its_response = information[:, members], response[:, members]
        # The start is a medoid of both clusters, not the function of one: shifts can reach most features from there.
        candidates = curves[:, _at_most(members, _MOST_MERGED_SEEDS, seed)]
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
    """Pairs of clusters to try for merging: all pairs of a few clusters, else the closest pairs.

    The distance of two clusters is the evidence that the features of one lose under the function of the other, in the
    cheaper direction. ``table`` (D, C) is the evidence of every feature under every function.
    """
    n_clusters = table.shape[1]
    pairs = list(combinations(range(n_clusters), 2))
    if n_clusters <= _FEW_CLUSTERS:
        return pairs
    lost = table[np.arange(len(labels)), labels][:, None] - table
    losses = np.stack([lost[labels == k].sum(0) for k in range(n_clusters)])
    order = np.argsort([min(losses[a, b], losses[b, a]) for a, b in pairs], kind="stable")
    return [pairs[i] for i in order[:_CLOSEST_PAIRS]]
