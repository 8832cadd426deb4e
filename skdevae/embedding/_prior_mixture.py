"""Prior mixtures: the components of a fitted prior, as users see them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..nn.priors import GaussianMixture


@dataclass(frozen=True)
class PriorMixture:
    """A prior as a mixture of Gaussians with diagonal covariances.

    Attributes
    ----------
    weights : ndarray of shape (K,)
        Weights of the components. They add up to one.
    means, sds : ndarray of shape (K, n_components)
        Mean and standard deviations of each component.
    """

    weights: np.ndarray
    means: np.ndarray
    sds: np.ndarray

    @classmethod
    def of(cls, mixture: GaussianMixture) -> PriorMixture:
        """The mixture's parameters as arrays."""
        with torch.no_grad():
            parts = mixture.log_weights.exp(), mixture.means, mixture.log_sds.exp()
            return cls(*(part.cpu().numpy() for part in parts))
