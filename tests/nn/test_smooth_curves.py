"""Smooth curves, against the density and the posterior of a Gaussian that differences between bins have."""

import dataclasses

import numpy as np
import pytest
import torch
from agreement import assert_agree
from scipy import stats
from scipy.special import logsumexp, softmax

from skdevae.nn import smooth_curves
from skdevae.nn.smooth_curves import LENGTHS, SHARES, BinnedColumns, SmoothCurves, kernel, log_node_prior, root

B, D = 8, 3
NODES = [(length, share) for length in range(len(LENGTHS)) for share in range(len(SHARES))]
#: Differences between bins, which are all that data tell where nothing is known of the level: (B - 1, B).
CONTRASTS = np.diff(np.eye(B), axis=0)
#: shares of variance are kept in single precision, which matters where they are next to 1
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def _columns(information="own", noise="known", n_bins=B, n_features=D, seed=0):
    """Columns with random responses, whose information is shared or each feature's own."""
    random = np.random.default_rng(seed)
    z = np.sort(random.normal(size=n_bins))
    shape = (n_bins, 1) if information == "shared" else (n_bins, n_features)
    info = random.gamma(4, 2, shape)
    response = 2 + random.normal(size=(n_bins, n_features)) + np.outer(z, random.normal(size=n_features))
    n_entries = info.sum(0) if noise == "unknown" else np.full(shape[1], 60.0)
    spread = random.gamma(20, 2, n_features) if noise == "unknown" else None
    return BinnedColumns(*(None if a is None else torch.from_numpy(a) for a in (z, info, response, spread, n_entries)))


def _of_feature(columns, j):
    """z, information and response of one feature, as arrays: (B,) each."""
    info = columns.information[:, min(j, columns.information.shape[1] - 1)]
    return columns.z.numpy(), info.numpy(), columns.response[:, j].numpy()


def _prior(columns, j, node, noise):
    """Covariance of feature j's curve without its level, by the definition of a node: (B, B)."""
    length, share = LENGTHS[node[0]], SHARES[node[1]]
    z, info, _ = _of_feature(columns, j)
    covariance = np.exp(-((z[:, None] - z) ** 2) / (2 * length**2))
    # The variance of the curve around its mean, over entries, is to the noise of an entry as share to 1 - share.
    weight = np.diag(info) - np.outer(info, info) / info.sum()
    variance = np.trace(weight @ covariance) / columns.n_entries[min(j, len(columns.n_entries) - 1)].item()
    return share / (1 - share) / variance * covariance * noise


def _log_density(columns, j, covariance, noise):
    """Log density of the differences between responses under a curve of this covariance."""
    _, info, response = _of_feature(columns, j)
    total = CONTRASTS @ (covariance + np.diag(noise / info)) @ CONTRASTS.T
    return stats.multivariate_normal(np.zeros(B - 1), total).logpdf(CONTRASTS @ response)


def _posterior(columns, j, covariance, noise):
    """Mean of level and curve, and covariance of the curve without the level, given differences between responses."""
    _, info, response = _of_feature(columns, j)
    total = CONTRASTS @ (covariance + np.diag(noise / info)) @ CONTRASTS.T
    gain = np.linalg.solve(total, CONTRASTS @ covariance).T
    curve = gain @ CONTRASTS @ response
    level = np.average(response - curve, weights=info)
    return level + curve, covariance - gain @ CONTRASTS @ covariance


@pytest.mark.parametrize("information", ["own", "shared"])
@pytest.mark.parametrize("noise", ["known", "unknown"])
def test_log_evidence_is_the_difference_of_two_log_densities(information, noise):
    columns = _columns(information, noise)
    curves = SmoothCurves(columns)
    expected = np.empty((len(LENGTHS), len(SHARES), D))
    for j in range(D):
        variance = curves.noise[j].item()
        flat = _log_density(columns, j, np.zeros((B, B)), variance)
        for node in NODES:
            expected[(*node, j)] = _log_density(columns, j, _prior(columns, j, node, variance), variance) - flat
    np.testing.assert_allclose(curves.log_evidence, expected, **CLOSE)


@pytest.mark.parametrize("information", ["own", "shared"])
@pytest.mark.parametrize("noise", ["known", "unknown"])
def test_moments_are_those_of_the_posterior_up_to_a_level(information, noise):
    columns = _columns(information, noise)
    curves = SmoothCurves(columns)
    features = torch.tensor([2, 0])
    for node in NODES:
        means, roots = curves.moments(*node, features)
        for j, mean, spread in zip(features.tolist(), means, roots.expand(2, -1, -1), strict=True):
            variance = curves.noise[j].item()
            expected, covariance = _posterior(columns, j, _prior(columns, j, node, variance), variance)
            np.testing.assert_allclose(mean - mean.mean(), expected - expected.mean(), **CLOSE)
            np.testing.assert_allclose(spread @ spread.T, covariance, **CLOSE)


@pytest.mark.parametrize("information", ["own", "shared"])
@pytest.mark.parametrize("noise", ["known", "unknown"])
def test_mean_is_averaged_over_nodes_and_a_flat_curve(information, noise):
    columns = _columns(information, noise)
    curves = SmoothCurves(columns)
    log_prior = log_node_prior(columns.response)
    for j in range(D):
        variance = curves.noise[j].item()
        candidates = [np.zeros((B, B)), *(_prior(columns, j, node, variance) for node in NODES)]
        evidence = np.array([_log_density(columns, j, covariance, variance) for covariance in candidates])
        weights = softmax(evidence + np.array([0, *(log_prior[node].item() for node in NODES)]))
        expected = weights @ [_posterior(columns, j, covariance, variance)[0] for covariance in candidates]
        np.testing.assert_allclose(curves.mean()[:, j], expected, **CLOSE)


def test_noise_averages_the_restricted_likelihoods_maxima():
    """For every node the variance at which the density of all entries, the level integrated out, is largest."""
    columns = _columns("own", "unknown")
    # few entries, so that each degree of freedom counts
    columns = dataclasses.replace(columns, information=columns.information / 5, n_entries=columns.n_entries / 5)
    found = SmoothCurves(columns).noise
    variances = np.exp(np.linspace(0, 4, 51))
    for j in range(D):
        # Within its bins a feature has as many entries as its information, less one each.
        degrees = columns.n_entries[j].item() - B
        within = -0.5 * (degrees * np.log(variances) + columns.spread[j].item() / variances)
        best, weights = [], []
        for node in NODES:
            unit = _prior(columns, j, node, 1.0)
            log_density = within + [_log_density(columns, j, unit * noise, noise) for noise in variances]
            best.append(np.log(variances[log_density.argmax()]))
            # Over the log of the variance: the measure that a scale has.
            weights.append(logsumexp(log_density) + log_node_prior(columns.response)[node].item())
        expected = np.exp(softmax(weights) @ best)
        assert found[j].item() == pytest.approx(expected, rel=0.04)  # half the spacing of the variances


def test_shared_information_equals_information_that_happens_to_be_the_same():
    shared = _columns("shared", "unknown")
    own = dataclasses.replace(
        shared, information=shared.information.expand(-1, D).clone(), n_entries=shared.n_entries.expand(D).clone()
    )
    one, other = SmoothCurves(shared), SmoothCurves(own)
    for name in ("level", "noise", "log_evidence"):
        assert_agree(getattr(other, name), getattr(one, name), err_msg=name)
    assert_agree(other.amplitudes, one.amplitudes.expand(-1, -1, D))
    assert_agree(other.mean(), one.mean())
    features = torch.tensor([1, 2])
    for node in NODES:
        (mean, spread), (expected, expected_spread) = (c.moments(*node, features) for c in (other, one))
        assert_agree(mean, expected)
        assert_agree(spread @ spread.mT, (expected_spread @ expected_spread.mT))


@pytest.mark.parametrize("information", ["own", "shared"])
@pytest.mark.parametrize("noise", ["known", "unknown"])
def test_features_are_judged_one_by_one(information, noise):
    columns = _columns(information, noise)
    together = SmoothCurves(columns)
    for j in range(D):
        only = [j] if information == "own" else [0]
        spread = None if columns.spread is None else columns.spread[[j]]
        info, response, n_entries = columns.information[:, only], columns.response[:, [j]], columns.n_entries[only]
        alone = SmoothCurves(BinnedColumns(columns.z, info, response, spread, n_entries))
        assert_agree(alone.log_evidence, together.log_evidence[..., [j]])
        assert_agree(alone.mean(), together.mean()[:, [j]])


@pytest.mark.parametrize("noise", ["known", "unknown"])
def test_a_constant_that_is_added_moves_the_level_alone(noise):
    columns = _columns("own", noise)
    shift = torch.tensor([5.0, -20.0, 0.3], dtype=torch.float64)
    one, other = (SmoothCurves(dataclasses.replace(columns, response=columns.response + by)) for by in (0.0, shift))
    assert_agree(other.level, one.level + shift)
    assert_agree(other.mean(), one.mean() + shift)
    assert_agree(other.noise, one.noise)
    assert_agree(other.log_evidence, one.log_evidence)
    for node in NODES[::5]:
        for after, before in zip(*(c.moments(*node, torch.arange(D)) for c in (other, one)), strict=True):
            assert_agree(after, before)


def test_units_of_a_measured_feature_do_not_matter():
    columns = _columns("own", "unknown")
    scale = torch.tensor([0.01, 3.0, 100.0], dtype=torch.float64)
    in_other_units = dataclasses.replace(columns, response=columns.response * scale, spread=columns.spread * scale**2)
    one, other = SmoothCurves(columns), SmoothCurves(in_other_units)
    assert_agree(other.noise / scale**2, one.noise)
    assert_agree(other.log_evidence, one.log_evidence)
    assert_agree(other.mean() / scale, one.mean())


def _simulated(curve, sd, n, n_features=200, seed=0):
    """Measured columns of n samples in 20 bins, around a curve (20,)."""
    random = np.random.default_rng(seed)
    entries = curve[:, None, None] + random.normal(0, sd, (20, n // 20, n_features))
    mean = entries.mean(1)
    z, spread = stats.norm.ppf((np.arange(20) + 0.5) / 20), ((entries - mean[:, None]) ** 2).sum((0, 1))
    arrays = z, np.full((20, 1), n / 20), mean, spread, np.full(1, float(n))
    return BinnedColumns(*map(torch.from_numpy, arrays))


@pytest.mark.parametrize("n", [60, 400])
@pytest.mark.parametrize("sd", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("shape", ["flat", "line", "sine", "step"])
def test_noise_is_near_the_truth(shape, sd, n):
    z = stats.norm.ppf((np.arange(20) + 0.5) / 20)
    curve = {"flat": 0 * z, "line": z, "sine": np.sin(2 * z), "step": np.where(z > 0.3, 1.0, 0.0)}[shape]
    noise = SmoothCurves(_simulated(curve, sd, n)).noise
    # No curve of the prior is a step: what it cannot follow counts as noise.
    assert noise.log().mean().item() == pytest.approx(2 * np.log(sd), abs=0.35 if shape == "step" else 0.1)
    # Twice the sampling error of a variance that only differences within bins tell of.
    assert noise.log().std().item() < 2 * np.sqrt(2 / (n - 20))


@pytest.mark.parametrize("shape", ["line", "sine"])
def test_mean_is_near_the_true_curve(shape):
    z = stats.norm.ppf((np.arange(20) + 0.5) / 20)
    curve = {"line": z, "sine": np.sin(2 * z)}[shape]
    columns = _simulated(curve, 1.0, 400)
    truth = torch.from_numpy(curve)[:, None]
    errors = [(found - truth).square().mean().item() for found in (SmoothCurves(columns).mean(), columns.response)]
    assert errors[0] < 0.5 * errors[1]


def test_a_level_is_the_mean_of_all_entries():
    columns = _columns("own", "known")
    expected = (columns.information * columns.response).sum(0) / columns.information.sum(0)
    assert_agree(SmoothCurves(columns).level, expected)


@pytest.mark.parametrize("length", [0.1, 1.0, 50.0])
def test_kernel_is_the_squared_exponential(length):
    z = torch.tensor([-1.5, 0.0, 0.2, 3.0], dtype=torch.float64)
    expected = [[np.exp(-((a - b) ** 2) / (2 * length**2)) for b in z.tolist()] for a in z.tolist()]
    assert_agree(kernel(z, length), expected)


@pytest.mark.parametrize("rank", [0, 1, 3, 6])
def test_root_times_its_transpose_is_the_covariance(rank):
    factor = torch.randn(2, 6, rank, generator=torch.Generator().manual_seed(rank), dtype=torch.float64)
    covariance = factor @ factor.mT
    found = root(covariance)
    assert found.isfinite().all()
    assert_agree(found @ found.mT, covariance)


@pytest.mark.parametrize("length", LENGTHS)
def test_root_of_a_kernel_that_is_singular_to_rounding(length):
    z = torch.linspace(-2, 2, 20, dtype=torch.float64)
    covariance = kernel(z, length)
    assert_agree(root(covariance) @ root(covariance).T, covariance)


def test_nodes_share_the_prior():
    """Lengths are as probable as each other, and a share of variance as probable as the stretch of which it is part."""
    prior = log_node_prior(torch.zeros((), dtype=torch.float64)).exp()
    assert prior.shape == (len(LENGTHS), len(SHARES))
    assert prior.sum().item() == pytest.approx(1)
    assert_agree(prior, prior[:1].expand_as(prior))
    uniform = np.random.default_rng(0).random(200_000)
    nearest = np.abs(uniform[:, None] - np.array(SHARES)).argmin(1)
    counts = np.bincount(nearest, minlength=len(SHARES))
    np.testing.assert_allclose(prior.sum(0), counts / len(uniform), atol=0.005)


def test_nodes_explain_their_share_of_the_variance():
    """By draws: entries around a curve of the prior. The share is that of the mean squares, not the mean of shares."""
    random = np.random.default_rng(0)
    columns = _simulated(np.zeros(20), 1.0, 200, 1)
    amplitudes = SmoothCurves(columns).amplitudes[..., 0].numpy()
    for length, share in NODES[::4]:
        factor = root(kernel(columns.z, smooth_curves.LENGTHS[length])).numpy()
        curves = amplitudes[length, share] ** 0.5 * factor @ random.normal(size=(20, 20_000))
        explained = curves.var(0).mean()
        assert explained / (explained + 1) == pytest.approx(SHARES[share], rel=0.05)
