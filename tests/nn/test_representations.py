"""The objective of a decoder without an encoder, sample by sample, against scipy.stats and closed forms."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import logsumexp
from torch import nn

from skdevae.nn.models import MixtureModel, build_model
from skdevae.nn.neural_decoders import ModuleDecoder
from skdevae.nn.representations import RepresentationLearning, Representations, component_log_density
from skdevae.nn.row_context import RowContext
from skdevae.nn.rows import DenseRows

N, D, Q, K = 8, 5, 2, 3
EVERY = torch.arange(N)
MIXTURE = {
    "covariance_type": "diag",
    "dirichlet_alpha": 2.0,
    "softball_scale": 3.0,
    "softball_sharpness": 2.0,
    "learned": True,
}
CLASSES = torch.tensor([-1, 2, 0, -1, 2, 2, -1, 1])


def _normal(*shape, seed=1, spread=1.0):
    return spread * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _model(likelihood="gaussian", *, k=K, hidden=(4,), n_samples=N, weight_precision=2.4, prior_weight=0.7, **mixture):
    """A float64 model whose every parameter is random."""
    config = {
        "n_samples": n_samples,
        "n_features": D,
        "n_components": Q,
        "decoder": {"name": "neural", "n_components": Q, "hidden_layer_sizes": hidden, "activation": "tanh"},
        "likelihood": {"name": likelihood, **({"floor": 0.1} if likelihood == "gaussian" else {})},
        "assignment": None,
        "mixture": {**MIXTURE, "n_mixture_components": k, **mixture},
        "prior_weight": prior_weight,
        "z_max": math.inf,
        "weight_precision": weight_precision,
        "beta": 1.0,
        "gamma": 1.0,
    }
    generator = torch.Generator().manual_seed(0)
    model = build_model(config, generator).double()
    assert isinstance(model, MixtureModel)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.5, generator=generator)
    return model


def _rows(likelihood="gaussian", *, missing=False, sized=False, weight=None, component=None):
    """All samples, and what they carry: weights relative to their mean, as batches have them."""
    if likelihood == "gaussian":
        values = _normal(N, D, seed=7)
    else:
        values = torch.from_numpy(np.random.default_rng(0).poisson(2.0, (N, D)).astype(float))
    observed = (_normal(N, D, seed=8) > -0.7).double() if missing else None
    values = values if observed is None else values * observed
    log_size = _normal(N, seed=9, spread=0.4) if sized else None
    relative = None if weight is None else weight / weight.mean()
    return DenseRows(values, observed, RowContext(weight=relative, log_size=log_size, component=component))


class Learning(torch.nn.Module):
    """The objective with the representations of all samples, of which a batch brings its own."""

    def __init__(self, model, representations):
        super().__init__()
        self.objective, self.representations = RepresentationLearning(model), representations

    def forward(self, rows, index, noise):
        return self.objective(rows, *self.representations.of_rows(index), noise)


def _learning(model, *, variational=False):
    representations = Representations(_normal(N, Q, seed=3), _normal(N, Q, seed=4, spread=0.4) if variational else None)
    return Learning(model, representations)


def _weights():
    return torch.tensor([1.0, 2, 5, 0.5, 1, 3, 1, 0.25], dtype=torch.float64)


@torch.no_grad()
def _log_likelihoods(model, rows, z):
    """log p(x | z) of each row, by scipy."""
    curves = model.predictive_curves(z).numpy()
    if rows.context.log_size is not None:
        curves = curves + rows.context.log_size.numpy()[:, None]
    x = rows.values.numpy()
    if model.likelihood.counts:
        theta = model.likelihood.dispersion.numpy()
        entries = stats.nbinom.logpmf(x, theta, theta / (theta + np.exp(curves)))
    else:
        entries = stats.norm.logpdf(x, curves, model.likelihood.scale.numpy())
    return (entries if rows.observed is None else entries * rows.observed.numpy()).sum(1)


@torch.no_grad()
def _log_priors(model, z, classes=None):
    """log p(z | phi) of each row, of the component it belongs to where that is known, by scipy."""
    weights, means, log_sds = (part.numpy() for part in model.latent_prior())
    values = []
    for row, z_row in enumerate(z.numpy()):
        joint = [
            weights[k] + stats.multivariate_normal.logpdf(z_row, means[k], np.diag(np.exp(2 * log_sds[k])))
            for k in range(len(means))
        ]
        known = -1 if classes is None else int(classes[row])
        values.append(logsumexp(joint) if known < 0 else joint[known])
    return np.array(values)


def _decoder_prior(model):
    """log p(theta) of a decoder, in nats."""
    matrices = [parameter.detach() for parameter in model.decoder.parameters() if parameter.ndim > 1]
    return -0.5 * model.weight_precision * sum(float((m**2).sum()) for m in matrices)


# ---- the objective --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "likelihood, missing, sized", [("gaussian", False, False), ("gaussian", True, False), ("nb", True, True)]
)
def test_the_loss_of_all_samples_is_equation_3(likelihood, missing, sized, weighted, known):
    weights = _weights() if weighted else torch.ones(N, dtype=torch.float64)
    carried = {"weight": weights if weighted else None, "component": CLASSES if known else None}
    model, rows = (
        _model(likelihood, n_samples=float(weights.sum())),
        _rows(likelihood, missing=missing, sized=sized, **carried),
    )
    learning = _learning(model)
    z = learning.representations.means.detach()
    of_samples = _log_likelihoods(model, rows, z) + _log_priors(model, z, CLASSES if known else None)
    of_parameters = _decoder_prior(model) + model.prior_weight * model.mixture.log_prior().item()
    of_parameters += model.likelihood.log_prior().item()
    expected = weights.numpy() @ of_samples + of_parameters
    total = learning(rows, EVERY, None).total.item()
    assert -total * weights.sum().item() == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("variational", [False, True])
def test_the_batches_of_an_epoch_are_the_whole_on_average(variational):
    rows, noise = _rows(missing=True, weight=_weights(), component=CLASSES), _normal(N, Q, seed=11)
    learning = _learning(_model(), variational=variational)
    whole = learning(rows, EVERY, noise)
    for size in (1, 2, 4):
        order = torch.randperm(N, generator=torch.Generator().manual_seed(size))
        parts = [learning(rows.take(index), index, noise[index]) for index in order.split(size)]
        for name, value in whole.named().items():
            assert np.mean([part.named()[name] for part in parts]) == pytest.approx(value, abs=1e-10)
        assert np.mean([part.total.item() for part in parts]) == pytest.approx(whole.total.item(), abs=1e-10)


def test_a_weight_precision_is_that_of_a_gaussian_prior():
    model = _model(weight_precision=0.3, n_samples=123)
    (-model.log_prior()).backward()
    for parameter in model.decoder.parameters():
        if parameter.ndim > 1:
            torch.testing.assert_close(parameter.grad, 0.3 * parameter.detach())
        else:
            assert parameter.grad is None


# ---- gradients ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("variational", [False, True])
@pytest.mark.parametrize("k, covariance_type", [(1, "diag"), (K, "diag"), (K, "isotropic"), (K, "fixed")])
def test_gradients_reach_everything_and_are_right(k, covariance_type, variational, known):
    classes = CLASSES.clamp(max=k - 1) if known else None
    model = _model(k=k, covariance_type=covariance_type)
    learning = _learning(model, variational=variational)
    rows, noise = _rows(missing=True, weight=_weights(), component=classes), _normal(N, Q, seed=11)

    def loss():
        return learning(rows, EVERY, noise).total

    loss().backward()
    learned = [parameter for parameter in learning.parameters() if parameter.requires_grad]
    untouched = [name for name, parameter in learning.named_parameters() if not parameter.requires_grad]
    assert untouched == (["objective.model.mixture.log_sds"] if covariance_type == "fixed" else [])
    one_weight = k == 1
    for name, parameter in learning.named_parameters():
        if parameter.requires_grad and not (one_weight and name.endswith("logits")):
            assert (parameter.grad != 0).all(), name
    gradient = torch.cat([parameter.grad.flatten() for parameter in learned])
    start = nn.utils.parameters_to_vector(learned).detach()
    with torch.no_grad():
        for seed in range(8):
            direction = _normal(len(start), seed=seed)
            ends = []
            for step in (1e-5, -1e-5):
                nn.utils.vector_to_parameters(start + step * direction, learned)
                ends.append(loss().item())
            slope = (gradient @ direction).item()
            assert slope == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5, abs=1e-6)


def test_a_batch_moves_its_own_representations():
    learning, index = _learning(_model(), variational=True), torch.tensor([6, 1])
    learning(_rows().take(index), index, _normal(2, Q)).total.backward()
    for parameter in learning.representations.parameters():
        assert set(parameter.grad.any(1).nonzero()[:, 0].tolist()) == {1, 6}


@pytest.mark.parametrize("variational", [False, True])
def test_samples_of_a_known_class_move_no_other_component(variational):
    model, rows = _model(), _rows(component=CLASSES)
    learning = _learning(model, variational=variational)
    for known in (-1, 0, 1, 2):
        model.zero_grad()
        index = (CLASSES == known).nonzero()[:, 0]
        learning(rows.take(index), index, _normal(len(index), Q)).data_part.backward()
        for parameter in (model.mixture.means, model.mixture.log_sds):
            moved = parameter.grad.any(1).nonzero()[:, 0].tolist()
            assert moved == (list(range(K)) if known < 0 else [known])


def test_component_log_density_is_of_the_own_component_or_of_all():
    log_joint = _normal(N, K)
    expected = [logsumexp(row) if k < 0 else row[k] for row, k in zip(log_joint.numpy(), CLASSES, strict=True)]
    np.testing.assert_allclose(component_log_density(log_joint, CLASSES).numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(component_log_density(log_joint, None), log_joint.logsumexp(1), rtol=1e-12)


# ---- Gaussian representations ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [False, True])
def test_a_draw_costs_its_density_less_the_entropy(known):
    classes = CLASSES if known else None
    model, noise = _model(n_samples=float(_weights().sum())), _normal(N, Q, seed=11)
    rows = _rows(missing=True, weight=_weights(), component=classes)
    learning = _learning(model, variational=True)
    mean, sd = learning.representations.means.detach(), learning.representations.log_sds.detach().exp()
    z = mean + sd * noise
    entropy = [
        stats.multivariate_normal(m, np.diag(s**2)).entropy() for m, s in zip(mean.numpy(), sd.numpy(), strict=True)
    ]
    shares = _weights().numpy() / _weights().numpy().sum()
    terms = learning(rows, EVERY, noise)
    assert terms.reconstruction.item() == pytest.approx(-shares @ _log_likelihoods(model, rows, z), abs=1e-9)
    latent = -_log_priors(model, z, classes) - entropy
    assert terms.latent.item() == pytest.approx(shares @ latent, abs=1e-9)


@torch.no_grad()
def test_with_one_component_a_linear_decoders_bound_has_its_formula():
    model, rows = _model(k=1, hidden=(), n_samples=float(_weights().sum())), _rows(missing=True, weight=_weights())
    learning = _learning(model, variational=True)
    # Three nodes are exact for what is quadratic in the noise.
    nodes, node_weights = np.polynomial.hermite_e.hermegauss(3)
    average = 0.0
    for number in itertools.product(range(3), repeat=Q):
        noise = torch.from_numpy(nodes[list(number)]).expand(N, Q)
        share = math.prod(node_weights[list(number)] / node_weights.sum())
        average += share * learning(rows, EVERY, noise).data_part.item()

    mean, variance = learning.representations.means, learning.representations.variances
    W, psi = model.decoder.loadings, model.likelihood.scale**2
    residuals = rows.values - model.decoder.level - mean @ W
    entries = -0.5 * (torch.log(2 * torch.pi * psi) + (residuals**2 + variance @ W**2) / psi)
    prior = model.latent_prior()
    q = torch.distributions.Normal(mean, variance.sqrt())
    p = torch.distributions.Normal(prior.means[0], prior.log_sds[0].exp())
    divergence = torch.distributions.kl_divergence(q, p).sum(1)
    bound = (entries * rows.observed).sum(1) - divergence
    shares = _weights() / _weights().sum()
    assert average == pytest.approx(-(shares @ bound).item(), abs=1e-9)


def test_with_one_component_noise_does_not_touch_the_divergence():
    learning = _learning(_model(k=1), variational=True)
    one, other = (learning(_rows(), EVERY, _normal(N, Q, seed=seed)) for seed in (1, 2))
    assert one.latent == other.latent
    assert one.reconstruction != other.reconstruction


def test_without_noise_gaussians_are_taken_at_their_means():
    model = _model()
    points, gaussians = _learning(model), _learning(model, variational=True)
    assert gaussians(_rows(), EVERY, None).total == points(_rows(), EVERY, None).total


def test_representations_start_where_they_are_put_and_narrow():
    mixture, means = _model().latent_prior(), _normal(N, Q)
    points, gaussians = (Representations.around(means, mixture, variational) for variational in (False, True))
    narrowest = torch.exp(2 * mixture.log_sds).amin(0)
    assert not points.variances.any()
    assert (gaussians.variances > 0).all()
    assert (gaussians.variances < narrowest).all()
    torch.testing.assert_close(gaussians.variances / narrowest, torch.full_like(means, math.exp(-2)))
    for representations in (points, gaussians):
        assert torch.equal(representations.means, means)
        with torch.no_grad():
            for parameter in representations.parameters():
                parameter[0] += 1.0  # a row of its own, and not the caller's
            assert torch.equal(representations.means[1:], means[1:])
    assert torch.equal(means, _normal(N, Q))
    assert (gaussians.variances[0] > gaussians.variances[1]).all()


# ---- decoders of the user's -----------------------------------------------------------------------------------------


class Images(nn.Module):
    """From a latent to an image of one channel."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(Q, 6)

    def forward(self, z):
        return torch.tanh(self.layer(z)).view(-1, 1, 2, 3)


def test_a_module_is_copied_and_its_values_flattened():
    module, generator = Images(), torch.Generator().manual_seed(0)
    state = generator.get_state()
    decoder = ModuleDecoder(6, module=module, generator=generator)
    assert torch.equal(generator.get_state(), state)
    z = torch.randn(7, Q, generator=generator)
    expected = module(z).reshape(7, 6)
    with torch.no_grad():
        module.layer.weight.zero_()
    curves = decoder(decoder.prepare(z))
    assert torch.equal(curves, expected[:, None])
    assert torch.equal(decoder.select(z, torch.zeros(6, dtype=torch.long)), expected)
    assert not decoder.can_mirror
    curves.sum().backward()
    assert all(parameter.grad.any() for parameter in decoder.parameters())
    assert module.layer.bias.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_module_gets_latents_of_its_own_dtype(dtype):
    decoder = ModuleDecoder(6, module=Images().to(dtype), generator=torch.Generator())
    for other in (torch.float32, torch.float64):
        assert decoder(torch.ones(3, Q, dtype=other)).dtype == dtype


def test_a_module_without_parameters_is_a_decoder():
    decoder = ModuleDecoder(Q, module=nn.Tanh(), generator=torch.Generator())
    z = _normal(4, Q)
    assert torch.equal(decoder(z)[:, 0], z.tanh())


@pytest.mark.parametrize("n_features", [5, 7])
def test_a_module_has_to_give_a_value_for_each_feature(n_features):
    decoder = ModuleDecoder(n_features, module=Images(), generator=torch.Generator())
    with pytest.raises(ValueError, match=f"returned 6 values for each latent of 2 components, but X has {n_features}"):
        decoder(torch.zeros(3, Q))
