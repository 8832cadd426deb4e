"""
==========================================================
Brains on an axis along which the cortex can only get thinner
==========================================================

The cortex is a sheet two to four millimetres thick. Over adult life it thins everywhere, but at different speeds in
different regions, and not at the same time. In 556 healthy people between 20 and 86, its thickness was measured in 68
regions (IXI, MRI). This example places these people on an axis by their cortex alone, without knowing their ages. The
model is told one thing: along the axis, every region gets thinner. The ages are only used afterwards, to judge the
axis. Because the model builds curves from their derivatives, it also says how fast each region thins, and so which
regions thin first.

Run it as it is. If there is no ../shared/data and no other table is given, it makes up a cortex::

    python examples/plot_brain_thickness.py
    python examples/plot_brain_thickness.py thickness.csv --output figures/mine.png
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from sklearn.decomposition import FactorAnalysis
from sklearn.model_selection import ShuffleSplit
from sklearn.preprocessing import StandardScaler
from sklearn.utils import resample

from skdevae import DeVAETransformer
from skdevae.datasets import make_progression

SUFFIX = "_thickness"
IXI = Path(__file__).resolve().parents[2] / "shared" / "data" / f"ixi{SUFFIX}.csv.gz"
FEWEST_ROWS = 30

# %%
# 1. The table
# ------------
# One row for each person, one column for each region. Averages over a hemisphere are left out: they are not regions,
# and a column that averages all others would be the axis by itself. Ages are kept apart.


@dataclass(frozen=True)
class Study:
    name: str
    thickness: pd.DataFrame
    age: pd.Series
    unit: str


def read_csv(path: Path) -> Study:
    """The study in a CSV file. Raises ValueError, in words for the person who wrote the file."""
    try:
        table = pd.read_csv(path)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"cannot read {path} as a CSV table: {error}") from error
    regions = [column for column in table if column.endswith(SUFFIX) and "MeanThickness" not in column]
    if "age" not in table or len(regions) < 4:
        raise ValueError(f"{path} needs a column 'age' and at least four that end in {SUFFIX!r}.")
    if len(table) < FEWEST_ROWS:
        raise ValueError(f"{path} has {len(table)} rows; the comparisons here need {FEWEST_ROWS}.")
    if table[[*regions, "age"]].isna().any(axis=None):
        raise ValueError(f"{path} has missing entries, which FactorAnalysis does not take.")
    return Study("brain_thickness", table[regions].astype(float), table["age"], "mm")


def made_up() -> Study:
    """Forty features that fall along a hidden time, and an age that is this time plus noise."""
    progression = make_progression(
        500, n_transient=0, n_increasing=0, n_decreasing=40, noise=0.15, as_frame=True, random_state=0
    )
    age = 52 + 8 * progression.times + np.random.default_rng(0).normal(0, 6, len(progression.times))
    return Study("brain_thickness_made_up", progression.data, pd.Series(age, name="age"), "arbitrary units")


# %%
# 2. The model
# ------------
# The expected thickness of a region is x0 plus the integral of minus a softplus, so it falls everywhere, whatever the
# weights of the network are. Nothing needs to be standardised, and no labels go in.


def fit(thickness: pd.DataFrame) -> DeVAETransformer:
    return DeVAETransformer(monotonic_cst="decreasing", random_state=0).fit(thickness)


# %%
# 3. The axis and age
# -------------------
# The constraint also decides which end is which: the axis runs from thick to thin. How well does it agree with age,
# compared with simpler summaries of the same columns?


def agreement_with_age(positions: np.ndarray, study: Study) -> pd.Series:
    columns = StandardScaler().fit_transform(study.thickness)
    summaries = {
        "DeVAE axis": positions,
        "FactorAnalysis(1)": FactorAnalysis(1).fit_transform(columns)[:, 0],
        "mean of all regions": columns.mean(axis=1),
    }
    return pd.Series({name: abs(spearmanr(values, study.age)[0]) for name, values in summaries.items()})


# %%
# 4. Who goes first
# -----------------
# ``derivatives`` says how fast a region thins at every position. Two positions summarise that: where the region thins
# fastest, and where it has lost half of what it loses. Regions are ordered by the second, which is much more stable:
# many regions thin faster and faster, so the position of the fastest thinning is simply where the people end. Refits to
# resampled people show how certain the order is. All of this is within the middle 95 % of the people, where there are
# data. Note that the axis compares people, not years of one life: some people are born with a thicker cortex, and the
# axis reflects that as well as age.


def middle_of(positions: np.ndarray) -> np.ndarray:
    return np.linspace(*np.quantile(positions, [0.025, 0.975]), 241)


def halfway_places(model: DeVAETransformer, z: np.ndarray) -> np.ndarray:
    curves = model.trajectories(z)
    lost = (curves[0] - curves) / (curves[0] - curves[-1])
    return np.array([np.interp(0.5, share, z) for share in lost.T])


def thinning_table(model: DeVAETransformer, study: Study, z: np.ndarray, n_refits: int) -> pd.DataFrame:
    """Regions from the earliest to the latest, with columns for what the figure shows."""
    curves, speeds = model.trajectories(z), -model.derivatives(z)
    refits = [halfway_places(fit(resample(study.thickness, random_state=seed)), z) for seed in range(n_refits)]
    low, high = np.quantile(refits, [0.05, 0.95], axis=0) if refits else (np.nan, np.nan)
    table = pd.DataFrame(
        {
            "region": study.thickness.columns,
            "halfway": halfway_places(model, z),
            "low": low,
            "high": high,
            "fastest": z[speeds.argmax(axis=0)],
            "speed there": speeds.max(axis=0),
            "lost": curves[0] - curves[-1],
            "share": 1 - curves[-1] / curves[0],
            "noise": model.noise_scale_,
        }
    )
    return table.sort_values("halfway").reset_index(drop=True)


def without_side(name: str) -> str:
    return re.sub("^[lr]h_", "", name)


def readable(name: str) -> str:
    """Region in words: "lh_superiorfrontal_thickness" is "superior frontal, L"."""
    matched = re.fullmatch(rf"([lr])h_(.*){SUFFIX}", name)
    side, region = matched.groups() if matched else ("", name.removesuffix(SUFFIX).replace("_", " "))
    region = re.sub(r"(?<=.)(pole|cingulate|(?<!orbito)frontal|orbitofrontal|temporal$)", r" \1", region)
    region = re.sub(r"^(caudal|rostral|lateral|medial|superior|inferior|posterior|pars)(?=[a-z])", r"\1 ", region)
    return re.sub(" +", " ", region).replace("bankssts", "banks of STS") + (f", {side.upper()}" if side else "")


def print_thinning(table: pd.DataFrame, unit: str, n_shown: int = 5) -> None:
    short = "mm" if unit == "mm" else "a.u."
    shown = pd.DataFrame(
        {
            "region": table["region"].map(readable),
            "halfway at z": table["halfway"].map("{:+.2f}".format),
            "90 % of refits": [f"{low:+.2f} to {high:+.2f}" for low, high in zip(table.low, table.high, strict=True)],
            "fastest at z": table["fastest"].map("{:+.2f}".format),
            f"speed there ({short}/sd)": table["speed there"].map("{:.2f}".format),
            f"lost ({short})": table["lost"].map("{:.2f}".format),
        }
    )
    if table["low"].isna().all():  # no refits
        shown = shown.drop(columns="90 % of refits")
    if len(table) > 2 * n_shown:
        gap = pd.DataFrame([["..."] + [""] * (shown.shape[1] - 1)], columns=shown.columns)
        shown = pd.concat([shown.head(n_shown), gap, shown.tail(n_shown)])
    print(shown.to_string(index=False))


# %%
# The model does not know which columns are the left and the right side of the same region. So whether left and right
# come out at the same position is a test of the order that does not use age.


def agreement_of_sides(table: pd.DataFrame) -> float | None:
    places = table.set_index("region")["halfway"]
    left = [name for name in places.index if name.startswith("lh_") and "rh_" + name[3:] in places.index]
    if len(left) < 4:
        return None
    return float(spearmanr(places[left], places[["rh_" + name[3:] for name in left]])[0])


# %%
# 5. On people that it has not seen
# ---------------------------------
# Two tests on new people. The first is their log-likelihood (nats per person, in standardised units), compared with
# FactorAnalysis, which is the same model with straight lines. The second hides a fifth of their entries, and
# ``predict`` says from the rest what they should be. (FactorAnalysis takes no missing entries, so the comparison is
# with each region's average.)


def held_out(study: Study, n_splits: int) -> pd.DataFrame:
    """A row for each split."""
    rows = []
    for seed, (train, test) in enumerate(ShuffleSplit(n_splits, test_size=0.2, random_state=0).split(study.thickness)):
        scaler = StandardScaler().fit(study.thickness.iloc[train])
        X, X_test = scaler.transform(study.thickness.iloc[train]), scaler.transform(study.thickness.iloc[test])
        model = fit(X)
        hidden = np.random.default_rng(seed).random(X_test.shape) < 0.2
        hidden[hidden.all(axis=1), 0] = False  # at least one entry of each person is seen
        wrong = (model.predict(np.where(hidden, np.nan, X_test)) - X_test) * scaler.scale_
        rows.append(
            {
                "devae": model.score(X_test),
                "factor analysis": FactorAnalysis(1).fit(X).score(X_test),
                "in band": np.mean(np.abs(wrong / scaler.scale_ / model.noise_scale_)[hidden] < 1.96),
                "error": np.sqrt(np.mean(wrong[hidden] ** 2)),
                "error of averages": np.sqrt(np.mean((X_test * scaler.scale_)[hidden] ** 2)),
            }
        )
    return pd.DataFrame(rows)


def print_held_out(results: pd.DataFrame, unit: str) -> None:
    gain = results["devae"] - results["factor analysis"]
    print(
        f"log-likelihood per person: DeVAE {results['devae'].mean():.2f}, "
        f"FactorAnalysis(1) {results['factor analysis'].mean():.2f}; "
        f"difference {gain.mean():+.2f} (from {gain.min():+.2f} to {gain.max():+.2f})"
    )
    print(
        f"hidden entries, root mean squared error: predict {results['error'].mean():.3f} {unit}, "
        f"region's average {results['error of averages'].mean():.3f} {unit}; "
        f"within 1.96 noise sd of predict: {results['in band'].mean():.1%}"
    )


# %%
# 6. The figure
# -------------
# Upper left: the axis against age. Lower left: four regions with everyone's measurements, the curve (dashed where there
# are few people), and the band that should hold 95 % of the people at each position. Right: all regions. The colour is
# how fast each thins compared with its own average speed. Dots are where half is lost, and lines show where 90 % of the
# refits put that.

BLUE, ORANGE, GREY = "#0B5C8C", "#C44E00", "#5A5A5A"


def draw_age(ax, positions: np.ndarray, study: Study) -> None:
    ax.scatter(study.age, positions, s=13, color=BLUE, alpha=0.45, linewidth=0)
    edges = np.quantile(study.age, np.linspace(0, 1, 9))
    groups = pd.Series(positions, index=study.age.index).groupby(np.digitize(study.age, edges[1:-1]))
    ages = study.age.groupby(np.digitize(study.age, edges[1:-1])).median()
    quartiles = groups.quantile([0.25, 0.5, 0.75]).unstack()
    ax.errorbar(
        ages, quartiles[0.5], yerr=[quartiles[0.5] - quartiles[0.25], quartiles[0.75] - quartiles[0.5]],
        color=ORANGE, marker="o", markersize=6, linewidth=2, capsize=0, label="median and quartiles, by eighths of age",
    )  # fmt: skip
    ax.legend(frameon=False, fontsize=9, loc="upper left", borderaxespad=0)
    ax.set_ylim(positions.min() - 0.3, positions.max() + 1.3)
    ax.set_xlabel("age (years), which the model has not seen")
    ax.set_ylabel("position z (sd)\nthick   \u2192   thin")
    rho = spearmanr(positions, study.age)[0]
    ax.set_title(f"Position and age: Spearman {rho:.2f}", loc="left", fontsize=11.5)


def chosen_regions(table: pd.DataFrame) -> dict[str, str]:
    """Four different regions, each from one side, by what they are examples of."""
    rankings = {
        "earliest": table["halfway"],
        "latest": -table["halfway"],
        "loses most": -table["lost"],
        "follows the axis most closely": table["noise"] / table["lost"],
    }
    chosen: dict[str, str] = {}
    for what, values in rankings.items():
        known = {without_side(region) for region in chosen.values()}
        ranking = table.loc[values.sort_values().index, "region"]
        chosen[what] = next(region for region in ranking if without_side(region) not in known)
    return chosen


def draw_region(ax, model: DeVAETransformer, study: Study, z: np.ndarray, region: str, what: str) -> None:
    positions = model.transform(study.thickness)[:, 0]
    column = study.thickness.columns.get_loc(region)
    wide = np.linspace(positions.min(), positions.max(), 241)
    curve, noise = model.trajectories(wide)[:, column], model.noise_scale_[column]
    ax.scatter(positions, study.thickness[region], s=6, color=GREY, alpha=0.35, linewidth=0)
    ax.fill_between(wide, curve - 1.96 * noise, curve + 1.96 * noise, color=BLUE, alpha=0.18, linewidth=0)
    ax.plot(wide, curve, color=BLUE, linewidth=1.6, linestyle=(0, (2, 1.5)))
    ax.plot(z, model.trajectories(z)[:, column], color=BLUE, linewidth=2.6)
    ax.set_title(f"{readable(region)}\n{what}", loc="left", fontsize=10)


def draw_order(ax, bar, model: DeVAETransformer, study: Study, z: np.ndarray, table: pd.DataFrame) -> None:
    columns = [study.thickness.columns.get_loc(region) for region in table["region"]]
    speeds = -model.derivatives(z)[:, columns]
    relative = speeds / speeds.mean(axis=0)
    rows = np.arange(len(table))
    image = ax.pcolormesh(z, rows, relative.T, cmap="PuOr_r", vmin=0, vmax=2, shading="nearest", rasterized=True)
    ax.hlines(rows, table["low"], table["high"], color="black", linewidth=1)
    ax.plot(table["halfway"], rows, "o", color="black", markersize=3.6)
    ax.set_yticks(rows, table["region"].map(readable), fontsize=8)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.set_xlim(z[0], z[-1])
    ax.set_xlabel("position z (sd), middle 95 % of people")
    ax.set_title("Who goes first: at its dot a region has lost half", loc="left", fontsize=11.5)
    ax.spines[:].set_visible(False)
    colorbar = plt.colorbar(image, cax=bar, orientation="horizontal", ticks=[0, 0.5, 1, 1.5, 2], extend="max")
    colorbar.outline.set_visible(False)
    bar.set_xlabel("thinning speed, as a multiple of the region's average")


def draw(model: DeVAETransformer, study: Study, z: np.ndarray, table: pd.DataFrame) -> plt.Figure:
    positions = model.transform(study.thickness)[:, 0]
    height = max(7.5, 2.2 + 0.15 * len(table))
    figure = plt.figure(figsize=(13, height), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1.12, 1])
    axes = left.subplot_mosaic([["age", "age"], ["a", "b"], ["c", "d"]], height_ratios=[1.25, 1, 1])
    draw_age(axes["age"], positions, study)
    for key, (what, region) in zip("abcd", chosen_regions(table).items(), strict=True):
        draw_region(axes[key], model, study, z, region, what)
    for key in "ac":
        axes[key].set_ylabel("thickness (mm)" if study.unit == "mm" else f"value ({study.unit})")
    for key in "cd":
        axes[key].set_xlabel("position z (sd)")
    order, bar = right.subplots(2, 1, height_ratios=[60, 1])
    draw_order(order, bar, model, study, z, table)
    for ax in axes.values():
        ax.spines[["top", "right"]].set_visible(False)
    what = "cortical regions" if study.unit == "mm" else "made-up regions"
    figure.suptitle(
        f"{len(study.thickness)} people on one axis along which {len(table)} {what} can only get thinner",
        fontsize=14, x=0.01, ha="left",
    )  # fmt: skip
    return figure


# %%
# 7. All of it
# ------------


def run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.splits < 1 or options.refits < 0:
        parser.error("--splits must be at least 1, and --refits not negative.")
    source = options.csv or (IXI if IXI.exists() else None)
    try:
        study = made_up() if source is None else read_csv(source)
    except ValueError as error:
        parser.error(str(error))
    print(f"{len(study.thickness)} people, {study.thickness.shape[1]} regions", end="")
    print(f"; {IXI.name} is not here, so they are made up" if source is None else "")

    model = fit(study.thickness)
    positions = model.transform(study.thickness)[:, 0]
    z = middle_of(positions)
    sd = model.posterior(study.thickness).sd.mean()
    print(f"Everyone has a position, from thick to thin, to within {sd:.2f} sd (posterior sd, mean).")

    print("\nAge, which no model has seen: absolute Spearman correlation")
    print(agreement_with_age(positions, study).to_string(float_format="{:.3f}".format))

    print("\nWho goes first: where along the axis regions thin")
    table = thinning_table(model, study, z, options.refits)
    print_thinning(table, study.unit)
    sides = agreement_of_sides(table)
    if sides is not None:
        print(f"Halfway places of left and right regions, fitted without knowing of pairs: Spearman {sides:.2f}.")

    print(f"\nOn held-out people, mean of {options.splits} random splits")
    print_held_out(held_out(study, options.splits), study.unit)

    output = options.output or Path("figures") / f"{study.name}.png"
    output.parent.mkdir(parents=True, exist_ok=True)
    figure = draw(model, study, z, table)
    figure.savefig(output, dpi=110)
    plt.close(figure)
    print(f"\nFigure: {output}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Place brains on an axis of thinning, and say which regions thin when."
    )
    parser.add_argument(
        "csv", type=Path, nargs="?", help=f"a table with columns age and *{SUFFIX}; by default IXI, or made up"
    )
    parser.add_argument("--output", type=Path, help="where the figure goes; by default figures/brain_thickness.png")
    parser.add_argument("--splits", type=int, default=5, help="splits to compare models on (%(default)s)")
    parser.add_argument("--refits", type=int, default=20, help="refits to resampled people (%(default)s)")
    run(parser, parser.parse_args(argv))


if __name__ == "__main__":
    main()
