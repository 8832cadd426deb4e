"""Posterior: what the data say about the latent of each sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Posterior:
    """Mean, standard deviation and central credible interval of every sample's latent.

    Attributes
    ----------
    mean, sd : ndarray of shape (n_samples, n_components)
        Posterior mean and standard deviation, in units of a standard normal prior's sd; other priors have their own.
    lower, upper : ndarray of shape (n_samples, n_components)
        Ends of the central credible interval.
    beyond_training : ndarray of bool of shape (n_samples,)
        Samples beyond the range of the training samples: what is said of their latents rests on how curves go on.
    """

    mean: np.ndarray
    sd: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    beyond_training: np.ndarray
