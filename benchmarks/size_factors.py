"""Size factors of counts: exact inference with and without them, what genes do along an axis, cost, and dispersions.

    python benchmarks/size_factors.py [--parts all] [--seeds 3]

Parts, each a table:

axes        Paul et al. (2015), raw counts of 240 genes in the cells of each lineage with weight above 0.5. The first
            90 % of RandomState(0).permutation train. Held-out nats per cell are those of the counts given the size
            factors, where a model has any, and Spearman correlations are those of all cells' positions.
behaviors   What the genes of the erythroid lineage do along the axis of nb with size factors, against spline fits along
            the published pseudotime, on the training cells: a Poisson regression of each gene's counts on six cubic
            B-splines, with the log size factor as an offset. A gene is flat if an F-test of quasi-likelihoods does not
            tell its curve from a constant (false discovery rate of 1 %). Other genes are transient or dip if the curve
            of log means, over the central 98 % of pseudotimes, has an extremum between its ends that is 15 % of its
            range from both; else they rise or fall.
cost        8509 cells x 5216 genes, simulated: CPU-seconds and peak memory of an exact fit, each in a process of its
            own.
dispersions VampVAE and DGDEmbedder with dispersions that grow with size (s r) and that do not (r): held-out nats given
            the totals, adjusted Rand index of k-means on the training latents (of the mixture's components for DGD),
            silhouette by label. Seeds are of the fits.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
import warnings
from functools import cache, partial

import numpy as np
import pandas as pd
from common import peak_memory_gib, print_table, set_threads, shared_data
from embeddings import load as load_cells
from embeddings import rand_index, silhouette
from scipy.sparse import csr_array
from scipy.stats import f as f_distribution
from scipy.stats import false_discovery_control, spearmanr
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import PoissonRegressor
from sklearn.metrics import adjusted_rand_score
from sklearn.preprocessing import SplineTransformer

from skdevae import BasisDeVAEClusterer, DGDEmbedder, VampVAE
from skdevae.datasets import make_progression_counts

#: column of the lineage in the file's weights and pseudotimes
LINEAGES = {"erythroid": 1, "myeloid": 0}
MODELS = {
    "nb": {"likelihood": "nb", "size_factors": None},
    "poisson, sum": {"likelihood": "poisson", "size_factors": "sum"},
    "nb, sum": {"likelihood": "nb", "size_factors": "sum"},
    "nb, sum, dips too": {
        "likelihood": "nb",
        "size_factors": "sum",
        "behaviors": ("increasing", "decreasing", "transient", "dip", "flat"),
    },
}
MARGIN = BasisDeVAEClusterer().margin
FALSE_DISCOVERIES = 0.01


class Lineage:
    """Cells of a lineage: counts, published pseudotimes, and the rows that train."""

    def __init__(self, name: str):
        data = np.load(shared_data("paul15_240genes.npz"), allow_pickle=False)
        column = LINEAGES[name]
        cells = data["lineage_weight"][:, column] > 0.5
        self.counts = csr_array(data["X"][cells].astype(np.float32))
        self.pseudotime = data["pseudotime"][cells, column]
        order = np.random.RandomState(0).permutation(len(self.pseudotime))
        self.train, self.test = np.split(order, [int(0.9 * len(order))])

    @property
    def total(self) -> np.ndarray:
        """Total count of every cell."""
        return np.asarray(self.counts.sum(1)).ravel()


@cache
def lineage(name: str) -> Lineage:
    return Lineage(name)


@cache
def fitted(lineage_name: str, model: str) -> tuple[BasisDeVAEClusterer, float]:
    """A model of the training cells whose axis runs as pseudotime does, and the CPU-seconds of its fit."""
    cells = lineage(lineage_name)
    estimator = BasisDeVAEClusterer(random_state=0, **MODELS[model])
    begin = time.process_time()
    estimator.fit(cells.counts[cells.train], orientation=cells.pseudotime[cells.train])
    return estimator, time.process_time() - begin


def behaviors_of(estimator: BasisDeVAEClusterer) -> np.ndarray:
    """The behaviour of every gene, by name."""
    return estimator.cluster_names_[estimator.labels_].astype(str)


def part_axes(n_seeds: int) -> list[dict]:
    rows = []
    for name in LINEAGES:
        cells = lineage(name)
        for model in MODELS:
            estimator, spent = fitted(name, model)
            axis = estimator.transform(cells.counts)[:, 0]
            behaviors = pd.Series(behaviors_of(estimator)).value_counts()
            rows.append(
                {
                    "lineage": name,
                    "model": model,
                    "held-out nats": f"{estimator.score(cells.counts[cells.test]):.1f}",
                    "train": f"{estimator.score(cells.counts[cells.train]):.1f}",
                    "Spearman with pseudotime": f"{abs(spearmanr(axis, cells.pseudotime)[0]):.3f}",
                    "with total": f"{abs(spearmanr(axis, cells.total)[0]):.3f}",
                    "behaviors": ", ".join(f"{n} {name}" for name, n in behaviors.items()),
                    "CPU-s": f"{spent:.1f}",
                }
            )
    return rows


# ---- what genes do along the axis -----------------------------------------------------------------------------------


def deviance(counts: np.ndarray, expected: np.ndarray) -> float:
    """Of a Poisson model."""
    logs = counts * np.log(np.where(counts > 0, counts, 1) / expected)
    return float(2 * (logs - counts + expected).sum())


def spline_behaviors(counts: np.ndarray, size: np.ndarray, pseudotime: np.ndarray) -> np.ndarray:
    """What every column of counts (N, D) does along pseudotime (N,), by the rule above: (D,) of names."""
    splines = SplineTransformer(4, knots="quantile", include_bias=False)
    design = splines.fit_transform(pseudotime[:, None])  # of six splines, one is left to the intercept
    times = np.linspace(*np.quantile(pseudotime, [0.01, 0.99]), 200)[:, None]
    points = splines.transform(times)
    n_freedom = len(counts) - design.shape[1] - 1
    p_values, names = [], []
    for column in counts.T:
        # Counts by size, weighted by size, have the likelihood of counts with an offset.
        regression = PoissonRegressor(alpha=1e-4, solver="newton-cholesky", max_iter=1000)
        regression.fit(design, column / size, sample_weight=size)
        expected = size * regression.predict(design)
        dispersion = ((column - expected) ** 2 / expected).sum() / n_freedom
        constant = size * column.sum() / size.sum()
        gain = deviance(column, constant) - deviance(column, expected)
        p_values.append(f_distribution.sf(gain / design.shape[1] / dispersion, design.shape[1], n_freedom))
        names.append(shape_of(points @ regression.coef_))
    is_flat = false_discovery_control(p_values) > FALSE_DISCOVERIES
    return np.where(is_flat, "flat", names)


def shape_of(curve: np.ndarray) -> str:
    """What a curve does between its ends, at the model's own margin."""
    margin, (first, last) = MARGIN * np.ptp(curve), curve[[0, -1]]
    if curve.max() - max(first, last) > margin:
        return "transient"
    if min(first, last) - curve.min() > margin:
        return "dip"
    return "increasing" if last > first else "decreasing"


def part_behaviors(n_seeds: int) -> list[dict]:
    cells = lineage("erythroid")
    size = cells.total / np.exp(np.log(cells.total[cells.train]).mean())
    counts = cells.counts.toarray()[cells.train]
    by_splines = spline_behaviors(counts, size[cells.train], cells.pseudotime[cells.train])
    rows = []
    for model in MODELS:
        found = behaviors_of(fitted("erythroid", model)[0])
        table = pd.crosstab(pd.Series(by_splines, name="by splines"), pd.Series(found, name="by the model"))
        agreement = adjusted_rand_score(by_splines, found)
        for name, counted in table.iterrows():
            rows.append({"model": model, "ARI": f"{agreement:.3f}", "by splines": name, **counted})
    return pd.DataFrame(rows).fillna(0).convert_dtypes().to_dict("records")


# ---- cost -----------------------------------------------------------------------------------------------------------


def cost_of(size_factors: str | None) -> tuple[float, float, int]:
    """CPU-seconds and peak memory of a large fit, and its passes."""
    set_threads(1)
    counts = make_progression_counts(8509, 5216, random_state=0).data
    model = BasisDeVAEClusterer(likelihood="nb", size_factors=size_factors, random_state=0)
    begin = time.process_time()
    model.fit(counts)
    return time.process_time() - begin, peak_memory_gib(), model.n_iter_


def part_cost(n_seeds: int) -> list[dict]:
    rows = []
    for size_factors in (None, "sum"):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            spent, memory, passes = pool.apply(cost_of, (size_factors,))
        rows.append({"size_factors": size_factors, "CPU-s": spent, "passes": passes, "peak GiB": memory})
    for row in rows:
        row["ratio of CPU-s"] = row["CPU-s"] / rows[0]["CPU-s"]
    return [{key: round(v, 2) if isinstance(v, float) else v for key, v in row.items()} for row in rows]


# ---- dispersions ----------------------------------------------------------------------------------------------------


def with_dispersion(estimator: type, scales: bool) -> type:
    """An estimator's class with dispersions that grow with size, or do not."""
    return type(estimator.__name__, (estimator,), {"_scales_dispersion": scales, "__module__": __name__})


def part_dispersions(n_seeds: int) -> list[dict]:
    kinds = {
        "VampVAE": (VampVAE, {}),
        "DGDEmbedder": (DGDEmbedder, {"n_components": 10, "n_clusters": None}),
    }
    rows = []
    for data in ("paul15", "mixology", "pbmc4k"):
        cells = load_cells(data)
        n_classes = len(np.unique(cells.labels))
        for kind, (estimator, options) in kinds.items():
            own = {**options, "n_clusters": n_classes} if "n_clusters" in options else options
            for scales in (False, True):
                found = []
                for seed in range(n_seeds):
                    model = with_dispersion(estimator, scales)(likelihood="nb", random_state=seed, **own)
                    latents = model.fit(cells.train).transform(cells.train)
                    if kind == "DGDEmbedder":
                        agreement = adjusted_rand_score(cells.labels, model.labels_)
                    else:
                        agreement = rand_index(latents, cells.labels)
                    found.append((model.score(cells.test), agreement, silhouette(latents, cells.labels)))
                mean, sd = np.mean(found, 0), np.std(found, 0)
                names = ("held-out nats", "ARI", "silhouette")
                rows.append(
                    {
                        "data": data,
                        "model": kind,
                        "dispersion": "s r" if scales else "r",
                        **{n: f"{m:.3f} ({s:.3f})" for n, m, s in zip(names, mean, sd, strict=True)},
                    }
                )
                print(rows[-1], flush=True)
    return rows


PARTS = {name.removeprefix("part_"): part for name, part in list(globals().items()) if name.startswith("part_")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=[*PARTS, "all"], default=["all"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    for name, part in PARTS.items():
        if name in arguments.parts or "all" in arguments.parts:
            begin = time.perf_counter()
            rows = partial(part, arguments.seeds)()
            print(f"\n{name} ({time.perf_counter() - begin:.0f} s)")
            print_table(rows)


if __name__ == "__main__":
    main()
