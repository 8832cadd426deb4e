"""The Dirichlet-categorical prior over clusters, against brute force over every assignment."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import digamma, gammaln, logsumexp, softmax

from skdevae.nn.cluster_prior import ASSIGNMENTS, log_multivariate_beta

D, K = 4, 3
EVERY_ASSIGNMENT = np.array(list(itertools.product(range(K), repeat=D)))  # (81, 4)
laws = settings(max_examples=20)
alphas = st.floats(0.05, 5)
seeds = st.integers(0, 2**20)


def _assignment(name, alpha, phi=None, n_features=D, n_clusters=K):
    """A float64 assignment with the responsibilities ``phi``."""
    assignment = ASSIGNMENTS[name](n_features, n_clusters, alpha).double()
    if phi is not None:
        _set_responsibilities_(assignment, phi)
    return assignment


def _set_responsibilities_(assignment, phi):
    with torch.no_grad():
        # -10000 for log 0: softmax makes an exact zero of it
        assignment.logits.copy_(torch.as_tensor(phi, dtype=torch.float64).log().clamp(min=-1e4))


def _random_phi(generator, n_features=D, n_clusters=K):
    """Responsibilities that are nearly one-hot, nearly equal, or in between."""
    return generator.dirichlet(np.full(n_clusters, 10 ** generator.uniform(-1, 1.5)), size=n_features).clip(1e-12)


def _log_beta(a):
    return gammaln(a).sum(-1) - gammaln(a.sum(-1))


def _log_prior_of_every_assignment(alpha):
    """log p(w) = log B(n_w + alpha) - log B(alpha), pi integrated out: (81,)."""
    counts = np.stack([(EVERY_ASSIGNMENT == k).sum(1) for k in range(K)], 1)
    return _log_beta(counts + alpha) - _log_beta(np.full(K, alpha))


def _log_q_of_every_assignment(phi):
    return np.log(phi)[np.arange(D), EVERY_ASSIGNMENT].sum(1)


def _objective(assignment, evidence, gamma):
    return (assignment.responsibilities * evidence).sum() - gamma * assignment.divergence()


@laws
@given(st.lists(st.floats(0.05, 30), min_size=2, max_size=5))
def test_log_multivariate_beta_is_the_dirichlets_normalizer(concentration):
    # the density of Dirichlet(a) at the middle of the simplex is prod (1/K)^(a - 1) / B(a)
    a = np.array(concentration)
    middle = np.full(len(a), 1 / len(a))
    expected = ((a - 1) * np.log(middle)).sum() - stats.dirichlet.logpdf(middle, a)
    assert log_multivariate_beta(torch.from_numpy(a)).item() == pytest.approx(expected, abs=1e-9)


@laws
@given(alphas)
def test_brute_force_prior_is_a_distribution(alpha):
    # a test of the reference itself: with the inverse of B, as in the paper's supplement, it would not sum to one
    assert logsumexp(_log_prior_of_every_assignment(alpha)) == pytest.approx(0, abs=1e-9)


@laws
@given(alphas, seeds, st.floats(0, 10))
def test_collapsed_bound_lies_below_the_log_evidence(alpha, seed, spread):
    generator = np.random.default_rng(seed)
    phi, table = _random_phi(generator), spread * generator.normal(size=(D, K))
    bound = (phi * table).sum() - _assignment("collapsed", alpha, phi).divergence().item()
    evidence = _log_prior_of_every_assignment(alpha) + table[np.arange(D), EVERY_ASSIGNMENT].sum(1)
    assert bound <= logsumexp(evidence) + 1e-9


@laws
@given(alphas, seeds)
def test_collapsed_divergence_bounds_the_divergence_from_the_prior_over_assignments(alpha, seed):
    """KL(q(w) || p(w)) by brute force is at most the collapsed one: log B is convex in the counts (Jensen)."""
    phi = _random_phi(np.random.default_rng(seed))
    log_q = _log_q_of_every_assignment(phi)
    exact = (np.exp(log_q) * (log_q - _log_prior_of_every_assignment(alpha))).sum()
    divergence = _assignment("collapsed", alpha, phi).divergence().item()
    assert divergence >= exact - 1e-9
    assert exact >= -1e-9  # so the collapsed divergence is not negative either


@pytest.mark.parametrize("alpha", [0.1, 1.0, 2.5])
def test_collapsed_bound_is_tight_for_hard_assignments(alpha):
    expected = _log_prior_of_every_assignment(alpha)
    for assignment, log_prior in zip(EVERY_ASSIGNMENT, expected, strict=True):
        divergence = _assignment("collapsed", alpha, np.eye(K)[assignment]).divergence().item()
        assert -divergence == pytest.approx(log_prior, abs=1e-9)


@laws
@given(alphas, seeds)
def test_noncollapsed_divergence_is_least_where_it_equals_the_collapsed_one(alpha, seed):
    generator = np.random.default_rng(seed)
    phi = _random_phi(generator)
    collapsed = _assignment("collapsed", alpha, phi)
    noncollapsed = _assignment("noncollapsed", alpha, phi)
    with torch.no_grad():
        noncollapsed.log_concentration.copy_(torch.from_numpy(generator.normal(0, 1.5, size=K)))
        assert noncollapsed.divergence() >= collapsed.divergence() - 1e-9
        noncollapsed.log_concentration.copy_((collapsed.counts + alpha).log())
    assert noncollapsed.divergence().item() == pytest.approx(collapsed.divergence().item(), abs=1e-9)
    gradient = torch.autograd.grad(noncollapsed.divergence(), noncollapsed.log_concentration)[0]
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-8, rtol=0)


@laws
@given(alphas, seeds)
def test_noncollapsed_divergence_is_the_sum_of_two(alpha, seed):
    """KL(Dir(psi) || Dir(alpha)) + E KL(q(w) || pi), the first by torch.distributions."""
    generator = np.random.default_rng(seed)
    phi = _random_phi(generator)
    assignment = _assignment("noncollapsed", alpha, phi)
    with torch.no_grad():
        assignment.log_concentration.copy_(torch.from_numpy(generator.normal(0, 1.5, size=K)))
        psi = assignment.concentration
        prior = torch.distributions.Dirichlet(torch.full((K,), alpha, dtype=torch.float64))
        of_pi = torch.distributions.kl_divergence(torch.distributions.Dirichlet(psi), prior).item()
        expected_log_pi = (torch.digamma(psi) - torch.digamma(psi.sum())).numpy()
        of_w = (phi * (np.log(phi) - expected_log_pi)).sum()
        assert assignment.divergence().item() == pytest.approx(of_pi + of_w, abs=1e-8)


@laws
@given(alphas, seeds)
def test_fixed_divergence_is_the_divergence_from_equal_weights(alpha, seed):
    phi = _random_phi(np.random.default_rng(seed))
    expected = sum(stats.entropy(row, np.full(K, 1 / K)) for row in phi)
    assert _assignment("fixed", alpha, phi).divergence().item() == pytest.approx(expected, abs=1e-9)


@laws
@given(st.sampled_from(list(ASSIGNMENTS)), alphas, seeds)
def test_divergences_are_not_negative(name, alpha, seed):
    # Fixed and noncollapsed are divergences of distributions. Collapsed is the least value of the noncollapsed one.
    phi = _random_phi(np.random.default_rng(seed))
    assert _assignment(name, alpha, phi).divergence().item() >= -1e-9


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_hard_assignments_have_finite_divergences_and_gradients(name):
    assignment = _assignment(name, 0.5, np.eye(K)[[0, 0, 1, 0]])
    divergence = assignment.divergence()
    divergence.backward()
    assert divergence.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in assignment.parameters())


def test_small_concentrations_favour_few_clusters():
    def gain_of_sharing(name, alpha):
        alone, spread = (_assignment(name, alpha, np.eye(K)[w]).divergence() for w in ([0, 0, 0, 0], [0, 1, 2, 0]))
        return (spread - alone).item()

    assert (
        gain_of_sharing("collapsed", 0.05) > gain_of_sharing("collapsed", 0.3) > gain_of_sharing("collapsed", 0.9) > 0
    )
    assert gain_of_sharing("fixed", 0.1) == pytest.approx(0)


# ---- treatments whose update maximises the bound: it is concave in phi ---------------------------------------------

MAXIMISERS = ["noncollapsed", "fixed"]


@laws
@given(st.sampled_from(MAXIMISERS), alphas, seeds, st.sampled_from([0.5, 1.0, 4.0]), st.floats(0.5, 50))
def test_update_beats_every_other_assignment(name, alpha, seed, gamma, spread):
    generator = np.random.default_rng(seed)
    evidence = torch.from_numpy(spread * generator.normal(size=(12, K)))
    assignment = _assignment(name, alpha, n_features=12)
    assignment.update_(evidence, gamma)
    reached = _objective(assignment, evidence, gamma).item()
    best = assignment.responsibilities.detach().numpy().copy()
    for _ in range(6):
        step = generator.uniform(0.2, 1)  # part of the way to a random assignment
        other = (1 - step) * best + step * _random_phi(generator, 12)
        _set_responsibilities_(assignment, other)
        assert _objective(assignment, evidence, gamma).item() <= reached + 1e-9


@pytest.mark.parametrize("gamma", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("name", MAXIMISERS)
@pytest.mark.parametrize("seed", range(3))
def test_gradient_vanishes_where_update_ends(name, seed, gamma):
    # evidence of many nats, as sums over samples are: the fixed point converges within the steps allowed
    evidence = torch.from_numpy(20 * np.random.default_rng(seed).normal(size=(30, K)))
    assignment = _assignment(name, 0.8, n_features=30)
    assignment.update_(evidence, gamma)
    (gradient,) = torch.autograd.grad(_objective(assignment, evidence, gamma), assignment.logits)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-4, rtol=0)
    # elsewhere it does not vanish
    _set_responsibilities_(assignment, np.full((30, K), 1 / K))
    (gradient,) = torch.autograd.grad(_objective(assignment, evidence, gamma), assignment.logits)
    assert gradient.abs().max() > 1


# ---- "collapsed", whose update comes close to the exact posterior --------------------------------------------------


def _updated(evidence, alpha, gamma=1.0, dtype=torch.float64):
    """phi of the collapsed treatment after an update."""
    assignment = ASSIGNMENTS["collapsed"](*evidence.shape, alpha).to(dtype)
    assignment.update_(torch.as_tensor(evidence, dtype=dtype), gamma)
    return assignment.responsibilities.detach().numpy()


def _exact_marginals(evidence, alpha):
    """p(w_j = k | data) by summing over all K^D assignments: (D, K)."""
    n_features, n_clusters = evidence.shape
    every = np.array(list(itertools.product(range(n_clusters), repeat=n_features)))
    member = every[..., None] == np.arange(n_clusters)  # (K^D, D, K)
    log_joint = _log_beta(member.sum(1) + alpha) + (member * evidence).sum((1, 2))
    return np.einsum("w,wjk->jk", softmax(log_joint), member)


def _mean_field_optimum(evidence, alpha):
    """Where the gradient of the collapsed bound vanishes: weights of exp(digamma(n + alpha)), own vote included."""
    phi = np.full(evidence.shape, 1 / evidence.shape[1])
    for _ in range(2000):
        phi = softmax(evidence + digamma(phi.sum(0) + alpha), axis=1)
    return phi


# Neighbours' uncertainty is what the approximation leaves out, so it errs most where all are undecided.
@pytest.mark.slow(keep=1)
@pytest.mark.parametrize(("spread", "tolerance"), [(0.3, 0.15), (1, 0.1), (3, 0.05), (10, 0.01)])
@pytest.mark.parametrize("alpha", [0.1, 0.5, 2.0])
def test_collapsed_update_is_closer_to_the_exact_posterior_than_the_mean_field_optimum(alpha, spread, tolerance):
    generator = np.random.default_rng(0)
    ours, theirs = [], []
    for _ in range(30):
        evidence = spread * generator.normal(size=(generator.integers(2, 8), generator.integers(2, 4)))
        exact = _exact_marginals(evidence, alpha)
        ours.append(np.abs(_updated(evidence, alpha) - exact).mean())
        theirs.append(np.abs(_mean_field_optimum(evidence, alpha) - exact).mean())
    assert np.mean(ours) < 0.6 * np.mean(theirs)
    assert np.mean(ours) < tolerance


@pytest.mark.parametrize(("nats", "probability"), [(5, 0.34), (7, 0.79), (9, 0.965)])
def test_a_lone_feature_does_not_vote_for_itself(nats, probability):
    """29 features are certain to be in cluster 0. The last one prefers cluster 1 by some nats, against odds of 291."""
    evidence = np.zeros((30, 3))
    evidence[:29, 0] = 100
    evidence[29, 1] = nats
    weights = np.array([29 + 0.1, 0.1 * np.exp(nats), 0.1])  # Polya's urn: the exact posterior
    found = _updated(evidence, 0.1)[29]
    np.testing.assert_allclose(found, weights / weights.sum(), atol=1e-9)
    assert found[1] == pytest.approx(probability, abs=0.005)
    # the maximum of the bound is more certain
    assert _mean_field_optimum(evidence, 0.1)[29, 1] > found[1] + 0.025


@laws
@given(alphas, seeds, st.sampled_from([0.5, 1.0, 4.0]))
def test_an_only_feature_follows_its_evidence(alpha, seed, gamma):
    evidence = 5 * np.random.default_rng(seed).normal(size=(1, K))
    np.testing.assert_allclose(_updated(evidence, alpha, gamma), softmax(evidence / gamma, axis=1), atol=1e-12)


@laws
@given(st.integers(2, 200), st.integers(2, 6), st.floats(-2, 0.5), st.floats(-1, 1.5), st.integers(0, 3), seeds)
def test_collapsed_update_converges(n_features, n_clusters, log_alpha, log_spread, n_opposed, seed):
    """Neither many features that decide together, nor a few that pull against each other, keep it from settling."""
    alpha = 10**log_alpha
    evidence = 10**log_spread * np.random.default_rng(seed).normal(size=(n_features, n_clusters))
    if n_opposed:  # all others are in the last cluster; a few prefer different ones of the rest
        evidence[n_opposed:, -1] += 100
        evidence[1] = -evidence[0]
    phi = _updated(evidence, alpha)
    again = softmax(evidence + np.log(phi.sum(0) - phi + alpha), axis=1)
    np.testing.assert_allclose(again, phi, atol=1e-5)


@pytest.mark.parametrize("alpha", [1e-12, 1e-3])
def test_collapsed_update_is_finite_where_only_one_feature_is_in_a_cluster(alpha):
    # in float32 the count of the others rounds to a little more or less than zero there
    evidence = np.full((50, 3), -200.0)
    evidence[np.arange(50), np.r_[1, 2, np.zeros(48, dtype=int)]] = 0
    evidence += np.random.default_rng(0).normal(size=evidence.shape)
    assert np.isfinite(_updated(evidence, alpha, dtype=torch.float32)).all()


# ---- all treatments ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_update_does_not_depend_on_where_it_starts(name):
    # a feature can come back to a cluster that it has left
    evidence = torch.from_numpy(3 * np.random.default_rng(0).normal(size=(12, K)))
    ends = []
    for start in (np.eye(K)[np.zeros(12, dtype=int)], np.eye(K)[np.full(12, 2)]):
        assignment = _assignment(name, 0.8, start, n_features=12)
        assignment.update_(evidence)
        ends.append(assignment.responsibilities)
    assert torch.equal(*ends)


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_update_does_not_change_with_evidence_that_all_clusters_share(name):
    evidence = torch.from_numpy(3 * np.random.default_rng(0).normal(size=(12, K)))
    ends = []
    for shift in (0.0, 1e4):
        assignment = _assignment(name, 0.8, n_features=12)
        assignment.update_(evidence + shift)
        ends.append(assignment.responsibilities)
        assert assignment.logits.abs().max() < 1e3  # small, so that float32 can hold their differences
    torch.testing.assert_close(*ends, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_permuting_the_clusters_changes_only_their_order(name):
    generator = np.random.default_rng(1)
    assignment = _assignment(name, 0.4, _random_phi(generator))
    order = [2, 0, 1]
    with torch.no_grad():
        if name == "noncollapsed":
            assignment.log_concentration.copy_(torch.from_numpy(generator.normal(size=K)))
        divergence, phi, counts = assignment.divergence(), assignment.responsibilities, assignment.counts
        others = torch.from_numpy(generator.uniform(0, D, size=(D, K)))
        weights = assignment.expected_log_weights(others)
        assignment.permute_(order)
        torch.testing.assert_close(assignment.divergence(), divergence)
        torch.testing.assert_close(assignment.responsibilities, phi[:, order])
        torch.testing.assert_close(assignment.counts, counts[order])
        torch.testing.assert_close(assignment.expected_log_weights(others[:, order]), weights[..., order])


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_gradients_reach_every_parameter(name):
    assignment = _assignment(name, 0.4, _random_phi(np.random.default_rng(2)))
    assignment.divergence().backward()
    for key, parameter in assignment.named_parameters():
        assert (parameter.grad != 0).all(), key


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_responsibilities_start_equal_and_sum_to_one(name):
    assignment = _assignment(name, 0.4)
    torch.testing.assert_close(assignment.responsibilities, torch.full((D, K), 1 / K, dtype=torch.float64))
    _set_responsibilities_(assignment, _random_phi(np.random.default_rng(3)))
    torch.testing.assert_close(assignment.responsibilities.sum(1), torch.ones(D, dtype=torch.float64))
    assert assignment.counts.sum().item() == pytest.approx(D)


@pytest.mark.parametrize("alpha", [0.1, 2.0])
@pytest.mark.parametrize("gamma", [1.0, 3.0])
def test_weights_that_are_kept_settle_together_with_the_clusters(alpha, gamma):
    """psi is alpha plus the votes, phi is what the evidence and psi say, and where psi stood before does not matter."""
    generator = np.random.default_rng(0)
    evidence = torch.from_numpy(4 * generator.normal(size=(12, 3)))
    votes = torch.from_numpy(np.r_[np.ones(9), np.zeros(3)])
    settled = []
    for start in (-5.0, 3.0):
        assignment = ASSIGNMENTS["noncollapsed"](12, 3, alpha).double()
        with torch.no_grad():
            assignment.log_concentration[0] = start
        assignment.settle_(evidence, gamma, votes)
        phi, psi = assignment.responsibilities.detach().numpy(), assignment.concentration.detach().numpy()
        np.testing.assert_allclose(psi, alpha + votes.numpy() @ phi, atol=1e-4)
        np.testing.assert_allclose(phi, softmax(evidence.numpy() / gamma + digamma(psi), axis=1), atol=1e-4)
        settled.append(phi)
    np.testing.assert_array_equal(*settled)
