"""Searches side by side: each ends where scipy's does, and knows nothing of the others."""

import math

import numpy as np
import pytest
import torch
from agreement import assert_agree
from inference.random_models import drawn_table, joint_on_a_grid, model_of_many_modes, random_model, rows_of
from scipy import stats
from scipy.optimize import minimize
from scipy.special import logsumexp

from skdevae.inference.modes import ModeFinder, _NegativeLogJoint
from skdevae.inference.quasi_newton import minimize_rows
from skdevae.nn.row_context import RowContext
from skdevae.nn.rows import DenseRows

B, Q, D = 12, 3, 6
MANY_STEPS = 500


@pytest.fixture(autouse=True)
def _thorough(monkeypatch):
    """What is true of a search is true to the last digits where it is not ended early."""
    monkeypatch.setattr("skdevae.inference.quasi_newton._PROMISE", 1e-8)


def _normal(*shape, seed=1, spread=1.0):
    return spread * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _precisions(n=B, q=Q, *, condition=1e4, seed=0):
    """Symmetric positive matrices (n, q, q) with eigenvalues from 1 to ``condition``, whatever their directions."""
    basis = torch.linalg.qr(_normal(n, q, q, seed=seed))[0]
    values = torch.logspace(0, math.log10(condition), q, dtype=torch.float64)
    return basis @ torch.diag(values) @ basis.mT


class _Objective:
    """What :func:`minimize_rows` asks for, from a function of row numbers and positions."""

    def __init__(self, function, rows):
        self.function, self.rows = function, rows

    def __call__(self, z):
        assert len(z) == len(self.rows)
        z = z.detach().requires_grad_()
        value = self.function(self.rows, z)
        return value.detach(), torch.autograd.grad(value.sum(), z)[0]

    def take(self, index):
        return _Objective(self.function, self.rows[index])


def _of_rows(function):
    return _Objective(function, torch.arange(B))


def _quadratic(H, optimum, lowest=0.0):
    def function(rows, z):
        away = z - optimum[rows]
        return lowest + 0.5 * torch.einsum("bp,bpq,bq->b", away, H[rows], away)

    return _of_rows(function)


def _ridge(A, b):
    """A convex function that is not quadratic: sum of log cosh, and a little curvature everywhere."""

    def function(rows, z):
        t = torch.einsum("bpq,bq->bp", A[rows], z) - b[rows]
        return (t.abs() + torch.nn.functional.softplus(-2 * t.abs())).sum(1) + 0.05 * z.square().sum(1)

    return _of_rows(function)


def _hard():
    """Objective, start and covariances of convex functions of very different curvature and difficulty."""
    A = _normal(B, 8, Q, seed=2) * torch.logspace(-1, 1.5, Q, dtype=torch.float64)
    A = A * torch.logspace(-1, 1, B, dtype=torch.float64)[:, None, None]
    objective, start = _ridge(A, _normal(B, 8, seed=3, spread=2.0)), _normal(B, Q, seed=4, spread=3.0)
    rough = torch.diag_embed(A.square().sum(1)) + 0.1 * torch.eye(Q, dtype=torch.float64)
    return objective, start, torch.linalg.inv(rough)


def _scipy_minimum(objective, row, start):
    def function(z):
        value, gradient = objective.take(torch.tensor([row]))(torch.from_numpy(z)[None])
        return value.item(), gradient[0].numpy()

    return minimize(function, start.numpy(), jac=True, method="BFGS", options={"gtol": 1e-9})


# ---- searches -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("condition", [1.0, 1e6])
@pytest.mark.parametrize("q", [1, 3, 10])
def test_exact_covariances_reach_the_minimum_in_one_step(q, condition):
    H, optimum = _precisions(q=q, condition=condition), _normal(B, q)
    found = minimize_rows(_quadratic(H, optimum), _normal(B, q, seed=2, spread=9), torch.linalg.inv(H), 1)
    torch.testing.assert_close(found.position, optimum, atol=1e-8, rtol=0)
    torch.testing.assert_close(found.value, torch.zeros(B, dtype=torch.float64), atol=1e-10, rtol=0)


@pytest.mark.parametrize("q", [2, 10])
def test_without_curvature_to_start_from_it_is_found(q):
    H, optimum = _precisions(q=q, condition=1e3), _normal(B, q)
    covariance = 1e-3 * torch.eye(q, dtype=torch.float64).expand(B, q, q)
    found = minimize_rows(_quadratic(H, optimum), _normal(B, q, seed=2, spread=3), covariance, MANY_STEPS)
    assert found.converged.all()
    assert (found.value < 1e-4).all()


def test_diagonals_stand_for_diagonal_covariances():
    objective, start, _ = _hard()
    diagonal = torch.linspace(0.1, 2, B * Q, dtype=torch.float64).view(B, Q)
    found = minimize_rows(objective, start, diagonal, MANY_STEPS)
    expected = minimize_rows(objective, start, torch.diag_embed(diagonal), MANY_STEPS)
    torch.testing.assert_close(found.value, expected.value)


def test_values_may_be_more_precise_than_positions():
    """Beside a constant of 1e8, single precision has no digits left for the function itself."""
    H, optimum = _precisions(condition=10.0), _normal(B, Q)
    exact = _quadratic(H, optimum, lowest=1e8)

    class InSingle:
        def __init__(self, objective):
            self.objective = objective

        def __call__(self, z):
            value, gradient = self.objective(z.double())
            return value, gradient.float()

        def take(self, index):
            return InSingle(self.objective.take(index))

    start = _normal(B, Q, seed=2).float()
    found = minimize_rows(InSingle(exact), start, torch.ones_like(start), MANY_STEPS, 1e-4)
    assert found.position.dtype == torch.float32
    assert found.converged.all()
    assert (found.value - 1e8 < 1e-3).all()


def test_hard_functions_end_where_scipy_does():
    objective, start, covariance = _hard()
    found = minimize_rows(objective, start, covariance, MANY_STEPS)
    assert found.converged.all()
    for row in range(B):
        expected = _scipy_minimum(objective, row, start[row])
        assert found.value[row].item() == pytest.approx(expected.fun, abs=1e-6)


@pytest.mark.parametrize("unit", [1e-3, 0.1, 1.0, 30.0, 1e3, 1e5, 1e8])
def test_a_search_that_has_arrived_is_at_the_minimum_whatever_unit_covariances_came_in(unit):
    H, optimum = _precisions(condition=10.0), _normal(B, Q)
    found = minimize_rows(_quadratic(H, optimum), _normal(B, Q, seed=2), unit * torch.linalg.inv(H), MANY_STEPS)
    assert found.converged.all()
    assert (found.value < 1e-2).all()


def test_searches_know_nothing_of_each_other():
    objective, start, covariance = _hard()
    together = minimize_rows(objective, start, covariance, MANY_STEPS)
    orders = [torch.tensor([row]) for row in range(B)]
    orders += [
        torch.randperm(B, generator=torch.Generator().manual_seed(seed))[:n] for seed, n in ((0, B), (1, B // 2))
    ]
    orders.append(torch.arange(B).repeat(3))
    for order in orders:
        found = minimize_rows(objective.take(order), start[order], covariance[order], MANY_STEPS)
        assert_agree(found.position, together.position[order])
        assert_agree(found.value, together.value[order])
        assert torch.equal(found.converged, together.converged[order])


def test_values_never_rise_and_are_those_of_the_positions():
    objective, start, covariance = _hard()
    before = objective(start)[0]
    arrived = torch.zeros(B, dtype=torch.bool)
    for n_steps in range(1, 20):
        found = minimize_rows(objective, start, covariance, n_steps)
        assert (found.value <= before).all()
        torch.testing.assert_close(found.value, objective(found.position)[0])
        assert (found.value[~arrived] < before[~arrived]).all()
        assert (found.converged | ~arrived).all()
        before, arrived = found.value, found.converged
    assert not minimize_rows(objective, start, covariance, 1).converged.all()


def test_at_the_minimum_there_is_nothing_to_do():
    H, optimum = _precisions(), _normal(B, Q)
    objective, calls = _quadratic(H, optimum, lowest=-3.0), []
    function = objective.function

    def counted(rows, z):
        calls.append(len(rows))
        return function(rows, z)

    objective.function = counted
    found = minimize_rows(objective, optimum, torch.linalg.inv(H), MANY_STEPS)
    assert torch.equal(found.position, optimum)
    assert (found.value == -3).all()
    assert found.converged.all()
    assert len(calls) < 20


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize("seed", range(5))
def test_kinks_end_a_search_without_harm(seed):
    kink = _normal(B, Q, seed=seed)
    slopes = _normal(B, Q, seed=seed + 10).exp()
    objective = _of_rows(lambda rows, z: (slopes[rows] * (z - kink[rows]).abs()).sum(1))
    start = _normal(B, Q, seed=seed + 20, spread=4)
    found = minimize_rows(objective, start, torch.eye(Q, dtype=torch.float64).expand(B, Q, Q), MANY_STEPS)
    before = objective(start)[0]
    assert found.position.isfinite().all()
    assert (found.value < before).all()
    torch.testing.assert_close(found.value, objective(found.position)[0])
    assert (found.value < 0.3 * before).double().mean() > 0.5


@pytest.mark.parametrize("beyond", [math.inf, math.nan])
def test_steps_to_where_there_is_no_value_are_halved(beyond):
    level = _normal(B, Q).exp()

    def function(rows, z):
        inside = (z > 0).all(1)
        barrier = (z - level[rows] * z.clamp(min=1e-300).log()).sum(1)
        return torch.where(inside, barrier, beyond)

    start = 20 * level
    covariance = torch.diag_embed(start**2 / level)  # of the start, where it is far too wide
    found = minimize_rows(_of_rows(function), start, covariance, MANY_STEPS)
    torch.testing.assert_close(found.position, level, atol=0, rtol=5e-3)
    assert found.converged.all()


# ---- modes of p(z | x) ----------------------------------------------------------------------------------------------

N = 20


def _model(likelihood="gaussian", *, k=1, hidden=(), q=Q, seed=0, spread=0.6):
    """A float64 model whose every parameter is random."""
    return random_model(
        "mixture",
        likelihood,
        n_features=D,
        n_components=q,
        hidden=hidden,
        n_mixture_components=k,
        seed=seed,
        spread=spread,
    )


def _rows(likelihood="gaussian", *, missing=False, sized=False):
    generator = np.random.default_rng(3)
    log_size = torch.from_numpy(generator.normal(0, 1.5, N)) if sized else None
    context = RowContext(log_size=log_size)
    if likelihood == "gaussian":
        values = generator.normal(0, 2, (N, D))
    else:
        sizes = np.ones(N) if log_size is None else log_size.exp().numpy()
        values = generator.poisson(2 * sizes[:, None], (N, D)).astype(float)
    if not missing:
        return DenseRows(torch.from_numpy(values), None, context)
    observed = generator.random((N, D)) < 0.6
    return DenseRows(torch.from_numpy(values * observed), torch.from_numpy(observed.astype(float)), context)


def _known(rows, component):
    """The rows, with the component that each is known to belong to."""
    return DenseRows(rows.values, rows.observed, rows.context.replaced(component=component))


def _log_joint(model, rows, z):
    """log p(x, z) of each row at its z, by scipy."""
    curves, x = model.predictive_curves(z).numpy(), rows.values.numpy()
    if rows.context.log_size is not None:
        curves = curves + rows.context.log_size.numpy()[:, None]
    match model.likelihood:
        case likelihood if not likelihood.counts:
            entries = stats.norm.logpdf(x, curves, likelihood.scale.numpy())
        case likelihood if hasattr(likelihood, "dispersion"):
            theta = likelihood.dispersion.numpy()
            entries = stats.nbinom.logpmf(x, theta, theta / (theta + np.exp(curves)))
        case _:
            entries = stats.poisson.logpmf(x, np.exp(curves))
    if rows.observed is not None:
        entries = entries * rows.observed.numpy()
    prior = model.latent_prior()
    joint = stats.norm.logpdf(z.numpy()[:, None], prior.means, prior.log_sds.exp()).sum(-1) + prior.log_weights.numpy()
    log_prior = logsumexp(joint, axis=1)
    if rows.context.component is not None:
        known = rows.context.component.numpy()
        log_prior = np.where(known < 0, log_prior, joint[np.arange(len(joint)), known])
    return entries.sum(1) + log_prior


def _gaussian_posterior_means(model, rows, component=0):
    """Of a linear decoder with gaussian noise, under one component: (N, Q)."""
    W, psi = model.decoder.loadings.numpy().T, model.likelihood.scale.numpy() ** 2
    prior = model.latent_prior()
    mean, precision = prior.means[component].numpy(), np.diag(np.exp(-2 * prior.log_sds[component].numpy()))
    modes = []
    for row, x in enumerate(rows.values.numpy()):
        seen = np.ones(D, dtype=bool) if rows.observed is None else rows.observed[row].numpy() > 0
        scaled = W[seen].T / psi[seen]
        right = precision @ mean + scaled @ (x - model.decoder.level.numpy())[seen]
        modes.append(np.linalg.solve(precision + scaled @ W[seen], right))
    return np.array(modes)


def test_a_linear_models_mode_is_the_posterior_mean():
    model, rows = _model(), _rows()
    found = ModeFinder(model)(rows)
    np.testing.assert_allclose(found.position.numpy(), _gaussian_posterior_means(model, rows), atol=1e-8)
    assert found.converged.all()
    np.testing.assert_allclose(found.value.numpy(), -_log_joint(model, rows, found.position), atol=1e-9)


def test_missing_entries_say_nothing():
    model, rows = _model(), _rows(missing=True)
    rows.observed[4], rows.values[4] = 0, 0
    found = ModeFinder(model)(rows)
    np.testing.assert_allclose(found.position.numpy(), _gaussian_posterior_means(model, rows), atol=1e-3)
    exact = torch.from_numpy(_gaussian_posterior_means(model, rows))
    np.testing.assert_allclose(-found.value.numpy(), _log_joint(model, rows, exact), atol=1e-6)
    torch.testing.assert_close(found.position[4], model.latent_prior().means[0], atol=1e-3, rtol=0)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("likelihood", ["poisson", "nb"])
def test_size_factors_are_those_of_the_rows(likelihood, missing):
    # With a plane for a decoder the posterior has one mode.
    model, rows = _model(likelihood), _rows(likelihood, missing=missing, sized=True)
    found = ModeFinder(model)(rows)
    assert found.converged.all()
    for row in range(N):
        one = rows.take(torch.tensor([row]))
        best = minimize(lambda z, one=one: -_log_joint(model, one, torch.from_numpy(z)[None])[0], np.zeros(Q))
        assert found.value[row].item() == pytest.approx(best.fun, abs=1e-6)
        np.testing.assert_allclose(found.position[row].numpy(), best.x, atol=1e-2)


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson", "nb"])
def test_modes_are_higher_than_their_neighbours(likelihood):
    model = _model(likelihood, k=3, hidden=(5,))
    rows = _rows(likelihood, missing=True, sized=likelihood != "gaussian")
    for given in (rows, _known(rows, torch.arange(N) % 4 - 1)):
        found = ModeFinder(model)(given)
        assert found.converged.all()
        np.testing.assert_allclose(found.value.numpy(), -_log_joint(model, given, found.position), atol=1e-9)
        for seed in range(20):
            step = 0.05 * _normal(N, Q, seed=seed)
            assert (_log_joint(model, given, found.position + step) < -found.value.numpy() + 1e-6).all()


@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_rows_know_nothing_of_each_other(likelihood):
    model = _model(likelihood, k=3, hidden=(5,))
    rows = _rows(likelihood, missing=True, sized=likelihood == "nb")
    find = ModeFinder(model)
    for given in (rows, _known(rows, torch.arange(N) % 4 - 1)):
        together = find(given)
        for order in (torch.arange(N).flip(0), torch.tensor([3]), torch.tensor([0, 17, 17, 5])):
            found = find(given.take(order))
            assert_agree(found.position, together.position[order])
            assert_agree(found.value, together.value[order])


def test_the_search_starts_from_the_mean_with_the_highest_joint_density():
    model = _model(k=2, q=1, seed=3)
    model.decoder.loadings.fill_(0.05)
    model.decoder.level.fill_(0.0)
    means = torch.tensor([[-4.0], [4.0]], dtype=torch.float64)
    variances = torch.full((2, 1), 0.25, dtype=torch.float64)
    rows = DenseRows(torch.full((1, D), 0.3, dtype=torch.float64), None)  # a little likelier on the right
    for weight, side in ((0.5, 1), (1e-4, -1)):
        model.mixture.set_(torch.tensor([1 - weight, weight], dtype=torch.float64), means, variances)
        favoured = _log_joint(model, rows, means[1:]) - _log_joint(model, rows, means[:1])
        assert np.sign(favoured[0]) == side
        position = ModeFinder(model)(rows).position.item()
        assert position * side > 3


@pytest.mark.parametrize("k", [2, 4])
def test_known_classes_are_searched_under_their_own_component(k):
    model, rows = _model(k=k, spread=1.0), _rows()
    find = ModeFinder(model)
    free = find(rows).position
    for component in range(k):
        found = find(_known(rows, torch.full((N,), component)))
        np.testing.assert_allclose(
            found.position.numpy(), _gaussian_posterior_means(model, rows, component), atol=1e-3, rtol=0
        )
        assert found.converged.all()
    mixed = torch.tensor([-1, k - 1]).repeat(N // 2)
    found = find(_known(rows, mixed)).position
    assert_agree(found[::2], free[::2])
    np.testing.assert_allclose(found[1::2].numpy(), _gaussian_posterior_means(model, rows, k - 1)[1::2], atol=1e-3)


def test_a_prediction_is_a_start_where_it_is_better():
    model, means = _model(k=2, q=1, seed=3), torch.tensor([[-4.0], [4.0]], dtype=torch.float64)
    model.decoder.loadings.fill_(0.05)
    model.decoder.level.fill_(0.0)
    model.mixture.set_(torch.full((2,), 0.5).double(), means, torch.full((2, 1), 0.25, dtype=torch.float64))
    rows = DenseRows(torch.full((3, D), 0.3, dtype=torch.float64), None)  # likelier on the right
    find, predicted = ModeFinder(model), torch.tensor([[-4.0], [100.0], [4.1]], dtype=torch.float64)
    torch.testing.assert_close(find(rows, predicted).position, find(rows).position, atol=1e-2, rtol=0)
    # under the component on the left, a start on the right would be a poor one
    on_the_left = _known(rows, torch.tensor([0, 0, 0]))
    torch.testing.assert_close(find(on_the_left, predicted).position, find(on_the_left).position, atol=1e-2, rtol=0)


@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_predictions_never_lead_to_an_end_that_is_lower(likelihood):
    model, rows = _model(likelihood, k=3, hidden=(5,), spread=1.0), _rows(likelihood, sized=likelihood == "nb")
    find = ModeFinder(model)
    free = find(rows)
    # at the mode there is nothing left to do, and from anywhere else the mean is as good as without
    torch.testing.assert_close(find(rows, free.position).value, free.value, atol=1e-4, rtol=0)
    far = torch.full((N, Q), 1e3, dtype=torch.float64)
    assert_agree(find(rows, far).position, free.position)
    near = torch.arange(N)[:, None] % 2 == 0
    predicted = free.position + torch.where(near, 0.05, 3.0) * _normal(N, Q, seed=5)
    found = find(rows, predicted)
    from_prediction = _log_joint(model, rows, predicted)
    assert (-found.value.numpy() >= from_prediction - 1e-9).all()
    better = from_prediction > np.max([_log_joint(model, rows, mean.expand(N, -1)) for mean in model.mixture.means], 0)
    assert better.any()
    assert not better.all()
    torch.testing.assert_close(found.position[~better], free.position[~better], atol=1e-9, rtol=0)
    assert (found.value <= free.value + 1e-6).all()


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
def test_no_row_ends_on_a_hill_beside_the_highest(likelihood):
    model = model_of_many_modes(likelihood)
    table, prior = drawn_table(model, 60), model.latent_prior()
    rows, log_area = rows_of(table), 2 * math.log(12 / 200)
    found = ModeFinder(model)(rows)
    heights = joint_on_a_grid(model, table)[0].amax(1) - log_area
    assert (-found.value > heights - 1e-6).all()
    # from the best of the components' means alone, some searches end lower
    objective = _NegativeLogJoint(model, prior, rows)
    nearest = torch.stack([objective.value(mean.expand(60, -1)) for mean in prior.means]).argmin(0)
    covariance = torch.eye(2, dtype=torch.float64).expand(60, -1, -1)
    alone = minimize_rows(objective, prior.means[nearest], covariance, MANY_STEPS).position
    lower = -_log_joint(model, rows, alone) - found.value.numpy()
    assert (lower > -1e-6).all()
    assert (lower > 0.1).sum() > 2


# ---- single precision first, and rivals -----------------------------------------------------------------------------


class _InSingle:
    """An objective in single precision, and how often its rows were evaluated."""

    def __init__(self, objective):
        self.objective, self.n_rows = objective, [0]

    def __call__(self, z):
        self.n_rows[0] += len(z)
        return tuple(part.float() for part in self.objective(z.double()))

    def take(self, index):
        part = _InSingle(self.objective.take(index))
        part.n_rows = self.n_rows
        return part


def test_a_search_in_single_precision_ends_in_double():
    objective, start, covariance = _hard()
    exact = minimize_rows(objective, start, covariance, MANY_STEPS)
    rough = _InSingle(objective)
    found = minimize_rows(objective, start, covariance, MANY_STEPS, rough=rough)
    assert found.converged.all()
    assert found.position.dtype == found.value.dtype == torch.float64
    torch.testing.assert_close(found.value, exact.value, atol=1e-7, rtol=0)
    assert_agree(found.value, objective(found.position)[0])
    assert rough.n_rows[0] > 5 * B  # most of the way


def test_of_rivals_the_lowest_is_found_and_the_hopeless_are_given_up():
    heights = torch.tensor([0.0, 50.0, 1e-9, 3.0]).double().repeat(B // 4)
    H, optimum = _precisions(condition=10.0), _normal(B, Q, seed=1)
    rivals, n_evaluated = torch.arange(B) // 4, [0]

    def function(rows, z):
        n_evaluated[0] += len(rows)
        away = z - optimum[rows]
        return heights[rows] + 0.5 * torch.einsum("bp,bpq,bq->b", away, H[rows], away).cosh().log()

    covariance = 0.5 * torch.linalg.inv(H)
    alone = minimize_rows(_of_rows(function), optimum + 0.5, covariance, MANY_STEPS)
    n_alone, n_evaluated[0] = n_evaluated[0], 0
    raced = minimize_rows(_of_rows(function), optimum + 0.5, covariance, MANY_STEPS, rivals=rivals)
    assert n_evaluated[0] < n_alone
    assert raced.value[1::4].isinf().all()
    assert_agree(raced.value[0::4], alone.value[0::4])
    assert raced.converged[0::4].all()
    # Those that differ by rounding are both followed.
    assert_agree(raced.value[2::4], alone.value[2::4])


def test_wide_rows_are_placed_in_double_precision(monkeypatch):
    for likelihood in ("gaussian", "nb"):
        model, rows = _model(likelihood, k=3, hidden=(5,)), _rows(likelihood, sized=likelihood == "nb")
        exact = ModeFinder(model, 1e-8)(rows)
        with monkeypatch.context() as patch:
            patch.setattr("skdevae.inference.modes._WIDE", 1)
            found = ModeFinder(model, 1e-8)(rows)
        assert found.converged.all()
        torch.testing.assert_close(found.value, exact.value, atol=1e-6, rtol=0)
        torch.testing.assert_close(found.position, exact.position, atol=1e-3, rtol=0)
        np.testing.assert_allclose(found.value.numpy(), -_log_joint(model, rows, found.position), atol=1e-9)
