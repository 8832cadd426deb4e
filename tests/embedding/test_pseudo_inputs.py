"""Rows that a prior starts from: they stand for rows as often as weights say."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from skdevae import VampVAE
from skdevae.embedding._pseudo_inputs import starting_inputs
from skdevae.nn.row_context import RowContext
from skdevae.table.source import RowSource

FLOAT64 = torch.zeros((), dtype=torch.float64)
#: ten rows near 0, ten near 10
TABLE = np.random.default_rng(0).normal(np.repeat([0.0, 10.0], 10)[:, None], 0.1, (20, 3))


def starts(how, n, weights, seed=0, table=TABLE):
    source = RowSource(table, None, None, FLOAT64, RowContext(weight=weights))
    return starting_inputs(source, lambda rows: rows.values, n, how, seed).numpy()


@pytest.mark.parametrize("how", ["kmeans", "data", "random"])
def test_they_are_where_the_weight_is(how):
    weights = np.repeat([1e-6, 1.0], 10)
    found = starts(how, 4, weights)
    assert found.shape == (4, 3)
    assert_allclose(found, 10.0, atol=1.0)


def test_a_center_is_a_weighted_mean():
    weights = np.random.default_rng(1).uniform(0.1, 3, 20)
    low, high = np.sort(starts("kmeans", 2, weights), axis=0)
    assert_allclose(low, np.average(TABLE[:10], axis=0, weights=weights[:10]))
    assert_allclose(high, np.average(TABLE[10:], axis=0, weights=weights[10:]))


def test_noise_has_weighted_moments():
    weights = np.random.default_rng(1).uniform(0.1, 3, 20)
    found = starts("random", 20_000, weights, table=np.repeat(TABLE, 1, axis=0))
    mean = np.average(TABLE, axis=0, weights=weights)
    sd = np.sqrt(np.average((TABLE - mean) ** 2, axis=0, weights=weights))
    assert_allclose(found.mean(0), mean, atol=5 * sd.max() / np.sqrt(20_000))
    assert_allclose(found.std(0), sd, rtol=0.03)


def test_there_are_no_more_than_distinct_rows():
    table = np.vstack([TABLE] * 5)
    with pytest.warns(UserWarning, match="there are 20 samples to train on"):
        model = VampVAE(1, n_pseudo_inputs=50, pseudo_input_init="data", max_epochs=1, random_state=0).fit(table)
    assert len(model.pseudo_inputs_) == 20


@pytest.mark.filterwarnings("ignore:Training does without", "ignore:.*are farther from", "ignore:.*beyond the range")
def test_every_sample_has_the_label_that_it_is_predicted():
    """Samples that the fit did not read as they are, or not at all, and copies of others included."""
    table = np.vstack([np.random.default_rng(2).normal(size=(60, 4)), TABLE[:5, [0, 1, 2, 0]]])
    table[1], table[2, 0], table[3] = 1e5, 1e4, table[4]
    weights = np.ones(65)
    weights[::6] = 0
    model = VampVAE(2, n_clusters=3, max_epochs=3, random_state=0).fit(table, sample_weight=weights)
    assert (model.labels_ == model.predict(table)).all()
