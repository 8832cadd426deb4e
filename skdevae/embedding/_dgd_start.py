"""The start of a deep generative decoder: representations of the samples, and a mixture that goes with them.

The start decides most of what a fit finds. If all representations start at zero, the components have nothing to tell
apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from ..nn.regularized_mixture import Softball
from ..table.components import Projection, principal_projection
from ..table.source import RowSource
from ..training.seeds import generator_from
from ._dgd_parameters import DGDParameters
from ._mixture_search import FoundMixture, kmeans_mixture, moments, search_mixture

#: sd of a component that starts at a draw from the softball prior, as a share of the radius, times K (section 4.2.1)
_SOFTBALL_SD = 0.2
#: variance along an axis, relative to the largest one, that is taken for rounding
_NO_VARIANCE = 1e-10
#: least variance of a component along an axis, relative to the mean of all components
_LEAST_VARIANCE = 1e-3


@dataclass(frozen=True)
class Start:
    """Where a fit starts.

    Attributes
    ----------
    representations : ndarray of shape (N, Q)
    weights : ndarray of shape (K,)
        Of the mixture.
    means, variances : ndarray of shape (K, Q)
    radius : float
        Of the ball in which means lie a priori.
    projection : Projection or None
        The map from rows to principal components, if the representations started there.
    """

    representations: np.ndarray
    weights: np.ndarray
    means: np.ndarray
    variances: np.ndarray
    radius: float = 1.0
    projection: Projection | None = None


def find_start(source: RowSource, parameters: DGDParameters, seed: int) -> Start:
    """The start of a fit to the rows of a source. Their weights count, and the components that they belong to."""
    Z = np.zeros((len(source), parameters.n_components))
    projection = None
    if parameters.latent_init == "pca":
        projection = principal_projection(source, parameters.has_log_link, parameters.n_components)
        Z = padded(projection(source), parameters.n_components)
    return replace(_start_at(Z, source, parameters, seed), projection=projection)


def _start_at(Z: np.ndarray, source: RowSource, parameters: DGDParameters, seed: int) -> Start:
    """The start with representations at positions (N, Q), in any unit."""
    weights, component = source.weights, source.context.component
    if parameters.n_clusters is None:
        return standard_normal_start(Z, weights)
    n_known = 0 if component is None else int(component.max()) + 1
    n_free = _n_free(parameters.n_clusters, n_known, component)
    how = parameters.mixture_init or _default_mixture_init(component, parameters.latent_init)
    if how == "softball":
        return softball_start(Z, weights, n_known + n_free, parameters.softball, seed)

    def mixture_among(rows: np.ndarray | slice) -> FoundMixture:
        return mixture_of(how, Z[rows], weights[rows], n_free, parameters.n_init, parameters.may_be_empty, seed)

    if component is None:
        found = mixture_among(slice(None))
    else:
        found = supervised_mixture(Z, weights, component, mixture_among(component < 0) if n_free else None)
    start = fitted_start(Z, found)
    return replace(start, radius=parameters.softball_scale * start.radius)


def _n_free(n_clusters: int, n_known: int, component: np.ndarray | None) -> int:
    """Number of components that belong to no class: those left for samples of unknown class, if there are any."""
    if component is None:
        return n_clusters
    return max(0, n_clusters - n_known) if (component < 0).any() else 0


def _default_mixture_init(component: np.ndarray | None, latent_init: str) -> str:
    """The ``mixture_init`` that None stands for."""
    # Narrow components at random places keep classes apart that overlap in the data. But they give samples of unknown
    # class no way to find the right component.
    all_known = component is not None and bool((component >= 0).all())
    return "softball" if all_known or latent_init == "zero" else "gmm"


# ---- representations ------------------------------------------------------------------------------------------------


def padded(scores: np.ndarray, n_components: int) -> np.ndarray:
    """Scores (N, C), followed by columns of zeros where the latent has more dimensions: (N, Q)."""
    return np.pad(scores, [(0, 0), (0, n_components - scores.shape[1])])


def regressed(projection: Projection, source: RowSource, target: np.ndarray) -> Projection:
    """The projection followed by the linear map that brings its scores closest to a target (N, Q)."""
    root = np.sqrt(source.weights)[:, None]
    scores = np.column_stack([projection(source), np.ones(len(source))])
    solution = np.linalg.lstsq(root * scores, root * target, rcond=None)[0]
    return projection.then(solution[:-1], solution[-1])


# ---- mixtures -------------------------------------------------------------------------------------------------------


def standard_normal_start(Z: np.ndarray, weights: np.ndarray) -> Start:
    """One fixed component, N(0, I), and the representations in its units: their largest sd is 1."""
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
    """Representations and the mixture that was fitted to them, in units of its components' sds.

    In these units, the ball in which means lie has the radius that it has in :func:`softball_start`, or that of the
    farthest mean.
    """
    # Axes along which samples differ by rounding alone are treated as constant.
    known = found.variances.max(0) > _NO_VARIANCE * found.variances.max()
    variances = _filled(found.variances, known)
    unit = np.sqrt(found.weights @ variances.mean(1))
    means = np.where(known, found.means, 0) / unit
    radius = max(len(means) / _SOFTBALL_SD, float(np.sqrt((means**2).sum(1).max())))
    return Start(np.where(known, Z, 0) / unit, found.weights, means, variances / unit**2, radius)


def _filled(variances: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Variances (K, Q), with the mean of the known ones along axes that the samples say nothing about."""
    if not known.any():
        return np.ones_like(variances)
    filled = np.where(known, variances, variances[:, known].mean())
    # A component of copies of one sample has no variance of its own.
    return np.maximum(filled, _LEAST_VARIANCE * filled.mean(0))


def mixture_of(
    how: str, Z: np.ndarray, weights: np.ndarray, n_clusters: int, n_init: int, may_be_empty: bool, seed: int
) -> FoundMixture:
    """A mixture found for representations (N, Q), by ``"gmm"`` or ``"kmeans"``."""
    if how == "gmm":
        return search_mixture(Z, weights, n_clusters, n_init=n_init, may_be_empty=may_be_empty, seed=seed)
    return kmeans_mixture(Z, weights, n_clusters, n_init=n_init, seed=seed)


def supervised_mixture(
    Z: np.ndarray, weights: np.ndarray, component: np.ndarray, free: FoundMixture | None
) -> FoundMixture:
    """A component for each class 0, 1, ..., followed by those found among samples of unknown class (-1)."""
    known = component >= 0
    n_known = int(component.max()) + 1
    n_free = 0 if free is None else free.n_components
    responsibilities = np.zeros((len(Z), n_known + n_free))
    responsibilities[known, component[known]] = 1
    if free is not None:
        responsibilities[~known, n_known:] = free.responsibilities
    used = responsibilities.sum(1) > 0
    w, means, variances, _ = moments(Z[used], weights[used], responsibilities[used])
    return FoundMixture(w, means, variances, responsibilities, np.nan)


# ---- the decoder ----------------------------------------------------------------------------------------------------


def column_moments(source: RowSource) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of every column of the normalised table over its observed entries, (D,) each, in float64."""
    weights = source.weights
    n, total, squares = (torch.zeros(source.n_features, dtype=torch.float64) for _ in range(3))
    for index, rows in source.normalized().to(torch.float64).chunks(width=source.n_features):
        w, values = torch.from_numpy(weights[index])[:, None], rows.dense().values.cpu()
        observed = torch.ones_like(values) if rows.observed is None else rows.observed.cpu()
        n, total, squares = n + (w * observed).sum(0), total + (w * values).sum(0), squares + (w * values**2).sum(0)
    mean = total / n
    return mean, (squares / n - mean**2).clamp(min=0)
