"""The mixture after training: its optimum given what is known of representations, and which components stay."""

import numpy as np
import pytest
import torch
from inference.random_models import FLOAT64, random_model
from torch import nn

from skdevae.embedding._dgd_mixture import component_sizes, keep_components_, refit_mixture_, round_
from skdevae.nn.representations import component_log_density
from skdevae.nn.row_context import RowContext
from skdevae.table.source import RowSource

N, Q, K = 60, 2, 3


def _normal(*shape, seed=1, spread=1.0):
    return spread * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _model(k=K, **parameters):
    ball = {"softball_scale": 8.0, "softball_sharpness": 30.0}
    return random_model("mixture", hidden=(), n_samples=N, n_components=Q, n_mixture_components=k, **ball, **parameters)


def _beliefs():
    """Means and variances of representations, weights, and the groups of unequal size that they come from."""
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


def _source(weights, component=None):
    """Rows that carry weights and components; what they hold plays no part."""
    return RowSource(np.zeros((len(weights), 5)), None, None, FLOAT64, RowContext(weight=weights, component=component))


@torch.no_grad()
def _objective(model, mean, variance, weights, component=None):
    """The mixture's part of eq. 3, written out: a function to be maximised."""
    log_weights, means, log_sds = model.latent_prior()
    component_density = torch.distributions.Normal(means, log_sds.exp())
    joint = log_weights + component_density.log_prob(mean[:, None]).sum(-1)
    joint = joint - 0.5 * (variance[:, None] * torch.exp(-2 * log_sds)).sum(-1)
    known = None if component is None else torch.from_numpy(component)
    values = component_log_density(joint, known)
    return torch.from_numpy(weights) @ values + model.prior_weight * model.mixture.log_prior()


# ---- the mixture fitted again ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("covariance_type", ["diag", "isotropic", "fixed"])
def test_one_component_without_a_prior_has_the_moments(covariance_type, known):
    model = _model(k=1, prior_weight=0.0, covariance_type=covariance_type)
    mean, variance, weights, _ = _beliefs()
    before = _settings(model)
    refit_mixture_(model, mean, variance, _source(weights, np.arange(N) % 2 - 1 if known else None))
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
@torch.no_grad()
def test_settled_means_that_nothing_near_is_better(covariance_type, prior_weight, known):
    model = _put(_model(prior_weight=prior_weight, covariance_type=covariance_type, dirichlet_alpha=3.0))
    mean, variance, weights, groups = _beliefs()
    component = np.where(np.arange(N) % 3 == 0, -1, groups) if known else None
    before = _objective(model, mean, variance, weights, component)
    with torch.enable_grad():
        refit_mixture_(model, mean, variance, _source(weights, component))
    settled = _objective(model, mean, variance, weights, component)
    assert settled > before + 1
    learned = [model.mixture.means, model.mixture.logits]
    if covariance_type != "fixed":
        learned.append(model.mixture.log_sds)
    for parameter in learned:
        start = parameter.clone()
        for seed in range(5):
            parameter.copy_(start + _normal(*start.shape, seed=seed, spread=0.03))
            assert _objective(model, mean, variance, weights, component) < settled + 1e-4
        parameter.copy_(start)
    assert _objective(model, mean, variance, weights, component) == settled


@pytest.mark.parametrize("seed", range(4))
def test_wherever_components_are_they_do_not_get_worse(seed):
    model, (mean, variance, weights, _) = _model(dirichlet_alpha=1.5), _beliefs()
    model.mixture.set_(
        _normal(K, seed=seed).softmax(0), _normal(K, Q, seed=seed + 1, spread=5), _normal(K, Q, seed=seed + 2).exp()
    )
    before = _objective(model, mean, variance, weights)
    refit_mixture_(model, mean, variance, _source(weights))
    assert _objective(model, mean, variance, weights) >= before


def test_integer_weights_are_repetitions():
    mean, variance, weights, _ = _beliefs()
    ours, theirs = _put(_model(prior_weight=2.0)), _put(_model(prior_weight=2.0))
    refit_mixture_(ours, mean, variance, _source(weights))
    often = np.repeat(np.arange(N), weights.astype(int))
    refit_mixture_(theirs, mean[often], variance[often], _source(np.ones(len(often))))
    for one, other in zip(ours.latent_prior(), theirs.latent_prior(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=0)


@pytest.mark.parametrize("prior_weight", [0.0, 1.0, 25.0])
@pytest.mark.parametrize("alpha", [1.0, 4.0])
def test_weights_of_known_classes_are_those_of_the_dirichlet(alpha, prior_weight):
    model = _put(_model(prior_weight=prior_weight, dirichlet_alpha=alpha))
    mean, variance, weights, groups = _beliefs()
    refit_mixture_(model, mean, variance, _source(weights, groups))
    counts = np.bincount(groups, weights) + prior_weight * (alpha - 1)
    np.testing.assert_allclose(model.latent_prior().log_weights.exp().numpy(), counts / counts.sum(), atol=1e-4)


def test_a_concentrated_dirichlet_pulls_weights_together():
    spreads = []
    mean, variance, weights, _ = _beliefs()
    for alpha in (0.5, 1.0, 5.0, 100.0, 1e5):
        model = _put(_model(dirichlet_alpha=alpha))
        refit_mixture_(model, mean, variance, _source(weights))
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
    refit_mixture_(model, mean, variance, _source(weights))
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
    refit_mixture_(model, mean[chosen], variance[chosen], _source(weights[chosen], groups[chosen]))
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
    mean, variance, weights, _ = _beliefs()
    refit_mixture_(model, mean, variance, _source(weights))
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == {"mixture.means", "mixture.logits"}
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == flags
    # of a standard normal not even that
    fixed = _model(k=1, learned=False)
    before = _settings(fixed)
    refit_mixture_(fixed, mean, variance, _source(weights))
    assert all(torch.equal(one, other) for one, other in zip(fixed.latent_prior(), before, strict=True))


# ---- components that stay -------------------------------------------------------------------------------------------


def test_a_component_is_as_large_as_the_samples_nearest_to_it():
    model, (mean, _, weights, groups) = _model(), _beliefs()
    centers = torch.tensor([[-4.0, 0.0], [3.0, 3.0], [3.0, -3.0]], dtype=torch.float64)
    model.mixture.set_(torch.ones(K).double() / K, centers, torch.ones(K, Q).double())
    nearest = torch.cdist(mean, centers).argmin(1).numpy()
    assert (nearest == groups).mean() > 0.9
    np.testing.assert_array_equal(component_sizes(model, mean, weights), np.bincount(nearest, weights))
    assert component_sizes(model, mean[:0], weights[:0]).tolist() == [0, 0, 0]


def test_components_are_kept_in_the_order_that_is_asked_for():
    model = _put(_model())
    before = _settings(model)
    keep_components_(model.mixture, np.array([2, 0]))
    after = model.latent_prior()
    assert torch.equal(after.means, before.means[[2, 0]])
    assert torch.equal(after.log_sds, before.log_sds[[2, 0]])
    torch.testing.assert_close(after.log_weights.exp(), torch.tensor([0.5, 0.5]).double())


def test_a_rounded_mixture_is_one_of_single_precision():
    model = _put(_model()).requires_grad_(True)
    before = nn.utils.parameters_to_vector(model.mixture.parameters()).detach()
    round_(model.mixture)
    after = nn.utils.parameters_to_vector(model.mixture.parameters()).detach()
    assert torch.equal(after, before.float().double())
    assert not torch.equal(after, before)
    assert all(parameter.dtype == torch.float64 and parameter.requires_grad for parameter in model.mixture.parameters())
