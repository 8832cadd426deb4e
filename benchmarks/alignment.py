"""Aligning movements (after BasisVAE, section 5.2): 200 hand trajectories over 150 time points as shifted copies.

    python benchmarks/alignment.py [--clusters 1 2 4 20]

The paper has golf swings of the CMU Motion Capture database and shows curves, no numbers; here it is UCR GunPoint. Time
points are the samples, which no model is told the order of, and trajectories are the features. "Variance explained" is
the share that the curves at the samples' latents account for. "Correlation" is the mean over pairs of trajectories in
the largest cluster: of the trajectories as they are, and of what they are at z - shift instead of z, interpolated along
the latent and left out where that leaves the data. A hand ends where it began, so that the latent is a loop cut open
somewhere: "as a cycle" is the largest absolute Spearman correlation of z with time over all places to cut time open.
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np
import pandas as pd
from common import print_table, seconds, set_threads, shared_data
from scipy.stats import spearmanr

from skdevae import BasisVAEClusterer


def mean_correlation(curves: np.ndarray) -> float:
    """Mean correlation between pairs of columns, each pair where neither is missing."""
    correlations = pd.DataFrame(curves).corr(min_periods=len(curves) // 4).to_numpy()
    return float(np.nanmean(correlations[np.triu_indices_from(correlations, 1)]))


def aligned(z: np.ndarray, curves: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Columns at z - shift instead of z; NaN where that is outside of the data."""
    order = np.argsort(z)
    return np.column_stack(
        [
            np.interp(z - shift, z[order], curve[order], left=np.nan, right=np.nan)
            for shift, curve in zip(shifts, curves.T, strict=True)
        ]
    )


def cyclic_spearman(z: np.ndarray) -> float:
    """Largest absolute Spearman correlation of z with its position over all rotations."""
    position = np.arange(len(z))
    return max(abs(spearmanr(np.roll(z, cut), position)[0]) for cut in position)


def fit_trajectories(X: np.ndarray, n_clusters: int, translation_invariant: bool) -> dict:
    time = np.arange(len(X))
    model = BasisVAEClusterer(n_clusters, translation_invariant=translation_invariant, random_state=0)
    elapsed = seconds(partial(model.fit, X, orientation=time))
    Z = model.transform(X)
    largest = model.labels_ == np.bincount(model.labels_).argmax()
    before = X[:, largest]
    after = aligned(Z[:, 0], before, model.shifts_[largest])
    return {
        "K": n_clusters,
        "copies": "scale + shift" if translation_invariant else "scale",
        "clusters": model.n_clusters_effective_,
        "variance explained": f"{1 - np.square(X - model.trajectories(Z)).mean() / X.var(0).mean():.3f}",
        "Spearman of z with time": f"{spearmanr(Z[:, 0], time)[0]:+.2f}",
        "as a cycle": f"{cyclic_spearman(Z[:, 0]):.2f}",
        "s": f"{elapsed:.1f}",
        "largest cluster": largest.sum(),
        "correlation": f"{mean_correlation(before):.3f}",
        "aligned": f"{mean_correlation(after):.3f}" if translation_invariant else "",
        "entries left out": f"{np.isnan(after).mean():.0%}" if translation_invariant else "",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clusters", type=int, nargs="+", default=[1, 2, 4, 20])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    X = np.load(shared_data("gunpoint.npz"), allow_pickle=False)["X"].astype(np.float64)
    BasisVAEClusterer(1, max_epochs=1).fit(X)  # imports and thread pools are not what is timed
    print_table([fit_trajectories(X, n, shift) for n in arguments.clusters for shift in (False, True)])


if __name__ == "__main__":
    main()
