"""Starts: where the runs of a fit begin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..table.components import normal_scores, starting_positions
from ..table.seriation import path_through

#: share of a fit's heat, on the scale on which it cools, that rows get which lie along a path from the start
_HEAT_OF_PATHS = 0.5


@dataclass(frozen=True)
class Start:
    """Where one of the starts of a fit begins: a seed, and a first guess of every row's latent (N, Q).

    ``heat`` is the share of the usual heat with which training begins, on a log scale. Principal components fold a path
    that bends. Heat unfolds what they have folded, and much heat folds what they have not.
    """

    seed: int
    positions: np.ndarray
    heat: float = 1.0


def starts_from(
    scores: np.ndarray, n_components: int, seeds: Sequence[int], weight: np.ndarray | None, *, may_bend: bool
) -> Iterator[Start]:
    """One start for each seed, from principal components ``scores`` (N, C); rows count ``weight`` (N,) times.

    The first follows the leading components, or a path that bends where ``may_bend`` and there is one. The others
    follow random mixtures of components.
    """
    path = path_through(scores, weight) if may_bend else None
    for restart, seed in enumerate(seeds):
        if path is not None and restart == 0:
            yield Start(seed, normal_scores(path, weight)[:, None], heat=_HEAT_OF_PATHS)
        else:
            yield Start(seed, starting_positions(scores, n_components, restart, seed, weight))
