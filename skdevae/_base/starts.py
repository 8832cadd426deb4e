"""Starts: where the runs of a fit begin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..inference.grid import exact_posterior
from ..nn.models import GenerativeModel
from ..table.components import normal_scores, starting_positions
from ..table.seriation import evenly_spaced, path_through
from ..table.source import RowSource

#: correlation of normal scores from which on two orders of rows are called the same
_SAME_ORDER = 0.95


@dataclass(frozen=True)
class Start:
    """Where one of the starts of a fit begins: a seed, and a first guess of every row's latent (N, Q).

    ``path`` is another start of the same seed, which ``follows_path``: a fit begins there once more if it does not find
    its order of rows. Curves that start nearly straight would lead rows away from a path that bends. So they settle on
    rows that stay where they are, before rows move.
    """

    seed: int
    positions: np.ndarray
    follows_path: bool = False
    path: Start | None = None


def starts_from(
    scores: np.ndarray, n_components: int, seeds: Sequence[int], weight: np.ndarray | None, *, with_path: bool
) -> Iterator[Start]:
    """One start for each seed, from principal components ``scores`` (N, C); rows count ``weight`` (N,) times.

    The first follows the leading components, which fold a path that bends. Heat unfolds what they have folded, but not
    always, and folds some that they have not. So ``with_path`` that start has a path beside it, where there is one. The
    path alone would not do: between groups of rows that lie side by side, neighbours may lead from one group into the
    other, and not along the axis. Starts after the first follow random mixtures of components.
    """
    order = path_through(scores) if with_path else None
    path = None if order is None else Start(seeds[0], normal_scores(order, weight)[:, None], follows_path=True)
    for restart, seed in enumerate(seeds):
        positions = starting_positions(scores, n_components, restart, seed, weight)
        yield Start(seed, positions, path=path if restart == 0 else None)


@torch.no_grad()
def has_order_of(model: GenerativeModel, source: RowSource, positions: np.ndarray) -> bool:
    """Whether a model with one axis puts rows in the order of first guesses (N, 1), or in its reverse."""
    rows = evenly_spaced(len(source))
    some = source.take(rows)
    found = exact_posterior(model, some, model.predictive_tables).mean[:, 0].cpu().numpy()
    scores = normal_scores(found, some.context.weight), positions[rows, 0]
    (variance, covariance), (_, other_variance) = np.cov(*scores, aweights=some.context.weight)
    return bool(abs(covariance) >= _SAME_ORDER * np.sqrt(variance * other_variance))
