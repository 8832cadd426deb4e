from __future__ import annotations

import functools
import pickle
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import norm, ortho_group
from sklearn.base import BaseEstimator, clone
from sklearn.cluster import DBSCAN
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import silhouette_score
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdevae import DeVAETransformer, VAETransformer, VampVAE, metrics
from skdevae.metrics import _embedding as _embedding_metrics
from skdevae.metrics import (
    active_units,
    active_units_scorer,
    latent_correlation_scorer,
    latent_covariance,
    latent_divergence,
    mean_absolute_correlation,
    n_principal_components,
    neg_n_principal_components_scorer,
    neg_reconstruction_loss_scorer,
    silhouette_scorer,
    unit_activity,
)

OF_ANY_TRANSFORMER = (
    active_units_scorer,
    neg_n_principal_components_scorer,
    latent_correlation_scorer,
    silhouette_scorer,
)
SCORERS = (*OF_ANY_TRANSFORMER, neg_reconstruction_loss_scorer)
MEASURES = (unit_activity, active_units, latent_covariance, mean_absolute_correlation, n_principal_components)


def latent_of(n_samples=80, n_units=5, seed=0, rank=None):
    """Correlated latent units, of unequal spread and away from zero; with a rank, linearly dependent ones."""
    random = np.random.default_rng(seed)
    factors = random.standard_normal((n_samples, rank or n_units))
    mixing = random.standard_normal((factors.shape[1], n_units)) * np.geomspace(3, 0.3, factors.shape[1])[:, None]
    return factors @ mixing + random.standard_normal(n_units)


@pytest.fixture(scope="module")
def table():
    """Three classes of rows in six columns of different size."""
    random = np.random.default_rng(0)
    y = np.repeat(["a", "b", "c"], 30)
    centres = {label: 2 * random.standard_normal(6) for label in "abc"}
    X = np.array([centres[label] for label in y]) + random.standard_normal((90, 6))
    return X * np.geomspace(0.1, 10, 6), y


@pytest.fixture(scope="module")
def vae(table):
    return VAETransformer(n_components=2, max_epochs=5, random_state=0).fit(table[0])


@pytest.fixture(scope="module")
def scaled_vae(table):
    return make_pipeline(StandardScaler(), VAETransformer(n_components=2, max_epochs=5, random_state=0)).fit(table[0])


# ------------------------------------------------------------------------------------------------ measures of an array


def test_activity_is_the_variance_of_each_unit():
    Z = latent_of()
    np.testing.assert_allclose(unit_activity(Z), np.diag(latent_covariance(Z)))
    np.testing.assert_allclose(latent_covariance(Z), np.cov(Z, rowvar=False, bias=True))
    # of the samples as they are: seen twice, they say the same
    np.testing.assert_allclose(latent_covariance(np.vstack([Z, Z])), latent_covariance(Z))


def test_active_units_are_those_above_the_threshold():
    sds = np.array([0.0, 0.05, 0.099, 0.101, 1.0])
    Z = 7 + sds * np.resize([-1.0, 1.0], (10, 1))
    assert active_units(Z) == 2
    assert [active_units(Z, threshold=t) for t in (0, 0.0025 + 1e-9, 0.02, 1.1)] == [4, 3, 1, 0]
    # strictly above
    assert active_units([[-1.0], [1.0]], threshold=1.0) == 0
    assert isinstance(active_units(Z), int)


@settings(max_examples=25)
@given(n_units=st.integers(1, 6), rank=st.integers(1, 6), seed=st.integers(0, 2**31))
def test_invariances(n_units, rank, seed):
    Z = latent_of(30, n_units, seed, min(rank, n_units))
    random = np.random.default_rng(seed)
    samples, units = random.permutation(30), random.permutation(n_units)
    for measure in (active_units, mean_absolute_correlation, n_principal_components):
        value = measure(Z)
        assert measure(Z[samples]) == pytest.approx(value)
        assert measure(Z[:, units]) == pytest.approx(value)
        assert measure(Z + 5) == pytest.approx(value)
        assert measure(-Z) == pytest.approx(value)
    np.testing.assert_allclose(latent_covariance(Z[samples][:, units]), latent_covariance(Z)[np.ix_(units, units)])
    factors = random.choice([-1, 1], n_units) * random.lognormal(0, 3, n_units)
    np.testing.assert_allclose(unit_activity(Z * factors), factors**2 * unit_activity(Z))
    assert mean_absolute_correlation(Z * factors) == pytest.approx(mean_absolute_correlation(Z))


@settings(max_examples=25)
@given(n_units=st.integers(2, 6), seed=st.integers(0, 2**31), share=st.floats(0.3, 0.99))
def test_principal_components_do_not_depend_on_rotation_or_scale(n_units, seed, share):
    Z = latent_of(30, n_units, seed)
    rotation = ortho_group.rvs(n_units, random_state=seed)
    expected = n_principal_components(Z, explained_variance=share)
    assert n_principal_components(1e-3 * Z @ rotation, explained_variance=share) == expected
    assert expected == PCA(n_components=share, svd_solver="full").fit(Z).n_components_


def test_principal_components_of_known_variances():
    # 4 : 3 : 2 : 1 along the axes
    Z = np.vstack([np.eye(4), -np.eye(4)]) * np.sqrt([4, 3, 2, 1])
    shares = [0.3, 0.4, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0]
    assert [n_principal_components(Z, explained_variance=s) for s in shares] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert n_principal_components(Z) == 4
    assert isinstance(n_principal_components(Z), int)


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_all_of_the_variance_takes_as_many_components_as_the_rank(rank):
    assert n_principal_components(latent_of(rank=rank), explained_variance=1.0) == rank
    # fewer samples than units
    assert n_principal_components(latent_of(4, 20), explained_variance=1.0) == 3


def test_mean_absolute_correlation_of_known_cases():
    Z = latent_of()
    off_diagonal = np.abs(np.corrcoef(Z, rowvar=False))[~np.eye(5, dtype=bool)]
    assert mean_absolute_correlation(Z) == pytest.approx(off_diagonal.mean())
    assert mean_absolute_correlation(Z[:, [0, 0]] * [1, -2] + 3) == pytest.approx(1)
    assert mean_absolute_correlation(PCA().fit_transform(Z)) == pytest.approx(0, abs=1e-12)
    assert mean_absolute_correlation(Z[:, :1]) == 0.0
    # of two units that move together, with one that does not move: one pair of three
    still = np.full(80, 0.1)
    assert mean_absolute_correlation(np.column_stack([Z[:, 0], still, 2 * Z[:, 0]])) == pytest.approx(1 / 3)
    assert mean_absolute_correlation(Z[:, [0, 0]] * [1e-200, 1e200]) == pytest.approx(1)


@pytest.mark.parametrize("size", [0.0, 0.1, 1e6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_units_that_vary_by_rounding_alone_count_as_constant(size, dtype):
    Z = np.full((50, 3), size, dtype=dtype)
    Z[::2] = np.nextafter(Z[::2], dtype(2 * size))
    assert n_principal_components(Z) == active_units(Z) == mean_absolute_correlation(Z) == 0
    # nor do they beside one that does vary, however small that is in comparison
    Z[:, 1] = latent_of(50, 1)[:, 0]
    assert n_principal_components(Z, explained_variance=1.0) == 1
    assert mean_absolute_correlation(Z) == 0


@pytest.mark.parametrize("measure", MEASURES)
def test_what_arrays_are_taken(measure):
    Z = latent_of(20, 3)
    np.testing.assert_allclose(measure(pd.DataFrame(Z)), measure(Z))
    np.testing.assert_array_equal(measure(Z.tolist()), measure(Z))
    before = Z.copy()
    measure(Z)
    np.testing.assert_array_equal(Z, before)
    assert np.all(measure(Z[:1]) == 0)  # one sample
    for wrong, message in ((Z[0], "Expected 2D array"), (np.where(Z > 1, np.nan, Z), "Input Z contains NaN")):
        with pytest.raises(ValueError, match=message):
            measure(wrong)


def test_options_out_of_range():
    for threshold in (-0.1, np.nan):
        with pytest.raises(ValueError, match=r"threshold=.* not negative, such as 0\.01"):
            active_units(latent_of(), threshold=threshold)
    for share in (0, -0.5, 1.01, 95, np.nan):
        with pytest.raises(ValueError, match=r"explained_variance=.* not a share .* such as 0\.95"):
            n_principal_components(latent_of(), explained_variance=share)


# ------------------------------------------------------------------------------------------------------------- scorers


def score_by_hand(scorer, model, X, y):
    Z = model.transform(X)
    if scorer is neg_reconstruction_loss_scorer:
        return model.conditional_log_likelihood(X)
    if scorer is silhouette_scorer:
        return silhouette_score(Z, y)
    return {
        active_units_scorer: active_units(Z),
        neg_n_principal_components_scorer: -n_principal_components(Z),
        latent_correlation_scorer: mean_absolute_correlation(Z),
    }[scorer]


@pytest.mark.parametrize("scorer", SCORERS)
def test_scorers_look_into_pipelines_and_searches(scorer, table, vae, scaled_vae):
    X, y = table
    expected = score_by_hand(scorer, vae, X, y)
    assert isinstance(scorer(vae, X, y), float)
    assert scorer(vae, X, y) == expected
    assert scorer(FrozenEstimator(vae), X, y) == expected
    search = GridSearchCV(VAETransformer(2, random_state=0), {"max_epochs": [5]}, scoring=scorer, cv=KFold(2))
    assert scorer(search.fit(X, ["a", "b", "c"] * 30), X, y) == pytest.approx(expected)
    scaler, inner = scaled_vae[0], scaled_vae[1]
    # what the earlier steps make of X, not X
    expected_scaled = score_by_hand(scorer, inner, scaler.transform(X), y)
    assert scorer(scaled_vae, X, y) == expected_scaled
    assert scorer(make_pipeline(FrozenEstimator(scaler), "passthrough", make_pipeline(inner)), X, y) == expected_scaled


def test_reconstruction_is_of_the_model_wherever_it_stands(table, scaled_vae):
    X, _ = table
    followed = make_pipeline(*(step for _, step in scaled_vae.steps), StandardScaler()).fit(X)
    assert neg_reconstruction_loss_scorer(followed, X) == neg_reconstruction_loss_scorer(scaled_vae, X)
    assert latent_correlation_scorer(followed, X) == mean_absolute_correlation(followed.transform(X))


def test_cross_validation_of_any_transformer(table):
    X, y = table
    model = make_pipeline(StandardScaler(), PCA(3))
    scoring = {scorer.__name__: scorer for scorer in OF_ANY_TRANSFORMER}
    cv = StratifiedKFold(3)
    result = cross_validate(model, X, y, scoring=scoring, cv=cv, error_score="raise")
    train, test = next(cv.split(X, y))
    Z = clone(model).fit(X[train]).transform(X[test])
    assert result["test_silhouette_scorer"][0] == pytest.approx(silhouette_score(Z, y[test]))
    assert result["test_active_units_scorer"][0] == active_units(Z) == 3
    assert result["test_neg_n_principal_components_scorer"][0] == -n_principal_components(Z)
    assert result["test_latent_correlation_scorer"][0] == pytest.approx(mean_absolute_correlation(Z))


def test_cross_validation_of_a_generative_model(table):
    X, y = table
    model = make_pipeline(StandardScaler(), VAETransformer(n_components=2, max_epochs=2, random_state=0))
    scoring = {scorer.__name__: scorer for scorer in SCORERS}
    result = cross_validate(model, X, y, scoring=scoring, cv=StratifiedKFold(2), error_score="raise")
    assert all(np.isfinite(result[f"test_{name}"]).all() for name in scoring)
    assert np.all(result["test_active_units_scorer"] == 2)


def test_a_search_chooses_by_them(table):
    X, y = table
    search = GridSearchCV(PCA(), {"n_components": [1, 2, 4]}, cv=StratifiedKFold(2), error_score="raise")
    chosen = {scorer: clone(search).set_params(scoring=scorer).fit(X, y) for scorer in OF_ANY_TRANSFORMER[:2]}
    assert chosen[active_units_scorer].best_params_ == {"n_components": 4}
    assert chosen[neg_n_principal_components_scorer].best_params_ == {"n_components": 1}
    assert pickle.loads(pickle.dumps(chosen[active_units_scorer])).score(X) == 4


@pytest.mark.parametrize("scorer", SCORERS)
def test_scorers_are_public_and_survive_pickling(scorer):
    assert pickle.loads(pickle.dumps(scorer)) is scorer
    assert getattr(metrics, scorer.__name__) is scorer
    assert scorer.__name__ in metrics.__all__


def test_options_of_scorers(table):
    X, _ = table
    all_active = functools.partial(active_units_scorer, threshold=0)
    pca = PCA().fit(1e-3 * X)
    assert active_units_scorer(pca, 1e-3 * X) == 0
    assert all_active(pca, 1e-3 * X) == 6
    np.testing.assert_array_equal(cross_val_score(PCA(), 1e-3 * X, scoring=all_active, cv=3, error_score="raise"), 6)
    assert neg_n_principal_components_scorer(pca, X, explained_variance=1) == -6


def test_embeddings_in_data_frames_and_labels_of_any_kind(table):
    X, y = table
    pca = PCA(2).set_output(transform="pandas").fit(X)
    expected = silhouette_score(pca.transform(X), y)
    for labels in (list(y), pd.Series(y, index=np.arange(90) + 7), pd.Series(y, dtype="category"), pd.factorize(y)[0]):
        assert silhouette_scorer(pca, X, labels) == pytest.approx(expected)


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "was given no y: it needs the class of each sample"),
        (["a"] * 90, "y with 1 class, but needs two or more .* StratifiedKFold"),
        (["a", "b", None] * 30, "without the label of 30 of 90 samples: leave"),
        ([0.0, 1.0, np.nan] * 30, "without the label of 30 of 90 samples: leave"),
        (np.zeros((90, 2)), r"y of shape \(90, 2\)"),
        (["a", "b"], "inconsistent numbers of samples"),
        (np.arange(90), "Number of labels is 90"),
    ],
)
def test_labels_without_a_silhouette(labels, message, table):
    X, _ = table
    with pytest.raises(ValueError, match=message):
        silhouette_scorer(PCA(2).fit(X), X, labels)


@pytest.mark.parametrize("scorer", OF_ANY_TRANSFORMER)
def test_no_embedding(scorer, table):
    X, y = table
    unfit = GridSearchCV(PCA(), {"n_components": [2]}, scoring=active_units_scorer, refit=False, cv=2).fit(X)
    for estimator in (DBSCAN().fit(X), unfit, make_pipeline(StandardScaler(), DBSCAN()).fit(X)):
        with pytest.raises(ValueError, match=f"{type(estimator).__name__} has no transform.*ends in one.*refit=True"):
            scorer(estimator, X, y)


@pytest.mark.parametrize(
    ("score", "method"),
    [(neg_reconstruction_loss_scorer, "conditional_log_likelihood"), (latent_divergence, "posterior")],
)
def test_no_generative_model(score, method, table):
    X, y = table
    models = (
        PCA(2).fit(X),
        PCA(2),
        make_pipeline(StandardScaler(), LinearDiscriminantAnalysis()).fit(X, y),
        GridSearchCV(VAETransformer(), {"max_epochs": [2]}, refit=False),
    )
    for model in models:
        message = f"no fitted estimator with {method} in {type(model).__name__}.*Pipeline.*refit=True.*VAETransformer"
        with pytest.raises(ValueError, match=message):
            score(model, X)
    with pytest.raises(NotFittedError):
        score(VAETransformer(), X)


# ----------------------------------------------------------------------------------------------------------- divergence


class Encoded(BaseEstimator):
    """Has the posteriors and the prior it is given, whatever X is; rows of X are looked up by number."""

    def __init__(self, mean, sd, prior=None):
        self.mean = mean
        self.sd = sd
        if prior is not None:
            self.prior_mixture_ = prior

    def posterior(self, X):
        return SimpleNamespace(mean=self.mean[X[:, 0]], sd=self.sd[X[:, 0]])


def mixture(weights, means, sds):
    return SimpleNamespace(weights=np.array(weights), means=np.array(means), sds=np.array(sds))


def divergence_of(mean, sd, prior=None, rows=None):
    rows = np.arange(len(mean)) if rows is None else rows
    return latent_divergence(Encoded(mean, sd, prior), rows[:, None])


@pytest.fixture
def posteriors():
    random = np.random.default_rng(0)
    return random.normal(0, 1, (40, 3)), random.uniform(0.1, 1.2, (40, 3))


@pytest.fixture
def prior():
    random = np.random.default_rng(1)
    return mixture(random.dirichlet(np.ones(4)), random.normal(0, 1.5, (4, 3)), random.uniform(0.2, 1, (4, 3)))


def test_divergence_from_a_standard_normal(posteriors, vae, table):
    def closed_form(mean, sd):
        posterior = torch.distributions.Normal(torch.as_tensor(mean), torch.as_tensor(sd))
        prior = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1.0)
        return torch.distributions.kl_divergence(posterior, prior).mean(0).numpy()

    np.testing.assert_allclose(divergence_of(*posteriors), closed_form(*posteriors))
    posterior = vae.posterior(table[0])
    np.testing.assert_allclose(latent_divergence(vae, table[0]), closed_form(posterior.mean, posterior.sd))


def test_quadrature_agrees_with_the_closed_form(posteriors):
    one = mixture([1.0], [[0.0, 0.0, 0.0]], [[1.0, 1.0, 1.0]])
    twins = mixture([0.3, 0.7], np.zeros((2, 3)), np.ones((2, 3)))
    np.testing.assert_allclose(divergence_of(*posteriors, one), divergence_of(*posteriors), rtol=1e-10)
    np.testing.assert_allclose(divergence_of(*posteriors, twins), divergence_of(*posteriors), rtol=1e-10)
    # a Gaussian elsewhere is a standard normal in other units
    mean, sd = posteriors
    means, sds = np.array([[1.0, -2.0, 0.5]]), np.array([[0.5, 2.0, 1.0]])
    value = divergence_of(mean, sd, mixture([1.0], means, sds))
    np.testing.assert_allclose(value, divergence_of((mean - means) / sds, sd / sds), rtol=1e-10)


def test_divergence_from_a_mixture_by_monte_carlo(posteriors, prior):
    mean, sd = posteriors
    draws = mean + sd * np.random.default_rng(2).standard_normal((20_000, *mean.shape))
    densities = sum(w * norm.pdf(draws, m, s) for w, m, s in zip(prior.weights, prior.means, prior.sds, strict=True))
    differences = (norm.logpdf(draws, mean, sd) - np.log(densities)).mean(axis=1)
    error = differences.std(axis=0) / np.sqrt(len(draws))
    assert error.max() < 0.005
    np.testing.assert_array_less(np.abs(divergence_of(mean, sd, prior) - differences.mean(axis=0)), 4 * error)


def test_laws_of_the_divergence(posteriors, prior):
    mean, sd = posteriors
    value = divergence_of(mean, sd, prior)
    assert value.shape == (3,)
    assert value.min() > 0
    # none where every posterior is the prior
    collapsed = mixture([0.5, 0.5], [[1.0], [1.0]], [[0.5], [0.5]])
    assert divergence_of(np.ones((4, 1)), np.full((4, 1), 0.5), collapsed) == pytest.approx(0, abs=1e-12)
    # order of samples, of units, of components; units of measurement
    rows, units, order = np.arange(40)[::-1], [2, 0, 1], [3, 1, 0, 2]
    np.testing.assert_allclose(divergence_of(mean, sd, prior, rows), value)
    turned = mixture(prior.weights, prior.means[:, units], prior.sds[:, units])
    np.testing.assert_allclose(divergence_of(mean[:, units], sd[:, units], turned), value[units])
    shuffled = mixture(prior.weights[order], prior.means[order], prior.sds[order])
    np.testing.assert_allclose(divergence_of(mean, sd, shuffled), value)
    affine = mixture(prior.weights, 3 - 2 * prior.means, 2 * prior.sds)
    np.testing.assert_allclose(divergence_of(3 - 2 * mean, 2 * sd, affine), value)
    # components without weight are not there; float32 as engines compute in
    spare = mixture([*prior.weights, 0.0], [*prior.means, [0.0] * 3], [*prior.sds, [1.0] * 3])
    np.testing.assert_allclose(divergence_of(mean, sd, spare), value)
    single = mixture(*(part.astype(np.float32) for part in (prior.weights, prior.means, prior.sds)))
    np.testing.assert_allclose(divergence_of(mean.astype(np.float32), sd.astype(np.float32), single), value, rtol=1e-5)


def test_far_from_every_component_densities_do_not_underflow():
    apart = mixture([0.5, 0.5], [[0.0], [1.0]], [[0.1], [0.1]])
    far = divergence_of(np.full((1, 1), 100.0), np.full((1, 1), 0.1), apart)
    # there the nearer component is all that counts, with half the weight
    assert far == pytest.approx(0.5 * (99 / 0.1) ** 2 + np.log(2))


def test_chunks_bound_memory_and_leave_no_trace(monkeypatch, prior):
    random = np.random.default_rng(0)
    mean, sd = random.normal(size=(2000, 1)), random.uniform(0.2, 1, (2000, 1))
    many = mixture(np.full(50, 1 / 50), random.normal(size=(50, 1)), random.uniform(0.2, 1, (50, 1)))
    tracemalloc.start()
    value = divergence_of(mean, sd, many)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6  # one array of 2000 samples, 32 nodes, 50 components has 26 MB
    monkeypatch.setattr(_embedding_metrics, "_CHUNK_ENTRIES", 7 * 32 * 50 + 1)
    np.testing.assert_allclose(divergence_of(mean, sd, many), value)
    monkeypatch.setattr(_embedding_metrics, "_CHUNK_ENTRIES", 1)
    np.testing.assert_allclose(divergence_of(mean[:50], sd[:50], many), divergence_of(mean, sd, many, np.arange(50)))


def test_divergence_inside_pipelines(table, scaled_vae):
    X, _ = table
    scaler, inner = scaled_vae[0], scaled_vae[1]
    expected = latent_divergence(inner, scaler.transform(X))
    np.testing.assert_array_equal(latent_divergence(scaled_vae, X), expected)
    followed = make_pipeline(FrozenEstimator(scaler), FrozenEstimator(inner), StandardScaler()).fit(X)
    np.testing.assert_array_equal(latent_divergence(followed, X), expected)


def test_divergence_of_exact_inference(table):
    """Estimators without posterior_family have Gaussians beside a standard normal."""
    X, _ = table
    model = DeVAETransformer(max_epochs=3, random_state=0).fit(X)
    posterior = model.posterior(X)
    assert latent_divergence(model, X) == pytest.approx(divergence_of(posterior.mean, posterior.sd))


def test_no_divergence_of_flows():
    pytest.importorskip("zuko")
    X = load_iris().data
    model = VAETransformer(posterior_family="iaf", n_flows=1, max_epochs=1, random_state=0).fit(X)
    model.set_params(posterior_family="normal")  # for the next fit
    with pytest.raises(
        ValueError,
        match=r"VAETransformer has posterior_family='iaf'.*no closed form.*posterior_family='normal'.*unit_activity",
    ):
        latent_divergence(model, X)


def test_divergence_from_a_fitted_mixture_of_posteriors():
    X = load_iris().data
    model = VampVAE(2, n_pseudo_inputs=5, max_epochs=5, random_state=0).fit(X)
    posterior, prior = model.posterior(X), model.prior_mixture_
    draws = posterior.mean + posterior.sd * np.random.default_rng(0).standard_normal((4000, *posterior.mean.shape))
    log_prior = logsumexp(norm.logpdf(draws[..., None], prior.means.T, prior.sds.T), axis=-1, b=prior.weights)
    expected = (norm.logpdf(draws, posterior.mean, posterior.sd) - log_prior).mean((0, 1))
    np.testing.assert_allclose(latent_divergence(model, X), expected, atol=0.01)


def test_no_divergence_of_points(posteriors):
    mean, sd = posteriors
    sd[3, 1] = 0
    with pytest.raises(ValueError, match=r"Encoded\.posterior gave sds that are not positive.*unit_activity"):
        divergence_of(mean, sd)
