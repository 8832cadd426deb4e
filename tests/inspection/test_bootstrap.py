"""Replicates of a fit: what they are weighted by, and that they are what refits from the start would be."""

import numpy as np
import pytest
from scipy import stats
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdevae import BasisDeVAEClusterer, DeVAETransformer
from skdevae._base.replicates import bootstrap_weights
from skdevae.datasets import make_progression
from skdevae.inspection import bootstrap

N = 60


@pytest.fixture(scope="module", name="X")
def table():
    return make_progression(N, n_transient=0, n_increasing=3, n_decreasing=3, noise=0.4, random_state=0).data


@pytest.fixture(scope="module")
def model(X):
    return DeVAETransformer(random_state=0).fit(X)


# ---- weights --------------------------------------------------------------------------------------------------------


def test_shares_of_the_bayesian_bootstrap_are_uniform_on_the_simplex():
    drawn = bootstrap_weights(5, 4000, np.random.RandomState(0), sample_weight=np.ones(5))
    np.testing.assert_allclose(drawn.sum(1), 5)
    assert stats.kstest(drawn[:, 2] / 5, stats.beta(1, 4).cdf).pvalue > 0.01


def test_samples_of_a_group_are_drawn_together():
    groups = np.repeat(["a", "b", "c"], [1, 2, 3])
    drawn = bootstrap_weights(6, 50, np.random.RandomState(0), sample_weight=np.ones(6), groups=groups)
    assert (drawn[:, 1] == drawn[:, 2]).all()
    assert (np.ptp(drawn[:, 3:], axis=1) == 0).all()
    assert (drawn[:, 0] != drawn[:, 1]).all()


def test_sample_weights_multiply_what_is_drawn():
    weights = np.array([0.0, 1.0, 3.0])
    drawn = bootstrap_weights(3, 20_000, np.random.RandomState(0), sample_weight=weights)
    np.testing.assert_allclose(drawn.sum(1), 4)
    assert (drawn[:, 0] == 0).all()
    assert drawn[:, 2].mean() > drawn[:, 1].mean()


@pytest.mark.parametrize(("groups", "message"), [(np.zeros(3), "one group only"), (np.arange(2), "2 entries.*3 rows")])
def test_groups_that_do_not_fit_are_refused(groups, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_weights(3, 2, np.random.RandomState(0), sample_weight=np.ones(3), groups=groups)


def test_one_row_cannot_be_resampled():
    with pytest.raises(ValueError, match="one row"):
        bootstrap_weights(1, 2, np.random.RandomState(0), sample_weight=np.ones(1))


# ---- replicates -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_side_by_side_is_what_refits_from_the_start_are(X):
    """The naive loop is the reference: the same weights, and a fit from nothing for each."""
    fitted = BasisDeVAEClusterer(random_state=0).fit(X)
    fast, slow = (
        bootstrap(fitted, X, n_bootstrap=3, random_state=0, method=method) for method in ("side_by_side", "refit")
    )
    np.testing.assert_array_equal(fast.weights, slow.weights)
    spread = slow.positions.std(0).mean()
    assert np.sqrt(((fast.positions - slow.positions) ** 2).mean()) < spread
    for mine, theirs, weight in zip(fast, slow, fast.weights, strict=True):
        nats = [np.average(one.score_samples(X), weights=weight) for one in (mine, theirs)]
        assert nats[0] == pytest.approx(nats[1], abs=0.15)


@pytest.mark.slow
def test_replicates_are_fitted_estimators_that_answer_alike(X, model):
    replicates = bootstrap(model, X, n_bootstrap=4, random_state=0)
    assert len(replicates) == 4
    z = np.linspace(-1, 1, 5)
    np.testing.assert_allclose(replicates.trajectories(z)[2], replicates[2].trajectories(z), rtol=1e-5)
    own = np.stack([z, z + 0.1, z + 0.2, z + 0.3])
    np.testing.assert_allclose(replicates.trajectories(own)[3], replicates[3].trajectories(own[3]), rtol=1e-5)
    np.testing.assert_allclose(replicates[-1].transform(X)[:, 0], replicates.positions[-1], atol=0.1)
    assert len(replicates[1:3]) == 2
    with pytest.raises(IndexError):
        replicates[4]
    with pytest.raises(ValueError, match=r"z has shape \(3, 2\)"):
        replicates.trajectories(np.zeros((3, 2)))


def test_a_replicate_leaves_the_estimator_as_it_was(X, model):
    before = model.transform(X), model.noise_scale_.copy()
    replicate = bootstrap(model, X, n_bootstrap=2, random_state=0)[1]
    assert not np.allclose(replicate.noise_scale_, model.noise_scale_)
    np.testing.assert_array_equal(model.transform(X), before[0])
    np.testing.assert_array_equal(model.noise_scale_, before[1])


def test_axes_point_the_same_way(X, model):
    for method in ("side_by_side", "refit"):
        replicates = bootstrap(model, X, n_bootstrap=2, random_state=1, method=method)
        for positions in replicates.positions:
            assert stats.spearmanr(positions, model.transform(X)[:, 0])[0] > 0.8


def test_pipelines_are_resampled_at_their_last_step(X):
    pipeline = make_pipeline(StandardScaler(), DeVAETransformer(max_epochs=40, random_state=0)).fit(X)
    inside = bootstrap(pipeline[-1], pipeline[:-1].transform(X), n_bootstrap=2, random_state=0)
    np.testing.assert_array_equal(bootstrap(pipeline, X, n_bootstrap=2, random_state=0).positions, inside.positions)


def test_samples_without_weight_are_placed_and_teach_nothing(X, model):
    """As if they were absent, but that they have a position."""
    counted = np.arange(N) >= 10
    weight = counted.astype(float)
    other = X.copy()
    other[~counted] += 1.0
    first, second = (
        bootstrap(model, table, n_bootstrap=2, random_state=0, sample_weight=weight) for table in (X, other)
    )
    np.testing.assert_allclose(first.positions[:, counted], second.positions[:, counted], atol=1e-3)
    assert not np.allclose(first.positions[:, ~counted], second.positions[:, ~counted], atol=0.1)


def test_what_cannot_be_fitted_side_by_side_is_refitted(X):
    amortized = DeVAETransformer(inference="amortized", max_epochs=3, random_state=0).fit(X)
    with pytest.raises(ValueError, match=r"latents come from an encoder.*method='refit'"):
        bootstrap(amortized, X, n_bootstrap=2, method="side_by_side")
    replicates = bootstrap(amortized, X, n_bootstrap=2, random_state=0)
    assert replicates[0] is not amortized
    assert replicates.positions.shape == (2, N)


@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_refits_may_answer_in_data_frames(X, container):
    pytest.importorskip(container)
    plain = BasisDeVAEClusterer(max_epochs=3, random_state=0).fit(X)
    framed = BasisDeVAEClusterer(max_epochs=3, random_state=0).set_output(transform=container).fit(X)
    one, other = (bootstrap(m, X, n_bootstrap=2, method="refit", random_state=0) for m in (plain, framed))
    np.testing.assert_array_equal(one.positions, other.positions)


def test_covariates_reach_the_refits(X):
    site = np.repeat(["a", "b"], N // 2)
    model = DeVAETransformer(max_epochs=5, random_state=0).fit(X, covariates=site)
    replicates = bootstrap(model, X, n_bootstrap=2, random_state=0, covariates=site)
    assert replicates.positions.shape == (2, N)
    with pytest.raises(ValueError, match="effects of covariates"):
        bootstrap(model, X, n_bootstrap=2, covariates=site, method="side_by_side")


def test_an_axis_that_the_fit_did_not_have_is_refused(X, model):
    with pytest.raises(ValueError, match="fitted without one"):
        bootstrap(model, X, n_bootstrap=2, axis=np.arange(N))


def test_replicates_along_a_given_axis_keep_its_positions(X):
    """Curves are those of weighted fits along the same positions, and samples stay where they were said to be."""
    t = make_progression(N, n_transient=0, n_increasing=3, n_decreasing=3, noise=0.4, random_state=0).times
    model = BasisDeVAEClusterer(max_epochs=100, random_state=0).fit(X, axis=t)
    with pytest.raises(ValueError, match=r"pass axis=\.\.\."):
        bootstrap(model, X, n_bootstrap=2)
    fast, slow = (
        bootstrap(model, X, n_bootstrap=2, random_state=0, axis=t, method=method)
        for method in ("side_by_side", "refit")
    )
    z = model.axis_map_.to_latent(t)
    np.testing.assert_allclose(fast.positions, np.stack([z, z]), atol=1e-3)
    # The latent of a refit is that of its own weighted ranks, so curves are compared where samples are.
    curves = fast.trajectories(fast.positions), slow.trajectories(slow.positions)
    change = np.ptp(model.trajectories(z), axis=0)
    assert (abs(curves[0] - curves[1]).mean((0, 1)) < 0.1 * change).all()
