"""Binned columns: equal masses, sums that add up, and the curve of each bin by its score equation."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from agreement import assert_agree
from scipy import optimize, special

from skdevae.nn.binned_columns import N_BINS, bin_columns, binned, bins_of
from skdevae.nn.latent_grid import GridStatistics, LatentGrid, side_by_side
from skdevae.nn.likelihoods import LIKELIHOODS
from skdevae.nn.smooth_curves import LENGTHS, SmoothCurves

COUNTS = ["poisson", "nb", "bernoulli"]
D = 4
#: edges between bins are kept in single precision
EDGES = np.float32


def _mass(n_points=65, seed=0, empty=()):
    mass = torch.rand(n_points, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    mass[list(empty)] = 0
    return mass


def _likelihood(name, seed=0):
    options = {"floor": 0.1} if name == "gaussian" else {"n_components": 0} if name == "zinb" else {}
    likelihood = LIKELIHOODS[name](D, **options).double().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for parameter in likelihood.parameters():
        parameter.normal_(0, 0.5, generator=generator)
    return likelihood


def _rows(name, curves=None, n=400, *, missing=0.0, seed=0, per_point=True):
    """Positions, a table that follows curves of them, and its mask; q(z) puts each row on the points of a grid."""
    random = np.random.default_rng(seed)
    grid = LatentGrid.standard_normal(33, 4.0)
    z = np.sort(random.normal(size=n))
    curve = (0.3 + np.outer(z, np.linspace(-1, 1, D))) if curves is None else curves(z)
    match name:
        case "gaussian":
            table = random.normal(curve, 0.7)
        case "bernoulli":
            table = (random.random(curve.shape) < special.expit(curve)).astype(float)
        case _:
            table = random.poisson(np.exp(curve)).astype(float)
    observed = random.random(table.shape) >= missing
    q = torch.softmax(-0.5 * ((torch.from_numpy(z)[:, None] - grid.points[:, 0]) / 0.3) ** 2, 1)
    return grid, table * observed, observed, q


def _statistics(table, observed, q, positive=False):
    x, seen = torch.from_numpy(table), torch.from_numpy(observed).double()
    mass = q.T @ seen if not observed.all() else q.sum(0)[:, None]
    return GridStatistics(q.T @ x, q.T @ (x > 0).double() if positive else None, mass, torch.zeros(()), len(x))


def _in_bins(statistics, grid):
    mass = statistics.mass.mean(1)
    bins = bins_of(mass)
    return binned(statistics, bins), (bins @ (mass * grid.points[:, 0])) / (bins @ mass)


# ---- bins -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_points", [1, 5, 20, 65, 129])
@pytest.mark.parametrize("empty", [False, True])
def test_every_bin_holds_the_same_mass_and_every_point_is_shared_out(n_points, empty):
    mass = _mass(n_points, empty=range(n_points // 2, n_points - 1) if empty else ())
    bins = bins_of(mass)
    assert bins.shape == (N_BINS, n_points)
    assert (bins >= 0).all()
    assert_agree(bins @ mass, torch.full((N_BINS,), mass.sum().item() / N_BINS), computed_in=EDGES)
    assert_agree(bins.sum(0)[mass > 0], torch.ones(int((mass > 0).sum())))
    assert (bins[:, mass == 0] == 0).all()


def test_bins_follow_each_other_along_the_axis():
    """A bin has nothing to the left of what an earlier one has, and its points stand next to each other."""
    for seed in range(5):
        bins = bins_of(_mass(50, seed)) > 0
        places = [inside.nonzero()[:, 0] for inside in bins]
        for here in places:
            assert len(here) == here[-1] - here[0] + 1
        for here, after in pairwise(places):
            assert after[0] in (here[-1], here[-1] + 1)


def test_bins_do_not_change_with_the_total_mass_and_are_mirrored_with_it():
    mass = _mass()
    assert_agree(bins_of(7 * mass), bins_of(mass))
    assert_agree(bins_of(mass.flip(0)), bins_of(mass).flip(0, 1), computed_in=EDGES)


@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize("positive", [False, True])
def test_sums_in_bins_add_up_to_the_totals(missing, positive):
    grid, table, observed, q = _rows("poisson", missing=missing)
    statistics = _statistics(table, observed, q, positive)
    sums, z = _in_bins(statistics, grid)
    assert sums.weighted.shape == (N_BINS, D)
    assert_agree(sums.weighted.sum(0), table.sum(0))
    assert_agree(sums.mass.sum(0), observed.sum(0) if missing else [len(table)])
    assert sums.mass.shape == (N_BINS, D if missing else 1)
    if positive:
        assert_agree(sums.positive.sum(0), (table > 0).sum(0))
    else:
        assert sums.positive is None
    assert sums.n_rows == len(table)
    assert (z.diff() > 0).all()
    weights = observed.sum(1).astype(float)  # rows count as often as they have entries
    expected = np.average((q @ grid.points)[:, 0], weights=weights)
    assert z.mean().item() == pytest.approx(expected, abs=1e-6)


# ---- sums of groups of columns --------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [0.0, 0.4])
@pytest.mark.parametrize("groups", [[[2, 0], [3, 1]], [[1], [0], [3], [2]], [[3, 1, 0], [2]], [[0, 1, 2, 3]]])
def test_groups_side_by_side_are_the_whole_in_another_order(groups, missing):
    _, table, observed, q = _rows("poisson", missing=missing)
    whole = _statistics(table, observed, q, positive=True)
    parts = [whole.of_columns(torch.tensor(group)) for group in groups]
    for part, group in zip(parts, groups, strict=True):
        alone = _statistics(table[:, group], observed[:, group], q, positive=True)
        assert_agree(part.weighted, alone.weighted)
        assert_agree(part.positive, alone.positive)
        assert_agree(part.mass.expand(-1, len(group)), alone.mass.expand(-1, len(group)))
    together = side_by_side(parts, [len(group) for group in groups] if missing else None)
    order = torch.tensor([j for group in groups for j in group]).argsort()
    restored = together.of_columns(order)
    for name in ("weighted", "positive", "mass"):
        assert_agree(getattr(restored, name), getattr(whole, name), err_msg=name)


def test_without_missing_entries_groups_have_the_mean_of_their_masses():
    _, table, observed, q = _rows("gaussian")
    one, other = _statistics(table, observed, q), _statistics(table, observed, q.roll(3, 1))
    together = side_by_side([one, other], None)
    assert_agree(together.mass, (one.mass + other.mass) / 2)
    assert together.weighted.shape == (33, 2 * D)


def test_sums_in_double_precision_are_the_same_sums():
    _, table, observed, q = _rows("poisson", missing=0.2)
    statistics = _statistics(table, observed, q, positive=True)
    single = GridStatistics(
        *(getattr(statistics, name).float() for name in ("weighted", "positive", "mass", "divergence")), n_rows=400
    )
    double = single.double()
    for name in ("weighted", "positive", "mass"):
        assert getattr(double, name).dtype == torch.float64
        assert torch.equal(getattr(double, name).float(), getattr(single, name))
    assert double.n_rows == 400


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_mean_is_that_of_the_observed_entries_and_zero_where_there_are_none(missing):
    _, table, observed, _ = _rows("gaussian", missing=missing, n=40)
    places = np.arange(40) % 3
    q = torch.eye(5, dtype=torch.float64)[torch.from_numpy(places)]
    found = _statistics(table, observed, q).mean()
    for point in range(3):
        here = places == point
        assert_agree(found[point], table[here].sum(0) / observed[here].sum(0))
    assert (found[3:] == 0).all()


# ---- measurements ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_a_measured_columns_spread_is_the_sum_of_squares_within_its_bins(missing):
    """Each row lies in one bin, so that the sums can be taken row by row."""
    n = 10 * N_BINS
    _, table, observed, _ = _rows("gaussian", missing=missing, n=n)
    places = np.arange(n) // 10
    q = torch.eye(N_BINS, dtype=torch.float64)[torch.from_numpy(places)]
    z = torch.linspace(-2, 2, N_BINS, dtype=torch.float64)
    squares = torch.from_numpy((table**2).sum(0))
    columns = bin_columns(_statistics(table, observed, q), z, _likelihood("gaussian"), squares)
    for j in range(D):
        entries = [table[(places == b) & observed[:, j], j] for b in range(N_BINS)]
        assert_agree(columns.response[:, j], [here.mean() for here in entries])
        expected = sum(((here - here.mean()) ** 2).sum() for here in entries)
        assert columns.spread[j].item() == pytest.approx(expected, rel=1e-6)  # least variance of an entry included
        info = columns.information[:, min(j, columns.information.shape[1] - 1)]
        assert_agree(info, [len(here) for here in entries])
        assert columns.n_entries[min(j, len(columns.n_entries) - 1)].item() == pytest.approx(observed[:, j].sum())
    assert columns.information.shape == (N_BINS, D if missing else 1)
    assert columns.z is z


@pytest.mark.parametrize("name", ["gaussian", *COUNTS])
def test_a_column_that_is_hardly_observed_leaves_the_others_alone(name):
    """Early stopping may hold out every row that has an entry in it."""
    grid, table, observed, q = _rows(name, missing=0.2)
    likelihood = _likelihood(name)
    squares = torch.from_numpy((table**2).sum(0))

    def columns(seen):
        bins = bins_of(q.sum(0))
        z = (bins @ (q.sum(0) * grid.points[:, 0])) / (bins @ q.sum(0))
        found = bin_columns(binned(_statistics(table * seen, seen, q), bins), z, likelihood, squares)
        return found, SmoothCurves(found)

    hardly = observed.copy()
    hardly[:, 1] = False
    nothing, curves_of_nothing = columns(hardly)
    everything, curves = columns(observed)
    others = [0, 2, 3]
    assert_agree(nothing.response[:, others], everything.response[:, others])
    assert_agree(curves_of_nothing.log_evidence[..., others], curves.log_evidence[..., others])
    assert curves_of_nothing.log_evidence.isfinite().all()
    assert curves_of_nothing.log_evidence[..., 1].abs().max() < 0.01  # no entries, no evidence
    hardly[200, 1] = True
    assert columns(hardly)[1].log_evidence.isfinite().all()


# ---- counts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize("name", COUNTS)
def test_flat_columns_have_the_level_of_their_mean(name, missing):
    """Entries that are the same share of every point's mass: the score equation of a flat curve is mean = mean."""
    grid, table, observed, q = _rows(name, missing=missing)
    likelihood, mean = _likelihood(name), torch.tensor([0.02, 0.3, 0.5, 0.97], dtype=torch.float64)
    statistics = _statistics(table, observed, q)
    flat = GridStatistics(statistics.mass * mean, None, statistics.mass, statistics.divergence, len(table))
    sums, z = _in_bins(flat, grid)
    columns = bin_columns(sums, z, likelihood, torch.zeros(D))
    assert columns.spread is None
    curves = SmoothCurves(columns)
    expected = mean.logit() if name == "bernoulli" else mean.log()
    np.testing.assert_allclose(curves.level, expected, atol=1e-5)
    # all bins say so, and no smooth curve is better than a flat one
    np.testing.assert_allclose(columns.response, expected.expand(N_BINS, D), atol=1e-5)
    assert (curves.log_evidence < 0).all()


@pytest.mark.parametrize("name", COUNTS)
def test_information_is_the_curvature_of_the_expected_log_likelihood(name):
    """At a flat curve: Fisher's information of one entry, times the entries in the bin."""
    grid, table, observed, q = _rows(name)
    likelihood, mean = _likelihood(name), torch.tensor([0.1, 0.3, 0.5, 0.9], dtype=torch.float64)
    statistics = _statistics(table, observed, q)
    flat = GridStatistics(statistics.mass * mean, None, statistics.mass, statistics.divergence, len(table))
    columns = bin_columns(*_in_bins(flat, grid), likelihood, torch.zeros(D))
    match name:
        case "poisson":
            one = mean
        case "nb":
            one = mean**2 / (mean + mean**2 / likelihood.dispersion)
        case _:
            one = mean * (1 - mean)
    np.testing.assert_allclose(columns.information, (len(table) / N_BINS * one).expand(N_BINS, D), rtol=1e-4)


def _log_likelihood(name, weighted, mass, curve, dispersion):
    match name:
        case "poisson":
            terms = weighted * curve - mass * np.exp(curve)
        case "nb":
            terms = weighted * curve - (weighted + mass * dispersion) * np.logaddexp(curve, np.log(dispersion))
        case _:
            terms = weighted * curve - mass * np.logaddexp(0, curve)
    return terms.sum(-1)


def _score(name, weighted, mass, curve, dispersion):
    """Derivative of the log-likelihood in every value of the curve."""
    match name:
        case "poisson":
            return weighted - mass * np.exp(curve)
        case "nb":
            return weighted - (weighted + mass * dispersion) * special.expit(curve - np.log(dispersion))
        case _:
            return weighted - mass * special.expit(curve)


@pytest.mark.parametrize("name", COUNTS)
def test_curves_end_at_the_most_probable_ones(name, monkeypatch):
    """With one node, and a flat curve ruled out, the mean is the mode of a penalised likelihood, which scipy finds."""
    length, share = 1.0, 0.6
    monkeypatch.setattr("skdevae.nn.smooth_curves.LENGTHS", (length,))
    monkeypatch.setattr("skdevae.nn.smooth_curves.SHARES", (share,))
    monkeypatch.setattr("skdevae.nn.binned_columns._NEWTON_STEPS", 12)
    grid, table, observed, q = _rows(name, lambda z: 1 + np.outer(z, [-1.5, -1.2, 1.2, 1.5]))
    likelihood = _likelihood(name)
    sums, z = _in_bins(_statistics(table, observed, q), grid)
    columns = bin_columns(sums, z, likelihood, torch.zeros(D))
    curves = SmoothCurves(columns)
    assert (curves.log_evidence > 10).all()  # so a flat curve has no weight
    unit = np.exp(-((z[:, None] - z) ** 2).numpy() / (2 * length**2))
    for j in range(D):
        # A curve is a level, of any size, and a root of its covariance times coordinates that are standard normal.
        values, vectors = np.linalg.eigh(curves.amplitudes[0, 0, j].item() * unit)
        basis = np.column_stack([np.ones(N_BINS), vectors * values.clip(0) ** 0.5])
        weighted, mass = sums.weighted[:, j].numpy(), sums.mass[:, 0].numpy()
        dispersion = likelihood.dispersion[j].item() if name == "nb" else None

        def loss(u, given=(weighted, mass), basis=basis, dispersion=dispersion):
            curve, penalized = basis @ u, np.r_[0, u[1:]]
            gradient = penalized - basis.T @ _score(name, *given, curve, dispersion)
            return 0.5 * penalized @ penalized - _log_likelihood(name, *given, curve, dispersion), gradient

        best = optimize.minimize(loss, np.zeros(1 + N_BINS), jac=True, options={"gtol": 1e-7})
        np.testing.assert_allclose(curves.mean()[:, j], basis @ best.x, atol=1e-3)


@pytest.mark.parametrize("name", ["poisson", "nb"])
def test_evidence_of_counts_is_near_the_exact_one(name):
    """Laplace's approximation against an integral over curves of one node, by draws that importance is weighed for."""
    grid, table, observed, q = _rows(name, lambda z: 0.5 + np.outer(z, [0.0, 0.1, 0.25, -0.25]), n=300)
    likelihood = _likelihood(name)
    sums, z = _in_bins(_statistics(table, observed, q), grid)
    columns = bin_columns(sums, z, likelihood, torch.zeros(D))
    curves = SmoothCurves(columns)
    length, share = 2, 2
    random = np.random.default_rng(0)
    for j in (0, 2):
        amplitude = curves.amplitudes[length, share, j].item()
        covariance = amplitude * np.exp(-((z[:, None] - z) ** 2).numpy() / (2 * LENGTHS[length] ** 2))
        dispersion = likelihood.dispersion[j].item() if name == "nb" else None
        root = np.linalg.cholesky(covariance + 1e-9 * np.eye(N_BINS))
        levels = curves.level[j].item() + np.linspace(-1.5, 1.5, 31)
        given = name, sums.weighted[:, j].numpy(), sums.mass[:, 0].numpy()

        def evidence(shapes, given=given, levels=levels, dispersion=dispersion):
            values = [_log_likelihood(*given, level + shapes, dispersion) for level in levels]
            return special.logsumexp(values) - np.log(len(shapes))

        drawn = (root @ random.normal(size=(N_BINS, 20_000))).T
        # The level is integrated around a curve's own mean, which it trades with.
        expected = evidence(drawn - drawn.mean(1, keepdims=True)) - evidence(np.zeros((1, N_BINS)))
        assert curves.log_evidence[length, share, j].item() == pytest.approx(expected, abs=0.4)
