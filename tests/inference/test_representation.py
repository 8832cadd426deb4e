"""How a deep generative decoder's mixture is settled, and what is said of rows: closed forms and stationarity."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from skdevae.inference.importance import log_joint_at
from skdevae.inference.modes import ModeFinder
from skdevae.inference.representation import laplace_bound, posterior_modes, refit_mixture_
from skdevae.nn.models import build_model
from skdevae.nn.representations import class_log_density
from skdevae.table.components import principal_projection
from skdevae.table.source import RowSource

FLOAT64 = torch.zeros((), dtype=torch.float64)
N, D, Q, K = 60, 5, 2, 3


def _normal(*shape, seed=1, spread=1.0):
    return spread * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _model(likelihood="gaussian", *, k=K, hidden=(), prior_weight=1.0, spread=0.5, **mixture):
    """A float64 model whose every parameter is random."""
    config = {
        "n_samples": N,
        "n_features": D,
        "n_components": Q,
        "decoder": {"name": "neural", "n_components": Q, "hidden_layer_sizes": hidden, "activation": "tanh"},
        "likelihood": {"name": likelihood, **({"floor": 0.1} if likelihood == "gaussian" else {})},
        "assignment": None,
        "mixture": {
            "n_mixture_components": k,
            "covariance_type": "diag",
            "dirichlet_alpha": 1.0,
            "softball_scale": 8.0,
            "softball_sharpness": 30.0,
            "learned": True,
            **mixture,
        },
        "prior_weight": prior_weight,
        "z_max": math.inf,
        "weight_decay": 0.0,
        "beta": 1.0,
        "gamma": 1.0,
    }
    generator = torch.Generator().manual_seed(0)
    model = build_model(config, generator).double().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(0, spread, generator=generator)
    return model


def _beliefs():
    """Means and variances of representations, and weights, of three groups of unequal size."""
    centers = torch.tensor([[-4.0, 0.0], [3.0, 3.0], [3.0, -3.0]], dtype=torch.float64)
    groups = torch.tensor([0] * 30 + [1] * 20 + [2] * 10)
    mean = centers[groups] + _normal(N, Q, spread=0.7)
    weights = np.random.default_rng(0).integers(1, 4, N).astype(float)
    return mean, _normal(N, Q, seed=2, spread=0.5).exp() * 0.3, weights, groups.numpy()


def _put(model):
    """Components near the groups."""
    mean, _, _, groups = _beliefs()
    means = torch.stack([mean[groups == k].mean(0) for k in range(K)])
    weights = torch.full((K,), 1 / K, dtype=torch.float64)
    model.mixture.set_(weights, means + _normal(K, Q, spread=0.3), torch.full((K, Q), 2.0, dtype=torch.float64))
    return model


def _settings(model):
    """The mixture as it is, and will not be."""
    return type(model.latent_prior())(*(part.clone() for part in model.latent_prior()))


def _objective(model, mean, variance, weights, classes=None):
    """The mixture's part of the objective, component by component with torch.distributions."""
    log_weights, means, log_sds = model.latent_prior()
    component = torch.distributions.Normal(means, log_sds.exp())
    joint = log_weights + component.log_prob(mean[:, None]).sum(-1)
    joint = joint - 0.5 * (variance[:, None] * torch.exp(-2 * log_sds)).sum(-1)
    values = joint.logsumexp(1) if classes is None else class_log_density(joint, torch.from_numpy(classes))
    return torch.from_numpy(weights) @ values + model.prior_weight * model.mixture.log_prior()


# ---- settling the mixture -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("covariance_type", ["diag", "isotropic", "fixed"])
def test_one_component_without_a_prior_has_the_moments(covariance_type, known):
    model = _model(k=1, prior_weight=0.0, covariance_type=covariance_type)
    mean, variance, weights, _ = _beliefs()
    before = _settings(model)
    refit_mixture_(model, mean, variance, weights, np.arange(N) % 2 - 1 if known else None)
    after = model.latent_prior()
    center = np.average(mean, axis=0, weights=weights)
    np.testing.assert_allclose(after.means[0].numpy(), center, atol=1e-4)
    spread = np.average((mean.numpy() - center) ** 2 + variance.numpy(), axis=0, weights=weights)
    if covariance_type == "fixed":
        assert torch.equal(after.log_sds, before.log_sds)
    else:
        expected = spread if covariance_type == "diag" else np.full(Q, spread.mean())
        np.testing.assert_allclose(torch.exp(2 * after.log_sds[0]).numpy(), expected, rtol=2e-4)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("prior_weight", [0.0, 1.0, 20.0])
@pytest.mark.parametrize("covariance_type", ["diag", "isotropic", "fixed"])
def test_settled_means_that_nothing_near_is_better(covariance_type, prior_weight, known):
    model = _put(_model(prior_weight=prior_weight, covariance_type=covariance_type, dirichlet_alpha=3.0))
    mean, variance, weights, groups = _beliefs()
    beliefs = (mean, variance, weights, np.where(np.arange(N) % 3 == 0, -1, groups) if known else None)
    before = _objective(model, *beliefs)
    refit_mixture_(model, *beliefs)
    settled = _objective(model, *beliefs)
    assert settled > before + 1
    learned = [model.mixture.means, model.mixture.logits]
    if covariance_type != "fixed":
        learned.append(model.mixture.log_sds)
    for parameter in learned:
        start = parameter.clone()
        for seed in range(10):
            parameter.copy_(start + _normal(*start.shape, seed=seed, spread=0.03))
            assert _objective(model, *beliefs) < settled + 1e-4
        parameter.copy_(start)
    assert _objective(model, *beliefs) == settled


@pytest.mark.parametrize("seed", range(4))
def test_wherever_components_are_they_do_not_get_worse(seed):
    model, beliefs = _model(dirichlet_alpha=0.5), _beliefs()[:3]
    model.mixture.set_(
        _normal(K, seed=seed).softmax(0), _normal(K, Q, seed=seed + 1, spread=5), _normal(K, Q, seed=seed + 2).exp()
    )
    before = _objective(model, *beliefs)
    refit_mixture_(model, *beliefs, None)
    assert _objective(model, *beliefs) >= before


def test_integer_weights_are_repetitions():
    mean, variance, weights, _ = _beliefs()
    ours, theirs = _put(_model(prior_weight=2.0)), _put(_model(prior_weight=2.0))
    refit_mixture_(ours, mean, variance, weights, None)
    often = np.repeat(np.arange(N), weights.astype(int))
    refit_mixture_(theirs, mean[often], variance[often], np.ones(len(often)), None)
    for one, other in zip(ours.latent_prior(), theirs.latent_prior(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=0)


@pytest.mark.parametrize("prior_weight", [0.0, 1.0, 25.0])
@pytest.mark.parametrize("alpha", [1.0, 4.0])
def test_weights_of_known_classes_are_those_of_the_dirichlet(alpha, prior_weight):
    model = _put(_model(prior_weight=prior_weight, dirichlet_alpha=alpha))
    mean, variance, weights, groups = _beliefs()
    refit_mixture_(model, mean, variance, weights, groups)
    counts = np.bincount(groups, weights) + prior_weight * (alpha - 1)
    np.testing.assert_allclose(model.latent_prior().log_weights.exp().numpy(), counts / counts.sum(), atol=1e-4)


def test_a_concentrated_dirichlet_pulls_weights_together():
    spreads = []
    for alpha in (0.5, 1.0, 5.0, 100.0, 1e5):
        model = _put(_model(dirichlet_alpha=alpha))
        refit_mixture_(model, *_beliefs()[:3], None)
        spreads.append(float(model.latent_prior().log_weights.exp().std()))
    assert spreads == sorted(spreads, reverse=True)
    assert spreads[0] > 0.1
    assert spreads[-1] < 1e-2


@pytest.mark.parametrize("prior_weight", [1.0, 50.0])
def test_variances_are_between_the_data_and_their_prior(prior_weight):
    # n / 2 (s / v - 1) = prior_weight (log v - log v0) where the log posterior of log v is flat
    model, start = _model(k=1, prior_weight=prior_weight), torch.tensor([[9.0, 0.04]], dtype=torch.float64)
    model.mixture.set_(torch.ones(1, dtype=torch.float64), torch.zeros(1, Q, dtype=torch.float64), start)
    mean, variance, weights, _ = _beliefs()
    refit_mixture_(model, mean, variance, weights, None)
    after = model.latent_prior()
    v = torch.exp(2 * after.log_sds[0]).numpy()
    s = np.average((mean.numpy() - after.means[0].numpy()) ** 2 + variance.numpy(), axis=0, weights=weights)
    pull = prior_weight * np.log(v / start[0].numpy())
    np.testing.assert_allclose(0.5 * weights.sum() * (s / v - 1), pull, rtol=1e-2, atol=1e-2)
    assert (np.abs(np.log(v / s)) > 1e-3).all()


def test_components_without_samples_stay_where_the_prior_is_flat():
    model = _put(_model())
    mean, variance, weights, groups = _beliefs()
    before = _settings(model)
    chosen = groups < 2
    refit_mixture_(model, mean[chosen], variance[chosen], weights[chosen], groups[chosen])
    after = model.latent_prior()
    torch.testing.assert_close(after.means[2], before.means[2], atol=1e-3, rtol=0)
    torch.testing.assert_close(after.log_sds[2], before.log_sds[2], atol=1e-3, rtol=0)
    assert (after.means[:2] - before.means[:2]).abs().max() > 0.05


@pytest.mark.parametrize("required", [False, True])
def test_nothing_but_the_mixture_changes(required):
    model = _put(_model(covariance_type="fixed")).requires_grad_(required)
    model.mixture.log_sds.requires_grad_(False)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    refit_mixture_(model, *_beliefs()[:3], None)
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == {"mixture.means", "mixture.logits"}
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == flags
    # of a standard normal not even that
    fixed = _model(k=1, learned=False)
    before = _settings(fixed)
    refit_mixture_(fixed, *_beliefs()[:3], None)
    assert all(torch.equal(one, other) for one, other in zip(fixed.latent_prior(), before, strict=True))


# ---- rows -----------------------------------------------------------------------------------------------------------


def _table(likelihood, n, *, missing=0.0):
    generator = np.random.default_rng(1)
    table = (
        generator.normal(0, 1.5, (n, D)) if likelihood == "gaussian" else generator.poisson(2.0, (n, D)).astype(float)
    )
    return np.where(generator.random((n, D)) < missing, np.nan, table)


@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_modes_of_a_table_are_those_of_its_rows(likelihood):
    n = 600  # of several chunks
    log_size = None if likelihood == "gaussian" else np.random.default_rng(2).normal(size=n)
    source = RowSource(_table(likelihood, n, missing=0.1), None, None, FLOAT64, log_size)
    model, classes = _model(likelihood, hidden=(4,)), np.arange(n) % (K + 1) - 1
    for known, projection in ((None, None), (classes, None), (None, principal_projection(source, False, Q))):
        found = posterior_modes(model, source, projection, known)
        for index in (slice(0, 300), slice(299, 600)):
            rows = source.rows(index).dense()
            known_here = None if known is None else torch.from_numpy(known[index])
            predicted = None if projection is None else torch.from_numpy(projection(source)[index])
            alone = ModeFinder(model)(rows, known_here, predicted)
            torch.testing.assert_close(found.position[index], alone.position, atol=1e-6, rtol=0)
            torch.testing.assert_close(found.log_joint[index], -alone.value, atol=1e-9, rtol=0)
            assert torch.equal(found.converged[index], alone.converged)
    torch.testing.assert_close(
        posterior_modes(model, source, None).log_joint,
        log_joint_at(model, source.rows(slice(None)).dense(), posterior_modes(model, source, None).position[None])[0],
    )


def test_laplace_bound_of_a_linear_model_is_the_evidence():
    model, table = _model(k=1), _table("gaussian", 20, missing=0.3)
    table[3] = np.nan
    source = RowSource(table, None, None, FLOAT64)
    prior, W = model.latent_prior(), model.decoder.loadings.numpy().T
    center = model.decoder.level.numpy() + W @ prior.means[0].numpy()
    covariance = W @ np.diag(np.exp(2 * prior.log_sds[0].numpy())) @ W.T + np.diag(model.likelihood.scale.numpy() ** 2)
    expected = [
        stats.multivariate_normal.logpdf(row[seen], center[seen], covariance[np.ix_(seen, seen)]) if seen.any() else 0
        for row, seen in zip(table, ~np.isnan(table), strict=True)
    ]
    bound = laplace_bound(model, source, posterior_modes(model, source, None).position, 4096)
    np.testing.assert_allclose(bound.numpy(), expected, atol=5e-3)
    assert bound[3] == 0


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
def test_laplace_bound_is_below_the_evidence_and_not_far(likelihood):
    model, table = _model(likelihood, k=2, hidden=(4,)), _table(likelihood, 40, missing=0.1)
    source = RowSource(table, None, None, FLOAT64)
    bound = laplace_bound(model, source, posterior_modes(model, source, None).position, 4096)
    axis = torch.linspace(-8, 8, 161, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    rows = source.rows(slice(None)).dense()
    likelihoods = rows.log_likelihood(model.predictive_tables(points)) + model.likelihood.row_constant(rows)[:, None]
    evidence = (likelihoods + model.latent_prior().log_density(points)).logsumexp(1) + 2 * math.log(axis[1] - axis[0])
    gap = evidence - bound
    assert gap.min() > -5e-3
    assert gap.median() < 0.3
    assert gap.max() > 0.02


def test_laplace_bound_is_the_same_in_chunks(monkeypatch):
    model, table = _model("poisson", k=2, hidden=(4,)), _table("poisson", 40, missing=0.1)
    source = RowSource(table, None, None, FLOAT64)
    modes = posterior_modes(model, source, None).position
    expected = laplace_bound(model, source, modes, 64)
    monkeypatch.setattr("skdevae.table.source._CHUNK_ENTRIES", 7 * 64 * model.entries_per_point)
    assert len(list(source.chunks(width=64 * model.entries_per_point))) == 6
    torch.testing.assert_close(laplace_bound(model, source, modes, 64), expected, atol=1e-10, rtol=0)
