"""Columns that have nothing to do with the axis: they are told from others, and take no part in the search."""

import numpy as np
import pytest
import torch
from agreement import assert_agree
from numpy.testing import assert_array_equal

from skdevae.datasets import make_basis_toy
from skdevae.nn.latent_grid import LatentGrid
from skdevae.table import source as rows_module
from skdevae.table.components import normal_scores
from skdevae.table.source import RowSource
from skdevae.trajectory.shape_search.axis import GaussianAxis, fit_curves
from skdevae.trajectory.shape_search.flat import evidence_on_others_axis, evidence_under
from skdevae.trajectory.shape_search.grid import ShapeGrid

LATENT = LatentGrid.standard_normal(129, 4.5)
GRID = ShapeGrid.build(129, 4.5, max_shift=0.0, scale_bounds=(0.25, 1.75))


def standardized(X):
    scale = np.nanstd(X, 0)
    return RowSource(X, np.nanmean(X, 0), np.where(scale > 0, scale, 1), torch.zeros((), dtype=torch.float64))


def narrow(z, width=0.1):
    """q(z) of samples whose latents are known nearly exactly."""
    q = np.exp(-0.5 * ((z[:, None] - LATENT.points[:, 0].numpy()) / width) ** 2)
    return q / q.sum(1, keepdims=True)


def test_columns_that_vary_along_the_axis_have_evidence():
    random = np.random.default_rng(0)
    z = random.standard_normal(300)
    curves = np.stack([np.tanh(z), np.exp(-2 * z**2), np.sin(2 * z), 0 * z, 0 * z], axis=1)
    X = curves + np.array([0.5, 0.3, 0.5, 1, 0]) * random.standard_normal((300, 5))
    evidence = evidence_under(standardized(X), narrow(z), LATENT)
    assert (evidence[:3] > 20).all()
    assert (evidence[3:] < 0).all()
    # nothing else is asked of a column: neither its unit, nor its sign
    assert_agree(evidence_under(standardized(5 - 100 * X[:, :4]), narrow(z), LATENT), evidence[:4])


def test_the_evidence_of_noise_is_honest():
    """Under a constant the ratio of the evidences has the mean 1, so it is above 1 / p in a share of p at most."""
    random = np.random.default_rng(1)
    z = random.standard_normal(200)
    evidence = evidence_under(standardized(random.standard_normal((200, 400))), narrow(z), LATENT)
    assert (evidence > 0).mean() < 0.05
    assert (evidence > 3).mean() < 0.01
    assert np.exp(evidence).mean() < 2


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_noise_cannot_make_an_axis_of_its_own(missing):
    """Every column is judged without its own help. With few columns each is a large part of the axis."""
    random = np.random.default_rng(2)
    noise = random.standard_normal((200, 6))
    noise[random.uniform(size=noise.shape) < missing] = np.nan
    guess = normal_scores(np.nan_to_num(noise[:, 0]))
    evidence = evidence_on_others_axis(GaussianAxis(standardized(noise), GRID), guess)
    assert (evidence < 3).all()
    # with its help, the axis would follow the column that it started from
    assert evidence_under(standardized(noise[:, :1]), narrow(guess), LATENT)[0] > 20


def test_sums_without_a_group_do_not_depend_on_it(monkeypatch):
    """They are the sums under the posterior of the table that has only the other columns."""
    X = make_basis_toy(60, 2, random_state=0).data
    axis = GaussianAxis(standardized(X), GRID)
    curves, noise_variances = fit_curves(axis, axis.sums_around(normal_scores(X[:, -1]), 0.3))
    group, others = np.array([1, 4, 7]), np.array([0, 2, 3, 5, 6, 8, 9])
    monkeypatch.setattr(rows_module, "_CHUNK_ENTRIES", 17 * 129)  # several chunks
    (sums,) = axis.sums_without([torch.from_numpy(group)], curves, noise_variances)
    q = GaussianAxis(standardized(X[:, others]), GRID).posterior(curves[:, others], noise_variances[others])
    table = (X - X.mean(0)) / X.std(0)
    assert_agree(sums.weighted.numpy(), q.T @ table[:, group])
    assert_agree(sums.mass.numpy()[:, 0], q.sum(0))


def test_flat_columns_of_a_table_are_found():
    truth = make_basis_toy(200, 5, random_state=3)
    random = np.random.default_rng(3)
    gap = np.full((200, 1), np.nan)
    gap[0] = 1.0
    X = np.hstack([truth.data, random.standard_normal((200, 8)), np.full((200, 1), 2.0), gap])
    X[::9, 2] = np.nan
    guess = normal_scores(np.linalg.svd(np.nan_to_num(truth.data - truth.data.mean(0)))[0][:, 0])
    evidence = evidence_on_others_axis(GaussianAxis(standardized(X), GRID), guess)
    assert_array_equal(evidence > 3, np.arange(35) < 25)


def test_a_column_without_entries_is_flat():
    z = np.random.default_rng(0).standard_normal(50)
    X = np.stack([np.full(50, np.nan), z], axis=1)
    source = RowSource(X, np.zeros(2), np.ones(2), torch.zeros((), dtype=torch.float64))
    evidence = evidence_under(source, narrow(z), LATENT)
    assert evidence[0] < 0 < evidence[1]
