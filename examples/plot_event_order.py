"""
=========================================================
Which marker changes first: tables that a paper can print
=========================================================

Ten markers of 300 people, half of whom are healthy. In the others they change one after another as the disease goes on,
and two of them come and go. Nobody tells the model who is ill, or which way a marker goes. Its axis is turned
so that it rises with a score that doctors have, which is all that cannot be read off the markers.

One set of replicates of the fit serves all tables: what every marker does, in which order they change, and how sure
that is.

Run it as it is; there is nothing to download::

    python examples/plot_event_order.py
    python examples/plot_event_order.py --output figures/mine.png
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import kendalltau
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Bunch

from skdevae import BasisDeVAEClusterer
from skdevae.display import EventOrderDisplay
from skdevae.inspection import bootstrap, event_order, feature_table

N_PEOPLE, N_REPLICATES = 300, 100
TRANSIENT = (2, 6)

# %%
# 1. Markers that change one after another
# ----------------------------------------


def load_markers(random_state: int = 0) -> Bunch:
    """Markers in units of their own, the stage at which each has made half of its change, and a clinical score."""
    random = np.random.default_rng(random_state)
    events = np.arange(1, 11) + random.uniform(-0.3, 0.3, 10)
    is_ill = np.arange(N_PEOPLE) >= N_PEOPLE // 2
    stage = np.where(is_ill, random.uniform(0, 12, N_PEOPLE), 0.0)
    progress = 1 / (1 + np.exp(-2 * (stage[:, None] - events)))
    gone = 1 / (1 + np.exp(-2 * (stage[:, None] - events - 4)))
    progress[:, TRANSIENT] *= 1 - gone[:, TRANSIENT]
    progress[~is_ill] = 0
    sd, sign = random.uniform(0.5, 30, 10), random.choice([-1, 1], 10)
    sign[list(TRANSIENT)] = 1
    values = 100 + sd * (4 * sign * progress + random.standard_normal(progress.shape))
    data = pd.DataFrame(values, columns=[f"marker {number}" for number in range(1, 11)])
    return Bunch(data=data, events=events, score=stage + random.normal(0, 3, N_PEOPLE))


# %%
# 2. A fit, and replicates of it
# ------------------------------
# A replicate is the fit with other weights of the people. All of them are fitted together.


def fit(markers: Bunch) -> Pipeline:
    model = make_pipeline(StandardScaler(), BasisDeVAEClusterer(random_state=0))
    return model.fit(markers.data, basisdevaeclusterer__orientation=markers.score)


# %%
# 3. Tables and a figure
# ----------------------


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="The order in which simulated markers change, and how sure it is.")
    parser.add_argument("--output", type=Path, default=Path("figures/event_order.png"))
    options = parser.parse_args(arguments)

    markers = load_markers()
    model = fit(markers)
    replicates = bootstrap(model, markers.data, n_bootstrap=N_REPLICATES, random_state=0)

    table = feature_table(model, markers.data, replicates=replicates)
    columns = ["behaviour", "probability", "direction", "half change (quantile)", "change", "explained variance"]
    print(table[columns].round(2).to_string(), end="\n\n")

    order = event_order(model, markers.data, replicates=replicates)
    print(order.positions.loc[order.order].round(2).to_string(), end="\n\n")
    tau = kendalltau(order.positions["estimate"], markers.events)[0]
    print(f"Pairs of markers in the right order: {(1 + tau) / 2:.0%}")

    EventOrderDisplay.from_event_order(order)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    plt.savefig(options.output, dpi=200, bbox_inches="tight")
    print(f"Figure: {options.output}")


if __name__ == "__main__":
    main()
