"""Loss terms: the objective, split into named terms with visible weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True)
class LossTerms:
    """Terms of the negative evidence lower bound, in nats.

    ``total = reconstruction + beta * latent + (gamma * clusters + parameters) / n_samples``

    Attributes
    ----------
    reconstruction : scalar Tensor
        Mean over the batch of ``-E_q(z) E_q(w) log p(x | z, w)``.
    latent : scalar Tensor
        Mean over the batch of ``KL(q(z | x) || p(z))``.
    clusters : scalar Tensor
        ``KL(q || p)`` of the feature clusters, for the whole model. ``total`` divides it by ``n_samples``: the batches
        of an epoch then count it once together.
    parameters : scalar Tensor
        ``-log p`` of the parameters that have a prior, for the whole model.
    n_samples : float
        Number of samples in the training table (not in the batch), or their total weight.
    beta, gamma : float
        Weights of the two divergences.
    """

    reconstruction: Tensor
    latent: Tensor
    clusters: Tensor
    parameters: Tensor
    n_samples: float
    beta: float = 1.0
    gamma: float = 1.0

    @property
    def total(self) -> Tensor:
        """The number to minimise, per sample."""
        return self.data_part + (self.gamma * self.clusters + self.parameters) / self.n_samples

    @property
    def data_part(self) -> Tensor:
        """The part that the samples of the batch contribute, by which a validation set is judged."""
        return self.reconstruction + self.beta * self.latent

    def of_share(self, weight: float) -> LossTerms:
        """The terms of a share of a batch that counts for ``weight``; those of the whole model stay."""
        return replace(self, reconstruction=weight * self.reconstruction, latent=weight * self.latent)

    def named(self) -> dict[str, float]:
        """Every term by its name, without its weight, for the training history."""
        terms = ("reconstruction", "latent", "clusters", "parameters")
        return {name: float(getattr(self, name).detach()) for name in terms}
