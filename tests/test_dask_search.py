"""Searches whose fits run on the workers of Dask find what they find in one process."""

import joblib
import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.model_selection import GridSearchCV

from skdevae import BasisDeVAEClusterer
from skdevae.datasets import make_progression

distributed = pytest.importorskip("distributed", reason="fits on a cluster")

GRID = {"weight_precision": [1.0, 20.0], "behaviors": [("increasing", "decreasing"), ("increasing", "flat")]}


def search(X, **options):
    quick = {"hidden_layer_sizes": (4,), "n_grid_points": 17, "n_knots": 9, "max_epochs": 4, "random_state": 0}
    return GridSearchCV(BasisDeVAEClusterer(**quick), GRID, cv=3, **options).fit(X)


@pytest.mark.slow
def test_a_search_on_workers_is_that_of_one_process():
    X = make_progression(60, n_transient=2, n_increasing=2, n_decreasing=2, random_state=0).data
    here = search(X)
    # Threads, for processes would each import torch first: the benchmark of fits on Dask starts some.
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0")
    with cluster, distributed.Client(cluster), joblib.parallel_config(backend="dask"):
        there = search(X)
    assert there.best_params_ == here.best_params_
    scores = [name for name in here.cv_results_ if name.endswith(("test_score", "params"))]
    assert len(scores) == 7
    for name in scores:
        if name == "params":
            assert there.cv_results_[name] == here.cv_results_[name]
        else:
            assert_allclose(there.cv_results_[name], here.cv_results_[name], rtol=0, atol=1e-9, err_msg=name)
    assert_allclose(there.best_estimator_.transform(X), here.best_estimator_.transform(X), rtol=0, atol=1e-9)
    assert np.isfinite(there.best_score_)
