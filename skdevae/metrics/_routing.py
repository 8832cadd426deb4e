"""Scorers that ask for facts of rows: scikit-learn's metadata routing passes a scorer what it has asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sklearn.utils.metadata_routing import MetadataRequest


class RequestingScorer:
    """Scorer that asks for facts of rows, such as size factors, and passes them on to the estimator.

    Use :func:`requesting_scorer` to build one.

    Parameters
    ----------
    scorer : callable
        Called as ``scorer(estimator, X, y, **facts)``.

    names : tuple of str
        Names of the facts.

    Examples
    --------
    >>> from skdevae.metrics import RequestingScorer, active_units_scorer
    >>> RequestingScorer(active_units_scorer, ("size_factors",))
    RequestingScorer(active_units_scorer, 'size_factors')
    """

    def __init__(self, scorer: Callable[..., float], names: tuple[str, ...]) -> None:
        self._scorer = scorer
        self._names = names

    def __repr__(self) -> str:
        scorer = getattr(self._scorer, "__name__", repr(self._scorer))
        return f"{type(self).__name__}({', '.join([scorer, *map(repr, self._names)])})"

    def __call__(self, estimator: Any, X: Any, y: Any = None, **facts: Any) -> float:
        """Score a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            As for the scorer inside.

        X : array-like of shape (n_samples, n_features)
            As for the scorer inside.

        y : array-like of shape (n_samples,), default=None
            As for the scorer inside.

        **facts
            Facts of the rows of X, passed on to the scorer inside.

        Returns
        -------
        score : float
            Greater is better.
        """
        return self._scorer(estimator, X, y, **facts)

    def get_metadata_routing(self) -> MetadataRequest:
        """Which facts are asked for, as scikit-learn's metadata routing asks.

        Returns
        -------
        requests : MetadataRequest
            All facts, for the method ``score``.

        Examples
        --------
        >>> from skdevae.metrics import RequestingScorer, active_units_scorer
        >>> RequestingScorer(active_units_scorer, ("size_factors",)).get_metadata_routing()
        {'score': {'size_factors': True}}
        """
        requests = MetadataRequest(owner=self)
        for name in self._names:
            requests.score.add_request(param=name, alias=True)
        return requests


def requesting_scorer(scorer: Callable[..., float], *names: str) -> RequestingScorer:
    """Make a scorer that asks for facts of rows, so that searches and cross-validation slice them and pass them on.

    With ``sklearn.set_config(enable_metadata_routing=True)``, pass it as `scoring`, and the facts as ``params`` of
    :func:`~sklearn.model_selection.cross_validate` or to the search's ``fit``.

    Parameters
    ----------
    scorer : callable
        A scorer of this module, or any that is called as ``scorer(estimator, X, y, **facts)``.

    *names : str
        Names of the facts, such as ``"size_factors"``.

    Returns
    -------
    scorer : RequestingScorer
        Callable as ``scorer(estimator, X, y=None, **facts)``.

    Examples
    --------
    >>> import numpy as np
    >>> import sklearn
    >>> from sklearn.model_selection import cross_validate
    >>> from skdevae import VAETransformer
    >>> from skdevae.datasets import make_progression_counts
    >>> from skdevae.metrics import active_units_scorer, requesting_scorer
    >>> counts = make_progression_counts(60, 10, random_state=0).data
    >>> sizes = counts.sum(1) + 1.0
    >>> with sklearn.config_context(enable_metadata_routing=True):
    ...     vae = VAETransformer(2, likelihood="nb", max_epochs=2, random_state=0).set_fit_request(size_factors=True)
    ...     scorer = requesting_scorer(active_units_scorer, "size_factors")
    ...     scores = cross_validate(vae, counts, scoring=scorer, params={"size_factors": sizes}, cv=2)
    >>> scores["test_score"].shape
    (2,)
    """
    return RequestingScorer(scorer, names)
