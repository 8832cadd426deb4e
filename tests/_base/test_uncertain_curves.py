"""Posteriors that include what is not known of the curves: averages of the posteriors of replicates."""

import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import integrate, stats

from skdevae import DeVAETransformer
from skdevae.datasets import make_progression
from skdevae.inference import PosteriorFields
from skdevae.inspection import bootstrap

N = 40


@pytest.fixture(scope="module", name="X")
def table():
    X = make_progression(N, n_transient=1, n_increasing=2, n_decreasing=2, noise=0.3, random_state=0).data
    X[3, 1] = np.nan
    return X


@pytest.fixture(scope="module", name="model")
def fit(X):
    return DeVAETransformer(max_epochs=25, n_grid_points=33, random_state=0).fit(X)


@pytest.fixture(scope="module", name="replicates")
def few(X, model):
    return bootstrap(model, X, n_bootstrap=3, random_state=0)


@pytest.fixture(scope="module", name="rows")
def new_rows(X):
    """Rows of the table; one narrow posterior after another far from all; and a row that says nothing."""
    return np.vstack([X[:6], X.max(0) + 6, np.full(X.shape[1], np.nan)])


@pytest.fixture(scope="module", name="averaged")
def with_curves(model, replicates, rows):
    with pytest.warns(UserWarning, match="no observed entry|beyond"):
        return model.posterior(rows, include="curves", replicates=replicates)


@pytest.fixture(scope="module", name="own")
def of_each(replicates, rows):
    with pytest.warns(UserWarning, match="no observed entry|beyond"):
        return [replicate.posterior(rows) for replicate in replicates]


def test_moments_are_those_of_the_average_of_the_replicates_posteriors(averaged, own):
    """The law of total variance, against posteriors that each replicate finds on grids of its own."""
    means, sds = np.stack([one.mean for one in own]), np.stack([one.sd for one in own])
    np.testing.assert_allclose(averaged.mean, means.mean(0), atol=1e-5)
    np.testing.assert_allclose(averaged.sd**2, (sds**2).mean(0) + means.var(0), rtol=1e-4)


def test_intervals_hold_their_share_of_the_average(averaged, replicates, rows):
    """By quadrature: the replicates' log joints at many points of the axis, added up by hand."""
    z = np.linspace(-7, 7, 4001)
    row, joints = rows[:1], []
    for replicate in replicates:
        error = (row - replicate.trajectories(z)) / replicate.noise_scale_
        joints.append(stats.norm.logpdf(error).sum(1) + stats.norm.logpdf(z))
    density = np.mean([np.exp(one - one.max()) / integrate.simpson(np.exp(one - one.max()), x=z) for one in joints], 0)
    below = integrate.cumulative_simpson(density, x=z, initial=0)
    ends = np.interp([averaged.lower[0, 0], averaged.upper[0, 0]], z, below)
    np.testing.assert_allclose(ends, [0.025, 0.975], atol=1e-4)


def test_a_row_without_entries_has_the_prior(averaged):
    assert averaged.mean[-1] == pytest.approx(0)
    assert averaged.sd[-1] == pytest.approx(1)
    assert averaged.upper[-1] == pytest.approx(stats.norm.ppf(0.975))


def test_rows_beyond_training_are_still_marked(averaged):
    assert averaged.beyond_training[-2]
    assert not averaged.beyond_training[:6].any()


def test_rows_do_not_depend_on_those_that_come_with_them(model, replicates, rows, averaged):
    alone = model.posterior(rows[2:3], include="curves", replicates=replicates)
    for name in ("mean", "sd", "lower", "upper"):
        np.testing.assert_allclose(getattr(alone, name), getattr(averaged, name)[2:3], rtol=1e-9, atol=1e-9)


def test_replicates_that_are_all_the_fit_change_nothing(X, model, replicates):
    """They have no spread, so what is left is the posterior given the curves."""
    same = copy.copy(replicates)
    same._fitted = replace(replicates._fitted, parameters=replicates._fitted.models.start.expand(3, -1))
    found, expected = model.posterior(X, include="curves", replicates=same), model.posterior(X)
    for name in ("mean", "sd", "lower", "upper"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-5)


def test_refits_are_averaged_as_gaussians(X):
    model = DeVAETransformer(max_epochs=3, random_state=0).fit(X)
    refits = bootstrap(model, X, n_bootstrap=2, random_state=0, method="refit")
    found, own = model.posterior(X, include="curves", replicates=refits), [refit.posterior(X) for refit in refits]
    means, sds = np.stack([one.mean for one in own]), np.stack([one.sd for one in own])
    np.testing.assert_allclose(found.sd**2, (sds**2).mean(0) + means.var(0), rtol=1e-6)
    np.testing.assert_allclose(stats.norm.cdf(found.upper, means, sds).mean(0), 0.975, atol=1e-9)


def test_quantiles_of_averaged_gaussians():
    random = np.random.default_rng(0)
    means, sds = random.normal(size=(5, 4, 2)), random.uniform(0.1, 3, size=(5, 4, 2))
    fields = PosteriorFields.average(torch.from_numpy(means), torch.from_numpy(sds), 0.8)
    for end, share in ((fields.lower, 0.1), (fields.upper, 0.9)):
        np.testing.assert_allclose(stats.norm.cdf(end.numpy(), means, sds).mean(0), share, atol=1e-12)


def test_tables_come_out_as_asked(X, model, replicates):
    frame = pd.DataFrame(X, index=[f"s{number}" for number in range(N)])
    named = DeVAETransformer(max_epochs=2, n_grid_points=33, random_state=0).set_output(transform="pandas").fit(frame)
    found = named.posterior(frame, include="curves", replicates=bootstrap(named, frame, n_bootstrap=2, random_state=0))
    assert list(found.mean.index) == list(frame.index)
    assert list(pd.DataFrame(found).index) == list(frame.index)
    single = model.posterior(X.astype(np.float32), include="curves", replicates=replicates)
    assert single.lower.dtype == np.float32


def test_what_is_missing_or_wrong_is_said(X, model, replicates):
    with pytest.raises(ValueError, match=r"pass replicates=skdevae\.inspection\.bootstrap\(estimator, X_train\)"):
        model.posterior(X, include="curves")
    with pytest.raises(ValueError, match='with include="curves" only'):
        model.posterior(X, replicates=replicates)
    other = DeVAETransformer(max_epochs=1, random_state=0).fit(X)
    with pytest.raises(ValueError, match="of another estimator"):
        other.posterior(X, include="curves", replicates=replicates)
    with pytest.raises(ValueError, match="include"):
        model.posterior(X, include="everything", replicates=replicates)
