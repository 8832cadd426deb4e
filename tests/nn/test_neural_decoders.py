"""Decoders that see covariates beside the latent: what effects add, what is average, and what holds them."""

import pytest
import torch

from skdevae.nn.neural_decoders import ConditionalDecoder, ModuleDecoder, NeuralDecoder
from skdevae.nn.row_context import RowContext

D, Q, C = 4, 2, 3
AVERAGE = torch.tensor([0.2, 0.5, 0.0], dtype=torch.float64)


def generator():
    return torch.Generator().manual_seed(0)


def decoder(hidden_layer_sizes=(), **options):
    made = NeuralDecoder(
        D,
        Q,
        hidden_layer_sizes=hidden_layer_sizes,
        activation="tanh",
        generator=generator(),
        average_covariates=AVERAGE.tolist(),
        **options,
    ).double()
    draws = generator()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draws, dtype=torch.float64))
    return made


def points(n=5):
    draws = torch.Generator().manual_seed(1)
    z = torch.randn(n, Q, generator=draws, dtype=torch.float64)
    return z, torch.randn(n, C, generator=draws, dtype=torch.float64)


def curves(made, z, covariates):
    return made(made.beside(z, covariates))[:, 0]


@pytest.mark.parametrize("hidden_layer_sizes", [(), (6,)])
@pytest.mark.parametrize("normalized", [False, True])
def test_none_stands_for_average_covariates(hidden_layer_sizes, normalized):
    made, (z, _) = decoder(hidden_layer_sizes, normalized=normalized), points()
    average = AVERAGE.expand(len(z), -1)
    torch.testing.assert_close(curves(made, z, None), curves(made, z, average))


def test_a_linear_decoder_adds_effects_to_a_plane():
    made, (z, covariates) = decoder(), points()
    average = AVERAGE
    expected = made.level + z @ made.loadings + (covariates - average) @ made.effects
    torch.testing.assert_close(curves(made, z, covariates), expected)


def test_a_perceptron_sees_covariates_as_it_sees_the_latent():
    made, (z, covariates) = decoder((6,), linear_skip=False), points()
    away = covariates - AVERAGE
    layer = made.hidden[0]
    hidden = torch.tanh(torch.cat([z, away], 1) @ layer.weight.T + layer.bias)
    expected = made.level + away @ made.effects + hidden @ made.head.weight.T + made.head.bias
    torch.testing.assert_close(curves(made, z, covariates), expected)


def test_effects_come_before_shares():
    made, (z, covariates) = decoder(normalized=True), points()
    plain = made.level + z @ made.loadings + (covariates - AVERAGE) @ made.effects
    expected = torch.log_softmax(plain, 1) + made.log_total
    torch.testing.assert_close(curves(made, z, covariates), expected)


def test_some_columns_are_those_of_all():
    made, (z, covariates) = decoder((6,)), points()
    together = made.beside(z, covariates)
    torch.testing.assert_close(made(together, columns=slice(1, 3)), made(together)[..., 1:3])


def test_effects_are_standard_normal_a_priori():
    made = decoder()
    effects = made.effects.detach()
    density = torch.distributions.Normal(0.0, 1.0).log_prob(effects).sum(0)
    at_zero = torch.distributions.Normal(0.0, 1.0).log_prob(torch.zeros_like(effects)).sum(0)
    torch.testing.assert_close(made.effects_log_prior().detach(), density - at_zero)


def test_reversing_an_axis_leaves_covariates_alone():
    made, (z, covariates) = decoder((6,)), points()
    before = curves(made, z, covariates)
    made.mirror_(1)
    torch.testing.assert_close(curves(made, z * torch.tensor([1.0, -1.0]), covariates), before)


def test_a_module_of_ones_own_gets_effects_on_its_columns():
    module = torch.nn.Linear(Q, D + 2).double()
    made = ModuleDecoder(
        D,
        module=module,
        generator=generator(),
        n_outputs=D + 2,
        columns=[0, 1, 3, 5],
        average_covariates=AVERAGE.tolist(),
    ).double()
    made.initialize_effects_(torch.randn(C, D, dtype=torch.float64, generator=generator()))
    z, covariates = points()
    expected = module(z)[:, [0, 1, 3, 5]] + (covariates - AVERAGE) @ made.effects
    torch.testing.assert_close(curves(made, z, covariates), expected)
    torch.testing.assert_close(made(made.beside(z, covariates), columns=slice(2, 4))[:, 0], expected[:, 2:4])


def test_without_covariates_there_is_nothing_to_add():
    made = NeuralDecoder(D, Q, hidden_layer_sizes=(), activation="tanh", generator=generator())
    assert isinstance(made, ConditionalDecoder)
    assert "effects" not in dict(made.named_parameters())
    z, covariates = (part.float() for part in points())
    assert made.beside(z, covariates) is z
    assert not made.effects_log_prior().any()


def test_a_repeated_context_is_that_of_each_copy():
    """Draws for a row, one behind another, see the row's own covariates."""
    _, covariates = points(3)
    assert torch.equal(RowContext(covariates=covariates).repeat(2).covariates, torch.cat([covariates, covariates]))
