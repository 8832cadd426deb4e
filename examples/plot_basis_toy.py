"""
========================================
Fifty columns, five groups, three shapes
========================================

Two columns can be more than correlated: one may be a multiple of the other, or follow the same course earlier. This
example uses the toy table of the BasisVAE paper (Märtens and Yau, AISTATS 2020, Figure 1), for which the truth is
known. It has fifty features of a hidden time, in five groups of scaled copies. Three of the groups are the same hump at
different times. So the number of clusters depends on what counts as a copy, which is for the user to say.

Run it as it is; there is nothing to download::

    python examples/plot_basis_toy.py
    python examples/plot_basis_toy.py --output figures/mine.png
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from scipy.stats import spearmanr
from sklearn.cluster import KMeans
from sklearn.decomposition import FactorAnalysis
from sklearn.metrics import v_measure_score
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Bunch

from skdevae import BasisVAEClusterer, VAETransformer
from skdevae.datasets import make_basis_toy

# %%
# 1. The table
# ------------
# 500 samples, each at a hidden time. The features are early, middle and late humps, rises and falls, ten of each. The
# rows are in random order, so the last 20 % of them can be held out.


def split(toy: Bunch) -> tuple[pd.DataFrame, pd.DataFrame]:
    n_train = round(0.8 * len(toy.data))
    return toy.data.iloc[:n_train], toy.data.iloc[n_train:]


# %%
# 2. Copies by scale, copies by scale and shift
# ---------------------------------------------
# ``n_clusters=20`` is an upper bound: functions that are not needed end up without features. No model sees times or
# groups, except for ``orientation``, which only decides which end of the axis is late.


def fit(toy: Bunch, **options) -> BasisVAEClusterer:
    train, _ = split(toy)
    clusterer = BasisVAEClusterer(n_clusters=20, random_state=0, **options)
    return clusterer.fit(train, orientation=toy.times[: len(train)])


# %%
# 3. Beside plainer models
# ------------------------
# The V-measure is 1 if the clusters are the true ones. There are two truths: five groups and three shapes. k-means, on
# standardised columns, has to be told the number of clusters. The log-likelihood is that of rows that were not fitted
# (nats per sample). A VAE has a free curve for each of the fifty features, FactorAnalysis a straight line. (To save
# time, the VAE is stopped after 100 epochs. With the default number of epochs it reaches 5.44.)


def comparison(toy: Bunch, scaled: BasisVAEClusterer, shifted: BasisVAEClusterer) -> pd.DataFrame:
    train, test = split(toy)
    rows = {
        name: (model.n_clusters_effective_, model.labels_, model.score(test))
        for name, model in {"BasisVAE, scale": scaled, "BasisVAE, scale + shift": shifted}.items()
    }
    columns = StandardScaler().fit_transform(train).T
    for n_clusters in (5, 3):
        labels = KMeans(n_clusters, n_init=10, random_state=0).fit_predict(columns)
        rows[f"k-means, told {n_clusters}"] = n_clusters, labels, np.nan
    rows["VAE"] = np.nan, None, VAETransformer(1, max_epochs=100, random_state=0).fit(train).score(test)
    rows["FactorAnalysis(1)"] = np.nan, None, FactorAnalysis(1).fit(train).score(test)
    return pd.DataFrame(
        {
            name: {
                "clusters": n_clusters,
                "V, groups": np.nan if labels is None else v_measure_score(toy.labels, labels),
                "V, shapes": np.nan if labels is None else v_measure_score(toy.shape_labels, labels),
                "log-likelihood": likelihood,
            }
            for name, (n_clusters, labels, likelihood) in rows.items()
        }
    ).T


def print_comparison(table: pd.DataFrame) -> None:
    formats = {"clusters": "{:.0f}", "V, groups": "{:.2f}", "V, shapes": "{:.2f}", "log-likelihood": "{:.2f}"}
    shown = {name: ["" if np.isnan(v) else form.format(v) for v in table[name]] for name, form in formats.items()}
    print(pd.DataFrame(shown, index=table.index).to_string())


# %%
# 4. How each feature is a copy
# -----------------------------
# A feature is ``levels_ + scales_ * f(z + shifts_)``. A function f that is twice as high fits equally well with scales
# that are half as large, and a function that lies elsewhere fits with other shifts. So scales are only known up to a
# factor that is common to the cluster, and shifts up to a common offset (and z has units of its own). Between features
# of the same cluster they can be compared.
#
# The humps of the table have only three different shifts. A second table is a harder test: there the shifts within each
# group are spread out. Copies by scale alone cut each group into pieces, and there is no right number of pieces. With
# shifts, three shapes remain. (The shift of a rise or a fall is hard to see: where the curve is a straight line, a
# shift only changes its level.)


def spread_out() -> Bunch:
    return make_basis_toy(shift_range=0.5, as_frame=True, random_state=0)


def humps_of(toy: Bunch, model: BasisVAEClusterer) -> np.ndarray:
    """The features of the cluster with the most transients in it."""
    transient = toy.shape_labels == toy.shape_names.index("transient")
    return model.labels_ == np.bincount(model.labels_[transient]).argmax()


def relative(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Values as multiples of the averages of their clusters."""
    return values / pd.Series(values).groupby(labels).transform("mean").to_numpy()


def members(toy: Bunch, inside: np.ndarray) -> str:
    counts = pd.Series(np.array(toy.label_names)[toy.labels[inside]]).value_counts(sort=False)
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def print_copies(toy: Bunch, model: BasisVAEClusterer) -> None:
    for cluster in np.unique(model.labels_):
        inside = model.labels_ == cluster
        found, true = model.shifts_[inside], toy.shifts[inside]
        print(f"  {members(toy, inside)}")
        print(f"    scales: Spearman {spearmanr(model.scales_[inside], toy.scales[inside])[0]:.2f}")
        if len(set(true)) > 5:
            print(f"    shifts: Spearman {spearmanr(found, true)[0]:.2f}")
        elif len(set(true)) > 1:  # a few groups
            means = pd.Series(found).groupby(true).mean()
            print("    shifts, mean: " + ", ".join(f"{mean:+.2f} (true {shift:+.1f})" for shift, mean in means.items()))


# %%
# 5. Clusters with names
# ----------------------
# With ``basis``, each function is made to rise, to fall, or to come and go, and the names of the clusters say which.


def print_names(toy: Bunch, model: BasisVAEClusterer) -> None:
    for cluster in np.unique(model.labels_):
        print(f"  {model.cluster_names_[cluster]}: {members(toy, model.labels_ == cluster)}")


# %%
# 6. The figure
# -------------
# Upper row: the table as it comes; the same with rows in order of z and columns by cluster; the fitted curves. Lower
# row: the curves of the model with shifts; the same with the features of a cluster on top of each other, and the data
# (means over sixteenths of the samples, one dot for each feature); the shifts and the scales that it found, against the
# true ones.

COLORS = {"early": "#0B6E99", "middle": "#C44E00", "late": "#8A3C8F", "up": "#3B7D23", "down": "#555555"}
SHAPE_COLORS = {"transient": "#B0174B", "increasing": COLORS["up"], "decreasing": COLORS["down"]}


def colors_of(names: Sequence[str], truth: np.ndarray, labels: np.ndarray, colors: dict[str, str]) -> pd.Series:
    """Name and colour of each cluster: those of the kind that most of its features are of."""
    most = pd.Series(truth).groupby(labels).agg(lambda group: np.bincount(group).argmax())
    return most.map(lambda kind: (names[kind], colors[names[kind]]))


def draw_table(ax, values: np.ndarray):
    image = ax.imshow(values[::-1], aspect="auto", cmap="RdBu_r", vmin=-2.5, vmax=2.5)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    return image


def draw_strip(strip, labels: np.ndarray, kinds: pd.Series, named: bool) -> None:
    """Clusters as coloured bars, with names if ``named``."""
    clusters = np.unique(labels)
    strip.imshow(
        np.searchsorted(clusters, labels)[None],
        aspect="auto",
        cmap=ListedColormap([kinds[cluster][1] for cluster in clusters]),
        interpolation="nearest",
    )
    for cluster in clusters if named else []:
        middle = np.flatnonzero(labels == cluster).mean()
        strip.text(middle, 0, kinds[cluster][0], color="white", fontsize=9, ha="center", va="center_baseline")
    strip.set_axis_off()


def draw_curves(ax, model: BasisVAEClusterer, kinds: pd.Series, z: np.ndarray, title: str) -> None:
    seen = set()
    for curve, cluster in zip(model.trajectories(z).T, model.labels_, strict=True):
        name, color = kinds[cluster]
        ax.plot(z, curve, color=color, linewidth=1.1, alpha=0.75, label=None if name in seen else name)
        seen.add(name)
    ax.set_xlabel("position z (sd)")
    ax.set_ylabel("expected value")
    ax.set_ylim(top=ax.get_ylim()[1] * 1.1)
    ax.legend(
        frameon=False, fontsize=9.5, loc="upper center", ncols=len(seen), handlelength=0, handletextpad=0,
        columnspacing=1.2, borderaxespad=0, labelcolor="linecolor",
    )  # fmt: skip
    ax.set_title(title, loc="left", fontsize=11.5)


def draw_aligned(ax, model: BasisVAEClusterer, X: pd.DataFrame, kinds: pd.Series) -> None:
    """Every feature minus its level, divided by its scale and moved by its shift, and the functions."""
    positions = model.transform(X)[:, 0]
    part = pd.qcut(positions, 16, labels=False)
    means = X.groupby(part).mean().to_numpy()
    places = pd.Series(positions).groupby(part).mean().to_numpy()
    for cluster, (_, color) in kinds.items():
        inside = model.labels_ == cluster
        where = places[:, None] + model.shifts_[inside]
        heights = (means[:, inside] - model.levels_[inside]) / model.scales_[inside]
        ax.scatter(where, heights, s=7, color=color, alpha=0.4, linewidth=0)
        wide = np.linspace(where.min(), where.max(), 200)
        ax.plot(wide, model.basis_functions(wide)[:, cluster], color=color, linewidth=2)
    ax.set_xlabel("z + shift of the feature")
    ax.set_ylabel("(value \u2212 level) / scale")
    ax.set_title("The same, laid on one another", loc="left", fontsize=11.5)


def draw_shifts(ax, toy: Bunch, model: BasisVAEClusterer, spread: Bunch, spread_model: BasisVAEClusterer) -> None:
    humps, spread_humps = humps_of(toy, model), humps_of(spread, spread_model)
    true, found = spread.shifts[spread_humps], spread_model.shifts_[spread_humps]
    ax.scatter(
        toy.shifts[humps], model.shifts_[humps], s=42, marker="D", color=SHAPE_COLORS["transient"], alpha=0.5,
        linewidth=0, label="humps",
    )  # fmt: skip
    ax.scatter(
        true, found, s=26, facecolor="none", edgecolor="#333333", linewidth=0.9, label="humps of the\nspread-out table"
    )
    ax.legend(frameon=False, fontsize=9, loc="upper left", borderaxespad=0, handletextpad=0.2)
    ax.set_xlabel("true shift (units of time)")
    ax.set_ylabel("shift found (units of z)")
    ax.set_title(f"Shifts, spread-out: Spearman {spearmanr(true, found)[0]:.2f}", loc="left", fontsize=11.5)


def draw_scales(ax, toy: Bunch, model: BasisVAEClusterer, kinds: pd.Series) -> None:
    true, found = relative(toy.scales, model.labels_), relative(model.scales_, model.labels_)
    low, high = min(true.min(), found.min()), max(true.max(), found.max())
    ax.plot([low, high], [low, high], color="#999999", linewidth=1, zorder=0)
    ax.scatter(true, found, s=24, color=[kinds[cluster][1] for cluster in model.labels_], alpha=0.7, linewidth=0)
    ax.set_xlabel("true scale / cluster's mean")
    ax.set_ylabel("scale found / cluster's mean")
    ax.set_title(f"Scales: Spearman {spearmanr(true, found)[0]:.2f}", loc="left", fontsize=11.5)


def draw(
    toy: Bunch, scaled: BasisVAEClusterer, shifted: BasisVAEClusterer, spread: Bunch, spread_model: BasisVAEClusterer
) -> plt.Figure:
    X = split(toy)[0]
    groups = colors_of(toy.label_names, toy.labels, scaled.labels_, COLORS)
    shapes = colors_of(toy.shape_names, toy.shape_labels, shifted.labels_, SHAPE_COLORS)
    positions = scaled.transform(X)[:, 0]
    z = np.linspace(*np.quantile(positions, [0.01, 0.99]), 241)
    figure = plt.figure(figsize=(14, 8.8), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.09, h_pad=0.07)
    above, below = figure.subfigures(2, 1, height_ratios=[1.08, 1], hspace=0.04)

    # Clusters are ordered by where their curves are high, so that high values lie on the diagonal of the ordered table.
    heights = scaled.trajectories(z) - scaled.trajectories(z).min(axis=0)
    centers = pd.Series((heights * z[:, None]).sum(axis=0) / heights.sum(axis=0))
    columns = np.lexsort([centers, centers.groupby(scaled.labels_).transform("mean")])
    values, shuffled = StandardScaler().fit_transform(X), np.random.default_rng(0).permutation(X.shape[1])
    axes = above.subplot_mosaic(
        [["clusters before", "clusters after", "curves"], ["before", "after", "curves"]],
        height_ratios=[1, 14], width_ratios=[1, 1.08, 1.15],
    )  # fmt: skip
    draw_strip(axes["clusters before"], scaled.labels_[shuffled], groups, named=False)
    draw_strip(axes["clusters after"], scaled.labels_[columns], groups, named=True)
    axes["clusters before"].set_title("The table as it comes, coloured by cluster", loc="left", fontsize=11.5)
    axes["clusters after"].set_title("Rows in order of z, columns of clusters", loc="left", fontsize=11.5)
    draw_table(axes["before"], values[:, shuffled])
    axes["before"].set_xlabel(f"{X.shape[1]} features, in random order")
    axes["before"].set_ylabel(f"{len(X)} samples, in random order")
    image = draw_table(axes["after"], values[np.argsort(positions)][:, columns])
    axes["after"].set_xlabel("features, by cluster")
    axes["after"].set_ylabel("samples, by z   \u2192")
    bar = above.colorbar(image, ax=axes["after"], label="standardised value", extend="both", pad=0.02, aspect=30)
    bar.outline.set_visible(False)
    draw_curves(axes["curves"], scaled, groups, z, f"Copies by scale: {len(groups)} clusters")

    panels = below.subplots(1, 4)
    draw_curves(panels[0], shifted, shapes, z, f"Copies by scale + shift: {len(shapes)} clusters")
    draw_aligned(panels[1], shifted, X, shapes)
    draw_shifts(panels[2], toy, shifted, spread, spread_model)
    draw_scales(panels[3], toy, shifted, shapes)
    for ax in (axes["curves"], *panels):
        ax.spines[["top", "right"]].set_visible(False)
    figure.suptitle(
        "Fifty features of a hidden time, and what counts as a copy of what", fontsize=14, x=0.01, ha="left"
    )
    return figure


# %%
# 7. All of it
# ------------


def run(options: argparse.Namespace) -> None:
    toy = make_basis_toy(as_frame=True, random_state=0)
    train, test = split(toy)
    print(f"{len(train)} samples to fit and {len(test)} held out, {train.shape[1]} features in 5 groups of 3 shapes")

    scaled, shifted = fit(toy), fit(toy, translation_invariant=True)
    print("\nClusters found, V-measure, and log-likelihood per held-out sample")
    print_comparison(comparison(toy, scaled, shifted))
    print("Position z and hidden time, held-out samples: Spearman", end=" ")
    print(f"{spearmanr(scaled.transform(test)[:, 0], toy.times[len(train) :])[0]:.3f}")

    print("\nClusters of the model with shifts, beside the truth")
    print_copies(toy, shifted)

    spread = spread_out()
    spread_model = fit(spread, translation_invariant=True)
    print("\nA second table, whose groups are spread out along the axis")
    print(
        f"  clusters: {fit(spread).n_clusters_effective_} by scale, "
        f"{spread_model.n_clusters_effective_} by scale + shift, which are"
    )
    print_copies(spread, spread_model)

    print('\nNamed clusters: basis=("increasing", "decreasing", "transient")')
    print_names(toy, fit(toy, basis=("increasing", "decreasing", "transient")))

    output = options.output or Path("figures") / "basis_toy.png"
    output.parent.mkdir(parents=True, exist_ok=True)
    figure = draw(toy, scaled, shifted, spread, spread_model)
    figure.savefig(output, dpi=100)
    plt.close(figure)
    print(f"\nFigure: {output}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Cluster features that are copies of one another along an axis.")
    parser.add_argument("--output", type=Path, help="where the figure goes; by default figures/basis_toy.png")
    run(parser.parse_args(argv))


if __name__ == "__main__":
    main()
