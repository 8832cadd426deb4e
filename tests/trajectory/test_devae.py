"""DeVAETransformer from outside: what mathematics, scikit-learn and the documentation promise its users."""

import itertools
from copy import deepcopy
from functools import cache

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit, logsumexp
from scipy.stats import bernoulli, nbinom, norm, poisson
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

from skdevae import DeVAETransformer
from skdevae.datasets import make_progression, make_progression_counts
from skdevae.inference import grid as inference
from skdevae.inference.importance import importance_log_evidence, laplace, log_joint_at, normal_draws

COUNT_LIKELIHOODS = ("poisson", "nb", "zinb", "bernoulli")
LIKELIHOODS = ("gaussian", *COUNT_LIKELIHOODS)
#: a name for each way to infer that the laws are tried on
WAYS = {
    "exact": {},
    "exact, two components": {"n_components": 2},
    "amortized": {"inference": "amortized"},
    "amortized, three components": {"n_components": 3, "n_importance_samples": 50},
}
EXACT = ("exact", "exact, two components")


def quick(**parameters):
    """An estimator for laws that hold however long it trains."""
    return DeVAETransformer(**{"max_epochs": 15, "random_state": 0, **parameters})


@cache
def progression():
    """Four features that rise and four that fall, after two that come and go."""
    return make_progression(100, n_transient=2, n_increasing=4, n_decreasing=4, random_state=0)


@cache
def signs():
    names = np.array(progression().label_names)[progression().labels]
    return np.select([names == "increasing", names == "decreasing"], [1, -1], 0)


@cache
def counts(likelihood="nb", n_features=8):
    table = make_progression_counts(100, n_features, density=0.5, random_state=0).data.toarray().astype(np.float64)
    return np.minimum(table, 1) if likelihood == "bernoulli" else table


def table_for(likelihood):
    return progression().data if likelihood == "gaussian" else counts(likelihood)


@cache
def fitted(likelihood="gaussian", way="exact"):
    """Shared between tests, which must not change it."""
    return quick(likelihood=likelihood, **WAYS[way]).fit(table_for(likelihood))


def with_holes(table, share=0.2, seed=0):
    holes = np.random.default_rng(seed).random(table.shape) < share
    return np.where(holes, np.nan, table)


def lattice(n_components, n=161, reach=7.0):
    """Positions (P, Q) and the log of the prior's mass at each."""
    axis = np.linspace(-reach, reach, n)
    points = np.array(list(itertools.product(axis, repeat=n_components)))
    return points, norm.logpdf(points).sum(1) + n_components * np.log(axis[1] - axis[0])


def probability_of_dropout(model, z):
    level, *slopes = model.module_.likelihood.dropout.numpy().astype(np.float64)
    return expit(level + z @ np.array(slopes))


def log_density(model, likelihood, table, z):
    """log p(x_i | z_g), (N, G), by scipy from what the model says in public; missing entries do not count."""
    curves = model.trajectories(z)
    total = np.zeros((len(table), len(z)))
    for column in range(table.shape[1]):
        x, curve = np.nan_to_num(table[:, [column]]), curves[:, column]
        match likelihood:
            case "gaussian":
                entries = norm.logpdf(x, curve, model.noise_scale_[column])
            case "poisson":
                entries = poisson.logpmf(x, curve)
            case "bernoulli":
                entries = bernoulli.logpmf(x, curve)
            case "nb":
                theta = model.dispersion_[column]
                entries = nbinom.logpmf(x, theta, theta / (theta + curve))
            case "zinb":
                theta, dropped = model.dispersion_[column], probability_of_dropout(model, z)[:, column]
                kept = np.log1p(-dropped) + nbinom.logpmf(x, theta, theta / (theta + curve / (1 - dropped)))
                entries = np.where(x == 0, np.logaddexp(np.log(dropped), kept), kept)
        total += np.where(np.isnan(table[:, [column]]), 0, entries)
    return total


def quadrature(model, likelihood, table, n=141):
    points, log_mass = lattice(model.transform(table).shape[1], n)
    return logsumexp(log_density(model, likelihood, table, points) + log_mass, axis=1)


def inside(model, table):
    """What :mod:`skdevae.nn` needs to know: the module in float64, and rows as it sees them."""
    return model._float64_module(), model._source(table, model._float64_like()).rows(slice(None)).dense()


# ---- monotonicity ----------------------------------------------------------------


def frame():
    return pd.DataFrame(progression().data, columns=progression().feature_names)


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [
        (None, np.zeros(10)),
        ("increasing", np.ones(10)),
        ("decreasing", -np.ones(10)),
        ([1, -1, 0, 0, 0, 0, 0, 0, 0, 1], [1, -1, 0, 0, 0, 0, 0, 0, 0, 1]),
        (np.tile([-1, 0], 5), np.tile([-1, 0], 5)),
    ],
    ids=str,
)
def test_constraints_go_by_position(constraint, expected):
    model = quick(monotonic_cst=constraint, max_epochs=2).fit(progression().data)
    assert_array_equal(model.monotonic_cst_, expected)
    assert model.get_params()["monotonic_cst"] is constraint


def test_constraints_go_by_name():
    names = progression().feature_names
    model = quick(monotonic_cst={names[3]: 1, names[0]: -1, names[5]: 0}, max_epochs=2).fit(frame())
    assert_array_equal(model.monotonic_cst_, [-1, 0, 0, 1, 0, 0, 0, 0, 0, 0])
    # of frames with other orders of columns, too
    names = names[::-1]
    other = clone(model).fit(frame()[names])
    assert_array_equal(other.monotonic_cst_, model.monotonic_cst_[::-1])


@pytest.mark.parametrize(
    ("constraint", "table"),
    [
        ([1, -1], progression().data),
        ([2] + [0] * 9, progression().data),
        ([[1] * 10], progression().data),
        ({"increasing_00": 1}, progression().data),
        ({"age": 1}, frame()),
        ({"increasing_00": 3}, frame()),
    ],
    ids=["length", "value", "shape", "no names", "unknown name", "value by name"],
)
def test_constraints_that_cannot_be_are_refused_as_scikit_learn_does(constraint, table):
    with pytest.raises(ValueError, match="monotonic_cst") as ours:
        quick(monotonic_cst=constraint).fit(table)
    with pytest.raises(ValueError, match="monotonic_cst") as theirs:
        HistGradientBoostingRegressor(monotonic_cst=constraint, max_iter=1).fit(table, progression().times)
    assert str(ours.value) == str(theirs.value).replace("HistGradientBoostingRegressor", "DeVAETransformer")


def test_a_direction_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"monotonic_cst.*'decreasing'"):
        quick(monotonic_cst="upwards").fit(progression().data)


def test_constraints_mean_what_they_mean_to_scikit_learn():
    """With the time as the only feature, boosted trees of each column rise where the model's curve must."""
    truth = progression()
    model = quick(monotonic_cst=signs()).fit(truth.data)
    steps = np.diff(model.trajectories(np.linspace(-3, 3, 50)), axis=0)
    for column in np.flatnonzero(signs()):
        trees = HistGradientBoostingRegressor(monotonic_cst=[signs()[column]], max_iter=5)
        predicted = trees.fit(truth.times[:, None], truth.data[:, column]).predict(np.sort(truth.times)[:, None])
        assert np.sign(predicted[-1] - predicted[0]) == signs()[column]
        assert_array_equal(np.sign(steps[:, column]), signs()[column])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_fitted_curves_obey(likelihood, way):
    # whatever the data say: the same constraint for features that rise and features that fall
    table = table_for(likelihood)
    constraint = np.resize([1, -1, 0, -1, 1], table.shape[1])
    model = quick(likelihood=likelihood, monotonic_cst=constraint, **WAYS[way]).fit(table)
    n_components = model.n_components
    for component in range(n_components):
        for others in (-1.0, 2.0):
            z = np.full((601, n_components), others)
            z[:, component] = np.linspace(-9, 9, 601)
            steps = np.diff(model.trajectories(z), axis=0)
            assert (steps * constraint >= 0)[:, constraint != 0].all()
            rates = model.derivatives(z).reshape(601, table.shape[1], n_components)
            assert (constraint[:, None] * rates > 0)[:, constraint != 0].all()


def test_quadrature_obeys_where_the_data_are():
    model = quick(monotonic_cst=signs(), integrator="gauss-legendre").fit(progression().data)
    steps = np.diff(model.trajectories(np.linspace(-4, 4, 401)), axis=0)
    assert (steps * signs() >= 0).all()
    assert_allclose(
        model.score(progression().data),
        quick(monotonic_cst=signs()).fit(progression().data).score(progression().data),
        atol=0.1,
    )


def test_constraints_cost_likelihood_where_they_are_wrong():
    table = progression().data
    free, right = quick(max_epochs=60).fit(table), quick(max_epochs=60, monotonic_cst=signs()).fit(table)
    same = quick(max_epochs=60, monotonic_cst="increasing").fit(table)
    assert right.score(table) > same.score(table) + 1
    assert free.score(table) > same.score(table) + 1
    assert_allclose(right.score(table), free.score(table), atol=1)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_derivatives_are_differences_of_trajectories(likelihood, way):
    model = fitted(likelihood, way)
    q = model.n_components
    z = np.random.default_rng(0).uniform(-6, 6, (20, q))
    rates = model.derivatives(z)
    assert rates.shape == ((20, model.n_features_in_) if q == 1 else (20, model.n_features_in_, q))
    for component in range(q):
        step = 1e-5 * np.eye(q)[component]
        differences = (model.trajectories(z + step) - model.trajectories(z - step)) / 2e-5
        one = rates.reshape(20, -1, q)[:, :, component]
        assert_allclose(one, differences, rtol=1e-4, atol=1e-6 * (1 + np.abs(model.trajectories(z)).max()))


@pytest.mark.parametrize("way", ["exact, two components", "amortized, three components"])
def test_expected_values_add_up_over_components(way):
    model = fitted(way=way)
    q = model.n_components
    z = np.random.default_rng(0).normal(0, 2, (30, q))
    at_zero = model.trajectories(np.zeros((1, q)))
    alone = sum(model.trajectories(z * unit) - at_zero for unit in np.eye(q))
    assert_allclose(model.trajectories(z) - at_zero, alone, atol=1e-10)


# ---- the axis ----------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_free_axis_follows_what_it_is_told(way):
    truth = progression()
    for target in (truth.times, -truth.times):
        latent = quick(**WAYS[way]).fit(truth.data, orientation=target).transform(truth.data)
        assert np.corrcoef(latent[:, 0], target)[0, 1] > 0
    column = int(np.flatnonzero(signs() < 0)[0])
    model = quick(orientation=column, **WAYS[way]).fit(truth.data)
    assert np.corrcoef(model.transform(truth.data)[:, 0], truth.data[:, column])[0, 1] > 0
    by_name = quick(orientation=truth.feature_names[column], **WAYS[way]).fit(frame())
    assert_allclose(by_name.transform(frame()), model.transform(truth.data), atol=1e-4)


@pytest.mark.parametrize("way", WAYS)
def test_by_default_correlations_with_a_free_axis_have_a_positive_sum(way):
    for table in (progression().data, -progression().data):
        latent = quick(**WAYS[way]).fit(table).transform(table)
        q = latent.shape[1]
        correlations = np.corrcoef(latent, table, rowvar=False)[:q, q:]
        assert (correlations.sum(1) >= -1e-6).all()


@pytest.mark.parametrize("way", ["exact", "amortized"])
@pytest.mark.parametrize("direction", [1, -1])
def test_a_constrained_axis_points_as_the_constraints_say(direction, way):
    truth = progression()
    model = quick(monotonic_cst=direction * signs(), **WAYS[way]).fit(truth.data)
    assert np.corrcoef(model.transform(truth.data)[:, 0], direction * truth.times)[0, 1] > 0.9
    # one constrained feature is enough
    only = np.where(np.arange(10) == np.flatnonzero(signs() > 0)[0], direction, 0)
    model = quick(monotonic_cst=only, **WAYS[way]).fit(truth.data)
    assert np.corrcoef(model.transform(truth.data)[:, 0], direction * truth.times)[0, 1] > 0.9


def test_a_constrained_axis_that_runs_against_orientation_warns():
    truth = progression()
    with pytest.warns(UserWarning, match="runs against orientation"):
        model = quick(monotonic_cst=signs()).fit(truth.data, orientation=-truth.times)
    # and is the axis that it would have been
    assert_array_equal(model.transform(truth.data), quick(monotonic_cst=signs()).fit_transform(truth.data))
    column = int(np.flatnonzero(signs() < 0)[0])
    with pytest.warns(UserWarning, match="runs against orientation"):
        quick(monotonic_cst=signs(), orientation=column).fit(truth.data)
    # one that agrees does not warn, which would be an error here
    quick(monotonic_cst=signs()).fit(truth.data, orientation=truth.times)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_mirroring_changes_the_sign_of_one_axis_alone(likelihood, way):
    ours, rows = fitted(likelihood, way), table_for(likelihood)[:10]
    theirs, component = deepcopy(ours), ours.n_components - 1
    theirs.module_.mirror_(component)
    flip = np.where(np.arange(ours.n_components) == component, -1, 1)
    assert_allclose(theirs.transform(rows), flip * ours.transform(rows), atol=1e-8)
    z = np.random.default_rng(0).normal(0, 2, (20, ours.n_components))
    assert_allclose(theirs.trajectories(flip * z), ours.trajectories(z), rtol=1e-8, atol=1e-8)
    assert_allclose(theirs.elbo(rows), ours.elbo(rows), rtol=1e-8 if way in EXACT else 1e-2)


# ---- scores and posteriors ----------------------------------------------------------------


@pytest.mark.parametrize("way", ["exact", "exact, two components", "amortized"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_score_is_the_integral_over_the_latent(likelihood, way):
    model, rows = fitted(likelihood, way), with_holes(table_for(likelihood)[:4], 0.1)
    assert_allclose(model.score_samples(rows), quadrature(model, likelihood, rows), rtol=0, atol=1e-3)


def test_rows_too_narrow_for_a_grid_of_two_dimensions_are_sampled(monkeypatch):
    table = table_for("gaussian")
    model = quick(n_components=2, monotonic_cst=np.resize([1, -1], table.shape[1]), max_epochs=60).fit(table)
    table = model.sample(12, random_state=0)
    exact = model.score_samples(table)
    monkeypatch.setattr(inference, "_REFINEMENTS", {2: 0})
    assert 0 < np.median(np.abs(model.score_samples(table) - exact)) < 0.01


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_grid_of_two_dimensions_agrees_with_importance_sampling(likelihood):
    # with each component's curves monotone, posteriors have one mode, which is what importance sampling needs
    table = table_for(likelihood)
    model = quick(
        n_components=2, likelihood=likelihood, monotonic_cst=np.resize([1, -1], table.shape[1]), max_epochs=60
    )
    table = model.fit(table).sample(12, random_state=0)
    module, rows = inside(model, table)
    posterior = model.posterior(table)
    start, draws = torch.from_numpy(posterior.mean), normal_draws(1024, 2)
    sampled = model._in_user_nats(
        importance_log_evidence(module, rows, start, draws), model._source(table, model._float64_like())
    )
    difference = np.abs(sampled - model.score_samples(table))
    assert np.median(difference) < 0.01
    assert np.quantile(difference, 0.7) < 0.02

    proposal = laplace(module, rows, start)
    z = proposal.mode + torch.einsum("bpq,sq->sbp", proposal.factor, draws)
    weights = torch.softmax(log_joint_at(module, rows, z) + 0.5 * draws.square().sum(1, keepdim=True), 0)[..., None]
    mean = (weights * z).sum(0)
    sd = ((weights * z**2).sum(0) - mean**2).sqrt()
    # where the draws cover the posterior
    covered = (difference < 0.02) & (1 / weights.square().sum(0)[:, 0].numpy() > 200)
    assert covered.mean() >= 0.5
    assert np.median(np.abs(mean.numpy() - posterior.mean)[covered]) < 0.03
    assert_allclose(mean.numpy()[covered], posterior.mean[covered], atol=0.1)
    assert np.median(np.abs(sd.numpy() / posterior.sd - 1)[covered]) < 0.03
    assert_allclose(sd.numpy()[covered], posterior.sd[covered], rtol=0.2)


@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_an_exact_posterior_of_two_components_is_bayes_rule(likelihood):
    model, rows = fitted(likelihood, "exact, two components"), with_holes(table_for(likelihood)[:3], 0.1)
    points, log_mass = lattice(2, 321)
    joint = log_density(model, likelihood, rows, points) + log_mass
    q = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
    mean = q @ points
    posterior = model.posterior(rows, credible_level=0.8)
    assert_allclose(posterior.mean, mean, atol=1e-3)
    assert_allclose(posterior.sd, np.sqrt(q @ points**2 - mean**2), atol=2e-3)
    for component in range(2):
        for row in range(len(rows)):
            below = q[row, points[:, component] < posterior.lower[row, component]].sum()
            above = q[row, points[:, component] > posterior.upper[row, component]].sum()
            assert_allclose([below, above], 0.1, atol=0.05)


@pytest.mark.parametrize("n_components", [1, 2])
def test_density_of_one_feature_integrates_to_one(n_components):
    table = np.random.default_rng(0).gamma(2.0, size=(100, 1))
    model = quick(n_components=n_components, monotonic_cst="increasing").fit(table)
    x = np.linspace(-6, 18, 241)
    density = np.exp(model.score_samples(x[:, None]))
    assert_allclose(density.sum() * (x[1] - x[0]), 1, atol=1e-4)


@pytest.mark.parametrize("n_components", [1, 2])
def test_density_of_two_features_integrates_to_one(n_components):
    generator = np.random.default_rng(0)
    z = generator.standard_normal(100)
    table = np.column_stack([z, z**2]) + 0.5 * generator.standard_normal((100, 2))
    model = quick(n_components=n_components, monotonic_cst=[1, 0], noise_floor=0.4).fit(table)
    drawn = model.sample(5000, random_state=0)
    axes = [np.linspace(low - 2, high + 2, 41) for low, high in zip(drawn.min(0), drawn.max(0), strict=True)]
    density = np.exp(model.score_samples(np.array(list(itertools.product(*axes)))))
    assert_allclose(density.sum() * (axes[0][1] - axes[0][0]) * (axes[1][1] - axes[1][0]), 1, atol=2e-3)


@pytest.mark.parametrize("way", WAYS)
def test_probabilities_of_all_binary_tables_add_up_to_one(way):
    binary = np.array(list(itertools.product([0.0, 1.0], repeat=5)))
    model = quick(likelihood="bernoulli", **WAYS[way]).fit(counts("bernoulli", n_features=5))
    total = np.exp(model.score_samples(binary)).sum()
    assert_allclose(total, 1, atol=1e-4 if model.n_components < 3 else 0.03)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("way", WAYS)
def test_bounds_are_in_order(way, likelihood):
    model, table = fitted(likelihood, way), table_for(likelihood)
    if way in EXACT:
        assert_allclose(model.elbo(table), model.score(table), rtol=1e-10)
    else:
        assert model.elbo(table) <= model.score(table) + 0.02
    with torch.no_grad():
        cost = -float(model.module_.log_prior())
    assert cost > 0
    assert_allclose(model.lower_bound_, model.elbo(table) - cost / len(table), rtol=0, atol=0.02)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_conditional_log_likelihood_is_taken_at_the_posterior_mean(likelihood, way):
    model, rows = fitted(likelihood, way), with_holes(table_for(likelihood)[:12])
    expected = np.diag(log_density(model, likelihood, rows, model.transform(rows))).mean()
    assert_allclose(model.conditional_log_likelihood(rows), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("n_components", "inference", "amortized"),
    [
        (1, "auto", False),
        (2, "auto", False),
        (3, "auto", True),
        (2, "exact", False),
        (1, "amortized", True),
    ],
)
def test_inference_is_exact_where_it_can_be(n_components, inference, amortized):
    model = quick(n_components=n_components, inference=inference, max_epochs=2).fit(progression().data)
    assert model.module_.amortized is amortized
    assert model.transform(progression().data).shape == (100, n_components)


def test_exact_inference_of_three_components_is_refused():
    with pytest.raises(ValueError, match="n_components=3 needs inference='amortized'"):
        quick(n_components=3, inference="exact").fit(progression().data)


@pytest.mark.parametrize("way", WAYS)
def test_predictions_are_inverse_transforms_and_fill_gaps(way):
    model, table = fitted(way=way), with_holes(progression().data)
    expected = model.predict(table)
    assert_array_equal(expected, model.inverse_transform(model.transform(table)))
    assert_array_equal(expected, model.trajectories(model.transform(table)))
    assert np.isfinite(expected).all()
    if way in EXACT:
        gaps, truth = np.isnan(table), progression().data
        error = ((expected - truth)[gaps] ** 2).mean()
        assert error < 0.7 * ((truth - truth.mean(0))[gaps] ** 2).mean()


# ---- units, orders, batches ----------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_units_do_not_matter(way):
    table = with_holes(progression().data, 0.05)
    generator = np.random.default_rng(0)
    factor = 10 ** generator.uniform(-3, 3, table.shape[1])
    shift = generator.normal(0, 10, table.shape[1]) * factor
    ours, theirs = quick(**WAYS[way]).fit(table), quick(**WAYS[way]).fit(factor * table + shift)
    assert_allclose(theirs.transform(factor * table + shift), ours.transform(table), atol=5e-3)
    in_other_units = ours.score_samples(table) - ~np.isnan(table) @ np.log(factor)
    assert_allclose(theirs.score_samples(factor * table + shift), in_other_units, rtol=0, atol=0.02)
    assert_allclose(theirs.score(factor * table + shift), in_other_units.mean(), rtol=0, atol=2e-3)
    log_units = (~np.isnan(table) @ np.log(factor)).mean()
    assert_allclose(theirs.lower_bound_, ours.lower_bound_ - log_units, rtol=0, atol=2e-3)
    z = np.zeros((1, ours.n_components))
    assert_allclose(theirs.derivatives(z)[0].T / factor, ours.derivatives(z)[0].T, atol=1e-3)


def test_a_negative_factor_is_the_opposite_constraint():
    table, turned = progression().data, progression().data * np.resize([1, -1], 10)
    ours = quick(monotonic_cst=signs()).fit(table)
    theirs = quick(monotonic_cst=signs() * np.resize([1, -1], 10)).fit(turned)
    assert np.corrcoef(theirs.transform(turned)[:, 0], ours.transform(table)[:, 0])[0, 1] > 0.999
    assert_allclose(theirs.score(turned), ours.score(table), atol=0.2)


@pytest.mark.parametrize("way", EXACT)
def test_permuted_columns_have_permuted_curves(way):
    # up to the starting weights, which are drawn column by column
    table, order = progression().data, np.random.default_rng(0).permutation(10)
    parameters = {"max_epochs": 60, "monotonic_cst": signs(), **WAYS[way]}
    ours = quick(**parameters).fit(table)
    theirs = quick(**{**parameters, "monotonic_cst": signs()[order]}).fit(table[:, order])
    assert_array_equal(theirs.monotonic_cst_, ours.monotonic_cst_[order])
    if way == "exact":
        points = np.linspace(-2, 2, 21)
        spread = np.ptp(ours.trajectories(points), axis=0).max()
        assert_allclose(theirs.trajectories(points), ours.trajectories(points)[:, order], atol=0.1 * spread)
        assert_allclose(theirs.score(table[:, order]), ours.score(table), atol=0.1)
        assert_allclose(theirs.noise_scale_, ours.noise_scale_[order], rtol=0.2)
    else:
        assert_allclose(theirs.score(table[:, order]), ours.score(table), atol=0.5)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_rows_are_judged_one_by_one(likelihood, way):
    model, table = fitted(likelihood, way), with_holes(table_for(likelihood)[:6], share=0.1)
    together, scores = model.transform(table), model.score_samples(table)
    order = np.random.default_rng(0).permutation(len(table))
    for batches in (np.array_split(table, 3), table[:, None]):
        assert_allclose(np.vstack([model.transform(batch) for batch in batches]), together, atol=1e-10)
        assert_allclose(np.concatenate([model.score_samples(batch) for batch in batches]), scores, rtol=1e-9)
    assert_allclose(model.transform(table[order]), together[order], atol=1e-10)
    assert_allclose(model.score_samples(table[order]), scores[order], rtol=1e-9)


# ---- randomness, training ----------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_same_seed_same_bits(likelihood, way):
    table, rows = table_for(likelihood), table_for(likelihood)[:10]
    ours, theirs = fitted(likelihood, way), quick(likelihood=likelihood, **WAYS[way]).fit(table)
    assert_array_equal(theirs.transform(table), ours.transform(table))
    assert_array_equal(theirs.score_samples(rows), ours.score_samples(rows))
    assert theirs.lower_bound_ == ours.lower_bound_
    assert theirs.history_[:, "train_loss"] == ours.history_[:, "train_loss"]
    assert_array_equal(theirs.sample(5, random_state=1), ours.sample(5, random_state=1))
    other = quick(likelihood=likelihood, random_state=1, **WAYS[way]).fit(table)
    assert (other.transform(table) != ours.transform(table)).any()


@pytest.mark.parametrize("way", WAYS)
def test_history_has_every_term_of_the_loss(way):
    model = fitted(way=way)
    assert model.n_iter_ == len(model.history_) == 15
    row = model.history_[-1]
    terms = {name: row[f"train_{name}"] for name in ("reconstruction", "latent", "clusters", "parameters")}
    assert terms["clusters"] == 0
    assert terms["latent"] > 0
    expected = terms["reconstruction"] + terms["latent"] + terms["parameters"] / 100
    assert_allclose(row["train_loss"], expected, rtol=1e-4)


@pytest.mark.parametrize("way", WAYS)
def test_early_stopping_watches_rows_that_it_does_not_train_on(way):
    table = progression().data
    model = quick(early_stopping=True, validation_fraction=0.3, max_epochs=60, n_iter_no_change=2, **WAYS[way])
    model.fit(table)
    assert np.isfinite(model.history_[:, "valid_loss"]).all()
    assert model.n_iter_ <= 60
    assert np.isfinite(model.score(table))
    assert "valid_loss" not in fitted(way=way).history_[-1]


@pytest.mark.parametrize("way", WAYS)
def test_more_starts_never_lower_the_bound(way):
    several = quick(n_init=3, **WAYS[way]).fit(progression().data)
    assert several.lower_bound_ >= fitted(way=way).lower_bound_


class Interruption(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_batch_end(self, net, training, **kwargs):
        if training and len(net.history) > self.epoch:
            raise KeyboardInterrupt


class KeyboardAt(Callback):
    """The keyboard itself, not a callback that asks to stop: raised while a batch is being worked on."""

    def __init__(self, monkeypatch, epoch):
        self.monkeypatch, self.epoch = monkeypatch, epoch

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) > self.epoch:

            def stopped(*args, **kwargs):
                raise KeyboardInterrupt

            self.monkeypatch.setattr(net, "train_step", stopped)


@pytest.mark.parametrize("way", WAYS)
def test_an_interrupted_fit_keeps_what_it_has_learned(way, monkeypatch):
    table = progression().data
    with pytest.warns(ConvergenceWarning, match="interrupted after 4 epochs"):
        model = quick(callbacks=[KeyboardAt(monkeypatch, 4)], **WAYS[way]).fit(table)
    assert model.n_iter_ == len(model.history_) == 4
    assert np.isfinite(model.score(table[:5]))
    assert np.isfinite(model.lower_bound_)
    assert model.transform(table).shape == (100, model.n_components)


@pytest.mark.parametrize("way", WAYS)
def test_a_callback_that_stops_a_fit_does_not_interrupt_it(way):
    # skorch's own way to end training: no warning, which would be an error here
    model = quick(callbacks=[Interruption(4)], **WAYS[way]).fit(progression().data)
    assert model.n_iter_ == len(model.history_) <= 5
    assert np.isfinite(model.transform(progression().data)).all()


# ---- inside scikit-learn ----------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_names_of_latents_and_frames(way):
    model = quick(max_epochs=3, **WAYS[way]).set_output(transform="pandas").fit(frame())
    names = [f"devaetransformer{component}" for component in range(model.n_components)]
    assert model.get_feature_names_out().tolist() == names
    latent = model.transform(frame())
    assert isinstance(latent, pd.DataFrame)
    assert latent.columns.tolist() == names
    assert latent.index.equals(frame().index)
    assert model.feature_names_in_.tolist() == list(progression().feature_names)


def test_in_a_pipeline_and_a_grid_search():
    table = progression().data * 7 + 3
    pipeline = make_pipeline(StandardScaler(), quick(monotonic_cst=signs())).fit(table)
    alone = quick(monotonic_cst=signs()).fit(table)
    assert_allclose(pipeline.transform(table), alone.transform(table), atol=1e-3)
    assert_allclose(pipeline.score(table), alone.score(table) + np.log(pipeline[0].scale_).sum(), atol=1e-3)
    search = GridSearchCV(quick(), {"n_components": [1, 2]}, cv=2, error_score="raise").fit(table)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.transform(table).shape == (100, search.best_params_["n_components"])


def test_a_grid_search_finds_the_number_of_components():
    generator = np.random.default_rng(0)
    z = generator.standard_normal((150, 2))
    table = z @ generator.normal(size=(2, 8)) + 0.3 * generator.standard_normal((150, 8))
    search = GridSearchCV(quick(max_epochs=40), {"n_components": [1, 2]}, cv=2, error_score="raise").fit(table)
    assert search.best_params_ == {"n_components": 2}


def test_float32_in_float32_out():
    table = progression().data.astype(np.float32)
    for way in EXACT:
        model = quick(**WAYS[way]).fit(table)
        assert model.transform(table).dtype == model.predict(table).dtype == np.float32
        assert model.posterior(table).upper.dtype == np.float32


@pytest.mark.parametrize(
    "parameters",
    [{"n_components": 0}, {"inference": "mcmc"}, {"integrator": "euler"}, {"n_importance_samples": 0}, {"n_knots": 2}],
    ids=str,
)
def test_parameters_are_validated(parameters):
    (name,) = parameters
    with pytest.raises(ValueError, match=name):
        quick(**parameters).fit(progression().data)


def test_positions_have_a_column_for_each_component():
    model = fitted(way="exact, two components")
    with pytest.raises(
        ValueError, match=r"z has shape \(3,\), but positions on this latent need shape \(n_points, 2\)"
    ):
        model.trajectories([0.0, 1.0, 2.0])
    with pytest.raises(ValueError, match="3 columns, but the latent has 2"):
        model.inverse_transform(np.zeros((4, 3)))


# ---- counts ----------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("likelihood", COUNT_LIKELIHOODS)
def test_sparse_tables_are_tables(likelihood, way):
    table, model = counts(likelihood), fitted(likelihood, way)
    stored = sp.csr_array(table)
    again = quick(likelihood=likelihood, **WAYS[way]).fit(stored)
    assert_allclose(again.lower_bound_, model.lower_bound_, atol=0.02)
    assert_allclose(model.transform(stored), model.transform(table), atol=1e-8)
    assert_allclose(model.score_samples(stored[:3]), model.score_samples(table[:3]), rtol=1e-9)
    assert_allclose(model.elbo(stored), model.elbo(table), rtol=1e-10)
    assert_allclose(model.conditional_log_likelihood(stored), model.conditional_log_likelihood(table), rtol=1e-8)
    assert_allclose(model.predict(stored), model.predict(table), rtol=1e-6)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_samples_have_the_moments_of_the_model_and_of_the_table(likelihood, way):
    table = table_for(likelihood)
    model, n = quick(likelihood=likelihood, **{**WAYS[way], "max_epochs": 60}).fit(table), 20_000
    drawn = model.sample(n, random_state=0)
    assert drawn.shape == (n, table.shape[1])
    error = drawn.std(0) / np.sqrt(n)
    latent = np.random.default_rng(0).standard_normal((n, model.n_components))
    expected = model.trajectories(latent)
    assert (np.abs(drawn.mean(0) - expected.mean(0)) < 6 * (error + expected.std(0) / np.sqrt(n))).all()
    if likelihood != "poisson":  # the table is not
        assert (np.abs(drawn.mean(0) - table.mean(0)) < 0.5 * table.std(0)).all()
        assert np.median(np.abs(drawn.mean(0) - table.mean(0)) / table.std(0)) < 0.2
        assert (drawn.std(0) / table.std(0) > 0.6).all()
    if likelihood != "gaussian":
        assert_array_equal(drawn, np.round(drawn))
        assert drawn.min() == 0
