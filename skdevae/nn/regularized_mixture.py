"""Regularised mixture: a learned Gaussian mixture p(z | phi), with the priors p(phi) of the DGD paper."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from .priors import GaussianMixture

#: the sds of a component: one for each dimension, one for all dimensions, or one for each that is not learned
COVARIANCE_TYPES = ("diag", "isotropic", "fixed")

#: least weight of a component when the mixture is set, relative to the largest weight
_LEAST_WEIGHT = 1e-12


class Softball:
    """A mollified uniform distribution on a ball around 0: flat inside, and falling at the surface (DGD paper).

    Parameters
    ----------
    n_components : int
        Dimensions m of the space.
    scale, sharpness : float
        Radius of the ball, and how steeply the density falls at its surface.
    """

    def __init__(self, n_components: int, scale: float, sharpness: float):
        self.n_components = n_components
        self.scale = scale
        self.sharpness = sharpness

    def log_density(self, points: Tensor) -> Tensor:
        """``-log V - log(1 + exp(sharpness (|point| / scale - 1)))`` at points (..., m): (...).

        V is the volume of the ball. It normalises the density in the limit of infinite sharpness (DGD paper, equation
        6).
        """
        m = self.n_components
        log_volume = m * (math.log(self.scale) + 0.5 * math.log(math.pi)) - math.lgamma(1 + 0.5 * m)
        # The norm has no gradient at 0: this has.
        norm = (points.square().sum(-1) + torch.finfo(points.dtype).tiny).sqrt()
        log_density: Tensor = -log_volume - softplus(self.sharpness * (norm / self.scale - 1))
        return log_density

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Points (n, m), uniform in the ball.

        A point has a random direction. Its radius is the m-th root of a uniform number, where the DGD paper (equation
        5) has the power m - 1. That power would crowd the points at the centre.
        """
        directions = torch.randn(n, self.n_components, generator=generator)
        radii = self.scale * torch.rand(n, 1, generator=generator) ** (1 / self.n_components)
        points: Tensor = radii * directions / directions.norm(dim=1, keepdim=True)
        return points


class RegularizedMixture(nn.Module):
    """Gaussian components, with a softball prior on means, a Dirichlet on weights and a Gaussian on log variances.

    Before :meth:`set_` all components are standard normal.

    Parameters
    ----------
    n_mixture_components, n_components : int
        K and Q.
    covariance_type : {"diag", "isotropic", "fixed"}
        See :data:`COVARIANCE_TYPES`.
    dirichlet_alpha : float
        Concentration of the symmetric Dirichlet prior on the K weights.
    softball_scale, softball_sharpness : float
        See :class:`Softball`.
    learned : bool
        Whether anything is learned. If not, no parameter has a gradient or a prior.
    """

    def __init__(
        self,
        n_mixture_components: int,
        n_components: int,
        *,
        covariance_type: str,
        dirichlet_alpha: float,
        softball_scale: float,
        softball_sharpness: float,
        learned: bool,
    ):
        super().__init__()
        self.softball = Softball(n_components, softball_scale, softball_sharpness)
        self.dirichlet_alpha = dirichlet_alpha
        self.learned = learned
        n_sds = 1 if covariance_type == "isotropic" else n_components
        self.means = nn.Parameter(torch.zeros(n_mixture_components, n_components), requires_grad=learned)
        self.logits = nn.Parameter(torch.zeros(n_mixture_components), requires_grad=learned)
        self.learns_sds = learned and covariance_type != "fixed"
        self.log_sds = nn.Parameter(torch.zeros(n_mixture_components, n_sds), requires_grad=self.learns_sds)
        # Mean of the Gaussian prior on -log variances.
        self.log_precision_mean = nn.Buffer(torch.zeros(n_mixture_components, n_sds))

    @property
    def log_weights(self) -> Tensor:
        """Log weights of the components, (K,)."""
        return torch.log_softmax(self.logits, 0)

    def mixture(self) -> GaussianMixture:
        """The mixture p(z | phi)."""
        return GaussianMixture(self.log_weights, self.means, self.log_sds.expand_as(self.means))

    def log_prior(self) -> Tensor:
        """log p(phi) of means, weights and log variances together: a scalar."""
        if not self.learned:
            return torch.zeros_like(self.means[0, 0])
        return (
            self.softball.log_density(self.means).sum() + self._log_prior_of_weights() + self._log_prior_of_variances()
        )

    def _log_prior_of_weights(self) -> Tensor:
        k, alpha = len(self.logits), self.dirichlet_alpha
        return (alpha - 1) * self.log_weights.sum() + math.lgamma(k * alpha) - k * math.lgamma(alpha)

    def _log_prior_of_variances(self) -> Tensor:
        if not self.learns_sds:
            return torch.zeros_like(self.means[0, 0])
        deviations = -2 * self.log_sds - self.log_precision_mean
        return -0.5 * deviations.square().sum() - 0.5 * deviations.numel() * math.log(2 * math.pi)

    def set_(self, weights: Tensor, means: Tensor, variances: Tensor) -> None:
        """Set weights (K,), means (K, Q) and variances (K, Q), and centre the prior of the variances at these."""
        with torch.no_grad():
            self.logits.copy_(weights.clamp(min=_LEAST_WEIGHT * float(weights.max())).log())
            self.means.copy_(means)
            log_variances = variances.log()
            if self.log_sds.shape[1] == 1:
                log_variances = variances.mean(1, keepdim=True).log()
            self.log_sds.copy_(0.5 * log_variances)
            self.log_precision_mean.copy_(-log_variances)

    def keep_(self, components: Tensor) -> None:
        """Keep some components, given their numbers, in that order. Drop the others."""
        with torch.no_grad():
            for name in ("means", "logits", "log_sds"):
                parameter = getattr(self, name)
                setattr(self, name, nn.Parameter(parameter[components].clone(), parameter.requires_grad))
            self.log_precision_mean = nn.Buffer(self.log_precision_mean[components].clone())
