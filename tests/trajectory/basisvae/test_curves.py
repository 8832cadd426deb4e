"""Curves and scores of a fitted BasisVAEClusterer: features are copies of functions, scores are integrals."""

import numpy as np
import pytest
import torch
from by_hand import LIKELIHOODS, log_evidence, share_of_excess_zeros
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logit
from trajectory.basisvae.cases import counts, fitted, fitted_to_shifted_copies, model_and_table, quick


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
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
            shown = np.log(model.trajectories(z) / (1 - share_of_excess_zeros(model, z)))
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


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_score_is_the_integral_over_the_latent(likelihood):
    model, table = model_and_table(likelihood)
    assert_allclose(model.score_samples(table[:8]), log_evidence(model, table[:8]), rtol=0, atol=1e-4)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_lower_bound_is_the_elbo_less_what_the_model_costs(likelihood):
    model, table = model_and_table(likelihood)
    with torch.no_grad():
        decoder, module = model.module_.decoder, model.module_
        phi = module.assignment.responsibilities.T
        of_copies = decoder.log_prior(1.0) - 0.5 * np.log(len(table)) * decoder.n_shape_parameters[:, None]
        prior = (phi * of_copies).sum() + decoder.shared_log_prior(1.0) + module.likelihood.log_prior()
        cost = float(module.assignment.divergence() - prior)
    assert cost > 0
    assert_allclose(model.lower_bound_, model.elbo(table) - cost / len(table), rtol=0, atol=5e-3)


def test_positions_have_the_shape_of_the_latent():
    with pytest.raises(ValueError, match=r"z has shape \(3, 2\)"):
        fitted().basis_functions(np.zeros((3, 2)))
    assert_array_equal(fitted().basis_functions(0.5), fitted().basis_functions([[0.5]]))
