"""Latent divergence: how far the posteriors of each latent unit are from its prior."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._pipelines import model_and_input

#: nodes of the Gauss-Hermite rule that integrates over the posterior of one unit
_HERMITE_NODES = 32
#: most entries that an array of samples by nodes by mixture components has at a time
_CHUNK_ENTRIES = 2**17


def latent_divergence(estimator: Any, X: Any, **facts: Any) -> NDArray[np.float64]:
    """Divergence of every latent unit's posteriors from its prior, KL(q(z_d | x) || p(z_d)), averaged over samples.

    It is zero for a unit whose posteriors have collapsed to the prior, as :func:`unit_activity` is. Unlike that, it
    means the same under every prior, and it counts a unit as used if its posteriors are narrower than the prior, even
    if all of them have the same mean.

    Parameters
    ----------
    estimator : estimator
        A fitted estimator with ``posterior``, such as ``VAETransformer``, or a Pipeline or search that holds one.

    X : array-like of shape (n_samples, n_features)
        The rows to average over, in the form that `estimator` takes.

    **facts
        What the estimator asks of the rows of X, such as ``size_factors``: passed on to its ``posterior``.

    Returns
    -------
    divergence : ndarray of shape (n_units,)
        In nats.

    Raises
    ------
    ValueError
        If the estimator has no ``posterior``; if its posteriors are not Gaussian (it was fitted with a
        ``posterior_family`` other than "normal"), because the distribution of a single unit then has no closed form;
        or if its posteriors are single points.

    Notes
    -----
    q(z_d | x) is the Gaussian with the mean and the sd of ``estimator.posterior(X)``. The prior of a unit is its
    marginal in ``estimator.prior_mixture_`` (a Gaussian mixture: `weights` (K,), `means` and `sds` (K, n_units)), or
    standard normal if the estimator has no such attribute. The divergence from a standard normal has a closed form. The
    expected log density of a mixture is computed by Gauss-Hermite quadrature with 32 nodes. This is exact for one
    component. With several, the error grows as the components become narrow compared with the posteriors.

    The sum over units is the divergence of the whole latent only if the units are independent in the prior. In a
    mixture they are not.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skdevae import VAETransformer
    >>> from skdevae.metrics import latent_divergence
    >>> X = load_iris().data
    >>> vae = VAETransformer(n_components=2, max_epochs=20, random_state=0).fit(X)
    >>> bool((latent_divergence(vae, X) > 0.1).all())
    True
    """
    model, X = model_and_input(estimator, X, "posterior")
    mean, sd = _gaussian_posteriors(model, X, facts)
    prior = getattr(model, "prior_mixture_", None)
    if prior is None:
        from_normal: NDArray[np.float64] = (0.5 * (mean**2 + sd**2 - 1) - np.log(sd)).mean(axis=0)
        return from_normal
    weights, means, sds = (np.asarray(part, dtype=np.float64) for part in (prior.weights, prior.means, prior.sds))
    # Learned weights may underflow to zero, and the logarithm of zero would warn.
    present = weights > 0
    weights, means, sds = weights[present], means[present], sds[present]
    units = zip(mean.T, sd.T, means.T, sds.T, strict=True)
    return np.array([_mixture_divergence(m, s, weights, means_k, sds_k).mean() for m, s, means_k, sds_k in units])


def _gaussian_posteriors(model: Any, X: Any, facts: dict[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means and sds of a model's posteriors, (N, Q) each, if these are Gaussians."""
    # The trained module knows what was fitted. A parameter of the estimator may have been set for the next fit since.
    family = getattr(getattr(model, "module_", None), "posterior_family", None)
    if not getattr(family, "is_gaussian", True):
        raise ValueError(
            f"The posteriors of this {type(model).__name__} are not Gaussian ({type(family).__name__}), so the "
            "distribution of a single unit has no closed form, and its divergence cannot be computed. Fit with "
            "posterior_family='normal', or judge units by unit_activity(estimator.transform(X))."
        )
    posterior = model.posterior(X, **facts)
    mean, sd = (np.asarray(field, dtype=np.float64) for field in (posterior.mean, posterior.sd))
    if not (sd > 0).all():
        raise ValueError(
            f"{type(model).__name__}.posterior gave sds that are not positive: a posterior that is a single point, "
            "such as that of a plain autoencoder, is infinitely far from every prior. Judge the units by "
            "unit_activity(estimator.transform(X))."
        )
    return mean, sd


def _mixture_divergence(
    mean: NDArray[np.float64],
    sd: NDArray[np.float64],
    weights: NDArray[np.float64],
    means: NDArray[np.float64],
    sds: NDArray[np.float64],
) -> NDArray[np.float64]:
    """KL(N(mean, sd^2) || sum_k weights_k N(means_k, sds_k^2)) in nats, for each of N posteriors of one unit."""
    nodes, node_weights = np.polynomial.hermite_e.hermegauss(_HERMITE_NODES)
    node_weights = node_weights / math.sqrt(2 * math.pi)
    log_scale = np.log(weights) - np.log(sds)
    divergence = np.empty(len(mean))
    rows = max(1, _CHUNK_ENTRIES // (_HERMITE_NODES * len(weights)))
    for start in range(0, len(mean), rows):
        chunk = slice(start, start + rows)
        points = mean[chunk, None] + sd[chunk, None] * nodes
        log_joint = log_scale - 0.5 * ((points[:, :, None] - means) / sds) ** 2
        top = log_joint.max(axis=2)
        log_prior = top + np.log(np.exp(log_joint - top[:, :, None]).sum(axis=2))
        # Both log densities lack the same log(2 pi) / 2. The posterior's own expected log density has a closed form.
        divergence[chunk] = -0.5 - np.log(sd[chunk]) - log_prior @ node_weights
    return divergence
