"""Fits along an axis that is given: what they find, and what they cost beside a spline regression for each gene.

    python benchmarks/given_axis.py [--parts clusters noisy known speed] [--seeds 3]

- ``clusters``: gene clusters of the Paul et al. cells along their published pseudotimes (slingshot). Behaviours agree
  (adjusted Rand index) with those of unconstrained splines, by the rule of ``size_factors.py``, and between two halves
  of the cells. The same for fits that find their own axis.
- ``noisy``: ``make_progression`` with times that are measured with an error, of so many sds of the times. Fits take the
  times for exact, know their error, or do without. Curve errors are root mean squares over samples and features, in
  noise sds, where the true time puts each sample.
- ``known``: tables in which a stronger factor than the axis varies, and the share of samples whose position is known.
  Spearman correlations are those of the positions of the other samples with the truth. With two components the first
  is the axis, and the second is free to be the factor.
- ``speed``: CPU-seconds for each gene and deviance explained (Poisson, given pseudotime and size; in the training cells
  and in others) beside generalised additive models, one for each gene: statsmodels' GLMGam with a fixed penalty and
  with one that is selected by AIC, and pygam's PoissonGAM with a grid search. Peers fit some of the genes only.
  ``pip install statsmodels pygam`` installs them; parts of the table are left out where they are missing.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator

import numpy as np
from common import print_table, set_threads
from scipy.stats import norm, rankdata, spearmanr
from size_factors import LINEAGES, behaviors_of, lineage, spline_behaviors
from sklearn.metrics import adjusted_rand_score

from skdevae import BasisDeVAEClusterer, BasisVAEClusterer, DeVAETransformer
from skdevae.datasets import make_progression

#: genes that peers are fitted to
N_PEER_GENES = 24
#: splines of each peer
N_SPLINES = 10


# ---- gene clusters along a pseudotime --------------------------------------------------------------------------------


def part_clusters(n_seeds: int) -> list[dict]:
    rows = []
    for name in LINEAGES:
        cells = lineage(name)
        counts, size, axis = cells.counts.toarray(), cells.total / cells.total.mean(), cells.pseudotime
        by_splines = spline_behaviors(counts, size, axis)
        for given in (True, False):
            estimator = BasisDeVAEClusterer(likelihood="nb", size_factors="sum", random_state=0)
            which = {"axis": axis} if given else {"orientation": axis}
            found = behaviors_of(estimator.fit(counts, **which))
            agreements = []
            for seed in range(n_seeds):
                order = np.random.RandomState(seed).permutation(len(counts))
                halves = []
                for half in np.array_split(order, 2):
                    own = {key: values[half] for key, values in which.items()}
                    halves.append(behaviors_of(estimator.fit(counts[half], **own)))
                agreements.append(adjusted_rand_score(*halves))
            names, n_genes = np.unique(found, return_counts=True)
            rows.append(
                {
                    "lineage": name,
                    "axis": "given" if given else "found",
                    "ARI with splines": f"{adjusted_rand_score(by_splines, found):.3f}",
                    "of two halves": f"{np.mean(agreements):.3f}",
                    "behaviours": ", ".join(f"{n} {name}" for name, n in zip(names, n_genes, strict=True)),
                }
            )
        basis = BasisVAEClusterer(likelihood="nb", size_factors="sum", random_state=0).fit(counts, axis=axis)
        rows.append(
            {
                "lineage": name,
                "axis": "given, BasisVAE",
                "ARI with splines": f"{adjusted_rand_score(by_splines, basis.labels_):.3f}",
                "of two halves": "",
                "behaviours": f"{basis.n_clusters_effective_} functions",
            }
        )
    return rows


# ---- times with an error ---------------------------------------------------------------------------------------------


def part_noisy(n_seeds: int) -> list[dict]:
    rows = []
    for sd in (0.0, 0.1, 0.3, 0.6, 1.0):
        found: dict[str, list[tuple]] = {"axis": [], "axis, axis_sd": [], "none": []}
        for seed in range(n_seeds):
            table = make_progression(300, n_flat=10, noise=0.3, random_state=seed)
            spread = table.times.std()
            measured = table.times + sd * spread * np.random.default_rng(seed).standard_normal(len(table.times))
            for how, facts in {
                "axis": {"axis": measured},
                "axis, axis_sd": {"axis": measured, "axis_sd": sd * spread},
                "none": {"orientation": table.times},
            }.items():
                model = BasisDeVAEClusterer(random_state=seed).fit(table.data, **facts)
                found[how].append(_recovery(model, table))
        for how, values in found.items():
            names = ("ARI of labels", "curve error", "Spearman of positions")
            means = dict(zip(names, np.mean(values, 0), strict=True))
            rows.append({"sd of times": sd, "given": how, **{name: f"{value:.3f}" for name, value in means.items()}})
    return rows


def _recovery(model: BasisDeVAEClusterer, table) -> tuple[float, float, float]:
    names = np.array(table.label_names, dtype=object)[table.labels]
    places = norm.ppf((rankdata(table.times) - 0.5) / len(table.times))
    error = np.sqrt(((model.inverse_transform(places[:, None]) - table.curves) ** 2).mean()) / 0.3
    place = spearmanr(model.transform(table.data)[:, 0], table.times)[0]
    return adjusted_rand_score(names, behaviors_of(model)), error, place


# ---- positions of some samples ---------------------------------------------------------------------------------------


def part_known(n_seeds: int) -> list[dict]:
    rows = []
    for share in (0.0, 0.05, 0.2, 1.0):
        for n_components in (1, 2):
            found = []
            for seed in range(n_seeds):
                random = np.random.default_rng(seed)
                table = make_progression(
                    200, n_transient=6, n_increasing=4, n_decreasing=4, noise=0.3, random_state=seed
                )
                # A factor that has nothing to do with time, in as many columns again, is what a fit alone would find.
                factor = np.outer(random.standard_normal(200), random.normal(size=14))
                data = np.column_stack([table.data, factor + 0.3 * random.standard_normal((200, 14))])
                known = random.permutation(200) < share * 200
                facts = {"axis": np.where(known, table.times, np.nan)} if known.any() else {"orientation": table.times}
                model = DeVAETransformer(n_components, random_state=seed).fit(data, **facts)
                others = ~known if share < 1 else known
                found.append(spearmanr(model.transform(data)[others, 0], table.times[others])[0])
            rows.append({"known": f"{share:.0%}", "components": n_components, "Spearman": f"{np.mean(found):.3f}"})
    return rows


# ---- speed -----------------------------------------------------------------------------------------------------------


class Cells:
    """Erythroid cells: counts, sizes and pseudotimes, standardised, of cells that train and of others."""

    def __init__(self):
        cells = lineage("erythroid")
        self.counts, self.size = cells.counts.toarray().astype(float), cells.total / np.median(cells.total)
        self.axis = (cells.pseudotime - cells.pseudotime.mean()) / cells.pseudotime.std()
        self.train, self.test = cells.train, cells.test
        expressed = (self.counts[self.train] > 0).sum(0) >= N_SPLINES
        self.counts = self.counts[:, expressed]

    def explained(self, shares: np.ndarray, rows: np.ndarray, genes: np.ndarray) -> float:
        """Mean over genes of the deviance that expected counts explain, for a cell of size 1 (rows, genes)."""
        counts, size = self.counts[np.ix_(rows, genes)], self.size[rows, None]
        constant = self.counts[np.ix_(self.train, genes)].sum(0) / self.size[self.train].sum()
        return float(np.mean(1 - _deviances(counts, size * shares) / _deviances(counts, size * constant)))


def _deviances(counts: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Poisson deviance of every column, (D,)."""
    logs = counts * np.log(np.where(counts > 0, counts, 1) / expected)
    return 2 * (logs - counts + expected).sum(0)


def part_speed(n_seeds: int) -> list[dict]:
    cells = Cells()
    some = np.random.default_rng(0).choice(cells.counts.shape[1], N_PEER_GENES, replace=False)
    rows = [
        _measured(f"{estimator.__name__}, {likelihood}", _ours(estimator, likelihood), cells, some)
        for estimator in (DeVAETransformer, BasisDeVAEClusterer)
        for likelihood in ("poisson", "nb")
    ]
    for name, peer in _peers():
        rows.append(_measured(name, _one_by_one(peer), cells, some))
    first = float(rows[0]["CPU-ms a gene"])
    for row in rows:
        row["times the first"] = f"{float(row['CPU-ms a gene']) / first:.1f}"
    return rows


def _measured(name: str, fit: Callable, cells: Cells, some: np.ndarray) -> dict:
    """``fit`` gives the genes that it has fitted, how many they were, and expected shares at positions."""
    cpu, wall = time.process_time(), time.perf_counter()
    n_genes, shares_at = fit(cells, some)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    explained = [
        cells.explained(shares_at(cells.axis[part], cells.size[part]), part, some) for part in (cells.train, cells.test)
    ]
    return {
        "model": name,
        "genes": n_genes,
        "CPU-ms a gene": f"{1e3 * cpu / n_genes:.1f}",
        "wall-ms a gene": f"{1e3 * wall / n_genes:.1f}",
        "explained, training": f"{explained[0]:.4f}",
        "other cells": f"{explained[1]:.4f}",
    }


def _ours(estimator: type, likelihood: str) -> Callable:
    def fit(cells: Cells, some: np.ndarray):
        model = estimator(likelihood=likelihood, random_state=0)
        train = cells.train
        model.fit(cells.counts[train], axis=cells.axis[train], size_factors=cells.size[train])
        # Curves are those of a cell of the training cells' median size.
        unit = np.median(cells.size[train])

        def shares_at(axis: np.ndarray, _size: np.ndarray) -> np.ndarray:
            return model.inverse_transform(model.axis_map_.to_latent(axis)[:, None])[:, some] / unit

        return cells.counts.shape[1], shares_at

    return fit


def _one_by_one(peer: Callable) -> Callable:
    def fit(cells: Cells, some: np.ndarray):
        train = cells.train
        fitted = [peer(cells.axis[train], cells.counts[train, gene], cells.size[train]) for gene in some]
        return len(some), lambda axis, size: np.column_stack([predict(axis, size) for predict in fitted])

    return fit


def _peers() -> Iterator[tuple[str, Callable]]:
    """Names of peers, and what fits one to positions, counts and sizes of cells, and gives shares at positions."""
    try:
        import statsmodels.api as sm
        from statsmodels.gam.api import BSplines, GLMGam
    except ImportError:
        print("statsmodels is not there: pip install statsmodels")
        return

    def glm_gam(selects: bool) -> Callable:
        def fit(axis, counts, size):
            splines = BSplines(axis[:, None], df=[N_SPLINES], degree=[3])

            def model(penalty):
                return GLMGam(
                    counts,
                    exog=np.ones((len(axis), 1)),
                    smoother=splines,
                    alpha=penalty,
                    family=sm.families.Poisson(),
                    offset=np.log(size),
                )

            first, penalty = model([1.0]), [1.0]
            if selects:
                first.fit()
                penalty = first.select_penweight()[0]
            fitted, ends = model(penalty).fit(), (axis.min(), axis.max())

            def shares(at, size):
                within = np.clip(at, *ends)  # beyond the training cells splines have no values
                return fitted.predict(np.ones((len(at), 1)), exog_smooth=within[:, None], offset=np.zeros(len(at)))

            return shares

        return fit

    yield "statsmodels GLMGam, penalty 1", glm_gam(selects=False)
    yield "statsmodels GLMGam, penalty by AIC", glm_gam(selects=True)


PARTS = {name.removeprefix("part_"): part for name, part in list(globals().items()) if name.startswith("part_")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=[*PARTS, "all"], default=["all"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    warnings.filterwarnings("ignore")
    for name, part in PARTS.items():
        if name in arguments.parts or "all" in arguments.parts:
            begin = time.perf_counter()
            rows = part(arguments.seeds)
            print(f"\n{name} ({time.perf_counter() - begin:.0f} s)")
            print_table(rows)


if __name__ == "__main__":
    main()
