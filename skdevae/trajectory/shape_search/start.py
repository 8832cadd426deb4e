"""Starts of BasisVAE: puts the shapes that a search has found into a model.

The search (:mod:`.search`) works on a standardised table and treats its columns as Gaussian. Counts are searched as
log1p of size-normalised values. The shapes found are then fitted to the model's own likelihood, while their clusters
stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.isotonic import IsotonicRegression
from torch import Tensor

from ...nn.cluster_prior import ClusterAssignment
from ...nn.copies import BasisDecoder, BehaviorBasis
from ...nn.latent_grid import GridStatistics, LatentGrid, counted, log_prior, summarize, total
from ...nn.likelihoods import Likelihood, LinearLikelihood
from ...nn.models import GenerativeModel
from ...table.components import normalized_counts
from ...table.passes import columns_in_memory
from ...table.source import RowSource
from ...table.weighted_rows import weighted_rows
from .axis import GaussianAxis
from .flat import evidence_on_others_axis, evidence_under
from .grid import Array, ShapeGrid
from .search import SearchResult, search_shapes
from .shapes import ClusterPrior, Shapes, evidence_table, place_features, refine

#: number of grid points of the search
_N_POINTS = 129
#: Number of rows that the search reads, at random, if there are more; it gains little from reading all. Rows in which
#: columns have entries that have none in these come on top.
_MOST_ROWS = 2000
#: largest number of columns that the search reads, at random if there are more
_MOST_COLUMNS = 250
#: Log evidence of a column's curve, against a constant, above which the column takes part in the search. It is more
#: than 0, because one column of noise may bring clusters together. Columns in doubt find a cluster after the search.
_SURE_TO_VARY = 3.0
#: ranges of shifts to search, as shares of the model's range
_SHIFT_RANGES = (1.0, 2 / 3)
#: rounds in which functions are fitted to the model's own likelihood
_OWN_ROUNDS = 3
#: sd of the kernel that smooths the data before the first working response, in prior sds
_SMOOTHING_WIDTH = 0.3
#: weight of a knot far from the data when a network is fitted to functions; the knot with most data has weight 1
_LEAST_WEIGHT = 0.01
#: information about a feature without an entry, at every point: next to none
_LEAST_INFORMATION = 1e-12
#: log odds of the cluster in which a feature starts
_STARTING_LOG_ODDS = 5.0
#: Mean square that each shape parameter of a behaviour has to save. Otherwise a transient, whose peak may lie outside
#: the data, would be preferred for every function that rises.
_SHAPE_COST = 0.01
#: distance, in knots, between the peaks that are tried for a function that rises and falls
_PEAK_STEP = 6


@dataclass(frozen=True)
class ShapeStart:
    """Shapes that a search has found in a table.

    Attributes
    ----------
    grid : ShapeGrid
        Grid of the shapes.
    found : SearchResult
        What the search has found.
    table : RowSource
        The rows that it has read, with all columns.
    columns : ndarray of int
        Positions of the columns that it has clustered.
    is_flat : ndarray of bool of shape (D,)
        Which of all columns have nothing to do with the axis. None that it has clustered.
    """

    grid: ShapeGrid
    found: SearchResult
    table: RowSource
    columns: np.ndarray
    is_flat: np.ndarray


def find_starts(
    module: GenerativeModel, source: RowSource, positions: Tensor, *, alpha: float, moves: bool, seed: int
) -> list[ShapeStart]:
    """Search for starts of a one-dimensional model with a :class:`BasisDecoder`.

    ``positions`` (N, 1) are a first guess of the samples' latents. ``moves`` says whether clusters are dropped and
    merged, or all functions kept.

    With shifts there may be several starts that differ in their clusterings. Long shifts can bring two shapes into one
    function, and moves cannot part them again. So shorter shifts are searched as well.

    Flat columns take no part. Noise would otherwise stand between clusters and bring them together.
    """
    decoder = cast(BasisDecoder, module.decoder)
    grid = ShapeGrid.build(_N_POINTS, module.z_max, max_shift=decoder.max_shift, scale_bounds=decoder.scale_bounds)
    random = np.random.default_rng(seed)
    rows = _rows_to_read(source, random)
    columns = _at_most(source.n_features, _MOST_COLUMNS, random)
    table, guess = source.take(rows).in_memory(), positions[rows, 0].double().cpu().numpy()
    standardized = _standardized(table, columns, module.likelihood.counts)
    if decoder.has_flat:
        columns = _varying(standardized, columns, guess, grid)
        standardized = _standardized(table, columns, module.likelihood.counts)
    starts: list[ShapeStart] = []
    for share in _SHIFT_RANGES if moves and decoder.max_shift > 0 else (1.0,):
        found = search_shapes(
            standardized,
            guess,
            grid=grid.with_shifts_up_to(share * decoder.max_shift),
            n_clusters=decoder.n_functions,
            alpha=alpha,
            seed=seed,
            moves=moves,
        )
        if not any(_are_alike(found.shapes.labels, other.found.shapes.labels) for other in starts):
            is_flat = np.zeros(table.n_features, dtype=bool)
            if decoder.has_flat:
                is_flat = _flat_among_others(module, table, columns, found)
            starts.append(ShapeStart(grid, found, table, columns, is_flat))
    return starts


def _varying(standardized: RowSource, columns: np.ndarray, guess: Array, grid: ShapeGrid) -> np.ndarray:
    """Those columns that are sure to vary along the axis of the others.

    They are all columns if none is sure, for there has to be an axis.
    """
    varying = evidence_on_others_axis(GaussianAxis(standardized, grid), guess) > _SURE_TO_VARY
    return columns[varying] if varying.any() else columns


def _flat_among_others(
    module: GenerativeModel, table: RowSource, clustered: np.ndarray, found: SearchResult
) -> np.ndarray:
    """Which columns are flat on the axis found, (D,), among those that had no part in it: in all others it is False.

    They are judged anew if they were left out of the search. Its axis may be the better one.
    """
    is_flat = np.zeros(table.n_features, dtype=bool)
    others = np.setdiff1d(np.arange(table.n_features), clustered)
    if len(others):
        latent = LatentGrid.standard_normal(found.posterior.shape[1], module.z_max)
        standardized = _standardized(table, others, module.likelihood.counts)
        is_flat[others] = ~(evidence_under(standardized, found.posterior, latent) > 0)
    return is_flat


def _are_alike(labels: np.ndarray, others: np.ndarray) -> bool:
    """Whether two clusterings are the same partition."""
    pairs = np.unique(np.column_stack([labels, others]), axis=0)
    return len(pairs) == len(np.unique(labels)) == len(np.unique(others))


def start_from_shapes(module: GenerativeModel, start: ShapeStart, *, alpha: float, moves: bool) -> None:
    """Put the shapes of a start into a model, in place."""
    decoder, grid, found = cast(BasisDecoder, module.decoder), start.grid, start.found
    statistics, latent = _statistics(start.table, found, module)
    information, response = _working_response(module.likelihood, start, statistics, latent.points)
    functions = found.shapes.functions
    evidence, _ = evidence_table(grid, functions, information, response)
    labels = evidence.argmax(1)
    labels[start.columns] = found.shapes.labels
    if moves:  # every function has features, some of which the search has not seen
        prior, own = ClusterPrior(decoder.n_functions, alpha), ~start.is_flat
        of_features = labels[own], information[:, own], response[:, own]
        fitted = refine(grid, functions, *of_features, prior, n_rounds=_OWN_ROUNDS, hold_labels=True)
        functions = fitted.shapes.functions
    density = statistics.mass.mean(1).double().cpu().numpy()
    seen = np.pad(density, grid.pad) / density.max()
    # A behaviour is judged where data are: beyond them, functions return to their prior. Networks are fitted there too.
    slots = _slots(decoder, functions, seen + 1e-6)
    all_functions = np.zeros((decoder.n_functions, len(grid.knots)))
    all_functions[slots] = functions
    _put_copies(decoder, grid, all_functions, information, response)
    like = decoder.levels
    decoder.basis.initialize_(
        torch.from_numpy(all_functions.T).to(like),
        torch.from_numpy(seen + _LEAST_WEIGHT).to(like),
        torch.from_numpy(grid.knots)[:, None].to(like),
    )
    decoder.set_flat_(torch.from_numpy((information * response).sum(0) / information.sum(0)).to(like))
    followed = np.where(start.is_flat, decoder.n_functions, slots[labels])
    cast(ClusterAssignment, module.assignment).start_(torch.from_numpy(followed), _STARTING_LOG_ODDS)


def _rows_to_read(source: RowSource, random: np.random.Generator) -> np.ndarray:
    """Numbers of the rows that the search reads. What these hold does not depend on the order of the table.

    Every column that has an entry has one among them.
    """
    rows = _at_most(len(source), _MOST_ROWS, random)
    if len(rows) == len(source):
        return rows
    by_content = np.argsort(weighted_rows(source.table, np.ones(len(source))).inverse, kind="stable")
    rows = by_content[rows]
    if not source.is_sparse:
        unseen = np.nonzero(np.isnan(source.table[rows]).all(0))[0]
        is_observed = ~np.isnan(columns_in_memory(source.table, unseen))
        first = is_observed[by_content].argmax(0)[is_observed.any(0)]
        rows = np.concatenate([rows, by_content[first]])
    return np.unique(rows)


def _at_most(n: int, most: int, random: np.random.Generator) -> np.ndarray:
    """Positions 0 to n - 1 in order, or ``most`` of them at random if there are more."""
    return np.arange(n) if n <= most else np.sort(random.choice(n, most, replace=False))


def _standardized(table: RowSource, columns: np.ndarray, counts: bool) -> RowSource:
    """Some columns of a table, standardised for the search."""
    if not counts:
        return table.of_columns(columns)
    values = normalized_counts(table)[:, columns]
    weight = table.context.weight
    center = np.average(values, axis=0, weights=weight)
    scale = np.sqrt(np.average((values - center) ** 2, axis=0, weights=weight))
    context = table.context.replaced(log_size=None, covariates=None)  # which counts have been divided by
    return RowSource(values, center, np.where(scale > 0, scale, 1.0), table.like, context)


def _statistics(table: RowSource, found: SearchResult, module: GenerativeModel) -> tuple[GridStatistics, LatentGrid]:
    """Sums of the model's own data under the search's last posteriors, and the grid that these are on."""
    latent = LatentGrid.standard_normal(found.posterior.shape[1], module.z_max).to(table.like)
    q = torch.from_numpy(found.posterior).to(table.like)
    with_positive = module.likelihood.has_positive_term
    sums = (
        summarize(rows, q[index], log_prior(rows, latent), with_positive)
        for index, rows in table.chunks(width=q.shape[1])
    )
    return total(sums), latent


def _working_response(
    likelihood: Likelihood, start: ShapeStart, statistics: GridStatistics, z: Tensor
) -> tuple[Array, Array]:
    """Information and working response of every feature at every point, (P, D) each, around its smoothed mean.

    They define the quadratic that has the slope and the expected curvature of the log-likelihood there. For Gaussian
    features it is the log-likelihood. Features without an entry respond with 0, which next to nothing is known about.
    """
    kernel = torch.softmax(-0.5 * ((z - z.T) / _SMOOTHING_WIDTH) ** 2, 0)
    smoothed = (kernel @ statistics.weighted) / (kernel @ statistics.mass).clamp(min=1e-6)
    curves = likelihood.unlink(smoothed).detach().requires_grad_()
    score = torch.zeros_like(curves)
    for log_likelihood in _log_likelihoods(likelihood, start, statistics, curves, z):
        score += torch.autograd.grad(log_likelihood, curves)[0]
    with torch.no_grad():
        information = statistics.mass * likelihood.information(curves, z)
        response = curves + score / information.clamp(min=1e-6)
        is_observed = (statistics.mass.sum(0) > 0).expand(curves.shape)
        information = information.where(is_observed, information.new_tensor(_LEAST_INFORMATION))
        response = response.where(is_observed, response.new_zeros(()))
    return information.double().cpu().numpy(), response.double().cpu().numpy()


def _log_likelihoods(
    likelihood: Likelihood, start: ShapeStart, statistics: GridStatistics, curves: Tensor, z: Tensor
) -> Iterator[Tensor]:
    """Parts of the table's expected log-likelihood at curves (P, D) under the search's posteriors: scalars to add up.

    One part is enough if the likelihood is linear in the data, because the sums hold all that it needs. Otherwise there
    is one part for each chunk of rows.
    """
    if likelihood.is_linear:
        tables = cast(LinearLikelihood, likelihood).tables(curves[:, None], z)
        yield statistics.expected_log_likelihood(tables).sum()
        return
    q = torch.from_numpy(start.found.posterior).to(curves)
    for index, rows in start.table.chunks(width=curves.numel()):
        yield (counted(rows, q[index]) * likelihood.pair_log_prob(rows, curves, z)).sum()


def _put_copies(decoder: BasisDecoder, grid: ShapeGrid, functions: Array, information: Array, response: Array) -> None:
    """Set the best shift, scale and level of every feature under every function (K, T)."""
    _, shifts = evidence_table(grid, functions, information, response)
    placed: list[Shapes] = []
    for k in range(len(functions)):
        labels = np.full(len(shifts), k)
        placed.append(place_features(grid, functions, labels, shifts[:, k], information, response))
    decoder.set_copies_(
        *(
            torch.from_numpy(np.stack([getattr(shapes, name) for shapes in placed])).to(decoder.levels)
            for name in ("levels", "scales", "shifts")
        )
    )


def _slots(decoder: BasisDecoder, functions: Array, weights: Array) -> np.ndarray:
    """Which function of the decoder each function found (C, T) becomes: the pairing whose behaviours fit best."""
    if not isinstance(decoder.basis, BehaviorBasis):
        return np.arange(len(functions))
    weights = weights / weights.sum()
    costs = []
    for behavior, size in zip(decoder.basis.behaviors, decoder.basis.sizes, strict=True):
        misfits = np.array([_misfit(behavior.name, function, weights) for function in functions])
        costs += [misfits + _SHAPE_COST * behavior.n_shape_parameters] * size
    _, slots = linear_sum_assignment(np.array(costs).T)
    return slots


def _misfit(behavior: str, function: Array, weights: Array) -> float:
    """Weighted mean square by which a function (T,) at equally spaced knots departs from a behaviour."""
    match behavior:
        case "increasing":
            return _distance_from_rising(function, weights)
        case "decreasing":
            return _distance_from_rising(-function, weights)
        case "transient":
            return _distance_from_peaked(function, weights)
        case "dip":
            return _distance_from_peaked(-function, weights)
        case "flat":
            return float(weights @ (function - np.average(function, weights=weights)) ** 2)
        case _:
            return 0.0


def _distance_from_rising(function: Array, weights: Array) -> float:
    rising = IsotonicRegression().fit_transform(np.arange(len(function)), function, sample_weight=weights)
    return float(weights @ (function - rising) ** 2)


def _distance_from_peaked(function: Array, weights: Array) -> float:
    return min(
        _distance_from_rising(function[:peak], weights[:peak]) + _distance_from_rising(-function[peak:], weights[peak:])
        for peak in range(_PEAK_STEP, len(function), _PEAK_STEP)
    )


def start_from_groups(module: GenerativeModel, statistics: GridStatistics, points: Tensor, seed: int) -> None:
    """Start a model of any dimension, in place, from k-means clusters of smoothed curves at points (P, Q)."""
    decoder = cast(BasisDecoder, module.decoder)
    present, mass, smoothed = statistics.smoothed()
    weights = mass.double().cpu().numpy()
    curves = module.likelihood.unlink(smoothed).detach().double().cpu().numpy()  # (P, D)
    levels, scales = np.zeros(curves.shape[1]), np.ones(curves.shape[1])
    if decoder.scale_bounds is not None:
        levels = np.average(curves, axis=0, weights=weights)
        scales = np.sqrt(np.average((curves - levels) ** 2, axis=0, weights=weights) + 1e-12)
        curves = (curves - levels) / scales
    n_clusters = min(decoder.n_functions, curves.shape[1])
    groups = KMeans(n_clusters, n_init=1, random_state=seed).fit((np.sqrt(weights)[:, None] * curves).T)
    functions = np.zeros((len(weights), decoder.n_functions))
    functions[:, :n_clusters] = groups.cluster_centers_.T / np.sqrt(weights)[:, None]
    like = decoder.levels[: decoder.n_functions]
    decoder.set_copies_(
        torch.from_numpy(levels).to(like).expand_as(like),
        torch.from_numpy(scales).to(like).expand_as(like),
        torch.zeros_like(like),
    )
    decoder.basis.initialize_(torch.from_numpy(functions).to(like), mass, points[present])
    cast(ClusterAssignment, module.assignment).start_(
        torch.from_numpy(groups.labels_.astype(np.int64)), _STARTING_LOG_ODDS
    )
