"""Updates of covariate effects: their sums are derivatives of the objective, at the q(z) of the E-step."""

import numpy as np
import pytest
import torch
from agreement import assert_agree

from skdevae.nn.covariate_effects import CovariateEffects, EffectSums
from skdevae.nn.latent_grid import LatentGrid, log_joint
from skdevae.nn.models import build_model
from skdevae.nn.row_context import RowContext
from skdevae.table.grid_source import GridSource, in_strata_of
from skdevae.table.source import RowSource
from skdevae.training.batches import expected_statistics
from skdevae.training.effects import effects_by_residuals_, effects_by_strata_, residual_sums

FLOAT64 = torch.zeros((), dtype=torch.float64)
N, D = 40, 4
NETWORK = {"hidden_layer_sizes": (3,), "activation": "tanh"}


def case(likelihood, *, missing=False, weighted=False):
    random = np.random.default_rng(0)
    options = {"gaussian": {"floor": 0.1}, "nb": {"scales_dispersion": True}}.get(likelihood, {})
    config = {
        "n_samples": N,
        "n_features": D,
        "n_components": 1,
        "average_covariates": [0.4, 0.0],
        "decoder": {"name": "derivative", "behaviors": ("increasing", "transient"), "integrator": "grid",
                    "n_knots": 9, "z_max": 4.0, **NETWORK},
        "likelihood": {"name": likelihood, **options},
        "assignment": {"name": "collapsed", "n_clusters": 2, "alpha": 1.0},
        "encoder": None,
        "z_max": 4.0,
        "weight_precision": 1.0,
        "beta": 1.7,
        "gamma": 1.0,
    }  # fmt: skip
    model = build_model(config, torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        for seed, parameter in enumerate(model.parameters()):
            parameter += 0.4 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)).double()
    model.latent_temperature = 1.3  # as while annealing
    table = random.normal(size=(N, D)) if likelihood == "gaussian" else random.integers(0, 2, (N, D)).astype(float)
    if missing:
        table[random.random(table.shape) < 0.3] = np.nan
    design = np.column_stack([random.random(N) < 0.4, random.integers(-1, 2, N)]).astype(float)
    weight = random.uniform(0, 2, N) if weighted else None
    scales = (np.zeros(D), np.ones(D)) if likelihood == "gaussian" else (None, None)
    source = RowSource(table, *scales, FLOAT64, RowContext(covariates=design, weight=weight))
    return model, source, LatentGrid.standard_normal(17, 4.0).to(FLOAT64)


def by_autograd(model, source, grid):
    """Derivative in the effects of the expected log-likelihood of all rows, q(z) and q(w) held."""
    model.effects.values.requires_grad_(True)
    phi, weights = model.assignment.responsibilities.T.detach(), torch.from_numpy(source.weights)
    total = 0.0
    with in_strata_of(model, source):
        tables = model.tables_on(grid)
        q = [
            log_joint(rows, tables, grid, model.beta * model.latent_temperature).softmax(1).detach()
            for _, rows in GridSource(source, model).chunks()
        ]
    rows, q = source.rows(slice(None)).dense(), torch.cat(q)
    offsets = model.effects.offsets(rows.context.covariates)
    for number, point in enumerate(grid.points):
        curves = model.curves(point[None]).detach() + offsets[:, None]  # (N, K, D)
        z = point.expand(N, 1)
        total = total + (weights * q[:, number] * model.likelihood.expected_row_log_prob(rows, curves, z, phi)).sum()
    (gradient,) = torch.autograd.grad(total, model.effects.values)
    model.effects.values.requires_grad_(False)
    return gradient


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("likelihood", "missing"), [("gaussian", False), ("gaussian", True), ("poisson", True), ("nb", False),
                                ("zinb", False), ("bernoulli", True)]
)  # fmt: skip
def test_scores_are_derivatives_of_the_expected_log_likelihood(likelihood, missing, weighted, monkeypatch):
    model, source, grid = case(likelihood, missing=missing, weighted=weighted)
    expected = by_autograd(model, source, grid)
    caught = []
    monkeypatch.setattr(CovariateEffects, "update_", lambda self, sums: caught.append(sums))
    with torch.no_grad(), in_strata_of(model, source):
        if model.has_strata:
            effects_by_strata_(model, model.effects, expected_statistics(model, source, grid), grid)
        else:
            effects_by_residuals_(model, model.effects, source, grid)
    assert_agree(caught[0].score, expected)
    eigenvalues = torch.linalg.eigvalsh(caught[0].information.permute(2, 0, 1))
    assert (eigenvalues > 0).all()


def test_what_rows_say_of_effects_adds_up(monkeypatch):
    """Over chunks of a table, over tables that were read under other effects, and over copies of rows."""
    model, source, grid = case("gaussian", missing=True, weighted=True)
    with torch.no_grad():
        whole = residual_sums(model, model.effects, source, grid)
        monkeypatch.setattr("skdevae.table.source._CHUNK_ENTRIES", 7 * len(grid.points))
        in_chunks = residual_sums(model, model.effects, source, grid)
        tables = [source.take(slice(0, 15)), source.take(slice(15, N))]
        parts = [
            EffectSums.of(residual_sums(model, model.effects, table, grid), model.effects.values) for table in tables
        ]
    for found in (in_chunks, (parts[0] + parts[1]).at(model.effects.values)):
        assert_agree(found.score, whole.score)
        assert_agree(found.information, whole.information)
    twice = EffectSums.of(whole, model.effects.values).times(2).at(model.effects.values)
    assert_agree(twice.score, 2 * whole.score)
    assert_agree(twice.information, 2 * whole.information)
