"""DGDEmbedder: representations that are posterior modes, a mixture that clusters them, and likelihoods of both."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit, gammaln, logsumexp
from scipy.stats import bernoulli, multivariate_normal, nbinom, norm, poisson
from sklearn.base import clone
from sklearn.datasets import load_digits, make_blobs
from sklearn.decomposition import FactorAnalysis
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback
from torch import nn

from skdevae import DGDEmbedder
from skdevae.inference.importance import log_joint_at

COUNTS = ("poisson", "nb", "zinb")
LIKELIHOODS = ("gaussian", *COUNTS, "bernoulli")
#: numbers of samples in the clusters
SIZES = (60, 40, 20)


def quick(n_components=2, **parameters):
    """An estimator for laws that hold however long it trains."""
    settings = {
        "n_clusters": 3,
        "hidden_layer_sizes": (16,),
        "activation": "gelu",
        "weight_decay": 0.01,
        "noise_floor": 0.1,
        "learning_rate": 0.01,
        "batch_size": 60,
        "max_epochs": 10,
        "n_init": 1,
        "n_importance_samples": 100,
        "random_state": 0,
    }
    return DGDEmbedder(n_components, **{**settings, **parameters})


@cache
def blobs():
    """Three well separated clusters in six features, and labels."""
    return make_blobs(SIZES, n_features=6, cluster_std=1.0, random_state=1)


@cache
def counts():
    """Counts of three groups of samples, and of depths that differ."""
    generator = np.random.default_rng(0)
    shares = generator.dirichlet(np.ones(6), 3)[np.repeat(np.arange(3), SIZES)]
    means = 60 * np.exp(generator.normal(0, 0.5, (120, 1))) * shares
    return generator.negative_binomial(4, 4 / (4 + means)).astype(np.float64)


def table_for(likelihood):
    if likelihood == "gaussian":
        return blobs()[0]
    return np.minimum(counts(), 1) if likelihood == "bernoulli" else counts()


def holey(likelihood="gaussian", share=0.1):
    table = table_for(likelihood)
    return np.where(np.random.default_rng(0).random(table.shape) < share, np.nan, table)


@cache
def fitted(likelihood="gaussian", n_components=2, **parameters):
    """Shared between tests, which must not change it."""
    return quick(n_components, likelihood=likelihood, **parameters).fit(table_for(likelihood))


@cache
def factors():
    """A table with two factors, and noise of its own for each column."""
    generator = np.random.default_rng(0)
    loadings, noise = generator.normal(size=(2, 10)), generator.uniform(0.7, 1.5, 10)
    return 5 + 3 * (generator.standard_normal((200, 2)) @ loadings + noise * generator.standard_normal((200, 10)))


def copy_of(model, **parameters):
    """The same fitted model with other parameters, and a module of its own."""
    again = type(model)()
    again.__setstate__(model.__getstate__())
    return again.set_params(**parameters)


def assert_same_bits(one, other, table=None):
    assert_array_equal(other.embedding_, one.embedding_)
    assert_array_equal(other.labels_, one.labels_)
    assert_same_model(one, other)
    if table is not None:
        assert_array_equal(other.transform(table), one.transform(table))
        assert_array_equal(other.score_samples(table), one.score_samples(table))


def assert_same_model(one, other):
    for name in ("weights_", "means_", "covariances_"):
        assert_array_equal(getattr(other, name), getattr(one, name))
    assert other.log_posterior_ == one.log_posterior_
    assert other.history_[:, "train_loss"] == one.history_[:, "train_loss"]


def log_components(model, z):
    """``log w_k + log N(z | mean_k, covariance_k)`` at points (P, Q), by scipy: (P, K)."""
    return np.column_stack(
        [
            np.log(weight) + np.atleast_1d(multivariate_normal.logpdf(z, mean, np.diag(variances)))
            for weight, mean, variances in zip(model.weights_, model.means_, model.covariances_, strict=True)
        ]
    )


def log_sizes_of(rows):
    return np.log(rows.sum(1)) - np.median(np.log(counts().sum(1)))


def log_likelihood(model, rows, z):
    """log p(x | z) of rows (N, D) without gaps (counts) or with them at points (P, Q), by scipy: (N, P)."""
    curves = model.trajectories(z)
    if model.likelihood == "gaussian":
        entries = norm.logpdf(rows[:, None], curves, model.noise_scale_)
    elif model.likelihood == "bernoulli":
        entries = bernoulli.logpmf(rows[:, None], curves)
    else:
        means = np.exp(log_sizes_of(rows))[:, None, None] * curves
        if model.likelihood == "poisson":
            entries = poisson.logpmf(rows[:, None], means)
        else:
            theta = model.dispersion_
            entries = nbinom.logpmf(rows[:, None], theta, theta / (theta + means))
    return np.where(np.isnan(rows)[:, None], 0, entries).sum(-1)


def log_evidence(model, row, n_points):
    """log of the integral over the latent, and of each component's part in it (K,).

    It is on a grid that closes in on where the joint density is.
    """
    sds = np.sqrt(model.covariances_)
    lower, upper = (model.means_ - 8 * sds).min(0), (model.means_ + 8 * sds).max(0)
    for _ in range(4):
        axes = np.linspace(lower, upper, n_points)  # (n, Q)
        z = np.stack(np.meshgrid(*axes.T, indexing="ij"), -1).reshape(-1, len(lower))
        joint = log_likelihood(model, row[None], z)[0] + logsumexp(log_components(model, z), axis=1)
        inside, step = z[joint > joint.max() - 25], axes[1] - axes[0]
        lower, upper = inside.min(0) - step, inside.max(0) + step
    shares = log_components(model, z)
    shares -= logsumexp(shares, axis=1, keepdims=True)
    return logsumexp(joint) + np.log(step).sum(), logsumexp(joint[:, None] + shares, axis=0) + np.log(step).sum()


# ---- representations and clusters ----------------------------------------------------------------


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_what_a_fit_keeps_is_what_it_says_of_the_training_table(likelihood):
    model, table = fitted(likelihood), table_for(likelihood)
    assert_allclose(model.transform(table), model.embedding_, rtol=0, atol=1e-8)
    assert_array_equal(model.predict(table), model.labels_)
    if likelihood == "gaussian":
        assert_array_equal(clone(model).fit_predict(table), model.labels_)
        assert_array_equal(clone(model).fit_transform(table), model.embedding_)


@pytest.mark.parametrize("parameters", [{}, {"covariance_type": "isotropic"}, {"representation": "variational"}])
def test_probabilities_are_the_mixtures_responsibilities(parameters):
    table = blobs()[0]
    model = quick(3, **parameters).fit(table)
    assert_allclose(model.weights_.sum(), 1, rtol=1e-6)
    assert model.weights_.shape == (model.n_clusters_,)
    assert model.means_.shape == model.covariances_.shape == (model.n_clusters_, 3)
    for rows in (table, holey(), table[:40] + 3):
        shares, joint = model.predict_proba(rows), log_components(model, model.transform(rows))
        assert_allclose(shares.sum(1), 1, rtol=1e-10)
        assert_allclose(shares, np.exp(joint - logsumexp(joint, axis=1, keepdims=True)), rtol=0, atol=1e-5)
        assert_array_equal(model.predict(rows), shares.argmax(1))


@pytest.mark.parametrize("likelihood", ["gaussian", "nb", "bernoulli"])
def test_labels_are_consecutive_and_come_by_size(likelihood):
    for may_be_empty in (True, False):
        model = fitted(likelihood, n_clusters=5, may_be_empty=may_be_empty)
        sizes = np.bincount(model.labels_, minlength=model.n_clusters_)
        assert (np.diff(sizes) <= 0).all()
        assert len(sizes) == model.n_clusters_ <= 5
        assert may_be_empty or model.n_clusters_ == 5


@pytest.mark.parametrize("likelihood", ["gaussian", "nb", "bernoulli"])
def test_no_component_is_left_without_samples(likelihood):
    model = fitted(likelihood, n_clusters=5, may_be_empty=True)
    assert (np.bincount(model.labels_, minlength=model.n_clusters_) > 0).all()


@pytest.mark.parametrize("mixture_init", ["gmm", "kmeans"])
@pytest.mark.parametrize("representation", ["map", "variational"])
def test_separated_clusters_are_found(representation, mixture_init):
    table, truth = blobs()
    model = quick(representation=representation, mixture_init=mixture_init).fit(table)
    assert adjusted_rand_score(truth, model.labels_) == 1
    assert np.bincount(model.labels_).tolist() == list(SIZES)
    assert_allclose(model.weights_, np.array(SIZES) / 120, atol=0.05)


def test_clusters_that_do_not_pay_are_left_out():
    table, truth = blobs()
    fewer, all_of_them = (quick(n_clusters=7, may_be_empty=empty).fit(table) for empty in (True, False))
    assert fewer.n_clusters_ == len(fewer.weights_) == fewer.predict_proba(table).shape[1] == 3
    assert adjusted_rand_score(truth, fewer.labels_) == 1
    assert all_of_them.n_clusters_ == len(all_of_them.weights_) == all_of_them.predict_proba(table).shape[1] == 7
    assert_allclose([fewer.weights_.sum(), all_of_them.weights_.sum()], 1, rtol=1e-6)
    # never more than samples
    assert quick(n_clusters=50, may_be_empty=False).fit(table[:10]).n_clusters_ <= 10


@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
@pytest.mark.parametrize("hidden_layer_sizes", [(16,), ()])
def test_representations_are_modes(likelihood, hidden_layer_sizes):
    """Nothing near them has a higher joint density, and none of the components' means has."""
    model = fitted(likelihood, hidden_layer_sizes=hidden_layer_sizes)
    table = table_for(likelihood)[::8]
    z, sd = model.transform(table), model.posterior(table).sd
    generator = np.random.default_rng(0)
    for row, mode, width in zip(table, z, sd, strict=True):
        near = mode + width * generator.standard_normal((50, 2)) * np.geomspace(1e-3, 0.3, 50)[:, None]
        points = np.vstack([mode[None], near, model.means_])
        joint = log_likelihood(model, row[None], points)[0] + logsumexp(log_components(model, points), axis=1)
        assert joint.max() <= joint[0] + 5e-4


def test_rows_are_judged_one_by_one():
    model, rows = fitted(), holey()[:6]
    together, scores = model.transform(rows), model.score_samples(rows)
    assert_allclose(np.vstack([model.transform(row[None]) for row in rows]), together, rtol=0, atol=1e-8)
    assert_allclose(np.concatenate([model.score_samples(row[None]) for row in rows]), scores, rtol=1e-8)
    assert_allclose(model.transform(rows[::-1]), together[::-1], rtol=0, atol=1e-8)
    assert_allclose(model.predict_proba(rows[::-1]), model.predict_proba(rows)[::-1], atol=1e-8)


# ---- order, repetition, weights, seeds ----------------------------------------------------------------


def wrapped(kind, table):
    if kind == "sparse":
        return sp.csr_array(table)
    return pd.DataFrame(table).add_prefix("feature ") if kind == "frame" else table


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("dense", {}),
        ("dense", {"representation": "variational", "mixture_init": "kmeans"}),
        ("dense", {"latent_init": "zero", "mixture_init": "softball"}),
        ("frame", {}),
        ("gaps", {}),
        ("sparse", {"likelihood": "nb"}),
        ("dense", {"likelihood": "poisson", "size_factors": np.random.default_rng(3).uniform(0.2, 5, 120)}),
        ("gaps", {"likelihood": "nb"}),
    ],
)
def test_the_order_of_samples_does_not_matter(kind, parameters):
    likelihood = parameters.get("likelihood", "gaussian")
    table = holey(likelihood) if kind == "gaps" else table_for(likelihood)
    order = np.random.default_rng(0).permutation(len(table))
    reordered = {"size_factors": parameters["size_factors"][order]} if "size_factors" in parameters else {}
    one = quick(**parameters).fit(wrapped(kind, table))
    other = quick(**{**parameters, **reordered}).fit(wrapped(kind, table[order]))
    assert_array_equal(other.embedding_, one.embedding_[order])
    assert_array_equal(other.labels_, one.labels_[order])
    assert_same_model(one, other)


def test_the_order_of_samples_with_classes_and_weights_does_not_matter():
    table, y = blobs()
    order, weights = np.random.default_rng(0).permutation(len(table)), np.random.default_rng(1).integers(1, 4, 120)
    y = np.where(np.arange(120) % 3 == 0, -1, y)
    model = quick(supervised=True)
    one = clone(model).fit(table, y, sample_weight=weights)
    other = clone(model).fit(table[order], y[order], sample_weight=weights[order])
    assert_array_equal(other.embedding_, one.embedding_[order])
    assert_array_equal(other.labels_, one.labels_[order])
    assert_same_model(one, other)


def test_the_order_of_samples_without_weight_does_not_matter():
    table, weights = blobs()[0], np.random.default_rng(1).integers(0, 3, 120)
    one = quick().fit(table, sample_weight=weights)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(120)
        other = quick().fit(table[order], sample_weight=weights[order])
        assert_same_model(one, other)
        assert_array_equal(other.embedding_, one.embedding_[order])


@pytest.mark.parametrize(
    ("likelihood", "parameters"),
    [("gaussian", {}), ("gaussian", {"representation": "variational"}), ("nb", {}), ("nb", {"size_factors": None})],
)
def test_weights_are_repetitions(likelihood, parameters):
    table, weights = holey(likelihood), np.random.default_rng(0).integers(0, 4, 120)
    weighted = quick(likelihood=likelihood, **parameters).fit(table, sample_weight=weights)
    repeated = quick(likelihood=likelihood, **parameters).fit(np.repeat(table, weights, axis=0))
    assert_array_equal(np.repeat(weighted.embedding_, weights, axis=0), repeated.embedding_)
    assert_array_equal(np.repeat(weighted.labels_, weights), repeated.labels_)
    assert_same_model(weighted, repeated)
    assert_array_equal(weighted.score_samples(table), repeated.score_samples(table))
    # samples without weight are new ones to the model
    without = weights == 0
    removed = quick(likelihood=likelihood, **parameters).fit(table[~without], sample_weight=weights[~without])
    assert_same_model(removed, weighted)
    assert_array_equal(weighted.embedding_[~without], removed.embedding_)
    assert_allclose(weighted.embedding_[without], weighted.transform(table[without]), rtol=0, atol=1e-8)
    assert_array_equal(weighted.labels_[without], weighted.predict(table[without]))


def test_equal_samples_have_equal_representations():
    table = np.vstack([blobs()[0], blobs()[0][:20]])
    model = quick().fit(table)
    assert_array_equal(model.embedding_[120:], model.embedding_[:20])
    # and zeros have no sign
    table = np.where(np.arange(6) == 0, 0.0, blobs()[0])
    table[5, 0] = 1.0
    assert_same_bits(quick().fit(table), quick().fit(np.where(table == 0, -0.0, table)))


def test_gaps_have_no_sign():
    # NaN that came from 0 / 0, or through a minus, is no other NaN
    table = np.vstack([holey(), holey()[:10]])
    other = np.where(np.isnan(table), -np.nan, table)
    other[120:] = table[120:]
    assert_same_bits(quick().fit(table), quick().fit(other))


def test_weights_of_one_are_no_weights_and_others_are():
    table = blobs()[0]
    assert_same_bits(quick().fit(table), quick().fit(table, sample_weight=np.ones(120)), table[:5])
    heavy = quick().fit(table, sample_weight=np.where(blobs()[1] == 2, 5.0, 1.0))
    assert heavy.labels_[blobs()[1] == 2].max() == 0  # 20 samples that count as 100 are the largest cluster


@pytest.mark.parametrize("weights", [np.zeros(120), -np.ones(120), np.ones(7)], ids=["zero", "negative", "few"])
def test_weights_are_validated(weights):
    with pytest.raises(ValueError, match=r"[Ss]ample.weight|[Nn]egative"):
        quick().fit(blobs()[0], sample_weight=weights)


def test_a_column_that_only_samples_without_weight_have_is_refused():
    table, weights = blobs()[0].copy(), np.arange(120) >= 5
    table[5:, 2] = np.nan
    with pytest.raises(ValueError, match="column 2"):
        quick().fit(table[5:])
    with pytest.raises(ValueError, match="column 2"):
        quick().fit(table, sample_weight=weights.astype(float))


@pytest.mark.parametrize("parameters", [{}, {"representation": "variational"}, {"mixture_init": "softball"}], ids=str)
def test_same_seed_same_bits(parameters):
    table, torch_state = holey(), torch.get_rng_state()
    numpy_state = np.random.get_state()  # noqa: NPY002 - it is the global state that has to stay as it is
    one = quick(**parameters).fit(table)
    torch.manual_seed(7)
    assert_same_bits(one, quick(**parameters).fit(table), table[:20])
    torch.set_rng_state(torch_state)
    other = quick(random_state=1, **parameters).fit(table)
    assert (other.embedding_ != one.embedding_).any()
    one.sample(3, random_state=0)
    one.score_samples(table[:5])
    one.elbo(table[:5])
    assert_array_equal(torch.get_rng_state(), torch_state)
    for ours, theirs in zip(np.random.get_state(), numpy_state, strict=True):  # noqa: NPY002 - as above
        assert_array_equal(ours, theirs)


def test_fits_in_threads_do_not_mix():
    seeds = (0, 1, 2, 3)
    alone = [quick(random_state=seed).fit(blobs()[0]) for seed in seeds]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda seed: quick(random_state=seed).fit(blobs()[0]), seeds))
    for one, other in zip(alone, together, strict=True):
        assert_same_bits(one, other)


# ---- linear models ----------------------------------------------------------------


def linear(n_components=2, **parameters):
    settings = {"hidden_layer_sizes": (), "n_clusters": None, "weight_decay": 0.0, "noise_floor": 0.01}
    return quick(n_components, **{**settings, **parameters})


@cache
def factor_analysis():
    """scikit-learn's, and our model with its parameters."""
    theirs = FactorAnalysis(2, tol=1e-4, svd_method="lapack").fit(factors())
    ours = linear(max_epochs=1, n_importance_samples=200).fit(factors())
    module = ours.module_.double()
    scale, center = torch.from_numpy(ours._scale), torch.from_numpy(ours._center)
    with torch.no_grad():
        module.decoder.loadings.copy_(torch.from_numpy(theirs.components_) / scale)
        module.decoder.level.copy_((torch.from_numpy(theirs.mean_) - center) / scale)
        beyond_floor = torch.from_numpy(theirs.noise_variance_).sqrt() / scale - module.likelihood.floor
        module.likelihood.raw_scale.copy_(beyond_floor.expm1().log())
    return theirs, ours


def test_with_its_parameters_a_linear_model_is_factor_analysis():
    theirs, ours = factor_analysis()
    table = factors()[:40] * 1.5 - 2
    assert_allclose(ours.transform(table), theirs.transform(table), rtol=0, atol=1e-6)
    assert_allclose(ours.score_samples(table), theirs.score_samples(table), rtol=0, atol=1e-6)
    covariance = np.linalg.inv(np.eye(2) + theirs.components_ / theirs.noise_variance_ @ theirs.components_.T)
    posterior = ours.posterior(table, credible_level=0.9)
    assert_allclose(posterior.mean, theirs.transform(table), rtol=0, atol=1e-6)
    assert_allclose(posterior.sd, np.tile(np.sqrt(np.diag(covariance)), (40, 1)), rtol=1e-6)
    assert_allclose(posterior.upper - posterior.mean, norm.ppf(0.95) * posterior.sd, rtol=1e-6)
    assert_allclose(posterior.mean - posterior.lower, norm.ppf(0.95) * posterior.sd, rtol=1e-6)
    # Laplace's approximation is the posterior, so the bound is tight; it is an average over few draws
    draws = copy_of(ours, n_importance_samples=20_000)
    assert_allclose(draws.elbo(table), draws.score(table), rtol=0, atol=5e-3)
    z = np.random.default_rng(0).standard_normal((5, 2))
    assert_allclose(ours.inverse_transform(z), z @ theirs.components_ + theirs.mean_, rtol=1e-6)
    assert_allclose(ours.derivatives(z), np.tile(theirs.components_.T, (5, 1, 1)), rtol=1e-6, atol=1e-8)


def test_gaps_of_a_linear_model_are_marginalised():
    theirs, ours = factor_analysis()
    table = np.where(np.random.default_rng(0).random((40, 10)) < 0.3, np.nan, factors()[:40])
    covariance = theirs.get_covariance()
    for row, score, z in zip(table, ours.score_samples(table), ours.transform(table), strict=True):
        seen = ~np.isnan(row)
        expected = multivariate_normal.logpdf(row[seen], theirs.mean_[seen], covariance[np.ix_(seen, seen)])
        assert_allclose(score, expected, rtol=0, atol=1e-5)
        gain = theirs.components_[:, seen] @ np.linalg.inv(covariance[np.ix_(seen, seen)])
        # the mode, to about 1e-4 nats
        away = z - gain @ (row[seen] - theirs.mean_[seen])
        precision = np.eye(2) + theirs.components_[:, seen] / theirs.noise_variance_[seen] @ theirs.components_.T[seen]
        assert 0.5 * away @ precision @ away < 5e-4


def test_a_variational_fit_of_a_linear_model_is_factor_analysis():
    # with a short memory, Adam takes the noise of the draws for progress and stays 0.05 nats short
    trained = {"learning_rate": 0.03, "betas": (0.9, 0.999), "batch_size": 200, "max_epochs": 300, "tol": 0.0}
    model = linear(representation="variational", **trained).fit(factors())
    reference = factor_analysis()[0].score(factors())
    assert_allclose(model.score(factors()), reference, rtol=0, atol=0.03)
    variance = factors().var(0)
    expected = factor_analysis()[0].noise_variance_
    assert_allclose(model.noise_scale_**2 / variance, expected / variance, rtol=0, atol=0.1)


def test_a_map_fit_of_a_linear_model_thresholds_singular_values():
    """With noise at its floor, decay on the loadings and a normal prior add up to a nuclear norm (Srebro, 2004)."""
    decay, generator = 0.3, np.random.default_rng(0)
    table = generator.standard_normal((100, 4)) * [3, 2, 1, 0.2] @ generator.standard_normal((4, 8))
    trained = {"noise_floor": 0.99, "weight_decay": decay, "batch_size": 100, "max_epochs": 400, "tol": 0.0}
    model = linear(4, **trained).fit(table)
    standard = (table - table.mean(0)) / table.std(0)
    left, values, right = np.linalg.svd(standard, full_matrices=False)
    noise = (model.noise_scale_ / table.std(0)).mean()
    threshold = noise**2 * np.sqrt(decay * len(table))
    assert (values < threshold).any()
    assert (values > 2 * threshold).any()
    expected = left * np.maximum(values - threshold, 0) @ right
    found = (model.inverse_transform(model.embedding_) - table.mean(0)) / table.std(0)
    assert_allclose(found, expected, rtol=0, atol=0.02)


# ---- scores ----------------------------------------------------------------


def nonlinear(likelihood, n_components, n_clusters, n_draws=3000):
    model = fitted(likelihood, n_components, activation="tanh", n_clusters=n_clusters, max_epochs=40)
    return copy_of(model, n_importance_samples=n_draws)


def some_rows(likelihood):
    rows = table_for(likelihood)[::30].copy()
    if likelihood == "gaussian":
        rows[:2] = holey()[:60:30]
    return rows


@pytest.mark.parametrize("likelihood", ["gaussian", "nb", "bernoulli"])
@pytest.mark.parametrize("n_components", [1, 2])
def test_score_is_the_integral_over_the_latent(n_components, likelihood):
    model, rows = nonlinear(likelihood, n_components, 1), some_rows(likelihood)
    expected = [log_evidence(model, row, 1001 if n_components == 1 else 61)[0] for row in rows]
    assert_allclose(model.score_samples(rows), expected, rtol=0, atol=0.02)


@pytest.mark.parametrize("likelihood", ["gaussian", "nb", "bernoulli"])
@pytest.mark.parametrize("n_components", [1, 2])
def test_no_more_is_missing_from_a_score_than_other_components_hold(n_components, likelihood):
    model, rows = nonlinear(likelihood, n_components, 3), some_rows(likelihood)
    for row, score, k in zip(rows, model.score_samples(rows), model.predict(rows), strict=True):
        evidence, of_components = log_evidence(model, row, 1001 if n_components == 1 else 61)
        assert of_components[k] - 0.02 < score < evidence + 0.02


@pytest.mark.parametrize(
    ("likelihood", "representation"),
    [*((name, "map") for name in LIKELIHOODS), ("gaussian", "variational"), ("zinb", "variational")],
)
def test_the_bound_is_below_the_score(likelihood, representation):
    model, table = fitted(likelihood, representation=representation), holey(likelihood)[::2]
    assert_allclose(model.score(table), model.score_samples(table).mean(), rtol=1e-12)
    assert np.isfinite(model.score_samples(table)).all()
    assert model.elbo(table) <= model.score(table) + 1e-2
    assert model.elbo(table) > model.score(table) - 5
    # a point's density is no integral over the latent: what was seen of it is not paid for
    assert model.conditional_log_likelihood(table) > model.score(table)


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson", "nb", "bernoulli"])
def test_conditional_likelihood_is_that_at_the_representations(likelihood):
    model, rows = fitted(likelihood), table_for(likelihood)[::4]
    expected = log_likelihood(model, rows, model.transform(rows)).diagonal().mean()
    assert_allclose(model.conditional_log_likelihood(rows), expected, rtol=1e-6)


def test_a_gap_is_an_integral_over_the_entry():
    model = nonlinear("gaussian", 2, 3, n_draws=1000)
    table = blobs()[0][::50].copy()
    for row in table:
        copies = np.tile(row, (200, 1))
        grid = np.linspace(blobs()[0][:, 2].min() - 10, blobs()[0][:, 2].max() + 10, 200)
        copies[:, 2] = grid
        integral = logsumexp(model.score_samples(copies)) + np.log(grid[1] - grid[0])
        row[2] = np.nan
        assert_allclose(model.score_samples(row[None]), integral, rtol=0, atol=0.02)


@pytest.mark.parametrize("parameters", [{}, {"hidden_layer_sizes": ()}, {"representation": "variational"}], ids=str)
def test_units_do_not_matter(parameters):
    table, generator = holey(), np.random.default_rng(1)
    factor = 10 ** generator.uniform(-2, 2, 6) * [1, -1, 1, -1, 1, 1]
    changed = factor * table + generator.normal(0, 10, 6) * factor
    whole = {"batch_size": 120, "max_epochs": 30, **parameters}
    ours, theirs = quick(**whole).fit(table), quick(**whole).fit(changed)
    assert_array_equal(theirs.labels_, ours.labels_)
    in_other_units = ours.score_samples(table) - ~np.isnan(table) @ np.log(np.abs(factor))
    # reversed columns are other columns to a network that starts from the same weights
    assert_allclose(theirs.score_samples(changed).mean(), in_other_units.mean(), rtol=0, atol=0.2)
    shifted = factor**2 * table + 5
    theirs = quick(**whole).fit(shifted)
    in_other_units = ours.score_samples(table) - ~np.isnan(table) @ np.log(factor**2)
    assert_array_equal(theirs.labels_, ours.labels_)
    assert_allclose(theirs.score_samples(shifted).mean(), in_other_units.mean(), rtol=0, atol=0.02)
    assert_allclose(theirs.noise_scale_, ours.noise_scale_ * factor**2, rtol=0.05)


def test_a_fitted_models_units_are_the_tables():
    """The same module in other units: exactly the same likelihoods, but for the factor."""
    model, factor = fitted(), 10 ** np.random.default_rng(1).uniform(-2, 2, 6)
    other = copy_of(model)
    other._center, other._scale = factor * model._center + 3, factor * model._scale
    scores = model.score_samples(holey()) - ~np.isnan(holey()) @ np.log(factor)
    assert_allclose(other.score_samples(factor * holey() + 3), scores, rtol=1e-8)
    assert_allclose(other.transform(factor * holey() + 3), model.transform(holey()), rtol=0, atol=1e-6)


# ---- likelihoods ----------------------------------------------------------------


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_every_likelihood_fits_and_samples_in_its_support(likelihood):
    model, table = fitted(likelihood, max_epochs=30), table_for(likelihood)
    assert np.isfinite(model.score(table))
    # better than features that know nothing of each other
    one = quick(1, likelihood=likelihood, n_clusters=1, max_epochs=1, learning_rate=1e-6).fit(table)
    assert model.score(table) > one.score(table) + 0.1
    drawn = model.sample(2000, random_state=0)
    assert drawn.shape == (2000, 6)
    assert_array_equal(model.sample(2000, random_state=0), drawn)
    assert (model.sample(2000, random_state=1) != drawn).any()
    if likelihood == "gaussian":
        assert_allclose(drawn.mean(0), table.mean(0), rtol=0, atol=0.3 * table.std(0).max())
        return
    assert_array_equal(drawn, np.round(drawn))
    assert drawn.min() == 0
    if likelihood == "bernoulli":
        assert drawn.max() == 1
        assert_allclose(drawn.mean(0), table.mean(0), rtol=0, atol=0.15)
    else:
        assert_allclose(drawn.sum(1).mean(), table.sum(1).mean(), rtol=0.3)


@pytest.mark.parametrize("likelihood", [*COUNTS, "bernoulli"])
def test_sparse_tables_say_the_same(likelihood):
    model, table = fitted(likelihood), table_for(likelihood)
    sparse = sp.csr_array(table)
    for method in ("transform", "predict_proba", "score_samples"):
        assert_allclose(getattr(model, method)(sparse), getattr(model, method)(table), rtol=1e-6, atol=1e-6)
    assert_allclose(model.elbo(sparse), model.elbo(table), rtol=1e-8)


@pytest.mark.parametrize("likelihood", ["nb", "bernoulli"])
def test_a_fit_to_a_sparse_table_is_that_to_the_dense_one(likelihood):
    table = table_for(likelihood)
    dense, sparse = (quick(likelihood=likelihood, max_epochs=8).fit(X) for X in (table, sp.csr_array(table)))
    assert_array_equal(sparse.labels_, dense.labels_)
    assert_allclose(sparse.history_[:, "train_loss"], dense.history_[:, "train_loss"], rtol=1e-6)
    assert_allclose(sparse.embedding_, dense.embedding_, rtol=0, atol=1e-6)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_expected_values_are_in_the_tables_units(likelihood):
    model, table = fitted(likelihood, max_epochs=30), table_for(likelihood)
    z = model.embedding_
    expected = model.inverse_transform(z)
    assert expected.shape == table.shape
    assert_array_equal(expected, model.trajectories(z))
    if likelihood in COUNTS:  # of samples of median size
        table = table / np.exp(log_sizes_of(table))[:, None]
        assert_allclose(expected.sum(1), np.exp(np.median(np.log(counts().sum(1)))), rtol=0.15)
    errors = [((table - guess) ** 2).sum() for guess in (expected, table.mean(0))]
    assert errors[0] < 0.9 * errors[1]
    step = 1e-5
    slopes = [(model.trajectories(z[:5] + move) - expected[:5]) / step for move in step * np.eye(2)]
    assert_allclose(model.derivatives(z[:5]), np.stack(slopes, -1), rtol=1e-3, atol=1e-3 * table.std())
    with pytest.raises(ValueError, match="3 columns, but the latent has 2"):
        model.inverse_transform(np.ones((2, 3)))


def test_sizes_of_samples_have_their_part_in_their_likelihoods():
    for size_factors in (None, np.random.default_rng(2).uniform(0.2, 5, 120), lambda table: table.sum(1) ** 0.5):
        model = quick(likelihood="poisson", size_factors=size_factors).fit(counts())
        given = size_factors(counts()) if callable(size_factors) else size_factors
        log_sizes = np.zeros(120) if given is None else np.log(given) - np.median(np.log(given))
        means = np.exp(log_sizes)[:, None] * model.inverse_transform(model.embedding_)
        expected = poisson.logpmf(counts(), means).sum(1).mean()
        assert_allclose(model.conditional_log_likelihood(counts()), expected, rtol=1e-6)


def test_a_sample_without_counts_is_named_by_its_row():
    table = counts().copy()
    table[[17, 90]] = 0
    with pytest.raises(ValueError, match=r"2 rows have no counts.*the first is row 17\)"):
        quick(likelihood="nb").fit(table)
    sizes = np.ones(120)
    sizes[31] = 0
    with pytest.raises(ValueError, match=r"the first is row 31\)"):
        quick(likelihood="nb", size_factors=sizes).fit(table)


# ---- simulation ----------------------------------------------------------------


def test_a_cluster_can_be_sampled():
    model = fitted(max_epochs=60)
    for k in range(3):
        drawn = model.sample(100, cluster=k, random_state=k)
        assert (model.predict(drawn) == k).mean() > 0.9
        center = blobs()[0][model.labels_ == k].mean(0)
        assert_allclose(drawn.mean(0), center, rtol=0, atol=1.5)
    whole = model.predict(model.sample(1000, random_state=0))
    assert_allclose(np.bincount(whole, minlength=3) / 1000, model.weights_, rtol=0, atol=0.1)
    z = model.sample_latent(1000, random_state=0)
    noise = (model.sample(1000, random_state=0) - model.inverse_transform(z)) / model.noise_scale_
    assert_allclose(noise.std(0), 1, rtol=5 / np.sqrt(2000))
    with pytest.raises(ValueError, match="cluster=3, but the mixture has components 0 to 2"):
        model.sample(2, cluster=3)
    for wrong in ({"cluster": -1}, {"cluster": 0.5}, {"n_samples": 0}):
        (name,) = wrong
        with pytest.raises(ValueError, match=name):
            model.sample(**wrong)


# ---- classes ----------------------------------------------------------------


def overlapping():
    """Two clusters that nothing but labels could tell apart well."""
    generator = np.random.default_rng(0)
    y = np.arange(100) % 2
    return generator.standard_normal((100, 5)) + 0.8 * y[:, None], y


@pytest.mark.parametrize("names", [None, ["oak", "ash", "elm"], [7, 3, 5]], ids=str)
@pytest.mark.parametrize("representation", ["map", "variational"])
def test_classes_have_components(names, representation):
    table, truth = blobs()
    y = truth if names is None else np.array(names)[truth]
    model = quick(supervised=True, n_clusters=8, representation=representation, max_epochs=80).fit(table, y)
    assert_array_equal(model.classes_, np.unique(y))
    assert model.n_clusters_ == 3
    assert adjusted_rand_score(y, model.labels_) > 0.99
    assert_array_equal(model.classes_[model.labels_], y)
    assert_array_equal(model.classes_[model.predict(table)], y)
    for k, name in enumerate(model.classes_):
        own = model.embedding_[y == name].mean(0)
        assert_allclose(own, model.means_[k], rtol=0, atol=0.5 * np.sqrt(model.covariances_[k]).max())
    assert_array_equal(quick(supervised=True, n_clusters=8).fit_predict(table, y.tolist()), model.labels_)


def test_a_known_class_is_worth_as_much_as_its_component():
    """Of a linear gaussian model, a sample's mode under its class's component is in closed form."""
    table, y = overlapping()
    y[:20] = -1
    model = quick(supervised=True, hidden_layer_sizes=(), n_clusters=2).fit(table, y)
    center, noise = model.trajectories(np.zeros((1, 2)))[0], model.noise_scale_
    loadings = model.trajectories(np.eye(2)) - center
    information = loadings / noise**2 @ loadings.T
    expected = [
        np.linalg.solve(
            information + np.diag(1 / model.covariances_[k]),
            loadings @ ((row - center) / noise**2) + model.means_[k] / model.covariances_[k],
        )
        for row, k in zip(table[20:], y[20:], strict=True)
    ]
    assert_allclose(model.embedding_[20:], expected, rtol=0, atol=0.02)
    assert_allclose(model.embedding_[:20], model.transform(table[:20]), rtol=0, atol=1e-8)
    assert np.abs(model.embedding_[20:] - model.transform(table[20:])).max() > 0.1
    shares = np.exp(log_components(model, model.embedding_))
    assert_array_equal(model.labels_, shares.argmax(1))


def test_classes_help_where_the_table_does_not():
    table, y = overlapping()
    known = quick(supervised=True, n_clusters=2).fit(table, y)
    assert adjusted_rand_score(y, known.labels_) > adjusted_rand_score(y, quick(n_clusters=2).fit_predict(table))


def test_samples_without_a_class_can_have_components_of_their_own():
    table, truth = blobs()
    y = np.where(truth == 1, -1, truth)
    y[::7] = -1
    model = quick(supervised=True, n_clusters=3, max_epochs=60).fit(table, y)
    assert model.classes_.tolist() == [0, 2]
    assert adjusted_rand_score(truth, quick(supervised=True, n_clusters=2, max_epochs=60).fit(table, y).labels_) < 0.99
    known = y >= 0
    assert_array_equal(model.classes_[model.labels_[known]], y[known])
    # as many as there are to be had, where there are samples for them
    assert quick(supervised=True, n_clusters=5).fit(table, truth).n_clusters_ == 3
    novel = quick(supervised=True, n_clusters=3, max_epochs=60).fit(table, np.where(truth == 1, -1, truth))
    assert novel.n_clusters_ == 3
    assert_array_equal(np.array([0, 2, 1])[novel.labels_], truth)


@pytest.mark.parametrize(
    ("parameters", "y", "message"),
    [
        ({}, None, "supervised=True needs y"),
        ({}, np.full(120, -1), "y says of no sample"),
        ({}, np.zeros(7), r"y has shape \(7,\), but X has 120 rows"),
        ({}, np.zeros((120, 2)), r"y has shape \(120, 2\)"),
        ({"n_clusters": None}, np.zeros(120), "n_clusters=None.*number of classes"),
    ],
    ids=["none", "unknown", "short", "wide", "no mixture"],
)
def test_classes_are_validated(parameters, y, message):
    with pytest.raises(ValueError, match=message):
        quick(supervised=True, **parameters).fit(blobs()[0], y)


@pytest.mark.parametrize("unknown", [-1, None, np.nan])
def test_classes_can_be_unknown_in_a_column_of_objects(unknown):
    table, y = blobs()
    hidden = np.arange(len(y)) % 3 == 0
    numbers = quick(supervised=True).fit(table, np.where(hidden, -1, y))
    names = np.array(["a", "b", "c"], dtype=object)[y] if unknown != -1 else y.astype(object)
    objects = quick(supervised=True).fit(table, np.where(hidden, np.array([unknown], dtype=object), names))
    assert len(objects.classes_) == 3
    assert_array_equal(objects.embedding_, numbers.embedding_)


def test_classes_that_only_samples_without_weight_have_are_removed():
    table, y = blobs()
    removed = quick(supervised=True).fit(table[y != 1], y[y != 1])
    weighted = quick(supervised=True).fit(table, y, sample_weight=y != 1)
    assert_array_equal(weighted.classes_, removed.classes_)
    assert_same_model(removed, weighted)
    with pytest.raises(ValueError, match="y says of no sample"):
        quick(supervised=True).fit(table, np.where(y == 1, -1, y), sample_weight=y == 1)


def test_y_plays_no_part_without_supervision():
    table, y = blobs()
    model = quick().fit(table, y)
    assert_same_bits(model, quick().fit(table))
    assert not hasattr(model, "classes_")
    again = quick(supervised=True).fit(table, y).set_params(supervised=False).fit(table)
    assert not hasattr(again, "classes_")


# ---- decoders of the user's ----------------------------------------------------------------


@cache
def digits():
    return load_digits().data[:150]


def convolutional(size=8, seed=0):
    """From (n, 3) to images (n, 1, size, size)."""
    torch_state = torch.get_rng_state()
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Unflatten(1, (3, 1, 1)),
        nn.ConvTranspose2d(3, 8, 4),
        nn.GELU(),
        nn.ConvTranspose2d(8, 1, 4, stride=2, padding=1) if size == 8 else nn.ConvTranspose2d(8, 1, 2),
    )
    torch.set_rng_state(torch_state)
    return network


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_a_convolutional_decoder_learns_images(likelihood):
    table = digits() if likelihood == "gaussian" else (digits() > 7).astype(float)
    network = convolutional().train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    model = quick(3, likelihood=likelihood, decoder=network, batch_size=25, max_epochs=30).fit(table)
    losses = model.history_[:, "train_loss"]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    expected, means = model.inverse_transform(model.embedding_), np.broadcast_to(table.mean(0), table.shape)
    assert expected.shape == table.shape
    assert ((table - expected) ** 2).mean() < 0.9 * ((table - means) ** 2).mean()
    # the user's network is the start, and stays it
    assert model.decoder is network
    assert network.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    for name, tensor in network.state_dict().items():
        assert_array_equal(tensor, before[name])
    assert_array_equal(clone(model).fit(table).embedding_, model.embedding_)
    other = clone(model).set_params(decoder=convolutional(seed=1)).fit(table)
    assert (other.embedding_ != model.embedding_).any()
    with torch.no_grad():
        curves = model.module_.decoder.module(torch.from_numpy(model.embedding_).float()).flatten(1).double().numpy()
    linked = model._center + model._scale * curves if likelihood == "gaussian" else expit(curves)
    assert_allclose(expected, linked, rtol=1e-3, atol=1e-3)


def test_a_model_with_a_decoder_of_the_users_can_be_copied():
    model = quick(3, decoder=convolutional(), max_epochs=2).fit(digits())
    again = pickle.loads(pickle.dumps(model))
    assert_same_bits(model, again, digits()[:20])
    assert_array_equal(again.sample(3, random_state=0), model.sample(3, random_state=0))
    assert model.get_params()["decoder"] is model.decoder
    unfitted = clone(model)
    assert unfitted.decoder is not model.decoder
    assert {name: value for name, value in unfitted.get_params().items() if name != "decoder"} == {
        name: value for name, value in model.get_params().items() if name != "decoder"
    }
    with pytest.raises(NotFittedError):
        unfitted.transform(digits())
    # what happens to the user's network later is not the fitted model's business
    before = model.transform(digits()[:5])
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.zero_()
    assert_array_equal(model.transform(digits()[:5]), before)
    assert_array_equal(pickle.loads(pickle.dumps(model)).transform(digits()[:5]), before)


def test_a_decoder_of_the_wrong_size_is_refused():
    with pytest.raises(ValueError, match=r"returned 25 values.*64 features"):
        quick(3, decoder=convolutional(size=5)).fit(digits())
    with pytest.raises(ValueError, match="decoder"):
        quick(decoder="linear").fit(blobs()[0])


def test_a_decoder_that_draws_does_so_from_the_seed():
    layers = nn.Linear(2, 8), nn.BatchNorm1d(8), nn.GELU(), nn.Dropout(0.2), nn.Linear(8, 6)
    model, state = quick(decoder=nn.Sequential(*layers)), torch.get_rng_state()
    one = clone(model).fit(blobs()[0])
    drawn = (torch.get_rng_state() != state).any()
    torch.manual_seed(7)
    other = clone(model).fit(blobs()[0])
    torch.set_rng_state(state)
    assert_allclose(one.transform(blobs()[0]), one.embedding_, rtol=0, atol=1e-8)
    assert_same_bits(one, other)
    assert not drawn


def test_a_decoder_without_parameters_will_do():
    model = quick(6, n_clusters=3, decoder=nn.Identity()).fit(blobs()[0])
    z = model.embedding_
    assert_allclose(model.inverse_transform(z), model._center + model._scale * z, rtol=1e-8)


# ---- starts and training ----------------------------------------------------------------


@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_the_published_start_fits(likelihood):
    published = {"latent_init": "zero", "mixture_init": "softball", "refit_mixture": False, "may_be_empty": False}
    model = quick(likelihood=likelihood, max_epochs=20, **published).fit(table_for(likelihood))
    assert model.n_clusters_ == 3
    assert np.isfinite(model.score(table_for(likelihood)))
    losses = model.history_[:, "train_loss"]
    assert losses[-1] < losses[0]
    # without a mixture there is nothing to tell apart at the start
    assert quick(latent_init="zero", n_clusters=None).fit(blobs()[0]).n_clusters_ == 1


@pytest.mark.parametrize("mixture_init", ["gmm", "kmeans"])
def test_a_mixture_cannot_be_fitted_to_zeros(mixture_init):
    with pytest.raises(ValueError, match=r"latent_init='zero'.*latent_init='pca', or mixture_init='softball'"):
        quick(latent_init="zero", mixture_init=mixture_init).fit(blobs()[0])


def test_fixed_covariances_stay_where_they_start():
    settings = {"covariance_type": "fixed", "mixture_init": "softball", "softball_scale": 2.0, "may_be_empty": False}
    model = quick(**settings).fit(blobs()[0])
    assert_allclose(model.covariances_, (0.2 * 2.0 / 3) ** 2, rtol=1e-5)
    assert np.ptp(quick(**{**settings, "covariance_type": "diag"}).fit(blobs()[0]).covariances_) > 1e-4
    isotropic = quick(covariance_type="isotropic").fit(blobs()[0]).covariances_
    assert_allclose(isotropic[:, 0], isotropic[:, 1], rtol=1e-12)
    assert np.ptp(isotropic[:, 0]) > 1e-3


def test_a_concentrated_prior_draws_weights_to_equal_ones():
    spread = [np.ptp(quick(dirichlet_alpha=alpha).fit(blobs()[0]).weights_) for alpha in (1.0, 3.0, 1000.0)]
    assert spread[0] > spread[1] > spread[2]
    assert spread[2] < 0.01


def test_one_component_that_is_not_learned():
    model = fitted(n_clusters=None)
    assert_array_equal(model.weights_, [1])
    assert_array_equal(model.means_, [[0, 0]])
    assert_array_equal(model.covariances_, [[1, 1]])
    assert_array_equal(model.predict_proba(holey()), np.ones((120, 1)))
    assert_array_equal(model.labels_, 0)
    assert model.n_clusters_ == 1


def test_history_has_every_term_of_the_loss():
    for representation in ("map", "variational"):
        model = fitted(representation=representation)
        assert len(model.history_) == model.n_iter_ == 10
        for row in model.history_:
            terms = row["train_reconstruction"] + row["train_latent"] + row["train_parameters"] / 120
            assert_allclose(row["train_loss"], terms, rtol=1e-4)
    unchanged = quick(tol=1e6, n_iter_no_change=3).fit(blobs()[0])
    assert unchanged.n_iter_ == 4


@pytest.mark.parametrize("prior_weight", ["n_samples", 1.0])
def test_log_posterior_is_the_objective(prior_weight):
    """Eq. 3 of the paper, term by term, a sample."""
    parameters = {"prior_weight": prior_weight, "dirichlet_alpha": 2.0, "softball_sharpness": 3.0, "weight_decay": 0.1}
    model = quick(**parameters).fit(blobs()[0])
    z, module = model.embedding_, model.module_
    of_samples = log_likelihood(model, blobs()[0], z).diagonal() + logsumexp(log_components(model, z), axis=1)
    radius = module.mixture.softball.scale  # in two dimensions, the ball's volume is an area
    of_means = -np.log(np.pi * radius**2) - np.logaddexp(0, 3 * (np.linalg.norm(model.means_, axis=1) / radius - 1))
    of_weights = np.log(model.weights_).sum() + gammaln(6) - 3 * gammaln(2)
    of_variances = norm.logpdf(-np.log(model.covariances_), module.mixture.log_precision_mean.numpy())
    of_mixture = of_means.sum() + of_weights + of_variances.sum()
    squares = sum(float(weights.square().sum()) for weights in module.decoder.parameters() if weights.ndim == 2)
    of_parameters = (120 if prior_weight == "n_samples" else 1.0) * of_mixture - 0.5 * 120 * 0.1 * squares
    assert_allclose(model.log_posterior_, of_samples.mean() + of_parameters / 120, rtol=0, atol=1e-3)


@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_training_raises_the_posterior(likelihood):
    # log p(phi) counts the components: all of them have to stay
    fits = [fitted(likelihood, max_epochs=epochs, may_be_empty=False) for epochs in (1, 10, 60)]
    values = [model.log_posterior_ for model in fits]
    assert np.isfinite(values).all()
    assert values[0] < values[1] < values[2]


class KeyboardAt(Callback):
    """The keyboard itself: raised while a batch is being worked on."""

    def __init__(self, monkeypatch, epoch):
        self.monkeypatch, self.epoch = monkeypatch, epoch

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) > self.epoch:

            def stopped(*args, **kwargs):
                raise KeyboardInterrupt

            self.monkeypatch.setattr(net, "train_step", stopped)


class Stop(Callback):
    """Ends training in skorch's way."""

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 4:
            raise KeyboardInterrupt


@pytest.mark.parametrize("representation", ["map", "variational"])
@pytest.mark.parametrize("epoch", [0, 4])
def test_an_interrupted_fit_keeps_what_it_has_learned(epoch, representation, monkeypatch):
    table = blobs()[0]
    with pytest.warns(ConvergenceWarning, match=f"interrupted after {epoch} epochs"):
        model = quick(callbacks=[KeyboardAt(monkeypatch, epoch)], representation=representation).fit(table)
    assert model.n_iter_ == len(model.history_) == epoch
    assert_allclose(model.transform(table), model.embedding_, rtol=0, atol=1e-8)
    assert np.isfinite([model.score(table), model.log_posterior_]).all()


def test_a_callback_that_stops_a_fit_does_not_interrupt_it():
    # skorch's own way to end training: no warning, which would be an error here
    model = quick(callbacks=[Stop()]).fit(blobs()[0])
    assert model.n_iter_ == len(model.history_) == 4


# ---- gaps ----------------------------------------------------------------


def test_samples_with_gaps_are_where_the_rest_of_them_says():
    model, table, labels = fitted(max_epochs=60), blobs()[0].copy(), fitted(max_epochs=60).labels_
    for column in range(6):
        rows = table.copy()
        rows[:, column] = np.nan
        assert np.isfinite(model.transform(rows)).all()
        assert adjusted_rand_score(labels, model.predict(rows)) > 0.8
    assert adjusted_rand_score(blobs()[1], quick(max_epochs=60).fit(holey(share=0.3)).labels_) > 0.9


def test_a_sample_without_entries_is_at_the_densest_mean():
    model, rows = fitted(), blobs()[0][:3].copy()
    complete = model.transform(rows), model.score_samples(rows)
    rows[1] = np.nan
    with pytest.warns(UserWarning, match=r"1 rows have no observed entry \(the first is row 1\)"):
        z = model.transform(rows)
    density = logsumexp(log_components(model, model.means_), axis=1)
    assert_allclose(z[1], model.means_[density.argmax()], rtol=0, atol=0.01)
    assert_allclose(z[[0, 2]], complete[0][[0, 2]], rtol=0, atol=1e-8)
    with pytest.warns(UserWarning, match="no observed entry"):
        scores = model.score_samples(rows)
    assert scores[1] == 0  # the integral of everything
    assert_allclose(scores[[0, 2]], complete[1][[0, 2]], rtol=1e-8)
    with pytest.warns(UserWarning, match="no observed entry"):
        assert model.elbo(rows[1:2]) == 0


def test_a_fit_needs_something_of_every_row_and_column():
    row, column = blobs()[0].copy(), pd.DataFrame(blobs()[0]).add_prefix("feature ")
    row[7] = np.nan
    column["feature 3"] = np.nan
    with pytest.raises(ValueError, match=r"1 rows have no observed entry \(the first is row 7\)"):
        quick().fit(row)
    with pytest.raises(ValueError, match="column 'feature 3': every entry is NaN"):
        quick().fit(column)


# ---- degenerate tables ----------------------------------------------------------------


def test_more_components_than_columns():
    model = quick(9).fit(blobs()[0])
    assert model.embedding_.shape == (120, 9)
    assert adjusted_rand_score(blobs()[1], model.labels_) == 1


@pytest.mark.parametrize("n_clusters", [1, 10])
def test_fewer_different_rows_than_components(n_clusters):
    generator = np.random.RandomState(42)  # the table of scikit-learn's check of sample weights
    table, weights = generator.uniform(size=(15, 30)), generator.randint(1, 5, size=15)
    table = table[::2].repeat(weights[::2], axis=0)
    model = quick(20, n_clusters=n_clusters, max_epochs=2, n_importance_samples=10).fit(table)
    assert np.isfinite(model.score(table))
    assert model.covariances_.max() < 1e6 * model.embedding_.var()


def test_a_table_of_equal_rows_and_a_constant_column():
    equal = quick().fit(np.ones((10, 4)))
    assert equal.n_clusters_ == 1
    assert_array_equal(np.ptp(equal.embedding_, axis=0), 0)
    table = blobs()[0].copy()
    table[:, 4] = 7.0
    model = quick().fit(table)
    assert np.isfinite(model.score(table))
    assert_allclose(model.inverse_transform(model.embedding_)[:, 4], 7, rtol=0.05)


# ---- inside scikit-learn ----------------------------------------------------------------


def test_the_number_of_clusters_can_be_searched_for():
    table, truth = blobs()
    order = np.random.default_rng(0).permutation(120)
    model = quick(may_be_empty=False)
    grid = {"n_clusters": [2, 3, 6]}
    search = GridSearchCV(model, grid, scoring="adjusted_rand_score", cv=2, error_score="raise")
    search.fit(table[order], truth[order])
    assert search.best_params_ == {"n_clusters": 3}
    assert search.best_score_ > 0.95
    by_likelihood = GridSearchCV(model, {"n_components": [1, 2]}, cv=2, error_score="raise").fit(table[order])
    assert by_likelihood.best_params_ == {"n_components": 2}


def test_names_of_latents_and_frames():
    frame = pd.DataFrame(blobs()[0], index=[f"row {i}" for i in range(120)]).add_prefix("feature ")
    pipeline = make_pipeline(StandardScaler(), quick(3, max_epochs=2)).set_output(transform="pandas")
    latent = pipeline.fit_transform(frame)
    assert latent.columns.tolist() == ["dgdembedder0", "dgdembedder1", "dgdembedder2"]
    assert pipeline[-1].get_feature_names_out().tolist() == latent.columns.tolist()
    assert latent.index.equals(frame.index)
    assert_allclose(pipeline.transform(frame), latent, rtol=0, atol=1e-8)
    assert_array_equal(pipeline.predict(frame), pipeline[-1].labels_)
    assert pipeline[-1].feature_names_in_.tolist() == frame.columns.tolist()


def test_the_tables_type_is_kept():
    table = blobs()[0].astype(np.float32)
    model = quick(max_epochs=2).fit(table)
    assert model.embedding_.dtype == model.transform(table).dtype == np.float32
    wide = quick(max_epochs=2).fit(table.astype(np.float64))
    assert wide.embedding_.dtype == np.float64
    assert_array_equal(wide.embedding_.astype(np.float32), model.embedding_)


@pytest.mark.parametrize(
    "parameters",
    [
        {"n_components": 0},
        {"n_clusters": 0},
        {"n_clusters": 2.5},
        {"representation": "laplace"},
        {"supervised": "yes"},
        {"likelihood": "normal"},
        {"latent_init": "random"},
        {"mixture_init": "random"},
        {"covariance_type": "full"},
        {"may_be_empty": None},
        {"dirichlet_alpha": 0},
        {"softball_scale": -1},
        {"softball_sharpness": 0},
        {"prior_weight": "all"},
        {"prior_weight": -1.0},
        {"refit_mixture": 1.5},
        {"hidden_layer_sizes": (0,)},
        {"hidden_layer_sizes": (3.5,)},
        {"learning_rate": 0},
        {"latent_learning_rate": 0},
        {"mixture_learning_rate": -1},
        {"betas": 0.5},
        {"betas": (0.5,)},
        {"betas": (0.5, 1.0)},
        {"betas": (-0.1, 0.9)},
        {"betas": ("a", "b")},
        {"n_importance_samples": 0},
        {"size_factors": "mean"},
        {"size_factors": np.ones(120)},
    ],
    ids=str,
)
def test_parameters_are_validated(parameters):
    (name,) = parameters
    with pytest.raises(ValueError, match=name):
        quick(**parameters).fit(blobs()[0])


# ---- at the edges ---------------------------------------------------------------------------------------------------


class FitsAnother(Callback):
    """Fits another model with a decoder of the user's while one is being fitted."""

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 1:
            quick(decoder=torch.nn.Linear(2, 6), max_epochs=1).fit(blobs()[0][:, :6])


def test_fits_with_decoders_can_be_nested():
    table = blobs()[0][:, :6]
    outer = {"decoder": torch.nn.Linear(2, table.shape[1]), "max_epochs": 3}
    alone = quick(**outer).fit(table)
    assert_same_bits(quick(**outer, callbacks=[FitsAnother()]).fit(table), alone.set_params(callbacks=[FitsAnother()]))


@pytest.mark.parametrize("width", [3, 80])
def test_a_table_of_one_row_and_its_copies_is_one_cluster(width):
    model = quick().fit(np.tile(np.arange(float(width)), (10, 1)))
    assert model.n_clusters_ == 1
    assert np.isfinite(model.embedding_).all()


def test_after_a_fit_that_failed_there_is_no_model():
    table = blobs()[0]
    model = quick().fit(table)
    with pytest.raises(ValueError, match="stopped being finite"):
        model.set_params(learning_rate=1e30).fit(table)
    with pytest.raises(NotFittedError):
        model.transform(table)


@pytest.mark.parametrize("mixture_init", ["gmm", "kmeans", "softball"])
def test_every_start_serves_classes(mixture_init):
    table, y = blobs()
    model = quick(supervised=True, mixture_init=mixture_init, max_epochs=60).fit(table, y)
    assert adjusted_rand_score(y, model.labels_) > 0.99


@pytest.mark.parametrize(("given", "same"), [({}, "gmm"), ({"latent_init": "zero"}, "softball")])
def test_what_the_mixture_starts_from_if_nothing_is_said(given, same):
    table, y = blobs()
    assert_same_bits(quick(**given).fit(table), quick(**given, mixture_init=same).fit(table))
    if not given:
        supervised = quick(supervised=True)
        assert_same_bits(clone(supervised).fit(table, y), quick(supervised=True, mixture_init="softball").fit(table, y))
        y = np.where(np.arange(len(y)) % 3, y, -1)
        assert_same_bits(clone(supervised).fit(table, y), quick(supervised=True, mixture_init="gmm").fit(table, y))


def test_classes_are_kinds():
    table, y = blobs()
    with pytest.raises(ValueError, match="continuous"):
        quick(supervised=True).fit(table, np.linspace(0, 1, len(y)))
    names = [["a", "b", "c"][k] if row % 3 else -1 for row, k in enumerate(y)]  # numpy would make text of the -1
    assert list(quick(supervised=True).fit(table, names).classes_) == ["a", "b", "c"]
    with pytest.raises(ValueError, match="cannot be sorted"):
        quick(supervised=True).fit(table, [name if row % 2 else 7 for row, name in enumerate(names)])


def test_known_classes_count_where_weights_do_not():
    table, y = blobs()
    y = y.copy()
    y[0] = (y[0] + 1) % 3
    weight = np.ones(len(y))
    weight[0] = 0
    given = {"supervised": True, "max_epochs": 60}
    small = quick(**given).fit(table, y, sample_weight=np.where(weight, 1, 1e-9))
    assert_allclose(quick(**given).fit(table, y, sample_weight=weight).embedding_[0], small.embedding_[0], atol=0.1)


def test_a_decoder_with_batch_normalisation_takes_batches_of_any_number_of_rows():
    table = blobs()[0][:33]
    decoder = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, table.shape[1]))
    assert np.isfinite(quick(decoder=decoder, batch_size=32).fit(table).embedding_).all()


@pytest.mark.parametrize("n_draws", [50, 500])
def test_bounds_of_linear_models_are_exact_however_few_the_draws(n_draws):
    model = quick(2, n_clusters=None, hidden_layer_sizes=()).fit(factors()).set_params(n_importance_samples=n_draws)
    assert model.elbo(factors()) == pytest.approx(model.score(factors()), abs=1e-6)


def test_representations_are_looked_for_to_the_tolerance_that_is_asked_for():
    model = fitted("nb")
    table = table_for("nb")
    best = copy_of(model, latent_tol=1e-10).transform(table)

    def missing(tolerance):
        """Nats between where a search ends and the mode, the most of any sample."""
        module, source, _ = model._for_inference(table)
        ends = copy_of(model, latent_tol=tolerance).transform(table)
        values = [log_joint_at(module, source.rows(slice(None)).dense(), torch.tensor(z)[None]) for z in (best, ends)]
        return float((values[0] - values[1]).max())

    rough, fine = missing(1.0), missing(1e-4)
    assert fine < 5e-4
    assert fine < rough
