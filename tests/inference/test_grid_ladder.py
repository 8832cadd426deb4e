"""Posteriors on grids: closed forms, however narrow and however far away, each row on a grid of its own choice."""

import numpy as np
import pytest
import torch
from agreement import assert_agree
from inference.random_models import drawn_table, gaussian_marginal, random_model, random_table, rows_of, source_of
from scipy.stats import multivariate_normal, norm, skewnorm

from skdevae.inference import lattice, refinement
from skdevae.inference.grid import GridInference, exact_posterior
from skdevae.inference.grid_ladder import latent_posterior
from skdevae.inference.grid_quantiles import quantiles
from skdevae.inference.latent_posterior import LatentPosterior
from skdevae.inference.lattice import Lattice
from skdevae.inference.refinement import Mass, error_of
from skdevae.nn.latent_grid import LatentGrid, log_joint
from skdevae.nn.linear_tables import LinearTables


def _plane(noise_sd=1.0, n_components=1):
    """A linear gaussian model with a given noise."""
    model = random_model("exact", hidden=(), n_components=n_components, z_max=4.5)
    model.likelihood.floor = 0.0
    model.likelihood.raw_scale.fill_(float(np.log(np.expm1(noise_sd))))
    return model


def _closed_form(model, table):
    """Mean (N, Q) and covariance (Q, Q) of the posterior, by Gaussian algebra."""
    level, loadings, noise = gaussian_marginal(model)
    scaled = loadings.T / noise
    covariance = np.linalg.inv(np.eye(loadings.shape[1]) + scaled @ loadings)
    return (table - level) @ scaled.T @ covariance, covariance


def _at(model, z, noise_sd):
    """Rows (N, D) near the curves at positions z (N, Q)."""
    curves = model.predictive_curves(torch.as_tensor(z, dtype=torch.float64)).numpy()
    return curves + noise_sd * np.random.default_rng(0).standard_normal(curves.shape)


@pytest.mark.parametrize("noise_sd", [3.0, 0.3, 0.03, 0.01])
def test_narrow_posteriors_are_resolved(noise_sd):
    model = _plane(noise_sd)
    table = _at(model, np.linspace(-3, 3, 15)[:, None], noise_sd)
    found = exact_posterior(model, source_of(table), model.predictive_tables, credible_level=0.8)
    mean, covariance = _closed_form(model, table)
    sd = np.sqrt(covariance[0, 0])
    assert found.resolved.all()
    np.testing.assert_allclose(found.mean, mean, atol=1e-4 * sd)
    np.testing.assert_allclose(found.sd, sd, rtol=1e-4)
    np.testing.assert_allclose(found.lower, mean + norm.ppf(0.1) * sd, atol=1e-4 * sd)
    np.testing.assert_allclose(found.upper, mean + norm.ppf(0.9) * sd, atol=1e-4 * sd)


@pytest.mark.parametrize("n_components", [1, 2])
def test_no_place_between_grid_points_makes_a_coarse_grid_pass(n_components):
    # where a posterior lies just so, evidence from every second point is right by accident
    model = _plane(0.06, n_components)
    table = drawn_table(model, 500 if n_components == 1 else 100)
    level, loadings, noise = gaussian_marginal(model)
    expected = multivariate_normal.logpdf(table, level, loadings @ loadings.T + np.diag(noise))
    inference = GridInference(model, 64)
    assert inference.grid_posterior(source_of(table)).resolved.all()
    np.testing.assert_allclose(inference.log_evidence(source_of(table)), expected, atol=1e-6)


@pytest.mark.parametrize("level", [0.1, 0.5, 0.95, 0.999])
@pytest.mark.parametrize("spacings", [1.0, 1.5, 5.0])
def test_intervals_hold_the_mass_that_they_say(spacings, level):
    # as narrow as a grid may be taken for resolved, and wherever between points the mode is
    axis = torch.linspace(-3, 3, 61, dtype=torch.float64)
    mode, sd = torch.linspace(-0.05, 0.05, 9, dtype=torch.float64), 0.1 * spacings
    q = (-0.5 * ((axis - mode[:, None]) / sd) ** 2).softmax(1)
    lower, upper = (axis[0] + 0.1 * quantiles(q, (0.5 - level / 2, 0.5 + level / 2))).unbind(1)
    np.testing.assert_allclose(norm.cdf(upper, mode, sd) - norm.cdf(lower, mode, sd), level, atol=1e-6)
    np.testing.assert_allclose(0.5 * (lower + upper), mode, atol=1e-6 * sd)


def test_quantiles_of_skewed_posteriors():
    axis = torch.linspace(-8, 8, 161, dtype=torch.float64)
    skewed = skewnorm(3, scale=0.4, loc=np.linspace(-0.05, 0.05, 9))
    q = torch.from_numpy(np.transpose([skewed.pdf(z) for z in axis.numpy()]))
    found = axis[0] + (axis[1] - axis[0]) * quantiles(q, (0.05, 0.25, 0.9))
    np.testing.assert_allclose(skewed.cdf(found.T), [[0.05] * 9, [0.25] * 9, [0.9] * 9], atol=3e-4)


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n_components", [1, 2])
def test_no_spike_passes_for_a_posterior(n_components, place):
    # wherever it lies: on a point that all coarser grids have, on one that they have not, or midway
    one = torch.zeros((), dtype=torch.float64)
    windows = Lattice(lambda z: z, 1.0, n_components, 1, one).windows(
        (0,) * n_components, torch.full((1, n_components), -8), (17,) * n_components
    )
    spacing = float(windows.spacing[0])
    squares = sum((z - place * spacing) ** 2 for z in torch.meshgrid(*windows.axes, indexing="ij"))
    for spacings, passes in ((1e-6, False), (1e-3, False), (0.1, False), (0.5, False), (1.3, True)):
        joint = -0.5 * squares[None] / (spacings * spacing) ** 2
        error = error_of(joint, Mass.of(joint, windows), windows)
        assert error < 1e-4 if passes else error > 1e-3


def test_two_components_have_intervals_of_their_own():
    model = _plane(1.0, n_components=2)
    table = random_table("gaussian", 15)
    found = exact_posterior(model, source_of(table), model.predictive_tables, credible_level=0.8)
    mean, covariance = _closed_form(model, table)
    sd = np.sqrt(covariance.diagonal())
    np.testing.assert_allclose(found.mean, mean, atol=1e-6)
    np.testing.assert_allclose(found.sd, np.tile(sd, (15, 1)), rtol=1e-6)
    np.testing.assert_allclose(found.lower, mean + norm.ppf(0.1) * sd, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*samples .* lie beyond the range:UserWarning")
@pytest.mark.parametrize("n_components", [1, 2])
@pytest.mark.parametrize("distance", [9.0, 25.0, 108.0, 1e4, 1e6])
def test_rows_far_away_are_found_on_longer_grids(distance, n_components):
    model = _plane(0.5, n_components)
    table = _at(model, distance * np.array([[1.0, -0.3], [-1.0, 0.0]])[:, :n_components], 0.0)
    source = source_of(table)
    found = exact_posterior(model, source, model.predictive_tables)
    mean, covariance = _closed_form(model, table)
    assert found.resolved.all()
    np.testing.assert_allclose(found.mean, mean, rtol=1e-8, atol=1e-6)
    np.testing.assert_allclose(found.sd, np.tile(np.sqrt(covariance.diagonal()), (2, 1)), rtol=1e-3)
    np.testing.assert_allclose(found.beyond, 1, atol=1e-6)
    level, loadings, noise = gaussian_marginal(model)
    expected = multivariate_normal.logpdf(table, level, loadings @ loadings.T + np.diag(noise))
    evidence = GridInference(model, 64).log_evidence(source)
    np.testing.assert_allclose(evidence, expected, rtol=1e-10, atol=1e-4)


@pytest.mark.parametrize("likelihood", ["gaussian", "nb", "zinb", "bernoulli"])
@pytest.mark.parametrize("n_components", [1, 2])
def test_no_row_is_too_far_away_for_finite_answers(n_components, likelihood):
    model = random_model("exact", likelihood, n_components=n_components)
    table = np.abs(random_table(likelihood, 3))
    factors = np.array([1e4, 1e15, 1e100] if likelihood == "gaussian" else [1e2, 1e5, 1e9])
    found = exact_posterior(model, source_of(table * factors[:, None]), model.predictive_tables, credible_level=0.95)
    for name in LatentPosterior.__dataclass_fields__:
        assert getattr(found, name).isfinite().all(), name


def test_how_far_a_row_lies_costs_no_memory():
    model, sizes = _plane(0.5, n_components=2), []
    tables = model.predictive_tables

    def counted(z):
        sizes.append(len(z))
        return tables(z)

    table = _at(model, np.outer([1.0, 1e2, 1e4, 1e8], [1.0, -0.3]), 0.0)
    exact_posterior(model, source_of(table), counted)
    assert max(sizes) == 65**2
    assert sum(sizes) < 40 * 65**2


def test_what_no_grid_resolves_is_said_to_be_so(monkeypatch):
    model = _plane(0.01, n_components=2)
    monkeypatch.setattr(lattice, "_TABLE_ENTRIES", 20 * 20 * 5)
    table = _at(model, np.array([[0.013, 0.1], [0.5, -0.2]]), 0.01)
    found = exact_posterior(model, source_of(table), model.predictive_tables)
    assert (found.resolved == 0).all()
    assert found.mean.isfinite().all()


@pytest.mark.parametrize("n_components", [1, 2])
def test_rows_do_not_know_which_grids_others_are_on(n_components):
    model = _plane(0.3, n_components)
    table = _at(model, np.linspace(-8, 8, 12)[:, None] * [1, 0.1][:n_components], 0.3)
    table[::2] = random_table("gaussian", 6)
    table[3, 1:] = np.nan  # wider than the others
    points = Lattice(model.predictive_tables, model.z_max, n_components, 5, torch.zeros((), dtype=torch.float64))
    together = latent_posterior(source_of(table), points)
    for row in range(12):
        alone = latent_posterior(source_of(table[[row]]), points)
        for name in LatentPosterior.__dataclass_fields__:
            assert_agree(getattr(alone, name), getattr(together, name)[[row]], err_msg=name)
    assert together.beyond.max() > 0.99


def test_tables_in_parts_are_the_tables(monkeypatch):
    model, table = _plane(0.1, n_components=2), random_table("gaussian", 6)
    expected = exact_posterior(model, source_of(table), model.predictive_tables)
    for module in (lattice, refinement):
        monkeypatch.setattr(module, "ENTRIES_AT_ONCE", 500)
    monkeypatch.setattr(lattice, "_KEPT_ENTRIES", 0)
    found = exact_posterior(model, source_of(table), model.predictive_tables)
    for name in LatentPosterior.__dataclass_fields__:
        assert_agree(getattr(found, name), getattr(expected, name), err_msg=name)


@pytest.mark.parametrize("likelihood", ["nb", "zinb"])
def test_rows_with_size_factors_share_no_grid_unless_dispersions_scale(likelihood):
    model = random_model("exact", likelihood, n_components=1)
    sized = source_of(random_table(likelihood, 3), log_size=np.zeros(3))
    with pytest.raises(ValueError, match="linear in the data, and in the size factors"):
        exact_posterior(model, sized, model.predictive_tables)


def test_kinks_cost_no_accuracy():
    # curves that are straight between knots, as shifted functions of a table are
    knots = torch.linspace(-6, 6, 25, dtype=torch.float64)
    heights = torch.randn(25, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).cumsum(0)
    shifts = torch.linspace(0, 0.45, 5, dtype=torch.float64)

    def tables(z):
        place = ((z + shifts + 6) / 0.5).clamp(0, 23.999)  # (P, D)
        left = place.long()
        curves = heights.gather(0, left) + (place - left) * (heights.gather(0, left + 1) - heights.gather(0, left))
        return LinearTables(-0.5 * curves**2 / 0.3**2, curves / 0.3**2, None)

    generator = torch.Generator().manual_seed(1)
    z = torch.randn(300, 1, dtype=torch.float64, generator=generator)
    curves = tables(z).slope * 0.3**2
    table = (curves + 0.3 * torch.randn(curves.shape, dtype=torch.float64, generator=generator)).numpy()
    points = Lattice(tables, len(knots) / 5.5, 1, 5, torch.zeros((), dtype=torch.float64))
    found = latent_posterior(source_of(table), points).log_evidence
    grid = LatentGrid.standard_normal(48_001, 6.0)
    expected = torch.logsumexp(log_joint(rows_of(table), tables(grid.points), grid), 1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("likelihood", ["nb", "zinb", "bernoulli", "gaussian"])
def test_two_components_agree_with_a_fine_grid(likelihood, seed):
    # curves are integrals of what is straight between eleven knots along each axis; some posteriors have several modes
    model = random_model("exact", likelihood, n_features=3, decoder="additive", spread=1.5, seed=seed)
    table = np.concatenate([drawn_table(model, 8, missing=0.2), random_table(likelihood, 4, 3)])
    found = exact_posterior(model, source_of(table), model.predictive_tables)
    grid = LatentGrid.standard_normal(401, 6.5, 2)
    joint = log_joint(rows_of(table), model.predictive_tables(grid.points), grid)
    by_place, (evidence, mean) = grid.unravel(joint), (torch.logsumexp(joint, 1), joint.softmax(1) @ grid.points)
    coarser = torch.logsumexp(by_place[:, ::2, ::2].flatten(1), 1) + 2 * np.log(2)
    is_known = (coarser - evidence).abs() < 1e-6
    assert is_known.any()
    np.testing.assert_allclose(found.log_evidence[is_known], evidence[is_known], rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.mean[is_known], mean[is_known], rtol=0, atol=1e-4)


@pytest.mark.parametrize(("n_features", "n_rows"), [(30, 4000), (400, 1500), (5000, 60)])
def test_evidence_is_right_to_a_ten_thousandth_of_a_nat(n_features, n_rows):
    # benchmarks/grid_accuracy.py does the same with more rows
    model = random_model("exact", hidden=(), n_features=n_features, n_components=1, z_max=4.5)
    source = source_of(drawn_table(model, n_rows))
    found = exact_posterior(model, source, model.predictive_tables)
    level, loadings, noise = gaussian_marginal(model)
    precision = 1 + (loadings[:, 0] ** 2 / noise).sum()
    projected = (source.table - level) @ (loadings[:, 0] / noise)
    expected = 0.5 * projected**2 / precision - 0.5 * np.log(precision)  # relative to that at z = 0
    at_zero = rows_of(source.table).log_likelihood(model.predictive_tables(torch.zeros(1, 1, dtype=torch.float64)))
    np.testing.assert_allclose(found.log_evidence - at_zero[:, 0], expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.sd, precision**-0.5, rtol=1e-4)
