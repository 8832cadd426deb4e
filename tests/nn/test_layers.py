"""Layers: random draws come from the generator they are given, and inputs that are not data change no statistics."""

import threading

import pytest
import torch
from agreement import assert_agree
from torch import nn

from skdevae.nn.layers import (
    ACTIVATIONS,
    NORMALIZATIONS,
    BatchNorm,
    Dropout,
    Linear,
    drawn_from,
    inverse_softplus,
    multilayer_perceptron,
    noise_from,
    scale_gradient,
    squared_norms,
    without_batch_effects,
)


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _normal(*shape, seed=1):
    return torch.randn(*shape, generator=_generator(seed), dtype=torch.float64)


# ---- starting weights -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [None, 0.01])
def test_linear_layers_start_uniform_and_without_bias(scale):
    state = torch.get_rng_state()
    layer = Linear(25, 400, _generator(), scale=scale)
    assert torch.equal(torch.get_rng_state(), state)
    bound = 0.2 if scale is None else scale
    assert not layer.bias.any()
    assert layer.weight.abs().max() <= bound
    assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.03)
    assert abs(layer.weight.mean().item()) < 0.03 * bound
    assert torch.equal(Linear(25, 400, _generator(), scale=scale).weight, layer.weight)
    assert not torch.equal(Linear(25, 400, _generator(1), scale=scale).weight, layer.weight)


def test_global_draws_come_from_the_generator_and_the_global_state_is_restored():
    state = torch.get_rng_state()
    first = drawn_from(_generator(), lambda: torch.rand(5))
    torch.rand(3)
    assert torch.equal(drawn_from(_generator(), lambda: torch.rand(5)), first)
    torch.set_rng_state(state)
    generator = _generator()
    both = [drawn_from(generator, lambda: torch.rand(5)) for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(both[0], first)
    assert not torch.equal(both[1], first)

    def fail():
        torch.rand(1)
        raise LookupError

    with pytest.raises(LookupError):
        drawn_from(_generator(), fail)
    assert torch.equal(torch.get_rng_state(), state)


def test_threads_draw_one_after_the_other():
    begun = [threading.Event(), threading.Event()]
    drawn = [None, None]

    def build(number):
        first = torch.rand(3)
        begun[number].set()
        begun[1 - number].wait(0.1)  # so that the other thread draws in between, if it can
        return torch.cat([first, torch.rand(3)])

    def draw(number):
        drawn[number] = drawn_from(_generator(number), lambda: build(number))

    state = torch.get_rng_state()
    threads = [threading.Thread(target=draw, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(torch.get_rng_state(), state)
    for number in range(2):
        assert torch.equal(drawn[number], drawn_from(_generator(number), lambda: torch.rand(6)))


@pytest.mark.parametrize("normalization", [None, *NORMALIZATIONS])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_perceptron_has_activation_then_normalisation_then_dropout(normalization, dropout):
    perceptron, width = multilayer_perceptron(
        3, (5, 4), "relu", _generator(), normalization=normalization, dropout=dropout
    )
    norms = {None: [], "batch": [BatchNorm], "layer": [nn.LayerNorm]}
    block = [Linear, ACTIVATIONS["relu"], *norms[normalization], *([Dropout] if dropout else [])]
    assert [type(layer) for layer in perceptron] == 2 * block
    assert width == 4
    assert perceptron(torch.ones(6, 3)).shape == (6, 4)
    assert all(layer.rate == dropout for layer in perceptron if isinstance(layer, Dropout))


def test_a_perceptron_without_layers_is_the_identity():
    perceptron, width = multilayer_perceptron(3, (), "tanh", _generator(), normalization="batch", dropout=0.5)
    x = _normal(4, 3)
    assert width == 3
    assert torch.equal(perceptron(x), x)


# ---- dropout --------------------------------------------------------------------------------------------------------


def test_dropout_without_a_generator_or_after_training_is_the_identity():
    layer, x = Dropout(0.6), _normal(30, 5)
    state = torch.get_rng_state()
    assert torch.equal(layer.train()(x), x)
    with noise_from(layer, _generator()):
        assert torch.equal(layer.eval()(x), x)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("rate", [0.1, 0.6])
def test_dropout_keeps_the_mean_and_draws_from_the_generator(rate):
    layer, x = Dropout(rate), torch.full((200, 500), 2.0, dtype=torch.float64)
    state = torch.get_rng_state()
    with noise_from(nn.Sequential(layer), _generator()):
        once, again = layer(x), layer(x)
    assert torch.equal(torch.get_rng_state(), state)
    assert_agree(once.unique(), [0, 2 / (1 - rate)])
    assert (once == 0).double().mean().item() == pytest.approx(rate, abs=0.01)
    assert once.mean().item() == pytest.approx(2, abs=0.03)
    assert not torch.equal(again, once)
    with noise_from(layer, _generator()):
        assert torch.equal(layer(x), once)


def test_dropped_units_have_no_gradient():
    layer, x = Dropout(0.5), _normal(20, 5).requires_grad_()
    with noise_from(layer, _generator()):
        y = layer(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient, 2 * (y != 0).double())


def test_dropout_has_a_generator_within_the_context_only():
    module = nn.Sequential(Dropout(0.5), nn.ReLU(), nn.Sequential(Dropout(0.5)))
    layers = [layer for layer in module.modules() if isinstance(layer, Dropout)]
    assert len(layers) == 2
    generator = _generator()
    with noise_from(module, generator):
        assert all(layer.generator is generator for layer in layers)
    assert all(layer.generator is None for layer in layers)
    with pytest.raises(LookupError), noise_from(module, generator):
        raise LookupError
    assert all(layer.generator is None for layer in layers)


# ---- normalisation --------------------------------------------------------------------------------------------------


def _batch_norm():
    layer = BatchNorm(4, eps=1e-3).double()
    with torch.no_grad():
        for seed, tensor in enumerate((layer.weight, layer.bias, layer.running_mean)):
            tensor.copy_(_normal(4, seed=seed))
        layer.running_var.copy_(_normal(4, seed=5).exp())
    return layer


def test_one_row_is_normalised_as_after_training():
    layer, x = _batch_norm(), _normal(1, 4)
    before = [buffer.clone() for buffer in layer.buffers()]
    in_training = layer.train()(x)
    assert all(torch.equal(buffer, old) for buffer, old in zip(layer.buffers(), before, strict=True))
    expected = (x - layer.running_mean) / (layer.running_var + 1e-3).sqrt() * layer.weight + layer.bias
    torch.testing.assert_close(in_training, expected)
    torch.testing.assert_close(layer.eval()(x), expected)
    in_training.sum().backward()
    torch.testing.assert_close(layer.bias.grad, torch.ones(4).double())


def test_more_rows_are_normalised_by_their_own_statistics():
    layer, x = _batch_norm(), _normal(9, 4)
    mean, variance = layer.running_mean.clone(), layer.running_var.clone()
    expected = (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-3).sqrt() * layer.weight + layer.bias
    torch.testing.assert_close(layer.train()(x), expected)
    torch.testing.assert_close(layer.running_mean, 0.9 * mean + 0.1 * x.mean(0))
    torch.testing.assert_close(layer.running_var, 0.9 * variance + 0.1 * x.var(0))


def test_without_batch_effects_rows_do_not_depend_on_each_other_and_nothing_is_changed_for_good():
    perceptron, _ = multilayer_perceptron(4, (4, 4), "tanh", _generator(), normalization="batch", dropout=0.5)
    perceptron, x = perceptron.double(), _normal(9, 4)
    perceptron(x)  # so that running statistics are not those of the start
    expected = perceptron.eval()(x)
    perceptron.train()
    frozen = perceptron[2].eval()
    before = [buffer.clone() for buffer in perceptron.buffers()]
    generator = _generator()
    with noise_from(perceptron, generator):
        with without_batch_effects(perceptron):
            torch.testing.assert_close(perceptron(x), expected)
            torch.testing.assert_close(torch.cat([perceptron(row) for row in x.split(1)]), expected)
        assert torch.equal(generator.get_state(), _generator().get_state())
        assert all(torch.equal(buffer, old) for buffer, old in zip(perceptron.buffers(), before, strict=True))
        assert [layer for layer in perceptron.modules() if not layer.training] == [frozen]
        assert not torch.allclose(perceptron(x), expected)
        with pytest.raises(LookupError), without_batch_effects(perceptron):
            raise LookupError
    assert [layer for layer in perceptron.modules() if not layer.training] == [frozen]


# ---- functions ------------------------------------------------------------------------------------------------------


def test_inverse_softplus_is_the_inverse():
    x = torch.linspace(-30, 1000, 1000, dtype=torch.float64)
    torch.testing.assert_close(inverse_softplus(nn.functional.softplus(x, threshold=100)), x, rtol=1e-9, atol=1e-9)


def test_scaled_gradients_leave_values_alone():
    x, scale = _normal(5).requires_grad_(), torch.tensor(3.0)
    y = scale_gradient(x, scale)
    assert torch.equal(y, x)
    torch.testing.assert_close(torch.autograd.grad((y**2).sum(), x)[0], 6 * x.detach())


def test_squared_norms_have_the_gradient_of_sums_of_squares():
    weights = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(squared_norms(weights), weights.square().sum(-1))
    assert torch.autograd.gradcheck(squared_norms, weights)
