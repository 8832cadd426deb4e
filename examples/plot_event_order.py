"""
=========================================================
Which marker changes first: tables that a paper can print
=========================================================

Ten markers of 300 people, half of whom are healthy. In the others they change one after another as the disease goes on,
and two of them come and go. Nobody tells the model who is ill, or which way a marker goes. Its axis is turned
so that it rises with a score that doctors have, which is all that cannot be read off the markers.

The people are simulated, so the order that is found can be compared with the true one.
"""

# %%
# Markers that change one after another
# -------------------------------------
# Every marker has made half of its change at a stage of its own. Each is measured in units of its own, with noise, and
# rises or falls by chance. Markers 3 and 7 come back.

import numpy as np
import pandas as pd

N_PEOPLE = 300

random = np.random.default_rng(0)
events = np.arange(1, 11) + random.uniform(-0.3, 0.3, 10)
is_ill = np.arange(N_PEOPLE) >= N_PEOPLE // 2
stage = np.where(is_ill, random.uniform(0, 12, N_PEOPLE), 0.0)


def switched(at):
    """Shares of a change that happens at one stage for each marker."""
    return np.where(is_ill[:, None], 1 / (1 + np.exp(-2 * (stage[:, None] - at))), 0.0)


returns = np.isin(np.arange(10), [2, 6])
progress = switched(events) * np.where(returns, 1 - switched(events + 4), 1)
sd = random.uniform(0.5, 30, 10)
sign = np.where(returns, 1, random.choice([-1, 1], 10))
values = 100 + sd * (4 * sign * progress + random.standard_normal(progress.shape))
markers = pd.DataFrame(values, columns=[f"marker {number}" for number in range(1, 11)])
score = stage + random.normal(0, 3, N_PEOPLE)  # what doctors see of the stage

# %%
# A fit, and replicates of it
# ---------------------------
# A replicate is the fit with other weights of the people. All replicates are fitted side by side. One set of them
# serves all tables below.

from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdevae import BasisDeVAEClusterer
from skdevae.inspection import bootstrap

model = make_pipeline(StandardScaler(), BasisDeVAEClusterer(random_state=0))
model.fit(markers, basisdevaeclusterer__orientation=score)
replicates = bootstrap(model, markers, n_bootstrap=50, random_state=0)

# %%
# What every marker does
# ----------------------
# ``feature_table`` turns curves into words and numbers. A half change of 0.6 says that 60 % of the people stand before
# the place where the marker has made half of its change. With replicates there are intervals, too.

from skdevae.inspection import feature_table

table = feature_table(model, markers, replicates=replicates)
columns = ["behaviour", "probability", "direction", "half change (quantile)", "change", "explained variance"]
print(table[columns].to_string(float_format="{:.2f}".format))

# %%
# In which order, and how sure
# ----------------------------
# Left: the share of the people before each marker's half change, with intervals of 95 %. Right: how probable it is that
# a marker is the first, the second, and so on. This is the positional variance diagram of event-based models.

import matplotlib.pyplot as plt

from skdevae.display import EventOrderDisplay
from skdevae.inspection import event_order

order = event_order(model, markers, replicates=replicates)
EventOrderDisplay.from_event_order(order)

# %%
# The markers are numbered in their true order, so the diagram should be dark on its diagonal. Of two markers, how often
# does the one that is said to be earlier change earlier?

from scipy.stats import kendalltau

tau = kendalltau(order.positions["estimate"], events)[0]
print(f"pairs of markers in the right order: {(1 + tau) / 2:.0%}")
print(f"probability that marker 1 changes before marker 2: {order.probability_before.loc['marker 1', 'marker 2']:.2f}")

# %%
# :doc:`plot_nhanes_covariates` does the same with blood tests of people, whose sex has to be taken into account.

plt.show()
