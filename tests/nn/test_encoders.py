"""Encoders: what they say of rows, however far out these lie."""

import pytest
import torch

from skdevae.nn.encoders import GaussianEncoder
from skdevae.nn.layers import ACTIVATIONS


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
