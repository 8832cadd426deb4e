"""Size factors of tables that a model was not fitted to."""

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose

from skdevae import DGDEmbedder, VampVAE

X = np.random.default_rng(0).poisson(3, (60, 6)).astype(float)


@pytest.fixture(params=["VampVAE", "DGD"])
def embedder(request):
    quick = {"likelihood": "nb", "max_epochs": 3, "random_state": 0, "n_importance_samples": 32}
    if request.param == "VampVAE":
        return VampVAE(2, **quick)
    return DGDEmbedder(2, n_clusters=2, n_init=1, **quick)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("stored", [np.asarray, sp.csr_array])
def test_a_cell_without_counts_has_the_latent_of_the_prior(embedder, stored):
    embedder.fit(X)
    cells, unknown = X[:3].copy(), X[:3].copy()
    cells[1], unknown[1] = 0, np.nan
    with pytest.warns(UserWarning, match=r"1 rows have no counts \(the first is row 1\)"):
        ours, scores = embedder.posterior(stored(cells)), embedder.score_samples(stored(cells))
    with pytest.warns(UserWarning, match="no observed entry"):
        theirs = embedder.posterior(unknown)
    assert_allclose(ours.mean, theirs.mean, atol=1e-6)
    assert_allclose(ours.sd, theirs.sd, rtol=1e-6)
    assert_allclose(scores[1], 0, atol=0.01)  # one minus the probability of what is certain, sampled


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_model_goes_on_asking_for_the_sizes_of_rows_after_loading(embedder, tmp_path):
    sizes = X.sum(1)
    embedder.fit(X, size_factors=sizes)
    joblib.dump(embedder, tmp_path / "model.joblib")
    loaded = joblib.load(tmp_path / "model.joblib")
    assert_allclose(loaded.score(X, size_factors=sizes), embedder.score(X, size_factors=sizes))
    with pytest.raises(ValueError, match="pass those of the rows of this X, too"):
        loaded.score(X)


@pytest.mark.slow(keep=2)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("is_given", [True, False])
def test_files_that_kept_a_hash_of_the_table_whose_sizes_were_given(embedder, is_given):
    """As files did while sizes were an array of the constructor."""
    sizes = {"size_factors": X.sum(1)} if is_given else {}
    state = embedder.fit(X, **sizes).__getstate__()
    scale = state["_reader_"]["sizes"]
    del scale["is_given"]
    scale["given_for"] = "0f343b0931126a20f133d67c2b018a3b" if is_given else None
    loaded = type(embedder)()
    loaded.__setstate__({**state, "size_factors": X.sum(1) if is_given else "sum"})
    assert_allclose(loaded.score(X, **sizes), embedder.score(X, **sizes))
    if is_given:
        with pytest.raises(ValueError, match=r"transform\(X, size_factors=\.\.\.\)"):
            loaded.score(X)
