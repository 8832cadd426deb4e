"""Linear effects: what covariates seem to do to every column before anything is known of a latent.

A fit starts from principal components. If covariates move many columns, as batches do, the first components are the
covariates, and a fit that starts there stays there. So a start sees the table less these effects.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from ..nn.likelihoods import Likelihood
from .passes import added
from .source import RowSource, SparseRows

#: Groups of rows of like covariates, at the most, whose counts are summed. For a start, numbers may be rounded.
_MOST_GROUPS = 500
#: steps of Fisher scoring, and the largest change of an effect in one
_STEPS, _LARGEST_STEP = 25, 1.0
#: prior precision of an effect on a log scale: it keeps effects finite where a level has no counts
_RIDGE = 0.1
#: share of an effect over which the slope of a link is taken
_SHORT_WAY = 0.01
#: share of a matrix's diagonal that is added to it, so that it can be inverted where a column has few entries
_LEAST_SHARE = 1e-12


def without_linear_effects(source: RowSource, counts: bool) -> RowSource:
    """The source less the linear effects of its rows' covariates; as it is where they have none.

    From measurements effects are subtracted, counts are divided by them. Effects are those of covariates that differ
    from the average.
    """
    design = _centered_design(source)
    if design is None:
        return source
    effects = _log_linear_effects(source, design) if counts else _regression(source, design)[1]
    return source.less(effects, design)


def effects_on_curves(source: RowSource, likelihood: Likelihood) -> Tensor | None:
    """Effects (C, D) of rows' covariates on the scale of a likelihood's curves; None where rows have no covariates."""
    design = _centered_design(source)
    if design is None:
        return None
    if likelihood.has_log_link:
        return torch.from_numpy(_log_linear_effects(source, design)).to(source.like)
    level, slopes = (torch.from_numpy(part).to(source.like) for part in _regression(source, design))
    # The link's slope at the level, which is 1 for a link that changes nothing.
    rise = likelihood.unlink(level + _SHORT_WAY * slopes) - likelihood.unlink(level - _SHORT_WAY * slopes)
    return rise / (2 * _SHORT_WAY)


def _centered_design(source: RowSource) -> np.ndarray | None:
    """The design (N, C) of covariates less its weighted average; None where rows have no covariates."""
    design = source.context.covariates
    return None if design is None else design - np.average(design, axis=0, weights=source.weights)


def _regression(source: RowSource, design: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Constants (D,) and effects (C, D) of weighted least squares of every column on the design (N, C)."""
    columns = np.column_stack([np.ones(len(design)), design])
    normal, products = source.summed(_normal_equations, columns, add=added)
    solution = _solved(normal, products)
    return solution[:, 0], solution[:, 1:].T


def _normal_equations(source: RowSource, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the products of columns (N, C) with each other, (D, C, C), and with every column of a source, (D, C)."""
    n = columns.shape[1]
    normal = np.zeros((source.n_features, n, n))
    products = np.zeros((source.n_features, n))
    for index, rows in source.chunks():
        part, weight = columns[index], source.weights[index]
        values = rows.dense().values.cpu().numpy().astype(np.float64)  # missing entries are zeros
        products += values.T @ (part * weight[:, None])
        if rows.observed is None:
            normal += part.T @ (part * weight[:, None])
        else:
            counted = weight[:, None] * rows.observed.cpu().numpy()
            normal += np.einsum("bd,bc,be->dce", counted, part, part, optimize=True)
    return normal, products


def _log_linear_effects(source: RowSource, design: np.ndarray) -> np.ndarray:
    """Effects (C, D) on log rates, of a Poisson regression on a constant and the design (N, C)."""
    patterns, group = _groups(design, source.weights)
    counts, exposure = source.summed(partial(_sums_by_group, len(patterns)), group, add=added)
    columns = np.column_stack([np.ones(len(patterns)), patterns])  # (L, C)
    ridge = np.diag([0.0] + [_RIDGE] * design.shape[1])
    coefficients = np.zeros((source.n_features, columns.shape[1]))
    total = counts.sum(0) / np.maximum(exposure.sum(0), np.finfo(float).tiny)
    coefficients[:, 0] = np.log(np.maximum(total, np.finfo(float).tiny))
    for _ in range(_STEPS):
        expected = exposure * np.exp(columns @ coefficients.T)  # (L, D)
        score = (counts - expected).T @ columns - coefficients @ ridge
        normal = np.einsum("ld,lc,le->dce", expected, columns, columns, optimize=True) + ridge
        step = np.clip(_solved(normal, score), -_LARGEST_STEP, _LARGEST_STEP)
        coefficients += step
        if np.abs(step).max(initial=0) < 1e-3:
            break
    return coefficients[:, 1:].T


def _groups(design: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct designs (L, C), some of which stand for (weighted) rows nearby, and the number of each row's: (N,)."""
    patterns, group = np.unique(design, axis=0, return_inverse=True)
    step = 1 / 16
    while len(patterns) > _MOST_GROUPS:
        patterns, group = np.unique(np.round(design / step), axis=0, return_inverse=True)
        step *= 2
    group = group.ravel()
    sizes = np.bincount(group, weights)
    means = [np.bincount(group, weights * column) / sizes for column in design.T]
    return np.column_stack(means), group


def _sums_by_group(n_groups: int, source: RowSource, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of counts, and of the sizes of rows in which they are observed, by group: (L, D) both."""
    counts = np.zeros((n_groups, source.n_features))
    exposure = np.zeros_like(counts)
    log_size = source.context.log_size
    sizes = np.ones(len(source)) if log_size is None else np.exp(log_size)
    for index, rows in source.chunks():
        weight, members = source.weights[index], group[index]
        n = len(weight)
        summing = sp.csr_array((weight, (members, np.arange(n))), shape=(n_groups, n))
        sized = sp.csr_array((weight * sizes[index], (members, np.arange(n))), shape=(n_groups, n))
        values = rows.values if isinstance(rows, SparseRows) else rows.values.cpu().numpy()
        product = summing @ values
        counts += product.toarray() if sp.issparse(product) else product
        there = np.ones((n, 1)) if rows.observed is None else rows.observed.cpu().numpy()
        exposure += sized @ there
    return counts, exposure


def _solved(normal: np.ndarray, products: np.ndarray) -> np.ndarray:
    """Solutions (D, C) of normal equations (D, C, C), some of which may be singular."""
    diagonal = np.einsum("dcc->dc", normal).max(1, initial=0)
    least = np.maximum(_LEAST_SHARE * diagonal, np.finfo(float).tiny)
    return np.linalg.solve(normal + least[:, None, None] * np.eye(normal.shape[1]), products[..., None])[..., 0]
