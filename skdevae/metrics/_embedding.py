"""How good an embedding is: which latent units are in use, how compact it is, and whether it keeps classes apart.

Measures are functions of an array, ``Z``, of samples by latent units. Scorers, ``scorer(estimator, X, y=None)``, apply
them to what a fitted estimator makes of X; in all of them greater is better. They are re-exported by
:mod:`skdevae.metrics`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import silhouette_score
from sklearn.utils import check_array

from ._steps import flat_steps

#: Spread of a unit, as a share of its largest value, that may be rounding: single precision rounds to 1e-7.
_ROUNDING = 1e-6
#: Share of the variance by which sums of shares may miss what they stand for.
_SLACK = 1e-12
#: Nodes of the Gauss-Hermite rule for expectations under one unit's posterior.
_HERMITE_NODES = 32
#: Entries of the largest array (samples, nodes, mixture components) that divergences are computed in.
_CHUNK_ENTRIES = 2**17


# ------------------------------------------------------------------------------------------------ measures of an array


def _check_latent(Z: Any) -> NDArray[np.float64]:
    checked: NDArray[np.float64] = check_array(Z, dtype=np.float64, input_name="Z")
    return checked


def unit_activity(Z: ArrayLike) -> NDArray[np.float64]:
    """Variance of every latent unit's posterior mean over the samples.

    A unit that tells samples apart has posterior means that differ. Where the posterior has collapsed to the prior, all
    of them are the same, and the activity is zero.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_units)
        Posterior means: what ``transform`` returns.

    Returns
    -------
    activity : ndarray of shape (n_units,)
        The diagonal of :func:`latent_covariance`. In units of the prior's variance where `Z` comes from one of this
        package's estimators.

    See Also
    --------
    active_units : How many units are active.
    latent_divergence : The other sign of a unit in use: how far its posteriors are from the prior.

    References
    ----------
    Burda, Y., Grosse, R. and Salakhutdinov, R. (2016). "Importance Weighted Autoencoders". ICLR.

    Examples
    --------
    >>> from skdevae.metrics import unit_activity
    >>> unit_activity([[-1.0, 0.1], [1.0, 0.1], [-1.0, 0.1], [1.0, 0.1]])
    array([1., 0.])
    """
    activity: NDArray[np.float64] = _check_latent(Z).var(axis=0)
    return activity


def active_units(Z: ArrayLike, *, threshold: float = 0.01) -> int:
    """Count the latent units whose posterior mean varies over the samples.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_units)
        Posterior means: what ``transform`` returns.

    threshold : float, default=0.01
        A unit is active if its :func:`unit_activity` is above this. The default is that of the papers and presumes a
        prior with a variance of about one.

    Returns
    -------
    n_active : int
        Between 0 and the number of units.

    Raises
    ------
    ValueError
        If `threshold` is negative, or `Z` is not a table of finite numbers.

    See Also
    --------
    active_units_scorer : The same as a scorer.

    References
    ----------
    Burda, Y., Grosse, R. and Salakhutdinov, R. (2016). "Importance Weighted Autoencoders". ICLR.

    "Variational autoencoders with flexible priors enable robust distribution learning on single-cell RNA sequencing
    data". Equation 2 and Table 1.

    Examples
    --------
    >>> from skdevae.metrics import active_units
    >>> Z = [[-1.0, 0.1, 0.0], [1.0, 0.1, 0.1], [-1.0, 0.1, 0.0], [1.0, 0.1, 0.1]]
    >>> active_units(Z)
    1
    >>> active_units(Z, threshold=0.001)
    2
    """
    if not threshold >= 0:
        raise ValueError(
            f"threshold={threshold!r}, but activities are variances: give a number that is not negative, such as 0.01."
        )
    return int((unit_activity(Z) > threshold).sum())


def latent_covariance(Z: ArrayLike) -> NDArray[np.float64]:
    """Covariance of the latent units' posterior means over the samples.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_units)
        Posterior means: what ``transform`` returns.

    Returns
    -------
    covariance : ndarray of shape (n_units, n_units)
        Of these samples as they are: sums of products divided by `n_samples`, not by one less.

    See Also
    --------
    mean_absolute_correlation : One number for all that is off the diagonal.

    References
    ----------
    "Variational autoencoders with flexible priors enable robust distribution learning on single-cell RNA sequencing
    data". Figure 2.

    Examples
    --------
    >>> from skdevae.metrics import latent_covariance
    >>> latent_covariance([[-1.0, 2.0], [1.0, -2.0]])
    array([[ 1., -2.],
           [-2.,  4.]])
    """
    latent = _check_latent(Z)
    centred = latent - latent.mean(axis=0)
    covariance: NDArray[np.float64] = centred.T @ centred / len(latent)
    return covariance


def mean_absolute_correlation(Z: ArrayLike) -> float:
    """Mean absolute correlation between different latent units.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_units)
        Posterior means: what ``transform`` returns.

    Returns
    -------
    correlation : float
        Between 0 and 1: the mean over all pairs of units. A unit that does not vary (beyond a millionth of its size,
        which may be rounding) has no correlation and counts as uncorrelated with all others; a single unit gives 0.

    See Also
    --------
    latent_covariance : The matrix behind it.
    latent_correlation_scorer : The same as a scorer.

    Examples
    --------
    >>> from skdevae.metrics import mean_absolute_correlation
    >>> mean_absolute_correlation([[-1.0, 2.0], [1.0, -2.0], [-1.0, 2.0], [1.0, -2.0]])
    1.0
    >>> mean_absolute_correlation([[-1.0, 2.0], [1.0, 2.0], [-1.0, -2.0], [1.0, -2.0]])
    0.0
    """
    latent = _check_latent(Z)
    n_units = latent.shape[1]
    if n_units < 2:
        return 0.0
    # Columns of the same size, before products of tiny numbers underflow and those of huge ones overflow.
    size = np.abs(latent).max(axis=0)
    scaled = latent / np.where(size > 0, size, 1.0)
    centred = scaled - scaled.mean(axis=0)
    sd = np.sqrt((centred**2).mean(axis=0))
    standardised = np.divide(centred, sd, out=np.zeros_like(centred), where=sd > _ROUNDING)
    correlations = np.abs(standardised.T @ standardised / len(latent))
    pairs = np.minimum(correlations[np.triu_indices(n_units, k=1)], 1.0)
    return float(pairs.mean())


def n_principal_components(Z: ArrayLike, *, explained_variance: float = 0.95) -> int:
    """Least number of principal components that explain a share of the latent variance.

    Of two embeddings that serve a purpose equally well, the more compact one needs fewer components. An embedding that
    has collapsed needs fewer still: look at it together with what the embedding is good for.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_units)
        Posterior means: what ``transform`` returns.

    explained_variance : float, default=0.95
        The share, above 0 and up to 1.

    Returns
    -------
    n_components : int
        Between 1 and the number of units; 0 if no unit varies.

    Raises
    ------
    ValueError
        If `explained_variance` is not a share, or `Z` is not a table of finite numbers.

    See Also
    --------
    neg_n_principal_components_scorer : The same as a scorer.

    References
    ----------
    "Variational autoencoders with flexible priors enable robust distribution learning on single-cell RNA sequencing
    data". Table 1.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skdevae.metrics import n_principal_components
    >>> Z = load_iris().data
    >>> n_principal_components(Z), n_principal_components(Z, explained_variance=0.9)
    (2, 1)
    """
    if not 0 < explained_variance <= 1:
        raise ValueError(
            f"explained_variance={explained_variance!r} is not a share of the variance: give a number above 0 and up "
            "to 1, such as 0.95."
        )
    latent = _check_latent(Z)
    varies = latent.std(axis=0) > _ROUNDING * np.abs(latent).max(axis=0)
    if not varies.any():
        return 0
    kept = latent[:, varies]
    variances = np.linalg.svd(kept - kept.mean(axis=0), compute_uv=False) ** 2
    shares = np.cumsum(variances) / variances.sum()
    return int(np.argmax(shares >= explained_variance - _SLACK)) + 1


# ------------------------------------------------------------------------------------- from an estimator to its latent


def _embedding(estimator: Any, X: Any) -> Any:
    if not hasattr(estimator, "transform"):
        raise ValueError(
            f"{type(estimator).__name__} has no transform, so there is no embedding to judge. Score a transformer "
            "(such as VAETransformer or PCA), a Pipeline that ends in one, or a search over one with refit=True."
        )
    return estimator.transform(X)


def _model_and_input(estimator: Any, X: Any, method: str) -> tuple[Any, Any]:
    """Find the step that has a method, and transform X by the steps before it."""
    steps = [step for _, step in flat_steps(type(estimator).__name__, estimator)]
    for position, step in enumerate(steps):
        if hasattr(step, method):
            for earlier in steps[:position]:
                X = earlier.transform(X)
            return step, X
    raise ValueError(
        f"Found no fitted estimator with {method} in {type(estimator).__name__}. It must be the estimator itself, a "
        "step of a Pipeline, or the best estimator of a search with refit=True; and it must be a generative model, "
        "such as VAETransformer."
    )


# ----------------------------------------------------------------------------------------------- divergence from prior


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
        # log(2 pi) / 2 is left out of both densities. The posterior's expected log is known without a rule.
        divergence[chunk] = -0.5 - np.log(sd[chunk]) - log_prior @ node_weights
    return divergence


def latent_divergence(estimator: Any, X: Any) -> NDArray[np.float64]:
    """Divergence of every latent unit's posteriors from its prior, KL(q(z_d | x) || p(z_d)), averaged over samples.

    It is zero for a unit that has collapsed, as :func:`unit_activity` is; but it has the same meaning under every
    prior, and it also sees posteriors that are narrower than the prior though their means are the same.

    Parameters
    ----------
    estimator : estimator
        A fitted estimator with ``posterior``, such as ``VAETransformer``, or a Pipeline or search that holds one.

    X : array-like of shape (n_samples, n_features)
        The rows to average over, in the form that `estimator` takes.

    Returns
    -------
    divergence : ndarray of shape (n_units,)
        In nats.

    Raises
    ------
    ValueError
        If the estimator has no ``posterior``, or is fitted with a ``posterior_family`` other than "normal", which has
        no marginals in closed form, or if its posteriors are points.

    Notes
    -----
    q(z_d | x) is the Gaussian with the mean and the sd of ``estimator.posterior(X)``. The prior of a unit is the
    marginal of ``estimator.prior_mixture_`` (a Gaussian mixture: `weights` (K,), `means` and `sds` (K, n_units)) or,
    without that attribute, standard normal. The divergence from a standard normal has a closed form. The expected log
    density of a mixture is computed by Gauss-Hermite quadrature with 32 nodes: exact for one component, and less so the
    narrower the components are beside the posteriors.

    A sum over units is the divergence of the whole latent only where the prior's units are independent, which those of
    a mixture are not.

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
    model, X = _model_and_input(estimator, X, "posterior")
    config = getattr(model, "_config", {})  # of the fit: a parameter may have another value by now
    family = config.get("posterior_family", {}).get("name", "normal")
    if family != "normal":
        raise ValueError(
            f"{type(model).__name__} has posterior_family={family!r}, whose marginals have no closed form, so the "
            "divergence of a single unit cannot be computed. Fit with posterior_family='normal', or judge units by "
            "unit_activity(estimator.transform(X))."
        )
    posterior = model.posterior(X)
    mean, sd = (np.asarray(field, dtype=np.float64) for field in (posterior.mean, posterior.sd))
    if not (sd > 0).all():
        raise ValueError(
            f"{type(model).__name__}.posterior gave sds that are not positive: a posterior that is a point, as a plain "
            "autoencoder's, is infinitely far from every prior. Judge its units by "
            "unit_activity(estimator.transform(X))."
        )
    prior = getattr(model, "prior_mixture_", None)
    if prior is None:
        from_normal: NDArray[np.float64] = (0.5 * (mean**2 + sd**2 - 1) - np.log(sd)).mean(axis=0)
        return from_normal
    weights, means, sds = (np.asarray(part, dtype=np.float64) for part in (prior.weights, prior.means, prior.sds))
    # Learned weights may underflow, and the logarithm of zero would be a warning.
    present = weights > 0
    weights, means, sds = weights[present], means[present], sds[present]
    units = zip(mean.T, sd.T, means.T, sds.T, strict=True)
    return np.array([_mixture_divergence(m, s, weights, means_k, sds_k).mean() for m, s, means_k, sds_k in units])


# -------------------------------------------------------------------------------------------------------------- scorers


def active_units_scorer(estimator: Any, X: Any, y: Any = None, *, threshold: float = 0.01) -> float:
    """Score an embedding by its number of active latent units.

    Parameters
    ----------
    estimator : estimator
        A fitted transformer, a Pipeline that ends in one, or a search over one.

    X : array-like of shape (n_samples, n_features)
        The rows to embed, in the form that `estimator` takes.

    y : None
        Ignored.

    threshold : float, default=0.01
        See :func:`active_units`. As `scoring`, another one is
        ``functools.partial(active_units_scorer, threshold=0.1)``.

    Returns
    -------
    score : float
        ``active_units(estimator.transform(X))``; greater is better.

    Raises
    ------
    ValueError
        If `estimator` has no ``transform``, or `threshold` is negative.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from skdevae.metrics import active_units_scorer
    >>> X = load_iris().data
    >>> active_units_scorer(PCA().fit(X), X)
    4.0
    """
    return float(active_units(_embedding(estimator, X), threshold=threshold))


def neg_n_principal_components_scorer(
    estimator: Any, X: Any, y: Any = None, *, explained_variance: float = 0.95
) -> float:
    """Score an embedding by how few principal components explain its variance.

    An embedding that does not vary at all has the best score, 0: use it beside a score of what the embedding is good
    for.

    Parameters
    ----------
    estimator : estimator
        A fitted transformer, a Pipeline that ends in one, or a search over one.

    X : array-like of shape (n_samples, n_features)
        The rows to embed, in the form that `estimator` takes.

    y : None
        Ignored.

    explained_variance : float, default=0.95
        See :func:`n_principal_components`. As `scoring`, another one is
        ``functools.partial(neg_n_principal_components_scorer, explained_variance=0.9)``.

    Returns
    -------
    score : float
        ``-n_principal_components(estimator.transform(X))``; greater is better.

    Raises
    ------
    ValueError
        If `estimator` has no ``transform``, or `explained_variance` is not a share.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from skdevae.metrics import neg_n_principal_components_scorer
    >>> X = load_iris().data
    >>> neg_n_principal_components_scorer(PCA().fit(X), X)
    -2.0
    """
    return -float(n_principal_components(_embedding(estimator, X), explained_variance=explained_variance))


def latent_correlation_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Score an embedding by the mean absolute correlation between its latent units.

    The paper takes units that vary together for a sign that the embedding is compact. Who wants units that are
    independent of each other should look for small scores.

    Parameters
    ----------
    estimator : estimator
        A fitted transformer, a Pipeline that ends in one, or a search over one.

    X : array-like of shape (n_samples, n_features)
        The rows to embed, in the form that `estimator` takes.

    y : None
        Ignored.

    Returns
    -------
    score : float
        ``mean_absolute_correlation(estimator.transform(X))``, between 0 and 1; greater is better.

    Raises
    ------
    ValueError
        If `estimator` has no ``transform``.

    References
    ----------
    "Variational autoencoders with flexible priors enable robust distribution learning on single-cell RNA sequencing
    data". Section 3.4.

    Examples
    --------
    Principal components are uncorrelated, the standardised measurements themselves are not:

    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skdevae.metrics import latent_correlation_scorer
    >>> X = load_iris().data
    >>> round(latent_correlation_scorer(PCA().fit(X), X), 2)
    0.0
    >>> round(latent_correlation_scorer(StandardScaler().fit(X), X), 2)
    0.59
    """
    return mean_absolute_correlation(_embedding(estimator, X))


def silhouette_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Score an embedding by how well it keeps known classes of samples apart: the average silhouette width.

    Parameters
    ----------
    estimator : estimator
        A fitted transformer, a Pipeline that ends in one, or a search over one.

    X : array-like of shape (n_samples, n_features)
        The rows to embed, in the form that `estimator` takes.

    y : array-like of shape (n_samples,)
        The class of each sample, such as its cell type. Needed, though it has a default as in every scorer: a search or
        cross-validation that is given `y` hands it on.

    Returns
    -------
    score : float
        :func:`sklearn.metrics.silhouette_score` of ``estimator.transform(X)`` and `y`, between -1 and 1; greater is
        better.

    Raises
    ------
    ValueError
        If `y` is None, lacks the label of a sample, or has fewer than two classes, or if `estimator` has no
        ``transform``.

    References
    ----------
    Rousseeuw, P. J. (1987). "Silhouettes: a graphical aid to the interpretation and validation of cluster analysis".
    Journal of Computational and Applied Mathematics 20.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from skdevae.metrics import silhouette_scorer
    >>> X, y = load_iris(return_X_y=True)
    >>> round(silhouette_scorer(PCA(2).fit(X), X, y), 2)
    0.53
    """
    if y is None:
        raise ValueError(
            "silhouette_scorer was given no y: it needs the class of each sample. Pass labels as y to fit of the "
            "search, or to cross_validate."
        )
    labels = np.asarray(y)
    if labels.ndim != 1:
        raise ValueError(
            f"silhouette_scorer was given y of shape {labels.shape}: it needs one label for each sample, in one "
            "dimension."
        )
    codes, classes = pd.factorize(labels)
    if (codes < 0).any():
        raise ValueError(
            f"silhouette_scorer was given y without the label of {int((codes < 0).sum())} of {len(codes)} samples: "
            "leave those samples out."
        )
    if len(classes) < 2:
        raise ValueError(
            f"silhouette_scorer was given y with {len(classes)} class, but needs two or more to tell apart. In "
            "cross-validation use StratifiedKFold(shuffle=True), so that every fold has all classes."
        )
    return float(silhouette_score(_embedding(estimator, X), codes))


def neg_reconstruction_loss_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Score a generative model by how well it reconstructs rows from their posterior means.

    Not the likelihood of held-out rows, which is ``estimator.score(X)``: each row's latent has seen the row, so a
    latent with more dimensions tends to score better whether or not it is needed.

    Parameters
    ----------
    estimator : estimator
        A fitted estimator with ``conditional_log_likelihood``, such as ``VAETransformer``, or a Pipeline or search that
        holds one.

    X : array-like of shape (n_samples, n_features)
        The rows to reconstruct, in the form that `estimator` takes. In a Pipeline, what the earlier steps make of them
        is what is reconstructed; so scores compare only between pipelines with the same earlier steps.

    y : None
        Ignored.

    Returns
    -------
    score : float
        Mean over samples of log p(x | z) at the posterior mean of z, in nats; greater is better. The paper's
        reconstruction loss is the negative of its sum over samples.

    Raises
    ------
    ValueError
        If `estimator` holds no estimator with ``conditional_log_likelihood``.

    References
    ----------
    "Variational autoencoders with flexible priors enable robust distribution learning on single-cell RNA sequencing
    data". Equation 1.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skdevae import VAETransformer
    >>> from skdevae.metrics import neg_reconstruction_loss_scorer
    >>> X = load_iris().data
    >>> vae = VAETransformer(n_components=2, max_epochs=20, random_state=0).fit(X)
    >>> neg_reconstruction_loss_scorer(vae, X) > vae.score(X)
    True
    """
    model, X = _model_and_input(estimator, X, "conditional_log_likelihood")
    return float(model.conditional_log_likelihood(X))
