"""Rows are put in order along a path that bends, or that is straight; where there is none, nothing is said."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.decomposition import PCA

from skdevae.table.seriation import path_through


def _waves(n, noise, seed, n_columns=30):
    """Columns that come and go one after another along a hidden time: (N, D), and the time (N,)."""
    random = np.random.default_rng(seed)
    time = random.uniform(0, 1, n)
    peaks = np.linspace(-0.2, 1.2, n_columns)
    return np.exp(-0.5 * ((time[:, None] - peaks) / 0.1) ** 2) + random.normal(0, noise, (n, n_columns)), time


def _scores(table, n_components=3):
    return PCA(n_components, svd_solver="full").fit_transform(table)


@pytest.mark.parametrize("n", [100, 500, 3000])
@pytest.mark.parametrize("noise", [0.02, 0.1])
def test_a_path_that_a_line_folds_is_unfolded(n, noise):
    table, time = _waves(n, noise, seed=n)
    scores = _scores(table)
    path = path_through(scores)
    assert abs(spearmanr(scores[:, 0], time)[0]) < 0.9
    assert abs(spearmanr(path, time)[0]) > 0.98


def test_a_straight_line_is_a_path_too():
    random = np.random.default_rng(0)
    latent = random.normal(size=400)
    table = np.outer(latent, random.normal(size=20)) + random.normal(0, 0.1, (400, 20))
    assert abs(spearmanr(path_through(_scores(table)), latent)[0]) > 0.98


def test_groups_that_are_apart_are_not_one_path():
    random = np.random.default_rng(0)
    table = random.normal(size=(200, 8)) + 100 * np.eye(8)[np.arange(200) % 3]
    assert path_through(_scores(table)) is None


def test_few_rows_one_column_and_equal_rows_have_no_path():
    assert path_through(_scores(_waves(30, 0.02, 0)[0])) is None
    assert path_through(np.arange(100.0)[:, None]) is None
    assert path_through(np.ones((100, 3))) is None


def test_the_order_of_rows_does_not_matter():
    scores = _scores(_waves(2500, 0.05, 1)[0])
    order = np.random.default_rng(0).permutation(len(scores))
    path, again = path_through(scores), path_through(scores[order])
    assert abs(spearmanr(path[order], again)[0]) > 1 - 1e-9


def test_copies_of_rows_stand_where_the_rows_stand_and_change_nothing():
    scores = _scores(_waves(200, 0.05, 2)[0])
    path = path_through(np.concatenate([scores, scores[:50]]))
    np.testing.assert_allclose(path[200:], path[:50])
    np.testing.assert_allclose(path[:200], path_through(scores), atol=1e-12)
