"""Representations: the latents of training samples as parameters, trained beside a decoder and a mixture."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .latent_grid import counted
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
        """Points, or (``variational``) Gaussians that are narrower than the components of a mixture."""
        if not variational:
            return cls(means, None)
        return cls(means, (mixture.log_sds.amin(0) + _STARTING_LOG_SD).expand_as(means))

    @property
    def variances(self) -> Tensor:
        """(N, Q), zero for points."""
        return torch.zeros_like(self.means) if self.log_sds is None else torch.exp(2 * self.log_sds)

    def of_rows(self, index: Tensor) -> tuple[Tensor, Tensor | None]:
        """Means and log sds (B, Q) of samples ``index`` (B,), as leaves whose gradients are added to those of all."""
        return _rows_of(self.means, index), None if self.log_sds is None else _rows_of(self.log_sds, index)

    def map(self, of_values: Callable[[Tensor], Tensor]) -> Representations:
        """Representations whose means and log sds are what a function gives for these."""
        log_sds = None if self.log_sds is None else of_values(self.log_sds.detach())
        return Representations(of_values(self.means.detach()), log_sds).requires_grad_(self.means.requires_grad)


class RepresentationLearning(nn.Module):
    """The objective of the DGD paper (eq. 3) on a batch of training samples, or its variational relative.

    For points, it is ``log p(x | z) + log p(z | phi)`` summed over the samples, plus ``log p(theta) + log p(phi)`` once
    for the whole table. For Gaussians (the variational auto-decoder), the first two terms are averaged over a draw from
    each sample's q(z), and the entropy of q(z) is added.

    What rows carry in their context counts: their weights, relative to their mean over the table, and the components
    that they are known to belong to. Representations come with their rows, and are no parameters of this module.

    Parameters
    ----------
    model : MixtureModel
        Its ``n_samples`` is the total weight of the training samples.
    """

    def __init__(self, model: MixtureModel):
        super().__init__()
        self.model = model

    @property
    def leaves_parameters_out(self) -> bool:
        """Whether a training step may have no gradient for some of the parameters."""
        return self.model.leaves_parameters_out

    def forward(self, rows: DenseRows, mean: Tensor, log_sd: Tensor | None, noise: Tensor | None) -> LossTerms:
        """The objective on samples with representations (B, Q), drawn through standard normal ``noise`` if any."""
        component, mixture = rows.context.component, self.model.latent_prior()
        if log_sd is None or noise is None:
            z = mean
            latent = -component_log_density(mixture.log_joint(z), component)
        else:
            z = mean + log_sd.exp() * noise
            # With one component, the expectation has a closed form.
            is_single = len(mixture.log_weights) == 1
            joint = mixture.expected_log_joint(mean, torch.exp(2 * log_sd)) if is_single else mixture.log_joint(z)
            entropy = log_sd.sum(1) + 0.5 * z.shape[1] * math.log(2 * math.pi * math.e)
            latent = -component_log_density(joint, component) - entropy
        return LossTerms(
            reconstruction=-counted(rows, self.model.log_likelihood(rows, z)).mean(),
            latent=counted(rows, latent).mean(),
            clusters=torch.zeros_like(latent[0]),
            parameters=-self.model.log_prior(),
            n_samples=self.model.n_samples,
        )


def _rows_of(parameter: nn.Parameter, index: Tensor) -> Tensor:
    """Some rows of a parameter (N, Q), as a leaf whose gradient is added to that of the parameter.

    Plain indexing would do. But its gradient has N rows in every batch, so an epoch would cost the square of N.
    """
    rows = parameter.detach()[index]
    if torch.is_grad_enabled() and parameter.requires_grad:
        rows.requires_grad_().register_hook(lambda gradient: _add_gradient(parameter, index, gradient))
    return rows


def _add_gradient(parameter: nn.Parameter, index: Tensor, gradient: Tensor) -> None:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    parameter.grad.index_add_(0, index, gradient)


def component_log_density(log_joint: Tensor, component: Tensor | None) -> Tensor:
    """Log density (N,) of samples under a mixture, from log joint densities (N, K) with its components.

    Where a sample's component is known (``component`` (N,), -1 where it is not), that component alone counts.
    """
    if component is None:
        return log_joint.logsumexp(1)
    own = log_joint.gather(1, component.clamp(min=0)[:, None])[:, 0]
    return torch.where(component < 0, log_joint.logsumexp(1), own)
