"""Starts of BasisVAE: what a search has found, fitted to the model's own likelihood."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from agreement import assert_agree
from numpy.testing import assert_array_equal
from sklearn.metrics import adjusted_rand_score

from skdevae import BasisVAEClusterer
from skdevae.datasets import make_basis_toy
from skdevae.nn.likelihoods import LIKELIHOODS, Gaussian, Likelihood
from skdevae.nn.models import build_model
from skdevae.table.components import normal_scores
from skdevae.table.source import RowSource
from skdevae.trajectory.shape_search import start as start_module
from skdevae.trajectory.shape_search.start import find_starts, start_from_shapes


class NotLinear(Gaussian):
    """The gaussian likelihood without its form that is linear in the data."""

    is_linear = False
    row_log_prob = Likelihood.row_log_prob
    expected_row_log_prob = Likelihood.expected_row_log_prob
    pair_log_prob = Likelihood.pair_log_prob
    row_constant = Likelihood.row_constant


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(LIKELIHOODS, "not_linear", NotLinear)


def table_with_gaps():
    table = make_basis_toy(100, 3, groups=("early", "late", "up"), random_state=0).data
    table[::7, 2] = np.nan
    return table


def fresh_module(likelihood, n_features=9):
    config = {
        "n_samples": 100,
        "n_features": n_features,
        "n_components": 1,
        "decoder": {
            "name": "basis",
            "n_components": 1,
            "n_clusters": 4,
            "scale_bounds": (0.25, 1.75),
            "max_shift": 0.0,
            "basis": None,
            "hidden_layer_sizes": (8,),
            "activation": "tanh",
            "integrator": "grid",
            "n_knots": 9,
            "z_max": 4.5,
        },
        "likelihood": {"name": likelihood} if likelihood == "poisson" else {"name": likelihood, "floor": 0.1},
        "assignment": {"name": "collapsed", "n_clusters": 4, "alpha": 0.1},
        "encoder": {"hidden_layer_sizes": (8,), "activation": "tanh", "counts": False, "sees_mask": True},
        "prior": {"name": "normal"},
        "posterior_family": {"name": "normal"},
        "variational": True,
        "z_max": 4.5,
        "weight_precision": 1.0,
        "beta": 1.0,
        "gamma": 1.0,
    }
    return build_model(config, torch.Generator().manual_seed(0)).double()


def test_working_responses_are_those_of_the_linear_form(monkeypatch):
    """From chunks of rows or from sums, the log-likelihood has one slope and one expected curvature."""
    monkeypatch.setattr("skdevae.table.source._CHUNK_ENTRIES", 20 * 9 * 129)  # several chunks
    table = table_with_gaps()
    source = RowSource(table, np.nanmean(table, 0), np.nanstd(table, 0), torch.zeros((), dtype=torch.float64))
    positions = torch.from_numpy(normal_scores(table[:, -1]))[:, None]
    responses = []
    for likelihood in ("gaussian", "not_linear"):
        module = fresh_module(likelihood)
        (start,) = find_starts(module, source, positions, alpha=0.1, moves=True, seed=0)
        statistics, latent = start_module._statistics(start.table, start.found, module)
        responses.append(start_module._working_response(module.likelihood, start, statistics, latent.points))
    (information, response), (other_information, other_response) = responses
    assert_agree(other_information, information)
    assert_agree(other_response * other_information, response * information)


def test_a_likelihood_that_is_not_linear_starts_and_trains():
    table = table_with_gaps()
    one, other = (
        BasisVAEClusterer(5, likelihood=name, inference="amortized", max_epochs=3, random_state=0).fit(table)
        for name in ("gaussian", "not_linear")
    )
    assert_array_equal(other.labels_, one.labels_)
    assert_agree(other.lower_bound_, one.lower_bound_, computed_in=np.float32)
    assert abs(other.score(table) - one.score(table)) < 0.05


def test_exact_inference_refuses_it():
    with pytest.raises(ValueError, match=r"likelihood='not_linear' is not\. Choose inference='amortized'"):
        BasisVAEClusterer(5, likelihood="not_linear").fit(table_with_gaps())


@pytest.mark.parametrize("sparse", [False, True])
def test_what_rows_are_read_does_not_depend_on_their_order(monkeypatch, sparse):
    monkeypatch.setattr(start_module, "_MOST_ROWS", 50)
    table = np.random.default_rng(0).poisson(0.5, (400, 3)).astype(np.float64)  # with many copies

    def read(order):
        rows = sp.csr_array(table[order]) if sparse else table[order]
        source = RowSource(rows, None, None, torch.zeros(()))
        numbers = start_module._rows_to_read(source, np.random.default_rng(0))
        assert len(np.unique(numbers)) == 50
        return table[order][numbers]

    expected = read(np.arange(400))
    for seed in range(3):
        found = read(np.random.default_rng(seed).permutation(400))
        assert_array_equal(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)])
    # every row has the same chance, copies included
    shares = [np.mean(read(np.random.default_rng(seed).permutation(400)) == 0) for seed in range(3)]
    assert abs(np.mean(shares) - np.mean(table == 0)) < 0.1


def test_rows_are_read_in_which_every_column_has_an_entry(monkeypatch):
    monkeypatch.setattr(start_module, "_MOST_ROWS", 20)
    table = np.random.default_rng(0).normal(size=(300, 4))
    table[5:, 1] = np.nan
    table[:-1, 3] = np.nan
    source = RowSource(table, None, None, torch.zeros(()))
    for seed in range(5):
        rows = start_module._rows_to_read(source, np.random.default_rng(seed))
        assert not np.isnan(table[rows]).all(0).any()
        assert 20 <= len(rows) <= 22
        assert_array_equal(rows, np.unique(rows))


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("n_entries", [0, 1])
@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
def test_a_column_hardly_observed_leaves_the_others_as_they_are(likelihood, n_entries):
    table = table_with_gaps()
    if likelihood == "poisson":
        table = np.random.default_rng(0).poisson(np.exp(np.nan_to_num(table) / np.nanstd(table, 0))).astype(np.float64)
    alone = np.delete(table, 4, axis=1)
    table[n_entries:, 4] = np.nan
    found = []
    for values in (table, alone):
        units = (np.nanmean(alone), np.nanstd(alone)) if likelihood == "gaussian" else (None, None)
        center, scale = (None if unit is None else np.full(values.shape[1], unit) for unit in units)
        source = RowSource(values, center, scale, torch.zeros((), dtype=torch.float64))
        module = fresh_module(likelihood, values.shape[1])
        positions = torch.from_numpy(normal_scores(table[:, -1]))[:, None]
        (start,) = find_starts(module, source, positions, alpha=0.1, moves=True, seed=0)
        start_from_shapes(module, start, alpha=0.1, moves=True)
        assert all(torch.isfinite(parameter).all() for parameter in module.parameters())
        found.append(start.found.shapes.labels)
    assert adjusted_rand_score(np.delete(found[0], 4), found[1]) == 1
