"""Behaviours and their decoder: every curve does what its name says, whatever the weights."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import quad
from torch.nn.functional import softplus

from skdevae.nn.behaviors import BEHAVIORS
from skdevae.nn.decoders import DerivativeDecoder
from skdevae.nn.integrals import GridRule, symmetric_grid

N_FEATURES = 4
Z_MAX = 4.5
INTEGRATORS = ["grid", "gauss-legendre"]
MIRRORABLE = [
    ["increasing", "decreasing", "transient"],
    ["decreasing", "free", "increasing"],
    ["transient"],
    ["flat", "dip", "free", "transient"],
    list(BEHAVIORS),
]


def _decoder(behaviors, *, seed=0, spread=1.0, integrator="grid", hidden_layer_sizes=(6,), n_knots=41):
    """A float64 decoder whose parameters are all normal, with sd ``spread``."""
    generator = torch.Generator().manual_seed(seed)
    decoder = DerivativeDecoder(
        N_FEATURES,
        behaviors,
        hidden_layer_sizes=hidden_layer_sizes,
        activation="tanh",
        integrator=integrator,
        n_knots=n_knots,
        z_max=Z_MAX,
        generator=generator,
    ).double()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.normal_(0, spread, generator=generator)
    return decoder


def _curves(decoder, z):
    """Curves (P, K, D) at positions on the axis, (P,)."""
    return decoder(decoder.prepare(z[:, None]))


def _derivative(decoder, z):
    """d curve / dz: (P, K, D)."""
    z = z.clone().requires_grad_()
    curves = _curves(decoder, z)
    n_curves = curves[0].numel()
    one_curve_each = torch.eye(n_curves, dtype=z.dtype)[:, None].expand(-1, len(z), -1)
    (per_curve,) = torch.autograd.grad(curves.flatten(1), z, one_curve_each, is_grads_batched=True)
    return per_curve.T.reshape(curves.shape)


def _random_z(n=10_000, seed=0, reach=1.4 * Z_MAX):
    generator = torch.Generator().manual_seed(seed)
    return (reach * (2 * torch.rand(n, generator=generator, dtype=torch.float64) - 1)).sort().values


@pytest.mark.parametrize("spread", [1.0, 5.0, 20.0])
@pytest.mark.parametrize("seed", range(3))
def test_monotone_curves_never_turn(seed, spread):
    # 10^4 positions, beyond the knots too. The tolerance is for the order of additions in a matrix product.
    decoder = _decoder(["increasing", "decreasing"], seed=seed, spread=spread)
    with torch.no_grad():
        curves = _curves(decoder, _random_z(seed=seed))
    rounding = 8 * torch.finfo(torch.float64).eps * curves.abs().amax(0)
    steps = curves.diff(dim=0)
    assert (steps[:, 0] >= -rounding[0]).all()
    assert (steps[:, 1] <= rounding[1]).all()
    assert (curves[-1, 0] > curves[0, 0]).all()
    assert (curves[-1, 1] < curves[0, 1]).all()


@pytest.mark.parametrize("integrator", INTEGRATORS)
@pytest.mark.parametrize("spread", [0.5, 1.5, 3.0])
@pytest.mark.parametrize("seed", range(3))
def test_transient_and_dip_turn_once_at_their_peak(seed, spread, integrator):
    decoder = _decoder(["transient", "dip"], seed=seed, spread=spread, integrator=integrator, hidden_layer_sizes=(4,))
    if integrator == "gauss-legendre":
        # Quadrature guarantees nothing for a rough integrand, and is exact for a slowly varying one.
        decoder.hidden[0].weight.data.mul_(0.2 / spread)
        decoder.hidden[0].bias.data.mul_(0.2 / spread)
    z = _random_z(600, seed=seed, reach=2 * Z_MAX)
    slope = _derivative(decoder, z)
    with torch.no_grad():
        curves = _curves(decoder, z)
    for k, (behavior, sign) in enumerate(zip(decoder.behaviors, (+1, -1), strict=True)):
        side = (behavior.peak - z[:, None]).sign().detach()  # +1 before the peak, where a maximum rises
        assert (sign * side * slope[:, k] >= 0).all()
        away = (sign * (curves[:, k] - behavior.base)).detach() / behavior.height.detach()  # exp(-h^2)
        visible = (away > 1e-6) & (z[:, None] != behavior.peak)
        assert (sign * side * slope[:, k] > 0)[visible].all()
        assert visible.any(0).all()
        peaks = behavior.peak.detach()
        at_peaks, slopes = (f(decoder, peaks)[:, k].diagonal().detach() for f in (_curves, _derivative))
        torch.testing.assert_close(at_peaks, behavior.base + sign * behavior.height)
        assert (slopes.abs() < 1e-9).all()
        assert (sign * (at_peaks - curves[:, k]) >= 0).all()


@pytest.mark.parametrize("name, sign", [("transient", +1), ("dip", -1)])
def test_bump_follows_the_formula_of_the_paper(name, sign):
    """b + sign A exp(-h^2), h = (z - t0) softplus(c + integral_0^z (s - t0) f(s) ds), against scipy's quadrature."""
    decoder = _decoder([name], seed=5, spread=0.6, integrator="gauss-legendre", hidden_layer_sizes=(3,))
    (behavior,) = decoder.behaviors
    z = torch.tensor([-2.3, -0.6, 0.0, 0.8, 2.1], dtype=torch.float64)
    with torch.no_grad():
        curves = _curves(decoder, z)[:, 0]

        def rate(s, j):
            hidden = decoder.hidden(torch.tensor([[s]], dtype=torch.float64))
            return softplus(behavior.head(hidden))[0, j].item()

        for j in range(N_FEATURES):
            t0, c, b, a = (t[j].item() for t in (behavior.peak, behavior.steepness, behavior.base, behavior.height))
            for upper, value in zip(z.tolist(), curves[:, j].tolist(), strict=True):
                widening = c + quad(lambda s: (s - t0) * rate(s, j), 0, upper)[0]  # noqa: B023 (used at once)
                h = (upper - t0) * np.logaddexp(0, widening)
                assert value == pytest.approx(b + sign * a * np.exp(-(h**2)), abs=1e-7)


def test_height_of_a_bump_is_positive():
    (behavior,) = _decoder(["transient"], spread=10).behaviors
    assert (behavior.height > 0).all()


def test_flat_is_constant_and_takes_any_level():
    decoder = _decoder(["flat"], seed=3, spread=5)
    curves = _curves(decoder, _random_z(500))[:, 0]
    assert torch.equal(curves, decoder.behaviors[0].level.expand(500, -1))


@pytest.mark.parametrize("integrator", INTEGRATORS)
@pytest.mark.parametrize("hidden_layer_sizes", [(), (3,), (4, 3)])
def test_derivatives_are_what_the_heads_say(integrator, hidden_layer_sizes):
    decoder = _decoder(
        ["increasing", "decreasing", "free", "flat"],
        seed=2,
        spread=0.5,
        integrator=integrator,
        hidden_layer_sizes=hidden_layer_sizes,
    )
    z = decoder.knots.clone()  # at a knot the interpolated derivative is the derivative itself
    rising, falling, free, _ = decoder.behaviors
    hidden = decoder.hidden(z[:, None])
    expected = [softplus(rising.head(hidden)), -softplus(falling.head(hidden)), free.head(hidden), torch.zeros(41, 4)]
    slope = _derivative(decoder, z)
    torch.testing.assert_close(slope, torch.stack(expected, 1).double().detach(), atol=1e-5, rtol=1e-5)
    # a derivative leaves one number open: the curve's value at zero
    starts = torch.stack([rising.start, falling.start, free.start, decoder.behaviors[3].level])
    torch.testing.assert_close(_curves(decoder, torch.zeros(1, dtype=torch.float64))[0], starts)


def test_free_curves_can_turn():
    curves = _curves(_decoder(["free"], seed=1, spread=3), _random_z(500))[:, 0].detach()
    turns = (curves.diff(dim=0).sign().diff(dim=0) != 0).sum(0)
    assert (turns > 1).any()


def test_integrators_agree():
    # With smooth derivatives, many knots and a few nodes give the same curve, for every behaviour.
    many = {"grid": 1601, "gauss-legendre": 3}
    by_grid, by_quadrature = (
        _decoder(list(BEHAVIORS), seed=1, spread=0.5, integrator=name, n_knots=n) for name, n in many.items()
    )
    z = torch.linspace(-3, 3, 25, dtype=torch.float64)
    torch.testing.assert_close(_curves(by_grid, z), _curves(by_quadrature, z), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", BEHAVIORS)
def test_one_behavior_by_itself_is_the_decoders(name):
    decoder = _decoder(list(BEHAVIORS), seed=4)
    z = _random_z(50)
    alone = BEHAVIORS[name](N_FEATURES, 6, torch.Generator()).double()
    position = list(BEHAVIORS).index(name)
    alone.load_state_dict(decoder.behaviors[position].state_dict())
    assert alone.name == decoder.names[position] == name
    rule = GridRule(decoder.knots, z)
    curve = alone.curve(decoder.hidden(rule.nodes[:, None]), rule)
    torch.testing.assert_close(curve, _curves(decoder, z)[:, position])


@pytest.mark.parametrize("integrator", INTEGRATORS)
@pytest.mark.parametrize("hidden_layer_sizes", [(), (5,), (5, 4)])
def test_gradients_reach_every_parameter(integrator, hidden_layer_sizes):
    decoder = _decoder(
        list(BEHAVIORS), seed=1, spread=0.5, integrator=integrator, hidden_layer_sizes=hidden_layer_sizes
    )
    z = _random_z(60, reach=2)
    target = torch.randn(60, len(BEHAVIORS), N_FEATURES, generator=torch.Generator().manual_seed(9))
    (_curves(decoder, z) * target).sum().backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert (parameter.grad != 0).all(), name


@pytest.mark.parametrize("name", BEHAVIORS)
def test_gradients_reach_the_latents_and_agree_with_differences(name):
    decoder = _decoder([name], seed=6, spread=0.8)
    z = _random_z(12, reach=1.3 * Z_MAX)
    assert torch.autograd.gradcheck(lambda u: _curves(decoder, u), z.requires_grad_())


@pytest.mark.parametrize("integrator", INTEGRATORS)
@pytest.mark.parametrize("hidden_layer_sizes", [(), (5,)])
@pytest.mark.parametrize("behaviors", MIRRORABLE, ids="-".join)
def test_mirroring_reverses_the_axis(behaviors, integrator, hidden_layer_sizes):
    decoder = _decoder(behaviors, seed=7, integrator=integrator, hidden_layer_sizes=hidden_layer_sizes)
    z = _random_z(100)
    with torch.no_grad():
        before, before_reversed = _curves(decoder, z), _curves(decoder, -z)
        assert decoder.can_mirror
        order = decoder.mirror_(0)
        after = _curves(decoder, z)
        assert sorted(order) == list(range(len(behaviors)))
        assert decoder.names == behaviors
        for k in range(len(behaviors)):
            torch.testing.assert_close(after[:, k], before_reversed[:, order[k]], rtol=1e-9, atol=1e-9)
        # the saved state holds all that the mirrored curves depend on
        fresh = _decoder(behaviors, seed=8, integrator=integrator, hidden_layer_sizes=hidden_layer_sizes)
        fresh.load_state_dict(decoder.state_dict())
        assert torch.equal(_curves(fresh, z), after)
        decoder.mirror_(0)
        assert torch.equal(_curves(decoder, z), before)


@pytest.mark.parametrize(
    "behaviors, possible",
    [
        *((behaviors, True) for behaviors in MIRRORABLE),
        (["increasing"], False),
        (["decreasing", "transient"], False),
        (["free", "flat", "increasing"], False),
    ],
)
def test_can_mirror(behaviors, possible):
    assert _decoder(behaviors).can_mirror is possible


@pytest.mark.parametrize("name", BEHAVIORS)
def test_log_prior_is_a_log_density_up_to_a_constant(name):
    """Differences between two random members are those of scipy's densities, feature by feature."""
    weight_precision = 0.7

    def expected(behavior):
        own = {key: value.detach().numpy() for key, value in behavior.named_parameters()}
        density = np.zeros(N_FEATURES)
        if "head.weight" in own:
            density += stats.norm(scale=weight_precision**-0.5).logpdf(own["head.weight"]).sum(1)
        if "peak" in own:
            density += stats.norm.logpdf(own["peak"]) + stats.gamma(1).logpdf(behavior.height.detach().numpy())
        return density

    one, other = (_decoder([name], seed=seed) for seed in (0, 1))
    difference = (one.log_prior(weight_precision) - other.log_prior(weight_precision))[0].detach().numpy()
    np.testing.assert_allclose(difference, expected(one.behaviors[0]) - expected(other.behaviors[0]), atol=1e-10)


@pytest.mark.parametrize("name, slopes", [("increasing", (0.1, 3)), ("decreasing", (-3, -0.1)), ("free", (-3, 3))])
def test_initialization_reproduces_a_straight_line(name, slopes):
    decoder = _decoder([name], seed=1)
    z = torch.linspace(-2, 3, 21, dtype=torch.float64)
    slope = torch.linspace(*slopes, N_FEATURES, dtype=torch.float64)
    target = torch.arange(4.0, dtype=torch.float64) + slope * z[:, None]
    decoder.initialize_(target, torch.rand(21, generator=torch.Generator().manual_seed(0)).double() + 0.1, z[:, None])
    decoder.behaviors[0].head.weight.data.zero_()  # without the random shape that training starts from
    torch.testing.assert_close(_curves(decoder, z)[:, 0], target)


@pytest.mark.parametrize("name, sign", [("transient", +1), ("dip", -1)])
def test_initialization_puts_the_peak_where_the_feature_stands_out(name, sign):
    z = symmetric_grid(61, Z_MAX)
    centers = torch.tensor([-2.0, -0.7, 0.5, 1.8], dtype=torch.float64)
    decoder = _decoder([name])
    target = 3 + sign * (-((z[:, None] - centers) ** 2)).exp()
    decoder.initialize_(target, torch.exp(-0.5 * (z / 2) ** 2), z[:, None])
    (behavior,) = decoder.behaviors
    peaks = behavior.peak.detach()
    assert all(later > earlier for earlier, later in pairwise(peaks))
    assert (peaks.sign() == centers.sign()).all()
    top = (behavior.base + sign * behavior.height).detach()
    assert (sign * (top - 3) > 0).all()
    assert (sign * behavior.base < sign * top).all()
