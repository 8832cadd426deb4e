"""Laplace's approximation of posteriors without an encoder: modes, variances, bounds."""

import math

import numpy as np
import pytest
import torch
from agreement import assert_agree
from inference.random_models import gaussian_marginal, random_model, random_table, source_of
from scipy import stats
from sklearn.exceptions import ConvergenceWarning

from skdevae.inference import LaplaceInference, Modes, warn_unless_converged
from skdevae.inference.gaussian import log_joint_at, precision_at
from skdevae.inference.modes import ModeFinder
from skdevae.table.components import principal_projection

Q, K = 2, 3


def _model(likelihood="gaussian", *, k=K, hidden=()):
    return random_model("mixture", likelihood, n_components=Q, hidden=hidden, n_mixture_components=k)


@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_modes_of_a_table_are_those_of_its_rows(likelihood):
    n = 400  # of two chunks
    log_size = None if likelihood == "gaussian" else np.random.default_rng(2).normal(size=n)
    table, component = random_table(likelihood, n, missing=0.1), np.arange(n) % (K + 1) - 1
    source, model = source_of(table, log_size=log_size), _model(likelihood, hidden=(4,))
    known = source_of(table, log_size=log_size, component=component)
    projection = principal_projection(source, False, Q)
    for given, predict in ((source, None), (known, None), (source, projection)):
        found = LaplaceInference(model, 64, predict).modes(given)
        for index in (slice(0, 200), slice(199, 400)):
            predicted = None if predict is None else torch.from_numpy(predict(source)[index])
            alone = ModeFinder(model)(given.rows(index).dense(), predicted)
            torch.testing.assert_close(found.position[index], alone.position, atol=1e-6, rtol=0)
            assert_agree(found.log_joint[index], -alone.value)
            assert torch.equal(found.converged[index], alone.converged)
        if given is source:
            rows = source.rows(slice(None)).dense()
            assert_agree(found.log_joint, log_joint_at(model, rows, found.position[None])[0])


def test_known_components_are_those_of_the_rows():
    model, table = _model(), random_table("gaussian", 30)
    log_weights, means, log_sds = model.latent_prior()
    for component in range(K):
        only = random_model("mixture", n_components=Q, hidden=(), n_mixture_components=1)
        only.load_state_dict(
            {name: value for name, value in model.state_dict().items() if "mixture" not in name}, False
        )
        only.mixture.set_(torch.ones(1).double(), means[[component]], torch.exp(2 * log_sds[[component]]))
        expected = LaplaceInference(only, 64, tolerance=1e-10).modes(source_of(table))
        known = source_of(table, component=np.full(30, component))
        found = LaplaceInference(model, 64, tolerance=1e-10).modes(known)
        torch.testing.assert_close(found.position, expected.position, atol=1e-6, rtol=0)
        torch.testing.assert_close(found.log_joint, expected.log_joint + log_weights[component], atol=1e-8, rtol=0)


def test_a_tolerance_says_how_near_searches_come():
    model, source = _model("poisson", hidden=(4,)), source_of(random_table("poisson", 100))
    fine, rough = (LaplaceInference(model, 64, tolerance=tolerance).modes(source) for tolerance in (1e-9, 1.0))
    assert (fine.log_joint - rough.log_joint).mean() > 1e-4
    assert fine.converged.all()


def test_variances_are_those_of_the_curvature_wherever_rows_are_put(monkeypatch):
    model, sizes = _model("poisson", hidden=(4,)), np.random.default_rng(0).normal(size=20)
    source = source_of(random_table("poisson", 20, missing=0.2), log_size=sizes)
    positions = torch.randn(20, Q, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    precision = precision_at(model, source.rows(slice(None)).dense(), positions, model.latent_prior())
    expected = np.linalg.inv(precision.numpy()).diagonal(axis1=1, axis2=2)
    inference = LaplaceInference(model, 64)
    np.testing.assert_allclose(inference.variances(source, positions), expected, rtol=1e-9)
    monkeypatch.setattr("skdevae.table.source._CHUNK_ENTRIES", 7 * model.entries_per_point * Q)
    assert_agree(inference.variances(source, positions), expected)


def test_bound_of_a_linear_model_is_the_evidence():
    model, table = _model(k=1), random_table("gaussian", 20, missing=0.3)
    table[3] = np.nan
    prior, (level, W, noise) = model.latent_prior(), gaussian_marginal(model)
    center = level + W @ prior.means[0].numpy()
    covariance = W @ np.diag(np.exp(2 * prior.log_sds[0].numpy())) @ W.T + np.diag(noise)
    expected = [
        stats.multivariate_normal.logpdf(row[seen], center[seen], covariance[np.ix_(seen, seen)]) if seen.any() else 0
        for row, seen in zip(table, ~np.isnan(table), strict=True)
    ]
    bound = LaplaceInference(model, 4096).bound(source_of(table))
    np.testing.assert_allclose(bound.numpy(), expected, atol=5e-3)
    assert bound[3] == 0


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
def test_bound_is_below_the_evidence_and_not_far(likelihood):
    model, table = _model(likelihood, k=2, hidden=(4,)), random_table(likelihood, 40, missing=0.1)
    source = source_of(table)
    bound = LaplaceInference(model, 4096).bound(source)
    axis = torch.linspace(-8, 8, 161, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    rows = source.rows(slice(None)).dense()
    likelihoods = model.likelihood.pair_log_prob(rows, model.predictive_curves(points), points)
    likelihoods = likelihoods + model.likelihood.row_constant(rows)[:, None]
    evidence = (likelihoods + model.latent_prior().log_density(points)).logsumexp(1) + 2 * math.log(axis[1] - axis[0])
    gap = evidence - bound
    assert gap.min() > -5e-3
    assert gap.median() < 0.3
    assert gap.max() > 0.02


def test_bound_is_the_same_in_chunks(monkeypatch):
    model, source = _model("poisson", k=2, hidden=(4,)), source_of(random_table("poisson", 40, missing=0.1))
    inference = LaplaceInference(model, 64)
    expected = inference.bound(source)
    monkeypatch.setattr("skdevae.table.source._CHUNK_ENTRIES", 7 * 64 * model.entries_per_point)
    assert len(list(source.chunks(width=64 * model.entries_per_point))) == 6
    assert_agree(inference.bound(source), expected)


def test_searches_that_did_not_arrive_are_warned_of():
    position, values = torch.zeros(100, Q), torch.zeros(100)
    warn_unless_converged(Modes(position, values, torch.arange(100) >= 5))
    with pytest.warns(ConvergenceWarning, match="did not converge for 6% of the samples"):
        warn_unless_converged(Modes(position, values, torch.arange(100) >= 6))


def test_answers_warn_and_searches_do_not(monkeypatch):
    monkeypatch.setattr("skdevae.inference.modes._MAX_STEPS", 1)
    source = source_of(random_table("poisson", 20))
    inference = LaplaceInference(_model("poisson", hidden=(4,)), 16)
    inference.modes(source)
    for ask in (inference.mean, inference.posterior, inference.bound):
        with pytest.warns(ConvergenceWarning, match="did not converge") as caught:
            ask(source)
        assert len(caught) == 1
