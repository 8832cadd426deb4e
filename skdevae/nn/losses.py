"""The objective as named terms with visible scaling."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class LossTerms:
    """Terms of the negative evidence lower bound, per sample and in nats.

    ``total = reconstruction + beta * latent + (gamma * clusters + parameters) / n_samples``

    Attributes
    ----------
    reconstruction : scalar Tensor
        Mean over the batch of ``-E_q(z) E_q(w) log p(x | z, w)``.
    latent : scalar Tensor
        Mean over the batch of ``KL(q(z | x) || p(z))``.
    clusters : scalar Tensor
        ``KL`` of the feature clusters, for the whole model: divided by ``n_samples`` so that the sum over all batches
        of an epoch counts it once.
    parameters : scalar Tensor
        ``-log p`` of the parameters that have a prior, for the whole model.
    n_samples : int
        Samples in the training set (not in the batch).
    beta, gamma : float
        Weights of the two divergences.
    """

    reconstruction: Tensor
    latent: Tensor
    clusters: Tensor
    parameters: Tensor
    n_samples: int
    beta: float = 1.0
    gamma: float = 1.0

    @property
    def total(self) -> Tensor:
        """The number to minimise."""
        return self.data_part + (self.gamma * self.clusters + self.parameters) / self.n_samples

    @property
    def data_part(self) -> Tensor:
        """What the samples of the batch contribute: the number that a validation set is judged by."""
        return self.reconstruction + self.beta * self.latent

    def named(self) -> dict[str, float]:
        """Every term by name, unweighted, for the training history."""
        terms = ("reconstruction", "latent", "clusters", "parameters")
        return {name: float(getattr(self, name).detach()) for name in terms}
