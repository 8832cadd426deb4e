"""Posterior families: densities of draws against brute force, and a target that flows fit and Gaussians do not."""

import math
import sys
import threading

import pytest
import torch
from scipy import stats
from torch.autograd.functional import jacobian
from torch.distributions import Normal

from skdevae.nn.models import build_model
from skdevae.nn.posteriors import POSTERIORS, Encoding, GaussianPosterior, InverseAutoregressivePosterior
from skdevae.nn.rows import DenseRows

D = 4


@pytest.fixture
def zuko():
    return pytest.importorskip("zuko")


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _normal(*shape, seed=1, spread=1.0):
    return spread * torch.randn(*shape, generator=_generator(seed), dtype=torch.float64)


def _encoding(n, n_components, n_context, *, seed=2):
    log_sd = _normal(n, n_components, seed=seed + 1, spread=0.5)
    context = _normal(n, n_context, seed=seed + 2) if n_context else None
    return Encoding(_normal(n, n_components, seed=seed), log_sd, context)


def _flows(n_components, n_flows, *, spread=0.2):
    """A float64 family whose weights are all normal, with sd ``spread``."""
    family = InverseAutoregressivePosterior(n_components, n_flows=n_flows, generator=_generator()).double()
    generator = _generator(5)
    with torch.no_grad():
        for parameter in family.parameters():
            parameter.normal_(0, spread, generator=generator)
    return family


def _model(posterior_family, n_components=2, *, prior=None):
    """A float64 model whose parameters are all random."""
    network = {"hidden_layer_sizes": (5,), "activation": "tanh"}
    config = {
        "n_samples": 10,
        "n_features": D,
        "n_components": n_components,
        "decoder": {"name": "neural", "n_components": n_components, **network},
        "likelihood": {"name": "gaussian", "floor": 0.1},
        "assignment": None,
        "encoder": {**network, "counts": False, "sees_mask": False},
        "posterior_family": posterior_family,
        "prior": prior or {"name": "normal"},
        "variational": True,
        "z_max": 4.0,
        "weight_precision": 1.0,
        "beta": 1.0,
        "gamma": 1.0,
    }
    model = build_model(config, _generator()).double()
    generator = _generator(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3, generator=generator)
    return model


# ---- Gaussians ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6,), (3, 6)])
@pytest.mark.parametrize("n_components", [1, 3])
def test_gaussian_draws_have_the_density_of_their_gaussian(n_components, shape):
    family, encoding = GaussianPosterior(n_components, generator=_generator()), _encoding(6, n_components, 0)
    noise = _normal(*shape, n_components)
    z, log_q = family.draw(encoding, noise)
    sd = encoding.log_sd.exp()
    expected = stats.norm.logpdf(z.numpy(), encoding.mean.numpy(), sd.numpy()).sum(-1)
    torch.testing.assert_close(log_q, torch.from_numpy(expected), atol=1e-10, rtol=0)
    torch.testing.assert_close((z - encoding.mean) / sd, noise)


# ---- flows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_flows", [1, 2, 5])
@pytest.mark.parametrize("n_components", [1, 2, 5])
def test_draws_of_flows_have_the_density_that_their_jacobian_gives(zuko, n_components, n_flows):
    family = _flows(n_components, n_flows)
    if n_components > 1:
        family.mirror_(1)
    encoding, noise = _encoding(4, n_components, family.n_context), _normal(4, n_components)
    z, log_q = family.draw(encoding, noise)
    log_base = Normal(0.0, 1.0).log_prob(noise).sum(1)
    gaussian, _ = GaussianPosterior.draw(family, encoding, noise)
    assert (z - gaussian).abs().median() > 0.1  # the flows move the draws
    for i in range(4):
        one = Encoding(*(part[i : i + 1] for part in encoding))
        derivative = jacobian(lambda e, one=one: family.draw(one, e[None])[0][0], noise[i])
        expected = log_base[i] - torch.linalg.slogdet(derivative).logabsdet
        assert log_q[i].item() == pytest.approx(expected.item(), abs=1e-8)


def test_every_row_and_draw_passes_flows_by_itself(zuko):
    family = _flows(3, 2)
    encoding, noise = _encoding(5, 3, family.n_context), _normal(4, 5, 3)
    z, log_q = family.draw(encoding, noise)
    assert (z.shape, log_q.shape) == ((4, 5, 3), (4, 5))
    for s in range(4):
        for i in range(5):
            one = Encoding(*(part[i : i + 1] for part in encoding))
            alone, log_q_alone = family.draw(one, noise[s, i : i + 1])
            torch.testing.assert_close(alone[0], z[s, i])
            torch.testing.assert_close(log_q_alone[0], log_q[s, i])


def test_orders_of_flows_alternate(zuko):
    family = _flows(4, 4)
    context, z = _normal(1, family.n_context), _normal(4)
    for position, flow in enumerate(family.flows):
        derivative = jacobian(lambda z, flow=flow: flow(context)(z[None])[0], z)
        if position % 2:
            derivative = derivative.T
        assert not derivative.triu(1).any()
        assert (derivative[torch.tril_indices(4, 4).unbind()] != 0).all()
        assert (derivative.diagonal() > 0).all()


def test_context_moves_every_component_in_every_flow(zuko):
    family = _flows(3, 2)
    z = _normal(1, 3)
    for flow in family.flows:
        derivative = jacobian(lambda context, flow=flow: flow(context)(z)[0], _normal(1, family.n_context))
        assert (derivative != 0).all()


@pytest.mark.parametrize("n_components", [1, 3])
def test_a_draw_passes_once_through_every_network(zuko, n_components):
    family = _flows(n_components, 3)
    calls = [0, 0, 0]

    def count(position):
        def hook(*_):
            calls[position] += 1

        return hook

    for position, flow in enumerate(family.flows):
        flow.hyper.register_forward_hook(count(position))
    family.draw(_encoding(6, n_components, family.n_context), _normal(6, n_components))
    assert calls == [1, 1, 1]


def test_flows_start_near_the_identity_and_not_at_it(zuko):
    for n_components in (1, 3):
        family = InverseAutoregressivePosterior(n_components, n_flows=2, generator=_generator()).double()
        encoding, noise = _encoding(200, n_components, family.n_context), _normal(200, n_components)
        z, log_q = family.draw(encoding, noise)
        gaussian, log_gaussian = GaussianPosterior.draw(family, encoding, noise)
        assert 0 < (z - gaussian).pow(2).mean().sqrt() < 0.2
        assert 0 < (log_q - log_gaussian).pow(2).mean().sqrt() < 0.2


def test_gradients_reach_every_flow_and_the_context(zuko):
    model = _model({"name": "iaf", "n_flows": 3})
    model(DenseRows(_normal(8, D), None), _normal(8, 2, seed=3)).total.backward()
    parameters = dict(model.posterior_family.named_parameters())
    assert len(parameters) == 3 * 6
    assert all(parameter.grad.any() for parameter in parameters.values())
    assert model.encoder.head.weight.grad.any(1).all()
    assert len(model.encoder.head.weight) == 2 * 2 + model.posterior_family.n_context


# ---- a target that no Gaussian fits ---------------------------------------------------------------------------------

BANANA_SD = 0.3


def _log_banana(z):
    """z_1 ~ N(0, 1), and z_2 near z_1^2 - 1."""
    return Normal(0.0, 1.0).log_prob(z[..., 0]) + Normal(z[..., 0] ** 2 - 1, BANANA_SD).log_prob(z[..., 1])


def _divergence_after_training(family, learning_rate, n_steps, n_starting_steps=0):
    """KL(q || banana) after a fit of q, from many draws.

    The starting steps bring each draw near the point into which the banana's own map makes the same noise. From there
    the divergence needs few steps.
    """
    encoding = [torch.zeros(1, width, requires_grad=True) for width in (2, 2, family.n_context)]
    optimizer = torch.optim.Adam([*encoding, *family.parameters()], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_starting_steps + n_steps)
    generator = _generator(3)

    def divergence(n):
        z, log_q = family.draw(Encoding(*encoding), torch.randn(n, 2, generator=generator))
        return (log_q - _log_banana(z)).mean()

    def distance(n):
        noise = torch.randn(n, 2, generator=generator)
        target = torch.stack([noise[:, 0], noise[:, 0] ** 2 - 1 + BANANA_SD * noise[:, 1]], 1)
        return (family.draw(Encoding(*encoding), noise)[0] - target).square().mean()

    for objective in [distance] * n_starting_steps + [divergence] * n_steps:
        optimizer.zero_grad()
        objective(256).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return divergence(20_000).item()


def test_flows_fit_a_banana(zuko):
    # The first flow has the ascending order, in which the first component bends the second.
    family = InverseAutoregressivePosterior(2, n_flows=2, generator=_generator())
    assert -0.01 < _divergence_after_training(family, 0.005, 100, n_starting_steps=200) < 0.1


def test_no_gaussian_fits_a_banana():
    # The best one has sds (s, BANANA_SD) with s^2 + 4 s^4 / BANANA_SD^2 = 1, where the derivative of KL is zero.
    c = 4 / BANANA_SD**2
    variance = (math.sqrt(1 + 4 * c) - 1) / (2 * c)
    best = (variance - 1 - math.log(variance)) / 2 + variance**2 / BANANA_SD**2
    assert best > 0.7
    divergence = _divergence_after_training(GaussianPosterior(2, generator=_generator()), 0.05, 300)
    assert divergence == pytest.approx(best, abs=0.03)


# ---- the reversed axis ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("components", [(0,), (1,), (0, 1), (1, 1)])
@pytest.mark.parametrize("name", POSTERIORS)
def test_reversing_axes_reverses_draws_and_keeps_the_bound(name, components):
    if name == "iaf":
        pytest.importorskip("zuko")
    own = {"iaf": {"n_flows": 3}}.get(name, {})
    prior = {"name": "vamp", "n_mixture_components": 5, "learn_weights": True, "learn_pseudo_inputs": True}
    model = _model({"name": name, **own}, prior=prior)
    rows, noise = DenseRows(_normal(6, D), None), _normal(6, 2, seed=3)
    signs = torch.ones(2, dtype=torch.float64)
    for component in components:
        signs[component] *= -1
    with torch.no_grad():
        z, log_q = model.posterior_family.draw(model.encoder(rows), noise)
        terms = model(rows, noise).named()
        for component in components:
            model.mirror_(component)
        mirrored, mirrored_log_q = model.posterior_family.draw(model.encoder(rows), signs * noise)
        torch.testing.assert_close(mirrored, signs * z)
        torch.testing.assert_close(mirrored_log_q, log_q)
        assert model(rows, signs * noise).named() == pytest.approx(terms, rel=1e-10)


# ---- how a family is built ------------------------------------------------------------------------------------------


def _weights(seed):
    return InverseAutoregressivePosterior(3, n_flows=2, generator=_generator(seed)).state_dict()


def test_flows_are_drawn_from_the_generator_alone(zuko):
    state = torch.get_rng_state()
    first = _weights(0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    torch.testing.assert_close(_weights(0), first, atol=0, rtol=0)
    other = _weights(1)
    assert not any(torch.equal(first[name], other[name]) for name in first if name.endswith("weight"))


def test_two_threads_at_once_build_the_same_flows_as_one_after_the_other(zuko):
    built = {}
    barrier = threading.Barrier(2)

    def build(seed):
        barrier.wait()
        for repeat in range(10):
            built[seed, repeat] = _weights(seed)

    state = torch.get_rng_state()
    threads = [threading.Thread(target=build, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(torch.get_rng_state(), state)
    expected = [_weights(seed) for seed in range(2)]
    for (seed, _), weights in built.items():
        torch.testing.assert_close(weights, expected[seed], atol=0, rtol=0)
    assert len(built) == 20


def test_without_zuko_the_error_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(ImportError, match=r"need zuko.*skdevae\[flows\]"):
        InverseAutoregressivePosterior(2, n_flows=1, generator=_generator())
    GaussianPosterior(2, generator=_generator())
