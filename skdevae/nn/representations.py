"""Training without an encoder: every sample's representation is a parameter, beside decoder and mixture."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .losses import LossTerms
from .models import MixtureModel
from .priors import GaussianMixture
from .rows import DenseRows

#: log of the sd that Gaussian representations start with, relative to the narrowest component's sds
_STARTING_LOG_SD = -1.0


class Representations(nn.Module):
    """The latents of N training samples: points, or Gaussians with independent components.

    Parameters
    ----------
    means : Tensor of shape (N, Q)
        Where they start.
    log_sds : Tensor of shape (N, Q) or None
        None for points.
    """

    def __init__(self, means: Tensor, log_sds: Tensor | None):
        super().__init__()
        self.means = nn.Parameter(means.clone())
        self.log_sds = None if log_sds is None else nn.Parameter(log_sds.clone())

    @classmethod
    def around(cls, means: Tensor, mixture: GaussianMixture, variational: bool) -> Representations:
        """Points, or Gaussians that are narrower than the components of a mixture."""
        if not variational:
            return cls(means, None)
        return cls(means, (mixture.log_sds.amin(0) + _STARTING_LOG_SD).expand_as(means))

    @property
    def variances(self) -> Tensor:
        """(N, Q), zero for points."""
        return torch.zeros_like(self.means) if self.log_sds is None else torch.exp(2 * self.log_sds)


class RepresentationLearning(nn.Module):
    """The objective of the DGD paper, eq. 3, or its variational relative, of a batch of training samples.

    Maximum a posteriori: ``log p(x | z) + log p(z | phi)`` of every sample at its z, and ``log p(theta) + log p(phi)``
    once a table. With Gaussian representations (the variational auto-decoder) the first is averaged over a draw from
    each sample's q(z), and the entropy of q(z) is added.

    Parameters
    ----------
    model : MixtureModel
    representations : Representations
    weights : Tensor of shape (N,)
        Of the training samples.
    classes : Tensor of shape (N,) or None
        Number of the component that each sample is known to belong to, -1 where that is not known.
    """

    def __init__(self, model: MixtureModel, representations: Representations, weights: Tensor, classes: Tensor | None):
        super().__init__()
        self.model = model
        self.representations = representations
        # Relative: a batch's terms are means over its rows.
        self.weights = nn.Buffer(weights / weights.mean(), persistent=False)
        self.classes = None if classes is None else nn.Buffer(classes, persistent=False)

    def forward(self, rows: DenseRows, index: Tensor, noise: Tensor | None) -> LossTerms:
        """The objective on samples ``index`` (B,), with z drawn through standard normal ``noise`` (B, Q) if any."""
        mean, mixture = rows_of(self.representations.means, index), self.model.latent_prior()
        if self.representations.log_sds is None or noise is None:
            z = mean
            latent = -self._log_prior(mixture.log_joint(z), index)
        else:
            log_sd = rows_of(self.representations.log_sds, index)
            z = mean + log_sd.exp() * noise
            # One component has its expectation in closed form.
            is_single = len(mixture.log_weights) == 1
            joint = mixture.expected_log_joint(mean, torch.exp(2 * log_sd)) if is_single else mixture.log_joint(z)
            entropy = log_sd.sum(1) + 0.5 * z.shape[1] * math.log(2 * math.pi * math.e)
            latent = -self._log_prior(joint, index) - entropy
        weights = self.weights[index]
        return LossTerms(
            reconstruction=-(weights * self.model.log_likelihood(rows, z)).mean(),
            latent=(weights * latent).mean(),
            clusters=torch.zeros_like(weights[0]),
            parameters=-self.model.log_prior(),
            n_samples=self.model.n_samples,
        )

    def _log_prior(self, log_joint: Tensor, index: Tensor) -> Tensor:
        return log_joint.logsumexp(1) if self.classes is None else class_log_density(log_joint, self.classes[index])


def rows_of(parameter: nn.Parameter, index: Tensor) -> Tensor:
    """Some rows of a parameter (N, Q), as a leaf whose gradient is added to those rows of the parameter's.

    Indexing would do, but its gradient is a table of N rows for every batch, and an epoch quadratic in N.
    """
    rows = parameter.detach()[index]
    if torch.is_grad_enabled() and parameter.requires_grad:
        rows.requires_grad_().register_hook(lambda gradient: _add_gradient(parameter, index, gradient))
    return rows


def _add_gradient(parameter: nn.Parameter, index: Tensor, gradient: Tensor) -> None:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    parameter.grad.index_add_(0, index, gradient)


def class_log_density(log_joint: Tensor, classes: Tensor) -> Tensor:
    """Log density (N,) under all components, or where a class 0, 1, ... is known its own, from (N, K) and (N,)."""
    own = log_joint.gather(1, classes.clamp(min=0)[:, None])[:, 0]
    return torch.where(classes < 0, log_joint.logsumexp(1), own)
