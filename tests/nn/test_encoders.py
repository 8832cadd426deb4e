"""Encoders: what they say of rows, however far out these lie, and whatever their covariates are."""

import pytest
import torch

from skdevae.nn.encoders import GaussianEncoder
from skdevae.nn.layers import ACTIVATIONS
from skdevae.nn.row_context import RowContext
from skdevae.nn.rows import DenseRows

B, D, Q, C = 6, 4, 2, 3
AVERAGE = torch.tensor([0.25, 0.5, 0.0], dtype=torch.float64)


def _encoder(activation="tanh", hidden=(6,), linear_skip=True):
    generator = torch.Generator().manual_seed(0)
    encoder = GaussianEncoder(
        4,
        2,
        hidden_layer_sizes=hidden,
        activation=activation,
        counts=False,
        sees_mask=False,
        linear_skip=linear_skip,
        generator=generator,
    ).double()
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, 0, 0.5, generator=generator)
    return encoder


@pytest.mark.parametrize("hidden", [(6,), ()])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_no_row_is_too_far_out_for_an_sd(activation, hidden):
    encoder = _encoder(activation, hidden)
    rows = torch.randn(20, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for factor in (1, 1e2, 1e4, 1e100):
        encoding = encoder.encode(factor * rows)
        assert encoding.mean.isfinite().all()
        assert ((encoding.log_sd >= -10) & (encoding.log_sd <= 3)).all()


def test_sds_of_ordinary_rows_are_what_the_network_gives():
    encoder = _encoder()
    rows = torch.randn(20, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    raw = encoder.head(encoder.perceptron(rows))[:, 2:]
    ordinary = (raw > -9) & (raw < 2)
    assert ordinary.double().mean() > 0.9
    assert torch.equal(encoder.encode(rows).log_sd[ordinary], raw[ordinary])


def test_bounds_of_sds_are_smooth():
    encoder = _encoder(hidden=())
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.zero_()
        encoder.head.weight[2, 0] = 1.0  # the log sd is the first entry

    def log_sd(x):
        return encoder.encode(torch.stack([x, *[torch.zeros_like(x)] * 3], 1)).log_sd[:, 0]

    x = torch.linspace(-13, 6, 2001, dtype=torch.float64)
    found = log_sd(x)
    slopes = found.diff() / x.diff()
    assert (slopes > 0).all()
    assert (slopes.diff().abs() < 0.02).all()
    assert torch.autograd.gradcheck(log_sd, x[::200].clone().requires_grad_())


# ---- covariates ------------------------------------------------------------------------------------------------------


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def conditional_encoder(**options):
    settings = {"hidden_layer_sizes": (5,), "activation": "tanh", "counts": False, "sees_mask": False, **options}
    made = GaussianEncoder(
        D, Q, generator=torch.Generator().manual_seed(0), average_covariates=AVERAGE.tolist(), **settings
    ).double()
    with torch.no_grad():
        if made.projection is not None:
            made.projection.copy_(draw(*made.projection.shape, seed=3))
    return made


@pytest.mark.parametrize("sees_mask", [False, True])
def test_none_stands_for_average_covariates(sees_mask):
    made, inputs = conditional_encoder(sees_mask=sees_mask), draw(B, D)
    average = AVERAGE.expand(B, -1)
    one, other = made.encode(inputs), made.encode(inputs, covariates=average)
    torch.testing.assert_close(one.mean, other.mean)
    torch.testing.assert_close(one.log_sd, other.log_sd)


@pytest.mark.parametrize("options", [{}, {"hidden_layer_sizes": ()}, {"linear_skip": False}, {"sees_mask": True}])
def test_a_start_sees_rows_as_if_their_covariates_were_average(options):
    made, effects = conditional_encoder(**options), draw(C, D, seed=1)
    made.initialize_covariates_(effects)
    values, covariates = draw(B, D), draw(B, C, seed=2)
    rows = DenseRows(values, None, RowContext(covariates=covariates))
    adjusted = made.adjusted_inputs(effects)(rows)
    torch.testing.assert_close(adjusted, values - (covariates - AVERAGE) @ effects)
    there, as_average = made(rows), made.encode(adjusted)
    torch.testing.assert_close(there.mean, as_average.mean)
    torch.testing.assert_close(there.log_sd, as_average.log_sd)


def test_the_mask_is_that_of_the_row():
    made, inputs, covariates = conditional_encoder(sees_mask=True), draw(B, D), draw(B, C, seed=2)
    seen = torch.cat([inputs, covariates - AVERAGE, torch.ones(B, D)], 1)
    expected = made.head(made.perceptron(seen))[:, :Q] + seen[:, : D + C] @ made.projection
    torch.testing.assert_close(made.encode(inputs, covariates=covariates).mean, expected)
