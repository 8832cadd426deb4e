"""VampVAE, and what VAETransformer shares with it: priors, posteriors, clusters and plain autoencoders."""

import itertools
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from agreement import assert_agree
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from scipy.stats import nbinom, norm
from sklearn.base import clone, is_clusterer
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from sklearn.decomposition import FactorAnalysis
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV

from skdevae import VAETransformer, VampVAE
from skdevae.embedding._mixture_clusters import merge_components

#: kinds of prior and posterior
LATENTS = {
    "normal": {"prior": "normal"},
    "mixture": {"prior": "mixture", "n_mixture_components": 6},
    "vamp": {"prior": "vamp", "n_pseudo_inputs": 6},
    "normal, flows": {"prior": "normal", "posterior_family": "iaf", "n_flows": 2},
    "mixture, flows": {"prior": "mixture", "n_mixture_components": 6, "posterior_family": "iaf", "n_flows": 2},
}
OF_A_DENSITY = ("score", "score_samples", "elbo", "posterior", "sample", "sample_latent", "predict_proba")


def quick(n_components=2, estimator=VampVAE, **parameters):
    """An estimator for laws that hold however long it trains."""
    sizes = {"hidden_layer_sizes": (16,), "encoder_hidden_layer_sizes": (16,)}
    settings = {
        **sizes,
        "learning_rate": 0.01,
        "kl_warmup": 0.0,
        "max_epochs": 10,
        "n_importance_samples": 64,
        "random_state": 0,
    }
    return estimator(n_components, **{**settings, **parameters})


@cache
def blobs():
    """Three well separated clusters in eight features, and labels."""
    return make_blobs(150, n_features=8, centers=3, cluster_std=1.0, random_state=1)


@cache
def counts():
    """Counts of three groups of samples."""
    generator = np.random.default_rng(0)
    shares = generator.dirichlet(np.ones(6), 3)[generator.integers(3, size=100)]
    means = 60 * np.exp(generator.normal(0, 0.5, (100, 1))) * shares
    return generator.negative_binomial(4, 4 / (4 + means)).astype(np.float64)


def table_for(likelihood):
    if likelihood == "gaussian":
        return blobs()[0]
    return np.minimum(counts(), 1) if likelihood == "bernoulli" else counts()


def holey(likelihood="gaussian", share=0.1):
    table = table_for(likelihood)
    return np.where(np.random.default_rng(0).random(table.shape) < share, np.nan, table)


@cache
def fitted(latents="vamp", likelihood="gaussian", n_components=2):
    """Shared between tests, which must not change it."""
    return quick(n_components, likelihood=likelihood, **LATENTS[latents]).fit(table_for(likelihood))


def copy_of(model, **parameters):
    """The same fitted model with other parameters, and a module of its own."""
    again = type(model)()
    again.__setstate__(model.__getstate__())
    return again.set_params(**parameters)


def assert_same_bits(one, other, table):
    assert_array_equal(other.transform(table), one.transform(table))
    assert_array_equal(other.score_samples(table[:30]), one.score_samples(table[:30]))
    assert other.lower_bound_ == one.lower_bound_


def log_prior(model, z):
    """log p(z) at points (P, Q)."""
    prior = model.prior_mixture_
    components = norm.logpdf(z[:, None], prior.means, prior.sds).sum(-1)
    return logsumexp(components + np.log(prior.weights), axis=1)


def log_likelihood(model, rows, z):
    """log p(x | z) of rows at points (P, Q), by scipy: (N, P)."""
    curves = model.trajectories(z)
    if model.likelihood == "gaussian":
        entries = norm.logpdf(rows[:, None], curves, model.noise_scale_)
    else:
        log_sizes = np.log(rows.sum(1)) - np.median(np.log(counts().sum(1)))
        means, theta = np.exp(log_sizes)[:, None, None] * curves, model.dispersion_
        entries = nbinom.logpmf(rows[:, None], theta, theta / (theta + means))
    return np.where(np.isnan(rows)[:, None], 0, entries).sum(-1)


def log_evidence(model, row, n_points):
    """log of the integral over the latent, on a grid that closes in on where the joint density is."""
    prior = model.prior_mixture_
    lower, upper = (prior.means - 8 * prior.sds).min(0), (prior.means + 8 * prior.sds).max(0)
    for _ in range(4):
        axes = np.linspace(lower, upper, n_points)  # (n, Q)
        z = np.stack(np.meshgrid(*axes.T, indexing="ij"), -1).reshape(-1, len(lower))
        joint = log_likelihood(model, row[None], z)[0] + log_prior(model, z)
        inside, step = z[joint > joint.max() - 25], axes[1] - axes[0]
        lower, upper = inside.min(0) - step, inside.max(0) + step
    return logsumexp(joint) + np.log(step).sum()


# ---- one implementation ----------------------------------------------------------------


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("latents", ["vamp", "mixture, flows"])
def test_both_estimators_are_one_model(latents):
    ours = fitted(latents)
    parameters = {name: value for name, value in ours.get_params().items() if name != "n_clusters"}
    assert set(VAETransformer().get_params()) == set(parameters)
    theirs = VAETransformer(**parameters).fit(blobs()[0])
    assert_same_bits(ours, theirs, blobs()[0])
    assert_array_equal(theirs.prior_mixture_.means, ours.prior_mixture_.means)


def test_a_linear_model_is_factor_analysis():
    generator = np.random.default_rng(0)
    loadings, noise = generator.normal(size=(2, 8)), generator.uniform(0.5, 1, 8)
    table = generator.standard_normal((200, 2)) @ loadings + noise * generator.standard_normal((200, 8))
    reference = FactorAnalysis(2, tol=1e-8, max_iter=5000).fit(table).score(table)
    linear = {"decoder": "linear", "hidden_layer_sizes": (), "encoder_hidden_layer_sizes": (), "linear_skip": True}
    trained = {"noise_floor": 0.01, "batch_size": 50, "max_epochs": 60, "tol": 0}
    normal, vamp = (quick(prior=prior, **linear, **trained).fit(table) for prior in ("normal", "vamp"))
    assert_allclose(normal.score(table), reference, rtol=0, atol=0.02)
    assert vamp.score(table) > reference - 0.05


def test_units_do_not_matter():
    table, generator = holey(), np.random.default_rng(1)
    factor = 10 ** generator.uniform(-2, 2, 8)
    shift = generator.normal(0, 10, 8) * factor
    ours, theirs = (quick(**LATENTS["vamp"]).fit(rows) for rows in (table, factor * table + shift))
    assert_allclose(theirs.transform(factor * table + shift), ours.transform(table), atol=1e-3)
    assert_allclose((theirs.pseudo_inputs_ - shift) / factor, ours.pseudo_inputs_, atol=0.01)
    in_other_units = ours.score_samples(table) - ~np.isnan(table) @ np.log(factor)
    assert_allclose(theirs.score_samples(factor * table + shift), in_other_units, rtol=0, atol=0.02)
    assert_array_equal(theirs.predict(factor * table + shift), ours.predict(table))


# ---- bounds and scores ----------------------------------------------------------------


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize(
    ("latents", "likelihood"),
    [*((latents, "gaussian") for latents in LATENTS), ("vamp", "nb"), ("mixture, flows", "nb")],
)
@pytest.mark.parametrize("n_components", [1, 2])
def test_score_is_the_integral_over_the_latent(latents, n_components, likelihood):
    model = copy_of(fitted(latents, likelihood, n_components), n_importance_samples=2**13)
    rows = table_for(likelihood)[:4].copy()
    if likelihood == "gaussian":
        rows[:2] = holey()[:2]
    expected = np.array([log_evidence(model, row, 1001 if n_components == 1 else 61) for row in rows])
    difference = np.abs(model.score_samples(rows) - expected)
    assert np.median(difference) < 2e-3
    assert difference.max() < 0.01


def test_more_draws_are_closer_to_the_score():
    model, rows = fitted("vamp", "nb"), counts()[:40]
    *rough, fine = [copy_of(model, n_importance_samples=n).score_samples(rows) for n in (4, 64, 1024, 2**14)]
    errors = [np.sqrt(((scores - fine) ** 2).mean()) for scores in rough]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert rough[0].mean() < fine.mean() + errors[1]


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize(
    ("latents", "likelihood"),
    [
        *itertools.product(["mixture", "vamp"], ["gaussian", "nb", "zinb", "poisson", "bernoulli"]),
        *itertools.product(["normal", "normal, flows", "mixture, flows"], ["gaussian", "zinb"]),
    ],
)
def test_the_bound_is_below_the_score(latents, likelihood):
    model, table = fitted(latents, likelihood), holey(likelihood)[:15]
    scores = model.score_samples(table)
    assert np.isfinite(scores).all()
    assert model.elbo(table) <= scores.mean() + 1e-3


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize("n_components", [1, 2, 3])
@pytest.mark.parametrize("latents", ["mixture", "vamp"])
def test_elbo_is_an_expectation_under_the_encoder(latents, n_components):
    """E_q (log p(x | z) + log p(z) - log q(z | x)), by many draws."""
    model, rows = fitted(latents, n_components=n_components), blobs()[0][:10]
    posterior = model.posterior(rows)
    noise = np.random.default_rng(0).standard_normal((10, 1000, n_components))
    noise = np.concatenate([noise, -noise], 1)
    z = posterior.mean[:, None] + posterior.sd[:, None] * noise
    at_z = np.array([log_likelihood(model, row[None], points)[0] for row, points in zip(rows, z, strict=True)])
    log_p = np.array([log_prior(model, points) for points in z])
    log_q = (norm.logpdf(noise) - np.log(posterior.sd)[:, None]).sum(-1)
    draws = (at_z + log_p - log_q).mean(0)
    assert_allclose(model.elbo(rows), draws.mean(), atol=0.02 + 5 * draws.std() / np.sqrt(2000))


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("latents", LATENTS)
def test_rows_are_judged_one_by_one(latents):
    model, rows = fitted(latents), holey()[:4]
    together, scores, shares = model.transform(rows), model.score_samples(rows), model.predict_proba(rows)
    assert_array_equal(model.score_samples(rows), scores)
    assert_allclose(np.vstack([model.transform(row[None]) for row in rows]), together, atol=1e-10)
    assert_allclose(np.concatenate([model.score_samples(row[None]) for row in rows]), scores, rtol=1e-8)
    assert_allclose(model.transform(rows[::-1]), together[::-1], atol=1e-10)
    assert_allclose(model.score_samples(rows[::-1]), scores[::-1], rtol=1e-8)
    assert_allclose(model.predict_proba(rows[::-1]), shares[::-1], atol=1e-10)


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize("component", [0, 1])
@pytest.mark.parametrize("latents", LATENTS)
def test_a_reversed_axis_changes_nothing_else(latents, component):
    model, table = copy_of(fitted(latents), n_importance_samples=4096), blobs()[0][:6]
    mirrored = copy_of(model)
    mirrored.module_.mirror_(component)
    sign = np.where(np.arange(2) == component, -1, 1)
    assert_agree(mirrored.prior_mixture_.means, sign * model.prior_mixture_.means)
    assert_agree(mirrored.trajectories(sign * np.eye(2)), model.trajectories(np.eye(2)))
    assert_allclose(mirrored.score_samples(table), model.score_samples(table), atol=0.04)
    # flows are integrated over by quasi-random points, which are not symmetric
    atol = 1e-8 if model.posterior_family == "normal" else 0.02
    assert_allclose(mirrored.transform(table), sign * model.transform(table), atol=atol)
    assert_allclose(mirrored.predict_proba(table), model.predict_proba(table), atol=0.05)
    assert_allclose(mirrored.elbo(table), model.elbo(table), atol=atol)


def test_history_has_every_term_of_the_loss():
    model = fitted("vamp")
    for row in model.history_:
        assert_allclose(
            row["train_loss"],
            row["train_reconstruction"] + row["train_latent"] + row["train_parameters"] / 150,
            rtol=1e-4,
        )
    with torch.no_grad():
        cost = -float(model.module_.log_prior())
    assert_allclose(model.lower_bound_, model.elbo(blobs()[0]) - cost / 150, rtol=0, atol=0.02)


# ---- clusters ----------------------------------------------------------------


@pytest.mark.parametrize("latents", LATENTS)
def test_probabilities_are_those_of_the_priors_components(latents):
    model, table = fitted(latents), blobs()[0]
    shares = model.predict_proba(table)
    assert shares.shape == (150, len(model.mixture_weights_))
    assert_allclose(shares.sum(1), 1, rtol=1e-10)
    assert (shares >= 0).all()
    assert_array_equal(model.predict(table), shares.argmax(1))
    if model.prior == "normal":
        assert_array_equal(shares, 1)
        return
    if model.posterior_family == "iaf":
        return
    # E_q p(k | z), by many draws
    posterior, prior = model.posterior(table), model.prior_mixture_
    z = posterior.mean + posterior.sd * np.random.default_rng(0).standard_normal((500, *posterior.mean.shape))
    joint = norm.logpdf(z[:, :, None], prior.means, prior.sds).sum(-1) + np.log(prior.weights)
    expected = np.exp(joint - logsumexp(joint, axis=2, keepdims=True)).mean(0)
    assert_allclose(shares, expected, atol=0.1)
    assert np.abs(shares - expected).mean() < 0.01


def sums_of_squares(weights, means, labels, n_clusters):
    total = 0.0
    for cluster in range(n_clusters):
        own = labels == cluster
        center = np.average(means[own], axis=0, weights=weights[own])
        total += weights[own] @ ((means[own] - center) ** 2).sum(1)
    return total


@pytest.mark.parametrize("latents", ["vamp", "mixture", "mixture, flows"])
def test_clusters_are_the_best_way_to_merge_components(latents):
    """Of all partitions of six components, in terms of weighted sums of squares."""
    model, table = fitted(latents), blobs()[0]
    prior, components = model.prior_mixture_, model.predict_proba(table)
    merged = copy_of(model, n_clusters=3).predict_proba(table)
    partitions = [np.array(labels) for labels in itertools.product(range(3), repeat=6) if len(set(labels)) == 3]
    found = [labels for labels in partitions if np.allclose(components @ np.eye(3)[labels], merged, atol=1e-12)]
    best = min(sums_of_squares(prior.weights, prior.means, labels, 3) for labels in partitions)
    assert min(sums_of_squares(prior.weights, prior.means, labels, 3) for labels in found) <= best * (1 + 1e-6)
    assert any((np.diff(prior.weights @ np.eye(3)[labels]) <= 0).all() for labels in found)


def test_the_number_of_clusters_has_no_influence_on_the_fit():
    model, table = fitted(), blobs()[0]
    for n_clusters in (1, 2, 6):
        again = clone(model).set_params(n_clusters=n_clusters)
        labels, shares = again.fit_predict(table), again.predict_proba(table)
        assert_same_bits(model, again, table)
        assert_array_equal(shares, copy_of(model, n_clusters=n_clusters).predict_proba(table))
        assert shares.shape == (150, n_clusters)
        assert_array_equal(labels, shares.argmax(1))
        assert_array_equal(labels, again.labels_)
    # as many clusters as components: the components, the heaviest first
    order = np.argsort(-model.mixture_weights_, kind="stable")
    assert_array_equal(shares, model.predict_proba(table)[:, order])
    with pytest.raises(ValueError, match=r"n_clusters=7, but .* of which there are 6"):
        copy_of(model, n_clusters=7).predict(table)
    with pytest.raises(ValueError, match=r"n_clusters=7, but .* of which there will be 6 \(prior='vamp', 150 samples"):
        clone(model).set_params(n_clusters=7).fit(table)
    with pytest.raises(ValueError, match=r"n_clusters=2, but .* of which there are 1"):
        copy_of(fitted("normal"), n_clusters=2).predict(table)
    for nonsense in (0, 2.5, "three"):
        with pytest.raises(ValueError, match=r"give a whole number between 1 and 6"):
            copy_of(model, n_clusters=nonsense).predict(table)


def test_labels_are_the_clusters_of_the_training_samples():
    model, table = fitted(), blobs()[0]
    assert is_clusterer(model)
    assert_array_equal(model.labels_, model.predict(table))
    assert model.labels_.dtype.kind == "i"
    # those of the fit, whatever is asked for later
    merged = copy_of(model, n_clusters=2)
    assert set(merged.predict(table)) == {0, 1}
    assert_array_equal(merged.labels_, model.labels_)


def test_a_plain_autoencoder_is_no_clusterer():
    model = quick(variational=False, max_epochs=1)
    assert not is_clusterer(model)
    assert not hasattr(model.fit(blobs()[0]), "labels_")
    assert not is_clusterer(model)


def test_separate_clusters_are_found():
    table, labels = blobs()
    model = quick(n_pseudo_inputs=15, batch_size=25, max_epochs=20)
    search = GridSearchCV(model, {"n_clusters": [2, 3, 5]}, scoring="adjusted_rand_score", cv=2, error_score="raise")
    assert search.fit(table, labels).best_params_ == {"n_clusters": 3}
    assert search.best_score_ > 0.9
    assert adjusted_rand_score(labels, search.predict(table)) > 0.9


def test_labels_are_no_part_of_the_fit():
    table, labels = blobs()
    for y in (labels, np.random.default_rng(0).permutation(labels)):
        assert_same_bits(fitted(), clone(fitted()).fit(table, y), table[:20])


# ---- samples ----------------------------------------------------------------


def test_latents_come_from_the_components_in_proportion_to_their_weights():
    model, n = copy_of(fitted("mixture")), 20_000
    weights = np.array([0.4, 0.3, 0.15, 0.1, 0.05, 0.0])
    means = 10.0 * np.arange(12).reshape(6, 2)
    with torch.no_grad():
        model.module_.prior.logits.copy_(torch.from_numpy(weights + 1e-30).log())
        model.module_.prior.means.copy_(torch.from_numpy(means))
        model.module_.prior.log_sds.copy_(torch.linspace(-1, 0.5, 12).view(6, 2))
    prior = model.prior_mixture_
    assert_allclose(prior.weights, weights, atol=1e-7)
    z = model.sample_latent(n, random_state=0)
    component = ((z[:, None] - means) ** 2).sum(-1).argmin(1)
    shares = np.bincount(component, minlength=6) / n
    assert (np.abs(shares - weights) <= 5 * np.sqrt(weights * (1 - weights) / n)).all()
    for k in range(5):
        own = z[component == k]
        assert_allclose(own.mean(0), means[k], atol=5 * prior.sds[k].max() / np.sqrt(len(own)))
        assert_allclose(own.std(0), prior.sds[k], rtol=5 / np.sqrt(2 * len(own)))


@pytest.mark.parametrize("latents", LATENTS)
def test_samples_are_noise_around_what_their_latents_say(latents):
    model, n = fitted(latents), 2000
    drawn, z = model.sample(n, random_state=3), model.sample_latent(n, random_state=3)
    assert drawn.shape == (n, 8)
    assert_array_equal(model.sample_latent(n, random_state=3), z)
    noise = (drawn - model.inverse_transform(z)) / model.noise_scale_
    assert (np.abs(noise.mean(0)) < 5 / np.sqrt(n)).all()
    assert (np.abs(noise.std(0) - 1) < 5 / np.sqrt(2 * n)).all()
    assert (model.sample(5, random_state=4) != drawn[:5]).all()


@pytest.mark.parametrize("likelihood", ["poisson", "nb", "zinb", "bernoulli"])
def test_samples_are_counts(likelihood):
    drawn = fitted("vamp", likelihood).sample(2000, random_state=0)
    assert_array_equal(drawn, np.round(drawn))
    assert drawn.min() == 0
    if likelihood == "bernoulli":
        assert drawn.max() == 1
    else:
        assert_allclose(drawn.sum(1).mean(), counts().sum(1).mean(), rtol=0.25)


# ---- pseudo-inputs ----------------------------------------------------------------


def still(**parameters):
    """Pseudo-inputs that stay where they start."""
    return quick(learn_pseudo_inputs=False, max_epochs=2, **parameters)


def test_pseudo_inputs_have_the_shape_of_the_table():
    for n, expected in ((None, 15), (4, 4), (150, 150)):
        model = quick(n_pseudo_inputs=n, max_epochs=1).fit(blobs()[0])
        assert model.pseudo_inputs_.shape == (expected, 8)
        assert model.prior_mixture_.means.shape == model.prior_mixture_.sds.shape == (expected, 2)
        assert_allclose(model.mixture_weights_.sum(), 1, rtol=1e-6)
    with pytest.warns(UserWarning, match="n_pseudo_inputs=151, but there are 150 samples"):
        assert len(quick(n_pseudo_inputs=151, max_epochs=1).fit(blobs()[0]).pseudo_inputs_) == 150
    # never fewer than one, nor more than 500
    assert len(quick(max_epochs=1).fit(blobs()[0][:9]).pseudo_inputs_) == 1
    assert quick()._latent_config(4990)["prior"]["n_mixture_components"] == 499
    assert quick()._latent_config(5100)["prior"]["n_mixture_components"] == 500
    for latents in ("normal", "mixture"):
        with pytest.raises(AttributeError, match="prior='vamp'"):
            fitted(latents).pseudo_inputs_  # noqa: B018 - it is a property


@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_pseudo_inputs_can_stay_rows_of_the_table(likelihood):
    table = table_for(likelihood)
    model = still(pseudo_input_init="data", n_pseudo_inputs=20, likelihood=likelihood).fit(table)
    if likelihood == "nb":  # of a sample of median size
        table = table / table.sum(1, keepdims=True) * np.exp(np.median(np.log(table.sum(1))))
    distance = np.abs(model.pseudo_inputs_[:, None] - table).max(-1)
    assert (distance.min(1) < 1e-5 * np.abs(table).max()).all()
    assert len(set(distance.argmin(1))) == 20
    # and the prior is what the encoder says of them
    rows = table_for(likelihood)[distance.argmin(1)]
    assert_allclose(model.prior_mixture_.means, model.posterior(rows).mean, atol=1e-4)
    assert_allclose(model.prior_mixture_.sds, model.posterior(rows).sd, rtol=1e-4)


def test_pseudo_inputs_can_start_at_centers_or_noise():
    table = blobs()[0]
    centers = still(n_pseudo_inputs=15).fit(table).pseudo_inputs_

    def error(points):  # in units of the columns' sds
        return (((table[:, None] - points) / table.std(0)) ** 2).sum(-1).min(1).mean()

    rows = still(n_pseudo_inputs=15, pseudo_input_init="data").fit(table).pseudo_inputs_
    best = KMeans(15, n_init=10, random_state=0).fit(table / table.std(0)).inertia_ / len(table)
    assert best * 0.99 < error(centers) < min(1.2 * best, error(rows))
    noise = still(n_pseudo_inputs=150, pseudo_input_init="random").fit(table).pseudo_inputs_
    assert (np.abs(noise.mean(0) - table.mean(0)) < 5 * table.std(0) / np.sqrt(150)).all()
    assert_allclose(noise.std(0), table.std(0), rtol=5 / np.sqrt(300))


def test_what_is_learned_moves_and_what_is_not_stays():
    table = np.vstack([blobs()[0], blobs()[0][::-1] + 0.1])
    # more than one step's worth of pseudo-inputs
    vamp = {"n_pseudo_inputs": 300, "pseudo_input_init": "data", "batch_size": 30, "max_epochs": 3}
    held = quick(**vamp, learn_pseudo_inputs=False).fit(table).pseudo_inputs_
    moved = quick(**vamp).fit(table)
    assert (np.abs(moved.pseudo_inputs_ - held).max(1) > 1e-3).all()
    assert np.ptp(moved.mixture_weights_) > 1e-6
    for latents in ("vamp", "mixture"):
        learned, equal = fitted(latents), clone(fitted(latents)).set_params(learn_mixture_weights=False)
        assert_array_equal(equal.fit(blobs()[0]).mixture_weights_, equal.mixture_weights_[0])
        assert_allclose(equal.mixture_weights_, 1 / 6, rtol=1e-6)
        assert np.ptp(learned.mixture_weights_) > 1e-3


def test_a_density_of_a_mixture_of_flows_is_refused():
    with pytest.raises(ValueError, match=r"prior='vamp' with posterior_family='iaf'.*prior='mixture'"):
        quick(posterior_family="iaf").fit(blobs()[0])


# ---- plain autoencoders ----------------------------------------------------------------


@pytest.mark.parametrize("estimator", [VampVAE, VAETransformer])
def test_an_autoencoder_has_no_density(estimator):
    unfitted = quick(estimator=estimator, variational=False)
    model = clone(unfitted).fit(blobs()[0])
    for method in OF_A_DENSITY:
        for either in (unfitted, model):
            assert not hasattr(either, method)
            if method == "predict_proba" and estimator is VAETransformer:
                continue
            with pytest.raises(AttributeError) as error:
                getattr(either, method)
            assert "variational=False" in str(error.value.__cause__)
    assert hasattr(model, "predict") == (estimator is VAETransformer)
    assert not hasattr(model, "fit_predict")
    # what it was fitted as counts
    assert not hasattr(copy_of(model, variational=True), "score")
    assert hasattr(copy_of(fitted(), variational=False), "score")


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_an_autoencoder_reconstructs(likelihood):
    table = table_for(likelihood)
    # without drawing latents: whatever the latent would be, it plays no role
    plain, *others = (
        quick(likelihood=likelihood, variational=False, max_epochs=30, **latents).fit(table)
        for latents in ({}, LATENTS["mixture, flows"], LATENTS["normal"])
    )
    z = plain.transform(table)
    for other in others:
        assert_array_equal(other.transform(table), z)
    variational = quick(likelihood=likelihood, max_epochs=30).fit(table)
    assert plain.conditional_log_likelihood(table) > variational.conditional_log_likelihood(table)
    assert_array_equal(plain.inverse_transform(z), plain.trajectories(z))
    expected = log_likelihood(plain, table, z).diagonal().mean()
    assert_allclose(plain.conditional_log_likelihood(table), expected, rtol=1e-6)  # noise_scale_ is in single precision
    assert plain.history_[:, "train_latent"] == [0] * plain.n_iter_


# ---- training ----------------------------------------------------------------


def test_warm_up_leaves_the_divergence_out_at_first():
    row = quick(kl_warmup=0.5, max_epochs=10).fit(blobs()[0]).history_[0]
    assert_allclose(row["train_loss"], row["train_reconstruction"] + row["train_parameters"] / 150, rtol=1e-4)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_nothing_ends_before_warm_up_does(early_stopping):
    # Anything less than a million nats is standing still.
    stopped = {"early_stopping": early_stopping, "tol": 1e6, "n_iter_no_change": 3, "kl_warmup": 0.5}
    model = quick(max_epochs=40, **stopped).fit(blobs()[0])
    assert model.n_iter_ == 20 + 3 + 1


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_plateau_halves_the_rate(early_stopping):
    """As the losses of the history say: after ten epochs without progress, and not before warm-up is over."""
    training = {"learning_rate_decay": "plateau", "tol": 1.0, "n_iter_no_change": 99, "max_epochs": 70}
    model = quick(early_stopping=early_stopping, kl_warmup=0.2, **training).fit(blobs()[0])
    losses = model.history_[:, "valid_loss" if early_stopping else "train_loss"]
    rate, best, without_progress, expected = 0.01, np.inf, 0, []
    for epoch, loss in enumerate(losses):
        expected.append(rate)
        if epoch < 14:
            continue
        without_progress = 0 if loss < best - 1.0 else without_progress + 1
        best = loss if without_progress == 0 else best
        if without_progress == 10:
            rate, without_progress = rate / 2, 0
    assert_allclose(model.history_[:, "event_lr"], expected, rtol=1e-12)
    assert expected[14] == 0.01
    assert expected[-1] < 0.01 / 2


VARIATIONS = {
    "dropout": {"dropout": 0.3},
    "batch": {"normalization": "batch"},
    "layer": {"normalization": "layer", "dropout": 0.1},
    "flows": {"dropout": 0.2, "normalization": "batch", **LATENTS["mixture, flows"]},
}


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("variation", VARIATIONS)
def test_same_seed_same_bits(variation):
    table, state = holey()[:90], torch.get_rng_state()
    model = quick(max_epochs=4, **VARIATIONS[variation])
    one = clone(model).fit(table)
    torch.manual_seed(7)
    assert_same_bits(one, clone(model).fit(table), table)
    torch.set_rng_state(state)
    other = clone(model).set_params(random_state=1)
    assert (other.fit(table).transform(table) != one.transform(table)).any()
    one.sample(3, random_state=0)
    one.score_samples(table[:5])
    assert_array_equal(torch.get_rng_state(), state)
    # nothing is random, nor a matter of other rows, after training
    z = one.transform(table)
    assert_agree(one.transform(table[:5]), z[:5])
    assert_agree(one.transform(table[:1]), z[:1])


def test_dropout_and_normalization_change_the_fit():
    plain = fitted().transform(blobs()[0])
    for variation in ("dropout", "batch", "layer"):
        assert np.abs(quick(**VARIATIONS[variation]).fit(blobs()[0]).transform(blobs()[0]) - plain).max() > 0.01


def test_a_batch_of_one_row_can_be_normalized():
    table = blobs()[0][:33]
    model = quick(normalization="batch", batch_size=32, n_pseudo_inputs=3).fit(table)
    assert np.isfinite(model.score(table))
    table = table[:12]
    assert np.isfinite(quick(normalization="batch", batch_size=1, max_epochs=2).fit(table).score(table))


# ---- inside scikit-learn ----------------------------------------------------------------


def test_names_of_latents_and_frames():
    frame = pd.DataFrame(blobs()[0], index=[f"row {i}" for i in range(150)]).add_prefix("feature ")
    model = quick(3, max_epochs=2).set_output(transform="pandas").fit(frame)
    latent = model.transform(frame)
    assert latent.columns.tolist() == model.get_feature_names_out().tolist() == ["vampvae0", "vampvae1", "vampvae2"]
    assert latent.index.equals(frame.index)
    assert model.predict_proba(frame).shape == (150, 15)


@pytest.mark.parametrize(
    "parameters",
    [
        {"prior": "vmf"},
        {"n_clusters": 0},
        {"n_pseudo_inputs": 0},
        {"pseudo_input_init": "pca"},
        {"learn_pseudo_inputs": "no"},
        {"n_mixture_components": 0},
        {"posterior_family": "vmf"},
        {"n_flows": 0},
        {"variational": None},
        {"size_factors": "mean"},
        {"normalization": "group"},
        {"dropout": 1.0},
        {"learning_rate_decay": "step"},
    ],
    ids=str,
)
def test_parameters_are_validated(parameters):
    (name,) = parameters
    with pytest.raises(ValueError, match=name):
        quick(**parameters).fit(blobs()[0])


def test_the_published_network_and_training():
    model = VampVAE.published()
    assert model.n_components == 128
    assert tuple(model.encoder_hidden_layer_sizes) == tuple(model.hidden_layer_sizes)[::-1] == (512, 256)
    assert (model.activation, model.normalization, model.dropout) == ("tanh", "batch", 0.2)
    assert (model.prior, model.likelihood, model.learning_rate_decay) == ("vamp", "nb", "plateau")
    assert (model.learning_rate, model.early_stopping, model.n_iter_no_change) == (5e-5, True, 100)
    assert clone(model).get_params() == model.get_params()
    assert model.n_pseudo_inputs == 500
    changed = VampVAE.published(4, n_pseudo_inputs=9, max_epochs=3, dropout=0.5, n_clusters=2, random_state=0)
    assert (changed.n_components, changed.dropout, changed.n_clusters) == (4, 0.5, 2)
    assert changed.fit_predict(counts()).shape == (100,)
    assert changed.n_iter_ == 3
    assert changed.history_[:, "event_lr"] == [5e-5] * 3
    with pytest.raises(TypeError):
        VampVAE.published(n_layers=3)


def test_components_at_one_place_are_one_cluster():
    weights, means = np.array([0.1, 0.2, 0.3, 0.4]), np.array([[0.0], [5.0], [0.0], [5.0]])
    for n_clusters in (2, 3):
        assert merge_components(weights, means, n_clusters).tolist() == [1, 0, 1, 0]


def test_a_linear_decoder_has_no_hidden_layers_to_be_left_out():
    model = quick(decoder="linear", hidden_layer_sizes=None).fit(blobs()[0])
    assert model.module_.decoder.head is None


def test_an_autoencoder_says_why_it_has_no_prior():
    model = quick(variational=False).fit(blobs()[0])
    for attribute in ("prior_mixture_", "mixture_weights_", "pseudo_inputs_"):
        with pytest.raises(AttributeError, match="variational=True"):
            getattr(model, attribute)


def test_an_autoencoder_of_several_starts_keeps_the_one_that_reconstructs_best():
    table = blobs()[0]
    starts = {"variational": False, "max_epochs": 15, "weight_precision": 0.0}
    kept = quick(n_init=3, **starts).fit(table)
    assert_allclose(kept.lower_bound_, kept.conditional_log_likelihood(table), atol=1e-3)
    assert kept.lower_bound_ >= quick(**starts).fit(table).lower_bound_


def test_a_linear_model_without_linear_maps_is_one_with_them():
    table = blobs()[0]
    one, other = (quick(decoder="linear", hidden_layer_sizes=(), linear_skip=skip).fit(table) for skip in (True, False))
    assert_same_bits(one, other, table)


def test_a_plateau_comes_before_early_stopping():
    training = {"learning_rate_decay": "plateau", "early_stopping": True, "tol": 1e6, "max_epochs": 30}
    rates = quick(**training).fit(blobs()[0]).history_[:, "event_lr"]
    assert rates[-1] < rates[0]
