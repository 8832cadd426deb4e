"""Stability: tables of what replicates agree about, against counts over the replicates themselves."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdevae import BasisDeVAEClusterer, BasisVAEClusterer, DeVAETransformer
from skdevae.datasets import make_progression
from skdevae.inspection import bootstrap, stability

N, R = 50, 4
NAMES = [f"f{number}" for number in range(7)]


@pytest.fixture(scope="module", name="X")
def table():
    """Noisy features that replicates disagree about, and one of a single value."""
    data = make_progression(N, n_transient=2, n_increasing=2, n_decreasing=1, n_flat=1, noise=0.4, random_state=1).data
    return pd.DataFrame(np.c_[data, np.ones(N)], columns=NAMES, index=[f"s{number}" for number in range(N)])


@pytest.fixture(scope="module", name="model")
def fit(X):
    return BasisDeVAEClusterer(max_epochs=25, n_grid_points=33, random_state=0).fit(X)


@pytest.fixture(scope="module", name="replicates")
def judged(X, model):
    return bootstrap(model, X, n_bootstrap=R, judge=True, random_state=0)


@pytest.fixture(scope="module", name="found")
def tables(X, model, replicates):
    return stability(model, X, replicates=replicates, confidence_level=0.8)


# ---- features -------------------------------------------------------------------------------------------------------


def test_coclustering_is_the_mean_over_replicates(model, found, replicates):
    own = np.zeros((7, 7))
    for replicate in replicates:
        for j in range(7):
            for k in range(7):
                own[j, k] += replicate.responsibilities_[j] @ replicate.responsibilities_[k] / R
    np.fill_diagonal(own, 1)
    np.testing.assert_allclose(found.coclustering, own, atol=1e-6)
    np.testing.assert_array_equal(found.coclustering_of_fit, model.coclustering_matrix())
    for matrix in (found.coclustering, found.coclustering_of_fit):
        assert list(matrix.index) == list(matrix.columns) == NAMES


def test_shares_of_behaviours_are_counts(model, found, replicates):
    assert list(found.features.index) == NAMES
    labels = np.array([replicate.labels_ for replicate in replicates])
    assert (labels[:, :6] != model.labels_[:6]).any()  # else nothing is tested
    for number, row in enumerate(found.features.iloc[:6].itertuples(index=False)):
        behaviour, share, following, next_share, entropy = row
        names = [model.cluster_names_[label] for label in labels[:, number]]
        counts = {name: names.count(name) / R for name in set(names)}
        assert behaviour == model.cluster_names_[model.labels_[number]]
        assert share == pytest.approx(counts.pop(behaviour, 0))
        assert counts.get(following, np.nan) == pytest.approx(max(counts.values(), default=np.nan), nan_ok=True)
        assert next_share == pytest.approx(max(counts.values(), default=np.nan), nan_ok=True)
        assert entropy == pytest.approx(stats.entropy([share, *counts.values()]))


def test_a_column_of_one_value_is_constant(found):
    assert found.features.loc["f6", "behaviour"] == "constant"
    assert found.features.loc["f6"].drop("behaviour").isna().all()


def test_clusters_without_fixed_names_are_matched_with_those_of_the_fit(X):
    """Replicates with the functions of the fit in another order agree with it."""
    model = BasisVAEClusterer(n_clusters=3, max_epochs=3, n_grid_points=33, random_state=0).fit(X)
    replicates = bootstrap(model, X, n_bootstrap=2, judge=True, random_state=0)
    before = stability(model, X, replicates=replicates)
    fitted = replicates._fitted
    fitted.logits[:, :, :3] = fitted.logits[:, :, [2, 0, 1]]
    after = stability(model, X, replicates=replicates)
    pd.testing.assert_frame_equal(before.features, after.features)
    pd.testing.assert_frame_equal(before.coclustering, after.coclustering)


# ---- samples --------------------------------------------------------------------------------------------------------


def test_positions_are_those_of_the_fit_and_their_spread_that_of_replicates(X, model, found, replicates):
    samples = found.samples
    assert list(samples.index) == list(X.index)
    np.testing.assert_allclose(samples["position"], model.transform(X)[:, 0])
    np.testing.assert_allclose(samples["position sd"], replicates.positions.std(0))
    lower, upper = np.quantile(replicates.positions, [0.1, 0.9], axis=0)
    np.testing.assert_allclose(samples[["position lower", "position upper"]], np.stack([lower, upper], 1))


def test_quantiles_are_weighted_ranks(found, replicates):
    """The share of the weight that lies before a sample, with half of its own."""
    np.testing.assert_allclose(found.samples["quantile"], (stats.rankdata(found.samples["position"]) - 0.5) / N)
    shares = np.empty((R, N))
    for number, (positions, weights) in enumerate(zip(replicates.positions, replicates.weights, strict=True)):
        for sample, position in enumerate(positions):
            before, at = weights[positions < position].sum(), weights[positions == position].sum()
            shares[number, sample] = (before + at / 2) / weights.sum()
    np.testing.assert_allclose(found.samples["quantile sd"], shares.std(0))


def test_estimators_without_clusters_have_samples_alone(X):
    model = DeVAETransformer(max_epochs=2, n_grid_points=33, random_state=0).fit(X)
    found = stability(model, X, n_bootstrap=2, random_state=0)
    assert found.features is found.coclustering is found.coclustering_of_fit is None
    assert found.samples.shape == (N, 8)
    assert repr(found) == "<Stability of 50 samples over 2 replicates>"


# ---- ways in --------------------------------------------------------------------------------------------------------


def test_pipelines_and_what_is_made_on_the_way(X, model):
    """A pipeline is what its last step is; replicates are made as bootstrap makes them."""
    pipeline = make_pipeline(
        StandardScaler().set_output(transform="pandas"), DeVAETransformer(max_epochs=2, n_grid_points=33)
    ).fit(X)
    found = stability(pipeline, X, n_bootstrap=2, random_state=3)
    inside = bootstrap(pipeline[-1], pipeline[:-1].transform(X), n_bootstrap=2, random_state=3)
    np.testing.assert_array_equal(found.replicates.positions, inside.positions)


def test_what_does_not_fit_is_said(X, model, replicates):
    unjudged = bootstrap(model, X, n_bootstrap=2, random_state=0)
    with pytest.raises(ValueError, match=r"bootstrap\(\.\.\., judge=True\)"):
        stability(model, X, replicates=unjudged)
    with pytest.raises(ValueError, match="resampling 50 samples, but X has 49"):
        stability(model, X[1:], replicates=replicates)
    with pytest.raises(ValueError, match="another estimator"):
        stability(replicates[0], X, replicates=replicates)
    with pytest.raises(ValueError, match="pass groups to bootstrap"):
        stability(model, X, replicates=replicates, groups=np.arange(N))
