"""Embedding measures: how many latent units are in use, how they are correlated, and how compact an embedding is.

All of them are functions of one array ``Z`` of samples by latent units.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array

#: spread of a unit, relative to its largest value, that may be rounding alone: single precision rounds to 1e-7
_ROUNDING = 1e-6
#: by how much a sum of shares of the variance may fall short because of rounding
_SLACK = 1e-12


def unit_activity(Z: ArrayLike) -> NDArray[np.float64]:
    """Variance of every latent unit's posterior mean over the samples.

    A unit is in use if its posterior means differ between samples. If its posteriors have collapsed to the prior, all
    means are the same, and the activity is zero.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_units)
        Posterior means: what ``transform`` returns.

    Returns
    -------
    activity : ndarray of shape (n_units,)
        The diagonal of :func:`latent_covariance`. If `Z` comes from an estimator of this package, the unit is the
        variance of the prior.

    See Also
    --------
    active_units : How many units are active.
    latent_divergence : Another measure of use: how far the posteriors of a unit are from its prior.

    References
    ----------
    Burda, Y., Grosse, R. and Salakhutdinov, R. (2016). "Importance Weighted Autoencoders". ICLR.

    Examples
    --------
    >>> from skdevae.metrics import unit_activity
    >>> unit_activity([[-1.0, 0.1], [1.0, 0.1], [-1.0, 0.1], [1.0, 0.1]])
    array([1., 0.])
    """
    activity: NDArray[np.float64] = _checked(Z).var(axis=0)
    return activity


def active_units(Z: ArrayLike, *, threshold: float = 0.01) -> int:
    """Count the latent units whose posterior mean varies over the samples.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_units)
        Posterior means: what ``transform`` returns.

    threshold : float, default=0.01
        A unit is active if its :func:`unit_activity` is above this. The default is that of the papers. It is meant for
        a prior with a variance of about one.

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
        Covariance within these samples: sums of products are divided by `n_samples`, not by `n_samples` - 1.

    See Also
    --------
    mean_absolute_correlation : A single number for how strongly the units are correlated.

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
    latent = _checked(Z)
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
        Mean over all pairs of units, between 0 and 1; 0 if there is only one unit. A unit that does not vary has no
        correlation and counts as uncorrelated with all others. Differences smaller than a millionth of the unit's
        largest value may be rounding and do not count as variation.

    See Also
    --------
    latent_covariance : The covariance matrix of the units.
    latent_correlation_scorer : The same as a scorer.

    Examples
    --------
    >>> from skdevae.metrics import mean_absolute_correlation
    >>> mean_absolute_correlation([[-1.0, 2.0], [1.0, -2.0], [-1.0, 2.0], [1.0, -2.0]])
    1.0
    >>> mean_absolute_correlation([[-1.0, 2.0], [1.0, 2.0], [-1.0, -2.0], [1.0, -2.0]])
    0.0
    """
    latent = _checked(Z)
    n_units = latent.shape[1]
    if n_units < 2:
        return 0.0
    # Bring columns to the same size first: products of tiny numbers would underflow, those of huge ones overflow.
    size = np.abs(latent).max(axis=0)
    scaled = latent / np.where(size > 0, size, 1.0)
    centred = scaled - scaled.mean(axis=0)
    sd = np.sqrt((centred**2).mean(axis=0))
    standardised = np.divide(centred, sd, out=np.zeros_like(centred), where=sd > _ROUNDING)
    correlations = np.abs(standardised.T @ standardised / len(latent))
    pairs = np.minimum(correlations[np.triu_indices(n_units, k=1)], 1.0)
    return float(pairs.mean())


def n_principal_components(Z: ArrayLike, *, explained_variance: float = 0.95) -> int:
    """Smallest number of principal components that explain a given share of the latent variance.

    Of two embeddings that serve a purpose equally well, the one that needs fewer components is the more compact. An
    embedding that has collapsed needs very few, too: look at this number together with what the embedding is good for.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_units)
        Posterior means: what ``transform`` returns.

    explained_variance : float, default=0.95
        Share of the variance to explain: above 0, at most 1.

    Returns
    -------
    n_components : int
        Between 1 and the number of units; 0 if no unit varies.

    Raises
    ------
    ValueError
        If `explained_variance` is not above 0 and at most 1, or `Z` is not a table of finite numbers.

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
    latent = _checked(Z)
    varies = latent.std(axis=0) > _ROUNDING * np.abs(latent).max(axis=0)
    if not varies.any():
        return 0
    kept = latent[:, varies]
    variances = np.linalg.svd(kept - kept.mean(axis=0), compute_uv=False) ** 2
    shares = np.cumsum(variances) / variances.sum()
    return int(np.argmax(shares >= explained_variance - _SLACK)) + 1


def _checked(Z: Any) -> NDArray[np.float64]:
    checked: NDArray[np.float64] = check_array(Z, dtype=np.float64, input_name="Z")
    return checked
