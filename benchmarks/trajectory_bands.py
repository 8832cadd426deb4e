"""How often does the band that TrajectoryDisplay draws from replicates hold the true curve?

    python benchmarks/trajectory_bands.py [--samples 150 500] [--tables 4] [--replicates 60]

Tables have sigmoids, ramps and bumps, rising and falling, four columns each, as in ``feature_table.py``. The true curve
at a point of the figure is the one at the share of the population that the figure's samples put before this point.
``held`` is the share of the points of the curves inside of bands of nominally 90 %; ``middle`` is the same between the
10 % and 90 % quantiles of the samples. ``width`` is the mean width, as a share of the range of the true curve.
"""

from __future__ import annotations

import argparse

import matplotlib as mpl
import numpy as np
import pandas as pd
from common import print_table, set_threads
from feature_table import KINDS, true_curves
from scipy.stats import norm

from skdevae import BasisDeVAEClusterer
from skdevae.display import TrajectoryDisplay
from skdevae.inspection import bootstrap
from skdevae.inspection._events import as_quantiles

NOISE = 0.25
#: positions of 98 % of the population, between whose ends a curve has its range
FINE = np.linspace(*norm.ppf([0.01, 0.99]), 4001)


def rows_of(seed: int, n_samples: int, n_replicates: int) -> pd.DataFrame:
    """One row for each column of a table."""
    random = np.random.default_rng(seed)
    curves, positions = true_curves(random), random.normal(size=n_samples)
    spread = np.ptp(curves(FINE), axis=0)
    X = curves(positions) + NOISE * spread * random.normal(size=(n_samples, len(KINDS)))
    behaviors = ["increasing", "decreasing", "transient", "dip", "flat"]
    model = BasisDeVAEClusterer(behaviors=behaviors, random_state=0).fit(X, orientation=positions)
    replicates = bootstrap(model, X, n_bootstrap=n_replicates, random_state=seed)
    drawn = TrajectoryDisplay.from_estimator(model, X, units="user", replicates=replicates)
    shares = as_quantiles(drawn.z, model.transform(X)[:, 0])
    columns = [int(name.removeprefix("x")) for name in drawn.feature_names]
    truth = curves(norm.ppf(shares))[:, columns]
    held = (drawn.lower <= truth) & (truth <= drawn.upper)
    middle = (shares > 0.1) & (shares < 0.9)
    return pd.DataFrame(
        {
            "samples": n_samples,
            "shape": KINDS[columns],
            "held": held.mean(0),
            "middle": held[middle].mean(0),
            "width": (drawn.upper - drawn.lower).mean(0) / spread[columns],
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[150, 500])
    parser.add_argument("--tables", type=int, default=4)
    parser.add_argument("--replicates", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    mpl.use("Agg")
    set_threads(options.threads)
    found = pd.concat(
        rows_of(seed, n_samples, options.replicates) for n_samples in options.samples for seed in range(options.tables)
    )
    print_table(found.groupby(["samples", "shape"], sort=False).mean().round(2).reset_index().to_dict("records"))


if __name__ == "__main__":
    main()
