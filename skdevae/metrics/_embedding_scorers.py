"""Embedding scorers: how good the embedding is that a fitted estimator makes of some rows.

Each is called as ``scorer(estimator, X, y=None)`` and can be given as ``scoring`` to a search or to cross-validation.
In all of them greater is better. What an estimator asks of the rows beside X is passed on to it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import silhouette_score

from ._embedding_measures import active_units, mean_absolute_correlation, n_principal_components
from ._pipelines import model_and_input


def active_units_scorer(estimator: Any, X: Any, y: Any = None, *, threshold: float = 0.01, **facts: Any) -> float:
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
        See :func:`active_units`. To use another threshold as `scoring`, pass
        ``functools.partial(active_units_scorer, threshold=0.1)``.

    **facts
        What the estimator asks of the rows of X, such as ``size_factors``: passed on to its ``transform``.

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
    return float(active_units(_embedding(estimator, X, facts), threshold=threshold))


def neg_n_principal_components_scorer(
    estimator: Any, X: Any, y: Any = None, *, explained_variance: float = 0.95, **facts: Any
) -> float:
    """Score an embedding by how few principal components explain its variance.

    An embedding that does not vary at all has the best score, 0: use this score together with one of what the embedding
    is good for.

    Parameters
    ----------
    estimator : estimator
        A fitted transformer, a Pipeline that ends in one, or a search over one.

    X : array-like of shape (n_samples, n_features)
        The rows to embed, in the form that `estimator` takes.

    y : None
        Ignored.

    explained_variance : float, default=0.95
        See :func:`n_principal_components`. To use another share as `scoring`, pass
        ``functools.partial(neg_n_principal_components_scorer, explained_variance=0.9)``.

    **facts
        What the estimator asks of the rows of X, such as ``size_factors``: passed on to its ``transform``.

    Returns
    -------
    score : float
        ``-n_principal_components(estimator.transform(X))``; greater is better.

    Raises
    ------
    ValueError
        If `estimator` has no ``transform``, or `explained_variance` is not above 0 and at most 1.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from skdevae.metrics import neg_n_principal_components_scorer
    >>> X = load_iris().data
    >>> neg_n_principal_components_scorer(PCA().fit(X), X)
    -2.0
    """
    return -float(n_principal_components(_embedding(estimator, X, facts), explained_variance=explained_variance))


def latent_correlation_scorer(estimator: Any, X: Any, y: Any = None, **facts: Any) -> float:
    """Score an embedding by the mean absolute correlation between its latent units.

    The paper takes correlated units as a sign of a compact embedding, so a larger score counts as better. If you want
    units that are independent of each other, prefer small scores.

    Parameters
    ----------
    estimator : estimator
        A fitted transformer, a Pipeline that ends in one, or a search over one.

    X : array-like of shape (n_samples, n_features)
        The rows to embed, in the form that `estimator` takes.

    y : None
        Ignored.

    **facts
        What the estimator asks of the rows of X, such as ``size_factors``: passed on to its ``transform``.

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
    Principal components are uncorrelated; the standardised measurements are not:

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
    return mean_absolute_correlation(_embedding(estimator, X, facts))


def silhouette_scorer(estimator: Any, X: Any, y: Any = None, **facts: Any) -> float:
    """Score an embedding by how well it keeps known classes of samples apart: the average silhouette width.

    Parameters
    ----------
    estimator : estimator
        A fitted transformer, a Pipeline that ends in one, or a search over one.

    X : array-like of shape (n_samples, n_features)
        The rows to embed, in the form that `estimator` takes.

    y : array-like of shape (n_samples,)
        The class of each sample, such as its cell type. It is required: the default is there because every scorer has
        one. A search or cross-validation that is given `y` passes it on.

    **facts
        What the estimator asks of the rows of X, such as ``size_factors``: passed on to its ``transform``.

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
            "silhouette_scorer was given no y: it needs the class of each sample. Pass the classes as y to the "
            "search's fit, or to cross_validate."
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
            f"silhouette_scorer was given y with {len(classes)} class, but needs two or more. In cross-validation use "
            "StratifiedKFold(shuffle=True), so that every fold has all classes."
        )
    return float(silhouette_score(_embedding(estimator, X, facts), codes))


def neg_reconstruction_loss_scorer(estimator: Any, X: Any, y: Any = None, **facts: Any) -> float:
    """Score a generative model by how well it reconstructs rows from their posterior means.

    This is not the likelihood of held-out rows, which is ``estimator.score(X)``. Each row is reconstructed from a
    latent that was inferred from the row itself, so more latent dimensions tend to give a better score, needed or not.

    Parameters
    ----------
    estimator : estimator
        A fitted estimator with ``conditional_log_likelihood``, such as ``VAETransformer``, or a Pipeline or search that
        holds one.

    X : array-like of shape (n_samples, n_features)
        The rows to reconstruct, in the form that `estimator` takes. In a Pipeline, it is the output of the earlier
        steps that is reconstructed: compare scores only between pipelines with the same earlier steps.

    y : None
        Ignored.

    **facts
        What the estimator asks of the rows of X, such as ``size_factors``: passed on to its
        ``conditional_log_likelihood``.

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
    model, X = model_and_input(estimator, X, "conditional_log_likelihood")
    return float(model.conditional_log_likelihood(X, **facts))


def _embedding(estimator: Any, X: Any, facts: dict[str, Any]) -> Any:
    if not hasattr(estimator, "transform"):
        raise ValueError(
            f"{type(estimator).__name__} has no transform, so there is no embedding to judge. Score a transformer "
            "(such as VAETransformer or PCA), a Pipeline that ends in one, or a search over one with refit=True."
        )
    return estimator.transform(X, **facts)
