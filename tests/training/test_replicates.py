"""Replicates side by side: each is what a search of its own would find, for any likelihood."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import logsumexp

from skdevae import BasisDeVAEClusterer, BasisVAEClusterer, DeVAETransformer
from skdevae.datasets import make_progression
from skdevae.nn.latent_grid import LatentGrid
from skdevae.nn.stacked import StackedModels
from skdevae.training.replicates import NegativeEvidence, fit_replicates

N_POINTS = 129
N, R = 40, 3


def _table(kind, seed=0):
    values = make_progression(N, n_transient=2, n_increasing=3, n_decreasing=3, random_state=seed).data
    if kind in ("poisson", "nb"):
        return np.random.default_rng(seed).poisson(np.exp(1 + values)).astype(float)
    if kind == "bernoulli":
        return (values > np.median(values, 0)).astype(float)
    if kind == "missing":
        values = values.copy()
        values[np.random.default_rng(seed).random(values.shape) < 0.2] = np.nan
    return values


CASES = {
    "gaussian": (BasisDeVAEClusterer, {}),
    "missing": (BasisDeVAEClusterer, {}),
    "poisson": (BasisDeVAEClusterer, {"likelihood": "poisson"}),
    "nb, sizes": (BasisDeVAEClusterer, {"likelihood": "nb", "size_factors": "sum"}),
    "BasisVAE": (BasisVAEClusterer, {"n_clusters": 3}),
    "DeVAE": (DeVAETransformer, {}),
}


@pytest.fixture(scope="module", params=CASES)
def fitted(request):
    estimator, options = CASES[request.param]
    X = _table(request.param.split(",")[0])
    model = estimator(max_epochs=10, random_state=0, **options).fit(X)
    query = model._for_inference(X)
    return model, X, query.source, query.inference.model


@pytest.fixture(scope="module")
def weights():
    drawn = np.random.default_rng(1).standard_exponential((R, N))
    return drawn * (N / drawn.sum(1, keepdims=True))


def _evidence(module, source, weights):
    grid = LatentGrid.standard_normal(N_POINTS, module.z_max)
    models = StackedModels(module)
    return NegativeEvidence.of_replicates(models, source, weights, grid), models


@pytest.mark.slow(keep=1)
def test_the_objective_of_each_replicate_is_its_own_models_bound(fitted, weights):
    """Minus the weighted log evidence with tables averaged over q(w), and minus the log prior."""
    _, _, source, module = fitted
    evidence, models = _evidence(module, source, weights)
    moved = models.start + 0.02 * torch.randn(R, len(models.start), generator=torch.Generator().manual_seed(0)).double()
    values, _ = evidence(moved)
    grid = evidence.grid
    for number in range(R):
        one = models.model(moved[number])
        rows = one.adjusted(source.rows(slice(0, N)))
        with torch.no_grad():
            joint = rows.log_likelihood(one.averaged_tables_at(grid.points)) + grid.log_mass
            constants = one.linear_likelihood.row_constant(rows)
        if not one.linear_likelihood.own_parameters():
            constants = 0 * constants  # they do not depend on parameters
        own = torch.from_numpy(weights[number]) @ (joint.logsumexp(1) + constants) + one.log_prior()
        # Constants of sized counts are summed over a few sizes in place of each row's own.
        tolerance = 2e-2 if one.likelihood.is_linear_in_size and source.context.log_size is not None else 1e-9
        assert values[number].item() == pytest.approx(-own.item(), rel=tolerance)


def test_gradients_are_those_of_the_values(fitted, weights):
    _, _, source, module = fitted
    evidence, models = _evidence(module, source, weights)
    start = models.start.expand(R, -1).contiguous()
    _, gradient = evidence(start)
    direction = torch.randn(R, len(models.start), generator=torch.Generator().manual_seed(2)).double()
    step = 1e-5
    slope = (evidence(start + step * direction)[0] - evidence(start - step * direction)[0]) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(1), slope, rtol=1e-4, atol=1e-4)


@pytest.mark.slow(keep=2)
def test_a_replicate_is_the_same_whichever_others_are_fitted_beside_it(fitted, weights, monkeypatch):
    """After a few steps: later on, rounding may choose between two hills."""
    monkeypatch.setattr("skdevae.training.replicates._MAX_STEPS", 10)
    _, _, source, module = fitted
    evidence, _ = _evidence(module, source, weights)
    together = fit_replicates(module, source, weights, N_POINTS, judge=False)
    alone = fit_replicates(module, source, weights[1:2], N_POINTS, judge=False)
    expected = evidence(together.parameters)[0][1].item()
    assert evidence.take(torch.tensor([1]))(alone.parameters)[0].item() == pytest.approx(expected, rel=0.002)


@pytest.mark.slow(keep=1)
def test_positions_are_those_of_the_replicates_models(fitted, weights):
    model, X, source, module = fitted
    replicates = fit_replicates(module, source, weights, N_POINTS, judge=False)
    positions = replicates.positions(source)
    twin = model._with_module(replicates.model(2), positions[2])
    spacing = float(replicates.grid.axis[1] - replicates.grid.axis[0])
    np.testing.assert_allclose(twin.transform(X)[:, 0], positions[2], atol=spacing)


def test_equal_weights_stay_at_the_fit():
    """What a search from the optimum still finds is what the fit's own steps left to gain."""
    X = _table("gaussian")
    model = BasisDeVAEClusterer(random_state=0).fit(X)
    query = model._for_inference(X)
    module, source, weights = query.inference.model, query.source, np.ones((1, N))
    evidence, models = _evidence(module, source, weights)
    replicates = fit_replicates(module, source, weights, N_POINTS, judge=False)
    gain = evidence(models.start[None])[0] - evidence(replicates.parameters)[0]
    assert 0 <= gain.item() / N < 0.2
    assert np.corrcoef(replicates.positions(source)[0], model.transform(X)[:, 0])[0, 1] > 0.99


def test_replicates_that_are_judged_have_clusters_of_their_own():
    """A column rises along the axis in one half of the samples, and falls in the other."""
    made = make_progression(80, n_transient=0, n_increasing=4, n_decreasing=2, random_state=3)
    X, rises = made.data.copy(), np.arange(80) < 40
    X[:, 0] = np.where(rises, 1, -1) * made.times
    model = BasisDeVAEClusterer(max_epochs=60, random_state=0).fit(X, orientation=made.times)
    query = model._for_inference(X)
    weights = np.where([rises, ~rises], 1.99, 0.01)
    judged = fit_replicates(query.inference.model, query.source, weights, N_POINTS, judge=True)
    names = query.inference.model.decoder.names
    assert [names[judged.model(number).labels[0]] for number in range(2)] == ["increasing", "decreasing"]


def test_known_positions_are_where_rows_are(weights):
    """A row that is exactly known counts by its log-likelihood there, interpolated; others by their own priors."""
    X = _table("gaussian")
    model = DeVAETransformer(max_epochs=10, random_state=0).fit(X)
    query = model._for_inference(X)
    module, source = query.inference.model, query.source
    axis, sd = np.linspace(-2, 2, N), np.resize([0.0, 0.4, np.nan], N)
    axis[np.isnan(sd)] = np.nan
    source = replace(source, context=source.context.replaced(axis=axis, axis_sd=sd))
    evidence, models = _evidence(module, source, weights)
    values, _ = evidence(models.start.expand(R, -1).contiguous())

    points = evidence.grid.points[:, 0].numpy()
    rows = source.rows(slice(0, N))
    with torch.no_grad():
        likelihood = rows.log_likelihood(module.averaged_tables_at(evidence.grid.points)).numpy()
        constants = module.linear_likelihood.row_constant(rows).numpy()
        log_prior = float(module.log_prior())
    of_rows = []
    for row in range(N):
        if sd[row] == 0:
            of_rows.append(np.interp(axis[row], points, likelihood[row]))
            continue
        prior = stats.norm(axis[row], sd[row]).logpdf(points) if sd[row] > 0 else stats.norm.logpdf(points)
        of_rows.append(logsumexp(likelihood[row] + prior) - logsumexp(prior))
    expected = -(weights @ (np.array(of_rows) + constants) + log_prior)
    np.testing.assert_allclose(values.numpy(), expected, rtol=1e-6)
