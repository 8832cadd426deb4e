"""Likelihoods: linear tables against scipy's densities, their constants, their samples and their gradients."""

import mpmath
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit, log_expit

from skdevae.nn.latent_grid import GridStatistics
from skdevae.nn.likelihoods import LIKELIHOODS, Bernoulli, Gaussian, Likelihood, LinearLikelihood
from skdevae.nn.likelihoods.gaussian import _SumsOfSquares
from skdevae.table.column_summary import summarize_columns
from skdevae.table.source import RowSource

ON_TWO_AXES = "zinb on two axes"
ALIKE = "zinb with the same excess zeros for every z"
#: components of z that excess zeros depend on
SLOPES = {"zinb": 1, ON_TWO_AXES: 2, ALIKE: 0}
ZINB = list(SLOPES)
NAMES = [*LIKELIHOODS, ON_TWO_AXES, ALIKE]
FAMILIES = {**LIKELIHOODS, ON_TWO_AXES: LIKELIHOODS["zinb"], ALIKE: LIKELIHOODS["zinb"]}
COUNTS = [name for name in NAMES if FAMILIES[name].counts]
OWN_PARAMETERS = {"gaussian": 1, "poisson": 0, "nb": 1, "bernoulli": 0, **dict.fromkeys(ZINB, 2)}
FLOAT64 = torch.zeros((), dtype=torch.float64)


def _n_components(name):
    return 2 if name == ON_TWO_AXES else 1


def _likelihood(name, n_features, seed=0):
    """A float64 likelihood with random parameters of its own."""
    family = FAMILIES[name]
    options = {"floor": 0.1} if family is Gaussian else {}
    if name in (ON_TWO_AXES, ALIKE):
        options["n_components"] = SLOPES[name]
    likelihood = family(n_features, **options).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter.normal_(0, 1, generator=generator)
    return likelihood


def _curves_and_z(name, shape, seed=1, spread=1.5):
    """Curves of a shape that begins with points, and z at those points, (P, Q)."""
    generator = torch.Generator().manual_seed(seed)
    curves = spread * torch.randn(shape, generator=generator, dtype=torch.float64)
    return curves, 2 * torch.randn(shape[0], _n_components(name), generator=generator, dtype=torch.float64)


def _data(name, shape, seed=2):
    generator = np.random.default_rng(seed)
    if name == "gaussian":
        return generator.normal(size=shape)
    if name == "bernoulli":
        return generator.integers(0, 2, size=shape).astype(float)
    return generator.negative_binomial(0.7, 0.2, size=shape).astype(float)


def _scipy_log_density(name, likelihood, x, curve, z):
    """log p(x | curve, z) by scipy; arguments broadcast against each other, features last, for z components."""
    with torch.no_grad():
        if name == "gaussian":
            return stats.norm.logpdf(x, curve, likelihood.scale.numpy())
        if name == "bernoulli":
            return stats.bernoulli.logpmf(x, expit(curve))
        mean = np.exp(curve)
        if name == "poisson":
            return stats.poisson.logpmf(x, mean)
        dispersion = likelihood.dispersion.numpy()
        counted = stats.nbinom.logpmf(x, dispersion, dispersion / (dispersion + mean))
        if name == "nb":
            return counted
        level, *slopes = likelihood.inflation_logits.numpy()
        logits = level + sum(slope * z[..., [component]] for component, slope in enumerate(slopes))
        kept = log_expit(-logits) + counted
        return np.where(x == 0, np.logaddexp(log_expit(logits), kept), kept)


def _source(table):
    return RowSource(table, None, None, FLOAT64)


def _constant(likelihood, x):
    """``constant(x)`` of every entry of a table: what an entry adds to that of zero, plus that of zero."""
    own = (parameter.expand_as(x) for parameter in likelihood.own_parameters())
    row_of_zeros = summarize_columns(_source(np.zeros((1, x.shape[1]))), counts=likelihood.counts)
    return likelihood.entry_constant(x, *own) + likelihood.column_constant(row_of_zeros)


def _log_density(likelihood, tables, x):
    """The linear form of the module's docstring for data (N, D) against tables (..., D): (N, ..., D)."""
    padding = (slice(None), *[None] * (tables.zero.ndim - 1))
    constant = _constant(likelihood, x)[padding]
    x = x[padding]
    positive = 0 if tables.positive is None else (x > 0) * tables.positive
    return tables.zero + x * tables.slope + positive + constant


@pytest.mark.parametrize("shape", [(7, 5), (7, 3, 5)], ids=["table", "table of behaviours"])
@pytest.mark.parametrize("name", NAMES)
def test_linear_form_is_scipys_log_density(name, shape):
    likelihood = _likelihood(name, 5)
    curves, z = _curves_and_z(name, shape)
    x = _data(name, (30, 5))
    tables = likelihood.tables(curves, z)
    assert (tables.positive is not None) == (name in ZINB)
    ours = _log_density(likelihood, tables, torch.from_numpy(x))
    padding = (slice(None), *[None] * (len(shape) - 1))
    theirs = _scipy_log_density(name, likelihood, x[padding], curves.numpy(), z.numpy()[(slice(None), *padding[2:])])
    assert ours.shape == (30, *shape)
    np.testing.assert_allclose(ours.detach().numpy(), theirs, atol=1e-8, rtol=1e-9)


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(NAMES),
    curve=st.floats(-12, 12),
    z=st.floats(-5, 5),
    x=st.integers(0, 2000),
    own=st.floats(-4, 5),
)
def test_linear_form_holds_far_out(name, curve, z, x, own):
    likelihood = _likelihood(name, 1)
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter.fill_(own)
    value = float(min(x, 1) if name == "bernoulli" else x)
    position = torch.full((1, _n_components(name)), z, dtype=torch.float64)
    tables = likelihood.tables(torch.full((1, 1), curve, dtype=torch.float64), position)
    ours = _log_density(likelihood, tables, torch.full((1, 1), value, dtype=torch.float64)).item()
    theirs = _scipy_log_density(
        name, likelihood, np.full((1, 1), value), np.full((1, 1), curve), position.numpy()
    ).item()
    assert ours == pytest.approx(theirs, abs=1e-6, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_average_is_the_expectation_over_behaviors(name):
    likelihood = _likelihood(name, 5)
    curves, z = _curves_and_z(name, (7, 3, 5))
    weights = torch.rand(3, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    weights /= weights.sum(0)
    x = torch.from_numpy(_data(name, (20, 5)))
    each = _log_density(likelihood, likelihood.tables(curves, z), x)  # (N, P, K, D)
    averaged = _log_density(likelihood, likelihood.tables(curves, z).average(weights), x)  # (N, P, D)
    torch.testing.assert_close(averaged, (each * weights).sum(-2))


def _table(name, storage, n_rows=200, n_features=6):
    """Data and the mask of the entries that are there, and the same as a table to read rows from."""
    x = _data(name, (n_rows, n_features))
    observed = np.ones(x.shape, dtype=bool)
    if storage == "dense with missing entries":
        observed = np.random.default_rng(4).random(x.shape) > 0.3
    table = sp.csr_array(x) if storage == "csr" else np.where(observed, x, np.nan)
    return torch.from_numpy(x), torch.from_numpy(observed), _source(table)


STORED = [
    (name, storage)
    for name in NAMES
    for storage in ("dense", "dense with missing entries", "csr")
    if storage != "csr" or FAMILIES[name].counts  # only tables of counts may be sparse
]


@pytest.mark.parametrize(("name", "storage"), STORED)
def test_constants_of_columns_and_of_rows_sum_those_of_entries(name, storage):
    likelihood = _likelihood(name, 6)
    x, observed, source = _table(name, storage)
    each = _constant(likelihood, x) * observed
    summary = summarize_columns(source, counts=likelihood.counts)
    torch.testing.assert_close(likelihood.column_constant(summary), each.sum(0))
    torch.testing.assert_close(likelihood.row_constant(source.rows(slice(None))), each.sum(1))


@pytest.mark.parametrize(("name", "storage"), STORED)
def test_log_likelihood_of_rows_sums_scipys_over_observed_entries(name, storage):
    likelihood = _likelihood(name, 6)
    x, observed, source = _table(name, storage, n_rows=40)
    rows = source.rows(slice(None))
    # every row at a z of its own
    curves, z = _curves_and_z(name, (40, 6))
    ours = likelihood.row_log_prob(rows.dense(), curves, z)
    theirs = _scipy_log_density(name, likelihood, x.numpy(), curves.numpy(), z.numpy())
    np.testing.assert_allclose(ours.detach().numpy(), (theirs * observed.numpy()).sum(1), rtol=1e-9, atol=1e-8)
    # every row at every z
    with torch.no_grad():
        ours = rows.log_likelihood(likelihood.tables(curves, z)) + likelihood.row_constant(rows)[:, None]
    theirs = _scipy_log_density(name, likelihood, x.numpy()[:, None], curves.numpy(), z.numpy())
    np.testing.assert_allclose(ours.numpy(), (theirs * observed.numpy()[:, None]).sum(2), rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_expected_log_likelihood_of_rows_averages_over_behaviors(name, missing):
    """Rows at a z of their own, as the amortised model has them: value by scipy, gradient by the dense tables."""
    likelihood = _likelihood(name, 6)
    x, observed, source = _table(name, "dense with missing entries" if missing else "dense", n_rows=30)
    rows = source.rows(slice(None))
    curves, z = _curves_and_z(name, (30, 3, 6))
    generator = torch.Generator().manual_seed(3)
    phi = torch.rand(3, 6, generator=generator, dtype=torch.float64)
    phi /= phi.sum(0)
    inputs = [t.requires_grad_() for t in (curves, z, phi)]
    ours = likelihood.expected_row_log_prob(rows, *inputs)
    with torch.no_grad():
        each = _scipy_log_density(name, likelihood, x.numpy()[:, None], curves.numpy(), z.numpy()[:, None])
        theirs = ((each * phi.numpy()).sum(1) * observed.numpy()).sum(1)
    np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=1e-9, atol=1e-8)
    dense = likelihood.row_log_prob_from(rows, likelihood.tables(curves, z).average(phi))
    variables = [*inputs, *likelihood.parameters()]
    factors = torch.randn(30, generator=generator, dtype=torch.float64)
    gradients = (torch.autograd.grad((t * factors).sum(), variables, materialize_grads=True) for t in (ours, dense))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", COUNTS)
def test_zero_counts_have_no_constant(name):
    # what lets sparse tables skip them
    likelihood = _likelihood(name, 4)
    constant = likelihood.entry_constant(torch.zeros(4, dtype=torch.float64), *likelihood.own_parameters())
    torch.testing.assert_close(constant, torch.zeros_like(constant))


@pytest.mark.parametrize("name", COUNTS)
def test_probabilities_of_counts_sum_to_one_and_have_the_mean(name):
    likelihood = _likelihood(name, 4)
    curves, z = _curves_and_z(name, (5, 4), spread=0.8)
    x = torch.arange(2 if name == "bernoulli" else 4000, dtype=torch.float64)[:, None].expand(-1, 4)
    probability = _log_density(likelihood, likelihood.tables(curves, z), x).exp()
    torch.testing.assert_close(probability.sum(0), torch.ones(5, 4, dtype=torch.float64), atol=1e-8, rtol=0)
    mean = likelihood.mean(curves, z)
    torch.testing.assert_close((probability * x[:, None]).sum(0), mean, atol=1e-6, rtol=1e-6)
    squares = (probability * (x[:, None] - mean).square()).sum(0)
    torch.testing.assert_close(squares, likelihood.variance(curves, z), atol=1e-4, rtol=1e-5)


def test_gaussian_density_integrates_to_one():
    likelihood = _likelihood("gaussian", 3)
    curves, z = _curves_and_z("gaussian", (4, 3))
    x = torch.linspace(-20, 20, 8001, dtype=torch.float64)
    density = _log_density(likelihood, likelihood.tables(curves, z), x[:, None].expand(-1, 3)).exp()
    torch.testing.assert_close(torch.trapezoid(density, x, dim=0), torch.ones(4, 3, dtype=torch.float64))
    torch.testing.assert_close(torch.trapezoid(density * x[:, None, None], x, dim=0), likelihood.mean(curves, z))
    squares = density * (x[:, None, None] - curves).square()
    torch.testing.assert_close(torch.trapezoid(squares, x, dim=0), likelihood.variance(curves, z))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ZINB])
def test_variances_are_known_where_a_likelihood_has_no_formula(name):
    likelihood = _likelihood(name, 4)
    curves, z = _curves_and_z(name, (5, 4))
    torch.testing.assert_close(Likelihood.variance(likelihood, curves, z), likelihood.variance(curves, z))


@pytest.mark.parametrize("name", NAMES)
def test_no_curve_suits_an_entry_better_than_the_saturated_one(name):
    likelihood = _likelihood(name, 4)
    x = torch.from_numpy(_data(name, (6, 4)))
    _, z = _curves_and_z(name, (6, 4))
    best = likelihood.saturated_log_prob(x, z[:, None])
    curves = torch.linspace(-30, 30, 60_001, dtype=torch.float64)[:, None, None].expand(-1, *x.shape)
    found = likelihood.log_prob(x, curves, z[:, None]).amax(0)
    torch.testing.assert_close(found, best, atol=1e-5, rtol=0)
    assert (found <= best + 1e-12).all()


def _expected_curvature(likelihood, curves, z):
    """Minus the second derivative of log p(x | curve, z) with respect to the curve, averaged over x: as curves."""
    curves = curves.clone().requires_grad_()
    if isinstance(likelihood, Gaussian):
        x, spacing = torch.linspace(-30, 30, 6001, dtype=torch.float64), 0.01
    else:
        x, spacing = torch.arange(2 if isinstance(likelihood, Bernoulli) else 4000, dtype=torch.float64), 1.0
    log_density = _log_density(likelihood, likelihood.tables(curves, z), x[:, None].expand(-1, curves.shape[-1]))
    probability = (spacing * log_density.exp()).detach()
    torch.testing.assert_close(probability.sum(0), torch.ones_like(curves), atol=1e-8, rtol=0)
    (slope,) = torch.autograd.grad((probability * log_density).sum(), curves, create_graph=True)
    assert slope.abs().max() < 1e-6  # the score has expectation zero
    (curvature,) = torch.autograd.grad(slope.sum(), curves)
    return -curvature


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ZINB])
def test_information_is_the_expected_curvature(name):
    likelihood = _likelihood(name, 4)
    curves, z = _curves_and_z(name, (5, 4), spread=0.8)
    information = likelihood.information(curves, z)
    assert information.shape == curves.shape
    torch.testing.assert_close(information, _expected_curvature(likelihood, curves, z), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", ZINB)
def test_information_with_excess_zeros_is_that_of_the_other_entries(name):
    likelihood, nb = _likelihood(name, 4), _likelihood("nb", 4)
    nb.load_state_dict({"log_dispersion": likelihood.log_dispersion})
    curves, z = _curves_and_z(name, (5, 4), spread=0.8)
    without = nb.information(curves, z)
    information = likelihood.information(curves, z)
    assert information.shape == curves.shape
    assert (information >= 0).all()
    assert (information < without).all()
    # told which zeros are in excess, one knows no less of the curve than from the counts alone
    assert (information >= _expected_curvature(likelihood, curves, z) - 1e-9).all()
    # dropout switched off
    with torch.no_grad():
        likelihood.inflation_logits.zero_()
        likelihood.inflation_logits[0] = -50.0
    torch.testing.assert_close(likelihood.information(curves, z), without)
    torch.testing.assert_close(likelihood.information(curves, z), _expected_curvature(likelihood, curves, z))


@pytest.mark.parametrize("name", NAMES)
def test_samples_follow_the_density(name):
    n = 20_000
    likelihood = _likelihood(name, 4)
    curves, z = _curves_and_z(name, (1, 4), spread=0.7)
    with torch.no_grad():
        draws = likelihood.sample(curves.expand(n, 4), z.expand(n, -1), torch.Generator().manual_seed(5))
        mean = likelihood.mean(curves, z)[0]
        assert draws.shape == (n, 4)
        assert ((draws.mean(0) - mean).abs() < 5 * draws.std(0) / n**0.5).all()
        if name == "gaussian":
            statistic, chance = ((draws - curves) ** 2 / likelihood.scale**2 - 1) / 2**0.5, torch.zeros(4)
        else:
            log_zero = _log_density(likelihood, likelihood.tables(curves, z), torch.zeros(1, 4, dtype=torch.float64))
            statistic, chance = (draws == 0).double(), log_zero[0, 0].exp()
        assert ((statistic.mean(0) - chance).abs() < 5 * statistic.std(0) / n**0.5).all()


@pytest.mark.parametrize("name", NAMES)
def test_same_generator_same_samples(name):
    likelihood = _likelihood(name, 4)
    curves, z = _curves_and_z(name, (50, 4))
    state = torch.get_rng_state()
    one, other = (likelihood.sample(curves, z, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(one, other)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("name", NAMES)
def test_weights_scale_the_gradient_of_own_parameters_alone(name):
    """What behaviour k sends back to feature j's own parameters is multiplied by weights[k, j], and nothing else is."""
    likelihood = _likelihood(name, 5)
    curves, z = _curves_and_z(name, (7, 3, 5))
    curves.requires_grad_()
    generator = torch.Generator().manual_seed(6)
    weights = torch.rand(3, 5, generator=generator, dtype=torch.float64)
    own = list(likelihood.parameters())
    assert len(own) == OWN_PARAMETERS[name]
    plain, weighted = likelihood.tables(curves, z), likelihood.tables(curves, z, weights=weights)
    assert (plain.positive is None) == (weighted.positive is None)
    present = [(one, other) for one, other in zip(plain, weighted, strict=True) if one is not None]
    for one, other in present:
        torch.testing.assert_close(other, one, rtol=1e-12, atol=1e-12)
    # any function of the tables, and the same one with behaviour k counted weights[k, j] times
    factors = [torch.randn(one.shape, generator=generator, dtype=torch.float64) for one, _ in present]
    of_weighted = sum((other * factor).sum() for (_, other), factor in zip(present, factors, strict=True))
    of_plain = sum((one * factor).sum() for (one, _), factor in zip(present, factors, strict=True))
    of_reweighted = sum((one * factor * weights).sum() for (one, _), factor in zip(present, factors, strict=True))
    to_curves, *to_own = torch.autograd.grad(of_weighted, [curves, *own], retain_graph=True)
    torch.testing.assert_close(to_curves, torch.autograd.grad(of_plain, curves, retain_graph=True)[0])
    for ours, expected in zip(to_own, torch.autograd.grad(of_reweighted, own) if own else (), strict=True):
        assert (expected != 0).all()
        torch.testing.assert_close(ours, expected)


@pytest.mark.slow(keep=3)
@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_own_parameters_through_the_constants(name):
    """The gradient of the whole log-likelihood, constants included, is the one that differences give."""
    likelihood = _likelihood(name, 3)
    curves, z = _curves_and_z(name, (4, 3))
    x = torch.from_numpy(_data(name, (10, 3)))
    own = [parameter.detach().clone().requires_grad_() for parameter in likelihood.parameters()]
    names = [key for key, _ in likelihood.named_parameters()]

    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.likelihood = likelihood

        def forward(self, curves):
            return _log_density(self.likelihood, self.likelihood.tables(curves, z), x).sum(0)

    def evaluate(curves, *values):
        parameters = {f"likelihood.{key}": value for key, value in zip(names, values, strict=True)}
        return torch.func.functional_call(Whole(), parameters, (curves,))

    assert torch.autograd.gradcheck(evaluate, (curves.requires_grad_(), *own))


@pytest.mark.parametrize(
    ("name", "component"), [(name, component) for name in NAMES for component in range(_n_components(name))]
)
def test_mirroring_is_the_same_model_on_the_reversed_axis(name, component):
    likelihood = _likelihood(name, 5)
    curves, z = _curves_and_z(name, (7, 3, 5))
    reversed_z = z.clone()
    reversed_z[:, component].neg_()
    before = likelihood.tables(curves, z)
    mean = likelihood.mean(curves[:, 0], z)
    likelihood.mirror_(component)
    after = likelihood.tables(curves, reversed_z)
    for one, other in zip(before, after, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert torch.equal(mean, likelihood.mean(curves[:, 0], reversed_z))
    # zero-inflated ones alone know of z otherwise than through their curves
    assert likelihood.sees_latent == (SLOPES.get(name, 0) > 0)
    assert torch.allclose(before.zero, likelihood.tables(curves, z).zero) != likelihood.sees_latent


@pytest.mark.parametrize("name", [name for name in NAMES if SLOPES.get(name, 0) == 0])
def test_means_rise_with_curves_where_nothing_else_depends_on_z(name):
    likelihood = _likelihood(name, 5)
    z = torch.linspace(-8, 8, 801, dtype=torch.float64)[:, None]
    generator = torch.Generator().manual_seed(7)
    curves = 0.01 * torch.rand(801, 5, generator=generator, dtype=torch.float64).cumsum(0)
    assert (likelihood.mean(curves, z).diff(dim=0) > 0).all()
    # and say nothing of where on the axis the curves stand
    assert torch.equal(likelihood.mean(curves, z), likelihood.mean(curves, -z))
    assert torch.equal(likelihood.information(curves, z), likelihood.information(curves, -z))


@pytest.mark.parametrize("name", NAMES)
def test_unlink_inverts_the_mean_in_the_interior(name):
    likelihood = _likelihood(name, 5)
    generator = torch.Generator().manual_seed(8)
    mean = torch.rand(9, 5, generator=generator, dtype=torch.float64)
    mean = 0.02 + 0.96 * mean if name == "bernoulli" else 0.5 + 10 * mean
    # z = 0: unlink is not told where on the axis it is, so the share of dropouts is the one at the prior's centre
    again = likelihood.mean(likelihood.unlink(mean), torch.zeros(9, _n_components(name), dtype=torch.float64))
    torch.testing.assert_close(again, mean, atol=2e-3, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_unlink_is_finite_and_rising_to_the_ends_of_the_range(name):
    top = 1.0 if name == "bernoulli" else 1e4
    mean = torch.tensor([[0.0], [0.01 * top], [0.5 * top], [0.99 * top], [top]], dtype=torch.float64)
    curve = _likelihood(name, 1).unlink(mean)
    assert curve.isfinite().all()
    assert (curve.diff(dim=0) >= 0).all()
    assert curve[-1] > curve[0]


@given(st.floats(-1e3, 1e3))
def test_gaussian_scale_stays_above_its_floor(raw):
    likelihood = _likelihood("gaussian", 1)
    likelihood.raw_scale.data.fill_(raw)
    assert likelihood.scale.item() >= 0.1
    assert likelihood.scale.isfinite().all()


@pytest.mark.parametrize("name", ["nb", *ZINB])
def test_dispersion_starts_from_the_variance(name):
    likelihood = _likelihood(name, 3)
    mean = torch.tensor([0.5, 3.0, 20.0], dtype=torch.float64)
    dispersion = torch.tensor([0.3, 2.0, 50.0], dtype=torch.float64)
    likelihood.initialize_(mean, mean + mean**2 / dispersion)
    torch.testing.assert_close(likelihood.dispersion.detach(), dispersion)
    # under-dispersed counts: as close to Poisson as the range allows, and finite
    likelihood.initialize_(mean, 0.5 * mean)
    assert likelihood.dispersion.isfinite().all()
    assert (likelihood.dispersion >= dispersion).all()


@pytest.mark.parametrize("name", NAMES)
def test_log_prior_is_a_log_density_up_to_a_constant(name):
    def expected(likelihood):
        density = 0.0
        if name in ("nb", *ZINB):
            density += stats.norm(1, 3).logpdf(likelihood.log_dispersion.detach()).sum()
        if name in ZINB:
            level, *slopes = likelihood.inflation_logits.detach().numpy()
            assert len(slopes) == SLOPES[name]
            density += stats.norm(-2, 2).logpdf(level).sum() + stats.norm(0, 1).logpdf(slopes).sum()
        return density

    one, other = _likelihood(name, 4, seed=0), _likelihood(name, 4, seed=1)
    difference = (one.log_prior() - other.log_prior()).item()
    assert difference == pytest.approx(expected(one) - expected(other), abs=1e-9)


# ---- the contract that every likelihood keeps, linear or not ---------------------------------------------------------


class _ByLogProbAlone(Likelihood):
    """Another likelihood, of which nothing is used but ``log_prob``: sums over features are those of the base class."""

    def __init__(self, linear):
        super().__init__()
        self.linear = linear

    def log_prob(self, x, curves, z):
        return self.linear.log_prob(x, curves, z)


@pytest.mark.parametrize("name", NAMES)
def test_log_prob_is_scipys_for_every_entry(name):
    likelihood = _likelihood(name, 6)
    x = torch.from_numpy(_data(name, (5, 1, 6)))
    curves, z = _curves_and_z(name, (4, 6))
    ours = likelihood.log_prob(x, curves, z[:, None]).detach().numpy()  # (5, 4, 6)
    theirs = _scipy_log_density(name, likelihood, x.numpy(), curves.numpy(), z.numpy())
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_sums_over_features_need_no_more_than_log_prob(name, missing):
    likelihood = _likelihood(name, 6)
    general = _ByLogProbAlone(likelihood)
    assert likelihood.is_linear
    assert not general.is_linear
    _, _, source = _table(name, "dense with missing entries" if missing else "dense", n_rows=7)
    rows = source.rows(slice(None))
    phi = torch.rand(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).softmax(0)
    with torch.no_grad():
        curves, z = _curves_and_z(name, (7, 3, 6))
        ours, fast = (each.expected_row_log_prob(rows, curves, z, phi) for each in (general, likelihood))
        torch.testing.assert_close(ours, fast)
        several = curves.transpose(0, 1)  # (3, 7, 6): every row at three curves of its own
        ours, fast = (each.row_log_prob(rows, several, z.expand(3, -1, -1)) for each in (general, likelihood))
        torch.testing.assert_close(ours, fast)
        curves, z = _curves_and_z(name, (4, 6))
        ours, fast = (
            each.pair_log_prob(rows, curves, z) + each.row_constant(rows)[:, None] for each in (general, likelihood)
        )
        torch.testing.assert_close(ours, fast)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_likelihood_says_which_parameters_of_an_estimator_it_takes(name):
    options = LIKELIHOODS[name].options(noise_floor=0.2, n_components=3)
    likelihood = LIKELIHOODS[name](4, **options)
    if name == "gaussian":
        assert likelihood.floor == 0.2
    if name == "zinb":
        assert likelihood.inflation_logits.shape == (1 + 3, 4)


def test_excess_zeros_may_depend_on_no_component():
    family = LIKELIHOODS["zinb"]
    likelihood = family(4, **family.options(noise_floor=0.2, n_components=0))
    assert likelihood.inflation_logits.shape == (1, 4)
    assert not likelihood.sees_latent


# ---- counts of any size ----------------------------------------------------------------------------------------------


def _exact_log_probability(name, x, curve, dispersion):
    """log p(x) of a Poisson or negative-binomial count to fifty digits."""
    with mpmath.workdps(50):
        x, mean = mpmath.mpf(x), mpmath.exp(mpmath.mpf(curve))
        if name == "poisson":
            return float(x * mpmath.log(mean) - mean - mpmath.loggamma(x + 1))
        theta = mpmath.mpf(dispersion)
        ways = mpmath.loggamma(x + theta) - mpmath.loggamma(theta) - mpmath.loggamma(x + 1)
        return float(ways + theta * mpmath.log(theta / (theta + mean)) + x * mpmath.log(mean / (theta + mean)))


# Poisson's terms are as large as x log x, so it needs double precision where counts are large: `training_dtype`.
@pytest.mark.parametrize(("name", "dtype"), [("nb", torch.float32), ("nb", torch.float64), ("poisson", torch.float64)])
def test_log_probability_is_right_from_rare_events_to_a_billion(name, dtype):
    exponents, dispersions, multiples = np.arange(-6, 10), [0.05, 1.0, 30.0], [0.0, 0.1, 1.0, 3.0]
    cases = [(10.0**e, theta, round(m * 10.0**e)) for e in exponents for theta in dispersions for m in multiples]
    mean, theta, x = torch.tensor(cases, dtype=dtype).T
    curve, likelihood = mean.log(), LIKELIHOODS[name](len(cases)).to(dtype)
    if name == "nb":
        with torch.no_grad():
            likelihood.log_dispersion.copy_(theta.log())
    with torch.no_grad():
        ours = likelihood.log_prob(x[None], curve[None], torch.zeros(1, 1, dtype=dtype))[0].double().numpy()
        theta = likelihood.dispersion.double() if name == "nb" else theta
    arguments = zip(x.tolist(), curve.tolist(), theta.tolist(), strict=True)
    theirs = np.array([_exact_log_probability(name, *case) for case in arguments])
    # exp(log theta) and the logs of means are themselves rounded, to the precision of the dtype.
    rounding = {torch.float32: 1e-5, torch.float64: 1e-6}[dtype]
    np.testing.assert_allclose(ours, theirs, rtol=rounding, atol=rounding)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", COUNTS)
def test_curves_of_any_height_have_finite_probabilities_means_draws_and_gradients(name, dtype):
    likelihood = _likelihood(name, 1).to(dtype)
    heights = [-1e30, -1e3, -90.0, -1.0, 0.0, 36.0, 90.0, 1e3, 1e30]
    curves = torch.tensor(heights, dtype=dtype)[:, None].requires_grad_()
    z = torch.zeros(9, _n_components(name), dtype=dtype)
    log_prob = likelihood.log_prob(torch.ones_like(curves), curves, z)
    mean, information = likelihood.mean(curves, z), likelihood.information(curves, z)
    for values in (log_prob, mean, information):
        assert values.isfinite().all()
    assert (mean.diff(dim=0) >= 0).all()
    assert (log_prob <= 0).all()
    (gradient,) = torch.autograd.grad(log_prob.sum() + mean.log1p().sum(), curves)
    assert gradient.isfinite().all()
    drawn = likelihood.double().sample(curves.detach().double(), z.double(), torch.Generator().manual_seed(0))
    assert torch.equal(drawn, drawn.floor())
    assert drawn.isfinite().all()


def _sums_and_curves(masses, seed=0):
    """Sums at 5 points of 4 features, and curves of 3 candidates of each; float64."""
    generator = torch.Generator().manual_seed(seed)
    weighted = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    mass = torch.rand(5, masses, generator=generator, dtype=torch.float64)
    curves = torch.randn(5, 3, 4, generator=generator, dtype=torch.float64)
    return GridStatistics(weighted, None, mass, torch.zeros(()), 7.0), curves


@pytest.mark.parametrize("masses", [1, 4])
def test_expected_sums_of_measurements_are_those_of_their_coefficients(masses):
    statistics, curves = _sums_and_curves(masses)
    likelihood, z, weights = _likelihood("gaussian", 4), torch.zeros(5, 1), torch.rand(3, 4, dtype=torch.float64)
    found, gradients = [], []
    for form in (Gaussian, LinearLikelihood):
        at = curves.clone().requires_grad_()
        sums = form.expected_sums(likelihood, statistics, at, z, weights)
        found.append(sums.detach())
        gradients.append(torch.autograd.grad(sums.square().sum(), (at, likelihood.raw_scale)))
    torch.testing.assert_close(*found)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("masses", [1, 4])
def test_expected_sums_have_the_derivatives_of_differences(masses):
    statistics, curves = _sums_and_curves(masses)
    arguments = [part.requires_grad_() for part in (curves, statistics.weighted, statistics.mass)]
    assert torch.autograd.gradcheck(_SumsOfSquares.apply, arguments)
    assert torch.autograd.gradgradcheck(_SumsOfSquares.apply, arguments)
