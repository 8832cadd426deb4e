"""Decoders of one candidate: sums of integrals along each axis, planes and networks, for random weights."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import quad
from torch.nn.functional import softplus

from skdevae.nn.behaviors import BEHAVIORS
from skdevae.nn.copies import BasisDecoder
from skdevae.nn.decoders import AdditiveDerivativeDecoder, DerivativeDecoder
from skdevae.nn.latent_grid import LatentGrid
from skdevae.nn.neural_decoders import NeuralDecoder

SIGNS = (1, -1, 0, 1, -1)
N_FEATURES = len(SIGNS)
Z_MAX = 4.5
INTEGRATORS = ["grid", "gauss-legendre"]


def _randomized(decoder, generator, spread):
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.normal_(0, spread, generator=generator)
    return decoder


def _additive(
    n_components=2, signs=SIGNS, *, seed=0, spread=1.0, integrator="grid", hidden_layer_sizes=(6,), n_knots=41
):
    """A float64 decoder whose parameters are all normal, with sd ``spread``."""
    generator = torch.Generator().manual_seed(seed)
    decoder = AdditiveDerivativeDecoder(
        len(signs),
        n_components,
        signs=signs,
        hidden_layer_sizes=hidden_layer_sizes,
        activation="tanh",
        integrator=integrator,
        n_knots=n_knots,
        z_max=Z_MAX,
        generator=generator,
    ).double()
    return _randomized(decoder, generator, spread)


def _neural(n_components=2, *, seed=0, spread=1.0, hidden_layer_sizes=(6,)):
    generator = torch.Generator().manual_seed(seed)
    decoder = NeuralDecoder(
        N_FEATURES, n_components, hidden_layer_sizes=hidden_layer_sizes, activation="tanh", generator=generator
    ).double()
    return _randomized(decoder, generator, spread)


def _curves(decoder, z):
    """At positions (P, Q): (P, D), of the one candidate that each feature has."""
    curves = decoder(decoder.prepare(z))
    assert curves.shape == (len(z), 1, curves.shape[2])
    return curves[:, 0]


def _random_z(n, n_components, seed=0, reach=1.4 * Z_MAX):
    generator = torch.Generator().manual_seed(seed)
    return reach * (2 * torch.rand(n, n_components, generator=generator, dtype=torch.float64) - 1)


def _along(component, n_components, *, n=4001, seed=0, reach=1.4 * Z_MAX):
    """Positions (n, Q) in ascending order of one component. The others have a random value, the same everywhere."""
    z = _random_z(1, n_components, seed, reach).repeat(n, 1)
    z[:, component] = _random_z(n, 1, seed + 1, reach)[:, 0].sort().values
    return z


def _slow(decoder):
    """The same decoder with derivatives that vary slowly, so that quadrature is exact."""
    with torch.no_grad():
        for axis in decoder.axes:
            for parameter in axis.parameters():
                parameter.mul_(0.2 / parameter.abs().max())
    return decoder


# ---- sums of integrals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spread", [1.0, 5.0, 20.0])
@pytest.mark.parametrize("n_components", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_signed_features_never_turn_along_any_component(seed, n_components, spread):
    # beyond the knots too; the tolerance is for the order of additions in a matrix product
    decoder = _additive(n_components, seed=seed, spread=spread)
    signs = torch.tensor(SIGNS, dtype=torch.float64)
    for component in range(n_components):
        with torch.no_grad():
            curves = _curves(decoder, _along(component, n_components, seed=seed))
        rounding = 16 * torch.finfo(torch.float64).eps * curves.abs().amax(0)
        assert (signs * curves.diff(dim=0) >= -rounding).all()
        if spread < 20:  # else a rate of exp(-100) is lost in the rounding of other components' curves
            assert (signs * (curves[-1] - curves[0]) > 0)[signs != 0].all()


@pytest.mark.parametrize("n_components", [1, 2])
@pytest.mark.parametrize("seed", range(6))
def test_quadrature_keeps_slow_derivatives_signed(seed, n_components):
    decoder = _slow(_additive(n_components, seed=seed, spread=2, integrator="gauss-legendre"))
    signs = torch.tensor(SIGNS, dtype=torch.float64)
    for component in range(n_components):
        with torch.no_grad():
            curves = _curves(decoder, _along(component, n_components, n=500, seed=seed, reach=Z_MAX))
        assert (signs * curves.diff(dim=0) >= -1e-12).all()
        assert (signs * (curves[-1] - curves[0]) > 0)[signs != 0].all()


def test_features_without_sign_rise_and_fall():
    turns = torch.zeros(2, 3)
    for seed in range(5):
        decoder = _additive(2, (0, 0, 0), seed=seed, spread=2)
        for component in range(2):
            steps = _curves(decoder, _along(component, 2, seed=seed)).detach().diff(dim=0)
            turns[component] += (steps > 0).any(0) & (steps < 0).any(0)
    assert (turns > 0).all()


@pytest.mark.parametrize("integrator", INTEGRATORS)
def test_each_feature_follows_its_own_sign(integrator):
    """With the same weights, a feature's curve depends on its own sign and not on the signs of the others."""
    z = _random_z(40, 2)
    together = _curves(_additive(2, SIGNS, seed=3, integrator=integrator), z)
    for sign in (-1, 0, 1):
        alike = _curves(_additive(2, (sign,) * N_FEATURES, seed=3, integrator=integrator), z)
        own = [column for column in range(N_FEATURES) if SIGNS[column] == sign]
        torch.testing.assert_close(together[:, own], alike[:, own])
        others = [column for column in range(N_FEATURES) if SIGNS[column] != sign]
        assert not torch.isclose(together[:, others], alike[:, others]).all(0).any()


@pytest.mark.parametrize("integrator", INTEGRATORS)
@pytest.mark.parametrize("n_components", [2, 3])
def test_components_add_up(n_components, integrator):
    decoder = _additive(n_components, seed=1, integrator=integrator)
    z = _random_z(30, n_components)
    with torch.no_grad():
        at_zero = _curves(decoder, torch.zeros_like(z))
        alone = sum(
            _curves(decoder, torch.where(torch.arange(n_components) == component, z, 0.0)) - at_zero
            for component in range(n_components)
        )
        torch.testing.assert_close(_curves(decoder, z) - at_zero, alone)
        # at the origin there is nothing to integrate
        torch.testing.assert_close(at_zero, decoder.start.expand_as(at_zero))


@pytest.mark.parametrize("hidden_layer_sizes", [(), (3,), (4, 3)])
def test_curves_follow_the_papers_formula(hidden_layer_sizes):
    """x0 + sum_q integral_0^z_q f_q, with softplus where there is a sign (equations 8 to 10), by scipy's quadrature."""
    decoder = _additive(2, seed=5, spread=0.6, integrator="gauss-legendre", hidden_layer_sizes=hidden_layer_sizes)
    z = torch.tensor([[-2.3, 0.8], [-0.6, -1.4], [1.9, 0.0], [2.1, 2.2]], dtype=torch.float64)

    def rate(s, component, column):
        hidden = decoder.axes[component].hidden(torch.tensor([[s]], dtype=torch.float64))
        output = decoder.heads[component](hidden)[0, column]
        return (output if SIGNS[column] == 0 else SIGNS[column] * softplus(output)).item()

    with torch.no_grad():
        curves = _curves(decoder, z)
        for row, position in enumerate(z.tolist()):
            for column in range(N_FEATURES):
                integrals = [quad(rate, 0, upper, args=(q, column))[0] for q, upper in enumerate(position)]
                expected = decoder.start[column].item() + sum(integrals)
                assert curves[row, column].item() == pytest.approx(expected, abs=1e-6)


def test_beyond_the_knots_curves_are_straight():
    decoder = _additive(2, seed=2, spread=3)
    for component in range(2):
        for end in (-1, 1):
            z = torch.full((3, 2), 0.7, dtype=torch.float64)
            z[:, component] = end * torch.tensor([Z_MAX, Z_MAX + 5, Z_MAX + 10], dtype=torch.float64)
            first, second = _curves(decoder, z).diff(dim=0)
            torch.testing.assert_close(first, second)


def test_integrators_agree_as_knots_grow():
    z = _random_z(25, 2, reach=3)
    by_quadrature = _curves(_additive(2, seed=1, spread=0.5, integrator="gauss-legendre"), z)
    errors = [
        (_curves(_additive(2, seed=1, spread=0.5, n_knots=n), z) - by_quadrature).abs().max().item()
        for n in (21, 201, 2001)
    ]
    assert errors[-1] < 1e-5
    assert errors[0] > 20 * errors[1] > 400 * errors[2]  # the interpolation's error falls with the squared spacing


def test_fixed_points_and_points_with_gradient_have_the_same_curves():
    # where points are fixed, a coordinate that occurs more than once is integrated once
    decoder, points = _additive(2, seed=4), LatentGrid.standard_normal(9, 6.0, 2).points
    fixed = _curves(decoder, points)
    assert len(decoder.prepare(points)[0][0].z) == 9
    torch.testing.assert_close(_curves(decoder, points.clone().requires_grad_()), fixed)
    some = torch.randperm(81, generator=torch.Generator().manual_seed(1))[:50]  # not all combinations of coordinates
    torch.testing.assert_close(_curves(decoder, points[some]), fixed[some])
    one_by_one = torch.cat([_curves(decoder, point[None]) for point in points[::7]])
    torch.testing.assert_close(one_by_one, fixed[::7])
    target = torch.randn(fixed.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gradients = []
    for z in (points, points.clone().requires_grad_()):
        decoder.zero_grad()
        (_curves(decoder, z) * target).sum().backward()
        gradients.append([parameter.grad.clone() for parameter in decoder.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("integrator", INTEGRATORS)
@pytest.mark.parametrize("hidden_layer_sizes", [(), (5,), (5, 4)])
@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_gradients_reach_every_parameter(n_components, hidden_layer_sizes, integrator):
    decoder = _additive(n_components, seed=1, spread=0.5, integrator=integrator, hidden_layer_sizes=hidden_layer_sizes)
    assert all(parameter.requires_grad for parameter in decoder.parameters())
    target = torch.randn(60, N_FEATURES, generator=torch.Generator().manual_seed(9))
    (_curves(decoder, _random_z(60, n_components, reach=2)) * target).sum().backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert (parameter.grad != 0).all(), name


@pytest.mark.parametrize("integrator", INTEGRATORS)
def test_gradients_reach_the_latents_and_agree_with_differences(integrator):
    decoder = _additive(2, seed=6, spread=0.8, integrator=integrator)
    z = _random_z(12, 2, reach=1.3 * Z_MAX)
    assert torch.autograd.gradcheck(lambda u: _curves(decoder, u), z.requires_grad_())


@pytest.mark.parametrize("integrator", INTEGRATORS)
@pytest.mark.parametrize("hidden_layer_sizes", [(), (5,), (4, 3)])
@pytest.mark.parametrize(("n_components", "component"), [(1, 0), (2, 0), (2, 1), (3, 1)])
def test_mirroring_reverses_one_axis(n_components, component, hidden_layer_sizes, integrator):
    def decoder(seed):
        return _additive(
            n_components,
            (0, 0, 0),
            seed=seed,
            integrator=integrator,
            hidden_layer_sizes=hidden_layer_sizes,
        )

    mirrored, z = decoder(7), _random_z(100, n_components)
    reversed_z = z.clone()
    reversed_z[:, component].neg_()
    with torch.no_grad():
        before, before_reversed = _curves(mirrored, z), _curves(mirrored, reversed_z)
        assert mirrored.can_mirror
        assert mirrored.mirror_(component) == [0]
        after = _curves(mirrored, z)
        assert not torch.allclose(after, before)
        torch.testing.assert_close(after, before_reversed, rtol=1e-9, atol=1e-9)
        # the saved state holds all that the mirrored curves depend on
        fresh = decoder(8)
        fresh.load_state_dict(mirrored.state_dict())
        assert torch.equal(_curves(fresh, z), after)
        mirrored.mirror_(component)
        assert torch.equal(_curves(mirrored, z), before)


@pytest.mark.parametrize(
    ("signs", "possible"), [((0, 0), True), ((1, -1), False), ((1, 0), False), ((0, -1), False), ((1, 1), False)]
)
def test_only_decoders_without_signs_can_mirror(signs, possible):
    # every rising curve falls on the reversed axis, and no weights let a feature of sign 1 fall
    assert _additive(2, signs).can_mirror is possible


@pytest.mark.parametrize("n_components", [1, 2])
def test_initialization_reproduces_a_plane_that_the_signs_allow(n_components):
    decoder = _additive(n_components, seed=1)
    slopes = torch.tensor([[0.5, -0.3, -2.0, 2.0, -1.0], [1.5, -0.2, 0.7, 0.1, -3.0]], dtype=torch.float64)
    slopes, level = slopes[:n_components], torch.arange(5.0, dtype=torch.float64)
    z = _random_z(40, n_components, reach=2)
    mass = torch.rand(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    decoder.initialize_(level + z @ slopes, mass, z)
    for head in decoder.heads:
        head.weight.data.zero_()  # without the random shape that training starts from
    # knots are float32
    torch.testing.assert_close(_curves(decoder, z), level + z @ slopes, atol=1e-5, rtol=1e-5)


def test_initialization_against_the_signs_starts_nearly_level():
    decoder, z = _additive(1, seed=1), _random_z(40, 1, reach=2)
    signs = torch.tensor(SIGNS, dtype=torch.float64)
    decoder.initialize_(-3 * signs * z, torch.ones(40, dtype=torch.float64), z)
    decoder.heads[0].weight.data.zero_()
    steps = (signs * _curves(decoder, z.sort(0).values).diff(dim=0) / z.sort(0).values.diff(dim=0))[:, signs != 0]
    assert ((steps > 0) & (steps < 0.1)).all()


@pytest.mark.parametrize("n_components", [1, 2])
def test_log_prior_of_sums_is_a_log_density_up_to_a_constant(n_components):
    one, other = (_additive(n_components, seed=seed) for seed in (0, 1))
    difference = (one.log_prior(0.7) - other.log_prior(0.7)).detach().numpy()
    density = [
        sum(stats.norm(scale=0.7**-0.5).logpdf(head.weight.detach().numpy()).sum(1) for head in decoder.heads)
        for decoder in (one, other)
    ]
    np.testing.assert_allclose(difference, [density[0] - density[1]], atol=1e-10)


# ---- planes and networks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_components", [1, 2, 3])
@pytest.mark.parametrize("hidden_layer_sizes", [(), (4,), (4, 3)])
def test_a_neural_decoder_is_a_plane_plus_a_perceptron(n_components, hidden_layer_sizes):
    decoder = _neural(n_components, hidden_layer_sizes=hidden_layer_sizes)
    own = {name: value.detach().numpy() for name, value in decoder.named_parameters()}
    z = _random_z(20, n_components)
    expected = own["level"] + z.numpy() @ own["loadings"]
    hidden = z.numpy()
    for layer in range(len(hidden_layer_sizes)):
        hidden = np.tanh(hidden @ own[f"hidden.{2 * layer}.weight"].T + own[f"hidden.{2 * layer}.bias"])
    if hidden_layer_sizes:
        expected = expected + hidden @ own["head.weight"].T + own["head.bias"]
    assert ("head.weight" in own) == bool(hidden_layer_sizes)
    np.testing.assert_allclose(_curves(decoder, z).detach().numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("hidden_layer_sizes", [(), (5,), (5, 4)])
def test_gradients_reach_every_weight_of_a_neural_decoder(hidden_layer_sizes):
    decoder = _neural(2, spread=0.5, hidden_layer_sizes=hidden_layer_sizes)
    target = torch.randn(60, N_FEATURES, generator=torch.Generator().manual_seed(9))
    (_curves(decoder, _random_z(60, 2, reach=2)) * target).sum().backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad != 0).all(), name


@pytest.mark.parametrize("hidden_layer_sizes", [(), (5,), (5, 4)])
@pytest.mark.parametrize(("n_components", "component"), [(1, 0), (2, 0), (2, 1), (3, 1)])
def test_mirroring_a_neural_decoder_reverses_one_axis(n_components, component, hidden_layer_sizes):
    decoder, z = _neural(n_components, hidden_layer_sizes=hidden_layer_sizes), _random_z(50, n_components)
    reversed_z = z.clone()
    reversed_z[:, component].neg_()
    with torch.no_grad():
        before, before_reversed = _curves(decoder, z), _curves(decoder, reversed_z)
        assert decoder.can_mirror
        assert decoder.mirror_(component) == [0]
        torch.testing.assert_close(_curves(decoder, z), before_reversed)
        assert not torch.allclose(_curves(decoder, z), before)
        decoder.mirror_(component)
        assert torch.equal(_curves(decoder, z), before)


@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_initialization_is_weighted_least_squares(n_components):
    decoder = _neural(n_components, hidden_layer_sizes=())
    generator = np.random.default_rng(0)
    z, target = generator.normal(0.5, 1, (40, n_components)), generator.normal(size=(40, N_FEATURES))
    mass = generator.uniform(0.1, 3, 40)
    decoder.initialize_(*map(torch.from_numpy, (target, mass, z)))
    design, weight = np.column_stack([np.ones(40), z]), np.sqrt(mass)[:, None]
    expected = np.linalg.lstsq(weight * design, weight * target, rcond=None)[0]
    np.testing.assert_allclose(decoder.level.detach().numpy(), expected[0], atol=1e-10)
    np.testing.assert_allclose(decoder.loadings.detach().numpy(), expected[1:], atol=1e-10)


def test_log_prior_of_a_network_depends_on_its_output_weights_alone():
    one, other = (_neural(2, seed=seed) for seed in (0, 1))
    density = [stats.norm(scale=0.7**-0.5).logpdf(net.head.weight.detach().numpy()).sum(1) for net in (one, other)]
    difference = (one.log_prior(0.7) - other.log_prior(0.7)).detach().numpy()
    np.testing.assert_allclose(difference, [density[0] - density[1]], atol=1e-10)
    assert (_neural(2, hidden_layer_sizes=()).log_prior(0.7) == 0).all()


# ---- far out --------------------------------------------------------------------------------------------------------

NETWORK = {"hidden_layer_sizes": (6,), "activation": "relu"}
INTEGRAL = {"integrator": "grid", "n_knots": 41, "z_max": Z_MAX}
COPIES = {"scale_bounds": (0.2, 3.0), **NETWORK, **INTEGRAL}
EVERY_DECODER = {
    **{name: (DerivativeDecoder, {"behaviors": [name], **NETWORK, **INTEGRAL}) for name in BEHAVIORS},
    "quadrature": (DerivativeDecoder, {"behaviors": ["dip"], **NETWORK, **INTEGRAL, "integrator": "gauss-legendre"}),
    "sum over axes": (AdditiveDerivativeDecoder, {"n_components": 1, "signs": SIGNS, **NETWORK, **INTEGRAL}),
    "network": (NeuralDecoder, {"n_components": 1, **NETWORK}),
    "shifted copies": (BasisDecoder, {"n_components": 1, "n_clusters": 3, "basis": None, "max_shift": 1.5, **COPIES}),
    "copies": (
        BasisDecoder,
        {"n_components": 1, "n_clusters": 2, "basis": ["increasing", "dip"], "max_shift": 0.0, **COPIES},
    ),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", EVERY_DECODER)
def test_curves_and_their_gradients_are_finite_for_steep_curves_and_distant_positions(name, dtype):
    kind, options = EVERY_DECODER[name]
    for spread in (1.0, 1e3, 1e6):
        generator = torch.Generator().manual_seed(0)
        decoder = kind(N_FEATURES, **options, generator=generator).to(dtype)
        _randomized(decoder, generator, spread)
        z = torch.tensor([-1e6, -1e3, -8.0, 0.0, 8.0, 1e3, 1e6], dtype=dtype)[:, None].requires_grad_()
        curves = decoder(decoder.prepare(z))
        assert curves.isfinite().all()
        assert decoder.log_prior(None).isfinite().all()
        for gradient in torch.autograd.grad(curves.sum(), [z, *decoder.parameters()], allow_unused=True):
            assert gradient is None or gradient.isfinite().all()
