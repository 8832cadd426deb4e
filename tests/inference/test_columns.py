"""Evidence of columns: sums over rows of what each candidate curve explains."""

import numpy as np
import pytest
import torch
from agreement import assert_agree
from inference.random_models import drawn_table, random_model, random_table, source_of

from skdevae.inference import column_evidence, inference_for
from skdevae.nn.latent_grid import LatentGrid
from skdevae.nn.likelihoods import Gaussian

BEHAVIORS = ("increasing", "decreasing", "transient")


def _chooser(likelihood="gaussian", kind="exact"):
    return random_model(kind, likelihood, n_components=1, behaviors=BEHAVIORS)


def _given_latents(model, source, positions, weights):
    """Log-likelihood of each column under each candidate, entry by entry, for rows weighted over positions (P, Q)."""
    rows, curves = source.rows(slice(None)).dense(), model.curves(positions)  # (P, K, D)
    x, z = rows.values[:, None, None], positions[:, None, None]
    log_prob = model.likelihood.log_prob(x, curves, z)  # (B, P, K, D)
    if rows.observed is not None:
        log_prob = log_prob * rows.observed[:, None, None]
    return torch.einsum("bp,bpkd->dk", weights, log_prob)


@pytest.mark.parametrize("kind", ["exact", "amortized"])
@pytest.mark.parametrize("likelihood", ["gaussian", "nb", "zinb"])
def test_evidence_is_the_expectation_under_the_posterior_of_the_latents(likelihood, kind):
    model = _chooser(likelihood, kind)
    source = source_of(random_table(likelihood, 20, missing=0.2))
    found = column_evidence(model, source)
    assert found.shape == (5, 3)
    grid = LatentGrid.standard_normal(513, model.z_max)
    rows = source.rows(slice(None)).dense()
    joint = model.likelihood.pair_log_prob(rows, model.predictive_curves(grid.points), grid.points) + grid.log_mass
    expected = _given_latents(model, source, grid.points, joint.softmax(1)) + model.candidate_log_prior().T
    # up to constants, which all candidates of a feature share
    assert_agree(found - found.mean(1, keepdim=True), expected - expected.mean(1, keepdim=True))


class Nonlinear(Gaussian):
    """A gaussian likelihood that does not say that it is linear in the data."""

    is_linear = False


def test_without_a_linear_form_latents_are_at_the_posterior_means():
    model = _chooser("gaussian", "amortized")
    source = source_of(random_table("gaussian", 20, missing=0.2))
    model.likelihood.__class__ = Nonlinear
    positions = inference_for(model, 64).mean(source)
    expected = _given_latents(model, source, positions, torch.eye(20, dtype=torch.float64))
    assert_agree(column_evidence(model, source), expected + model.candidate_log_prior().T)


def test_size_factors_count_for_every_candidate():
    # without dispersions that scale, no grid serves rows of different sizes, and latents are at their means
    model, sizes = _chooser("nb", "amortized"), np.linspace(-1, 1, 20)
    table = random_table("nb", 20, sizes=np.exp(sizes))
    sized = source_of(table, log_size=sizes)
    found = column_evidence(model, sized)
    # row by row, sizes are part of the curves' level
    alone = []
    for row in range(20):
        one = source_of(table[[row]], log_size=sizes[[row]])
        alone.append(column_evidence(model, one) - model.candidate_log_prior().T)
        z = inference_for(model, 64).mean(one)
        curves = model.curves(z)[0] + sizes[row]
        x, log_dispersion = torch.from_numpy(table[row]), model.likelihood.log_dispersion
        log_prob = torch.distributions.NegativeBinomial(
            log_dispersion.exp(), logits=curves - log_dispersion, validate_args=False
        ).log_prob(x)
        assert_agree(alone[-1] - alone[-1][:, :1], (log_prob - log_prob[:1]).T)
    assert_agree(found, torch.stack(alone).sum(0) + model.candidate_log_prior().T)


@pytest.mark.parametrize("kind", ["exact", "amortized"])
def test_columns_are_the_sums_of_chunks(kind, monkeypatch):
    model = _chooser("nb", kind)
    source = source_of(drawn_table(model, 20), log_size=None if kind == "exact" else np.linspace(-1, 1, 20))
    expected = column_evidence(model, source)
    monkeypatch.setattr("skdevae.table.source._CHUNK_ENTRIES", 3 * model.entries_per_point)
    assert_agree(column_evidence(model, source), expected)


@pytest.mark.parametrize("likelihood", ["gaussian", "nb", "zinb", "not linear"])
def test_weights_are_repetitions(likelihood):
    is_linear = likelihood != "not linear"
    model = _chooser(likelihood if is_linear else "gaussian", "amortized")
    if not is_linear:
        model.likelihood.__class__ = Nonlinear
    table = random_table(likelihood if is_linear else "gaussian", 20, missing=0.2)
    weights, log_size = np.random.default_rng(0).integers(0, 4, 20), np.linspace(-1, 1, 20)
    sizes = {"log_size": log_size} if likelihood == "zinb" else {}
    often = np.repeat(np.arange(20), weights)
    weighted = source_of(table, weight=weights.astype(float), **sizes)
    repeated = source_of(table[often], **({"log_size": log_size[often]} if sizes else {}))
    assert_agree(column_evidence(model, weighted), column_evidence(model, repeated))
