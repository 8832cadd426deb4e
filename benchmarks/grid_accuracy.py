"""How right the evidence on grids is: the worst of ten thousand rows, for posteriors from broad to very narrow.

Rows are drawn from models that have closed forms (a plane with Gaussian noise), and from models of counts, whose
reference is a sum over 20 001 points.

    python benchmarks/grid_accuracy.py
"""

from __future__ import annotations

import time

import numpy as np
import torch
from scipy.special import logsumexp

from skdevae.inference.grid import exact_posterior
from skdevae.nn.latent_grid import LatentGrid, log_joint
from skdevae.nn.models import build_model
from skdevae.table.source import RowSource

#: numbers of columns; of rows, for closed forms and for sums
WIDTHS, ROWS, SUMMED_ROWS = (5, 20, 100, 400, 1500, 5000), 10_000, 500
#: rows that are looked at together
CHUNK = 500


def model_of(likelihood: str, n_features: int, hidden: tuple[int, ...]):
    """A model of one component with random parameters."""
    generator = torch.Generator().manual_seed(n_features)
    config = {
        "n_samples": 100,
        "n_features": n_features,
        "n_components": 1,
        "decoder": {"name": "neural", "n_components": 1, "hidden_layer_sizes": hidden, "activation": "tanh"},
        "likelihood": {"name": likelihood, **({"floor": 0.1} if likelihood == "gaussian" else {})},
        "assignment": None,
        "encoder": None,
        "z_max": 4.5,
        "weight_precision": 1.0,
        "beta": 1.0,
        "gamma": 1.0,
    }
    model = build_model(config, generator).double().eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(0, 0.5, generator=generator)
    return model


def chunks(model, n_rows: int):
    """Simulated rows, some at a time."""
    like = torch.zeros((), dtype=torch.float64)
    for seed in range(n_rows // CHUNK):
        generator = torch.Generator().manual_seed(seed)
        z = torch.randn(CHUNK, 1, dtype=torch.float64, generator=generator)
        table = model.likelihood.sample(model.predictive_curves(z), z, generator).numpy()
        yield RowSource(table, None, None, like)


def closed_form(model, table: np.ndarray) -> np.ndarray:
    """log p(x) of a plane with Gaussian noise, relative to log p(x | z = 0)."""
    level, loadings = model.decoder.level.numpy(), model.decoder.loadings.numpy()[0]
    weights = loadings / model.likelihood.scale.numpy() ** 2
    precision = 1 + loadings @ weights
    return 0.5 * ((table - level) @ weights) ** 2 / precision - 0.5 * np.log(precision)


def main() -> None:
    """Print the worst error of each case."""
    print(f"{'case':>30} {'rows':>6} {'least sd':>9} {'worst error (nats)':>19} {'ms a row':>9}")
    zero = torch.zeros(1, 1, dtype=torch.float64)
    for n_features in WIDTHS:
        model, errors, sds, seconds = model_of("gaussian", n_features, ()), [], [], 0.0
        for source in chunks(model, ROWS):
            start = time.process_time()
            found = exact_posterior(model, source, model.predictive_tables)
            seconds += time.process_time() - start
            at_zero = source.rows(slice(None)).log_likelihood(model.predictive_tables(zero))[:, 0]
            errors.append(np.abs((found.log_evidence - at_zero).numpy() - closed_form(model, source.table)).max())
            sds.append(float(found.sd.min()))
        case = f"plane, {n_features} columns"
        print(f"{case:>30} {ROWS:6} {min(sds):9.4f} {max(errors):19.1e} {1000 * seconds / ROWS:9.2f}", flush=True)
    for likelihood in ("gaussian", "nb", "bernoulli"):
        for n_features in (5, 100):
            model, seconds = model_of(likelihood, n_features, (16,)), 0.0
            errors, sds = [], []
            for source in chunks(model, SUMMED_ROWS):
                start = time.process_time()
                found = exact_posterior(model, source, model.predictive_tables)
                seconds += time.process_time() - start
                sds.append(float(found.sd.min()))
                grid = LatentGrid.standard_normal(20_001, 10.0)
                joint = log_joint(source.rows(slice(None)), model.predictive_tables(grid.points), grid).numpy()
                errors.append(np.abs(found.log_evidence.numpy() - logsumexp(joint, 1)).max())
            case = f"{likelihood}, {n_features} columns"
            per_row = 1000 * seconds / SUMMED_ROWS
            print(f"{case:>30} {SUMMED_ROWS:6} {min(sds):9.4f} {max(errors):19.1e} {per_row:9.2f}", flush=True)


if __name__ == "__main__":
    main()
