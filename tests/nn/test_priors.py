"""Priors against sums of Gaussians by brute force, and training in blocks of pseudo-inputs against training at once."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from agreement import assert_agree
from scipy import stats
from torch.distributions import Normal

from skdevae.nn.layers import Dropout, noise_from
from skdevae.nn.models import build_model
from skdevae.nn.priors import GaussianMixture, LearnedMixture, VampPrior
from skdevae.nn.row_context import RowContext
from skdevae.nn.rows import DenseRows

D, Q = 4, 2
BLOCKED = 300  # pseudo-inputs of three blocks, the last one smaller
N_BLOCKS = 3
MIXTURES = {
    "mixture": {"name": "mixture", "n_mixture_components": 6, "learn_weights": True},
    "vamp": {"name": "vamp", "n_mixture_components": 6, "learn_weights": True, "learn_pseudo_inputs": True},
}
PRIORS = {"normal": {"name": "normal"}, **MIXTURES}


def _model(prior="vamp", *, n_components=Q, seed=0, encoder=None, **options):
    """A float64 model whose parameters are all random. ``options`` are arguments of the prior."""
    config = {
        "n_samples": 10,
        "n_features": D,
        "n_components": n_components,
        "decoder": {"name": "neural", "n_components": n_components, "hidden_layer_sizes": (3,), "activation": "tanh"},
        "likelihood": {"name": "gaussian", "floor": 0.1},
        "assignment": None,
        "encoder": {
            "hidden_layer_sizes": (5,),
            "activation": "tanh",
            "counts": False,
            "sees_mask": False,
            **(encoder or {}),
        },
        "posterior_family": {"name": "normal"},
        "prior": {**PRIORS[prior], **options},
        "variational": True,
        "z_max": 4.0,
        "weight_precision": 1.0,
        "beta": 1.0,
        "gamma": 1.0,
    }
    generator = torch.Generator().manual_seed(seed)
    model = build_model(config, generator).double()
    with torch.no_grad():
        for parameter in model.parameters():  # the prior's come last: models with other priors share all others
            parameter.normal_(0, 0.5, generator=generator)
        generator.manual_seed(seed + 1)
        for layer in model.encoder.modules():
            if isinstance(layer, torch.nn.BatchNorm1d):
                layer.running_mean.normal_(0, 0.5, generator=generator)
                layer.running_var.uniform_(0.5, 2, generator=generator)
    return model


def _normal(*shape, seed=1, spread=1.0):
    return spread * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _mixture(n_mixture=5, n_components=3, *, seed=0, offset=0.0, spread=1.5):
    """Components of unequal weights and sds, with means around ``offset``."""
    means = offset + _normal(n_mixture, n_components, seed=seed, spread=spread)
    log_sds = _normal(n_mixture, n_components, seed=seed + 1, spread=0.4)
    return GaussianMixture(_normal(n_mixture, seed=seed + 2).log_softmax(0), means, log_sds)


def _log_joint(mixture, z):
    """The log joint (..., K), component by component and axis by axis, in float64."""
    log_weights, means, log_sds = (part.double() for part in mixture)
    return log_weights + Normal(means, log_sds.exp()).log_prob(z.double()[..., None, :]).sum(-1)


# ---- densities ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7,), (2, 7)])
@pytest.mark.parametrize("offset", [0.0, -40.0])
@pytest.mark.parametrize("n_mixture, n_components", [(1, 1), (5, 3), (40, 2)])
def test_densities_are_sums_over_components(n_mixture, n_components, offset, shape):
    mixture = _mixture(n_mixture, n_components, offset=offset)
    z = offset + _normal(*shape, n_components, seed=9, spread=2)
    expected = _log_joint(mixture, z)
    close = {"atol": 1e-10, "rtol": 0}
    torch.testing.assert_close(mixture.log_joint(z), expected, **close)
    torch.testing.assert_close(mixture.log_density(z), expected.logsumexp(-1), **close)
    torch.testing.assert_close(mixture.responsibilities(z), expected.softmax(-1), **close)


@pytest.mark.parametrize("offset, tolerance", [(0.0, 1e-4), (1000.0, 1e-3)])
def test_single_precision_loses_little_wherever_the_means_are(offset, tolerance):
    mixture = GaussianMixture(*(part.float() for part in _mixture(30, 4, offset=offset)))
    z = (offset + _normal(50, 4, seed=9)).float()
    expected = _log_joint(mixture, z)
    torch.testing.assert_close(mixture.log_density(z).double(), expected.logsumexp(-1), atol=tolerance, rtol=0)
    torch.testing.assert_close(mixture.responsibilities(z).double(), expected.softmax(-1), atol=tolerance, rtol=0)


def test_standard_normal_is_a_mixture_of_one():
    z = _normal(20, 3, spread=3)
    mixture = GaussianMixture.standard_normal(3, z)
    torch.testing.assert_close(mixture.log_density(z), Normal(0.0, 1.0).log_prob(z).sum(1))
    assert_agree(mixture.responsibilities(z), np.ones((20, 1)))
    torch.testing.assert_close(mixture.precision(z), torch.eye(3, dtype=torch.float64).expand(20, 3, 3))


@pytest.mark.parametrize("offset", [0.0, -40.0])
def test_gradients_are_those_of_the_sum(offset):
    mixture = _mixture(offset=offset)
    inputs = [part.requires_grad_() for part in (offset + _normal(6, 3, seed=9), *mixture)]
    gradients = torch.autograd.grad(mixture.log_density(inputs[0]).sum(), inputs)
    expected = torch.autograd.grad(_log_joint(mixture, inputs[0]).logsumexp(-1).sum(), inputs)
    for gradient, one in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, one, atol=1e-10, rtol=1e-10)
    assert torch.autograd.gradcheck(lambda z, *parts: GaussianMixture(*parts).log_density(z), inputs)


def test_far_components_are_dropped_and_far_points_are_not():
    # One component is 20 sds from the other two. Their shares at its points are not seen in float64, nor its at theirs.
    means = torch.tensor([[-10.0], [10.0], [10.5]], dtype=torch.float64, requires_grad=True)
    zeros = torch.zeros(3, 1, dtype=torch.float64)
    mixture = GaussianMixture(zeros[:, 0] - math.log(3), means, zeros)
    for z, near in ((-10.2, [True, False, False]), (10.1, [False, True, True]), (-500.0, [True, False, False])):
        z = torch.tensor([[z]], dtype=torch.float64, requires_grad=True)
        value, expected = mixture.log_density(z), _log_joint(mixture, z).logsumexp(-1)
        torch.testing.assert_close(value, expected, atol=0, rtol=1e-12)
        gradients = torch.autograd.grad(value, (z, means))
        for gradient, one in zip(gradients, torch.autograd.grad(expected, (z, means)), strict=True):
            torch.testing.assert_close(gradient, one, atol=1e-12, rtol=1e-12)
        assert (gradients[1][:, 0] != 0).tolist() == near


def test_nothing_of_the_size_of_points_times_components_times_axes_is_held():
    n, n_mixture, n_components = 50, 40, 7
    mixture = GaussianMixture(*(part.requires_grad_() for part in _mixture(n_mixture, n_components)))
    sizes = []

    def pack(tensor):
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        mixture.log_density(_normal(n, n_components).requires_grad_())
    assert max(sizes) == n * n_mixture


@pytest.mark.parametrize("n_components", [1, 3])
def test_the_quadratic_of_precision_touches_from_below(n_components):
    for seed in range(20):
        mixture = _mixture(6, n_components, seed=seed, offset=3.0 * seed)
        z = 3.0 * seed + _normal(10, n_components, seed=seed + 50, spread=2)
        z.requires_grad_()
        value = mixture.log_density(z)
        (gradient,) = torch.autograd.grad(value.sum(), z)
        step = _normal(100, 10, n_components, seed=seed + 90) * torch.logspace(-2, 1, 100)[:, None, None].double()
        curvature = torch.einsum("sbp,bpq,sbq->sb", step, mixture.precision(z), step)
        quadratic = value + (gradient * step).sum(-1) - 0.5 * curvature
        assert (mixture.log_density(z + step) - quadratic).min() >= -1e-10
        # for a single component, the quadratic is the log density itself
        alone = GaussianMixture(*(part[:1] for part in mixture))
        torch.testing.assert_close(alone.precision(z), torch.diag(torch.exp(-2 * alone.log_sds[0])).expand(10, -1, -1))


# ---- draws ----------------------------------------------------------------------------------------------------------


def test_draws_follow_the_mixture():
    mixture, n = _mixture(4, 2, seed=3, offset=5.0), 40_000
    state = torch.get_rng_state()
    z, component = mixture.draw(n, torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), state)
    weights = mixture.log_weights.exp().numpy()
    assert stats.chisquare(np.bincount(component, minlength=4), n * weights / weights.sum()).pvalue > 1e-3
    standardized = (z - mixture.means[component]) / mixture.log_sds[component].exp()
    for k in range(4):
        for axis in range(2):
            assert stats.kstest(standardized[component == k, axis].numpy(), "norm").pvalue > 1e-4
    mean = weights @ mixture.means.numpy()
    deviations = mixture.means.numpy() - mean
    variances = np.exp(2 * mixture.log_sds.numpy())
    covariance = np.diag(weights @ variances) + (weights[:, None] * deviations).T @ deviations
    np.testing.assert_allclose(z.mean(0), mean, atol=5 * np.sqrt(covariance.max() / n))
    np.testing.assert_allclose(np.cov(z.T), covariance, atol=0.02 * covariance.max())
    assert torch.equal(mixture.draw(n, torch.Generator().manual_seed(0))[0], z)


# ---- weights --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", PRIORS)
def test_densities_integrate_to_one(prior):
    model = _model(prior, n_components=1).eval()
    z = torch.linspace(-60, 60, 60_001, dtype=torch.float64)
    with torch.no_grad():
        mixture = model.latent_prior()
        total = torch.trapezoid(mixture.log_density(z[:, None]).exp(), z)
    assert mixture.log_weights.exp().unique().numel() == len(mixture.log_weights)  # unequal
    assert total.item() == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("n_mixture", [6, BLOCKED])
@pytest.mark.parametrize("prior", MIXTURES)
def test_gradients_reach_what_is_learned_and_nothing_else(prior, n_mixture, training):
    z = _normal(100, Q, spread=2)
    for learn_weights in (False, True):
        for learn_pseudo_inputs in (False, True) if prior == "vamp" else (True,):
            own = {"learn_pseudo_inputs": learn_pseudo_inputs} if prior == "vamp" else {}
            model = _model(prior, n_mixture_components=n_mixture, learn_weights=learn_weights, **own).train(training)
            for _ in range(N_BLOCKS):
                model.latent_prior().log_density(z).sum().backward()
            learned = dict(model.prior.named_parameters())
            assert ("logits" in learned) == learn_weights
            if not learn_weights:
                torch.testing.assert_close(model.prior.log_weights.exp() * n_mixture, torch.ones(n_mixture).double())
            for parameter in learned.values():
                if parameter.requires_grad:
                    assert (parameter.grad.flatten(1) if parameter.ndim > 1 else parameter.grad[:, None]).any(1).all()
                else:
                    assert parameter.grad is None
            if prior == "vamp":
                assert all(block.requires_grad == learn_pseudo_inputs for block in model.prior.blocks)
                assert model.encoder.head.weight.grad.any()
            else:
                assert all(parameter.grad is None for parameter in model.encoder.parameters())


def test_a_learned_mixture_starts_from_the_encodings_of_its_inputs():
    model, inputs = _model("mixture", n_mixture_components=9), _normal(9, D)
    model.initialize_prior_(inputs)
    assert isinstance(model.prior, LearnedMixture)
    torch.testing.assert_close(model.latent_prior().means, model.encoder.encode(inputs).mean)


# ---- pseudo-inputs --------------------------------------------------------------------------------------------------

ROWS = {
    "values": ({}, lambda x: DenseRows(x, None)),
    "a mask": ({"sees_mask": True}, lambda x: DenseRows(x, torch.ones_like(x))),
    "counts": (
        {"counts": True},
        lambda x: DenseRows(x.abs().mul(3).round(), None, RowContext(log_size=0.3 * x[:, 0])),
    ),
    "normalised": ({"normalization": "batch", "dropout": 0.4}, lambda x: DenseRows(x, None)),
}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("n", [7, BLOCKED])
@pytest.mark.parametrize("rows", ROWS)
def test_with_the_data_as_pseudo_inputs_the_prior_is_the_aggregate_posterior(rows, n, training):
    encoder, rows_of = ROWS[rows]
    rows = rows_of(_normal(n, D))
    model = _model(encoder=encoder, n_mixture_components=n, learn_weights=False)
    model.initialize_prior_(model.encoder.inputs(rows))
    z = _normal(11, Q, seed=2, spread=2)
    with torch.no_grad():
        mean, log_sd, _ = model.eval().encoder(rows)
        log_q = Normal(mean, log_sd.exp()).log_prob(z[:, None]).sum(-1)
        with noise_from(model, torch.Generator()):
            log_density = model.train(training).latent_prior().log_density(z)
    torch.testing.assert_close(log_density, log_q.logsumexp(1) - math.log(n), atol=1e-10, rtol=0)


def _assert_same(mixture, expected):
    for part, one in zip(mixture, expected, strict=True):
        part, one = part.detach().numpy(), one.detach().numpy()
        assert_agree(part, one, computed_in=part.dtype)


def _blocked(**options):
    """A model with three blocks, and with layers that work differently in training."""
    encoder = {"normalization": "batch", "dropout": 0.4}
    model = _model(encoder=encoder, n_mixture_components=BLOCKED, **options)
    assert len(model.prior.blocks) == N_BLOCKS
    return model


def test_turns_of_blocks_change_nothing_while_the_encoder_is_the_same():
    model = _blocked()
    expected = model.eval().latent_prior()
    model.train()
    for _ in range(2 * N_BLOCKS + 1):
        _assert_same(model.latent_prior(), expected)
    # with new pseudo-inputs, nothing of the old ones is left
    model.initialize_prior_(_normal(BLOCKED, D, seed=5))
    _assert_same(model.latent_prior(), model.eval().latent_prior())


def test_every_block_is_as_it_was_at_its_last_turn():
    model = _blocked()
    old = model.train().latent_prior()
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.add_(0.1)
    new = copy.deepcopy(model).eval().latent_prior()  # of a copy: a change of mode drops what is remembered

    def are_those_of(mixture, other):
        """Which components have the other's means and sds, up to rounding."""
        pairs = ((mixture.means, other.means), (mixture.log_sds, other.log_sds))
        return torch.stack([torch.isclose(*pair, rtol=0, atol=1e-9).all(1) for pair in pairs]).all(0)

    assert not are_those_of(old, new).any()
    fresh = []
    for turn in range(N_BLOCKS):
        mixture = model.latent_prior()
        is_new = are_those_of(mixture, new)
        fresh.append(is_new)
        assert (is_new | are_those_of(mixture, old)).all()
        blocks = [block.unique().tolist() for block in is_new.split([len(block) for block in model.prior.blocks])]
        assert sum(block == [True] for block in blocks) == turn + 1
        assert sum(block == [False] for block in blocks) == N_BLOCKS - turn - 1
    assert all((after | ~before).all() for before, after in itertools.pairwise(fresh))


@pytest.mark.parametrize(
    "change",
    [lambda model: model.eval().train(), lambda model: model.double().float(), lambda model: model.mirror_(0)],
    ids=["mode", "dtype", "mirrored"],
)
def test_a_change_of_the_model_drops_what_is_remembered(change):
    model = _blocked().train()
    model.latent_prior()
    change(model)
    _assert_same(model.latent_prior(), copy.deepcopy(model).eval().latent_prior())


@pytest.mark.parametrize("turns_before", [0, 1])
def test_gradients_of_one_round_of_turns_average_to_the_full_one(turns_before):
    model, z = _blocked(), _normal(9, Q)

    def gradients(n_calls):
        model.zero_grad()
        for _ in range(n_calls):
            (model.latent_prior().log_density(z).mean() / n_calls).backward()
        parts = [*model.encoder.named_parameters(), *model.prior.named_parameters()]
        return {name: parameter.grad.clone() for name, parameter in parts}

    model.eval()
    full = gradients(1)
    assert set(full) > {"blocks.0", "blocks.1", "blocks.2", "logits", "head.weight", "projection"}
    model.train()
    for _ in range(turns_before):
        model.latent_prior()
    for name, gradient in gradients(N_BLOCKS).items():
        assert gradient.any()
        torch.testing.assert_close(gradient, full[name], atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("n_mixture", [6, BLOCKED])
def test_batches_do_not_depend_on_pseudo_inputs(n_mixture):
    encoder = {"normalization": "batch", "dropout": 0.4}
    rows, noise = DenseRows(_normal(8, D, seed=3), None), _normal(8, Q, seed=4)
    model = _model("vamp", encoder=encoder, n_mixture_components=n_mixture)
    far = _model("vamp", encoder=encoder, n_mixture_components=n_mixture)
    far.initialize_prior_(_normal(n_mixture, D, spread=100))
    models = {"normal": _model("normal", encoder=encoder), "vamp": model, "far": far}
    seen = {}
    for name, one in models.items():
        generator = torch.Generator().manual_seed(7)
        one.train()
        with noise_from(one, generator):
            reconstruction = [one(rows, noise).reconstruction for _ in range(3)]
        seen[name] = [*reconstruction, *one.encoder.buffers(), generator.get_state()]
    for name in ("vamp", "far"):
        for value, expected in zip(seen[name], seen["normal"], strict=True):
            torch.testing.assert_close(value, expected, atol=0, rtol=0)
    assert int(models["vamp"].encoder.perceptron[2].num_batches_tracked) == 3


def test_dropout_leaves_pseudo_inputs_alone():
    model = _model(encoder={"dropout": 0.5})
    expected = model.eval().latent_prior()
    model.train()
    generator = torch.Generator()
    state = generator.get_state()
    with noise_from(model, generator):
        _assert_same(model.latent_prior(), expected)
    assert torch.equal(generator.get_state(), state)
    assert all(layer.training for layer in model.modules())
    assert any(isinstance(layer, Dropout) for layer in model.modules())


# ---- the reversed axis ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("components", [(0,), (1,), (0, 1), (1, 1)])
@pytest.mark.parametrize("prior", PRIORS)
def test_reversing_axes_reverses_the_prior(prior, components):
    model, z = _model(prior).eval(), _normal(20, Q, spread=2)
    signs = torch.ones(Q, dtype=torch.float64)
    for component in components:
        signs[component] *= -1
    with torch.no_grad():
        before = model.latent_prior().log_density(z)
        for component in components:
            model.mirror_(component)
        after = model.latent_prior().log_density(signs * z)
    torch.testing.assert_close(after, before)


def test_pseudo_inputs_keep_their_order_over_blocks():
    inputs = _normal(BLOCKED, D)
    prior = VampPrior(D, Q, n_mixture_components=BLOCKED, learn_weights=True, learn_pseudo_inputs=True).double()
    assert prior.n_starting_inputs == BLOCKED
    prior.initialize_(inputs, lambda rows: (rows[:, :Q], rows[:, Q:]))
    assert torch.equal(prior.pseudo_inputs, inputs)
    _, means, log_sds = prior.train().mixture(lambda rows: (rows[:, :Q], rows[:, Q : 2 * Q]))
    assert torch.equal(torch.cat([means, log_sds], 1), inputs)
