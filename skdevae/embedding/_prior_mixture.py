"""A fitted prior, as its users see it."""

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
        Adding up to one.
    means, sds : ndarray of shape (K, n_components)
        Mean and standard deviations of each component.
    """

    weights: np.ndarray
    means: np.ndarray
    sds: np.ndarray

    @classmethod
    def of(cls, mixture: GaussianMixture) -> PriorMixture:
        """From tensors on the CPU."""
        with torch.no_grad():
            return cls(mixture.log_weights.exp().numpy(), mixture.means.numpy(), mixture.log_sds.exp().numpy())
