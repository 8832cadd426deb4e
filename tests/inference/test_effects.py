"""Standard errors of covariate effects, against closed forms where the model is linear and Gaussian."""

import numpy as np
import pytest
import torch
from inference.random_models import random_model

from skdevae.inference.effects import effect_covariances
from skdevae.nn.covariate_effects import CovariateEffects
from skdevae.nn.latent_grid import LatentGrid
from skdevae.nn.row_context import RowContext
from skdevae.table.source import RowSource

FLOAT64 = torch.zeros((), dtype=torch.float64)
N, D = 1500, 6


def linear_case(n_covariates, n_components=1, weight=None, seed=0):
    """A plane with given loadings and noise, a table drawn from it, and the design of its rows."""
    random = np.random.default_rng(seed)
    model = random_model("exact", "gaussian", n_features=D, n_components=n_components, hidden=(), z_max=5.0)
    loadings = random.normal(size=(n_components, D))
    design = np.column_stack([random.random(N) < 0.3, random.normal(size=N)])[:, :n_covariates].astype(float)
    model.effects = CovariateEffects(D, design.mean(0).tolist()).double().requires_grad_(False)
    model.effects.variance.fill_(1e12)  # no prior to speak of
    with torch.no_grad():
        model.decoder.loadings.copy_(torch.from_numpy(loadings))
        scale = model.likelihood.scale.numpy()
        level = model.decoder.level.numpy()
    z = random.normal(size=(N, n_components))
    table = level + z @ loadings + scale * random.normal(size=(N, D))
    source = RowSource(table, np.zeros(D), np.ones(D), FLOAT64, RowContext(covariates=design, weight=weight))
    return model, source, design, loadings, scale


def errors(model, source, n_points=129, n_components=1):
    grid = LatentGrid.standard_normal(n_points, 5.0, n_components).to(FLOAT64)
    return effect_covariances(model, model.effects, source, grid).diagonal(dim1=1, dim2=2).sqrt().numpy()  # (D, C)


@pytest.mark.parametrize("n_covariates", [1, 2])
def test_rows_are_normal_with_the_latents_part_in_their_variance(n_covariates):
    # x ~ N(level + c B, l l^T + sd^2 I), so that B has the covariance (C^T C)^-1 (x) (l l^T + sd^2 I)
    model, source, design, loadings, scale = linear_case(n_covariates)
    centered = design - design.mean(0)
    of_design = np.diag(np.linalg.inv(centered.T @ centered))
    variances = (loadings**2).sum(0) + scale**2
    expected = np.sqrt(variances[:, None] * of_design)
    # a curve of any shape costs a little of what a straight one leaves
    np.testing.assert_allclose(errors(model, source), expected, rtol=0.04)


def test_two_components_have_their_part():
    model, source, design, loadings, scale = linear_case(1, n_components=2)
    expected = np.sqrt(((loadings**2).sum(0) + scale**2) / ((design - design.mean()) ** 2).sum())
    np.testing.assert_allclose(errors(model, source, 49, 2)[:, 0], expected, rtol=0.05)


def test_weights_are_rows():
    ours = linear_case(1)
    double = linear_case(1, weight=np.full(N, 2.0))
    np.testing.assert_allclose(errors(*double[:2]), errors(*ours[:2]) / np.sqrt(2), rtol=1e-6)


def test_a_strong_prior_leaves_its_own_uncertainty():
    model, source, *_ = linear_case(2)
    model.effects.variance.fill_(1e-8)
    np.testing.assert_allclose(errors(model, source), 1e-4, rtol=1e-3)


def test_a_feature_of_which_a_level_tells_nothing_is_no_reason_for_others_to_be_lost():
    model, source, *_ = linear_case(1)
    table = source.table.copy()
    table[source.context.covariates[:, 0] == 1, 2] = np.nan
    with_gaps = RowSource(table, np.zeros(D), np.ones(D), FLOAT64, source.context)
    found = errors(model, with_gaps)[:, 0]
    assert np.isfinite(found).all()
    others = np.delete(np.arange(D), 2)
    np.testing.assert_allclose(found[others], errors(model, source)[others, 0], rtol=0.05)
    assert found[2] > 100 * found[others].max()
