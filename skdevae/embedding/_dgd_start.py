"""Where a deep generative decoder starts: representations of the samples, and a mixture to go with them.

The start is nearly everything: from representations at zero, components have nothing to tell apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..nn.regularized_mixture import Softball
from ..table.components import Projection
from ..table.source import RowSource
from ..training.seeds import generator_from
from ._mixture_search import FoundMixture, kmeans_mixture, moments, search_mixture

#: sd of a component that starts at a draw from the softball prior, of its scale, times K (section 4.2.1)
_SOFTBALL_SD = 0.2
#: variance along an axis, relative to the largest one, that counts as none; least of a component, relative to all
_NO_VARIANCE, _LEAST_VARIANCE = 1e-10, 1e-3


@dataclass(frozen=True)
class Start:
    """Representations (N, Q), a mixture of weights (K,), means and variances (K, Q), and the radius of its ball."""

    representations: np.ndarray
    weights: np.ndarray
    means: np.ndarray
    variances: np.ndarray
    radius: float = 1.0


def padded(scores: np.ndarray, n_components: int) -> np.ndarray:
    """Scores (N, C) with zeros for the latents that there are no columns for: (N, Q)."""
    return np.pad(scores, [(0, 0), (0, n_components - scores.shape[1])])


def regressed(projection: Projection, source: RowSource, weights: np.ndarray, target: np.ndarray) -> Projection:
    """The projection followed by the linear map that brings its scores closest to a target (N, Q)."""
    root = np.sqrt(weights)[:, None]
    scores = np.column_stack([projection(source), np.ones(len(source))])
    solution = np.linalg.lstsq(root * scores, root * target, rcond=None)[0]
    return projection.then(solution[:-1], solution[-1])


def standard_normal_start(Z: np.ndarray, weights: np.ndarray) -> Start:
    """One fixed component, N(0, I), with the representations in it: their largest sd is 1."""
    center = np.average(Z, axis=0, weights=weights)
    largest = np.sqrt(np.average((Z - center) ** 2, axis=0, weights=weights)).max()
    n_components = Z.shape[1]
    return Start(Z / largest if largest > 0 else Z, np.ones(1), np.zeros((1, n_components)), np.ones((1, n_components)))


def softball_start(Z: np.ndarray, sample_weights: np.ndarray, n_clusters: int, softball: Softball, seed: int) -> Start:
    """Means drawn from their prior, narrow components of equal weight, as published (DGD paper, section 4.2.1)."""
    means = softball.draw(n_clusters, generator_from(seed)).double().numpy()
    sd = _SOFTBALL_SD * softball.scale / n_clusters
    radius = np.sqrt(np.average((Z**2).sum(1), weights=sample_weights))
    representations = Z * (softball.scale / radius) if radius > 0 else Z
    weights = np.full(n_clusters, 1 / n_clusters)
    return Start(representations, weights, means, np.full(means.shape, sd**2), softball.scale)


def fitted_start(Z: np.ndarray, found: FoundMixture) -> Start:
    """Representations with a mixture fitted to them, in units of its components' sds.

    The ball in which means lie has the radius that it has, in these units, in :func:`softball_start`, or that of the
    farthest mean.
    """
    # An axis on which all that differs is rounding is none.
    known = found.variances.max(0) > _NO_VARIANCE * found.variances.max()
    variances = _filled(found.variances, known)
    unit = np.sqrt(found.weights @ variances.mean(1))
    means = np.where(known, found.means, 0) / unit
    radius = max(len(means) / _SOFTBALL_SD, float(np.sqrt((means**2).sum(1).max())))
    return Start(np.where(known, Z, 0) / unit, found.weights, means, variances / unit**2, radius)


def _filled(variances: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Variances (K, Q) with those of axes that nothing is known of at the mean of the others."""
    if not known.any():
        return np.ones_like(variances)
    filled = np.where(known, variances, variances[:, known].mean())
    # A component of copies of one sample.
    return np.maximum(filled, _LEAST_VARIANCE * filled.mean(0))


def mixture_of(
    how: str, Z: np.ndarray, weights: np.ndarray, n_clusters: int, *, n_init: int, may_be_empty: bool, seed: int
) -> FoundMixture:
    """A mixture for representations (N, Q): ``"gmm"`` or ``"kmeans"``."""
    if how == "gmm":
        return search_mixture(Z, weights, n_clusters, n_init=n_init, may_be_empty=may_be_empty, seed=seed)
    return kmeans_mixture(Z, weights, n_clusters, n_init=n_init, seed=seed)


def supervised_mixture(
    Z: np.ndarray, weights: np.ndarray, classes: np.ndarray, free: FoundMixture | None
) -> FoundMixture:
    """A component for each class 0, 1, ..., and after them those that were found among samples without one (-1)."""
    known = classes >= 0
    n_classes = int(classes.max()) + 1
    n_free = 0 if free is None else free.n_components
    responsibilities = np.zeros((len(Z), n_classes + n_free))
    responsibilities[known, classes[known]] = 1
    if free is not None:
        responsibilities[~known, n_classes:] = free.responsibilities
    used = responsibilities.sum(1) > 0
    w, means, variances, _ = moments(Z[used], weights[used], responsibilities[used])
    return FoundMixture(w, means, variances, responsibilities, np.nan)


def column_moments(source: RowSource, weights: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of every column of the normalised table over its observed entries, (D,) each. Float64."""
    n, total, squares = (torch.zeros(source.n_features, dtype=torch.float64) for _ in range(3))
    for index, rows in source.normalized().to(torch.float64).chunks(width=source.n_features):
        w, values = torch.from_numpy(weights[index])[:, None], rows.dense().values.cpu()
        observed = torch.ones_like(values) if rows.observed is None else rows.observed.cpu()
        n, total, squares = n + (w * observed).sum(0), total + (w * values).sum(0), squares + (w * values**2).sum(0)
    mean = total / n
    return mean, (squares / n - mean**2).clamp(min=0)
