"""Streams against fits: what partial_fit finds in chunks, beside what fit finds in all rows at once.

    python benchmarks/partial_fit.py [--rows 1000] [--chunk 100] [--new 600] [--seed 0] [--tables all] [--passes 0]

Tables are simulated: tanh curves ("sigmoid"), softplus curves, the mixed shapes of make_progression at two levels of
noise, and Poisson and negative binomial counts and zeros and ones along the same curves. For each it prints

first     held-out nats a sample after the first chunk
fit       the same of fit on all rows
stream    the same of partial_fit, chunk by chunk
lost      the share of what the other chunks add to the score of fit that the stream does not reach
truth     adjusted Rand index of the labels with the true behaviours: of fit, and of the stream
agree     adjusted Rand index of the labels of the stream with those of fit
CPU       seconds of fit, of the stream, and of each of its calls after the first

With --passes, the stream is followed by so many passes over all chunks (pass_ends), and columns of a second table say
what these add. All in one process, on one thread, one after another.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from common import peak_memory_gib, print_table, set_threads, timed
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score

from skdevae import BasisDeVAEClusterer
from skdevae.datasets import make_progression

N_FEATURES = 24
BEHAVIORS = ("increasing", "decreasing", "transient")


def sigmoids(t: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Curves (N, D) that level off on both sides, half of them falling, and their labels."""
    labels = np.arange(N_FEATURES) % 2
    centers, steepness = random.normal(0, 0.7, N_FEATURES), random.uniform(1, 3, N_FEATURES)
    return np.where(labels == 0, 1, -1) * np.tanh(steepness * (t[:, None] - centers)), labels


def softplus(t: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Curves that are flat on one side and straight on the other, half of them falling, and their labels."""
    labels = np.arange(N_FEATURES) % 2
    centers = random.normal(0, 0.7, N_FEATURES)
    return np.where(labels == 0, 1, -1) * np.logaddexp(0, 3 * (t[:, None] - centers)) / 3, labels


def mixed(n: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The table of make_progression with shapes of every kind, and its labels, in the order of BEHAVIORS."""
    table = make_progression(
        n, n_transient=8, n_increasing=8, n_decreasing=8, shapes="mixed", noise=noise, random_state=seed
    )
    names = np.array(table.label_names)[table.labels]
    return table.data, np.array([BEHAVIORS.index(name) for name in names])


def along(
    curves: Callable[..., tuple[np.ndarray, np.ndarray]],
    draw: Callable[[np.random.Generator, np.ndarray], np.ndarray],
    n: int,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """A table drawn around curves along a standard normal time, and the labels of its columns."""
    random = np.random.default_rng(seed)
    values, labels = curves(random.normal(size=n), random)
    return draw(random, values), labels


def gaussian(noise: float) -> Callable[[np.random.Generator, np.ndarray], np.ndarray]:
    """What draws measurements with a standard deviation of noise around curves."""
    return lambda random, curves: curves + noise * random.normal(size=curves.shape)


def nb_counts(random: np.random.Generator, curves: np.ndarray) -> np.ndarray:
    """Negative binomial counts of dispersion 2, with curves as logs of their means but for a constant."""
    return random.poisson(np.exp(1 + curves) * random.gamma(2, 1 / 2, curves.shape)).astype(float)


def poisson_counts(random: np.random.Generator, curves: np.ndarray) -> np.ndarray:
    """Poisson counts with curves as logs of their means."""
    return random.poisson(np.exp(curves)).astype(float)


def ones(random: np.random.Generator, curves: np.ndarray) -> np.ndarray:
    """Zeros and ones with curves as half of their logits."""
    return (random.random(curves.shape) < 1 / (1 + np.exp(-2 * curves))).astype(float)


TABLES: dict[str, tuple[str, Callable[[int, int], tuple[np.ndarray, np.ndarray]]]] = {
    "sigmoid .3": ("gaussian", lambda n, seed: along(sigmoids, gaussian(0.3), n, seed)),
    "sigmoid 1": ("gaussian", lambda n, seed: along(sigmoids, gaussian(1.0), n, seed)),
    "softplus .3": ("gaussian", lambda n, seed: along(softplus, gaussian(0.3), n, seed)),
    "softplus 1": ("gaussian", lambda n, seed: along(softplus, gaussian(1.0), n, seed)),
    "mixed .15": ("gaussian", lambda n, seed: mixed(n, 0.15, seed)),
    "mixed .6": ("gaussian", lambda n, seed: mixed(n, 0.6, seed)),
    "nb sigmoid": ("nb", lambda n, seed: along(sigmoids, nb_counts, n, seed)),
    "nb softplus": ("nb", lambda n, seed: along(softplus, nb_counts, n, seed)),
    "poisson sigmoid": ("poisson", lambda n, seed: along(sigmoids, poisson_counts, n, seed)),
    "bernoulli sigmoid": ("bernoulli", lambda n, seed: along(sigmoids, ones, n, seed)),
}


def stream_and_fit(
    name: str, n_rows: int, n_chunk: int, n_new: int, seed: int, n_passes: int
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """One row of the table, and one of the table of passes."""
    likelihood, make = TABLES[name]
    data, labels = make(n_rows + n_new, seed)
    X, new = data[:n_rows], data[n_rows:]
    behaviors = [BEHAVIORS[k] for k in range(labels.max() + 1)]
    estimator = BasisDeVAEClusterer(behaviors=behaviors, likelihood=likelihood, random_state=0)
    whole, of_fit = timed(lambda: clone(estimator).fit(X))
    stream, of_first = timed(lambda: clone(estimator).partial_fit(X[:n_chunk]))
    first = stream.score(new)
    chunks = [X[start : start + n_chunk] for start in range(n_chunk, n_rows, n_chunk)]
    _, of_others = timed(lambda: [stream.partial_fit(chunk) for chunk in chunks])
    reached, wanted = stream.score(new), whole.score(new)

    def truth(labels_found: np.ndarray) -> float:
        return round(adjusted_rand_score(labels, labels_found), 2)

    row = {
        "table": name,
        "first": round(first, 3),
        "fit": round(wanted, 3),
        "stream": round(reached, 3),
        "lost": f"{(wanted - reached) / (wanted - first):.0%}",
        "truth fit": truth(whole.labels_),
        "truth stream": truth(stream.labels_),
        "agree": round(adjusted_rand_score(whole.labels_, stream.labels_), 2),
        "CPU fit": round(of_fit, 1),
        "CPU stream": round(of_first + of_others, 1),
        "CPU a call": round(of_others / len(chunks), 2),
    }
    if not n_passes:
        return row, None
    everything = [X[:n_chunk], *chunks]

    def one_pass() -> None:
        for chunk in everything:
            stream.partial_fit(chunk, pass_ends=chunk is everything[-1])

    _, of_passes = timed(lambda: [one_pass() for _ in range(n_passes)])
    after = stream.score(new)
    return row, {
        "table": name,
        "fit": round(wanted, 3),
        "stream": round(reached, 3),
        f"{n_passes} passes later": round(after, 3),
        "lost": f"{(wanted - after) / (wanted - first):.0%}",
        "agree": round(adjusted_rand_score(whole.labels_, stream.labels_), 2),
        "CPU a pass": round(of_passes / n_passes, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--chunk", type=int, default=100)
    parser.add_argument("--new", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--passes", type=int, default=0)
    parser.add_argument("--tables", nargs="+", default=["all"], help=", ".join(TABLES))
    arguments = parser.parse_args()
    set_threads(1)
    warnings.simplefilter("ignore")
    names = list(TABLES) if arguments.tables == ["all"] else arguments.tables
    found = [
        stream_and_fit(name, arguments.rows, arguments.chunk, arguments.new, arguments.seed, arguments.passes)
        for name in names
    ]
    print_table([row for row, _ in found])
    if arguments.passes:
        print()
        print_table([after for _, after in found if after is not None])
    print(f"peak memory {peak_memory_gib():.2f} GiB")


if __name__ == "__main__":
    main()
