"""
=========================================================
Tumours on one axis, and how each measurement behaves on it
=========================================================

Fine-needle aspirates of 569 breast tumours were photographed, and 30 measurements of their cell nuclei were taken.
There may be an axis from harmless to dangerous in these columns. This example finds an axis without knowing any
diagnosis. The same fit says which measurements rise along it, which fall, and which come and go. The diagnoses are only
used afterwards, to see whether the axis has anything to do with them. Simpler models are asked the same questions.

Run it as it is, or on a table of your own, whose numeric columns become the features::

    python examples/plot_tumour_biomarkers.py
    python examples/plot_tumour_biomarkers.py table.csv --label diagnosis --output figures/table.png
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, KFold, ShuffleSplit
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skdevae import BasisDeVAEClusterer
from skdevae.display import TrajectoryDisplay

FEWEST_ROWS = 30
BASELINE = "FactorAnalysis(1)"

# %%
# 1. The table
# ------------
# A data frame of measurements and, for later, a diagnosis for each row.


@dataclass(frozen=True)
class Study:
    name: str
    samples: str  # what a row is
    features: pd.DataFrame
    labels: pd.Series | None  # two values, or missing
    notes: tuple[str, ...] = ()


def tumours() -> Study:
    table = load_breast_cancer(as_frame=True)
    diagnosis = table.target.map(dict(enumerate(table.target_names)))
    return Study("tumour_biomarkers", "tumours", table.data, diagnosis)


def read_csv(path: Path, label: str | None) -> Study:
    """The study in a CSV file. Raises ValueError, in words for the person who wrote the file."""
    try:
        table = pd.read_csv(path)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"cannot read {path} as a CSV table: {error}") from error
    labels = None
    if label is not None:
        if label not in table:
            raise ValueError(f"{path} has no column {label!r}; it has {', '.join(map(repr, table.columns))}.")
        labels = table.pop(label)
        counts = labels.value_counts()
        if len(counts) != 2 or counts.min() < 5:
            raise ValueError(
                f"--label needs a column with two values of at least 5 rows each, but {label!r} has "
                + (", ".join(f"{value!r} ({n})" for value, n in counts.head(5).items()) or "none")
                + (", ..." if len(counts) > 5 else ".")
            )
    features = table.select_dtypes("number").astype(float)
    varying = features.loc[:, features.nunique() > 1]
    notes = [
        f"Left out, {why}: {', '.join(map(str, columns))}."
        for why, columns in {
            "not numeric": table.columns.difference(features.columns, sort=False),
            "constant or empty": features.columns.difference(varying.columns, sort=False),
        }.items()
        if len(columns)
    ]
    if np.isinf(varying.to_numpy()).any():
        raise ValueError(f"{path} contains infinite values, in {varying.columns[np.isinf(varying).any()][0]!r}.")
    if varying.shape[1] < 3:
        raise ValueError(
            f"{path} has {varying.shape[1]} numeric columns with more than one value; an axis needs at least 3."
        )
    observed = varying.notna().any(axis=1)
    if not observed.all():
        notes.append(f"Left out, without any number: {(~observed).sum()} rows.")
        varying, labels = varying[observed], None if labels is None else labels[observed]
    if len(varying) < FEWEST_ROWS:
        raise ValueError(f"{path} has {len(varying)} rows with numbers; the comparisons here need {FEWEST_ROWS}.")
    return Study(path.stem, "samples", varying, labels, tuple(notes))


# %%
# 2. The model
# ------------
# BasisDeVAE standardises by itself, so the scaler changes nothing for it. It brings the likelihoods of all models to
# the same units.


def pipeline_of(model) -> Pipeline:
    return Pipeline([("scale", StandardScaler()), ("model", model)])


# %%
# 3. Which feature does what, and where
# -------------------------------------
# Every feature has its most probable behaviour. A rising or falling feature is placed where it changes most, a
# transient one at its peak. The share of samples below that place says whether there are data around it.


def middle_of(positions: np.ndarray) -> np.ndarray:
    """Points through the middle 98 % of the samples, where there are enough data."""
    return np.linspace(*np.quantile(positions, [0.01, 0.99]), 400)


def behaviour_table(pipeline: Pipeline, features: pd.DataFrame) -> pd.DataFrame:
    clusterer = pipeline[-1]
    positions = pipeline.transform(features)[:, 0]
    z = middle_of(positions)
    curves = clusterer.trajectories(z)  # in sds: the pipeline has standardised
    steepest = z[np.abs(np.gradient(curves, z, axis=0)).argmax(0)]
    names = clusterer.cluster_names_[clusterer.labels_]
    place = np.where(names == "transient", clusterer.peaks_, steepest)
    table = pd.DataFrame(
        {
            "feature": pipeline[:-1].get_feature_names_out(),
            "behaviour": names,
            "probability": clusterer.responsibilities_.max(1),
            "at z": place,
            "samples below": (positions[:, None] < place).mean(0),
            "range (sd)": np.ptp(curves, axis=0),
            "cluster": clusterer.labels_,
        }
    )
    return table.sort_values(["cluster", "at z"]).drop(columns="cluster").reset_index(drop=True)


def print_behaviours(table: pd.DataFrame) -> None:
    formats = {"probability": "{:.2f}", "at z": "{:+.2f}", "samples below": "{:.0%}", "range (sd)": "{:.1f}"}
    print(table.to_string(index=False, formatters={name: form.format for name, form in formats.items()}))
    print(
        "at z: where the feature changes most (1 % or 99 %: at the end of the samples); if it is transient, its peak."
        "\nrange: highest minus lowest expected value within the middle 98 % of the samples."
    )


# %%
# 4. Against plainer models, on samples that none of them has seen
# ----------------------------------------------------------------
# Two questions. How well does the model describe new samples (mean log-likelihood, nats per sample)? And, if there are
# labels: how well does the axis separate them (area under the ROC curve, in the better direction)? Each split holds out
# a fifth of the samples at random, and starts the model from its own seed.


def separation(positions: np.ndarray, labels: pd.Series) -> float:
    known = labels.notna().to_numpy()
    if labels[known].nunique() < 2:
        return np.nan
    area = roc_auc_score(labels[known] == labels[known].iloc[0], positions[known])
    return max(area, 1 - area)


def compare(study: Study, n_splits: int) -> pd.DataFrame:
    """A row for each model and split, with columns model, split, log-likelihood and separation."""
    models: dict[str, Callable] = {"BasisDeVAEClusterer": lambda seed: BasisDeVAEClusterer(random_state=seed)}
    if not study.features.isna().any(axis=None):  # these two take no missing entries
        models[BASELINE] = lambda seed: FactorAnalysis(1, random_state=seed)
        models["PCA(1)"] = lambda seed: PCA(1, random_state=seed)
    rows = []
    splits = ShuffleSplit(n_splits, test_size=0.2, random_state=0).split(study.features)
    for split, (train, test) in enumerate(splits):
        unseen = study.features.iloc[test]
        for name, model in models.items():
            pipeline = pipeline_of(model(split)).fit(study.features.iloc[train])
            row = {"model": name, "split": split, "log-likelihood": pipeline.score(unseen)}
            if study.labels is not None:
                row["separation"] = separation(pipeline.transform(unseen)[:, 0], study.labels.iloc[test])
            rows.append(row)
    return pd.DataFrame(rows)


def with_spread(values: pd.Series, digits: int) -> str:
    spread = f" ± {values.std():.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{spread}"


def print_comparison(results: pd.DataFrame) -> None:
    columns: dict[str, dict[str, str]] = {"log-likelihood": {}, f"above {BASELINE}": {}, "separation": {}}
    baseline = results[results.model == BASELINE].set_index("split")["log-likelihood"]
    for name, rows in results.set_index("split").groupby("model", sort=False):
        columns["log-likelihood"][name] = with_spread(rows["log-likelihood"], 2)
        if len(baseline) and name != BASELINE:  # differences within splits: some splits are easy, some are hard
            columns[f"above {BASELINE}"][name] = with_spread(rows["log-likelihood"] - baseline, 2)
        if "separation" in rows:
            columns["separation"][name] = with_spread(rows["separation"].dropna(), 3)
    print(pd.DataFrame({name: column for name, column in columns.items() if column}).fillna("").to_string())


# %%
# 5. How many behaviours?
# -----------------------
# The estimator's score is a log-likelihood, so scikit-learn's own search can choose K by that of held-out samples. K
# behaviours are the first K of increasing, decreasing, transient, flat. (The next two, dip and free, are not searched.
# They let the axis bend, and a free curve is not a behaviour that one could name.)


def search(features: pd.DataFrame) -> GridSearchCV:
    candidates = GridSearchCV(
        pipeline_of(BasisDeVAEClusterer(random_state=0)),
        {"model__n_clusters": [1, 2, 3, 4], "model__alpha": [0.1, 1.0]},
        cv=KFold(3, shuffle=True, random_state=0),
        n_jobs=2,
        refit=False,
        error_score="raise",
    )
    with warnings.catch_warnings():
        # The most extreme samples of a held-out fold lie beyond the others. Each of the candidates would say so again.
        warnings.filterwarnings("ignore", message=".* lie beyond the range of the training samples")
        return candidates.fit(features)


def print_search(found: GridSearchCV) -> None:
    results = pd.DataFrame(found.cv_results_).rename(
        columns={"param_model__n_clusters": "K", "param_model__alpha": "alpha", "mean_test_score": "mean"}
    )
    print(results.pivot(index="K", columns="alpha", values="mean").to_string(float_format="{:.2f}".format))
    best = found.best_params_
    print(
        f"best: K={best['model__n_clusters']}, alpha={best['model__alpha']}; "
        f"its three folds differ by an sd of {results['std_test_score'][found.best_index_]:.2f}"
    )


# %%
# 6. The figure
# -------------
# Where the samples are on the axis, and every feature's curve.


def draw_positions(ax, positions: np.ndarray, study: Study) -> None:
    bins = np.linspace(positions.min(), positions.max(), 36)
    groups: list[tuple[str, np.ndarray]] = [(f"all {study.samples}", positions)]
    if study.labels is not None:
        groups = [(str(value), positions[study.labels == value]) for value in study.labels.dropna().unique()]
        groups.sort(key=lambda group: group[1].mean())
    middle = np.mean([np.median(values) for _, values in groups])
    sides = (("center", 0.0),) if len(groups) == 1 else (("right", -0.15), ("left", 0.15))
    styles = zip(sides, ("#34009C", "#C4530B"), ("", "////"), strict=False)
    for (name, values), ((side, step), color, hatch) in zip(groups, styles, strict=True):
        ax.hist(
            values, bins, histtype="stepfilled", facecolor=color + "59", edgecolor=color, hatch=hatch, linewidth=1.5
        )  # fmt: skip
        ax.text(
            middle + step, 0.99, f"{name} ({len(values)})", color=color, fontsize=8, ha=side, va="bottom",
            transform=ax.get_xaxis_transform(),
        )  # fmt: skip
    ax.set_xlim(positions.min(), positions.max())
    ax.set_xlabel("position on the latent axis", fontsize=8)
    ax.set_ylabel(study.samples, fontsize=8)
    ax.tick_params(labelsize=7)
    ax.spines[["top", "right"]].set_visible(False)


def draw(pipeline: Pipeline, study: Study) -> plt.Figure:
    clusterer = pipeline[-1]
    names, sizes = np.unique(clusterer.labels_, return_counts=True)
    n_panels = 1 + len(names)
    n_cols = 2 if n_panels <= 4 else 3
    figure, axes = plt.subplots(
        -(-n_panels // n_cols), n_cols, figsize=(3.6 * n_cols, 2.4 * -(-n_panels // n_cols)), layout="constrained",
        squeeze=False,
    )  # fmt: skip
    for empty in axes.ravel()[n_panels:]:
        empty.remove()
    draw_positions(axes[0, 0], pipeline.transform(study.features)[:, 0], study)
    TrajectoryDisplay.from_estimator(pipeline, study.features, ax=axes.ravel()[1:n_panels], max_labels=6)
    verbs = {"increasing": "rise", "decreasing": "fall", "transient": "come and go", "flat": "stay"}
    counts = [f"{size} {verbs[clusterer.cluster_names_[name]]}" for name, size in zip(names, sizes, strict=True)]
    blind = "" if study.labels is None else ", found without their labels"
    figure.suptitle(
        f"{len(study.features)} {study.samples} on one axis{blind}: of {sizes.sum()} features {', '.join(counts)}",
        fontsize=9, x=0.01, ha="left",
    )  # fmt: skip
    return figure


# %%
# 7. All of it
# ------------


def run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.splits < 1:
        parser.error("--splits must be at least 1.")
    if options.csv is None and options.label is not None:
        parser.error("--label names a column of a CSV, and none was given.")
    try:
        study = tumours() if options.csv is None else read_csv(options.csv, options.label)
    except ValueError as error:
        parser.error(str(error))
    features = study.features

    pipeline = pipeline_of(BasisDeVAEClusterer(random_state=0)).fit(features)
    print(f"{len(features)} {study.samples}, {features.shape[1]} features")
    print(*study.notes, sep="\n", end="\n" if study.notes else "")

    print("\nHow each feature behaves along the axis")
    print_behaviours(behaviour_table(pipeline, features))
    if study.labels is not None:
        area = separation(pipeline.transform(features)[:, 0], study.labels)
        kinds = " from ".join(map(str, study.labels.dropna().unique()))
        print(f"\nThe axis, found without labels, tells {kinds} with an area under the ROC curve of {area:.3f}", end="")
        if features.isna().any(axis=None):
            print(".")
        else:
            component = pipeline_of(PCA(1)).fit_transform(features)[:, 0]
            print(f" (first principal component: {separation(component, study.labels):.3f}).")

    judged = "" if study.labels is None else "; separation: area under the ROC curve of the axis"
    print(f"\nOn held-out {study.samples}, mean ± sd over {options.splits} random splits")
    print(f"log-likelihood: nats per sample, in standardised units{judged}")
    if features.isna().any(axis=None):
        print(f"{BASELINE} and PCA(1) take no missing entries and are left out.")
    print_comparison(compare(study, options.splits))

    if options.search:
        print("\nHeld-out log-likelihood for K behaviours and concentration alpha, 3-fold")
        print_search(search(features))

    output = options.output or Path("figures") / f"{study.name}.png"
    output.parent.mkdir(parents=True, exist_ok=True)
    figure = draw(pipeline, study)
    figure.savefig(output, dpi=150)
    plt.close(figure)
    print(f"\nFigure: {output}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Place samples on an axis, and say how each feature behaves along it.")
    parser.add_argument("csv", type=Path, nargs="?", help="a table; without one, scikit-learn's breast tumours")
    parser.add_argument("--label", help="a column of the CSV with two values, to judge the axis by; never fitted")
    parser.add_argument("--output", type=Path, help="where the figure goes; by default figures/<name of the data>.png")
    parser.add_argument("--splits", type=int, default=5, help="splits to compare models on (%(default)s)")
    parser.add_argument("--search", action=argparse.BooleanOptionalAction, default=True, help="search K and alpha")
    run(parser, parser.parse_args(argv))


if __name__ == "__main__":
    main()
