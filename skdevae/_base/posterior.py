"""Posterior: what the data say about the latent of each sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Posterior(dict[str, Any]):
    """Mean, standard deviation and central credible interval of every sample's latent.

    It is also a dictionary of columns, so ``pd.DataFrame(posterior)`` is a table with one row for each sample. Its
    columns are "mean", "sd", "lower", "upper" and "beyond_training". With several components they are numbered:
    "mean_0", "mean_1", and so on.

    Attributes
    ----------
    mean, sd : ndarray of shape (n_samples, n_components)
        Posterior mean and standard deviation, in units of a standard normal prior's sd; other priors have their own.
        Data frames where the estimator's ``set_output`` asks for them, and so are `lower` and `upper`.
    lower, upper : ndarray of shape (n_samples, n_components)
        Ends of the central credible interval.
    beyond_training : ndarray of bool of shape (n_samples,)
        Samples beyond the range of the training samples: what is said of their latents rests on how curves go on.
    index : pandas.Index of length n_samples or None, default=None
        Names of the samples, where they were the rows of a data frame.

    Examples
    --------
    >>> import pandas as pd
    >>> from skdevae import DeVAETransformer
    >>> from skdevae.datasets import make_progression
    >>> X = make_progression(40, n_transient=0, n_increasing=3, n_decreasing=3, as_frame=True, random_state=0).data
    >>> posterior = DeVAETransformer(max_epochs=5, random_state=0).fit(X).posterior(X)
    >>> posterior.mean.shape
    (40, 1)
    >>> list(pd.DataFrame(posterior))
    ['mean', 'sd', 'lower', 'upper', 'beyond_training']
    """

    mean: np.ndarray
    sd: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    beyond_training: np.ndarray
    index: pd.Index | None = None

    def __post_init__(self) -> None:
        columns: dict[str, np.ndarray] = {}
        for name in ("mean", "sd", "lower", "upper"):
            components = np.asarray(getattr(self, name)).T
            numbered = [name] if len(components) == 1 else [f"{name}_{q}" for q in range(len(components))]
            columns |= zip(numbered, components, strict=True)
        columns["beyond_training"] = np.asarray(self.beyond_training)
        index = self.index
        self.update(columns if index is None else {name: pd.Series(v, index) for name, v in columns.items()})
