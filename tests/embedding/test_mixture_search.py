"""A mixture found among representations: clusters that are there, whatever the order or repetition of samples."""

import numpy as np
import pytest
from embedding.mixture_cases import SIZES, clusters, soft
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from scipy.special import logsumexp
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from skdevae.embedding._mixture_search import expectation_maximization, kmeans_mixture, moments, search_mixture


def search(Z, weights=None, n_clusters=4, *, may_be_empty=False, n_init=3, seed=0):
    weights = np.ones(len(Z)) if weights is None else weights
    return search_mixture(Z, weights, n_clusters, n_init=n_init, may_be_empty=may_be_empty, seed=seed)


def ordered(found):
    """Weights, means and variances in an order of their own."""
    order = np.lexsort(found.means.T)
    return found.weights[order], found.means[order], found.variances[order]


# ---- moments and EM -------------------------------------------------------------------------------------------------


def test_moments_are_those_of_the_groups():
    Z, labels = clusters()
    weights = np.random.default_rng(1).integers(1, 5, len(Z)).astype(float)
    found = moments(Z, weights, np.eye(4)[labels])
    within = np.zeros(3)
    for k in range(4):
        own = labels == k
        mean = np.average(Z[own], axis=0, weights=weights[own])
        squares = weights[own] @ (Z[own] - mean) ** 2
        within += squares
        assert_allclose(found.weights[k], weights[own].sum() / weights.sum())
        assert_allclose(found.means[k], mean)
        # a sample more, of the pooled variance
        assert_allclose(found.variances[k] * (weights[own].sum() + 1), squares + found.pooled)
    assert_allclose(found.pooled, within / weights.sum())


def test_moments_of_soft_groups_are_those_of_split_samples():
    Z, r = clusters()[0][::5], soft(50, 3)
    shares = np.concatenate([r[:, k] for k in range(3)])
    ours = moments(Z, np.ones(50), r)
    theirs = moments(np.tile(Z, (3, 1)), shares, np.repeat(np.eye(3), 50, axis=0))
    for one, other in zip(ours, theirs, strict=True):
        assert_allclose(one, other)


@pytest.mark.parametrize("shares_variances", [True, False])
@pytest.mark.parametrize("n_steps", [1, 40])
def test_integer_weights_are_repetitions_to_moments_and_em(n_steps, shares_variances):
    Z, _ = clusters()
    weights, r = np.random.default_rng(1).integers(0, 4, len(Z)), soft(len(Z), 3)
    often = np.repeat(np.arange(len(Z)), weights)
    for one, other in zip(moments(Z, weights, r), moments(Z[often], np.ones(len(often)), r[often]), strict=True):
        assert_allclose(one, other)
    ours = expectation_maximization(Z, weights, r, n_steps, shares_variances=shares_variances)
    theirs = expectation_maximization(
        Z[often], np.ones(len(often)), r[often], n_steps, shares_variances=shares_variances
    )
    assert_allclose(ours.log_likelihood, theirs.log_likelihood)
    assert_allclose(ours.means, theirs.means, atol=1e-6)
    assert_allclose(ours.responsibilities[often], theirs.responsibilities, atol=1e-6)


@pytest.mark.parametrize("shares_variances", [True, False])
def test_the_log_likelihood_is_that_of_components_with_these_covariances(shares_variances):
    Z, r = clusters()[0], soft(sum(SIZES), 3)
    weights = np.random.default_rng(1).uniform(0.5, 2, len(Z))
    w, means, variances, pooled = moments(Z, weights, r)
    used = np.tile(pooled, (3, 1)) if shares_variances else variances
    joint = np.column_stack(
        [np.log(w[k]) + stats.multivariate_normal.logpdf(Z, means[k], np.diag(used[k])) for k in range(3)]
    )
    found = expectation_maximization(Z, weights, r, 1, shares_variances=shares_variances)
    assert_allclose(found.log_likelihood, weights @ logsumexp(joint, axis=1))
    assert_allclose(found.responsibilities, np.exp(joint - logsumexp(joint, axis=1, keepdims=True)), atol=1e-12)
    assert found.shares_variances == shares_variances


def test_em_never_loses_and_ends_where_it_stays():
    Z, r = clusters()[0], soft(sum(SIZES), 4)
    weights = np.random.default_rng(1).uniform(0.5, 2, len(Z))
    values = [expectation_maximization(Z, weights, r, n).log_likelihood for n in range(1, 30)]
    assert (np.diff(values) > -1e-8).all()
    assert values[-1] > values[0] + 10
    settled = expectation_maximization(Z, weights, r)
    again = expectation_maximization(Z, weights, settled.responsibilities, 1)
    assert_allclose(again.means, settled.means, atol=0.05)
    assert again.log_likelihood == pytest.approx(settled.log_likelihood, abs=1e-4 * weights.sum())


# ---- the search -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_clusters_of_unequal_size_are_found_in_any_order(seed):
    Z, labels = clusters(seed=seed)
    expected = search(Z)
    assert adjusted_rand_score(labels, expected.responsibilities.argmax(1)) == 1
    order = np.random.default_rng(seed).permutation(len(Z))
    for chosen in (order, np.argsort(labels)[::-1]):
        found = search(Z[chosen])
        assert adjusted_rand_score(labels[chosen], found.responsibilities.argmax(1)) == 1
        for one, other in zip(ordered(found), ordered(expected), strict=True):
            assert_allclose(one, other, atol=1e-3)
        assert found.log_likelihood == pytest.approx(expected.log_likelihood, abs=0.01)


def test_one_poor_start_is_mended_by_moves():
    # k-means with one start halves the large cluster and joins small ones for some seeds
    Z, labels = clusters(sizes=(900, 15, 12, 10))
    for seed in range(4):
        found = search(Z, n_init=1, seed=seed)
        assert adjusted_rand_score(labels, found.responsibilities.argmax(1)) == 1


def test_what_is_found_are_moments_of_its_own_responsibilities():
    Z, _ = clusters()
    weights = np.random.default_rng(1).uniform(0.5, 2, len(Z))
    found = search(Z, weights)
    assert_allclose(found.responsibilities.sum(1), 1)
    shares = found.responsibilities * weights[:, None]
    assert_allclose(found.weights, shares.sum(0) / weights.sum())
    assert_allclose(found.means, shares.T @ Z / shares.sum(0)[:, None])
    assert found.n_components == 4 == len(found.variances)


def test_integer_weights_are_repeated_samples():
    Z, _ = clusters()
    weights = np.random.default_rng(2).integers(1, 4, len(Z))
    ours, theirs = search(Z, weights.astype(float)), search(np.repeat(Z, weights, axis=0))
    for one, other in zip(ordered(ours), ordered(theirs), strict=True):
        assert_allclose(one, other, atol=1e-3)
    assert ours.log_likelihood == pytest.approx(theirs.log_likelihood, abs=0.01)


@pytest.mark.parametrize("unit", [1e-5, 1e4])
def test_units_and_order_of_axes_do_not_matter(unit):
    Z, _ = clusters()
    units = unit * np.array([1.0, 3.0, 0.5])
    expected, found = search(Z), search((Z * units)[:, ::-1] + 2 * unit)
    w, means, variances = ordered(expected)
    order = np.lexsort(found.means[:, ::-1].T)
    assert_allclose(found.weights[order], w, atol=1e-4)
    assert_allclose(found.means[order], (means * units)[:, ::-1] + 2 * unit, atol=1e-3 * unit)
    assert_allclose(found.variances[order], (variances * units**2)[:, ::-1], rtol=1e-2)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("n_true", [1, 2, 3])
def test_components_that_do_not_pay_are_dropped_where_they_may_be(n_true):
    Z, labels = clusters(SIZES[:n_true])
    found = search(Z, n_clusters=2 * n_true, may_be_empty=True)
    assert found.n_components == n_true
    assert adjusted_rand_score(labels, found.responsibilities.argmax(1)) == 1
    kept = search(Z, n_clusters=2 * n_true, may_be_empty=False)
    assert kept.n_components == 2 * n_true
    assert (kept.weights > 1e-3).all()
    assert kept.log_likelihood > found.log_likelihood


def test_what_a_component_pays_is_counted_in_weight():
    seen = []
    for shift in np.linspace(1.5, 4, 11):
        Z = np.concatenate([stats.norm.ppf((np.arange(20) + 0.5) / 20) + side * shift / 2 for side in (-1, 1)])[:, None]
        weighted = search(Z, np.full(40, 5.0), 2, may_be_empty=True).n_components
        assert weighted == search(np.repeat(Z, 5, axis=0), None, 2, may_be_empty=True).n_components
        alone = search(Z, None, 2, may_be_empty=True).n_components
        assert alone <= weighted  # more samples show more
        seen.append((alone, weighted))
    assert set(seen) == {(1, 1), (1, 2), (2, 2)}


# ---- how many clusters ----------------------------------------------------------------------------------------------


def cloud(sizes, sds, tails=1e6, seed=0):
    """Samples of round clusters with sds of their own, in any order, and which is whose. Tails are those of a t."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    centers = 12.0 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    noise = generator.normal(size=(len(labels), 3)) / np.sqrt(generator.gamma(tails / 2, 2 / tails, (len(labels), 3)))
    return centers[labels] + np.take(sds, labels)[:, None] * noise, labels


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("n_samples", [300, 6000])
def test_a_cluster_that_is_wider_than_others_is_one_cluster(n_samples, monkeypatch):
    monkeypatch.setattr("skdevae.embedding._mixture_search._MOST_SAMPLES", 300)
    Z, labels = cloud([n_samples // 2, n_samples // 4, n_samples // 4], [2.5, 0.4, 1.0])
    found = search(Z, n_clusters=6, n_init=1, may_be_empty=True)
    assert found.n_components == 3
    assert adjusted_rand_score(labels, found.responsibilities.argmax(1)) > 0.98
    assert_allclose(np.sqrt(np.sort(found.variances.mean(1))), [0.4, 1.0, 2.5], rtol=0.15)


def test_chance_makes_no_clusters_however_large_the_table(monkeypatch):
    monkeypatch.setattr("skdevae.embedding._mixture_search._MOST_SAMPLES", 150)
    for seed in range(6):
        Z = np.random.default_rng(seed).normal(size=(10_000, 2)) * [3.0, 1.0]
        assert search(Z, n_clusters=3, n_init=1, may_be_empty=True).n_components == 1


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("n_samples", [500, 8000])
def test_a_cluster_of_one_in_a_hundred_is_found(n_samples, monkeypatch):
    monkeypatch.setattr("skdevae.embedding._mixture_search._MOST_SAMPLES", 500)
    rare = n_samples // 100
    Z, labels = cloud([n_samples // 2, n_samples // 2 - rare, rare], [1.0, 1.0, 1.0])
    found = search(Z, n_clusters=5, n_init=1, may_be_empty=True)
    assert found.n_components == 3
    assert adjusted_rand_score(labels, found.responsibilities.argmax(1)) > 0.99


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize(
    ("sizes", "sds", "tails"),
    [
        ([400], [1.0], 5),
        ([200, 200], [1.0, 1.0], 8),
        ([250, 150], [2.0, 1.0], 8),
        ([300, 60, 40], [1.0, 2.0, 0.5], 1e6),
    ],
)
def test_no_more_clusters_than_schwarzs_criterion_asks_for(sizes, sds, tails):
    Z, _ = cloud(sizes, sds, tails)
    mixtures = [
        GaussianMixture(k, covariance_type="diag", n_init=3, reg_covar=1e-3, random_state=0).fit(Z) for k in range(1, 7)
    ]
    expected = 1 + int(np.argmin([mixture.bic(Z) for mixture in mixtures]))
    found = search(Z, n_clusters=6, may_be_empty=True).n_components
    assert len(sizes) <= found <= expected


# ---- few samples, and columns without spread ------------------------------------------------------------------------


@pytest.mark.parametrize("may_be_empty", [False, True])
def test_fewer_distinct_samples_than_clusters(may_be_empty):
    Z = np.repeat([[0.0, 0.0], [3.0, 0.0], [0.0, 5.0]], 10, axis=0)
    found = search(Z, n_clusters=8, may_be_empty=may_be_empty)
    assert found.n_components == 3
    assert_allclose(np.unique(found.means.round(6), axis=0), np.unique(Z, axis=0), atol=1e-6)
    assert_allclose(found.weights, 1 / 3, atol=1e-6)
    assert np.isfinite(found.log_likelihood)


@pytest.mark.parametrize("constant", [0.0, -3.7])
def test_constant_columns_do_not_matter(constant):
    Z, labels = clusters()
    wide = np.insert(Z, 1, constant, axis=1)
    expected, found = search(Z), search(wide)
    assert_array_equal(found.responsibilities, expected.responsibilities)
    assert_allclose(np.delete(found.means, 1, axis=1), expected.means)
    assert_allclose(found.means[:, 1], constant)
    assert_allclose(found.variances[:, 1], 0, atol=1e-12)
    assert adjusted_rand_score(labels, found.responsibilities.argmax(1)) == 1


@pytest.mark.parametrize("may_be_empty", [False, True])
def test_columns_of_rounding_are_constant_columns(may_be_empty):
    Z = np.column_stack([np.repeat([0.0, 1.0], 10), 1e-9 * np.random.default_rng(0).normal(size=20)])
    found = search(Z, n_clusters=4, may_be_empty=may_be_empty)
    assert_allclose(np.unique(found.means[:, 0].round(3)), [0, 1])


@pytest.mark.parametrize("may_be_empty", [False, True])
@pytest.mark.parametrize("value", [0.0, 2.5])
def test_samples_that_are_all_the_same_are_one_component(value, may_be_empty):
    Z = np.full((9, 3), value)
    for found in (search(Z, may_be_empty=may_be_empty), kmeans_mixture(Z, np.ones(9), 4, n_init=2, seed=0)):
        assert found.n_components == 1
        assert_allclose(found.means, Z[:1])
        assert_array_equal(found.weights, [1])
        assert_array_equal(found.responsibilities, np.ones((9, 1)))
        assert_allclose(found.variances, 0, atol=1e-12)


def test_seeds_alone_decide():
    Z, _ = clusters()
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - that nobody draws from it
    one, other = (search(Z, seed=2**31 - 1, may_be_empty=True) for _ in range(2))
    assert_array_equal(one.means, other.means)
    assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_kmeans_components_are_its_clusters():
    Z, labels = clusters()
    weights = np.random.default_rng(1).uniform(0.5, 2, len(Z))
    found = kmeans_mixture(Z, weights, 4, n_init=10, seed=0)
    own = found.responsibilities.argmax(1)
    assert adjusted_rand_score(labels, own) == 1
    assert set(np.unique(found.responsibilities)) == {0, 1}
    for k in range(4):
        assert_allclose(found.means[k], np.average(Z[own == k], axis=0, weights=weights[own == k]))


def test_a_large_table_is_searched_by_its_first_samples(monkeypatch):
    Z, labels = clusters()
    Z, labels = Z[np.random.default_rng(0).permutation(len(Z))], labels[np.random.default_rng(0).permutation(len(Z))]
    whole = search_mixture(Z, np.ones(len(Z)), 6, n_init=3, may_be_empty=True, seed=0)
    monkeypatch.setattr("skdevae.embedding._mixture_search._MOST_SAMPLES", len(Z) // 2)
    part = search_mixture(Z, np.ones(len(Z)), 6, n_init=3, may_be_empty=True, seed=0)
    assert part.n_components == whole.n_components == 4
    assert adjusted_rand_score(labels, part.responsibilities.argmax(1)) == 1
    assert part.log_likelihood == pytest.approx(whole.log_likelihood, rel=1e-4)
