"""Representations of new cells: DGDEmbedder's search against 100 steps of Adam, as the DGD paper's code takes.

    python benchmarks/dgd_inference.py [--cells 10000] [--features 2000] [--repeats 3]

A model of 16 clusters and 20 latents is fitted to 2000 simulated cells (`make_cell_clusters`); then representations of
new cells are looked for with everything else fixed. Both searches start from the best of the component means, prior
included (ours also from a linear prediction). Adam (betas 0.5 and 0.7, 256 rows at a time, on our code for the
objective) takes the published learning rate, 0.01, and a larger one; in float32, and in float64. Ours goes in float32
first, and ends in float64, at three tolerances. Printed: the mean of -log p(x | z) - log p(z) per cell, medians of the
CPU-seconds, and what they are of those of Adam in float32. The searches take turns, after one of each on a few cells.
"""

from __future__ import annotations

import argparse
import statistics

import torch
from common import print_table, set_threads, timed

from skdevae import DGDEmbedder
from skdevae.datasets import make_cell_clusters
from skdevae.inference.laplace import LaplaceInference
from skdevae.inference.starts import StartingPoints

N_CLUSTERS, N_COMPONENTS, N_STEPS, ROWS = 16, 20, 100, 256


def adam(model, source, learning_rate: float) -> torch.Tensor:
    """Representations after 100 steps of Adam, chunk by chunk, in the precision of the model."""
    starts, prior, chunks = StartingPoints(model), model.latent_prior(), []
    for start in range(0, len(source), ROWS):
        rows = source.rows(slice(start, start + ROWS)).dense()
        nearest = starts.log_joint(rows)[:, : len(prior.means)].argmax(1)
        z = prior.means[nearest].clone().requires_grad_()
        optimizer = torch.optim.Adam([z], lr=learning_rate, betas=(0.5, 0.7))
        for _ in range(N_STEPS):
            optimizer.zero_grad()
            (-model.log_likelihood(rows, z, with_constant=False) - prior.log_density(z)).sum().backward()
            optimizer.step()
        chunks.append(z.detach())
    return torch.cat(chunks)


def objective(model, source, z: torch.Tensor) -> float:
    """Mean of -log p(x, z) per cell, in float64."""
    total, prior = 0.0, model.latent_prior()
    with torch.no_grad():
        for index, rows in source.chunks(width=source.n_features):
            part = z[index].double()
            total -= float((model.log_likelihood(rows.dense(), part) + prior.log_density(part)).sum())
    return total / len(source)


def main() -> None:
    """Parse arguments, fit, search, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--features", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--learning-rates", type=float, nargs="+", default=[0.01, 0.1])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    n_train = 2000
    cells = make_cell_clusters(
        n_train + arguments.cells, arguments.features, weights=[1] * N_CLUSTERS, n_markers=100, random_state=0
    ).data
    model = DGDEmbedder(N_COMPONENTS, n_clusters=N_CLUSTERS, likelihood="nb", may_be_empty=False, random_state=0)
    model.fit(cells[:n_train])
    new = cells[n_train:]
    print(
        f"{new.shape[0]} cells x {new.shape[1]} features, {new.nnz / new.shape[0] / new.shape[1]:.0%} not zero, "
        f"{N_COMPONENTS} latents, {model.n_clusters_} components, {model.n_iter_} epochs"
    )
    _, source, inference = model._for_inference(new)
    double, single, single_source = inference.model, model._float64_module().float(), source.to(torch.float32)

    def ours(tolerance: float) -> torch.Tensor:
        return LaplaceInference(double, inference.n_draws, inference.projection, tolerance).modes(source).position

    searches = {f"DGDEmbedder, latent_tol={tol}": lambda tol=tol: ours(tol) for tol in (1e-4, 0.1, 1.0)}
    for rate in arguments.learning_rates:
        searches[f"Adam, rate {rate}, float32"] = lambda rate=rate: adam(single, single_source, rate)
    last = arguments.learning_rates[-1]
    searches[f"Adam, rate {last}, float64"] = lambda: adam(double, source, last)
    LaplaceInference(double, inference.n_draws, inference.projection).modes(source.take(slice(0, ROWS)))
    took: dict[str, list[float]] = {name: [] for name in searches}
    reached: dict[str, float] = {}
    for _ in range(arguments.repeats):
        for name, search in searches.items():
            found, spent = timed(search)
            took[name].append(spent)
            reached[name] = objective(double, source, found)
            print(f"{name}: {reached[name]:.4f}, {spent:.1f} CPU-s", flush=True)
    of_adam = statistics.median(took[f"Adam, rate {last}, float32"])
    print_table(
        [
            {
                "search": name,
                "-log p(x, z)": round(reached[name], 4),
                "CPU-s": round(statistics.median(spent), 1),
                "ms a cell": round(1000 * statistics.median(spent) / len(source), 2),
                "of Adam's, float32": round(statistics.median(spent) / of_adam, 2),
            }
            for name, spent in took.items()
        ]
    )


if __name__ == "__main__":
    main()
