"""The mixture of the DGD paper and its priors against their formulas, scipy.stats and quadrature."""

import itertools
import math

import numpy as np
import pytest
import torch
from agreement import assert_agree
from scipy import stats
from scipy.integrate import quad
from scipy.special import gammaln, logsumexp

from skdevae.nn.priors import GaussianMixture
from skdevae.nn.regularized_mixture import COVARIANCE_TYPES, RegularizedMixture, Softball

K, Q = 4, 3
LEARNED = {name: {"means", "logits"} | ({"log_sds"} if name != "fixed" else set()) for name in COVARIANCE_TYPES}


def _normal(*shape, seed=1, spread=1.0):
    return spread * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _mixture(covariance_type="diag", k=K, q=Q, *, alpha=1.7, scale=2.0, sharpness=3.0, learned=True):
    return RegularizedMixture(
        k,
        q,
        covariance_type=covariance_type,
        dirichlet_alpha=alpha,
        softball_scale=scale,
        softball_sharpness=sharpness,
        learned=learned,
    ).double()


def _components(k=K, q=Q, seed=5):
    """Weights, means and variances."""
    weights = _normal(k, seed=seed).softmax(0)
    return weights, _normal(k, q, seed=seed + 1), _normal(k, q, seed=seed + 2, spread=0.6).exp()


def _moved(covariance_type="diag", **options):
    """A mixture whose parameters have moved away from where their priors are centred."""
    mixture = _mixture(covariance_type, **options)
    mixture.set_(*_components(*mixture.means.shape))
    with torch.no_grad():
        for number, parameter in enumerate(mixture.parameters()):
            if parameter.requires_grad:
                parameter += _normal(*parameter.shape, seed=20 + number, spread=0.5)
    return mixture


# ---- softball -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sharpness", [1.0, 20.0, 3000.0])
@pytest.mark.parametrize("scale", [0.3, 5.0])
@pytest.mark.parametrize("m", [1, 2, 7])
def test_softball_is_equation_6(m, scale, sharpness):
    points = _normal(5, 20, m, spread=scale)
    norm = np.linalg.norm(points.numpy(), axis=-1)
    a = gammaln(1 + m / 2) - m * (np.log(scale) + 0.5 * np.log(np.pi))
    expected = a - np.logaddexp(0, sharpness * (norm / scale - 1))
    np.testing.assert_allclose(Softball(m, scale, sharpness).log_density(points).numpy(), expected, atol=3e-9, rtol=0)


@pytest.mark.parametrize("scale", [0.3, 5.0])
@pytest.mark.parametrize("m", [1, 2, 3])
def test_a_sharp_softball_is_uniform_in_its_ball(m, scale):
    softball = Softball(m, scale, 2000.0)
    directions = torch.nn.functional.normalize(_normal(50, m), dim=1)
    volume = np.pi ** (m / 2) / math.gamma(m / 2 + 1) * scale**m
    inside = softball.log_density(0.99 * scale * directions).exp()
    np.testing.assert_allclose(inside.numpy(), 1 / volume, rtol=1e-6)
    assert (softball.log_density(1.02 * scale * directions).exp() * volume < 1e-15).all()

    surface = 2 * np.pi ** (m / 2) / math.gamma(m / 2)

    def shell(radius):
        return surface * radius ** (m - 1) * float(softball.log_density(radius * directions[0]).exp())

    total = quad(shell, 0, 1.1 * scale, points=[scale], limit=200)[0]
    assert total == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("m", [1, 2, 3, 6])
def test_softball_draws_fill_the_ball_evenly(m):
    n, scale = 20_000, 1.7
    state = torch.get_rng_state()
    points = Softball(m, scale, 1.0).draw(n, torch.Generator().manual_seed(3))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(points, Softball(m, scale, 1.0).draw(n, torch.Generator().manual_seed(3)))
    radius = points.norm(dim=1).double().numpy()
    assert radius.max() <= scale * (1 + 1e-6)
    assert stats.kstest((radius / scale) ** m, "uniform").pvalue > 1e-3
    directions = points.double().numpy() / radius[:, None]
    if m == 1:
        assert stats.binomtest(int((directions > 0).sum()), n).pvalue > 1e-3
        return
    # along any axis, a direction's component has either sign, and its square has a Beta distribution
    turned = directions @ stats.special_ortho_group(m, seed=0).rvs()
    for along in (*directions.T, *turned.T):
        assert stats.kstest(along**2, stats.beta(0.5, 0.5 * (m - 1)).cdf).pvalue > 1e-4
        assert stats.binomtest(int((along > 0).sum()), n).pvalue > 1e-4
    assert abs(stats.spearmanr(radius, directions[:, 0]).statistic) < 0.03


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_softball_has_a_gradient_everywhere(dtype):
    softball = Softball(2, 2.0, 3.0)
    points = torch.tensor([[0.0, 0.0], [1e-30, 0.0], [0.5, -1.0], [30.0, 40.0]], dtype=dtype, requires_grad=True)
    (gradient,) = torch.autograd.grad(softball.log_density(points).sum(), points)
    assert gradient.isfinite().all()
    assert (gradient[0] == 0).all()
    # far outside, it pulls inwards with sharpness / scale
    torch.testing.assert_close(gradient[3], -1.5 * torch.tensor([0.6, 0.8], dtype=dtype))
    if dtype == torch.float64:
        away = points[2:].detach().requires_grad_()
        assert torch.autograd.gradcheck(softball.log_density, away)


# ---- the mixture ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("k, q", [(1, 1), (K, Q)])
def test_density_is_that_of_the_components_that_were_set(k, q, covariance_type):
    mixture = _mixture(covariance_type, k, q)
    weights, means, variances = _components(k, q)
    mixture.set_(weights, means, variances)
    if covariance_type == "isotropic":
        variances = variances.mean(1, keepdim=True).expand_as(variances)
    z = _normal(30, q, spread=2)
    joint = [
        np.log(w) + stats.multivariate_normal.logpdf(z.numpy(), m, np.diag(v)).reshape(-1)
        for w, m, v in zip(weights.numpy(), means.numpy(), variances.numpy(), strict=True)
    ]
    torch.testing.assert_close(mixture.mixture().log_joint(z), torch.from_numpy(np.transpose(joint)))
    expected = torch.from_numpy(logsumexp(joint, axis=0))
    torch.testing.assert_close(mixture.mixture().log_density(z), expected, atol=1e-10, rtol=0)


def test_a_weight_of_zero_stays_finite():
    mixture = _mixture()
    weights = torch.tensor([0.5, 0.0, 0.5, 0.0], dtype=torch.float64)
    mixture.set_(weights, *_components()[1:])
    assert mixture.log_prior().isfinite()
    torch.testing.assert_close(mixture.log_weights.exp(), weights, atol=1e-11, rtol=0)


def test_weights_are_on_the_simplex_wherever_logits_are():
    mixture = _moved()
    log_prior, weights = mixture.log_prior(), mixture.log_weights
    assert weights.exp().sum().item() == pytest.approx(1)
    with torch.no_grad():
        mixture.logits += 7.0
    torch.testing.assert_close(mixture.log_weights, weights)
    torch.testing.assert_close(mixture.log_prior(), log_prior)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("alpha", [0.4, 1.0, 5.0])
def test_log_prior_is_the_sum_of_three(alpha, covariance_type):
    mixture = _moved(covariance_type, alpha=alpha)
    _, _, variances = _components()
    with torch.no_grad():
        weights, sds = mixture.log_weights.exp().numpy(), mixture.log_sds.exp().numpy()
    of_means = mixture.softball.log_density(mixture.means).sum().item()
    of_weights = stats.dirichlet.logpdf(weights, np.full(K, alpha))
    if covariance_type == "isotropic":
        variances = variances.mean(1, keepdim=True)
    of_variances = stats.norm.logpdf(-np.log(sds**2), -np.log(variances.numpy())).sum()
    expected = of_means + of_weights + (of_variances if covariance_type != "fixed" else 0)
    assert mixture.log_prior().item() == pytest.approx(expected, abs=1e-9)


def test_sds_that_are_not_learned_have_no_prior():
    mixture = _moved("fixed")
    before = mixture.log_prior()
    with torch.no_grad():
        mixture.log_sds += 1.0
    assert mixture.log_prior() == before


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_a_mixture_that_is_not_learned_is_standard_normal(covariance_type):
    mixture = _mixture(covariance_type, 1, learned=False)
    z = _normal(20, Q, spread=3)
    expected = torch.from_numpy(stats.norm.logpdf(z).sum(1))
    torch.testing.assert_close(mixture.mixture().log_density(z), expected)
    assert mixture.log_prior().item() == 0
    assert not mixture.log_prior().requires_grad
    assert not any(parameter.requires_grad for parameter in mixture.parameters())


# ---- gradients ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_gradients_reach_what_is_learned_and_are_right(covariance_type):
    mixture, z = _moved(covariance_type), _normal(50, Q, spread=2)
    assert {name for name, parameter in mixture.named_parameters() if parameter.requires_grad} == LEARNED[
        covariance_type
    ]
    for value in (mixture.log_prior, lambda: mixture.mixture().log_density(z).sum()):
        mixture.zero_grad()
        value().backward()
        for name, parameter in mixture.named_parameters():
            if name not in LEARNED[covariance_type]:
                assert parameter.grad is None
                continue
            assert (parameter.grad != 0).all()
            with torch.no_grad():
                for index in np.ndindex(*parameter.shape):
                    ends = []
                    for step in (1e-5, -1e-5):
                        parameter[index] += step
                        ends.append(value().item())
                        parameter[index] -= step
                    assert parameter.grad[index].item() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5, abs=1e-6)


# ---- keeping components ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("components", [[2, 0, 3, 1], [3, 1], [2]])
def test_kept_components_do_not_change(components, covariance_type, learned):
    mixture, index = _moved(covariance_type, learned=learned), torch.tensor(components)
    before, centre = mixture.mixture(), mixture.log_precision_mean.clone()
    required = {name: parameter.requires_grad for name, parameter in mixture.named_parameters()}
    total = mixture.log_prior()
    mixture.keep_(index)
    after = mixture.mixture()
    assert torch.equal(after.means, before.means[index])
    assert torch.equal(after.log_sds, before.log_sds[index])
    torch.testing.assert_close(after.log_weights, before.log_weights[index].log_softmax(0))
    assert torch.equal(mixture.log_precision_mean, centre[index])
    assert {name: parameter.requires_grad for name, parameter in mixture.named_parameters()} == required
    if len(components) == K:
        torch.testing.assert_close(mixture.log_prior(), total)
    # the saved state fits a mixture of that size
    again = _mixture(covariance_type, len(components), learned=learned)
    again.load_state_dict(mixture.state_dict())
    assert torch.equal(again.log_prior(), mixture.log_prior())


# ---- expectations ---------------------------------------------------------------------------------------------------


def test_expected_log_joint_is_an_average_over_z():
    mixture = _moved().mixture()
    mean, variance = _normal(3, 6, Q, seed=2), _normal(3, 6, Q, seed=3).exp()
    nodes, shares = np.polynomial.hermite_e.hermegauss(4)
    expected = torch.zeros(3, 6, K, dtype=torch.float64)
    for number in itertools.product(range(4), repeat=Q):
        z = mean + variance.sqrt() * torch.from_numpy(nodes[list(number)])
        expected += math.prod(shares[list(number)] / shares.sum()) * mixture.log_joint(z)
    torch.testing.assert_close(mixture.expected_log_joint(mean, variance), expected)
    # without variance it is the value at the mean
    still = mixture.expected_log_joint(mean, torch.zeros_like(variance))
    assert_agree(still.detach(), mixture.log_joint(mean).detach())


def test_a_single_component_has_all_the_weight():
    mixture, z = _moved().mixture(), _normal(20, Q)
    for k in range(K):
        alone = mixture.component(k)
        assert isinstance(alone, GaussianMixture)
        expected = stats.norm.logpdf(z, mixture.means[k].detach(), mixture.log_sds[k].exp().detach()).sum(1)
        np.testing.assert_allclose(alone.log_density(z).detach().numpy(), expected, rtol=1e-10)
