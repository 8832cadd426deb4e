"""Decoders of the user's: what no fit can work with is refused at once, and what a fit has copied stays."""

import copy
import pickle
import threading

import pytest
import torch
from faults.estimators import ESTIMATORS, WINE
from numpy.testing import assert_array_equal
from sklearn.base import clone
from torch import nn


class Decoder(nn.Module):
    """A linear decoder whose latents and values some functions change on their way."""

    def __init__(self, before=None, after=None):
        super().__init__()
        self.layer = nn.Linear(2, WINE.shape[1])
        self.before, self.after = before, after

    def forward(self, z):
        values = self.layer(self.before(z) if self.before else z)
        return self.after(values) if self.after else values


def fit(decoder):
    return ESTIMATORS["DGD"](max_epochs=1, decoder=decoder).fit(WINE)


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        (Decoder(before=torch.Tensor.float), "failed on latents of .* dtype torch.float64"),
        (Decoder(before=torch.Tensor.double), "failed on latents of .* dtype torch.float32"),
        (Decoder(after=torch.Tensor.float), "returned torch.float32 for latents of dtype torch.float64"),
        (Decoder(after=torch.Tensor.double), "returned torch.float64 for latents of dtype torch.float32"),
        (Decoder(after=lambda values: [values]), "returned list"),
        (Decoder(after=lambda values: values / 0), "values that are not finite"),
        (Decoder(before=lambda z: z - z.mean(0)), "a function of each latent alone"),
        (Decoder(after=lambda values: values + torch.rand(len(values), 1).to(values)), "draw nothing"),
        (Decoder(after=lambda values: values[:-1]), "values for each row"),
    ],
)
def test_a_decoder_that_cannot_work_is_refused_before_training(decoder, message):
    with pytest.raises(ValueError, match=f"decoder {message}|decoder .*{message}"):
        fit(decoder)


def test_a_decoder_that_cannot_be_copied():
    decoder = Decoder()
    decoder.lock = threading.Lock()
    model = ESTIMATORS["DGD"](decoder=decoder)
    assert "Decoder" in repr(model)
    with pytest.raises(ValueError, match="decoder cannot be copied"):
        model.fit(WINE)
    assert "Decoder" in repr(model)


@pytest.mark.parametrize("way", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_what_becomes_of_the_users_network_does_not_matter_to_a_fitted_model(way):
    decoder = nn.Sequential(nn.Linear(2, WINE.shape[1]))
    model = fit(decoder)
    latents = model.transform(WINE)
    decoder.append(nn.Linear(WINE.shape[1], 3))
    assert_array_equal(way(model).transform(WINE), latents)
    with pytest.raises(ValueError, match="returned 3 values"):
        clone(model).fit(WINE)
