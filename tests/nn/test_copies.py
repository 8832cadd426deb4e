"""The decoder of BasisVAE: scaled and shifted copies of basis functions, for random weights."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from skdevae.nn.behaviors import BEHAVIORS
from skdevae.nn.copies import BasisDecoder
from skdevae.nn.models import build_model

N_FEATURES, N_CLUSTERS, Z_MAX = 5, 3, 4.5
BOUNDS = (0.25, 1.75)
NETWORK = {"hidden_layer_sizes": (6,), "activation": "tanh", "integrator": "grid", "n_knots": 41, "z_max": Z_MAX}
#: kinds of decoders: with and without scales, shifts and behaviours
KINDS = {
    "free": {},
    "shifted": {"max_shift": 1.5},
    "unscaled": {"scale_bounds": None},
    "unscaled, shifted": {"scale_bounds": None, "max_shift": 0.8},
    "behaviours": {"basis": ("increasing", "decreasing", "transient")},
    "behaviours, shifted": {"basis": ("increasing", "transient", "transient"), "max_shift": 1.5},
    "without hidden units": {"hidden_layer_sizes": (), "max_shift": 1.5},
}


def arguments(**changes):
    return {"n_clusters": N_CLUSTERS, "scale_bounds": BOUNDS, "max_shift": 0.0, "basis": None, **NETWORK, **changes}


def random_(module, seed, spread=1.0):
    """The module with parameters that are all normal, with sd ``spread``."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, spread, generator=generator)
    return module


def decoder_of(*, seed=0, spread=1.0, n_components=1, **changes):
    """A float64 decoder with random parameters."""
    config = arguments(**changes)
    n_clusters = config.pop("n_clusters")
    decoder = BasisDecoder(
        N_FEATURES, n_components, n_clusters, generator=torch.Generator().manual_seed(seed), **config
    )
    return random_(decoder.double(), seed + 1, spread)


def random_z(n=200, n_components=1, reach=2.5 * Z_MAX, seed=0):
    """Positions (n, Q) inside and far outside of the table of functions."""
    generator = torch.Generator().manual_seed(seed)
    return reach * (2 * torch.rand(n, n_components, generator=generator, dtype=torch.float64) - 1)


def parameters_of(decoder):
    """Levels, scales and shifts as arrays (K, D)."""
    return tuple(field.detach().numpy() for field in (decoder.levels, decoder.scales, decoder.shifts))


def straight_between(knots, values, z):
    """Linear interpolation at z (P,), along the first and the last piece beyond the knots."""
    inside = np.interp(z, knots, values)
    first, last = np.diff(values[:2]) / np.diff(knots[:2]), np.diff(values[-2:]) / np.diff(knots[-2:])
    return inside + first * np.minimum(z - knots[0], 0) + last * np.maximum(z - knots[-1], 0)


# ---- the curves -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_curves_are_scaled_and_shifted_copies(kind, seed):
    decoder, z = decoder_of(seed=seed, **KINDS[kind]), random_z(seed=seed)
    curves = decoder(decoder.prepare(z)).detach().numpy()
    assert curves.shape == (len(z), N_CLUSTERS, N_FEATURES)
    levels, scales, shifts = parameters_of(decoder)
    for k in range(N_CLUSTERS):
        for j in range(N_FEATURES):
            copied = decoder.functions(z + float(shifts[k, j])).detach().numpy()[:, k]
            np.testing.assert_allclose(curves[:, k, j], levels[k, j] + scales[k, j] * copied, rtol=1e-10, atol=1e-10)
    assert (shifts != 0).all() == (decoder.max_shift > 0)


@pytest.mark.parametrize("kind", [kind for kind, changes in KINDS.items() if "max_shift" in changes])
def test_shifted_functions_are_straight_between_the_knots_of_a_table(kind):
    decoder, z = decoder_of(seed=3, **KINDS[kind]), random_z(1000)
    knots = decoder.table_knots.numpy()
    table = decoder.basis(decoder.table_knots[:, None]).detach().numpy()
    functions = decoder.functions(z).detach().numpy()
    for k in range(N_CLUSTERS):
        expected = straight_between(knots, table[:, k], z[:, 0].numpy())
        np.testing.assert_allclose(functions[:, k], expected, rtol=1e-10, atol=1e-10)
    # every shift of every point of the axis lies inside the table
    assert knots[0] <= -Z_MAX - decoder.max_shift
    assert knots[-1] >= Z_MAX + decoder.max_shift
    np.testing.assert_allclose(knots, -knots[::-1])


def test_the_table_is_fine_enough():
    decoder = decoder_of(seed=1, max_shift=1.5)
    z = random_z(1000, reach=Z_MAX)
    itself = decoder.basis(z).detach()
    error = (decoder.functions(z) - itself).detach()
    assert (error.square().mean(0) < 1e-4 * itself.var(0)).all()


def test_functions_without_shifts_are_the_network_itself():
    decoder, z = decoder_of(), random_z()
    assert torch.equal(decoder.functions(z), decoder.basis(z))
    assert torch.equal(decoder.basis(z), decoder.basis.head(decoder.basis.hidden(z)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_selection_is_one_of_the_candidates(kind):
    decoder, z = decoder_of(seed=2, **KINDS[kind]), random_z()
    points = decoder.prepare(z)
    for labels in (torch.tensor([0, 2, 1, 1, 0]), torch.zeros(N_FEATURES, dtype=torch.long)):
        everything = decoder(points)
        torch.testing.assert_close(
            decoder.select(points, labels), everything[:, labels, torch.arange(N_FEATURES)], rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize("changes", [{}, {"scale_bounds": None}])
def test_a_latent_of_two_components(changes):
    decoder, z = decoder_of(n_components=2, seed=4, **changes), random_z(n_components=2)
    levels, scales, _ = parameters_of(decoder)
    functions = decoder.functions(z).detach().numpy()
    expected = levels + scales * functions[:, :, None]
    curves = decoder(decoder.prepare(z)).detach().numpy()
    np.testing.assert_allclose(curves, expected, rtol=1e-10, atol=1e-10)
    # the functions depend on both components
    for component in range(2):
        moved = z.clone()
        moved[:, component] += 0.1
        assert ((decoder.functions(moved).detach().numpy() - functions) != 0).all()


# ---- the constant ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_candidate_is_a_constant(kind):
    """It is the feature's own level at every z; the copies are those of a decoder without it."""
    decoder, z = decoder_of(seed=2, with_flat=True, **KINDS[kind]), random_z()
    points = decoder.prepare(z)
    curves = decoder(points)
    assert curves.shape == (len(z), N_CLUSTERS + 1, N_FEATURES)
    assert torch.equal(curves[:, -1], decoder.flat_level.expand(len(z), -1))
    assert decoder.names[-1] == "flat"
    assert len(decoder.names) == N_CLUSTERS + 1
    assert decoder.functions(z).shape == (len(z), N_CLUSTERS)
    without = decoder_of(seed=9, **KINDS[kind])
    without.load_state_dict({name: value for name, value in decoder.state_dict().items() if name != "flat_level"})
    assert torch.equal(without(points), curves[:, :-1])
    assert torch.equal(without.levels, decoder.levels[:-1])
    assert torch.equal(decoder.levels[-1], decoder.flat_level)
    for field in (decoder.scales, decoder.shifts):
        assert field.shape == (N_CLUSTERS + 1, N_FEATURES)
        assert (field[-1] == 0).all()
    labels = torch.tensor([0, N_CLUSTERS, 1, 2, N_CLUSTERS])
    torch.testing.assert_close(
        decoder.select(points, labels), curves[:, labels, torch.arange(N_FEATURES)], rtol=1e-12, atol=1e-12
    )


def test_a_constant_of_two_components():
    decoder, z = decoder_of(n_components=2, with_flat=True), random_z(n_components=2)
    assert (np.ptp(decoder(z).detach().numpy()[:, -1], axis=0) == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_pays_schwarzs_term_for_its_scale_and_its_shift(kind):
    """Beside the log priors of scales and shifts, it is half of log N each; a constant pays for a level of its own."""
    model = model_of(1, with_flat=True, **KINDS[kind])
    decoder = model.decoder
    with torch.no_grad():
        _, scales, shifts = (field[:-1].numpy() for field in (decoder.levels, decoder.scales, decoder.shifts))
        log_prior = model.candidate_log_prior().numpy()
    n_free = int(decoder.scale_bounds is not None) + int(decoder.max_shift > 0)
    own_prior = (-scales if decoder.scale_bounds is not None else 0) - 0.5 * shifts**2
    np.testing.assert_allclose(log_prior[:-1], own_prior - 0.5 * n_free * np.log(10), rtol=1e-12)
    np.testing.assert_allclose(log_prior[-1], -0.5 * np.log(10) if decoder.scale_bounds is None else 0)


def test_a_constant_takes_no_part_in_the_gradient_of_functions():
    decoder, z = decoder_of(with_flat=True, max_shift=1.5), random_z(50)
    sharing = torch.ones(N_CLUSTERS + 1, N_FEATURES, dtype=torch.float64)
    decoder(decoder.prepare(z), sharing)[:, -1].sum().backward()
    torch.testing.assert_close(decoder.flat_level.grad, torch.full((N_FEATURES,), 50.0).double())
    for name, parameter in decoder.named_parameters():
        assert name == "flat_level" or parameter.grad is None or (parameter.grad == 0).all()


def test_a_constant_starts_at_the_weighted_mean():
    decoder = decoder_of(with_flat=True)
    z = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    target = torch.arange(5 * N_FEATURES).double().view(5, N_FEATURES)
    mass = torch.tensor([1.0, 2.0, 0.0, 3.0, 1.0]).double()
    decoder.initialize_(target, mass, z)
    expected = np.average(target.numpy(), axis=0, weights=mass.numpy())
    np.testing.assert_allclose(decoder.flat_level.detach(), expected)
    decoder.set_flat_(target[1])
    assert torch.equal(decoder.flat_level.detach(), target[1])


def test_the_constant_of_a_model_is_what_it_calls_flat():
    assert model_of(0, with_flat=True).flat_candidate == N_CLUSTERS
    assert model_of(0).flat_candidate is None
    assert not model_of(0).decoder.n_shape_parameters.any()


# ---- the parameters of copies ---------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(st.floats(-1e6, 1e6), st.sampled_from([BOUNDS, (0.1, 0.7), (2.0, 3.0), (1e-3, 100.0)]), st.floats(0.01, 2.5))
def test_scales_and_shifts_keep_their_bounds(raw, bounds, max_shift):
    decoder = decoder_of(scale_bounds=bounds, max_shift=max_shift)
    with torch.no_grad():
        decoder.raw_scale.fill_(raw)
        decoder.raw_shift.fill_(raw)
    _, scales, shifts = parameters_of(decoder)
    low, high = bounds
    assert (low * (1 - 1e-9) <= scales).all()
    assert (scales <= high * (1 + 1e-9)).all()
    assert (np.abs(shifts) <= max_shift).all()
    assert (shifts * raw >= 0).all()


def test_scales_and_shifts_rise_with_their_raw_values():
    decoder = decoder_of(max_shift=1.5)
    raw = torch.linspace(-6, 6, N_CLUSTERS * N_FEATURES, dtype=torch.float64).view(N_CLUSTERS, N_FEATURES)
    with torch.no_grad():
        decoder.raw_scale.copy_(raw)
        decoder.raw_shift.copy_(raw)
    _, scales, shifts = parameters_of(decoder)
    assert (np.diff(scales.ravel()) > 0).all()
    assert (np.diff(shifts.ravel()) > 0).all()
    # nearly the whole range is possible
    np.testing.assert_allclose([scales.min(), scales.max()], BOUNDS, atol=0.01)
    np.testing.assert_allclose([shifts.min(), shifts.max()], (-1.5, 1.5), atol=0.01)


def test_copies_of_a_new_decoder_have_scale_one_and_no_shift():
    config = arguments(max_shift=1.5)
    decoder = BasisDecoder(N_FEATURES, 1, generator=torch.Generator().manual_seed(0), **config)
    levels, scales, shifts = parameters_of(decoder)
    np.testing.assert_array_equal(levels, 0)
    np.testing.assert_allclose(scales, 1, rtol=1e-6)
    np.testing.assert_array_equal(shifts, 0)


def test_copies_can_be_set():
    decoder, generator = decoder_of(max_shift=1.5), torch.Generator().manual_seed(5)
    shape = (N_CLUSTERS, N_FEATURES)
    levels, scales, shifts = (torch.rand(shape, generator=generator, dtype=torch.float64) for _ in range(3))
    decoder.set_copies_(10 * levels, 0.3 + scales, 2.8 * shifts - 1.4)
    torch.testing.assert_close(decoder.levels, 10 * levels)
    torch.testing.assert_close(decoder.scales, 0.3 + scales)
    torch.testing.assert_close(decoder.shifts, 2.8 * shifts - 1.4)
    # beyond the bounds they are set near them, where the gradient does not vanish
    decoder.set_copies_(levels, 100 + scales, 50 + shifts)
    decoder.scales.sum().backward()
    decoder.shifts.sum().backward()
    np.testing.assert_allclose(decoder.scales.detach(), BOUNDS[1], rtol=0.01)
    np.testing.assert_allclose(decoder.shifts.detach(), 1.5, rtol=0.02)
    assert (decoder.raw_scale.grad > 0).all()
    assert (decoder.raw_shift.grad > 0).all()


def test_what_a_decoder_does_not_have_is_fixed():
    decoder = decoder_of(scale_bounds=None)
    assert {name.split(".")[0] for name, _ in decoder.named_parameters()} == {"basis"}
    ones, zeros = torch.ones(N_CLUSTERS, N_FEATURES), torch.zeros(N_CLUSTERS, N_FEATURES)
    decoder.set_copies_(7 * ones, 7 * ones, 7 * ones)
    for field, value in ((decoder.levels, zeros), (decoder.scales, ones), (decoder.shifts, zeros)):
        assert torch.equal(field, value.double())


def scipys_log_prior(decoder):
    """Log prior (K, D) of the scales and shifts that are not fixed."""
    _, scales, shifts = parameters_of(decoder)
    of_scales = stats.gamma(1).logpdf(scales) if decoder.scale_bounds is not None else 0 * scales
    return of_scales + (stats.norm.logpdf(shifts) if decoder.max_shift > 0 else 0 * shifts)


@pytest.mark.parametrize("kind", KINDS)
def test_log_prior_is_a_log_density_up_to_a_constant(kind):
    """Differences between two random decoders are those of scipy's densities, copy by copy."""
    one, other = (decoder_of(seed=seed, **KINDS[kind]) for seed in (0, 7))
    for weight_precision in (0.3, 5.0):
        ours = (one.log_prior(weight_precision) - other.log_prior(weight_precision)).detach().numpy()
        assert ours.shape == (N_CLUSTERS, N_FEATURES)
        np.testing.assert_allclose(ours, scipys_log_prior(one) - scipys_log_prior(other), atol=1e-12)


def test_shared_log_prior_is_that_of_the_output_weights():
    one, other = (decoder_of(seed=seed) for seed in (0, 7))
    weight_precision = 0.7
    expected = [
        stats.norm(scale=weight_precision**-0.5).logpdf(decoder.basis.head.weight.detach().numpy()).sum()
        for decoder in (one, other)
    ]
    ours = [float(decoder.shared_log_prior(weight_precision).detach()) for decoder in (one, other)]
    np.testing.assert_allclose(ours[0] - ours[1], expected[0] - expected[1])


def test_shared_log_prior_of_behaviours_counts_every_function_once():
    one, other = (decoder_of(seed=seed, **KINDS["behaviours, shifted"]) for seed in (0, 7))

    def expected(decoder):
        rise, bumps = decoder.basis.behaviors
        weights = [rise.head.weight, bumps.head.weight]
        total = sum(stats.norm.logpdf(weight.detach().numpy()).sum() for weight in weights)
        heights, peaks = bumps.height.detach().numpy(), bumps.peak.detach().numpy()
        return total + stats.norm.logpdf(peaks).sum() + stats.gamma(1).logpdf(heights).sum()

    ours = [float(decoder.shared_log_prior(1.0).detach()) for decoder in (one, other)]
    np.testing.assert_allclose(ours[0] - ours[1], expected(one) - expected(other))


# ---- gradients ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_features_share_functions_by_their_shares(kind):
    """The functions get phi times every candidate's gradient; a level, scale or shift gets all of its own."""
    decoder, z = decoder_of(seed=1, **KINDS[kind]), random_z(50)
    generator = torch.Generator().manual_seed(3)
    phi = torch.rand(N_FEATURES, N_CLUSTERS, generator=generator, dtype=torch.float64).softmax(1).T
    slopes = torch.randn(50, N_CLUSTERS, N_FEATURES, generator=generator, dtype=torch.float64)
    names, parameters = zip(*decoder.named_parameters(), strict=True)
    points = decoder.prepare(z)
    shared = decoder(points, phi)
    assert torch.equal(shared, decoder(points))
    ours = torch.autograd.grad((slopes * shared).sum(), parameters)
    in_full = torch.autograd.grad((slopes * decoder(points)).sum(), parameters)
    weighted = torch.autograd.grad((slopes * phi * decoder(points)).sum(), parameters)
    for name, gradient, full, part in zip(names, ours, in_full, weighted, strict=True):
        of_functions = name.startswith("basis.")
        torch.testing.assert_close(gradient, part if of_functions else full, msg=lambda text, name=name: name + text)
        assert not torch.allclose(full, part)
    own = {name for name in names if not name.startswith("basis.")}
    assert ("level" in own) == ("raw_scale" in own) == (decoder.scale_bounds is not None)
    assert ("raw_shift" in own) == (decoder.max_shift > 0)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter(kind):
    decoder, z = decoder_of(seed=1, spread=0.5, **KINDS[kind]), random_z(60, reach=2)
    target = torch.randn(60, N_CLUSTERS, N_FEATURES, generator=torch.Generator().manual_seed(9))
    (decoder(decoder.prepare(z)) * target).sum().backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert (parameter.grad != 0).all(), name


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_latents_and_agree_with_differences(kind):
    # inside the table and beyond it, but not at a knot, where the slope jumps
    decoder, z = decoder_of(seed=6, spread=0.8, **KINDS[kind]), random_z(8, reach=2 * Z_MAX, seed=6)
    assert (z.abs() > decoder.table_knots[-1]).any() or decoder.max_shift == 0
    assert torch.autograd.gradcheck(lambda u: decoder(decoder.prepare(u)), z.requires_grad_())


@pytest.mark.parametrize("kind", ["shifted", "behaviours, shifted"])
def test_gradients_of_copies_agree_with_differences(kind):
    decoder, z = decoder_of(seed=6, spread=0.8, **KINDS[kind]), random_z(4, reach=Z_MAX, seed=6)

    def curves(level, raw_scale, raw_shift):
        own = {"level": level, "raw_scale": raw_scale, "raw_shift": raw_shift}
        return torch.func.functional_call(decoder, own, (z,))

    own = [getattr(decoder, name).detach().clone().requires_grad_() for name in ("level", "raw_scale", "raw_shift")]
    assert torch.autograd.gradcheck(curves, own)


# ---- functions that keep to a behaviour -----------------------------------------------------------------------------


def falls(curves):
    """How far each curve (P, ...) falls in total, falls of the size of rounding left out."""
    rounding = 1e-12 * (1 + np.abs(curves).max(0))
    return (np.clip(-np.diff(curves, axis=0) - rounding, 0, None)).sum(0)


@pytest.mark.parametrize("integrator", ["grid", "gauss-legendre"])
@pytest.mark.parametrize("max_shift", [0.0, 2.5])
@pytest.mark.parametrize("spread", [1.0, 5.0])
@pytest.mark.parametrize("seed", range(3))
def test_copies_keep_the_guarantee_of_their_function(seed, spread, max_shift, integrator):
    names = ["increasing", "increasing", "decreasing", "transient", "transient", "dip", "flat"]
    decoder = decoder_of(
        n_clusters=len(names), basis=names, max_shift=max_shift, integrator=integrator, seed=seed, spread=spread
    )
    if integrator == "gauss-legendre":
        # Quadrature guarantees nothing for a rough integrand, and is exact for a slowly varying one.
        decoder.basis.hidden[0].weight.data.mul_(0.2 / spread)
        decoder.basis.hidden[0].bias.data.mul_(0.2 / spread)
    z = random_z(2000, reach=1.4 * Z_MAX, seed=seed).sort(0).values
    curves = decoder(z).detach().numpy()
    assert decoder.names == names
    for name, of_function in zip(names, curves.transpose(1, 0, 2), strict=True):
        tolerance = 1e-9 * np.ptp(of_function, axis=0) + 1e-9
        if name == "increasing":
            assert (falls(of_function) <= tolerance).all()
            assert (of_function[-1] > of_function[0]).all()
        elif name == "decreasing":
            assert (falls(-of_function) <= tolerance).all()
            assert (of_function[-1] < of_function[0]).all()
        elif name == "flat":
            assert (np.ptp(of_function, axis=0) < 1e-9).all()
        else:
            upright = of_function if name == "transient" else -of_function
            for curve, tolerated in zip(upright.T, tolerance, strict=True):
                peak = curve.argmax()
                assert falls(curve[: peak + 1]) <= tolerated
                assert falls(-curve[peak:]) <= tolerated


def test_functions_of_one_name_have_shapes_of_their_own():
    decoder = decoder_of(basis=("transient",) * 3, seed=2)
    peaks = decoder.basis.behaviors[0].peak.detach()
    assert len(peaks.unique()) == 3
    z = torch.linspace(-3, 3, 601, dtype=torch.float64)[:, None]
    found = z[decoder.functions(z).argmax(0), 0]
    torch.testing.assert_close(found, peaks.clamp(-3, 3), atol=0.02, rtol=0)


# ---- reversing an axis ----------------------------------------------------------------------------------------------


def model_of(seed, n_components=1, z_max=Z_MAX, **changes):
    """A whole model in float64, built from a configuration as estimators store it."""
    config = {
        "n_samples": 10,
        "n_features": N_FEATURES,
        "n_components": n_components,
        "decoder": {"name": "basis", "n_components": n_components, **arguments(**{**changes, "z_max": z_max})},
        "likelihood": {"name": "gaussian", "floor": 0.1},
        "assignment": {
            "name": "collapsed",
            "n_clusters": N_CLUSTERS + changes.get("with_flat", False),
            "alpha": 0.1,
        },
        "encoder": None,
        "z_max": z_max,
        "weight_precision": 1.0,
        "beta": 1.0,
        "gamma": 1.0,
    }
    return random_(build_model(config, torch.Generator().manual_seed(seed)).double(), seed + 1)


MIRRORABLE = {
    **{kind: KINDS[kind] for kind in ("free", "shifted", "unscaled, shifted", "behaviours", "without hidden units")},
    "behaviours, shifted": {"basis": ("decreasing", "increasing", "transient"), "max_shift": 1.5},
    "without direction": {"basis": ("free", "dip", "flat"), "max_shift": 1.5},
    "Gauss-Legendre": {**KINDS["behaviours"], "integrator": "gauss-legendre"},
    "with a constant": {"with_flat": True, "max_shift": 1.5},
}
#: a table whose step is rounded in floating point; with z_max = 4.5 the step is 9 / 128, which is exact
ROUNDED = {"max_shift": 1.5, "z_max": 4.3}


@pytest.mark.parametrize("changes", [*MIRRORABLE.values(), ROUNDED], ids=[*MIRRORABLE, "rounded knots"])
def test_mirroring_reverses_the_axis(changes):
    model, z = model_of(1, **changes), random_z(300)
    decoder = model.decoder
    with torch.no_grad():
        before, names, responsibilities = model.curves(z), decoder.names, model.assignment.responsibilities
        functions = decoder.functions(-z)
        assert decoder.can_mirror
        assert model.can_mirror
        model.mirror_(0)
        torch.testing.assert_close(model.curves(-z), before, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(decoder.functions(z), functions, rtol=1e-9, atol=1e-9)
        assert torch.equal(model.assignment.responsibilities, responsibilities)
        opposite = {"increasing": "decreasing", "decreasing": "increasing"}
        assert decoder.names == [opposite.get(name, name) for name in names]
        # the saved state holds all that the mirrored curves depend on
        fresh = model_of(8, **changes)
        fresh.load_state_dict(model.state_dict())
        assert torch.equal(fresh.curves(z), model.curves(z))
        assert fresh.decoder.names == decoder.names
        model.mirror_(0)
        assert torch.equal(model.curves(z), before)


@pytest.mark.parametrize("component", [0, 1])
def test_each_of_two_axes_can_be_reversed(component):
    model, z = model_of(1, n_components=2), random_z(100, n_components=2)
    reversed_z = z.clone()
    reversed_z[:, component].neg_()
    with torch.no_grad():
        before = model.curves(z)
        model.mirror_(component)
        torch.testing.assert_close(model.curves(reversed_z), before, rtol=1e-12, atol=1e-12)
        fresh = model_of(8, n_components=2)
        fresh.load_state_dict(model.state_dict())
        assert torch.equal(fresh.curves(z), model.curves(z))


@pytest.mark.parametrize(
    "basis, possible",
    [
        (None, True),
        (("increasing", "increasing", "decreasing"), True),
        (("transient", "flat", "free"), True),
        (("increasing", "increasing", "transient"), False),
        (("decreasing", "dip", "dip"), False),
    ],
)
def test_can_mirror(basis, possible):
    assert decoder_of(basis=basis).can_mirror is possible


# ---- starting points ------------------------------------------------------------------------------------------------


def shares_explained(decoder, target, mass, z):
    """Weighted R^2 of each function: (K,)."""
    weight = (mass / mass.sum()).numpy()[:, None]
    spread = target.numpy() - (weight * target.numpy()).sum(0)
    residuals = target.numpy() - decoder.basis(z).detach().numpy()
    return 1 - (weight * residuals**2).sum(0) / (weight * spread**2).sum(0)


@pytest.mark.parametrize("activation", ["tanh", "relu", "softplus", "elu", "gelu"])
def test_free_functions_start_near_a_smooth_target(activation):
    decoder = decoder_of(hidden_layer_sizes=(64,), activation=activation)
    # with the weights that a decoder is built with, not those of ``decoder_of``
    fresh = BasisDecoder(
        N_FEATURES,
        1,
        generator=torch.Generator().manual_seed(0),
        **arguments(hidden_layer_sizes=(64,), activation=activation),
    )
    decoder.load_state_dict(fresh.state_dict())
    z = torch.linspace(-Z_MAX, Z_MAX, 129, dtype=torch.float64)
    target = torch.stack([torch.exp(-((z - 0.7) ** 2)), 3 - 2 * torch.tanh(z), 5 - torch.exp(-((z + 1) ** 2))], 1)
    mass = torch.exp(-0.5 * z**2) + 0.01
    decoder.basis.initialize_(target, mass, z[:, None])
    assert (shares_explained(decoder, target, mass, z[:, None]) > 0.99).all()


def test_a_start_without_hidden_units_is_weighted_least_squares():
    decoder = decoder_of(hidden_layer_sizes=(), n_components=2)
    z, mass = random_z(40, n_components=2, reach=2), random_z(40, seed=1)[:, 0].abs()
    slopes, levels = torch.tensor([[1.0, -2.0, 0.0], [0.5, 0.0, 3.0]]).double(), torch.tensor([1.0, 2.0, -3.0])
    decoder.basis.initialize_(levels + z @ slopes, mass, z)
    torch.testing.assert_close(decoder.basis.head.weight.detach(), slopes.T, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(decoder.basis.head.bias.detach(), levels.double(), rtol=1e-3, atol=1e-3)


def test_a_start_is_near_where_weights_are_large():
    z = torch.linspace(-2, 2, 41, dtype=torch.float64)[:, None]
    target = -z.abs() * torch.ones(N_CLUSTERS)
    for side in (-1, 1):
        decoder = decoder_of(hidden_layer_sizes=())
        decoder.basis.initialize_(target, 1e-6 + (side * z[:, 0] > 0).double(), z)
        slopes = decoder.basis.head.weight.detach()[:, 0]
        torch.testing.assert_close(slopes, torch.full_like(slopes, -side), atol=0.01, rtol=0)


def test_functions_that_keep_to_a_behaviour_start_at_targets_of_their_own():
    z = torch.linspace(-3, 3, 61, dtype=torch.float64)
    decoder = decoder_of(basis=("increasing", "increasing", "transient"), spread=0.01)
    decoder.basis.behaviors[0].head.weight.data.zero_()
    target = torch.stack([z, 2 + 0.5 * z, torch.exp(-((z - 1) ** 2))], 1)
    decoder.basis.initialize_(target, torch.exp(-0.5 * z**2), z[:, None])
    functions = decoder.functions(z[:, None]).detach()
    torch.testing.assert_close(functions[:, :2], target[:, :2])
    assert 0 < z[functions[:, 2].argmax()] < 2


def test_a_rough_start_gives_every_function_a_feature():
    z = torch.linspace(-2, 2, 41, dtype=torch.float64)[:, None]
    slopes = torch.arange(1, N_FEATURES + 1).double()
    decoder = decoder_of(hidden_layer_sizes=())
    decoder.initialize_(slopes * z, torch.ones(41).double(), z)
    torch.testing.assert_close(
        decoder.basis.head.weight.detach()[:, 0], torch.tensor([1.0, 3.0, 5.0]).double(), rtol=1e-3, atol=0
    )


def test_names_of_all_behaviours():
    names = list(BEHAVIORS)
    assert decoder_of(n_clusters=len(names), basis=names).names == names
    assert decoder_of().names == [""] * N_CLUSTERS
