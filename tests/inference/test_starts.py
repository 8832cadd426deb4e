"""Where searches start, for rows that differ in covariates and sizes: each point is judged by curves of such rows."""

import numpy as np
import pytest
import torch

from skdevae import DGDEmbedder, VampVAE
from skdevae.inference.starts import StartingPoints
from skdevae.nn.row_context import RowContext

N, D = 40, 4


def fitted(kind, likelihood):
    random = np.random.default_rng(0)
    table = random.poisson(5.0, (N, D)) + np.eye(N, D)
    batch, age = random.choice(["a", "b"], N), random.normal(0, 1, N)
    options = {"hidden_layer_sizes": (5,), "max_epochs": 3, "likelihood": likelihood, "random_state": 0}
    model = kind(2, **options).fit(table, covariates={"batch": batch, "age": age})
    _, source, inference = model._for_inference(table, None, {"batch": batch, "age": age})
    return inference.model, source.rows(slice(None)).dense()


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("kind", [VampVAE, DGDEmbedder])
@pytest.mark.parametrize("likelihood", ["poisson", "zinb", "gaussian"])
def test_points_are_judged_by_curves_of_like_rows(kind, likelihood):
    model, rows = fitted(kind, likelihood)
    with torch.no_grad():
        starts = StartingPoints(model)
        found = starts.log_joint(rows)
        n_points = len(starts.points)
        for row in range(0, N, 7):
            one = rows.take(torch.tensor([row]).expand(n_points))
            # To the nearest level, and to a standard deviation of age
            near = torch.round(one.context.covariates)
            context = RowContext(log_size=one.context.log_size, covariates=near)
            family, curves = model.in_context(model.predictive_curves(starts.points, context), context)
            exact = family.row_log_prob(one, curves, starts.points) + starts._prior.log_density(starts.points)
            difference = found[row] - exact
            # A constant of the row, and what rounding sizes to 5 % makes of it
            assert (difference - difference.mean()).abs().max() < (1.0 if likelihood == "zinb" else 1e-8)
