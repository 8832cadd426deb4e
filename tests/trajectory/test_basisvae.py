"""BasisVAEClusterer from outside: what mathematics, scikit-learn and the documentation promise its users."""

import itertools
from copy import deepcopy
from functools import cache

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import simpson
from scipy.special import expit, logit
from scipy.stats import bernoulli, nbinom, norm, poisson, spearmanr
from sklearn.base import clone
from sklearn.decomposition import FactorAnalysis
from sklearn.exceptions import NotFittedError
from sklearn.metrics import adjusted_rand_score, v_measure_score
from sklearn.model_selection import GridSearchCV

from skdevae import BasisVAEClusterer
from skdevae.datasets import make_basis_toy
from skdevae.display import TrajectoryDisplay
from skdevae.metrics import feature_clustering_scorer

COUNT_LIKELIHOODS = ("poisson", "nb", "zinb", "bernoulli")


def quick(**parameters):
    """An estimator for laws that hold however long it trains: its clusters are found before it does."""
    return BasisVAEClusterer(**{"n_clusters": 8, "max_epochs": 10, "random_state": 0, **parameters})


@cache
def toy(n_samples=200, n_features_per_group=5, **parameters):
    return make_basis_toy(n_samples, n_features_per_group, **{"random_state": 0, **parameters})


@cache
def two_groups():
    """The quickest table that has clusters."""
    return make_basis_toy(120, 4, groups=("early", "late"), random_state=0)


@cache
def fitted():
    """To the small toy table; shared between tests, which must not change it."""
    return quick().fit(toy().data)


@cache
def fitted_as_published(seed, translation_invariant):
    """With the default number of functions, to the default table."""
    model = quick(n_clusters=20, translation_invariant=translation_invariant, max_epochs=8)
    return model.fit(make_basis_toy(random_state=seed).data)


@cache
def nearly_noise_free():
    return make_basis_toy(200, 8, groups=("middle", "up"), shift_range=1, noise=0.01, random_state=0)


@cache
def fitted_to_shifted_copies():
    truth = nearly_noise_free()
    model = quick(n_clusters=4, translation_invariant=True, max_epochs=20)
    return model.fit(truth.data, orientation=truth.times)


@cache
def counts(likelihood="nb"):
    """Three groups of four features, on the scale of the link."""
    truth = make_basis_toy(150, 4, groups=("early", "late", "up"), scale_range=(0.8, 1.2), noise=0, random_state=0)
    curves = truth.data / truth.data.std(0)
    generator = np.random.default_rng(0)
    match likelihood:
        case "bernoulli":
            return generator.binomial(1, expit(3 * (curves - curves.mean(0)))).astype(np.float64)
        case "poisson":
            return generator.poisson(np.exp(0.5 + curves)).astype(np.float64)
        case _:
            return generator.negative_binomial(5, 5 / (5 + np.exp(0.5 + curves))).astype(np.float64)


COUNT_LABELS = np.repeat([0, 1, 2], 4)


@cache
def fitted_counts(likelihood):
    return quick(n_clusters=5, likelihood=likelihood, max_epochs=15).fit(counts(likelihood))


def model_and_table(likelihood):
    return (fitted(), toy().data) if likelihood == "gaussian" else (fitted_counts(likelihood), counts(likelihood))


def same_partition(one, other):
    return adjusted_rand_score(one, other) == 1


def with_holes(table, share=0.1, seed=0):
    return np.where(np.random.default_rng(seed).random(table.shape) < share, np.nan, table)


def kept_share(model, z):
    """Probability that an entry is no excess zero."""
    level, slope = model.module_.likelihood.dropout.numpy().astype(np.float64)
    return expit(-(level + slope * z[:, None]))


def log_density(model, likelihood, table, z):
    """log p(x_ij | z_g) of every entry by scipy, (N, G, D), from what the model says in public."""
    curves, x = model.trajectories(z), table[:, None]
    if likelihood == "gaussian":
        return norm.logpdf(x, curves, model.noise_scale_)
    if likelihood == "poisson":
        return poisson.logpmf(x, curves)
    if likelihood == "bernoulli":
        return bernoulli.logpmf(x, curves)
    theta = model.dispersion_
    if likelihood == "nb":
        return nbinom.logpmf(x, theta, theta / (theta + curves))
    kept = kept_share(model, z)
    of_nb = np.log(kept) + nbinom.logpmf(x, theta, theta / (theta + curves / kept))
    return np.where(x == 0, np.logaddexp(np.log1p(-kept), of_nb), of_nb)


# ---- what it is for ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("translation_invariant", [False, True], ids=["scaled", "shifted"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_toy_tables_clusters_are_found(seed, translation_invariant):
    truth, model = make_basis_toy(random_state=seed), fitted_as_published(seed, translation_invariant)
    wanted = truth.shape_labels if translation_invariant else truth.labels
    assert v_measure_score(wanted, model.labels_) == 1
    assert model.n_clusters_effective_ == (3 if translation_invariant else 5)
    assert abs(spearmanr(model.transform(truth.data)[:, 0], truth.times)[0]) > 0.97


@pytest.mark.parametrize("translation_invariant", [False, True], ids=["scaled", "shifted"])
def test_the_authors_toy_table(shared_data, translation_invariant):
    stored = np.load(shared_data("basisvae_toy.npz"), allow_pickle=False)
    wanted = stored["block"] == 3 if translation_invariant else stored["block"]
    model = quick(n_clusters=20, translation_invariant=translation_invariant).fit(stored["X"])
    assert model.n_clusters_effective_ == (2 if translation_invariant else 4)
    assert same_partition(wanted, model.labels_)


def test_scales_are_the_true_ones():
    truth = toy(noise=0.01)
    model = quick(max_epochs=20).fit(truth.data)
    assert same_partition(truth.labels, model.labels_)
    for label in range(5):
        members = truth.labels == label
        assert np.corrcoef(model.scales_[members], truth.scales[members])[0, 1] > 0.999
        # in proportion: a line through the origin
        ratios = model.scales_[members] / truth.scales[members]
        assert_allclose(ratios, ratios.mean(), rtol=0.02)
    assert_array_equal(model.shifts_, 0)


def test_shifts_and_scales_are_the_true_ones():
    truth, model = nearly_noise_free(), fitted_to_shifted_copies()
    assert same_partition(truth.shape_labels, model.labels_)
    for label in np.unique(truth.labels):
        members = truth.labels == label
        # the axis points as the times do, so shifts have the same sign
        assert spearmanr(model.shifts_[members], truth.shifts[members])[0] > 0.99
        assert np.corrcoef(model.shifts_[members], truth.shifts[members])[0, 1] > 0.99
    members = truth.labels == truth.label_names.index("middle")
    assert np.corrcoef(model.scales_[members], truth.scales[members])[0, 1] > 0.99
    z = model.transform(truth.data)[:, 0]
    per_time = np.polyfit(truth.times, z, 1)[0]
    assert_allclose(np.polyfit(truth.shifts[members], model.shifts_[members], 1)[0], per_time, rtol=0.15)


def test_straight_functions_are_factor_analysis():
    generator = np.random.default_rng(1)
    n, d = 500, 8
    loadings = generator.choice([-1, 1], d) * generator.uniform(0.5, 2, d)
    noise = generator.uniform(0.3, 1, d)
    table = np.outer(generator.standard_normal(n), loadings) + noise * generator.standard_normal((n, d)) + 3
    reference = FactorAnalysis(1, tol=1e-8, max_iter=5000).fit(table)
    model = BasisVAEClusterer(
        n_clusters=4, hidden_layer_sizes=(), weight_decay=0, scale_bounds=(0.02, 3), tol=1e-5, random_state=0
    ).fit(table)
    assert same_partition(loadings > 0, model.labels_)
    assert_allclose(model.score(table), reference.score(table), rtol=0, atol=2e-3)
    assert_allclose(model.noise_scale_, np.sqrt(reference.noise_variance_), rtol=0.02)
    slopes = model.scales_ * np.diff(model.basis_functions([0.0, 1.0]), axis=0)[0, model.labels_]
    sign = np.sign(slopes @ reference.components_[0])
    assert_allclose(slopes, sign * reference.components_[0], rtol=0.02)


def test_an_encoder_recovers_the_clusters():
    truth = toy()
    model = quick(inference="amortized", max_epochs=30).fit(truth.data)
    assert same_partition(truth.labels, model.labels_)
    assert abs(spearmanr(model.transform(truth.data)[:, 0], truth.times)[0]) > 0.9
    assert model.elbo(truth.data) <= model.score(truth.data)


def test_held_out_rows_confirm_the_labels():
    truth = toy(n_samples=400)
    model = quick().fit(truth.data[::2])
    held_out = truth.data[1::2]
    assert same_partition(truth.labels, model.labels_)
    assert_array_equal(model.predict(held_out), model.labels_)
    probabilities = model.predict_proba(held_out)
    assert probabilities.shape == (25, 8)
    assert_allclose(probabilities.sum(1), 1)
    assert_array_equal(probabilities.argmax(1), model.labels_)


# ---- the curves and their score -----------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", ["gaussian", *COUNT_LIKELIHOODS])
def test_trajectories_are_copies(likelihood):
    model, _ = model_and_table(likelihood)
    z = np.linspace(-6, 6, 101)
    curves = model.levels_ + model.scales_ * model.basis_functions(z)[:, model.labels_]
    assert_array_equal(model.shifts_, 0)
    match likelihood:
        case "gaussian":
            shown = model.trajectories(z)
        case "bernoulli":
            shown = logit(model.trajectories(z))
        case "zinb":
            shown = np.log(model.trajectories(z) / kept_share(model, z))
        case _:
            shown = np.log(model.trajectories(z))
    assert_allclose(shown, curves, rtol=1e-6, atol=1e-6)


def assert_shifted_copies(model, curves_at):
    z = np.linspace(-6, 6, 101)
    shown = curves_at(z)
    assert (model.shifts_ != 0).all()
    for j, (label, shift) in enumerate(zip(model.labels_, model.shifts_, strict=True)):
        copied = model.basis_functions(z + shift)[:, label]
        assert_allclose(shown[:, j], model.levels_[j] + model.scales_[j] * copied, rtol=1e-6, atol=1e-6)


def test_trajectories_are_shifted_copies():
    assert_shifted_copies(fitted_to_shifted_copies(), fitted_to_shifted_copies().trajectories)


def test_log_trajectories_of_counts_are_shifted_copies():
    model = quick(n_clusters=3, likelihood="nb", translation_invariant=True, max_epochs=5).fit(counts("nb"))
    assert_shifted_copies(model, lambda z: np.log(model.trajectories(z)))


def test_derivatives_are_those_of_the_trajectories():
    z, step = np.array([-1.03, 0.21, 1.47]), 1e-5
    for model in (fitted(), fitted_to_shifted_copies()):
        differences = (model.trajectories(z + step) - model.trajectories(z - step)) / (2 * step)
        assert_allclose(model.derivatives(z), differences, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("likelihood", ["gaussian", *COUNT_LIKELIHOODS])
def test_score_is_the_integral_over_the_latent(likelihood):
    model, table = model_and_table(likelihood)
    z = np.linspace(-8, 8, 2001)
    joint = log_density(model, likelihood, table[:8], z).sum(2) + norm.logpdf(z)
    highest = joint.max(1)
    by_hand = highest + np.log(simpson(np.exp(joint - highest[:, None]), x=z))
    assert_allclose(model.score_samples(table[:8]), by_hand, rtol=0, atol=1e-4)


@pytest.mark.parametrize("likelihood", ["gaussian", *COUNT_LIKELIHOODS])
def test_lower_bound_is_the_elbo_less_what_the_model_costs(likelihood):
    model, table = model_and_table(likelihood)
    with torch.no_grad():
        decoder, module = model.module_.decoder, model.module_
        phi = module.assignment.responsibilities.T
        prior = (phi * decoder.log_prior(1.0)).sum() + decoder.shared_log_prior(1.0) + module.likelihood.log_prior()
        cost = float(module.assignment.divergence() - prior)
    assert cost > 0
    assert_allclose(model.lower_bound_, model.elbo(table) - cost / len(table), rtol=0, atol=5e-3)


# ---- units, orders, gaps ------------------------------------------------------------------------------------------


def test_units_do_not_matter():
    table, ours = toy().data, fitted()
    generator = np.random.default_rng(0)
    factor = 10 ** generator.uniform(-4, 4, table.shape[1])
    shift = generator.normal(0, 100, table.shape[1]) * factor
    theirs = quick().fit(factor * table + shift)
    assert_array_equal(theirs.labels_, ours.labels_)
    assert_allclose(theirs.transform(factor * table + shift), ours.transform(table), atol=1e-4)
    assert_allclose(theirs.score(factor * table + shift), ours.score(table) - np.log(factor).sum(), rtol=0, atol=1e-3)
    assert_allclose(theirs.lower_bound_, ours.lower_bound_ - np.log(factor).sum(), rtol=0, atol=1e-3)
    assert_allclose(theirs.scales_, factor * ours.scales_, rtol=1e-3)
    assert_allclose((theirs.levels_ - shift) / factor, ours.levels_, atol=1e-3)


def test_negating_all_columns_turns_the_functions_upside_down():
    truth = toy()
    ours, theirs = (quick().fit(sign * truth.data, orientation=truth.times) for sign in (1, -1))
    assert_array_equal(theirs.labels_, ours.labels_)
    assert_allclose(theirs.transform(-truth.data), ours.transform(truth.data), atol=1e-3)
    assert_allclose(theirs.score(-truth.data), ours.score(truth.data), atol=1e-2)
    z = np.linspace(-2, 2, 21)
    assert_allclose(theirs.basis_functions(z), -ours.basis_functions(z), atol=1e-2)
    assert_allclose(theirs.scales_, ours.scales_, rtol=1e-2)


def test_negating_a_group_keeps_the_clusters():
    truth = toy()
    sign = np.where(np.isin(truth.labels, [1, 3]), -1.0, 1.0)
    model = quick().fit(sign * truth.data)
    assert same_partition(truth.labels, model.labels_)
    assert_allclose(model.score(sign * truth.data), fitted().score(truth.data), atol=0.15)


def test_the_order_of_columns_does_not_matter():
    table, ours = toy().data, fitted()
    order = np.random.default_rng(0).permutation(table.shape[1])
    theirs = quick().fit(table[:, order])
    assert same_partition(ours.labels_[order], theirs.labels_)
    assert_allclose(theirs.score(table[:, order]), ours.score(table), atol=0.05)


def test_missing_entries_keep_the_clusters():
    table = with_holes(toy().data)
    model = quick().fit(table)
    assert same_partition(toy().labels, model.labels_)
    assert np.isfinite(model.score(table))
    assert np.corrcoef(model.transform(table)[:, 0], fitted().transform(toy().data)[:, 0])[0, 1] > 0.95
    # what lies in the gaps is not read
    filled = np.where(np.isnan(table), model.inverse_transform(model.transform(table)), table)
    assert np.abs(filled - toy().curves)[np.isnan(table)].mean() < 0.15


def test_orientation_says_which_end_is_up():
    truth = two_groups()
    up, down = (quick(n_clusters=4).fit(truth.data, orientation=sign * truth.times) for sign in (1, -1))
    assert same_partition(up.labels_, down.labels_)
    z_up, z_down = (model.transform(truth.data)[:, 0] for model in (up, down))
    assert np.corrcoef(z_up, truth.times)[0, 1] > 0.7
    assert_allclose(z_down, -z_up, atol=0.2)
    by_column = quick(n_clusters=4, orientation=6).fit(truth.data)
    assert np.corrcoef(by_column.transform(truth.data)[:, 0], truth.data[:, 6])[0, 1] > 0


@pytest.mark.parametrize("which", ["scaled", "shifted", "nb"])
def test_mirroring_a_fitted_model_changes_the_sign_of_the_axis_alone(which):
    ours, table = {
        "scaled": (fitted(), toy().data),
        "shifted": (fitted_to_shifted_copies(), nearly_noise_free().data),
        "nb": (fitted_counts("nb"), counts("nb")),
    }[which]
    theirs = deepcopy(ours)
    theirs.module_.mirror_(0)
    assert_allclose(theirs.transform(table), -ours.transform(table), atol=1e-8)
    assert_allclose(theirs.score_samples(table), ours.score_samples(table), rtol=1e-8)
    points = np.linspace(-5, 5, 21)
    assert_allclose(theirs.trajectories(-points), ours.trajectories(points), rtol=1e-6, atol=1e-6)
    assert_allclose(theirs.basis_functions(-points), ours.basis_functions(points), rtol=1e-6, atol=1e-6)


# ---- how many clusters --------------------------------------------------------------------------------------------


def assert_consistent(model, table):
    """What the attributes say of each other."""
    d, k = table.shape[1], model.n_clusters
    assert model.responsibilities_.shape == (d, k)
    assert_allclose(model.responsibilities_.sum(1), 1, rtol=1e-6)
    assert_array_equal(model.labels_, model.responsibilities_.argmax(1))
    assert model.n_clusters_effective_ == len(np.unique(model.labels_)) <= k
    assert model.cluster_weights_.shape == model.cluster_names_.shape == (k,)
    assert_allclose(model.cluster_weights_.sum(), 1)
    assert_allclose(model.cluster_weights_, (model.responsibilities_.sum(0) + model.alpha) / (d + model.alpha * k))
    assert model.scales_.shape == model.shifts_.shape == model.levels_.shape == (d,)
    assert (model.scales_ > 0).all()
    assert np.isfinite(model.score(table))


def test_attributes_agree():
    for model, table in ((fitted(), toy().data), (fitted_to_shifted_copies(), nearly_noise_free().data)):
        assert_consistent(model, table)
        low, high = model.scale_bounds
        spread = table.std(0)
        assert (low * spread * (1 - 1e-6) <= model.scales_).all()
        assert (model.scales_ <= high * spread * (1 + 1e-6)).all()
        assert (np.abs(model.shifts_) <= model.max_shift).all()
    assert fitted().cluster_names_.tolist() == [f"basis {k}" for k in range(8)]


@pytest.mark.parametrize("n_clusters", [1, 3])
def test_the_number_of_functions_is_an_upper_bound(n_clusters):
    model = quick(n_clusters=n_clusters).fit(toy().data)
    assert_consistent(model, toy().data)
    assert model.n_clusters_effective_ == n_clusters
    assert model.score(toy().data) < fitted().score(toy().data)


def test_more_functions_than_features():
    table = two_groups().data
    model = quick(n_clusters=30).fit(table)
    assert_consistent(model, table)
    assert same_partition(two_groups().labels, model.labels_)
    assert model.basis_functions([0.0, 1.0]).shape == (2, 30)


@pytest.mark.parametrize("shape", [(60, 1), (60, 2), (3, 6)])
def test_tiny_tables(shape):
    table = np.random.default_rng(0).standard_normal(shape)
    model = quick(n_clusters=3, max_epochs=3).fit(table)
    assert_consistent(model, table)


def test_coclustering_matrix_is_the_probability_of_a_shared_label():
    model = deepcopy(fitted())
    model.responsibilities_ = np.random.default_rng(0).dirichlet(np.ones(8), size=25)
    together = model.coclustering_matrix()
    for i, j in itertools.combinations(range(5), 2):
        by_hand = sum(model.responsibilities_[i, k] * model.responsibilities_[j, k] for k in range(8))
        assert_allclose(together[[i, j], [j, i]], by_hand)
    assert_array_equal(np.diag(together), 1)
    assert_array_equal(fitted().coclustering_matrix() > 0.5, np.equal.outer(toy().labels, toy().labels))


@cache
def equal_columns_and_doubles():
    """Three features for each of three functions, and as many that are twice as large."""
    truth = make_basis_toy(150, 3, groups=("early", "late", "up"), scale_range=(1, 1.0001), noise=0, random_state=0)
    curves = np.hstack([truth.data, 2 * truth.data])
    return curves + 0.1 * np.random.default_rng(0).standard_normal(curves.shape), np.hstack([truth.labels] * 2)


@pytest.mark.parametrize("inference", ["exact", "amortized"])
def test_without_scales_a_feature_is_the_function_itself(inference):
    table, shapes = equal_columns_and_doubles()
    model = quick(scale_invariant=False, inference=inference).fit(table)
    assert same_partition(shapes + 3 * (np.arange(18) >= 9), model.labels_)
    assert same_partition(shapes, quick(inference=inference).fit(table).labels_)
    # levels and scales are no more than the units
    assert len(np.unique(model.levels_)) == len(np.unique(model.scales_)) == 1
    curves = model.trajectories(np.linspace(-3, 3, 31))
    assert_allclose(
        curves, model.levels_ + model.scales_ * model.basis_functions(np.linspace(-3, 3, 31))[:, model.labels_]
    )
    assert_allclose(curves[:, :9], curves[:, [0] * 3 + [3] * 3 + [6] * 3])


def test_without_scales_one_unit_of_the_table_does_not_matter():
    table, _ = equal_columns_and_doubles()
    ours, theirs = quick(scale_invariant=False).fit(table), quick(scale_invariant=False).fit(100 * table - 3000)
    assert_array_equal(theirs.labels_, ours.labels_)
    assert_allclose(theirs.score(100 * table - 3000), ours.score(table) - 18 * np.log(100), rtol=0, atol=1e-3)


@pytest.mark.parametrize("assignment", ["fixed", "noncollapsed"])
def test_other_assignments_run(assignment):
    truth = two_groups()
    model = quick(n_clusters=4, assignment=assignment).fit(truth.data)
    assert_consistent(model, truth.data)
    # they make no moves, but nothing that differs is put together
    for label in np.unique(model.labels_):
        assert len(np.unique(truth.labels[model.labels_ == label])) == 1


def test_early_stopping_and_several_starts():
    truth = two_groups()
    model = quick(n_clusters=4, early_stopping=True, n_init=2).fit(truth.data)
    assert same_partition(truth.labels, model.labels_)
    assert "valid_loss" in model.history_[-1]
    one, several = (quick(n_clusters=4, n_init=n_init).fit(truth.data) for n_init in (1, 2))
    assert several.lower_bound_ >= one.lower_bound_


# ---- functions with a meaning -------------------------------------------------------------------------------------


FINE = np.linspace(-6, 6, 2001)


def is_rising(curve):
    return (np.diff(curve) >= -1e-9).all() and curve[-1] > curve[0]


def is_peaked(curve):
    peak = curve.argmax()
    return (np.diff(curve[: peak + 1]) >= -1e-9).all() and (np.diff(curve[peak:]) <= 1e-9).all()


MEANINGS = {
    "increasing": is_rising,
    "decreasing": lambda curve: is_rising(-curve),
    "transient": is_peaked,
    "dip": lambda curve: is_peaked(-curve),
    "flat": lambda curve: np.ptp(curve) < 1e-9,
    "free": lambda curve: True,
}


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ({"basis": "increasing", "n_clusters": 2}, ["increasing"] * 2),
        ({"basis": ("transient", "increasing"), "n_clusters": 3}, ["transient"] * 2 + ["increasing"]),
        ({"basis": ["increasing", "decreasing", "transient", "dip", "flat", "free"], "n_clusters": 6}, list(MEANINGS)),
        ({"basis": np.array(["transient", "dip"]), "n_clusters": 3}, ["transient", "transient", "dip"]),
        ({"basis": "transient", "n_clusters": 2, "translation_invariant": True}, ["transient"] * 2),
        ({"basis": ("decreasing", "free"), "n_clusters": 2, "inference": "amortized"}, ["decreasing", "free"]),
        ({"basis": ("increasing", "dip"), "n_clusters": 2, "integrator": "gauss-legendre"}, ["increasing", "dip"]),
    ],
    ids=lambda value: "" if isinstance(value, list) else "-".join(np.atleast_1d(value["basis"])),
)
def test_functions_keep_their_meaning(parameters, names):
    model = quick(**parameters, max_epochs=3).fit(two_groups().data)
    # an axis can be reversed only together with what rises and falls
    shown = [name.split(" ")[0] for name in model.cluster_names_]
    if {"increasing", "decreasing"} <= set(names) and shown != names:
        names = [{"increasing": "decreasing", "decreasing": "increasing"}.get(name, name) for name in names]
    assert model.cluster_names_.tolist() == [f"{name} {number}" for number, name in enumerate(names)]
    for name, curve in zip(names, model.basis_functions(FINE).T, strict=True):
        assert MEANINGS[name](curve), name
    # scales are positive: features do what their function does
    for name, curve in zip(model.cluster_names_[model.labels_], model.trajectories(FINE).T, strict=True):
        assert MEANINGS[name.split(" ")[0]](curve)


def test_functions_with_a_meaning_are_given_to_features_that_have_it():
    truth = toy()
    basis = ("increasing", "decreasing", "transient")
    model = quick(n_clusters=9, basis=basis).fit(truth.data, orientation=truth.times)
    assert same_partition(truth.labels, model.labels_)
    names = np.array([name.split(" ")[0] for name in model.cluster_names_[model.labels_]])
    wanted = np.array(truth.shape_names)[truth.shape_labels]
    assert_array_equal(names, wanted)


@pytest.mark.parametrize(
    ("group", "direction"),
    [
        ("up", "increasing"),
        ("down", "decreasing"),
    ],
)
def test_one_direction_alone_decides_which_end_of_the_axis_is_up(group, direction):
    # Early and late features tell transients from what rises or falls.
    truth = make_basis_toy(200, 5, groups=(group, "early", "late"), random_state=0)
    for sign in (1, -1):
        model = quick(n_clusters=6, basis=(direction, "transient")).fit(truth.data[:, ::sign])
        labels = model.labels_[::sign]
        assert same_partition(truth.labels, labels)
        names = [name.split(" ")[0] for name in model.cluster_names_[labels]]
        assert names == [direction] * 5 + ["transient"] * 10


# ---- more components ----------------------------------------------------------------------------------------------


@cache
def two_axes():
    """Six features that follow each of two independent axes, in one of two shapes."""
    generator = np.random.default_rng(0)
    z = generator.standard_normal((250, 2))
    curves = [np.tanh(2 * z[:, 0]), z[:, 1], np.exp(-(z[:, 0] ** 2)), np.exp(-(z[:, 1] ** 2))]
    table = np.repeat(np.stack(curves, 1), 3, axis=1) * generator.uniform(0.5, 1.5, 12)
    table /= table.std(0)
    return z, table + 0.3 * generator.standard_normal(table.shape), np.repeat(np.arange(4), 3)


@pytest.mark.parametrize(("n_components", "inference"), [(2, "exact"), (2, "amortized"), (3, "amortized")])
def test_several_components(n_components, inference):
    _, table, labels = two_axes()
    model = quick(n_clusters=5, n_components=n_components, inference=inference, max_epochs=15).fit(table)
    assert_consistent(model, table)
    assert model.transform(table).shape == (250, n_components)
    for label in np.unique(model.labels_):
        assert len(np.unique(labels[model.labels_ == label])) == 1
    z = np.random.default_rng(1).normal(0, 2, (20, n_components))
    copies = model.levels_ + model.scales_ * model.basis_functions(z)[:, model.labels_]
    assert_allclose(model.trajectories(z), copies, rtol=1e-6, atol=1e-6)
    assert_array_equal(model.shifts_, 0)
    assert model.elbo(table) <= model.score(table) + 1e-2
    assert model.sample(3, random_state=0).shape == (3, 12)


def test_a_score_of_two_components_is_an_integral():
    _, table, _ = two_axes()
    model = quick(n_clusters=5, n_components=2, max_epochs=3).fit(table)
    axis = np.linspace(-7, 7, 281)
    z = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    curves, prior = model.trajectories(z), norm.logpdf(z).sum(1)
    for row in table[:4]:
        joint = norm.logpdf(row, curves, model.noise_scale_).sum(1) + prior
        by_hand = np.log(np.exp(joint - joint.max()).sum()) + joint.max() + 2 * np.log(axis[1] - axis[0])
        assert_allclose(model.score_samples(row[None]), by_hand, rtol=0, atol=1e-4)


# ---- counts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", COUNT_LIKELIHOODS)
def test_counts(likelihood):
    table, model = counts(likelihood), fitted_counts(likelihood)
    assert_consistent(model, table)
    # 150 zeros and ones say little of a feature
    assert adjusted_rand_score(COUNT_LABELS, model.labels_) >= (0.3 if likelihood == "bernoulli" else 1)
    assert_array_equal(model.predict(table), model.labels_)
    assert (model.trajectories(FINE) > 0).all()
    assert_allclose(model.inverse_transform(model.transform(table)).mean(0), table.mean(0), rtol=0.25)


@pytest.mark.parametrize("likelihood", COUNT_LIKELIHOODS)
def test_sparse_tables_are_tables(likelihood):
    table, dense = counts(likelihood), fitted_counts(likelihood)
    stored = sp.csr_array(table)
    sparse = quick(n_clusters=5, likelihood=likelihood, max_epochs=15).fit(stored)
    assert_array_equal(sparse.labels_, dense.labels_)
    assert_allclose(sparse.score(table), dense.score(table), atol=1e-3)
    assert_allclose(sparse.scales_, dense.scales_, rtol=1e-2)
    assert_allclose(dense.score_samples(stored), dense.score_samples(table), rtol=1e-10)
    assert_allclose(dense.predict_proba(stored), dense.predict_proba(table), atol=1e-8)


def test_counts_by_an_encoder():
    model = quick(n_clusters=5, likelihood="nb", inference="amortized").fit(sp.csr_array(counts("nb")))
    assert_consistent(model, counts("nb"))
    assert same_partition(COUNT_LABELS, model.labels_)


# ---- inside scikit-learn ------------------------------------------------------------------------------------------


def test_a_grid_search_over_held_out_clusters():
    truth = two_groups()
    search = GridSearchCV(
        quick(max_epochs=3),
        {"n_clusters": [1, 4]},
        scoring=feature_clustering_scorer(truth.labels),
        cv=2,
        error_score="raise",
    ).fit(truth.data)
    assert search.best_params_ == {"n_clusters": 4}
    assert_array_equal(search.cv_results_["mean_test_score"], [0, 1])


def test_the_display_has_a_panel_for_every_cluster_with_features():
    model, table = fitted(), toy().data
    display = TrajectoryDisplay.from_estimator(model, table)
    titles = [panel.get_title(loc="left") for panel in display.axes_]
    assert titles == [f"basis {label} (5 features)" for label in np.unique(model.labels_)]
    assert len(display.lines_) == table.shape[1]


def test_the_same_seed_gives_the_same_bits():
    table = two_groups().data
    one, other = (quick(translation_invariant=True).fit(table) for _ in range(2))
    assert_array_equal(one.score_samples(table), other.score_samples(table))
    assert_array_equal(one.shifts_, other.shifts_)
    assert_array_equal(clone(one).fit_predict(table), one.labels_)


# ---- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        *(
            ({"scale_bounds": bounds}, r"scale_bounds=.*0 < least < largest")
            for bounds in ((1.0,), (0, 1), (1, 1), (2, 1), (-1, 1), (0.5, np.inf), (np.nan, 1), (0.5, 1, 2), ("a", "b"))
        ),
        ({"scale_bounds": None}, "'scale_bounds' parameter"),
        ({"scale_bounds": 2.0}, "'scale_bounds' parameter"),
        ({"max_shift": 2.6}, "'max_shift' parameter"),
        ({"max_shift": 0}, "'max_shift' parameter"),
        ({"max_shift": -1.0}, "'max_shift' parameter"),
        ({"basis": "sideways"}, "basis='sideways'.*choose one or more of increasing, decreasing"),
        ({"basis": ("increasing", "up")}, "basis=.*choose one or more of"),
        ({"basis": ()}, "choose one or more of"),
        ({"basis": 3}, "'basis' parameter"),
        ({"basis": ("flat", "free", "flat")}, "names a behaviour twice"),
        ({"basis": ("flat", "free", "dip"), "n_clusters": 2}, "names 3 behaviours for n_clusters=2 functions"),
        ({"translation_invariant": True, "n_components": 2}, "translation_invariant=True needs n_components=1, not 2"),
        ({"basis": "increasing", "n_components": 2}, "basis='increasing' needs n_components=1, not 2"),
        pytest.param(
            {"basis": np.array(["increasing", "free"]), "n_components": 2},
            "basis=.* needs n_components=1, not 2",
        ),
        ({"n_components": 3}, "n_components=3 needs inference='amortized'"),
        ({"n_components": 0}, "'n_components' parameter"),
        ({"n_clusters": 0}, "'n_clusters' parameter"),
        ({"scale_invariant": "yes"}, "'scale_invariant' parameter"),
        ({"translation_invariant": None}, "'translation_invariant' parameter"),
    ],
)
def test_parameters_that_cannot_be_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        quick(**parameters).fit(two_groups().data)


@pytest.mark.parametrize(
    ("method", "argument"), [("basis_functions", [0.0]), ("trajectories", [0.0]), ("coclustering_matrix", None)]
)
def test_nothing_works_before_fit(method, argument):
    with pytest.raises(NotFittedError):
        getattr(quick(), method)(*([] if argument is None else [argument]))


def test_positions_have_the_shape_of_the_latent():
    with pytest.raises(ValueError, match=r"z has shape \(3, 2\)"):
        fitted().basis_functions(np.zeros((3, 2)))
    assert_array_equal(fitted().basis_functions(0.5), fitted().basis_functions([[0.5]]))
