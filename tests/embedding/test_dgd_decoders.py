"""DGDEmbedder with decoders of the user's."""

import pickle
from functools import cache

import numpy as np
import pytest
import torch
from embedding.dgd_cases import assert_same_bits, blobs, quick
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from skorch.callbacks import Callback
from torch import nn


@cache
def digits():
    return load_digits().data[:100]


def convolutional(size=8, seed=0):
    """From (n, 3) to images (n, 1, size, size)."""
    torch_state = torch.get_rng_state()
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Unflatten(1, (3, 1, 1)),
        nn.ConvTranspose2d(3, 8, 4),
        nn.GELU(),
        nn.ConvTranspose2d(8, 1, 4, stride=2, padding=1) if size == 8 else nn.ConvTranspose2d(8, 1, 2),
    )
    torch.set_rng_state(torch_state)
    return network


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_a_convolutional_decoder_learns_images(likelihood):
    table = digits() if likelihood == "gaussian" else (digits() > 7).astype(float)
    network = convolutional().train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    model = quick(3, likelihood=likelihood, decoder=network, batch_size=25, max_epochs=25).fit(table)
    losses = model.history_[:, "train_loss"]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    expected, means = model.inverse_transform(model.embedding_), np.broadcast_to(table.mean(0), table.shape)
    assert expected.shape == table.shape
    assert ((table - expected) ** 2).mean() < 0.9 * ((table - means) ** 2).mean()
    # the user's network is the start, and stays it
    assert model.decoder is network
    assert network.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    for name, tensor in network.state_dict().items():
        assert_array_equal(tensor, before[name])
    with torch.no_grad():
        curves = model.module_.decoder.module(torch.from_numpy(model.embedding_).float()).flatten(1).double().numpy()
    linked = model._reader_.units.to_user(curves) if likelihood == "gaussian" else expit(curves)
    varies = table.std(0) > 0  # the others are left out of training, and are expected as they are
    assert_allclose(expected[:, varies], linked[:, varies], rtol=1e-3, atol=1e-3)


def test_a_fit_starts_from_the_decoders_weights():
    table, model = digits(), quick(3, decoder=convolutional(), max_epochs=2)
    one, again = clone(model).fit(table), clone(model).fit(table)
    assert_array_equal(again.embedding_, one.embedding_)
    other = clone(model).set_params(decoder=convolutional(seed=1)).fit(table)
    assert (other.embedding_ != one.embedding_).any()


def test_a_model_with_a_decoder_of_the_users_can_be_copied():
    model = quick(3, decoder=convolutional(), max_epochs=2).fit(digits())
    again = pickle.loads(pickle.dumps(model))
    assert_same_bits(model, again, digits()[:20])
    assert_array_equal(again.sample(3, random_state=0), model.sample(3, random_state=0))
    assert model.get_params()["decoder"] is model.decoder
    unfitted = clone(model)
    assert unfitted.decoder is not model.decoder
    assert {name: value for name, value in unfitted.get_params().items() if name != "decoder"} == {
        name: value for name, value in model.get_params().items() if name != "decoder"
    }
    with pytest.raises(NotFittedError):
        unfitted.transform(digits())
    # what happens to the user's network later is not the fitted model's business
    before = model.transform(digits()[:5])
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.zero_()
    assert_array_equal(model.transform(digits()[:5]), before)
    assert_array_equal(pickle.loads(pickle.dumps(model)).transform(digits()[:5]), before)


def test_a_decoder_of_the_wrong_size_is_refused():
    with pytest.raises(ValueError, match=r"returned 25 values.*64 features"):
        quick(3, decoder=convolutional(size=5)).fit(digits())
    with pytest.raises(ValueError, match=r"decoder failed on latents of shape \(n, 2\)"):
        quick(2, decoder=convolutional()).fit(digits())
    with pytest.raises(ValueError, match="decoder"):
        quick(decoder="linear").fit(blobs()[0])


def test_a_decoder_that_draws_does_so_from_the_seed():
    layers = nn.Linear(2, 8), nn.BatchNorm1d(8), nn.GELU(), nn.Dropout(0.2), nn.Linear(8, 6)
    model, state = quick(decoder=nn.Sequential(*layers)), torch.get_rng_state()
    one = clone(model).fit(blobs()[0])
    drawn = (torch.get_rng_state() != state).any()
    torch.manual_seed(7)
    other = clone(model).fit(blobs()[0])
    torch.set_rng_state(state)
    assert_allclose(one.transform(blobs()[0]), one.embedding_, rtol=0, atol=1e-8)
    assert_same_bits(one, other)
    assert not drawn


def test_a_decoder_without_parameters_will_do():
    model = quick(6, n_clusters=3, decoder=nn.Identity()).fit(blobs()[0])
    z = model.embedding_
    assert_allclose(model.inverse_transform(z), model._reader_.units.to_user(z), rtol=1e-8)


class FitsAnother(Callback):
    """Fits another model with a decoder of the user's while one is being fitted."""

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 1:
            quick(decoder=torch.nn.Linear(2, 6), max_epochs=1).fit(blobs()[0][:, :6])


def test_fits_with_decoders_can_be_nested():
    table = blobs()[0][:, :6]
    outer = {"decoder": torch.nn.Linear(2, table.shape[1]), "max_epochs": 3}
    alone = quick(**outer).fit(table)
    assert_same_bits(quick(**outer, callbacks=[FitsAnother()]).fit(table), alone.set_params(callbacks=[FitsAnother()]))


def test_a_decoder_with_batch_normalisation_takes_batches_of_any_number_of_rows():
    table = blobs()[0][:33]
    decoder = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, table.shape[1]))
    assert np.isfinite(quick(decoder=decoder, batch_size=32).fit(table).embedding_).all()
