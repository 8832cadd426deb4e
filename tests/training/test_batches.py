"""Batches of weighted rows: on average over an epoch, a batch's loss is the weighted mean over the table."""

import numpy as np
import pytest
import torch
from agreement import assert_agree
from inference.random_models import random_model, random_table, source_of

from skdevae.nn.latent_grid import counted
from skdevae.nn.representations import Representations
from skdevae.nn.rows import DenseRows
from skdevae.training.batches import RowsInOrder, RowsWithRepresentations, ShuffledRows

WEIGHTS = np.random.default_rng(0).integers(1, 5, 20)


def batches(source, how, batch_size):
    if how == "with representations":
        representations = Representations(torch.zeros(len(source), 2), None)
        return RowsWithRepresentations(source, representations, batch_size, torch.Generator().manual_seed(0))
    if how == "shuffled":
        return ShuffledRows(source, 2, batch_size, torch.Generator().manual_seed(0))
    return RowsInOrder(source, 2, batch_size, 0)


@pytest.mark.parametrize("unit", [1.0, 40.0])
@pytest.mark.parametrize("how", ["shuffled", "in order", "with representations"])
@pytest.mark.parametrize("batch_size", [1, 6, 100])
def test_an_epoch_is_the_weighted_mean_of_the_rows(how, batch_size, unit):
    """In whatever unit weights are: only their proportions matter."""
    table = random_table("gaussian", 20)
    total, n_rows = 0.0, 0
    for batch in batches(source_of(table, weight=unit * WEIGHTS), how, batch_size):
        rows = batch.arguments[0]
        total += float(counted(rows, rows.values.sum(1)).mean()) * len(batch)
        n_rows += len(batch)
    assert n_rows == 20
    assert_agree(total / n_rows, np.average(table.sum(1), weights=WEIGHTS))


@pytest.mark.parametrize("likelihood", ["gaussian", "nb", "zinb"])
@pytest.mark.parametrize("posterior_family", [{"name": "normal"}, {"name": "iaf", "n_flows": 1}], ids=["normal", "iaf"])
def test_the_loss_of_a_weighted_row_is_that_of_its_copies(likelihood, posterior_family):
    prior = {"name": "mixture", "n_mixture_components": 2, "learn_weights": True}
    model = random_model("amortized", likelihood, n_components=2, prior=prior, posterior_family=posterior_family)
    model.train()
    source = source_of(random_table(likelihood, 20, missing=0.1), weight=WEIGHTS.astype(float))
    (batch,) = batches(source, "in order", 100)
    rows, noise = batch.arguments
    often = torch.from_numpy(np.repeat(np.arange(20), WEIGHTS))
    copies = DenseRows(rows.values[often], None if rows.observed is None else rows.observed[often])
    weighted, repeated = model(rows, noise).named(), model(copies, noise[often]).named()
    assert_agree(list(weighted.values()), list(repeated.values()))
