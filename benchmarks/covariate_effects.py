"""Standard errors of covariate effects: how often intervals of 95 % hold the effect that a table was simulated with.

    python benchmarks/covariate_effects.py [--tables 200] [--parts gaussian poisson nb numeric correlated]

Each part simulates tables of its own: features that rise, fall, or come and go along a latent that every sample has, a
batch (and, in part "numeric", an age) that adds a normal effect to the curve of every feature, and noise. In part
"correlated" the batch goes along with the latent, so that a table cannot tell all of one from the other. Sizes of
tables and effects differ from table to table. Printed are the coverage over all effects of all tables, the standard
error of the coverage (tables are independent, effects within a table are not), the root mean square of the effects'
errors in units of their standard errors, and the rank correlation of the axis with the latent, with covariates and
without.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
import pandas as pd
from scipy.stats import norm, spearmanr

from skdevae import BasisDeVAEClusterer

#: half the width of an interval of 95 %, in standard errors
HALF_WIDTH = norm.ppf(0.975)


def simulated(part: str, seed: int) -> tuple[pd.DataFrame, list[str], np.ndarray, np.ndarray]:
    """A table with its covariates, their names, the effects (D, C), and the latents (N,)."""
    random = np.random.default_rng([seed, sum(map(ord, part))])
    n, n_features = int(random.integers(150, 500)), int(random.integers(8, 30))
    z = random.normal(size=n)
    batch = (
        (random.random(n) < norm.cdf(0.7 * z)) if part == "correlated" else random.random(n) < random.uniform(0.2, 0.8)
    )
    shape = random.integers(3, size=n_features)
    steepness, center = random.uniform(0.7, 1.8, n_features), random.uniform(-0.7, 0.7, n_features)
    along = np.outer(z, np.ones(n_features)) - center
    curves = np.where(shape == 2, 1.5 * np.exp(-(along**2)), np.where(shape == 1, -1, 1) * np.tanh(steepness * along))
    columns = [batch.astype(float)]
    if part == "numeric":
        columns.append(random.normal(50, 12, n))
    spread = random.uniform(0.1, 0.8) * np.array([1.0, 1 / 12])[: len(columns)]
    effects = random.normal(size=(n_features, len(columns))) * spread
    eta = curves + np.column_stack(columns) @ effects.T
    if part in ("poisson", "nb"):
        mean = np.exp(random.uniform(0.5, 2) + eta)
        x = random.poisson(mean) if part == "poisson" else random.negative_binomial(3, 3 / (3 + mean))
    else:
        unit, noise = np.exp(random.normal(size=n_features)), random.uniform(0.2, 0.8)
        x = unit * (eta + noise * random.normal(size=eta.shape))
        effects = effects * unit[:, None]
    frame = pd.DataFrame(np.asarray(x, dtype=float), columns=[f"feature {k}" for k in range(n_features)])
    frame["batch"] = np.where(batch, "b", "a")
    if part == "numeric":
        frame["age"] = columns[1]
    return frame, list(frame.columns[n_features:]), effects, z


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=200)
    parser.add_argument("--parts", nargs="+", default=["gaussian", "poisson", "nb", "numeric", "correlated"])
    arguments = parser.parse_args()
    print("part        tables  coverage  (se)   rms error / se   axis: with, without covariates   CPU-s a fit")
    for part in arguments.parts:
        held, squares, axes, seconds = [], [], [], 0.0
        for seed in range(arguments.tables):
            frame, names, effects, z = simulated(part, seed)
            likelihood = part if part in ("poisson", "nb") else "gaussian"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                begin = time.process_time()
                model = BasisDeVAEClusterer(likelihood=likelihood, covariates=names, random_state=0).fit(frame)
                seconds += time.process_time() - begin
                error = (model.covariate_effects_ - effects) / model.covariate_standard_errors_
                held.append(float((error.abs() < HALF_WIDTH).to_numpy().mean()))
                squares.append(float((error**2).to_numpy().mean()))
                if seed < 10:
                    plain = BasisDeVAEClusterer(likelihood=likelihood, random_state=0).fit(frame.drop(columns=names))
                    tables = ((model, frame), (plain, frame.drop(columns=names)))
                    axes.append([abs(spearmanr(each.transform(table)[:, 0], z)[0]) for each, table in tables])
        with_covariates, without = np.mean(axes, 0)
        coverage = f"{np.mean(held):8.3f}  {np.std(held) / len(held) ** 0.5:.3f}  {np.sqrt(np.mean(squares)):14.2f}"
        print(
            f"{part:10s}  {arguments.tables:6d}  {coverage}   {with_covariates:10.3f}  {without:.3f}   "
            f"{seconds / arguments.tables:20.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
