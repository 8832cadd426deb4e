"""The Dirichlet-categorical prior that makes features share few clusters, and three ways to treat it.

The model (BasisVAE, equation 4) is pi ~ Dirichlet(alpha), w_j | pi ~ Categorical(pi); q(w_j) = Categorical(phi_j).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

#: steps of q(w)'s fixed point in each epoch, where it need not settle, and at the end of a fit, where it must
EPOCH_STEPS, FINAL_STEPS = 10, 2000
#: change of q(w) at which it has settled
_SETTLED = 1e-7


def log_multivariate_beta(a: Tensor) -> Tensor:
    """log B(a) = sum log Gamma(a_k) - log Gamma(sum a_k)."""
    return torch.lgamma(a).sum() - torch.lgamma(a.sum())


class ClusterAssignment(nn.Module):
    """q(w) over K clusters for each of D features, and its divergence from the prior. Base of three treatments of pi.

    Parameters
    ----------
    n_features, n_clusters : int
    alpha : float
        Concentration of the symmetric Dirichlet prior; below 1 it favours few clusters.
    """

    def __init__(self, n_features: int, n_clusters: int, alpha: float):
        super().__init__()
        self.alpha = alpha
        self.logits = nn.Parameter(torch.zeros(n_features, n_clusters))

    @property
    def responsibilities(self) -> Tensor:
        """phi, (D, K); rows sum to one."""
        return self.logits.softmax(1)

    @property
    def labels(self) -> Tensor:
        """The most probable cluster of every feature, (D,)."""
        return self.logits.argmax(1)

    def hold_(self, held: bool) -> None:
        """Keep q(w) as it is, or let gradients move it."""
        self.logits.requires_grad_(not held)

    @property
    def is_held(self) -> bool:
        """Whether gradients do not move q(w)."""
        return not self.logits.requires_grad

    @property
    def counts(self) -> Tensor:
        """Expected number of features in each cluster, (K,)."""
        return self.responsibilities.sum(0)

    def negative_entropy(self) -> Tensor:
        """Sum of phi log phi; through the logits, whose gradient stays finite where phi is zero."""
        return (self.responsibilities * self.logits.log_softmax(1)).sum()

    def divergence(self) -> Tensor:
        """KL(q || p) in nats for all features together: the term that the bound subtracts."""
        raise NotImplementedError

    def expected_log_weights(self, counts: Tensor) -> Tensor:
        """What the prior adds to each cluster's evidence when the others' counts are given: (K,), up to a constant."""
        raise NotImplementedError

    def update_(self, evidence: Tensor, gamma: float = 1.0, max_steps: int = FINAL_STEPS) -> None:
        """Maximise ``sum phi evidence - gamma divergence`` over q, in place, by its fixed point.

        Clear evidence settles it in a few steps, evidence of much less than a nat per feature takes hundreds. It starts
        from equal probabilities, not from the present q: a cluster that a feature had given up can come back.
        """
        phi = torch.full_like(evidence, 1 / evidence.shape[1])
        for _ in range(max_steps):
            before = phi
            logits = evidence / gamma + self.expected_log_weights(phi.sum(0))
            phi = logits.softmax(1)
            if (phi - before).abs().max() < _SETTLED:
                break
        with torch.no_grad():
            self.logits.copy_(logits - logits.max(1, keepdim=True).values)

    def start_(self, labels: Tensor, log_odds: float) -> None:
        """Start with each feature in a given cluster, (D,), by so many nats."""
        with torch.no_grad():
            self.logits.zero_()
            self.logits[torch.arange(len(labels)), labels.to(self.logits.device)] = log_odds

    def permute_(self, order: list[int]) -> None:
        """Put the clusters into another order."""
        with torch.no_grad():
            self.logits.copy_(self.logits[:, order])


class Collapsed(ClusterAssignment):
    """pi integrated out after the mean-field step (BasisVAE, equations 6 and 7; supplement A).

    KL = -log B(n + alpha) + log B(alpha) + sum phi log phi, with n the expected counts. (The supplement's last line
    prints the inverse of B.) For one-hot phi it is exactly minus the log prior probability of that assignment.
    """

    def divergence(self) -> Tensor:
        phi = self.responsibilities
        counts = phi.sum(0)
        alpha = torch.full_like(counts, self.alpha)
        return log_multivariate_beta(alpha) - log_multivariate_beta(counts + alpha) + self.negative_entropy()

    def expected_log_weights(self, counts: Tensor) -> Tensor:
        return torch.digamma(counts + self.alpha)


class Noncollapsed(ClusterAssignment):
    """pi kept, with q(pi) = Dirichlet(psi) beside q(w) (BasisVAE, section 3.3.1).

    psi is a parameter of its own, moved by gradient steps; at its optimum, n + alpha, the divergence is the same as the
    collapsed one.
    """

    def __init__(self, n_features: int, n_clusters: int, alpha: float):
        super().__init__(n_features, n_clusters, alpha)
        self.log_concentration = nn.Parameter(torch.full((n_clusters,), math.log(alpha + n_features / n_clusters)))

    @property
    def concentration(self) -> Tensor:
        """psi, (K,)."""
        return self.log_concentration.exp()

    def _expected_log_pi(self) -> Tensor:
        psi = self.concentration
        return torch.digamma(psi) - torch.digamma(psi.sum())

    def divergence(self) -> Tensor:
        phi, psi = self.responsibilities, self.concentration
        alpha = torch.full_like(psi, self.alpha)
        expected = self._expected_log_pi()
        of_w = self.negative_entropy() - (phi.sum(0) * expected).sum()
        of_pi = ((psi - alpha) * expected).sum() - log_multivariate_beta(psi) + log_multivariate_beta(alpha)
        return of_w + of_pi

    def expected_log_weights(self, counts: Tensor) -> Tensor:
        return self._expected_log_pi()

    def permute_(self, order: list[int]) -> None:
        super().permute_(order)
        with torch.no_grad():
            self.log_concentration.copy_(self.log_concentration[order])


class Fixed(ClusterAssignment):
    """pi = 1 / K, not learned: nothing empties a cluster. The third row of the BasisVAE paper's comparison."""

    def divergence(self) -> Tensor:
        n_features, n_clusters = self.logits.shape
        return self.negative_entropy() + n_features * math.log(n_clusters)

    def expected_log_weights(self, counts: Tensor) -> Tensor:
        return torch.zeros_like(counts)


class OnlyCandidate(nn.Module):
    """In the place of a :class:`ClusterAssignment` where every feature has one curve: nothing to infer."""

    is_held = False

    def __init__(self, n_features: int):
        super().__init__()
        self.responsibilities = nn.Buffer(torch.ones(n_features, 1), persistent=False)

    @property
    def labels(self) -> Tensor:
        """Zeros, (D,)."""
        return torch.zeros(len(self.responsibilities), dtype=torch.long, device=self.responsibilities.device)

    def hold_(self, held: bool) -> None:
        """Nothing moves anyway."""

    def divergence(self) -> Tensor:
        """KL(q || p) = 0."""
        return self.responsibilities.new_zeros(())

    def update_(self, evidence: Tensor, gamma: float = 1.0, max_steps: int = 0) -> None:
        """One candidate is always the best."""

    def permute_(self, order: list[int]) -> None:
        """One candidate has one order."""


#: name -> treatment of the cluster weights
ASSIGNMENTS: dict[str, type[ClusterAssignment]] = {
    "collapsed": Collapsed,
    "noncollapsed": Noncollapsed,
    "fixed": Fixed,
}
