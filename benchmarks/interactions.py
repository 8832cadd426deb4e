"""Do curves differ between levels of a covariate: p-values where they do not, and what is found where they do.

    python benchmarks/interactions.py [--tables 10] [--first-seed 0]

Tables of 24 features along a latent: sigmoids, straight lines, peaks and features that do not change, and two or three
levels that add constants to all of them. In some rows levels lie apart along the latent, by so many standard
deviations. Printed is the share of p-values below .05 and .01 over features whose curves are the same in all levels,
and, in tables where six curves differ (one level has the opposite, or none), the share of those six that are found
with an adjusted p-value below .05, and the share of what is found that does not differ.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
from common import print_table, set_threads

from skdevae import DeVAETransformer

N_FEATURES, N_DIFFERENT = 24, 6
#: likelihood, rows, levels, sds between levels along the latent
CASES = [
    ("gaussian", 200, 2, 0.0),
    ("gaussian", 600, 3, 1.0),
    ("poisson", 300, 2, 0.0),
    ("poisson", 300, 2, 1.0),
    ("nb", 600, 3, 0.0),
]


def curves(z: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Curves of all features at latents (N,): (N, D)."""
    columns = []
    for feature in range(N_FEATURES):
        size, center = random.uniform(0.7, 1.5) * random.choice([-1, 1]), random.uniform(-1, 1)
        shapes = (
            size * np.tanh(1.5 * (z - center)),
            0.6 * size * z,
            size * np.exp(-0.5 * ((z - center) / 0.6) ** 2),
            np.zeros_like(z),
        )
        columns.append(shapes[feature % 4])
    return np.stack(columns, 1)


def simulated(case: tuple, seed: int, differ: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A table, the level of each row, and which features have curves that differ."""
    likelihood, n, n_levels, apart = case
    random = np.random.default_rng([seed, differ])
    level = random.integers(n_levels, size=n)
    z = random.normal(size=n) + apart * (level - (n_levels - 1) / 2)
    z = (z - z.mean()) / z.std()
    eta = curves(z, random)
    is_different = np.zeros(N_FEATURES, dtype=bool)
    if differ:
        # of those that change along the latent
        is_different[[0, 2, 4, 6, 8, 10]] = True
        opposite, none = np.nonzero(is_different)[0].reshape(2, -1)
        eta[np.ix_(level == 0, opposite)] *= -1
        eta[np.ix_(level == 0, none)] = 0
    eta = eta + 0.4 * random.normal(size=(n_levels, N_FEATURES))[level]
    mean = 3 * np.exp(eta)
    draws = {
        "gaussian": lambda: eta + 0.5 * random.normal(size=eta.shape),
        "poisson": lambda: random.poisson(mean),
        "nb": lambda: random.negative_binomial(4, 4 / (4 + mean)),
    }
    return draws[likelihood]().astype(float), np.array(list("abc"))[level], is_different


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    arguments = parser.parse_args()
    set_threads(1)
    rows = []
    for case in CASES:
        likelihood, n, n_levels, apart = case
        p_values, found, wrong = [], [], []
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.tables):
            for differ in (False, True):
                x, level, is_different = simulated(case, seed, differ)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    model = DeVAETransformer(likelihood=likelihood, interactions="curves", random_state=0)
                    tests = model.fit(x, covariates=level).interaction_tests_
                if differ:
                    is_found = tests["adjusted_p_value"].to_numpy() < 0.05
                    found.append(is_found[is_different].mean())
                    wrong.append((is_found & ~is_different).sum() / max(1, is_found.sum()))
                else:
                    p_values.append(tests["p_value"])
        shares = [float(np.mean(np.array(p_values) < level)) for level in (0.05, 0.01)]
        rows.append(
            {
                "likelihood": likelihood,
                "rows": n,
                "levels": n_levels,
                "sds apart": apart,
                "tables": arguments.tables,
                "null, p < .05": round(shares[0], 3),
                "p < .01": round(shares[1], 3),
                "found": round(float(np.mean(found)), 3),
                "of it wrong": round(float(np.mean(wrong)), 3),
            }
        )
        print_table(rows[-1:])


if __name__ == "__main__":
    main()
