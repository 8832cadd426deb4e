"""Cluster prior: a Dirichlet-categorical prior that makes features share few clusters, in three treatments.

The model (BasisVAE, equation 4) is pi ~ Dirichlet(alpha), w_j | pi ~ Categorical(pi). The posterior of the cluster w_j
of feature j is approximated by q(w_j) = Categorical(phi_j).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

#: largest number of fixed-point steps of q(w) in one epoch, in which it need not converge
EPOCH_STEPS = 10

#: largest number of fixed-point steps of q(w) at the end of a fit, where it should converge
FINAL_STEPS = 2000

#: largest number of steps in which q(w) and q(pi) settle together
_SETTLING_STEPS = 500

#: change of phi in one step at which q(w) has converged
_CONVERGED = 1e-7


def log_multivariate_beta(a: Tensor) -> Tensor:
    """log B(a) = sum log Gamma(a_k) - log Gamma(sum a_k)."""
    return torch.lgamma(a).sum() - torch.lgamma(a.sum())


def _counts_of_others(phi: Tensor) -> Tensor:
    """Expected number of features in each cluster, without the feature's own membership: (D, K) from phi (D, K)."""
    # For the only member of a cluster the difference may round to less than zero.
    return (phi.sum(0) - phi).clamp(min=0)


class ClusterAssignment(nn.Module):
    """q(w) over K clusters for each of D features, and its divergence from the prior.

    It is the base class of three treatments of pi.

    Parameters
    ----------
    n_features, n_clusters : int
        D and K.
    alpha : float
        Concentration of the symmetric Dirichlet prior. Below 1 it favours few clusters.
    """

    def __init__(self, n_features: int, n_clusters: int, alpha: float):
        super().__init__()
        self.alpha = alpha
        self.logits = nn.Parameter(torch.zeros(n_features, n_clusters))

    @property
    def shape(self) -> torch.Size:
        """(D, K)."""
        return self.logits.shape

    @property
    def responsibilities(self) -> Tensor:
        """phi, (D, K): the probability of each cluster for every feature."""
        return self.logits.softmax(1)

    @property
    def log_responsibilities(self) -> Tensor:
        """log phi, (D, K)."""
        return self.logits.log_softmax(1)

    @property
    def labels(self) -> Tensor:
        """The most probable cluster of every feature, (D,)."""
        return self.logits.argmax(1)

    def hold_(self, held: bool) -> None:
        """Hold q(w) fixed under gradient steps, or let them move it."""
        self.logits.requires_grad_(not held)

    @property
    def is_held(self) -> bool:
        """Whether q(w) is held fixed under gradient steps."""
        return not self.logits.requires_grad

    @property
    def counts(self) -> Tensor:
        """Expected number of features in each cluster, (K,)."""
        return self.responsibilities.sum(0)

    def negative_entropy(self) -> Tensor:
        """Sum of phi log phi: a scalar. Its gradient stays finite where phi is zero."""
        return (self.responsibilities * self.log_responsibilities).sum()

    def divergence(self) -> Tensor:
        """KL(q || p) of all features together, in nats: the term that is subtracted in the evidence lower bound."""
        raise NotImplementedError

    def expected_log_weights(self, others: Tensor) -> Tensor:
        """Log weight of each cluster in an update of q(w): (D, K) or, for all features alike, (K,); up to a constant.

        ``others`` (D, K) is the expected number of *other* features in each cluster, as each feature sees it.
        """
        raise NotImplementedError

    def lean_(self, evidence: Tensor) -> None:
        """Let each feature's q(w) follow its evidence (D, K) alone, in place, whatever other features do.

        Early in a fit evidence is small, and shared weights would draw all features into whichever cluster is ahead.
        """
        with torch.no_grad():
            self.logits.copy_(evidence - evidence.max(1, keepdim=True).values)

    def update_(
        self,
        evidence: Tensor,
        gamma: float = 1.0,
        max_steps: int = FINAL_STEPS,
        votes: Tensor | None = None,
    ) -> None:
        """Set q(w) to the fixed point of phi = softmax(evidence / gamma + log weights), in place.

        ``evidence`` (D, K) is the expected log-likelihood of each feature in each cluster.

        For ``"noncollapsed"`` (at the present psi) and ``"fixed"`` the fixed point is the maximum over q(w) of
        ``sum(phi * evidence) - gamma * divergence``. For ``"collapsed"`` it is not. There it is the fixed point of
        collapsed variational Bayes of order zero, in which a feature's own vote does not count. It is closer to the
        exact posterior of the clusters than the maximum of the bound. So the bound is not exactly maximised, and its
        gradient does not vanish there.

        A few steps are enough where clusters differ by many nats. Where they differ by much less than one, convergence
        takes hundreds. The steps start from equal probabilities, not from the present q(w). So a feature can come back
        to a cluster that it has left.

        ``votes`` (D,) is how much each feature counts for the others, where that is not 1.
        """
        phi = torch.full_like(evidence, 1 / evidence.shape[1])
        for _ in range(max_steps):
            before = phi
            voting = phi if votes is None else votes[:, None] * phi
            logits = evidence / gamma + self.expected_log_weights(_counts_of_others(voting))
            phi = logits.softmax(1)
            if (phi - before).abs().max() < _CONVERGED:
                break
        with torch.no_grad():
            self.logits.copy_(logits - logits.max(1, keepdim=True).values)

    def settle_(self, evidence: Tensor, gamma: float, votes: Tensor) -> None:
        """Set q(w), and all that is learned of the weights, to what evidence (D, K) from outside of the fit says.

        ``votes`` (D,) is how much each feature counts for the others: 0 for a constant column.
        """
        self.update_(evidence, gamma, votes=votes)

    def start_(self, labels: Tensor, log_odds: float) -> None:
        """Start with features in given clusters, (D,): the log odds against each other cluster are ``log_odds``."""
        with torch.no_grad():
            self.logits.zero_()
            self.logits[torch.arange(len(labels)), labels.to(self.logits.device)] = log_odds

    def permute_(self, order: list[int]) -> None:
        """Put the clusters into another order, in place: ``order[k]`` is the present number of the new cluster k."""
        with torch.no_grad():
            self.logits.copy_(self.logits[:, order])


class Collapsed(ClusterAssignment):
    """pi integrated out, after the mean-field approximation (BasisVAE, equations 6 and 7, and supplement A).

    KL = -log B(n + alpha) + log B(alpha) + sum phi log phi, where n are the expected counts and B is the multivariate
    beta function. (The last line of supplement A defines B as the inverse of that function.) For one-hot phi, KL is
    exactly minus the log prior probability of that assignment.

    Updates of q(w) follow another approximation, collapsed variational Bayes of order zero (CVB0): as in collapsed
    Gibbs sampling, the prior weight of cluster k for feature j is n_k + alpha, with n counted over the *other*
    features. The maximum of the bound above has exp(digamma(n_k + alpha)) instead, with n counted over all features.
    There a feature that is alone in its cluster votes for itself, and moderate evidence comes out as near certainty.
    """

    def divergence(self) -> Tensor:
        phi = self.responsibilities
        counts = phi.sum(0)
        alpha = torch.full_like(counts, self.alpha)
        return log_multivariate_beta(alpha) - log_multivariate_beta(counts + alpha) + self.negative_entropy()

    def expected_log_weights(self, others: Tensor) -> Tensor:
        return torch.log(others + self.alpha)


class Noncollapsed(ClusterAssignment):
    """pi kept, with an approximate posterior q(pi) = Dirichlet(psi) beside q(w) (BasisVAE, section 3.3.1).

    psi is a parameter that gradient steps move. At its optimum, n + alpha, the divergence equals the collapsed one. The
    counts n are those of all features: q(pi) is one for all, so it has seen each feature's own vote. This is what the
    treatment is by definition, and its updates keep it.
    """

    def __init__(self, n_features: int, n_clusters: int, alpha: float):
        super().__init__(n_features, n_clusters, alpha)
        self.log_concentration = nn.Parameter(torch.full((n_clusters,), math.log(alpha + n_features / n_clusters)))

    @property
    def concentration(self) -> Tensor:
        """psi, (K,)."""
        return self.log_concentration.exp()

    def _expected_log_pi(self) -> Tensor:
        """Expectation of log pi under q(pi): (K,)."""
        psi = self.concentration
        return torch.digamma(psi) - torch.digamma(psi.sum())

    def divergence(self) -> Tensor:
        phi, psi = self.responsibilities, self.concentration
        alpha = torch.full_like(psi, self.alpha)
        expected = self._expected_log_pi()
        of_w = self.negative_entropy() - (phi.sum(0) * expected).sum()
        of_pi = ((psi - alpha) * expected).sum() - log_multivariate_beta(psi) + log_multivariate_beta(alpha)
        return of_w + of_pi

    def expected_log_weights(self, others: Tensor) -> Tensor:
        return self._expected_log_pi()

    def settle_(self, evidence: Tensor, gamma: float, votes: Tensor) -> None:
        # psi has been moved by steps in which no feature may have been flat. It starts anew, with even counts.
        counts = (votes.sum() / evidence.shape[1]).expand(evidence.shape[1])
        for _ in range(_SETTLING_STEPS):
            with torch.no_grad():
                self.log_concentration.copy_((self.alpha + counts).log())
            self.update_(evidence, gamma, max_steps=1)
            before, counts = counts, (votes[:, None] * self.responsibilities.detach()).sum(0)
            if (counts - before).abs().max() < _CONVERGED:
                break

    def permute_(self, order: list[int]) -> None:
        super().permute_(order)
        with torch.no_grad():
            self.log_concentration.copy_(self.log_concentration[order])


class Fixed(ClusterAssignment):
    """pi = 1 / K, not learned, so that nothing favours empty clusters: a baseline in the BasisVAE paper."""

    def divergence(self) -> Tensor:
        n_features, n_clusters = self.logits.shape
        return self.negative_entropy() + n_features * math.log(n_clusters)

    def expected_log_weights(self, others: Tensor) -> Tensor:
        return torch.zeros_like(others)


class OnlyCandidate(nn.Module):
    """Stands in for a :class:`ClusterAssignment` where every feature has one candidate: there is nothing to infer.

    Parameters
    ----------
    n_features : int
    """

    #: as in :class:`ClusterAssignment`
    is_held = False

    def __init__(self, n_features: int):
        super().__init__()
        self.responsibilities = nn.Buffer(torch.ones(n_features, 1), persistent=False)

    @property
    def shape(self) -> torch.Size:
        """(D, 1)."""
        return self.responsibilities.shape

    @property
    def labels(self) -> Tensor:
        """Zeros, (D,)."""
        return torch.zeros(len(self.responsibilities), dtype=torch.long, device=self.responsibilities.device)

    def hold_(self, held: bool) -> None:
        """Do nothing: there is nothing that moves."""

    def divergence(self) -> Tensor:
        """KL(q || p) = 0."""
        return self.responsibilities.new_zeros(())

    @property
    def log_responsibilities(self) -> Tensor:
        """Zeros, (D, 1)."""
        return torch.zeros_like(self.responsibilities)

    def lean_(self, evidence: Tensor) -> None:
        """Do nothing: the only candidate is the best one."""

    def update_(self, evidence: Tensor, gamma: float = 1.0, max_steps: int = 0, votes: Tensor | None = None) -> None:
        """Do nothing: the only candidate is the best one."""

    def settle_(self, evidence: Tensor, gamma: float, votes: Tensor) -> None:
        """Do nothing: the only candidate is the best one."""

    def permute_(self, order: list[int]) -> None:
        """Do nothing: one candidate has only one order."""


#: name -> treatment of the cluster weights
ASSIGNMENTS: dict[str, type[ClusterAssignment]] = {
    "collapsed": Collapsed,
    "noncollapsed": Noncollapsed,
    "fixed": Fixed,
}
