"""Excess zeros: they do not keep a feature from what its curve does, whatever the data suggest."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import expit

from skdevae import BasisDeVAEClusterer, BasisVAEClusterer, DeVAETransformer, VAETransformer

INFERENCES = ("exact", "amortized")
SHORT = {"likelihood": "zinb", "max_epochs": 25, "random_state": 0}
FINE = np.linspace(-8, 8, 1601)


def simulated(signs=1):
    """Counts (200, 10) whose size rises along the axis or, where ``signs`` (10,) is -1, falls.

    In half of the columns the share of excess zeros rises with the size, so fast that the expected value falls.
    """
    generator = np.random.default_rng(0)
    z = signs * generator.normal(size=(200, 1)) * np.ones(10)
    table = generator.poisson(np.exp(2 + np.r_[np.full(5, 0.8), np.full(5, 0.2)] * z)).astype(np.float64)
    table[:, 5:] *= generator.random((200, 5)) > expit(-0.5 + 2.5 * z[:, 5:])
    return table


@pytest.fixture(scope="module")
def counts():
    """All rise."""
    return simulated()


def assert_rising(expected):
    """Along the first dimension, up to rounding."""
    assert np.isfinite(expected).all()
    assert (np.diff(expected, axis=0) >= -1e-12 * expected[1:]).all()
    assert (expected[-1] > expected[0]).any()  # flat is a behaviour too, in BasisVAE


RISING = {
    "BasisDeVAE": lambda inference: BasisDeVAEClusterer(behaviors=("increasing",), inference=inference, **SHORT),
    "BasisVAE": lambda inference: BasisVAEClusterer(3, basis="increasing", inference=inference, **SHORT),
    "DeVAE": lambda inference: DeVAETransformer(monotonic_cst="increasing", inference=inference, **SHORT),
}


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize("name", RISING)
def test_expected_values_rise_where_shares_of_zeros_rise_too(name, inference, counts):
    model = RISING[name](inference).fit(counts)
    assert_rising(model.trajectories(FINE))


def test_expected_values_rise_along_every_component(counts):
    model = DeVAETransformer(2, monotonic_cst="increasing", **SHORT).fit(counts)
    for component in range(2):
        for other in (-2.0, 0.0, 2.0):
            points = np.full((len(FINE), 2), other)
            points[:, component] = FINE
            assert_rising(model.trajectories(points))


def test_expected_values_have_the_shapes_of_their_behaviours():
    table = simulated(np.tile([1, -1], 5))
    model = BasisDeVAEClusterer(behaviors=("increasing", "decreasing", "transient"), **SHORT).fit(table)
    names = model.cluster_names_[model.labels_]
    assert len(set(names)) > 1
    tops = {"increasing": FINE[-1], "decreasing": FINE[0]}
    for name, peak, expected in zip(names, model.peaks_, model.trajectories(FINE).T, strict=True):
        top = tops.get(name, peak)
        for side in (expected[FINE <= top], expected[FINE >= top][::-1]):
            if len(side) > 1:
                assert_rising(side)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("name", RISING)
def test_excess_zeros_are_still_found(name, counts):
    """The expected value is that of the counts that are no excess zeros, times the share of these counts."""
    model = RISING[name]("exact").set_params(max_epochs=None).fit(counts)
    shares = expit(model.module_.likelihood.inflation_logits.numpy()[0])
    assert (shares[:5] < 0.1).all()
    assert_allclose(shares[5:], (counts[:, 5:] == 0).mean(0), atol=0.1)


def test_embeddings_keep_excess_zeros_that_change_along_the_axis(counts):
    model = VAETransformer(1, **SHORT).fit(counts)
    level_and_slope = model.module_.likelihood.inflation_logits
    assert level_and_slope.shape == (2, 10)
    assert (level_and_slope[1, 5:] != 0).all()


def test_models_saved_with_excess_zeros_that_change_along_the_axis_are_read(counts):
    """Those of earlier versions: they answer as they did."""
    model = BasisDeVAEClusterer(behaviors=("increasing",), **SHORT).fit(counts)
    state = model.__getstate__()
    logits = state["_weights_"]["likelihood.inflation_logits"]
    assert logits.shape == (1, 10)
    slopes = np.linspace(-1, 1, 10, dtype=logits.dtype)
    older = BasisDeVAEClusterer()
    older.__setstate__(
        {
            **state,
            "_config_": {**state["_config_"], "likelihood": {"name": "zinb", "n_components": 1}},
            "_weights_": {**state["_weights_"], "likelihood.inflation_logits": np.vstack([logits, slopes])},
        }
    )
    z = np.array([-1.0, 2.0])
    kept, kept_before = (expit(-(logits[0] + slope * z[:, None])) for slope in (0, slopes))
    assert_allclose(older.trajectories(z), model.trajectories(z) / kept * kept_before, rtol=1e-6)
