"""A learned Gaussian mixture with priors on everything that it learns: the DGD paper's p(z | phi) p(phi)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from .priors import GaussianMixture

#: how component covariances are parametrised: an sd for each direction, one for all, or sds that are not learned
COVARIANCE_TYPES = ("diag", "isotropic", "fixed")

#: smallest share, of the largest one, that a learned weight may have
_LEAST_WEIGHT = 1e-12


class Softball:
    """The mollified uniform distribution on a ball around 0: flat inside, falling off at its surface.

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
        """``-log V - log(1 + exp(sharpness (|point| / scale - 1)))`` of points (..., m): (...). DGD paper, eq. 6.

        V is the volume of the ball, by which the density is normalised in the limit of infinite sharpness.
        """
        m = self.n_components
        log_volume = m * (math.log(self.scale) + 0.5 * math.log(math.pi)) - math.lgamma(1 + 0.5 * m)
        # The norm with a gradient at 0, where it has none.
        norm = (points.square().sum(-1) + torch.finfo(points.dtype).tiny).sqrt()
        return -log_volume - softplus(self.sharpness * (norm / self.scale - 1))

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Points (n, m), uniform in the ball: a random direction, and the m-th root of a uniform number as radius.

        DGD paper, eq. 5, whose exponent m - 1 would heap the points at the centre.
        """
        directions = torch.randn(n, self.n_components, generator=generator)
        radii = self.scale * torch.rand(n, 1, generator=generator) ** (1 / self.n_components)
        return radii * directions / directions.norm(dim=1, keepdim=True)


class RegularizedMixture(nn.Module):
    """Gaussian components with a softball prior on means, Dirichlet on weights and Gaussian on log variances.

    Parameters
    ----------
    n_mixture_components, n_components : int
        K and Q.
    covariance_type : {"diag", "isotropic", "fixed"}
    dirichlet_alpha : float
        Concentration of the symmetric Dirichlet prior on the K weights.
    softball_scale, softball_sharpness : float
        See :class:`Softball`.
    learned : bool
        False leaves everything where it is: for a standard normal distribution, which the mixture is before
        :meth:`set_`.
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
        """(K,)."""
        return torch.log_softmax(self.logits, 0)

    def mixture(self) -> GaussianMixture:
        """The components as they are."""
        return GaussianMixture(self.log_weights, self.means, self.log_sds.expand_as(self.means))

    def log_prior(self) -> Tensor:
        """log p(phi), of means, weights and log variances together: a scalar."""
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
        """Put the components at weights (K,), means and variances (K, Q); the variances' prior is centred there."""
        with torch.no_grad():
            self.logits.copy_(weights.clamp(min=_LEAST_WEIGHT * float(weights.max())).log())
            self.means.copy_(means)
            log_variances = variances.log()
            if self.log_sds.shape[1] == 1:
                log_variances = variances.mean(1, keepdim=True).log()
            self.log_sds.copy_(0.5 * log_variances)
            self.log_precision_mean.copy_(-log_variances)

    def keep_(self, components: Tensor) -> None:
        """Keep the components of given numbers, in that order."""
        with torch.no_grad():
            for name in ("means", "logits", "log_sds"):
                parameter = getattr(self, name)
                setattr(self, name, nn.Parameter(parameter[components].clone(), parameter.requires_grad))
            self.log_precision_mean = nn.Buffer(self.log_precision_mean[components].clone())
