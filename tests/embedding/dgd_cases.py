"""Small tables, quick DGD fits that tests share, and their densities by scipy."""

from functools import cache

import numpy as np
import pandas as pd
import scipy.sparse as sp
from agreement import assert_agree
from numpy.testing import assert_array_equal
from scipy.special import logsumexp
from scipy.stats import bernoulli, multivariate_normal, nbinom, norm, poisson
from sklearn.datasets import make_blobs

from skdevae import DGDEmbedder

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
        "max_epochs": 6,
        "n_init": 1,
        "n_importance_samples": 64,
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
def fitted_to_gaps(**parameters):
    """Shared between tests, which must not change it."""
    return quick(**parameters).fit(holey())


@cache
def fitted_to_classes(**parameters):
    """Shared between tests, which must not change it."""
    return quick(supervised=True, **parameters).fit(*blobs())


@cache
def factors():
    """A table with two factors, and noise of its own for each column."""
    generator = np.random.default_rng(0)
    loadings, noise = generator.normal(size=(2, 10)), generator.uniform(0.7, 1.5, 10)
    return 5 + 3 * (generator.standard_normal((200, 2)) @ loadings + noise * generator.standard_normal((200, 10)))


def linear(n_components=2, **parameters):
    settings = {"hidden_layer_sizes": (), "n_clusters": None, "weight_decay": 0.0, "noise_floor": 0.01}
    return quick(n_components, **{**settings, **parameters})


def overlapping():
    """Two clusters that nothing but labels could tell apart well."""
    generator = np.random.default_rng(0)
    y = np.arange(100) % 2
    return generator.standard_normal((100, 5)) + 0.8 * y[:, None], y


def copy_of(model, **parameters):
    """The same fitted model with other parameters, and a module of its own."""
    again = type(model)()
    again.__setstate__(model.__getstate__())
    return again.set_params(**parameters)


# ---- fits that are the same ------------------------------------------------------------------------------------------


def assert_same_bits(one, other, table=None):
    """Fits to the same rows in the same order, with the same seed."""
    for name in ("embedding_", "labels_", "weights_", "means_", "covariances_"):
        assert_array_equal(getattr(other, name), getattr(one, name))
    assert other.log_posterior_ == one.log_posterior_
    assert other.history_[:, "train_loss"] == one.history_[:, "train_loss"]
    if table is not None:
        assert_array_equal(other.transform(table), one.transform(table))
        assert_array_equal(other.score_samples(table), one.score_samples(table))


def assert_same_fit(one, other, samples=slice(None)):
    """Fits to the same rows in any order: ``other`` has its ``samples`` where ``one`` has them in turn."""
    assert_agree(other.embedding_, one.embedding_[samples], computed_in=np.float32)
    assert_array_equal(other.labels_, one.labels_[samples])
    assert_same_model(one, other)


def assert_same_model(one, other):
    for name in ("weights_", "means_", "covariances_", "log_posterior_"):
        assert_agree(getattr(other, name), getattr(one, name), computed_in=np.float32, err_msg=name)
    losses = other.history_[:, "train_loss"], one.history_[:, "train_loss"]
    assert_agree(*losses, computed_in=np.float32)


# ---- densities -------------------------------------------------------------------------------------------------------


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


def wrapped(kind, table):
    """A table as a sparse array, a data frame or as it is."""
    if kind == "sparse":
        return sp.csr_array(table)
    if kind == "frame":
        return pd.DataFrame(table).add_prefix("feature ")
    return table
